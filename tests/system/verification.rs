//! Reference nodes catch nodes that cheat, and only those: a hundred jobs of each kind.

use std::fs;
use std::path::{Path, PathBuf};

use infera_model::{Gguf, TensorInfo, Tokenizer};
use infera_protocol::{FinishReason, JobSeed, JobSpec, NodeKey, TokenOutput};
use infera_system_tests::engine::Engine;
use infera_system_tests::{MODEL, World, story, tiny_model};
use infera_testing::{SimNode, Work, hardware};
use serde_json::json;
use tokio::runtime::Runtime;
use xtask::network::{BalancerOptions, NodeOptions, START_LIMIT};
use xtask::{Result, wait};

const JOBS: u64 = 100;
const MAX_TOKENS: u32 = 48;

/// What the node does instead of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// Answers with whatever its engine gives, which may be another model's.
    WhatTheEngineGives,
    /// Draws its own noise, for example to pick an answer it likes.
    OtherSeed,
    /// Stops half-way and claims that the model had ended there.
    Truncate { end_token: u32 },
}

impl Deed {
    fn conduct(self, mut engine: Engine) -> impl FnMut(JobSpec) -> Work {
        move |spec| {
            let drawn_with = |seed: JobSeed| match self {
                Self::OtherSeed => JobSeed::from_bytes(seed.as_bytes().map(|byte| !byte)),
                Self::WhatTheEngineGives | Self::Truncate { .. } => seed,
            };
            let answer = engine.generate(&spec, drawn_with);
            let (mut tokens, mut reason) = answer.expect("an answer of the engine");
            if let Self::Truncate { end_token } = self {
                tokens.truncate(tokens.len() / 2);
                tokens.push(TokenOutput {
                    id: end_token,
                    logprob: None,
                    alternatives: Vec::new(),
                });
                reason = FinishReason::EndOfText;
            }
            Work::new(spec, (tokens, reason))
        }
    }
}

/// How a hundred jobs ended.
#[derive(Debug, Default)]
struct Outcome {
    verified: u32,
    failed: u32,
    /// Verified although a reference would have chosen another token somewhere.
    verified_with_mismatches: u32,
    /// The largest of all references' reports, in units of the threshold's scale.
    largest_margin: f64,
    mismatches: u64,
    positions: u64,
}

/// A network with one node that may cheat.
struct Trial<'a> {
    what: &'a str,
    model_file: &'a Path,
    deed: Deed,
    references: usize,
    /// Where the reference nodes compute. The node under trial uses the CPU.
    reference_device: &'a str,
}

impl<'a> Trial<'a> {
    fn of(what: &'a str, model_file: &'a Path, deed: Deed) -> Self {
        Self {
            what,
            model_file,
            deed,
            references: 2,
            reference_device: "cpu",
        }
    }

    /// Lets the node answer a hundred jobs.
    #[expect(
        clippy::print_stdout,
        reason = "the figures are for docs/verification.md"
    )]
    fn run(&self) -> Result<Outcome> {
        let options = BalancerOptions {
            // It is to be caught a hundred times, not once.
            settings: "ban = 0\ncanary_rate = 0.0\n".to_owned(),
            ..BalancerOptions::default()
        };
        let reference = NodeOptions {
            device: self.reference_device.to_owned(),
            ..NodeOptions::on_cpu(&tiny_model())
        };
        let world = World::with_nodes(options, &reference, 0, self.references)?;
        let engine = Engine::start(&world.binaries.node, self.model_file, &json!("cpu"))?;
        let model = world.model_id.parse()?;
        let key = NodeKey::from_secret(&[7; 32]);
        let conduct = self.deed.conduct(engine);
        let runtime = Runtime::new()?;
        let url = world.balancer.url();
        let node = runtime.block_on(SimNode::connect(url, key, vec![model], 1, hardware()))?;
        let _within = runtime.enter();
        node.spawn_worker(conduct);
        let outcome = ask(&world)?;
        println!(
            "{}: {} verified ({} with a mismatch), {} failed; {} of {} tokens differ, largest margin {:.3} s0",
            self.what,
            outcome.verified,
            outcome.verified_with_mismatches,
            outcome.failed,
            outcome.mismatches,
            outcome.positions,
            outcome.largest_margin
        );
        world.settled_ledger()?;
        Ok(outcome)
    }
}

fn ask(world: &World) -> Result<Outcome> {
    wait::until("the node is ready", START_LIMIT, || {
        let answer = world.client().post("/v1/chat/completions", &story(0, 1))?;
        Ok((answer.status != 503).then_some(()))
    })?;
    let mut outcome = Outcome::default();
    for seed in 0..JOBS {
        let answer = world.chat(&story(seed, MAX_TOKENS))?;
        let job = answer["infera"]["job_id"].as_str().ok_or("no job id")?;
        let receipt = world.receipt(job)?;
        let mut mismatches = 0;
        for reference in receipt["references"].as_array().into_iter().flatten() {
            let figures = &reference["figures"];
            let largest = figures["largest_margin"].as_f64().unwrap_or(0.0);
            outcome.largest_margin = outcome.largest_margin.max(largest);
            mismatches += figures["mismatches"].as_u64().unwrap_or(0);
            outcome.positions += figures["positions"].as_u64().unwrap_or(0);
        }
        outcome.mismatches += mismatches;
        match receipt["verdict"].as_str() {
            Some("verified") => {
                outcome.verified += 1;
                outcome.verified_with_mismatches += u32::from(mismatches > 0);
            }
            Some("failed") => outcome.failed += 1,
            _ => return Err(format!("no verdict: {receipt}").into()),
        }
    }
    Ok(outcome)
}

