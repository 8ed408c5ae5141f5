//! Short lives of a job, walked through one by one: claims, output, releases, leases, hang-ups and
//! reports in every order, with a database that fails and a process that dies at every point.
//!
//! The walk drives the real state machine: the calls of nodes, the drivers, the real database.
//! Only time stands still until a step lets it pass.

use std::path::Path;
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use infera_model::{Gguf, Head};
use infera_protocol::audit::audit_commit_digest;
use infera_protocol::node_api::{
    AuditCommit, AuditReveal, Claim, NodeState, Price, Refusal, Release, Standing, claim_digest,
};
use infera_protocol::requirements::{Hardware, Policy};
use infera_protocol::{
    AuditReport, ChunkChain, Finish, FinishReason, Hash, JobId, Mismatch, NodeId, NodeKey,
    OutputBatch, Profile, Route, Sampling, Task, TokenOutput, VERSION, Writing, job_seed,
};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

use crate::config::Config;
use crate::db::{Database, Fault};
use crate::dispatch::{Balancer, Core, JobClient};
use crate::edges::Edges;
use crate::job::{AuditStep, Job, Speeds, Stage, Submission};
use crate::joining::Opening;
use crate::keys::Client;
use crate::node_http::token_hash;
use crate::nodes::{Admission, Subscription};
use crate::{catalog, ledger};

const MAX_TOKENS: u32 = 48;
const PROMPT: u32 = 10;
const PRICE: Price = Price {
    input: 100,
    output: 1000,
};
/// Workers, then references.
const WORKERS: [u8; 2] = [1, 2];
const REFERENCES: [u8; 2] = [3, 4];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Claim(u8),
    /// The holder writes a chunk and a few tokens more.
    Write,
    /// It writes what is left, and its end.
    Finish,
    /// The same with tokens that no reference agrees with.
    Cheat,
    Release,
    /// Time passes beyond a lease.
    Lapse,
    /// The client hangs up.
    Leave,
    /// References do all that they are asked.
    Check,
    /// The process dies and starts again.
    Crash,
}

const STEPS: [Step; 10] = [
    Step::Claim(1),
    Step::Claim(2),
    Step::Write,
    Step::Finish,
    Step::Cheat,
    Step::Release,
    Step::Lapse,
    Step::Leave,
    Step::Check,
    Step::Crash,
];

/// What happens at the next commit of a step.
const FAULTS: [Fault; 2] = [Fault::BeforeCommit, Fault::AfterCommit];

/// A step, and what the database does during it.
type Taken = (Step, Option<Fault>);

struct World {
    folder: tempfile::TempDir,
    process: Option<Process>,
    job: JobId,
    /// Output positions from which on the tokens are made up, by attempt.
    cheated: Vec<(u32, u32)>,
}

/// One run of the balancer.
struct Process {
    core: Arc<Core>,
    client: Option<JobClient>,
    _streams: Vec<Subscription>,
    /// Time does not run by itself while a blocking task runs; it ends with this.
    _stop: mpsc::Sender<()>,
    /// Dropped last: everything that ran ends.
    runtime: Runtime,
}

fn head() -> &'static Head {
    static HEAD: OnceLock<Head> = OnceLock::new();
    HEAD.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/model/tiny-llama.gguf");
        Head::from_gguf(&Gguf::open(&path).unwrap()).unwrap()
    })
}

fn key(number: u8) -> NodeKey {
    NodeKey::from_secret(&[number; 32])
}

/// The session token of a node.
fn session(number: u8) -> String {
    format!("session-{number}")
}

fn id(number: u8) -> NodeId {
    key(number).id()
}

/// The token that an honest node writes at a position. No end token.
fn token(position: u32, cheats: bool) -> u32 {
    300 + position % 50 + if cheats { 100 } else { 0 }
}

