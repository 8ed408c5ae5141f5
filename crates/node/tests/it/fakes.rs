//! A balancer that keeps books, an engine that produces tokens by rule, a machine, a clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use infera_engine::message::{
    Command, DeviceChoice, DeviceInfo, Embedded, Event, Failure, FailureCode, Finished, Generate,
    Load, Loaded, Score, Scored,
};
use infera_node::account::Belonging;
use infera_node::balancer_link::{
    BalancerLink, Call, EventStream, LinkError, ReceivedEvent, Token,
};
use infera_node::books::{JobRow, JobsQuery};
use infera_node::clock::{Clock, Entropy};
use infera_node::engine_link::{Engine, EngineError, EngineLink};
use infera_node::governor::GovernorPolicy;
use infera_node::governor::rules::Rules;
use infera_node::gpu::GpuSeen;
use infera_node::hardware::HardwareProbe;
use infera_node::state::{Connection, NodeSnapshot};
use infera_node::store::Store;
use infera_node::unreachable::Unreachable;
use infera_node::{Around, Edges, ModelConfig, Node, NodeConfig};
use infera_protocol::account::{LinkGrant, Linked};
use infera_protocol::audit::audit_commit_digest;
use infera_protocol::node_api::{
    AuditCommit, AuditReveal, Challenge, ChallengeRequest, Claim, Decline, InvitationRequest,
    Invited, JoinRequest, Joined, ModelOffer, Network, NodeEvent, NodeState, Offer, Points, Price,
    Refusal, RefusalCode, Release, Session, SessionRequest, WorkRecord, claim_digest,
    session_digest,
};
use infera_protocol::output::OutputAck;
use infera_protocol::requirements::{Gpu, Hardware, Policy};
use infera_protocol::vector::vectors_hash;
use infera_protocol::{
    AccountId, AuditId, AuditReport, AuditSpec, ChunkChain, FinishReason, Hash, JobId, JobSeed,
    JobSpec, LinkId, ModelId, NodeId, NodeKey, OutputBatch, Ownership, Profile, Sampling, Task,
    TokenOutput, VERSION, Vector, Work, Writing,
};
use infera_surroundings::Surroundings;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub(crate) const MODEL: ModelId = ModelId::from_bytes([7; 32]);
/// The same in profile P16.
pub(crate) const MODEL_P16: ModelId = ModelId::from_bytes([16; 32]);
const TINY: &str = "tiny.gguf";
pub(crate) const SECRET: [u8; 32] = [5; 32];
const TOKEN_TIME: Duration = Duration::from_millis(10);
const PROBE_TIME: Duration = Duration::from_millis(10);

/// What the fake engine finds in a file.
pub(crate) fn model_in(path: &Path) -> ModelId {
    match path.to_str() {
        Some(TINY) | None => MODEL,
        Some(other) => ModelId::from_bytes([other.as_bytes()[0]; 32]),
    }
}

/// A model that needs so much of a device.
pub(crate) fn model_config(path: &str, needed_bytes: Option<u64>) -> ModelConfig {
    ModelConfig {
        path: PathBuf::from(path),
        needed_bytes,
        context_tokens: None,
        sequences: 2,
        reserve_bytes: 0,
        tunings: None,
    }
}

/// What the fake engine produces at an output position.
pub(crate) fn token_at(position: u32) -> u32 {
    1000 + position * 7 % 501
}

/// What the fake embedding engine makes of a text.
pub(crate) fn vector_of(text: &[u32]) -> Vector {
    Vector(text.iter().map(|token| *token as f32).collect())
}

pub(crate) fn node_id() -> NodeId {
    NodeKey::from_secret(&SECRET).id()
}

// ---------------------------------------------------------------------------------------------

pub(crate) struct FakeClock {
    start: Instant,
}

impl FakeClock {
    pub(crate) const START_MS: i64 = 1_700_000_000_000;
}

impl Clock for FakeClock {
    fn now_ms(&self) -> i64 {
        Self::START_MS + self.start.elapsed().as_millis() as i64
    }

    fn zone(&self) -> jiff::tz::TimeZone {
        jiff::tz::TimeZone::UTC
    }

    fn describe(&self, unix_ms: i64) -> String {
        format!("+{} s", (unix_ms - Self::START_MS) / 1000)
    }
}

/// Numbers that never repeat and are the same in every run.
#[derive(Default)]
pub(crate) struct CountingEntropy(Mutex<u64>);

impl Entropy for CountingEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.0.lock().unwrap();
        for byte in bytes {
            *state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = (*state >> 33) as u8;
        }
    }
}

pub(crate) struct FakeMachine(pub(crate) Mutex<Hardware>);

impl HardwareProbe for FakeMachine {
    /// Takes longer than to start an engine, as a real one does.
    fn probe(&self) -> BoxFuture<'static, Hardware> {
        let hardware = self.0.lock().unwrap().clone();
        Box::pin(async move {
            tokio::time::sleep(PROBE_TIME).await;
            hardware
        })
    }

    fn free_disk(&self) -> BoxFuture<'static, Option<u64>> {
        let bytes = self.0.lock().unwrap().free_disk_bytes;
        Box::pin(async move { bytes })
    }
}

