//! The matrix product of [`super::matmul`] for prompts: weights are dequantised once for 64
//! columns, and both go through shared memory.
//!
//! A cube has 128 units and computes 64 stored rows (eight tiles) for 64 columns, one block of 32
//! inputs after the other: the first half of the units dequantises a row each, the other half
//! copies a column each and adds it up; then unit `(across, down)` of 16 by 8 multiplies 4 rows, a
//! pair of lanes in two neighbouring tiles (gate and up, where they alternate), by 8 columns.
//!
//! The order of summation is that of [`super::matmul`] with as many splits, to the bit: the blocks
//! of the first split, then those of the second, and so on, each into a sum of its own.

use cubecl::prelude::*;
use infera_model::quant::TensorType;

use super::Four;
use super::matmul::{Epilogue, load_block, scales, store, value};
use super::pack;

/// Units of a cube: 16 by 8.
pub const UNITS: (u32, u32) = (ACROSS as u32, DOWN as u32);
/// Row tiles of a cube.
pub const TILES: usize = 8;
/// Columns of a cube.
pub const COLUMNS: usize = 64;

const ACROSS: usize = 16;
const DOWN: usize = 8;
const ROWS: usize = 8 * TILES;
/// Rows and columns of one unit.
const OWN_ROWS: usize = ROWS / ACROSS;
const OWN_COLUMNS: usize = COLUMNS / DOWN;
/// From one row or column to the next in shared memory, in 16 bytes: an odd number, so that
/// neighbours are in other banks.
const STRIDE: usize = 9;

/// What of the kernel is known when it is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SharedVariant {
    pub kind: TensorType,
    pub epilogue: Epilogue,
    pub bias: bool,
    pub splits: usize,
}

