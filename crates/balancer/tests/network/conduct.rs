//! Strangers who hold, lapse, mint and flood, beside people who do their part.

use std::collections::HashSet;
use std::time::Duration;

use infera_balancer::Config;
use infera_protocol::node_api::{NodeEvent, RefusalCode, VerdictStatus};
use infera_protocol::{FinishReason, Hash, JobId};
use infera_testing::{
    Network, SimNode, Work, code, hardware, hasty, honest_report, key, patient, until,
};
use serde_json::json;
use tokio::time::Instant;

/// A worker that has proved itself where one verified job is enough.
async fn known_worker(network: &Network, number: u8) -> SimNode {
    let mut worker = SimNode::worker(network, number).await;
    let answer = network.chat(&json!({"infera": {"wait": true}}));
    let mut work = worker.take().await;
    worker.write_all(&mut work).await.unwrap();
    let (status, answer) = answer.await.unwrap();
    assert_eq!(
        (status, &answer["infera"]["verdict"]),
        (200, &json!("verified"))
    );
    worker.tell(1, None).await;
    worker
}

/// A chat that the worker answers, and is free again.
async fn answered(network: &Network, worker: &mut SimNode) -> JobId {
    let answer = network.chat(&json!({}));
    let mut work = worker.take().await;
    worker.write_all(&mut work).await.unwrap();
    worker.tell(1, None).await;
    assert_eq!(answer.await.unwrap().0, 200);
    work.spec.job
}

/// Settings under which one verified job makes a node known, and no newcomer is tried.
fn quickly_known(config: Config) -> Config {
    Config {
        newcomer_jobs: 1,
        newcomer_share: 0.0,
        ..config
    }
}

