//! Whole models against outputs that were computed by others, and against themselves.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;

use infera_cpu::{BLOCK_TOKENS, CpuModel, InstructionSet, Segment, block_bytes};
use infera_model::gguf::Gguf;
use infera_model::{Config, ModelError};
use infera_protocol::Profile;

use self::divergence::mean_divergence;
use self::files::{cached_model, golden_folder, repository};
use self::outputs::{assert_top, goldens, references, top};

#[path = "../../engine/tests/golden/divergence.rs"]
mod divergence;
#[path = "../../engine/tests/golden/files.rs"]
mod files;
#[path = "../../engine/tests/golden/outputs.rs"]
mod outputs;

#[test]
fn the_tiny_model_gives_the_golden_logits_and_ids() {
    let mut model = tiny();
    for set in InstructionSet::available() {
        model.set_instruction_set(set);
        assert_eq!(model.instruction_set(), set.name());
        for golden in goldens(&repository().join("tests/model/golden.jsonl")) {
            for (step, top) in golden.top5.iter().enumerate() {
                let tokens = [&golden.prompt_tokens[..], &golden.gen_tokens[..step]].concat();
                assert_top(&last_logits(&mut model, &tokens), top, 1e-3);
            }
            assert_eq!(
                greedy(&mut model, &golden.prompt_tokens, golden.gen_tokens.len()),
                golden.gen_tokens
            );
        }
    }
}

#[test]
fn stories260k_gives_exactly_the_golden_ids() {
    let path = repository().join("../shared/models/stories260K-f32.gguf");
    if !path.exists() {
        eprintln!("skipped: stories260K-f32.gguf is not beside this repository");
        return;
    }
    let mut model = load(&path, 64);
    for golden in goldens(&golden_folder().join("stories260K.jsonl")) {
        assert_eq!(
            greedy(&mut model, &golden.prompt_tokens, golden.gen_tokens.len()),
            golden.gen_tokens
        );
    }
}

#[test]
fn real_models_give_the_golden_logits_and_ids() {
    let pairs = [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2_f32.jsonl"),
        ("gemma-3-270m-q4_k_m.gguf", "gemma3_f32.jsonl"),
        ("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", "qwen2_f32.jsonl"),
    ];
    for (file, golden) in pairs {
        let golden = golden_folder().join(golden);
        let Some(path) = cached_model(file).filter(|_| golden.exists()) else {
            eprintln!("skipped: {file} is not in the model cache");
            continue;
        };
        let mut model = load(&path, 64);
        for golden in goldens(&golden) {
            assert_top(
                &last_logits(&mut model, &golden.prompt_tokens),
                &golden.first_top5_logits,
                1e-2,
            );
            // One teacher-forced pass. Where the two best are nearer than rounding, either is
            // right.
            let tokens = [&golden.prompt_tokens[..], &golden.gen_tokens].concat();
            let first = golden.prompt_tokens.len() - 1;
            let tokens = &tokens[..tokens.len() - 1];
            let vocabulary = model.vocabulary();
            let logits = all_logits(&mut model, tokens, first);
            for (step, row) in logits.chunks(vocabulary).enumerate() {
                if golden.margins[step] > 1e-3 {
                    assert_eq!(top(row, 1)[0].0, golden.gen_tokens[step], "step {step}");
                }
            }
        }
    }
}

/// Random weights and logits that a program in f64 made from the published definitions.
#[test]
fn every_architecture_gives_the_logits_of_its_definition() {
    for reference in references(&golden_folder().join("architectures.jsonl")) {
        let mut model = load(&golden_folder().join(&reference.file), 8);
        for set in InstructionSet::available() {
            model.set_instruction_set(set);
            let logits = all_logits(&mut model, &reference.tokens, reference.first);
            let expected = reference.logits.concat();
            assert_eq!(logits.len(), expected.len());
            for (found, expected) in logits.iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-4,
                    "{} on {}: {found} is not {expected}",
                    reference.file,
                    set.name()
                );
            }
        }
    }
}

/// One prompt goes through in one piece, in odd pieces beside other sequences, and token by token,
/// in shuffled blocks, behind a shared prefix and with other numbers of threads.
#[test]
fn logits_do_not_depend_on_the_batch_the_blocks_or_the_threads() {
    Profile::ALL
        .into_iter()
        .for_each(one_alone_is_as_in_company);
}

