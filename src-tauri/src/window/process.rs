//! The window's process: this program again, with the subcommand `window`.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;

use infera_node::app::settings::Theme;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::link::{Launcher, WindowProcess};

/// Starts the real window.
pub(super) struct ThisProgram {
    /// Where the window keeps its place, and its web view what that keeps.
    pub(super) folder: PathBuf,
}

impl Launcher for ThisProgram {
    type Process = Child;

    fn start(&self, theme: Theme) -> io::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("window")
            .arg("--folder")
            .arg(&self.folder)
            .args(
                theme_name(theme)
                    .map(|name| ["--theme", name])
                    .iter()
                    .flatten(),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        // A Ctrl-C in the terminal is for the tray's program, which ends its window in order.
        #[cfg(unix)]
        command.process_group(0);
        #[cfg(windows)]
        command.creation_flags(infera_node::engine_link::windows::CREATE_NO_WINDOW);
        let child = command.spawn()?;
        #[cfg(windows)]
        if let Err(error) = infera_node::engine_link::windows::end_with_this_process(&child) {
            tracing::warn!(%error, "a window that hangs may outlive this program");
        }
        Ok(child)
    }
}

impl WindowProcess for Child {
    type Output = ChildStdout;
    type Input = ChildStdin;

    fn pipes(&mut self) -> io::Result<(ChildStdout, ChildStdin)> {
        match (self.stdout.take(), self.stdin.take()) {
            (Some(output), Some(input)) => Ok((output, input)),
            _ => Err(io::Error::other("the window's process has no pipes")),
        }
    }

    async fn ended(&mut self) -> String {
        match self.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    async fn kill(&mut self) {
        if let Err(error) = Self::kill(self).await {
            tracing::warn!(%error, "the window's process cannot be ended");
        }
    }
}

/// The word for it on the command line; none is the system's.
fn theme_name(theme: Theme) -> Option<&'static str> {
    match theme {
        Theme::System => None,
        Theme::Light => Some("light"),
        Theme::Dark => Some("dark"),
    }
}
