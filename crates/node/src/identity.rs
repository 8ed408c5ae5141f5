//! The node's secret key: in the operating system's keychain, or in a file that only its owner
//! can read. Never silently in plain text.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use infera_private_files as private_files;
use infera_protocol::NodeKey;

use crate::clock::{Entropy, random_32};

/// Where secrets are kept. Calls may block: they run on threads made for that.
pub trait Keychain: Send + Sync + 'static {
    /// None when there is no such secret.
    fn read(&self, account: &str) -> Result<Option<Vec<u8>>, KeychainFault>;
    fn write(&self, account: &str, secret: &[u8]) -> Result<(), KeychainFault>;
    /// Also succeeds when there is no such secret.
    fn delete(&self, account: &str) -> Result<(), KeychainFault>;
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeychainFault {
    #[error("it is locked. Unlock it, or keep the key in a file with `--key-file FILE`")]
    Locked,
    #[error("there is none on this machine. Keep the key in a file with `--key-file FILE`")]
    Missing,
    #[error("{0}. Repair it, or keep the key in a file with `--key-file FILE`")]
    Other(String),
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("the keychain cannot be used: {0}")]
    Keychain(#[source] KeychainFault),
    #[error(
        "the keychain did not answer within {} s. Unlock it, or keep the key in a file with `--key-file FILE`", LIMIT.as_secs()
    )]
    KeychainSilent,
    #[error(
        "the keychain's entry for Infera Node is no key: remove the entry to get a new identity"
    )]
    KeychainDamaged,
    #[error("the key file {} cannot be used: {fault}. Name a file that you may read and write", path.display())]
    File { path: PathBuf, fault: io::Error },
    #[error(
        "the key file {} can be read by others than its owner: run `{}`, and think of who has seen it", .0.display(), private_files::command_to_tighten(.0)
    )]
    FileOpenToOthers(PathBuf),
    #[error("the key file {} does not hold 64 hexadecimal digits: restore it from a copy, or move it away to get a new identity", .0.display())]
    FileDamaged(PathBuf),
}

/// Where this machine's secrets are.
#[derive(Clone)]
pub enum KeySource {
    /// In the system's keychain, as entries of the data folder's own.
    Keychain(Arc<dyn Keychain>),
    /// In a file that only this user can read, and others beside it.
    File(PathBuf),
}

/// A keychain that waits for a person must not keep the node waiting.
const LIMIT: Duration = Duration::from_secs(5);

const SERVICE: &str = "Infera Node";

/// The real [`Keychain`].
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemKeychain;

impl Keychain for SystemKeychain {
    fn read(&self, account: &str) -> Result<Option<Vec<u8>>, KeychainFault> {
        match entry(account)?.get_secret() {
            Ok(secret) => Ok(Some(secret)),
            Err(keyring::Error::NoEntry) => Ok(None),
            Err(error) => Err(fault(&error)),
        }
    }

    fn write(&self, account: &str, secret: &[u8]) -> Result<(), KeychainFault> {
        entry(account)?
            .set_secret(secret)
            .map_err(|error| fault(&error))
    }

    fn delete(&self, account: &str) -> Result<(), KeychainFault> {
        match entry(account)?.delete_credential() {
            Ok(()) | Err(keyring::Error::NoEntry) => Ok(()),
            Err(error) => Err(fault(&error)),
        }
    }
}

/// The key of this data folder, made and kept in the keychain if there is none. `account` tells
/// data folders on one machine apart.
pub async fn from_keychain(
    keychain: Arc<dyn Keychain>,
    account: String,
    entropy: Arc<dyn Entropy>,
) -> Result<NodeKey, IdentityError> {
    let text = with_keychain(move || {
        if let Some(text) = keychain.read(&account)? {
            return Ok(text);
        }
        // As text: KDE's keychain keeps nothing else.
        let text = hex::encode(random_32(&*entropy)).into_bytes();
        keychain.write(&account, &text)?;
        Ok(text)
    });
    decode(&text.await?).ok_or(IdentityError::KeychainDamaged)
}

