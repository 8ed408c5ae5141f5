//! Which way of cutting up kernels is the fastest for a model on a device.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use infera_model::gguf::Gguf;
use infera_protocol::digest::Digest;

use super::{Gpu, Tuning};
use crate::device::Opened;
use crate::forward::{Forward, Segment};
use crate::message::Failure;

/// After so many that did not end, the defaults serve.
const ATTEMPTS: u64 = 3;

/// Sequences of the passes that are timed.
const BATCHES: [usize; 3] = [1, 8, 16];
/// Each is timed so often, after one pass that compiles; the fastest counts.
const REPEATS: usize = 3;
/// The largest normalised mean square error of a candidate's logits from the defaults'.
const LIMIT_NMSE: f64 = 1e-6;

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

/// What is kept of a model's tuning: a file for its shapes on this adapter and driver.
struct Kept(PathBuf);

impl Kept {
    fn of(folder: &Path, opened: &Opened, gguf: &Gguf) -> Self {
        let mut digest = Digest::new("infera/tuning/v1")
            .bytes(env!("CARGO_PKG_VERSION").as_bytes())
            .bytes(opened.info.name.as_bytes())
            .bytes(opened.info.backend.as_bytes())
            .bytes(opened.driver.as_bytes());
        for tensor in gguf.tensors() {
            digest = digest.u32(tensor.kind.code()).length(tensor.dims.len());
            for dim in &tensor.dims {
                digest = digest.u64(*dim);
            }
        }
        Self(folder.join(format!("{}.json", digest.finish())))
    }

    /// None unless the file holds the defaults or one of their candidates: the kernels trust it.
    fn read(&self, defaults: &Tuning) -> Option<Tuning> {
        let found: Tuning = serde_json::from_slice(&fs::read(&self.0).ok()?).ok()?;
        (found == *defaults || defaults.candidates().contains(&found)).then_some(found)
    }

    /// Counts the attempts, and gives whether there may be one more: some driver may crash on
    /// some candidate.
    fn begin(&self) -> io::Result<bool> {
        if let Some(folder) = self.0.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut begun = File::options()
            .create(true)
            .append(true)
            .open(self.begun())?;
        begun.write_all(b".")?;
        Ok(begun.metadata()?.len() <= ATTEMPTS)
    }

    fn write(&self, tuning: &Tuning) -> io::Result<()> {
        let part = self.0.with_extension("part");
        fs::write(&part, serde_json::to_vec_pretty(tuning)?)?;
        fs::rename(part, &self.0)?;
        fs::remove_file(self.begun())
    }

    fn begun(&self) -> PathBuf {
        self.0.with_extension("begun")
    }
}

impl Gpu {
    /// Works from now on as was found best for such a model on this adapter and driver. The first
    /// time [`Gpu::tune`] finds it out, and it is kept in `folder`.
    pub fn tune_once(
        &mut self,
        folder: &Path,
        opened: &Opened,
        limit: Duration,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<(), Failure> {
        let kept = Kept::of(folder, opened, &self.gguf);
        if let Some(known) = kept.read(&self.tuning) {
            self.tuning = known;
            return Ok(());
        }
        match kept.begin() {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!("tuning was broken off too often: the defaults serve");
                return Ok(());
            }
            Err(error) => {
                tracing::warn!(%error, "what tuning finds could not be kept: the defaults serve");
                return Ok(());
            }
        }
        let tuning = self.tune(limit, progress)?;
        tracing::info!(?tuning, device = opened.info.name, "tuned");
        if let Err(error) = kept.write(&tuning) {
            tracing::warn!(%error, "the tuning is not kept");
        }
        Ok(())
    }

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
    found.len() == expected.len() && error <= LIMIT_NMSE * power
}