impl World {
    /// A balancer with a model and nodes, and nobody who asks.
    fn empty() -> Self {
        let mut world = Self {
            folder: tempfile::tempdir().unwrap(),
            process: None,
            job: JobId::from_bytes([0; 16]),
            cheated: Vec::new(),
        };
        world.start();
        let process = world.process();
        process.runtime.block_on(async {
            let core = &process.core;
            catalog::add(&core.database, head(), Profile::P32, "tiny", PRICE, 0)
                .await
                .unwrap();
            core.read_models().await;
        });
        world
    }

    fn new() -> Self {
        let mut world = Self::empty();
        let process = world.process();
        let (client, job) = process.runtime.block_on(async {
            let core = &process.core;
            let model = core.catalog.get("tiny").unwrap();
            let prompt: Vec<u32> = (300..300 + PROMPT).collect();
            let seed = job_seed(&[7; 32], &model.id, &prompt, Sampling::GREEDY, 0);
            let writing = Writing::new(Sampling::GREEDY, MAX_TOKENS, seed);
            let submission = Submission {
                client: "ann".to_owned(),
                price: model.price,
                task: Task::write(model.id, prompt, writing),
                model,
                route: Route::Any,
                wait: false,
                keep: false,
                rerun: false,
            };
            let ann = Client::of_operator("ann", None);
            let mut clients = core.submit(&ann, vec![submission]).await.unwrap();
            let client = clients.pop().unwrap();
            let job = client.job.id;
            (client, job)
        });
        world.job = job;
        world.process().client = Some(client);
        world.settle_down();
        world
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        let (stop, stopped) = mpsc::channel::<()>();
        let (core, streams) = runtime.block_on(async {
            tokio::task::spawn_blocking(move || stopped.recv().is_err());
            let database = Database::open(self.folder.path()).await.unwrap();
            let config = Config {
                subsidy_cap: 1_000_000,
                canary_rate: 0.0,
                ..Config::default()
            };
            let edges = Edges::system();
            let started = Balancer::start(database, config, Policy::practice(), edges).await;
            let core = started.unwrap().0;
            let streams = join(&core);
            (core, streams)
        });
        self.process = Some(Process {
            core,
            client: None,
            _streams: streams,
            _stop: stop,
            runtime,
        });
    }

    /// Does a step. False if it means nothing now.
    fn take(&mut self, (step, fault): Taken) -> bool {
        if step == Step::Crash {
            if fault.is_some() {
                return false;
            }
            self.process = None;
            self.start();
            self.settle_down();
            return true;
        }
        let (job, mut cheated) = (self.job, std::mem::take(&mut self.cheated));
        let process = self.process();
        let core = Arc::clone(&process.core);
        core.database.fail_next(fault);
        let client = &mut process.client;
        let taken = process.runtime.block_on(async {
            match step {
                Step::Claim(number) => claim(&core, job, number).await,
                Step::Write => write(&core, job, 34, None, &mut cheated).await,
                Step::Finish => write(&core, job, MAX_TOKENS, Some(false), &mut cheated).await,
                Step::Cheat => write(&core, job, MAX_TOKENS, Some(true), &mut cheated).await,
                Step::Release => release(&core, job).await,
                Step::Lapse => {
                    let held = match core.job(job) {
                        Some(live) => !matches!(live.state.lock().await.stage, Stage::Done),
                        None => false,
                    };
                    // Not in one step: a process that stood still takes no lease.
                    for _ in 0..62 {
                        tokio::time::advance(Duration::from_millis(500)).await;
                        for _ in 0..3 {
                            tokio::task::yield_now().await;
                        }
                        // The database works in real time: it must not seem slow.
                        while !core.database.is_idle() {
                            tokio::task::yield_now().await;
                            std::thread::sleep(Duration::from_micros(50));
                        }
                    }
                    held
                }
                Step::Leave => client.take().is_some(),
                Step::Check => check(&core, job, &cheated).await,
                Step::Crash => false,
            }
        });
        self.cheated = cheated;
        self.settle_down();
        let consumed = self.process().core.database.fail_next(None);
        // A fault that nothing met is the same life as without.
        taken && (fault.is_none() || consumed)
    }

