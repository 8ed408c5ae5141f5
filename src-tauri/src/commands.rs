//! What the page can ask for: thin adapters on the program's one API.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use infera_node::app::api::{ApiError, AppEvent, AppState, Refusal};
use infera_node::library::Catalogue;
use serde_json::Value;
use tauri::async_runtime::JoinHandle;
use tauri::ipc::Channel;
use tauri::{AppHandle, Manager, State};
use tauri_plugin_dialog::DialogExt;
use tokio::sync::oneshot;

use crate::main_window::main_window;
use crate::{Shell, autostart};

/// The page's event stream. While the window is hidden nothing goes over it, so that the GPU is
/// not sampled for nobody.
#[derive(Default)]
pub(crate) struct Subscription(Mutex<Subscribed>);

#[derive(Default)]
struct Subscribed {
    channel: Option<Channel<AppEvent>>,
    task: Option<JoinHandle<()>>,
}

impl Subscription {
    fn replace(&self, app: &AppHandle, channel: Channel<AppEvent>) {
        let mut subscribed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        subscribed.end();
        subscribed.channel = Some(channel);
        subscribed.begin(app);
    }

    /// The window is hidden.
    pub(crate) fn rest(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).end();
    }

    /// The window is shown again: the page gets the whole state first.
    pub(crate) fn go_on(&self, app: &AppHandle) {
        let mut subscribed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if subscribed.task.is_none() {
            subscribed.begin(app);
        }
    }

    /// The page is gone.
    pub(crate) fn forget(&self) {
        let mut subscribed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        subscribed.end();
        subscribed.channel = None;
    }
}

impl Subscribed {
    fn begin(&mut self, app: &AppHandle) {
        let Some(channel) = self.channel.clone() else {
            return;
        };
        let mut events = app.state::<Shell>().backend.events();
        self.task = Some(tauri::async_runtime::spawn(async move {
            while let Some(event) = events.next().await {
                if channel.send(event).is_err() {
                    break;
                }
            }
        }));
    }

