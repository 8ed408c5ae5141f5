//! The tensor types a file may hold and their conversion to `f32`, bit for bit as ggml does it.
//!
//! Source: the block layouts in ggml's `ggml-common.h` and the reference conversion in
//! `ggml-quants.c`. A scale is an `f16` (11 significant bits), a sub-block scale has at most 8 and
//! a quantised value at most 6, so every product below is exact in `f32` and only the one final
//! addition or subtraction rounds. The result therefore does not depend on the order of the
//! multiplications, nor on whether a compiler fuses a multiplication with an addition.

use std::fmt;

use half::{bf16, f16};

/// How the values of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TensorType {
    /// One 32-bit float for each value.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a 32-bit float.
    BF16,
    /// 32 values of 4 bits, one scale.
    Q4_0,
    /// 32 values of 4 bits, scale and minimum.
    Q4_1,
    /// 32 values of 5 bits, one scale.
    Q5_0,
    /// 32 values of 5 bits, scale and minimum.
    Q5_1,
    /// 32 values of 8 bits, one scale.
    Q8_0,
    /// 256 values of 4 bits in 8 sub-blocks with 6-bit scales and minima.
    Q4K,
    /// 256 values of 5 bits in 8 sub-blocks with 6-bit scales and minima.
    Q5K,
    /// 256 values of 6 bits in 16 sub-blocks with 8-bit scales.
    Q6K,
}

/// The lengths given to [`dequantize`] do not belong together.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
#[error("{bytes} bytes of {kind} do not hold {values} values; give whole blocks of both")]
pub struct LengthMismatch {
    /// How the values are stored.
    pub kind: TensorType,
    /// How many bytes were given.
    pub bytes: usize,
    /// How many values there was room for.
    pub values: usize,
}

impl TensorType {
    /// All types that this program reads.
    pub const ALL: [Self; 11] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// The type's number in a GGUF file.
    pub const fn code(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q4K => 12,
            Self::Q5K => 13,
            Self::Q6K => 14,
            Self::BF16 => 30,
        }
    }

    /// None for a type that this program does not read.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// How many values one block holds.
    pub const fn block_values(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// How many bytes one block takes.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// The name that model files use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }
}

/// The name of a type that files have and this program lacks. Source: ggml's `ggml.h`.
pub(crate) fn other_type(code: u32) -> Option<&'static str> {
    Some(match code {
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        40 => "NVFP4",
        41 => "Q1_0",
        42 => "Q2_0",
        _ => return None,
    })
}

