//! What the library is started with: its limits, its patience, and the world around it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::fetch::Http;
use super::{Catalogue, LibraryError};
use crate::clock::{Clock, SystemClock};

/// What a user allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// For all downloads together; none for no limit.
    pub bytes_per_second: Option<u64>,
    /// For all models and unfinished downloads together.
    pub quota_bytes: Option<u64>,
}

/// What the library is started with. Only the limits change while it runs.
#[derive(Debug, Clone)]
pub struct LibraryConfig {
    /// Where finished files are; made if it is not there.
    pub models_folder: PathBuf,
    /// For unfinished downloads; on the same disk, or finished files are copied.
    pub partials_folder: PathBuf,
    /// What can be downloaded by name.
    pub catalogue: Catalogue,
    /// What the person allows at the start.
    pub limits: Limits,
    /// Whether downloads wait because it costs by the byte. While that is not known, none begins.
    pub metered: Option<bool>,
    /// How long to wait for what.
    pub timing: Timing,
    /// What is hashed, and fetched again when it is damaged, at a time.
    pub chunk_bytes: u64,
    /// Downloads and imports leave that much of the disk to others.
    pub keep_free_bytes: u64,
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// A connection over which nothing comes for so long is given up.
    pub stall: Duration,
    /// Doubles with each failure.
    pub first_retry: Duration,
    /// Where the doubling ends.
    pub longest_retry: Duration,
    /// Between two changes of the state.
    pub publish: Duration,
    /// What a crash costs at most.
    pub save_every: Duration,
    /// How far back a download's speed looks.
    pub speed_window: Duration,
}

/// What lies outside, so that tests decide it.
#[derive(Clone)]
pub struct LibraryEdges {
    /// The time of day, for retries and files' dates.
    pub clock: Arc<dyn Clock>,
    /// The room that is left.
    pub disk: Arc<dyn DiskSpace>,
    /// The way to the sources.
    pub http: Http,
}

/// The room on a disk.
pub trait DiskSpace: Send + Sync + 'static {
    /// In bytes, for this user, on the disk with that folder; none where it is not known.
    fn free(&self, folder: &Path) -> Option<u64>;
}

/// The real [`DiskSpace`].
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDisk;

impl DiskSpace for SystemDisk {
    fn free(&self, folder: &Path) -> Option<u64> {
        fs4::available_space(folder).ok()
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(15),
            first_retry: Duration::from_secs(1),
            longest_retry: Duration::from_mins(1),
            publish: Duration::from_millis(250),
            save_every: Duration::from_secs(1),
            speed_window: Duration::from_secs(5),
        }
    }
}

impl LibraryConfig {
    /// With the program's own catalogue, and unfinished downloads in a hidden folder.
    pub fn new(models_folder: impl Into<PathBuf>) -> Self {
        let models_folder = models_folder.into();
        Self {
            partials_folder: models_folder.join(".downloads"),
            models_folder,
            catalogue: Catalogue::built_in(),
            limits: Limits::default(),
            metered: Some(false),
            timing: Timing::default(),
            chunk_bytes: 16 << 20,
            keep_free_bytes: 500_000_000,
        }
    }
}

impl LibraryEdges {
    /// The machine's own.
    pub fn system() -> Result<Self, LibraryError> {
        Ok(Self {
            clock: Arc::new(SystemClock),
            disk: Arc::new(SystemDisk),
            http: Http::new(None)?,
        })
    }
}
