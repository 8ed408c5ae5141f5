//! Linux's own files about graphics cards. Whatever cannot be read is unknown.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use infera_engine::device::normal_pci_id;

use super::GpuReading;
use super::adapters::{Card, Vendor};

pub(super) const AMD: u16 = 0x1002;
pub(super) const INTEL: u16 = 0x8086;
const NVIDIA: u16 = 0x10de;

/// A display controller on the PCI bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Display {
    pub(super) pci_id: String,
    pub(super) vendor: u16,
    /// Its files.
    pub(super) folder: PathBuf,
}

/// All of one maker, or of all makers, below a root folder: `/`, but for tests.
pub(super) fn displays(root: &Path, vendor: Option<u16>) -> Vec<Display> {
    let mut found: Vec<_> = entries(&root.join("sys/bus/pci/devices"))
        .into_iter()
        .filter(|folder| text(&folder.join("class")).is_some_and(|class| class.starts_with("0x03")))
        .filter_map(|folder| {
            Some(Display {
                pci_id: normal_pci_id(folder.file_name()?.to_str()?),
                vendor: hexadecimal(&folder.join("vendor"))?,
                folder,
            })
        })
        .filter(|display| vendor.is_none_or(|vendor| vendor == display.vendor))
        .collect();
    found.sort_by(|one, other| one.pci_id.cmp(&other.pci_id));
    found
}

/// The same as cards, with names as far as the system knows them.
pub(super) fn cards(root: &Path) -> Vec<Card> {
    let displays = displays(root, None);
    if displays.is_empty() {
        return Vec::new();
    }
    let names = ["usr/share/hwdata/pci.ids", "usr/share/misc/pci.ids"]
        .iter()
        .find_map(|path| fs::read(root.join(path)).ok())
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    displays
        .into_iter()
        .map(|display| {
            let device: Option<u16> = hexadecimal(&display.folder.join("device"));
            let (vendor, maker) = match display.vendor {
                NVIDIA => (Vendor::Nvidia, "NVIDIA"),
                AMD => (Vendor::Amd, "AMD"),
                INTEL => (Vendor::Intel, "Intel"),
                _ => (Vendor::Other, "Display adapter"),
            };
            let known = device.and_then(|device| name_in(&names, display.vendor, device));
            let name = match known {
                Some(name) if vendor == Vendor::Other => name.to_owned(),
                Some(name) => format!("{maker} {name}"),
                None => format!(
                    "{maker} ({:04x}:{:04x})",
                    display.vendor,
                    device.unwrap_or_default()
                ),
            };
            Card {
                vendor,
                name,
                driver: fs::read_link(display.folder.join("driver"))
                    .ok()
                    .and_then(|path| Some(path.file_name()?.to_str()?.to_owned())),
                vram_bytes: number(&display.folder.join("mem_info_vram_total")),
                pci_id: display.pci_id,
            }
        })
        .collect()
}

/// What the card's sensors say, as far as they are there. Kernel documentation: `hwmon` sysfs
/// interface (millidegrees, microwatts, hertz, a fan's duty from 0 to 255).
pub(super) fn sensors(display: &Display) -> GpuReading {
    let mut reading = GpuReading {
        adapter: display.pci_id.clone(),
        ..GpuReading::default()
    };
    let Some(folder) = entries(&display.folder.join("hwmon")).into_iter().min() else {
        return reading;
    };
    let scaled = |name: &str, unit: f64| {
        number::<i64>(&folder.join(name)).map(|value| (value as f64 / unit) as f32)
    };
    let megahertz =
        |name: &str| number::<u64>(&folder.join(name)).map(|hertz| (hertz / 1_000_000) as u32);
    reading.temperature_celsius = scaled("temp1_input", 1e3);
    reading.temperature_limit_celsius = scaled("temp1_crit", 1e3);
    reading.power_watts = scaled("power1_average", 1e6).or_else(|| scaled("power1_input", 1e6));
    reading.power_limit_watts = scaled("power1_cap", 1e6);
    reading.core_megahertz = megahertz("freq1_input");
    reading.memory_megahertz = megahertz("freq2_input");
    reading.fan_percent = scaled("pwm1", 2.55);
    reading
}