#[test]
fn an_honest_node_is_never_blamed() -> Result<()> {
    let model = tiny_model();
    let outcome = Trial::of("honest, all on the CPU", &model, Deed::WhatTheEngineGives).run()?;
    assert_eq!(outcome.verified, JOBS as u32);
    Ok(())
}

/// The references compute with WGSL kernels on Mesa's software Vulkan, the worker with flex.
#[test]
fn an_honest_node_on_another_backend_is_never_blamed() -> Result<()> {
    let model = tiny_model();
    let outcome = Trial {
        reference_device: "llvmpipe",
        ..Trial::of(
            "honest, references on software Vulkan",
            &model,
            Deed::WhatTheEngineGives,
        )
    }
    .run()?;
    assert_eq!(outcome.verified, JOBS as u32);
    Ok(())
}

/// Now and then it writes what the whole model would have written, and that is no fault.
#[test]
fn a_smaller_model_is_caught_where_its_answer_differs() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let model = without_the_last_layer(folder.path())?;
    let outcome = Trial::of("without the last layer", &model, Deed::WhatTheEngineGives).run()?;
    assert_eq!(outcome.verified_with_mismatches, 0, "{outcome:?}");
    assert!(outcome.failed >= JOBS as u32 * 95 / 100, "{outcome:?}");
    Ok(())
}

/// The nearest of all cheats: a coarser model often writes what the honest one would have written,
/// and then its tokens cannot give it away. Where they differ, it is caught.
#[test]
fn a_coarser_model_is_caught_where_its_answer_differs() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let model = rounded_to_four_bits(folder.path())?;
    let outcome = Trial {
        // A doubtful margin is decided by a third and a fourth.
        references: 4,
        ..Trial::of(
            "weights rounded to 4 bits",
            &model,
            Deed::WhatTheEngineGives,
        )
    }
    .run()?;
    // A margin between rounding and doubt is let pass.
    let differing = outcome.failed + outcome.verified_with_mismatches;
    assert!(
        differing > 30 && outcome.failed * 5 >= differing * 4,
        "{outcome:?}"
    );
    Ok(())
}

#[test]
fn another_seed_is_caught() -> Result<()> {
    let outcome = Trial::of("another seed", &tiny_model(), Deed::OtherSeed).run()?;
    assert_eq!(outcome.failed, JOBS as u32);
    Ok(())
}

#[test]
fn a_truncated_answer_is_caught() -> Result<()> {
    let model = tiny_model();
    let tokenizer = Tokenizer::from_gguf(&Gguf::open(&model)?)?;
    let end_token = tokenizer.eos().ok_or("the model has no end token")?;
    let outcome = Trial::of("cut off half-way", &model, Deed::Truncate { end_token }).run()?;
    assert_eq!(outcome.failed, JOBS as u32);
    Ok(())
}

/// The tiny model as if its matrices had been quantised in blocks of 32 to 4 bits.
fn rounded_to_four_bits(folder: &Path) -> Result<PathBuf> {
    changed(folder, |tensor, bytes| {
        if tensor.dims.len() == 2 {
            bytes.chunks_exact_mut(32 * 4).for_each(round_block);
        }
    })
}

/// The tiny model with a last layer that adds nothing.
fn without_the_last_layer(folder: &Path) -> Result<PathBuf> {
    changed(folder, |tensor, bytes| {
        if ["blk.2.attn_output.weight", "blk.2.ffn_down.weight"].contains(&tensor.name.as_str()) {
            bytes.fill(0);
        }
    })
}

/// A copy of the tiny model whose tensors went through `change`.
fn changed(folder: &Path, change: impl Fn(&TensorInfo, &mut [u8])) -> Result<PathBuf> {
    const ALIGNMENT: u64 = 32;
    let mut bytes = fs::read(tiny_model())?;
    let tensors = Gguf::open(&tiny_model())?.tensors().to_vec();
    let ends = tensors.iter().map(|tensor| tensor.offset + tensor.bytes);
    let data_bytes = ends.max().unwrap_or(0).next_multiple_of(ALIGNMENT);
    let data_start = bytes.len() - data_bytes as usize;
    for tensor in &tensors {
        let start = data_start + tensor.offset as usize;
        change(tensor, &mut bytes[start..start + tensor.bytes as usize]);
    }
    let file = folder.join(format!("{MODEL}-changed.gguf"));
    fs::write(&file, bytes)?;
    Ok(file)
}

fn round_block(block: &mut [u8]) {
    let values: Vec<f32> = block
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        .collect();
    let largest = values
        .iter()
        .fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let step = (largest / 7.0).max(f32::MIN_POSITIVE);
    for (bytes, value) in block.chunks_exact_mut(4).zip(values) {
        bytes.copy_from_slice(&((value / step).round() * step).to_le_bytes());
    }
}
