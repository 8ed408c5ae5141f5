//! The actor: it owns all state of a node and never waits for anyone. What takes time runs in
//! tasks of its own and reports back as an [`Input`].

mod audits;
mod commands;
mod devices;
mod engines;
mod jobs;
mod network;
mod snapshot;
mod work;

use std::sync::Arc;
use std::time::Duration;

use infera_engine::message::Event;
use infera_protocol::FleetCommand;
use infera_protocol::node_api::{ModelOffer, Network, NodeState, Offer, Points, Refusal};
use infera_protocol::output::OutputAck;
use infera_protocol::requirements::{self, Hardware, Policy};
use infera_protocol::{AuditId, AuditSpec, Hash, JobSpec, NodeKey};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use self::devices::{Device, Pauses, Placement};
use self::engines::Slot;
use self::network::{NetworkView, SpeedMeasured};
use self::snapshot::Outlets;
use self::work::Work;
use crate::account::CommandSeen;
use crate::balancer_link::LinkError;
use crate::caller::Caller;
use crate::clock::random_32;
use crate::engine_link::{Engine, EngineError};
use crate::governor::rules::Guest;
use crate::governor::{Decision, Mode, Observations, Pause, Reason, decide, sum_up};
use crate::node_config::{Edges, NodeConfig};
use crate::production::Shipment;
use crate::session::{SessionEvent, SessionTask, report_state};
use crate::state::{Connection, NodeSnapshot, State, Summary};
use crate::store::{AttemptKey, Store, StoreError};

/// What others ask of the node.
pub(crate) enum Request {
    Snapshot(oneshot::Sender<NodeSnapshot>),
    OwnUse {
        begins: bool,
        reply: oneshot::Sender<()>,
    },
    Pause {
        duration: Option<Duration>,
        finish_first: bool,
        reply: oneshot::Sender<NodeSnapshot>,
    },
    Resume(oneshot::Sender<NodeSnapshot>),
    /// One device, until it is resumed; the others go on.
    PauseDevice {
        device: String,
        pause: bool,
        reply: oneshot::Sender<NodeSnapshot>,
    },
    WorkAnyway {
        duration: Duration,
        reply: oneshot::Sender<NodeSnapshot>,
    },
    Check(oneshot::Sender<NodeSnapshot>),
    ShutDown(oneshot::Sender<()>),
}

/// What the controller's own tasks report.
enum Input {
    Engine {
        slot: usize,
        /// Which of the slot's engines, in order of their start.
        epoch: u64,
        event: EngineInput,
    },
    Claimed {
        offer: Offer,
        result: Claimed,
    },
    Shipped {
        key: AttemptKey,
        shipment: Box<Shipment>,
        result: Result<OutputAck, ShipError>,
    },
    Released(AttemptKey),
    AuditAccepted {
        audit: AuditId,
        /// None when the time ran out.
        result: Option<Result<AuditSpec, Refusal>>,
    },
    AuditCommitted {
        audit: AuditId,
        result: Result<(), Refusal>,
    },
    AuditReported {
        audit: AuditId,
        result: Result<(), Refusal>,
    },
    Hardware(Hardware),
    FreeDisk(Option<u64>),
    Speed(SpeedMeasured),
    Points(Result<Points, LinkError>),
    Models(Vec<ModelOffer>),
    Network(Result<Box<Network>, LinkError>),
    /// A command from afar will not be done again, whatever happens.
    CommandKept(FleetCommand),
    StorageFault(StoreError),
    StorageWorks,
}

enum EngineInput {
    Started(Result<Engine, EngineError>),
    Event(Box<Event>),
    Ended,
}

enum Claimed {
    Got(Box<JobSpec>),
    Refused(Refusal),
    /// The job may be this node's without its knowing, and why: no answer came, or none that can be
    /// read.
    Unknown(String),
}

enum ShipError {
    Link(LinkError),
    Store(StoreError),
}

pub(crate) struct Controller {
    edges: Edges,
    config: NodeConfig,
    key: Arc<NodeKey>,
    store: Store,
    caller: Caller,
    tasks: JoinSet<()>,
    inbox: Inbox,
    /// Where its own tasks report.
    input: mpsc::UnboundedSender<Input>,
    outlets: Outlets,
    /// Runs once the hardware is known.
    session_task: Option<SessionTask>,

