//! A model becomes tensors on a device; token ids go in and come out.
//!
//! The engine runs as a child process of the node ([`child::run`]) and speaks [`message`]s. It
//! alone opens the GPU, so that ending it frees everything.

pub mod child;
pub mod device;
pub mod gpu;
pub mod kernels;
pub mod llama;
pub mod message;
pub mod scheduler;
mod weights;
