//! The devices that compute: what each has, and whether it may work.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use infera_engine::device;
use infera_engine::message::DeviceChoice;
use infera_protocol::ModelId;
use infera_protocol::node_api::WorkKind;
use infera_protocol::requirements::{GpuKind, Hardware};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Controller;
use super::engines::Slot;
use crate::governor::gpu_rules::{GpuGuest, decide_gpu};
use crate::governor::{Decision, Mode, Pause, Reason, decide_device};
use crate::gpu;
use crate::placement::{self, place};
use crate::state::{DeviceModel, DeviceStatus, WorkInProgress};

/// One of the devices that the settings name.
pub(super) struct Device {
    choice: DeviceChoice,
    /// None until the hardware is known.
    found: Option<Found>,
    pub(super) decision: Decision,
    /// What the rules about GPUs are held against.
    guest: GpuGuest,
}

/// What of the hardware a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    /// [`crate::gpu::Adapter::id`], `cpu`, or what was asked for and is not there.
    id: String,
    name: String,
    /// What it has in all; none where it does not tell.
    memory_bytes: Option<u64>,
    standing: Standing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Gpu,
    Cpu,
    /// It is not there, or not any more.
    Missing,
    /// One of the devices before it is the same.
    Again,
}

/// What the person wants left alone, and until when.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pauses {
    /// The whole node.
    pub(super) node: Option<Pause>,
    /// Devices by [`DeviceStatus::id`].
    pub(super) devices: BTreeMap<String, Pause>,
}

/// When it was last decided which models are where, and on what grounds.
#[derive(Default)]
pub(super) struct Placement {
    decided: Option<Instant>,
    /// How often the network offered jobs for each model lately.
    asked: HashMap<ModelId, u32>,
}

/// Models are moved at most so often: loading one takes its device's time.
const MOVE_EVERY: Duration = Duration::from_mins(5);

impl Device {
    pub(super) fn new(choice: DeviceChoice, decision: Decision) -> Self {
        Self {
            choice,
            found: None,
            decision,
            guest: GpuGuest::default(),
        }
    }

    pub(super) fn choice(&self) -> &DeviceChoice {
        &self.choice
    }

    /// [`DeviceStatus::id`]; empty until the hardware is known.
    pub(super) fn id(&self) -> &str {
        self.found.as_ref().map_or("", |found| &found.id)
    }

    fn standing(&self) -> Option<Standing> {
        self.found.as_ref().map(|found| found.standing)
    }
}

/// What each choice is on this hardware.
fn find(choices: &[&DeviceChoice], hardware: &Hardware) -> Vec<Found> {
    let ids = device::ids(&hardware.gpus);
    let mut found: Vec<Found> = Vec::new();
    for choice in choices {
        let mut one = match (gpu::chosen(&hardware.gpus, choice), choice) {
            (Some(index), _) => Found {
                id: ids[index].clone(),
                name: hardware.gpus[index].name.clone(),
                memory_bytes: hardware.gpus[index].vram_bytes,
                standing: if hardware.gpus[index].kind == GpuKind::Software {
                    Standing::Cpu
                } else {
                    Standing::Gpu
                },
            },
            (None, DeviceChoice::Adapter(asked) | DeviceChoice::Named(asked)) => Found {
                id: asked.clone(),
                name: asked.clone(),
                memory_bytes: None,
                standing: Standing::Missing,
            },
            (None, DeviceChoice::Cpu | DeviceChoice::Auto | DeviceChoice::AutoExcept(_)) => Found {
                id: "cpu".to_owned(),
                name: hardware.cpu.clone(),
                memory_bytes: hardware.ram_bytes.map(|bytes| bytes / 2),
                standing: Standing::Cpu,
            },
        };
        if found.iter().any(|other| other.id == one.id) {
            one.standing = Standing::Again;
        }
        found.push(one);
    }
    found
}

