//! What the GPUs of this machine are and do, now and over the last ten minutes.

#![deny(missing_docs)]

mod adapters;
mod amd;
mod drm;
mod intel;
mod meter;
mod nvidia;
mod ours;
mod seen;
mod sysfs;
mod system;
mod telemetry;

pub use adapters::{Card, Vendor, adapters, card_names, chosen, device_choices};
pub use meter::{Activity, Drawn, Meter};
pub use seen::{GpuSeen, LOAD_STEP_PERCENT};
pub(crate) use system::system_gpus;
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
    /// As the driver or the system tells it; for a missing one, its id.
    pub name: String,
    /// What decides whether its memory is its own. `other` for one that no compute API reaches.
    pub kind: GpuKind,
    /// `Vulkan`, `Metal`, `DX12`; none if no compute API reaches it.
    pub api: Option<String>,
    /// Name and version for one that can compute, else the kernel's driver; none where nothing
    /// tells.
    pub driver: Option<String>,
    /// Memory of its own; none if it shares the machine's, or does not tell.
    pub vram_bytes: Option<u64>,
    /// Whether it computes, and if not, why.
    pub standing: AdapterStanding,
}

/// What the settings and the system make of an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "standing", rename_all = "snake_case")]
pub enum AdapterStanding {
    /// The node computes on it, or would.
    Chosen,
    /// It could be chosen.
    Available,
    /// By the user.
    Excluded,
    /// Nothing can compute on it.
    Unsupported {
        /// What is missing, which also says what to do.
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
    /// This macOS has no Metal for it.
    OldMacos,
    /// Neither Vulkan nor DirectX 12 reaches it.
    OldDriver {
        /// Whose driver to update: `NVIDIA`, `AMD`, `Intel`.
        maker: String,
    },
    /// Linux drives it with nouveau, which cannot compute: NVIDIA's own driver can.
    Nouveau,
    /// Linux drives it with the old radeon module, for which there is no Vulkan.
    Radeon,
    /// NVIDIA's driver is there, its Vulkan library is not.
    NvidiaWithoutVulkan {
        /// The kernel's driver, as Linux names it.
        driver: String,
    },
    /// The kernel drives it; Mesa's Vulkan drivers are not installed.
    MesaWithoutVulkan {
        /// The kernel's driver, as Linux names it: the package to install depends on it.
        driver: String,
    },
    /// An NVIDIA card that nothing drives.
    NvidiaWithoutDriver,
    /// A card of another maker that nothing drives.
    WithoutDriver,
}

/// One look at all adapters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct GpuSample {
    /// Unix time in milliseconds.
    pub at_ms: i64,
    /// One for each adapter that tells anything.
    pub readings: Vec<GpuReading>,
}

/// What an adapter reports. `None` is "not reported", never zero.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
pub struct GpuReading {
    /// [`Adapter::id`].
    pub adapter: String,
    /// The share of its time in which it computes, in percent.
    pub load_percent: Option<f32>,
    /// The part of that in which other programs have it compute.
    pub load_others_percent: Option<f32>,
    /// Memory that this program's engine holds.
    pub vram_ours_bytes: Option<u64>,
    /// Memory that other programs hold, the system's among them.
    pub vram_others_bytes: Option<u64>,
    /// Memory that all programs hold, ours included.
    pub vram_used_bytes: Option<u64>,
    /// All of its memory, as the driver counts it.
    pub vram_total_bytes: Option<u64>,
    /// Of the chip, where there are several sensors.
    pub temperature_celsius: Option<f32>,
    /// Where the driver slows the adapter down.
    pub temperature_limit_celsius: Option<f32>,
    /// What it draws now.
    pub power_watts: Option<f32>,
    /// What the driver lets it draw at most.
    pub power_limit_watts: Option<f32>,
    /// How fast its processors run now.
    pub core_megahertz: Option<u32>,
    /// How fast its memory runs now.
    pub memory_megahertz: Option<u32>,
    /// The fan's speed, as a share of the highest; of the first fan, where there are several.
    pub fan_percent: Option<f32>,
}

/// The last ten minutes. Where nothing was measured there is no sample: a gap.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
pub struct GpuHistory {
    /// Oldest first, a second apart while somebody looks or works, two for the owner's rules alone.
    pub samples: Vec<GpuSample>,
}
