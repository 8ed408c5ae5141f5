//! What a node shows of itself: one snapshot, and the sentence that sums it up.

#![deny(missing_docs)]

use infera_engine::message::DeviceInfo;
use infera_protocol::node_api::{ModelOffer, Points, WorkKind};
use infera_protocol::requirements::{Hardware, Requirement, RequirementId};
use infera_protocol::{ModelId, NodeId};
use infera_surroundings::Surroundings;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::account::CommandSeen;
use crate::clock::Clock;
use crate::governor::rules::{Held, Why};
use crate::governor::{Decision, Mode, Reason};
use crate::gpu::GpuSeen;
use crate::model_fault::ModelFault;
use crate::unreachable::Unreachable;

/// Everything that a window, a tray or a command line shows, at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct NodeSnapshot {
    /// Its name on the network: the public half of its key.
    pub node: NodeId,
    /// Name and version of the program.
    pub software: String,
    /// The network's address; empty while none is chosen.
    pub balancer: String,
    /// The whole snapshot in one sentence.
    pub state: State,
    /// Whether the governor lets the node work.
    pub decision: Decision,
    /// How the node stands with the balancer.
    pub connection: Connection,
    /// The chosen models, in the settings' order. Empty while none is chosen.
    pub models: Vec<ModelStatus>,
    /// What computes, in the settings' order, each beside the others. Empty until the hardware is
    /// known.
    pub devices: Vec<DeviceStatus>,
    /// Jobs and audits in progress.
    pub work: Vec<WorkInProgress>,
    /// None until the balancer has told them.
    pub points: Option<Points>,
    /// None while it is being found out.
    pub hardware: Option<Hardware>,
    /// The network's policy by name.
    pub policy: Option<String>,
    /// The machine against the network's rules; empty until both are known.
    pub requirements: Vec<Requirement>,
    /// The models that the network serves; none while that is unknown.
    pub offers: Option<Vec<ModelOffer>>,
    /// What is seen around the program, which the owner's rules are held against.
    pub surroundings: Surroundings,
    /// The owner wants work done whatever their rules say, until then: unix time in milliseconds.
    pub anyway_until_ms: Option<i64>,
    /// What came last from afar, and what was done. A restart forgets it.
    pub command: Option<CommandSeen>,
}

/// The one big truth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct State {
    /// What the window, the tray and the page's mark show as colour and shape.
    pub kind: StateKind,
    /// State and reason, in the words of a person.
    pub sentence: String,
    /// What the person can do about it, where there is something.
    pub remedy: Option<String>,
    /// What the sentence says, for another language.
    pub summary: Summary,
}

/// State and reason as data: [`State::sentence`] is its English.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "summary", rename_all = "snake_case")]
pub enum Summary {
    /// The program has just started, or starts its node anew.
    ReadingHardware,
    /// There is no node.
    CannotStart {
        /// What stands in the way.
        fault: StartFault,
    },
    /// The person has not agreed to lend their GPU.
    NotAgreed,
    /// The settings name no network.
    NoBalancer,
    /// The balancer speaks another version; only an update helps.
    Outdated {
        /// What the balancer says, in English.
        message: String,
    },
    /// The program is ending.
    Closing,
    /// The person asked for quiet.
    Paused {
        /// Unix time in milliseconds at which it ends by itself; none until the person resumes.
        until_ms: Option<i64>,
        /// Jobs in progress are still being finished.
        finishing: bool,
    },
    /// The owner chats with a model, or measures one.
    OwnUse,
    /// The owner needs the machine.
    Rule {
        /// What for.
        why: Why,
        /// It is over, and the node goes on then: unix time in milliseconds. None while it lasts.
        goes_on_ms: Option<i64>,
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
    /// The machine does not have what the network asks for.
    RequirementFailed {
        /// The first row that failed.
        requirement: Requirement,
        /// Jobs in progress are still being finished.
        finishing: bool,
    },
    /// No model is chosen to answer jobs.
    NoModel,
    /// None of the chosen models can be loaded.
    ModelsBroken {
        /// The first model's.
        fault: ModelFault,
    },
    /// No connection; it is tried again by itself.
    Unreachable {
        /// The address that was tried.
        balancer: String,
        /// Unix time in milliseconds of the next try.
        retry_at_ms: i64,
    },
    /// The balancer takes this node later.
    TurnedAway {
        /// What it has against it now.
        why: TurnedAway,
    },
    /// No model is ready yet, and this one is being loaded.
    Loading {
        /// Its name, as in [`ModelStatus::name`].
        model: String,
        /// From 0 to 100, of the weights' bytes.
        percent: u8,
    },
    /// Trying which way of computing is the fastest on this GPU, before the first job.
    Tuning {
        /// Its name, as in [`ModelStatus::name`].
        model: String,
        /// Ways of computing that were tried.
        done: u32,
        /// Ways of computing to try.
        total: u32,
    },
    /// No model is ready, for the engine of one has ended.
    Restarting {
        /// How it ended.
        fault: ModelFault,
        /// How long until it is started again, in milliseconds.
        retry_in_ms: u64,
    },
    /// All is ready, and the network has no use for any of these models.
    NotServed {
        /// Their names, in the settings' order.
        models: Vec<String>,
    },
    /// The first connection is being made.
    Connecting,
    /// All is ready; the network has nothing for this node right now.
    WaitingForJobs,
    /// The same for a reference node, which gets audits in place of jobs.
    WaitingForAudits,
    /// Jobs or audits are in progress.
    Working {
        /// Jobs in progress.
        jobs: u32,
        /// Checks of other nodes' outputs in progress.
        audits: u32,
        /// Of all jobs together; none while no job has written anything.
        tokens_per_second: Option<f32>,
    },
}

/// Why there is no node: its key or its data folder cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS, thiserror::Error)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum StartFault {
    /// The person has to unlock it; the node looks again by itself.
    #[error("The keychain with this node's key is locked")]
    KeychainLocked,
    /// As on a server: the key can be kept in a file, if the person agrees.
    #[error("This machine has no keychain for this node's key")]
    KeychainMissing,
    /// It may be waiting for the person behind another window.
    #[error("The keychain with this node's key does not answer")]
    KeychainSilent,
    /// Says what to do as well.
    #[error("{message}")]
    Other {
        /// What happened and what to do, in English.
        message: String,
    },
}

