//! The window's process: one web view with the program's own pages, and nothing of the node. What
//! the page asks goes to the tray's program, and what that says comes back.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use infera_node::app::settings::Theme as ThemeSetting;
use infera_node::logging;
use infera_protocol::frame::Decoder;
use tauri::webview::{Color, PageLoadEvent};
use tauri::{
    AppHandle, Manager, RunEvent, Theme, WebviewUrl, WebviewWindow, WebviewWindowBuilder,
    WindowEvent, generate_handler,
};
use tauri_plugin_window_state::StateFlags;

use super::message::{FromWindow, ToWindow};
use super::page::{self, Parent};
use crate::{dialogs, surroundings};

const LABEL: &str = "main";
/// A page that does not load is shown all the same, so that the person sees something.
const SHOW_ANYWAY: Duration = Duration::from_secs(3);
/// How long the window may take to keep its place when nobody waits for it any more.
const END_LIMIT: Duration = Duration::from_secs(2);
/// The exit code when what draws the page is gone.
#[cfg(target_os = "linux")]
const PAGE_LOST: i32 = 4;

/// How the window is started.
#[derive(Debug, Clone)]
pub struct WindowOptions {
    /// Where it keeps its place and its web view's files.
    pub folder: PathBuf,
    /// The system's if none.
    pub theme: Option<WindowTheme>,
}

/// The window's colours, whatever the system's are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WindowTheme {
    Light,
    Dark,
}

impl From<WindowTheme> for Theme {
    fn from(theme: WindowTheme) -> Self {
        match theme {
            WindowTheme::Light => Self::Light,
            WindowTheme::Dark => Self::Dark,
        }
    }
}

/// Runs the window to its end. Must be called on the main thread, before any other is started.
pub fn run_window(options: WindowOptions) -> ExitCode {
    surroundings::prepare_web_view();
    logging::start(None, "warn,infera_desktop=info", true);
    let (input, output) = match take_pipes() {
        Ok(pipes) => pipes,
        Err(error) => {
            tracing::error!(%error, "the window has no pipes to the program");
            return ExitCode::FAILURE;
        }
    };
    let parent = Parent::new(output);
    parent.say(&FromWindow::Started {
        version: env!("CARGO_PKG_VERSION").to_owned(),
    });
    let window_state = options.folder.join("window.json");
    let builder = tauri::Builder::default()
        .plugin(tauri_plugin_dialog::init())
        .plugin(
            tauri_plugin_window_state::Builder::new()
                .with_filename(window_state.to_string_lossy())
                .with_state_flags(StateFlags::SIZE | StateFlags::POSITION | StateFlags::MAXIMIZED)
                .build(),
        )
        .invoke_handler(generate_handler![
            page::call,
            page::subscribe,
            page::save_text,
            page::choose_model,
            page::open,
        ])
        .manage(parent)
        .manage(Wish::default())
        .on_window_event(|window, event| match event {
            WindowEvent::CloseRequested { api, .. } => {
                api.prevent_close();
                window.state::<Parent>().say(&FromWindow::ClosePressed);
            }
            WindowEvent::Focused(true) => window.state::<Parent>().say(&FromWindow::Focused),
            _ => {}
        })
        .setup(move |app| {
            let app = app.handle().clone();
            match build(&app, &options) {
                Ok(()) => {
                    std::thread::spawn(move || listen(&app, input));
                }
                Err(error) => fail(&app, &error.to_string()),
            }
            Ok(())
        });
    let app = match builder.build(crate::context()) {
        Ok(app) => app,
        Err(error) => {
            tracing::error!(%error, "the window cannot be shown");
            return ExitCode::FAILURE;
        }
    };
    // Before it runs, or an icon would stay in the Dock for good.
    #[cfg(target_os = "macos")]
    let app = {
        let mut app = app;
        app.set_activation_policy(tauri::ActivationPolicy::Accessory);
        app
    };
    app.run(|app, event| on_event(app, &event));
    ExitCode::SUCCESS
}

/// The window, if it is there.
pub(super) fn main_window(app: &AppHandle) -> Option<WebviewWindow> {
    app.get_webview_window(LABEL)
}

