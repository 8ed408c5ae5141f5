//! Jobs from offer to acknowledged end, undisturbed and disturbed.

use std::time::Duration;

use infera_engine::message::FailureCode;
use infera_node::governor::Reason;
use infera_node::state::StateKind;
use infera_protocol::FinishReason;
use infera_protocol::node_api::{NodeEvent, RefusalCode, VerdictStatus};
use tokio::time::Instant;

use crate::fakes::{FakeBalancer, FakeEngine, MODEL, Rig, failure, token_at};

#[tokio::test]
async fn an_offered_job_is_claimed_computed_and_delivered() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 100);
    rig.balancer.offer(job);
    rig.until_tokens(job, 40).await;
    let snapshot = rig.until_sentence("Working on a job").await;
    assert_eq!(snapshot.state.kind, StateKind::Working);
    assert_eq!(snapshot.work[0].model, "tiny-chat");
    rig.until_finished(job).await;
    rig.balancer.assert_unbroken(job, 100);
    {
        let books = rig.balancer.books();
        assert_eq!(books.jobs[&job].finish, Some(FinishReason::Length));
        assert_eq!(books.jobs[&job].commits, 4);
        assert_eq!(books.claims, 1);
    }
    rig.until_sentence("Waiting for jobs").await;
    let history = rig.history().await;
    assert_eq!(history[0].record.output_tokens, 100);
    assert_eq!(history[0].record.verdict, VerdictStatus::Pending);
    let rate = history[0].tokens_per_second.unwrap();
    assert!((80.0..120.0).contains(&rate), "{rate}");
    rig.after(Duration::from_secs(1)).await;
    assert_eq!(rig.store.open_attempts().await.unwrap(), []);
}

#[tokio::test]
async fn tokens_are_sent_as_they_come() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 200);
    rig.balancer.offer(job);
    rig.until_tokens(job, 1).await;
    assert!(rig.balancer.books().jobs[&job].tokens.len() < 5);
    rig.until_finished(job).await;
    assert!(rig.balancer.books().output_calls > 100);
}

#[tokio::test]
async fn a_taken_job_is_left_to_the_other() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 10);
    rig.balancer.books().refuse_claims = Some(RefusalCode::Taken);
    rig.balancer.offer(job);
    rig.until("a claim", || rig.balancer.books().claims == 1)
        .await;
    rig.after(Duration::from_mins(1)).await;
    let books = rig.balancer.books();
    assert_eq!(books.claims, 1);
    assert_eq!(books.states.last().unwrap().free_slots, 2);
}

#[tokio::test]
async fn a_claim_whose_answer_is_lost_is_made_again() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 10);
    rig.balancer.books().lose_claims = 1;
    rig.balancer.offer(job);
    rig.until_finished(job).await;
    assert_eq!(rig.balancer.books().claims, 2);
}

#[tokio::test]
async fn a_claim_that_is_never_answered_is_handed_back() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 10);
    rig.balancer.books().lose_claims = u32::MAX;
    rig.balancer.offer(job);
    rig.until("the release", || {
        rig.balancer.books().jobs[&job].released.is_some()
    })
    .await;
    assert!(!rig.balancer.books().jobs[&job].holder);
}

/// The job may be this node's all the same; who reads the reason learns what was wrong.
#[tokio::test]
async fn a_claim_whose_answer_cannot_be_read_is_handed_back_and_says_why() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 10);
    rig.balancer.books().jobs.get_mut(&job).unwrap().holder = true;
    rig.balancer.books().refuse_claims = Some(RefusalCode::Malformed);
    rig.balancer.offer(job);
    rig.until("the release", || {
        rig.balancer.books().jobs[&job].released.is_some()
    })
    .await;
    let reason = rig.balancer.books().jobs[&job].released.clone();
    assert_eq!(reason.as_deref(), Some("refused: Malformed"));
}

#[tokio::test]
async fn offers_wait_for_a_free_slot_and_end_when_withdrawn() {
    let rig = Rig::ready().await;
    let jobs: Vec<_> = (1..=4).map(|n| rig.balancer.book(n, 50)).collect();
    for job in &jobs {
        rig.balancer.offer(*job);
    }
    rig.until("two claims", || rig.balancer.books().claims == 2)
        .await;
    rig.balancer.send(NodeEvent::Withdrawn {
        job: jobs[3],
        attempt: 1,
    });
    for job in &jobs[..3] {
        rig.until_finished(*job).await;
        rig.balancer.books().most_concurrent_outputs = 0;
        rig.balancer.assert_unbroken(*job, 50);
    }
    rig.after(Duration::from_mins(1)).await;
    assert_eq!(rig.balancer.books().claims, 3);
}

