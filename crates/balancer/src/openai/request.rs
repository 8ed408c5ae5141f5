//! The `OpenAI` request format, checked: what is wrong is named.

use infera_model::ChatMessage;
use infera_protocol::{MAX_TOP_K, Route, Sampling};
use serde_json::{Map, Value};

use super::ApiError;
use super::parameters::{self, Endpoint};

/// The most answers one request may ask for.
const MAX_CHOICES: usize = 8;
/// The most stop strings, and the longest.
const MAX_STOPS: usize = 16;
const MAX_STOP_BYTES: usize = 256;
/// The most prompts in one request.
const MAX_PROMPTS: usize = 64;
/// The most texts to embed in one request.
const MAX_TEXTS: usize = 256;

/// The second one pads chunks with noise, so that their length tells nothing; it says nothing about
/// the answer.
const STREAM_OPTIONS: &[&str] = &[
    "include_usage",
    "include_obfuscation",
    "continuous_usage_stats",
];

/// A request to generate text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Request {
    pub model: String,
    pub input: Input,
    /// How many answers to each prompt.
    pub choices: usize,
    pub max_tokens: Option<u32>,
    pub sampling: Sampling,
    pub seed: Option<i64>,
    pub stop: Vec<String>,
    pub logprobs: Option<u8>,
    pub stream: bool,
    pub include_usage: bool,
    /// Answer only when verified.
    pub wait: bool,
    /// Do not delete the text.
    pub keep: bool,
    /// Where it may go; none for where its key says.
    pub route: Option<Route>,
}

