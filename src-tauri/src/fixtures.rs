//! States of the program, for tests.

use infera_node::app::api::{AppState, Host};
use infera_node::app::settings::{Settings, Setup};
use infera_node::governor::rules::Why;
use infera_node::governor::{Decision, Mode};
use infera_node::library::DiskUse;
use infera_node::model_fault::{ModelCause, ModelFault};
use infera_node::state::{
    Connection, NodeSnapshot, StartFault, State, StateKind, Summary, TurnedAway, WorkInProgress,
};
use infera_protocol::NodeId;
use infera_protocol::node_api::{Points, WorkKind};
use infera_protocol::requirements::{Amount, Gpu, GpuKind, Mark, Requirement, RequirementId};
use infera_surroundings::Surroundings;
use jiff::Zoned;

/// Noon of a day in a zone without surprises.
pub(crate) fn now() -> Zoned {
    "2026-11-22T12:00:00[UTC]".parse().unwrap()
}

/// A program that runs as it should, and says `summary`.
pub(crate) fn state(summary: Summary) -> AppState {
    let kind = match &summary {
        Summary::Working { .. } => StateKind::Working,
        Summary::Paused { .. } | Summary::OwnUse => StateKind::Paused,
        Summary::NotAgreed | Summary::NoModel | Summary::CannotStart { .. } => StateKind::NeedsYou,
        _ => StateKind::Waiting,
    };
    let state = State {
        kind,
        sentence: format!("{summary:?}"),
        remedy: None,
        summary,
    };
    AppState {
        state: state.clone(),
        preset: None,
        invitation: None,
        account: None,
        link: None,
        node: Some(NodeSnapshot {
            node: NodeId::from_bytes([1; 32]),
            software: "infera 0".to_owned(),
            balancer: "https://net.example".to_owned(),
            state,
            decision: Decision {
                mode: Mode::Run,
                reason: None,
                ask_again_ms: None,
                held: Vec::new(),
            },
            connection: Connection::Connected { reference: false },
            models: Vec::new(),
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
        }),
        setup: Setup {
            agreed: true,
            finished: true,
        },
        settings: Settings {
            language: Some("en".to_owned()),
            ..Settings::default()
        },
        host: Host {
            name: "attic".to_owned(),
            version: "0.1.0".to_owned(),
            desktop: true,
            os: "linux".to_owned(),
            data_folder: "/home/ada/.local/share/inferanode".to_owned(),
            models_folder: "/home/ada/.local/share/inferanode/models".to_owned(),
            web_address: None,
        },
        adapters: Vec::new(),
        installed: Vec::new(),
        downloads: Vec::new(),
        imports: Vec::new(),
        disk: DiskUse::default(),
        today: infera_node::books::Today {
            micro_points: 128_000_000,
            ..Default::default()
        },
        obstacles: Vec::new(),
        benchmark: None,
    }
}

/// As many jobs and audits in progress.
pub(crate) fn working(jobs: u32, audits: u32) -> AppState {
    let mut state = state(Summary::Working {
        jobs,
        audits,
        tokens_per_second: Some(42.0),
    });
    let kinds = std::iter::repeat_n(WorkKind::Job, jobs as usize)
        .chain(std::iter::repeat_n(WorkKind::Audit, audits as usize));
    state.node.as_mut().unwrap().work = kinds
        .map(|kind| WorkInProgress {
            kind,
            id: "1".to_owned(),
            model: "tiny".to_owned(),
            device: "cpu".to_owned(),
            input_tokens: 12,
            output_tokens: 214,
            max_tokens: 400,
            tokens_per_second: Some(42.0),
            started_ms: 0,
        })
        .collect();
    state
}

/// Points that the network has told.
pub(crate) fn with_points(mut state: AppState, confirmed: i64) -> AppState {
    state.node.as_mut().unwrap().points = Some(Points {
        confirmed,
        pending: 0,
        forfeited: 0,
    });
    state
}

