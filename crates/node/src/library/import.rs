//! Copies a model file of the user's into the models folder.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use ring::digest;

use super::download::Shared;
use super::file_check::check_gguf;
use super::installed::Provenance;
use super::{Import, LibraryError, names, place};

const BLOCK_BYTES: usize = 1 << 20;

/// A copy that is being made. Dropped before its end, it leaves nothing.
pub(super) struct Draft {
    shared: Arc<Shared>,
    name: String,
    path: PathBuf,
    file: Option<File>,
    context: digest::Context,
    bytes: u64,
    number: u64,
    /// When the list last heard of it.
    shown: Option<Instant>,
}

/// Ends a copy when its caller goes away.
pub(super) struct Cancel(pub Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Draft {
    /// `name` is what the user calls the file; nothing in it is trusted.
    pub(super) fn new(
        shared: Arc<Shared>,
        name: &str,
        total_bytes: Option<u64>,
    ) -> Result<Self, LibraryError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let file_name = format!("import-{}-{number}.tmp", std::process::id());
        let path = shared.partials_folder.join(file_name);
        let file = File::create(&path)
            .map_err(|fault| LibraryError::writing(&shared.partials_folder, fault))?;
        let name = names::safe_name(name);
        shared.imports.send_modify(|imports| {
            imports.push(Import {
                id: number,
                name: name.clone(),
                done_bytes: 0,
                total_bytes,
            });
        });
        Ok(Self {
            shared,
            name,
            path,
            file: Some(file),
            context: digest::Context::new(&digest::SHA256),
            bytes: 0,
            number,
            shown: None,
        })
    }

    pub(super) fn write(&mut self, block: &[u8]) -> Result<(), LibraryError> {
        if self.bytes == 0 && !block.starts_with(b"GGUF") {
            return Err(LibraryError::NotAModel {
                reason: format!("`{}` does not begin as a GGUF file does.", self.name),
            });
        }
        check_room(&self.shared, self.bytes, block.len() as u64)?;
        let folder = &self.shared.partials_folder;
        if let Some(file) = &mut self.file {
            file.write_all(block)
                .map_err(|fault| LibraryError::writing(folder, fault))?;
        }
        self.context.update(block);
        self.bytes += block.len() as u64;
        let publish = self.shared.timing.publish;
        if self.shown.is_none_or(|shown| shown.elapsed() >= publish) {
            self.shown = Some(Instant::now());
            let mine = |import: &&mut Import| import.id == self.number;
            self.shared.imports.send_modify(|imports| {
                if let Some(import) = imports.iter_mut().find(mine) {
                    import.done_bytes = self.bytes;
                }
            });
        }
        Ok(())
    }

    /// Checks the copy and moves it into the models folder.
    pub(super) fn finish(mut self) -> Result<(PathBuf, Provenance), LibraryError> {
        let folder = &self.shared.partials_folder;
        if let Some(file) = self.file.take() {
            file.sync_all()
                .map_err(|fault| LibraryError::writing(folder, fault))?;
        }
        check_gguf(&self.path, &self.name).map_err(|reason| LibraryError::NotAModel { reason })?;
        let models = &self.shared.models_folder;
        let path = place::place(&self.path, models, &self.name)
            .map_err(|fault| LibraryError::writing(models, fault))?;
        let provenance = Provenance {
            bytes: self.bytes,
            catalogue_id: None,
            sha256: Some(hex::encode(self.context.clone().finish())),
        };
        Ok((path, provenance))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Windows deletes no open file.
        self.file = None;
        // After a success it has moved.
        let _ = fs::remove_file(&self.path);
        let others = |import: &Import| import.id != self.number;
        self.shared
            .imports
            .send_modify(|imports| imports.retain(others));
    }
}

/// Copies a file of this machine.
pub(super) fn copy(
    shared: &Arc<Shared>,
    path: &Path,
    cancelled: &AtomicBool,
) -> Result<(PathBuf, Provenance), LibraryError> {
    let unreadable = |fault: io::Error| LibraryError::Unreadable {
        path: path.to_owned(),
        fault,
    };
    let full = path.canonicalize().map_err(unreadable)?;
    let models = shared.models_folder.canonicalize();
    if models.is_ok_and(|models| full.parent() == Some(&models)) {
        return Err(LibraryError::InFolder(full));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // What is no model is told before anything is copied.
    let details = fs::metadata(&full).map_err(unreadable)?;
    if !details.is_file() {
        let reason = format!("`{name}` is no file.");
        return Err(LibraryError::NotAModel { reason });
    }
    let mut source = File::open(&full).map_err(unreadable)?;
    check_gguf(&full, &name).map_err(|reason| LibraryError::NotAModel { reason })?;
    check_room(shared, 0, details.len())?;

    let mut draft = Draft::new(Arc::clone(shared), &name, Some(details.len()))?;
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        if cancelled.load(Ordering::Relaxed) {
            return Err(LibraryError::Interrupted("it was cancelled".to_owned()));
        }
        match source.read(&mut block) {
            Ok(0) => return draft.finish(),
            Ok(got) => draft.write(&block[..got])?,
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
            Err(fault) => return Err(unreadable(fault)),
        }
    }
}

/// Whether `more` bytes have room, where `written` of the same file are there already.
fn check_room(shared: &Shared, written: u64, more: u64) -> Result<(), LibraryError> {
    if let Some(quota) = shared.limits.borrow().quota_bytes {
        let used = shared.used.load(Ordering::Relaxed);
        let wanted = used.saturating_add(written).saturating_add(more);
        if wanted > quota {
            return Err(LibraryError::OverQuota {
                missing_bytes: wanted - quota,
            });
        }
    }
    let needed = more.saturating_add(shared.keep_free_bytes);
    match shared.disk.free(&shared.partials_folder) {
        Some(free) if free < needed => Err(LibraryError::DiskFull {
            missing_bytes: needed - free,
        }),
        _ => Ok(()),
    }
}
