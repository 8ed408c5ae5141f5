//! The layout of a matrix on the device: a file's quantised bits, reordered so that eight rows'
//! neighbouring lanes read neighbouring 16 bytes.
//!
//! Rows are cut into tiles of [`TILE`], each row into blocks of [`BLOCK`] values (`blocks` of
//! them; a last one that is not full is filled with zeros). All planes have the eight rows of a
//! tile innermost:
//!
//! | plane | what | index, in its own words |
//! |---|---|---|
//! | quants, 16 bytes | `n` pieces a block: 1 for 4 to 6 bits, 2 for 8, 4 for 16, 8 for 32 | `((tile * blocks + block) * n + piece) * 8 + row` |
//! | scales, 4 bytes | `Q4_1`, `Q5_1`: scale and minimum (f16 each) | `(tile * blocks + block) * 8 + row` |
//! | | others: 16 bits a block, two blocks a word | `(tile * ceil(blocks / 2) + block / 2) * 8 + row` |
//! | high, 4 bytes | the bits above the low four: 1 word a block for 5 bits, 2 for 6 | `((tile * blocks + block) * words + word) * 8 + row` |
//! | supers, 4 bytes | `Q4_K`, `Q5_K`, `Q6_K`: f16 scale and minimum of 8 blocks | `(tile * ceil(blocks / 8) + block / 8) * 8 + row` |
//!
//! A 4-bit piece holds value `j` in the low and `j + 16` in the high half of byte `j`. High bits:
//! for 5 bits, bit `j` belongs to value `j`; for 6 bits, bits `2j` and `2j + 1` of word `j / 16`.
//! The 16 bits of a K-quant's block are its scale and minimum (6 bits, one byte each), or for
//! `Q6_K` the signed scales of its two halves.

use infera_model::quant::TensorType;
use rayon::prelude::*;

/// Rows of a tile.
pub const TILE: usize = 8;
/// Values of a block.
pub const BLOCK: usize = 32;

/// A matrix, ready for the device.
pub struct Packed {
    pub kind: TensorType,
    pub rows: usize,
    /// Per row.
    pub blocks: usize,
    pub quants: Vec<u32>,
    /// Scales, then high bits, then supers; never empty.
    pub side: Vec<u32>,
    /// Where in `side` the high bits begin.
    pub high_at: usize,
    /// Where in `side` the supers begin.
    pub supers_at: usize,
}

/// 16-byte pieces of quants in a block.
pub const fn pieces(kind: TensorType) -> usize {
    match kind {
        TensorType::Q8_0 => 2,
        TensorType::F16 | TensorType::BF16 => 4,
        TensorType::F32 => 8,
        _ => 1,
    }
}

/// Words of high bits in a block.
pub const fn high_words(kind: TensorType) -> usize {
    match kind {
        TensorType::Q5_0 | TensorType::Q5_1 | TensorType::Q5K => 1,
        TensorType::Q6K => 2,
        _ => 0,
    }
}

/// Scale and minimum of a block are both f16.
pub const fn has_minimum(kind: TensorType) -> bool {
    matches!(kind, TensorType::Q4_1 | TensorType::Q5_1)
}

/// Eight blocks share a scale.
pub const fn is_super(kind: TensorType) -> bool {
    matches!(kind, TensorType::Q4K | TensorType::Q5K | TensorType::Q6K)
}

/// How many parts of a block have scales of their own.
pub const fn halves(kind: TensorType) -> usize {
    match kind {
        TensorType::Q6K => 2,
        _ => 1,
    }
}

/// Not quantised.
pub const fn is_float(kind: TensorType) -> bool {
    matches!(kind, TensorType::F32 | TensorType::F16 | TensorType::BF16)
}

/// Words of `side` per tile: scales, high bits, supers.
fn side_words(kind: TensorType, blocks: usize) -> [usize; 3] {
    let scales = if is_float(kind) {
        0
    } else if has_minimum(kind) {
        blocks
    } else {
        blocks.div_ceil(2)
    };
    let supers = if is_super(kind) {
        blocks.div_ceil(8)
    } else {
        0
    };
    [scales, high_words(kind) * blocks, supers].map(|words| words * TILE)
}

