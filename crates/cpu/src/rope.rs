//! Rotary positions: tables from f64, kept for all positions seen so far.

use std::sync::Arc;

use infera_model::rotary_table;

use crate::BLOCK_TOKENS;

/// Cosines and sines for one set of frequencies.
pub(crate) struct Rotation {
    frequencies: Arc<[f64]>,
    magnitude: f32,
    /// For each 32 positions `[32][2][pairs]`, cosines before sines; empty until they are needed.
    tables: Vec<Vec<f32>>,
}

impl Rotation {
    /// `frequencies` are radians per position of each pair; the tables are multiplied by
    /// `magnitude`.
    pub(crate) fn new(frequencies: Arc<[f64]>, magnitude: f32) -> Self {
        Self {
            frequencies,
            magnitude,
            tables: Vec::new(),
        }
    }

    pub(crate) fn is(&self, frequencies: &[f64], magnitude: f32) -> bool {
        *self.frequencies == *frequencies && self.magnitude.to_bits() == magnitude.to_bits()
    }

    /// Makes the tables of positions `start..end`.
    pub(crate) fn prepare(&mut self, start: usize, end: usize) {
        let blocks = start / BLOCK_TOKENS..end.div_ceil(BLOCK_TOKENS);
        if self.tables.len() < blocks.end {
            self.tables.resize(blocks.end, Vec::new());
        }
        for block in blocks {
            if self.tables[block].is_empty() {
                let positions = block * BLOCK_TOKENS..(block + 1) * BLOCK_TOKENS;
                self.tables[block] = positions
                    .flat_map(|position| rotary_table(&self.frequencies, self.magnitude, position))
                    .collect();
            }
        }
    }

    /// Turns a head's pairs `(i, i + pairs)`. The position must have been prepared.
    pub(crate) fn rotate(&self, head: &mut [f32], position: usize) {
        let pairs = self.frequencies.len();
        let table = &self.tables[position / BLOCK_TOKENS];
        let table = &table[position % BLOCK_TOKENS * 2 * pairs..][..2 * pairs];
        let (cosines, sines) = table.split_at(pairs);
        let (first, second) = head[..2 * pairs].split_at_mut(pairs);
        for pair in 0..pairs {
            let (one, two) = (first[pair], second[pair]);
            first[pair] = one * cosines[pair] - two * sines[pair];
            second[pair] = two * cosines[pair] + one * sines[pair];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_is_by_position_times_frequency() {
        let mut rotation = Rotation::new(Arc::from([1.0, 0.01]), 2.0);
        rotation.prepare(70, 75);
        let mut head = [1.0, 2.0, 0.0, 0.5, 9.0];
        rotation.rotate(&mut head, 73);
        let (one, two) = (73_f64, 0.73_f64);
        let expected = [
            2.0 * one.cos(),
            2.0 * (2.0 * two.cos() - 0.5 * two.sin()),
            2.0 * one.sin(),
            2.0 * (0.5 * two.cos() + 2.0 * two.sin()),
            9.0,
        ];
        for (found, expected) in head.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-6);
        }
    }
}
