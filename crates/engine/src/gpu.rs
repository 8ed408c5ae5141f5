//! The fast path: a model on kernels of our own, over quantised weights and a paged KV cache.
//!
//! Weights as the file has them, the KV cache in f32 or f16 as the numerics profile says,
//! everything else in f32, rotary tables from the CPU in f64. A sequence's logits have the same bits whatever is in the pass beside it: every
//! kernel's order of summation is fixed per output value.

mod cut;
pub(crate) mod memory;
pub mod selftest;
mod tune;

use std::cell::Cell;
use std::sync::Arc;

use cubecl::client::Client;
use cubecl::device::Device;
use cubecl::future::block_on;
use cubecl::prelude::*;
use infera_model::gguf::Gguf;
use infera_model::quant::dequantize;
use infera_model::{Activation, Config, LayerAttention, rotary_table};
use infera_protocol::Profile;
use serde::{Deserialize, Serialize};

use self::cut::{Launch, Most, Run, cut};
use self::memory::{Buffer, Matrix, Part, Rows, kept, passing, tensor, zeros};
use crate::device::Opened;
use crate::forward::{BLOCK_TOKENS, Forward, Segment, block_bytes};
use crate::kernels::attention::{self, CHUNK, grouped_attention, merge_chunks};
use crate::kernels::gemm::{self, shared_matmul};
use crate::kernels::matmul::{self, Epilogue, Gate, tiled_matmul};
use crate::kernels::norm::{self, rms_norm};
use crate::kernels::pack::{self, BLOCK, TILE};
use crate::kernels::rope::{self, rope_and_store};
use crate::kernels::serial::{self, serial_matmul};
use crate::memory::{most_blocks, weight_bytes};
use crate::message::{Failure, FailureCode};

/// How kernels are cut up on a device. `splits` and the two `units` decide orders of summation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuning {
    /// Units that share a row of a matrix; none for [`serial_matmul`].
    pub splits: Option<usize>,
    /// Cubes that a product shall have at least, if that leaves eight row tiles each; for
    /// [`serial_matmul`].
    pub cubes: usize,
    /// Columns of a unit, rising from one, and, for as many, its row tiles. Tiles are even, because
    /// gate and up alternate.
    pub shapes: Vec<(usize, usize)>,
    /// Columns of a unit in passes with prompts, at most: kernels for more may take longer to
    /// compile than a first answer may.
    pub prefill_columns: usize,
    /// Columns from which a product goes through shared memory ([`shared_matmul`]).
    pub shared_from: Option<usize>,
    pub norm_units: usize,
    pub attention_units: usize,
    /// Query heads times rows of an attention cube in prefill.
    pub attention_queries: usize,
    /// 16-byte loads of keys or values that a unit has under way at once.
    pub ahead: usize,
    /// Sums over a cube go through planes.
    pub planes: bool,
}

impl Tuning {
    /// For GPUs.
    pub fn hardware() -> Self {
        Self {
            splits: Some(8),
            cubes: 1,
            shapes: vec![(1, 2), (2, 2), (4, 2), (8, 2), (16, 2)],
            prefill_columns: 16,
            shared_from: Some(33),
            norm_units: 256,
            attention_units: 64,
            attention_queries: 12,
            ahead: 4,
            planes: false,
        }
    }

    /// For drivers that compute on the CPU in eight lanes: no unit waits for another.
    pub fn software() -> Self {
        Self {
            splits: None,
            cubes: 2 * std::thread::available_parallelism().map_or(1, usize::from),
            shapes: vec![(1, 64), (4, 64), (16, 64)],
            prefill_columns: 4,
            shared_from: None,
            norm_units: 8,
            attention_units: 8,
            attention_queries: 1,
            ahead: 1,
            planes: false,
        }
    }

    /// For so many columns, with units of at most `widest`. Of a unit's columns more than half have
    /// work.
    fn shape(&self, columns: usize, widest: usize) -> (usize, usize) {
        let columns = columns.min(widest);
        let mut shapes = self.shapes.iter().rev();
        *shapes
            .find(|(wide, _)| *wide < 2 * columns)
            .unwrap_or(&(1, 2))
    }
}

