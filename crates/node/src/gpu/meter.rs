//! How much energy GPUs draw, and for what: samples and what the node does become joules.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::{GpuReading, GpuSample};

/// What this program does with its GPUs. What is none of these counts for nothing: a model is being
/// loaded, or its owner uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// Jobs or checks are in progress.
    Working,
    /// The node would work, and has nothing to do.
    Waiting,
    /// The governor lets it do nothing.
    Paused,
}

/// What an adapter drew on a day while something was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawn {
    /// The day's first moment, as Unix time in milliseconds.
    pub day_ms: i64,
    /// [`super::Adapter::id`].
    pub adapter: String,
    /// What was done meanwhile.
    pub activity: Activity,
    /// For how long it was measured.
    pub measured_ms: i64,
    /// Watts times milliseconds.
    pub millijoules: i64,
}

/// Adds up what is drawn. It measures time by the clock on the wall: where that jumps or a sample is
/// missing, nothing is counted.
#[derive(Debug, Default)]
pub struct Meter {
    now: Option<Activity>,
    /// Those that the node uses.
    adapters: Vec<String>,
    since_ms: i64,
    /// Up to here `spent_ms` is known.
    marked_ms: i64,
    /// What was done since the last sample.
    spent_ms: BTreeMap<Activity, i64>,
    last: Option<Look>,
    /// Work has ended then, and no sample has come since.
    ended_ms: Option<i64>,
    /// The idle GPU is looked at until then.
    look_until_ms: Option<i64>,
    /// The idle GPU was last measured then.
    idle_ms: Option<i64>,
    /// Whether there was a figure where there should be one; none while nothing is told at all.
    reports: HashMap<String, Option<bool>>,
    drawn: BTreeMap<(i64, String, Activity), (i64, i64)>,
}

/// Samples come each second; what is longer apart has a hole.
const LONGEST_GAP_MS: i64 = 5000;
/// So long a sample may have waited.
const LATE_MS: i64 = 2000;
/// No adapter draws more: what says so is mistaken.
const MOST_WATTS: f32 = 2000.0;
/// A GPU takes so long after work until its clocks are low.
const SETTLES_MS: i64 = 10_000;
/// Then it is looked at for so long.
const LOOKS_MS: i64 = 10_000;
/// And not again for a while.
const IDLE_LASTS_MS: i64 = 10 * 60 * 1000;
/// The sample that ends work comes sooner, or not at all.
const LAST_SAMPLE_MS: i64 = 3000;
/// With more load than that somebody else uses it: that is not what it draws at rest.
const RESTING_LOAD_PERCENT: f32 = 10.0;

#[derive(Debug)]
struct Look {
    at_ms: i64,
    watts: HashMap<String, f32>,
}

impl Meter {
    /// What is done from now on, and on which adapters.
    pub fn turn(&mut self, activity: Option<Activity>, adapters: Vec<String>, now_ms: i64) {
        self.mark(now_ms);
        self.adapters = adapters;
        if activity == self.now {
            return;
        }
        let before = std::mem::replace(&mut self.now, activity);
        self.since_ms = now_ms;
        self.ended_ms = match (before, activity) {
            (Some(Activity::Working), _) => Some(now_ms),
            (_, Some(Activity::Working)) => None,
            _ => self.ended_ms,
        };
        let is_known = self
            .idle_ms
            .is_some_and(|idle_ms| (0..IDLE_LASTS_MS).contains(&(now_ms - idle_ms)));
        let looks = activity == Some(Activity::Waiting) && !is_known;
        self.look_until_ms = looks.then_some(now_ms + SETTLES_MS + LOOKS_MS);
    }

