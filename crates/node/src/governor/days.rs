//! What the days share that the rules' tests play through.

use super::rules::GOES_ON_AFTER_MS;

/// Numbers that are the same in every run.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn below(&mut self, limit: i64) -> i64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        ((self.0 >> 33) as i64) % limit
    }
}

/// What came of a run.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) allowed_ms: i64,
    pub(super) worked_ms: i64,
    pub(super) starts: Vec<i64>,
}

pub(super) fn starts_are_apart(outcome: &Outcome) -> bool {
    outcome
        .starts
        .windows(2)
        .all(|two| two[1] - two[0] >= GOES_ON_AFTER_MS)
}
