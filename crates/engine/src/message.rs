//! What node and engine child say to each other, as frames (`infera_protocol::frame`) on the
//! child's stdin and stdout. The child's stderr is for its log.

use std::path::PathBuf;
use std::time::Duration;

use infera_protocol::requirements::Gpu;
use infera_protocol::{
    FinishReason, LogProbabilities, Mismatch, ModelId, Profile, Task, TokenOutput, Vector, finite,
};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// From the node to its engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Answered by [`Event::Adapters`]. Opens no device.
    Adapters,
    /// Answered by [`Event::Loading`] again and again, on a GPU that was not tuned for the model by
    /// [`Event::Tuning`] too, then by [`Event::Loaded`] or [`Event::Failed`].
    Load(Load),
    /// Answered by [`Event::Prefilled`] while a long input is gone through, by [`Event::Tokens`],
    /// then by [`Event::Finished`] or [`Event::Failed`]; of a task that embeds by
    /// [`Event::Embedded`] instead, unless it is cancelled.
    Generate(Generate),
    /// Answered by [`Event::Scored`] or [`Event::Failed`]; of a task that embeds as
    /// [`Self::Generate`] is.
    Score(Score),
    /// Takes effect within one step; the request still ends with its last event.
    Cancel { id: u64 },
    /// The model computes at most for so much of the time, in percent, and rests in between
    /// ([`crate::duty`]): from the next step on, and with every model that is loaded. Loading and
    /// tuning take what they need. Not for the first command: a child may have no more than what
    /// that one needs.
    Duty { percent: u8 },
    /// Answered by [`Event::Stats`].
    Stats,
    /// Answered by [`Event::ReadBandwidth`] or [`Event::Failed`].
    ReadBandwidth { device: DeviceChoice },
    /// Ends the child.
    Shutdown,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Load {
    pub path: PathBuf,
    #[serde(default)]
    pub profile: Profile,
    pub device: DeviceChoice,
    /// Limits the context below the model's own.
    pub context_tokens: Option<u32>,
    /// How many sequences may run at once; more wait.
    pub sequences: u32,
    /// The device's memory for weights, KV cache and working space together. Where it is not
    /// known, the engine takes no more than half of the RAM on the CPU, and on a GPU 1 GiB for the
    /// KV cache.
    pub memory_bytes: Option<u64>,
    /// A folder for what tuning finds. Without one a GPU's kernels are cut up as the defaults say.
    pub tunings: Option<PathBuf>,
}

impl Load {
    /// In the default profile, one sequence in the model's own context, in memory of unknown size,
    /// untuned.
    pub fn new(path: PathBuf, device: DeviceChoice) -> Self {
        Self {
            path,
            profile: Profile::default(),
            device,
            context_tokens: None,
            sequences: 1,
            memory_bytes: None,
            tunings: None,
        }
    }
}

/// Where the model runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum DeviceChoice {
    /// Discrete GPU, then integrated GPU, then CPU.
    #[default]
    Auto,
    Cpu,
    /// The first adapter whose name or API contains this text, software adapters included.
    Named(String),
    /// The adapter with this id ([`crate::device::ids`]) and no other, software adapters included.
    Adapter(String),
    /// As [`Self::Auto`], but never an adapter with one of these ids.
    AutoExcept(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generate {
    pub id: u64,
    pub task: Task,
    /// Output that exists already; generation goes on after it.
    pub output: Vec<u32>,
}

/// A teacher-forced pass over the task's input and `output`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    pub id: u64,
    pub task: Task,
    /// What another node says that follows; none of a task that embeds.
    pub output: Vec<u32>,
}

/// A request's [`Event::Prefilled`] comes at most so often, and not before so long.
pub const PREFILLED_EVERY: Duration = Duration::from_millis(250);

