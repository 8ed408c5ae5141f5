//! States of the program, for tests.

use infera_node::app::api::{AppState, Host};
use infera_node::app::settings::{Settings, Setup};
use infera_node::governor::{Decision, Mode};
use infera_node::library::DiskUse;
use infera_node::state::{Connection, NodeSnapshot, State, StateKind, Summary, WorkInProgress};
use infera_protocol::NodeId;
use infera_protocol::node_api::{Points, WorkKind};
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
        node: Some(NodeSnapshot {
            node: NodeId::from_bytes([1; 32]),
            software: "infera 0".to_owned(),
            balancer: "https://net.example".to_owned(),
            state,
            decision: Decision {
                mode: Mode::Run,
                reason: None,
                ask_again_ms: None,
            },
            connection: Connection::Connected { reference: false },
            models: Vec::new(),
            work: Vec::new(),
            points: None,
            hardware: None,
            policy: None,
            requirements: Vec::new(),
            offers: None,
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
