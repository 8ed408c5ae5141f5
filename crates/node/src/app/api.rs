//! The one API of the program: what window, tray, browser and command line ask of it.

use infera_protocol::account::{
    AccountKeyRow, FleetAction, KeyRequest, Machine, NewKey, Overview, Statement,
};
use infera_protocol::node_api::{AdmissionRule, Checking, ModelOffer};
use infera_protocol::requirements::Requirement;
use infera_protocol::{AccountId, Fingerprint, NodeId};
use infera_surroundings::RunningProgram;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ts_rs::TS;

use super::App;
pub use super::refusal::{
    AccountFault, AddressFault, ApiError, HistoryFault, InvitationFault, LibraryFault, Refusal,
};
use super::settings::{Settings, SettingsChange, Setup};
use crate::account::linking::LinkFault;
use crate::books::{Earnings, EarningsQuery, JobsPage, JobsQuery, Stretch, StretchesQuery, Today};
use crate::governor::rules::{Preset, Why};
use crate::gpu::{Adapter, GpuHistory, GpuSample};
use crate::library::{CatalogueItem, DiskUse, Download, DownloadRequest, Import, InstalledModel};
use crate::look_up::InvitationTerms;
use crate::model_fault::ModelFault;
use crate::state::{NodeSnapshot, StartFault, State, TurnedAway};
use crate::unreachable::Unreachable;

/// Everything that a window shows, but for long lists and the GPU's readings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct AppState {
    /// What the window's bar, the tray and the command line say first.
    pub state: State,
    /// None while the node cannot be started: `state` says why.
    pub node: Option<NodeSnapshot>,
    /// What the rules in `settings` are together; none where they were put together by hand.
    pub preset: Option<Preset>,
    /// How far the first start has come; the window opens it until it is finished.
    pub setup: Setup,
    /// All settings as they are kept.
    pub settings: Settings,
    /// An invitation that was opened outside the window, by a click, and on which the person has not
    /// decided yet. It may be any text.
    pub invitation: Option<String>,
    /// The account that this machine belongs to.
    pub account: Option<AccountState>,
    /// What became of a linking code; none while there is nothing to tell.
    pub link: Option<LinkState>,
    /// The program and the machine it runs on.
    pub host: Host,
    /// All graphics adapters, also those that cannot compute. Empty until the hardware is known.
    pub adapters: Vec<Adapter>,
    /// Model files in the models folder by name, then those in use from elsewhere.
    pub installed: Vec<InstalledModel>,
    /// Downloads in the order they were asked for. A finished one is among `installed` instead.
    pub downloads: Vec<Download>,
    /// Files that are being copied into the models folder, in the order they came.
    pub imports: Vec<Import>,
    /// What models take and what is left, for the models page.
    pub disk: DiskUse,
    /// The day's jobs and points, since midnight by the machine's clock.
    pub today: Today,
    /// Every reason that keeps jobs away now, the heaviest first.
    pub obstacles: Vec<Obstacle>,
    /// The last measurement or the one in progress. None before the first, and when it was
    /// dismissed or gave way to something else.
    pub benchmark: Option<Benchmark>,
}

/// The account that this machine belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct AccountState {
    /// Its public key.
    pub id: AccountId,
    /// Its key is on this machine: from here it spends, and commands its machines.
    pub holds_key: bool,
    /// This machine is the account's in the active network.
    pub linked: bool,
}

/// What became of a linking code that was typed here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "link", rename_all = "snake_case")]
pub enum LinkState {
    /// It is used as soon as the network can be asked.
    Waiting,
    /// It is of no use.
    Failed {
        /// What is wrong with it.
        fault: LinkFault,
        /// The same in English.
        message: String,
    },
}

/// An account's backup. Whoever has it owns the account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct AccountBackup {
    /// 24 words, to be written down in their order.
    pub words: Vec<String>,
    /// A name for the file, without a folder.
    pub file_name: String,
    /// The same words as a file, with an explanation.
    pub text: String,
}

/// What an account is restored from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct AccountWords {
    /// Its words as they are typed, or a backup file's text.
    pub words: String,
}

