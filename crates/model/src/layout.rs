//! Which tensors of a file a model is computed from: what each is for, its name and its shape.
//!
//! A configuration gives a layout ([`Config::layout`](crate::Config::layout)). Whatever loads
//! weights, counts their bytes or checks a file goes by it; no other place knows a tensor's name.
//! Source of the names: `gguf-py/gguf/constants.py` of llama.cpp.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;

use crate::error::ModelError;
use crate::gguf::{Gguf, TensorView};
use crate::quant::dequantize;

/// What a tensor of the file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A row for each token id.
    TokenEmbedding,
    /// A row for each position.
    PositionEmbedding,
    /// A row for each token type.
    TypeEmbedding,
    /// Normalises the sum of the embeddings.
    EmbeddingNorm,
    /// Normalises what the head multiplies.
    OutputNorm,
    /// The head: a row for each token id.
    Output,
    /// Divisors of the rotary frequencies in Llama 3. The file's writer computed them from the
    /// model's scaling rule.
    RopeFactors,
    /// Phi-3's divisors for contexts over the original one.
    LongRopeFactors,
    /// Phi-3's divisors within the original context.
    ShortRopeFactors,
    /// Normalises what attention gets.
    AttentionNorm,
    /// Rows of the query heads.
    Query,
    /// Rows of the key heads.
    Key,
    /// Rows of the value heads.
    Value,
    /// Rows of query, key and value, below each other.
    QueryKeyValue,
    /// Normalises each query head before its rotation.
    QueryNorm,
    /// Normalises each key head before its rotation.
    KeyNorm,
    /// What the attended heads are multiplied by.
    AttentionOutput,
    /// Normalises what attention gives, before it is added.
    AttentionPostNorm,
    /// Normalises what the feed-forward layer gets.
    FeedForwardNorm,
    /// What goes through the activation in a gated feed-forward layer.
    Gate,
    /// What is multiplied by the gate; without a gate, what goes through the activation.
    Up,
    /// Rows of gate and up, below each other.
    GateUp,
    /// From the feed-forward layer's inner width back.
    Down,
    /// Normalises what the feed-forward layer gives, before it is added.
    FeedForwardPostNorm,
    /// BERT's norm of the sum with what attention gives.
    AttentionOutputNorm,
    /// BERT's norm of the sum with what the feed-forward layer gives.
    LayerOutputNorm,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::TokenEmbedding => "token_embd",
            Self::PositionEmbedding => "position_embd",
            Self::TypeEmbedding => "token_types",
            Self::EmbeddingNorm => "token_embd_norm",
            Self::OutputNorm => "output_norm",
            Self::Output => "output",
            Self::RopeFactors => "rope_freqs",
            Self::LongRopeFactors => "rope_factors_long",
            Self::ShortRopeFactors => "rope_factors_short",
            Self::AttentionNorm => "attn_norm",
            Self::Query => "attn_q",
            Self::Key => "attn_k",
            Self::Value => "attn_v",
            Self::QueryKeyValue => "attn_qkv",
            Self::QueryNorm => "attn_q_norm",
            Self::KeyNorm => "attn_k_norm",
            Self::AttentionOutput => "attn_output",
            Self::AttentionPostNorm => "post_attention_norm",
            Self::FeedForwardNorm => "ffn_norm",
            Self::Gate => "ffn_gate",
            Self::Up | Self::GateUp => "ffn_up",
            Self::Down => "ffn_down",
            Self::FeedForwardPostNorm => "post_ffw_norm",
            Self::AttentionOutputNorm => "attn_output_norm",
            Self::LayerOutputNorm => "layer_output_norm",
        }
    }

    /// The tensor that the model has one of.
    pub const fn tensor(self) -> TensorName {
        TensorName {
            role: self,
            layer: None,
            is_bias: false,
        }
    }

    /// The tensor of a layer, counted from 0.
    pub const fn of_layer(self, layer: u32) -> TensorName {
        TensorName {
            role: self,
            layer: Some(layer),
            is_bias: false,
        }
    }
}

/// A tensor's name, which its [`fmt::Display`] writes as files have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TensorName {
    role: Role,
    /// None for a tensor that the model has one of.
    layer: Option<u32>,
    is_bias: bool,
}

impl TensorName {
    /// What is added after the product with this tensor, or after the norm.
    #[must_use]
    pub const fn bias(self) -> Self {
        Self {
            is_bias: true,
            ..self
        }
    }

    /// How many bytes it takes in the file; 0 where the file has no such tensor.
    pub fn bytes(self, gguf: &Gguf) -> u64 {
        let info = gguf.tensor_info(&self.to_string());
        info.map_or(0, |info| info.bytes)
    }

