//! New versions: looked for only when the person wants that, installed only when they say so.
//!
//! A build knows where updates come from only if `INFERA_UPDATE_URL` and `INFERA_UPDATE_KEY` (the
//! public half of the key that signs them) were set for it. Any other build never asks.

use std::time::Duration;

use infera_node::app::api::AppState;
use serde_json::json;
use tauri::{AppHandle, Context, Manager};
use tauri_plugin_updater::{Update, UpdaterExt};
use tokio::sync::watch;

use crate::words::{Dialog, Language};
use crate::{Shell, dialogs, quit};

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

/// What could be installed, as it was found.
pub(crate) struct Updates<R = Update>(watch::Sender<Option<Found<R>>>);

impl<R> Default for Updates<R> {
    fn default() -> Self {
        Self(watch::channel(None).0)
    }
}

impl<R: Release> Updates<R> {
    pub(crate) fn available(&self) -> watch::Receiver<Option<Found<R>>> {
        self.0.subscribe()
    }
}

/// A release that the person can be asked about. What they agree to is what is installed: its
/// version, its address and its signature stay what they were when it was found, whatever the
/// server says by then.
#[derive(Clone)]
pub(crate) struct Found<R = Update>(R);

impl<R: Release> Found<R> {
    pub(crate) fn version(&self) -> &str {
        self.0.version()
    }

    /// Downloads it, ends the node, installs it.
    async fn carry_out(self, end_node: impl AsyncFnOnce()) -> Result<(), R::Error> {
        let package = self.0.download().await?;
        end_node().await;
        self.0.install(&package)
    }
}

/// The border to where releases come from.
pub(crate) trait Release: Clone {
    type Error;

    fn version(&self) -> &str;

    /// Gives the package only if it is the one that was signed as this version.
    async fn download(&self) -> Result<Vec<u8>, Self::Error>;

    fn install(&self, package: &[u8]) -> Result<(), Self::Error>;
}

impl Release for Update {
    type Error = tauri_plugin_updater::Error;

    fn version(&self) -> &str {
        &self.version
    }

    async fn download(&self) -> Result<Vec<u8>, Self::Error> {
        self.download(|_, _| (), || ()).await
    }

    fn install(&self, package: &[u8]) -> Result<(), Self::Error> {
        self.install(package)
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
        let is_metered = shell.backend.is_metered().await;
        let may_look = may_look(&shell.backend.states().borrow(), is_metered);
        if may_look {
            match look(&app).await {
                Ok(found) => {
                    shell.updates.0.send_replace(found);
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

async fn look(app: &AppHandle) -> tauri_plugin_updater::Result<Option<Found>> {
    Ok(app.updater()?.check().await?.map(Found))
}

/// The person chose the update: asks once more, then downloads, installs and starts it.
pub(crate) fn install(app: &AppHandle) {
    let shell = app.state::<Shell>();
    let Some(found) = shell.updates.0.borrow().clone() else {
        return;
    };
    let language = Language::of(&shell.backend.states().borrow());
    let answered = app.clone();
    dialogs::show(app, question(found.version(), language), move |yes| {
        if yes {
            tauri::async_runtime::spawn(async move {
                match found
                    .carry_out(async || quit::end_parts(&answered).await)
                    .await
                {
                    Ok(()) => answered.restart(),
                    Err(error) => {
                        tracing::error!(%error, "the update was not installed");
                        dialogs::show(&answered, failure(&error.to_string(), language), |_| ());
                    }
                }
            });
        }
    });
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
    use std::cell::RefCell;
    use std::rc::Rc;

    use infera_node::state::Summary;

    use super::*;
    use crate::fixtures;

    /// A server that announces one release at a time, and what it got installed.
    #[derive(Default)]
    struct FakeServer {
        announced: RefCell<&'static str>,
        steps: RefCell<Vec<String>>,
    }

    #[derive(Clone)]
    struct FakeRelease {
        server: Rc<FakeServer>,
        version: &'static str,
    }

    impl FakeServer {
        fn look(self: &Rc<Self>) -> Found<FakeRelease> {
            Found(FakeRelease {
                server: Rc::clone(self),
                version: *self.announced.borrow(),
            })
        }

        fn step(&self, what: &str) {
            self.steps.borrow_mut().push(what.to_owned());
        }
    }

    impl Release for FakeRelease {
        type Error = String;

        fn version(&self) -> &str {
            self.version
        }

        async fn download(&self) -> Result<Vec<u8>, String> {
            self.server.step("download");
            if self.version == "gone" {
                return Err("The server has it no more".to_owned());
            }
            Ok(self.version.as_bytes().to_vec())
        }

        fn install(&self, package: &[u8]) -> Result<(), String> {
            let package = String::from_utf8_lossy(package);
            self.server.step(&format!("install {package}"));
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_was_agreed_to_is_installed_whatever_the_server_says_by_then() {
        let server = Rc::new(FakeServer::default());
        let updates = Updates::default();
        *server.announced.borrow_mut() = "1.1.0";
        updates.0.send_replace(Some(server.look()));
        let asked = updates.0.borrow().clone().unwrap();
        assert!(
            question(asked.version(), Language::English)
                .text
                .contains("Version 1.1.0")
        );
        // Before the person answers, another one is announced, and found.
        *server.announced.borrow_mut() = "0.9.0";
        updates.0.send_replace(Some(server.look()));
        let done = asked.carry_out(async || server.step("end the node")).await;
        assert_eq!(done, Ok(()));
        let steps = ["download", "end the node", "install 1.1.0"];
        assert_eq!(*server.steps.borrow(), steps);
    }

    #[tokio::test]
    async fn a_release_that_is_gone_does_not_end_the_node() {
        let server = Rc::new(FakeServer::default());
        *server.announced.borrow_mut() = "gone";
        let done = server
            .look()
            .carry_out(async || server.step("end the node"))
            .await;
        assert!(done.is_err());
        assert_eq!(*server.steps.borrow(), ["download"]);
    }

    #[test]
    fn nobody_is_asked_unless_the_person_wants_it_and_it_costs_nothing() {
        let mut state = fixtures::state(Summary::WaitingForJobs);
        assert!(!may_look(&state, false), "off by default");
        state.settings.look_for_updates = true;
        assert!(may_look(&state, false));
        assert!(!may_look(&state, true), "a metered network");
    }
}
