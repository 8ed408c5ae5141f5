//! The node's own `SQLite`: history, settings, and the outbox of what the balancer has not
//! acknowledged yet.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use infera_protocol::node_api::{VerdictStatus, WorkKind, WorkRecord};
use infera_protocol::{AuditId, AuditReport, ChunkCommit, Finish, Hash, JobId, TokenOutput};
use infera_sqlite::Fault;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnection, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Connection, Row, Sqlite};
use tokio::sync::watch;

use crate::books::JobRow;

const CONNECTIONS: u32 = 4;

/// One database. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    pool: SqlitePool,
    path: PathBuf,
    work: watch::Sender<()>,
}

/// What went wrong with the database, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error(
        "the database {} was written by a newer version of Infera Node: install that version, or choose another data folder", .0.display()
    )]
    Newer(PathBuf),
    #[error("the disk with {} is full: free some space", .0.display())]
    Full(PathBuf),
    #[error("{} cannot be written: make the data folder writable, or choose another one", .0.display())]
    ReadOnly(PathBuf),
    #[error("the database {} is locked by another program: close it and try again", .0.display())]
    Locked(PathBuf),
    #[error("{} is damaged or no database: move it away and start again; points are safe at the balancer", .0.display())]
    Damaged(PathBuf),
    #[error("the database {} cannot be used: {fault}. Try again, or choose another data folder", path.display())]
    Other { path: PathBuf, fault: String },
}

/// One attempt at a job: what this node claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptKey {
    pub job: JobId,
    pub attempt: u32,
}

/// A closed chunk with its tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredChunk {
    /// The output position of the first token.
    pub position: u32,
    pub tokens: Vec<TokenOutput>,
    pub commit: ChunkCommit,
}

/// An attempt that an earlier run of the program left open.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenAttempt {
    pub key: AttemptKey,
    /// In order; acknowledged ones are gone.
    pub chunks: Vec<StoredChunk>,
    pub finish: Option<Finish>,
}

/// A report that has not been opened yet.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredReport {
    pub report: AuditReport,
    pub salt: Hash,
}

