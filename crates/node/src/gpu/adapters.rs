//! Which adapters there are, which one the node computes on, and why not on the others.

use std::collections::HashMap;

use infera_engine::device;
use infera_engine::message::DeviceChoice;
use infera_protocol::requirements::{Gpu, GpuKind};

use super::{Adapter, AdapterStanding, Unsupported};
use crate::app::settings::DeviceSetting;

/// A graphics card as the operating system knows it, whether or not anything can compute on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// In the form of [`device::normal_pci_id`].
    pub pci_id: String,
    /// What decides which driver it would need.
    pub vendor: Vendor,
    /// From the driver or the system's list of devices.
    pub name: String,
    /// The kernel's driver, where the system tells.
    pub driver: Option<String>,
    /// Memory of its own.
    pub vram_bytes: Option<u64>,
}

/// Makers whose drivers a person can be told to install.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    /// `GeForce`, Quadro, Tesla.
    Nvidia,
    /// Radeon and what has it built in.
    Amd,
    /// Arc, Iris, UHD.
    Intel,
    /// What is part of Apple's own chips.
    Apple,
    /// Makers of screens without 3D, and of virtual machines.
    Other,
}

/// Everything to list: what can compute first, in the engine's order, then cards that cannot, then
/// what the settings name and is gone.
pub fn adapters(
    gpus: &[Gpu],
    cards: &[Card],
    settings: &[DeviceSetting],
    excluded: &[String],
) -> Vec<Adapter> {
    let ids = device::ids(gpus);
    let joined = join(gpus, cards);
    let chosen: Vec<_> = device_choices(settings, excluded)
        .iter()
        .filter_map(|choice| chosen(gpus, choice))
        .collect();
    let mut listed: Vec<_> = gpus
        .iter()
        .enumerate()
        .map(|(index, gpu)| {
            let card = joined[index].map(|card| &cards[card]);
            let own_memory = matches!(gpu.kind, GpuKind::Discrete | GpuKind::Other);
            let from_card = card.and_then(|card| card.vram_bytes).filter(|_| own_memory);
            let standing = if excluded.contains(&ids[index]) {
                AdapterStanding::Excluded
            } else if chosen.contains(&index) {
                AdapterStanding::Chosen
            } else if gpu.kind == GpuKind::Software {
                AdapterStanding::Unsupported {
                    why: Unsupported::Software,
                }
            } else {
                AdapterStanding::Available
            };
            Adapter {
                id: ids[index].clone(),
                name: gpu.name.clone(),
                kind: gpu.kind,
                api: Some(gpu.api.clone()),
                driver: Some(gpu.driver.clone()).filter(|driver| !driver.is_empty()),
                vram_bytes: gpu.vram_bytes.or(from_card),
                standing,
            }
        })
        .collect();
    for (index, card) in cards.iter().enumerate() {
        if joined.contains(&Some(index)) {
            continue;
        }
        listed.push(Adapter {
            id: card.pci_id.clone(),
            name: card.name.clone(),
            kind: GpuKind::Other,
            api: None,
            driver: card.driver.clone(),
            vram_bytes: card.vram_bytes,
            standing: AdapterStanding::Unsupported {
                why: why_unsupported(std::env::consts::OS, card),
            },
        });
    }
    let wanted = settings.iter().filter_map(|setting| match setting {
        DeviceSetting::Adapter { id } => Some(id),
        DeviceSetting::Cpu | DeviceSetting::Named { .. } => None,
    });
    for id in wanted.chain(excluded) {
        if listed.iter().all(|adapter| adapter.id != *id) {
            listed.push(Adapter {
                id: id.clone(),
                name: id.clone(),
                kind: GpuKind::Other,
                api: None,
                driver: None,
                vram_bytes: None,
                standing: AdapterStanding::Missing,
            });
        }
    }
    listed
}

/// What the engines are to open for these settings: at least one device. Excluded goes before chosen.
pub fn device_choices(settings: &[DeviceSetting], excluded: &[String]) -> Vec<DeviceChoice> {
    let mut choices: Vec<_> = settings
        .iter()
        .filter_map(|setting| match setting {
            DeviceSetting::Cpu => Some(DeviceChoice::Cpu),
            DeviceSetting::Named { name } => Some(DeviceChoice::Named(name.clone())),
            DeviceSetting::Adapter { id } => {
                (!excluded.contains(id)).then(|| DeviceChoice::Adapter(id.clone()))
            }
        })
        .collect();
    if choices.is_empty() {
        choices.push(match excluded {
            [] => DeviceChoice::Auto,
            excluded => DeviceChoice::AutoExcept(excluded.to_vec()),
        });
    }
    choices
}

