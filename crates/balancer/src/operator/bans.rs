//! Nodes that an operator keeps out: they get no session, whatever they are.

use std::collections::HashMap;

use infera_protocol::NodeId;
use serde::Serialize;

use crate::db::{Database, DbError, Write};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub(crate) struct Ban {
    #[serde(skip)]
    node: String,
    /// None: until the node is let in again.
    pub until_ms: Option<i64>,
    pub reason: String,
    /// When it began.
    pub at_ms: i64,
}

pub(crate) async fn set(
    write: &mut Write<'_>,
    node: NodeId,
    until_ms: Option<i64>,
    reason: &str,
    now_ms: i64,
) -> Result<(), DbError> {
    sqlx::query("INSERT OR REPLACE INTO bans (node, until_ms, reason, at_ms) VALUES (?, ?, ?, ?)")
        .bind(node.to_string())
        .bind(until_ms)
        .bind(reason)
        .bind(now_ms)
        .execute(&mut **write)
        .await?;
    Ok(())
}

pub(crate) async fn lift(write: &mut Write<'_>, node: NodeId) -> Result<(), DbError> {
    sqlx::query("DELETE FROM bans WHERE node = ?")
        .bind(node.to_string())
        .execute(&mut **write)
        .await?;
    Ok(())
}

/// Why a node is kept out now, if it is.
pub(crate) async fn of(
    database: &Database,
    node: NodeId,
    now_ms: i64,
) -> Result<Option<Ban>, DbError> {
    let ban = sqlx::query_as(
        "SELECT node, until_ms, reason, at_ms FROM bans
         WHERE node = ?1 AND (until_ms IS NULL OR until_ms > ?2)",
    )
    .bind(node.to_string())
    .bind(now_ms)
    .fetch_optional(database.read())
    .await?;
    Ok(ban)
}

/// All that hold now.
pub(crate) async fn all(database: &Database, now_ms: i64) -> Result<HashMap<NodeId, Ban>, DbError> {
    let bans: Vec<Ban> = sqlx::query_as(
        "SELECT node, until_ms, reason, at_ms FROM bans WHERE until_ms IS NULL OR until_ms > ?",
    )
    .bind(now_ms)
    .fetch_all(database.read())
    .await?;
    bans.into_iter()
        .map(|ban| {
            let node = ban.node.parse();
            let node = node.map_err(|_| DbError::Content(format!("the node `{}`", ban.node)))?;
            Ok((node, ban))
        })
        .collect()
}

impl Ban {
    /// What the node's owner is told.
    pub(crate) fn sentence(&self) -> String {
        let end = if self.until_ms.is_some() {
            "for a while"
        } else {
            "until they let it in again"
        };
        format!(
            "Those who run this network keep this node out {end}: {}. Ask them",
            self.reason
        )
    }
}
