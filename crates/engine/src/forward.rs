//! A model as the scheduler sees it: segments of sequences go in, logits come out.

use std::ops::Range;

use crate::message::Failure;

/// Positions in one KV block.
pub const BLOCK_TOKENS: usize = 32;

/// A forward pass with a paged KV cache.
pub trait Forward {
    fn vocabulary(&self) -> usize;
    /// The longest sequence, prompt and output together.
    fn context(&self) -> usize;
    /// How many KV blocks there are.
    fn blocks(&self) -> usize;
    /// Bytes of one block, over all layers.
    fn block_bytes(&self) -> u64;
    /// Writes each segment's keys and values to its blocks, and gives the logits after all wanted
    /// tokens, in order, in rows of `vocabulary`.
    fn forward(&mut self, segments: &[Segment<'_>]) -> Result<Vec<f32>, Failure>;
}

/// Part of one sequence that goes through the model in one pass.
pub struct Segment<'a> {
    /// Never empty.
    pub tokens: &'a [u32],
    /// The position of the first of them.
    pub start: usize,
    /// The sequence's KV blocks: position `p` is row `p % BLOCK_TOKENS` of block
    /// `blocks[p / BLOCK_TOKENS]`. Those that end at or before `start` may be shared with other
    /// sequences and are only read.
    pub blocks: &'a [u32],
    /// Of `tokens`, those after which the logits are wanted.
    pub wanted: Range<usize>,
}
