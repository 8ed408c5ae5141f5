//! The session: reconnecting, expiry, versions, replays.

use std::time::Duration;

use infera_node::state::{Connection, StateKind};
use infera_protocol::node_api::{NodeEvent, RefusalCode, VerdictStatus, WorkKind, WorkRecord};

use tokio::time::Instant;

use crate::fakes::{FakeBalancer, FakeEngine, MODEL, Rig};

#[tokio::test]
async fn a_balancer_that_is_away_for_an_hour_is_found_again() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 5000);
    rig.balancer.offer(job);
    rig.until_tokens(job, 50).await;
    rig.balancer.go_away();
    let snapshot = rig
        .until_sentence("Cannot reach the network at https://fake.example; trying again in")
        .await;
    assert_eq!(snapshot.state.kind, StateKind::Waiting);
    rig.after(Duration::from_hours(1)).await;
    let challenges = rig.balancer.books().challenges;
    assert!(challenges < 10, "unreachable calls are not counted");
    rig.balancer.come_back();
    rig.until_finished(job).await;
    rig.balancer.assert_unbroken(job, 5000);
    rig.until_sentence("Waiting for jobs").await;
}

#[tokio::test]
async fn a_balancer_that_is_away_at_the_start_is_waited_for() {
    let balancer = FakeBalancer::default();
    balancer.go_away();
    let rig = Rig::start(balancer, FakeEngine::default()).await;
    rig.until_sentence("Cannot reach the network").await;
    rig.after(Duration::from_mins(10)).await;
    rig.balancer.come_back();
    rig.until_ready().await;
    assert_eq!(rig.balancer.books().sessions, 1);
}

#[tokio::test]
async fn a_broken_event_stream_is_resumed_where_it_stopped() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 10);
    rig.balancer.offer(job);
    rig.until_finished(job).await;
    rig.balancer.cut();
    rig.until("a second stream", || {
        rig.balancer.books().last_event_ids.len() == 2
    })
    .await;
    assert_eq!(
        rig.balancer.books().last_event_ids,
        [None, Some("1".to_owned())]
    );
    assert_eq!(rig.balancer.books().sessions, 1);
    // The balancer repeats what it is not sure of.
    rig.balancer.offer(job);
    rig.after(Duration::from_secs(10)).await;
    assert_eq!(rig.balancer.books().claims, 1);
}

#[tokio::test]
async fn a_forgotten_session_is_opened_anew_and_the_job_goes_on() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 300);
    rig.balancer.offer(job);
    rig.until_tokens(job, 50).await;
    rig.balancer.restart();
    rig.until_finished(job).await;
    rig.balancer.assert_unbroken(job, 300);
    assert_eq!(rig.balancer.books().sessions, 2);
}

#[tokio::test]
async fn a_session_that_only_a_call_finds_expired_is_opened_anew() {
    let rig = Rig::ready().await;
    rig.balancer.forget_token();
    rig.until("a second session", || rig.balancer.books().sessions == 2)
        .await;
    rig.until_ready().await;
}

#[tokio::test]
async fn another_protocol_version_is_final_and_said_plainly() {
    let balancer = FakeBalancer::default();
    balancer.books().refuse_version = true;
    let rig = Rig::start(balancer, FakeEngine::default()).await;
    let snapshot = rig.until_sentence("UnknownVersion").await;
    assert_eq!(snapshot.state.kind, StateKind::NeedsYou);
    assert!(matches!(snapshot.connection, Connection::Refused { .. }));
    rig.after(Duration::from_hours(1)).await;
    assert_eq!(rig.balancer.books().challenges, 1);
}

/// As after a crash, until the balancer counts the program before as gone.
#[tokio::test]
async fn a_second_program_of_one_identity_says_so_and_gets_in_when_the_first_is_gone() {
    let balancer = FakeBalancer::default();
    balancer.books().refuse_sessions = [RefusalCode::IdentityInUse; 3].into();
    let rig = Rig::start(balancer, FakeEngine::default()).await;
    let snapshot = rig
        .until_sentence("another program works under this node's identity")
        .await;
    assert_eq!(snapshot.state.kind, StateKind::NeedsYou);
    assert!(snapshot.state.remedy.unwrap().contains("End the other one"));
    rig.until_ready().await;
    let calls = rig.balancer.books().session_calls.clone();
    assert_eq!(calls.len(), 4);
    for pair in calls.windows(2) {
        let pause = pair[1] - pair[0];
        assert!((15..30).contains(&pause.as_secs()), "{pause:?}");
    }
}

#[tokio::test]
async fn a_session_that_another_program_took_is_not_fought_over() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 300);
    rig.balancer.offer(job);
    rig.until_tokens(job, 50).await;
    rig.balancer.restart();
    rig.balancer.books().refuse_sessions = [RefusalCode::IdentityInUse].into();
    rig.until_sentence("another program works").await;
    rig.until_finished(job).await;
    rig.balancer.assert_unbroken(job, 300);
    assert_eq!(rig.balancer.books().sessions, 2);
}

