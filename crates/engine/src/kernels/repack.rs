//! Reorders a file's quantised bits as [`super::pack`] has them.
//!
//! `raw` `[rows, row_words]`: rows of the file in the order of the packed ones, zeros behind each to
//! a whole block of 32 values and a whole word. Eight rows that
//! follow each other are a tile, the first of them `first_tile`.
//!
//! A unit reorders the bits of eight blocks of a row, of which the last may have fewer: what they
//! share in words is its own. Neighbouring units have neighbouring rows of a tile.

use cubecl::prelude::*;
use infera_model::quant::TensorType;

use super::Four;
use super::pack;

/// Units of a cube.
pub const UNITS: u32 = 64;

/// 16 bits from an even byte on.
#[cube]
fn half_at(raw: &[u32], row: usize, at: usize) -> u32 {
    (raw[row + at / 4] >> ((at % 4) as u32 * 8u32)) & 0xffffu32
}

/// 32 bits from an even byte on; blocks of whole words have none but whole words.
#[cube]
fn word_at(raw: &[u32], row: usize, at: usize, #[comptime] kind: TensorType) -> u32 {
    if comptime!(kind.block_bytes().is_multiple_of(4) || pack::is_float(kind)) {
        raw[row + at / 4]
    } else {
        half_at(raw, row, at) | (half_at(raw, row, at + 2) << 16u32)
    }
}

#[cube]
fn byte_at(raw: &[u32], row: usize, at: usize) -> u32 {
    (raw[row + at / 4] >> ((at % 4) as u32 * 8u32)) & 0xffu32
}

/// 16 bytes from an even byte on.
#[cube]
fn piece_at(raw: &[u32], row: usize, at: usize, #[comptime] kind: TensorType) -> Vector<u32, Four> {
    let mut piece = Vector::<u32, Four>::new(0u32);
    #[unroll]
    for word in 0..4usize {
        piece.insert(word, word_at(raw, row, at + comptime!(4 * word), kind));
    }
    piece
}

/// Four bits each of 32 bytes from an even byte on, `shift` bits up: those of byte `j + 16` above
/// those of byte `j`.
#[cube]
fn nibbles_at(
    raw: &[u32],
    row: usize,
    at: usize,
    shift: u32,
    #[comptime] kind: TensorType,
) -> Vector<u32, Four> {
    let mut piece = Vector::<u32, Four>::new(0u32);
    #[unroll]
    for word in 0..4usize {
        let low = word_at(raw, row, at + comptime!(4 * word), kind) >> shift;
        let high = word_at(raw, row, at + comptime!(4 * word + 16), kind) >> shift;
        piece.insert(
            word,
            (low & 0x0f0f_0f0fu32) | ((high & 0x0f0f_0f0fu32) << 4u32),
        );
    }
    piece
}

/// `bits` bits each of as many bytes as fit in a word, `shift` bits up, behind each other.
#[cube]
fn gathered(
    raw: &[u32],
    row: usize,
    at: usize,
    shift: u32,
    #[comptime] bits: u32,
    #[comptime] kind: TensorType,
) -> u32 {
    let mut all = 0u32;
    #[unroll]
    for word in 0..comptime!(8 / bits) {
        let four = word_at(raw, row, at + comptime!(4 * word as usize), kind) >> shift;
        #[unroll]
        for byte in 0..4u32 {
            let own = (four >> comptime!(8 * byte)) & comptime!((1u32 << bits) - 1);
            all |= own << comptime!((4 * word + byte) * bits);
        }
    }
    all
}

/// The 16 bits of a block whose neighbour has the other half of their word. `at` is where the block
/// or, for K-quants, the group of eight begins, and `sub` the block's place in the group.
#[cube]
fn scale_bits(raw: &[u32], row: usize, at: usize, sub: usize, #[comptime] kind: TensorType) -> u32 {
    if comptime!(kind == TensorType::Q6K) {
        half_at(raw, row, at + 192 + 2 * sub)
    } else if comptime!(pack::is_super(kind)) {
        // Source of the packing of scales: `scale_and_minimum` in `infera_model::quant`.
        let packed = at + 4;
        let mut scale = byte_at(raw, row, packed + sub);
        let mut minimum = byte_at(raw, row, packed + sub + 4);
        if sub < 4 {
            scale &= 63u32;
            minimum &= 63u32;
        } else {
            let above = scale >> 6u32;
            scale = (minimum & 15u32) | ((byte_at(raw, row, packed + sub - 4) >> 6u32) << 4u32);
            minimum = (minimum >> 4u32) | (above << 4u32);
        }
        scale | (minimum << 8u32)
    } else {
        half_at(raw, row, at)
    }
}

