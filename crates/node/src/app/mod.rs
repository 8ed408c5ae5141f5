//! The program around a node: settings, models, books, GPU readings, and one API for all of it.
//!
//! [`App`] is what a window, a tray, a browser and a command line hold. Commands go in through
//! [`App::call`], everything else comes out as [`AppEvent`]s.

#![deny(missing_docs)]

mod accounts;
pub mod api;
mod commands;
mod consumption;
mod joining;
mod obstacles;
mod owner;
mod refusal;
mod removal;
pub mod settings;
mod supervisor;
mod support;
mod timeline;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use infera_surroundings::{Network, Observers, Wanted};
use sysinfo::System;
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::task::JoinHandle;

pub use crate::identity::KeySource;

use self::api::{AccountState, ApiError, AppEvent, AppState, ChatEvent, Host, Obstacle, Refusal};
use self::owner::Owner;
use self::settings::{Preferences, Settings, SettingsError};
use self::supervisor::{Running, Supervisor};
use crate::account::Belonging;
use crate::account::client::AccountLink;
use crate::account::linking::LinkFault;
use crate::books::Today;
use crate::clock::{Clock, Entropy};
use crate::data_dir::{DataDirError, LockedDataDir};
use crate::engine_link::{ChildEngine, EngineError, EngineLink};
use crate::governor::rules::{Held, Rules};
use crate::governor::{Decision, Reason};
use crate::gpu::{self, Card, GpuReader, GpuSample, Meter, Telemetry};
use crate::hardware::{HardwareProbe, SystemProbe};
use crate::library::{InstalledFile, Library, LibraryConfig, LibraryEdges, LibraryError};
use crate::networks::NetworkSetting;
use crate::node::{Around, Ended, Node};
use crate::state::{NodeSnapshot, StartFault, State, Summary};
use crate::store::Store;

/// What a program is started with.
pub struct AppConfig {
    /// The data folder; its lock is held for as long as the program runs.
    pub data: LockedDataDir,
    /// Where the node's key is looked for. A key file in the data folder goes before a keychain.
    pub key: KeySource,
    /// A file of PEM certificates to trust beside the system's; it is kept in the data folder.
    pub ca_file: Option<PathBuf>,
    /// Limits the context of all models below their own.
    pub context_tokens: Option<u32>,
    /// Where downloaded models are kept; in the data folder if absent.
    pub models_folder: Option<PathBuf>,
    /// Runs in a window of its own; else in a browser, or without either.
    pub desktop: bool,
    /// What the command line sets. It is kept as if it had been set in the window.
    pub overrides: Overrides,
    /// How engine processes are started: the node's own, and one for chats and benchmarks.
    pub engine: ChildEngine,
    /// The time of day, which tests set.
    pub clock: Arc<dyn Clock>,
    /// Chance, which tests decide.
    pub entropy: Arc<dyn Entropy>,
    /// What goes on around the program.
    pub observers: Observers,
    /// What tells what the GPUs do; none for what this system has.
    pub gpu_readers: Option<Vec<Box<dyn GpuReader>>>,
}

/// Settings that stand above the stored ones. `None` leaves them.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Whether the person lends their GPU. `true` also ends the first start.
    pub agreed: Option<bool>,
    /// The network's address.
    pub balancer: Option<String>,
    /// Files of the models that answer jobs; they stand in place of all that were chosen.
    pub models: Option<Vec<PathBuf>>,
    /// What computes; empty for the best there is.
    pub devices: Option<Vec<settings::DeviceSetting>>,
    /// How many jobs may run at once, for each model.
    pub jobs_at_once: Option<u32>,
    /// Whether a browser on this machine finds the window.
    pub web_control: Option<bool>,
}

/// Why the program cannot start at all. What keeps only the node from starting is a [`StartFault`],
/// which the window shows.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be used, or the certificates in it.
    #[error(transparent)]
    Data(#[from] DataDirError),
    /// The settings cannot be read or kept.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The models folder cannot be used.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The engine's program cannot be started.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The system gives no thread for the GPU's readings.
    #[error("the program cannot start its threads: {0}. Close other programs")]
    Threads(std::io::Error),
}

/// A running program. Clones are handles to the same one.
#[derive(Clone)]
pub struct App(Arc<Parts>);