/// A request to turn texts into vectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EmbeddingRequest {
    pub model: String,
    pub input: Vec<Prompt>,
    /// The vectors as base64 of little-endian `f32` values, not as lists of numbers.
    pub base64: bool,
    /// Answer only when verified.
    pub wait: bool,
    /// Do not delete texts and vectors.
    pub keep: bool,
    /// Where it may go; none for where its key says.
    pub route: Option<Route>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Input {
    Chat(Vec<ChatMessage>),
    Prompts(Vec<Prompt>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
}

/// Reads the body of `POST /v1/chat/completions`.
pub(crate) fn chat(body: &[u8]) -> Result<Request, ApiError> {
    let fields = Fields::parse(body, Endpoint::Chat)?;
    let messages = fields.messages()?;
    let asked = fields.bool("logprobs")?.unwrap_or(false);
    let top = fields.integer("top_logprobs", 0, 20)?;
    let logprobs = match (asked, top) {
        (true, top) => Some(top.unwrap_or(0) as u8),
        (false, None | Some(0)) => None,
        (false, Some(_)) => {
            return Err(ApiError::invalid(
                Some("top_logprobs"),
                "`top_logprobs` needs `logprobs` to be true",
            ));
        }
    };
    fields.request(Input::Chat(messages), logprobs)
}

/// Reads the body of `POST /v1/completions`.
pub(crate) fn completion(body: &[u8]) -> Result<Request, ApiError> {
    let fields = Fields::parse(body, Endpoint::Completions)?;
    let prompts = fields.prompts("prompt", MAX_PROMPTS)?;
    let logprobs = fields.integer("logprobs", 0, 5)?.map(|top| top as u8);
    fields.request(Input::Prompts(prompts), logprobs)
}

/// Reads the body of `POST /v1/embeddings`.
pub(crate) fn embeddings(body: &[u8]) -> Result<EmbeddingRequest, ApiError> {
    let fields = Fields::parse(body, Endpoint::Embeddings)?;
    let base64 = match fields.get("encoding_format").map(Value::as_str) {
        None | Some(Some("float")) => false,
        Some(Some("base64")) => true,
        Some(_) => return Err(wrong("encoding_format", "`float` or `base64`")),
    };
    let Extra { wait, keep, route } = fields.extra()?;
    Ok(EmbeddingRequest {
        model: fields.model()?,
        input: fields.prompts("input", MAX_TEXTS)?,
        base64,
        wait,
        keep,
        route,
    })
}

/// What this network adds to a request: whether to wait for the verdict, to keep the text, and
/// where it may go.
struct Extra {
    wait: bool,
    keep: bool,
    route: Option<Route>,
}

/// A JSON object; fields that are `null` count as absent.
struct Fields(Map<String, Value>);

impl Fields {
    fn parse(body: &[u8], endpoint: Endpoint) -> Result<Self, ApiError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => {
                parameters::check(&fields, endpoint)?;
                Ok(Self(fields))
            }
            Ok(_) => Err(ApiError::invalid(
                None,
                "The request body must be a JSON object",
            )),
            Err(error) => Err(ApiError::invalid(
                None,
                format!(
                    "The request body is not valid JSON (line {}, column {})",
                    error.line(),
                    error.column()
                ),
            )),
        }
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn bool(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.get(name)
            .map(|value| value.as_bool().ok_or_else(|| wrong(name, "true or false")))
            .transpose()
    }

    fn number(&self, name: &str) -> Result<Option<f32>, ApiError> {
        self.get(name)
            .map(|value| {
                value
                    .as_f64()
                    .map(|number| number as f32)
                    .ok_or_else(|| wrong(name, "a number"))
            })
            .transpose()
    }

    fn integer(&self, name: &str, low: i64, high: i64) -> Result<Option<i64>, ApiError> {
        self.get(name)
            .map(|value| {
                value
                    .as_i64()
                    .filter(|number| (low..=high).contains(number))
                    .ok_or_else(|| wrong(name, &format!("an integer from {low} to {high}")))
            })
            .transpose()
    }

    fn model(&self) -> Result<String, ApiError> {
        match self.get("model") {
            Some(Value::String(model)) if !model.is_empty() => Ok(model.clone()),
            _ => Err(wrong("model", "the name of a model")),
        }
    }

    fn messages(&self) -> Result<Vec<ChatMessage>, ApiError> {
        let Some(Value::Array(items)) = self.get("messages") else {
            return Err(wrong("messages", "a list of messages"));
        };
        if items.is_empty() {
            return Err(ApiError::invalid(
                Some("messages"),
                "`messages` is empty: send at least one message",
            ));
        }
        items
            .iter()
            .enumerate()
            .map(|(index, item)| message(index, item))
            .collect()
    }

    /// One to `most` texts, each as such or as token ids.
    fn prompts(&self, name: &str, most: usize) -> Result<Vec<Prompt>, ApiError> {
        let expected = || wrong(name, "a text, a list of texts, or a list of token ids");
        let ids = |items: &[Value]| -> Option<Vec<u32>> {
            items
                .iter()
                .map(|item| item.as_u64().and_then(|id| u32::try_from(id).ok()))
                .collect()
        };
        let prompts = match self.get(name) {
            Some(Value::String(text)) => vec![Prompt::Text(text.clone())],
            Some(Value::Array(items)) if items.first().is_some_and(Value::is_number) => {
                vec![Prompt::Tokens(ids(items).ok_or_else(expected)?)]
            }
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| match item {
                    Value::String(text) => Ok(Prompt::Text(text.clone())),
                    Value::Array(items) => ids(items).map(Prompt::Tokens).ok_or_else(expected),
                    _ => Err(expected()),
                })
                .collect::<Result<_, _>>()?,
            _ => return Err(expected()),
        };
        if prompts.is_empty() || prompts.len() > most {
            return Err(ApiError::invalid(
                Some(name),
                format!(
                    "`{name}` must hold 1 to {most} texts, and holds {}",
                    prompts.len()
                ),
            ));
        }
        Ok(prompts)
    }

    fn stop(&self) -> Result<Vec<String>, ApiError> {
        let expected = || {
            wrong(
                "stop",
                &format!("a text or up to {MAX_STOPS} texts of 1 to {MAX_STOP_BYTES} bytes"),
            )
        };
        let stop: Vec<String> = match self.get("stop") {
            None => Vec::new(),
            Some(Value::String(text)) => vec![text.clone()],
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| item.as_str().map(str::to_owned).ok_or_else(expected))
                .collect::<Result<_, _>>()?,
            Some(_) => return Err(expected()),
        };
        let fits = |text: &String| (1..=MAX_STOP_BYTES).contains(&text.len());
        if stop.len() > MAX_STOPS || !stop.iter().all(fits) {
            return Err(expected());
        }
        Ok(stop)
    }

    fn sampling(&self) -> Result<Sampling, ApiError> {
        let top_k = match self.get("top_k").map(Value::as_i64) {
            // Other servers take 0 and -1 for "all"; here that is the most there is.
            None | Some(Some(-1 | 0)) => MAX_TOP_K,
            Some(Some(value)) => u32::try_from(value).unwrap_or(0),
            Some(None) => return Err(wrong("top_k", "an integer")),
        };
        let sampling = Sampling {
            temperature: self.number("temperature")?.unwrap_or(1.0),
            top_k,
            top_p: self.number("top_p")?.unwrap_or(1.0),
            min_p: self.number("min_p")?.unwrap_or(0.0),
        };
        sampling
            .validate()
            .map_err(|fault| ApiError::invalid(Some(fault.name), fault.to_string()))?;
        Ok(sampling)
    }

    fn max_tokens(&self) -> Result<Option<u32>, ApiError> {
        let high = i64::from(u32::MAX);
        let newer = self.integer("max_completion_tokens", 1, high)?;
        let older = self.integer("max_tokens", 1, high)?;
        Ok(newer.or(older).map(|tokens| tokens as u32))
    }

    /// An object that has no other fields than `known`.
    fn object(&self, name: &str, known: &[&str]) -> Result<Option<Self>, ApiError> {
        let fields = match self.get(name) {
            None => return Ok(None),
            Some(Value::Object(fields)) => fields,
            Some(_) => return Err(wrong(name, "an object")),
        };
        match fields.keys().find(|field| !known.contains(&field.as_str())) {
            Some(field) => Err(ApiError::unknown_parameter(&format!("{name}.{field}"))),
            None => Ok(Some(Self(fields.clone()))),
        }
    }

    fn extra(&self) -> Result<Extra, ApiError> {
        let extra = self
            .object("infera", &["wait", "keep", "route"])?
            .unwrap_or(Self(Map::new()));
        let set = |name| Ok::<_, ApiError>(extra.bool(name)?.unwrap_or(false));
        let route = match extra.get("route").map(Value::as_str) {
            None => None,
            Some(word) => {
                let route = word.and_then(|word| word.parse().ok());
                Some(route.ok_or_else(|| wrong("infera.route", "`own`, `trusted` or `any`"))?)
            }
        };
        Ok(Extra {
            wait: set("wait")?,
            keep: set("keep")?,
            route,
        })
    }

    fn request(&self, input: Input, logprobs: Option<u8>) -> Result<Request, ApiError> {
        let stream = self.bool("stream")?.unwrap_or(false);
        let include_usage = match self.object("stream_options", STREAM_OPTIONS)? {
            Some(options) if stream => options.bool("include_usage")?.unwrap_or(false),
            Some(_) => {
                return Err(ApiError::invalid(
                    Some("stream_options"),
                    "`stream_options` needs `stream` to be true",
                ));
            }
            None => false,
        };
        let Extra { wait, keep, route } = self.extra()?;
        let choices = self.integer("n", 1, MAX_CHOICES as i64)?.unwrap_or(1) as usize;
        Ok(Request {
            model: self.model()?,
            input,
            choices,
            max_tokens: self.max_tokens()?,
            sampling: self.sampling()?,
            // Other servers take -1 for a seed by lot.
            seed: self
                .integer("seed", i64::MIN, i64::MAX)?
                .filter(|seed| *seed != -1),
            stop: self.stop()?,
            logprobs,
            stream,
            include_usage,
            wait,
            keep,
            route,
        })
    }
}

