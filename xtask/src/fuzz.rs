//! `cargo xtask fuzz`: the fuzz targets with `libFuzzer`, from their kept corpora.
//!
//! The compiler's own coverage passes are all that a build needs: no other tool, no other
//! toolchain.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{env, fs, thread};

use xtask::process::Process;
use xtask::{Result, network, process};

use crate::cargo::cargo;
use crate::{FuzzOptions, packages, report};

/// What `libFuzzer` needs the compiler to add: counters of edges with their addresses, and calls at
/// comparisons.
const COVERAGE: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
];
/// Longer and a single input counts as a fault.
const TIMEOUT_SECONDS: u32 = 25;
const MEMORY_MIB: u32 = 2048;
/// The statuses with which `libFuzzer` ends at such an input, and at one that takes more memory.
const BEYOND_LIMITS: [i32; 2] = [70, 71];
/// No evaluator bounds what a template may take, so the product runs it in a child that is ended:
/// one that is beyond the limits here is no fault.
const ENDED_IN_THE_PRODUCT: &str = "templates";
/// Inputs of faults that were mended begin so, and are kept whatever they cover.
const KEPT: &str = "bug-";
/// The most inputs that a target's corpus keeps besides those.
const MOST_KEPT: usize = 150;
/// Seconds of each target in the tests, here and on CI.
const IN_TESTS: u32 = 5;
const ON_CI: u32 = 60;

pub(crate) fn run(options: &FuzzOptions) -> Result<()> {
    if cfg!(windows) {
        return Err("fuzzing is built for Linux and macOS".into());
    }
    packages::for_fuzzing()?;
    let all = targets()?;
    let chosen = match &options.target {
        None => all,
        Some(name) if all.contains(name) => vec![name.clone()],
        Some(name) => {
            return Err(format!("there is no target `{name}`; choose {}", all.join(", ")).into());
        }
    };
    let fuzzer = Fuzzer::build(options.address)?;
    if let Some(input) = &options.input {
        for target in &chosen {
            let mut command = fuzzer.command(target);
            command.arg(input);
            process::run(command)?;
        }
        return Ok(());
    }
    fuzzer.run_all(&chosen, options.seconds, options.at_once)?;
    if options.keep {
        for target in &chosen {
            fuzzer.keep(target)?;
        }
    }
    Ok(())
}

/// A short run of each target.
pub(crate) fn for_tests() -> Result<()> {
    report::headline("Fuzzing");
    if cfg!(windows) {
        report::fact("fuzz", "skipped: it is built for Linux and macOS");
        return Ok(());
    }
    let seconds = match env::var_os("CI") {
        Some(_) => ON_CI,
        None => IN_TESTS,
    };
    Fuzzer::build(false)?.run_all(&targets()?, seconds, 2)
}

