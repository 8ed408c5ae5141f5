//! The matrix product of [`super::matmul`] for prompts in numerics profile P16, on the cooperative
//! matrices that GPUs with matrix units have.
//!
//! A cube has 128 units and computes 64 stored rows (eight tiles) for 64 columns, one block of 32
//! inputs after the other: the first half of the units dequantises a row each to f16, the other half
//! rounds a column each; then the planes multiply their share of the fragments, each of which is
//! summed in f32. In what order a fragment is summed is the driver's business, so a prompt has not
//! the bits of steps.

use cubecl::prelude::*;
use half::f16;
use infera_model::quant::TensorType;

use super::Four;
use super::matmul::{Epilogue, load_block, scales, store, value};
use super::pack;

/// Units of a cube.
pub const UNITS: u32 = 128;
/// Row tiles of a cube.
pub const TILES: usize = 8;
/// Columns of a cube.
pub const COLUMNS: usize = 64;

const ROWS: usize = 8 * TILES;
/// The largest f16.
const MOST: f32 = 65504.0;

/// How a device multiplies: `m` rows of weights by `n` columns over `k` values at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fragment {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    /// How many planes a cube has.
    pub planes: usize,
}

impl Fragment {
    /// Whether the planes share the fragments of a cube evenly.
    pub const fn fits(&self) -> bool {
        let whole = ROWS.is_multiple_of(self.m)
            && COLUMNS.is_multiple_of(self.n)
            && pack::BLOCK.is_multiple_of(self.k);
        whole && self.planes > 0 && self.all().is_multiple_of(self.planes)
    }

    const fn all(&self) -> usize {
        ROWS / self.m * (COLUMNS / self.n)
    }

    /// Fragments of a plane.
    const fn own(&self) -> usize {
        self.all() / self.planes
    }
}

/// What of the kernel is known when it is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CooperativeVariant {
    pub kind: TensorType,
    pub epilogue: Epilogue,
    pub bias: bool,
    pub fragment: Fragment,
}

