//! The one API of the program: what window, tray, browser and command line ask of it.

use infera_protocol::node_api::ModelOffer;
use infera_protocol::requirements::Requirement;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ts_rs::TS;

use super::App;
pub use super::refusal::{AddressFault, ApiError, HistoryFault, LibraryFault, Refusal};
use super::settings::{Settings, SettingsChange, Setup};
use crate::books::{Earnings, EarningsQuery, JobsPage, JobsQuery, Today};
use crate::gpu::{Adapter, GpuHistory, GpuSample};
use crate::library::{CatalogueItem, DiskUse, Download, DownloadRequest, Import, InstalledModel};
use crate::model_fault::ModelFault;
use crate::state::{NodeSnapshot, StartFault, State, TurnedAway};
use crate::unreachable::Unreachable;

/// Everything that a window shows, but for long lists and the GPU's readings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct AppState {
    pub state: State,
    /// None while the node cannot be started: `state` says why.
    pub node: Option<NodeSnapshot>,
    pub setup: Setup,
    pub settings: Settings,
    pub host: Host,
    pub adapters: Vec<Adapter>,
    pub installed: Vec<InstalledModel>,
    pub downloads: Vec<Download>,
    pub imports: Vec<Import>,
    pub disk: DiskUse,
    pub today: Today,
    /// Every reason that keeps jobs away now, the heaviest first.
    pub obstacles: Vec<Obstacle>,
    pub benchmark: Option<Benchmark>,
}

/// Where the program runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Host {
    pub version: String,
    /// In a window of its own; else in a browser.
    pub desktop: bool,
    pub os: String,
    pub data_folder: String,
    pub models_folder: String,
    /// Where a browser on this machine finds the same window; secret, for it holds the token.
    pub web_address: Option<String>,
}

/// Why no jobs come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "obstacle", rename_all = "snake_case")]
pub enum Obstacle {
    NotAgreed,
    NoBalancer,
    CannotStart {
        fault: StartFault,
    },
    Paused {
        until_ms: Option<i64>,
    },
    /// The owner uses the GPU themself: a chat or a benchmark.
    OwnUse,
    /// The balancer cannot be reached.
    Offline {
        reason: Unreachable,
    },
    /// The balancer does not take this node for now.
    TurnedAway {
        why: TurnedAway,
    },
    /// The balancer speaks another version.
    Outdated {
        message: String,
    },
    Requirement {
        requirement: Requirement,
    },
    StorageFault {
        message: String,
    },
    LowDisk {
        free_bytes: u64,
        resume_above_bytes: u64,
    },
    NoModel,
    ModelBroken {
        model: String,
        fault: ModelFault,
    },
    ModelLoading {
        model: String,
    },
    ModelNotServed {
        model: String,
    },
    /// Nothing is wrong: the network has no work for this node right now.
    NoDemand,
}

/// A measurement of a model on this machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Benchmark {
    pub model: String,
    pub progress: BenchmarkProgress,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "progress", rename_all = "snake_case")]
pub enum BenchmarkProgress {
    Loading {
        done_bytes: u64,
        total_bytes: u64,
    },
    /// The first time on this GPU and driver.
    Tuning {
        done: u32,
        total: u32,
    },
    Measuring {
        percent: u8,
    },
    Done {
        device: String,
        /// Writing one answer, tokens per second.
        decode_tokens_per_second: f32,
        /// Reading a prompt, tokens per second.
        prefill_tokens_per_second: f32,
        first_token_ms: f32,
        /// The answer to a first question, as it was written.
        answer: String,
    },
    Failed {
        fault: ModelFault,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct ChatMessage {
    pub role: ChatRole,
    pub content: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum ChatRole {
    System,
    User,
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
    pub messages: Vec<ChatMessage>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "chat", rename_all = "snake_case")]
pub enum ChatEvent {
    Loading {
        done_bytes: u64,
        total_bytes: u64,
    },
    /// The first time on this GPU and driver.
    Tuning {
        done: u32,
        total: u32,
    },
    Text {
        text: String,
    },
    Done {
        tokens: u32,
        tokens_per_second: Option<f32>,
        first_token_ms: f32,
        /// By the person, or at the longest answer.
        cut_off: bool,
    },
    Failed {
        fault: ModelFault,
    },
}

/// What comes by itself, over the one stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum AppEvent {
    /// The first of every stream, then whenever something changes.
    State {
        state: Box<AppState>,
    },
    Gpu {
        sample: GpuSample,
    },
    Chat {
        id: String,
        update: ChatEvent,
    },
}

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

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct ById {
    pub id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct ByPath {
    pub path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct ByAddress {
    /// As a person writes it, with or without a scheme.
    pub address: String,
}

/// What a network says of itself, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum LookedUp {
    Network {
        /// The whole address, with its scheme.
        url: String,
        name: String,
        /// This machine against the network's rules, as far as it is known.
        requirements: Vec<Requirement>,
        models: Vec<ModelOffer>,
    },
    /// Not an address that a node may use.
    BadAddress {
        fault: AddressFault,
        /// The same with the address and its way out, in English.
        message: String,
    },
    Unreachable {
        url: String,
        reason: Unreachable,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct UseModel {
    pub path: String,
    pub in_use: bool,
}

/// One file of a support bundle, as it would be saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct BundleFile {
    pub name: String,
    pub text: String,
}

/// Something that "remove everything" deletes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct RemovalItem {
    pub what: RemovalKind,
    /// A path, or the keychain's account.
    pub place: String,
    pub bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum RemovalKind {
    Models,
    History,
    Logs,
    Settings,
    /// The node's key: points on the network cannot be claimed without it.
    Identity,
    Autostart,
}

/// The type of a request or an answer, in TypeScript.
pub type TypeName = fn(&ts_rs::Config) -> String;

/// One thing that can be asked.
pub struct Command {
    pub name: &'static str,
    pub about: &'static str,
    /// Their types' names in TypeScript.
    pub request: TypeName,
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
    /// Keeps the node's key in a file of the data folder, where there is no keychain.
    later keep_key_in_file(()) -> AppState;
    /// Look at the machine again.
    later check(()) -> AppState;
    /// Asks a network who it is. Nothing is kept.
    later look_up_network(ByAddress) -> LookedUp;
    /// Sets what is named; the other settings stay as they are.
    now change_settings(SettingsChange) -> AppState;
    /// The GPUs' last ten minutes.
    plain gpu_history(()) -> GpuHistory;
    /// The jobs done, a part at a time.
    later jobs(JobsQuery) -> JobsPage;
    /// The same as a CSV file's text; `offset` and `limit` do not count.
    later jobs_csv(JobsQuery) -> String;
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
            Adapter, AdapterStanding, infera_protocol::requirements::Amount, AddressFault, ApiError, AppEvent, AppState, Benchmark,
            BenchmarkProgress, BundleFile, ByAddress, ById, ByPath, CatalogueEntry, CatalogueItem, ChatEvent,
            ChatMessage, ChatRequest, ChatRole, Connection, crate::governor::Decision,
            infera_engine::message::DeviceInfo, DiskUse, Download, DownloadFault,
            DownloadRequest, DownloadState, crate::app::settings::DeviceSetting, Earnings,
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