struct Parts {
    data: LockedDataDir,
    key: KeySource,
    preferences: watch::Sender<Preferences>,
    /// Held from reading the preferences until the changed ones are on disk.
    changing: std::sync::Mutex<()>,
    running: watch::Receiver<Running>,
    store: watch::Receiver<Option<Store>>,
    try_again: Arc<Notify>,
    owner: Owner,
    library: Library,
    telemetry: Telemetry,
    /// What was opened outside the window and is not decided on.
    invitation: watch::Sender<Option<String>>,
    /// What the operating system knows; none until it has been looked at.
    cards: watch::Sender<Vec<Card>>,
    /// Model files in use that lie outside the models folder.
    outside: watch::Sender<Vec<InstalledFile>>,
    observers: Observers,
    /// What the owner wants respected of what is seen around the program.
    rules: watch::Sender<Rules>,
    /// What the node is to know of the account.
    belonging: watch::Sender<Belonging>,
    /// The account at the network that it was last asked for.
    account_link: tokio::sync::Mutex<Option<(NetworkSetting, Arc<AccountLink>)>>,
    /// Why this machine is not an account's, after the last try.
    link_fault: watch::Sender<Option<LinkFault>>,
    /// Held while this machine becomes an account's, or nobody's.
    linking: tokio::sync::Mutex<()>,
    today: watch::Sender<Today>,
    /// What the GPUs drew and is not written down. Held while it is being written.
    meter: tokio::sync::Mutex<Meter>,
    /// When the stretch began that has not ended.
    open_stretch: watch::Sender<Option<i64>>,
    host: watch::Sender<Host>,
    states: watch::Sender<AppState>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// PEM certificates to trust beside the system's.
    roots: Option<Vec<u8>>,
    /// The node is to end.
    ending: watch::Sender<bool>,
    /// The program is.
    ended: watch::Sender<bool>,
    supervisor: std::sync::Mutex<Option<JoinHandle<()>>>,
}

/// How often the day's figures are counted anew though nothing happened: midnight passes.
const COUNT_TODAY: Duration = Duration::from_mins(1);
/// So long the first word about the network is waited for: where nothing tells of it, none comes.
const NETWORK_LIMIT: Duration = Duration::from_secs(2);
/// A node that is being started anew answers commands after so long at most.
const NODE_LIMIT: Duration = Duration::from_secs(10);

