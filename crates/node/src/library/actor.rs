//! The library itself: one task that owns the list of files and the queue of downloads.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, ready};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::download::{self, Outcome, Phase, Shared, Signal, View, blocking};
use super::fetch::{Address, Http};
use super::import::{Cancel, Draft, copy};
use super::installed::{InstalledFile, Provenance, Shelf};
use super::partial::{Hold, Promise, Record, load_all};
use super::rate::{Bucket, Speed};
use super::{
    Catalogue, CatalogueEntry, DiskUse, Download, DownloadFault, DownloadRequest, DownloadState,
    Import, LibraryError, names,
};
use crate::clock::{Clock, SystemClock};

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
    pub imports: Vec<Import>,
    pub disk: DiskUse,
}

/// What a user allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    pub bytes_per_second: Option<u64>,
    /// For all models and unfinished downloads together.
    pub quota_bytes: Option<u64>,
}

#[derive(Debug, Clone)]
pub struct LibraryConfig {
    pub models_folder: PathBuf,
    /// For unfinished downloads; on the same disk, or finished files are copied.
    pub partials_folder: PathBuf,
    pub catalogue: Catalogue,
    pub limits: Limits,
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
    pub longest_retry: Duration,
    /// Between two changes of the state.
    pub publish: Duration,
    /// What a crash costs at most.
    pub save_every: Duration,
    pub speed_window: Duration,
}

/// What lies outside, so that tests decide it.
#[derive(Clone)]
pub struct LibraryEdges {
    pub clock: Arc<dyn Clock>,
    pub disk: Arc<dyn DiskSpace>,
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

    pub fn state(&self) -> watch::Receiver<LibraryState> {
        self.state.clone()
    }

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

    async fn enqueue(&mut self, request: DownloadRequest) -> Result<String, LibraryError> {
        let mut record = match request {
            DownloadRequest::Catalogue { id } => self.catalogue_record(id)?,
            DownloadRequest::Url { url } => url_record(&url)?,
        };
        let id = record.id.clone();
        if self.queue.iter().any(|queued| queued.id == id) {
            self.resume(&id).await?;
            return Ok(id);
        }
        let last = self.queue.iter().map(|queued| queued.queued_ms).max();
        // A clock that was set back must not change the order.
        record.queued_ms = self
            .shared
            .clock
            .now_ms()
            .max(last.map_or(i64::MIN, |last| last.saturating_add(1)));
        self.save(&record).await?;
        self.queue.push(record);
        Ok(id)
    }

    fn catalogue_record(&self, id: String) -> Result<Record, LibraryError> {
        let Some((entry, facts)) = self.catalogue.get(&id) else {
            return Err(LibraryError::NotInCatalogue(id));
        };
        let mut installed = self.installed.iter();
        if let Some(file) = installed.find(|file| file.catalogue_id.as_ref() == Some(&id)) {
            return Err(LibraryError::Installed {
                name: file.name.clone(),
            });
        }
        let mut record = Record::new(
            id.clone(),
            entry.name.clone(),
            facts.file_name.clone(),
            Vec::new(),
        );
        record.catalogue_id = Some(id);
        Ok(renew(record, &self.catalogue))
    }

    async fn pause(&mut self, id: &str) -> Result<(), LibraryError> {
        self.known(id)?;
        self.stop_if_running(id).await;
        // It may have finished meanwhile.
        if let Some(record) = self.queue.iter_mut().find(|record| record.id == id) {
            record.hold = Some(Hold::Paused);
            let record = record.clone();
            self.save(&record).await?;
        }
        Ok(())
    }

    async fn resume(&mut self, id: &str) -> Result<(), LibraryError> {
        self.known(id)?;
        if let Some(running) = self.running.as_ref().filter(|running| running.id == id) {
            running.signal.send_modify(|signal| signal.nudges += 1);
            return Ok(());
        }
        if let Some(record) = self.queue.iter_mut().find(|record| record.id == id) {
            record.hold = None;
            let record = record.clone();
            self.save(&record).await?;
        }
        Ok(())
    }

    async fn cancel(&mut self, id: &str) -> Result<(), LibraryError> {
        self.known(id)?;
        self.stop_if_running(id).await;
        if let Some(index) = self.queue.iter().position(|record| record.id == id) {
            let record = self.queue.remove(index);
            let folder = self.shared.partials_folder.clone();
            let removed = blocking(move || record.remove(&folder)).await;
            removed.map_err(|fault| unusable(&self.shared.partials_folder, fault))?;
        }
        Ok(())
    }

