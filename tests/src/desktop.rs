//! A desktop for the program with a window: a screen, a session bus and a home of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use xtask::Result;
use xtask::network::{Binaries, Node};
use xtask::screen::{Bus, Screen};

use crate::tiny_model;

/// Dropping it ends the screen and the bus, and with them what was connected.
pub struct Desktop {
    home: PathBuf,
    screen: Screen,
    bus: Bus,
}

impl Desktop {
    /// With its files under `folder`.
    pub fn start(folder: &Path) -> Result<Self> {
        let home = folder.join("home");
        fs::create_dir_all(&home)?;
        Ok(Self {
            home,
            screen: Screen::start(&folder.join("screen.txt"))?,
            bus: Bus::start(folder)?,
        })
    }

    /// Where its programs keep what is theirs.
    pub fn home(&self) -> &Path {
        &self.home
    }

    pub fn screen(&self) -> &Screen {
        &self.screen
    }

    /// The session bus's address.
    pub fn bus(&self) -> &str {
        self.bus.address()
    }

    /// Lets a command run on this desktop, in English. If it is our program, it is set up for a
    /// balancer and the tiny model.
    pub fn furnish(&self, command: &mut Command, balancer_url: &str) {
        for name in [
            "LANGUAGE",
            "WAYLAND_DISPLAY",
            "XAUTHORITY",
            "XDG_CACHE_HOME",
            "XDG_CONFIG_HOME",
            "XDG_CURRENT_DESKTOP",
            "XDG_DATA_HOME",
            "XDG_SESSION_TYPE",
            "XDG_STATE_HOME",
        ] {
            command.env_remove(name);
        }
        command
            .env("HOME", &self.home)
            .env("XDG_RUNTIME_DIR", &self.home)
            .env("DISPLAY", self.screen.display())
            .env("DBUS_SESSION_BUS_ADDRESS", self.bus())
            .env("GDK_BACKEND", "x11")
            .env("NO_AT_BRIDGE", "1")
            .env("LC_ALL", "C.UTF-8")
            .env("INFERA_AGREE", "1")
            .env("INFERA_WEB_CONTROL", "1")
            .env("INFERA_BALANCER", balancer_url)
            .env("INFERA_DEVICE", "cpu")
            .env("INFERA_MODEL", tiny_model());
    }
}

/// What the desktop program is started with to be `node`.
pub fn arguments(node: &Node) -> [String; 4] {
    let path = |path: &Path| path.to_string_lossy().into_owned();
    [
        "--data".to_owned(),
        path(node.data()),
        "--key-file".to_owned(),
        path(&node.data().join("node.key")),
    ]
}

/// Our programs with the desktop one, which is built first only when it is missing.
pub fn binaries() -> Result<Binaries> {
    match Binaries::find()? {
        Some(found) if found.desktop.exists() => Ok(found),
        _ => Binaries::build_with_desktop(),
    }
}

/// Which of these programs is not installed.
pub fn missing<'a>(programs: &[&'a str]) -> Option<&'a str> {
    programs
        .iter()
        .copied()
        .find(|program| !is_installed(program))
}

fn is_installed(program: &str) -> bool {
    Command::new("sh")
        .args(["-c", "command -v \"$0\"", program])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