#[tokio::test]
async fn a_repeated_offer_is_claimed_once() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 50);
    rig.balancer.offer(job);
    rig.balancer.offer(job);
    rig.until_finished(job).await;
    rig.balancer.offer(job);
    rig.after(Duration::from_secs(30)).await;
    assert_eq!(rig.balancer.books().claims, 1);
}

#[tokio::test]
async fn a_cancelled_job_ends_signed_with_what_exists() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 1000);
    rig.balancer.offer(job);
    rig.until_tokens(job, 45).await;
    rig.balancer.send(NodeEvent::Cancel { job, attempt: 1 });
    rig.until_finished(job).await;
    let length = rig.balancer.books().jobs[&job].tokens.len() as u32;
    assert!(length < 60, "{length}");
    rig.balancer.assert_unbroken(job, length);
    assert_eq!(
        rig.balancer.books().jobs[&job].finish,
        Some(FinishReason::Cancelled)
    );
}

#[tokio::test]
async fn an_acknowledgement_can_cancel_too() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 1000);
    rig.balancer.offer(job);
    rig.until_tokens(job, 10).await;
    rig.balancer.books().jobs.get_mut(&job).unwrap().cancel = true;
    rig.until_finished(job).await;
    assert_eq!(
        rig.balancer.books().jobs[&job].finish,
        Some(FinishReason::Cancelled)
    );
    assert_eq!(rig.engine.script().cancels, 1);
}

#[tokio::test]
async fn a_continued_job_begins_after_what_the_client_has() {
    let rig = Rig::ready().await;
    let before: Vec<_> = (0..37).map(token_at).collect();
    let job = rig.balancer.book_attempt(1, 90, 3, &before);
    rig.balancer.offer(job);
    rig.until_finished(job).await;
    rig.balancer.assert_unbroken(job, 90);
    assert_eq!(rig.engine.script().continued_from, [37]);
}

#[tokio::test]
async fn an_engine_that_dies_is_replaced_and_no_token_comes_twice() {
    let rig = Rig::ready().await;
    rig.engine.script().die_at = [20, 50].into();
    let job = rig.balancer.book(1, 100);
    rig.balancer.offer(job);
    rig.until_finished(job).await;
    rig.balancer.assert_unbroken(job, 100);
    assert_eq!(rig.engine.script().continued_from, [0, 20, 50]);
    assert_eq!(rig.engine.script().running, 1);
}

#[tokio::test]
async fn after_three_deaths_the_job_is_somebody_elses() {
    let rig = Rig::ready().await;
    rig.engine.script().die_at = [5, 6, 7].into();
    let job = rig.balancer.book(1, 100);
    rig.balancer.offer(job);
    rig.until("the release", || {
        rig.balancer.books().jobs[&job].released.is_some()
    })
    .await;
    {
        let books = rig.balancer.books();
        assert_eq!(books.jobs[&job].tokens.len(), 7);
        assert!(
            books.jobs[&job]
                .released
                .as_deref()
                .unwrap()
                .contains("3 times")
        );
    }
    rig.until_ready().await;
}

/// All ways in which the next engine does not load the model.
#[tokio::test]
async fn the_job_of_an_engine_that_cannot_start_again_is_handed_back_at_once() {
    for code in [
        FailureCode::BadModel,
        FailureCode::NoDevice,
        FailureCode::OutOfMemory,
        FailureCode::DeviceLost,
        FailureCode::Internal,
    ] {
        let rig = Rig::ready().await;
        rig.engine.script().die_at = [40].into();
        rig.engine.script().load_failure = Some(failure(code, "tiny.gguf is cut off"));
        let job = rig.balancer.book(1, 1000);
        rig.balancer.offer(job);
        rig.until_tokens(job, 40).await;
        let begun = Instant::now();
        rig.until("the release", || {
            rig.balancer.books().jobs[&job].released.is_some()
        })
        .await;
        assert!(begun.elapsed() < Duration::from_secs(1), "{code:?}");
        let books = rig.balancer.books();
        assert_eq!(books.jobs[&job].tokens.len(), 40);
        let why = books.jobs[&job].released.as_deref().unwrap();
        assert!(why.contains("tiny.gguf is cut off"), "{why}");
        drop(books);
        tokio::time::resume();
    }
}

