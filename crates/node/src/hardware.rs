//! What this machine has. What cannot be found out stays unknown.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use infera_engine::message::{Command, Event};
use infera_protocol::requirements::{Gpu, GpuKind, Hardware};

use crate::engine_link::{EngineError, EngineLink};
use crate::gpu::system_gpus;

/// Looks at the machine.
pub trait HardwareProbe: Send + Sync + 'static {
    /// Everything but the network's speed, which the balancer's link measures.
    fn probe(&self) -> BoxFuture<'static, Hardware>;

    /// On the disk with the data folder.
    fn free_disk(&self) -> BoxFuture<'static, Option<u64>>;
}

/// The real [`HardwareProbe`]: the operating system's figures, and the engine's adapters.
pub struct SystemProbe {
    engine: Arc<dyn EngineLink>,
    data: PathBuf,
}

/// A driver that hangs must not keep the node from saying so.
const ADAPTERS_LIMIT: Duration = Duration::from_secs(20);

impl SystemProbe {
    pub fn new(engine: Arc<dyn EngineLink>, data: PathBuf) -> Self {
        Self { engine, data }
    }
}

impl HardwareProbe for SystemProbe {
    fn probe(&self) -> BoxFuture<'static, Hardware> {
        let (engine, data) = (Arc::clone(&self.engine), self.data.clone());
        Box::pin(async move {
            let (adapters, system) = tokio::join!(
                adapters(&*engine),
                tokio::task::spawn_blocking(move || read_system(&data))
            );
            let adapters = adapters.unwrap_or_else(|error| {
                tracing::warn!(%error, "the GPUs are unknown");
                Vec::new()
            });
            let (mut hardware, cards) = system.unwrap_or_else(|error| {
                tracing::warn!(%error, "the machine's figures are unknown");
                (Hardware::default(), Vec::new())
            });
            hardware.gpus = join(adapters, &cards);
            hardware
        })
    }

    fn free_disk(&self) -> BoxFuture<'static, Option<u64>> {
        let data = self.data.clone();
        Box::pin(async move {
            tokio::task::spawn_blocking(move || free_disk(&data))
                .await
                .unwrap_or(None)
        })
    }
}

/// Asks a fresh engine, which opens no device for it, and ends it.
async fn adapters(link: &dyn EngineLink) -> Result<Vec<Gpu>, EngineError> {
    let mut engine = link.start().await?;
    engine
        .commands
        .send(Command::Adapters)
        .map_err(|_| EngineError::Ended)?;
    let answer = async {
        while let Some(event) = engine.events.recv().await {
            if let Event::Adapters { adapters } = event {
                return Ok(adapters);
            }
        }
        Err(EngineError::Ended)
    };
    tokio::time::timeout(ADAPTERS_LIMIT, answer)
        .await
        .map_err(|_| EngineError::Silent)?
}

/// A graphics card as the operating system has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Card {
    pci_id: String,
    vram_bytes: Option<u64>,
}

fn read_system(data: &Path) -> (Hardware, Vec<Card>) {
    use sysinfo::{CpuRefreshKind, RefreshKind, System};
    let refresh = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing());
    let mut hardware = Hardware {
        os: System::long_os_version().unwrap_or_else(|_| std::env::consts::OS.to_owned()),
        free_disk_bytes: free_disk(data),
        cpu: "unknown".to_owned(),
        ram_bytes: infera_engine::memory_budget::ram_bytes(),
        ..Hardware::default()
    };
    if let Ok(system) = System::new_with_specifics(refresh) {
        let cpus = system.cpus();
        if let Some(cpu) = cpus.first().filter(|cpu| !cpu.brand().is_empty()) {
            cpu.brand().trim().clone_into(&mut hardware.cpu);
        }
        hardware.cpu_cores = (!cpus.is_empty()).then_some(cpus.len() as u32);
    }
    let cards = system_gpus().map_or_else(Vec::new, |gpus| {
        gpus.iter()
            .map(|gpu| Card {
                pci_id: gpu.pci().to_string(),
                vram_bytes: gpu.total_memory().filter(|bytes| *bytes > 0),
            })
            .collect()
    });
    (hardware, cards)
}