    async fn delete(&mut self, path: PathBuf) -> Result<(), LibraryError> {
        // Only what the list shows can be deleted, wherever the path comes from.
        if !self.installed.iter().any(|file| file.path == path) {
            return Err(LibraryError::NotInstalled(path));
        }
        let deleted = path.clone();
        let removed = blocking(move || std::fs::remove_file(deleted)).await;
        match removed {
            Err(fault) if fault.kind() != io::ErrorKind::NotFound => {
                return Err(LibraryError::NotDeleted { path, fault });
            }
            _ => {}
        }
        let folder = self.shared.partials_folder.clone();
        self.with_shelf(move |shelf| {
            if let Err(error) = shelf.forget(&folder, &path) {
                tracing::warn!(%error, "a deleted model is not forgotten");
            }
            Ok(())
        })
        .await
        .map_err(|fault| unusable(&self.shared.partials_folder, fault))?;
        self.rescan().await
    }

    fn known(&self, id: &str) -> Result<(), LibraryError> {
        if self.queue.iter().any(|record| record.id == id) {
            Ok(())
        } else {
            Err(LibraryError::NoDownload(id.chars().take(200).collect()))
        }
    }

    /// Starts the first download that waits, if none runs.
    fn start_next(&mut self) {
        if self.running.is_some() {
            return;
        }
        let Some(record) = self.queue.iter().find(|record| record.hold.is_none()) else {
            return;
        };
        let (signal, signal_seen) = watch::channel(Signal::default());
        let (view, view_seen) = watch::channel(View::of(record));
        self.speed.clear();
        self.running = Some(Running {
            id: record.id.clone(),
            task: tokio::spawn(download::run(
                Arc::clone(&self.shared),
                record.clone(),
                signal_seen,
                view,
            )),
            signal,
            view: view_seen,
        });
        self.count_use();
    }

    async fn stop_if_running(&mut self, id: &str) {
        if self
            .running
            .as_ref()
            .is_some_and(|running| running.id == id)
        {
            self.stop_running().await;
        }
    }

    async fn stop_running(&mut self) {
        if let Some(running) = &self.running {
            running.signal.send_modify(|signal| signal.stop = true);
            let ended = ended(&mut self.running).await;
            self.settle(ended).await;
        }
    }

    /// Takes over what a download has come to.
    async fn settle(&mut self, (id, ended): (String, Option<(Record, Outcome)>)) {
        let Some(index) = self.queue.iter().position(|record| record.id == id) else {
            return;
        };
        let outcome = match ended {
            Some((record, outcome)) => {
                self.queue[index] = record;
                outcome
            }
            None => Outcome::Failed {
                code: DownloadFault::Storage,
                message: "the download ended by a fault of the program: resume it".to_owned(),
            },
        };
        match outcome {
            Outcome::Placed { path, sha256 } => {
                let record = self.queue.remove(index);
                let provenance = Provenance {
                    bytes: record.total.unwrap_or_default(),
                    catalogue_id: record.catalogue_id,
                    sha256,
                };
                self.remember(path, provenance).await;
                if let Err(error) = self.rescan().await {
                    tracing::warn!(%error, "the models folder cannot be read");
                }
            }
            Outcome::Stopped => {}
            Outcome::Failed { code, message } => {
                tracing::warn!(id, message, "a download failed");
                let record = &mut self.queue[index];
                record.hold = Some(Hold::Failed { code, message });
                let record = record.clone();
                if let Err(error) = self.save(&record).await {
                    tracing::warn!(%error, "a failed download is not saved");
                }
            }
        }
    }