// ---------------------------------------------------------------------------------------------

#[derive(Default)]
pub(crate) struct EngineScript {
    /// The engine dies when it has produced the token before one of these positions.
    pub(crate) die_at: VecDeque<u32>,
    pub(crate) load_failure: Option<Failure>,
    pub(crate) fail_requests: Option<Failure>,
    /// Engines that were started, and those that run.
    pub(crate) started: u32,
    pub(crate) running: u32,
    /// What each was told to load its model in.
    pub(crate) profiles: Vec<Profile>,
    /// What each was told that it may take.
    pub(crate) memory_bytes: Vec<Option<u64>>,
    /// What each was told to load its model on.
    pub(crate) devices: Vec<DeviceChoice>,
    /// What those were told that run, by their numbers.
    pub(crate) loads: BTreeMap<u32, Load>,
    /// The share of their time that engines were told to keep to.
    pub(crate) duties: Vec<u8>,
    /// Devices that vanish under whoever computes on them, and cannot be opened again.
    pub(crate) gone: Vec<DeviceChoice>,
    pub(crate) cancels: u32,
    /// `Generate.output.len()` of each request, in order.
    pub(crate) continued_from: Vec<usize>,
    /// An end-of-generation token comes at this position.
    pub(crate) ends_at: Option<u32>,
    /// The model gives vectors, of texts of up to 4 tokens.
    pub(crate) embeds: bool,
    /// Requests for vectors wait.
    pub(crate) holds_vectors: bool,
    /// What is told of each prompt before its first token, one after the other, and how long each
    /// takes.
    pub(crate) prefill: Vec<(u32, Duration)>,
    /// Instead of the fake model's own.
    pub(crate) context_tokens: Option<u32>,
}

#[derive(Clone, Default)]
pub(crate) struct FakeEngine(pub(crate) Arc<Mutex<EngineScript>>);

impl FakeEngine {
    pub(crate) fn script(&self) -> MutexGuard<'_, EngineScript> {
        self.0.lock().unwrap()
    }
}

/// What a running engine holds of the main memory.
pub(crate) const ENGINE_MEMORY: u64 = 1 << 30;

impl EngineLink for FakeEngine {
    fn start(&self) -> BoxFuture<'static, Result<Engine, EngineError>> {
        let script = self.0.clone();
        Box::pin(async move {
            let (commands, incoming) = mpsc::unbounded_channel();
            let (outgoing, events) = mpsc::unbounded_channel();
            let number = {
                let mut script = script.lock().unwrap();
                script.started += 1;
                script.running += 1;
                script.started
            };
            tokio::spawn(async move {
                run_engine(number, &script, incoming, outgoing).await;
                let mut script = script.lock().unwrap();
                script.running -= 1;
                script.loads.remove(&number);
            });
            Ok(Engine { commands, events })
        })
    }

    fn memory_bytes(&self) -> u64 {
        u64::from(self.script().running) * ENGINE_MEMORY
    }
}