    /// Lets what runs go on until nothing changes any more.
    fn settle_down(&mut self) {
        let job = self.job;
        let process = self.process();
        let core = Arc::clone(&process.core);
        process.runtime.block_on(async {
            let (mut last, mut still) = (String::new(), 0);
            while still < 8 {
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                std::thread::sleep(Duration::from_micros(150));
                let now = match core.job(job) {
                    _ if !core.database.is_idle() => "writing".to_owned(),
                    Some(live) => match live.state.try_lock() {
                        Ok(job) => describe(&job),
                        Err(_) => "busy".to_owned(),
                    },
                    None => "gone".to_owned(),
                };
                let moves = now != last || now == "busy" || now == "writing";
                still = if moves { 0 } else { still + 1 };
                last = now;
            }
        });
    }

    /// Whatever has happened, the job ends, its books are closed, and nobody got what was not paid.
    fn end(mut self, life: &[Taken]) {
        let job = self.job;
        self.take((Step::Leave, None));
        for _ in 0..60 {
            self.take((Step::Check, None));
            self.take((Step::Lapse, None));
            if self.process().core.job(job).is_none() {
                break;
            }
        }
        let process = self.process();
        let core = Arc::clone(&process.core);
        assert!(core.job(job).is_none(), "it never ends: {life:?}");
        process.runtime.block_on(async {
            let trial = ledger::trial_balance(&core.database).await.unwrap();
            assert_eq!(trial.sum, 0, "{life:?}");
            let balance = |name: &str| -> i64 {
                let of = trial
                    .accounts
                    .iter()
                    .filter(|account| account.account.contains(name));
                of.map(|account| account.balance).sum()
            };
            assert_eq!(balance("escrow"), 0, "{life:?} {trial:?}");
            assert_eq!(balance(":pending"), 0, "{life:?} {trial:?}");
            let charged = -balance("client:ann");
            let most = i64::from(PROMPT) * PRICE.input + i64::from(MAX_TOKENS) * PRICE.output;
            assert!((0..=most).contains(&charged), "{life:?} {trial:?}");
            let workers: i64 = WORKERS
                .iter()
                .map(|number| balance(&format!("{}:confirmed", id(*number))))
                .sum();
            assert!(workers * 100 <= charged * 80, "{life:?} {trial:?}");
            let subsidy = (-balance("network")).max(0);
            assert!(subsidy <= 1_000_000, "{life:?} {trial:?}");
            let (state, delivered): (String, bool) =
                sqlx::query_as("SELECT state, delivered FROM jobs WHERE id = ?")
                    .bind(job.to_string())
                    .fetch_one(core.database.read())
                    .await
                    .unwrap();
            assert_eq!((state.as_str(), delivered), ("done", true), "{life:?}");
            assert_eq!(core.places_held(), 0, "{life:?}");
            assert_eq!(core.nodes.places_taken(), 0, "{life:?}");
            assert_eq!(core.live_jobs(), 0, "{life:?}");
        });
    }
}

impl World {
    /// Makes a call and hangs up after it was polled `polls` times. True if it was answered before.
    fn hang_up(&mut self, call: axum::http::Request<axum::body::Body>, polls: usize) -> bool {
        let process = self.process();
        let app = crate::router::router(Arc::clone(&process.core), None);
        let answered = process.runtime.block_on(async {
            let mut answer = Box::pin(app.oneshot(call));
            for _ in 0..polls {
                let polled = std::future::poll_fn(|context| {
                    std::task::Poll::Ready(answer.as_mut().poll(context).is_ready())
                });
                if polled.await {
                    return true;
                }
                // What it waits for goes on meanwhile.
                for _ in 0..5 {
                    tokio::task::yield_now().await;
                }
                std::thread::sleep(Duration::from_micros(100));
            }
            false
        });
        self.settle_down();
        answered
    }
}

