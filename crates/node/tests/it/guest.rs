//! A node as a guest on its owner's machine: what is seen around it decides.

use std::time::Duration;

use infera_node::clock::Clock;
use infera_node::governor::Mode;
use infera_node::governor::rules::{Preset, Rules};
use infera_node::governor::schedule::{Hours, Schedule};
use infera_node::state::StateKind;
use infera_protocol::FinishReason;
use infera_surroundings::{Input, Power, Seen, Surroundings};

use crate::fakes::{ENGINE_MEMORY, FakeClock, Rig};

impl Rig {
    fn sees(&self, change: impl FnOnce(&mut Surroundings)) {
        self.around.send_modify(change);
    }

    fn game(&self, names: &[&str]) {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        self.sees(|seen| seen.games = Some(Seen { names }));
    }
}

#[tokio::test]
async fn a_game_takes_the_gpu_and_gives_it_back() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 1000);
    rig.balancer.offer(job);
    rig.until_tokens(job, 45).await;
    rig.game(&["Hades"]);
    let snapshot = rig
        .until_sentence("Paused: Hades is running. Goes on when it closes")
        .await;
    assert_eq!(snapshot.state.kind, StateKind::Paused);
    rig.until("the release", || {
        rig.balancer.books().jobs[&job].released.is_some()
    })
    .await;
    let reason = rig.balancer.books().jobs[&job].released.clone();
    assert_eq!(reason.as_deref(), Some("its owner needs the machine"));
    rig.until("the engine is gone", || rig.engine.script().running == 0)
        .await;
    // What somebody plays is nobody's business.
    rig.until("the balancer knows why", || {
        let paused = rig.balancer.books().states.last().unwrap().paused.clone();
        paused.as_deref() == Some("Paused: a game is running. Goes on when it closes")
    })
    .await;
    rig.game(&[]);
    rig.until_sentence("Going on in 30 s: Hades has closed")
        .await;
    rig.until_ready().await;
}

#[tokio::test]
async fn the_end_of_a_snooze_is_no_reason_to_work() {
    let rig = Rig::ready().await;
    rig.node
        .pause(Some(Duration::from_mins(15)), false)
        .await
        .unwrap();
    rig.game(&["Hades"]);
    rig.after(Duration::from_secs(890)).await;
    rig.until_sentence("Paused: Hades is running. Goes on when it closes")
        .await;
    assert!(rig.clock.now_ms() >= FakeClock::START_MS + 900_000);
    // To resume is not to work anyway.
    let snapshot = rig.node.resume().await.unwrap();
    assert_eq!(snapshot.decision.mode, Mode::ReleaseGpu);
    assert_eq!(rig.engine.script().running, 0);
}

#[tokio::test]
async fn work_anyway_lasts_its_time() {
    let rig = Rig::ready().await;
    rig.game(&["Hades"]);
    rig.until_sentence("Paused: Hades is running. Goes on when it closes")
        .await;
    let snapshot = rig.node.work_anyway(Duration::from_hours(1)).await.unwrap();
    assert_eq!(snapshot.decision.mode, Mode::Run);
    let until = rig.clock.now_ms() + 3_600_000;
    assert_eq!(snapshot.anyway_until_ms, Some(until));
    rig.until_ready().await;
    let job = rig.balancer.book(1, 40);
    rig.balancer.offer(job);
    rig.until_finished(job).await;
    rig.after(Duration::from_mins(59)).await;
    rig.until_sentence("Paused: Hades is running. Goes on when it closes")
        .await;
    assert!(rig.clock.now_ms() >= until);
    // Nor does it outlast whoever wants their rules back.
    rig.node.work_anyway(Duration::from_hours(1)).await.unwrap();
    let snapshot = rig.node.work_anyway(Duration::ZERO).await.unwrap();
    assert_eq!(snapshot.anyway_until_ms, None);
    assert_eq!(snapshot.decision.mode, Mode::ReleaseGpu);
    // Who pauses does not want work anyway.
    rig.node.work_anyway(Duration::from_hours(1)).await.unwrap();
    rig.node.pause(None, false).await.unwrap();
    let snapshot = rig.node.resume().await.unwrap();
    assert_eq!(snapshot.anyway_until_ms, None);
}