impl StartFault {
    /// What the person can do, in English; none where the fault itself says it.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::KeychainLocked | Self::KeychainSilent => Some(
                "Unlock it and check again, or keep the key in a file: start with `--key-file FILE`",
            ),
            Self::KeychainMissing => Some(
                "Keep the key in a file: the window has a button for it, or start with `--key-file FILE`",
            ),
            Self::Other { .. } => None,
        }
    }
}

/// What a state means to the person, whatever its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum StateKind {
    /// Jobs or audits are in progress.
    Working,
    /// Nothing is wrong, or the node gets over it by itself.
    Waiting,
    /// By the person's own wish.
    Paused,
    /// Nothing goes on until the person does something.
    NeedsYou,
}

/// How the node stands with the balancer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Connection {
    /// The first try is under way, or none is to be made: no network is chosen.
    Connecting,
    /// Offers of jobs, or audits, can come.
    Connected {
        /// The node re-scores other nodes' outputs instead of taking jobs.
        reference: bool,
    },
    /// There was no answer, or the connection broke off.
    Disconnected {
        /// What the last try met with.
        reason: Unreachable,
        /// Unix time in milliseconds of the next try.
        retry_at_ms: i64,
    },
    /// The balancer answers, and takes this node later.
    TurnedAway {
        /// What the balancer has against it.
        why: TurnedAway,
        /// Unix time in milliseconds of the next try.
        retry_at_ms: i64,
    },
    /// The balancer speaks another protocol version; trying again is no use.
    Refused {
        /// What the balancer says, in English.
        message: String,
    },
}

/// Why a balancer does not take a node for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum TurnedAway {
    /// Another program works under the node's identity. After a crash that is the one before,
    /// until the balancer counts it as gone.
    IdentityInUse,
    /// It takes no more from this address.
    TooMuch,
    /// It takes new nodes by invitation only.
    InvitationNeeded,
}

/// A device that computes, and what it does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct DeviceStatus {
    /// [`crate::gpu::Adapter::id`], `cpu`, or what the settings name and is not there.
    pub id: String,
    /// As the driver or the system tells it.
    pub name: String,
    /// It was chosen, and is not there, or not any more.
    pub missing: bool,
    /// The person wants this one left alone.
    pub paused: bool,
    /// How far it steps back; never less than the node as a whole.
    pub mode: Mode,
    /// Why it is not `run`: the node's reason before its own.
    pub reason: Option<Reason>,
    /// The owner's rules about GPUs that hold on it, whether or not one of them is the reason.
    pub held: Vec<Held>,
    /// What those look at; none while nobody looks, and for what is no GPU.
    pub seen: Option<GpuSeen>,
    /// The models that are to be on it.
    pub models: Vec<DeviceModel>,
    /// Jobs in progress on it.
    pub jobs: u32,
    /// Checks of other nodes' outputs in progress on it.
    pub audits: u32,
    /// Of its jobs together; none while no job has written anything.
    pub tokens_per_second: Option<f32>,
}

/// A model on one of several devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct DeviceModel {
    /// As [`ModelStatus::name`].
    pub name: String,
    /// Whether it can compute there.
    pub engine: EngineStatus,
}

