//! Waiting for a condition, with a time limit and words for what is awaited.

use std::time::{Duration, Instant};

use crate::Result;

/// Looks again and again until `look` gives something; fails with `what` after `limit`.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(5);
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() >= end {
            return Err(format!("waited {limit:.0?} in vain until {what}").into());
        }
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(Duration::from_millis(200));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_comes_is_named() {
        let error = until("pigs fly", Duration::from_millis(1), || Ok(None::<()>)).unwrap_err();
        assert!(error.to_string().contains("until pigs fly"), "{error}");
    }

    #[test]
    fn what_comes_is_returned() {
        let mut looks = 0;
        let found = until("the third look", Duration::from_secs(5), || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(found.unwrap(), 3);
    }
}