/// Each has a folder with its corpus; a test of theirs compares both lists.
fn targets() -> Result<Vec<String>> {
    let folders = fs::read_dir(folder().join("corpus"))?;
    let mut names = folders
        .map(|folder| Ok(folder?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn folder() -> PathBuf {
    network::repository().join("fuzz")
}

struct Fuzzer {
    program: PathBuf,
    /// For logs, inputs that cover something new, and inputs that show a fault.
    work: PathBuf,
}

impl Fuzzer {
    fn build(address: bool) -> Result<Self> {
        let target = network::target()?;
        let host = host()?;
        let mut flags = COVERAGE.join(" ");
        let mut command = cargo(&[
            "build",
            "--quiet",
            "--package",
            "infera-fuzz",
            "--features",
            "libfuzzer",
            "--profile",
            "fuzz",
            "--target",
            &host,
            "--target-dir",
        ]);
        command.arg(&target);
        if address {
            flags.push_str(" -Zsanitizer=address");
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        process::run({
            command.env("RUSTFLAGS", flags);
            command
        })?;
        Ok(Self {
            program: target.join(host).join("fuzz/infera-fuzz"),
            work: target.join("fuzzing"),
        })
    }

    fn command(&self, target: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("INFERA_FUZZ_TARGET", target)
            .arg(format!("-timeout={TIMEOUT_SECONDS}"))
            .arg(format!("-rss_limit_mb={MEMORY_MIB}"));
        command
    }

    /// Runs the targets, some at once, and prints what came of each.
    fn run_all(&self, targets: &[String], seconds: u32, at_once: usize) -> Result<()> {
        let waiting = Mutex::new(targets.iter().collect::<VecDeque<_>>());
        let next = || {
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.pop_front()
        };
        println!(
            "  {:<14}{:>12}{:>9}{:>8}{:>8}  found",
            "target", "executions", "a second", "edges", "new"
        );
        let outcomes: Vec<Result<Outcome>> = thread::scope(|scope| {
            let workers: Vec<_> = (0..at_once.max(1))
                .map(|_| {
                    scope.spawn(|| {
                        let mut outcomes = Vec::new();
                        while let Some(target) = next() {
                            let outcome = self.run_one(target, seconds);
                            if let Ok(outcome) = &outcome {
                                println!("  {}", outcome.row(target));
                            }
                            outcomes.push(outcome);
                        }
                        outcomes
                    })
                })
                .collect();
            let ended = workers.into_iter().map(thread::ScopedJoinHandle::join);
            ended.flat_map(Result::unwrap_or_default).collect()
        });
        let outcomes = outcomes.into_iter().collect::<Result<Vec<_>>>()?;
        let executions: u64 = outcomes.iter().map(|outcome| outcome.executions).sum();
        println!("  {:<14}{executions:>12}", "in all");
        let faults = outcomes
            .iter()
            .filter_map(|outcome| outcome.fault.as_deref());
        let faults: Vec<_> = faults.collect();
        if faults.is_empty() {
            return Ok(());
        }
        println!("\n{}", faults.join("\n\n"));
        Err("fuzzing has found faults; they are shown after its table".into())
    }

    fn run_one(&self, target: &str, seconds: u32) -> Result<Outcome> {
        let work = self.work.join(target);
        let (corpus, log) = (work.join("corpus"), work.join("log.txt"));
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(work.join("found"))?;
        fs::write(&log, "")?;
        let mut command = self.command(target);
        command
            .arg(format!("-max_total_time={seconds}"))
            .arg("-print_final_stats=1")
            .arg(format!(
                "-artifact_prefix={}/",
                work.join("found").display()
            ));
        let dictionary = folder().join(format!("dictionaries/{target}.dict"));
        if dictionary.exists() {
            command.arg(format!("-dict={}", dictionary.display()));
        }
        command
            .arg(&corpus)
            .arg(folder().join("corpus").join(target));
        let mut running = Process::start(&format!("fuzz target {target}"), command, &log)?;
        // Going through the corpus comes on top of the time.
        let limit = Duration::from_secs(u64::from(seconds) + 600);
        let status = running.wait_for_end(limit)?;
        let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        let mut outcome = Outcome::read(&text);
        let is_ended = target == ENDED_IN_THE_PRODUCT
            && status
                .code()
                .is_some_and(|code| BEYOND_LIMITS.contains(&code));
        if !status.success() && !is_ended {
            outcome.fault = Some(format!(
                "fuzz target {target} found a fault. Its log is {}, whose end is\n{}\nTo see it again:\n  \
                 cargo xtask fuzz {target} --input {}",
                log.display(),
                fault(&text),
                outcome.input.as_deref().unwrap_or("FILE")
            ));
        }
        Ok(outcome)
    }

    /// Makes the kept corpus those inputs that cover most of what it and all runs so far have
    /// covered.
    fn keep(&self, target: &str) -> Result<()> {
        let kept = folder().join("corpus").join(target);
        let fresh = self.work.join(target).join("kept");
        // Left over from a merge that was ended.
        if fresh.exists() {
            fs::remove_dir_all(&fresh)?;
        }
        fs::create_dir_all(&fresh)?;
        let mut command = self.command(target);
        command
            .args(["-merge=1", "-set_cover_merge=1", "-use_counters=0"])
            .arg(&fresh)
            .arg(&kept)
            .arg(self.work.join(target).join("corpus"));
        process::output(command)?;
        for file in fs::read_dir(&kept)? {
            let file = file?;
            if !file.file_name().to_string_lossy().starts_with(KEPT) {
                fs::remove_file(file.path())?;
            }
        }
        // libFuzzer writes first what covers most.
        let mut files = fs::read_dir(&fresh)?
            .map(|file| {
                let file = file?;
                Ok((file.metadata()?.modified()?, file.file_name()))
            })
            .collect::<Result<Vec<_>>>()?;
        files.sort();
        for (_, name) in files.iter().take(MOST_KEPT) {
            fs::copy(fresh.join(name), kept.join(name))?;
        }
        Ok(fs::remove_dir_all(&fresh)?)
    }
}

/// The compiler's own platform: with it named, coverage is left out of build scripts and macros.
fn host() -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    command.arg("-vV");
    let text = process::output(command)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.ok_or("rustc does not tell its host")?.to_owned())
}

/// What a run came to, from `libFuzzer`'s log.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    executions: u64,
    per_second: u64,
    edges: u64,
    /// Inputs that covered something new.
    new: u64,
    /// The input that shows a fault.
    input: Option<String>,
    fault: Option<String>,
}

impl Outcome {
    fn read(log: &str) -> Self {
        let statistic = |name: &str| {
            let mut lines = log.lines().rev();
            lines
                .find_map(|line| {
                    line.strip_prefix("stat::")?
                        .strip_prefix(name)?
                        .strip_prefix(':')
                })
                .and_then(|number| number.trim().parse().ok())
                .unwrap_or(0)
        };
        let mut lines = log.lines().rev();
        let edges = lines.find_map(|line| {
            let (_, rest) = line.strip_prefix('#')?.split_once(" cov: ")?;
            rest.split(' ').next()?.parse().ok()
        });
        // The last: slow ones before it are only told.
        let mut lines = log.lines().rev();
        let input = lines.find_map(|line| Some(line.split_once("Test unit written to ")?.1));
        Self {
            executions: statistic("number_of_executed_units"),
            per_second: statistic("average_exec_per_sec"),
            edges: edges.unwrap_or(0),
            new: statistic("new_units_added"),
            input: input.map(str::to_owned),
            fault: None,
        }
    }

    fn row(&self, target: &str) -> String {
        let found = self
            .input
            .as_deref()
            .map(Path::new)
            .and_then(Path::file_name)
            .map_or_else(
                || {
                    if self.fault.is_some() {
                        "a fault"
                    } else {
                        "nothing"
                    }
                    .into()
                },
                |name| name.to_string_lossy(),
            );
        format!(
            "{target:<14}{:>12}{:>9}{:>8}{:>8}  {found}",
            self.executions, self.per_second, self.edges, self.new
        )
    }
}

/// The panic, else the last lines.
fn fault(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    let panic = lines.iter().position(|line| line.contains(" panicked at "));
    let first = panic.unwrap_or_else(|| lines.len().saturating_sub(15));
    lines[first..lines.len().min(first + 15)].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_from_its_end() {
        let log = "#14\tINITED cov: 7681 ft: 8913 corp: 13/24Kb exec/s: 0 rss: 43Mb\n\
                   #10299\tDONE   cov: 8144 ft: 11757 corp: 262/522Kb lim: 2728 exec/s: 1144\n\
                   stat::number_of_executed_units: 10299\n\
                   stat::average_exec_per_sec:     1144\n\
                   stat::new_units_added:          338\n";
        let expected = Outcome {
            executions: 10299,
            per_second: 1144,
            edges: 8144,
            new: 338,
            ..Outcome::default()
        };
        assert_eq!(Outcome::read(log), expected);
        assert!(expected.row("gguf_head").ends_with("338  nothing"));
    }

    #[test]
    fn a_fault_is_shown_from_its_panic_on() {
        let log = "#1 INITED cov: 5 ft: 6\nthread 'main' panicked at a.rs:1:2:\nno\n\
                   artifact_prefix='x/'; Test unit written to x/crash-1\n";
        assert_eq!(Outcome::read(log).input.as_deref(), Some("x/crash-1"));
        assert!(fault(log).starts_with("thread 'main' panicked"));
    }
}
