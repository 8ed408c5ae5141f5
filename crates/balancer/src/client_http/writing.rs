//! Requests to write text, answered whole or as a stream.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use infera_protocol::digest::Digest;
use infera_protocol::{FinishReason, Task, TokenOutput, Writing, job_seed};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::outcome::{collect, ended_early, known_verdict, shutting_down, verdicts};
use super::{price, served, submit};
use crate::catalog::ServedModel;
use crate::dispatch::{Core, JobClient};
use crate::job::{Progress, Submission};
use crate::keys::Client;
use crate::openai::answer::{Choice, Delta, Envelope, Shape, TokenLog, joined};
use crate::openai::{self, ApiError};
use crate::prompts::Reading;

/// How many tokens a plain completion has at most when its client names no limit, as with `OpenAI`.
const COMPLETION_TOKENS: u32 = 16;
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Chunks that may wait for a slow client.
const STREAM_BUFFER: usize = 64;

/// The answer to a request whose jobs are accepted.
struct Answering {
    envelope: Envelope,
    /// Answer only when verified.
    wait: bool,
    /// For each choice, when log probabilities were asked for.
    logs: Vec<Option<TokenLog>>,
    verdict_wait: Duration,
}

/// Answers a checked request, streaming or not.
pub(super) async fn generate(
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
    let route = client.route(request.route)?;
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
        .map(|prompt| fit(&core, &request, shape, &model, prompt.len()))
        .collect::<Result<_, _>>()?;
    let envelope = Envelope {
        shape,
        id: String::new(),
        created_s: now_ms / 1000,
        model: model.name.clone(),
        prompt_tokens: prompts.iter().map(Vec::len).sum(),
        include_usage: request.include_usage,
    };
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
            let writing = Writing {
                sampling: request.sampling,
                max_tokens,
                stop: request.stop.clone(),
                logprobs: request.logprobs,
                seed: job_seed(&entropy, &model.id, &prompt, request.sampling, choice),
            };
            Submission {
                client: client.name.clone(),
                task: Task::write(model.id, prompt, writing),
                model: Arc::clone(&model),
                price: price(model.price, route),
                route,
                wait: request.wait,
                keep: request.keep,
                rerun: request.wait && !request.stream,
            }
        })
        .collect();
    let log = |job: &Submission| TokenLog::new(model.tokenizer(), &job.task.input, shape);
    let logs = jobs
        .iter()
        .map(|job| request.logprobs.map(|_| log(job)))
        .collect();
    let wait = core.waits_for_verdict(request.wait, route);
    let clients = submit(&core, &client, jobs).await?;
    let first = clients
        .first()
        .ok_or_else(|| ApiError::server("The request holds no job"))?;
    let prefix = match shape {
        Shape::Chat => "chatcmpl",
        Shape::Text => "cmpl",
    };
    let answering = Answering {
        envelope: Envelope {
            id: format!("{prefix}-{}", first.job.id),
            ..envelope
        },
        wait,
        logs,
        verdict_wait: core.config.verdict_wait,
    };
    if request.stream {
        answering.stream(clients, core).await
    } else {
        tokio::select! {
            whole = answering.whole(&core, clients) => Ok(Json(whole?).into_response()),
            () = core.ending() => Err(shutting_down()),
        }
    }
}

impl Answering {
    /// Collects all choices into one answer.
    async fn whole(mut self, core: &Core, mut clients: Vec<JobClient>) -> Result<Value, ApiError> {
        let until = Instant::now() + self.verdict_wait;
        let collected = clients
            .iter_mut()
            .map(|client| collect(client, self.wait, until));
        let answers = futures_util::future::try_join_all(collected).await?;
        let tokens = answers.iter().map(|answer| answer.tokens.len()).sum();
        let choices: Vec<_> = (0..)
            .zip(answers)
            .map(|(index, answer)| {
                let first = self.log(index, &answer.text, answer.tokens);
                let last = answer.finish.map(|reason| self.end_log(index, reason));
                Choice {
                    text: answer.text,
                    logprobs: joined([first].into_iter().chain(last)),
                    finish: answer.finish,
                }
            })
            .collect();
        let mut whole = self.envelope.whole(&choices, tokens);
        whole["infera"] = verdicts(core, &clients);
        Ok(whole)
    }

