//! The window in a browser, and what the command line uses: the program's API over HTTP, on this
//! machine only.
//!
//! | call | body | answer |
//! |---|---|---|
//! | `POST /control/v1/{command}` | the command's request ([`COMMANDS`](crate::app::api::COMMANDS)) | its answer |
//! | `GET /control/v1/events` | – | server-sent events, each an [`AppEvent`](crate::app::api::AppEvent) |
//! | `PUT /control/v1/models/{name}` | a GGUF file | [`AppState`](crate::app::api::AppState), once it is installed |
//! | `GET /` and what it names | – | the window's files |
//!
//! Every call but those for files carries `Authorization: Bearer <token>` from the data folder's
//! `control.json`. A foreign `Host` or `Origin` is refused, so that no web page can reach the node
//! through a name that points to this machine. An error is an [`ApiError`].

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use futures_util::{Stream, StreamExt, stream};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::app::App;
use crate::app::api::{ApiError, AppState, Refusal};
use crate::clock::{Entropy, random_32};
use crate::data_dir::ControlFile;
use crate::web_files;

/// A running control server. It ends with [`ControlServer::stop`].
#[derive(Debug)]
pub struct ControlServer {
    control: ControlFile,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
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

/// A command's request; a chat's whole conversation fits.
const MOST_REQUEST_BYTES: usize = 4 << 20;
/// Many windows and commands at once; each window keeps one open for its events.
const MOST_CONNECTIONS: usize = 128;
/// How long a connection may take to its next request, headers included.
const HEADER_LIMIT: Duration = Duration::from_secs(10);
/// How long a command's request may take to arrive, and an upload from one piece to the next.
const BODY_LIMIT: Duration = Duration::from_secs(10);
const UPLOAD_SILENCE_LIMIT: Duration = Duration::from_mins(1);
/// How long answers that are under way may take when the server ends.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);
/// After a connection could not be taken: too many files are open, for instance.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

impl ControlServer {
    /// Serves a program on a loopback address; port 0 takes any free one.
    pub async fn start(
        app: App,
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
        let router = router(app, control.token.clone(), address.port());
        let task = tokio::spawn(serve(listener, router, stopped));
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

    /// Where a browser finds the window. Secret: it holds the token, behind the `#` that browsers
    /// keep to themselves.
    pub fn web_address(&self) -> String {
        format!("{}/#token={}", self.control.url, self.control.token)
    }

    pub async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

/// Serves while the settings want it (`web_control`), until the program ends.
pub async fn serve_while_wanted(app: App, entropy: &dyn Entropy) {
    tokio::select! {
        () = app.started() => {}
        () = app.ended() => return,
    }
    let mut states = app.states();
    let mut server: Option<ControlServer> = None;
    loop {
        let wanted = states.borrow_and_update().settings.web_control;
        match (wanted, server.take()) {
            (true, None) => match start_and_publish(&app, entropy).await {
                Ok(started) => {
                    app.set_web_address(Some(started.web_address()));
                    server = Some(started);
                }
                Err(message) => tracing::error!(message, "the web control cannot be started"),
            },
            (false, Some(running)) => {
                app.set_web_address(None);
                app.data().withdraw_control();
                running.stop().await;
            }
            (_, unchanged) => server = unchanged,
        }
        let changed = async {
            let other = |state: &AppState| state.settings.web_control != wanted;
            states.wait_for(other).await.is_ok()
        };
        tokio::select! {
            true = changed => {}
            () = app.ended() => break,
        }
    }
    if let Some(server) = server {
        server.stop().await;
    }
}

async fn start_and_publish(app: &App, entropy: &dyn Entropy) -> Result<ControlServer, String> {
    let any_port = SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
    let server = ControlServer::start(app.clone(), any_port, entropy)
        .await
        .map_err(|error| error.to_string())?;
    app.data()
        .publish_control(server.control())
        .map_err(|error| error.to_string())?;
    Ok(server)
}

/// Answers connections until it is stopped; an answer that is under way then still arrives. Whoever
/// says nothing, or too slowly, loses its place to others.
async fn serve(listener: TcpListener, router: Router, mut stopped: oneshot::Receiver<()>) {
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT);
    let mut connections = JoinSet::new();
    let (ending, _) = watch::channel(());
    loop {
        let has_place = connections.len() < MOST_CONNECTIONS;
        let accepted = tokio::select! {
            accepted = listener.accept(), if has_place => accepted,
            Some(_) = connections.join_next() => continue,
            _ = &mut stopped => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let service = TowerToHyperService::new(router.clone());
                let builder = builder.clone();
                let mut end = ending.subscribe();
                connections.spawn(async move {
                    let connection = builder.serve_connection(TokioIo::new(stream), service);
                    let mut connection = std::pin::pin!(connection);
                    let ended = tokio::select! {
                        ended = connection.as_mut() => ended,
                        _ = end.changed() => {
                            connection.as_mut().graceful_shutdown();
                            connection.await
                        }
                    };
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a control connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a control connection cannot be taken");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    drop((listener, ending));
    let answered = async { while connections.join_next().await.is_some() {} };
    // Who still reads then, an event stream of a program that goes on for instance, is cut off.
    let _ = tokio::time::timeout(FAREWELL_LIMIT, answered).await;
}

#[derive(Clone)]
struct Guard {
    token: String,
    port: u16,
}

fn router(app: App, token: String, port: u16) -> Router {
    let guard = Guard { token, port };
    let commands = Router::new()
        .route("/control/v1/events", get(events))
        .route("/control/v1/models/{name}", put(upload))
        .route("/control/v1/{command}", post(command))
        .layer(middleware::from_fn_with_state(guard.clone(), admit))
        .with_state(app);
    Router::new()
        .fallback(files)
        .layer(middleware::from_fn_with_state(guard, admit_to_files))
        .merge(commands)
}

/// Lets a call in only from this machine's own programs that know the token.
async fn admit(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    match guard.foreign(headers).or_else(|| guard.stranger(headers)) {
        Some(refused) => refused.into_response(),
        None => next.run(request).await,
    }
}

/// The window's files hold no secret, but no other name may lead to them.
async fn admit_to_files(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match guard.foreign(request.headers()) {
        Some(refused) => refused.into_response(),
        None => next.run(request).await,
    }
}

impl Guard {
    /// When the call comes from another site, or through another name of this machine.
    fn foreign(&self, headers: &HeaderMap) -> Option<Refused> {
        let host_fits = text(headers, header::HOST).is_some_and(|host| self.is_own_host(host));
        let origin_fits = match headers.get(header::ORIGIN) {
            None => true,
            Some(origin) => origin
                .to_str()
                .ok()
                .and_then(|origin| origin.strip_prefix("http://"))
                .is_some_and(|host| self.is_own_host(host)),
        };
        (!host_fits || !origin_fits).then(|| {
            Refused::new(
                StatusCode::FORBIDDEN,
                "This address is for programs on this machine only",
            )
        })
    }

    /// When the caller does not know the token.
    fn stranger(&self, headers: &HeaderMap) -> Option<Refused> {
        let token =
            text(headers, header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        let known =
            token.is_some_and(|token| bool::from(token.as_bytes().ct_eq(self.token.as_bytes())));
        (!known).then(|| {
            Refused::new(
                StatusCode::UNAUTHORIZED,
                "The token is missing or wrong: it is in the data folder's control.json",
            )
        })
    }

    fn is_own_host(&self, host: &str) -> bool {
        let port = format!(":{}", self.port);
        host.strip_suffix(&port)
            .is_some_and(|name| matches!(name, "127.0.0.1" | "[::1]" | "localhost"))
    }
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[derive(Debug)]
struct Refused(StatusCode, ApiError);

impl Refused {
    fn new(status: StatusCode, message: &str) -> Self {
        let detail = message.to_owned();
        Self(status, Refusal::NotAllowed { detail }.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        let status = match &error.refusal {
            Refusal::Malformed { .. } => StatusCode::BAD_REQUEST,
            Refusal::NoSuchCommand { .. } | Refusal::NoSuchModel | Refusal::NoSuchDevice => {
                StatusCode::NOT_FOUND
            }
            Refusal::SettingsNotKept { .. }
            | Refusal::KeyNotKept { .. }
            | Refusal::History { .. }
            | Refusal::NotRemoved { .. }
            | Refusal::NotSaved { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            Refusal::Ending => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::CONFLICT,
        };
        Self(status, error)
    }
}

async fn command(
    State(app): State<App>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Value>, Refused> {
    let body = arrived(body).await?;
    let request = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&body).map_err(|error| ApiError::from(Refusal::malformed(&error)))?
    };
    Ok(Json(app.call(&name, request).await?))
}

/// The whole of a command's request, within the limits of size and time.
async fn arrived(body: Body) -> Result<Bytes, Refused> {
    match tokio::time::timeout(BODY_LIMIT, to_bytes(body, MOST_REQUEST_BYTES)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(Refused::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "The request is longer than any command's, or was broken off",
        )),
        Err(_) => Err(Refused::new(
            StatusCode::REQUEST_TIMEOUT,
            "The request did not arrive in time: send it again",
        )),
    }
}

async fn events(State(app): State<App>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let events = stream::unfold(app.events(), |mut events| async move {
        let event = Event::default().json_data(events.next().await?).ok()?;
        Some((Ok(event), events))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

async fn upload(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Refused> {
    let bytes = stream::unfold(body.into_data_stream(), |mut pieces| async move {
        let piece = match tokio::time::timeout(UPLOAD_SILENCE_LIMIT, pieces.next()).await {
            Ok(piece) => piece?.map_err(std::io::Error::other),
            Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
        };
        Some((piece, pieces))
    });
    let total = text(&headers, header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    app.import_upload(&name, total, Box::pin(bytes)).await?;
    Ok(Json(app.call("state", Value::Null).await?))
}

async fn files(uri: Uri) -> Response {
    let Some(file) = web_files::find(uri.path()) else {
        return Refused::new(StatusCode::NOT_FOUND, web_files::MISSING).into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, file.content_type),
        (header::CONTENT_SECURITY_POLICY, infera_web_files::POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, file.content).into_response()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    /// A server that answers every whole request with `here`.
    async fn server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(async || "here");
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(async move {
            let _keeps_serving = stop;
            serve(listener, router, stopped).await;
        });
        address
    }

    async fn connected(address: SocketAddr, words: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(words.as_bytes()).await.unwrap();
        stream
    }

    /// All that comes until the other side closes, or so long.
    async fn answer(stream: &mut TcpStream) -> Option<String> {
        let mut text = String::new();
        let reading = stream.read_to_string(&mut text);
        let ended = tokio::time::timeout(2 * HEADER_LIMIT, reading).await;
        ended.is_ok().then_some(text)
    }

    const REQUEST: &str = "GET / HTTP/1.1\r\nHost: x\r\n";

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_or_too_slowly_is_cut_off() {
        let address = server().await;
        for words in ["", "G", REQUEST] {
            let mut stream = connected(address, words).await;
            let text = answer(&mut stream).await;
            assert!(text.is_some_and(|text| !text.contains("here")), "{words:?}");
        }
        // One that was answered and keeps its place.
        let mut stream = connected(address, &format!("{REQUEST}\r\n")).await;
        assert!(answer(&mut stream).await.unwrap().contains("here"));
    }

    #[tokio::test(start_paused = true)]
    async fn silent_connections_keep_nobody_out_for_long() {
        let address = server().await;
        let mut silent = Vec::new();
        for _ in 0..3 * MOST_CONNECTIONS {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let whole = format!("{REQUEST}Connection: close\r\n\r\n");
        let mut stream = connected(address, &whole).await;
        let mut text = String::new();
        let reading = stream.read_to_string(&mut text);
        tokio::time::timeout(4 * HEADER_LIMIT, reading)
            .await
            .unwrap()
            .unwrap();
        assert!(text.contains("here"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_come_or_does_not_end_is_refused() {
        let status = async |body| arrived(body).await.map_err(|refused| refused.0.as_u16());
        assert_eq!(status(Body::from("{}")).await.unwrap(), "{}");
        let never = stream::pending::<std::io::Result<Bytes>>();
        assert_eq!(status(Body::from_stream(never)).await, Err(408));
        let piece = Bytes::from(vec![b' '; 1 << 20]);
        let endless = stream::repeat_with(move || std::io::Result::Ok(piece.clone()));
        assert_eq!(status(Body::from_stream(endless)).await, Err(413));
    }

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
            let refused = guard
                .foreign(&headers)
                .or_else(|| guard.stranger(&headers))
                .map(|refused| refused.0.as_u16());
            assert_eq!(refused, status, "{host:?} {origin:?} {authorization:?}");
        }
    }
}
