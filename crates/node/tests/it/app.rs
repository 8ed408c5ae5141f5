//! The program around the node: settings, the owner's own use of the models, removal. The engine
//! is a real child process with the tiny model on the CPU.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::routing::get;
use axum::{Json, Router};
use infera_node::app::api::{AppEvent, AppState, BenchmarkProgress, ChatEvent, LookedUp, Obstacle};
use infera_node::app::settings::{DeviceSetting, Preferences, Theme};
use infera_node::app::{App, AppConfig, KeySource, Overrides, StartError};
use infera_node::clock::{SystemClock, SystemEntropy};
use infera_node::data_dir::DataDir;
use infera_node::engine_link::{ChildEngine, EngineProcesses};
use infera_node::identity::{Keychain, KeychainFault};
use infera_node::library::DownloadState;
use infera_node::state::{StartFault, Summary};
use infera_node::unreachable::Unreachable;
use infera_protocol::node_api::Network;
use infera_protocol::requirements::Policy;
use infera_surroundings::{Network as Line, Observers, Surroundings};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::engine::tiny_model;
use crate::http::serve;

pub(crate) struct Running {
    pub(crate) app: App,
    folder: TempDir,
}

impl Running {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            app: start(&folder, None).await.unwrap(),
            folder,
        }
    }

    pub(crate) async fn call(&self, command: &str, request: Value) -> Value {
        match self.app.call(command, request).await {
            Ok(answer) => answer,
            Err(error) => panic!("{command}: {error:?}"),
        }
    }

    /// The reason in the API's word.
    pub(crate) async fn refused(&self, command: &str, request: Value) -> String {
        match self.app.call(command, request).await {
            Ok(answer) => panic!("{command}: {answer}"),
            Err(error) => {
                let refusal = serde_json::to_value(&error.refusal).unwrap();
                refusal["why"].as_str().unwrap().to_owned()
            }
        }
    }

    /// The first state that fits, within a minute.
    pub(crate) async fn until(&self, what: &str, fits: impl Fn(&AppState) -> bool) -> AppState {
        let mut states = self.app.states();
        match tokio::time::timeout(Duration::from_mins(1), states.wait_for(|state| fits(state)))
            .await
        {
            Ok(Ok(state)) => state.clone(),
            _ => panic!("{what}: {:?}", self.app.states().borrow().state),
        }
    }

    /// The tiny model, installed.
    async fn model(&self) -> String {
        self.call("import_model", json!({ "path": tiny_model() }))
            .await;
        let state = self
            .until("the model is installed", |state| {
                !state.installed.is_empty()
            })
            .await;
        assert_eq!(state.installed[0].fault, None);
        state.installed[0].path.clone()
    }

    pub(crate) async fn restart(self) -> Self {
        self.app.shut_down().await;
        let Self { app, folder } = self;
        drop(app);
        // Tasks that end by themselves let go of the folder a moment later.
        let restarted = async {
            loop {
                match start(&folder, None).await {
                    Err(StartError::Data(_)) => tokio::task::yield_now().await,
                    started => break started.unwrap(),
                }
            }
        };
        let app = tokio::time::timeout(Duration::from_mins(1), restarted)
            .await
            .expect("the data folder is let go of");
        Self { app, folder }
    }
}

async fn start(folder: &TempDir, keychain: Option<Arc<dyn Keychain>>) -> Result<App, StartError> {
    start_seeing(folder, keychain, Observers::none()).await
}