/// Rows that go through the model at once.
const PASS_ROWS: usize = 512;
/// Rows whose logits are computed and read back at once.
const LOGIT_ROWS: usize = 64;
/// Multiplications that are queued before the driver gets them: 50 ms at 0.5 TFLOP/s.
const SUBMISSION: usize = 12_500_000_000;
/// Chunks of attention that one launch may leave to be merged, where the context has not more.
const CHUNKS: usize = 512;

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
    layers: Vec<Layer>,
    norm: Buffer,
    head: Matrix,
    scratch: Scratch,
    /// For arguments that a kernel's shape makes it ignore.
    nothing: Buffer,
    weight_bytes: u64,
    /// Multiplications since the driver last got what was queued.
    queued: Cell<usize>,
    /// Columns of a unit in this pass, at most.
    widest: Cell<usize>,
}

struct Layer {
    attention_norm: Buffer,
    qkv: Matrix,
    qk_norm: Option<[Buffer; 2]>,
    attention_out: Matrix,
    post_attention_norm: Option<Buffer>,
    feed_forward_norm: Buffer,
    gate_up: GateUp,
    down: Matrix,
    post_feed_forward_norm: Option<Buffer>,
    keys: Buffer,
    values: Buffer,
}

enum GateUp {
    /// Of one quantisation.
    Together(Matrix),
    Apart(Matrix, Matrix),
}

/// Activations of one pass, `[PASS_ROWS, width]` each, and what attention leaves to be merged.
struct Scratch {
    normed: Wide,
    qkv: Wide,
    queries: Wide,
    attended: Wide,
    inner: Wide,
    gate: Option<Wide>,
    branch: Option<Wide>,
    partials: Buffer,
    extents: Buffer,
    chunks: usize,
}

/// Rows of values, with zeros up to a whole block.
struct Wide {
    buffer: Buffer,
    stride: usize,
}