/// A chosen model and its engine; of several engines, the one that is nearest to computing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct ModelStatus {
    /// From the file's metadata, or the file's name until it is loaded.
    pub name: String,
    /// What the network knows it by. None until it was loaded once.
    pub id: Option<ModelId>,
    /// Whether the network serves it; none while that is unknown.
    pub served: Option<bool>,
    /// What computes it, and why that was chosen; none until it was loaded once.
    pub device: Option<DeviceInfo>,
    /// Whether it can compute.
    pub engine: EngineStatus,
}

/// What a model's engine does. Each model has one of its own on each device that it is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum EngineStatus {
    /// No engine runs; no GPU memory is used.
    Off,
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
    /// It computes what is asked of it.
    Ready,
    /// It ended without being asked; it is started again.
    Restarting {
        /// How it ended.
        fault: ModelFault,
        /// How long until it is started again, in milliseconds; longer each time.
        retry_in_ms: u64,
    },
    /// The model cannot be loaded; trying again is no use until something is changed.
    Broken {
        /// Why it cannot be loaded.
        fault: ModelFault,
    },
}

/// A job or an audit, as it is computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct WorkInProgress {
    /// What `id` is the id of.
    pub kind: WorkKind,
    /// The job's, or the audit's; the history lists it under the same.
    pub id: String,
    /// The model's name, as the network calls it where that is known.
    pub model: String,
    /// [`DeviceStatus::id`] of what computes it.
    pub device: String,
    /// Tokens of the prompt; for an audit, all tokens that it reads.
    pub input_tokens: u32,
    /// Tokens written so far; 0 for an audit, which writes none.
    pub output_tokens: u32,
    /// Where the output ends at the latest; 0 for an audit.
    pub max_tokens: u32,
    /// None until there are tokens to count.
    pub tokens_per_second: Option<f32>,
    /// Unix time in milliseconds.
    pub started_ms: i64,
}

/// Sums a snapshot up; its own `state` field is not read.
pub(crate) fn describe(snapshot: &NodeSnapshot, clock: &dyn Clock) -> State {
    State::new(summarise(snapshot), clock)
}

/// Why something does not work, in one sentence for strangers.
pub(crate) fn in_public(reason: &Reason, mode: Mode, clock: &dyn Clock) -> String {
    let summary = not_running(reason, mode).in_public();
    State::new(summary, clock).sentence
}

impl State {
    pub(crate) fn new(summary: Summary, clock: &dyn Clock) -> Self {
        Self {
            kind: summary.kind(),
            sentence: summary.sentence(clock),
            remedy: summary.remedy(),
            summary,
        }
    }
}

/// The heaviest of all that a snapshot says.
fn summarise(snapshot: &NodeSnapshot) -> Summary {
    if let Connection::Refused { message } = &snapshot.connection {
        return Summary::Outdated {
            message: message.clone(),
        };
    }
    if let Some(reason) = &snapshot.decision.reason {
        return not_running(reason, snapshot.decision.mode);
    }
    if let Some(summary) = no_model(&snapshot.models) {
        return summary;
    }
    if let Connection::Disconnected {
        reason: _,
        retry_at_ms,
    } = snapshot.connection
    {
        return Summary::Unreachable {
            balancer: snapshot.balancer.clone(),
            retry_at_ms,
        };
    }
    if let Connection::TurnedAway { why, .. } = snapshot.connection {
        return Summary::TurnedAway { why };
    }
    if !snapshot.work.is_empty() {
        return working(&snapshot.work);
    }
    let mut ready = snapshot
        .models
        .iter()
        .filter(|model| model.engine == EngineStatus::Ready)
        .peekable();
    if ready.peek().is_none()
        && let Some(summary) = snapshot.models.iter().find_map(starting)
    {
        return summary;
    }
    match snapshot.connection {
        Connection::Connected { .. } if ready.all(|model| model.served == Some(false)) => {
            Summary::NotServed {
                models: snapshot
                    .models
                    .iter()
                    .map(|model| model.name.clone())
                    .collect(),
            }
        }
        Connection::Connected { reference: true } => Summary::WaitingForAudits,
        Connection::Connected { reference: false } => Summary::WaitingForJobs,
        _ => Summary::Connecting,
    }
}

