//! The hardware gate as data: what a network asks for, what a machine has, and one row for each.

use std::fmt;

use serde::{Deserialize, Serialize};
use ts_rs::TS;

const GIB: u64 = 1 << 30;
const MB: u64 = 1_000_000;

/// What a network asks of a node. A field that is absent asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// `public`, `practice`, or a name by the operator.
    pub name: String,
    /// RAM; a machine with up to a sixteenth less passes, since firmware keeps some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ram_bytes: Option<u64>,
    /// Free space on the disk of the data folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_disk_bytes: Option<u64>,
    /// Download rate, as the balancer measures it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_bytes_per_second: Option<u64>,
    /// A GPU; none where the CPU may do the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuNeed>,
}

/// Which GPU is enough. Any Apple M-series GPU may be, or a GPU with memory of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct GpuNeed {
    /// Memory that only the GPU has; a card with up to a twelfth less passes, since drivers keep
    /// some.
    pub own_vram_bytes: u64,
    /// Whether a GPU of the M series passes, which shares the machine's memory.
    pub apple_silicon_is_enough: bool,
}

impl Policy {
    /// The public network's gate.
    pub fn public() -> Self {
        Self {
            name: "public".to_owned(),
            ram_bytes: Some(16 * GIB),
            free_disk_bytes: Some(3_000_000_000),
            network_bytes_per_second: Some(10 * MB),
            gpu: Some(GpuNeed {
                own_vram_bytes: 8 * GIB,
                apple_silicon_is_enough: true,
            }),
        }
    }

    /// For trying the network on any machine: it asks for no GPU, and what is earned is practice.
    pub fn practice() -> Self {
        Self {
            name: "practice".to_owned(),
            ram_bytes: Some(2 * GIB),
            free_disk_bytes: Some(500_000_000),
            network_bytes_per_second: None,
            gpu: None,
        }
    }
}

/// What a node found on its machine. `None` is unknown, never zero.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
pub struct Hardware {
    /// Name and version of the system, for people.
    pub os: String,
    /// The processor's name; `unknown` where the system tells none.
    pub cpu: String,
    /// As the system counts them: two threads of one core are two.
    pub cpu_cores: Option<u32>,
    /// All RAM that the system has, used or not.
    pub ram_bytes: Option<u64>,
    /// On the disk that holds the data folder.
    pub free_disk_bytes: Option<u64>,
    /// Download rate measured from the balancer.
    pub network_bytes_per_second: Option<u64>,
    /// Every adapter, software ones included.
    pub gpus: Vec<Gpu>,
}

/// One adapter of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Gpu {
    /// As the driver tells it.
    pub name: String,
    /// What decides whether its memory is its own.
    pub kind: GpuKind,
    /// `Vulkan`, `Metal`, `DX12` or `GL`.
    pub api: String,
    /// Name and version, as the driver tells them.
    pub driver: String,
    /// `0000:01:00.0`, where the driver tells.
    pub pci_id: Option<String>,
    /// Memory of its own. `None` for unknown and for shared memory.
    pub vram_bytes: Option<u64>,
}

/// What a GPU is, as far as its driver says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum GpuKind {
    /// A card with memory of its own.
    Discrete,
    /// Part of a processor; it shares the machine's memory.
    Integrated,
    /// A GPU of Apple's M series.
    AppleSilicon,
    /// A CPU that pretends to be a GPU.
    Software,
    /// The driver does not say, as in many virtual machines.
    Other,
}

/// Which of a policy's fields a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum RequirementId {
    /// [`Policy::ram_bytes`].
    Ram,
    /// [`Policy::free_disk_bytes`].
    FreeDisk,
    /// [`Policy::network_bytes_per_second`].
    Network,
    /// [`Policy::gpu`].
    Gpu,
}

/// What came of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// The machine has what is asked for.
    Pass,
    /// It could not be found out. A node is not refused for it.
    Warn,
    /// It has not, and gets no jobs.
    Fail,
}

/// One row of the hardware gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Requirement {
    /// What the row is about.
    pub id: RequirementId,
    /// What the policy asks for.
    pub need: Amount,
    /// What the machine has.
    pub found: Amount,
    /// What follows from the two.
    pub mark: Mark,
}

/// What a row asks for, or what was found. In English by its `Display`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "amount", rename_all = "snake_case")]
pub enum Amount {
    /// It could not be found out.
    Unknown,
    /// RAM.
    Memory {
        /// In steps of 2^30, as RAM is sold.
        bytes: u64,
    },
    /// Space on a disk.
    Disk {
        /// In steps of 10^9, as disks are sold.
        bytes: u64,
    },
    /// A download rate.
    Rate {
        /// Megabytes are 10^6 bytes.
        bytes_per_second: u64,
    },
    /// A GPU with so much memory of its own.
    Vram {
        /// In steps of 2^30, as GPUs are sold.
        bytes: u64,
        /// Whether any GPU of the M series will do instead.
        or_apple_silicon: bool,
    },
    /// The GPUs that were found: the best one where one passes, else all.
    Gpus {
        /// Empty where there is none.
        gpus: Vec<Gpu>,
    },
}

