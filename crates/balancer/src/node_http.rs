//! The calls of nodes: `infera_protocol::node_api` over HTTP.

use std::convert::Infallible;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream::{self, Stream};
use infera_protocol::digest::Digest;
use infera_protocol::node_api::{
    AuditCommit, AuditReveal, Challenge, ChallengeRequest, Checking, Claim, Decline,
    InvitationRequest, Invited, JoinRequest, Joined, ModelOffer, Network, NodeEvent, NodeState,
    Points, Refusal, RefusalCode, Release, Session, SessionRequest, Standing, WorkRecord,
    join_digest, session_digest,
};
use infera_protocol::output::OutputAck;
use infera_protocol::requirements::{check, met};
use infera_protocol::{AuditSpec, Hash, JobSpec, NodeId, OutputBatch};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::accounts;
use crate::address;
use crate::body::{BodyFault, Caller, Received, discard};
use crate::bounds::Bounded;
use crate::db::DbError;
use crate::dispatch::{Core, check_version, to_the_end, unavailable};
use crate::invitations;
use crate::job::{Speeds, refusal};
use crate::joining;
use crate::metrics;
use crate::nodes::{Admission, Delivery, Subscription, bad_challenge};
use crate::operator::bans;
use crate::store;

const MAX_SPEED_TEST_BYTES: usize = 64 << 20;
const SPEED_TEST_BLOCK: usize = 1 << 20;
const MAX_HISTORY: u32 = 500;

type Shared = State<Arc<Core>>;

