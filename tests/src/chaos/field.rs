//! The processes of the network, what can be done to them, and their supervisor.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use xtask::network::{Balancer, BalancerOptions, Binaries, Node, NodeOptions, START_LIMIT};
use xtask::{Result, network, process, wait};

use super::clock::Clock;
use super::disk::{self, Disk};
use super::link::Link;
use super::schedule::{Fault, Part, Reach};
use super::{CLIENTS, NODES, Options, WORKERS, node_name};
use crate::slow_model::slow_model_of;
use crate::{INPUT_PRICE, MODEL, OUTPUT_PRICE};

/// An answer of a hundred tokens takes a few tenths of a second: long enough to be disturbed,
/// short enough that there are many.
const FEED_FORWARD: u64 = 3072;
/// Times that suit a storm of minutes: what is lost is soon another's.
const LEASE: Duration = Duration::from_secs(2);
/// What the network may lose on references, in micro-points: the price of a few answers.
pub(crate) const SUBSIDY_CAP: i64 = 100_000;
/// Whoever attacks has many addresses, and time for the work that an identity costs.
const SETTINGS: &str = "\
work_bits = 8
nodes_per_address = 1000
new_nodes_per_address = 1000000
lapse_pause = 5000
queue = 15000
reassign = 20000
audit_accept = 3000
audit_score = 15000
audit_reveal = 5000
verdict_wait = 20000
node_timeout = 10000
jobs_per_key = 8
";
/// What the network asks of a node's disk, and room to spare.
const DISK_BYTES: u64 = 640 << 20;
/// What the books of a minute take.
const DISK_BYTES_PER_MINUTE: u64 = 4 << 20;
/// How soon a process that could not be started is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// Whether the balancer is up, for those who judge a broken connection.
#[derive(Default)]
pub(crate) struct Weather {
    /// Odd while it is down.
    changes: AtomicU64,
}

/// Every process. Dropping it ends them.
pub(crate) struct Field {
    pub(crate) balancer: Balancer,
    /// Workers first, then references.
    pub(crate) nodes: Vec<Node>,
    pub(crate) weather: Arc<Weather>,
    /// The nodes' first, then the clients'.
    pub(crate) links: Vec<Arc<Link>>,
    pub(crate) binaries: Binaries,
    pub(crate) model_file: PathBuf,
    pub(crate) model_id: String,
    /// What this machine cannot do, a sentence each.
    pub(crate) left_out: Vec<String>,
    /// Which parts ended though nobody ended them.
    pub(crate) ended_by_themselves: Vec<String>,
    disks: HashMap<Part, Disk>,
    full: HashSet<Part>,
    clocks: HashMap<Part, Clock>,
    /// Those that we ended, until they run again.
    killed: HashSet<Part>,
    tried: HashMap<Part, Instant>,
    /// Last, so that all of the above is gone when the folder goes.
    data: TempDir,
}

