//! Tokenizers: of the known kinds with any text, and from any metadata.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use infera_model::gguf::write::GgufBuilder;
use infera_model::{Gguf, ModelError, StreamDecoder, Tokenizer};

use crate::bytes::Bytes;

pub(crate) fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let choice = bytes.u8();
    if choice >= 160 {
        if let Ok(tokenizer) = hostile(&mut bytes) {
            let text = String::from_utf8_lossy(bytes.rest());
            agree(&Arc::new(tokenizer), &text);
        }
        return;
    }
    let known = &KNOWN[usize::from(choice) % KNOWN.len()];
    let text = String::from_utf8_lossy(bytes.rest());
    let plain = agree(&known.tokenizer, &text);
    for id in &plain {
        assert!(
            !known.tokenizer.is_special(*id) || known.pieces == Pieces::Words,
            "text became the special token {id}"
        );
    }
    let decoded = known.tokenizer.decode(&[], &plain);
    match known.pieces {
        Pieces::Bytes => assert_eq!(decoded, text),
        // The text is brought into its composed form, which stays what it is.
        Pieces::Composed => assert_eq!(known.tokenizer.encode(&decoded, false), plain),
        Pieces::Scored => {
            let text = text.replace('\u{2581}', " ");
            // A space comes after a token that the text names, and stays.
            if !text.contains(NAMED) {
                assert_eq!(decoded, text);
                assert_eq!(plain, merged(&text, true));
            }
        }
        Pieces::Words => {}
    }
}

/// What holds for every tokenizer. Gives the ids of the text as text.
pub(super) fn agree(tokenizer: &Arc<Tokenizer>, text: &str) -> Vec<u32> {
    let in_vocabulary = |ids: &[u32]| {
        assert!(ids.iter().all(|id| *id < tokenizer.vocabulary()));
    };
    let special = tokenizer.encode_prompt(text, true);
    in_vocabulary(&special);
    let plain = tokenizer.encode(text, false);
    in_vocabulary(&plain);
    assert_eq!(plain, tokenizer.encode(text, false));
    for ids in [&special, &plain] {
        streams_as_a_whole(tokenizer, &[], ids);
        streams_as_a_whole(tokenizer, &special, ids);
    }
    plain
}

/// Decoding token by token gives the text of the whole.
pub(super) fn streams_as_a_whole(tokenizer: &Arc<Tokenizer>, prompt: &[u32], ids: &[u32]) {
    let mut decoder = StreamDecoder::after(tokenizer.clone(), prompt);
    let mut streamed: String = ids.iter().map(|id| decoder.push(*id)).collect();
    streamed.push_str(&decoder.finish());
    assert_eq!(streamed, tokenizer.decode(prompt, ids));
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pieces {
    /// Byte-level BPE: any text comes back.
    Bytes,
    /// The same, after Unicode's composition.
    Composed,
    /// `SentencePiece`.
    Scored,
    /// `WordPiece`, which does not keep case and space.
    Words,
}

struct Known {
    tokenizer: Arc<Tokenizer>,
    pieces: Pieces,
}

static KNOWN: LazyLock<Vec<Known>> = LazyLock::new(|| {
    let known = |file: GgufBuilder, pieces| {
        let tokenizer = Gguf::from_bytes(file.build(), "known.gguf")
            .and_then(|gguf| Tokenizer::from_gguf(&gguf));
        match tokenizer {
            Ok(tokenizer) => Known {
                tokenizer: Arc::new(tokenizer),
                pieces,
            },
            Err(error) => panic!("a tokenizer of the targets' own: {error}"),
        }
    };
    let mut all: Vec<_> = [
        ("gpt-2", Pieces::Bytes),
        ("smollm", Pieces::Bytes),
        ("llama-bpe", Pieces::Bytes),
        ("qwen2", Pieces::Composed),
    ]
    .map(|(name, pieces)| known(byte_level(name), pieces))
    .into();
    let phi3 = GgufBuilder::new().str("general.architecture", "phi3");
    all.push(known(scored(GgufBuilder::new()), Pieces::Scored));
    all.push(known(scored(phi3), Pieces::Words));
    all.push(known(words(), Pieces::Words));
    all
});

/// Tokenizers that other targets decode with.
pub(super) fn known(choice: u8) -> &'static Arc<Tokenizer> {
    &KNOWN[usize::from(choice) % KNOWN.len()].tokenizer
}

