//! The calls of clients: `OpenAI`'s API, and what this network adds to it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{StreamExt, stream};
use infera_model::Tokenizer;
use infera_protocol::digest::Digest;
use infera_protocol::job::job_seed;
use infera_protocol::node_api::{Price, VerdictStatus};
use infera_protocol::{FinishReason, JobId, JobSeed, Sampling, TokenOutput, Vector};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::body::{BodyFault, Caller, Received, discard};
use crate::catalog::ServedModel;
use crate::dispatch::{Core, JobClient, database_error, to_the_end};
use crate::job::{self, Progress, Request, VerdictView};
use crate::keys::{self, Client};
use crate::ledger::{self, Account};
use crate::metrics::Gauges;
use crate::openai::{self, ApiError, EmbeddingRequest, Input};
use crate::prompts::Reading;
use crate::queues::Waits;
use crate::receipts::{self, JobView};
use crate::store;

const MAX_BODY_BYTES: usize = 4 << 20;
/// The most tokens of all texts to embed in one request. They are one job.
const MAX_EMBEDDING_TOKENS: usize = 8192;
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Chunks that may wait for a slow client.
const STREAM_BUFFER: usize = 64;

type Shared = State<Arc<Core>>;

pub(crate) fn router() -> Router<Arc<Core>> {
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{model}", get(model))
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

/// The two shapes of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Chat,
    Text,
}

/// What all chunks or the whole of an answer have in common.
struct Answering {
    shape: Shape,
    request: openai::Request,
    model: Arc<ServedModel>,
    id: String,
    created_s: i64,
    /// Tokens of all prompts, each once.
    prompt_tokens: usize,
    verdict_wait: Duration,
}

/// What a job has given.
#[derive(Default)]
struct Answer {
    text: String,
    tokens: Vec<TokenOutput>,
    vectors: Vec<Vector>,
    finish: Option<FinishReason>,
}

/// No [`Value`]: that would write every `f32` with the digits of an `f64`.
#[derive(Serialize)]
struct EmbeddingAnswer {
    object: &'static str,
    data: Vec<EmbeddingData>,
    model: String,
    usage: Value,
    infera: Value,
}

