//! One download: it goes on until the file is complete and checked, or until it cannot.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::StatusCode;
use reqwest::header::{self, HeaderMap};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::chunks::Gap;
use super::config::{DiskSpace, Limits, Timing};
use super::error::{is_full, size};
use super::fetch::{Address, Answer, Http, cause, content_range};
use super::file_check::{check_gguf, sha256};
use super::partial::{Origin, Partial, Record, data_path};
use super::rate::Bucket;
use super::{DownloadFault, Import, place};
use crate::clock::Clock;

/// What all downloads share.
pub(super) struct Shared {
    pub models_folder: PathBuf,
    pub partials_folder: PathBuf,
    pub chunk_bytes: u64,
    pub keep_free_bytes: u64,
    pub timing: Timing,
    pub http: Http,
    pub clock: Arc<dyn Clock>,
    pub disk: Arc<dyn DiskSpace>,
    pub limits: watch::Receiver<Limits>,
    /// What counts against the quota: all models, all that was downloaded.
    pub used: AtomicU64,
    /// The same beside the running download.
    pub used_elsewhere: AtomicU64,
    pub bucket: Mutex<Bucket>,
    /// Files that are being copied, in the order they came.
    pub imports: watch::Sender<Vec<Import>>,
    /// The connection costs by the byte, or that is not known yet: see [`Shared::lets`].
    pub metered: AtomicBool,
}

/// What the actor asks of a running download.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Signal {
    pub stop: bool,
    /// A higher number ends a wait.
    pub nudges: u64,
}

/// A running download as the actor sees it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct View {
    pub url: String,
    pub done: u64,
    pub total: Option<u64>,
    /// All that came over the network.
    pub received: u64,
    pub phase: Phase,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    Stalled { message: String, retry_at_ms: i64 },
    Verifying { done: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The file is in the models folder; nothing is left of the download.
    Placed {
        path: PathBuf,
        sha256: Option<String>,
    },
    Stopped,
    Failed {
        code: DownloadFault,
        message: String,
    },
}

impl Shared {
    /// Whether a download may use the connection.
    pub(super) fn lets(&self, record: &Record) -> bool {
        record.anyway || !self.metered.load(Ordering::Relaxed)
    }
}

/// Runs until the outcome, and gives the download's record as it is then.
pub(super) async fn run(
    shared: Arc<Shared>,
    record: Record,
    signal: watch::Receiver<Signal>,
    view: watch::Sender<View>,
) -> (Record, Outcome) {
    let opened = open(&shared, record.clone(), signal.clone(), &view).await;
    let (partial, damaged) = match opened {
        Ok(opened) => opened,
        Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {
            return (record, Outcome::Stopped);
        }
        Err(fault) => return (record, storage_fault(&shared, &fault).into()),
    };
    let mut task = Task {
        is_known_good: partial.record.catalogue_id.is_some() || partial.record.origin.is_some(),
        partial: Arc::new(Mutex::new(partial)),
        shared,
        signal,
        view,
    };
    let outcome = task.run(damaged).await;
    let record = task.partial().record.clone();
    (record, outcome)
}

impl View {
    pub(super) fn of(record: &Record) -> Self {
        let url = record.origin.as_ref().map(|origin| &origin.url);
        Self {
            url: url.or(record.sources.first()).cloned().unwrap_or_default(),
            done: record.done(),
            total: record.total.or(record.promise.bytes),
            received: 0,
            phase: Phase::Running,
        }
    }
}

/// How many rounds without any answer it takes to give up an address that a user gave: half a
/// minute. The catalogue's addresses are known to be good, and a download that has begun is never
/// given up: the network comes back.
const ROUNDS_WITHOUT_ANSWER: u32 = 6;
/// What is collected before it is written.
const WRITE_BYTES: usize = 1 << 19;
const WRITE_AFTER: Duration = Duration::from_secs(1);
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(10);
const MAGIC: &[u8] = b"GGUF";

