//! The one window of the program.

use tauri::{AppHandle, Manager, WebviewWindow};

pub(crate) const LABEL: &str = "main";

/// The window, if it is there.
pub(crate) fn main_window(app: &AppHandle) -> Option<WebviewWindow> {
    app.get_webview_window(LABEL)
}
