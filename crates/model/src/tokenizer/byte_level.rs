//! Byte-level BPE: every byte has a printable stand-in character, and merges work on those.
//!
//! Source: Radford et al., "Language models are unsupervised multitask learners", 2019 (GPT-2),
//! and the published tokenizer files of the model families named in [`SPLITS`].

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::NFC;
use tokenizers::{Model, NormalizedString, Normalizer};

use super::Class;

/// How a text is cut into words before the merges, under the names that `tokenizer.ggml.pre` uses.
pub(super) struct Split {
    names: &'static [&'static str],
    /// Each applies to what the one before it cut: matches, and what is between them.
    stages: &'static [&'static str],
    /// The text is brought into Unicode's composed form first.
    composed: bool,
    /// A word that is a token is that token, whatever the merges say.
    whole_words: bool,
    pub(super) adds_bos: bool,
}

// The published patterns end in `\s+(?!\S)|\s+`: of white space before a word, the last character is
// left to the word. Here it is given back after the match ([`Stage::word`]), so that a search needs no
// bound: with the look-ahead, a million spaces ended the words of a text.

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+"##;

/// What a row of [`SPLITS`] does not say.
const PLAIN: Split = Split {
    names: &[],
    stages: &[],
    composed: false,
    whole_words: false,
    adds_bos: false,
};

const SPLITS: [Split; 10] = [
    Split {
        names: &["default"],
        stages: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
        ..PLAIN
    },
    Split {
        names: &[
            "gpt-2",
            "gpt2",
            "phi-2",
            "roberta-bpe",
            "jina-v2-code",
            "exaone4",
            "mpt",
            "olmo",
            "modern-bert",
            "granite-docling",
        ],
        stages: &[GPT2],
        ..PLAIN
    },
    Split {
        names: &["smollm", "starcoder", "refact", "command-r"],
        stages: &[r"\p{N}", GPT2],
        ..PLAIN
    },
    Split {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "pixtral",
            "lfm2",
        ],
        stages: &[LLAMA3],
        whole_words: true,
        adds_bos: true,
        ..PLAIN
    },
    Split {
        names: &["smaug-bpe", "dbrx", "glm4", "chatglm-bpe"],
        stages: &[LLAMA3],
        ..PLAIN
    },
    Split {
        names: &["qwen2", "deepseek-r1-qwen"],
        stages: &[QWEN2],
        composed: true,
        ..PLAIN
    },
    Split {
        names: &["qwen35"],
        stages: &[QWEN35],
        composed: true,
        ..PLAIN
    },
    Split {
        names: &["tekken"],
        stages: &[TEKKEN],
        whole_words: true,
        adds_bos: true,
        ..PLAIN
    },
    Split {
        names: &["gpt-4o", "llama4", "minimax-m2"],
        stages: &[GPT4O],
        ..PLAIN
    },
    Split {
        names: &["deepseek-v3"],
        stages: &[
            r"\p{N}{1,3}",
            "[\u{4e00}-\u{9fa5}\u{3040}-\u{309f}\u{30a0}-\u{30ff}]+",
            DEEPSEEK3,
        ],
        ..PLAIN
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
    stages: Vec<Stage>,
    merges: BPE,
    /// The tokens of words of one byte, which are most words of a text of digits.
    bytes: [Option<u32>; 256],
}

struct Stage {
    pattern: Regex,
    /// White space before a word leaves the word its last character.
    gives_back: bool,
    /// But not where it ends in a line's end.
    keeps_lines: bool,
}

/// What white space is matched by in patterns where a word has the space before it.
const SPACE: &str = r"|\s+";
const LINES: &str = r"|\s*[\r\n]+";

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
        let mut unreachable = HashSet::new();
        for ((text, class), id) in texts.iter().zip(classes).zip(0..) {
            if matches!(class, Class::Control | Class::Unknown) {
                unreachable.insert(*text);
            } else {
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
                let all = [left, right, &[left, right].concat()];
                let missing = all.iter().find(|text| !vocabulary.contains_key(**text));
                match missing {
                    None => Ok(Some((left.to_owned(), right.to_owned()))),
                    Some(text) if unreachable.contains(*text) => Ok(None),
                    Some(_) => Err(format!(
                        "has the item `{merge}`, which makes no known token"
                    )),
                }
            })
            .filter_map(Result::transpose)
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
        let stages = split
            .stages
            .iter()
            .map(|pattern| Stage::new(pattern))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            split,
            stages,
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
                self.encode_part(composed.get(), &self.stages, most, ids);
                return;
            }
        }
        self.encode_part(text, &self.stages, most, ids);
    }

    fn encode_part(&self, text: &str, stages: &[Stage], most: usize, ids: &mut Vec<u32>) {
        let Some((stage, next)) = stages.split_first().filter(|_| text.len() > 1) else {
            self.encode_word(text, ids);
            return;
        };
        let mut done = 0;
        while let Some(word) = stage.word(text, done) {
            self.encode_part(&text[done..word.start], next, most, ids);
            self.encode_part(&text[word.clone()], next, most, ids);
            done = word.end;
            if ids.len() > most {
                return;
            }
        }
        self.encode_part(&text[done..], next, most, ids);
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

impl Stage {
    fn new(pattern: &str) -> Result<Self, String> {
        Ok(Self {
            pattern: Regex::new(pattern).map_err(|error| error.to_string())?,
            gives_back: pattern.ends_with(SPACE),
            keeps_lines: pattern.contains(LINES),
        })
    }

    /// The next word from a position on.
    fn word(&self, text: &str, from: usize) -> Option<Range<usize>> {
        let word = self.pattern.find_at(text, from)?;
        let mut range = word.range();
        let last = word.as_str().chars().next_back()?;
        let is_space = || self.gives_back && word.as_str().chars().all(char::is_whitespace);
        if range.len() > last.len_utf8()
            && text[range.end..].starts_with(|next: char| !next.is_whitespace())
            && !(self.keeps_lines && matches!(last, '\r' | '\n'))
            && is_space()
        {
            range.end -= last.len_utf8();
        }
        Some(range)
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
