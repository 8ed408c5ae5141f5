//! The fast forward pass on the CPU: quantised weights, SIMD chosen at run time.
//!
//! Weights exactly as quantised in the file and dequantised in registers; the KV cache in f32 or
//! f16 as the numerics profile says, activations and accumulation in f32; rotary tables from f64. On one instruction set a
//! sequence's logits are the same to the bit whatever else is in the batch, however its prompt is
//! cut into chunks, and whatever the number of threads.
#![expect(
    clippy::inline_always,
    reason = "only inlined functions are compiled with an instruction set's own instructions"
)]

mod attention;
mod bandwidth;
mod format;
mod math;
mod matrix;
mod model;
mod pool;
#[cfg(test)]
mod random;
mod rope;
mod simd;
mod weights;
mod zeroed;

pub use bandwidth::read_bandwidth;
pub use model::{CpuModel, Segment, block_bytes};
pub use simd::InstructionSet;

/// Positions per KV block.
pub const BLOCK_TOKENS: usize = 32;
