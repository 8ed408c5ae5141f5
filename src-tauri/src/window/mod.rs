//! The one window, as the tray's program has it: a process of its own, which is there when it is
//! wanted, hidden when it is closed, and gone when it stays hidden. A web view leaves a hundred
//! megabytes behind in its process; so that one ends.

mod child;
mod link;
mod message;
mod page;
mod process;

use std::path::PathBuf;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use infera_node::app::api::{ApiError, AppEvent};
use infera_node::app::settings::Theme;
use infera_node::state::StateKind;
use serde_json::{Value, json};
use tauri::{AppHandle, Manager};
use tauri_plugin_opener::OpenerExt;
use tokio::sync::{mpsc, oneshot};

pub use self::child::{WindowOptions, WindowTheme, run_window};
use self::link::{Answered, Order, Program};
pub(crate) use self::message::Question;
use self::process::ThisProgram;
use crate::words::{self, Dialog, Language};
use crate::{Shell, commands, dialogs, quit, surroundings};

/// What carries out orders about the window, whether there is one or not.
pub(crate) struct Window(mpsc::UnboundedSender<Order>);

impl Window {
    /// None yet. It keeps its files in `folder`, and is gone when it was hidden for `release_after`.
    pub(crate) fn new(app: &AppHandle, folder: PathBuf, release_after: Duration) -> Self {
        let (orders, to_obey) = mpsc::unbounded_channel();
        let launcher = ThisProgram { folder };
        let program = TrayProgram(app.clone());
        tauri::async_runtime::spawn(link::keep(launcher, program, to_obey, release_after));
        Self(orders)
    }

    pub(crate) fn set_theme(&self, theme: Theme) {
        self.order(Order::Theme(theme));
    }

    /// Above the window if the person sees it.
    pub(crate) fn ask(&self, app: &AppHandle, question: Question, answered: Answered) {
        let order = Order::Ask(question, answered);
        if let Err(mpsc::error::SendError(Order::Ask(question, answered))) = self.0.send(order) {
            dialogs::put(app, question, None, answered);
        }
    }

    /// Ends it, if there is one.
    pub(crate) async fn end(&self) {
        let (ended, end) = oneshot::channel();
        self.order(Order::End(ended));
        // Without an answer there is nothing left that could end.
        let _ = end.await;
    }

    fn order(&self, order: Order) {
        if self.0.send(order).is_err() {
            tracing::error!("nothing looks after the window any more");
        }
    }
}

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
    if let Some(shell) = app.try_state::<Shell>() {
        shell.window.order(Order::Show);
    }
}

/// The program in the tray, as its window sees it.
#[derive(Clone)]
struct TrayProgram(AppHandle);

impl Program for TrayProgram {
    async fn call(&self, name: &str, request: Value) -> Result<Value, ApiError> {
        commands::call(&self.0, name, request).await
    }

    fn events(&self) -> BoxStream<'static, AppEvent> {
        let events = self.0.state::<Shell>().backend.events();
        stream::unfold(events, async |mut events| {
            Some((events.next().await?, events))
        })
        .boxed()
    }

    fn open(&self, target: &str) -> Result<(), ApiError> {
        commands::open(&self.0, target)
    }

    fn ask(&self, question: Question, answered: Answered) {
        dialogs::put(&self.0, question, None, answered);
    }

    fn close_pressed(&self) {
        close(&self.0);
    }

    fn quit_chosen(&self) {
        quit::request(&self.0);
    }

    fn cannot_show(&self, fault: &str) {
        say_why_not(&self.0, fault);
    }

    fn lost(&self) {
        let dialog = {
            let states = self.0.state::<Shell>().backend.states();
            let state = states.borrow();
            lost(Language::of(&state), state.state.kind)
        };
        let asked = self.0.clone();
        dialogs::show(&self.0, dialog, move |again| {
            if again {
                open(&asked);
            }
        });
    }
}

/// The node goes on, and the tray is there; but a click on it must not seem to do nothing.
fn say_why_not(app: &AppHandle, fault: &str) {
    let language = Language::of(&app.state::<Shell>().backend.states().borrow());
    // On Windows the web view is a part of the system that some lack.
    let lacks_web_view = cfg!(windows) && tauri::webview_version().is_err();
    let dialog = words::no_window(language, lacks_web_view, fault);
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

/// The close button was pressed. The program goes on.
fn close(app: &AppHandle) {
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

fn lost(language: Language, kind: StateKind) -> Dialog {
    let meanwhile = meanwhile(language, kind);
    Dialog {
        title: language.pick(
            "The window has closed by itself",
            "Das Fenster hat sich von selbst geschlossen",
        ),
        text: language.pick(
            format!("What draws it has failed. The program is still there: {meanwhile}."),
            format!("Was es zeichnet, ist ausgefallen. Das Programm ist noch da: {meanwhile}."),
        ),
        yes: language.pick("Open it again", "Wieder öffnen"),
        no: Some(language.pick("Close", "Schließen")),
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
    app.state::<Shell>().window.order(Order::Minimise);
}

/// Hides the window now, and frees its memory and GPU if it stays hidden.
fn hide(app: &AppHandle) {
    app.state::<Shell>().window.order(Order::Hide);
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
            for dialog in [explanation, no_tray, lost] {
                assert!(dialog(Language::English, kind).text.contains(english));
                assert!(dialog(Language::German, kind).text.contains(german));
            }
        }
    }
}
