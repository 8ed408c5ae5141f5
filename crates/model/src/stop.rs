//! Stop strings in text that comes piece by piece.

/// Looks for the first stop string. Text is given out as soon as it can no longer be part of one.
///
/// The first stop string is the one that is complete first, and of those that are complete at the
/// same character the longest. The result does not depend on how the text is split into pieces.
#[derive(Debug, Clone)]
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
    matched: bool,
}

/// What one piece of text brings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopStep {
    /// Text that is safe to send. Never holds any of a stop string.
    pub emit: String,
    /// A stop string is complete: the text ends before it, and nothing more comes.
    pub matched: bool,
}

impl StopMatcher {
    /// Empty strings in `stop` are ignored.
    pub fn new(stop: &[String]) -> Self {
        Self {
            stops: stop
                .iter()
                .filter(|stop| !stop.is_empty())
                .cloned()
                .collect(),
            held: String::new(),
            matched: false,
        }
    }

    /// Takes the next piece of text.
    pub fn push(&mut self, text: &str) -> StopStep {
        if self.matched {
            return StopStep {
                emit: String::new(),
                matched: true,
            };
        }
        self.held.push_str(text);
        let first = self
            .stops
            .iter()
            .filter_map(|stop| {
                let start = self.held.find(stop.as_str())?;
                Some((start + stop.len(), start))
            })
            .min();
        if let Some((_, start)) = first {
            self.held.truncate(start);
            self.matched = true;
            return StopStep {
                emit: std::mem::take(&mut self.held),
                matched: true,
            };
        }
        let rest = self.held.split_off(self.held.len() - self.undecided());
        StopStep {
            emit: std::mem::replace(&mut self.held, rest),
            matched: false,
        }
    }

    /// The end of the text: what was held back is safe after all.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// How many bytes at the end could begin a stop string.
    fn undecided(&self) -> usize {
        self.stops
            .iter()
            .flat_map(|stop| {
                stop.char_indices()
                    .map(|(at, _)| at)
                    .filter(|at| self.held.ends_with(&stop[..*at]))
            })
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(ToString::to_string).collect();
        let mut matcher = StopMatcher::new(&stops);
        let mut emitted = Vec::new();
        let mut matched = false;
        for piece in pieces {
            let step = matcher.push(piece);
            emitted.push(step.emit);
            matched = step.matched;
        }
        emitted.push(matcher.finish());
        (emitted, matched)
    }

    #[test]
    fn only_what_could_begin_a_stop_string_is_held_back() {
        let (emitted, matched) = run(&["END"], &["one E", "N two EN", "D three"]);
        assert_eq!(emitted, ["one ", "EN two ", "", ""]);
        assert!(matched);
        let (emitted, matched) = run(&["END"], &["one", " EN"]);
        assert_eq!(emitted, ["one", " ", "EN"]);
        assert!(!matched);
    }

    #[test]
    fn the_first_complete_stop_string_counts() {
        assert_eq!(run(&["abcd", "bc"], &["xabcd"]).0.concat(), "xa");
        assert_eq!(run(&["bc", "abc"], &["xabcd"]).0.concat(), "x");
        assert_eq!(run(&["\u{1F642}"], &["a\u{1F642}b"]).0.concat(), "a");
        assert_eq!(
            run(&["", "b"], &["ab"]),
            (vec!["a".into(), String::new()], true)
        );
        assert_eq!(run(&[], &["a", "b"]).0, ["a", "b", ""]);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_text(
            stops in prop::collection::vec("[abé]{1,4}", 0..4),
            pieces in prop::collection::vec("[abé]{0,4}", 0..10),
        ) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let (emitted, matched) = run(&stops, &pieces);
            let (whole, matched_whole) = run(&stops, &[&pieces.concat()]);
            let emitted = emitted.concat();
            prop_assert_eq!(&emitted, &whole.concat());
            prop_assert_eq!(matched, matched_whole && !pieces.is_empty());
            prop_assert!(stops.iter().all(|stop| !emitted.contains(stop)));
        }
    }
}
