//! How quantised weights lie in memory, and how a register of them is made.
//!
//! A file keeps each row's blocks one after the other. Here 16 rows lie together, so that a vector
//! holds one input's weights of 16 rows: no lanes have to be summed, a scale is a lane too, and
//! one layout serves all instruction sets. Nothing but the order of the bits changes, so the
//! weights take as many bytes as in the file (`Q4_K` and `Q5_K`: 3 % more, their 6-bit scales take
//! a byte).
//!
//! A *slab* is 16 rows by [`Format::INPUTS`] inputs. In it come, for all its rows, first the
//! scales, each kind of them `[16]`, then for each *group* of 32 inputs the bits: `nibbles` as
//! `[4][16]` words whose four lowest bits belong to the first of eight inputs, `fifths` as `[16]`
//! words with one bit for each of 32 inputs, `pairs` as `[2][16]` words with two bits for each of
//! 16 inputs, whole numbers as `[32][16]`.
//!
//! Source of the block layouts: `infera_model::quant`.

use infera_model::TensorType;

use crate::simd::{LANES, Simd};

/// Inputs that share the bits' layout, and the unit in which kernels go through inputs.
pub(crate) const GROUP: usize = 32;
/// Inputs whose weights are made at once.
pub(crate) const OCTET: usize = 8;

/// One tensor type's layout.
pub(crate) trait Format {
    /// Inputs of a slab.
    const INPUTS: usize;
    /// Bytes of a slab.
    const BYTES: usize;

    /// What the inputs of a group have in common.
    type Scales<S: Simd>: Copy;

    /// Reads the scales of the slab's group `group`.
    ///
    /// # Safety
    /// `slab` points to a slab of this format that has the group.
    unsafe fn scales<S: Simd>(simd: S, slab: *const u8, group: usize) -> Self::Scales<S>;

    /// The weights of eight inputs, the `octet`th of the group, equal to what
    /// `infera_model::quant::dequantize` gives.
    ///
    /// # Safety
    /// As [`Self::scales`]; `octet` is less than four.
    unsafe fn octet<S: Simd>(
        simd: S,
        slab: *const u8,
        group: usize,
        octet: usize,
        scales: Self::Scales<S>,
    ) -> [S::Floats; OCTET];

    /// Writes a row's block, as the file has it, into row `row` of a slab.
    fn pack(block: &[u8], slab: &mut [u8], row: usize);
}

/// Evaluates to `$run` with `$format` as the type's [`Format`].
macro_rules! with_format {
    ($kind:expr, $format:ident => $run:expr) => {
        match $kind {
            ::infera_model::TensorType::F32 => {
                type $format = $crate::format::F32;
                $run
            }
            ::infera_model::TensorType::F16 => {
                type $format = $crate::format::F16;
                $run
            }
            ::infera_model::TensorType::BF16 => {
                type $format = $crate::format::BF16;
                $run
            }
            ::infera_model::TensorType::Q4_0 => {
                type $format = $crate::format::Q4_0;
                $run
            }
            ::infera_model::TensorType::Q4_1 => {
                type $format = $crate::format::Q4_1;
                $run
            }
            ::infera_model::TensorType::Q5_0 => {
                type $format = $crate::format::Q5_0;
                $run
            }
            ::infera_model::TensorType::Q5_1 => {
                type $format = $crate::format::Q5_1;
                $run
            }
            ::infera_model::TensorType::Q8_0 => {
                type $format = $crate::format::Q8_0;
                $run
            }
            ::infera_model::TensorType::Q4K => {
                type $format = $crate::format::Q4K;
                $run
            }
            ::infera_model::TensorType::Q5K => {
                type $format = $crate::format::Q5K;
                $run
            }
            ::infera_model::TensorType::Q6K => {
                type $format = $crate::format::Q6K;
                $run
            }
        }
    };
}
pub(crate) use with_format;

/// Values of a block of `kind` in the file that [`Format::pack`] takes at once: floats come in
/// groups.
pub(crate) const fn packed_values(kind: TensorType) -> usize {
    match kind {
        TensorType::F32 | TensorType::F16 | TensorType::BF16 => GROUP,
        _ => kind.block_values(),
    }
}