/// A call with a JSON body.
fn post(
    path: &str,
    token: &str,
    body: &impl serde::Serialize,
) -> axum::http::Request<axum::body::Body> {
    axum::http::Request::post(path)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(serde_json::to_vec(body).unwrap().into())
        .unwrap()
}

/// What a life has come to, to see whether it moves.
fn describe(job: &Job) -> String {
    let stage = match &job.stage {
        Stage::Seeking(seeking) => format!("seeking {}", seeking.offered.len()),
        Stage::Running(attempt) => format!("running {} {:?}", attempt.number, attempt.finish),
        Stage::Auditing(audits) => {
            let steps: Vec<_> = audits.drawn.iter().map(|audit| audit.step).collect();
            format!("auditing {steps:?} {}", audits.needed)
        }
        Stage::Done => "done".to_owned(),
    };
    format!(
        "{stage} {} {} {}",
        job.received(),
        job.cancelled,
        job.past.len()
    )
}

fn join(core: &Arc<Core>) -> Vec<Subscription> {
    let mut streams = Vec::new();
    for number in WORKERS.into_iter().chain(REFERENCES) {
        let admission = Admission {
            account: None,
            standing: Standing {
                trusted: false,
                reference: REFERENCES.contains(&number),
            },
            meets_requirements: true,
            banned_until_ms: 0,
            verified: 100,
            speeds: Speeds::default(),
        };
        let opening = Opening {
            made: u64::MAX,
            instance: None,
            address: None,
            is_new: false,
            most: usize::MAX,
            most_new: usize::MAX,
        };
        let now = tokio::time::Instant::now();
        let token = token_hash(&session(number));
        // It may have a session already.
        let _ = core
            .nodes
            .open_session(id(number), token, admission, &opening, now);
        let state = NodeState {
            models: vec![head().id(Profile::P32)],
            context_tokens: Vec::new(),
            free_slots: 4,
            paused: None,
            hardware: Hardware::default(),
            report: None,
        };
        core.nodes.set_state(id(number), state, true);
        streams.extend(core.nodes.subscribe(id(number), None));
    }
    streams
}

/// Nodes send a sign of life, or they would count as gone when time passes.
async fn live(core: &Core) {
    let now = tokio::time::Instant::now();
    for number in WORKERS.into_iter().chain(REFERENCES) {
        let _ = core
            .nodes
            .authenticate(Some(token_hash(&session(number))), now);
    }
    // Who waits for nodes is woken a moment later.
    for _ in 0..3 {
        tokio::time::advance(Duration::from_millis(3)).await;
        tokio::task::yield_now().await;
    }
}

async fn claim(core: &Arc<Core>, job: JobId, number: u8) -> bool {
    live(core).await;
    let Some(claim) = claim_of(core, job, number).await else {
        return false;
    };
    reached(core.claim(id(number), job, &claim).await)
}

async fn claim_of(core: &Core, job: JobId, number: u8) -> Option<Claim> {
    let live = core.job(job)?;
    let attempt = live.state.lock().await.attempts + 1;
    let nonce = Hash::from_bytes(core.edges.random());
    let signed = claim_digest(job, attempt, &id(number), &nonce);
    Some(Claim {
        version: VERSION,
        attempt,
        nonce,
        signature: key(number).sign(signed),
    })
}

/// Whether a call meant something, though the database may have failed it.
fn reached<T>(outcome: Result<T, Refusal>) -> bool {
    use infera_protocol::node_api::RefusalCode;
    match outcome {
        Ok(_) => true,
        Err(refusal) => refusal.code == RefusalCode::Unavailable,
    }
}

