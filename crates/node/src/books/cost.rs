//! What work cost: energy beyond what the GPU draws at rest, in money where there is a tariff. The
//! arithmetic, without a database.

use std::collections::BTreeMap;

use super::energy::DayWork;
use super::{EarningsBucket, Energy, EnergySpan};
use crate::gpu::{Activity, Drawn};
use crate::tariff::Electricity;

/// So much must have been seen of a GPU at rest.
const REST_MS: i64 = 3000;
const MILLIJOULES_PER_KWH: i128 = 3_600_000_000;
const MICRO_POINTS: i128 = 1_000_000;
/// Billionths of a currency's unit in the millionths that prices are in.
const NANO_PER_MICRO: i128 = 1000;

/// What an adapter drew on one day.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AdapterDay {
    day_ms: i64,
    working_ms: i64,
    working_millijoules: i64,
    /// None where it was never seen at rest: then all that it draws counts.
    rest_watts: Option<f64>,
}

/// Rows of the same day and adapter together. An adapter that was not seen at rest on a day takes
/// what it drew then on the nearest other one.
pub(crate) fn adapter_days(drawn: &[Drawn]) -> Vec<AdapterDay> {
    #[derive(Default)]
    struct Sums {
        working: (i64, i64),
        rest: (i64, i64),
    }
    let mut adapters: BTreeMap<&str, BTreeMap<i64, Sums>> = BTreeMap::new();
    for row in drawn {
        let days = adapters.entry(&row.adapter).or_default();
        let sums = days.entry(row.day_ms).or_default();
        let (ms, millijoules) = match row.activity {
            Activity::Working => &mut sums.working,
            Activity::Waiting | Activity::Paused => &mut sums.rest,
        };
        *ms += row.measured_ms;
        *millijoules += row.millijoules;
    }
    let mut found = Vec::new();
    for days in adapters.values() {
        let rests: Vec<_> = days
            .iter()
            .filter(|(_, sums)| sums.rest.0 >= REST_MS)
            .map(|(day_ms, sums)| (*day_ms, watts(sums.rest.0, sums.rest.1)))
            .collect();
        for (day_ms, sums) in days.iter().filter(|(_, sums)| sums.working.0 > 0) {
            let nearest = rests
                .iter()
                .min_by_key(|(rest_ms, _)| (rest_ms - day_ms).abs());
            found.push(AdapterDay {
                day_ms: *day_ms,
                working_ms: sums.working.0,
                working_millijoules: sums.working.1,
                rest_watts: nearest.map(|(_, watts)| *watts),
            });
        }
    }
    found
}

/// Writes into each bucket what its days took.
pub(crate) fn fill(buckets: &mut [EarningsBucket], days: &[AdapterDay], tariff: &Electricity) {
    let starts: Vec<_> = buckets.iter().map(|bucket| bucket.start_ms).collect();
    for (index, bucket) in buckets.iter_mut().enumerate() {
        // As work that a wrong clock dated, days before the first and after the last are in these.
        let from = if index == 0 {
            i64::MIN
        } else {
            bucket.start_ms
        };
        let to = starts.get(index + 1).copied().unwrap_or(i64::MAX);
        let millijoules = of_span(days, from, to)
            .map(net)
            .reduce(|one, other| one + other);
        bucket.energy = millijoules.map(|millijoules| Energy {
            kilowatt_hours: kilowatt_hours(millijoules),
            cost_nano: cost_nano(millijoules, tariff),
        });
    }
}

/// What the days that begin at `starts` took together; the last one is not over. None where nothing
/// was measured. Tokens and points count only of days on which something was.
pub(crate) fn span(
    starts: &[i64],
    work: &[DayWork],
    days: &[AdapterDay],
    tariff: &Electricity,
) -> Option<EnergySpan> {
    let first = *starts.first()?;
    let measured: Vec<_> = of_span(days, first, i64::MAX).collect();
    let begun = measured.iter().map(|day| day.day_ms).min()?;
    let (mut micro_points, mut output_tokens) = (0, 0);
    for (index, (start, work)) in starts.iter().zip(work).enumerate() {
        let end = starts.get(index + 1).copied().unwrap_or(i64::MAX);
        if of_span(days, *start, end).next().is_some() {
            micro_points += i128::from(work.micro_points);
            output_tokens += i128::from(work.output_tokens);
        }
    }
    let millijoules: i64 = measured.iter().map(|day| net(day)).sum();
    let working_ms: i64 = measured.iter().map(|day| day.working_ms).sum();
    let drawn: i64 = measured.iter().map(|day| day.working_millijoules).sum();
    let rest: Option<f64> = measured
        .iter()
        .map(|day| Some(day.rest_watts? * day.working_ms as f64))
        .sum();
    // Days before the first that was measured say nothing of a day's cost.
    let calendar_days = starts
        .iter()
        .filter(|start| **start >= begun)
        .count()
        .max(1);
    let cost = tariff.price_per_kwh.is_some();
    let each = |parts: i128, of: i128| {
        let millijoules = i128::from(millijoules);
        (cost && of > 0)
            .then(|| cost_of(millijoules * parts, of, tariff))
            .flatten()
    };
    Some(EnergySpan {
        days: calendar_days as u32,
        working_seconds: (working_ms / 1000) as u64,
        working_watts: watts(working_ms, drawn) as f32,
        rest_watts: rest.map(|sum| (sum / working_ms as f64) as f32),
        kilowatt_hours: kilowatt_hours(millijoules),
        cost_nano: cost_nano(millijoules, tariff),
        cost_nano_per_day: each(1, calendar_days as i128),
        cost_nano_per_1000_tokens: each(1000, output_tokens),
        cost_nano_per_100_points: each(100 * MICRO_POINTS, micro_points),
    })
}