impl App {
    /// Starts on the current tokio runtime.
    pub async fn start(config: AppConfig) -> Result<Self, StartError> {
        let folder = config.data.folder().clone();
        let roots = folder.take_certificates(config.ca_file.as_deref())?;
        let mut preferences = Preferences::read(&folder.settings())?;
        if config
            .overrides
            .apply(&mut preferences, config.clock.now_ms())
        {
            preferences.write(&folder.settings())?;
        }
        let models_folder = config
            .models_folder
            .unwrap_or_else(|| folder.path().join("models"));
        let library = LibraryConfig {
            limits: preferences.settings.library_limits(),
            metered: (!preferences.settings.rules.metered_downloads).then_some(false),
            ..LibraryConfig::new(&models_folder)
        };
        let library = Library::open(library, LibraryEdges::system()?).await?;
        let readers = config
            .gpu_readers
            .unwrap_or_else(|| gpu::readers(&config.engine.processes));
        let telemetry =
            Telemetry::start(readers, Arc::clone(&config.clock)).map_err(StartError::Threads)?;
        let renderer = config.engine.renderer();
        let engine: Arc<dyn EngineLink> = Arc::new(config.engine);
        let hardware: Arc<dyn HardwareProbe> = Arc::new(SystemProbe::new(
            Arc::clone(&engine),
            folder.path().to_owned(),
        ));
        let host = Host {
            name: System::host_name().unwrap_or_else(|_| "this machine".to_owned()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            desktop: config.desktop,
            os: std::env::consts::OS.to_owned(),
            data_folder: folder.path().display().to_string(),
            models_folder: models_folder.display().to_string(),
            web_address: None,
        };
        let owner = Owner::start(
            Arc::clone(&engine),
            renderer,
            Arc::clone(&config.entropy),
            folder.tunings(),
        );
        let rules = watch::Sender::new(preferences.settings.rules.clone());
        let belonging = watch::Sender::new(preferences.belonging(&host.name));
        let preferences = watch::Sender::new(preferences);
        let (running_out, running) = watch::channel(Running::Starting);
        let (store_out, store) = watch::channel(None);
        let try_again = Arc::new(Notify::new());
        let ending = watch::Sender::new(false);
        let supervisor = Supervisor {
            data: folder,
            key: config.key.clone(),
            roots: roots.clone(),
            context_tokens: config.context_tokens,
            engine,
            hardware,
            clock: Arc::clone(&config.clock),
            entropy: Arc::clone(&config.entropy),
            around: Around {
                seen: config.observers.seen.clone(),
                rules: rules.subscribe(),
                gpus: telemetry.seen(),
                belonging: belonging.subscribe(),
                ready_to_sleep: config.observers.ready_to_sleep.clone(),
            },
        };
        let (writer, writers) = mpsc::channel(1);
        let supervising = tokio::spawn(supervisor.run(
            preferences.subscribe(),
            running_out,
            store_out,
            Arc::clone(&try_again),
            ending.subscribe(),
            writers,
        ));
        let first = AppState {
            state: State::new(Summary::ReadingHardware, &*config.clock),
            node: None,
            setup: preferences.borrow().setup,
            settings: preferences.borrow().settings.clone(),
            invitation: None,
            account: None,
            link: None,
            host: host.clone(),
            adapters: Vec::new(),
            installed: Vec::new(),
            downloads: Vec::new(),
            imports: Vec::new(),
            disk: library.state().borrow().disk,
            preset: preferences.borrow().settings.rules.preset(),
            today: Today::default(),
            obstacles: Vec::new(),
            benchmark: None,
        };
        let app = Self(Arc::new(Parts {
            data: config.data,
            key: config.key,
            preferences,
            changing: std::sync::Mutex::new(()),
            running,
            store,
            try_again,
            owner,
            library,
            telemetry,
            invitation: watch::Sender::new(None),
            cards: watch::Sender::new(Vec::new()),
            outside: watch::Sender::new(Vec::new()),
            observers: config.observers,
            rules,
            belonging,
            account_link: tokio::sync::Mutex::default(),
            link_fault: watch::Sender::new(None),
            linking: tokio::sync::Mutex::default(),
            today: watch::Sender::new(Today::default()),
            meter: tokio::sync::Mutex::default(),
            open_stretch: watch::Sender::new(None),
            host: watch::Sender::new(host),
            states: watch::Sender::new(first),
            clock: config.clock,
            entropy: config.entropy,
            roots,
            ending,
            ended: watch::Sender::new(false),
            supervisor: std::sync::Mutex::new(Some(supervising)),
        }));
        app.tell_observers(false);
        app.publish(None);
        tokio::spawn(app.clone().follow());
        tokio::spawn(app.clone().count_today());
        tokio::spawn(app.clone().keep_timeline(writer.clone()));
        tokio::spawn(app.clone().keep_consumption(writer));
        tokio::spawn(app.clone().spare_metered_network());
        tokio::spawn(app.clone().keep_linked());
        app.look_for_cards();
        app.look_at_files_outside();
        Ok(app)
    }

    /// The state as it changes. Costs nothing while nobody draws.
    pub fn states(&self) -> watch::Receiver<AppState> {
        self.0.states.subscribe()
    }

    /// All that comes by itself. The GPU is looked at every second while one of these exists.
    pub fn events(&self) -> AppEvents {
        let mut states = self.states();
        // The first is the state now.
        states.mark_changed();
        AppEvents {
            states,
            samples: self.0.telemetry.samples(),
            chats: self.0.owner.chats(),
            _watching: self.0.telemetry.watch(),
        }
    }

    /// The data folder, with its lock and its files.
    pub fn data(&self) -> &LockedDataDir {
        &self.0.data
    }

    /// Whether the connection costs by the byte. Not where the system does not tell.
    pub async fn is_metered(&self) -> bool {
        let mut seen = self.0.observers.seen.clone();
        infera_surroundings::network(&mut seen, NETWORK_LIMIT).await == Some(Network::Metered)
    }

    /// Tells where the web window is; none when there is none any more.
    pub fn set_web_address(&self, address: Option<String>) {
        self.0.host.send_modify(|host| host.web_address = address);
    }

    /// Returns when there is a node for the first time, or a reason why there is none.
    pub async fn started(&self) {
        let mut running = self.0.running.clone();
        let _ = running
            .wait_for(|running| !matches!(running, Running::Starting))
            .await;
        // The state says it from now on.
        self.publish(None);
    }

    /// Returns when the program has been told to end, by whomever.
    pub async fn ended(&self) {
        let mut ended = self.0.ended.subscribe();
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Hands back what is in progress and ends: within five seconds, also without a network.
    pub async fn shut_down(&self) {
        self.0.ended.send_replace(true);
        self.stop_working().await;
    }

    async fn stop_working(&self) {
        self.0.ending.send_replace(true);
        self.0.library.close().await;
        let supervisor = match self.0.supervisor.lock() {
            Ok(mut supervisor) => supervisor.take(),
            Err(_) => None,
        };
        if let Some(supervisor) = supervisor {
            let _ = supervisor.await;
        }
    }

    /// Brings the state up to date whenever anything it rests on changes.
    async fn follow(self) {
        let parts = &self.0;
        let mut running = parts.running.clone();
        let mut preferences = parts.preferences.subscribe();
        let mut library = parts.library.state();
        let mut own_use = parts.owner.use_now();
        let mut host = parts.host.subscribe();
        let mut today = parts.today.subscribe();
        let mut ended = std::pin::pin!(self.ended());
        let mut snapshots: Option<watch::Receiver<NodeSnapshot>> = None;
        let mut cards = parts.cards.subscribe();
        let mut outside = parts.outside.subscribe();
        // The GPU is looked at while there is work, for the charts of the last minutes.
        let mut watching = None;
        // And for the rules about it, less often.
        let mut ruling = None;
        let mut allowed = preferences.borrow().settings.library_limits();
        let mut models = preferences.borrow().settings.models.clone();
        // What the names of the readings were last made of.
        let mut gpus = Vec::new();
        loop {
            let snapshot_changed = async {
                let changed = match &mut snapshots {
                    Some(snapshots) => snapshots.changed().await.is_ok(),
                    None => false,
                };
                if !changed {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                Ok(()) = running.changed() => {
                    let node = running.borrow_and_update().clone();
                    snapshots = None;
                    if let Running::Node { node, .. } = node {
                        snapshots = Some(node.snapshots());
                        let busy = own_use.borrow().busy;
                        let _ = node.own_use(busy).await;
                    }
                }
                Ok(()) = own_use.changed() => {
                    let busy = own_use.borrow_and_update().busy;
                    let node = running.borrow().clone();
                    if let Running::Node { node, .. } = node {
                        let _ = node.own_use(busy).await;
                    }
                }
                () = snapshot_changed => {}
                Ok(()) = preferences.changed() => {
                    let settings = preferences.borrow_and_update().settings.clone();
                    if settings.models != models {
                        models = settings.models.clone();
                        self.look_at_files_outside();
                    }
                    let limits = settings.library_limits();
                    if limits != allowed {
                        allowed = limits;
                        let _ = parts.library.set_limits(limits).await;
                    }
                }
                Ok(()) = library.changed() => {}
                Ok(()) = host.changed() => {}
                Ok(()) = cards.changed() => gpus.clear(),
                Ok(()) = outside.changed() => {}
                Ok(()) = today.changed() => {}
                () = &mut ended => return,
            }
            if let Some(snapshots) = &snapshots
                && let Some(hardware) = &snapshots.borrow().hardware
                && hardware.gpus != gpus
            {
                gpus.clone_from(&hardware.gpus);
                let names = gpu::card_names(&gpus, &parts.cards.borrow());
                parts.telemetry.set_names(names);
            }
            let works =
                |snapshots: &watch::Receiver<NodeSnapshot>| !snapshots.borrow().work.is_empty();
            let working = snapshots.as_ref().is_some_and(works) || own_use.borrow().busy;
            self.tell_observers(working);
            if working != watching.is_some() {
                watching = working.then(|| parts.telemetry.watch());
            }
            let look = preferences.borrow().settings.rules.gpu.look()
                && snapshots
                    .as_ref()
                    .is_some_and(|snapshots| rules_look(&snapshots.borrow().decision));
            if look != ruling.is_some() {
                ruling = look.then(|| parts.telemetry.watch_for_rules());
            }
            self.publish(None);
        }
    }

    /// `fresh` stands for the snapshot that the node last published.
    fn publish(&self, fresh: Option<NodeSnapshot>) -> AppState {
        let state = self.compose(fresh);
        self.0.states.send_if_modified(|current| {
            let changed = *current != state;
            if changed {
                current.clone_from(&state);
            }
            changed
        });
        state
    }

    fn compose(&self, fresh: Option<NodeSnapshot>) -> AppState {
        let parts = &self.0;
        let preferences = parts.preferences.borrow().clone();
        let active = preferences.settings.balancer.as_deref();
        let account = (preferences.accounts.account.as_ref()).map(|account| AccountState {
            id: account.id,
            holds_key: account.holds_key,
            linked: preferences.accounts.in_network(active).is_some(),
        });
        let link = preferences.link_state(parts.link_fault.borrow().as_ref());
        let settings = preferences.settings;
        let running = parts.running.borrow().clone();
        let node = fresh.or_else(|| match &running {
            Running::Node { node, .. } => Some(node.snapshots().borrow().clone()),
            Running::Starting | Running::Failed { .. } => None,
        });
        let mut obstacles = node.as_ref().map(obstacles::obstacles).unwrap_or_default();
        let mut state = match &node {
            Some(node) => node.state.clone(),
            None => State::new(Summary::ReadingHardware, &*parts.clock),
        };
        if let Running::Failed { fault } = running {
            obstacles.push(Obstacle::CannotStart {
                fault: fault.clone(),
            });
            state = State::new(Summary::CannotStart { fault }, &*parts.clock);
        }
        let hardware = node.as_ref().and_then(|node| node.hardware.as_ref());
        let adapters = hardware.map_or_else(Vec::new, |hardware| {
            let cards = parts.cards.borrow();
            gpu::adapters(
                &hardware.gpus,
                &cards,
                &settings.devices,
                &settings.excluded_adapters,
            )
        });
        let library = parts.library.state().borrow().clone();
        let outside = parts.outside.borrow();
        let files = library.installed.iter().chain(&*outside);
        let installed = commands::installed(files, &settings, node.as_ref(), &adapters);
        AppState {
            state,
            setup: preferences.setup,
            host: parts.host.borrow().clone(),
            adapters,
            installed,
            downloads: library.downloads,
            imports: library.imports,
            disk: library.disk,
            today: parts.today.borrow().clone(),
            obstacles,
            preset: settings.rules.preset(),
            invitation: parts.invitation.borrow().clone(),
            account,
            link,
            benchmark: parts.owner.use_now().borrow().benchmark.clone(),
            settings,
            node,
        }
    }

    /// What the operating system knows of graphics cards, beside everything else.
    fn look_for_cards(&self) {
        let cards = self.0.cards.clone();
        tokio::task::spawn_blocking(move || cards.send_replace(gpu::cards()));
    }

    /// Reads the model files in use that the library does not know, beside everything else.
    fn look_at_files_outside(&self) {
        let (outside, folder) = (
            self.0.outside.clone(),
            PathBuf::from(&self.0.host.borrow().models_folder),
        );
        let models = self.0.preferences.borrow().settings.models.clone();
        tokio::task::spawn_blocking(move || {
            let files = models
                .iter()
                .map(PathBuf::from)
                .filter(|path| path.parent() != Some(&*folder))
                .map(|path| InstalledFile::at(&path))
                .collect();
            outside.send_replace(files);
        });
    }

    /// What the owner's rules need to be looked for.
    fn tell_observers(&self, job_runs: bool) {
        let rules = &self.0.preferences.borrow().settings.rules;
        let wanted = Wanted {
            programs: rules.programs.clone(),
            keep_awake: rules.keep_awake && job_runs,
            hurry: job_runs,
        };
        self.0.observers.wanted.send_if_modified(|current| {
            let changed = *current != wanted;
            *current = wanted;
            changed
        });
        self.0.rules.send_if_modified(|current| {
            let changed = current != rules;
            current.clone_from(rules);
            changed
        });
    }

    /// Downloads wait while the connection costs by the byte, if the person wants that.
    async fn spare_metered_network(self) {
        let mut seen = self.0.observers.seen.clone();
        let mut preferences = self.0.preferences.subscribe();
        let mut ended = std::pin::pin!(self.ended());
        let mut told = None;
        if preferences.borrow().settings.rules.metered_downloads {
            tokio::select! {
                _ = infera_surroundings::network(&mut seen, NETWORK_LIMIT) => {}
                // Whoever holds the program keeps its files from going.
                () = &mut ended => return,
            }
        }
        loop {
            let is_rule = (preferences.borrow_and_update().settings.rules).metered_downloads;
            let network = seen.borrow_and_update().network;
            let metered = is_rule && network == Some(Network::Metered);
            if told != Some(metered) && self.0.library.set_metered(metered).await.is_ok() {
                told = Some(metered);
            }
            tokio::select! {
                Ok(()) = seen.changed() => {}
                Ok(()) = preferences.changed() => {}
                () = &mut ended => return,
            }
        }
    }

    /// Counts the day's jobs whenever work was recorded, and as midnight passes.
    async fn count_today(self) {
        let mut stores = self.0.store.clone();
        let open = stores.wait_for(Option::is_some).await;
        let Ok(Some(store)) = open.map(|store| store.clone()) else {
            return;
        };
        let mut work = store.work_changes();
        let mut ended = std::pin::pin!(self.ended());
        let mut passed = tokio::time::interval(COUNT_TODAY);
        loop {
            tokio::select! {
                Ok(()) = work.changed() => {}
                _ = passed.tick() => {}
                () = &mut ended => return,
            }
            match store.today(&self.0.clock.now()).await {
                Ok(figures) => {
                    self.0.today.send_if_modified(|current| {
                        let changed = *current != figures;
                        *current = figures;
                        changed
                    });
                }
                Err(error) => tracing::warn!(%error, "the day's jobs cannot be counted"),
            }
        }
    }

    /// Where there is no node: starts it once more, and waits for what comes of that.
    async fn try_again(&self) {
        let mut running = self.0.running.clone();
        let failed = matches!(&*running.borrow_and_update(), Running::Failed { .. });
        if failed {
            self.0.try_again.notify_one();
            let _ = tokio::time::timeout(NODE_LIMIT, running.changed()).await;
        }
    }

    /// The running node; waits while it is being started anew.
    async fn node(&self) -> Result<Node, ApiError> {
        let mut running = self.0.running.clone();
        let ready = running.wait_for(|running| !matches!(running, Running::Starting));
        match tokio::time::timeout(NODE_LIMIT, ready).await {
            Ok(Ok(running)) => match &*running {
                Running::Node { node, .. } => Ok(node.clone()),
                Running::Failed { fault } => Err(not_started(fault)),
                Running::Starting => Err(Refusal::Ending.into()),
            },
            Ok(Err(_)) => Err(Refusal::Ending.into()),
            Err(_) => Err(Refusal::Starting.into()),
        }
    }

    /// Asks the node something. One that ends meanwhile, because a setting has changed, is followed by
    /// another, which is asked in its place.
    async fn ask_node<T, Answer: Future<Output = Result<T, Ended>>>(
        &self,
        ask: impl Fn(Node) -> Answer,
    ) -> Result<T, ApiError> {
        let mut running = self.0.running.clone();
        let until = tokio::time::Instant::now() + NODE_LIMIT;
        loop {
            running.mark_unchanged();
            if let Ok(answer) = ask(self.node().await?).await {
                return Ok(answer);
            }
            let next = tokio::time::timeout_at(until, running.changed());
            if !matches!(next.await, Ok(Ok(()))) {
                return Err(Ended.into());
            }
        }
    }

    /// The open database; waits while it is being opened.
    async fn store(&self) -> Result<Store, ApiError> {
        let mut running = self.0.running.clone();
        let mut store = self.0.store.clone();
        let failed = running.wait_for(|running| matches!(running, Running::Failed { .. }));
        let opened = async {
            let open = store.wait_for(Option::is_some).await.ok()?;
            open.clone()
        };
        tokio::select! {
            biased;
            Some(store) = opened => Ok(store),
            Ok(running) = failed => match &*running {
                Running::Failed { fault } => Err(not_started(fault)),
                Running::Starting | Running::Node { .. } => Err(Refusal::Ending.into()),
            },
            () = tokio::time::sleep(NODE_LIMIT) => Err(Refusal::Starting.into()),
        }
    }

    /// Changes what is kept of the person's choices, on disk first.
    fn change(&self, change: impl FnOnce(&mut Preferences)) -> Result<AppState, ApiError> {
        self.try_change(|preferences| {
            change(preferences);
            Ok(())
        })
    }

    /// The same; what is refused changes nothing.
    fn try_change(
        &self,
        change: impl FnOnce(&mut Preferences) -> Result<(), ApiError>,
    ) -> Result<AppState, ApiError> {
        let guard = self.0.changing.lock();
        let mut preferences = self.0.preferences.borrow().clone();
        change(&mut preferences)?;
        if preferences != *self.0.preferences.borrow() {
            preferences.write(&self.0.data.folder().settings())?;
            let belonging = preferences.belonging(&self.0.host.borrow().name);
            self.0.preferences.send_replace(preferences);
            self.0.belonging.send_if_modified(|current| {
                let changed = *current != belonging;
                *current = belonging;
                changed
            });
        }
        drop(guard);
        Ok(self.publish(None))
    }
}

/// Whether the rules about GPUs have anything to look at: while nothing else keeps the node from
/// working.
fn rules_look(decision: &Decision) -> bool {
    let is_about_gpus = |held: &Held| held.rule.is_about_a_gpu();
    match decision.reason {
        None => true,
        Some(Reason::Rule { .. }) => decision.held.iter().any(is_about_gpus),
        Some(_) => false,
    }
}

fn not_started(fault: &StartFault) -> ApiError {
    Refusal::NotStarted {
        fault: fault.clone(),
    }
    .into()
}

impl Overrides {
    /// What the environment sets, for a program that is started without a command line:
    /// `INFERA_BALANCER`, `INFERA_MODEL`, `INFERA_DEVICE` (`auto`, `cpu`, or what names a
    /// GPU; several with commas between them), `INFERA_AGREE=1`, `INFERA_WEB_CONTROL=1`.
    pub fn from_environment() -> Self {
        let text = |name| std::env::var(name).ok().filter(|text| !text.is_empty());
        Self {
            agreed: text("INFERA_AGREE").map(|text| text == "1"),
            balancer: text("INFERA_BALANCER"),
            models: text("INFERA_MODEL").map(|path| vec![path.into()]),
            devices: text("INFERA_DEVICE").map(|names| {
                let names = names.split(',').map(str::trim);
                names.filter_map(settings::DeviceSetting::parse).collect()
            }),
            jobs_at_once: None,
            web_control: text("INFERA_WEB_CONTROL").map(|text| text == "1"),
        }
    }

    /// Whether anything changed.
    fn apply(self, preferences: &mut Preferences, now_ms: i64) -> bool {
        let before = preferences.clone();
        let address = self.balancer.or(preferences.settings.balancer.clone());
        if let Some(address) = address
            && let Err(error) = preferences.settings.activate(&address, now_ms)
        {
            tracing::warn!(%error, "the network stays as it was");
        }
        let Settings {
            models,
            devices,
            jobs_at_once,
            web_control,
            ..
        } = &mut preferences.settings;
        if let Some(agreed) = self.agreed {
            preferences.setup.agreed = agreed;
            preferences.setup.finished |= agreed;
        }
        if let Some(paths) = self.models {
            *models = paths
                .into_iter()
                .map(|path| path.to_string_lossy().into_owned())
                .collect();
        }
        if let Some(chosen) = self.devices {
            *devices = chosen;
        }
        *jobs_at_once = self.jobs_at_once.unwrap_or(*jobs_at_once);
        *web_control = self.web_control.unwrap_or(*web_control);
        *preferences != before
    }
}

/// See [`App::events`].
pub struct AppEvents {
    states: watch::Receiver<AppState>,
    samples: broadcast::Receiver<GpuSample>,
    chats: broadcast::Receiver<(String, ChatEvent)>,
    _watching: gpu::Watch,
}

impl AppEvents {
    /// None when the program has ended.
    pub async fn next(&mut self) -> Option<AppEvent> {
        use broadcast::error::RecvError;
        loop {
            tokio::select! {
                changed = self.states.changed() => {
                    changed.ok()?;
                    let state = Box::new(self.states.borrow_and_update().clone());
                    return Some(AppEvent::State { state });
                }
                chat = self.chats.recv() => match chat {
                    Ok((id, update)) => return Some(AppEvent::Chat { id, update }),
                    Err(RecvError::Lagged(missed)) => {
                        tracing::warn!(missed, "a window is too slow for a chat's text");
                    }
                    Err(RecvError::Closed) => return None,
                },
                sample = self.samples.recv() => match sample {
                    Ok(sample) => return Some(AppEvent::Gpu { sample }),
                    // The next one is newer.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                },
            }
        }
    }
}
