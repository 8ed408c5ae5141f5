//! A balancer in this process on a loopback port, and simulated nodes that speak its real protocol.

#![expect(clippy::unwrap_used, reason = "only tests and measurements use it")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Barrier, OnceLock};
use std::time::Duration;

use futures_util::StreamExt;
use infera_balancer::{Balancer, Config, Database, Edges, Server, add_model, create_key};
use infera_model::{Gguf, Head, StopMatcher, StreamDecoder};
use infera_protocol::audit::audit_commit_digest;
use infera_protocol::digest::Digest;
use infera_protocol::node_api::{
    AuditCommit, AuditReveal, Challenge, ChallengeRequest, Claim, NodeEvent, NodeState, Offer,
    Points, Price, Refusal, RefusalCode, Session, SessionRequest, WorkRecord, claim_digest,
    do_work, session_digest,
};
use infera_protocol::output::OutputAck;
use infera_protocol::requirements::{Hardware, Policy};
use infera_protocol::{
    AuditId, AuditReport, AuditSpec, ChunkChain, Finish, FinishReason, Hash, JobId, JobSeed,
    JobSpec, LogProbabilities, Mismatch, ModelId, NodeId, NodeKey, OutputBatch, Profile, Task,
    TokenOutput, VERSION, Vector, Work as TaskWork, Writing,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The name and prices that the test model is served under.
pub(crate) const MODEL: &str = "tiny";
pub(crate) const EMBEDDER: &str = "tiny-vectors";
pub(crate) const PRICE: Price = Price {
    input: 3,
    output: 10,
};
/// The simulated model's answers have so many tokens, the end token included.
pub(crate) const ANSWER_TOKENS: u32 = 71;
/// Of the balancer.
const THREADS: usize = 2;
/// How long a test waits for something that should happen at once.
const LIMIT: Duration = Duration::from_secs(20);

/// A balancer with its own data folder and threads, which can be killed and started again.
pub(crate) struct Network {
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

/// One simulated node with an open session.
pub(crate) struct SimNode {
    pub key: Arc<NodeKey>,
    pub id: NodeId,
    pub session: Session,
    pub events: mpsc::UnboundedReceiver<(Option<u64>, NodeEvent)>,
    pub stream: JoinHandle<()>,
    base: String,
    http: reqwest::Client,
    slots: u32,
    hardware: Hardware,
}

/// How a simulated worker misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conduct {
    Honest,
    /// Writes with another seed.
    Cheat,
}

/// A node's work on one job: builds the batches that an honest node would send.
pub(crate) struct Work {
    pub spec: JobSpec,
    pub chain: ChunkChain,
    pub tokens: Vec<u32>,
    seed: JobSeed,
    decoder: StreamDecoder,
    matcher: StopMatcher,
    ended: Option<FinishReason>,
}

/// An answer that came as server-sent events.
#[derive(Debug, Default)]
pub(crate) struct Streamed {
    pub text: String,
    pub finish: Option<String>,
    pub chunks: Vec<Value>,
    pub done: bool,
}

/// Settings under which nothing runs out of time by itself, and no canary moves points.
pub(crate) fn patient() -> Config {
    Config {
        widen_after: Duration::from_millis(20),
        audit_accept: LIMIT,
        work_bits: 0,
        canary_rate: 0.0,
        ..Config::default()
    }
}

/// Settings under which leases and audits run out soon, for tests of just that.
pub(crate) fn hasty() -> Config {
    Config {
        lease: Duration::from_millis(500),
        lease_per_prompt_token: Duration::ZERO,
        audit_accept: Duration::from_millis(300),
        audit_reveal: Duration::from_millis(700),
        ..patient()
    }
}

/// The repository's own tiny model.
pub(crate) fn head() -> &'static Head {
    static HEAD: OnceLock<Head> = OnceLock::new();
    HEAD.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/model/tiny-llama.gguf");
        Head::from_gguf(&Gguf::open(&path).unwrap()).unwrap()
    })
}

pub(crate) fn model_id() -> ModelId {
    head().id(Profile::P32)
}

