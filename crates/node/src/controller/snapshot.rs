//! What others are told of the node: the balancer its state, everybody here the snapshot.

use std::collections::BTreeMap;
use std::time::Duration;

use infera_protocol::ModelId;
use infera_protocol::account::MachineReport;
use infera_protocol::node_api::{NodeState, WorkKind};
use infera_protocol::requirements::Hardware;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Controller, PUBLISH_INTERVAL};
use crate::account::report::report;
use crate::governor::Mode;
use crate::state::{ModelStatus, NodeSnapshot, State, Summary, WorkInProgress, describe};

/// Where it is told.
pub(super) struct Outlets {
    pub(super) snapshots: watch::Sender<NodeSnapshot>,
    pub(super) state: watch::Sender<NodeState>,
    pub(super) session_timeout: watch::Sender<Duration>,
    pub(super) hardware: watch::Sender<Hardware>,
    /// For the owner of the account, where there is one.
    pub(super) report: Option<MachineReport>,
    pub(super) publish_at: Option<Instant>,
    pub(super) published: Option<Instant>,
}

impl Controller {
    /// What the balancer is to know; sent when it changes.
    pub(super) fn tell_state(&mut self) {
        let Some(mut hardware) = self.hardware.clone() else {
            return;
        };
        // Every file written would be news otherwise.
        hardware.free_disk_bytes = hardware.free_disk_bytes.map(|bytes| bytes >> 27 << 27);
        let running = self.decision.mode == Mode::Run;
        let (models, context_tokens) = self.capacities().into_iter().unzip();
        let state = NodeState {
            models,
            context_tokens,
            free_slots: (0..self.slots.len())
                .filter(|slot| self.may_work(*slot))
                .map(|slot| self.free_in(slot))
                .sum(),
            paused: (!running).then(|| {
                let clock = &*self.edges.clock;
                let state = describe(&self.snapshot_without_state(), clock);
                State::new(state.summary.in_public(), clock).sentence
            }),
            hardware,
            report: self.outlets.report.clone(),
        };
        self.outlets.state.send_if_modified(|current| {
            let changed = *current != state;
            *current = state;
            changed
        });
    }

    /// Each model that can be computed, with the tokens that one job may have on the roomiest of its
    /// devices. While one device rests the others speak for the node.
    fn capacities(&self) -> BTreeMap<ModelId, u32> {
        let running = self.decision.mode == Mode::Run;
        let slots = (0..self.slots.len()).filter(|slot| !running || self.may_work(*slot));
        let mut capacities = BTreeMap::new();
        for (model, tokens) in slots.filter_map(|slot| self.slots[slot].capacity()) {
            let most = capacities.entry(model).or_insert(0);
            *most = tokens.max(*most);
        }
        capacities
    }

    pub(super) fn publish(&mut self, now: Instant) {
        let due = self.outlets.published.map(|last| last + PUBLISH_INTERVAL);
        self.outlets.publish_at = due.filter(|due| now < *due);
        if self.outlets.publish_at.is_some() {
            return;
        }
        let snapshot = self.snapshot();
        let told = self.outlets.report.take();
        self.outlets.report = report(
            &self.edges.around.belonging.borrow_and_update(),
            &snapshot.devices,
            told.as_ref(),
            &*self.edges.clock,
        );
        let changed = self.outlets.snapshots.send_if_modified(|current| {
            let changed = *current != snapshot;
            if changed && current.state.sentence != snapshot.state.sentence {
                tracing::debug!(state = snapshot.state.sentence, "state");
            }
            *current = snapshot;
            changed
        });
        if changed {
            self.outlets.published = Some(now);
        }
    }

    pub(super) fn snapshot(&self) -> NodeSnapshot {
        let mut snapshot = self.snapshot_without_state();
        if self.hardware.is_some() || self.decision.reason.is_some() {
            snapshot.state = describe(&snapshot, &*self.edges.clock);
        }
        snapshot
    }

    fn snapshot_without_state(&self) -> NodeSnapshot {
        let work = self.work_in_progress();
        NodeSnapshot {
            node: self.key.id(),
            software: crate::SOFTWARE.to_owned(),
            balancer: self.edges.balancer_url().to_owned(),
            state: State::new(Summary::ReadingHardware, &*self.edges.clock),
            decision: self.decision.clone(),
            connection: self.network.connection.clone(),
            models: (0..self.config.models.len())
                .filter_map(|model| self.model_status(model))
                .collect(),
            devices: self.device_statuses(&work),
            work,
            points: self.network.points,
            hardware: self.hardware.clone(),
            policy: self.policy().map(|policy| policy.name),
            requirements: self.requirements(),
            offers: self.network.served.clone(),
            surroundings: self.edges.around.seen.borrow().clone(),
            anyway_until_ms: self.anyway_until_ms,
            command: self.command.clone(),
        }
    }

    /// A model as its nearest engine has it. An engine that was never started knows less of the model
    /// than one that was.
    fn model_status(&self, model: usize) -> Option<ModelStatus> {
        let served = self.network.served.as_deref();
        let slots = (0..self.devices.len()).map(|device| &self.slots[self.slot_of(device, model)]);
        let known = slots.clone().find(|slot| slot.model().is_some());
        let nearest = slots.min_by_key(|slot| (!slot.placed, slot.nearness()))?;
        Some(ModelStatus {
            engine: nearest.engine_status(),
            ..known.unwrap_or(nearest).status(served)
        })
    }

    /// What occupies an engine or waits for one. A job that is only being delivered is over for who
    /// looks at the machine, and for the governor.
    fn work_in_progress(&self) -> Vec<WorkInProgress> {
        let jobs = self.unfinished_jobs().map(|job| {
            let spec = job.production.spec();
            WorkInProgress {
                kind: WorkKind::Job,
                id: spec.job.to_string(),
                model: self.slots[job.slot].name(self.network.served.as_deref()),
                device: self.device_of(job.slot),
                input_tokens: spec.task.input_tokens(),
                output_tokens: job.production.position(),
                max_tokens: spec.task.most_output_tokens(),
                tokens_per_second: job.production.tokens_per_second(),
                started_ms: job.started_ms,
            }
        });
        let audits = self.work.audits.iter().map(|(id, audit)| WorkInProgress {
            kind: WorkKind::Audit,
            id: id.to_string(),
            model: self.slots[audit.slot].name(self.network.served.as_deref()),
            device: self.device_of(audit.slot),
            input_tokens: audit.tokens,
            output_tokens: 0,
            max_tokens: 0,
            tokens_per_second: None,
            started_ms: audit.started_ms,
        });
        jobs.chain(audits).collect()
    }
}
