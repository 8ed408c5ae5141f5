//! Texts become vectors: who may ask, who is paid, and what is refused.

use infera_protocol::node_api::{
    NodeEvent, ReferenceFinding, RefusalCode, VerdictStatus, WorkRecord,
};
use infera_protocol::vector::vectors_hash;
use infera_protocol::{
    ChunkChain, Finish, FinishReason, Hash, JobSpec, OutputBatch, Profile, Task, TokenOutput,
    Vector,
};
use infera_testing::{
    EMBEDDER, MODEL, Network, SimNode, chat_body, code, embedded, embedder, hasty, key, patient,
    sim_vector, sim_vectors, until,
};
use serde_json::{Value, json};

/// Three tokens and two, at 3 micro-points each.
const COST: i64 = 15;

async fn network() -> Network {
    let network = Network::start(patient()).await;
    network.add_embedder().await;
    network
}

/// Waits for an offer and takes it.
async fn take(node: &mut SimNode) -> JobSpec {
    let offer = node.offer().await;
    node.claim(&offer).await.unwrap()
}

/// Computes as an honest node does.
async fn deliver(node: &SimNode, spec: &JobSpec) {
    let vectors = sim_vectors(&spec.task);
    let batch = embedded(&node.key, spec, vectors);
    assert!(node.output(spec.job, &batch).await.unwrap().finished);
}

async fn settled_record(node: &mut SimNode) -> WorkRecord {
    loop {
        if let NodeEvent::Settled(record) = node.event().await
            && record.verdict != VerdictStatus::Pending
        {
            return record;
        }
    }
}

