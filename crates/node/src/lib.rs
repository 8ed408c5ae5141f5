//! A node without a window: it takes jobs from a balancer, has its engine compute them, and shows
//! what it does and why.
//!
//! [`Node`] is one actor that owns all state. Everything outside stands behind a narrow trait
//! ([`Edges`]), so that its whole behaviour is tested without a network, a GPU or a clock.

pub mod app;
pub mod balancer_link;
pub mod books;
mod caller;
pub mod clock;
pub mod control;
mod controller;
pub mod data_dir;
pub mod engine_link;
pub mod governor;
pub mod gpu;
pub mod hardware;
pub mod http_link;
pub mod identity;
mod jobs;
pub mod library;
mod node;
mod session;
mod sse;
pub mod state;
pub mod store;

pub use node::{Edges, ModelConfig, Node, NodeConfig};

/// Name and version of the program.
pub const SOFTWARE: &str = concat!("infera ", env!("CARGO_PKG_VERSION"));
