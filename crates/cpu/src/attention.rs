//! The paged KV cache and attention over it.
//!
//! A KV block holds 32 positions of one sequence for all layers and KV heads: for each head the
//! keys as `[head_dim][32]`, so that a vector is one value of 16 positions, and the values as
//! `[32][head_dim]`, filled up to whole vectors. Products of queries with keys, and of weights
//! with values, are then the same register tiles as in [`crate::matrix`]. They are in f32 or f16 as
//! the numerics profile says.
//!
//! The softmax runs along the blocks (Milakov and Gimelshein 2018): each query row keeps the
//! largest score so far, the sum of the weights and the weighted values, and rescales the two when
//! the largest grows. Blocks are taken in chunks of 16, counted from the sequence's start, whose
//! results are joined in order; a decode step's chunks may therefore be computed side by side, and
//! the result is the same to the bit.

use std::ops::Range;

use crate::BLOCK_TOKENS;
use crate::math::{exp, soft_cap};
use crate::matrix::{Columns, Tile};
use crate::simd::{InstructionSet, Kernel, LANES, Simd, Stored};

/// Blocks of a chunk.
pub(crate) const CHUNK: usize = 16;

/// Below every score.
const MASKED: f32 = -1e30;

/// The shape of a block of the KV cache: a slice per layer and head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KvBlockShape {
    pub layers: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
}

impl KvBlockShape {
    /// A head's values of one position.
    fn value_width(&self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }

    fn head_values(&self) -> usize {
        BLOCK_TOKENS * (self.head_dim + self.value_width())
    }

    /// Values of a block.
    pub(crate) fn block_values(&self) -> usize {
        self.layers * self.kv_heads * self.head_values()
    }

    /// Where a head's part of a block begins.
    fn head(&self, block: u32, layer: usize, kv_head: usize) -> usize {
        block as usize * self.block_values()
            + (layer * self.kv_heads + kv_head) * self.head_values()
    }

    /// Floats of one query row's state: the largest score in each lane of a vector, the sums of
    /// weights by lane, the weighted values.
    pub(crate) fn state_floats(&self) -> usize {
        2 * LANES + self.value_width()
    }

    /// Writes one position's key and value.
    ///
    /// # Safety
    /// `kv` has the block, and no other thread uses this position of it.
    pub(crate) unsafe fn write<V: Stored>(
        &self,
        kv: *mut V,
        (block, layer, kv_head): (u32, usize, usize),
        slot: usize,
        key: &[f32],
        value: &[f32],
    ) {
        // SAFETY: The caller's promise; a head has `head_dim` values.
        unsafe {
            let keys = kv.add(self.head(block, layer, kv_head));
            for (index, key) in key.iter().enumerate() {
                *keys.add(index * BLOCK_TOKENS + slot) = V::from_f32(*key);
            }
            let values = keys.add(self.head_dim * BLOCK_TOKENS + slot * self.value_width());
            for (index, value) in value.iter().enumerate() {
                *values.add(index) = V::from_f32(*value);
            }
        }
    }
}

/// Query rows of one sequence and KV head.
pub(crate) struct Rows<'a> {
    /// `[rows, head_dim]`, multiplied by the attention's scale.
    pub queries: &'a [f32],
    /// Each row's position, rising.
    pub positions: &'a [usize],
    /// The sequence's blocks.
    pub blocks: &'a [u32],
    pub layer: usize,
    pub kv_head: usize,
    /// A query sees its own position and the `window - 1` before it.
    pub window: Option<usize>,
    pub soft_cap: Option<f32>,
}

impl Rows<'_> {
    /// The first position that row `row` sees, and the first that it does not.
    fn seen(&self, row: usize) -> Range<usize> {
        let end = self.positions[row] + 1;
        self.window.map_or(0, |window| end.saturating_sub(window))..end
    }
}

