//! What stays of a job: who did what, what the checks found, what it cost.

use infera_protocol::{JobId, Task};
use serde_json::{Value, json};
use sqlx::Row;

use crate::db::{Database, DbError};
use crate::store;

/// A job as its client may see it.
pub(crate) struct JobView {
    pub client: String,
    pub task: Task,
    pub verdict: String,
    pub reason: String,
    pub state: String,
    pub ended: Option<String>,
    pub error: Option<String>,
    /// [`crate::job::StoredOutput::values`], unless all text is deleted.
    pub output: Option<Vec<u32>>,
    row: Value,
}

pub(crate) async fn job(database: &Database, id: JobId) -> Result<Option<JobView>, DbError> {
    let row = sqlx::query("SELECT * FROM jobs WHERE id = ?")
        .bind(id.to_string())
        .fetch_optional(database.read())
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let text_deleted = row.try_get::<Option<&[u8]>, _>("prompt")?.is_none();
    let output: Option<&[u8]> = row.try_get("output")?;
    let fixed = json!({
        "job_id": id,
        "run": row.try_get::<i64, _>("run")?,
        "model": row.try_get::<String, _>("model")?,
        "model_name": row.try_get::<String, _>("model_name")?,
        "created_ms": row.try_get::<i64, _>("created_ms")?,
        "finished_ms": row.try_get::<Option<i64>, _>("finished_ms")?,
        "settled_ms": row.try_get::<Option<i64>, _>("settled_ms")?,
        "prompt_tokens": row.try_get::<i64, _>("prompt_tokens")?,
        "prompt_hash": row.try_get::<String, _>("prompt_hash")?,
        "output_tokens": row.try_get::<i64, _>("output_tokens")?,
        "output_hash": row.try_get::<Option<String>, _>("output_hash")?,
        "price": {
            "input": row.try_get::<i64, _>("input_price")?,
            "output": row.try_get::<i64, _>("output_price")?,
        },
        "cost": row.try_get::<i64, _>("cost")?,
        "route": row.try_get::<String, _>("route")?,
        "text_deleted": text_deleted,
    });
    Ok(Some(JobView {
        client: row.try_get("client")?,
        task: store::task(&row)?,
        verdict: row.try_get("verdict")?,
        reason: row.try_get("reason")?,
        state: row.try_get("state")?,
        ended: row.try_get("ended")?,
        error: row.try_get("error")?,
        output: (!text_deleted).then(|| store::tokens(output)),
        row: fixed,
    }))
}

impl JobView {
    /// The job without its receipt's details.
    pub(crate) fn summary(&self) -> Value {
        let mut summary = self.row.clone();
        summary["state"] = json!(self.state);
        summary["finish_reason"] = json!(self.ended);
        summary["error"] = json!(self.error);
        summary["verdict"] = json!(self.verdict);
        summary["reason"] = json!(self.reason);
        summary
    }
}

/// The receipt: the summary, the task (without what the client wrote, once that is deleted), each
/// attempt with its signed end, each reference's figures, and the postings that moved the points.
pub(crate) async fn receipt(
    database: &Database,
    id: JobId,
    view: &JobView,
) -> Result<Value, DbError> {
    let mut receipt = view.summary();
    receipt["task"] = json!(view.task);
    receipt["attempts"] = attempts(database, id).await?;
    receipt["references"] = references(database, id).await?;
    receipt["postings"] = postings(database, id).await?;
    Ok(receipt)
}

async fn attempts(database: &Database, id: JobId) -> Result<Value, DbError> {
    let rows = sqlx::query("SELECT * FROM attempts WHERE job = ? ORDER BY attempt")
        .bind(id.to_string())
        .fetch_all(database.read())
        .await?;
    let attempts = rows.iter().map(|row| {
        let finish: Option<String> = row.try_get("finish")?;
        Ok(json!({
            "attempt": row.try_get::<i64, _>("attempt")?,
            "run": row.try_get::<i64, _>("run")?,
            "node": row.try_get::<String, _>("node")?,
            "host": row.try_get::<String, _>("host")?,
            "start": row.try_get::<i64, _>("start")?,
            "end": row.try_get::<i64, _>("received")?,
            "chunks": row.try_get::<i64, _>("chunks")?,
            "chain_head": row.try_get::<String, _>("head")?,
            "finish": finish.and_then(|text| serde_json::from_str::<Value>(&text).ok()),
            "ended": row.try_get::<Option<String>, _>("ended")?,
            "claimed_ms": row.try_get::<i64, _>("claimed_ms")?,
            "ended_ms": row.try_get::<Option<i64>, _>("ended_ms")?,
            "paid_tokens": row.try_get::<i64, _>("paid_tokens")?,
            "share": row.try_get::<i64, _>("share")?,
            "verdict": row.try_get::<String, _>("verdict")?,
            "reason": row.try_get::<String, _>("reason")?,
        }))
    });
    Ok(Value::Array(attempts.collect::<Result<_, sqlx::Error>>()?))
}

async fn references(database: &Database, id: JobId) -> Result<Value, DbError> {
    let rows = sqlx::query("SELECT * FROM audits WHERE job = ? ORDER BY offered_ms, id")
        .bind(id.to_string())
        .fetch_all(database.read())
        .await?;
    let references = rows.iter().map(|row| {
        let figures: Option<String> = row.try_get("figures")?;
        Ok(json!({
            "audit": row.try_get::<String, _>("id")?,
            "run": row.try_get::<i64, _>("run")?,
            "node": row.try_get::<String, _>("node")?,
            "step": row.try_get::<String, _>("step")?,
            "commitment": row.try_get::<Option<String>, _>("commitment")?,
            "signature": row.try_get::<Option<String>, _>("signature")?,
            "figures": figures.and_then(|text| serde_json::from_str::<Value>(&text).ok()),
            "pay": row.try_get::<i64, _>("pay")?,
        }))
    });
    Ok(Value::Array(
        references.collect::<Result<_, sqlx::Error>>()?,
    ))
}

async fn postings(database: &Database, id: JobId) -> Result<Value, DbError> {
    // A job's keys begin with its id, so this range is read from the index.
    let rows: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT key, account, amount FROM postings WHERE key >= ? AND key < ? ORDER BY id",
    )
    .bind(format!("job:{id}:"))
    .bind(format!("job:{id};"))
    .fetch_all(database.read())
    .await?;
    let postings = rows
        .into_iter()
        .map(|(key, account, amount)| json!({"key": key, "account": account, "amount": amount}));
    Ok(Value::Array(postings.collect()))
}