fn not_running(reason: &Reason, mode: Mode) -> Summary {
    match reason.clone() {
        Reason::Closing => Summary::Closing,
        Reason::NotAgreed => Summary::NotAgreed,
        Reason::NoBalancer => Summary::NoBalancer,
        Reason::OwnUse => Summary::OwnUse,
        Reason::Refused => Summary::Outdated {
            message: "The network asks for another version of Infera Node".to_owned(),
        },
        Reason::Paused {
            until_ms,
            finishing,
        } => Summary::Paused {
            until_ms,
            finishing,
        },
        Reason::Rule { why, goes_on_ms } => Summary::Rule { why, goes_on_ms },
        Reason::StorageFault { message } => Summary::StorageFault { message },
        Reason::LowDisk {
            free_bytes,
            resume_above_bytes,
        } => Summary::LowDisk {
            free_bytes,
            resume_above_bytes,
        },
        Reason::RequirementFailed { requirement } => Summary::RequirementFailed {
            requirement,
            finishing: mode == Mode::Drain,
        },
    }
}

/// When no model can be used, and no waiting will change that.
fn no_model(models: &[ModelStatus]) -> Option<Summary> {
    let mut faults = models.iter().map(|model| match &model.engine {
        EngineStatus::Broken { fault } => Some(fault),
        _ => None,
    });
    let Some(first) = faults.next() else {
        return Some(Summary::NoModel);
    };
    let first = first?;
    faults
        .all(|fault| fault.is_some())
        .then(|| Summary::ModelsBroken {
            fault: first.clone(),
        })
}

fn working(work: &[WorkInProgress]) -> Summary {
    let jobs = || work.iter().filter(|item| item.kind == WorkKind::Job);
    let rates: Vec<_> = jobs().filter_map(|job| job.tokens_per_second).collect();
    let count = jobs().count();
    Summary::Working {
        jobs: count as u32,
        audits: (work.len() - count) as u32,
        tokens_per_second: (!rates.is_empty()).then(|| rates.iter().sum()),
    }
}

fn starting(model: &ModelStatus) -> Option<Summary> {
    match &model.engine {
        EngineStatus::Loading {
            done_bytes,
            total_bytes,
        } => Some(Summary::Loading {
            model: model.name.clone(),
            percent: (done_bytes * 100)
                .checked_div(*total_bytes)
                .unwrap_or(0)
                .min(100) as u8,
        }),
        EngineStatus::Tuning { done, total } => Some(Summary::Tuning {
            model: model.name.clone(),
            done: *done,
            total: *total,
        }),
        EngineStatus::Restarting { fault, retry_in_ms } => Some(Summary::Restarting {
            fault: fault.clone(),
            retry_in_ms: *retry_in_ms,
        }),
        // It is about to.
        EngineStatus::Off => Some(Summary::Loading {
            model: model.name.clone(),
            percent: 0,
        }),
        EngineStatus::Ready | EngineStatus::Broken { .. } => None,
    }
}

impl Summary {
    /// The same for strangers: which program its owner runs is nobody's business, and no figure that
    /// changes all the time is worth a message.
    pub(crate) fn in_public(self) -> Self {
        let Self::Rule { mut why, .. } = self else {
            return self;
        };
        match &mut why {
            Why::Game { name } => "a game".clone_into(name),
            Why::Program { name } | Why::FullScreen { name } => "a program".clone_into(name),
            Why::Battery { percent } => *percent = None,
            Why::LowMemory {
                available_bytes, ..
            } => *available_bytes = *available_bytes >> 30 << 30,
            Why::Sleep
            | Why::LowBattery { .. }
            | Why::GpuBusy
            | Why::GpuMemory { .. }
            | Why::GpuHot { .. }
            | Why::InUse { .. }
            | Why::Hours { .. } => {}
        }
        Self::Rule {
            why,
            goes_on_ms: None,
        }
    }

    /// The same without what changes all the time; none for what is over in a moment.
    pub(crate) fn in_history(self) -> Option<Self> {
        Some(match self {
            Self::ReadingHardware | Self::Closing => return None,
            Self::Working { jobs, .. } => Self::Working {
                jobs: u32::from(jobs > 0),
                audits: u32::from(jobs == 0),
                tokens_per_second: None,
            },
            Self::Loading { model, .. } => Self::Loading { model, percent: 0 },
            Self::Tuning { model, .. } => Self::Tuning {
                model,
                done: 0,
                total: 0,
            },
            Self::Restarting { fault, .. } => Self::Restarting {
                fault,
                retry_in_ms: 0,
            },
            Self::Unreachable { balancer, .. } => Self::Unreachable {
                balancer,
                retry_at_ms: 0,
            },
            Self::LowDisk {
                resume_above_bytes, ..
            } => Self::LowDisk {
                free_bytes: 0,
                resume_above_bytes,
            },
            Self::Rule { mut why, .. } => {
                match &mut why {
                    Why::Battery { percent } => *percent = None,
                    Why::LowMemory {
                        available_bytes, ..
                    } => *available_bytes = 0,
                    _ => {}
                }
                Self::Rule {
                    why,
                    goes_on_ms: None,
                }
            }
            other => other,
        })
    }