impl fmt::Display for TensorType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Converts whole blocks to `f32`. `bytes` holds n blocks of `kind` and `values` has room for
/// exactly n times [`TensorType::block_values`].
///
/// A row of a tensor is a whole number of blocks, so callers may split a tensor by rows and
/// convert the parts in parallel.
pub fn dequantize(
    kind: TensorType,
    bytes: &[u8],
    values: &mut [f32],
) -> Result<(), LengthMismatch> {
    let blocks = bytes.len() / kind.block_bytes();
    if !bytes.len().is_multiple_of(kind.block_bytes())
        || values.len() != blocks * kind.block_values()
    {
        return Err(LengthMismatch {
            kind,
            bytes: bytes.len(),
            values: values.len(),
        });
    }
    match kind {
        TensorType::F32 => each(bytes, values, f32::from_le_bytes),
        TensorType::F16 => each(bytes, values, |bytes| f16::from_le_bytes(bytes).to_f32()),
        TensorType::BF16 => each(bytes, values, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        TensorType::Q4_0 => blocks_of::<18, 32>(bytes, values, q4_0),
        TensorType::Q4_1 => blocks_of::<20, 32>(bytes, values, q4_1),
        TensorType::Q5_0 => blocks_of::<22, 32>(bytes, values, q5_0),
        TensorType::Q5_1 => blocks_of::<24, 32>(bytes, values, q5_1),
        TensorType::Q8_0 => blocks_of::<34, 32>(bytes, values, q8_0),
        TensorType::Q4K => blocks_of::<144, 256>(bytes, values, q4_k),
        TensorType::Q5K => blocks_of::<176, 256>(bytes, values, q5_k),
        TensorType::Q6K => blocks_of::<210, 256>(bytes, values, q6_k),
    }
    Ok(())
}

/// Whether all values of whole blocks are finite. Of quantised values that depends on their block's
/// scale and minimum alone: the largest product of them is far below what `f32` holds.
pub fn is_finite(kind: TensorType, bytes: &[u8]) -> bool {
    match kind {
        // What is not finite has the largest exponent.
        TensorType::F32 => {
            let values = bytes.as_chunks::<4>().0.iter();
            let exponents = values.map(|value| u32::from_le_bytes(*value) & 0x7f80_0000);
            exponents.fold(0, u32::max) < 0x7f80_0000
        }
        TensorType::F16 => largest_bits(bytes, 0x7c00) < 0x7c00,
        TensorType::BF16 => largest_bits(bytes, 0x7f80) < 0x7f80,
        TensorType::Q4_0 => all::<18>(bytes, |block| is_finite_half::<0>(block)),
        TensorType::Q4_1 => all::<20>(bytes, |block| are_finite_halves(block)),
        TensorType::Q5_0 => all::<22>(bytes, |block| is_finite_half::<0>(block)),
        TensorType::Q5_1 => all::<24>(bytes, |block| are_finite_halves(block)),
        TensorType::Q8_0 => all::<34>(bytes, |block| is_finite_half::<0>(block)),
        TensorType::Q4K => all::<144>(bytes, |block| are_finite_halves(block)),
        TensorType::Q5K => all::<176>(bytes, |block| are_finite_halves(block)),
        TensorType::Q6K => all::<210>(bytes, |block| is_finite_half::<208>(block)),
    }
}

/// The largest of what `mask` leaves of each 16-bit value.
fn largest_bits(bytes: &[u8], mask: u16) -> u16 {
    let values = bytes.as_chunks::<2>().0.iter();
    let bits = values.map(|value| u16::from_le_bytes(*value) & mask);
    bits.fold(0, u16::max)
}

/// Whether a test holds for all blocks. It is made for every one, so that the compiler can make it
/// for several at once.
fn all<const BYTES: usize>(bytes: &[u8], test: impl Fn(&[u8; BYTES]) -> bool) -> bool {
    let blocks = bytes.as_chunks::<BYTES>().0;
    blocks.iter().fold(true, |all, block| all & test(block))
}

fn is_finite_half<const AT: usize>(block: &[u8]) -> bool {
    f16::from_le_bytes([block[AT], block[AT + 1]]).is_finite()
}

/// The first two.
fn are_finite_halves(block: &[u8]) -> bool {
    is_finite_half::<0>(block) & is_finite_half::<2>(block)
}

fn each<const N: usize>(bytes: &[u8], values: &mut [f32], convert: impl Fn([u8; N]) -> f32) {
    for (bytes, value) in bytes.as_chunks::<N>().0.iter().zip(values) {
        *value = convert(*bytes);
    }
}

fn blocks_of<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    values: &mut [f32],
    convert: impl Fn(&[u8; BYTES], &mut [f32; VALUES]),
) {
    let blocks = bytes.as_chunks::<BYTES>().0;
    for (block, values) in blocks.iter().zip(values.as_chunks_mut::<VALUES>().0) {
        convert(block, values);
    }
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn q4_0(block: &[u8; 18], values: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    for (index, byte) in block[2..].iter().enumerate() {
        values[index] = (f32::from(byte & 15) - 8.0) * scale;
        values[index + 16] = (f32::from(byte >> 4) - 8.0) * scale;
    }
}

fn q4_1(block: &[u8; 20], values: &mut [f32; 32]) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    for (index, byte) in block[4..].iter().enumerate() {
        values[index] = f32::from(byte & 15) * scale + minimum;
        values[index + 16] = f32::from(byte >> 4) * scale + minimum;
    }
}

/// The fifth bits of the values at `index` and `index + 16`, in place above the low four.
fn fifth_bits(bits: u32, index: usize) -> (u8, u8) {
    let low = ((bits >> index) & 1) << 4;
    let high = ((bits >> (index + 16)) & 1) << 4;
    (low as u8, high as u8)
}

fn q5_0(block: &[u8; 22], values: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    let bits = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    for (index, byte) in block[6..].iter().enumerate() {
        let (low, high) = fifth_bits(bits, index);
        values[index] = (f32::from(byte & 15 | low) - 16.0) * scale;
        values[index + 16] = (f32::from(byte >> 4 | high) - 16.0) * scale;
    }
}

fn q5_1(block: &[u8; 24], values: &mut [f32; 32]) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    let bits = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    for (index, byte) in block[8..].iter().enumerate() {
        let (low, high) = fifth_bits(bits, index);
        values[index] = f32::from(byte & 15 | low) * scale + minimum;
        values[index + 16] = f32::from(byte >> 4 | high) * scale + minimum;
    }
}

