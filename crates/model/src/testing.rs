//! What the tests share: a tiny model file, and where real ones may be.

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::gguf::Gguf;
use crate::gguf::write::GgufBuilder;
use crate::quant::TensorType;

pub(crate) const TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// What is set first stays, so a test sets what it changes before it calls this.
pub(crate) fn llama_metadata(file: GgufBuilder) -> GgufBuilder {
    file.str("general.architecture", "llama")
        .str("general.name", "Tiny")
        .u32("llama.block_count", 1)
        .u32("llama.context_length", 64)
        .u32("llama.embedding_length", 32)
        .u32("llama.feed_forward_length", 64)
        .u32("llama.attention.head_count", 4)
        .u32("llama.attention.head_count_kv", 2)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5)
}

/// A `SentencePiece` vocabulary: three special tokens, a few pieces, all bytes.
pub(crate) fn sentence_pieces(file: GgufBuilder) -> GgufBuilder {
    let mut pieces: Vec<(String, f32, i32)> = vec![
        ("<unk>".into(), 0.0, 2),
        ("<s>".into(), 0.0, 3),
        ("</s>".into(), 0.0, 3),
        ("\u{2581}".into(), -3.0, 1),
        ("a".into(), -4.0, 1),
        ("b".into(), -5.0, 1),
        ("ab".into(), -1.0, 1),
        ("\u{2581}a".into(), -2.0, 1),
        ("<tool>".into(), 0.0, 4),
    ];
    pieces.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>"), 0.0, 6)));
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
        .str("tokenizer.chat_template", TEMPLATE)
}

pub(crate) const PIECES: u64 = 9 + 256;

/// The tensors of [`llama_metadata`] and [`sentence_pieces`], tied.
pub(crate) fn llama_tensors(file: GgufBuilder) -> GgufBuilder {
    let metadata = sentence_pieces(llama_metadata(GgufBuilder::new())).build();
    let metadata = Gguf::from_bytes(metadata, "tiny.gguf").unwrap();
    let layout = Config::from_metadata(&metadata).unwrap().layout();
    layout.tensors().iter().fold(file, |file, tensor| {
        let kind = if tensor.dims.len() == 1 {
            TensorType::F32
        } else {
            TensorType::Q8_0
        };
        let values: u64 = tensor.dims.iter().product();
        let bytes = values as usize / kind.block_values() * kind.block_bytes();
        let filling = (0..bytes).map(|at| (at % 7) as u8).collect();
        file.tensor(&tensor.name.to_string(), kind, &tensor.dims, filling)
    })
}

pub(crate) fn tiny_file() -> Vec<u8> {
    llama_tensors(sentence_pieces(llama_metadata(GgufBuilder::new()))).build()
}

pub(crate) fn tiny() -> Gguf {
    Gguf::from_bytes(tiny_file(), "tiny.gguf").unwrap()
}

/// A file of the models folder: `$INFERA_MODELS`, else `infera-node/models` in the user's cache,
/// else `shared/models` beside the repository. Prints that the test is skipped where it is absent.
pub(crate) fn model_file(name: &str) -> Option<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let cache =
        directories::BaseDirs::new().map(|dirs| dirs.cache_dir().join("infera-node/models"));
    let found = std::env::var_os("INFERA_MODELS")
        .map(PathBuf::from)
        .into_iter()
        .chain(cache)
        .chain([repository.join("../shared/models")])
        .map(|folder| folder.join(name))
        .find(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: `{name}` is not in the models folder");
    }
    found
}