    /// Takes in a sample of the day that begins at `day_ms`.
    pub fn sample(&mut self, sample: &GpuSample, day_ms: i64) {
        // Samples come through a queue: one of just before a turn is heard of after it.
        let late = (0..LATE_MS).contains(&(self.marked_ms - sample.at_ms));
        let at_ms = if late { self.marked_ms } else { sample.at_ms };
        self.mark(at_ms);
        let spent_ms = std::mem::take(&mut self.spent_ms);
        self.note_who_reports(sample);
        self.ended_ms = None;
        let watts = sample.readings.iter().filter_map(|reading| {
            let watts = power(reading)?;
            Some((reading.adapter.clone(), watts))
        });
        let look = Look {
            at_ms,
            watts: watts.collect(),
        };
        let Some(last) = self.last.replace(look) else {
            return;
        };
        if !(1..=LONGEST_GAP_MS).contains(&(at_ms - last.at_ms)) {
            return;
        }
        let settled = last.at_ms - self.since_ms >= SETTLES_MS;
        for reading in &sample.readings {
            let (Some(before), Some(after)) = (last.watts.get(&reading.adapter), power(reading))
            else {
                continue;
            };
            if !self.adapters.contains(&reading.adapter) {
                continue;
            }
            let watts = f64::midpoint(f64::from(*before), f64::from(after));
            for (activity, ms) in &spent_ms {
                if *activity != Activity::Working {
                    if !(settled && rests(*activity, reading)) {
                        continue;
                    }
                    self.idle_ms = Some(at_ms);
                }
                let key = (day_ms, reading.adapter.clone(), *activity);
                let (measured_ms, millijoules) = self.drawn.entry(key).or_default();
                *measured_ms += ms;
                *millijoules += (watts * *ms as f64).round() as i64;
            }
        }
    }

    /// Whether samples are needed: while there is work, once more after it, and for a moment when
    /// it is long ago that the idle GPU was seen.
    pub fn wants_samples(&self, now_ms: i64) -> bool {
        let soon = |from_ms: i64, lasts_ms| (0..lasts_ms).contains(&(now_ms - from_ms));
        let none_tells = |adapter: &String| matches!(self.reports.get(adapter), Some(Some(false)));
        if self.adapters.iter().all(none_tells) {
            return false;
        }
        self.now == Some(Activity::Working)
            || self.ended_ms.is_some_and(|at| soon(at, LAST_SAMPLE_MS))
            || (self.look_until_ms).is_some_and(|until| soon(self.since_ms, until - self.since_ms))
    }

    /// Whether an adapter's driver tells what it draws. None before it has told anything.
    pub fn reports_power(&self, adapter: &str) -> Option<bool> {
        self.reports.get(adapter).copied().flatten()
    }

    /// Whether any sample has come since this adapter is used.
    pub fn has_seen(&self, adapter: &str) -> bool {
        self.reports.contains_key(adapter)
    }

    /// What has come together since the last [`take`](Self::take).
    pub fn drawn(&self) -> Vec<Drawn> {
        let drawn = self.drawn.iter();
        drawn
            .map(
                |((day_ms, adapter, activity), (measured_ms, millijoules))| Drawn {
                    day_ms: *day_ms,
                    adapter: adapter.clone(),
                    activity: *activity,
                    measured_ms: *measured_ms,
                    millijoules: *millijoules,
                },
            )
            .collect()
    }

    /// It is written down.
    pub fn clear(&mut self) {
        self.drawn.clear();
    }

    /// Counts the time up to now for what was done. A clock that is set back makes all of it
    /// uncertain.
    fn mark(&mut self, now_ms: i64) {
        if now_ms < self.marked_ms {
            self.spent_ms.clear();
            self.last = None;
            self.since_ms = now_ms;
        } else if let Some(activity) = self.now {
            *self.spent_ms.entry(activity).or_default() += now_ms - self.marked_ms;
        }
        self.marked_ms = now_ms;
        if self.last.is_none() {
            self.spent_ms.clear();
        }
    }

    fn note_who_reports(&mut self, sample: &GpuSample) {
        for adapter in &self.adapters {
            let reading = (sample.readings.iter()).find(|reading| reading.adapter == *adapter);
            let reports = match reading {
                Some(reading) if power(reading).is_some() => Some(true),
                // A sleeping one tells nothing.
                Some(reading)
                    if reading.load_percent.is_none() && reading.temperature_celsius.is_none() =>
                {
                    None
                }
                _ => Some(false),
            };
            let known = self.reports.entry(adapter.clone()).or_default();
            if *known != Some(true) {
                *known = reports.or(*known);
            }
        }
    }
}

