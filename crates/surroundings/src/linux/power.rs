//! What feeds the machine: as `UPower` says, which tells of changes, and else by the kernel's list.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zbus::Connection;

use super::bus::{Properties, Service, while_there};
use crate::Power;
use crate::board::Board;

const UPOWER: Service = Service {
    name: "org.freedesktop.UPower",
    wake: true,
};

/// `UPower`'s number for a battery. The others that it may show are supplies and devices.
const BATTERY: u32 = 2;

pub(super) async fn observe_service(bus: &Connection, board: &Board) {
    let clear = || board.set_part(|parts| parts.power_service = None);
    while_there(bus, UPOWER, clear, || follow(bus, board)).await;
}

async fn follow(bus: &Connection, board: &Board) -> zbus::Result<()> {
    const ROOT: &str = "/org/freedesktop/UPower";
    const ALL_BATTERIES: &str = "/org/freedesktop/UPower/devices/DisplayDevice";
    let (name, of_device) = (UPOWER.name, "org.freedesktop.UPower.Device");
    let mut machine = Properties::of(bus, name, ROOT.to_owned(), name).await?;
    let mut battery = Properties::of(bus, name, ALL_BATTERIES.to_owned(), of_device).await?;
    loop {
        let is_present =
            battery.get::<bool>("IsPresent").await? && battery.get::<u32>("Type").await? == BATTERY;
        let battery_percent = if is_present {
            let percent = battery.get::<f64>("Percentage").await?;
            Some(percent.clamp(0.0, 100.0).round() as u8)
        } else {
            None
        };
        let power = Power {
            on_battery: machine.get("OnBattery").await?,
            battery_percent,
        };
        board.set_part(|parts| parts.power_service = Some(power));
        tokio::select! {
            changed = machine.changed() => changed?,
            changed = battery.changed() => changed?,
        }
    }
}

/// The kernel tells nobody but the administrator of changes: they are looked for.
pub(super) async fn observe_supplies(folder: PathBuf, board: Board) {
    let mut tick = tokio::time::interval(Duration::from_secs(30));
    loop {
        tick.tick().await;
        let power = power_in(&folder);
        board.set_part(|parts| parts.power_supplies = Some(power));
    }
}

fn power_in(folder: &Path) -> Power {
    let supplies = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut percents = Vec::new();
    let (mut is_fed, mut discharges) = (false, false);
    for supply in supplies {
        let value = |name| {
            let text = fs::read_to_string(supply.path().join(name)).unwrap_or_default();
            text.trim().to_owned()
        };
        // A mouse's battery, or a gamepad's.
        if value("scope") == "Device" {
            continue;
        }
        if value("type") == "Battery" {
            percents.extend(value("capacity").parse::<u32>());
            discharges |= value("status") == "Discharging";
        } else {
            is_fed |= value("online") == "1";
        }
    }
    let sum: u32 = percents.iter().sum();
    Power {
        on_battery: discharges && !is_fed,
        battery_percent: sum
            .checked_div(percents.len() as u32)
            .map(|percent| percent.min(100) as u8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_supplies() {
        let mains = |online| ("AC", vec![("type", "Mains"), ("online", online)]);
        let battery = |name, capacity, status| {
            let files = [
                ("type", "Battery"),
                ("capacity", capacity),
                ("status", status),
            ];
            (name, files.to_vec())
        };
        let mut mouse = battery("mouse", "20", "Discharging");
        mouse.1.push(("scope", "Device"));
        for (supplies, on_battery, battery_percent) in [
            (vec![], false, None),
            (vec![mains("1")], false, None),
            (vec![mouse.clone()], false, None),
            (
                vec![mains("1"), battery("BAT0", "80", "Charging")],
                false,
                Some(80),
            ),
            (
                vec![mains("0"), battery("BAT0", "79", "Discharging"), mouse],
                true,
                Some(79),
            ),
            (
                vec![
                    battery("BAT0", "40", "Discharging"),
                    battery("BAT1", "80", "Unknown"),
                ],
                true,
                Some(60),
            ),
            (vec![battery("BAT0", "100", "Full")], false, Some(100)),
            // A strong battery helps out a weak supply.
            (
                vec![mains("1"), battery("BAT0", "80", "Discharging")],
                false,
                Some(80),
            ),
        ] {
            let folder = tempfile::tempdir().unwrap();
            for (name, files) in &supplies {
                let supply = folder.path().join(name);
                fs::create_dir(&supply).unwrap();
                for (file, text) in files {
                    fs::write(supply.join(file), format!("{text}\n")).unwrap();
                }
            }
            let power = Power {
                on_battery,
                battery_percent,
            };
            assert_eq!(power_in(folder.path()), power, "{supplies:?}");
        }
        let nothing = Power {
            on_battery: false,
            battery_percent: None,
        };
        assert_eq!(power_in(Path::new("/nowhere")), nothing);
    }
}