impl Wide {
    fn new(client: &Client, rows: usize, width: usize) -> Self {
        let stride = width.next_multiple_of(BLOCK);
        Self {
            buffer: zeros(client, rows * stride),
            stride,
        }
    }
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
        let context = context.min(config.context as usize);
        let profile = options.profile;
        let blocks = options
            .blocks
            .min(most_blocks(&config, profile, opened.max_binding_bytes));
        let loader = Loader {
            client: &client,
            gguf: &gguf,
            config: &config,
            max_binding_bytes: opened.max_binding_bytes,
            blocks,
            profile,
            context,
        };
        let needed = weight_bytes(&config, &gguf)
            + working_bytes(&config, context)
            + blocks as u64 * block_bytes(&config, profile);
        let loaded = loader.load(pass_rows, progress);
        let model = loaded.map(|(layers, norm, head, scratch)| {
            let uploaded = layers.iter().map(Layer::weight_bytes).sum::<u64>() + head.bytes();
            Self {
                nothing: kept(&client, &[0; 4]),
                tuning: options.tuning.clone(),
                blocks,
                context,
                profile,
                client: client.clone(),
                pass_rows,
                gguf,
                config,
                attention,
                layers,
                norm,
                head,
                scratch,
                weight_bytes: uploaded,
                queued: Cell::new(0),
                widest: Cell::new(usize::MAX),
            }
        });
        let model = model.and_then(|model| match block_on(client.sync_buffers(model.kept())) {
            Ok(()) => Ok(model),
            Err(error) => {
                tracing::warn!(%error, "the device did not take the model");
                Err(out_of_memory(needed))
            }
        });
        if model.is_err() {
            // What was allocated is dropped by now; this gives it back to the driver.
            let _ = client.memory_cleanup();
        }
        model
    }

    /// How its kernels are cut up now.
    pub fn tuning(&self) -> &Tuning {
        &self.tuning
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

    fn pass(
        &self,
        segments: &[Segment<'_>],
        rows: &[Row],
        logits: &mut Vec<f32>,
    ) -> Result<(), Failure> {
        let places = self.places(segments, rows);
        self.widest.set(if places.prompt {
            self.tuning.prefill_columns
        } else {
            usize::MAX
        });
        let hidden = self.embeddings(rows)?;
        for (index, layer) in self.layers.iter().enumerate() {
            self.layer(layer, &self.attention[index], &hidden, &places)?;
        }
        let wanted: Vec<u32> = (0..rows.len())
            .filter(|row| rows[*row].wanted)
            .map(|row| row as u32)
            .collect();
        let vocabulary = self.vocabulary();
        let first = logits.len();
        for wanted in wanted.chunks(LOGIT_ROWS) {
            let index = passing(&self.client, wanted);
            let normed = &self.scratch.normed;
            self.normalise(&hidden, &self.norm, &index, normed, wanted.len(), false);
            let words = wanted.len() * vocabulary;
            let output = Wide {
                buffer: Buffer {
                    handle: self.client.empty(words * 4),
                    words,
                },
                stride: vocabulary,
            };
            self.multiply(
                &self.head,
                normed,
                &output,
                None,
                Epilogue::Store,
                wanted.len(),
            )?;
            let bytes = self
                .client
                .read_one(output.buffer.handle)
                .map_err(|error| Failure::device(&error))?;
            self.queued.set(0);
            logits.extend_from_slice(f32::from_bytes(&bytes));
        }
        if let Some(cap) = self.config.final_softcap {
            for logit in &mut logits[first..] {
                *logit = cap * (*logit / cap).tanh();
            }
        }
        Ok(())
    }

    /// `[rows, embedding]`, scaled.
    fn embeddings(&self, rows: &[Row]) -> Result<Wide, Failure> {
        let table = tensor(&self.gguf, "token_embd.weight")?;
        let width = self.config.embedding as usize;
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
        let bits: Vec<u32> = values.into_iter().map(f32::to_bits).collect();
        Ok(Wide {
            buffer: passing(&self.client, &bits),
            stride,
        })
    }

    fn places(&self, segments: &[Segment<'_>], rows: &[Row]) -> Places {
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
        let mut angles: Vec<(Arc<[f64]>, Buffer)> = Vec::new();
        for layer in &self.attention {
            if angles
                .iter()
                .any(|(known, _)| Arc::ptr_eq(known, &layer.frequencies))
            {
                continue;
            }
            let table = |row: &Row| rotary_table(&layer.frequencies, layer.magnitude, row.position);
            let values: Vec<u32> = rows.iter().flat_map(table).map(f32::to_bits).collect();
            let table = passing(&self.client, &values);
            angles.push((Arc::clone(&layer.frequencies), table));
        }
        let mut windows: Vec<Option<u32>> = Vec::new();
        for layer in &self.attention {
            if !windows.contains(&layer.window) {
                windows.push(layer.window);
            }
        }
        let tasks = windows
            .into_iter()
            .map(|window| {
                let launches = cut(&runs, window, self.most());
                let upload = |launch| Tasks::upload(&self.client, launch);
                (window, launches.iter().map(upload).collect())
            })
            .collect();
        let order: Vec<u32> = (0..rows.len() as u32).collect();
        Places {
            rows: rows.len(),
            prompt: runs.iter().any(|run| run.rows > 1),
            order: passing(&self.client, &order),
            place: passing(&self.client, &place),
            tables: passing(&self.client, &tables),
            tasks,
            angles,
        }
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

    fn layer(
        &self,
        layer: &Layer,
        attention: &LayerAttention,
        hidden: &Wide,
        places: &Places,
    ) -> Result<(), Failure> {
        let scratch = &self.scratch;
        let rows = places.rows;
        let normed = &scratch.normed;
        self.normalise(
            hidden,
            &layer.attention_norm,
            &places.order,
            normed,
            rows,
            false,
        );
        self.multiply(
            &layer.qkv,
            normed,
            &scratch.qkv,
            None,
            Epilogue::Store,
            rows,
        )?;
        self.rotate(layer, attention, places);
        self.attend(layer, attention, places)?;
        let post = layer.post_attention_norm.as_ref();
        self.add(
            &layer.attention_out,
            &scratch.attended,
            hidden,
            post,
            places,
        )?;

        self.normalise(
            hidden,
            &layer.feed_forward_norm,
            &places.order,
            normed,
            rows,
            false,
        );
        let gate = match self.config.activation {
            Activation::Silu => Gate::Silu,
            Activation::GeluTanh => Gate::GeluTanh,
        };
        match (&layer.gate_up, &scratch.gate) {
            (GateUp::Apart(gate_rows, up), Some(gated)) => {
                self.multiply(gate_rows, normed, gated, None, Epilogue::Store, rows)?;
                let times = Epilogue::Times(gate);
                self.multiply(up, normed, &scratch.inner, Some(gated), times, rows)?;
            }
            (GateUp::Together(both) | GateUp::Apart(both, _), _) => {
                let gated = Epilogue::Gated(gate);
                self.multiply(both, normed, &scratch.inner, None, gated, rows)?;
            }
        }
        let post = layer.post_feed_forward_norm.as_ref();
        self.add(&layer.down, &scratch.inner, hidden, post, places)
    }

    /// `hidden += norm(matrix * x)`, the norm where there is one.
    fn add(
        &self,
        matrix: &Matrix,
        x: &Wide,
        hidden: &Wide,
        norm: Option<&Buffer>,
        places: &Places,
    ) -> Result<(), Failure> {
        match (norm, &self.scratch.branch) {
            (Some(norm), Some(branch)) => {
                self.multiply(matrix, x, branch, None, Epilogue::Store, places.rows)?;
                self.normalise(branch, norm, &places.order, hidden, places.rows, true);
                Ok(())
            }
            _ => self.multiply(matrix, x, hidden, None, Epilogue::Add, places.rows),
        }
    }

    fn normalise(
        &self,
        x: &Wide,
        weight: &Buffer,
        index: &Buffer,
        y: &Wide,
        rows: usize,
        add: bool,
    ) {
        let shape = norm::Shape {
            units: self.tuning.norm_units,
            planes: self.tuning.planes,
            add,
        };
        // SAFETY: `index` names rows of `x`, `y` has `rows` rows, and rows of both have the
        // weight's length.
        unsafe {
            rms_norm::launch_unchecked(
                &self.client,
                CubeCount::Static(rows as u32, 1, 1),
                CubeDim::new_1d(shape.units as u32),
                x.buffer.fours(),
                weight.fours(),
                index.words(),
                y.buffer.fours(),
                (weight.words / 4) as u32,
                self.config.embedding as f32,
                self.config.rms_epsilon,
                shape.units as u32,
                shape,
            );
        }
    }

    fn multiply(
        &self,
        matrix: &Matrix,
        x: &Wide,
        y: &Wide,
        other: Option<&Wide>,
        epilogue: Epilogue,
        columns: usize,
    ) -> Result<(), Failure> {
        for part in &matrix.parts {
            let work = part.row_tiles * TILE * part.blocks * BLOCK * columns;
            self.queue(work)?;
            launch_part(
                &self.client,
                &self.tuning,
                part,
                [
                    &x.buffer,
                    &y.buffer,
                    other.map_or(&self.nothing, |other| &other.buffer),
                ],
                &self.nothing,
                y.stride,
                epilogue,
                columns,
                self.widest.get(),
            );
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

    fn rotate(&self, layer: &Layer, attention: &LayerAttention, places: &Places) {
        let config = &self.config;
        let shape = rope::Shape {
            head_dim: config.head_dim as usize,
            rotated: config.rope_dim as usize,
            norm: layer.qk_norm.is_some(),
            half: self.profile == Profile::P16,
            units: self.tuning.attention_units,
            planes: self.tuning.planes,
        };
        let [query_norm, key_norm] = match &layer.qk_norm {
            Some([query, key]) => [query, key],
            None => [&self.nothing, &self.nothing],
        };
        let angles = places
            .angles
            .iter()
            .find(|(known, _)| Arc::ptr_eq(known, &attention.frequencies))
            .map_or(&self.nothing, |(_, angles)| angles);
        // SAFETY: the scratch buffers have the rows of a pass, and every block that a row names
        // is below the pool's; both are checked before a pass.
        unsafe {
            rope_and_store::launch_unchecked(
                &self.client,
                CubeCount::Static(places.rows as u32, config.heads + 2 * config.kv_heads, 1),
                CubeDim::new_1d(shape.units as u32),
                self.scratch.qkv.buffer.words(),
                places.place.words(),
                angles.words(),
                query_norm.words(),
                key_norm.words(),
                self.scratch.queries.buffer.words(),
                layer.keys.words(),
                layer.values.words(),
                self.scratch.qkv.stride as u32,
                self.scratch.queries.stride as u32,
                config.heads,
                config.kv_heads,
                config.attention_scale,
                config.rms_epsilon,
                shape.units as u32,
                shape,
            );
        }
    }

    fn attend(
        &self,
        layer: &Layer,
        attention: &LayerAttention,
        places: &Places,
    ) -> Result<(), Failure> {
        let config = &self.config;
        let width = (config.heads * config.head_dim) as usize;
        let tasks = places
            .tasks
            .iter()
            .find(|(window, _)| *window == attention.window)
            .map_or(&[][..], |(_, tasks)| tasks);
        for tasks in tasks {
            self.queue(2 * tasks.work * width)?;
            let shape = attention::Shape {
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
                shape,
                &Attention {
                    queries: &self.scratch.queries.buffer,
                    keys: &layer.keys,
                    values: &layer.values,
                    tables: &places.tables,
                    y: &self.scratch.attended.buffer,
                    partials: &self.scratch.partials,
                    extents: &self.scratch.extents,
                    query_stride: self.scratch.queries.stride,
                    kv_heads: config.kv_heads as usize,
                    window: attention.window.unwrap_or_default(),
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
        let rows: Vec<Row> = segments
            .iter()
            .enumerate()
            .flat_map(|(index, segment)| {
                segment
                    .tokens
                    .iter()
                    .enumerate()
                    .map(move |(at, token)| Row {
                        segment: index,
                        token: *token,
                        position: segment.start + at,
                        wanted: segment.wanted.contains(&at),
                    })
            })
            .collect();
        self.check(segments, &rows)?;
        let mut logits = Vec::new();
        for rows in rows.chunks(self.pass_rows) {
            self.pass(segments, rows, &mut logits)?;
        }
        Ok(logits)
    }
}

/// `x`, `y` and, for [`Epilogue::Times`], what it is multiplied by; the latter with `y`'s stride.
#[expect(
    clippy::too_many_arguments,
    reason = "one launch's arguments, passed on"
)]
fn launch_part(
    client: &Client,
    tuning: &Tuning,
    part: &Part,
    [x, y, other]: [&Buffer; 3],
    nothing: &Buffer,
    y_stride: usize,
    epilogue: Epilogue,
    columns: usize,
    widest: usize,
) {
    let (wide, tiles) = tuning.shape(columns, widest);
    let bias = part.bias.as_ref().unwrap_or(nothing);
    let column_cubes = columns.div_ceil(wide) as u32;
    let Some(splits) = tuning.splits else {
        let shape = serial::Shape {
            kind: part.kind,
            columns: wide,
        };
        // Enough cubes for a few cores, each with enough tiles to pay for copying the columns.
        let tiles = (part.row_tiles / tuning.cubes)
            .clamp(8, tiles)
            .next_multiple_of(2);
        // SAFETY: as below.
        unsafe {
            serial_matmul::launch_unchecked(
                client,
                CubeCount::Static(part.row_tiles.div_ceil(tiles) as u32, column_cubes, 1),
                CubeDim::new_1d(TILE as u32),
                part.quants.fours(),
                part.side.words(),
                x.fours(),
                other.words(),
                bias.words(),
                y.words(),
                part.blocks as u32,
                part.rows as u32,
                part.row_tiles as u32,
                tiles as u32,
                columns as u32,
                (serial::group(wide) * 8) as u32,
                part.high_at as u32,
                part.supers_at as u32,
                y_stride as u32,
                part.at as u32,
                serial::code(epilogue),
                u32::from(part.bias.is_some()),
                shape,
            );
        }
        return;
    };
    if tuning.shared_from.is_some_and(|least| columns >= least) {
        let shape = gemm::Shape {
            kind: part.kind,
            epilogue,
            bias: part.bias.is_some(),
            splits,
        };
        // SAFETY: as below.
        unsafe {
            shared_matmul::launch_unchecked(
                client,
                CubeCount::Static(
                    part.row_tiles.div_ceil(gemm::TILES) as u32,
                    columns.div_ceil(gemm::COLUMNS) as u32,
                    1,
                ),
                CubeDim::new_2d(gemm::UNITS.0, gemm::UNITS.1),
                part.quants.fours(),
                part.side.words(),
                x.fours(),
                other.words(),
                bias.words(),
                y.words(),
                part.blocks as u32,
                part.rows as u32,
                part.row_tiles as u32,
                columns as u32,
                (8 / pack::halves(part.kind)) as u32,
                part.high_at as u32,
                part.supers_at as u32,
                y_stride as u32,
                part.at as u32,
                shape,
            );
        }
        return;
    }
    let shape = matmul::Shape {
        kind: part.kind,
        epilogue,
        bias: part.bias.is_some(),
        tiles,
        columns: wide,
        splits,
    };
    // SAFETY: the planes have the part's tiles and blocks, `x` `columns` rows of as many blocks,
    // and `y` rows of `y_stride` values that hold the part's; units over the edge store nothing.
    unsafe {
        tiled_matmul::launch_unchecked(
            client,
            CubeCount::Static(part.row_tiles.div_ceil(tiles) as u32, column_cubes, 1),
            CubeDim::new_2d(TILE as u32, splits as u32),
            part.quants.fours(),
            part.side.words(),
            x.fours(),
            other.words(),
            bias.words(),
            y.words(),
            part.blocks as u32,
            part.rows as u32,
            part.row_tiles as u32,
            columns as u32,
            part.high_at as u32,
            part.supers_at as u32,
            y_stride as u32,
            part.at as u32,
            shape,
        );
    }
}

/// What attention works on, on the device.
struct Attention<'a> {
    queries: &'a Buffer,
    keys: &'a Buffer,
    values: &'a Buffer,
    tables: &'a Buffer,
    y: &'a Buffer,
    partials: &'a Buffer,
    extents: &'a Buffer,
    /// Of queries and of `y`.
    query_stride: usize,
    kv_heads: usize,
    window: u32,
    softcap: f32,
}

/// The tasks name rows that there are, the tables blocks that there are, and there is room for as
/// many partial results as there are tasks to be merged.
fn launch_attention(client: &Client, shape: attention::Shape, on: &Attention<'_>, tasks: &Tasks) {
    let heads = on.kv_heads * shape.group;
    // SAFETY: the caller's promise.
    unsafe {
        grouped_attention::launch_unchecked(
            client,
            CubeCount::Static(tasks.cubes as u32, on.kv_heads as u32, 1),
            CubeDim::new_1d(shape.units as u32),
            on.queries.fours(),
            on.keys.fours(),
            on.values.fours(),
            tasks.list.words(),
            on.tables.words(),
            on.y.fours(),
            on.partials.fours(),
            on.extents.words(),
            (on.query_stride / 4) as u32,
            on.kv_heads as u32,
            on.window,
            on.softcap,
            shape.pieces() as u32,
            shape.units as u32,
            shape,
        );
    }
    let Some(merges) = &tasks.merges else {
        return;
    };
    // SAFETY: the caller's promise.
    unsafe {
        merge_chunks::launch_unchecked(
            client,
            CubeCount::Static((merges.words / 3) as u32, heads as u32, 1),
            CubeDim::new_1d(shape.units as u32),
            on.partials.fours(),
            on.extents.words(),
            merges.words(),
            on.y.fours(),
            (on.query_stride / 4) as u32,
            heads as u32,
            (shape.head_dim / 4) as u32,
            shape.units,
        );
    }
}

/// One token of a pass.
struct Row {
    segment: usize,
    token: u32,
    position: usize,
    wanted: bool,
}

/// Where the rows of a pass are, on the device.
struct Places {
    rows: usize,
    /// A sequence has several rows.
    prompt: bool,
    /// `0..rows`.
    order: Buffer,
    place: Buffer,
    tables: Buffer,
    /// For layers of each window.
    tasks: Vec<(Option<u32>, Vec<Tasks>)>,
    /// For each set of frequencies.
    angles: Vec<(Arc<[f64]>, Buffer)>,
}

/// A [`Launch`] on the device.
struct Tasks {
    cubes: usize,
    rows: usize,
    work: usize,
    list: Buffer,
    merges: Option<Buffer>,
}

impl Tasks {
    fn upload(client: &Client, launch: &Launch) -> Self {
        Self {
            cubes: launch.cubes(),
            rows: launch.rows,
            work: launch.work,
            list: passing(client, &launch.tasks),
            merges: (!launch.merges.is_empty()).then(|| passing(client, &launch.merges)),
        }
    }
}

struct Loader<'a> {
    client: &'a Client,
    gguf: &'a Gguf,
    config: &'a Config,
    max_binding_bytes: u64,
    blocks: usize,
    profile: Profile,
    context: usize,
}

type Loaded = (Vec<Layer>, Buffer, Matrix, Scratch);

impl Loader<'_> {
    fn load(&self, pass_rows: usize, progress: &mut dyn FnMut(u64)) -> Result<Loaded, Failure> {
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
    fn weight_bytes(&self) -> u64 {
        let gate_up = match &self.gate_up {
            GateUp::Together(both) => both.bytes(),
            GateUp::Apart(gate, up) => gate.bytes() + up.bytes(),
        };
        self.qkv.bytes() + self.attention_out.bytes() + gate_up + self.down.bytes()
    }
}

impl Scratch {
    fn new(client: &Client, config: &Config, context: usize, rows: usize, apart: bool) -> Self {
        let [embedding, attended, qkv, inner] = widths(config);
        let wide = |width| Wide::new(client, rows, width);
        let chunks = chunks(context);
        Self {
            partials: zeros(client, chunks * attended),
            extents: zeros(client, chunks * config.heads as usize * 2),
            chunks,
            normed: wide(embedding),
            qkv: wide(qkv),
            queries: wide(attended),
            attended: wide(attended),
            inner: wide(inner),
            gate: apart.then(|| wide(inner)),
            branch: config.post_norms.then(|| wide(embedding)),
        }
    }
}

/// Of the residual stream, of attention's result, of query, key and value together, and of the
/// feed-forward layer.
fn widths(config: &Config) -> [usize; 4] {
    [
        config.embedding,
        config.heads * config.head_dim,
        (config.heads + 2 * config.kv_heads) * config.head_dim,
        config.feed_forward,
    ]
    .map(|width| width as usize)
}

/// So many that no one product is a longer submission than others may be.
fn pass_rows(config: &Config) -> usize {
    let widest = 2 * config.embedding as usize * config.feed_forward as usize;
    (SUBMISSION / widest).clamp(64, PASS_ROWS)
}

/// Chunks of attention that there is room for.
fn chunks(context: usize) -> usize {
    CHUNKS.max(context.div_ceil(CHUNK))
}

/// Bytes of the activations of one pass.
pub(crate) fn working_bytes(config: &Config, context: usize) -> u64 {
    let [embedding, attended, qkv, inner] = widths(config);
    let row = 2 * embedding + 2 * attended + qkv + 2 * inner;
    let logits = LOGIT_ROWS * config.vocabulary as usize;
    let partials = chunks(context) * (attended + 2 * config.heads as usize);
    ((row * pass_rows(config) + logits + partials) * size_of::<f32>()) as u64
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