/// One of each kind.
pub(crate) fn every_summary() -> Vec<Summary> {
    let gpu = |name: &str, kind, vram_bytes| Gpu {
        name: name.to_owned(),
        kind,
        vram_bytes,
        api: "Vulkan".to_owned(),
        driver: String::new(),
        pci_id: None,
    };
    let requirement = |id, found| Summary::RequirementFailed {
        requirement: Requirement {
            id,
            need: Amount::Vram {
                bytes: 8 << 30,
                or_apple_silicon: true,
            },
            found,
            mark: Mark::Fail,
        },
        finishing: true,
    };
    let fault = ModelFault {
        cause: ModelCause::OutOfMemory,
        message: "no room".to_owned(),
    };
    let message = "no words for people".to_owned();
    let model = "tiny".to_owned();
    let working = |jobs, audits, tokens_per_second| Summary::Working {
        jobs,
        audits,
        tokens_per_second,
    };
    let rule = |why, goes_on_ms| Summary::Rule { why, goes_on_ms };
    let name = || "Hades".to_owned();
    let whys = [
        Why::Sleep,
        Why::Game { name: name() },
        Why::Program { name: name() },
        Why::FullScreen { name: name() },
        Why::LowMemory {
            available_bytes: 1 << 29,
            resume_above_bytes: 5 << 28,
        },
        Why::Battery { percent: Some(80) },
        Why::Battery { percent: None },
        Why::LowBattery { resume_percent: 25 },
        Why::GpuBusy,
        Why::GpuMemory {
            resume_above_bytes: 5 << 30,
        },
        Why::GpuHot { resume_celsius: 75 },
        Why::InUse {
            minutes: 10,
            remote: false,
        },
        Why::InUse {
            minutes: 10,
            remote: true,
        },
        Why::Hours {
            opens_ms: Some(1_000),
        },
        Why::Hours { opens_ms: None },
    ];
    let ruled = whys
        .into_iter()
        .flat_map(|why| [rule(why.clone(), None), rule(why, Some(1_000))]);
    let others = vec![
        Summary::ReadingHardware,
        Summary::CannotStart {
            fault: StartFault::KeychainLocked,
        },
        Summary::CannotStart {
            fault: StartFault::KeychainMissing,
        },
        Summary::CannotStart {
            fault: StartFault::KeychainSilent,
        },
        Summary::CannotStart {
            fault: StartFault::Other {
                message: message.clone(),
            },
        },
        Summary::NotAgreed,
        Summary::NoBalancer,
        Summary::Outdated {
            message: message.clone(),
        },
        Summary::Closing,
        Summary::Paused {
            until_ms: Some(0),
            finishing: true,
        },
        Summary::Paused {
            until_ms: None,
            finishing: true,
        },
        Summary::OwnUse,
        Summary::StorageFault { message },
        Summary::LowDisk {
            free_bytes: 90_000_000,
            resume_above_bytes: 200_000_000,
        },
        requirement(RequirementId::Ram, Amount::Memory { bytes: 7 << 29 }),
        requirement(RequirementId::FreeDisk, Amount::Disk { bytes: 9 << 30 }),
        requirement(RequirementId::Network, Amount::Unknown),
        requirement(RequirementId::Gpu, Amount::Gpus { gpus: Vec::new() }),
        requirement(
            RequirementId::Gpu,
            Amount::Gpus {
                gpus: vec![
                    gpu("A", GpuKind::Discrete, Some(6 << 30)),
                    gpu("B", GpuKind::Discrete, None),
                    gpu("C", GpuKind::Integrated, None),
                    gpu("D", GpuKind::Software, None),
                ],
            },
        ),
        Summary::NoModel,
        Summary::ModelsBroken {
            fault: fault.clone(),
        },
        Summary::Unreachable {
            balancer: "https://net.example".to_owned(),
            retry_at_ms: 0,
        },
        Summary::TurnedAway {
            why: TurnedAway::IdentityInUse,
        },
        Summary::TurnedAway {
            why: TurnedAway::TooMuch,
        },
        Summary::Loading {
            model: model.clone(),
            percent: 4,
        },
        Summary::Tuning {
            model: model.clone(),
            done: 1,
            total: 2,
        },
        Summary::Restarting {
            fault,
            retry_in_ms: 900,
        },
        Summary::NotServed {
            models: vec![model],
        },
        Summary::Connecting,
        Summary::WaitingForJobs,
        Summary::WaitingForAudits,
        working(0, 1, None),
        working(0, 2, None),
        working(1, 0, None),
        working(2, 1, Some(4.25)),
    ];
    others.into_iter().chain(ruled).collect()
}
