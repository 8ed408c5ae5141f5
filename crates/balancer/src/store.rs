//! Jobs, attempts, audits and nodes in the database.

use std::collections::HashMap;
use std::ops::Range;

use infera_protocol::node_api::{
    Price, ReferenceFigures, Standing, VerdictStatus, WorkKind, WorkRecord,
};
use infera_protocol::{
    AccountId, AuditId, AuditReport, Finish, FinishReason, Hash, JobId, NodeId, Route, Task,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::db::{Database, DbError, Write};
use crate::job::{Attempt, Job, PastAttempt, Speeds, StoredOutput, Submission};
use crate::reach::Host;
use crate::states::{self, AttemptEnd, AuditState, JobState, Word};

/// Sets what is left of a job once its text is deleted: the task without what the client wrote.
const WITHOUT_TEXT: &str = "prompt = NULL, output = NULL,
    task = json_replace(task, '$.work.write.stop', json('[]'))";

/// A job that was not done when the balancer stopped.
pub(crate) struct StoredJob {
    pub id: JobId,
    pub client: String,
    pub task: Task,
    pub price: Price,
    pub route: Route,
    pub keep: bool,
    pub run: u32,
    pub auditing: bool,
    pub failed: bool,
    /// [`StoredOutput::values`].
    pub output: Vec<u32>,
    pub attempts: Vec<StoredAttempt>,
    pub audits: Vec<StoredAudit>,
}

pub(crate) struct StoredAttempt {
    pub number: u32,
    pub run: u32,
    pub node: NodeId,
    pub host: Host,
    pub nonce: Hash,
    pub start: u32,
    pub received: u32,
    pub chunks: u32,
    pub share: i64,
    pub gross: i64,
    pub prefilled: u32,
    pub open: bool,
    pub finish: Option<Finish>,
}

pub(crate) struct StoredAudit {
    pub id: AuditId,
    pub run: u32,
    pub node: NodeId,
    pub state: AuditState,
    pub commitment: Option<Hash>,
    pub report: Option<AuditReport>,
}

/// What an attempt of any job, live or not, has come to.
pub(crate) struct AttemptState {
    pub node: NodeId,
    pub received: u32,
    pub chunks: u32,
    pub finished: bool,
}

/// What is known of a node besides its session.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeRow {
    pub node: NodeId,
    pub reference: bool,
    /// The operator trusts it: its answers may go out unchecked.
    pub trusted: bool,
    /// When it first joined by an invitation.
    pub joined_ms: Option<i64>,
    /// Whose it is.
    pub account: Option<AccountId>,
    pub software: String,
    pub first_seen_ms: Option<i64>,
    pub last_seen_ms: Option<i64>,
    pub verified: i64,
    pub failures: i64,
    pub banned_until_ms: i64,
    pub tokens_per_second: Option<f64>,
    pub prefill_tokens_per_second: Option<f64>,
    /// Jobs that it claimed and lost, less those that were verified since.
    pub lapses: i64,
    /// As a reference node: reports, those that the others contradicted, and canaries.
    pub audits: i64,
    pub outvoted: i64,
    pub canaries_met: i64,
    pub canaries_missed: i64,
    /// Why the balancer made it an ordinary node.
    pub role_lost: Option<String>,
}

#[cfg(test)]
impl NodeRow {
    /// A node of which nothing is known but its id.
    pub(crate) fn unknown(node: NodeId) -> Self {
        Self {
            node,
            reference: false,
            trusted: false,
            joined_ms: None,
            account: None,
            software: String::new(),
            first_seen_ms: None,
            last_seen_ms: None,
            verified: 0,
            failures: 0,
            banned_until_ms: 0,
            tokens_per_second: None,
            prefill_tokens_per_second: None,
            lapses: 0,
            audits: 0,
            outvoted: 0,
            canaries_met: 0,
            canaries_missed: 0,
            role_lost: None,
        }
    }
}

/// How a run's output ended, for the job's row.
pub(crate) struct JobEnd<'a> {
    /// None: without an answer.
    pub reason: Option<FinishReason>,
    pub error: Option<&'a str>,
    pub cost: i64,
    pub output_hash: Hash,
}

