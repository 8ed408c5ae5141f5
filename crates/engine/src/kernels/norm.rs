//! RMS norm of rows.
//!
//! `y[i] = x[first + i] / sqrt(mean(x[first + i]^2) + epsilon) * weight (+ y[i])`, with `x` and `y`
//! `[rows, stride]` in f32 and zeros behind the `width` values of a row. One cube a row; unit `u`
//! adds the squares of the 16-byte pieces `u`, `u + units`, ..., then the units' sums are added as
//! in [`super::reduce`].

use cubecl::prelude::*;

use super::Four;
use super::reduce::{Fold, over_cube};

/// What of the kernel is known when it is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    pub units: usize,
    pub planes: bool,
    /// Adds to what `y` holds.
    pub add: bool,
}

/// Grid: one cube a row of `y`. `unit_count` repeats `units` for a loop that no compiler shall
/// unroll.
#[cube(launch_unchecked)]
pub fn rms_norm(
    x: &[Vector<f32, Four>],
    weight: &[Vector<f32, Four>],
    y: &mut [Vector<f32, Four>],
    first: u32,
    pieces: u32,
    width: f32,
    epsilon: f32,
    unit_count: u32,
    #[comptime] shape: Shape,
) {
    let units = comptime!(shape.units);
    let pieces = pieces as usize;
    let unit = UNIT_POS_X as usize;
    let from = (first + CUBE_POS_X) as usize * pieces;
    let to = CUBE_POS_X as usize * pieces;
    let mut squares = 0.0f32;
    let mut at = unit;
    while at < pieces {
        let four = x[from + at];
        #[unroll]
        for element in 0..4usize {
            squares = fma(four.extract(element), four.extract(element), squares);
        }
        at += units;
    }
    let scale = inverse_rms(squares, width, epsilon, unit_count, units, shape.planes);
    let mut at = unit;
    while at < pieces {
        let normed = x[from + at] * Vector::new(scale) * weight[at];
        if comptime!(shape.add) {
            y[to + at] += normed;
        } else {
            y[to + at] = normed;
        }
        at += units;
    }
}

/// `1 / sqrt(mean + epsilon)` of `width` squares, of which each unit has added up its own. All
/// units must call it.
#[cube]
pub(super) fn inverse_rms(
    squares: f32,
    width: f32,
    epsilon: f32,
    unit_count: u32,
    #[comptime] units: usize,
    #[comptime] planes: bool,
) -> f32 {
    let mut sum = Array::<f32>::new(1usize);
    sum[0] = squares;
    let mut shared = Shared::<[f32]>::new_slice(units);
    over_cube(
        &mut sum,
        &mut shared,
        unit_count,
        1usize,
        units,
        Fold::Sum,
        planes,
    );
    f32::new(1.0) / f32::sqrt(sum[0] / width + epsilon)
}
