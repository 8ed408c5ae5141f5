//! The row of downloads: which one runs, and what is kept of each.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, ready};

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Actor, Running, unusable};
use crate::library::download::{self, Outcome, Phase, Signal, View, blocking};
use crate::library::fetch::Address;
use crate::library::installed::Provenance;
use crate::library::partial::{Hold, Promise, Record};
use crate::library::{
    Catalogue, Download, DownloadFault, DownloadRequest, DownloadState, LibraryError, names,
};

const METERED: &str = "Waits: this connection is metered. It goes on by itself over another one";

impl Actor {
    pub(super) async fn enqueue(
        &mut self,
        request: DownloadRequest,
    ) -> Result<String, LibraryError> {
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

    pub(super) async fn pause(&mut self, id: &str) -> Result<(), LibraryError> {
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

    pub(super) async fn resume(&mut self, id: &str) -> Result<(), LibraryError> {
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

    pub(super) async fn resume_anyway(&mut self, id: &str) -> Result<(), LibraryError> {
        self.known(id)?;
        for record in self.queue.iter_mut().filter(|record| record.id == id) {
            record.anyway = true;
        }
        // Saves it.
        self.resume(id).await
    }

    /// What runs ends where it may not go on; what it has is kept. A file that is being checked needs
    /// no connection.
    pub(super) async fn set_metered(&mut self, metered: bool) {
        self.metered = Some(metered);
        self.shared.metered.store(metered, Ordering::Relaxed);
        let Some(running) = &self.running else { return };
        let is_checked = matches!(running.view.borrow().phase, Phase::Verifying { .. });
        let mut queue = self.queue.iter();
        let is_let = queue.any(|record| record.id == running.id && self.shared.lets(record));
        if !is_let && !is_checked {
            self.stop_running().await;
        }
    }

    pub(super) async fn cancel(&mut self, id: &str) -> Result<(), LibraryError> {
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

    pub(super) fn known(&self, id: &str) -> Result<(), LibraryError> {
        if self.queue.iter().any(|record| record.id == id) {
            Ok(())
        } else {
            Err(LibraryError::NoDownload(id.chars().take(200).collect()))
        }
    }

    /// Starts the first download that waits, if none runs.
    pub(super) fn start_next(&mut self) {
        if self.running.is_some() {
            return;
        }
        let mut queue = self.queue.iter();
        let waits = |record: &&Record| record.hold.is_none() && self.shared.lets(record);
        let Some(record) = queue.find(waits) else {
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

    pub(super) async fn stop_running(&mut self) {
        if let Some(running) = &self.running {
            running.signal.send_modify(|signal| signal.stop = true);
            let ended = ended(&mut self.running).await;
            self.settle(ended).await;
        }
    }

    /// Takes over what a download has come to.
    pub(super) async fn settle(&mut self, (id, ended): (String, Option<(Record, Outcome)>)) {
        let Some(index) = self.queue.iter().position(|record| record.id == id) else {
            return;
        };
        let outcome = match ended {
            Some((mut record, outcome)) => {
                // Asked for while it ran.
                record.anyway |= self.queue[index].anyway;
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

    pub(super) async fn remember(&mut self, path: PathBuf, mut provenance: Provenance) {
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

    pub(super) fn downloads(&mut self, now: Instant) -> Vec<Download> {
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
                (None, _) if !is_running && self.metered == Some(true) && !record.anyway => {
                    DownloadState::Metered {
                        message: METERED.to_owned(),
                    }
                }
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
pub(super) fn ended(
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
pub(super) fn renew(mut record: Record, catalogue: &Catalogue) -> Record {
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
