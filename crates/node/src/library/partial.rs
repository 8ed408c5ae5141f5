//! An unfinished download on the disk: its bytes, and beside them what is known of them.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::DownloadFault;
use super::chunks::{ChunkRecord, Chunks, Gap};
use crate::identity::write_private;

const VERSION: u32 = 1;

/// Everything that must outlive the program, a crash and a power cut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    version: u32,
    pub id: String,
    pub name: String,
    /// That the finished file will have, unless it is taken.
    pub file_name: String,
    pub catalogue_id: Option<String>,
    /// When it was asked for; Unix time.
    pub queued_ms: i64,
    /// Tried in order.
    pub sources: Vec<String>,
    pub promise: Promise,
    /// Why it does not go on by itself.
    pub hold: Option<Hold>,
    /// The person wants it whatever the connection costs.
    #[serde(default)]
    pub anyway: bool,
    /// None before the first answer.
    pub origin: Option<Origin>,
    pub total: Option<u64>,
    chunk_bytes: u64,
    chunks: Vec<ChunkRecord>,
}

/// What the file has to be, known before it is fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Promise {
    pub sha256: Option<String>,
    pub bytes: Option<u64>,
    /// Roughly, to check the room for it before a server is asked.
    pub about_bytes: Option<u64>,
    /// Nothing is fetched from a source that does not tell the hash, where none is promised.
    pub hash_is_needed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Hold {
    Paused,
    Failed {
        code: DownloadFault,
        message: String,
    },
}

/// What the source said of the bytes that are there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    pub url: String,
    pub etag: Option<String>,
    pub last_modified: Option<String>,
    /// The whole file's hash, as a hub tells it.
    pub sha256: Option<String>,
}

/// A download's file while a task writes it.
#[derive(Debug)]
pub(super) struct Partial {
    pub record: Record,
    folder: PathBuf,
    file: File,
    chunks: Chunks,
}

impl Record {
    pub(super) fn new(id: String, name: String, file_name: String, sources: Vec<String>) -> Self {
        Self {
            version: VERSION,
            id,
            name,
            file_name,
            catalogue_id: None,
            queued_ms: 0,
            sources,
            promise: Promise::default(),
            hold: None,
            anyway: false,
            origin: None,
            total: None,
            chunk_bytes: 0,
            chunks: Vec::new(),
        }
    }

    pub(super) fn done(&self) -> u64 {
        let all = self.chunks.iter().map(|chunk| chunk.bytes);
        all.fold(0, u64::saturating_add)
    }

    /// The SHA-256 that the whole file must have; none while nobody has told it.
    pub(super) fn sha256(&self) -> Option<&str> {
        let told = self.origin.as_ref().and_then(|it| it.sha256.as_deref());
        self.promise.sha256.as_deref().or(told)
    }

    pub(super) fn save(&self, folder: &Path) -> io::Result<()> {
        let content = serde_json::to_vec(self)?;
        write_private(&record_path(folder, &self.id), &content, true)
    }

    /// Deletes it with all that was fetched.
    pub(super) fn remove(&self, folder: &Path) -> io::Result<()> {
        let data = remove_if_there(&data_path(folder, &self.id));
        let record = remove_if_there(&record_path(folder, &self.id));
        data.and(record)
    }
}

/// The downloads that an earlier run left, the oldest first. What cannot be read is deleted.
pub(super) fn load_all(folder: &Path) -> io::Result<Vec<Record>> {
    let mut records: Vec<Record> = Vec::new();
    let mut strays = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(id) = name.strip_suffix(RECORD_SUFFIX) {
            match read(&path, id) {
                // A crash came between the file's move into the models folder and this.
                Ok(record) if record.done() > 0 && !data_path(folder, id).exists() => {
                    strays.push(path);
                }
                Ok(record) => records.push(record),
                Err(error) => {
                    tracing::warn!(%error, file = %name, "an unreadable download is dropped");
                    strays.push(path);
                }
            }
        } else if name.ends_with(DATA_SUFFIX) || name.ends_with(".tmp") {
            strays.push(path);
        }
    }
    strays.retain(|path| {
        !records
            .iter()
            .any(|record| data_path(folder, &record.id) == *path)
    });
    for path in strays {
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(%error, "a leftover of a download cannot be deleted");
        }
    }
    records.sort_by(|one, other| (one.queued_ms, &one.id).cmp(&(other.queued_ms, &other.id)));
    Ok(records)
}

pub(super) fn data_path(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}{DATA_SUFFIX}"))
}

impl Partial {
    /// Opens the file and keeps of it what is as it was written; gives how many bytes were not.
    /// `go_on` gets the bytes that were looked at, and ends it with `false`.
    pub(super) fn open(
        folder: &Path,
        record: Record,
        chunk_bytes: u64,
        go_on: impl FnMut(u64) -> bool,
    ) -> io::Result<(Self, u64)> {
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(data_path(folder, &record.id))?;
        let chunk_bytes = match record.chunk_bytes {
            0 => chunk_bytes,
            bytes => bytes,
        };
        let (chunks, damaged) = Chunks::check(chunk_bytes, &record.chunks, &mut file, go_on)?;
        let mut partial = Self {
            record,
            folder: folder.to_owned(),
            file,
            chunks,
        };
        partial.record.chunk_bytes = chunk_bytes;
        partial.save()?;
        Ok((partial, damaged))
    }

