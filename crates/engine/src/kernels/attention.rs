//! Attention over the paged KV cache, for decode and prefill.
//!
//! `queries` and `y` `[rows, heads, head_dim]` in f32, queries already rotated and scaled; keys and
//! values as in [`super::rope`]. `tasks` `[cubes, 6]`: a cube's first row, how many rows (at most
//! `rows`; neighbours of one sequence), the first one's position, where in `tables` the sequence's
//! blocks begin, and from which position (a multiple of [`CHUNK`]) to which, exclusive, it looks.
//!
//! A cube computes the query heads of one key head for its rows. The context is cut into chunks of
//! [`CHUNK`] positions. In a chunk unit `u` scores positions `u`, `u + units`, ...; values are then
//! summed by as many units as a position has 16-byte pieces, and by as many such lanes of units as
//! there are: lane `l` takes the positions `l`, `l + lanes`, ... of each block, in order, and the
//! lanes' sums are added in theirs. Chunks are merged in order.
//!
//! One token of a long context would leave most of a GPU idle. So there each chunk is a cube of its
//! own, which leaves its weighted sum, its scores' maximum and its weights' sum in `partials` and
//! `extents`, and [`merge_chunks`] merges them as a cube with all chunks would have done. Nothing
//! depends on how the work was cut, nor on the other rows of a cube.

use cubecl::prelude::*;

use super::half::{pack_four, unpack};
use super::norm::inverse_rms;
use super::reduce::{Fold, over_cube};
use super::rope::{self, own_squares, turned};
use super::{Four, MASKED};

/// Positions that are scored before their values are summed.
pub const CHUNK: usize = 256;
/// Numbers of a task.
pub const TASK: usize = 6;

/// What of the kernel is known when it is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttentionVariant {
    /// A multiple of 4; for a KV cache in f16, of 8.
    pub head_dim: usize,
    /// Query heads of a key head.
    pub group: usize,
    /// Rows of a cube.
    pub rows: usize,
    pub units: usize,
    /// 16-byte loads that a unit has under way at once, at most.
    pub ahead: usize,
    /// The KV cache is in f16.
    pub half: bool,
    pub window: bool,
    pub softcap: bool,
    pub planes: bool,
    /// Each task is one chunk, which [`merge_chunks`] merges.
    pub split: bool,
}

impl AttentionVariant {
    /// 16-byte pieces of a key or value.
    pub const fn pieces(&self) -> usize {
        self.head_dim / (4 * self.fours())
    }

    /// Four values at a time in a piece.
    const fn fours(&self) -> usize {
        if self.half { 2 } else { 1 }
    }

    /// Loads under way, so that a whole number of times as many are all pieces.
    const fn key_loads(&self) -> usize {
        let mut loads = self.ahead;
        while !self.pieces().is_multiple_of(loads) {
            loads -= 1;
        }
        loads
    }
}

/// Grid: tasks by key heads. `window` positions are seen, one's own included. `piece_count` and
/// `unit_count` repeat the pieces and units for loops that no compiler shall unroll.
#[cube(launch, launch_unchecked)]
pub fn grouped_attention(
    queries: &[Vector<f32, Four>],
    keys: &[Vector<u32, Four>],
    values: &[Vector<u32, Four>],
    tasks: &[u32],
    tables: &[u32],
    y: &mut [Vector<f32, Four>],
    partials: &mut [Vector<f32, Four>],
    extents: &mut [f32],
    query_fours: u32,
    kv_heads: u32,
    window: u32,
    softcap: f32,
    piece_count: u32,
    unit_count: u32,
    #[comptime] variant: AttentionVariant,
) {
    attend(
        queries,
        keys,
        values,
        tasks,
        tables,
        y,
        partials,
        extents,
        query_fours,
        kv_heads,
        window,
        softcap,
        piece_count,
        unit_count,
        false,
        variant,
    );
}