/// How one request ended.
#[derive(Debug)]
enum Step {
    /// Nothing is missing.
    Complete,
    /// A part came; another one may be missing.
    Filled,
    /// It may go better the next time.
    Broken {
        message: String,
        retry_after: Option<Duration>,
    },
    /// What is there cannot be used: from zero.
    Restart(String),
    /// Nothing more from this source.
    Refused(Fault),
    /// No source makes it better.
    Failed(Fault),
    Stopped,
}

#[derive(Debug, Clone)]
struct Fault {
    code: DownloadFault,
    message: String,
}

struct Task {
    shared: Arc<Shared>,
    partial: Arc<Mutex<Partial>>,
    signal: watch::Receiver<Signal>,
    view: watch::Sender<View>,
    /// A source has answered with a part of the file, or the catalogue names it.
    is_known_good: bool,
}

impl Task {
    async fn run(&mut self, damaged: u64) -> Outcome {
        if damaged > 0 {
            let message = format!("{} were damaged and are fetched again", size(damaged));
            if self.wait(message, self.shared.timing.first_retry).await {
                return Outcome::Stopped;
            }
        }
        let sources = self.partial().record.sources.clone();
        let mut refused: Vec<Option<Fault>> = vec![None; sources.len()];
        let (mut index, mut failures, mut restarts) = (0, 0_u32, 0_u32);
        loop {
            let order = (0..sources.len()).map(|step| (index + step) % sources.len());
            let Some(source) = order.into_iter().find(|source| refused[*source].is_none()) else {
                // The first source is the one a user knows; its fault says most.
                let fault = refused.into_iter().flatten().next();
                return fault.map_or(Outcome::Stopped, Outcome::from);
            };
            index = source;
            let before = self.partial().done();
            let step = self.fetch(&sources[source]).await;
            let came = self.partial().done() > before;
            if came {
                failures = 0;
            }
            let step = match step {
                Step::Complete => match self.finish().await {
                    Ok(outcome) => return outcome,
                    Err(step) => step,
                },
                other => other,
            };
            let delay = match step {
                Step::Complete | Step::Filled => continue,
                Step::Stopped => return Outcome::Stopped,
                Step::Failed(fault) => return fault.into(),
                Step::Refused(fault) => {
                    tracing::warn!(message = fault.message, "a download's source is given up");
                    refused[source] = Some(fault);
                    continue;
                }
                Step::Restart(message) => {
                    restarts += 1;
                    tracing::info!(message, "a download starts again");
                    if let Err(fault) = self.with_partial(Partial::reset).await {
                        return storage_fault(&self.shared, &fault).into();
                    }
                    (message, self.delay(restarts))
                }
                Step::Broken {
                    message,
                    retry_after,
                } => {
                    let usable = refused.iter().filter(|fault| fault.is_none()).count() as u32;
                    failures += u32::from(!came);
                    if !came && failures % usable != 0 {
                        index += 1;
                        continue;
                    }
                    let rounds = failures / usable;
                    if !self.is_known_good && rounds >= ROUNDS_WITHOUT_ANSWER {
                        return Fault::new(DownloadFault::Unreachable, format!("{message}. Check the address and the connection, then resume the download")).into();
                    }
                    if !came {
                        index += 1;
                    }
                    let delay = self.delay(rounds.max(1));
                    (message, delay.max(retry_after.unwrap_or_default()))
                }
            };
            if self.wait(delay.0, delay.1).await {
                return Outcome::Stopped;
            }
        }
    }

    /// Doubles with each failure.
    fn delay(&self, failures: u32) -> Duration {
        let Timing {
            first_retry,
            longest_retry,
            ..
        } = self.shared.timing;
        (first_retry * (1 << (failures.clamp(1, 16) - 1))).min(longest_retry)
    }

