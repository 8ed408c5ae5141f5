//! Pause, snooze, finish first, requirements, disk, closing.

use std::time::Duration;

use infera_engine::message::FailureCode;
use infera_node::clock::Clock;
use infera_node::governor::Mode;
use infera_node::state::{EngineStatus, StateKind};
use infera_protocol::requirements::Policy;
use tokio::time::Instant;

use crate::fakes::{FakeBalancer, FakeEngine, Rig, failure};

#[tokio::test]
async fn a_pause_hands_the_job_back_and_frees_the_gpu() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 1000);
    rig.balancer.offer(job);
    rig.until_tokens(job, 45).await;
    let snapshot = rig.node.pause(None, false).await.unwrap();
    assert_eq!(snapshot.state.kind, StateKind::Paused);
    assert_eq!(snapshot.state.sentence, "Paused by you");
    rig.until("the release", || {
        rig.balancer.books().jobs[&job].released.is_some()
    })
    .await;
    let length = rig.balancer.books().jobs[&job].tokens.len() as u32;
    rig.balancer.assert_unbroken(job, length);
    assert_eq!(rig.engine.script().cancels, 1);
    assert_eq!(rig.engine.script().running, 1, "kept for a moment");
    let state = rig.balancer.books().states.last().unwrap().clone();
    rig.after(Duration::from_secs(11)).await;
    assert_eq!(rig.engine.script().running, 0, "no GPU context is left");
    assert_eq!(state.free_slots, 0);
    rig.until("the balancer knows why", || {
        let paused = rig.balancer.books().states.last().unwrap().paused.clone();
        paused.as_deref() == Some("Paused by you")
    })
    .await;
    rig.node.resume().await.unwrap();
    rig.until_ready().await;
    assert_eq!(rig.engine.script().started, 2);
}

#[tokio::test]
async fn no_job_is_claimed_while_paused() {
    let rig = Rig::ready().await;
    rig.node.pause(None, false).await.unwrap();
    let job = rig.balancer.book(1, 10);
    rig.balancer.offer(job);
    rig.after(Duration::from_secs(2)).await;
    rig.node.resume().await.unwrap();
    rig.after(Duration::from_secs(10)).await;
    assert_eq!(rig.balancer.books().claims, 0, "the offer is old by then");
}

#[tokio::test]
async fn a_snooze_ends_by_itself() {
    let rig = Rig::ready().await;
    let snapshot = rig
        .node
        .pause(Some(Duration::from_mins(15)), false)
        .await
        .unwrap();
    assert!(
        snapshot
            .state
            .sentence
            .starts_with("Paused by you until +9"),
        "{snapshot:?}"
    );
    rig.after(Duration::from_secs(890)).await;
    assert_eq!(rig.engine.script().running, 0);
    rig.until_ready().await;
    assert!(rig.clock.now_ms() < crate::fakes::FakeClock::START_MS + 905_000);
}

#[tokio::test]
async fn a_pause_outlives_the_program() {
    let rig = Rig::ready().await;
    rig.node.pause(None, false).await.unwrap();
    rig.after(Duration::from_secs(1)).await;
    let rig = rig.crash_and_restart().await;
    rig.until_sentence("Paused by you").await;
    rig.until_connected().await;
    rig.after(Duration::from_mins(1)).await;
    assert_eq!(rig.engine.script().started, 0);
}

#[tokio::test]
async fn of_pause_and_resume_at_once_the_last_word_is_kept() {
    let rig = Rig::ready().await;
    for _ in 0..20 {
        rig.node.pause(None, false).await.unwrap();
        rig.node.resume().await.unwrap();
    }
    rig.after(Duration::from_secs(1)).await;
    let rig = rig.crash_and_restart().await;
    rig.until_ready().await;
}

#[tokio::test]
async fn finish_then_pause_finishes_first() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 200);
    rig.balancer.offer(job);
    rig.until_tokens(job, 20).await;
    let snapshot = rig.node.pause(None, true).await.unwrap();
    assert_eq!(snapshot.decision.mode, Mode::Drain);
    let second = rig.balancer.book(2, 10);
    rig.balancer.offer(second);
    rig.until_finished(job).await;
    rig.balancer.assert_unbroken(job, 200);
    rig.until("the GPU is free", || rig.engine.script().running == 0)
        .await;
    assert_eq!(rig.balancer.books().claims, 1);
}

