//! The balancer's `SQLite` database: opened, migrated, and its faults put into sentences.

use std::io::Write as _;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Executor, Sqlite};

use crate::private;

/// Name of the database inside the data folder.
pub(crate) const FILE_NAME: &str = "balancer.db";
/// What is written and deleted again to see that the disk has room.
const ROOM_FILE: &str = "room";
const ROOM_BYTES: usize = 256 << 10;
/// How often [`Database::health`] looks for itself, however often it is asked.
const HEALTH_PAUSE: Duration = Duration::from_secs(2);
/// How long it waits for the database.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
/// How often, and how long after each other, a failed commit is looked up.
const COMMIT_LOOKS: u32 = 20;
const COMMIT_PAUSE: Duration = Duration::from_millis(100);
/// How often the write-ahead log is emptied at most: writers wait meanwhile.
const FORGET_PAUSE: Duration = Duration::from_secs(10);

static MIGRATIONS: Migrator = sqlx::migrate!();

/// `SQLite` knows one writer at a time: writes queue here for one connection, reads have their own.
#[derive(Debug, Clone)]
pub struct Database {
    writer: SqlitePool,
    readers: SqlitePool,
    shared: Arc<Shared>,
}

/// One transaction. What is not committed is rolled back when it is dropped.
///
/// `SQLite` rolls back by itself when the disk is full, and then knows nothing of a transaction
/// that a pool would go on counting. So a connection goes back to the pool only after its own
/// `COMMIT` or `ROLLBACK` went well; otherwise it is closed, and the next write opens another.
pub(crate) struct Write<'a> {
    /// There until it is committed or dropped.
    connection: Option<PoolConnection<Sqlite>>,
    pool: &'a SqlitePool,
    shared: &'a Arc<Shared>,
    deleted_text: bool,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    /// Random: tells this run's commits from others'.
    run: i64,
    /// The next commit's.
    number: AtomicI64,
    health: Mutex<Health>,
    /// One looks for itself at a time.
    looking: tokio::sync::Mutex<()>,
    /// Texts were deleted that the write-ahead log may still hold.
    deleted_text: AtomicBool,
    /// When the log was last emptied because of that.
    forgotten: Mutex<Option<Instant>>,
    #[cfg(test)]
    fault: Mutex<Option<Fault>>,
}

/// What a test has the next commit do.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing is written.
    BeforeCommit,
    /// Everything is written, and said not to be.
    AfterCommit,
}

/// What was last seen of writing.
#[derive(Debug, Default)]
struct Health {
    /// Why the last write failed, if it did.
    fault: Option<String>,
    /// Why the data folder takes no file, if it does not.
    room_fault: Option<String>,
    looked: Option<Instant>,
}

#[derive(Debug, thiserror::Error)]
pub enum DbError {
    #[error("The data folder {} cannot be used: {source}. Choose another with --data", folder.display())]
    Folder {
        folder: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "The database cannot be opened. Check that the data folder exists, is a folder, and may be written to, or choose another with --data"
    )]
    CannotOpen,
    #[error(
        "The database was made by a newer version of this program. Install that version, or choose another data folder with --data"
    )]
    Newer,
    #[error(
        "The disk is full, so nothing more can be written. Free some space; nothing that was written is lost"
    )]
    Full,
    #[error(
        "The database may only be read. Make the data folder writable for this user, or choose another with --data"
    )]
    ReadOnly,
    #[error("Another program keeps the database locked. End it, or try again in a moment")]
    Locked,
    #[error(
        "The file in the data folder is not a database, or is damaged. Restore it from a backup, or choose another data folder with --data"
    )]
    Damaged,
    #[error("The database's tables could not be brought up to date: {0}")]
    Migrate(#[source] MigrateError),
    #[error("The database holds something that cannot be read back: {0}")]
    Content(String),
    #[error(
        "The postings of `{key}` sum to {sum} instead of zero and were not written. This is a fault in the program"
    )]
    Unbalanced { key: String, sum: i128 },
    #[error("The database answered: {0}")]
    Other(#[source] sqlx::Error),
}