/// All bytes, a few merges, a special token.
fn byte_level(pre: &str) -> GgufBuilder {
    // The stand-in of each byte, as GPT-2 has them.
    let mut next = 0x100;
    let mut tokens: Vec<String> = (0..=255_u8)
        .map(|byte| {
            let code = match byte {
                0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => u32::from(byte),
                _ => {
                    next += 1;
                    next - 1
                }
            };
            char::from_u32(code).into_iter().collect()
        })
        .collect();
    let merges = [
        ("a", "b"),
        ("ab", "ab"),
        ("\u{120}", "a"),
        ("\u{c3}", "\u{a9}"),
        ("1", "2"),
        ("'", "s"),
        ("\u{10a}", "\u{10a}"),
        ("t", "h"),
        ("th", "e"),
    ];
    for (left, right) in merges {
        tokens.push(format!("{left}{right}"));
    }
    let mut types = vec![1; tokens.len()];
    tokens.push("<|im_end|>".to_owned());
    types.push(3);
    tokens.push("<tool>".to_owned());
    types.push(4);
    let merges: Vec<String> = merges
        .iter()
        .map(|(left, right)| format!("{left} {right}"))
        .collect();
    GgufBuilder::new()
        .str("tokenizer.ggml.model", "gpt2")
        .str("tokenizer.ggml.pre", pre)
        .strings("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &types)
        .strings("tokenizer.ggml.merges", &merges)
        .u32("tokenizer.ggml.eos_token_id", tokens.len() as u32 - 2)
}

/// The user-defined token of [`scored`].
const NAMED: &str = "<tool>";

/// Pieces and scores of [`scored`], from id 3 on.
const PIECES: [(&str, f32); 12] = [
    ("\u{2581}", -3.0),
    ("a", -4.0),
    ("b", -5.0),
    ("ab", -1.0),
    ("\u{2581}a", -2.0),
    ("ba", -1.0),
    ("aba", -2.5),
    ("\u{2581}\u{2581}", -2.0),
    ("\u{e9}", -4.0),
    ("\u{e9}a", -0.5),
    ("abab", 0.5),
    ("\u{2581}ab", -1.0),
];

fn scored(file: GgufBuilder) -> GgufBuilder {
    let mut pieces: Vec<(String, f32, i32)> = vec![
        ("<unk>".into(), 0.0, 2),
        ("<s>".into(), 0.0, 3),
        ("</s>".into(), 0.0, 3),
    ];
    pieces.extend(PIECES.map(|(text, score)| (text.to_owned(), score, 1)));
    pieces.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>"), 0.0, 6)));
    pieces.push((NAMED.to_owned(), 0.0, 4));
    let texts: Vec<_> = pieces.iter().map(|piece| piece.0.as_str()).collect();
    let scores: Vec<_> = pieces.iter().map(|piece| piece.1).collect();
    let types: Vec<_> = pieces.iter().map(|piece| piece.2).collect();
    file.str("tokenizer.ggml.model", "llama")
        .strings("tokenizer.ggml.tokens", &texts)
        .f32s("tokenizer.ggml.scores", &scores)
        .i32s("tokenizer.ggml.token_type", &types)
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.eos_token_id", 2)
        .u32("tokenizer.ggml.unknown_token_id", 0)
}

/// What `SentencePiece` does, as its definition reads: of all neighbours that make a piece those
/// with the best score merge, the leftmost first, until none are left.
fn merged(text: &str, adds_space: bool) -> Vec<u32> {
    if text.is_empty() {
        return Vec::new();
    }
    let ids: HashMap<&str, (u32, f32)> = PIECES
        .iter()
        .zip(3..)
        .map(|((text, score), id)| (*text, (id, *score)))
        .collect();
    let space = if adds_space { "\u{2581}" } else { "" };
    let spaced = format!("{space}{}", text.replace(' ', "\u{2581}"));
    let mut symbols: Vec<String> = spaced.chars().map(String::from).collect();
    loop {
        let mut best: Option<(usize, f32)> = None;
        for at in 1..symbols.len() {
            let pair = [symbols[at - 1].as_str(), symbols[at].as_str()].concat();
            if let Some((_, score)) = ids.get(pair.as_str())
                && best.is_none_or(|(_, most)| *score > most)
            {
                best = Some((at, *score));
            }
        }
        let Some((at, _)) = best else { break };
        let right = symbols.remove(at);
        symbols[at - 1].push_str(&right);
    }
    let first_byte = 3 + PIECES.len() as u32;
    symbols
        .iter()
        .flat_map(|symbol| match ids.get(symbol.as_str()) {
            Some((id, _)) => vec![*id],
            None => symbol
                .bytes()
                .map(|byte| first_byte + u32::from(byte))
                .collect(),
        })
        .collect()
}

fn words() -> GgufBuilder {
    let tokens = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "\u{2581}a",
        "b",
        "ab",
        "\u{2581}the",
        "\u{2581},",
        "s",
        "\u{2581}\u{4f60}",
        "1",
    ];
    GgufBuilder::new()
        .str("tokenizer.ggml.model", "bert")
        .strings("tokenizer.ggml.tokens", &tokens)
        .i32s(
            "tokenizer.ggml.token_type",
            &[3, 2, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        )
        .u32("tokenizer.ggml.unknown_token_id", 1)
        .u32("tokenizer.ggml.cls_token_id", 2)
        .u32("tokenizer.ggml.seperator_token_id", 3)
}

/// Pieces that tokens of a hostile vocabulary are made of.
const SYLLABLES: [&str; 12] = [
    "a",
    "b",
    " ",
    "\u{2581}",
    "\u{120}",
    "<0x41>",
    "<s>",
    "\u{c3}",
    "\u{a9}",
    "1",
    "<",
    "\u{10ffff}",
];

/// A tokenizer from any metadata.
fn hostile(bytes: &mut Bytes<'_>) -> Result<Tokenizer, ModelError> {
    let tokens: Vec<String> = (0..bytes.up_to(24))
        .map(|_| match bytes.up_to(9) {
            0..=7 => (0..=bytes.up_to(3)).map(|_| bytes.of(&SYLLABLES)).collect(),
            _ => bytes.text(12),
        })
        .collect();
    let count = if bytes.u8() > 240 { 3 } else { tokens.len() };
    let merges: Vec<String> = (0..bytes.up_to(12))
        .map(|_| match bytes.up_to(9) {
            0..=8 => format!("{} {}", bytes.of(&SYLLABLES), bytes.of(&SYLLABLES)),
            _ => bytes.text(12),
        })
        .collect();
    let mut file = GgufBuilder::new()
        .str(
            "tokenizer.ggml.model",
            bytes.of(&["gpt2", "llama", "bert", "none"]),
        )
        .strings("tokenizer.ggml.tokens", &tokens)
        .strings("tokenizer.ggml.merges", &merges)
        .str(
            "tokenizer.ggml.pre",
            bytes.of(&[
                "default",
                "smollm",
                "llama3",
                "qwen2",
                "x",
                "tekken",
                "deepseek-v3",
            ]),
        );
    let scores: Vec<f32> = (0..count)
        .map(|_| match bytes.u8() {
            250.. => bytes.f32(),
            small => f32::from(small),
        })
        .collect();
    file = file.f32s("tokenizer.ggml.scores", &scores);
    if bytes.bool() {
        let types: Vec<i32> = (0..count).map(|_| bytes.up_to(7) as i32).collect();
        file = file.i32s("tokenizer.ggml.token_type", &types);
    }
    for key in [
        "tokenizer.ggml.bos_token_id",
        "tokenizer.ggml.eos_token_id",
        "tokenizer.ggml.unknown_token_id",
        "tokenizer.ggml.seperator_token_id",
    ] {
        if bytes.bool() {
            file = file.u32(key, u32::from(bytes.u8()) % (tokens.len() as u32 + 1));
        }
    }
    if bytes.bool() {
        file = file
            .bool("tokenizer.ggml.add_space_prefix", bytes.bool())
            .bool("tokenizer.ggml.add_bos_token", bytes.bool())
            .str("general.architecture", bytes.of(&["phi3", "llama"]));
    }
    let gguf = Gguf::from_bytes(file.build(), "fuzz.gguf")?;
    Tokenizer::from_gguf(&gguf)
}