    fn view<'a>(self, gguf: &'a Gguf, due: &[usize]) -> Result<TensorView<'a>, ModelError> {
        let fault =
            |what: &str| ModelError::malformed(gguf.file(), format!("the tensor `{self}` {what}"));
        let view = gguf
            .tensor(&self.to_string())
            .ok_or_else(|| fault("is missing"))?;
        let found = &view.info.dims;
        if found.iter().copied().eq(due.iter().map(|dim| *dim as u64)) {
            Ok(view)
        } else {
            Err(fault(&format!(
                "has the shape {found:?} where {due:?} is due"
            )))
        }
    }
}

impl fmt::Display for TensorName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(layer) = self.layer {
            write!(formatter, "blk.{layer}.")?;
        }
        let suffix = if self.is_bias { "bias" } else { "weight" };
        write!(formatter, "{}.{suffix}", self.role.name())
    }
}

/// A tensor of the file and its shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// By which the file is asked for it.
    pub name: TensorName,
    /// In ggml's order: a row's length first.
    pub dims: Vec<u64>,
}

/// A vector `[length]`, a tensor of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vector {
    /// What it is made of.
    pub tensor: TensorName,
    /// How many values it has.
    pub length: usize,
}

impl Vector {
    fn tensor(&self) -> Tensor {
        Tensor {
            name: self.tensor,
            dims: vec![self.length as u64],
        }
    }

    /// Its values, `[length]`. Fails where the file has no such tensor.
    pub fn values(&self, gguf: &Gguf) -> Result<Vec<f32>, ModelError> {
        let view = self.tensor.view(gguf, &[self.length])?;
        let mut values = vec![0.0; self.length];
        dequantize(view.info.kind, view.bytes, &mut values).map_err(|error| {
            let fault = format!("the tensor `{}`: {error}", self.tensor);
            ModelError::malformed(gguf.file(), fault)
        })?;
        Ok(values)
    }
}

/// A matrix `[rows, inputs]`: a tensor of its own, or some of the rows of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matrix {
    /// What it is made of, `[height, inputs]`.
    pub tensor: TensorName,
    /// All rows of the tensor.
    pub height: usize,
    /// Where in the tensor the matrix begins, in rows.
    pub first: usize,
    /// How many values the product has.
    pub rows: usize,
    /// How many values are multiplied by each row.
    pub inputs: usize,
    /// The order that the engines keep the rows in; none where it is the file's.
    pub pairs: Option<PairOrder>,
    /// `[rows]`, in the file's order; added to the product.
    pub bias: Option<Vector>,
}

impl Matrix {
    /// A whole tensor.
    pub(crate) fn new(tensor: TensorName, rows: usize, inputs: usize) -> Self {
        Self {
            tensor,
            height: rows,
            first: 0,
            rows,
            inputs,
            pairs: None,
            bias: None,
        }
    }

    /// Some of its rows.
    pub(crate) fn part(self, rows: Range<usize>) -> Self {
        Self {
            first: self.first + rows.start,
            rows: rows.len(),
            ..self
        }
    }

    fn tensors(&self) -> impl Iterator<Item = Tensor> {
        let weight = Tensor {
            name: self.tensor,
            dims: vec![self.inputs as u64, self.height as u64],
        };
        std::iter::once(weight).chain(self.bias.map(|bias| bias.tensor()))
    }

    /// The tensor with all its rows. Fails where the file has no such tensor.
    pub fn view<'a>(&self, gguf: &'a Gguf) -> Result<TensorView<'a>, ModelError> {
        self.tensor.view(gguf, &[self.inputs, self.height])
    }

    /// The tensor's row that is the matrix's row `row`.
    pub fn source(&self, row: usize) -> usize {
        self.first + self.pairs.map_or(row, |pairs| pairs.source(row))
    }

    /// `[rows]`, in the order that the engines keep the rows in; none where there is no bias.
    pub fn bias_values(&self, gguf: &Gguf) -> Result<Option<Vec<f32>>, ModelError> {
        let Some(bias) = self.bias else {
            return Ok(None);
        };
        let values = bias.values(gguf)?;
        Ok(Some(match self.pairs {
            None => values,
            Some(pairs) => (0..self.rows)
                .map(|row| values[pairs.source(row)])
                .collect(),
        }))
    }
}

/// Rows of query and key in the order that the engines keep: where the file has a head's rotary
/// pairs side by side, pair `i` becomes `(i, i + rotated / 2)`. Query and key get the same order,
/// so their products stay what they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PairOrder {
    /// Values of a head.
    pub head_dim: usize,
    /// How many of a head's values are rotated, from its first on.
    pub rotated: usize,
}

