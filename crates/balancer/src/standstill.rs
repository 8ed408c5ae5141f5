//! Notices when the balancer itself could not do its part: its process stood still, or its database
//! refused. What a node missed then is not the node's fault.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How often [`Standstill::beat`] is to be called.
pub(crate) const BEAT: Duration = Duration::from_millis(250);
/// A beat so late was missed.
const LATE: Duration = Duration::from_secs(1);

pub(crate) struct Standstill {
    start: Instant,
    /// When the latest beat was, in milliseconds since the start.
    beat_ms: AtomicU64,
    /// When the latest trouble was; 0 before the first.
    trouble_ms: AtomicU64,
}

impl Standstill {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            start: now,
            beat_ms: AtomicU64::new(0),
            trouble_ms: AtomicU64::new(0),
        }
    }

    /// Shows that the process runs.
    pub(crate) fn beat(&self, now: Instant) {
        if self.is_late(now) {
            self.note(now);
        }
        self.beat_ms.fetch_max(self.ms(now), Ordering::Relaxed);
    }

    /// The database refused something.
    pub(crate) fn note(&self, now: Instant) {
        self.trouble_ms.fetch_max(self.ms(now), Ordering::Relaxed);
    }

    /// Until when the latest trouble lasted: until now, when the process has only just come back.
    pub(crate) fn latest(&self, now: Instant) -> Option<Instant> {
        if self.is_late(now) {
            return Some(now);
        }
        match self.trouble_ms.load(Ordering::Relaxed) {
            0 => None,
            ms => Some(self.start + Duration::from_millis(ms)),
        }
    }

    fn is_late(&self, now: Instant) -> bool {
        let beat = Duration::from_millis(self.beat_ms.load(Ordering::Relaxed));
        now.saturating_duration_since(self.start + beat) > BEAT + LATE
    }

    fn ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_beat_is_trouble_at_once_and_remembered() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let standstill = Standstill::new(start);
        for ms in [250, 500, 800, 1900] {
            standstill.beat(at(ms));
            assert_eq!(standstill.latest(at(ms + 1200)), None, "after {ms}");
        }
        assert_eq!(standstill.latest(at(6000)), Some(at(6000)));
        standstill.beat(at(6001));
        standstill.beat(at(6250));
        assert_eq!(standstill.latest(at(6300)), Some(at(6001)));
        standstill.note(at(7000));
        assert_eq!(standstill.latest(at(7001)), Some(at(7000)));
    }
}
