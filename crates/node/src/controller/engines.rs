//! The engines: one child process for each model on each device, started again when it dies.

use std::sync::Arc;
use std::time::Duration;

use infera_engine::confinement::describe;
use infera_engine::message::{Command, Event, Failure, FailureCode, Load, Loaded};
use infera_protocol::node_api::ModelOffer;
use infera_protocol::{ModelId, Profile, shown};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::work::Duty;
use super::{Controller, EngineInput, Input};
use crate::clock::{Backoff, Entropy};
use crate::engine_link::{Engine, EngineError};
use crate::governor::Mode;
use crate::model_fault::ModelFault;
use crate::node_config::ModelConfig;
use crate::state::{EngineStatus, ModelStatus};

/// A model on a device, and its engine.
pub(super) struct Slot {
    config: ModelConfig,
    /// Which of the devices it is on.
    pub(super) device: usize,
    /// Whether its model is to be on its device.
    pub(super) placed: bool,
    /// What its engines load the model in.
    profile: Profile,
    phase: Phase,
    /// Counts engines: what an earlier one still says is ignored.
    epoch: u64,
    commands: Option<mpsc::UnboundedSender<Command>>,
    /// By how many models its device's memory was divided when its engine was told to load.
    sharing: usize,
    /// What the last successful load told; the name outlives the engine.
    loaded: Option<Loaded>,
    /// Deaths since it last did something useful.
    deaths: u32,
    /// What it said before it died.
    last_words: Option<Failure>,
    load_fault: Option<String>,
    backoff: Backoff,
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Off,
    Loading {
        done_bytes: u64,
        total_bytes: u64,
    },
    Tuning {
        done: u32,
        total: u32,
    },
    Ready,
    Waiting {
        until: Instant,
        fault: ModelFault,
    },
    Broken {
        fault: ModelFault,
    },
    /// It was told to end and has not yet.
    Ending,
}