    fn kind(&self) -> StateKind {
        match self {
            Self::Working { .. } => StateKind::Working,
            Self::Paused { .. } | Self::OwnUse | Self::Rule { .. } | Self::Closing => {
                StateKind::Paused
            }
            Self::CannotStart { .. }
            | Self::NotAgreed
            | Self::NoBalancer
            | Self::Outdated { .. }
            | Self::StorageFault { .. }
            | Self::LowDisk { .. }
            | Self::RequirementFailed { .. }
            | Self::NoModel
            | Self::ModelsBroken { .. }
            | Self::NotServed { .. }
            | Self::TurnedAway {
                why: TurnedAway::IdentityInUse | TurnedAway::InvitationNeeded,
            } => StateKind::NeedsYou,
            Self::ReadingHardware
            | Self::Unreachable { .. }
            | Self::TurnedAway {
                why: TurnedAway::TooMuch,
            }
            | Self::Loading { .. }
            | Self::Tuning { .. }
            | Self::Restarting { .. }
            | Self::Connecting
            | Self::WaitingForJobs
            | Self::WaitingForAudits => StateKind::Waiting,
        }
    }

    /// In the words of a person.
    fn sentence(&self, clock: &dyn Clock) -> String {
        match self {
            Self::ReadingHardware => "Reading your hardware".to_owned(),
            Self::CannotStart { fault } => fault.to_string(),
            Self::Outdated { message } => message.clone(),
            Self::NotAgreed => "Nothing is shared yet: you have not agreed".to_owned(),
            Self::NoBalancer => "Not getting jobs: no network is chosen".to_owned(),
            Self::Closing => "Closing".to_owned(),
            Self::Paused {
                until_ms,
                finishing,
            } => {
                let until =
                    until_ms.map_or(String::new(), |ms| format!(" until {}", clock.describe(ms)));
                if *finishing {
                    format!("Finishing the current job, then paused by you{until}")
                } else {
                    format!("Paused by you{until}")
                }
            }
            Self::OwnUse => "Paused while you use the model yourself".to_owned(),
            Self::Rule { why, goes_on_ms } => owner_needs_it(why, *goes_on_ms, clock),
            Self::StorageFault { message } => format!("Not getting jobs: {message}"),
            Self::ModelsBroken { fault } => format!("Not getting jobs: {fault}"),
            Self::LowDisk { free_bytes, .. } => format!(
                "Not getting jobs: only {} are free on the disk with the data folder",
                megabytes(*free_bytes)
            ),
            Self::RequirementFailed {
                requirement,
                finishing,
            } => format!(
                "Not getting jobs: {}, this network asks for {}{}",
                shortfall(requirement),
                requirement.need,
                if *finishing {
                    " (the current job is finished first)"
                } else {
                    ""
                }
            ),
            Self::NoModel => "Not getting jobs: no model is chosen".to_owned(),
            Self::Unreachable {
                balancer,
                retry_at_ms,
            } => {
                let seconds = (retry_at_ms - clock.now_ms()).max(0) as u64;
                format!(
                    "Cannot reach the network at {balancer}; trying again in {} s",
                    seconds.div_ceil(1000)
                )
            }
            Self::TurnedAway { why } => match why {
                TurnedAway::IdentityInUse => {
                    "Not getting jobs: another program works under this node's identity"
                }
                TurnedAway::TooMuch => {
                    "Not getting jobs: the network takes no more from your internet address now"
                }
                TurnedAway::InvitationNeeded => {
                    "Not getting jobs: the network takes new nodes by invitation only"
                }
            }
            .to_owned(),
            Self::Loading { model, percent } => format!("Loading {model}: {percent} %"),
            Self::Tuning { model, done, total } => {
                format!("Tuning {model} for this GPU, once: {done} of {total}")
            }
            Self::Restarting { fault, retry_in_ms } => format!(
                "{fault}; starting it again in {} s",
                retry_in_ms.div_ceil(1000)
            ),
            Self::NotServed { models } => format!(
                "Not getting jobs: this network does not serve {}",
                models.join(" or ")
            ),
            Self::Connecting => "Connecting to the network".to_owned(),
            Self::WaitingForJobs => "Waiting for jobs".to_owned(),
            Self::WaitingForAudits => "Waiting for answers to check".to_owned(),
            Self::Working {
                jobs,
                audits,
                tokens_per_second,
            } => {
                let what = match (jobs, audits) {
                    (0, 1) => return "Checking another node's answer".to_owned(),
                    (0, audits) => return format!("Checking {audits} answers of other nodes"),
                    (1, _) => "Working on a job".to_owned(),
                    (jobs, _) => format!("Working on {jobs} jobs"),
                };
                tokens_per_second.map_or(what.clone(), |tokens_per_second| {
                    format!("{what}: {} tokens/s", rate(tokens_per_second))
                })
            }
        }
    }

