//! A node that computes on two devices: the CPU, and Mesa's software Vulkan.

use std::collections::BTreeSet;
use std::process::Command;

use infera_system_tests::{Streamed, World, story, tiny_model};
use serde_json::Value;
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

    // One job at once on each: two at the same time have both.
    let mut first = world.stream(&story(1, 200))?;
    let mut second = world.stream(&story(2, 200))?;
    let (mut one, mut other) = (Streamed::default(), Streamed::default());
    loop {
        let pieces = (first.next().transpose()?, second.next().transpose()?);
        if let Some(piece) = &pieces.0 {
            one.take(piece)?;
        }
        if let Some(piece) = &pieces.1 {
            other.take(piece)?;
        }
        if pieces == (None, None) {
            break;
        }
    }
    for streamed in [&one, &other] {
        let receipt = world.receipt(streamed.job()?)?;
        assert_eq!(receipt["verdict"], "verified", "{receipt}");
    }
    let both = BTreeSet::from(["cpu".to_owned(), vulkan.clone()]);
    wait::until("both have done a job", START_LIMIT, || {
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
    let answer = world.chat(&story(3, 8))?;
    assert_eq!(answer["infera"]["verdict"], "verified", "{answer}");
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
    let answer = world.chat(&story(4, 8))?;
    assert_eq!(answer["infera"]["verdict"], "verified", "{answer}");
    until_both_are_ready(node)?;
    Ok(())
}