pub(crate) async fn insert_job(
    write: &mut Write<'_>,
    job: &Job,
    now_ms: i64,
) -> Result<(), DbError> {
    let Submission {
        client,
        model,
        task,
        price,
        route,
        wait,
        keep,
        rerun: _,
    } = &*job.submission;
    sqlx::query(
        "INSERT INTO jobs (id, client, model, model_name, task, prompt, prompt_tokens, prompt_hash,
             input_price, output_price, route, wait, keep, state, created_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'running', ?)",
    )
    .bind(job.id.to_string())
    .bind(client)
    .bind(task.model.to_string())
    .bind(&model.name)
    .bind(without_input(task))
    .bind(blob(&task.input))
    .bind(task.input_tokens())
    .bind(task.input_hash().to_string())
    .bind(price.input)
    .bind(price.output)
    .bind(route.word())
    .bind(wait)
    .bind(keep)
    .bind(now_ms)
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// Writes a claim. A claim of the same attempt that is there already was never answered: the
/// database wrote it and then said that it had not.
pub(crate) async fn insert_attempt(
    write: &mut Write<'_>,
    job: &Job,
    attempt: &Attempt,
    nonce: &Hash,
    now_ms: i64,
) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO attempts (job, attempt, run, node, host, nonce, start, received, committed,
             head, claimed_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (job, attempt) DO UPDATE SET run = excluded.run, node = excluded.node,
             host = excluded.host, nonce = excluded.nonce, start = excluded.start, received = excluded.received,
             committed = excluded.committed, head = excluded.head, claimed_ms = excluded.claimed_ms
         WHERE ended_ms IS NULL",
    )
    .bind(job.id.to_string())
    .bind(attempt.number)
    .bind(job.run)
    .bind(attempt.node.to_string())
    .bind(attempt.host.word())
    .bind(nonce.to_string())
    .bind(attempt.start)
    .bind(attempt.start)
    .bind(attempt.start)
    .bind(attempt.origin.to_string())
    .bind(now_ms)
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// Keeps the output so far, and how far the attempt has committed to it.
pub(crate) async fn save_output(
    write: &mut Write<'_>,
    job: JobId,
    output: &StoredOutput,
    attempt: u32,
    (chunks, committed, head): (u32, u32, Hash),
    finish: Option<&Finish>,
) -> Result<(), DbError> {
    sqlx::query("UPDATE jobs SET output = ?, output_tokens = ? WHERE id = ?")
        .bind(blob(&output.values))
        .bind(output.tokens)
        .bind(job.to_string())
        .execute(&mut **write)
        .await?;
    sqlx::query(
        "UPDATE attempts SET received = ?, committed = ?, chunks = ?, head = ?, finish = ?
         WHERE job = ? AND attempt = ?",
    )
    .bind(output.received)
    .bind(committed)
    .bind(chunks)
    .bind(head.to_string())
    .bind(finish.map(json))
    .bind(job.to_string())
    .bind(attempt)
    .execute(&mut **write)
    .await?;
    Ok(())
}

pub(crate) async fn end_attempt(
    write: &mut Write<'_>,
    job: JobId,
    output: &StoredOutput,
    past: &PastAttempt,
    paid_tokens: u32,
    how: AttemptEnd,
    now_ms: i64,
) -> Result<(), DbError> {
    sqlx::query("UPDATE jobs SET output = ?, output_tokens = ? WHERE id = ?")
        .bind(blob(&output.values))
        .bind(output.tokens)
        .bind(job.to_string())
        .execute(&mut **write)
        .await?;
    sqlx::query(
        "UPDATE attempts SET received = ?, ended_ms = ?, ended = ?, paid_tokens = ?, gross = ?,
             share = ?, prefilled = ?
         WHERE job = ? AND attempt = ?",
    )
    .bind(past.end)
    .bind(now_ms)
    .bind(how.word())
    .bind(paid_tokens)
    .bind(past.gross)
    .bind(past.share)
    .bind(past.prefilled)
    .bind(job.to_string())
    .bind(past.number)
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// The output is complete.
pub(crate) async fn end_output(
    write: &mut Write<'_>,
    job: JobId,
    end: &JobEnd<'_>,
    now_ms: i64,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE jobs SET state = 'auditing', ended = ?, error = ?, cost = ?, output_hash = ?,
             finished_ms = ?
         WHERE id = ?",
    )
    .bind(states::ended(end.reason))
    .bind(end.error)
    .bind(end.cost)
    .bind(end.output_hash.to_string())
    .bind(now_ms)
    .bind(job.to_string())
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// The verdict is final.
pub(crate) async fn settle_job(
    write: &mut Write<'_>,
    job: JobId,
    verdict: VerdictStatus,
    reason: &str,
    now_ms: i64,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE jobs SET state = 'done', verdict = ?, reason = ?, settled_ms = ? WHERE id = ?",
    )
    .bind(verdict.word())
    .bind(reason)
    .bind(now_ms)
    .bind(job.to_string())
    .execute(&mut **write)
    .await?;
    delete_delivered_text(write, job).await
}

/// The output is void; another node writes it anew as the next run.
pub(crate) async fn restart_job(
    write: &mut Write<'_>,
    job: JobId,
    run: u32,
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE jobs SET state = 'running', run = ?, ended = NULL, output = NULL,
             output_tokens = 0, output_hash = NULL, cost = 0, finished_ms = NULL
         WHERE id = ?",
    )
    .bind(run)
    .bind(job.to_string())
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// The job cannot go on, and nothing of its run is paid.
pub(crate) async fn give_up_job(
    write: &mut Write<'_>,
    job: &StoredJob,
    reason: &str,
    now_ms: i64,
) -> Result<(), DbError> {
    let id = job.id.to_string();
    sqlx::query(
        "UPDATE attempts SET ended = coalesce(ended, 'cancelled'), ended_ms = coalesce(ended_ms, ?1),
             share = 0, verdict = ?2, reason = ?3
         WHERE job = ?4 AND run = ?5",
    )
    .bind(now_ms)
    .bind(VerdictStatus::SampledOut.word())
    .bind(reason)
    .bind(&id)
    .bind(job.run)
    .execute(&mut **write)
    .await?;
    sqlx::query(
        "UPDATE audits SET step = 'expired'
         WHERE job = ? AND run = ? AND step IN ('offered', 'accepted', 'committed')",
    )
    .bind(&id)
    .bind(job.run)
    .execute(&mut **write)
    .await?;
    sqlx::query(
        "UPDATE jobs SET ended = coalesce(ended, 'failed'), error = coalesce(error, ?1), cost = 0,
             finished_ms = coalesce(finished_ms, ?2), delivered = 1
         WHERE id = ?3",
    )
    .bind(reason)
    .bind(now_ms)
    .bind(&id)
    .execute(&mut **write)
    .await?;
    settle_job(write, job.id, VerdictStatus::SampledOut, reason, now_ms).await
}

