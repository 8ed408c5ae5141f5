//! `cargo xtask windows`: the programs for Windows, built with mingw and tried under Wine.
//!
//! The tests of the whole system stay Linux programs: what they start are launchers that run the
//! Windows programs under Wine.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use xtask::network::{self, Binaries};
use xtask::{Result, cache, process};

use crate::cargo::cargo;
use crate::{WindowsCommand, installer, licences, models, packages, report, ui};

const TARGET: &str = "x86_64-pc-windows-gnu";
/// By its own path: Debian's `wine` wants the half for 32 bits too.
const WINE: &str = "/usr/lib/wine/wine64";

const NEXTEST: [&str; 6] = [
    "nextest",
    "run",
    "--profile",
    "wine",
    "--no-fail-fast",
    "--workspace",
];

/// Tests of the crates that do not run under Wine, as nextest filters, and why.
const NOT_UNDER_WINE: &[(&str, &str)] = &[(
    "test(removing_takes_everything_and_can_be_repeated) | test(removing_everything_lists_it_first) | test(without_a_keychain_the_key_may_be_kept_in_a_file)",
    "Wine deletes an open file only when it is closed; Windows 10 does at once",
)];

/// Tests of the whole system that are about Linux, and why.
const ABOUT_LINUX: &[(&str, &str)] = &[
    (
        "binary(chaos)",
        "its disturbances are Linux's: namespaces, a false clock, a full disk",
    ),
    (
        "binary(cost)",
        "the node's program runs in the test's own process",
    ),
    ("binary(keychain)", "it talks to Linux's Secret Service"),
    ("binary(tray)", "it talks to the tray by D-Bus"),
    ("binary(window)", "it drives a WebKit window"),
    (
        "test(downloads_break_and_are_mended)",
        "it has a certificate trusted by an environment variable, which Windows does not read",
    ),
    (
        "test(a_model_too_large_for_the_gpu_is_not_loaded)",
        "it makes up a GPU by Linux's files about devices",
    ),
    (
        "test(every_control_does_what_it_says)",
        "it uses every control there is, and Wine makes up a GPU that has some more",
    ),
    ("test(chaos::)", "what the storm is made of, on Linux"),
];

pub(crate) fn run(command: &WindowsCommand) -> Result<()> {
    packages::for_windows()?;
    add_target()?;
    ui::build()?;
    match command {
        WindowsCommand::Build { release } => {
            build(*release)?;
            Ok(())
        }
        WindowsCommand::Package { dev } => {
            report::headline("Packages");
            for file in package(*dev)? {
                report::file(&file)?;
            }
            Ok(())
        }
        WindowsCommand::Test { filters } => test(filters),
    }
}

/// rustup's standard library for the target.
fn add_target() -> Result<()> {
    let mut libraries = Command::new("rustc");
    libraries.current_dir(network::repository()).args([
        "--print",
        "target-libdir",
        "--target",
        TARGET,
    ]);
    if Path::new(process::output(libraries)?.trim()).exists() {
        return Ok(());
    }
    report::fact(
        "rustup",
        &format!("adding {TARGET}: Rust's standard library for Windows"),
    );
    let mut add = Command::new("rustup");
    add.current_dir(network::repository())
        .args(["target", "add", TARGET]);
    process::run(add)
}

/// A cargo command for Windows, with what C code of dependencies is compiled by. In a target folder
/// of its own, so that both systems' programs can be built at once, and without debug information,
/// which would be most of ten gigabytes.
fn cross(words: &[&str]) -> Result<Command> {
    let mut command = cargo(words);
    command
        .args(["--target", TARGET, "--target-dir"])
        .arg(target()?)
        .env("CARGO_PROFILE_DEV_DEBUG", "false");
    for (name, tool) in [("CC", "gcc"), ("CXX", "g++"), ("AR", "ar")] {
        command.env(
            format!("{name}_{}", TARGET.replace('-', "_")),
            format!("x86_64-w64-mingw32-{tool}"),
        );
    }
    Ok(command)
}

fn target() -> Result<PathBuf> {
    Ok(network::target()?.join("windows"))
}

/// The three programs, and the folder that they are in.
fn build(release: bool) -> Result<PathBuf> {
    report::headline("Programs for Windows");
    let mut command = cross(&["build", "--workspace"])?;
    for name in network::WITH_DESKTOP {
        command.args(["--bin", name]);
    }
    if release {
        command.args(["--release", "--features", "tauri/custom-protocol"]);
    }
    process::run(command)?;
    let folder = target()?
        .join(TARGET)
        .join(if release { "release" } else { "debug" });
    // Beside the desktop program's tests too.
    let loader = folder.join("WebView2Loader.dll");
    fs::copy(&loader, folder.join("deps/WebView2Loader.dll"))?;
    for name in network::WITH_DESKTOP {
        report::file(&folder.join(format!("{name}.exe")))?;
    }
    Ok(folder)
}

