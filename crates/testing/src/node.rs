//! A simulated node: its calls to the balancer, and how it answers offers and audits.

use std::collections::HashMap;
use std::time::Duration;

use infera_balancer::Edges;
use infera_protocol::audit::audit_commit_digest;
use infera_protocol::node_api::{
    AuditCommit, AuditReveal, Challenge, ChallengeRequest, Claim, JoinRequest, Joined, NodeEvent,
    NodeState, Offer, Points, Refusal, RefusalCode, Release, Session, SessionRequest, Standing,
    WorkRecord, claim_digest, do_work, join_digest, session_digest,
};
use infera_protocol::output::OutputAck;
use infera_protocol::requirements::Hardware;
use infera_protocol::{
    AuditId, AuditReport, AuditSpec, Hash, InvitationToken, JobId, JobSpec, ModelId, NodeId,
    NodeKey, OutputBatch, Profile, VERSION,
};
use reqwest::{Client, RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::model::{embedder, head, honest_report, model_id};
use crate::network::{LIMIT, Network};
use crate::work::Work;

/// One simulated node with an open session.
pub struct SimNode {
    pub key: NodeKey,
    pub id: NodeId,
    pub session: Session,
    pub events: Events,
    pub stream: JoinHandle<()>,
    base: String,
    http: Client,
    /// What it tells when it is free.
    free: NodeState,
}

impl SimNode {
    /// A worker with the model loaded and one free slot.
    pub async fn worker(network: &Network, number: u8) -> Self {
        Self::join(network, number, 1, hardware()).await
    }

    pub async fn reference(network: &Network, number: u8) -> Self {
        network.trust(key(number).id()).await;
        Self::join(network, number, 4, hardware()).await
    }

    pub async fn join(network: &Network, number: u8, slots: u32, hardware: Hardware) -> Self {
        Self::join_as(&network.base, key(number), slots, hardware).await
    }

    /// A node that has the models of the tests' network loaded.
    pub async fn join_as(base: &str, key: NodeKey, slots: u32, hardware: Hardware) -> Self {
        let models = vec![
            model_id(),
            head().id(Profile::P16),
            embedder().id(Profile::P32),
        ];
        Self::connect(base, key, models, slots, hardware)
            .await
            .unwrap()
    }

    /// Opens a session as a node that has `models` loaded, listens, and tells that it is free.
    pub async fn connect(
        base: &str,
        key: NodeKey,
        models: Vec<ModelId>,
        slots: u32,
        hardware: Hardware,
    ) -> Result<Self, Refusal> {
        let http = http();
        let session = open_session(&http, base, &key, hardware.clone()).await?;
        let (events, stream) = subscribe(&http, base, &session.token, None).await?;
        let node = Self {
            id: key.id(),
            key,
            session,
            events,
            stream,
            base: base.to_owned(),
            http,
            free: NodeState {
                models,
                context_tokens: Vec::new(),
                free_slots: slots,
                paused: None,
                hardware,
                report: None,
            },
        };
        node.tell_free().await?;
        Ok(node)
    }

    pub async fn tell(&self, free_slots: u32, paused: Option<&str>) {
        let state = NodeState {
            free_slots,
            paused: paused.map(str::to_owned),
            ..self.free.clone()
        };
        self.tell_state(&state).await.unwrap();
    }

    /// Tells that it takes so many tokens of prompt and output together.
    pub async fn tell_context(&self, tokens: u32) {
        let state = NodeState {
            context_tokens: vec![tokens; self.free.models.len()],
            ..self.free.clone()
        };
        self.tell_state(&state).await.unwrap();
    }

    /// Tells that all its slots are free, which is also a sign of life.
    pub async fn tell_free(&self) -> Result<(), Refusal> {
        self.tell_state(&self.free).await
    }

    pub async fn tell_state(&self, state: &NodeState) -> Result<(), Refusal> {
        self.post("/node/v1/state", state).await
    }

    pub fn hardware(&self) -> Hardware {
        self.free.hardware.clone()
    }

    /// Opens the event stream anew, after the event with this id.
    pub async fn resume(&mut self, last_seen: Option<u64>) {
        self.stream.abort();
        let subscribed = subscribe(&self.http, &self.base, &self.session.token, last_seen);
        (self.events, self.stream) = subscribed.await.unwrap();
    }

    pub async fn event(&mut self) -> NodeEvent {
        let event = tokio::time::timeout(LIMIT, self.events.recv()).await;
        event.expect("an event in time").expect("an open stream").1
    }

    /// The next event that is an offer.
    pub async fn offer(&mut self) -> Offer {
        loop {
            if let NodeEvent::Offer(offer) = self.event().await {
                return offer;
            }
        }
    }

    /// The next event that `wanted` accepts.
    pub async fn event_where(&mut self, wanted: impl Fn(&NodeEvent) -> bool) -> NodeEvent {
        loop {
            let event = self.event().await;
            if wanted(&event) {
                return event;
            }
        }
    }

    pub fn claim_of(&self, offer: &Offer) -> Claim {
        let nonce = Hash::from_bytes(Edges::system().random());
        let digest = claim_digest(offer.job, offer.attempt, &self.id, &nonce);
        Claim {
            version: VERSION,
            attempt: offer.attempt,
            nonce,
            signature: self.key.sign(digest),
        }
    }

    pub async fn claim(&self, offer: &Offer) -> Result<JobSpec, Refusal> {
        self.send_claim(offer.job, &self.claim_of(offer)).await
    }

    pub async fn send_claim(&self, job: JobId, claim: &Claim) -> Result<JobSpec, Refusal> {
        self.post(&format!("/node/v1/jobs/{job}/claim"), claim)
            .await
    }

    /// Waits for an offer and takes it.
    pub async fn take(&mut self) -> Work {
        let offer = self.offer().await;
        Work::honest(self.claim(&offer).await.unwrap())
    }

    pub async fn output(&self, job: JobId, batch: &OutputBatch) -> Result<OutputAck, Refusal> {
        self.post(&format!("/node/v1/jobs/{job}/output"), batch)
            .await
    }

    /// Writes up to `count` tokens in one batch.
    pub async fn write(&self, work: &mut Work, count: usize) -> Result<OutputAck, Refusal> {
        let batch = work.batch(count);
        self.output(work.spec.job, &batch).await
    }

    /// Writes what is left, and the signed end.
    pub async fn write_all(&self, work: &mut Work) -> Result<OutputAck, Refusal> {
        let batch = work.last_batch(&self.key);
        self.output(work.spec.job, &batch).await
    }

    pub async fn release(&self, spec: &JobSpec) -> Result<(), Refusal> {
        let path = format!("/node/v1/jobs/{}/release", spec.job);
        let release = Release {
            version: VERSION,
            attempt: spec.attempt,
            reason: "a test".to_owned(),
        };
        self.post(&path, &release).await
    }

    pub async fn accept(&self, audit: AuditId) -> Result<AuditSpec, Refusal> {
        self.post(&format!("/node/v1/audits/{audit}/accept"), &json!({}))
            .await
    }

    pub async fn commit(&self, report: &AuditReport, salt: &Hash) -> Result<(), Refusal> {
        let commitment = report.commitment(salt);
        let body = AuditCommit {
            commitment,
            signature: self.key.sign(audit_commit_digest(report.audit, commitment)),
        };
        self.post(&format!("/node/v1/audits/{}/commit", report.audit), &body)
            .await
    }

    pub async fn reveal(&self, report: &AuditReport, salt: &Hash) -> Result<(), Refusal> {
        let body = AuditReveal {
            report: report.clone(),
            salt: *salt,
        };
        self.post(&format!("/node/v1/audits/{}/report", report.audit), &body)
            .await
    }

    pub async fn points(&self) -> Points {
        self.get("/node/v1/points").await.unwrap()
    }

    pub async fn history(&self) -> Vec<WorkRecord> {
        self.get("/node/v1/history?limit=10").await.unwrap()
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refusal> {
        let request = self.http.get(format!("{}{path}", self.base));
        answer(request.bearer_auth(&self.session.token)).await
    }

    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Refusal> {
        let request = self.http.post(format!("{}{path}", self.base));
        answer(request.bearer_auth(&self.session.token).json(body)).await
    }

    /// A call without a body.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: reqwest::Method,
        path: &str,
    ) -> Result<T, Refusal> {
        let request = self.http.request(method, format!("{}{path}", self.base));
        answer(request.bearer_auth(&self.session.token)).await
    }

    /// Takes every offer and answers it as `conduct` says, until the balancer ends.
    pub fn spawn_worker(
        mut self,
        mut conduct: impl FnMut(JobSpec) -> Work + Send + 'static,
    ) -> JoinHandle<()> {
        tokio::spawn(async move {
            while let Some(event) = self.next_event().await {
                let NodeEvent::Offer(offer) = event else {
                    continue;
                };
                let Ok(spec) = self.claim(&offer).await else {
                    continue;
                };
                let mut work = conduct(spec);
                while !work.is_written() {
                    let Ok(ack) = self.write(&mut work, 8).await else {
                        break;
                    };
                    if ack.cancel {
                        work.cancel();
                    }
                }
                // A refused end is the balancer's business.
                let _ = self.write_all(&mut work).await;
                if self.tell_free().await.is_err() {
                    return;
                }
            }
        })
    }

    /// Checks every output it is asked to.
    pub fn spawn_reference(self) -> JoinHandle<()> {
        self.spawn_reference_with(|_| {})
    }

    /// As [`Self::spawn_reference`], with reports that are changed before they are sent.
    pub fn spawn_reference_with(
        self,
        change: impl Fn(&mut AuditReport) + Send + 'static,
    ) -> JoinHandle<()> {
        self.spawn_reference_as(move |task| {
            let mut report = honest_report(task);
            change(&mut report);
            report
        })
    }

    /// A reference node that reports whatever `answer` says.
    pub fn spawn_reference_as(
        mut self,
        mut answer: impl FnMut(&AuditSpec) -> AuditReport + Send + 'static,
    ) -> JoinHandle<()> {
        tokio::spawn(async move {
            let mut reports = HashMap::new();
            while let Some(event) = self.next_event().await {
                match event {
                    NodeEvent::Audit { audit, .. } => {
                        let Ok(task) = self.accept(audit).await else {
                            continue;
                        };
                        let report = answer(&task);
                        let salt = Hash::from_bytes(Edges::system().random());
                        if self.commit(&report, &salt).await.is_ok() {
                            reports.insert(audit, (report, salt));
                        }
                    }
                    NodeEvent::Reveal { audit } => {
                        if let Some((report, salt)) = reports.get(&audit) {
                            // A reveal that comes too late is refused.
                            let _ = self.reveal(report, salt).await;
                        }
                    }
                    _ => {}
                }
            }
        })
    }

    /// Waits as long as the session lives, which it sees to.
    async fn next_event(&mut self) -> Option<NodeEvent> {
        let quiet = Duration::from_millis(self.session.timeout_ms / 4);
        loop {
            match tokio::time::timeout(quiet, self.events.recv()).await {
                Ok(event) => return event.map(|(_, event)| event),
                Err(_) => self.tell_free().await.ok()?,
            }
        }
    }
}

pub fn key(number: u8) -> NodeKey {
    NodeKey::from_secret(&[number; 32])
}

pub fn hardware() -> Hardware {
    Hardware {
        os: "simulated".to_owned(),
        cpu: "simulated".to_owned(),
        cpu_cores: Some(2),
        ram_bytes: Some(64 << 30),
        free_disk_bytes: Some(100 << 30),
        ..Hardware::default()
    }
}

pub fn http() -> Client {
    // Another test may have installed it before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().connect_timeout(Duration::from_secs(5));
    client.no_proxy().build().unwrap()
}

pub async fn challenge(http: &Client, base: &str, node: NodeId) -> Result<Challenge, Refusal> {
    let body = ChallengeRequest {
        version: VERSION,
        node,
    };
    answer(http.post(format!("{base}/node/v1/challenge")).json(&body)).await
}

pub fn session_request(key: &NodeKey, challenge: Hash, hardware: Hardware) -> SessionRequest {
    SessionRequest {
        version: VERSION,
        node: key.id(),
        challenge,
        signature: key.sign(session_digest(&key.id(), &challenge)),
        software: "simulated 1".to_owned(),
        hardware,
        work: 0,
        instance: None,
    }
}

/// What a node sends to join by an invitation.
pub fn join_request(key: &NodeKey, challenge: Hash, token: InvitationToken) -> JoinRequest {
    JoinRequest {
        version: VERSION,
        node: key.id(),
        challenge,
        signature: key.sign(join_digest(&key.id(), &challenge, &token)),
        token,
        software: "simulated 1".to_owned(),
    }
}

/// Joins by an invitation.
pub async fn join_by(
    http: &Client,
    base: &str,
    key: &NodeKey,
    token: InvitationToken,
) -> Result<Standing, Refusal> {
    let challenge = challenge(http, base, key.id()).await?.challenge;
    let request = join_request(key, challenge, token);
    let joined: Joined = answer(http.post(format!("{base}/node/v1/join")).json(&request)).await?;
    Ok(joined.standing)
}

pub async fn open_session(
    http: &Client,
    base: &str,
    key: &NodeKey,
    hardware: Hardware,
) -> Result<Session, Refusal> {
    let Challenge {
        challenge,
        work_bits,
    } = challenge(http, base, key.id()).await?;
    let request = SessionRequest {
        work: do_work(&key.id(), &challenge, work_bits),
        ..session_request(key, challenge, hardware)
    };
    answer(http.post(format!("{base}/node/v1/session")).json(&request)).await
}

/// What the balancer answers. That none came is [`RefusalCode::Unavailable`]: a node goes on as if
/// the balancer had said so.
pub async fn answer<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, Refusal> {
    let response = send(request).await?;
    let has_body = response.status().as_u16() != 204;
    let text = response.text().await.map_err(lost)?;
    assert_eq!(!text.is_empty(), has_body, "{text}");
    let text = if has_body { text.as_str() } else { "null" };
    Ok(serde_json::from_str(text).unwrap())
}

pub fn code<T: std::fmt::Debug>(outcome: Result<T, Refusal>) -> RefusalCode {
    outcome.unwrap_err().code
}

/// The lines of a response as they come.
pub(crate) struct Lines {
    response: Response,
    rest: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(response: Response) -> Self {
        Self {
            response,
            rest: Vec::new(),
        }
    }

    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(String::from_utf8(line[..end].to_vec()).unwrap());
            }
            self.rest.extend(self.response.chunk().await.ok()??);
        }
    }
}

