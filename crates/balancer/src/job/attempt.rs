//! One node's hold on a job: its lease, its speed, what it is paid for.

use std::time::Duration;

use infera_protocol::{ChunkChain, ChunkCommit, Finish, Hash, JobId, NodeId};
use tokio::time::Instant;

use super::Place;
use crate::config::Config;
use crate::reach::Host;

/// A node whose speed was measured may be so much slower for once.
const SLOWER_THAN_MEASURED: f64 = 3.0;

/// A node's hold on a job.
pub(crate) struct Attempt {
    pub number: u32,
    pub node: NodeId,
    /// What the node was to the client when it took the job.
    pub host: Host,
    pub start: u32,
    /// The chain's head before the first token.
    pub origin: Hash,
    pub chain: ChunkChain,
    /// Chunks that the tokens close, of which the node has committed the first `committed`.
    pub closed: Vec<ChunkCommit>,
    pub committed: usize,
    pub lease_until: Instant,
    pub claimed_at: Instant,
    /// The node's speeds bound what it may take for the prompt.
    pub prefill_until: Instant,
    /// Tokens of prompt and earlier output that the node says it has gone through.
    pub prefilled: u32,
    pub first_token: Option<Instant>,
    pub last_token: Option<Instant>,
    /// Without its vectors, which are the job's.
    pub finish: Option<Finish>,
    /// The node's; not for what an earlier run of the balancer began.
    pub place: Option<Place>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PastAttempt {
    pub number: u32,
    pub node: NodeId,
    pub host: Host,
    pub start: u32,
    pub end: u32,
    pub share: i64,
    pub gross: i64,
    /// Tokens of the prompt that are paid though nothing was written after them.
    pub prefilled: u32,
}

/// Tokens a second, as far as they are known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Speeds {
    pub prefill: Option<f64>,
    pub decode: Option<f64>,
}

impl Attempt {
    pub(crate) fn new(
        job: JobId,
        number: u32,
        (node, host): (NodeId, Host),
        start: u32,
        now: Instant,
        lease_until: Instant,
    ) -> Self {
        let chain = ChunkChain::new(job, number, start);
        Self {
            number,
            node,
            host,
            start,
            origin: chain.head(),
            chain,
            closed: Vec::new(),
            committed: 0,
            lease_until,
            claimed_at: now,
            prefill_until: lease_until,
            prefilled: 0,
            first_token: None,
            last_token: None,
            finish: None,
            place: None,
        }
    }

    /// A claim's first lease, for `prompt` tokens of prompt and earlier output.
    pub(crate) fn with_lease(
        mut self,
        config: &Config,
        prompt: u32,
        prefill_per_second: Option<f64>,
    ) -> Self {
        self.lease_until = self.claimed_at + config.lease + config.lease_per_prompt_token * prompt;
        self.prefill_until = self.claimed_at + prefill_time(config, prompt, prefill_per_second);
        self
    }

    /// Tokens a second of the prompt and of the output, as this attempt shows them. What a node
    /// holds back and sends at once does not make it faster: a quarter of the whole time counts as
    /// writing at least.
    pub(crate) fn speeds(&self, prompt: u32, written: u32) -> Speeds {
        let (Some(first), Some(last)) = (self.first_token, self.last_token) else {
            return Speeds::default();
        };
        let before = first.duration_since(self.claimed_at).as_secs_f64();
        let whole = last.duration_since(self.claimed_at).as_secs_f64().max(1e-3);
        let writing = (whole - before).max(whole / 4.0);
        Speeds {
            prefill: (prompt >= 8).then(|| f64::from(prompt) / before.max(1e-3)),
            decode: (written >= 8).then(|| f64::from(written) / writing),
        }
    }

    /// The output position up to which the node is paid: everything once it has signed the end,
    /// else the closed chunks.
    pub(crate) fn paid_until(&self) -> u32 {
        match &self.finish {
            Some(finish) => finish.end,
            None => self
                .committed
                .checked_sub(1)
                .and_then(|index| self.closed.get(index))
                .map_or(self.start, |commit| commit.end),
        }
    }
}

impl Speeds {
    /// What is known after one more measurement.
    pub(crate) fn after(self, measured: Self) -> Self {
        let mixed = |known: Option<f64>, new: Option<f64>| match (known, new) {
            (Some(known), Some(new)) => Some(0.7 * known + 0.3 * new),
            (known, new) => new.or(known),
        };
        Self {
            prefill: mixed(self.prefill, measured.prefill),
            decode: mixed(self.decode, measured.decode),
        }
    }

    /// How long so many tokens would take, in seconds. Unmeasured is infinitely long.
    pub(crate) fn seconds(self, prompt: u32, output: u32) -> f64 {
        let time = |tokens: u32, speed: Option<f64>| {
            f64::from(tokens) / speed.unwrap_or(0.0).max(f64::MIN_POSITIVE)
        };
        time(prompt, self.prefill.or(self.decode)) + time(output, self.decode)
    }
}

/// How long a node may take for `prompt` tokens while it tells of progress; `prefill_per_second` is
/// what was measured of it.
fn prefill_time(config: &Config, prompt: u32, prefill_per_second: Option<f64>) -> Duration {
    let least = config.least_prefill_per_second;
    let speed = prefill_per_second.map_or(least, |speed| speed / SLOWER_THAN_MEASURED);
    let slow = Duration::from_secs_f64(f64::from(prompt) / speed.clamp(least / 10.0, least));
    config.lease + slow.max(config.lease_per_prompt_token * prompt)
}
