//! NEON: a vector is four registers. Every 64-bit ARM processor that Rust's targets run on has it.
// The lint does not look at tests.
#![cfg_attr(
    not(test),
    expect(clippy::wildcard_imports, reason = "dozens of intrinsics")
)]

use std::arch::aarch64::*;
use std::array::from_fn;

use super::{Kernel, Simd};

pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Neon)
}

#[derive(Clone, Copy)]
pub(super) struct Neon;

type Floats = [float32x4_t; 4];
type Words = [uint32x4_t; 4];

/// Each operation is given for one register.
macro_rules! operations {
    ($($name:ident($($vector:ident: $kind:ty),*; $($plain:ident: $plain_kind:ty),*) -> $output:ty = $body:expr;)*) => {
        $(#[inline(always)]
        fn $name(self, $($vector: $kind,)* $($plain: $plain_kind),*) -> $output {
            // SAFETY: Every processor of this architecture has the instructions.
            unsafe {
                [
                    { $(let $vector = $vector[0];)* $body },
                    { $(let $vector = $vector[1];)* $body },
                    { $(let $vector = $vector[2];)* $body },
                    { $(let $vector = $vector[3];)* $body },
                ]
            }
        })*
    };
}

/// Each load is given for one register; `$bytes` is how much of the memory it reads.
macro_rules! loads {
    ($($name:ident($from:ident: $kind:ty) -> $output:ty, $bytes:literal = $body:expr;)*) => {
        $(#[inline(always)]
        unsafe fn $name(self, $from: $kind) -> $output {
            // SAFETY: As in `operations`; the caller promises that the memory can be read.
            unsafe {
                [
                    $body,
                    { let $from = $from.byte_add($bytes); $body },
                    { let $from = $from.byte_add(2 * $bytes); $body },
                    { let $from = $from.byte_add(3 * $bytes); $body },
                ]
            }
        })*
    };
}

impl Simd for Neon {
    type Floats = Floats;
    type Words = Words;

    const SLABS: usize = 2;
    const TILE_VECTORS: usize = 1;
    const TILE_COLUMNS: usize = 6;

    loads! {
        load(from: *const f32) -> Floats, 16 = vld1q_f32(from);
        load_f16(from: *const u8) -> Floats, 8 =
            vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from.cast())));
        load_bf16(from: *const u8) -> Floats, 8 =
            vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from.cast())));
        load_i8(from: *const u8) -> Floats, 4 = {
            let bytes = vdup_n_u32(from.cast::<u32>().read_unaligned());
            let halves = vget_low_s16(vmovl_s8(vreinterpret_s8_u32(bytes)));
            vcvtq_f32_s32(vmovl_s16(halves))
        };
        load_u8(from: *const u8) -> Floats, 4 = {
            let bytes = vdup_n_u32(from.cast::<u32>().read_unaligned());
            let halves = vget_low_u16(vmovl_u8(vreinterpret_u8_u32(bytes)));
            vcvtq_f32_u32(vmovl_u16(halves))
        };
        load_words(from: *const u8) -> Words, 16 = vreinterpretq_u32_u8(vld1q_u8(from));
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: Floats) {
        for (quarter, value) in value.into_iter().enumerate() {
            // SAFETY: As in `operations`; the caller promises that the memory can be written.
            unsafe { vst1q_f32(to.add(4 * quarter), value) }
        }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Floats {
        // SAFETY: As in `operations`.
        [unsafe { vdupq_n_f32(value) }; 4]
    }

    #[inline(always)]
    fn keep(self, value: Floats, other: Floats, from: usize, to: usize) -> Floats {
        from_fn(|quarter| {
            let mask: [u32; 4] = from_fn(|lane| {
                if (from..to).contains(&(4 * quarter + lane)) {
                    u32::MAX
                } else {
                    0
                }
            });
            // SAFETY: As in `operations`; the array has four numbers.
            unsafe { vbslq_f32(vld1q_u32(mask.as_ptr()), value[quarter], other[quarter]) }
        })
    }

    operations! {
        add(one: Floats, two: Floats;) -> Floats = vaddq_f32(one, two);
        sub(one: Floats, two: Floats;) -> Floats = vsubq_f32(one, two);
        mul(one: Floats, two: Floats;) -> Floats = vmulq_f32(one, two);
        div(one: Floats, two: Floats;) -> Floats = vdivq_f32(one, two);
        max(one: Floats, two: Floats;) -> Floats = vmaxq_f32(one, two);
        min(one: Floats, two: Floats;) -> Floats = vminq_f32(one, two);
        mul_add(one: Floats, two: Floats, three: Floats;) -> Floats = vfmaq_f32(three, one, two);
        round(value: Floats;) -> Floats = vrndnq_f32(value);
        exp2_whole(value: Floats;) -> Floats = vreinterpretq_f32_s32(vshlq_n_s32::<23>(
            vaddq_s32(vcvtq_s32_f32(value), vdupq_n_s32(127))
        ));
        shift_right(value: Words; bits: u32) -> Words =
            vshlq_u32(value, vdupq_n_s32(-(bits as i32)));
        shift_left(value: Words; bits: u32) -> Words = vshlq_u32(value, vdupq_n_s32(bits as i32));
        and(value: Words; mask: u32) -> Words = vandq_u32(value, vdupq_n_u32(mask));
        or(one: Words, two: Words;) -> Words = vorrq_u32(one, two);
        to_floats(value: Words;) -> Floats = vcvtq_f32_u32(value);
    }
}
