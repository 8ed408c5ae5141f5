//! The window in a real browser, on a real node, a real engine and a real balancer: what a person
//! does there, and what they see when something breaks. The scripts are in `tests/browser/`.
//!
//! Not here: a locked keychain (`keychain.rs`).
#![cfg(target_os = "linux")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use infera_system_tests::browser::{self, Certificate, WebNode};
use infera_system_tests::{Streamed, World, story, tiny_model};
use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::network::{BalancerOptions, Binaries};
use xtask::{Result, wait};

const NO_ENVIRONMENT: &[(&str, &str)] = &[];

fn pictures() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser")
}

/// Starts a node in a world, with the tiny model on the CPU, agreed.
fn agreed_node(world: &World, environment: &[(&str, &str)]) -> Result<WebNode> {
    let model = tiny_model();
    let words = [
        "--agree",
        "--balancer",
        world.balancer.url(),
        "--device",
        "cpu",
        "--model",
        &model.to_string_lossy(),
    ];
    let data = world.data.path().join("browsed");
    WebNode::start(&world.binaries, &data, &words, environment)
}

/// Some at once, so that the work can be seen; gives the last one's receipt.
fn some_jobs(world: &World) -> Result<Value> {
    let streams = (10..16)
        .map(|seed| world.stream(&story(seed, 200)))
        .collect::<Result<Vec<_>>>()?;
    let mut receipt = Value::Null;
    for stream in streams {
        receipt = world.receipt(Streamed::read(stream)?.job()?)?;
    }
    Ok(receipt)
}

/// Asks the network something, as a client does, and waits for the verdict.
fn one_job(world: &World, seed: u64) -> Result<Value> {
    let answer = world.chat(&story(seed, 200))?;
    let job = answer["infera"]["job_id"]
        .as_str()
        .ok_or_else(|| format!("the answer names no job: {answer}"))?;
    world.receipt(job)
}

fn no_such_thing(question: &str) -> xtask::Error {
    format!("the script asks for `{question}`, which is not there").into()
}

#[test]
fn the_first_start_leads_to_a_verified_job_and_a_pause() -> Result<()> {
    let world = World::start(0, 2)?;
    let data = world.data.path().join("browsed");
    let words = ["--balancer", world.balancer.url()];
    let node = WebNode::start(&world.binaries, &data, &words, NO_ENVIRONMENT)?;
    let given = json!({
        "address": node.address,
        "file": tiny_model(),
    });
    browser::run(
        "first-start",
        &pictures(),
        &given,
        |question| match question {
            "jobs" => some_jobs(&world),
            "status" => node.status(),
            _ => Err(no_such_thing(question)),
        },
    )?;
    let listeners = node.listeners()?;
    assert!(
        !listeners.is_empty() && listeners.iter().all(std::net::IpAddr::is_loopback),
        "the node can be reached at {listeners:?}"
    );
    node.stop()
}

#[test]
fn every_page_is_reached_and_read_by_everyone() -> Result<()> {
    let world = World::start(0, 2)?;
    let node = agreed_node(&world, NO_ENVIRONMENT)?;
    wait_until_waiting(&node)?;
    for seed in 1..=3 {
        one_job(&world, seed)?;
    }
    let given = json!({ "address": node.address });
    browser::run("pages", &pictures(), &given, |question| match question {
        "status" => node.status(),
        _ => Err(no_such_thing(question)),
    })?;
    node.stop()
}

#[test]
fn what_breaks_is_said_and_mends() -> Result<()> {
    let mut world = World::start(0, 0)?;
    let node = agreed_node(&world, NO_ENVIRONMENT)?;
    let given = json!({ "address": node.address });
    browser::run("faults", &pictures(), &given, |question| {
        match question {
            "status" => return node.status(),
            "engines" => return Ok(json!(node.engines()?)),
            "kill the balancer" => world.balancer.kill(),
            "start the balancer" => world.balancer.start_again()?,
            "kill the engine" => node.kill_engines()?,
            _ => return Err(no_such_thing(question)),
        }
        Ok(Value::Null)
    })?;
    node.stop()
}

#[test]
fn a_machine_without_a_gpu_is_told_what_is_missing() -> Result<()> {
    let public = BalancerOptions {
        policy: "public".to_owned(),
        ..BalancerOptions::default()
    };
    let world = World::start_with(public, 0, 0)?;
    let data = world.data.path().join("browsed");
    let words = ["--agree", "--balancer", world.balancer.url()];
    // Where there is a GPU, the drivers are hidden from the node.
    let nowhere = world.data.path().join("no-driver.json");
    let environment = [
        ("VK_DRIVER_FILES", &nowhere),
        ("VK_ICD_FILENAMES", &nowhere),
    ];
    let node = WebNode::start(&world.binaries, &data, &words, &environment)?;
    let given = json!({ "address": node.address });
    browser::run("no-gpu", &pictures(), &given, |question| match question {
        "status" => node.status(),
        _ => Err(no_such_thing(question)),
    })?;
    node.stop()
}