async fn start_seeing(
    folder: &TempDir,
    keychain: Option<Arc<dyn Keychain>>,
    observers: Observers,
) -> Result<App, StartError> {
    App::start(AppConfig {
        data: DataDir::new(folder.path().join("node")).lock()?,
        key: keychain.map_or_else(
            || KeySource::File(folder.path().join("key")),
            KeySource::Keychain,
        ),
        ca_file: None,
        context_tokens: None,
        models_folder: None,
        desktop: false,
        overrides: Overrides {
            devices: Some(vec![DeviceSetting::Cpu]),
            ..Overrides::default()
        },
        engine: ChildEngine {
            program: env!("CARGO_BIN_EXE_infera").into(),
            arguments: vec!["engine".to_owned(), "--quiet".to_owned()],
            processes: EngineProcesses::default(),
        },
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        observers,
        gpu_readers: None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chosen_network_is_asked_for_its_rules_before_anything_is_shared() {
    let network = Network {
        name: "Ours".to_owned(),
        policy: Policy {
            name: "impossible".to_owned(),
            ram_bytes: Some(1 << 50),
            ..Policy::practice()
        },
        ..Network::default()
    };
    let asked = network.clone();
    let url = serve(Router::new().route("/node/v1/network", get(|| async { Json(asked) }))).await;
    let running = Running::start().await;
    let look_up = async |address: &str| {
        let answer = running.call("look_up_network", json!({ "address": address }));
        serde_json::from_value::<LookedUp>(answer.await).unwrap()
    };
    let address = url.trim_start_matches("http://");
    let LookedUp::Network {
        url: whole, name, ..
    } = look_up(address).await
    else {
        panic!("it is there");
    };
    assert_eq!((&whole, name.as_str()), (&url, "Ours"));
    let LookedUp::Unreachable { reason, .. } = look_up("127.0.0.1:1").await else {
        panic!("nobody is there");
    };
    assert_eq!(reason, Unreachable::NobodyListens);
    let LookedUp::BadAddress { .. } = look_up("http://net.example").await else {
        panic!("plain HTTP is for this machine");
    };

    running
        .call("change_settings", json!({ "balancer": url }))
        .await;
    let state = running
        .until("the rules are the network's", |state| {
            let node = state.node.as_ref();
            node.is_some_and(|node| node.policy.as_deref() == Some("impossible"))
        })
        .await;
    assert!(!state.setup.agreed);
    let nobody = json!({ "balancer": "http://127.0.0.1:1" });
    running.call("change_settings", nobody).await;
    let reason = Unreachable::NobodyListens;
    running
        .until("a wrong address is named", |state| {
            state.obstacles.contains(&Obstacle::Offline {
                reason: reason.clone(),
            })
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_shared_before_the_person_agrees_and_each_step_names_the_next() {
    let running = Running::start().await;
    let state = running
        .until("the hardware is known", |state| {
            state
                .node
                .as_ref()
                .is_some_and(|node| node.hardware.is_some())
        })
        .await;
    assert_eq!(state.state.summary, Summary::NotAgreed);
    assert!(!state.setup.agreed && !state.setup.finished);
    // The public network's gate, to be read before anything is agreed.
    let node = state.node.unwrap();
    assert_eq!(node.policy.as_deref(), Some("public"));
    assert!(node.requirements.len() >= 3, "{:?}", node.requirements);
    assert!(state.obstacles.contains(&Obstacle::NotAgreed));

    running.call("agree", Value::Null).await;
    let state = running
        .until("a network is missing", |state| {
            state.state.summary == Summary::NoBalancer
        })
        .await;
    assert!(state.obstacles.contains(&Obstacle::NoModel));

    let change = json!({ "balancer": "http://127.0.0.1:1/" });
    running.call("change_settings", change).await;
    let state = running
        .until("a model is missing", |state| {
            state.state.summary == Summary::NoModel
        })
        .await;
    assert_eq!(
        state.settings.balancer.as_deref(),
        Some("http://127.0.0.1:1")
    );

    let path = running.model().await;
    running
        .call("use_model", json!({ "path": path, "in_use": true }))
        .await;
    running
        .until("the network is out of reach", |state| {
            matches!(state.state.summary, Summary::Unreachable { .. })
        })
        .await;

    let paused = running.call("pause", json!({ "seconds": 900 })).await;
    assert_eq!(paused["state"]["kind"], "paused");
    running.call("withdraw", Value::Null).await;
    running
        .until("nothing is shared any more", |state| {
            state.state.summary == Summary::NotAgreed
        })
        .await;
    running.app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn choices_outlive_the_program() {
    let running = Running::start().await;
    let mut settings = running.call("state", Value::Null).await["settings"].clone();
    settings["jobs_at_once"] = json!(7);
    settings["language"] = json!("de");
    let change = json!({ "jobs_at_once": 7, "language": "de" });
    running.call("change_settings", change).await;
    running.call("finish_setup", json!(true)).await;
    let running = running.restart().await;
    let state = running.call("state", Value::Null).await;
    assert_eq!(state["settings"], settings);
    assert_eq!(state["setup"], json!({ "agreed": false, "finished": true }));
    running.app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_node_did_outlives_the_program() {
    let running = Running::start().await;
    let all = json!({ "from_ms": 0, "to_ms": i64::MAX });
    let stretches = async {
        loop {
            let stretches = running.call("stretches", all.clone()).await;
            if stretches[0].is_object() {
                return stretches;
            }
            tokio::task::yield_now().await;
        }
    };
    let stretches = tokio::time::timeout(Duration::from_mins(1), stretches);
    let stretches = stretches.await.expect("a state that lasts is written down");
    assert_eq!(stretches[0]["kind"], "needs_you", "{stretches}");
    assert_eq!(stretches[0]["summary"]["summary"], "not_agreed");
    let running = running.restart().await;
    running
        .until("the node runs", |state| state.node.is_some())
        .await;
    let again = running.call("stretches", all).await;
    assert_eq!(again[0]["from_ms"], stretches[0]["from_ms"], "{again}");
    let ends = |stretches: &Value| stretches[0]["to_ms"].as_i64();
    assert!(ends(&again) >= ends(&stretches), "{again} {stretches}");
    let nothing = json!({ "from_ms": 0, "to_ms": 1 });
    assert_eq!(running.call("stretches", nothing).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_answers_and_the_node_makes_room_meanwhile() {
    let running = Running::start().await;
    let path = running.model().await;
    let mut events = running.app.events();
    let ask = |id: &str| {
        json!({
            "id": id,
            "model": path,
            "messages": [{ "role": "user", "content": "Once upon a time" }],
        })
    };
    running.call("chat", ask("one")).await;
    let mut answer = String::new();
    let tokens = loop {
        match events.next().await.unwrap() {
            AppEvent::Chat { id, update } => {
                assert_eq!(id, "one");
                match update {
                    ChatEvent::Text { text } => {
                        answer += &text;
                        // It would go on for long.
                        if answer.len() > 40 {
                            running.call("stop_chat", json!({ "id": "one" })).await;
                        }
                    }
                    ChatEvent::Done { tokens, .. } => break tokens,
                    ChatEvent::Loading { .. } | ChatEvent::Tuning { .. } => {}
                    ChatEvent::Failed { fault } => panic!("{fault}"),
                }
            }
            AppEvent::State { .. } | AppEvent::Gpu { .. } => {}
        }
    };
    assert!(tokens > 0 && !answer.is_empty());
    running.call("agree", Value::Null).await;
    let busy = |state: &AppState| state.obstacles.contains(&Obstacle::OwnUse);
    let agreed = |state: &AppState| state.state.summary == Summary::NoBalancer;
    // What holds the node is said first; the own use is seen once nothing holds it.
    running.until("the node is held", agreed).await;
    let change = json!({ "balancer": "http://127.0.0.1:1" });
    running.call("change_settings", change).await;
    running.until("the node makes room", busy).await;
    running.call("end_chat", Value::Null).await;
    running
        .until("the node goes on", |state| !busy(state))
        .await;
    running.app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_measured() {
    let running = Running::start().await;
    let path = running.model().await;
    running.call("benchmark", json!({ "path": path })).await;
    let state = running
        .until("it is measured", |state| {
            state.benchmark.as_ref().is_some_and(|benchmark| {
                matches!(
                    benchmark.progress,
                    BenchmarkProgress::Done { .. } | BenchmarkProgress::Failed { .. }
                )
            })
        })
        .await;
    match state.benchmark.unwrap().progress {
        BenchmarkProgress::Done {
            decode_tokens_per_second,
            prefill_tokens_per_second,
            answer,
            ..
        } => {
            assert!(decode_tokens_per_second > 0.0 && prefill_tokens_per_second > 0.0);
            assert!(!answer.is_empty());
        }
        other => panic!("{other:?}"),
    }
    running.call("stop_benchmark", Value::Null).await;
    running
        .until("the figures are put away", |state| {
            state.benchmark.is_none()
        })
        .await;
    running.app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_calls_as_a_table() {
    let running = Running::start().await;
    let chat = json!({ "id": "1", "model": "none.gguf", "messages": [] });
    for (command, request, why) in [
        ("nothing", Value::Null, "no_such_command"),
        ("pause", json!({ "seconds": -1 }), "malformed"),
        ("pause", json!({ "minutes": 1 }), "malformed"),
        ("finish_setup", Value::Null, "malformed"),
        ("jobs", json!({ "sort": "colour" }), "malformed"),
        (
            "change_settings",
            json!({ "balancer": "net" }),
            "network_address",
        ),
        (
            "change_settings",
            json!({ "jobs_at_once": 0 }),
            "jobs_at_once",
        ),
        (
            "change_settings",
            json!({ "download_bytes_per_second": 0 }),
            "no_download_rate",
        ),
        ("change_settings", json!({ "colour": "red" }), "malformed"),
        ("change_settings", json!({ "theme": "red" }), "malformed"),
        (
            "use_model",
            json!({ "path": "none.gguf", "in_use": true }),
            "no_such_model",
        ),
        ("benchmark", json!({ "path": "none.gguf" }), "no_such_model"),
        ("chat", chat, "no_such_model"),
        ("import_model", json!({ "path": "/none.gguf" }), "library"),
        (
            "download",
            json!({ "from": "catalogue", "id": "none" }),
            "library",
        ),
        (
            "download",
            json!({ "from": "url", "url": "ftp://x" }),
            "library",
        ),
    ] {
        let got = running.refused(command, request.clone()).await;
        assert_eq!(got, why, "{command} {request}");
    }
    running.app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_windows_that_change_settings_at_once_lose_neither() {
    let running = Running::start().await;
    let changes = [
        json!({ "notifications": false }),
        json!({ "theme": "dark" }),
    ];
    let [one, other] = changes.map(|change| running.call("change_settings", change));
    tokio::join!(one, other);
    let settings = running.app.states().borrow().settings.clone();
    assert!(!settings.notifications);
    assert_eq!(settings.theme, Theme::Dark);
    let kept = Preferences::read(&running.folder.path().join("node/settings.json")).unwrap();
    assert_eq!(kept.settings, settings);
    running.app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_settings_are_named_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir::new(folder.path().join("node"));
    data.create().unwrap();
    std::fs::write(data.settings(), "{").unwrap();
    match start(&folder, None).await {
        Err(error @ StartError::Settings(_)) => {
            assert!(error.to_string().contains("settings.json"), "{error}");
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it started"),
    }
    assert_eq!(std::fs::read_to_string(data.settings()).unwrap(), "{");
}

/// Locked until it is unlocked.
#[derive(Default)]
struct LockedKeychain {
    open: AtomicBool,
    secret: Mutex<Option<Vec<u8>>>,
}

impl Keychain for LockedKeychain {
    fn read(&self, _: &str) -> Result<Option<Vec<u8>>, KeychainFault> {
        if self.open.load(Ordering::Relaxed) {
            Ok(self.secret.lock().unwrap().clone())
        } else {
            Err(KeychainFault::Locked)
        }
    }

    fn write(&self, _: &str, secret: &[u8]) -> Result<(), KeychainFault> {
        *self.secret.lock().unwrap() = Some(secret.to_vec());
        Ok(())
    }

    fn delete(&self, _: &str) -> Result<(), KeychainFault> {
        *self.secret.lock().unwrap() = None;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_keychain_is_named_and_unlocking_it_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let keychain = Arc::new(LockedKeychain::default());
    let app = start(&folder, Some(keychain.clone())).await.unwrap();
    let running = Running { app, folder };
    let state = running
        .until("it cannot start", |state| {
            matches!(state.state.summary, Summary::CannotStart { .. })
        })
        .await;
    assert!(state.state.sentence.contains("locked"), "{:?}", state.state);
    assert!(matches!(
        state.obstacles[..],
        [Obstacle::CannotStart { .. }]
    ));
    assert_eq!(running.refused("pause", json!({})).await, "not_started");
    keychain.open.store(true, Ordering::Relaxed);
    // It is tried again when the person asks; the answer may still be the old one.
    let _ = running.app.call("check", Value::Null).await;
    running
        .until("it starts", |state| state.node.is_some())
        .await;
    running.app.shut_down().await;
}

/// A machine without a keychain.
struct NoKeychain;

impl Keychain for NoKeychain {
    fn read(&self, _: &str) -> Result<Option<Vec<u8>>, KeychainFault> {
        Err(KeychainFault::Missing)
    }

    fn write(&self, _: &str, _: &[u8]) -> Result<(), KeychainFault> {
        Err(KeychainFault::Missing)
    }

    fn delete(&self, _: &str) -> Result<(), KeychainFault> {
        Err(KeychainFault::Missing)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_keychain_the_key_may_be_kept_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let app = start(&folder, Some(Arc::new(NoKeychain))).await.unwrap();
    let running = Running { app, folder };
    let fault = StartFault::KeychainMissing;
    running
        .until("it cannot start", |state| {
            let fault = fault.clone();
            state.state.summary == Summary::CannotStart { fault }
        })
        .await;
    running.call("keep_key_in_file", Value::Null).await;
    let state = running
        .until("it starts", |state| state.node.is_some())
        .await;
    let file = running.folder.path().join("node/node.key");
    assert!(file.exists());
    assert_eq!(
        running.refused("keep_key_in_file", Value::Null).await,
        "key_has_place",
        "it has a key now"
    );
    running.app.shut_down().await;
    let Running { app, folder } = running;
    drop(app);
    // The same key the next time, and it goes with everything else.
    let again = async {
        loop {
            match start(&folder, Some(Arc::new(NoKeychain))).await {
                Err(StartError::Data(_)) => tokio::task::yield_now().await,
                started => break started.unwrap(),
            }
        }
    };
    let app = tokio::time::timeout(Duration::from_mins(1), again);
    let app = app.await.expect("the data folder is let go of");
    let running = Running { app, folder };
    let later = running
        .until("it starts again", |state| state.node.is_some())
        .await;
    assert_eq!(later.node.unwrap().node, state.node.unwrap().node);
    running.call("remove_everything", Value::Null).await;
    assert!(!file.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_everything_lists_it_first_and_leaves_nothing() {
    let running = Running::start().await;
    let path = running.model().await;
    running
        .until("the node runs", |state| state.node.is_some())
        .await;
    let plan = running.call("removal_plan", Value::Null).await;
    let items = plan.as_array().unwrap();
    for what in ["models", "history", "logs", "settings", "identity"] {
        assert!(items.iter().any(|item| item["what"] == what), "{what}");
    }
    assert!(items[0]["bytes"].as_u64().unwrap() > 100_000, "{plan}");
    assert!(Path::new(&path).exists());
    running.call("remove_everything", Value::Null).await;
    assert!(!Path::new(&path).exists());
    assert!(!running.folder.path().join("node").exists());
    assert!(!running.folder.path().join("key").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_support_bundle_shows_the_state_and_no_secret() {
    let running = Running::start().await;
    running.app.set_web_address(Some(
        "http://127.0.0.1:1/#token=00112233445566778899".to_owned(),
    ));
    let state = running
        .until("the node runs", |state| state.node.is_some())
        .await;
    let logs = DataDir::new(running.folder.path().join("node")).logs();
    std::fs::create_dir_all(&logs).unwrap();
    let node = state.node.unwrap().node;
    std::fs::write(logs.join("node.log"), format!("node {node} from 10.1.2.3")).unwrap();
    let bundle = running
        .call("support_bundle", Value::Null)
        .await
        .to_string();
    assert!(bundle.contains("state.json") && bundle.contains("node.log"));
    assert!(bundle.contains("node [hidden] from [address]"), "{bundle}");
    assert!(!bundle.contains(&node.to_string()));
    assert!(!bundle.contains("token=0011"));
    running.app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metered_connection_is_spared_unless_the_person_wants_it() {
    let (around, seen) = watch::channel(Surroundings::default());
    let folder = tempfile::tempdir().unwrap();
    let observers = Observers {
        seen,
        ..Observers::none()
    };
    let app = start_seeing(&folder, None, observers).await.unwrap();
    // Nothing is known of the network yet: who asks waits a moment.
    let asked = tokio::spawn({
        let app = app.clone();
        async move { app.is_metered().await }
    });
    around.send_modify(|seen| seen.network = Some(Line::Metered));
    assert!(asked.await.unwrap());
    let running = Running { app, folder };
    let waits = |state: &AppState| {
        let states = state.downloads.iter().map(|download| &download.state);
        states.clone().count() == 1
            && states
                .clone()
                .all(|state| matches!(state, DownloadState::Metered { .. }))
    };
    // Nobody listens there: what goes on says so.
    let url = "http://127.0.0.1:1/a.gguf";
    let request = json!({ "from": "url", "url": url });
    running.call("download", request).await;
    let state = running.until("the download waits", waits).await;
    let id = state.downloads[0].id.clone();
    let rule = |on: bool| json!({ "rules.metered_downloads": on });
    running.call("change_settings", rule(false)).await;
    running
        .until("the rule is off", |state| !waits(state))
        .await;
    running.call("change_settings", rule(true)).await;
    running.until("the rule is on again", waits).await;
    around.send_modify(|seen| seen.network = Some(Line::Unmetered));
    running
        .until("the line is free", |state| !waits(state))
        .await;
    assert!(!running.app.is_metered().await);
    around.send_modify(|seen| seen.network = Some(Line::Metered));
    running.until("the line costs again", waits).await;
    running.call("download_anyway", json!({ "id": id })).await;
    running
        .until("it goes on anyway", |state| !waits(state))
        .await;
    let other = json!({ "id": "another" });
    assert_eq!(running.refused("download_anyway", other).await, "library");
    running.app.shut_down().await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_told_without_this_program() {
    let running = Running::start().await;
    let programs = running.call("running_programs", Value::Null).await;
    let programs = programs.as_array().unwrap();
    let own = std::env::current_exe().unwrap();
    let own = own.file_name().unwrap().to_str().unwrap();
    assert!(programs.iter().all(|program| program["name"] != own));
    running.app.shut_down().await;
}

/// A setting begins the node anew: what is asked meanwhile is asked of the next one.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_while_the_node_begins_anew_is_answered() {
    let running = Running::start().await;
    for jobs in 2..12 {
        running
            .call("change_settings", json!({ "jobs_at_once": jobs }))
            .await;
        running.call("check", Value::Null).await;
    }
}
