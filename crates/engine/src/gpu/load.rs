//! A model's parts on the device, and how they get there from a file.

use cubecl::client::Client;
use infera_model::Config;
use infera_model::gguf::Gguf;
use infera_protocol::Profile;

use super::memory::{self, Buffer, Matrix, Rows, tensor, zeros};
use super::{LOGIT_ROWS, SUBMISSION};
use crate::forward::BLOCK_TOKENS;
use crate::kernels::attention::CHUNK;
use crate::kernels::pack::BLOCK;
use crate::message::Failure;

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
    /// Of one quantisation.
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
        pass_rows: usize,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Loaded, Failure> {
        let config = self.config;
        let mut done = 0;
        let mut layers = Vec::new();
        for index in 0..config.layers {
            layers.push(self.layer(index)?);
            let prefix = format!("blk.{index}.");
            let of_layer = |name: &str| name.starts_with(&prefix);
            let tensors = self.gguf.tensors().iter();
            done += tensors
                .filter(|tensor| of_layer(&tensor.name))
                .map(|tensor| tensor.bytes)
                .sum::<u64>();
            progress(done);
        }
        let name = if config.tied { "token_embd" } else { "output" };
        let rows = self.rows(name, config.embedding, config.vocabulary)?;
        let head = Matrix::stack(self.client, self.max_binding_bytes, &[rows])?;
        let norm = self.vector("output_norm.weight")?;
        progress(self.gguf.tensors().iter().map(|tensor| tensor.bytes).sum());
        let apart = layers
            .iter()
            .any(|layer| matches!(layer.gate_up, GateUp::Apart(..)));
        let scratch = Scratch::new(self.client, config, self.context, pass_rows, apart);
        Ok((layers, norm, head, scratch))
    }

    fn layer(&self, index: u32) -> Result<Layer, Failure> {
        let config = self.config;
        let limit = self.max_binding_bytes;
        let name = |part: &str| format!("blk.{index}.{part}");
        let (width, kv_width) = (
            config.heads * config.head_dim,
            config.kv_heads * config.head_dim,
        );
        let stack = |sources: &[Rows<'_>]| Matrix::stack(self.client, limit, sources);
        let qkv = if config.fused {
            stack(&[self.rows(&name("attn_qkv"), config.embedding, width + 2 * kv_width)?])?
        } else {
            let rotated = |part: &str, rows| -> Result<Rows<'_>, Failure> {
                Ok(Rows {
                    pairs: config.pair_order(),
                    ..self.rows(&name(part), config.embedding, rows)?
                })
            };
            stack(&[
                rotated("attn_q", width)?,
                rotated("attn_k", kv_width)?,
                self.rows(&name("attn_v"), config.embedding, kv_width)?,
            ])?
        };
        let qk_norm = if config.qk_norm {
            Some([
                self.vector(&name("attn_q_norm.weight"))?,
                self.vector(&name("attn_k_norm.weight"))?,
            ])
        } else {
            None
        };
        let inner = config.feed_forward;
        let (gate, up) = if config.fused {
            let both = self.rows(&name("ffn_up"), config.embedding, 2 * inner)?;
            let half = |first: u32| Rows {
                first: first as usize,
                count: inner as usize,
                ..both
            };
            (half(0), half(inner))
        } else {
            let of = |part: &str| self.rows(&name(part), config.embedding, inner);
            (of("ffn_gate")?, of("ffn_up")?)
        };
        let gate_up = if gate.tensor.info.kind == up.tensor.info.kind {
            GateUp::Together(Matrix::gated(self.client, limit, gate, up))
        } else {
            GateUp::Apart(stack(&[gate])?, stack(&[up])?)
        };
        let post = |part: &str| -> Result<Option<Buffer>, Failure> {
            if config.post_norms {
                self.vector(&name(part)).map(Some)
            } else {
                Ok(None)
            }
        };
        let values = self.blocks * BLOCK_TOKENS * kv_width as usize;
        let pool = match self.profile {
            Profile::P32 => values,
            Profile::P16 => values / 2,
        };
        Ok(Layer {
            attention_norm: self.vector(&name("attn_norm.weight"))?,
            qkv,
            qk_norm,
            attention_out: stack(&[self.rows(&name("attn_output"), width, config.embedding)?])?,
            post_attention_norm: post("post_attention_norm.weight")?,
            feed_forward_norm: self.vector(&name("ffn_norm.weight"))?,
            gate_up,
            down: stack(&[self.rows(&name("ffn_down"), inner, config.embedding)?])?,
            post_feed_forward_norm: post("post_ffw_norm.weight")?,
            keys: zeros(self.client, pool),
            values: zeros(self.client, pool),
        })
    }

    fn rows(&self, name: &str, inputs: u32, count: u32) -> Result<Rows<'_>, Failure> {
        Ok(Rows {
            tensor: tensor(self.gguf, &format!("{name}.weight"))?,
            inputs: inputs as usize,
            first: 0,
            count: count as usize,
            pairs: None,
            bias: self.gguf.tensor(&format!("{name}.bias")),
        })
    }

    fn vector(&self, name: &str) -> Result<Buffer, Failure> {
        memory::vector(self.client, self.gguf, name)
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

/// Of the residual stream, of attention's result, of query, key and value together, and of the
/// feed-forward layer.
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
