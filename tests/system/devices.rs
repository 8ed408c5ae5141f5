//! A node that computes on two devices: the CPU, and Mesa's software Vulkan. Which engines run is
//! read from Linux's files about processes.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::process::Command;
use std::thread;

use infera_system_tests::{World, story, tiny_model};
use serde_json::Value;
use xtask::http::Client;
use xtask::network::{BalancerOptions, Node, NodeOptions, START_LIMIT};
use xtask::process::children_of;
use xtask::{Result, wait};

/// Opening a device and compiling its kernels takes software Vulkan longer than a start.
fn until_both_are_ready(node: &Node) -> Result<Value> {
    wait::until("both devices are ready", 4 * START_LIMIT, || {
        let status = node.status()?;
        let devices = status["devices"].as_array().cloned().unwrap_or_default();
        let is_ready = |device: &Value| device["models"][0]["engine"]["state"] == "ready";
        Ok((devices.len() == 2 && devices.iter().all(is_ready)).then_some(status))
    })
}

/// What computed the jobs so far, each once.
fn devices_in_history(node: &Node) -> Result<BTreeSet<String>> {
    let rows: Value = serde_json::from_str(&node.run(&["history", "--json"])?)?;
    let rows = rows.as_array().cloned().unwrap_or_default();
    Ok(rows
        .iter()
        .filter_map(|row| row["device"].as_str().map(str::to_owned))
        .collect())
}

/// The job that answers a request.
fn ask(client: &Client, seed: u64) -> Result<String> {
    let answer = client.post("/v1/chat/completions", &story(seed, 100))?;
    let answer = answer.success()?;
    let job = answer["infera"]["job_id"].as_str();
    Ok(job.ok_or("the answer names no job")?.to_owned())
}

fn is_verified(world: &World, job: &str) -> Result<()> {
    let receipt = world.receipt(job)?;
    if receipt["verdict"] != "verified" {
        return Err(format!("it is not verified: {receipt}").into());
    }
    Ok(())
}

#[test]
fn two_devices_work_side_by_side() -> Result<()> {
    let nodes = NodeOptions {
        device: "cpu,llvmpipe".to_owned(),
        sequences: Some(1),
        ..NodeOptions::on_cpu(&tiny_model())
    };
    let world = World::with_nodes(BalancerOptions::default(), &nodes, 1, 2)?;
    let [node] = &world.workers[..] else {
        return Err("one worker was asked for".into());
    };
    let status = until_both_are_ready(node)?;
    assert_eq!(status["devices"][0]["id"], "cpu", "{status}");
    let vulkan = status["devices"][1]["id"]
        .as_str()
        .ok_or("no id")?
        .to_owned();
    assert_eq!(
        status["models"].as_array().map(Vec::len),
        Some(1),
        "{status}"
    );

    // One job at once on each: of four at the same time both have some.
    let both = BTreeSet::from(["cpu".to_owned(), vulkan]);
    wait::until("both have done a job", 4 * START_LIMIT, || {
        thread::scope(|scope| -> Result<()> {
            let asked: Vec<_> = (0..4)
                .map(|seed| {
                    let client = world.client();
                    scope.spawn(move || ask(&client, seed).map_err(|error| error.to_string()))
                })
                .collect();
            for one in asked {
                let job = one.join().map_err(|_| "a request panicked")??;
                is_verified(&world, &job)?;
            }
            Ok(())
        })?;
        Ok((devices_in_history(node)? == both).then_some(()))
    })?;

    // One is left alone: its engine is gone, and the other answers.
    let pid = node.pid().ok_or("the node does not run")?;
    let engines = children_of(pid)?.len();
    let shown = node.run(&["pause", "--device", "0"])?;
    assert!(shown.contains("paused by you"), "{shown}");
    wait::until("the paused device's engine is gone", START_LIMIT, || {
        Ok((children_of(pid)?.len() < engines).then_some(()))
    })?;
    is_verified(&world, &ask(&world.client(), 5)?)?;
    assert_eq!(node.status()?["decision"]["mode"], "run");
    let unknown = node.run(&["pause", "--device", "7"]);
    assert!(unknown.is_err_and(|error| error.to_string().contains("is called `7`")));
    node.run(&["resume", "--device", "cpu"])?;
    until_both_are_ready(node)?;

    // One engine dies: the node goes on.
    for engine in children_of(pid)?.iter().take(1) {
        Command::new("kill")
            .args(["-9", &engine.to_string()])
            .status()?;
    }
    is_verified(&world, &ask(&world.client(), 6)?)?;
    until_both_are_ready(node)?;
    Ok(())
}
