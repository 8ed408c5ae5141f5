//! The plain path against outputs that were computed by others.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::sync::Arc;

use infera_engine::device::{self, Opened};
use infera_engine::embedder::Embedder;
use infera_engine::forward::{BLOCK_TOKENS, Forward, Segment};
use infera_engine::message::DeviceChoice;
use infera_engine::plain::Plain;
use infera_model::EmbedderConfig;
use infera_model::Tokenizer;
use infera_model::gguf::Gguf;
use serde::Deserialize;

use self::files::{cached_model, golden_folder, repository};
use self::outputs::{assert_top, goldens, references, top};

#[path = "golden/files.rs"]
mod files;
#[path = "golden/outputs.rs"]
mod outputs;

#[derive(Deserialize)]
struct Embedded {
    #[serde(default)]
    text: String,
    ids: Vec<u32>,
    embedding: Vec<f32>,
}

#[test]
fn the_tiny_model_gives_the_golden_logits_and_ids() {
    let mut model = load(&repository().join("tests/model/tiny-llama.gguf"));
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

#[test]
fn a_prompt_in_pieces_beside_other_sequences_gives_the_same_logits() {
    let mut model = load(&repository().join("tests/model/tiny-llama.gguf"));
    let prompts: Vec<Vec<u32>> = (0..3)
        .map(|index| {
            (0..300)
                .map(|token| (token * 7 + index * 31) % 600)
                .collect()
        })
        .collect();
    let alone: Vec<_> = prompts
        .iter()
        .map(|prompt| last_logits(&mut model, prompt))
        .collect();
    let tables: Vec<Vec<u32>> = (0..3)
        .map(|index| (0..10).map(|block| block * 3 + index).collect())
        .collect();
    let mut together = Vec::new();
    for (start, end) in [(0, 1), (1, 100), (100, 299), (299, 300)] {
        let segments: Vec<_> = tables
            .iter()
            .zip(&prompts)
            .map(|(blocks, prompt)| Segment {
                tokens: &prompt[start..end],
                start,
                blocks,
                wanted: if end == 300 {
                    end - start - 1..end - start
                } else {
                    0..0
                },
            })
            .collect();
        together = model.forward(&segments).unwrap();
    }
    for (logits, expected) in together.chunks(model.vocabulary()).zip(&alone) {
        assert!(largest_difference(logits, expected) < 1e-4);
    }
}

#[test]
fn a_sequence_reads_the_blocks_of_another_with_the_same_beginning() {
    let mut model = load(&repository().join("tests/model/tiny-llama.gguf"));
    let prompt: Vec<u32> = (0..100).map(|token| token * 7 % 600).collect();
    let other = [&prompt[..64], &[5, 6, 7]].concat();
    let expected = last_logits(&mut model, &other);
    let mut feed = |tokens: &[u32], start: usize, blocks: &[u32]| {
        model
            .forward(&[Segment {
                tokens,
                start,
                blocks,
                wanted: tokens.len() - 1..tokens.len(),
            }])
            .unwrap()
    };
    let first = feed(&prompt, 0, &[9, 4, 8, 2]);
    let found = feed(&other[64..], 64, &[9, 4, 3]);
    assert!(largest_difference(&found, &expected) < 1e-4);
    let again = feed(&prompt[99..], 99, &[9, 4, 8, 2]);
    assert!(largest_difference(&again, &first) < 1e-4);
}

/// Random weights and logits that a program in f64 made from the published definitions.
#[test]
fn every_architecture_gives_the_logits_of_its_definition() {
    for reference in references(&golden_folder().join("architectures.jsonl")) {
        let mut model = load(&golden_folder().join(&reference.file));
        let tokens = &reference.tokens;
        let expected = reference.logits.concat();
        let whole = all_logits(&mut model, tokens, reference.first);
        // The same in a cache whose blocks lie anywhere, first in pieces and then token by token.
        let blocks = [5, 1, 7, 0];
        let mut pieces = Vec::new();
        let mut start = 0;
        while start < tokens.len() {
            let end = if start < reference.first {
                (start + 7).min(reference.first)
            } else {
                start + 1
            };
            let segment = Segment {
                tokens: &tokens[start..end],
                start,
                blocks: &blocks,
                wanted: end.min(reference.first.max(start)) - start..end - start,
            };
            pieces.extend(model.forward(&[segment]).unwrap());
            start = end;
        }
        for (found, how) in [(&whole, "at once"), (&pieces, "in pieces")] {
            let difference = largest_difference(found, &expected);
            eprintln!(
                "{} {how}: largest difference {difference:e}",
                reference.file
            );
            assert!(difference < 5e-5);
        }
    }
}

/// Software Vulkan runs the same kernels that a GPU runs, compiled through WGSL.
#[test]
fn software_vulkan_gives_the_cpus_logits() {
    let path = repository().join("tests/model/tiny-llama.gguf");
    let Ok(opened) = device::open(&DeviceChoice::Named("llvmpipe".to_owned())) else {
        eprintln!("skipped: there is no software Vulkan adapter (Mesa's llvmpipe) on this machine");
        return;
    };
    // So small a binding that matrices are cut into blocks.
    let opened = Opened {
        max_binding_bytes: 100_000,
        ..opened
    };
    let mut gpu = load_on(&path, &opened);
    let mut cpu = load(&path);
    let golden = goldens(&repository().join("tests/model/golden.jsonl")).remove(0);
    let tokens = &golden.prompt_tokens;
    let difference = largest_difference(
        &last_logits(&mut gpu, tokens),
        &last_logits(&mut cpu, tokens),
    );
    eprintln!("largest difference of a logit between software Vulkan and the CPU: {difference:e}");
    assert!(difference < 1e-3);
    assert_eq!(greedy(&mut gpu, tokens, 8), golden.gen_tokens[..8]);
}

#[test]
fn stories260k_gives_exactly_the_golden_ids() {
    let path = repository().join("../shared/models/stories260K-f32.gguf");
    if !path.exists() {
        eprintln!("skipped: stories260K-f32.gguf is not beside this repository");
        return;
    }
    let mut model = load(&path);
    for golden in goldens(&golden_folder().join("stories260K.jsonl")) {
        assert_eq!(
            greedy(&mut model, &golden.prompt_tokens, golden.gen_tokens.len()),
            golden.gen_tokens
        );
    }
}

#[test]
fn smollm2_gives_the_golden_logits_and_ids() {
    match cached_model("SmolLM2-135M-Instruct.Q4_1.gguf") {
        Some(path) => check_published(&path, "smollm2_f32.jsonl"),
        None => eprintln!("skipped: the model is not in the model cache"),
    }
}

#[test]
fn gemma3_gives_the_golden_logits_and_ids() {
    match cached_model("gemma-3-270m-q4_k_m.gguf") {
        Some(path) => check_published(&path, "gemma3_f32.jsonl"),
        None => eprintln!("skipped: the model is not in the model cache"),
    }
}

#[test]
fn qwen2_gives_the_golden_logits_and_ids() {
    match cached_model("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf") {
        Some(path) => check_published(&path, "qwen2_f32.jsonl"),
        None => eprintln!("skipped: the model is not in the model cache"),
    }
}

/// Against transformers.
fn check_published(path: &Path, golden: &str) {
    let mut model = load(path);
    for golden in goldens(&golden_folder().join(golden)) {
        assert_top(
            &last_logits(&mut model, &golden.prompt_tokens),
            &golden.first_top5_logits,
            1e-2,
        );
        // One teacher-forced pass. Where the two best are nearer than rounding, either is right.
        let tokens = [&golden.prompt_tokens[..], &golden.gen_tokens].concat();
        let first = golden.prompt_tokens.len() - 1;
        let logits = all_logits(&mut model, &tokens[..tokens.len() - 1], first);
        for (step, row) in logits.chunks(model.vocabulary()).enumerate() {
            if golden.margins[step] > 1e-3 {
                assert_eq!(top(row, 1)[0].0, golden.gen_tokens[step], "step {step}");
            }
        }
    }
}

#[test]
fn bert_gives_the_vectors_of_its_definition() {
    let vectors = check_embedder(&golden_folder().join("bert.gguf"), "bert.json", 2e-6);
    assert_eq!(vectors.len(), 3);
}

#[test]
fn minilm_gives_the_golden_ids_and_vectors() {
    let Some(path) = cached_model("all-minilm-l6-v2-f32.gguf") else {
        eprintln!("skipped: MiniLM is not in the model cache; see tests/golden/README.md");
        return;
    };
    let tokenizer = Tokenizer::from_gguf(&Gguf::open(&path).unwrap()).unwrap();
    for golden in check_embedder(&path, "minilm.json", 2e-6) {
        assert_eq!(tokenizer.encode_prompt(&golden.text, false), golden.ids);
    }
}

fn check_embedder(path: &Path, golden: &str, tolerance: f32) -> Vec<Embedded> {
    let text = std::fs::read_to_string(golden_folder().join(golden)).unwrap();
    let goldens: Vec<Embedded> = serde_json::from_str(&text).unwrap();
    let gguf = Arc::new(Gguf::open(path).unwrap());
    let opened = device::open(&DeviceChoice::Cpu).unwrap();
    let config = EmbedderConfig::from_gguf(&gguf).unwrap();
    let embedder = Embedder::load(&gguf, config, &opened, &mut |_| {}).unwrap();
    for golden in &goldens {
        embedder.check(&golden.ids).unwrap();
        let vector = embedder.embed(&golden.ids).unwrap();
        let difference = largest_difference(&vector, &golden.embedding);
        assert!(difference < tolerance, "{difference:e}");
    }
    let refused = [vec![0], vec![], vec![u32::MAX], vec![0; 513]];
    let refused = refused.map(|text| embedder.check(&text).is_err());
    assert_eq!(refused, [false, true, true, true]);
    goldens
}

fn load(path: &Path) -> Plain {
    load_on(path, &device::open(&DeviceChoice::Cpu).unwrap())
}

fn load_on(path: &Path, opened: &Opened) -> Plain {
    const BLOCKS: usize = 64;
    let gguf = Arc::new(Gguf::open(path).unwrap());
    Plain::load(gguf, opened, None, BLOCKS, &mut |_| {}).unwrap()
}

fn feed(model: &mut Plain, tokens: &[u32], start: usize, first_wanted: usize) -> Vec<f32> {
    let count = (start + tokens.len()).div_ceil(BLOCK_TOKENS) as u32;
    let blocks: Vec<u32> = (0..count).collect();
    model
        .forward(&[Segment {
            tokens,
            start,
            blocks: &blocks,
            wanted: first_wanted..tokens.len(),
        }])
        .unwrap()
}

fn all_logits(model: &mut Plain, tokens: &[u32], first: usize) -> Vec<f32> {
    feed(model, tokens, 0, first)
}

fn last_logits(model: &mut Plain, tokens: &[u32]) -> Vec<f32> {
    all_logits(model, tokens, tokens.len() - 1)
}

fn greedy(model: &mut Plain, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut logits = last_logits(model, prompt);
    let mut output = Vec::new();
    while output.len() < count {
        let token = top(&logits, 1)[0].0;
        output.push(token);
        if output.len() < count {
            logits = feed(model, &[token], prompt.len() + output.len() - 1, 0);
        }
    }
    output
}

fn largest_difference(one: &[f32], two: &[f32]) -> f32 {
    assert_eq!(one.len(), two.len());
    one.iter()
        .zip(two)
        .map(|(one, two)| (one - two).abs())
        .fold(0.0, f32::max)
}
