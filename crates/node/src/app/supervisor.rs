//! Keeps a node running as the settings want it: a change of what it rests on ends it and starts
//! another.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use infera_engine::message::DeviceChoice;
use infera_protocol::NodeKey;
use tokio::sync::{Notify, mpsc, watch};

use super::settings::Preferences;
use crate::balancer_link::BalancerLink;
use crate::clock::{Clock, Entropy};
use crate::data_dir::DataDir;
use crate::engine_link::EngineLink;
use crate::governor::{GovernorPolicy, Hold};
use crate::hardware::HardwareProbe;
use crate::http_link::{HttpLink, Trust};
use crate::identity::{self, IdentityError, KeySource, KeychainFault};
use crate::library::InstalledFile;
use crate::networks::NetworkSetting;
use crate::node::{Around, Edges, ModelConfig, Node, NodeConfig};
use crate::state::StartFault;
use crate::store::Store;

/// The node now.
#[derive(Clone, Default)]
pub(super) enum Running {
    #[default]
    Starting,
    Node {
        node: Node,
        /// Unix time in milliseconds. What it earned before was under other conditions.
        since_ms: i64,
    },
    /// It is tried again by itself, or when the person asks.
    Failed { fault: StartFault },
}

/// What does not change while the program runs.
pub(super) struct Supervisor {
    pub(super) data: DataDir,
    pub(super) key: KeySource,
    /// PEM certificates to trust beside the system's.
    pub(super) roots: Option<Vec<u8>>,
    /// Limits the context of all models below their own.
    pub(super) context_tokens: Option<u32>,
    pub(super) engine: Arc<dyn EngineLink>,
    pub(super) hardware: Arc<dyn HardwareProbe>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) around: Around,
}

/// What a node is started with; a change of it takes a new one.
#[derive(Debug, Clone, PartialEq)]
struct Wish {
    hold: Option<Hold>,
    /// As it was joined: one that was joined again is begun anew.
    network: Option<NetworkSetting>,
    devices: Vec<DeviceChoice>,
    models: Vec<PathBuf>,
    jobs_at_once: u32,
    reserve_bytes: u64,
}

const TRY_AGAIN: Duration = Duration::from_secs(30);
const LAST_PAGE: Duration = Duration::from_secs(1);

impl Supervisor {
    /// Runs until `ending` becomes true, then ends the node.
    pub(super) async fn run(
        self,
        mut preferences: watch::Receiver<Preferences>,
        running: watch::Sender<Running>,
        stores: watch::Sender<Option<Store>>,
        try_again: Arc<Notify>,
        mut ending: watch::Receiver<bool>,
        mut writers: mpsc::Receiver<()>,
    ) {
        let mut key = None;
        loop {
            let wish = Wish::new(&preferences.borrow_and_update());
            let changed = async {
                while preferences.changed().await.is_ok() {
                    if Wish::new(&preferences.borrow_and_update()) != wish {
                        return;
                    }
                }
                std::future::pending::<()>().await;
            };
            let ended = ending.wait_for(|ending| *ending);
            match self.start(&wish, &mut key, &stores).await {
                Ok(node) => {
                    running.send_replace(Running::Node {
                        node: node.clone(),
                        since_ms: self.clock.now_ms(),
                    });
                    let ends = tokio::select! {
                        () = changed => false,
                        _ = ended => true,
                    };
                    node.shut_down().await;
                    if ends {
                        break;
                    }
                }
                Err(fault) => {
                    tracing::error!(%fault, "the node cannot be started");
                    running.send_replace(Running::Failed { fault });
                    tokio::select! {
                        () = changed => {}
                        () = try_again.notified() => {}
                        () = tokio::time::sleep(TRY_AGAIN) => {}
                        _ = ended => break,
                    }
                }
            }
        }
        let store = stores.borrow().clone();
        if let Some(store) = store {
            // Who keeps books writes its last page first; a disk that hangs keeps nobody.
            let _ = tokio::time::timeout(LAST_PAGE, writers.recv()).await;
            store.close().await;
        }
    }