/// `[make(0), make(1), ...]` of eight, unrolled where an array's function may not be.
macro_rules! eight {
    ($index:ident => $make:expr) => {
        [
            {
                let $index = 0;
                $make
            },
            {
                let $index = 1;
                $make
            },
            {
                let $index = 2;
                $make
            },
            {
                let $index = 3;
                $make
            },
            {
                let $index = 4;
                $make
            },
            {
                let $index = 5;
                $make
            },
            {
                let $index = 6;
                $make
            },
            {
                let $index = 7;
                $make
            },
        ]
    };
}

const HALVES: usize = 2 * LANES;
const NIBBLES: usize = 4 * 4 * LANES;
const FIFTHS: usize = 4 * LANES;
const PAIRS: usize = 2 * 4 * LANES;

/// Copies a scale of two bytes to its lane of the scales at `at`.
fn put_half(slab: &mut [u8], at: usize, row: usize, half: [u8; 2]) {
    slab[at + 2 * row..][..2].copy_from_slice(&half);
}

/// Sets the row's word `word` of the words at `at`.
fn put_word(slab: &mut [u8], at: usize, word: usize, row: usize, value: u32) {
    slab[at + 4 * (word * LANES + row)..][..4].copy_from_slice(&value.to_le_bytes());
}

/// The low four bits of 32 values.
fn put_nibbles(slab: &mut [u8], at: usize, row: usize, values: &[u8; GROUP]) {
    for (word, values) in values.as_chunks::<OCTET>().0.iter().enumerate() {
        let bits = values
            .iter()
            .rev()
            .fold(0, |bits, value| bits << 4 | u32::from(value & 15));
        put_word(slab, at, word, row, bits);
    }
}

/// Bit 4 of 32 values: of value `i` of octet `o` at the bit `4 * i + o`.
fn put_fifths(slab: &mut [u8], at: usize, row: usize, values: &[u8; GROUP]) {
    let bits = values.iter().enumerate().fold(0, |bits, (index, value)| {
        let place = 4 * (index % OCTET) + index / OCTET;
        bits | u32::from(value >> 4 & 1) << place
    });
    put_word(slab, at, 0, row, bits);
}

/// Bits 4 and 5 of 32 values: of value `i` of octet `o` at the bit `4 * i + 2 * (o % 2)` of word
/// `o / 2`.
fn put_pairs(slab: &mut [u8], at: usize, row: usize, values: &[u8; GROUP]) {
    for (word, values) in values.as_chunks::<16>().0.iter().enumerate() {
        let bits = values.iter().enumerate().fold(0, |bits, (index, value)| {
            let place = 4 * (index % OCTET) + 2 * (index / OCTET);
            bits | u32::from(value >> 4 & 3) << place
        });
        put_word(slab, at, word, row, bits);
    }
}

/// Numbers of four bits, of a group's octet.
///
/// # Safety
/// A group's nibbles begin at `nibbles`.
#[inline(always)]
unsafe fn four_bits<S: Simd>(simd: S, nibbles: *const u8, octet: usize) -> [S::Floats; OCTET] {
    // SAFETY: The caller's promise.
    let words = unsafe { simd.load_words(nibbles.add(octet * 4 * LANES)) };
    eight!(index => simd.nibbles(simd.shift_right(words, 4 * index)))
}

/// The low four bits of the even values of an octet in a byte each, and of the odd ones.
#[inline(always)]
fn bytes_of_nibbles<S: Simd>(simd: S, words: S::Words) -> [S::Words; 2] {
    const LOW: u32 = 0x0F0F_0F0F;
    [
        simd.and(words, LOW),
        simd.and(simd.shift_right(words, 4), LOW),
    ]
}

/// Numbers of five bits, of a group's octet.
///
/// # Safety
/// A group's nibbles begin at `nibbles`, its fifth bits at `fifths`.
#[inline(always)]
unsafe fn five_bits<S: Simd>(
    simd: S,
    nibbles: *const u8,
    fifths: *const u8,
    octet: usize,
) -> [S::Floats; OCTET] {
    const FIFTH: u32 = 0x1010_1010;
    // SAFETY: The caller's promise.
    let (words, bits) = unsafe {
        (
            simd.load_words(nibbles.add(octet * 4 * LANES)),
            simd.load_words(fifths),
        )
    };
    let [even, odd] = bytes_of_nibbles(simd, words);
    let even_bits = simd.and(simd.shift_left(bits, 4 - octet as u32), FIFTH);
    let odd_bits = simd.and(simd.shift_right(bits, octet as u32), FIFTH);
    let bytes = [simd.or(even, even_bits), simd.or(odd, odd_bits)];
    eight!(index => simd.five_bits(simd.shift_right(bytes[index % 2], 8 * (index as u32 / 2))))
}

