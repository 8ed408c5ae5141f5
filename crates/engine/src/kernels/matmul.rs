//! A packed matrix times columns of activations: the decode mat-vec, the skinny and the prefill
//! matrix product.
//!
//! `y[column, row] = epilogue(sum over k of w[row, k] * x[column, k])`, with `w` as in
//! [`super::pack`], `x` `[columns, blocks * 32]` (zeros behind the last value) and `y`
//! `[columns, y_stride]`, both f32.
//!
//! A cube has `8 x splits` units: unit `(lane, split)` computes `tiles` rows, one in each of as
//! many tiles, for `columns` columns, over the blocks `split`, `split + splits`, ... The partial
//! sums of a row are then added in the order of `split`. So the order of summation depends on
//! `splits` only: a column's result has the same bits whatever it is computed beside.
//!
//! Where `x` goes through an RMS norm first, a cube can do that itself: it keeps its columns,
//! normalised, in shared memory. The bits are those of [`super::norm::rms_norm`] with as many units.

use cubecl::prelude::*;
use infera_model::quant::TensorType;

use super::Four;
use super::half::f16_to_f32;
use super::norm::{add_squares, inverse_rms, normed};
use super::pack;

/// What is done with a product before it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Epilogue {
    Store,
    /// Adds to what `y` holds: the residual stream.
    Add,
    /// Tiles alternate between gate and up; stores `activation(gate) * up`.
    Gated(Gate),
    /// Stores `activation(other[column, row]) * product`; `other` has `y`'s stride.
    Times(Gate),
}

/// What a gated linear unit's gate goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Gate {
    Silu,
    GeluTanh,
}

/// How a product is cut up. `splits` alone decides the order of summation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TiledVariant {
    pub kind: TensorType,
    pub epilogue: Epilogue,
    pub bias: bool,
    /// Row tiles of one unit; even where gate and up alternate.
    pub tiles: usize,
    /// Columns of one unit.
    pub columns: usize,
    /// Units that share a row.
    pub splits: usize,
    /// Where `x` is normalised first, the 16-byte pieces of a column.
    pub norm: Option<usize>,
    pub planes: bool,
}

impl TiledVariant {
    const fn units(&self) -> usize {
        pack::TILE * self.splits
    }
}

/// An 8-bit number at byte `at`, sign extended.
#[cube]
fn signed_byte(word: u32, #[comptime] at: u32) -> f32 {
    f32::cast_from(i32::reinterpret(word << comptime!(24 - 8 * at)) >> 24i32)
}

/// Value `k` of a block, an integer for quantised kinds.
#[cube]
pub(super) fn value(
    pieces: &Array<Vector<u32, Four>>,
    high: &Array<u32>,
    #[comptime] first: usize,
    #[comptime] k: usize,
    #[comptime] kind: TensorType,
) -> f32 {
    if comptime!(kind == TensorType::F32) {
        f32::reinterpret(pieces[comptime!(first + k / 4)].extract(comptime!(k % 4)))
    } else if comptime!(kind == TensorType::BF16) {
        let word = pieces[comptime!(first + k / 8)].extract(comptime!(k / 2 % 4));
        if comptime!(k.is_multiple_of(2)) {
            f32::reinterpret(word << 16u32)
        } else {
            f32::reinterpret(word & 0xffff_0000u32)
        }
    } else if comptime!(kind == TensorType::F16) {
        let word = pieces[comptime!(first + k / 8)].extract(comptime!(k / 2 % 4));
        f16_to_f32((word >> comptime!((k % 2 * 16) as u32)) & 0xffffu32)
    } else if comptime!(kind == TensorType::Q8_0) {
        let word = pieces[comptime!(first + k / 16)].extract(comptime!(k / 4 % 4));
        signed_byte(word, comptime!((k % 4) as u32))
    } else {
        let word = pieces[first].extract(comptime!(k % 16 / 4));
        let low = (word >> comptime!((k % 4 * 8 + k / 16 * 4) as u32)) & 15u32;
        let words = comptime!(pack::high_words(kind));
        if comptime!(words == 0) {
            f32::cast_from(i32::reinterpret(low))
        } else if comptime!(words == 1) {
            let bits = high[comptime!(first)];
            let above = ((bits >> comptime!(k as u32)) & 1u32) << 4u32;
            f32::cast_from(i32::reinterpret(low | above))
        } else {
            let bits = high[comptime!(first * 2 + k / 16)];
            let above = ((bits >> comptime!((k % 16 * 2) as u32)) & 3u32) << 4u32;
            f32::cast_from(i32::reinterpret(low | above))
        }
    }
}