    /// What the person can do.
    fn remedy(&self) -> Option<String> {
        let text = match self {
            Self::CannotStart { fault } => return fault.remedy().map(str::to_owned),
            Self::Outdated { .. } => "Install the current version of Infera Node",
            Self::NotAgreed => "Go through the first start",
            Self::NoBalancer => "Enter a network's address in the settings",
            Self::StorageFault { .. } => {
                "Free some space or make the data folder writable; the node goes on by itself"
            }
            Self::LowDisk {
                resume_above_bytes, ..
            } => {
                return Some(format!(
                    "Free some space; the node goes on when {} are free",
                    megabytes(*resume_above_bytes)
                ));
            }
            Self::RequirementFailed { requirement, .. } => {
                return requirement.remedy().map(str::to_owned);
            }
            Self::NoModel => "Choose a model",
            Self::ModelsBroken { .. } => "Choose another model or device",
            Self::NotServed { .. } => "Choose a model that the network serves",
            Self::Rule {
                why: Why::Hours { opens_ms: None },
                ..
            } => "Choose hours in the settings, or another rule",
            Self::TurnedAway { why } => match why {
                TurnedAway::IdentityInUse => {
                    "End the other one, or give one of them a data folder and a key of its own. After a crash there is nothing to do: it tries again by itself"
                }
                TurnedAway::TooMuch => {
                    "Nothing to do: it tries again by itself. If you run many nodes here, end some"
                }
                TurnedAway::InvitationNeeded => {
                    "Ask the network's operator for an invitation, and join by it"
                }
            },
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// What keeps a guest, and when it ends.
fn owner_needs_it(why: &Why, goes_on_ms: Option<i64>, clock: &dyn Clock) -> String {
    if let Some(goes_on_ms) = goes_on_ms {
        let seconds = (goes_on_ms - clock.now_ms()).max(0) as u64;
        let over = match why {
            Why::Game { name } | Why::Program { name } => format!("{name} has closed"),
            Why::FullScreen { name } => format!("{name} has left the full screen"),
            Why::LowMemory { .. } => "there is memory again".to_owned(),
            Why::Battery { .. } => "mains power is back".to_owned(),
            Why::LowBattery { .. } => "the battery is charged again".to_owned(),
            Why::GpuBusy => "other programs have left the GPU".to_owned(),
            Why::GpuMemory { .. } => "the GPU has memory again".to_owned(),
            Why::GpuHot { .. } => "the GPU has cooled down".to_owned(),
            Why::Sleep => "the machine is awake".to_owned(),
            Why::InUse { .. } => "nobody uses this machine".to_owned(),
            Why::Hours { .. } => "the hours begin".to_owned(),
        };
        return format!("Going on in {} s: {over}", seconds.div_ceil(1000));
    }
    match why {
        Why::Sleep => "Paused: the machine is going to sleep".to_owned(),
        Why::Game { name } | Why::Program { name } => {
            format!("Paused: {name} is running. Goes on when it closes")
        }
        Why::FullScreen { name } => {
            format!("Paused: {name} fills the screen. Goes on when it no longer does")
        }
        Why::LowMemory {
            available_bytes,
            resume_above_bytes,
        } => format!(
            "Paused: other programs need the memory, {} are left. Goes on when {} are free",
            megabytes(*available_bytes),
            megabytes(*resume_above_bytes)
        ),
        Why::Battery { percent } => {
            let left = percent.map_or(String::new(), |percent| format!(" ({percent} % left)"));
            format!("Paused: on battery{left}. Goes on with mains power")
        }
        Why::LowBattery { resume_percent } => {
            format!("Paused: the battery is low. Goes on at {resume_percent} %")
        }
        Why::GpuBusy => {
            "Paused: other programs use the GPU. Goes on when they no longer do".to_owned()
        }
        Why::GpuMemory { resume_above_bytes } => format!(
            "Paused: other programs need the GPU's memory. Goes on when {} are free",
            megabytes(*resume_above_bytes)
        ),
        Why::GpuHot { resume_celsius } => {
            format!("Paused: the GPU is hot. Goes on at {resume_celsius} °C")
        }
        Why::InUse { remote: true, .. } => {
            "Paused: somebody uses this machine from afar. Goes on when they have left".to_owned()
        }
        Why::InUse { minutes, .. } => format!(
            "Paused while you use this machine. Goes on after {minutes} min without keyboard, mouse or gamepad"
        ),
        Why::Hours {
            opens_ms: Some(opens_ms),
        } => format!(
            "Paused by your schedule until {}",
            clock.describe(*opens_ms)
        ),
        Why::Hours { opens_ms: None } => "Paused: your schedule excludes all hours".to_owned(),
    }
}

/// What a machine has too little of.
fn shortfall(requirement: &Requirement) -> String {
    let found = &requirement.found;
    match requirement.id {
        RequirementId::Ram => format!("this machine has {found} of memory"),
        RequirementId::FreeDisk => format!("the disk has {found} free"),
        RequirementId::Network => format!("your network's speed is {found}"),
        RequirementId::Gpu if found.is_none() => "no GPU was found".to_owned(),
        RequirementId::Gpu => format!("your GPU is {found}"),
    }
}

/// As many digits as are true: one decimal below ten.
pub fn rate(tokens_per_second: f32) -> String {
    if tokens_per_second < 10.0 {
        format!("{tokens_per_second:.1}")
    } else {
        format!("{tokens_per_second:.0}")
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}

#[cfg(test)]
mod tests {
    use infera_protocol::requirements::{Amount, Mark};

    use super::*;
    use crate::model_fault::ModelCause;

    struct FixedClock;

    impl Clock for FixedClock {
        fn now_ms(&self) -> i64 {
            1_000
        }

        fn describe(&self, _: i64) -> String {
            "18:00".to_owned()
        }
    }

    fn model(engine: EngineStatus, served: Option<bool>) -> ModelStatus {
        ModelStatus {
            name: "tiny".to_owned(),
            id: None,
            served,
            device: None,
            engine,
        }
    }

    fn base() -> NodeSnapshot {
        NodeSnapshot {
            node: NodeId::from_bytes([1; 32]),
            software: "infera 0".to_owned(),
            balancer: "https://net.example".to_owned(),
            state: State {
                kind: StateKind::Waiting,
                sentence: String::new(),
                remedy: None,
                summary: Summary::ReadingHardware,
            },
            decision: Decision {
                mode: Mode::Run,
                reason: None,
                ask_again_ms: None,
                held: Vec::new(),
            },
            connection: Connection::Connected { reference: false },
            models: vec![model(EngineStatus::Ready, Some(true))],
            devices: Vec::new(),
            work: Vec::new(),
            points: None,
            hardware: None,
            policy: None,
            requirements: Vec::new(),
            offers: None,
            surroundings: Surroundings::default(),
            anyway_until_ms: None,
            command: None,
        }
    }

    fn work(kind: WorkKind, tokens_per_second: Option<f32>) -> WorkInProgress {
        WorkInProgress {
            kind,
            id: "1".to_owned(),
            model: "tiny".to_owned(),
            device: "cpu".to_owned(),
            input_tokens: 1,
            output_tokens: 1,
            max_tokens: 10,
            tokens_per_second,
            started_ms: 0,
        }
    }

    fn decision(mode: Mode, reason: Reason) -> Decision {
        Decision {
            mode,
            reason: Some(reason),
            ask_again_ms: None,
            held: Vec::new(),
        }
    }

    #[test]
    fn rules_about_battery_and_gpus_have_their_sentences() {
        let cases = [
            (
                Why::LowBattery { resume_percent: 25 },
                "Paused: the battery is low. Goes on at 25 %",
                "Going on in 30 s: the battery is charged again",
            ),
            (
                Why::GpuBusy,
                "Paused: other programs use the GPU. Goes on when they no longer do",
                "Going on in 30 s: other programs have left the GPU",
            ),
            (
                Why::GpuMemory {
                    resume_above_bytes: 5_000_000_000,
                },
                "Paused: other programs need the GPU's memory. Goes on when 5000 MB are free",
                "Going on in 30 s: the GPU has memory again",
            ),
            (
                Why::GpuHot { resume_celsius: 75 },
                "Paused: the GPU is hot. Goes on at 75 °C",
                "Going on in 30 s: the GPU has cooled down",
            ),
        ];
        for (why, lasts, is_over) in cases {
            let sentence = |goes_on_ms| {
                let why = why.clone();
                let state = State::new(Summary::Rule { why, goes_on_ms }, &FixedClock);
                assert_eq!(state.kind, StateKind::Paused);
                state.sentence
            };
            assert_eq!(sentence(None), lasts);
            assert_eq!(sentence(Some(31_000)), is_over);
        }
    }

    #[test]
    fn sentences_as_a_table() {
        use StateKind::{NeedsYou, Paused, Waiting, Working};
        let disconnected = Connection::Disconnected {
            reason: Unreachable::NobodyListens,
            retry_at_ms: 12_900,
        };
        let broken = EngineStatus::Broken {
            fault: ModelFault {
                cause: ModelCause::Damaged,
                message: "tiny.gguf is truncated".to_owned(),
            },
        };
        let requirement = Requirement {
            id: RequirementId::Ram,
            need: Amount::Memory { bytes: 8 << 30 },
            found: Amount::Memory { bytes: 6 << 30 },
            mark: Mark::Fail,
        };
        let cases = vec![
            (base(), Waiting, "Waiting for jobs"),
            (
                NodeSnapshot {
                    connection: Connection::Connected { reference: true },
                    ..base()
                },
                Waiting,
                "Waiting for answers to check",
            ),
            (
                NodeSnapshot {
                    connection: Connection::Connecting,
                    ..base()
                },
                Waiting,
                "Connecting to the network",
            ),
            (
                NodeSnapshot {
                    connection: disconnected,
                    ..base()
                },
                Waiting,
                "Cannot reach the network at https://net.example; trying again in 12 s",
            ),
            (
                NodeSnapshot {
                    connection: Connection::TurnedAway {
                        why: TurnedAway::IdentityInUse,
                        retry_at_ms: 12_900,
                    },
                    work: vec![work(WorkKind::Job, None)],
                    ..base()
                },
                NeedsYou,
                "Not getting jobs: another program works under this node's identity",
            ),
            (
                NodeSnapshot {
                    connection: Connection::Refused {
                        message: "Speak version 2".to_owned(),
                    },
                    ..base()
                },
                NeedsYou,
                "Speak version 2",
            ),
            (
                NodeSnapshot {
                    work: vec![work(WorkKind::Job, Some(42.4))],
                    ..base()
                },
                Working,
                "Working on a job: 42 tokens/s",
            ),
            (
                NodeSnapshot {
                    work: vec![work(WorkKind::Job, None)],
                    ..base()
                },
                Working,
                "Working on a job",
            ),
            (
                NodeSnapshot {
                    work: vec![
                        work(WorkKind::Job, Some(4.0)),
                        work(WorkKind::Job, Some(3.25)),
                        work(WorkKind::Audit, None),
                    ],
                    ..base()
                },
                Working,
                "Working on 2 jobs: 7.2 tokens/s",
            ),
            (
                NodeSnapshot {
                    work: vec![work(WorkKind::Audit, None)],
                    ..base()
                },
                Working,
                "Checking another node's answer",
            ),
            (
                NodeSnapshot {
                    decision: decision(
                        Mode::ReleaseGpu,
                        Reason::Paused {
                            until_ms: Some(9),
                            finishing: false,
                        },
                    ),
                    ..base()
                },
                Paused,
                "Paused by you until 18:00",
            ),
            (
                NodeSnapshot {
                    decision: decision(
                        Mode::Drain,
                        Reason::Paused {
                            until_ms: None,
                            finishing: true,
                        },
                    ),
                    ..base()
                },
                Paused,
                "Finishing the current job, then paused by you",
            ),
            (
                NodeSnapshot {
                    decision: decision(Mode::ReleaseGpu, Reason::RequirementFailed { requirement }),
                    ..base()
                },
                NeedsYou,
                "Not getting jobs: this machine has 6 GB of memory, this network asks for 8 GB",
            ),
            (
                NodeSnapshot {
                    decision: decision(
                        Mode::Drain,
                        Reason::LowDisk {
                            free_bytes: 90_000_000,
                            resume_above_bytes: 200_000_000,
                        },
                    ),
                    ..base()
                },
                NeedsYou,
                "Not getting jobs: only 90 MB are free on the disk with the data folder",
            ),
            (
                NodeSnapshot {
                    models: Vec::new(),
                    ..base()
                },
                NeedsYou,
                "Not getting jobs: no model is chosen",
            ),
            (
                NodeSnapshot {
                    models: vec![model(broken.clone(), None)],
                    ..base()
                },
                NeedsYou,
                "Not getting jobs: tiny.gguf is truncated",
            ),
            (
                NodeSnapshot {
                    models: vec![model(broken, None), model(EngineStatus::Ready, Some(true))],
                    ..base()
                },
                Waiting,
                "Waiting for jobs",
            ),
            (
                NodeSnapshot {
                    models: vec![model(EngineStatus::Ready, Some(false))],
                    ..base()
                },
                NeedsYou,
                "Not getting jobs: this network does not serve tiny",
            ),
            (
                NodeSnapshot {
                    models: vec![model(
                        EngineStatus::Loading {
                            done_bytes: 1,
                            total_bytes: 4,
                        },
                        None,
                    )],
                    ..base()
                },
                Waiting,
                "Loading tiny: 25 %",
            ),
            (
                NodeSnapshot {
                    models: vec![model(EngineStatus::Tuning { done: 2, total: 6 }, None)],
                    ..base()
                },
                Waiting,
                "Tuning tiny for this GPU, once: 2 of 6",
            ),
        ];
        for (snapshot, kind, sentence) in cases {
            let state = describe(&snapshot, &FixedClock);
            assert_eq!((state.kind, &*state.sentence), (kind, sentence));
        }
    }
}
