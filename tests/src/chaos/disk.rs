//! A disk of its own for one process, which can be filled to the last byte.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use xtask::Result;

/// A tmpfs. It goes with the last process that sees it ([`hide_mounts`]).
pub(crate) struct Disk {
    folder: PathBuf,
    ballast: PathBuf,
}

/// Keeps mounts of this thread, and of the processes that it starts, to themselves: whatever ends
/// us leaves no mount behind. Fails where mounting is not allowed.
pub(crate) fn hide_mounts() -> Result<()> {
    // SAFETY: of file descriptors nothing is unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS)? };
    let all_private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    Ok(mount_change("/", all_private)?)
}

impl Disk {
    /// An empty disk in place of `folder`, which is made.
    pub(crate) fn mount(folder: &Path, bytes: u64) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let options = std::ffi::CString::new(format!("size={bytes},mode=0700"))?;
        mount(
            "chaos",
            folder,
            "tmpfs",
            MountFlags::NOSUID | MountFlags::NODEV,
            options.as_c_str(),
        )?;
        Ok(Self {
            folder: folder.to_owned(),
            ballast: folder.join("ballast"),
        })
    }

    /// Takes what is free. What the process frees later is taken by the next call.
    pub(crate) fn fill(&self) {
        let Ok(mut file) = self.open() else {
            return;
        };
        let mut piece = vec![0; 1 << 20];
        while !piece.is_empty() {
            // A write may be a part of what was asked.
            if file.write(&piece).unwrap_or(0) == 0 {
                piece.truncate(piece.len() / 2);
            }
        }
    }

    pub(crate) fn empty(&self) -> Result<()> {
        // It is not there when the disk was never filled.
        match std::fs::remove_file(&self.ballast) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn open(&self) -> std::io::Result<File> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.ballast)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Where it is still in use, it goes with its last user.
        let _ = unmount(&self.folder, UnmountFlags::DETACH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_takes_nothing_until_it_is_emptied() {
        let folder = tempfile::tempdir().unwrap();
        if hide_mounts().is_err() {
            // Only root may mount.
            return;
        }
        let disk = Disk::mount(folder.path(), 1 << 20).unwrap();
        let file = folder.path().join("file");
        disk.fill();
        let full = std::fs::write(&file, [1; 8192]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        disk.empty().unwrap();
        std::fs::write(&file, [1; 8192]).unwrap();
        drop(disk);
        assert!(!file.exists());
    }
}
