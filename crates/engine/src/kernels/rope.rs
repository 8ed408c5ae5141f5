//! Rotary positions, the norm of queries and keys per head, and the write into the paged KV cache.
//!
//! `qkv` `[rows, qkv_stride]` in f32 holds a row's query heads, then key heads, then value heads,
//! each `head_dim` wide, the rotated pairs `(i, i + rotated / 2)`. `place` `[rows, 2]` gives a
//! row's position and its block there. `angles` `[rows, rotated]`: cosines, then sines. Queries go
//! to `queries` `[rows, heads, head_dim]`, multiplied by `scale`.
//!
//! A block holds 32 positions, in f32 or f16; 16 bytes are a piece. Keys:
//! `[block, kv_head, piece, position, values of a piece]`, so that units with neighbouring
//! positions read neighbouring 16 bytes; values: `[block, kv_head, position, head_dim]`.

use cubecl::prelude::*;

use super::half::f32_to_f16;
use super::norm::inverse_rms;

/// What of the kernel is known when it is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RopeVariant {
    /// A multiple of 4; for a KV cache in f16, of 8.
    pub head_dim: usize,
    /// How many values of a head are rotated.
    pub rotated: usize,
    /// Each head's query and key go through an RMS norm first, with weights `[head_dim]` each.
    pub norm: bool,
    /// The KV cache is in f16.
    pub half: bool,
    pub units: usize,
    pub planes: bool,
}

impl RopeVariant {
    /// The inverse of a head's width.
    pub(super) const fn inverse_width(&self) -> f32 {
        1.0 / self.head_dim as f32
    }
}

/// Grid: rows by `heads + 2 * kv_heads`. `unit_count` repeats `units` for a loop that no compiler
/// shall unroll.
#[cube(launch, launch_unchecked)]
pub fn rope_and_store(
    qkv: &[f32],
    place: &[u32],
    angles: &[f32],
    query_norm: &[f32],
    key_norm: &[f32],
    queries: &mut [f32],
    keys: &mut [u32],
    values: &mut [u32],
    qkv_stride: u32,
    query_stride: u32,
    heads: u32,
    kv_heads: u32,
    scale: f32,
    epsilon: f32,
    unit_count: u32,
    #[comptime] variant: RopeVariant,
) {
    let head_dim = comptime!(variant.head_dim);
    // Values of a word, and of a piece.
    let of_word = comptime!(if variant.half { 2usize } else { 1usize });
    let of_piece = comptime!(4 * of_word);
    let row = CUBE_POS_X as usize;
    let head = CUBE_POS_Y as usize;
    let heads = heads as usize;
    let kv_heads = kv_heads as usize;
    let from = row * qkv_stride as usize + head * head_dim;
    let position = place[row * 2] as usize;
    let block = place[row * 2 + 1] as usize;
    let slot = position % 32;
    let is_query = head < heads;
    let is_value = head >= heads + kv_heads;

    let factor = head_factor(qkv, from, epsilon, unit_count, variant);
    let mut at = UNIT_POS_X as usize * of_word;
    while at < head_dim {
        let mut stored = Array::<f32>::new(of_word);
        #[unroll]
        for next in 0..of_word {
            let dim = at + next;
            if is_value {
                stored[next] = qkv[from + dim];
            } else {
                stored[next] = turned(
                    qkv, angles, query_norm, key_norm, from, row, dim, is_query, factor, variant,
                );
            }
        }
        if is_query {
            #[unroll]
            for next in 0..of_word {
                let to = row * query_stride as usize + head * head_dim + at + next;
                queries[to] = stored[next] * scale;
            }
        } else {
            let mut word = u32::reinterpret(stored[0]);
            if comptime!(variant.half) {
                word =
                    f32_to_f16(stored[0]) | (f32_to_f16(stored[comptime!(of_word - 1)]) << 16u32);
            }
            if is_value {
                let kv = head - heads - kv_heads;
                values[(((block * kv_heads + kv) * 32 + slot) * head_dim + at) / of_word] = word;
            } else {
                let piece = (block * kv_heads + head - heads) * comptime!(head_dim / of_piece)
                    + at / of_piece;
                keys[(piece * 32 + slot) * 4 + at % of_piece / of_word] = word;
            }
        }
        at += comptime!(variant.units * of_word);
    }
}

/// What a head's values are multiplied by before the weights of their norm; 1 without one. All units
/// must call it.
#[cube]
fn head_factor(
    qkv: &[f32],
    from: usize,
    epsilon: f32,
    unit_count: u32,
    #[comptime] variant: RopeVariant,
) -> f32 {
    let mut factor = Array::<f32>::new(1usize);
    factor[0] = 1.0;
    if comptime!(variant.norm) {
        factor[0] = own_squares(qkv, from, variant);
        inverse_rms(
            &mut factor,
            f32::new(comptime!(variant.inverse_width())),
            epsilon,
            unit_count,
            1usize,
            variant.units,
            variant.planes,
        );
    }
    factor[0]
}

/// The squares of a unit's values of a head.
#[cube]
pub(super) fn own_squares(qkv: &[f32], from: usize, #[comptime] variant: RopeVariant) -> f32 {
    let mut squares = 0.0f32;
    let mut at = UNIT_POS as usize;
    while at < comptime!(variant.head_dim) {
        let x = qkv[from + at];
        squares = fma(x, x, squares);
        at += comptime!(variant.units);
    }
    squares
}

/// Value `dim` of a head's query or key, normed and rotated.
#[cube]
pub(super) fn turned(
    qkv: &[f32],
    angles: &[f32],
    query_norm: &[f32],
    key_norm: &[f32],
    from: usize,
    row: usize,
    dim: usize,
    is_query: bool,
    factor: f32,
    #[comptime] variant: RopeVariant,
) -> f32 {
    let half = comptime!(variant.rotated / 2);
    let is_rotated = dim < comptime!(2 * half);
    let partner = select(dim < half, dim + half, dim - half);
    let partner = select(is_rotated, partner, dim);
    let mut own = qkv[from + dim];
    let mut other = qkv[from + partner];
    if comptime!(variant.norm) {
        if is_query {
            own = own * factor * query_norm[dim];
            other = other * factor * query_norm[partner];
        } else {
            own = own * factor * key_norm[dim];
            other = other * factor * key_norm[partner];
        }
    }
    let mut result = own;
    if is_rotated {
        let pair = dim % half;
        let cosine = angles[row * comptime!(variant.rotated) + pair];
        let sine = angles[row * comptime!(variant.rotated) + half + pair];
        let signed = select(dim < half, -other, other);
        // A compiler may not choose which of the products is rounded.
        result = fma(own, cosine, signed * sine);
    }
    result
}
