//! What the GPUs of this machine are and do, now and over the last ten minutes.

mod adapters;
mod amd;
mod intel;
mod nvidia;
mod sysfs;
mod system;
mod telemetry;

pub use adapters::{Card, Vendor, adapters, card_names, chosen, device_choice};
pub use system::{cards, readers};
pub use telemetry::{GpuReader, Telemetry, Watch};

use infera_protocol::requirements::GpuKind;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// A graphics adapter. One that cannot be used stays listed, with why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Adapter {
    /// Its PCI id, else its name: what settings and readings name it by.
    pub id: String,
    pub name: String,
    pub kind: GpuKind,
    /// `Vulkan`, `Metal`, `DX12`; none if no compute API reaches it.
    pub api: Option<String>,
    pub driver: Option<String>,
    /// Memory of its own; none if it shares the machine's, or does not tell.
    pub vram_bytes: Option<u64>,
    pub standing: AdapterStanding,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "standing", rename_all = "snake_case")]
pub enum AdapterStanding {
    /// The node computes on it, or would.
    Chosen,
    /// It could be chosen.
    Available,
    /// By the user.
    Excluded,
    Unsupported {
        why: Unsupported,
    },
    /// It was chosen or excluded, and is not there any more.
    Missing,
}

/// Why nothing can compute on an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Unsupported {
    /// The processor computes in its place.
    Software,
    /// It draws a screen and nothing else.
    ScreenOnly,
    /// To a virtual machine.
    Lent,
    OldMacos,
    /// Neither Vulkan nor DirectX 12 reaches it.
    OldDriver {
        maker: String,
    },
    Nouveau,
    Radeon,
    NvidiaWithoutVulkan {
        driver: String,
    },
    MesaWithoutVulkan {
        driver: String,
    },
    NvidiaWithoutDriver,
    WithoutDriver,
}

/// One look at all adapters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct GpuSample {
    /// Unix time in milliseconds.
    pub at_ms: i64,
    pub readings: Vec<GpuReading>,
}

/// What an adapter reports. `None` is "not reported", never zero.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
pub struct GpuReading {
    /// [`Adapter::id`].
    pub adapter: String,
    /// The share of its time in which it computes, in percent.
    pub load_percent: Option<f32>,
    /// Memory that this program's engine holds.
    pub vram_ours_bytes: Option<u64>,
    /// Memory that all programs hold, ours included.
    pub vram_used_bytes: Option<u64>,
    pub vram_total_bytes: Option<u64>,
    pub temperature_celsius: Option<f32>,
    /// Where the driver slows the adapter down.
    pub temperature_limit_celsius: Option<f32>,
    pub power_watts: Option<f32>,
    pub power_limit_watts: Option<f32>,
    pub core_megahertz: Option<u32>,
    pub memory_megahertz: Option<u32>,
    pub fan_percent: Option<f32>,
}

/// The last ten minutes. Where nothing was measured there is no sample: a gap.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
pub struct GpuHistory {
    /// Oldest first, a second apart while somebody looks or works.
    pub samples: Vec<GpuSample>,
}
