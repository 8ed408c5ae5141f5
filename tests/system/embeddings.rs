//! Texts become vectors that are verified and paid.

use std::fs;

use infera_system_tests::{CLIENT, INPUT_PRICE, MODEL, World};
use serde::Deserialize;
use serde_json::json;
use xtask::Result;
use xtask::network::{BalancerOptions, NodeOptions, repository};

/// A text and the vector that the model's definition gives, in f64.
#[derive(Deserialize)]
struct Golden {
    ids: Vec<u32>,
    embedding: Vec<f64>,
}

#[test]
fn texts_become_vectors_that_are_verified_and_paid() -> Result<()> {
    let folder = repository().join("crates/engine/tests/golden");
    let nodes = NodeOptions::on_cpu(&folder.join("bert.gguf"));
    let world = World::with_nodes(BalancerOptions::default(), &nodes, 1, 2)?;
    let before = world.settled_ledger()?;
    let goldens: Vec<Golden> = serde_json::from_slice(&fs::read(folder.join("bert.json"))?)?;
    let texts: Vec<_> = goldens.iter().map(|golden| &golden.ids).collect();
    let tokens: usize = texts.iter().map(|text| text.len()).sum();
    let request = json!({"model": MODEL, "input": texts, "infera": {"wait": true}});
    let client = world.client();
    let answer = client.post("/v1/embeddings", &request)?.success()?;

    assert_eq!(answer["usage"]["total_tokens"], tokens, "{answer}");
    assert_eq!(answer["infera"]["verdict"], "verified", "{answer}");
    assert_eq!(answer["data"].as_array().unwrap().len(), goldens.len());
    for (index, golden) in goldens.iter().enumerate() {
        let vector: Vec<f64> = serde_json::from_value(answer["data"][index]["embedding"].clone())?;
        assert_eq!(vector.len(), golden.embedding.len());
        for (value, expected) in vector.iter().zip(&golden.embedding) {
            assert!((value - expected).abs() < 2e-6, "{value} for {expected}");
        }
    }

    let receipt = world.receipt(answer["infera"]["job_id"].as_str().unwrap())?;
    assert_eq!(receipt["output_tokens"], 0, "{receipt}");
    assert_eq!(receipt["references"].as_array().unwrap().len(), 2);
    let moved = world.settled_ledger()?.since(&before);
    let cost = tokens as i64 * INPUT_PRICE;
    let confirmed = |id: &str| moved.balance(&format!("node:{id}:confirmed"));
    assert_eq!(moved.balance(&format!("client:{CLIENT}")), -cost);
    assert_eq!(confirmed(&world.workers[0].id), cost * 80 / 100);
    for reference in &world.references {
        let held = moved.balance(&format!("node:{}:held", reference.id));
        assert_eq!(held, cost / 10);
    }
    Ok(())
}

#[test]
fn words_are_tokenised_and_a_chat_is_refused() -> Result<()> {
    let folder = repository().join("crates/engine/tests/golden");
    let nodes = NodeOptions::on_cpu(&folder.join("bert.gguf"));
    let world = World::with_nodes(BalancerOptions::default(), &nodes, 1, 2)?;
    let client = world.client();
    let embed = |input| client.post("/v1/embeddings", &json!({"model": MODEL, "input": input}));
    let words = embed(json!("t5 t6 t95"))?.success()?;
    let ids = embed(json!([5, 6, 95]))?.success()?;
    assert_eq!(words["data"], ids["data"]);
    let chat = json!({"model": MODEL, "messages": [{"role": "user", "content": "t5"}]});
    let refused = client.post("/v1/chat/completions", &chat)?;
    assert_eq!(refused.status, 400, "{}", refused.text);
    world.settled_ledger()?;
    Ok(())
}
