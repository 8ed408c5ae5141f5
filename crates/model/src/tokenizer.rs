//! Text to token ids and back, from a model file's metadata.

mod byte_level;
mod conversation;
mod sentence_piece;
mod special;
mod stream;
mod word_piece;

use std::collections::BTreeSet;
use std::fmt;

use byte_level::ByteLevel;
use sentence_piece::SentencePiece;
use special::{Part, SpecialTokens};
use tokenizers::normalizers::BertNormalizer;
use word_piece::WordPiece;

pub use conversation::ChatText;
pub use stream::StreamDecoder;

use crate::error::ModelError;
use crate::gguf::Gguf;

const MODEL: &str = "tokenizer.ggml.model";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const PRE: &str = "tokenizer.ggml.pre";
const SCORES: &str = "tokenizer.ggml.scores";
const UNKNOWN: &str = "tokenizer.ggml.unknown_token_id";
const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
const ADD_SEPARATOR: &str = "tokenizer.ggml.add_sep_token";
const STRIP_SPACES: &str = "tokenizer.ggml.remove_extra_whitespaces";
const LOWERCASE: &str = "tokenizer.ggml.normalizer.lowercase";
const STRIP_ACCENTS: &str = "tokenizer.ggml.normalizer.strip_accents";

/// Phi-3's special tokens that keep the white space after them; all others swallow it. Source: the
/// model's published tokenizer configuration (`rstrip`), which GGUF files do not hold.
const PHI3_KEEPS_SPACE_AFTER: [&str; 3] = ["<unk>", "<s>", "<|endoftext|>"];

/// The texts that end a generation in one model family or another, besides the tokens that the
/// metadata names. No file means anything else by them, whatever type it gives their tokens. Source:
/// the model families' published tokenizer configurations.
const END_TEXTS: [&str; 15] = [
    "<|endoftext|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<turn|>",
    "<|tool_response>",
    "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>",
];