    /// Asks a source for the next part that is missing.
    async fn fetch(&mut self, source: &str) -> Step {
        let Ok(address) = Address::parse(source) else {
            return refused(DownloadFault::Refused, format!("`{source}` is no address"));
        };
        let (gap, record) = {
            let partial = self.partial();
            (partial.next_gap(), partial.record.clone())
        };
        let Some(gap) = gap else {
            return Step::Complete;
        };
        // A file that was being checked was let be, and turned out to be damaged.
        if !self.shared.lets(&record) {
            return Step::Stopped;
        }
        let promise = &record.promise;
        let expected = record.total.or(promise.bytes).or(promise.about_bytes);
        if let Some(total) = expected
            && let Err(fault) = self.check_room(total)
        {
            return Step::Failed(fault);
        }
        let resumes = self.partial().done() > 0;
        // Parts of one file may come from anywhere once its hash is known; otherwise only from the
        // server that they began with, and only if it can tell that the file is still the same.
        let origin = record.origin.clone().unwrap_or_default();
        let validator = if record.sha256().is_some() {
            None
        } else {
            let known = origin.url == source;
            origin.validator().filter(|_| known)
        };
        if resumes && record.sha256().is_none() && validator.is_none() {
            return Step::Restart(format!(
                "{} does not tell whether the file has changed: it starts again",
                address.host()
            ));
        }
        self.view.send_modify(|view| {
            address.as_str().clone_into(&mut view.url);
            view.total = record.total.or(view.total);
            view.phase = Phase::Running;
        });
        let whole = gap.start == 0 && gap.end == record.total;
        let range = (!whole).then(|| (gap.start, gap.end.filter(|end| Some(*end) != record.total)));
        let (stall, http) = (self.shared.timing.stall, self.shared.http.clone());
        let request = http.get(&address, range, validator);
        let answer = tokio::select! {
            () = self.stopped() => return Step::Stopped,
            answer = timeout(stall, request) => answer,
        };
        let answer = match answer {
            Err(_) => {
                return broken(format!("{} does not answer; trying again", address.host()));
            }
            Ok(Err(none)) if none.for_good => {
                return refused(DownloadFault::Refused, none.message);
            }
            Ok(Err(none)) => return broken(none.message),
            Ok(Ok(answer)) => answer,
        };
        let skip = match judge(&address, &record, gap, resumes, &answer) {
            Ok(Verdict::Use {
                skip,
                total,
                origin,
            }) => {
                self.is_known_good = true;
                let mut origin = origin;
                source.clone_into(&mut origin.url);
                let changed = {
                    let mut partial = self.partial();
                    partial.record.total = total;
                    partial.record.origin = Some(origin);
                    partial.record != record
                };
                if changed && let Err(fault) = self.with_partial(Partial::save).await {
                    return Step::Failed(storage_fault(&self.shared, &fault));
                }
                if let Some(total) = total
                    && let Err(fault) = self.check_room(total)
                {
                    return Step::Failed(fault);
                }
                skip
            }
            Ok(Verdict::EndsAt(total)) => {
                self.partial().record.total = Some(total);
                return Step::Filled;
            }
            Err(step) => return step,
        };
        let total = self.partial().record.total;
        self.view.send_modify(|view| view.total = total);
        let gap = Gap {
            start: gap.start,
            end: gap.end.filter(|end| Some(*end) != record.total).or(total),
        };
        self.receive(&address, answer, gap, skip).await
    }

