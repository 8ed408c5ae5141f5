//! The control API: what the command line and the web UI use, on this machine only.
//!
//! | call | body | answer |
//! |---|---|---|
//! | `GET /control/v1/status` | – | [`NodeSnapshot`](crate::state::NodeSnapshot) |
//! | `GET /control/v1/events` | – | server-sent events, each a snapshot |
//! | `POST /control/v1/pause` | [`PauseRequest`] | snapshot |
//! | `POST /control/v1/resume` | – | snapshot |
//! | `POST /control/v1/check` | – | snapshot, after the machine was looked at again |
//! | `GET /control/v1/history?limit=N` | – | list of [`JobRow`], newest first |
//! | `GET /control/v1/points` | – | [`Points`](infera_protocol::node_api::Points), or `null` while unknown |
//!
//! Every call carries `Authorization: Bearer <token>` from the data folder's `control.json`. A
//! foreign `Host` or `Origin` is refused, so that no web page can reach the node through a name
//! that points to this machine. An error is `{"error": "<sentence>"}`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::books::JobRow;
use crate::clock::{Entropy, random_32};
use crate::data_dir::ControlFile;
use crate::node::{Ended, Node};
use crate::state::NodeSnapshot;
use crate::store::StoreError;

/// A running control server. It ends with [`ControlServer::stop`].
#[derive(Debug)]
pub struct ControlServer {
    control: ControlFile,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Body of `POST /control/v1/pause`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// Until the user resumes, if absent.
    #[serde(default)]
    pub seconds: Option<u64>,
    /// Jobs in progress are finished first.
    #[serde(default)]
    pub finish_first: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("the control address {0} is not on this machine: use 127.0.0.1 or [::1]")]
    NotLoopback(SocketAddr),
    #[error(
        "the control address {address} cannot be used: {fault}. Choose another with `--control`"
    )]
    Bind {
        address: SocketAddr,
        fault: std::io::Error,
    },
}

const MOST_HISTORY: u32 = 10_000;

impl ControlServer {
    /// Serves a node on a loopback address; port 0 takes any free one.
    pub async fn start(
        node: Node,
        address: SocketAddr,
        entropy: &dyn Entropy,
    ) -> Result<Self, ControlError> {
        if !address.ip().is_loopback() {
            return Err(ControlError::NotLoopback(address));
        }
        let failed = |fault| ControlError::Bind { address, fault };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let control = ControlFile {
            url: format!("http://{address}"),
            token: hex::encode(random_32(entropy)),
        };
        let (stop, stopped) = oneshot::channel();
        let app = router(node, control.token.clone(), address.port());
        let task = tokio::spawn(async move {
            let serving = async {
                if let Err(error) = axum::serve(listener, app).await {
                    tracing::error!(%error, "the control server ended");
                }
            };
            // Event streams have no end of their own: they are cut.
            tokio::select! {
                () = serving => {}
                _ = stopped => {}
            }
        });
        Ok(Self {
            control,
            stop,
            task,
        })
    }

    /// How to reach it.
    pub fn control(&self) -> &ControlFile {
        &self.control
    }

    pub async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

#[derive(Clone)]
struct Guard {
    token: String,
    port: u16,
}

fn router(node: Node, token: String, port: u16) -> Router {
    let guard = Guard { token, port };
    Router::new()
        .route("/control/v1/status", get(status))
        .route("/control/v1/events", get(events))
        .route("/control/v1/pause", post(pause))
        .route("/control/v1/resume", post(resume))
        .route("/control/v1/check", post(check))
        .route("/control/v1/history", get(history))
        .route("/control/v1/points", get(points))
        .fallback(|| async { Refused(StatusCode::NOT_FOUND, "There is no such call".to_owned()) })
        .layer(middleware::from_fn_with_state(guard, admit))
        .with_state(node)
}

/// Lets a call in only from this machine's own programs that know the token.
async fn admit(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match guard.fault(request.headers()) {
        Some(refused) => refused.into_response(),
        None => next.run(request).await,
    }
}

impl Guard {
    fn fault(&self, headers: &HeaderMap) -> Option<Refused> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let host_fits = text(header::HOST).is_some_and(|host| self.is_own_host(host));
        let origin_fits = match headers.get(header::ORIGIN) {
            None => true,
            Some(origin) => origin
                .to_str()
                .ok()
                .and_then(|origin| origin.strip_prefix("http://"))
                .is_some_and(|host| self.is_own_host(host)),
        };
        if !host_fits || !origin_fits {
            return Some(Refused(
                StatusCode::FORBIDDEN,
                "This address is for programs on this machine only".to_owned(),
            ));
        }
        let token = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        let known =
            token.is_some_and(|token| bool::from(token.as_bytes().ct_eq(self.token.as_bytes())));
        (!known).then(|| {
            Refused(
                StatusCode::UNAUTHORIZED,
                "The token is missing or wrong: it is in the data folder's control.json".to_owned(),
            )
        })
    }

