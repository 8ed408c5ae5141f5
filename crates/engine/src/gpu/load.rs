//! A model's parts on the device, and how they get there from a file.

use cubecl::client::Client;
use infera_model::gguf::Gguf;
use infera_model::layout::{self, DecoderLayer, DecoderLayout, FeedForward, Vector};
use infera_model::{Config, ModelError};
use infera_protocol::Profile;

use super::buffers::{self, Buffer, Matrix, Source, zeros};
use super::{LOGIT_ROWS, SUBMISSION};
use crate::forward::BLOCK_TOKENS;
use crate::kernels::attention::CHUNK;
use crate::kernels::pack::BLOCK;

/// Rows that go through the model at once.
const PASS_ROWS: usize = 512;
/// Chunks of attention that one launch may leave to be merged, where the context has not more.
const CHUNKS: usize = 512;

pub(super) struct Layer {
    pub(super) attention_norm: Buffer,
    pub(super) qkv: Matrix,
    pub(super) qk_norm: Option<[Buffer; 2]>,
    pub(super) attention_out: Matrix,
    pub(super) post_attention_norm: Option<Buffer>,
    pub(super) feed_forward_norm: Buffer,
    pub(super) gate_up: GateUp,
    pub(super) down: Matrix,
    pub(super) post_feed_forward_norm: Option<Buffer>,
    pub(super) keys: Buffer,
    pub(super) values: Buffer,
}

pub(super) enum GateUp {
    /// Both have one quantisation.
    Together(Matrix),
    Apart(Matrix, Matrix),
}

/// Activations of one pass, `[PASS_ROWS, width]` each, and what attention leaves to be merged.
pub(super) struct Scratch {
    pub(super) normed: Wide,
    pub(super) qkv: Wide,
    pub(super) queries: Wide,
    pub(super) attended: Wide,
    pub(super) inner: Wide,
    pub(super) gate: Option<Wide>,
    pub(super) branch: Option<Wide>,
    /// The residual stream of wanted rows alone.
    pub(super) wanted: Wide,
    /// `[LOGIT_ROWS, vocabulary]`.
    pub(super) logits: Buffer,
    pub(super) partials: Buffer,
    pub(super) extents: Buffer,
    pub(super) chunks: usize,
}

/// Rows of values, with zeros up to a whole block.
#[derive(Clone)]
pub(super) struct Wide {
    pub(super) buffer: Buffer,
    pub(super) stride: usize,
}

impl Wide {
    fn new(client: &Client, rows: usize, width: usize) -> Self {
        let stride = width.next_multiple_of(BLOCK);
        Self {
            buffer: zeros(client, rows * stride),
            stride,
        }
    }

    /// Some of the rows, the first of which is where a binding may begin.
    pub(super) fn rows(&self, first: usize, rows: usize) -> Self {
        Self {
            buffer: self.buffer.part(first * self.stride, rows * self.stride),
            stride: self.stride,
        }
    }
}

pub(super) struct Loader<'a> {
    pub(super) client: &'a Client,
    pub(super) gguf: &'a Gguf,
    pub(super) config: &'a Config,
    pub(super) max_binding_bytes: u64,
    pub(super) blocks: usize,
    pub(super) profile: Profile,
    pub(super) context: usize,
}

type Loaded = (Vec<Layer>, Buffer, Matrix, Scratch);

