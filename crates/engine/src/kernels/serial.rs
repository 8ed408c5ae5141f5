//! The matrix product of [`super::matmul`] for drivers that run a cube's eight units in one SIMD
//! register of the CPU (Mesa's llvmpipe).
//!
//! There a load costs as much as dozens of multiplications and its compilation as much as
//! thousands, and units that wait for each other cost more still. So a cube has just the eight
//! units of a row tile; it copies one block of the columns into registers, goes through all its
//! tiles with it, and keeps their sums in an array of its own. No statement loads twice.
//!
//! A row is summed block by block in order, whatever the number of columns.

use cubecl::prelude::*;
use infera_model::quant::TensorType;

use super::Four;
use super::matmul::{Epilogue, scales, store, value};
use super::pack;

/// Row tiles of a cube, at most.
pub const TILES: usize = 64;

/// What of the kernel is known when it is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    pub kind: TensorType,
    pub epilogue: Epilogue,
    pub bias: bool,
    /// Columns of a cube.
    pub columns: usize,
}

/// Grid: row tiles by `tiles_each` (even, at most [`TILES`]), `columns` by the shape's.
/// `fill` repeats the shape's columns times 8, for a loop that no compiler shall unroll.
#[cube(launch_unchecked)]
pub fn serial_matmul(
    quants: &[Vector<u32, Four>],
    side: &[u32],
    x: &[Vector<f32, Four>],
    other: &[f32],
    bias: &[f32],
    y: &mut [f32],
    blocks: u32,
    rows: u32,
    row_tiles: u32,
    tiles_each: u32,
    columns: u32,
    fill: u32,
    high_at: u32,
    supers_at: u32,
    y_stride: u32,
    y_at: u32,
    #[comptime] shape: Shape,
) {
    let kind = comptime!(shape.kind);
    let wide = comptime!(shape.columns);
    let pieces = comptime!(pack::pieces(kind));
    let high_words = comptime!(pack::high_words(kind));
    let float = comptime!(pack::is_float(kind));

    let lane = UNIT_POS_X as usize;
    let blocks = blocks as usize;
    let fill = fill as usize;
    let high_at = high_at as usize;
    let supers_at = supers_at as usize;
    let first_tile = CUBE_POS_X as usize * tiles_each as usize;
    let tiles = min(tiles_each as usize, row_tiles as usize - first_tile);
    let first_column = CUBE_POS_Y as usize * wide;
    let last_column = columns as usize - 1;
    let own_columns = min(columns as usize - first_column, fill / 8);

    let mut sums = Array::<f32>::new(comptime!(TILES * wide));
    let mut at = 0usize;
    while at < tiles * wide {
        sums[at] = 0.0;
        at += 1;
    }
    let mut inputs = Array::<Vector<f32, Four>>::new(comptime!(wide * 8));
    let mut block = 0usize;
    while block < blocks {
        let mut at = 0usize;
        while at < fill {
            let column = min(first_column + at / 8, last_column);
            inputs[at] = x[(column * blocks + block) * 8 + at % 8];
            at += 1;
        }
        // Of the first and the second half of a block.
        let mut totals = Array::<f32>::new(comptime!(wide * 2));
        if comptime!(!float) {
            #[unroll]
            for half in 0..comptime!(wide * 2) {
                let mut total = Vector::<f32, Four>::new(0.0f32);
                #[unroll]
                for four in 0..4usize {
                    total += inputs[comptime!(half * 4 + four)];
                }
                totals[half] = (total.extract(0usize) + total.extract(1usize))
                    + (total.extract(2usize) + total.extract(3usize));
            }
        }
        let mut tile = 0usize;
        while tile < tiles {
            let row = (first_tile + tile) * blocks + block;
            let mut words = Array::<Vector<u32, Four>>::new(pieces);
            #[unroll]
            for piece in 0..pieces {
                words[piece] = quants[(row * pieces + piece) * 8 + lane];
            }
            let mut high = Array::<u32>::new(comptime!(max(high_words, 1)));
            #[unroll]
            for word in 0..high_words {
                high[word] = side[high_at + (row * high_words + word) * 8 + lane];
            }
            // Two sums, so that additions need not wait for each other.
            let mut products = Array::<f32>::new(comptime!(wide * 2));
            #[unroll]
            for index in 0..comptime!(wide * 2) {
                products[index] = 0.0;
            }
            #[unroll]
            for four in 0..8usize {
                let mut weights = Array::<f32>::new(4usize);
                #[unroll]
                for element in 0..4usize {
                    let k = comptime!(four * 4 + element);
                    weights[element] = value(&words, &high, 0usize, k, kind);
                }
                #[unroll]
                for c in 0..wide {
                    let input = inputs[comptime!(c * 8 + four)];
                    let at = comptime!(c * 2 + four / 4);
                    #[unroll]
                    for element in 0..4usize {
                        // Not `fma`: there it is a call for each lane.
                        products[at] += weights[element] * input.extract(element);
                    }
                }
            }
            if float {
                #[unroll]
                for c in 0..wide {
                    let at = tile * wide + c;
                    sums[at] += products[comptime!(c * 2)] + products[comptime!(c * 2 + 1)];
                }
            } else {
                let scales = scales(
                    side,
                    supers_at,
                    first_tile + tile,
                    block,
                    blocks,
                    lane,
                    kind,
                );
                #[unroll]
                for c in 0..wide {
                    let at = tile * wide + c;
                    let first = products[comptime!(c * 2)];
                    let second = products[comptime!(c * 2 + 1)];
                    let first_total = totals[comptime!(c * 2)];
                    let second_total = totals[comptime!(c * 2 + 1)];
                    if comptime!(kind == TensorType::Q6K) {
                        let one =
                            scales.extract(0usize) * first + scales.extract(1usize) * first_total;
                        let two =
                            scales.extract(2usize) * second + scales.extract(3usize) * second_total;
                        sums[at] += one + two;
                    } else {
                        let product = scales.extract(0usize) * (first + second);
                        let offset = scales.extract(1usize) * (first_total + second_total);
                        sums[at] += product + offset;
                    }
                }
            }
            tile += 1;
        }
        block += 1;
    }

    let gated = comptime!(matches!(shape.epilogue, Epilogue::Gated(_)));
    let step = comptime!(if gated { 2usize } else { 1usize });
    let mut tile = 0usize;
    while tile < tiles {
        let row = (first_tile + tile) / step * 8 + lane;
        let mut own_bias = 0.0f32;
        if comptime!(shape.bias) {
            own_bias = bias[min(row, rows as usize - 1)];
        }
        let mut c = 0usize;
        while c < own_columns {
            if row < rows as usize {
                let at = (first_column + c) * y_stride as usize + y_at as usize + row;
                let product = sums[tile * wide + c] + own_bias;
                let mut up = 0.0f32;
                if gated {
                    up = sums[(tile + 1) * wide + c];
                }
                store(y, other, at, product, up, shape.epilogue);
            }
            c += 1;
        }
        tile += step;
    }
}