    async fn start(
        &self,
        wish: &Wish,
        key: &mut Option<[u8; 32]>,
        stores: &watch::Sender<Option<Store>>,
    ) -> Result<Node, StartFault> {
        let open = stores.borrow().clone();
        let store = if let Some(store) = open {
            store
        } else {
            let store = Store::open(&self.data.database())
                .await
                .map_err(|error| other(&error))?;
            if let Some(network) = &wish.network
                && network.joined_ms == 0
            {
                let adopted = store.adopt_work(&network.address).await;
                adopted.map_err(|error| other(&error))?;
            }
            stores.send_replace(Some(store.clone()));
            store
        };
        let secret = if let Some(secret) = key {
            *secret
        } else {
            let read = self::key(&self.key, &self.data, &self.entropy).await?;
            *key.insert(read.secret())
        };
        let balancer = match &wish.network {
            None => None,
            Some(network) => {
                let trust = Trust {
                    roots: self.roots.as_deref(),
                    fingerprint: network.fingerprint,
                };
                let link = HttpLink::new(&network.address, trust);
                let link = link.map_err(|error| other(&error))?;
                Some(Arc::new(link) as Arc<dyn BalancerLink>)
            }
        };
        let config = NodeConfig {
            devices: wish.devices.clone(),
            models: with_needs(wish.models.clone())
                .await
                .into_iter()
                .map(|(path, needed_bytes)| ModelConfig {
                    path,
                    needed_bytes,
                    context_tokens: self.context_tokens,
                    sequences: wish.jobs_at_once,
                    reserve_bytes: wish.reserve_bytes,
                    tunings: Some(self.data.tunings()),
                })
                .collect(),
            governor: GovernorPolicy::default(),
            hold: wish.hold,
        };
        let edges = Edges {
            balancer,
            engine: Arc::clone(&self.engine),
            hardware: Arc::clone(&self.hardware),
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
            around: self.around.clone(),
        };
        Node::start(config, NodeKey::from_secret(&secret), store, edges)
            .await
            .map_err(|error| other(&error))
    }
}

/// The node's key; it is made where there is none.
pub(super) async fn key(
    source: &KeySource,
    data: &DataDir,
    entropy: &Arc<dyn Entropy>,
) -> Result<NodeKey, StartFault> {
    let key = match source {
        KeySource::File(path) => identity::from_file(path, &**entropy),
        KeySource::Keychain(_) if data.key_file().exists() => {
            identity::from_file(&data.key_file(), &**entropy)
        }
        KeySource::Keychain(keychain) => {
            identity::from_keychain(
                Arc::clone(keychain),
                data.keychain_account(),
                Arc::clone(entropy),
            )
            .await
        }
    };
    key.map_err(|error| match error {
        IdentityError::Keychain(KeychainFault::Locked) => StartFault::KeychainLocked,
        IdentityError::Keychain(KeychainFault::Missing) => StartFault::KeychainMissing,
        IdentityError::KeychainSilent => StartFault::KeychainSilent,
        error => other(&error),
    })
}

/// Each model's file with the device memory it takes, as far as the file tells.
async fn with_needs(models: Vec<PathBuf>) -> Vec<(PathBuf, Option<u64>)> {
    let unknown = models.iter().map(|path| (path.clone(), None)).collect();
    let read = move || {
        let need = |path: PathBuf| {
            let needed = InstalledFile::at(&path).needed_bytes;
            (path, needed)
        };
        models.into_iter().map(need).collect()
    };
    tokio::task::spawn_blocking(read).await.unwrap_or(unknown)
}

fn other(error: &dyn std::error::Error) -> StartFault {
    StartFault::Other {
        message: error.to_string(),
    }
}

impl Wish {
    fn new(preferences: &Preferences) -> Self {
        let settings = &preferences.settings;
        let network = settings.active_network().cloned();
        let hold = if !preferences.setup.agreed {
            Some(Hold::NotAgreed)
        } else if network.is_none() {
            Some(Hold::NoBalancer)
        } else {
            None
        };
        Self {
            hold,
            network,
            devices: settings.device_choices(),
            models: settings.models.iter().map(PathBuf::from).collect(),
            jobs_at_once: settings.jobs_at_once,
            reserve_bytes: settings.vram_reserve_bytes,
        }
    }
}