/// What these processes hold of a card's own memory, from the kernel's account of each open file
/// of the driver (kernel documentation: DRM client usage stats).
pub(super) fn held_by(root: &Path, processes: &[u32], pci_id: &str) -> Option<u64> {
    let mut held = 0;
    for process in processes {
        let folder = root.join(format!("proc/{process}/fdinfo"));
        let mut clients = Vec::new();
        for file in fs::read_dir(folder).ok()?.flatten() {
            let Ok(account) = fs::read_to_string(file.path()) else {
                continue;
            };
            let value = |key: &str| {
                account.lines().find_map(|line| {
                    let (name, value) = line.split_once(':')?;
                    (name == key).then(|| value.trim())
                })
            };
            if value("drm-pdev").map(normal_pci_id).as_deref() != Some(pci_id) {
                continue;
            }
            // One client may have several open files.
            let client = value("drm-client-id")?.to_owned();
            if clients.contains(&client) {
                continue;
            }
            clients.push(client);
            held += bytes(value("drm-memory-vram").or_else(|| value("drm-resident-vram"))?)?;
        }
    }
    Some(held)
}

pub(super) fn number<T: FromStr>(path: &Path) -> Option<T> {
    text(path)?.parse().ok()
}

pub(super) fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).map_or_else(
        |_| Vec::new(),
        |entries| entries.flatten().map(|entry| entry.path()).collect(),
    )
}

fn text(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn hexadecimal(path: &Path) -> Option<u16> {
    u16::from_str_radix(text(path)?.strip_prefix("0x")?, 16).ok()
}

/// `12 KiB`, `3 MiB`, or bytes without a unit.
fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let unit = match unit.trim() {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// The name of a device in the text of `pci.ids`, without the chip's code name where it has one.
fn name_in(names: &str, vendor: u16, device: u16) -> Option<&str> {
    let (vendor, device) = (format!("{vendor:04x}"), format!("\t{device:04x}"));
    let line = names
        .lines()
        .skip_while(|line| !line.starts_with(&vendor))
        .skip(1)
        .take_while(|line| line.starts_with(['\t', '#']) || line.is_empty())
        .find_map(|line| line.strip_prefix(&device))?;
    let name = line.trim();
    let in_brackets = name
        .split_once('[')
        .and_then(|(_, name)| name.strip_suffix(']'));
    Some(in_brackets.unwrap_or(name))
}

// Windows has no colons in file names.
#[cfg(unix)]
#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A root folder with these files.
    pub(in crate::gpu) fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn cards_are_display_controllers_with_their_names_and_drivers() {
        const DEVICES: &str = "sys/bus/pci/devices";
        let files = [
            ("0000:00:1f.0/class", "0x060100\n"),
            ("0000:00:1f.0/vendor", "0x8086\n"),
            ("0000:01:00.0/class", "0x030000\n"),
            ("0000:01:00.0/vendor", "0x10de\n"),
            ("0000:01:00.0/device", "0x2786\n"),
            ("0000:03:00.0/class", "0x038000\n"),
            ("0000:03:00.0/vendor", "0x1002\n"),
            ("0000:03:00.0/device", "0x9999\n"),
            ("0000:03:00.0/mem_info_vram_total", "17163091968\n"),
            ("0000:05:00.0/class", "0x030000\n"),
            ("0000:05:00.0/vendor", "0x1a03\n"),
            ("0000:06:00.0/class", "0x030000\n"),
        ]
        .map(|(path, content)| (format!("{DEVICES}/{path}"), content));
        let mut files: Vec<_> = files
            .iter()
            .map(|(path, content)| (path.as_str(), *content))
            .collect();
        files.push((
            "usr/share/misc/pci.ids",
            "# a list\n1002  Advanced Micro Devices\n\t2786  Not this one\n10de  NVIDIA Corporation\n\t2782  AD104 [GeForce RTX 4070 Ti]\n\t2786  AD104 [GeForce RTX 4070]\n\t\t1028 0001  Sub\n1a03  ASPEED\n",
        ));
        let root = tree(&files);
        std::os::unix::fs::symlink(
            "../../../bus/pci/drivers/nouveau",
            root.path().join(DEVICES).join("0000:01:00.0/driver"),
        )
        .unwrap();
        let cards = cards(root.path());
        let names: Vec<_> = cards.iter().map(|card| card.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "NVIDIA GeForce RTX 4070",
                "AMD (1002:9999)",
                "Display adapter (1a03:0000)"
            ]
        );
        assert_eq!(cards[0].driver.as_deref(), Some("nouveau"));
        assert_eq!(cards[1].driver, None);
        assert_eq!(cards[1].vram_bytes, Some(17_163_091_968));
        assert_eq!(super::cards(Path::new("/nowhere")), []);
    }

    #[test]
    fn amounts_have_units() {
        for (text, expected) in [
            ("12 KiB", Some(12 << 10)),
            ("3 MiB", Some(3 << 20)),
            ("7", Some(7)),
            ("7 GB", None),
            ("x KiB", None),
            ("18446744073709551615 MiB", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