/// Compares a machine with a policy. Rows that the policy does not ask for are left out.
pub fn check(policy: &Policy, hardware: &Hardware) -> Vec<Requirement> {
    let mut rows = Vec::new();
    if let Some(bytes) = policy.ram_bytes {
        let found = hardware.ram_bytes;
        rows.push(Requirement {
            id: RequirementId::Ram,
            need: Amount::Memory { bytes },
            found: found.map_or(Amount::Unknown, |bytes| Amount::Memory { bytes }),
            // Firmware and integrated graphics keep some: a 16 GB machine reports 15.x.
            mark: at_least(bytes - bytes / 16, found),
        });
    }
    if let Some(bytes) = policy.free_disk_bytes {
        let found = hardware.free_disk_bytes;
        rows.push(Requirement {
            id: RequirementId::FreeDisk,
            need: Amount::Disk { bytes },
            found: found.map_or(Amount::Unknown, |bytes| Amount::Disk { bytes }),
            mark: at_least(bytes, found),
        });
    }
    if let Some(bytes_per_second) = policy.network_bytes_per_second {
        let found = hardware.network_bytes_per_second;
        rows.push(Requirement {
            id: RequirementId::Network,
            need: Amount::Rate { bytes_per_second },
            found: found.map_or(Amount::Unknown, |bytes_per_second| Amount::Rate {
                bytes_per_second,
            }),
            mark: at_least(bytes_per_second, found),
        });
    }
    if let Some(need) = policy.gpu {
        rows.push(gpu_row(need, &hardware.gpus));
    }
    rows
}

/// Whether a node with these rows may get jobs.
pub fn met(rows: &[Requirement]) -> bool {
    rows.iter().all(|row| row.mark != Mark::Fail)
}

fn at_least(threshold: u64, found: Option<u64>) -> Mark {
    match found {
        Some(value) if value >= threshold => Mark::Pass,
        Some(_) => Mark::Fail,
        None => Mark::Warn,
    }
}

fn gpu_row(need: GpuNeed, gpus: &[Gpu]) -> Requirement {
    let enough = |gpu: &Gpu| match gpu.kind {
        GpuKind::AppleSilicon => need.apple_silicon_is_enough.then_some(Mark::Pass),
        GpuKind::Software | GpuKind::Integrated => None,
        GpuKind::Discrete | GpuKind::Other => match gpu.vram_bytes {
            // Drivers keep some: a card sold with 8 GB reports 7.5 and more.
            Some(bytes) if bytes >= need.own_vram_bytes - need.own_vram_bytes / 12 => {
                Some(Mark::Pass)
            }
            None if gpu.kind == GpuKind::Discrete => Some(Mark::Warn),
            Some(_) | None => None,
        },
    };
    let best = gpus
        .iter()
        .filter_map(|gpu| enough(gpu).map(|mark| (mark, gpu)))
        .min_by_key(|(mark, _)| *mark != Mark::Pass);
    let (mark, found) = match best {
        Some((mark, gpu)) => (mark, vec![gpu.clone()]),
        None if only_software(gpus) => (Mark::Fail, gpus.iter().take(1).cloned().collect()),
        None => (Mark::Fail, gpus.to_vec()),
    };
    Requirement {
        id: RequirementId::Gpu,
        need: Amount::Vram {
            bytes: need.own_vram_bytes,
            or_apple_silicon: need.apple_silicon_is_enough,
        },
        found: Amount::Gpus { gpus: found },
        mark,
    }
}

/// Also where there is nothing at all.
fn only_software(gpus: &[Gpu]) -> bool {
    gpus.iter().all(|gpu| gpu.kind == GpuKind::Software)
}

impl Requirement {
    /// The row's name in English.
    pub fn title(&self) -> &'static str {
        match self.id {
            RequirementId::Ram => "Memory (RAM)",
            RequirementId::FreeDisk => "Free disk space",
            RequirementId::Network => "Network speed",
            RequirementId::Gpu => "GPU",
        }
    }

    /// What the person can do, unless the row passes.
    pub fn remedy(&self) -> Option<&'static str> {
        Some(match (self.mark, self.id, &self.found) {
            (Mark::Pass, ..) => return None,
            (Mark::Warn, RequirementId::Gpu, _) => {
                "The driver does not tell the GPU's memory; jobs that do not fit will fail to load"
            }
            (Mark::Warn, ..) => "It could not be measured; jobs are not refused for it",
            (Mark::Fail, RequirementId::Ram, _) => {
                "Add memory, or join a network that asks for less"
            }
            (Mark::Fail, RequirementId::FreeDisk, _) => {
                "Free some space, or move the data folder to another disk"
            }
            (Mark::Fail, RequirementId::Network, _) => {
                "Use a wired connection, or close programs that download"
            }
            (Mark::Fail, RequirementId::Gpu, Amount::Gpus { gpus }) if only_software(gpus) => {
                "Install the GPU's driver if the machine has one; without a GPU this network sends no jobs"
            }
            (Mark::Fail, RequirementId::Gpu, _) => {
                "This GPU is too small for this network; one that asks for less may take it"
            }
        })
    }
}