    fn is_own_host(&self, host: &str) -> bool {
        let port = format!(":{}", self.port);
        host.strip_suffix(&port)
            .is_some_and(|name| matches!(name, "127.0.0.1" | "[::1]" | "localhost"))
    }
}

#[derive(Debug)]
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(serde_json::json!({ "error": self.1 }))).into_response()
    }
}

impl From<Ended> for Refused {
    fn from(error: Ended) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

async fn status(State(node): State<Node>) -> Result<Json<NodeSnapshot>, Refused> {
    Ok(Json(node.snapshot().await?))
}

async fn events(State(node): State<Node>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let mut snapshots = node.snapshots();
    // The first is the state now.
    snapshots.mark_changed();
    let events = stream::unfold(snapshots, |mut snapshots| async move {
        snapshots.changed().await.ok()?;
        let event = Event::default()
            .json_data(&*snapshots.borrow_and_update())
            .ok()?;
        Some((Ok(event), snapshots))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

async fn pause(
    State(node): State<Node>,
    request: Result<Json<PauseRequest>, axum::extract::rejection::JsonRejection>,
) -> Result<Json<NodeSnapshot>, Refused> {
    let Json(request) =
        request.map_err(|error| Refused(StatusCode::BAD_REQUEST, error.body_text()))?;
    let duration = request.seconds.map(Duration::from_secs);
    Ok(Json(node.pause(duration, request.finish_first).await?))
}

async fn resume(State(node): State<Node>) -> Result<Json<NodeSnapshot>, Refused> {
    Ok(Json(node.resume().await?))
}

async fn check(State(node): State<Node>) -> Result<Json<NodeSnapshot>, Refused> {
    Ok(Json(node.check().await?))
}

#[derive(Deserialize)]
struct HistoryQuery {
    limit: Option<u32>,
}

async fn history(
    State(node): State<Node>,
    query: Result<Query<HistoryQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Vec<JobRow>>, Refused> {
    let Query(query) =
        query.map_err(|error| Refused(StatusCode::BAD_REQUEST, error.body_text()))?;
    let limit = query.limit.unwrap_or(50).min(MOST_HISTORY);
    Ok(Json(node.history(limit).await?))
}

async fn points(State(node): State<Node>) -> Result<Response, Refused> {
    Ok(Json(node.snapshot().await?.points).into_response())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn who_is_let_in_as_a_table() {
        let guard = Guard {
            token: "secret".to_owned(),
            port: 9,
        };
        let own = "127.0.0.1:9";
        let (right, wrong) = (Some("Bearer secret"), Some("Bearer secreT"));
        let cases = [
            (Some(own), None, right, None),
            (Some("localhost:9"), None, right, None),
            (Some("[::1]:9"), Some("http://127.0.0.1:9"), right, None),
            (Some(own), None, None, Some(401)),
            (Some(own), None, wrong, Some(401)),
            (Some(own), None, Some("Bearer "), Some(401)),
            (Some(own), None, Some("secret"), Some(401)),
            (None, None, right, Some(403)),
            (Some("evil.example:9"), None, right, Some(403)),
            (Some("127.0.0.1.evil.example:9"), None, right, Some(403)),
            (Some("127.0.0.1:10"), None, right, Some(403)),
            (Some("127.0.0.1"), None, right, Some(403)),
            (Some(own), Some("https://evil.example"), right, Some(403)),
            (Some(own), Some("null"), right, Some(403)),
            (Some(own), Some("http://evil.example:9"), right, Some(403)),
            (Some(own), Some("https://127.0.0.1:9"), right, Some(403)),
        ];
        for (host, origin, authorization, status) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in [
                (header::HOST, host),
                (header::ORIGIN, origin),
                (header::AUTHORIZATION, authorization),
            ] {
                if let Some(value) = value {
                    headers.insert(name, HeaderValue::from_static(value));
                }
            }
            let refused = guard.fault(&headers).map(|refused| refused.0.as_u16());
            assert_eq!(refused, status, "{host:?} {origin:?} {authorization:?}");
        }
    }
}
