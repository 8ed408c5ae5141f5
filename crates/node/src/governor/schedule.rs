//! Hours and days in which the node may work, by the clock on the wall.

use jiff::civil::{Time, Weekday};
use jiff::{SignedDuration, Span, Zoned};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// When the node may work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Schedule {
    /// Without it the hour is no reason.
    pub on: bool,
    /// It may work in any of these.
    pub hours: Vec<Hours>,
}

/// From one time of the day to another. Where the end is not after the beginning, it is on the day
/// after; where both are the same, it is a whole day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Hours {
    /// The days on which it begins. Monday is the first of seven.
    pub days: [bool; 7],
    /// Minutes since midnight, less than 1440.
    pub from: u16,
    /// Minutes since midnight, less than 1440.
    pub to: u16,
}

/// What a schedule says at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScheduleSays {
    /// The node may work.
    pub open: bool,
    /// When that changes next, in unix time in milliseconds; none if it never does.
    pub changes_ms: Option<i64>,
}

/// Minutes of a day.
pub const DAY: u16 = 24 * 60;
/// Days that are looked at for the next change: a week, and the day that a change of the clock may
/// move it to.
const DAYS_AHEAD: i64 = 8;

impl Default for Schedule {
    fn default() -> Self {
        Self {
            on: false,
            hours: vec![Hours::NIGHTS],
        }
    }
}

impl Hours {
    /// Every night from ten to seven.
    pub const NIGHTS: Self = Self {
        days: [true; 7],
        from: 22 * 60,
        to: 7 * 60,
    };

    /// In minutes.
    fn length(&self) -> u16 {
        match (DAY + self.to - self.from) % DAY {
            0 => DAY,
            minutes => minutes,
        }
    }

    /// The one that begins on the day of `day`, in its zone, from and to.
    fn on_day(&self, day: &Zoned) -> Option<(Zoned, Zoned)> {
        let weekday = day.weekday().since(Weekday::Monday) as usize;
        if !self.days[weekday] {
            return None;
        }
        let begins = at_minute(day, self.from)?;
        let ends = if self.from + self.length() < DAY {
            at_minute(day, self.from + self.length())?
        } else {
            let next = day.tomorrow().ok()?;
            at_minute(&next, self.from + self.length() - DAY)?
        };
        Some((begins, ends))
    }
}

/// That minute by the clock on the wall; where the clock skips it, as much later as it skips.
fn at_minute(day: &Zoned, minute: u16) -> Option<Zoned> {
    let time = Time::new((minute / 60) as i8, (minute % 60) as i8, 0, 0).ok()?;
    day.date()
        .to_datetime(time)
        .to_zoned(day.time_zone().clone())
        .ok()
}

impl Schedule {
    /// Whether all hours are excluded, so that the node would never work.
    pub fn is_never(&self) -> bool {
        self.on && self.hours.iter().all(|hours| hours.days == [false; 7])
    }