/// What workers and references hold and may still get, and what clients were charged.
async fn incomes(network: &Network) -> (i64, i64) {
    let balances = network.balances().await;
    let sum = |prefix: &str| -> i64 {
        let of_kind = balances.iter().filter(|(name, _)| name.starts_with(prefix));
        of_kind.map(|(_, amount)| *amount).sum()
    };
    assert_eq!(balances.get("escrow").copied().unwrap_or(0), 0);
    (sum("node:"), -sum("client:"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_batch_renews_no_lease() {
    let network = Network::start(hasty()).await;
    let mut holder = SimNode::worker(&network, 1).await;
    let _answer = network.chat(&json!({}));
    let mut work = holder.take().await;
    let mut next = SimNode::worker(&network, 2).await;
    let empty = work.batch(0);
    let claimed = Instant::now();
    let refused = until("the lease to end", async || {
        holder.output(work.spec.job, &empty).await.err()
    })
    .await;
    assert_eq!(refused.code, RefusalCode::LeaseEnded);
    assert!(claimed.elapsed() < Duration::from_secs(5));
    assert_eq!(next.offer().await.job, work.spec.job);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_in_a_prompt_renews_the_lease_within_its_bound() {
    let network = Network::start(Config {
        least_prefill_per_second: 10.0,
        ..hasty()
    })
    .await;
    let mut worker = SimNode::worker(&network, 1).await;
    let _answer = network.chat(&json!({}));
    let mut work = worker.take().await;
    let prompt = work.spec.task.input.len() as u32;
    assert!(prompt >= 10, "{prompt}");
    let claimed = Instant::now();
    let mut batch = work.batch(0);
    let refused = loop {
        // A token of progress for each tenth of a second, as the least speed asks.
        tokio::time::sleep(Duration::from_millis(50)).await;
        batch.prefilled = (claimed.elapsed().as_millis() / 200) as u32;
        if let Err(refused) = worker.output(work.spec.job, &batch).await {
            break refused;
        }
    };
    assert_eq!(refused.code, RefusalCode::LeaseEnded);
    let held = claimed.elapsed();
    let bound = Duration::from_millis(500 + u64::from(prompt) * 100);
    assert!(
        held > Duration::from_millis(900),
        "{held:?}: longer than a lease"
    );
    assert!(
        held < bound + Duration::from_secs(3),
        "{held:?} of {bound:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_trickle_do_not_hold_a_job() {
    let network = Network::start(Config {
        least_tokens_per_second: 100.0,
        ..hasty()
    })
    .await;
    let mut slow = SimNode::worker(&network, 1).await;
    let _answer = network.chat(&json!({}));
    let mut work = slow.take().await;
    let refused = loop {
        if let Err(refused) = slow.write(&mut work, 1).await {
            break refused;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(refused.code, RefusalCode::LeaseEnded);
    assert!(work.tokens.len() < 40, "{}", work.tokens.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_has_a_deadline_over_all() {
    let network = Network::start(Config {
        job_deadline: Duration::from_millis(700),
        ..patient()
    })
    .await;
    network.references().await;
    let mut worker = SimNode::worker(&network, 1).await;
    let answer = network.chat(&json!({}));
    let mut work = worker.take().await;
    worker.write(&mut work, 32).await.unwrap();
    let (status, answer) = answer.await.unwrap();
    assert_eq!(
        (status, &answer["error"]["code"]),
        (503, &json!("deadline_exceeded"))
    );
    let partial = answer["infera"]["partial"].as_str().unwrap();
    assert_eq!(partial.len(), 32, "what there is, is given");
    let receipt = network.settled(&work.spec.job.to_string()).await;
    let cost = work.spec.task.input.len() as i64 * 3 + 320;
    assert_eq!(
        (&receipt["cost"], &receipt["verdict"]),
        (&json!(cost), &json!("verified"))
    );
    assert_eq!(worker.points().await.confirmed, cost * 80 / 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_strangers_who_hold_jobs_keep_nobody_from_a_known_node() {
    let network = Network::start(quickly_known(hasty())).await;
    network.references().await;
    let known = known_worker(&network, 1).await;
    let mut strangers = Vec::new();
    for number in 2..=4 {
        let mut stranger = SimNode::join(&network, number, 1000, known.hardware()).await;
        strangers.push(tokio::spawn(async move {
            let mut held = 0;
            loop {
                let offer = stranger.offer().await;
                held += usize::from(stranger.claim(&offer).await.is_ok());
                assert!(held < 10);
            }
        }));
    }
    known.spawn_worker(Work::honest);
    for _ in 0..6 {
        let (status, answer) = network.chat(&json!({})).await.unwrap();
        assert_eq!(status, 200, "{answer}");
    }
    for stranger in strangers {
        stranger.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_loses_a_job_gets_no_other_for_a_while() {
    let network = Network::start(patient()).await;
    let mut stranger = SimNode::worker(&network, 1).await;
    let first = network.chat(&json!({}));
    let work = stranger.take().await;
    stranger.release(&work.spec).await.unwrap();
    stranger.tell(1, None).await;
    let mut honest = SimNode::worker(&network, 2).await;
    let mut again = honest.take().await;
    honest.write_all(&mut again).await.unwrap();
    assert_eq!(first.await.unwrap().0, 200);
    let second = network.chat(&json!({}));
    honest.tell(1, None).await;
    let offer = honest.offer().await;
    let refused = code(stranger.claim(&offer).await);
    assert_eq!(refused, RefusalCode::NotEligible);
    let mut work = Work::honest(honest.claim(&offer).await.unwrap());
    honest.write_all(&mut work).await.unwrap();
    assert_eq!(second.await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balancer_that_stood_still_takes_no_job_from_its_node() {
    let network = Network::start(hasty()).await;
    let mut worker = SimNode::worker(&network, 1).await;
    let answer = network.chat(&json!({}));
    let mut work = worker.take().await;
    worker.write(&mut work, 8).await.unwrap();
    // Several times the lease.
    network.stand_still(Duration::from_secs(2)).await;
    worker.write_all(&mut work).await.unwrap();
    assert_eq!(answer.await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_has_one_slot_whatever_it_says() {
    let network = Network::start(patient()).await;
    let mut stranger = SimNode::join(&network, 1, 1000, infera_testing::hardware()).await;
    let _first = network.chat(&json!({}));
    let _second = network.chat(&json!({}));
    let offer = stranger.offer().await;
    let mut work = Work::honest(stranger.claim(&offer).await.unwrap());
    stranger.tell(1000, None).await;
    stranger.write_all(&mut work).await.unwrap();
    let other = stranger.offer().await;
    assert_ne!(
        other.job, offer.job,
        "the second job came when the first had ended"
    );
    stranger.claim(&other).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn claiming_and_releasing_mints_nothing() {
    let network = Network::start(Config {
        max_attempts: 2,
        ..patient()
    })
    .await;
    network.references().await;
    for round in 0..2u8 {
        let mut worker = SimNode::worker(&network, 10 + round).await;
        let answer = network.chat(&json!({}));
        let mut work = worker.take().await;
        worker.write(&mut work, 64).await.unwrap();
        let mut throwaway = SimNode::worker(&network, 20 + round).await;
        worker.release(&work.spec).await.unwrap();
        let nothing = throwaway.take().await;
        throwaway.release(&nothing.spec).await.unwrap();
        let (status, answer) = answer.await.unwrap();
        assert_eq!(
            (status, &answer["error"]["code"]),
            (503, &json!("no_node_finished"))
        );
        network.settled(&work.spec.job.to_string()).await;
    }
    let (income, charged) = incomes(&network).await;
    assert!(charged > 0, "the client got 64 tokens of each");
    assert!(income <= charged, "{income} of {charged}");
    assert!(network.balances().await["network"] >= 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_and_gets_nothing_pays_nobody() {
    let network = Network::start(Config {
        max_reruns: 0,
        ..patient()
    })
    .await;
    network.references().await;
    let mut accomplice = SimNode::worker(&network, 1).await;
    let answer = network.chat(&json!({"infera": {"wait": true}}));
    let mut work = accomplice.take().await;
    accomplice.write(&mut work, 64).await.unwrap();
    let mut cheat = SimNode::worker(&network, 2).await;
    accomplice.release(&work.spec).await.unwrap();
    let offer = cheat.offer().await;
    let mut rest = Work::cheat(cheat.claim(&offer).await.unwrap());
    cheat.write_all(&mut rest).await.unwrap();
    let (_, answer) = answer.await.unwrap();
    assert_eq!(answer["error"]["code"], "verification_failed");
    let receipt = network.settled(&work.spec.job.to_string()).await;
    assert_eq!(receipt["cost"], 0);
    assert_eq!(accomplice.points().await.confirmed, 0);
    let (income, charged) = incomes(&network).await;
    let cost = work.spec.task.input.len() as i64 * 3 + 710;
    assert_eq!(
        (income, charged),
        (2 * (cost / 10), 0),
        "references only, of the subsidy"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_network_pays_references_beyond_charges_only_up_to_its_cap() {
    let network = Network::start(Config {
        subsidy_cap: 100,
        ..patient()
    })
    .await;
    network.references().await;
    for number in 1..=3 {
        let mut cheat = SimNode::worker(&network, number).await;
        let answer = network.chat(&json!({}));
        let offer = cheat.offer().await;
        let mut work = Work::cheat(cheat.claim(&offer).await.unwrap());
        cheat.write_all(&mut work).await.unwrap();
        answer.await.unwrap();
        network.settled(&work.spec.job.to_string()).await;
        let network_balance = network.balances().await["network"];
        assert!(network_balance >= -100, "{network_balance}");
    }
    let (income, charged) = incomes(&network).await;
    assert_eq!(charged, 0);
    assert!(income <= 100, "{income}");
    let metrics = network.http.get(format!("{}/metrics", network.base));
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    assert!(
        metrics.contains("infera_subsidy_refused_micro_points_total"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_during_the_prompt_pays_for_what_was_done_of_it() {
    let network = Network::start(patient()).await;
    let mut worker = SimNode::worker(&network, 1).await;
    let answer = network.chat(&json!({}));
    let mut work = worker.take().await;
    let prompt = work.spec.task.input.len() as u32;
    let mut batch = work.batch(0);
    batch.prefilled = prompt - 1;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    worker.output(work.spec.job, &batch).await.unwrap();
    answer.abort();
    worker
        .event_where(|event| matches!(event, NodeEvent::Cancel { .. }))
        .await;
    let end = work.cancelled_batch(&worker.key);
    worker.output(work.spec.job, &end).await.unwrap();
    let receipt = network.settled(&work.spec.job.to_string()).await;
    let cost = i64::from(prompt - 1) * 3;
    assert_eq!(receipt["cost"], cost);
    assert_eq!(worker.points().await.confirmed, cost * 80 / 100);
    assert_eq!(network.balances().await["client:ann"], -cost);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_big_batch_makes_no_node_fast() {
    let network = Network::start(patient()).await;
    network.references().await;
    let mut worker = SimNode::worker(&network, 1).await;
    let answer = network.chat(&json!({}));
    let mut work = worker.take().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    worker.write_all(&mut work).await.unwrap();
    answer.await.unwrap();
    let speed: Option<f64> = sqlx_speed(&network).await;
    // 71 tokens in half a second: four times that is the most that can be made of it.
    let speed = speed.unwrap();
    assert!(speed < 71.0 / 0.5 * 4.0 + 1.0, "{speed}");
}

async fn sqlx_speed(network: &Network) -> Option<f64> {
    until("the speed to be written", async || {
        let row: Option<Option<f64>> =
            sqlx::query_scalar("SELECT tokens_per_second FROM nodes WHERE tokens_per_second > 0")
                .fetch_optional(network.database.read())
                .await
                .unwrap();
        row
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_references_are_told_at_once_and_not_waited_for() {
    let network = Network::start(patient()).await;
    SimNode::reference(&network, 201).await.spawn_reference();
    let mut worker = SimNode::worker(&network, 1).await;
    let asked = Instant::now();
    let answer = network.chat(&json!({"infera": {"wait": true}}));
    let mut work = worker.take().await;
    worker.write_all(&mut work).await.unwrap();
    let (status, answer) = answer.await.unwrap();
    assert_eq!(status, 200);
    assert!(
        asked.elapsed() < Duration::from_secs(20),
        "not the two minutes of a verdict"
    );
    assert_eq!(answer["infera"]["verdict"], "pending");
    let reason = answer["infera"]["reason"].as_str().unwrap();
    assert!(
        reason.contains("2 have to check it") && reason.contains("1 are online"),
        "{reason}"
    );
    let told = worker
        .event_where(|event| {
            matches!(event, NodeEvent::Settled(record)
                if record.verdict == VerdictStatus::Pending && record.reason == reason)
        })
        .await;
    assert!(matches!(told, NodeEvent::Settled(_)));
    SimNode::reference(&network, 202).await.spawn_reference();
    let receipt = network.settled(&work.spec.job.to_string()).await;
    assert_eq!(receipt["verdict"], "verified");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_that_waits_for_another_reference_keeps_no_place() {
    let network = Network::start(patient()).await;
    network.trust(key(201).id()).await;
    let mut reference = SimNode::join(&network, 201, 1, hardware()).await;
    let mut worker = SimNode::worker(&network, 1).await;
    for _ in 0..3 {
        answered(&network, &mut worker).await;
    }
    // It has one place, and computes for one job after the other, whose second reference is not
    // there yet. Were the place kept, two such references could wait for each other for ever.
    let mut seen = HashSet::new();
    while seen.len() < 3 {
        let NodeEvent::Audit { audit, .. } = reference.event().await else {
            continue;
        };
        let task = reference.accept(audit).await.unwrap();
        let salt = Hash::from_bytes([7; 32]);
        let report = honest_report(&task);
        reference.commit(&report, &salt).await.unwrap();
        assert!(seen.insert(audit), "each is asked for once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_references_is_bounded_and_unchecked_work_is_paid_by_policy() {
    for (unchecked_pay, charged) in [(0.0, 0), (0.5, 1)] {
        let network = Network::start(Config {
            audit_queue: 2,
            unchecked_pay,
            ..patient()
        })
        .await;
        let mut worker = SimNode::worker(&network, 1).await;
        let mut jobs: Vec<JobId> = Vec::new();
        for _ in 0..3 {
            jobs.push(answered(&network, &mut worker).await);
        }
        let receipt = network.settled(&jobs[0].to_string()).await;
        assert_eq!(receipt["verdict"], "sampled_out");
        assert!(
            receipt["reason"]
                .as_str()
                .unwrap()
                .contains("No reference nodes")
        );
        let full = receipt["prompt_tokens"].as_i64().unwrap() * 3 + 710;
        assert_eq!(receipt["cost"], full * charged / 2);
        assert_eq!(
            worker.points().await.confirmed,
            0,
            "a newcomer's record is worth nothing yet"
        );
        let open = network.get(&format!("/v1/jobs/{}", jobs[2])).await;
        assert_eq!(open["state"], "auditing", "the others still wait");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_a_limit_is_sized_to_the_nodes_that_are_here() {
    let network = Network::start(patient()).await;
    let mut worker = SimNode::worker(&network, 1).await;
    worker.tell_context(60).await;
    let answer = network.chat(&json!({"max_tokens": null}));
    let mut work = worker.take().await;
    let room = 60 - work.spec.task.input.len() as u32;
    assert_eq!(work.spec.task.most_output_tokens(), room);
    worker.write_all(&mut work).await.unwrap();
    let (status, answer) = answer.await.unwrap();
    assert_eq!(
        (status, &answer["choices"][0]["finish_reason"]),
        (200, &json!("length"))
    );
    let (status, answer) = network.chat(&json!({"max_tokens": 60})).await.unwrap();
    assert_eq!(
        (status, &answer["error"]["code"]),
        (400, &json!("context_length_exceeded"))
    );
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("60 tokens"), "{message}");
    assert_eq!(
        work.last_batch(&worker.key).finish.unwrap().reason,
        FinishReason::Length
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ring_widens_by_need_and_the_others_hear_nothing() {
    let network = Network::start(Config {
        widen_after: Duration::from_mins(1),
        ..patient()
    })
    .await;
    let mut nodes = Vec::new();
    for number in 1..=9 {
        nodes.push(SimNode::worker(&network, number).await);
    }
    let answer = network.chat(&json!({}));
    let offered = until("the offers", async || {
        let mut found = None;
        for (index, node) in nodes.iter_mut().enumerate() {
            if let Ok((_, NodeEvent::Offer(offer))) = node.events.try_recv() {
                found = Some((index, offer));
                break;
            }
        }
        found
    })
    .await;
    let (index, offer) = offered;
    let mut work = Work::honest(nodes[index].claim(&offer).await.unwrap());
    nodes[index].write_all(&mut work).await.unwrap();
    assert_eq!(answer.await.unwrap().0, 200);
    let mut heard = 1;
    for (other, node) in nodes.iter_mut().enumerate() {
        if other != index && node.events.try_recv().is_ok() {
            heard += 1;
        }
    }
    assert!(heard <= 3, "{heard} of 9 heard of it");
}