impl Database {
    /// Whether `folder` has a database.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(FILE_NAME).exists()
    }

    /// Opens the database in `folder`, makes both if they are missing, and brings it up to date.
    pub async fn open(folder: &Path) -> Result<Self, DbError> {
        let path = folder.join(FILE_NAME);
        private::folder(folder, &path)
            .and_then(|()| private::file(&path))
            .map_err(|source| DbError::Folder {
                folder: folder.to_owned(),
                source,
            })?;
        let options = infera_sqlite::options(&path)
            // A power cut may undo the last moments, but never leaves a half-written state.
            .synchronous(SqliteSynchronous::Normal);
        Self::connect(folder, options).await
    }

    async fn connect(folder: &Path, options: SqliteConnectOptions) -> Result<Self, DbError> {
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(30))
            .connect_with(options.clone())
            .await?;
        MIGRATIONS.run(&writer).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(options)
            .await?;
        // Nobody asks about runs that are long over.
        writer
            .execute("DELETE FROM commits WHERE (SELECT count(*) FROM commits) > 1000")
            .await?;
        let shared = Shared {
            folder: folder.to_owned(),
            run: i64::from_le_bytes(random_8()?),
            number: AtomicI64::new(1),
            health: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
            deleted_text: AtomicBool::new(false),
            forgotten: Mutex::default(),
            #[cfg(test)]
            fault: Mutex::default(),
        };
        Ok(Self {
            writer,
            readers,
            shared: Arc::new(shared),
        })
    }

    pub fn read(&self) -> &SqlitePool {
        &self.readers
    }

    /// Begins a write. It takes the write lock at once, so that it never fails halfway because
    /// another process wrote in between.
    pub(crate) async fn write(&self) -> Result<Write<'_>, DbError> {
        let begun = async {
            let mut write = Write {
                connection: Some(self.writer.acquire().await?),
                pool: &self.writer,
                shared: &self.shared,
                deleted_text: false,
            };
            write.execute("BEGIN IMMEDIATE").await?;
            Ok::<_, DbError>(write)
        };
        let begun = begun.await;
        if let Err(error) = &begun {
            self.shared.failed(error.to_string());
        }
        begun
    }

    /// Runs an update that takes a moment and a name, and says whether any row has that name.
    pub(crate) async fn update_named(
        &self,
        sql: &'static str,
        now_ms: i64,
        name: &str,
    ) -> Result<bool, DbError> {
        let mut write = self.write().await?;
        let outcome = sqlx::query(sql)
            .bind(now_ms)
            .bind(name)
            .execute(&mut *write)
            .await?;
        write.commit().await?;
        Ok(outcome.rows_affected() > 0)
    }

    /// Why nothing can be written, if so. Mostly it tells how the last write went: only now and
    /// then it writes something itself, so that asking often costs nothing.
    pub async fn health(&self) -> Result<(), String> {
        let looking = self.shared.looking.try_lock();
        let due = self
            .shared
            .health()
            .looked
            .is_none_or(|looked| looked.elapsed() >= HEALTH_PAUSE);
        // Whoever asks while another looks is told what was known before.
        if due && let Ok(_looking) = looking {
            let seen = tokio::time::timeout(HEALTH_TIMEOUT, self.look()).await;
            if seen.is_err() {
                self.shared
                    .failed("The database does not answer".to_owned());
            }
            self.shared.health().looked = Some(Instant::now());
        }
        let health = self.shared.health();
        match health.fault.as_ref().or(health.room_fault.as_ref()) {
            None => Ok(()),
            Some(fault) => Err(fault.clone()),
        }
    }

    async fn look(&self) {
        let file = self.shared.folder.join(ROOM_FILE);
        let room = tokio::task::spawn_blocking(move || {
            let written = std::fs::File::create(&file)
                .and_then(|mut room| room.write_all(&vec![1; ROOM_BYTES]));
            // One that stays is written over next time.
            let _ = std::fs::remove_file(&file);
            written
        });
        let fault = match room.await {
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::StorageFull => {
                Some(DbError::Full.to_string())
            }
            Ok(Err(error)) => Some(format!("The data folder takes no file: {error}")),
            Ok(Ok(())) | Err(_) => None,
        };
        self.shared.health().room_fault = fault;
        // The outcome is kept by the write itself.
        if let Ok(mut write) = self.write().await
            && write.execute("PRAGMA user_version = 0").await.is_ok()
        {
            let _ = write.commit().await;
        }
    }

    /// Empties the write-ahead log now and then, if it may hold texts that were deleted.
    pub(crate) async fn forget_deleted_text(&self) -> Result<(), DbError> {
        {
            let mut forgotten = self
                .shared
                .forgotten
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if forgotten.is_some_and(|forgotten| forgotten.elapsed() < FORGET_PAUSE)
                || !self.shared.deleted_text.swap(false, Ordering::Relaxed)
            {
                return Ok(());
            }
            *forgotten = Some(Instant::now());
        }
        let busy: Result<i64, _> = sqlx::query_scalar("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(&self.writer)
            .await;
        if !matches!(busy, Ok(0)) {
            // Somebody reads: it is tried again.
            self.shared.deleted_text.store(true, Ordering::Relaxed);
        }
        busy?;
        Ok(())
    }

    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

#[cfg(test)]
impl Database {
    /// Whether nothing is read or written now.
    pub(crate) fn is_idle(&self) -> bool {
        [&self.writer, &self.readers].map(|pool| pool.num_idle() == pool.size() as usize)
            == [true; 2]
    }

    /// Has the next commit fail; tells whether the fault before was met.
    pub(crate) fn fail_next(&self, fault: Option<Fault>) -> bool {
        let mut next = self.shared.fault.lock().unwrap();
        std::mem::replace(&mut *next, fault).is_none()
    }
}

impl Write<'_> {
    /// Commits. A commit that fails is looked up: an error must mean that nothing was written, or
    /// what is in memory and what is in the database would part.
    pub(crate) async fn commit(mut self) -> Result<(), DbError> {
        #[cfg(test)]
        let fault = self.shared.fault.lock().unwrap().take();
        #[cfg(test)]
        if fault == Some(Fault::BeforeCommit) {
            return Err(DbError::Full);
        }
        let shared = Arc::clone(self.shared);
        let number = shared.number.fetch_add(1, Ordering::Relaxed);
        sqlx::query(
            "INSERT INTO commits (run, number) VALUES (?, ?)
             ON CONFLICT (run) DO UPDATE SET number = excluded.number",
        )
        .bind(shared.run)
        .bind(number)
        .execute(&mut *self)
        .await?;
        let committed = self.execute("COMMIT").await.map_err(DbError::from);
        #[cfg(test)]
        let committed = match fault {
            Some(Fault::AfterCommit) => Err(DbError::Full),
            _ => committed.map(|_| ()),
        };
        if let Err(error) = committed {
            let pool = self.pool.clone();
            if let Some(connection) = self.connection.take() {
                close(connection).await;
            }
            if !is_committed(&pool, shared.run, number).await? {
                shared.failed(error.to_string());
                return Err(error);
            }
            tracing::warn!(%error, "a commit failed, but what it wrote is there");
        }
        // It goes back to the pool.
        self.connection = None;
        self.shared.health().fault = None;
        if self.deleted_text {
            self.shared.deleted_text.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// This write deletes texts of clients.
    pub(crate) fn deletes_text(&mut self) {
        self.deleted_text = true;
    }
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        let shared = Arc::clone(self.shared);
        tokio::spawn(async move {
            if let Err(error) = connection.execute("ROLLBACK").await {
                tracing::warn!(%error, "a write failed and was undone by the database itself");
                shared.failed("The last write failed and was undone".to_owned());
                close(connection).await;
            }
        });
    }
}

impl Deref for Write<'_> {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        self.connection.as_ref().expect("it is taken at the end")
    }
}

