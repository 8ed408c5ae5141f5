//! What nodes send wrong, and what they get: a code, and nothing has changed.

use infera_balancer::{add_model, remove_model};
use infera_protocol::node_api::{
    ChallengeRequest, Claim, ModelOffer, NodeEvent, Refusal, RefusalCode, Session,
};
use infera_protocol::requirements::Hardware;
use infera_protocol::{
    AuditId, FinishReason, Hash, JobId, JobSeed, NodeKey, OutputBatch, Profile, Sampling,
    Signature, Task, TokenOutput, VERSION, Writing,
};
use infera_testing::{
    MODEL, Network, PRICE, SimNode, Work, answer, challenge, code, hardware, hasty, head,
    honest_report, key, open_session, patient, session_request, writing,
};
use serde_json::json;

fn tokens(ids: &[u32]) -> Vec<TokenOutput> {
    ids.iter()
        .map(|id| TokenOutput {
            id: *id,
            logprob: None,
            alternatives: Vec::new(),
        })
        .collect()
}

fn signed_by_another(digest: Hash) -> Signature {
    key(77).sign(digest)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_version_is_refused_by_name() {
    let network = Network::start(patient()).await;
    let body = ChallengeRequest {
        version: 9,
        node: key(1).id(),
    };
    let request = network
        .http
        .post(format!("{}/node/v1/challenge", network.base))
        .json(&body);
    let refusal = answer::<Session>(request).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::UnknownVersion);
    assert!(
        refusal.message.contains('9') && refusal.message.contains(&VERSION.to_string()),
        "{refusal}"
    );
    // Also when the rest of the message has changed since.
    let body = json!({"version": 9, "who": "me"});
    let request = network
        .http
        .post(format!("{}/node/v1/session", network.base))
        .json(&body);
    assert_eq!(
        code(answer::<Session>(request).await),
        RefusalCode::UnknownVersion
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_need_a_fresh_challenge_and_the_nodes_own_key() {
    let network = Network::start(patient()).await;
    let (http, base) = (&network.http, network.base.as_str());
    let open = async |request| {
        answer::<Session>(http.post(format!("{base}/node/v1/session")).json(&request)).await
    };
    let made_up = session_request(&key(1), Hash::from_bytes([5; 32]), hardware());
    assert_eq!(code(open(made_up).await), RefusalCode::BadChallenge);
    let given = challenge(http, base, key(2).id()).await.unwrap().challenge;
    assert_eq!(
        code(open(session_request(&key(1), given, hardware())).await),
        RefusalCode::BadChallenge,
        "another node's challenge"
    );
    let given = challenge(http, base, key(1).id()).await.unwrap().challenge;
    let mut forged = session_request(&key(1), given, hardware());
    forged.signature = signed_by_another(given);
    assert_eq!(code(open(forged).await), RefusalCode::BadSignature);
    let given = challenge(http, base, key(1).id()).await.unwrap().challenge;
    let request = session_request(&key(1), given, hardware());
    open(request.clone()).await.unwrap();
    assert_eq!(
        code(open(request).await),
        RefusalCode::BadChallenge,
        "used before"
    );
    let body = json!({"nonsense": true});
    let request = http.post(format!("{base}/node/v1/challenge")).json(&body);
    assert_eq!(
        code(answer::<Session>(request).await),
        RefusalCode::Malformed
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_session_ends_the_earlier_one() {
    let network = Network::start(patient()).await;
    let earlier = SimNode::worker(&network, 1).await;
    let later = SimNode::worker(&network, 1).await;
    assert_eq!(
        code(earlier.get::<serde_json::Value>("/node/v1/points").await),
        RefusalCode::NoSession
    );
    later.points().await;
    let request = network.http.get(format!("{}/node/v1/models", network.base));
    assert_eq!(
        code(answer::<serde_json::Value>(request).await),
        RefusalCode::NoSession
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_that_are_wrong_change_nothing() {
    let network = Network::start(patient()).await;
    let mut worker = SimNode::worker(&network, 1).await;
    let answer = network.chat(&json!({}));
    let offer = worker.offer().await;
    let good = worker.claim_of(&offer);
    let job = offer.job;
    let claim = async |claim: Claim| code(worker.send_claim(job, &claim).await);
    let forged = Claim {
        signature: signed_by_another(Hash::from_bytes([1; 32])),
        ..good.clone()
    };
    assert_eq!(claim(forged).await, RefusalCode::BadSignature);
    let changed = Claim {
        nonce: Hash::from_bytes([2; 32]),
        ..good.clone()
    };
    assert_eq!(claim(changed).await, RefusalCode::BadSignature);
    let old = Claim {
        version: VERSION + 1,
        ..good.clone()
    };
    assert_eq!(claim(old).await, RefusalCode::UnknownVersion);
    let unknown = worker.send_claim(JobId::from_bytes([1; 16]), &good).await;
    assert_eq!(code(unknown), RefusalCode::UnknownJob);
    let mut next = offer.clone();
    next.attempt = 2;
    assert_eq!(claim(worker.claim_of(&next)).await, RefusalCode::Taken);
    let other = SimNode::join(&network, 2, 0, hardware()).await;
    assert_eq!(
        code(other.claim(&offer).await),
        RefusalCode::NotEligible,
        "not offered to it"
    );
    worker.tell(1, Some("by the user")).await;
    assert_eq!(
        code(worker.claim(&offer).await),
        RefusalCode::NotEligible,
        "paused"
    );
    worker.tell(1, None).await;
    let mut work = Work::honest(worker.send_claim(job, &good).await.unwrap());
    assert_eq!(claim(good.clone()).await, RefusalCode::Replayed);
    // A lost answer is asked for again with a fresh nonce.
    assert_eq!(worker.claim(&offer).await.unwrap(), work.spec);
    assert_eq!(code(other.claim(&offer).await), RefusalCode::Taken);
    worker.write_all(&mut work).await.unwrap();
    assert_eq!(answer.await.unwrap().0, 200);
    assert_eq!(claim(good).await, RefusalCode::Replayed);
    assert_eq!(code(other.claim(&offer).await), RefusalCode::Taken);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_claims_at_once_one_wins_and_the_rest_hear_of_it() {
    let network = Network::start(patient()).await;
    let mut nodes = Vec::new();
    for number in 1..=6 {
        nodes.push(SimNode::worker(&network, number).await);
    }
    let answer = network.chat(&json!({}));
    let mut offers = Vec::new();
    for node in &mut nodes {
        offers.push(node.offer().await);
    }
    let claims = nodes
        .iter()
        .zip(&offers)
        .map(|(node, offer)| node.claim(offer));
    let outcomes = futures_util::future::join_all(claims).await;
    let won: Vec<_> = (0..nodes.len())
        .filter(|index| outcomes[*index].is_ok())
        .collect();
    assert_eq!(won.len(), 1);
    for (node, outcome) in nodes.iter_mut().zip(outcomes) {
        match outcome {
            Ok(spec) => {
                let mut work = Work::honest(spec);
                node.write_all(&mut work).await.unwrap();
            }
            Err(refusal) => {
                assert_eq!(refusal.code, RefusalCode::Taken);
                node.event_where(|event| matches!(event, NodeEvent::Withdrawn { .. }))
                    .await;
            }
        }
    }
    assert_eq!(answer.await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_is_wrong_changes_nothing() {
    let network = Network::start(patient()).await;
    let mut worker = SimNode::worker(&network, 1).await;
    let other = SimNode::join(&network, 2, 0, hardware()).await;
    let answer = network.stream(&json!({}));
    let mut work = worker.take().await;
    let job = work.spec.job;
    let first = work.batch(40);
    worker.output(job, &first).await.unwrap();
    let send = async |batch: OutputBatch| worker.output(job, &batch).await;
    let at = |position: u32, ids: &[u32]| OutputBatch {
        position,
        tokens: tokens(ids),
        commits: Vec::new(),
        ..first.clone()
    };
    let refused = [
        (at(41, &[50]), RefusalCode::OutOfOrder),
        (at(39, &[1]), RefusalCode::OutOfOrder),
        (at(40, &[640]), RefusalCode::BadOutput),
        (at(40, &[u32::MAX]), RefusalCode::BadOutput),
        (at(40, &vec![50; 200]), RefusalCode::BadOutput),
        (
            OutputBatch {
                version: VERSION + 1,
                ..at(40, &[])
            },
            RefusalCode::UnknownVersion,
        ),
        (
            OutputBatch {
                attempt: 2,
                ..at(40, &[])
            },
            RefusalCode::NotYours,
        ),
    ];
    for (batch, expected) in refused {
        assert_eq!(code(send(batch.clone()).await), expected, "{batch:?}");
    }
    let mut wrong = first.clone();
    wrong.commits[0].head = Hash::from_bytes([1; 32]);
    assert_eq!(code(send(wrong.clone()).await), RefusalCode::BadCommitment);
    wrong.commits[0].index = 2;
    assert_eq!(code(send(wrong).await), RefusalCode::OutOfOrder);
    assert_eq!(
        code(other.output(job, &at(40, &[50])).await),
        RefusalCode::NotYours
    );
    let unknown = worker
        .output(JobId::from_bytes([1; 16]), &at(40, &[50]))
        .await;
    assert_eq!(code(unknown), RefusalCode::UnknownJob);
    let path = format!("/node/v1/jobs/{job}/output");
    let nonsense: Result<(), Refusal> = worker.post(&path, &json!({"x": 1})).await;
    assert_eq!(code(nonsense), RefusalCode::Malformed);
    // A repeated batch is harmless, and an empty one asks where to go on.
    let ack = send(first.clone()).await.unwrap();
    assert_eq!((ack.received, ack.chunks), (40, 1));
    assert_eq!(send(at(0, &[])).await.unwrap(), ack);

    for (reason, expected) in [
        (FinishReason::Length, RefusalCode::BadOutput),
        (FinishReason::Stop, RefusalCode::BadOutput),
        (FinishReason::EndOfText, RefusalCode::BadOutput),
        (FinishReason::Cancelled, RefusalCode::BadOutput),
    ] {
        let mut chain = work.chain.clone();
        chain.close_last();
        let finish =
            infera_protocol::Finish::sign(&worker.key, job, 1, reason, 40, chain.head(), (0, 0));
        let batch = OutputBatch {
            finish: Some(finish),
            ..at(40, &[])
        };
        assert_eq!(code(send(batch).await), expected, "{reason:?}");
    }
    let last = work.last_batch(&worker.key);
    let finish = last.finish.clone().unwrap();
    let with = |finish| OutputBatch {
        finish: Some(finish),
        ..last.clone()
    };
    let mut head = finish.clone();
    head.head = Hash::from_bytes([4; 32]);
    assert_eq!(code(send(with(head)).await), RefusalCode::BadCommitment);
    let mut end = finish.clone();
    end.end = 70;
    assert_eq!(code(send(with(end)).await), RefusalCode::BadOutput);
    let mut forged = finish.clone();
    forged.signature = signed_by_another(finish.head);
    assert_eq!(code(send(with(forged)).await), RefusalCode::BadSignature);
    assert!(send(last.clone()).await.unwrap().finished);
    assert!(
        send(last.clone()).await.unwrap().finished,
        "a repeated end is harmless"
    );
    let answer = answer.await.unwrap();
    assert!(answer.done);
    assert_eq!(answer.text.len(), 70);
    assert_eq!(code(send(at(71, &[50])).await), RefusalCode::LeaseEnded);
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_log_probabilities_are_refused() {
    let network = Network::start(patient()).await;
    let mut worker = SimNode::worker(&network, 1).await;
    let answer = network.chat(&json!({"logprobs": true}));
    let mut work = worker.take().await;
    let mut batch = work.batch(4);
    let complete = batch.clone();
    batch.tokens[2].logprob = None;
    assert_eq!(
        code(worker.output(work.spec.job, &batch).await),
        RefusalCode::BadOutput
    );
    worker.output(work.spec.job, &complete).await.unwrap();
    worker.write_all(&mut work).await.unwrap();
    assert_eq!(answer.await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_lease_another_node_goes_on_and_the_client_sees_one_answer() {
    let network = Network::start(hasty()).await;
    network.references().await;
    let mut first = SimNode::worker(&network, 1).await;
    let answer = network.stream(&json!({"infera": {"wait": true}}));
    let mut work = first.take().await;
    first.write(&mut work, 45).await.unwrap();
    let mut second = SimNode::worker(&network, 2).await;
    let mut rest = second.take().await;
    assert_eq!((rest.spec.attempt, rest.spec.output.len()), (2, 45));
    assert_eq!(writing(&rest.spec).seed, writing(&work.spec).seed);
    let late = first.write(&mut work, 5).await;
    assert_eq!(code(late), RefusalCode::LeaseEnded);
    assert_eq!(
        code(first.release(&work.spec).await),
        RefusalCode::LeaseEnded
    );
    second.write(&mut rest, 3).await.unwrap();
    let before_start = OutputBatch {
        position: 44,
        ..rest.batch(0)
    };
    assert_eq!(
        code(second.output(rest.spec.job, &before_start).await),
        RefusalCode::OutOfOrder
    );
    second.write_all(&mut rest).await.unwrap();
    let answer = answer.await.unwrap();
    let whole = infera_testing::sim_answer(&writing(&work.spec).seed);
    let text = infera_testing::head()
        .tokenizer()
        .decode(&work.spec.task.input, &whole);
    assert_eq!(answer.text, text, "one unbroken answer");
    assert_eq!(
        answer.chunks.last().unwrap()["infera"]["verdict"],
        "verified"
    );
    let receipt = network.settled(&work.spec.job.to_string()).await;
    let attempts = receipt["attempts"].as_array().unwrap();
    assert_eq!(attempts[0]["ended"], "lease_ended");
    assert_eq!(attempts[0]["paid_tokens"], 32, "closed chunks only");
    assert_eq!(attempts[1]["paid_tokens"], 26);
    let prompt = work.spec.task.input.len() as i64 * 3;
    assert_eq!(first.points().await.confirmed, (prompt + 320) * 80 / 100);
    assert_eq!(second.points().await.confirmed, 260 * 80 / 100);
    let balances = network.balances().await;
    assert_eq!(balances["client:ann"], -(prompt + 710));
    assert_eq!(balances["escrow"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_job_goes_on_at_once() {
    let network = Network::start(patient()).await;
    let mut first = SimNode::worker(&network, 1).await;
    let answer = network.stream(&json!({}));
    let mut work = first.take().await;
    first.write(&mut work, 10).await.unwrap();
    let mut second = SimNode::worker(&network, 2).await;
    first.release(&work.spec).await.unwrap();
    let mut rest = second.take().await;
    assert_eq!(rest.spec.output, work.tokens);
    assert_eq!(
        code(first.release(&work.spec).await),
        RefusalCode::LeaseEnded
    );
    second.write_all(&mut rest).await.unwrap();
    assert_eq!(answer.await.unwrap().text.len(), 70);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_resume_where_they_stopped() {
    let network = Network::start(patient()).await;
    let mut worker = SimNode::worker(&network, 1).await;
    let first = network.chat(&json!({}));
    let (seen, event) = worker.events.recv().await.unwrap();
    let NodeEvent::Offer(offer) = event else {
        panic!("an offer, not {event:?}")
    };
    let mut work = Work::honest(worker.claim(&offer).await.unwrap());
    worker.stream.abort();
    worker.write_all(&mut work).await.unwrap();
    assert_eq!(first.await.unwrap().0, 200);
    worker.tell(1, None).await;
    worker.resume(seen).await;
    let second = network.chat(&json!({}));
    let mut work = worker.take().await;
    worker.write_all(&mut work).await.unwrap();
    assert_eq!(second.await.unwrap().0, 200);
    worker.resume(Some(3)).await;
    assert_eq!(worker.event().await, NodeEvent::Reset);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_meet_the_requirements_gets_no_jobs() {
    let network = Network::start(patient()).await;
    let weak = Hardware {
        ram_bytes: Some(1 << 30),
        ..hardware()
    };
    let session = open_session(&network.http, &network.base, &key(1), weak)
        .await
        .unwrap();
    let row = &session.requirements[0];
    assert_eq!(row.mark, infera_protocol::requirements::Mark::Fail);
    assert!(row.remedy().is_some());
    assert_eq!(network.chat(&json!({})).await.unwrap().0, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_speed_test_is_as_long_as_asked_and_capped() {
    let network = Network::start(patient()).await;
    let worker = SimNode::worker(&network, 1).await;
    let fetch = async |query: &str| {
        let request = network
            .http
            .get(format!("{}/node/v1/speed-test?{query}", network.base));
        let response = request
            .bearer_auth(&worker.session.token)
            .send()
            .await
            .unwrap();
        (
            response.status().as_u16(),
            response.content_length(),
            response,
        )
    };
    let (status, length, response) = fetch("bytes=3000000").await;
    assert_eq!((status, length), (200, Some(3_000_000)));
    assert_eq!(response.bytes().await.unwrap().len(), 3_000_000);
    assert_eq!(fetch("bytes=99999999999").await.1, Some(64 << 20));
    assert_eq!(fetch("bytes=x").await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_steps_out_of_order_are_refused() {
    let network = Network::start(hasty()).await;
    let mut one = SimNode::reference(&network, 201).await;
    let mut two = SimNode::reference(&network, 202).await;
    SimNode::worker(&network, 1)
        .await
        .spawn_worker(Work::honest);
    let (_, answer) = network.chat(&json!({})).await.unwrap();
    let audit_of = async |node: &mut SimNode| {
        let event = node
            .event_where(|event| matches!(event, NodeEvent::Audit { .. }))
            .await;
        let NodeEvent::Audit { audit, .. } = event else {
            panic!("an audit")
        };
        audit
    };
    let (first, second) = (audit_of(&mut one).await, audit_of(&mut two).await);
    let salt = Hash::from_bytes([8; 32]);
    let stranger = one.accept(second).await;
    assert_eq!(
        code(stranger),
        RefusalCode::UnknownAudit,
        "another node's audit"
    );
    assert_eq!(
        code(one.accept(AuditId::from_bytes([0; 16])).await),
        RefusalCode::UnknownAudit
    );
    let seed = JobSeed::from_bytes([0; 32]);
    let writing = Writing::new(Sampling::GREEDY, 1, seed);
    let mut early = infera_testing::honest_report(&infera_protocol::AuditSpec {
        version: VERSION,
        audit: first,
        task: Task::write(infera_testing::model_id(), vec![1], writing),
        output: vec![],
        deadline_ms: 1,
    });
    assert_eq!(
        code(one.commit(&early, &salt).await),
        RefusalCode::WrongStep
    );
    let task = one.accept(first).await.unwrap();
    assert_eq!(
        one.accept(first).await.unwrap(),
        task,
        "asking again is harmless"
    );
    let report = honest_report(&task);
    assert_eq!(
        code(one.reveal(&report, &salt).await),
        RefusalCode::WrongStep
    );
    one.key = NodeKey::from_secret(&[3; 32]);
    assert_eq!(
        code(one.commit(&report, &salt).await),
        RefusalCode::BadSignature
    );
    one.key = key(201);
    one.commit(&report, &salt).await.unwrap();
    one.commit(&report, &salt).await.unwrap();
    assert_eq!(
        code(one.reveal(&report, &salt).await),
        RefusalCode::WrongStep,
        "not asked yet"
    );
    let task = two.accept(second).await.unwrap();
    let other = honest_report(&task);
    let mut malformed = other.clone();
    malformed.positions -= 1;
    two.commit(&malformed, &salt).await.unwrap();
    one.event_where(|event| *event == NodeEvent::Reveal { audit: first })
        .await;
    early.positions = 3;
    assert_eq!(
        code(one.reveal(&early, &salt).await),
        RefusalCode::BadCommitment
    );
    assert_eq!(
        code(one.reveal(&report, &Hash::from_bytes([9; 32])).await),
        RefusalCode::BadCommitment
    );
    one.reveal(&report, &salt).await.unwrap();
    one.reveal(&report, &salt).await.unwrap();
    assert_eq!(
        code(two.reveal(&malformed, &salt).await),
        RefusalCode::Malformed
    );
    // The malformed report's node is given up, and a third one decides.
    SimNode::reference(&network, 203).await.spawn_reference();
    let receipt = network
        .settled(answer["infera"]["job_id"].as_str().unwrap())
        .await;
    assert_eq!(receipt["verdict"], "verified");
    let steps: Vec<_> = receipt["references"]
        .as_array()
        .unwrap()
        .iter()
        .map(|reference| reference["step"].as_str().unwrap())
        .collect();
    assert!(steps.contains(&"expired"), "{steps:?}");
    one.reveal(&report, &salt).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_told_of_a_model_the_moment_it_is_added() {
    let network = Network::start(patient()).await;
    let node = SimNode::worker(&network, 1).await;
    let served = async || {
        let request = network
            .http
            .get(format!("{}/node/v1/models", network.base))
            .bearer_auth(&node.session.token);
        answer::<Vec<ModelOffer>>(request).await.unwrap()
    };
    for _ in 0..5 {
        remove_model(&network.database, MODEL, 1).await.unwrap();
        assert_eq!(served().await, []);
        add_model(&network.database, head(), Profile::P32, MODEL, PRICE, 2)
            .await
            .unwrap();
        assert_eq!(served().await.len(), 1);
    }
}