/// Grid: row tiles by [`TILES`], columns by [`COLUMNS`]. `fours` is 8 by the number of halves that
/// have scales of their own, for a loop that no compiler shall unroll.
#[cube(launch, launch_unchecked)]
pub fn shared_matmul(
    quants: &[Vector<u32, Four>],
    side: &[u32],
    x: &[Vector<f32, Four>],
    other: &[f32],
    bias: &[f32],
    y: &mut [f32],
    blocks: u32,
    rows: u32,
    row_tiles: u32,
    columns: u32,
    fours: u32,
    high_at: u32,
    supers_at: u32,
    y_stride: u32,
    y_at: u32,
    #[comptime] variant: SharedVariant,
) {
    let kind = comptime!(variant.kind);
    let float = comptime!(pack::is_float(kind));
    let halves = comptime!(pack::halves(kind));
    let many = comptime!(OWN_ROWS * OWN_COLUMNS);

    let unit = UNIT_POS as usize;
    let across = UNIT_POS_X as usize;
    let down = UNIT_POS_Y as usize;
    let blocks = blocks as usize;
    let first_tile = CUBE_POS_X as usize * TILES;
    let first_column = CUBE_POS_Y as usize * COLUMNS;
    let last_tile = row_tiles as usize - 1;
    let last_column = columns as usize - 1;

    let mut weights = Shared::<[Vector<f32, Four>]>::new_slice(comptime!(ROWS * STRIDE));
    let mut inputs = Shared::<[Vector<f32, Four>]>::new_slice(comptime!(COLUMNS * STRIDE));
    // For each row, scale and offset of the first and the second half; of each column, the halves'
    // sums.
    let mut row_scales = Shared::<[Vector<f32, Four>]>::new_slice(ROWS);
    let mut totals = Shared::<[f32]>::new_slice(comptime!(2 * COLUMNS));

    let mut whole = Array::<f32>::new(many);
    let mut sums = Array::<f32>::new(many);
    #[unroll]
    for index in 0..many {
        whole[index] = 0.0;
    }
    let mut split = 0usize;
    while split < comptime!(variant.splits) {
        #[unroll]
        for index in 0..many {
            sums[index] = 0.0;
        }
        let mut block = split;
        while block < blocks {
            if unit < ROWS {
                let lane = unit % 8;
                let tile = min(first_tile + unit / 8, last_tile);
                // Where the unit that multiplies this row expects it.
                let own_row = unit % 16 / 8 * 2 + lane % 2;
                let place = own_row * ACROSS + unit / 16 * 4 + lane / 2;
                dequantise(
                    quants,
                    side,
                    &mut weights,
                    tile,
                    block,
                    blocks,
                    lane,
                    high_at as usize,
                    place * STRIDE,
                    kind,
                );
                if comptime!(!float) {
                    row_scales[place] =
                        scales(side, supers_at as usize, tile, block, blocks, lane, kind);
                }
            } else {
                let column = unit - ROWS;
                let from = (min(first_column + column, last_column) * blocks + block) * 8;
                let mut total = 0.0f32;
                #[unroll]
                for four in 0..8usize {
                    let input = x[from + four];
                    inputs[column * STRIDE + four] = input;
                    if comptime!(!float) {
                        if comptime!(halves == 2 && four == 4) {
                            totals[2 * column] = total;
                            total = 0.0;
                        }
                        #[unroll]
                        for element in 0..4usize {
                            total += input.extract(element);
                        }
                    }
                }
                if comptime!(!float) {
                    totals[2 * column + comptime!(halves - 1)] = total;
                }
            }
            sync_cube();
            #[unroll]
            for half in 0..halves {
                let mut products = Array::<f32>::new(many);
                #[unroll]
                for index in 0..many {
                    if float {
                        products[index] = sums[index];
                    } else {
                        products[index] = 0.0;
                    }
                }
                let mut next = 0usize;
                while next < fours as usize {
                    let four = next + comptime!(half * 4);
                    let mut own = Array::<Vector<f32, Four>>::new(OWN_ROWS);
                    #[unroll]
                    for row in 0..OWN_ROWS {
                        own[row] = weights[(comptime!(row * ACROSS) + across) * STRIDE + four];
                    }
                    #[unroll]
                    for column in 0..OWN_COLUMNS {
                        let input = inputs[(comptime!(column * DOWN) + down) * STRIDE + four];
                        #[unroll]
                        for row in 0..OWN_ROWS {
                            let at = comptime!(column * OWN_ROWS + row);
                            #[unroll]
                            for element in 0..4usize {
                                products[at] = fma(
                                    own[row].extract(element),
                                    input.extract(element),
                                    products[at],
                                );
                            }
                        }
                    }
                    next += 1;
                }
                #[unroll]
                for row in 0..OWN_ROWS {
                    let mut scale = Vector::<f32, Four>::new(0.0f32);
                    if comptime!(!float) {
                        scale = row_scales[comptime!(row * ACROSS) + across];
                    }
                    #[unroll]
                    for column in 0..OWN_COLUMNS {
                        let at = comptime!(column * OWN_ROWS + row);
                        if float {
                            sums[at] = products[at];
                        } else {
                            let total = totals[2 * (comptime!(column * DOWN) + down) + half];
                            let offset = scale.extract(comptime!(2 * half + 1));
                            let lower = fma(offset, total, sums[at]);
                            sums[at] = fma(scale.extract(comptime!(2 * half)), products[at], lower);
                        }
                    }
                }
            }
            sync_cube();
            block += comptime!(variant.splits);
        }
        #[unroll]
        for index in 0..many {
            whole[index] = select(split == 0, sums[index], whole[index] + sums[index]);
        }
        split += 1;
    }

    let gated = comptime!(matches!(variant.epilogue, Epilogue::Gated(_)));
    let stored = comptime!(if gated { OWN_ROWS / 2 } else { OWN_ROWS });
    let pair = across / 4;
    #[unroll]
    for own_row in 0..stored {
        let lane = across % 4 * 2 + comptime!(own_row % 2);
        let mut tile = first_tile + pair * 2 + comptime!(own_row / 2);
        if gated {
            tile = first_tile / 2 + pair;
        }
        let row = tile * 8 + lane;
        if row < rows as usize {
            let mut own_bias = 0.0f32;
            if comptime!(variant.bias) {
                own_bias = bias[row];
            }
            #[unroll]
            for own_column in 0..OWN_COLUMNS {
                let column = first_column + comptime!(own_column * DOWN) + down;
                if column <= last_column {
                    let at = column * y_stride as usize + y_at as usize + row;
                    let mut product = whole[comptime!(own_column * OWN_ROWS + own_row)];
                    if comptime!(variant.bias) {
                        product += own_bias;
                    }
                    let mut up = 0.0f32;
                    if gated {
                        up = whole[comptime!(own_column * OWN_ROWS + own_row + 2)];
                    }
                    store(y, other, at, product, up, variant.epilogue);
                }
            }
        }
    }
}

/// Puts a row's 32 values of a block, not yet scaled, at `weights[at..at + 8]`.
#[cube]
fn dequantise(
    quants: &[Vector<u32, Four>],
    side: &[u32],
    weights: &mut Shared<[Vector<f32, Four>]>,
    tile: usize,
    block: usize,
    blocks: usize,
    lane: usize,
    high_at: usize,
    at: usize,
    #[comptime] kind: TensorType,
) {
    let row = tile * blocks + block;
    let mut words = Array::<Vector<u32, Four>>::new(comptime!(pack::pieces(kind)));
    let mut high = Array::<u32>::new(comptime!(max(pack::high_words(kind), 1)));
    load_block(
        quants, side, &mut words, &mut high, row, lane, high_at, kind,
    );
    #[unroll]
    for four in 0..8usize {
        let mut values = Vector::<f32, Four>::new(0.0f32);
        #[unroll]
        for element in 0..4usize {
            let k = comptime!(four * 4 + element);
            values.insert(element, value(&words, &high, 0usize, k, kind));
        }
        weights[at + four] = values;
    }
}