/// Has a keychain do something on a thread that may wait, for so long.
pub(crate) async fn with_keychain<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeychainFault> + Send + 'static,
) -> Result<T, IdentityError> {
    match tokio::time::timeout(LIMIT, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(result)) => result.map_err(IdentityError::Keychain),
        Ok(Err(panic)) => Err(IdentityError::Keychain(KeychainFault::Other(
            panic.to_string(),
        ))),
        Err(_) => Err(IdentityError::KeychainSilent),
    }
}

/// The key in a file, made if there is none. A file that others may read is refused.
pub fn from_file(path: &Path, entropy: &dyn Entropy) -> Result<NodeKey, IdentityError> {
    if let Some(text) = read_private(path)? {
        return decode(&text).ok_or_else(|| IdentityError::FileDamaged(path.to_owned()));
    }
    let secret = random_32(entropy);
    let text = format!("{}\n", hex::encode(secret));
    write_private(path, text.as_bytes(), false).map_err(|fault| IdentityError::File {
        path: path.to_owned(),
        fault,
    })?;
    Ok(NodeKey::from_secret(&secret))
}

/// What a file with a secret holds; none where there is no such file. One that others may read is
/// refused.
pub(crate) fn read_private(path: &Path) -> Result<Option<Vec<u8>>, IdentityError> {
    let failed = |fault| IdentityError::File {
        path: path.to_owned(),
        fault,
    };
    match fs::File::open(path) {
        Ok(file) => {
            refuse_if_open_to_others(&file, path)?;
            let mut text = Vec::new();
            file.take(1024).read_to_end(&mut text).map_err(failed)?;
            Ok(Some(text))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Writes a file that only its owner can read: complete or not at all. An existing one is kept
/// unless `replace`.
pub(crate) fn write_private(path: &Path, content: &[u8], replace: bool) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))?;
    let draft = folder.join(format!(
        ".{}.{}.tmp",
        name.to_string_lossy(),
        std::process::id()
    ));
    let written = private_files::create(&draft).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()?;
        if replace {
            fs::rename(&draft, path)
        } else {
            // Unlike a rename, a link never takes the place of another program's key.
            fs::hard_link(&draft, path)
        }
    });
    let removed = fs::remove_file(&draft);
    written.and(if replace { Ok(()) } else { removed })
}

fn refuse_if_open_to_others(file: &fs::File, path: &Path) -> Result<(), IdentityError> {
    match private_files::is_open_to_others(file) {
        Ok(false) => Ok(()),
        Ok(true) => Err(IdentityError::FileOpenToOthers(path.to_owned())),
        Err(fault) => Err(IdentityError::File {
            path: path.to_owned(),
            fault,
        }),
    }
}

fn decode(text: &[u8]) -> Option<NodeKey> {
    let mut secret = [0; 32];
    hex::decode_to_slice(text.trim_ascii(), &mut secret).ok()?;
    Some(NodeKey::from_secret(&secret))
}

fn entry(account: &str) -> Result<keyring::Entry, KeychainFault> {
    keyring::Entry::new(SERVICE, account).map_err(|error| fault(&error))
}