/// These do so as control tokens only: some vocabularies have them as tags of HTML or XML, or as
/// plain words.
const END_TEXTS_OF_CONTROL: [&str; 7] =
    ["<eos>", "</s>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "[e~["];

/// Where a vocabulary has all of the texts on the left, the one on the right ends a part of an answer
/// only. Source: the published tokenizers of gpt-oss and Gemma 4.
const ENDS_OF_PARTS: [(&[&str], &str); 2] = [
    (&["<|return|>", "<|call|>"], "<|end|>"),
    (&["<|tool_response>"], "</s>"),
];

/// The keys below `tokenizer.ggml.` that are read or change no text and no token, besides those that
/// name a token.
const KNOWN_KEYS: [&str; 14] = [
    "add_bos_token",
    "add_eos_token",
    "add_sep_token",
    "add_space_prefix",
    "merges",
    "model",
    "normalizer.lowercase",
    "normalizer.strip_accents",
    "pre",
    "remove_extra_whitespaces",
    "scores",
    "token_type",
    "token_type_count",
    "tokens",
];

/// The metadata keys that name a token which ends a generation.
const END_KEYS: [&str; 3] = [
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
];

/// A model's tokenizer. Cheap to share in an `Arc`.
pub struct Tokenizer {
    encoder: Encoder,
    tokens: Vec<Token>,
    special: SpecialTokens,
    /// White space after these is no part of the text.
    trimmed_after: BTreeSet<u32>,
    bos: Option<u32>,
    /// What ends every text of a `WordPiece` model.
    separator: Option<u32>,
    eos: Option<u32>,
    ends: BTreeSet<u32>,
    adds_bos: bool,
    /// For each byte, which part of a token it is at least, in 2^-32.
    shares: Box<[u64; 256]>,
}

enum Encoder {
    ByteLevel(Box<ByteLevel>),
    SentencePiece(SentencePiece),
    WordPiece(WordPiece),
}

struct Token {
    bytes: Box<[u8]>,
    class: Class,
}

/// What kind of token it is, by its number in `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Class {
    fn from_code(code: i32) -> Option<Self> {
        match code {
            0 | 1 => Some(Self::Normal),
            2 => Some(Self::Unknown),
            3 => Some(Self::Control),
            4 => Some(Self::UserDefined),
            5 => Some(Self::Unused),
            6 => Some(Self::Byte),
            _ => None,
        }
    }
}

impl Tokenizer {
    /// Reads the `tokenizer.ggml.*` metadata: byte-level BPE (`gpt2`),
    /// `SentencePiece` (`llama`) or `WordPiece` (`bert`).
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, ModelError> {
        let texts = gguf.require(TOKENS, gguf.get_strings(TOKENS)?)?;
        if texts.is_empty() {
            return Err(ModelError::metadata(gguf.file(), TOKENS, "is empty"));
        }
        refuse_unknown_keys(gguf)?;
        let mut classes = classes(gguf, texts.len())?;
        let ends = ends(gguf, &texts, &classes)?;
        for id in &ends {
            // Files have been made with them as words like any other. What ends an answer is no part
            // of it, and nobody's text becomes it.
            classes[*id as usize] = Class::Control;
        }
        let model = gguf.require(MODEL, gguf.get_str(MODEL)?)?;
        let (encoder, adds_bos_by_default) = match model {
            "gpt2" => {
                let (encoder, adds_bos) = read_byte_level(gguf, &texts, &classes)?;
                (Encoder::ByteLevel(Box::new(encoder)), adds_bos)
            }
            "llama" => {
                let encoder = read_sentence_piece(gguf, &texts, &classes)?;
                (Encoder::SentencePiece(encoder), true)
            }
            "bert" => {
                let unknown = token_id(gguf, UNKNOWN, texts.len())?;
                let encoder = WordPiece::new(&texts, &classes, unknown, normalizer(gguf)?);
                (Encoder::WordPiece(encoder), true)
            }
            other => {
                return Err(ModelError::metadata(
                    gguf.file(),
                    MODEL,
                    format!(
                        "is `{}`; this program has the tokenizers gpt2, llama and bert",
                        short(other)
                    ),
                ));
            }
        };
        let tokens: Vec<Token> = texts
            .iter()
            .zip(&classes)
            .map(|(text, class)| Token {
                bytes: encoder.token_bytes(text, *class),
                class: *class,
            })
            .collect();

        let id = |key: &str| token_id(gguf, key, tokens.len());
        let special = SpecialTokens::new(texts.iter().copied().zip(classes.iter().copied()))
            .map_err(|fault| ModelError::metadata(gguf.file(), TOKENS, fault))?;
        let mut shares = Box::new([1; 256]);
        for token in &tokens {
            for byte in &token.bytes {
                let longest: &mut u64 = &mut shares[usize::from(*byte)];
                *longest = (*longest).max(token.bytes.len() as u64);
            }
        }
        for longest in shares.iter_mut() {
            *longest = (1 << 32) / *longest;
        }
        let trims = model == "llama" && gguf.get_str("general.architecture")? == Some("phi3");
        let trimmed_after = texts
            .iter()
            .zip(&classes)
            .zip(0..)
            .filter(|((text, class), _)| {
                trims
                    && matches!(class, Class::Control | Class::UserDefined)
                    && !PHI3_KEEPS_SPACE_AFTER.contains(text)
            })
            .map(|(_, id)| id)
            .collect();
        let bos = match &encoder {
            Encoder::WordPiece(_) => id("tokenizer.ggml.cls_token_id")?,
            _ => None,
        };
        let separator = match &encoder {
            // The misspelling is the format's.
            Encoder::WordPiece(_) if gguf.get_bool(ADD_SEPARATOR)?.unwrap_or(true) => {
                id("tokenizer.ggml.seperator_token_id")?
            }
            _ => None,
        };
        Ok(Self {
            special,
            trimmed_after,
            bos: id("tokenizer.ggml.bos_token_id")?.or(bos),
            separator,
            eos: id("tokenizer.ggml.eos_token_id")?,
            ends,
            adds_bos: gguf
                .get_bool("tokenizer.ggml.add_bos_token")?
                .unwrap_or(adds_bos_by_default),
            encoder,
            tokens,
            shares,
        })
    }

    /// The text's token ids, without a beginning-of-sequence token.
    ///
    /// With `parse_special`, the text of a control token (`<|im_end|>`) becomes that token;
    /// without it, it is text like any other. A user-defined token's text always becomes that
    /// token.
    pub fn encode(&self, text: &str, parse_special: bool) -> Vec<u32> {
        self.encode_until(text, parse_special, None, usize::MAX)
    }

    /// Stops soon after there are more than `most` ids. A `guard` is no part of the text: it stands
    /// where a special token's name must stay text.
    fn encode_until(
        &self,
        text: &str,
        parse_special: bool,
        guard: Option<char>,
        most: usize,
    ) -> Vec<u32> {
        let mut ids = Vec::with_capacity((text.len() / 3).min(most) + 1);
        let mut after_special = true;
        for part in self.special.split(text, parse_special) {
            if ids.len() > most {
                break;
            }
            match part {
                Part::Token(id) => {
                    ids.push(id);
                    after_special = true;
                }
                Part::Text(text) => {
                    let trims = |id: &u32| after_special && self.trimmed_after.contains(id);
                    let text = conversation::without(guard, text);
                    let text = if ids.last().is_some_and(trims) {
                        text.trim_start()
                    } else {
                        &text
                    };
                    if text.is_empty() {
                        continue;
                    }
                    match &self.encoder {
                        Encoder::ByteLevel(encoder) => encoder.encode(text, most, &mut ids),
                        Encoder::SentencePiece(encoder) => {
                            encoder.encode(text, after_special, &mut ids);
                        }
                        Encoder::WordPiece(encoder) => encoder.encode(text, most, &mut ids),
                    }
                    after_special = false;
                }
            }
        }
        ids
    }

    /// Like [`encode`](Self::encode), with the beginning-of-sequence token in front when the model
    /// wants one and the text does not itself begin with it; a `WordPiece` model's separator comes
    /// last.
    pub fn encode_prompt(&self, text: &str, parse_special: bool) -> Vec<u32> {
        self.framed(self.encode(text, parse_special))
    }

    /// Like [`encode_prompt`](Self::encode_prompt), or `None` when there are more than `most` ids.
    /// A text that is far too long is not read.
    pub fn encode_prompt_within(
        &self,
        text: &str,
        parse_special: bool,
        most: usize,
    ) -> Option<Vec<u32>> {
        self.framed_within(text, parse_special, None, most)
    }

    fn framed_within(
        &self,
        text: &str,
        parse_special: bool,
        guard: Option<char>,
        most: usize,
    ) -> Option<Vec<u32>> {
        if self.fewest_tokens(&conversation::without(guard, text)) > most {
            return None;
        }
        let ids = self.framed(self.encode_until(text, parse_special, guard, most));
        (ids.len() <= most).then_some(ids)
    }

    /// No way to write a text takes fewer tokens. Costs next to nothing, where to encode a text
    /// takes up to two seconds for each megabyte.
    ///
    /// A byte is at least that part of a token which one byte is of the longest token with such a
    /// byte. A `WordPiece` model drops what it does not know: there, it is a text's length that
    /// decides, as though all its words were the longest that the model does not give up on.
    fn fewest_tokens(&self, text: &str) -> usize {
        if let Encoder::WordPiece(_) = self.encoder {
            return text.len() / (word_piece::LONGEST_WORD * char::MAX.len_utf8());
        }
        // White space after a special token may be dropped.
        let counts = |byte: &u8| self.trimmed_after.is_empty() || !byte.is_ascii_whitespace();
        let shares = text
            .bytes()
            .filter(counts)
            .map(|byte| self.shares[usize::from(byte)]);
        let tokens = (shares.sum::<u64>() >> 32) as usize;
        match &self.encoder {
            // Composed characters have at least a third of the bytes that their parts have.
            Encoder::ByteLevel(encoder) if encoder.composes() && !text.is_ascii() => tokens / 3,
            _ => tokens,
        }
    }

    /// With what belongs around a prompt.
    fn framed(&self, mut ids: Vec<u32>) -> Vec<u32> {
        if self.adds_bos
            && let Some(bos) = self.bos
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        ids.extend(self.separator);
        ids
    }

    /// The text of a whole output that follows `prompt`: what a [`StreamDecoder`] gives in all.
    pub fn decode(&self, prompt: &[u32], output: &[u32]) -> String {
        let mut bytes = Vec::new();
        for id in output {
            bytes.extend_from_slice(self.visible(*id));
        }
        if self.drops_space_after(prompt) && bytes.first() == Some(&b' ') {
            bytes.remove(0);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The bytes that a token stands for; for a special token, its name. Several tokens may make
    /// up one character. Empty for an id beyond the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        self.tokens
            .get(id as usize)
            .map_or_else(Vec::new, |token| token.bytes.to_vec())
    }

    /// A control or unknown token, which stands for no text.
    pub fn is_special(&self, id: u32) -> bool {
        self.tokens
            .get(id as usize)
            .is_some_and(|token| matches!(token.class, Class::Control | Class::Unknown))
    }

    /// Whether a token ends the generation.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.contains(&id)
    }

    /// All tokens that end the generation, by rising id.
    pub fn end_ids(&self) -> Vec<u32> {
        self.ends.iter().copied().collect()
    }

    /// The beginning-of-sequence token.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The end-of-sequence token that the metadata names.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// How many tokens there are.
    pub fn vocabulary(&self) -> u32 {
        self.tokens.len() as u32
    }

    /// The bytes that a token adds to an answer.
    fn visible(&self, id: u32) -> &[u8] {
        match self.tokens.get(id as usize) {
            Some(token) if !matches!(token.class, Class::Control | Class::Unknown) => &token.bytes,
            _ => &[],
        }
    }

    /// `SentencePiece` models put a space in front of a text that begins after a special token; it
    /// is no part of the text.
    fn drops_space_after(&self, prompt: &[u32]) -> bool {
        match &self.encoder {
            Encoder::ByteLevel(_) | Encoder::WordPiece(_) => false,
            Encoder::SentencePiece(encoder) => {
                encoder.adds_space && prompt.last().is_none_or(|id| self.is_special(*id))
            }
        }
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Tokenizer")
            .field("vocabulary", &self.tokens.len())
            .field("bos", &self.bos)
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

impl Encoder {
    fn token_bytes(&self, text: &str, class: Class) -> Box<[u8]> {
        let bytes = match (self, class) {
            (Self::ByteLevel(_), Class::Normal | Class::Unused | Class::Byte) => {
                byte_level::token_bytes(text)
            }
            (
                Self::SentencePiece(_) | Self::WordPiece(_),
                Class::Normal | Class::Unused | Class::Byte,
            ) => sentence_piece::token_bytes(text, class == Class::Byte),
            _ => text.as_bytes().to_vec(),
        };
        bytes.into_boxed_slice()
    }
}

fn classes(gguf: &Gguf, tokens: usize) -> Result<Vec<Class>, ModelError> {
    let Some(codes) = gguf.get_i32s(TYPES)? else {
        return Ok(vec![Class::Normal; tokens]);
    };
    if codes.len() != tokens {
        let fault = format!("has {} items for {tokens} tokens", codes.len());
        return Err(ModelError::metadata(gguf.file(), TYPES, fault));
    }
    codes
        .into_iter()
        .map(|code| {
            Class::from_code(code).ok_or_else(|| {
                ModelError::metadata(gguf.file(), TYPES, format!("has the unknown type {code}"))
            })
        })
        .collect()
}

/// A key that is not known may well change how a text is read, and nobody would see it.
fn refuse_unknown_keys(gguf: &Gguf) -> Result<(), ModelError> {
    let unknown = gguf.keys().find(|key| {
        key.strip_prefix("tokenizer.ggml.")
            .is_some_and(|name| !name.ends_with("_token_id") && !KNOWN_KEYS.contains(&name))
    });
    if let Some(key) = unknown {
        return Err(ModelError::unsupported(
            gguf.file(),
            format!("it has the metadata `{}`, which is not known", short(key)),
        ));
    }
    for (key, what) in [
        (ADD_EOS, "an end behind each prompt"),
        (STRIP_SPACES, "white space taken out of texts"),
    ] {
        if gguf.get_bool(key)? == Some(true) {
            return Err(ModelError::unsupported(
                gguf.file(),
                format!("its tokenizer asks for {what} (`{key}`), which is not built yet"),
            ));
        }
    }
    Ok(())
}

/// How a `WordPiece` model wants its texts. Its published tokenizers strip accents when they make
/// texts lower case, unless they say otherwise.
fn normalizer(gguf: &Gguf) -> Result<BertNormalizer, ModelError> {
    let lowercase = gguf.get_bool(LOWERCASE)?.unwrap_or(true);
    let strip_accents = gguf.get_bool(STRIP_ACCENTS)?;
    Ok(BertNormalizer::new(true, true, strip_accents, lowercase))
}

/// The tokens that end a generation.
fn ends(gguf: &Gguf, texts: &[&str], classes: &[Class]) -> Result<BTreeSet<u32>, ModelError> {
    let mut ends = BTreeSet::new();
    for key in END_KEYS {
        ends.extend(token_id(gguf, key, texts.len())?);
    }
    for ((text, class), id) in texts.iter().zip(classes).zip(0..) {
        let of_control = *class == Class::Control && END_TEXTS_OF_CONTROL.contains(text);
        let of_part = || {
            let mut parts = ENDS_OF_PARTS.iter().filter(|(_, part)| part == text);
            parts.any(|(besides, _)| besides.iter().all(|other| texts.contains(other)))
        };
        if (of_control || END_TEXTS.contains(text)) && !of_part() {
            ends.insert(id);
        }
    }
    Ok(ends)
}

fn token_id(gguf: &Gguf, key: &str, tokens: usize) -> Result<Option<u32>, ModelError> {
    /// Converters write this for a token that the model does not have.
    const NONE: u32 = u32::MAX;
    match gguf.get_u32(key)? {
        Some(NONE) => Ok(None),
        Some(id) if id as usize >= tokens => {
            let fault = format!("is {id}, and there are {tokens} tokens");
            Err(ModelError::metadata(gguf.file(), key, fault))
        }
        id => Ok(id),
    }
}

fn read_byte_level(
    gguf: &Gguf,
    texts: &[&str],
    classes: &[Class],
) -> Result<(ByteLevel, bool), ModelError> {
    let Some(pre) = gguf.get_str(PRE)? else {
        return Err(ModelError::metadata(
            gguf.file(),
            PRE,
            "is missing: the program that made the file did not note how its tokenizer cuts text into words, and a guess would give the model other tokens than it was trained on. Get a newer file of this model",
        ));
    };
    let Some(split) = byte_level::split(pre) else {
        return Err(ModelError::metadata(
            gguf.file(),
            PRE,
            format!(
                "is `{}`; this program has {}",
                short(pre),
                byte_level::split_names().join(", ")
            ),
        ));
    };
    let merges = gguf.require(MERGES, gguf.get_strings(MERGES)?)?;
    let encoder = ByteLevel::new(split, texts, classes, &merges)
        .map_err(|fault| ModelError::metadata(gguf.file(), MERGES, fault))?;
    Ok((encoder, split.adds_bos))
}

fn read_sentence_piece(
    gguf: &Gguf,
    texts: &[&str],
    classes: &[Class],
) -> Result<SentencePiece, ModelError> {
    let scores = gguf.require(SCORES, gguf.get_f32s(SCORES)?)?;
    if scores.len() != texts.len() {
        let fault = format!("has {} items for {} tokens", scores.len(), texts.len());
        return Err(ModelError::metadata(gguf.file(), SCORES, fault));
    }
    let adds_space = gguf
        .get_bool("tokenizer.ggml.add_space_prefix")?
        .unwrap_or(true);
    let unknown = token_id(gguf, UNKNOWN, texts.len())?;
    Ok(SentencePiece::new(
        texts, classes, scores, adds_space, unknown,
    ))
}

/// Metadata may be long; an error shows its beginning.
fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests;