    /// Writes what comes into the gap, after `skip` bytes that are there already.
    async fn receive(&mut self, address: &Address, answer: Answer, gap: Gap, skip: u64) -> Step {
        let mut body = answer.response.bytes_stream();
        let mut input = Input {
            position: gap.start,
            buffer: Vec::new(),
            flushed: Instant::now(),
            saved: Instant::now(),
        };
        let mut to_skip = skip;
        loop {
            if self.throttle().await {
                return self.leave(&mut input, Step::Stopped).await;
            }
            let stall = self.shared.timing.stall;
            let piece = tokio::select! {
                () = self.stopped() => return self.leave(&mut input, Step::Stopped).await,
                piece = timeout(stall, body.next()) => piece,
            };
            let piece = match piece {
                Ok(Some(Ok(piece))) => piece,
                Ok(None) => {
                    let position = input.end();
                    let step = match gap.end {
                        Some(end) if position < end => {
                            broken(format!("{} ended the connection early", address.host()))
                        }
                        _ => Step::Filled,
                    };
                    let step = self.leave(&mut input, step).await;
                    if matches!(step, Step::Filled) && gap.end.is_none() {
                        self.partial().record.total = Some(position);
                    }
                    return step;
                }
                Ok(Some(Err(error))) => {
                    let step = broken(format!(
                        "the connection to {} broke: {}",
                        address.host(),
                        cause(&error)
                    ));
                    return self.leave(&mut input, step).await;
                }
                Err(_) => {
                    let step = broken(format!(
                        "nothing came from {} for {} s",
                        address.host(),
                        stall.as_secs_f32()
                    ));
                    return self.leave(&mut input, step).await;
                }
            };
            let limits = *self.shared.limits.borrow();
            lock(&self.shared.bucket).take(
                piece.len() as u64,
                limits.bytes_per_second,
                Instant::now(),
            );
            let skipped = to_skip.min(piece.len() as u64);
            to_skip -= skipped;
            let mut new = &piece[skipped as usize..];
            if let Some(end) = gap.end {
                new = &new[..new.len().min((end - input.end()) as usize)];
            }
            input.buffer.extend_from_slice(new);
            let buffered = input.buffer.len() as u64;
            let done = self.partial().done() + buffered;
            self.view.send_modify(|view| {
                view.received += piece.len() as u64;
                view.done = done;
            });
            if gap.end.is_some_and(|end| input.end() >= end) {
                return self.leave(&mut input, Step::Filled).await;
            }
            if (buffered > 0 && input.flushed.elapsed() >= WRITE_AFTER)
                || buffered >= WRITE_BYTES as u64
            {
                let save = input.saved.elapsed() >= self.shared.timing.save_every;
                if let Err(step) = self.flush(&mut input, save).await {
                    return step;
                }
            }
        }
    }

    /// Writes the rest, so that nothing that came is lost.
    async fn leave(&mut self, input: &mut Input, step: Step) -> Step {
        match self.flush(input, true).await {
            Ok(()) => step,
            Err(fault) => fault,
        }
    }

    async fn flush(&mut self, input: &mut Input, save: bool) -> Result<(), Step> {
        let buffer = std::mem::take(&mut input.buffer);
        let position = input.position;
        if position == 0 && buffer.len() >= MAGIC.len() && !buffer.starts_with(MAGIC) {
            return Err(refused(
                DownloadFault::NotAModel,
                "what comes is no GGUF file; choose the address of one".to_owned(),
            ));
        }
        input.position += buffer.len() as u64;
        input.flushed = Instant::now();
        if save {
            input.saved = input.flushed;
        }
        let shared = Arc::clone(&self.shared);
        let free = self
            .with_partial(move |partial| {
                partial.write(position, &buffer)?;
                if save {
                    partial.save()?;
                }
                Ok(shared.disk.free(&shared.partials_folder))
            })
            .await
            .map_err(|fault| Step::Failed(storage_fault(&self.shared, &fault)))?;
        let keep = self.shared.keep_free_bytes;
        match free {
            // Another program fills the disk: leave it the rest.
            Some(free) if free < keep => Err(Step::Failed(disk_full(keep - free))),
            _ => Ok(()),
        }
    }

