//! Measures a balancer with simulated nodes: `simulated_nodes [NODES] [JOBS] [AT_ONCE]`.
//!
//! Every job is a chat request over HTTP, claimed, answered in 71 tokens with signed commitments,
//! and checked by two of four reference nodes. Prints one line of JSON.

use std::io::Write;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use infera_balancer::{Config, Edges};
use infera_protocol::NodeKey;
use infera_testing::{Network, SimNode, Work, hardware, key};
use serde_json::json;

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse().ok());
    let mut next = |default: usize| arguments.next().flatten().unwrap_or(default);
    let (nodes, jobs, at_once) = (next(100), next(1000), next(200));
    let runtime = tokio::runtime::Runtime::new()?;
    let measured = runtime.block_on(measure(nodes, jobs, at_once));
    writeln!(std::io::stdout(), "{measured}")
}

async fn measure(nodes: usize, jobs: usize, at_once: usize) -> serde_json::Value {
    let network = Network::start(Config {
        queue: Duration::from_mins(10),
        jobs_per_key: at_once,
        // What an identity costs is paid once and no part of a job.
        work_bits: 0,
        ..Config::default()
    })
    .await;
    for number in 201..=204 {
        network.trust(key(number).id()).await;
        SimNode::join(&network, number, 64, hardware())
            .await
            .spawn_reference();
    }
    let edges = Edges::system();
    for _ in 0..nodes {
        let key = NodeKey::from_secret(&edges.random());
        SimNode::join_as(&network.base, key, 1, hardware())
            .await
            .spawn_worker(Work::honest);
    }
    let begun = Instant::now();
    let mut answers: Vec<(Duration, String)> = stream::iter(0..jobs)
        .map(|_| async {
            let asked = Instant::now();
            let (status, body) = network.chat(&json!({})).await.expect("the request ends");
            assert_eq!(status, 200, "{body}");
            let job = body["infera"]["job_id"].as_str().unwrap_or_default();
            (asked.elapsed(), job.to_owned())
        })
        .buffer_unordered(at_once)
        .collect()
        .await;
    let answered = begun.elapsed();
    for (_, job) in &answers {
        let receipt = network.settled(job).await;
        assert_eq!(receipt["verdict"], "verified");
    }
    let settled = begun.elapsed();
    assert_eq!(network.balances().await["escrow"], 0);
    answers.sort();
    let percentile = |percent: usize| {
        let at = (answers.len() * percent / 100).min(answers.len().saturating_sub(1));
        answers[at].0.as_secs_f64() * 1000.0
    };
    json!({
        "nodes": nodes,
        "jobs": jobs,
        "at_once": at_once,
        "jobs_per_s": jobs as f64 / answered.as_secs_f64(),
        "settled_per_s": jobs as f64 / settled.as_secs_f64(),
        "p50_ms": percentile(50),
        "p95_ms": percentile(95),
    })
}
