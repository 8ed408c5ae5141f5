//! AMD's figures, from the files of the kernel's driver `amdgpu`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::GpuReading;
use super::drm::{self, DrmClients, Shares};
use super::ours::Ours;
use super::sysfs::{self, Display};
use super::telemetry::GpuReader;

pub(super) struct AmdReader {
    root: PathBuf,
    ours: Ours,
    clients: DrmClients,
}

impl AmdReader {
    /// `root` is `/`, but for tests.
    pub(super) fn new(root: &Path, ours: Ours) -> Self {
        Self {
            root: root.to_owned(),
            clients: DrmClients::new(root, ours.clone()),
            ours,
        }
    }

    fn look(&self, display: &Display, shares: Option<&Shares>) -> GpuReading {
        let file = |name: &str| display.folder.join(name);
        let (load_percent, engines) = (
            sysfs::number(&file("gpu_busy_percent")),
            self.ours.engines(),
        );
        GpuReading {
            load_percent,
            load_others_percent: drm::others_load(load_percent, shares, !engines.is_empty()),
            vram_ours_bytes: sysfs::held_by(&self.root, &engines, &display.pci_id),
            vram_used_bytes: sysfs::number(&file("mem_info_vram_used")),
            vram_total_bytes: sysfs::number(&file("mem_info_vram_total")),
            ..sysfs::sensors(display)
        }
    }
}

impl GpuReader for AmdReader {
    fn read(&mut self) -> Vec<GpuReading> {
        let displays = sysfs::displays(&self.root, Some(sysfs::AMD));
        if displays.is_empty() {
            return Vec::new();
        }
        let shares = self.clients.look(Instant::now(), &displays);
        displays
            .iter()
            .map(|display| self.look(display, shares.get(&display.pci_id)))
            .collect()
    }

    fn rest(&mut self) {
        self.clients.rest();
    }
}

// Windows has no colons in file names.
#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::super::sysfs::tests::tree;
    use super::*;
    use crate::engine_link::EngineProcesses;

    const CARD: &str = "sys/bus/pci/devices/0000:03:00.0";

    fn read(files: &[(&str, &str)], engines: &EngineProcesses) -> Vec<GpuReading> {
        let in_place: Vec<_> = files
            .iter()
            .map(|(path, content)| match path.strip_prefix("card/") {
                Some(name) => (format!("{CARD}/{name}"), *content),
                None => ((*path).to_owned(), *content),
            })
            .collect();
        let files: Vec<_> = in_place
            .iter()
            .map(|(path, content)| (path.as_str(), *content))
            .chain([("sys/bus/pci/devices/0000:03:00.0/class", "0x030000\n")])
            .chain([("sys/bus/pci/devices/0000:03:00.0/vendor", "0x1002\n")])
            .collect();
        let root = tree(&files);
        let ours = Ours::new(root.path(), engines.clone(), 1);
        AmdReader::new(root.path(), ours).read()
    }

    fn empty() -> GpuReading {
        GpuReading {
            adapter: "0000:03:00.0".to_owned(),
            // No engine runs.
            vram_ours_bytes: Some(0),
            ..GpuReading::default()
        }
    }

    #[test]
    fn trees_as_a_table() {
        let cases = [
            ("nothing", vec![], empty()),
            (
                "everything",
                vec![
                    ("card/gpu_busy_percent", "63\n"),
                    ("card/mem_info_vram_used", "5100273664\n"),
                    ("card/mem_info_vram_total", "17163091968\n"),
                    ("card/hwmon/hwmon4/temp1_input", "61500\n"),
                    ("card/hwmon/hwmon4/temp1_crit", "100000\n"),
                    ("card/hwmon/hwmon4/power1_average", "142000000\n"),
                    ("card/hwmon/hwmon4/power1_cap", "263000000\n"),
                    ("card/hwmon/hwmon4/freq1_input", "2430000000\n"),
                    ("card/hwmon/hwmon4/freq2_input", "1249000000\n"),
                    ("card/hwmon/hwmon4/pwm1", "102\n"),
                ],
                GpuReading {
                    load_percent: Some(63.0),
                    // No engine runs: all of it is theirs.
                    load_others_percent: Some(63.0),
                    vram_used_bytes: Some(5_100_273_664),
                    vram_total_bytes: Some(17_163_091_968),
                    temperature_celsius: Some(61.5),
                    temperature_limit_celsius: Some(100.0),
                    power_watts: Some(142.0),
                    power_limit_watts: Some(263.0),
                    core_megahertz: Some(2430),
                    memory_megahertz: Some(1249),
                    fan_percent: Some(40.0),
                    ..empty()
                },
            ),
            (
                "a newer kernel's power, and a fan that stands still",
                vec![
                    ("card/hwmon/hwmon0/power1_input", "7000000\n"),
                    ("card/hwmon/hwmon0/pwm1", "0\n"),
                ],
                GpuReading {
                    power_watts: Some(7.0),
                    fan_percent: Some(0.0),
                    ..empty()
                },
            ),
            (
                "what is no number",
                vec![
                    ("card/gpu_busy_percent", "N/A\n"),
                    ("card/mem_info_vram_used", ""),
                    ("card/mem_info_vram_total", "-1\n"),
                    ("card/hwmon/hwmon0/temp1_input", "hot\n"),
                    ("card/hwmon/hwmon0/freq1_input/folder", "1"),
                ],
                empty(),
            ),
        ];
        for (case, files, expected) in cases {
            assert_eq!(
                read(&files, &EngineProcesses::default()),
                [expected],
                "{case}"
            );
        }
    }

    #[test]
    fn our_memory_is_what_the_engines_open_files_account_for() {
        let engines = EngineProcesses::default();
        let _running = [engines.add(70), engines.add(71)];
        let client = |number: u32, vram: &str| {
            format!(
                "pos:\t0\ndrm-driver:\tamdgpu\ndrm-client-id:\t{number}\ndrm-pdev:\t0000:03:00.0\n{vram}\n"
            )
        };
        let (one, two) = (
            client(1, "drm-memory-vram:\t1024 KiB"),
            client(2, "drm-resident-vram:\t2 MiB"),
        );
        let elsewhere = one.replace("03:00.0", "04:00.0");
        let files = [
            ("proc/70/fdinfo/3", one.as_str()),
            ("proc/70/fdinfo/4", one.as_str()),
            ("proc/70/fdinfo/5", "pos:\t0\n"),
            ("proc/71/fdinfo/3", two.as_str()),
            ("proc/71/fdinfo/4", elsewhere.as_str()),
        ];
        assert_eq!(
            read(&files, &engines)[0].vram_ours_bytes,
            Some(3 << 20),
            "each client once, and on this card only"
        );
        let old = client(3, "drm-engine-gfx:\t5 ns");
        let files = [
            ("proc/70/fdinfo/3", one.as_str()),
            ("proc/71/fdinfo/3", old.as_str()),
        ];
        assert_eq!(
            read(&files, &engines)[0].vram_ours_bytes,
            None,
            "an old kernel does not say"
        );
        assert_eq!(
            read(&[("proc/70/fdinfo/3", one.as_str())], &engines)[0].vram_ours_bytes,
            None,
            "a process that cannot be read"
        );
    }

    #[test]
    fn the_load_of_others_is_unknown_while_ours_may_be_in_it() {
        let engines = EngineProcesses::default();
        let _running = engines.add(70);
        let reading = &read(&[("card/gpu_busy_percent", "63\n")], &engines)[0];
        assert_eq!(reading.load_percent, Some(63.0));
        assert_eq!(reading.load_others_percent, None);
    }
}
