//! A node without a model: it keeps to the protocol, and whoever made it says what it answers.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use infera_protocol::audit::audit_commit_digest;
use infera_protocol::node_api::{
    AuditCommit, AuditReveal, Challenge, ChallengeRequest, Claim, NodeEvent, NodeState, Offer,
    Release, Session, SessionRequest, claim_digest, do_work, session_digest,
};
use infera_protocol::output::OutputAck;
use infera_protocol::requirements::Hardware;
use infera_protocol::{
    AuditId, AuditReport, AuditSpec, ChunkChain, Finish, FinishReason, Hash, JobSpec, ModelId,
    NodeKey, OutputBatch, TokenOutput, VERSION,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use ureq::Agent;
use xtask::Result;

const SIGN_OF_LIFE: Duration = Duration::from_secs(8);

/// A job's whole output, and why it ended.
pub type Answer = (Vec<TokenOutput>, FinishReason);

/// What a simulated node says to a job.
pub type Conduct = Box<dyn FnMut(&JobSpec) -> Result<Answer> + Send>;

/// A node's calls to the balancer, and nothing more.
pub struct NodeCalls {
    pub key: NodeKey,
    model: ModelId,
    base: String,
    agent: Agent,
    token: String,
}

/// A node's work on one job: it keeps the chain of commitments.
pub struct Writing {
    pub spec: JobSpec,
    chain: ChunkChain,
}

pub struct SimulatedNode {
    calls: NodeCalls,
    conduct: Conduct,
    /// Reports that wait until every reference has committed.
    sealed: HashMap<AuditId, (AuditReport, Hash)>,
}

impl NodeCalls {
    /// Opens a session as a node that has `model` loaded.
    pub fn connect(base: &str, key: NodeKey, model: ModelId) -> Result<Self> {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(5)))
            .build()
            .new_agent();
        let mut calls = Self {
            key,
            model,
            base: format!("{base}/node/v1"),
            agent,
            token: String::new(),
        };
        let id = calls.key.id();
        let hello = ChallengeRequest {
            version: VERSION,
            node: id,
        };
        let Challenge {
            challenge,
            work_bits,
        } = calls.post("challenge", &hello)?;
        let proof = SessionRequest {
            version: VERSION,
            node: id,
            challenge,
            signature: calls.key.sign(session_digest(&id, &challenge)),
            software: "simulated".to_owned(),
            hardware: hardware(),
            work: do_work(&id, &challenge, work_bits),
            instance: None,
        };
        let session: Session = calls.post("session", &proof)?;
        calls.token = session.token;
        Ok(calls)
    }

    /// None when another node was first.
    pub fn claim(&self, offer: &Offer) -> Result<Option<JobSpec>> {
        let mut nonce = [0; 32];
        nonce[..16].copy_from_slice(offer.job.as_bytes());
        nonce[16..20].copy_from_slice(&offer.attempt.to_le_bytes());
        nonce[20..].copy_from_slice(&self.key.id().as_bytes()[..12]);
        let nonce = Hash::from_bytes(nonce);
        let digest = claim_digest(offer.job, offer.attempt, &self.key.id(), &nonce);
        let claim = Claim {
            version: VERSION,
            attempt: offer.attempt,
            nonce,
            signature: self.key.sign(digest),
        };
        let (status, text) = self.send(&format!("jobs/{}/claim", offer.job), &claim)?;
        match status {
            200 => Ok(Some(serde_json::from_str(&text)?)),
            // Taken, gone, or no longer ours to take.
            403 | 404 | 409 | 410 => Ok(None),
            _ => Err(format!("the claim got HTTP {status}: {text}").into()),
        }
    }

    pub fn output(&self, spec: &JobSpec, batch: &OutputBatch) -> Result<OutputAck> {
        self.post(&format!("jobs/{}/output", spec.job), batch)
    }

    pub fn release(&self, spec: &JobSpec) -> Result<()> {
        let release = Release {
            version: VERSION,
            attempt: spec.attempt,
            reason: "simulated".to_owned(),
        };
        self.post(&format!("jobs/{}/release", spec.job), &release)
    }

    pub fn tell_state(&self, free_slots: u32) -> Result<()> {
        let state = NodeState {
            models: vec![self.model],
            context_tokens: Vec::new(),
            free_slots,
            paused: None,
            hardware: hardware(),
        };
        self.post("state", &state)
    }

    pub fn events(&self) -> Result<Receiver<NodeEvent>> {
        let response = self
            .agent
            .get(format!("{}/events", self.base))
            .header("Authorization", format!("Bearer {}", self.token))
            .call()?;
        let lines = BufReader::with_capacity(256, response.into_body().into_reader()).lines();
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(std::io::Result::ok) {
                let event = line
                    .strip_prefix("data:")
                    .map(|data| serde_json::from_str(data.trim()));
                if let Some(Ok(event)) = event
                    && sender.send(event).is_err()
                {
                    return;
                }
            }
        });
        Ok(receiver)
    }

    /// Posts and reads the answer; no body is read as `null`.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        let (status, text) = self.send(path, body)?;
        if !(200..300).contains(&status) {
            return Err(format!("{path} got HTTP {status}: {text}").into());
        }
        let text = if text.is_empty() { "null" } else { &text };
        Ok(serde_json::from_str(text)?)
    }

    fn send(&self, path: &str, body: &impl Serialize) -> Result<(u16, String)> {
        let mut request = self
            .agent
            .post(format!("{}/{path}", self.base))
            .header("Content-Type", "application/json");
        if !self.token.is_empty() {
            request = request.header("Authorization", format!("Bearer {}", self.token));
        }
        let mut response = request.send(&serde_json::to_vec(body)?[..])?;
        let text = response.body_mut().read_to_string()?;
        Ok((response.status().as_u16(), text))
    }
}

