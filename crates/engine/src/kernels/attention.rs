//! Attention over the paged KV cache, for decode and prefill.
//!
//! `queries` and `y` `[rows, heads, head_dim]` in f32, queries already rotated and scaled; keys and
//! values as in [`super::rope`]. `groups` `[cubes, 4]`: a cube's first row, how many rows (at
//! most `rows`; neighbours of one sequence), the first one's position, and where in `tables` the
//! sequence's blocks begin.
//!
//! A cube computes the query heads of one key head for its rows. The context is cut into chunks of
//! [`CHUNK`] positions. In a chunk unit `u` scores positions `u`, `u + units`, ..., then sums
//! values for the dimensions `4u..4u + 4`, `4(u + units)..`, in the order of positions. Chunks are
//! merged in their order. Nothing of this depends on the other rows of a cube.

use cubecl::prelude::*;

use super::{Four, MASKED};

/// Positions that are scored before their values are summed.
pub const CHUNK: usize = 256;

/// What of the kernel is known when it is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    pub head_dim: usize,
    /// Query heads of a key head.
    pub group: usize,
    /// Rows of a cube.
    pub rows: usize,
    pub units: usize,
    pub window: bool,
    pub softcap: bool,
}

impl Shape {
    /// Bytes of shared memory.
    pub const fn shared_bytes(&self) -> usize {
        self.group * self.rows * (CHUNK + 2 * self.units) * 4
    }
}

