//! Byte-level BPE: every byte has a printable stand-in character, and merges work on those.
//!
//! Source: Radford et al., "Language models are unsupervised multitask learners", 2019 (GPT-2),
//! and the published tokenizer files of the model families named in [`SPLITS`].

use std::collections::HashMap;
use std::sync::LazyLock;

use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::utils::SysRegex;
use tokenizers::{Model, NormalizedString, Normalizer};

use super::Class;

/// How a text is cut into words before the merges, under the names that `tokenizer.ggml.pre` uses.
pub(super) struct Split {
    names: &'static [&'static str],
    pattern: &'static str,
    /// Every digit is a word of its own, before the pattern applies.
    single_digits: bool,
    /// The text is brought into Unicode's composed form first.
    composed: bool,
    /// A word that is a token is that token, whatever the merges say.
    whole_words: bool,
    pub(super) adds_bos: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const SPLITS: [Split; 4] = [
    Split {
        names: &["default", "gpt-2", "gpt2"],
        pattern: GPT2,
        single_digits: false,
        composed: false,
        whole_words: false,
        adds_bos: false,
    },
    Split {
        names: &["smollm"],
        pattern: GPT2,
        single_digits: true,
        composed: false,
        whole_words: false,
        adds_bos: false,
    },
    Split {
        names: &["llama-bpe", "llama3", "llama-v3"],
        pattern: LLAMA3,
        single_digits: false,
        composed: false,
        whole_words: true,
        adds_bos: true,
    },
    Split {
        names: &["qwen2"],
        pattern: QWEN2,
        single_digits: false,
        composed: true,
        whole_words: false,
        adds_bos: false,
    },
];

pub(super) fn split(name: &str) -> Option<&'static Split> {
    static ALL: &[Split] = &SPLITS;
    ALL.iter().find(|split| split.names.contains(&name))
}

pub(super) fn split_names() -> Vec<&'static str> {
    SPLITS
        .iter()
        .flat_map(|split| split.names)
        .copied()
        .collect()
}

pub(super) struct ByteLevel {
    split: &'static Split,
    pattern: SysRegex,
    merges: BPE,
    /// The tokens of words of one byte, which are most words of a text of digits.
    bytes: [Option<u32>; 256],
}

/// So many words of each model are remembered by each thread, at up to 6 KB.
const REMEMBERED_WORDS: usize = 2048;

impl ByteLevel {
    pub(super) fn new(
        split: &'static Split,
        texts: &[&str],
        classes: &[Class],
        merges: &[&str],
    ) -> Result<Self, String> {
        // Text must never turn into a control token, so the merges do not know them.
        let mut vocabulary = Vocab::default();
        for ((text, class), id) in texts.iter().zip(classes).zip(0..) {
            if !matches!(class, Class::Control | Class::Unknown) {
                vocabulary.entry((*text).to_owned()).or_insert(id);
            }
        }
        let merges: Merges = merges
            .iter()
            .map(|merge| {
                // The first part may itself begin with a space in old files.
                let space = merge
                    .char_indices()
                    .skip(1)
                    .find(|(_, letter)| *letter == ' ');
                let (left, right) = space
                    .map(|(at, _)| (&merge[..at], &merge[at + 1..]))
                    .ok_or_else(|| format!("has the item `{merge}`, which is not a pair"))?;
                // The library takes the presence of all three for granted.
                if [left, right, &[left, right].concat()]
                    .iter()
                    .any(|text| !vocabulary.contains_key(*text))
                {
                    return Err(format!(
                        "has the item `{merge}`, which makes no known token"
                    ));
                }
                Ok((left.to_owned(), right.to_owned()))
            })
            .collect::<Result<_, _>>()?;
        let bytes = STAND_INS.map(|letter| {
            let mut text = [0; 4];
            vocabulary.get(&*letter.encode_utf8(&mut text)).copied()
        });
        let merges = BPE::builder()
            .vocab_and_merges(vocabulary, merges)
            .ignore_merges(split.whole_words)
            .cache_capacity(REMEMBERED_WORDS)
            .build()
            .map_err(|error| format!("cannot be used: {error}"))?;
        let pattern = SysRegex::new(split.pattern).map_err(|error| error.to_string())?;
        Ok(Self {
            split,
            pattern,
            merges,
            bytes,
        })
    }

    /// Whether a text that is not ASCII may have fewer bytes by the time it is cut into words.
    pub(super) fn composes(&self) -> bool {
        self.split.composed
    }

    /// Stops soon after there are more than `most` ids.
    pub(super) fn encode(&self, text: &str, most: usize, ids: &mut Vec<u32>) {
        if self.split.composed && !text.is_ascii() {
            let mut composed = NormalizedString::from(text);
            if NFC.normalize(&mut composed).is_ok() {
                self.encode_composed(composed.get(), most, ids);
                return;
            }
        }
        self.encode_composed(text, most, ids);
    }

    fn encode_composed(&self, text: &str, most: usize, ids: &mut Vec<u32>) {
        if !self.split.single_digits {
            self.encode_part(text, most, ids);
            return;
        }
        let mut rest = text;
        while let Some((at, digit)) = rest.char_indices().find(|(_, letter)| letter.is_numeric()) {
            self.encode_part(&rest[..at], most, ids);
            if ids.len() > most {
                return;
            }
            let end = at + digit.len_utf8();
            self.encode_word(&rest[at..end], ids);
            rest = &rest[end..];
        }
        self.encode_part(rest, most, ids);
    }

    fn encode_part(&self, text: &str, most: usize, ids: &mut Vec<u32>) {
        let mut done = 0;
        if text.is_empty() {
            return;
        }
        for (start, end) in self.pattern.find_iter(text) {
            self.encode_word(&text[done..start], ids);
            self.encode_word(&text[start..end], ids);
            done = end;
            if ids.len() > most {
                return;
            }
        }
        self.encode_word(&text[done..], ids);
    }

    fn encode_word(&self, word: &str, ids: &mut Vec<u32>) {
        match word.as_bytes() {
            [] => return,
            [byte] => {
                ids.extend(self.bytes[usize::from(*byte)]);
                return;
            }
            _ => {}
        }
        let stand_ins: String = word
            .bytes()
            .map(|byte| STAND_INS[usize::from(byte)])
            .collect();
        // Without an unknown token the library has no error to give: it drops what it cannot
        // write, which a vocabulary with all 256 bytes never causes.
        if let Ok(tokens) = self.merges.tokenize(&stand_ins) {
            ids.extend(tokens.iter().map(|token| token.id));
        }
    }
}

/// The bytes that a token's text stands for. A character that stands for no byte is itself.
pub(super) fn token_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for letter in text.chars() {
        match BYTES.get(&letter) {
            Some(byte) => bytes.push(*byte),
            None => bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// The character that stands for each byte: itself where it is printable in Latin-1, else the next
/// free one from U+0100 on.
static STAND_INS: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut next = 0x100;
    std::array::from_fn(|byte| {
        let code = match byte {
            0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => byte as u32,
            _ => {
                next += 1;
                next - 1
            }
        };
        char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
    })
});

static BYTES: LazyLock<HashMap<char, u8>> =
    LazyLock::new(|| STAND_INS.iter().copied().zip(0..=255).collect());
