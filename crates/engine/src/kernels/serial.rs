//! The matrix product of [`super::matmul`] for drivers that run a cube's eight units in one SIMD
//! register of the CPU (Mesa's llvmpipe).
//!
//! There a load costs as much as dozens of multiplications and its compilation as much as
//! thousands, and units that wait for each other cost more still. So a cube has just the eight
//! units of a row tile; it copies one block of the columns into registers, goes through all its
//! tiles with it, and keeps their sums in an array of its own. No statement loads twice.
//!
//! A row is summed block by block in order, whatever the number of columns.
//!
//! One kernel does for every epilogue, with or without a bias: what follows the sums is little
//! beside them, and each kernel more takes seconds to compile.

use cubecl::prelude::*;
use infera_model::quant::TensorType;

use super::Four;
use super::matmul::{Epilogue, Gate, activate, load_block, scales, value};
use super::pack;

/// Row tiles of a cube, at most.
pub const TILES: usize = 64;

/// What of the kernel is known when it is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SerialVariant {
    pub kind: TensorType,
    /// Columns of a cube.
    pub columns: usize,
}

/// Columns, of so many in a cube, that share arrays.
pub(crate) const fn group(columns: usize) -> usize {
    if columns < GROUP { columns } else { GROUP }
}

/// [`Epilogue`] as a number. From [`GATED`] on the activation takes part, and with [`GELU`] added
/// it is the other one.
pub(crate) const fn code(epilogue: Epilogue) -> u32 {
    match epilogue {
        Epilogue::Store => STORE,
        Epilogue::Add => ADD,
        Epilogue::Gated(gate) => GATED + gelu(gate),
        Epilogue::Times(gate) => TIMES + gelu(gate),
    }
}

const fn gelu(gate: Gate) -> u32 {
    match gate {
        Gate::Silu => 0,
        Gate::GeluTanh => GELU,
    }
}

/// Columns that share arrays.
const GROUP: usize = 4;

const STORE: u32 = 0;
const ADD: u32 = 1;
const GATED: u32 = 2;
const TIMES: u32 = 4;
const GELU: u32 = 1;