/// Which [`Adapter::id`] a card goes by, where that is not its PCI id: some compute APIs do not
/// tell the place on the bus.
pub fn card_names(gpus: &[Gpu], cards: &[Card]) -> HashMap<String, String> {
    let ids = device::ids(gpus);
    let joined = join(gpus, cards);
    ids.into_iter()
        .zip(joined)
        .filter_map(|(id, card)| Some((cards[card?].pci_id.clone(), id)))
        .filter(|(pci_id, id)| pci_id != id)
        .collect()
}

/// Which of the GPUs the engine takes; none for the CPU.
pub fn chosen(gpus: &[Gpu], choice: &DeviceChoice) -> Option<usize> {
    match choice {
        DeviceChoice::Adapter(wanted) => device::ids(gpus).iter().position(|id| id == wanted),
        DeviceChoice::Auto => device::auto(gpus, &[]),
        DeviceChoice::AutoExcept(excluded) => device::auto(gpus, excluded),
        DeviceChoice::Named(name) => device::named(gpus, name),
        DeviceChoice::Cpu => None,
    }
}

/// The card of each GPU: by PCI id, else by vendor and name, else the only one of its vendor that
/// is left.
fn join(gpus: &[Gpu], cards: &[Card]) -> Vec<Option<usize>> {
    let mut joined: Vec<Option<usize>> = gpus
        .iter()
        .map(|gpu| {
            let id = device::normal_pci_id(gpu.pci_id.as_deref()?);
            cards.iter().position(|card| card.pci_id == id)
        })
        .collect();
    let same_name = |gpu: &Gpu, card: &Card| {
        let (one, other) = (gpu.name.to_lowercase(), card.name.to_lowercase());
        vendor_of(&gpu.name) == card.vendor && (one.contains(&other) || other.contains(&one))
    };
    let same_vendor = |gpu: &Gpu, card: &Card| vendor_of(&gpu.name) == card.vendor;
    for (fits, must_be_alone) in [
        (&same_name as &dyn Fn(&Gpu, &Card) -> bool, false),
        (&same_vendor as &dyn Fn(&Gpu, &Card) -> bool, true),
    ] {
        for (index, gpu) in gpus.iter().enumerate() {
            if joined[index].is_some() || gpu.pci_id.is_some() || gpu.kind == GpuKind::Software {
                continue;
            }
            let mut left = (0..cards.len())
                .filter(|card| !joined.contains(&Some(*card)) && fits(gpu, &cards[*card]));
            let found = left.next();
            if !must_be_alone || left.next().is_none() {
                joined[index] = found;
            }
        }
    }
    joined
}

fn vendor_of(name: &str) -> Vendor {
    let name = name.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if has(&["nvidia", "geforce", "quadro", "tesla"]) {
        Vendor::Nvidia
    } else if has(&["amd", "radeon"]) {
        Vendor::Amd
    } else if has(&["intel"]) {
        Vendor::Intel
    } else if has(&["apple"]) {
        Vendor::Apple
    } else {
        Vendor::Other
    }
}