impl Controller {
    /// The hardware is known, or was looked at again.
    pub(super) fn find_devices(&mut self) {
        let Some(hardware) = &self.hardware else {
            return;
        };
        let choices: Vec<_> = self.devices.iter().map(Device::choice).collect();
        let found = find(&choices, hardware);
        for (index, found) in found.into_iter().enumerate() {
            let device = &mut self.devices[index];
            if device.found.as_ref() == Some(&found) {
                continue;
            }
            if found.standing == Standing::Missing {
                tracing::warn!(device = found.name, "a chosen device is not there");
            }
            let was_missing = device.standing() == Some(Standing::Missing);
            device.found = Some(found);
            // Models go to where they can be computed at once.
            self.placement.decided = None;
            if was_missing {
                let slots = self.slots.iter_mut().filter(|slot| slot.device == index);
                slots.for_each(Slot::try_again);
            }
        }
        self.place_models(Instant::now());
    }

    /// Those that can compute. Where none can, the first one's engine says why.
    fn usable_devices(&self) -> Vec<usize> {
        let standing = |device: &usize| self.devices[*device].standing();
        let all = 0..self.devices.len();
        let usable: Vec<_> = all
            .clone()
            .filter(|device| matches!(standing(device), Some(Standing::Gpu | Standing::Cpu)))
            .collect();
        if usable.is_empty() {
            all.take(1).collect()
        } else {
            usable
        }
    }

    /// The network wants a job of a model done.
    pub(super) fn model_was_asked_for(&mut self, model: ModelId) {
        *self.placement.asked.entry(model).or_default() += 1;
    }

    /// Puts models on devices, and what the network asks for most where there is room. What is in use
    /// moves when it is not any more.
    pub(super) fn place_models(&mut self, now: Instant) {
        let settled = self
            .placement
            .decided
            .is_some_and(|decided| now < decided + MOVE_EVERY);
        if settled || self.hardware.is_none() {
            return;
        }
        let devices = self.usable_devices();
        let wanted = place(
            &devices
                .iter()
                .map(|device| self.for_placement(*device))
                .collect::<Vec<_>>(),
            &self.models_to_place(),
        );
        let mut placed = vec![false; self.slots.len()];
        for (models, device) in wanted.iter().zip(devices) {
            for (model, is_placed) in models.iter().enumerate() {
                placed[self.slot_of(device, model)] = *is_placed;
            }
        }
        let mut changed = vec![false; self.devices.len()];
        for (slot, is_placed) in self.slots.iter_mut().zip(placed) {
            changed[slot.device] |= slot.placed != is_placed;
            slot.placed = is_placed;
        }
        // What did not fit may, where the shares are others.
        let moved = self.slots.iter_mut().filter(|slot| changed[slot.device]);
        moved.for_each(Slot::try_again);
        self.placement.decided = Some(now);
        // What was asked for long ago counts ever less, and what never is any more not at all.
        self.placement.asked.retain(|_, asked| {
            *asked /= 2;
            *asked > 0
        });
    }

    fn for_placement(&self, device: usize) -> placement::Device {
        placement::Device {
            memory_bytes: self.memory_of(device),
            is_cpu: self.devices[device].standing() == Some(Standing::Cpu),
        }
    }

    fn models_to_place(&self) -> Vec<placement::Model> {
        let served = self.network.served.as_deref();
        let to_place = self
            .config
            .models
            .iter()
            .enumerate()
            .map(|(model, config)| {
                let ids = (0..self.devices.len())
                    .filter_map(|device| self.slots[self.slot_of(device, model)].model());
                let ids: Vec<_> = ids.collect();
                placement::Model {
                    needed_bytes: config.needed_bytes,
                    // What is not known yet may be.
                    served: ids.is_empty()
                        || served.is_none_or(|served| {
                            served.iter().any(|offer| ids.contains(&offer.model))
                        }),
                    asked: ids
                        .iter()
                        .filter_map(|id| self.placement.asked.get(id))
                        .max()
                        .copied()
                        .unwrap_or(0),
                }
            });
        to_place.collect()
    }

    /// What a device has for models, without what is left to other programs.
    pub(super) fn memory_of(&self, device: usize) -> Option<u64> {
        let memory_bytes = self.devices[device].found.as_ref()?.memory_bytes?;
        Some(memory_bytes.saturating_sub(self.reserve_of(device)))
    }

