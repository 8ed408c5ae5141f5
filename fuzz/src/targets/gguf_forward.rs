//! A whole model file, from its metadata to logits: sizes, tensors and weights as the bytes say.
//!
//! Most files are right but for a few changes, so that many get as far as the forward pass.

use std::num::NonZero;
use std::sync::Arc;

use infera_cpu::{BLOCK_TOKENS, CpuModel, Segment};
use infera_model::gguf::write::GgufBuilder;
use infera_model::layout::Role;
use infera_model::{Config, EmbedderConfig, Gguf, Kind, Manifest, TensorType};
use infera_protocol::{JobSeed, Profile, Sampling};
use infera_verify::{choose, log_probabilities};

use crate::bytes::Bytes;

/// Larger files are left out: they would be slow and no different.
const MOST_VALUES: u64 = 1 << 15;
const BLOCKS: u32 = 3;

pub(crate) fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let Some(file) = file(&mut bytes) else {
        return;
    };
    let Ok(gguf) = Gguf::from_bytes(file, "fuzz.gguf") else {
        return;
    };
    let Ok(kind) = Kind::from_gguf(&gguf) else {
        return;
    };
    let _ = Manifest::of(&gguf);
    let Kind::Decoder(config) = kind else {
        return;
    };
    let profile = bytes.of(&Profile::ALL);
    let gguf = Arc::new(gguf);
    let load = |blocks| {
        let (gguf, config) = (gguf.clone(), (*config).clone());
        CpuModel::load(gguf, config, profile, 64, blocks, &mut |_| {})
    };
    let Ok(mut model) = load(BLOCKS as usize) else {
        return;
    };
    model.set_threads(NonZero::<usize>::MIN);
    let length = 1 + bytes.up_to(40);
    let tokens: Vec<u32> = (0..length)
        .map(|_| u32::from(bytes.u8()) % config.vocabulary)
        .collect();
    let whole = pass(&mut model, &tokens, 0, &[0, 1], 0..length);
    assert_eq!(whole.len(), length * config.vocabulary as usize);
    // The same in two parts, in other blocks.
    let cut = bytes.up_to(length - 1);
    if cut > 0 {
        pass(&mut model, &tokens[..cut], 0, &[2, 0], 0..0);
    }
    let rest = length - cut;
    let parts = pass(&mut model, &tokens[cut..], cut, &[2, 0], rest - 1..rest);
    let last = &whole[whole.len() - config.vocabulary as usize..];
    let same = |(one, other): (&f32, &f32)| {
        one.to_bits() == other.to_bits() || (one.is_nan() && other.is_nan())
    };
    assert!(
        last.iter().zip(&parts).all(same),
        "a prompt cut at {cut} of {length} gives other logits"
    );
    let sampling = Sampling {
        temperature: 0.7,
        top_k: 5,
        top_p: 0.9,
        min_p: 0.01,
    };
    let seed = JobSeed::from_bytes([7; 32]);
    assert!(choose(last, &sampling, &seed, 0) < config.vocabulary);
    let (log_probability, top) = log_probabilities(last, tokens[0], 3);
    assert!(log_probability <= 0.0 && top.iter().all(|(_, log)| *log <= 0.0));
}

fn pass(
    model: &mut CpuModel,
    tokens: &[u32],
    start: usize,
    blocks: &[u32],
    wanted: std::ops::Range<usize>,
) -> Vec<f32> {
    assert!(start + tokens.len() <= blocks.len() * BLOCK_TOKENS);
    model.forward(&[Segment {
        tokens,
        start,
        blocks,
        wanted,
    }])
}

const ARCHITECTURES: [&str; 6] = ["llama", "qwen2", "qwen3", "gemma3", "phi3", "bert"];