    async fn remember(&mut self, path: PathBuf, mut provenance: Provenance) {
        if provenance.catalogue_id.is_none() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let hash = provenance.sha256.as_deref();
            let id = self.catalogue.recognise(&name, provenance.bytes, hash);
            provenance.catalogue_id = id.map(str::to_owned);
        }
        let folder = self.shared.partials_folder.clone();
        let remembered = self
            .with_shelf(move |shelf| shelf.remember(&folder, &path, provenance))
            .await;
        if let Err(error) = remembered {
            tracing::warn!(%error, "where a model came from is not saved");
        }
    }

    async fn rescan(&mut self) -> Result<(), LibraryError> {
        self.scan()
            .await
            .map_err(|fault| unusable(&self.shared.models_folder, fault))
    }

    async fn scan(&mut self) -> io::Result<()> {
        let folder = self.shared.models_folder.clone();
        let catalogue = Arc::clone(&self.catalogue);
        self.installed = self
            .with_shelf(move |shelf| shelf.scan(&folder, &catalogue))
            .await?;
        self.count_use();
        Ok(())
    }

    async fn with_shelf<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Shelf) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let mut shelf = self.shelf.take().unwrap_or_default();
        let (shelf, done) = blocking(move || {
            let done = work(&mut shelf);
            Ok((shelf, done))
        })
        .await?;
        self.shelf = Some(shelf);
        done
    }

    async fn save(&self, record: &Record) -> Result<(), LibraryError> {
        let (record, folder) = (record.clone(), self.shared.partials_folder.clone());
        blocking(move || record.save(&folder))
            .await
            .map_err(|fault| LibraryError::writing(&self.shared.partials_folder, fault))
    }

    fn done(&self, record: &Record) -> u64 {
        match &self.running {
            Some(running) if running.id == record.id => running.view.borrow().done,
            _ => record.done(),
        }
    }

    /// Tells downloads and imports what counts against the quota beside them.
    fn count_use(&self) -> (u64, u64) {
        let models: u64 = self.installed.iter().map(|file| file.bytes).sum();
        let running = self.running.as_ref().map(|running| &running.id);
        let (mut own, mut others) = (0, 0);
        for record in &self.queue {
            let part = if running == Some(&record.id) {
                &mut own
            } else {
                &mut others
            };
            *part += self.done(record);
        }
        let shared = &self.shared;
        shared
            .used_elsewhere
            .store(models + others, Ordering::Relaxed);
        shared.used.store(models + others + own, Ordering::Relaxed);
        (models, others + own)
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

    fn downloads(&mut self, now: Instant) -> Vec<Download> {
        let running = self
            .running
            .as_ref()
            .map(|running| (running.id.clone(), running.view.borrow().clone()));
        let mut downloads = Vec::new();
        for record in &self.queue {
            let (view, is_running) = match &running {
                Some((id, view)) if *id == record.id => (view.clone(), true),
                _ => (View::of(record), false),
            };
            let mut speed = None;
            let state = match (&record.hold, view.phase) {
                (Some(Hold::Paused), _) => DownloadState::Paused,
                (Some(Hold::Failed { code, message }), _) => DownloadState::Failed {
                    code: *code,
                    message: message.clone(),
                },
                (None, _) if !is_running => DownloadState::Queued,
                (None, Phase::Running) => {
                    speed = self.speed.sample(view.received, now);
                    DownloadState::Running
                }
                (
                    None,
                    Phase::Stalled {
                        message,
                        retry_at_ms,
                    },
                ) => DownloadState::Stalled {
                    message,
                    retry_at_ms,
                },
                (None, Phase::Verifying { done }) => DownloadState::Verifying { done_bytes: done },
            };
            let left = view.total.map(|total| total.saturating_sub(view.done));
            downloads.push(Download {
                id: record.id.clone(),
                name: record.name.clone(),
                url: view.url,
                done_bytes: view.done,
                total_bytes: view.total,
                bytes_per_second: speed,
                seconds_left: speed
                    .zip(left)
                    .map(|(speed, left)| (left as f64 / speed).ceil() as u64),
                state,
            });
        }
        downloads
    }
}

/// The running download's end; never, while none runs.
fn ended(
    running: &mut Option<Running>,
) -> impl Future<Output = (String, Option<(Record, Outcome)>)> + '_ {
    std::future::poll_fn(move |context| {
        let Some(current) = running.as_mut() else {
            return Poll::Pending;
        };
        let ended = ready!(Pin::new(&mut current.task).poll(context));
        let id = std::mem::take(&mut current.id);
        *running = None;
        Poll::Ready((id, ended.ok()))
    })
}

/// What the catalogue says now: an update of the program may have changed it.
fn renew(mut record: Record, catalogue: &Catalogue) -> Record {
    let id = record.catalogue_id.as_deref();
    if let Some((entry, facts)) = id.and_then(|id| catalogue.get(id)) {
        record.sources.clone_from(&entry.sources);
        record.promise = Promise {
            sha256: facts.sha256.clone(),
            bytes: facts.bytes_are_exact.then_some(entry.bytes),
            about_bytes: Some(entry.bytes),
            hash_is_needed: true,
        };
    }
    record
}

fn url_record(url: &str) -> Result<Record, LibraryError> {
    let address = Address::parse(url)?;
    let file_name = names::name_in_url(address.path());
    let hash = blake3::hash(address.as_str().as_bytes()).to_hex();
    Ok(Record::new(
        format!("url-{}", &hash[..16]),
        file_name.trim_end_matches(".gguf").to_owned(),
        file_name,
        vec![address.as_str().to_owned()],
    ))
}

fn unusable(folder: &Path, fault: io::Error) -> LibraryError {
    LibraryError::Folder {
        folder: folder.to_owned(),
        fault,
    }
}