fn q8_0(block: &[u8; 34], values: &mut [f32; 32]) {
    let scale = half_at(block, 0);
    for (value, byte) in values.iter_mut().zip(&block[2..]) {
        *value = f32::from(byte.cast_signed()) * scale;
    }
}

/// Scale and minimum of a sub-block. Twelve bytes hold eight pairs of 6-bit numbers: the first
/// four pairs in the low bits of bytes 0..4 and 4..8, the last four split between bytes 8..12 and
/// the two high bits of the first eight.
fn scale_and_minimum(packed: &[u8], sub_block: usize) -> (f32, f32) {
    let (scale, minimum) = if sub_block < 4 {
        (packed[sub_block] & 63, packed[sub_block + 4] & 63)
    } else {
        (
            packed[sub_block + 4] & 15 | packed[sub_block - 4] >> 6 << 4,
            packed[sub_block + 4] >> 4 | packed[sub_block] >> 6 << 4,
        )
    };
    (f32::from(scale), f32::from(minimum))
}

fn q4_k(block: &[u8; 144], values: &mut [f32; 256]) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    let (packed, quants) = block[4..].split_at(12);
    for (pair, (values, quants)) in values
        .as_chunks_mut::<64>()
        .0
        .iter_mut()
        .zip(quants.as_chunks::<32>().0)
        .enumerate()
    {
        let (low_scale, low_minimum) = scale_and_minimum(packed, 2 * pair);
        let (high_scale, high_minimum) = scale_and_minimum(packed, 2 * pair + 1);
        let (low_scale, low_minimum) = (scale * low_scale, minimum * low_minimum);
        let (high_scale, high_minimum) = (scale * high_scale, minimum * high_minimum);
        for (index, byte) in quants.iter().enumerate() {
            values[index] = low_scale * f32::from(byte & 15) - low_minimum;
            values[index + 32] = high_scale * f32::from(byte >> 4) - high_minimum;
        }
    }
}

fn q5_k(block: &[u8; 176], values: &mut [f32; 256]) {
    let (scale, minimum) = (half_at(block, 0), half_at(block, 2));
    let (packed, rest) = block[4..].split_at(12);
    let (high_bits, quants) = rest.split_at(32);
    for (pair, (values, quants)) in values
        .as_chunks_mut::<64>()
        .0
        .iter_mut()
        .zip(quants.as_chunks::<32>().0)
        .enumerate()
    {
        let (low_scale, low_minimum) = scale_and_minimum(packed, 2 * pair);
        let (high_scale, high_minimum) = scale_and_minimum(packed, 2 * pair + 1);
        let (low_scale, low_minimum) = (scale * low_scale, minimum * low_minimum);
        let (high_scale, high_minimum) = (scale * high_scale, minimum * high_minimum);
        for (index, (byte, bits)) in quants.iter().zip(high_bits).enumerate() {
            let low = byte & 15 | (bits >> (2 * pair) & 1) << 4;
            let high = byte >> 4 | (bits >> (2 * pair + 1) & 1) << 4;
            values[index] = low_scale * f32::from(low) - low_minimum;
            values[index + 32] = high_scale * f32::from(high) - high_minimum;
        }
    }
}

fn q6_k(block: &[u8; 210], values: &mut [f32; 256]) {
    let (low_bits, rest) = block.split_at(128);
    let (high_bits, rest) = rest.split_at(64);
    let (scales, _) = rest.split_at(16);
    let scale = half_at(block, 208);
    for (half, values) in values.as_chunks_mut::<128>().0.iter_mut().enumerate() {
        let low_bits = &low_bits[64 * half..][..64];
        let high_bits = &high_bits[32 * half..][..32];
        for (index, high) in high_bits.iter().enumerate() {
            let (first, second) = (low_bits[index], low_bits[index + 32]);
            let quants = [
                first & 15 | (high & 3) << 4,
                second & 15 | (high >> 2 & 3) << 4,
                first >> 4 | (high >> 4 & 3) << 4,
                second >> 4 | (high >> 6) << 4,
            ];
            for (quarter, quant) in quants.into_iter().enumerate() {
                let sub_scale = scales[8 * half + 2 * quarter + index / 16].cast_signed();
                values[32 * quarter + index] =
                    scale * f32::from(sub_scale) * (f32::from(quant) - 32.0);
            }
        }
    }
}

#[cfg(test)]
mod tests;