/// What a linking code is to be good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct LinkCodeRequest {
    /// How many machines may be linked by it.
    pub uses: u32,
    /// For how long.
    pub seconds: u32,
}

/// A linking code, to be typed on another machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct NewLinkCode {
    /// Secret: whoever has it can make their machine this account's.
    pub code: String,
    /// How many machines may be linked by it.
    pub uses: u32,
    /// Unix time in milliseconds.
    pub expires_ms: i64,
}

/// A linking code as it is typed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct ByCode {
    /// In any case, with or without dashes.
    pub code: String,
}

/// One of the account's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct ByName {
    /// `AccountKeyRow.name`.
    pub name: String,
}

/// One of the account's machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct ByNode {
    /// `Machine.node`.
    pub node: NodeId,
}

/// How far back spending is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct SpendingQuery {
    /// Up to 92, today included.
    pub days: u32,
}

/// What machines of the account are to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct FleetOrder {
    /// Which; empty for all.
    pub nodes: Vec<NodeId>,
    /// What.
    pub action: FleetAction,
}

/// What became of an order at one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct FleetAnswer {
    /// Which.
    pub node: NodeId,
    /// None where it was told.
    pub fault: Option<FleetFault>,
}

/// Why a machine was not told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS, thiserror::Error)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum FleetFault {
    /// It is off, or not connected.
    #[error("it is not connected now")]
    NotHere,
    /// Its owner has to allow it there first.
    #[error("it takes no commands from afar: allow them on that machine")]
    NotAllowed,
    /// The account has no such machine here.
    #[error("the account has no such machine in this network")]
    NoSuch,
    /// What none of these says.
    #[error("{message}")]
    Other {
        /// In English.
        message: String,
    },
}

/// Where the program runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Host {
    /// The machine's own name.
    pub name: String,
    /// The program's, as in `0.1.0`.
    pub version: String,
    /// In a window of its own; else in a browser.
    pub desktop: bool,
    /// As Rust names it: `linux`, `macos`, `windows`. What to do about a driver depends on it.
    pub os: String,
    /// The whole path of the folder with settings, history and logs.
    pub data_folder: String,
    /// The whole path of the folder that downloads and imports go to.
    pub models_folder: String,
    /// Where a browser on this machine finds the same window; secret, for it holds the token.
    pub web_address: Option<String>,
}

/// Why no jobs come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "obstacle", rename_all = "snake_case")]
pub enum Obstacle {
    /// The person has not agreed to lend their GPU.
    NotAgreed,
    /// The settings name no network.
    NoBalancer,
    /// There is no node: `AppState.node` is none.
    CannotStart {
        /// What stands in the way.
        fault: StartFault,
    },
    /// The person asked for quiet.
    Paused {
        /// Unix time in milliseconds at which it ends by itself; none until the person resumes.
        until_ms: Option<i64>,
    },
    /// The owner uses the GPU themself: a chat or a benchmark.
    OwnUse,
    /// The owner needs the machine.
    Rule {
        /// What for.
        why: Why,
        /// It is over, and the node goes on then: unix time in milliseconds. None while it lasts.
        goes_on_ms: Option<i64>,
    },
    /// The balancer cannot be reached.
    Offline {
        /// What the last try met with.
        reason: Unreachable,
    },
    /// The balancer does not take this node for now.
    TurnedAway {
        /// What the balancer has against it.
        why: TurnedAway,
    },
    /// The balancer speaks another version.
    Outdated {
        /// What the balancer says, in English.
        message: String,
    },
    /// The machine does not have what the network asks for.
    Requirement {
        /// The row that failed.
        requirement: Requirement,
    },
    /// The data folder cannot be written, and work that is not recorded is not done.
    StorageFault {
        /// What the system says, in one sentence in English.
        message: String,
    },
    /// The disk with the data folder is nearly full.
    LowDisk {
        /// What this user may still write there.
        free_bytes: u64,
        /// The node goes on by itself above this.
        resume_above_bytes: u64,
    },
    /// No model is chosen to answer jobs.
    NoModel,
    /// A chosen model does not run. It is started again by itself if its engine only ended.
    ModelBroken {
        /// Its name, as `ModelStatus.name` has it.
        model: String,
        /// Why it does not run.
        fault: ModelFault,
    },
    /// A chosen model is being loaded or tuned, or is about to be.
    ModelLoading {
        /// Its name, as `ModelStatus.name` has it.
        model: String,
    },
    /// A chosen model is ready, and the network offers none like it.
    ModelNotServed {
        /// Its name, as `ModelStatus.name` has it.
        model: String,
    },
    /// Nothing is wrong: the network has no work for this node right now.
    NoDemand,
}

