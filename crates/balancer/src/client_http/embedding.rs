//! Requests for vectors.

use std::sync::Arc;

use infera_protocol::Task;
use infera_protocol::node_api::Price;
use tokio::time::Instant;

use super::outcome::{collect, verdicts};
use super::{price, served, submit};
use crate::dispatch::Core;
use crate::job::Submission;
use crate::keys::Client;
use crate::openai::answer::EmbeddingAnswer;
use crate::openai::{ApiError, EmbeddingRequest, Input};
use crate::prompts::Reading;

/// The most tokens of all texts to embed in one request. They are one job.
const MAX_TOKENS: usize = 8192;

/// Answers a checked request for vectors. All its texts are one job.
pub(super) async fn embed(
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
    let route = client.route(request.route)?;
    let reading = Reading {
        model: Arc::clone(&model),
        input: Input::Prompts(request.input),
        param: "input",
        most_in_all: MAX_TOKENS,
    };
    let (renderer, now_ms) = (core.edges.renderer(), core.edges.now_ms());
    let texts = core
        .prompts
        .read(renderer, &client.name, reading, now_ms)
        .await?;
    let prompt_tokens = count_texts(&texts, model.context)?;
    let job = Submission {
        client: client.name.clone(),
        task: Task::embed(model.id, &texts),
        // No tokens come out.
        price: Price {
            output: 0,
            ..price(model.price, route)
        },
        route,
        model: Arc::clone(&model),
        wait: request.wait,
        keep: request.keep,
        rerun: request.wait,
    };
    let wait = core.waits_for_verdict(request.wait, route);
    let mut clients = submit(core, client, vec![job]).await?;
    let until = Instant::now() + core.config.verdict_wait;
    let collected = clients
        .iter_mut()
        .map(|client| collect(client, wait, until));
    let answers = futures_util::future::try_join_all(collected).await?;
    let vectors = answers.into_iter().flat_map(|answer| answer.vectors);
    Ok(EmbeddingAnswer::new(
        &model.name,
        vectors,
        request.base64,
        prompt_tokens,
        verdicts(core, &clients),
    ))
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