/// Who holds the job: node, attempt, where it began, and what has arrived.
async fn holder(core: &Core, job: JobId) -> Option<(u8, u32, u32, u32, bool)> {
    let live = core.job(job)?;
    let job = live.state.lock().await;
    let Stage::Running(attempt) = &job.stage else {
        return None;
    };
    let number = WORKERS
        .into_iter()
        .find(|number| id(*number) == attempt.node)?;
    Some((
        number,
        attempt.number,
        attempt.start,
        job.received(),
        job.cancelled,
    ))
}

async fn write(
    core: &Core,
    job: JobId,
    until: u32,
    end: Option<bool>,
    cheated: &mut Vec<(u32, u32)>,
) -> bool {
    let Some((number, batch)) = batch(core, job, until, end, cheated).await else {
        return false;
    };
    reached(core.output(id(number), job, &batch).await)
}

/// What the holder sends next, up to a position, with an end that is honest or not.
async fn batch(
    core: &Core,
    job: JobId,
    until: u32,
    end: Option<bool>,
    cheated: &mut Vec<(u32, u32)>,
) -> Option<(u8, OutputBatch)> {
    let (number, attempt, start, received, cancelled) = holder(core, job).await?;
    let cheats = end == Some(true);
    let until = if cancelled && end.is_some() {
        received
    } else {
        until
    };
    if until < received || (until == received && end.is_none()) || (cancelled && cheats) {
        return None;
    }
    if cheats {
        cheated.push((attempt, received));
    }
    let made_up = |position: u32| {
        cheated
            .iter()
            .any(|(cheat, from)| *cheat == attempt && position >= *from)
    };
    let arrived = core.job(job)?.state.lock().await.output_ids();
    let id_at = |position: u32| match arrived.get(position as usize) {
        Some(id) => *id,
        None => token(position, made_up(position)),
    };
    let mut chain = ChunkChain::new(job, attempt, start);
    let mut commits: Vec<_> = (start..until)
        .filter_map(|at| chain.push(id_at(at)))
        .collect();
    let finish = end.map(|_| {
        commits.extend(chain.close_last());
        let reason = if cancelled {
            FinishReason::Cancelled
        } else {
            FinishReason::Length
        };
        let key = key(number);
        Finish::sign(&key, job, attempt, reason, until, chain.head(), (1, 1))
    });
    let batch = OutputBatch {
        version: VERSION,
        attempt,
        position: received,
        tokens: (received..until)
            .map(|at| TokenOutput {
                id: id_at(at),
                logprob: None,
                alternatives: Vec::new(),
            })
            .collect(),
        commits,
        finish,
        prefilled: 0,
    };
    Some((number, batch))
}

async fn release(core: &Core, job: JobId) -> bool {
    let Some((number, attempt, ..)) = holder(core, job).await else {
        return false;
    };
    let release = Release {
        version: VERSION,
        attempt,
        reason: "a test".to_owned(),
    };
    reached(core.release(id(number), job, &release).await)
}

/// References accept, commit and open what they are asked. False if they are asked nothing.
async fn check(core: &Core, job: JobId, cheated: &[(u32, u32)]) -> bool {
    live(core).await;
    let mut asked = false;
    for _ in 0..40 {
        let Some(live) = core.job(job) else {
            return asked;
        };
        let (todo, report) = {
            let job = live.state.lock().await;
            let Stage::Auditing(audits) = &job.stage else {
                return asked;
            };
            let todo: Vec<_> = audits
                .drawn
                .iter()
                .map(|audit| (audit.id, audit.node, audit.step))
                .filter(|(_, _, step)| !matches!(step, AuditStep::Reported | AuditStep::Closed))
                .collect();
            (todo, report(&job, cheated))
        };
        asked |= !todo.is_empty();
        for (audit, node, step) in todo {
            let report = AuditReport {
                audit,
                ..report.clone()
            };
            let salt = Hash::from_bytes([5; 32]);
            let key = REFERENCES.map(key).into_iter().find(|key| key.id() == node);
            let key = key.unwrap();
            // The database may refuse any of it; then it is done in the next round.
            match step {
                AuditStep::Offered => {
                    let _ = core.accept_audit(node, audit).await;
                }
                AuditStep::Accepted => {
                    let commitment = report.commitment(&salt);
                    let commit = AuditCommit {
                        commitment,
                        signature: key.sign(audit_commit_digest(audit, commitment)),
                    };
                    let _ = core.commit_audit(node, audit, &commit).await;
                }
                AuditStep::Revealing => {
                    let reveal = AuditReveal { report, salt };
                    let _ = core.report_audit(node, audit, &reveal).await;
                }
                _ => {}
            }
        }
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        std::thread::sleep(Duration::from_micros(300));
    }
    asked
}

