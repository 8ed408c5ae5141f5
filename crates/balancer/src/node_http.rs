//! The calls of nodes: `infera_protocol::node_api` over HTTP.

use std::convert::Infallible;
use std::str::FromStr;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream::{self, Stream};
use infera_protocol::digest::Digest;
use infera_protocol::node_api::{
    AuditCommit, AuditReveal, Challenge, ChallengeRequest, Claim, Decline, ModelOffer, NodeEvent,
    NodeState, Points, Refusal, RefusalCode, Release, Session, SessionRequest, WorkRecord,
    session_digest,
};
use infera_protocol::output::OutputAck;
use infera_protocol::requirements::{Policy, check, met};
use infera_protocol::{AuditId, AuditTask, Hash, JobId, JobSpec, NodeId, OutputBatch};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::db::DbError;
use crate::dispatch::{Core, check_version, unavailable};
use crate::job::refusal;
use crate::ledger::{self, Account};
use crate::metrics;
use crate::nodes::{Admission, Delivery, Subscription};
use crate::store;

/// An audit report of a whole context is the largest body.
const MAX_BODY_BYTES: usize = 16 << 20;
const MAX_SPEED_TEST_BYTES: usize = 64 << 20;
const SPEED_TEST_BLOCK: usize = 1 << 20;
const MAX_HISTORY: u32 = 500;

type Shared = State<Arc<Core>>;
type Received = crate::body::Received<MAX_BODY_BYTES>;

pub(crate) fn router() -> Router<Arc<Core>> {
    Router::new()
        .route("/node/v1/challenge", post(challenge))
        .route("/node/v1/session", post(session))
        .route("/node/v1/state", post(state))
        .route("/node/v1/events", get(events))
        .route("/node/v1/models", get(models))
        .route("/node/v1/requirements", get(requirements))
        .route("/node/v1/speed-test", get(speed_test))
        .route("/node/v1/jobs/{job}/claim", post(claim))
        .route("/node/v1/jobs/{job}/output", post(output))
        .route("/node/v1/jobs/{job}/release", post(release))
        .route("/node/v1/audits/{audit}/accept", post(accept))
        .route("/node/v1/audits/{audit}/decline", post(decline))
        .route("/node/v1/audits/{audit}/commit", post(commit))
        .route("/node/v1/audits/{audit}/report", post(report))
        .route("/node/v1/points", get(points))
        .route("/node/v1/history", get(history))
}

/// A refusal as an HTTP answer.
struct Refused(Refusal);

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        metrics::refused(format!("{:?}", self.0.code));
        (status, Json(self.0)).into_response()
    }
}

async fn challenge(State(core): Shared, body: Received) -> Result<Json<Challenge>, Refused> {
    let request: ChallengeRequest = parse(body)?;
    check_version(request.version)?;
    let challenge = Hash::from_bytes(core.edges.random());
    core.nodes
        .add_challenge(request.node, challenge, Instant::now());
    Ok(Json(Challenge { challenge }))
}

async fn session(State(core): Shared, body: Received) -> Result<Json<Session>, Refused> {
    let request: SessionRequest = parse(body)?;
    check_version(request.version)?;
    let node = request.node;
    if !core
        .nodes
        .take_challenge(node, request.challenge, Instant::now())
    {
        return Err(Refused(refusal(
            RefusalCode::BadChallenge,
            "The challenge is unknown, used or too old. Ask for a new one",
        )));
    }
    request
        .signature
        .verify(&node, session_digest(&node, &request.challenge))
        .map_err(|fault| refusal(RefusalCode::BadSignature, fault.to_string()))?;
    let rows = check(&core.policy, &request.hardware);
    let known = async {
        let mut write = core.database.write().await?;
        let known =
            store::see_node(&mut write, node, &request.software, core.edges.now_ms()).await?;
        write.commit().await?;
        Ok::<_, DbError>(known)
    };
    let known = known.await.map_err(unavailable)?;
    let token = hex::encode(core.edges.random::<32>());
    core.nodes.open_session(
        node,
        token_hash(&token),
        Admission {
            reference: known.reference,
            meets_requirements: met(&rows),
            banned_until_ms: known.banned_until_ms,
            tokens_per_second: known.tokens_per_second,
        },
        Instant::now(),
    );
    tracing::info!(node = %node.short(), reference = known.reference, meets = met(&rows), "session opened");
    Ok(Json(Session {
        token,
        reference: known.reference,
        policy: core.policy.clone(),
        requirements: rows,
        timeout_ms: core.config.node_timeout.as_millis() as u64,
    }))
}