impl Store {
    /// Opens the database of a data folder, creating it if there is none.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = infera_sqlite::options(path)
            // What is in the outbox must outlive a power cut.
            .synchronous(SqliteSynchronous::Full);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(Duration::from_secs(10))
            .connect_with(options)
            .await
            .map_err(|error| explain(path, Fault::of(&error), &error))?;
        sqlx::migrate!()
            .run(&pool)
            .await
            .map_err(|error| explain(path, Fault::of_migration(&error), &error))?;
        Ok(Self {
            pool,
            path: path.to_owned(),
            work: watch::Sender::new(()),
        })
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }

    pub async fn setting<T>(&self, name: &str) -> Result<Option<T>, StoreError>
    where
        T: DeserializeOwned + Send + 'static,
    {
        let name = name.to_owned();
        self.run(async move |connection| {
            let row = sqlx::query("SELECT value FROM setting WHERE name = ?")
                .bind(name)
                .fetch_optional(connection)
                .await?;
            row.map(|row| json(&row.try_get::<String, _>(0)?))
                .transpose()
        })
        .await
    }

    pub async fn set_setting<T: Serialize>(&self, name: &str, value: &T) -> Result<(), StoreError> {
        self.execute(
            sqlx::query("INSERT INTO setting VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value")
                .bind(name.to_owned())
                .bind(to_json(value)),
        )
        .await
    }

    pub async fn open_attempt(&self, key: AttemptKey, claimed_ms: i64) -> Result<(), StoreError> {
        self.execute(insert_attempt(key, claimed_ms)).await
    }

    /// Forgets an attempt and all that is in the outbox for it.
    pub async fn close_attempt(&self, key: AttemptKey) -> Result<(), StoreError> {
        self.execute(of_attempt(
            "DELETE FROM attempt WHERE job = ? AND attempt = ?",
            key,
        ))
        .await
    }

    /// Puts closed chunks and perhaps the end of an attempt into the outbox, all or nothing.
    pub async fn put(
        &self,
        key: AttemptKey,
        chunks: Vec<StoredChunk>,
        finish: Option<Finish>,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        // The attempt's own row is written beside its first work, which may be faster.
        let attempt = insert_attempt(key, now_ms);
        let chunks = chunks.into_iter().map(move |chunk| {
            of_attempt(
                "INSERT INTO chunk VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                key,
            )
            .bind(chunk.commit.index)
            .bind(to_json(&chunk))
        });
        let finish = finish.map(|finish| {
            of_attempt(
                "INSERT INTO finish VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                key,
            )
            .bind(to_json(&finish))
        });
        self.run(async move |connection| {
            let mut transaction = connection.begin().await?;
            for statement in std::iter::once(attempt).chain(chunks).chain(finish) {
                statement.execute(&mut *transaction).await?;
            }
            transaction.commit().await
        })
        .await
    }

    /// The balancer has the attempt's first `chunks` chunks.
    pub async fn acknowledge(&self, key: AttemptKey, chunks: u32) -> Result<(), StoreError> {
        self.execute(
            of_attempt(
                "DELETE FROM chunk WHERE job = ? AND attempt = ? AND number < ?",
                key,
            )
            .bind(chunks),
        )
        .await
    }

    /// What an earlier run left open, oldest first.
    pub async fn open_attempts(&self) -> Result<Vec<OpenAttempt>, StoreError> {
        self.run(async move |connection| {
            let rows = sqlx::query("SELECT job, attempt FROM attempt ORDER BY claimed_ms")
                .fetch_all(&mut *connection)
                .await?;
            let mut open = Vec::new();
            for row in rows {
                let (job, attempt): (String, u32) = (row.try_get(0)?, row.try_get(1)?);
                let chunks = sqlx::query(
                    "SELECT body FROM chunk WHERE job = ? AND attempt = ? ORDER BY number",
                )
                .bind(job.clone())
                .bind(attempt)
                .fetch_all(&mut *connection)
                .await?;
                let finish = sqlx::query("SELECT body FROM finish WHERE job = ? AND attempt = ?")
                    .bind(job.clone())
                    .bind(attempt)
                    .fetch_optional(&mut *connection)
                    .await?;
                open.push(OpenAttempt {
                    key: AttemptKey {
                        job: id(&job)?,
                        attempt,
                    },
                    chunks: chunks
                        .iter()
                        .map(|row| json(&row.try_get::<String, _>(0)?))
                        .collect::<Result<_, _>>()?,
                    finish: finish
                        .map(|row| json(&row.try_get::<String, _>(0)?))
                        .transpose()?,
                });
            }
            Ok(open)
        })
        .await
    }

    pub async fn put_report(&self, stored: &StoredReport, made_ms: i64) -> Result<(), StoreError> {
        self.execute(
            sqlx::query("INSERT INTO report VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
                .bind(stored.report.audit.to_string())
                .bind(to_json(&stored.report))
                .bind(stored.salt.to_string())
                .bind(made_ms),
        )
        .await
    }

    pub async fn remove_report(&self, audit: AuditId) -> Result<(), StoreError> {
        self.execute(sqlx::query("DELETE FROM report WHERE audit = ?").bind(audit.to_string()))
            .await
    }

    pub async fn reports(&self) -> Result<Vec<StoredReport>, StoreError> {
        self.run(async move |connection| {
            let rows = sqlx::query("SELECT body, salt FROM report ORDER BY made_ms")
                .fetch_all(connection)
                .await?;
            rows.iter()
                .map(|row| {
                    Ok(StoredReport {
                        report: json(&row.try_get::<String, _>(0)?)?,
                        salt: id(&row.try_get::<String, _>(1)?)?,
                    })
                })
                .collect()
        })
        .await
    }

    /// Adds a piece of work, or brings its balancer's side up to date.
    pub async fn record(&self, entry: JobRow) -> Result<(), StoreError> {
        let record = entry.record;
        // An audit is done once; what the balancer counts there is the audited attempt.
        let attempt = match record.kind {
            WorkKind::Job => record.attempt,
            WorkKind::Audit => 1,
        };
        self.execute(
            sqlx::query(
                "INSERT INTO work (kind, id, attempt, model, model_name, input_tokens, output_tokens,
                    started_ms, finished_ms, tokens_per_second, verdict, reason, points, forfeited,
                    findings, device, network)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                 ON CONFLICT DO UPDATE SET
                    model_name = CASE excluded.model_name WHEN '' THEN model_name ELSE excluded.model_name END,
                    input_tokens = max(input_tokens, excluded.input_tokens),
                    output_tokens = max(output_tokens, excluded.output_tokens),
                    -- Beginning and end are of one clock: the one that first told the end.
                    started_ms = CASE WHEN finished_ms IS NULL THEN excluded.started_ms ELSE started_ms END,
                    finished_ms = coalesce(finished_ms, excluded.finished_ms),
                    tokens_per_second = coalesce(excluded.tokens_per_second, tokens_per_second),
                    -- A final verdict stays, however late an earlier message comes.
                    verdict = CASE excluded.verdict WHEN 'pending' THEN verdict ELSE excluded.verdict END,
                    reason = CASE excluded.reason WHEN '' THEN reason ELSE excluded.reason END,
                    points = CASE WHEN excluded.verdict = 'pending' AND (verdict <> 'pending' OR excluded.points = 0) THEN points ELSE excluded.points END,
                    forfeited = coalesce(excluded.forfeited, forfeited),
                    findings = CASE excluded.findings WHEN '[]' THEN findings ELSE excluded.findings END,
                    device = coalesce(device, excluded.device),
                    network = coalesce(network, excluded.network)
                 -- No network changes what another one told.
                 WHERE network IS NULL OR network IS excluded.network",
            )
            .bind(to_word(&record.kind))
            .bind(record.id)
            .bind(attempt)
            .bind(record.model.to_string())
            .bind(record.model_name)
            .bind(record.input_tokens)
            .bind(record.output_tokens)
            .bind(record.started_ms)
            .bind(record.finished_ms)
            .bind(entry.tokens_per_second)
            .bind(to_word(&record.verdict))
            .bind(record.reason)
            .bind(record.points)
            .bind(record.forfeited)
            .bind(to_json(&record.references))
            .bind(entry.device)
            .bind(entry.network),
        )
        .await?;
        self.work.send_replace(());
        Ok(())
    }

    /// What was done before networks were told apart was done for this one.
    pub async fn adopt_work(&self, network: &str) -> Result<(), StoreError> {
        let adopted = sqlx::query("UPDATE work SET network = ? WHERE network IS NULL");
        self.execute(adopted.bind(network.to_owned())).await
    }

    /// Changes whenever work was recorded.
    pub fn work_changes(&self) -> watch::Receiver<()> {
        self.work.subscribe()
    }

    pub(crate) async fn execute(&self, statement: Statement) -> Result<(), StoreError> {
        self.run(async move |connection| statement.execute(connection).await.map(drop))
            .await
    }

    /// `SQLite` works on files: each operation runs on a thread that may block, to its end, even if
    /// nobody waits for it any more.
    ///
    /// A connection on which one failed is closed. On a full disk `SQLite` ends a transaction by
    /// itself, and the connection would take the next one for a part of that.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        operation: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (pool, runtime) = (self.pool.clone(), tokio::runtime::Handle::current());
        let work = move || {
            runtime.block_on(async {
                let mut connection = pool.acquire().await?;
                let result = operation(&mut connection).await;
                if result.is_err() {
                    // It is out of the pool either way.
                    let _ = connection.close().await;
                }
                result
            })
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result.map_err(|error| explain(&self.path, Fault::of(&error), &error)),
            Err(fault) => Err(StoreError::Other {
                path: self.path.clone(),
                fault: fault.to_string(),
            }),
        }
    }
}

