//! How kernels are cut up, and which way is the fastest for a model on a device.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cubecl::client::Client;
use cubecl::features::Plane;
use cubecl::ir::{ElemType, FloatKind};
use infera_model::gguf::Gguf;
use infera_protocol::Profile;
use infera_protocol::digest::Digest;
use serde::{Deserialize, Serialize};

use super::Gpu;
use crate::device::Opened;
use crate::forward::{BLOCK_TOKENS, Forward, Segment};
use crate::kernels::cooperative::{Fragment, UNITS};
use crate::kernels::pack::TILE;
use crate::message::Failure;

/// After so many that did not end, the defaults serve.
const ATTEMPTS: u64 = 3;

/// Sequences of the decode passes that are timed, and tokens of the prompt that is.
const BATCHES: [usize; 3] = [1, 8, 16];
const PROMPT: usize = 256;
/// Tokens before those that are decoded, if there is room.
const CONTEXT: usize = 511;
/// Each is timed so often, after one pass that compiles; the fastest counts. The first of a decode
/// step records it.
const REPEATS: usize = 3;
/// The largest normalised mean square error of logits after a step from the defaults'.
const LIMIT_NMSE: f64 = 1e-6;
/// The same in profile P16, where products may be of f16.
const LIMIT_NMSE_P16: f64 = 1e-4;

/// Shared memory of a cube for columns that it normalised, in bytes: half of what GPUs have.
const MOST_KEPT: usize = 16 << 10;

/// How kernels are cut up on a device. `splits` and `attention_units` decide orders of summation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuning {
    /// Units that share a row of a matrix; none for [`serial_matmul`](crate::kernels::serial::serial_matmul).
    pub splits: Option<usize>,
    /// Cubes that a product shall have at least, if that leaves eight row tiles each; for
    /// [`serial_matmul`](crate::kernels::serial::serial_matmul).
    pub cubes: usize,
    /// Columns of a unit, rising from one, and, for as many, its row tiles. Tiles are even, because
    /// gate and up alternate.
    pub shapes: Vec<(usize, usize)>,
    /// Columns of a unit in passes with prompts, at most: kernels for more may take longer to
    /// compile than a first answer may.
    pub prefill_columns: usize,
    /// Columns from which a product goes through shared memory ([`shared_matmul`](crate::kernels::gemm::shared_matmul)).
    pub shared_from: Option<usize>,
    /// Products normalise what they read themselves, as far as [`Tuning::normalises`] allows.
    pub norm_inside: bool,
    /// Attention of decode steps turns queries and keys itself.
    pub rope_inside: bool,
    pub attention_units: usize,
    /// Query heads times rows of an attention cube in prefill.
    pub attention_queries: usize,
    /// 16-byte loads of keys or values that a unit has under way at once.
    pub ahead: usize,
    /// Decode steps that are one submission are recorded and replayed.
    pub recorded: bool,
    /// In profile P16, those products are of cooperative matrices, where the device has them.
    pub cooperative: bool,
    /// Sums over a cube go through planes.
    pub planes: bool,
}

impl Tuning {
    /// For GPUs.
    pub fn hardware() -> Self {
        Self {
            splits: Some(8),
            cubes: 1,
            shapes: vec![(1, 2), (2, 2), (4, 2), (8, 2), (16, 2)],
            prefill_columns: 16,
            shared_from: Some(33),
            norm_inside: true,
            rope_inside: true,
            attention_units: 64,
            attention_queries: 12,
            ahead: 4,
            recorded: true,
            cooperative: false,
            planes: false,
        }
    }

    /// For drivers that compute on the CPU in eight lanes: no unit waits for another.
    pub fn software() -> Self {
        Self {
            splits: None,
            cubes: 2 * std::thread::available_parallelism().map_or(1, usize::from),
            shapes: vec![(1, 64), (4, 64), (16, 64)],
            prefill_columns: 4,
            shared_from: None,
            norm_inside: false,
            rope_inside: true,
            attention_units: 8,
            attention_queries: 1,
            ahead: 1,
            recorded: true,
            cooperative: false,
            planes: false,
        }
    }

    /// Units of a cube that normalises.
    pub(super) fn norm_units(&self) -> usize {
        TILE * self.splits.unwrap_or(1)
    }

    /// Whether a product of so many columns goes through shared memory.
    pub(super) fn through_shared(&self, columns: usize) -> bool {
        self.splits.is_some() && self.shared_from.is_some_and(|least| columns >= least)
    }

    /// Whether a product of so many columns, each of so many words, normalises them itself: each
    /// of its cubes keeps its own in shared memory.
    pub(super) fn normalises(&self, columns: usize, widest: usize, words: usize) -> bool {
        let kept = self.shape(columns, widest).0 * words * size_of::<f32>();
        let is_tiled = self.splits.is_some() && !self.through_shared(columns);
        self.norm_inside && is_tiled && kept <= MOST_KEPT
    }

