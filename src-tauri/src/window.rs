//! The one window: made when it is wanted, hidden when it is closed, gone when it stays hidden.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use infera_node::app::settings::Theme as ThemeSetting;
use infera_node::state::StateKind;
use serde_json::json;
use tauri::webview::{Color, PageLoadEvent};
use tauri::{AppHandle, Manager, Theme, WebviewUrl, WebviewWindow, WebviewWindowBuilder};
use tauri_plugin_opener::OpenerExt;

use crate::main_window::{self, main_window};
use crate::words::{self, Dialog, Language};
use crate::{Shell, dialogs, quit, surroundings};

/// A page that does not load is shown all the same, so that the person sees something.
const SHOW_ANYWAY: Duration = Duration::from_secs(3);

/// Which closing of the window a timer belongs to.
#[derive(Default)]
pub(crate) struct Closings(AtomicU64);

/// What the window's close button does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Close {
    Hide,
    /// There is a tray, and the person is told about it once.
    ExplainThenHide,
    /// There is no tray: the person chooses between the task bar and the end.
    Ask,
}

pub(crate) fn close_button(tray_is_shown: bool, explained: bool) -> Close {
    match (tray_is_shown, explained) {
        (false, _) => Close::Ask,
        (true, false) => Close::ExplainThenHide,
        (true, true) => Close::Hide,
    }
}

/// Brings the window to the front; makes it if there is none.
pub(crate) fn open(app: &AppHandle) {
    // A program that could not start shows nothing but why.
    let Some(shell) = app.try_state::<Shell>() else {
        return;
    };
    shell.closings.0.fetch_add(1, Ordering::Relaxed);
    let result = match main_window(app) {
        Some(window) => reveal(app, &window),
        None => build(app).map(drop),
    };
    if let Err(error) = result {
        tracing::error!(%error, "the window cannot be shown");
        say_why_not(app, &error);
    }
}

/// The node goes on, and the tray is there; but a click on it must not seem to do nothing.
fn say_why_not(app: &AppHandle, error: &tauri::Error) {
    let language = Language::of(&app.state::<Shell>().backend.states().borrow());
    // On Windows the web view is a part of the system that some lack.
    let lacks_web_view = cfg!(windows) && tauri::webview_version().is_err();
    let dialog = words::no_window(language, lacks_web_view, &error.to_string());
    let asked = app.clone();
    dialogs::show(app, dialog, move |yes| {
        if yes && lacks_web_view {
            let opened = asked
                .opener()
                .open_url(words::WEB_VIEW_SOURCE, None::<&str>);
            if let Err(error) = opened {
                tracing::warn!(%error, "the browser cannot be opened");
            }
        }
    });
}

fn reveal(app: &AppHandle, window: &WebviewWindow) -> tauri::Result<()> {
    app.state::<Shell>().subscription.go_on(app);
    show_in_dock(app, true);
    window.unminimize()?;
    window.show()?;
    window.set_focus()
}

fn build(app: &AppHandle) -> tauri::Result<WebviewWindow> {
    let shell = app.state::<Shell>();
    let theme = theme(shell.backend.states().borrow().settings.theme);
    let window = WebviewWindowBuilder::new(
        app,
        main_window::LABEL,
        WebviewUrl::App("index.html".into()),
    )
    .title("Infera Node")
    .inner_size(1120.0, 760.0)
    .min_inner_size(640.0, 480.0)
    .center()
    // Shown once there is something to see.
    .visible(false)
    .theme(theme)
    .data_directory(shell.data.join("window"))
    .zoom_hotkeys_enabled(true)
    .on_navigation(is_own_page)
    .on_page_load(|window, load| {
        if load.event() == PageLoadEvent::Finished {
            match reveal(window.app_handle(), &window) {
                Ok(()) => tracing::info!("the window is shown"),
                Err(error) => tracing::error!(%error, "the window cannot be shown"),
            }
        }
    })
    .build()?;
    let dark = window.theme().is_ok_and(|theme| theme == Theme::Dark);
    let background = if dark {
        Color(24, 25, 27, 255)
    } else {
        Color(255, 255, 255, 255)
    };
    window.set_background_color(Some(background))?;
    let late = window.clone();
    tauri::async_runtime::spawn(async move {
        tokio::time::sleep(SHOW_ANYWAY).await;
        if late.is_visible().is_ok_and(|is_visible| !is_visible) {
            tracing::warn!("the page did not load in time");
            show_in_dock(late.app_handle(), true);
            let _ = late.show();
        }
    });
    Ok(window)
}

/// Also at run time, when the setting changes.
pub(crate) fn theme(setting: ThemeSetting) -> Option<Theme> {
    match setting {
        ThemeSetting::System => None,
        ThemeSetting::Light => Some(Theme::Light),
        ThemeSetting::Dark => Some(Theme::Dark),
    }
}

/// The window goes nowhere else.
fn is_own_page(address: &tauri::Url) -> bool {
    address.scheme() == "tauri" || address.host_str() == Some("tauri.localhost")
}