/// The client has its answer, or has gone.
pub(crate) async fn deliver_job(write: &mut Write<'_>, job: JobId) -> Result<(), DbError> {
    sqlx::query("UPDATE jobs SET delivered = 1 WHERE id = ?")
        .bind(job.to_string())
        .execute(&mut **write)
        .await?;
    delete_delivered_text(write, job).await
}

/// The clients of an earlier run have gone: what is done is delivered, as far as it will be.
pub(crate) async fn deliver_done_jobs(write: &mut Write<'_>) -> Result<(), DbError> {
    let jobs: Vec<String> = sqlx::query_scalar(
        "UPDATE jobs SET delivered = 1 WHERE delivered = 0 AND state = 'done' RETURNING id",
    )
    .fetch_all(&mut **write)
    .await?;
    for job in jobs.iter().filter_map(|job| job.parse().ok()) {
        delete_delivered_text(write, job).await?;
    }
    Ok(())
}

/// Deletes what is settled and older than `before_ms`, delivered or not.
pub(crate) async fn delete_old_text(
    write: &mut Write<'_>,
    before_ms: i64,
) -> Result<usize, DbError> {
    let jobs: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
        "UPDATE jobs SET {WITHOUT_TEXT}
             WHERE prompt IS NOT NULL AND keep = 0 AND state = 'done' AND finished_ms < ?
             RETURNING id"
    )))
    .bind(before_ms)
    .fetch_all(&mut **write)
    .await?;
    for job in &jobs {
        delete_reports(write, job).await?;
    }
    Ok(jobs.len())
}

/// Deletes the reports of jobs whose text is gone: earlier versions left them.
pub(crate) async fn delete_left_reports(write: &mut Write<'_>) -> Result<(), DbError> {
    let outcome = sqlx::query(
        "UPDATE audits SET report = NULL
         WHERE report IS NOT NULL AND job IN (SELECT id FROM jobs WHERE prompt IS NULL)",
    )
    .execute(&mut **write)
    .await?;
    if outcome.rows_affected() > 0 {
        write.deletes_text();
    }
    Ok(())
}

pub(crate) async fn judge_attempt(
    write: &mut Write<'_>,
    job: JobId,
    attempt: u32,
    verdict: VerdictStatus,
    reason: &str,
    findings: &[ReferenceFigures],
) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE attempts SET verdict = ?, reason = ?, findings = ? WHERE job = ? AND attempt = ?",
    )
    .bind(verdict.word())
    .bind(reason)
    .bind(json(&findings))
    .bind(job.to_string())
    .bind(attempt)
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// The attempt is paid less than it earned, because nobody checked it.
pub(crate) async fn set_share(
    write: &mut Write<'_>,
    job: JobId,
    attempt: u32,
    share: i64,
) -> Result<(), DbError> {
    sqlx::query("UPDATE attempts SET share = ? WHERE job = ? AND attempt = ?")
        .bind(share)
        .bind(job.to_string())
        .bind(attempt)
        .execute(&mut **write)
        .await?;
    Ok(())
}

/// What the client is charged in the end.
pub(crate) async fn set_cost(write: &mut Write<'_>, job: JobId, cost: i64) -> Result<(), DbError> {
    sqlx::query("UPDATE jobs SET cost = ? WHERE id = ?")
        .bind(cost)
        .bind(job.to_string())
        .execute(&mut **write)
        .await?;
    Ok(())
}

/// Says of a job that is being checked, and of its attempts, how that stands.
pub(crate) async fn note_waiting(
    write: &mut Write<'_>,
    job: JobId,
    reason: &str,
) -> Result<(), DbError> {
    sqlx::query("UPDATE jobs SET reason = ? WHERE id = ? AND verdict = 'pending'")
        .bind(reason)
        .bind(job.to_string())
        .execute(&mut **write)
        .await?;
    sqlx::query("UPDATE attempts SET reason = ? WHERE job = ? AND verdict = 'pending'")
        .bind(reason)
        .bind(job.to_string())
        .execute(&mut **write)
        .await?;
    Ok(())
}

pub(crate) async fn insert_audit(
    write: &mut Write<'_>,
    job: &Job,
    audit: AuditId,
    node: NodeId,
    now_ms: i64,
) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO audits (id, job, run, node, step, offered_ms)
         VALUES (?, ?, ?, ?, 'offered', ?)",
    )
    .bind(audit.to_string())
    .bind(job.id.to_string())
    .bind(job.run)
    .bind(node.to_string())
    .bind(now_ms)
    .execute(&mut **write)
    .await?;
    Ok(())
}

pub(crate) async fn set_audit_state(
    write: &mut Write<'_>,
    audit: AuditId,
    state: AuditState,
) -> Result<(), DbError> {
    sqlx::query("UPDATE audits SET step = ? WHERE id = ?")
        .bind(state.word())
        .bind(audit.to_string())
        .execute(&mut **write)
        .await?;
    Ok(())
}

pub(crate) async fn commit_audit(
    write: &mut Write<'_>,
    audit: AuditId,
    commitment: &Hash,
    signature: &str,
) -> Result<(), DbError> {
    sqlx::query("UPDATE audits SET step = 'committed', commitment = ?, signature = ? WHERE id = ?")
        .bind(commitment.to_string())
        .bind(signature)
        .bind(audit.to_string())
        .execute(&mut **write)
        .await?;
    Ok(())
}