/// What a reference finds that computes honestly.
fn report(job: &Job, cheated: &[(u32, u32)]) -> AuditReport {
    let output = job.output_ids();
    let is_wrong =
        |position: u32| !cheated.is_empty() && output[position as usize] != token(position, false);
    let positions = 0..output.len() as u32;
    AuditReport {
        audit: infera_protocol::AuditId::from_bytes([0; 16]),
        model: job.submission.model.id,
        backend: "a test".to_owned(),
        positions: output.len() as u32,
        mismatches: positions
            .clone()
            .filter(|position| is_wrong(*position))
            .map(|position| Mismatch {
                position,
                token: token(position, false),
                margin: 100.0,
            })
            .collect(),
        log_probabilities: positions
            .map(|position| if is_wrong(position) { -200.0 } else { -0.5 })
            .collect(),
        vectors: Vec::new(),
        elapsed_ms: 1,
    }
}

/// Walks through all lives of up to `depth` steps with up to one fault, of which it takes every
/// `stride`th; gives how many.
fn walk(depth: usize, stride: usize) -> usize {
    let mut lives: Vec<Vec<Taken>> = vec![Vec::new()];
    let (mut walked, mut number) = (0, 0);
    while let Some(life) = lives.pop() {
        let faulty = life.iter().any(|(_, fault)| fault.is_some());
        let mut world = World::new();
        let means_something = life.iter().all(|taken| world.take(*taken));
        if !means_something {
            continue;
        }
        walked += 1;
        world.end(&life);
        if life.len() == depth {
            continue;
        }
        for step in STEPS {
            for fault in std::iter::once(None).chain(FAULTS.map(Some)) {
                if faulty && fault.is_some() {
                    continue;
                }
                number += 1;
                let mut longer = life.clone();
                longer.push((step, fault));
                // All short ones, and of the long ones a part.
                if longer.len() <= 2 || number % stride == 0 {
                    lives.push(longer);
                }
            }
        }
    }
    walked
}

/// With `INFERA_LIVES=all` every life of up to five steps.
#[test]
fn every_short_life_of_a_job_ends_with_closed_books() {
    let all = std::env::var("INFERA_LIVES").is_ok_and(|value| value == "all");
    let walked = if all { walk(5, 1) } else { walk(5, 17) };
    assert!(walked > 50, "{walked}");
}

/// A claim that the database wrote and then said that it had not: the job was unclaimable for ever.
#[test]
fn a_claim_that_was_written_and_reported_as_failed_holds() {
    let mut world = World::new();
    let life = [
        (Step::Claim(1), Some(Fault::AfterCommit)),
        (Step::Finish, None),
        (Step::Check, None),
    ];
    for taken in life {
        assert!(world.take(taken), "{taken:?}");
    }
    world.end(&life);
}

