//! `infera run` and `infera id`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use infera_engine::message::DeviceChoice;
use infera_model::gguf::open_regular;
use infera_node::app::api::AppState;
use infera_node::app::settings::{DeviceSetting, Preferences};
use infera_node::app::{App, AppConfig, KeySource, Overrides};
use infera_node::clock::{SystemClock, SystemEntropy};
use infera_node::control::ControlServer;
use infera_node::data_dir::DataDir;
use infera_node::engine_link::ChildEngine;
use infera_node::http_link::{HttpLink, Trust};
use infera_node::identity::{self, SystemKeychain};
use infera_node::state::{Connection, EngineStatus, Summary};
use infera_protocol::NodeKey;
use infera_surroundings::{Observers, Wanted};
use infera_terminal::end_asked;
use tokio::sync::watch;

use super::terminal::{Fault, print};
use super::{Data, Key, Run};

const NOT_STARTED: &str = "the node was not started";

pub(super) async fn print_id(data: &Data, key: &Key) -> Result<ExitCode, Fault> {
    let folder = data.folder()?;
    folder.create().map_err(|error| not_started(&error))?;
    let key = identity(&folder, key).await?;
    print(&key.id().to_string())
}

pub(super) async fn run(arguments: Run) -> Result<ExitCode, Fault> {
    if let Some(balancer) = &arguments.balancer {
        HttpLink::new(balancer, Trust::default()).map_err(|error| not_started(&error))?;
    }
    let models = arguments
        .models
        .iter()
        .map(|path| readable(path))
        .collect::<Result<Vec<_>, _>>()?;
    let folder = arguments.data.folder()?;
    let stored = Preferences::read(&folder.settings()).map_err(|error| not_started(&error))?;
    if !arguments.web {
        check_enough(&arguments, &stored)?;
    }
    let data = folder.lock().map_err(|error| not_started(&error))?;
    let config = AppConfig {
        data,
        key: match arguments.key.key_file {
            Some(path) => KeySource::File(path),
            None => KeySource::Keychain(Arc::new(SystemKeychain)),
        },
        ca_file: arguments.ca_file,
        context_tokens: arguments.context,
        models_folder: None,
        desktop: false,
        overrides: Overrides {
            // Without a window, to run it is to agree.
            agreed: (!arguments.web || arguments.agree).then_some(true),
            balancer: arguments.balancer,
            models: (!models.is_empty()).then_some(models),
            devices: (!arguments.devices.is_empty()).then(|| {
                arguments
                    .devices
                    .into_iter()
                    .filter_map(device_setting)
                    .collect()
            }),
            jobs_at_once: arguments.sequences,
            web_control: None,
        },
        engine: ChildEngine::current().map_err(|error| not_started(&error))?,
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        observers: Observers::start(Wanted::default()),
        gpu_readers: None,
    };
    let app = App::start(config)
        .await
        .map_err(|error| not_started(&error))?;
    let result = serve(&app, arguments.control, arguments.web).await;
    app.shut_down().await;
    result
}

/// Without a window there is nobody to choose a network or a model later.
fn check_enough(arguments: &Run, stored: &Preferences) -> Result<(), Fault> {
    let fault = |what, advice| Err(Fault::with_advice(what, NOT_STARTED, advice).code(2));
    if arguments.balancer.is_none() && stored.settings.balancer.is_none() {
        return fault(
            "no network is chosen",
            "join one with `infera join LINK`, name its balancer with `--balancer URL`, or choose one in the browser with `--web`",
        );
    }
    if arguments.models.is_empty() && stored.settings.models.is_empty() {
        return fault(
            "no model is chosen",
            "name a GGUF file with `--model FILE`, or choose one in the browser with `--web`",
        );
    }
    Ok(())
}

/// Serves until it is told to end, or has no reason to go on.
async fn serve(app: &App, address: std::net::SocketAddr, web: bool) -> Result<ExitCode, Fault> {
    let end_asked = end_asked();
    // Whoever asks from the first moment on gets an answer.
    app.started().await;
    let first = app.states().borrow().clone();
    match (&first.node, cannot_start(&first)) {
        // In a browser the person sees what is wrong and mends it.
        (_, Some(fault)) if !web => return Err(fault),
        (Some(node), _) => _ = print(&format!("Node {}", node.node))?,
        (None, _) => {}
    }
    let control = ControlServer::start(app.clone(), address, &SystemEntropy)
        .await
        .map_err(|error| not_started(&error))?;
    app.data()
        .publish_control(control.control())
        .map_err(|error| not_started(&error))?;
    print(&format!("Control on {}", control.control().url))?;
    if web {
        let address = control.web_address();
        print(&format!("Open {address} in a browser on this machine"))?;
        app.set_web_address(Some(address));
    }
    let states = app.states();
    let result = tokio::select! {
        () = end_asked => Ok(ExitCode::SUCCESS),
        fault = hopeless(states), if !web => Err(fault),
        () = app.ended() => Ok(ExitCode::SUCCESS),
    };
    tracing::info!("the node ends");
    control.stop().await;
    result
}