#[tokio::test]
async fn what_the_engine_refuses_is_handed_back_at_once() {
    for (code, why) in [
        (FailureCode::BadRequest, "the prompt is over the context"),
        (FailureCode::BadModel, "`tiny` computes undefined numbers"),
    ] {
        let rig = Rig::ready().await;
        rig.engine.script().fail_requests = Some(failure(code, why));
        let job = rig.balancer.book(1, 100);
        rig.balancer.offer(job);
        rig.until("the release", || {
            rig.balancer.books().jobs[&job].released.is_some()
        })
        .await;
        assert_eq!(rig.engine.script().continued_from, [0]);
        let released = rig.balancer.books().jobs[&job].released.clone();
        assert_eq!(released.as_deref(), Some(why));
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_long_prompt_is_told_while_it_is_gone_through() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 40);
    {
        let mut books = rig.balancer.books();
        books.jobs.get_mut(&job).unwrap().spec.task.input = vec![1; 1000];
    }
    // A step of the engine every quarter of a second; in the middle one that takes long.
    let steps = (1..=30).map(|step| (step * 30, Duration::from_millis(250)));
    rig.engine.script().prefill = steps
        .chain([
            (930, Duration::from_secs(20)),
            (960, Duration::from_secs(3)),
        ])
        .collect();
    rig.balancer.offer(job);
    rig.until_finished(job).await;
    rig.balancer.assert_unbroken(job, 40);
    let books = rig.balancer.books();
    let told = &books.jobs[&job].prefilled;
    assert!((9..=11).contains(&told.len()), "{told:?}");
    for pair in told.windows(2) {
        let [(earlier, before), (later, after)] = pair else {
            panic!("{pair:?}");
        };
        assert!(before < after, "{told:?}");
        assert!(*later - *earlier >= Duration::from_secs(1), "{told:?}");
    }
    let said: Vec<_> = told.iter().map(|(_, tokens)| *tokens).collect();
    assert_eq!(said[0], 30, "at once");
    assert_eq!(said[said.len() - 2..], [930, 960]);
}

#[tokio::test]
async fn the_balancer_hears_nothing_while_a_prompt_does_not_move() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 40);
    let stuck = Duration::from_mins(5);
    rig.engine.script().prefill = vec![(2, Duration::from_secs(1)), (2, stuck)];
    rig.balancer.offer(job);
    rig.until_finished(job).await;
    let books = rig.balancer.books();
    assert_eq!(books.jobs[&job].prefilled.len(), 1);
}

#[tokio::test]
async fn the_balancer_knows_how_much_room_a_model_has() {
    let engine = FakeEngine::default();
    engine.script().context_tokens = Some(128);
    let rig = Rig::start(FakeBalancer::default(), engine).await;
    rig.until_ready().await;
    let room = |rig: &Rig| {
        let books = rig.balancer.books();
        let state = books.states.last().unwrap();
        (state.models.clone(), state.context_tokens.clone())
    };
    assert_eq!(room(&rig), (vec![MODEL], vec![128]));
    let (too_long, fits) = (rig.balancer.book(1, 126), rig.balancer.book(2, 125));
    rig.balancer.offer(too_long);
    rig.balancer.offer(fits);
    rig.until_finished(fits).await;
    assert!(!rig.balancer.books().jobs[&too_long].holder);

    // The texts of an embedding may be longer together than any of them may be.
    tokio::time::resume();
    let engine = FakeEngine::default();
    engine.script().embeds = true;
    let rig = Rig::start(FakeBalancer::default(), engine).await;
    rig.until_ready().await;
    assert_eq!(room(&rig), (vec![MODEL], vec![u32::MAX]));
}

#[tokio::test]
async fn a_lost_acknowledgement_costs_nothing() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 100);
    rig.balancer.offer(job);
    rig.until_tokens(job, 20).await;
    rig.balancer.books().lose_answers = 3;
    rig.until_finished(job).await;
    rig.balancer.assert_unbroken(job, 100);
}

