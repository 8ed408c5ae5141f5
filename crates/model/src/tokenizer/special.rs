//! Finds the tokens that stand in a text under their own names.

use std::collections::HashMap;

use super::Class;

/// A piece of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    Token(u32),
}

/// The names of the special and user-defined tokens as a prefix tree over bytes.
pub(super) struct SpecialTokens {
    nodes: Vec<Node>,
}

#[derive(Default)]
struct Node {
    next: HashMap<u8, usize>,
    /// The token whose name ends here, and whether it is special.
    token: Option<(u32, bool)>,
}

impl SpecialTokens {
    /// Takes all tokens in the order of their ids.
    pub(super) fn new<'a>(tokens: impl Iterator<Item = (&'a str, Class)>) -> Self {
        let mut nodes = vec![Node::default()];
        for ((text, class), id) in tokens.zip(0..) {
            let special = match class {
                Class::Control | Class::Unknown => true,
                Class::UserDefined => false,
                Class::Normal | Class::Unused | Class::Byte => continue,
            };
            if text.is_empty() {
                continue;
            }
            let mut at = 0;
            for byte in text.bytes() {
                let end = nodes.len();
                at = *nodes[at].next.entry(byte).or_insert(end);
                if at == end {
                    nodes.push(Node::default());
                }
            }
            nodes[at].token.get_or_insert((id, special));
        }
        Self { nodes }
    }

    /// Splits a text at the tokens in it, leftmost first and the longest of those. Special tokens
    /// count with `parse_special` only. No part is an empty text.
    pub(super) fn split<'a>(
        &'a self,
        text: &'a str,
        parse_special: bool,
    ) -> impl Iterator<Item = Part<'a>> {
        let mut start = 0;
        let mut token = None;
        std::iter::from_fn(move || {
            if let Some(id) = token.take() {
                return Some(Part::Token(id));
            }
            if start == text.len() {
                return None;
            }
            let found = (start..text.len()).find_map(|at| {
                self.longest_at(&text.as_bytes()[at..], parse_special)
                    .map(|(id, length)| (at, id, length))
            });
            let Some((at, id, length)) = found else {
                let rest = &text[start..];
                start = text.len();
                return Some(Part::Text(rest));
            };
            let before = &text[start..at];
            start = at + length;
            if before.is_empty() {
                return Some(Part::Token(id));
            }
            token = Some(id);
            Some(Part::Text(before))
        })
    }

    fn longest_at(&self, text: &[u8], parse_special: bool) -> Option<(u32, usize)> {
        let mut at = 0;
        let mut longest = None;
        for (index, byte) in text.iter().enumerate() {
            match self.nodes[at].next.get(byte) {
                Some(next) => at = *next,
                None => break,
            }
            if let Some((id, special)) = self.nodes[at].token
                && (parse_special || !special)
            {
                longest = Some((id, index + 1));
            }
        }
        longest
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
        );
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
}
