//! A node that leaves the machine to its owner, as the system itself tells it what they do.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::process::Command;

use infera_system_tests::{Streamed, World, story};
use serde_json::Value;
use xtask::network::{BalancerOptions, Node, START_LIMIT};
use xtask::process::{Process, children_of};
use xtask::{Result, wait};

/// No other node on this machine knows it by this name.
const PROGRAM: &str = "infera-owners-program";

fn owners_program(folder: &Path) -> Result<Process> {
    let program = folder.join(PROGRAM);
    fs::copy("/bin/sleep", &program)?;
    let mut command = Command::new(program);
    command.arg("600");
    Process::start("the owner's program", command, &folder.join("program.txt"))
}

fn until_paused(node: &Node) -> Result<Value> {
    wait::until(
        "the node leaves the machine to its owner",
        START_LIMIT,
        || {
            let status = node.status()?;
            Ok((status["decision"]["reason"]["reason"] == "rule").then_some(status))
        },
    )
}

#[test]
fn a_program_of_the_owner_takes_the_machine_and_gives_it_back() -> Result<()> {
    let world = World::start_slow(BalancerOptions::default(), 2, 2)?;
    let [guest, other] = &world.workers[..] else {
        return Err("two workers were asked for".into());
    };
    let named = PROGRAM.to_uppercase();
    let names = format!("[\"{named}\"]");
    guest.run(&["config", "rules.programs", &names])?;
    let pid = guest.pid().ok_or("the guest does not run")?;

    // One worker holds the job when the owner comes.
    other.run(&["pause"])?;
    let mut streamed = Streamed::default();
    let mut events = world.stream(&story(1, 400))?;
    while streamed.pieces < 3 {
        streamed.take(&events.next().ok_or("the answer ended too early")??)?;
    }
    other.run(&["resume"])?;
    let program = owners_program(world.data.path())?;
    let status = until_paused(guest)?;
    let sentence = format!("Paused: {named} is running. Goes on when it closes");
    assert_eq!(status["state"]["sentence"], sentence, "{status}");
    wait::until("the engine is gone", START_LIMIT, || {
        Ok(children_of(pid)?.is_empty().then_some(()))
    })?;
    for event in events {
        streamed.take(&event?)?;
    }
    let receipt = world.receipt(streamed.job()?)?;
    assert_eq!(receipt["verdict"], "verified", "{receipt}");
    let attempts = receipt["attempts"].as_array().map(Vec::len);
    assert_eq!(attempts, Some(2), "the other one went on: {receipt}");

    let rules = guest.run(&["rules"])?;
    assert!(rules.contains("keeps the node from working"), "{rules}");
    guest.run(&["resume"])?;
    until_paused(guest)?;
    guest.run(&["resume", "--anyway"])?;
    wait::until("it works anyway", START_LIMIT, || {
        Ok(guest.is_ready().then_some(()))
    })?;
    guest.run(&["pause"])?;
    guest.run(&["resume"])?;
    until_paused(guest)?;
    drop(program);
    wait::until("it says when it goes on", START_LIMIT, || {
        let status = guest.status()?;
        Ok(status["decision"]["reason"]["goes_on_ms"].as_i64())
    })?;
    wait::until("it works again", 2 * START_LIMIT, || {
        Ok(guest.is_ready().then_some(()))
    })
}