#[tokio::test]
async fn a_machine_below_the_gate_says_which_row_fails() {
    let balancer = FakeBalancer::default();
    balancer.books().policy = Some(Policy::public());
    let rig = Rig::start(balancer, FakeEngine::default()).await;
    let snapshot = rig
        .until_sentence("Not getting jobs: no GPU was found, this network asks for 8 GB")
        .await;
    assert_eq!(snapshot.state.kind, StateKind::NeedsYou);
    assert!(snapshot.state.remedy.is_some());
    rig.until("the GPU is free", || rig.engine.script().running == 0)
        .await;
    // The network's speed was asked for, so it was measured, and is remembered for a day.
    rig.until("the speed test", || rig.balancer.books().speed_tests == 1)
        .await;
    let snapshots = rig.node.snapshots();
    rig.until("the speed is known", || {
        snapshots
            .borrow()
            .hardware
            .as_ref()
            .unwrap()
            .network_bytes_per_second
            == Some(20_000_000)
    })
    .await;
    rig.balancer.restart();
    rig.until("a second session", || rig.balancer.books().sessions == 2)
        .await;
    rig.after(Duration::from_mins(1)).await;
    assert_eq!(rig.balancer.books().speed_tests, 1);
}

#[tokio::test]
async fn a_full_disk_stops_new_jobs_and_space_brings_them_back() {
    let rig = Rig::ready().await;
    rig.machine.0.lock().unwrap().free_disk_bytes = Some(50_000_000);
    rig.until_sentence("only 50 MB are free").await;
    rig.machine.0.lock().unwrap().free_disk_bytes = Some(150_000_000);
    rig.after(Duration::from_secs(90)).await;
    rig.until_sentence("only 150 MB are free").await;
    rig.machine.0.lock().unwrap().free_disk_bytes = Some(1 << 30);
    rig.until_sentence("Waiting for jobs").await;
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_is_named_and_tried_again_on_resume() {
    let engine = FakeEngine::default();
    engine.script().load_failure = Some(failure(
        FailureCode::BadModel,
        "tiny.gguf is truncated at byte 12",
    ));
    let rig = Rig::start(FakeBalancer::default(), engine).await;
    let snapshot = rig
        .until_sentence("Not getting jobs: tiny.gguf is truncated at byte 12")
        .await;
    assert!(matches!(
        snapshot.models[0].engine,
        EngineStatus::Broken { .. }
    ));
    rig.after(Duration::from_mins(10)).await;
    assert_eq!(rig.engine.script().started, 1, "not tried in a circle");
    rig.engine.script().load_failure = None;
    rig.node.resume().await.unwrap();
    rig.until_ready().await;
}

#[tokio::test]
async fn the_first_load_knows_how_much_memory_it_may_use() {
    let rig = Rig::ready().await;
    assert_eq!(rig.engine.script().memory_bytes, [Some(16 << 30)]);
}

#[tokio::test]
async fn an_engine_that_keeps_dying_is_started_ever_more_slowly() {
    let engine = FakeEngine::default();
    engine.script().load_failure = Some(failure(FailureCode::Internal, "the driver crashed"));
    let rig = Rig::start(FakeBalancer::default(), engine).await;
    rig.after(Duration::from_mins(10)).await;
    let started = rig.engine.script().started;
    assert!((10..60).contains(&started), "{started}");
    rig.engine.script().load_failure = None;
    rig.until_ready().await;
}

#[tokio::test]
async fn closing_hands_jobs_back_within_seconds() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 1000);
    rig.balancer.offer(job);
    rig.until_tokens(job, 40).await;
    let start = Instant::now();
    rig.node.shut_down().await;
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(rig.balancer.books().jobs[&job].released.is_some());
    rig.until("the engine has ended", || rig.engine.script().running == 0)
        .await;
    assert!(rig.node.snapshot().await.is_err());
}

#[tokio::test]
async fn closing_without_a_network_takes_no_longer_than_promised() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 1000);
    rig.balancer.offer(job);
    rig.until_tokens(job, 40).await;
    rig.balancer.go_away();
    let start = Instant::now();
    rig.node.shut_down().await;
    assert!(start.elapsed() < Duration::from_secs(5));
    let owed = rig.store.open_attempts().await.unwrap();
    assert_eq!(owed.len(), 1, "the next start hands it back");
}

#[tokio::test]
async fn a_network_that_was_slow_once_is_measured_again() {
    let balancer = FakeBalancer::default();
    balancer.books().policy = Some(Policy {
        network_bytes_per_second: Some(10_000_000),
        ..Policy::practice()
    });
    balancer.books().speed = Some(2_000_000);
    let rig = Rig::start(balancer, FakeEngine::default()).await;
    rig.until_sentence("your network's speed is 2 MB/s, this network asks for 10 MB/s")
        .await;
    rig.balancer.books().speed = None;
    let start = Instant::now();
    rig.until_sentence("Waiting for jobs").await;
    assert!(start.elapsed() > Duration::from_secs(500));
    assert_eq!(rig.balancer.books().speed_tests, 2);
}
