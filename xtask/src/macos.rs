//! `cargo xtask macos`: whether everything type-checks for macOS, from any Linux machine.
//!
//! Nothing is linked or run: that needs Apple's SDK. On a Mac its own compiler is taken. Clippy does
//! it, because a warning in what only macOS compiles would be seen nowhere else, and would end the
//! lint there.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use xtask::{Result, cache, network, process};

use crate::cargo::cargo;
use crate::report;

/// Rust's name of each target, and zig's.
const TARGETS: [(&str, &str); 2] = [
    ("aarch64-apple-darwin", "aarch64-macos"),
    ("x86_64-apple-darwin", "x86_64-macos"),
];

/// What is checked for each target: cargo's features, and why.
///
/// The whole workspace each time, because cargo would choose other features of shared dependencies
/// for a single package, and check them all again.
const CHECKED: [(&[&str], &str); 2] = [
    (&[], "every package, with its tests"),
    (
        &["--features", "infera-engine/metal"],
        "the same with kernels compiled to MSL",
    ),
];

pub(crate) fn run() -> Result<()> {
    report::headline("Type-check for macOS");
    install_targets()?;
    let compiler = Compiler::find()?;
    let expected = packages()?;
    let mut passed = 0;
    let mut failed = Vec::new();
    for (target, zig_target) in TARGETS {
        for (features, what) in CHECKED {
            report::fact(target, what);
            let found = check(&compiler, target, zig_target, features)?;
            for package in &expected {
                if found.is_sound(package) {
                    passed += 1;
                } else {
                    failed.push(format!("{} for {target}, {what}", package.name));
                }
            }
        }
    }
    for failure in &failed {
        report::fact("failed", failure);
    }
    println!("\n{passed} passed, {} failed", failed.len());
    if failed.is_empty() {
        Ok(())
    } else {
        Err("not everything type-checks for macOS without a warning".into())
    }
}

/// Rust's standard library for both, from rustup.
fn install_targets() -> Result<()> {
    let mut list = Command::new("rustup");
    list.args(["target", "list", "--installed"]);
    let installed = process::output(list).map_err(|error| {
        format!("{error}\nThe standard libraries for macOS come from rustup (https://rustup.rs)")
    })?;
    for (target, _) in TARGETS {
        if !installed.lines().any(|line| line == target) {
            report::fact(
                "installing",
                &format!("Rust's standard library for {target}"),
            );
            let mut add = Command::new("rustup");
            add.args(["target", "add", target]);
            process::run(add)?;
        }
    }
    Ok(())
}

/// What compiles the C code of dependencies (`ring`, `SQLite`, `blake3`) for macOS.
enum Compiler {
    /// The system's own, on a Mac.
    Native,
    /// Zig's, in a Python environment of ours; the folder holds our scripts around it.
    Zig { python: PathBuf, scripts: PathBuf },
}

impl Compiler {
    fn find() -> Result<Self> {
        if cfg!(target_os = "macos") {
            return Ok(Self::Native);
        }
        if !cfg!(unix) {
            return Err("the type-check for macOS runs on Linux or on a Mac".into());
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("macos");
        let scripts = cache::folder()?.join("macos");
        if !scripts.exists() {
            report::fact(
                "installing",
                "zig from the Python package index (100 MB), once: it compiles C for macOS",
            );
        }
        let python = cache::python_environment_with("macos", &source.join("requirements.txt"))?;
        fs::create_dir_all(&scripts)?;
        Ok(Self::Zig { python, scripts })
    }

    /// Tells a build for `target` of it. Only variables of that target: with others, what is built
    /// for this machine would be built again at each change between the two.
    fn set(&self, command: &mut Command, target: &str, zig_target: &str) -> Result<()> {
        let Self::Zig { python, scripts } = self else {
            return Ok(());
        };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("macos/cc.sh");
        let python = python.display();
        let of_target = target.replace('-', "_");
        for (variable, script) in [
            (
                format!("CC_{of_target}"),
                format!(
                    "exec sh '{}' '{python}' {zig_target} \"$@\"",
                    source.display()
                ),
            ),
            (
                format!("AR_{of_target}"),
                format!("exec '{python}' -m ziglang ar \"$@\""),
            ),
        ] {
            let file = scripts.join(&variable);
            write_program(&file, &format!("#!/bin/sh\n{script}\n"))?;
            command.env(variable, file);
        }
        // Any folder will do: without one, builds ask Apple's xcrun.
        command
            .env("SDKROOT", scripts)
            .env("ZIG_GLOBAL_CACHE_DIR", scripts.join("zig"));
        Ok(())
    }
}

/// A package of the workspace.
struct Package {
    id: String,
    name: String,
    /// The names of what cargo checks of it: library, programs, tests.
    targets: HashSet<String>,
}

/// What cargo told of the packages that it checked.
#[derive(Default)]
struct Found {
    /// The names of the targets that passed, by the package's id.
    passed: HashMap<String, HashSet<String>>,
    /// The errors and warnings of our packages, each once: tests repeat their library's.
    faults: HashMap<String, HashSet<String>>,
}

impl Found {
    fn is_sound(&self, package: &Package) -> bool {
        let passed = self.passed.get(&package.id);
        !self.faults.contains_key(&package.id)
            && passed.is_some_and(|passed| package.targets.is_subset(passed))
    }

