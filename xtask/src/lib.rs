//! A small Infera network on this machine, with real processes: what `cargo xtask` and the
//! system tests are made of.

pub mod cache;
pub mod http;
pub mod network;
pub mod process;
#[cfg(unix)]
pub mod screen;
pub mod wait;

/// What goes wrong here is told to a developer, in a sentence.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T, E = Error> = std::result::Result<T, E>;