/// A tiny BERT. Its words are `t0` to `t95`, and it has no special tokens.
pub(crate) fn embedder() -> &'static Head {
    static HEAD: OnceLock<Head> = OnceLock::new();
    HEAD.get_or_init(|| {
        let path = "../engine/tests/golden/bert.gguf";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        Head::from_gguf(&Gguf::open(&path).unwrap()).unwrap()
    })
}

/// What the simulated embedding model makes of a text: 32 values, drawn from its tokens.
pub(crate) fn sim_vector(text: &[u32]) -> Vector {
    let drawn = Digest::new("test/sim-vector/v1").tokens(text).finish();
    let values = drawn.as_bytes().map(|byte| f64::from(byte) - 127.5);
    let length = values.iter().map(|value| value * value).sum::<f64>().sqrt();
    Vector(values.iter().map(|value| (value / length) as f32).collect())
}

/// The vectors of a task's texts; none when it writes.
pub(crate) fn sim_vectors(task: &Task) -> Vec<Vector> {
    match &task.work {
        TaskWork::Write(_) => Vec::new(),
        TaskWork::Embed(embedding) => {
            let texts = embedding.texts(&task.input).unwrap();
            texts.into_iter().map(sim_vector).collect()
        }
    }
}

/// How a job is to be written.
pub(crate) fn writing(spec: &JobSpec) -> &Writing {
    spec.task.writing().unwrap()
}

/// The one batch of a node that has computed these vectors.
pub(crate) fn embedded(key: &NodeKey, spec: &JobSpec, vectors: Vec<Vector>) -> OutputBatch {
    OutputBatch {
        version: VERSION,
        attempt: spec.attempt,
        position: 0,
        tokens: Vec::new(),
        commits: Vec::new(),
        finish: Some(Finish::sign_vectors(
            key,
            spec.job,
            spec.attempt,
            vectors,
            5,
        )),
        prefilled: 0,
    }
}

/// The token that the simulated model writes at a position: a letter, and an end token at last.
pub(crate) fn sim_token(seed: &JobSeed, position: u32) -> u32 {
    static LETTERS: OnceLock<Vec<u32>> = OnceLock::new();
    let tokenizer = head().tokenizer();
    if position + 1 >= ANSWER_TOKENS {
        return tokenizer.end_ids()[0];
    }
    let letters = LETTERS.get_or_init(|| {
        let is_letter = |id: &u32| {
            let bytes = tokenizer.token_bytes(*id);
            bytes.len() == 1 && bytes[0].is_ascii_lowercase()
        };
        (0..tokenizer.vocabulary()).filter(is_letter).collect()
    });
    let drawn = Digest::new("test/sim-model/v1")
        .fixed(seed.as_bytes())
        .u32(position)
        .finish();
    letters[usize::from(drawn.as_bytes()[0]) % letters.len()]
}

/// The whole answer that an honest node writes.
pub(crate) fn sim_answer(seed: &JobSeed) -> Vec<u32> {
    (0..ANSWER_TOKENS).map(|at| sim_token(seed, at)).collect()
}