/// Grid: row tiles by [`TILES`], columns by [`COLUMNS`].
#[cube(launch, launch_unchecked)]
pub fn cooperative_matmul(
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
    high_at: u32,
    supers_at: u32,
    y_stride: u32,
    y_at: u32,
    #[comptime] variant: CooperativeVariant,
) {
    let Fragment { m, n, k, .. } = comptime!(variant.fragment);
    let own = comptime!(variant.fragment.own());
    let down = comptime!(ROWS / m);
    let unit = UNIT_POS as usize;
    let blocks = blocks as usize;
    let first_tile = CUBE_POS_X as usize * TILES;
    let first_column = CUBE_POS_Y as usize * COLUMNS;
    let last_tile = row_tiles as usize - 1;
    let last_column = columns as usize - 1;

    let mut weights = Shared::<[f16]>::new_slice(comptime!(ROWS * 32));
    let mut inputs = Shared::<[f16]>::new_slice(comptime!(COLUMNS * 32));
    let mut products = Shared::<[f32]>::new_slice(comptime!(ROWS * COLUMNS));
    let mut sums = Sequence::<cmma::Matrix<f32>>::new();
    #[unroll]
    for _ in 0..own {
        sums.push(cmma::Matrix::<f32>::from_value(
            cmma::MatrixIdent::Accumulator,
            m,
            n,
            k,
            cmma::MatrixLayout::Undefined,
            0.0,
        ));
    }
    let first_fragment = PLANE_POS as usize * own;
    let mut block = 0usize;
    while block < blocks {
        if unit < ROWS {
            let tile = min(first_tile + unit / 8, last_tile);
            dequantise(
                quants,
                side,
                &mut weights,
                tile,
                block,
                blocks,
                unit % 8,
                high_at as usize,
                supers_at as usize,
                unit * 32,
                variant.kind,
            );
        } else {
            let column = unit - ROWS;
            let from = (min(first_column + column, last_column) * blocks + block) * 8;
            #[unroll]
            for four in 0..8usize {
                let input = x[from + four];
                #[unroll]
                for element in 0..4usize {
                    inputs[column * 32 + comptime!(four * 4 + element)] =
                        rounded(input.extract(element));
                }
            }
        }
        sync_cube();
        #[unroll]
        for index in 0..own {
            let fragment = first_fragment + index;
            let row = fragment % down * m * 32;
            let column = fragment / down * n * 32;
            #[unroll]
            for step in 0..comptime!(32 / k) {
                let at = row + comptime!(step * k);
                let a = cmma::Matrix::<f16>::from_slice(
                    cmma::MatrixIdent::A,
                    m,
                    n,
                    k,
                    cmma::MatrixLayout::RowMajor,
                    weights.slice(at, at + comptime!(m * 32)),
                    32,
                );
                let at = column + comptime!(step * k);
                let b = cmma::Matrix::<f16>::from_slice(
                    cmma::MatrixIdent::B,
                    m,
                    n,
                    k,
                    cmma::MatrixLayout::ColMajor,
                    inputs.slice(at, at + comptime!(n * 32)),
                    32,
                );
                let sum = sums.index(index);
                cmma::execute(&a, &b, sum, sum);
            }
        }
        sync_cube();
        block += 1;
    }
    #[unroll]
    for index in 0..own {
        let fragment = first_fragment + index;
        let at = fragment / down * comptime!(n * ROWS) + fragment % down * m;
        cmma::store(
            products.slice_mut(at, at + comptime!(n * ROWS)),
            sums.index(index),
            comptime!(ROWS as u32),
            cmma::MatrixLayout::ColMajor,
        );
    }
    sync_cube();

    let gated = comptime!(matches!(variant.epilogue, Epilogue::Gated(_)));
    let stored = comptime!(if gated { ROWS / 2 } else { ROWS });
    let mut index = unit;
    while index < comptime!(stored * COLUMNS) {
        let own_row = index % stored;
        let own_column = index / stored;
        let mut from = own_row;
        let mut first_row = first_tile * 8;
        if gated {
            from = own_row / 8 * 16 + own_row % 8;
            first_row = first_tile * 4;
        }
        let row = first_row + own_row;
        let column = first_column + own_column;
        if row < rows as usize && column <= last_column {
            let mut product = products[own_column * ROWS + from];
            let mut up = 0.0f32;
            if gated {
                up = products[own_column * ROWS + from + 8];
            }
            if comptime!(variant.bias) {
                product += bias[row];
            }
            let at = column * y_stride as usize + y_at as usize + row;
            store(y, other, at, product, up, variant.epilogue);
        }
        index += comptime!(UNITS as usize);
    }
}

#[cube]
fn rounded(x: f32) -> f16 {
    f16::cast_from(min(max(x, f32::new(-MOST)), f32::new(MOST)))
}

/// Puts a row's 32 values of a block at `weights[at..at + 32]`.
#[cube]
fn dequantise(
    quants: &[Vector<u32, Four>],
    side: &[u32],
    weights: &mut Shared<[f16]>,
    tile: usize,
    block: usize,
    blocks: usize,
    lane: usize,
    high_at: usize,
    supers_at: usize,
    at: usize,
    #[comptime] kind: TensorType,
) {
    let row = tile * blocks + block;
    let mut words = Array::<Vector<u32, Four>>::new(comptime!(pack::pieces(kind)));
    let mut high = Array::<u32>::new(comptime!(max(pack::high_words(kind), 1)));
    load_block(
        quants, side, &mut words, &mut high, row, lane, high_at, kind,
    );
    let mut scale = Vector::<f32, Four>::new(0.0f32);
    if comptime!(!pack::is_float(kind)) {
        scale = scales(side, supers_at, tile, block, blocks, lane, kind);
    }
    #[unroll]
    for index in 0..32usize {
        let mut weight = value(&words, &high, 0usize, index, kind);
        if comptime!(!pack::is_float(kind)) {
            let half = comptime!(2 * (index / (32 / pack::halves(kind))));
            weight = fma(
                scale.extract(half),
                weight,
                scale.extract(comptime!(half + 1)),
            );
        }
        weights[at + index] = rounded(weight);
    }
}
