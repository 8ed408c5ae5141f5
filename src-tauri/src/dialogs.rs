//! Questions and messages in windows of the system.

use tauri::AppHandle;
use tauri_plugin_dialog::{DialogExt, MessageDialogButtons};

use crate::main_window::main_window;
use crate::words::Dialog;

/// Shows it above the window if that is open. `answered` gets true for yes.
pub(crate) fn show(app: &AppHandle, dialog: Dialog, answered: impl FnOnce(bool) + Send + 'static) {
    let yes = dialog.yes.to_owned();
    let mut builder = app
        .dialog()
        .message(dialog.text)
        .title(dialog.title)
        .buttons(match dialog.no {
            Some(no) => MessageDialogButtons::OkCancelCustom(yes, no.to_owned()),
            None => MessageDialogButtons::OkCustom(yes),
        });
    if let Some(window) = main_window(app)
        && window.is_visible().unwrap_or(false)
    {
        builder = builder.parent(&window);
    }
    builder.show(answered);
}