type Statement = Query<'static, Sqlite, SqliteArguments>;

/// A statement whose first two parameters are the attempt's job and number.
fn of_attempt(sql: &'static str, key: AttemptKey) -> Statement {
    sqlx::query(sql).bind(key.job.to_string()).bind(key.attempt)
}

fn insert_attempt(key: AttemptKey, claimed_ms: i64) -> Statement {
    of_attempt(
        "INSERT INTO attempt VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        key,
    )
    .bind(claimed_ms)
}

pub(crate) fn job_row(row: &SqliteRow) -> Result<JobRow, sqlx::Error> {
    let word = |column| row.try_get::<String, _>(column);
    Ok(JobRow {
        record: WorkRecord {
            kind: from_word::<WorkKind>(&word("kind")?)?,
            id: word("id")?,
            attempt: row.try_get("attempt")?,
            model: id(&word("model")?)?,
            model_name: word("model_name")?,
            input_tokens: row.try_get("input_tokens")?,
            output_tokens: row.try_get("output_tokens")?,
            started_ms: row.try_get("started_ms")?,
            finished_ms: row.try_get("finished_ms")?,
            verdict: from_word::<VerdictStatus>(&word("verdict")?)?,
            reason: word("reason")?,
            points: row.try_get("points")?,
            forfeited: row.try_get("forfeited")?,
            references: json(&word("findings")?)?,
        },
        tokens_per_second: row.try_get("tokens_per_second")?,
        device: row.try_get("device")?,
        network: row.try_get("network")?,
    })
}

pub(crate) fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("our own messages have text keys only")
}