async fn run_engine(
    number: u32,
    script: &Mutex<EngineScript>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    events: mpsc::UnboundedSender<Event>,
) {
    let mut running: Vec<(Generate, u32)> = Vec::new();
    let mut embedding: BTreeMap<u64, Task> = BTreeMap::new();
    let mut prefilling: VecDeque<(Instant, u64, u32)> = VecDeque::new();
    let mut device = DeviceChoice::Auto;
    let _ = events.send(Event::Started {
        version: "fake".to_owned(),
    });
    loop {
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                None | Some(Command::Shutdown) => return,
                Some(Command::Load(load)) => {
                    let mut script = script.lock().unwrap();
                    script.profiles.push(load.profile);
                    script.memory_bytes.push(load.memory_bytes);
                    script.devices.push(load.device.clone());
                    script.loads.insert(number, load.clone());
                    device = load.device.clone();
                    let is_gone = script.gone.contains(&device);
                    let gone = is_gone.then(|| failure(FailureCode::NoDevice, "It is not there"));
                    let _ = events.send(match gone.or_else(|| script.load_failure.clone()) {
                        Some(error) => Event::Failed { id: None, error },
                        None => Event::Loaded(loaded(&load, &script)),
                    });
                }
                Some(
                    Command::Generate(Generate { id, task, .. })
                    | Command::Score(Score { id, task, .. }),
                ) if task.writing().is_none() => {
                    let mut script = script.lock().unwrap();
                    if script.die_at.pop_front().is_some() {
                        return;
                    }
                    if let Some(error) = script.fail_requests.clone() {
                        let _ = events.send(Event::Failed { id: Some(id), error });
                    } else {
                        embedding.insert(id, task);
                    }
                }
                Some(Command::Generate(generate)) => {
                    let mut script = script.lock().unwrap();
                    script.continued_from.push(generate.output.len());
                    let mut at = Instant::now();
                    for (tokens, time) in script.prefill.clone() {
                        at += time;
                        prefilling.push_back((at, generate.id, tokens));
                    }
                    if let Some(error) = script.fail_requests.clone() {
                        let _ = events.send(Event::Failed { id: Some(generate.id), error });
                    } else {
                        let position = generate.output.len() as u32;
                        running.push((generate, position));
                    }
                }
                Some(Command::Score(score)) => {
                    let fault = script.lock().unwrap().fail_requests.clone();
                    let _ = events.send(match fault {
                        Some(error) => Event::Failed {
                            id: Some(score.id),
                            error,
                        },
                        None => Event::Scored(Scored {
                            id: score.id,
                            positions: score.output.len() as u32,
                            mismatches: Vec::new(),
                            log_probabilities: score.output.iter().map(|_| -0.5).collect(),
                            elapsed_ms: 3,
                        }),
                    });
                }
                Some(Command::Cancel { id }) => {
                    script.lock().unwrap().cancels += 1;
                    if embedding.remove(&id).is_some() {
                        let _ = events.send(finished(id, FinishReason::Cancelled));
                    }
                    if let Some(index) = running.iter().position(|(generate, _)| generate.id == id) {
                        running.remove(index);
                        let _ = events.send(finished(id, FinishReason::Cancelled));
                    }
                }
                Some(Command::Duty { percent }) => script.lock().unwrap().duties.push(percent),
                Some(Command::Adapters | Command::Stats | Command::ReadBandwidth { .. }) => {}
            },
            () = tokio::time::sleep_until(prefilling.front().map_or_else(Instant::now, |next| next.0)), if !prefilling.is_empty() => {
                if let Some((_, id, tokens)) = prefilling.pop_front() {
                    let _ = events.send(Event::Prefilled { id, tokens });
                }
            }
            () = tokio::time::sleep(TOKEN_TIME), if prefilling.is_empty() && (!running.is_empty() || !embedding.is_empty()) => {
                if !script.lock().unwrap().holds_vectors {
                    for (id, task) in std::mem::take(&mut embedding) {
                        let Work::Embed(embedding) = &task.work else {
                            unreachable!("only such tasks are kept here")
                        };
                        let texts = embedding.texts(&task.input).unwrap();
                        let vectors = texts.into_iter().map(vector_of).collect();
                        let _ = events.send(Event::Embedded(Embedded { id, vectors, elapsed_ms: 3 }));
                    }
                }
                let mut index = 0;
                while index < running.len() {
                    let (generate, position) = &mut running[index];
                    let mut script = script.lock().unwrap();
                    if script.die_at.front() == Some(position) {
                        script.die_at.pop_front();
                        return;
                    }
                    if script.gone.contains(&device) {
                        return;
                    }
                    let _ = events.send(Event::Tokens {
                        id: generate.id,
                        tokens: vec![TokenOutput {
                            id: token_at(*position),
                            logprob: None,
                            alternatives: Vec::new(),
                        }],
                    });
                    *position += 1;
                    let reason = if script.ends_at == Some(*position) {
                        Some(FinishReason::EndOfText)
                    } else {
                        (*position >= generate.task.most_output_tokens()).then_some(FinishReason::Length)
                    };
                    if let Some(reason) = reason {
                        let _ = events.send(finished(generate.id, reason));
                        running.remove(index);
                    } else {
                        index += 1;
                    }
                }
            }
        }
    }
}

fn loaded(load: &Load, script: &EngineScript) -> Loaded {
    let embeds = script.embeds;
    let model = model_in(&load.path);
    let ids = vec![(Profile::P32, model), (Profile::P16, MODEL_P16)];
    Loaded {
        model: if load.profile == Profile::P32 {
            model
        } else {
            MODEL_P16
        },
        profile: load.profile,
        ids,
        name: "tiny".to_owned(),
        architecture: if embeds { "bert" } else { "llama" }.to_owned(),
        embeds,
        device: DeviceInfo {
            name: "Fake".to_owned(),
            backend: "cpu/avx2".to_owned(),
            reason: "it is the only one".to_owned(),
        },
        context_tokens: script
            .context_tokens
            .unwrap_or(if embeds { 4 } else { 65_536 }),
        vocabulary: 2000,
        load_ms: 1,
        weight_bytes: 1,
        bounds: Vec::new(),
    }
}

fn finished(id: u64, reason: FinishReason) -> Event {
    Event::Finished(Finished {
        id,
        reason,
        prefill_ms: 4,
        decode_ms: 9,
    })
}

pub(crate) fn failure(code: FailureCode, message: &str) -> Failure {
    Failure {
        code,
        message: message.to_owned(),
    }
}

// ---------------------------------------------------------------------------------------------

/// A job in the fake balancer's books.
pub(crate) struct BookedJob {
    pub(crate) spec: JobSpec,
    pub(crate) holder: bool,
    pub(crate) tokens: Vec<u32>,
    pub(crate) commits: u32,
    chain: ChunkChain,
    pub(crate) finish: Option<FinishReason>,
    pub(crate) vectors: Vec<Vector>,
    pub(crate) released: Option<String>,
    pub(crate) cancel: bool,
    /// When each batch without tokens came, and how far it said that the prompt is.
    pub(crate) prefilled: Vec<(Instant, u32)>,
    nonces: BTreeSet<Hash>,
}

pub(crate) struct BookedAudit {
    pub(crate) accepted: u32,
    pub(crate) commitment: Option<Hash>,
    pub(crate) open: bool,
    pub(crate) reported: bool,
    pub(crate) report: Option<AuditReport>,
    pub(crate) declined: Option<String>,
    pub(crate) task: Task,
}

