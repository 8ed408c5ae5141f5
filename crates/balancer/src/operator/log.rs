//! What operators did: written with each act, and read by all of them.

use serde::Serialize;

use crate::db::{Database, DbError, Write};

/// What an operator can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    SignIn,
    Appoint,
    Dismiss,
    Trust,
    Untrust,
    /// Neither trusted nor a reference any more.
    Demote,
    Ban,
    Unban,
    AddModel,
    SetPrice,
    RemoveModel,
    CreateKey,
    RevokeKey,
    Invite,
    RevokeInvitation,
    CreateOperatorKey,
    RevokeOperatorKey,
}

impl Act {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::SignIn => "sign_in",
            Self::Appoint => "appoint",
            Self::Dismiss => "dismiss",
            Self::Trust => "trust",
            Self::Untrust => "untrust",
            Self::Demote => "demote",
            Self::Ban => "ban",
            Self::Unban => "unban",
            Self::AddModel => "add_model",
            Self::SetPrice => "set_price",
            Self::RemoveModel => "remove_model",
            Self::CreateKey => "create_key",
            Self::RevokeKey => "revoke_key",
            Self::Invite => "invite",
            Self::RevokeInvitation => "revoke_invitation",
            Self::CreateOperatorKey => "create_operator_key",
            Self::RevokeOperatorKey => "revoke_operator_key",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub(crate) struct LogRow {
    pub id: i64,
    pub at_ms: i64,
    /// The name of the operator's key; none for the command line.
    pub who: Option<String>,
    pub act: String,
    /// On whom or what: a node's id, a name, a number.
    pub whom: String,
    /// A reason, a price, a limit.
    pub detail: String,
}

/// Writes it together with the act itself.
pub(crate) async fn write(
    write: &mut Write<'_>,
    who: Option<&str>,
    act: Act,
    whom: &str,
    detail: &str,
    now_ms: i64,
) -> Result<(), DbError> {
    sqlx::query("INSERT INTO operator_log (at_ms, who, act, whom, detail) VALUES (?, ?, ?, ?, ?)")
        .bind(now_ms)
        .bind(who)
        .bind(act.word())
        .bind(whom)
        .bind(detail)
        .execute(&mut **write)
        .await?;
    tracing::info!(
        who = who.unwrap_or("command line"),
        act = act.word(),
        whom,
        "an operator's act"
    );
    Ok(())
}

/// Writes an act that has been done in a transaction of its own.
pub(crate) async fn add(
    database: &Database,
    who: Option<&str>,
    act: Act,
    whom: &str,
    detail: &str,
    now_ms: i64,
) -> Result<(), DbError> {
    let mut transaction = database.write().await?;
    write(&mut transaction, who, act, whom, detail, now_ms).await?;
    transaction.commit().await
}

/// The newest ones before a number.
pub(crate) async fn list(
    database: &Database,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<LogRow>, DbError> {
    let rows = sqlx::query_as(
        "SELECT id, at_ms, who, act, whom, detail FROM operator_log
         WHERE id < ? ORDER BY id DESC LIMIT ?",
    )
    .bind(before.unwrap_or(i64::MAX))
    .bind(limit)
    .fetch_all(database.read())
    .await?;
    Ok(rows)
}