impl PairOrder {
    /// The file's row of row `row`.
    pub fn source(self, row: usize) -> usize {
        let place = row % self.head_dim;
        let half = self.rotated / 2;
        let source = if place < half {
            2 * place
        } else if place < self.rotated {
            2 * (place - half) + 1
        } else {
            place
        };
        row - place + source
    }
}

/// A decoder's tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderLayout {
    /// A row for each token id.
    pub embedding: Matrix,
    /// In the order that they are gone through.
    pub layers: Vec<DecoderLayer>,
    /// Normalises what the head multiplies.
    pub norm: Vector,
    /// A row for each token id; the embedding's own tensor where the model is tied.
    pub head: Matrix,
    /// Divisors of the rotary frequencies, those included that this model does not use: Phi-3's
    /// files hold two sets.
    pub rope_factors: Vec<Vector>,
}

/// A decoder layer's tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderLayer {
    /// Normalises what attention gets.
    pub attention_norm: Vector,
    /// From the normalised residual stream to what attention adds to it.
    pub attention: Attention,
    /// Normalises what attention gives, before it is added.
    pub attention_post_norm: Option<Vector>,
    /// Normalises what the feed-forward layer gets.
    pub feed_forward_norm: Vector,
    /// From the normalised residual stream to what is added to it.
    pub feed_forward: FeedForward,
    /// Normalises what the feed-forward layer gives, before it is added.
    pub feed_forward_post_norm: Option<Vector>,
}

/// Attention's tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// `[heads * head_dim, embedding]`
    pub query: Matrix,
    /// `[kv_heads * head_dim, embedding]`
    pub key: Matrix,
    /// `[kv_heads * head_dim, embedding]`
    pub value: Matrix,
    /// `[head_dim]`, for each query head before its rotation.
    pub query_norm: Option<Vector>,
    /// `[head_dim]`, for each key head before its rotation.
    pub key_norm: Option<Vector>,
    /// `[embedding, heads * head_dim]`
    pub output: Matrix,
}

/// A feed-forward layer's tensors.
#[derive(Debug, Clone, PartialEq)]
pub enum FeedForward {
    /// A gated linear unit: `down * (activation(gate * x) * (up * x))`.
    Dense {
        /// `[feed_forward, embedding]`
        gate: Matrix,
        /// `[feed_forward, embedding]`
        up: Matrix,
        /// `[embedding, feed_forward]`
        down: Matrix,
    },
}

/// An embedding model's tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbedderLayout {
    /// A row for each token id.
    pub tokens: Matrix,
    /// A row for each position.
    pub positions: Matrix,
    /// A row for each token type.
    pub types: Matrix,
    /// Normalises the three's sum.
    pub norm: LayerNorm,
    /// In the order that they are gone through.
    pub layers: Vec<EmbedderLayer>,
}

/// An embedding model's layer.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbedderLayer {
    /// `[embedding, embedding]`, as are the next three.
    pub query: Matrix,
    /// Rows of the key heads.
    pub key: Matrix,
    /// Rows of the value heads.
    pub value: Matrix,
    /// What the attended heads are multiplied by.
    pub attention_out: Matrix,
    /// Normalises the sum with what attention gives.
    pub attention_norm: LayerNorm,
    /// `[feed_forward, embedding]`
    pub up: Matrix,
    /// `[embedding, feed_forward]`
    pub down: Matrix,
    /// Normalises the sum with what the feed-forward layer gives.
    pub norm: LayerNorm,
}

/// A norm that subtracts the mean, each `[embedding]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerNorm {
    /// Multiplied with what is normalised.
    pub weight: Vector,
    /// Added afterwards.
    pub bias: Vector,
}

impl DecoderLayout {
    /// All tensors, each once.
    pub fn tensors(&self) -> Vec<Tensor> {
        let tables = [&self.embedding, &self.head].into_iter();
        let vectors = self.rope_factors.iter().chain([&self.norm]);
        distinct(
            tables
                .flat_map(Matrix::tensors)
                .chain(vectors.map(Vector::tensor))
                .chain(self.layers.iter().flat_map(DecoderLayer::tensors)),
        )
    }
}