/// A task that writes after three tokens.
fn writing_task(max_tokens: u32) -> Task {
    let seed = JobSeed::from_bytes([3; 32]);
    let writing = Writing::new(Sampling::GREEDY, max_tokens, seed);
    Task::write(MODEL, vec![1, 2, 3], writing)
}

#[derive(Default)]
pub(crate) struct Books {
    pub(crate) unreachable: bool,
    pub(crate) refuse_version: bool,
    /// The answers to the next sessions.
    pub(crate) refuse_sessions: VecDeque<RefusalCode>,
    /// When sessions were asked for.
    pub(crate) session_calls: Vec<Instant>,
    /// The answer to so many output calls is lost after they took effect.
    pub(crate) lose_answers: u32,
    pub(crate) lose_claims: u32,
    pub(crate) refuse_claims: Option<RefusalCode>,
    pub(crate) refuse_output: Option<RefusalCode>,
    pub(crate) lose_commits: u32,
    pub(crate) policy: Option<Policy>,
    pub(crate) reference: bool,
    /// What clients can ask for, where it is not just [`MODEL`].
    pub(crate) served: Option<Vec<ModelId>>,
    pub(crate) jobs: BTreeMap<JobId, BookedJob>,
    pub(crate) audits: BTreeMap<AuditId, BookedAudit>,
    /// What went wrong that a balancer would never accept.
    pub(crate) violations: Vec<String>,
    pub(crate) sessions: u32,
    pub(crate) challenges: u32,
    pub(crate) claims: u32,
    pub(crate) output_calls: u32,
    pub(crate) concurrent_outputs: u32,
    pub(crate) most_concurrent_outputs: u32,
    pub(crate) speed_tests: u32,
    /// In bytes per second.
    pub(crate) speed: Option<u64>,
    pub(crate) last_event_ids: Vec<Option<String>>,
    pub(crate) states: Vec<NodeState>,
    pub(crate) points: Points,
    /// What accounts granted, as this balancer tells it.
    pub(crate) grants: BTreeMap<LinkId, LinkGrant>,
    pub(crate) grant_calls: u32,
    pub(crate) used_up: bool,
    pub(crate) ownerships: Vec<Ownership>,
    pub(crate) owner: Option<AccountId>,
    token: Option<String>,
    challenge: Option<Hash>,
    stream: Option<mpsc::UnboundedSender<Result<ReceivedEvent, LinkError>>>,
    event_id: u64,
}

#[derive(Clone, Default)]
pub(crate) struct FakeBalancer(Arc<Mutex<Books>>);

impl FakeBalancer {
    pub(crate) fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap()
    }

    pub(crate) fn send(&self, event: NodeEvent) {
        let mut books = self.books();
        books.event_id += 1;
        let id = Some(books.event_id.to_string());
        let stream = books.stream.as_ref().expect("the node listens");
        let _ = stream.send(Ok(ReceivedEvent { id, event }));
    }

    /// Ends the event stream; the session stays.
    pub(crate) fn cut(&self) {
        self.books().stream = None;
    }

    /// Forgets the session, as after a restart.
    pub(crate) fn restart(&self) {
        let mut books = self.books();
        books.token = None;
        books.stream = None;
    }

    /// Forgets the session, but keeps the event stream open.
    pub(crate) fn forget_token(&self) {
        self.books().token = None;
    }

    pub(crate) fn go_away(&self) {
        let mut books = self.books();
        books.unreachable = true;
        books.stream = None;
    }

    pub(crate) fn come_back(&self) {
        self.books().unreachable = false;
    }

    pub(crate) fn book(&self, number: u8, max_tokens: u32) -> JobId {
        self.book_attempt(number, max_tokens, 1, &[])
    }

    /// A job for another model than the first.
    pub(crate) fn book_of(&self, number: u8, max_tokens: u32, model: ModelId) -> JobId {
        let job = self.book(number, max_tokens);
        let mut books = self.books();
        books.jobs.get_mut(&job).unwrap().spec.task.model = model;
        job
    }

    pub(crate) fn book_attempt(
        &self,
        number: u8,
        max_tokens: u32,
        attempt: u32,
        output: &[u32],
    ) -> JobId {
        let job = JobId::from_bytes([number; 16]);
        let spec = JobSpec {
            version: VERSION,
            job,
            attempt,
            task: writing_task(max_tokens),
            output: output.to_vec(),
            lease_ms: 10_000,
        };
        let booked = BookedJob {
            chain: ChunkChain::new(job, attempt, spec.start()),
            tokens: output.to_vec(),
            spec,
            holder: false,
            commits: 0,
            finish: None,
            vectors: Vec::new(),
            released: None,
            cancel: false,
            prefilled: Vec::new(),
            nonces: BTreeSet::new(),
        };
        self.books().jobs.insert(job, booked);
        job
    }

    /// A job to embed two texts, together longer than the engine's context.
    pub(crate) fn book_embedding(&self, number: u8) -> JobId {
        let job = self.book(number, 0);
        let mut books = self.books();
        let spec = &mut books.jobs.get_mut(&job).unwrap().spec;
        spec.task = Task::embed(MODEL, &[vec![1, 2, 3], vec![4, 5]]);
        job
    }

    pub(crate) fn offer(&self, job: JobId) {
        let offer = {
            let books = self.books();
            let spec = &books.jobs[&job].spec;
            Offer {
                job,
                attempt: spec.attempt,
                model: spec.task.model,
                prompt_tokens: spec.task.input_tokens(),
                output_tokens: spec.output.len() as u32,
                max_tokens: spec.task.most_output_tokens(),
                price: Price {
                    input: 1,
                    output: 2,
                },
                deadline_ms: 5_000,
            }
        };
        self.send(NodeEvent::Offer(offer));
    }

    pub(crate) fn book_audit(&self, number: u8) -> AuditId {
        let audit = AuditId::from_bytes([number; 16]);
        let booked = BookedAudit {
            accepted: 0,
            commitment: None,
            open: false,
            reported: false,
            report: None,
            declined: None,
            task: writing_task(40),
        };
        self.books().audits.insert(audit, booked);
        audit
    }

    pub(crate) fn announce(&self, audit: AuditId) {
        self.send(NodeEvent::Audit {
            audit,
            model: MODEL,
            tokens: 43,
            deadline_ms: 60_000,
        });
    }

    pub(crate) fn reveal(&self, audit: AuditId) {
        self.books().audits.get_mut(&audit).unwrap().open = true;
        self.send(NodeEvent::Reveal { audit });
    }

    /// The whole output is what an undisturbed engine would have produced.
    pub(crate) fn assert_unbroken(&self, job: JobId, length: u32) {
        let books = self.books();
        let expected: Vec<_> = (0..length).map(token_at).collect();
        assert_eq!(books.jobs[&job].tokens, expected);
        assert_eq!(books.violations, Vec::<String>::new());
        assert!(
            books.most_concurrent_outputs <= 1,
            "one call at a time for a job"
        );
    }

    fn call<T: Send + 'static>(
        &self,
        token: Option<Token>,
        act: impl FnOnce(&mut Books) -> Result<T, LinkError> + Send + 'static,
    ) -> Call<T> {
        let books = self.0.clone();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let mut books = books.lock().unwrap();
            if books.unreachable {
                return Err(LinkError::Unreachable(Unreachable::NobodyListens));
            }
            if let Some(token) = token
                && books.token.as_deref() != Some(token.secret())
            {
                return Err(refused(RefusalCode::NoSession));
            }
            act(&mut books)
        })
    }
}

