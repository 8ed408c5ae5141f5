//! The ledger: accounts, their postings, and all of it as a file.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::call::{Asking, Fault, Operator};
use super::{MOST_LOOKED_AT, Shared, rows};
use crate::db::DbError;
use crate::dispatch::Core;

/// Rows of the export that are read at once.
const PIECE: u32 = 2000;
const COLUMNS: &str = "id,time_ms,entry,account,micro_points\n";

#[derive(Deserialize)]
pub(super) struct Accounts {
    /// Goes on after this account.
    #[serde(default)]
    after: String,
    /// What an account's name begins with.
    #[serde(default)]
    begins: String,
    limit: Option<u32>,
}

#[derive(Serialize, sqlx::FromRow)]
struct Balance {
    account: String,
    balance: i64,
}

pub(super) async fn accounts(
    State(core): Shared,
    _: Operator,
    Asking(which): Asking<Accounts>,
) -> Result<Json<Value>, Fault> {
    let limit = rows(which.limit);
    let accounts: Vec<Balance> = sqlx::query_as(
        "SELECT account, balance FROM balances
         WHERE account > ?1 AND substr(account, 1, length(?2)) = ?2 ORDER BY account LIMIT ?3",
    )
    .bind(&which.after)
    .bind(&which.begins)
    .bind(limit)
    .fetch_all(core.database.read())
    .await
    .map_err(DbError::from)?;
    let (sum, count): (i64, i64) =
        sqlx::query_as("SELECT coalesce(sum(balance), 0), count(*) FROM balances")
            .fetch_one(core.database.read())
            .await
            .map_err(DbError::from)?;
    let full = accounts.len() == limit as usize;
    let next = accounts.last().filter(|_| full).map(|last| &last.account);
    Ok(Json(
        json!({"accounts": accounts, "sum": sum, "count": count, "next": next}),
    ))
}

#[derive(Deserialize)]
pub(super) struct OfAccount {
    account: String,
    before: Option<i64>,
    limit: Option<u32>,
}

#[derive(Serialize, sqlx::FromRow)]
struct Posting {
    id: i64,
    key: String,
    amount: i64,
    at_ms: i64,
}

/// An account's postings, the newest first; as with jobs, no call looks through all there ever were.
pub(super) async fn postings(
    State(core): Shared,
    _: Operator,
    Asking(which): Asking<OfAccount>,
) -> Result<Json<Value>, Fault> {
    let limit = rows(which.limit);
    let before = which.before.unwrap_or(i64::MAX);
    let postings: Vec<Posting> = sqlx::query_as(
        "SELECT id, key, amount, at_ms FROM (SELECT * FROM postings WHERE id < ?
             ORDER BY id DESC LIMIT ?) WHERE account = ? LIMIT ?",
    )
    .bind(before)
    .bind(MOST_LOOKED_AT)
    .bind(&which.account)
    .bind(limit)
    .fetch_all(core.database.read())
    .await
    .map_err(DbError::from)?;
    let next = if postings.len() == limit as usize {
        postings.last().map(|posting| posting.id)
    } else {
        sqlx::query_scalar("SELECT id FROM postings WHERE id < ? ORDER BY id DESC LIMIT 1 OFFSET ?")
            .bind(before)
            .bind(MOST_LOOKED_AT - 1)
            .fetch_optional(core.database.read())
            .await
            .map_err(DbError::from)?
    };
    Ok(Json(json!({"postings": postings, "next": next})))
}

/// Every posting there is, piece by piece as it is taken.
pub(super) async fn export(State(core): Shared, _: Operator) -> Response {
    let pieces = stream::try_unfold((core, None), async |(core, after)| match after {
        None => Ok::<_, DbError>(Some((COLUMNS.to_owned(), (core, Some(0))))),
        Some(after) => {
            let piece = piece(&core, after).await?;
            Ok(piece.map(|(text, last)| (text, (core, Some(last)))))
        }
    });
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"ledger.csv\"",
        ),
    ];
    (headers, Body::from_stream(pieces)).into_response()
}

async fn piece(core: &Arc<Core>, after: i64) -> Result<Option<(String, i64)>, DbError> {
    let rows: Vec<(i64, i64, String, String, i64)> = sqlx::query_as(
        "SELECT id, at_ms, key, account, amount FROM postings WHERE id > ? ORDER BY id LIMIT ?",
    )
    .bind(after)
    .bind(PIECE)
    .fetch_all(core.database.read())
    .await?;
    let last = rows.last().map(|row| row.0);
    let lines = rows.iter().map(|(id, at_ms, key, account, amount)| {
        format!("{id},{at_ms},{},{},{amount}\n", cell(key), cell(account))
    });
    Ok(last.map(|last| (lines.collect(), last)))
}

/// In quotes where it has to be, and never a formula of a program for tables.
fn cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula {
        format!("'{text}")
    } else {
        text.to_owned()
    };
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_have_to_be() {
        for (text, expected) in [
            ("client:ann", "client:ann"),
            ("a,b", "\"a,b\""),
            ("a\"b", "\"a\"\"b\""),
            ("=1+1", "'=1+1"),
            ("@a,b", "\"'@a,b\""),
        ] {
            assert_eq!(cell(text), expected);
        }
    }
}
