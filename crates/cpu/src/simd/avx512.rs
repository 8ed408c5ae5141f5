//! AVX-512: a vector is one register.
// The lint does not look at tests.
#![cfg_attr(
    not(test),
    expect(clippy::wildcard_imports, reason = "dozens of intrinsics")
)]

use std::arch::x86_64::*;

use super::{Kernel, LANES, Simd};

pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

/// # Safety
/// [`is_available`] must hold.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx512(()))
}

/// Made in [`run`] only.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

macro_rules! operations {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $output:ty = $body:expr;)*) => {
        $(#[inline(always)]
        fn $name(self, $($argument: $kind),*) -> $output {
            // SAFETY: A value of this type exists only where the processor has the instructions.
            unsafe { $body }
        })*
    };
}

macro_rules! loads {
    ($($name:ident($from:ident: $kind:ty) -> $output:ty = $body:expr;)*) => {
        $(#[inline(always)]
        unsafe fn $name(self, $from: $kind) -> $output {
            // SAFETY: As in `operations`; the caller promises that the memory can be read.
            unsafe { $body }
        })*
    };
}

/// For look-ups that see the lowest bits alone.
const NUMBERS: [f32; 2 * LANES] = {
    let mut numbers = [0.0; 2 * LANES];
    let mut index = 0;
    while index < numbers.len() {
        numbers[index] = index as f32;
        index += 1;
    }
    numbers
};

impl Simd for Avx512 {
    type Floats = __m512;
    type Words = __m512i;

    const SLABS: usize = 4;
    const TILE_VECTORS: usize = 2;
    const TILE_COLUMNS: usize = 12;

    loads! {
        load(from: *const f32) -> __m512 = _mm512_loadu_ps(from);
        load_f16(from: *const u8) -> __m512 = _mm512_cvtph_ps(_mm256_loadu_si256(from.cast()));
        load_bf16(from: *const u8) -> __m512 = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(
            _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()))
        ));
        load_i8(from: *const u8) -> __m512 =
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast())));
        load_u8(from: *const u8) -> __m512 =
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())));
        load_words(from: *const u8) -> __m512i = _mm512_loadu_si512(from.cast());
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: __m512) {
        // SAFETY: As in `operations`; the caller promises that the memory can be written.
        unsafe { _mm512_storeu_ps(to, value) }
    }

    operations! {
        splat(value: f32) -> __m512 = _mm512_set1_ps(value);
        add(one: __m512, two: __m512) -> __m512 = _mm512_add_ps(one, two);
        sub(one: __m512, two: __m512) -> __m512 = _mm512_sub_ps(one, two);
        mul(one: __m512, two: __m512) -> __m512 = _mm512_mul_ps(one, two);
        div(one: __m512, two: __m512) -> __m512 = _mm512_div_ps(one, two);
        max(one: __m512, two: __m512) -> __m512 = _mm512_max_ps(one, two);
        min(one: __m512, two: __m512) -> __m512 = _mm512_min_ps(one, two);
        mul_add(one: __m512, two: __m512, three: __m512) -> __m512 =
            _mm512_fmadd_ps(one, two, three);
        round(value: __m512) -> __m512 =
            _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(value);
        exp2_whole(value: __m512) -> __m512 =
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(
                _mm512_cvtps_epi32(value),
                _mm512_set1_epi32(127)
            )));
        keep(value: __m512, other: __m512, from: usize, to: usize) -> __m512 =
            _mm512_mask_blend_ps(((1_u32 << to) - (1_u32 << from)) as u16, other, value);
        shift_right(value: __m512i, bits: u32) -> __m512i =
            _mm512_srlv_epi32(value, _mm512_set1_epi32(bits as i32));
        shift_left(value: __m512i, bits: u32) -> __m512i =
            _mm512_sllv_epi32(value, _mm512_set1_epi32(bits as i32));
        and(value: __m512i, mask: u32) -> __m512i =
            _mm512_and_si512(value, _mm512_set1_epi32(mask as i32));
        or(one: __m512i, two: __m512i) -> __m512i = _mm512_or_si512(one, two);
        to_floats(value: __m512i) -> __m512 = _mm512_cvtepi32_ps(value);
        largest(value: __m512) -> f32 = _mm512_reduce_max_ps(value);
        nibbles(value: __m512i) -> __m512 =
            _mm512_permutexvar_ps(value, _mm512_loadu_ps(NUMBERS.as_ptr()));
        five_bits(value: __m512i) -> __m512 = _mm512_permutex2var_ps(
            _mm512_loadu_ps(NUMBERS.as_ptr()),
            value,
            _mm512_loadu_ps(NUMBERS.as_ptr().add(LANES))
        );
    }
}
