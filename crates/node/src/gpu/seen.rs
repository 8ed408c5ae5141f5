//! What the owner's rules look at of each GPU: a sample without what they do not need, in steps, so
//! that it changes seldom.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::GpuReading;

/// One GPU, as the rules see it. What is not reported is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct GpuSeen {
    /// [`super::Adapter::id`].
    pub adapter: String,
    /// The share of its time in which other programs compute on it, in percent; rounded down to a
    /// step of [`LOAD_STEP_PERCENT`].
    pub load_others_percent: Option<u8>,
    /// Memory that other programs hold, the system's among them. About.
    pub vram_others_bytes: Option<u64>,
    /// Memory that this program's engines hold. About.
    pub vram_ours_bytes: Option<u64>,
    /// All of its memory.
    pub vram_total_bytes: Option<u64>,
    /// Of the chip.
    pub temperature_celsius: Option<u16>,
    /// Where the driver slows it down.
    pub temperature_limit_celsius: Option<u16>,
}

/// A load that goes up and down by less is the same.
pub const LOAD_STEP_PERCENT: u8 = 5;
/// The same for memory.
const MEMORY_STEP_BYTES: u64 = 16 << 20;

impl From<&GpuReading> for GpuSeen {
    fn from(reading: &GpuReading) -> Self {
        let step = f32::from(LOAD_STEP_PERCENT);
        let load = |percent: f32| ((percent / step).floor() * step) as u8;
        let about = |bytes: u64| {
            bytes.saturating_add(MEMORY_STEP_BYTES / 2) / MEMORY_STEP_BYTES * MEMORY_STEP_BYTES
        };
        let degrees = |celsius: f32| celsius.round().max(0.0) as u16;
        Self {
            adapter: reading.adapter.clone(),
            load_others_percent: reading.load_others_percent.map(load),
            vram_others_bytes: reading.vram_others_bytes.map(about),
            vram_ours_bytes: reading.vram_ours_bytes.map(about),
            vram_total_bytes: reading.vram_total_bytes,
            temperature_celsius: reading.temperature_celsius.map(degrees),
            temperature_limit_celsius: reading.temperature_limit_celsius.map(degrees),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(load: f32, others: u64, celsius: f32) -> GpuReading {
        GpuReading {
            adapter: "a".to_owned(),
            load_percent: Some(99.0),
            load_others_percent: Some(load),
            vram_others_bytes: Some(others),
            vram_ours_bytes: Some(3 << 30),
            vram_total_bytes: Some(8 << 30),
            temperature_celsius: Some(celsius),
            power_watts: Some(load),
            ..GpuReading::default()
        }
    }

    #[test]
    fn it_is_told_in_steps() {
        let seen = GpuSeen::from(&reading(34.9, (1 << 30) + 1, 61.4));
        assert_eq!(
            seen,
            GpuSeen {
                adapter: "a".to_owned(),
                load_others_percent: Some(30),
                vram_others_bytes: Some(1 << 30),
                vram_ours_bytes: Some(3 << 30),
                vram_total_bytes: Some(8 << 30),
                temperature_celsius: Some(61),
                temperature_limit_celsius: None,
            }
        );
        // A threshold on a step is exact.
        let load = |percent| GpuSeen::from(&reading(percent, 0, 0.0)).load_others_percent;
        assert_eq!([load(29.9), load(30.0)], [Some(25), Some(30)]);
        assert_eq!([load(0.0), load(100.0)], [Some(0), Some(100)]);
    }

    #[test]
    fn what_changes_all_the_time_changes_nothing() {
        let one = GpuSeen::from(&reading(0.3, 900 << 20, 60.6));
        let other = GpuSeen::from(&reading(4.2, (900 << 20) + 3_000_000, 61.4));
        assert_eq!(one, other);
    }

    #[test]
    fn what_is_not_reported_is_none_and_not_zero() {
        let nothing = GpuReading {
            adapter: "a".to_owned(),
            ..GpuReading::default()
        };
        let expected = GpuSeen {
            adapter: "a".to_owned(),
            ..GpuSeen::default()
        };
        assert_eq!(GpuSeen::from(&nothing), expected);
    }
}
