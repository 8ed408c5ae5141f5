//! A decoder's forward pass in burn tensors: the plain path, and the oracle for faster ones.
//!
//! Everything is f32: weights dequantised at load, activations, KV cache, accumulation. Rotary
//! tables come from the CPU in f64. Rows of several sequences go through the linear layers
//! together; attention runs for each sequence on its own blocks of the KV cache.

use std::f64::consts::{FRAC_2_SQRT_PI, SQRT_2};
use std::sync::Arc;

use burn::tensor::activation::{sigmoid, silu, softmax};
use burn::tensor::{Device, Tensor};
use infera_model::gguf::Gguf;
use infera_model::layout::{DecoderLayer, FeedForward, Vector};
use infera_model::{Activation, Config, LayerAttention, ModelError};
use infera_protocol::Profile;

use crate::device::Opened;
use crate::forward::{BLOCK_TOKENS, Forward, Segment, block_bytes};
use crate::memory_budget::most_blocks;
use crate::message::Failure;
use crate::weights::{Embedding, Linear, Loader};
use pass::{Pass, Seen, Sight};

mod pass;

/// A model on a device, with its KV cache.
pub struct Plain {
    sizes: Sizes,
    device: Device,
    embedding: Embedding,
    /// The different ones among the layers' ways to see positions.
    sights: Vec<LayerAttention>,
    layers: Vec<Layer>,
    norm: Tensor<1>,
    head: Linear,
    blocks: usize,
    block_bytes: u64,
    weight_bytes: u64,
}

/// The model's sizes, in values; the context in tokens.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    embedding: usize,
    feed_forward: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocabulary: usize,
    context: usize,
    activation: Activation,
    rms_epsilon: f32,
    embedding_scale: f32,
    attention_scale: f32,
    attention_softcap: Option<f32>,
    final_softcap: Option<f32>,
}

struct Layer {
    /// Its index in [`Plain::sights`].
    sight: usize,
    attention_norm: Tensor<1>,
    /// Rows of query, key and value, one after the other.
    qkv: Linear,
    query_norm: Option<Tensor<1>>,
    key_norm: Option<Tensor<1>>,
    attention_out: Linear,
    post_attention_norm: Option<Tensor<1>>,
    feed_forward_norm: Tensor<1>,
    /// Rows of gate and up, one after the other.
    gate_up: Linear,
    down: Linear,
    post_feed_forward_norm: Option<Tensor<1>>,
    /// The KV cache, each `[blocks * BLOCK_TOKENS, kv_heads * head_dim]`.
    keys: Tensor<2>,
    values: Tensor<2>,
}

impl Sizes {
    fn of(config: &Config, context: Option<u32>) -> Self {
        Self {
            embedding: config.embedding as usize,
            feed_forward: config.feed_forward as usize,
            heads: config.heads as usize,
            kv_heads: config.kv_heads as usize,
            head_dim: config.head_dim as usize,
            vocabulary: config.vocabulary as usize,
            context: context.map_or(config.context, |limit| config.context.min(limit)) as usize,
            activation: config.activation,
            rms_epsilon: config.rms_epsilon,
            embedding_scale: config.embedding_scale,
            attention_scale: config.attention_scale,
            attention_softcap: config.attention_softcap,
            final_softcap: config.final_softcap,
        }
    }

