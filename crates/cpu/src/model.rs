//! The forward pass of the decoder-only families.

use std::num::NonZero;
use std::ops::Range;
use std::sync::Arc;
use std::thread;

use half::f16;
use infera_model::gguf::Gguf;
use infera_model::layout;
use infera_model::quant::dequantize;
use infera_model::{Activation, Config, ModelError};
use infera_protocol::Profile;

use crate::BLOCK_TOKENS;
use crate::attention::{self, Finish, Join, KvBlockShape, Rows};
use crate::math::{Gate, RmsNorm, SoftCap};
use crate::matrix::{Columns, MAX_SLABS, Matrix, Scratch};
use crate::pool::Pool;
use crate::rope::Rotation;
use crate::simd::{InstructionSet, LANES, Stored};
use crate::weights::{Layer, Linear, Weights};
use crate::zeroed::{Memory, Shared};

/// Part of one sequence that goes through the model in this pass.
#[derive(Debug, Clone)]
pub struct Segment<'a> {
    pub tokens: &'a [u32],
    /// Position of the first of them.
    pub start: usize,
    /// The sequence's KV blocks in order: position `p` lives in block `blocks[p / BLOCK_TOKENS]`,
    /// at `p % BLOCK_TOKENS`. Covers `start + tokens.len()`. Blocks before `start` may be shared
    /// with other sequences: they are only read.
    pub blocks: &'a [u32],
    /// Those of `tokens` after which logits are wanted.
    pub wanted: Range<usize>,
}

/// A model in memory, with its KV cache.
pub struct CpuModel {
    gguf: Arc<Gguf>,
    config: Config,
    profile: Profile,
    context: usize,
    blocks: usize,
    set: InstructionSet,
    /// A table that stays in the file: a pass needs only a few of its rows.
    embedding: layout::Matrix,
    weights: Weights,
    /// For each layer its window, and which of the rotations is its.
    attention: Vec<(Option<usize>, usize)>,
    rotations: Vec<Rotation>,
    kv_shape: KvBlockShape,
    kv: Memory,
    pool: Pool,
    threads: Vec<Thread>,
    rows: Activations,
}

/// What one thread works with.
struct Thread {
    scratch: Scratch,
    products: Vec<f32>,
    more_products: Vec<f32>,
    queries: Vec<f32>,
    positions: Vec<usize>,
    weights: Vec<f32>,
    states: Vec<f32>,
    next_states: Vec<f32>,
}

/// Activations of one pass, a row for each token.
#[derive(Default)]
struct Activations {
    capacity: usize,
    hidden: Rectangle,
    normed: Rectangle,
    queries: Rectangle,
    keys: Rectangle,
    values: Rectangle,
    attended: Rectangle,
    inner: Rectangle,
    projected: Rectangle,
    /// States of attention's parts.
    states: Vec<f32>,
}

/// Rows of activations. Behind each come zeros, up to a whole group of a matrix's inputs.
#[derive(Default)]
struct Rectangle {
    values: Vec<f32>,
    width: usize,
    stride: usize,
}

impl Rectangle {
    fn new(rows: usize, width: usize) -> Self {
        // Rows whose distance is a power of two would meet in the same cache lines.
        let stride = width.next_multiple_of(32) + LANES;
        Self {
            values: vec![0.0; rows * stride],
            width,
            stride,
        }
    }

    fn columns(&self, count: usize) -> Columns {
        Columns {
            start: self.values.as_ptr(),
            stride: self.stride,
            count,
        }
    }

    fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.stride..][..self.width]
    }

    fn shared(&mut self) -> Output {
        Output {
            start: Shared::new(&mut self.values),
            stride: self.stride,
        }
    }
}

/// Rows that threads write side by side.
#[derive(Clone, Copy)]
struct Output {
    start: Shared<f32>,
    stride: usize,
}

impl Output {
    /// # Safety
    /// The row has the places, and no other thread uses them.
    unsafe fn part<'a>(self, row: usize, first: usize, width: usize) -> &'a mut [f32] {
        // SAFETY: The caller's promise.
        unsafe { self.start.slice(row * self.stride + first, width) }
    }
}

