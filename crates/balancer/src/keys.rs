//! API keys: made here, shown once, stored as hashes.
//!
//! A key holds 256 random bits, so nobody can try them all: a plain hash protects it as well as a
//! slow one would.

use infera_protocol::digest::Digest;
use serde::Serialize;

use crate::db::{Database, DbError};
use crate::edges::Edges;

const PREFIX: &str = "sk-infera-";

/// A client that has shown a valid key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Client {
    /// The key's name, and of its account in the ledger.
    pub name: String,
    /// How many micro-points it may spend in all.
    pub limit_micro: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct KeyRow {
    pub name: String,
    pub limit_micro: Option<i64>,
    pub created_ms: i64,
    pub revoked_ms: Option<i64>,
}

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(transparent)]
    Database(#[from] DbError),
    #[error("There is a key named `{0}` already. Revoke it first, or choose another name")]
    NameTaken(String),
    #[error("There is no key named `{0}` in use. `key list` shows all")]
    Unknown(String),
    #[error("A key's name has 1 to 64 letters, digits, `-`, `_`, `.` or `@`")]
    BadName,
}

/// Whether a key can be called so.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    (1..=64).contains(&name.len()) && name.chars().all(allowed)
}

/// Makes a key and gives it, this one time.
pub async fn create(
    database: &Database,
    edges: &Edges,
    name: &str,
    limit_micro: Option<i64>,
) -> Result<String, KeyError> {
    if !is_name(name) {
        return Err(KeyError::BadName);
    }
    let key = format!("{PREFIX}{}", hex::encode(edges.random::<32>()));
    let mut write = database.write().await?;
    let taken: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM api_keys WHERE name = ? AND revoked_ms IS NULL)",
    )
    .bind(name)
    .fetch_one(&mut *write)
    .await
    .map_err(DbError::from)?;
    if taken {
        return Err(KeyError::NameTaken(name.to_owned()));
    }
    sqlx::query("INSERT INTO api_keys (name, hash, limit_micro, created_ms) VALUES (?, ?, ?, ?)")
        .bind(name)
        .bind(hash(&key))
        .bind(limit_micro)
        .bind(edges.now_ms())
        .execute(&mut *write)
        .await
        .map_err(DbError::from)?;
    write.commit().await?;
    Ok(key)
}

pub(crate) async fn list(database: &Database) -> Result<Vec<KeyRow>, DbError> {
    type Row = (String, Option<i64>, i64, Option<i64>);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT name, limit_micro, created_ms, revoked_ms FROM api_keys ORDER BY id",
    )
    .fetch_all(database.read())
    .await?;
    let row = |(name, limit_micro, created_ms, revoked_ms)| KeyRow {
        name,
        limit_micro,
        created_ms,
        revoked_ms,
    };
    Ok(rows.into_iter().map(row).collect())
}

pub(crate) async fn revoke(database: &Database, name: &str, now_ms: i64) -> Result<(), KeyError> {
    let revoked = "UPDATE api_keys SET revoked_ms = ? WHERE name = ? AND revoked_ms IS NULL";
    if !database.update_named(revoked, now_ms, name).await? {
        return Err(KeyError::Unknown(name.to_owned()));
    }
    Ok(())
}

/// Whose key this is, if it is one in use.
pub(crate) async fn find(database: &Database, key: &str) -> Result<Option<Client>, DbError> {
    if !key.starts_with(PREFIX) {
        return Ok(None);
    }
    let row: Option<(String, Option<i64>)> = sqlx::query_as(
        "SELECT name, limit_micro FROM api_keys WHERE hash = ? AND revoked_ms IS NULL",
    )
    .bind(hash(key))
    .fetch_optional(database.read())
    .await?;
    Ok(row.map(|(name, limit_micro)| Client { name, limit_micro }))
}

fn hash(key: &str) -> String {
    Digest::new("infera/api-key/v1")
        .bytes(key.as_bytes())
        .finish()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_works_until_it_is_revoked_and_is_stored_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path()).await.unwrap();
        let edges = Edges::system();
        let key = create(&database, &edges, "ann", Some(5)).await.unwrap();
        let client = Client {
            name: "ann".to_owned(),
            limit_micro: Some(5),
        };
        assert_eq!(find(&database, &key).await.unwrap(), Some(client));
        assert_eq!(find(&database, &format!("{key}0")).await.unwrap(), None);
        assert!(matches!(
            create(&database, &edges, "ann", None).await,
            Err(KeyError::NameTaken(_))
        ));
        revoke(&database, "ann", 1).await.unwrap();
        assert_eq!(find(&database, &key).await.unwrap(), None);
        assert!(matches!(
            revoke(&database, "ann", 1).await,
            Err(KeyError::Unknown(_))
        ));
        create(&database, &edges, "ann", None).await.unwrap();
        assert_eq!(list(&database).await.unwrap().len(), 2);
        database.close().await;
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            let needle = &key.as_bytes()[PREFIX.len()..];
            assert!(!bytes.windows(needle.len()).any(|part| part == needle));
        }
    }

    #[tokio::test]
    async fn names_that_would_confuse_the_books_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path()).await.unwrap();
        for name in ["", "a b", "a:b", "ä", &"x".repeat(65)] {
            let outcome = create(&database, &Edges::system(), name, None).await;
            assert!(matches!(outcome, Err(KeyError::BadName)), "{name}");
        }
    }
}
