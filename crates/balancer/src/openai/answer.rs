//! Answers in `OpenAI`'s format: whole ones, chunks of streams, and log probabilities.

use std::collections::VecDeque;
use std::sync::Arc;

use infera_model::{StreamDecoder, Tokenizer};
use infera_protocol::{FinishReason, TokenOutput, Vector};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// The two shapes of written answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Chat,
    Text,
}

/// What all chunks or the whole of an answer have in common.
pub(crate) struct Envelope {
    pub shape: Shape,
    pub id: String,
    pub created_s: i64,
    pub model: String,
    /// Tokens of all prompts, each once.
    pub prompt_tokens: usize,
    /// Whether chunks tell that the usage comes last.
    pub include_usage: bool,
}

/// One finished answer.
pub(crate) struct Choice {
    pub text: String,
    pub logprobs: Value,
    pub finish: Option<FinishReason>,
}

/// What a chunk adds to a choice.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Delta<'a> {
    /// Nothing yet; names the role.
    Begin,
    Text(&'a str, &'a Value),
    End(FinishReason),
}

impl Envelope {
    pub(crate) fn whole(&self, choices: &[Choice], tokens: usize) -> Value {
        let choices: Vec<_> = (0..)
            .zip(choices)
            .map(|(index, choice): (usize, _)| {
                let mut written = json!({
                    "index": index,
                    "logprobs": choice.logprobs,
                    "finish_reason": choice.finish.map(finish_name),
                });
                match self.shape {
                    Shape::Chat => {
                        written["message"] = json!({
                            "role": "assistant",
                            "content": choice.text,
                            "refusal": null,
                        });
                    }
                    Shape::Text => written["text"] = json!(choice.text),
                }
                written
            })
            .collect();
        json!({
            "id": self.id,
            "object": match self.shape {
                Shape::Chat => "chat.completion",
                Shape::Text => "text_completion",
            },
            "created": self.created_s,
            "model": self.model,
            "choices": choices,
            "usage": self.usage(tokens),
        })
    }

    /// A chunk for one choice, or for none.
    pub(crate) fn chunk(&self, choice: Option<(usize, Delta<'_>)>) -> Value {
        let choices: Vec<_> = choice
            .map(|(index, delta)| self.delta(index, delta))
            .into_iter()
            .collect();
        let mut chunk = json!({
            "id": self.id,
            "object": match self.shape {
                Shape::Chat => "chat.completion.chunk",
                Shape::Text => "text_completion",
            },
            "created": self.created_s,
            "model": self.model,
            "choices": choices,
        });
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    pub(crate) fn usage(&self, completion_tokens: usize) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": self.prompt_tokens + completion_tokens,
        })
    }

    fn delta(&self, index: usize, delta: Delta<'_>) -> Value {
        let (text, logprobs, finish) = match delta {
            Delta::Begin => (Some(""), &Value::Null, None),
            Delta::Text(text, logprobs) => (Some(text), logprobs, None),
            Delta::End(reason) => (None, &Value::Null, Some(finish_name(reason))),
        };
        match self.shape {
            Shape::Text => json!({
                "index": index,
                "text": text.unwrap_or_default(),
                "logprobs": logprobs,
                "finish_reason": finish,
            }),
            Shape::Chat => {
                let mut content = text.map_or_else(|| json!({}), |text| json!({"content": text}));
                if let Delta::Begin = delta {
                    content["role"] = json!("assistant");
                }
                json!({
                    "index": index,
                    "delta": content,
                    "logprobs": logprobs,
                    "finish_reason": finish,
                })
            }
        }
    }
}

/// The tokens of an answer on their way to its log probabilities. Each is given out with the text
/// that it begins, and never when a stop string took that text away.
pub(crate) struct TokenLog {
    tokenizer: Arc<Tokenizer>,
    decoder: StreamDecoder,
    shape: Shape,
    /// Characters of the tokens' text, and of the text that was sent.
    decoded: usize,
    sent: usize,
    /// With the place where each begins.
    held: VecDeque<(usize, TokenOutput)>,
}

impl TokenLog {
    /// For an answer that follows `prompt`.
    pub(crate) fn new(tokenizer: &Arc<Tokenizer>, prompt: &[u32], shape: Shape) -> Self {
        Self {
            decoder: StreamDecoder::after(Arc::clone(tokenizer), prompt),
            tokenizer: Arc::clone(tokenizer),
            shape,
            decoded: 0,
            sent: 0,
            held: VecDeque::new(),
        }
    }

