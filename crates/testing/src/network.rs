//! A balancer in this process on a loopback port, with its clients.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use infera_balancer::{
    Balancer, Config, Database, Edges, Server, Terms, add_model, create_invitation, create_key,
};
use infera_model::Head;
use infera_protocol::node_api::Price;
use infera_protocol::requirements::Policy;
use infera_protocol::{InvitationToken, NodeId, Profile};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::model::{embedder, head};
use crate::node::{Lines, SimNode, http};

/// The name and prices that the test model is served under.
pub const MODEL: &str = "tiny";
pub const EMBEDDER: &str = "tiny-vectors";
pub const PRICE: Price = Price {
    input: 3,
    output: 10,
};
/// The balancer's.
const THREADS: usize = 2;
/// How long a test waits for something that should happen at once.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A balancer with its own data folder and threads, which can be killed and started again.
pub struct Network {
    pub base: String,
    pub http: reqwest::Client,
    pub key: String,
    pub database: Database,
    pub config: Config,
    edges: fn() -> Edges,
    folder: tempfile::TempDir,
    address: SocketAddr,
    runtime: Option<Runtime>,
}

/// An answer that came as server-sent events.
#[derive(Debug, Default)]
pub struct Streamed {
    pub text: String,
    pub finish: Option<String>,
    pub chunks: Vec<Value>,
    pub done: bool,
}

/// Settings under which nothing runs out of time by itself, and no canary moves points.
pub fn patient() -> Config {
    Config {
        widen_after: Duration::from_millis(20),
        audit_accept: LIMIT,
        work_bits: 0,
        canary_rate: 0.0,
        ..Config::default()
    }
}

/// Settings under which leases and audits run out soon, for tests of just that.
pub fn hasty() -> Config {
    Config {
        lease: Duration::from_millis(500),
        lease_per_prompt_token: Duration::ZERO,
        audit_accept: Duration::from_millis(300),
        audit_reveal: Duration::from_millis(700),
        ..patient()
    }
}

pub async fn until<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let attempt = async {
        loop {
            if let Some(found) = check().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, attempt)
        .await
        .unwrap_or_else(|_| panic!("waited too long for {what}"))
}

impl Network {
    pub async fn start(config: Config) -> Self {
        Self::start_with(config, Policy::practice()).await
    }

    pub async fn start_with(config: Config, policy: Policy) -> Self {
        Self::start_at_edges(config, policy, Edges::system).await
    }

