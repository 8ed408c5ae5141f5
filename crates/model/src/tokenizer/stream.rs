//! Tokens to text as they come, in whole characters.

use std::sync::Arc;

use super::Tokenizer;

/// Decodes one output token by token. The pieces joined are what [`Tokenizer::decode`] gives.
#[derive(Debug, Clone)]
pub struct StreamDecoder {
    tokenizer: Arc<Tokenizer>,
    joiner: Utf8Joiner,
    drop_space: bool,
}

impl StreamDecoder {
    /// For text that goes on from other text: a leading space stays.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self {
            tokenizer,
            joiner: Utf8Joiner::default(),
            drop_space: false,
        }
    }

    /// For the output that follows `prompt`. Where the prompt ends with a special token (a chat's
    /// turn), the space that a `SentencePiece` model puts before its first word is left out.
    pub fn after(tokenizer: Arc<Tokenizer>, prompt: &[u32]) -> Self {
        let drop_space = tokenizer.drops_space_after(prompt);
        Self {
            drop_space,
            ..Self::new(tokenizer)
        }
    }

    /// The text that is complete with this token. Special tokens give none.
    pub fn push(&mut self, id: u32) -> String {
        let mut bytes = self.tokenizer.visible(id);
        if self.drop_space && !bytes.is_empty() {
            self.drop_space = false;
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        self.joiner.push(bytes)
    }

    /// The end: an unfinished character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        self.joiner.finish()
    }
}

/// Bytes to text in whole characters. Gives what `String::from_utf8_lossy` gives for all the bytes
/// at once, however they are split.
#[derive(Debug, Clone, Default)]
struct Utf8Joiner {
    /// The beginning of a character: at most three bytes.
    pending: Vec<u8>,
}

impl Utf8Joiner {
    fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    self.pending.clear();
                    return text;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    let Some(length) = error.error_len() else {
                        self.pending = after.to_vec();
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &after[length..];
                }
            }
        }
    }

    fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joined(pieces: &[&[u8]]) -> (Vec<String>, String) {
        let mut joiner = Utf8Joiner::default();
        let texts = pieces.iter().map(|piece| joiner.push(piece)).collect();
        (texts, joiner.finish())
    }

    #[test]
    fn a_character_waits_for_its_last_byte() {
        let smile = "\u{1F642}".as_bytes();
        let (texts, rest) = joined(&[b"a", &smile[..1], &smile[1..3], &smile[3..]]);
        assert_eq!(texts, ["a", "", "", "\u{1F642}"]);
        assert_eq!(rest, "");
    }

    #[test]
    fn what_can_no_longer_become_a_character_is_replaced_at_once() {
        let (texts, rest) = joined(&[b"\xF0\x9F", b"x", b"\xFF", b"\xE2\x82"]);
        assert_eq!(texts, ["", "\u{FFFD}x", "\u{FFFD}", ""]);
        assert_eq!(rest, "\u{FFFD}");
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_text(
            pieces in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..6),
                    "[aé\u{1F642}]{0,3}".prop_flat_map(|text| {
                        let bytes = text.into_bytes();
                        (0..=bytes.len()).prop_map(move |end| bytes[..end].to_vec())
                    }),
                ],
                0..12,
            )
        ) {
            let all = pieces.concat();
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let (texts, rest) = joined(&pieces);
            prop_assert_eq!(texts.concat() + &rest, String::from_utf8_lossy(&all));
        }
    }
}