    /// Answers with server-sent events. Until a node has begun, a failure is still an HTTP error.
    async fn stream(
        mut self,
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
            Some(Progress::Failed(error)) => return Err(error.into()),
            None => return Err(ended_early()),
            Some(_) => {}
        }
        let (sender, receiver) = mpsc::channel(STREAM_BUFFER);
        tokio::spawn(async move {
            tokio::select! {
                // The client has hung up: dropping its jobs tells the nodes.
                () = sender.closed() => {}
                _ = self.send_all(&core, &sender, clients) => {}
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
        &mut self,
        core: &Core,
        sender: &mpsc::Sender<String>,
        mut clients: Vec<JobClient>,
    ) -> Result<(), mpsc::error::SendError<String>> {
        let mut open: Vec<bool> = vec![true; clients.len()];
        let mut produced = 0;
        for (index, client) in clients.iter().enumerate() {
            let mut chunk = self.envelope.chunk(Some((index, Delta::Begin)));
            chunk["infera"] = serde_json::json!({"job_id": client.job.id});
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
                    produced += tokens.len();
                    let logprobs = self.log(index, &text, tokens);
                    self.send_text(sender, index, &text, &logprobs).await?;
                }
                Some(Progress::Finished(reason)) => {
                    open[index] = false;
                    let logprobs = self.end_log(index, reason);
                    self.send_text(sender, index, "", &logprobs).await?;
                    let mut chunk = self.envelope.chunk(Some((index, Delta::End(reason))));
                    if !open.contains(&true) && !self.wait {
                        chunk["infera"] = verdicts(core, &clients);
                    }
                    sender.send(chunk.to_string()).await?;
                }
                Some(Progress::Failed(error)) => {
                    let error = ApiError::from(error);
                    return sender.send(error.body().to_string()).await;
                }
                None => return sender.send(ended_early().body().to_string()).await,
            }
        }
        if self.envelope.include_usage {
            let mut chunk = self.envelope.chunk(None);
            chunk["usage"] = self.envelope.usage(produced);
            sender.send(chunk.to_string()).await?;
        }
        if self.wait {
            let until = Instant::now() + self.verdict_wait;
            for client in &mut clients {
                let verdict = known_verdict(&mut client.verdict);
                // When time is up, the verdict is sent as pending.
                let _ = timeout_at(until, verdict).await;
            }
            let mut chunk = self.envelope.chunk(None);
            chunk["infera"] = verdicts(core, &clients);
            sender.send(chunk.to_string()).await?;
        }
        sender.send("[DONE]".to_owned()).await
    }

    /// Sends a chunk, unless there is nothing to say.
    async fn send_text(
        &self,
        sender: &mpsc::Sender<String>,
        index: usize,
        text: &str,
        logprobs: &Value,
    ) -> Result<(), mpsc::error::SendError<String>> {
        if text.is_empty() && logprobs.is_null() {
            return Ok(());
        }
        let chunk = self
            .envelope
            .chunk(Some((index, Delta::Text(text, logprobs))));
        sender.send(chunk.to_string()).await
    }

    fn log(&mut self, index: usize, text: &str, tokens: Vec<TokenOutput>) -> Value {
        let log = self.logs.get_mut(index).and_then(Option::as_mut);
        log.map_or(Value::Null, |log| log.push(text, tokens))
    }

    fn end_log(&mut self, index: usize, reason: FinishReason) -> Value {
        let log = self.logs.get_mut(index).and_then(Option::as_mut);
        log.map_or(Value::Null, |log| log.end(reason))
    }
}

/// How many tokens may be generated after a prompt.
fn fit(
    core: &Core,
    request: &openai::Request,
    shape: Shape,
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
        _ if room == 0 => Err(ApiError::context_exceeded(
            model.context,
            Some(prompt),
            None,
        )),
        asked @ Some(tokens) if tokens > room => Err(ApiError::context_exceeded(
            model.context,
            Some(prompt),
            asked,
        )),
        Some(asked) => Ok(asked),
        None => Ok(roomiest.max(1).min(match shape {
            Shape::Chat => core.config.default_max_tokens,
            Shape::Text => COMPLETION_TOKENS,
        })),
    }
}
