//! Things die in the middle of a job; the client's answer and the books stay right.

use std::time::Duration;

use infera_system_tests::{CLIENT, OUTPUT_PRICE, Streamed, World, story};
use serde_json::Value;
use xtask::network::{BalancerOptions, START_LIMIT};
use xtask::{Result, wait};

/// Short, so that a dead node's job is soon another's.
fn short_lease() -> BalancerOptions {
    BalancerOptions {
        lease: Some(Duration::from_secs(2)),
        ..BalancerOptions::default()
    }
}

/// The longest of a few undisturbed stories, and the request it answers.
fn long_story(world: &World) -> Result<(Value, Streamed)> {
    let mut longest = (Value::Null, Streamed::default());
    for seed in 0..8 {
        let request = story(seed, 400);
        let answer = Streamed::read(world.stream(&request)?)?;
        if answer.completion_tokens > longest.1.completion_tokens {
            longest = (request, answer);
        }
    }
    assert!(longest.1.completion_tokens >= Some(110), "{longest:?}");
    Ok(longest)
}

/// Reads until the client has about so many tokens, does `then`, and reads to the end. The `calm`
/// answer's text tells where they end: on a machine that stops for a while, several tokens come in
/// one piece.
fn disturb(
    world: &mut World,
    (request, calm): (&Value, &Streamed),
    tokens: usize,
    then: impl FnOnce(&mut World) -> Result<()>,
) -> Result<Streamed> {
    let all = calm
        .completion_tokens
        .ok_or("the calm answer has no usage")?;
    let point = calm.text.len() * tokens / all as usize;
    let mut events = world.stream(request)?;
    let mut streamed = Streamed::default();
    while streamed.text.len() < point.max(1) {
        let event = events
            .next()
            .ok_or("the answer ended too early to disturb it")?;
        streamed.take(&event?)?;
    }
    then(world)?;
    for event in events {
        streamed.take(&event?)?;
    }
    Ok(streamed)
}

fn assert_same_answer(disturbed: &Streamed, calm: &Streamed) {
    assert_eq!(disturbed.text, calm.text);
    assert_eq!(disturbed.finish, calm.finish);
    assert_eq!(disturbed.completion_tokens, calm.completion_tokens);
}

