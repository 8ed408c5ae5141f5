//! `cargo xtask bench desktop`: what the desktop program costs while it does nothing. Linux only:
//! the figures come from `/proc`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use xtask::network::{Balancer, BalancerOptions, Binaries, START_LIMIT};
use xtask::process::{self, Process};
use xtask::{Result, wait};

use crate::report;

/// How long the paused program is watched.
const WATCHED: Duration = Duration::from_mins(1);
/// A paused node keeps its model for ten seconds, in case it was only a moment.
const ENGINE_LIMIT: Duration = Duration::from_secs(30);
/// Linux counts processor time in hundredths of a second for programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// `model` is served on the CPU by a balancer of its own; nobody asks anything.
pub(crate) fn run(binaries: &Binaries, model: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let screen = Screen::start(&folder.path().join("screen.log"))?;
    let balancer = Balancer::start(
        binaries,
        &folder.path().join("balancer"),
        BalancerOptions::default(),
    )?;
    balancer.add_model(model, "model", 1, 1)?;
    let data = folder.path().join("node");
    let begun = Instant::now();
    let mut command = Command::new(&binaries.desktop);
    command
        .arg("--hidden")
        .arg("--data")
        .arg(&data)
        .arg("--key-file")
        .arg(folder.path().join("key"))
        .env("DISPLAY", &screen.display)
        .env("INFERA_AGREE", "1")
        .env("INFERA_WEB_CONTROL", "1")
        .env("INFERA_BALANCER", balancer.url())
        .env("INFERA_DEVICE", "cpu")
        .env("INFERA_MODEL", model);
    let mut program = Process::start("infera-node", command, &folder.path().join("log.txt"))?;
    let infera = |words: &[&str]| {
        let mut command = Command::new(&binaries.node);
        command.args(words).arg("--data").arg(&data);
        process::output(command)
    };
    wait::until("the program answers", START_LIMIT, || {
        Ok(infera(&["status"]).is_ok().then_some(()))
    })?;
    let answers = begun.elapsed();
    wait::until("the model is loaded", START_LIMIT, || {
        Ok(infera(&["status"])
            .is_ok_and(|text| text.contains("Waiting for jobs"))
            .then_some(()))
    })?;
    let ready = begun.elapsed();
    infera(&["pause"])?;
    let paused = Instant::now();
    wait::until("the engine is gone", ENGINE_LIMIT, || {
        Ok((family(program.pid()).len() == 1).then_some(()))
    })?;
    let released = paused.elapsed();
    let before = processor_seconds(program.pid())?;
    thread::sleep(WATCHED);
    let used = processor_seconds(program.pid())? - before;
    let memory = family(program.pid())
        .into_iter()
        .map(proportional_bytes)
        .sum::<Result<u64>>()?;
    program.stop(Duration::from_secs(15))?;
    let fact = |name: &str, text: String| report::fact(name, &text);
    fact(
        "answers",
        format!("{:.2} s after its start", answers.as_secs_f64()),
    );
    fact(
        "ready",
        format!("{:.2} s, model loaded and connected", ready.as_secs_f64()),
    );
    fact(
        "released",
        format!(
            "{:.1} s after Pause the engine is gone",
            released.as_secs_f64()
        ),
    );
    fact(
        "processor",
        format!(
            "{:.2} % of one core, paused, the window closed, over {} s",
            used / WATCHED.as_secs_f64() * 100.0,
            WATCHED.as_secs()
        ),
    );
    fact(
        "memory",
        format!(
            "{} MB proportional set size, all its processes",
            memory / 1_000_000
        ),
    );
    Ok(())
}

/// A screen that nobody sees.
struct Screen {
    display: String,
    _process: Process,
}

impl Screen {
    fn start(log: &Path) -> Result<Self> {
        let mut command = Command::new("Xvfb");
        command.args([
            "-displayfd",
            "1",
            "-nolisten",
            "tcp",
            "-screen",
            "0",
            "1280x800x24",
        ]);
        let process = Process::start("Xvfb", command, log)?;
        let number = process.line_after("", START_LIMIT)?;
        Ok(Self {
            display: format!(":{number}"),
            _process: process,
        })
    }
}

/// A process and all that it has started.
fn family(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let id = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let parent = stat(id)?.get(1)?.parse().ok()?;
            Some((id, parent))
        })
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(
            parents
                .iter()
                .filter(|(_, of)| *of == parent)
                .map(|(id, _)| *id),
        );
        next += 1;
    }
    found
}

/// What follows the name in `/proc/ID/stat`: state, parent, ...
fn stat(id: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// User and system time of one process so far.
fn processor_seconds(id: u32) -> Result<f64> {
    let fields = stat(id).ok_or("the program has ended")?;
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok());
    let used = ticks(11).zip(ticks(12)).ok_or("its times cannot be read")?;
    Ok((used.0 + used.1) / TICKS_PER_SECOND)
}

fn proportional_bytes(id: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
    let kilobytes = text
        .lines()
        .find_map(|line| {
            line.strip_prefix("Pss:")?
                .split_whitespace()
                .next()?
                .parse::<u64>()
                .ok()
        })
        .ok_or("its memory cannot be read")?;
    Ok(kilobytes * 1024)
}
