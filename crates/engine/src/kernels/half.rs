//! `f16` as bits: every adapter can, also those without arithmetic of 16 bits, and all agree.

use cubecl::prelude::*;

use super::Four;

/// The value of the low 16 bits of `bits`, which is finite. Exact.
#[cube]
pub(super) fn f16_to_f32(bits: u32) -> f32 {
    let magnitude = bits & 0x7fffu32;
    let normal = f32::reinterpret((magnitude << 13u32) + 0x3800_0000u32);
    // Subnormal f16 are exact multiples of 2^-24; as bits of an f32 they would be flushed.
    let tiny = f32::cast_from(i32::reinterpret(magnitude)) * f32::new(5.960_464_5e-8);
    let value = select(magnitude < 0x400u32, tiny, normal);
    f32::reinterpret(u32::reinterpret(value) | ((bits & 0x8000u32) << 16u32))
}

/// The nearest `f16`, ties to even; the largest finite one where there is none.
#[cube]
pub(super) fn f32_to_f16(value: f32) -> u32 {
    let bits = u32::reinterpret(value);
    let magnitude = bits & 0x7fff_ffffu32;
    let even = (magnitude >> 13u32) & 1u32;
    let normal = min(
        (magnitude + 0xfffu32 + even - 0x3800_0000u32) >> 13u32,
        0x7bffu32,
    );
    // Below 2^-14 an f16 counts 2^-24: adding 2^23 leaves that count in the low bits.
    let counted = f32::reinterpret(magnitude) * f32::new(16_777_216.0) + f32::new(8_388_608.0);
    let tiny = u32::reinterpret(counted) & 0x7ffu32;
    select(magnitude < 0x3880_0000u32, tiny, normal) | ((bits >> 16u32) & 0x8000u32)
}

/// 16 bytes with `values` in the place of `4 * four..`, in f32 or, `half`, in `f16`.
#[cube]
pub(super) fn pack_four(
    words: Vector<u32, Four>,
    values: Vector<f32, Four>,
    #[comptime] four: usize,
    #[comptime] half: bool,
) -> Vector<u32, Four> {
    let mut packed = words;
    if half {
        #[unroll]
        for pair in 0..2usize {
            let low = f32_to_f16(values.extract(comptime!(2 * pair)));
            let high = f32_to_f16(values.extract(comptime!(2 * pair + 1)));
            packed.insert(comptime!(2 * four + pair), low | (high << 16u32));
        }
    } else {
        #[unroll]
        for element in 0..4usize {
            packed.insert(element, u32::reinterpret(values.extract(element)));
        }
    }
    packed
}

/// Values `4 * four..` of 16 bytes, in f32 or, `half`, in `f16`.
#[cube]
pub(super) fn unpack(
    words: Vector<u32, Four>,
    #[comptime] four: usize,
    #[comptime] half: bool,
) -> Vector<f32, Four> {
    let mut values = Vector::<f32, Four>::new(0.0f32);
    #[unroll]
    for element in 0..4usize {
        if half {
            let word = words.extract(comptime!(2 * four + element / 2));
            let bits = (word >> comptime!((element % 2 * 16) as u32)) & 0xffffu32;
            values.insert(element, f16_to_f32(bits));
        } else {
            values.insert(element, f32::reinterpret(words.extract(element)));
        }
    }
    values
}
