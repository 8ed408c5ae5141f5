//! The balancer over HTTPS. Plain HTTP is refused except to this machine itself.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use infera_protocol::account::{LinkGrant, Linked, Ownership};
use infera_protocol::node_api::{
    AuditCommit, AuditReveal, Challenge, ChallengeRequest, Claim, Decline, InvitationRequest,
    Invited, JoinRequest, Joined, ModelOffer, Network, NodeEvent, NodeState, Points,
    ReferenceFigures, Refusal, RefusalCode, Release, Session, SessionRequest, WorkRecord,
};
use infera_protocol::output::OutputAck;
use infera_protocol::requirements::Policy;
use infera_protocol::{AuditId, AuditSpec, JobId, JobSpec, LinkId, OutputBatch, shown};
use reqwest::{Client, Method, RequestBuilder, Response, Url, redirect};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use crate::balancer_link::{BalancerLink, Call, EventStream, LinkError, ReceivedEvent, Token};
use crate::own_certificates;
pub use crate::own_certificates::Trust;
use crate::sse::SseParser;
use crate::unreachable::Unreachable;

/// An answer that is longer than any of ours is refused.
const MAX_ANSWER_BYTES: usize = 32 << 20;
/// So much is told of what is wrong with one.
const MAX_FAULT_CHARS: usize = 150;
/// Longer rules nobody reads.
const LONGEST_RULES: usize = 10_000;
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const SILENCE_LIMIT: Duration = Duration::from_secs(45);
const SPEED_TEST_LIMIT: Duration = Duration::from_mins(1);

/// The real [`BalancerLink`].
#[derive(Debug, Clone)]
pub struct HttpLink {
    client: Client,
    base: Arc<str>,
}

/// An address that a node does not talk to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    #[error("`{0}` is not a web address: write it like `https://balancer.example`")]
    NotUrl(String),
    #[error(
        "`{0}` is plain HTTP, which anyone on the way could read and change: use https:// (http:// is only for a balancer on this machine)"
    )]
    PlainHttp(String),
    #[error("the certificates cannot be used: {0}. Name a file with PEM certificates")]
    Tls(String),
}

impl HttpLink {
    pub fn new(url: &str, trust: Trust<'_>) -> Result<Self, BadUrl> {
        let (base, loopback) = checked(url)?;
        // Another part of the program may have chosen a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .connect_timeout(CONNECT_LIMIT)
            // An event stream is silent for long only when its connection is dead.
            .read_timeout(SILENCE_LIMIT)
            .redirect(redirect::Policy::none())
            .user_agent(crate::SOFTWARE);
        if loopback {
            builder = builder.no_proxy();
        }
        if trust != Trust::default() {
            let tls = own_certificates::trusting(trust).map_err(BadUrl::Tls)?;
            builder = builder.tls_backend_preconfigured(tls);
        }
        let client = builder
            .build()
            .map_err(|error| BadUrl::Tls(chain(&error)))?;
        Ok(Self {
            client,
            base: base.into(),
        })
    }

    fn request(&self, method: Method, path: &str, token: Option<&Token>) -> RequestBuilder {
        self.request_at(method, &format!("node/v1/{path}"), token)
    }

    fn request_at(&self, method: Method, path: &str, token: Option<&Token>) -> RequestBuilder {
        let request = self.client.request(method, format!("{}/{path}", self.base));
        match token {
            Some(token) => request.bearer_auth(token.secret()),
            None => request,
        }
    }

    fn get<T: DeserializeOwned>(&self, path: &str, token: Option<&Token>) -> Call<T> {
        let request = self.request(Method::GET, path, token);
        Box::pin(async move { read(send(request.timeout(ANSWER_LIMIT)).await?).await })
    }

