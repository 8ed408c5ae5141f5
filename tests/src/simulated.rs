//! A node without a model: it keeps to the protocol, and whoever made it says what it answers.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use infera_protocol::audit::audit_commit_digest;
use infera_protocol::node_api::{
    AuditCommit, AuditReveal, Challenge, ChallengeRequest, Claim, NodeEvent, NodeState, Offer,
    Session, SessionRequest, claim_digest, do_work, session_digest,
};
use infera_protocol::requirements::Hardware;
use infera_protocol::{
    AuditId, AuditReport, AuditTask, ChunkChain, Finish, FinishReason, Hash, JobSpec, ModelId,
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

pub struct SimulatedNode {
    key: NodeKey,
    model: ModelId,
    conduct: Conduct,
    base: String,
    agent: Agent,
    token: String,
    /// Reports that wait until every reference has committed.
    sealed: HashMap<AuditId, (AuditReport, Hash)>,
}

impl SimulatedNode {
    /// Opens a session as a node that has `model` loaded. As a reference node, it finds every
    /// output right.
    pub fn connect(base: &str, key: NodeKey, model: ModelId, conduct: Conduct) -> Result<Self> {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(5)))
            .build()
            .new_agent();
        let mut node = Self {
            key,
            model,
            conduct,
            base: format!("{base}/node/v1"),
            agent,
            token: String::new(),
            sealed: HashMap::new(),
        };
        let id = node.key.id();
        let hello = ChallengeRequest {
            version: VERSION,
            node: id,
        };
        let Challenge {
            challenge,
            work_bits,
        } = node.post("challenge", &hello)?;
        let proof = SessionRequest {
            version: VERSION,
            node: id,
            challenge,
            signature: node.key.sign(session_digest(&id, &challenge)),
            software: "simulated".to_owned(),
            hardware: hardware(),
            work: do_work(&id, &challenge, work_bits),
            instance: None,
        };
        let session: Session = node.post("session", &proof)?;
        node.token = session.token;
        Ok(node)
    }

    /// Works until told to stop.
    pub fn work(mut self, stop: &AtomicBool) -> Result<()> {
        let events = self.events()?;
        self.tell_state()?;
        let mut told = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            match events.recv_timeout(Duration::from_millis(200)) {
                Ok(event) => self.react(event)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err("the events ended".into()),
            }
            if told.elapsed() > SIGN_OF_LIFE {
                self.tell_state()?;
                told = Instant::now();
            }
        }
        Ok(())
    }

    fn react(&mut self, event: NodeEvent) -> Result<()> {
        match event {
            NodeEvent::Offer(offer) => {
                let Some(spec) = self.claim(&offer)? else {
                    return Ok(());
                };
                let answer = (self.conduct)(&spec)?;
                self.deliver(&spec, answer)?;
                self.tell_state()
            }
            NodeEvent::Audit { audit, .. } => self.check(audit),
            NodeEvent::Reveal { audit } => {
                if let Some((report, salt)) = self.sealed.remove(&audit) {
                    self.post::<()>(
                        &format!("audits/{audit}/report"),
                        &AuditReveal { report, salt },
                    )?;
                }
                self.tell_state()
            }
            NodeEvent::Withdrawn { .. }
            | NodeEvent::Cancel { .. }
            | NodeEvent::Settled(_)
            | NodeEvent::Reset => Ok(()),
        }
    }

    /// None when another node was first.
    fn claim(&self, offer: &Offer) -> Result<Option<JobSpec>> {
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

    fn deliver(&self, spec: &JobSpec, (tokens, reason): Answer) -> Result<()> {
        let mut chain = ChunkChain::new(spec.job, spec.attempt, spec.start());
        let mut commits: Vec<_> = tokens
            .iter()
            .filter_map(|token| chain.push(token.id))
            .collect();
        commits.extend(chain.close_last());
        let (end, head) = (chain.position(), chain.head());
        let finish = Finish::sign(&self.key, spec.job, spec.attempt, reason, end, head, (1, 1));
        let batch = OutputBatch {
            version: VERSION,
            attempt: spec.attempt,
            position: spec.start(),
            tokens,
            commits,
            finish: Some(finish),
            prefilled: 0,
        };
        let _: serde_json::Value = self.post(&format!("jobs/{}/output", spec.job), &batch)?;
        Ok(())
    }

    fn check(&mut self, audit: AuditId) -> Result<()> {
        let task: AuditTask = self.post(&format!("audits/{audit}/accept"), &json!({}))?;
        let report = AuditReport {
            audit,
            model: task.model,
            backend: "simulated".to_owned(),
            positions: task.output.len() as u32,
            mismatches: Vec::new(),
            // Any that its like report too.
            log_probabilities: task.output.iter().map(|_| -0.5).collect(),
            vectors: Vec::new(),
            elapsed_ms: 1,
        };
        let salt = Hash::from_bytes(*self.key.id().as_bytes());
        let commitment = report.commitment(&salt);
        let commit = AuditCommit {
            commitment,
            signature: self.key.sign(audit_commit_digest(audit, commitment)),
        };
        self.sealed.insert(audit, (report, salt));
        self.post(&format!("audits/{audit}/commit"), &commit)
    }

    fn tell_state(&self) -> Result<()> {
        let state = NodeState {
            models: vec![self.model],
            context_tokens: Vec::new(),
            free_slots: 1,
            paused: None,
            hardware: hardware(),
        };
        self.post("state", &state)
    }

    fn events(&self) -> Result<Receiver<NodeEvent>> {
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
    fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
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
