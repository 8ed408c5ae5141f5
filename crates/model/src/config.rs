//! A model's shape, from its metadata, checked against its tensors.

use std::collections::HashMap;
use std::fmt;

use infera_protocol::digest::Digest;

use crate::error::ModelError;
use crate::gguf::Gguf;

/// The model families this program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    Llama,
    Qwen2,
}

impl Architecture {
    pub const ALL: [Self; 2] = [Self::Llama, Self::Qwen2];

    /// The name in `general.architecture`, and the prefix of the architecture's metadata.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
        }
    }

    pub(crate) fn list() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Which two values of a head one rotation turns. With the rotated width `d` and pair `i`:
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopePairing {
    /// Values `2i` and `2i + 1`: GGUF files of `llama`, whose query and key rows the converter
    /// has permuted.
    Interleaved,
    /// Values `i` and `i + d/2`.
    HalfSplit,
}

/// Widths are in values, lengths in tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub architecture: Architecture,
    pub layers: u32,
    pub embedding: u32,
    pub feed_forward: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads; divides `heads`.
    pub kv_heads: u32,
    /// Width of a query, key or value head.
    pub head_dim: u32,
    /// How many values of a head are rotated; even, at most `head_dim`.
    pub rope_dim: u32,
    pub rope_base: f32,
    pub rope_pairing: RopePairing,
    pub rms_epsilon: f32,
    /// The longest context the model was trained for.
    pub context: u32,
    pub vocabulary: u32,
    /// The output layer uses the token embedding: there is no `output.weight`.
    pub tied: bool,
    /// Queries, keys and values have a bias.
    pub qkv_bias: bool,
}