pub(crate) fn router() -> Router<Arc<Core>> {
    Router::new()
        .route("/node/v1/challenge", post(challenge))
        .route("/node/v1/invitation", post(invitation))
        .route("/node/v1/join", post(join))
        .route("/node/v1/session", post(session))
        .route("/node/v1/state", post(state))
        .route("/node/v1/events", get(events))
        .route("/node/v1/models", get(models))
        .route("/node/v1/network", get(network))
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
pub(crate) struct Refused(Refusal);

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

async fn challenge(
    State(core): Shared,
    Message {
        message: request, ..
    }: Message<ChallengeRequest>,
) -> Result<Json<Challenge>, Refused> {
    check_version(request.version)?;
    let known = store::node(&core.database, request.node).await;
    let work_bits = joining::work_bits(&core.config, known.map_err(unavailable)?.as_ref());
    Ok(Json(Challenge {
        challenge: core
            .challenges
            .make(&request.node, work_bits, Instant::now()),
        work_bits,
    }))
}

async fn invitation(
    State(core): Shared,
    Message {
        message: request, ..
    }: Message<InvitationRequest>,
) -> Result<Json<Invited>, Refused> {
    check_version(request.version)?;
    let now_ms = core.edges.now_ms();
    let row = invitations::look(&core.database, &request.token, now_ms).await?;
    core.read_models().await;
    Ok(Json(Invited {
        network: describe(&core),
        standing: joining::standing(&core.config, row.standing),
        uses_left: row.uses_left(),
        expires_ms: row.expires_ms,
    }))
}

/// Whoever may not join is told so before anything is written.
async fn join(
    State(core): Shared,
    Message {
        message: request,
        address,
    }: Message<JoinRequest>,
) -> Result<Json<Joined>, Refused> {
    check_version(request.version)?;
    let (node, token) = (request.node, request.token);
    let now = Instant::now();
    core.challenges
        .read(&node, &request.challenge, now)
        .ok_or_else(bad_challenge)?;
    request
        .signature
        .verify(&node, join_digest(&node, &request.challenge, &token))
        .map_err(|fault| refusal(RefusalCode::BadSignature, fault.to_string()))?;
    let (database, now_ms) = (&core.database, core.edges.now_ms());
    let joined = invitations::has_joined(database, &token, node).await;
    if !joined.map_err(unavailable)? {
        invitations::look(database, &token, now_ms).await?;
        let known = store::node(database, node).await.map_err(unavailable)?;
        if known.is_none() {
            let address = address::counted(address);
            let most = joining::most_new(&core.config, address);
            core.nodes.count_newcomer(address, most, now)?;
        }
    }
    let books = Arc::clone(&core);
    let standing = to_the_end(async move {
        invitations::join(&books.database, &token, node, &request.software, now_ms).await
    });
    let standing = joining::standing(&core.config, standing.await?);
    tracing::info!(
        node = %node.short(), trusted = standing.trusted, reference = standing.reference,
        "joined by an invitation"
    );
    Ok(Json(Joined { standing }))
}

async fn session(
    State(core): Shared,
    Message {
        message: request,
        address,
    }: Message<SessionRequest>,
) -> Result<Json<Session>, Refused> {
    check_version(request.version)?;
    let node = request.node;
    let now = Instant::now();
    let stamp = core
        .challenges
        .read(&node, &request.challenge, now)
        .ok_or_else(bad_challenge)?;
    request
        .signature
        .verify(&node, session_digest(&node, &request.challenge))
        .map_err(|fault| refusal(RefusalCode::BadSignature, fault.to_string()))?;
    let known = store::node(&core.database, node)
        .await
        .map_err(unavailable)?;
    let ban = bans::of(&core.database, node, core.edges.now_ms()).await;
    if let Some(ban) = ban.map_err(unavailable)? {
        return Err(refusal(RefusalCode::NotEligible, ban.sentence()).into());
    }
    let address = address::counted(address);
    let opening = joining::admit(&core.config, &request, stamp, known.as_ref(), address)?;
    core.nodes.may_open(node, &opening, now)?;
    let rows = check(&core.policy, &request.hardware);
    let known = async {
        let mut write = core.database.write().await?;
        let (now_ms, steady_ms) = (core.edges.now_ms(), core.edges.steady_ms());
        let known = store::see_node(&mut write, node, &request.software, now_ms, steady_ms).await?;
        write.commit().await?;
        Ok::<_, DbError>(known)
    };
    let known = known.await.map_err(unavailable)?;
    let token = hex::encode(core.edges.random::<32>());
    let standing = Standing {
        trusted: known.trusted,
        reference: known.reference,
    };
    let standing = joining::standing(&core.config, standing);
    core.nodes.open_session(
        node,
        token_hash(&token),
        Admission {
            standing,
            account: known.account,
            meets_requirements: met(&rows),
            banned_until_ms: known.banned_until_ms,
            verified: u32::try_from(known.verified).unwrap_or(0),
            speeds: Speeds {
                prefill: known.prefill_tokens_per_second,
                decode: known.tokens_per_second,
            },
        },
        &opening,
        Instant::now(),
    )?;
    tracing::info!(node = %node.short(), reference = standing.reference, meets = met(&rows), "session opened");
    Ok(Json(Session {
        token,
        reference: standing.reference,
        policy: core.policy.clone(),
        requirements: rows,
        timeout_ms: core.config.node_timeout.as_millis() as u64,
    }))
}

async fn state(State(core): Shared, call: Call<NodeState>) -> Result<StatusCode, Refused> {
    let meets = met(&check(&core.policy, &call.message.hardware));
    core.nodes.set_state(call.node, call.message, meets);
    Ok(StatusCode::NO_CONTENT)
}

async fn events(
    State(core): Shared,
    Sender(node): Sender,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refused> {
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

async fn models(State(core): Shared, _: Sender) -> Json<Vec<ModelOffer>> {
    // A node asks seldom, so it is told of a model that was added a moment ago.
    core.read_models().await;
    Json(offers(&core))
}

async fn network(State(core): Shared) -> Json<Network> {
    Json(describe(&core))
}

/// What anybody may know of the network.
fn describe(core: &Core) -> Network {
    let config = &core.config;
    let (workers, references) = core.nodes.count(Instant::now());
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Network {
        name: config.name.as_ref().unwrap_or(&core.policy.name).clone(),
        operator: config.operator.clone(),
        rules: config.rules.clone(),
        policy: core.policy.clone(),
        models: offers(core),
        checking: config.checking,
        admission: config.admission,
        nodes: number(workers + references),
        references: number(references),
        references_needed: match config.checking {
            Checking::None => 0,
            Checking::Always => number(config.references),
        },
    }
}

fn offers(core: &Core) -> Vec<ModelOffer> {
    let models = core.catalog.list();
    models.iter().map(|model| model.offer()).collect()
}

#[derive(Deserialize)]
struct SpeedTest {
    bytes: usize,
}

async fn speed_test(
    State(core): Shared,
    _: Sender,
    query: Result<Query<SpeedTest>, QueryRejection>,
) -> Result<Response, Refused> {
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
    Path(job): Path<String>,
    call: Call<Claim>,
) -> Result<Json<JobSpec>, Refused> {
    let job = id(&job)?;
    let claim = async move { core.claim(call.node, job, &call.message).await };
    Ok(Json(to_the_end(claim).await?))
}

async fn output(
    State(core): Shared,
    Path(job): Path<String>,
    call: Call<OutputBatch>,
) -> Result<Json<OutputAck>, Refused> {
    let job = id(&job)?;
    let output = async move { core.output(call.node, job, &call.message).await };
    Ok(Json(to_the_end(output).await?))
}

async fn release(
    State(core): Shared,
    Path(job): Path<String>,
    call: Call<Release>,
) -> Result<StatusCode, Refused> {
    let job = id(&job)?;
    to_the_end(async move { core.release(call.node, job, &call.message).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn accept(
    State(core): Shared,
    Sender(node): Sender,
    Path(audit): Path<String>,
) -> Result<Json<AuditSpec>, Refused> {
    let audit = id(&audit)?;
    let accept = async move { core.accept_audit(node, audit).await };
    Ok(Json(to_the_end(accept).await?))
}

async fn decline(
    State(core): Shared,
    Path(audit): Path<String>,
    call: Call<Decline>,
) -> Result<StatusCode, Refused> {
    let audit = id(&audit)?;
    let decline = async move {
        let reason = &call.message.reason;
        core.decline_audit(call.node, audit, reason).await
    };
    to_the_end(decline).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn commit(
    State(core): Shared,
    Path(audit): Path<String>,
    call: Call<AuditCommit>,
) -> Result<StatusCode, Refused> {
    let audit = id(&audit)?;
    to_the_end(async move { core.commit_audit(call.node, audit, &call.message).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn report(
    State(core): Shared,
    Path(audit): Path<String>,
    call: Call<AuditReveal>,
) -> Result<StatusCode, Refused> {
    let audit = id(&audit)?;
    to_the_end(async move { core.report_audit(call.node, audit, &call.message).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn points(State(core): Shared, Sender(node): Sender) -> Result<Json<Points>, Refused> {
    let points = accounts::points(&core.database, node).await;
    Ok(Json(points.map_err(unavailable)?))
}

#[derive(Deserialize)]
struct HistoryQuery {
    limit: Option<u32>,
}

async fn history(
    State(core): Shared,
    Sender(node): Sender,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Json<Vec<WorkRecord>>, Refused> {
    let limit = query.ok().and_then(|query| query.limit).unwrap_or(100);
    let records = store::history(&core.database, node, limit.min(MAX_HISTORY)).await;
    Ok(Json(records.map_err(unavailable)?))
}

/// The node whose session a call names.
pub(crate) struct Sender(pub NodeId);

impl FromRequestParts<Arc<Core>> for Sender {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, core: &Arc<Core>) -> Result<Self, Refused> {
        let token = session_token(&parts.headers).map(token_hash);
        Ok(Self(core.nodes.authenticate(token, Instant::now())?))
    }
}

/// A message of the protocol from anybody.
pub(crate) struct Message<T> {
    /// Where it came from.
    pub address: IpAddr,
    pub message: T,
}

impl<T: DeserializeOwned + Bounded> FromRequest<Arc<Core>> for Message<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, core: &Arc<Core>) -> Result<Self, Refused> {
        let (parts, body) = request.into_parts();
        let address = address::of_client(&parts, &core.config);
        let caller = Caller::Stranger(address::counted(address));
        let received = core.bodies.read(body, T::MAX_BYTES, caller).await;
        let message = parse(&received.map_err(unread)?)?;
        Ok(Self { address, message })
    }
}

/// A message within a session.
pub(crate) struct Call<T> {
    pub node: NodeId,
    pub message: T,
    /// A message takes as much memory as its text, or more.
    _received: Received,
}

impl<T: DeserializeOwned + Bounded> FromRequest<Arc<Core>> for Call<T> {
    type Rejection = Refused;

    /// Nothing is kept of a body before its sender is known.
    async fn from_request(request: Request, core: &Arc<Core>) -> Result<Self, Refused> {
        let (mut parts, body) = request.into_parts();
        let node = match Sender::from_request_parts(&mut parts, core).await {
            Ok(Sender(node)) => node,
            Err(refused) => {
                discard(body).await;
                return Err(refused);
            }
        };
        let large = body.size_hint().lower() > T::MAX_BYTES as u64;
        let limit = if large && T::LARGEST > T::MAX_BYTES && core.expects_much(node, &parts).await?
        {
            T::LARGEST
        } else {
            T::MAX_BYTES
        };
        let received = core.bodies.read(body, limit, Caller::Node(node)).await;
        let received = received.map_err(unread)?;
        Ok(Self {
            node,
            message: parse(&received)?,
            _received: received,
        })
    }
}

impl Core {
    /// Whether a node was given something whose result may be large: texts to embed, or an audit.
    async fn expects_much(&self, node: NodeId, call: &Parts) -> Result<bool, Refusal> {
        let words: Vec<_> = call.uri.path().split('/').skip(3).collect();
        let expected = match words[..] {
            ["jobs", job, "output"] => store::embeds(&self.database, node, id(job)?).await,
            ["audits", audit, "report"] => store::audits(&self.database, node, id(audit)?).await,
            _ => Ok(false),
        };
        expected.map_err(unavailable)
    }
}

/// The token of a session of a node or an account.
pub(crate) fn session_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ")
}

/// Tokens are kept as hashes: memory and logs never hold one.
pub(crate) fn token_hash(token: &str) -> Hash {
    Digest::new("infera/session-token/v1")
        .bytes(token.as_bytes())
        .finish()
}

/// Reads a body. A version that is not ours is told as such, even if the rest has changed since.
pub(crate) fn parse<T: DeserializeOwned + Bounded>(body: &Received) -> Result<T, Refusal> {
    #[derive(Deserialize)]
    struct Versioned {
        version: Option<u16>,
    }
    let message: T = serde_json::from_slice(&body.bytes).map_err(|error| {
        let version = serde_json::from_slice::<Versioned>(&body.bytes)
            .ok()
            .and_then(|body| body.version);
        if let Some(Err(refused)) = version.map(check_version) {
            return refused;
        }
        // serde's text could repeat parts of the body.
        malformed(&format!("line {}, column {}", error.line(), error.column()))
    })?;
    match message.excess() {
        None => Ok(message),
        Some(part) => Err(refusal(
            RefusalCode::TooMuch,
            format!("`{part}` is longer than the balancer takes. Shorten it, or update the node"),
        )),
    }
}

pub(crate) fn unread(fault: BodyFault) -> Refusal {
    match fault {
        BodyFault::TooMuch => refusal(
            RefusalCode::TooMuch,
            "Too much is being sent to the balancer at once. Try again in a moment",
        ),
        fault => malformed(&fault.to_string()),
    }
}

fn malformed(fault: &str) -> Refusal {
    refusal(
        RefusalCode::Malformed,
        format!("The call is not what the protocol says ({fault}). Update the node"),
    )
}

pub(crate) fn id<T: FromStr>(text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|_| malformed("the id in the path"))
}
