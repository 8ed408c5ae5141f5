//! Files that only this user may read: clients' texts and the books are nobody else's.

use std::io;
use std::path::{Path, PathBuf};

use infera_private_files as private_files;

/// Makes a folder that only this user may enter. One that was there is closed to others if it is
/// ours, that is, if `ours` is in it: somebody may have named a folder that many use.
pub(crate) fn folder(folder: &Path, ours: &Path) -> io::Result<()> {
    private_files::create_folder(folder)?;
    if ours.exists() {
        tighten(folder);
    }
    Ok(())
}

/// Makes a file, and what `SQLite` may have put beside it, readable for this user alone.
pub(crate) fn file(path: &Path) -> io::Result<()> {
    if path.parent().is_some_and(Path::is_dir) {
        match private_files::append(path) {
            // What may only be read is told apart by whoever opens it in earnest.
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
    for ending in ["", "-wal", "-shm"] {
        let mut beside = path.as_os_str().to_owned();
        beside.push(ending);
        tighten(&PathBuf::from(beside));
    }
    Ok(())
}

/// Another user's file is left as it is.
fn tighten(path: &Path) {
    if let Err(error) = private_files::tighten(path) {
        tracing::warn!(path = %path.display(), %error, "others may read this");
    }
}

#[cfg(all(test, unix))]
mod tests {
    #![expect(clippy::unwrap_used, reason = "the functions that tests share")]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn set(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_new_is_private_and_what_was_open_is_closed() {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        let database = data.join("it.db");
        folder(&data, &database).unwrap();
        file(&database).unwrap();
        assert_eq!((mode(&data), mode(&database)), (0o700, 0o600));
        let log = data.join("it.db-wal");
        std::fs::write(&log, "text").unwrap();
        set(&data, 0o755);
        set(&database, 0o644);
        set(&log, 0o644);
        folder(&data, &database).unwrap();
        file(&database).unwrap();
        assert_eq!(
            (mode(&data), mode(&database), mode(&log)),
            (0o700, 0o600, 0o600)
        );
    }

    #[test]
    fn a_folder_of_others_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        set(home.path(), 0o755);
        folder(home.path(), &home.path().join("it.db")).unwrap();
        assert_eq!(mode(home.path()), 0o755);
        std::fs::write(home.path().join("it.db"), "").unwrap();
        set(home.path(), 0o1777);
        folder(home.path(), &home.path().join("it.db")).unwrap();
        assert_eq!(mode(home.path()), 0o1777);
    }
}
