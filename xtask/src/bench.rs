//! `cargo xtask bench NAME`: one measurement, printed.

use std::path::Path;
use std::process::Command;

use xtask::network::Binaries;
use xtask::{Result, process};

use crate::lint::cargo;
use crate::peers::{self, Figures};
use crate::{BenchOptions, desktop, models, packages, report, ui};

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Name {
    /// Prefill and decode of a model on a device, without a network, beside llama.cpp
    Engine,
    /// Time to first token through the network and of the engine alone; memory of each process
    Network,
    /// Jobs a second through one balancer with a hundred simulated nodes
    Balancer,
    /// How many of a hundred jobs of each kind of node the reference nodes find right and wrong
    Verification,
    /// The desktop program's start, and what it costs while it is paused with the window closed
    Desktop,
}

pub(crate) fn run(options: &BenchOptions) -> Result<()> {
    let model = || match &options.model {
        Some(file) => Ok(file.clone()),
        None => models::smollm2(),
    };
    match options.name {
        Name::Engine => engine(&build(options)?.node, &model()?, options),
        Name::Network => {
            build(options)?;
            let mut command = bench_program(options, "network-bench");
            command.arg(model()?).arg(&options.device);
            process::run(command)
        }
        Name::Balancer => {
            let mut command = cargo(&["run", "--quiet", "--package", "infera-balancer"]);
            command
                .args(["--example", "simulated_nodes"])
                .args(profile(options))
                .args(["--", "100", "300", "150"]);
            process::run(command)
        }
        Name::Desktop => {
            packages::for_tests()?;
            ui::build()?;
            let binaries = if options.dev {
                Binaries::build_with_desktop()?
            } else {
                Binaries::build_for_packages()?
            };
            desktop::run(&binaries, &model()?)
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

/// Our engine and llama.cpp, one after the other on the same machine and file.
fn engine(node: &Path, model: &Path, options: &BenchOptions) -> Result<()> {
    const PREFILLS: &str = "128,512";
    const DECODE_TOKENS: u32 = 32;
    let mut all = vec![ours(node, model, &options.device)?];
    let peer_device = |device| peers::llama_cpp(model, device, PREFILLS, DECODE_TOKENS);
    all.push(peer_device("cpu")?);
    if options.software_vulkan {
        all.push(ours(node, model, "llvmpipe")?);
        all.push(peer_device("vulkan")?);
    }
    println!("| engine and device | load | first token | prefill, tokens/s | decode, tokens/s |");
    println!("|---|---|---|---|---|");
    for figures in all {
        println!("{}", row(&figures));
    }
    Ok(())
}

fn ours(node: &Path, model: &Path, device: &str) -> Result<Figures> {
    report::fact("measuring", &format!("infera bench on {device}"));
    let mut command = Command::new(node);
    command.arg("bench").arg(model);
    command.args(["--device", device, "--json"]);
    let printed = process::output(command)?;
    Ok(serde_json::from_str(&printed)?)
}

fn row(figures: &Figures) -> String {
    let prefill: Vec<_> = figures
        .prefill
        .iter()
        .map(|prefill| format!("{:.1} ({})", prefill.tok_s, prefill.tokens))
        .collect();
    let decode: Vec<_> = figures
        .decode
        .iter()
        .map(|decode| format!("{:.1} (batch {})", decode.tok_s, decode.batch))
        .collect();
    format!(
        "| {} | {:.0} ms | {:.0} ms | {} | {} |",
        figures.device,
        figures.load_ms,
        figures.ttft_ms,
        prefill.join(", "),
        decode.join(", ")
    )
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