/// From the engine to its node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first frame of every child.
    Started {
        version: String,
    },
    Adapters {
        adapters: Vec<Gpu>,
    },
    Loading {
        done_bytes: u64,
        total_bytes: u64,
    },
    /// Ways to cut up the model's kernels that were tried, of all there are.
    Tuning {
        done: u32,
        total: u32,
    },
    Loaded(Loaded),
    /// How many tokens of a request have gone through the model before its first output, those
    /// whose KV blocks were there already included. Each one says more than the one before.
    Prefilled {
        id: u64,
        tokens: u32,
    },
    Tokens {
        id: u64,
        tokens: Vec<TokenOutput>,
    },
    Finished(Finished),
    Scored(Scored),
    Embedded(Embedded),
    /// `id` is the request that failed; none when it was the load or the child itself.
    Failed {
        id: Option<u64>,
        error: Failure,
    },
    Stats(Stats),
    /// The rate at which a device reads its own memory.
    ReadBandwidth {
        bytes_per_second: f64,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Loaded {
    /// In its profile.
    pub model: ModelId,
    pub profile: Profile,
    /// The ids of the same file in each profile that it can be loaded in.
    pub ids: Vec<(Profile, ModelId)>,
    /// From the file's metadata.
    pub name: String,
    pub architecture: String,
    /// It turns texts into vectors, and writes none.
    pub embeds: bool,
    pub device: DeviceInfo,
    /// For a model that gives vectors, the longest text.
    pub context_tokens: u32,
    pub vocabulary: u32,
    pub load_ms: u64,
    /// Weights on the device.
    pub weight_bytes: u64,
    /// What the child has given up.
    pub bounds: Vec<Bound>,
}

/// Something that the child gave up, or could not ([`crate::confinement`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// `files`, `network`, `programs`, `memory`.
    pub of: String,
    /// Why it is not in force.
    pub fault: Option<String>,
}

impl Loaded {
    /// The same file's id in a profile.
    pub fn id_in(&self, profile: Profile) -> Option<ModelId> {
        let found = self.ids.iter().find(|(of, _)| *of == profile);
        found.map(|(_, id)| *id)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct DeviceInfo {
    /// The adapter's or the CPU's name.
    pub name: String,
    /// For reports: `cpu/avx2`, `wgpu/vulkan`, `wgpu/metal`.
    pub backend: String,
    /// Why this one was chosen, in one sentence.
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    pub id: u64,
    pub reason: FinishReason,
    pub prefill_ms: u32,
    pub decode_ms: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    pub id: u64,
    pub positions: u32,
    pub mismatches: Vec<Mismatch>,
    /// One for each claimed token.
    pub log_probabilities: LogProbabilities,
    pub elapsed_ms: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Embedded {
    pub id: u64,
    /// One of length 1 per text, in their order.
    pub vectors: Vec<Vector>,
    pub elapsed_ms: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub code: FailureCode,
    /// One sentence for a person.
    pub message: String,
}

impl Failure {
    /// A model's results are no numbers.
    pub(crate) fn undefined(model: &str) -> Self {
        Self {
            code: FailureCode::BadModel,
            message: format!(
                "The model `{model}` computes undefined numbers: nothing can be chosen among them"
            ),
        }
    }

    /// The request breaks a rule.
    pub(crate) fn bad_request(message: String) -> Self {
        Self {
            code: FailureCode::BadRequest,
            message,
        }
    }

    pub(crate) fn not_loaded(message: &str) -> Self {
        Self {
            code: FailureCode::NotLoaded,
            message: message.to_owned(),
        }
    }

    /// The model that is loaded writes and the task embeds, or the other way round.
    pub(crate) fn wrong_kind() -> Self {
        Self::not_loaded("The model that is loaded is not of the kind that this request is for")
    }

    pub(crate) fn device(error: &dyn std::fmt::Display) -> Self {
        Self {
            code: FailureCode::Internal,
            message: format!("The device failed: {error}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The system does not give the file.
    Unreadable,
    /// The file needs what this program lacks: an architecture, a quantisation, a tokenizer.
    Unsupported,
    /// The file is damaged or incomplete, or what it computes is no number.
    BadModel,
    /// No such device.
    NoDevice,
    OutOfMemory,
    /// The GPU is gone: its driver crashed or was reset. The child ends.
    DeviceLost,
    /// The request breaks a rule: empty prompt, ids beyond the vocabulary, over the context.
    BadRequest,
    /// The model that the request is for is not the one that is loaded, or none is.
    NotLoaded,
    Internal,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    pub running: u32,
    pub waiting: u32,
    pub kv_bytes: u64,
    /// Since the child started.
    pub prompt_tokens: u64,
    pub output_tokens: u64,
    /// Over the last seconds of work; none when nothing ran.
    #[serde(default, deserialize_with = "finite::number_or_none")]
    pub tokens_per_second: Option<f32>,
}
