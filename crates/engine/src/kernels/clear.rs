//! Zeros.

use cubecl::prelude::*;

use super::Four;

/// Units of a cube.
pub const UNITS: u32 = 64;

/// Grid: as many cubes as may be. Of all units, unit `u` clears the 16-byte pieces `u`,
/// `u + units`, ... of `output`.
#[cube(launch, launch_unchecked)]
pub fn clear(output: &mut [Vector<u32, Four>], pieces: u32, units: u32) {
    let mut at = CUBE_POS_X * UNITS + UNIT_POS_X;
    while at < pieces {
        output[at as usize] = Vector::<u32, Four>::new(0u32);
        at += units;
    }
}
