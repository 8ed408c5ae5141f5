//! Pauses between tries that get longer.

use std::time::Duration;

const LONGEST: Duration = Duration::from_mins(5);

#[derive(Debug)]
pub(super) struct BackOff {
    first: Duration,
    next: Duration,
}

impl BackOff {
    pub(super) fn new(first: Duration) -> Self {
        Self { first, next: first }
    }

    /// A try that went well: the next pause is the first again.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }

    /// Waits for the next try.
    pub(super) async fn wait(&mut self) {
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(LONGEST);
    }

    /// Whether there was no pause since the last try that went well: what fails again and again is
    /// told once.
    pub(super) fn is_first(&self) -> bool {
        self.next == self.first
    }
}
