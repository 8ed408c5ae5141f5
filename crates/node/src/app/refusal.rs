//! Why a command was not carried out.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::account::linking::LinkFault;
use crate::account::place::KeptKeyError;
use crate::account::words::WordsFault;
use crate::http_link::BadUrl;
use crate::identity::IdentityError;
use crate::library::{BadAddress, LibraryError};
pub use crate::look_up::InvitationFault;
use crate::look_up::NotFound;
use crate::model_fault::ModelFault;
use crate::networks::{BadNetworks, MOST_NETWORKS, NetworksError};
use crate::node::Ended;
use crate::state::StartFault;
use crate::store::StoreError;
use crate::unreachable::Unreachable;

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
    /// A request of another form: from another version, or not from a window of ours.
    #[error("The request is not understood: {detail}")]
    Malformed {
        /// What does not fit, as the JSON reader says it.
        detail: String,
    },
    /// The loopback HTTP server's: no token, another host's page, too much at once.
    #[error("{detail}")]
    NotAllowed {
        /// Which rule was broken, in one sentence.
        detail: String,
    },
    /// A command of another version, or none of ours.
    #[error("There is no command `{name}`")]
    NoSuchCommand {
        /// The command that was asked for.
        name: String,
    },
    /// No installed file has this path: it was deleted meanwhile.
    #[error("There is no such model on this machine")]
    NoSuchModel,
    /// No device that computes has this id: it was never chosen, or is no longer.
    #[error("There is no such device among those that compute")]
    NoSuchDevice,
    /// Somebody is always away for a minute, and never for more than a day.
    #[error("After how many minutes you are away must be from 1 to {most}, not {asked}")]
    AwayMinutes {
        /// What was to be set.
        asked: u32,
        /// The most that can be.
        most: u32,
    },
    /// A number in a rule that makes no sense there.
    #[error("{setting} must be from {least} to {most}, not {asked}")]
    OutOfRange {
        /// Its path: `rules.gpu.heat.celsius`.
        setting: String,
        /// What was to be set.
        asked: u32,
        /// The least that can be.
        least: u32,
        /// The most that can be.
        most: u32,
    },
    /// A schedule without any hours: the node would never work.
    #[error("The schedule has no hours: choose some, or switch it off")]
    NoHours,
    /// There is no node that could do it.
    #[error("{fault}")]
    NotStarted {
        /// What keeps it from starting.
        fault: StartFault,
    },
    /// The node was not up within ten seconds.
    #[error("The node is still starting")]
    Starting,
    /// Nothing is begun any more.
    #[error("The program is ending")]
    Ending,
    /// A key file is only for a machine without a keychain, and this one has its key.
    #[error("The node's key has a place already")]
    KeyHasPlace,
    /// The key file cannot be written, or one is there that cannot be read.
    #[error("{detail}")]
    KeyNotKept {
        /// File and fault, and what to do.
        detail: String,
    },
    /// The settings' file cannot be written; nothing was changed.
    #[error("{detail}")]
    SettingsNotKept {
        /// File and fault, and what to do.
        detail: String,
    },
    /// The database with the job history.
    #[error("{detail}")]
    History {
        /// What is wrong with it.
        cause: HistoryFault,
        /// What the database says, and what to do.
        detail: String,
    },
    /// A model that cannot be loaded is not put to use, asked or measured.
    #[error("{model}: {}", fault.message)]
    ModelBroken {
        /// Its name, as in `InstalledModel.name`.
        model: String,
        /// Why it cannot be loaded.
        fault: ModelFault,
    },
    /// A model that does not fit the chosen device is not put to use.
    #[error("{model} needs {} more GPU memory than there is", infera_protocol::requirements::memory_size(*.missing_bytes))]
    ModelTooLarge {
        /// Its name, as in `InstalledModel.name`.
        model: String,
        /// Device memory that it needs beyond what there is, the reserve included.
        missing_bytes: u64,
    },
    /// No node may use this network's address; the one before stays.
    #[error("{detail}")]
    NetworkAddress {
        /// What is wrong with it.
        fault: AddressFault,
        /// The same with the address, and how to write it.
        detail: String,
    },
    /// Nobody joins by this invitation.
    #[error("{detail}")]
    Invitation {
        /// What is wrong with it.
        fault: InvitationFault,
        /// The same, with what to do.
        detail: String,
    },
    /// The network that was to be joined does not answer, or not with what it was asked for.
    #[error("The network at {url} cannot be asked: {reason}")]
    NetworkSilent {
        /// Its whole address.
        url: String,
        /// What the try met with.
        reason: Unreachable,
    },
    /// The network is none of those that were joined.
    #[error("{}", NetworksError::NotJoined)]
    NotJoined,
    /// The list of networks is full.
    #[error("{}", NetworksError::TooMany)]
    TooManyNetworks {
        /// The most that can be.
        most: u32,
    },
    /// No network is active.
    #[error("No network is active: join one, or choose one of those that you have joined")]
    NoNetwork,
    /// An operator that has a certificate of the usual authorities needs to give none out.
    #[error("This network gives no certificate out")]
    NoCertificate,
    /// A machine has one account, and its key is not given away by a second one.
    #[error("This machine has an account already")]
    HasAccount,
    /// There is nothing to show, spend or leave.
    #[error("This machine has no account")]
    NoAccount,
    /// This machine is the account's, and does not speak for it.
    #[error("The key of this machine's account is on another machine")]
    AccountElsewhere,
    /// The account would be lost with it.
    #[error("This machine has the account's key, so it is the account's")]
    KeyIsHere,
    /// The account's key cannot be read or kept.
    #[error("{detail}")]
    AccountKey {
        /// Where it is, what is wrong, and what to do.
        detail: String,
    },
    /// Words that are no account's.
    #[error("{fault}")]
    AccountWords {
        /// What is wrong with them.
        fault: WordsFault,
    },
    /// A linking code that is of no use.
    #[error("{fault}")]
    Link {
        /// What is wrong with it.
        fault: LinkFault,
    },
    /// The balancer does not do for the account what it was asked for.
    #[error("{detail}")]
    Account {
        /// Why.
        fault: AccountFault,
        /// The same in the balancer's words.
        detail: String,
    },
    /// A number out of bounds.
    #[error("{asked} jobs at once are not possible")]
    JobsAtOnce {
        /// The number that was asked for.
        asked: u32,
        /// The highest that is possible; the lowest is 1.
        most: u32,
    },
    /// A limit of no bytes a second. No limit is none, not 0.
    #[error("A download limit of 0 would never finish")]
    NoDownloadRate,
    /// The model library does not do it.
    #[error("{detail}")]
    Library {
        /// What stands in the way.
        cause: LibraryFault,
        /// The same with file and numbers, and what to do.
        detail: String,
    },
    /// "Remove everything" left something; the program ends nevertheless.
    #[error("Some of it could not be deleted: {}", places.join("; "))]
    NotRemoved {
        /// Each with its path and the system's words, for the person to delete by hand.
        places: Vec<String>,
    },
    /// A file that the person wanted to have saved.
    #[error("The file {path} was not saved: {detail}")]
    NotSaved {
        /// Where it was to go.
        path: String,
        /// What the system says.
        detail: String,
    },
    /// The desktop program opens only what it names itself: a page that was taken over can open
    /// nothing else.
    #[error("This address is not opened from here")]
    AddressNotOpened,
    /// The system opens no dialog, folder or browser.
    #[error("{detail}")]
    Desktop {
        /// What the system says.
        detail: String,
    },
}