/// The metadata under an architecture's prefix, known and unknown.
const KEYS: [&str; 28] = [
    "attention.causal",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.layer_norm_epsilon",
    "attention.scale",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.value_length",
    "attn_logit_softcapping",
    "block_count",
    "context_length",
    "embedding_length",
    "expert_count",
    "feed_forward_length",
    "final_logit_softcapping",
    "pooling_type",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scale_linear",
    "rope.scaling.attn_factor",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "vocab_size",
    "unknown",
];

/// Sizes of the model, consistent with one another.
struct Model {
    architecture: &'static str,
    layers: u64,
    wide: u64,
    inner: u64,
    heads: u64,
    kv_heads: u64,
    head_dim: u64,
    vocabulary: u64,
    tied: bool,
    biased: bool,
    factors: bool,
}

/// None when the file would be large.
fn file(bytes: &mut Bytes<'_>) -> Option<Vec<u8>> {
    let model = model(bytes);
    let mut file = GgufBuilder::new();
    // What is set first stays.
    for _ in 0..bytes.up_to(4) {
        file = changed(file, bytes, model.architecture);
    }
    file = metadata(file, &model);
    let mut tensors = tensors(&model)?;
    for _ in 0..bytes.up_to(2) {
        change_tensors(&mut tensors, bytes);
    }
    let mut values = 0_u64;
    let mut kind = bytes.of(&TensorType::ALL);
    for (name, dims) in tensors {
        let size = dims
            .iter()
            .try_fold(1_u64, |size, dim| size.checked_mul(*dim))?;
        values = values.checked_add(size)?;
        if values > MOST_VALUES {
            return None;
        }
        if bytes.u8() > 200 {
            kind = bytes.of(&TensorType::ALL);
        }
        let row = dims.first().copied().unwrap_or(0);
        let kind = match dims.len() {
            1 => TensorType::F32,
            _ if !row.is_multiple_of(kind.block_values() as u64) => TensorType::F32,
            _ => kind,
        };
        let length = size as usize / kind.block_values() * kind.block_bytes();
        file = file.tensor(&name, kind, &dims, filling(bytes, kind, length));
    }
    Some(file.build())
}

fn model(bytes: &mut Bytes<'_>) -> Model {
    let kv_heads = bytes.of(&[1, 2, 3]);
    let head_dim = bytes.of(&[8, 2, 4, 6, 32, 34, 64, 80]);
    Model {
        architecture: bytes.of(&ARCHITECTURES),
        layers: bytes.of(&[1, 2, 1, 7]),
        wide: bytes.of(&[32, 64, 1, 7, 33, 256]),
        inner: bytes.of(&[64, 32, 1, 9, 40, 256]),
        heads: kv_heads * bytes.of(&[1, 2, 4, 33]),
        kv_heads,
        head_dim,
        vocabulary: bytes.of(&[11, 1, 2, 16, 17, 64, 65]),
        tied: bytes.bool(),
        biased: bytes.bool(),
        factors: bytes.u8() > 200,
    }
}

fn metadata(file: GgufBuilder, model: &Model) -> GgufBuilder {
    let key = |suffix: &str| format!("{}.{suffix}", model.architecture);
    let tokens: Vec<String> = (0..model.vocabulary).map(|id| format!("t{id}")).collect();
    let mut file = file
        .str("general.architecture", model.architecture)
        .u32(&key("block_count"), model.layers as u32)
        .u32(&key("context_length"), 64)
        .u32(&key("embedding_length"), model.wide as u32)
        .u32(&key("feed_forward_length"), model.inner as u32)
        .u32(&key("attention.head_count"), model.heads as u32)
        .str("tokenizer.ggml.model", "llama")
        .strings("tokenizer.ggml.tokens", &tokens)
        .f32s("tokenizer.ggml.scores", &vec![0.0; tokens.len()]);
    if model.architecture == "bert" {
        return file
            .bool(&key("attention.causal"), false)
            .f32(&key("attention.layer_norm_epsilon"), 1e-6)
            .u32(&key("pooling_type"), 1);
    }
    file = file
        .u32(&key("attention.head_count_kv"), model.kv_heads as u32)
        .u32(&key("attention.key_length"), model.head_dim as u32)
        .u32(&key("attention.value_length"), model.head_dim as u32)
        .f32(&key("attention.layer_norm_rms_epsilon"), 1e-6);
    if model.architecture == "gemma3" {
        file = file.u32(&key("attention.sliding_window"), 16);
    }
    if model.architecture == "phi3" && model.factors {
        file = file.u32(&key("rope.scaling.original_context_length"), 16);
    }
    file
}

