//! Errors in `OpenAI`'s format. Their beginnings are `OpenAI`'s own words where client libraries look
//! for them to tell one kind of error from another.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// An error in `OpenAI`'s format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    pub status: StatusCode,
    /// `OpenAI`'s `type`.
    pub kind: &'static str,
    pub code: Option<&'static str>,
    pub param: Option<String>,
    pub message: String,
    pub retry_after_s: Option<u64>,
    /// What there is of an answer that broke off: the client gets it, and pays for what of it passes.
    pub partial: Option<Box<str>>,
}

impl ApiError {
    pub(crate) fn invalid(param: Option<&str>, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            kind: "invalid_request_error",
            code: None,
            param: param.map(str::to_owned),
            message: message.into(),
            retry_after_s: None,
            partial: None,
        }
    }

    /// A parameter that would change the answer.
    pub(crate) fn unsupported(name: &str) -> Self {
        Self {
            code: Some("unsupported_parameter"),
            ..Self::invalid(
                Some(name),
                format!(
                    "`{name}` is not supported here, and the answer would not be what it asks for. Leave it out"
                ),
            )
        }
    }

    /// A parameter that this program does not know.
    pub(crate) fn unknown_parameter(name: &str) -> Self {
        let name: String = name.chars().take(64).collect();
        Self {
            code: Some("unknown_parameter"),
            ..Self::invalid(
                Some(&name),
                format!(
                    "Unknown parameter: `{name}`. Nobody here knows whether it would change the answer. Leave it out"
                ),
            )
        }
    }

    /// The same error with the text that came before it.
    pub(crate) fn with_partial(self, text: String) -> Self {
        Self {
            partial: (!text.is_empty()).then(|| text.into()),
            ..self
        }
    }

    pub(crate) fn key_missing() -> Self {
        Self::unauthorized(
            "You didn't provide an API key. Send it as `Authorization: Bearer sk-infera-...`",
        )
    }

    pub(crate) fn key_wrong() -> Self {
        Self::unauthorized(
            "Incorrect API key provided. Check it, or ask this network's operator for a new one",
        )
    }

    fn unauthorized(message: &str) -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            code: Some("invalid_api_key"),
            ..Self::invalid(None, message)
        }
    }

    pub(crate) fn model_not_found(model: &str) -> Self {
        let name: String = model.chars().take(100).collect();
        Self {
            status: StatusCode::NOT_FOUND,
            code: Some("model_not_found"),
            ..Self::invalid(
                Some("model"),
                format!(
                    "The model `{name}` does not exist here. GET /v1/models lists those that do"
                ),
            )
        }
    }

    /// The model exists, but not for this kind of request.
    pub(crate) fn wrong_model(model: &str, is: &str, path: &str) -> Self {
        Self {
            code: Some("model_not_supported"),
            ..Self::invalid(
                Some("model"),
                format!("The model `{model}` {is}. Ask it at {path}, or choose another model"),
            )
        }
    }

    pub(crate) fn not_found(message: &str) -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            code: Some("not_found"),
            ..Self::invalid(None, message)
        }
    }

    /// Prompt and answer together go beyond the context. `prompt` is `None` where it was not read
    /// to its end, `completion` where the prompt alone leaves no room.
    pub(crate) fn context_exceeded(
        context: u32,
        prompt: Option<usize>,
        completion: Option<u32>,
    ) -> Self {
        let asked = match (prompt, completion) {
            (Some(prompt), Some(completion)) => format!(
                "your prompt has {prompt}, and `max_tokens` asks for {completion}. Shorten the prompt or lower `max_tokens`"
            ),
            (Some(prompt), None) => format!(
                "your prompt has {prompt} and leaves no room for an answer. Shorten the prompt"
            ),
            (None, _) => "your prompt has more. Shorten the prompt".to_owned(),
        };
        Self::too_long(Some("messages"), context, &asked)
    }

    /// A text to embed, counted from 0, is longer than the model's context. A text that is far
    /// too long was not read to its end, so nobody knows how long it is.
    pub(crate) fn text_too_long(context: u32, text: usize, tokens: Option<usize>) -> Self {
        let tokens = tokens.map_or_else(|| "more".to_owned(), |tokens| tokens.to_string());
        let asked = format!("text {text} of `input` has {tokens}. Split or shorten it");
        Self::too_long(Some("input"), context, &asked)
    }

    fn too_long(param: Option<&str>, context: u32, asked: &str) -> Self {
        Self {
            code: Some("context_length_exceeded"),
            ..Self::invalid(
                param,
                format!("This model's maximum context length is {context} tokens; {asked}"),
            )
        }
    }

    pub(crate) fn too_large() -> Self {
        Self {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            code: Some("request_too_large"),
            ..Self::invalid(None, "The request body is over the limit of 4 MB")
        }
    }

    pub(crate) fn too_many(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            kind: code,
            code: Some(code),
            param: None,
            message: message.into(),
            retry_after_s: Some(1),
            partial: None,
        }
    }

    pub(crate) fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            kind: "server_error",
            code: Some(code),
            param: None,
            message: message.into(),
            retry_after_s: Some(5),
            partial: None,
        }
    }

    pub(crate) fn server(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            kind: "server_error",
            code: None,
            param: None,
            message: message.into(),
            retry_after_s: None,
            partial: None,
        }
    }

    pub(crate) fn body(&self) -> Value {
        let mut body = json!({ "error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }});
        if let Some(text) = &self.partial {
            body["infera"] = json!({ "partial": text });
        }
        body
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.body())).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