fn attempts(receipt: &Value) -> usize {
    receipt["attempts"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_worker_killed_at_ten_points_leaves_one_unbroken_answer() -> Result<()> {
    let mut world = World::start_slow(short_lease(), 2, 2)?;
    let (request, calm) = long_story(&world)?;
    world.workers[1].kill();
    for (round, tokens) in [1, 2, 5, 12, 25, 31, 33, 50, 70, 90]
        .into_iter()
        .enumerate()
    {
        // One worker holds the job; the other comes when it is dead.
        let (holder, other) = (round % 2, (round + 1) % 2);
        let streamed = disturb(&mut world, (&request, &calm), tokens, |world| {
            world.workers[holder].kill();
            world.workers[other].start()
        })?;
        assert_same_answer(&streamed, &calm);
        let receipt = world.receipt(streamed.job()?)?;
        assert_eq!(attempts(&receipt), 2, "killed after {tokens}: {receipt}");
        assert_eq!(
            receipt["verdict"], "verified",
            "killed after {tokens}: {receipt}"
        );
        world.settled_ledger()?;
    }
    Ok(())
}

#[test]
fn an_idle_worker_takes_over_from_one_that_is_killed() -> Result<()> {
    let mut world = World::start_slow(short_lease(), 2, 2)?;
    let (request, calm) = long_story(&world)?;
    let streamed = disturb(&mut world, (&request, &calm), 20, |world| {
        let holder = wait::until("a worker has the job", START_LIMIT, || {
            for (number, node) in world.workers.iter().enumerate() {
                if node.jobs()? > 0 {
                    return Ok(Some(number));
                }
            }
            Ok(None)
        })?;
        world.workers[holder].kill();
        Ok(())
    })?;
    assert_same_answer(&streamed, &calm);
    world.receipt(streamed.job()?)?;
    world.settled_ledger()?;
    Ok(())
}

#[test]
fn a_paused_worker_hands_its_job_over() -> Result<()> {
    let mut world = World::start_slow(short_lease(), 1, 2)?;
    let (request, calm) = long_story(&world)?;
    let streamed = disturb(&mut world, (&request, &calm), 20, |world| {
        world.workers[0].run(&["pause"])?;
        world.workers[0].run(&["resume"]).map(drop)
    })?;
    assert_same_answer(&streamed, &calm);
    let receipt = world.receipt(streamed.job()?)?;
    assert_eq!(receipt["verdict"], "verified", "{receipt}");
    world.settled_ledger()?;
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn a_killed_engine_is_started_again_and_the_answer_goes_on() -> Result<()> {
    let mut world = World::start_slow(short_lease(), 1, 2)?;
    let (request, calm) = long_story(&world)?;
    let streamed = disturb(&mut world, (&request, &calm), 20, |world| {
        let node = world.workers[0].pid().ok_or("the worker does not run")?;
        let engines = xtask::process::children_of(node)?;
        assert_eq!(engines.len(), 1, "{engines:?}");
        xtask::process::kill(engines[0])
    })?;
    assert_same_answer(&streamed, &calm);
    let receipt = world.receipt(streamed.job()?)?;
    assert_eq!(receipt["verdict"], "verified", "{receipt}");
    assert!(world.workers[0].is_running()?);
    world.settled_ledger()?;
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn an_engine_ends_when_its_node_is_killed() -> Result<()> {
    let mut world = World::start_slow(BalancerOptions::default(), 1, 0)?;
    let node = world.workers[0].pid().ok_or("the worker does not run")?;
    let engines = xtask::process::children_of(node)?;
    assert_eq!(engines.len(), 1, "{engines:?}");
    world.workers[0].kill();
    wait::until("the engine has ended", Duration::from_secs(10), || {
        let running = std::fs::exists(format!("/proc/{}", engines[0]))?;
        Ok((!running).then_some(()))
    })
}

#[test]
fn a_killed_balancer_loses_no_job_and_no_point() -> Result<()> {
    let mut world = World::start_slow(short_lease(), 1, 2)?;
    let (request, calm) = long_story(&world)?;
    let mut events = world.stream(&request)?;
    let mut streamed = Streamed::default();
    while streamed.pieces < 20 {
        let event = events.next().ok_or("the answer ended too early")?;
        streamed.take(&event?)?;
    }
    world.balancer.kill();
    // The stream must end, and not as if the answer were whole.
    let rest: Result<Vec<_>> = events.collect();
    assert!(rest.is_err(), "{rest:?}");
    world.balancer.start_again()?;
    let receipt = world.receipt(streamed.job()?)?;
    let tokens = receipt["output_tokens"].as_u64();
    assert!(
        tokens >= Some(20) && tokens <= calm.completion_tokens,
        "{receipt}"
    );
    world.settled_ledger()?;
    // And the nodes find their way back.
    world.wait_until_ready()?;
    let again = Streamed::read(world.stream(&request)?)?;
    assert_same_answer(&again, &calm);
    Ok(())
}

#[test]
fn a_stopped_balancer_breaks_no_stream_without_a_word() -> Result<()> {
    let mut world = World::start_slow(short_lease(), 1, 2)?;
    let (request, calm) = long_story(&world)?;
    let mut events = world.stream(&request)?;
    let mut streamed = Streamed::default();
    while streamed.pieces < 5 {
        let event = events.next().ok_or("the answer ended too early")?;
        streamed.take(&event?)?;
    }
    let job = streamed.job()?.to_owned();
    let told = std::thread::scope(|scope| {
        // Either the whole answer, or an error in words.
        let reader = scope.spawn(move || -> Result<bool> {
            for event in events {
                let event = event?;
                if !event["error"].is_null() {
                    return Ok(true);
                }
                streamed.take(&event)?;
            }
            Ok(streamed.text == calm.text)
        });
        world.balancer.stop()?;
        reader.join().map_err(|_| "the reader panicked")?
    })?;
    assert!(told, "the stream ended early and without an error event");
    world.balancer.start_again()?;
    world.receipt(&job)?;
    world.settled_ledger()?;
    Ok(())
}

#[test]
fn a_client_that_hangs_up_stops_the_job_and_pays_for_what_it_got() -> Result<()> {
    let world = World::start_slow(BalancerOptions::default(), 1, 2)?;
    let (request, calm) = long_story(&world)?;
    let before = world.settled_ledger()?;
    let mut events = world.stream(&request)?;
    let mut streamed = Streamed::default();
    while streamed.pieces < 10 {
        let event = events.next().ok_or("the answer ended too early")?;
        streamed.take(&event?)?;
    }
    drop(events);
    let receipt = world.receipt(streamed.job()?)?;
    let produced = receipt["output_tokens"]
        .as_u64()
        .ok_or("the receipt counts no tokens")?;
    assert!(
        produced >= 10 && Some(produced) < calm.completion_tokens,
        "{receipt}"
    );
    let moved = world.settled_ledger()?.since(&before);
    let paid = -moved.balance(&format!("client:{CLIENT}"));
    assert!(paid >= 10 * OUTPUT_PRICE, "{moved:?}");
    assert!(
        moved.balance(&format!("node:{}:confirmed", world.workers[0].id)) > 0,
        "{moved:?}"
    );
    Ok(())
}
