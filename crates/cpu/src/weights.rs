//! A model's weights from its file to packed memory.

use infera_model::gguf::{Gguf, TensorView};
use infera_model::quant::dequantize;
use infera_model::{Config, ModelError, PairOrder};

use crate::matrix::Matrix;
use crate::memory::{Memory, Shared};
use crate::pool::Pool;

/// Matrices begin on cache lines.
const ALIGNMENT: usize = 64;

pub(crate) struct Weights {
    pub packed: Memory,
    pub layers: Vec<Layer>,
    pub norm: Vec<f32>,
    pub head: Matrix,
}

pub(crate) struct Layer {
    pub attention_norm: Vec<f32>,
    pub query: Linear,
    pub key: Linear,
    pub value: Linear,
    pub query_norm: Option<Vec<f32>>,
    pub key_norm: Option<Vec<f32>>,
    pub attention_out: Matrix,
    pub attention_post_norm: Option<Vec<f32>>,
    pub feed_forward_norm: Vec<f32>,
    pub gate: Matrix,
    pub up: Matrix,
    pub down: Matrix,
    pub feed_forward_post_norm: Option<Vec<f32>>,
}

pub(crate) struct Linear {
    pub matrix: Matrix,
    pub bias: Option<Vec<f32>>,
}

/// A matrix's rows in a tensor of the file.
struct Source {
    tensor: String,
    /// The first of them.
    first: usize,
    pairs: Option<PairOrder>,
    matrix: Matrix,
}

struct Plan<'a> {
    gguf: &'a Gguf,
    sources: Vec<Source>,
    bytes: usize,
}

