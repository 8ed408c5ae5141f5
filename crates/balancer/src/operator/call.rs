//! Who calls, and what a call is answered with when it cannot be done.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::Instant;

use super::keys::{self, OperatorKey};
use crate::address;
use crate::body::{BodyFault, Caller, Received, discard};
use crate::catalog::CatalogError;
use crate::client_http::bearer;
use crate::db::DbError;
use crate::dispatch::Core;
use crate::invitations::InvitationError;
use crate::keys::KeyError;

/// Another site's page cannot send it without being asked for leave first, which nobody here gives.
pub(super) const HEADER: &str = "x-infera-operator";
const COOKIE: &str = "infera_operator";
const MAX_BODY_BYTES: usize = 16 << 10;

/// Why a call was not done, as JSON: a word for programs and a sentence for people.
#[derive(Debug)]
pub(super) struct Fault {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry_after: Option<Duration>,
}

impl Fault {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", message)
    }

    pub(super) fn unknown(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "unknown", message)
    }

    pub(super) fn signed_out() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "signed_out",
            "Nobody is signed in. Open the operator's page and sign in with an operator's key, or send the key as `Authorization: Bearer`",
        )
    }

    fn wrong_key() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "wrong_key",
            "That is no operator's key in use here. `infera-balancer operator list` shows those there are, and `operator create NAME` makes one",
        )
    }

    fn too_many_tries(wait: Duration) -> Self {
        let minutes = wait.as_secs().div_ceil(60).max(1);
        Self {
            retry_after: Some(wait),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_tries",
                format!(
                    "Too many wrong keys were tried from this address. Try again in {minutes} min"
                ),
            )
        }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let body = Json(json!({"code": self.code, "message": self.message}));
        let mut response = (self.status, body).into_response();
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs().max(1);
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<DbError> for Fault {
    fn from(error: DbError) -> Self {
        tracing::error!(%error, "the database refused");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            format!("The database does not take it now. {error}"),
        )
    }
}

impl From<KeyError> for Fault {
    fn from(error: KeyError) -> Self {
        let (status, code) = match &error {
            KeyError::NameTaken(_) => (StatusCode::CONFLICT, "name_taken"),
            KeyError::Unknown(_) => (StatusCode::NOT_FOUND, "unknown"),
            KeyError::BadName => (StatusCode::BAD_REQUEST, "bad_name"),
            KeyError::Database(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<InvitationError> for Fault {
    fn from(error: InvitationError) -> Self {
        let (status, code) = match &error {
            InvitationError::BadLabel => (StatusCode::BAD_REQUEST, "bad_label"),
            InvitationError::NoSuch(_) => (StatusCode::NOT_FOUND, "unknown"),
            InvitationError::Database(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<CatalogError> for Fault {
    fn from(error: CatalogError) -> Self {
        let (status, code) = match &error {
            CatalogError::Unknown(_) => (StatusCode::NOT_FOUND, "unknown"),
            CatalogError::NegativePrice | CatalogError::PriceTooHigh => {
                (StatusCode::BAD_REQUEST, "bad_price")
            }
            _ => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        };
        Self::new(status, code, error.to_string())
    }
}

/// An operator who has shown a key that is in use, with the call or when signing in.
#[derive(Debug)]
pub(super) struct Operator {
    /// The key's name.
    pub name: String,
}

impl FromRequestParts<Arc<Core>> for Operator {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, core: &Arc<Core>) -> Result<Self, Fault> {
        let sent = parts.headers.get(header::AUTHORIZATION);
        if let Some(sent) = sent {
            let key = sent.to_str().ok().and_then(bearer);
            let key = check(core, parts, key.unwrap_or_default()).await?;
            return Ok(Self { name: key.name });
        }
        let token = token(&parts.headers).ok_or_else(Fault::signed_out)?;
        let key = core.operators.find(token, Instant::now());
        let key = key.ok_or_else(Fault::signed_out)?;
        if !keys::is_in_use(&core.database, key.id).await? {
            core.operators.close_all(key.id);
            return Err(Fault::signed_out());
        }
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            comes_from_here(parts)?;
        }
        Ok(Self { name: key.name })
    }
}

/// An operator's call with a message.
pub(super) struct Asked<T> {
    pub operator: Operator,
    pub message: T,
}

impl<T: DeserializeOwned> FromRequest<Arc<Core>> for Asked<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, core: &Arc<Core>) -> Result<Self, Fault> {
        let (mut parts, body) = request.into_parts();
        let operator = match Operator::from_request_parts(&mut parts, core).await {
            Ok(operator) => operator,
            Err(fault) => {
                discard(body).await;
                return Err(fault);
            }
        };
        // No API key has a name with a space.
        let caller = Caller::Client(format!("operator {}", operator.name));
        let received = core.bodies.read(body, MAX_BODY_BYTES, caller).await;
        Ok(Self {
            operator,
            message: parse(&received.map_err(unread)?)?,
        })
    }
}

/// A call that says all by its path.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// Somebody who shows a key to sign in with.
pub(super) struct Knock<T> {
    pub parts: Parts,
    pub message: T,
}

impl<T: DeserializeOwned> FromRequest<Arc<Core>> for Knock<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, core: &Arc<Core>) -> Result<Self, Fault> {
        let (parts, body) = request.into_parts();
        if let Err(fault) = comes_from_here(&parts) {
            discard(body).await;
            return Err(fault);
        }
        let address = address::counted(address::of_client(&parts, &core.config));
        let received = core
            .bodies
            .read(body, MAX_BODY_BYTES, Caller::Stranger(address))
            .await;
        let message = parse(&received.map_err(unread)?)?;
        Ok(Self { parts, message })
    }
}

/// What stands behind `?`.
pub(super) struct Asking<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Core>> for Asking<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, core: &Arc<Core>) -> Result<Self, Fault> {
        let query: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, core).await;
        let Query(asked) = query.map_err(|fault| Fault::malformed(fault.body_text()))?;
        Ok(Self(asked))
    }
}

