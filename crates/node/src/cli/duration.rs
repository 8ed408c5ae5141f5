//! Durations as people write them: `15m`, `4h`, `1h30m`.

use std::time::Duration;

const LONGEST: u64 = 366 * 24 * 3600;

/// Whole numbers with `d`, `h`, `m` or `s`, from the largest unit to the smallest, each once.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let refuse = || format!("`{text}` is not a duration: write it like 15m, 4h or 1h30m");
    let mut seconds = 0u64;
    let mut rest = text;
    let mut last_unit = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| refuse())?;
        let unit = match rest[digits..].chars().next() {
            Some('d') => 86_400,
            Some('h') => 3600,
            Some('m') => 60,
            Some('s') => 1,
            _ => return Err(refuse()),
        };
        if unit >= last_unit {
            return Err(refuse());
        }
        last_unit = unit;
        seconds = number
            .checked_mul(unit)
            .and_then(|part| seconds.checked_add(part))
            .ok_or_else(refuse)?;
        rest = &rest[digits + 1..];
    }
    match seconds {
        0 => Err(refuse()),
        1..=LONGEST => Ok(Duration::from_secs(seconds)),
        _ => Err(format!(
            "`{text}` is longer than a year: pause without a duration instead"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_a_table() {
        let good = [
            ("15m", 900),
            ("4h", 14_400),
            ("1h30m", 5400),
            ("90s", 90),
            ("2d", 172_800),
            ("1d2h3m4s", 93_784),
            ("90m", 5400),
        ];
        for (text, seconds) in good {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "5",
            "h",
            "1.5h",
            "-1h",
            "1h ",
            " 1h",
            "30m1h",
            "1m1m",
            "0m",
            "1w",
            "1hé",
            "é",
            "99999999999999999999h",
            "18446744073709551615d",
            "367d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