/// A product of a matrix and what becomes of it.
struct Product<'a> {
    matrix: &'a Matrix,
    bias: Option<&'a [f32]>,
    output: Output,
    then: Then<'a>,
}

impl<'a> Product<'a> {
    fn store(linear: &'a Linear, output: &mut Rectangle) -> Self {
        Self {
            matrix: &linear.matrix,
            bias: linear.bias.as_deref(),
            output: output.shared(),
            then: Then::Store,
        }
    }
}

#[derive(Clone, Copy)]
enum Then<'a> {
    Store,
    /// Adds it to the output.
    Add,
    /// Takes it through the activation and multiplies it with a second matrix's product.
    Gate(Activation, &'a Matrix),
}

/// One token's place.
#[derive(Clone, Copy)]
struct Place {
    segment: usize,
    position: usize,
}

/// A thread's share of attention: some of a segment's tokens and one KV head.
struct Share {
    segment: usize,
    kv_head: usize,
    /// Some of the pass's rows.
    rows: Range<usize>,
    chunks: Range<usize>,
    /// Where its states go, when another share has more of the chunks.
    states: Option<usize>,
}

/// Bytes of one KV block of a model.
pub fn block_bytes(config: &Config, profile: Profile) -> u64 {
    let value = match profile {
        Profile::P32 => size_of::<f32>(),
        Profile::P16 => size_of::<f16>(),
    };
    (kv_shape(config).block_values() * value) as u64
}

fn kv_shape(config: &Config) -> KvBlockShape {
    KvBlockShape {
        layers: config.layers as usize,
        kv_heads: config.kv_heads as usize,
        head_dim: config.head_dim as usize,
    }
}

impl CpuModel {
    /// Packs the weights of a file, whose configuration is `config`, and makes room for `blocks`
    /// KV blocks. The context is the model's own or `context`, whichever is less; `progress` gets
    /// the bytes of the file that are done. Works with as many threads as the process may use and
    /// the best instruction set of the processor.
    pub fn load(
        gguf: Arc<Gguf>,
        config: Config,
        profile: Profile,
        context: usize,
        blocks: usize,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, ModelError> {
        let kv_shape = kv_shape(&config);
        let kv_bytes = block_bytes(&config, profile).saturating_mul(blocks as u64);
        let kv = Memory::zeroed(kv_bytes, "KV cache", gguf.file())?;
        let threads = thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
        let mut pool = Pool::new(threads);
        let tensors = config.layout();
        tensors.embedding.view(&gguf)?;
        let weights = Weights::load(&gguf, &tensors, &mut pool, progress)?;
        let mut rotations: Vec<Rotation> = Vec::new();
        let layers = config.attention(&gguf)?;
        let attention = layers.into_iter().map(|layer| {
            let known = |rotation: &Rotation| rotation.is(&layer.frequencies, layer.magnitude);
            let rotation = rotations.iter().position(known).unwrap_or_else(|| {
                rotations.push(Rotation::new(layer.frequencies.clone(), layer.magnitude));
                rotations.len() - 1
            });
            (layer.window.map(|window| window as usize), rotation)
        });
        let attention = attention.collect();
        let threads = (0..pool.threads()).map(|_| Thread::new()).collect();
        Ok(Self {
            context: context.min(config.context as usize),
            gguf,
            config,
            profile,
            blocks,
            set: InstructionSet::available()[0],
            embedding: tensors.embedding,
            weights,
            attention,
            rotations,
            kv_shape,
            kv,
            pool,
            threads,
            rows: Activations::default(),
        })
    }

    /// Works with so many threads from now on.
    pub fn set_threads(&mut self, threads: NonZero<usize>) {
        self.pool = Pool::new(threads);
        self.threads = (0..self.pool.threads()).map(|_| Thread::new()).collect();
    }

    /// Works with this instruction set from now on.
    pub fn set_instruction_set(&mut self, set: InstructionSet) {
        self.set = set;
    }

    /// The name of the instruction set in use.
    pub fn instruction_set(&self) -> &'static str {
        self.set.name()
    }

    /// What errors call it.
    pub fn name(&self) -> &str {
        self.gguf.name()
    }

    pub fn vocabulary(&self) -> usize {
        self.config.vocabulary as usize
    }

