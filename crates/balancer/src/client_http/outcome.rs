//! What has become of a client's jobs: their answers and their verdicts.

use std::time::Duration;

use infera_protocol::node_api::VerdictStatus;
use infera_protocol::{FinishReason, JobId, TokenOutput, Vector};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::dispatch::{Core, JobClient};
use crate::job::{Progress, VerdictView};
use crate::openai::ApiError;
use crate::states::Word;

/// What a job has given.
#[derive(Default)]
pub(super) struct Answer {
    pub text: String,
    pub tokens: Vec<TokenOutput>,
    pub vectors: Vec<Vector>,
    pub finish: Option<FinishReason>,
}

/// A job's whole answer; with `wait`, once it is verified or the time is up.
pub(super) async fn collect(
    client: &mut JobClient,
    wait: bool,
    until: Instant,
) -> Result<Answer, ApiError> {
    let mut answer = Answer::default();
    loop {
        let finished = answer.finish.is_some();
        if finished && !wait {
            return Ok(answer);
        }
        let progress = tokio::select! {
            biased;
            progress = client.progress.recv() => progress,
            verdict = timeout_at(until, known_verdict(&mut client.verdict)), if finished => {
                match verdict {
                    Ok(Some(VerdictStatus::Failed)) => return Err(verification_failed()),
                    Ok(Some(VerdictStatus::Pending)) | Err(_)
                        if !client.stop_waiting().await => continue,
                    _ => return Ok(answer),
                }
            }
        };
        match progress {
            Some(Progress::Started) => {}
            Some(Progress::Tokens { text, tokens }) => {
                answer.text.push_str(&text);
                answer.tokens.extend(tokens);
            }
            Some(Progress::Vectors(vectors)) => answer.vectors = vectors,
            Some(Progress::Restarted) => answer = Answer::default(),
            Some(Progress::Finished(reason)) => answer.finish = Some(reason),
            Some(Progress::Failed(error)) => {
                return Err(ApiError::from(error).with_partial(answer.text));
            }
            None => return Err(ended_early()),
        }
    }
}

pub(super) async fn await_verdict(core: &Core, id: JobId, wait: Duration) {
    if let Some(live) = core.job(id) {
        let mut verdict = live.verdict.subscribe();
        // When time is up, what is known by then is answered.
        let _ = tokio::time::timeout(wait, final_verdict(&mut verdict)).await;
    }
}

async fn final_verdict(verdict: &mut watch::Receiver<VerdictView>) -> Option<VerdictStatus> {
    let view = verdict.wait_for(|view| view.last).await.ok()?;
    Some(view.verdict)
}

/// The final verdict, or the pending one when nobody knows when references come.
pub(super) async fn known_verdict(
    verdict: &mut watch::Receiver<VerdictView>,
) -> Option<VerdictStatus> {
    let view = verdict
        .wait_for(|view| view.last || view.stalled)
        .await
        .ok()?;
    Some(view.verdict)
}

/// The `infera` object: the worst verdict stands for all jobs of a request.
pub(super) fn verdicts(core: &Core, clients: &[JobClient]) -> Value {
    let rank = |view: &VerdictView| match view.verdict {
        VerdictStatus::Failed => 0,
        VerdictStatus::Pending => 1,
        VerdictStatus::NotChecked => 2,
        VerdictStatus::SampledOut => 3,
        VerdictStatus::Verified => 4,
    };
    let mut views: Vec<_> = clients
        .iter()
        .map(|client| {
            let view = client.verdict.borrow().clone();
            (rank(&view), of_job(core, client, &view))
        })
        .collect();
    let Some((_, worst)) = views.iter().min_by_key(|(rank, _)| *rank) else {
        return Value::Null;
    };
    let mut object = worst.clone();
    object["job_id"] = views[0].1["job_id"].clone();
    if views.len() > 1 {
        object["jobs"] = views.drain(..).map(|(_, view)| view).collect();
    }
    object
}

fn of_job(core: &Core, client: &JobClient, view: &VerdictView) -> Value {
    let mut object = json!({
        "job_id": client.job.id,
        "verdict": view.verdict.word(),
        "reason": view.reason,
    });
    if let Some(waiting_for) = core.waiting_for(client.job.model, view) {
        object["reason"] = json!(waiting_for.reason());
        object["waiting_for"] = json!(waiting_for);
    }
    object
}

fn verification_failed() -> ApiError {
    ApiError {
        code: Some("verification_failed"),
        ..ApiError::server(
            "Reference nodes found the answer wrong, and so were those of the nodes asked after. Nothing was charged. Try again",
        )
    }
}

pub(super) fn shutting_down() -> ApiError {
    ApiError::unavailable(
        "shutting_down",
        "The balancer is being stopped. Try again in a moment".to_owned(),
    )
}

pub(super) fn ended_early() -> ApiError {
    ApiError::server("The job ended without an answer. Try again")
}