impl Slot {
    pub(super) fn new(config: ModelConfig, device: usize, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            config,
            device,
            placed: false,
            profile: Profile::default(),
            phase: Phase::Off,
            epoch: 0,
            commands: None,
            sharing: 1,
            loaded: None,
            deaths: 0,
            last_words: None,
            load_fault: None,
            backoff: Backoff::new(entropy),
        }
    }

    /// The model, while jobs for it can be computed.
    pub(super) fn ready_model(&self) -> Option<ModelId> {
        (self.phase == Phase::Ready)
            .then(|| self.loaded.as_ref().map(|loaded| loaded.model))
            .flatten()
    }

    /// Whether it can compute so many tokens, prompt and output together, of a model.
    pub(super) fn fits(&self, model: ModelId, tokens: u32) -> bool {
        self.capacity()
            .is_some_and(|(ready, room)| ready == model && tokens <= room)
    }

    /// The model, while jobs for it can be computed, and how many tokens one may have. The texts of
    /// an embedding are each of their own, and the balancer keeps them within the context.
    pub(super) fn capacity(&self) -> Option<(ModelId, u32)> {
        let model = self.ready_model()?;
        let loaded = self.loaded.as_ref()?;
        let room = if loaded.embeds {
            u32::MAX
        } else {
            loaded.context_tokens
        };
        Some((model, room))
    }

    /// The model in its profile, if it was ever loaded.
    pub(super) fn model(&self) -> Option<ModelId> {
        self.loaded.as_ref()?.id_in(self.profile)
    }

    pub(super) fn backend(&self) -> String {
        self.loaded
            .as_ref()
            .map_or_else(String::new, |loaded| loaded.device.backend.clone())
    }

    pub(super) fn sequences(&self) -> u32 {
        self.config.sequences
    }

    pub(super) fn is_stopped(&self) -> bool {
        matches!(
            self.phase,
            Phase::Off | Phase::Broken { .. } | Phase::Waiting { .. }
        )
    }

    /// Whether its engine is still there after it was told to end.
    pub(super) fn is_ending(&self) -> bool {
        self.phase == Phase::Ending
    }

    /// Why its last engine did not load the model; none where it did.
    pub(super) fn load_fault(&self) -> Option<&str> {
        self.load_fault.as_deref()
    }

    pub(super) fn restart_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { until, .. } => Some(until),
            _ => None,
        }
    }

    /// The user has changed something: a broken model may be whole now.
    pub(super) fn try_again(&mut self) {
        if matches!(self.phase, Phase::Broken { .. } | Phase::Waiting { .. }) {
            self.phase = Phase::Off;
        }
        self.deaths = 0;
        self.backoff.reset();
    }

    /// The name that clients use, else the file's own, else the file's name.
    pub(super) fn name(&self, served: Option<&[ModelOffer]>) -> String {
        let offer = self
            .model()
            .and_then(|model| served?.iter().find(|offer| offer.model == model));
        let name = match (offer, &self.loaded) {
            (Some(offer), _) => offer.name.as_str().into(),
            (None, Some(loaded)) if !loaded.name.is_empty() => loaded.name.as_str().into(),
            _ => {
                let file = self.config.path.file_name();
                file.unwrap_or_default().to_string_lossy()
            }
        };
        shown::line(&name).into_owned()
    }

    /// Whether the network serves the model; none while that is unknown.
    pub(super) fn is_served(&self, served: Option<&[ModelOffer]>) -> Option<bool> {
        let (model, served) = self.model().zip(served)?;
        Some(served.iter().any(|offer| offer.model == model))
    }

    pub(super) fn status(&self, served: Option<&[ModelOffer]>) -> ModelStatus {
        ModelStatus {
            name: self.name(served),
            id: self.model(),
            served: self.is_served(served),
            device: self.loaded.as_ref().map(|loaded| loaded.device.clone()),
            engine: self.engine_status(),
        }
    }

    pub(super) fn engine_status(&self) -> EngineStatus {
        match &self.phase {
            Phase::Off | Phase::Ending => EngineStatus::Off,
            Phase::Loading {
                done_bytes,
                total_bytes,
            } => EngineStatus::Loading {
                done_bytes: *done_bytes,
                total_bytes: *total_bytes,
            },
            Phase::Tuning { done, total } => EngineStatus::Tuning {
                done: *done,
                total: *total,
            },
            Phase::Ready => EngineStatus::Ready,
            Phase::Waiting { until, fault } => EngineStatus::Restarting {
                fault: fault.clone(),
                retry_in_ms: until.saturating_duration_since(Instant::now()).as_millis() as u64,
            },
            Phase::Broken { fault } => EngineStatus::Broken {
                fault: fault.clone(),
            },
        }
    }

    /// Which of several engines of one model says most of it: the one that computes, else the one
    /// that is nearest to it.
    pub(super) fn nearness(&self) -> u8 {
        match self.phase {
            Phase::Ready => 0,
            Phase::Tuning { .. } | Phase::Loading { .. } => 1,
            Phase::Waiting { .. } => 2,
            Phase::Off | Phase::Ending => 3,
            Phase::Broken { .. } => 4,
        }
    }

    /// The profile that the network serves the model in, where that is another one than its own.
    fn profile_elsewhere(&self, served: &[ModelOffer]) -> Option<Profile> {
        let lists = |model| served.iter().any(|offer| offer.model == model);
        if lists(self.model()?) {
            return None;
        }
        let ids = &self.loaded.as_ref()?.ids;
        let (profile, _) = ids.iter().find(|(_, model)| lists(*model))?;
        Some(*profile)
    }

    fn send(&self, command: Command) {
        if let Some(commands) = &self.commands {
            // An engine that has just died says so itself.
            let _ = commands.send(command);
        }
    }

    pub(super) fn stop(&mut self) {
        if self.commands.take().is_some() {
            self.phase = Phase::Ending;
        } else if matches!(self.phase, Phase::Waiting { .. }) {
            self.phase = Phase::Off;
        }
    }

    /// The engine is gone without having been asked. The first restart is at once: a job may be
    /// waiting for it.
    fn died(&mut self, fault: ModelFault) {
        self.commands = None;
        self.deaths += 1;
        let delay = if self.deaths == 1 {
            Duration::ZERO
        } else {
            self.backoff.next_delay()
        };
        self.phase = Phase::Waiting {
            until: Instant::now() + delay,
            fault,
        };
    }
}