    /// In tokens.
    pub fn context(&self) -> usize {
        self.context
    }

    /// How many KV blocks there are.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    pub fn block_bytes(&self) -> u64 {
        block_bytes(&self.config, self.profile)
    }

    /// Bytes of packed weights.
    pub fn weight_bytes(&self) -> u64 {
        self.weights.packed.len() as u64
    }

    /// One pass; gives the logits `[wanted rows, vocabulary]`, segments in order. Segments belong
    /// to different sequences.
    ///
    /// # Panics
    /// When a token is not of the vocabulary, or a segment's blocks do not exist or do not cover
    /// its tokens.
    pub fn forward(&mut self, segments: &[Segment<'_>]) -> Vec<f32> {
        let places = self.prepare(segments);
        let wanted: usize = segments.iter().map(|segment| segment.wanted.len()).sum();
        let mut rows = places.len();
        self.embed(segments);
        for index in 0..self.weights.layers.len() {
            self.keys_and_values(index, segments, &places);
            // Nothing more is ever read of the last layer's other rows.
            if index + 1 == self.weights.layers.len() {
                rows = wanted;
            }
            if rows == 0 {
                break;
            }
            match self.profile {
                Profile::P32 => self.attend::<f32>(index, segments, &places),
                Profile::P16 => self.attend::<f16>(index, segments, &places),
            }
            if rows < places.len() {
                self.keep_wanted(segments);
            }
            self.feed_forward(index, rows);
        }
        self.logits(rows)
    }

    /// Moves the wanted rows of the residual stream and of attention's result to the front.
    fn keep_wanted(&mut self, segments: &[Segment<'_>]) {
        let (mut first, mut kept) = (0, 0);
        for segment in segments {
            for token in segment.wanted.clone() {
                for rows in [&mut self.rows.hidden, &mut self.rows.attended] {
                    let from = (first + token) * rows.stride;
                    let row = from..from + rows.width;
                    rows.values.copy_within(row, kept * rows.stride);
                }
                kept += 1;
            }
            first += segment.tokens.len();
        }
    }

    fn prepare(&mut self, segments: &[Segment<'_>]) -> Vec<Place> {
        let mut places = Vec::new();
        for (index, segment) in segments.iter().enumerate() {
            let end = segment.start + segment.tokens.len();
            assert!(
                end <= segment.blocks.len() * BLOCK_TOKENS
                    && segment
                        .blocks
                        .iter()
                        .all(|block| (*block as usize) < self.blocks),
                "the blocks of segment {index} do not exist or do not cover it"
            );
            assert!(
                segment.wanted.end <= segment.tokens.len(),
                "only given tokens have logits"
            );
            for rotation in &mut self.rotations {
                rotation.prepare(segment.start, end);
            }
            places.extend((segment.start..end).map(|position| Place {
                segment: index,
                position,
            }));
        }
        if places.len() > self.rows.capacity {
            self.rows = Activations::new(&self.config, places.len());
        }
        places
    }

    fn embed(&mut self, segments: &[Segment<'_>]) {
        let width = self.config.embedding as usize;
        let table = self.embedding.view(&self.gguf);
        let table = table.expect("its shape was checked when the model was loaded");
        let kind = table.info.kind;
        let row_bytes = width / kind.block_values() * kind.block_bytes();
        let tokens = segments.iter().flat_map(|segment| segment.tokens);
        let hidden = &mut self.rows.hidden;
        for (token, row) in tokens.zip(hidden.values.chunks_mut(hidden.stride)) {
            let bytes = &table.bytes[*token as usize * row_bytes..][..row_bytes];
            dequantize(kind, bytes, &mut row[..width]).expect("a row is whole blocks");
            for value in &mut row[..width] {
                *value *= self.config.embedding_scale;
            }
        }
    }

    fn keys_and_values(&mut self, index: usize, segments: &[Segment<'_>], places: &[Place]) {
        let rows = places.len();
        self.norm(rows, |weights| &weights.layers[index].attention_norm);
        let layer = &self.weights.layers[index];
        let Activations {
            normed,
            queries,
            keys,
            values,
            ..
        } = &mut self.rows;
        let products = [
            Product::store(&layer.query, queries),
            Product::store(&layer.key, keys),
            Product::store(&layer.value, values),
        ];
        let input = normed.columns(rows);
        multiply(
            self.set,
            &self.weights.packed,
            &mut self.pool,
            &mut self.threads,
            input,
            &products,
        );
        match self.profile {
            Profile::P32 => self.rotate_and_cache::<f32>(index, segments, places),
            Profile::P16 => self.rotate_and_cache::<f16>(index, segments, places),
        }
    }

    /// What attention's result and the feed-forward layer add to the residual stream.
    fn feed_forward(&mut self, index: usize, rows: usize) {
        let layer = &self.weights.layers[index];
        self.project(
            rows,
            layer.attention_out,
            |rows| &rows.attended,
            |layers| layers[index].attention_post_norm.as_deref(),
        );
        self.norm(rows, |weights| &weights.layers[index].feed_forward_norm);
        let layer = &self.weights.layers[index];
        let product = Product {
            matrix: &layer.gate,
            bias: None,
            output: self.rows.inner.shared(),
            then: Then::Gate(self.config.activation, &layer.up),
        };
        multiply(
            self.set,
            &self.weights.packed,
            &mut self.pool,
            &mut self.threads,
            self.rows.normed.columns(rows),
            &[product],
        );
        let down = layer.down;
        self.project(
            rows,
            down,
            |rows| &rows.inner,
            |layers| layers[index].feed_forward_post_norm.as_deref(),
        );
    }

    /// Adds the matrix's product, normed where there is a norm, to the hidden rows.
    fn project(
        &mut self,
        rows: usize,
        matrix: Matrix,
        input: impl Fn(&Activations) -> &Rectangle,
        norm: impl Fn(&[Layer]) -> Option<&[f32]>,
    ) {
        let columns = input(&self.rows).columns(rows);
        let norm = norm(&self.weights.layers);
        let (output, then) = match norm {
            Some(_) => (self.rows.projected.shared(), Then::Store),
            None => (self.rows.hidden.shared(), Then::Add),
        };
        let product = Product {
            matrix: &matrix,
            bias: None,
            output,
            then,
        };
        multiply(
            self.set,
            &self.weights.packed,
            &mut self.pool,
            &mut self.threads,
            columns,
            &[product],
        );
        if let Some(norm) = norm {
            let (set, epsilon) = (self.set, self.config.rms_epsilon);
            let hidden = self.rows.hidden.shared();
            let projected = self.rows.projected.shared();
            let width = self.rows.hidden.width;
            self.pool.run(rows.div_ceil(ROWS), &|_, item| {
                for row in rows_of(item, rows) {
                    // SAFETY: No other item has this row.
                    let (hidden, projected) =
                        unsafe { (hidden.part(row, 0, width), projected.part(row, 0, width)) };
                    normalise(set, projected, norm, epsilon);
                    for (hidden, value) in hidden.iter_mut().zip(projected) {
                        *hidden += *value;
                    }
                }
            });
        }
    }

    /// Norms the hidden rows.
    fn norm(&mut self, rows: usize, weights: impl Fn(&Weights) -> &[f32]) {
        let weights = weights(&self.weights);
        let (set, epsilon) = (self.set, self.config.rms_epsilon);
        let normed = self.rows.normed.shared();
        let hidden = &self.rows.hidden;
        self.pool.run(rows.div_ceil(ROWS), &|_, item| {
            for row in rows_of(item, rows) {
                set.run(RmsNorm {
                    values: hidden.row(row),
                    weights,
                    epsilon,
                    // SAFETY: No other item has this row.
                    output: unsafe { normed.part(row, 0, hidden.width) },
                });
            }
        });
    }

    /// Queries and keys go through their norms and are rotated, queries are scaled, keys and
    /// values go to the cache.
    fn rotate_and_cache<V: Stored>(
        &mut self,
        index: usize,
        segments: &[Segment<'_>],
        places: &[Place],
    ) {
        let layer = &self.weights.layers[index];
        let rotation = &self.rotations[self.attention[index].1];
        let shape = self.kv_shape;
        let (set, epsilon) = (self.set, self.config.rms_epsilon);
        let scale = self.config.attention_scale;
        let (width, kv_width) = (self.rows.queries.width, self.rows.keys.width);
        let queries = self.rows.queries.shared();
        let keys = self.rows.keys.shared();
        let values = &self.rows.values;
        let kv = Shared::<V>::from_ptr(self.kv.as_mut_ptr().cast());
        let turn = |heads: &mut [f32], norm: Option<&[f32]>, position| {
            for head in heads.chunks_exact_mut(shape.head_dim) {
                if let Some(norm) = norm {
                    normalise(set, head, norm, epsilon);
                }
                rotation.rotate(head, position);
            }
        };
        self.pool.run(places.len().div_ceil(ROWS), &|_, item| {
            for row in rows_of(item, places.len()) {
                let Place { segment, position } = places[row];
                // SAFETY: No other item has this row.
                let (queries, keys) =
                    unsafe { (queries.part(row, 0, width), keys.part(row, 0, kv_width)) };
                turn(queries, layer.query_norm.as_deref(), position);
                turn(keys, layer.key_norm.as_deref(), position);
                for query in queries {
                    *query *= scale;
                }
                let block = segments[segment].blocks[position / BLOCK_TOKENS];
                let heads = keys.chunks_exact(shape.head_dim);
                let heads = heads.zip(values.row(row).chunks_exact(shape.head_dim));
                for (kv_head, (key, value)) in heads.enumerate() {
                    let place = (block, index, kv_head);
                    // SAFETY: The block exists, and no other row has this position of it.
                    unsafe { shape.write(kv.ptr(), place, position % BLOCK_TOKENS, key, value) };
                }
            }
        });
    }

    fn attend<V: Stored>(&mut self, index: usize, segments: &[Segment<'_>], places: &[Place]) {
        let set = self.set;
        let shape = self.kv_shape;
        let group = self.config.heads as usize / shape.kv_heads;
        let state_floats = shape.state_floats();
        let (window, _) = self.attention[index];
        let soft_cap = self.config.attention_softcap;
        let (shares, parts) = shares(segments, &shape, group, window);
        let part_floats = group * state_floats;
        if self.rows.states.len() < parts * part_floats {
            self.rows.states.resize(parts * part_floats, 0.0);
        }
        let states = Shared::new(&mut self.rows.states);
        let threads = Shared::new(&mut self.threads);
        let attended = self.rows.attended.shared();
        let queries = &self.rows.queries;
        let kv = Shared::<V>::from_ptr(self.kv.as_mut_ptr().cast());
        let finish = |row: usize, head: usize, state: &[f32]| {
            let first = head * shape.head_dim;
            // SAFETY: No other share has this row and head.
            let output = unsafe { attended.part(row, first, shape.head_dim) };
            set.run(Finish { state, output });
        };
        self.pool.run(shares.len(), &|thread, item| {
            let share = &shares[item];
            // SAFETY: Each thread has its own.
            let thread = unsafe { &mut threads.slice(thread, 1)[0] };
            thread.queries.clear();
            thread.positions.clear();
            for row in share.rows.clone() {
                let heads = share.kv_head * group * shape.head_dim;
                let heads = &queries.row(row)[heads..][..group * shape.head_dim];
                thread.queries.extend_from_slice(heads);
                let position = places[row].position;
                thread
                    .positions
                    .extend(std::iter::repeat_n(position, group));
            }
            let rows = Rows {
                queries: &thread.queries,
                positions: &thread.positions,
                blocks: segments[share.segment].blocks,
                layer: index,
                kv_head: share.kv_head,
                window,
                soft_cap,
            };
            let floats = thread.positions.len() * state_floats;
            for chunk in share.chunks.clone() {
                let first = chunk == share.chunks.start;
                let states = if first {
                    &mut thread.states
                } else {
                    &mut thread.next_states
                };
                states.resize(floats, 0.0);
                // SAFETY: The blocks exist, and positions are written before and after only.
                unsafe {
                    let kv = kv.ptr();
                    attention::attend(set, &shape, kv, &rows, chunk, &mut thread.weights, states);
                }
                if !first {
                    set.run(Join {
                        states: &mut thread.states,
                        next: &thread.next_states,
                        state_floats,
                    });
                }
            }
            if let Some(part) = share.states {
                // SAFETY: No other share has this part.
                let part = unsafe { states.slice(part * part_floats, part_floats) };
                part.copy_from_slice(&thread.states);
                return;
            }
            let rows = share
                .rows
                .clone()
                .flat_map(|row| (0..group).map(move |head| (row, head)));
            for ((row, head), state) in rows.zip(thread.states.chunks_exact(state_floats)) {
                finish(row, share.kv_head * group + head, state);
            }
        });
        let mut joined = 0;
        for (item, share) in shares.iter().enumerate() {
            let Some(part) = share.states else { continue };
            let last = shares
                .get(item + 1)
                .is_none_or(|next| (next.segment, next.kv_head) != (share.segment, share.kv_head));
            let (before, from) = self.rows.states.split_at_mut(part * part_floats);
            if joined > 0 {
                set.run(Join {
                    states: &mut before[(part - joined) * part_floats..][..part_floats],
                    next: &from[..part_floats],
                    state_floats,
                });
            }
            joined += 1;
            if last {
                let states = &self.rows.states[(part + 1 - joined) * part_floats..];
                for (head, state) in states.chunks_exact(state_floats).take(group).enumerate() {
                    finish(share.rows.start, share.kv_head * group + head, state);
                }
                joined = 0;
            }
        }
    }

    /// For the first rows of the residual stream.
    fn logits(&mut self, rows: usize) -> Vec<f32> {
        let vocabulary = self.vocabulary();
        let mut logits = vec![0.0; rows * vocabulary];
        if rows == 0 {
            return logits;
        }
        self.norm(rows, |weights| &weights.norm);
        let product = Product {
            matrix: &self.weights.head,
            bias: None,
            output: Output {
                start: Shared::new(&mut logits),
                stride: vocabulary,
            },
            then: Then::Store,
        };
        multiply(
            self.set,
            &self.weights.packed,
            &mut self.pool,
            &mut self.threads,
            self.rows.normed.columns(rows),
            &[product],
        );
        if let Some(cap) = self.config.final_softcap {
            for values in logits.chunks_mut(vocabulary) {
                self.set.run(SoftCap { values, cap });
            }
        }
        logits
    }
}

impl Thread {
    fn new() -> Self {
        Self {
            scratch: Scratch::new(),
            products: Vec::new(),
            more_products: Vec::new(),
            queries: Vec::new(),
            positions: Vec::new(),
            weights: Vec::new(),
            states: Vec::new(),
            next_states: Vec::new(),
        }
    }
}

impl Activations {
    fn new(config: &Config, rows: usize) -> Self {
        let wide = config.embedding as usize;
        let query = (config.heads * config.head_dim) as usize;
        let key = (config.kv_heads * config.head_dim) as usize;
        let rectangle = |width| Rectangle::new(rows, width);
        Self {
            capacity: rows,
            hidden: rectangle(wide),
            normed: rectangle(wide),
            queries: rectangle(query),
            keys: rectangle(key),
            values: rectangle(key),
            attended: rectangle(query),
            inner: rectangle(config.feed_forward as usize),
            projected: if config.post_norms {
                rectangle(wide)
            } else {
                Rectangle::default()
            },
            states: Vec::new(),
        }
    }
}

/// Rows that a thread takes at once where little is done with each.
const ROWS: usize = 8;

fn rows_of(item: usize, rows: usize) -> Range<usize> {
    item * ROWS..rows.min((item + 1) * ROWS)
}

/// An RMS norm in place.
fn normalise(set: InstructionSet, values: &mut [f32], weights: &[f32], epsilon: f32) {
    let input = values.to_vec();
    set.run(RmsNorm {
        values: &input,
        weights,
        epsilon,
        output: values,
    });
}

/// Query rows that a thread takes at once, at least those of one token.
const QUERY_ROWS: usize = 32;

/// Shares attention out. A segment of one token is cut along its context, so that one long
/// sequence occupies all threads; a longer one along its tokens, the last first, because they see
/// most. Also gives how many shares have states to be joined.
fn shares(
    segments: &[Segment<'_>],
    shape: &KvBlockShape,
    group: usize,
    window: Option<usize>,
) -> (Vec<Share>, usize) {
    let mut shares = Vec::new();
    let (mut row, mut parts) = (0, 0);
    for (index, segment) in segments.iter().enumerate() {
        let rows = row..row + segment.tokens.len();
        row = rows.end;
        let tokens = (QUERY_ROWS / group).max(1);
        for first in rows.clone().step_by(tokens).rev() {
            let rows = first..rows.end.min(first + tokens);
            let start = segment.start + first - (row - segment.tokens.len());
            let chunks = chunks(start..start + rows.len(), window);
            for kv_head in 0..shape.kv_heads {
                let mut share = |chunks: Range<usize>, states| {
                    shares.push(Share {
                        segment: index,
                        kv_head,
                        rows: rows.clone(),
                        chunks,
                        states,
                    });
                };
                if segment.tokens.len() == 1 && chunks.len() > 1 {
                    for chunk in chunks.clone() {
                        share(chunk..chunk + 1, Some(parts));
                        parts += 1;
                    }
                } else {
                    share(chunks.clone(), None);
                }
            }
        }
    }
    (shares, parts)
}

/// The chunks of the cache that queries at `positions` see.
fn chunks(positions: Range<usize>, window: Option<usize>) -> Range<usize> {
    const POSITIONS: usize = attention::CHUNK * BLOCK_TOKENS;
    let first = window.map_or(0, |window| (positions.start + 1).saturating_sub(window));
    first / POSITIONS..positions.end.div_ceil(POSITIONS)
}

/// Multiplies the columns with each product's matrix.
fn multiply(
    set: InstructionSet,
    weights: &Memory,
    pool: &mut Pool,
    threads: &mut [Thread],
    columns: Columns,
    products: &[Product<'_>],
) {
    for thread in threads.iter_mut() {
        let floats = columns.count * MAX_SLABS * LANES;
        if thread.products.len() < floats {
            thread.products.resize(floats, 0.0);
            thread.more_products.resize(floats, 0.0);
        }
    }
    let items = |product: &Product<'_>| {
        let at_once = product.matrix.slabs_at_once(columns.count);
        product.matrix.slabs().div_ceil(at_once)
    };
    let total = products.iter().map(items).sum();
    let weights = Shared::from_ptr(weights.as_ptr().cast_mut());
    let threads = Shared::new(threads);
    pool.run(total, &|thread, mut item| {
        let mut products = products.iter();
        let product = loop {
            let product = products.next().expect("the item is one of a product");
            match item.checked_sub(items(product)) {
                Some(rest) => item = rest,
                None => break product,
            }
        };
        // SAFETY: Each thread has its own.
        let thread = unsafe { &mut threads.slice(thread, 1)[0] };
        let matrix = product.matrix;
        let at_once = matrix.slabs_at_once(columns.count);
        let first = item * at_once;
        let slabs = at_once.min(matrix.slabs() - first);
        let width = slabs * LANES;
        let (scratch, results) = (&mut thread.scratch, &mut thread.products);
        let results = &mut results[..columns.count * width];
        // SAFETY: The columns are as wide as the matrix and end in zeros; the slabs are its own.
        unsafe {
            let slabs = (first, slabs);
            matrix.multiply(set, weights.ptr(), slabs, columns, scratch, results);
            if let Then::Gate(activation, second) = product.then {
                let values = &mut thread.more_products[..columns.count * width];
                second.multiply(set, weights.ptr(), slabs, columns, scratch, values);
                set.run(Gate {
                    activation,
                    gates: results,
                    values,
                });
            }
        }
        let rows = first * LANES..matrix.rows.min(first * LANES + width);
        for (column, results) in results.chunks_exact(width).enumerate() {
            // SAFETY: No other item has these rows.
            let output = unsafe { product.output.part(column, rows.start, rows.len()) };
            match product.then {
                Then::Add => output
                    .iter_mut()
                    .zip(results)
                    .for_each(|(to, from)| *to += from),
                Then::Store | Then::Gate(..) => output.copy_from_slice(&results[..rows.len()]),
            }
            if let Some(bias) = product.bias {
                let bias = &bias[rows.clone()];
                output
                    .iter_mut()
                    .zip(bias)
                    .for_each(|(to, from)| *to += from);
            }
        }
    });
}
