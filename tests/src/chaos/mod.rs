//! A small network in a storm: real processes are killed, frozen and cut off, disks fill up, clocks
//! jump, hostile nodes and clients come and go, and honest clients ask on beside it all.
//!
//! Data flows one way: schedule, then actors, then observations, then a table.

mod books;
mod clients;
mod clock;
mod dice;
mod disk;
mod field;
mod hostile;
mod link;
mod schedule;
mod table;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use infera_protocol::NodeKey;
use xtask::http::Client;
use xtask::network::START_LIMIT;
use xtask::{Result, wait};

use books::Books;
use clients::{Honest, Known, Manner, Observation};
use dice::Dice;
use field::Field;
use hostile::Hostile;
use schedule::{Disturbance, Step, schedule};
pub use table::{Row, Table};

use crate::{MODEL, Streamed};

const WORKERS: usize = 3;
const REFERENCES: usize = 3;
/// Workers come first.
const NODES: usize = WORKERS + REFERENCES;
/// Honest ones.
const CLIENTS: usize = 8;
/// How many questions the clients ask from.
const QUESTIONS: usize = 16;
/// The storm begins after one such part of a run's length.
const UNDISTURBED_PART: u32 = 8;
/// When jobs must have come to their end after the storm.
const SETTLING: Duration = Duration::from_mins(1);
/// How often the supervisor looks.
const TICK: Duration = Duration::from_millis(25);

#[derive(Debug, Clone)]
pub struct Options {
    /// From the first question of a client to the end of the storm.
    pub length: Duration,
    pub seed: u64,
    /// Is told what happens, a line each.
    pub tell: fn(&str),
    /// Keep the data folders even when all is well.
    pub keep_data: bool,
}

/// Lets the storm pass over a network of its own, and says what became of it.
pub fn run(options: &Options) -> Result<Table> {
    let tell = options.tell;
    tell("starting the network");
    let mut field = Field::start(options)?;
    let keys = Keys::create(&field)?;
    let known = Arc::new(learn(&field, &keys.honest[0], options.seed)?);

    let stop = Arc::new(AtomicBool::new(false));
    let (sender, observations) = channel();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let client = honest(&field, &keys, &known, options.seed, number);
            let (stop, sender) = (Arc::clone(&stop), sender.clone());
            thread::spawn(move || client.run(&stop, &sender))
        })
        .collect();
    drop(sender);

    tell("undisturbed");
    let calm = options.length / UNDISTURBED_PART;
    let storm_began = Instant::now() + calm;
    while Instant::now() < storm_began {
        field.look_after()?;
        thread::sleep(TICK);
    }
    let undisturbed: Vec<_> = observations.try_iter().collect();

    let steps = schedule(
        options.seed,
        options.length.saturating_sub(calm),
        &field.reach(),
    );
    let hostile = Arc::new(hostile(&field, &keys, options.seed)?);
    let actors = storm(&mut field, &steps, storm_began, &hostile, options)?;
    hostile.over.store(true, Ordering::Relaxed);
    stop.store(true, Ordering::Relaxed);
    tell("the storm is over");
    let storm_ended = Instant::now();
    let storm = gather(&mut field, clients, actors, &observations)?;

    tell("waiting until every job has ended");
    field.wait_until_ready()?;
    let open = settle(&mut field)?;
    let mut afterwards = Vec::new();
    for number in 0..CLIENTS {
        let seed = options.seed.wrapping_add(1);
        let mut client = honest(&field, &keys, &known, seed, number);
        afterwards.push(client.ask(Manner::Stream));
    }
    let blocked_keys = [&keys.flood, &keys.colluding]
        .into_iter()
        .filter(|key| is_blocked(&field, key))
        .count();
    field.restart_balancer()?;
    field.wait_until_ready()?;
    let open_after_restart = settle(&mut field)?;
    field.balancer.stop()?;
    let seen = table::Seen {
        seed: options.seed,
        steps,
        left_out: field.left_out.clone(),
        undisturbed,
        storm,
        storm_began,
        storm_ended,
        afterwards,
        open,
        open_after_restart,
        blocked_keys,
        ended_by_themselves: std::mem::take(&mut field.ended_by_themselves),
        internal_errors: hostile.internal_errors.load(Ordering::Relaxed),
        hostile_nodes: hostile.nodes.load(Ordering::Relaxed),
        lazy: NodeKey::from_secret(&hostile.lazy).id().to_string(),
        honest: names(&field),
        books: Books::read(&field.database())?,
    };
    let table = Table::of(&seen);
    if options.keep_data || !table.is_good() {
        let kept = field.keep_data(options.seed)?;
        tell(&format!("the data is kept in {}", kept.display()));
    }
    Ok(table)
}

