//! New versions: looked for only when the person wants that, installed only when they say so.
//!
//! A build knows where updates come from only if `INFERA_UPDATE_URL` and `INFERA_UPDATE_KEY` (the
//! public half of the key that signs them) were set for it. Any other build never asks.

use std::time::Duration;

use infera_node::app::api::AppState;
use serde_json::json;
use tauri::{AppHandle, Context, Manager};
use tauri_plugin_updater::UpdaterExt;
use tokio::sync::watch;

use crate::words::{Dialog, Language};
use crate::{Shell, dialogs, quit, surroundings};

const SOURCE: Option<(&str, &str)> = match (
    option_env!("INFERA_UPDATE_URL"),
    option_env!("INFERA_UPDATE_KEY"),
) {
    // A build server sets what it does not know to nothing.
    (Some(url), Some(key)) if !url.is_empty() && !key.is_empty() => Some((url, key)),
    _ => None,
};

/// After the start, when the machine is busy with other things.
const FIRST_LOOK: Duration = Duration::from_mins(5);
const BETWEEN_LOOKS: Duration = Duration::from_hours(24);

/// The version that could be installed.
pub(crate) struct Updates(watch::Sender<Option<String>>);

impl Default for Updates {
    fn default() -> Self {
        Self(watch::channel(None).0)
    }
}

impl Updates {
    pub(crate) fn available(&self) -> watch::Receiver<Option<String>> {
        self.0.subscribe()
    }
}

/// Adds the updater where this build has a source.
pub(crate) fn add(
    builder: tauri::Builder<tauri::Wry>,
    context: &mut Context,
) -> tauri::Builder<tauri::Wry> {
    let Some((url, key)) = SOURCE else {
        return builder;
    };
    let config = json!({ "endpoints": [url], "pubkey": key, "requireSignedVersion": true });
    let plugins = &mut context.config_mut().plugins;
    plugins.0.insert("updater".to_owned(), config);
    builder.plugin(tauri_plugin_updater::Builder::new().build())
}

/// Looks once a day, for as long as the person wants that.
pub(crate) async fn look_daily(app: AppHandle) {
    if SOURCE.is_none() {
        return;
    }
    let shell = app.state::<Shell>();
    tokio::time::sleep(FIRST_LOOK).await;
    loop {
        let is_metered = surroundings::is_metered().await;
        let may_look = may_look(&shell.backend.states().borrow(), is_metered);
        if may_look {
            match look(&app).await {
                Ok(version) => {
                    shell.updates.0.send_replace(version);
                }
                Err(error) => tracing::info!(%error, "no update could be looked for"),
            }
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

fn may_look(state: &AppState, is_metered: bool) -> bool {
    state.settings.look_for_updates && !is_metered
}

async fn look(app: &AppHandle) -> tauri_plugin_updater::Result<Option<String>> {
    let update = app.updater()?.check().await?;
    Ok(update.map(|update| update.version))
}

/// The person chose the update: asks once more, then downloads, installs and starts it.
pub(crate) fn install(app: &AppHandle) {
    let shell = app.state::<Shell>();
    let Some(version) = shell.updates.0.borrow().clone() else {
        return;
    };
    let language = Language::of(&shell.backend.states().borrow());
    let answered = app.clone();
    dialogs::show(app, question(&version, language), move |yes| {
        if yes {
            tauri::async_runtime::spawn(async move {
                if let Err(error) = carry_out(&answered).await {
                    tracing::error!(%error, "the update was not installed");
                    dialogs::show(&answered, failure(&error.to_string(), language), |_| ());
                }
            });
        }
    });
}

async fn carry_out(app: &AppHandle) -> tauri_plugin_updater::Result<()> {
    let Some(update) = app.updater()?.check().await? else {
        return Ok(());
    };
    let package = update.download(|_, _| (), || ()).await?;
    quit::end_node(app).await;
    update.install(package)?;
    app.restart()
}

fn question(version: &str, language: Language) -> Dialog {
    Dialog {
        title: language.pick("Update Infera Node?", "Infera Node aktualisieren?"),
        text: language.pick(
            format!(
                "Version {version} is downloaded and installed, then Infera Node starts again. \
                 Jobs in progress are handed back."
            ),
            format!(
                "Version {version} wird geladen und installiert, dann startet Infera Node neu. \
                 Laufende Aufträge werden zurückgegeben."
            ),
        ),
        yes: language.pick("Update", "Aktualisieren"),
        no: Some(language.pick("Not now", "Jetzt nicht")),
    }
}

fn failure(error: &str, language: Language) -> Dialog {
    Dialog {
        title: language.pick("The update was not installed", "Nicht aktualisiert"),
        text: language.pick(
            format!("{error}\n\nQuit and start Infera Node, then try again."),
            format!("{error}\n\nBeende Infera Node, starte es neu und versuche es noch einmal."),
        ),
        yes: "OK",
        no: None,
    }
}

#[cfg(test)]
mod tests {
    use infera_node::state::Summary;

    use super::*;
    use crate::fixtures;

    #[test]
    fn nobody_is_asked_unless_the_person_wants_it_and_it_costs_nothing() {
        let mut state = fixtures::state(Summary::WaitingForJobs);
        assert!(!may_look(&state, false), "off by default");
        state.settings.look_for_updates = true;
        assert!(may_look(&state, false));
        assert!(!may_look(&state, true), "a metered network");
    }
}
