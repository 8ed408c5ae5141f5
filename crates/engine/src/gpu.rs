//! The fast path: a model on kernels of our own, over quantised weights and a paged KV cache.
//!
//! Weights as the file has them, the KV cache in f32 or f16 as the numerics profile says,
//! everything else in f32, rotary tables from the CPU in f64. A sequence's logits have the same
//! bits whatever is in the pass beside it: every kernel's order of summation is fixed per output
//! value. Only in profile P16, and where tuning found them faster, long prompts are multiplied by
//! cooperative matrices, in f16 and in the driver's order.

mod assumptions;
pub(crate) mod buffers;
mod cut;
mod graph;
mod inputs;
mod launch;
mod load;
pub(crate) mod registrations;
mod select;
pub mod selftest;
mod tune;

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use cubecl::bytes::Bytes;
use cubecl::client::Client;
use cubecl::device::Device;
use cubecl::future::block_on;
use cubecl::prelude::*;
use infera_model::gguf::Gguf;
use infera_model::layout;
use infera_model::quant::dequantize;
use infera_model::{Activation, Config, LayerAttention, rotary_table};
use infera_protocol::Profile;

use self::assumptions::{Limits, Sizes};
use self::buffers::{Buffer, Matrix, alignment, passing, zeros};
use self::cut::{Most, Run, cut};
use self::graph::Graphs;
use self::inputs::{Inputs, Packer, Piece};
use self::launch::{
    Attention, Cache, Norm, Product, Queries, Rope, launch_attention, launch_gather, launch_norm,
    launch_part, launch_rope,
};
pub(crate) use self::load::working_bytes;
use self::load::{GateUp, Layer, Loader, Scratch, Wide, pass_rows};
pub use self::tune::Tuning;
use crate::device::Opened;
use crate::forward::{BLOCK_TOKENS, Forward, Segment, block_bytes};
use crate::kernels::attention;
use crate::kernels::cooperative::Fragment;
use crate::kernels::matmul::{Epilogue, Gate};
use crate::kernels::pack::BLOCK;
use crate::kernels::rope;
use crate::memory_budget::{most_blocks, weight_bytes};
use crate::message::{Failure, FailureCode};

/// Rows whose logits are computed and read back at once.
const LOGIT_ROWS: usize = 64;
/// Room for the sequences' blocks that every pass has.
const LEAST_TABLES: usize = 64;
/// Multiplications that are queued before the driver gets them: 50 ms at 0.5 TFLOP/s.
const SUBMISSION: usize = 12_500_000_000;

/// A model on a GPU.
pub struct Gpu {
    client: Client,
    tuning: Tuning,
    gguf: Arc<Gguf>,
    config: Config,
    profile: Profile,
    attention: Vec<LayerAttention>,
    context: usize,
    blocks: usize,
    pass_rows: usize,
    /// A table that stays in the file: a pass needs only a few of its rows.
    embedding: layout::Matrix,
    layers: Vec<Layer>,
    norm: Buffer,
    head: Matrix,
    scratch: Scratch,
    /// For arguments that a kernel's variant makes it ignore.
    nothing: Buffer,
    weight_bytes: u64,
    /// Multiplications since the driver last got what was queued.
    queued: Cell<usize>,
    /// Columns of a unit in this pass, at most.
    widest: Cell<usize>,
    /// Multiplications of all products for one row.
    row_work: usize,
    /// Where a binding may begin, in words.
    alignment: usize,
    /// The device's form of cooperative matrices, in profile P16.
    fragment: Option<Fragment>,
    graphs: RefCell<Graphs>,
    limits: Limits,
}

/// What a model is loaded with.
#[derive(Debug, Clone)]
pub struct Options {
    /// KV blocks; fewer where one binding cannot hold a layer's keys in so many.
    pub blocks: usize,
    pub profile: Profile,
    pub tuning: Tuning,
}

impl Options {
    /// Defaults for a device.
    pub fn of(opened: &Opened, blocks: usize, profile: Profile) -> Self {
        Self {
            blocks,
            profile,
            tuning: if opened.is_software() {
                Tuning::software()
            } else {
                Tuning::hardware()
            },
        }
    }
}