/// What is wrong with the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum HistoryFault {
    /// A newer version of the program wrote it.
    Newer,
    /// The disk has no room left for it.
    Full,
    /// It, or the data folder, cannot be written.
    ReadOnly,
    /// Another program keeps it locked.
    Locked,
    /// What is in it cannot be read. Points are safe: the network counts them.
    Damaged,
    /// What none of these says.
    Other,
}

/// Why a balancer does not do what an account asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum AccountFault {
    /// The account has no machine in this network, and so nothing else there.
    NoMachine,
    /// It has as many of them as it may.
    Full,
    /// It has a key of this name.
    NameTaken,
    /// It has no such key or machine.
    NoSuch,
    /// A name or a number that cannot be.
    Malformed,
}

/// What is wrong with a network's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum AddressFault {
    /// It has no scheme or host that a node could speak to.
    NotUrl,
    /// Anyone on the way could read and change what is said.
    PlainHttp,
    /// The PEM certificates that are to be trusted beside the system's cannot be used.
    Certificates,
}

/// Why the model library does not do what it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum LibraryFault {
    /// The models folder cannot be made, read or written.
    Folder,
    /// The catalogue has no entry of this id: another version of the program had.
    NotInCatalogue,
    /// A model's address is none.
    NotUrl,
    /// Anyone on the way could change the file.
    PlainHttp,
    /// An address with a password would stand in the download's record and in logs.
    Password,
    /// The download is finished or was cancelled.
    NoDownload,
    /// What is to be downloaded is there already.
    Installed,
    /// The file that is to be deleted is none of the models folder.
    NotInstalled,
    /// The file that is to be imported is in the models folder already.
    InFolder,
    /// The file that is to be imported cannot be opened or read.
    Unreadable,
    /// An upload broke off; nothing of it is kept.
    Interrupted,
    /// The file is no GGUF file, or a damaged one.
    NotAModel,
    /// The disk has too little room for the file beside what is left to others.
    DiskFull,
    /// Models would take more than the person allows them.
    OverQuota,
    /// The system does not delete the file: another program may hold it open.
    NotDeleted,
    /// The certificates to trust cannot be used for downloads.
    Certificates,
    /// The program is ending.
    Ended,
}