/// The same for tasks of one row each, whose heads come out of a product: first does what
/// [`super::rope::rope_and_store`] does for the row, to the bit. Each cube turns its queries for
/// itself; the one that looks at the row's own position writes its key and value to the cache.
///
/// Grid: as above. `qkv`, `angles` and both norms as in [`super::rope`].
#[cube(launch, launch_unchecked)]
pub fn step_attention(
    qkv: &[f32],
    angles: &[f32],
    query_norm: &[f32],
    key_norm: &[f32],
    keys: &mut [Vector<u32, Four>],
    values: &mut [Vector<u32, Four>],
    tasks: &[u32],
    tables: &[u32],
    y: &mut [Vector<f32, Four>],
    partials: &mut [Vector<f32, Four>],
    extents: &mut [f32],
    qkv_stride: u32,
    query_fours: u32,
    kv_heads: u32,
    window: u32,
    softcap: f32,
    scale: f32,
    epsilon: f32,
    piece_count: u32,
    unit_count: u32,
    #[comptime] variant: AttentionVariant,
    #[comptime] rope: rope::RopeVariant,
) {
    let group = comptime!(variant.group);
    let pieces = comptime!(variant.pieces());
    let fours = comptime!(variant.fours());
    let kv = CUBE_POS_Y as usize;
    let all_kv = kv_heads as usize;
    let task = CUBE_POS_X as usize * TASK;
    let row = tasks[task] as usize;
    let position = tasks[task + 2] as usize;
    let is_last = tasks[task + 5] as usize == position + 1;
    let block = tables[tasks[task + 3] as usize + position / 32] as usize * all_kv + kv;
    let of_row = row * qkv_stride as usize;
    // The group's query heads, then its key head.
    let mut factors = Array::<f32>::new(comptime!(group + 1));
    if comptime!(rope.norm) {
        #[unroll]
        for head in 0..comptime!(group + 1) {
            let mut from = kv * group + head;
            if comptime!(head == group) {
                from = all_kv * group + kv;
            }
            factors[head] = own_squares(qkv, of_row + from * comptime!(variant.head_dim), rope);
        }
        inverse_rms(
            &mut factors,
            f32::new(comptime!(rope.inverse_width())),
            epsilon,
            unit_count,
            comptime!(group + 1),
            variant.units,
            variant.planes,
        );
    }
    let mut queries = Shared::<[Vector<f32, Four>]>::new_slice(comptime!(group * pieces * fours));
    // The same heads, and then the value's.
    let mut at = UNIT_POS as usize;
    while at < comptime!((group + 2) * pieces) {
        let head = at / pieces;
        let piece = at % pieces;
        let is_query = head < group;
        if is_query || is_last {
            let mut from = kv * group + head;
            if !is_query {
                from = all_kv * head + kv;
            }
            let from = of_row + from * comptime!(variant.head_dim);
            let mut stored = Vector::<u32, Four>::new(0u32);
            #[unroll]
            for four in 0..fours {
                let mut turned_four = Vector::<f32, Four>::new(0.0f32);
                #[unroll]
                for element in 0..4usize {
                    let dim = (piece * fours + four) * 4 + element;
                    let mut own = qkv[from + dim];
                    if head <= group {
                        let mut factor = 1.0f32;
                        if comptime!(rope.norm) {
                            factor = factors[min(head, group)];
                        }
                        own = turned(
                            qkv, angles, query_norm, key_norm, from, row, dim, is_query, factor,
                            rope,
                        );
                    }
                    turned_four.insert(element, own);
                }
                if is_query {
                    queries[at * fours + four] = turned_four * Vector::new(scale);
                }
                stored = pack_four(stored, turned_four, four, variant.half);
            }
            if head == group {
                keys[(block * pieces + piece) * 32 + position % 32] = stored;
            } else if head > group {
                values[(block * 32 + position % 32) * pieces + piece] = stored;
            }
        }
        at += comptime!(variant.units);
    }
    sync_storage();
    attend(
        queries.as_slice(),
        &*keys,
        &*values,
        tasks,
        tables,
        y,
        partials,
        extents,
        query_fours,
        kv_heads,
        window,
        softcap,
        piece_count,
        unit_count,
        true,
        variant,
    );
}