/// A measurement of a model on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Benchmark {
    /// The model file's path, as in `InstalledModel.path`.
    pub model: String,
    /// How far it is, or its figures.
    pub progress: BenchmarkProgress,
}

/// Steps in their order; it stays at the last, which is `done` or `failed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "progress", rename_all = "snake_case")]
pub enum BenchmarkProgress {
    /// The weights go into the device's memory.
    Loading {
        /// What is loaded of the weights; what counts is the share.
        done_bytes: u64,
        /// All weights; 0 while that is unknown.
        total_bytes: u64,
    },
    /// The first time on this GPU and driver.
    Tuning {
        /// Ways of computing that were tried.
        done: u32,
        /// Ways of computing to try.
        total: u32,
    },
    /// The model is loaded and computes.
    Measuring {
        /// From 0 to 100, by steps and not by time.
        percent: u8,
    },
    /// The figures; they stay until the next measurement or until they are dismissed.
    Done {
        /// Name of the device that computed.
        device: String,
        /// Writing one answer, tokens per second.
        decode_tokens_per_second: f32,
        /// Reading a prompt, tokens per second.
        prefill_tokens_per_second: f32,
        /// From the question to the answer's first token, in milliseconds.
        first_token_ms: f32,
        /// The answer to a first question, as it was written.
        answer: String,
    },
    /// There are no figures.
    Failed {
        /// What stood in the way.
        fault: ModelFault,
    },
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct ChatMessage {
    /// Whose turn it was.
    pub role: ChatRole,
    /// What was said, as plain text.
    pub content: String,
}

/// Who says something, in the words of chat templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum ChatRole {
    /// How the model is to answer; first of all, where there is one.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// A question to a model on this machine. Nothing leaves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct ChatRequest {
    /// Chosen by the caller; its answer's events carry it.
    pub id: String,
    /// [`InstalledModel::path`].
    pub model: String,
    /// The whole conversation, oldest first, with the new question last. The node keeps none of it.
    pub messages: Vec<ChatMessage>,
}

/// What comes of a question: `loading` and `tuning` where the model is not loaded, `text` piece by
/// piece, then one `done` or `failed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "chat", rename_all = "snake_case")]
pub enum ChatEvent {
    /// The weights go into the device's memory.
    Loading {
        /// What is loaded of the weights; what counts is the share.
        done_bytes: u64,
        /// All weights; 0 while that is unknown.
        total_bytes: u64,
    },
    /// The first time on this GPU and driver.
    Tuning {
        /// Ways of computing that were tried.
        done: u32,
        /// Ways of computing to try.
        total: u32,
    },
    /// A piece of the answer.
    Text {
        /// To be put behind what came before.
        text: String,
    },
    /// The answer's end.
    Done {
        /// Tokens of the answer.
        tokens: u32,
        /// While it was written, without the wait for the first token. None for an answer too short
        /// to measure.
        tokens_per_second: Option<f32>,
        /// From the question to the first token, in milliseconds.
        first_token_ms: f32,
        /// By the person, or at the longest answer.
        cut_off: bool,
    },
    /// There is no more of the answer; what came may be kept.
    Failed {
        /// What stood in the way.
        fault: ModelFault,
    },
}

/// What comes by itself, over the one stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum AppEvent {
    /// The first of every stream, then whenever something changes.
    State {
        /// The whole of it, in place of the one before.
        state: Box<AppState>,
    },
    /// One look at the adapters, a second after the one before.
    Gpu {
        /// To be put behind what `gpu_history` gave.
        sample: GpuSample,
    },
    /// Something of an answer, to whoever listens.
    Chat {
        /// `ChatRequest.id` of the question.
        id: String,
        /// What is new of it.
        update: ChatEvent,
    },
}

