//! Which model is loaded on which device: one pure function.

/// A model that is to be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Model {
    /// Device memory for its weights and a few conversations, in bytes; none where the file does not
    /// tell.
    pub(crate) needed_bytes: Option<u64>,
    /// Whether the network serves it, as far as that is known. A model that it does not serve is
    /// loaded once and no more.
    pub(crate) served: bool,
    /// How often the network asked for it lately, beside the others.
    pub(crate) asked: u32,
}

/// What models are loaded on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Device {
    /// What it has for models, in bytes; none where it does not tell.
    pub(crate) memory_bytes: Option<u64>,
    /// The processor, which computes where no GPU can.
    pub(crate) is_cpu: bool,
}

/// For each device, whether it has each model. Models of one device share its memory evenly.
///
/// One device has them all. Of several, each model has one: the largest model chooses first, and
/// takes a GPU before the processor, the device with the fewest others, then the one with the most
/// memory. What is left holds
/// second and further copies of what the network serves, first of what it asks for most, as far as
/// every model that is there already keeps room enough. A model that fits nowhere is on the largest
/// device, whose engine says how much is missing.
pub(crate) fn place(devices: &[Device], models: &[Model]) -> Vec<Vec<bool>> {
    if let [_] = devices {
        return vec![vec![true; models.len()]];
    }
    let mut placed = vec![vec![false; models.len()]; devices.len()];
    let need = |model: usize| models[model].needed_bytes.unwrap_or(0);
    let mut by_size: Vec<_> = (0..models.len()).collect();
    by_size.sort_by_key(|model| std::cmp::Reverse((need(*model), models[*model].served)));
    for model in by_size {
        let home = (0..devices.len())
            .filter(|device| has_room(devices[*device], &placed[*device], models, model))
            .min_by_key(|device| {
                let others = placed[*device].iter().filter(|here| **here).count();
                let Device {
                    memory_bytes,
                    is_cpu,
                } = devices[*device];
                (is_cpu, others, std::cmp::Reverse(memory_bytes))
            })
            .or_else(|| (0..devices.len()).max_by_key(|device| devices[*device].memory_bytes));
        if let Some(home) = home {
            placed[home][model] = true;
        }
    }
    let mut by_demand: Vec<_> = (0..models.len())
        .filter(|model| models[*model].served)
        .collect();
    by_demand.sort_by_key(|model| std::cmp::Reverse(models[*model].asked));
    for model in by_demand {
        for device in 0..devices.len() {
            placed[device][model] |= has_room(devices[device], &placed[device], models, model);
        }
    }
    placed
}

/// Whether one more model leaves each that is there an even share that it fits in.
fn has_room(device: Device, here: &[bool], models: &[Model], model: usize) -> bool {
    // A device that does not tell its memory is asked: its engine finds out.
    let Some(memory) = device.memory_bytes else {
        return true;
    };
    let there = || (0..models.len()).filter(|other| here[*other] || *other == model);
    let share = memory / there().count().max(1) as u64;
    there().all(|other| models[other].needed_bytes.unwrap_or(0) <= share)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GB: u64 = 1_000_000_000;

    fn model(gigabytes: u64) -> Model {
        Model {
            needed_bytes: Some(gigabytes * GB),
            served: true,
            asked: 0,
        }
    }

    fn gpu(gigabytes: u64) -> Device {
        Device {
            memory_bytes: Some(gigabytes * GB),
            is_cpu: false,
        }
    }

    /// A word for each device, with a letter for each model on it.
    fn words(devices: &[u64], models: &[Model]) -> String {
        let devices: Vec<_> = devices.iter().map(|memory| gpu(*memory)).collect();
        let placed = place(&devices, models);
        let words = placed.iter().map(|models| {
            let letters = models.iter().zip('a'..).filter(|(here, _)| **here);
            letters.map(|(_, letter)| letter).collect::<String>()
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn placements_as_a_table() {
        let unserved = Model {
            served: false,
            ..model(4)
        };
        let asked = Model {
            asked: 9,
            ..model(4)
        };
        let cases = [
            (
                "one device has them all",
                vec![8],
                vec![model(4), model(40)],
                "ab",
            ),
            (
                "one model is everywhere",
                vec![8, 24],
                vec![model(4)],
                "a a",
            ),
            ("where it fits", vec![8, 24], vec![model(20)], " a"),
            (
                "the large one has the large card for itself",
                vec![8, 24],
                vec![model(4), model(20)],
                "a b",
            ),
            (
                "both everywhere where there is room",
                vec![24, 24],
                vec![model(4), model(10)],
                "ab ab",
            ),
            (
                "one each where there is none",
                vec![8, 8],
                vec![model(6), model(7)],
                "b a",
            ),
            (
                "too large for each: the largest says so",
                vec![8, 24],
                vec![model(40)],
                " a",
            ),
            (
                "what nobody asks for is loaded once",
                vec![24, 24],
                vec![unserved, model(4)],
                "b ab",
            ),
            (
                "what is asked for most comes first",
                vec![8, 8, 8],
                vec![model(4), model(4), asked],
                "ac bc ac",
            ),
            ("no model", vec![8, 8], vec![], " "),
        ];
        for (what, devices, models, expected) in cases {
            assert_eq!(words(&devices, &models), expected, "{what}");
        }
    }

    #[test]
    fn a_device_that_does_not_tell_its_memory_is_asked() {
        let silent = Device {
            memory_bytes: None,
            is_cpu: false,
        };
        assert_eq!(place(&[silent, gpu(1)], &[model(4)]), [[true], [false]]);
    }

    #[test]
    fn the_processor_comes_last() {
        let processor = Device {
            is_cpu: true,
            ..gpu(32)
        };
        let unserved = |gigabytes| Model {
            served: false,
            ..model(gigabytes)
        };
        let placed = place(
            &[processor, gpu(8)],
            &[unserved(3), unserved(4), unserved(20)],
        );
        assert_eq!(placed, [[false, false, true], [true, true, false]]);
    }

    proptest! {
        #[test]
        fn every_model_has_a_device_and_none_takes_anothers_room(
            devices in prop::collection::vec(1_u64..64, 2..6),
            models in prop::collection::vec((1_u64..64, any::<bool>(), 0_u32..9), 1..6),
        ) {
            let devices: Vec<_> = devices.iter().map(|memory| gpu(*memory)).collect();
            let models: Vec<_> = models
                .iter()
                .map(|(size, served, asked)| Model { served: *served, asked: *asked, ..model(*size) })
                .collect();
            let placed = place(&devices, &models);
            for (index, model) in models.iter().enumerate() {
                let homes = placed.iter().filter(|here| here[index]).count();
                prop_assert!(homes >= 1);
                prop_assert!(model.served || homes == 1);
            }
            let memories = || devices.iter().filter_map(|device| device.memory_bytes);
            let largest = memories().max();
            for (memory, here) in memories().zip(&placed) {
                let sizes = here.iter().zip(&models).filter(|(here, _)| **here);
                let sizes: Vec<_> = sizes.filter_map(|(_, model)| model.needed_bytes).collect();
                let share = memory / sizes.len().max(1) as u64;
                // Only the largest is told of a model that fits nowhere.
                prop_assert!(
                    Some(memory) == largest || sizes.iter().all(|size| *size <= share)
                );
            }
        }
    }
}
