//! A request becomes an answer that is verified and paid.

use infera_system_tests::{CLIENT, MODEL, Streamed, World, cost, story, tiny_model};
use serde_json::Value;
use xtask::Result;
use xtask::network::{BalancerOptions, Ledger, NodeOptions};

/// The client has paid for exactly these tokens, and worker and references have their shares.
fn assert_paid(world: &World, moved: &Ledger, usage: &Value) -> Result<()> {
    let cost = cost(usage)?;
    let confirmed = |id: &str| moved.balance(&format!("node:{id}:confirmed"));
    assert_eq!(
        moved.balance(&format!("client:{CLIENT}")),
        -cost,
        "{moved:?}"
    );
    assert_eq!(
        confirmed(&world.workers[0].id),
        cost * 80 / 100,
        "{moved:?}"
    );
    for reference in &world.references {
        let held = moved.balance(&format!("node:{}:held", reference.id));
        assert_eq!(held, cost / 10, "{moved:?}");
    }
    Ok(())
}

#[test]
fn an_answer_is_verified_and_paid() -> Result<()> {
    let world = World::start(1, 2)?;
    let before = world.settled_ledger()?;
    let answer = world.chat(&story(1, 300))?;
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.contains(' ') && text.len() > 40, "{answer}");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop", "{answer}");

    let receipt = world.receipt(answer["infera"]["job_id"].as_str().unwrap())?;
    assert_eq!(receipt["verdict"], "verified", "{receipt}");
    assert_eq!(
        receipt["references"].as_array().unwrap().len(),
        2,
        "{receipt}"
    );
    let moved = world.settled_ledger()?.since(&before);
    assert_paid(&world, &moved, &answer["usage"])
}

/// Nobody tells the nodes in which profile to load the model.
#[test]
fn a_model_served_in_p16_is_answered_and_verified() -> Result<()> {
    let mut world = World::start(0, 0)?;
    let file = tiny_model();
    let file = file.to_string_lossy();
    world.balancer.run(&["model", "remove", MODEL])?;
    let add = ["model", "add", &file, "--name", MODEL, "--profile", "p16"];
    let prices = ["--input-price", "1", "--output-price", "1"];
    let id = world.balancer.run(&[&add[..], &prices].concat())?;
    for name in ["reference-1", "reference-2", "worker-1"] {
        let node = world.new_node(name, NodeOptions::on_cpu(&tiny_model()))?;
        if name == "worker-1" {
            world.workers.push(node);
        } else {
            world.balancer.trust(&node.id)?;
            world.references.push(node);
        }
    }
    for node in world.references.iter_mut().chain(&mut world.workers) {
        node.start()?;
    }
    world.wait_until_ready()?;
    let answer = world.chat(&story(1, 300))?;
    let receipt = world.receipt(answer["infera"]["job_id"].as_str().unwrap())?;
    assert_eq!(receipt["verdict"], "verified", "{receipt}");
    assert_eq!(receipt["model"], id.trim(), "{receipt}");
    assert_ne!(receipt["model"], world.model_id.as_str(), "{receipt}");
    Ok(())
}

#[test]
fn streamed_and_whole_answers_are_the_same() -> Result<()> {
    let world = World::start_slow(BalancerOptions::default(), 1, 2)?;
    let whole = world.chat(&story(2, 300))?;
    let streamed = Streamed::read(world.stream(&story(2, 300))?)?;
    assert_eq!(
        whole["choices"][0]["message"]["content"],
        streamed.text.as_str()
    );
    assert_eq!(
        whole["usage"]["completion_tokens"].as_u64(),
        streamed.completion_tokens
    );
    assert!(streamed.pieces > 10, "{streamed:?}");
    assert_eq!(streamed.finish.as_deref(), Some("stop"));
    let receipt = world.receipt(streamed.job()?)?;
    assert_eq!(receipt["verdict"], "verified", "{receipt}");
    world.settled_ledger()?;
    Ok(())
}

#[test]
fn a_client_that_waits_gets_the_verdict_with_the_answer() -> Result<()> {
    let world = World::start(1, 2)?;
    let mut request = story(3, 60);
    request["infera"] = serde_json::json!({ "wait": true });
    let answer = world.chat(&request)?;
    assert_eq!(answer["infera"]["verdict"], "verified", "{answer}");
    Ok(())
}

#[test]
fn several_clients_at_once_get_their_own_answers() -> Result<()> {
    let world = World::start(2, 2)?;
    let alone: Vec<_> = (0..4)
        .map(|seed| world.chat(&story(seed, 80)))
        .collect::<Result<_>>()?;
    let together: Vec<_> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..4)
            .map(|seed| {
                let client = world.client();
                scope.spawn(move || client.post("/v1/chat/completions", &story(seed, 80)))
            })
            .collect();
        asked
            .into_iter()
            .map(|thread| thread.join().unwrap()?.success())
            .collect::<Result<_>>()
    })?;
    for (one, other) in alone.iter().zip(&together) {
        assert_eq!(one["choices"], other["choices"]);
    }
    for answer in &together {
        let receipt = world.receipt(answer["infera"]["job_id"].as_str().unwrap())?;
        assert_eq!(receipt["verdict"], "verified", "{receipt}");
    }
    world.settled_ledger()?;
    Ok(())
}
