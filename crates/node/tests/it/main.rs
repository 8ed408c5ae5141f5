//! The node as a whole, with fakes at its edges and a clock that the tests move.

mod audits;
mod fakes;
mod governing;
mod jobs;
mod session;
mod storage;