    /// Checks the whole file and moves it into the models folder.
    async fn finish(&mut self) -> Result<Outcome, Step> {
        let record = self.partial().record.clone();
        let folder = self.shared.partials_folder.clone();
        let data = data_path(&folder, &record.id);
        self.with_partial(|partial| {
            partial.save()?;
            partial.sync()
        })
        .await
        .map_err(|fault| Step::Failed(storage_fault(&self.shared, &fault)))?;

        let checked = {
            let (data, signal, view) = (data.clone(), self.signal.clone(), self.view.clone());
            blocking(move || {
                sha256(&data, |done| {
                    view.send_modify(|view| view.phase = Phase::Verifying { done });
                    !signal.borrow().stop
                })
            })
            .await
        };
        let found = match checked {
            Ok(found) => found,
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => return Err(Step::Stopped),
            Err(fault) => return Err(Step::Failed(storage_fault(&self.shared, &fault))),
        };
        let wanted = record.sha256().map(str::to_owned);
        if wanted.as_ref().is_some_and(|wanted| *wanted != found)
            || (wanted.is_none() && record.promise.hash_is_needed)
        {
            return Err(self.throw_away(DownloadFault::WrongHash, "what came is not the file that was promised: its SHA-256 is another one. It is deleted; resume to try again".to_owned()).await);
        }
        let opened = {
            let (data, name) = (data.clone(), record.file_name.clone());
            blocking(move || Ok(check_gguf(&data, &name))).await
        };
        match opened {
            Ok(Ok(())) => {}
            Ok(Err(message)) => {
                return Err(self.throw_away(DownloadFault::NotAModel, message).await);
            }
            Err(fault) => return Err(Step::Failed(storage_fault(&self.shared, &fault))),
        }
        let models = self.shared.models_folder.clone();
        let placed = blocking(move || {
            let path = place::place(&data, &models, &record.file_name)?;
            // A record without its file starts again from zero, so it must not stay.
            record.remove(&folder)?;
            Ok(path)
        })
        .await;
        match placed {
            Ok(path) => Ok(Outcome::Placed {
                path,
                sha256: Some(found),
            }),
            Err(fault) => Err(Step::Failed(storage_fault(&self.shared, &fault))),
        }
    }

    /// Nothing is kept of bytes that are wrong.
    async fn throw_away(&mut self, code: DownloadFault, message: String) -> Step {
        let reset = self.with_partial(Partial::reset).await;
        self.view.send_modify(|view| view.done = 0);
        match reset {
            Ok(()) => refused(code, message),
            Err(fault) => Step::Failed(storage_fault(&self.shared, &fault)),
        }
    }

    /// Waits before the next try; true when it is to stop.
    async fn wait(&mut self, message: String, delay: Duration) -> bool {
        let retry_at_ms = self.shared.clock.now_ms() + delay.as_millis() as i64;
        let done = self.partial().done();
        self.view.send_modify(|view| {
            view.done = done;
            view.phase = Phase::Stalled {
                message,
                retry_at_ms,
            };
        });
        let nudges = self.signal.borrow().nudges;
        let mut signal = self.signal.clone();
        let called = signal.wait_for(|signal| signal.stop || signal.nudges != nudges);
        tokio::select! {
            () = sleep(delay) => false,
            called = called => called.is_err() || called.is_ok_and(|signal| signal.stop),
        }
    }

    /// Waits as the bandwidth cap asks; true when it is to stop.
    async fn throttle(&mut self) -> bool {
        let mut limits = self.shared.limits.clone();
        loop {
            let rate = limits.borrow_and_update().bytes_per_second;
            let wait = lock(&self.shared.bucket).wait(rate, Instant::now());
            if wait.is_zero() {
                return self.signal.borrow().stop;
            }
            tokio::select! {
                () = sleep(wait) => {}
                Ok(()) = limits.changed() => {}
                () = self.stopped() => return true,
            }
        }
    }

    async fn stopped(&self) {
        let mut signal = self.signal.clone();
        // An error means that nobody is left who wants it.
        let _ = signal.wait_for(|signal| signal.stop).await;
    }

