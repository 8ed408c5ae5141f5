//! Operators' keys: made on the command line, shown once, stored as hashes, like those of clients.
//!
//! They are made and revoked there alone: whoever has the data folder runs the network, and gets in
//! again when the last key is lost.

use infera_protocol::digest::Digest;
use serde::Serialize;

use super::log::{self, Act};
use crate::db::{Database, DbError};
use crate::edges::Edges;
use crate::keys;

const PREFIX: &str = "op-infera-";
/// How exact it is known when a key was last used: one that is used all the time is not written all
/// the time.
const USE_MS: i64 = 60_000;

/// A key that is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OperatorKey {
    pub id: i64,
    pub name: String,
}

/// A key as the books have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub(crate) struct OperatorKeyRow {
    pub name: String,
    pub created_ms: i64,
    pub revoked_ms: Option<i64>,
    pub last_used_ms: Option<i64>,
}

#[derive(Debug, thiserror::Error)]
pub enum OperatorKeyError {
    #[error(transparent)]
    Database(#[from] DbError),
    #[error(
        "There is an operator's key named `{0}` already. Revoke it first, or choose another name"
    )]
    NameTaken(String),
    #[error("There is no operator's key named `{0}` in use. `operator list` shows all")]
    Unknown(String),
    #[error("A key's name has 1 to 64 letters, digits, `-`, `_`, `.` or `@`")]
    BadName,
}

/// Makes a key and gives it, this one time.
pub async fn create(
    database: &Database,
    edges: &Edges,
    name: &str,
) -> Result<String, OperatorKeyError> {
    if !keys::is_name(name) {
        return Err(OperatorKeyError::BadName);
    }
    let key = format!("{PREFIX}{}", hex::encode(edges.random::<32>()));
    let mut write = database.write().await?;
    let taken: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM operator_keys WHERE name = ? AND revoked_ms IS NULL)",
    )
    .bind(name)
    .fetch_one(&mut *write)
    .await
    .map_err(DbError::from)?;
    if taken {
        return Err(OperatorKeyError::NameTaken(name.to_owned()));
    }
    sqlx::query("INSERT INTO operator_keys (name, hash, created_ms) VALUES (?, ?, ?)")
        .bind(name)
        .bind(hash(&key))
        .bind(edges.now_ms())
        .execute(&mut *write)
        .await
        .map_err(DbError::from)?;
    log::write(
        &mut write,
        None,
        Act::CreateOperatorKey,
        name,
        "",
        edges.now_ms(),
    )
    .await?;
    write.commit().await?;
    Ok(key)
}

pub(crate) async fn list(database: &Database) -> Result<Vec<OperatorKeyRow>, DbError> {
    let rows = sqlx::query_as(
        "SELECT name, created_ms, revoked_ms, last_used_ms FROM operator_keys ORDER BY id",
    )
    .fetch_all(database.read())
    .await?;
    Ok(rows)
}

/// Takes a key back: it opens nothing any more, and what it has opened ends.
pub async fn revoke(database: &Database, name: &str, now_ms: i64) -> Result<(), OperatorKeyError> {
    let mut write = database.write().await?;
    let outcome = sqlx::query(
        "UPDATE operator_keys SET revoked_ms = ? WHERE name = ? AND revoked_ms IS NULL",
    )
    .bind(now_ms)
    .bind(name)
    .execute(&mut *write)
    .await
    .map_err(DbError::from)?;
    if outcome.rows_affected() == 0 {
        return Err(OperatorKeyError::Unknown(name.to_owned()));
    }
    log::write(&mut write, None, Act::RevokeOperatorKey, name, "", now_ms).await?;
    write.commit().await?;
    Ok(())
}

/// Whose key this is, if it is one in use, and that it is used now.
pub(crate) async fn find(
    database: &Database,
    key: &str,
    now_ms: i64,
) -> Result<Option<OperatorKey>, DbError> {
    if !key.starts_with(PREFIX) {
        return Ok(None);
    }
    let row: Option<(i64, String, Option<i64>)> = sqlx::query_as(
        "SELECT id, name, last_used_ms FROM operator_keys WHERE hash = ? AND revoked_ms IS NULL",
    )
    .bind(hash(key))
    .fetch_optional(database.read())
    .await?;
    let Some((id, name, last_used_ms)) = row else {
        return Ok(None);
    };
    if last_used_ms.is_none_or(|last| now_ms - last >= USE_MS) {
        let mut write = database.write().await?;
        sqlx::query("UPDATE operator_keys SET last_used_ms = ? WHERE id = ?")
            .bind(now_ms)
            .bind(id)
            .execute(&mut *write)
            .await?;
        write.commit().await?;
    }
    Ok(Some(OperatorKey { id, name }))
}

/// Whether a key that opened a session is still in use.
pub(crate) async fn is_in_use(database: &Database, id: i64) -> Result<bool, DbError> {
    let known = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM operator_keys WHERE id = ? AND revoked_ms IS NULL)",
    )
    .bind(id)
    .fetch_one(database.read())
    .await?;
    Ok(known)
}

fn hash(key: &str) -> String {
    Digest::new("infera/operator-key/v1")
        .bytes(key.as_bytes())
        .finish()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_opens_until_it_is_revoked_and_is_stored_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path()).await.unwrap();
        let edges = Edges::system();
        let key = create(&database, &edges, "ann").await.unwrap();
        let found = find(&database, &key, 5).await.unwrap().unwrap();
        assert_eq!(found.name, "ann");
        assert!(is_in_use(&database, found.id).await.unwrap());
        assert_eq!(list(&database).await.unwrap()[0].last_used_ms, Some(5));
        assert_eq!(find(&database, &format!("{key}0"), 5).await.unwrap(), None);
        assert_eq!(crate::keys::find(&database, &key).await.unwrap(), None);
        assert!(matches!(
            create(&database, &edges, "ann").await,
            Err(OperatorKeyError::NameTaken(_))
        ));
        revoke(&database, "ann", 7).await.unwrap();
        assert_eq!(find(&database, &key, 8).await.unwrap(), None);
        assert!(!is_in_use(&database, found.id).await.unwrap());
        assert!(matches!(
            revoke(&database, "ann", 9).await,
            Err(OperatorKeyError::Unknown(_))
        ));
        create(&database, &edges, "ann").await.unwrap();
        database.close().await;
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            let needle = &key.as_bytes()[PREFIX.len()..];
            assert!(!bytes.windows(needle.len()).any(|part| part == needle));
        }
    }

    #[tokio::test]
    async fn wrong_names_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path()).await.unwrap();
        for name in ["", "a b", "ä", &"x".repeat(65)] {
            let outcome = create(&database, &Edges::system(), name).await;
            assert!(matches!(outcome, Err(OperatorKeyError::BadName)), "{name}");
        }
    }
}
