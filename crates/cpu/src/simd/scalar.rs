//! The lanes as arrays, for processors without a set of their own here.

use std::array::from_fn;

use half::{bf16, f16};

use super::{LANES, Simd};

#[derive(Clone, Copy)]
pub(super) struct Scalar;

impl Simd for Scalar {
    type Floats = [f32; LANES];
    type Words = [u32; LANES];

    const SLABS: usize = 1;
    const TILE_VECTORS: usize = 1;
    const TILE_COLUMNS: usize = 2;

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Self::Floats {
        // SAFETY: The caller's promise; an unaligned read asks for no alignment.
        unsafe { from.cast::<Self::Floats>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: Self::Floats) {
        // SAFETY: As above.
        unsafe { to.cast::<Self::Floats>().write_unaligned(value) }
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const u8) -> Self::Floats {
        // SAFETY: As above.
        let bits = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        bits.map(|bits| f16::from_bits(bits).to_f32())
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u8) -> Self::Floats {
        // SAFETY: As above.
        let bits = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        bits.map(|bits| bf16::from_bits(bits).to_f32())
    }

    #[inline(always)]
    unsafe fn load_i8(self, from: *const u8) -> Self::Floats {
        // SAFETY: As above.
        unsafe { from.cast::<[i8; LANES]>().read_unaligned() }.map(f32::from)
    }

    #[inline(always)]
    unsafe fn load_u8(self, from: *const u8) -> Self::Floats {
        // SAFETY: As above.
        unsafe { from.cast::<[u8; LANES]>().read_unaligned() }.map(f32::from)
    }

    #[inline(always)]
    unsafe fn load_words(self, from: *const u8) -> Self::Words {
        // SAFETY: As above.
        unsafe { from.cast::<Self::Words>().read_unaligned() }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Floats {
        [value; LANES]
    }

    #[inline(always)]
    fn add(self, one: Self::Floats, two: Self::Floats) -> Self::Floats {
        from_fn(|lane| one[lane] + two[lane])
    }

    #[inline(always)]
    fn sub(self, one: Self::Floats, two: Self::Floats) -> Self::Floats {
        from_fn(|lane| one[lane] - two[lane])
    }

    #[inline(always)]
    fn mul(self, one: Self::Floats, two: Self::Floats) -> Self::Floats {
        from_fn(|lane| one[lane] * two[lane])
    }

    #[inline(always)]
    fn div(self, one: Self::Floats, two: Self::Floats) -> Self::Floats {
        from_fn(|lane| one[lane] / two[lane])
    }

    #[inline(always)]
    fn max(self, one: Self::Floats, two: Self::Floats) -> Self::Floats {
        from_fn(|lane| one[lane].max(two[lane]))
    }

    #[inline(always)]
    fn min(self, one: Self::Floats, two: Self::Floats) -> Self::Floats {
        from_fn(|lane| one[lane].min(two[lane]))
    }

    #[inline(always)]
    fn mul_add(self, one: Self::Floats, two: Self::Floats, three: Self::Floats) -> Self::Floats {
        from_fn(|lane| one[lane] * two[lane] + three[lane])
    }

    #[inline(always)]
    fn round(self, value: Self::Floats) -> Self::Floats {
        value.map(f32::round_ties_even)
    }

    #[inline(always)]
    fn exp2_whole(self, value: Self::Floats) -> Self::Floats {
        value.map(|value| f32::from_bits(((value as i32 + 127) as u32) << 23))
    }

    #[inline(always)]
    fn keep(
        self,
        value: Self::Floats,
        other: Self::Floats,
        from: usize,
        to: usize,
    ) -> Self::Floats {
        from_fn(|lane| {
            if (from..to).contains(&lane) {
                value[lane]
            } else {
                other[lane]
            }
        })
    }

    #[inline(always)]
    fn shift_right(self, value: Self::Words, bits: u32) -> Self::Words {
        value.map(|value| value >> bits)
    }

    #[inline(always)]
    fn shift_left(self, value: Self::Words, bits: u32) -> Self::Words {
        value.map(|value| value << bits)
    }

    #[inline(always)]
    fn and(self, value: Self::Words, mask: u32) -> Self::Words {
        value.map(|value| value & mask)
    }

    #[inline(always)]
    fn or(self, one: Self::Words, two: Self::Words) -> Self::Words {
        from_fn(|lane| one[lane] | two[lane])
    }

    #[inline(always)]
    fn to_floats(self, value: Self::Words) -> Self::Floats {
        value.map(|value| value as f32)
    }
}
