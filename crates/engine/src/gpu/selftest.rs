//! Every kernel on a device against f64 on the CPU, over odd sizes and all buckets.

mod reference;

use cubecl::client::Client;
use cubecl::device::{Device, WgpuDevice};
use cubecl::prelude::*;
use half::f16;
use infera_model::quant::{TensorType, dequantize};
use infera_protocol::Profile;

use self::reference::{activated, attended, halves, key_at, rms_factor, rounded, turned};
use super::buffers::{Buffer, Part, alignment, kept, passing, zeros};
use super::cut::{Launch, Most, Run, cut};
use super::inputs::Packer;
use super::launch::{
    Attention, Cache, Norm, Product, Queries, Rope, launch_attention, launch_best_blocks,
    launch_gather, launch_norm, launch_part, launch_rope,
};
use super::tune::{fragment, has_planes};
use super::{Options, Tuning, no_gpu};
use crate::device::Opened;
use crate::kernels::attention;
use crate::kernels::cooperative::Fragment;
use crate::kernels::gemm::COLUMNS;
use crate::kernels::matmul::{Epilogue, Gate};
use crate::kernels::pack::{BLOCK, Layout, TILE};
use crate::kernels::rope;
use crate::kernels::select;
use crate::message::Failure;

/// The largest normalised mean square error that passes.
pub const LIMIT: f64 = 1e-6;

/// One kernel in one shape.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Check {
    pub kernel: &'static str,
    pub shape: String,
    /// The squared error's sum by the squared values' sum.
    pub nmse: f64,
    pub limit: f64,
    pub pass: bool,
}

/// Runs all kernels on a device, cut up as models are by default, for every kind of weights; where
/// there are planes, those that can use them again with planes.
pub fn on_device(opened: &Opened, progress: &mut dyn FnMut(&Check)) -> Result<Vec<Check>, Failure> {
    let device = opened.gpu.as_ref().ok_or_else(no_gpu)?;
    let mut tuning = Options::of(opened, 0, Profile::P32).tuning;
    let mut checks = selftest(device, &tuning, &TensorType::ALL, progress);
    if has_planes(&Device::Wgpu(device.clone()).client()) {
        tuning.planes = true;
        checks.extend(selftest(device, &tuning, &[], progress));
    }
    Ok(checks)
}

/// Runs all kernels on a device, cut up as `tuning` says, for these kinds of weights; `progress`
/// gets each result.
pub fn selftest(
    device: &WgpuDevice,
    tuning: &Tuning,
    kinds: &[TensorType],
    progress: &mut dyn FnMut(&Check),
) -> Vec<Check> {
    let mut bench = Bench {
        client: Device::Wgpu(device.clone()).client(),
        tuning,
        random: Random(0x9e37_79b9_7f4a_7c15),
        fragment: None,
        checks: Vec::new(),
        progress,
    };
    for kind in kinds {
        for index in 0..tuning.shapes.len() {
            bench.product(*kind, Epilogue::Store, true, false, tuning.shapes[index].0);
        }
        if let Some(columns) = tuning.shared_from {
            bench.product(
                *kind,
                Epilogue::Store,
                true,
                false,
                columns.max(COLUMNS + 3),
            );
        }
        // Neither a whole bucket nor the first.
        bench.product(*kind, Epilogue::Store, true, false, tuning.shapes[0].0 + 6);
    }
    for kind in [TensorType::Q4K, TensorType::F16] {
        let few = tuning.shapes.iter().map(|(columns, _)| *columns);
        for columns in few.filter(|columns| tuning.normalises(*columns, usize::MAX, 768)) {
            bench.product(kind, Epilogue::Store, false, true, columns);
        }
    }
    if let Some(kind) = kinds.first() {
        for epilogue in [
            Epilogue::Add,
            Epilogue::Gated(Gate::Silu),
            Epilogue::Gated(Gate::GeluTanh),
            Epilogue::Times(Gate::Silu),
        ] {
            bench.product(*kind, epilogue, false, false, 1);
            if let Some(columns) = tuning.shared_from {
                bench.product(*kind, epilogue, false, false, columns);
            }
        }
    }
    bench.fragment = fragment(&bench.client);
    if let (Some(_), Some(least), Some(first)) = (bench.fragment, tuning.shared_from, kinds.first())
    {
        let columns = least.max(COLUMNS + 3);
        for kind in kinds {
            bench.product(*kind, Epilogue::Store, true, false, columns);
        }
        let gated = Epilogue::Gated(Gate::Silu);
        for epilogue in [Epilogue::Add, gated, Epilogue::Times(Gate::Silu)] {
            bench.product(*first, epilogue, false, false, columns);
        }
    }
    bench.best(1000, 3);
    bench.best(4421, 12);
    bench.gather();
    bench.norm(100, false);
    bench.norm(36, true);
    bench.rope(12, 12, false, Profile::P32);
    bench.rope(16, 8, true, Profile::P32);
    bench.rope(24, 24, true, Profile::P16);
    for (start, rows, window, softcap) in [
        (0, 1, None, None),
        (299, 1, None, None),
        (255, 7, None, None),
        (800, 1, Some(500), Some(3.0)),
        (30, 70, Some(17), None),
    ] {
        for profile in Profile::ALL {
            bench.attention(start, rows, window, softcap, profile);
        }
    }
    for (position, norm) in [(7, false), (300, true)] {
        for profile in Profile::ALL {
            bench.step(position, norm, profile);
        }
    }
    bench.checks
}