/// Computes the rows' `states` `[rows, state_floats]` over one chunk of blocks.
///
/// # Safety
/// `kv` has the blocks, and nobody writes their positions meanwhile.
pub(crate) unsafe fn attend<V: Stored>(
    set: InstructionSet,
    shape: &KvBlockShape,
    kv: *const V,
    rows: &Rows<'_>,
    chunk: usize,
    weights: &mut Vec<f32>,
    states: &mut [f32],
) {
    let count = rows.positions.len();
    let state_floats = shape.state_floats();
    assert!(rows.queries.len() == count * shape.head_dim && states.len() == count * state_floats);
    weights.resize(count * BLOCK_TOKENS, 0.0);
    for state in states.chunks_exact_mut(state_floats) {
        state[..LANES].fill(MASKED);
        state[LANES..].fill(0.0);
    }
    let first = rows.seen(0).start / BLOCK_TOKENS;
    let end = rows.seen(count - 1).end;
    let blocks = first.max(chunk * CHUNK)..end.div_ceil(BLOCK_TOKENS).min((chunk + 1) * CHUNK);
    for index in blocks {
        let base = index * BLOCK_TOKENS;
        // SAFETY: The caller's promise; queries, weights and states are as large as the rows.
        unsafe {
            let keys = kv.add(shape.head(rows.blocks[index], rows.layer, rows.kv_head));
            set.run(Tile {
                panel: keys,
                panel_stride: BLOCK_TOKENS,
                vectors: BLOCK_TOKENS / LANES,
                depth: shape.head_dim,
                columns: Columns {
                    start: rows.queries.as_ptr(),
                    stride: shape.head_dim,
                    count,
                },
                products: weights.as_mut_ptr(),
                stride: BLOCK_TOKENS,
                go_on: false,
            });
            set.run(Weigh {
                rows,
                base,
                weights,
                states,
                state_floats,
            });
            set.run(Tile {
                panel: keys.add(shape.head_dim * BLOCK_TOKENS),
                panel_stride: shape.value_width(),
                vectors: shape.value_width() / LANES,
                // What lies behind may be another sequence's, and anything.
                depth: BLOCK_TOKENS.min(end - base),
                columns: Columns {
                    start: weights.as_ptr(),
                    stride: BLOCK_TOKENS,
                    count,
                },
                products: states.as_mut_ptr().add(2 * LANES),
                stride: state_floats,
                go_on: true,
            });
        }
    }
}

/// Turns the scores of a block, which begins at position `base`, into weights, and brings the
/// states to their largest score.
struct Weigh<'a> {
    rows: &'a Rows<'a>,
    base: usize,
    weights: &'a mut [f32],
    states: &'a mut [f32],
    state_floats: usize,
}

impl Kernel for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let rows = self.weights.chunks_exact_mut(BLOCK_TOKENS);
        let states = self.states.chunks_exact_mut(self.state_floats);
        for (row, (weights, state)) in rows.zip(states).enumerate() {
            let seen = self.rows.seen(row);
            let from = seen.start.saturating_sub(self.base).min(BLOCK_TOKENS);
            let to = seen.end.saturating_sub(self.base).min(BLOCK_TOKENS);
            // SAFETY: A row has two vectors of weights, a state whole vectors.
            unsafe {
                let state = state.as_mut_ptr();
                let mut scores = [simd.splat(0.0); 2];
                let mut largest = simd.splat(MASKED);
                for (half, score) in scores.iter_mut().enumerate() {
                    let all = simd.load(weights.as_ptr().add(half * LANES));
                    let all = match self.rows.soft_cap {
                        Some(cap) => soft_cap(simd, all, cap),
                        None => all,
                    };
                    let lane = |place: usize| place.saturating_sub(half * LANES).min(LANES);
                    *score = simd.keep(all, simd.splat(MASKED), lane(from), lane(to));
                    largest = simd.max(largest, *score);
                }
                let before = simd.load(state);
                let largest = simd.max(before, simd.splat(simd.largest(largest)));
                let factor = exp(simd, simd.sub(before, largest));
                let sums = state.add(LANES);
                let mut sum = simd.mul(simd.load(sums), factor);
                for (half, score) in scores.into_iter().enumerate() {
                    let lane = |place: usize| place.saturating_sub(half * LANES).min(LANES);
                    let weight = exp(simd, simd.sub(score, largest));
                    let weight = simd.keep(weight, simd.splat(0.0), lane(from), lane(to));
                    simd.store(weights.as_mut_ptr().add(half * LANES), weight);
                    sum = simd.add(sum, weight);
                }
                simd.store(state, largest);
                simd.store(sums, sum);
                for at in (2 * LANES..self.state_floats).step_by(LANES) {
                    simd.store(state.add(at), simd.mul(simd.load(state.add(at)), factor));
                }
            }
        }
    }
}

/// Adds the next chunk's states to those of the chunks before.
pub(crate) struct Join<'a> {
    pub states: &'a mut [f32],
    pub next: &'a [f32],
    pub state_floats: usize,
}

impl Kernel for Join<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let states = self.states.chunks_exact_mut(self.state_floats);
        let next = self.next.chunks_exact(self.state_floats);
        for (state, next) in states.zip(next) {
            // SAFETY: A state is whole vectors.
            unsafe {
                let (state, next) = (state.as_mut_ptr(), next.as_ptr());
                let (one, two) = (simd.load(state), simd.load(next));
                let largest = simd.max(one, two);
                let one = exp(simd, simd.sub(one, largest));
                let two = exp(simd, simd.sub(two, largest));
                simd.store(state, largest);
                for at in (LANES..self.state_floats).step_by(LANES) {
                    let old = simd.mul(simd.load(state.add(at)), one);
                    let sum = simd.mul_add(simd.load(next.add(at)), two, old);
                    simd.store(state.add(at), sum);
                }
            }
        }
    }
}

