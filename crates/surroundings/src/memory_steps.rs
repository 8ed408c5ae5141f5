//! Free memory in steps, so that those who watch it are not told of each page.

const STEP: u64 = 128 << 20;

/// What to show for the free bytes, when `shown` is what was shown last: a step is left only when
/// half of another one lies between, so that it does not flicker between two.
pub(crate) fn step_of(free: u64, shown: Option<u64>) -> u64 {
    match shown {
        Some(shown) if free.saturating_add(STEP / 2) >= shown && free < shown + STEP * 3 / 2 => {
            shown
        }
        _ => free / STEP * STEP,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_left_late() {
        const HALF: u64 = STEP / 2;
        for (free, shown, next) in [
            (0, None, 0),
            (10 * STEP + 1, None, 10 * STEP),
            (10 * STEP + HALF, Some(10 * STEP), 10 * STEP),
            (11 * STEP, Some(10 * STEP), 10 * STEP),
            (11 * STEP + HALF, Some(10 * STEP), 11 * STEP),
            (10 * STEP - 1, Some(10 * STEP), 10 * STEP),
            (10 * STEP - HALF - 1, Some(10 * STEP), 9 * STEP),
            (0, Some(10 * STEP), 0),
            (1, Some(0), 0),
        ] {
            assert_eq!(step_of(free, shown), next, "{free} after {shown:?}");
        }
    }
}
