//! Follows the program's state: tray, notifications, autostart and the window's theme keep up with it.

use std::time::Duration;

use infera_node::app::api::AppState;
use infera_node::clock::{Clock, SystemClock};
use tauri::{AppHandle, Manager};
use tauri_plugin_notification::NotificationExt;

use crate::notifications::{Memory, Notification};
use crate::{Shell, autostart, quit, surroundings};

/// A rate changes several times a second; nobody reads a menu that fast.
const CALM: Duration = Duration::from_secs(1);

/// Until the program behind the window has ended; then this ends, too.
pub(crate) async fn follow(app: AppHandle) {
    let shell = app.state::<Shell>();
    let mut states = shell.backend.states();
    let mut updates = shell.updates.available();
    let mut panel_is_dark = surroundings::panel_is_dark();
    let mut memory = Memory::default();
    let mut applied = Applied::default();
    loop {
        let state = states.borrow_and_update().clone();
        let update = updates
            .borrow_and_update()
            .as_ref()
            .map(|found| found.version().to_owned());
        let is_dark = *panel_is_dark.borrow_and_update();
        let drawn = shell.tray.draw(
            &app,
            &state,
            update.as_deref(),
            is_dark,
            &jiff::Zoned::now(),
        );
        if let Err(error) = drawn {
            tracing::warn!(%error, "the tray does not show the state");
        }
        for notification in memory.take_in(&state, SystemClock.now_ms()) {
            show(&app, notification);
        }
        applied.keep_up(&app, &state);

        // Another kind of state is shown at once, everything else after a moment. A receiver of
        // its own, because waiting counts as having seen.
        let kind = state.state.kind;
        let mut early = states.clone();
        let changed = early.wait_for(|state| state.state.kind != kind);
        if let Ok(Err(_)) = tokio::time::timeout(CALM, changed).await {
            break;
        }
        let news = memory.wait(SystemClock.now_ms());
        tokio::select! {
            changed = states.changed() => if changed.is_err() { break },
            Ok(()) = updates.changed() => {}
            Ok(()) = panel_is_dark.changed() => {}
            () = tokio::time::sleep(news.unwrap_or(Duration::MAX)), if news.is_some() => {}
        }
    }
    quit::leave(&app);
}

fn show(app: &AppHandle, notification: Notification) {
    let shown = app
        .notification()
        .builder()
        .title(notification.title)
        .body(notification.text)
        .show();
    if let Err(error) = shown {
        tracing::info!(%error, "a notification was not shown");
    }
}

/// Which settings the system has been told.
#[derive(Default)]
struct Applied {
    start_with_system: Option<bool>,
    theme: Option<infera_node::app::settings::Theme>,
}

impl Applied {
    fn keep_up(&mut self, app: &AppHandle, state: &AppState) {
        let wanted = state.settings.start_with_system;
        if self.start_with_system.replace(wanted) != Some(wanted)
            && let Err(error) = autostart::set(app, wanted)
        {
            tracing::warn!(%error, "starting with the system cannot be set");
        }
        let theme = state.settings.theme;
        if self.theme.replace(theme) != Some(theme) {
            app.state::<Shell>().window.set_theme(theme);
        }
    }
}
