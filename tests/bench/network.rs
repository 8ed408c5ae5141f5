//! What the network adds to the time to first token, and how much memory each process takes.
//!
//!     network-bench MODEL.gguf DEVICE
#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use infera_model::{ChatMessage, ChatTemplate, Gguf, Tokenizer};
use infera_system_tests::engine::Engine;
use infera_system_tests::{MODEL, Streamed, World};
use serde_json::{Value, json};
use xtask::Result;
use xtask::network::{BalancerOptions, NodeOptions};

const ROUNDS: usize = 21;

fn main() -> ExitCode {
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<()> {
    let mut words = env::args().skip(1);
    let (Some(model), Some(device)) = (words.next().map(PathBuf::from), words.next()) else {
        return Err("usage: network-bench MODEL.gguf DEVICE".into());
    };
    let gguf = Gguf::open(&model)?;
    let tokenizer = Tokenizer::from_gguf(&gguf)?;
    let template = ChatTemplate::from_gguf(&gguf)?;

    let options = NodeOptions {
        device: device.clone(),
        ..NodeOptions::on_cpu(&model)
    };
    let world = World::with_nodes(BalancerOptions::default(), &options, 1, 2)?;
    let through = (0..ROUNDS)
        .map(|round| through_network(&world, &question(round)))
        .collect::<Result<Vec<_>>>()?;
    println!("memory (resident)");
    memory(&world)?;
    let binary = world.binaries.node.clone();
    drop(world);

    let choice = match device.as_str() {
        "auto" | "cpu" => Value::from(device.as_str()),
        name => json!({ "named": name }),
    };
    let mut engine = Engine::start(&binary, &model, &choice)?;
    let mut alone = Vec::new();
    for round in 0..ROUNDS {
        let message = ChatMessage::new("user", question(round));
        let prompt =
            tokenizer.encode_prompt(&template.render(&[message], true, SystemTime::now())?, true);
        alone.push(engine.time_to_first_token(&prompt)?);
    }
    let (through, alone) = (median(through), median(alone));
    println!("time to first token, median of {ROUNDS}");
    println!("  through the network  {:.1} ms", through * 1e3);
    println!("  engine alone         {:.1} ms", alone * 1e3);
    println!("  the network adds     {:.1} ms", (through - alone) * 1e3);
    Ok(())
}

fn question(round: usize) -> String {
    format!("What is {round} plus 3?")
}

fn through_network(world: &World, question: &str) -> Result<Duration> {
    let start = Instant::now();
    let events = world.stream(&json!({
        "model": MODEL,
        "messages": [{ "role": "user", "content": question }],
        "temperature": 0,
        "max_tokens": 4,
    }))?;
    let mut streamed = Streamed::default();
    let mut first = None;
    for event in events {
        streamed.take(&event?)?;
        if streamed.pieces > 0 {
            first.get_or_insert_with(|| start.elapsed());
        }
    }
    // The audits must not slow the next request down.
    world.receipt(streamed.job()?)?;
    first.ok_or_else(|| "no text came".into())
}

/// Seconds.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

#[cfg_attr(
    not(target_os = "linux"),
    expect(clippy::unnecessary_wraps, reason = "it asks for children on Linux")
)]
fn memory(world: &World) -> Result<()> {
    let mut processes = vec![("balancer".to_owned(), world.balancer.pid())];
    let nodes = world.workers.iter().chain(&world.references);
    for (node, name) in nodes.zip(["worker", "reference 1", "reference 2"]) {
        let pid = node.pid();
        processes.push((format!("node, {name}"), pid));
        #[cfg(target_os = "linux")]
        if let Some(pid) = pid {
            for engine in xtask::process::children_of(pid)? {
                processes.push((format!("engine, {name}"), Some(engine)));
            }
        }
    }
    for (name, pid) in processes {
        let resident = pid.and_then(resident_bytes);
        let text = resident.map_or_else(
            || "unknown".to_owned(),
            |bytes| format!("{:.0} MB", bytes as f64 / 1e6),
        );
        println!("  {name:<20} {text}");
    }
    Ok(())
}

/// On Linux only; unknown elsewhere.
fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}
