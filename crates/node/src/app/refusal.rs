//! Why a command was not carried out.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::http_link::BadUrl;
use crate::identity::IdentityError;
use crate::library::{BadAddress, LibraryError};
use crate::model_fault::ModelFault;
use crate::node::Ended;
use crate::state::StartFault;
use crate::store::StoreError;

use super::settings::SettingsError;

/// A command that was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// As data, for a window that speaks another language.
    pub refusal: Refusal,
    /// What happened, in one sentence.
    pub message: String,
    /// What the person can do.
    pub remedy: Option<String>,
}

/// The reason as data. A `detail` is what a library or the system says, for a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS, thiserror::Error)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Refusal {
    #[error("The request is not understood: {detail}")]
    Malformed { detail: String },
    /// The loopback HTTP server's: no token, another host's page, too much at once.
    #[error("{detail}")]
    NotAllowed { detail: String },
    #[error("There is no command `{name}`")]
    NoSuchCommand { name: String },
    #[error("There is no such model on this machine")]
    NoSuchModel,
    #[error("{fault}")]
    NotStarted { fault: StartFault },
    #[error("The node is still starting")]
    Starting,
    #[error("The program is ending")]
    Ending,
    #[error("The node's key has a place already")]
    KeyHasPlace,
    #[error("{detail}")]
    KeyNotKept { detail: String },
    #[error("{detail}")]
    SettingsNotKept { detail: String },
    /// The database with the job history.
    #[error("{detail}")]
    History { cause: HistoryFault, detail: String },
    #[error("{model}: {}", fault.message)]
    ModelBroken { model: String, fault: ModelFault },
    #[error("{model} needs {} more GPU memory than there is", infera_protocol::requirements::memory_size(*.missing_bytes))]
    ModelTooLarge { model: String, missing_bytes: u64 },
    #[error("{detail}")]
    NetworkAddress { fault: AddressFault, detail: String },
    #[error("{asked} jobs at once are not possible")]
    JobsAtOnce { asked: u32, most: u32 },
    #[error("A download limit of 0 would never finish")]
    NoDownloadRate,
    #[error("{detail}")]
    Library { cause: LibraryFault, detail: String },
    #[error("Some of it could not be deleted: {}", places.join("; "))]
    NotRemoved { places: Vec<String> },
    /// A file that the person wanted to have saved.
    #[error("The file {path} was not saved: {detail}")]
    NotSaved { path: String, detail: String },
    #[error("This address is not opened from here")]
    AddressNotOpened,
    /// The system opens no dialog, folder or browser.
    #[error("{detail}")]
    Desktop { detail: String },
}

/// What is wrong with the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum HistoryFault {
    Newer,
    Full,
    ReadOnly,
    Locked,
    Damaged,
    Other,
}

/// What is wrong with a network's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum AddressFault {
    NotUrl,
    /// Anyone on the way could read and change what is said.
    PlainHttp,
    Certificates,
}

/// Why the model library does not do what it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum LibraryFault {
    Folder,
    NotInCatalogue,
    NotUrl,
    PlainHttp,
    Password,
    NoDownload,
    Installed,
    NotInstalled,
    InFolder,
    Unreadable,
    Interrupted,
    NotAModel,
    DiskFull,
    OverQuota,
    NotDeleted,
    Certificates,
    Ended,
}

impl Refusal {
    pub(crate) fn malformed(error: &dyn std::error::Error) -> Self {
        Self::Malformed {
            detail: error.to_string(),
        }
    }

    fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotStarted { fault } => return fault.remedy(),
            Self::Starting => "Try again in a moment",
            Self::KeyHasPlace => "Look whether something else keeps the node from starting",
            Self::ModelBroken { .. } => "Choose another model",
            Self::ModelTooLarge { .. } => {
                "Choose a smaller model, another device, or a smaller reserve in the settings"
            }
            Self::JobsAtOnce { .. } => "Choose between 1 and 256",
            Self::NoDownloadRate => "Leave the limit empty, or pause the download",
            Self::NotRemoved { .. } => "Delete it by hand",
            Self::NotSaved { .. } => "Choose another folder, or free some space",
            Self::AddressNotOpened => "Copy it into your browser if you trust it",
            _ => return None,
        })
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self {
            message: refusal.to_string(),
            remedy: refusal.remedy().map(str::to_owned),
            refusal,
        }
    }
}

impl From<SettingsError> for ApiError {
    fn from(error: SettingsError) -> Self {
        let detail = error.to_string();
        Refusal::SettingsNotKept { detail }.into()
    }
}

impl From<IdentityError> for ApiError {
    fn from(error: IdentityError) -> Self {
        let detail = error.to_string();
        Refusal::KeyNotKept { detail }.into()
    }
}

impl From<Ended> for ApiError {
    fn from(_: Ended) -> Self {
        Refusal::Ending.into()
    }
}

impl From<BadUrl> for ApiError {
    fn from(error: BadUrl) -> Self {
        Refusal::NetworkAddress {
            fault: AddressFault::from(&error),
            detail: error.to_string(),
        }
        .into()
    }
}

impl From<&BadUrl> for AddressFault {
    fn from(error: &BadUrl) -> Self {
        match error {
            BadUrl::NotUrl(_) => Self::NotUrl,
            BadUrl::PlainHttp(_) => Self::PlainHttp,
            BadUrl::Tls(_) => Self::Certificates,
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let cause = match error {
            StoreError::Newer(_) => HistoryFault::Newer,
            StoreError::Full(_) => HistoryFault::Full,
            StoreError::ReadOnly(_) => HistoryFault::ReadOnly,
            StoreError::Locked(_) => HistoryFault::Locked,
            StoreError::Damaged(_) => HistoryFault::Damaged,
            StoreError::Other { .. } => HistoryFault::Other,
        };
        let detail = error.to_string();
        Refusal::History { cause, detail }.into()
    }
}

impl From<LibraryError> for ApiError {
    fn from(error: LibraryError) -> Self {
        let cause = match &error {
            LibraryError::Folder { .. } => LibraryFault::Folder,
            LibraryError::NotInCatalogue(_) => LibraryFault::NotInCatalogue,
            LibraryError::BadAddress(BadAddress::NotUrl(_)) => LibraryFault::NotUrl,
            LibraryError::BadAddress(BadAddress::PlainHttp(_)) => LibraryFault::PlainHttp,
            LibraryError::BadAddress(BadAddress::Password) => LibraryFault::Password,
            LibraryError::NoDownload(_) => LibraryFault::NoDownload,
            LibraryError::Installed { .. } => LibraryFault::Installed,
            LibraryError::NotInstalled(_) => LibraryFault::NotInstalled,
            LibraryError::InFolder(_) => LibraryFault::InFolder,
            LibraryError::Unreadable { .. } => LibraryFault::Unreadable,
            LibraryError::Interrupted(_) => LibraryFault::Interrupted,
            LibraryError::NotAModel { .. } => LibraryFault::NotAModel,
            LibraryError::DiskFull { .. } => LibraryFault::DiskFull,
            LibraryError::OverQuota { .. } => LibraryFault::OverQuota,
            LibraryError::NotDeleted { .. } => LibraryFault::NotDeleted,
            LibraryError::Certificates(_) => LibraryFault::Certificates,
            LibraryError::Ended => LibraryFault::Ended,
        };
        let detail = error.to_string();
        Refusal::Library { cause, detail }.into()
    }
}
