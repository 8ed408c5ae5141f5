//! What is installed, and what it takes.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Actor, unusable};
use crate::library::LibraryError;
use crate::library::download::blocking;
use crate::library::installed::Shelf;
use crate::library::partial::Record;

impl Actor {
    pub(super) async fn delete(&mut self, path: PathBuf) -> Result<(), LibraryError> {
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

    pub(super) async fn rescan(&mut self) -> Result<(), LibraryError> {
        self.scan()
            .await
            .map_err(|fault| unusable(&self.shared.models_folder, fault))
    }

    pub(super) async fn scan(&mut self) -> io::Result<()> {
        let folder = self.shared.models_folder.clone();
        let catalogue = Arc::clone(&self.catalogue);
        self.installed = self
            .with_shelf(move |shelf| shelf.scan(&folder, &catalogue))
            .await?;
        self.count_use();
        Ok(())
    }

    pub(super) async fn with_shelf<T: Send + 'static>(
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

    pub(super) async fn save(&self, record: &Record) -> Result<(), LibraryError> {
        let (record, folder) = (record.clone(), self.shared.partials_folder.clone());
        blocking(move || record.save(&folder))
            .await
            .map_err(|fault| LibraryError::writing(&self.shared.partials_folder, fault))
    }

    pub(super) fn done(&self, record: &Record) -> u64 {
        match &self.running {
            Some(running) if running.id == record.id => running.view.borrow().done,
            _ => record.done(),
        }
    }

    /// Tells downloads and imports what counts against the quota beside them.
    pub(super) fn count_use(&self) -> (u64, u64) {
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
}