    /// For so many columns, with units of at most `widest`. Of a unit's columns more than half have
    /// work.
    pub(super) fn shape(&self, columns: usize, widest: usize) -> (usize, usize) {
        let columns = columns.min(widest);
        let mut shapes = self.shapes.iter().rev();
        *shapes
            .find(|(wide, _)| *wide < 2 * columns)
            .unwrap_or(&(1, 2))
    }
}

/// A change that may make a tuning faster.
type Step = fn(&mut Tuning);

/// What a step needs of the device and the model's profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    Planes,
    Fragments,
}

/// On GPUs.
const STEPS: [(Need, Step); 12] = [
    (Need::Nothing, |tuning| tuning.recorded = false),
    (Need::Nothing, |tuning| tuning.norm_inside = false),
    (Need::Nothing, |tuning| tuning.rope_inside = false),
    (Need::Nothing, |tuning| tuning.splits = Some(4)),
    (Need::Nothing, |tuning| tuning.splits = Some(16)),
    (Need::Nothing, |tuning| tuning.splits = Some(32)),
    (Need::Nothing, |tuning| {
        tuning.shapes.iter_mut().for_each(|shape| shape.1 = 4);
    }),
    (Need::Nothing, |tuning| tuning.attention_units = 128),
    (Need::Nothing, |tuning| tuning.ahead = 8),
    (Need::Fragments, |tuning| tuning.cooperative = true),
    (Need::Nothing, |tuning| tuning.shared_from = None),
    (Need::Planes, |tuning| tuning.planes = true),
];
/// On software adapters: prompts by 16 columns, whose kernels take half a minute to compile.
const SOFTWARE_STEPS: [(Need, Step); 1] = [(Need::Nothing, |tuning| tuning.prefill_columns = 16)];

impl Tuning {
    fn steps(&self, met: &[Need]) -> Vec<Step> {
        let steps: &[(Need, Step)] = match self.splits {
            None => &SOFTWARE_STEPS,
            Some(_) => &STEPS,
        };
        let possible = steps.iter().filter(|(need, _)| met.contains(need));
        possible.map(|(_, step)| *step).collect()
    }

    fn after(&self, step: Step) -> Self {
        let mut tuning = self.clone();
        step(&mut tuning);
        tuning
    }

    /// Whether some of the steps lead to another tuning.
    fn can_become(&self, other: &Self, met: &[Need]) -> bool {
        let steps = self.steps(met);
        (0..1_usize << steps.len()).any(|set| {
            let taken = (0..steps.len()).filter(|step| set >> step & 1 == 1);
            taken.fold(self.clone(), |tuning, step| tuning.after(steps[step])) == *other
        })
    }
}

/// What is kept of a model's tuning: a file for its shapes and profile on this adapter and driver.
struct Kept(PathBuf);

impl Kept {
    fn of(folder: &Path, opened: &Opened, gguf: &Gguf, profile: Profile) -> Self {
        let mut digest = Digest::new("infera/tuning/v1")
            .bytes(env!("CARGO_PKG_VERSION").as_bytes())
            .bytes(opened.info.name.as_bytes())
            .bytes(opened.info.backend.as_bytes())
            .bytes(opened.driver.as_bytes())
            .bytes(profile.to_string().as_bytes());
        for tensor in gguf.tensors() {
            digest = digest.u32(tensor.kind.code()).length(tensor.dims.len());
            for dim in &tensor.dims {
                digest = digest.u64(*dim);
            }
        }
        Self(folder.join(format!("{}.json", digest.finish())))
    }

