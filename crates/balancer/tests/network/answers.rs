//! Clients get answers.

use infera_testing::{
    ANSWER_TOKENS, MODEL, Network, SimNode, Work, head, model_id, patient, sim_answer, until,
    writing,
};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_answer_is_verified_and_paid() {
    let network = Network::start(patient()).await;
    let references = network.references().await;
    let mut worker = SimNode::worker(&network, 1).await;
    let answer = network.stream(&json!({
        "stream_options": {"include_usage": true}, "infera": {"wait": true},
    }));
    let mut work = worker.take().await;
    assert_eq!(work.spec.task.model, model_id());
    while worker.write(&mut work, 5).await.unwrap().received < 60 {}
    let ack = worker.write_all(&mut work).await.unwrap();
    assert!(ack.finished);
    assert_eq!((ack.received, ack.chunks), (ANSWER_TOKENS, 3));
    let answer = answer.await.unwrap();
    assert!(answer.done);
    let ids = sim_answer(&writing(&work.spec).seed);
    assert_eq!(
        answer.text,
        head().tokenizer().decode(&work.spec.task.input, &ids)
    );
    assert_eq!(answer.finish.as_deref(), Some("stop"));
    let first = &answer.chunks[0];
    assert_eq!(first["object"], "chat.completion.chunk");
    assert_eq!(first["model"], MODEL);
    assert_eq!(first["choices"][0]["delta"]["role"], "assistant");
    let job = first["infera"]["job_id"].as_str().unwrap();
    let [usage, verdict] = &answer.chunks[answer.chunks.len() - 2..] else {
        panic!("two chunks")
    };
    let prompt = work.spec.task.input.len() as i64;
    assert_eq!(usage["usage"]["prompt_tokens"], prompt);
    assert_eq!(usage["usage"]["completion_tokens"], ANSWER_TOKENS);
    assert_eq!(verdict["infera"]["verdict"], "verified", "{verdict}");
    let receipt = network.settled(job).await;
    assert_eq!(receipt["references"].as_array().unwrap().len(), 2);
    network.text_deleted(job).await;
    let cost = prompt * 3 + i64::from(ANSWER_TOKENS) * 10;
    assert_eq!(receipt["cost"], cost);
    let balances = network.balances().await;
    assert_eq!(balances["client:ann"], -cost);
    assert_eq!(balances["escrow"], 0);
    assert_eq!(worker.points().await.confirmed, cost * 80 / 100);
    for reference in references {
        assert_eq!(balances[&format!("node:{reference}:held")], cost / 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_answer_has_openais_shape() {
    let network = Network::start(patient()).await;
    network.references().await;
    SimNode::worker(&network, 1)
        .await
        .spawn_worker(Work::honest);
    let (status, answer) = network.chat(&json!({"seed": 7})).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["choices"][0]["message"]["role"], "assistant");
    assert_eq!(
        answer["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .len(),
        70
    );
    assert_eq!(answer["infera"]["verdict"], "pending");
    let job = answer["infera"]["job_id"].as_str().unwrap();
    let verified = until("the verdict", async || {
        let job = network.get(&format!("/v1/jobs/{job}?wait_ms=2000")).await;
        (job["verdict"] == "verified").then_some(job)
    });
    assert_eq!(verified.await["finish_reason"], "end_of_text");
}
