//! `cargo xtask bench NAME`: one measurement, printed.

use std::process::Command;

use xtask::network::Binaries;
use xtask::{Result, process};

use crate::lint::cargo;
use crate::{BenchOptions, models, report};

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Name {
    /// Prefill and decode of a model on a device, without a network
    Engine,
    /// Time to first token through the network and of the engine alone; memory of each process
    Network,
    /// Jobs a second through one balancer with a hundred simulated nodes
    Balancer,
    /// How many of a hundred jobs of each kind of node the reference nodes find right and wrong
    Verification,
}

pub(crate) fn run(options: &BenchOptions) -> Result<()> {
    let model = || match &options.model {
        Some(file) => Ok(file.clone()),
        None => models::smollm2(),
    };
    match options.name {
        Name::Engine => {
            let binaries = build(options)?;
            let mut command = Command::new(&binaries.node);
            command
                .arg("bench")
                .arg(model()?)
                .args(["--device", &options.device]);
            process::run(command)
        }
        Name::Network => {
            build(options)?;
            let mut command = bench_program(options, "network-bench");
            command.arg(model()?).arg(&options.device);
            process::run(command)
        }
        Name::Balancer => {
            build(options)?;
            process::run(bench_program(options, "balancer-bench"))
        }
        Name::Verification => {
            build(options)?;
            let mut command = cargo(&["test", "--quiet", "--package", "infera-system-tests"]);
            command
                .args(["--test", "verification"])
                .args(profile(options));
            command.args(["--", "--nocapture", "--test-threads=1"]);
            process::run(command)
        }
    }
}

fn build(options: &BenchOptions) -> Result<Binaries> {
    if options.dev {
        return Binaries::build();
    }
    report::fact("Build", "with optimisations; the first time takes long");
    Binaries::build_release()
}

/// Runs `program` of the system tests' package, from beside the programs that it starts.
fn bench_program(options: &BenchOptions, program: &str) -> Command {
    let mut command = cargo(&["run", "--quiet", "--package", "infera-system-tests"]);
    command
        .args(["--bin", program])
        .args(profile(options))
        .arg("--");
    command
}

fn profile(options: &BenchOptions) -> &'static [&'static str] {
    if options.dev { &[] } else { &["--release"] }
}