/// Checks that a refusal's status goes with its code.
async fn send(request: RequestBuilder) -> Result<Response, Refusal> {
    let response = request.send().await.map_err(lost)?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let refusal: Refusal = response.json().await.map_err(lost)?;
    assert_eq!(status.as_u16(), refusal.code.status(), "{refusal:?}");
    Err(refusal)
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn lost(error: reqwest::Error) -> Refusal {
    Refusal {
        code: RefusalCode::Unavailable,
        message: error.to_string(),
    }
}

type Events = mpsc::UnboundedReceiver<(Option<u64>, NodeEvent)>;

async fn subscribe(
    http: &Client,
    base: &str,
    token: &str,
    last_seen: Option<u64>,
) -> Result<(Events, JoinHandle<()>), Refusal> {
    let mut request = http
        .get(format!("{base}/node/v1/events"))
        .bearer_auth(token);
    if let Some(id) = last_seen {
        request = request.header("last-event-id", id);
    }
    let mut lines = Lines::new(send(request).await?);
    let (sender, events) = mpsc::unbounded_channel();
    let stream = tokio::spawn(async move {
        let mut id = None;
        while let Some(line) = lines.next().await {
            if let Some(text) = line.strip_prefix("id: ") {
                id = text.parse().ok();
            } else if let Some(data) = line.strip_prefix("data: ")
                && sender
                    .send((id.take(), serde_json::from_str(data).unwrap()))
                    .is_err()
            {
                return;
            }
        }
    });
    Ok((events, stream))
}
