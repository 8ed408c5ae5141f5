//! What the node did over the last days, kept as it happens.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::App;
use super::api::{ApiError, AppState};
use crate::books::{Stretch, StretchesQuery};
use crate::store::Store;

/// A state that is over sooner is part of the one before: between two jobs nobody is idle.
const LASTS: Duration = Duration::from_secs(5);
/// So often the wall's clock is compared with the machine's own, which stands still while it sleeps.
const TICK: Duration = Duration::from_mins(1);
const SLEPT_MS: i64 = 150_000;
/// A disk is not kept awake for it.
const TICKS_TO_WRITE: u32 = 10;
/// Days that are kept.
const KEPT_MS: i64 = 30 * 24 * 3_600_000;

impl App {
    pub(super) async fn stretches(&self, query: StretchesQuery) -> Result<Vec<Stretch>, ApiError> {
        let mut stretches = self.store().await?.stretches(query).await?;
        let now_ms = self.0.clock.now_ms();
        // The one that has not ended is written down now and then only.
        if let (Some(open), Some(last)) = (*self.0.open_stretch.borrow(), stretches.last_mut())
            && last.from_ms == open
        {
            last.to_ms = now_ms.max(last.from_ms);
        }
        Ok(stretches)
    }

    /// Writes down what happens until the program ends.
    pub(super) async fn keep_timeline(self, _writes: mpsc::Sender<()>) {
        let mut stores = self.0.store.clone();
        let open = stores.wait_for(Option::is_some).await;
        let Ok(Some(store)) = open.map(|store| store.clone()) else {
            return;
        };
        let mut states = self.states();
        states.mark_changed();
        // The database is closed once the node has ended.
        let mut ending = self.0.ending.subscribe();
        let mut ended = std::pin::pin!(async { drop(ending.wait_for(|ending| *ending).await) });
        let mut timeline = Timeline::default();
        let mut tick = tokio::time::interval(TICK);
        loop {
            let decided = timeline.next.as_ref().map(|(_, since)| *since + LASTS);
            tokio::select! {
                Ok(()) = states.changed() => {
                    let seen = at(&states.borrow_and_update(), self.0.clock.now_ms());
                    timeline.see(seen);
                }
                () = tokio::time::sleep_until(decided.unwrap_or_else(Instant::now)), if decided.is_some() => {
                    let closed = timeline.turn();
                    self.write(&store, closed).await;
                    self.write(&store, timeline.now.clone()).await;
                }
                _ = tick.tick() => {
                    let closed = timeline.tick(self.0.clock.now_ms());
                    self.write(&store, closed).await;
                }
                () = &mut ended => {
                    let last = timeline.end(self.0.clock.now_ms());
                    self.write(&store, last).await;
                    return;
                }
            }
            let open = timeline.now.as_ref().map(|stretch| stretch.from_ms);
            self.0.open_stretch.send_replace(open);
        }
    }

    async fn write(&self, store: &Store, stretch: Option<Stretch>) {
        let Some(stretch) = stretch else { return };
        let forget_ms = self.0.clock.now_ms() - KEPT_MS;
        if let Err(error) = store.keep_stretch(&stretch, forget_ms).await {
            tracing::debug!(%error, "what the node does is not written down");
        }
    }
}

/// The state without what changes all the time; none while it is not known yet.
fn at(state: &AppState, now_ms: i64) -> Option<Stretch> {
    let summary = state.state.summary.clone().in_history()?;
    Some(Stretch {
        from_ms: now_ms,
        to_ms: now_ms,
        kind: state.state.kind,
        summary: Some(summary),
    })
}

#[derive(Debug, Default)]
struct Timeline {
    now: Option<Stretch>,
    /// What may follow it, and since when.
    next: Option<(Stretch, Instant)>,
    ticked_ms: i64,
    ticks: u32,
}