    /// Takes in one line of cargo's messages, and gives what it says to a person.
    fn add(&mut self, line: &str) -> Option<String> {
        let message: Value = serde_json::from_str(line).ok()?;
        let package = message["package_id"].as_str()?.to_owned();
        match message["reason"].as_str()? {
            "compiler-artifact" => {
                let target = target_name(&message["target"]);
                self.passed.entry(package).or_default().insert(target);
                None
            }
            "compiler-message" if package.starts_with("path+") => {
                let text = message["message"]["rendered"].as_str()?.to_owned();
                let is_new = self.faults.entry(package).or_default().insert(text.clone());
                is_new.then_some(text)
            }
            _ => None,
        }
    }
}

fn check(compiler: &Compiler, target: &str, zig_target: &str, features: &[&str]) -> Result<Found> {
    let mut command = cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--keep-going",
        "--quiet",
        "--message-format=json",
        "--target",
        target,
    ]);
    command
        .args(features)
        .arg("--target-dir")
        .arg(network::target()?)
        // Else it would keep 4 GB for each target.
        .env("CARGO_INCREMENTAL", "0")
        .stdout(Stdio::piped());
    compiler.set(&mut command, target, zig_target)?;
    let mut child = command.spawn()?;
    let mut found = Found::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            if let Some(text) = found.add(&line?) {
                println!("{text}");
            }
        }
    }
    // How it ended says no more than what is missing in `found`.
    child.wait()?;
    Ok(found)
}

fn packages() -> Result<Vec<Package>> {
    let metadata = process::output(cargo(&["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(list(&metadata["packages"])
        .iter()
        .map(|package| Package {
            id: text(&package["id"]),
            name: text(&package["name"]),
            targets: list(&package["targets"])
                .iter()
                // A program that needs a feature is left out without it.
                .filter(|target| target["required-features"].is_null())
                .map(target_name)
                .collect(),
        })
        .collect())
}

fn target_name(target: &Value) -> String {
    format!("{} {}", target["kind"][0], target["name"])
}

#[cfg(unix)]
fn write_program(file: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::write(file, text)?;
    Ok(fs::set_permissions(
        file,
        fs::Permissions::from_mode(0o755),
    )?)
}

#[cfg(not(unix))]
fn write_program(file: &Path, text: &str) -> Result<()> {
    Ok(fs::write(file, text)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_package_is_sound_when_all_of_it_was_checked_without_a_word() {
        let target = |name: &str| json!({ "kind": ["lib"], "name": name });
        let artifact = |name: &str| {
            json!({ "reason": "compiler-artifact", "package_id": "path+p", "target": target(name) })
                .to_string()
        };
        let warning = json!({
            "reason": "compiler-message", "package_id": "path+p",
            "message": { "level": "warning", "rendered": "unused" },
        })
        .to_string();
        let package = Package {
            id: "path+p".to_owned(),
            name: "p".to_owned(),
            targets: HashSet::from([target_name(&target("a")), target_name(&target("b"))]),
        };
        let mut found = Found::default();
        assert!(!found.is_sound(&package));
        assert_eq!(found.add(&artifact("a")), None);
        assert!(!found.is_sound(&package), "b was not checked");
        assert_eq!(found.add(&artifact("b")), None);
        assert!(found.is_sound(&package));
        // The tests' build of a library repeats what its own build said.
        assert_eq!(found.add(&warning), Some("unused".to_owned()));
        assert_eq!(found.add(&warning), None);
        assert!(!found.is_sound(&package));
    }
}