/// Numbers of six bits, of a group's octet.
///
/// # Safety
/// A group's nibbles begin at `nibbles`, its pairs of bits at `pairs`.
#[inline(always)]
unsafe fn six_bits<S: Simd>(
    simd: S,
    nibbles: *const u8,
    pairs: *const u8,
    octet: usize,
) -> [S::Floats; OCTET] {
    const PAIR: u32 = 0x3030_3030;
    // SAFETY: The caller's promise.
    let (words, bits) = unsafe {
        (
            simd.load_words(nibbles.add(octet * 4 * LANES)),
            simd.load_words(pairs.add(octet / 2 * 4 * LANES)),
        )
    };
    let [even, odd] = bytes_of_nibbles(simd, words);
    let place = 2 * (octet as u32 % 2);
    let even_bits = simd.and(simd.shift_left(bits, 4 - place), PAIR);
    let odd_bits = simd.and(simd.shift_right(bits, place), PAIR);
    let bytes = [simd.or(even, even_bits), simd.or(odd, odd_bits)];
    eight!(index => {
        let byte = simd.shift_right(bytes[index % 2], 8 * (index as u32 / 2));
        simd.to_floats(simd.and(byte, 63))
    })
}

/// `values * scale + offset`.
#[inline(always)]
fn scaled<S: Simd>(
    simd: S,
    values: [S::Floats; OCTET],
    scale: S::Floats,
    offset: S::Floats,
) -> [S::Floats; OCTET] {
    eight!(index => simd.mul_add(values[index], scale, offset))
}

macro_rules! float_format {
    ($name:ident, $bytes:literal, $load:ident) => {
        pub(crate) struct $name;

        impl Format for $name {
            const INPUTS: usize = GROUP;
            const BYTES: usize = GROUP * LANES * $bytes;

            type Scales<S: Simd> = ();

            #[inline(always)]
            unsafe fn scales<S: Simd>(_: S, _: *const u8, _: usize) {}

            #[inline(always)]
            unsafe fn octet<S: Simd>(
                simd: S,
                slab: *const u8,
                _: usize,
                octet: usize,
                (): (),
            ) -> [S::Floats; OCTET] {
                // SAFETY: The caller's promise: the slab has 32 vectors.
                unsafe {
                    let vectors = slab.add(octet * OCTET * LANES * $bytes);
                    eight!(index => simd.$load(vectors.add(index * LANES * $bytes).cast()))
                }
            }

            /// Less than a group leaves the rest as it was.
            fn pack(block: &[u8], slab: &mut [u8], row: usize) {
                for (input, value) in block.as_chunks::<$bytes>().0.iter().enumerate() {
                    slab[(input * LANES + row) * $bytes..][..$bytes].copy_from_slice(value);
                }
            }
        }
    };
}

float_format!(F32, 4, load);
float_format!(F16, 2, load_f16);
float_format!(BF16, 2, load_bf16);

/// The 32 numbers of a block whose low four bits are `nibbles`, value 16 in the first byte's upper
/// half, and whose fifth bits are `fifths`.
fn split(nibbles: &[u8], fifths: u32) -> [u8; GROUP] {
    std::array::from_fn(|index| {
        let low = nibbles[index % 16] >> (index / 16 * 4) & 15;
        low | ((fifths >> index & 1) << 4) as u8
    })
}

pub(crate) struct Q4_0;

impl Format for Q4_0 {
    const INPUTS: usize = GROUP;
    const BYTES: usize = HALVES + NIBBLES;

    /// Scale, and -8 times it.
    type Scales<S: Simd> = [S::Floats; 2];

    #[inline(always)]
    unsafe fn scales<S: Simd>(simd: S, slab: *const u8, _: usize) -> [S::Floats; 2] {
        // SAFETY: The caller's promise.
        let scale = unsafe { simd.load_f16(slab) };
        [scale, simd.mul(scale, simd.splat(-8.0))]
    }

    #[inline(always)]
    unsafe fn octet<S: Simd>(
        simd: S,
        slab: *const u8,
        _: usize,
        octet: usize,
        [scale, offset]: [S::Floats; 2],
    ) -> [S::Floats; OCTET] {
        // SAFETY: The caller's promise.
        let values = unsafe { four_bits(simd, slab.add(HALVES), octet) };
        scaled(simd, values, scale, offset)
    }