    /// For answers that hold text which a person may see.
    fn get_shown<T: DeserializeOwned + Foreign + 'static>(
        &self,
        path: &str,
        token: Option<&Token>,
    ) -> Call<T> {
        let answer = self.get::<T>(path, token);
        Box::pin(async move { answer.await.map(Foreign::shown) })
    }

    fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        token: Option<&Token>,
        body: &impl Serialize,
    ) -> Call<T> {
        let request = self.request(Method::POST, path, token).json(body);
        Box::pin(async move { read(send(request.timeout(ANSWER_LIMIT)).await?).await })
    }

    /// A call of an account.
    pub(crate) async fn account(
        &self,
        method: Method,
        path: &str,
        token: Option<&Token>,
        body: Option<&Value>,
    ) -> Result<Response, LinkError> {
        let mut request = self.request_at(method, &format!("account/v1/{path}"), token);
        if let Some(body) = body {
            request = request.json(body);
        }
        send(request.timeout(ANSWER_LIMIT)).await
    }

    /// The certificate that a network made for itself, as clients need it.
    pub(crate) async fn certificate(&self) -> Result<String, LinkError> {
        let request = self.request_at(Method::GET, "certificate.pem", None);
        let body = body(send(request.timeout(ANSWER_LIMIT)).await?).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// For calls that answer 204.
    fn tell(&self, path: &str, token: &Token, body: &impl Serialize) -> Call<()> {
        let request = self.request(Method::POST, path, Some(token)).json(body);
        Box::pin(async move { send(request.timeout(ANSWER_LIMIT)).await.map(drop) })
    }
}

impl BalancerLink for HttpLink {
    fn url(&self) -> &str {
        &self.base
    }

    fn challenge(&self, request: ChallengeRequest) -> Call<Challenge> {
        self.post("challenge", None, &request)
    }

    fn invitation(&self, request: InvitationRequest) -> Call<Invited> {
        let answer = self.post::<Invited>("invitation", None, &request);
        Box::pin(async move { answer.await.map(Foreign::shown) })
    }

    fn join(&self, request: JoinRequest) -> Call<Joined> {
        self.post("join", None, &request)
    }

    fn open_session(&self, request: SessionRequest) -> Call<Session> {
        let answer = self.post::<Session>("session", None, &request);
        Box::pin(async move { answer.await.map(Foreign::shown) })
    }

    fn network(&self) -> Call<Network> {
        self.get_shown("network", None)
    }

    fn events(&self, token: Token, last_event_id: Option<String>) -> Call<EventStream> {
        let mut request = self
            .request(Method::GET, "events", Some(&token))
            .header("accept", "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        Box::pin(async move {
            let response = tokio::time::timeout(ANSWER_LIMIT, send(request))
                .await
                .map_err(|_| LinkError::Unreachable(Unreachable::TooSlow))??;
            Ok(event_stream(response))
        })
    }

    fn models(&self, token: Token) -> Call<Vec<ModelOffer>> {
        self.get_shown("models", Some(&token))
    }

    fn speed_test(&self, token: Token, bytes: u64) -> Call<u64> {
        let request = self
            .request(
                Method::GET,
                &format!("speed-test?bytes={bytes}"),
                Some(&token),
            )
            .timeout(SPEED_TEST_LIMIT);
        Box::pin(async move {
            let response = send(request).await?;
            let start = Instant::now();
            let mut received = 0u64;
            let mut body = response.bytes_stream();
            while let Some(piece) = body.try_next().await.map_err(transport)? {
                received += piece.len() as u64;
            }
            let seconds = start.elapsed().as_secs_f64().max(1e-6);
            Ok((received as f64 / seconds) as u64)
        })
    }

    fn state(&self, token: Token, state: NodeState) -> Call<()> {
        self.tell("state", &token, &state)
    }

    fn claim(&self, token: Token, job: JobId, claim: Claim) -> Call<JobSpec> {
        self.post(&format!("jobs/{job}/claim"), Some(&token), &claim)
    }

    fn output(&self, token: Token, job: JobId, batch: OutputBatch) -> Call<OutputAck> {
        self.post(&format!("jobs/{job}/output"), Some(&token), &batch)
    }

    fn release(&self, token: Token, job: JobId, release: Release) -> Call<()> {
        self.tell(&format!("jobs/{job}/release"), &token, &release)
    }

    fn accept_audit(&self, token: Token, audit: AuditId) -> Call<AuditSpec> {
        let nothing = serde_json::json!({});
        self.post(&format!("audits/{audit}/accept"), Some(&token), &nothing)
    }

    fn decline_audit(&self, token: Token, audit: AuditId, decline: Decline) -> Call<()> {
        self.tell(&format!("audits/{audit}/decline"), &token, &decline)
    }

    fn commit_audit(&self, token: Token, audit: AuditId, commit: AuditCommit) -> Call<()> {
        self.tell(&format!("audits/{audit}/commit"), &token, &commit)
    }

    fn report_audit(&self, token: Token, audit: AuditId, reveal: AuditReveal) -> Call<()> {
        self.tell(&format!("audits/{audit}/report"), &token, &reveal)
    }

    fn link_grant(&self, token: Token, link: LinkId) -> Call<LinkGrant> {
        self.get(&format!("links/{link}"), Some(&token))
    }

    fn own(&self, token: Token, ownership: Ownership) -> Call<Linked> {
        self.post("account", Some(&token), &ownership)
    }

    fn disown(&self, token: Token) -> Call<()> {
        let request = self.request(Method::DELETE, "account", Some(&token));
        Box::pin(async move { send(request.timeout(ANSWER_LIMIT)).await.map(drop) })
    }

    fn points(&self, token: Token) -> Call<Points> {
        self.get("points", Some(&token))
    }

    fn history(&self, token: Token, limit: u32) -> Call<Vec<WorkRecord>> {
        self.get_shown(&format!("history?limit={limit}"), Some(&token))
    }
}

