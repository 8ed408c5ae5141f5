//! The calls of clients: `OpenAI`'s API, and what this network adds to it.

mod embedding;
mod errors;
mod outcome;
mod writing;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use infera_protocol::node_api::Price;
use infera_protocol::{JobId, Route};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::body::{BodyFault, Caller, Received, discard};
use crate::catalog::ServedModel;
use crate::dispatch::{Core, JobClient, to_the_end};
use crate::job::{self, Submission};
use crate::keys::{self, Client};
use crate::ledger::{self, Account};
use crate::metrics::Gauges;
use crate::openai::answer::{EmbeddingAnswer, Shape};
use crate::openai::{self, ApiError};
use crate::queues::Waits;
use crate::receipts::{self, JobView};
use crate::submit_error::SubmitError;
use embedding::embed;
use outcome::{await_verdict, shutting_down};
use writing::generate;

const MAX_BODY_BYTES: usize = 4 << 20;

type Shared = State<Arc<Core>>;

pub(crate) fn router() -> Router<Arc<Core>> {
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{*model}", get(model))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completions))
        .route("/v1/embeddings", post(embeddings))
        .route("/v1/jobs/{job}", get(job))
        .route("/v1/jobs/{job}/receipt", get(receipt))
        .route("/healthz", get(health))
        .route("/metrics", get(metrics))
        .fallback(async || ApiError::not_found("There is nothing at this path. See /v1/models"))
        .method_not_allowed_fallback(async || ApiError {
            status: StatusCode::METHOD_NOT_ALLOWED,
            ..ApiError::not_found("This path does not take this method")
        })
}

async fn models(State(core): Shared, headers: HeaderMap) -> Result<Json<Value>, ApiError> {
    authenticate(&core, &headers).await?;
    let models: Vec<_> = core
        .catalog
        .list()
        .iter()
        .map(|model| describe(model))
        .collect();
    Ok(Json(json!({"object": "list", "data": models})))
}

