//! The calls of accounts, and those of nodes about theirs: `infera_protocol::account` over HTTP.

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use infera_protocol::account::{
    AccountChallengeRequest, AccountKeyRow, AccountSession, AccountSessionRequest, FleetCommand,
    KeyRequest, LinkGrant, Linked, Machine, NewKey, Overview, Ownership, Statement,
    account_session_digest,
};
use infera_protocol::node_api::{Challenge, NodeEvent, Refusal, RefusalCode};
use infera_protocol::{AccountId, NodeId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::accounts::{self, SESSION_SECONDS};
use crate::address;
use crate::body::{Caller, discard};
use crate::bounds::Bounded;
use crate::db::DbError;
use crate::dispatch::{Core, check_version, to_the_end, unavailable};
use crate::job::refusal;
use crate::node_http::{Call, Message, Refused, Sender, id, parse, session_token, unread};
use crate::nodes::bad_challenge;
use crate::spending;

/// The most days of a statement, and how many without a number.
const MOST_DAYS: u32 = 92;
const DAYS: u32 = 30;

type Shared = State<Arc<Core>>;

pub(crate) fn router() -> Router<Arc<Core>> {
    Router::new()
        .route("/account/v1/challenge", post(challenge))
        .route("/account/v1/session", post(session))
        .route("/account/v1/overview", get(overview))
        .route("/account/v1/statement", get(statement))
        .route("/account/v1/keys", get(keys).post(create_key))
        .route("/account/v1/keys/{name}", delete(revoke_key))
        .route("/account/v1/links", post(put_link))
        .route("/account/v1/fleet", get(fleet))
        .route("/account/v1/fleet/{node}", delete(drop_machine))
        .route("/account/v1/fleet/{node}/command", post(command))
        .route("/node/v1/links/{link}", get(link))
        .route("/node/v1/account", post(take_owner).delete(leave_owner))
}

async fn challenge(
    State(core): Shared,
    Message {
        message: request, ..
    }: Message<AccountChallengeRequest>,
) -> Result<Json<Challenge>, Refused> {
    check_version(request.version)?;
    let id = as_challenged(request.account);
    Ok(Json(Challenge {
        challenge: core.challenges.make(&id, 0, Instant::now()),
        work_bits: 0,
    }))
}

async fn session(
    State(core): Shared,
    Message {
        message: request, ..
    }: Message<AccountSessionRequest>,
) -> Result<Json<AccountSession>, Refused> {
    check_version(request.version)?;
    let account = request.account;
    core.challenges
        .read(&as_challenged(account), &request.challenge, Instant::now())
        .ok_or_else(bad_challenge)?;
    let digest = account_session_digest(&account, &request.challenge);
    if !request.signature.is_by(account.as_bytes(), digest) {
        return Err(refusal(
            RefusalCode::BadSignature,
            "The signature is not one of this account",
        )
        .into());
    }
    Ok(Json(AccountSession {
        token: core.account_tokens.make(account, core.edges.steady_ms()),
        seconds: SESSION_SECONDS,
    }))
}

/// Challenges are sealed for 32 bytes, whoever's key they are: what is signed says for what.
fn as_challenged(account: AccountId) -> NodeId {
    NodeId::from_bytes(*account.as_bytes())
}

async fn overview(State(core): Shared, Owner(account): Owner) -> Result<Json<Overview>, Refused> {
    Ok(Json(core.overview(account).await.map_err(unavailable)?))
}

#[derive(Deserialize)]
struct StatementQuery {
    days: Option<u32>,
}

async fn statement(
    State(core): Shared,
    Owner(account): Owner,
    query: Result<Query<StatementQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Statement>, Refused> {
    let days = query.ok().and_then(|query| query.days).unwrap_or(DAYS);
    let now_ms = core.edges.now_ms();
    let statement = async {
        Ok::<_, DbError>(Statement {
            overview: core.overview(account).await?,
            spent: spending::by_day(&core.database, account, days.min(MOST_DAYS), now_ms).await?,
        })
    };
    Ok(Json(statement.await.map_err(unavailable)?))
}

async fn keys(
    State(core): Shared,
    Owner(account): Owner,
) -> Result<Json<Vec<AccountKeyRow>>, Refused> {
    let keys = accounts::keys(&core.database, account, core.edges.now_ms()).await;
    Ok(Json(keys.map_err(unavailable)?))
}

async fn create_key(
    State(core): Shared,
    Said { account, message }: Said<KeyRequest>,
) -> Result<Json<NewKey>, Refused> {
    let key = to_the_end(async move {
        accounts::create_key(&core.database, &core.edges, account, &message).await
    });
    Ok(Json(NewKey { key: key.await? }))
}

async fn revoke_key(
    State(core): Shared,
    Owner(account): Owner,
    Path(name): Path<String>,
) -> Result<StatusCode, Refused> {
    let now_ms = core.edges.now_ms();
    let revoked = async move { accounts::revoke_key(&core.database, account, &name, now_ms).await };
    to_the_end(revoked).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn put_link(
    State(core): Shared,
    Said { account, message }: Said<LinkGrant>,
) -> Result<StatusCode, Refused> {
    if message.account != account {
        return Err(refusal(
            RefusalCode::NotYours,
            "An account makes linking codes for itself only",
        )
        .into());
    }
    let now_ms = core.edges.now_ms();
    let put = async move { accounts::put_grant(&core.database, &message, now_ms).await };
    to_the_end(put).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn fleet(State(core): Shared, Owner(account): Owner) -> Result<Json<Vec<Machine>>, Refused> {
    let machines = accounts::machines(&core.database, account).await;
    let mut machines = machines.map_err(unavailable)?;
    let now = Instant::now();
    for machine in &mut machines {
        let live = core.nodes.report(machine.node, now);
        machine.here = live.here;
        machine.paused = live.paused;
        machine.running = live.running;
        machine.report = live.report;
    }
    Ok(Json(machines))
}

async fn drop_machine(
    State(core): Shared,
    Owner(account): Owner,
    Path(node): Path<String>,
) -> Result<StatusCode, Refused> {
    let node = id(&node)?;
    if !core.unlink(node, Some(account)).await? {
        return Err(no_such_machine().into());
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Carries a command to its node, which decides for itself whether it was given by its account.
async fn command(
    State(core): Shared,
    Path(node): Path<String>,
    Said { account, message }: Said<FleetCommand>,
) -> Result<StatusCode, Refused> {
    let node = id(&node)?;
    let known = crate::store::node(&core.database, node).await;
    let owner = known.map_err(unavailable)?.and_then(|node| node.account);
    if owner != Some(account) || message.account != account || message.node != node {
        return Err(no_such_machine().into());
    }
    if !core.nodes.report(node, Instant::now()).here {
        return Err(refusal(
            RefusalCode::Unavailable,
            "The machine is not connected now, so it cannot be told anything",
        )
        .into());
    }
    core.nodes.send(node, &NodeEvent::Command(message));
    Ok(StatusCode::NO_CONTENT)
}

async fn link(
    State(core): Shared,
    _: Sender,
    Path(link): Path<String>,
) -> Result<Json<LinkGrant>, Refused> {
    Ok(Json(accounts::grant(&core.database, id(&link)?).await?))
}

async fn take_owner(
    State(core): Shared,
    Call { node, message, .. }: Call<Ownership>,
) -> Result<Json<Linked>, Refused> {
    if message.node != node {
        return Err(refusal(
            RefusalCode::NotYours,
            "A node says whose it is for itself only",
        )
        .into());
    }
    let account = message.grant.account;
    let linked = async move {
        let now_ms = core.edges.now_ms();
        accounts::link(&core.database, &message, now_ms).await?;
        core.nodes.set_account(node, Some(account));
        Ok::<_, Refusal>(())
    };
    to_the_end(linked).await?;
    tracing::info!(node = %node.short(), account = %account.short(), "linked to an account");
    Ok(Json(Linked { account }))
}

async fn leave_owner(State(core): Shared, Sender(node): Sender) -> Result<StatusCode, Refused> {
    core.unlink(node, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl Core {
    async fn overview(&self, account: AccountId) -> Result<Overview, DbError> {
        let mut read = self.database.read().acquire().await?;
        spending::overview(&mut read, account).await
    }

    /// Makes a node nobody's; false where it was not this account's.
    async fn unlink(
        self: &Arc<Self>,
        node: NodeId,
        account: Option<AccountId>,
    ) -> Result<bool, Refusal> {
        let core = Arc::clone(self);
        let unlinked = async move {
            let now_ms = core.edges.now_ms();
            let was = accounts::unlink(&core.database, node, account, now_ms).await;
            if was.map_err(unavailable)? {
                core.nodes.set_account(node, None);
                tracing::info!(node = %node.short(), "unlinked from its account");
                return Ok(true);
            }
            Ok(false)
        };
        to_the_end(unlinked).await
    }
}

fn no_such_machine() -> Refusal {
    refusal(RefusalCode::NoSuch, "The account has no such machine here")
}

/// The account whose session a call names.
struct Owner(AccountId);

impl FromRequestParts<Arc<Core>> for Owner {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, core: &Arc<Core>) -> Result<Self, Refused> {
        let account = session_token(&parts.headers)
            .and_then(|token| core.account_tokens.read(token, core.edges.steady_ms()));
        let missing = || {
            refusal(
                RefusalCode::NoSession,
                "The account's session is missing, unknown or over. Open a new one",
            )
        };
        Ok(Self(account.ok_or_else(missing)?))
    }
}

/// A message of an account within a session.
struct Said<T> {
    account: AccountId,
    message: T,
}

impl<T: DeserializeOwned + Bounded> FromRequest<Arc<Core>> for Said<T> {
    type Rejection = Refused;

    /// Nothing is kept of a body before its sender is known.
    async fn from_request(request: Request, core: &Arc<Core>) -> Result<Self, Refused> {
        let (mut parts, body) = request.into_parts();
        let account = match Owner::from_request_parts(&mut parts, core).await {
            Ok(Owner(account)) => account,
            Err(refused) => {
                discard(body).await;
                return Err(refused);
            }
        };
        let address = address::counted(address::of_client(&parts, &core.config));
        let caller = Caller::Stranger(address);
        let received = core.bodies.read(body, T::MAX_BYTES, caller).await;
        let message = parse(&received.map_err(unread)?)?;
        Ok(Self { account, message })
    }
}