    /// Whether a file of that many bytes has room.
    fn check_room(&self, total: u64) -> Result<(), Fault> {
        let shared = &self.shared;
        let missing = total.saturating_sub(self.partial().done());
        let used = shared.used_elsewhere.load(Ordering::Relaxed);
        if let Some(quota) = shared.limits.borrow().quota_bytes {
            let over = used.saturating_add(total).saturating_sub(quota);
            if over > 0 {
                return Err(Fault::new(
                    DownloadFault::OverQuota,
                    format!(
                        "it needs {} more than you allow models to take: delete a model, or raise the limit in the settings",
                        size(over)
                    ),
                ));
            }
        }
        let needed = missing.saturating_add(shared.keep_free_bytes);
        match shared.disk.free(&shared.partials_folder) {
            Some(free) if free < needed => Err(disk_full(needed - free)),
            _ => Ok(()),
        }
    }

    fn partial(&self) -> MutexGuard<'_, Partial> {
        lock(&self.partial)
    }

    async fn with_partial<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Partial) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let partial = Arc::clone(&self.partial);
        blocking(move || work(&mut lock(&partial))).await
    }
}

/// What is written next, and where.
struct Input {
    position: u64,
    buffer: Vec<u8>,
    flushed: Instant,
    saved: Instant,
}

impl Input {
    fn end(&self) -> u64 {
        self.position + self.buffer.len() as u64
    }
}

impl Origin {
    /// For `If-Range`, which takes strong validators only.
    fn validator(&self) -> Option<&str> {
        let strong = |tag: &&str| !tag.starts_with("W/");
        let tag = self.etag.as_deref().filter(strong);
        tag.or(self.last_modified.as_deref())
    }

    fn is_other_than(&self, other: &Self) -> bool {
        let differ = |one: &Option<String>, other: &Option<String>| {
            one.is_some() && other.is_some() && one != other
        };
        differ(&self.etag, &other.etag) || differ(&self.last_modified, &other.last_modified)
    }
}

impl Fault {
    fn new(code: DownloadFault, message: String) -> Self {
        Self { code, message }
    }
}

impl From<Fault> for Outcome {
    fn from(fault: Fault) -> Self {
        Self::Failed {
            code: fault.code,
            message: fault.message,
        }
    }
}

/// What an answer is good for.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Use {
        /// Bytes at its start that are there already.
        skip: u64,
        total: Option<u64>,
        origin: Origin,
    },
    /// The file ends where the gap begins.
    EndsAt(u64),
}