/// Waits until a headless node can do nothing by itself any more.
async fn hopeless(mut states: watch::Receiver<AppState>) -> Fault {
    let mut was_ready = false;
    loop {
        {
            let state = states.borrow_and_update();
            if let Some(fault) = cannot_start(&state) {
                return fault;
            }
            let connection = state.node.as_ref().map(|node| &node.connection);
            if let Some(Connection::Refused { message }) = connection {
                return Fault::with_advice(
                    message,
                    "this node cannot take part in that network",
                    "install the version that the balancer asks for",
                )
                .code(5);
            }
            let models = state.node.as_ref().map_or(&[][..], |node| &node.models);
            was_ready |= models
                .iter()
                .any(|model| model.engine == EngineStatus::Ready);
            let faults: Vec<_> = models
                .iter()
                .filter_map(|model| match &model.engine {
                    EngineStatus::Broken { fault } => Some(fault.message.as_str()),
                    _ => None,
                })
                .collect();
            // A model that was loaded before may be whole again after a driver's update.
            if !was_ready && !faults.is_empty() && faults.len() == models.len() {
                return Fault::with_advice(
                    &faults.join("; "),
                    "no model could be loaded, so the node can take no jobs",
                    "choose another file with `--model`, or another device with `--device`",
                )
                .code(6);
            }
        }
        if states.changed().await.is_err() {
            return Fault::with_advice(
                "the node ended by itself",
                "it takes no jobs any more",
                "start it again, and report this with the log",
            );
        }
    }
}

fn cannot_start(state: &AppState) -> Option<Fault> {
    let Summary::CannotStart { fault } = &state.state.summary else {
        return None;
    };
    let what = fault.to_string();
    Some(match fault.remedy() {
        Some(remedy) => Fault::with_advice(&what, NOT_STARTED, remedy),
        None => Fault::new(&what, NOT_STARTED),
    })
}

pub(super) async fn identity(folder: &DataDir, key: &Key) -> Result<NodeKey, Fault> {
    let result = match &key.key_file {
        Some(file) => identity::from_file(file, &SystemEntropy),
        None if folder.key_file().exists() => {
            identity::from_file(&folder.key_file(), &SystemEntropy)
        }
        None => {
            identity::from_keychain(
                Arc::new(SystemKeychain),
                folder.keychain_account(),
                Arc::new(SystemEntropy),
            )
            .await
        }
    };
    result.map_err(|error| Fault::new(&error.to_string(), "the node has no identity to work under"))
}

/// The file's full path, if it can be read.
#[expect(
    clippy::unnecessary_debug_formatting,
    reason = "what is not Unicode shows only so"
)]
fn readable(path: &Path) -> Result<PathBuf, Fault> {
    let missing = |error: std::io::Error| {
        Fault::with_advice(
            &format!("the model file {} cannot be read: {error}", path.display()),
            NOT_STARTED,
            "name a GGUF file with `--model FILE`",
        )
    };
    let absolute = path.canonicalize().map_err(missing)?;
    open_regular(&absolute).map_err(missing)?;
    if absolute.to_str().is_none() {
        // Neither the settings nor the engine's messages can hold it.
        return Err(Fault::with_advice(
            &format!("the path of the model file {absolute:?} is not Unicode"),
            NOT_STARTED,
            "rename the file or its folder",
        ));
    }
    Ok(absolute)
}

/// None for the best there is.
fn device_setting(choice: DeviceChoice) -> Option<DeviceSetting> {
    match choice {
        DeviceChoice::Auto | DeviceChoice::AutoExcept(_) => None,
        DeviceChoice::Adapter(id) => Some(DeviceSetting::Adapter { id }),
        DeviceChoice::Cpu => Some(DeviceSetting::Cpu),
        DeviceChoice::Named(name) => Some(DeviceSetting::Named { name }),
    }
}

fn not_started(error: &dyn std::error::Error) -> Fault {
    Fault::new(&error.to_string(), NOT_STARTED)
}
