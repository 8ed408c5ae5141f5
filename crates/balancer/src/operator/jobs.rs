//! Jobs and their receipts, without anything that a client wrote or was answered.

use axum::Json;
use axum::extract::{Path, State};
use infera_protocol::{JobId, NodeId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::call::{Asking, Fault, Operator};
use super::{MOST_LOOKED_AT, Shared, rows};
use crate::db::{Database, DbError};
use crate::receipts;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Which {
    state: Option<String>,
    model: Option<String>,
    client: Option<String>,
    node: Option<NodeId>,
    before: Option<i64>,
    limit: Option<u32>,
}

#[derive(Debug, PartialEq, Serialize, sqlx::FromRow)]
struct JobRow {
    /// Where the list goes on.
    #[serde(skip)]
    place: i64,
    id: String,
    client: String,
    model_name: String,
    state: String,
    ended: Option<String>,
    error: Option<String>,
    verdict: String,
    reason: String,
    prompt_tokens: i64,
    output_tokens: i64,
    cost: i64,
    created_ms: i64,
    finished_ms: Option<i64>,
    settled_ms: Option<i64>,
    /// The node that has it, or had it last.
    node: Option<String>,
}

/// The newest ones first. Among very many, a page may have fewer rows than asked for, and the list
/// still goes on: no call looks through all jobs there ever were.
const LIST: &str = "SELECT j.*, (SELECT a.node FROM attempts a WHERE a.job = j.id
         ORDER BY a.attempt DESC LIMIT 1) AS node
    FROM (SELECT rowid AS place, id, client, model_name, state, ended, error, verdict, reason,
              prompt_tokens, output_tokens, cost, created_ms, finished_ms, settled_ms
          FROM jobs WHERE rowid < ?1 ORDER BY rowid DESC LIMIT ?2) j
    WHERE (?3 IS NULL OR j.state = ?3)
        AND (?4 IS NULL OR j.model_name = ?4)
        AND (?5 IS NULL OR j.client = ?5)
        AND (?6 IS NULL OR EXISTS (SELECT 1 FROM attempts a WHERE a.job = j.id AND a.node = ?6)
            OR EXISTS (SELECT 1 FROM audits u WHERE u.job = j.id AND u.node = ?6))
    LIMIT ?7";

pub(super) async fn list(
    State(core): Shared,
    _: Operator,
    Asking(which): Asking<Which>,
) -> Result<Json<Value>, Fault> {
    let (jobs, next) = find(&core.database, &which).await?;
    Ok(Json(json!({"jobs": jobs, "next": next})))
}

async fn find(database: &Database, which: &Which) -> Result<(Vec<JobRow>, Option<i64>), DbError> {
    let limit = rows(which.limit);
    let before = which.before.unwrap_or(i64::MAX);
    let jobs: Vec<JobRow> = sqlx::query_as(LIST)
        .bind(before)
        .bind(MOST_LOOKED_AT)
        .bind(&which.state)
        .bind(&which.model)
        .bind(&which.client)
        .bind(which.node.map(|node| node.to_string()))
        .bind(limit)
        .fetch_all(database.read())
        .await?;
    if jobs.len() == limit as usize {
        let next = jobs.last().map(|job| job.place);
        return Ok((jobs, next));
    }
    let looked_at: Option<i64> = sqlx::query_scalar(
        "SELECT rowid FROM jobs WHERE rowid < ? ORDER BY rowid DESC LIMIT 1 OFFSET ?",
    )
    .bind(before)
    .bind(MOST_LOOKED_AT - 1)
    .fetch_optional(database.read())
    .await?;
    Ok((jobs, looked_at))
}

pub(super) async fn one(
    State(core): Shared,
    _: Operator,
    Path(job): Path<String>,
) -> Result<Json<Value>, Fault> {
    let unknown = || Fault::unknown("There is no such job");
    let id: JobId = job.parse().map_err(|_| unknown())?;
    let view = receipts::job(&core.database, id)
        .await?
        .ok_or_else(unknown)?;
    let mut receipt = receipts::receipt(&core.database, id, &view).await?;
    // The task holds where the client wants its answer to stop, which is the client's text.
    if let Value::Object(receipt) = &mut receipt {
        receipt.remove("task");
    }
    receipt["client"] = json!(view.client);
    receipt["kind"] = json!(if view.task.embedded_texts().is_some() {
        "embeddings"
    } else {
        "text"
    });
    receipt["max_tokens"] = json!(view.task.most_output_tokens());
    Ok(Json(receipt))
}