/// For how long, and how abruptly. Without anything: at once, until the person resumes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default, deny_unknown_fields)]
pub struct PauseRequest {
    /// Until the user resumes, if absent.
    #[ts(optional)]
    pub seconds: Option<u64>,
    /// Until the next morning at 8, by the machine's clock. Stands above `seconds`.
    #[ts(optional, as = "Option<bool>")]
    pub until_tomorrow: bool,
    /// Jobs in progress are finished first.
    #[ts(optional, as = "Option<bool>")]
    pub finish_first: bool,
}

/// For so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct ForSeconds {
    /// From now.
    pub seconds: u64,
}

/// A download or a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct ById {
    /// `Download.id`, or `ChatRequest.id`.
    pub id: String,
}

/// A model file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct ByPath {
    /// `InstalledModel.path`; for `import_model`, where the file lies now.
    pub path: String,
}

/// A network that a person may want to join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct ByAddress {
    /// As a person writes it, with or without a scheme; or an invitation to it, in either form.
    pub address: String,
}

/// What a network says of itself, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum LookedUp {
    /// A balancer answered.
    Network {
        /// The whole address, with its scheme.
        url: String,
        /// The name that its owner gave it.
        name: String,
        /// Who runs it, in their own words.
        operator: Option<String>,
        /// What they ask of those who join, in words; may have several lines.
        rules: Option<String>,
        /// Whether answers are checked.
        checking: Checking,
        /// Who may join.
        admission: AdmissionRule,
        /// Nodes that are there now.
        nodes: u32,
        /// How many of them check the others.
        references: u32,
        /// How many must, for an answer to be checked.
        references_needed: u32,
        /// What its certificate is known by; none where the usual authorities vouch for it.
        fingerprint: Option<Fingerprint>,
        /// What the invitation is worth; none for an address.
        invitation: Option<InvitationTerms>,
        /// This machine against the network's rules, as far as it is known.
        requirements: Vec<Requirement>,
        /// What it serves and pays, for the choice of a model.
        models: Vec<ModelOffer>,
    },
    /// Not an address that a node may use.
    BadAddress {
        /// What is wrong with it.
        fault: AddressFault,
        /// The same with the address and its way out, in English.
        message: String,
    },
    /// An invitation by which nobody joins.
    BadInvitation {
        /// What is wrong with it.
        fault: InvitationFault,
        /// The same with what to do, in English.
        message: String,
    },
    /// No balancer answered.
    Unreachable {
        /// The whole address that was tried, with its scheme.
        url: String,
        /// What it met with.
        reason: Unreachable,
    },
}

/// A model file that is to answer jobs, or no longer to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct UseModel {
    /// `InstalledModel.path`.
    pub path: String,
    /// `InstalledModel.in_use`, as it is to be.
    pub in_use: bool,
}

/// One file of a support bundle, as it would be saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct BundleFile {
    /// The file's name, without a folder.
    pub name: String,
    /// Its whole content. The window shows it before it is saved.
    pub text: String,
}

/// Something that "remove everything" deletes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct RemovalItem {
    /// What is lost with it.
    pub what: RemovalKind,
    /// A path, or the keychain's account.
    pub place: String,
    /// Its size on the disk; 0 for what is no file, or is not there.
    pub bytes: u64,
}

/// Kinds of what this program put on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum RemovalKind {
    /// All files of the models folder, imported ones included.
    Models,
    /// The database of jobs and points on this machine. What was earned stays at the network.
    History,
    /// What the program wrote about its running.
    Logs,
    /// The person's choices, their agreement included.
    Settings,
    /// The node's key: points on the network cannot be claimed without it.
    Identity,
    /// The account's key: without a backup the account is lost, with its points.
    Account,
    /// The entry that starts the program with the system.
    Autostart,
}

/// The type of a request or an answer, in TypeScript.
pub type TypeName = fn(&ts_rs::Config) -> String;

/// One thing that can be asked.
pub struct Command {
    /// What [`App::call`] and the control server's paths know it by.
    pub name: &'static str,
    /// What it does, in one sentence; the bindings have it as a comment.
    pub about: &'static str,
    /// Their types' names in TypeScript.
    pub request: TypeName,
    /// What comes back when it was not refused.
    pub answer: TypeName,
}

