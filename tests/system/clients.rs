//! The official `OpenAI` clients talk to the balancer.

use std::fs;
use std::process::Command;

use infera_system_tests::{MODEL, World, npm};
use serde_json::Value;
use xtask::network::repository;
use xtask::{Result, cache, process};

fn assert_chatted(world: &World, said: &Value) -> Result<()> {
    assert_eq!(said["models"], serde_json::json!([MODEL]));
    assert!(
        said["whole"].as_str().is_some_and(|text| text.len() > 20),
        "{said}"
    );
    assert_eq!(said["whole"], said["streamed"]);
    assert_eq!(said["whole_finish"], said["streamed_finish"]);
    assert_eq!(said["whole_tokens"], said["streamed_tokens"]);
    assert!(
        said["unknown_model"]
            .as_str()
            .is_some_and(|text| text.contains("no-such-model")),
        "{said}"
    );
    assert!(
        said["wrong_key"]
            .as_str()
            .is_some_and(|text| !text.is_empty()),
        "{said}"
    );
    assert!(
        said["completion"]
            .as_str()
            .is_some_and(|text| !text.is_empty()),
        "{said}"
    );
    let receipt = world.receipt(said["job"].as_str().ok_or("the answer named no job")?)?;
    assert_eq!(receipt["verdict"], "verified", "{receipt}");
    world.settled_ledger()?;
    Ok(())
}

#[test]
fn the_openai_python_package_chats() -> Result<()> {
    let world = World::start(1, 2)?;
    let clients = repository().join("tests/clients");
    let mut chat = Command::new(cache::python_environment_with(
        "openai",
        &clients.join("requirements.txt"),
    )?);
    chat.arg(clients.join("chat.py"))
        .args([world.balancer.url(), &world.key, MODEL]);
    let said = serde_json::from_str(&process::output(chat)?)?;
    assert_chatted(&world, &said)
}

#[test]
fn the_openai_npm_package_chats() -> Result<()> {
    let world = World::start(1, 2)?;
    let clients = repository().join("tests/clients");
    let folder = npm::installed("openai", &clients)?;
    fs::copy(clients.join("chat.mjs"), folder.join("chat.mjs"))?;
    let mut chat = Command::new("node");
    chat.arg(folder.join("chat.mjs"))
        .args([world.balancer.url(), &world.key, MODEL]);
    let said = serde_json::from_str(&process::output(chat)?)?;
    assert_chatted(&world, &said)
}