pub(crate) async fn until<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
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
    pub(crate) async fn start(config: Config) -> Self {
        Self::start_with(config, Policy::practice()).await
    }

    pub(crate) async fn start_with(config: Config, policy: Policy) -> Self {
        Self::start_at_edges(config, policy, Edges::system).await
    }

    pub(crate) async fn start_at_edges(
        config: Config,
        policy: Policy,
        edges: fn() -> Edges,
    ) -> Self {
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
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Lets nothing of the balancer run for a while, as if its process was stopped.
    pub(crate) async fn stand_still(&self, time: Duration) {
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
    pub(crate) async fn revive(&mut self) {
        let (path, config) = (self.folder.path(), self.config.clone());
        let policy = Policy::practice();
        let (runtime, _) = serve(path, self.address, config, policy, (self.edges)()).await;
        self.runtime = Some(runtime);
    }

    /// Leaves of every model a head that cannot be read.
    pub(crate) async fn spoil_model_heads(&self) {
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
    pub(crate) fn keeps(&self, bytes: &[u8]) -> bool {
        std::fs::read_dir(self.folder.path()).unwrap().any(|entry| {
            let kept = std::fs::read(entry.unwrap().path()).unwrap_or_default();
            kept.windows(bytes.len()).any(|part| part == bytes)
        })
    }

    pub(crate) async fn key(&self, name: &str, limit_micro: Option<i64>) -> String {
        create_key(&self.database, &Edges::system(), name, limit_micro)
            .await
            .unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        self.post_as(&self.key, path, body).await
    }

    pub(crate) async fn post_as(&self, key: &str, path: &str, body: &Value) -> reqwest::Response {
        self.http
            .post(format!("{}{path}", self.base))
            .bearer_auth(key)
            .json(body)
            .send()
            .await
            .unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
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
    pub(crate) fn chat(&self, extra: &Value) -> JoinHandle<(u16, Value)> {
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
    pub(crate) async fn add_embedder(&self) {
        self.add(embedder(), Profile::P32, EMBEDDER).await;
    }

    pub(crate) async fn add(&self, head: &Head, profile: Profile, name: &str) {
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
    pub(crate) fn embed(&self, extra: &Value) -> JoinHandle<(u16, Value)> {
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
    pub(crate) fn stream(&self, extra: &Value) -> JoinHandle<Streamed> {
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

    pub(crate) async fn balances(&self) -> HashMap<String, i64> {
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
    pub(crate) async fn settled(&self, job: &str) -> Value {
        until("the job to be settled", async || {
            let receipt = self.get(&format!("/v1/jobs/{job}/receipt")).await;
            (receipt["state"] == "done").then_some(receipt)
        })
        .await
    }

    /// The receipt once prompt and answer are gone, which is soon after the verdict.
    pub(crate) async fn text_deleted(&self, job: &str) -> Value {
        until("the text to be deleted", async || {
            let receipt = self.get(&format!("/v1/jobs/{job}/receipt")).await;
            (receipt["text_deleted"] == true).then_some(receipt)
        })
        .await
    }

    pub(crate) async fn trust(&self, node: NodeId) {
        infera_balancer::set_reference(&self.database, node, true)
            .await
            .unwrap();
    }

    /// Two reference nodes that do their work.
    pub(crate) async fn references(&self) -> Vec<NodeId> {
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

impl SimNode {
    /// A worker with the model loaded and one free slot.
    pub(crate) async fn worker(network: &Network, number: u8) -> Self {
        Self::join(network, number, 1, hardware()).await
    }

    pub(crate) async fn reference(network: &Network, number: u8) -> Self {
        network.trust(key(number).id()).await;
        Self::join(network, number, 4, hardware()).await
    }

    pub(crate) async fn join(
        network: &Network,
        number: u8,
        slots: u32,
        hardware: Hardware,
    ) -> Self {
        Self::join_at(&network.base, number, slots, hardware).await
    }

    pub(crate) async fn join_at(base: &str, number: u8, slots: u32, hardware: Hardware) -> Self {
        Self::join_as(base, key(number), slots, hardware).await
    }

    pub(crate) async fn join_as(base: &str, key: NodeKey, slots: u32, hardware: Hardware) -> Self {
        let http = http();
        let session = open_session(&http, base, &key, hardware.clone())
            .await
            .unwrap();
        let (sender, events) = mpsc::unbounded_channel();
        let stream = subscribe(&http, base, &session.token, None, sender).await;
        let node = Self {
            id: key.id(),
            key: Arc::new(key),
            session,
            events,
            stream,
            base: base.to_owned(),
            http,
            slots,
            hardware,
        };
        node.tell(slots, None).await;
        node
    }

    pub(crate) async fn tell(&self, free_slots: u32, paused: Option<&str>) {
        self.tell_state(free_slots, paused, Vec::new()).await;
    }

    /// Tells that it takes so many tokens of prompt and output together.
    pub(crate) async fn tell_context(&self, tokens: u32) {
        self.tell_state(1, None, vec![tokens; 3]).await;
    }

    pub(crate) fn hardware(&self) -> Hardware {
        self.hardware.clone()
    }

    async fn tell_state(&self, free_slots: u32, paused: Option<&str>, context_tokens: Vec<u32>) {
        let state = NodeState {
            models: vec![
                model_id(),
                head().id(Profile::P16),
                embedder().id(Profile::P32),
            ],
            context_tokens,
            free_slots,
            paused: paused.map(str::to_owned),
            hardware: self.hardware.clone(),
        };
        self.post_empty("/node/v1/state", &state).await.unwrap();
    }

    /// Opens the event stream anew, after the event with this id.
    pub(crate) async fn resume(&mut self, last_seen: Option<u64>) {
        self.stream.abort();
        let (sender, events) = mpsc::unbounded_channel();
        self.events = events;
        self.stream = subscribe(
            &self.http,
            &self.base,
            &self.session.token,
            last_seen,
            sender,
        )
        .await;
    }

    pub(crate) async fn event(&mut self) -> NodeEvent {
        let event = tokio::time::timeout(LIMIT, self.events.recv()).await;
        event.expect("an event in time").expect("an open stream").1
    }

    /// The next event that is an offer.
    pub(crate) async fn offer(&mut self) -> Offer {
        loop {
            if let NodeEvent::Offer(offer) = self.event().await {
                return offer;
            }
        }
    }

    /// The next event that `wanted` accepts.
    pub(crate) async fn event_where(&mut self, wanted: impl Fn(&NodeEvent) -> bool) -> NodeEvent {
        loop {
            let event = self.event().await;
            if wanted(&event) {
                return event;
            }
        }
    }

    pub(crate) fn claim_of(&self, offer: &Offer) -> Claim {
        let nonce = Hash::from_bytes(Edges::system().random());
        let digest = claim_digest(offer.job, offer.attempt, &self.id, &nonce);
        Claim {
            version: VERSION,
            attempt: offer.attempt,
            nonce,
            signature: self.key.sign(digest),
        }
    }

    pub(crate) async fn claim(&self, offer: &Offer) -> Result<JobSpec, Refusal> {
        self.send_claim(offer.job, &self.claim_of(offer)).await
    }

    pub(crate) async fn send_claim(&self, job: JobId, claim: &Claim) -> Result<JobSpec, Refusal> {
        self.post(&format!("/node/v1/jobs/{job}/claim"), claim)
            .await
    }

    /// Waits for an offer and takes it.
    pub(crate) async fn take(&mut self) -> Work {
        let offer = self.offer().await;
        Work::new(self.claim(&offer).await.unwrap(), Conduct::Honest)
    }

    pub(crate) async fn output(
        &self,
        job: JobId,
        batch: &OutputBatch,
    ) -> Result<OutputAck, Refusal> {
        self.post(&format!("/node/v1/jobs/{job}/output"), batch)
            .await
    }

    /// Writes up to `count` tokens in one batch.
    pub(crate) async fn write(&self, work: &mut Work, count: usize) -> Result<OutputAck, Refusal> {
        let batch = work.batch(count);
        self.output(work.spec.job, &batch).await
    }

    /// Writes what is left, and the signed end.
    pub(crate) async fn write_all(&self, work: &mut Work) -> Result<OutputAck, Refusal> {
        let batch = work.last_batch(&self.key);
        self.output(work.spec.job, &batch).await
    }

    pub(crate) async fn release(&self, spec: &JobSpec) -> Result<(), Refusal> {
        let path = format!("/node/v1/jobs/{}/release", spec.job);
        let body = json!({"version": VERSION, "attempt": spec.attempt, "reason": "a test"});
        self.post_empty(&path, &body).await
    }

    pub(crate) async fn accept(&self, audit: AuditId) -> Result<AuditSpec, Refusal> {
        self.post(&format!("/node/v1/audits/{audit}/accept"), &json!({}))
            .await
    }

    pub(crate) async fn commit(&self, report: &AuditReport, salt: &Hash) -> Result<(), Refusal> {
        let commitment = report.commitment(salt);
        let body = AuditCommit {
            commitment,
            signature: self.key.sign(audit_commit_digest(report.audit, commitment)),
        };
        self.post_empty(&format!("/node/v1/audits/{}/commit", report.audit), &body)
            .await
    }

    pub(crate) async fn reveal(&self, report: &AuditReport, salt: &Hash) -> Result<(), Refusal> {
        let body = AuditReveal {
            report: report.clone(),
            salt: *salt,
        };
        self.post_empty(&format!("/node/v1/audits/{}/report", report.audit), &body)
            .await
    }

    pub(crate) async fn points(&self) -> Points {
        self.get("/node/v1/points").await.unwrap()
    }

    pub(crate) async fn history(&self) -> Vec<WorkRecord> {
        self.get("/node/v1/history?limit=10").await.unwrap()
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refusal> {
        let request = self.http.get(format!("{}{path}", self.base));
        answer(request.bearer_auth(&self.session.token)).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Refusal> {
        let request = self.http.post(format!("{}{path}", self.base));
        answer(request.bearer_auth(&self.session.token).json(body)).await
    }

    pub(crate) async fn post_empty(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<(), Refusal> {
        let request = self.http.post(format!("{}{path}", self.base));
        let request = request.bearer_auth(&self.session.token).json(body);
        let response = request.send().await.unwrap();
        if response.status().is_success() {
            assert_eq!(response.status(), 204);
            return Ok(());
        }
        Err(refusal(response).await)
    }

    /// Takes every offer and answers it, until the balancer ends.
    pub(crate) fn spawn_worker(mut self, conduct: Conduct) -> JoinHandle<()> {
        tokio::spawn(async move {
            while let Some((_, event)) = self.events.recv().await {
                let NodeEvent::Offer(offer) = event else {
                    continue;
                };
                let Ok(spec) = self.claim(&offer).await else {
                    continue;
                };
                let mut work = Work::new(spec, conduct);
                while work.ended.is_none() {
                    let Ok(ack) = self.write(&mut work, 8).await else {
                        break;
                    };
                    if ack.cancel {
                        work.ended = Some(FinishReason::Cancelled);
                    }
                }
                // A refused end is the balancer's business.
                let _ = self.write_all(&mut work).await;
                self.tell(self.slots, None).await;
            }
        })
    }

    /// Checks every output it is asked to.
    pub(crate) fn spawn_reference(self) -> JoinHandle<()> {
        self.spawn_reference_with(|_| {})
    }

    /// As [`Self::spawn_reference`], with reports that are changed before they are sent.
    pub(crate) fn spawn_reference_with(
        self,
        change: impl Fn(&mut AuditReport) + Send + 'static,
    ) -> JoinHandle<()> {
        self.spawn_reference_as(move |task| {
            let mut report = honest_report(task);
            change(&mut report);
            report
        })
    }

    /// A reference node that reports whatever `answer` says.
    pub(crate) fn spawn_reference_as(
        mut self,
        mut answer: impl FnMut(&AuditSpec) -> AuditReport + Send + 'static,
    ) -> JoinHandle<()> {
        tokio::spawn(async move {
            let mut reports = HashMap::new();
            while let Some((_, event)) = self.events.recv().await {
                match event {
                    NodeEvent::Audit { audit, .. } => {
                        let Ok(task) = self.accept(audit).await else {
                            continue;
                        };
                        let report = answer(&task);
                        let salt = Hash::from_bytes(Edges::system().random());
                        if self.commit(&report, &salt).await.is_ok() {
                            reports.insert(audit, (report, salt));
                        }
                    }
                    NodeEvent::Reveal { audit } => {
                        if let Some((report, salt)) = reports.get(&audit) {
                            // A reveal that comes too late is refused.
                            let _ = self.reveal(report, salt).await;
                        }
                    }
                    _ => {}
                }
            }
        })
    }
}

impl Work {
    pub(crate) fn new(spec: JobSpec, conduct: Conduct) -> Self {
        let seed = match conduct {
            Conduct::Honest => writing(&spec).seed,
            Conduct::Cheat => JobSeed::from_bytes([99; 32]),
        };
        let mut work = Self {
            chain: ChunkChain::new(spec.job, spec.attempt, spec.start()),
            tokens: Vec::new(),
            seed,
            decoder: StreamDecoder::after(Arc::clone(head().tokenizer()), &spec.task.input),
            matcher: StopMatcher::new(&writing(&spec).stop),
            ended: None,
            spec,
        };
        for id in work.spec.output.clone() {
            work.note(id);
        }
        work
    }

    pub(crate) fn position(&self) -> u32 {
        self.spec.start() + self.tokens.len() as u32
    }

    /// The next tokens, without an end.
    pub(crate) fn batch(&mut self, count: usize) -> OutputBatch {
        let mut batch = OutputBatch {
            version: VERSION,
            attempt: self.spec.attempt,
            position: self.position(),
            tokens: Vec::new(),
            commits: Vec::new(),
            finish: None,
            prefilled: 0,
        };
        while batch.tokens.len() < count && self.ended.is_none() {
            let id = sim_token(&self.seed, self.position());
            self.tokens.push(id);
            self.note(id);
            batch.commits.extend(self.chain.push(id));
            batch.tokens.push(TokenOutput {
                id,
                logprob: writing(&self.spec).logprobs.map(|_| -0.5),
                alternatives: match writing(&self.spec).logprobs {
                    Some(count) if count > 0 => vec![(id, -0.5)],
                    _ => Vec::new(),
                },
            });
        }
        batch
    }

    /// All that is left, with the signed end.
    pub(crate) fn last_batch(&mut self, key: &NodeKey) -> OutputBatch {
        let mut batch = self.batch(usize::MAX);
        batch.commits.extend(self.chain.close_last());
        batch.finish = Some(self.finish(key, self.ended.unwrap()));
        batch
    }

    pub(crate) fn finish(&self, key: &NodeKey, reason: FinishReason) -> Finish {
        Finish::sign(
            key,
            self.spec.job,
            self.spec.attempt,
            reason,
            self.position(),
            self.chain.head(),
            (1, 2),
        )
    }

    /// Stops where it is.
    pub(crate) fn cancelled_batch(&mut self, key: &NodeKey) -> OutputBatch {
        self.ended = Some(FinishReason::Cancelled);
        self.last_batch(key)
    }

    fn note(&mut self, id: u32) {
        let length = self.spec.start().max(self.position());
        if head().tokenizer().is_end(id) {
            self.ended = Some(FinishReason::EndOfText);
        } else if self.matcher.push(&self.decoder.push(id)).matched {
            self.ended = Some(FinishReason::Stop);
        } else if length >= writing(&self.spec).max_tokens {
            self.ended = Some(FinishReason::Length);
        }
    }
}

/// The log-probabilities that the simulated model gives to the tokens of an output. Each depends on
/// all that stands before it. Three of four tokens that it would write are nearly certain.
pub(crate) fn sim_log_probabilities(spec: &AuditSpec) -> LogProbabilities {
    let Some(writing) = spec.task.writing() else {
        return LogProbabilities::default();
    };
    let mut context = Digest::new("test/sim-context/v1")
        .tokens(&spec.task.input)
        .finish();
    (0..)
        .zip(&spec.output)
        .map(|(position, claimed)| {
            let drawn = context.as_bytes();
            let open = f64::from(u16::from_le_bytes([drawn[0], drawn[1]]).max(1)) / 65536.0;
            let surprise = match *claimed == sim_token(&writing.seed, position) {
                true if drawn[2] < 192 => 0.02 * open,
                true => open,
                false => 10.0 + open,
            };
            context = Digest::new("test/sim-context/v1")
                .fixed(drawn)
                .u32(*claimed)
                .finish();
            -surprise
        })
        .collect()
}

/// What a reference that computes exactly finds.
pub(crate) fn honest_report(spec: &AuditSpec) -> AuditReport {
    let seed = spec.task.writing().map(|writing| writing.seed);
    let mismatches = (0..)
        .zip(&spec.output)
        .filter_map(|(position, claimed)| {
            let token = sim_token(&seed?, position);
            (token != *claimed).then_some(Mismatch {
                position,
                token,
                margin: 9.0,
            })
        })
        .collect();
    let vectors = sim_vectors(&spec.task);
    AuditReport {
        audit: spec.audit,
        model: spec.task.model,
        backend: "simulated/cpu".to_owned(),
        positions: (spec.output.len() + vectors.len()) as u32,
        mismatches,
        log_probabilities: sim_log_probabilities(spec),
        vectors,
        elapsed_ms: 1,
    }
}

pub(crate) fn chat_body(extra: &Value) -> Value {
    let body = json!({
        "model": MODEL,
        "messages": [{"role": "user", "content": "Tell me a story"}],
        "max_tokens": 200,
    });
    merged(body, extra)
}

/// A request with the fields in `extra` instead of its own, or beside them.
fn merged(mut body: Value, extra: &Value) -> Value {
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

pub(crate) async fn read_stream(response: reqwest::Response) -> Streamed {
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

/// The lines of a response as they come.
pub(crate) struct Lines {
    body: futures_util::stream::BoxStream<'static, reqwest::Result<axum::body::Bytes>>,
    rest: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(response: reqwest::Response) -> Self {
        Self {
            body: response.bytes_stream().boxed(),
            rest: Vec::new(),
        }
    }

    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(String::from_utf8(line[..end].to_vec()).unwrap());
            }
            self.rest.extend(self.body.next().await?.ok()?);
        }
    }
}

pub(crate) fn key(number: u8) -> NodeKey {
    NodeKey::from_secret(&[number; 32])
}

pub(crate) fn hardware() -> Hardware {
    Hardware {
        ram_bytes: Some(64 << 30),
        free_disk_bytes: Some(100 << 30),
        ..Hardware::default()
    }
}

pub(crate) fn http() -> reqwest::Client {
    // Another test may have installed it before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

pub(crate) async fn challenge(http: &reqwest::Client, base: &str, node: NodeId) -> Challenge {
    let body = ChallengeRequest {
        version: VERSION,
        node,
    };
    let request = http.post(format!("{base}/node/v1/challenge")).json(&body);
    answer(request).await.unwrap()
}

pub(crate) fn session_request(
    key: &NodeKey,
    challenge: Hash,
    hardware: Hardware,
) -> SessionRequest {
    SessionRequest {
        version: VERSION,
        node: key.id(),
        challenge,
        signature: key.sign(session_digest(&key.id(), &challenge)),
        software: "simulated 1".to_owned(),
        hardware,
        work: 0,
        instance: None,
    }
}

pub(crate) async fn open_session(
    http: &reqwest::Client,
    base: &str,
    key: &NodeKey,
    hardware: Hardware,
) -> Result<Session, Refusal> {
    let Challenge {
        challenge,
        work_bits,
    } = challenge(http, base, key.id()).await;
    let request = SessionRequest {
        work: do_work(&key.id(), &challenge, work_bits),
        ..session_request(key, challenge, hardware)
    };
    answer(http.post(format!("{base}/node/v1/session")).json(&request)).await
}

pub(crate) async fn answer<T: DeserializeOwned>(
    request: reqwest::RequestBuilder,
) -> Result<T, Refusal> {
    let response = request.send().await.unwrap();
    if response.status().is_success() {
        Ok(response.json().await.unwrap())
    } else {
        Err(refusal(response).await)
    }
}

/// Checks that a refusal's status goes with its code.
async fn refusal(response: reqwest::Response) -> Refusal {
    let status = response.status().as_u16();
    let refusal: Refusal = response.json().await.unwrap();
    assert_eq!(status, refusal.code.status(), "{refusal:?}");
    refusal
}

pub(crate) fn code<T: std::fmt::Debug>(outcome: Result<T, Refusal>) -> RefusalCode {
    outcome.unwrap_err().code
}

async fn subscribe(
    http: &reqwest::Client,
    base: &str,
    token: &str,
    last_seen: Option<u64>,
    sender: mpsc::UnboundedSender<(Option<u64>, NodeEvent)>,
) -> JoinHandle<()> {
    let mut request = http
        .get(format!("{base}/node/v1/events"))
        .bearer_auth(token);
    if let Some(id) = last_seen {
        request = request.header("last-event-id", id);
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    tokio::spawn(async move {
        let mut lines = Lines::new(response);
        let mut id = None;
        while let Some(line) = lines.next().await {
            if let Some(text) = line.strip_prefix("id: ") {
                id = text.parse().ok();
            } else if let Some(data) = line.strip_prefix("data: ")
                && sender
                    .send((id.take(), serde_json::from_str(data).unwrap()))
                    .is_err()
            {
                return;
            }
        }
    })
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