/// The work of a cube. `queries` are all rows' or, where they are the cube's `own`, those of its row
/// alone.
#[cube]
fn attend(
    queries: &[Vector<f32, Four>],
    keys: &[Vector<u32, Four>],
    values: &[Vector<u32, Four>],
    tasks: &[u32],
    tables: &[u32],
    y: &mut [Vector<f32, Four>],
    partials: &mut [Vector<f32, Four>],
    extents: &mut [f32],
    query_fours: u32,
    kv_heads: u32,
    window: u32,
    softcap: f32,
    piece_count: u32,
    unit_count: u32,
    #[comptime] own: bool,
    #[comptime] variant: AttentionVariant,
) {
    let pieces = comptime!(variant.pieces());
    let fours = comptime!(variant.fours());
    let units = comptime!(variant.units);
    let group = comptime!(variant.group);
    let many = comptime!(variant.group * variant.rows);
    let lanes = comptime!(if units / pieces == 0 {
        1
    } else {
        units / pieces
    });
    let own_pieces = comptime!(pieces.div_ceil(units));
    let key_loads = comptime!(variant.key_loads());
    let value_loads = comptime!(variant.ahead);
    let unit = UNIT_POS_X as usize;
    let kv = CUBE_POS_Y as usize;
    let kv_heads = kv_heads as usize;
    let stride = query_fours as usize;
    let task = CUBE_POS_X as usize * TASK;
    let first_row = tasks[task] as usize;
    let rows = tasks[task + 1] as usize;
    let first_position = tasks[task + 2] as usize;
    let table = tasks[task + 3] as usize;
    let mut begin = tasks[task + 4] as usize;
    let end = tasks[task + 5] as usize;

    let mut scores = Shared::<[f32]>::new_slice(comptime!(many * CHUNK));
    let mut folded = Shared::<[f32]>::new_slice(comptime!(many * units));
    let mut summed = Shared::<[f32]>::new_slice(comptime!(many * units));
    let mut lane_sums = Shared::<[Vector<f32, Four>]>::new_slice(comptime!(units * fours));

    // Where each query and its result begin, in fours; rows over the edge compute the last one again.
    let mut query = Array::<usize>::new(many);
    let mut result = Array::<usize>::new(many);
    let mut maximum = Array::<f32>::new(many);
    let mut sum = Array::<f32>::new(many);
    let mut output = Array::<Vector<f32, Four>>::new(comptime!(many * own_pieces * fours));
    #[unroll]
    for q in 0..many {
        let row = first_row + min(comptime!(q / group), rows - 1);
        result[q] = row * stride + (kv * group + comptime!(q % group)) * comptime!(pieces * fours);
        query[q] = if comptime!(own) {
            comptime!(q * pieces * fours).runtime()
        } else {
            result[q]
        };
        maximum[q] = f32::new(MASKED);
        sum[q] = 0.0;
        #[unroll]
        for own in 0..comptime!(own_pieces * fours) {
            output[comptime!(q * own_pieces * fours + own)] = Vector::new(0.0f32);
        }
    }

    while begin < end {
        let count = min(end - begin, CHUNK);

        let mut chunk_maximum = Array::<f32>::new(many);
        #[unroll]
        for q in 0..many {
            chunk_maximum[q] = f32::new(MASKED);
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
            while piece < piece_count as usize {
                let mut loaded = Array::<Vector<u32, Four>>::new(key_loads);
                #[unroll]
                for next in 0..key_loads {
                    loaded[next] = keys[key + (piece + next) * 32];
                }
                #[unroll]
                for next in 0..comptime!(key_loads * fours) {
                    let four = unpack(
                        loaded[comptime!(next / fours)],
                        comptime!(next % fours),
                        variant.half,
                    );
                    #[unroll]
                    for q in 0..many {
                        let other = queries[query[q] + piece * fours + next];
                        #[unroll]
                        for element in 0..4usize {
                            score[q] = fma(four.extract(element), other.extract(element), score[q]);
                        }
                    }
                }
                piece += key_loads;
            }
            #[unroll]
            for q in 0..many {
                let own_position = first_position + comptime!(q / group);
                if comptime!(variant.softcap) {
                    score[q] = softcap * f32::tanh(score[q] / softcap);
                }
                let mut seen = position <= own_position;
                if comptime!(variant.window) {
                    seen = seen && position + window as usize > own_position;
                }
                let masked = select(seen, score[q], f32::new(MASKED));
                scores[comptime!(q * CHUNK) + at] = masked;
                chunk_maximum[q] = max(chunk_maximum[q], masked);
            }
            at += units;
        }
        over_cube(
            &mut chunk_maximum,
            &mut folded,
            unit_count,
            many,
            units,
            Fold::Maximum,
            variant.planes,
        );

        let mut total = Array::<f32>::new(many);
        #[unroll]
        for q in 0..many {
            total[q] = 0.0;
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
                total[q] += weight;
            }
            at += units;
        }
        over_cube(
            &mut total,
            &mut summed,
            unit_count,
            many,
            units,
            Fold::Sum,
            variant.planes,
        );

        let mut old_part = Array::<f32>::new(many);
        let mut new_part = Array::<f32>::new(many);
        #[unroll]
        for q in 0..many {
            let merged = max(maximum[q], chunk_maximum[q]);
            old_part[q] = f32::exp(maximum[q] - merged);
            new_part[q] = f32::exp(chunk_maximum[q] - merged);
            maximum[q] = merged;
            sum[q] = fma(sum[q], old_part[q], total[q] * new_part[q]);
        }
        #[unroll]
        for own in 0..own_pieces {
            let piece = min(
                unit % pieces + comptime!(own * units),
                comptime!(pieces - 1),
            );
            let lane = min(unit / pieces, comptime!(lanes - 1));
            let mut weighted = Array::<Vector<f32, Four>>::new(comptime!(many * fours));
            #[unroll]
            for index in 0..comptime!(many * fours) {
                weighted[index] = Vector::new(0.0f32);
            }
            let mut at = 0usize;
            while at < count {
                let block = tables[table + (begin + at) / 32] as usize;
                let value = (block * kv_heads + kv) * comptime!(32 * pieces) + piece;
                let run = min(count - at, 32);
                let mut next = lane;
                while next < run {
                    // Positions over the edge weigh nothing.
                    let mut slots = Array::<usize>::new(value_loads);
                    let mut loaded = Array::<Vector<u32, Four>>::new(value_loads);
                    #[unroll]
                    for load in 0..value_loads {
                        slots[load] = min(next + comptime!(load * lanes), run - 1);
                        loaded[load] = values[value + slots[load] * pieces];
                    }
                    #[unroll]
                    for load in 0..value_loads {
                        let inside = next + comptime!(load * lanes) < run;
                        #[unroll]
                        for q in 0..many {
                            let mut weight = scores[comptime!(q * CHUNK) + at + slots[load]];
                            if comptime!(value_loads > 1) {
                                weight = select(inside, weight, f32::new(0.0));
                            }
                            #[unroll]
                            for four in 0..fours {
                                let index = comptime!(q * fours + four);
                                let unpacked = unpack(loaded[load], four, variant.half);
                                weighted[index] =
                                    fma(Vector::new(weight), unpacked, weighted[index]);
                            }
                        }
                    }
                    next += comptime!(lanes * value_loads);
                }
                at += 32;
            }
            #[unroll]
            for q in 0..many {
                if comptime!(lanes > 1) {
                    #[unroll]
                    for four in 0..fours {
                        lane_sums[comptime!(four * units) + unit] =
                            weighted[comptime!(q * fours + four)];
                    }
                    sync_cube();
                    #[unroll]
                    for four in 0..fours {
                        let mut whole = lane_sums[comptime!(four * units) + piece];
                        #[unroll]
                        for other in 1..lanes {
                            whole += lane_sums[comptime!(four * units + other * pieces) + piece];
                        }
                        weighted[comptime!(q * fours + four)] = whole;
                    }
                    sync_cube();
                }
                #[unroll]
                for four in 0..fours {
                    let at = comptime!((q * own_pieces + own) * fours + four);
                    let new = weighted[comptime!(q * fours + four)] * Vector::new(new_part[q]);
                    output[at] = fma(output[at], Vector::new(old_part[q]), new);
                }
            }
        }
        sync_cube();
        begin += CHUNK;
    }

    let place = (CUBE_POS_X as usize * kv_heads + kv) * many;
    #[unroll]
    for q in 0..many {
        if comptime!(q / group) < rows {
            let mut factor = 1.0f32;
            if comptime!(!variant.split) {
                factor = f32::new(1.0) / sum[q];
            } else if unit == 0 {
                extents[(place + q) * 2] = maximum[q];
                extents[(place + q) * 2 + 1] = sum[q];
            }
            #[unroll]
            for own in 0..own_pieces {
                let piece = unit + comptime!(own * units);
                if piece < pieces {
                    #[unroll]
                    for four in 0..fours {
                        let found = output[comptime!((q * own_pieces + own) * fours + four)];
                        if comptime!(variant.split) {
                            let at = (place + q) * comptime!(pieces * fours);
                            partials[at + piece * fours + four] = found;
                        } else {
                            y[result[q] + piece * fours + four] = found * Vector::new(factor);
                        }
                    }
                }
            }
        }
    }
}

