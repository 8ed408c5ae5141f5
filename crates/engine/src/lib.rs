//! A model becomes tensors on a device; token ids go in and come out.
//!
//! The engine runs as a child process of the node ([`child::run`]) and speaks [`message`]s. It
//! alone opens the GPU, so that ending it frees everything.

pub mod bandwidth;
pub mod child;
pub mod confinement;
pub mod decoder;
pub mod device;
pub mod duty;
pub mod embedder;
mod embedding;
pub mod forward;
pub mod gpu;
#[cfg(windows)]
pub mod job_object;
pub mod kernels;
pub mod kv_blocks;
pub mod memory_budget;
pub mod message;
pub mod plain;
pub mod scheduler;
mod weights;
