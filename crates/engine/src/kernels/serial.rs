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
use super::matmul::{Epilogue, activate, scales, value};
use super::pack;

/// Row tiles of a cube, at most.
pub const TILES: usize = 64;

/// What of the kernel is known when it is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    pub kind: TensorType,
    pub epilogue: Epilogue,
    pub bias: bool,
    /// Columns of a cube: 1 to 4.
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
    let halves = comptime!(if kind == TensorType::Q6K { 2usize } else { 1usize });
    let half_pieces = comptime!(8 / halves);

    let lane = UNIT_POS_X as usize;
    let blocks = blocks as usize;
    let fill = fill as usize;
    let high_at = high_at as usize;
    let supers_at = supers_at as usize;
    let first_tile = CUBE_POS_X as usize * tiles_each as usize;
    let tiles = min(tiles_each as usize, row_tiles as usize - first_tile);
    let first_column = CUBE_POS_Y as usize * wide;
    let last_column = columns as usize - 1;

    // One vector a tile holds the sums of its columns.
    let mut sums = Array::<Vector<f32, Four>>::new(comptime!(TILES));
    let mut tile = 0usize;
    while tile < tiles {
        sums[tile] = Vector::new(0.0f32);
        tile += 1;
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
        let mut totals = Array::<f32>::new(comptime!(wide * halves));
        if comptime!(!float) {
            #[unroll]
            for c in 0..wide {
                #[unroll]
                for half in 0..halves {
                    let mut total = Vector::<f32, Four>::new(0.0f32);
                    #[unroll]
                    for four in 0..half_pieces {
                        total += inputs[comptime!(c * 8 + half * half_pieces + four)];
                    }
                    totals[comptime!(c * halves + half)] = total.extract(0usize)
                        + total.extract(1usize)
                        + total.extract(2usize)
                        + total.extract(3usize);
                }
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
            let mut products = Array::<f32>::new(comptime!(wide * halves));
            #[unroll]
            for index in 0..comptime!(wide * halves) {
                products[index] = 0.0;
            }
            #[unroll]
            for k in 0..32usize {
                let weight = value(&words, &high, 0usize, k, kind);
                let half = comptime!(k / 4 / half_pieces);
                #[unroll]
                for c in 0..wide {
                    let input = inputs[comptime!(c * 8 + k / 4)].extract(comptime!(k % 4));
                    let at = comptime!(c * halves + half);
                    // Not `fma`: there it is a call for each lane.
                    products[at] = products[at] + weight * input;
                }
            }
            let mut sum = sums[tile];
            if float {
                #[unroll]
                for c in 0..wide {
                    sum.insert(c, sum.extract(c) + products[c]);
                }
            } else {
                let scales = scales(side, supers_at, first_tile + tile, block, blocks, lane, kind);
                #[unroll]
                for c in 0..wide {
                    let mut own = sum.extract(c);
                    #[unroll]
                    for half in 0..halves {
                        let at = comptime!(c * halves + half);
                        own = own
                            + scales.extract(comptime!(2 * half)) * products[at]
                            + scales.extract(comptime!(2 * half + 1)) * totals[at];
                    }
                    sum.insert(c, own);
                }
            }
            sums[tile] = sum;
            tile += 1;
        }
        block += 1;
    }

    let gated = comptime!(matches!(shape.epilogue, Epilogue::Gated(_)));
    let step = comptime!(if gated { 2usize } else { 1usize });
    let mut tile = 0usize;
    while tile < tiles {
        let row = (first_tile + tile) / step * 8 + lane;
        let mut products = sums[tile];
        if comptime!(shape.bias) {
            products += Vector::new(bias[min(row, rows as usize - 1)]);
        }
        let mut ups = products;
        if gated {
            ups = sums[tile + 1];
        }
        #[unroll]
        for c in 0..wide {
            if row < rows as usize && first_column + c <= last_column {
                let at = (first_column + c) * y_stride as usize + y_at as usize + row;
                let product = products.extract(c);
                match comptime!(shape.epilogue) {
                    Epilogue::Store => {
                        y[at] = product;
                    }
                    Epilogue::Add => {
                        y[at] = y[at] + product;
                    }
                    Epilogue::Gated(gate) => {
                        y[at] = activate(product, gate) * ups.extract(c);
                    }
                    Epilogue::Times(gate) => {
                        y[at] = activate(other[at], gate) * product;
                    }
                }
            }
        }
        tile += step;
    }
}