/// A lane's quants and high bits of a block; `row` counts the blocks of all tiles.
#[cube]
pub(super) fn load_block(
    quants: &[Vector<u32, Four>],
    side: &[u32],
    words: &mut Array<Vector<u32, Four>>,
    high: &mut Array<u32>,
    row: usize,
    lane: usize,
    high_at: usize,
    #[comptime] kind: TensorType,
) {
    let pieces = comptime!(pack::pieces(kind));
    let high_words = comptime!(pack::high_words(kind));
    #[unroll]
    for piece in 0..pieces {
        words[piece] = quants[(row * pieces + piece) * 8 + lane];
    }
    #[unroll]
    for word in 0..high_words {
        high[word] = side[high_at + (row * high_words + word) * 8 + lane];
    }
}

/// A row's block: scale and offset of its first, then of its second half. A weight is
/// `scale * value + offset`; only `Q6_K` has halves that differ.
#[cube]
pub(super) fn scales(
    side: &[u32],
    supers_at: usize,
    tile: usize,
    block: usize,
    blocks: usize,
    lane: usize,
    #[comptime] kind: TensorType,
) -> Vector<f32, Four> {
    let mut all = Vector::<f32, Four>::new(0.0f32);
    if comptime!(pack::has_minimum(kind)) {
        let word = side[(tile * blocks + block) * 8 + lane];
        all.insert(0usize, f16_to_f32(word & 0xffffu32));
        all.insert(1usize, f16_to_f32(word >> 16u32));
    } else {
        let pair = side[(tile * ((blocks + 1) / 2) + block / 2) * 8 + lane];
        let bits = (pair >> ((block % 2) as u32 * 16u32)) & 0xffffu32;
        if comptime!(pack::is_super(kind)) {
            let word = side[supers_at + (tile * ((blocks + 7) / 8) + block / 8) * 8 + lane];
            let scale = f16_to_f32(word & 0xffffu32);
            if comptime!(kind == TensorType::Q6K) {
                let first = scale * signed_byte(bits, 0u32);
                let second = scale * signed_byte(bits, 1u32);
                all.insert(0usize, first);
                all.insert(1usize, first * f32::new(-32.0));
                all.insert(2usize, second);
                all.insert(3usize, second * f32::new(-32.0));
            } else {
                let minimum = f16_to_f32(word >> 16u32);
                all.insert(
                    0usize,
                    scale * f32::cast_from(i32::reinterpret(bits & 0xffu32)),
                );
                all.insert(
                    1usize,
                    -minimum * f32::cast_from(i32::reinterpret(bits >> 8u32)),
                );
            }
        } else {
            let middle = comptime!(match kind {
                TensorType::Q4_0 => -8.0f32,
                TensorType::Q5_0 => -16.0f32,
                _ => 0.0f32,
            });
            let scale = f16_to_f32(bits);
            all.insert(0usize, scale);
            all.insert(1usize, scale * f32::new(middle));
        }
    }
    all
}

#[cube]
pub(super) fn activate(x: f32, #[comptime] gate: Gate) -> f32 {
    let argument = if comptime!(gate == Gate::Silu) {
        x
    } else {
        // x / 2 * (1 + tanh(u)) is x / (1 + exp(-2u)).
        let cube = x * x * x;
        (x + cube * f32::new(0.044_715)) * f32::new(1.595_769)
    };
    // The bound keeps the exponential finite; beyond it the result rounds to 0.
    x / (f32::new(1.0) + f32::exp(min(-argument, f32::new(87.0))))
}