/// Grid: groups by key heads. `window` positions are seen, one's own included. `head_pieces` and
/// `unit_count` repeat `head_dim / 4` and `units` for loops that no compiler shall unroll.
#[cube(launch_unchecked)]
pub fn grouped_attention(
    queries: &[Vector<f32, Four>],
    keys: &[Vector<f32, Four>],
    values: &[Vector<f32, Four>],
    groups: &[u32],
    tables: &[u32],
    y: &mut [Vector<f32, Four>],
    query_pieces: u32,
    kv_heads: u32,
    window: u32,
    softcap: f32,
    head_pieces: u32,
    unit_count: u32,
    #[comptime] shape: Shape,
) {
    let pieces = comptime!(shape.head_dim / 4);
    let units = comptime!(shape.units);
    let group = comptime!(shape.group);
    let many = comptime!(shape.group * shape.rows);
    let own_pieces = comptime!(pieces.div_ceil(units));
    let unit = UNIT_POS_X as usize;
    let kv = CUBE_POS_Y as usize;
    let kv_heads = kv_heads as usize;
    let stride = query_pieces as usize;
    let first_row = groups[CUBE_POS_X as usize * 4] as usize;
    let rows = groups[CUBE_POS_X as usize * 4 + 1] as usize;
    let first_position = groups[CUBE_POS_X as usize * 4 + 2] as usize;
    let table = groups[CUBE_POS_X as usize * 4 + 3] as usize;
    let length = first_position + rows;

    let mut scores = Shared::<[f32]>::new_slice(comptime!(many * CHUNK));
    let mut unit_maxima = Shared::<[f32]>::new_slice(comptime!(many * units));
    let mut unit_sums = Shared::<[f32]>::new_slice(comptime!(many * units));

    // Where each query begins, in 16-byte pieces; rows over the edge compute the last one again.
    let mut query = Array::<usize>::new(many);
    let mut maximum = Array::<f32>::new(many);
    let mut sum = Array::<f32>::new(many);
    let mut output = Array::<Vector<f32, Four>>::new(comptime!(many * own_pieces));
    #[unroll]
    for q in 0..many {
        let row = first_row + min(comptime!(q / group), rows - 1);
        query[q] = row * stride + (kv * group + comptime!(q % group)) * pieces;
        maximum[q] = f32::new(MASKED);
        sum[q] = 0.0;
        #[unroll]
        for own in 0..own_pieces {
            output[comptime!(q * own_pieces + own)] = Vector::new(0.0f32);
        }
    }

    let mut begin = 0usize;
    if comptime!(shape.window) {
        let window = window as usize;
        if first_position + 1 > window {
            begin = (first_position + 1 - window) / CHUNK * CHUNK;
        }
    }
    while begin < length {
        let count = min(length - begin, CHUNK);

        let mut unit_maximum = Array::<f32>::new(many);
        #[unroll]
        for q in 0..many {
            unit_maximum[q] = f32::new(MASKED);
        }
        let mut at = unit;
        while at < count {
            let position = begin + at;
            let block = tables[table + position / 32] as usize;
            let key = (block * kv_heads + kv) * comptime!(pieces * 32) + position % 32;
            let mut score = Array::<f32>::new(many);
            #[unroll]
            for q in 0..many {
                score[q] = 0.0;
            }
            let mut piece = 0usize;
            while piece < head_pieces as usize {
                let four = keys[key + piece * 32];
                #[unroll]
                for q in 0..many {
                    let other = queries[query[q] + piece];
                    #[unroll]
                    for element in 0..4usize {
                        score[q] = fma(four.extract(element), other.extract(element), score[q]);
                    }
                }
                piece += 1;
            }
            #[unroll]
            for q in 0..many {
                let own_position = first_position + comptime!(q / group);
                if comptime!(shape.softcap) {
                    score[q] = softcap * f32::tanh(score[q] / softcap);
                }
                let mut seen = position <= own_position;
                if comptime!(shape.window) {
                    seen = seen && position + window as usize > own_position;
                }
                let masked = select(seen, score[q], f32::new(MASKED));
                scores[comptime!(q * CHUNK) + at] = masked;
                unit_maximum[q] = max(unit_maximum[q], masked);
            }
            at += units;
        }
        #[unroll]
        for q in 0..many {
            unit_maxima[comptime!(q * units) + unit] = unit_maximum[q];
        }
        sync_cube();

        let mut chunk_maximum = Array::<f32>::new(many);
        #[unroll]
        for q in 0..many {
            let mut largest = unit_maxima[comptime!(q * units)];
            for other in 1..unit_count as usize {
                largest = max(largest, unit_maxima[comptime!(q * units) + other]);
            }
            chunk_maximum[q] = largest;
        }
        let mut unit_sum = Array::<f32>::new(many);
        #[unroll]
        for q in 0..many {
            unit_sum[q] = 0.0;
        }
        let mut at = unit;
        while at < count {
            #[unroll]
            for q in 0..many {
                let score = scores[comptime!(q * CHUNK) + at];
                let weight = select(
                    score > f32::new(0.5 * MASKED),
                    f32::exp(score - chunk_maximum[q]),
                    f32::new(0.0),
                );
                scores[comptime!(q * CHUNK) + at] = weight;
                unit_sum[q] += weight;
            }
            at += units;
        }
        #[unroll]
        for q in 0..many {
            unit_sums[comptime!(q * units) + unit] = unit_sum[q];
        }
        sync_cube();

        let mut old_part = Array::<f32>::new(many);
        let mut new_part = Array::<f32>::new(many);
        #[unroll]
        for q in 0..many {
            let mut total = 0.0f32;
            for other in 0..unit_count as usize {
                total += unit_sums[comptime!(q * units) + other];
            }
            let merged = max(maximum[q], chunk_maximum[q]);
            old_part[q] = f32::exp(maximum[q] - merged);
            new_part[q] = f32::exp(chunk_maximum[q] - merged);
            maximum[q] = merged;
            sum[q] = fma(sum[q], old_part[q], total * new_part[q]);
        }
        #[unroll]
        for own in 0..own_pieces {
            let piece = min(unit + comptime!(own * units), comptime!(pieces - 1));
            let mut weighted = Array::<Vector<f32, Four>>::new(many);
            #[unroll]
            for q in 0..many {
                weighted[q] = Vector::new(0.0f32);
            }
            let mut at = 0usize;
            while at < count {
                let position = begin + at;
                let block = tables[table + position / 32] as usize;
                let value = ((block * kv_heads + kv) * 32 + position % 32) * pieces + piece;
                let run = min(count - at, 32);
                for next in 0..run {
                    let four = values[value + next * pieces];
                    #[unroll]
                    for q in 0..many {
                        let weight = Vector::new(scores[comptime!(q * CHUNK) + at + next]);
                        weighted[q] = fma(weight, four, weighted[q]);
                    }
                }
                at += 32;
            }
            #[unroll]
            for q in 0..many {
                let at = comptime!(q * own_pieces + own);
                let new = weighted[q] * Vector::new(new_part[q]);
                output[at] = fma(output[at], Vector::new(old_part[q]), new);
            }
        }
        sync_cube();
        begin += CHUNK;
    }

    #[unroll]
    for q in 0..many {
        if comptime!(q / group) < rows {
            let factor = f32::new(1.0) / sum[q];
            #[unroll]
            for own in 0..own_pieces {
                let piece = unit + comptime!(own * units);
                if piece < pieces {
                    let scaled = output[comptime!(q * own_pieces + own)] * Vector::new(factor);
                    y[query[q] + piece] = scaled;
                }
            }
        }
    }
}
