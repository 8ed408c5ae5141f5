//! Embeddings: texts in, signed vectors out; as a worker and as a reference.

use std::time::Duration;

use infera_engine::message::FailureCode;
use infera_protocol::node_api::NodeEvent;
use infera_protocol::{FinishReason, JobId, Task, Vector};

use crate::fakes::{FakeBalancer, FakeEngine, MODEL, Rig, failure, vector_of};

/// A node whose model gives vectors.
async fn embedder() -> Rig {
    let engine = FakeEngine::default();
    engine.script().embeds = true;
    let rig = Rig::start(FakeBalancer::default(), engine).await;
    rig.until_ready().await;
    rig
}

fn expected() -> Vec<Vector> {
    vec![vector_of(&[1, 2, 3]), vector_of(&[4, 5])]
}

fn assert_delivered(rig: &Rig, job: JobId) {
    let books = rig.balancer.books();
    let booked = &books.jobs[&job];
    assert_eq!(booked.finish, Some(FinishReason::Embedded));
    assert_eq!(booked.vectors, expected());
    assert_eq!(books.violations, Vec::<String>::new());
}

#[tokio::test]
async fn texts_are_embedded_signed_and_delivered() {
    let rig = embedder().await;
    let job = rig.balancer.book_embedding(1);
    rig.balancer.offer(job);
    rig.until_finished(job).await;
    assert_delivered(&rig, job);
    rig.until_sentence("Waiting for jobs").await;
    let record = rig.history().await.remove(0).record;
    assert_eq!((record.input_tokens, record.output_tokens), (5, 0));
    rig.after(Duration::from_secs(1)).await;
    assert_eq!(rig.store.open_attempts().await.unwrap(), []);
}

#[tokio::test]
async fn a_crashed_program_delivers_the_vectors_of_its_outbox() {
    let rig = embedder().await;
    rig.engine.script().holds_vectors = true;
    let job = rig.balancer.book_embedding(1);
    rig.balancer.offer(job);
    rig.until("the claim", || rig.balancer.books().jobs[&job].holder)
        .await;
    rig.until_sentence("Working on a job").await;
    rig.balancer.go_away();
    rig.engine.script().holds_vectors = false;
    rig.after(Duration::from_mins(2)).await;
    let owed = rig.store.open_attempts().await.unwrap();
    assert!(owed[0].finish.is_some());
    let rig = rig.crash_and_restart().await;
    rig.until_finished(job).await;
    assert_delivered(&rig, job);
}

#[tokio::test]
async fn an_engine_that_dies_is_started_again_and_the_texts_given_anew() {
    let rig = embedder().await;
    rig.engine.script().die_at.push_back(0);
    let job = rig.balancer.book_embedding(1);
    rig.balancer.offer(job);
    rig.until_finished(job).await;
    assert_delivered(&rig, job);
    assert_eq!(rig.engine.script().started, 2);
}

#[tokio::test]
async fn a_cancelled_embedding_ends_signed_and_without_vectors() {
    let rig = embedder().await;
    rig.engine.script().holds_vectors = true;
    let job = rig.balancer.book_embedding(1);
    rig.balancer.offer(job);
    rig.until_sentence("Working on a job").await;
    rig.balancer.send(NodeEvent::Cancel { job, attempt: 1 });
    rig.until_finished(job).await;
    let books = rig.balancer.books();
    let booked = &books.jobs[&job];
    assert_eq!(booked.finish, Some(FinishReason::Cancelled));
    assert_eq!(booked.vectors, []);
    assert_eq!(books.violations, Vec::<String>::new());
}

#[tokio::test]
async fn texts_that_do_not_add_up_are_handed_back() {
    let rig = embedder().await;
    let job = rig.balancer.book_embedding(1);
    {
        let mut books = rig.balancer.books();
        let spec = &mut books.jobs.get_mut(&job).unwrap().spec;
        spec.task.input.push(6);
    }
    rig.balancer.offer(job);
    rig.until("the release", || {
        rig.balancer.books().jobs[&job].released.is_some()
    })
    .await;
}

#[tokio::test]
async fn a_reference_embeds_the_texts_for_itself() {
    let engine = FakeEngine::default();
    engine.script().embeds = true;
    let balancer = FakeBalancer::default();
    balancer.books().reference = true;
    let rig = Rig::start(balancer, engine).await;
    rig.until_ready().await;
    let audit = rig.balancer.book_audit(1);
    let task = Task::embed(MODEL, &[vec![1], vec![2, 3]]);
    rig.balancer.books().audits.get_mut(&audit).unwrap().task = task;
    rig.balancer.announce(audit);
    rig.until("the commitment", || {
        rig.balancer.books().audits[&audit].commitment.is_some()
    })
    .await;
    rig.balancer.reveal(audit);
    rig.until("the report", || {
        rig.balancer.books().audits[&audit].reported
    })
    .await;
    {
        let books = rig.balancer.books();
        let report = books.audits[&audit].report.as_ref().unwrap();
        assert_eq!(report.vectors, [vector_of(&[1]), vector_of(&[2, 3])]);
        assert_eq!((report.positions, report.mismatches.len()), (2, 0));
    }
    rig.after(Duration::from_secs(1)).await;
    let record = rig.history().await.remove(0).record;
    assert_eq!((record.input_tokens, record.output_tokens), (43, 0));
}

#[tokio::test]
async fn texts_that_the_engine_refuses_are_handed_back() {
    let rig = embedder().await;
    rig.engine.script().fail_requests = Some(failure(FailureCode::BadRequest, "too long"));
    let job = rig.balancer.book_embedding(1);
    rig.balancer.offer(job);
    rig.until("the release", || {
        rig.balancer.books().jobs[&job].released.as_deref() == Some("too long")
    })
    .await;
}

/// And the audit with them.
#[tokio::test]
async fn texts_for_an_engine_that_cannot_start_again_are_handed_back_at_once() {
    let balancer = FakeBalancer::default();
    balancer.books().reference = true;
    let engine = FakeEngine::default();
    engine.script().embeds = true;
    engine.script().holds_vectors = true;
    let rig = Rig::start(balancer, engine).await;
    rig.until_ready().await;
    let audit = rig.balancer.book_audit(1);
    let task = Task::embed(MODEL, &[vec![1], vec![2, 3]]);
    rig.balancer.books().audits.get_mut(&audit).unwrap().task = task;
    rig.balancer.announce(audit);
    rig.until("the audit is in the engine", || {
        let snapshots = rig.node.snapshots();
        !snapshots.borrow().work.is_empty()
    })
    .await;
    rig.engine.script().load_failure = Some(failure(FailureCode::BadModel, "tiny.gguf is cut off"));
    rig.engine.script().die_at = [0].into();
    let job = rig.balancer.book_embedding(1);
    rig.balancer.offer(job);
    rig.until("both are handed back", || {
        let books = rig.balancer.books();
        let released = books.jobs[&job].released.as_deref();
        let declined = books.audits[&audit].declined.as_deref();
        let names = |why: &str| why.contains("tiny.gguf is cut off");
        released.is_some_and(names) && declined.is_some_and(names)
    })
    .await;
}