    fn pack(block: &[u8], slab: &mut [u8], row: usize) {
        put_half(slab, 0, row, [block[0], block[1]]);
        put_nibbles(slab, HALVES, row, &split(&block[2..], 0));
    }
}

pub(crate) struct Q4_1;

impl Format for Q4_1 {
    const INPUTS: usize = GROUP;
    const BYTES: usize = 2 * HALVES + NIBBLES;

    /// Scale and minimum.
    type Scales<S: Simd> = [S::Floats; 2];

    #[inline(always)]
    unsafe fn scales<S: Simd>(simd: S, slab: *const u8, _: usize) -> [S::Floats; 2] {
        // SAFETY: The caller's promise.
        unsafe { [simd.load_f16(slab), simd.load_f16(slab.add(HALVES))] }
    }

    #[inline(always)]
    unsafe fn octet<S: Simd>(
        simd: S,
        slab: *const u8,
        _: usize,
        octet: usize,
        [scale, minimum]: [S::Floats; 2],
    ) -> [S::Floats; OCTET] {
        // SAFETY: The caller's promise.
        let values = unsafe { four_bits(simd, slab.add(2 * HALVES), octet) };
        scaled(simd, values, scale, minimum)
    }

    fn pack(block: &[u8], slab: &mut [u8], row: usize) {
        put_half(slab, 0, row, [block[0], block[1]]);
        put_half(slab, HALVES, row, [block[2], block[3]]);
        put_nibbles(slab, 2 * HALVES, row, &split(&block[4..], 0));
    }
}

pub(crate) struct Q5_0;

impl Format for Q5_0 {
    const INPUTS: usize = GROUP;
    const BYTES: usize = HALVES + FIFTHS + NIBBLES;

    /// Scale, and -16 times it.
    type Scales<S: Simd> = [S::Floats; 2];

    #[inline(always)]
    unsafe fn scales<S: Simd>(simd: S, slab: *const u8, _: usize) -> [S::Floats; 2] {
        // SAFETY: The caller's promise.
        let scale = unsafe { simd.load_f16(slab) };
        [scale, simd.mul(scale, simd.splat(-16.0))]
    }

    #[inline(always)]
    unsafe fn octet<S: Simd>(
        simd: S,
        slab: *const u8,
        _: usize,
        octet: usize,
        [scale, offset]: [S::Floats; 2],
    ) -> [S::Floats; OCTET] {
        // SAFETY: The caller's promise.
        let values = unsafe { five_bits(simd, slab.add(HALVES + FIFTHS), slab.add(HALVES), octet) };
        scaled(simd, values, scale, offset)
    }

    fn pack(block: &[u8], slab: &mut [u8], row: usize) {
        let fifths = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
        let values = split(&block[6..], fifths);
        put_half(slab, 0, row, [block[0], block[1]]);
        put_fifths(slab, HALVES, row, &values);
        put_nibbles(slab, HALVES + FIFTHS, row, &values);
    }
}

pub(crate) struct Q5_1;

impl Format for Q5_1 {
    const INPUTS: usize = GROUP;
    const BYTES: usize = 2 * HALVES + FIFTHS + NIBBLES;

    /// Scale and minimum.
    type Scales<S: Simd> = [S::Floats; 2];

    #[inline(always)]
    unsafe fn scales<S: Simd>(simd: S, slab: *const u8, _: usize) -> [S::Floats; 2] {
        // SAFETY: The caller's promise.
        unsafe { [simd.load_f16(slab), simd.load_f16(slab.add(HALVES))] }
    }

    #[inline(always)]
    unsafe fn octet<S: Simd>(
        simd: S,
        slab: *const u8,
        _: usize,
        octet: usize,
        [scale, minimum]: [S::Floats; 2],
    ) -> [S::Floats; OCTET] {
        // SAFETY: The caller's promise.
        let values = unsafe {
            let fifths = slab.add(2 * HALVES);
            five_bits(simd, fifths.add(FIFTHS), fifths, octet)
        };
        scaled(simd, values, scale, minimum)
    }

    fn pack(block: &[u8], slab: &mut [u8], row: usize) {
        let fifths = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
        let values = split(&block[8..], fifths);
        put_half(slab, 0, row, [block[0], block[1]]);
        put_half(slab, HALVES, row, [block[2], block[3]]);
        put_fifths(slab, 2 * HALVES, row, &values);
        put_nibbles(slab, 2 * HALVES + FIFTHS, row, &values);
    }
}

pub(crate) struct Q8_0;