    /// Values of one position's keys, or values, in one layer.
    fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

impl Plain {
    /// Puts the weights on the device, beside a KV cache of `blocks` blocks, or fewer where a
    /// binding cannot hold so many. The context is the model's own, or `context` where that is
    /// less; `progress` gets the bytes of the file that are done.
    pub fn load(
        gguf: Arc<Gguf>,
        opened: &Opened,
        context: Option<u32>,
        blocks: usize,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, ModelError> {
        let config = Config::from_gguf(&gguf)?;
        let sizes = Sizes::of(&config, context);
        let blocks = blocks.min(most_blocks(&config, Profile::P32, opened.max_binding_bytes));
        let layout = config.layout();
        let mut sights: Vec<LayerAttention> = Vec::new();
        let mut loader = Loader::new(&gguf, opened, progress);
        let mut layers = Vec::new();
        for (layer, sight) in layout.layers.iter().zip(config.attention(&gguf)?) {
            let known = sights.iter().position(|known| *known == sight);
            let place = known.unwrap_or(sights.len());
            if known.is_none() {
                sights.push(sight);
            }
            let kv_cache = [blocks * BLOCK_TOKENS, sizes.kv_width()];
            layers.push(Layer::load(layer, place, kv_cache, &mut loader)?);
        }
        let norm = loader.vector(&layout.norm)?;
        let head = loader.linear(&[&layout.head])?;
        let weight_bytes = loader.device_bytes();
        let embedding = Embedding::new(gguf, layout.embedding)?;
        Ok(Self {
            sizes,
            device: opened.device.clone(),
            embedding,
            sights,
            layers,
            norm,
            head,
            blocks,
            block_bytes: block_bytes(&config, Profile::P32),
            weight_bytes,
        })
    }

    /// Bytes of weights on the device.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    fn logits(&self, hidden: &Tensor<2>, pass: &Pass) -> Result<Vec<f32>, Failure> {
        if pass.wanted.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = pass
            .wanted
            .iter()
            .map(|rows| {
                hidden
                    .clone()
                    .slice([rows.clone(), 0..self.sizes.embedding])
            })
            .collect();
        let normed = rms_norm(Tensor::cat(wanted, 0), &self.norm, self.sizes.rms_epsilon);
        let logits = capped(self.head.apply(&normed), self.sizes.final_softcap);
        logits
            .try_into_data()
            .map_err(|error| Failure::device(&error))?
            .try_into_vec()
            .map_err(|error| Failure::device(&format!("{error:?}")))
    }
}

impl Forward for Plain {
    fn name(&self) -> &str {
        self.embedding.model()
    }

    fn vocabulary(&self) -> usize {
        self.sizes.vocabulary
    }

    fn context(&self) -> usize {
        self.sizes.context
    }

    fn blocks(&self) -> usize {
        self.blocks
    }

    fn block_bytes(&self) -> u64 {
        self.block_bytes
    }

    fn forward(&mut self, segments: &[Segment<'_>]) -> Result<Vec<f32>, Failure> {
        let tokens: Vec<u32> = segments
            .iter()
            .flat_map(|segment| segment.tokens)
            .copied()
            .collect();
        let pass = Pass::new(segments, &self.sights, &self.device);
        let mut hidden = self.embedding.rows(&tokens, &self.device)?;
        if self.sizes.embedding_scale.to_bits() != 1.0_f32.to_bits() {
            hidden = hidden.mul_scalar(self.sizes.embedding_scale);
        }
        for layer in &mut self.layers {
            hidden = layer.forward(hidden, &self.sizes, &pass);
        }
        self.logits(&hidden, &pass)
    }
}

impl Layer {
    fn load(
        layer: &DecoderLayer,
        sight: usize,
        kv_cache: [usize; 2],
        loader: &mut Loader<'_>,
    ) -> Result<Self, ModelError> {
        let attention = &layer.attention;
        let FeedForward::Dense { gate, up, down } = &layer.feed_forward;
        let mut optional = |norm: &Option<Vector>| {
            let norm = norm.as_ref();
            norm.map(|norm| loader.vector(norm)).transpose()
        };
        Ok(Self {
            sight,
            query_norm: optional(&attention.query_norm)?,
            key_norm: optional(&attention.key_norm)?,
            post_attention_norm: optional(&layer.attention_post_norm)?,
            post_feed_forward_norm: optional(&layer.feed_forward_post_norm)?,
            attention_norm: loader.vector(&layer.attention_norm)?,
            qkv: loader.linear(&[&attention.query, &attention.key, &attention.value])?,
            attention_out: loader.linear(&[&attention.output])?,
            feed_forward_norm: loader.vector(&layer.feed_forward_norm)?,
            gate_up: loader.linear(&[gate, up])?,
            down: loader.linear(&[down])?,
            keys: loader.zeros(kv_cache),
            values: loader.zeros(kv_cache),
        })
    }