/// A message with text for people, which a balancer may not use to deceive them.
trait Foreign {
    fn shown(self) -> Self;
}

impl Foreign for String {
    fn shown(self) -> Self {
        shown::line(&self).into_owned()
    }
}

impl<T: Foreign> Foreign for Vec<T> {
    fn shown(self) -> Self {
        self.into_iter().map(Foreign::shown).collect()
    }
}

impl Foreign for Refusal {
    fn shown(self) -> Self {
        Self {
            message: self.message.shown(),
            ..self
        }
    }
}

impl Foreign for Policy {
    fn shown(self) -> Self {
        Self {
            name: self.name.shown(),
            ..self
        }
    }
}

impl Foreign for Network {
    fn shown(self) -> Self {
        Self {
            name: self.name.shown(),
            operator: self.operator.map(Foreign::shown),
            rules: self.rules.map(|rules| {
                let rules: String = rules.chars().take(LONGEST_RULES).collect();
                shown::text(&rules).into_owned()
            }),
            policy: self.policy.shown(),
            models: self.models.shown(),
            ..self
        }
    }
}

impl Foreign for Invited {
    fn shown(self) -> Self {
        Self {
            network: self.network.shown(),
            ..self
        }
    }
}

impl Foreign for Session {
    fn shown(self) -> Self {
        Self {
            policy: self.policy.shown(),
            ..self
        }
    }
}

impl Foreign for ModelOffer {
    fn shown(self) -> Self {
        Self {
            name: self.name.shown(),
            ..self
        }
    }
}

impl Foreign for WorkRecord {
    fn shown(self) -> Self {
        let references = self.references.into_iter();
        Self {
            model_name: self.model_name.shown(),
            reason: self.reason.shown(),
            references: references
                .map(|figures| ReferenceFigures {
                    reference: figures.reference.shown(),
                    ..figures
                })
                .collect(),
            ..self
        }
    }
}

impl Foreign for NodeEvent {
    fn shown(self) -> Self {
        match self {
            Self::Settled(record) => Self::Settled(record.shown()),
            other => other,
        }
    }
}

/// The whole address in the one way that it is kept and compared.
pub(crate) fn normal(url: &str) -> Result<String, BadUrl> {
    checked(url).map(|(base, _)| base)
}

/// The address without a trailing slash, and whether it is this machine.
fn checked(url: &str) -> Result<(String, bool), BadUrl> {
    let parsed: Url = url
        .parse()
        .map_err(|_| BadUrl::NotUrl(url.chars().take(200).collect()))?;
    let loopback = match parsed.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
        None => return Err(BadUrl::NotUrl(url.to_owned())),
    };
    let mut shown = parsed.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    // A password in the address would end up in logs and messages.
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(BadUrl::NotUrl(parsed.host_str().unwrap_or("").to_owned()));
    }
    let base = shown.as_str().trim_end_matches('/').to_owned();
    match parsed.scheme() {
        "https" => Ok((base, loopback)),
        "http" if loopback => Ok((base, loopback)),
        "http" => Err(BadUrl::PlainHttp(base)),
        _ => Err(BadUrl::NotUrl(base)),
    }
}

