//! Wall-clock time, randomness and retry delays, passed in so that tests decide them.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What time it is for a person. Delays use tokio's own clock, which tests can pause.
pub trait Clock: Send + Sync + 'static {
    /// Unix time in milliseconds.
    fn now_ms(&self) -> i64;

    /// Where the clock on the wall is.
    fn zone(&self) -> jiff::tz::TimeZone {
        jiff::tz::TimeZone::system()
    }

    /// What that clock shows now.
    fn now(&self) -> jiff::Zoned {
        jiff::Timestamp::from_millisecond(self.now_ms())
            .unwrap_or_default()
            .to_zoned(self.zone())
    }

    /// How a person here writes that moment: `18:00`, or `tomorrow 09:00` on another day.
    fn describe(&self, unix_ms: i64) -> String;
}

/// Random bytes for nonces, salts and jitter.
pub trait Entropy: Send + Sync + 'static {
    fn fill(&self, bytes: &mut [u8]);
}

/// The machine's clock and time zone.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.as_millis() as i64)
    }

    fn describe(&self, unix_ms: i64) -> String {
        describe_in_zone(unix_ms, self.now_ms(), &self.zone())
    }
}

/// The operating system's random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("every supported system has a source of random numbers");
    }
}

/// 32 fresh random bytes.
pub(crate) fn random_32(entropy: &dyn Entropy) -> [u8; 32] {
    let mut bytes = [0; 32];
    entropy.fill(&mut bytes);
    bytes
}

/// Delays whose ceiling doubles from one second to a minute, with full jitter: each is anywhere
/// between nothing and its ceiling, so that many nodes do not come back in step.
#[derive(Clone)]
pub(crate) struct Backoff {
    entropy: Arc<dyn Entropy>,
    failures: u32,
}

impl Backoff {
    pub(crate) const FIRST: Duration = Duration::from_secs(1);
    pub(crate) const LONGEST: Duration = Duration::from_mins(1);

    pub(crate) fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self {
            entropy,
            failures: 0,
        }
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    pub(crate) fn next_delay(&mut self) -> Duration {
        let ceiling = (Self::FIRST * (1 << self.failures.min(10))).min(Self::LONGEST);
        self.failures += 1;
        let mut bytes = [0; 4];
        self.entropy.fill(&mut bytes);
        let fraction = f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX);
        ceiling.mul_f64(fraction).max(Duration::from_millis(50))
    }
}

fn describe_in_zone(unix_ms: i64, now_ms: i64, zone: &jiff::tz::TimeZone) -> String {
    let local = |ms| {
        jiff::Timestamp::from_millisecond(ms)
            .unwrap_or_default()
            .to_zoned(zone.clone())
    };
    let (moment, now) = (local(unix_ms), local(now_ms));
    let time = moment.strftime("%H:%M").to_string();
    if moment.date() == now.date() {
        time
    } else if now.date().tomorrow().is_ok_and(|day| day == moment.date()) {
        format!("tomorrow {time}")
    } else {
        moment.strftime("%Y-%m-%d %H:%M").to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u8);

    impl Entropy for Fixed {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }
    }

    #[test]
    fn delays_double_up_to_a_minute_and_start_again() {
        let mut backoff = Backoff::new(Arc::new(Fixed(0xff)));
        let seconds: Vec<_> = (0..8).map(|_| backoff.next_delay().as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        backoff.reset();
        assert_eq!(backoff.next_delay(), Duration::from_secs(1));
    }

    #[test]
    fn jitter_spreads_a_delay_from_almost_nothing_to_all_of_it() {
        let delay = |byte| {
            let mut backoff = Backoff::new(Arc::new(Fixed(byte)));
            (0..5).for_each(|_| _ = backoff.next_delay());
            backoff.next_delay()
        };
        assert_eq!(delay(0), Duration::from_millis(50));
        assert!(delay(0x80) > Duration::from_secs(15) && delay(0x80) < Duration::from_secs(17));
    }

    #[test]
    fn moments_are_named_by_day() {
        let hour = 3_600_000;
        let describe = |ms, now| describe_in_zone(ms, now, &jiff::tz::TimeZone::UTC);
        assert_eq!(describe(18 * hour, 9 * hour), "18:00");
        assert_eq!(describe(33 * hour, 9 * hour), "tomorrow 09:00");
        assert_eq!(describe(240 * hour, 9 * hour), "1970-01-11 00:00");
    }
}