    /// None unless the file holds what steps from the defaults lead to: the kernels trust it.
    fn read(&self, defaults: &Tuning, met: &[Need]) -> Option<Tuning> {
        let found: Tuning = serde_json::from_slice(&fs::read(&self.0).ok()?).ok()?;
        defaults.can_become(&found, met).then_some(found)
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
        let kept = Kept::of(folder, opened, &self.gguf, self.profile);
        let known = kept.read(&self.tuning, &self.met());
        if let Some(known) = known.filter(|known| self.allows(known)) {
            self.work_as(known);
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

    /// Times passes after one step after the other, keeps each step that is faster and whose logits
    /// are the defaults', until `limit` is over, and gives the outcome to be stored. A step that was
    /// begun is finished. `progress` gets how many are done, and of how many.
    ///
    /// Overwrites KV blocks, so it is for before the first request.
    pub fn tune(
        &mut self,
        limit: Duration,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Tuning, Failure> {
        let begun = Instant::now();
        let mut best = self.tuning.clone();
        let steps = best.steps(&self.met());
        let (expected, mut fastest) = self.time_passes()?;
        for (done, step) in steps.iter().enumerate() {
            progress(done, steps.len());
            if begun.elapsed() > limit {
                break;
            }
            let candidate = best.after(*step);
            if !self.allows(&candidate) {
                continue;
            }
            self.work_as(candidate);
            match self.time_passes() {
                Ok((logits, cost)) if self.is_near(&logits, &expected) && cost < fastest => {
                    fastest = cost;
                    best = self.tuning.clone();
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, tuning = ?self.tuning, "a tuning failed"),
            }
        }
        progress(steps.len(), steps.len());
        self.work_as(best.clone());
        Ok(best)
    }

    fn met(&self) -> Vec<Need> {
        let mut met = vec![Need::Nothing];
        if has_planes(&self.client) {
            met.push(Need::Planes);
        }
        if self.fragment.is_some() {
            met.push(Need::Fragments);
        }
        met
    }

    /// Whether logits are the same but for what the profile lets a kernel round.
    fn is_near(&self, found: &[f32], expected: &[f32]) -> bool {
        let limit = match self.profile {
            Profile::P32 => LIMIT_NMSE,
            Profile::P16 => LIMIT_NMSE_P16,
        };
        found.len() == expected.len() && mean_error(found, expected) <= limit
    }

    fn work_as(&mut self, tuning: Tuning) {
        self.tuning = tuning;
        // Steps were recorded as they were cut up before.
        self.graphs.get_mut().clear();
    }

    /// The logits of one sequence that decodes and of one with a prompt, and the mean logarithm of
    /// the passes' times: without end where one was not the same every time, as when a driver does
    /// not replay what was recorded.
    fn time_passes(&mut self) -> Result<(Vec<f32>, f64), Failure> {
        let room = self.context().min(self.blocks() * BLOCK_TOKENS);
        let context = CONTEXT.min(room - 1);
        let prompt: Vec<u32> = (0..PROMPT.min(room) as u32)
            .map(|token| token % self.vocabulary() as u32)
            .collect();
        // Sequences share all blocks: what one leaves there is what the others would.
        let blocks: Vec<u32> = (0..room.div_ceil(BLOCK_TOKENS) as u32).collect();
        let segment = |tokens, start| Segment {
            tokens,
            start,
            blocks: &blocks,
            wanted: 0..1,
        };
        let mut logits = Vec::new();
        let mut passes = vec![vec![segment(&prompt, 0)]];
        passes.extend(BATCHES.map(|batch| vec![segment(&prompt[..1], context); batch]));
        let mut cost = 0.0;
        for pass in &passes {
            let first = self.forward(pass)?;
            let mut fastest = f64::INFINITY;
            for _ in 0..REPEATS {
                let begun = Instant::now();
                let again = self.forward(pass)?;
                fastest = fastest.min(begun.elapsed().as_secs_f64());
                if again != first {
                    tracing::warn!(tuning = ?self.tuning, "a pass was not the same twice");
                    cost = f64::INFINITY;
                }
            }
            cost += fastest.ln() / passes.len() as f64;
            if pass.len() == 1 {
                logits.extend(first);
            }
        }
        Ok((logits, cost))
    }
}

/// Whether units can sum over planes.
pub(super) fn has_planes(client: &Client) -> bool {
    client.properties().features.plane.contains(Plane::Ops)
}

/// What the device multiplies f16 by f16 with, summing in f32, if planes have one size.
pub(super) fn fragment(client: &Client) -> Option<Fragment> {
    let properties = client.properties();
    let hardware = &properties.hardware;
    if hardware.plane_size_min != hardware.plane_size_max {
        return None;
    }
    let half = ElemType::Float(FloatKind::F16);
    let single = ElemType::Float(FloatKind::F32);
    let all = properties.features.matmul.cmma.iter();
    all.filter(|all| (all.a_type, all.b_type, all.cd_type) == (half, half, single))
        .map(|of| Fragment {
            m: of.m as usize,
            n: of.n as usize,
            k: of.k as usize,
            planes: (UNITS / hardware.plane_size_max.max(1)) as usize,
        })
        .find(Fragment::fits)
}

/// The normalised mean square error.
fn mean_error(found: &[f32], expected: &[f32]) -> f64 {
    let squares =
        |differences: &mut dyn Iterator<Item = f64>| -> f64 { differences.map(|x| x * x).sum() };
    let pairs = found.iter().zip(expected);
    let error = squares(&mut pairs.map(|(one, two)| f64::from(*one) - f64::from(*two)));
    error / squares(&mut expected.iter().map(|value| f64::from(*value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_can_hold_what_steps_lead_to_and_nothing_else() {
        let defaults = Tuning::hardware();
        let only = [Need::Nothing];
        let all = [Need::Nothing, Need::Planes, Need::Fragments];
        let [_, _, _, splits, _, more_splits, tiles, .., planes] = STEPS.map(|(_, step)| step);
        let tuned = defaults.after(splits).after(tiles).after(planes);
        assert!(defaults.can_become(&defaults, &only));
        assert!(defaults.can_become(&defaults.after(more_splits), &only));
        assert!(defaults.can_become(&tuned, &all));
        assert!(!defaults.can_become(&tuned, &only));
        let mut other = tuned;
        other.splits = Some(7);
        assert!(!defaults.can_become(&other, &all));
        assert!(!defaults.can_become(&Tuning::software(), &all));
    }
}