/// What it draws, unless that is nonsense.
fn power(reading: &GpuReading) -> Option<f32> {
    reading
        .power_watts
        .filter(|watts| (0.0..=MOST_WATTS).contains(watts))
}

/// Whether nothing computes on it. While the node is paused somebody may play.
fn rests(activity: Activity, reading: &GpuReading) -> bool {
    match reading.load_percent {
        Some(load) => load <= RESTING_LOAD_PERCENT,
        None => activity == Activity::Waiting,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Activity::{Paused, Waiting, Working};
    use super::*;

    const DAY: i64 = 86_400_000;

    fn reading(adapter: &str, watts: impl Into<Option<f32>>) -> GpuReading {
        GpuReading {
            adapter: adapter.to_owned(),
            load_percent: Some(3.0),
            power_watts: watts.into(),
            ..GpuReading::default()
        }
    }

    fn sample(at_ms: i64, readings: Vec<GpuReading>) -> GpuSample {
        GpuSample { at_ms, readings }
    }

    fn one(at_ms: i64, watts: impl Into<Option<f32>>) -> GpuSample {
        sample(at_ms, vec![reading("a", watts)])
    }

    fn metered(activity: Activity) -> Meter {
        let mut meter = Meter::default();
        meter.turn(Some(activity), vec!["a".to_owned()], 0);
        meter
    }

    /// Each adapter's, with what was done and for how long, in milliseconds and millijoules.
    fn drawn(meter: &Meter) -> Vec<(i64, String, Activity, i64, i64)> {
        let drawn = meter.drawn().into_iter();
        drawn
            .map(|row| {
                let Drawn {
                    day_ms,
                    adapter,
                    activity,
                    measured_ms,
                    millijoules,
                } = row;
                (day_ms, adapter, activity, measured_ms, millijoules)
            })
            .collect()
    }

    fn of_a(activity: Activity, ms: i64, millijoules: i64) -> (i64, String, Activity, i64, i64) {
        (0, "a".to_owned(), activity, ms, millijoules)
    }

    #[test]
    fn samples_of_work_as_a_table() {
        // Time and watts of each sample, then milliseconds and millijoules.
        type Case = (&'static [(i64, Option<f32>)], i64, i64);
        let cases: [Case; 14] = [
            (&[], 0, 0),
            (&[(1000, Some(100.0))], 0, 0),
            (&[(1000, Some(100.0)), (2000, Some(100.0))], 1000, 100_000),
            // The mean of both ends.
            (
                &[(0, Some(20.0)), (1000, Some(180.0)), (1500, Some(180.0))],
                1500,
                190_000,
            ),
            // It draws nothing that can be measured.
            (&[(0, Some(0.0)), (1000, Some(0.0))], 1000, 0),
            // The machine slept; the driver was silent for a while.
            (
                &[
                    (0, Some(100.0)),
                    (3_600_000, Some(100.0)),
                    (3_601_000, Some(100.0)),
                ],
                1000,
                100_000,
            ),
            (
                &[
                    (0, Some(100.0)),
                    (1000, None),
                    (2000, Some(100.0)),
                    (3000, Some(100.0)),
                ],
                1000,
                100_000,
            ),
            // Nonsense.
            (&[(0, Some(-5.0)), (1000, Some(-5.0))], 0, 0),
            (&[(0, Some(f32::NAN)), (1000, Some(f32::NAN))], 0, 0),
            (
                &[(0, Some(f32::INFINITY)), (1000, Some(f32::INFINITY))],
                0,
                0,
            ),
            (
                &[
                    (0, Some(2001.0)),
                    (1000, Some(65_535.0)),
                    (2000, Some(50.0)),
                    (3000, Some(50.0)),
                ],
                1000,
                50_000,
            ),
            // The clock is set back, by a little and by a lot.
            (
                &[
                    (5000, Some(100.0)),
                    (6000, Some(100.0)),
                    (5000, Some(100.0)),
                    (6000, Some(100.0)),
                ],
                1000,
                100_000,
            ),
            (
                &[
                    (8000, Some(100.0)),
                    (9000, Some(100.0)),
                    (2000, Some(100.0)),
                    (3000, Some(100.0)),
                ],
                2000,
                200_000,
            ),
            // Twice at the same moment.
            (
                &[(0, Some(100.0)), (0, Some(100.0)), (1000, Some(100.0))],
                1000,
                100_000,
            ),
        ];
        for (samples, measured_ms, millijoules) in cases {
            let mut meter = metered(Working);
            for (at_ms, watts) in samples {
                meter.sample(&one(*at_ms, *watts), 0);
            }
            let expected = if measured_ms == 0 {
                vec![]
            } else {
                vec![of_a(Working, measured_ms, millijoules)]
            };
            assert_eq!(drawn(&meter), expected, "{samples:?}");
        }
    }

    #[test]
    fn a_second_is_divided_among_what_was_done_in_it() {
        let mut meter = metered(Working);
        meter.sample(&one(0, 100.0), 0);
        meter.turn(None, vec!["a".to_owned()], 300);
        meter.turn(Some(Working), vec!["a".to_owned()], 900);
        meter.sample(&one(1000, 100.0), 0);
        assert_eq!(drawn(&meter), [of_a(Working, 400, 40_000)]);
    }

    #[test]
    fn a_sample_that_is_heard_of_late_counts() {
        let mut meter = metered(Working);
        meter.sample(&one(0, 100.0), 0);
        meter.turn(None, vec!["a".to_owned()], 1005);
        meter.sample(&one(1000, 100.0), 0);
        assert_eq!(drawn(&meter), [of_a(Working, 1005, 100_500)]);
    }

    #[test]
    fn each_adapter_in_use_is_counted_and_no_other() {
        let mut meter = Meter::default();
        meter.turn(Some(Working), vec!["a".to_owned(), "b".to_owned()], 0);
        for at_ms in [0, 1000] {
            let readings = vec![reading("a", 100.0), reading("b", 50.0), reading("c", 30.0)];
            meter.sample(&sample(at_ms, readings), 0);
        }
        let of_b = (0, "b".to_owned(), Working, 1000, 50_000);
        assert_eq!(drawn(&meter), [of_a(Working, 1000, 100_000), of_b]);
    }

    #[test]
    fn a_new_day_has_a_row_of_its_own() {
        let mut meter = metered(Working);
        for (at_ms, day_ms) in [(DAY - 1000, 0), (DAY, DAY), (DAY + 1000, DAY)] {
            meter.sample(&one(at_ms, 10.0), day_ms);
        }
        assert_eq!(
            drawn(&meter),
            [(DAY, "a".to_owned(), Working, 2000, 20_000)]
        );
        meter.clear();
        assert_eq!(drawn(&meter), []);
    }

    #[test]
    fn at_rest_is_what_has_settled_and_nobody_else_uses() {
        let run = |activity, load: Option<f32>| {
            let mut meter = metered(activity);
            for at_ms in (0..14_000).step_by(1000) {
                let mut sample = one(at_ms, 20.0);
                sample.readings[0].load_percent = load;
                meter.sample(&sample, 0);
            }
            drawn(&meter)
        };
        // From the tenth second on.
        assert_eq!(run(Waiting, Some(3.0)), [of_a(Waiting, 3000, 60_000)]);
        assert_eq!(run(Paused, Some(3.0)), [of_a(Paused, 3000, 60_000)]);
        assert_eq!(run(Waiting, Some(60.0)), []);
        assert_eq!(run(Paused, Some(60.0)), []);
        // Where no load is reported, somebody may play while the node is paused.
        assert_eq!(run(Waiting, None), [of_a(Waiting, 3000, 60_000)]);
        assert_eq!(run(Paused, None), []);
        let mut loading = Meter::default();
        loading.turn(None, vec!["a".to_owned()], 0);
        (0..20).for_each(|second| loading.sample(&one(second * 1000, 90.0), 0));
        assert_eq!(drawn(&loading), []);
    }

    #[test]
    fn samples_are_wanted_for_work_and_for_a_moment_of_rest() {
        let a = || vec!["a".to_owned()];
        let mut meter = Meter::default();
        assert!(!meter.wants_samples(0));
        meter.turn(Some(Waiting), a(), 0);
        assert!(meter.wants_samples(0) && meter.wants_samples(19_999));
        assert!(!meter.wants_samples(20_000));
        (0..20).for_each(|second| meter.sample(&one(second * 1000, 20.0), 0));
        meter.turn(Some(Working), a(), 20_000);
        assert!(meter.wants_samples(20_000) && meter.wants_samples(7_200_000));
        // The last of the work is measured, and how it rests is known.
        meter.turn(Some(Waiting), a(), 30_000);
        assert!(meter.wants_samples(30_000));
        meter.sample(&one(30_500, 80.0), 0);
        assert!(!meter.wants_samples(30_600));
        // Where no sample comes, none is waited for.
        meter.turn(Some(Working), a(), 40_000);
        meter.turn(Some(Waiting), a(), 41_000);
        assert!(meter.wants_samples(43_999) && !meter.wants_samples(44_000));
        // Long after, it is looked at again.
        meter.turn(Some(Working), a(), 900_000);
        meter.turn(Some(Waiting), a(), 901_000);
        assert!(meter.wants_samples(915_000));
        // A pause is none of that, and so is a GPU that tells nothing.
        meter.turn(Some(Paused), a(), 2_000_000);
        assert!(!meter.wants_samples(2_000_000));
        let mut silent = metered(Working);
        assert!(silent.wants_samples(0));
        silent.sample(&one(1000, None), 0);
        assert!(!silent.wants_samples(1000));
        let mut processor = Meter::default();
        processor.turn(Some(Working), vec![], 0);
        assert!(!processor.wants_samples(0));
    }

    #[test]
    fn who_reports_power_is_known_once_it_tells_anything() {
        let mut meter = metered(Waiting);
        assert_eq!(
            (meter.reports_power("a"), meter.has_seen("a")),
            (None, false)
        );
        // It sleeps.
        let asleep = GpuReading {
            load_percent: None,
            ..reading("a", None)
        };
        meter.sample(&sample(0, vec![asleep.clone()]), 0);
        assert_eq!(
            (meter.reports_power("a"), meter.has_seen("a")),
            (None, true)
        );
        meter.sample(&one(1000, None), 0);
        assert_eq!(meter.reports_power("a"), Some(false));
        meter.sample(&one(2000, 30.0), 0);
        meter.sample(&sample(3000, vec![asleep]), 0);
        assert_eq!(meter.reports_power("a"), Some(true));
        // Nothing knows it at all.
        let mut unknown = metered(Waiting);
        unknown.sample(&sample(0, vec![reading("b", 20.0)]), 0);
        assert_eq!(unknown.reports_power("a"), Some(false));
    }

    proptest! {
        /// Whatever comes in whatever order, no time is counted twice and no energy is made up.
        #[test]
        fn no_more_is_counted_than_there_was(
            events in proptest::collection::vec((-3000i64..8000, 0u8..5, -100f32..3000.0), 0..80),
        ) {
            let mut meter = Meter::default();
            let (mut now_ms, mut passed_ms) = (0i64, 0i64);
            for (step, kind, watts) in events {
                now_ms += step;
                passed_ms += step.max(0);
                match kind {
                    0 => meter.turn(Some(Working), vec!["a".to_owned()], now_ms),
                    1 => meter.turn(Some(Waiting), vec!["a".to_owned()], now_ms),
                    2 => meter.turn(None, vec!["a".to_owned()], now_ms),
                    _ => meter.sample(&one(now_ms, watts), 0),
                }
            }
            let measured_ms: i64 = meter.drawn().iter().map(|row| row.measured_ms).sum();
            prop_assert!(measured_ms <= passed_ms);
            for row in meter.drawn() {
                let most = row.measured_ms * 2000 + 1;
                prop_assert!((0..=most).contains(&row.millijoules), "{row:?}");
            }
        }
    }
}
