//! What the work takes from the wall: measured while it runs, written down now and then, and told in
//! money.

use std::time::Duration;

use jiff::Zoned;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::App;
use super::api::{ApiError, AppState};
use crate::books::{self, Consumption, Earnings, Unmeasured, cost};
use crate::governor::Mode;
use crate::gpu::{Activity, Adapter, AdapterStanding, Meter};
use crate::state::EngineStatus;
use crate::store::Store;

/// So much is lost when the program is killed.
const WRITES: Duration = Duration::from_mins(1);
/// Where no sample comes, the meter is asked again whether it wants any.
const ASKS: Duration = Duration::from_secs(1);
const WEEK: usize = 7;
const MONTH: usize = 30;

impl App {
    /// Adds to the earnings what was drawn for them.
    pub(super) async fn add_consumption(
        &self,
        earnings: &mut Earnings,
        store: &Store,
        now: &Zoned,
    ) -> Result<(), ApiError> {
        let starts = books::last_days(MONTH, now);
        let work = store.work_by_day(&starts).await?;
        let meter = self.0.meter.lock().await;
        let mut drawn = store.energy().await?;
        drawn.extend(meter.drawn());
        let unmeasured = self.unmeasured(&meter);
        drop(meter);
        let tariff = self.0.preferences.borrow().settings.electricity.clone();
        let days = cost::adapter_days(&drawn);
        cost::fill(&mut earnings.buckets, &days, &tariff);
        let span = |count: usize| {
            let first = starts.len().saturating_sub(count);
            cost::span(&starts[first..], &work[first..], &days, &tariff)
        };
        earnings.consumption = Consumption {
            unmeasured,
            today: span(1),
            week: span(WEEK),
            month: span(MONTH),
            tariff,
        };
        Ok(())
    }

    /// Measures until the program ends.
    pub(super) async fn keep_consumption(self, _writes: mpsc::Sender<()>) {
        let mut states = self.states();
        states.mark_changed();
        let mut own_use = self.0.owner.use_now();
        let mut samples = self.0.telemetry.samples();
        // The database is closed once the node has ended.
        let mut ending = self.0.ending.subscribe();
        let mut ended = std::pin::pin!(async { drop(ending.wait_for(|ending| *ending).await) });
        let mut writes = tokio::time::interval(WRITES);
        writes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watching = None;
        loop {
            let mut sample = None;
            tokio::select! {
                Ok(()) = states.changed() => {}
                Ok(()) = own_use.changed() => {}
                received = samples.recv() => match received {
                    Ok(received) => sample = Some(received),
                    // The meter sees the gap.
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                () = tokio::time::sleep(ASKS), if watching.is_some() => {}
                _ = writes.tick() => self.write_consumption().await,
                () = &mut ended => {
                    self.write_consumption().await;
                    return;
                }
            }
            let busy = own_use.borrow_and_update().busy;
            let (activity, adapters) = {
                let state = states.borrow_and_update();
                let ids = busy_adapters(&state).map(|adapter| adapter.id.clone());
                (activity(&state, busy), ids.collect())
            };
            let mut meter = self.0.meter.lock().await;
            let now = self.0.clock.now();
            meter.turn(activity, adapters, now.timestamp().as_millisecond());
            if let Some(sample) = sample {
                meter.sample(&sample, books::day_start(&now));
            }
            let wanted = meter.wants_samples(now.timestamp().as_millisecond());
            drop(meter);
            if wanted != watching.is_some() {
                watching = wanted.then(|| self.0.telemetry.watch());
            }
        }
    }

    async fn write_consumption(&self) {
        let Some(store) = self.0.store.borrow().clone() else {
            return;
        };
        let mut meter = self.0.meter.lock().await;
        let drawn = meter.drawn();
        if drawn.is_empty() {
            return;
        }
        match store.add_energy(drawn).await {
            Ok(()) => meter.clear(),
            Err(error) => tracing::debug!(%error, "what the GPUs drew is not written down"),
        }
    }

    fn unmeasured(&self, meter: &Meter) -> Option<Unmeasured> {
        let state = self.0.states.borrow();
        if chosen(&state).next().is_none() {
            let is_known = state.node.as_ref()?.hardware.is_some();
            return is_known.then_some(Unmeasured::Processor);
        }
        let looked = self.0.telemetry.has_looked();
        let tells_nothing = |adapter: &&Adapter| match meter.reports_power(&adapter.id) {
            Some(reports) => !reports,
            // There is no reader that knows it.
            None => looked && !meter.has_seen(&adapter.id),
        };
        let adapters: Vec<_> = chosen(&state)
            .filter(tells_nothing)
            .map(|adapter| adapter.name.clone())
            .collect();
        (!adapters.is_empty()).then_some(Unmeasured::Driver { adapters })
    }
}

/// While there is work, those of them that do it: what the others draw is not for it.
fn busy_adapters(state: &AppState) -> impl Iterator<Item = &Adapter> {
    let work = state.node.as_ref().map_or(&[][..], |node| &node.work);
    chosen(state)
        .filter(|adapter| work.is_empty() || work.iter().any(|item| item.device == adapter.id))
}

/// Those that the node computes on.
fn chosen(state: &AppState) -> impl Iterator<Item = &Adapter> {
    let adapters = state.adapters.iter();
    adapters.filter(|adapter| adapter.standing == AdapterStanding::Chosen)
}

/// What the node does with its GPUs; none for what earns nothing: its owner uses them, or a model is
/// being loaded.
fn activity(state: &AppState, own_use: bool) -> Option<Activity> {
    let node = state.node.as_ref().filter(|_| !own_use)?;
    if !node.work.is_empty() {
        return Some(Activity::Working);
    }
    let loads = node.models.iter().any(|model| {
        matches!(
            model.engine,
            EngineStatus::Loading { .. } | EngineStatus::Tuning { .. }
        )
    });
    if loads {
        return None;
    }
    Some(if node.decision.mode == Mode::Run {
        Activity::Waiting
    } else {
        Activity::Paused
    })
}
