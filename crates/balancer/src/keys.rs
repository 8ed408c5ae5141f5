//! API keys: made here, shown once, stored as hashes.
//!
//! A key holds 256 random bits, so nobody can try them all: a plain hash protects it as well as a
//! slow one would.

use infera_protocol::digest::Digest;
use infera_protocol::{AccountId, Route};
use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::db::{Database, DbError, Write};
use crate::edges::Edges;
use crate::reach;
use crate::states::Word;
use crate::submit_error::SubmitError;

const PREFIX: &str = "sk-infera-";

/// A client that has shown a valid key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Client {
    /// The key's name, and of its account in the ledger.
    pub name: String,
    /// How many micro-points it may spend in all.
    pub limit_micro: Option<i64>,
    /// How many on one day in UTC.
    pub daily_limit: Option<i64>,
    /// Whose points it spends; none of a key of the operator's, which spends what the operator lets
    /// it.
    pub account: Option<AccountId>,
    /// Where its requests may go at most.
    pub route: Route,
}

impl Client {
    /// One that the operator lets ask without more.
    pub(crate) fn of_operator(name: &str, limit_micro: Option<i64>) -> Self {
        Self {
            name: name.to_owned(),
            limit_micro,
            daily_limit: None,
            account: None,
            route: Route::Any,
        }
    }

    /// Where a request goes that asks for a route, or does not.
    pub(crate) fn route(&self, asked: Option<Route>) -> Result<Route, SubmitError> {
        let route =
            reach::narrowed(self.route, asked).ok_or(SubmitError::BeyondRoute(self.route))?;
        if route == Route::Own && self.account.is_none() {
            return Err(SubmitError::NoOwnNodes);
        }
        Ok(route)
    }

    /// Whose the nodes are that are a client's own, by its name.
    pub(crate) fn account_of(name: &str) -> Option<AccountId> {
        let (account, _) = name.split_once('/')?;
        account.parse().ok()
    }
}

/// The name that the books know an account's key by. No key of the operator's has a slash in its
/// name.
pub(crate) fn name_of_accounts(account: AccountId, name: &str) -> String {
    format!("{account}/{name}")
}

/// The name that its owner gave a key.
pub(crate) fn shown(name: &str) -> &str {
    name.split_once('/').map_or(name, |(_, given)| given)
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

/// Makes a key that may go to any node.
pub async fn create_key(
    database: &Database,
    edges: &Edges,
    name: &str,
    limit_micro: Option<i64>,
) -> Result<String, KeyError> {
    create(database, edges, &Client::of_operator(name, limit_micro)).await
}

/// Makes a key of the operator's and gives it, this one time.
pub(crate) async fn create(
    database: &Database,
    edges: &Edges,
    client: &Client,
) -> Result<String, KeyError> {
    if !is_name(&client.name) {
        return Err(KeyError::BadName);
    }
    let mut write = database.write().await?;
    let key = insert(&mut write, edges, client).await?;
    write.commit().await?;
    Ok(key)
}

/// Writes a key whose name was checked, and gives it.
pub(crate) async fn insert(
    write: &mut Write<'_>,
    edges: &Edges,
    client: &Client,
) -> Result<String, KeyError> {
    let Client {
        name,
        limit_micro,
        daily_limit,
        account,
        route,
    } = client;
    let taken: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM api_keys WHERE name = ? AND revoked_ms IS NULL)",
    )
    .bind(name)
    .fetch_one(&mut **write)
    .await
    .map_err(DbError::from)?;
    if taken {
        return Err(KeyError::NameTaken(shown(name).to_owned()));
    }
    let key = format!("{PREFIX}{}", hex::encode(edges.random::<32>()));
    sqlx::query(
        "INSERT INTO api_keys (name, hash, limit_micro, daily_limit, account, route, created_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(name)
    .bind(hash(&key))
    .bind(limit_micro)
    .bind(daily_limit)
    .bind(account.map(|account| account.to_string()))
    .bind(route.word())
    .bind(edges.now_ms())
    .execute(&mut **write)
    .await
    .map_err(DbError::from)?;
    Ok(key)
}

/// The operator's; those of accounts are theirs to see.
pub(crate) async fn list(database: &Database) -> Result<Vec<KeyRow>, DbError> {
    type Row = (String, Option<i64>, i64, Option<i64>);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT name, limit_micro, created_ms, revoked_ms FROM api_keys
         WHERE account IS NULL ORDER BY id",
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
    let row = sqlx::query("SELECT * FROM api_keys WHERE hash = ? AND revoked_ms IS NULL")
        .bind(hash(key))
        .fetch_optional(database.read())
        .await?;
    let client = |row: SqliteRow| {
        let name: String = row.try_get("name")?;
        Ok(Client {
            account: Client::account_of(&name),
            name,
            limit_micro: row.try_get("limit_micro")?,
            daily_limit: row.try_get("daily_limit")?,
            route: Route::read(&row, "route")?,
        })
    };
    row.map(client).transpose()
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
        let key = create_key(&database, &edges, "ann", Some(5)).await.unwrap();
        let client = Client::of_operator("ann", Some(5));
        assert_eq!(find(&database, &key).await.unwrap(), Some(client));
        assert_eq!(find(&database, &format!("{key}0")).await.unwrap(), None);
        assert!(matches!(
            create_key(&database, &edges, "ann", None).await,
            Err(KeyError::NameTaken(_))
        ));
        revoke(&database, "ann", 1).await.unwrap();
        assert_eq!(find(&database, &key).await.unwrap(), None);
        assert!(matches!(
            revoke(&database, "ann", 1).await,
            Err(KeyError::Unknown(_))
        ));
        create_key(&database, &edges, "ann", None).await.unwrap();
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
            let outcome = create_key(&database, &Edges::system(), name, None).await;
            assert!(matches!(outcome, Err(KeyError::BadName)), "{name}");
        }
    }
}