impl Refusal {
    pub(crate) fn malformed(error: &dyn std::error::Error) -> Self {
        Self::Malformed {
            detail: error.to_string(),
        }
    }

    fn remedy(&self) -> Option<String> {
        let text = match self {
            Self::NotStarted { fault } => return fault.remedy().map(str::to_owned),
            Self::Starting => "Try again in a moment",
            Self::KeyHasPlace => "Look whether something else keeps the node from starting",
            Self::ModelBroken { .. } => "Choose another model",
            Self::ModelTooLarge { .. } => {
                "Choose a smaller model, another device, or a smaller reserve in the settings"
            }
            Self::OutOfRange { least, most, .. } => {
                return Some(format!("Choose between {least} and {most}"));
            }
            Self::JobsAtOnce { most, .. } => return Some(format!("Choose between 1 and {most}")),
            Self::NoNetwork => "`infera join LINK` joins one by its invitation",
            Self::NoCertificate => "Programs know it by the usual authorities, or ask its operator",
            Self::HasAccount => "Remove it from this machine first, once you have its words",
            Self::NoAccount => {
                "Create an account, restore one from its words, or link this machine by a code"
            }
            Self::AccountElsewhere => {
                "Do this on the machine with the account, or restore the account here from its words"
            }
            Self::KeyIsHere => "Remove the account from this machine instead",
            Self::NoDownloadRate => "Leave the limit empty, or pause the download",
            Self::NotRemoved { .. } => "Delete it by hand",
            Self::NotSaved { .. } => "Choose another folder, or free some space",
            Self::AddressNotOpened => "Copy it into your browser if you trust it",
            _ => return None,
        };
        Some(text.to_owned())
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self {
            message: refusal.to_string(),
            remedy: refusal.remedy(),
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

impl From<KeptKeyError> for ApiError {
    fn from(error: KeptKeyError) -> Self {
        let detail = error.to_string();
        Refusal::AccountKey { detail }.into()
    }
}

impl From<LinkFault> for ApiError {
    fn from(fault: LinkFault) -> Self {
        Refusal::Link { fault }.into()
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

impl From<NotFound> for ApiError {
    fn from(error: NotFound) -> Self {
        match error {
            NotFound::Address(error) => error.into(),
            NotFound::Invitation(fault) => Refusal::Invitation {
                fault,
                detail: fault.to_string(),
            }
            .into(),
            NotFound::NoAnswer { url, error } => Refusal::NetworkSilent {
                url,
                reason: error.reason(),
            }
            .into(),
        }
    }
}

impl From<NetworksError> for ApiError {
    fn from(error: NetworksError) -> Self {
        match error {
            NetworksError::NotJoined => Refusal::NotJoined,
            NetworksError::TooMany => Refusal::TooManyNetworks {
                most: MOST_NETWORKS as u32,
            },
        }
        .into()
    }
}

impl From<BadNetworks> for ApiError {
    fn from(error: BadNetworks) -> Self {
        match error {
            BadNetworks::Address(error) => error.into(),
            BadNetworks::List(error) => error.into(),
        }
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
