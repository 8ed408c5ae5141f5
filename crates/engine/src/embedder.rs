//! BERT's forward pass in burn tensors: texts go in, one vector of length 1 for each comes out.
//!
//! Everything is f32. Every text goes through by itself, so that its vector does not depend on
//! what else is asked for.

use std::sync::Arc;

use burn::tensor::activation::{gelu, softmax};
use burn::tensor::{Device, Tensor};
use infera_model::gguf::Gguf;
use infera_model::layout::{self, EmbedderLayer};
use infera_model::{EmbedderConfig, ModelError, Pooling};

use crate::device::Opened;
use crate::message::{Failure, FailureCode};
use crate::weights::{Embedding, Linear, Loader};

/// A model on a device.
pub struct Embedder {
    config: EmbedderConfig,
    device: Device,
    tokens: Embedding,
    positions: Embedding,
    /// Only the first of them is used, for texts that stand alone.
    token_types: Embedding,
    norm: LayerNorm,
    layers: Vec<Layer>,
    weight_bytes: u64,
}

struct Layer {
    /// Rows of query, key and value, one after the other.
    qkv: Linear,
    attention_out: Linear,
    attention_norm: LayerNorm,
    up: Linear,
    down: Linear,
    norm: LayerNorm,
}

struct LayerNorm {
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f32,
}

impl Embedder {
    /// Puts the weights of a file, whose configuration is `config`, on the device; `progress` gets the bytes of the file that are done.
    pub fn load(
        gguf: &Arc<Gguf>,
        config: EmbedderConfig,
        opened: &Opened,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, ModelError> {
        let layout = config.layout();
        let table = |table| Embedding::new(Arc::clone(gguf), table);
        let (tokens, positions, token_types) = (
            table(layout.tokens)?,
            table(layout.positions)?,
            table(layout.types)?,
        );
        let epsilon = config.layer_norm_epsilon;
        let mut loader = Loader::new(gguf, opened, progress);
        let norm = LayerNorm::load(&layout.norm, epsilon, &mut loader)?;
        let layers = layout.layers.iter();
        let layers = layers
            .map(|layer| Layer::load(layer, epsilon, &mut loader))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            device: opened.device.clone(),
            tokens,
            positions,
            token_types,
            norm,
            layers,
            weight_bytes: loader.device_bytes(),
            config,
        })
    }

    /// Bytes of weights on the device.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// A text is given with its special tokens. It must not be empty, nor longer than the context,
    /// nor have ids beyond the vocabulary.
    pub fn check(&self, text: &[u32]) -> Result<(), Failure> {
        let context = self.config.context as usize;
        let message = if text.is_empty() {
            "A text to embed is empty".to_owned()
        } else if text.len() > context {
            format!("{} tokens are over the context of {context}", text.len())
        } else if let Some(token) = text.iter().find(|token| **token >= self.config.vocabulary) {
            let vocabulary = self.config.vocabulary;
            format!("The token id {token} is beyond the vocabulary of {vocabulary}")
        } else {
            return Ok(());
        };
        Err(Failure {
            code: FailureCode::BadRequest,
            message,
        })
    }

    /// The vector of a text that passes [`Self::check`]: `[embedding]`, of length 1.
    pub fn embed(&self, text: &[u32]) -> Result<Vec<f32>, Failure> {
        let rows = |table: &Embedding, ids: &[u32]| table.rows(ids, &self.device);
        let positions: Vec<u32> = (0..text.len() as u32).collect();
        let hidden = rows(&self.tokens, text)?
            .add(rows(&self.positions, &positions)?)
            .add(rows(&self.token_types, &[0])?);
        let mut hidden = self.norm.apply(hidden);
        for layer in &self.layers {
            hidden = layer.forward(hidden, self.config.heads as usize);
        }
        let pooled = match self.config.pooling {
            Pooling::Mean => hidden.mean_dim(0),
            Pooling::First => hidden.slice([0..1, 0..self.config.embedding as usize]),
        };
        let pooled: Vec<f32> = pooled
            .try_into_data()
            .map_err(|error| Failure::device(&error))?
            .try_into_vec()
            .map_err(|error| Failure::device(&format!("{error:?}")))?;
        if pooled.iter().all(|value| value.is_finite()) {
            Ok(unit_length(&pooled))
        } else {
            Err(Failure::undefined(self.tokens.model()))
        }
    }
}

impl Layer {
    fn load(
        layer: &EmbedderLayer,
        epsilon: f32,
        loader: &mut Loader<'_>,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            qkv: loader.linear(&[&layer.query, &layer.key, &layer.value])?,
            attention_out: loader.linear(&[&layer.attention_out])?,
            attention_norm: LayerNorm::load(&layer.attention_norm, epsilon, loader)?,
            up: loader.linear(&[&layer.up])?,
            down: loader.linear(&[&layer.down])?,
            norm: LayerNorm::load(&layer.norm, epsilon, loader)?,
        })
    }

    /// `hidden` is `[tokens, embedding]`.
    fn forward(&self, hidden: Tensor<2>, heads: usize) -> Tensor<2> {
        let attended = self.attention_out.apply(&self.attention(&hidden, heads));
        let hidden = self.attention_norm.apply(hidden.add(attended));
        let fed = self.down.apply(&gelu(self.up.apply(&hidden)));
        self.norm.apply(hidden.add(fed))
    }

    fn attention(&self, hidden: &Tensor<2>, heads: usize) -> Tensor<2> {
        let [tokens, width] = hidden.dims();
        let head_dim = width / heads;
        let qkv = self.qkv.apply(hidden);
        let part = |index: usize| {
            qkv.clone()
                .slice([0..tokens, index * width..(index + 1) * width])
                .reshape([tokens, heads, head_dim])
                .swap_dims(0, 1)
        };
        let scores = part(0)
            .mul_scalar((head_dim as f32).sqrt().recip())
            .matmul(part(1).swap_dims(1, 2));
        softmax(scores, 2)
            .matmul(part(2))
            .swap_dims(0, 1)
            .reshape([tokens, width])
    }
}

impl LayerNorm {
    fn load(
        norm: &layout::LayerNorm,
        epsilon: f32,
        loader: &mut Loader<'_>,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            weight: loader.vector(&norm.weight)?,
            bias: loader.vector(&norm.bias)?,
            epsilon,
        })
    }

    fn apply(&self, input: Tensor<2>) -> Tensor<2> {
        let centred = input.clone().sub(input.mean_dim(1));
        let variance = centred.clone().square().mean_dim(1);
        let scale = variance.add_scalar(self.epsilon).sqrt().recip();
        centred
            .mul(scale)
            .mul(self.weight.clone().unsqueeze())
            .add(self.bias.clone().unsqueeze())
    }
}

fn unit_length(vector: &[f32]) -> Vec<f32> {
    let square: f64 = vector.iter().map(|value| f64::from(*value).powi(2)).sum();
    let length = square.sqrt().max(f64::MIN_POSITIVE);
    vector
        .iter()
        .map(|value| (f64::from(*value) / length) as f32)
        .collect()
}
