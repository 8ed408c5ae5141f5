//! The library itself: one task that owns the list of files and the queue of downloads.

mod downloads;
mod shelf;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::downloads::{ended, renew};
use crate::library::config::{LibraryConfig, LibraryEdges, Limits};
use crate::library::download::{Outcome, Shared, Signal, View, blocking};
use crate::library::import::{Cancel, Draft, copy};
use crate::library::installed::{InstalledFile, Provenance, Shelf};
use crate::library::partial::{Record, load_all};
use crate::library::rate::{Bucket, Speed};
use crate::library::{
    Catalogue, CatalogueEntry, DiskUse, Download, DownloadRequest, Import, LibraryError,
};

/// The model files of this machine. Clones share it; it ends with the last one.
///
/// One program at a time may use a folder: the node's lock on its data folder sees to that.
#[derive(Clone)]
pub struct Library {
    commands: mpsc::UnboundedSender<Command>,
    state: watch::Receiver<LibraryState>,
    limits: Arc<watch::Sender<Limits>>,
    shared: Arc<Shared>,
    catalogue: Arc<Catalogue>,
}

/// Everything that is to be seen. Progress changes it at most four times a second.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LibraryState {
    /// By name.
    pub installed: Vec<InstalledFile>,
    /// In the order they were asked for; the finished ones are gone.
    pub downloads: Vec<Download>,
    /// Files that are being copied into the models folder, in the order they came.
    pub imports: Vec<Import>,
    /// What models take, and what is left.
    pub disk: DiskUse,
}

impl fmt::Debug for Library {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Library")
            .field("models_folder", &self.shared.models_folder)
            .finish_non_exhaustive()
    }
}

impl Library {
    /// Reads what is there, and goes on with the downloads that were not paused.
    pub async fn open(config: LibraryConfig, edges: LibraryEdges) -> Result<Self, LibraryError> {
        let (limits, limits_seen) = watch::channel(config.limits);
        let shared = Arc::new(Shared {
            models_folder: config.models_folder,
            partials_folder: config.partials_folder,
            chunk_bytes: config.chunk_bytes,
            keep_free_bytes: config.keep_free_bytes,
            timing: config.timing,
            http: edges.http,
            clock: edges.clock,
            disk: edges.disk,
            limits: limits_seen,
            used: AtomicU64::new(0),
            used_elsewhere: AtomicU64::new(0),
            bucket: Mutex::new(Bucket::new(Instant::now())),
            imports: watch::Sender::default(),
            metered: AtomicBool::new(config.metered != Some(false)),
        });
        let (models, partials) = (&shared.models_folder, &shared.partials_folder);
        for folder in [models, partials] {
            let made = folder.clone();
            blocking(move || std::fs::create_dir_all(made))
                .await
                .map_err(|fault| unusable(folder, fault))?;
        }
        let folder = partials.clone();
        let (records, shelf) = blocking(move || {
            let records = load_all(&folder)?;
            Ok((records, Shelf::load(&folder)))
        })
        .await
        .map_err(|fault| unusable(partials, fault))?;

        let catalogue = Arc::new(config.catalogue);
        let queue = records
            .into_iter()
            .map(|record| renew(record, &catalogue))
            .collect();
        let (state, state_seen) = watch::channel(LibraryState::default());
        let (commands, inbox) = mpsc::unbounded_channel();
        let mut actor = Actor {
            speed: Speed::new(shared.timing.speed_window),
            free: None,
            shared: Arc::clone(&shared),
            catalogue: Arc::clone(&catalogue),
            state,
            shelf: Some(shelf),
            installed: Vec::new(),
            queue,
            running: None,
            metered: config.metered,
        };
        actor
            .scan()
            .await
            .map_err(|fault| unusable(&shared.models_folder, fault))?;
        actor.start_next();
        actor.publish(true).await;
        tokio::spawn(actor.run(inbox));
        Ok(Self {
            commands,
            state: state_seen,
            limits: Arc::new(limits),
            shared,
            catalogue,
        })
    }

    /// The state as it changes, the one now first.
    pub fn state(&self) -> watch::Receiver<LibraryState> {
        self.state.clone()
    }

    /// The models that can be downloaded, in the catalogue's order.
    pub fn catalogue(&self) -> &[CatalogueEntry] {
        self.catalogue.entries()
    }

    /// Queues a download, or goes on with it if it is there already; gives its id.
    pub async fn download(&self, request: DownloadRequest) -> Result<String, LibraryError> {
        self.ask(|reply| Command::Download(request, reply)).await
    }