impl Weights {
    /// `progress` gets the bytes of the file that are done.
    pub(crate) fn load(
        gguf: &Gguf,
        config: &Config,
        pool: &mut Pool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, ModelError> {
        let mut plan = Plan {
            gguf,
            sources: Vec::new(),
            bytes: 0,
        };
        let layers = (0..config.layers)
            .map(|index| plan.layer(config, index))
            .collect::<Result<_, _>>()?;
        let wide = config.embedding as usize;
        let norm = vector(gguf, "output_norm.weight", wide)?;
        let head = if config.tied { "token_embd" } else { "output" };
        let head = plan.whole(&format!("{head}.weight"), config.vocabulary as usize, wide)?;
        let mut packed = Memory::zeroed(plan.bytes as u64, "weights", gguf.file())?;
        let mut done = 0;
        for source in &plan.sources {
            let tensor = tensor(gguf, &source.tensor)?;
            let row = |row| {
                let row = source.pairs.map_or(row, |pairs| pairs.source(row));
                source.first + row
            };
            let shared = Shared::from_ptr(packed.as_mut_ptr());
            source.matrix.pack(&tensor, &row, shared, pool);
            done += tensor.info.bytes / tensor.info.dims[1] * source.matrix.rows as u64;
            progress(done);
        }
        Ok(Self {
            packed,
            layers,
            norm,
            head,
        })
    }
}

impl Plan<'_> {
    fn layer(&mut self, config: &Config, index: u32) -> Result<Layer, ModelError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let wide = config.embedding as usize;
        let inner = config.feed_forward as usize;
        let head_dim = config.head_dim as usize;
        let query = config.heads as usize * head_dim;
        let key = config.kv_heads as usize * head_dim;
        let pairs = config.pair_order();
        let gguf = self.gguf;
        let norm = |part: &str, width| vector(gguf, &name(part), width);
        let optional = |set: bool, part: &str, width| set.then(|| norm(part, width)).transpose();
        let (query_source, key_source, value_source) = if config.fused {
            let tensor = || name("attn_qkv.weight");
            ((tensor(), 0), (tensor(), query), (tensor(), query + key))
        } else {
            let whole = |part| (name(part), 0);
            let names = ["attn_q.weight", "attn_k.weight", "attn_v.weight"];
            (whole(names[0]), whole(names[1]), whole(names[2]))
        };
        let (gate, up) = if config.fused {
            let tensor = || name("ffn_up.weight");
            ((tensor(), 0), (tensor(), inner))
        } else {
            ((name("ffn_gate.weight"), 0), (name("ffn_up.weight"), 0))
        };
        let mut linear = |(tensor, first), rows, pairs: Option<PairOrder>, bias: &str| {
            let bias = optional(config.qkv_bias, bias, rows)?;
            let order = |bias: Vec<f32>| match pairs {
                Some(pairs) => (0..rows).map(|row| bias[pairs.source(row)]).collect(),
                None => bias,
            };
            Ok(Linear {
                matrix: self.matrix(tensor, first, pairs, (rows, wide))?,
                bias: bias.map(order),
            })
        };
        Ok(Layer {
            attention_norm: norm("attn_norm.weight", wide)?,
            query: linear(query_source, query, pairs, "attn_q.bias")?,
            key: linear(key_source, key, pairs, "attn_k.bias")?,
            value: linear(value_source, key, None, "attn_v.bias")?,
            query_norm: optional(config.qk_norm, "attn_q_norm.weight", head_dim)?,
            key_norm: optional(config.qk_norm, "attn_k_norm.weight", head_dim)?,
            attention_out: self.whole(&name("attn_output.weight"), wide, query)?,
            attention_post_norm: optional(config.post_norms, "post_attention_norm.weight", wide)?,
            feed_forward_norm: norm("ffn_norm.weight", wide)?,
            gate: self.matrix(gate.0, gate.1, None, (inner, wide))?,
            up: self.matrix(up.0, up.1, None, (inner, wide))?,
            down: self.whole(&name("ffn_down.weight"), wide, inner)?,
            feed_forward_post_norm: optional(config.post_norms, "post_ffw_norm.weight", wide)?,
        })
    }

    fn whole(&mut self, name: &str, rows: usize, inputs: usize) -> Result<Matrix, ModelError> {
        self.matrix(name.to_owned(), 0, None, (rows, inputs))
    }

    /// Plans the rows from `first` on of a tensor as a matrix of its own.
    fn matrix(
        &mut self,
        name: String,
        first: usize,
        pairs: Option<PairOrder>,
        (rows, inputs): (usize, usize),
    ) -> Result<Matrix, ModelError> {
        let found = tensor(self.gguf, &name)?.info;
        if !matches!(*found.dims, [width, height]
            if width == inputs as u64 && height >= (first + rows) as u64)
        {
            let what = format!(
                "the tensor `{name}` has the shape {:?}, and rows {first} to {} of {inputs} are due",
                found.dims,
                first + rows
            );
            return Err(fault(self.gguf, what));
        }
        let matrix = Matrix::new(found.kind, rows, inputs, self.bytes);
        self.bytes = (self.bytes + matrix.bytes()).next_multiple_of(ALIGNMENT);
        self.sources.push(Source {
            tensor: name,
            first,
            pairs,
            matrix,
        });
        Ok(matrix)
    }
}

pub(crate) fn tensor<'a>(gguf: &'a Gguf, name: &str) -> Result<TensorView<'a>, ModelError> {
    gguf.tensor(name)
        .ok_or_else(|| fault(gguf, format!("the tensor `{name}` is missing")))
}

fn vector(gguf: &Gguf, name: &str, width: usize) -> Result<Vec<f32>, ModelError> {
    let tensor = tensor(gguf, name)?;
    let mut values = vec![0.0; width];
    dequantize(tensor.info.kind, tensor.bytes, &mut values)
        .map_err(|error| fault(gguf, format!("the tensor `{name}`: {error}")))?;
    Ok(values)
}

fn fault(gguf: &Gguf, fault: String) -> ModelError {
    ModelError::Malformed {
        file: gguf.file().to_owned(),
        fault,
    }
}
