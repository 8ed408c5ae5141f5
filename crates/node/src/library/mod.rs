//! Model files on this machine: the catalogue, downloads that finish, and what is installed.

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
    pub name: String,
    /// One sentence by language: what it is good for.
    pub summary: BTreeMap<String, String>,
    /// The model's parameters, in billions.
    pub parameters_billions: f32,
    /// An SPDX identifier, or the licence's own name.
    pub licence: String,
    pub licence_url: String,
    pub quantisation: String,
    pub bytes: u64,
    pub context_tokens: u32,
    /// Weights, KV cache for a conversation and working space.
    pub minimum_vram_bytes: u64,
    /// Where it comes from; tried in order.
    pub sources: Vec<String>,
}

/// A catalogue entry as this machine and this network see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct CatalogueItem {
    pub entry: CatalogueEntry,
    pub fit: Fit,
    pub installed: bool,
    /// The best one for this machine.
    pub suggested: bool,
}

/// Whether a model fits the chosen device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "fit", rename_all = "snake_case")]
pub enum Fit {
    Fits {
        spare_bytes: u64,
    },
    TooLarge {
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
    pub architecture: String,
    pub quantisation: String,
    pub bytes: u64,
    pub context_tokens: u32,
    pub licence: Option<String>,
    /// Known once it has been loaded.
    pub id: Option<ModelId>,
    /// Its entry in the catalogue, if it came from there.
    pub catalogue_id: Option<String>,
    pub added_ms: i64,
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
    Catalogue { id: String },
    Url { url: String },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Download {
    pub id: String,
    pub name: String,
    /// The source that is used.
    pub url: String,
    pub done_bytes: u64,
    /// None until the server has told.
    pub total_bytes: Option<u64>,
    /// Over the last seconds; none while nothing comes.
    pub bytes_per_second: Option<f64>,
    pub seconds_left: Option<u64>,
    pub state: DownloadState,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum DownloadState {
    /// Another one is first.
    Queued,
    Running,
    /// Nothing comes; it is tried again by itself.
    Stalled {
        message: String,
        retry_at_ms: i64,
    },
    /// By the user.
    Paused,
    Verifying {
        done_bytes: u64,
    },
    /// It goes on when the user asks.
    Failed {
        code: DownloadFault,
        message: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum DownloadFault {
    /// The disk has too little room.
    DiskFull,
    /// The user's quota for models has.
    OverQuota,
    /// What came is not what the catalogue promises.
    WrongHash,
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
    pub id: u64,
    pub name: String,
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