impl Config {
    /// Reads the metadata and checks that the file holds exactly the tensors that the model is
    /// computed from, each in its shape: a tensor left unused would mean a silently wrong answer.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, ModelError> {
        let config = Self::read(gguf)?;
        config.check_values(gguf)?;
        config.check_tensors(gguf)?;
        Ok(config)
    }

    /// Appends every field that changes the model's output.
    pub(crate) fn encode(&self, digest: Digest) -> Digest {
        digest
            .bytes(self.architecture.name().as_bytes())
            .u32(self.layers)
            .u32(self.embedding)
            .u32(self.feed_forward)
            .u32(self.heads)
            .u32(self.kv_heads)
            .u32(self.head_dim)
            .u32(self.rope_dim)
            .f32(self.rope_base)
            .u8(match self.rope_pairing {
                RopePairing::Interleaved => 0,
                RopePairing::HalfSplit => 1,
            })
            .f32(self.rms_epsilon)
            .u32(self.context)
            .u32(self.vocabulary)
            .u8(u8::from(self.tied))
            .u8(u8::from(self.qkv_bias))
    }

    fn read(gguf: &Gguf) -> Result<Self, ModelError> {
        let key = "general.architecture";
        let name = gguf.require(key, gguf.get_str(key)?)?;
        let architecture = Architecture::ALL
            .into_iter()
            .find(|architecture| architecture.name() == name)
            .ok_or_else(|| ModelError::UnknownArchitecture {
                file: gguf.file().to_owned(),
                found: name.chars().take(64).collect(),
            })?;
        let key = |suffix: &str| format!("{architecture}.{suffix}");
        let number = |suffix: &str| gguf.get_u32(&key(suffix));
        let needed = |suffix: &str| gguf.require(&key(suffix), number(suffix)?);

        let embedding = needed("embedding_length")?;
        let heads = needed("attention.head_count")?;
        let head_dim = match number("attention.key_length")? {
            Some(width) => width,
            None => embedding.checked_div(heads).unwrap_or(0),
        };
        let rope_base_key = key("rope.freq_base");
        let epsilon_key = key("attention.layer_norm_rms_epsilon");
        let config = Self {
            architecture,
            layers: needed("block_count")?,
            embedding,
            feed_forward: needed("feed_forward_length")?,
            heads,
            kv_heads: number("attention.head_count_kv")?.unwrap_or(heads),
            head_dim,
            rope_dim: number("rope.dimension_count")?.unwrap_or(head_dim),
            rope_base: gguf.get_f32(&rope_base_key)?.unwrap_or(10_000.0),
            rope_pairing: match architecture {
                Architecture::Llama => RopePairing::Interleaved,
                Architecture::Qwen2 => RopePairing::HalfSplit,
            },
            rms_epsilon: gguf.require(&epsilon_key, gguf.get_f32(&epsilon_key)?)?,
            context: needed("context_length")?,
            vocabulary: vocabulary(gguf)?,
            tied: gguf.tensor_info("output.weight").is_none(),
            qkv_bias: gguf.tensor_info("blk.0.attn_q.bias").is_some(),
        };
        let width = number("attention.value_length")?.unwrap_or(head_dim);
        if width != head_dim {
            return Err(ModelError::unsupported(
                gguf.file(),
                format!("its value heads are {width} wide and its key heads {head_dim}"),
            ));
        }
        refuse_rope_scaling(gguf, &key("rope."))?;
        for (suffix, what) in [
            ("expert_count", "a mixture of experts"),
            ("attention.sliding_window", "a sliding window"),
        ] {
            if number(suffix)?.unwrap_or(0) > 0 {
                return Err(ModelError::unsupported(
                    gguf.file(),
                    format!("it has {what} (`{}`), which is not built yet", key(suffix)),
                ));
            }
        }
        Ok(config)
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
        rule(
            self.heads.is_multiple_of(self.kv_heads),
            "its key and value heads do not divide its query heads",
        )?;
        rule(
            self.rope_dim > 0 && self.rope_dim.is_multiple_of(2) && self.rope_dim <= self.head_dim,
            "its rotated width is not an even part of a head",
        )?;
        rule(
            self.rope_base.is_finite() && self.rope_base > 0.0,
            "its rotation base is not a positive number",
        )?;
        rule(
            self.rms_epsilon.is_finite() && self.rms_epsilon >= 0.0 && self.rms_epsilon < 1.0,
            "its normalisation epsilon is not a small number",
        )
    }

    fn check_tensors(&self, gguf: &Gguf) -> Result<(), ModelError> {
        // A claimed layer has tensors, so this bounds the loop below by the file's size.
        if self.layers as usize > gguf.tensors().len() {
            return Err(ModelError::unsupported(
                gguf.file(),
                format!(
                    "it claims {} layers and has {} tensors",
                    self.layers,
                    gguf.tensors().len()
                ),
            ));
        }
        let mut expected = self.expected_tensors();
        for info in gguf.tensors() {
            let Some(dims) = expected.remove(&info.name) else {
                return Err(ModelError::unsupported(
                    gguf.file(),
                    format!(
                        "it has the tensor `{}`, which the architecture {} as built here does not use",
                        info.name, self.architecture
                    ),
                ));
            };
            if info.dims != dims {
                return Err(ModelError::unsupported(
                    gguf.file(),
                    format!(
                        "the tensor `{}` has the shape {:?} where {dims:?} is due",
                        info.name, info.dims
                    ),
                ));
            }
        }
        match expected.keys().min() {
            Some(name) => Err(ModelError::unsupported(
                gguf.file(),
                format!("the tensor `{name}` is missing"),
            )),
            None => Ok(()),
        }
    }

    fn expected_tensors(&self) -> HashMap<String, Vec<u64>> {
        let wide = u64::from(self.embedding);
        let inner = u64::from(self.feed_forward);
        let vocabulary = u64::from(self.vocabulary);
        let query = u64::from(self.heads) * u64::from(self.head_dim);
        let key = u64::from(self.kv_heads) * u64::from(self.head_dim);
        let mut expected = HashMap::from([
            ("token_embd.weight".to_owned(), vec![wide, vocabulary]),
            ("output_norm.weight".to_owned(), vec![wide]),
        ]);
        if !self.tied {
            expected.insert("output.weight".to_owned(), vec![wide, vocabulary]);
        }
        for layer in 0..self.layers {
            let mut add = |name: &str, dims: &[u64]| {
                expected.insert(format!("blk.{layer}.{name}"), dims.to_vec());
            };
            add("attn_norm.weight", &[wide]);
            add("attn_q.weight", &[wide, query]);
            add("attn_k.weight", &[wide, key]);
            add("attn_v.weight", &[wide, key]);
            add("attn_output.weight", &[query, wide]);
            add("ffn_norm.weight", &[wide]);
            add("ffn_gate.weight", &[wide, inner]);
            add("ffn_up.weight", &[wide, inner]);
            add("ffn_down.weight", &[inner, wide]);
            if self.qkv_bias {
                add("attn_q.bias", &[query]);
                add("attn_k.bias", &[key]);
                add("attn_v.bias", &[key]);
            }
        }
        expected
    }
}