#[tokio::test]
async fn a_network_that_needs_an_invitation_says_so_and_lets_in_once_there_is_one() {
    let balancer = FakeBalancer::default();
    balancer.books().refuse_sessions = [RefusalCode::InvitationNeeded; 3].into();
    let rig = Rig::start(balancer, FakeEngine::default()).await;
    let snapshot = rig.until_sentence("by invitation only").await;
    assert_eq!(snapshot.state.kind, StateKind::NeedsYou);
    let remedy = snapshot.state.remedy.unwrap();
    assert!(remedy.contains("Ask the network's operator"), "{remedy}");
    rig.until_ready().await;
    assert_eq!(rig.balancer.books().session_calls.len(), 4);
}

#[tokio::test]
async fn a_network_that_has_too_much_is_asked_calmly() {
    let balancer = FakeBalancer::default();
    balancer.books().refuse_sessions = [RefusalCode::TooMuch; 4].into();
    let rig = Rig::start(balancer, FakeEngine::default()).await;
    let snapshot = rig
        .until_sentence("takes no more from your internet address")
        .await;
    assert_eq!(snapshot.state.kind, StateKind::Waiting);
    rig.until_ready().await;
    let calls = rig.balancer.books().session_calls.clone();
    assert_eq!(calls.len(), 5);
    for pair in calls.windows(2) {
        assert!(pair[1] - pair[0] >= Duration::from_secs(15));
    }
}

#[tokio::test]
async fn output_that_is_too_much_for_now_is_kept_and_sent_again() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 100);
    rig.balancer.offer(job);
    rig.until_tokens(job, 20).await;
    rig.balancer.books().refuse_output = Some(RefusalCode::TooMuch);
    rig.after(Duration::from_secs(20)).await;
    rig.balancer.books().refuse_output = None;
    rig.until_finished(job).await;
    rig.balancer.assert_unbroken(job, 100);
}

#[tokio::test]
async fn work_that_came_too_late_is_done_for_a_new_challenge_at_once() {
    for code in [RefusalCode::WorkMissing, RefusalCode::BadChallenge] {
        let balancer = FakeBalancer::default();
        balancer.books().refuse_sessions = [code].into();
        let rig = Rig::start(balancer, FakeEngine::default()).await;
        rig.until_ready().await;
        let calls = rig.balancer.books().session_calls.clone();
        assert_eq!(calls.len(), 2);
        assert!(calls[1] - calls[0] < Duration::from_secs(1), "{code:?}");
        assert_eq!(rig.balancer.books().challenges, 2);
        tokio::time::resume();
    }
}

#[tokio::test]
async fn the_state_is_sent_as_a_sign_of_life() {
    let rig = Rig::ready().await;
    let before = rig.balancer.books().states.len();
    rig.after(Duration::from_secs(100)).await;
    let sent = rig.balancer.books().states.len() - before;
    assert!(
        (9..=12).contains(&sent),
        "{sent} in 100 s, with a limit of 30 s"
    );
}

#[tokio::test]
async fn a_verdict_brings_history_and_points_up_to_date() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 40);
    rig.balancer.offer(job);
    rig.until_finished(job).await;
    rig.until_sentence("Waiting for jobs").await;
    rig.balancer.books().points.confirmed = 4_200_000;
    rig.balancer.send(NodeEvent::Settled(WorkRecord {
        kind: WorkKind::Job,
        id: job.to_string(),
        attempt: 1,
        model: MODEL,
        model_name: "tiny-chat".to_owned(),
        input_tokens: 3,
        output_tokens: 40,
        started_ms: 1,
        finished_ms: Some(2),
        verdict: VerdictStatus::Verified,
        reason: "Two references agree".to_owned(),
        points: 4_200_000,
        forfeited: None,
        references: Vec::new(),
    }));
    let snapshots = rig.node.snapshots();
    rig.until("the points", || {
        snapshots
            .borrow()
            .points
            .is_some_and(|points| points.confirmed == 4_200_000)
    })
    .await;
    let history = rig.history().await;
    assert_eq!(history.len(), 1);
    assert_eq!(history[0].record.verdict, VerdictStatus::Verified);
    assert_eq!(history[0].record.reason, "Two references agree");
    assert!(
        history[0].tokens_per_second.is_some(),
        "its own figures stay"
    );
}

#[tokio::test]
async fn an_offer_shows_that_the_model_is_served_after_all() {
    let balancer = FakeBalancer::default();
    balancer.books().served = Some(Vec::new());
    let rig = Rig::start(balancer, FakeEngine::default()).await;
    rig.until_sentence("this network does not serve tiny").await;
    rig.balancer.books().served = None;
    let start = Instant::now();
    let job = rig.balancer.book(1, 10);
    rig.balancer.offer(job);
    rig.until_finished(job).await;
    rig.until_sentence("Waiting for jobs").await;
    assert!(start.elapsed() < Duration::from_secs(2));
}
