//! Audits: score, commit, reveal; again after every kind of break.

use std::time::Duration;

use infera_engine::message::FailureCode;
use infera_protocol::node_api::NodeEvent;

use crate::fakes::{FakeBalancer, FakeEngine, Rig, failure};

async fn reference() -> Rig {
    let balancer = FakeBalancer::default();
    balancer.books().reference = true;
    let rig = Rig::start(balancer, FakeEngine::default()).await;
    rig.until_ready().await;
    rig
}

#[tokio::test]
async fn an_audit_is_scored_committed_to_and_opened_when_asked() {
    let rig = reference().await;
    rig.until_sentence("Waiting for answers to check").await;
    let audit = rig.balancer.book_audit(1);
    rig.balancer.announce(audit);
    rig.until("the commitment", || {
        rig.balancer.books().audits[&audit].commitment.is_some()
    })
    .await;
    rig.after(Duration::from_secs(30)).await;
    assert!(
        !rig.balancer.books().audits[&audit].reported,
        "not before it is asked"
    );
    assert_eq!(rig.store.reports().await.unwrap().len(), 1);
    rig.balancer.reveal(audit);
    rig.until("the report", || {
        rig.balancer.books().audits[&audit].reported
    })
    .await;
    rig.after(Duration::from_secs(1)).await;
    assert_eq!(rig.store.reports().await.unwrap(), []);
    let history = rig.history().await;
    assert_eq!(history[0].record.output_tokens, 40);
    assert_eq!(history[0].record.input_tokens, 3);
}

#[tokio::test]
async fn repeated_events_change_nothing() {
    let rig = reference().await;
    let audit = rig.balancer.book_audit(1);
    rig.balancer.announce(audit);
    rig.balancer.announce(audit);
    rig.until("the commitment", || {
        rig.balancer.books().audits[&audit].commitment.is_some()
    })
    .await;
    rig.balancer.announce(audit);
    rig.balancer.reveal(audit);
    rig.balancer.reveal(audit);
    rig.until("the report", || {
        rig.balancer.books().audits[&audit].reported
    })
    .await;
    rig.after(Duration::from_secs(10)).await;
    rig.balancer.announce(audit);
    rig.after(Duration::from_secs(10)).await;
    assert_eq!(rig.balancer.books().audits[&audit].accepted, 1);
}

#[tokio::test]
async fn a_commitment_whose_answer_is_lost_still_counts() {
    let rig = reference().await;
    rig.balancer.books().lose_commits = 1;
    let audit = rig.balancer.book_audit(1);
    rig.balancer.announce(audit);
    rig.after(Duration::from_secs(30)).await;
    rig.balancer.reveal(audit);
    rig.until("the report", || {
        rig.balancer.books().audits[&audit].reported
    })
    .await;
}

#[tokio::test]
async fn a_reveal_that_nobody_heard_is_made_up_for() {
    let rig = reference().await;
    let audit = rig.balancer.book_audit(1);
    rig.balancer.announce(audit);
    rig.until("the commitment", || {
        rig.balancer.books().audits[&audit].commitment.is_some()
    })
    .await;
    rig.balancer.books().audits.get_mut(&audit).unwrap().open = true;
    rig.balancer.restart();
    rig.until("the report", || {
        rig.balancer.books().audits[&audit].reported
    })
    .await;
}

#[tokio::test]
async fn a_restarted_program_opens_the_report_it_committed_to() {
    let rig = reference().await;
    let audit = rig.balancer.book_audit(1);
    rig.balancer.announce(audit);
    rig.until("the commitment", || {
        rig.balancer.books().audits[&audit].commitment.is_some()
    })
    .await;
    let rig = rig.crash_and_restart().await;
    rig.until_ready().await;
    rig.balancer.reveal(audit);
    rig.until("the report", || {
        rig.balancer.books().audits[&audit].reported
    })
    .await;
}

#[tokio::test]
async fn a_paused_node_declines() {
    let rig = reference().await;
    rig.node.pause(None, false).await.unwrap();
    let audit = rig.balancer.book_audit(1);
    rig.balancer.announce(audit);
    rig.until("the refusal", || {
        rig.balancer.books().audits[&audit].declined.is_some()
    })
    .await;
    assert_eq!(rig.balancer.books().audits[&audit].accepted, 0);
}

#[tokio::test]
async fn the_balancer_may_start_over() {
    let rig = reference().await;
    let audit = rig.balancer.book_audit(1);
    rig.balancer.announce(audit);
    rig.until("the commitment", || {
        rig.balancer.books().audits[&audit].commitment.is_some()
    })
    .await;
    rig.balancer.books().audits.get_mut(&audit).unwrap().open = true;
    rig.balancer.send(NodeEvent::Reset);
    rig.until("the report", || {
        rig.balancer.books().audits[&audit].reported
    })
    .await;
}

#[tokio::test]
async fn an_audit_of_undefined_numbers_is_declined_and_never_without_mismatches() {
    let rig = reference().await;
    let why = "The model `tiny` computes undefined numbers";
    rig.engine.script().fail_requests = Some(failure(FailureCode::BadModel, why));
    let audit = rig.balancer.book_audit(1);
    rig.balancer.announce(audit);
    rig.until("the decline", || {
        rig.balancer.books().audits[&audit].declined.is_some()
    })
    .await;
    rig.after(Duration::from_secs(30)).await;
    let books = rig.balancer.books();
    assert_eq!(books.audits[&audit].declined.as_deref(), Some(why));
    assert_eq!(books.audits[&audit].commitment, None);
}
