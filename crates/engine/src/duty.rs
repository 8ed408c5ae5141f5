//! Rest between steps, so that the device computes no more than a share of the time: for its heat
//! and its noise.

use std::time::{Duration, Instant};

/// How much of the time is worked, and until when to rest. Rest is owed for each step by itself:
/// what a pause between two requests was good for is not made up for.
#[derive(Debug, Clone, Copy)]
pub struct Duty {
    percent: u8,
    rest_until: Option<Instant>,
}

/// Below this a stream would have to stall.
pub const LEAST_PERCENT: u8 = 10;
/// A step and the rest after it take no longer together, if the step alone does not: a stream that
/// says nothing for longer stalls.
pub const LONGEST_GAP: Duration = Duration::from_secs(1);

impl Default for Duty {
    fn default() -> Self {
        Self {
            percent: 100,
            rest_until: None,
        }
    }
}

impl Duty {
    /// Takes effect at once: who is to work more does not rest for what was.
    pub fn set(&mut self, percent: u8) {
        self.percent = percent.clamp(LEAST_PERCENT, 100);
        self.rest_until = None;
    }

    /// A step is over.
    pub fn worked(&mut self, begun: Instant, ended: Instant) {
        let worked = ended.saturating_duration_since(begun);
        let rest = worked * u32::from(100 - self.percent) / u32::from(self.percent);
        let rest = rest.min(LONGEST_GAP.saturating_sub(worked));
        self.rest_until = (!rest.is_zero()).then(|| ended + rest);
    }

    /// How long to rest from now on before the next step; none to go on at once.
    pub fn rest(&self, now: Instant) -> Option<Duration> {
        let rest = self.rest_until?.saturating_duration_since(now);
        (!rest.is_zero()).then_some(rest)
    }

    /// How long a step may take so that there is time to rest after it.
    pub fn longest_step(&self) -> Duration {
        LONGEST_GAP * u32::from(self.percent) / 100
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_follows_from_the_step() {
        let begun = Instant::now();
        for (percent, step_ms, rest_ms) in [
            (100, 250, 0),
            (50, 250, 250),
            (75, 300, 100),
            (10, 20, 180),
            // A stream must not stall.
            (50, 700, 300),
            (10, 250, 750),
            (10, 1_500, 0),
            // Less than the least is the least, more than all is all.
            (0, 20, 180),
            (200, 20, 0),
        ] {
            let mut duty = Duty::default();
            duty.set(percent);
            let ended = begun + Duration::from_millis(step_ms);
            duty.worked(begun, ended);
            let rest = duty.rest(ended).unwrap_or_default();
            assert_eq!(rest, Duration::from_millis(rest_ms), "{percent} {step_ms}");
            assert!(duty.rest(ended + rest).is_none(), "{percent} {step_ms}");
        }
    }

    #[test]
    fn who_is_to_work_more_does_not_rest_any_longer() {
        let (begun, mut duty) = (Instant::now(), Duty::default());
        duty.set(10);
        let ended = begun + Duration::from_millis(50);
        duty.worked(begun, ended);
        assert!(duty.rest(ended).is_some());
        duty.set(100);
        assert_eq!(duty.rest(ended), None);
    }
}