impl Writing {
    pub fn new(spec: JobSpec) -> Self {
        let chain = ChunkChain::new(spec.job, spec.attempt, spec.start());
        Self { spec, chain }
    }

    /// The next tokens, which may be none, without an end.
    pub fn batch(&mut self, tokens: Vec<TokenOutput>) -> OutputBatch {
        let position = self.chain.position();
        let commits = tokens
            .iter()
            .filter_map(|token| self.chain.push(token.id))
            .collect();
        OutputBatch {
            version: VERSION,
            attempt: self.spec.attempt,
            position,
            tokens,
            commits,
            finish: None,
            prefilled: 0,
        }
    }

    /// The last tokens, with the signed end.
    pub fn last_batch(&mut self, key: &NodeKey, (tokens, reason): Answer) -> OutputBatch {
        let mut batch = self.batch(tokens);
        batch.commits.extend(self.chain.close_last());
        let (end, head) = (self.chain.position(), self.chain.head());
        let (job, attempt) = (self.spec.job, self.spec.attempt);
        batch.finish = Some(Finish::sign(key, job, attempt, reason, end, head, (1, 1)));
        batch
    }
}

impl SimulatedNode {
    /// Opens a session as a node that has `model` loaded. As a reference node, it finds every
    /// output right.
    pub fn connect(base: &str, key: NodeKey, model: ModelId, conduct: Conduct) -> Result<Self> {
        Ok(Self {
            calls: NodeCalls::connect(base, key, model)?,
            conduct,
            sealed: HashMap::new(),
        })
    }

    /// Works until told to stop.
    pub fn work(mut self, stop: &AtomicBool) -> Result<()> {
        let events = self.calls.events()?;
        self.calls.tell_state(1)?;
        let mut told = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            match events.recv_timeout(Duration::from_millis(200)) {
                Ok(event) => self.react(event)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err("the events ended".into()),
            }
            if told.elapsed() > SIGN_OF_LIFE {
                self.calls.tell_state(1)?;
                told = Instant::now();
            }
        }
        Ok(())
    }

    fn react(&mut self, event: NodeEvent) -> Result<()> {
        match event {
            NodeEvent::Offer(offer) => {
                let Some(spec) = self.calls.claim(&offer)? else {
                    return Ok(());
                };
                let answer = (self.conduct)(&spec)?;
                let mut writing = Writing::new(spec);
                let batch = writing.last_batch(&self.calls.key, answer);
                self.calls.output(&writing.spec, &batch)?;
                self.calls.tell_state(1)
            }
            NodeEvent::Audit { audit, .. } => self.check(audit),
            NodeEvent::Reveal { audit } => {
                if let Some((report, salt)) = self.sealed.remove(&audit) {
                    self.calls.post::<()>(
                        &format!("audits/{audit}/report"),
                        &AuditReveal { report, salt },
                    )?;
                }
                self.calls.tell_state(1)
            }
            NodeEvent::Withdrawn { .. }
            | NodeEvent::Cancel { .. }
            | NodeEvent::Settled(_)
            | NodeEvent::Reset => Ok(()),
        }
    }

    fn check(&mut self, audit: AuditId) -> Result<()> {
        let spec: AuditSpec = self
            .calls
            .post(&format!("audits/{audit}/accept"), &json!({}))?;
        let report = AuditReport {
            audit,
            model: spec.task.model,
            backend: "simulated".to_owned(),
            positions: spec.output.len() as u32,
            mismatches: Vec::new(),
            // Any that its like report too.
            log_probabilities: spec.output.iter().map(|_| -0.5).collect(),
            vectors: Vec::new(),
            elapsed_ms: 1,
        };
        let salt = Hash::from_bytes(*self.calls.key.id().as_bytes());
        let commitment = report.commitment(&salt);
        let commit = AuditCommit {
            commitment,
            signature: self.calls.key.sign(audit_commit_digest(audit, commitment)),
        };
        self.sealed.insert(audit, (report, salt));
        self.calls.post(&format!("audits/{audit}/commit"), &commit)
    }
}

fn hardware() -> Hardware {
    Hardware {
        os: "simulated".to_owned(),
        cpu: "simulated".to_owned(),
        cpu_cores: Some(2),
        ram_bytes: Some(64 << 30),
        free_disk_bytes: Some(64 << 30),
        ..Hardware::default()
    }
}
