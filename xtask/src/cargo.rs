//! The cargo that runs this program.

use std::env;
use std::process::Command;

use xtask::network;

pub(crate) fn cargo(words: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(network::repository()).args(words);
    command
}