/// The close button was pressed. The program goes on.
pub(crate) fn close(app: &AppHandle) {
    let app = app.clone();
    tauri::async_runtime::spawn(async move {
        let shell = app.state::<Shell>();
        let tray_is_shown = shell.tray.is_there() && surroundings::has_tray_host().await;
        let (explained, language, kind) = {
            let states = shell.backend.states();
            let state = states.borrow();
            let explained = state.settings.closing_explained;
            (explained, Language::of(&state), state.state.kind)
        };
        match close_button(tray_is_shown, explained) {
            Close::Hide => hide(&app),
            Close::ExplainThenHide => {
                let hidden = app.clone();
                dialogs::show(&app, explanation(language, kind), move |_| {
                    hide(&hidden);
                    tauri::async_runtime::spawn(remember_explained(hidden));
                });
            }
            Close::Ask => {
                let answered = app.clone();
                dialogs::show(&app, no_tray(language, kind), move |minimise| {
                    if minimise {
                        self::minimise(&answered);
                    } else {
                        quit::request(&answered);
                    }
                });
            }
        }
    });
}

/// What goes on while the window is closed.
fn meanwhile(language: Language, kind: StateKind) -> &'static str {
    match kind {
        StateKind::Working | StateKind::Waiting => {
            language.pick("your GPU goes on working", "Ihre GPU arbeitet weiter")
        }
        StateKind::Paused => language.pick("your GPU stays paused", "Ihre GPU macht weiter Pause"),
        StateKind::NeedsYou => language.pick(
            "nothing is shared until you have looked at what it needs",
            "geteilt wird nichts, bis Sie nachgesehen haben, was es braucht",
        ),
    }
}

fn explanation(language: Language, kind: StateKind) -> Dialog {
    let meanwhile = meanwhile(language, kind);
    Dialog {
        title: language.pick("Infera Node keeps running", "Infera Node läuft weiter"),
        text: language.pick(
            format!(
                "The window closes, and {meanwhile}. To pause or resume, open the window again \
                 or quit, use the Infera Node icon in the tray."
            ),
            format!(
                "Das Fenster wird geschlossen, {meanwhile}. Pause, Fortsetzen, Fenster und \
                 Beenden finden Sie beim Symbol von Infera Node im Infobereich."
            ),
        ),
        yes: language.pick("Close the window", "Fenster schließen"),
        no: None,
    }
}

fn no_tray(language: Language, kind: StateKind) -> Dialog {
    let meanwhile = meanwhile(language, kind);
    Dialog {
        title: language.pick(
            "Keep Infera Node running?",
            "Infera Node weiterlaufen lassen?",
        ),
        text: language.pick(
            format!(
                "This desktop shows no tray icons, so the window stays in the task bar; {meanwhile}."
            ),
            format!(
                "Diese Oberfläche zeigt keine Symbole im Infobereich. Darum bleibt das Fenster in \
                 der Taskleiste; {meanwhile}."
            ),
        ),
        yes: language.pick("Keep running", "Weiterlaufen lassen"),
        no: Some(language.pick("Quit", "Beenden")),
    }
}

async fn remember_explained(app: AppHandle) {
    let shell = app.state::<Shell>();
    let change = json!({ "closing_explained": true });
    if let Err(error) = shell.backend.call("change_settings", change).await {
        tracing::warn!(%error, "that closing was explained is not remembered");
    }
}

fn minimise(app: &AppHandle) {
    if let Some(window) = main_window(app) {
        app.state::<Shell>().subscription.rest();
        if let Err(error) = window.minimize() {
            tracing::error!(%error, "the window cannot be minimised");
        }
    }
}

/// Hides the window now, and frees its memory and GPU if it stays hidden.
fn hide(app: &AppHandle) {
    let Some(window) = main_window(app) else {
        return;
    };
    let shell = app.state::<Shell>();
    shell.subscription.rest();
    if let Err(error) = window.hide() {
        tracing::error!(%error, "the window cannot be hidden");
        return;
    }
    show_in_dock(app, false);
    let closing = shell.closings.0.fetch_add(1, Ordering::Relaxed) + 1;
    let release_after = shell.release_window_after;
    let app = app.clone();
    tauri::async_runtime::spawn(async move {
        tokio::time::sleep(release_after).await;
        let shell = app.state::<Shell>();
        if shell.closings.0.load(Ordering::Relaxed) != closing {
            return;
        }
        shell.subscription.forget();
        if let Err(error) = window.destroy() {
            tracing::error!(%error, "the hidden window cannot be freed");
        }
    });
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
    fn closing_never_hides_a_program_that_cannot_be_found_again() {
        assert_eq!(close_button(true, true), Close::Hide);
        assert_eq!(close_button(true, false), Close::ExplainThenHide);
        assert_eq!(close_button(false, true), Close::Ask);
        assert_eq!(close_button(false, false), Close::Ask);
    }

    #[test]
    fn closing_says_what_is_true_meanwhile() {
        for (kind, english, german) in [
            (StateKind::Working, "goes on working", "arbeitet weiter"),
            (StateKind::Waiting, "goes on working", "arbeitet weiter"),
            (StateKind::Paused, "stays paused", "macht weiter Pause"),
            (
                StateKind::NeedsYou,
                "nothing is shared",
                "geteilt wird nichts",
            ),
        ] {
            for dialog in [explanation, no_tray] {
                assert!(dialog(Language::English, kind).text.contains(english));
                assert!(dialog(Language::German, kind).text.contains(german));
            }
        }
    }

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
