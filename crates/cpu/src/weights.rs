//! A model's weights from its file to packed memory.

use infera_model::ModelError;
use infera_model::gguf::Gguf;
use infera_model::layout::{self, DecoderLayer, DecoderLayout, FeedForward, Vector};

use crate::matrix::Matrix;
use crate::pool::Pool;
use crate::zeroed::{Memory, Shared};

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

/// Where the matrices go in packed memory.
struct Packing<'a> {
    gguf: &'a Gguf,
    matrices: Vec<(layout::Matrix, Matrix)>,
    bytes: usize,
}

impl Weights {
    /// `progress` gets the bytes of the file that are done.
    pub(crate) fn load(
        gguf: &Gguf,
        layout: &DecoderLayout,
        pool: &mut Pool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, ModelError> {
        let mut packing = Packing {
            gguf,
            matrices: Vec::new(),
            bytes: 0,
        };
        let layers = layout.layers.iter();
        let layers = layers
            .map(|layer| packing.layer(layer))
            .collect::<Result<_, _>>()?;
        let norm = layout.norm.values(gguf)?;
        let head = packing.matrix(&layout.head)?;
        let mut packed = Memory::zeroed(packing.bytes as u64, "weights", gguf.file())?;
        let mut done = 0;
        for (source, matrix) in &packing.matrices {
            let tensor = source.view(gguf)?;
            let shared = Shared::from_ptr(packed.as_mut_ptr());
            matrix.pack(&tensor, &|row| source.source(row), shared, pool);
            done += tensor.info.bytes / source.height as u64 * source.rows as u64;
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

impl Packing<'_> {
    fn layer(&mut self, layer: &DecoderLayer) -> Result<Layer, ModelError> {
        let gguf = self.gguf;
        let optional = |norm: &Option<Vector>| {
            let norm = norm.as_ref();
            norm.map(|norm| norm.values(gguf)).transpose()
        };
        let attention = &layer.attention;
        let FeedForward::Dense { gate, up, down } = &layer.feed_forward;
        Ok(Layer {
            attention_norm: layer.attention_norm.values(gguf)?,
            query: self.linear(&attention.query)?,
            key: self.linear(&attention.key)?,
            value: self.linear(&attention.value)?,
            query_norm: optional(&attention.query_norm)?,
            key_norm: optional(&attention.key_norm)?,
            attention_out: self.matrix(&attention.output)?,
            attention_post_norm: optional(&layer.attention_post_norm)?,
            feed_forward_norm: layer.feed_forward_norm.values(gguf)?,
            gate: self.matrix(gate)?,
            up: self.matrix(up)?,
            down: self.matrix(down)?,
            feed_forward_post_norm: optional(&layer.feed_forward_post_norm)?,
        })
    }

    fn linear(&mut self, source: &layout::Matrix) -> Result<Linear, ModelError> {
        Ok(Linear {
            matrix: self.matrix(source)?,
            bias: source.bias_values(self.gguf)?,
        })
    }

    fn matrix(&mut self, source: &layout::Matrix) -> Result<Matrix, ModelError> {
        let kind = source.view(self.gguf)?.info.kind;
        let matrix = Matrix::new(kind, source.rows, source.inputs, self.bytes);
        self.bytes = (self.bytes + matrix.bytes()).next_multiple_of(ALIGNMENT);
        self.matrices.push((*source, matrix));
        Ok(matrix)
    }
}
