//! The desktop program: a tray around a node, and one window in a process of its own. All behaviour
//! lives in [`infera_node`]; this shows it and asks it.

mod autostart;
mod commands;
mod dialogs;
#[cfg(test)]
mod fixtures;
mod follow;
mod links;
mod menu;
mod notifications;
mod quit;
mod surroundings;
mod tray;
mod updates;
mod window;
mod words;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use infera_node::app::{App, AppConfig, KeySource, Overrides, StartError};
use infera_node::clock::{SystemClock, SystemEntropy};
use infera_node::control;
use infera_node::data_dir::DataDir;
use infera_node::engine_link::ChildEngine;
use infera_node::identity::SystemKeychain;
use infera_node::logging;
use infera_surroundings::{Observers, Wanted};
use tauri::{AppHandle, Context, Manager, RunEvent, generate_context};
use tauri_plugin_notification::NotificationExt;

pub use self::window::{WindowOptions, WindowTheme, run_window};

/// The argument with which the system starts the program: the window stays closed.
pub const HIDDEN: &str = "--hidden";
/// The argument that ends the program that is running, for installers.
pub const QUIT: &str = "--quit";

/// How the program is started.
#[derive(Debug, Clone)]
pub struct Options {
    pub data: DataDir,
    /// Keep the identity in this file instead of the keychain.
    pub key_file: Option<PathBuf>,
    /// Certificates to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    pub hidden: bool,
    /// An invitation that was clicked.
    pub link: Option<String>,
    /// Only end the program that is running.
    pub quit: bool,
    /// How long a closed window is kept in memory.
    pub release_window_after: Duration,
}

/// What all parts of the shell share.
struct Shell {
    backend: App,
    window: window::Window,
    tray: tray::Tray,
    updates: updates::Updates,
    quitting: quit::Quitting,
}

/// For the engine, and for what goes wrong before there is a log file.
pub fn log_to_parent(quiet: bool) {
    let level = if quiet { "error" } else { "info" };
    logging::start(None, &format!("warn,infera_engine={level}"), true);
}

/// Runs the program to its end. Must be called on the main thread, before any other is started.
pub fn run(options: Options) -> ExitCode {
    surroundings::prepare_web_view();
    logging::start(
        Some(&options.data.logs()),
        "warn,infera_desktop=info,infera_node=info,infera_engine=info",
        io::stderr().is_terminal() || std::env::var_os("INFERA_LOG").is_some(),
    );
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "started");
    let mut context = context();
    let builder = tauri::Builder::default()
        // The first: a second program ends here.
        .plugin(tauri_plugin_single_instance::init(|app, arguments, _| {
            let has = |name: &str| arguments.iter().any(|argument| argument == name);
            if has(QUIT) {
                quit::leave(app);
            } else if let Some(link) = links::among(&arguments) {
                links::open(app, link);
            } else if !has(HIDDEN) {
                window::open(app);
            }
        }))
        .plugin(tauri_plugin_dialog::init())
        .plugin(tauri_plugin_notification::init())
        .setup(move |app| {
            if options.quit {
                // No other program was running.
                app.handle().exit(0);
                return Ok(());
            }
            match tauri::async_runtime::block_on(start(&options)) {
                Ok(backend) => set_up(app.handle(), backend, &options),
                Err(error) => refuse(app.handle(), &error),
            }
            Ok(())
        });
    let app = match updates::add(builder, &mut context).build(context) {
        Ok(app) => app,
        Err(error) => {
            tracing::error!(%error, "the program cannot start");
            return ExitCode::FAILURE;
        }
    };
    // Before it runs, or a start with the system would put an icon into the Dock for good. The
    // window's process has one while it is open.
    #[cfg(target_os = "macos")]
    let app = {
        let mut app = app;
        app.set_activation_policy(tauri::ActivationPolicy::Accessory);
        app
    };
    app.run(on_event);
    ExitCode::SUCCESS
}

/// The pages, icons and rights, for the tray's program and its window alike.
#[expect(clippy::exit, reason = "Tauri's own code")]
fn context() -> Context {
    generate_context!()
}

/// The program behind the window.
async fn start(options: &Options) -> Result<App, StartError> {
    App::start(AppConfig {
        data: options.data.lock()?,
        key: match &options.key_file {
            Some(path) => KeySource::File(path.clone()),
            None => KeySource::Keychain(Arc::new(SystemKeychain)),
        },
        ca_file: options.ca_file.clone(),
        context_tokens: None,
        models_folder: None,
        desktop: true,
        overrides: Overrides::from_environment(),
        engine: ChildEngine::current()?,
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        observers: Observers::start(Wanted::default()),
        gpu_readers: None,
    })
    .await
}

/// There is nothing to show but why.
fn refuse(app: &AppHandle, error: &StartError) {
    tracing::error!(%error, "the program cannot start");
    let exit = app.clone();
    dialogs::show(app, words::cannot_start(&error.to_string()), move |_| {
        exit.exit(1);
    });
}

fn set_up(app: &AppHandle, backend: App, options: &Options) {
    let window = window::Window::new(
        app,
        options.data.path().to_owned(),
        options.release_window_after,
    );
    let (serving, exit) = (backend.clone(), app.clone());
    tauri::async_runtime::spawn(async move {
        control::serve_while_wanted(serving, &SystemEntropy).await;
        quit::leave(&exit);
    });
    app.manage(Shell {
        backend,
        window,
        tray: tray::Tray::default(),
        updates: updates::Updates::default(),
        quitting: quit::Quitting::default(),
    });
    match app.state::<Shell>().tray.put(app) {
        Ok(()) => tracing::info!("the tray is set up"),
        Err(error) => tracing::warn!(%error, "there is no tray"),
    }
    let clicked = app.clone();
    let listening = app.notification().on_action(move |action| {
        if action.action_id() == "tap" {
            window::open(&clicked);
        }
    });
    if let Err(error) = listening {
        tracing::info!(%error, "a click on a notification does not open the window");
    }
    tauri::async_runtime::spawn(follow::follow(app.clone()));
    tauri::async_runtime::spawn(updates::look_daily(app.clone()));
    tauri::async_runtime::spawn(leave_when_told(app.clone()));
    if let Some(link) = &options.link {
        links::open(app, link);
    } else if !options.hidden {
        window::open(app);
    }
}

fn on_event(app: &AppHandle, event: RunEvent) {
    match event {
        // A dialog was the last window; the program goes on in the tray.
        RunEvent::ExitRequested {
            api, code: None, ..
        } => api.prevent_exit(),
        RunEvent::Exit => {
            quit::last_chance(app);
            remove_empty_folder(app);
        }
        #[cfg(target_os = "macos")]
        RunEvent::Reopen { .. } => window::open(app),
        #[cfg(target_os = "macos")]
        RunEvent::Opened { urls } => {
            for url in urls {
                links::open(app, url.as_str());
            }
        }
        _ => {}
    }
}

/// The plugin that keeps the window's place makes a folder for it, even where the place is kept in
/// another one. What is not empty stays.
fn remove_empty_folder(app: &AppHandle) {
    if let Ok(folder) = app.path().app_config_dir() {
        let _ = std::fs::remove_dir(folder);
    }
}

/// Ctrl-C, a shutdown of the system, or a service that ends us: no question is asked.
async fn leave_when_told(app: AppHandle) {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};

        let Ok(mut terminate) = signal(SignalKind::terminate()) else {
            return;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
    #[cfg(not(unix))]
    if tokio::signal::ctrl_c().await.is_err() {
        return;
    }
    quit::leave(&app);
}
