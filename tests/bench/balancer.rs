//! How many jobs a second one balancer takes through claim, output, audit and payment, with a
//! hundred simulated nodes. The nodes compute nothing: this measures the balancer.
#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use infera_protocol::{FinishReason, NodeKey, TokenOutput};
use infera_system_tests::simulated::{Answer, SimulatedNode};
use infera_system_tests::{MODEL, World};
use serde_json::json;
use xtask::network::{BalancerOptions, START_LIMIT};
use xtask::{Result, wait};

const NODES: u8 = 100;
const REFERENCES: u8 = 20;
const CLIENTS: usize = 16;
const JOBS_PER_CLIENT: usize = 40;
const TOKENS: u32 = 64;

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
    let world = World::start_with(BalancerOptions::default(), 0, 0)?;
    let model = world.model_id.parse()?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut nodes = Vec::new();
        for number in 1..=NODES {
            let key = NodeKey::from_secret(&[number; 32]);
            if number <= REFERENCES {
                world.balancer.trust(&key.id().to_string())?;
            }
            let node = SimulatedNode::connect(
                world.balancer.url(),
                key,
                model,
                Box::new(|spec| Ok(canned(spec.max_tokens))),
            )?;
            nodes.push(scope.spawn(|| node.work(&stop)));
        }
        let outcome = measure(&world);
        stop.store(true, Ordering::Relaxed);
        for node in nodes {
            // A node that stopped early explains a bad outcome.
            node.join().map_err(|_| "a node panicked")??;
        }
        outcome.map_err(|error| {
            world
                .balancer
                .fault(&format!("did not do its work ({error})"))
        })
    })
}

fn measure(world: &World) -> Result<()> {
    wait::until("all nodes are here", START_LIMIT, || {
        let nodes = |role: &str| {
            world
                .balancer
                .metric(&format!("infera_nodes{{role=\"{role}\"}}"))
        };
        let here = nodes("worker")?.zip(nodes("reference")?);
        let all = (f64::from(NODES - REFERENCES), f64::from(REFERENCES));
        Ok((here == Some(all)).then_some(()))
    })?;
    let refused = &AtomicU32::new(0);
    let start = Instant::now();
    let latencies: Vec<Duration> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let client = world.client();
                scope.spawn(move || -> Result<Vec<Duration>> {
                    let mut latencies = Vec::new();
                    for _ in 0..JOBS_PER_CLIENT {
                        let start = Instant::now();
                        while client.post("/v1/completions", &request())?.status == 503 {
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                        latencies.push(start.elapsed());
                    }
                    Ok(latencies)
                })
            })
            .collect();
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.join().map_err(|_| "a client panicked")??);
        }
        Ok::<_, xtask::Error>(all)
    })?;
    let answered = start.elapsed();
    world.settled_ledger()?;
    let settled = start.elapsed();
    let jobs = latencies.len();
    println!(
        "{jobs} jobs of {TOKENS} tokens, {CLIENTS} clients at once, {NODES} nodes of which {REFERENCES} are references"
    );
    println!(
        "answered  {:.1} jobs/s",
        jobs as f64 / answered.as_secs_f64()
    );
    println!(
        "settled   {:.1} jobs/s (two audits each, paid)",
        jobs as f64 / settled.as_secs_f64()
    );
    let mut sorted = latencies;
    sorted.sort();
    let at = |part: usize| sorted[(sorted.len() - 1) * part / 100].as_secs_f64() * 1e3;
    println!(
        "latency   {:.0} ms median, {:.0} ms at 95 %",
        at(50),
        at(95)
    );
    println!(
        "refused   {} times with 503",
        refused.load(Ordering::Relaxed)
    );
    Ok(())
}

fn request() -> serde_json::Value {
    json!({ "model": MODEL, "prompt": "Once upon a time", "max_tokens": TOKENS })
}

fn canned(tokens: u32) -> Answer {
    let token = TokenOutput {
        // A letter of the tiny model's vocabulary.
        id: 68,
        logprob: None,
        alternatives: Vec::new(),
    };
    (vec![token; tokens as usize], FinishReason::Length)
}