#[tokio::test]
async fn a_job_whose_lease_has_ended_is_dropped() {
    for code in [
        RefusalCode::LeaseEnded,
        RefusalCode::NotYours,
        RefusalCode::UnknownJob,
        RefusalCode::BadCommitment,
    ] {
        let rig = Rig::ready().await;
        let job = rig.balancer.book(1, 1000);
        rig.balancer.offer(job);
        rig.until_tokens(job, 10).await;
        rig.balancer.books().refuse_output = Some(code);
        rig.until("the engine is told", || rig.engine.script().cancels == 1)
            .await;
        rig.until_sentence("Waiting for jobs").await;
        let calls = rig.balancer.books().output_calls;
        rig.after(Duration::from_mins(2)).await;
        assert_eq!(rig.balancer.books().output_calls, calls, "{code:?}");
        assert_eq!(rig.store.open_attempts().await.unwrap(), []);
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_restarted_program_delivers_what_it_owes_and_hands_back_the_rest() {
    let rig = Rig::ready().await;
    let (done, open) = (rig.balancer.book(1, 70), rig.balancer.book(2, 1000));
    rig.balancer.offer(open);
    rig.until_tokens(open, 40).await;
    rig.balancer.offer(done);
    rig.until_tokens(done, 60).await;
    // From here on the balancer gets everything, but the node never hears so.
    rig.balancer.books().lose_answers = u32::MAX;
    rig.until_finished(done).await;
    // A chunk more than was acknowledged.
    rig.until_tokens(open, 160).await;
    let owed = rig.store.open_attempts().await.unwrap();
    assert_eq!(owed.len(), 2);
    assert!(owed.iter().any(|open| open.finish.is_some()));
    assert!(owed.iter().all(|open| !open.chunks.is_empty()));

    let rig = rig.crash_and_restart().await;
    rig.balancer.books().lose_answers = 0;
    rig.until("the open job is handed back", || {
        rig.balancer.books().jobs[&open].released.is_some()
    })
    .await;
    rig.balancer.books().most_concurrent_outputs = 0;
    rig.balancer.assert_unbroken(done, 70);
    assert_eq!(rig.balancer.books().jobs[&done].released, None);
    rig.until_ready().await;
    rig.after(Duration::from_secs(5)).await;
    assert_eq!(rig.store.open_attempts().await.unwrap(), []);
}

/// "Paused" beside a job that is worked on would contradict itself, and so would the question before
/// quitting.
#[tokio::test]
async fn a_job_that_only_waits_for_its_receipt_is_no_work() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 70);
    rig.balancer.books().lose_answers = u32::MAX;
    rig.balancer.offer(job);
    rig.until_tokens(job, 1).await;
    let finishing = || {
        let snapshot = rig.node.snapshots().borrow().clone();
        let finishing = matches!(
            snapshot.decision.reason,
            Some(Reason::Paused {
                finishing: true,
                ..
            })
        );
        assert_eq!(snapshot.work.is_empty(), !finishing, "{snapshot:?}");
        finishing
    };
    rig.node.pause(None, true).await.unwrap();
    assert!(finishing());
    rig.until("the engine is done", || !finishing()).await;
    assert_eq!(rig.store.open_attempts().await.unwrap().len(), 1);
    rig.balancer.books().lose_answers = 0;
    rig.after(Duration::from_mins(1)).await;
    assert_eq!(rig.store.open_attempts().await.unwrap(), []);
    rig.balancer.books().most_concurrent_outputs = 0;
    rig.balancer.assert_unbroken(job, 70);
}

#[tokio::test]
async fn chunks_that_never_arrived_are_delivered_after_a_crash() {
    let rig = Rig::ready().await;
    let job = rig.balancer.book(1, 70);
    rig.balancer.offer(job);
    rig.until_tokens(job, 20).await;
    // The network breaks; the job is finished without it.
    rig.balancer.go_away();
    rig.until("the engine is done", || {
        rig.node.snapshots().borrow().work.is_empty()
    })
    .await;
    rig.after(Duration::from_mins(2)).await;
    let rig = rig.crash_and_restart().await;
    rig.until_connected().await;
    rig.after(Duration::from_mins(2)).await;
    let books = rig.balancer.books();
    let booked = &books.jobs[&job];
    assert_eq!(books.violations, Vec::<String>::new());
    // What was in a call when the program died is in the outbox; the rest is another's.
    assert!(booked.finish.is_some() || booked.released.is_some());
}
