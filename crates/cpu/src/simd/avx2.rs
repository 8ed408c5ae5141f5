//! AVX2 with FMA and half floats: a vector is two registers.
// The lint does not look at tests.
#![cfg_attr(
    not(test),
    expect(clippy::wildcard_imports, reason = "dozens of intrinsics")
)]

use std::arch::x86_64::*;

use super::{Kernel, Simd};

pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

/// # Safety
/// [`is_available`] must hold.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2(()))
}

/// Made in [`run`] only.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

type Floats = [__m256; 2];
type Words = [__m256i; 2];

/// Each operation is given for one register.
macro_rules! operations {
    ($($name:ident($($vector:ident: $kind:ty),*; $($plain:ident: $plain_kind:ty),*) -> $output:ty = $body:expr;)*) => {
        $(#[inline(always)]
        fn $name(self, $($vector: $kind,)* $($plain: $plain_kind),*) -> $output {
            // SAFETY: A value of this type exists only where the processor has the instructions.
            unsafe {
                [
                    { $(let $vector = $vector[0];)* $body },
                    { $(let $vector = $vector[1];)* $body },
                ]
            }
        })*
    };
}

/// Each load is given for one register; `$bytes` is how much of the memory it reads.
macro_rules! loads {
    ($($name:ident($from:ident) -> $output:ty, $bytes:literal = $body:expr;)*) => {
        $(#[inline(always)]
        unsafe fn $name(self, $from: *const u8) -> $output {
            // SAFETY: As in `operations`; the caller promises that the memory can be read.
            unsafe {
                [$body, { let $from = $from.add($bytes); $body }]
            }
        })*
    };
}

/// Lane `i` of the first register is lane `i` of the vector, of the second `i + 8`.
const INDICES: [[i32; 8]; 2] = [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11, 12, 13, 14, 15]];

impl Simd for Avx2 {
    type Floats = Floats;
    type Words = Words;

    const SLABS: usize = 2;
    const TILE_VECTORS: usize = 1;
    const TILE_COLUMNS: usize = 6;

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Floats {
        // SAFETY: As in `operations`; the caller promises that the memory can be read.
        unsafe { [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))] }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: Floats) {
        // SAFETY: As in `operations`; the caller promises that the memory can be written.
        unsafe {
            _mm256_storeu_ps(to, value[0]);
            _mm256_storeu_ps(to.add(8), value[1]);
        }
    }

    loads! {
        load_f16(from) -> Floats, 16 = _mm256_cvtph_ps(_mm_loadu_si128(from.cast()));
        load_bf16(from) -> Floats, 16 = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(
            _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()))
        ));
        load_i8(from) -> Floats, 8 =
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast())));
        load_u8(from) -> Floats, 8 =
            _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())));
        load_words(from) -> Words, 32 = _mm256_loadu_si256(from.cast());
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Floats {
        // SAFETY: As in `operations`.
        [unsafe { _mm256_set1_ps(value) }; 2]
    }

    #[inline(always)]
    fn keep(self, value: Floats, other: Floats, from: usize, to: usize) -> Floats {
        let mut kept = other;
        for half in 0..2 {
            // SAFETY: As in `operations`; the array has eight numbers.
            unsafe {
                let index = _mm256_loadu_si256(INDICES[half].as_ptr().cast());
                let before = _mm256_cmpgt_epi32(_mm256_set1_epi32(from as i32), index);
                let until = _mm256_cmpgt_epi32(_mm256_set1_epi32(to as i32), index);
                let mask = _mm256_castsi256_ps(_mm256_andnot_si256(before, until));
                kept[half] = _mm256_blendv_ps(other[half], value[half], mask);
            }
        }
        kept
    }

    operations! {
        add(one: Floats, two: Floats;) -> Floats = _mm256_add_ps(one, two);
        sub(one: Floats, two: Floats;) -> Floats = _mm256_sub_ps(one, two);
        mul(one: Floats, two: Floats;) -> Floats = _mm256_mul_ps(one, two);
        div(one: Floats, two: Floats;) -> Floats = _mm256_div_ps(one, two);
        max(one: Floats, two: Floats;) -> Floats = _mm256_max_ps(one, two);
        min(one: Floats, two: Floats;) -> Floats = _mm256_min_ps(one, two);
        mul_add(one: Floats, two: Floats, three: Floats;) -> Floats =
            _mm256_fmadd_ps(one, two, three);
        round(value: Floats;) -> Floats =
            _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(value);
        exp2_whole(value: Floats;) -> Floats = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(
            _mm256_add_epi32(_mm256_cvtps_epi32(value), _mm256_set1_epi32(127))
        ));
        shift_right(value: Words; bits: u32) -> Words =
            _mm256_srlv_epi32(value, _mm256_set1_epi32(bits as i32));
        shift_left(value: Words; bits: u32) -> Words =
            _mm256_sllv_epi32(value, _mm256_set1_epi32(bits as i32));
        and(value: Words; mask: u32) -> Words =
            _mm256_and_si256(value, _mm256_set1_epi32(mask as i32));
        or(one: Words, two: Words;) -> Words = _mm256_or_si256(one, two);
        to_floats(value: Words;) -> Floats = _mm256_cvtepi32_ps(value);
    }
}