impl Gpu {
    /// Puts the weights of a file, whose configuration is `config`, on the device. The context is
    /// the model's own or `context`, whichever is less; `progress` gets the bytes of the file that
    /// are done.
    ///
    /// Where the driver has not the memory, nothing stays allocated and the failure says how many
    /// bytes are needed.
    pub fn load(
        gguf: Arc<Gguf>,
        config: Config,
        context: usize,
        opened: &Opened,
        options: &Options,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, Failure> {
        let device = opened.gpu.clone().ok_or_else(no_gpu)?;
        let client = Device::Wgpu(device).client();
        let attention = config.attention(&gguf)?;
        let pass_rows = pass_rows(&config);
        let profile = options.profile;
        let blocks = options
            .blocks
            .min(most_blocks(&config, profile, opened.max_binding_bytes));
        // No sequence is longer than all blocks.
        let context = context
            .min(config.context as usize)
            .min(blocks.saturating_mul(BLOCK_TOKENS));
        let limits = Limits::of(&client, opened.max_binding_bytes);
        let sizes = Sizes {
            config: &config,
            profile,
            tuning: &options.tuning,
            device: limits,
            context,
            pass_rows,
        };
        sizes.check(gguf.file())?;
        let loader = Loader {
            client: &client,
            gguf: &gguf,
            config: &config,
            max_binding_bytes: opened.max_binding_bytes,
            blocks,
            profile,
            context,
        };
        let tensors = config.layout();
        tensors.embedding.view(&gguf)?;
        let needed = weight_bytes(&tensors, &gguf)
            + working_bytes(&config, context)
            + blocks as u64 * block_bytes(&config, profile);
        let loaded = loader.load(&tensors, pass_rows, progress);
        let model = loaded
            .map_err(Failure::from)
            .map(|(layers, norm, head, scratch)| {
                let matrices = || layers.iter().flat_map(Layer::matrices).chain([&head]);
                let weight_bytes = matrices().map(Matrix::bytes).sum();
                let row_work = matrices().map(Matrix::work).sum();
                Self {
                    nothing: zeros(&client, 4),
                    tuning: options.tuning.clone(),
                    blocks,
                    context,
                    profile,
                    client: client.clone(),
                    pass_rows,
                    gguf,
                    config,
                    attention,
                    embedding: tensors.embedding,
                    layers,
                    norm,
                    head,
                    scratch,
                    weight_bytes,
                    queued: Cell::new(0),
                    widest: Cell::new(usize::MAX),
                    row_work,
                    alignment: alignment(&client),
                    fragment: (profile == Profile::P16)
                        .then(|| tune::fragment(&client))
                        .flatten(),
                    graphs: RefCell::default(),
                    limits,
                }
            });
        let model = model.and_then(|model| match block_on(client.sync_buffers(model.kept())) {
            Ok(()) => Ok(model),
            Err(error) => {
                tracing::warn!(%error, "the device did not take the model");
                Err(out_of_memory(needed))
            }
        });
        // Gives back to the driver what weights came through, or all of a model that there is not.
        let _ = client.memory_cleanup();
        model
    }

    /// Whether its kernels may be cut up so.
    fn allows(&self, tuning: &Tuning) -> bool {
        let sizes = Sizes {
            config: &self.config,
            profile: self.profile,
            tuning,
            device: self.limits,
            context: self.context,
            pass_rows: self.pass_rows,
        };
        sizes.check(self.gguf.file()).is_ok()
    }

    /// How its kernels are cut up now.
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
    }

    /// Whether [`Tuning::cooperative`] changes anything: the device has cooperative matrices of a
    /// form that the kernel can use, and the profile allows it.
    pub fn has_cooperative_matrices(&self) -> bool {
        self.fragment.is_some()
    }

    /// How many shapes of decode steps are replayed.
    pub fn recorded_steps(&self) -> usize {
        self.graphs.borrow().recorded()
    }

