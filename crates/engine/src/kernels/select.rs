//! The blocks of logits that can hold a row's largest.
//!
//! Logits are `[rows, vocabulary]` in f32, and 64 that follow each other are a block. What is
//! copied out are the `count` blocks whose largest logits are the largest, whole and as they were:
//! nothing is computed with them, so whoever reads them sees what is in the row. The block that
//! holds the row's `n`-th largest logit is among the first `n`.
//!
//! Blocks are ranked by integers that rise as their largest logit does: one for each block, then
//! every block counts those that go before it. No unit waits for another, and equal blocks rank as
//! they stand in the row.

use cubecl::prelude::*;

use super::Four;

/// Logits that are kept or left together.
pub const BLOCK: usize = 64;
/// Words of what is copied of a block: its place in the row, then its logits.
pub const COPIED: usize = BLOCK + 1;
/// Blocks of a cube.
pub const UNITS: u32 = 64;

/// For each block an integer that rises with its largest logit; what is not finite counts as the
/// lowest there is. `keys` are `[rows, stride]`, a `stride` being a multiple of 4 and at least the
/// row's blocks; those behind them are 0, lower than any block.
///
/// Grid: `stride / UNITS` cubes, rounded up, by rows.
#[cube(launch, launch_unchecked)]
pub fn block_keys(logits: &[u32], keys: &mut [u32], vocabulary: u32, stride: u32) {
    let block = CUBE_POS_X * UNITS + UNIT_POS_X;
    if block < stride {
        let row = (CUBE_POS_Y * vocabulary) as usize;
        let end = min((block + 1u32) * comptime!(BLOCK as u32), vocabulary);
        let mut largest = 0u32;
        let mut at = block * comptime!(BLOCK as u32);
        while at < end {
            largest = max(largest, rising(logits[row + at as usize]));
            at += 1u32;
        }
        keys[(CUBE_POS_Y * stride + block) as usize] = largest;
    }
}

/// An integer that rises with the value of these bits. At least 1.
#[cube]
fn rising(bits: u32) -> u32 {
    let negative = bits >> 31u32 == 1u32;
    let finite = bits & 0x7f80_0000u32 != 0x7f80_0000u32;
    select(finite, select(negative, !bits, bits | 0x8000_0000u32), 1u32)
}

/// Copies the blocks of the `count` largest keys to `best`, `[rows, count, COPIED]`; what is behind
/// the vocabulary's end is 0. There are at least `count` blocks.
///
/// Grid: as [`block_keys`].
#[cube(launch, launch_unchecked)]
pub fn copy_best_blocks(
    logits: &[u32],
    keys: &[Vector<u32, Four>],
    best: &mut [u32],
    vocabulary: u32,
    stride: u32,
    count: u32,
) {
    let block = CUBE_POS_X * UNITS + UNIT_POS_X;
    if block * comptime!(BLOCK as u32) < vocabulary {
        let fours = stride / 4u32;
        let first = CUBE_POS_Y * fours;
        let around = keys[(first + block / 4u32) as usize];
        let mut own = around.extract(0usize);
        #[unroll]
        for element in 1..4usize {
            let here = block % 4u32 == comptime!(element as u32);
            own = select(here, around.extract(element), own);
        }
        let mut rank = 0u32;
        let mut four = 0u32;
        while four < fours {
            let others = keys[(first + four) as usize];
            #[unroll]
            for element in 0..4usize {
                let other = others.extract(element);
                let before = four * 4u32 + comptime!(element as u32) < block;
                rank += u32::cast_from(other > own || (other == own && before));
            }
            four += 1u32;
        }
        if rank < count {
            let to = ((CUBE_POS_Y * count + rank) * comptime!(COPIED as u32)) as usize;
            let from = (CUBE_POS_Y * vocabulary) as usize;
            best[to] = block;
            let mut at = 0u32;
            while at < comptime!(BLOCK as u32) {
                let id = block * comptime!(BLOCK as u32) + at;
                let mut word = 0u32;
                if id < vocabulary {
                    word = logits[from + id as usize];
                }
                best[to + 1 + at as usize] = word;
                at += 1u32;
            }
        }
    }
}
