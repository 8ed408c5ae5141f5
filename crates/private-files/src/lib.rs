//! Files and folders that only this user may use: by their mode on Unix, by their access list on
//! Windows.
#![deny(missing_docs)]

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

#[cfg(unix)]
use unix as system;
#[cfg(windows)]
use windows as system;

/// Makes a folder, and those above it that are missing. One that exists is left as it is.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    system::create_folder(folder)
}

/// Makes a file that must not exist yet, to be written.
pub fn create(file: &Path) -> io::Result<File> {
    system::create(file)
}

/// Opens a file to write at its end. One that exists keeps its rights.
pub fn append(file: &Path) -> io::Result<File> {
    match create(file) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            OpenOptions::new().append(true).open(file)
        }
        created => created,
    }
}

/// Takes everybody else's rights to a file or folder away. A folder that many are meant to use, as
/// the system's for temporary files, is left as it is, and so is what is not there.
pub fn tighten(path: &Path) -> io::Result<()> {
    match system::tighten(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// Whether another user of the machine, who is not its administrator, may read the file.
pub fn is_open_to_others(file: &File) -> io::Result<bool> {
    system::is_open_to_others(file)
}

/// The command that takes everybody else's rights to a file away.
pub fn command_to_tighten(file: &Path) -> String {
    system::command_to_tighten(file)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn is_open(file: &Path) -> bool {
        is_open_to_others(&File::open(file).unwrap()).unwrap()
    }

    /// As a person's editor makes it.
    fn open_file(folder: &Path) -> std::path::PathBuf {
        let file = folder.join("öffen und weit");
        std::fs::write(&file, "text").unwrap();
        system::open_to_others(&file);
        file
    }

    #[test]
    fn what_is_new_is_private() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("a/b c/ü");
        create_folder(&folder).unwrap();
        create_folder(&folder).unwrap();
        let file = folder.join("key");
        create(&file).unwrap().write_all(b"one").unwrap();
        assert!(!is_open(&file));
        assert_eq!(
            create(&file).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        append(&file).unwrap().write_all(b" two").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"one two");
        let log = folder.join("log");
        append(&log).unwrap().write_all(b"line").unwrap();
        assert!(!is_open(&log));
    }

    #[test]
    fn what_was_open_is_closed() {
        let home = tempfile::tempdir().unwrap();
        let file = open_file(home.path());
        assert!(is_open(&file));
        tighten(&file).unwrap();
        assert!(!is_open(&file));
        assert_eq!(std::fs::read(&file).unwrap(), b"text");
        std::fs::remove_file(&file).unwrap();
        tighten(&file).unwrap();
        assert!(File::open(&file).is_err());
    }

    #[test]
    fn an_opened_files_rights_are_kept() {
        let home = tempfile::tempdir().unwrap();
        let file = open_file(home.path());
        append(&file).unwrap();
        assert!(is_open(&file));
        assert!(command_to_tighten(&file).contains("weit"));
    }
}
