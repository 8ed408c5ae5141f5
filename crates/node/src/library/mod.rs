//! Model files on this machine: the catalogue, downloads that finish, and what is installed.

#![deny(missing_docs)]

mod actor;
mod catalogue;
mod chunks;
mod config;
mod download;
mod error;
mod fetch;
mod file_check;
mod fit;
mod import;
mod installed;
mod names;
mod partial;
mod place;
mod rate;

use std::collections::BTreeMap;

use infera_protocol::ModelId;
use infera_protocol::node_api::Price;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::model_fault::ModelFault;

pub use actor::{Library, LibraryState};
pub use catalogue::{Catalogue, CatalogueError};
pub use config::{DiskSpace, LibraryConfig, LibraryEdges, Limits, SystemDisk, Timing};
pub use error::{BadAddress, LibraryError};
pub use fetch::Http;
pub use fit::{DeviceMemory, KvShape, fit, needed_bytes, suggest};
pub use installed::InstalledFile;

/// A model that can be downloaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct CatalogueEntry {
    /// `smollm2-135m-instruct-q4_1`.
    pub id: String,
    /// What people call it; it is not translated.
    pub name: String,
    /// One sentence by language: what it is good for.
    pub summary: BTreeMap<String, String>,
    /// The model's parameters, in billions.
    pub parameters_billions: f32,
    /// An SPDX identifier, or the licence's own name.
    pub licence: String,
    /// Its text on the web, for the person to read before they download.
    pub licence_url: String,
    /// How the weights are stored, as in `Q4_K_M`.
    pub quantisation: String,
    /// The file's size; what a download takes of line and disk.
    pub bytes: u64,
    /// The longest context that the model was trained for, prompt and answer together.
    pub context_tokens: u32,
    /// Weights, KV cache for a conversation and working space.
    pub minimum_vram_bytes: u64,
    /// Where it comes from; tried in order.
    pub sources: Vec<String>,
}

/// A catalogue entry as this machine and this network see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct CatalogueItem {
    /// What the catalogue says of it.
    pub entry: CatalogueEntry,
    /// Whether it fits the chosen device beside the reserve.
    pub fit: Fit,
    /// The models folder has the file.
    pub installed: bool,
    /// The best one for this machine.
    pub suggested: bool,
}

/// Whether a model fits the chosen device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "fit", rename_all = "snake_case")]
pub enum Fit {
    /// It can be put to use.
    Fits {
        /// Device memory that stays free beside it and the reserve.
        spare_bytes: u64,
    },
    /// It is shown, and cannot be put to use.
    TooLarge {
        /// Device memory that it needs beyond what there is, the reserve included.
        missing_bytes: u64,
    },
    /// No GPU is used: it runs in main memory, slowly.
    OnCpu,
    /// The device does not tell its memory.
    Unknown,
}

/// A model file on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct InstalledModel {
    /// Its path; what commands name it by.
    pub path: String,
    /// From the file's metadata, or the file's name.
    pub name: String,
    /// From the file's metadata, as in `llama`; empty if it cannot be read.
    pub architecture: String,
    /// How most weights are stored, as in `Q4_K_M`; empty if it cannot be read.
    pub quantisation: String,
    /// The file's size.
    pub bytes: u64,
    /// The longest context that the model was trained for; 0 if the file does not tell.
    pub context_tokens: u32,
    /// As the file's metadata names it; none if it does not tell.
    pub licence: Option<String>,
    /// Known once it has been loaded.
    pub id: Option<ModelId>,
    /// Its entry in the catalogue, if it came from there.
    pub catalogue_id: Option<String>,
    /// When the file came or was last changed: Unix time in milliseconds.
    pub added_ms: i64,
    /// Whether it fits the chosen device beside the reserve; unknown for a file that cannot be
    /// used.
    pub fit: Fit,
    /// The node answers jobs with it.
    pub in_use: bool,
    /// What the network pays; none if it does not serve the model, or that is unknown.
    pub price: Option<Price>,
    /// Why it cannot be used, in one sentence.
    pub fault: Option<ModelFault>,
}

/// What to download: an entry of the catalogue, or any HTTPS address of a GGUF file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "from", rename_all = "snake_case", deny_unknown_fields)]
pub enum DownloadRequest {
    /// An entry, which names the sources.
    Catalogue {
        /// `CatalogueEntry.id`.
        id: String,
    },
    /// A file that the catalogue does not name.
    Url {
        /// An HTTPS address without a name or a password in it.
        url: String,
    },
}

/// A file that is on its way into the models folder, or waits for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Download {
    /// What commands name it by; it stays the same when the program is started again.
    pub id: String,
    /// The model's name from the catalogue, else the file's.
    pub name: String,
    /// The source that is used.
    pub url: String,
    /// What is on the disk, also from earlier runs.
    pub done_bytes: u64,
    /// None until the server has told.
    pub total_bytes: Option<u64>,
    /// Over the last seconds; none while nothing comes.
    pub bytes_per_second: Option<f64>,
    /// At the speed of the last seconds; none while that or the size is unknown.
    pub seconds_left: Option<u64>,
    /// What it does now. A finished one is no download any more.
    pub state: DownloadState,
}

/// What a download does now. One at a time is fetched; the others wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum DownloadState {
    /// Another one is first.
    Queued,
    /// It is being fetched.
    Running,
    /// Nothing comes; it is tried again by itself.
    Stalled {
        /// What went wrong last, in one sentence in English.
        message: String,
        /// Unix time in milliseconds of the next try.
        retry_at_ms: i64,
    },
    /// By the user.
    Paused,
    /// It costs by the byte to go on: it does by itself over another connection.
    Metered {
        /// The same in one sentence in English.
        message: String,
    },
    /// All has come, and is read once more: only what is whole becomes a model.
    Verifying {
        /// What of the file has been read for it, of `Download.total_bytes`.
        done_bytes: u64,
    },
    /// It goes on when the user asks.
    Failed {
        /// What kind of fault; the window knows for each what to do.
        code: DownloadFault,
        /// The same with numbers, in one sentence in English.
        message: String,
    },
}

/// Why a download does not go on by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum DownloadFault {
    /// The disk has too little room.
    DiskFull,
    /// The user's quota for models has.
    OverQuota,
    /// What came is not what the catalogue promises.
    WrongHash,
    /// No source answers, however often it was tried.
    Unreachable,
    /// The server says no: the file is gone, or needs a login.
    Refused,
    /// It is no GGUF file.
    NotAModel,
    /// The models folder cannot be written.
    Storage,
}

/// A file that is being copied into the models folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Import {
    /// Counted from the program's start, to tell two files of the same name apart.
    pub id: u64,
    /// The file's name.
    pub name: String,
    /// What has been copied.
    pub done_bytes: u64,
    /// None where the sender did not tell.
    pub total_bytes: Option<u64>,
}

/// What models take on the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct DiskUse {
    /// Installed models in the models folder.
    pub models_bytes: u64,
    /// Downloads that are not finished.
    pub partial_bytes: u64,
    /// On that disk; none while unknown.
    pub free_bytes: Option<u64>,
    /// As set by the user.
    pub quota_bytes: Option<u64>,
}