/// Stores a product at `y[at]`; `up` is the one beside it where gate and up alternate.
#[cube]
pub(super) fn store(
    y: &mut [f32],
    other: &[f32],
    at: usize,
    product: f32,
    up: f32,
    #[comptime] epilogue: Epilogue,
) {
    match comptime!(epilogue) {
        Epilogue::Store => {
            y[at] = product;
        }
        Epilogue::Add => {
            y[at] += product;
        }
        Epilogue::Gated(gate) => {
            y[at] = activate(product, gate) * up;
        }
        Epilogue::Times(gate) => {
            y[at] = activate(other[at], gate) * product;
        }
    }
}

/// Grid: `row_tiles` by `tiles`, `columns` by the variant's. `rows` are those stored: half of the
/// tiles' where gate and up alternate. `norm` are the norm's weights; `unit_count` repeats the units
/// for a loop that no compiler shall unroll.
#[cube(launch, launch_unchecked)]
pub fn tiled_matmul(
    quants: &[Vector<u32, Four>],
    side: &[u32],
    x: &[Vector<f32, Four>],
    other: &[f32],
    bias: &[f32],
    norm: &[Vector<f32, Four>],
    y: &mut [f32],
    blocks: u32,
    rows: u32,
    row_tiles: u32,
    columns: u32,
    high_at: u32,
    supers_at: u32,
    y_stride: u32,
    y_at: u32,
    inverse_width: f32,
    epsilon: f32,
    unit_count: u32,
    #[comptime] variant: TiledVariant,
) {
    let kind = comptime!(variant.kind);
    let tiles = comptime!(variant.tiles);
    let wide = comptime!(variant.columns);
    let pieces = comptime!(pack::pieces(kind));
    let high_words = comptime!(pack::high_words(kind));
    let float = comptime!(pack::is_float(kind));
    let halves = comptime!(pack::halves(kind));
    let half_values = comptime!(32 / halves);

    // Not two dimensions: WGSL has no planes there.
    let lane = UNIT_POS as usize % 8;
    let split = UNIT_POS as usize / 8;
    let blocks = blocks as usize;
    let rows = rows as usize;
    let last_tile = row_tiles as usize - 1;
    let first_tile = CUBE_POS_X as usize * tiles;
    let first_column = CUBE_POS_Y as usize * wide;
    let last_column = columns as usize - 1;
    let high_at = high_at as usize;
    let supers_at = supers_at as usize;

    let mut sums = Array::<f32>::new(comptime!(tiles * wide));
    #[unroll]
    for index in 0..comptime!(tiles * wide) {
        sums[index] = 0.0;
    }
    // Tiles and columns over the edge compute the last one again and store nothing.
    let mut tile = Array::<usize>::new(tiles);
    #[unroll]
    for t in 0..tiles {
        tile[t] = min(first_tile + t, last_tile);
    }
    let mut column = Array::<usize>::new(wide);
    #[unroll]
    for c in 0..wide {
        column[c] = min(first_column + c, last_column) * blocks * 8;
    }
    let kept = comptime!(variant.norm.unwrap_or_default());
    let mut normal = Shared::<[Vector<f32, Four>]>::new_slice(comptime!(max(wide * kept, 1)));
    if comptime!(kept > 0) {
        let mut factors = Array::<f32>::new(wide);
        #[unroll]
        for c in 0..wide {
            factors[c] = 0.0;
        }
        let mut at = UNIT_POS as usize;
        while at < kept {
            #[unroll]
            for c in 0..wide {
                factors[c] = add_squares(factors[c], x[column[c] + at]);
            }
            at += comptime!(variant.units());
        }
        inverse_rms(
            &mut factors,
            inverse_width,
            epsilon,
            unit_count,
            wide,
            comptime!(variant.units()),
            variant.planes,
        );
        let mut at = UNIT_POS as usize;
        while at < kept {
            let weight = norm[at];
            #[unroll]
            for c in 0..wide {
                normal[comptime!(c * kept) + at] = normed(x[column[c] + at], factors[c], weight);
            }
            at += comptime!(variant.units());
        }
        sync_cube();
    }

    let mut block = split;
    while block < blocks {
        let mut words = Array::<Vector<u32, Four>>::new(comptime!(tiles * pieces));
        let mut high = Array::<u32>::new(comptime!(max(tiles * high_words, 1)));
        #[unroll]
        for t in 0..tiles {
            #[unroll]
            for piece in 0..pieces {
                let at = ((tile[t] * blocks + block) * pieces + piece) * 8 + lane;
                words[comptime!(t * pieces + piece)] = quants[at];
            }
            #[unroll]
            for word in 0..high_words {
                let at = ((tile[t] * blocks + block) * high_words + word) * 8 + lane;
                high[comptime!(t * high_words + word)] = side[high_at + at];
            }
        }
        let mut products = Array::<f32>::new(comptime!(tiles * wide * halves));
        let mut totals = Array::<f32>::new(comptime!(wide * halves));
        if comptime!(!float) {
            #[unroll]
            for index in 0..comptime!(tiles * wide * halves) {
                products[index] = 0.0;
            }
            #[unroll]
            for index in 0..comptime!(wide * halves) {
                totals[index] = 0.0;
            }
        }
        #[unroll]
        for four in 0..8usize {
            let half = comptime!(four * 4 / half_values);
            let mut inputs = Array::<Vector<f32, Four>>::new(wide);
            #[unroll]
            for c in 0..wide {
                inputs[c] = if comptime!(kept > 0) {
                    normal[comptime!(c * kept + four) + block * 8]
                } else {
                    x[column[c] + block * 8 + four]
                };
            }
            #[unroll]
            for element in 0..4usize {
                #[unroll]
                for c in 0..wide {
                    if comptime!(!float) {
                        let at = comptime!(c * halves + half);
                        totals[at] += inputs[c].extract(element);
                    }
                }
                #[unroll]
                for t in 0..tiles {
                    let weight = value(
                        &words,
                        &high,
                        comptime!(t * pieces),
                        comptime!(four * 4 + element),
                        kind,
                    );
                    #[unroll]
                    for c in 0..wide {
                        let input = inputs[c].extract(element);
                        if float {
                            let at = comptime!(t * wide + c);
                            sums[at] = fma(weight, input, sums[at]);
                        } else {
                            let at = comptime!((t * wide + c) * halves + half);
                            products[at] = fma(weight, input, products[at]);
                        }
                    }
                }
            }
        }
        if comptime!(!float) {
            #[unroll]
            for t in 0..tiles {
                let scales = scales(side, supers_at, tile[t], block, blocks, lane, kind);
                #[unroll]
                for c in 0..wide {
                    let at = comptime!(t * wide + c);
                    #[unroll]
                    for half in 0..halves {
                        let product = products[comptime!(at * halves + half)];
                        let total = totals[comptime!(c * halves + half)];
                        let lower = fma(scales.extract(comptime!(2 * half + 1)), total, sums[at]);
                        sums[at] = fma(scales.extract(comptime!(2 * half)), product, lower);
                    }
                }
            }
        }
        block += comptime!(variant.splits);
    }

    if comptime!(variant.splits > 1) {
        let mut partial = Shared::<[f32]>::new_slice(comptime!(variant.splits * 8 * tiles * wide));
        #[unroll]
        for index in 0..comptime!(tiles * wide) {
            partial[(split * comptime!(tiles * wide) + index) * 8 + lane] = sums[index];
        }
        sync_cube();
        #[unroll]
        for index in 0..comptime!(tiles * wide) {
            let mut sum = partial[index * 8 + lane];
            for other_split in 1..comptime!(variant.splits) {
                sum += partial[(other_split * comptime!(tiles * wide) + index) * 8 + lane];
            }
            sums[index] = sum;
        }
    }

    if split == 0 {
        let gated = comptime!(matches!(variant.epilogue, Epilogue::Gated(_)));
        let step = comptime!(if gated { 2usize } else { 1usize });
        #[unroll]
        for t in 0..comptime!(tiles / step) {
            let row = (first_tile / step + t) * 8 + lane;
            if row < rows {
                #[unroll]
                for c in 0..wide {
                    if first_column + c <= last_column {
                        let at = (first_column + c) * y_stride as usize + y_at as usize + row;
                        let mut product = sums[comptime!(t * step * wide + c)];
                        if comptime!(variant.bias) {
                            product += bias[row];
                        }
                        let mut up = 0.0f32;
                        if gated {
                            up = sums[comptime!((t * step + 1) * wide + c)];
                        }
                        store(y, other, at, product, up, variant.epilogue);
                    }
                }
            }
        }
    }
}