impl Weather {
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    fn set_down(&self, down: bool) {
        if (self.changes() % 2 == 1) != down {
            self.changes.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Field {
    /// All processes, ready, and all links fair.
    pub(crate) fn start(options: &Options) -> Result<Self> {
        let binaries = Binaries::find_or_build()?;
        let data = TempDir::new()?;
        let mut left_out = Vec::new();
        let disks = match disk::hide_mounts() {
            Ok(()) => mount_disks(&data, options.length)?,
            Err(error) => {
                left_out.push(format!(
                    "full disks: mounting is not allowed here ({error})"
                ));
                HashMap::new()
            }
        };
        let clocks = clocks(&data)?;
        if clocks.is_empty() {
            left_out.push("steps of clocks: the library for them is not built".to_owned());
        }
        let environment = |part| clocks.get(&part).map_or_else(Vec::new, Clock::environment);

        let balancer_options = BalancerOptions {
            lease: Some(LEASE),
            settings: format!("{SETTINGS}subsidy_cap = {SUBSIDY_CAP}\n"),
            environment: environment(Part::Balancer),
            ..BalancerOptions::default()
        };
        let folder = data.path().join("balancer");
        let balancer = Balancer::start(&binaries, &folder, balancer_options)?;
        let model_file = slow_model_of(FEED_FORWARD)?;
        let prices = (INPUT_PRICE as u32, OUTPUT_PRICE as u32);
        let model_id = balancer.add_model(&model_file, MODEL, prices.0, prices.1)?;
        let address = balancer.url().trim_start_matches("http://").parse()?;
        let links = (0..NODES + CLIENTS)
            .map(|_| Ok(Arc::new(Link::new(address)?)))
            .collect::<Result<Vec<_>>>()?;
        let mut nodes = Vec::new();
        for (number, link) in links[..NODES].iter().enumerate() {
            let options = NodeOptions {
                environment: environment(Part::Node(number)),
                ..NodeOptions::on_cpu(&model_file)
            };
            let name = node_name(number);
            let node = Node::new(&binaries, data.path(), &name, link.url(), options)?;
            if number >= WORKERS {
                balancer.trust(&node.id)?;
            }
            nodes.push(node);
        }
        let mut field = Self {
            balancer,
            nodes,
            weather: Arc::default(),
            links,
            binaries,
            model_file,
            model_id,
            left_out,
            ended_by_themselves: Vec::new(),
            disks,
            full: HashSet::new(),
            clocks,
            killed: HashSet::new(),
            tried: HashMap::new(),
            data,
        };
        for node in &mut field.nodes {
            node.start()?;
        }
        field.wait_until_ready()?;
        Ok(field)
    }

    pub(crate) fn reach(&self) -> Reach {
        Reach {
            // In a fixed order, which the schedule hangs on.
            disks: parts()
                .filter(|part| self.disks.contains_key(part))
                .collect(),
            clocks: !self.clocks.is_empty(),
        }
    }

    /// Until every node is connected and has loaded the model.
    pub(crate) fn wait_until_ready(&self) -> Result<()> {
        for node in &self.nodes {
            wait::until("a node is ready", START_LIMIT, || {
                Ok(node.is_ready().then_some(()))
            })
            .map_err(|error| node.fault(&format!("is not ready: {error}")))?;
        }
        Ok(())
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.data.path().join("balancer").join("balancer.db")
    }

    pub(crate) fn create_key(&self, name: &str) -> Result<String> {
        self.balancer.create_key(name)
    }

    /// Copies the data folders to where they stay, and says where: disks of memory go with us.
    pub(crate) fn keep_data(&self, seed: u64) -> Result<PathBuf> {
        let kept = network::target()?.join("tmp").join(format!("chaos-{seed}"));
        if kept.exists() {
            std::fs::remove_dir_all(&kept)?;
        }
        std::fs::create_dir_all(&kept)?;
        let mut copy = Command::new("cp");
        copy.arg("-r").arg(self.data.path().join(".")).arg(&kept);
        process::output(copy)?;
        Ok(kept)
    }

    pub(crate) fn kill(&mut self, part: Part) -> Result<()> {
        match part {
            Part::Balancer => {
                // First, so that who loses a connection by it can know why.
                self.weather.set_down(true);
                self.balancer.kill();
            }
            Part::Node(node) => self.nodes[node].kill(),
            // The node starts its engine again by itself.
            Part::Engine(_) => return self.signal(part, process::kill),
        }
        self.killed.insert(part);
        Ok(())
    }

    pub(crate) fn freeze(&self, part: Part) -> Result<()> {
        self.signal(part, process::freeze)
    }

    pub(crate) fn thaw(&self, part: Part) -> Result<()> {
        self.signal(part, process::thaw)
    }

    pub(crate) fn fill_disk(&mut self, part: Part) {
        self.full.insert(part);
    }

    pub(crate) fn empty_disk(&mut self, part: Part) -> Result<()> {
        self.full.remove(&part);
        self.disks.get(&part).map_or(Ok(()), Disk::empty)
    }

    pub(crate) fn disturb_link(&self, link: usize, fault: Fault) {
        self.links[link].disturb(fault);
    }

    pub(crate) fn mend_link(&self, link: usize) {
        self.links[link].mend();
    }

    pub(crate) fn set_clock(&self, part: Part, seconds: i64) -> Result<()> {
        let clock = self.clocks.get(&part);
        clock.map_or(Ok(()), |clock| clock.set(seconds))
    }

    /// Takes back every disturbance.
    pub(crate) fn calm(&mut self) -> Result<()> {
        for part in parts() {
            self.thaw(part)?;
            self.empty_disk(part)?;
            self.set_clock(part, 0)?;
        }
        for link in &self.links {
            link.mend();
        }
        Ok(())
    }

    /// Keeps full disks full, and starts what has ended.
    pub(crate) fn look_after(&mut self) -> Result<()> {
        for part in &self.full {
            if let Some(disk) = self.disks.get(part) {
                disk.fill();
            }
        }
        for part in parts() {
            let running = match part {
                Part::Balancer => self.balancer.is_running()?,
                Part::Node(node) => self.nodes[node].is_running()?,
                Part::Engine(_) => true,
            };
            if !running {
                self.start_again(part);
            }
        }
        Ok(())
    }

    /// Stops the balancer as a service manager does, and starts it.
    pub(crate) fn restart_balancer(&mut self) -> Result<()> {
        self.weather.set_down(true);
        self.balancer.stop()?;
        self.balancer.start_again()?;
        self.weather.set_down(false);
        Ok(())
    }

    fn start_again(&mut self, part: Part) {
        if self.killed.insert(part) {
            self.ended_by_themselves.push(part.to_string());
        }
        let now = Instant::now();
        if self
            .tried
            .get(&part)
            .is_some_and(|at| now < *at + TRY_AGAIN)
        {
            return;
        }
        self.tried.insert(part, now);
        let started = match part {
            Part::Balancer => {
                self.weather.set_down(true);
                self.balancer.start_again()
            }
            Part::Node(node) => self.nodes[node].start(),
            Part::Engine(_) => Ok(()),
        };
        // On a full disk nothing starts; it is tried again.
        if started.is_ok() {
            self.killed.remove(&part);
            if part == Part::Balancer {
                self.weather.set_down(false);
            }
        }
    }

    /// A signal to a process that may have ended just now, which is no fault.
    fn signal(&self, part: Part, signal: impl Fn(u32) -> Result<()>) -> Result<()> {
        let pid = match part {
            Part::Balancer => self.balancer.pid(),
            Part::Node(node) | Part::Engine(node) => self.nodes[node].pid(),
        };
        let Some(pid) = pid else {
            return Ok(());
        };
        if !matches!(part, Part::Engine(_)) {
            let _ = signal(pid);
            return Ok(());
        }
        for engine in process::children_of(pid)? {
            let _ = signal(engine);
        }
        Ok(())
    }
}

/// Every part, each before what hangs on it.
fn parts() -> impl Iterator<Item = Part> {
    let nodes = (0..NODES).flat_map(|node| [Part::Node(node), Part::Engine(node)]);
    std::iter::once(Part::Balancer).chain(nodes)
}

/// The balancer, a worker and a reference have a disk of their own.
fn mount_disks(data: &TempDir, length: Duration) -> Result<HashMap<Part, Disk>> {
    let minutes = length.as_secs().div_ceil(60);
    let bytes = DISK_BYTES + minutes * DISK_BYTES_PER_MINUTE;
    let places = [
        (Part::Balancer, "balancer".to_owned()),
        (Part::Node(0), node_name(0)),
        (Part::Node(WORKERS), node_name(WORKERS)),
    ];
    places
        .into_iter()
        .map(|(part, name)| Ok((part, Disk::mount(&data.path().join(name), bytes)?)))
        .collect()
}

/// One for the balancer and each node; none when the library is not built.
fn clocks(data: &TempDir) -> Result<HashMap<Part, Clock>> {
    let Some(library) = Clock::library()? else {
        return Ok(HashMap::new());
    };
    parts()
        .filter(|part| !matches!(part, Part::Engine(_)))
        .enumerate()
        .map(|(number, part)| {
            let file = data.path().join(format!("clock-{number}"));
            Ok((part, Clock::new(&library, file)?))
        })
        .collect()
}
