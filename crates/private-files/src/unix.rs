use std::fs::{DirBuilder, File, OpenOptions, Permissions, metadata, set_permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

const OTHERS: u32 = 0o077;
const STICKY: u32 = 0o1000;

pub(super) fn create_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

pub(super) fn create(file: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create_new(true).mode(0o600).open(file)
}

pub(super) fn tighten(path: &Path) -> io::Result<()> {
    let mode = metadata(path)?.permissions().mode();
    if mode & OTHERS == 0 || mode & STICKY != 0 {
        return Ok(());
    }
    set_permissions(path, Permissions::from_mode(mode & !OTHERS))
}

pub(super) fn is_open_to_others(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.permissions().mode() & OTHERS != 0)
}

pub(super) fn command_to_tighten(file: &Path) -> String {
    format!("chmod go= '{}'", file.display())
}

#[cfg(test)]
pub(super) fn open_to_others(path: &Path) {
    assert!(set_permissions(path, Permissions::from_mode(0o644)).is_ok());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_many_use_stays_open() {
        let home = tempfile::tempdir().unwrap();
        let mode = || metadata(home.path()).unwrap().permissions().mode() & 0o7777;
        for (before, after) in [(0o1777, 0o1777), (0o755, 0o700), (0o540, 0o500)] {
            set_permissions(home.path(), Permissions::from_mode(before)).unwrap();
            tighten(home.path()).unwrap();
            assert_eq!(mode(), after);
        }
    }
}
