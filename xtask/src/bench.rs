//! `cargo xtask bench NAME`: one measurement, printed.

use std::process::Command;

use xtask::Result;
use xtask::network::Binaries;
use xtask::process;

use crate::{BenchOptions, models, report};

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Name {
    /// Prefill and decode of one model on one device, without a network
    Engine,
}

pub(crate) fn run(options: &BenchOptions) -> Result<()> {
    let model = match &options.model {
        Some(file) => file.clone(),
        None => models::smollm2()?,
    };
    let binaries = Binaries::build()?;
    match options.name {
        Name::Engine => {
            report::headline(&format!("{} on {}", model.display(), options.device));
            let mut command = Command::new(&binaries.node);
            command
                .arg("bench")
                .arg(&model)
                .args(["--device", &options.device]);
            process::run(command)
        }
    }
}
