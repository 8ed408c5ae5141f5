//! Sixteen lanes of `f32`, the same for every instruction set, so that each kernel is written once.
//!
//! A value of a type that implements [`Simd`] exists only where the processor has its
//! instructions; [`InstructionSet::run`] makes one and compiles the kernel for it.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

use half::f16;

/// How many values a vector has.
pub(crate) const LANES: usize = 16;

/// Operations on vectors of [`LANES`] values. All are lane by lane unless they say otherwise.
pub(crate) trait Simd: Copy {
    /// `f32` lanes.
    type Floats: Copy;
    /// `u32` lanes.
    type Words: Copy;

    /// How many vectors of rows go side by side through one column: sums that do not wait for each
    /// other.
    const SLABS: usize;
    /// How many vectors of rows by columns one register tile of a matrix product holds.
    const TILE_VECTORS: usize;
    const TILE_COLUMNS: usize;

    /// # Safety
    /// 16 floats can be read.
    unsafe fn load(self, from: *const f32) -> Self::Floats;
    /// # Safety
    /// 16 floats can be written.
    unsafe fn store(self, to: *mut f32, value: Self::Floats);
    /// # Safety
    /// 16 half floats can be read.
    unsafe fn load_f16(self, from: *const u8) -> Self::Floats;
    /// # Safety
    /// 16 brain floats can be read.
    unsafe fn load_bf16(self, from: *const u8) -> Self::Floats;
    /// # Safety
    /// 16 signed bytes can be read.
    unsafe fn load_i8(self, from: *const u8) -> Self::Floats;
    /// # Safety
    /// 16 bytes can be read.
    unsafe fn load_u8(self, from: *const u8) -> Self::Floats;
    /// # Safety
    /// 16 words of 4 bytes can be read.
    unsafe fn load_words(self, from: *const u8) -> Self::Words;

    fn splat(self, value: f32) -> Self::Floats;
    fn add(self, one: Self::Floats, two: Self::Floats) -> Self::Floats;
    fn sub(self, one: Self::Floats, two: Self::Floats) -> Self::Floats;
    fn mul(self, one: Self::Floats, two: Self::Floats) -> Self::Floats;
    fn div(self, one: Self::Floats, two: Self::Floats) -> Self::Floats;
    fn max(self, one: Self::Floats, two: Self::Floats) -> Self::Floats;
    fn min(self, one: Self::Floats, two: Self::Floats) -> Self::Floats;
    /// `one * two + three`, rounded once where the processor can.
    fn mul_add(self, one: Self::Floats, two: Self::Floats, three: Self::Floats) -> Self::Floats;
    /// The nearest whole number; ties go to the even one.
    fn round(self, value: Self::Floats) -> Self::Floats;
    /// 2 to the power of a whole number from -126 to 127.
    fn exp2_whole(self, value: Self::Floats) -> Self::Floats;
    /// The lanes `from..to` of `value`, else those of `other`.
    fn keep(self, value: Self::Floats, other: Self::Floats, from: usize, to: usize)
    -> Self::Floats;

    fn shift_right(self, value: Self::Words, bits: u32) -> Self::Words;
    fn shift_left(self, value: Self::Words, bits: u32) -> Self::Words;
    fn and(self, value: Self::Words, mask: u32) -> Self::Words;
    fn or(self, one: Self::Words, two: Self::Words) -> Self::Words;
    /// Numbers below 2^31.
    fn to_floats(self, value: Self::Words) -> Self::Floats;
    /// The number in the four lowest bits.
    #[inline(always)]
    fn nibbles(self, value: Self::Words) -> Self::Floats {
        self.to_floats(self.and(value, 15))
    }
    /// The number in the five lowest bits.
    #[inline(always)]
    fn five_bits(self, value: Self::Words) -> Self::Floats {
        self.to_floats(self.and(value, 31))
    }

    /// The sum of all lanes: halves are added until one lane is left.
    #[inline(always)]
    fn sum(self, value: Self::Floats) -> f32 {
        fold(self, value, |one, two| one + two)
    }

    /// The largest lane.
    #[inline(always)]
    fn largest(self, value: Self::Floats) -> f32 {
        fold(self, value, f32::max)
    }
}

/// A value in memory.
pub(crate) trait Stored: Copy + Send {
    fn from_f32(value: f32) -> Self;
    /// # Safety
    /// 16 values can be read.
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> S::Floats;
}

impl Stored for f32 {
    fn from_f32(value: f32) -> Self {
        value
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> S::Floats {
        // SAFETY: The caller's promise.
        unsafe { simd.load(from) }
    }
}

impl Stored for f16 {
    /// The nearest one, ties to even, and the largest finite one where there is none.
    fn from_f32(value: f32) -> Self {
        let most = Self::MAX.to_f32();
        Self::from_f32(value.clamp(-most, most))
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> S::Floats {
        // SAFETY: The caller's promise.
        unsafe { simd.load_f16(from.cast()) }
    }
}

#[inline(always)]
fn fold<S: Simd>(simd: S, value: S::Floats, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    // SAFETY: The array has 16 floats.
    unsafe { simd.store(lanes.as_mut_ptr(), value) };
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for lane in 0..width {
            lanes[lane] = join(lanes[lane], lanes[lane + width]);
        }
    }
    lanes[0]
}

/// Work that is compiled for each instruction set.
pub(crate) trait Kernel {
    type Output;
    /// Must be `inline(always)`, as must all that it calls with vectors: only then is it compiled
    /// with the instructions of the set.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// A set of instructions that this processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstructionSet(Set);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Scalar,
}

impl InstructionSet {
    /// All that this processor has, the best first.
    pub fn available() -> Vec<Self> {
        let sets = [
            #[cfg(target_arch = "x86_64")]
            (Set::Avx512, avx512::is_available()),
            #[cfg(target_arch = "x86_64")]
            (Set::Avx2, avx2::is_available()),
            #[cfg(target_arch = "aarch64")]
            (Set::Neon, true),
            (Set::Scalar, true),
        ];
        let available = sets.into_iter().filter(|(_, available)| *available);
        available.map(|(set, _)| Self(set)).collect()
    }

    pub const fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "AVX-512",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "AVX2",
            #[cfg(target_arch = "aarch64")]
            Set::Neon => "NEON",
            Set::Scalar => "scalar",
        }
    }

    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            // SAFETY: Only `available` makes this value, where the processor has the instructions.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => unsafe { avx512::run(kernel) },
            // SAFETY: As above.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { avx2::run(kernel) },
            #[cfg(target_arch = "aarch64")]
            Set::Neon => neon::run(kernel),
            Set::Scalar => kernel.run(scalar::Scalar),
        }
    }
}
