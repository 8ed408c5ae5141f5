//! What the databases of both programs share: how they are opened, and what their faults mean.

use std::path::Path;
use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};

/// What went wrong, as far as somebody can do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The disk has no room.
    Full,
    /// Another program, or this one, keeps it locked.
    Locked,
    /// It may only be read.
    ReadOnly,
    /// There is no file that can be opened, nor one that can be made.
    CannotOpen,
    /// It is damaged, or no database.
    Damaged,
    /// A version of the program wrote it that this one does not know.
    Newer,
    /// Anything else, which the error itself tells.
    Other,
}

impl Fault {
    /// Source for the codes: <https://sqlite.org/rescode.html>.
    pub fn of(error: &sqlx::Error) -> Self {
        let code = match error {
            // All connections are in use, as a rule because they wait for a lock.
            sqlx::Error::PoolTimedOut => return Self::Locked,
            sqlx::Error::Database(fault) => fault.code(),
            _ => None,
        };
        // The low byte of an extended result code is the primary one.
        match code
            .and_then(|code| code.parse::<u32>().ok())
            .map(|code| code & 0xff)
        {
            Some(5 | 6) => Self::Locked,
            Some(8) => Self::ReadOnly,
            Some(11 | 26) => Self::Damaged,
            Some(13) => Self::Full,
            Some(14) => Self::CannotOpen,
            _ => Self::Other,
        }
    }

    /// What kept the tables from being brought up to date.
    pub fn of_migration(error: &MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                Self::of(error)
            }
            MigrateError::VersionMissing(_)
            | MigrateError::VersionMismatch(_)
            | MigrateError::VersionTooOld(..) => Self::Newer,
            _ => Self::Other,
        }
    }
}

/// Opens the file, or makes it. How safe a commit is from a power cut is each program's own choice.
pub fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .foreign_keys(true)
        // What is deleted is overwritten: nobody's text or tokens may be found in free pages.
        .pragma("secure_delete", "ON")
        .busy_timeout(Duration::from_secs(5))
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection, Executor, SqliteConnection};

    use super::*;

    async fn open(path: &Path) -> SqliteConnection {
        let options = options(path).busy_timeout(Duration::ZERO);
        SqliteConnection::connect_with(&options).await.unwrap()
    }

    async fn fault(connection: &mut SqliteConnection, sql: &'static str) -> Fault {
        Fault::of(&connection.execute(sql).await.unwrap_err())
    }

    #[tokio::test]
    async fn each_fault_of_sqlite_is_called_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let mut one = open(&path).await;
        let mut other = open(&path).await;
        one.execute("CREATE TABLE t (x)").await.unwrap();
        one.execute("BEGIN IMMEDIATE").await.unwrap();
        assert_eq!(fault(&mut other, "BEGIN IMMEDIATE").await, Fault::Locked);
        one.execute("ROLLBACK").await.unwrap();
        other.execute("PRAGMA query_only = 1").await.unwrap();
        let insert = "INSERT INTO t VALUES (zeroblob(1000000))";
        assert_eq!(fault(&mut other, insert).await, Fault::ReadOnly);
        // SQLite then answers as on a full disk.
        one.execute("PRAGMA max_page_count = 1").await.unwrap();
        assert_eq!(fault(&mut one, insert).await, Fault::Full);
        assert_eq!(fault(&mut one, "nonsense").await, Fault::Other);
    }

    #[tokio::test]
    async fn what_cannot_be_opened_is_told_from_what_is_no_database() {
        let folder = tempfile::tempdir().unwrap();
        let of = async |path: &Path| {
            let connected = SqliteConnection::connect_with(&options(path)).await;
            Fault::of(&connected.unwrap_err())
        };
        let missing = folder.path().join("missing").join("x.db");
        assert_eq!(of(&missing).await, Fault::CannotOpen);
        let text = folder.path().join("text.db");
        std::fs::write(&text, vec![b'x'; 8192]).unwrap();
        assert_eq!(of(&text).await, Fault::Damaged);
    }

    #[test]
    fn what_sqlite_does_not_say_itself_has_a_name_too() {
        assert_eq!(Fault::of(&sqlx::Error::PoolTimedOut), Fault::Locked);
        assert_eq!(Fault::of(&sqlx::Error::RowNotFound), Fault::Other);
        for (error, expected) in [
            (MigrateError::VersionMissing(9), Fault::Newer),
            (MigrateError::VersionMismatch(9), Fault::Newer),
            (
                MigrateError::Execute(sqlx::Error::PoolTimedOut),
                Fault::Locked,
            ),
            (MigrateError::Dirty(9), Fault::Other),
        ] {
            assert_eq!(Fault::of_migration(&error), expected, "{error}");
        }
    }
}