impl DerefMut for Write<'_> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        self.connection.as_mut().expect("it is taken at the end")
    }
}

impl Shared {
    fn failed(&self, fault: String) {
        let mut health = self.health();
        health.fault = Some(fault);
        // Worth a look as soon as somebody asks.
        health.looked = None;
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        // Every change is complete before anything that could panic.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a commit is in the database. It is asked for some seconds: not to know would be worst.
async fn is_committed(pool: &SqlitePool, run: i64, number: i64) -> Result<bool, DbError> {
    let mut tries = 0;
    loop {
        let last: Result<Option<i64>, _> =
            sqlx::query_scalar("SELECT number FROM commits WHERE run = ?")
                .bind(run)
                .fetch_optional(pool)
                .await;
        match last {
            Ok(last) => return Ok(last == Some(number)),
            Err(error) if tries == COMMIT_LOOKS => {
                tracing::error!(%error, "a commit failed, and whether it was written cannot be read. Restart the balancer once the disk is well: it then goes by the database");
                return Err(error.into());
            }
            Err(_) => tries += 1,
        }
        tokio::time::sleep(COMMIT_PAUSE).await;
    }
}

fn random_8() -> Result<[u8; 8], DbError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| DbError::Content(error.to_string()))?;
    Ok(bytes)
}