async fn model(
    State(core): Shared,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<Json<Value>, ApiError> {
    authenticate(&core, &headers).await?;
    let model = served(&core, &name)?;
    Ok(Json(describe(&model)))
}

async fn chat(State(core): Shared, Posted { client, body }: Posted) -> Result<Response, ApiError> {
    let request = openai::chat(&body.bytes)?;
    drop(body);
    generate(core, client, request, Shape::Chat).await
}

async fn completions(
    State(core): Shared,
    Posted { client, body }: Posted,
) -> Result<Response, ApiError> {
    let request = openai::completion(&body.bytes)?;
    drop(body);
    generate(core, client, request, Shape::Text).await
}

async fn embeddings(
    State(core): Shared,
    Posted { client, body }: Posted,
) -> Result<Json<EmbeddingAnswer>, ApiError> {
    let request = openai::embeddings(&body.bytes)?;
    drop(body);
    tokio::select! {
        answer = embed(&core, &client, request) => Ok(Json(answer?)),
        () = core.ending() => Err(shutting_down()),
    }
}

async fn job(
    State(core): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Json<Value>, ApiError> {
    let client = authenticate(&core, &headers).await?;
    let (id, view) = owned_job(&core, &client, &id).await?;
    let view = match query.get("wait_ms").map(|text| text.parse::<u64>()) {
        None => view,
        Some(Ok(wait_ms)) => {
            let wait = Duration::from_millis(wait_ms).min(core.config.verdict_wait);
            await_verdict(&core, id, wait).await;
            owned_job(&core, &client, &id.to_string()).await?.1
        }
        Some(Err(_)) => {
            return Err(ApiError::invalid(
                Some("wait_ms"),
                "`wait_ms` must be a number of milliseconds",
            ));
        }
    };
    let mut summary = view.summary();
    note_waiting(&core, id, &mut summary);
    if let Some(output) = &view.output
        && let Ok(Some(model)) = core.catalog.find(&core.database, view.task.model).await
    {
        if let Some(texts) = view.task.embedded_texts() {
            let vectors = job::vectors(output, texts);
            summary["embeddings"] = vectors.into_iter().map(|vector| json!(vector.0)).collect();
        } else {
            summary["text"] = json!(job::answer_text(&model, &view.task, output));
        }
    }
    Ok(Json(summary))
}

async fn receipt(
    State(core): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let client = authenticate(&core, &headers).await?;
    let (id, view) = owned_job(&core, &client, &id).await?;
    let mut receipt = receipts::receipt(&core.database, id, &view).await?;
    note_waiting(&core, id, &mut receipt);
    Ok(Json(receipt))
}

/// Says of a job whose answer is there what its verdict waits for.
fn note_waiting(core: &Core, id: JobId, job: &mut Value) {
    if job["finished_ms"].is_null() {
        return;
    }
    if let Some(live) = core.job(id)
        && let Some(waiting_for) = core.waiting_for(live.model, &live.verdict.borrow())
    {
        job["reason"] = json!(waiting_for.reason());
        job["waiting_for"] = json!(waiting_for);
    }
}

async fn health(State(core): Shared) -> Response {
    match core.database.health().await {
        Ok(()) => Json(json!({"status": "ok"})).into_response(),
        Err(reason) => {
            let body = Json(json!({"status": "failing", "reason": reason}));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

async fn metrics(State(core): Shared) -> impl IntoResponse {
    let (nodes, references) = core.nodes.count(Instant::now());
    let text = core.metrics.render(Gauges {
        jobs: core.live_jobs(),
        nodes,
        references,
        waiting_workers: core.queues.len(Waits::Worker),
        waiting_references: core.queues.len(Waits::Reference),
        network_balance: ledger::balance(&core.database, &Account::Network)
            .await
            .unwrap_or(0),
    });
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

/// Accepts a request's jobs. A client that hangs up meanwhile leaves when they are there.
pub(super) async fn submit(
    core: &Arc<Core>,
    client: &Client,
    jobs: Vec<Submission>,
) -> Result<Vec<JobClient>, SubmitError> {
    let (core, client) = (Arc::clone(core), client.clone());
    to_the_end(async move { core.submit(&client, jobs).await }).await
}

/// What a client pays for what goes there: one's own machines cost nothing.
fn price(price: Price, route: Route) -> Price {
    match route {
        Route::Own => Price {
            input: 0,
            output: 0,
        },
        Route::Trusted | Route::Any => price,
    }
}

/// The model that clients call so.
fn served(core: &Core, name: &str) -> Result<Arc<ServedModel>, ApiError> {
    core.catalog
        .get(name)
        .ok_or_else(|| ApiError::model_not_found(name))
}

async fn authenticate(core: &Core, headers: &HeaderMap) -> Result<Client, ApiError> {
    let key = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| bearer(value.to_str().ok()?))
        .ok_or_else(ApiError::key_missing)?;
    keys::find(&core.database, key)
        .await?
        .ok_or_else(ApiError::key_wrong)
}

/// The key in an `Authorization` header. The scheme is written in any case (RFC 9110, 11.1).
pub(crate) fn bearer(value: &str) -> Option<&str> {
    let (scheme, key) = value.trim().split_once(' ')?;
    let key = key.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !key.is_empty()).then_some(key)
}

/// A request with a body, of a client that has shown a valid key. Nothing is kept of the body
/// before that.
struct Posted {
    client: Client,
    body: Received,
}

impl FromRequest<Arc<Core>> for Posted {
    type Rejection = ApiError;

    async fn from_request(
        request: axum::extract::Request,
        core: &Arc<Core>,
    ) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let client = match authenticate(core, &parts.headers).await {
            Ok(client) => client,
            Err(error) => {
                discard(body).await;
                return Err(error);
            }
        };
        let caller = Caller::Client(client.name.clone());
        let body = core.bodies.read(body, MAX_BODY_BYTES, caller).await;
        Ok(Self {
            client,
            body: body.map_err(body_error)?,
        })
    }
}

async fn owned_job(core: &Core, client: &Client, id: &str) -> Result<(JobId, JobView), ApiError> {
    let unknown = || ApiError::not_found("There is no such job of this key");
    let id: JobId = id.parse().map_err(|_| unknown())?;
    let view = receipts::job(&core.database, id)
        .await?
        .filter(|view| view.client == client.name)
        .ok_or_else(unknown)?;
    Ok((id, view))
}

fn describe(model: &ServedModel) -> Value {
    json!({
        "id": model.name,
        "object": "model",
        "created": model.added_ms / 1000,
        "owned_by": "infera",
        "infera": {
            "model_id": model.id,
            "profile": model.profile,
            "context_tokens": model.context,
            "embedding_values": model.vector_width,
            "price": model.price,
        },
    })
}

fn body_error(fault: BodyFault) -> ApiError {
    match fault {
        BodyFault::TooLarge(_) => ApiError::too_large(),
        BodyFault::TooMuch => ApiError::unavailable(
            "too_much_at_once",
            "Too much is being sent to the balancer at once. Try again in a moment".to_owned(),
        ),
        BodyFault::TooSlow | BodyFault::Broken => ApiError {
            status: StatusCode::REQUEST_TIMEOUT,
            ..ApiError::invalid(None, format!("The request could not be read: {fault}"))
        },
    }
}