    pub async fn start_at_edges(config: Config, policy: Policy, edges: fn() -> Edges) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path()).await.unwrap();
        add_model(&database, head(), Profile::P32, MODEL, PRICE, 0)
            .await
            .unwrap();
        let key = create_key(&database, &Edges::system(), "ann", None)
            .await
            .unwrap();
        let address = "127.0.0.1:0".parse().unwrap();
        let (runtime, address) =
            serve(folder.path(), address, config.clone(), policy, edges()).await;
        Self {
            base: format!("http://{address}"),
            http: http(),
            key,
            database,
            config,
            edges,
            folder,
            address,
            runtime: Some(runtime),
        }
    }

    /// Ends the balancer as a crash would: nothing is finished or said.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Lets nothing of the balancer run for a while, as if its process was stopped.
    pub async fn stand_still(&self, time: Duration) {
        let all = Arc::new(Barrier::new(THREADS));
        let stopped = (0..THREADS).map(|_| {
            let all = Arc::clone(&all);
            self.runtime.as_ref().unwrap().spawn(async move {
                // Each thread waits in one of these.
                all.wait();
                std::thread::sleep(time);
            })
        });
        for thread in stopped.collect::<Vec<_>>() {
            thread.await.unwrap();
        }
    }

    /// Starts it again on the same folder and port.
    pub async fn revive(&mut self) {
        let (path, config) = (self.folder.path(), self.config.clone());
        let policy = Policy::practice();
        let (runtime, _) = serve(path, self.address, config, policy, (self.edges)()).await;
        self.runtime = Some(runtime);
    }

    /// Leaves of every model a head that cannot be read.
    pub async fn spoil_model_heads(&self) {
        let file = self.folder.path().join("balancer.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
        let writer = sqlx::SqlitePool::connect_with(options).await.unwrap();
        let spoiled = sqlx::query("UPDATE models SET head = x'00'")
            .execute(&writer)
            .await
            .unwrap();
        assert!(spoiled.rows_affected() > 0);
        writer.close().await;
    }

    /// Whether any file of the balancer holds these bytes.
    pub fn keeps(&self, bytes: &[u8]) -> bool {
        std::fs::read_dir(self.folder.path()).unwrap().any(|entry| {
            let kept = std::fs::read(entry.unwrap().path()).unwrap_or_default();
            kept.windows(bytes.len()).any(|part| part == bytes)
        })
    }

    pub async fn key(&self, name: &str, limit_micro: Option<i64>) -> String {
        create_key(&self.database, &Edges::system(), name, limit_micro)
            .await
            .unwrap()
    }

    pub async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        self.post_as(&self.key, path, body).await
    }

    pub async fn post_as(&self, key: &str, path: &str, body: &Value) -> reqwest::Response {
        self.http
            .post(format!("{}{path}", self.base))
            .bearer_auth(key)
            .json(body)
            .send()
            .await
            .unwrap()
    }

    pub async fn get(&self, path: &str) -> Value {
        let response = self
            .http
            .get(format!("{}{path}", self.base))
            .bearer_auth(&self.key)
            .send()
            .await
            .unwrap();
        assert!(
            response.status().is_success(),
            "{path}: {}",
            response.status()
        );
        response.json().await.unwrap()
    }

    /// A chat request with the fields in `extra`, in the background.
    pub fn chat(&self, extra: &Value) -> JoinHandle<(u16, Value)> {
        let request = self
            .http
            .post(format!("{}/v1/chat/completions", self.base))
            .bearer_auth(&self.key)
            .json(&chat_body(extra));
        tokio::spawn(async move {
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            (status, response.json().await.unwrap())
        })
    }

    /// Serves the embedding model too.
    pub async fn add_embedder(&self) {
        self.add(embedder(), Profile::P32, EMBEDDER).await;
    }

    pub async fn add(&self, head: &Head, profile: Profile, name: &str) {
        add_model(&self.database, head, profile, name, PRICE, 0)
            .await
            .unwrap();
        until("the model to be served", async || {
            let models = self.get("/v1/models").await;
            let models = models["data"].as_array().unwrap();
            models.iter().any(|model| model["id"] == name).then_some(())
        })
        .await;
    }

    /// A request for vectors with the fields in `extra`, in the background.
    pub fn embed(&self, extra: &Value) -> JoinHandle<(u16, Value)> {
        let body = json!({"model": EMBEDDER, "input": ["t1 t2 t3", "t4 t5"]});
        let body = merged(body, extra);
        let request = self
            .http
            .post(format!("{}/v1/embeddings", self.base))
            .bearer_auth(&self.key)
            .json(&body);
        tokio::spawn(async move {
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            (status, response.json().await.unwrap())
        })
    }

    /// A streamed chat request, in the background.
    pub fn stream(&self, extra: &Value) -> JoinHandle<Streamed> {
        let mut body = chat_body(extra);
        body["stream"] = json!(true);
        let request = self
            .http
            .post(format!("{}/v1/chat/completions", self.base))
            .bearer_auth(&self.key)
            .json(&body);
        tokio::spawn(async move {
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 200);
            read_stream(response).await
        })
    }

    pub async fn balances(&self) -> HashMap<String, i64> {
        let trial = infera_balancer::trial_balance(&self.database)
            .await
            .unwrap();
        assert_eq!(trial.sum, 0, "the ledger does not sum to zero");
        trial
            .accounts
            .into_iter()
            .map(|account| (account.account, account.balance))
            .collect()
    }

    /// Waits until a job is settled, and gives its receipt.
    pub async fn settled(&self, job: &str) -> Value {
        until("the job to be settled", async || {
            let receipt = self.get(&format!("/v1/jobs/{job}/receipt")).await;
            (receipt["state"] == "done").then_some(receipt)
        })
        .await
    }

    /// The receipt once prompt and answer are gone, which is soon after the verdict.
    pub async fn text_deleted(&self, job: &str) -> Value {
        until("the text to be deleted", async || {
            let receipt = self.get(&format!("/v1/jobs/{job}/receipt")).await;
            (receipt["text_deleted"] == true).then_some(receipt)
        })
        .await
    }

    pub async fn trust(&self, node: NodeId) {
        let standing = infera_balancer::Standing {
            reference: true,
            ..infera_balancer::Standing::default()
        };
        infera_balancer::trust(&self.database, node, standing)
            .await
            .unwrap();
    }

    /// An invitation on these terms.
    pub async fn invite(&self, terms: &Terms) -> (i64, InvitationToken) {
        create_invitation(&self.database, &(self.edges)(), terms)
            .await
            .unwrap()
    }

    /// Two reference nodes that do their work.
    pub async fn references(&self) -> Vec<NodeId> {
        let mut ids = Vec::new();
        for number in [201, 202] {
            let node = SimNode::reference(self, number).await;
            ids.push(node.id);
            node.spawn_reference();
        }
        ids
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn chat_body(extra: &Value) -> Value {
    let body = json!({
        "model": MODEL,
        "messages": [{"role": "user", "content": "Tell me a story"}],
        "max_tokens": 200,
    });
    merged(body, extra)
}

pub async fn read_stream(response: reqwest::Response) -> Streamed {
    let mut streamed = Streamed::default();
    let mut lines = Lines::new(response);
    while let Some(line) = lines.next().await {
        let Some(data) = line.strip_prefix("data: ") else {
            continue;
        };
        if data == "[DONE]" {
            streamed.done = true;
            continue;
        }
        let chunk: Value = serde_json::from_str(data).unwrap();
        if let Some(choice) = chunk["choices"].get(0) {
            let text = choice["delta"]["content"]
                .as_str()
                .or(choice["text"].as_str());
            streamed.text.push_str(text.unwrap_or_default());
            if let Some(finish) = choice["finish_reason"].as_str() {
                streamed.finish = Some(finish.to_owned());
            }
        }
        streamed.chunks.push(chunk);
    }
    streamed
}

/// A request with the fields in `extra` instead of its own, or beside them.
fn merged(mut body: Value, extra: &Value) -> Value {
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

async fn serve(
    folder: &Path,
    address: SocketAddr,
    config: Config,
    policy: Policy,
    edges: Edges,
) -> (Runtime, SocketAddr) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .unwrap();
    let folder = folder.to_owned();
    let started = runtime.spawn(async move {
        let database = Database::open(&folder).await.unwrap();
        let balancer = Balancer::start(database, config, policy, edges)
            .await
            .unwrap();
        let server = Server::bind(balancer, address, None).await.unwrap();
        let address = server.address().unwrap().socket;
        tokio::spawn(server.run(std::future::pending()));
        address
    });
    let address = started.await.unwrap();
    (runtime, address)
}