    /// The same without what other programs hold of it now.
    pub(super) fn free_memory_of(&self, device: usize) -> Option<u64> {
        let seen = self.devices[device].guest.seen.as_ref();
        let others = seen.and_then(|seen| seen.vram_others_bytes).unwrap_or(0);
        Some(self.memory_of(device)?.saturating_sub(others))
    }

    fn reserve_of(&self, device: usize) -> u64 {
        match self.devices[device].standing() {
            Some(Standing::Gpu) => self
                .config
                .models
                .first()
                .map_or(0, |model| model.reserve_bytes),
            _ => 0,
        }
    }

    /// The slot of a model on a device: there is one for each pair, so that none changes its place.
    pub(super) fn slot_of(&self, device: usize, model: usize) -> usize {
        device * self.config.models.len() + model
    }

    /// Each device's decision, given the node's.
    pub(super) fn decide_devices(&mut self, node: &Decision) {
        let now_ms = self.now_ms();
        let gpus = self.edges.around.gpus.borrow_and_update().clone();
        let rules = self.config.governor.rules.gpu;
        for index in 0..self.devices.len() {
            let reserve_bytes = self.reserve_of(index);
            let running = self.work_on(index);
            let device = &mut self.devices[index];
            let pause = self.pauses.borrow().devices.get(device.id()).copied();
            let seen = gpus.iter().find(|gpu| gpu.adapter == device.id()).cloned();
            device.guest.reserve_bytes = reserve_bytes;
            device.guest.anyway_until_ms = self.anyway_until_ms;
            device.guest.see(&rules, seen, now_ms);
            let by_rules = decide_gpu(&rules, &device.guest, now_ms);
            device.guest.held.clone_from(&by_rules.held);
            let policy = &self.config.governor;
            let decision = decide_device(node, pause, &by_rules, running, policy, now_ms);
            if device.decision.mode != decision.mode {
                tracing::debug!(device = device.id(), mode = ?decision.mode, "a device's mode changes");
            }
            device.decision = decision;
        }
    }

    /// What those decide that can compute.
    pub(super) fn decisions_of_devices(&self) -> Vec<Decision> {
        let devices = self.usable_devices().into_iter();
        devices
            .map(|device| self.devices[device].decision.clone())
            .collect()
    }

    /// Jobs, audits and claims in progress on a device.
    fn work_on(&self, device: usize) -> usize {
        (0..self.slots.len())
            .filter(|slot| self.slots[*slot].device == device)
            .map(|slot| self.work.load_of(slot) as usize)
            .sum()
    }

    /// Brings each device in line with its decision.
    pub(super) fn act_on_devices(&mut self, now: Instant) {
        self.follow_offers();
        let all = 0..self.slots.len();
        let busy: Vec<_> = all
            .clone()
            .map(|slot| self.work.load_of(slot) > 0)
            .collect();
        for index in all.filter(|slot| !busy[*slot]) {
            if !self.slots[index].placed || self.has_outdated_share(index) {
                self.slots[index].stop();
            }
        }
        for device in 0..self.devices.len() {
            let decision = &self.devices[device].decision;
            let (mode, reason) = (decision.mode, hand_back_reason(decision.reason.as_ref()));
            if mode >= Mode::StopNow {
                self.hand_back_from(device, reason);
            }
            let gives_way = self.waits_for_memory(device);
            match mode {
                Mode::Run => self.start_engines(now, |index, slot| {
                    slot.device == device && (busy[index] || slot.placed && !gives_way)
                }),
                Mode::Drain => {
                    self.start_engines(now, |index, slot| slot.device == device && busy[index]);
                }
                Mode::StopNow => {}
                Mode::ReleaseGpu => self.stop_engines(device),
            }
        }
    }

    /// Whether memory of a device is still held that is for others.
    fn waits_for_memory(&self, device: usize) -> bool {
        (0..self.slots.len()).any(|index| {
            let slot = &self.slots[index];
            slot.device == device && (slot.is_ending() || self.has_outdated_share(index))
        })
    }