    network: NetworkView,
    hardware: Option<Hardware>,
    devices: Vec<Device>,
    placement: Placement,
    /// One for each model on each device.
    slots: Vec<Slot>,
    work: Work,

    pauses: watch::Sender<Pauses>,
    pause_keeper: JoinHandle<()>,
    own_use: bool,
    /// Until when the owner wants work done whatever their rules say. A restart forgets it.
    anyway_until_ms: Option<i64>,
    storage_fault: Option<String>,
    decision: Decision,
    /// When the last command from afar was made; none that is not newer is taken.
    last_command_ms: i64,
    command: Option<CommandSeen>,

    look_around_at: Instant,
    closing: Option<Closing>,
    /// Who waits for the hardware to be read anew.
    checks: Vec<oneshot::Sender<NodeSnapshot>>,
}

/// What comes in.
struct Inbox {
    requests: mpsc::UnboundedReceiver<Request>,
    inputs: mpsc::UnboundedReceiver<Input>,
    session_events: mpsc::UnboundedReceiver<SessionEvent>,
}

struct Closing {
    deadline: Instant,
    replies: Vec<oneshot::Sender<()>>,
}

const LOOK_AROUND: Duration = Duration::from_secs(30);
const LOOK_AROUND_IN_TROUBLE: Duration = Duration::from_secs(5);
const PUBLISH_INTERVAL: Duration = Duration::from_millis(200);
const CLOSING_LIMIT: Duration = Duration::from_millis(3500);
const PAUSE_SETTING: &str = "pause";
const DEVICE_PAUSES_SETTING: &str = "device_pauses";
const PAUSE_WRITE_LIMIT: Duration = Duration::from_secs(1);

impl Controller {
    pub(crate) async fn new(
        mut config: NodeConfig,
        key: NodeKey,
        store: Store,
        mut edges: Edges,
        requests: mpsc::UnboundedReceiver<Request>,
    ) -> Result<(Self, watch::Receiver<NodeSnapshot>), StoreError> {
        let pauses = watch::Sender::new(Pauses {
            node: store.setting(PAUSE_SETTING).await?.flatten(),
            devices: store
                .setting(DEVICE_PAUSES_SETTING)
                .await?
                .unwrap_or_default(),
        });
        let speed = store.setting(network::SPEED_SETTING).await?;
        let last_command_ms = store.setting(commands::LAST_SETTING).await?.unwrap_or(0);
        let key = Arc::new(key);
        let (input, inputs) = mpsc::unbounded_channel();
        let (session_out, session_events) = mpsc::unbounded_channel();
        let pause_keeper = tokio::spawn(keep_pauses(
            store.clone(),
            pauses.subscribe(),
            input.clone(),
        ));
        let (token, session) = watch::channel(None);
        let (expired, expired_tokens) = mpsc::unbounded_channel();
        let (hardware_out, hardware_in) = watch::channel(Hardware::default());
        let (state, state_in) = watch::channel(NodeState {
            models: Vec::new(),
            context_tokens: Vec::new(),
            free_slots: 0,
            paused: None,
            hardware: Hardware::default(),
            report: None,
        });
        let (session_timeout, timeout_in) = watch::channel(Duration::from_secs(30));
        let caller = Caller {
            link: edges.balancer.clone(),
            session,
            expired,
            entropy: Arc::clone(&edges.entropy),
        };
        let session_task = edges.balancer.clone().map(|link| SessionTask {
            link,
            key: Arc::clone(&key),
            entropy: Arc::clone(&edges.entropy),
            instance: Hash::from_bytes(random_32(&*edges.entropy)),
            hardware: hardware_in,
            token,
            expired: expired_tokens,
            events: session_out,
        });
        let decision = Decision {
            mode: Mode::StopNow,
            reason: None,
            ask_again_ms: None,
            held: Vec::new(),
        };
        let (snapshots, snapshots_out) = watch::channel(NodeSnapshot {
            node: key.id(),
            software: crate::SOFTWARE.to_owned(),
            balancer: edges.balancer_url().to_owned(),
            state: State::new(Summary::ReadingHardware, &*edges.clock),
            decision: decision.clone(),
            connection: Connection::Connecting,
            models: Vec::new(),
            devices: Vec::new(),
            work: Vec::new(),
            points: None,
            hardware: None,
            policy: None,
            requirements: Vec::new(),
            offers: None,
            surroundings: edges.around.seen.borrow().clone(),
            anyway_until_ms: None,
            command: None,
        });
        config.governor.rules = edges.around.rules.borrow_and_update().clone();
        let now = Instant::now();
        let mut tasks = JoinSet::new();
        tasks.spawn(report_state(caller.clone(), state_in, timeout_in));
        let devices: Vec<_> = config
            .devices
            .iter()
            .map(|choice| Device::new(choice.clone(), decision.clone()))
            .collect();
        let pairs = (0..devices.len())
            .flat_map(|device| config.models.iter().map(move |model| (device, model)));
        let slots = pairs
            .map(|(device, model)| Slot::new(model.clone(), device, Arc::clone(&edges.entropy)))
            .collect();
        let mut controller = Self {
            edges,
            config,
            key,
            store,
            caller,
            tasks,
            inbox: Inbox {
                requests,
                inputs,
                session_events,
            },
            input,
            outlets: Outlets {
                snapshots,
                state,
                session_timeout,
                hardware: hardware_out,
                report: None,
                publish_at: None,
                published: None,
            },
            session_task,
            network: NetworkView::new(speed, now),
            hardware: None,
            devices,
            placement: Placement::default(),
            slots,
            work: Work::default(),
            pauses,
            pause_keeper,
            own_use: false,
            anyway_until_ms: None,
            storage_fault: None,
            decision,
            last_command_ms,
            command: None,
            look_around_at: now + LOOK_AROUND,
            closing: None,
            checks: Vec::new(),
        };
        controller.settle_debts().await?;
        Ok((controller, snapshots_out))
    }

