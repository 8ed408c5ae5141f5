//! The shape of a BERT model, which turns a text into one vector.

use infera_protocol::digest::Digest;

use crate::error::ModelError;
use crate::gguf::Gguf;
use crate::layout::{
    EmbedderLayer, EmbedderLayout, LayerNorm, Matrix, Role, Vector, check_tensors,
};

/// How the vectors of a text's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The mean of all tokens' vectors.
    Mean,
    /// The first token's, `[CLS]`.
    First,
}

/// Widths are in values, lengths in tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbedderConfig {
    /// How many layers there are.
    pub layers: u32,
    /// Width of a vector.
    pub embedding: u32,
    /// Inner width of the feed-forward layer.
    pub feed_forward: u32,
    /// Divides `embedding`.
    pub heads: u32,
    /// Added to the variance in every norm.
    pub layer_norm_epsilon: f32,
    /// The longest text.
    pub context: u32,
    /// How many token ids there are.
    pub vocabulary: u32,
    /// How a text's vectors become one.
    pub pooling: Pooling,
}

const READ: [&str; 9] = [
    "attention.causal",
    "attention.head_count",
    "attention.layer_norm_epsilon",
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "pooling_type",
    // Not used: the tokens are counted.
    "vocab_size",
];

impl EmbedderConfig {
    /// The name in `general.architecture`.
    pub const ARCHITECTURE: &str = "bert";

    /// Rows of the table of token types.
    pub const TOKEN_TYPES: u32 = 2;

    /// Whether the file is a model of this kind.
    pub fn is_in(gguf: &Gguf) -> bool {
        matches!(gguf.get_str("general.architecture"), Ok(Some(name)) if name == Self::ARCHITECTURE)
    }