impl Timeline {
    fn see(&mut self, seen: Option<Stretch>) {
        let Some(seen) = seen else { return };
        let same = |one: &Stretch| (one.kind, &one.summary) == (seen.kind, &seen.summary);
        if self.now.as_ref().is_some_and(same) {
            self.next = None;
        } else if !self.next.as_ref().is_some_and(|(next, _)| same(next)) {
            // What came before and did not last either is part of what was.
            self.next = Some((seen, Instant::now()));
        }
    }

    /// What was next lasts: gives the one before it.
    fn turn(&mut self) -> Option<Stretch> {
        let (next, _) = self.next.take()?;
        let mut closed = self.now.replace(next.clone())?;
        closed.to_ms = next.from_ms;
        Some(closed)
    }

    /// Gives what is to be written down: now and then, and where the machine slept.
    fn tick(&mut self, now_ms: i64) -> Option<Stretch> {
        let before_ms = std::mem::replace(&mut self.ticked_ms, now_ms);
        let now = self.now.as_mut()?;
        if now_ms - before_ms > SLEPT_MS {
            now.to_ms = before_ms.max(now.from_ms);
            let slept = now.clone();
            now.from_ms = now_ms;
            now.to_ms = now_ms;
            return Some(slept);
        }
        now.to_ms = now_ms.max(now.from_ms);
        self.ticks = (self.ticks + 1) % TICKS_TO_WRITE;
        (self.ticks == 0).then(|| now.clone())
    }

    fn end(&mut self, now_ms: i64) -> Option<Stretch> {
        let mut last = self.now.take()?;
        last.to_ms = now_ms.max(last.from_ms);
        Some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{StateKind, Summary};

    const MINUTE: i64 = 60_000;

    fn waiting(from_ms: i64) -> Stretch {
        Stretch {
            from_ms,
            to_ms: from_ms,
            kind: StateKind::Waiting,
            summary: Some(Summary::WaitingForJobs),
        }
    }

    fn paused(from_ms: i64) -> Stretch {
        Stretch {
            kind: StateKind::Paused,
            summary: Some(Summary::OwnUse),
            ..waiting(from_ms)
        }
    }

    #[test]
    fn what_lasts_is_a_stretch_and_what_does_not_is_none() {
        let mut timeline = Timeline::default();
        timeline.see(Some(waiting(0)));
        assert_eq!(timeline.turn(), None);
        // A moment of something else.
        timeline.see(Some(paused(MINUTE)));
        timeline.see(Some(waiting(MINUTE + 1)));
        assert_eq!(timeline.next, None);
        timeline.see(Some(paused(2 * MINUTE)));
        timeline.see(Some(paused(3 * MINUTE)));
        let closed = timeline.turn().unwrap();
        assert_eq!((closed.from_ms, closed.to_ms), (0, 2 * MINUTE));
        let last = timeline.end(9 * MINUTE).unwrap();
        assert_eq!((last.from_ms, last.to_ms), (2 * MINUTE, 9 * MINUTE));
    }

    #[test]
    fn a_machine_that_slept_did_nothing() {
        let mut timeline = Timeline::default();
        timeline.see(Some(waiting(0)));
        timeline.turn();
        assert_eq!(timeline.tick(0), None);
        assert_eq!(timeline.tick(MINUTE), None);
        let slept = timeline.tick(60 * MINUTE).unwrap();
        assert_eq!((slept.from_ms, slept.to_ms), (0, MINUTE));
        assert_eq!(timeline.now.as_ref().unwrap().from_ms, 60 * MINUTE);
        // A clock that is set back makes no stretch that ends before it begins.
        timeline.tick(MINUTE);
        let last = timeline.end(MINUTE).unwrap();
        assert!(last.to_ms >= last.from_ms);
    }

    #[test]
    fn a_stretch_is_written_down_now_and_then() {
        let mut timeline = Timeline::default();
        timeline.see(Some(waiting(0)));
        timeline.turn();
        let written = (0..30).filter_map(|n| timeline.tick(n * MINUTE)).count();
        assert_eq!(written, 3);
    }
}