    /// Takes what has arrived: tokens, and the text that may be sent. Gives the log probabilities
    /// that belong to it, null when there are none.
    pub(crate) fn push(&mut self, text: &str, tokens: Vec<TokenOutput>) -> Value {
        for token in tokens {
            let begins = self.decoded;
            self.decoded += self.decoder.push(token.id).chars().count();
            if !self.tokenizer.is_end(token.id) {
                self.held.push_back((begins, token));
            }
        }
        self.sent += text.chars().count();
        let ready = self
            .held
            .iter()
            .take_while(|(begins, _)| *begins < self.sent)
            .count();
        let ready: Vec<_> = self.held.drain(..ready).collect();
        self.written(&ready)
    }

    /// The end of the answer: what is left.
    pub(crate) fn end(&mut self, reason: FinishReason) -> Value {
        let left: Vec<_> = self.held.drain(..).collect();
        if reason == FinishReason::Stop {
            Value::Null
        } else {
            self.written(&left)
        }
    }

    fn written(&self, tokens: &[(usize, TokenOutput)]) -> Value {
        if tokens.is_empty() {
            return Value::Null;
        }
        match self.shape {
            Shape::Chat => {
                let content = tokens.iter().map(|(_, token)| {
                    let mut entry = self.entry(token.id, token.logprob);
                    let top = token.alternatives.iter();
                    entry["top_logprobs"] = top
                        .map(|(id, value)| self.entry(*id, Some(*value)))
                        .collect();
                    entry
                });
                json!({"content": content.collect::<Vec<_>>(), "refusal": null})
            }
            Shape::Text => {
                let (mut names, mut logprobs, mut top, mut offsets) =
                    (Vec::new(), Vec::new(), Vec::new(), Vec::new());
                for (begins, token) in tokens {
                    names.push(self.name(token.id));
                    logprobs.push(token.logprob);
                    top.push(self.alternatives(token));
                    offsets.push(*begins);
                }
                json!({
                    "tokens": names,
                    "token_logprobs": logprobs,
                    "top_logprobs": top,
                    "text_offset": offsets,
                })
            }
        }
    }

    /// By name. The token itself is among them, as in `OpenAI`'s answers.
    fn alternatives(&self, token: &TokenOutput) -> Value {
        let own = token.logprob.map(|value| (token.id, value));
        let mut entries = Map::new();
        for (id, value) in token.alternatives.iter().copied().chain(own) {
            // Two tokens may have the same text: the likelier one comes first.
            entries.entry(self.name(id)).or_insert_with(|| json!(value));
        }
        Value::Object(entries)
    }

    fn entry(&self, id: u32, value: Option<f32>) -> Value {
        json!({
            "token": self.name(id),
            "logprob": value,
            "bytes": self.tokenizer.token_bytes(id),
        })
    }

    /// A token's text; of a piece of a character its bytes, by which pieces are told apart.
    fn name(&self, id: u32) -> String {
        let bytes = self.tokenizer.token_bytes(id);
        String::from_utf8(bytes).unwrap_or_else(|fault| {
            let bytes = fault.as_bytes().iter();
            let escaped = bytes.map(|byte| format!("\\x{byte:02x}"));
            format!("bytes:{}", escaped.collect::<String>())
        })
    }
}

/// Joins the log probabilities of one answer's parts.
pub(crate) fn joined(parts: impl IntoIterator<Item = Value>) -> Value {
    let mut whole = Value::Null;
    for part in parts {
        match (&mut whole, part) {
            (_, Value::Null) => {}
            (Value::Object(whole), Value::Object(part)) => {
                for (name, more) in part {
                    if let (Some(Value::Array(items)), Value::Array(more)) =
                        (whole.get_mut(&name), more)
                    {
                        items.extend(more);
                    }
                }
            }
            (whole, part) => *whole = part,
        }
    }
    whole
}

