//! Finds the tokens that stand in a text under their own names.

use std::collections::HashSet;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};

use super::Class;

/// A piece of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    Token(u32),
}

/// Bytes; ten times the longest in use. Behind each short name that is found, the longest is
/// looked for.
const LONGEST_NAME: usize = 1024;

/// The names of the special and user-defined tokens. They come from the file, so all are looked
/// for in one pass.
pub(super) struct SpecialTokens {
    all: Names,
    user_defined: Names,
    /// All names in order, to find one by its beginning.
    sorted: Vec<Box<str>>,
}

struct Names {
    automaton: AhoCorasick,
    /// The token of each name, in the automaton's order.
    ids: Vec<u32>,
}

impl SpecialTokens {
    /// Takes all tokens in the order of their ids; the fault is one of the names.
    pub(super) fn new<'a>(tokens: impl Iterator<Item = (&'a str, Class)>) -> Result<Self, String> {
        let mut seen = HashSet::new();
        let mut names = Vec::new();
        for ((text, class), id) in tokens.zip(0..) {
            let special = match class {
                Class::Control | Class::Unknown => true,
                Class::UserDefined => false,
                Class::Normal | Class::Unused | Class::Byte => continue,
            };
            if text.len() > LONGEST_NAME {
                return Err(format!(
                    "has a special token of more than {LONGEST_NAME} bytes"
                ));
            }
            if !text.is_empty() && seen.insert(text) {
                names.push((text, id, special));
            }
        }
        let mut sorted: Vec<Box<str>> = names.iter().map(|(text, ..)| (*text).into()).collect();
        sorted.sort_unstable();
        Ok(Self {
            sorted,
            all: Names::new(&names)?,
            user_defined: {
                names.retain(|(.., special)| !special);
                Names::new(&names)?
            },
        })
    }

    /// Where names begin in a text, of all tokens that `counts`, and where its end, without the white
    /// space there, is the beginning of a name that other text may complete. In rising order.
    pub(super) fn beginnings(&self, text: &str, counts: impl Fn(u32) -> bool) -> Vec<usize> {
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(name) = self.all.automaton.find(Input::new(text).range(from..)) {
            if counts(self.all.ids[name.pattern().as_usize()]) {
                found.push(name.start());
            }
            // Another may begin within it.
            from = name.start() + first_char(&text[name.start()..]);
        }
        let end = text.trim_end();
        let tail = end.len().saturating_sub(LONGEST_NAME);
        for (start, _) in end.char_indices().skip_while(|(start, _)| *start < tail) {
            let beginning = &end[start..];
            let at = self.sorted.partition_point(|name| **name <= *beginning);
            if self
                .sorted
                .get(at)
                .is_some_and(|name| name.starts_with(beginning))
            {
                found.push(start);
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Splits a text at the tokens in it, leftmost first and the longest of those. Special tokens
    /// count with `parse_special` only. No part is an empty text.
    pub(super) fn split<'a>(
        &'a self,
        text: &'a str,
        parse_special: bool,
    ) -> impl Iterator<Item = Part<'a>> {
        let names = if parse_special {
            &self.all
        } else {
            &self.user_defined
        };
        let mut found = names.automaton.find_iter(text);
        let mut start = 0;
        let mut token = None;
        std::iter::from_fn(move || {
            if let Some(id) = token.take() {
                return Some(Part::Token(id));
            }
            if start == text.len() {
                return None;
            }
            let Some(name) = found.next() else {
                let rest = &text[start..];
                start = text.len();
                return Some(Part::Text(rest));
            };
            let before = &text[start..name.start()];
            start = name.end();
            let id = names.ids[name.pattern().as_usize()];
            if before.is_empty() {
                return Some(Part::Token(id));
            }
            token = Some(id);
            Some(Part::Text(before))
        })
    }
}

/// How many bytes the first character of a text has.
pub(super) fn first_char(text: &str) -> usize {
    text.chars().next().map_or(0, char::len_utf8)
}

impl Names {
    fn new(names: &[(&str, u32, bool)]) -> Result<Self, String> {
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            // Others are larger, or slower to build.
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(names.iter().map(|(text, ..)| text))
            .map_err(|error| format!("has too many special tokens: {error}"))?;
        Ok(Self {
            automaton,
            ids: names.iter().map(|(_, id, _)| *id).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_token_wins_and_special_ones_only_when_asked_for() {
        let tokens = SpecialTokens::new(
            [
                ("plain", Class::Normal),
                ("<a>", Class::Control),
                ("<a>b", Class::Control),
                ("é", Class::UserDefined),
            ]
            .into_iter(),
        )
        .unwrap();
        let split = |text, special| -> Vec<_> {
            tokens
                .split(text, special)
                .map(|part| match part {
                    Part::Text(text) => text.to_owned(),
                    Part::Token(id) => format!("#{id}"),
                })
                .collect()
        };
        assert_eq!(split("x<a>b<a>plain", true), ["x", "#2", "#1", "plain"]);
        assert_eq!(split("x<a>é<", false), ["x<a>", "#3", "<"]);
        assert_eq!(split("", true), [""; 0]);
        assert_eq!(split("<a", true), ["<a"]);
    }

    #[test]
    fn long_names_are_looked_for_in_one_pass_and_longer_ones_refused() {
        let name = format!("{}b", "a".repeat(LONGEST_NAME - 1));
        let names = |name| [(name, Class::Control), ("ab", Class::Control)].into_iter();
        let tokens = SpecialTokens::new(names(&name)).unwrap();
        // To walk along the name from each place took 10^10 steps.
        let text = "a".repeat(10 << 20);
        assert_eq!(tokens.split(&text, true).count(), 1);
        let parts: Vec<_> = tokens.split(&name, true).collect();
        assert_eq!(parts, [Part::Token(0)]);
        let fault = SpecialTokens::new(names(&format!("a{name}"))).err();
        assert!(fault.is_some_and(|fault| fault.contains("1024")));
    }
}
