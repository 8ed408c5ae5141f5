//! What a node sends back: tokens, the hash chain over its chunks, the signed end, or vectors.

use serde::{Deserialize, Serialize};

use crate::CHUNK_TOKENS;
use crate::digest::Digest;
use crate::finite;
use crate::ids::{Hash, JobId, NodeId};
use crate::job::FinishReason;
use crate::signature::{BadSignature, NodeKey, Signature};
use crate::vector::{Vector, vectors_hash};

/// One produced token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenOutput {
    /// Token id in the model's vocabulary.
    pub id: u32,
    /// Natural logarithm of the token's probability at temperature 1, when the job asked for it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "finite::number_or_none"
    )]
    pub logprob: Option<f32>,
    /// The most likely tokens with their log probabilities, best first, as many as asked for.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "finite::of_tokens"
    )]
    pub alternatives: Vec<(u32, f32)>,
}

/// A closed chunk: the head of the hash chain after its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkCommit {
    /// Counts from 0 within an attempt.
    pub index: u32,
    /// The output position after the chunk's last token.
    pub end: u32,
    /// The chain's head, which covers all tokens of the attempt up to `end`.
    pub head: Hash,
}

/// The signed end of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finish {
    /// Why the output ended.
    pub reason: FinishReason,
    /// The output position after the last token: the length of the whole output. The number of
    /// vectors, if it has any.
    pub end: u32,
    /// The head of the hash chain after the last chunk, or the hash of the vectors.
    pub head: Hash,
    /// The node's, over job, attempt, `reason`, `end` and `head`.
    pub signature: Signature,
    /// Milliseconds the engine spent on the prompt, or on all of an embedding.
    pub prefill_ms: u32,
    /// Milliseconds the engine spent on the output; 0 for an embedding.
    pub decode_ms: u32,
    /// One for each text of an embedding; else empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vectors: Vec<Vector>,
}

/// Body of `POST /node/v1/jobs/{job}/output`. Sending it again is harmless.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputBatch {
    /// The protocol's ([`crate::VERSION`]).
    pub version: u16,
    /// The attempt that the node holds; another is refused.
    pub attempt: u32,
    /// The output position of the first token in `tokens`.
    pub position: u32,
    /// In order, without gaps. Those sent before must be the same again.
    pub tokens: Vec<TokenOutput>,
    /// The chunks closed since the last batch.
    pub commits: Vec<ChunkCommit>,
    /// The signed end, in the last batch only.
    pub finish: Option<Finish>,
    /// How many tokens of prompt and earlier output the engine has gone through, before the first
    /// token of this attempt. A batch without tokens is sent when it has grown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub prefilled: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// What the balancer has, and whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputAck {
    /// The output position up to which tokens have arrived.
    pub received: u32,
    /// How many chunks of this attempt are committed.
    pub chunks: u32,
    /// The attempt's signed end has been stored.
    pub finished: bool,
    /// The client has gone: stop, and send the signed end.
    pub cancel: bool,
}

/// The hash chain over an attempt's token ids. Node and balancer build the same one.
#[derive(Debug, Clone)]
pub struct ChunkChain {
    job: JobId,
    attempt: u32,
    position: u32,
    chunks: u32,
    head: Hash,
    open: Vec<u32>,
}

impl ChunkChain {
    /// `start` is the output position of the attempt's first token.
    pub fn new(job: JobId, attempt: u32, start: u32) -> Self {
        let head = Digest::new("infera/chunk-chain/v1")
            .fixed(job.as_bytes())
            .u32(attempt)
            .u32(start)
            .finish();
        Self {
            job,
            attempt,
            position: start,
            chunks: 0,
            head,
            open: Vec::with_capacity(CHUNK_TOKENS),
        }
    }

    /// Adds a token; the chunk closes with its 32nd.
    pub fn push(&mut self, token: u32) -> Option<ChunkCommit> {
        self.open.push(token);
        self.position += 1;
        (self.open.len() == CHUNK_TOKENS).then(|| self.close())
    }

    /// Closes what is left, if anything. Nothing may be pushed afterwards.
    pub fn close_last(&mut self) -> Option<ChunkCommit> {
        (!self.open.is_empty()).then(|| self.close())
    }

    /// The output position after the last token pushed.
    pub fn position(&self) -> u32 {
        self.position
    }

    /// How many chunks are closed.
    pub fn chunks(&self) -> u32 {
        self.chunks
    }

    /// The output position after the last closed chunk.
    pub fn committed(&self) -> u32 {
        self.position - self.open.len() as u32
    }

    /// The hash over all closed chunks; tokens of an open one are not in it.
    pub fn head(&self) -> Hash {
        self.head
    }

