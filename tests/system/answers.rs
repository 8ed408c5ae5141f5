//! A request becomes an answer that is verified and paid.

use infera_system_tests::{CLIENT, Streamed, World, cost, story};
use serde_json::Value;
use xtask::Result;
use xtask::network::{BalancerOptions, Ledger};

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
        assert_eq!(confirmed(&reference.id), cost / 10, "{moved:?}");
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