pub(crate) fn refused(code: RefusalCode) -> LinkError {
    LinkError::Refused(Refusal {
        code,
        message: format!("refused: {code:?}"),
    })
}

fn lost() -> LinkError {
    LinkError::Unreachable(Unreachable::Broken)
}

impl BalancerLink for FakeBalancer {
    fn url(&self) -> &'static str {
        "https://fake.example"
    }

    fn challenge(&self, request: ChallengeRequest) -> Call<Challenge> {
        self.call(None, move |books| {
            books.challenges += 1;
            if books.refuse_version {
                return Err(refused(RefusalCode::UnknownVersion));
            }
            assert_eq!(request.node, node_id());
            let challenge = Hash::from_bytes([books.challenges as u8; 32]);
            books.challenge = Some(challenge);
            Ok(Challenge {
                challenge,
                work_bits: 0,
            })
        })
    }

    fn invitation(&self, _: InvitationRequest) -> Call<Invited> {
        self.call(None, |_| Err(refused(RefusalCode::InvitationUnknown)))
    }

    fn join(&self, _: JoinRequest) -> Call<Joined> {
        self.call(None, |_| Err(refused(RefusalCode::InvitationUnknown)))
    }

    fn open_session(&self, request: SessionRequest) -> Call<Session> {
        self.call(None, move |books| {
            let challenge = books.challenge.take();
            assert_eq!(
                challenge,
                Some(request.challenge),
                "a challenge serves once"
            );
            request
                .signature
                .verify(
                    &request.node,
                    session_digest(&request.node, &request.challenge),
                )
                .unwrap();
            books.session_calls.push(Instant::now());
            if let Some(code) = books.refuse_sessions.pop_front() {
                return Err(refused(code));
            }
            books.sessions += 1;
            let token = format!("session-{}", books.sessions);
            books.token = Some(token.clone());
            Ok(Session {
                token,
                reference: books.reference,
                policy: books.policy.clone().unwrap_or_else(Policy::practice),
                requirements: Vec::new(),
                timeout_ms: 30_000,
            })
        })
    }

    fn network(&self) -> Call<Network> {
        self.call(None, |books| {
            Ok(Network {
                name: "fake".to_owned(),
                policy: books.policy.clone().unwrap_or_else(Policy::practice),
                ..Network::default()
            })
        })
    }

    fn events(&self, token: Token, last_event_id: Option<String>) -> Call<EventStream> {
        self.call(Some(token), |books| {
            books.last_event_ids.push(last_event_id);
            let (stream, events) = mpsc::unbounded_channel();
            books.stream = Some(stream);
            let events = futures_util::stream::unfold(events, |mut events| async move {
                events.recv().await.map(|event| (event, events))
            });
            Ok(events.boxed())
        })
    }

    fn models(&self, token: Token) -> Call<Vec<ModelOffer>> {
        self.call(Some(token), |books| {
            let served = books.served.clone().unwrap_or_else(|| vec![MODEL]);
            let offer = |model| ModelOffer {
                model,
                name: "tiny-chat".to_owned(),
                price: Price {
                    input: 1,
                    output: 2,
                },
                context_tokens: 65_536,
            };
            Ok(served.into_iter().map(offer).collect())
        })
    }

    fn speed_test(&self, token: Token, _: u64) -> Call<u64> {
        self.call(Some(token), |books| {
            books.speed_tests += 1;
            Ok(books.speed.unwrap_or(20_000_000))
        })
    }

    fn state(&self, token: Token, state: NodeState) -> Call<()> {
        self.call(Some(token), |books| {
            books.states.push(state);
            Ok(())
        })
    }

    fn claim(&self, token: Token, job: JobId, claim: Claim) -> Call<JobSpec> {
        self.call(Some(token), move |books| {
            books.claims += 1;
            claim
                .signature
                .verify(
                    &node_id(),
                    claim_digest(job, claim.attempt, &node_id(), &claim.nonce),
                )
                .unwrap();
            if let Some(code) = books.refuse_claims {
                return Err(refused(code));
            }
            let booked = books.jobs.get_mut(&job).unwrap();
            assert_eq!(booked.spec.attempt, claim.attempt);
            assert!(
                booked.nonces.insert(claim.nonce),
                "a claim is new each time"
            );
            booked.holder = true;
            let spec = booked.spec.clone();
            if books.lose_claims > 0 {
                books.lose_claims -= 1;
                return Err(lost());
            }
            Ok(spec)
        })
    }

    fn output(&self, token: Token, job: JobId, batch: OutputBatch) -> Call<OutputAck> {
        {
            let mut books = self.books();
            books.concurrent_outputs += 1;
            books.most_concurrent_outputs =
                books.most_concurrent_outputs.max(books.concurrent_outputs);
        }
        let answer = self.call(Some(token), move |books| {
            books.output_calls += 1;
            if let Some(code) = books.refuse_output {
                return Err(refused(code));
            }
            let booked = books
                .jobs
                .get_mut(&job)
                .ok_or_else(|| refused(RefusalCode::UnknownJob))?;
            if !booked.holder || booked.spec.attempt != batch.attempt {
                return Err(refused(RefusalCode::LeaseEnded));
            }
            let fault = take(booked, &batch);
            let ack = OutputAck {
                received: booked.tokens.len() as u32,
                chunks: booked.commits,
                finished: booked.finish.is_some(),
                cancel: booked.cancel,
            };
            books.violations.extend(fault);
            if books.lose_answers > 0 {
                books.lose_answers -= 1;
                return Err(lost());
            }
            Ok(ack)
        });
        let books = self.0.clone();
        Box::pin(async move {
            let answer = answer.await;
            books.lock().unwrap().concurrent_outputs -= 1;
            answer
        })
    }

    fn release(&self, token: Token, job: JobId, release: Release) -> Call<()> {
        self.call(Some(token), move |books| {
            let booked = books
                .jobs
                .get_mut(&job)
                .ok_or_else(|| refused(RefusalCode::UnknownJob))?;
            if !booked.holder || booked.spec.attempt != release.attempt {
                return Err(refused(RefusalCode::NotYours));
            }
            booked.holder = false;
            booked.released = Some(release.reason);
            Ok(())
        })
    }

    fn accept_audit(&self, token: Token, audit: AuditId) -> Call<AuditSpec> {
        self.call(Some(token), move |books| {
            let booked = books.audits.get_mut(&audit).unwrap();
            booked.accepted += 1;
            let task = booked.task.clone();
            Ok(AuditSpec {
                version: VERSION,
                audit,
                output: (0..task.most_output_tokens()).map(token_at).collect(),
                task,
                deadline_ms: 60_000,
            })
        })
    }

    fn decline_audit(&self, token: Token, audit: AuditId, decline: Decline) -> Call<()> {
        self.call(Some(token), move |books| {
            books.audits.get_mut(&audit).unwrap().declined = Some(decline.reason);
            Ok(())
        })
    }

    fn commit_audit(&self, token: Token, audit: AuditId, commit: AuditCommit) -> Call<()> {
        self.call(Some(token), move |books| {
            commit
                .signature
                .verify(&node_id(), audit_commit_digest(audit, commit.commitment))
                .unwrap();
            let Some(booked) = books.audits.get_mut(&audit) else {
                return Err(refused(RefusalCode::UnknownAudit));
            };
            if booked.commitment.is_some() {
                return Err(refused(RefusalCode::WrongStep));
            }
            booked.commitment = Some(commit.commitment);
            if books.lose_commits > 0 {
                books.lose_commits -= 1;
                return Err(lost());
            }
            Ok(())
        })
    }

    fn report_audit(&self, token: Token, audit: AuditId, reveal: AuditReveal) -> Call<()> {
        self.call(Some(token), move |books| {
            let booked = books.audits.get_mut(&audit).unwrap();
            if !booked.open || booked.reported {
                return Err(refused(RefusalCode::WrongStep));
            }
            assert_eq!(
                booked.commitment,
                Some(reveal.report.commitment(&reveal.salt)),
                "the report is the one that was committed to"
            );
            booked.reported = true;
            booked.report = Some(reveal.report);
            Ok(())
        })
    }

    fn link_grant(&self, token: Token, link: LinkId) -> Call<LinkGrant> {
        self.call(Some(token), move |books| {
            books.grant_calls += 1;
            let grant = books.grants.get(&link).copied();
            grant.ok_or_else(|| refused(RefusalCode::LinkUnknown))
        })
    }

    fn own(&self, token: Token, ownership: Ownership) -> Call<Linked> {
        self.call(Some(token), move |books| {
            assert_eq!(ownership.node, node_id());
            if books.used_up {
                return Err(refused(RefusalCode::LinkUsedUp));
            }
            books.owner = Some(ownership.grant.account);
            books.ownerships.push(ownership);
            Ok(Linked {
                account: ownership.grant.account,
            })
        })
    }

    fn disown(&self, token: Token) -> Call<()> {
        self.call(Some(token), |books| {
            books.owner = None;
            Ok(())
        })
    }

    fn points(&self, token: Token) -> Call<Points> {
        self.call(Some(token), |books| Ok(books.points))
    }

    fn history(&self, token: Token, _: u32) -> Call<Vec<WorkRecord>> {
        self.call(Some(token), |_| Ok(Vec::new()))
    }
}