/// Why no compute API reaches a card.
fn why_unsupported(os: &str, card: &Card) -> Unsupported {
    let maker = match card.vendor {
        Vendor::Nvidia => "NVIDIA",
        Vendor::Amd => "AMD",
        Vendor::Intel => "Intel",
        Vendor::Apple => return Unsupported::OldMacos,
        Vendor::Other => return Unsupported::ScreenOnly,
    };
    match os {
        "linux" => {}
        "macos" => return Unsupported::OldMacos,
        _ => {
            let maker = maker.to_owned();
            return Unsupported::OldDriver { maker };
        }
    }
    match (card.driver.clone(), card.vendor) {
        (Some(driver), _) if driver == "vfio-pci" => Unsupported::Lent,
        (Some(driver), _) if driver == "nouveau" => Unsupported::Nouveau,
        (Some(driver), _) if driver == "radeon" => Unsupported::Radeon,
        (Some(driver), Vendor::Nvidia) => Unsupported::NvidiaWithoutVulkan { driver },
        (Some(driver), _) => Unsupported::MesaWithoutVulkan { driver },
        (None, Vendor::Nvidia) => Unsupported::NvidiaWithoutDriver,
        (None, _) => Unsupported::WithoutDriver,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(name: &str, kind: GpuKind, pci_id: Option<&str>) -> Gpu {
        Gpu {
            name: name.to_owned(),
            kind,
            api: "Vulkan".to_owned(),
            driver: "1.2".to_owned(),
            pci_id: pci_id.map(str::to_owned),
            vram_bytes: None,
        }
    }

    fn card(name: &str, vendor: Vendor, pci_id: &str) -> Card {
        Card {
            pci_id: pci_id.to_owned(),
            vendor,
            name: name.to_owned(),
            driver: None,
            vram_bytes: Some(8 << 30),
        }
    }

    fn laptop() -> Vec<Gpu> {
        vec![
            gpu("Intel UHD", GpuKind::Integrated, Some("0000:00:02.0")),
            gpu("NVIDIA RTX", GpuKind::Discrete, Some("0000:01:00.0")),
            gpu("llvmpipe", GpuKind::Software, None),
        ]
    }

    fn id(text: &str) -> DeviceSetting {
        DeviceSetting::Adapter {
            id: text.to_owned(),
        }
    }

    /// One letter for each adapter's standing.
    fn standings(gpus: &[Gpu], settings: &[DeviceSetting], excluded: &[&str]) -> String {
        let excluded: Vec<_> = excluded.iter().map(|id| (*id).to_owned()).collect();
        adapters(gpus, &[], settings, &excluded)
            .iter()
            .map(|adapter| match adapter.standing {
                AdapterStanding::Chosen => 'C',
                AdapterStanding::Available => 'A',
                AdapterStanding::Excluded => 'E',
                AdapterStanding::Unsupported { .. } => 'U',
                AdapterStanding::Missing => 'M',
            })
            .collect()
    }

    #[test]
    fn standings_as_a_table() {
        let first = "0000:01:00.0";
        let cases = [
            (laptop(), vec![], vec![], "ACU"),
            (laptop(), vec![], vec![first], "CEU"),
            (laptop(), vec![], vec![first, "0000:00:02.0"], "EEU"),
            (laptop(), vec![DeviceSetting::Cpu], vec![], "AAU"),
            (laptop(), vec![id("0000:00:02.0")], vec![], "CAU"),
            (laptop(), vec![id("0000:00:02.0"), id(first)], vec![], "CCU"),
            (laptop(), vec![DeviceSetting::Cpu, id(first)], vec![], "ACU"),
            (laptop(), vec![id("llvmpipe")], vec![], "AAC"),
            (laptop(), vec![id("0000:05:00.0")], vec![], "AAUM"),
            (
                laptop(),
                vec![id("0000:05:00.0"), id(first)],
                vec![],
                "ACUM",
            ),
            (laptop(), vec![], vec!["0000:05:00.0"], "ACUM"),
            // Excluded goes before chosen.
            (laptop(), vec![id(first)], vec![first], "CEU"),
            (laptop(), vec![id("gone")], vec!["gone"], "ACUM"),
            (laptop().split_off(2), vec![], vec![], "U"),
            (vec![], vec![], vec![], ""),
        ];
        for (gpus, settings, excluded, expected) in cases {
            assert_eq!(
                standings(&gpus, &settings, &excluded),
                expected,
                "{settings:?} {excluded:?}"
            );
        }
    }

    #[test]
    fn what_is_shown_as_chosen_is_what_the_engines_are_told() {
        let excluded = vec!["0000:01:00.0".to_owned()];
        let except = DeviceChoice::AutoExcept(excluded.clone());
        let cases = [
            (vec![], &[][..], vec![DeviceChoice::Auto]),
            (
                vec![DeviceSetting::Cpu],
                &excluded[..],
                vec![DeviceChoice::Cpu],
            ),
            (vec![], &excluded[..], vec![except.clone()]),
            (
                vec![id("x"), DeviceSetting::Cpu],
                &excluded[..],
                vec![DeviceChoice::Adapter("x".to_owned()), DeviceChoice::Cpu],
            ),
            (vec![id("0000:01:00.0")], &excluded[..], vec![except]),
            (
                vec![id("0000:01:00.0"), id("x")],
                &excluded[..],
                vec![DeviceChoice::Adapter("x".to_owned())],
            ),
        ];
        for (settings, excluded, expected) in cases {
            assert_eq!(device_choices(&settings, excluded), expected);
        }
    }

    #[test]
    fn cards_join_by_place_then_by_name_then_by_vendor() {
        let cards = [
            card("Radeon RX 7800 XT", Vendor::Amd, "0000:03:00.0"),
            card("GeForce RTX 4070", Vendor::Nvidia, "0000:01:00.0"),
            card("Graphics (8086:a780)", Vendor::Intel, "0000:00:02.0"),
            card("GeForce RTX 4070", Vendor::Nvidia, "0000:02:00.0"),
        ];
        let gpus = [
            gpu("Whatever", GpuKind::Discrete, Some("00000000:02:00.0")),
            gpu("NVIDIA GeForce RTX 4070", GpuKind::Discrete, None),
            gpu(
                "AMD Radeon RX 7800 XT (RADV NAVI32)",
                GpuKind::Discrete,
                None,
            ),
            gpu("Intel(R) UHD Graphics 770", GpuKind::Integrated, None),
            gpu("llvmpipe (AMD Ryzen)", GpuKind::Software, None),
        ];
        assert_eq!(
            join(&gpus, &cards),
            [Some(3), Some(1), Some(0), Some(2), None]
        );
        let listed = adapters(&gpus, &cards, &[], &[]);
        assert_eq!(listed.len(), 5);
        assert_eq!(listed[0].id, "0000:02:00.0");
        assert_eq!(listed[1].vram_bytes, Some(8 << 30));
        assert_eq!(listed[3].vram_bytes, None, "it shares the machine's");
        let names = card_names(&gpus, &cards);
        assert_eq!(names.len(), 3);
        assert_eq!(names["0000:01:00.0"], "NVIDIA GeForce RTX 4070");
    }

    #[test]
    fn two_cards_that_cannot_be_told_apart_are_not_joined_by_vendor() {
        let cards = [
            card("One", Vendor::Intel, "0000:00:02.0"),
            card("Two", Vendor::Intel, "0000:03:00.0"),
        ];
        let gpus = [gpu("Intel(R) Arc", GpuKind::Discrete, None)];
        assert_eq!(join(&gpus, &cards), [None]);
    }

    #[test]
    fn a_card_that_nothing_reaches_says_which_driver_is_missing() {
        use Unsupported::{
            Lent, MesaWithoutVulkan, Nouveau, NvidiaWithoutDriver, NvidiaWithoutVulkan, OldDriver,
            OldMacos, Radeon, ScreenOnly, WithoutDriver,
        };
        let driver = str::to_owned;
        let cases = [
            ("linux", Vendor::Nvidia, None, NvidiaWithoutDriver),
            ("linux", Vendor::Nvidia, Some("nouveau"), Nouveau),
            (
                "linux",
                Vendor::Nvidia,
                Some("nvidia"),
                NvidiaWithoutVulkan {
                    driver: driver("nvidia"),
                },
            ),
            (
                "linux",
                Vendor::Amd,
                Some("amdgpu"),
                MesaWithoutVulkan {
                    driver: driver("amdgpu"),
                },
            ),
            ("linux", Vendor::Amd, Some("radeon"), Radeon),
            ("linux", Vendor::Intel, None, WithoutDriver),
            ("linux", Vendor::Amd, Some("vfio-pci"), Lent),
            ("linux", Vendor::Other, Some("ast"), ScreenOnly),
            (
                "windows",
                Vendor::Amd,
                None,
                OldDriver {
                    maker: driver("AMD"),
                },
            ),
            ("macos", Vendor::Amd, None, OldMacos),
        ];
        for (os, vendor, driver, cause) in cases {
            let card = Card {
                driver: driver.map(str::to_owned),
                ..card("Card", vendor, "0000:01:00.0")
            };
            assert_eq!(why_unsupported(os, &card), cause, "{os} {card:?}");
        }
        let cards = [card("Card", Vendor::Nvidia, "0000:01:00.0")];
        let listed = adapters(&[], &cards, &[id("0000:01:00.0")], &[]);
        assert_eq!(listed.len(), 1, "a chosen card is not missing");
        assert_eq!(listed[0].api, None);
        assert!(matches!(
            listed[0].standing,
            AdapterStanding::Unsupported { .. }
        ));
    }
}
