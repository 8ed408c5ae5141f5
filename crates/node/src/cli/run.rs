//! `infera run` and `infera id`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use infera_node::clock::{SystemClock, SystemEntropy};
use infera_node::control::ControlServer;
use infera_node::data_dir::{DataDir, LockedDataDir};
use infera_node::engine_link::ChildEngine;
use infera_node::hardware::SystemProbe;
use infera_node::http_link::HttpLink;
use infera_node::identity::{self, SystemKeychain};
use infera_node::state::{Connection, EngineStatus, NodeSnapshot};
use infera_node::store::Store;
use infera_node::{Edges, ModelConfig, Node, NodeConfig};
use infera_protocol::NodeKey;
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
    let models = arguments
        .models
        .iter()
        .map(|path| model(path, &arguments))
        .collect::<Result<Vec<_>, _>>()?;
    let roots = arguments.ca_file.as_deref().map(read_roots).transpose()?;
    let link = HttpLink::new(&arguments.balancer, roots.as_deref())
        .map_err(|error| not_started(&error))?;
    let data = arguments
        .data
        .folder()?
        .lock()
        .map_err(|error| not_started(&error))?;
    let key = identity(data.folder(), &arguments.key).await?;
    print(&format!("Node {}", key.id()))?;
    let store = Store::open(&data.folder().database())
        .await
        .map_err(|error| not_started(&error))?;
    let engine = Arc::new(ChildEngine::current().map_err(|error| not_started(&error))?);
    let edges = Edges {
        balancer: Arc::new(link),
        hardware: Arc::new(SystemProbe::new(
            engine.clone(),
            data.folder().path().to_owned(),
        )),
        engine,
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
    };
    let config = NodeConfig {
        models,
        ..NodeConfig::default()
    };
    let node = Node::start(config, key, store.clone(), edges)
        .await
        .map_err(|error| not_started(&error))?;
    let result = serve(&node, &data, &arguments).await;
    node.shut_down().await;
    store.close().await;
    result
}

/// Serves until it is told to end, or has no reason to go on.
async fn serve(node: &Node, data: &LockedDataDir, arguments: &Run) -> Result<ExitCode, Fault> {
    let control = ControlServer::start(node.clone(), arguments.control, &SystemEntropy)
        .await
        .map_err(|error| not_started(&error))?;
    data.publish_control(control.control())
        .map_err(|error| not_started(&error))?;
    print(&format!("Control on {}", control.control().url))?;
    let result = tokio::select! {
        () = told_to_end() => Ok(ExitCode::SUCCESS),
        fault = hopeless(node.snapshots()) => Err(fault),
    };
    tracing::info!("the node ends");
    control.stop().await;
    result
}

/// Waits for Ctrl-C, or the signal that services are ended with.
async fn told_to_end() {
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut terminate) = signal(SignalKind::terminate()) else {
            return interrupt.await;
        };
        tokio::select! {
            () = interrupt => {}
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    interrupt.await;
}

/// Waits until a headless node can do nothing by itself any more.
async fn hopeless(mut snapshots: watch::Receiver<NodeSnapshot>) -> Fault {
    let mut was_ready = false;
    loop {
        {
            let snapshot = snapshots.borrow_and_update();
            if let Connection::Refused { message } = &snapshot.connection {
                return Fault::with_advice(
                    message,
                    "this node cannot take part in that network",
                    "install the version that the balancer asks for",
                )
                .code(5);
            }
            was_ready |= snapshot
                .models
                .iter()
                .any(|model| model.engine == EngineStatus::Ready);
            let faults: Vec<_> = snapshot
                .models
                .iter()
                .filter_map(|model| match &model.engine {
                    EngineStatus::Broken { message } => Some(message.as_str()),
                    _ => None,
                })
                .collect();
            // A model that was loaded before may be whole again after a driver's update.
            if !was_ready && !faults.is_empty() && faults.len() == snapshot.models.len() {
                return Fault::with_advice(
                    &faults.join("; "),
                    "no model could be loaded, so the node can take no jobs",
                    "choose another file with `--model`, or another device with `--device`",
                )
                .code(6);
            }
        }
        if snapshots.changed().await.is_err() {
            return Fault::with_advice(
                "the node ended by itself",
                "it takes no jobs any more",
                "start it again, and report this with the log",
            );
        }
    }
}

async fn identity(folder: &DataDir, key: &Key) -> Result<NodeKey, Fault> {
    let result = match &key.key_file {
        Some(file) => identity::from_file(file, &SystemEntropy),
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

fn model(path: &Path, arguments: &Run) -> Result<ModelConfig, Fault> {
    let missing = |error: std::io::Error| {
        Fault::with_advice(
            &format!("the model file {} cannot be read: {error}", path.display()),
            NOT_STARTED,
            "name a GGUF file with `--model FILE`",
        )
    };
    let absolute: PathBuf = path.canonicalize().map_err(missing)?;
    std::fs::File::open(&absolute).map_err(missing)?;
    Ok(ModelConfig {
        path: absolute,
        device: arguments.device.clone(),
        context_tokens: arguments.context,
        sequences: arguments.sequences,
    })
}

fn read_roots(path: &Path) -> Result<Vec<u8>, Fault> {
    std::fs::read(path).map_err(|error| {
        Fault::with_advice(
            &format!(
                "the certificates in {} cannot be read: {error}",
                path.display()
            ),
            NOT_STARTED,
            "name a PEM file with `--ca-file FILE`",
        )
    })
}

fn not_started(error: &dyn std::error::Error) -> Fault {
    Fault::new(&error.to_string(), NOT_STARTED)
}
