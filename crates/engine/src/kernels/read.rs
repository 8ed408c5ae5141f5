//! Reads a buffer and does next to nothing with it: for a device's read bandwidth.

use cubecl::prelude::*;

use super::Four;

/// Units of a cube.
pub const UNITS: u32 = 64;

/// Grid: as many cubes as may be. Of all units, unit `u` reads the 16-byte pieces `u`,
/// `u + units`, ... of `input`, and writes their exclusive or to `output[u]`.
#[cube(launch, launch_unchecked)]
pub fn read_all(input: &[Vector<u32, Four>], output: &mut [u32], pieces: u32, units: u32) {
    let unit = CUBE_POS_X * UNITS + UNIT_POS_X;
    let mut mixed = 0u32;
    let mut at = unit;
    while at < pieces {
        let four = input[at as usize];
        #[unroll]
        for element in 0..4usize {
            mixed ^= four.extract(element);
        }
        at += units;
    }
    output[unit as usize] = mixed;
}