    pub(super) fn done(&self) -> u64 {
        self.chunks.done()
    }

    pub(super) fn next_gap(&self) -> Option<Gap> {
        self.chunks.next_gap(self.record.total)
    }

    /// Writes bytes at the start of the next gap.
    pub(super) fn write(&mut self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(position))?;
        self.file.write_all(bytes)?;
        self.chunks.add(position, bytes);
        Ok(())
    }

    pub(super) fn save(&mut self) -> io::Result<()> {
        self.record.chunks = self.chunks.records();
        self.record.save(&self.folder)
    }

    /// Forgets all that was fetched.
    pub(super) fn reset(&mut self) -> io::Result<()> {
        self.chunks = Chunks::new(self.record.chunk_bytes);
        self.record.origin = None;
        self.record.total = None;
        self.file.set_len(0)?;
        self.save()
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

const RECORD_SUFFIX: &str = ".json";
const DATA_SUFFIX: &str = ".part";

fn record_path(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}{RECORD_SUFFIX}"))
}

fn read(path: &Path, id: &str) -> io::Result<Record> {
    let record: Record = serde_json::from_slice(&fs::read(path)?)?;
    if record.version != VERSION || record.id != id || record.sources.is_empty() {
        return Err(io::Error::other("it is of another version"));
    }
    Ok(record)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => Err(fault),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str) -> Record {
        Record::new(
            id.to_owned(),
            "Model".to_owned(),
            "model.gguf".to_owned(),
            vec!["https://models.example/model.gguf".to_owned()],
        )
    }

    #[test]
    fn a_download_outlives_the_program() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let (mut partial, damaged) = Partial::open(path, record("a"), 10, |_| true).unwrap();
        assert_eq!(damaged, 0);
        partial.record.total = Some(30);
        partial.write(0, &[1; 25]).unwrap();
        partial.save().unwrap();
        // A crash: these bytes are written and not recorded.
        partial.write(25, &[1; 2]).unwrap();
        drop(partial);

        let mut records = load_all(path).unwrap();
        assert_eq!((records.len(), records[0].done()), (1, 25));
        let (partial, damaged) = Partial::open(path, records.remove(0), 999, |_| true).unwrap();
        assert_eq!((partial.done(), damaged), (25, 0));
        let gap = partial.next_gap().unwrap();
        assert_eq!((gap.start, gap.end), (25, Some(30)));
    }

    #[test]
    fn a_damaged_chunk_alone_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let (mut partial, _) = Partial::open(path, record("a"), 10, |_| true).unwrap();
        partial.record.total = Some(30);
        partial.write(0, &[1; 30]).unwrap();
        partial.save().unwrap();
        let record = partial.record.clone();
        drop(partial);
        let data = data_path(path, "a");
        let mut bytes = fs::read(&data).unwrap();
        bytes[15] = 2;
        fs::write(&data, bytes).unwrap();
        let (partial, damaged) = Partial::open(path, record, 10, |_| true).unwrap();
        assert_eq!((partial.done(), damaged), (20, 10));
        assert_eq!(partial.next_gap().unwrap().start, 10);
    }

    #[test]
    fn leftovers_and_what_cannot_be_read_are_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        record("good").save(path).unwrap();
        fs::write(data_path(path, "good"), "x").unwrap();
        fs::write(data_path(path, "orphan"), "x").unwrap();
        fs::write(path.join("broken.json"), "{").unwrap();
        fs::write(data_path(path, "broken"), "x").unwrap();
        fs::write(path.join("import-1.tmp"), "x").unwrap();
        fs::write(path.join("mine.txt"), "x").unwrap();
        record("moved").save(path).unwrap();
        fs::rename(path.join("moved.json"), path.join("other.json")).unwrap();
        let ids: Vec<_> = load_all(path)
            .unwrap()
            .into_iter()
            .map(|record| record.id)
            .collect();
        assert_eq!(ids, ["good"]);
        let mut left: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["good.json", "good.part", "mine.txt"]);
    }

    #[test]
    fn a_record_whose_file_has_moved_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let (mut partial, _) = Partial::open(path, record("a"), 10, |_| true).unwrap();
        partial.write(0, &[1; 5]).unwrap();
        partial.save().unwrap();
        drop(partial);
        fs::remove_file(data_path(path, "a")).unwrap();
        assert_eq!(load_all(path).unwrap(), []);
        assert_eq!(fs::read_dir(path).unwrap().count(), 0);
    }

    #[test]
    fn removing_takes_everything_and_can_be_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let (partial, _) = Partial::open(folder.path(), record("a"), 10, |_| true).unwrap();
        partial.record.remove(folder.path()).unwrap();
        partial.record.remove(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