impl Controller {
    /// Not before the hardware is known: how much memory a model may have depends on it.
    pub(super) fn start_engines(&mut self, now: Instant, wanted: impl Fn(usize, &Slot) -> bool) {
        if self.hardware.is_none() {
            return;
        }
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            let due = match slot.phase {
                Phase::Off => true,
                Phase::Waiting { until, .. } => until <= now,
                _ => false,
            };
            if !due || !wanted(index, slot) {
                continue;
            }
            slot.epoch += 1;
            slot.phase = Phase::Loading {
                done_bytes: 0,
                total_bytes: 0,
            };
            let epoch = slot.epoch;
            let start = self.edges.engine.start();
            self.report(async move {
                Input::Engine {
                    slot: index,
                    epoch,
                    event: EngineInput::Started(start.await),
                }
            });
        }
    }

    /// The owner wants more quiet, or less.
    pub(super) fn set_duty(&self, percent: u8) {
        for slot in &self.slots {
            slot.send(Command::Duty { percent });
        }
    }

    /// Has a model that is served in another profile than its own loaded in that, once nothing is
    /// computed on it.
    pub(super) fn follow_offers(&mut self) {
        let Some(served) = &self.network.served else {
            return;
        };
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            let settled = matches!(
                slot.phase,
                Phase::Off | Phase::Ready | Phase::Waiting { .. }
            );
            if settled
                && self.work.load_of(index) == 0
                && let Some(profile) = slot.profile_elsewhere(served)
            {
                let slot = &mut self.slots[index];
                tracing::info!(model = %slot.name(None), %profile, "the network serves it in this profile");
                slot.profile = profile;
                slot.stop();
            }
        }
    }

    pub(super) fn stop_engines(&mut self, device: usize) {
        let slots = self.slots.iter_mut().filter(|slot| slot.device == device);
        slots.for_each(Slot::stop);
    }

    pub(super) fn on_engine(&mut self, index: usize, epoch: u64, event: EngineInput) {
        if self.slots[index].epoch != epoch {
            return;
        }
        match event {
            EngineInput::Started(Ok(engine)) => self.on_engine_started(index, epoch, engine),
            EngineInput::Started(Err(error)) => self.on_engine_died(index, error.into()),
            EngineInput::Event(event) => self.on_engine_event(index, *event),
            EngineInput::Ended => self.on_engine_ended(index),
        }
    }

    fn on_engine_started(&mut self, index: usize, epoch: u64, mut engine: Engine) {
        let device = self.slots[index].device;
        let sharing = self.models_on(device);
        // An even share of what the device has for models.
        let memory_bytes = self
            .free_memory_of(device)
            .map(|bytes| bytes / sharing as u64);
        let slot = &mut self.slots[index];
        slot.sharing = sharing;
        slot.commands = Some(engine.commands);
        slot.send(Command::Load(Load {
            path: slot.config.path.clone(),
            profile: slot.profile,
            device: self.devices[slot.device].choice().clone(),
            context_tokens: slot.config.context_tokens,
            sequences: slot.config.sequences,
            memory_bytes,
            tunings: slot.config.tunings.clone(),
        }));
        // Never the first: that one says what the child may touch.
        slot.send(Command::Duty {
            percent: self.config.governor.rules.gpu.duty_percent,
        });
        let input = self.input.clone();
        self.tasks.spawn(async move {
            let to_input = |event| Input::Engine {
                slot: index,
                epoch,
                event,
            };
            while let Some(event) = engine.events.recv().await {
                let _ = input.send(to_input(EngineInput::Event(Box::new(event))));
            }
            let _ = input.send(to_input(EngineInput::Ended));
        });
    }

    /// By how many models a device's memory is divided.
    fn models_on(&self, device: usize) -> usize {
        let here = self.slots.iter().filter(|slot| slot.device == device);
        here.filter(|slot| slot.placed).count().max(1)
    }

    /// Whether a slot's engine holds another share of its device's memory than it is to have: its
    /// model moved away, or others came or went. It takes nothing new, and is loaded again, if at
    /// all, once nothing is computed on it.
    pub(super) fn has_outdated_share(&self, index: usize) -> bool {
        let slot = &self.slots[index];
        let is_even = || slot.sharing == self.models_on(slot.device);
        slot.commands.is_some()
            && !(slot.placed && (is_even() || self.memory_of(slot.device).is_none()))
    }

    fn on_engine_ended(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if slot.phase == Phase::Ending {
            slot.phase = Phase::Off;
            slot.deaths = 0;
            slot.backoff.reset();
        } else if !slot.is_stopped() {
            tracing::warn!(model = %slot.name(None), "the engine ended by itself");
            let said = slot.last_words.take();
            let fault = said.map_or_else(|| EngineError::Ended.into(), ModelFault::from);
            self.on_engine_died(index, fault);
        }
        for work in self.work.take_from_engine(index) {
            self.engine_failed(work, "the engine stopped");
        }
    }

    /// Work waits for the next engine, unless this one did not even load the model.
    fn on_engine_died(&mut self, index: usize, fault: ModelFault) {
        let slot = &mut self.slots[index];
        let was_ready = slot.phase == Phase::Ready;
        slot.died(fault.clone());
        if !was_ready {
            self.hand_back_slot(index, fault.message);
        }
    }

    /// Nothing computes a slot's work any more, nor will soon: it is somebody else's.
    fn hand_back_slot(&mut self, index: usize, load_fault: String) {
        let reason = format!("the engine cannot load the model: {load_fault}");
        self.slots[index].load_fault = Some(load_fault);
        let jobs = self.work.jobs.iter().filter(|(_, job)| job.slot == index);
        for key in jobs.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.release(key, &reason);
        }
        let audits = self
            .work
            .audits
            .iter()
            .filter(|(_, audit)| audit.slot == index);
        for audit in audits.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.decline(audit, &reason);
        }
    }

    fn on_engine_event(&mut self, index: usize, event: Event) {
        let slot = &mut self.slots[index];
        match event {
            Event::Started { version } => tracing::debug!(version, "the engine has started"),
            Event::Loading {
                done_bytes,
                total_bytes,
            } => {
                if let Phase::Loading { .. } = slot.phase {
                    slot.phase = Phase::Loading {
                        done_bytes,
                        total_bytes,
                    };
                }
            }
            Event::Tuning { done, total } => {
                if let Phase::Loading { .. } | Phase::Tuning { .. } = slot.phase {
                    slot.phase = Phase::Tuning { done, total };
                }
            }
            Event::Loaded(loaded) => {
                if let Phase::Loading { .. } | Phase::Tuning { .. } = slot.phase {
                    tracing::info!(
                        model = loaded.name,
                        id = %loaded.model,
                        profile = %loaded.profile,
                        device = loaded.device.name,
                        reason = loaded.device.reason,
                        load_ms = loaded.load_ms,
                        bounds = describe(&loaded.bounds),
                        "the model is loaded"
                    );
                    slot.phase = Phase::Ready;
                    slot.load_fault = None;
                    slot.loaded = Some(loaded);
                }
            }
            Event::Prefilled { id, tokens } => self.on_prefilled(id, tokens),
            Event::Tokens { id, tokens } => self.on_tokens(id, tokens),
            Event::Finished(finished) => {
                slot.deaths = 0;
                slot.backoff.reset();
                self.on_engine_finished(finished);
            }
            Event::Scored(scored) => {
                slot.deaths = 0;
                slot.backoff.reset();
                self.on_scored(scored);
            }
            Event::Embedded(embedded) => {
                slot.deaths = 0;
                slot.backoff.reset();
                self.on_embedded(embedded);
            }
            Event::Failed {
                id: Some(id),
                error,
            } => {
                if let Some(work) = self.work.take(id) {
                    tracing::warn!(%error, code = ?error.code, "the engine failed at its work");
                    // Both would fail again.
                    let is_final =
                        matches!(error.code, FailureCode::BadRequest | FailureCode::BadModel);
                    if is_final {
                        self.give_up(work, &error.message);
                    } else {
                        self.engine_failed(work, &error.message);
                    }
                }
            }
            Event::Failed { id: None, error } => self.on_load_failed(index, error),
            Event::Adapters { .. } | Event::Stats(_) | Event::ReadBandwidth { .. } => {}
        }
    }

    fn on_load_failed(&mut self, index: usize, error: Failure) {
        let slot = &mut self.slots[index];
        tracing::error!(%error, code = ?error.code, "the engine failed");
        if !matches!(slot.phase, Phase::Loading { .. } | Phase::Tuning { .. }) {
            slot.last_words = Some(error);
            return;
        }
        match error.code {
            FailureCode::Unreadable
            | FailureCode::Unsupported
            | FailureCode::BadModel
            | FailureCode::NoDevice
            | FailureCode::OutOfMemory => {
                let is_gone = error.code == FailureCode::NoDevice;
                let fault = ModelFault::from(error);
                slot.commands = None;
                slot.phase = Phase::Broken {
                    fault: fault.clone(),
                };
                self.hand_back_slot(index, fault.message);
                if is_gone && self.devices.len() > 1 {
                    // Its models may go to the others.
                    self.probe_hardware();
                }
            }
            FailureCode::DeviceLost
            | FailureCode::BadRequest
            | FailureCode::NotLoaded
            | FailureCode::Internal => self.on_engine_died(index, error.into()),
        }
    }

    /// How much more work a slot can take.
    pub(super) fn free_in(&self, index: usize) -> u32 {
        let slot = &self.slots[index];
        if slot.phase == Phase::Ready {
            slot.sequences().saturating_sub(self.work.load_of(index))
        } else {
            0
        }
    }

    /// Whether a slot may be given work now: its engine is to stay, and its device may work.
    pub(super) fn may_work(&self, index: usize) -> bool {
        let slot = &self.slots[index];
        let may_run = self.devices[slot.device].decision.mode == Mode::Run;
        may_run && slot.placed && !self.has_outdated_share(index)
    }

    /// Whether a slot may be given so many tokens of a model to compute.
    pub(super) fn takes_work(&self, index: usize, model: ModelId, tokens: u32) -> bool {
        self.may_work(index) && self.slots[index].fits(model, tokens)
    }

    /// [`crate::state::DeviceStatus::id`] of a slot's device.
    pub(super) fn device_of(&self, index: usize) -> String {
        self.devices[self.slots[index].device].id().to_owned()
    }

    /// Sends a request to a slot's engine, if it is ready for one.
    pub(super) fn ask_engine(
        &mut self,
        index: usize,
        duty: Duty,
        command: impl FnOnce(u64) -> Command,
    ) -> Option<u64> {
        let slot = &self.slots[index];
        if slot.phase != Phase::Ready {
            return None;
        }
        let id = self.work.begin(duty);
        slot.send(command(id));
        Some(id)
    }

    /// Takes work back from an engine: what it still says about it is ignored.
    pub(super) fn cancel_in_engine(&mut self, index: usize, id: u64) {
        if self.work.take(id).is_some() {
            self.slots[index].send(Command::Cancel { id });
        }
    }

    /// Asks an engine to stop and waits for its last word.
    pub(super) fn end_in_engine(&self, index: usize, id: u64) {
        self.slots[index].send(Command::Cancel { id });
    }

    /// The engine could not do it this time.
    pub(super) fn engine_failed(&mut self, duty: Duty, why: &str) {
        match duty {
            Duty::Job(key) => self.job_failed(key, why),
            Duty::Audit(audit) => self.audit_failed(audit, why),
        }
    }

    /// Trying again is no use.
    fn give_up(&mut self, duty: Duty, why: &str) {
        match duty {
            Duty::Job(key) => self.release(key, why),
            Duty::Audit(audit) => self.decline(audit, why),
        }
    }
}
