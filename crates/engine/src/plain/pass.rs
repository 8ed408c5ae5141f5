//! What all layers need for one pass: where rows are written in the KV cache, what they see there,
//! and their rotary tables.

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor, TensorData};
use infera_model::{LayerAttention, rotary_table};

use crate::forward::{BLOCK_TOKENS, Segment};
use crate::weights::to_device;

/// Far below every score; infinities are undefined in WGSL.
const MASKED: f32 = -1e30;

pub(super) struct Pass {
    /// Each segment's rows in the stacked activations.
    pub rows: Vec<Range<usize>>,
    /// The rows whose logits are wanted, by segment.
    pub wanted: Vec<Range<usize>>,
    pub runs: Vec<Run>,
    /// One for each way in which layers see positions.
    pub sights: Vec<Sight>,
}

/// Rows that stand side by side in the KV cache too, from its row `at` on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub rows: Range<usize>,
    pub at: usize,
}

pub(super) struct Sight {
    /// `[rows, 1, rotated / 2]`.
    pub cosines: Tensor<3>,
    pub sines: Tensor<3>,
    /// By segment.
    pub seen: Vec<Seen>,
}

/// The positions that at least one row of a segment sees.
pub(super) struct Seen {
    pub count: usize,
    /// Their rows in the KV cache, `[count]`.
    pub rows: Tensor<1, Int>,
    /// `[1, 1, rows, count]`: keeps each row from positions after its own or out of its window.
    /// None where every row sees all of them.
    pub mask: Option<Tensor<4>>,
}

impl Pass {
    pub(super) fn new(
        segments: &[Segment<'_>],
        sights: &[LayerAttention],
        device: &Device,
    ) -> Self {
        let mut first = 0;
        let mut pass = Self {
            rows: Vec::new(),
            wanted: Vec::new(),
            runs: Vec::new(),
            sights: Vec::new(),
        };
        for segment in segments {
            let rows = first..first + segment.tokens.len();
            first = rows.end;
            if !segment.wanted.is_empty() {
                let wanted = &segment.wanted;
                pass.wanted
                    .push(rows.start + wanted.start..rows.start + wanted.end);
            }
            pass.runs.extend(runs(segment, rows.start));
            pass.rows.push(rows);
        }
        pass.sights = sights
            .iter()
            .map(|sight| Sight::new(segments, sight, device))
            .collect();
        pass
    }
}

impl Sight {
    fn new(segments: &[Segment<'_>], sight: &LayerAttention, device: &Device) -> Self {
        let pairs = sight.frequencies.len();
        let mut cosines = Vec::new();
        let mut sines = Vec::new();
        for segment in segments {
            for position in segment.start..segment.start + segment.tokens.len() {
                let mut table = rotary_table(&sight.frequencies, sight.magnitude, position);
                cosines.extend(table.by_ref().take(pairs));
                sines.extend(table);
            }
        }
        let shape = [cosines.len() / pairs, 1, pairs];
        let window = sight.window.map(|window| window as usize);
        Self {
            cosines: to_device(cosines, shape, device),
            sines: to_device(sines, shape, device),
            seen: segments
                .iter()
                .map(|segment| Seen::new(segment, window, device))
                .collect(),
        }
    }
}

impl Seen {
    fn new(segment: &Segment<'_>, window: Option<usize>, device: &Device) -> Self {
        let end = segment.start + segment.tokens.len();
        let oldest =
            |position: usize| window.map_or(0, |window| (position + 1).saturating_sub(window));
        let seen = oldest(segment.start)..end;
        let rows: Vec<i32> = seen
            .clone()
            .map(|position| cache_row(segment.blocks, position) as i32)
            .collect();
        let mask = (segment.tokens.len() > 1).then(|| {
            let values: Vec<f32> = (segment.start..end)
                .flat_map(|own| {
                    seen.clone().map(move |position| {
                        let visible = (oldest(own)..=own).contains(&position);
                        if visible { 0.0 } else { MASKED }
                    })
                })
                .collect();
            to_device(values, [1, 1, segment.tokens.len(), seen.len()], device)
        });
        Self {
            count: seen.len(),
            rows: Tensor::from_data(TensorData::new(rows, [seen.len()]), device),
            mask,
        }
    }
}

fn cache_row(blocks: &[u32], position: usize) -> usize {
    blocks[position / BLOCK_TOKENS] as usize * BLOCK_TOKENS + position % BLOCK_TOKENS
}

/// Where a segment's rows, of which the first is row `first` of the pass, go in the cache.
fn runs(segment: &Segment<'_>, first: usize) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for index in 0..segment.tokens.len() {
        let at = cache_row(segment.blocks, segment.start + index);
        let row = first + index;
        match runs.last_mut() {
            Some(run) if run.at + run.rows.len() == at => run.rows.end = row + 1,
            _ => runs.push(Run {
                rows: row..row + 1,
                at,
            }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment<'a>(tokens: &'a [u32], start: usize, blocks: &'a [u32]) -> Segment<'a> {
        Segment {
            tokens,
            start,
            blocks,
            wanted: 0..0,
        }
    }

    #[test]
    fn rows_go_where_the_block_table_says() {
        let tokens = [0; 70];
        let found = runs(&segment(&tokens, 30, &[7, 2, 3, 9]), 100);
        let expected = [
            (100..102, 7 * 32 + 30),
            (102..166, 2 * 32),
            (166..170, 9 * 32),
        ];
        let expected: Vec<_> = expected
            .map(|(rows, at)| Run { rows, at })
            .into_iter()
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_row_sees_its_window_and_nothing_later() {
        let device = Device::flex();
        let seen = |start, count, window| {
            let tokens = vec![0; count];
            let seen = Seen::new(&segment(&tokens, start, &[1, 0]), window, &device);
            let rows: Vec<i64> = seen.rows.into_data().iter().collect();
            let mask = seen.mask.map(|mask| {
                let values: Vec<f32> = mask.into_data().try_into_vec().unwrap();
                values.iter().map(|value| u8::from(*value == 0.0)).collect()
            });
            (rows, mask.unwrap_or_default())
        };
        let none: Vec<u8> = Vec::new();
        assert_eq!(seen(2, 1, None), (vec![32, 33, 34], none.clone()));
        assert_eq!(seen(33, 1, Some(3)), (vec![63, 0, 1], none));
        assert_eq!(seen(1, 2, None), (vec![32, 33, 34], vec![1, 1, 0, 1, 1, 1]));
        assert_eq!(
            seen(1, 3, Some(2)),
            (
                vec![32, 33, 34, 35],
                vec![1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1]
            )
        );
    }
}
