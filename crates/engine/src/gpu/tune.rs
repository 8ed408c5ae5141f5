//! Which way of cutting up kernels is the fastest for a model on a device.

use std::time::{Duration, Instant};

use super::{Gpu, Tuning};
use crate::forward::{Forward, Segment};
use crate::message::Failure;

/// Sequences of the passes that are timed.
const BATCHES: [usize; 3] = [1, 8, 16];
/// Each is timed so often, after one pass that compiles; the fastest counts.
const REPEATS: usize = 3;
/// The largest normalised mean square error of a candidate's logits from the defaults'.
const LIMIT: f64 = 1e-6;

impl Tuning {
    /// What else might be faster. On software adapters that is eight columns at once, which
    /// halve the time of large batches and take a minute to compile.
    fn candidates(&self) -> Vec<Self> {
        let Some(splits) = self.splits else {
            let mut shapes = self.shapes.clone();
            shapes.push((8, 64));
            return vec![Self {
                shapes,
                ..self.clone()
            }];
        };
        let wider = |tiles| self.shapes.iter().map(|(wide, _)| (*wide, tiles)).collect();
        let of = |splits, tiles| Self {
            splits: Some(splits),
            shapes: wider(tiles),
            ..self.clone()
        };
        vec![
            of(splits / 2, 2),
            of(splits * 2, 2),
            of(splits * 4, 2),
            of(splits, 4),
            of(splits / 2, 4),
            Self {
                attention_units: 2 * self.attention_units,
                ..self.clone()
            },
        ]
    }
}

impl Gpu {
    /// Times decode passes with each candidate until `limit` is over, keeps the fastest whose
    /// logits are the defaults', and gives it to be stored. A candidate that was begun is
    /// finished. `progress` gets how many are done, and of how many.
    ///
    /// Overwrites KV blocks, so it is for before the first request.
    pub fn tune(
        &mut self,
        limit: Duration,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Tuning, Failure> {
        let begun = Instant::now();
        let mut best = self.tuning.clone();
        let candidates = best.candidates();
        let (expected, mut fastest) = self.time_decode()?;
        for (done, candidate) in candidates.iter().enumerate() {
            progress(done, candidates.len());
            if begun.elapsed() > limit {
                break;
            }
            self.tuning = candidate.clone();
            match self.time_decode() {
                Ok((logits, cost)) if is_near(&logits, &expected) && cost < fastest => {
                    fastest = cost;
                    best = candidate.clone();
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, ?candidate, "a candidate failed"),
            }
        }
        progress(candidates.len(), candidates.len());
        self.tuning = best.clone();
        Ok(best)
    }

    /// The logits of one sequence, and the mean logarithm of the passes' times.
    fn time_decode(&mut self) -> Result<(Vec<f32>, f64), Failure> {
        let mut logits = Vec::new();
        let mut cost = 0.0;
        for batch in BATCHES {
            // Sequences may share blocks here: each row writes its place before it is read.
            let tables: Vec<[u32; 1]> = (0..batch)
                .map(|sequence| [(sequence % self.blocks()) as u32])
                .collect();
            let segments: Vec<Segment<'_>> = tables
                .iter()
                .map(|blocks| Segment {
                    tokens: &[1],
                    start: 0,
                    blocks,
                    wanted: 0..1,
                })
                .collect();
            let mut fastest = f64::INFINITY;
            for _ in 0..=REPEATS {
                let begun = Instant::now();
                let all = self.forward(&segments)?;
                fastest = fastest.min(begun.elapsed().as_secs_f64());
                if batch == 1 {
                    logits = all;
                }
            }
            cost += fastest.ln() / BATCHES.len() as f64;
        }
        Ok((logits, cost))
    }
}

fn is_near(found: &[f32], expected: &[f32]) -> bool {
    let squares = |differences: &mut dyn Iterator<Item = f64>| differences.map(|x| x * x).sum();
    let pairs = found.iter().zip(expected);
    let error: f64 = squares(&mut pairs.map(|(one, two)| f64::from(*one) - f64::from(*two)));
    let power: f64 = squares(&mut expected.iter().map(|value| f64::from(*value)));
    found.len() == expected.len() && error <= LIMIT * power
}
