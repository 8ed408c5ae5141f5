//! `cargo xtask bench NAME`: one measurement, printed.

use std::path::Path;
use std::process::Command;

use xtask::network::{self, Binaries};
use xtask::{Result, process};

use crate::cargo::cargo;
use crate::peers::{self, Decode, Figures, NO_SHADER_CACHE};
use crate::{BenchOptions, models, report};

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Name {
    /// Prefill and decode of a model on a device, without a network, beside llama.cpp
    Engine,
    /// Time to first token through the network and of the engine alone; memory of each process
    Network,
    /// Jobs a second through one balancer with a hundred simulated nodes, and with a thousand
    Balancer,
    /// How many of a hundred jobs of each kind of node the reference nodes find right and wrong
    Verification,
    /// How fast a node leaves the machine to its owner, and what it costs to look out for them
    Guest,
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
            let bench = network::tool("--bin", "network-bench", !options.dev)?;
            let mut command = Command::new(bench);
            command.arg(model()?).arg(&options.device);
            process::run(command)
        }
        Name::Guest => {
            build(options)?;
            process::run(Command::new(network::tool(
                "--bin",
                "guest-bench",
                !options.dev,
            )?))
        }
        Name::Balancer => balancer(&network::tool(
            "--example",
            "simulated_nodes",
            !options.dev,
        )?),
        Name::Desktop => desktop(options, &model()?),
        Name::Verification => {
            build(options)?;
            let mut command = cargo(&["test", "--quiet", "--workspace"]);
            command.args(["--test", "verification"]);
            if !options.dev {
                command.arg("--release");
            }
            command.args(["--", "--nocapture", "--test-threads=1"]);
            process::run(command)
        }
    }
}

#[cfg(unix)]
fn desktop(options: &BenchOptions, model: &Path) -> Result<()> {
    crate::packages::for_tests()?;
    crate::ui::build()?;
    let binaries = match &options.programs {
        Some(folder) => Binaries::in_folder(folder)?,
        None if options.dev => Binaries::build_with_desktop()?,
        None => Binaries::build_for_packages()?,
    };
    crate::desktop::run(&binaries, model)
}

#[cfg(not(unix))]
fn desktop(_: &BenchOptions, _: &Path) -> Result<()> {
    Err("it reads Linux's files about processes".into())
}

/// What `infera bench` would take longer for is left out; in software sixteen prompts take longer
/// than a minute.
const LONGEST_SECONDS: u32 = 60;
const LONGEST_SECONDS_IN_SOFTWARE: u32 = 200;

/// Our engine and its peers, one after the other on the same machine and file.
fn engine(node: &Path, model: &Path, options: &BenchOptions) -> Result<()> {
    const PREFILLS: &str = "128,512";
    const BATCHES: &str = "1,4,16";
    const DECODE_TOKENS: u32 = 32;
    let mut all = vec![
        ours(node, model, &options.device, LONGEST_SECONDS)?,
        peers::llama_cpp(model, "cpu", PREFILLS, DECODE_TOKENS, BATCHES)?,
    ];
    match peers::mistral_rs(model, DECODE_TOKENS) {
        Ok(figures) => all.push(figures),
        // It knows fewer models, and its package is not built for every machine.
        Err(error) => report::fact("left out", &format!("mistral.rs: {error}")),
    }
    print_beside(&all);
    if options.software_vulkan {
        print_beside(&[
            ours(node, model, "llvmpipe", LONGEST_SECONDS_IN_SOFTWARE)?,
            peers::llama_cpp(model, "vulkan", "128", DECODE_TOKENS, "1")?,
        ]);
    }
    Ok(())
}

fn ours(node: &Path, model: &Path, device: &str, longest_seconds: u32) -> Result<Figures> {
    report::fact("measuring", &format!("infera bench on {device}"));
    let mut command = Command::new(node);
    command.arg("bench").arg(model);
    command.args(["--device", device, "--json"]);
    command.args(["--longest", &longest_seconds.to_string()]);
    command.env(NO_SHADER_CACHE.0, NO_SHADER_CACHE.1);
    let printed = process::output(command)?;
    Ok(serde_json::from_str(&printed)?)
}

