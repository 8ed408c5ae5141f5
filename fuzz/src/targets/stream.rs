//! An output as it comes: token by token to text, and text to stop strings.

use infera_model::StopMatcher;

use super::tokenizers;
use crate::bytes::Bytes;

pub(crate) fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    if bytes.bool() {
        tokens(bytes);
    } else {
        stops(bytes);
    }
}

fn tokens(mut bytes: Bytes<'_>) {
    let tokenizer = tokenizers::known(bytes.u8());
    // Ids beyond the vocabulary too.
    let id = |bytes: &mut Bytes<'_>| u32::from(bytes.u16()) % (tokenizer.vocabulary() + 9);
    let prompt: Vec<u32> = (0..bytes.up_to(2)).map(|_| id(&mut bytes)).collect();
    let mut ids = Vec::new();
    while !bytes.is_empty() {
        ids.push(id(&mut bytes));
    }
    tokenizers::streams_as_a_whole(tokenizer, &prompt, &ids);
}

/// Few letters, so that stop strings overlap; one has two bytes.
const LETTERS: [&str; 4] = ["a", "b", "\u{e9}", "\n"];

fn stops(mut bytes: Bytes<'_>) {
    let stops: Vec<String> = (0..bytes.up_to(4))
        .map(|_| match bytes.up_to(7) {
            0 => bytes.text(6),
            length => (0..length).map(|_| bytes.of(&LETTERS)).collect(),
        })
        .collect();
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        pieces.push(match bytes.up_to(7) {
            0 => bytes.text(12),
            length => (0..length).map(|_| bytes.of(&LETTERS)).collect(),
        });
    }
    let mut matcher = StopMatcher::new(&stops);
    let mut emitted = String::new();
    let mut matched = false;
    for piece in &pieces {
        let step = matcher.push(piece);
        assert!(!matched || (step.matched && step.emit.is_empty()));
        matched = step.matched;
        emitted.push_str(&step.emit);
    }
    emitted.push_str(&matcher.finish());
    let whole = pieces.concat();
    let (text, stopped) = first_stop(&stops, &whole);
    assert_eq!(emitted, text, "{stops:?} in {pieces:?}");
    assert_eq!(matched, stopped);
}

/// What [`StopMatcher`] promises, looked for in the whole text.
fn first_stop<'a>(stops: &[String], text: &'a str) -> (&'a str, bool) {
    for end in 0..=text.len() {
        let longest = stops
            .iter()
            .filter(|stop| !stop.is_empty())
            .filter(|stop| text.as_bytes()[..end].ends_with(stop.as_bytes()))
            .map(String::len)
            .max();
        if let Some(length) = longest {
            return (&text[..end - length], true);
        }
    }
    (text, false)
}
