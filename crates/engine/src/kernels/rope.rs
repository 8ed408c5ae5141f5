//! Rotary positions, the norm of queries and keys per head, and the write into the paged KV cache.
//!
//! `qkv` `[rows, qkv_stride]` in f32 holds a row's query heads, then key heads, then value heads,
//! each `head_dim` wide, the rotated pairs `(i, i + rotated / 2)`. `place` `[rows, 2]` gives a
//! row's position and its block there. `angles` `[rows, rotated]`: cosines, then sines. Queries go
//! to `queries` `[rows, heads, head_dim]`, multiplied by `scale`.
//!
//! A block holds 32 positions. Keys: `[block, kv_head, head_dim / 4, position, 4]`, so that units
//! with neighbouring positions read neighbouring 16 bytes; values:
//! `[block, kv_head, position, head_dim]`.

use cubecl::prelude::*;

/// What of the kernel is known when it is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    pub head_dim: usize,
    /// How many values of a head are rotated.
    pub rotated: usize,
    /// Each head's query and key go through an RMS norm first, with weights `[head_dim]` each.
    pub norm: bool,
    pub units: usize,
}

/// Grid: rows by `heads + 2 * kv_heads`.
#[cube(launch_unchecked)]
pub fn rope_and_store(
    qkv: &[f32],
    place: &[u32],
    angles: &[f32],
    query_norm: &[f32],
    key_norm: &[f32],
    queries: &mut [f32],
    keys: &mut [f32],
    values: &mut [f32],
    qkv_stride: u32,
    query_stride: u32,
    heads: u32,
    kv_heads: u32,
    scale: f32,
    epsilon: f32,
    #[comptime] shape: Shape,
) {
    let head_dim = comptime!(shape.head_dim);
    let half = comptime!(shape.rotated / 2);
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

    let mut factor = 1.0f32;
    if comptime!(shape.norm) && !is_value {
        let mut squares = 0.0f32;
        for at in 0..head_dim {
            let x = qkv[from + at];
            squares = fma(x, x, squares);
        }
        factor =
            f32::new(1.0) / f32::sqrt(squares / f32::new(comptime!(head_dim as f32)) + epsilon);
    }
    let mut at = UNIT_POS_X as usize;
    while at < head_dim {
        if is_value {
            let kv = head - heads - kv_heads;
            values[((block * kv_heads + kv) * 32 + slot) * head_dim + at] = qkv[from + at];
        } else {
            let is_rotated = at < comptime!(2 * half);
            let partner = select(at < half, at + half, at - half);
            let partner = select(is_rotated, partner, at);
            let mut own = qkv[from + at];
            let mut other = qkv[from + partner];
            if comptime!(shape.norm) {
                if is_query {
                    own = own * factor * query_norm[at];
                    other = other * factor * query_norm[partner];
                } else {
                    own = own * factor * key_norm[at];
                    other = other * factor * key_norm[partner];
                }
            }
            let mut turned = own;
            if is_rotated {
                let pair = at % half;
                let cosine = angles[row * comptime!(shape.rotated) + pair];
                let sine = angles[row * comptime!(shape.rotated) + half + pair];
                let signed = select(at < half, -other, other);
                turned = own * cosine + signed * sine;
            }
            if is_query {
                queries[row * query_stride as usize + head * head_dim + at] = turned * scale;
            } else {
                let kv = head - heads;
                let four = ((block * kv_heads + kv) * comptime!(head_dim / 4) + at / 4) * 32 + slot;
                keys[four * 4 + at % 4] = turned;
            }
        }
        at += comptime!(shape.units);
    }
}