async fn state(
    State(core): Shared,
    headers: HeaderMap,
    body: Received,
) -> Result<StatusCode, Refused> {
    let node = authenticate(&core, &headers)?;
    let state: NodeState = parse(body)?;
    let meets = met(&check(&core.policy, &state.hardware));
    core.nodes.set_state(node, state, meets);
    Ok(StatusCode::NO_CONTENT)
}

async fn events(
    State(core): Shared,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refused> {
    let node = authenticate(&core, &headers)?;
    let last_seen = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok())
        .filter(|text| !text.is_empty())
        // What is no number of ours cannot be resumed after.
        .map(|text| text.parse().unwrap_or(0));
    let subscription = core.nodes.subscribe(node, last_seen).ok_or_else(|| {
        refusal(
            RefusalCode::NoSession,
            "The session is missing, unknown or expired. Open a new session",
        )
    })?;
    let keep_alive = KeepAlive::new().interval(core.config.keep_alive);
    let open = OpenStream { core, subscription };
    let events = stream::unfold(open, |mut open| async {
        let delivery = open.core.nodes.next_event(&mut open.subscription).await;
        let event = match delivery {
            Delivery::Event(id, data) => Event::default().id(id.to_string()).data(data),
            Delivery::Lost(id) => {
                let data = serde_json::to_string(&NodeEvent::Reset).ok()?;
                Event::default().id(id.to_string()).data(data)
            }
            Delivery::Closed => return None,
        };
        Some((Ok(event), open))
    });
    Ok(Sse::new(events).keep_alive(keep_alive))
}

/// An event stream whose end, however it comes, is noticed.
struct OpenStream {
    core: Arc<Core>,
    subscription: Subscription,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.core.nodes.unsubscribe(&self.subscription);
    }
}

async fn models(State(core): Shared, headers: HeaderMap) -> Result<Json<Vec<ModelOffer>>, Refused> {
    authenticate(&core, &headers)?;
    let models = core.catalog.list();
    Ok(Json(models.iter().map(|model| model.offer()).collect()))
}

async fn requirements(State(core): Shared) -> Json<Policy> {
    Json(core.policy.clone())
}

#[derive(Deserialize)]
struct SpeedTest {
    bytes: usize,
}

