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

use std::sync::atomic::{AtomicBool, Ordering};

use cubecl::prelude::Const;

/// Four values: 16 bytes, the widest load that every API has.
pub(crate) type Four = Const<4>;

static CHECKS: AtomicBool = AtomicBool::new(false);

/// From now on, in this process, kernels check every index into a buffer and take the last one
/// instead of one beyond. For tests: it is slow, and hides what would be a fault.
pub fn check_indices() {
    CHECKS.store(true, Ordering::Relaxed);
}

pub(crate) fn checks_indices() -> bool {
    CHECKS.load(Ordering::Relaxed)
}

/// Launches a kernel, without checks unless [`check_indices`] asked for them: to be written where
/// the safety of an unchecked launch is.
macro_rules! launch {
    ($($kernel:ident)::+($($argument:expr),* $(,)?)) => {
        if $crate::kernels::checks_indices() {
            $($kernel)::+::launch($($argument),*)
        } else {
            $($kernel)::+::launch_unchecked($($argument),*)
        }
    };
}
pub(crate) use launch;

/// Far below every score; infinities are undefined in WGSL.
pub(crate) const MASKED: f32 = -1e30;