/// Takes a batch as a balancer does; gives what is wrong with it.
fn take(booked: &mut BookedJob, batch: &OutputBatch) -> Option<String> {
    let known = booked.tokens.len();
    let position = batch.position as usize;
    if batch.tokens.is_empty() && batch.finish.is_none() {
        booked.prefilled.push((Instant::now(), batch.prefilled));
    }
    if position > known {
        return Some(format!("a gap: {position} after {known}"));
    }
    for (offset, token) in batch.tokens.iter().enumerate() {
        match booked.tokens.get(position + offset) {
            Some(have) if *have == token.id => {}
            Some(have) => return Some(format!("{have} became {}", token.id)),
            None => booked.tokens.push(token.id),
        }
    }
    for commit in &batch.commits {
        if commit.index < booked.commits {
            continue;
        }
        while booked.chain.position() < commit.end {
            let Some(token) = booked.tokens.get(booked.chain.position() as usize) else {
                return Some("a commitment before its tokens".to_owned());
            };
            booked.chain.push(*token);
        }
        booked.chain.close_last();
        if booked.chain.head() != commit.head {
            return Some(format!("chunk {} is not what it commits to", commit.index));
        }
        booked.commits += 1;
    }
    if let Some(finish) = &batch.finish {
        let head = match finish.reason {
            FinishReason::Embedded => vectors_hash(&finish.vectors),
            _ => booked.chain.head(),
        };
        if finish
            .verify(&node_id(), booked.spec.job, batch.attempt)
            .is_err()
            || finish.head != head
            || finish.end as usize != booked.tokens.len() + finish.vectors.len()
        {
            return Some("the signed end is not that of this output".to_owned());
        }
        booked.finish = Some(finish.reason);
        booked.vectors.clone_from(&finish.vectors);
    }
    None
}

