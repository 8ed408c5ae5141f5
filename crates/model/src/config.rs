//! A model's shape, from its metadata, checked against its tensors.

mod embedder;
mod kind;
mod rope;

use infera_protocol::digest::Digest;

use crate::architecture::Architecture;
use crate::error::ModelError;
use crate::gguf::Gguf;
use crate::layout::{
    Attention, DecoderLayer, DecoderLayout, FeedForward, Matrix, Role, TensorName, Vector,
    check_tensors,
};

pub use embedder::{EmbedderConfig, Pooling};
pub use kind::Kind;
pub use rope::{LayerAttention, Rope, Window, rotary_table};

/// Which two values of a head one rotation turns. With the rotated width `d` and pair `i`:
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopePairing {
    /// Values `2i` and `2i + 1`: GGUF files of `llama`, whose query and key rows the converter
    /// has permuted.
    Interleaved,
    /// Values `i` and `i + d/2`.
    HalfSplit,
}

/// What the feed-forward layer's gate goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + exp(-x))`.
    Silu,
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`.
    GeluTanh,
}

/// Widths are in values, lengths in tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Says which parts a layer has and how it is computed.
    pub architecture: Architecture,
    /// How many layers there are.
    pub layers: u32,
    /// Width of the residual stream.
    pub embedding: u32,
    /// Inner width of the feed-forward layer.
    pub feed_forward: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads; divides `heads`.
    pub kv_heads: u32,
    /// Width of a query, key or value head.
    pub head_dim: u32,
    /// How many values of a head are rotated; even, at most `head_dim`.
    pub rope_dim: u32,
    /// In layers that see everything.
    pub rope: Rope,
    /// Which two values of a head one rotation turns.
    pub rope_pairing: RopePairing,
    /// Some or all layers see only the newest positions.
    pub window: Option<Window>,
    /// Added to the mean square in every norm.
    pub rms_epsilon: f32,
    /// The longest context the model was trained for.
    pub context: u32,
    /// How many token ids there are.
    pub vocabulary: u32,
    /// The output layer uses the token embedding: it has no tensor of its own.
    pub tied: bool,
    /// Queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// The rows of query, key and value are one tensor, and those of gate and up are another.
    pub fused: bool,
    /// Each head's query and key go through an RMS norm before they are rotated.
    pub qk_norm: bool,
    /// What attention and feed-forward give goes through an RMS norm before it is added.
    pub post_norms: bool,
    /// What the feed-forward layer's gate goes through.
    pub activation: Activation,
    /// Token embeddings are multiplied by it.
    pub embedding_scale: f32,
    /// Products of query and key are multiplied by it.
    pub attention_scale: f32,
    /// Where set, a score `x` becomes `cap * tanh(x / cap)`.
    pub attention_softcap: Option<f32>,
    /// The same for logits.
    pub final_softcap: Option<f32>,
}

/// Metadata that [`Config::from_gguf`] reads, under the architecture's prefix.
const READ: [&str; 27] = [
    "attention.causal",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_rms_epsilon",
    "attention.scale",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.value_length",
    "attn_logit_softcapping",
    "block_count",
    "context_length",
    "embedding_length",
    "expert_count",
    "expert_used_count",
    "feed_forward_length",
    "final_logit_softcapping",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scale_linear",
    "rope.scaling.attn_factor",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    // Not used: whether the scaling was trained in. Granite's families alone take a false for "no
    // rotation at all", and are none of ours.
    "rope.scaling.finetuned",
    // Not used: the tokens are counted.
    "vocab_size",
];

/// Metadata that tells how the file came about and changes no output.
const HARMLESS: &str = "tensor_data_layout";

/// Values of a layer's row: far more than any model has, and so few that sizes made of it do not
/// overflow.
const MOST_WIDTH: u64 = 1 << 24;

/// Layers of Gemma 3 27B, whose attention scale differs from the others' and is in no metadata.
const GEMMA3_27B_LAYERS: u32 = 62;

impl Config {
    /// Reads the metadata and checks that the file holds exactly the tensors that the model is
    /// computed from, each in its shape: a tensor left unused would mean a silently wrong answer.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, ModelError> {
        let config = Self::from_metadata(gguf)?;
        config.check_values(gguf)?;
        check_tensors(gguf, config.layers, || config.layout().tensors())?;
        Ok(config)
    }

    /// Appends every field that changes the model's output.
    pub(crate) fn encode(&self, digest: Digest) -> Digest {
        let digest = digest
            .bytes(self.architecture.name().as_bytes())
            .u32(self.layers)
            .u32(self.embedding)
            .u32(self.feed_forward)
            .u32(self.heads)
            .u32(self.kv_heads)
            .u32(self.head_dim)
            .u32(self.rope_dim)
            .u8(match self.rope_pairing {
                RopePairing::Interleaved => 0,
                RopePairing::HalfSplit => 1,
            });
        let digest = self.rope.encode(digest).u8(u8::from(self.window.is_some()));
        let digest = match self.window {
            Some(window) => window.encode(digest),
            None => digest,
        };
        digest
            .f32(self.rms_epsilon)
            .u32(self.context)
            .u32(self.vocabulary)
            .u8(u8::from(self.tied))
            .u8(u8::from(self.qkv_bias))
            .u8(u8::from(self.fused))
            .u8(u8::from(self.qk_norm))
            .u8(u8::from(self.post_norms))
            .u8(match self.activation {
                Activation::Silu => 0,
                Activation::GeluTanh => 1,
            })
            .f32(self.embedding_scale)
            .f32(self.attention_scale)
            .f32(self.attention_softcap.unwrap_or_default())
            .f32(self.final_softcap.unwrap_or_default())
    }

    /// Reads the metadata alone, for what makes a file and asks which tensors are due. Neither sizes
    /// nor tensors are checked.
    pub fn from_metadata(gguf: &Gguf) -> Result<Self, ModelError> {
        let architecture = read_architecture(gguf)?;
        refuse_unknown_metadata(architecture.name(), &READ, gguf)?;
        refuse_what_is_not_built(architecture, gguf)?;
        let key = |suffix: &str| format!("{architecture}.{suffix}");
        let number = |suffix: &str| gguf.get_u32(&key(suffix));
        let needed = |suffix: &str| gguf.require(&key(suffix), number(suffix)?);
        let fraction = |suffix: &str| gguf.get_f32(&key(suffix));
        let has = |tensor: TensorName| gguf.tensor_info(&tensor.to_string()).is_some();
        // A cap or scale of 0 is how some writers say that there is none.
        let set = |suffix: &str| Ok(fraction(suffix)?.filter(|value| *value != 0.0));

        let embedding = needed("embedding_length")?;
        let heads = needed("attention.head_count")?;
        let layers = needed("block_count")?;
        let context = needed("context_length")?;
        let head_dim = match number("attention.key_length")? {
            Some(width) => width,
            None => embedding.checked_div(heads).unwrap_or(0),
        };
        let width = number("attention.value_length")?.unwrap_or(head_dim);
        if width != head_dim {
            return Err(ModelError::unsupported(
                gguf.file(),
                format!("its value heads are {width} wide and its key heads {head_dim}"),
            ));
        }
        let gemma = architecture == Architecture::Gemma3;
        // Source for the scale of Gemma 3 27B: its published configuration, where
        // `query_pre_attn_scalar` is the embedding's width by the heads.
        let scaled_width = if gemma && layers == GEMMA3_27B_LAYERS {
            f64::from(embedding) / f64::from(heads)
        } else {
            f64::from(head_dim)
        };
        let epsilon_key = key("attention.layer_norm_rms_epsilon");
        let rope = rope::read_rope(architecture, context, gguf)?;
        Ok(Self {
            architecture,
            layers,
            embedding,
            feed_forward: needed("feed_forward_length")?,
            heads,
            kv_heads: number("attention.head_count_kv")?.unwrap_or(heads),
            head_dim,
            rope_dim: number("rope.dimension_count")?.unwrap_or(head_dim),
            rope,
            rope_pairing: match architecture {
                Architecture::Llama => RopePairing::Interleaved,
                _ => RopePairing::HalfSplit,
            },
            window: rope::read_window(architecture, rope, gguf)?,
            rms_epsilon: gguf.require(&epsilon_key, gguf.get_f32(&epsilon_key)?)?,
            context,
            vocabulary: vocabulary(gguf)?,
            tied: !has(Role::Output.tensor()),
            qkv_bias: has(Role::Query.of_layer(0).bias()),
            fused: architecture == Architecture::Phi3,
            qk_norm: gemma || architecture == Architecture::Qwen3,
            post_norms: gemma,
            activation: if gemma {
                Activation::GeluTanh
            } else {
                Activation::Silu
            },
            embedding_scale: if gemma {
                f64::from(embedding).sqrt() as f32
            } else {
                1.0
            },
            attention_scale: set("attention.scale")?
                .unwrap_or_else(|| scaled_width.sqrt().recip() as f32),
            attention_softcap: set("attn_logit_softcapping")?,
            final_softcap: set("final_logit_softcapping")?,
        })
    }

    fn check_values(&self, gguf: &Gguf) -> Result<(), ModelError> {
        let rule = |holds: bool, what: &str| {
            if holds {
                Ok(())
            } else {
                Err(ModelError::unsupported(gguf.file(), what))
            }
        };
        let positive = [
            self.layers,
            self.embedding,
            self.feed_forward,
            self.heads,
            self.kv_heads,
            self.head_dim,
            self.context,
            self.vocabulary,
        ];
        rule(!positive.contains(&0), "one of its sizes is 0")?;
        let widths = [
            u64::from(self.embedding),
            u64::from(self.feed_forward),
            (u64::from(self.heads) + 2 * u64::from(self.kv_heads)) * u64::from(self.head_dim),
        ];
        rule(
            widths.into_iter().all(|width| width <= MOST_WIDTH),
            "one of its layers is wider than 16777216 values",
        )?;
        rule(
            self.heads.is_multiple_of(self.kv_heads),
            "its key and value heads do not divide its query heads",
        )?;
        rule(
            self.rope_dim > 0 && self.rope_dim.is_multiple_of(2) && self.rope_dim <= self.head_dim,
            "its rotated width is not an even part of a head",
        )?;
        rule(
            self.rope.is_valid(),
            "its rotation's base, scale or magnitude is not a positive number",
        )?;
        rule(
            self.window.is_none_or(|window| window.is_valid()),
            "its sliding window is empty or its rotation not one of positive numbers",
        )?;
        let scales = [
            Some(self.attention_scale),
            self.attention_softcap,
            self.final_softcap,
        ];
        rule(
            scales
                .into_iter()
                .flatten()
                .all(|scale| scale.is_finite() && scale > 0.0),
            "its attention scale or a soft cap is not a positive number",
        )?;
        rule(
            self.rms_epsilon.is_finite() && self.rms_epsilon >= 0.0 && self.rms_epsilon < 1.0,
            "its normalisation epsilon is not a small number",
        )
    }

    /// The tensors that the model is computed from. The sizes must be those of a configuration
    /// that was read.
    pub fn layout(&self) -> DecoderLayout {
        let (wide, vocabulary) = (self.embedding as usize, self.vocabulary as usize);
        let embedding = Matrix::new(Role::TokenEmbedding.tensor(), vocabulary, wide);
        let factor_roles = match self.rope.factors {
            Some(_) => rope::factor_roles(self.architecture),
            None => &[],
        };
        let vector = |role: &Role, length| Vector {
            tensor: role.tensor(),
            length,
        };
        DecoderLayout {
            embedding,
            layers: (0..self.layers).map(|index| self.layer(index)).collect(),
            norm: vector(&Role::OutputNorm, wide),
            head: if self.tied {
                embedding
            } else {
                Matrix::new(Role::Output.tensor(), vocabulary, wide)
            },
            rope_factors: factor_roles
                .iter()
                .map(|role| vector(role, self.rope_dim as usize / 2))
                .collect(),
        }
    }

    fn layer(&self, index: u32) -> DecoderLayer {
        let (wide, inner) = (self.embedding as usize, self.feed_forward as usize);
        let head = self.head_dim as usize;
        let [queries, keys] = [self.heads, self.kv_heads].map(|heads| heads as usize * head);
        let matrix = |role: Role, rows, inputs| Matrix::new(role.of_layer(index), rows, inputs);
        let vector = |role: Role, length| Vector {
            tensor: role.of_layer(index),
            length,
        };
        let optional = |has: bool, role, length| has.then(|| vector(role, length));
        let [query, key, value, gate, up] = if self.fused {
            let qkv = matrix(Role::QueryKeyValue, queries + 2 * keys, wide);
            let gate_up = matrix(Role::GateUp, 2 * inner, wide);
            [
                qkv.part(0..queries),
                qkv.part(queries..queries + keys),
                qkv.part(queries + keys..qkv.rows),
                gate_up.part(0..inner),
                gate_up.part(inner..gate_up.rows),
            ]
        } else {
            [
                matrix(Role::Query, queries, wide),
                matrix(Role::Key, keys, wide),
                matrix(Role::Value, keys, wide),
                matrix(Role::Gate, inner, wide),
                matrix(Role::Up, inner, wide),
            ]
        };
        let biased = |matrix: Matrix, role: Role| Matrix {
            bias: self.qkv_bias.then(|| Vector {
                tensor: role.of_layer(index).bias(),
                length: matrix.rows,
            }),
            ..matrix
        };
        let rotated = |matrix: Matrix, role| Matrix {
            pairs: self.pair_order(),
            ..biased(matrix, role)
        };
        DecoderLayer {
            attention_norm: vector(Role::AttentionNorm, wide),
            attention: Attention {
                query: rotated(query, Role::Query),
                key: rotated(key, Role::Key),
                value: biased(value, Role::Value),
                query_norm: optional(self.qk_norm, Role::QueryNorm, head),
                key_norm: optional(self.qk_norm, Role::KeyNorm, head),
                output: matrix(Role::AttentionOutput, wide, queries),
            },
            attention_post_norm: optional(self.post_norms, Role::AttentionPostNorm, wide),
            feed_forward_norm: vector(Role::FeedForwardNorm, wide),
            feed_forward: FeedForward::Dense {
                gate,
                up,
                down: matrix(Role::Down, wide, inner),
            },
            feed_forward_post_norm: optional(self.post_norms, Role::FeedForwardPostNorm, wide),
        }
    }
}

fn read_architecture(gguf: &Gguf) -> Result<Architecture, ModelError> {
    let key = "general.architecture";
    let name = gguf.require(key, gguf.get_str(key)?)?;
    Architecture::ALL
        .into_iter()
        .find(|architecture| architecture.name() == name)
        .ok_or_else(|| ModelError::UnknownArchitecture {
            file: gguf.file().to_owned(),
            found: name.chars().take(64).collect(),
        })
}

/// Metadata that this program does not know may change the output.
fn refuse_unknown_metadata(
    architecture: &str,
    read: &[&str],
    gguf: &Gguf,
) -> Result<(), ModelError> {
    let unknown = gguf.keys().find(|key| {
        key.strip_prefix(architecture)
            .and_then(|rest| rest.strip_prefix('.'))
            .is_some_and(|suffix| !read.contains(&suffix) && suffix != HARMLESS)
    });
    match unknown {
        None => Ok(()),
        Some(key) => {
            let key: String = key.chars().take(64).collect();
            Err(ModelError::unsupported(
                gguf.file(),
                format!("it has the metadata `{key}`, which is not known"),
            ))
        }
    }
}

fn refuse_what_is_not_built(architecture: Architecture, gguf: &Gguf) -> Result<(), ModelError> {
    let refuse = |what: String| Err(ModelError::unsupported(gguf.file(), what));
    let key = format!("{architecture}.expert_count");
    if gguf.get_u32(&key)?.unwrap_or(0) > 0 {
        return refuse(format!(
            "it has a mixture of experts (`{key}`), which is not built yet"
        ));
    }
    let key = format!("{architecture}.attention.causal");
    if gguf.get_bool(&key)? == Some(false) {
        return refuse(format!("its tokens see later ones (`{key}` is false)"));
    }
    Ok(())
}

/// The embedding's rows; the tokenizer must have as many tokens.
fn vocabulary(gguf: &Gguf) -> Result<u32, ModelError> {
    let key = "tokenizer.ggml.tokens";
    let tokens = gguf.require(key, gguf.array_len(key)?)?;
    u32::try_from(tokens).map_err(|_| ModelError::metadata(gguf.file(), key, "has too many items"))
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these numbers have one right value")]
mod tests {
    use super::*;
    use crate::gguf::write::GgufBuilder;
    use crate::testing::{PIECES, llama_metadata, llama_tensors, sentence_pieces, tiny};

    fn error(first: GgufBuilder) -> String {
        let file = llama_tensors(sentence_pieces(llama_metadata(first))).build();
        let gguf = Gguf::from_bytes(file, "bad.gguf").unwrap();
        let error = Config::from_gguf(&gguf).unwrap_err().to_string();
        assert!(error.contains("`bad.gguf`"), "{error}");
        error
    }

    #[test]
    fn a_llama_file_gives_its_shape() {
        let config = Config::from_gguf(&tiny()).unwrap();
        let expected = Config {
            architecture: Architecture::Llama,
            layers: 1,
            embedding: 32,
            feed_forward: 64,
            heads: 4,
            kv_heads: 2,
            head_dim: 8,
            rope_dim: 8,
            rope: Rope {
                base: 10_000.0,
                position_scale: 1.0,
                factors: None,
                magnitude: 1.0,
            },
            rope_pairing: RopePairing::Interleaved,
            window: None,
            rms_epsilon: 1e-5,
            context: 64,
            vocabulary: PIECES as u32,
            tied: true,
            qkv_bias: false,
            fused: false,
            qk_norm: false,
            post_norms: false,
            activation: Activation::Silu,
            embedding_scale: 1.0,
            attention_scale: 8.0_f32.sqrt().recip(),
            attention_softcap: None,
            final_softcap: None,
        };
        assert_eq!(config, expected);
    }

    /// A file of one layer per item of `layers`, made of the tensors that each names: its suffix
    /// and how many rows it has; none makes it a vector.
    fn file_of(
        name: &str,
        first: GgufBuilder,
        layers: u32,
        extra: &[(&str, u64, Option<u64>)],
    ) -> Result<(Config, Vec<LayerAttention>), ModelError> {
        let key = |suffix: &str| format!("{name}.{suffix}");
        let metadata = first
            .str("general.architecture", name)
            .u32(&key("block_count"), layers)
            .u32(&key("context_length"), 64)
            .u32(&key("embedding_length"), 32)
            .u32(&key("feed_forward_length"), 64)
            .u32(&key("attention.head_count"), 4)
            .u32(&key("attention.head_count_kv"), 2)
            .f32(&key("attention.layer_norm_rms_epsilon"), 1e-6);
        let whole = [
            ("token_embd.weight", 32, Some(PIECES)),
            ("output_norm.weight", 32, None),
        ];
        let common = [
            ("attn_norm.weight", 32, None),
            ("attn_output.weight", 32, Some(32)),
            ("ffn_norm.weight", 32, None),
            ("ffn_down.weight", 64, Some(32)),
        ];
        let mut file = sentence_pieces(metadata);
        let mut add = |name: &str, row: u64, rows: Option<u64>| {
            let dims: Vec<u64> = std::iter::once(row).chain(rows).collect();
            let values = vec![0.5; dims.iter().product::<u64>() as usize];
            file = std::mem::take(&mut file).f32_tensor(name, &dims, &values);
        };
        for (name, row, rows) in whole {
            add(name, row, rows);
        }
        for layer in 0..layers {
            for (name, row, rows) in common.iter().chain(extra) {
                add(&format!("blk.{layer}.{name}"), *row, *rows);
            }
        }
        let gguf = Gguf::from_bytes(file.build(), "made.gguf")?;
        let config = Config::from_gguf(&gguf)?;
        let attention = config.attention(&gguf)?;
        Ok((config, attention))
    }

    const SPLIT: [(&str, u64, Option<u64>); 5] = [
        ("attn_q.weight", 32, Some(32)),
        ("attn_k.weight", 32, Some(16)),
        ("attn_v.weight", 32, Some(16)),
        ("ffn_gate.weight", 32, Some(64)),
        ("ffn_up.weight", 32, Some(64)),
    ];
    const QK_NORM: [(&str, u64, Option<u64>); 2] = [
        ("attn_q_norm.weight", 8, None),
        ("attn_k_norm.weight", 8, None),
    ];
    const FUSED: [(&str, u64, Option<u64>); 2] = [
        ("attn_qkv.weight", 32, Some(64)),
        ("ffn_up.weight", 32, Some(128)),
    ];

    #[test]
    fn a_qwen2_file_may_be_untied_and_has_biases() {
        let biases = [
            ("attn_q.bias", 32, None),
            ("attn_k.bias", 16, None),
            ("attn_v.bias", 16, None),
        ];
        let output = GgufBuilder::new()
            .f32("qwen2.rope.freq_base", 1e6)
            .f32_tensor(
                "output.weight",
                &[32, PIECES],
                &vec![0.0; 32 * PIECES as usize],
            );
        let (config, attention) =
            file_of("qwen2", output, 1, &[&SPLIT[..], &biases].concat()).unwrap();
        assert_eq!(config.architecture, Architecture::Qwen2);
        assert_eq!(config.rope_pairing, RopePairing::HalfSplit);
        assert!(!config.tied && config.qkv_bias && !config.qk_norm);
        let expected = [1.0, 10_f64.powf(-1.5), 1e-3, 10_f64.powf(-4.5)];
        for (found, expected) in attention[0].frequencies.iter().zip(expected) {
            assert!((found / expected - 1.0).abs() < 1e-12, "{found}");
        }
    }

    #[test]
    fn a_qwen3_file_has_norms_of_query_and_key() {
        let layer = [&SPLIT[..], &QK_NORM].concat();
        let (config, _) = file_of("qwen3", GgufBuilder::new(), 2, &layer).unwrap();
        assert_eq!(config.rope_pairing, RopePairing::HalfSplit);
        assert!(config.qk_norm && !config.post_norms && !config.qkv_bias);
        let error = file_of("qwen3", GgufBuilder::new(), 1, &SPLIT).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("`blk.0.attn_k_norm.weight` is missing"),
            "{error}"
        );
    }

    #[test]
    fn a_gemma3_file_has_five_layers_with_a_window_to_one_without() {
        let norms = [
            ("post_attention_norm.weight", 32, None),
            ("post_ffw_norm.weight", 32, None),
        ];
        let layer = [&SPLIT[..], &QK_NORM, &norms].concat();
        let file = || {
            GgufBuilder::new()
                .u32("gemma3.attention.sliding_window", 16)
                .f32("gemma3.rope.freq_base", 1e6)
                .str("gemma3.rope.scaling.type", "linear")
                .f32("gemma3.rope.scaling.factor", 8.0)
                .f32("gemma3.final_logit_softcapping", 0.0)
        };
        let (config, attention) = file_of("gemma3", file(), 7, &layer).unwrap();
        assert!(config.qk_norm && config.post_norms);
        assert_eq!(config.activation, Activation::GeluTanh);
        assert_eq!(config.embedding_scale, 32.0_f32.sqrt());
        assert_eq!(config.attention_scale, 8.0_f32.sqrt().recip());
        assert_eq!(
            (config.attention_softcap, config.final_softcap),
            (None, None)
        );
        let windows: Vec<_> = attention.iter().map(|layer| layer.window).collect();
        let near = Some(16);
        assert_eq!(windows, [near, near, near, near, near, None, near]);
        assert_eq!(attention[0].frequencies[0], 1.0);
        assert_eq!(attention[5].frequencies[0], 1.0 / 8.0);
        assert!((attention[0].frequencies[1] - 0.1).abs() < 1e-12);
        // Published files lack the window's length, and see everything.
        let open = GgufBuilder::new().f32("gemma3.rope.freq_base", 1e6);
        let (_, attention) = file_of("gemma3", open, 7, &layer).unwrap();
        assert!(attention.iter().all(|layer| layer.window.is_none()));
        assert!((attention[0].frequencies[1] - 1e6_f64.powf(-0.25)).abs() < 1e-9);
        let capped = file().f32("gemma3.attn_logit_softcapping", 50.0);
        assert_eq!(
            file_of("gemma3", capped, 1, &layer)
                .unwrap()
                .0
                .attention_softcap,
            Some(50.0)
        );
    }

    #[test]
    fn gemma3_of_62_layers_scales_by_the_embedding_by_the_heads() {
        let file = |layers| {
            let gguf = GgufBuilder::new()
                .str("general.architecture", "gemma3")
                .u32("gemma3.block_count", layers)
                .u32("gemma3.context_length", 64)
                .u32("gemma3.embedding_length", 5376)
                .u32("gemma3.feed_forward_length", 21_504)
                .u32("gemma3.attention.head_count", 32)
                .u32("gemma3.attention.key_length", 128)
                .u32("gemma3.attention.value_length", 128)
                .u32("gemma3.attention.sliding_window", 1024)
                .f32("gemma3.attention.layer_norm_rms_epsilon", 1e-6)
                .strings("tokenizer.ggml.tokens", &["a"]);
            Config::from_metadata(&Gguf::from_bytes(gguf.build(), "gemma").unwrap()).unwrap()
        };
        assert_eq!(file(62).attention_scale, 168.0_f32.sqrt().recip());
        assert_eq!(file(48).attention_scale, 128.0_f32.sqrt().recip());
    }

    #[test]
    fn a_phi3_file_is_fused_and_uses_its_long_factors_where_it_has_a_long_context() {
        let plain = file_of("phi3", GgufBuilder::new(), 1, &FUSED).unwrap();
        assert!(plain.0.fused && plain.0.window.is_none());
        assert_eq!(plain.1[0].magnitude, 1.0);
        let file = |original| {
            GgufBuilder::new()
                .u32("phi3.rope.scaling.original_context_length", original)
                .u32("phi3.attention.sliding_window", 20)
                .f32_tensor("rope_factors_long.weight", &[4], &[4.0; 4])
                .f32_tensor("rope_factors_short.weight", &[4], &[2.0; 4])
        };
        let (config, long) = file_of("phi3", file(16), 1, &FUSED).unwrap();
        assert_eq!(config.window.unwrap().global_every, None);
        assert_eq!(long[0].window, Some(20));
        assert_eq!(long[0].frequencies[0], 0.25);
        // Four times 16 = 2^4: sqrt(1 + 2 / 4).
        assert!((long[0].magnitude - 1.5_f32.sqrt()).abs() < 1e-6);
        let (_, short) = file_of("phi3", file(64), 1, &FUSED).unwrap();
        assert_eq!(short[0].frequencies[0], 0.5);
        assert_eq!(short[0].magnitude, 1.0);
        let given = file(16).f32("phi3.rope.scaling.attn_factor", 1.25);
        let (_, given) = file_of("phi3", given, 1, &FUSED).unwrap();
        assert_eq!(given[0].magnitude, 1.25);
    }

    #[test]
    fn a_llama_file_may_scale_its_positions() {
        let linear = [
            GgufBuilder::new()
                .str("llama.rope.scaling.type", "linear")
                .f32("llama.rope.scaling.factor", 4.0),
            GgufBuilder::new().f32("llama.rope.scale_linear", 4.0),
        ];
        for file in linear {
            let (_, attention) = file_of("llama", file, 1, &SPLIT).unwrap();
            assert_eq!(attention[0].frequencies[0], 0.25);
        }
        let file = GgufBuilder::new()
            .u32("llama.attention.sliding_window", 8)
            .f32_tensor("rope_freqs.weight", &[4], &[1.0, 1.0, 8.0, 32.0]);
        let (_, attention) = file_of("llama", file, 1, &SPLIT).unwrap();
        assert_eq!(attention[0].window, Some(8));
        assert_eq!(attention[0].frequencies[0], 1.0);
        assert!((attention[0].frequencies[3] * 32_000.0 - 1.0).abs() < 1e-12);
        let bad = GgufBuilder::new().f32_tensor("rope_freqs.weight", &[4], &[0.0; 4]);
        let error = file_of("llama", bad, 1, &SPLIT).unwrap_err().to_string();
        assert!(error.contains("`rope_freqs.weight` divides"), "{error}");
    }

    /// llama.cpp reads the key for every architecture, and switches rotation off in Granite's alone.
    #[test]
    fn whether_scaling_was_trained_in_changes_nothing_but_in_granite() {
        for (name, layer) in [("llama", &SPLIT[..]), ("phi3", &FUSED)] {
            let file = |finetuned: Option<bool>| {
                let key = format!("{name}.rope.scaling.finetuned");
                let first = GgufBuilder::new().f32(&format!("{name}.rope.freq_base"), 1e5);
                let first = match finetuned {
                    Some(value) => first.bool(&key, value),
                    None => first,
                };
                file_of(name, first, 1, layer).unwrap()
            };
            let without = file(None);
            assert_eq!(without.1[0].frequencies.len(), 4);
            assert_eq!(file(Some(false)), without);
            assert_eq!(file(Some(true)), without);
        }
        let granite = GgufBuilder::new().bool("granite.rope.scaling.finetuned", false);
        let error = file_of("granite", granite, 1, &SPLIT).unwrap_err();
        assert!(error.to_string().contains("`granite`"), "{error}");
        let bert = GgufBuilder::new()
            .str("general.architecture", "bert")
            .bool("bert.rope.scaling.finetuned", false);
        let bert = Gguf::from_bytes(bert.build(), "made.gguf").unwrap();
        let error = EmbedderConfig::from_metadata(&bert).unwrap_err();
        assert!(error.to_string().contains("not known"), "{error}");
    }

    #[test]
    fn an_architecture_we_lack_is_named_with_those_we_have() {
        let error = error(GgufBuilder::new().str("general.architecture", "mamba"));
        assert!(
            error.contains("`mamba`") && error.contains("llama, qwen2, qwen3, gemma3, phi3"),
            "{error}"
        );
    }

    #[test]
    fn missing_metadata_is_named() {
        let file = llama_tensors(sentence_pieces(
            GgufBuilder::new().str("general.architecture", "llama"),
        ));
        let gguf = Gguf::from_bytes(file.build(), "bad.gguf").unwrap();
        let error = Config::from_gguf(&gguf).unwrap_err().to_string();
        assert!(
            error.contains("`bad.gguf` has no metadata `llama.embedding_length`"),
            "{error}"
        );
        let gguf = Gguf::from_bytes(GgufBuilder::new().build(), "bad.gguf").unwrap();
        let error = Config::from_gguf(&gguf).unwrap_err().to_string();
        assert!(error.contains("`general.architecture`"), "{error}");
    }

    #[test]
    fn what_would_give_wrong_text_is_refused() {
        let new = GgufBuilder::new;
        let cases = [
            (
                new().str("llama.rope.scaling.type", "yarn"),
                "scales its rotary positions",
            ),
            (
                new().str("llama.rope.scaling.type", "longrope"),
                "scales its rotary positions",
            ),
            (
                new().f32("llama.rope.scaling.factor", -4.0),
                "not a positive number",
            ),
            (
                new().f32_tensor("rope_freqs.weight", &[8], &[1.0; 8]),
                "where [4] is due",
            ),
            (
                new().f32_tensor("rope_factors_long.weight", &[4], &[1.0; 4]),
                "`rope_factors_long.weight`",
            ),
            (new().f32("llama.logit_scale", 2.0), "`llama.logit_scale`"),
            (
                new().bool("llama.attention.causal", false),
                "see later ones",
            ),
            (
                new().f32("llama.attention.scale", f32::INFINITY),
                "attention scale",
            ),
            (new().f32_tensor("extra", &[1], &[1.0]), "tensor `extra`"),
            (new().u32("llama.expert_count", 8), "a mixture of experts"),
            (
                new().u32("llama.attention.value_length", 4),
                "value heads are 4 wide",
            ),
            (
                new().u32("llama.block_count", 2),
                "`blk.1.attn_k.weight` is missing",
            ),
            (
                new().u32("llama.block_count", u32::MAX),
                "claims 4294967295 layers",
            ),
            (new().u32("llama.block_count", 0), "one of its sizes is 0"),
            (
                new().u32("llama.attention.head_count", 0),
                "one of its sizes is 0",
            ),
            (
                new().u32("llama.attention.head_count_kv", 3),
                "do not divide",
            ),
            (new().u32("llama.rope.dimension_count", 10), "rotated width"),
            (new().u32("llama.rope.dimension_count", 3), "rotated width"),
            (
                new().f32("llama.rope.freq_base", f32::NAN),
                "its rotation's base",
            ),
            (
                new().f32("llama.attention.layer_norm_rms_epsilon", -1.0),
                "epsilon",
            ),
            (
                new().u32("llama.feed_forward_length", 32),
                "where [32, 32] is due",
            ),
            (new().str("llama.block_count", "1"), "`llama.block_count`"),
        ];
        for (file, fault) in cases {
            let error = error(file);
            assert!(error.contains(fault), "{error}");
        }
    }
}