    /// For calls beside the node's own.
    pub(crate) fn caller(&self) -> Caller {
        self.caller.clone()
    }

    pub(crate) async fn run(mut self) {
        self.probe_hardware();
        self.ask_network();
        self.act();
        let mut held = true;
        while !self.has_ended() {
            let wake = self.next_wake();
            tokio::select! {
                request = self.inbox.requests.recv(), if held => if let Some(request) = request { self.on_request(request) } else {
                    held = false;
                    self.close(None);
                },
                Some(input) = self.inbox.inputs.recv() => self.on_input(input),
                Some(event) = self.inbox.session_events.recv() => self.on_session(event),
                Some(result) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    if let Err(error) = result && error.is_panic() {
                        tracing::error!(%error, "a task of the node failed");
                    }
                    continue;
                }
                Ok(()) = self.edges.around.seen.changed() => {}
                Ok(()) = self.edges.around.rules.changed() => self.edges.around.rules.mark_changed(),
                Ok(()) = self.edges.around.gpus.changed() => {}
                Ok(()) = self.edges.around.belonging.changed() => {}
                () = tokio::time::sleep_until(wake) => {}
            }
            self.act();
        }
        self.tasks.shutdown().await;
        drop(self.pauses);
        // A disk that hangs must not keep the node from ending.
        let _ = tokio::time::timeout(PAUSE_WRITE_LIMIT, self.pause_keeper).await;
        if let Some(closing) = self.closing.take() {
            closing
                .replies
                .into_iter()
                .for_each(|reply| _ = reply.send(()));
        }
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Snapshot(reply) => _ = reply.send(self.snapshot()),
            Request::Pause {
                duration,
                finish_first,
                reply,
            } => {
                let until_ms = duration.map(|duration| {
                    let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
                    self.now_ms().saturating_add(ms)
                });
                self.pause(until_ms, finish_first);
                let _ = reply.send(self.snapshot());
            }
            Request::Resume(reply) => {
                self.resume();
                let _ = reply.send(self.snapshot());
            }
            Request::PauseDevice {
                device,
                pause,
                reply,
            } => {
                let pause = pause.then(|| Pause {
                    since_ms: self.now_ms(),
                    until_ms: None,
                    finish_first: false,
                });
                self.pause_device(device, pause);
                self.act_and_publish();
                let _ = reply.send(self.snapshot());
            }
            Request::WorkAnyway { duration, reply } => {
                self.end_pause();
                let until_ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
                self.anyway_until_ms = Some(self.now_ms().saturating_add(until_ms));
                self.act_and_publish();
                let _ = reply.send(self.snapshot());
            }
            Request::OwnUse { begins, reply } => {
                self.own_use = begins;
                self.act_and_publish();
                let _ = reply.send(());
            }
            Request::Check(reply) => {
                self.checks.push(reply);
                self.ask_network();
                self.probe_hardware();
            }
            Request::ShutDown(reply) => self.close(Some(reply)),
        }
    }

    fn on_input(&mut self, input: Input) {
        match input {
            Input::Engine { slot, epoch, event } => self.on_engine(slot, epoch, event),
            Input::Claimed { offer, result } => self.on_claimed(&offer, result),
            Input::Shipped {
                key,
                shipment,
                result,
            } => self.on_shipped(key, &shipment, result),
            Input::Released(key) => self.forget_job(key),
            Input::AuditAccepted { audit, result } => self.on_audit_accepted(audit, result),
            Input::AuditCommitted { audit, result } => self.on_audit_committed(audit, result),
            Input::AuditReported { audit, result } => self.on_audit_reported(audit, result),
            Input::Hardware(hardware) => self.on_hardware(hardware),
            Input::FreeDisk(bytes) => self.on_free_disk(bytes),
            Input::Speed(speed) => self.on_speed(speed),
            Input::Points(points) => self.on_points(points),
            Input::Models(models) => {
                if self.network.served.is_none() {
                    // Until now all might have been wanted.
                    self.placement = Placement::default();
                }
                self.network.served = Some(models);
                self.place_models(Instant::now());
            }
            Input::Network(answer) => self.on_network(answer),
            Input::CommandKept(command) => self.on_command_kept(&command),
            Input::StorageFault(error) => self.on_storage_fault(&error),
            Input::StorageWorks => {
                if self.storage_fault.take().is_some() {
                    tracing::info!("the data folder can be written again");
                }
            }
        }
    }

    fn pause(&mut self, until_ms: Option<i64>, finish_first: bool) {
        self.set_pause(Some(Pause {
            since_ms: self.now_ms(),
            until_ms,
            finish_first,
        }));
        self.anyway_until_ms = None;
        self.act_and_publish();
    }

    fn resume(&mut self) {
        self.end_pause();
        self.slots.iter_mut().for_each(Slot::try_again);
        self.act_and_publish();
    }

    /// What a person asked for shows at once.
    fn act_and_publish(&mut self) {
        self.outlets.published = None;
        self.act();
    }

    /// Decides anew and brings everything in line with the decision.
    fn act(&mut self) {
        let now = Instant::now();
        if now >= self.look_around_at {
            self.look_around(now);
        }
        let pause = self.pauses.borrow().node;
        if pause.is_some_and(|pause| pause.until_ms.is_some_and(|until| until <= self.now_ms())) {
            self.set_pause(None);
        }
        if self
            .anyway_until_ms
            .is_some_and(|until| until <= self.now_ms())
        {
            self.anyway_until_ms = None;
        }
        self.decide();
        self.act_on_devices(now);
        self.claim_offers(now);
        self.give_work_to_engines();
        self.drop_late_audits(now);
        self.ship_everything(now);
        self.let_the_machine_sleep();
        self.publish(now);
        self.tell_state();
    }

    fn decide(&mut self) {
        let disk_was_low = matches!(self.decision.reason, Some(Reason::LowDisk { .. }));
        self.follow_rules();
        let guest = self.guest();
        let observations = Observations {
            pause: self.pauses.borrow().node,
            closing: self.closing.is_some(),
            hold: self.config.hold,
            own_use: self.own_use,
            refused: matches!(self.network.connection, Connection::Refused { .. }),
            requirements: self.requirements(),
            free_disk_bytes: self
                .hardware
                .as_ref()
                .and_then(|hardware| hardware.free_disk_bytes),
            disk_was_low,
            storage_fault: self.storage_fault.clone(),
            guest,
            running: self.unfinished_jobs().count()
                + self.work.audits.len()
                + self.work.claiming.len(),
        };
        let of_node = decide(&observations, &self.config.governor, self.now_ms());
        self.decide_devices(&of_node);
        let decision = sum_up(of_node, &self.decisions_of_devices());
        if decision.mode != self.decision.mode {
            tracing::info!(mode = ?decision.mode, reason = ?decision.reason, "the node's mode changes");
        }
        self.decision = decision;
    }

    /// The owner's rules are read anew only when they were changed: this runs for every token.
    fn follow_rules(&mut self) {
        if !self.edges.around.rules.has_changed().unwrap_or(false) {
            return;
        }
        let rules = self.edges.around.rules.borrow_and_update().clone();
        if rules.gpu.duty_percent != self.config.governor.rules.gpu.duty_percent {
            self.set_duty(rules.gpu.duty_percent);
        }
        self.config.governor.rules = rules;
    }

    fn guest(&mut self) -> Guest {
        let surroundings = self.edges.around.seen.borrow_and_update().clone();
        let rules = &self.config.governor.rules;
        // It takes a look at processes, so only where it may matter.
        let is_short = surroundings
            .available_memory_bytes
            .is_some_and(|bytes| bytes / 2 < rules.memory.bytes);
        let own_memory_bytes = if rules.memory.on && is_short {
            self.edges.engine.memory_bytes()
        } else {
            0
        };
        // This runs for every token: without a schedule nobody asks what the clock on the wall shows.
        let schedule = if rules.schedule.on {
            rules.schedule.says(&self.edges.clock.now())
        } else {
            None
        };
        Guest {
            surroundings,
            schedule,
            anyway_until_ms: self.anyway_until_ms,
            own_memory_bytes,
            time_left: self.time_left(),
            held: std::mem::take(&mut self.decision.held),
        }
    }

    /// The machine waits a moment before it sleeps, for jobs to go back to the network.
    fn let_the_machine_sleep(&mut self) {
        let sleeps = self.edges.around.seen.borrow().going_to_sleep == Some(true);
        if sleeps && self.work.jobs.is_empty() && self.work.claiming.is_empty() {
            let _ = self.edges.around.ready_to_sleep.send(());
        }
    }

    /// What is computed on a device is somebody else's.
    fn hand_back_from(&mut self, device: usize, reason: &str) {
        self.release_from(device, reason);
        self.decline_from(device, reason);
    }

    fn next_wake(&self) -> Instant {
        let now = Instant::now();
        let ask_again = self
            .decision
            .ask_again_ms
            .map(|ms| now + Duration::from_millis((ms - self.now_ms()).max(1) as u64));
        self.work
            .jobs
            .values()
            .flat_map(|job| [job.retry_at, job.production.prefilled_due()])
            .flatten()
            .chain(self.slots.iter().filter_map(Slot::restart_at))
            .chain(self.work.audits.values().map(|audit| audit.expires))
            .chain(self.outlets.publish_at)
            .chain(ask_again)
            .chain(self.closing.as_ref().map(|closing| closing.deadline))
            .chain([self.look_around_at])
            // What is due already was acted on just now, as far as it could be.
            .filter(|at| *at > now)
            .min()
            .unwrap_or(self.look_around_at)
    }

    fn look_around(&mut self, now: Instant) {
        let interval = if self.storage_fault.is_some() {
            LOOK_AROUND_IN_TROUBLE
        } else {
            LOOK_AROUND
        };
        self.look_around_at = now + interval;
        let disk = self.edges.hardware.free_disk();
        self.report(async move { Input::FreeDisk(disk.await) });
        if self.storage_fault.is_some() {
            let (store, now_ms) = (self.store.clone(), self.now_ms());
            self.report(async move {
                match store.set_setting("written", &now_ms).await {
                    Ok(()) => Input::StorageWorks,
                    Err(error) => Input::StorageFault(error),
                }
            });
        }
        self.refresh_if_needed();
        self.place_models(now);
        if self.network.policy.is_none() {
            self.ask_network();
        }
    }

    fn close(&mut self, reply: Option<oneshot::Sender<()>>) {
        let closing = self.closing.get_or_insert_with(|| Closing {
            deadline: Instant::now() + CLOSING_LIMIT,
            replies: Vec::new(),
        });
        closing.replies.extend(reply);
    }

    fn has_ended(&self) -> bool {
        self.closing.as_ref().is_some_and(|closing| {
            let idle = self.work.jobs.is_empty()
                && self.work.audits.is_empty()
                && self.work.claiming.is_empty()
                && self.slots.iter().all(Slot::is_stopped);
            idle || Instant::now() >= closing.deadline
        })
    }

    fn set_pause(&mut self, pause: Option<Pause>) {
        self.pauses.send_if_modified(|current| {
            let changed = current.node != pause;
            current.node = pause;
            changed
        });
    }

    /// Of the node, or of all its devices where each was paused by itself.
    fn end_pause(&mut self) {
        let by_devices = matches!(self.decision.reason, Some(Reason::Paused { .. }));
        self.pauses.send_if_modified(|current| {
            let changed = current.node.is_some() || by_devices;
            if current.node.take().is_none() && by_devices {
                current.devices.clear();
            }
            changed
        });
    }

    fn pause_device(&mut self, device: String, pause: Option<Pause>) {
        self.pauses.send_if_modified(|current| match pause {
            // A second click does not begin it anew.
            Some(_) if current.devices.contains_key(&device) => false,
            Some(pause) => current.devices.insert(device, pause).is_none(),
            None => current.devices.remove(&device).is_some(),
        });
    }

    fn probe_hardware(&mut self) {
        let probe = self.edges.hardware.probe();
        self.report(async move { Input::Hardware(probe.await) });
    }

    fn on_hardware(&mut self, mut hardware: Hardware) {
        hardware.network_bytes_per_second = self.speed_now();
        self.outlets.hardware.send_replace(hardware.clone());
        self.hardware = Some(hardware);
        self.find_devices();
        if self.config.hold.is_none()
            && let Some(session) = self.session_task.take()
        {
            self.tasks.spawn(session.run());
        }
        if !self.checks.is_empty() {
            self.decide();
            let snapshot = self.snapshot();
            for reply in std::mem::take(&mut self.checks) {
                let _ = reply.send(snapshot.clone());
            }
        }
    }

    fn on_free_disk(&mut self, bytes: Option<u64>) {
        if let Some(hardware) = &mut self.hardware {
            hardware.free_disk_bytes = bytes;
            self.outlets.hardware.send_replace(hardware.clone());
        }
    }

    fn on_storage_fault(&mut self, error: &StoreError) {
        let message = error.to_string();
        if self.storage_fault.as_ref() != Some(&message) {
            tracing::error!(%error, "the data folder cannot be written");
            self.look_around_at = Instant::now() + LOOK_AROUND_IN_TROUBLE;
            self.storage_fault = Some(message);
        }
    }

    fn requirements(&self) -> Vec<requirements::Requirement> {
        match (self.policy(), &self.hardware) {
            (Some(policy), Some(hardware)) => requirements::check(&policy, hardware),
            _ => Vec::new(),
        }
    }

    /// The network's own; the public one's before a network may be asked.
    fn policy(&self) -> Option<Policy> {
        let of_public = || self.config.hold.map(|_| Policy::public());
        self.network.policy.clone().or_else(of_public)
    }

    fn now_ms(&self) -> i64 {
        self.edges.clock.now_ms()
    }

    /// Runs a task whose result comes back as an input.
    fn report(&mut self, task: impl Future<Output = Input> + Send + 'static) {
        let input = self.input.clone();
        self.tasks.spawn(async move {
            let _ = input.send(task.await);
        });
    }

    /// Runs a write to the database of which only a failure is of interest.
    fn remember(&mut self, task: impl Future<Output = Result<(), StoreError>> + Send + 'static) {
        let input = self.input.clone();
        self.tasks.spawn(async move {
            if let Err(error) = task.await {
                let _ = input.send(Input::StorageFault(error));
            }
        });
    }
}

/// Writes the newest pauses to the database, one write after the other: the last word stands.
async fn keep_pauses(
    store: Store,
    mut pauses: watch::Receiver<Pauses>,
    input: mpsc::UnboundedSender<Input>,
) {
    let mut kept = pauses.borrow().clone();
    while pauses.changed().await.is_ok() {
        let newest = pauses.borrow_and_update().clone();
        let mut written = Ok(());
        if newest.node != kept.node {
            written = store.set_setting(PAUSE_SETTING, &newest.node).await;
        }
        if written.is_ok() && newest.devices != kept.devices {
            written = store
                .set_setting(DEVICE_PAUSES_SETTING, &newest.devices)
                .await;
        }
        match written {
            Ok(()) => kept = newest,
            Err(error) => _ = input.send(Input::StorageFault(error)),
        }
    }
}
