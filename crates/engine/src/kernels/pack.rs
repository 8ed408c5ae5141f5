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

/// Rows of a tile.
pub const TILE: usize = 8;
/// Values of a block.
pub const BLOCK: usize = 32;

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

/// How many of what a packed matrix has.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    pub kind: TensorType,
    pub tiles: usize,
    /// Per row.
    pub blocks: usize,
    /// Words of the quants' plane.
    pub quants: usize,
    /// Words of the other planes: scales, then high bits, then supers; at least one.
    pub side: usize,
    /// Where in `side` the high bits begin.
    pub high_at: usize,
    /// Where in `side` the supers begin.
    pub supers_at: usize,
}

impl Layout {
    /// The layout for `rows` rows of `inputs` values.
    pub fn of(kind: TensorType, inputs: usize, rows: usize) -> Self {
        let (tiles, blocks) = (rows.div_ceil(TILE), inputs.div_ceil(BLOCK));
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
        let rows = tiles * TILE;
        let high_at = rows * scales;
        let supers_at = high_at + rows * high_words(kind) * blocks;
        Self {
            kind,
            tiles,
            blocks,
            quants: rows * blocks * pieces(kind) * 4,
            side: (supers_at + rows * supers).max(1),
            high_at,
            supers_at,
        }
    }

    /// Words that a row of the file needs, the last block whole.
    pub fn source_words(&self) -> usize {
        let (values, bytes) = (self.kind.block_values(), self.kind.block_bytes());
        (self.blocks * BLOCK / values * bytes).div_ceil(4)
    }

    /// On the device.
    pub fn bytes(&self) -> u64 {
        (self.quants + self.side) as u64 * 4
    }
}