/// A small generator, so that every run tests the same numbers. Source: Steele et al. 2014,
/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// In -1..1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }

    fn units(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.unit()).collect()
    }

    /// Bytes of whole blocks whose scales are f16 of ordinary size, one in sixteen subnormal.
    fn weights(&mut self, kind: TensorType, blocks: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(blocks * kind.block_bytes());
        for _ in 0..blocks {
            let mut block: Vec<u8> = match kind {
                TensorType::F32 => self.unit().to_le_bytes().to_vec(),
                TensorType::F16 => self.half().to_vec(),
                TensorType::BF16 => self.unit().to_le_bytes()[2..].to_vec(),
                _ => (0..kind.block_bytes()).map(|_| self.next() as u8).collect(),
            };
            let scales: &[usize] = match kind {
                TensorType::Q4_0 | TensorType::Q5_0 | TensorType::Q8_0 => &[0],
                TensorType::Q4_1 | TensorType::Q5_1 | TensorType::Q4K | TensorType::Q5K => &[0, 2],
                TensorType::Q6K => &[208],
                TensorType::F32 | TensorType::F16 | TensorType::BF16 => &[],
            };
            for at in scales {
                block[*at..at + 2].copy_from_slice(&self.half());
            }
            bytes.extend(block);
        }
        bytes
    }

    /// An f16 between 2^-6 and 1, of either sign, or a subnormal one.
    fn half(&mut self) -> [u8; 2] {
        let bits = self.next();
        let exponent = if bits.is_multiple_of(16) {
            0
        } else {
            9 + (bits >> 8) % 6
        };
        let sign = (bits >> 16 & 1) << 15;
        ((sign | exponent << 10 | bits >> 32 & 0x3ff) as u16).to_le_bytes()
    }
}

struct Bench<'a> {
    client: Client,
    tuning: &'a Tuning,
    random: Random,
    /// For products through shared memory.
    fragment: Option<Fragment>,
    checks: Vec<Check>,
    progress: &'a mut dyn FnMut(&Check),
}

