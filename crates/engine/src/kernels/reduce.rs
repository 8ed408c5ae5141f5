//! Sums and maxima over the units of a cube.
//!
//! With planes each of them first combines its own units, then all units combine the planes'
//! results in their order; without, all combine the units' values in their order. Either way the
//! result has the same bits in every unit, and in every run on one device.

use cubecl::prelude::*;

/// What values are combined to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Fold {
    Sum,
    Maximum,
}

#[cube]
fn combine(one: f32, other: f32, #[comptime] fold: Fold) -> f32 {
    match comptime!(fold) {
        Fold::Sum => one + other,
        Fold::Maximum => max(one, other),
    }
}

/// Replaces each of `many` values by what it comes to over all units. `shared` has room for
/// `many * units` values, and no unit may still read it. `unit_count` repeats `units` for a loop
/// that no compiler shall unroll. All units must call it.
#[cube]
pub(super) fn over_cube(
    values: &mut Array<f32>,
    shared: &mut Shared<[f32]>,
    unit_count: u32,
    #[comptime] many: usize,
    #[comptime] units: usize,
    #[comptime] fold: Fold,
    #[comptime] planes: bool,
) {
    let unit = UNIT_POS as usize;
    let mut parts = unit_count as usize;
    if planes {
        parts = ((unit_count + PLANE_DIM - 1u32) / PLANE_DIM) as usize;
        #[unroll]
        for index in 0..many {
            let own = match comptime!(fold) {
                Fold::Sum => plane_sum(values[index]),
                Fold::Maximum => plane_max(values[index]),
            };
            if UNIT_POS_PLANE == 0u32 {
                shared[comptime!(index * units) + PLANE_POS as usize] = own;
            }
        }
    } else {
        #[unroll]
        for index in 0..many {
            shared[comptime!(index * units) + unit] = values[index];
        }
    }
    sync_cube();
    #[unroll]
    for index in 0..many {
        let mut whole = shared[comptime!(index * units)];
        for part in 1..parts {
            whole = combine(whole, shared[comptime!(index * units) + part], fold);
        }
        values[index] = whole;
    }
}
