//! Buckets, totals and the estimate: the arithmetic of the books, without a database.

use infera_protocol::node_api::Points;
use jiff::civil::Date;
use jiff::{ToSpan, Zoned};

use super::{Estimate, Period, PointSums};

/// A machine whose clock once stood in 1970 still gets a list that can be shown.
const MAX_BUCKETS: usize = 4000;

/// How far back the estimate looks.
const ESTIMATE_WINDOW_MS: i64 = 15 * 60 * 1000;
/// So much work must be in it.
const ESTIMATE_MIN_MS: i64 = 5 * 60 * 1000;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// A piece of work, for the estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Worked {
    pub(super) from_ms: i64,
    pub(super) to_ms: i64,
    pub(super) micro_points: i64,
}

/// The first moments of all periods from the one of `first_ms` to the one of `now`, in its time
/// zone, oldest first.
pub(super) fn bucket_starts(period: Period, first_ms: Option<i64>, now: &Zoned) -> Vec<i64> {
    let mut starts = Vec::new();
    let mut date = period_start(period, now.date());
    while starts.len() < MAX_BUCKETS {
        let Some(start) = date_start(date, now) else {
            break;
        };
        // A day that a time zone leaves out begins with the next one.
        if starts.last() != Some(&start) {
            starts.push(start);
        }
        if first_ms.is_none_or(|first| first >= start) {
            break;
        }
        let Ok(before) = date.yesterday() else {
            break;
        };
        date = period_start(period, before);
    }
    starts.reverse();
    starts
}

/// First and last millisecond of each bucket as JSON. What a wrong clock dated before the first or
/// after the last is in these.
pub(super) fn spans(starts: &[i64]) -> String {
    let from_the_beginning: Vec<_> = std::iter::once(i64::MIN)
        .chain(starts.iter().skip(1).copied())
        .take(starts.len())
        .collect();
    spans_from(&from_the_beginning)
}

/// The same without what is before the first.
pub(super) fn spans_from(starts: &[i64]) -> String {
    let ends = starts.iter().skip(1).map(|next| next - 1);
    let ends = ends.chain(std::iter::once(i64::MAX));
    let spans: Vec<_> = starts
        .iter()
        .zip(ends)
        .map(|(from, to)| [*from, to])
        .collect();
    serde_json::to_string(&spans).expect("numbers can be written")
}

/// The first moments of the last days, today's last.
pub(crate) fn last_days(count: usize, now: &Zoned) -> Vec<i64> {
    let mut starts: Vec<_> = (0..count)
        .filter_map(|days| {
            let date = now.date().checked_sub((days as i64).days()).ok()?;
            date_start(date, now)
        })
        .collect();
    starts.reverse();
    // A day that a time zone leaves out begins with the next one.
    starts.dedup();
    starts
}

/// The first moment of the day of `now`.
pub(crate) fn day_start(now: &Zoned) -> i64 {
    date_start(now.date(), now).unwrap_or_else(|| now.timestamp().as_millisecond())
}

pub(super) fn add(sums: impl Iterator<Item = PointSums>) -> PointSums {
    sums.fold(PointSums::default(), |total, sum| PointSums {
        confirmed: total.confirmed.saturating_add(sum.confirmed),
        pending: total.pending.saturating_add(sum.pending),
        forfeited: total.forfeited.saturating_add(sum.forfeited),
    })
}

/// What the balancer counts beyond what is listed here. Points that one side already has as
/// confirmed and the other still as pending are listed.
pub(super) fn unlisted(counted: Option<Points>, listed: PointSums) -> PointSums {
    let Some(counted) = counted else {
        return PointSums::default();
    };
    let mut missing = [
        counted.pending.saturating_sub(listed.pending),
        counted.confirmed.saturating_sub(listed.confirmed),
        counted.forfeited.saturating_sub(listed.forfeited),
    ];
    let mut elsewhere = missing
        .iter()
        .filter(|part| **part < 0)
        .fold(0i64, |sum, part| sum.saturating_sub(*part));
    for part in &mut missing {
        *part = (*part).max(0);
        let moved = elsewhere.min(*part);
        *part -= moved;
        elsewhere -= moved;
    }
    let [pending, confirmed, forfeited] = missing;
    PointSums {
        confirmed,
        pending,
        forfeited,
    }
}

/// Where the estimate's window begins.
pub(super) fn estimate_since(now_ms: i64, since_ms: Option<i64>) -> i64 {
    let window = now_ms.saturating_sub(ESTIMATE_WINDOW_MS);
    since_ms.map_or(window, |since| since.max(window))
}