/// A row's attention from its state: the weighted values by the sum of the weights.
pub(crate) struct Finish<'a> {
    pub state: &'a [f32],
    pub output: &'a mut [f32],
}

impl Kernel for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // SAFETY: A state begins with two vectors.
        let sum = simd.sum(unsafe { simd.load(self.state[LANES..2 * LANES].as_ptr()) });
        let scale = 1.0 / sum;
        for (output, value) in self.output.iter_mut().zip(&self.state[2 * LANES..]) {
            *output = value * scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::random::Random;

    const SHAPE: KvBlockShape = KvBlockShape {
        layers: 2,
        kv_heads: 2,
        head_dim: 24,
    };

    /// Attention of one query over `[positions][head_dim]` keys and values in f64.
    fn expected(
        query: &[f32],
        keys: &[Vec<f32>],
        values: &[Vec<f32>],
        cap: Option<f32>,
    ) -> Vec<f64> {
        let dot = |key: &Vec<f32>| -> f64 {
            let products = key.iter().zip(query);
            let score = products.map(|(k, q)| f64::from(*k) * f64::from(*q)).sum();
            match cap.map(f64::from) {
                Some(cap) => cap * f64::tanh(score / cap),
                None => score,
            }
        };
        let weights: Vec<f64> = keys.iter().map(|key| dot(key).exp()).collect();
        let sum: f64 = weights.iter().sum();
        (0..query.len())
            .map(|index| {
                let parts = weights.iter().zip(values);
                parts
                    .map(|(weight, value)| weight * f64::from(value[index]))
                    .sum::<f64>()
                    / sum
            })
            .collect()
    }

    #[test]
    fn attention_is_that_of_f64_in_any_window_and_blocks() {
        attends_as_f64::<f32>(|value| value);
    }

    #[test]
    fn so_is_that_over_keys_and_values_in_f16() {
        attends_as_f64::<f16>(|value| f16::from_f32(value).to_f32());
    }

    /// `kept` is what the cache keeps of a value.
    fn attends_as_f64<V: Stored>(kept: fn(f32) -> f32) {
        let mut random = Random::new(7);
        let length = 700;
        let mut rows = |count: usize| -> Vec<Vec<f32>> {
            (0..count)
                .map(|_| random.floats(SHAPE.head_dim, 1.0))
                .collect()
        };
        let (keys, values, queries) = (rows(length), rows(length), rows(3));
        let kept = |rows: &[Vec<f32>]| -> Vec<Vec<f32>> {
            let row = |row: &Vec<f32>| row.iter().map(|value| kept(*value)).collect();
            rows.iter().map(row).collect()
        };
        let blocks: Vec<u32> = (0..22).map(|index| (index * 7 + 3) % 23).collect();
        // What no row may see is not a number.
        let mut kv = vec![V::from_f32(f32::NAN); 23 * SHAPE.block_values()];
        for position in 0..length {
            let block = (blocks[position / BLOCK_TOKENS], 1, 1);
            let slot = position % BLOCK_TOKENS;
            // SAFETY: The cache has the blocks, and no other thread has it.
            unsafe {
                SHAPE.write(
                    kv.as_mut_ptr(),
                    block,
                    slot,
                    &keys[position],
                    &values[position],
                );
            }
        }
        let (keys, values) = (kept(&keys), kept(&values));
        let positions = [length - 3, length - 2, length - 1];
        let flat = queries.concat();
        let state_floats = SHAPE.state_floats();
        for set in InstructionSet::available() {
            for (window, soft_cap) in [
                (None, None),
                (Some(1), None),
                (Some(40), Some(2.0)),
                (Some(650), None),
            ] {
                let rows = Rows {
                    queries: &flat,
                    positions: &positions,
                    blocks: &blocks,
                    layer: 1,
                    kv_head: 1,
                    window,
                    soft_cap,
                };
                let states = |chunk| {
                    let mut states = vec![0.0; 3 * state_floats];
                    // SAFETY: The cache has the blocks.
                    unsafe {
                        let kv = kv.as_ptr();
                        attend(set, &SHAPE, kv, &rows, chunk, &mut Vec::new(), &mut states);
                    }
                    states
                };
                let mut joined = states(0);
                set.run(Join {
                    states: &mut joined,
                    next: &states(1),
                    state_floats,
                });
                for (row, state) in joined.chunks(state_floats).enumerate() {
                    let mut output = vec![0.0; SHAPE.head_dim];
                    set.run(Finish {
                        state,
                        output: &mut output,
                    });
                    let seen = rows.seen(row);
                    let expected =
                        expected(&queries[row], &keys[seen.clone()], &values[seen], soft_cap);
                    for (found, expected) in output.iter().zip(expected) {
                        assert!(
                            (f64::from(*found) - expected).abs() < 3e-6,
                            "{} {window:?}: {found} {expected}",
                            set.name()
                        );
                    }
                }
            }
        }
    }
}
