//! The balancer's `SQLite` database: opened, migrated, and its faults put into sentences.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Sqlite, Transaction};

/// Name of the database inside the data folder.
pub(crate) const FILE_NAME: &str = "balancer.db";

static MIGRATIONS: Migrator = sqlx::migrate!();

/// `SQLite` knows one writer at a time: writes queue here for one connection, reads have their own.
#[derive(Debug, Clone)]
pub struct Database {
    writer: SqlitePool,
    readers: SqlitePool,
}

pub(crate) type Write<'a> = Transaction<'a, Sqlite>;

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
    /// Opens the database in `folder`, makes both if they are missing, and brings it up to date.
    pub async fn open(folder: &Path) -> Result<Self, DbError> {
        std::fs::create_dir_all(folder).map_err(|source| DbError::Folder {
            folder: folder.to_owned(),
            source,
        })?;
        let options = SqliteConnectOptions::new()
            .filename(folder.join(FILE_NAME))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A power cut may undo the last moments, but never leaves a half-written state.
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5));
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
        Ok(Self { writer, readers })
    }

    pub fn read(&self) -> &SqlitePool {
        &self.readers
    }

    /// Begins a write. It takes the write lock at once, so that it never fails halfway because
    /// another process wrote in between.
    pub async fn write(&self) -> Result<Write<'static>, DbError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
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

    /// Whether the database answers and can be written to.
    pub async fn probe(&self) -> Result<(), DbError> {
        let transaction = self.write().await?;
        transaction.rollback().await?;
        Ok(())
    }

    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        let code = match &error {
            sqlx::Error::Database(fault) => fault.code(),
            sqlx::Error::PoolTimedOut => return Self::Locked,
            _ => None,
        };
        // The low byte of SQLite's extended result code is the primary code.
        match code
            .and_then(|code| code.parse::<i32>().ok())
            .map(|code| code & 0xff)
        {
            Some(5 | 6) => Self::Locked,
            Some(8) => Self::ReadOnly,
            Some(11 | 26) => Self::Damaged,
            Some(13) => Self::Full,
            Some(14) => Self::CannotOpen,
            _ => Self::Other(error),
        }
    }
}

impl From<MigrateError> for DbError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => {
                source.into()
            }
            MigrateError::VersionMissing(_) | MigrateError::VersionTooOld(..) => Self::Newer,
            other => Self::Migrate(other),
        }
    }
}

#[cfg(test)]
mod tests {
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

    #[tokio::test]
    async fn a_full_disk_is_a_sentence_and_nothing_is_half_written() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path()).await.unwrap();
        // SQLite's own limit on the file's size gives the same fault as a full disk.
        sqlx::query("PRAGMA max_page_count = 1")
            .execute(&database.writer)
            .await
            .unwrap();
        let mut transaction = database.write().await.unwrap();
        let mut outcome = Ok(());
        for number in 0..1000 {
            let step = sqlx::query("INSERT INTO nodes (id, software) VALUES (?, ?)")
                .bind(number.to_string())
                .bind("x".repeat(4096))
                .execute(&mut *transaction)
                .await;
            if let Err(error) = step {
                outcome = Err(DbError::from(error));
                break;
            }
        }
        assert!(matches!(outcome, Err(DbError::Full)), "{outcome:?}");
        drop(transaction);
        let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM nodes")
            .fetch_one(database.read())
            .await
            .unwrap();
        assert_eq!(rows, 0);
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
        let error = DbError::from(other.begin_with("BEGIN IMMEDIATE").await.unwrap_err());
        assert!(matches!(error, DbError::Locked), "{error}");
    }
}