    /// Keeps what is there.
    pub async fn pause(&self, id: &str) -> Result<(), LibraryError> {
        let id = id.to_owned();
        self.ask(|reply| Command::Pause(id, reply)).await
    }

    /// Goes on with a paused or failed download; ends the wait of a stalled one.
    pub async fn resume(&self, id: &str) -> Result<(), LibraryError> {
        let id = id.to_owned();
        self.ask(|reply| Command::Resume(id, reply)).await
    }

    /// Goes on with a download though it costs by the byte, until it is done.
    pub async fn resume_anyway(&self, id: &str) -> Result<(), LibraryError> {
        let id = id.to_owned();
        self.ask(|reply| Command::Anyway(id, reply)).await
    }

    /// Lets downloads wait because it costs by the byte, or go on.
    pub async fn set_metered(&self, metered: bool) -> Result<(), LibraryError> {
        self.ask(|reply| Command::Metered(metered, reply)).await
    }

    /// Deletes what is there.
    pub async fn cancel(&self, id: &str) -> Result<(), LibraryError> {
        let id = id.to_owned();
        self.ask(|reply| Command::Cancel(id, reply)).await
    }

    /// Copies a model file of this machine into the models folder; gives its path there.
    pub async fn import(&self, path: impl Into<PathBuf>) -> Result<PathBuf, LibraryError> {
        let (shared, path) = (Arc::clone(&self.shared), path.into());
        let cancelled = Arc::new(AtomicBool::new(false));
        let _cancel = Cancel(Arc::clone(&cancelled));
        let copied = spawn_blocking(move || copy(&shared, &path, &cancelled))
            .await
            .map_err(|_| LibraryError::Ended)??;
        self.adopt(copied).await
    }

    /// Takes a model file piece by piece, as a browser uploads it; gives its path in the models
    /// folder. A stream that fails, or a caller that goes away, leaves nothing.
    pub async fn import_stream<B, E>(
        &self,
        name: &str,
        total_bytes: Option<u64>,
        pieces: impl Stream<Item = Result<B, E>> + Send,
    ) -> Result<PathBuf, LibraryError>
    where
        B: AsRef<[u8]> + Send,
        E: fmt::Display,
    {
        const WRITE_BYTES: usize = 1 << 20;
        let mut pieces = pin!(pieces);
        let mut draft = Draft::new(Arc::clone(&self.shared), name, total_bytes)?;
        let mut buffer = Vec::new();
        loop {
            let piece = pieces.next().await;
            let ended = piece.is_none();
            if let Some(piece) = piece {
                let piece = piece.map_err(|error| LibraryError::Interrupted(error.to_string()))?;
                buffer.extend_from_slice(piece.as_ref());
            }
            if ended || buffer.len() >= WRITE_BYTES {
                let block = std::mem::take(&mut buffer);
                draft = spawn_blocking(move || draft.write(&block).map(|()| draft))
                    .await
                    .map_err(|_| LibraryError::Ended)??;
            }
            if ended {
                break;
            }
        }
        let copied = spawn_blocking(move || draft.finish())
            .await
            .map_err(|_| LibraryError::Ended)??;
        self.adopt(copied).await
    }

    /// Deletes a file of the installed ones.
    pub async fn delete(&self, path: impl Into<PathBuf>) -> Result<(), LibraryError> {
        let path = path.into();
        self.ask(|reply| Command::Delete(path, reply)).await
    }

    /// Counts at once, also for what is running.
    pub async fn set_limits(&self, limits: Limits) -> Result<(), LibraryError> {
        self.limits.send_replace(limits);
        self.refresh().await
    }

    /// Looks at the models folder and the disk again.
    pub async fn refresh(&self) -> Result<(), LibraryError> {
        self.ask(Command::Refresh).await
    }

    /// Ends all work and returns when nothing more is written; downloads go on at the next open.
    pub async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.commands.send(Command::Close(reply)).is_ok() {
            // An error means that it has ended before.
            let _ = closed.await;
        }
    }

    async fn adopt(
        &self,
        (path, provenance): (PathBuf, Provenance),
    ) -> Result<PathBuf, LibraryError> {
        let adopted = path.clone();
        self.ask(|reply| Command::Adopt(adopted, provenance, reply))
            .await?;
        Ok(path)
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, LibraryError> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(command(reply))
            .map_err(|_| LibraryError::Ended)?;
        answer.await.map_err(|_| LibraryError::Ended)?
    }
}

type Reply<T> = oneshot::Sender<Result<T, LibraryError>>;

