//! The Llama family's forward pass in burn tensors: the plain path, and the oracle for faster ones.
//!
//! Everything is f32: weights dequantised at load, activations, KV cache, accumulation. Rotary
//! tables come from the CPU in f64. Rows of several sequences go through the linear layers
//! together; attention runs for each sequence on its own cache.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::activation::{silu, softmax};
use burn::tensor::{Device, Tensor};
use infera_model::gguf::Gguf;
use infera_model::{Architecture, Config, ModelError, RopePairing};

use crate::device::Opened;
use crate::message::{Failure, FailureCode};
use crate::scheduler::{Forward, Segment};
use crate::weights::{Embedding, Interleaved, Linear, Loader, Part, to_device};

/// A model on a device.
pub struct Llama {
    shape: Shape,
    device: Device,
    embedding: Embedding,
    layers: Vec<Layer>,
    norm: Tensor<1>,
    head: Linear,
    /// Radians per position for each rotated pair of a head: `[rotated / 2]`.
    frequencies: Vec<f64>,
    weight_bytes: u64,
}

/// The model's sizes, in values; the context in tokens.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub architecture: Architecture,
    pub layers: usize,
    pub embedding: usize,
    pub feed_forward: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    /// How many values of a head are rotated.
    pub rotated: usize,
    pub vocabulary: usize,
    pub context: usize,
    rms_epsilon: f32,
}

struct Layer {
    attention_norm: Tensor<1>,
    /// Rows of query, key and value, one after the other.
    qkv: Linear,
    attention_out: Linear,
    feed_forward_norm: Tensor<1>,
    /// Rows of gate and up, one after the other.
    gate_up: Linear,
    down: Linear,
}

impl Shape {
    fn of(config: &Config, context: Option<u32>) -> Self {
        Self {
            architecture: config.architecture,
            layers: config.layers as usize,
            embedding: config.embedding as usize,
            feed_forward: config.feed_forward as usize,
            heads: config.heads as usize,
            kv_heads: config.kv_heads as usize,
            head_dim: config.head_dim as usize,
            rotated: config.rope_dim as usize,
            vocabulary: config.vocabulary as usize,
            context: context.map_or(config.context, |limit| config.context.min(limit)) as usize,
            rms_epsilon: config.rms_epsilon,
        }
    }
}

impl Layer {
    fn load(
        shape: &Shape,
        interleaved: Option<Interleaved>,
        index: usize,
        loader: &mut Loader<'_>,
    ) -> Result<Self, ModelError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let (width, kv_width) = (
            shape.heads * shape.head_dim,
            shape.kv_heads * shape.head_dim,
        );
        Ok(Self {
            attention_norm: loader.vector(&name("attn_norm.weight"), shape.embedding)?,
            qkv: loader.linear(
                shape.embedding,
                &[
                    Part {
                        name: name("attn_q"),
                        rows: width,
                        interleaved,
                    },
                    Part {
                        name: name("attn_k"),
                        rows: kv_width,
                        interleaved,
                    },
                    Part::plain(name("attn_v"), kv_width),
                ],
            )?,
            attention_out: loader
                .linear(width, &[Part::plain(name("attn_output"), shape.embedding)])?,
            feed_forward_norm: loader.vector(&name("ffn_norm.weight"), shape.embedding)?,
            gate_up: loader.linear(
                shape.embedding,
                &[
                    Part::plain(name("ffn_gate"), shape.feed_forward),
                    Part::plain(name("ffn_up"), shape.feed_forward),
                ],
            )?,
            down: loader.linear(
                shape.feed_forward,
                &[Part::plain(name("ffn_down"), shape.embedding)],
            )?,
        })
    }
}

/// Keys and values of one sequence.
pub struct KvCache {
    /// Per layer keys and values, each `[kv_heads, capacity, head_dim]`.
    layers: Vec<(Tensor<3>, Tensor<3>)>,
    capacity: usize,
    length: usize,
}

/// The smallest KV cache, in positions. It doubles when it is full.
const KV_CAPACITY: usize = 256;

/// Far below every score; infinities are undefined in WGSL.
const MASKED: f32 = -1e30;

