//! The node as a whole, with fakes at its edges and a clock that the tests move.

#![expect(clippy::unwrap_used, reason = "a test fails where a fake cannot go on")]

mod accounts;
mod app;
mod audits;
mod cli;
mod control;
mod devices;
mod embeddings;
mod engine;
mod fakes;
mod governing;
mod guest;
mod http;
mod jobs;
mod joining;
mod library;
mod profiles;
mod session;
mod storage;