/// What the tray's program wants of the window.
struct Wish {
    shown: AtomicBool,
    loaded: AtomicBool,
    /// Its end, or it cannot go on: not the person's wish.
    over: AtomicBool,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            shown: AtomicBool::new(true),
            loaded: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }
}

/// The pipes to the tray's program. What this process starts gets neither of them, and what a
/// library prints is no message.
fn take_pipes() -> io::Result<(File, File)> {
    #[cfg(unix)]
    {
        use std::os::fd::{AsFd, AsRawFd};

        let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let nothing = File::open("/dev/null")?;
        for (from, to) in [
            (nothing.as_raw_fd(), io::stdin().as_raw_fd()),
            (io::stderr().as_raw_fd(), io::stdout().as_raw_fd()),
        ] {
            // SAFETY: both are open, and nothing has read or written through the standard ones.
            if unsafe { libc::dup2(from, to) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok((input, output))
    }
    #[cfg(windows)]
    {
        use std::os::windows::io::AsHandle;

        let input = io::stdin().as_handle().try_clone_to_owned()?;
        let output = io::stdout().as_handle().try_clone_to_owned()?;
        Ok((input.into(), output.into()))
    }
}

fn build(app: &AppHandle, options: &WindowOptions) -> tauri::Result<()> {
    let window = WebviewWindowBuilder::new(app, LABEL, WebviewUrl::App("index.html".into()))
        .title("Infera Node")
        .inner_size(1120.0, 760.0)
        .min_inner_size(640.0, 480.0)
        .center()
        // Shown once there is something to see.
        .visible(false)
        .theme(options.theme.map(Theme::from))
        .data_directory(options.folder.join("window"))
        .zoom_hotkeys_enabled(true)
        .on_navigation(is_own_page)
        .on_page_load(|window, load| {
            if load.event() == PageLoadEvent::Finished {
                loaded(window.app_handle());
            }
        })
        .build()?;
    #[cfg(target_os = "linux")]
    end_with_page(app, &window)?;
    let dark = window.theme().is_ok_and(|theme| theme == Theme::Dark);
    let background = if dark {
        Color(24, 25, 27, 255)
    } else {
        Color(255, 255, 255, 255)
    };
    window.set_background_color(Some(background))?;
    let late = app.clone();
    tauri::async_runtime::spawn(async move {
        tokio::time::sleep(SHOW_ANYWAY).await;
        if !late.state::<Wish>().loaded.load(Ordering::Relaxed) {
            tracing::warn!("the page did not load in time");
            loaded(&late);
        }
    });
    Ok(())
}

/// Without the process that draws the page the window stays blank, and nothing could be done in it.
/// The next one begins anew.
#[cfg(target_os = "linux")]
fn end_with_page(app: &AppHandle, window: &WebviewWindow) -> tauri::Result<()> {
    use webkit2gtk::WebViewExt as _;

    let app = app.clone();
    window.with_webview(move |view| {
        view.inner().connect_web_process_terminated(move |_, why| {
            tracing::error!(?why, "what draws the page is gone");
            app.state::<Wish>().over.store(true, Ordering::Relaxed);
            app.exit(PAGE_LOST);
        });
    })
}

/// The window goes nowhere else.
fn is_own_page(address: &tauri::Url) -> bool {
    address.scheme() == "tauri" || address.host_str() == Some("tauri.localhost")
}

fn loaded(app: &AppHandle) {
    let wish = app.state::<Wish>();
    wish.loaded.store(true, Ordering::Relaxed);
    if wish.shown.load(Ordering::Relaxed) {
        show(app);
    }
}

fn show(app: &AppHandle) {
    let Some(window) = main_window(app) else {
        return;
    };
    show_in_dock(app, true);
    let shown = window
        .unminimize()
        .and_then(|()| window.show())
        .and_then(|()| window.set_focus());
    match shown {
        Ok(()) => app.state::<Parent>().say(&FromWindow::Shown),
        Err(error) => fail(app, &error.to_string()),
    }
}

/// There is no window, and nothing else to do.
fn fail(app: &AppHandle, detail: &str) {
    app.state::<Parent>().say(&FromWindow::Failed {
        detail: detail.to_owned(),
    });
    app.state::<Wish>().over.store(true, Ordering::Relaxed);
    app.exit(1);
}

/// Does what the tray's program says, until it is gone.
fn listen(app: &AppHandle, mut input: File) {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match decoder.message() {
            Ok(Some(ToWindow::End)) => break,
            Ok(Some(message)) => obey(app, message),
            Ok(None) => match input.read(&mut buffer) {
                Ok(length) if length > 0 => decoder.push(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => break,
            },
            Err(error) => {
                tracing::error!(%error, "the program sent what is no message");
                break;
            }
        }
    }
    app.state::<Wish>().over.store(true, Ordering::Relaxed);
    app.exit(0);
    std::thread::sleep(END_LIMIT);
    end_at_once();
}

#[expect(
    clippy::exit,
    reason = "the main thread may be deep in the web view, and must not outlive the program"
)]
fn end_at_once() {
    std::process::exit(1);
}

