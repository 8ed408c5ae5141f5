//! Requests of clients, from any bytes.

use infera_protocol::{MAX_TOP_K, Sampling};

use requests::{ApiError, Input, Prompt};

// The file itself, and not the crate: a build with coverage of SQLite and TLS takes many minutes
// and tells nothing.
#[path = "../../../crates/balancer/src/openai/mod.rs"]
#[expect(dead_code, reason = "its other parts are for the balancer")]
mod requests;

pub(crate) fn run(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else {
        return;
    };
    match kind % 3 {
        0 => generate(requests::chat(body), true),
        1 => generate(requests::completion(body), false),
        _ => embed(requests::embeddings(body)),
    }
}

fn generate(request: Result<requests::Request, ApiError>, chat: bool) {
    let request = match request {
        Ok(request) => request,
        Err(error) => return refused(&error),
    };
    assert!(!request.model.is_empty());
    assert!((1..=8).contains(&request.choices));
    assert_ne!(request.max_tokens, Some(0));
    let Sampling { top_k, .. } = request.sampling;
    assert!(request.sampling.validate().is_ok() && top_k <= MAX_TOP_K);
    assert!(request.stop.len() <= 16);
    let fits = |stop: &String| (1..=256).contains(&stop.len());
    assert!(request.stop.iter().all(fits));
    assert!(request.logprobs.is_none_or(|top| top <= 20));
    assert!(request.stream || !request.include_usage);
    match request.input {
        Input::Chat(messages) => {
            assert!(chat && !messages.is_empty());
            let known = ["system", "user", "assistant"];
            assert!(
                messages
                    .iter()
                    .all(|turn| known.contains(&turn.role.as_str()))
            );
        }
        Input::Prompts(prompts) => {
            assert!(!chat);
            count(&prompts, 64);
        }
    }
}

fn embed(request: Result<requests::EmbeddingRequest, ApiError>) {
    match request {
        Ok(request) => {
            assert!(!request.model.is_empty());
            count(&request.input, 256);
        }
        Err(error) => refused(&error),
    }
}

fn count(prompts: &[Prompt], most: usize) {
    assert!((1..=most).contains(&prompts.len()));
}

/// It is the client's fault, in a short sentence, and without the client's text.
fn refused(error: &ApiError) {
    assert_eq!(error.status.as_u16(), 400, "{error}");
    assert!(error.message.len() < 400, "{error}");
    assert!(error.body().is_object());
}