    fn end(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// Any command of the API.
#[tauri::command]
pub(crate) async fn call(
    app: AppHandle,
    shell: State<'_, Shell>,
    name: String,
    request: Value,
) -> Result<Value, ApiError> {
    if name == "remove_everything"
        && let Err(error) = autostart::set(&app, false)
    {
        tracing::warn!(%error, "the program still starts with the system");
    }
    shell.backend.call(&name, request).await
}

/// The API's events go over this channel, the whole state first. A page has one stream.
#[tauri::command]
#[expect(clippy::needless_pass_by_value, reason = "Tauri hands them over so")]
pub(crate) fn subscribe(app: AppHandle, shell: State<'_, Shell>, channel: Channel<AppEvent>) {
    shell.subscription.replace(&app, channel);
}

/// Asks where to, then writes a text file. Answers where it is; none if the person changed their
/// mind.
#[tauri::command]
pub(crate) async fn save_text(
    app: AppHandle,
    name: String,
    text: String,
) -> Result<Option<PathBuf>, ApiError> {
    let mut dialog = app.dialog().file().set_file_name(file_name(&name));
    if let Some(window) = main_window(&app) {
        dialog = dialog.set_parent(&window);
    }
    let (chosen, choice) = oneshot::channel();
    dialog.save_file(move |path| {
        // The page may be gone.
        let _ = chosen.send(path);
    });
    let Some(path) = choice.await.ok().flatten() else {
        return Ok(None);
    };
    let path = path.into_path().map_err(|error| desktop(&error))?;
    tokio::fs::write(&path, text)
        .await
        .map_err(|error| Refusal::NotSaved {
            path: path.display().to_string(),
            detail: error.to_string(),
        })?;
    Ok(Some(path))
}

/// Asks for a model's file. Answers where it is; none if the person changed their mind.
#[tauri::command]
pub(crate) async fn choose_model(app: AppHandle) -> Result<Option<PathBuf>, ApiError> {
    let mut dialog = app.dialog().file().add_filter("GGUF", &["gguf"]);
    if let Some(window) = main_window(&app) {
        dialog = dialog.set_parent(&window);
    }
    let (chosen, choice) = oneshot::channel();
    dialog.pick_file(move |path| {
        // The page may be gone.
        let _ = chosen.send(path);
    });
    let Some(path) = choice.await.ok().flatten() else {
        return Ok(None);
    };
    path.into_path().map(Some).map_err(|error| desktop(&error))
}

/// Opens an address in the browser, or one of the program's own folders.
#[tauri::command]
pub(crate) async fn open(shell: State<'_, Shell>, target: String) -> Result<(), ApiError> {
    let target = openable(&target, &shell.backend.states().borrow())?;
    let opened = match target {
        Target::Address(address) => tauri_plugin_opener::open_url(address, None::<&str>),
        Target::Folder(folder) => tauri_plugin_opener::open_path(folder, None::<&str>),
    };
    opened.map_err(|error| desktop(&error))
}

#[derive(Debug, PartialEq, Eq)]
enum Target {
    Address(String),
    Folder(PathBuf),
}

/// Addresses that this program itself names, and its folders: a page that was taken over
/// can open nothing else.
fn openable(target: &str, state: &AppState) -> Result<Target, ApiError> {
    let folders = [&state.host.data_folder, &state.host.models_folder];
    if folders
        .iter()
        .any(|folder| Path::new(folder) == Path::new(target))
    {
        return Ok(Target::Folder(target.into()));
    }
    if state.host.web_address.as_deref() == Some(target) {
        return Ok(Target::Address(target.to_owned()));
    }
    let address = tauri::Url::parse(target).ok().filter(|address| {
        address.scheme() == "https"
            && address.username().is_empty()
            && address.password().is_none()
            && address.host_str().is_some_and(|host| is_known(host, state))
    });
    address
        .map(|address| Target::Address(address.into()))
        .ok_or_else(|| Refusal::AddressNotOpened.into())
}

/// Hosts of licences, models and this network.
fn is_known(host: &str, state: &AppState) -> bool {
    let catalogue = Catalogue::built_in();
    let entries = catalogue.entries().iter();
    let named = entries.flat_map(|entry| entry.sources.iter().chain([&entry.licence_url]));
    let downloads = state.downloads.iter().map(|download| &download.url);
    named
        .chain(downloads)
        .chain(&state.settings.balancer)
        .any(|address| {
            tauri::Url::parse(address).is_ok_and(|address| address.host_str() == Some(host))
        })
}

/// A page proposes a name, not a place.
fn file_name(name: &str) -> String {
    let name: String = name
        .chars()
        .filter(|character| !character.is_control() && !"/\\:*?\"<>|".contains(*character))
        .take(100)
        .collect();
    let name = name.trim_matches([' ', '.']);
    if name.is_empty() { "infera.txt" } else { name }.to_owned()
}

fn desktop(error: &dyn std::fmt::Display) -> ApiError {
    let detail = error.to_string();
    Refusal::Desktop { detail }.into()
}

#[cfg(test)]
mod tests {
    use infera_node::state::Summary;

    use super::*;
    use crate::fixtures;

    #[test]
    fn only_known_addresses_and_own_folders_open() {
        let mut state = fixtures::state(Summary::WaitingForJobs);
        state.settings.balancer = Some("https://net.example:8443".to_owned());
        let web = "http://127.0.0.1:4711/#token=00".to_owned();
        state.host.web_address = Some(web.clone());
        let catalogue = Catalogue::built_in();
        let licences = catalogue.entries().iter();
        let licences = licences.map(|entry| entry.licence_url.clone());
        for address in licences.chain([web, "https://net.example/about".to_owned()]) {
            let target = openable(&address, &state).unwrap();
            assert_eq!(target, Target::Address(address));
        }
        let folder = "/home/ada/.local/share/inferanode/models";
        assert_eq!(openable(folder, &state), Ok(Target::Folder(folder.into())));
        for target in [
            "http://huggingface.co/",
            "http://127.0.0.1:4712/",
            "https://huggingface.co.evil.example/",
            "https://huggingface.co@evil.example/",
            "https://evil.example/?huggingface.co",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "/home/ada",
            "/home/ada/.local/share/inferanode/models/../../../.ssh",
            "",
        ] {
            assert!(openable(target, &state).is_err(), "{target}");
        }
    }

    #[test]
    fn a_name_is_no_path() {
        assert_eq!(file_name("jobs.csv"), "jobs.csv");
        assert_eq!(file_name("../../.bashrc"), "bashrc");
        assert_eq!(file_name("C:\\a\u{0}b"), "Cab");
        assert_eq!(file_name(" .. "), "infera.txt");
    }
}
