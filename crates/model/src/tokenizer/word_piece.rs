//! `WordPiece`: each word is cut into the longest pieces that there are, from the left.
//!
//! Source: Devlin et al., "BERT", 2019: lower case and no accents unless the model is a cased one,
//! punctuation and Chinese characters are words of their own. A GGUF file writes U+2581 in front of
//! pieces that begin a word.

use std::collections::HashMap;

use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
};

use super::Class;

const WORD_START: char = '\u{2581}';

/// Characters; a longer word is unknown.
pub(super) const LONGEST_WORD: usize = 100;

pub(super) struct WordPiece {
    pieces: HashMap<Box<str>, u32>,
    /// Bytes of the longest piece.
    longest: usize,
    unknown: Option<u32>,
    normalizer: BertNormalizer,
}

/// How a character parts words. Both kinds may be cut apart before a text is made plain: nothing
/// about the plain text goes beyond them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parts {
    /// It is a word of its own.
    Word,
    Space,
}

impl WordPiece {
    pub(super) fn new(
        texts: &[&str],
        classes: &[Class],
        unknown: Option<u32>,
        normalizer: BertNormalizer,
    ) -> Self {
        let mut pieces: HashMap<Box<str>, u32> = HashMap::new();
        for ((text, class), id) in texts.iter().zip(classes).zip(0..) {
            // Text must never turn into a control token.
            if matches!(class, Class::Normal | Class::UserDefined) {
                pieces.entry(Box::from(*text)).or_insert(id);
            }
        }
        Self {
            longest: pieces.keys().map(|piece| piece.len()).max().unwrap_or(0),
            pieces,
            unknown,
            normalizer,
        }
    }

    /// Stops soon after there are more than `most` ids.
    pub(super) fn encode(&self, text: &str, most: usize, ids: &mut Vec<u32>) {
        let mut rest = text;
        while !rest.is_empty() && ids.len() <= most {
            let found = rest
                .char_indices()
                .find_map(|(at, letter)| Some((at, letter.len_utf8(), parts(letter)?)));
            let (at, length, kind) = found.unwrap_or((rest.len(), 0, Parts::Space));
            self.encode_plainly(&rest[..at], ids);
            if kind == Parts::Word {
                self.encode_plainly(&rest[at..at + length], ids);
            }
            rest = &rest[at + length..];
        }
    }

    /// A stretch of text without white space.
    fn encode_plainly(&self, text: &str, ids: &mut Vec<u32>) {
        if text.is_empty() {
            return;
        }
        if text.bytes().all(|byte| byte.is_ascii_graphic()) {
            if self.normalizer.lowercase {
                self.encode_word(&text.to_ascii_lowercase(), ids);
            } else {
                self.encode_word(text, ids);
            }
            return;
        }
        let mut plain = NormalizedString::from(text);
        // Neither step has an error to give.
        let _ = self.normalizer.normalize(&mut plain);
        let mut words = PreTokenizedString::from(plain.get());
        let _ = BertPreTokenizer.pre_tokenize(&mut words);
        for (word, ..) in words.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            self.encode_word(word, ids);
        }
    }

    fn encode_word(&self, word: &str, ids: &mut Vec<u32>) {
        let first = ids.len();
        let letters = word.chars().take(LONGEST_WORD + 1).count();
        let word = format!("{WORD_START}{word}");
        let mut start = 0;
        while start < word.len() && letters <= LONGEST_WORD {
            let rest = &word[start..];
            let longest = rest.floor_char_boundary(self.longest);
            let found = rest[..longest]
                .char_indices()
                .rev()
                .find_map(|(at, letter)| {
                    let end = at + letter.len_utf8();
                    Some((start + end, *self.pieces.get(&rest[..end])?))
                });
            let Some((end, id)) = found else { break };
            ids.push(id);
            start = end;
        }
        if start < word.len() {
            ids.truncate(first);
            ids.extend(self.unknown);
        }
    }
}

fn parts(letter: char) -> Option<Parts> {
    match letter {
        '\t' | '\n' | '\r' | ' ' => Some(Parts::Space),
        // Other control characters are dropped, also those that count as white space.
        _ if letter.is_whitespace() && !letter.is_control() => Some(Parts::Space),
        _ if letter.is_ascii_punctuation() => Some(Parts::Word),
        // The most of the Chinese characters.
        '\u{4e00}'..='\u{9fff}' => Some(Parts::Word),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PIECES: [&str; 10] = [
        "\u{2581}a",
        "a",
        "b",
        "\u{2581}\u{e9}",
        "ab",
        "\u{2581}!",
        "7",
        "\u{2581}\u{4f60}",
        "\u{2581}-",
        "\u{2581}ba",
    ];

    proptest! {
        #[test]
        fn a_text_made_plain_in_parts_has_the_words_of_the_whole(
            lowercase: bool,
            strip_accents: Option<bool>,
            text in "[abB7!\\-é\u{c9}\u{301}\u{323}\u{4f60}\u{20000}\u{1112}\u{1161} \t\n\u{b}\u{85}\u{a0}\u{200b}\u{2028}\u{3000}\u{1fef}\u{37e}\0\u{fffd}ßİ]{0,30}",
        ) {
            let normalizer = BertNormalizer::new(true, true, strip_accents, lowercase);
            let pieces = WordPiece::new(&PIECES, &[Class::Normal; 10], Some(99), normalizer);
            let mut in_parts = Vec::new();
            pieces.encode(&text, usize::MAX, &mut in_parts);
            let mut whole = Vec::new();
            let mut plain = NormalizedString::from(text.as_str());
            normalizer.normalize(&mut plain).unwrap();
            let mut words = PreTokenizedString::from(plain.get());
            BertPreTokenizer.pre_tokenize(&mut words).unwrap();
            for (word, ..) in words.get_splits(OffsetReferential::Normalized, OffsetType::None) {
                pieces.encode_word(word, &mut whole);
            }
            prop_assert_eq!(in_parts, whole);
        }
    }
}
