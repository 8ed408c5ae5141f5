//! What a node is started with.

use std::path::PathBuf;
use std::sync::Arc;

use infera_engine::message::DeviceChoice;
use infera_surroundings::Surroundings;
use tokio::sync::{mpsc, watch};

use crate::account::Belonging;
use crate::balancer_link::BalancerLink;
use crate::clock::{Clock, Entropy};
use crate::engine_link::EngineLink;
use crate::governor::rules::Rules;
use crate::governor::{GovernorPolicy, Hold};
use crate::gpu::GpuSeen;
use crate::hardware::HardwareProbe;

/// What a node is to do.
#[derive(Debug, Clone, Default)]
pub struct NodeConfig {
    pub models: Vec<ModelConfig>,
    /// What computes, each beside the others. At least one.
    pub devices: Vec<DeviceChoice>,
    pub governor: GovernorPolicy,
    /// Why the node may not even look for work.
    pub hold: Option<Hold>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelConfig {
    pub path: PathBuf,
    /// Device memory that it takes; none where the file does not tell.
    pub needed_bytes: Option<u64>,
    /// Limits the context below the model's own.
    pub context_tokens: Option<u32>,
    /// How many jobs may run at once.
    pub sequences: u32,
    /// GPU memory that is left to other programs.
    pub reserve_bytes: u64,
    /// Where what tuning finds is kept.
    pub tunings: Option<PathBuf>,
}

/// Everything outside that a node deals with.
#[derive(Clone)]
pub struct Edges {
    /// None: no network is chosen, and nobody is asked anything.
    pub balancer: Option<Arc<dyn BalancerLink>>,
    pub engine: Arc<dyn EngineLink>,
    pub hardware: Arc<dyn HardwareProbe>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub around: Around,
}

/// What is seen around the program, and what the owner wants respected of it. Both may change at any
/// time.
#[derive(Debug, Clone)]
pub struct Around {
    pub seen: watch::Receiver<Surroundings>,
    pub rules: watch::Receiver<Rules>,
    /// The same of each GPU, while it is looked at.
    pub gpus: watch::Receiver<Vec<GpuSeen>>,
    /// Who may tell the node what to do from afar.
    pub belonging: watch::Receiver<Belonging>,
    /// Told when all is done that was to be done before the machine sleeps.
    pub ready_to_sleep: mpsc::UnboundedSender<()>,
}

impl Edges {
    /// The network's address; empty when none is chosen.
    pub(crate) fn balancer_url(&self) -> &str {
        self.balancer.as_ref().map_or("", |link| link.url())
    }
}