    fn close(&mut self) -> ChunkCommit {
        self.head = Digest::new("infera/chunk/v1")
            .fixed(self.job.as_bytes())
            .u32(self.attempt)
            .u32(self.chunks)
            .tokens(&self.open)
            .fixed(self.head.as_bytes())
            .finish();
        let commit = ChunkCommit {
            index: self.chunks,
            end: self.position,
            head: self.head,
        };
        self.chunks += 1;
        self.open.clear();
        commit
    }
}

impl Finish {
    /// Signs the end of an output; the times are those of prompt and output, in milliseconds.
    pub fn sign(
        key: &NodeKey,
        job: JobId,
        attempt: u32,
        reason: FinishReason,
        end: u32,
        head: Hash,
        (prefill_ms, decode_ms): (u32, u32),
    ) -> Self {
        let signature = key.sign(finish_digest(job, attempt, reason, end, head));
        Self {
            reason,
            end,
            head,
            signature,
            prefill_ms,
            decode_ms,
            vectors: Vec::new(),
        }
    }

    /// The end of an embedding; `elapsed_ms` is what the engine spent on it.
    pub fn sign_vectors(
        key: &NodeKey,
        job: JobId,
        attempt: u32,
        vectors: Vec<Vector>,
        elapsed_ms: u32,
    ) -> Self {
        let (end, head) = (vectors.len() as u32, vectors_hash(&vectors));
        let reason = FinishReason::Embedded;
        Self {
            vectors,
            ..Self::sign(key, job, attempt, reason, end, head, (elapsed_ms, 0))
        }
    }

    /// Checks the signature. That `head` is the one of the tokens or the vectors is for the caller
    /// to check.
    pub fn verify(&self, node: &NodeId, job: JobId, attempt: u32) -> Result<(), BadSignature> {
        self.signature.verify(
            node,
            finish_digest(job, attempt, self.reason, self.end, self.head),
        )
    }
}

fn finish_digest(job: JobId, attempt: u32, reason: FinishReason, end: u32, head: Hash) -> Hash {
    Digest::new("infera/finish/v1")
        .fixed(job.as_bytes())
        .u32(attempt)
        .u8(reason.code())
        .u32(end)
        .fixed(head.as_bytes())
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(tokens: &[u32]) -> (Vec<ChunkCommit>, ChunkChain) {
        let mut chain = ChunkChain::new(JobId::from_bytes([3; 16]), 1, 5);
        let mut commits: Vec<_> = tokens
            .iter()
            .filter_map(|token| chain.push(*token))
            .collect();
        commits.extend(chain.close_last());
        (commits, chain)
    }

    #[test]
    fn chunks_close_at_32_tokens_and_at_the_end() {
        let tokens: Vec<u32> = (0..70).collect();
        let (commits, chain) = chain(&tokens);
        let ends: Vec<_> = commits
            .iter()
            .map(|commit| (commit.index, commit.end))
            .collect();
        assert_eq!(ends, [(0, 37), (1, 69), (2, 75)]);
        assert_eq!(chain.committed(), 75);
        assert_eq!(chain.head(), commits[2].head);
    }

    #[test]
    fn a_changed_token_changes_its_chunk_and_all_later_ones() {
        let tokens: Vec<u32> = (0..70).collect();
        let mut changed = tokens.clone();
        changed[40] = 7;
        let (commits, _) = chain(&tokens);
        let (others, _) = chain(&changed);
        assert_eq!(commits[0], others[0]);
        assert_ne!(commits[1].head, others[1].head);
        assert_ne!(commits[2].head, others[2].head);
    }

    #[test]
    fn a_finish_is_bound_to_job_attempt_and_content() {
        let key = NodeKey::from_secret(&[1; 32]);
        let job = JobId::from_bytes([3; 16]);
        let head = Hash::from_bytes([9; 32]);
        let finish = Finish::sign(&key, job, 2, FinishReason::EndOfText, 40, head, (1, 2));
        assert_eq!(finish.verify(&key.id(), job, 2), Ok(()));
        assert!(finish.verify(&key.id(), job, 1).is_err());
        assert!(
            finish
                .verify(&key.id(), JobId::from_bytes([4; 16]), 2)
                .is_err()
        );
        let changed = Finish {
            reason: FinishReason::Length,
            ..finish.clone()
        };
        assert!(changed.verify(&key.id(), job, 2).is_err());
        let longer = Finish { end: 41, ..finish };
        assert!(longer.verify(&key.id(), job, 2).is_err());
        let vectors = vec![Vector(vec![1.0, 0.0])];
        let embedded = Finish::sign_vectors(&key, job, 2, vectors.clone(), 5);
        assert_eq!((embedded.end, embedded.head), (1, vectors_hash(&vectors)));
        assert_eq!(embedded.verify(&key.id(), job, 2), Ok(()));
        assert!(embedded.verify(&key.id(), job, 3).is_err());
    }
}