    /// Bytes of weights on the device.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    fn check(&self, segments: &[Segment<'_>], rows: &[Row]) -> Result<(), Failure> {
        let known = rows
            .iter()
            .all(|row| (row.token as usize) < self.vocabulary());
        let placed = segments.iter().all(|segment| {
            segment.start + segment.tokens.len() <= segment.blocks.len() * BLOCK_TOKENS
                && segment
                    .blocks
                    .iter()
                    .all(|block| (*block as usize) < self.blocks)
        });
        if known && placed {
            return Ok(());
        }
        Err(Failure {
            code: FailureCode::BadRequest,
            message: "A token or a KV block is beyond the model's".to_owned(),
        })
    }

    /// Parts of sequences through the model; `read` gets the logits of wanted rows on the device,
    /// in order, and how many rows they are.
    fn run(
        &self,
        segments: &[Segment<'_>],
        read: &mut dyn FnMut(&Buffer, usize) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let rows: Vec<Row> = segments
            .iter()
            .enumerate()
            .flat_map(|(index, segment)| {
                let tokens = segment.tokens.iter().enumerate();
                tokens.map(move |(at, token)| Row {
                    segment: index,
                    token: *token,
                    position: segment.start + at,
                    wanted: segment.wanted.contains(&at),
                })
            })
            .collect();
        self.check(segments, &rows)?;
        for rows in rows.chunks(self.pass_rows) {
            self.pass(segments, rows, read)?;
        }
        Ok(())
    }

    fn pass(
        &self,
        segments: &[Segment<'_>],
        rows: &[Row],
        read: &mut dyn FnMut(&Buffer, usize) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut packer = Packer::new(self.alignment);
        let inputs = self.inputs(segments, rows, &mut packer)?;
        let wanted = inputs.wanted.words;
        self.widest.set(if inputs.prompt {
            self.tuning.prefill_columns
        } else {
            usize::MAX
        });
        let is_short = wanted <= LOGIT_ROWS && self.work(&inputs) <= SUBMISSION;
        if self.tuning.recorded && inputs.step && is_short {
            self.queued.set(0);
            let replayed = self.graphs.borrow_mut().replay(
                &self.client,
                inputs.shape(),
                &packer.words,
                |buffer| {
                    let inputs = inputs.within(buffer);
                    self.head(&self.layers(&inputs)?, 0, wanted)
                },
            );
            if replayed {
                return read(&self.logits(wanted), wanted);
            }
        }
        let inputs = inputs.within(&passing(&self.client, packer.words));
        let hidden = self.layers(&inputs)?;
        for first in (0..wanted).step_by(LOGIT_ROWS) {
            let rows = LOGIT_ROWS.min(wanted - first);
            self.head(&hidden, first, rows)?;
            read(&self.logits(rows), rows)?;
        }
        Ok(())
    }

    /// Gives the residual stream of the wanted rows.
    fn layers(&self, inputs: &Inputs<Buffer>) -> Result<Wide, Failure> {
        let mut hidden = inputs.hidden();
        let mut attended = &self.scratch.attended;
        let mut rows = inputs.rows;
        for (index, layer) in self.layers.iter().enumerate() {
            let attention = &self.attention[index];
            self.keys_and_values(layer, attention, &hidden, inputs)?;
            // Nothing more is ever read of the last layer's other rows.
            if index + 1 == self.layers.len() {
                rows = inputs.wanted.words;
            }
            if rows == 0 {
                break;
            }
            self.attend(layer, attention, inputs)?;
            if rows < inputs.rows {
                let wanted = &self.scratch.wanted;
                self.gather(&hidden, &inputs.wanted, wanted);
                hidden = wanted.clone();
                // The queries have had their use.
                self.gather(attended, &inputs.wanted, &self.scratch.queries);
                attended = &self.scratch.queries;
            }
            self.feed_forward(layer, attended, &hidden, rows)?;
        }
        Ok(hidden)
    }

    fn gather(&self, x: &Wide, index: &Buffer, y: &Wide) {
        launch_gather(&self.client, [&x.buffer, index, &y.buffer], x.stride);
    }

    /// Logits of `rows` rows of the residual stream, from `first` on.
    fn head(&self, hidden: &Wide, first: usize, rows: usize) -> Result<(), Failure> {
        let hidden = hidden.rows(first, rows);
        let input = self.normalised(&hidden, &self.norm, rows);
        let logits = Wide {
            buffer: self.logits(rows),
            stride: self.vocabulary(),
        };
        self.multiply(&self.head, input, &logits, None, Epilogue::Store, rows)
    }

    fn logits(&self, rows: usize) -> Buffer {
        self.scratch.logits.part(0, rows * self.vocabulary())
    }

    /// Multiplications of a pass whose rows are all wanted.
    fn work(&self, inputs: &Inputs<Piece>) -> usize {
        let width = (self.config.heads * self.config.head_dim) as usize;
        let attended = self.attention.iter().map(|layer| {
            let tasks = inputs.tasks_of(layer).iter();
            tasks.map(|tasks| 2 * tasks.work * width).sum::<usize>()
        });
        inputs.rows * self.row_work + attended.sum::<usize>()
    }

    fn read(&self, buffer: &Buffer) -> Result<Bytes, Failure> {
        let bytes = self
            .client
            .read_one(buffer.handle.clone())
            .map_err(|error| Failure::device(&error))?;
        self.queued.set(0);
        Ok(bytes)
    }

    fn read_logits(&self, buffer: &Buffer) -> Result<Vec<f32>, Failure> {
        let bytes = self.read(buffer)?;
        Ok(self.capped(f32::from_bytes(&bytes).iter().copied()))
    }

    /// Logits as the model's last step makes them of the head's products.
    fn capped(&self, logits: impl Iterator<Item = f32>) -> Vec<f32> {
        match self.config.final_softcap {
            Some(cap) => logits.map(|logit| cap * (logit / cap).tanh()).collect(),
            None => logits.collect(),
        }
    }

    /// `[rows, embedding]` with zeros up to a whole block, scaled.
    fn embeddings(&self, rows: &[Row]) -> Result<Vec<u32>, Failure> {
        let table = self.embedding.view(&self.gguf)?;
        let width = self.embedding.inputs;
        let stride = width.next_multiple_of(BLOCK);
        let row_bytes = width / table.info.kind.block_values() * table.info.kind.block_bytes();
        let mut values = vec![0.0; rows.len() * stride];
        for (row, values) in rows.iter().zip(values.chunks_mut(stride)) {
            let bytes = &table.bytes[row.token as usize * row_bytes..][..row_bytes];
            dequantize(table.info.kind, bytes, &mut values[..width]).map_err(|error| Failure {
                code: FailureCode::BadModel,
                message: error.to_string(),
            })?;
            for value in values {
                *value *= self.config.embedding_scale;
            }
        }
        Ok(values.into_iter().map(f32::to_bits).collect())
    }

    fn inputs(
        &self,
        segments: &[Segment<'_>],
        rows: &[Row],
        packer: &mut Packer,
    ) -> Result<Inputs<Piece>, Failure> {
        let mut tables = Vec::new();
        let mut place = Vec::new();
        let mut runs = Vec::new();
        for run in rows.chunk_by(|one, two| one.segment == two.segment) {
            let blocks = segments[run[0].segment].blocks;
            runs.push(Run {
                first_row: place.len() / 2,
                rows: run.len(),
                position: run[0].position,
                table: tables.len(),
            });
            tables.extend_from_slice(blocks);
            for row in run {
                let block = blocks[row.position / BLOCK_TOKENS];
                place.extend([row.position as u32, block]);
            }
        }
        // A new block now and then shall not change a step's shape.
        tables.resize(tables.len().next_power_of_two().max(LEAST_TABLES), 0);
        let mut angles: Vec<(Arc<[f64]>, Piece)> = Vec::new();
        for layer in &self.attention {
            let known = |(known, _): &(Arc<[f64]>, Piece)| Arc::ptr_eq(known, &layer.frequencies);
            if !angles.iter().any(known) {
                let table =
                    |row: &Row| rotary_table(&layer.frequencies, layer.magnitude, row.position);
                let values: Vec<u32> = rows.iter().flat_map(table).map(f32::to_bits).collect();
                angles.push((Arc::clone(&layer.frequencies), packer.add(&values)));
            }
        }
        let mut windows: Vec<Option<u32>> = Vec::new();
        for layer in &self.attention {
            if !windows.contains(&layer.window) {
                windows.push(layer.window);
            }
        }
        let tasks = windows.into_iter().map(|window| {
            let launches = cut(&runs, window, self.most());
            let tasks = launches.iter().map(|launch| packer.tasks(launch));
            (window, tasks.collect())
        });
        let tasks = tasks.collect();
        let wanted: Vec<u32> = (0_u32..)
            .zip(rows)
            .filter(|(_, row)| row.wanted)
            .map(|(at, _)| at)
            .collect();
        let prompt = runs.iter().any(|run| run.rows > 1);
        Ok(Inputs {
            rows: rows.len(),
            prompt,
            step: !prompt && wanted.len() == rows.len(),
            hidden: packer.add(&self.embeddings(rows)?),
            place: packer.add(&place),
            tables: packer.add(&tables),
            wanted: packer.add(&wanted),
            tasks,
            angles,
        })
    }

    /// What a launch of attention may hold.
    fn most(&self) -> Most {
        let group = (self.config.heads / self.config.kv_heads) as usize;
        let width = (self.config.heads * self.config.head_dim) as usize;
        Most {
            rows: (self.tuning.attention_queries / group).max(1),
            chunks: self.scratch.chunks,
            work: SUBMISSION / (2 * width),
        }
    }

    /// Queries, and the keys and values of all rows in the cache.
    fn keys_and_values(
        &self,
        layer: &Layer,
        attention: &LayerAttention,
        hidden: &Wide,
        inputs: &Inputs<Buffer>,
    ) -> Result<(), Failure> {
        let rows = inputs.rows;
        let input = self.normalised(hidden, &layer.attention_norm, rows);
        let qkv = &self.scratch.qkv;
        self.multiply(&layer.qkv, input, qkv, None, Epilogue::Store, rows)?;
        if !self.turns_within(inputs) {
            launch_rope(
                &self.client,
                &self.rope(layer, attention, inputs),
                &inputs.place,
                self.cache(layer),
                &self.scratch.queries.buffer,
                self.scratch.queries.stride,
            );
        }
        Ok(())
    }

    /// What attention's result and the feed-forward layer add to the residual stream.
    fn feed_forward(
        &self,
        layer: &Layer,
        attended: &Wide,
        hidden: &Wide,
        rows: usize,
    ) -> Result<(), Failure> {
        let scratch = &self.scratch;
        let post = layer.post_attention_norm.as_ref();
        self.add(&layer.attention_out, attended, hidden, post, rows)?;
        let input = self.normalised(hidden, &layer.feed_forward_norm, rows);
        let gate = match self.config.activation {
            Activation::Silu => Gate::Silu,
            Activation::GeluTanh => Gate::GeluTanh,
        };
        match (&layer.gate_up, &scratch.gate) {
            (GateUp::Apart(gate_rows, up), Some(gated)) => {
                self.multiply(gate_rows, input, gated, None, Epilogue::Store, rows)?;
                let times = Epilogue::Times(gate);
                self.multiply(up, input, &scratch.inner, Some(gated), times, rows)?;
            }
            (GateUp::Together(both) | GateUp::Apart(both, _), _) => {
                let gated = Epilogue::Gated(gate);
                self.multiply(both, input, &scratch.inner, None, gated, rows)?;
            }
        }
        let post = layer.post_feed_forward_norm.as_ref();
        self.add(&layer.down, &scratch.inner, hidden, post, rows)
    }

    /// `hidden += norm(matrix * x)`, the norm where there is one.
    fn add(
        &self,
        matrix: &Matrix,
        x: &Wide,
        hidden: &Wide,
        norm: Option<&Buffer>,
        rows: usize,
    ) -> Result<(), Failure> {
        match (norm, &self.scratch.branch) {
            (Some(norm), Some(branch)) => {
                self.multiply(matrix, x.into(), branch, None, Epilogue::Store, rows)?;
                self.normalise(branch, norm, hidden, rows, true);
                Ok(())
            }
            _ => self.multiply(matrix, x.into(), hidden, None, Epilogue::Add, rows),
        }
    }

    /// What a product of so many rows reads, to be normalised by it or normalised here.
    fn normalised<'a>(&'a self, x: &'a Wide, weight: &'a Buffer, rows: usize) -> Input<'a> {
        let norm = Some(self.norm_with(weight));
        if self.tuning.normalises(rows, self.widest.get(), x.stride) {
            return Input { x, norm };
        }
        let y = &self.scratch.normed;
        self.normalise(x, weight, y, rows, false);
        y.into()
    }

    fn norm_with<'a>(&self, weight: &'a Buffer) -> Norm<'a> {
        Norm {
            weight,
            width: self.config.embedding,
            epsilon: self.config.rms_epsilon,
        }
    }

    fn normalise(&self, x: &Wide, weight: &Buffer, y: &Wide, rows: usize, add: bool) {
        let norm = self.norm_with(weight);
        let buffers = [&x.buffer, &y.buffer];
        launch_norm(&self.client, &self.tuning, &norm, buffers, rows, add);
    }

    fn multiply(
        &self,
        matrix: &Matrix,
        input: Input<'_>,
        y: &Wide,
        other: Option<&Wide>,
        epilogue: Epilogue,
        columns: usize,
    ) -> Result<(), Failure> {
        let product = Product {
            x: &input.x.buffer,
            norm: input.norm,
            y: &y.buffer,
            y_stride: y.stride,
            other: other.map(|other| &other.buffer),
            epilogue,
            fragment: self.fragment.filter(|_| self.tuning.cooperative),
            columns,
            widest: self.widest.get(),
            nothing: &self.nothing,
        };
        for part in &matrix.parts {
            self.queue(part.work() * columns)?;
            launch_part(&self.client, &self.tuning, part, &product);
        }
        Ok(())
    }

    /// Hands the driver what is queued before it would keep the GPU from the desktop for long.
    fn queue(&self, work: usize) -> Result<(), Failure> {
        let queued = self.queued.get() + work;
        if queued > SUBMISSION && queued > work {
            self.queued.set(work);
            return self.client.flush().map_err(|error| Failure::device(&error));
        }
        self.queued.set(queued);
        Ok(())
    }

    /// Whether attention turns queries and keys itself. Of a row that is not wanted it would leave
    /// out the last layer's.
    fn turns_within(&self, inputs: &Inputs<Buffer>) -> bool {
        inputs.step && self.tuning.rope_inside
    }

    fn cache<'a>(&self, layer: &'a Layer) -> Cache<'a> {
        Cache {
            keys: &layer.keys,
            values: &layer.values,
            kv_heads: self.config.kv_heads as usize,
        }
    }

    fn rope<'a>(
        &'a self,
        layer: &'a Layer,
        attention: &LayerAttention,
        inputs: &'a Inputs<Buffer>,
    ) -> Rope<'a> {
        let config = &self.config;
        Rope {
            qkv: &self.scratch.qkv.buffer,
            qkv_stride: self.scratch.qkv.stride,
            angles: inputs.angles_of(attention).unwrap_or(&self.nothing),
            norms: match &layer.qk_norm {
                Some([query, key]) => [query, key],
                None => [&self.nothing, &self.nothing],
            },
            scale: config.attention_scale,
            epsilon: config.rms_epsilon,
            heads: config.heads as usize,
            variant: rope::RopeVariant {
                head_dim: config.head_dim as usize,
                rotated: config.rope_dim as usize,
                norm: layer.qk_norm.is_some(),
                half: self.profile == Profile::P16,
                units: self.tuning.attention_units,
                planes: self.tuning.planes,
            },
        }
    }

    fn attend(
        &self,
        layer: &Layer,
        attention: &LayerAttention,
        inputs: &Inputs<Buffer>,
    ) -> Result<(), Failure> {
        let config = &self.config;
        let width = (config.heads * config.head_dim) as usize;
        for tasks in inputs.tasks_of(attention) {
            self.queue(2 * tasks.work * width)?;
            let variant = attention::AttentionVariant {
                head_dim: config.head_dim as usize,
                group: (config.heads / config.kv_heads) as usize,
                rows: tasks.rows,
                units: self.tuning.attention_units,
                ahead: self.tuning.ahead,
                half: self.profile == Profile::P16,
                window: attention.window.is_some(),
                softcap: config.attention_softcap.is_some(),
                planes: self.tuning.planes,
                split: tasks.merges.is_some(),
            };
            launch_attention(
                &self.client,
                variant,
                &Attention {
                    queries: if self.turns_within(inputs) {
                        Queries::Within(self.rope(layer, attention, inputs))
                    } else {
                        Queries::Ready(&self.scratch.queries.buffer)
                    },
                    cache: self.cache(layer),
                    tables: &inputs.tables,
                    y: &self.scratch.attended.buffer,
                    partials: &self.scratch.partials,
                    extents: &self.scratch.extents,
                    query_stride: self.scratch.queries.stride,
                    // One beyond the context sees all, and a sum with it has its bits.
                    window: attention
                        .window
                        .map_or(0, |window| window.min(self.context as u32)),
                    softcap: config.attention_softcap.unwrap_or(1.0),
                },
                tasks,
            );
        }
        Ok(())
    }

    fn kept(&self) -> Vec<&cubecl::server::Handle> {
        let layers = self
            .layers
            .iter()
            .flat_map(|layer| [&layer.keys, &layer.values]);
        let heads = self.head.parts.iter().map(|part| &part.quants);
        layers.chain(heads).map(|buffer| &buffer.handle).collect()
    }
}