fn obey(app: &AppHandle, message: ToWindow) {
    let wish = app.state::<Wish>();
    let done = match (message, main_window(app)) {
        (ToWindow::Show, _) => {
            wish.shown.store(true, Ordering::Relaxed);
            if wish.loaded.load(Ordering::Relaxed) {
                show(app);
            }
            Ok(())
        }
        (ToWindow::Hide, Some(window)) => {
            wish.shown.store(false, Ordering::Relaxed);
            let hidden = window.hide();
            show_in_dock(app, false);
            app.state::<Parent>().say(&FromWindow::Hidden);
            hidden
        }
        (ToWindow::Minimise, Some(window)) => {
            let minimised = window.minimize();
            app.state::<Parent>().say(&FromWindow::Hidden);
            minimised
        }
        (ToWindow::Theme(setting), Some(window)) => window.set_theme(theme(setting)),
        (ToWindow::Answer { id, answer }, _) => {
            app.state::<Parent>().take_answer(id, answer);
            Ok(())
        }
        (ToWindow::Event { page, event }, _) => {
            app.state::<Parent>().pass_on(page, event);
            Ok(())
        }
        (ToWindow::Ask { id, question }, window) => {
            let asked = app.clone();
            dialogs::put(app, question, window.as_ref(), move |yes| {
                asked
                    .state::<Parent>()
                    .say(&FromWindow::Answered { id, yes });
            });
            Ok(())
        }
        (ToWindow::Hide | ToWindow::Minimise | ToWindow::Theme(_) | ToWindow::End, _) => Ok(()),
    };
    if let Err(error) = done {
        tracing::error!(%error, "the window does not do what it is told");
    }
}

fn theme(setting: ThemeSetting) -> Option<Theme> {
    match setting {
        ThemeSetting::System => None,
        ThemeSetting::Light => Some(Theme::Light),
        ThemeSetting::Dark => Some(Theme::Dark),
    }
}

fn on_event(app: &AppHandle, event: &RunEvent) {
    match event {
        // Nobody told it to end but the person, in a menu of the system's.
        RunEvent::Exit if !app.state::<Wish>().over.load(Ordering::Relaxed) => {
            app.state::<Parent>().say(&FromWindow::Quit);
        }
        #[cfg(target_os = "macos")]
        RunEvent::Reopen { .. } => show(app),
        _ => {}
    }
}

#[cfg_attr(
    not(target_os = "macos"),
    expect(unused_variables, reason = "only macOS has a dock")
)]
fn show_in_dock(app: &AppHandle, is_shown: bool) {
    #[cfg(target_os = "macos")]
    {
        let policy = if is_shown {
            tauri::ActivationPolicy::Regular
        } else {
            tauri::ActivationPolicy::Accessory
        };
        let _ = app.set_activation_policy(policy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_stays_on_its_own_pages() {
        let goes = |address: &str| is_own_page(&address.parse().unwrap());
        assert!(goes("tauri://localhost/index.html"));
        assert!(goes("http://tauri.localhost/"));
        assert!(!goes("https://example.com/"));
        assert!(!goes("https://tauri.localhost.evil.example/"));
        assert!(!goes("data:text/html,hello"));
        assert!(!goes("file:///etc/passwd"));
    }
}