fn node_name(number: usize) -> String {
    match number.checked_sub(WORKERS) {
        None => format!("worker-{}", number + 1),
        Some(reference) => format!("reference-{}", reference + 1),
    }
}

/// API keys.
struct Keys {
    honest: Vec<String>,
    /// The client's that hangs up and floods.
    flood: String,
    /// The client's that colludes with nodes.
    colluding: String,
}

impl Keys {
    fn create(field: &Field) -> Result<Self> {
        let honest = (1..=CLIENTS).map(|number| field.create_key(&format!("honest-{number}")));
        let keys = Self {
            honest: honest.collect::<Result<_>>()?,
            flood: field.create_key("flood")?,
            colluding: field.create_key("colluding")?,
        };
        field.balancer.wait_until_served(&keys.honest[0], MODEL)?;
        Ok(keys)
    }
}

/// Asks every question once and remembers the answers.
fn learn(field: &Field, key: &str, seed: u64) -> Result<Vec<Known>> {
    let client = field.balancer.client(key);
    let mut dice = Dice::new(seed, "questions");
    let mut known = Vec::new();
    for request in clients::questions(&mut dice, QUESTIONS) {
        let mut streamed = request.clone();
        streamed["stream"] = true.into();
        streamed["stream_options"] = serde_json::json!({ "include_usage": true });
        let answer = Streamed::read(client.stream("/v1/chat/completions", &streamed)?)?;
        let job = answer.job()?;
        let verdict = client.get(&format!("/v1/jobs/{job}?wait_ms=30000"))?;
        let verdict = verdict.success()?;
        if verdict["verdict"] != "verified" {
            return Err(format!("an undisturbed answer was not verified: {verdict}").into());
        }
        let tokens = answer.completion_tokens.ok_or("the answer has no usage")?;
        known.push(Known {
            request,
            text: answer.text,
            tokens,
        });
    }
    Ok(known)
}

fn honest(field: &Field, keys: &Keys, known: &Arc<Vec<Known>>, seed: u64, number: usize) -> Honest {
    Honest {
        number,
        key: keys.honest[number].clone(),
        known: Arc::clone(known),
        link: Arc::clone(&field.links[NODES + number]),
        weather: Arc::clone(&field.weather),
        dice: Dice::new(seed, &format!("client {number}")),
    }
}

/// The operator trusts a lazy reference by mistake.
fn hostile(field: &Field, keys: &Keys, seed: u64) -> Result<Hostile> {
    let lazy = Dice::new(seed, "lazy reference").bytes();
    let node = NodeKey::from_secret(&lazy).id();
    field.balancer.trust(&node.to_string())?;
    Ok(Hostile {
        balancer: field.balancer.url().to_owned(),
        model: field.model_id.parse()?,
        flood_key: keys.flood.clone(),
        colluding_key: keys.colluding.clone(),
        lazy,
        engine: field.binaries.node.clone(),
        model_file: field.model_file.clone(),
        over: AtomicBool::new(false),
        internal_errors: AtomicU64::new(0),
        nodes: AtomicU64::new(0),
    })
}

