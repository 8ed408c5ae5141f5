//! Compute kernels over quantised weights: weights as the file has them, dequantised in registers;
//! keys and values in f32 or, in numerics profile P16, f16; activations and accumulation in f32.

#![expect(
    clippy::manual_div_ceil,
    clippy::trivially_copy_pass_by_ref,
    reason = "the bodies are the kernel compiler's language"
)]

pub mod attention;
pub mod clear;
pub mod cooperative;
pub mod gather;
pub mod gemm;
mod half;
pub mod matmul;
pub mod norm;
pub mod pack;
pub mod read;
mod reduce;
pub mod repack;
pub mod rope;
pub mod select;
pub mod serial;

use cubecl::prelude::Const;

/// Four values: 16 bytes, the widest load that every API has.
pub(crate) type Four = Const<4>;

/// Far below every score; infinities are undefined in WGSL.
pub(crate) const MASKED: f32 = -1e30;