/// Grid: row tiles by `tiles_each` (even, at most [`TILES`]), `columns` by the variant's.
/// `epilogue` is a [`code`], `biased` 1 or 0. `fill` repeats a group's columns
/// times 8, for loops that no compiler shall unroll.
#[cube(launch, launch_unchecked)]
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
    epilogue: u32,
    biased: u32,
    #[comptime] variant: SerialVariant,
) {
    let kind = comptime!(variant.kind);
    let wide = comptime!(variant.columns);
    // Columns of a group.
    let per = comptime!(group(wide));
    let groups = comptime!(wide / per);
    let float = comptime!(pack::is_float(kind));

    let lane = UNIT_POS_X as usize;
    let blocks = blocks as usize;
    let high_at = high_at as usize;
    let supers_at = supers_at as usize;
    let first_tile = CUBE_POS_X as usize * tiles_each as usize;
    let tiles = min(tiles_each as usize, row_tiles as usize - first_tile);
    let first_column = CUBE_POS_Y as usize * wide;
    let last_column = columns as usize - 1;
    let own_columns = min(columns as usize - first_column, wide);

    // An array for each group: the driver's compiler takes the square of the accesses to one.
    let mut sums = Sequence::<Array<f32>>::new();
    let mut inputs = Sequence::<Array<Vector<f32, Four>>>::new();
    let mut totals = Sequence::<Array<f32>>::new();
    #[unroll]
    for _ in 0..groups {
        let mut zeros = Array::<f32>::new(comptime!(TILES * per));
        let mut at = 0usize;
        while at < tiles * per {
            zeros[at] = 0.0;
            at += 1;
        }
        sums.push(zeros);
        inputs.push(Array::new(comptime!(per * 8)));
        // One for the first and one for the second half of a block.
        totals.push(Array::new(comptime!(per * 2)));
    }
    let mut block = 0usize;
    while block < blocks {
        #[unroll]
        for group in 0..groups {
            let inputs = inputs.index_mut(group);
            let totals = totals.index_mut(group);
            let mut at = 0usize;
            while at < fill as usize {
                let column = min(first_column + comptime!(group * per) + at / 8, last_column);
                inputs[at] = x[(column * blocks + block) * 8 + at % 8];
                at += 1;
            }
            if comptime!(!float) {
                #[unroll]
                for half in 0..comptime!(per * 2) {
                    let mut total = Vector::<f32, Four>::new(0.0f32);
                    #[unroll]
                    for four in 0..4usize {
                        total += inputs[comptime!(half * 4 + four)];
                    }
                    totals[half] = (total.extract(0usize) + total.extract(1usize))
                        + (total.extract(2usize) + total.extract(3usize));
                }
            }
        }
        let mut tile = 0usize;
        while tile < tiles {
            let row = (first_tile + tile) * blocks + block;
            let mut words = Array::<Vector<u32, Four>>::new(comptime!(pack::pieces(kind)));
            let mut high = Array::<u32>::new(comptime!(max(pack::high_words(kind), 1)));
            load_block(
                quants, side, &mut words, &mut high, row, lane, high_at, kind,
            );
            let mut weights = Array::<f32>::new(32usize);
            #[unroll]
            for k in 0..32usize {
                weights[k] = value(&words, &high, 0usize, k, kind);
            }
            let mut scale = Vector::<f32, Four>::new(0.0f32);
            if comptime!(!float) {
                scale = scales(
                    side,
                    supers_at,
                    first_tile + tile,
                    block,
                    blocks,
                    lane,
                    kind,
                );
            }
            #[unroll]
            for group in 0..groups {
                if comptime!(group * per) < own_columns {
                    let sums = sums.index_mut(group);
                    let inputs = inputs.index(group);
                    let totals = totals.index(group);
                    #[unroll]
                    for c in 0..per {
                        // Two sums, so that additions need not wait for each other.
                        let mut products = Array::<f32>::new(2usize);
                        #[unroll]
                        for half in 0..2usize {
                            products[half] = 0.0;
                        }
                        #[unroll]
                        for four in 0..8usize {
                            let input = inputs[comptime!(c * 8 + four)];
                            let half = comptime!(four / 4);
                            #[unroll]
                            for element in 0..4usize {
                                let k = comptime!(four * 4 + element);
                                // Not `fma`: there it is a call for each lane.
                                products[half] += weights[k] * input.extract(element);
                            }
                        }
                        let at = tile * per + c;
                        let first = products[0];
                        let second = products[1];
                        if float {
                            sums[at] += first + second;
                        } else {
                            let first_total = totals[comptime!(c * 2)];
                            let second_total = totals[comptime!(c * 2 + 1)];
                            if comptime!(kind == TensorType::Q6K) {
                                let one = scale.extract(0usize) * first
                                    + scale.extract(1usize) * first_total;
                                let two = scale.extract(2usize) * second
                                    + scale.extract(3usize) * second_total;
                                sums[at] += one + two;
                            } else {
                                let product = scale.extract(0usize) * (first + second);
                                let offset = scale.extract(1usize) * (first_total + second_total);
                                sums[at] += product + offset;
                            }
                        }
                    }
                }
            }
            tile += 1;
        }
        block += 1;
    }

    let gated = epilogue == GATED || epilogue == GATED + GELU;
    let step = select(gated, 2usize, 1usize);
    #[unroll]
    for group in 0..groups {
        let sums = sums.index(group);
        let mut tile = 0usize;
        while tile < tiles {
            let row = (first_tile + tile) / step * 8 + lane;
            let mut own_bias = 0.0f32;
            if biased == 1u32 {
                own_bias = bias[min(row, rows as usize - 1)];
            }
            let mut c = 0usize;
            while c < fill as usize / 8 {
                let column = comptime!(group * per) + c;
                if row < rows as usize && column < own_columns {
                    let at = (first_column + column) * y_stride as usize + y_at as usize + row;
                    let product = sums[tile * per + c] + own_bias;
                    let mut result = product;
                    if epilogue == ADD {
                        result += y[at];
                    } else if epilogue >= GATED {
                        let mut gate = product;
                        let mut factor = product;
                        if gated {
                            factor = sums[(tile + 1) * per + c];
                        } else {
                            gate = other[at];
                        }
                        let silu = activate(gate, Gate::Silu);
                        let gelu = activate(gate, Gate::GeluTanh);
                        result = select(epilogue % 2u32 == GELU, gelu, silu) * factor;
                    }
                    y[at] = result;
                }
                c += 1;
            }
            tile += step;
        }
    }
}
