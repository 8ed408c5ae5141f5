//! A node that claims jobs by the rules and answers them by its own.

use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use infera_protocol::node_api::{
    Challenge, ChallengeRequest, Claim, NodeEvent, NodeState, Offer, Session, SessionRequest,
    claim_digest, session_digest,
};
use infera_protocol::requirements::Hardware;
use infera_protocol::{
    ChunkChain, Finish, FinishReason, Hash, JobSeed, JobSpec, ModelId, NodeKey, OutputBatch,
    TokenOutput, VERSION,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::Agent;
use xtask::Result;

use crate::engine::Engine;

/// What the node does instead of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Answers with whatever its engine gives, which may be another model's.
    WhatTheEngineGives,
    /// Draws its own noise, for example to pick an answer it likes.
    OtherSeed,
    /// Stops half-way and claims that the model had ended there.
    Truncate { end_token: u32 },
}

pub struct Rogue {
    key: NodeKey,
    engine: Engine,
    model: ModelId,
    deed: Deed,
    base: String,
    agent: Agent,
    token: String,
}

impl Rogue {
    /// Opens a session as a node that has `model` loaded.
    pub fn connect(
        base: &str,
        secret: u8,
        engine: Engine,
        model: ModelId,
        deed: Deed,
    ) -> Result<Self> {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_idle_connections(0)
            .build()
            .new_agent();
        let mut rogue = Self {
            key: NodeKey::from_secret(&[secret; 32]),
            engine,
            model,
            deed,
            base: format!("{base}/node/v1"),
            agent,
            token: String::new(),
        };
        let node = rogue.key.id();
        let Challenge { challenge } = rogue.post(
            "challenge",
            &ChallengeRequest {
                version: VERSION,
                node,
            },
        )?;
        let session: Session = rogue.post(
            "session",
            &SessionRequest {
                version: VERSION,
                node,
                challenge,
                signature: rogue.key.sign(session_digest(&node, &challenge)),
                software: "rogue".to_owned(),
                hardware: hardware(),
            },
        )?;
        rogue.token = session.token;
        Ok(rogue)
    }

    pub fn id(&self) -> String {
        self.key.id().to_string()
    }

    /// Works until told to stop.
    pub fn work(mut self, stop: &AtomicBool) -> Result<()> {
        let events = self.events()?;
        self.tell_state()?;
        while !stop.load(Ordering::Relaxed) {
            match events.recv_timeout(Duration::from_millis(500)) {
                Ok(NodeEvent::Offer(offer)) => {
                    self.take(&offer)?;
                    self.tell_state()?;
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => self.tell_state()?,
                Err(RecvTimeoutError::Disconnected) => return Err("the events ended".into()),
            }
        }
        Ok(())
    }

    fn take(&mut self, offer: &Offer) -> Result<()> {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(offer.job.as_bytes());
        bytes[16..20].copy_from_slice(&offer.attempt.to_le_bytes());
        let nonce = Hash::from_bytes(bytes);
        let digest = claim_digest(offer.job, offer.attempt, &self.key.id(), &nonce);
        let spec: JobSpec = self.post(
            &format!("jobs/{}/claim", offer.job),
            &Claim {
                version: VERSION,
                attempt: offer.attempt,
                nonce,
                signature: self.key.sign(digest),
            },
        )?;
        let (tokens, reason) = self.answer(&spec)?;
        self.deliver(&spec, tokens, reason)
    }

    fn answer(&mut self, spec: &JobSpec) -> Result<(Vec<TokenOutput>, FinishReason)> {
        let seed = match self.deed {
            Deed::OtherSeed => JobSeed::from_bytes(spec.seed.as_bytes().map(|byte| !byte)),
            Deed::WhatTheEngineGives | Deed::Truncate { .. } => spec.seed,
        };
        let (mut tokens, reason) = self.engine.generate(spec, seed)?;
        if let Deed::Truncate { end_token } = self.deed {
            tokens.truncate(tokens.len() / 2);
            tokens.push(TokenOutput {
                id: end_token,
                logprob: None,
                alternatives: Vec::new(),
            });
            return Ok((tokens, FinishReason::EndOfText));
        }
        Ok((tokens, reason))
    }

    fn deliver(
        &self,
        spec: &JobSpec,
        tokens: Vec<TokenOutput>,
        reason: FinishReason,
    ) -> Result<()> {
        let mut chain = ChunkChain::new(spec.job, spec.attempt, spec.start());
        let mut commits: Vec<_> = tokens
            .iter()
            .filter_map(|token| chain.push(token.id))
            .collect();
        commits.extend(chain.close_last());
        let finish = Finish::sign(
            &self.key,
            spec.job,
            spec.attempt,
            reason,
            chain.position(),
            chain.head(),
            (1, 1),
        );
        let _: serde_json::Value = self.post(
            &format!("jobs/{}/output", spec.job),
            &OutputBatch {
                version: VERSION,
                attempt: spec.attempt,
                position: spec.start(),
                tokens,
                commits,
                finish: Some(finish),
            },
        )?;
        Ok(())
    }

    fn tell_state(&self) -> Result<()> {
        self.post(
            "state",
            &NodeState {
                models: vec![self.model],
                free_slots: 1,
                paused: None,
                hardware: hardware(),
            },
        )
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
        let mut request = self
            .agent
            .post(format!("{}/{path}", self.base))
            .header("Content-Type", "application/json");
        if !self.token.is_empty() {
            request = request.header("Authorization", format!("Bearer {}", self.token));
        }
        let mut response = request.send(&serde_json::to_vec(body)?[..])?;
        let status = response.status();
        let text = response.body_mut().read_to_string()?;
        if !status.is_success() {
            return Err(format!("{path}: HTTP {status}: {text}").into());
        }
        let text = if text.is_empty() { "null" } else { &text };
        Ok(serde_json::from_str(text)?)
    }
}

fn hardware() -> Hardware {
    Hardware {
        os: "rogue".to_owned(),
        cpu: "rogue".to_owned(),
        cpu_cores: Some(2),
        ram_bytes: Some(64 << 30),
        free_disk_bytes: Some(64 << 30),
        ..Hardware::default()
    }
}