/// No [`Value`]: that would write every `f32` with the digits of an `f64`.
#[derive(Serialize)]
pub(crate) struct EmbeddingAnswer {
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

impl EmbeddingAnswer {
    pub(crate) fn new(
        model: &str,
        vectors: impl Iterator<Item = Vector>,
        base64: bool,
        prompt_tokens: usize,
        infera: Value,
    ) -> Self {
        let data = (0..).zip(vectors).map(|(index, vector)| EmbeddingData {
            object: "embedding",
            index,
            embedding: if base64 {
                Numbers::Base64(vector)
            } else {
                Numbers::List(vector.0)
            },
        });
        Self {
            object: "list",
            data: data.collect(),
            model: model.to_owned(),
            usage: json!({"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}),
            infera,
        }
    }
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use infera_model::{Gguf, Head};

    use super::*;

    fn tokenizer() -> Arc<Tokenizer> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/model/tiny-llama.gguf");
        let head = Head::from_gguf(&Gguf::open(&file).unwrap()).unwrap();
        Arc::clone(head.tokenizer())
    }

    fn token(id: u32, alternatives: &[(u32, f32)]) -> TokenOutput {
        TokenOutput {
            id,
            logprob: Some(-0.5),
            alternatives: alternatives.to_vec(),
        }
    }

    /// A text of three characters of which the second one is made of four tokens, and where each
    /// token begins.
    fn pieces(tokenizer: &Tokenizer) -> (&'static str, Vec<TokenOutput>, Vec<usize>) {
        let text = "a\u{1F1EB}b";
        // A prompt that ends in a letter: what follows begins with no space of the model's own.
        let ids = tokenizer.encode("<s>a\u{1F1EB}b", true);
        let ids = &ids[ids.len() - 6..];
        assert_eq!(tokenizer.decode(&[ids[0]], ids), text);
        let tokens = ids.iter().map(|id| token(*id, &[])).collect();
        (text, tokens, vec![0, 1, 1, 1, 1, 2])
    }

    #[test]
    fn offsets_count_characters_and_stay_within_the_text_however_it_comes() {
        let tokenizer = tokenizer();
        let (text, tokens, offsets) = pieces(&tokenizer);
        let prompt = [tokens[0].id];
        let log = || TokenLog::new(&tokenizer, &prompt, Shape::Text);
        let mut at_once = log();
        let first = at_once.push(text, tokens.clone());
        let whole = joined([first, at_once.end(FinishReason::Length)]);
        assert_eq!(whole["text_offset"], json!(offsets));
        let mut streamed = log();
        let mut decoder = StreamDecoder::after(Arc::clone(&tokenizer), &prompt);
        let mut parts = Vec::new();
        for token in tokens {
            let text = decoder.push(token.id);
            let part = streamed.push(&text, vec![token]);
            assert_eq!(
                part.is_null(),
                text.is_empty(),
                "with the text that it begins"
            );
            parts.push(part);
        }
        parts.push(streamed.end(FinishReason::Length));
        assert_eq!(joined(parts), whole);
    }

    #[test]
    fn what_a_stop_string_took_away_is_in_no_list() {
        let tokenizer = tokenizer();
        let (_, tokens, _) = pieces(&tokenizer);
        let mut log = TokenLog::new(&tokenizer, &[tokens[0].id], Shape::Text);
        let part = log.push("a", tokens.clone());
        assert_eq!(part["text_offset"], json!([0]));
        assert_eq!(log.end(FinishReason::Stop), Value::Null);
        // Where no stop string was met, a piece without text is listed too.
        let mut log = TokenLog::new(&tokenizer, &[tokens[0].id], Shape::Chat);
        log.push("a", tokens[..2].to_vec());
        let last = log.end(FinishReason::Length);
        assert_eq!(last["content"].as_array().unwrap().len(), 1);
        assert_eq!(last["content"][0]["token"], "bytes:\\xf0");
    }

    #[test]
    fn each_alternative_has_its_own_name() {
        let tokenizer = tokenizer();
        let (_, tokens, _) = pieces(&tokenizer);
        let ids: Vec<_> = tokens[1..5].iter().map(|token| token.id).collect();
        let alternatives: Vec<_> = ids.iter().map(|id| (*id, -1.0)).collect();
        let mut log = TokenLog::new(&tokenizer, &[tokens[0].id], Shape::Text);
        let part = log.push("a", vec![token(tokens[0].id, &alternatives)]);
        let mut names = vec!["a".to_owned()];
        names.extend(["f0", "9f", "87", "ab"].map(|byte| format!("bytes:\\x{byte}")));
        let top = part["top_logprobs"][0].as_object().unwrap();
        assert_eq!(top.len(), names.len(), "{top:?}");
        assert!(names.iter().all(|name| top.contains_key(name)), "{top:?}");
        assert_eq!(top["a"], -0.5, "the token itself is among them");
    }
}