// ---------------------------------------------------------------------------------------------

/// Does what takes real time, such as a test's own SQL, at one moment of the paused clock. While
/// anything is simply awaited, tokio sees an idle thread and lets the node's time run on; it does
/// not as long as a blocking task runs.
pub(crate) async fn while_time_stands<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || runtime.block_on(work))
        .await
        .unwrap()
}

/// A node with all its fakes.
pub(crate) struct Rig {
    pub(crate) balancer: FakeBalancer,
    pub(crate) engine: FakeEngine,
    pub(crate) machine: Arc<FakeMachine>,
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) store: Store,
    pub(crate) node: Node,
    pub(crate) folder: Arc<tempfile::TempDir>,
    /// What computes, and what.
    devices: Vec<DeviceChoice>,
    models: Vec<ModelConfig>,
    /// What the node sees around it.
    pub(crate) around: watch::Sender<Surroundings>,
    pub(crate) rules: watch::Sender<Rules>,
    /// What the node sees on its GPUs.
    pub(crate) gpus: watch::Sender<Vec<GpuSeen>>,
    /// What the node knows of its owner.
    pub(crate) belonging: watch::Sender<Belonging>,
    pub(crate) ready_to_sleep: mpsc::UnboundedReceiver<()>,
}

impl Rig {
    /// A node that is connected and has its model loaded.
    pub(crate) async fn ready() -> Self {
        let rig = Self::start(FakeBalancer::default(), FakeEngine::default()).await;
        rig.until_ready().await;
        rig
    }

    /// Pauses the clock, then starts a node.
    pub(crate) async fn start(balancer: FakeBalancer, engine: FakeEngine) -> Self {
        let models = vec![model_config(TINY, None)];
        Self::start_on(
            vec![DeviceChoice::Auto],
            Vec::new(),
            models,
            balancer,
            engine,
        )
        .await
    }

