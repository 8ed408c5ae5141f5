//! What the scheduler asks of a model: one pass for parts of many sequences over a paged KV cache.

use infera_cpu::CpuModel;
pub use infera_cpu::{BLOCK_TOKENS, Segment, block_bytes};
use infera_verify::best;
use rayon::prelude::*;

use crate::message::Failure;

/// A model as the scheduler sees it.
pub trait Forward {
    /// What errors call the model.
    fn name(&self) -> &str;

    fn vocabulary(&self) -> usize;

    /// Prompt and output together.
    fn context(&self) -> usize;

    /// How many KV blocks there are.
    fn blocks(&self) -> usize;

    fn block_bytes(&self) -> u64;

    /// One pass; gives the logits `[wanted rows, vocabulary]` in f32, segments in order.
    fn forward(&mut self, segments: &[Segment<'_>]) -> Result<Vec<f32>, Failure>;

    /// One pass; gives of each wanted row, segments in order, what [`best`] gives of its logits:
    /// less to read back from a device than all of them.
    fn forward_best(
        &mut self,
        segments: &[Segment<'_>],
        count: usize,
    ) -> Result<Vec<Vec<(u32, f32)>>, Failure> {
        let logits = self.forward(segments)?;
        let rows = logits.par_chunks_exact(self.vocabulary());
        Ok(rows.map(|row| best(row, count)).collect())
    }
}

impl<M: Forward + ?Sized> Forward for Box<M> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn vocabulary(&self) -> usize {
        (**self).vocabulary()
    }

    fn context(&self) -> usize {
        (**self).context()
    }

    fn blocks(&self) -> usize {
        (**self).blocks()
    }

    fn block_bytes(&self) -> u64 {
        (**self).block_bytes()
    }

    fn forward(&mut self, segments: &[Segment<'_>]) -> Result<Vec<f32>, Failure> {
        (**self).forward(segments)
    }

    fn forward_best(
        &mut self,
        segments: &[Segment<'_>],
        count: usize,
    ) -> Result<Vec<Vec<(u32, f32)>>, Failure> {
        (**self).forward_best(segments, count)
    }
}

impl Forward for CpuModel {
    fn name(&self) -> &str {
        self.name()
    }

    fn vocabulary(&self) -> usize {
        self.vocabulary()
    }

    fn context(&self) -> usize {
        self.context()
    }

    fn blocks(&self) -> usize {
        self.blocks()
    }

    fn block_bytes(&self) -> u64 {
        self.block_bytes()
    }

    fn forward(&mut self, segments: &[Segment<'_>]) -> Result<Vec<f32>, Failure> {
        Ok(self.forward(segments))
    }
}
