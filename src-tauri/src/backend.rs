//! The program behind the window. Until `infera_node::app::App` is there, this stands in for it:
//! it keeps settings and pauses in memory and has no node.

use std::path::PathBuf;

use infera_node::app::api::{
    ApiError, ApiErrorCode, AppEvent, AppState, Host, Obstacle, PauseRequest, Setup,
};
use infera_node::app::settings::Settings;
use infera_node::books::Today;
use infera_node::clock::{Clock, SystemClock};
use infera_node::governor::{Decision, Mode};
use infera_node::library::DiskUse;
use infera_node::state::{Connection, NodeSnapshot, State, StateKind, Summary};
use infera_protocol::NodeId;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;

#[derive(Debug, Clone)]
pub(crate) struct AppConfig {
    pub(crate) data: PathBuf,
}

#[derive(Debug, Clone)]
pub(crate) struct App {
    state: watch::Sender<AppState>,
}

pub(crate) struct AppEvents {
    states: watch::Receiver<AppState>,
}

impl AppEvents {
    pub(crate) async fn next(&mut self) -> Option<AppEvent> {
        self.states.changed().await.ok()?;
        let state = Box::new(self.states.borrow_and_update().clone());
        Some(AppEvent::State { state })
    }
}

impl App {
    #[expect(clippy::unused_async, reason = "the real one waits")]
    pub(crate) async fn start(config: AppConfig) -> Self {
        let summary = Summary::WaitingForJobs;
        let state = State {
            kind: StateKind::Waiting,
            sentence: "Waiting for jobs".to_owned(),
            remedy: None,
            summary,
        };
        let data = config.data.display().to_string();
        let state = AppState {
            state: state.clone(),
            node: Some(NodeSnapshot {
                node: NodeId::from_bytes([1; 32]),
                software: infera_node::SOFTWARE.to_owned(),
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
            }),
            setup: Setup {
                agreed: true,
                finished: true,
            },
            settings: Settings::default(),
            host: Host {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                desktop: true,
                os: std::env::consts::OS.to_owned(),
                models_folder: format!("{data}/models"),
                data_folder: data,
                locale: None,
            },
            adapters: Vec::new(),
            installed: Vec::new(),
            downloads: Vec::new(),
            disk: DiskUse::default(),
            today: Today::default(),
            obstacles: Vec::new(),
            benchmark: None,
        };
        Self {
            state: watch::channel(state).0,
        }
    }

    #[expect(clippy::unused_async, reason = "the real one waits")]
    pub(crate) async fn call(&self, name: &str, request: Value) -> Result<Value, ApiError> {
        match name {
            "state" => {}
            "pause" => {
                let request: PauseRequest = read(request)?;
                let seconds = if request.until_tomorrow {
                    Some(20 * 3600)
                } else {
                    request.seconds
                };
                let until_ms = seconds.map(|seconds| SystemClock.now_ms() + seconds as i64 * 1000);
                let until = until_ms.map_or(String::new(), |ms| {
                    format!(" until {}", SystemClock.describe(ms))
                });
                self.say(
                    StateKind::Paused,
                    format!("Paused by you{until}"),
                    Summary::Paused {
                        until_ms,
                        finishing: false,
                    },
                );
                self.state
                    .send_modify(|state| state.obstacles = vec![Obstacle::Paused { until_ms }]);
            }
            "resume" => {
                self.state.send_modify(|state| state.obstacles.clear());
                let summary = Summary::WaitingForJobs;
                self.say(StateKind::Waiting, "Waiting for jobs".to_owned(), summary);
            }
            "change_settings" => {
                let settings: Settings = read(request)?;
                self.state.send_modify(|state| state.settings = settings);
            }
            _ => {
                return Err(ApiError {
                    code: ApiErrorCode::Precondition,
                    message: format!("`{name}` is not there yet"),
                    remedy: None,
                });
            }
        }
        let state = self.state.borrow().clone();
        serde_json::to_value(state).map_err(|error| malformed(&error))
    }

    pub(crate) fn events(&self) -> AppEvents {
        let mut states = self.state.subscribe();
        states.mark_changed();
        AppEvents { states }
    }

    pub(crate) fn states(&self) -> watch::Receiver<AppState> {
        self.state.subscribe()
    }

    #[expect(clippy::unused_async, reason = "the real one waits")]
    pub(crate) async fn shut_down(&self) {}

    fn say(&self, kind: StateKind, sentence: String, summary: Summary) {
        self.state.send_modify(|state| {
            state.state = State {
                kind,
                sentence,
                remedy: None,
                summary,
            };
        });
    }
}

fn read<T: DeserializeOwned>(request: Value) -> Result<T, ApiError> {
    serde_json::from_value(request).map_err(|error| malformed(&error))
}

fn malformed(error: &serde_json::Error) -> ApiError {
    ApiError {
        code: ApiErrorCode::Malformed,
        message: error.to_string(),
        remedy: None,
    }
}