    /// The same with several devices or models.
    pub(crate) async fn start_on(
        devices: Vec<DeviceChoice>,
        gpus: Vec<Gpu>,
        models: Vec<ModelConfig>,
        balancer: FakeBalancer,
        engine: FakeEngine,
    ) -> Self {
        tokio::time::pause();
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Self::start_in(folder, devices, gpus, models, balancer, engine).await
    }

    async fn start_in(
        folder: Arc<tempfile::TempDir>,
        devices: Vec<DeviceChoice>,
        gpus: Vec<Gpu>,
        models: Vec<ModelConfig>,
        balancer: FakeBalancer,
        engine: FakeEngine,
    ) -> Self {
        let path = folder.path().join("node.sqlite");
        let store = while_time_stands(async move { Store::open(&path).await })
            .await
            .unwrap();
        let machine = Arc::new(FakeMachine(Mutex::new(Hardware {
            os: "Test".to_owned(),
            cpu: "Test".to_owned(),
            cpu_cores: Some(4),
            ram_bytes: Some(32 << 30),
            free_disk_bytes: Some(64 << 30),
            network_bytes_per_second: None,
            gpus,
        })));
        let clock = Arc::new(FakeClock {
            start: Instant::now(),
        });
        let (around, seen) = watch::channel(Surroundings::default());
        let (rules, rules_in) = watch::channel(Rules::default());
        let (gpus, gpus_in) = watch::channel(Vec::new());
        let (belonging, belonging_in) = watch::channel(Belonging::default());
        let (ready_out, ready_to_sleep) = mpsc::unbounded_channel();
        let node = Node::start(
            NodeConfig {
                models: models.clone(),
                devices: devices.clone(),
                governor: GovernorPolicy::default(),
                hold: None,
            },
            NodeKey::from_secret(&SECRET),
            store.clone(),
            Edges {
                balancer: Some(Arc::new(balancer.clone())),
                engine: Arc::new(engine.clone()),
                hardware: machine.clone(),
                clock: clock.clone(),
                entropy: Arc::new(CountingEntropy::default()),
                around: Around {
                    seen,
                    rules: rules_in,
                    gpus: gpus_in,
                    belonging: belonging_in,
                    ready_to_sleep: ready_out,
                },
            },
        )
        .await
        .unwrap();
        Self {
            balancer,
            engine,
            machine,
            clock,
            store,
            node,
            folder,
            devices,
            models,
            around,
            rules,
            gpus,
            belonging,
            ready_to_sleep,
        }
    }

    /// The node's program dies: nothing is told to anyone. Another one starts on the same folder.
    pub(crate) async fn crash_and_restart(self) -> Self {
        let Self {
            balancer,
            folder,
            store,
            devices,
            models,
            machine,
            ..
        } = self.kill();
        while_time_stands(async move { store.close().await }).await;
        let gpus = machine.0.lock().unwrap().gpus.clone();
        let engine = FakeEngine::default();
        Self::start_in(folder, devices, gpus, models, balancer, engine).await
    }

    /// Cuts the node off from the balancer first, so that its ending is as silent as a crash.
    fn kill(self) -> Self {
        let books = std::mem::take(&mut *self.balancer.books());
        let balancer = FakeBalancer::default();
        *balancer.books() = Books {
            token: None,
            stream: None,
            unreachable: false,
            ..books
        };
        self.balancer.books().unreachable = true;
        Self { balancer, ..self }
    }

    pub(crate) async fn until_ready(&self) {
        self.until("the node is ready", || {
            self.balancer.books().stream.is_some()
                && self
                    .balancer
                    .books()
                    .states
                    .last()
                    .is_some_and(|state| state.models == [MODEL] && state.free_slots > 0)
        })
        .await;
    }

    /// Waits in the clock's time, at most twenty minutes of it.
    pub(crate) async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let start = Instant::now();
        let mut step = Duration::from_millis(5);
        while !condition() {
            assert!(
                start.elapsed() < Duration::from_mins(10),
                "never happened: {what}; {:?}",
                self.node.snapshots().borrow().state
            );
            tokio::time::sleep(step).await;
            if start.elapsed() > Duration::from_secs(20) {
                step = Duration::from_secs(1);
            }
        }
    }

    /// The work done, newest first.
    pub(crate) async fn history(&self) -> Vec<JobRow> {
        let query = JobsQuery {
            limit: 10,
            ..JobsQuery::default()
        };
        self.store.jobs(query).await.unwrap().jobs
    }

    pub(crate) async fn until_finished(&self, job: JobId) {
        self.until("the job is finished", || {
            self.balancer.books().jobs[&job].finish.is_some()
        })
        .await;
    }

    pub(crate) async fn until_tokens(&self, job: JobId, count: usize) {
        self.until("tokens arrive", || {
            self.balancer.books().jobs[&job].tokens.len() >= count
        })
        .await;
    }

    pub(crate) async fn until_sentence(&self, part: &str) -> NodeSnapshot {
        let snapshots = self.node.snapshots();
        self.until(part, || snapshots.borrow().state.sentence.contains(part))
            .await;
        snapshots.borrow().clone()
    }

    pub(crate) async fn until_connected(&self) {
        let snapshots = self.node.snapshots();
        self.until("connected", || {
            matches!(snapshots.borrow().connection, Connection::Connected { .. })
        })
        .await;
    }

    pub(crate) async fn after(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