    /// `hidden` is `[rows, embedding]`.
    fn forward(&mut self, hidden: Tensor<2>, sizes: &Sizes, pass: &Pass) -> Tensor<2> {
        let epsilon = sizes.rms_epsilon;
        let after = |output: Tensor<2>, norm: &Option<Tensor<1>>| match norm {
            Some(weight) => rms_norm(output, weight, epsilon),
            None => output,
        };
        let normed = rms_norm(hidden.clone(), &self.attention_norm, epsilon);
        let attended = self.attention(&normed, sizes, pass);
        let attended = after(
            self.attention_out.apply(&attended),
            &self.post_attention_norm,
        );
        let hidden = hidden.add(attended);
        let normed = rms_norm(hidden.clone(), &self.feed_forward_norm, epsilon);
        let fed = after(
            self.feed_forward(&normed, sizes),
            &self.post_feed_forward_norm,
        );
        hidden.add(fed)
    }

    fn attention(&mut self, normed: &Tensor<2>, sizes: &Sizes, pass: &Pass) -> Tensor<2> {
        let Sizes {
            heads,
            kv_heads,
            head_dim,
            ..
        } = *sizes;
        let rows = normed.dims()[0];
        let (width, kv_width) = (heads * head_dim, sizes.kv_width());
        let sight = &pass.sights[self.sight];
        let qkv = self.qkv.apply(normed);
        let rotated = |start: usize, count: usize, norm: &Option<Tensor<1>>| {
            let part = qkv
                .clone()
                .slice([0..rows, start..start + count * head_dim])
                .reshape([rows, count, head_dim]);
            let part = match norm {
                Some(weight) => rms_norm(part, weight, sizes.rms_epsilon),
                None => part,
            };
            rotate(part, sight)
        };
        let queries = rotated(0, heads, &self.query_norm).mul_scalar(sizes.attention_scale);
        let keys = rotated(width, kv_heads, &self.key_norm).reshape([rows, kv_width]);
        let values = qkv
            .clone()
            .slice([0..rows, width + kv_width..width + 2 * kv_width]);
        for run in &pass.runs {
            let write = |cache: &mut Tensor<2>, new: &Tensor<2>| {
                let at = [run.at..run.at + run.rows.len(), 0..kv_width];
                let new = new.clone().slice([run.rows.clone(), 0..kv_width]);
                // Taken out of the layer so that its buffer has one owner and is written in place.
                cache.inplace(|cache| cache.slice_assign(at, new));
            };
            write(&mut self.keys, &keys);
            write(&mut self.values, &values);
        }
        let attended = pass
            .rows
            .iter()
            .zip(&sight.seen)
            .map(|(rows, seen)| {
                let queries = queries.clone().slice([rows.clone(), 0..heads, 0..head_dim]);
                let gather = |cache: &Tensor<2>| {
                    cache
                        .clone()
                        .select(0, seen.rows.clone())
                        .reshape([seen.count, kv_heads, head_dim])
                        .swap_dims(0, 1)
                };
                attend(
                    queries,
                    gather(&self.keys),
                    gather(&self.values),
                    seen,
                    sizes.attention_softcap,
                )
            })
            .collect();
        Tensor::cat(attended, 0)
    }