impl Amount {
    /// Where nothing at all was found.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Gpus { gpus } if gpus.is_empty())
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => formatter.write_str("unknown"),
            Self::Memory { bytes } => formatter.write_str(&memory_size(*bytes)),
            Self::Disk { bytes } => formatter.write_str(&disk_size(*bytes)),
            Self::Rate { bytes_per_second } => {
                write!(
                    formatter,
                    "{:.0} MB/s",
                    *bytes_per_second as f64 / MB as f64
                )
            }
            Self::Vram {
                bytes,
                or_apple_silicon,
            } => {
                write!(formatter, "{} of its own memory", memory_size(*bytes))?;
                if *or_apple_silicon {
                    formatter.write_str(", or any Apple M-series GPU")?;
                }
                Ok(())
            }
            Self::Gpus { gpus } if gpus.is_empty() => formatter.write_str("none"),
            Self::Gpus { gpus } => {
                let gpus: Vec<_> = gpus.iter().map(describe).collect();
                formatter.write_str(&gpus.join(", "))
            }
        }
    }
}

fn describe(gpu: &Gpu) -> String {
    match (gpu.kind, gpu.vram_bytes) {
        (GpuKind::Software, _) => format!("{} (software, not a GPU)", gpu.name),
        (GpuKind::Integrated, _) => format!("{} (shares the machine's memory)", gpu.name),
        (_, Some(bytes)) => format!("{} with {}", gpu.name, memory_size(bytes)),
        (GpuKind::AppleSilicon, None) => gpu.name.clone(),
        (_, None) => format!("{} with unknown memory", gpu.name),
    }
}

/// RAM and VRAM as they are sold: a GB is 2^30 bytes.
pub fn memory_size(bytes: u64) -> String {
    gigabytes(bytes as f64 / GIB as f64)
}

/// Files and disks: a GB is 10^9 bytes.
pub fn disk_size(bytes: u64) -> String {
    gigabytes(bytes as f64 / 1e9)
}

fn gigabytes(value: f64) -> String {
    if value < 10.0 && value.fract() >= 0.05 {
        format!("{value:.1} GB")
    } else {
        format!("{value:.0} GB")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(kind: GpuKind, vram_gib: Option<u64>) -> Gpu {
        Gpu {
            name: "Card".to_owned(),
            kind,
            api: "Vulkan".to_owned(),
            driver: "1".to_owned(),
            pci_id: None,
            vram_bytes: vram_gib.map(|gib| gib * GIB),
        }
    }

    #[test]
    fn the_public_gate_as_a_table() {
        use GpuKind::{AppleSilicon, Discrete, Integrated, Software};
        use Mark::{Fail, Pass, Warn};
        let need = Policy::public().gpu.unwrap();
        let cases = [
            (vec![], Fail),
            (vec![gpu(Software, Some(64))], Fail),
            (vec![gpu(Integrated, Some(16))], Fail),
            (vec![gpu(Discrete, Some(6))], Fail),
            (vec![gpu(Discrete, Some(8))], Pass),
            (vec![gpu(Discrete, None)], Warn),
            (vec![gpu(AppleSilicon, None)], Pass),
            (vec![gpu(Integrated, None), gpu(Discrete, Some(24))], Pass),
        ];
        for (gpus, mark) in cases {
            assert_eq!(gpu_row(need, &gpus).mark, mark, "{gpus:?}");
        }
    }

    #[test]
    fn software_alone_is_no_gpu_that_is_too_small() {
        let need = Policy::public().gpu.unwrap();
        let row = gpu_row(need, &[gpu(GpuKind::Software, None)]);
        assert_eq!(row.found.to_string(), "Card (software, not a GPU)");
        assert!(
            row.remedy()
                .unwrap()
                .starts_with("Install the GPU's driver")
        );
    }

    #[test]
    fn unknown_warns_and_too_little_fails_with_a_remedy() {
        let mut hardware = Hardware {
            ram_bytes: Some(8 * GIB),
            ..Hardware::default()
        };
        let rows = check(&Policy::public(), &hardware);
        let row = |id| rows.iter().find(|row| row.id == id).unwrap();
        assert_eq!(row(RequirementId::Ram).mark, Mark::Fail);
        assert!(row(RequirementId::Ram).remedy().is_some());
        assert_eq!(row(RequirementId::Network).mark, Mark::Warn);
        assert_eq!(row(RequirementId::Network).found, Amount::Unknown);
        assert!(!met(&rows));
        hardware.ram_bytes = Some(16 * GIB - GIB / 2);
        assert!(met(&check(&Policy::practice(), &hardware)));
    }

    #[test]
    fn a_policy_with_a_misspelt_field_is_refused() {
        let error = serde_json::from_str::<Policy>(r#"{"name":"x","ram":1}"#).unwrap_err();
        assert!(error.to_string().contains("ram"), "{error}");
    }
}
