//! The peers that the engine is measured against: llama.cpp, prebuilt, from the npm package
//! `node-llama-cpp`, and mistral.rs from its Python package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use xtask::{Result, cache, process};

use crate::report;

/// What a bench tells of one engine on one device.
#[derive(Debug, Deserialize)]
pub(crate) struct Figures {
    pub device: String,
    pub load_ms: f64,
    pub ttft_ms: f64,
    pub prefill: Vec<Prefill>,
    pub decode: Vec<Decode>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Prefill {
    pub tokens: u32,
    pub tok_s: f64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Decode {
    pub batch: u32,
    pub context: u32,
    pub tok_s: f64,
}

/// A cold start compiles its shaders, also when an earlier run has left some behind: for Mesa.
pub(crate) const NO_SHADER_CACHE: (&str, &str) = ("MESA_SHADER_CACHE_DISABLE", "true");

/// Measures llama.cpp on a device, `cpu` or `vulkan`, with as many threads as there are cores.
pub(crate) fn llama_cpp(
    model: &Path,
    device: &str,
    prefills: &str,
    decode: u32,
    batches: &str,
) -> Result<Figures> {
    report::fact("measuring", &format!("llama.cpp on {device}"));
    let folder = install()?;
    let threads = std::thread::available_parallelism()?;
    let mut command = Command::new("node");
    command
        .current_dir(&folder)
        .arg("llama_cpp.mjs")
        .arg(fs::canonicalize(model)?)
        .args([device, &threads.to_string(), prefills])
        .args([&decode.to_string(), batches])
        // Software Vulkan is left out unless it is named.
        .env("GGML_VK_VISIBLE_DEVICES", "0")
        .env(NO_SHADER_CACHE.0, NO_SHADER_CACHE.1);
    figures(command)
}

/// Measures mistral.rs on the CPU.
pub(crate) fn mistral_rs(model: &Path, decode: u32) -> Result<Figures> {
    report::fact("measuring", "mistral.rs on cpu");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let python = cache::python_environment_with("peers", &source.join("requirements.txt"))?;
    let mut command = Command::new(python);
    command
        .arg(source.join("mistralrs_bench.py"))
        .arg(fs::canonicalize(model)?)
        .arg(decode.to_string());
    figures(command)
}

/// The last line that a bench prints.
fn figures(bench: Command) -> Result<Figures> {
    let printed = process::output(bench)?;
    let line = printed.lines().rfind(|line| line.starts_with('{'));
    let line = line.ok_or("the peer's bench printed no figures")?;
    Ok(serde_json::from_str(line)?)
}

fn install() -> Result<PathBuf> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err("the prebuilt llama.cpp is set up for x86-64 Linux only".into());
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let folder = cache::folder()?.join("peers");
    fs::create_dir_all(&folder)?;
    fs::copy(source.join("llama_cpp.mjs"), folder.join("llama_cpp.mjs"))?;
    let wanted = fs::read(source.join("package.json"))?;
    let ready = folder.join("ready");
    if fs::read(&ready).ok().as_ref() != Some(&wanted) {
        report::fact("peer", "installing llama.cpp (prebuilt, about 85 MB)");
        fs::write(folder.join("package.json"), &wanted)?;
        let mut npm = Command::new("npm");
        npm.current_dir(&folder).args([
            "install",
            "--ignore-scripts",
            "--omit=optional",
            "--force",
            "--no-audit",
            "--no-fund",
        ]);
        process::output(npm)?;
        fs::write(&ready, &wanted)?;
    }
    Ok(folder)
}
