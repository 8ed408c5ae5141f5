//! Where an account's key is kept: beside the node's, as an entry of its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use infera_protocol::AccountKey;

use crate::data_dir::DataDir;
use crate::identity::{self, IdentityError, KeySource, Keychain, write_private};

/// One account's key, or the place for one.
#[derive(Clone)]
pub(crate) enum Place {
    Keychain {
        keychain: Arc<dyn Keychain>,
        /// What the keychain knows it by.
        entry: String,
    },
    File(PathBuf),
}

/// Why an account's key cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum KeptKeyError {
    /// The keychain or the file cannot be used.
    #[error(transparent)]
    Place(#[from] IdentityError),
    /// What is there is no key. Says where.
    #[error(
        "the account's key in {0} is damaged: remove the account from this machine, and restore it from its words"
    )]
    Damaged(String),
    /// The settings say that it is here. Says where.
    #[error(
        "the account's key is not in {0} any more: remove the account from this machine, and restore it from its words"
    )]
    Gone(String),
}

impl Place {
    /// Beside the node's key of this folder.
    pub(crate) fn beside(source: &KeySource, data: &DataDir) -> Self {
        match source {
            KeySource::File(node) => Self::File(file_beside(node)),
            KeySource::Keychain(_) if data.key_file().exists() => {
                Self::File(file_beside(&data.key_file()))
            }
            KeySource::Keychain(keychain) => Self::Keychain {
                keychain: Arc::clone(keychain),
                entry: data.keychain_entry("account key"),
            },
        }
    }

    /// For a person who looks for it.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Keychain { entry, .. } => entry.clone(),
            Self::File(path) => path.display().to_string(),
        }
    }

    pub(crate) async fn read(&self) -> Result<AccountKey, KeptKeyError> {
        let text = match self.clone() {
            Self::Keychain { keychain, entry } => {
                identity::with_keychain(move || keychain.read(&entry)).await?
            }
            Self::File(path) => identity::read_private(&path)?,
        };
        let text = text.ok_or_else(|| KeptKeyError::Gone(self.describe()))?;
        let mut secret = [0; 32];
        hex::decode_to_slice(text.trim_ascii(), &mut secret)
            .map_err(|_| KeptKeyError::Damaged(self.describe()))?;
        Ok(AccountKey::from_secret(&secret))
    }

    /// In place of one that was there.
    pub(crate) async fn keep(&self, key: &AccountKey) -> Result<(), KeptKeyError> {
        let text = hex::encode(key.secret());
        match self.clone() {
            Self::Keychain { keychain, entry } => {
                // As text: KDE's keychain keeps nothing else.
                let write = move || keychain.write(&entry, text.as_bytes());
                identity::with_keychain(write).await?;
            }
            Self::File(path) => {
                let text = format!("{text}\n");
                write_private(&path, text.as_bytes(), true)
                    .map_err(|fault| IdentityError::File { path, fault })?;
            }
        }
        Ok(())
    }

    pub(crate) async fn forget(&self) -> Result<(), KeptKeyError> {
        match self.clone() {
            Self::Keychain { keychain, entry } => {
                identity::with_keychain(move || keychain.delete(&entry)).await?;
            }
            Self::File(path) => match fs::remove_file(&path) {
                Err(fault) if fault.kind() != io::ErrorKind::NotFound => {
                    return Err(IdentityError::File { path, fault }.into());
                }
                _ => {}
            },
        }
        Ok(())
    }
}

fn file_beside(node: &Path) -> PathBuf {
    let mut name = node.as_os_str().to_owned();
    name.push(".account");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_is_kept_beside_the_nodes_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(folder.path().join("data"));
        let node = folder.path().join("node.key");
        let place = Place::beside(&KeySource::File(node), &data);
        assert!(place.describe().ends_with("node.key.account"));
        assert!(matches!(
            place.read().await.unwrap_err(),
            KeptKeyError::Gone(_)
        ));
        for number in [1, 2] {
            let key = AccountKey::from_secret(&[number; 32]);
            place.keep(&key).await.unwrap();
            assert_eq!(place.read().await.unwrap().id(), key.id());
        }
        let Place::File(path) = &place else {
            panic!("it is a file");
        };
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            mode(0o644);
            let error = place.read().await.unwrap_err().to_string();
            assert!(error.contains("can be read by others"), "{error}");
            mode(0o600);
        }
        fs::write(path, "no key").unwrap();
        assert!(matches!(
            place.read().await.unwrap_err(),
            KeptKeyError::Damaged(_)
        ));
        place.forget().await.unwrap();
        place.forget().await.unwrap();
        assert!(!path.exists());
    }
}
