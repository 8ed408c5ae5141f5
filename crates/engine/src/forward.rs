//! What the scheduler asks of a model: one pass for parts of many sequences over a paged KV cache.

use std::ops::Range;

use crate::message::Failure;

/// Positions per KV block.
pub const BLOCK_TOKENS: usize = 32;

/// Part of one sequence that goes through the model in this pass.
pub struct Segment<'a> {
    pub tokens: &'a [u32],
    /// Position of the first of them.
    pub start: usize,
    /// The sequence's KV blocks in order: position `p` lives in block `blocks[p / BLOCK_TOKENS]`,
    /// at `p % BLOCK_TOKENS`. Covers `start + tokens.len()`. Blocks before `start` may be shared
    /// with other sequences (prefix cache): they are only read.
    pub blocks: &'a [u32],
    /// Of `tokens`, those after which logits are wanted.
    pub wanted: Range<usize>,
}

/// A model as the scheduler sees it.
pub trait Forward {
    fn vocabulary(&self) -> usize;

    /// Prompt and output together.
    fn context(&self) -> usize;

    /// How many KV blocks there are.
    fn blocks(&self) -> usize;

    fn block_bytes(&self) -> u64;

    /// One pass; gives the logits `[wanted rows, vocabulary]` in f32, segments in order.
    fn forward(&mut self, segments: &[Segment<'_>]) -> Result<Vec<f32>, Failure>;
}
