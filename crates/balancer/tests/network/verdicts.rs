//! Verification, what it moves, and what survives a restart.

use std::time::Duration;

use infera_balancer::Config;
use infera_protocol::node_api::{NodeEvent, ReferenceFinding, VerdictStatus, WorkKind, WorkRecord};
use infera_protocol::{Hash, Mismatch, Profile};
use infera_testing::{
    MODEL, Network, SimNode, Work, hasty, head, honest_report, patient, until, writing,
};
use serde_json::json;

/// The node's next event about a final verdict.
async fn final_record(node: &mut SimNode) -> WorkRecord {
    loop {
        if let NodeEvent::Settled(record) = node.event().await
            && record.verdict != VerdictStatus::Pending
        {
            return record;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cheat_forfeits_its_points_and_the_client_is_refunded() {
    let network = Network::start(patient()).await;
    let references = network.references().await;
    let mut cheat = SimNode::worker(&network, 1).await;
    let answer = network.chat(&json!({}));
    let offer = cheat.offer().await;
    let mut work = Work::cheat(cheat.claim(&offer).await.unwrap());
    cheat.write_all(&mut work).await.unwrap();
    let (_, answer) = answer.await.unwrap();
    let receipt = network
        .settled(answer["infera"]["job_id"].as_str().unwrap())
        .await;
    assert_eq!(receipt["verdict"], "failed");
    let finding = &receipt["references"][0]["figures"];
    assert_eq!(finding["finding"], "fail");
    assert!(finding["match_rate"].as_f64().unwrap() < 0.5);
    let balances = network.balances().await;
    let cost = work.spec.task.input.len() as i64 * 3 + 710;
    assert_eq!(balances["client:ann"], 0);
    assert_eq!(balances["escrow"], 0);
    assert_eq!(
        balances["network"],
        -2 * (cost / 10),
        "honest references are paid all the same"
    );
    assert_eq!(balances[&format!("node:{}:held", references[0])], cost / 10);
    let points = cheat.points().await;
    assert_eq!(
        (points.confirmed, points.pending, points.forfeited),
        (0, 0, cost * 80 / 100)
    );
    let record = final_record(&mut cheat).await;
    assert_eq!((record.verdict, record.points), (VerdictStatus::Failed, 0));
    assert_eq!(record.forfeited, Some(cost * 80 / 100));
    let named: Vec<_> = record
        .references
        .iter()
        .map(|found| (found.reference.clone(), found.finding))
        .collect();
    for reference in &references {
        assert!(named.contains(&(reference.short(), ReferenceFinding::Fail)));
    }
    assert!(record.references[0].mismatches > 35);
    assert_eq!(cheat.history().await, [record]);
    // It gets no jobs for a while.
    cheat.tell(1, None).await;
    assert_eq!(network.chat(&json!({})).await.unwrap().0, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_gets_the_answer_of_an_honest_node() {
    let network = Network::start(patient()).await;
    network.references().await;
    let mut cheat = SimNode::worker(&network, 1).await;
    let answer = network.chat(&json!({"infera": {"wait": true}}));
    let offer = cheat.offer().await;
    let mut work = Work::cheat(cheat.claim(&offer).await.unwrap());
    let mut honest = SimNode::worker(&network, 2).await;
    cheat.write_all(&mut work).await.unwrap();
    let mut again = honest.take().await;
    assert_eq!((again.spec.attempt, again.spec.output.len()), (2, 0));
    honest.write_all(&mut again).await.unwrap();
    let (status, answer) = answer.await.unwrap();
    assert_eq!(status, 200);
    assert_eq!(answer["infera"]["verdict"], "verified");
    let text = head().tokenizer().decode(
        &again.spec.task.input,
        &infera_testing::sim_answer(&writing(&again.spec).seed),
    );
    assert_eq!(answer["choices"][0]["message"]["content"], text);
    let receipt = network
        .settled(answer["infera"]["job_id"].as_str().unwrap())
        .await;
    assert_eq!(receipt["run"], 2);
    assert_eq!(receipt["attempts"][0]["verdict"], "failed");
    assert_eq!(receipt["attempts"][1]["verdict"], "verified");
    let cost = work.spec.task.input.len() as i64 * 3 + 710;
    let balances = network.balances().await;
    assert_eq!(balances["client:ann"], -cost, "paid once");
    assert_eq!(balances["escrow"], 0);
    assert_eq!(honest.points().await.confirmed, cost * 80 / 100);
    assert_eq!(cheat.points().await.confirmed, 0);
    let reference = SimNode::reference(&network, 201).await;
    let mut audits: Vec<_> = reference
        .history()
        .await
        .into_iter()
        .map(|record| (record.verdict, record.reason, record.points))
        .collect();
    audits.sort_by_key(|(verdict, _, _)| *verdict == VerdictStatus::Failed);
    assert_eq!(audits.len(), 2);
    assert_eq!(audits[0].0, VerdictStatus::Verified);
    assert_eq!(audits[1].0, VerdictStatus::Failed, "each run for itself");
    assert_eq!(audits[1].1, receipt["attempts"][0]["reason"]);
    assert_eq!(audits[1].2, cost / 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pending_is_told_at_once_and_what_references_found_only_with_the_verdict() {
    let network = Network::start(patient()).await;
    let mut slow = SimNode::reference(&network, 201).await;
    SimNode::reference(&network, 202).await.spawn_reference();
    let mut worker = SimNode::worker(&network, 1).await;
    let answer = network.chat(&json!({}));
    let mut work = worker.take().await;
    worker.write_all(&mut work).await.unwrap();
    answer.await.unwrap();
    let share = (work.spec.task.input.len() as i64 * 3 + 710) * 80 / 100;
    let event = worker
        .event_where(|event| matches!(event, NodeEvent::Settled(_)))
        .await;
    let NodeEvent::Settled(pending) = event else {
        panic!("settled")
    };
    assert_eq!(
        (pending.verdict, pending.points, pending.forfeited),
        (VerdictStatus::Pending, share, None)
    );
    assert_eq!(pending.references, []);
    let event = slow
        .event_where(|event| matches!(event, NodeEvent::Audit { .. }))
        .await;
    let NodeEvent::Audit { audit, .. } = event else {
        panic!("an audit")
    };
    let report = honest_report(&slow.accept(audit).await.unwrap());
    let salt = Hash::from_bytes([1; 32]);
    slow.commit(&report, &salt).await.unwrap();
    slow.event_where(|event| *event == NodeEvent::Reveal { audit })
        .await;
    let job = work.spec.job.to_string();
    until("the other reference's report", async || {
        let receipt = network.get(&format!("/v1/jobs/{job}/receipt")).await;
        let references = receipt["references"].as_array().unwrap();
        references
            .iter()
            .any(|one| one["step"] == "reported")
            .then_some(())
    })
    .await;
    assert_eq!(worker.history().await, [pending], "nothing leaks before");
    slow.reveal(&report, &salt).await.unwrap();
    let record = final_record(&mut worker).await;
    assert_eq!(record.verdict, VerdictStatus::Verified);
    assert_eq!(record.references.len(), 2);
    for found in &record.references {
        assert_eq!(
            (found.finding, found.positions, found.mismatches),
            (ReferenceFinding::Clean, 71, 0)
        );
    }
    assert_eq!(worker.history().await, [record]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_is_told_what_was_found_about_its_own_part() {
    let network = Network::start(patient()).await;
    network.references().await;
    let mut honest = SimNode::worker(&network, 1).await;
    let answer = network.stream(&json!({}));
    let mut work = honest.take().await;
    honest.write(&mut work, 32).await.unwrap();
    let mut cheat = SimNode::worker(&network, 2).await;
    honest.release(&work.spec).await.unwrap();
    let offer = cheat.offer().await;
    let mut rest = Work::cheat(cheat.claim(&offer).await.unwrap());
    cheat.write_all(&mut rest).await.unwrap();
    answer.await.unwrap();
    let of_honest = final_record(&mut honest).await;
    let of_cheat = final_record(&mut cheat).await;
    assert_eq!(of_honest.verdict, VerdictStatus::Verified);
    assert_eq!(of_cheat.verdict, VerdictStatus::Failed);
    for found in &of_honest.references {
        assert_eq!(
            (found.finding, found.positions, found.mismatches),
            (ReferenceFinding::Clean, 32, 0)
        );
    }
    for found in &of_cheat.references {
        assert_eq!(
            (found.finding, found.positions),
            (ReferenceFinding::Fail, 39)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_every_node_cheats_a_waiting_client_gets_an_error_and_pays_nothing() {
    let network = Network::start(Config {
        max_reruns: 1,
        ..patient()
    })
    .await;
    network.references().await;
    for number in 1..=2 {
        SimNode::worker(&network, number)
            .await
            .spawn_worker(Work::cheat);
    }
    let (status, body) = network
        .chat(&json!({"infera": {"wait": true}}))
        .await
        .unwrap();
    assert_eq!(
        (status, &body["error"]["code"]),
        (500, &json!("verification_failed"))
    );
    let balances = network.balances().await;
    assert_eq!((balances["client:ann"], balances["escrow"]), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn when_references_disagree_more_are_asked() {
    let network = Network::start(patient()).await;
    let mut liar = SimNode::reference(&network, 201).await;
    SimNode::reference(&network, 202).await.spawn_reference();
    let worker = SimNode::worker(&network, 1).await;
    let id = worker.id;
    worker.spawn_worker(Work::honest);
    let (_, answer) = network.chat(&json!({})).await.unwrap();
    let event = liar
        .event_where(|event| matches!(event, NodeEvent::Audit { .. }))
        .await;
    let NodeEvent::Audit { audit, .. } = event else {
        panic!("an audit")
    };
    let mut spec = liar.accept(audit).await.unwrap();
    let mut report = honest_report(&spec);
    spec.task.writing_mut().unwrap().seed = infera_protocol::JobSeed::from_bytes([1; 32]);
    report.mismatches = honest_report(&spec).mismatches;
    let salt = Hash::from_bytes([1; 32]);
    liar.commit(&report, &salt).await.unwrap();
    liar.event_where(|event| *event == NodeEvent::Reveal { audit })
        .await;
    liar.reveal(&report, &salt).await.unwrap();
    let job = answer["infera"]["job_id"].as_str().unwrap();
    until("both reports", async || {
        let receipt = network.get(&format!("/v1/jobs/{job}/receipt")).await;
        let references = receipt["references"].as_array().unwrap();
        let reported = references
            .iter()
            .filter(|one| one["step"] == "reported")
            .count();
        (reported == 2).then_some(())
    })
    .await;
    let receipt = network.get(&format!("/v1/jobs/{job}/receipt")).await;
    assert_eq!(
        receipt["verdict"], "pending",
        "one against one decides nothing"
    );
    SimNode::reference(&network, 203).await.spawn_reference();
    let receipt = network.settled(job).await;
    assert_eq!(receipt["verdict"], "verified");
    assert_eq!(receipt["references"].as_array().unwrap().len(), 3);
    let balances = network.balances().await;
    assert!(balances[&format!("node:{id}:confirmed")] > 0);
    assert_eq!(balances["escrow"], 0);
}

/// One file under two names. What rounding explains in one profile it does not in the other.
#[tokio::test(flavor = "multi_thread")]
async fn answers_are_judged_by_the_limits_of_their_models_profile() {
    let network = Network::start(patient()).await;
    network.add(head(), Profile::P16, "tiny-p16").await;
    for number in [201, 202] {
        SimNode::reference(&network, number)
            .await
            .spawn_reference_with(|report| {
                report.mismatches.push(Mismatch {
                    position: 3,
                    token: 0,
                    margin: 0.1,
                });
            });
    }
    for number in 1..=2 {
        SimNode::worker(&network, number)
            .await
            .spawn_worker(Work::honest);
    }
    for (name, profile, verdict) in [
        (MODEL, Profile::P32, "failed"),
        ("tiny-p16", Profile::P16, "verified"),
    ] {
        let described = network.get(&format!("/v1/models/{name}")).await;
        assert_eq!(described["infera"]["profile"], json!(profile));
        let (status, answer) = network.chat(&json!({ "model": name })).await.unwrap();
        assert_eq!(status, 200, "{answer}");
        let job = answer["infera"]["job_id"].as_str().unwrap();
        let receipt = network.settled(job).await;
        assert_eq!(receipt["verdict"], verdict, "{profile}");
        assert_eq!(receipt["model"], json!(head().id(profile)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_reference_leaves_the_verdict_pending_until_one_comes() {
    let network = Network::start(hasty()).await;
    SimNode::reference(&network, 201).await.spawn_reference();
    // This one never answers.
    let _silent = SimNode::reference(&network, 202).await;
    SimNode::worker(&network, 1)
        .await
        .spawn_worker(Work::honest);
    let (_, answer) = network.chat(&json!({})).await.unwrap();
    let job = answer["infera"]["job_id"].as_str().unwrap();
    until("the silent one to be given up", async || {
        let receipt = network.get(&format!("/v1/jobs/{job}/receipt")).await;
        let references = receipt["references"].as_array().unwrap();
        references
            .iter()
            .any(|one| one["step"] == "expired")
            .then_some(())
    })
    .await;
    SimNode::reference(&network, 203).await.spawn_reference();
    assert_eq!(network.settled(job).await["verdict"], "verified");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lottery_can_pass_a_job_by() {
    let network = Network::start(Config {
        audit_rate: 0.0,
        ..patient()
    })
    .await;
    let worker = SimNode::worker(&network, 1).await;
    let id = worker.id;
    worker.spawn_worker(Work::honest);
    let (_, answer) = network
        .chat(&json!({"infera": {"wait": true}}))
        .await
        .unwrap();
    assert_eq!(answer["infera"]["verdict"], "sampled_out");
    let balances = network.balances().await;
    assert_eq!(balances["escrow"], 0);
    let cost = -balances["client:ann"];
    assert_eq!(balances[&format!("node:{id}:confirmed")], cost * 80 / 100);
    assert_eq!(balances["network"], cost - cost * 80 / 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_checks_is_settled_unchecked_in_the_end() {
    let network = Network::start(Config {
        keep_text: Duration::from_millis(50),
        ..patient()
    })
    .await;
    SimNode::worker(&network, 1)
        .await
        .spawn_worker(Work::honest);
    let (_, answer) = network.chat(&json!({})).await.unwrap();
    let job = answer["infera"]["job_id"].as_str().unwrap();
    assert_eq!(network.settled(job).await["verdict"], "sampled_out");
    assert_eq!(network.balances().await["escrow"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_never_checks_itself() {
    let network = Network::start(patient()).await;
    network.references().await;
    // It works first and is trusted later, while the verdict is open.
    let worker = SimNode::worker(&network, 1).await;
    let id = worker.id;
    worker.spawn_worker(Work::honest);
    let (_, answer) = network
        .chat(&json!({"infera": {"wait": true}}))
        .await
        .unwrap();
    let job = answer["infera"]["job_id"].as_str().unwrap();
    let receipt = network.settled(job).await;
    let checked_by: Vec<_> = receipt["references"].as_array().unwrap().iter().collect();
    assert!(checked_by.iter().all(|one| one["node"] != id.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_sees_its_audits_in_its_history() {
    let network = Network::start(patient()).await;
    network.references().await;
    let mut third = SimNode::reference(&network, 203).await;
    SimNode::worker(&network, 1)
        .await
        .spawn_worker(Work::honest);
    // Two of three references are drawn for each job; this one answers when it is.
    loop {
        network.chat(&json!({})).await.unwrap();
        let Ok(Some((_, NodeEvent::Audit { audit, .. }))) =
            tokio::time::timeout(Duration::from_millis(100), third.events.recv()).await
        else {
            continue;
        };
        let report = honest_report(&third.accept(audit).await.unwrap());
        let salt = Hash::from_bytes([1; 32]);
        third.commit(&report, &salt).await.unwrap();
        third
            .event_where(|event| *event == NodeEvent::Reveal { audit })
            .await;
        third.reveal(&report, &salt).await.unwrap();
        let settled = third
            .event_where(|event| matches!(event, NodeEvent::Settled(record) if record.id == audit.to_string()))
            .await;
        let NodeEvent::Settled(record) = settled else {
            panic!("settled")
        };
        let found: Vec<_> = record
            .references
            .iter()
            .map(|found| (found.reference.clone(), found.finding))
            .collect();
        assert_eq!(found, [(third.id.short(), ReferenceFinding::Clean)]);
        assert_eq!(
            (record.kind, record.verdict),
            (WorkKind::Audit, VerdictStatus::Verified)
        );
        assert_eq!(third.history().await, std::slice::from_ref(&record));
        assert_eq!(third.points().await.pending, record.points);
        break;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_mid_job_loses_nothing_and_pays_once() {
    let mut network = Network::start(patient()).await;
    let mut worker = SimNode::worker(&network, 1).await;
    let answer = network.stream(&json!({}));
    let mut work = worker.take().await;
    worker.write(&mut work, 40).await.unwrap();
    network.kill();
    let answer = answer.await.unwrap();
    assert!(
        !answer.done,
        "the client sees that the answer is not complete"
    );
    network.revive().await;
    let job = work.spec.job;
    // The node's session is gone: it opens a new one and sends what was not acknowledged for sure.
    let again = SimNode::worker(&network, 1).await;
    let batch = infera_protocol::OutputBatch {
        position: 0,
        tokens: work
            .tokens
            .iter()
            .map(|id| infera_protocol::TokenOutput {
                id: *id,
                logprob: None,
                alternatives: vec![],
            })
            .collect(),
        ..work.batch(0)
    };
    let ack = again.output(job, &batch).await.unwrap();
    assert_eq!((ack.received, ack.chunks), (40, 1));
    assert!(
        ack.cancel,
        "the client's connection ended with the balancer"
    );
    let last = work.cancelled_batch(&again.key);
    assert!(again.output(job, &last).await.unwrap().finished);
    network.references().await;
    let receipt = network.settled(&job.to_string()).await;
    assert_eq!(receipt["verdict"], "verified");
    assert_eq!(receipt["attempts"][0]["paid_tokens"], 40);
    let cost = work.spec.task.input.len() as i64 * 3 + 400;
    let balances = network.balances().await;
    assert_eq!((balances["client:ann"], balances["escrow"]), (-cost, 0));
    assert!(
        again.output(job, &last).await.unwrap().finished,
        "a repeated end is harmless"
    );
    assert_eq!(network.balances().await, balances);
    assert_eq!(again.points().await.confirmed, cost * 80 / 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_a_model_that_cannot_be_used_any_more_are_given_back() {
    let mut network = Network::start(patient()).await;
    let mut worker = SimNode::worker(&network, 1).await;
    let answer = network.chat(&json!({}));
    let mut checked = worker.take().await;
    worker.write_all(&mut checked).await.unwrap();
    answer.await.unwrap();
    worker.tell(1, None).await;
    let answer = network.stream(&json!({}));
    let mut open = worker.take().await;
    worker.write(&mut open, 40).await.unwrap();
    assert_ne!(network.balances().await["escrow"], 0);
    network.kill();
    drop(answer.await);
    // As if a new version of the program read its head otherwise.
    network.spoil_model_heads().await;
    network.revive().await;
    for job in [checked.spec.job, open.spec.job] {
        let receipt = network.settled(&job.to_string()).await;
        assert_eq!(receipt["verdict"], "sampled_out");
        let reason = receipt["reason"].as_str().unwrap();
        assert!(reason.contains("cannot use the model"), "{reason}");
        assert_eq!(receipt["cost"], 0);
        assert_eq!(receipt["attempts"][0]["share"], 0);
    }
    let balances = network.balances().await;
    for account in ["client:ann", "escrow"] {
        assert_eq!(balances[account], 0, "{account}");
    }
    assert_eq!(balances[&format!("node:{}:pending", worker.id)], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_after_a_restart_still_holds_its_job() {
    let mut network = Network::start(patient()).await;
    let mut worker = SimNode::worker(&network, 1).await;
    let answer = network.stream(&json!({}));
    let mut work = worker.take().await;
    network.kill();
    answer.abort();
    // Shorter than it takes a node to open a session.
    network.config.lease = Duration::from_micros(1);
    network.revive().await;
    let again = SimNode::worker(&network, 1).await;
    let ack = again.write(&mut work, 40).await.unwrap();
    assert_eq!((ack.received, ack.chunks), (40, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_before_a_node_has_begun_costs_nothing() {
    let mut network = Network::start(patient()).await;
    let mut worker = SimNode::worker(&network, 1).await;
    let answer = network.stream(&json!({}));
    let offer = worker.offer().await;
    network.kill();
    answer.abort();
    network.revive().await;
    let receipt = network.settled(&offer.job.to_string()).await;
    assert_eq!(
        (&receipt["cost"], &receipt["finish_reason"]),
        (&json!(0), &json!("cancelled"))
    );
    let again = SimNode::worker(&network, 1).await;
    assert!(again.claim(&offer).await.is_err());
    assert_eq!(network.balances().await["client:ann"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_between_commitment_and_report_goes_on() {
    let mut network = Network::start(patient()).await;
    let mut one = SimNode::reference(&network, 201).await;
    SimNode::worker(&network, 1)
        .await
        .spawn_worker(Work::honest);
    let (_, answer) = network.chat(&json!({})).await.unwrap();
    let job = answer["infera"]["job_id"].as_str().unwrap();
    let event = one
        .event_where(|event| matches!(event, NodeEvent::Audit { .. }))
        .await;
    let NodeEvent::Audit { audit, .. } = event else {
        panic!("an audit")
    };
    let report = honest_report(&one.accept(audit).await.unwrap());
    let salt = Hash::from_bytes([1; 32]);
    one.commit(&report, &salt).await.unwrap();
    network.kill();
    network.revive().await;
    let mut one = SimNode::reference(&network, 201).await;
    SimNode::reference(&network, 202).await.spawn_reference();
    one.event_where(|event| *event == NodeEvent::Reveal { audit })
        .await;
    one.reveal(&report, &salt).await.unwrap();
    let receipt = network.settled(job).await;
    assert_eq!(receipt["verdict"], "verified");
    assert_eq!(network.balances().await["escrow"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_at_once_end_with_balanced_books() {
    let network = Network::start(Config {
        queue: Duration::from_secs(20),
        ..patient()
    })
    .await;
    network.references().await;
    for number in 1..=4 {
        SimNode::worker(&network, number)
            .await
            .spawn_worker(Work::honest);
    }
    let answers: Vec<_> = (0..24)
        .map(|index| network.chat(&json!({"infera": {"wait": index % 2 == 0}})))
        .collect();
    for answer in answers {
        let (status, body) = answer.await.unwrap();
        assert_eq!(status, 200, "{body}");
        network
            .settled(body["infera"]["job_id"].as_str().unwrap())
            .await;
    }
    let balances = network.balances().await;
    assert_eq!(balances["escrow"], 0);
    assert!(
        balances
            .iter()
            .all(|(account, balance)| !account.ends_with(":pending") || *balance == 0)
    );
}