/// Whose key this is. Wrong ones are counted, and beyond a number none is looked at for a while.
pub(super) async fn check(core: &Core, parts: &Parts, key: &str) -> Result<OperatorKey, Fault> {
    let address = address::counted(address::of_client(parts, &core.config));
    let now = Instant::now();
    if let Some(wait) = core.operators.wait(address, now) {
        return Err(Fault::too_many_tries(wait));
    }
    let found = keys::find(&core.database, key, core.edges.now_ms()).await?;
    found.ok_or_else(|| {
        core.operators.count_wrong(address, now);
        Fault::wrong_key()
    })
}

/// The session's token.
pub(super) fn token(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, token)| token)
}

/// Keeps a token in the browser for so long; it comes back with calls of this API only, since a
/// cookie without a path is of the folder that set it.
pub(super) fn cookie(token: &str, life: Duration, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    let seconds = life.as_secs();
    format!("{COOKIE}={token}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

fn comes_from_here(parts: &Parts) -> Result<(), Fault> {
    if parts.headers.get(HEADER).is_some_and(|value| value == "1") {
        return Ok(());
    }
    Err(Fault::new(
        StatusCode::FORBIDDEN,
        "not_from_here",
        format!(
            "A call with a session that changes something needs the header `{HEADER}: 1`, which pages of other sites cannot send"
        ),
    ))
}

fn parse<T: DeserializeOwned>(received: &Received) -> Result<T, Fault> {
    // A call that says nothing need not send a body.
    let bytes = match &*received.bytes {
        [] => b"{}",
        bytes => bytes,
    };
    serde_json::from_slice(bytes).map_err(|error| Fault::malformed(error.to_string()))
}

fn unread(fault: BodyFault) -> Fault {
    let status = match fault {
        BodyFault::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        BodyFault::TooMuch => StatusCode::SERVICE_UNAVAILABLE,
        BodyFault::TooSlow | BodyFault::Broken => StatusCode::REQUEST_TIMEOUT,
    };
    Fault::new(
        status,
        "unread",
        format!("The request could not be read: {fault}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_for_this_api_alone() {
        let life = Duration::from_hours(12);
        assert_eq!(
            cookie("ab", life, true),
            "infera_operator=ab; Max-Age=43200; HttpOnly; SameSite=Strict; Secure"
        );
        assert!(!cookie("ab", life, false).contains("Secure"));
    }

    #[test]
    fn the_token_is_found_among_other_cookies() {
        for (sent, found) in [
            ("infera_operator=ab", Some("ab")),
            ("a=b; infera_operator=ab; c=d", Some("ab")),
            ("xinfera_operator=ab", None),
            ("infera_operator", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, HeaderValue::from_static(sent));
            assert_eq!(token(&headers), found, "{sent}");
        }
    }
}
