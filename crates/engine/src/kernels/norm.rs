//! RMS norm of rows.
//!
//! `y[i] = x[i] / sqrt(mean(x[i]^2) + epsilon) * weight (+ y[i])`, with `x` and `y`
//! `[rows, stride]` in f32 and zeros behind the `width` values of a row. One cube a row; unit `u`
//! adds the squares of the 16-byte pieces `u`, `u + units`, ..., then the units' sums are added as
//! in [`super::reduce`].
//!
//! Products can normalise what they read themselves. They use the functions here, and give the same
//! bits with as many units: no sum is left to a compiler that may contract it with a product.

use cubecl::prelude::*;

use super::Four;
use super::reduce::{Fold, over_cube};

/// What of the kernel is known when it is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NormVariant {
    pub units: usize,
    pub planes: bool,
    /// Adds to what `y` holds.
    pub add: bool,
}

/// Grid: one cube a row of `y`. `unit_count` repeats `units` for a loop that no compiler shall
/// unroll.
#[cube(launch, launch_unchecked)]
pub fn rms_norm(
    x: &[Vector<f32, Four>],
    weight: &[Vector<f32, Four>],
    y: &mut [Vector<f32, Four>],
    pieces: u32,
    inverse_width: f32,
    epsilon: f32,
    unit_count: u32,
    #[comptime] variant: NormVariant,
) {
    let units = comptime!(variant.units);
    let pieces = pieces as usize;
    let unit = UNIT_POS_X as usize;
    let row = CUBE_POS_X as usize * pieces;
    let mut factor = Array::<f32>::new(1usize);
    factor[0] = 0.0;
    let mut at = unit;
    while at < pieces {
        factor[0] = add_squares(factor[0], x[row + at]);
        at += units;
    }
    inverse_rms(
        &mut factor,
        inverse_width,
        epsilon,
        unit_count,
        1usize,
        units,
        variant.planes,
    );
    let mut at = unit;
    while at < pieces {
        let normed = normed(x[row + at], factor[0], weight[at]);
        if comptime!(variant.add) {
            y[row + at] += normed;
        } else {
            y[row + at] = normed;
        }
        at += units;
    }
}

/// Adds four squares to a sum.
#[cube]
pub(super) fn add_squares(sum: f32, four: Vector<f32, Four>) -> f32 {
    let mut result = sum;
    #[unroll]
    for element in 0..4usize {
        result = fma(four.extract(element), four.extract(element), result);
    }
    result
}

#[cube]
pub(super) fn normed(
    four: Vector<f32, Four>,
    factor: f32,
    weight: Vector<f32, Four>,
) -> Vector<f32, Four> {
    four * Vector::new(factor) * weight
}

/// Replaces `many` sums of squares, of which each unit has added up its own, by
/// `1 / sqrt(mean + epsilon)` of the whole. All units must call it.
#[cube]
pub(super) fn inverse_rms(
    squares: &mut Array<f32>,
    inverse_width: f32,
    epsilon: f32,
    unit_count: u32,
    #[comptime] many: usize,
    #[comptime] units: usize,
    #[comptime] planes: bool,
) {
    let mut shared = Shared::<[f32]>::new_slice(comptime!(many * units));
    over_cube(
        squares,
        &mut shared,
        unit_count,
        many,
        units,
        Fold::Sum,
        planes,
    );
    #[unroll]
    for index in 0..many {
        let mean = fma(squares[index], inverse_width, epsilon);
        squares[index] = f32::new(1.0) / f32::sqrt(mean);
    }
}