    /// The devices as they are shown.
    pub(super) fn device_statuses(&self, work: &[WorkInProgress]) -> Vec<DeviceStatus> {
        let served = self.network.served.as_deref();
        let shown = self
            .devices
            .iter()
            .enumerate()
            .filter_map(|(index, device)| Some((index, device, device.found.as_ref()?)))
            .filter(|(_, _, found)| found.standing != Standing::Again);
        shown
            .map(|(index, device, found)| {
                let here = || work.iter().filter(|item| item.device == found.id);
                let jobs = here().filter(|item| item.kind == WorkKind::Job).count() as u32;
                let rates: Vec<_> = here().filter_map(|job| job.tokens_per_second).collect();
                let slots = self.slots.iter().filter(|slot| slot.device == index);
                DeviceStatus {
                    id: found.id.clone(),
                    name: found.name.clone(),
                    missing: found.standing == Standing::Missing,
                    paused: self.pauses.borrow().devices.contains_key(&found.id),
                    mode: device.decision.mode,
                    reason: device.decision.reason.clone(),
                    held: device.decision.held.clone(),
                    seen: device.guest.seen.clone(),
                    models: slots
                        .filter(|slot| slot.placed)
                        .map(|slot| DeviceModel {
                            name: slot.name(served),
                            engine: slot.engine_status(),
                        })
                        .collect(),
                    jobs,
                    audits: here().count() as u32 - jobs,
                    tokens_per_second: (!rates.is_empty()).then(|| rates.iter().sum()),
                }
            })
            .collect()
    }
}

/// What the balancer is told of work that comes back.
fn hand_back_reason(reason: Option<&Reason>) -> &'static str {
    match reason {
        Some(Reason::Paused { .. }) => "paused by the user",
        Some(Reason::Closing) => "the node is closing",
        Some(Reason::OwnUse | Reason::Rule { .. }) => "its owner needs the machine",
        Some(Reason::StorageFault { .. }) => "the node cannot write to its disk",
        _ => "the node has stopped working",
    }
}

#[cfg(test)]
mod tests {
    use infera_protocol::requirements::Gpu;

    use super::*;

    fn gpu(name: &str, pci_id: &str) -> Gpu {
        Gpu {
            name: name.to_owned(),
            kind: GpuKind::Discrete,
            api: "Vulkan".to_owned(),
            driver: String::new(),
            pci_id: Some(pci_id.to_owned()),
            vram_bytes: Some(8 << 30),
        }
    }

    #[test]
    fn what_each_choice_is_as_a_table() {
        let hardware = Hardware {
            cpu: "A processor".to_owned(),
            ram_bytes: Some(32 << 30),
            gpus: vec![gpu("Card", "0000:01:00.0"), gpu("Card", "0000:02:00.0")],
            ..Hardware::default()
        };
        let named = |name: &str| DeviceChoice::Named(name.to_owned());
        let exactly = |id: &str| DeviceChoice::Adapter(id.to_owned());
        let (first, second) = ("0000:01:00.0", "0000:02:00.0");
        let cases = [
            (vec![DeviceChoice::Auto], vec![(first, Standing::Gpu)]),
            (
                // Two cards of one name, by number and by place.
                vec![named("1"), exactly(first)],
                vec![(second, Standing::Gpu), (first, Standing::Gpu)],
            ),
            (
                vec![named("card"), DeviceChoice::Auto, DeviceChoice::Cpu],
                vec![
                    (first, Standing::Gpu),
                    (first, Standing::Again),
                    ("cpu", Standing::Cpu),
                ],
            ),
            (
                vec![exactly("0000:05:00.0"), exactly(second)],
                vec![("0000:05:00.0", Standing::Missing), (second, Standing::Gpu)],
            ),
            (
                vec![DeviceChoice::AutoExcept(vec![
                    first.to_owned(),
                    second.to_owned(),
                ])],
                vec![("cpu", Standing::Cpu)],
            ),
        ];
        for (choices, expected) in cases {
            let found = find(&choices.iter().collect::<Vec<_>>(), &hardware);
            let found: Vec<_> = found
                .iter()
                .map(|found| (&*found.id, found.standing))
                .collect();
            assert_eq!(found, expected, "{choices:?}");
        }
    }
}
