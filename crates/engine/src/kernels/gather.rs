//! Some rows of many.
//!
//! `y[i] = x[index[i]]`, with `x` and `y` `[rows, pieces]` in pieces of 16 bytes. One cube a row.

use cubecl::prelude::*;

use super::Four;

/// Units of a cube.
pub const UNITS: u32 = 64;

/// Grid: one cube a row of `y`.
#[cube(launch, launch_unchecked)]
pub fn gather_rows(
    x: &[Vector<u32, Four>],
    index: &[u32],
    y: &mut [Vector<u32, Four>],
    pieces: u32,
) {
    let from = index[CUBE_POS_X as usize] * pieces;
    let to = CUBE_POS_X * pieces;
    let mut at = UNIT_POS_X;
    while at < pieces {
        y[(to + at) as usize] = x[(from + at) as usize];
        at += UNITS;
    }
}
