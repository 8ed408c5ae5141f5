//! What those who run the network see and do, in a browser or from a script: their keys, who is
//! signed in, and the API under `/operator/v1` that their page uses.
//!
//! Nothing here holds what clients wrote or were answered.

mod access;
mod acts;
mod attention;
pub(crate) mod bans;
mod books;
mod call;
pub(crate) mod figures;
mod jobs;
pub(crate) mod keys;
pub(crate) mod log;
mod models;
mod nodes;
mod overview;
pub(crate) mod sessions;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

pub(crate) use acts::{NodeAct, act};
use call::{Asking, Fault, Knock, Operator};
use log::Act;
pub(crate) use nodes::read_reason;

use crate::dispatch::{Core, to_the_end};

/// Rows of a page, unless it asks for fewer.
const MOST_ROWS: u32 = 200;
/// Rows that are looked through for one page of those that are asked for.
const MOST_LOOKED_AT: u32 = 50_000;

type Shared = State<Arc<Core>>;

/// How the session's cookie is given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cookies {
    /// Only over encrypted connections.
    pub secure: bool,
}

pub(crate) fn router(cookies: Cookies) -> Router<Arc<Core>> {
    let v1 = Router::new()
        .route("/session", get(session).post(sign_in).delete(sign_out))
        .route("/now", get(overview::now))
        .route("/history", get(overview::history))
        .route("/attention", get(attention::attention))
        .route("/requirements", get(overview::requirements))
        .route("/nodes", get(nodes::list))
        .route("/nodes/{node}", get(nodes::one))
        .route("/nodes/{node}/appoint", post(nodes::appoint))
        .route("/nodes/{node}/dismiss", post(nodes::dismiss))
        .route("/nodes/{node}/trust", post(nodes::trust))
        .route("/nodes/{node}/untrust", post(nodes::untrust))
        .route("/nodes/{node}/ban", post(nodes::ban))
        .route("/nodes/{node}/unban", post(nodes::unban))
        .route("/jobs", get(jobs::list))
        .route("/jobs/{job}", get(jobs::one))
        .route("/ledger", get(books::accounts))
        .route("/ledger/postings", get(books::postings))
        .route("/ledger.csv", get(books::export))
        .route("/models", get(models::list))
        .route("/models/{name}/price", post(models::set_price))
        .route("/models/{name}", delete(models::remove))
        .route("/keys", get(access::keys).post(access::create_key))
        .route("/keys/{name}", delete(access::revoke_key))
        .route(
            "/invitations",
            get(access::invitations).post(access::invite),
        )
        .route("/invitations/{id}", delete(access::revoke_invitation))
        .route("/log", get(acts_log))
        .layer(Extension(cookies))
        .layer(map_response(kept_nowhere));
    Router::new().nest("/operator/v1", v1)
}

/// What operators see stays in their page.
async fn kept_nowhere(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

#[derive(Deserialize)]
struct SignIn {
    key: String,
}

async fn sign_in(
    State(core): Shared,
    Extension(cookies): Extension<Cookies>,
    Knock { parts, message }: Knock<SignIn>,
) -> Result<Response, Fault> {
    let key = call::check(&core, &parts, message.key.trim()).await?;
    let name = key.name.clone();
    log::add(
        &core.database,
        Some(&name),
        Act::SignIn,
        &name,
        "",
        core.edges.now_ms(),
    )
    .await?;
    let token = hex::encode(core.edges.random::<32>());
    core.operators.open(&token, key, Instant::now());
    let cookie = call::cookie(&token, sessions::LIFE, cookies.secure);
    Ok(([(header::SET_COOKIE, cookie)], Json(json!({"name": name}))).into_response())
}

async fn session(State(core): Shared, operator: Operator) -> Json<Value> {
    Json(json!({"name": operator.name, "network": overview::name(&core)}))
}

async fn sign_out(
    State(core): Shared,
    Extension(cookies): Extension<Cookies>,
    headers: HeaderMap,
    _: Operator,
) -> Response {
    if let Some(token) = call::token(&headers) {
        core.operators.close(token);
    }
    let cookie = call::cookie("", Duration::ZERO, cookies.secure);
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response()
}

/// A part of a list that is too long for one answer.
#[derive(Debug, Default, Deserialize)]
struct Part {
    before: Option<i64>,
    limit: Option<u32>,
}

async fn acts_log(
    State(core): Shared,
    _: Operator,
    Asking(part): Asking<Part>,
) -> Result<Json<Value>, Fault> {
    let limit = rows(part.limit);
    let acts = log::list(&core.database, part.before, limit).await?;
    let next = (acts.len() == limit as usize).then(|| acts.last().map(|act| act.id));
    Ok(Json(json!({"acts": acts, "next": next.flatten()})))
}

fn rows(asked: Option<u32>) -> u32 {
    asked.unwrap_or(50).clamp(1, MOST_ROWS)
}

/// Runs a change to its end, whatever becomes of the connection that asked for it.
async fn whole<T: Send + 'static>(
    change: impl Future<Output = Result<T, Fault>> + Send + 'static,
) -> Result<T, Fault> {
    to_the_end(change).await
}