/// A node whose answer was lost sends its report again, just when the last one settles the job.
#[test]
fn a_report_that_is_sent_again_while_its_job_is_settled_is_harmless() {
    let mut world = World::new();
    for step in [Step::Claim(1), Step::Finish] {
        assert!(world.take((step, None)));
    }
    let job = world.job;
    let core = Arc::clone(&world.process().core);
    let live = core.job(job).unwrap();
    let drawn = world.process().runtime.block_on(async {
        let job = live.state.lock().await;
        let Stage::Auditing(audits) = &job.stage else {
            panic!("it is being checked");
        };
        (audits.drawn[0].id, audits.drawn[0].node)
    });
    assert!(world.take((Step::Check, None)));
    world.process().runtime.block_on(async {
        let (audit, node) = drawn;
        let report = AuditReport {
            audit,
            ..report(&*live.state.lock().await, &[])
        };
        let salt = Hash::from_bytes([5; 32]);
        let reveal = AuditReveal { report, salt };
        // As it still is for whoever asked a moment before.
        core.register_audit(audit, node, &live);
        core.report_audit(node, audit, &reveal).await.unwrap();
        let strangers = core.report_audit(id(1), audit, &reveal).await;
        assert!(strangers.is_err());
    });
}

/// A client that hangs up at any await of its request leaves no place taken and no job behind.
#[test]
fn a_client_may_hang_up_at_any_point() {
    for polls in 1.. {
        let mut world = World::empty();
        let process = world.process();
        let key = process.runtime.block_on(async {
            let core = &process.core;
            crate::keys::create_key(&core.database, &core.edges, "ann", Some(1_000_000_000))
                .await
                .unwrap()
        });
        let body = serde_json::json!({
            "model": "tiny", "max_tokens": MAX_TOKENS, "stream": true,
            "messages": [{"role": "user", "content": "Hello"}],
        });
        let call = post("/v1/chat/completions", &key, &body);
        let answered = world.hang_up(call, polls);
        for _ in 0..10 {
            world.take((Step::Lapse, None));
        }
        let core = Arc::clone(&world.process().core);
        assert_eq!(core.places_held(), 0, "after {polls} polls");
        assert_eq!(core.live_jobs(), 0, "after {polls} polls");
        world.process().runtime.block_on(async {
            let trial = ledger::trial_balance(&core.database).await.unwrap();
            let open = trial.accounts.iter().filter(|account| account.balance != 0);
            assert_eq!(open.count(), 0, "after {polls} polls: {trial:?}");
        });
        if answered || polls == 60 {
            assert!(polls > 3, "it was answered at once");
            return;
        }
    }
}

/// A node that hangs up at any await of a call: what it asked for is done whole or not at all.
#[test]
fn a_node_may_hang_up_at_any_point() {
    let calls: [(&str, &[Step]); 3] = [
        ("claim", &[]),
        ("output", &[Step::Claim(1)]),
        ("release", &[Step::Claim(1), Step::Write]),
    ];
    for (name, before) in calls {
        for polls in 1.. {
            let mut world = World::new();
            for step in before {
                assert!(world.take((*step, None)));
            }
            let job = world.job;
            let process = world.process();
            let core = Arc::clone(&process.core);
            let path = format!("/node/v1/jobs/{job}/{name}");
            let token = session(1);
            let call = process.runtime.block_on(async {
                match name {
                    "claim" => post(&path, &token, &claim_of(&core, job, 1).await.unwrap()),
                    "output" => post(
                        &path,
                        &token,
                        &batch(&core, job, 34, None, &mut Vec::new())
                            .await
                            .unwrap()
                            .1,
                    ),
                    _ => {
                        let release = Release {
                            version: VERSION,
                            attempt: 1,
                            reason: "a test".to_owned(),
                        };
                        post(&path, &token, &release)
                    }
                }
            });
            let answered = world.hang_up(call, polls);
            // Whoever comes next can go on.
            if world.take((Step::Claim(2), None)) || world.take((Step::Finish, None)) {
                world.take((Step::Finish, None));
            }
            world.end(&[]);
            if answered || polls == 60 {
                assert!(polls > 1, "{name} was answered at once");
                break;
            }
        }
    }
}
