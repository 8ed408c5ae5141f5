//! A node's data folder: its database, its lock, and the control API's address.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::identity::write_private;

/// Bytes of a folder's path in the name of its key: Wine's registry takes 255 of a name, and Windows
/// 513.
const LONGEST_ACCOUNT: usize = 160;

/// A data folder that may be in use by another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir(PathBuf);

/// A data folder that is this program's alone, until this is dropped.
#[derive(Debug)]
pub struct LockedDataDir {
    folder: DataDir,
    _lock: File,
}

/// How to reach a running node.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlFile {
    pub url: String,
    /// Secret: who has it can pause and resume the node.
    pub token: String,
}

#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("this system has no folder for a user's data: name one with `--data DIR`")]
    NoDefault,
    #[error("the data folder {} cannot be used: {fault}. Make it writable, or name another with `--data DIR`", folder.display())]
    Unusable { folder: PathBuf, fault: io::Error },
    #[error("another node is running in the data folder {}: end it, or name another folder with `--data DIR`", .0.display())]
    InUse(PathBuf),
    #[error("the certificates in {} cannot be read: {fault}. Name a PEM file with `--ca-file FILE`", file.display())]
    Certificates { file: PathBuf, fault: io::Error },
    #[error("no node is running in the data folder {}: start one with `infera run`", .0.display())]
    NotRunning(PathBuf),
}

impl fmt::Debug for ControlFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ControlFile({})", self.url)
    }
}

impl DataDir {
    /// As a whole path: it is shown, kept in settings, and given to children.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self(std::path::absolute(&folder).unwrap_or(folder))
    }

    /// The per-user one.
    pub fn default_for_user() -> Result<Self, DataDirError> {
        directories::ProjectDirs::from("", "", "Infera Node")
            .map(|folders| Self(folders.data_local_dir().to_owned()))
            .ok_or(DataDirError::NoDefault)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Creates the folder if there is none, closed to others.
    pub fn create(&self) -> Result<(), DataDirError> {
        infera_private_files::create_folder(&self.0).map_err(|fault| self.unusable(fault))
    }

    /// Takes the folder for this program alone. The lock ends with the program, however it ends.
    pub fn lock(&self) -> Result<LockedDataDir, DataDirError> {
        self.create()?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.0.join("node.lock"))
            .map_err(|fault| self.unusable(fault))?;
        match file.try_lock() {
            Ok(()) => Ok(LockedDataDir {
                folder: self.clone(),
                _lock: file,
            }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(self.0.clone())),
            Err(TryLockError::Error(fault)) => Err(self.unusable(fault)),
        }
    }

    /// How to reach the node that runs here.
    pub fn control(&self) -> Result<ControlFile, DataDirError> {
        let text = fs::read(self.0.join("control.json"))
            .map_err(|_| DataDirError::NotRunning(self.0.clone()))?;
        serde_json::from_slice(&text).map_err(|_| DataDirError::NotRunning(self.0.clone()))
    }

    /// The name under which the keychain holds this folder's key: with the folder, or with its hash
    /// where that is longer than keychains take.
    pub fn keychain_account(&self) -> String {
        self.keychain_entry("node key")
    }

    /// The same for another of its secrets.
    pub(crate) fn keychain_entry(&self, what: &str) -> String {
        let folder = self.0.canonicalize().unwrap_or_else(|_| self.0.clone());
        let mut name = folder.display().to_string();
        if name.len() > LONGEST_ACCOUNT {
            name = blake3::hash(name.as_bytes()).to_hex().to_string();
        }
        format!("{what} for {name}")
    }

    pub fn database(&self) -> PathBuf {
        self.0.join("node.sqlite")
    }

    pub fn settings(&self) -> PathBuf {
        self.0.join("settings.json")
    }

    /// Where the key is kept if the person chose a file in place of a keychain.
    pub fn key_file(&self) -> PathBuf {
        self.0.join("node.key")
    }

    /// PEM certificates to trust beside the system's: those of `given`, else those that were kept of
    /// an earlier one.
    pub fn certificates(&self, given: Option<&Path>) -> Result<Option<Vec<u8>>, DataDirError> {
        let kept = self.kept_certificates();
        let file = given.unwrap_or(&kept);
        match fs::read(file) {
            Ok(pem) => Ok(Some(pem)),
            Err(fault) if given.is_none() && fault.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(fault) => Err(DataDirError::Certificates {
                file: file.to_owned(),
                fault,
            }),
        }
    }

    /// The same, and keeps those of `given`.
    pub fn take_certificates(&self, given: Option<&Path>) -> Result<Option<Vec<u8>>, DataDirError> {
        let pem = self.certificates(given)?;
        if given.is_some()
            && let Some(pem) = &pem
        {
            let file = self.kept_certificates();
            fs::write(&file, pem).map_err(|fault| self.unusable(fault))?;
        }
        Ok(pem)
    }

    fn kept_certificates(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    /// What was found to be the fastest on this machine's GPUs.
    pub fn tunings(&self) -> PathBuf {
        self.0.join("tunings")
    }

    pub fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    fn unusable(&self, fault: io::Error) -> DataDirError {
        DataDirError::Unusable {
            folder: self.0.clone(),
            fault,
        }
    }
}

impl LockedDataDir {
    pub fn folder(&self) -> &DataDir {
        &self.folder
    }

    /// Tells other programs of this user how to reach this node.
    pub fn publish_control(&self, control: &ControlFile) -> Result<(), DataDirError> {
        let content =
            serde_json::to_vec(control).map_err(|fault| self.folder.unusable(fault.into()))?;
        write_private(&self.folder.0.join("control.json"), &content, true)
            .map_err(|fault| self.folder.unusable(fault))
    }

    /// This node is not to be reached any more.
    pub fn withdraw_control(&self) {
        // Only this node can have written it: the lock is held.
        let _ = fs::remove_file(self.folder.0.join("control.json"));
    }
}

impl Drop for LockedDataDir {
    fn drop(&mut self) {
        self.withdraw_control();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folders_key_has_a_short_name_of_its_own() {
        let name = |folder: &str| DataDir::new(folder).keychain_account();
        let (long, other) = ("/a/folder".repeat(40), "/a/folder".repeat(41));
        assert!(name("/a/folder").ends_with("folder"));
        assert_ne!(name(&long), name(&other));
        assert!(name(&long).len() < 100);
    }

    #[test]
    fn two_nodes_never_share_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(folder.path().join("node"));
        let first = data.lock().unwrap();
        let error = data.lock().unwrap_err();
        assert!(matches!(error, DataDirError::InUse(_)), "{error}");
        drop(first);
        data.lock().unwrap();
    }

    #[test]
    fn the_control_file_is_private_and_goes_with_the_node() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::new(folder.path());
        assert!(matches!(data.control(), Err(DataDirError::NotRunning(_))));
        let locked = data.lock().unwrap();
        let control = ControlFile {
            url: "http://127.0.0.1:1".to_owned(),
            token: "secret".to_owned(),
        };
        locked.publish_control(&control).unwrap();
        locked.publish_control(&control).unwrap();
        assert_eq!(data.control().unwrap(), control);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let file = fs::metadata(folder.path().join("control.json")).unwrap();
            assert_eq!(file.permissions().mode() & 0o777, 0o600);
        }
        drop(locked);
        assert!(matches!(data.control(), Err(DataDirError::NotRunning(_))));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = DataDir::new(file.join("node")).lock().unwrap_err();
        assert!(error.to_string().contains("--data DIR"), "{error}");
    }
}