pub(crate) async fn report_audit(
    write: &mut Write<'_>,
    report: &AuditReport,
    now_ms: i64,
) -> Result<(), DbError> {
    sqlx::query("UPDATE audits SET step = 'reported', report = ?, finished_ms = ? WHERE id = ?")
        .bind(json(report))
        .bind(now_ms)
        .bind(report.audit.to_string())
        .execute(&mut **write)
        .await?;
    Ok(())
}

pub(crate) async fn settle_audit(
    write: &mut Write<'_>,
    audit: AuditId,
    figures: &serde_json::Value,
    findings: &[ReferenceFigures],
    pay: i64,
) -> Result<(), DbError> {
    sqlx::query("UPDATE audits SET figures = ?, findings = ?, pay = ? WHERE id = ?")
        .bind(figures.to_string())
        .bind(json(&findings))
        .bind(pay)
        .bind(audit.to_string())
        .execute(&mut **write)
        .await?;
    Ok(())
}

/// The jobs written within this time that are not done, oldest first.
pub(crate) async fn open_jobs(
    database: &Database,
    written_ms: Range<i64>,
) -> Result<Vec<JobId>, DbError> {
    let rows = sqlx::query(
        "SELECT id FROM jobs WHERE state <> 'done' AND created_ms >= ? AND created_ms < ?
         ORDER BY created_ms",
    )
    .bind(written_ms.start)
    .bind(written_ms.end)
    .fetch_all(database.read())
    .await?;
    rows.iter().map(|row| parse(row, "id")).collect()
}

/// One of them whole, with its attempts and audits, unless it is done by now.
pub(crate) async fn open_job(database: &Database, id: JobId) -> Result<Option<StoredJob>, DbError> {
    let row = sqlx::query("SELECT * FROM jobs WHERE state <> 'done' AND id = ?")
        .bind(id.to_string())
        .fetch_optional(database.read())
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let attempts = sqlx::query("SELECT * FROM attempts WHERE job = ? ORDER BY attempt")
        .bind(id.to_string())
        .fetch_all(database.read())
        .await?;
    let audits = sqlx::query("SELECT * FROM audits WHERE job = ? ORDER BY offered_ms")
        .bind(id.to_string())
        .fetch_all(database.read())
        .await?;
    Ok(Some(StoredJob {
        id,
        client: row.try_get("client")?,
        task: task(&row)?,
        price: Price {
            input: row.try_get("input_price")?,
            output: row.try_get("output_price")?,
        },
        route: Route::read(&row, "route")?,
        keep: row.try_get("keep")?,
        run: row.try_get("run")?,
        auditing: JobState::read(&row, "state")? == JobState::Auditing,
        failed: row.try_get::<Option<String>, _>("ended")?.as_deref() == Some("failed"),
        output: tokens(row.try_get::<Option<Vec<u8>>, _>("output")?.as_deref()),
        attempts: attempts
            .iter()
            .map(stored_attempt)
            .collect::<Result<_, _>>()?,
        audits: audits.iter().map(stored_audit).collect::<Result<_, _>>()?,
    }))
}

pub(crate) async fn attempt_state(
    database: &Database,
    job: JobId,
    attempt: u32,
) -> Result<Option<AttemptState>, DbError> {
    let row = sqlx::query(
        "SELECT node, received, chunks, finish IS NOT NULL AS finished FROM attempts
         WHERE job = ? AND attempt = ?",
    )
    .bind(job.to_string())
    .bind(attempt)
    .fetch_optional(database.read())
    .await?;
    row.map(|row| {
        Ok(AttemptState {
            node: parse(&row, "node")?,
            received: row.try_get("received")?,
            chunks: row.try_get("chunks")?,
            finished: row.try_get("finished")?,
        })
    })
    .transpose()
}

/// Whether a node was given a job that turns texts into vectors.
pub(crate) async fn embeds(database: &Database, node: NodeId, job: JobId) -> Result<bool, DbError> {
    let known = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM attempts JOIN jobs ON jobs.id = attempts.job
             WHERE attempts.job = ? AND attempts.node = ?
                 AND jobs.task ->> '$.work.embed' IS NOT NULL)",
    )
    .bind(job.to_string())
    .bind(node.to_string())
    .fetch_one(database.read())
    .await?;
    Ok(known)
}

/// Whether a node was given an audit.
pub(crate) async fn audits(
    database: &Database,
    node: NodeId,
    audit: AuditId,
) -> Result<bool, DbError> {
    let known =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM audits WHERE id = ? AND node = ?)")
            .bind(audit.to_string())
            .bind(node.to_string())
            .fetch_one(database.read())
            .await?;
    Ok(known)
}

/// Which node an audit was given to, and how far it has come.
pub(crate) async fn audit_state(
    database: &Database,
    audit: AuditId,
) -> Result<Option<(NodeId, AuditState)>, DbError> {
    let row = sqlx::query("SELECT node, step FROM audits WHERE id = ?")
        .bind(audit.to_string())
        .fetch_optional(database.read())
        .await?;
    row.map(|row| Ok((parse(&row, "node")?, Word::read(&row, "step")?)))
        .transpose()
}

pub(crate) async fn job_exists(database: &Database, job: JobId) -> Result<bool, DbError> {
    Ok(
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM jobs WHERE id = ?)")
            .bind(job.to_string())
            .fetch_one(database.read())
            .await?,
    )
}

pub(crate) async fn nonce_used(database: &Database, nonce: &Hash) -> Result<bool, DbError> {
    Ok(
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM attempts WHERE nonce = ?)")
            .bind(nonce.to_string())
            .fetch_one(database.read())
            .await?,
    )
}

