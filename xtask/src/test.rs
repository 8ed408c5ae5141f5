//! Every check of the project: lint, fuzzing, the crates' tests, the whole-system tests.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use xtask::network::Binaries;
use xtask::{Result, process};

use crate::cargo::cargo;
use crate::lint;
use crate::{TestOptions, fuzz, models, packages, report, ui};

const SYSTEM_TESTS: &str = "infera-system-tests";
/// Needs the system's web view.
const DESKTOP: &str = "infera-desktop";

pub(crate) fn run(options: &TestOptions) -> Result<()> {
    let everything = !options.fast && options.filters.is_empty();
    if !options.fast {
        packages::for_tests()?;
        // The programs are built with the window's files.
        ui::build()?;
    }
    if everything {
        lint::run()?;
        ui::check()?;
    }
    // What it finds fails the whole, after the tests.
    let fuzzed = if everything {
        fuzz::for_tests()
    } else {
        Ok(())
    };
    report::headline("Tests");
    if !options.fast
        && let Err(error) = models::smollm2()
    {
        report::fact("model", &format!("tests that need it are skipped. {error}"));
    }
    if !options.fast {
        // The tests' own build makes only the programs of packages with integration tests.
        Binaries::build_with_desktop()?;
    }
    tests(options, everything)?;
    fuzzed
}

fn tests(options: &TestOptions, everything: bool) -> Result<()> {
    let mut words = vec!["--workspace"];
    if options.fast {
        for package in [SYSTEM_TESTS, DESKTOP, "xtask"] {
            words.extend(["--exclude", package]);
        }
    }
    if process::output(cargo(&["nextest", "--version"])).is_ok() {
        if everything {
            process::output(cargo(&["test", "--doc", "--workspace", "--quiet"]))?;
        }
        let mut command = cargo(&["nextest", "run", "--no-fail-fast"]);
        command.args(&words).args(&options.filters);
        process::run(command)
    } else {
        with_cargo_test(&words, &options.filters)
    }
}

/// Without nextest: `cargo test`, its counts added up.
fn with_cargo_test(words: &[&str], filters: &[String]) -> Result<()> {
    let mut command = cargo(&["test", "--no-fail-fast"]);
    command
        .args(words)
        .arg("--")
        .args(filters)
        .stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut counts = Counts::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            println!("{line}");
            counts.add(&line);
        }
    }
    let status = child.wait()?;
    println!("{} passed, {} failed", counts.passed, counts.failed);
    if status.success() {
        Ok(())
    } else {
        Err("some tests failed".into())
    }
}

#[derive(Debug, Default, PartialEq)]
struct Counts {
    passed: u32,
    failed: u32,
}

impl Counts {
    /// Takes in a line such as `test result: ok. 3 passed; 0 failed; 0 ignored; ...`.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        let words: Vec<_> = result
            .split([' ', ';', '.'])
            .filter(|word| !word.is_empty())
            .collect();
        for pair in words.windows(2) {
            let count = pair[0].parse().unwrap_or(0);
            match pair[1] {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_test_programs_add_up() {
        let mut counts = Counts::default();
        counts.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        counts.add("test a_test ... ok");
        counts
            .add("test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        assert_eq!(
            counts,
            Counts {
                passed: 7,
                failed: 2
            }
        );
    }
}
