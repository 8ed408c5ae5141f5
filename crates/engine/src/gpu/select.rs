//! Reading back no more of the logits than can decide.

use cubecl::prelude::*;
use infera_verify::best;

use super::Gpu;
use super::buffers::Buffer;
use super::launch::{best_blocks_worth, launch_best_blocks};
use crate::kernels::select::{BLOCK, COPIED};
use crate::message::Failure;

impl Gpu {
    /// What [`best`] gives of each of the `rows` of logits on the device.
    pub(super) fn read_best(
        &self,
        logits: &Buffer,
        rows: usize,
        count: usize,
    ) -> Result<Vec<Vec<(u32, f32)>>, Failure> {
        let vocabulary = logits.words / rows;
        if !best_blocks_worth(vocabulary, count) {
            let logits = self.read_logits(logits)?;
            let rows = logits.chunks_exact(vocabulary);
            return Ok(rows.map(|row| best(row, count)).collect());
        }
        let copied = launch_best_blocks(&self.client, logits, rows, count);
        let copied = self.read(&copied)?;
        let copied = u32::from_bytes(&copied);
        let rows = copied.chunks_exact(copied.len() / rows);
        let mut found: Vec<_> = rows.map(|row| self.best_of_blocks(row, count)).collect();
        if found.iter().any(Option::is_none) {
            let logits = self.read_logits(logits)?;
            for (found, row) in found.iter_mut().zip(logits.chunks_exact(vocabulary)) {
                found.get_or_insert_with(|| best(row, count));
            }
        }
        Ok(found.into_iter().flatten().collect())
    }

    fn best_of_blocks(&self, copied: &[u32], count: usize) -> Option<Vec<(u32, f32)>> {
        let mut blocks: Vec<(usize, Vec<f32>)> = copied
            .chunks_exact(COPIED)
            .map(|block| {
                let logits = block[1..].iter().map(|bits| f32::from_bits(*bits));
                (block[0] as usize * BLOCK, self.capped(logits))
            })
            .collect();
        best_of_blocks(&mut blocks, self.config.vocabulary as usize, count)
    }
}

/// The best of a row of which only the blocks with the largest logits are known, each with the id
/// of its first token, in their order. None where a block that is not known may hold a logit as
/// large as the last of the best.
fn best_of_blocks(
    blocks: &mut [(usize, Vec<f32>)],
    vocabulary: usize,
    count: usize,
) -> Option<Vec<(u32, f32)>> {
    for (first, logits) in blocks.iter_mut() {
        // A device that fails may name any block.
        logits.truncate(vocabulary.saturating_sub(*first));
    }
    let (_, last) = blocks.last()?;
    let elsewhere = best(last, 1).first()?.1;
    // Ids rise, as `best` has to see them to break ties.
    blocks.sort_unstable_by_key(|(first, _)| *first);
    let ids: Vec<u32> = blocks
        .iter()
        .flat_map(|(first, logits)| (*first as u32..).take(logits.len()))
        .collect();
    let logits: Vec<f32> = blocks
        .iter()
        .flat_map(|(_, logits)| logits)
        .copied()
        .collect();
    let mut found = best(&logits, count);
    for (id, _) in &mut found {
        *id = ids[*id as usize];
    }
    let (_, least) = found.last()?;
    (found.len() >= count && *least > elsewhere).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The blocks of `logits` in order of their largest, as many as the kernel copies.
    fn copied(logits: &[f32], count: usize) -> Vec<(usize, Vec<f32>)> {
        let mut blocks: Vec<(usize, Vec<f32>)> = logits
            .chunks(BLOCK)
            .enumerate()
            .map(|(block, logits)| {
                let mut logits = logits.to_vec();
                // What the kernel writes behind the vocabulary's end.
                logits.resize(BLOCK, 0.0);
                (block * BLOCK, logits)
            })
            .collect();
        let largest = |first: usize| {
            let end = logits.len().min(first + BLOCK);
            best(&logits[first..end], 1)[0].1
        };
        blocks.sort_by(|one, two| largest(two.0).total_cmp(&largest(one.0)));
        blocks.truncate(count + 1);
        blocks
    }

    #[test]
    fn the_best_of_the_best_blocks_are_the_best_of_all() {
        let mut logits: Vec<f32> = (0..700_u32)
            .map(|id| (id.wrapping_mul(2_654_435_761) >> 8) as f32 / -1e6)
            .collect();
        logits[130] = f32::NAN;
        for count in [1, 2, 7] {
            let found = best_of_blocks(&mut copied(&logits, count), logits.len(), count);
            assert_eq!(found, Some(best(&logits, count)), "{count}");
        }
        // Two in one block, one of them behind the last whole block.
        logits[699] = 5.0;
        logits[698] = 4.0;
        let found = best_of_blocks(&mut copied(&logits, 3), logits.len(), 3).unwrap();
        assert_eq!(found[..2], [(699, 5.0), (698, 4.0)]);
        assert_eq!(found, best(&logits, 3));
    }

    #[test]
    fn a_tie_that_may_go_on_elsewhere_is_seen() {
        let mut logits = vec![-1.0_f32; 640];
        logits[5] = 3.0;
        assert_eq!(
            best_of_blocks(&mut copied(&logits, 1), 640, 1),
            Some(vec![(5, 3.0)])
        );
        // The second is one of 639, of which most are in blocks that are not known.
        assert_eq!(best_of_blocks(&mut copied(&logits, 2), 640, 2), None);
        logits[100] = 3.0;
        logits[300] = 3.0;
        assert_eq!(best_of_blocks(&mut copied(&logits, 1), 640, 1), None);
        assert_eq!(
            best_of_blocks(&mut copied(&logits, 3), 640, 3),
            Some(vec![(5, 3.0), (100, 3.0), (300, 3.0)])
        );
        let mut nowhere = copied(&logits, 1);
        nowhere[1].0 = 6400;
        assert_eq!(best_of_blocks(&mut nowhere, 640, 1), None);
        let none = vec![f32::NAN; 640];
        assert_eq!(best_of_blocks(&mut copied(&none, 2), 640, 2), None);
    }
}