impl Format for Q8_0 {
    const INPUTS: usize = GROUP;
    const BYTES: usize = HALVES + GROUP * LANES;

    type Scales<S: Simd> = S::Floats;

    #[inline(always)]
    unsafe fn scales<S: Simd>(simd: S, slab: *const u8, _: usize) -> S::Floats {
        // SAFETY: The caller's promise.
        unsafe { simd.load_f16(slab) }
    }

    #[inline(always)]
    unsafe fn octet<S: Simd>(
        simd: S,
        slab: *const u8,
        _: usize,
        octet: usize,
        scale: S::Floats,
    ) -> [S::Floats; OCTET] {
        // SAFETY: The caller's promise.
        unsafe {
            let bytes = slab.add(HALVES + octet * OCTET * LANES);
            eight!(index => simd.mul(simd.load_i8(bytes.add(index * LANES)), scale))
        }
    }

    fn pack(block: &[u8], slab: &mut [u8], row: usize) {
        put_half(slab, 0, row, [block[0], block[1]]);
        for (input, value) in block[2..].iter().enumerate() {
            slab[HALVES + input * LANES + row] = *value;
        }
    }
}

/// Where the groups of `Q4_K` and `Q5_K` begin: after two scales and eight pairs of bytes.
const K_GROUPS: usize = 2 * HALVES + 2 * 8 * LANES;

/// Scale and negative minimum of a group of `Q4_K` or `Q5_K`.
///
/// # Safety
/// `slab` points to a slab of one of them that has the group.
#[inline(always)]
unsafe fn k_scales<S: Simd>(simd: S, slab: *const u8, group: usize) -> [S::Floats; 2] {
    // SAFETY: The caller's promise.
    unsafe {
        let bytes = slab.add(2 * HALVES + group * LANES);
        let scale = simd.mul(simd.load_f16(slab), simd.load_u8(bytes));
        let minimum = simd.load_f16(slab.add(HALVES));
        let minimum = simd.mul(minimum, simd.load_u8(bytes.add(8 * LANES)));
        [scale, simd.sub(simd.splat(0.0), minimum)]
    }
}

/// The scales of a block of `Q4_K` or `Q5_K`: the first 16 bytes of both.
fn put_k_scales(slab: &mut [u8], row: usize, block: &[u8]) {
    put_half(slab, 0, row, [block[0], block[1]]);
    put_half(slab, HALVES, row, [block[2], block[3]]);
    let packed = &block[4..16];
    for group in 0..8 {
        let (scale, minimum) = if group < 4 {
            (packed[group] & 63, packed[group + 4] & 63)
        } else {
            (
                packed[group + 4] & 15 | packed[group - 4] >> 6 << 4,
                packed[group + 4] >> 4 | packed[group] >> 6 << 4,
            )
        };
        slab[2 * HALVES + group * LANES + row] = scale;
        slab[2 * HALVES + (8 + group) * LANES + row] = minimum;
    }
}

/// The low four bits of a group of `Q4_K` or `Q5_K`: two groups share 32 bytes.
fn k_nibbles(nibbles: &[u8], group: usize) -> [u8; GROUP] {
    std::array::from_fn(|index| nibbles[group / 2 * 32 + index] >> (group % 2 * 4) & 15)
}

pub(crate) struct Q4K;

impl Format for Q4K {
    const INPUTS: usize = 8 * GROUP;
    const BYTES: usize = K_GROUPS + 8 * NIBBLES;

    type Scales<S: Simd> = [S::Floats; 2];

    #[inline(always)]
    unsafe fn scales<S: Simd>(simd: S, slab: *const u8, group: usize) -> [S::Floats; 2] {
        // SAFETY: The caller's promise.
        unsafe { k_scales(simd, slab, group) }
    }

    #[inline(always)]
    unsafe fn octet<S: Simd>(
        simd: S,
        slab: *const u8,
        group: usize,
        octet: usize,
        [scale, minimum]: [S::Floats; 2],
    ) -> [S::Floats; OCTET] {
        // SAFETY: The caller's promise.
        let values = unsafe { four_bits(simd, slab.add(K_GROUPS + group * NIBBLES), octet) };
        scaled(simd, values, scale, minimum)
    }

    fn pack(block: &[u8], slab: &mut [u8], row: usize) {
        put_k_scales(slab, row, block);
        for group in 0..8 {
            let values = k_nibbles(&block[16..], group);
            put_nibbles(slab, K_GROUPS + group * NIBBLES, row, &values);
        }
    }
}