/// Carries out every step, and takes it back when its time is over. Gives the hostile parties that
/// may still be on their way out.
fn storm(
    field: &mut Field,
    steps: &[Step],
    began: Instant,
    hostile: &Arc<Hostile>,
    options: &Options,
) -> Result<Vec<JoinHandle<()>>> {
    let end = began
        + options
            .length
            .saturating_sub(options.length / UNDISTURBED_PART);
    let mut actors = Vec::new();
    let mut next = 0;
    let mut under_way: Vec<(Instant, Disturbance)> = Vec::new();
    while Instant::now() < end {
        let now = Instant::now();
        while let Some(step) = steps.get(next).filter(|step| began + step.at <= now) {
            (options.tell)(&step.to_string());
            let dice = Dice::new(options.seed, &format!("step {next}"));
            next += 1;
            match step.what {
                Disturbance::Kill(part) => field.kill(part)?,
                Disturbance::Freeze(part) => field.freeze(part)?,
                Disturbance::FillDisk(part) => field.fill_disk(part),
                Disturbance::Link(link, fault) => field.disturb_link(link, fault),
                Disturbance::Clock(part, seconds) => field.set_clock(part, seconds)?,
                Disturbance::Nodes(deed) => {
                    actors.extend(hostile.send_nodes(deed, step.lasts, dice));
                }
                Disturbance::Clients(nuisance) => {
                    actors.push(hostile.send_clients(nuisance, step.lasts, dice));
                }
            }
            under_way.push((now + step.lasts, step.what));
        }
        let over: Vec<_> = under_way
            .extract_if(.., |(until, _)| *until <= now)
            .collect();
        for (_, what) in over {
            match what {
                Disturbance::Freeze(part) => field.thaw(part)?,
                Disturbance::FillDisk(part) => field.empty_disk(part)?,
                Disturbance::Link(link, _) => field.mend_link(link),
                Disturbance::Kill(_)
                | Disturbance::Clock(..)
                | Disturbance::Nodes(_)
                | Disturbance::Clients(_) => {}
            }
        }
        field.look_after()?;
        thread::sleep(TICK);
    }
    field.calm()?;
    Ok(actors)
}

/// Waits until everybody has left, and gives what the honest clients saw in the storm.
fn gather(
    field: &mut Field,
    clients: Vec<JoinHandle<()>>,
    actors: Vec<JoinHandle<()>>,
    observations: &Receiver<Observation>,
) -> Result<Vec<Observation>> {
    let limit = clients::LIMIT + Duration::from_secs(30);
    wait::until("every client and hostile node has left", limit, || {
        field.look_after()?;
        let mut all = clients.iter().chain(&actors);
        Ok(all.all(JoinHandle::is_finished).then_some(()))
    })?;
    for thread in clients.into_iter().chain(actors) {
        thread
            .join()
            .map_err(|_| "a client or hostile node panicked")?;
    }
    Ok(observations.try_iter().collect())
}

/// How many jobs are open when they all should have ended.
fn settle(field: &mut Field) -> Result<i64> {
    let end = Instant::now() + SETTLING;
    loop {
        field.look_after()?;
        let open = books::open_jobs(&field.database())?;
        if open == 0 || Instant::now() >= end {
            return Ok(open);
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// Whether a key without a job is told that it has too many, or nothing.
fn is_blocked(field: &Field, key: &str) -> bool {
    let client = Client::with_limit(field.balancer.url(), Some(key), START_LIMIT);
    let question = crate::story(1, 8);
    let answer = client.post("/v1/chat/completions", &question);
    !answer.is_ok_and(|answer| answer.status == 200)
}

fn names(field: &Field) -> HashMap<String, String> {
    let nodes = field.nodes.iter().enumerate();
    nodes
        .map(|(number, node)| (node.id.clone(), node_name(number)))
        .collect()
}