/// Grid: units for `tiles * 8` rows by `ceil(blocks / 8)`, in cubes of [`UNITS`].
#[cube(launch, launch_unchecked)]
pub fn repack_rows(
    raw: &[u32],
    quants: &mut [Vector<u32, Four>],
    side: &mut [u32],
    row_words: u32,
    tiles: u32,
    first_tile: u32,
    blocks: u32,
    high_at: u32,
    supers_at: u32,
    #[comptime] kind: TensorType,
) {
    let pieces = comptime!(pack::pieces(kind));
    let high_words = comptime!(pack::high_words(kind));
    let bytes = comptime!(kind.block_bytes());
    // Bytes before the quants of a block that has its own scale.
    let head = comptime!(if pack::is_float(kind) { 0 } else { bytes % 16 });
    let blocks = blocks as usize;
    let groups = (blocks + 7) / 8;
    let lane = ABSOLUTE_POS % 8;
    let group = ABSOLUTE_POS / 8 % groups;
    let own_tile = ABSOLUTE_POS / 8 / groups;
    if own_tile < tiles as usize {
        let row = (own_tile * 8 + lane) * row_words as usize;
        let tile = first_tile as usize + own_tile;
        let of_group = group * bytes;
        let first = group * 8;
        let end = min(first + 8, blocks);
        let mut waiting = 0u32;
        let mut block = first;
        while block < end {
            let sub = block - first;
            let quant = (tile * blocks + block) * comptime!(pieces * 8) + lane;
            let high =
                high_at as usize + (tile * blocks + block) * comptime!(high_words * 8) + lane;
            if comptime!(pack::is_super(kind)) {
                if comptime!(kind == TensorType::Q6K) {
                    let half = sub / 4;
                    let quarter = sub % 4;
                    let low = of_group + 64 * half + 32 * (quarter % 2);
                    quants[quant] = nibbles_at(raw, row, low, (quarter / 2) as u32 * 4u32, kind);
                    let above = of_group + 128 + 32 * half;
                    let shift = quarter as u32 * 2u32;
                    side[high] = gathered(raw, row, above, shift, 2u32, kind);
                    side[high + 8] = gathered(raw, row, above + 16, shift, 2u32, kind);
                } else {
                    let low = of_group + comptime!(bytes - 128) + sub / 2 * 32;
                    quants[quant] = nibbles_at(raw, row, low, (sub % 2) as u32 * 4u32, kind);
                    if comptime!(high_words == 1) {
                        side[high] = gathered(raw, row, of_group + 16, sub as u32, 1u32, kind);
                    }
                }
            } else {
                let at = block * comptime!(32 * bytes / kind.block_values());
                #[unroll]
                for piece in 0..pieces {
                    quants[quant + comptime!(piece * 8)] =
                        piece_at(raw, row, at + comptime!(head + piece * 16), kind);
                }
                if comptime!(high_words == 1) {
                    side[high] = word_at(raw, row, at + comptime!(head - 4), kind);
                }
            }
            if comptime!(pack::has_minimum(kind)) {
                side[(tile * blocks + block) * 8 + lane] = word_at(raw, row, block * bytes, kind);
            } else if comptime!(!pack::is_float(kind)) {
                let at = if comptime!(pack::is_super(kind)) {
                    of_group
                } else {
                    block * bytes
                };
                waiting |= scale_bits(raw, row, at, sub, kind) << ((sub % 2) as u32 * 16u32);
                if sub % 2 == 1 || block + 1 == end {
                    side[(tile * ((blocks + 1) / 2) + block / 2) * 8 + lane] = waiting;
                    waiting = 0u32;
                }
            }
            block += 1;
        }
        if comptime!(kind == TensorType::Q6K) {
            let at = supers_at as usize + (tile * groups + group) * 8 + lane;
            side[at] = half_at(raw, row, of_group + 208);
        } else if comptime!(pack::is_super(kind)) {
            let at = supers_at as usize + (tile * groups + group) * 8 + lane;
            side[at] = word_at(raw, row, of_group, kind);
        }
    }
}