pub(crate) struct Q5K;

impl Format for Q5K {
    const INPUTS: usize = 8 * GROUP;
    const BYTES: usize = K_GROUPS + 8 * (FIFTHS + NIBBLES);

    type Scales<S: Simd> = [S::Floats; 2];

    #[inline(always)]
    unsafe fn scales<S: Simd>(simd: S, slab: *const u8, group: usize) -> [S::Floats; 2] {
        // SAFETY: The caller's promise.
        unsafe { k_scales(simd, slab, group) }
    }

    #[inline(always)]
    unsafe fn octet<S: Simd>(
        simd: S,
        slab: *const u8,
        group: usize,
        octet: usize,
        [scale, minimum]: [S::Floats; 2],
    ) -> [S::Floats; OCTET] {
        // SAFETY: The caller's promise.
        let values = unsafe {
            let fifths = slab.add(K_GROUPS + group * (FIFTHS + NIBBLES));
            five_bits(simd, fifths.add(FIFTHS), fifths, octet)
        };
        scaled(simd, values, scale, minimum)
    }

    fn pack(block: &[u8], slab: &mut [u8], row: usize) {
        put_k_scales(slab, row, block);
        let (bits, nibbles) = block[16..].split_at(32);
        for group in 0..8 {
            let mut values = k_nibbles(nibbles, group);
            for (value, bits) in values.iter_mut().zip(bits) {
                *value |= (bits >> group & 1) << 4;
            }
            let at = K_GROUPS + group * (FIFTHS + NIBBLES);
            put_fifths(slab, at, row, &values);
            put_nibbles(slab, at + FIFTHS, row, &values);
        }
    }
}

/// Where the groups of `Q6_K` begin: after one scale and 16 bytes of finer ones.
const Q6K_GROUPS: usize = HALVES + 16 * LANES;

pub(crate) struct Q6K;

impl Format for Q6K {
    const INPUTS: usize = 8 * GROUP;
    const BYTES: usize = Q6K_GROUPS + 8 * (PAIRS + NIBBLES);

    /// For each half of the group its scale, and -32 times it.
    type Scales<S: Simd> = [[S::Floats; 2]; 2];

    #[inline(always)]
    unsafe fn scales<S: Simd>(simd: S, slab: *const u8, group: usize) -> [[S::Floats; 2]; 2] {
        // SAFETY: The caller's promise.
        let scales = unsafe {
            let scale = simd.load_f16(slab);
            let bytes = slab.add(HALVES + 2 * group * LANES);
            [
                simd.mul(scale, simd.load_i8(bytes)),
                simd.mul(scale, simd.load_i8(bytes.add(LANES))),
            ]
        };
        let offset = simd.splat(-32.0);
        [
            [scales[0], simd.mul(scales[0], offset)],
            [scales[1], simd.mul(scales[1], offset)],
        ]
    }

    #[inline(always)]
    unsafe fn octet<S: Simd>(
        simd: S,
        slab: *const u8,
        group: usize,
        octet: usize,
        scales: [[S::Floats; 2]; 2],
    ) -> [S::Floats; OCTET] {
        // SAFETY: The caller's promise.
        let values = unsafe {
            let pairs = slab.add(Q6K_GROUPS + group * (PAIRS + NIBBLES));
            six_bits(simd, pairs.add(PAIRS), pairs, octet)
        };
        let [scale, offset] = scales[octet / 2];
        scaled(simd, values, scale, offset)
    }

    fn pack(block: &[u8], slab: &mut [u8], row: usize) {
        let (low, rest) = block.split_at(128);
        let (high, rest) = rest.split_at(64);
        let (scales, scale) = rest.split_at(16);
        put_half(slab, 0, row, [scale[0], scale[1]]);
        for (index, scale) in scales.iter().enumerate() {
            slab[HALVES + index * LANES + row] = *scale;
        }
        for group in 0..8 {
            let (half, quarter) = (group / 4, group % 4);
            let values = std::array::from_fn(|index| {
                let low = low[64 * half + quarter % 2 * 32 + index] >> (quarter / 2 * 4) & 15;
                low | (high[32 * half + index] >> (2 * quarter) & 3) << 4
            });
            let at = Q6K_GROUPS + group * (PAIRS + NIBBLES);
            put_pairs(slab, at, row, &values);
            put_nibbles(slab, at + PAIRS, row, &values);
        }
    }
}
