//! What Linux tells of Intel's GPUs: clock and sensors, and what each program has them compute. Their
//! whole load and their memory it does not tell.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::GpuReading;
use super::drm::{self, DrmClients};
use super::ours::Ours;
use super::sysfs::{self, Display};
use super::telemetry::GpuReader;

pub(super) struct IntelReader {
    root: PathBuf,
    ours: Ours,
    clients: DrmClients,
}

impl IntelReader {
    /// `root` is `/`, but for tests.
    pub(super) fn new(root: &Path, ours: Ours) -> Self {
        Self {
            root: root.to_owned(),
            clients: DrmClients::new(root, ours.clone()),
            ours,
        }
    }
}

impl GpuReader for IntelReader {
    fn read(&mut self) -> Vec<GpuReading> {
        let displays = sysfs::displays(&self.root, Some(sysfs::INTEL));
        if displays.is_empty() {
            return Vec::new();
        }
        let shares = self.clients.look(Instant::now(), &displays);
        let our_engine_runs = !self.ours.engines().is_empty();
        displays
            .iter()
            .map(|display| GpuReading {
                load_others_percent: drm::others_load(
                    None,
                    shares.get(&display.pci_id),
                    our_engine_runs,
                ),
                core_megahertz: clock(display),
                ..sysfs::sensors(display)
            })
            .collect()
    }

    fn rest(&mut self) {
        self.clients.rest();
    }
}

/// From the driver `i915`, or from `xe`.
fn clock(display: &Display) -> Option<u32> {
    sysfs::entries(&display.folder.join("drm"))
        .iter()
        .find_map(|card| sysfs::number(&card.join("gt_act_freq_mhz")))
        .or_else(|| sysfs::number(&display.folder.join("tile0/gt0/freq0/act_freq")))
}

// Windows has no colons in file names.
#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::super::sysfs::tests::tree;
    use super::*;
    use crate::engine_link::EngineProcesses;

    #[test]
    fn clocks_of_both_drivers() {
        let root = tree(&[
            ("sys/bus/pci/devices/0000:00:02.0/class", "0x030000\n"),
            ("sys/bus/pci/devices/0000:00:02.0/vendor", "0x8086\n"),
            ("sys/bus/pci/devices/0000:00:02.0/drm/renderD128/dev", "1\n"),
            (
                "sys/bus/pci/devices/0000:00:02.0/drm/card1/gt_act_freq_mhz",
                "300\n",
            ),
            ("sys/bus/pci/devices/0000:03:00.0/class", "0x030000\n"),
            ("sys/bus/pci/devices/0000:03:00.0/vendor", "0x8086\n"),
            (
                "sys/bus/pci/devices/0000:03:00.0/tile0/gt0/freq0/act_freq",
                "2050\n",
            ),
            (
                "sys/bus/pci/devices/0000:03:00.0/hwmon/hwmon2/power1_cap",
                "190000000\n",
            ),
        ]);
        let ours = Ours::new(root.path(), EngineProcesses::default(), 1);
        let readings = IntelReader::new(root.path(), ours).read();
        assert_eq!(readings.len(), 2);
        assert_eq!(readings[0].core_megahertz, Some(300));
        assert_eq!(readings[0].load_percent, None, "not told, not zero");
        assert_eq!(readings[1].core_megahertz, Some(2050));
        assert_eq!(readings[1].power_limit_watts, Some(190.0));
    }
}
