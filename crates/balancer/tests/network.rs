//! The balancer over real HTTP, with simulated nodes.

mod support;

#[path = "network/answers.rs"]
mod answers;