#[derive(Serialize)]
struct EmbeddingData {
    object: &'static str,
    index: usize,
    embedding: Numbers,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Numbers {
    List(Vec<f32>),
    Base64(Vector),
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
    if let Some((prompt, output)) = &view.text
        && let Ok(model) = view.model.parse()
        && let Ok(Some(model)) = core.catalog.find(&core.database, model).await
    {
        if view.texts.is_empty() {
            summary["text"] = json!(model.tokenizer().decode(prompt, output));
        } else {
            let vectors = job::vectors(output, view.texts.len());
            summary["embeddings"] = vectors.into_iter().map(|vector| json!(vector.0)).collect();
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
    let receipt = receipts::receipt(&core.database, id, &view).await;
    Ok(Json(receipt.map_err(|error| database_error(&error))?))
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
async fn submit(
    core: &Arc<Core>,
    client: &Client,
    jobs: Vec<Request>,
) -> Result<Vec<JobClient>, ApiError> {
    let (core, client) = (Arc::clone(core), client.clone());
    to_the_end(async move { core.submit(&client, jobs).await }).await
}

/// The model that clients call so.
fn served(core: &Core, name: &str) -> Result<Arc<ServedModel>, ApiError> {
    core.catalog
        .get(name)
        .ok_or_else(|| ApiError::model_not_found(name))
}

/// Answers a checked request, streaming or not.
async fn generate(
    core: Arc<Core>,
    client: Client,
    request: openai::Request,
    shape: Shape,
) -> Result<Response, ApiError> {
    let model = served(&core, &request.model)?;
    if model.vector_width.is_some() {
        return Err(ApiError::wrong_model(
            &model.name,
            "turns texts into vectors and writes no text",
            "POST /v1/embeddings",
        ));
    }
    let now_ms = core.edges.now_ms();
    let reading = Reading {
        model: Arc::clone(&model),
        input: request.input.clone(),
        param: "prompt",
        most_in_all: usize::MAX,
    };
    let renderer = core.edges.renderer();
    let prompts = core
        .prompts
        .read(renderer, &client.name, reading, now_ms)
        .await?;
    let max_tokens: Vec<u32> = prompts
        .iter()
        .map(|prompt| fit(&core, &request, &model, prompt.len()))
        .collect::<Result<_, _>>()?;
    let prompt_tokens = prompts.iter().map(Vec::len).sum();
    let jobs: Vec<_> = prompts
        .into_iter()
        .zip(max_tokens)
        .flat_map(|(prompt, max_tokens)| {
            (0..request.choices as u32).map(move |choice| (prompt.clone(), max_tokens, choice))
        })
        .map(|(prompt, max_tokens, choice)| {
            let entropy = match request.seed {
                Some(seed) => *Digest::new("infera/client-seed/v1")
                    .u64(seed as u64)
                    .finish()
                    .as_bytes(),
                None => core.edges.random(),
            };
            Request {
                client: client.name.clone(),
                seed: job_seed(&entropy, &model.id, &prompt, &request.sampling, choice),
                model: Arc::clone(&model),
                prompt,
                texts: Vec::new(),
                sampling: request.sampling,
                max_tokens,
                stop: request.stop.clone(),
                logprobs: request.logprobs,
                price: model.price,
                wait: request.wait,
                keep: request.keep,
                rerun: request.wait && !request.stream,
            }
        })
        .collect();
    let stream = request.stream;
    let clients = submit(&core, &client, jobs).await?;
    let first = clients
        .first()
        .ok_or_else(|| ApiError::server("The request holds no job"))?;
    let prefix = match shape {
        Shape::Chat => "chatcmpl",
        Shape::Text => "cmpl",
    };
    let answering = Answering {
        shape,
        model,
        id: format!("{prefix}-{}", first.job.id),
        created_s: now_ms / 1000,
        prompt_tokens,
        verdict_wait: core.config.verdict_wait,
        request,
    };
    if stream {
        answering.stream(clients, core).await
    } else {
        tokio::select! {
            whole = answering.whole(clients) => Ok(Json(whole?).into_response()),
            () = core.ending() => Err(shutting_down()),
        }
    }
}

/// Answers a checked request for vectors. All its texts are one job.
async fn embed(
    core: &Arc<Core>,
    client: &Client,
    request: EmbeddingRequest,
) -> Result<EmbeddingAnswer, ApiError> {
    let model = served(core, &request.model)?;
    if model.vector_width.is_none() {
        return Err(ApiError::wrong_model(
            &model.name,
            "writes text and gives no vectors",
            "POST /v1/chat/completions",
        ));
    }
    let reading = Reading {
        model: Arc::clone(&model),
        input: Input::Prompts(request.input),
        param: "input",
        most_in_all: MAX_EMBEDDING_TOKENS,
    };
    let (renderer, now_ms) = (core.edges.renderer(), core.edges.now_ms());
    let texts = core
        .prompts
        .read(renderer, &client.name, reading, now_ms)
        .await?;
    let prompt_tokens = count_texts(&texts, model.context)?;
    let job = Request {
        client: client.name.clone(),
        texts: texts.iter().map(|text| text.len() as u32).collect(),
        prompt: texts.concat(),
        sampling: Sampling::GREEDY,
        max_tokens: 0,
        stop: Vec::new(),
        logprobs: None,
        // Nothing is drawn.
        seed: JobSeed::from_bytes([0; 32]),
        // No tokens come out.
        price: Price {
            output: 0,
            ..model.price
        },
        model: Arc::clone(&model),
        wait: request.wait,
        keep: request.keep,
        rerun: request.wait,
    };
    let mut clients = submit(core, client, vec![job]).await?;
    let until = Instant::now() + core.config.verdict_wait;
    let collected = clients
        .iter_mut()
        .map(|client| collect(client, request.wait, until));
    let answers = futures_util::future::try_join_all(collected).await?;
    let vectors = answers.into_iter().flat_map(|answer| answer.vectors);
    let data = (0..).zip(vectors).map(|(index, vector)| EmbeddingData {
        object: "embedding",
        index,
        embedding: if request.base64 {
            Numbers::Base64(vector)
        } else {
            Numbers::List(vector.0)
        },
    });
    Ok(EmbeddingAnswer {
        object: "list",
        data: data.collect(),
        model: model.name.clone(),
        usage: json!({"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}),
        infera: verdicts(&clients),
    })
}

/// How many tokens there are in all texts; refuses what is empty or too long.
fn count_texts(texts: &[Vec<u32>], context: u32) -> Result<usize, ApiError> {
    for (index, text) in texts.iter().enumerate() {
        if text.is_empty() {
            return Err(ApiError::invalid(
                Some("input"),
                format!("Text {index} of `input` is empty: send at least one token"),
            ));
        }
        if text.len() > context as usize {
            return Err(ApiError::text_too_long(context, index, Some(text.len())));
        }
    }
    Ok(texts.iter().map(Vec::len).sum())
}

impl Answering {
    /// Collects all choices into one answer.
    async fn whole(&self, mut clients: Vec<JobClient>) -> Result<Value, ApiError> {
        let until = Instant::now() + self.verdict_wait;
        let collected = clients
            .iter_mut()
            .map(|client| collect(client, self.request.wait, until));
        let answers = futures_util::future::try_join_all(collected).await?;
        let choices: Vec<_> = (0..)
            .zip(&answers)
            .map(|(index, answer): (usize, _)| {
                let finish = answer.finish.map(finish_name);
                match self.shape {
                    Shape::Chat => json!({
                        "index": index,
                        "message": {"role": "assistant", "content": answer.text, "refusal": null},
                        "logprobs": self.logprobs(&answer.tokens, 0),
                        "finish_reason": finish,
                    }),
                    Shape::Text => json!({
                        "index": index,
                        "text": answer.text,
                        "logprobs": self.logprobs(&answer.tokens, 0),
                        "finish_reason": finish,
                    }),
                }
            })
            .collect();
        let produced = answers.iter().map(|answer| answer.tokens.len()).sum();
        Ok(json!({
            "id": self.id,
            "object": match self.shape {
                Shape::Chat => "chat.completion",
                Shape::Text => "text_completion",
            },
            "created": self.created_s,
            "model": self.model.name,
            "choices": choices,
            "usage": self.usage(produced),
            "infera": verdicts(&clients),
        }))
    }

    /// Answers with server-sent events. Until a node has begun, a failure is still an HTTP error.
    async fn stream(
        self,
        mut clients: Vec<JobClient>,
        core: Arc<Core>,
    ) -> Result<Response, ApiError> {
        let begun = match clients.first_mut() {
            Some(first) => tokio::select! {
                progress = first.progress.recv() => progress,
                () = core.ending() => return Err(shutting_down()),
            },
            None => None,
        };
        match begun {
            Some(Progress::Failed(error)) => return Err(error),
            None => return Err(ended_early()),
            Some(_) => {}
        }
        let (sender, receiver) = mpsc::channel(STREAM_BUFFER);
        tokio::spawn(async move {
            tokio::select! {
                // The client has hung up: dropping its jobs tells the nodes.
                () = sender.closed() => {}
                _ = self.send_all(&sender, clients) => {}
                () = core.ending() => {
                    // A full channel means that the client does not read.
                    let _ = sender.try_send(shutting_down().body().to_string());
                }
            }
        });
        let events = stream::unfold(receiver, |mut receiver| async {
            let data: String = receiver.recv().await?;
            Some((Ok::<_, Infallible>(Event::default().data(data)), receiver))
        });
        let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
        Ok(Sse::new(events).keep_alive(keep_alive).into_response())
    }

    /// Sends every chunk. Ends early when the client has gone.
    async fn send_all(
        &self,
        sender: &mpsc::Sender<String>,
        mut clients: Vec<JobClient>,
    ) -> Result<(), mpsc::error::SendError<String>> {
        let mut open: Vec<bool> = vec![true; clients.len()];
        let mut produced = vec![0usize; clients.len()];
        let mut sent_text = vec![0usize; clients.len()];
        for (index, client) in clients.iter().enumerate() {
            let mut chunk = self.chunk(&json!([self.delta(index, Some(""), None, None)]));
            chunk["infera"] = json!({"job_id": client.job.id});
            sender.send(chunk.to_string()).await?;
        }
        let streams = clients.iter_mut().enumerate().map(|(index, client)| {
            let (_, nothing) = mpsc::unbounded_channel();
            let progress = std::mem::replace(&mut client.progress, nothing);
            stream::unfold(progress, move |mut progress| async move {
                let next = progress.recv().await?;
                Some(((index, Some(next)), progress))
            })
            .chain(stream::once(std::future::ready((index, None))))
            .boxed()
        });
        let mut all = stream::select_all(streams);
        while open.contains(&true) {
            let Some((index, progress)) = all.next().await else {
                break;
            };
            if !open[index] {
                continue;
            }
            match progress {
                Some(Progress::Started | Progress::Restarted | Progress::Vectors(_)) => {}
                Some(Progress::Tokens { text, tokens }) => {
                    let logprobs = self.logprobs(&tokens, sent_text[index]);
                    produced[index] += tokens.len();
                    sent_text[index] += text.len();
                    if !text.is_empty() || !logprobs.is_null() {
                        let choice = self.delta(index, Some(&text), Some(logprobs), None);
                        sender
                            .send(self.chunk(&json!([choice])).to_string())
                            .await?;
                    }
                }
                Some(Progress::Finished(reason)) => {
                    open[index] = false;
                    let choice = self.delta(index, None, None, Some(reason));
                    let mut chunk = self.chunk(&json!([choice]));
                    if !open.contains(&true) && !self.request.wait {
                        chunk["infera"] = verdicts(&clients);
                    }
                    sender.send(chunk.to_string()).await?;
                }
                Some(Progress::Failed(error)) => {
                    return sender.send(error.body().to_string()).await;
                }
                None => return sender.send(ended_early().body().to_string()).await,
            }
        }
        if self.request.include_usage {
            let mut chunk = self.chunk(&json!([]));
            chunk["usage"] = self.usage(produced.iter().sum());
            sender.send(chunk.to_string()).await?;
        }
        if self.request.wait {
            let until = Instant::now() + self.verdict_wait;
            for client in &mut clients {
                let verdict = known_verdict(&mut client.verdict);
                // When time is up, the verdict is sent as pending.
                let _ = timeout_at(until, verdict).await;
            }
            let mut chunk = self.chunk(&json!([]));
            chunk["infera"] = verdicts(&clients);
            sender.send(chunk.to_string()).await?;
        }
        sender.send("[DONE]".to_owned()).await
    }

    fn chunk(&self, choices: &Value) -> Value {
        let mut chunk = json!({
            "id": self.id,
            "object": match self.shape {
                Shape::Chat => "chat.completion.chunk",
                Shape::Text => "text_completion",
            },
            "created": self.created_s,
            "model": self.model.name,
            "choices": choices,
        });
        if self.request.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    /// A choice within a chunk. The first one of a choice has no log probabilities yet.
    fn delta(
        &self,
        index: usize,
        text: Option<&str>,
        logprobs: Option<Value>,
        finish: Option<FinishReason>,
    ) -> Value {
        let first = logprobs.is_none() && finish.is_none();
        let finish = finish.map(finish_name);
        let logprobs = logprobs.unwrap_or_default();
        match self.shape {
            Shape::Text => json!({
                "index": index,
                "text": text.unwrap_or_default(),
                "logprobs": logprobs,
                "finish_reason": finish,
            }),
            Shape::Chat => {
                let delta = match text {
                    Some(text) if first => json!({"role": "assistant", "content": text}),
                    Some(text) => json!({"content": text}),
                    None => json!({}),
                };
                json!({
                    "index": index,
                    "delta": delta,
                    "logprobs": logprobs,
                    "finish_reason": finish,
                })
            }
        }
    }

    /// Log probabilities in the shape asked for; null when none were. `offset` is where the text
    /// of the first token begins.
    fn logprobs(&self, tokens: &[TokenOutput], offset: usize) -> Value {
        let tokenizer = self.model.tokenizer();
        let shown: Vec<_> = tokens
            .iter()
            .filter(|token| !tokenizer.is_end(token.id))
            .collect();
        if self.request.logprobs.is_none() || shown.is_empty() {
            return Value::Null;
        }
        match self.shape {
            Shape::Chat => {
                let content: Vec<_> = shown
                    .into_iter()
                    .map(|token| {
                        let mut entry = logprob(tokenizer, token.id, token.logprob);
                        let top: Vec<_> = token
                            .alternatives
                            .iter()
                            .map(|(id, value)| logprob(tokenizer, *id, Some(*value)))
                            .collect();
                        entry["top_logprobs"] = Value::Array(top);
                        entry
                    })
                    .collect();
                json!({"content": content, "refusal": null})
            }
            Shape::Text => {
                let mut at = offset;
                let mut offsets = Vec::new();
                for token in &shown {
                    offsets.push(at);
                    at += token_text(tokenizer, token.id).len();
                }
                let top = |token: &&TokenOutput| -> Value {
                    let pairs = token
                        .alternatives
                        .iter()
                        .map(|(id, value)| (token_text(tokenizer, *id), json!(value)));
                    Value::Object(pairs.collect())
                };
                let texts = shown.iter().map(|token| token_text(tokenizer, token.id));
                json!({
                    "tokens": texts.collect::<Vec<_>>(),
                    "token_logprobs": shown.iter().map(|token| token.logprob).collect::<Vec<_>>(),
                    "top_logprobs": shown.iter().map(top).collect::<Vec<_>>(),
                    "text_offset": offsets,
                })
            }
        }
    }

    fn usage(&self, completion_tokens: usize) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": self.prompt_tokens + completion_tokens,
        })
    }
}

/// A job's whole answer; with `wait`, once it is verified or the time is up.
async fn collect(client: &mut JobClient, wait: bool, until: Instant) -> Result<Answer, ApiError> {
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
            Some(Progress::Failed(error)) => return Err(error.with_partial(answer.text)),
            None => return Err(ended_early()),
        }
    }
}

async fn authenticate(core: &Core, headers: &HeaderMap) -> Result<Client, ApiError> {
    let key = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(str::trim)
        .filter(|key| !key.is_empty())
        .ok_or_else(|| {
            ApiError::unauthorized(
                "An API key is missing. Send it as `Authorization: Bearer sk-infera-...`",
            )
        })?;
    keys::find(&core.database, key)
        .await
        .map_err(|error| database_error(&error))?
        .ok_or_else(|| ApiError::unauthorized("This API key is not valid here. Check the key"))
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

/// How many tokens may be generated after a prompt.
fn fit(
    core: &Core,
    request: &openai::Request,
    model: &ServedModel,
    prompt: usize,
) -> Result<u32, ApiError> {
    if prompt == 0 {
        return Err(ApiError::invalid(
            Some("prompt"),
            "The prompt is empty: send at least one token",
        ));
    }
    let room = (model.context as usize).saturating_sub(prompt) as u32;
    // Without a limit of the client's, the answer is sized to the nodes that are here.
    let longest = core.nodes.longest_context(model.id, Instant::now());
    let roomiest = longest.map_or(room, |longest| {
        room.min((longest as usize).saturating_sub(prompt) as u32)
    });
    match request.max_tokens {
        _ if room == 0 => Err(ApiError::context_exceeded(model.context, prompt, None)),
        Some(asked) if asked > room => Err(ApiError::context_exceeded(
            model.context,
            prompt,
            Some(asked),
        )),
        Some(asked) => Ok(asked),
        None => Ok(roomiest.max(1).min(core.config.default_max_tokens)),
    }
}

async fn owned_job(core: &Core, client: &Client, id: &str) -> Result<(JobId, JobView), ApiError> {
    let unknown = || ApiError::not_found("There is no such job of this key");
    let id: JobId = id.parse().map_err(|_| unknown())?;
    let view = receipts::job(&core.database, id)
        .await
        .map_err(|error| database_error(&error))?
        .filter(|view| view.client == client.name)
        .ok_or_else(unknown)?;
    Ok((id, view))
}

async fn await_verdict(core: &Core, id: JobId, wait: Duration) {
    if let Some(live) = core.job(id) {
        let mut verdict = live.verdict.subscribe();
        // When time is up, what is known by then is answered.
        let _ = tokio::time::timeout(wait, final_verdict(&mut verdict)).await;
    }
}

async fn final_verdict(
    verdict: &mut tokio::sync::watch::Receiver<VerdictView>,
) -> Option<VerdictStatus> {
    let view = verdict.wait_for(|view| view.last).await.ok()?;
    Some(view.verdict)
}

/// The final verdict, or the pending one when nobody knows when references come.
async fn known_verdict(
    verdict: &mut tokio::sync::watch::Receiver<VerdictView>,
) -> Option<VerdictStatus> {
    let view = verdict
        .wait_for(|view| view.last || view.stalled)
        .await
        .ok()?;
    Some(view.verdict)
}

/// The `infera` object: the worst verdict stands for all jobs of a request.
fn verdicts(clients: &[JobClient]) -> Value {
    let views: Vec<_> = clients
        .iter()
        .map(|client| (client.job.id, client.verdict.borrow().clone()))
        .collect();
    let rank = |verdict: VerdictStatus| match verdict {
        VerdictStatus::Failed => 0,
        VerdictStatus::Pending => 1,
        VerdictStatus::SampledOut => 2,
        VerdictStatus::Verified => 3,
    };
    let Some((_, worst)) = views.iter().min_by_key(|(_, view)| rank(view.verdict)) else {
        return Value::Null;
    };
    let mut object = json!({
        "job_id": views.first().map(|(id, _)| *id),
        "verdict": store::verdict_name(worst.verdict),
        "reason": worst.reason,
    });
    if views.len() > 1 {
        let jobs = views.iter().map(|(id, view)| {
            json!({
                "job_id": id,
                "verdict": store::verdict_name(view.verdict),
                "reason": view.reason,
            })
        });
        object["jobs"] = Value::Array(jobs.collect());
    }
    object
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

fn finish_name(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Length => "length",
        FinishReason::EndOfText
        | FinishReason::Stop
        | FinishReason::Cancelled
        | FinishReason::Embedded => "stop",
    }
}

fn token_text(tokenizer: &Tokenizer, id: u32) -> String {
    String::from_utf8_lossy(&tokenizer.token_bytes(id)).into_owned()
}

fn logprob(tokenizer: &Tokenizer, id: u32, value: Option<f32>) -> Value {
    json!({
        "token": token_text(tokenizer, id),
        "logprob": value,
        "bytes": tokenizer.token_bytes(id),
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

fn verification_failed() -> ApiError {
    ApiError {
        code: Some("verification_failed"),
        ..ApiError::server(
            "Reference nodes found the answer wrong, and so were those of the nodes asked after. Nothing was charged. Try again",
        )
    }
}

fn shutting_down() -> ApiError {
    ApiError::unavailable(
        "shutting_down",
        "The balancer is being stopped. Try again in a moment".to_owned(),
    )
}

fn ended_early() -> ApiError {
    ApiError::server("The job ended without an answer. Try again")
}