/// Bytes that `rows` of `inputs` values take on the device.
pub fn packed_bytes(kind: TensorType, inputs: usize, rows: usize) -> u64 {
    let (tiles, blocks) = (rows.div_ceil(TILE), inputs.div_ceil(BLOCK));
    let side: usize = side_words(kind, blocks).iter().sum();
    (tiles * (blocks * pieces(kind) * TILE * 16 + side * 4)) as u64
}

/// Packs `rows` rows of `inputs` values; `source` gives the file's bytes of a row, in parallel.
pub fn pack<'a>(
    kind: TensorType,
    inputs: usize,
    rows: usize,
    source: impl Fn(usize) -> &'a [u8] + Sync,
) -> Packed {
    let (tiles, blocks) = (rows.div_ceil(TILE), inputs.div_ceil(BLOCK));
    let [scale_words, high, super_words] = side_words(kind, blocks);
    let quant_words = blocks * pieces(kind) * TILE * 4;
    let mut quants = vec![0; tiles * quant_words];
    let mut side = vec![0; (tiles * (scale_words + high + super_words)).max(1)];
    let (high_at, supers_at) = (tiles * scale_words, tiles * (scale_words + high));
    {
        let (scales, rest) = side.split_at_mut(high_at);
        let (highs, supers) = rest.split_at_mut(supers_at - high_at);
        let mut work: Vec<Tile<'_>> = split(&mut quants, quant_words, tiles)
            .into_iter()
            .zip(split(scales, scale_words, tiles))
            .zip(split(highs, high, tiles))
            .zip(split(supers, super_words, tiles))
            .map(|(((quants, scales), high), supers)| Tile {
                quants,
                scales,
                high,
                supers,
            })
            .collect();
        work.par_iter_mut().enumerate().for_each(|(tile, planes)| {
            for lane in 0..TILE.min(rows - tile * TILE) {
                planes.put_row(kind, blocks, lane, source(tile * TILE + lane));
            }
        });
    }
    Packed {
        kind,
        rows,
        blocks,
        quants,
        side,
        high_at,
        supers_at,
    }
}

/// `tiles` parts of `words` words each.
fn split(mut plane: &mut [u32], words: usize, tiles: usize) -> Vec<&mut [u32]> {
    let mut parts = Vec::with_capacity(tiles);
    for _ in 0..tiles {
        let (part, rest) = plane.split_at_mut(words);
        parts.push(part);
        plane = rest;
    }
    parts
}

/// One tile's part of each plane.
struct Tile<'a> {
    quants: &'a mut [u32],
    scales: &'a mut [u32],
    high: &'a mut [u32],
    supers: &'a mut [u32],
}