async fn speed_test(
    State(core): Shared,
    headers: HeaderMap,
    query: Result<Query<SpeedTest>, QueryRejection>,
) -> Result<Response, Refused> {
    authenticate(&core, &headers)?;
    let Ok(Query(SpeedTest { bytes })) = query else {
        return Err(malformed("`bytes` must be a number").into());
    };
    let bytes = bytes.min(MAX_SPEED_TEST_BYTES);
    let mut block = vec![0; SPEED_TEST_BLOCK.min(bytes)];
    core.edges.fill(&mut block);
    let block = Bytes::from(block);
    let parts = stream::unfold(bytes, move |left| {
        let part = block.slice(..block.len().min(left));
        let left_after = left - part.len();
        std::future::ready((left > 0).then_some((Ok::<_, Infallible>(part), left_after)))
    });
    Ok((
        [
            (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
            (header::CONTENT_LENGTH, bytes.to_string()),
            (header::CACHE_CONTROL, "no-store".to_owned()),
        ],
        Body::from_stream(parts),
    )
        .into_response())
}

async fn claim(
    State(core): Shared,
    headers: HeaderMap,
    Path(job): Path<String>,
    body: Received,
) -> Result<Json<JobSpec>, Refused> {
    let node = authenticate(&core, &headers)?;
    let claim: Claim = parse(body)?;
    Ok(Json(core.claim(node, job_id(&job)?, &claim).await?))
}

async fn output(
    State(core): Shared,
    headers: HeaderMap,
    Path(job): Path<String>,
    body: Received,
) -> Result<Json<OutputAck>, Refused> {
    let node = authenticate(&core, &headers)?;
    let batch: OutputBatch = parse(body)?;
    Ok(Json(core.output(node, job_id(&job)?, &batch).await?))
}

async fn release(
    State(core): Shared,
    headers: HeaderMap,
    Path(job): Path<String>,
    body: Received,
) -> Result<StatusCode, Refused> {
    let node = authenticate(&core, &headers)?;
    let release: Release = parse(body)?;
    core.release(node, job_id(&job)?, &release).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn accept(
    State(core): Shared,
    headers: HeaderMap,
    Path(audit): Path<String>,
) -> Result<Json<AuditTask>, Refused> {
    let node = authenticate(&core, &headers)?;
    Ok(Json(core.accept_audit(node, audit_id(&audit)?).await?))
}

async fn decline(
    State(core): Shared,
    headers: HeaderMap,
    Path(audit): Path<String>,
    body: Received,
) -> Result<StatusCode, Refused> {
    let node = authenticate(&core, &headers)?;
    let decline: Decline = parse(body)?;
    core.decline_audit(node, audit_id(&audit)?, &decline.reason)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn commit(
    State(core): Shared,
    headers: HeaderMap,
    Path(audit): Path<String>,
    body: Received,
) -> Result<StatusCode, Refused> {
    let node = authenticate(&core, &headers)?;
    let commit: AuditCommit = parse(body)?;
    core.commit_audit(node, audit_id(&audit)?, &commit).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn report(
    State(core): Shared,
    headers: HeaderMap,
    Path(audit): Path<String>,
    body: Received,
) -> Result<StatusCode, Refused> {
    let node = authenticate(&core, &headers)?;
    let reveal: AuditReveal = parse(body)?;
    core.report_audit(node, audit_id(&audit)?, &reveal).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn points(State(core): Shared, headers: HeaderMap) -> Result<Json<Points>, Refused> {
    let node = authenticate(&core, &headers)?;
    let points = async {
        Ok::<_, DbError>(Points {
            confirmed: ledger::balance(&core.database, &Account::Confirmed(node)).await?,
            pending: ledger::balance(&core.database, &Account::Pending(node)).await?,
            forfeited: store::forfeited(&core.database, node).await?,
        })
    };
    Ok(Json(points.await.map_err(unavailable)?))
}

#[derive(Deserialize)]
struct HistoryQuery {
    limit: Option<u32>,
}

async fn history(
    State(core): Shared,
    headers: HeaderMap,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Json<Vec<WorkRecord>>, Refused> {
    let node = authenticate(&core, &headers)?;
    let limit = query.ok().and_then(|query| query.limit).unwrap_or(100);
    let records = store::history(&core.database, node, limit.min(MAX_HISTORY)).await;
    Ok(Json(records.map_err(unavailable)?))
}

fn authenticate(core: &Core, headers: &HeaderMap) -> Result<NodeId, Refusal> {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(token_hash);
    core.nodes.authenticate(token, Instant::now())
}

/// Tokens are kept as hashes: memory and logs never hold one.
fn token_hash(token: &str) -> Hash {
    Digest::new("infera/session-token/v1")
        .bytes(token.as_bytes())
        .finish()
}

/// Reads a body. A version that is not ours is told as such, even if the rest has changed since.
fn parse<T: DeserializeOwned>(body: Received) -> Result<T, Refusal> {
    #[derive(Deserialize)]
    struct Versioned {
        version: Option<u16>,
    }
    let body = body.0.map_err(|fault| malformed(&fault.to_string()))?;
    serde_json::from_slice(&body).map_err(|error| {
        let version = serde_json::from_slice::<Versioned>(&body)
            .ok()
            .and_then(|body| body.version);
        if let Some(Err(refused)) = version.map(check_version) {
            return refused;
        }
        // serde's text could repeat parts of the body.
        malformed(&format!("line {}, column {}", error.line(), error.column()))
    })
}

fn malformed(fault: &str) -> Refusal {
    refusal(
        RefusalCode::Malformed,
        format!("The call is not what the protocol says ({fault}). Update the node"),
    )
}

fn job_id(text: &str) -> Result<JobId, Refusal> {
    id(text)
}

fn audit_id(text: &str) -> Result<AuditId, Refusal> {
    id(text)
}

fn id<T: FromStr>(text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|_| malformed("the id in the path"))
}