/// The embedding's rows; the tokenizer must have as many tokens.
fn vocabulary(gguf: &Gguf) -> Result<u32, ModelError> {
    let key = "tokenizer.ggml.tokens";
    let tokens = gguf.require(key, gguf.array_len(key)?)?;
    u32::try_from(tokens).map_err(|_| ModelError::metadata(gguf.file(), key, "has too many items"))
}

fn refuse_rope_scaling(gguf: &Gguf, prefix: &str) -> Result<(), ModelError> {
    let refuse = |what: String| {
        Err(ModelError::unsupported(
            gguf.file(),
            format!("it scales its rotary positions ({what}), which is not built yet"),
        ))
    };
    let key = format!("{prefix}scaling.type");
    if let Some(kind) = gguf.get_str(&key)?
        && kind != "none"
    {
        return refuse(format!("`{key}` is `{kind}`"));
    }
    for suffix in ["scaling.factor", "scale_linear"] {
        let key = format!("{prefix}{suffix}");
        if let Some(factor) = gguf.get_f32(&key)?
            && factor != 0.0
            && factor.to_bits() != 1.0_f32.to_bits()
        {
            return refuse(format!("`{key}` is {factor}"));
        }
    }
    if gguf.tensor_info("rope_freqs.weight").is_some() {
        return refuse("it has the tensor `rope_freqs.weight`".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::write::GgufBuilder;
    use crate::quant::TensorType;
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
            rope_base: 10_000.0,
            rope_pairing: RopePairing::Interleaved,
            rms_epsilon: 1e-5,
            context: 64,
            vocabulary: PIECES as u32,
            tied: true,
            qkv_bias: false,
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn a_qwen2_file_may_be_untied_and_has_biases() {
        let metadata = GgufBuilder::new()
            .str("general.architecture", "qwen2")
            .u32("qwen2.block_count", 1)
            .u32("qwen2.context_length", 64)
            .u32("qwen2.embedding_length", 32)
            .u32("qwen2.feed_forward_length", 64)
            .u32("qwen2.attention.head_count", 4)
            .u32("qwen2.attention.head_count_kv", 2)
            .f32("qwen2.attention.layer_norm_rms_epsilon", 1e-6)
            .f32("qwen2.rope.freq_base", 1e6);
        let bytes = vec![0; 34 * PIECES as usize];
        let file = llama_tensors(sentence_pieces(metadata))
            .tensor("output.weight", TensorType::Q8_0, &[32, PIECES], bytes)
            .f32_tensor("blk.0.attn_q.bias", &[32], &[0.0; 32])
            .f32_tensor("blk.0.attn_k.bias", &[16], &[0.0; 16])
            .f32_tensor("blk.0.attn_v.bias", &[16], &[0.0; 16])
            .build();
        let config = Config::from_gguf(&Gguf::from_bytes(file, "qwen").unwrap()).unwrap();
        assert_eq!(config.architecture, Architecture::Qwen2);
        assert_eq!(config.rope_pairing, RopePairing::HalfSplit);
        assert!(!config.tied && config.qkv_bias);
    }

    #[test]
    fn an_architecture_we_lack_is_named_with_those_we_have() {
        let error = error(GgufBuilder::new().str("general.architecture", "gemma3"));
        assert!(
            error.contains("`gemma3`") && error.contains("llama, qwen2"),
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
                new().f32("llama.rope.scaling.factor", 4.0),
                "scales its rotary positions",
            ),
            (
                new().f32_tensor("rope_freqs.weight", &[4], &[1.0; 4]),
                "`rope_freqs.weight`",
            ),
            (new().f32_tensor("extra", &[1], &[1.0]), "tensor `extra`"),
            (new().u32("llama.expert_count", 8), "a mixture of experts"),
            (
                new().u32("llama.attention.sliding_window", 8),
                "a sliding window",
            ),
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
            (new().f32("llama.rope.freq_base", f32::NAN), "rotation base"),
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
