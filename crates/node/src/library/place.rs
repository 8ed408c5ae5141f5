//! Moves a finished file into the models folder: complete or not at all, and never over another.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::names;

/// Gives the path it got: a taken name gets a number. Both folders may be on different disks.
pub(super) fn place(from: &Path, folder: &Path, name: &str) -> io::Result<PathBuf> {
    let target = reserve(folder, name)?;
    let moved = match fs::rename(from, &target) {
        Err(fault) if fault.kind() == io::ErrorKind::CrossesDevices => copy(from, &target),
        other => other,
    };
    match moved {
        Ok(()) => Ok(target),
        Err(fault) => {
            // Only the empty file that took the name.
            let _ = fs::remove_file(&target);
            Err(fault)
        }
    }
}

/// Takes a free name with an empty file, so that no one else gets it.
fn reserve(folder: &Path, name: &str) -> io::Result<PathBuf> {
    for attempt in 1..1000 {
        let path = folder.join(names::numbered(name, attempt));
        match File::create_new(&path) {
            Ok(_) => return Ok(path),
            Err(fault) if fault.kind() == io::ErrorKind::AlreadyExists => {}
            Err(fault) => return Err(fault),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AlreadyExists,
        "a thousand files have that name",
    ))
}

fn copy(from: &Path, target: &Path) -> io::Result<()> {
    let draft = target.with_extension("tmp");
    let copied = fs::copy(from, &draft)
        .and_then(|_| File::options().write(true).open(&draft)?.sync_all())
        .and_then(|()| fs::rename(&draft, target));
    match copied {
        Ok(()) => fs::remove_file(from),
        Err(fault) => {
            let _ = fs::remove_file(&draft);
            Err(fault)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_name_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let models = folder.path().join("models");
        fs::create_dir(&models).unwrap();
        for (content, expected) in [("1", "a.gguf"), ("2", "a (2).gguf"), ("3", "a (3).gguf")] {
            let from = folder.path().join("draft");
            fs::write(&from, content).unwrap();
            let placed = place(&from, &models, "a.gguf").unwrap();
            assert_eq!(placed, models.join(expected));
            assert_eq!(fs::read_to_string(placed).unwrap(), content);
            assert!(!from.exists());
        }
    }

    #[test]
    fn a_move_that_fails_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        place(&folder.path().join("absent"), folder.path(), "a.gguf").unwrap_err();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_copy_replaces_a_move_between_disks() {
        let folder = tempfile::tempdir().unwrap();
        let (from, target) = (folder.path().join("from"), folder.path().join("a.gguf"));
        fs::write(&from, "content").unwrap();
        File::create_new(&target).unwrap();
        copy(&from, &target).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "content");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
