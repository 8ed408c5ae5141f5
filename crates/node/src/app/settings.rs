//! What a user can set.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// All settings. What is absent in a stored file has its default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Settings {
    /// The network's address; none until one is chosen.
    pub balancer: Option<String>,
    pub device: DeviceSetting,
    /// [`crate::gpu::Adapter::id`]s that are never used.
    pub excluded_adapters: Vec<String>,
    /// GPU memory that is left to other programs.
    pub vram_reserve_bytes: u64,
    /// How many jobs may run at once, for each model.
    pub jobs_at_once: u32,
    /// Paths of the model files that answer jobs.
    pub models: Vec<String>,
    pub download_bytes_per_second: Option<u64>,
    pub models_quota_bytes: Option<u64>,
    pub start_with_system: bool,
    /// The same window in a browser on this machine.
    pub web_control: bool,
    pub notifications: bool,
    /// `en`, `de`; none follows the system.
    pub language: Option<String>,
    pub theme: Theme,
    pub look_for_updates: bool,
    /// The person has been told that closing the window does not end the program.
    pub closing_explained: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "device", rename_all = "snake_case")]
pub enum DeviceSetting {
    /// Discrete GPU, then integrated GPU, then CPU.
    #[default]
    Auto,
    Cpu,
    Adapter {
        id: String,
    },
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Theme {
    #[default]
    System,
    Light,
    Dark,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            balancer: None,
            device: DeviceSetting::Auto,
            excluded_adapters: Vec::new(),
            vram_reserve_bytes: 1 << 29,
            jobs_at_once: 4,
            models: Vec::new(),
            download_bytes_per_second: None,
            models_quota_bytes: None,
            start_with_system: false,
            web_control: false,
            notifications: true,
            language: None,
            theme: Theme::System,
            look_for_updates: false,
            closing_explained: false,
        }
    }
}