fn judge(
    address: &Address,
    record: &Record,
    gap: Gap,
    resumes: bool,
    answer: &Answer,
) -> Result<Verdict, Step> {
    let (host, promise) = (address.host(), &record.promise);
    let (status, headers) = (answer.response.status(), answer.response.headers());
    let old = record.origin.clone().unwrap_or_default();
    let changed = || Step::Restart(format!("the file at {host} has changed: it starts again"));

    if let Some(told) = &answer.hub.sha256 {
        if promise.sha256.as_ref().is_some_and(|hash| hash != told) {
            let message = format!("{host} has another file than the catalogue promises");
            return Err(refused(DownloadFault::WrongHash, message));
        }
        if resumes && record.sha256().is_some_and(|hash| hash != told) {
            return Err(changed());
        }
    }
    let range = content_range(headers);
    if status == StatusCode::RANGE_NOT_SATISFIABLE {
        return match range {
            Some((None, Some(total)))
                if total == gap.start
                    && total > 0
                    && promise.bytes.is_none_or(|it| it == total) =>
            {
                Ok(Verdict::EndsAt(total))
            }
            _ => Err(changed()),
        };
    }
    check_status(host, status, headers)?;
    let is_page = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if is_page {
        let message = format!("{host} answers with a web page, not with a file");
        return Err(refused(DownloadFault::NotAModel, message));
    }
    let sha256 = answer.hub.sha256.clone().or_else(|| {
        let same_source = Address::parse(&old.url).is_ok_and(|it| it == *address);
        old.sha256.clone().filter(|_| same_source || resumes)
    });
    if promise.hash_is_needed && promise.sha256.is_none() && sha256.is_none() {
        let message = format!("{host} does not tell the file's SHA-256, so it cannot be checked");
        return Err(refused(DownloadFault::WrongHash, message));
    }
    let text = |name| Some(headers.get(name)?.to_str().ok()?.to_owned());
    let origin = Origin {
        url: String::new(),
        etag: text(header::ETAG),
        last_modified: text(header::LAST_MODIFIED),
        sha256,
    };
    let by_hash = record.sha256().is_some();
    if resumes && !by_hash && old.is_other_than(&origin) {
        return Err(changed());
    }
    let (skip, told) = if status == StatusCode::PARTIAL_CONTENT {
        match range {
            Some((Some(first), total)) if first == gap.start => (0, total),
            _ => {
                return Err(broken(format!(
                    "{host} sent another part than was asked for"
                )));
            }
        }
    } else {
        // The range was ignored. Unless the file is the same, that says that it has changed.
        let same = by_hash || (old.validator().is_some() && old.validator() == origin.validator());
        if resumes && !same {
            return Err(changed());
        }
        (gap.start, answer.response.content_length())
    };
    let told = told.or(answer.hub.bytes);
    if let (Some(told), Some(promised)) = (told, promise.bytes)
        && told != promised
    {
        return Err(refused(
            DownloadFault::WrongHash,
            format!("{host} has a file of {told} bytes where {promised} are promised"),
        ));
    }
    if let (Some(told), Some(known)) = (told, record.total)
        && told != known
        && resumes
    {
        return Err(changed());
    }
    Ok(Verdict::Use {
        skip,
        total: told.or(record.total).or(promise.bytes),
        origin,
    })
}

fn check_status(host: &str, status: StatusCode, headers: &HeaderMap) -> Result<(), Step> {
    let what = match status.as_u16() {
        200 | 206 => return Ok(()),
        401 | 403 => "gives the file only after a login, or not at all",
        404 | 410 => "has no such file any more",
        code @ (408 | 425 | 429 | 500..) => {
            let seconds = headers
                .get(header::RETRY_AFTER)
                .and_then(|seconds| seconds.to_str().ok()?.trim().parse().ok());
            return Err(Step::Broken {
                message: match code {
                    429 => format!("{host} asks to wait"),
                    _ => format!("{host} has a fault (status {code})"),
                },
                retry_after: seconds
                    .map(|seconds| Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER)),
            });
        }
        _ => "refuses",
    };
    Err(refused(
        DownloadFault::Refused,
        format!("{host} {what} (status {})", status.as_u16()),
    ))
}

async fn open(
    shared: &Shared,
    record: Record,
    signal: watch::Receiver<Signal>,
    view: &watch::Sender<View>,
) -> io::Result<(Partial, u64)> {
    let (folder, chunk_bytes, view) = (
        shared.partials_folder.clone(),
        shared.chunk_bytes,
        view.clone(),
    );
    blocking(move || {
        Partial::open(&folder, record, chunk_bytes, |done| {
            view.send_modify(|view| view.phase = Phase::Verifying { done });
            !signal.borrow().stop
        })
    })
    .await
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn storage_fault(shared: &Shared, fault: &io::Error) -> Fault {
    if is_full(fault) {
        return disk_full(0);
    }
    Fault::new(
        DownloadFault::Storage,
        format!(
            "{} cannot be written: {fault}. Make the folder writable, then resume the download",
            shared.models_folder.display()
        ),
    )
}

fn disk_full(missing: u64) -> Fault {
    Fault::new(
        DownloadFault::DiskFull,
        format!(
            "{} are missing on the disk: free some space, then resume the download",
            size(missing)
        ),
    )
}

fn broken(message: String) -> Step {
    Step::Broken {
        message,
        retry_after: None,
    }
}

fn refused(code: DownloadFault, message: String) -> Step {
    Step::Refused(Fault::new(code, message))
}