/// Those of the layout, by their names, with their shapes.
fn tensors(model: &Model) -> Option<Vec<(String, Vec<u64>)>> {
    let file = metadata(GgufBuilder::new(), model).build();
    let gguf = Gguf::from_bytes(file, "metadata.gguf").ok()?;
    let tensors = if EmbedderConfig::is_in(&gguf) {
        let config = EmbedderConfig::from_metadata(&gguf).ok()?;
        config.layout().tensors()
    } else {
        let mut config = Config::from_metadata(&gguf).ok()?;
        config.tied = model.tied;
        config.qkv_bias = model.biased;
        // Which one is read makes no difference to which there must be.
        config.rope.factors = model.factors.then_some(Role::RopeFactors);
        config.layout().tensors()
    };
    let named = tensors.into_iter();
    Some(
        named
            .map(|tensor| (tensor.name.to_string(), tensor.dims))
            .collect(),
    )
}

/// Sets one metadata value to something.
fn changed(file: GgufBuilder, bytes: &mut Bytes<'_>, architecture: &str) -> GgufBuilder {
    let key = format!("{architecture}.{}", bytes.of(&KEYS));
    match bytes.up_to(9) {
        0..=2 => file.u32(&key, bytes.up_to(66) as u32),
        3 => file.u32(&key, bytes.u32()),
        4..=5 => {
            let value = f32::from(i16::from_le_bytes(bytes.array()));
            file.f32(&key, value / 16.0)
        }
        6 => file.f32(&key, bytes.f32()),
        7 => file.bool(&key, bytes.bool()),
        8 => {
            let value = bytes.of(&["none", "linear", "longrope", "yarn", ""]);
            file.str(&key, value)
        }
        _ => file.u32("general.alignment", 1 << bytes.up_to(24)),
    }
}

fn change_tensors(tensors: &mut Vec<(String, Vec<u64>)>, bytes: &mut Bytes<'_>) {
    let at = usize::from(bytes.u8()) % tensors.len();
    match bytes.up_to(5) {
        0 if tensors.len() > 1 => {
            tensors.remove(at);
        }
        1 => {
            let copy = tensors[at].clone();
            tensors.push(copy);
        }
        2 => tensors[at].0 = bytes.text(40),
        3 => tensors[at].1.push(bytes.up_to(2) as u64),
        4 => tensors[at].1.reverse(),
        _ => {
            let dims = &mut tensors[at].1;
            let dim = usize::from(bytes.u8()) % dims.len();
            dims[dim] = u64::from(bytes.u16() % 300);
        }
    }
}

/// Weights: ordinary ones, or any bits at all.
fn filling(bytes: &mut Bytes<'_>, kind: TensorType, length: usize) -> Vec<u8> {
    let choice = bytes.u8();
    if choice > 220 {
        let pattern = bytes.take(16);
        if pattern.is_empty() {
            return vec![0xFF; length];
        }
        return pattern.iter().copied().cycle().take(length).collect();
    }
    let salt = usize::from(choice);
    match kind {
        TensorType::F32 => (0..length / 4)
            .flat_map(|at| (((at * 7 + salt) % 13) as f32 / 13.0 - 0.4).to_le_bytes())
            .collect(),
        // Small positive halves, whatever of it is a scale.
        _ => (0..length)
            .map(|at| {
                if at % 2 == 1 {
                    0x2C
                } else {
                    (at * 5 + salt) as u8
                }
            })
            .collect(),
    }
}