/// What the simulation of a balancer with all its nodes and clients prints.
#[derive(serde::Deserialize)]
struct Simulated {
    jobs_per_s: f64,
    settled_per_s: f64,
    p50_ms: f64,
    p95_ms: f64,
}

/// A hundred nodes and a thousand in turn, because a machine is not equally fast all the time.
fn balancer(bench: &Path) -> Result<()> {
    const NODES: [&str; 2] = ["100", "1000"];
    const RUNS: usize = 5;
    let mut runs: [Vec<Simulated>; 2] = Default::default();
    for run in 1..=RUNS {
        for (nodes, runs) in NODES.iter().zip(&mut runs) {
            report::fact("measuring", &format!("{nodes} nodes, run {run} of {RUNS}"));
            let mut command = Command::new(bench);
            command.args([nodes, "600", "150"]);
            runs.push(serde_json::from_str(&process::output(command)?)?);
        }
    }
    println!(
        "| median of {RUNS} runs of 600 jobs, 150 at once | 100 nodes | 1,000 nodes | 100 / 1,000 |"
    );
    println!("|---|---|---|---|");
    let row = |what: &str, figure: fn(&Simulated) -> f64| {
        let [few, many] = [0, 1].map(|which| {
            let mut figures: Vec<_> = runs[which].iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            figures[RUNS / 2]
        });
        println!("| {what} | {few:.1} | {many:.1} | {:.2} |", few / many);
    };
    row("jobs verified and paid per second", |run| run.settled_per_s);
    row("answers per second", |run| run.jobs_per_s);
    row("time to the whole answer, median, ms", |run| run.p50_ms);
    row("time to the whole answer, 95th percentile, ms", |run| {
        run.p95_ms
    });
    Ok(())
}

/// A table with a column each; the first is ours, and the others' figures are followed by ours
/// over theirs, so that more is better for us.
fn print_beside(all: &[Figures]) {
    let ours = &all[0];
    let names: Vec<_> = all.iter().map(|figures| figures.device.as_str()).collect();
    println!("| | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(all.len()));
    print_row("load", all, |of| Some(of.load_ms), "ms", false);
    print_row("first token, cold", all, |of| Some(of.ttft_ms), "ms", false);
    for prefill in &ours.prefill {
        let speed = |of: &Figures| {
            let same = of.prefill.iter().find(|one| one.tokens == prefill.tokens);
            same.map(|one| one.tok_s)
        };
        let what = format!("prefill of {}", prefill.tokens);
        print_row(&what, all, speed, "tokens/s", true);
    }
    for decode in &ours.decode {
        let speed = |of: &Figures| {
            let same = |one: &&Decode| (one.batch, one.context) == (decode.batch, decode.context);
            of.decode.iter().find(same).map(|one| one.tok_s)
        };
        let what = format!("decode, batch {}, context {}", decode.batch, decode.context);
        print_row(&what, all, speed, "tokens/s", true);
    }
}

fn print_row(
    what: &str,
    all: &[Figures],
    figure: impl Fn(&Figures) -> Option<f64>,
    unit: &str,
    more_is_better: bool,
) {
    let ours = figure(&all[0]);
    let cells: Vec<_> = all
        .iter()
        .enumerate()
        .map(|(index, of)| match (figure(of), ours) {
            (Some(theirs), Some(ours)) if index > 0 => {
                let ratio = if more_is_better {
                    ours / theirs
                } else {
                    theirs / ours
                };
                format!("{theirs:.1} {unit} ({ratio:.2}×)")
            }
            (Some(value), _) => format!("{value:.1} {unit}"),
            (None, _) => "–".to_owned(),
        })
        .collect();
    println!("| {what} | {} |", cells.join(" | "));
}

fn build(options: &BenchOptions) -> Result<Binaries> {
    if let Some(folder) = &options.programs {
        return Binaries::in_folder(folder);
    }
    if options.dev {
        return Binaries::build();
    }
    report::fact("Build", "with optimisations; the first time takes long");
    Binaries::build_release()
}