impl Forward for Gpu {
    fn name(&self) -> &str {
        self.gguf.name()
    }

    fn vocabulary(&self) -> usize {
        self.config.vocabulary as usize
    }

    fn context(&self) -> usize {
        self.context
    }

    fn blocks(&self) -> usize {
        self.blocks
    }

    fn block_bytes(&self) -> u64 {
        block_bytes(&self.config, self.profile)
    }

    fn forward(&mut self, segments: &[Segment<'_>]) -> Result<Vec<f32>, Failure> {
        let mut logits = Vec::new();
        self.run(segments, &mut |buffer, _| {
            logits.extend(self.read_logits(buffer)?);
            Ok(())
        })?;
        Ok(logits)
    }

    fn forward_best(
        &mut self,
        segments: &[Segment<'_>],
        count: usize,
    ) -> Result<Vec<Vec<(u32, f32)>>, Failure> {
        let mut best = Vec::new();
        self.run(segments, &mut |buffer, rows| {
            best.extend(self.read_best(buffer, rows, count)?);
            Ok(())
        })?;
        Ok(best)
    }
}

/// What a product reads.
#[derive(Clone, Copy)]
struct Input<'a> {
    x: &'a Wide,
    /// What the product does with it first.
    norm: Option<Norm<'a>>,
}

impl<'a> From<&'a Wide> for Input<'a> {
    fn from(x: &'a Wide) -> Self {
        Self { x, norm: None }
    }
}

/// One token of a pass.
struct Row {
    segment: usize,
    token: u32,
    position: usize,
    wanted: bool,
}

fn no_gpu() -> Failure {
    Failure {
        code: FailureCode::NoDevice,
        message: "There is no GPU that these kernels could run on".to_owned(),
    }
}

fn out_of_memory(needed: u64) -> Failure {
    Failure {
        code: FailureCode::OutOfMemory,
        message: format!(
            "The GPU's driver has no memory left for the model, which needs {needed} bytes"
        ),
    }
}
