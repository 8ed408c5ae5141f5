//! How fast bytes come, and how fast they may come.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// A token bucket that lets bytes pass first and asks for the wait afterwards, so that a piece may
/// be larger than the bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Bytes that may come at once; below zero they are owed.
    tokens: f64,
    filled: Instant,
    rate: Option<u64>,
}

impl Bucket {
    /// What an unused bucket holds: a fifth of a second.
    const BURST_SECONDS: f64 = 0.2;

    pub(super) fn new(now: Instant) -> Self {
        Self {
            tokens: 0.0,
            filled: now,
            rate: None,
        }
    }

    /// Counts bytes that came.
    pub(super) fn take(&mut self, bytes: u64, rate: Option<u64>, now: Instant) {
        self.fill(rate, now);
        if self.rate.is_some() {
            self.tokens -= bytes as f64;
        }
    }

    /// How long no more may come. A new rate counts at once, for what is owed as well.
    pub(super) fn wait(&mut self, rate: Option<u64>, now: Instant) -> Duration {
        self.fill(rate, now);
        match self.rate {
            Some(rate) if self.tokens < 0.0 => Duration::from_secs_f64(-self.tokens / rate as f64),
            _ => Duration::ZERO,
        }
    }

    fn fill(&mut self, rate: Option<u64>, now: Instant) {
        let rate = rate.map(|rate| rate.max(1));
        if let Some(old) = self.rate {
            let seconds = now.saturating_duration_since(self.filled).as_secs_f64();
            let most = old as f64 * Self::BURST_SECONDS;
            self.tokens = (self.tokens + seconds * old as f64).min(most);
        }
        self.filled = now;
        match (self.rate, rate) {
            (None, Some(_)) | (_, None) => self.tokens = 0.0,
            _ => {}
        }
        self.rate = rate;
    }
}

/// Bytes per second over the last seconds.
#[derive(Debug)]
pub(super) struct Speed {
    window: Duration,
    samples: VecDeque<(Instant, u64)>,
}

impl Speed {
    pub(super) fn new(window: Duration) -> Self {
        Self {
            window,
            samples: VecDeque::new(),
        }
    }

    /// Takes the number of bytes that came so far, and gives the speed; none while nothing comes.
    pub(super) fn sample(&mut self, received: u64, now: Instant) -> Option<f64> {
        if self
            .samples
            .back()
            .is_some_and(|(_, last)| *last > received)
        {
            self.samples.clear();
        }
        self.samples.push_back((now, received));
        // One sample from before the window stays, so that the window is always covered.
        while self
            .samples
            .get(1)
            .is_some_and(|(taken, _)| now.duration_since(*taken) >= self.window)
        {
            self.samples.pop_front();
        }
        let (first_taken, first) = *self.samples.front()?;
        let seconds = now.duration_since(first_taken).as_secs_f64();
        let bytes = received - first;
        (bytes > 0 && seconds > 0.0).then(|| bytes as f64 / seconds)
    }

    pub(super) fn clear(&mut self) {
        self.samples.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_bucket_as_a_table() {
        let start = Instant::now();
        let rate = Some(1000);
        let mut bucket = Bucket::new(start);
        assert_eq!(bucket.wait(rate, start), Duration::ZERO);
        bucket.take(500, rate, start);
        assert_eq!(bucket.wait(rate, start), ms(500));
        assert_eq!(bucket.wait(rate, start + ms(300)), ms(200));
        assert_eq!(bucket.wait(rate, start + ms(500)), Duration::ZERO);
        // Idle time is saved up for a fifth of a second only.
        let later = start + ms(60_000);
        assert_eq!(bucket.wait(rate, later), Duration::ZERO);
        bucket.take(200, rate, later);
        assert_eq!(bucket.wait(rate, later), Duration::ZERO);
        bucket.take(100, rate, later);
        assert_eq!(bucket.wait(rate, later), ms(100));
    }

    #[test]
    fn a_new_rate_counts_at_once() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        bucket.take(1, Some(1000), start);
        bucket.take(9_999, Some(1000), start);
        assert_eq!(bucket.wait(Some(1000), start), ms(10_000));
        assert_eq!(bucket.wait(Some(10_000), start), ms(1000));
        assert_eq!(bucket.wait(None, start), Duration::ZERO);
        assert_eq!(
            bucket.wait(Some(10), start),
            Duration::ZERO,
            "debts are gone"
        );
        bucket.take(1, Some(0), start);
        assert_eq!(
            bucket.wait(Some(0), start),
            ms(1000),
            "0 is one byte a second"
        );
    }

    #[test]
    fn without_a_cap_nothing_waits() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        bucket.take(1 << 40, None, start);
        assert_eq!(bucket.wait(None, start), Duration::ZERO);
    }

    #[test]
    fn the_speed_is_that_of_the_last_seconds() {
        let start = Instant::now();
        let mut speed = Speed::new(ms(5000));
        assert_eq!(speed.sample(0, start), None);
        assert_eq!(speed.sample(1000, start + ms(1000)), Some(1000.0));
        assert_eq!(speed.sample(2000, start + ms(2000)), Some(1000.0));
        for second in 3..=12 {
            speed.sample(2000, start + ms(second * 1000));
        }
        assert_eq!(
            speed.sample(2000, start + ms(13_000)),
            None,
            "nothing comes"
        );
        assert_eq!(
            speed.sample(10, start + ms(14_000)),
            None,
            "it started again"
        );
    }
}