fn of_span(days: &[AdapterDay], from_ms: i64, to_ms: i64) -> impl Iterator<Item = &AdapterDay> {
    days.iter()
        .filter(move |day| (from_ms..to_ms).contains(&day.day_ms))
}

/// What it drew for work beyond what it draws at rest, in millijoules; never less than nothing.
fn net(day: &AdapterDay) -> i64 {
    let rest = day.rest_watts.unwrap_or(0.0) * day.working_ms as f64;
    (day.working_millijoules - rest.round() as i64).max(0)
}

fn watts(ms: i64, millijoules: i64) -> f64 {
    millijoules as f64 / ms as f64
}

fn kilowatt_hours(millijoules: i64) -> f64 {
    millijoules as f64 / MILLIJOULES_PER_KWH as f64
}

fn cost_nano(millijoules: i64, tariff: &Electricity) -> Option<i64> {
    cost_of(i128::from(millijoules), 1, tariff)
}

/// What a part of an energy costs, in billionths of the currency's unit, rounded.
fn cost_of(millijoules: i128, part: i128, tariff: &Electricity) -> Option<i64> {
    let price = i128::from(tariff.price_per_kwh.as_ref()?.micro());
    let divisor = MILLIJOULES_PER_KWH * part;
    let nano = (millijoules * price * NANO_PER_MICRO + divisor / 2) / divisor;
    Some(i64::try_from(nano).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tariff::{Currency, Price};

    const DAY: i64 = 86_400_000;
    const HOUR_MS: i64 = 3_600_000;

    fn at(price: &str) -> Electricity {
        Electricity {
            price_per_kwh: Some(Price::parse(price).unwrap()),
            currency: Currency::default(),
        }
    }

    fn drawn(day: i64, adapter: &str, activity: Activity, ms: i64, watts: i64) -> Drawn {
        Drawn {
            day_ms: day * DAY,
            adapter: adapter.to_owned(),
            activity,
            measured_ms: ms,
            millijoules: ms * watts,
        }
    }

    fn work(micro_points: i64, output_tokens: u64) -> DayWork {
        DayWork {
            micro_points,
            output_tokens,
        }
    }

    /// An hour at 218 W, of which 18 W are no work's.
    fn an_hour(day: i64) -> [Drawn; 2] {
        [
            drawn(day, "a", Activity::Working, HOUR_MS, 218),
            drawn(day, "a", Activity::Waiting, 10_000, 18),
        ]
    }

    #[test]
    fn what_counts_is_what_is_drawn_beyond_rest() {
        use Activity::{Paused, Waiting, Working};
        // Rows, then kilowatt-hours of all days and watts at rest.
        let cases = [
            (vec![], None, None),
            // Nothing was worked.
            (vec![drawn(0, "a", Waiting, 60_000, 18)], None, None),
            (an_hour(0).to_vec(), Some(0.2), Some(18.0)),
            // Seen at rest while it waited and while it was paused.
            (
                vec![
                    drawn(0, "a", Working, HOUR_MS, 215),
                    drawn(0, "a", Waiting, 10_000, 20),
                    drawn(0, "a", Paused, 10_000, 10),
                ],
                Some(0.2),
                Some(15.0),
            ),
            // Not long enough, or never: all of it counts.
            (
                vec![
                    drawn(0, "a", Working, HOUR_MS, 200),
                    drawn(0, "a", Waiting, 2999, 18),
                ],
                Some(0.2),
                None,
            ),
            // On the nearest other day.
            (
                vec![
                    drawn(0, "a", Waiting, 10_000, 90),
                    drawn(8, "a", Working, HOUR_MS, 218),
                    drawn(10, "a", Waiting, 10_000, 18),
                ],
                Some(0.2),
                Some(18.0),
            ),
            // Another adapter's rest is none of this one's.
            (
                vec![
                    drawn(0, "a", Working, HOUR_MS, 200),
                    drawn(0, "b", Waiting, 10_000, 18),
                ],
                Some(0.2),
                None,
            ),
            // Less than at rest costs nothing, and takes nothing from another adapter.
            (
                vec![
                    drawn(0, "a", Working, HOUR_MS, 10),
                    drawn(0, "a", Waiting, 10_000, 18),
                    drawn(0, "b", Working, HOUR_MS, 200),
                    drawn(0, "b", Waiting, 10_000, 0),
                ],
                Some(0.2),
                Some(9.0),
            ),
        ];
        for (rows, kilowatt_hours, rest_watts) in cases {
            let found = span(
                &[0],
                &[work(0, 0)],
                &adapter_days(&rows),
                &Electricity::default(),
            );
            assert_eq!(
                found.as_ref().map(|span| span.kilowatt_hours),
                kilowatt_hours,
                "{rows:?}"
            );
            assert_eq!(
                found.and_then(|span| span.rest_watts),
                rest_watts,
                "{rows:?}"
            );
        }
    }

    #[test]
    fn costs_as_a_table() {
        let days = adapter_days(&an_hour(0));
        // Price, points and tokens, then billionths in all, of 1,000 tokens, of 100 points.
        let cases = [
            (
                "0.32",
                work(50_000_000, 150_000),
                64_000_000,
                Some(426_667),
                Some(128_000_000),
            ),
            ("0", work(50_000_000, 150_000), 0, Some(0), Some(0)),
            // Checks earn points and write nothing; unpaid work is the other way round.
            (
                "0.32",
                work(50_000_000, 0),
                64_000_000,
                None,
                Some(128_000_000),
            ),
            ("0.32", work(0, 150_000), 64_000_000, Some(426_667), None),
            ("0.32", work(-7, 150_000), 64_000_000, Some(426_667), None),
            ("0.1", work(0, 0), 20_000_000, None, None),
            // Dear, and next to nothing for it: as much as can be written.
            (
                "999999999",
                work(1, 1),
                199_999_999_800_000_000,
                Some(i64::MAX),
                Some(i64::MAX),
            ),
        ];
        for (price, work, nano, per_1000_tokens, per_100_points) in cases {
            let span = span(&[0], &[work], &days, &at(price)).unwrap();
            assert_eq!(
                (
                    span.cost_nano,
                    span.cost_nano_per_1000_tokens,
                    span.cost_nano_per_100_points
                ),
                (Some(nano), per_1000_tokens, per_100_points),
                "{price} {work:?}"
            );
        }
        let untold = span(
            &[0],
            &[work(50_000_000, 150_000)],
            &days,
            &Electricity::default(),
        );
        let untold = untold.unwrap();
        assert_eq!(
            (
                untold.cost_nano,
                untold.cost_nano_per_day,
                untold.cost_nano_per_1000_tokens,
                untold.cost_nano_per_100_points
            ),
            (None, None, None, None)
        );
        assert_eq!(
            (untold.working_seconds, untold.working_watts),
            (3600, 218.0)
        );
    }

    #[test]
    fn a_span_has_its_own_days_and_means_are_of_those_that_were_measured() {
        let starts: Vec<_> = (0..7).map(|day| day * DAY).collect();
        // The day before, then the third and the last of the seven.
        let rows = [an_hour(-1), an_hour(2), an_hour(6)].concat();
        let worked = [
            0, 9_000_000, 1_000_000, 9_000_000, 9_000_000, 9_000_000, 1_000_000,
        ]
        .map(|points| work(points, 1000));
        let week = span(&starts, &worked, &adapter_days(&rows), &at("0.32")).unwrap();
        assert_eq!(
            (week.days, week.working_seconds, week.kilowatt_hours),
            (5, 7200, 0.4)
        );
        assert_eq!(week.cost_nano, Some(128_000_000));
        assert_eq!(week.cost_nano_per_day, Some(25_600_000));
        // What was done on days without a measurement does not make it cheaper.
        assert_eq!(week.cost_nano_per_1000_tokens, Some(64_000_000));
        assert_eq!(week.cost_nano_per_100_points, Some(6_400_000_000));
        let today = span(
            &starts[6..],
            &worked[6..],
            &adapter_days(&rows),
            &at("0.32"),
        )
        .unwrap();
        assert_eq!((today.days, today.kilowatt_hours), (1, 0.2));
        let none = span(
            &starts[3..6],
            &worked[3..6],
            &adapter_days(&rows[..4]),
            &at("0.32"),
        );
        assert_eq!(none, None);
    }

    #[test]
    fn buckets_hold_every_day_once() {
        let mut buckets = [0, 7, 14].map(|day| EarningsBucket {
            start_ms: day * DAY,
            ..EarningsBucket::default()
        });
        let rows = [an_hour(-3), an_hour(6), an_hour(14), an_hour(20)].concat();
        fill(&mut buckets, &adapter_days(&rows), &at("0.5"));
        let energy = buckets.map(|bucket| {
            bucket
                .energy
                .map(|energy| (energy.kilowatt_hours, energy.cost_nano))
        });
        assert_eq!(
            energy,
            [
                Some((0.4, Some(200_000_000))),
                None,
                Some((0.4, Some(200_000_000)))
            ]
        );
    }
}