impl Loader<'_> {
    pub(super) fn load(
        &self,
        layout: &DecoderLayout,
        pass_rows: usize,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Loaded, ModelError> {
        let mut done = 0;
        let mut layers = Vec::new();
        for layer in &layout.layers {
            layers.push(self.layer(layer)?);
            let tensors = layer.tensors().into_iter();
            done += tensors
                .map(|tensor| tensor.name.bytes(self.gguf))
                .sum::<u64>();
            progress(done);
        }
        let head = self.stack(&[&layout.head])?;
        let norm = self.vector(&layout.norm)?;
        progress(self.gguf.tensors().iter().map(|tensor| tensor.bytes).sum());
        let apart = layers
            .iter()
            .any(|layer| matches!(layer.gate_up, GateUp::Apart(..)));
        let scratch = Scratch::new(self.client, self.config, self.context, pass_rows, apart);
        Ok((layers, norm, head, scratch))
    }

    fn layer(&self, layer: &DecoderLayer) -> Result<Layer, ModelError> {
        let attention = &layer.attention;
        let FeedForward::Dense { gate, up, down } = &layer.feed_forward;
        let optional = |norm: &Option<Vector>| {
            let norm = norm.as_ref();
            norm.map(|norm| self.vector(norm)).transpose()
        };
        let query_norm = optional(&attention.query_norm)?;
        let key_norm = optional(&attention.key_norm)?;
        let values = self.blocks * BLOCK_TOKENS * attention.value.rows;
        let pool = match self.profile {
            Profile::P32 => values,
            Profile::P16 => values / 2,
        };
        Ok(Layer {
            attention_norm: self.vector(&layer.attention_norm)?,
            qkv: self.stack(&[&attention.query, &attention.key, &attention.value])?,
            qk_norm: query_norm.zip(key_norm).map(<[Buffer; 2]>::from),
            attention_out: self.stack(&[&attention.output])?,
            post_attention_norm: optional(&layer.attention_post_norm)?,
            feed_forward_norm: self.vector(&layer.feed_forward_norm)?,
            gate_up: self.gate_up(gate, up)?,
            down: self.stack(&[down])?,
            post_feed_forward_norm: optional(&layer.feed_forward_post_norm)?,
            keys: zeros(self.client, pool),
            values: zeros(self.client, pool),
        })
    }

    fn gate_up(&self, gate: &layout::Matrix, up: &layout::Matrix) -> Result<GateUp, ModelError> {
        let (gates, ups) = (Source::new(self.gguf, gate)?, Source::new(self.gguf, up)?);
        Ok(if gates.kind() == ups.kind() {
            let limit = self.max_binding_bytes;
            GateUp::Together(Matrix::gated(self.client, limit, gates, ups))
        } else {
            GateUp::Apart(self.stack(&[gate])?, self.stack(&[up])?)
        })
    }

    fn stack(&self, matrices: &[&layout::Matrix]) -> Result<Matrix, ModelError> {
        let sources = matrices.iter();
        let sources: Vec<_> = sources
            .map(|matrix| Source::new(self.gguf, matrix))
            .collect::<Result<_, _>>()?;
        Matrix::stack(self.client, self.max_binding_bytes, &sources)
    }

    fn vector(&self, source: &Vector) -> Result<Buffer, ModelError> {
        buffers::vector(self.client, self.gguf, source)
    }
}

impl Layer {
    pub(super) fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        let gate_up = match &self.gate_up {
            GateUp::Together(both) => [Some(both), None],
            GateUp::Apart(gate, up) => [Some(gate), Some(up)],
        };
        let others = [&self.qkv, &self.attention_out, &self.down];
        others.into_iter().chain(gate_up.into_iter().flatten())
    }
}

impl Scratch {
    fn new(client: &Client, config: &Config, context: usize, rows: usize, apart: bool) -> Self {
        let [embedding, attended, qkv, inner] = widths(config);
        let wide = |width| Wide::new(client, rows, width);
        let chunks = chunks(context);
        Self {
            logits: zeros(client, LOGIT_ROWS * config.vocabulary as usize),
            partials: zeros(client, chunks * attended),
            extents: zeros(client, chunks * config.heads as usize * 2),
            chunks,
            normed: wide(embedding),
            qkv: wide(qkv),
            queries: wide(attended),
            attended: wide(attended),
            inner: wide(inner),
            gate: apart.then(|| wide(inner)),
            wanted: wide(embedding),
            branch: config.post_norms.then(|| wide(embedding)),
        }
    }
}

/// Widths of the residual stream, of attention's result, of query, key and value together, and of
/// the feed-forward layer.
pub(super) fn widths(config: &Config) -> [usize; 4] {
    [
        config.embedding,
        config.heads * config.head_dim,
        (config.heads + 2 * config.kv_heads) * config.head_dim,
        config.feed_forward,
    ]
    .map(|width| width as usize)
}

/// So many that no one product is a longer submission than others may be.
pub(super) fn pass_rows(config: &Config) -> usize {
    let widest = 2 * config.embedding as usize * config.feed_forward as usize;
    (SUBMISSION / widest).clamp(64, PASS_ROWS)
}

/// Chunks of attention that there is room for.
pub(super) fn chunks(context: usize) -> usize {
    CHUNKS.max(context.div_ceil(CHUNK))
}

/// Bytes of the activations of one pass.
pub(crate) fn working_bytes(config: &Config, context: usize) -> u64 {
    let [embedding, attended, qkv, inner] = widths(config);
    let row = 3 * embedding + 2 * attended + qkv + 2 * inner;
    let logits = LOGIT_ROWS * config.vocabulary as usize;
    let partials = chunks(context) * (attended + 2 * config.heads as usize);
    ((row * pass_rows(config) + logits + partials) * size_of::<f32>()) as u64
}