/// The vector in an answer's list of numbers.
fn vector(numbers: &Value) -> Vector {
    let numbers = numbers.as_array().unwrap().iter();
    Vector(
        numbers
            .map(|number| number.as_f64().unwrap() as f32)
            .collect(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_are_answered_verified_and_paid_for_their_input() {
    let network = network().await;
    let references = network.references().await;
    let mut worker = SimNode::worker(&network, 1).await;
    let answer = network.embed(&json!({}));
    let offer = worker.offer().await;
    assert_eq!(
        (offer.prompt_tokens, offer.max_tokens, offer.price.output),
        (5, 0, 0)
    );
    let spec = worker.claim(&offer).await.unwrap();
    assert_eq!(
        spec.task,
        Task::embed(spec.task.model, &[vec![1, 2, 3], vec![4, 5]])
    );
    deliver(&worker, &spec).await;
    let (status, answer) = answer.await.unwrap();
    assert_eq!(status, 200, "{answer}");
    let job = answer["infera"]["job_id"].as_str().unwrap();
    let data = answer["data"].as_array().unwrap();
    let expected = sim_vectors(&spec.task);
    assert_eq!(data.len(), 2);
    for ((index, data), expected) in (0..).zip(data).zip(&expected) {
        assert_eq!(data["object"], "embedding");
        assert_eq!(data["index"], json!(index));
        assert_eq!(vector(&data["embedding"]), *expected);
    }
    assert_eq!(
        (&answer["object"], &answer["model"]),
        (&json!("list"), &json!(EMBEDDER))
    );
    assert_eq!(
        answer["usage"],
        json!({"prompt_tokens": 5, "total_tokens": 5})
    );
    assert_eq!(job, spec.job.to_string());
    assert_eq!(answer["infera"]["verdict"], "pending");

    let receipt = network.settled(job).await;
    assert_eq!(receipt["verdict"], "verified", "{receipt}");
    assert_eq!(
        receipt["reason"],
        "2 reference nodes agree on all 2 vectors."
    );
    assert_eq!(receipt["task"]["work"], json!(spec.task.work));
    assert_eq!(
        (&receipt["prompt_tokens"], &receipt["output_tokens"]),
        (&json!(5), &json!(0))
    );
    let vectors = sim_vectors(&spec.task);
    assert_eq!(receipt["output_hash"], json!(vectors_hash(&vectors)));
    let attempt = &receipt["attempts"][0];
    let finish: Finish = serde_json::from_value(attempt["finish"].clone()).unwrap();
    assert_eq!(finish.head, vectors_hash(&vectors));
    assert_eq!(finish.verify(&worker.id, spec.job, 1), Ok(()));
    assert_eq!(finish.vectors, [], "a receipt outlives what it is for");
    for reference in receipt["references"].as_array().unwrap() {
        let figures = &reference["figures"];
        assert_eq!(
            (&figures["positions"], &figures["mismatches"]),
            (&json!(2), &json!(0))
        );
    }
    let balances = network.balances().await;
    assert_eq!((balances["client:ann"], balances["escrow"]), (-COST, 0));
    assert_eq!(worker.points().await.confirmed, COST * 80 / 100);
    for reference in &references {
        assert_eq!(balances[&format!("node:{reference}:held")], COST / 10);
    }
    let record = settled_record(&mut worker).await;
    assert_eq!((record.input_tokens, record.output_tokens), (5, 0));
    assert_eq!(record.verdict, VerdictStatus::Verified);
    assert!(
        record
            .references
            .iter()
            .all(|found| (found.finding, found.positions) == (ReferenceFinding::Clean, 2))
    );
    assert_eq!(worker.history().await, [record]);
    network.text_deleted(job).await;
    let kept: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM jobs, audits WHERE jobs.output IS NOT NULL OR report IS NOT NULL",
    )
    .fetch_one(network.database.read())
    .await
    .unwrap();
    assert_eq!(kept, 0, "vectors tell of their texts, so they go too");
}

#[tokio::test(flavor = "multi_thread")]
async fn base64_token_ids_and_kept_vectors() {
    let network = network().await;
    network.references().await;
    let mut worker = SimNode::worker(&network, 1).await;
    let extra = json!({
        "input": [[1, 2, 3], [95]], "encoding_format": "base64",
        "infera": {"wait": true, "keep": true},
    });
    let answer = network.embed(&extra);
    let spec = take(&mut worker).await;
    assert_eq!(
        spec.task,
        Task::embed(spec.task.model, &[vec![1, 2, 3], vec![95]])
    );
    deliver(&worker, &spec).await;
    let (status, answer) = answer.await.unwrap();
    assert_eq!(
        (status, &answer["infera"]["verdict"]),
        (200, &json!("verified"))
    );
    let vectors = [sim_vector(&[1, 2, 3]), sim_vector(&[95])];
    for (data, vector) in answer["data"].as_array().unwrap().iter().zip(&vectors) {
        assert_eq!(data["embedding"], vector.to_base64());
    }
    let job = network.get(&format!("/v1/jobs/{}", spec.job)).await;
    let kept = job["embeddings"].as_array().unwrap();
    assert_eq!(kept.iter().map(vector).collect::<Vec<_>>(), vectors);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_models_vectors_fail_and_a_waiting_client_gets_honest_ones() {
    let network = network().await;
    network.references().await;
    let mut cheat = SimNode::worker(&network, 1).await;
    let answer = network.embed(&json!({"infera": {"wait": true}}));
    let spec = take(&mut cheat).await;
    let mut honest = SimNode::worker(&network, 2).await;
    // One of two texts is enough.
    let vectors = vec![sim_vector(&[1, 2, 3]), sim_vector(&[5, 4])];
    let batch = embedded(&cheat.key, &spec, vectors);
    assert!(cheat.output(spec.job, &batch).await.unwrap().finished);
    let again = take(&mut honest).await;
    assert_eq!((again.attempt, again.job), (2, spec.job));
    deliver(&honest, &again).await;
    let (status, answer) = answer.await.unwrap();
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["infera"]["verdict"], "verified");
    assert_eq!(vector(&answer["data"][1]["embedding"]), sim_vector(&[4, 5]));
    let receipt = network.settled(&spec.job.to_string()).await;
    let failed = &receipt["attempts"][0];
    assert_eq!(failed["verdict"], "failed");
    assert_eq!(
        failed["reason"],
        "2 of 2 reference nodes find that this model does not give these vectors: 1 of 2 vectors \
         differ by more than rounding can explain."
    );
    let points = cheat.points().await;
    assert_eq!((points.confirmed, points.forfeited), (0, COST * 80 / 100));
    assert_eq!(honest.points().await.confirmed, COST * 80 / 100);
    let record = settled_record(&mut cheat).await;
    let found = &record.references[0];
    assert_eq!(
        (found.finding, found.mismatches),
        (ReferenceFinding::Fail, 1)
    );
    assert!(found.largest_margin > 1e5, "{found:?}");
    let balances = network.balances().await;
    assert_eq!((balances["client:ann"], balances["escrow"]), (-COST, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn rounding_passes() {
    let network = network().await;
    network.references().await;
    let mut worker = SimNode::worker(&network, 1).await;
    let answer = network.embed(&json!({"infera": {"wait": true}}));
    let spec = take(&mut worker).await;
    let mut vectors = sim_vectors(&spec.task);
    for value in &mut vectors[0].0 {
        *value = f32::from_bits(value.to_bits() + 1);
    }
    let batch = embedded(&worker.key, &spec, vectors);
    worker.output(spec.job, &batch).await.unwrap();
    let (_, answer) = answer.await.unwrap();
    assert_eq!(answer["infera"]["verdict"], "verified", "{answer}");
    assert_eq!(
        answer["infera"]["reason"],
        "2 reference nodes agree but for 1 of 2 vectors, where they differ by rounding only."
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_releases_or_dies_is_followed_by_another() {
    let network = Network::start(hasty()).await;
    network.add_embedder().await;
    let mut dead = SimNode::worker(&network, 1).await;
    let answer = network.embed(&json!({}));
    let lost = take(&mut dead).await;
    let mut tired = SimNode::worker(&network, 2).await;
    // The first one says nothing until its lease is over.
    let second = take(&mut tired).await;
    assert_eq!((second.attempt, second.job), (2, lost.job));
    let late = embedded(&dead.key, &lost, sim_vectors(&lost.task));
    assert_eq!(
        code(dead.output(lost.job, &late).await),
        RefusalCode::LeaseEnded
    );
    let mut third = SimNode::worker(&network, 3).await;
    tired.release(&second).await.unwrap();
    let spec = take(&mut third).await;
    deliver(&third, &spec).await;
    let (status, answer) = answer.await.unwrap();
    assert_eq!((status, &answer["usage"]["total_tokens"]), (200, &json!(5)));
    network.references().await;
    let receipt = network.settled(&spec.job.to_string()).await;
    assert_eq!(receipt["verdict"], "verified");
    let shares: Vec<_> = receipt["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| (attempt["ended"].clone(), attempt["share"].clone()))
        .collect();
    assert_eq!(
        shares,
        [
            (json!("lease_ended"), json!(0)),
            (json!("released"), json!(0)),
            (json!("finished"), json!(COST * 80 / 100)),
        ]
    );
    let balances = network.balances().await;
    assert_eq!((balances["client:ann"], balances["escrow"]), (-COST, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_pays_for_vectors_that_are_made_and_for_nothing_else() {
    let network = network().await;
    network.references().await;
    let mut worker = SimNode::worker(&network, 1).await;
    for made in [false, true] {
        let answer = network.embed(&json!({}));
        let spec = take(&mut worker).await;
        answer.abort();
        worker
            .event_where(|event| matches!(event, NodeEvent::Cancel { .. }))
            .await;
        if made {
            deliver(&worker, &spec).await;
        } else {
            let chain = ChunkChain::new(spec.job, 1, 0);
            let reason = FinishReason::Cancelled;
            let finish = Finish::sign(&worker.key, spec.job, 1, reason, 0, chain.head(), (0, 0));
            let batch = OutputBatch {
                finish: Some(finish),
                ..embedded(&worker.key, &spec, Vec::new())
            };
            assert!(worker.output(spec.job, &batch).await.unwrap().finished);
        }
        let receipt = network.settled(&spec.job.to_string()).await;
        let (ended, verdict, cost) = if made {
            ("embedded", "verified", COST)
        } else {
            ("cancelled", "sampled_out", 0)
        };
        assert_eq!(receipt["finish_reason"], ended);
        assert_eq!(
            (&receipt["verdict"], &receipt["cost"]),
            (&json!(verdict), &json!(cost))
        );
        let balances = network.balances().await;
        let balance = |account: &str| balances.get(account).copied().unwrap_or(0);
        assert_eq!((balance("client:ann"), balance("escrow")), (-cost, 0));
        assert_eq!(worker.points().await.confirmed, cost * 80 / 100);
        worker.tell(1, None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_is_no_embedding_changes_nothing() {
    let network = network().await;
    let mut worker = SimNode::worker(&network, 1).await;
    let answer = network.embed(&json!({}));
    let spec = take(&mut worker).await;
    let good = sim_vectors(&spec.task);
    let batch = |vectors: Vec<Vector>| embedded(&worker.key, &spec, vectors);
    let changed = |change: fn(&mut Finish)| {
        let mut batch = batch(good.clone());
        change(batch.finish.as_mut().unwrap());
        batch
    };
    let ended = |reason| {
        let head = ChunkChain::new(spec.job, 1, 0).head();
        let finish = Finish::sign(&worker.key, spec.job, 1, reason, 0, head, (0, 0));
        OutputBatch {
            finish: Some(finish),
            ..batch(Vec::new())
        }
    };
    let written = OutputBatch {
        tokens: vec![TokenOutput {
            id: 1,
            logprob: None,
            alternatives: Vec::new(),
        }],
        finish: None,
        ..batch(Vec::new())
    };
    let ahead = OutputBatch {
        position: 2,
        ..batch(good.clone())
    };
    let another = embedded(&key(9), &spec, good.clone());
    let refused = [
        (batch(Vec::new()), RefusalCode::BadOutput),
        (batch(good[..1].to_vec()), RefusalCode::BadOutput),
        (
            batch(vec![good[0].clone(), Vector(vec![1.0])]),
            RefusalCode::BadOutput,
        ),
        (
            batch(vec![good[0].clone(), Vector(vec![f32::NAN; 32])]),
            RefusalCode::BadOutput,
        ),
        (
            batch(vec![good[0].clone(), Vector(vec![0.5; 32])]),
            RefusalCode::BadOutput,
        ),
        (changed(|finish| finish.end = 1), RefusalCode::BadOutput),
        (
            changed(|finish| finish.head = Hash::from_bytes([1; 32])),
            RefusalCode::BadCommitment,
        ),
        (
            changed(|finish| finish.vectors.swap(0, 1)),
            RefusalCode::BadCommitment,
        ),
        (
            changed(|finish| finish.reason = FinishReason::Cancelled),
            RefusalCode::BadOutput,
        ),
        (another, RefusalCode::BadSignature),
        (ended(FinishReason::EndOfText), RefusalCode::BadOutput),
        (ended(FinishReason::Length), RefusalCode::BadOutput),
        (ended(FinishReason::Cancelled), RefusalCode::BadOutput),
        (written, RefusalCode::BadOutput),
        (ahead, RefusalCode::OutOfOrder),
    ];
    for (batch, expected) in refused {
        let outcome = worker.output(spec.job, &batch).await;
        assert_eq!(code(outcome), expected, "{batch:?}");
    }
    deliver(&worker, &spec).await;
    // Sent again because its answer was lost.
    deliver(&worker, &spec).await;
    assert_eq!(answer.await.unwrap().0, 200);
    // A job that writes text has no vectors.
    worker.tell(1, None).await;
    let chat = network.chat(&json!({}));
    let mut work = worker.take().await;
    let vectors = embedded(&worker.key, &work.spec, good.clone());
    assert_eq!(
        code(worker.output(work.spec.job, &vectors).await),
        RefusalCode::BadOutput
    );
    let mut last = work.last_batch(&worker.key);
    last.finish.as_mut().unwrap().vectors = good;
    assert_eq!(
        code(worker.output(work.spec.job, &last).await),
        RefusalCode::BadOutput
    );
    last.finish.as_mut().unwrap().vectors.clear();
    assert!(worker.output(work.spec.job, &last).await.unwrap().finished);
    assert_eq!(chat.await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_named_and_cost_nothing() {
    let network = network().await;
    let words = |count: usize| vec!["t7"; count].join(" ");
    let cases = [
        (
            json!({"model": MODEL}),
            json!("model_not_supported"),
            "model",
        ),
        (json!({"model": "none"}), json!("model_not_found"), "model"),
        (
            json!({"input": ["t1", words(129)]}),
            json!("context_length_exceeded"),
            "input",
        ),
        (json!({"input": vec![words(128); 65]}), json!(null), "input"),
        (json!({"input": ["t1", ""]}), json!(null), "input"),
        (json!({"input": [[1], []]}), json!(null), "input"),
        (json!({"input": [[96]]}), json!(null), "input"),
        (
            json!({"dimensions": 8}),
            json!("unsupported_parameter"),
            "dimensions",
        ),
    ];
    for (extra, code, param) in cases {
        let (status, body) = network.embed(&extra).await.unwrap();
        let error = &body["error"];
        let expected = if code == "model_not_found" { 404 } else { 400 };
        assert_eq!((status, &error["code"]), (expected, &code), "{body}");
        assert_eq!(error["type"], "invalid_request_error", "{body}");
        assert_eq!(error["param"], param, "{body}");
        assert!(error["message"].as_str().unwrap().contains(param), "{body}");
    }
    for (path, body) in [
        (
            "/v1/chat/completions",
            chat_body(&json!({"model": EMBEDDER})),
        ),
        (
            "/v1/completions",
            json!({"model": EMBEDDER, "prompt": "t1"}),
        ),
    ] {
        let response = network.post(path, &body).await;
        assert_eq!(response.status(), 400);
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["code"], "model_not_supported", "{body}");
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains("/v1/embeddings"), "{message}");
    }
    assert_eq!(network.balances().await.len(), 0, "nothing was charged");
    let model = network.get(&format!("/v1/models/{EMBEDDER}")).await;
    assert_eq!(model["infera"]["embedding_values"], 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_loses_no_vectors_and_pays_once() {
    let mut network = network().await;
    let mut worker = SimNode::worker(&network, 1).await;
    let answer = network.embed(&json!({}));
    let spec = take(&mut worker).await;
    deliver(&worker, &spec).await;
    assert_eq!(answer.await.unwrap().0, 200);
    until("the attempt's end", async || {
        let job = network.get(&format!("/v1/jobs/{}", spec.job)).await;
        (job["state"] == "auditing").then_some(())
    })
    .await;
    network.kill();
    network.revive().await;
    network.references().await;
    let receipt = network.settled(&spec.job.to_string()).await;
    assert_eq!(receipt["verdict"], "verified", "{receipt}");
    let again = SimNode::worker(&network, 1).await;
    deliver(&again, &spec).await;
    let balances = network.balances().await;
    assert_eq!((balances["client:ann"], balances["escrow"]), (-COST, 0));
    assert_eq!(again.points().await.confirmed, COST * 80 / 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_whose_vectors_have_another_shape_is_refused() {
    let network = network().await;
    let mut reference = SimNode::reference(&network, 201).await;
    SimNode::reference(&network, 202).await.spawn_reference();
    let mut worker = SimNode::worker(&network, 1).await;
    let answer = network.embed(&json!({"infera": {"wait": true}}));
    let spec = take(&mut worker).await;
    deliver(&worker, &spec).await;
    let event = reference
        .event_where(|event| matches!(event, NodeEvent::Audit { .. }))
        .await;
    let NodeEvent::Audit {
        audit,
        model,
        tokens,
        ..
    } = event
    else {
        panic!("an audit")
    };
    assert_eq!((model, tokens), (embedder().id(Profile::P32), 5));
    let check = reference.accept(audit).await.unwrap();
    assert_eq!((check.output.len(), &check.task), (0, &spec.task));
    let mut report = infera_testing::honest_report(&check);
    report.vectors.pop();
    let salt = Hash::from_bytes([1; 32]);
    reference.commit(&report, &salt).await.unwrap();
    reference
        .event_where(|event| *event == NodeEvent::Reveal { audit })
        .await;
    assert_eq!(
        code(reference.reveal(&report, &salt).await),
        RefusalCode::Malformed
    );
    answer.abort();
}