/// Notes that a node opened a session, and gives what is known of it.
pub(crate) async fn see_node(
    write: &mut Write<'_>,
    node: NodeId,
    software: &str,
    now_ms: i64,
    steady_ms: i64,
) -> Result<NodeRow, DbError> {
    let row = sqlx::query(
        "INSERT INTO nodes (id, software, first_seen_ms, last_seen_ms) VALUES (?1, ?2, ?3, ?3)
         ON CONFLICT (id) DO UPDATE SET software = ?2, last_seen_ms = ?3,
             first_seen_ms = coalesce(first_seen_ms, ?3),
             banned_until_ms = min(banned_until_ms, ?4 + banned_ms)
         RETURNING *",
    )
    .bind(node.to_string())
    .bind(software.chars().take(100).collect::<String>())
    .bind(now_ms)
    .bind(steady_ms)
    .fetch_one(&mut **write)
    .await?;
    node_row(&row)
}

/// The operator lets a node be more than it was.
pub(crate) async fn trust(
    write: &mut Write<'_>,
    node: NodeId,
    standing: Standing,
) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO nodes (id, trusted, reference) VALUES (?1, ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET trusted = max(trusted, ?2), reference = max(reference, ?3),
             role_lost = iif(?3, NULL, role_lost), role_lost_ms = iif(?3, NULL, role_lost_ms),
             outvoted_lately = iif(?3, 0, outvoted_lately)",
    )
    .bind(node.to_string())
    .bind(standing.trusted)
    .bind(standing.reference)
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// The operator makes it an ordinary node again.
pub(crate) async fn untrust(write: &mut Write<'_>, node: NodeId) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO nodes (id) VALUES (?1)
         ON CONFLICT (id) DO UPDATE SET trusted = 0, reference = 0, role_lost = NULL,
             role_lost_ms = NULL, outvoted_lately = 0",
    )
    .bind(node.to_string())
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// It checks no outputs any more, and takes jobs again.
pub(crate) async fn dismiss(write: &mut Write<'_>, node: NodeId) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE nodes SET reference = 0, role_lost = NULL, role_lost_ms = NULL,
             outvoted_lately = 0
         WHERE id = ?",
    )
    .bind(node.to_string())
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// Its answers are checked from now on.
pub(crate) async fn distrust(write: &mut Write<'_>, node: NodeId) -> Result<(), DbError> {
    sqlx::query("UPDATE nodes SET trusted = 0 WHERE id = ?")
        .bind(node.to_string())
        .execute(&mut **write)
        .await?;
    Ok(())
}

/// A node has joined by an invitation. What a failed check or its own reports took from it, only the
/// operator gives back.
pub(crate) async fn add_member(
    write: &mut Write<'_>,
    node: NodeId,
    standing: Standing,
    software: &str,
    now_ms: i64,
) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO nodes (id, trusted, reference, software, joined_ms) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (id) DO UPDATE SET software = ?4, joined_ms = coalesce(joined_ms, ?5),
             trusted = max(trusted, iif(failures = 0 AND role_lost_ms IS NULL, ?2, 0)),
             reference = max(reference, iif(failures = 0 AND role_lost_ms IS NULL, ?3, 0))",
    )
    .bind(node.to_string())
    .bind(standing.trusted)
    .bind(standing.reference)
    .bind(software.chars().take(100).collect::<String>())
    .bind(now_ms)
    .execute(&mut **write)
    .await?;
    Ok(())
}

pub(crate) async fn standing(write: &mut Write<'_>, node: NodeId) -> Result<Standing, DbError> {
    let row = sqlx::query("SELECT trusted, reference FROM nodes WHERE id = ?")
        .bind(node.to_string())
        .fetch_optional(&mut **write)
        .await?;
    row.map_or(Ok(Standing::default()), |row| read_standing(&row))
}

pub(crate) async fn node(database: &Database, node: NodeId) -> Result<Option<NodeRow>, DbError> {
    let row = sqlx::query("SELECT * FROM nodes WHERE id = ?")
        .bind(node.to_string())
        .fetch_optional(database.read())
        .await?;
    row.as_ref().map(node_row).transpose()
}

/// Every node that is known.
pub async fn nodes(database: &Database) -> Result<Vec<NodeRow>, DbError> {
    let rows = sqlx::query("SELECT * FROM nodes ORDER BY reference DESC, id")
        .fetch_all(database.read())
        .await?;
    rows.iter().map(node_row).collect()
}

/// Some of the nodes whose ids begin so, those that are more than ordinary ones first, then those
/// that came last; and how many there are. With `only`, of these.
pub(crate) async fn some_nodes(
    database: &Database,
    begins: &str,
    only: Option<&[NodeId]>,
    offset: u32,
    limit: u32,
) -> Result<(Vec<NodeRow>, i64), DbError> {
    let only = only.map(|only| json(&only));
    let total = sqlx::query_scalar(
        "SELECT count(*) FROM nodes WHERE substr(id, 1, length(?1)) = ?1
             AND (?2 IS NULL OR id IN (SELECT value FROM json_each(?2)))",
    )
    .bind(begins)
    .bind(&only)
    .fetch_one(database.read())
    .await?;
    let rows = sqlx::query(
        "SELECT * FROM nodes WHERE substr(id, 1, length(?1)) = ?1
             AND (?2 IS NULL OR id IN (SELECT value FROM json_each(?2)))
         ORDER BY reference DESC, trusted DESC, last_seen_ms DESC, id LIMIT ?3 OFFSET ?4",
    )
    .bind(begins)
    .bind(&only)
    .bind(limit)
    .bind(offset)
    .fetch_all(database.read())
    .await?;
    let rows = rows.iter().map(node_row).collect::<Result<_, _>>()?;
    Ok((rows, total))
}