fn one_alone_is_as_in_company(profile: Profile) {
    const LENGTH: usize = 1100;
    const PREFIX: usize = 3 * BLOCK_TOKENS;
    let path = repository().join("tests/model/tiny-llama.gguf");
    let mut model = load_in(profile, &path, 128);
    let prompts: Vec<Vec<u32>> = (0..3)
        .map(|sequence| {
            (0..LENGTH)
                .map(|index| {
                    let own = if index < PREFIX { 0 } else { sequence };
                    ((index * 7 + index / 11 + own * 31) % 600) as u32
                })
                .collect()
        })
        .collect();
    for set in InstructionSet::available() {
        model.set_instruction_set(set);
        // Blocks in order, one sequence after the other.
        let alone: Vec<_> = prompts
            .iter()
            .map(|prompt| all_logits(&mut model, prompt, LENGTH - 40))
            .collect();

        // Shuffled blocks; the second and third sequence share the first's prefix.
        let blocks = LENGTH.div_ceil(BLOCK_TOKENS);
        let prefix = PREFIX / BLOCK_TOKENS;
        let table: Vec<Vec<u32>> = (0..3)
            .map(|sequence| {
                (0..blocks)
                    .map(|index| {
                        let own = if index < prefix { 0 } else { sequence };
                        ((own * blocks + index) * 37 % 127) as u32
                    })
                    .collect()
            })
            .collect();
        let mut together = vec![Vec::new(); 3];
        let ends = [PREFIX, 97, 130, 600, LENGTH - 40];
        let ends = ends.into_iter().chain(LENGTH - 39..=LENGTH);
        let mut start = 0;
        for (step, end) in ends.enumerate() {
            model.set_threads(NonZero::new(1 + step % 3).unwrap());
            let first = if start == 0 { 0..1 } else { 0..3 };
            let segments: Vec<_> = first
                .map(|sequence| Segment {
                    tokens: &prompts[sequence][start..end],
                    start,
                    blocks: &table[sequence],
                    wanted: if end > LENGTH - 40 { 0..1 } else { 0..0 },
                })
                .collect();
            let logits = model.forward(&segments);
            for (all, logits) in together.iter_mut().zip(logits.chunks(model.vocabulary())) {
                all.extend_from_slice(logits);
            }
            start = end;
        }
        for (together, alone) in together.iter().zip(&alone) {
            assert!(together == alone, "{}: the logits differ", set.name());
        }
    }
}

/// Both over the same tokens, P16 against P32.
#[test]
fn keys_and_values_in_f16_change_the_distributions_little() {
    let mut paths = vec![repository().join("tests/model/tiny-llama.gguf")];
    for file in [
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "gemma-3-270m-q4_k_m.gguf",
    ] {
        paths.extend(cached_model(file));
    }
    for path in paths {
        let tokens: Vec<u32> = (0..200).map(|token| (token * 37 + 3) % 600).collect();
        let [wide, narrow] = Profile::ALL.map(|profile| {
            let mut model = load_in(profile, &path, 8);
            (
                all_logits(&mut model, &tokens, 0),
                model.vocabulary(),
                model.block_bytes(),
            )
        });
        assert_eq!(wide.2, 2 * narrow.2);
        let mean = mean_divergence(&narrow.0, &wide.0, wide.1);
        eprintln!("{}: mean divergence {mean:.2e}", path.display());
        assert!(mean > 0.0 && mean < 1e-3, "{mean} {}", path.display());
    }
}

#[test]
fn a_cache_that_does_not_fit_is_an_error_with_its_bytes() {
    let path = repository().join("tests/model/tiny-llama.gguf");
    let gguf = Arc::new(Gguf::open(&path).unwrap());
    let config = Config::from_gguf(&gguf).unwrap();
    let blocks = 1 << 44;
    let bytes = block_bytes(&config, Profile::P32).saturating_mul(blocks as u64);
    let Err(ModelError::Unsupported { what, .. }) =
        CpuModel::load(gguf, config, Profile::P32, 512, blocks, &mut |_| {})
    else {
        panic!("there cannot be so much memory");
    };
    assert!(what.contains(&bytes.to_string()), "{what}");
}

#[test]
fn loading_reports_progress_and_sizes() {
    let path = repository().join("tests/model/tiny-llama.gguf");
    let gguf = Arc::new(Gguf::open(&path).unwrap());
    let config = Config::from_gguf(&gguf).unwrap();
    let mut seen = Vec::new();
    let model = CpuModel::load(gguf, config, Profile::P32, 100, 3, &mut |bytes| {
        seen.push(bytes);
    })
    .unwrap();
    assert!(seen.is_sorted() && seen[0] > 0);
    assert_eq!((model.context(), model.blocks()), (100, 3));
    assert_eq!(model.block_bytes(), 3 * 2 * 2 * 32 * 32 * 4);
    // F32 weights take what they take in the file.
    let last = *seen.last().unwrap();
    assert!(model.weight_bytes() >= last && model.weight_bytes() < last + last / 50);
}

fn tiny() -> CpuModel {
    load(&repository().join("tests/model/tiny-llama.gguf"), 128)
}

fn load(path: &Path, blocks: usize) -> CpuModel {
    load_in(Profile::P32, path, blocks)
}

fn load_in(profile: Profile, path: &Path, blocks: usize) -> CpuModel {
    let gguf = Arc::new(Gguf::open(path).unwrap());
    let config = Config::from_gguf(&gguf).unwrap();
    CpuModel::load(gguf, config, profile, usize::MAX, blocks, &mut |_| {}).unwrap()
}

fn feed(model: &mut CpuModel, start: usize, tokens: &[u32], first_wanted: usize) -> Vec<f32> {
    let blocks: Vec<u32> = (0..(start + tokens.len()).div_ceil(BLOCK_TOKENS) as u32).collect();
    model.forward(&[Segment {
        tokens,
        start,
        blocks: &blocks,
        wanted: first_wanted..tokens.len(),
    }])
}

fn all_logits(model: &mut CpuModel, tokens: &[u32], first: usize) -> Vec<f32> {
    feed(model, 0, tokens, first)
}

fn last_logits(model: &mut CpuModel, tokens: &[u32]) -> Vec<f32> {
    all_logits(model, tokens, tokens.len() - 1)
}

fn greedy(model: &mut CpuModel, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut logits = last_logits(model, prompt);
    let mut output = Vec::new();
    while output.len() < count {
        let token = top(&logits, 1)[0].0;
        output.push(token);
        if output.len() < count {
            logits = feed(model, prompt.len() + output.len() - 1, &[token], 0);
        }
    }
    output
}