    /// A gated linear unit.
    fn feed_forward(&self, normed: &Tensor<2>, sizes: &Sizes) -> Tensor<2> {
        let rows = normed.dims()[0];
        let inner = sizes.feed_forward;
        let both = self.gate_up.apply(normed);
        let gate = both.clone().slice([0..rows, 0..inner]);
        let up = both.slice([0..rows, inner..2 * inner]);
        let gate = match sizes.activation {
            Activation::Silu => silu(gate),
            Activation::GeluTanh => gelu_tanh(gate),
        };
        self.down.apply(&gate.mul(up))
    }
}

/// `queries` `[rows, heads, head_dim]` over keys and values `[kv_heads, positions, head_dim]`.
/// Gives `[rows, heads * head_dim]`.
fn attend(
    queries: Tensor<3>,
    keys: Tensor<3>,
    values: Tensor<3>,
    seen: &Seen,
    softcap: Option<f32>,
) -> Tensor<2> {
    let [rows, heads, head_dim] = queries.dims();
    let [kv_heads, positions, _] = keys.dims();
    let group = heads / kv_heads;
    let grouped = queries
        .reshape([rows, kv_heads, group, head_dim])
        .permute([1, 2, 0, 3])
        .reshape([kv_heads, group * rows, head_dim]);
    let scores = capped(grouped.matmul(keys.swap_dims(1, 2)), softcap);
    let scores = match &seen.mask {
        None => scores,
        Some(mask) => scores
            .reshape([kv_heads, group, rows, positions])
            .add(mask.clone())
            .reshape([kv_heads, group * rows, positions]),
    };
    softmax(scores, 2)
        .matmul(values)
        .reshape([kv_heads, group, rows, head_dim])
        .permute([2, 0, 1, 3])
        .reshape([rows, heads * head_dim])
}

/// Rotates each head's pairs `(i, i + rotated / 2)`; `heads` is `[rows, heads, head_dim]`.
fn rotate(heads: Tensor<3>, sight: &Sight) -> Tensor<3> {
    let (cosines, sines) = (&sight.cosines, &sight.sines);
    let [rows, count, width] = heads.dims();
    let half = cosines.dims()[2];
    let first = heads.clone().slice([0..rows, 0..count, 0..half]);
    let second = heads.clone().slice([0..rows, 0..count, half..2 * half]);
    let turned_first = first
        .clone()
        .mul(cosines.clone())
        .sub(second.clone().mul(sines.clone()));
    let turned_second = second.mul(cosines.clone()).add(first.mul(sines.clone()));
    let mut parts = vec![turned_first, turned_second];
    if 2 * half < width {
        parts.push(heads.slice([0..rows, 0..count, 2 * half..width]));
    }
    Tensor::cat(parts, 2)
}

/// Over the last dimension, which is as long as `weight`.
fn rms_norm<const D: usize>(input: Tensor<D>, weight: &Tensor<1>, epsilon: f32) -> Tensor<D> {
    let mean_square = input.clone().square().mean_dim(D - 1);
    let scale = mean_square.add_scalar(epsilon).sqrt().recip();
    input.mul(scale).mul(weight.clone().unsqueeze())
}

/// `cap * tanh(x / cap)`.
fn capped<const D: usize>(input: Tensor<D>, cap: Option<f32>) -> Tensor<D> {
    match cap {
        None => input,
        Some(cap) => input.div_scalar(cap).tanh().mul_scalar(cap),
    }
}

/// `x / 2 * (1 + tanh(u))`, which is `x * sigmoid(2 u)`, with
/// `u = sqrt(2 / pi) * (x + 0.044715 x^3)`. Source: Hendrycks and Gimpel 2016.
fn gelu_tanh(input: Tensor<2>) -> Tensor<2> {
    const TWICE_ROOT_OF_2_BY_PI: f32 = (FRAC_2_SQRT_PI * SQRT_2) as f32;
    let cubic = input.clone().square().mul_scalar(0.044_715).add_scalar(1.0);
    let twice = input.clone().mul(cubic).mul_scalar(TWICE_ROOT_OF_2_BY_PI);
    input.mul(sigmoid(twice))
}
