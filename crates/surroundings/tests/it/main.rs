//! The observers against real things: an X server, buses with services on them, processes.

#![cfg(target_os = "linux")]

mod around;
mod buses;
mod display;
mod files;
mod processes;