/// The pool opens another connection in place of this one.
async fn close(connection: PoolConnection<Sqlite>) {
    if let Err(error) = connection.close().await {
        tracing::warn!(%error, "a connection to the database ended badly");
    }
}

impl DbError {
    /// The fault's own sentence; none where only the error tells.
    fn known(fault: infera_sqlite::Fault) -> Option<Self> {
        use infera_sqlite::Fault;
        match fault {
            Fault::Full => Some(Self::Full),
            Fault::Locked => Some(Self::Locked),
            Fault::ReadOnly => Some(Self::ReadOnly),
            Fault::CannotOpen => Some(Self::CannotOpen),
            Fault::Damaged => Some(Self::Damaged),
            Fault::Newer => Some(Self::Newer),
            Fault::Other => None,
        }
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        Self::known(infera_sqlite::Fault::of(&error)).unwrap_or(Self::Other(error))
    }
}

impl From<MigrateError> for DbError {
    fn from(error: MigrateError) -> Self {
        Self::known(infera_sqlite::Fault::of_migration(&error)).unwrap_or(Self::Migrate(error))
    }
}

#[cfg(test)]
mod tests {
    use infera_protocol::{Sampling, Task, Writing};

    use super::*;

    #[tokio::test]
    async fn a_newer_database_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path()).await.unwrap();
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (9999, 'later', 1, x'00', 0)",
        )
        .execute(&database.writer)
        .await
        .unwrap();
        database.close().await;
        let error = Database::open(folder.path()).await.unwrap_err();
        assert!(matches!(error, DbError::Newer), "{error}");
    }

    /// Jobs that an earlier version wrote are the tasks that they were.
    #[tokio::test]
    async fn jobs_of_an_earlier_version_become_tasks() {
        const TASKS: i64 = 8;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true);
        let old = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await
            .unwrap();
        let mut earlier = Migrator::DEFAULT;
        let before = MIGRATIONS.iter().filter(|one| one.version < TASKS);
        earlier.migrations = before.cloned().collect();
        earlier.run(&old).await.unwrap();
        let (model, seed) = ("11".repeat(32), "22".repeat(32));
        let ids: [u32; 3] = [1, 151_643, u32::MAX];
        let prompt: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let sampling = r#"{"temperature":0.7,"top_k":40,"top_p":0.95,"min_p":0.0}"#;
        for (id, prompt, texts) in [
            ("writes", Some(&prompt), None),
            ("embeds", Some(&prompt), Some("[1,2]")),
            ("deleted", None, None),
        ] {
            sqlx::query(
                "INSERT INTO jobs (id, client, model, model_name, prompt, prompt_tokens,
                     prompt_hash, texts, sampling, max_tokens, stop, seed, input_price,
                     output_price, wait, keep, state, created_ms)
                 VALUES (?, 'ann', ?, '', ?, 3, '', ?, ?, 5, '[\"a\"]', ?, 1, 1, 0, 0, 'done', 1)",
            )
            .bind(id)
            .bind(&model)
            .bind(prompt)
            .bind(texts)
            .bind(sampling)
            .bind(&seed)
            .execute(&old)
            .await
            .unwrap();
        }
        sqlx::query(
            "INSERT INTO canary_stock (model, prompt, output, log_probabilities, sampling,
                 max_tokens, seed, ended, made_ms)
             VALUES (?, ?, x'', x'', ?, 5, ?, 'length', 1)",
        )
        .bind(&model)
        .bind(&prompt)
        .bind(sampling)
        .bind(&seed)
        .execute(&old)
        .await
        .unwrap();
        old.close().await;
        let database = Database::open(folder.path()).await.unwrap();
        let writing = Writing {
            sampling: Sampling {
                temperature: 0.7,
                top_k: 40,
                top_p: 0.95,
                min_p: 0.0,
            },
            max_tokens: 5,
            stop: vec!["a".to_owned()],
            logprobs: None,
            seed: seed.parse().unwrap(),
        };
        let model = model.parse().unwrap();
        let without_stop = Writing {
            stop: Vec::new(),
            ..writing.clone()
        };
        let expected = [
            Task::write(model, Vec::new(), writing.clone()),
            Task::embed(model, &[ids[..1].to_vec(), ids[1..].to_vec()]),
            Task::write(model, ids.to_vec(), writing),
            Task::write(model, ids.to_vec(), without_stop),
        ];
        let found = sqlx::query(
            "SELECT task, prompt FROM (SELECT id, task, prompt FROM jobs
                 UNION SELECT 'x', task, prompt FROM canary_stock)
             ORDER BY id = 'x', id",
        )
        .fetch_all(database.read())
        .await
        .unwrap();
        let found: Vec<Task> = found
            .iter()
            .map(|row| crate::store::task(row).unwrap())
            .collect();
        assert_eq!(found, expected);
        let deleted: Vec<String> = sqlx::query_scalar("SELECT id FROM jobs WHERE prompt IS NULL")
            .fetch_all(database.read())
            .await
            .unwrap();
        assert_eq!(deleted, ["deleted"]);
    }

    #[tokio::test]
    async fn what_is_no_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), vec![b'x'; 8192]).unwrap();
        let error = Database::open(folder.path()).await.unwrap_err();
        assert!(matches!(error, DbError::Damaged), "{error}");
    }

    #[tokio::test]
    async fn a_file_in_place_of_the_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "").unwrap();
        let error = Database::open(&path).await.unwrap_err();
        assert!(error.to_string().contains("--data"), "{error}");
    }

    /// Adds rows of 4 KiB in one write until one fails.
    async fn write_much(database: &Database, rows: usize) -> Result<(), DbError> {
        let mut write = database.write().await?;
        for number in 0..rows {
            sqlx::query("INSERT INTO nodes (id, software) VALUES (?, ?)")
                .bind(number.to_string())
                .bind("x".repeat(4096))
                .execute(&mut *write)
                .await?;
        }
        write.commit().await
    }

    async fn rows(database: &Database) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM nodes")
            .fetch_one(database.read())
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn a_full_disk_is_a_sentence_and_nothing_is_half_written_and_writing_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path()).await.unwrap();
        // SQLite's own limit on the file's size gives the same fault as a full disk.
        sqlx::query("PRAGMA max_page_count = 1")
            .execute(&database.writer)
            .await
            .unwrap();
        let outcome = write_much(&database, 1000).await;
        assert!(matches!(outcome, Err(DbError::Full)), "{outcome:?}");
        assert_eq!(rows(&database).await, 0);
        // The limit ended with the connection that it was set on.
        write_much(&database, 10).await.unwrap();
        assert_eq!(rows(&database).await, 10);
        database.health().await.unwrap();
    }

    #[tokio::test]
    async fn a_write_that_is_dropped_at_any_point_leaves_the_next_one_whole() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path()).await.unwrap();
        for polls in 0..40 {
            let mut writing = Box::pin(write_much(&database, 3));
            let mut left = polls;
            // Polled so many times and then dropped, as by a caller who hangs up.
            std::future::poll_fn(|context| {
                let done = writing.as_mut().poll(context).is_ready();
                left -= i32::from(left > 0);
                if done || left == 0 {
                    std::task::Poll::Ready(())
                } else {
                    std::task::Poll::Pending
                }
            })
            .await;
            drop(writing);
            if rows(&database).await > 0 {
                let mut write = database.write().await.unwrap();
                write.execute("DELETE FROM nodes").await.unwrap();
                write.commit().await.unwrap();
            }
        }
        write_much(&database, 10).await.unwrap();
        assert_eq!(rows(&database).await, 10);
    }

    /// A file system of its own in memory, which goes with the value.
    #[cfg(target_os = "linux")]
    struct SmallDisk(tempfile::TempDir);

    #[cfg(target_os = "linux")]
    impl SmallDisk {
        fn new() -> Option<Self> {
            let folder = tempfile::tempdir().unwrap();
            let mounted = std::process::Command::new("mount")
                .args(["-t", "tmpfs", "-o", "size=6m", "tmpfs"])
                .arg(folder.path())
                .output()
                .is_ok_and(|output| output.status.success());
            mounted.then_some(Self(folder))
        }
    }

    #[cfg(target_os = "linux")]
    impl Drop for SmallDisk {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount")
                .arg("--lazy")
                .arg(self.0.path())
                .status();
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_disk_that_was_full_is_written_again_once_it_has_room() {
        let Some(disk) = SmallDisk::new() else {
            eprintln!("skipped: only root may mount a small file system");
            return;
        };
        let path = disk.0.path();
        let database = Database::open(path).await.unwrap();
        let filler = path.join("filler");
        let mut file = std::fs::File::create(&filler).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        for _ in 0..3 {
            let outcome = write_much(&database, 1000).await;
            assert!(matches!(outcome, Err(DbError::Full)), "{outcome:?}");
        }
        let told = database.health().await.unwrap_err();
        assert!(told.contains("full"), "{told}");
        drop(file);
        std::fs::remove_file(&filler).unwrap();
        write_much(&database, 10).await.unwrap();
        assert_eq!(rows(&database).await, 10);
        database.shared.health().looked = None;
        database.health().await.unwrap();
        database.close().await;
    }

    #[tokio::test]
    async fn deleted_text_is_in_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path()).await.unwrap();
        let found = || {
            let needle = "a secret of somebody".as_bytes();
            std::fs::read_dir(folder.path()).unwrap().any(|entry| {
                let bytes = std::fs::read(entry.unwrap().path()).unwrap();
                bytes.windows(needle.len()).any(|part| part == needle)
            })
        };
        let mut write = database.write().await.unwrap();
        // More than a page, as most prompts.
        let text = "a secret of somebody ".repeat(1000);
        sqlx::query("INSERT INTO nodes (id, software) VALUES ('one', ?)")
            .bind(&text)
            .execute(&mut *write)
            .await
            .unwrap();
        write.commit().await.unwrap();
        assert!(found());
        let mut write = database.write().await.unwrap();
        write
            .execute("UPDATE nodes SET software = ''")
            .await
            .unwrap();
        write.deletes_text();
        write.commit().await.unwrap();
        assert!(found(), "the log still holds it");
        database.forget_deleted_text().await.unwrap();
        assert!(!found());
    }

    #[tokio::test]
    async fn a_locked_database_is_a_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path()).await.unwrap();
        let _held = database.write().await.unwrap();
        let other = SqliteConnectOptions::new()
            .filename(folder.path().join(FILE_NAME))
            .busy_timeout(Duration::from_millis(10));
        let other = SqlitePoolOptions::new().connect_with(other).await.unwrap();
        let error = DbError::from(other.execute("BEGIN IMMEDIATE").await.unwrap_err());
        assert!(matches!(error, DbError::Locked), "{error}");
    }
}
