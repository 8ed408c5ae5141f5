//! A model file's chat template, and the messages it is given.

use std::time::{Duration, UNIX_EPOCH};

use infera_model::gguf::write::GgufBuilder;
use infera_model::{ChatMessage, ChatTemplate, Gguf, ModelError};

use crate::bytes::Bytes;

/// What a template may be given as source, in bytes.
const MOST_SOURCE: usize = 4096;

pub(crate) fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let messages: Vec<ChatMessage> = (0..bytes.up_to(3))
        .map(|_| {
            let role = bytes.of(&["user", "system", "assistant"]);
            ChatMessage::new(role, bytes.text(20))
        })
        .collect();
    let now = UNIX_EPOCH + Duration::from_secs(u64::from(bytes.u32()) * u64::from(bytes.u8()));
    let add_generation_prompt = bytes.bool();
    let source = bytes.rest();
    if source.len() > MOST_SOURCE {
        return;
    }
    let file = GgufBuilder::new()
        .strings("tokenizer.ggml.tokens", &["<s>", "</s>"])
        .u32("tokenizer.ggml.bos_token_id", 0)
        .u32("tokenizer.ggml.eos_token_id", 1)
        .str("tokenizer.chat_template", &String::from_utf8_lossy(source));
    let Ok(gguf) = Gguf::from_bytes(file.build(), "fuzz.gguf") else {
        panic!("the file is right");
    };
    match ChatTemplate::from_gguf(&gguf) {
        Ok(template) => check(&template.render(&messages, add_generation_prompt, now)),
        Err(error) => check(&Err(error)),
    }
}

/// What goes wrong is told in one short sentence.
fn check(outcome: &Result<String, ModelError>) {
    if let Err(error) = outcome {
        assert!(
            matches!(
                error,
                ModelError::BadTemplate { .. } | ModelError::MessagesRefused { .. }
            ),
            "{error}"
        );
        assert!(error.to_string().len() < 4096, "{error}");
    }
}