enum Command {
    Download(DownloadRequest, Reply<String>),
    Pause(String, Reply<()>),
    Resume(String, Reply<()>),
    Anyway(String, Reply<()>),
    Metered(bool, Reply<()>),
    Cancel(String, Reply<()>),
    Adopt(PathBuf, Provenance, Reply<()>),
    Delete(PathBuf, Reply<()>),
    Refresh(Reply<()>),
    Close(oneshot::Sender<()>),
}

/// How old the figure for the disk's free space may be.
const FREE_SPACE_AGE: Duration = Duration::from_secs(2);

struct Actor {
    shared: Arc<Shared>,
    catalogue: Arc<Catalogue>,
    state: watch::Sender<LibraryState>,
    /// None while a scan has it.
    shelf: Option<Shelf>,
    installed: Vec<InstalledFile>,
    queue: Vec<Record>,
    running: Option<Running>,
    speed: Speed,
    free: Option<(Instant, Option<u64>)>,
    /// None while it is not known, which is as good as metered for what waits.
    metered: Option<bool>,
}

struct Running {
    id: String,
    task: JoinHandle<(Record, Outcome)>,
    signal: watch::Sender<Signal>,
    view: watch::Receiver<View>,
}

impl Actor {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        let mut tick = interval(self.shared.timing.publish);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut imports = self.shared.imports.subscribe();
        let closed = loop {
            let is_running = self.running.is_some();
            tokio::select! {
                command = inbox.recv() => match command {
                    None => break None,
                    Some(Command::Close(reply)) => break Some(reply),
                    Some(command) => self.obey(command).await,
                },
                ended = ended(&mut self.running) => {
                    self.settle(ended).await;
                    self.start_next();
                    self.publish(false).await;
                }
                _ = tick.tick(), if is_running => self.publish(false).await,
                Ok(()) = imports.changed() => self.publish(false).await,
            }
        };
        self.stop_running().await;
        if let Some(reply) = closed {
            // Whoever asked may have gone.
            let _ = reply.send(());
        }
    }

    /// The state shows a command's effect before its answer is there.
    async fn obey(&mut self, command: Command) {
        match command {
            Command::Download(request, reply) => {
                let done = self.enqueue(request).await;
                self.answer(reply, done).await;
            }
            Command::Pause(id, reply) => {
                let done = self.pause(&id).await;
                self.answer(reply, done).await;
            }
            Command::Resume(id, reply) => {
                let done = self.resume(&id).await;
                self.answer(reply, done).await;
            }
            Command::Anyway(id, reply) => {
                let done = self.resume_anyway(&id).await;
                self.answer(reply, done).await;
            }
            Command::Metered(metered, reply) => {
                self.set_metered(metered).await;
                self.answer(reply, Ok(())).await;
            }
            Command::Cancel(id, reply) => {
                let done = self.cancel(&id).await;
                self.answer(reply, done).await;
            }
            Command::Adopt(path, provenance, reply) => {
                self.remember(path, provenance).await;
                let done = self.rescan().await;
                self.answer(reply, done).await;
            }
            Command::Delete(path, reply) => {
                let done = self.delete(path).await;
                self.answer(reply, done).await;
            }
            Command::Refresh(reply) => {
                let done = self.rescan().await;
                self.answer(reply, done).await;
            }
            // Ends the loop that calls this.
            Command::Close(_) => {}
        }
    }

    async fn answer<T>(&mut self, reply: Reply<T>, done: Result<T, LibraryError>) {
        self.start_next();
        self.publish(true).await;
        // Whoever asked may have gone.
        let _ = reply.send(done);
    }

    async fn publish(&mut self, look_at_disk: bool) {
        let now = Instant::now();
        let is_old = |taken: Instant| now.duration_since(taken) >= FREE_SPACE_AGE;
        let free = match self.free {
            Some((taken, free)) if !look_at_disk && !is_old(taken) => free,
            _ => {
                let shared = Arc::clone(&self.shared);
                let free = blocking(move || Ok(shared.disk.free(&shared.models_folder))).await;
                let free = free.ok().flatten();
                self.free = Some((now, free));
                free
            }
        };
        let (models_bytes, partial_bytes) = self.count_use();
        let downloads = self.downloads(now);
        let state = LibraryState {
            installed: self.installed.clone(),
            downloads,
            imports: self.shared.imports.borrow().clone(),
            disk: DiskUse {
                models_bytes,
                partial_bytes,
                free_bytes: free,
                quota_bytes: self.shared.limits.borrow().quota_bytes,
            },
        };
        self.state.send_if_modified(|shown| {
            let is_new = *shown != state;
            if is_new {
                *shown = state;
            }
            is_new
        });
    }
}

fn unusable(folder: &Path, fault: io::Error) -> LibraryError {
    LibraryError::Folder {
        folder: folder.to_owned(),
        fault,
    }
}