/// The nodes that are more than ordinary ones.
pub(crate) async fn standings(database: &Database) -> Result<HashMap<NodeId, Standing>, DbError> {
    let rows =
        sqlx::query("SELECT id, trusted, reference FROM nodes WHERE trusted = 1 OR reference = 1")
            .fetch_all(database.read())
            .await?;
    rows.iter()
        .map(|row| Ok((parse(row, "id")?, read_standing(row)?)))
        .collect()
}

/// Nodes that the balancer took the role of a reference from.
pub(crate) async fn lost_references(database: &Database) -> Result<Vec<NodeId>, DbError> {
    let rows = sqlx::query("SELECT id FROM nodes WHERE role_lost_ms IS NOT NULL")
        .fetch_all(database.read())
        .await?;
    rows.iter().map(|row| parse(row, "id")).collect()
}

/// An output of this node passed.
pub(crate) async fn add_success(write: &mut Write<'_>, node: NodeId) -> Result<(), DbError> {
    sqlx::query(
        "UPDATE nodes SET verified = verified + 1, lapses = max(lapses - 1, 0) WHERE id = ?",
    )
    .bind(node.to_string())
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// The node lost a job that it had claimed: it is kept from jobs, twice as long each time, up to
/// 64 times. Gives until when.
pub(crate) async fn add_lapse(
    write: &mut Write<'_>,
    node: NodeId,
    pause_ms: i64,
    steady_ms: i64,
) -> Result<i64, DbError> {
    let until: Option<i64> = sqlx::query_scalar(
        "UPDATE nodes SET lapses = lapses + 1,
             banned_until_ms = max(banned_until_ms, ?1 + (?2 << min(lapses, 6))),
             banned_ms = max(banned_until_ms - ?1, ?2 << min(lapses, 6))
         WHERE id = ?3 RETURNING banned_until_ms",
    )
    .bind(steady_ms)
    .bind(pause_ms)
    .bind(node.to_string())
    .fetch_optional(&mut **write)
    .await?;
    Ok(until.unwrap_or(steady_ms))
}

/// An output of this node failed: it is trusted no more, and kept from jobs, twice as long each time.
/// Gives until when.
pub(crate) async fn add_failure(
    write: &mut Write<'_>,
    node: NodeId,
    ban_ms: i64,
    steady_ms: i64,
) -> Result<i64, DbError> {
    let until: Option<i64> = sqlx::query_scalar(
        "UPDATE nodes SET failures = failures + 1, trusted = 0,
             banned_until_ms = ?1 + (?2 << min(failures, 10)),
             banned_ms = ?2 << min(failures, 10)
         WHERE id = ?3 RETURNING banned_until_ms",
    )
    .bind(steady_ms)
    .bind(ban_ms)
    .bind(node.to_string())
    .fetch_optional(&mut **write)
    .await?;
    Ok(until.unwrap_or(steady_ms))
}

/// Mixes what was measured into what is known ([`Speeds::after`]).
pub(crate) async fn set_speeds(
    write: &mut Write<'_>,
    node: NodeId,
    measured: Speeds,
) -> Result<(), DbError> {
    if measured == Speeds::default() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE nodes SET
             tokens_per_second = coalesce(
                 0.7 * coalesce(tokens_per_second, ?1) + 0.3 * ?1, tokens_per_second),
             prefill_tokens_per_second = coalesce(
                 0.7 * coalesce(prefill_tokens_per_second, ?2) + 0.3 * ?2,
                 prefill_tokens_per_second)
         WHERE id = ?3",
    )
    .bind(measured.decode)
    .bind(measured.prefill)
    .bind(node.to_string())
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// Micro-points that verification took from a node.
pub(crate) async fn forfeited(database: &Database, node: NodeId) -> Result<i64, DbError> {
    Ok(sqlx::query_scalar(
        "SELECT coalesce(sum(share), 0)
             + coalesce((SELECT held_forfeited FROM nodes WHERE id = ?1), 0)
         FROM attempts WHERE node = ?1 AND verdict = 'failed'",
    )
    .bind(node.to_string())
    .fetch_one(database.read())
    .await?)
}

const ATTEMPT_RECORD: &str = "SELECT 'job' AS kind, a.job AS id, a.attempt, j.model, j.model_name,
        j.prompt_tokens, iif(j.task ->> '$.work.embed' IS NULL, a.received - a.start, 0) AS output_tokens,
        a.claimed_ms AS started_ms,
        a.ended_ms AS finished_ms, a.verdict, a.reason,
        CASE a.verdict WHEN 'failed' THEN 0 ELSE a.share END AS points,
        CASE a.verdict WHEN 'failed' THEN a.share END AS forfeited, a.findings
    FROM attempts a JOIN jobs j ON j.id = a.job";

/// A run that was followed by another has failed; the job's own verdict is about the last run.
const AUDIT_RECORD: &str =
    "SELECT 'audit' AS kind, u.id AS id, 0 AS attempt, j.model, j.model_name,
        j.prompt_tokens, j.output_tokens, u.offered_ms AS started_ms, u.finished_ms,
        CASE WHEN u.run < j.run THEN 'failed' ELSE j.verdict END AS verdict,
        CASE WHEN u.run < j.run THEN coalesce((SELECT a.reason FROM attempts a
            WHERE a.job = u.job AND a.run = u.run AND a.verdict = 'failed' LIMIT 1), '')
            ELSE j.reason END AS reason,
        u.pay AS points, NULL AS forfeited, u.findings
    FROM audits u JOIN jobs j ON j.id = u.job";

pub(crate) async fn attempt_record(
    database: &Database,
    job: JobId,
    attempt: u32,
) -> Result<WorkRecord, DbError> {
    let query = format!("{ATTEMPT_RECORD} WHERE a.job = ? AND a.attempt = ?");
    let row = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(job.to_string())
        .bind(attempt)
        .fetch_one(database.read())
        .await?;
    work_record(&row)
}

pub(crate) async fn audit_record(
    database: &Database,
    audit: AuditId,
) -> Result<WorkRecord, DbError> {
    let query = format!("{AUDIT_RECORD} WHERE u.id = ?");
    let row = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(audit.to_string())
        .fetch_one(database.read())
        .await?;
    work_record(&row)
}

/// A node's jobs and finished audits, newest first.
pub(crate) async fn history(
    database: &Database,
    node: NodeId,
    limit: u32,
) -> Result<Vec<WorkRecord>, DbError> {
    let query = format!(
        "{ATTEMPT_RECORD} WHERE a.node = ?1
         UNION ALL {AUDIT_RECORD} WHERE u.node = ?1 AND u.step = 'reported'
         ORDER BY started_ms DESC LIMIT ?2"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(node.to_string())
        .bind(limit)
        .fetch_all(database.read())
        .await?;
    rows.iter().map(work_record).collect()
}

pub(crate) fn tokens(blob: Option<&[u8]>) -> Vec<u32> {
    blob.unwrap_or_default()
        .chunks_exact(4)
        .map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        .collect()
}

/// Reads an id or a hash.
pub(crate) fn parse<T: std::str::FromStr>(row: &SqliteRow, column: &str) -> Result<T, DbError> {
    let text: String = row.try_get(column)?;
    text.parse()
        .map_err(|_| DbError::Content(format!("the {column} `{text}`")))
}

async fn delete_delivered_text(write: &mut Write<'_>, job: JobId) -> Result<(), DbError> {
    let outcome = sqlx::query(sqlx::AssertSqlSafe(format!(
        "UPDATE jobs SET {WITHOUT_TEXT}
             WHERE id = ? AND delivered = 1 AND state = 'done' AND keep = 0"
    )))
    .bind(job.to_string())
    .execute(&mut **write)
    .await?;
    if outcome.rows_affected() > 0 {
        delete_reports(write, &job.to_string()).await?;
    }
    Ok(())
}

/// A report holds a reference's own tokens, which are mostly those of the answer.
async fn delete_reports(write: &mut Write<'_>, job: &str) -> Result<(), DbError> {
    write.deletes_text();
    sqlx::query("UPDATE audits SET report = NULL WHERE job = ?")
        .bind(job)
        .execute(&mut **write)
        .await?;
    Ok(())
}

fn stored_attempt(row: &SqliteRow) -> Result<StoredAttempt, DbError> {
    Ok(StoredAttempt {
        number: row.try_get("attempt")?,
        run: row.try_get("run")?,
        node: parse(row, "node")?,
        host: Host::read(row, "host")?,
        nonce: parse(row, "nonce")?,
        start: row.try_get("start")?,
        received: row.try_get("received")?,
        chunks: row.try_get("chunks")?,
        share: row.try_get("share")?,
        gross: row.try_get("gross")?,
        prefilled: row.try_get("prefilled")?,
        open: row.try_get::<Option<i64>, _>("ended_ms")?.is_none(),
        finish: row
            .try_get::<Option<String>, _>("finish")?
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|_| DbError::Content("an attempt's end".to_owned()))?,
    })
}

fn stored_audit(row: &SqliteRow) -> Result<StoredAudit, DbError> {
    let report: Option<String> = row.try_get("report")?;
    let commitment: Option<String> = row.try_get("commitment")?;
    let unreadable = |what: &str| DbError::Content(format!("an audit's {what}"));
    Ok(StoredAudit {
        id: parse(row, "id")?,
        run: row.try_get("run")?,
        node: parse(row, "node")?,
        state: Word::read(row, "step")?,
        commitment: commitment
            .map(|text| text.parse())
            .transpose()
            .map_err(|_| unreadable("commitment"))?,
        report: report
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|_| unreadable("report"))?,
    })
}