/// On the disk of the folder, or of the first above it that exists: a new node's does not yet.
fn free_disk(folder: &Path) -> Option<u64> {
    folder
        .ancestors()
        .find_map(|folder| fs4::available_space(folder).ok())
}

/// One card may be several adapters, one for each graphics API: the one that knows most stays.
/// The operating system's figure for VRAM goes before the adapter's.
fn join(adapters: Vec<Gpu>, cards: &[Card]) -> Vec<Gpu> {
    let mut gpus: Vec<Gpu> = Vec::new();
    for mut adapter in adapters {
        let has_own_memory = !matches!(
            adapter.kind,
            GpuKind::Integrated | GpuKind::AppleSilicon | GpuKind::Software
        );
        let card = adapter.pci_id.as_deref().and_then(|id| {
            cards
                .iter()
                .find(|card| card.pci_id.eq_ignore_ascii_case(id))
        });
        if has_own_memory && let Some(bytes) = card.and_then(|card| card.vram_bytes) {
            adapter.vram_bytes = Some(bytes);
        }
        let same = gpus
            .iter_mut()
            .find(|gpu| match (&gpu.pci_id, &adapter.pci_id) {
                (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
                // Two equal cards have two places; without places they cannot be told apart.
                _ => gpu.name == adapter.name && gpu.api != adapter.api,
            });
        match same {
            Some(gpu) => {
                if gpu.vram_bytes.is_none() {
                    gpu.vram_bytes = adapter.vram_bytes;
                }
                if gpu.pci_id.is_none() {
                    gpu.pci_id = adapter.pci_id;
                }
            }
            None => gpus.push(adapter),
        }
    }
    gpus
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(name: &str, api: &str, kind: GpuKind, pci_id: Option<&str>) -> Gpu {
        Gpu {
            name: name.to_owned(),
            kind,
            api: api.to_owned(),
            driver: String::new(),
            pci_id: pci_id.map(str::to_owned),
            vram_bytes: None,
        }
    }

    fn card(pci_id: &str, vram_bytes: Option<u64>) -> Card {
        Card {
            pci_id: pci_id.to_owned(),
            vram_bytes,
        }
    }

    #[test]
    fn vram_comes_by_pci_id_and_unknown_stays_unknown() {
        let adapters = vec![
            gpu("A", "Vulkan", GpuKind::Discrete, Some("0000:01:00.0")),
            gpu("A", "Vulkan", GpuKind::Discrete, Some("0000:0A:00.0")),
            gpu("I", "Vulkan", GpuKind::Integrated, Some("0000:00:02.0")),
            gpu("B", "Vulkan", GpuKind::Discrete, None),
        ];
        let cards = vec![
            card("0000:0a:00.0", Some(8)),
            card("0000:01:00.0", Some(24)),
            card("0000:00:02.0", Some(1)),
        ];
        let vram: Vec<_> = join(adapters, &cards)
            .iter()
            .map(|gpu| gpu.vram_bytes)
            .collect();
        assert_eq!(vram, [Some(24), Some(8), None, None]);
    }

    #[test]
    fn one_card_seen_through_two_apis_is_one_gpu() {
        let adapters = vec![
            gpu("A", "Vulkan", GpuKind::Discrete, Some("0000:01:00.0")),
            gpu("A", "GL", GpuKind::Other, None),
            gpu("llvmpipe", "Vulkan", GpuKind::Software, None),
        ];
        let names: Vec<_> = join(adapters, &[])
            .into_iter()
            .map(|gpu| (gpu.name, gpu.api))
            .collect();
        assert_eq!(names.len(), 2);
        assert_eq!(names[0].1, "Vulkan");
    }

    #[test]
    fn this_machine_has_memory_and_a_disk() {
        let folder = tempfile::tempdir().unwrap();
        let (hardware, _) = read_system(folder.path());
        assert!(hardware.ram_bytes.is_some_and(|bytes| bytes > 1 << 20));
        assert!(hardware.cpu_cores.is_some_and(|cores| cores > 0));
        assert!(!hardware.os.is_empty());
        let new = folder.path().join("not/there/yet");
        for folder in [folder.path(), &new, &folder.path().canonicalize().unwrap()] {
            assert!(free_disk(folder).is_some_and(|bytes| bytes > 1 << 20));
        }
    }
}
