//! `WordPiece`: each word is cut into the longest pieces that there are, from the left.
//!
//! Source: Devlin et al., "BERT", 2019, uncased: lower case, no accents, punctuation and Chinese
//! characters are words of their own. A GGUF file writes U+2581 in front of pieces that begin a
//! word.

use std::collections::HashMap;

use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
};

use super::Class;

const WORD_START: char = '\u{2581}';

/// Characters; a longer word is unknown.
const LONGEST_WORD: usize = 100;

pub(super) struct WordPiece {
    pieces: HashMap<Box<str>, u32>,
    unknown: Option<u32>,
}

impl WordPiece {
    pub(super) fn new(texts: &[&str], classes: &[Class], unknown: Option<u32>) -> Self {
        let mut pieces = HashMap::new();
        for ((text, class), id) in texts.iter().zip(classes).zip(0..) {
            // Text must never turn into a control token.
            if matches!(class, Class::Normal | Class::UserDefined) {
                pieces.entry(Box::from(*text)).or_insert(id);
            }
        }
        Self { pieces, unknown }
    }

    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let mut plain = NormalizedString::from(text);
        // Neither step has an error to give.
        let _ = BertNormalizer::default().normalize(&mut plain);
        let mut words = PreTokenizedString::from(plain.get());
        let _ = BertPreTokenizer.pre_tokenize(&mut words);
        for (word, ..) in words.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            self.encode_word(word, ids);
        }
    }

    fn encode_word(&self, word: &str, ids: &mut Vec<u32>) {
        let first = ids.len();
        let word: Vec<char> = std::iter::once(WORD_START).chain(word.chars()).collect();
        let mut start = 0;
        while start < word.len() && word.len() <= LONGEST_WORD + 1 {
            let found = (start + 1..=word.len()).rev().find_map(|end| {
                let piece: String = word[start..end].iter().collect();
                Some((end, *self.pieces.get(piece.as_str())?))
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