/// The installer, and an archive of the node without a window.
fn package(dev: bool) -> Result<Vec<PathBuf>> {
    let programs = build(!dev)?;
    let folder =
        network::target()?
            .join("package/windows")
            .join(if dev { "dev" } else { "release" });
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let stripped = folder.join("stripped");
    fs::create_dir_all(&stripped)?;
    for name in ["infera-node.exe", "infera.exe"] {
        let mut strip = Command::new("x86_64-w64-mingw32-strip");
        strip
            .args(["--strip-all", "-o"])
            .args([stripped.join(name), programs.join(name)]);
        process::output(strip)?;
    }
    let loader = programs.join("WebView2Loader.dll");
    let contents = installer::Contents {
        programs: &stripped,
        loader: loader.exists().then_some(loader.as_path()),
        target: TARGET,
        quick: dev,
    };
    let made = vec![
        installer::make(&contents, &folder)?,
        archive(&stripped, &folder)?,
    ];
    fs::remove_dir_all(stripped)?;
    Ok(made)
}

/// The node without a window, with how to set it up.
fn archive(programs: &Path, folder: &Path) -> Result<PathBuf> {
    let own = network::repository();
    let licences = programs.join("third-party-licences.txt");
    fs::write(&licences, licences::third_party("infera-node", TARGET)?)?;
    let file = folder.join(concat!("infera_", env!("CARGO_PKG_VERSION"), "_x64.zip"));
    let mut pack = Command::new(cache::PYTHON);
    pack.args(["-m", "zipfile", "-c"])
        .arg(&file)
        .arg(programs.join("infera.exe"))
        .arg(own.join("crates/node/package/README.md"))
        .arg(own.join("crates/node/package/infera-task.xml"))
        .arg(own.join("src-tauri/package/copyright"))
        .arg(&licences);
    process::output(pack)?;
    Ok(file)
}

fn test(filters: &[String]) -> Result<()> {
    packages::for_tests()?;
    let programs = build(false)?;
    Binaries::build_with_desktop()?;
    if let Err(error) = models::smollm2() {
        report::fact("model", &format!("tests that need it are skipped. {error}"));
    }
    let wine = Wine::prepare()?;
    let mut counts = Counts::default();

    report::headline("The crates' tests, as Windows programs");
    let mut crates = cross(&NEXTEST)?;
    for package in ["infera-system-tests", "infera-fuzz", "xtask"] {
        crates.args(["--exclude", package]);
    }
    crates
        .args(filters)
        .args(["--filterset", &without(NOT_UNDER_WINE)])
        .env(
            format!(
                "CARGO_TARGET_{}_RUNNER",
                TARGET.to_uppercase().replace('-', "_")
            ),
            wine.launcher("runner", None)?,
        );
    counts.add_run(&crates)?;

    report::headline("The whole system's tests, with Windows programs");
    for name in network::WITH_DESKTOP {
        wine.launcher(name, Some(&programs.join(format!("{name}.exe"))))?;
    }
    // As one part of the workspace: of a single package it would be built anew.
    let mut system = cargo(&NEXTEST);
    let tests = format!("package(infera-system-tests) & ({})", without(ABOUT_LINUX));
    system
        .args(filters)
        .args(["--filterset", &tests])
        .env(network::PROGRAMS, &wine.launchers);
    counts.add_run(&system)?;

    report::headline("Not run");
    for (filter, reason) in NOT_UNDER_WINE.iter().chain(ABOUT_LINUX) {
        report::fact(filter, reason);
    }
    println!(
        "\n{} passed, {} failed, {} skipped",
        counts.passed, counts.failed, counts.skipped
    );
    if counts.failed > 0 || counts.broken {
        return Err("some tests failed".into());
    }
    Ok(())
}

fn without(tests: &[(&str, &str)]) -> String {
    let excluded: Vec<_> = tests
        .iter()
        .map(|(filter, _)| format!(" - ({filter})"))
        .collect();
    format!("all(){}", excluded.concat())
}

/// A Windows of its own, in our cache.
struct Wine {
    prefix: PathBuf,
    launchers: PathBuf,
}