impl Bench<'_> {
    fn judge(&mut self, kernel: &'static str, mut shape: String, found: &[f32], expected: &[f64]) {
        let mut error = 0.0;
        let mut power = 0.0;
        for (found, expected) in found.iter().zip(expected) {
            error += (f64::from(*found) - expected).powi(2);
            power += expected.powi(2);
        }
        let nmse = if found.len() == expected.len() {
            error / power
        } else {
            f64::INFINITY
        };
        if self.tuning.planes {
            shape.push_str(", planes");
        }
        let check = Check {
            kernel,
            shape,
            nmse,
            limit: LIMIT,
            pass: nmse <= LIMIT,
        };
        (self.progress)(&check);
        self.checks.push(check);
    }

    fn upload(&self, values: &[f32]) -> Buffer {
        let bits: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
        passing(&self.client, bits)
    }

    /// As a KV cache has them.
    fn cache(&self, values: &[f32], profile: Profile) -> Buffer {
        match profile {
            Profile::P32 => self.upload(values),
            Profile::P16 => {
                let half = |value: f32| u32::from(f16::from_f32(value).to_bits());
                let pairs = values.chunks_exact(2);
                let words: Vec<u32> = pairs
                    .map(|pair| half(pair[0]) | half(pair[1]) << 16)
                    .collect();
                passing(&self.client, words)
            }
        }
    }

    /// What a device that failed gives is nothing, which no check accepts.
    fn read(&self, buffer: Buffer) -> Vec<f32> {
        match self.client.read_one(buffer.handle) {
            Ok(bytes) => f32::from_bytes(&bytes).to_vec(),
            Err(error) => {
                tracing::error!(%error, "a kernel's result cannot be read");
                Vec::new()
            }
        }
    }

    /// 37 rows: 5 tiles, the last not full.
    fn product(
        &mut self,
        kind: TensorType,
        epilogue: Epilogue,
        bias: bool,
        norm: bool,
        columns: usize,
    ) {
        const ROWS: usize = 37;
        let gated = matches!(epilogue, Epilogue::Gated(_));
        // Odd counts of blocks and of groups of eight, and for floats a block that is not full.
        let inputs = match kind.block_values() {
            256 => 3 * 256,
            32 => 5 * 32,
            _ => 77,
        };
        let stored = if gated {
            2 * ROWS.next_multiple_of(TILE)
        } else {
            ROWS
        };
        let row_blocks = inputs / kind.block_values();
        let bytes = self.random.weights(kind, stored * row_blocks);
        let row_bytes = row_blocks * kind.block_bytes();
        let mut weights = vec![0.0; stored * inputs];
        if let Err(error) = dequantize(kind, &bytes, &mut weights) {
            tracing::error!(%error, "the test's own weights");
        }
        let biases = self.random.units(ROWS);
        let bias_bits: Vec<u32> = biases.iter().map(|value| value.to_bits()).collect();
        let bias_buffer = bias.then(|| kept(&self.client, bias_bits));
        let layout = Layout::of(kind, inputs, stored);
        let part = Part::upload(&self.client, layout, ROWS, 3, bias_buffer, |row| {
            bytes.chunks_exact(row_bytes).nth(row).unwrap_or_default()
        });
        let x_stride = inputs.next_multiple_of(BLOCK);
        let mut x = vec![0.0; columns * x_stride];
        for row in x.chunks_mut(x_stride) {
            row[..inputs].copy_from_slice(&self.random.units(inputs));
        }
        let y_stride = ROWS + 5;
        let before = self.random.units(columns * y_stride);
        let other = self.random.units(columns * y_stride);
        let buffers = [self.upload(&x), self.upload(&before), self.upload(&other)];
        let nothing = zeros(&self.client, 4);
        let [of_x, of_y, of_other] = &buffers;
        let mut norm_weights = self.random.units(inputs);
        norm_weights.resize(x_stride, 0.0);
        let weight = &self.upload(&norm_weights);
        let product = Product {
            x: of_x,
            norm: norm.then_some(Norm {
                weight,
                width: inputs as u32,
                epsilon: 1e-5,
            }),
            y: of_y,
            y_stride,
            other: Some(of_other),
            epilogue,
            fragment: self.fragment,
            columns,
            widest: usize::MAX,
            nothing: &nothing,
        };
        launch_part(&self.client, self.tuning, &part, &product);
        let mut expected: Vec<f64> = before.iter().map(|value| f64::from(*value)).collect();
        for column in 0..columns {
            let x = &x[column * x_stride..][..inputs];
            let factor = rms_factor(x, 1e-5);
            let x: Vec<f64> = x
                .iter()
                .zip(&norm_weights)
                .map(|(x, weight)| {
                    f64::from(*x)
                        * if norm {
                            factor * f64::from(*weight)
                        } else {
                            1.0
                        }
                })
                .collect();
            let dot = |row: usize| -> f64 {
                let weights = &weights[row * inputs..][..inputs];
                let products = weights.iter().zip(&x);
                products.map(|(w, x)| f64::from(*w) * x).sum()
            };
            for (row, own) in biases.iter().enumerate() {
                let at = column * y_stride + 3 + row;
                let own = if bias { f64::from(*own) } else { 0.0 };
                expected[at] = match epilogue {
                    Epilogue::Store => dot(row) + own,
                    Epilogue::Add => dot(row) + expected[at],
                    Epilogue::Gated(gate) => {
                        let tile = row / TILE * 2 * TILE + row % TILE;
                        activated(dot(tile), gate) * dot(tile + TILE)
                    }
                    Epilogue::Times(gate) => activated(f64::from(other[at]), gate) * dot(row),
                };
            }
        }
        let [_, of_y, _] = buffers;
        let found = self.read(of_y);
        let kernel = match (self.tuning.splits, self.tuning.shared_from) {
            (None, _) => "serial_matmul",
            (Some(_), Some(least)) if columns >= least => match self.fragment {
                Some(_) => "cooperative_matmul",
                None => "shared_matmul",
            },
            (Some(_), _) => "tiled_matmul",
        };
        let bucket = self.tuning.shape(columns, usize::MAX).0;
        let mut shape =
            format!("{kind} {ROWS}x{inputs}, {columns} columns by {bucket}, {epilogue:?}");
        if norm {
            shape.push_str(", normalised");
        }
        self.judge(kernel, shape, &found, &expected);
    }

    /// The largest logits of two rows, as far as the copied blocks are enough to find them.
    fn best(&mut self, vocabulary: usize, count: usize) {
        let mut logits = self.random.units(2 * vocabulary);
        logits[vocabulary / 2] = f32::NAN;
        let buffer = self.upload(&logits);
        let copied = launch_best_blocks(&self.client, &buffer, 2, count);
        let copied = self.read(copied);
        let mut found = Vec::new();
        for row in copied.chunks_exact((count + 1) * select::COPIED) {
            let blocks = row.chunks_exact(select::COPIED);
            let logits: Vec<f32> = blocks.flat_map(|block| &block[1..]).copied().collect();
            let best = infera_verify::best(&logits, count);
            found.extend(best.into_iter().map(|(_, logit)| logit));
        }
        let expected: Vec<f64> = logits
            .chunks_exact(vocabulary)
            .flat_map(|row| infera_verify::best(row, count))
            .map(|(_, logit)| f64::from(logit))
            .collect();
        let shape = format!("{count} of {vocabulary}");
        self.judge("copy_best_blocks", shape, &found, &expected);
    }

    fn norm(&mut self, width: usize, add: bool) {
        let stride = width.next_multiple_of(BLOCK);
        let padded = |values: Vec<f32>| {
            let mut all = vec![0.0; values.len() / width * stride];
            for (row, values) in all.chunks_mut(stride).zip(values.chunks(width)) {
                row[..width].copy_from_slice(values);
            }
            all
        };
        let x = padded(self.random.units(3 * width));
        let weight = padded(self.random.units(width));
        let before = padded(self.random.units(3 * width));
        let y = self.upload(&before);
        let norm = Norm {
            weight: &self.upload(&weight),
            width: width as u32,
            epsilon: 1e-5,
        };
        let x_buffer = self.upload(&x);
        launch_norm(&self.client, self.tuning, &norm, [&x_buffer, &y], 3, add);
        let mut expected = Vec::new();
        for (x, before) in x.chunks(stride).zip(before.chunks(stride)) {
            let factor = rms_factor(&x[..width], 1e-5);
            for (at, (x, weight)) in x.iter().zip(&weight).enumerate() {
                let added = if add { f64::from(before[at]) } else { 0.0 };
                expected.push(f64::from(*x) * factor * f64::from(*weight) + added);
            }
        }
        let found = self.read(y);
        self.judge(
            "rms_norm",
            format!("3x{width}, add {add}"),
            &found,
            &expected,
        );
    }

    /// Rows of 300 values.
    fn gather(&mut self) {
        let x = self.random.units(5 * 300);
        let index = [1_u32, 2, 4];
        let y = zeros(&self.client, index.len() * 300);
        launch_gather(
            &self.client,
            [&self.upload(&x), &passing(&self.client, index.to_vec()), &y],
            300,
        );
        let rows = index
            .iter()
            .flat_map(|row| &x[*row as usize * 300..][..300]);
        let expected: Vec<f64> = rows.map(|value| f64::from(*value)).collect();
        let found = self.read(y);
        self.judge("gather_rows", "3x300".to_owned(), &found, &expected);
    }

    /// Three query heads, one key head, two rows at positions 5 and 40.
    fn rope(&mut self, head_dim: usize, rotated: usize, norm: bool, profile: Profile) {
        let (heads, kv_heads, rows) = (3, 1, 2);
        let place = [5_u32, 1, 40, 0];
        let qkv = self.random.units(rows * (heads + 2 * kv_heads) * head_dim);
        let norms = [self.random.units(head_dim), self.random.units(head_dim)];
        let angles = self.random.units(rows * rotated);
        let queries = zeros(&self.client, rows * heads * head_dim);
        let pool = 2 * kv_heads * 32 * head_dim;
        let [keys, values] = [(); 2].map(|()| zeros(&self.client, pool));
        let rope = Rope {
            qkv: &self.upload(&qkv),
            qkv_stride: (heads + 2 * kv_heads) * head_dim,
            angles: &self.upload(&angles),
            norms: [&self.upload(&norms[0]), &self.upload(&norms[1])],
            scale: 0.3,
            epsilon: 1e-6,
            heads,
            variant: self.rope_variant(head_dim, rotated, norm, profile),
        };
        let cache = Cache {
            keys: &keys,
            values: &values,
            kv_heads,
        };
        let place_buffer = passing(&self.client, place.to_vec());
        let stride = heads * head_dim;
        launch_rope(&self.client, &rope, &place_buffer, cache, &queries, stride);
        let mut expected_queries = vec![0.0; rows * heads * head_dim];
        let mut expected_keys = vec![0.0; pool];
        let mut expected_values = vec![0.0; pool];
        for row in 0..rows {
            let (position, block) = (place[2 * row] as usize, place[2 * row + 1] as usize);
            for head in 0..heads + 2 * kv_heads {
                let at = (row * (heads + 2 * kv_heads) + head) * head_dim;
                let raw = &qkv[at..][..head_dim];
                let slot = block * 32 + position % 32;
                if head > heads {
                    for (dim, value) in raw.iter().enumerate() {
                        expected_values[slot * head_dim + dim] = f64::from(*value);
                    }
                    continue;
                }
                let weights = &norms[usize::from(head == heads)];
                let weights = norm.then_some(&weights[..]);
                let own_angles = &angles[row * rotated..][..rotated];
                let turned = turned(raw, weights, 1e-6, own_angles);
                for (dim, turned) in turned.into_iter().enumerate() {
                    if head < heads {
                        let to = (row * heads + head) * head_dim + dim;
                        expected_queries[to] = turned * f64::from(0.3_f32);
                    } else {
                        let at = key_at(block, position % 32, dim, head_dim, profile);
                        expected_keys[at] = turned;
                    }
                }
            }
        }
        let shape =
            |what| format!("{what}, head {head_dim}, rotated {rotated}, norm {norm}, {profile}");
        for (what, buffer, mut expected) in [
            ("queries", queries, expected_queries),
            ("keys", keys, expected_keys),
            ("values", values, expected_values),
        ] {
            let mut found = self.read(buffer);
            if profile == Profile::P16 && what != "queries" {
                let words = found.iter().map(|word| word.to_bits());
                found = words.flat_map(halves).take(expected.len()).collect();
                expected = expected.into_iter().map(rounded).collect();
            }
            expected.resize(found.len().max(expected.len()), 0.0);
            self.judge("rope_and_store", shape(what), &found, &expected);
        }
    }

    /// Six query heads over two key heads of width 24, blocks in reverse order.
    fn attention(
        &mut self,
        start: usize,
        rows: usize,
        window: Option<usize>,
        softcap: Option<f32>,
        profile: Profile,
    ) {
        let (heads, kv_heads, head_dim) = (6, 2, 24);
        let length = start + rows;
        let blocks = length.div_ceil(32);
        let tables: Vec<u32> = (0..blocks as u32).rev().collect();
        let queries = self.random.units(rows * heads * head_dim);
        let pool = blocks * kv_heads * 32 * head_dim;
        let [keys, values] = [(); 2].map(|()| self.cached(pool, profile));
        let run = Run {
            first_row: 0,
            rows,
            position: start,
            table: 0,
        };
        let most = Most {
            rows: (self.tuning.attention_queries / (heads / kv_heads)).max(1),
            chunks: 64,
            work: usize::MAX,
        };
        let y = zeros(&self.client, rows * heads * head_dim);
        let on = Attention {
            queries: Queries::Ready(&self.upload(&queries)),
            cache: Cache {
                keys: &self.cache(&keys, profile),
                values: &self.cache(&values, profile),
                kv_heads,
            },
            tables: &passing(&self.client, tables.clone()),
            y: &y,
            partials: &zeros(&self.client, most.chunks * heads * head_dim),
            extents: &zeros(&self.client, most.chunks * heads * 2),
            query_stride: heads * head_dim,
            window: window.unwrap_or_default() as u32,
            softcap: softcap.unwrap_or(1.0),
        };
        for launch in cut(&[run], window.map(|window| window as u32), most) {
            let variant = attention::AttentionVariant {
                window: window.is_some(),
                softcap: softcap.is_some(),
                ..self.attention_variant(head_dim, heads / kv_heads, &launch, profile)
            };
            let mut packer = Packer::new(alignment(&self.client));
            let tasks = packer.tasks(&launch);
            let tasks = tasks.within(&passing(&self.client, packer.words));
            launch_attention(&self.client, variant, &on, &tasks);
        }
        let mut expected = Vec::with_capacity(rows * heads * head_dim);
        for row in 0..rows {
            let position = start + row;
            let first = window.map_or(0, |window| (position + 1).saturating_sub(window));
            for head in 0..heads {
                let kv = head / (heads / kv_heads);
                let query = &queries[(row * heads + head) * head_dim..][..head_dim];
                let query: Vec<f64> = query.iter().map(|x| f64::from(*x)).collect();
                let place = |at: usize| (tables[at / 32] as usize * kv_heads + kv, at % 32);
                let key = |at: usize, dim: usize| {
                    let (block, slot) = place(at);
                    f64::from(keys[key_at(block, slot, dim, head_dim, profile)])
                };
                let value = |at: usize, dim: usize| {
                    let (block, slot) = place(at);
                    f64::from(values[(block * 32 + slot) * head_dim + dim])
                };
                expected.extend(attended(&query, first..=position, softcap, key, value));
            }
        }
        let found = self.read(y);
        let shape =
            format!("{rows} rows from {start}, window {window:?}, cap {softcap:?}, {profile}");
        self.judge("grouped_attention", shape, &found, &expected);
    }

    /// The token at `position` of a sequence, from its heads as a product leaves them: six query
    /// heads over two key heads of width 24, two thirds of it rotated, blocks in reverse order.
    fn step(&mut self, position: usize, norm: bool, profile: Profile) {
        let (heads, kv_heads, head_dim, rotated) = (6, 2, 24, 16);
        let group = heads / kv_heads;
        let blocks = position / 32 + 1;
        let tables: Vec<u32> = (0..blocks as u32).rev().collect();
        let qkv = self.random.units((heads + 2 * kv_heads) * head_dim);
        let norms = [self.random.units(head_dim), self.random.units(head_dim)];
        let angles = self.random.units(rotated);
        let pool = blocks * kv_heads * 32 * head_dim;
        let [mut keys, mut values] = [(); 2].map(|()| self.cached(pool, profile));
        let [of_keys, of_values] = [&keys, &values].map(|all| self.cache(all, profile));
        let y = zeros(&self.client, heads * head_dim);
        let run = Run {
            first_row: 0,
            rows: 1,
            position,
            table: 0,
        };
        let most = Most {
            rows: 1,
            chunks: 64,
            work: usize::MAX,
        };
        let on = Attention {
            queries: Queries::Within(Rope {
                qkv: &self.upload(&qkv),
                qkv_stride: qkv.len(),
                angles: &self.upload(&angles),
                norms: [&self.upload(&norms[0]), &self.upload(&norms[1])],
                scale: 0.3,
                epsilon: 1e-6,
                heads,
                variant: self.rope_variant(head_dim, rotated, norm, profile),
            }),
            cache: Cache {
                keys: &of_keys,
                values: &of_values,
                kv_heads,
            },
            tables: &passing(&self.client, tables.clone()),
            y: &y,
            partials: &zeros(&self.client, most.chunks * heads * head_dim),
            extents: &zeros(&self.client, most.chunks * heads * 2),
            query_stride: heads * head_dim,
            window: 0,
            softcap: 1.0,
        };
        for launch in cut(&[run], None, most) {
            let variant = self.attention_variant(head_dim, group, &launch, profile);
            let mut packer = Packer::new(alignment(&self.client));
            let tasks = packer.tasks(&launch);
            let tasks = tasks.within(&passing(&self.client, packer.words));
            launch_attention(&self.client, variant, &on, &tasks);
        }
        let head = |index: usize| &qkv[index * head_dim..][..head_dim];
        let turned = |index: usize| {
            let weights = norm.then(|| &norms[usize::from(index >= heads)][..]);
            turned(head(index), weights, 1e-6, &angles)
        };
        let mut expected = Vec::new();
        for kv in 0..kv_heads {
            let place = |at: usize| (tables[at / 32] as usize * kv_heads + kv, at % 32);
            let (block, slot) = place(position);
            for (dim, key) in turned(heads + kv).into_iter().enumerate() {
                let value = head(heads + kv_heads + kv)[dim];
                let stored = |value: f64| match profile {
                    Profile::P32 => value,
                    Profile::P16 => rounded(value),
                };
                keys[key_at(block, slot, dim, head_dim, profile)] = stored(key) as f32;
                values[(block * 32 + slot) * head_dim + dim] = stored(f64::from(value)) as f32;
            }
            for query in kv * group..(kv + 1) * group {
                let scaled = turned(query).into_iter().map(|x| x * f64::from(0.3_f32));
                let query: Vec<f64> = scaled.collect();
                let key = |at: usize, dim: usize| {
                    let (block, slot) = place(at);
                    f64::from(keys[key_at(block, slot, dim, head_dim, profile)])
                };
                let value = |at: usize, dim: usize| {
                    let (block, slot) = place(at);
                    f64::from(values[(block * 32 + slot) * head_dim + dim])
                };
                expected.extend(attended(&query, 0..=position, None, key, value));
            }
        }
        for (what, buffer, expected) in [
            ("result", y, expected),
            (
                "keys",
                of_keys,
                keys.iter().map(|x| f64::from(*x)).collect(),
            ),
            (
                "values",
                of_values,
                values.iter().map(|x| f64::from(*x)).collect(),
            ),
        ] {
            let mut found = self.read(buffer);
            if profile == Profile::P16 && what != "result" {
                found = found
                    .iter()
                    .flat_map(|word| halves(word.to_bits()))
                    .collect();
            }
            let shape = format!("{what}, position {position}, norm {norm}, {profile}");
            self.judge("step_attention", shape, &found, &expected);
        }
    }

    /// Values that a KV cache can hold.
    fn cached(&mut self, count: usize, profile: Profile) -> Vec<f32> {
        let units = self.random.units(count);
        match profile {
            Profile::P32 => units,
            Profile::P16 => {
                let round = |value: f32| f16::from_f32(value).to_f32();
                units.into_iter().map(round).collect()
            }
        }
    }

    fn rope_variant(
        &self,
        head_dim: usize,
        rotated: usize,
        norm: bool,
        profile: Profile,
    ) -> rope::RopeVariant {
        rope::RopeVariant {
            head_dim,
            rotated,
            norm,
            half: profile == Profile::P16,
            units: self.tuning.attention_units,
            planes: self.tuning.planes,
        }
    }

    /// Without window and cap.
    fn attention_variant(
        &self,
        head_dim: usize,
        group: usize,
        launch: &Launch,
        profile: Profile,
    ) -> attention::AttentionVariant {
        attention::AttentionVariant {
            head_dim,
            group,
            rows: launch.rows,
            units: self.tuning.attention_units,
            ahead: self.tuning.ahead,
            half: profile == Profile::P16,
            window: false,
            softcap: false,
            planes: self.tuning.planes,
            split: !launch.merges.is_empty(),
        }
    }
}