#[test]
fn every_control_does_what_it_says() -> Result<()> {
    let world = World::start(0, 2)?;
    // What is downloaded does not come.
    let nowhere = "http://127.0.0.1:9";
    let node = agreed_node(
        &world,
        &[("HTTPS_PROXY", nowhere), ("https_proxy", nowhere)],
    )?;
    wait_until_waiting(&node)?;
    for seed in 1..=3 {
        one_job(&world, seed)?;
    }
    let given = json!({ "address": node.address, "file": tiny_model() });
    browser::run("controls", &pictures(), &given, |question| match question {
        "status" => node.status(),
        "is it there" => Ok(json!(node.is_there())),
        _ => Err(no_such_thing(question)),
    })
}

#[test]
fn everyone_reaches_everything() -> Result<()> {
    let world = World::start(0, 0)?;
    let data = world.data.path().join("browsed");
    let words = ["--balancer", world.balancer.url()];
    let node = WebNode::start(&world.binaries, &data, &words, NO_ENVIRONMENT)?;
    let given = json!({ "address": node.address, "file": tiny_model() });
    browser::run("reach", &pictures(), &given, |question| {
        Err(no_such_thing(question))
    })?;
    node.stop()
}

/// The GPU is the hardware that Mesa's driver makes up when it is asked to; its memory is told by
/// a file, in the place of the kernel's.
#[test]
fn a_model_too_large_for_the_gpu_is_not_loaded() -> Result<()> {
    if let Some(what) = no_made_up_gpu() {
        eprintln!("skipped: {what}");
        return Ok(());
    }
    let binaries = Binaries::find_or_build()?;
    let folder = TempDir::new()?;
    let devices = folder.path().join("devices");
    let card = devices.join("0000:03:00.0");
    fs::create_dir_all(&card)?;
    for (name, text) in [
        ("class", "0x030000"),
        ("vendor", "0x1234"),
        ("device", "0x0001"),
        ("mem_info_vram_total", "67108864"),
    ] {
        fs::write(card.join(name), text)?;
    }
    let mut command = alone();
    command
        .arg(format!("mount --bind \"$0\" {DEVICES} && exec \"$@\""))
        .arg(&devices)
        .arg(&binaries.node)
        .env("RADV_FORCE_FAMILY", "navi10")
        .env("VK_DRIVER_FILES", RADV)
        .env("VK_ICD_FILENAMES", RADV);
    let data = folder.path().join("browsed");
    let key = data.join("node.key").to_string_lossy().into_owned();
    let words = ["--agree", "--key-file", &key];
    let node = WebNode::start_by(command, &binaries, &data, &words)?;
    let given = json!({ "address": node.address, "file": tiny_model() });
    browser::run("too-large", &pictures(), &given, |question| {
        Err(no_such_thing(question))
    })?;
    node.stop()
}

const DEVICES: &str = "/sys/bus/pci/devices";
const RADV: &str = "/usr/share/vulkan/icd.d/radeon_icd.x86_64.json";

/// A shell that may replace parts of the file system for itself and its children.
fn alone() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c"]);
    command
}

fn no_made_up_gpu() -> Option<&'static str> {
    if !Path::new(RADV).exists() {
        return Some("Mesa's driver for AMD is missing");
    }
    let mut trial = alone();
    trial.arg(format!("mount --bind {DEVICES} {DEVICES} 2>/dev/null"));
    let may = trial.status().is_ok_and(|status| status.success());
    (!may).then_some("this user may not mount anything for itself")
}

/// The script is the web that the node downloads from: a proxy that answers for two hosts.
#[test]
fn downloads_break_and_are_mended() -> Result<()> {
    let binaries = Binaries::find_or_build()?;
    let folder = TempDir::new()?;
    let certificate = Certificate::make(folder.path(), &["huggingface.co", "models.example"])?;
    let port = free_port()?;
    let proxy = format!("http://127.0.0.1:{port}");
    let authority = certificate.authority.to_string_lossy().into_owned();
    let environment = [
        ("HTTPS_PROXY", proxy.as_str()),
        ("https_proxy", &proxy),
        ("NO_PROXY", ""),
        ("no_proxy", ""),
        ("SSL_CERT_FILE", &authority),
    ];
    let data = folder.path().join("browsed");
    let node = WebNode::start(&binaries, &data, &["--device", "cpu"], &environment)?;
    let given = json!({
        "address": node.address,
        "chain": certificate.chain,
        "file": tiny_model(),
        "key": certificate.key,
        "port": port,
    });
    browser::run("downloads", &pictures(), &given, |question| {
        Err(no_such_thing(question))
    })?;
    node.stop()
}

/// Until the node is ready for jobs.
fn wait_until_waiting(node: &WebNode) -> Result<()> {
    wait::until("the node is ready", xtask::network::START_LIMIT, || {
        // At first there is nothing to show yet.
        let is_waiting = node
            .status()
            .is_ok_and(|status| status["state"]["summary"]["summary"] == "waiting_for_jobs");
        Ok(is_waiting.then_some(()))
    })
}

/// One that nobody listened at a moment ago.
fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.port())
}
