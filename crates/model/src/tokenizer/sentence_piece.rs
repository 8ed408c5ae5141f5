//! `SentencePiece` BPE: neighbouring pieces merge, the best score first, down to single characters
//! and bytes. Spaces are written as U+2581.
//!
//! Source: Kudo and Richardson, "`SentencePiece`", EMNLP 2018; the behaviour of llama.cpp, which
//! defines what a GGUF file's `llama` tokenizer means.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use super::Class;

const SPACE: &str = "\u{2581}";

pub(super) struct SentencePiece {
    pieces: HashMap<Box<str>, u32>,
    scores: Vec<f32>,
    bytes: HashMap<u8, u32>,
    /// What stands for a byte that has no token.
    unknown: Option<u32>,
    /// A space goes in front of a text that begins after a special token.
    pub(super) adds_space: bool,
}

impl SentencePiece {
    /// `scores` has one item per text.
    pub(super) fn new(
        texts: &[&str],
        classes: &[Class],
        scores: Vec<f32>,
        adds_space: bool,
        unknown: Option<u32>,
    ) -> Self {
        let mut pieces = HashMap::new();
        let mut bytes = HashMap::new();
        for ((text, class), id) in texts.iter().zip(classes).zip(0..) {
            match class {
                // Text must never turn into a control token.
                Class::Control | Class::Unknown | Class::Unused => {}
                Class::Byte => {
                    if let Some(byte) = byte_name(text) {
                        bytes.entry(byte).or_insert(id);
                    }
                }
                Class::Normal | Class::UserDefined => {
                    pieces.entry(Box::from(*text)).or_insert(id);
                }
            }
        }
        Self {
            pieces,
            scores,
            bytes,
            unknown,
            adds_space,
        }
    }

    pub(super) fn encode(&self, text: &str, after_special: bool, ids: &mut Vec<u32>) {
        let mut spaced = String::with_capacity(text.len() + SPACE.len());
        if self.adds_space && after_special {
            spaced.push_str(SPACE);
        }
        for letter in text.chars() {
            if letter == ' ' {
                spaced.push_str(SPACE);
            } else {
                spaced.push(letter);
            }
        }
        for symbol in self.merge(&spaced) {
            match self.pieces.get(symbol) {
                Some(id) => ids.push(*id),
                None => ids.extend(
                    symbol
                        .bytes()
                        .filter_map(|byte| self.bytes.get(&byte).copied().or(self.unknown)),
                ),
            }
        }
    }

    fn merge<'a>(&self, text: &'a str) -> impl Iterator<Item = &'a str> {
        let mut symbols: Vec<Symbol> = text
            .char_indices()
            .enumerate()
            .map(|(index, (start, letter))| Symbol {
                start,
                end: start + letter.len_utf8(),
                previous: index.checked_sub(1),
                next: Some(index + 1),
            })
            .collect();
        if let Some(last) = symbols.last_mut() {
            last.next = None;
        }
        let mut queue: BinaryHeap<Pair> = (1..symbols.len())
            .filter_map(|right| self.pair(text, &symbols, right - 1, right))
            .collect();
        while let Some(pair) = queue.pop() {
            let (left, right) = (symbols[pair.left], symbols[pair.right]);
            // One of the two has merged with something else meanwhile.
            if left.start != pair.start
                || left.end != right.start
                || right.end != pair.end
                || left.is_gone()
                || right.is_gone()
            {
                continue;
            }
            symbols[pair.left].end = right.end;
            symbols[pair.left].next = right.next;
            symbols[pair.right].end = right.start;
            if let Some(next) = right.next {
                symbols[next].previous = Some(pair.left);
                queue.extend(self.pair(text, &symbols, pair.left, next));
            }
            if let Some(previous) = left.previous {
                queue.extend(self.pair(text, &symbols, previous, pair.left));
            }
        }
        symbols
            .into_iter()
            .filter(|symbol| !symbol.is_gone())
            .map(|symbol| &text[symbol.start..symbol.end])
    }

    fn pair(&self, text: &str, symbols: &[Symbol], left: usize, right: usize) -> Option<Pair> {
        let (start, end) = (symbols[left].start, symbols[right].end);
        let id = self.pieces.get(&text[start..end])?;
        Some(Pair {
            left,
            right,
            start,
            end,
            score: self.scores[*id as usize],
        })
    }
}

/// The bytes that a token's text stands for.
pub(super) fn token_bytes(text: &str, is_byte: bool) -> Vec<u8> {
    match byte_name(text) {
        Some(byte) if is_byte => vec![byte],
        _ => text.replace(SPACE, " ").into_bytes(),
    }
}

/// A stretch of the text; empty once it has merged into its left neighbour.
#[derive(Clone, Copy)]
struct Symbol {
    start: usize,
    end: usize,
    previous: Option<usize>,
    next: Option<usize>,
}

impl Symbol {
    fn is_gone(self) -> bool {
        self.start == self.end
    }
}

/// Two neighbours that make a piece. The best score comes first, then the leftmost.
struct Pair {
    left: usize,
    right: usize,
    start: usize,
    end: usize,
    score: f32,
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score
            .total_cmp(&other.score)
            .then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}

/// `<0x0A>` names the byte 10.
fn byte_name(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2)
        .then(|| u8::from_str_radix(digits, 16).ok())
        .flatten()
}
