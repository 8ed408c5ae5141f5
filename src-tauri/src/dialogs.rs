//! Questions and messages in windows of the system.

use tauri::{AppHandle, Manager, WebviewWindow};
use tauri_plugin_dialog::{DialogExt, MessageDialogButtons};

use crate::Shell;
use crate::window::Question;
use crate::words::Dialog;

/// Shows it above the window if the person sees that. `answered` gets true for yes.
pub(crate) fn show(app: &AppHandle, dialog: Dialog, answered: impl FnOnce(bool) + Send + 'static) {
    let question = Question::from(dialog);
    match app.try_state::<Shell>() {
        Some(shell) => shell.window.ask(app, question, Box::new(answered)),
        // The program could not start.
        None => put(app, question, None, answered),
    }
}

/// Shows it in this process.
pub(crate) fn put(
    app: &AppHandle,
    question: Question,
    parent: Option<&WebviewWindow>,
    answered: impl FnOnce(bool) + Send + 'static,
) {
    let mut builder = app
        .dialog()
        .message(question.text)
        .title(question.title)
        .buttons(match question.no {
            Some(no) => MessageDialogButtons::OkCancelCustom(question.yes, no),
            None => MessageDialogButtons::OkCustom(question.yes),
        });
    if let Some(window) = parent {
        builder = builder.parent(window);
    }
    builder.show(answered);
}
