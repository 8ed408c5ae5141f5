//! What the page may ask of the program: thin adapters on its one API.

use std::path::{Path, PathBuf};

use infera_node::app::api::{ApiError, AppState, Refusal};
use infera_node::library::Catalogue;
use serde_json::Value;
use tauri::{AppHandle, Manager};

use crate::{Shell, autostart};

/// Any command of the API.
pub(crate) async fn call(app: &AppHandle, name: &str, request: Value) -> Result<Value, ApiError> {
    if name == "remove_everything"
        && let Err(error) = autostart::set(app, false)
    {
        tracing::warn!(%error, "the program still starts with the system");
    }
    app.state::<Shell>().backend.call(name, request).await
}

/// Opens an address in the browser, or one of the program's own folders.
pub(crate) fn open(app: &AppHandle, target: &str) -> Result<(), ApiError> {
    let target = openable(target, &app.state::<Shell>().backend.states().borrow())?;
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
}