/// Sends a request; anything but a success becomes the refusal it holds.
async fn send(request: RequestBuilder) -> Result<Response, LinkError> {
    let response = request.send().await.map_err(transport)?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = body(response).await?;
    Err(match serde_json::from_slice::<Refusal>(&body) {
        Ok(refusal) => LinkError::Refused(refusal.shown()),
        // A proxy, or a server that is something else: it may get better.
        Err(_) if status.is_server_error() || matches!(status.as_u16(), 408 | 429) => {
            LinkError::Unreachable(Unreachable::Failing {
                status: status.as_u16(),
            })
        }
        Err(_) => LinkError::Unreachable(Unreachable::NotANetwork {
            status: status.as_u16(),
        }),
    })
}

pub(crate) async fn read<T: DeserializeOwned>(response: Response) -> Result<T, LinkError> {
    let body = body(response).await?;
    parse(&body).map_err(|fault| {
        // It may quote the answer.
        let fault: String = fault.chars().take(MAX_FAULT_CHARS).collect();
        LinkError::Refused(Refusal {
            code: RefusalCode::Malformed,
            message: format!(
                "The balancer's answer is not one this version understands: {}",
                shown::line(&fault)
            ),
        })
    })
}

/// An error names the field.
fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| error.to_string())?;
    reader.end().map_err(|error| error.to_string())?;
    Ok(read)
}

async fn body(response: Response) -> Result<Vec<u8>, LinkError> {
    let mut body = Vec::new();
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.try_next().await.map_err(transport)? {
        body.extend_from_slice(&piece);
        if body.len() > MAX_ANSWER_BYTES {
            return Err(LinkError::Unreachable(Unreachable::other(
                "its answer is far too long",
            )));
        }
    }
    Ok(body)
}

fn event_stream(response: Response) -> EventStream {
    let mut parser = SseParser::default();
    response
        .bytes_stream()
        .map(move |piece| {
            let events = match piece.map_err(transport) {
                Ok(piece) => match parser.push(&piece) {
                    Ok(events) => events.into_iter().filter_map(known_event).collect(),
                    Err(error) => vec![Err(LinkError::Unreachable(Unreachable::other(&error)))],
                },
                Err(error) => vec![Err(error)],
            };
            stream::iter(events)
        })
        .flatten()
        .boxed()
}

/// Events of types that a later balancer may send are skipped.
fn known_event(raw: crate::sse::RawEvent) -> Option<Result<ReceivedEvent, LinkError>> {
    match serde_json::from_str(&raw.data) {
        Ok(event) => Some(Ok(ReceivedEvent {
            id: raw.id,
            event: NodeEvent::shown(event),
        })),
        Err(error) => {
            tracing::warn!(%error, "an event of an unknown kind was skipped");
            None
        }
    }
}

fn transport(error: reqwest::Error) -> LinkError {
    LinkError::Unreachable(Unreachable::of(&error.without_url()))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_a_table() {
        let good = [
            ("https://net.example", "https://net.example"),
            ("https://net.example/", "https://net.example"),
            ("https://net.example/infera/", "https://net.example/infera"),
            ("http://127.0.0.1:8431", "http://127.0.0.1:8431"),
            ("http://127.9.9.9:1/", "http://127.9.9.9:1"),
            ("http://[::1]:8431", "http://[::1]:8431"),
            ("http://localhost:8431", "http://localhost:8431"),
        ];
        for (url, base) in good {
            assert_eq!(checked(url).unwrap().0, base, "{url}");
        }
        for url in [
            "http://net.example",
            "http://192.168.1.5:8431",
            "http://0.0.0.0:1",
            "http://localhost.example",
            "http://127.0.0.1.example",
        ] {
            assert!(matches!(checked(url), Err(BadUrl::PlainHttp(_))), "{url}");
        }
        for url in [
            "",
            "net.example",
            "ftp://net.example",
            "https://user:secret@net.example",
        ] {
            let error = checked(url).unwrap_err();
            assert!(matches!(error, BadUrl::NotUrl(_)), "{url}");
            assert!(!error.to_string().contains("secret"));
        }
    }
}
