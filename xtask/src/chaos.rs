//! `cargo xtask chaos`: the network in a storm.

use std::process::Command;

use xtask::Result;
use xtask::network::{self, Binaries};

use crate::ChaosOptions;

pub(crate) fn run(options: &ChaosOptions) -> Result<()> {
    // Those of developers: they check more of themselves than those that people install.
    Binaries::build()?;
    network::tool("--example", "chaos_clock", false)?;
    let mut command = Command::new(network::tool("--bin", "chaos", false)?);
    command.args(["--minutes", &options.minutes.to_string()]);
    if let Some(seed) = options.seed {
        command.args(["--seed", &seed.to_string()]);
    }
    for (flag, set) in [
        ("--verbose", options.verbose),
        ("--keep-data", options.keep_data),
    ] {
        if set {
            command.arg(flag);
        }
    }
    instead_of_us(command)
}

/// Nobody stays between the terminal and the storm: whoever ends us ends it.
#[cfg(unix)]
fn instead_of_us(mut command: Command) -> Result<()> {
    use std::os::unix::process::CommandExt;
    Err(command.exec().into())
}

#[cfg(not(unix))]
fn instead_of_us(command: Command) -> Result<()> {
    xtask::process::run(command)
}
