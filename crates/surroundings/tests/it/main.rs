//! The observers against real things: an X server, buses with services on them, processes.

#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "a test fails where what it needs cannot be made"
)]

mod around;
mod buses;
mod display;
mod files;
mod processes;
mod wayland;