impl DecoderLayer {
    /// The layer's tensors, each once.
    pub fn tensors(&self) -> Vec<Tensor> {
        let Attention {
            query,
            key,
            value,
            query_norm,
            key_norm,
            output,
        } = &self.attention;
        let FeedForward::Dense { gate, up, down } = &self.feed_forward;
        let vectors = [&self.attention_norm, &self.feed_forward_norm].into_iter();
        let optional = [
            query_norm,
            key_norm,
            &self.attention_post_norm,
            &self.feed_forward_post_norm,
        ];
        let matrices = [query, key, value, output, gate, up, down];
        distinct(
            vectors
                .chain(optional.into_iter().flatten())
                .map(Vector::tensor)
                .chain(matrices.into_iter().flat_map(Matrix::tensors)),
        )
    }
}

impl EmbedderLayout {
    /// All tensors, each once.
    pub fn tensors(&self) -> Vec<Tensor> {
        let tables = [&self.tokens, &self.positions, &self.types].into_iter();
        distinct(
            tables
                .flat_map(Matrix::tensors)
                .chain(self.norm.tensors())
                .chain(self.layers.iter().flat_map(EmbedderLayer::tensors)),
        )
    }
}

impl EmbedderLayer {
    fn tensors(&self) -> impl Iterator<Item = Tensor> {
        let matrices = [
            &self.query,
            &self.key,
            &self.value,
            &self.attention_out,
            &self.up,
            &self.down,
        ];
        let norms = [&self.attention_norm, &self.norm].into_iter();
        matrices
            .into_iter()
            .flat_map(Matrix::tensors)
            .chain(norms.flat_map(LayerNorm::tensors))
    }
}

impl LayerNorm {
    /// Both vectors of `width` values.
    pub(crate) fn new(tensor: TensorName, width: usize) -> Self {
        let vector = |tensor| Vector {
            tensor,
            length: width,
        };
        Self {
            weight: vector(tensor),
            bias: vector(tensor.bias()),
        }
    }

    fn tensors(&self) -> impl Iterator<Item = Tensor> {
        [self.weight.tensor(), self.bias.tensor()].into_iter()
    }
}

fn distinct(tensors: impl Iterator<Item = Tensor>) -> Vec<Tensor> {
    let mut seen = HashSet::new();
    tensors.filter(|tensor| seen.insert(tensor.name)).collect()
}

/// Whether the file's tensors are those that `due` gives, with their shapes.
pub(crate) fn check_tensors(
    gguf: &Gguf,
    layers: u32,
    due: impl FnOnce() -> Vec<Tensor>,
) -> Result<(), ModelError> {
    let refuse = |what: String| Err(ModelError::unsupported(gguf.file(), what));
    let tensors = gguf.tensors();
    // A claimed layer has tensors, so this bounds what is expected by the file's size.
    if layers as usize > tensors.len() {
        return refuse(format!(
            "it claims {layers} layers and has {} tensors",
            tensors.len()
        ));
    }
    let due = due().into_iter();
    let mut due: HashMap<String, Vec<u64>> = due
        .map(|tensor| (tensor.name.to_string(), tensor.dims))
        .collect();
    for info in tensors {
        let Some(dims) = due.remove(&info.name) else {
            return refuse(format!(
                "it has the tensor `{}`, which its architecture as built here does not use",
                info.name
            ));
        };
        if info.dims != dims {
            return refuse(format!(
                "the tensor `{}` has the shape {:?} where {dims:?} is due",
                info.name, info.dims
            ));
        }
    }
    match due.keys().min() {
        Some(name) => refuse(format!("the tensor `{name}` is missing")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_side_by_side_become_halves() {
        let order = |rotated| -> Vec<_> {
            let order = PairOrder {
                head_dim: 6,
                rotated,
            };
            (0..12).map(|row| order.source(row)).collect()
        };
        assert_eq!(order(6), [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
        assert_eq!(order(4), [0, 2, 1, 3, 4, 5, 6, 8, 7, 9, 10, 11]);
    }

    #[test]
    fn a_part_of_a_tensor_is_found_in_it() {
        let whole = Matrix::new(Role::QueryKeyValue.of_layer(3), 24, 8);
        let key = Matrix {
            pairs: Some(PairOrder {
                head_dim: 6,
                rotated: 6,
            }),
            ..whole.part(12..18)
        };
        assert_eq!((key.first, key.rows, key.height), (12, 6, 24));
        assert_eq!((key.source(0), key.source(1), key.source(3)), (12, 14, 13));
        let tensors = distinct(whole.tensors().chain(key.tensors()));
        assert_eq!(tensors.len(), 1);
        assert_eq!(tensors[0].dims, [8, 24]);
        assert_eq!(tensors[0].name.to_string(), "blk.3.attn_qkv.weight");
        assert_eq!(tensors[0].name.bias().to_string(), "blk.3.attn_qkv.bias");
    }
}