pub(crate) fn json<T: DeserializeOwned>(text: &str) -> Result<T, sqlx::Error> {
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// A unit enum variant as the word that serde writes for it.
pub(crate) fn to_word<T: Serialize>(value: &T) -> String {
    to_json(value).trim_matches('"').to_owned()
}

pub(crate) fn from_word<T: DeserializeOwned>(word: &str) -> Result<T, sqlx::Error> {
    json(&format!("\"{word}\""))
}

fn id<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    text: &str,
) -> Result<T, sqlx::Error> {
    text.parse()
        .map_err(|error: T::Err| sqlx::Error::Decode(error.into()))
}

fn explain(path: &Path, fault: Fault, error: &impl ToString) -> StoreError {
    let path = path.to_owned();
    match fault {
        Fault::Full => StoreError::Full(path),
        Fault::Locked => StoreError::Locked(path),
        Fault::ReadOnly | Fault::CannotOpen => StoreError::ReadOnly(path),
        Fault::Damaged => StoreError::Damaged(path),
        Fault::Newer => StoreError::Newer(path),
        Fault::Other => StoreError::Other {
            path,
            fault: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use sqlx::sqlite::SqliteConnectOptions;

    use super::*;

    async fn on_every_connection(store: &Store, pragma: &'static str) {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut connection = store.pool.acquire().await.unwrap();
            sqlx::query(pragma).execute(&mut *connection).await.unwrap();
            connections.push(connection);
        }
    }

    /// What a write is answered when every connection has this setting.
    async fn fault_with(pragma: &'static str, path: &Path) -> StoreError {
        let store = Store::open(path).await.unwrap();
        on_every_connection(&store, pragma).await;
        let text = "x".repeat(1 << 20);
        store.set_setting("big", &text).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_full_disk_is_called_that() {
        let folder = tempfile::tempdir().unwrap();
        // SQLite then answers as on a full disk.
        let error = fault_with(
            "PRAGMA max_page_count = 1",
            &folder.path().join("node.sqlite"),
        )
        .await;
        assert!(matches!(error, StoreError::Full(_)), "{error}");
    }

    #[tokio::test]
    async fn after_a_full_disk_every_connection_writes_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.sqlite");
        let store = Store::open(&path).await.unwrap();
        let key = AttemptKey {
            job: JobId::from_bytes([1; 16]),
            attempt: 1,
        };
        let chunk = StoredChunk {
            position: 0,
            tokens: vec![
                TokenOutput {
                    id: 1,
                    logprob: None,
                    alternatives: Vec::new(),
                };
                40_000
            ],
            commit: ChunkCommit {
                index: 0,
                end: 32,
                head: Hash::from_bytes([0; 32]),
            },
        };
        store.set_setting("small", &1).await.unwrap();
        on_every_connection(&store, "PRAGMA max_page_count = 1").await;
        for _ in 0..CONNECTIONS {
            let error = store.put(key, vec![chunk.clone()], None, 0).await;
            assert!(matches!(error, Err(StoreError::Full(_))), "{error:?}");
        }
        // There is space again.
        on_every_connection(&store, "PRAGMA max_page_count = 1000000").await;
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut connection = store.pool.acquire().await.unwrap();
            let transaction = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
            transaction.rollback().await.unwrap();
            open.push(connection);
        }
        drop(open);
        store.put(key, vec![chunk.clone()], None, 0).await.unwrap();
        let attempts = store.open_attempts().await.unwrap();
        assert_eq!(attempts[0].chunks, [chunk]);
    }

    #[tokio::test]
    async fn a_read_only_database_is_called_that() {
        let folder = tempfile::tempdir().unwrap();
        let error = fault_with("PRAGMA query_only = 1", &folder.path().join("node.sqlite")).await;
        assert!(matches!(error, StoreError::ReadOnly(_)), "{error}");
    }

    #[tokio::test]
    async fn a_locked_database_is_called_that() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.sqlite");
        Store::open(&path).await.unwrap().close().await;
        let other = SqlitePool::connect_with(SqliteConnectOptions::new().filename(&path))
            .await
            .unwrap();
        let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let error = fault_with("PRAGMA busy_timeout = 0", &path).await;
        assert!(matches!(error, StoreError::Locked(_)), "{error}");
        drop(lock);
    }

    #[tokio::test]
    async fn settings_survive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.sqlite");
        let store = Store::open(&path).await.unwrap();
        assert_eq!(store.setting::<u32>("a").await.unwrap(), None);
        store.set_setting("a", &1).await.unwrap();
        store.set_setting("a", &2).await.unwrap();
        store.close().await;
        let store = Store::open(&path).await.unwrap();
        assert_eq!(store.setting::<u32>("a").await.unwrap(), Some(2));
    }
}