#[tokio::test]
async fn jobs_go_back_before_the_machine_sleeps() {
    let mut rig = Rig::ready().await;
    let job = rig.balancer.book(1, 1000);
    rig.balancer.offer(job);
    rig.until_tokens(job, 45).await;
    assert!(rig.ready_to_sleep.try_recv().is_err());
    rig.sees(|seen| seen.going_to_sleep = Some(true));
    rig.ready_to_sleep.recv().await.unwrap();
    assert!(rig.balancer.books().jobs[&job].released.is_some());
    rig.sees(|seen| seen.going_to_sleep = Some(false));
    rig.until_ready().await;
}

#[tokio::test]
async fn a_job_that_is_nearly_done_is_finished_on_battery() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 400);
    rig.balancer.offer(job);
    rig.until_tokens(job, 100).await;
    rig.sees(|seen| {
        seen.power = Some(Power {
            on_battery: true,
            battery_percent: Some(55),
        });
    });
    rig.until_sentence("Paused: on battery (55 % left). Goes on with mains power")
        .await;
    rig.until_finished(job).await;
    assert_eq!(
        rig.balancer.books().jobs[&job].finish,
        Some(FinishReason::Length)
    );
    rig.until("the engine is gone", || rig.engine.script().running == 0)
        .await;
}

#[tokio::test]
async fn rules_change_while_the_node_runs() {
    let rig = Rig::ready().await;
    rig.sees(|seen| seen.input = Some(Input::Recent));
    rig.rules.send_replace(Rules::default().with(Preset::Away));
    let sentence = "Paused while you use this machine. Goes on after 10 min without keyboard, mouse or gamepad";
    rig.until_sentence(sentence).await;
    assert_eq!(rig.engine.script().running, 1, "kept for a moment");
    rig.until("the engine is gone", || rig.engine.script().running == 0)
        .await;
    // Nobody has touched it for ten minutes.
    let since_ms = rig.clock.now_ms();
    rig.sees(|seen| seen.input = Some(Input::Quiet { since_ms }));
    rig.until_ready().await;
    assert!(rig.clock.now_ms() >= since_ms + 600_000);
    assert_eq!(rig.engine.script().started, 2, "the node is the same");
}

#[tokio::test]
async fn a_schedule_opens_by_itself() {
    let rig = Rig::ready().await;
    // The clock starts at 22:13:20.
    rig.rules.send_replace(Rules {
        schedule: Schedule {
            on: true,
            hours: vec![Hours {
                days: [true; 7],
                from: 23 * 60,
                to: 7 * 60,
            }],
        },
        ..Rules::default()
    });
    rig.until_sentence("Paused by your schedule until +2800 s")
        .await;
    rig.after(Duration::from_secs(2_790)).await;
    rig.until_ready().await;
    assert!(rig.clock.now_ms() >= FakeClock::START_MS + 2_800_000);
}

/// The engine's own memory is free once it has ended: without knowing that, it would come and go.
#[tokio::test]
async fn memory_that_the_engine_gave_back_does_not_bring_it_back() {
    let rig = Rig::ready().await;
    let limit = Rules::default().memory.bytes;
    rig.sees(|seen| seen.available_memory_bytes = Some(limit / 2));
    rig.until("the engine is gone", || rig.engine.script().running == 0)
        .await;
    rig.sees(|seen| seen.available_memory_bytes = Some(limit / 2 + ENGINE_MEMORY));
    rig.after(Duration::from_mins(2)).await;
    assert_eq!(rig.engine.script().running, 0);
    rig.sees(|seen| seen.available_memory_bytes = Some(2 * limit + ENGINE_MEMORY));
    rig.until_ready().await;
}
