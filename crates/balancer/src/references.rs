//! What becomes of a reference node: its record, the pay that is held back until a canary confirms
//! it, and how it loses its role.

use infera_protocol::{AuditId, NodeId};

use crate::db::{DbError, Write};
use crate::ledger::{self, Account, Entry};

/// Notes a report that counted, or that the others contradicted. Gives how often the latter has
/// happened since the last canary that it met.
pub(crate) async fn note_report(
    write: &mut Write<'_>,
    node: NodeId,
    outvoted: bool,
) -> Result<u32, DbError> {
    let lately: Option<u32> = sqlx::query_scalar(
        "UPDATE nodes SET audits = audits + 1, outvoted = outvoted + ?1,
             outvoted_lately = outvoted_lately + ?1
         WHERE id = ?2 RETURNING outvoted_lately",
    )
    .bind(outvoted)
    .bind(node.to_string())
    .fetch_optional(&mut **write)
    .await?;
    Ok(lately.unwrap_or(0))
}

/// Why a reference loses its role that others contradicted again and again.
pub(crate) fn contradicted(times: u32) -> String {
    format!("The other reference nodes contradicted it {times} times.")
}

/// Its pay is held from now on, if it was not before.
pub(crate) async fn hold(write: &mut Write<'_>, node: NodeId, now_ms: i64) -> Result<(), DbError> {
    sqlx::query("UPDATE nodes SET held_since_ms = coalesce(held_since_ms, ?1) WHERE id = ?2")
        .bind(now_ms)
        .bind(node.to_string())
        .execute(&mut **write)
        .await?;
    Ok(())
}

/// The fewest canaries that any of these has met.
pub(crate) async fn least_met(write: &mut Write<'_>, nodes: &[NodeId]) -> Result<u32, DbError> {
    let mut least = u32::MAX;
    for node in nodes {
        let met: Option<u32> = sqlx::query_scalar("SELECT canaries_met FROM nodes WHERE id = ?")
            .bind(node.to_string())
            .fetch_optional(&mut **write)
            .await?;
        least = least.min(met.unwrap_or(0));
    }
    Ok(least)
}

/// It was drawn for a canary, whatever it makes of it.
pub(crate) async fn ask_canary(
    write: &mut Write<'_>,
    node: NodeId,
    now_ms: i64,
) -> Result<(), DbError> {
    sqlx::query("UPDATE nodes SET canary_asked_ms = ?1 WHERE id = ?2")
        .bind(now_ms)
        .bind(node.to_string())
        .execute(&mut **write)
        .await?;
    Ok(())
}

/// It met a canary: what was held is confirmed.
pub(crate) async fn meet_canary(
    write: &mut Write<'_>,
    node: NodeId,
    audit: AuditId,
    now_ms: i64,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE nodes SET canaries_met = canaries_met + 1, outvoted_lately = 0 WHERE id = ?",
    )
    .bind(node.to_string())
    .execute(&mut **write)
    .await?;
    confirm(write, node, format!("audit:{audit}:confirmed"), now_ms).await
}

/// It missed a canary. Its role is taken separately ([`lose_role`]).
pub(crate) async fn miss_canary(write: &mut Write<'_>, node: NodeId) -> Result<(), DbError> {
    sqlx::query("UPDATE nodes SET canaries_missed = canaries_missed + 1 WHERE id = ?")
        .bind(node.to_string())
        .execute(&mut **write)
        .await?;
    Ok(())
}

/// Makes it an ordinary node, that is not trusted either, for a reason, and forfeits what was held.
pub(crate) async fn lose_role(
    write: &mut Write<'_>,
    node: NodeId,
    audit: AuditId,
    why: &str,
    now_ms: i64,
) -> Result<(), DbError> {
    let held = ledger::balance_within(write, &Account::Held(node)).await?;
    Entry::new(format!("audit:{audit}:forfeited"))
        .transfer(&Account::Held(node), &Account::Network, held)
        .post(write, now_ms)
        .await?;
    sqlx::query(
        "UPDATE nodes SET reference = 0, trusted = 0, role_lost = ?1, role_lost_ms = ?2, held_since_ms = NULL,
             held_forfeited = held_forfeited + ?3
         WHERE id = ?4",
    )
    .bind(why)
    .bind(now_ms)
    .bind(held)
    .bind(node.to_string())
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// Confirms what has been held since before `before_ms` of nodes that were drawn for no canary since:
/// there may be none for their models, and honest work is paid in the end.
pub(crate) async fn confirm_unasked(
    write: &mut Write<'_>,
    before_ms: i64,
    now_ms: i64,
) -> Result<u64, DbError> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT id, held_since_ms FROM nodes
         WHERE held_since_ms < ?1 AND reference = 1
             AND coalesce(canary_asked_ms, 0) < held_since_ms",
    )
    .bind(before_ms)
    .fetch_all(&mut **write)
    .await?;
    let confirmed = rows.len() as u64;
    for (id, since) in rows {
        let node = id
            .parse()
            .map_err(|_| DbError::Content(format!("the node id `{id}`")))?;
        confirm(write, node, format!("node:{id}:held:{since}"), now_ms).await?;
    }
    Ok(confirmed)
}

async fn confirm(
    write: &mut Write<'_>,
    node: NodeId,
    key: String,
    now_ms: i64,
) -> Result<(), DbError> {
    let held = ledger::balance_within(write, &Account::Held(node)).await?;
    Entry::new(key)
        .transfer(&Account::Held(node), &Account::Confirmed(node), held)
        .post(write, now_ms)
        .await?;
    sqlx::query("UPDATE nodes SET held_since_ms = NULL WHERE id = ?")
        .bind(node.to_string())
        .execute(&mut **write)
        .await?;
    Ok(())
}
