//! "Remove everything": what this program has put on the machine, and its deletion.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::App;
use super::api::{ApiError, Refusal, RemovalItem, RemovalKind};
use crate::account::place::Place;
use crate::identity::KeySource;

/// Where everything is.
#[derive(Clone)]
pub(super) struct Removal {
    data: PathBuf,
    models: PathBuf,
    key: KeySource,
    keychain_account: String,
    account: Option<Place>,
    autostart: bool,
}

impl App {
    pub(super) fn removal(&self) -> Removal {
        let folder = self.0.data.folder();
        let key_file = folder.key_file();
        let preferences = self.0.preferences.borrow();
        let account = preferences.accounts.account.as_ref();
        let holds_account = account.is_some_and(|account| account.holds_key);
        Removal {
            data: folder.path().to_owned(),
            models: PathBuf::from(&self.0.host.borrow().models_folder),
            key: if key_file.exists() {
                KeySource::File(key_file)
            } else {
                self.0.key.clone()
            },
            keychain_account: folder.keychain_account(),
            account: holds_account.then(|| Place::beside(&self.0.key, folder)),
            autostart: preferences.settings.start_with_system,
        }
    }
}

/// What would go, for the person to read first.
pub(super) async fn plan(removal: &Removal) -> Vec<RemovalItem> {
    let removal = removal.clone();
    tokio::task::spawn_blocking(move || {
        let item = |what, path: &Path| RemovalItem {
            what,
            place: path.display().to_string(),
            bytes: size(path),
        };
        let mut items = vec![
            item(RemovalKind::Models, &removal.models),
            item(RemovalKind::History, &removal.data.join("node.sqlite")),
            item(RemovalKind::Logs, &removal.data.join("logs")),
            item(RemovalKind::Settings, &removal.data.join("settings.json")),
        ];
        items.push(match &removal.key {
            KeySource::File(path) => item(RemovalKind::Identity, path),
            KeySource::Keychain(_) => RemovalItem {
                what: RemovalKind::Identity,
                place: removal.keychain_account.clone(),
                bytes: 0,
            },
        });
        if let Some(place) = &removal.account {
            items.push(RemovalItem {
                what: RemovalKind::Account,
                place: place.describe(),
                bytes: 0,
            });
        }
        if removal.autostart {
            items.push(RemovalItem {
                what: RemovalKind::Autostart,
                place: String::new(),
                bytes: 0,
            });
        }
        items
    })
    .await
    .unwrap_or_default()
}

/// The node has ended. What cannot be deleted is named; the rest goes.
pub(super) async fn carry_out(removal: Removal) -> Result<(), ApiError> {
    let forgotten = match &removal.account {
        Some(place) => place.forget().await.err(),
        None => None,
    };
    let mut failed = tokio::task::spawn_blocking(move || {
        let mut failed = Vec::new();
        match &removal.key {
            KeySource::File(path) => failed.extend(delete(path)),
            KeySource::Keychain(keychain) => failed.extend(
                Arc::clone(keychain)
                    .delete(&removal.keychain_account)
                    .err()
                    .map(|fault| format!("the key in the keychain: {fault}")),
            ),
        }
        failed.extend(delete(&removal.models));
        failed.extend(delete(&removal.data));
        failed
    })
    .await
    .unwrap_or_else(|error| vec![error.to_string()]);
    failed.extend(forgotten.map(|error| error.to_string()));
    if failed.is_empty() {
        return Ok(());
    }
    Err(Refusal::NotRemoved { places: failed }.into())
}

fn delete(path: &Path) -> Option<String> {
    let result = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match result {
        Ok(()) => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("{}: {error}", path.display())),
    }
}

/// Bytes of a file, or of all files in a folder. What cannot be read counts nothing.
fn size(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return 0;
    };
    if !metadata.is_dir() {
        return metadata.len();
    }
    fs::read_dir(path).map_or(0, |entries| {
        entries
            .filter_map(Result::ok)
            .map(|entry| size(&entry.path()))
            .sum()
    })
}