macro_rules! commands {
    ($($(#[doc = $about:literal])+ $how:ident $name:ident($request:ty) -> $answer:ty;)+) => {
        /// All that can be asked, in the order of the table.
        pub const COMMANDS: &[Command] = &[$(Command {
            name: stringify!($name),
            about: concat!($($about),+),
            request: <$request as TS>::name,
            answer: <$answer as TS>::name,
        }),+];

        impl App {
            /// Carries out a command of [`COMMANDS`], its request and answer as JSON.
            pub async fn call(&self, name: &str, request: Value) -> Result<Value, ApiError> {
                match name {
                    $(stringify!($name) => {
                        let request: $request = parse(request)?;
                        let answer: $answer = call!($how self.$name(request))?;
                        Ok(serde_json::to_value(answer).map_err(|error| Refusal::malformed(&error))?)
                    })+
                    _ => Err(Refusal::NoSuchCommand { name: name.to_owned() }.into()),
                }
            }
        }
    };
}

macro_rules! call {
    (plain $call:expr) => {
        Ok::<_, ApiError>($call)
    };
    (now $call:expr) => {
        $call
    };
    (later $call:expr) => {
        $call.await
    };
}

fn parse<T: DeserializeOwned>(request: Value) -> Result<T, ApiError> {
    Ok(serde_json::from_value(request).map_err(|error| Refusal::malformed(&error))?)
}

commands! {
    /// Everything that a window shows.
    plain state(()) -> AppState;
    /// The person agrees to lend their GPU; the node begins.
    now agree(()) -> AppState;
    /// Nothing is shared any more, until the person agrees again.
    now withdraw(()) -> AppState;
    /// The first start is over, or is to be gone through again.
    now finish_setup(bool) -> AppState;
    /// Take no more jobs, until `resume` or for a while.
    later pause(PauseRequest) -> AppState;
    /// Take jobs again.
    later resume(()) -> AppState;
    /// Leave one device alone; the others go on.
    later pause_device(ById) -> AppState;
    /// Take jobs on it again.
    later resume_device(ById) -> AppState;
    /// Work for a while whatever the owner's rules say.
    later work_anyway(ForSeconds) -> AppState;
    /// Sets the rules that a preset is about; the others stay as they are.
    now choose_preset(Preset) -> AppState;
    /// Keeps the node's key in a file of the data folder, where there is no keychain.
    later keep_key_in_file(()) -> AppState;
    /// Look at the machine again.
    later check(()) -> AppState;
    /// Asks a network who it is. Nothing is kept.
    later look_up_network(ByAddress) -> LookedUp;
    /// Joins a network by an invitation or its address, and works for it from now on.
    later join_network(ByAddress) -> AppState;
    /// Works for another of the networks that were joined. Jobs in progress are handed back.
    now choose_network(ByAddress) -> AppState;
    /// Forgets a network, but not what was done for it. If it was the active one, jobs in progress
    /// are handed back, and none is active.
    now leave_network(ByAddress) -> AppState;
    /// Shows the person an invitation that was opened outside the window. Nothing is joined.
    plain offer_invitation(ByAddress) -> AppState;
    /// Shows it no longer.
    plain put_invitation_away(()) -> AppState;
    /// Makes an account, whose key is kept on this machine.
    later create_account(()) -> AppState;
    /// The account's words, for the person to keep.
    later account_backup(()) -> AccountBackup;
    /// Brings an account to this machine, from its words or a backup file.
    later restore_account(AccountWords) -> AppState;
    /// Takes the account and its key off this machine, which is nobody's then.
    later remove_account(()) -> AppState;
    /// Takes this machine from an account whose key is elsewhere.
    later unlink_machine(()) -> AppState;
    /// Makes a code by which other machines become the account's.
    later make_link_code(LinkCodeRequest) -> NewLinkCode;
    /// Makes this machine the account's that made a code.
    later link_machine(ByCode) -> AppState;
    /// What the account has in the active network.
    later account_overview(()) -> Overview;
    /// What its keys spent.
    later spending(SpendingQuery) -> Statement;
    /// Its keys, those that were revoked included.
    later account_keys(()) -> Vec<AccountKeyRow>;
    /// Makes a key that spends the account's points. It is shown this one time.
    later create_key(KeyRequest) -> NewKey;
    /// Ends a key.
    later revoke_key(ByName) -> Vec<AccountKeyRow>;
    /// The certificate that the active network made for itself, for clients that ask it.
    later network_certificate(()) -> String;
    /// The account's machines in the active network.
    later fleet(()) -> Vec<Machine>;
    /// Tells machines of the account what to do.
    later command_fleet(FleetOrder) -> Vec<FleetAnswer>;
    /// Takes another machine from the account.
    later unlink_node(ByNode) -> Vec<Machine>;
    /// Sets what is named; the other settings stay as they are.
    now change_settings(SettingsChange) -> AppState;
    /// The GPUs' last ten minutes.
    plain gpu_history(()) -> GpuHistory;
    /// The jobs done, a part at a time.
    later jobs(JobsQuery) -> JobsPage;
    /// The same as a CSV file's text; `offset` and `limit` do not count.
    later jobs_csv(JobsQuery) -> String;
    /// The programs that the person runs now, to name some in the rules: at most 12, those that use a
    /// GPU first, then by memory. None where the system does not tell.
    later running_programs(()) -> Option<Vec<RunningProgram>>;
    /// What the node did in a span of time, of the last 30 days.
    later stretches(StretchesQuery) -> Vec<Stretch>;
    /// Points over time.
    later earnings(EarningsQuery) -> Earnings;
    /// The models that can be downloaded.
    plain catalogue(()) -> Vec<CatalogueItem>;
    /// Begins a download, or goes on with it.
    later download(DownloadRequest) -> AppState;
    /// Keeps what has come.
    later pause_download(ById) -> AppState;
    /// Goes on where it stopped.
    later resume_download(ById) -> AppState;
    /// Goes on with a download though the connection costs by the byte.
    later download_anyway(ById) -> AppState;
    /// Ends a download and deletes what came.
    later cancel_download(ById) -> AppState;
    /// Copies a GGUF file of this machine into the models folder.
    later import_model(ByPath) -> AppState;
    /// Deletes a file from the models folder.
    later delete_model(ByPath) -> AppState;
    /// Answer jobs with a model, or no longer.
    now use_model(UseModel) -> AppState;
    /// Its answer comes as events.
    now chat(ChatRequest) -> ();
    /// Ends an answer early.
    plain stop_chat(ById) -> ();
    /// Frees the GPU that a chat holds; jobs go on.
    plain end_chat(()) -> AppState;
    /// Measures a model for half a minute.
    now benchmark(ByPath) -> AppState;
    /// Ends a measurement early.
    plain stop_benchmark(()) -> AppState;
    /// Logs, settings and hardware, with what is private left out.
    later support_bundle(()) -> Vec<BundleFile>;
    /// What `remove_everything` deletes.
    later removal_plan(()) -> Vec<RemovalItem>;
    /// Deletes all data of this program and ends it.
    later remove_everything(()) -> ();
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use super::*;
    use crate::books::*;
    use crate::governor::{gpu_rules, rules, schedule};
    use crate::gpu::*;
    use crate::library::*;
    use crate::model_fault::*;
    use crate::state::*;

    macro_rules! declarations {
        ($config:expr; $($type:ty),+ $(,)?) => {
            [$(<$type as TS>::decl($config)),+]
        };
    }

    /// The whole API in TypeScript.
    fn bindings() -> String {
        let config = ts_rs::Config::new().with_large_int("number");
        let mut text = String::from(
            "// Generated from the Rust types: run `cargo xtask bindings` after a change.\n\n",
        );
        let declarations = declarations!(&config;
            Adapter, AdapterStanding, rules::Away, gpu_rules::GpuHeat, gpu_rules::GpuLoad,
            gpu_rules::GpuMemory, gpu_rules::GpuRules, GpuSeen, schedule::Hours, rules::Held, infera_surroundings::Input, rules::Memory,
            Consumption, crate::tariff::Electricity, Energy, EnergySpan, Unmeasured,
            infera_surroundings::Network, infera_surroundings::Power, rules::Preset, rules::Rule, rules::Rules, RunningProgram,
            schedule::Schedule, infera_surroundings::Seen, infera_surroundings::Session, infera_surroundings::Surroundings, rules::Why,
            ForSeconds, Stretch, StretchesQuery, infera_protocol::requirements::Amount, AddressFault, ApiError, AppEvent, AppState, Benchmark,
            BenchmarkProgress, BundleFile, ByAddress, ById, ByPath, CatalogueEntry, CatalogueItem, ChatEvent,
            ChatMessage, ChatRequest, ChatRole, Connection, crate::governor::Decision,
            infera_engine::message::DeviceInfo, DiskUse, Download, DownloadFault,
            DownloadRequest, DownloadState, DeviceModel, crate::app::settings::DeviceSetting, DeviceStatus, DeviceToday, Earnings,
            EarningsBucket, EarningsQuery, EngineStatus, Estimate, Fit, HistoryFault, LibraryFault, ModelCause, ModelFault, Refusal,
            infera_protocol::requirements::Gpu, GpuHistory, infera_protocol::requirements::GpuKind,
            GpuReading, GpuSample, infera_protocol::requirements::Hardware, Host, Import, InstalledModel,
            JobRow, JobsPage, JobsQuery, JobsSort, LookedUp, infera_protocol::requirements::Mark,
            crate::governor::Mode, infera_protocol::ModelId, infera_protocol::node_api::ModelOffer, ModelStatus,
            infera_protocol::NodeId, NodeSnapshot, Obstacle, PauseRequest, Period,
            infera_protocol::node_api::Points, PointSums, infera_protocol::node_api::Price,
            crate::governor::Reason, infera_protocol::node_api::ReferenceFigures,
            infera_protocol::node_api::ReferenceFinding, RemovalItem, RemovalKind, Requirement,
            infera_protocol::requirements::RequirementId, Settings, Setup, StartFault, State, StateKind,
            Summary, crate::app::settings::Theme, Today, TurnedAway, UseModel,
            infera_protocol::node_api::VerdictStatus, infera_protocol::node_api::WorkKind,
            infera_protocol::node_api::AdmissionRule, infera_protocol::node_api::Checking, infera_protocol::node_api::Network, infera_protocol::node_api::Invited, infera_protocol::requirements::Policy, infera_protocol::requirements::GpuNeed, InvitationFault, crate::look_up::InvitationTerms,
            crate::networks::NetworkSetting, infera_protocol::Fingerprint, infera_protocol::node_api::Standing,
            AccountId, AccountState, LinkState, LinkFault, AccountBackup, AccountWords, LinkCodeRequest, NewLinkCode, ByCode, ByName, ByNode,
            SpendingQuery, FleetOrder, FleetAnswer, FleetFault, AccountFault, crate::account::words::WordsFault,
            crate::account::CommandSeen, crate::account::CommandOutcome, AccountKeyRow, FleetAction, KeyRequest, Machine, NewKey, Overview, Statement,
            infera_protocol::account::MachineReport, infera_protocol::account::DeviceReport, infera_protocol::account::Spending, infera_protocol::Route,
            Unreachable, Unsupported, WorkInProgress, infera_protocol::node_api::WorkRecord,
        );
        for declaration in declarations {
            let _ = writeln!(text, "export {declaration}");
        }
        text +=
            "\n/** Each command with its request and its answer. */\nexport type Commands = {\n";
        for command in COMMANDS {
            let (request, answer) = ((command.request)(&config), (command.answer)(&config));
            let _ = writeln!(
                text,
                "  /** {} */\n  {}: {{ request: {request}; answer: {answer} }};",
                command.about.trim(),
                command.name
            );
        }
        text + "};\n"
    }

    /// `INFERA_WRITE_BINDINGS=1` writes it instead.
    #[test]
    fn the_typescript_types_are_those_of_this_program() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ui/src/platform/bindings.ts");
        let now = bindings();
        if std::env::var_os("INFERA_WRITE_BINDINGS").is_some() {
            std::fs::write(&path, &now).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == now,
            "{} is stale: run `cargo xtask bindings`",
            path.display()
        );
    }
}
