//! Reference nodes catch nodes that cheat, and only those: a hundred jobs of each kind.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use infera_model::{Gguf, Tokenizer};
use infera_protocol::{FinishReason, JobSeed, NodeKey, TokenOutput};
use infera_system_tests::engine::Engine;
use infera_system_tests::simulated::{Conduct, SimulatedNode};
use infera_system_tests::{MODEL, World, story, tiny_model};
use serde_json::{Value, json};
use xtask::network::{BalancerOptions, START_LIMIT};
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
    fn conduct(self, mut engine: Engine) -> Conduct {
        Box::new(move |spec| {
            let seed = match self {
                Self::OtherSeed => JobSeed::from_bytes(spec.seed.as_bytes().map(|byte| !byte)),
                Self::WhatTheEngineGives | Self::Truncate { .. } => spec.seed,
            };
            let (mut tokens, reason) = engine.generate(spec, seed)?;
            let Self::Truncate { end_token } = self else {
                return Ok((tokens, reason));
            };
            tokens.truncate(tokens.len() / 2);
            tokens.push(TokenOutput {
                id: end_token,
                logprob: None,
                alternatives: Vec::new(),
            });
            Ok((tokens, FinishReason::EndOfText))
        })
    }
}

/// How a hundred jobs ended.
#[derive(Debug, Default)]
struct Outcome {
    verified: u32,
    failed: u32,
    /// Of all references' reports, in units of the threshold's scale.
    largest_margin: f64,
    mismatches: u64,
    positions: u64,
}

#[expect(
    clippy::print_stdout,
    reason = "the figures are for docs/verification.md"
)]
/// Lets one node with this engine and this conduct answer a hundred jobs on a network of its own.
fn hundred_jobs(what: &str, model_file: &Path, device: &Value, deed: Deed) -> Result<Outcome> {
    let options = BalancerOptions {
        // It is to be caught a hundred times, not once.
        settings: "ban = 0\n".to_owned(),
        ..BalancerOptions::default()
    };
    let world = World::start_with(options, 0, 2)?;
    let engine = Engine::start(&world.binaries.node, model_file, device)?;
    let model = world.model_id.parse()?;
    let key = NodeKey::from_secret(&[7; 32]);
    let node = SimulatedNode::connect(world.balancer.url(), key, model, deed.conduct(engine))?;
    let stop = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        let work = scope.spawn(|| node.work(&stop));
        let outcome = ask(&world);
        stop.store(true, Ordering::Relaxed);
        let worked = work.join().map_err(|_| "the node panicked")?;
        worked.and(outcome)
    })?;
    println!(
        "{what}: {} verified, {} failed; {} of {} tokens differ, largest margin {:.3} s0",
        outcome.verified,
        outcome.failed,
        outcome.mismatches,
        outcome.positions,
        outcome.largest_margin
    );
    world.settled_ledger()?;
    Ok(outcome)
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
        match receipt["verdict"].as_str() {
            Some("verified") => outcome.verified += 1,
            Some("failed") => outcome.failed += 1,
            _ => return Err(format!("no verdict: {receipt}").into()),
        }
        for reference in receipt["references"].as_array().into_iter().flatten() {
            let figures = &reference["figures"];
            outcome.largest_margin = outcome
                .largest_margin
                .max(figures["largest_margin"].as_f64().unwrap_or(0.0));
            outcome.mismatches += figures["mismatches"].as_u64().unwrap_or(0);
            outcome.positions += figures["positions"].as_u64().unwrap_or(0);
        }
    }
    Ok(outcome)
}

#[test]
fn an_honest_node_is_never_blamed() -> Result<()> {
    let outcome = hundred_jobs(
        "honest, CPU",
        &tiny_model(),
        &json!("cpu"),
        Deed::WhatTheEngineGives,
    )?;
    assert_eq!(outcome.verified, JOBS as u32);
    Ok(())
}

/// The worker computes with WGSL kernels on Mesa's software Vulkan, the references with flex.
#[test]
fn an_honest_node_on_another_backend_is_never_blamed() -> Result<()> {
    let device = json!({ "named": "llvmpipe" });
    let outcome = hundred_jobs(
        "honest, software Vulkan",
        &tiny_model(),
        &device,
        Deed::WhatTheEngineGives,
    )?;
    assert_eq!(outcome.verified, JOBS as u32);
    Ok(())
}

#[test]
fn a_cheaper_model_is_caught() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let cheap = rounded_to_four_bits(folder.path())?;
    let outcome = hundred_jobs(
        "weights rounded to 4 bits",
        &cheap,
        &json!("cpu"),
        Deed::WhatTheEngineGives,
    )?;
    assert_eq!(outcome.failed, JOBS as u32);
    Ok(())
}

#[test]
fn another_seed_is_caught() -> Result<()> {
    let outcome = hundred_jobs(
        "another seed",
        &tiny_model(),
        &json!("cpu"),
        Deed::OtherSeed,
    )?;
    assert_eq!(outcome.failed, JOBS as u32);
    Ok(())
}

#[test]
fn a_truncated_answer_is_caught() -> Result<()> {
    let tokenizer = Tokenizer::from_gguf(&Gguf::open(&tiny_model())?)?;
    let end_token = tokenizer.eos().ok_or("the model has no end token")?;
    let outcome = hundred_jobs(
        "truncated",
        &tiny_model(),
        &json!("cpu"),
        Deed::Truncate { end_token },
    )?;
    assert_eq!(outcome.failed, JOBS as u32);
    Ok(())
}

/// The tiny model as if its matrices had been quantised in blocks of 32 to 4 bits.
fn rounded_to_four_bits(folder: &Path) -> Result<PathBuf> {
    const ALIGNMENT: u64 = 32;
    let mut bytes = fs::read(tiny_model())?;
    let tensors = Gguf::open(&tiny_model())?.tensors().to_vec();
    let data_bytes = tensors
        .iter()
        .map(|tensor| tensor.offset + tensor.bytes)
        .max()
        .unwrap_or(0);
    let data_start = bytes.len() - data_bytes.next_multiple_of(ALIGNMENT) as usize;
    for tensor in tensors.iter().filter(|tensor| tensor.dims.len() == 2) {
        let start = data_start + tensor.offset as usize;
        for block in bytes[start..start + tensor.bytes as usize].chunks_exact_mut(32 * 4) {
            round_block(block);
        }
    }
    let file = folder.join(format!("{MODEL}-4-bit.gguf"));
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
