//! Whether references computed the same: their log-probabilities side by side.

use infera_protocol::LogProbabilities;

use crate::verdict::Thresholds;

/// A single position that is further apart than so many units of [`Thresholds::scale`] is enough.
///
/// When honest logits differ with a Student-t4 distribution, as [`Thresholds`] assumes, one of 4096
/// positions is less than once in a million outputs.
const MOST: f32 = 300.0;
/// So many positions that are apart by more than [`Thresholds::big`] units, and one more for every
/// [`FAR_PER`] positions, are not: honest ones are once in 100,000 positions.
const FAR: u32 = 2;
const FAR_PER: u32 = 256;

/// How far two references' log-probabilities of the same tokens are apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// How many positions the first of the two has, which is that of the compared tokens.
    pub positions: u32,
    /// Positions that are apart by more than [`Thresholds::big`] units.
    pub far: u32,
    /// The largest distance, in units of [`Thresholds::scale`]. Finite.
    pub largest: f32,
}

impl Agreement {
    /// Compares position by position.
    ///
    /// Let no difference of two logits be off by more than `d` between the two references. Then no
    /// log-probability is off by more than `d` times one minus the smaller of the two
    /// probabilities, for on the way from one reference's logits to the other's it changes at most
    /// at that rate. So the distance, less what rounding to 16 bits explains, over one minus the
    /// smaller probability is a lower bound of `d`, and it is `d` that a profile bounds. Dividing
    /// makes certain tokens, which are most of a good answer, as hard to guess as the others.
    pub fn of(one: &[u16], other: &[u16], thresholds: &Thresholds) -> Self {
        let mut agreement = Self {
            positions: one.len() as u32,
            far: 0,
            largest: 0.0,
        };
        for (one, other) in one.iter().zip(other) {
            let units = (distance(*one, *other) / f64::from(thresholds.scale)) as f32;
            let units = units.min(f32::MAX);
            agreement.far += u32::from(units > thresholds.big);
            agreement.largest = agreement.largest.max(units);
        }
        agreement
    }

    /// Whether rounding explains what lies between the two.
    pub fn holds(&self) -> bool {
        self.largest <= MOST && self.far <= FAR + self.positions / FAR_PER
    }
}

/// The least error of the difference of two logits that lies between two values.
fn distance(one: u16, other: u16) -> f64 {
    let values = LogProbabilities(vec![one, other]);
    let mut surprises = values.surprises();
    let (Some(first), Some(second)) = (surprises.next(), surprises.next()) else {
        return 0.0;
    };
    let (of_first, of_second) = (
        LogProbabilities::rounding(one),
        LogProbabilities::rounding(other),
    );
    let off = (first - second).abs() - of_first - of_second;
    if off <= 0.0 {
        return 0.0;
    }
    let doubt = -libm::expm1(-(first + of_first).max(second + of_second));
    off / doubt
}

/// Tells for each report whether it belongs to the largest set of at least two that agree, one with
/// the next. None does when the next largest set has not at least `lead` fewer. A report alone
/// agrees with itself.
pub fn largest_agreeing(reports: &[&[u16]], thresholds: &Thresholds, lead: usize) -> Vec<bool> {
    let count = reports.len();
    if count < 2 {
        return vec![true; count];
    }
    // Each report's set bears the number of its first report.
    let mut set: Vec<usize> = (0..count).collect();
    for later in 1..count {
        for earlier in 0..later {
            if set[earlier] != set[later]
                && Agreement::of(reports[earlier], reports[later], thresholds).holds()
            {
                let (kept, merged) = (set[earlier].min(set[later]), set[earlier].max(set[later]));
                for number in set.iter_mut().filter(|number| **number == merged) {
                    *number = kept;
                }
            }
        }
    }
    let size = |wanted| set.iter().filter(|number| **number == wanted).count();
    let mut sizes: Vec<_> = (0..count).map(|number| (size(number), number)).collect();
    sizes.sort_unstable();
    let (largest, next) = (sizes[count - 1], sizes[count - 2]);
    let decided = largest.0 >= 2 && largest.0 >= next.0 + lead;
    set.iter()
        .map(|number| decided && *number == largest.1)
        .collect()
}

#[cfg(test)]
mod tests;