/// The average of the window from `since_ms` to `now_ms` over a day, if there is enough work in it.
/// Work that began before the window counts in proportion.
pub(super) fn estimate(mut worked: Vec<Worked>, since_ms: i64, now_ms: i64) -> Option<Estimate> {
    let window_ms = now_ms.saturating_sub(since_ms);
    if window_ms < ESTIMATE_MIN_MS {
        return None;
    }
    worked.sort_by_key(|work| work.from_ms);
    let (mut busy_ms, mut busy_until) = (0, since_ms);
    let mut earned: i128 = 0;
    for work in &worked {
        let to = work.to_ms.min(now_ms);
        let inside = to - work.from_ms.clamp(since_ms, to);
        let whole = work.to_ms.saturating_sub(work.from_ms);
        earned += match whole {
            ..=0 => i128::from(work.micro_points),
            _ => i128::from(work.micro_points) * i128::from(inside) / i128::from(whole),
        };
        busy_ms += (to - work.from_ms.clamp(busy_until.min(to), to)).max(0);
        busy_until = busy_until.max(to);
    }
    let per_day = earned * i128::from(DAY_MS) / i128::from(window_ms);
    (busy_ms >= ESTIMATE_MIN_MS).then(|| Estimate {
        micro_points_per_day: i64::try_from(per_day).unwrap_or(i64::MAX),
        basis_seconds: (busy_ms / 1000) as u32,
    })
}

fn period_start(period: Period, date: Date) -> Date {
    let days = match period {
        Period::Day => 0,
        Period::Week => i64::from(date.weekday().to_monday_zero_offset()),
        Period::Month => i64::from(date.day()) - 1,
    };
    date.checked_sub(days.days()).unwrap_or(date)
}