impl Tile<'_> {
    fn put_row(&mut self, kind: TensorType, blocks: usize, lane: usize, row: &[u8]) {
        match kind {
            TensorType::F32 | TensorType::F16 | TensorType::BF16 | TensorType::Q8_0 => {
                self.put_wide(kind, blocks, lane, row);
            }
            TensorType::Q4_0 | TensorType::Q4_1 | TensorType::Q5_0 | TensorType::Q5_1 => {
                for (block, bytes) in row.chunks_exact(kind.block_bytes()).enumerate() {
                    let (head, nibbles) = bytes.split_at(bytes.len() - 16);
                    self.put_piece(block, 1, 0, lane, nibbles);
                    if has_minimum(kind) {
                        self.scales[block * TILE + lane] = word(&head[..4]);
                    } else {
                        self.put_half(block, lane, half(head));
                    }
                    if high_words(kind) == 1 {
                        self.high[block * TILE + lane] = word(&head[head.len() - 4..]);
                    }
                }
            }
            TensorType::Q4K | TensorType::Q5K => {
                for (index, bytes) in row.chunks_exact(kind.block_bytes()).enumerate() {
                    self.put_k(kind, index, lane, bytes);
                }
            }
            TensorType::Q6K => {
                for (index, bytes) in row.chunks_exact(kind.block_bytes()).enumerate() {
                    self.put_6k(index, lane, bytes);
                }
            }
        }
    }

    /// Values of 8, 16 or 32 bits, which need no reordering within a row.
    fn put_wide(&mut self, kind: TensorType, blocks: usize, lane: usize, row: &[u8]) {
        let pieces = pieces(kind);
        if kind == TensorType::Q8_0 {
            for (block, bytes) in row.chunks_exact(34).enumerate() {
                self.put_half(block, lane, half(bytes));
                for (piece, bytes) in bytes[2..].chunks_exact(16).enumerate() {
                    self.put_piece(block, pieces, piece, lane, bytes);
                }
            }
            return;
        }
        let mut padded = [0; 16];
        for (index, bytes) in row.chunks(16).take(blocks * pieces).enumerate() {
            padded.fill(0);
            padded[..bytes.len()].copy_from_slice(bytes);
            self.put_piece(index / pieces, pieces, index % pieces, lane, &padded);
        }
    }

    /// Eight blocks of `Q4_K` or `Q5_K`.
    fn put_k(&mut self, kind: TensorType, index: usize, lane: usize, bytes: &[u8]) {
        self.supers[index * TILE + lane] = word(&bytes[..4]);
        let packed = &bytes[4..16];
        let (high, nibbles) = bytes[16..].split_at(bytes.len() - 16 - 128);
        for sub in 0..8 {
            let block = index * 8 + sub;
            // Source of the packing of scales: `scale_and_minimum` in `infera_model::quant`.
            let (scale, minimum) = if sub < 4 {
                (packed[sub] & 63, packed[sub + 4] & 63)
            } else {
                (
                    packed[sub + 4] & 15 | packed[sub - 4] >> 6 << 4,
                    packed[sub + 4] >> 4 | packed[sub] >> 6 << 4,
                )
            };
            self.put_half(block, lane, u16::from_le_bytes([scale, minimum]));
            let source = &nibbles[sub / 2 * 32..][..32];
            let quants: [u8; 32] =
                std::array::from_fn(|value| source[value] >> (4 * (sub % 2)) & 15);
            self.put_nibbles(block, lane, &quants);
            if kind == TensorType::Q5K {
                let bits = (0..32).fold(0, |bits, value| {
                    bits | u32::from(high[value] >> sub & 1) << value
                });
                self.high[block * TILE + lane] = bits;
            }
        }
    }

    /// Eight blocks of `Q6_K`.
    fn put_6k(&mut self, index: usize, lane: usize, bytes: &[u8]) {
        let (low, rest) = bytes.split_at(128);
        let (high, rest) = rest.split_at(64);
        self.supers[index * TILE + lane] = u32::from(half(&rest[16..]));
        for sub in 0..8 {
            let (half, quarter) = (sub / 4, sub % 4);
            let block = index * 8 + sub;
            self.put_half(
                block,
                lane,
                u16::from_le_bytes([rest[2 * sub], rest[2 * sub + 1]]),
            );
            let low = &low[64 * half + 32 * (quarter % 2)..][..32];
            let quants: [u8; 32] =
                std::array::from_fn(|value| low[value] >> (4 * (quarter / 2)) & 15);
            self.put_nibbles(block, lane, &quants);
            for word in 0..2 {
                let bits = (0..16).fold(0, |bits, value| {
                    let byte = high[32 * half + 16 * word + value];
                    bits | u32::from(byte >> (2 * quarter) & 3) << (2 * value)
                });
                self.high[(block * 2 + word) * TILE + lane] = bits;
            }
        }
    }

    fn put_nibbles(&mut self, block: usize, lane: usize, quants: &[u8; 32]) {
        let bytes: [u8; 16] = std::array::from_fn(|at| quants[at] | quants[at + 16] << 4);
        self.put_piece(block, 1, 0, lane, &bytes);
    }

    fn put_piece(&mut self, block: usize, pieces: usize, piece: usize, lane: usize, bytes: &[u8]) {
        let at = ((block * pieces + piece) * TILE + lane) * 4;
        for (slot, bytes) in self.quants[at..at + 4]
            .iter_mut()
            .zip(bytes.chunks_exact(4))
        {
            *slot = word(bytes);
        }
    }

    /// The 16 bits of a block that shares its word with a neighbour.
    fn put_half(&mut self, block: usize, lane: usize, bits: u16) {
        self.scales[block / 2 * TILE + lane] |= u32::from(bits) << (16 * (block % 2));
    }
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn half(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[0], bytes[1]])
}