    /// What it says now; none where it is off.
    pub fn says(&self, now: &Zoned) -> Option<ScheduleSays> {
        if !self.on {
            return None;
        }
        let mut open_until: Option<Zoned> = None;
        let mut stretches: Vec<_> = (-1..=DAYS_AHEAD)
            .filter_map(|days| now.checked_add(Span::new().days(days)).ok())
            .flat_map(|day| {
                self.hours
                    .iter()
                    .filter_map(move |hours| hours.on_day(&day))
            })
            .filter(|(_, ends)| ends > now)
            .collect();
        stretches.sort_by(|one, other| one.0.cmp(&other.0));
        let mut opens = None;
        for (begins, ends) in stretches {
            match &open_until {
                None if begins > *now => {
                    opens = Some(begins);
                    break;
                }
                // One that begins where another ends goes on.
                Some(until) if begins > *until => break,
                Some(until) if ends <= *until => {}
                _ => open_until = Some(ends),
            }
        }
        // Hours that follow each other for a week never end.
        let forever = SignedDuration::from_hours(24 * (DAYS_AHEAD - 1));
        let changes = match &open_until {
            Some(until) if until.duration_since(now) >= forever => None,
            Some(until) => Some(until.clone()),
            None => opens,
        };
        Some(ScheduleSays {
            open: open_until.is_some(),
            changes_ms: changes.map(|moment| moment.timestamp().as_millisecond()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> Zoned {
        text.parse().unwrap()
    }

    fn schedule(hours: Vec<Hours>) -> Schedule {
        Schedule { on: true, hours }
    }

    fn hours(days: &str, from: (u16, u16), to: (u16, u16)) -> Hours {
        let mut on = [false; 7];
        for day in days.bytes() {
            on[usize::from(day - b'1')] = true;
        }
        Hours {
            days: on,
            from: from.0 * 60 + from.1,
            to: to.0 * 60 + to.1,
        }
    }

    /// 2026-11-30 is a Monday; Berlin's clocks change on 2026-10-25 and 2027-03-28.
    #[test]
    fn schedules_as_a_table() {
        let nights = || schedule(vec![Hours::NIGHTS]);
        let at = |text: &str| format!("{text}[Europe/Berlin]");
        let cases: Vec<(&str, Schedule, &str, bool, Option<&str>)> = vec![
            (
                "by day",
                nights(),
                "2026-11-30T12:00",
                false,
                Some("2026-11-30T22:00"),
            ),
            (
                "as it begins",
                nights(),
                "2026-11-30T22:00",
                true,
                Some("2026-12-01T07:00"),
            ),
            (
                "after midnight",
                nights(),
                "2026-12-01T06:59:59",
                true,
                Some("2026-12-01T07:00"),
            ),
            (
                "as it ends",
                nights(),
                "2026-12-01T07:00",
                false,
                Some("2026-12-01T22:00"),
            ),
            (
                "the night in which summer time ends",
                nights(),
                "2026-10-24T23:00",
                true,
                Some("2026-10-25T07:00"),
            ),
            (
                "a beginning that the clock skips",
                schedule(vec![hours("7", (2, 30), (5, 0))]),
                "2027-03-28T01:00",
                false,
                Some("2027-03-28T03:30"),
            ),
            (
                "an end that the clock skips",
                schedule(vec![hours("7", (1, 0), (2, 30))]),
                "2027-03-28T01:30",
                true,
                Some("2027-03-28T03:30"),
            ),
            (
                "a night that began on the day before",
                schedule(vec![hours("7", (22, 0), (7, 0))]),
                "2026-11-30T03:00",
                true,
                Some("2026-11-30T07:00"),
            ),
            (
                "days in between",
                schedule(vec![hours("67", (0, 0), (0, 0))]),
                "2026-11-30T03:00",
                false,
                Some("2026-12-05T00:00"),
            ),
            (
                "hours that follow each other are one",
                schedule(vec![hours("67", (0, 0), (0, 0))]),
                "2026-12-05T03:00",
                true,
                Some("2026-12-07T00:00"),
            ),
            (
                "hours within others",
                schedule(vec![
                    hours("1", (8, 0), (18, 0)),
                    hours("1", (9, 0), (10, 0)),
                ]),
                "2026-11-30T09:30",
                true,
                Some("2026-11-30T18:00"),
            ),
            (
                "always",
                schedule(vec![hours("1234567", (0, 0), (0, 0))]),
                "2026-11-30T09:30",
                true,
                None,
            ),
            ("never", schedule(vec![]), "2026-11-30T09:30", false, None),
        ];
        for (what, schedule, now, open, changes) in cases {
            let says = schedule.says(&moment(&at(now))).unwrap();
            let changes_ms = changes.map(|text| moment(&at(text)).timestamp().as_millisecond());
            assert_eq!(says, ScheduleSays { open, changes_ms }, "{what}");
        }
    }

    #[test]
    fn a_schedule_that_is_off_says_nothing() {
        assert_eq!(
            Schedule::default().says(&moment("2026-11-30T12:00[Europe/Berlin]")),
            None
        );
    }

    #[test]
    fn a_schedule_without_hours_is_never() {
        assert!(schedule(vec![]).is_never());
        assert!(schedule(vec![hours("", (8, 0), (9, 0))]).is_never());
        assert!(!schedule(vec![Hours::NIGHTS]).is_never());
        assert!(!Schedule::default().is_never());
    }
}
