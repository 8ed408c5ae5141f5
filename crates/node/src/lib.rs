//! A node without a window: it takes jobs from a balancer, has its engine compute them, and shows
//! what it does and why.
//!
//! [`Node`] is one actor that owns all state of its work. Everything outside stands behind a narrow
//! trait ([`Edges`]), so that its whole behaviour is tested without a network, a GPU or a clock.
//! [`app::App`] is the program around it: settings, model files, books, and the one API that every
//! window and command line uses.

pub mod account;
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
pub mod library;
pub mod local_engine;
pub mod logging;
pub mod look_up;
pub mod model_fault;
pub mod networks;
mod node;
mod node_config;
mod own_certificates;
mod placement;
mod production;
mod session;
mod sse;
pub mod state;
pub mod store;
pub mod tariff;
pub mod unreachable;
mod web_files;

pub use app::App;
pub use node::{Around, Edges, ModelConfig, Node, NodeConfig};

/// Name and version of the program.
pub const SOFTWARE: &str = concat!("infera ", env!("CARGO_PKG_VERSION"));