impl Wine {
    fn prepare() -> Result<Self> {
        let wine = Self {
            prefix: cache::folder()?.join("wine"),
            launchers: target()?.join("wine"),
        };
        fs::create_dir_all(&wine.launchers)?;
        let ready = wine.prefix.join("ready");
        if !ready.exists() {
            report::fact("Wine", "making a Windows, once");
            // Only where there is a screen does it find a graphics driver.
            let mut boot = Command::new("xvfb-run");
            boot.args(["--auto-servernum", WINE, "wineboot", "--init"])
                .env("WINEPREFIX", &wine.prefix)
                .env("WINEDEBUG", "-all");
            process::output(boot)?;
            wine.add_random_numbers()?;
            fs::write(ready, "")?;
        }
        Ok(wine)
    }

    /// The library that Rust's standard library has random numbers from, where this Wine lacks it.
    fn add_random_numbers(&self) -> Result<()> {
        const SOURCE: &str = "#include <windows.h>\n\
            BOOLEAN NTAPI SystemFunction036(void *, ULONG);\n\
            __declspec(dllexport) BOOL WINAPI ProcessPrng(BYTE *data, SIZE_T length)\n\
            { return SystemFunction036(data, (ULONG)length); }\n";
        let library = self
            .prefix
            .join("drive_c/windows/system32/bcryptprimitives.dll");
        if library.exists() {
            return Ok(());
        }
        let source = self.prefix.join("bcryptprimitives.c");
        fs::write(&source, SOURCE)?;
        let mut compile = Command::new("x86_64-w64-mingw32-gcc");
        compile
            .args(["-shared", "-o"])
            .args([&library, &source])
            .arg("-ladvapi32");
        process::output(compile).map(drop)
    }

    /// A script that runs a Windows program, or the one that its first argument names.
    fn launcher(&self, name: &str, program: Option<&Path>) -> Result<PathBuf> {
        let file = self.launchers.join(name);
        let program = program.map(|program| format!(" '{}'", program.display()));
        let script = format!(
            "#!/bin/bash\n\
             # Files are named to the program as Windows does: whole, with their drive.\n\
             words=()\n\
             for word in \"$@\"; do\n  \
               [[ $word == /* ]] && word=\"Z:${{word//\\//\\\\}}\"\n  \
               words+=(\"$word\")\n\
             done\n\
             export WINEPREFIX='{}' WINEDEBUG=-all {}=$$\n\
             exec {WINE}{} \"${{words[@]}}\"\n",
            self.prefix.display(),
            process::LAUNCHED,
            program.unwrap_or_default(),
        );
        fs::write(&file, script)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
        Ok(file)
    }
}

#[derive(Debug, Default, PartialEq)]
struct Counts {
    passed: u32,
    failed: u32,
    skipped: u32,
    /// A run that ended without counts.
    broken: bool,
}

impl Counts {
    /// Runs nextest, and takes in the counts of its last line. It has a screen: without one, Wine
    /// finds no graphics driver.
    fn add_run(&mut self, command: &Command) -> Result<()> {
        let mut on_screen = Command::new("xvfb-run");
        on_screen
            .arg("--auto-servernum")
            .arg(command.get_program())
            .args(command.get_args())
            // A name may be of one half only.
            .arg("--no-tests=pass")
            .current_dir(network::repository());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                on_screen.env(name, value);
            }
        }
        let mut child = on_screen.stderr(Stdio::piped()).spawn()?;
        let mut summary = None;
        if let Some(stderr) = child.stderr.take() {
            for line in BufReader::new(stderr).lines() {
                let line = line?;
                println!("{line}");
                summary = Self::parse(&line).or(summary);
            }
        }
        let status = child.wait()?;
        match summary {
            Some(counts) => {
                self.passed += counts.passed;
                self.failed += counts.failed;
                self.skipped += counts.skipped;
                self.broken |= !status.success();
            }
            None => self.broken = true,
        }
        Ok(())
    }

    /// `Summary [  12.3s] 5 tests run: 3 passed (1 slow, 1 leaky), 1 timed out, 7 skipped`.
    fn parse(line: &str) -> Option<Self> {
        let (_, counts) = line.trim().strip_prefix("Summary")?.split_once("run:")?;
        let mut found = Self::default();
        for part in counts.split(',') {
            let (number, what) = part.trim().split_once(' ')?;
            let number: u32 = number.parse().ok()?;
            match what.trim_end_matches(')').split(' ').next()? {
                // In brackets, and counted among the passed.
                "slow" | "leaky" | "flaky" => {}
                "passed" => found.passed += number,
                "skipped" => found.skipped += number,
                _ => found.failed += number,
            }
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runs_counts_are_read() {
        let line = "     Summary [  12.3s] 5 tests run: 3 passed (1 slow, 1 flaky, 5 leaky), 2 failed, 7 skipped";
        let counts = Counts::parse(line).unwrap();
        assert_eq!((counts.passed, counts.failed, counts.skipped), (3, 2, 7));
        assert_eq!(Counts::parse("    PASS [ 0.1s] a test"), None);
    }
}