fn fault(error: &keyring::Error) -> KeychainFault {
    match error {
        keyring::Error::NoStorageAccess(_) => KeychainFault::Locked,
        keyring::Error::NoDefaultStore => KeychainFault::Missing,
        other => KeychainFault::Other(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use super::*;
    use crate::clock::SystemEntropy;

    #[derive(Default)]
    struct FakeKeychain {
        secrets: Mutex<HashMap<String, Vec<u8>>>,
        fault: Option<KeychainFault>,
        delay: Option<Mutex<std::sync::mpsc::Receiver<()>>>,
    }

    impl Keychain for FakeKeychain {
        fn read(&self, account: &str) -> Result<Option<Vec<u8>>, KeychainFault> {
            if let Some(delay) = &self.delay {
                let _ = delay.lock().unwrap().recv();
            }
            match &self.fault {
                Some(fault) => Err(fault.clone()),
                None => Ok(self.secrets.lock().unwrap().get(account).cloned()),
            }
        }

        fn write(&self, account: &str, secret: &[u8]) -> Result<(), KeychainFault> {
            let mut secrets = self.secrets.lock().unwrap();
            secrets.insert(account.to_owned(), secret.to_owned());
            Ok(())
        }

        fn delete(&self, account: &str) -> Result<(), KeychainFault> {
            self.secrets.lock().unwrap().remove(account);
            Ok(())
        }
    }

    async fn identity(keychain: Arc<FakeKeychain>) -> Result<NodeKey, IdentityError> {
        from_keychain(keychain, "one".to_owned(), Arc::new(SystemEntropy)).await
    }

    #[tokio::test]
    async fn the_keychain_gives_the_same_identity_again() {
        let keychain = Arc::new(FakeKeychain::default());
        let first = identity(keychain.clone()).await.unwrap().id();
        assert_eq!(identity(keychain.clone()).await.unwrap().id(), first);
        let other = from_keychain(keychain, "two".to_owned(), Arc::new(SystemEntropy)).await;
        assert_ne!(other.unwrap().id(), first);
    }

    #[tokio::test]
    async fn a_locked_keychain_is_named_with_the_way_out() {
        let keychain = FakeKeychain {
            fault: Some(KeychainFault::Locked),
            ..FakeKeychain::default()
        };
        let error = identity(Arc::new(keychain)).await.unwrap_err().to_string();
        assert!(
            error.contains("locked") && error.contains("--key-file"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_damaged_entry_is_not_replaced() {
        let keychain = Arc::new(FakeKeychain::default());
        keychain.write("one", b"not a key").unwrap();
        let error = identity(keychain.clone()).await.unwrap_err();
        assert!(matches!(error, IdentityError::KeychainDamaged));
        assert_eq!(keychain.read("one").unwrap().unwrap(), b"not a key");
    }

    #[tokio::test]
    async fn a_keychain_that_waits_for_a_person_is_given_up() {
        let (release, delay) = std::sync::mpsc::channel();
        let keychain = Arc::new(FakeKeychain {
            delay: Some(Mutex::new(delay)),
            ..FakeKeychain::default()
        });
        // A paused clock stands still while a blocking thread works, so it is moved by hand.
        tokio::time::pause();
        let waiting = tokio::spawn(identity(keychain));
        tokio::task::yield_now().await;
        tokio::time::advance(LIMIT + Duration::from_millis(1)).await;
        let error = waiting.await.unwrap().unwrap_err();
        assert!(matches!(error, IdentityError::KeychainSilent), "{error}");
        drop(release);
    }

    #[test]
    fn a_key_file_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys").join("node.key");
        let first = from_file(&path, &SystemEntropy).unwrap().id();
        assert_eq!(from_file(&path, &SystemEntropy).unwrap().id(), first);
        let names: Vec<_> = fs::read_dir(path.parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["node.key"], "no draft is left");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        from_file(&path, &SystemEntropy).unwrap();
        for mode in [0o640, 0o604, 0o660, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = from_file(&path, &SystemEntropy).unwrap_err();
            assert!(
                matches!(error, IdentityError::FileOpenToOthers(_)),
                "{mode:o}"
            );
        }
    }

    #[test]
    fn a_damaged_key_file_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        for text in ["", "abc", &"zz".repeat(32), &"ab".repeat(33)] {
            let _ = fs::remove_file(&path);
            write_private(&path, text.as_bytes(), false).unwrap();
            let error = from_file(&path, &SystemEntropy).unwrap_err();
            assert!(matches!(error, IdentityError::FileDamaged(_)), "{text}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn an_existing_file_is_never_overwritten_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_private(&path, b"one", false).unwrap();
        assert!(write_private(&path, b"two", false).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write_private(&path, b"two", true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
    }
}