fn wrong(name: &str, expected: &str) -> ApiError {
    ApiError::invalid(Some(name), format!("`{name}` must be {expected}"))
}

fn message(index: usize, item: &Value) -> Result<ChatMessage, ApiError> {
    let name = |field: &str| format!("messages[{index}].{field}");
    let Some(fields) = item.as_object() else {
        return Err(wrong(&format!("messages[{index}]"), "an object"));
    };
    let role = match item.get("role").and_then(Value::as_str) {
        Some("system" | "developer") => "system",
        Some("user") => "user",
        Some("assistant") => "assistant",
        Some("tool" | "function") => return Err(ApiError::unsupported(&name("role"))),
        _ => {
            return Err(wrong(
                &name("role"),
                "`system`, `developer`, `user` or `assistant`",
            ));
        }
    };
    parameters::check_message(fields, index)?;
    let expected = || wrong(&name("content"), "a text or a list of text parts");
    let content = match item.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts
            .iter()
            .map(|part| {
                let text = part.get("text").and_then(Value::as_str);
                match (part.get("type").and_then(Value::as_str), text) {
                    (Some("text"), Some(text)) => Ok(text),
                    (Some("text"), None) | (None, _) => Err(expected()),
                    (Some(_), _) => Err(ApiError::unsupported(&name("content"))),
                }
            })
            .collect::<Result<String, _>>()?,
        // An assistant may have said nothing.
        None | Some(Value::Null) if role == "assistant" => String::new(),
        _ => return Err(expected()),
    };
    let author = match item.get("name") {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) => Some(name.clone()),
        Some(_) => return Err(wrong(&name("name"), "a text")),
    };
    Ok(ChatMessage {
        role: role.to_owned(),
        content,
        name: author,
    })
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use serde_json::json;

    use super::*;

    fn with(extra: &Value) -> Result<Request, ApiError> {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        chat(&merged(body, extra))
    }

    fn merged(mut body: Value, extra: &Value) -> Vec<u8> {
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        body.to_string().into_bytes()
    }

    fn completion_with(extra: &Value) -> Result<Request, ApiError> {
        let body = json!({"model": "m", "prompt": "hi"});
        completion(&merged(body, extra))
    }

    #[test]
    fn the_defaults_are_openais() {
        let request = with(&json!({})).unwrap();
        assert_eq!(request.choices, 1);
        assert_eq!(request.sampling.temperature.to_bits(), 1f32.to_bits());
        assert_eq!(request.max_tokens, None);
        assert!(!request.stream && !request.wait && !request.keep);
    }

    #[test]
    fn wrong_values_are_named() {
        let cases = [
            (json!({"messages": []}), "messages"),
            (json!({"messages": "hi"}), "messages"),
            (
                json!({"messages": [{"role": "king", "content": "x"}]}),
                "messages[0].role",
            ),
            (
                json!({"messages": [{"role": "user"}]}),
                "messages[0].content",
            ),
            (
                json!({"messages": [{"role": "user", "content": 5}]}),
                "messages[0].content",
            ),
            (json!({"model": 5}), "model"),
            (json!({"model": ""}), "model"),
            (json!({"temperature": -1}), "temperature"),
            (json!({"temperature": 3}), "temperature"),
            (json!({"temperature": "hot"}), "temperature"),
            (json!({"temperature": 1e300}), "temperature"),
            (json!({"top_p": 0}), "top_p"),
            (json!({"top_p": -0.5}), "top_p"),
            (json!({"min_p": 2}), "min_p"),
            (json!({"top_k": 65}), "top_k"),
            (json!({"top_k": -5}), "top_k"),
            (json!({"top_k": 1.5}), "top_k"),
            (json!({"max_tokens": 0}), "max_tokens"),
            (json!({"max_tokens": -3}), "max_tokens"),
            (
                json!({"max_completion_tokens": 1.5}),
                "max_completion_tokens",
            ),
            (json!({"n": 0}), "n"),
            (json!({"n": 9}), "n"),
            (json!({"seed": "x"}), "seed"),
            (json!({"stop": vec!["a"; 17]}), "stop"),
            (json!({"stop": ""}), "stop"),
            (json!({"stop": [5]}), "stop"),
            (json!({"logprobs": 5}), "logprobs"),
            (json!({"top_logprobs": 5}), "top_logprobs"),
            (
                json!({"logprobs": true, "top_logprobs": 21}),
                "top_logprobs",
            ),
            (json!({"stream": "yes"}), "stream"),
            (
                json!({"stream_options": {"include_usage": true}}),
                "stream_options",
            ),
            (json!({"infera": 5}), "infera"),
            (json!({"infera": {"wait": "yes"}}), "wait"),
            (json!({"infera": {"route": "mine"}}), "infera.route"),
            (json!({"infera": {"route": 1}}), "infera.route"),
        ];
        for (extra, param) in cases {
            let error = with(&extra).expect_err(&extra.to_string());
            assert_eq!(error.status, StatusCode::BAD_REQUEST, "{extra}");
            assert_eq!(error.param.as_deref(), Some(param), "{extra}");
            assert!(error.message.contains(param), "{error}");
        }
    }

    #[test]
    fn what_would_change_the_answer_is_refused_by_name() {
        let cases = [
            (json!({"tools": [{"type": "function"}]}), "tools"),
            (
                json!({"messages": [{"role": "tool", "content": "x"}]}),
                "messages[0].role",
            ),
            (
                json!({"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]}),
                "messages[0].tool_calls",
            ),
            (
                json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}),
                "messages[0].content",
            ),
        ];
        for (extra, param) in cases {
            let error = with(&extra).expect_err(&extra.to_string());
            assert_eq!(error.code, Some("unsupported_parameter"), "{extra}");
            assert_eq!(error.param.as_deref(), Some(param), "{extra}");
        }
    }

    #[test]
    fn unknown_fields_are_named_wherever_they_are() {
        for (extra, param) in [
            (json!({"temprature": 0}), "temprature"),
            (json!({"infera": {"wiat": true}}), "infera.wiat"),
            (
                json!({"stream": true, "stream_options": {"usage": true}}),
                "stream_options.usage",
            ),
            (
                json!({"messages": [{"role": "user", "content": "a", "prefix": true}]}),
                "messages[0].prefix",
            ),
        ] {
            let error = with(&extra).unwrap_err();
            assert_eq!(error.code, Some("unknown_parameter"));
            assert_eq!(error.param.as_deref(), Some(param));
        }
    }

    #[test]
    fn what_other_servers_write_otherwise_is_understood() {
        assert_eq!(with(&json!({"seed": -1})).unwrap().seed, None);
        assert_eq!(with(&json!({"seed": -2})).unwrap().seed, Some(-2));
        let stops: Vec<_> = (0..16).map(|stop| stop.to_string()).collect();
        assert_eq!(with(&json!({"stop": stops})).unwrap().stop, stops);
        let request = with(&json!({"messages": [
            {"role": "user", "content": "a", "name": "Ann"},
            {"role": "assistant", "content": null},
            {"role": "assistant"},
        ]}));
        let Input::Chat(messages) = request.unwrap().input else {
            panic!("chat")
        };
        let nothing = ChatMessage::new("assistant", "");
        let said = ChatMessage {
            name: Some("Ann".to_owned()),
            ..ChatMessage::new("user", "a")
        };
        assert_eq!(messages, [said, nothing.clone(), nothing]);
    }

    #[test]
    fn contents_may_be_parts_and_developers_are_systems() {
        let request = with(&json!({"messages": [
            {"role": "developer", "content": "be kind"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        ]}))
        .unwrap();
        let Input::Chat(messages) = request.input else {
            panic!("chat")
        };
        assert_eq!(messages[0].role, "system");
        assert_eq!(messages[1].content, "ab");
    }

    #[test]
    fn prompts_come_in_four_shapes() {
        let text = |text: &str| Prompt::Text(text.to_owned());
        let cases = [
            (json!("a"), vec![text("a")]),
            (json!(["a", "b"]), vec![text("a"), text("b")]),
            (json!([1, 2]), vec![Prompt::Tokens(vec![1, 2])]),
            (
                json!([[1], [2]]),
                vec![Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2])],
            ),
        ];
        for (prompt, expected) in cases {
            let request = completion_with(&json!({"prompt": prompt})).unwrap();
            assert_eq!(request.input, Input::Prompts(expected));
        }
        for prompt in [
            json!([]),
            json!(5),
            json!([-1]),
            json!([1, "a"]),
            json!([{}]),
        ] {
            let error = completion_with(&json!({"prompt": prompt})).unwrap_err();
            assert_eq!(error.param.as_deref(), Some("prompt"));
        }
    }

    fn embeddings_with(extra: &Value) -> Result<EmbeddingRequest, ApiError> {
        let body = json!({"model": "m", "input": "hi"});
        embeddings(&merged(body, extra))
    }

    #[test]
    fn texts_to_embed_come_in_four_shapes() {
        let text = |text: &str| Prompt::Text(text.to_owned());
        let cases = [
            (json!("a"), vec![text("a")]),
            (json!(["a", "b"]), vec![text("a"), text("b")]),
            (json!([1, 2]), vec![Prompt::Tokens(vec![1, 2])]),
            (
                json!([[1], [2, 3]]),
                vec![Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2, 3])],
            ),
            (json!(vec!["a"; 256]), vec![text("a"); 256]),
        ];
        for (input, expected) in cases {
            let request = embeddings_with(&json!({"input": input})).unwrap();
            assert_eq!(request.input, expected);
            assert!(!request.base64 && !request.wait && !request.keep);
        }
    }

    #[test]
    fn embedding_requests_are_checked() {
        let request = embeddings_with(&json!({
            "encoding_format": "base64", "user": "u", "dimensions": null,
            "infera": {"wait": true, "keep": true},
        }))
        .unwrap();
        assert!(request.base64 && request.wait && request.keep);
        assert!(
            !embeddings_with(&json!({"encoding_format": "float"}))
                .unwrap()
                .base64
        );
        let cases = [
            (json!({"input": null}), "input"),
            (json!({"input": []}), "input"),
            (json!({"input": 5}), "input"),
            (json!({"input": [1, "a"]}), "input"),
            (json!({"input": [-1]}), "input"),
            (json!({"input": [[1.5]]}), "input"),
            (json!({"input": {"text": "a"}}), "input"),
            (json!({"input": vec!["a"; 257]}), "input"),
            (json!({"model": ""}), "model"),
            (json!({"encoding_format": "int8"}), "encoding_format"),
            (json!({"encoding_format": 4}), "encoding_format"),
            (json!({"dimensions": 256}), "dimensions"),
            (json!({"infera": {"wait": 1}}), "wait"),
        ];
        for (extra, param) in cases {
            let error = embeddings_with(&extra).expect_err(&extra.to_string());
            assert_eq!(error.status, StatusCode::BAD_REQUEST, "{extra}");
            assert_eq!(error.param.as_deref(), Some(param), "{extra}");
            assert!(error.message.contains(param), "{error}");
        }
    }

    #[test]
    fn broken_json_tells_where_and_never_echoes_the_body() {
        for body in [
            "",
            "{",
            "[]",
            "nonsense-secret",
            "{\"temperature\": NaN}",
            "{\"a\": 1e999}",
        ] {
            let error = chat(body.as_bytes()).unwrap_err();
            assert_eq!(error.status, StatusCode::BAD_REQUEST);
            assert!(!error.message.contains("secret"));
        }
    }

    #[test]
    fn logprobs_have_two_shapes() {
        let request = with(&json!({"logprobs": true, "top_logprobs": 3})).unwrap();
        assert_eq!(request.logprobs, Some(3));
        assert_eq!(with(&json!({"logprobs": true})).unwrap().logprobs, Some(0));
        assert_eq!(with(&json!({"logprobs": false})).unwrap().logprobs, None);
        assert_eq!(
            completion_with(&json!({"logprobs": 2})).unwrap().logprobs,
            Some(2)
        );
        assert!(completion_with(&json!({"logprobs": 6})).is_err());
    }
}