    /// Reads the metadata and checks that the file holds exactly the tensors that the model is
    /// computed from, each in its shape.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, ModelError> {
        let config = Self::from_metadata(gguf)?;
        check_tensors(gguf, config.layers, || config.layout().tensors())?;
        Ok(config)
    }

    /// Reads the metadata alone, from which it follows which tensors the file must have.
    pub fn from_metadata(gguf: &Gguf) -> Result<Self, ModelError> {
        super::refuse_unknown_metadata(Self::ARCHITECTURE, &READ, gguf)?;
        let key = |suffix: &str| format!("{}.{suffix}", Self::ARCHITECTURE);
        let needed = |suffix: &str| gguf.require(&key(suffix), gguf.get_u32(&key(suffix))?);
        let fault = |what: &str| Err(ModelError::unsupported(gguf.file(), what));
        let epsilon_key = key("attention.layer_norm_epsilon");
        let pooling_key = key("pooling_type");
        let config = Self {
            layers: needed("block_count")?,
            embedding: needed("embedding_length")?,
            feed_forward: needed("feed_forward_length")?,
            heads: needed("attention.head_count")?,
            layer_norm_epsilon: gguf.require(&epsilon_key, gguf.get_f32(&epsilon_key)?)?,
            context: needed("context_length")?,
            vocabulary: super::vocabulary(gguf)?,
            pooling: match needed("pooling_type")? {
                1 => Pooling::Mean,
                2 => Pooling::First,
                other => {
                    return Err(ModelError::metadata(
                        gguf.file(),
                        &pooling_key,
                        format!("is {other}; this program has 1 (mean) and 2 (first token)"),
                    ));
                }
            },
        };
        if gguf.get_bool(&key("attention.causal"))? != Some(false) {
            return fault("its tokens do not see later ones (`bert.attention.causal`)");
        }
        let positive = [
            config.layers,
            config.embedding,
            config.feed_forward,
            config.heads,
            config.context,
            config.vocabulary,
        ];
        if positive.contains(&0) || !config.embedding.is_multiple_of(config.heads) {
            return fault("one of its sizes is 0, or its heads do not divide its width");
        }
        let epsilon = config.layer_norm_epsilon;
        if !(epsilon.is_finite() && (0.0..1.0).contains(&epsilon)) {
            return fault("its normalisation epsilon is not a small number");
        }
        Ok(config)
    }

    pub(crate) fn encode(&self, digest: Digest) -> Digest {
        digest
            .bytes(Self::ARCHITECTURE.as_bytes())
            .u32(self.layers)
            .u32(self.embedding)
            .u32(self.feed_forward)
            .u32(self.heads)
            .f32(self.layer_norm_epsilon)
            .u32(self.context)
            .u32(self.vocabulary)
            .u8(match self.pooling {
                Pooling::Mean => 1,
                Pooling::First => 2,
            })
    }

    /// The tensors that the model is computed from.
    pub fn layout(&self) -> EmbedderLayout {
        let wide = self.embedding as usize;
        let table = |role: Role, rows: u32| Matrix::new(role.tensor(), rows as usize, wide);
        EmbedderLayout {
            tokens: table(Role::TokenEmbedding, self.vocabulary),
            positions: table(Role::PositionEmbedding, self.context),
            types: table(Role::TypeEmbedding, Self::TOKEN_TYPES),
            norm: LayerNorm::new(Role::EmbeddingNorm.tensor(), wide),
            layers: (0..self.layers).map(|index| self.layer(index)).collect(),
        }
    }

    fn layer(&self, index: u32) -> EmbedderLayer {
        let (wide, inner) = (self.embedding as usize, self.feed_forward as usize);
        let matrix = |role: Role, rows, inputs| {
            let tensor = role.of_layer(index);
            Matrix {
                bias: Some(Vector {
                    tensor: tensor.bias(),
                    length: rows,
                }),
                ..Matrix::new(tensor, rows, inputs)
            }
        };
        let norm = |role: Role| LayerNorm::new(role.of_layer(index), wide);
        EmbedderLayer {
            query: matrix(Role::Query, wide, wide),
            key: matrix(Role::Key, wide, wide),
            value: matrix(Role::Value, wide, wide),
            attention_out: matrix(Role::AttentionOutput, wide, wide),
            attention_norm: norm(Role::AttentionOutputNorm),
            up: matrix(Role::Up, inner, wide),
            down: matrix(Role::Down, wide, inner),
            norm: norm(Role::LayerOutputNorm),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::write::GgufBuilder;

    /// A file of one layer; what is set first stays.
    fn read(first: GgufBuilder) -> Result<EmbedderConfig, ModelError> {
        let mut file = first
            .str("general.architecture", "bert")
            .u32("bert.block_count", 1)
            .u32("bert.context_length", 16)
            .u32("bert.embedding_length", 8)
            .u32("bert.feed_forward_length", 12)
            .u32("bert.attention.head_count", 2)
            .f32("bert.attention.layer_norm_epsilon", 1e-12)
            .bool("bert.attention.causal", false)
            .u32("bert.pooling_type", 1)
            .strings("tokenizer.ggml.tokens", &["a", "b", "c"]);
        let mut add = |name: &str, dims: &[u64]| {
            let values = vec![0.0; dims.iter().product::<u64>() as usize];
            file = std::mem::take(&mut file).f32_tensor(name, dims, &values);
        };
        add("token_embd.weight", &[8, 3]);
        add("position_embd.weight", &[8, 16]);
        add("token_types.weight", &[8, 2]);
        add("token_embd_norm.weight", &[8]);
        add("token_embd_norm.bias", &[8]);
        for (name, inputs, rows) in [
            ("attn_q", 8, 8),
            ("attn_k", 8, 8),
            ("attn_v", 8, 8),
            ("attn_output", 8, 8),
            ("ffn_up", 8, 12),
            ("ffn_down", 12, 8),
        ] {
            add(&format!("blk.0.{name}.weight"), &[inputs, rows]);
            add(&format!("blk.0.{name}.bias"), &[rows]);
        }
        for name in ["attn_output_norm", "layer_output_norm"] {
            add(&format!("blk.0.{name}.weight"), &[8]);
            add(&format!("blk.0.{name}.bias"), &[8]);
        }
        let gguf = Gguf::from_bytes(file.build(), "bert.gguf").unwrap();
        assert!(EmbedderConfig::is_in(&gguf));
        EmbedderConfig::from_gguf(&gguf)
    }

    #[test]
    fn a_bert_file_gives_its_shape() {
        let config = read(GgufBuilder::new()).unwrap();
        let expected = EmbedderConfig {
            layers: 1,
            embedding: 8,
            feed_forward: 12,
            heads: 2,
            layer_norm_epsilon: 1e-12,
            context: 16,
            vocabulary: 3,
            pooling: Pooling::Mean,
        };
        assert_eq!(config, expected);
        let first = GgufBuilder::new().u32("bert.pooling_type", 2);
        assert_eq!(read(first).unwrap().pooling, Pooling::First);
    }

    #[test]
    fn what_would_give_wrong_vectors_is_refused() {
        let new = GgufBuilder::new;
        let cases = [
            (new().u32("bert.pooling_type", 0), "`bert.pooling_type`"),
            (new().bool("bert.attention.causal", true), "later ones"),
            (new().u32("bert.attention.head_count", 3), "do not divide"),
            (
                new().u32("bert.context_length", 8),
                "`position_embd.weight`",
            ),
            (
                new().u32("bert.block_count", 2),
                "`blk.1.attn_k.bias` is missing",
            ),
            (new().u32("bert.block_count", 0), "sizes is 0"),
            (
                new().f32("bert.rope.freq_base", 1.0),
                "`bert.rope.freq_base`",
            ),
            (
                new().f32_tensor("cls.weight", &[8], &[0.0; 8]),
                "`cls.weight`",
            ),
        ];
        for (file, fault) in cases {
            let error = read(file).unwrap_err().to_string();
            assert!(
                error.contains("`bert.gguf`") && error.contains(fault),
                "{error}"
            );
        }
    }
}