fn read_standing(row: &SqliteRow) -> Result<Standing, DbError> {
    Ok(Standing {
        trusted: row.try_get("trusted")?,
        reference: row.try_get("reference")?,
    })
}

/// Whose a node is, by its row.
pub(crate) fn account(row: &SqliteRow) -> Result<Option<AccountId>, DbError> {
    let text: Option<String> = row.try_get("account")?;
    let unreadable = |_| DbError::Content("a node's account".to_owned());
    text.map(|text| text.parse().map_err(unreadable))
        .transpose()
}

fn node_row(row: &SqliteRow) -> Result<NodeRow, DbError> {
    Ok(NodeRow {
        node: parse(row, "id")?,
        reference: row.try_get("reference")?,
        trusted: row.try_get("trusted")?,
        joined_ms: row.try_get("joined_ms")?,
        account: account(row)?,
        software: row.try_get("software")?,
        first_seen_ms: row.try_get("first_seen_ms")?,
        last_seen_ms: row.try_get("last_seen_ms")?,
        verified: row.try_get("verified")?,
        failures: row.try_get("failures")?,
        banned_until_ms: row.try_get("banned_until_ms")?,
        tokens_per_second: row.try_get("tokens_per_second")?,
        prefill_tokens_per_second: row.try_get("prefill_tokens_per_second")?,
        lapses: row.try_get("lapses")?,
        audits: row.try_get("audits")?,
        outvoted: row.try_get("outvoted")?,
        canaries_met: row.try_get("canaries_met")?,
        canaries_missed: row.try_get("canaries_missed")?,
        role_lost: row.try_get("role_lost")?,
    })
}

