//! A whole network on loopback with the tiny model, for one test.

#[cfg(target_os = "linux")]
pub mod browser;
#[cfg(target_os = "linux")]
pub mod chaos;
#[cfg(target_os = "linux")]
#[cfg(target_os = "linux")]
pub mod desktop;
pub mod engine;
pub mod npm;
mod slow_model;
pub mod up;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::http::{Client, Events};
use xtask::network::{
    Balancer, BalancerOptions, Binaries, Ledger, Node, NodeOptions, START_LIMIT, repository,
};
use xtask::{Result, wait};

pub use slow_model::{slow_model, slow_model_of};

pub const MODEL: &str = "tiny";
pub const CLIENT: &str = "tester";
/// Micro-points per token.
pub const INPUT_PRICE: i64 = 10;
pub const OUTPUT_PRICE: i64 = 100;

/// The model that the repository carries.
pub fn tiny_model() -> PathBuf {
    repository().join("tests/model/tiny-llama.gguf")
}

/// A balancer with workers and reference nodes. Dropping it ends every process.
pub struct World {
    // Before `data`: the processes must end before their folders go.
    pub workers: Vec<Node>,
    pub references: Vec<Node>,
    pub balancer: Balancer,
    pub binaries: Binaries,
    pub key: String,
    pub model_id: String,
    pub data: TempDir,
}

impl World {
    /// So many nodes, all on the CPU, all ready.
    pub fn start(workers: usize, references: usize) -> Result<Self> {
        Self::start_with(BalancerOptions::default(), workers, references)
    }

    /// With answers that take about a second, to be disturbed on their way.
    pub fn start_slow(options: BalancerOptions, workers: usize, references: usize) -> Result<Self> {
        let nodes = NodeOptions::on_cpu(&slow_model()?);
        Self::with_nodes(options, &nodes, workers, references)
    }

    pub fn start_with(options: BalancerOptions, workers: usize, references: usize) -> Result<Self> {
        Self::with_nodes(
            options,
            &NodeOptions::on_cpu(&tiny_model()),
            workers,
            references,
        )
    }

    /// Every node has the same options.
    pub fn with_nodes(
        options: BalancerOptions,
        node_options: &NodeOptions,
        workers: usize,
        references: usize,
    ) -> Result<Self> {
        let binaries = Binaries::find_or_build()?;
        let data = TempDir::new()?;
        let balancer = Balancer::start(&binaries, &data.path().join("balancer"), options)?;
        let model_id = balancer.add_model(
            &node_options.model,
            MODEL,
            INPUT_PRICE as u32,
            OUTPUT_PRICE as u32,
        )?;
        let key = balancer.create_key(CLIENT)?;
        balancer.wait_until_served(&key, MODEL)?;
        let mut world = Self {
            workers: Vec::new(),
            references: Vec::new(),
            balancer,
            binaries,
            key,
            model_id,
            data,
        };
        for number in 1..=references {
            let node = world.new_node(&format!("reference-{number}"), node_options.clone())?;
            world.balancer.trust(&node.id)?;
            world.references.push(node);
        }
        for number in 1..=workers {
            let node = world.new_node(&format!("worker-{number}"), node_options.clone())?;
            world.workers.push(node);
        }
        for node in world.references.iter_mut().chain(&mut world.workers) {
            node.start()?;
        }
        world.wait_until_ready()?;
        Ok(world)
    }

    /// A node with its own folder and identity, not started.
    pub fn new_node(&self, name: &str, options: NodeOptions) -> Result<Node> {
        Node::new(
            &self.binaries,
            self.data.path(),
            name,
            self.balancer.url(),
            options,
        )
    }

    /// Until every node is connected and has loaded the model.
    pub fn wait_until_ready(&self) -> Result<()> {
        for node in self.references.iter().chain(&self.workers) {
            wait::until("a node is ready", START_LIMIT, || {
                Ok(node.is_ready().then_some(()))
            })
            .map_err(|error| node.fault(&format!("is not ready: {error}")))?;
        }
        Ok(())
    }

    pub fn client(&self) -> Client {
        self.balancer.client(&self.key)
    }

    /// A chat that is not streamed: the whole answer.
    pub fn chat(&self, body: &Value) -> Result<Value> {
        self.client().post("/v1/chat/completions", body)?.success()
    }

    pub fn stream(&self, body: &Value) -> Result<Events> {
        let mut body = body.clone();
        body["stream"] = true.into();
        body["stream_options"] = json!({ "include_usage": true });
        self.client().stream("/v1/chat/completions", &body)
    }

    /// Waits until the job's verdict is final, and gives its receipt.
    pub fn receipt(&self, job: &str) -> Result<Value> {
        let client = self.client();
        let state = client
            .get(&format!("/v1/jobs/{job}?wait_ms=60000"))?
            .success()?;
        if state["verdict"] == "pending" {
            return Err(format!("the verdict is still pending after a minute: {state}").into());
        }
        client.get(&format!("/v1/jobs/{job}/receipt"))?.success()
    }

    /// Waits until all held and pending points have moved on, and gives the books.
    pub fn settled_ledger(&self) -> Result<Ledger> {
        wait::until("every point is settled", Duration::from_mins(1), || {
            let ledger = self.balancer.ledger()?;
            let open = |(account, balance): (&String, &i64)| {
                *balance != 0 && (account == "escrow" || account.ends_with(":pending"))
            };
            Ok((!ledger.0.iter().any(open)).then_some(ledger))
        })
    }
}

/// A question whose answer is a story of one or two hundred tokens, the same for the same seed.
pub fn story(seed: u64, max_tokens: u32) -> Value {
    json!({
        "model": MODEL,
        "messages": [{ "role": "user", "content": "Tell me a long story about a whale." }],
        "temperature": 0.8,
        "seed": seed,
        "max_tokens": max_tokens,
    })
}

/// What a client pays for an answer with this `usage`, in micro-points.
pub fn cost(usage: &Value) -> Result<i64> {
    let count = |name: &str| {
        usage[name]
            .as_i64()
            .ok_or_else(|| format!("no `{name}` in {usage}"))
    };
    Ok(count("prompt_tokens")? * INPUT_PRICE + count("completion_tokens")? * OUTPUT_PRICE)
}

/// What a client has of a stream so far.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Streamed {
    pub text: String,
    pub pieces: usize,
    pub finish: Option<String>,
    pub completion_tokens: Option<u64>,
    pub job: Option<String>,
}

impl Streamed {
    /// Reads to the end.
    pub fn read(events: Events) -> Result<Self> {
        let mut streamed = Self::default();
        for event in events {
            streamed.take(&event?)?;
        }
        Ok(streamed)
    }

    /// Takes in one event; one that carries an error is an error.
    pub fn take(&mut self, event: &Value) -> Result<()> {
        if !event["error"].is_null() {
            return Err(format!("the stream brought an error: {event}").into());
        }
        let choice = &event["choices"][0];
        if let Some(text) = choice["delta"]["content"].as_str()
            && !text.is_empty()
        {
            self.text.push_str(text);
            self.pieces += 1;
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.finish = Some(reason.to_owned());
        }
        if let Some(tokens) = event["usage"]["completion_tokens"].as_u64() {
            self.completion_tokens = Some(tokens);
        }
        if let Some(job) = event["infera"]["job_id"].as_str() {
            self.job = Some(job.to_owned());
        }
        Ok(())
    }

    pub fn job(&self) -> Result<&str> {
        self.job
            .as_deref()
            .ok_or_else(|| "the stream named no job".into())
    }
}