/// Midnight, or the first moment after it where a time zone skips midnight.
fn date_start(date: Date, zone: &Zoned) -> Option<i64> {
    let start = date.to_zoned(zone.time_zone().clone()).ok()?;
    Some(start.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::*;

    fn at(text: &str) -> Zoned {
        text.parse().unwrap()
    }

    fn ms(text: &str) -> i64 {
        at(text).timestamp().as_millisecond()
    }

    fn written(starts: &[i64], zone: &str) -> Vec<String> {
        let zone = TimeZone::get(zone).unwrap();
        let write = |ms: &i64| {
            let time = Timestamp::from_millisecond(*ms).unwrap();
            time.to_zoned(zone.clone()).strftime("%F %H:%M").to_string()
        };
        starts.iter().map(write).collect()
    }

    #[test]
    fn days_are_local_and_as_long_as_they_are() {
        let now = at("2026-03-30T10:00[Europe/Berlin]");
        let first = ms("2026-03-28T23:30[Europe/Berlin]");
        let starts = bucket_starts(Period::Day, Some(first), &now);
        assert_eq!(
            written(&starts, "Europe/Berlin"),
            ["2026-03-28 00:00", "2026-03-29 00:00", "2026-03-30 00:00"]
        );
        assert_eq!(starts[2] - starts[1], 23 * 3_600_000, "summer time begins");
        let now = at("2026-10-26T10:00[Europe/Berlin]");
        let starts = bucket_starts(
            Period::Day,
            Some(now.timestamp().as_millisecond() - DAY_MS * 2),
            &now,
        );
        assert_eq!(
            starts[starts.len() - 1] - starts[starts.len() - 2],
            25 * 3_600_000
        );
    }

    #[test]
    fn a_day_without_midnight_begins_after_it_and_a_day_that_was_left_out_is_none() {
        let now = at("2018-11-05T12:00[America/Sao_Paulo]");
        let first = ms("2018-11-03T12:00[America/Sao_Paulo]");
        let starts = bucket_starts(Period::Day, Some(first), &now);
        assert_eq!(
            written(&starts, "America/Sao_Paulo"),
            ["2018-11-03 00:00", "2018-11-04 01:00", "2018-11-05 00:00"]
        );
        let now = at("2011-12-31T12:00[Pacific/Apia]");
        let first = ms("2011-12-29T12:00[Pacific/Apia]");
        let starts = bucket_starts(Period::Day, Some(first), &now);
        assert_eq!(
            written(&starts, "Pacific/Apia"),
            ["2011-12-29 00:00", "2011-12-31 00:00"]
        );
    }

    #[test]
    fn weeks_begin_on_monday_and_months_on_the_first() {
        let now = at("2026-01-14T08:00[America/New_York]");
        let first = Some(ms("2025-12-28T08:00[America/New_York]"));
        assert_eq!(
            written(
                &bucket_starts(Period::Week, first, &now),
                "America/New_York"
            ),
            [
                "2025-12-22 00:00",
                "2025-12-29 00:00",
                "2026-01-05 00:00",
                "2026-01-12 00:00"
            ]
        );
        assert_eq!(
            written(
                &bucket_starts(Period::Month, first, &now),
                "America/New_York"
            ),
            ["2025-12-01 00:00", "2026-01-01 00:00"]
        );
    }

    #[test]
    fn without_work_there_is_the_current_bucket_and_with_a_clock_from_1970_an_end() {
        let now = at("2026-01-14T08:00[UTC]");
        assert_eq!(
            bucket_starts(Period::Day, None, &now),
            [ms("2026-01-14T00:00[UTC]")]
        );
        assert_eq!(
            bucket_starts(Period::Day, Some(i64::MIN), &now).len(),
            MAX_BUCKETS
        );
        let later = Some(ms("2027-01-01T00:00[UTC]"));
        assert_eq!(bucket_starts(Period::Day, later, &now).len(), 1);
    }

    #[test]
    fn the_last_days_are_local_and_there_is_none_that_was_left_out() {
        let zone = "Europe/Berlin";
        let now = at("2026-03-30T00:30[Europe/Berlin]");
        assert_eq!(
            written(&last_days(3, &now), zone),
            ["2026-03-28 00:00", "2026-03-29 00:00", "2026-03-30 00:00"]
        );
        // Samoa went from the 29th to the 31st.
        let now = at("2012-01-01T12:00[Pacific/Apia]");
        assert_eq!(
            written(&last_days(4, &now), "Pacific/Apia"),
            ["2011-12-29 00:00", "2011-12-31 00:00", "2012-01-01 00:00"]
        );
        assert_eq!(spans_from(&[5, 9]), "[[5,8],[9,9223372036854775807]]");
        assert_eq!(spans(&[5]), "[[-9223372036854775808,9223372036854775807]]");
        assert_eq!(spans(&[]), "[]");
    }

    #[test]
    fn unlisted_as_a_table() {
        let sums = |confirmed, pending, forfeited| PointSums {
            confirmed,
            pending,
            forfeited,
        };
        let cases = [
            // Counted by the balancer, listed here, unlisted.
            ((10, 5, 2), (10, 5, 2), (0, 0, 0)),
            ((100, 5, 2), (10, 5, 0), (90, 0, 2)),
            // Just confirmed there, still pending here, and the other way round.
            ((15, 0, 0), (10, 5, 0), (0, 0, 0)),
            ((10, 5, 0), (15, 0, 0), (0, 0, 0)),
            ((110, 0, 0), (10, 5, 0), (95, 0, 0)),
            // Just lost there.
            ((10, 0, 5), (10, 5, 0), (0, 0, 0)),
            // Another network's balancer.
            ((0, 0, 0), (10, 5, 2), (0, 0, 0)),
        ];
        for (counted, listed, expected) in cases {
            let counted = Points {
                confirmed: counted.0,
                pending: counted.1,
                forfeited: counted.2,
            };
            let found = unlisted(Some(counted), sums(listed.0, listed.1, listed.2));
            let expected = sums(expected.0, expected.1, expected.2);
            assert_eq!(found, expected, "{counted:?} {listed:?}");
        }
        assert_eq!(unlisted(None, sums(1, 2, 3)), PointSums::default());
    }

    #[test]
    fn the_estimate_as_a_table() {
        const MINUTE: i64 = 60_000;
        let work = |from: i64, to: i64, micro_points| Worked {
            from_ms: from * MINUTE,
            to_ms: to * MINUTE,
            micro_points,
        };
        // The window ends after an hour. Each case: since, work, points per day, seconds.
        let cases = [
            (None, vec![], None),
            (None, vec![work(50, 54, 1000)], None),
            (None, vec![work(50, 55, 1000)], Some((96_000, 300))),
            // At the same time: not twice.
            (None, vec![work(50, 54, 500), work(51, 54, 500)], None),
            (
                None,
                vec![work(50, 54, 500), work(52, 55, 500)],
                Some((96_000, 300)),
            ),
            (
                None,
                vec![work(46, 60, 700), work(50, 52, 300)],
                Some((96_000, 840)),
            ),
            // Half of it was before the window.
            (None, vec![work(35, 55, 1000)], Some((48_000, 600))),
            // The model was changed ten minutes ago, or just now.
            (Some(50), vec![work(50, 60, 1000)], Some((144_000, 600))),
            (Some(50), vec![work(40, 60, 1000)], Some((72_000, 600))),
            (Some(56), vec![work(40, 60, 1000)], None),
            // A clock that was put back.
            (None, vec![work(50, 90, 4000)], Some((96_000, 600))),
            (
                None,
                vec![work(70, 90, 4000), work(50, 55, 1000)],
                Some((96_000, 300)),
            ),
            // Failed work took time and brought nothing.
            (None, vec![work(50, 55, 0)], Some((0, 300))),
        ];
        for (since, worked, expected) in cases {
            let case = format!("{since:?} {worked:?}");
            let since = estimate_since(60 * MINUTE, since.map(|at: i64| at * MINUTE));
            let found = estimate(worked, since, 60 * MINUTE)
                .map(|found| (found.micro_points_per_day, found.basis_seconds));
            assert_eq!(found, expected, "{case}");
        }
    }
}