impl Llama {
    /// Puts the weights on the device. The context is the model's own, or `context` where that is
    /// less; `progress` gets the bytes of the file that are done.
    pub fn load(
        gguf: Arc<Gguf>,
        opened: &Opened,
        context: Option<u32>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, ModelError> {
        let config = Config::from_gguf(&gguf)?;
        let shape = Shape::of(&config, context);
        let interleaved =
            (config.rope_pairing == RopePairing::Interleaved).then_some(Interleaved {
                width: shape.head_dim,
                rotated: shape.rotated,
            });
        let mut loader = Loader::new(&gguf, opened, progress);
        let layers = (0..shape.layers)
            .map(|index| Layer::load(&shape, interleaved, index, &mut loader))
            .collect::<Result<_, _>>()?;
        let norm = loader.vector("output_norm.weight", shape.embedding)?;
        let head = if config.tied { "token_embd" } else { "output" };
        let head = loader.linear(
            shape.embedding,
            &[Part::plain(head.to_owned(), shape.vocabulary)],
        )?;
        let weight_bytes = loader.device_bytes();
        let frequencies = config.attention(&gguf)?[0].frequencies.to_vec();
        let embedding = Embedding::new(gguf, shape.embedding, shape.vocabulary)?;
        let device = opened.device.clone();
        Ok(Self {
            shape,
            device,
            embedding,
            layers,
            norm,
            head,
            frequencies,
            weight_bytes,
        })
    }

    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Bytes of weights on the device.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// Makes room in the caches, and says which rows belong to which segment.
    fn prepare(&self, segments: &mut [Segment<'_, KvCache>]) -> Vec<Span> {
        let mut row = 0;
        segments
            .iter_mut()
            .map(|segment| {
                let rows = row..row + segment.tokens.len();
                row = rows.end;
                let start = segment.cache.length;
                self.reserve(segment.cache, start + rows.len());
                Span { rows, start }
            })
            .collect()
    }

    fn reserve(&self, cache: &mut KvCache, positions: usize) {
        if positions <= cache.capacity {
            return;
        }
        let capacity = positions
            .next_power_of_two()
            .min(self.shape.context.max(positions));
        let filled = [
            0..self.shape.kv_heads,
            0..cache.length,
            0..self.shape.head_dim,
        ];
        let grow = |old: &Tensor<3>| {
            let kept = old.clone().slice(filled.clone());
            self.empty_cache(capacity)
                .slice_assign(filled.clone(), kept)
        };
        for (keys, values) in &mut cache.layers {
            *keys = grow(keys);
            *values = grow(values);
        }
        cache.capacity = capacity;
    }

    fn empty_cache(&self, capacity: usize) -> Tensor<3> {
        Tensor::zeros(
            [self.shape.kv_heads, capacity, self.shape.head_dim],
            &self.device,
        )
    }

    /// Cosines and sines, each `[rows, 1, rotated / 2]`.
    fn rotary_tables(&self, spans: &[Span]) -> (Tensor<3>, Tensor<3>) {
        let positions = spans
            .iter()
            .flat_map(|span| span.start..span.start + span.rows.len());
        let mut cosines = Vec::new();
        let mut sines = Vec::new();
        for position in positions {
            for frequency in &self.frequencies {
                let angle = position as f64 * frequency;
                cosines.push(libm::cos(angle) as f32);
                sines.push(libm::sin(angle) as f32);
            }
        }
        let shape = [
            cosines.len() / self.frequencies.len(),
            1,
            self.frequencies.len(),
        ];
        let table = |values| to_device(values, shape, &self.device);
        (table(cosines), table(sines))
    }

    /// Rotates each head's pairs `(i, i + rotated / 2)`; `heads` is `[rows, heads, head_dim]`, the
    /// tables are `[rows, 1, rotated / 2]`.
    fn rotate(heads: Tensor<3>, cosines: &Tensor<3>, sines: &Tensor<3>) -> Tensor<3> {
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

    #[expect(
        clippy::too_many_arguments,
        reason = "what one layer's attention needs, prepared once per pass"
    )]
    fn attention(
        &self,
        index: usize,
        layer: &Layer,
        normed: &Tensor<2>,
        segments: &mut [Segment<'_, KvCache>],
        spans: &[Span],
        cosines: &Tensor<3>,
        sines: &Tensor<3>,
    ) -> Tensor<2> {
        let Shape {
            heads,
            kv_heads,
            head_dim,
            ..
        } = self.shape;
        let rows = normed.dims()[0];
        let (width, kv_width) = (heads * head_dim, kv_heads * head_dim);
        let qkv = layer.qkv.apply(normed);
        let part = |columns: Range<usize>, count| {
            qkv.clone()
                .slice([0..rows, columns])
                .reshape([rows, count, head_dim])
        };
        let queries = Self::rotate(part(0..width, heads), cosines, sines)
            .mul_scalar(1.0 / (head_dim as f32).sqrt());
        let keys = Self::rotate(part(width..width + kv_width, kv_heads), cosines, sines);
        let values = part(width + kv_width..width + 2 * kv_width, kv_heads);
        let attended: Vec<Tensor<2>> = segments
            .iter_mut()
            .zip(spans)
            .map(|(segment, span)| {
                let of_segment = |tensor: &Tensor<3>, count| {
                    tensor
                        .clone()
                        .slice([span.rows.clone(), 0..count, 0..head_dim])
                };
                let (cached_keys, cached_values) = append(
                    &mut segment.cache.layers[index],
                    span.start,
                    of_segment(&keys, kv_heads),
                    of_segment(&values, kv_heads),
                );
                self.attend(
                    of_segment(&queries, heads),
                    cached_keys,
                    cached_values,
                    span.start,
                )
            })
            .collect();
        Tensor::cat(attended, 0)
    }

    /// `queries` `[rows, heads, head_dim]` over keys and values `[kv_heads, positions, head_dim]`,
    /// of which the last `rows` are the queries' own. Gives `[rows, heads * head_dim]`.
    fn attend(
        &self,
        queries: Tensor<3>,
        keys: Tensor<3>,
        values: Tensor<3>,
        start: usize,
    ) -> Tensor<2> {
        let [rows, heads, head_dim] = queries.dims();
        let [kv_heads, positions, _] = keys.dims();
        let group = heads / kv_heads;
        let grouped = queries
            .reshape([rows, kv_heads, group, head_dim])
            .permute([1, 2, 0, 3])
            .reshape([kv_heads, group * rows, head_dim]);
        let scores = grouped.matmul(keys.swap_dims(1, 2));
        let scores = if rows == 1 {
            scores
        } else {
            scores
                .reshape([kv_heads, group, rows, positions])
                .add(self.causal_mask(rows, positions, start))
                .reshape([kv_heads, group * rows, positions])
        };
        softmax(scores, 2)
            .matmul(values)
            .reshape([kv_heads, group, rows, head_dim])
            .permute([2, 0, 1, 3])
            .reshape([rows, heads * head_dim])
    }

    /// `[1, 1, rows, positions]`: no row sees a position after its own.
    fn causal_mask(&self, rows: usize, positions: usize, start: usize) -> Tensor<4> {
        let mask: Vec<f32> = (0..rows)
            .flat_map(|row| {
                (0..positions)
                    .map(move |position| if position > start + row { MASKED } else { 0.0 })
            })
            .collect();
        to_device(mask, [1, 1, rows, positions], &self.device)
    }

    /// A gated linear unit with `SiLU` as its gate (`SwiGLU`).
    fn feed_forward(&self, layer: &Layer, normed: &Tensor<2>) -> Tensor<2> {
        let rows = normed.dims()[0];
        let inner = self.shape.feed_forward;
        let both = layer.gate_up.apply(normed);
        let gate = both.clone().slice([0..rows, 0..inner]);
        let up = both.slice([0..rows, inner..2 * inner]);
        layer.down.apply(&silu(gate).mul(up))
    }

    fn rms_norm(&self, hidden: &Tensor<2>, weight: &Tensor<1>) -> Tensor<2> {
        let mean_square = hidden.clone().square().mean_dim(1);
        let scale = mean_square
            .add_scalar(self.shape.rms_epsilon)
            .sqrt()
            .recip();
        hidden.clone().mul(scale).mul(weight.clone().unsqueeze())
    }

    fn logits(
        &self,
        hidden: &Tensor<2>,
        segments: &[Segment<'_, KvCache>],
        spans: &[Span],
    ) -> Result<Vec<f32>, Failure> {
        let wanted: Vec<Tensor<2>> = segments
            .iter()
            .zip(spans)
            .filter(|(segment, _)| !segment.wanted.is_empty())
            .map(|(segment, span)| {
                let rows =
                    span.rows.start + segment.wanted.start..span.rows.start + segment.wanted.end;
                hidden.clone().slice([rows, 0..self.shape.embedding])
            })
            .collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let normed = self.rms_norm(&Tensor::cat(wanted, 0), &self.norm);
        let logits = self.head.apply(&normed).try_into_data();
        logits
            .map_err(|error| internal(&error))?
            .try_into_vec()
            .map_err(|error| internal(&format!("{error:?}")))
    }
}

impl Forward for Llama {
    type Cache = KvCache;

    fn vocabulary(&self) -> usize {
        self.shape.vocabulary
    }

    fn context(&self) -> usize {
        self.shape.context
    }

    fn new_cache(&self) -> KvCache {
        let layers = (0..self.shape.layers)
            .map(|_| (self.empty_cache(KV_CAPACITY), self.empty_cache(KV_CAPACITY)))
            .collect();
        KvCache {
            layers,
            capacity: KV_CAPACITY,
            length: 0,
        }
    }

    fn cache_bytes(&self, cache: &KvCache) -> u64 {
        let positions = cache.capacity * self.shape.kv_heads * self.shape.head_dim;
        (self.shape.layers * 2 * positions * size_of::<f32>()) as u64
    }

    fn forward(&self, segments: &mut [Segment<'_, KvCache>]) -> Result<Vec<f32>, Failure> {
        let tokens: Vec<u32> = segments
            .iter()
            .flat_map(|segment| segment.tokens)
            .copied()
            .collect();
        let spans = self.prepare(segments);
        let (cosines, sines) = self.rotary_tables(&spans);
        let mut hidden = self
            .embedding
            .rows(&tokens, &self.device)
            .map_err(|error| internal(&error))?;
        for (index, layer) in self.layers.iter().enumerate() {
            let normed = self.rms_norm(&hidden, &layer.attention_norm);
            let attended =
                self.attention(index, layer, &normed, segments, &spans, &cosines, &sines);
            hidden = hidden.add(layer.attention_out.apply(&attended));
            let normed = self.rms_norm(&hidden, &layer.feed_forward_norm);
            hidden = hidden.add(self.feed_forward(layer, &normed));
        }
        for (segment, span) in segments.iter_mut().zip(&spans) {
            segment.cache.length = span.start + span.rows.len();
        }
        self.logits(&hidden, segments, &spans)
    }
}

/// The rows of one segment in the stacked activations, and its first position.
struct Span {
    rows: Range<usize>,
    start: usize,
}

/// Writes `[rows, kv_heads, head_dim]` keys and values behind the `start` filled positions; gives
/// all filled ones, each `[kv_heads, positions, head_dim]`.
fn append(
    cache: &mut (Tensor<3>, Tensor<3>),
    start: usize,
    keys: Tensor<3>,
    values: Tensor<3>,
) -> (Tensor<3>, Tensor<3>) {
    let [rows, kv_heads, head_dim] = keys.dims();
    let write = |store: &mut Tensor<3>, new: Tensor<3>| {
        let at = [0..kv_heads, start..start + rows, 0..head_dim];
        // Taken out of the cache so that its buffer has one owner and is written in place.
        store.inplace(|tensor| tensor.slice_assign(at, new.swap_dims(0, 1)));
        store
            .clone()
            .slice([0..kv_heads, 0..start + rows, 0..head_dim])
    };
    (write(&mut cache.0, keys), write(&mut cache.1, values))
}

fn internal(error: &dyn std::fmt::Display) -> Failure {
    Failure {
        code: FailureCode::Internal,
        message: format!("The device failed: {error}"),
    }
}
