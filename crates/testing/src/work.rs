//! A node's work on one job: the batches that it sends, their commitments, and the signed end.

use std::sync::Arc;

use infera_model::{StopMatcher, StreamDecoder};
use infera_protocol::{
    ChunkChain, Finish, FinishReason, JobSeed, JobSpec, NodeKey, OutputBatch, TokenOutput, VERSION,
    Vector,
};

use crate::model::{head, sim_token, writing};

/// All that a node writes of a job, and why it ends there.
pub type Answer = (Vec<TokenOutput>, FinishReason);

/// A job and what a node makes of it, sent in batches of any size.
pub struct Work {
    pub spec: JobSpec,
    pub chain: ChunkChain,
    /// What was sent.
    pub tokens: Vec<u32>,
    rest: std::vec::IntoIter<TokenOutput>,
    reason: FinishReason,
}

impl Work {
    pub fn new(spec: JobSpec, (tokens, reason): Answer) -> Self {
        Self {
            chain: ChunkChain::new(spec.job, spec.attempt, spec.start()),
            tokens: Vec::new(),
            rest: tokens.into_iter(),
            reason,
            spec,
        }
    }

    /// What the simulated model writes.
    pub fn honest(spec: JobSpec) -> Self {
        let answer = model_answer(&spec, &writing(&spec).seed);
        Self::new(spec, answer)
    }

    /// What it writes with another seed.
    pub fn cheat(spec: JobSpec) -> Self {
        let answer = model_answer(&spec, &JobSeed::from_bytes([99; 32]));
        Self::new(spec, answer)
    }

    /// Whether all is sent but the end.
    pub fn is_written(&self) -> bool {
        self.rest.len() == 0
    }

    /// The next tokens, of which there may be none, without an end.
    pub fn batch(&mut self, count: usize) -> OutputBatch {
        let position = self.chain.position();
        let tokens: Vec<_> = self.rest.by_ref().take(count).collect();
        self.tokens.extend(tokens.iter().map(|token| token.id));
        OutputBatch {
            version: VERSION,
            attempt: self.spec.attempt,
            position,
            commits: tokens
                .iter()
                .filter_map(|token| self.chain.push(token.id))
                .collect(),
            tokens,
            finish: None,
            prefilled: 0,
        }
    }

    /// All that is left, with the signed end.
    pub fn last_batch(&mut self, key: &NodeKey) -> OutputBatch {
        let mut batch = self.batch(usize::MAX);
        batch.commits.extend(self.chain.close_last());
        let (job, attempt) = (self.spec.job, self.spec.attempt);
        let (end, head) = (self.chain.position(), self.chain.head());
        let finish = Finish::sign(key, job, attempt, self.reason, end, head, (1, 2));
        batch.finish = Some(finish);
        batch
    }

    /// Stops where it is.
    pub fn cancelled_batch(&mut self, key: &NodeKey) -> OutputBatch {
        self.cancel();
        self.last_batch(key)
    }

    pub(crate) fn cancel(&mut self) {
        self.rest = Vec::new().into_iter();
        self.reason = FinishReason::Cancelled;
    }
}

/// The one batch of a node that has computed these vectors.
pub fn embedded(key: &NodeKey, spec: &JobSpec, vectors: Vec<Vector>) -> OutputBatch {
    let finish = Finish::sign_vectors(key, spec.job, spec.attempt, vectors, 5);
    OutputBatch {
        version: VERSION,
        attempt: spec.attempt,
        position: 0,
        tokens: Vec::new(),
        commits: Vec::new(),
        finish: Some(finish),
        prefilled: 0,
    }
}

/// What the simulated model writes after the output that is there, with the noise of a seed.
fn model_answer(spec: &JobSpec, seed: &JobSeed) -> Answer {
    let writing = writing(spec);
    let tokenizer = head().tokenizer();
    let mut decoder = StreamDecoder::after(Arc::clone(tokenizer), &spec.task.input);
    let mut matcher = StopMatcher::new(&writing.stop);
    let mut tokens = Vec::new();
    for position in 0.. {
        let there = spec.output.get(position as usize).copied();
        let id = there.unwrap_or_else(|| sim_token(seed, position));
        if there.is_none() {
            tokens.push(TokenOutput {
                id,
                logprob: writing.logprobs.map(|_| -0.5),
                alternatives: match writing.logprobs {
                    Some(count) if count > 0 => vec![(id, -0.5)],
                    _ => Vec::new(),
                },
            });
        }
        if tokenizer.is_end(id) {
            return (tokens, FinishReason::EndOfText);
        }
        if matcher.push(&decoder.push(id)).matched {
            return (tokens, FinishReason::Stop);
        }
        if position + 1 >= writing.max_tokens {
            return (tokens, FinishReason::Length);
        }
    }
    unreachable!("each answer has an end")
}