/// Merges the chunks of rows. `partials` `[tasks, heads, head_dim]`, `extents` `[tasks, heads, 2]`:
/// a chunk's maximum and sum. `merges` `[cubes, 3]`: a row, its first task, and how many it has.
///
/// Grid: rows by heads.
#[cube(launch, launch_unchecked)]
pub fn merge_chunks(
    partials: &[Vector<f32, Four>],
    extents: &[f32],
    merges: &[u32],
    y: &mut [Vector<f32, Four>],
    query_fours: u32,
    heads: u32,
    head_fours: u32,
    #[comptime] units: usize,
) {
    let row = merges[CUBE_POS_X as usize * 3] as usize;
    let first = merges[CUBE_POS_X as usize * 3 + 1] as usize;
    let count = merges[CUBE_POS_X as usize * 3 + 2] as usize;
    let head = CUBE_POS_Y as usize;
    let heads = heads as usize;
    let head_fours = head_fours as usize;
    let mut four = UNIT_POS_X as usize;
    while four < head_fours {
        let mut maximum = f32::new(MASKED);
        let mut sum = 0.0f32;
        let mut output = Vector::<f32, Four>::new(0.0f32);
        for task in first..first + count {
            let place = task * heads + head;
            let chunk_maximum = extents[place * 2];
            let merged = max(maximum, chunk_maximum);
            let old_part = f32::exp(maximum - merged);
            let new_part = f32::exp(chunk_maximum - merged);
            maximum = merged;
            sum = fma(sum, old_part, extents[place * 2 + 1] * new_part);
            let new = partials[place * head_fours + four] * Vector::new(new_part);
            output = fma(output, Vector::new(old_part), new);
        }
        let at = row * query_fours as usize + head * head_fours + four;
        y[at] = output * Vector::new(f32::new(1.0) / sum);
        four += units;
    }
}
