//! Why the library does not do what it is asked.

use std::io;
use std::path::{Path, PathBuf};

use super::DownloadFault;

/// What went wrong with a model file, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// The models folder, or the one for unfinished downloads, cannot be made or used.
    #[error("the folder {} cannot be used: {fault}. Make it writable, or choose another one in the settings", folder.display())]
    Folder {
        /// Which of them.
        folder: PathBuf,
        /// What the system says.
        fault: io::Error,
    },
    /// No entry has this id.
    #[error("`{0}` is not in the catalogue: choose one of its models")]
    NotInCatalogue(String),
    /// Nothing is downloaded from this address.
    #[error("{0}")]
    BadAddress(#[from] BadAddress),
    /// No download has this id.
    #[error("there is no download `{0}` any more: it is finished or was cancelled")]
    NoDownload(String),
    /// The catalogue's entry is there already.
    #[error("{name} is installed already: delete it first to download it again")]
    Installed {
        /// The installed model's name.
        name: String,
    },
    /// The file that is to be deleted is none of the models folder.
    #[error("{} is no model file of this machine: refresh the list, and choose one of it", .0.display())]
    NotInstalled(PathBuf),
    /// The file that is to be imported is in the models folder already.
    #[error("{} is in the models folder already", .0.display())]
    InFolder(PathBuf),
    /// The file that is to be imported cannot be opened or read.
    #[error("{} cannot be read: {fault}. Choose a file that you can open", path.display())]
    Unreadable {
        /// The person's file.
        path: PathBuf,
        /// What the system says.
        fault: io::Error,
    },
    /// The sender broke off, in its words; nothing is kept.
    #[error("the file did not arrive completely: {0}. Choose it again")]
    Interrupted(String),
    /// The file is no GGUF file, or a damaged one.
    #[error("{reason} Choose a GGUF file of a model")]
    NotAModel {
        /// What is wrong with it, as a whole sentence.
        reason: String,
    },
    /// The disk would have less free than is left to others.
    #[error("{} are missing on the disk: free some space, or move the models folder", size(*.missing_bytes))]
    DiskFull {
        /// What has to be freed.
        missing_bytes: u64,
    },
    /// Models would take more than the person allows.
    #[error("{} too much for what you allow models to take: delete a model, or raise the limit in the settings", size(*.missing_bytes))]
    OverQuota {
        /// What has to be deleted, or allowed.
        missing_bytes: u64,
    },
    /// The system does not delete it.
    #[error("{} cannot be deleted: {fault}. Close the programs that use it and try again", path.display())]
    NotDeleted {
        /// The model file.
        path: PathBuf,
        /// What the system says.
        fault: io::Error,
    },
    /// The certificates to trust cannot be used, in the words of a library.
    #[error("the certificates cannot be used: {0}. Name a file with PEM certificates")]
    Certificates(String),
    /// The library was closed: the program is ending.
    #[error("the model library has ended: start the program again")]
    Ended,
}

/// An address from which nothing is downloaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// It has no scheme or host.
    #[error("`{0}` is not a web address: write it like `https://models.example/model.gguf`")]
    NotUrl(String),
    /// Anyone on the way could change the file.
    #[error("`{0}` is plain HTTP, which anyone on the way could change: use https://")]
    PlainHttp(String),
    /// It would stand in the download's record and in logs.
    #[error("an address with a password is not kept: use one without")]
    Password,
}

impl LibraryError {
    /// What kind of fault it is, where the window acts on it.
    pub fn fault(&self) -> Option<DownloadFault> {
        match self {
            Self::Folder { .. } | Self::NotDeleted { .. } => Some(DownloadFault::Storage),
            Self::NotAModel { .. } => Some(DownloadFault::NotAModel),
            Self::DiskFull { .. } => Some(DownloadFault::DiskFull),
            Self::OverQuota { .. } => Some(DownloadFault::OverQuota),
            _ => None,
        }
    }

    /// From a failed write into that folder.
    pub(super) fn writing(folder: &Path, fault: io::Error) -> Self {
        if is_full(&fault) {
            Self::DiskFull { missing_bytes: 0 }
        } else {
            Self::Folder {
                folder: folder.to_owned(),
                fault,
            }
        }
    }
}

pub(super) fn is_full(fault: &io::Error) -> bool {
    matches!(
        fault.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// `1.2 GB`; a size that is not known, or too small to matter, is `a few MB`.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => "a few MB".to_owned(),
        1_000_000..1_000_000_000 => format!("{} MB", bytes.div_ceil(1_000_000)),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_a_person_reads_them() {
        for (bytes, text) in [
            (0, "a few MB"),
            (1_000_000, "1 MB"),
            (1_000_001, "2 MB"),
            (999_000_000, "999 MB"),
            (4_680_000_000, "4.7 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_full_disk_is_told_from_a_closed_folder() {
        let folder = Path::new("models");
        let full = LibraryError::writing(folder, io::ErrorKind::StorageFull.into());
        assert_eq!(full.fault(), Some(DownloadFault::DiskFull));
        let closed = LibraryError::writing(folder, io::ErrorKind::PermissionDenied.into());
        assert_eq!(closed.fault(), Some(DownloadFault::Storage));
        assert!(closed.to_string().contains("Make it writable"), "{closed}");
    }
}