fn work_record(row: &SqliteRow) -> Result<WorkRecord, DbError> {
    let job = row.try_get::<String, _>("kind")? == "job";
    Ok(WorkRecord {
        kind: if job { WorkKind::Job } else { WorkKind::Audit },
        id: row.try_get("id")?,
        attempt: row.try_get("attempt")?,
        model: parse(row, "model")?,
        model_name: row.try_get("model_name")?,
        input_tokens: row.try_get("prompt_tokens")?,
        output_tokens: row.try_get("output_tokens")?,
        started_ms: row.try_get("started_ms")?,
        finished_ms: row.try_get("finished_ms")?,
        verdict: Word::read(row, "verdict")?,
        reason: row.try_get("reason")?,
        points: row.try_get("points")?,
        forfeited: row.try_get("forfeited")?,
        references: from_json(row, "findings")?,
    })
}

/// The column `task`: without the input, whose column is `prompt`.
pub(crate) fn without_input(task: &Task) -> String {
    json(&Task {
        model: task.model,
        input: Vec::new(),
        work: task.work.clone(),
    })
}

/// Reads both columns; the input is empty once the text is deleted.
pub(crate) fn task(row: &SqliteRow) -> Result<Task, DbError> {
    Ok(Task {
        input: tokens(row.try_get("prompt")?),
        ..from_json(row, "task")?
    })
}

pub(crate) fn blob(ids: &[u32]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_le_bytes()).collect()
}

pub(crate) fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("our own types have text keys and finite numbers")
}

pub(crate) fn from_json<T: DeserializeOwned>(row: &SqliteRow, column: &str) -> Result<T, DbError> {
    let text: String = row.try_get(column)?;
    serde_json::from_str(&text).map_err(|_| DbError::Content(format!("a job's {column}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn old_text_goes_with_what_references_wrote_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path()).await.unwrap();
        let mut write = database.write().await.unwrap();
        for (job, keep, finished_ms) in [("old", 0, 10), ("kept", 1, 10), ("new", 0, 30)] {
            sqlx::query(
                "INSERT INTO jobs (id, client, model, model_name, task, prompt, prompt_tokens,
                     prompt_hash, input_price, output_price, wait, keep, state, created_ms,
                     finished_ms)
                 VALUES (?, 'ann', '', '', '{}', x'01', 1, '', 1, 1, 0, ?, 'done', 1, ?)",
            )
            .bind(job)
            .bind(keep)
            .bind(finished_ms)
            .execute(&mut *write)
            .await
            .unwrap();
            sqlx::query(
                "INSERT INTO audits (id, job, run, node, step, report, offered_ms)
                 VALUES (?1, ?1, 1, '', 'reported', '{}', 1)",
            )
            .bind(job)
            .execute(&mut *write)
            .await
            .unwrap();
        }
        assert_eq!(delete_old_text(&mut write, 20).await.unwrap(), 1);
        write.commit().await.unwrap();
        let left = async || {
            let sql = "SELECT job FROM audits WHERE report IS NOT NULL ORDER BY job";
            let left: Vec<String> = sqlx::query_scalar(sql)
                .fetch_all(database.read())
                .await
                .unwrap();
            left
        };
        assert_eq!(left().await, ["kept", "new"]);
        // An earlier version left the report of a text that it deleted.
        let mut write = database.write().await.unwrap();
        sqlx::query("UPDATE jobs SET prompt = NULL WHERE id = 'new'")
            .execute(&mut *write)
            .await
            .unwrap();
        delete_left_reports(&mut write).await.unwrap();
        write.commit().await.unwrap();
        assert_eq!(left().await, ["kept"]);
    }

    #[tokio::test]
    async fn a_clock_that_was_wrong_keeps_no_node_away_for_longer_than_its_pause() {
        const NOW: i64 = 1_800_000_000_000;
        const TWO_DAYS: i64 = 2 * 24 * 3_600_000;
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path()).await.unwrap();
        let node = NodeId::from_bytes([7; 32]);
        let seen = async |steady_ms| {
            let mut write = database.write().await.unwrap();
            let row = see_node(&mut write, node, "test", NOW, steady_ms).await;
            write.commit().await.unwrap();
            row.unwrap().banned_until_ms
        };
        assert_eq!(seen(NOW).await, 0);
        let mut write = database.write().await.unwrap();
        for pause in [30_000, 60_000] {
            let until = add_lapse(&mut write, node, 30_000, NOW + TWO_DAYS).await;
            assert_eq!(until.unwrap(), NOW + TWO_DAYS + pause);
        }
        write.commit().await.unwrap();
        assert_eq!(seen(NOW + TWO_DAYS).await, NOW + TWO_DAYS + 60_000);
        assert_eq!(seen(NOW).await, NOW + 60_000, "the clock was set right");
        assert_eq!(seen(NOW + 59_000).await, NOW + 60_000, "it goes on");
        let mut write = database.write().await.unwrap();
        add_failure(&mut write, node, 600_000, NOW + TWO_DAYS)
            .await
            .unwrap();
        write.commit().await.unwrap();
        assert_eq!(seen(NOW).await, NOW + 600_000);
    }
}
