//! The plain path against outputs that were computed by others.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use infera_engine::device::{self, Opened};
use infera_engine::llama::{KvCache, Llama};
use infera_engine::message::DeviceChoice;
use infera_engine::scheduler::{Forward, Segment};
use infera_model::gguf::Gguf;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    #[serde(alias = "prompt_ids")]
    prompt_tokens: Vec<u32>,
    #[serde(alias = "greedy_ids")]
    gen_tokens: Vec<u32>,
    #[serde(default)]
    first_top5_logits: Vec<(u32, f32)>,
    /// For each of the first steps.
    #[serde(default)]
    top5: Vec<Vec<(u32, f32)>>,
    #[serde(default)]
    margins: Vec<f32>,
}

#[test]
fn the_tiny_model_gives_the_golden_logits_and_ids() {
    let model = load(
        &repository().join("tests/model/tiny-llama.gguf"),
        &DeviceChoice::Cpu,
    );
    for golden in goldens(&repository().join("tests/model/golden.jsonl")) {
        for (step, top) in golden.top5.iter().enumerate() {
            let tokens = [&golden.prompt_tokens[..], &golden.gen_tokens[..step]].concat();
            assert_top(&last_logits(&model, &tokens), top, 1e-3);
        }
        assert_eq!(
            greedy(&model, &golden.prompt_tokens, golden.gen_tokens.len()),
            golden.gen_tokens
        );
    }
}

#[test]
fn a_prompt_in_pieces_beside_other_sequences_gives_the_same_logits() {
    let model = load(
        &repository().join("tests/model/tiny-llama.gguf"),
        &DeviceChoice::Cpu,
    );
    let prompts: Vec<Vec<u32>> = (0..3)
        .map(|index| {
            (0..300)
                .map(|token| (token * 7 + index * 31) % 600)
                .collect()
        })
        .collect();
    let alone: Vec<_> = prompts
        .iter()
        .map(|prompt| last_logits(&model, prompt))
        .collect();
    let mut caches: Vec<_> = prompts.iter().map(|_| model.new_cache()).collect();
    let mut together = Vec::new();
    for (start, end) in [(0, 1), (1, 100), (100, 299), (299, 300)] {
        let mut segments: Vec<_> = caches
            .iter_mut()
            .zip(&prompts)
            .map(|(cache, prompt)| Segment {
                cache,
                tokens: &prompt[start..end],
                wanted: if end == 300 {
                    end - start - 1..end - start
                } else {
                    0..0
                },
            })
            .collect();
        together = model.forward(&mut segments).unwrap();
    }
    for (logits, expected) in together.chunks(model.vocabulary()).zip(&alone) {
        assert!(largest_difference(logits, expected) < 1e-4);
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
    let gpu = load_on(&path, &opened);
    let cpu = load(&path, &DeviceChoice::Cpu);
    let golden = goldens(&repository().join("tests/model/golden.jsonl")).remove(0);
    let tokens = &golden.prompt_tokens;
    let difference = largest_difference(&last_logits(&gpu, tokens), &last_logits(&cpu, tokens));
    eprintln!("largest difference of a logit between software Vulkan and the CPU: {difference:e}");
    assert!(difference < 1e-3);
    assert_eq!(greedy(&gpu, tokens, 8), golden.gen_tokens[..8]);
}

#[test]
fn stories260k_gives_exactly_the_golden_ids() {
    let path = repository().join("../shared/models/stories260K-f32.gguf");
    if !path.exists() {
        eprintln!("skipped: stories260K-f32.gguf is not beside this repository");
        return;
    }
    let model = load(&path, &DeviceChoice::Cpu);
    for golden in goldens(&golden_folder().join("stories260K.jsonl")) {
        assert_eq!(
            greedy(&model, &golden.prompt_tokens, golden.gen_tokens.len()),
            golden.gen_tokens
        );
    }
}

#[test]
fn smollm2_gives_the_golden_logits_and_ids() {
    let Some(path) = cached_model("SmolLM2-135M-Instruct.Q4_1.gguf") else {
        eprintln!("skipped: SmolLM2 is not in the model cache; `cargo xtask demo` puts it there");
        return;
    };
    let model = load(&path, &DeviceChoice::Cpu);
    for golden in goldens(&golden_folder().join("smollm2_f32.jsonl")) {
        assert_top(
            &last_logits(&model, &golden.prompt_tokens),
            &golden.first_top5_logits,
            1e-2,
        );
        // One teacher-forced pass. Where the two best are nearer than rounding, either is right.
        let tokens = [&golden.prompt_tokens[..], &golden.gen_tokens].concat();
        let first = golden.prompt_tokens.len() - 1;
        let logits = all_logits(&model, &tokens[..tokens.len() - 1], first);
        for (step, row) in logits.chunks(model.vocabulary()).enumerate() {
            if golden.margins[step] > 1e-3 {
                assert_eq!(top(row, 1)[0].0, golden.gen_tokens[step], "step {step}");
            }
        }
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn golden_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Where `cargo xtask` keeps downloaded models.
fn cached_model(file: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("INFERA_MODELS")
        .map(PathBuf::from)
        .or_else(|| {
            let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
            let cache =
                cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
            Some(cache?.join("infera-node/models"))
        })?;
    Some(folder.join(file)).filter(|path| path.exists())
}

fn goldens(path: &Path) -> Vec<Golden> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn load(path: &Path, choice: &DeviceChoice) -> Llama {
    load_on(path, &device::open(choice).unwrap())
}

fn load_on(path: &Path, opened: &Opened) -> Llama {
    let gguf = Arc::new(Gguf::open(path).unwrap());
    Llama::load(gguf, opened, None, &mut |_| {}).unwrap()
}

fn feed(model: &Llama, cache: &mut KvCache, tokens: &[u32], first_wanted: usize) -> Vec<f32> {
    model
        .forward(&mut [Segment {
            cache,
            tokens,
            wanted: first_wanted..tokens.len(),
        }])
        .unwrap()
}

fn all_logits(model: &Llama, tokens: &[u32], first: usize) -> Vec<f32> {
    feed(model, &mut model.new_cache(), tokens, first)
}

fn last_logits(model: &Llama, tokens: &[u32]) -> Vec<f32> {
    all_logits(model, tokens, tokens.len() - 1)
}

fn greedy(model: &Llama, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut cache = model.new_cache();
    let mut logits = feed(model, &mut cache, prompt, prompt.len() - 1);
    let mut output = Vec::new();
    while output.len() < count {
        let token = top(&logits, 1)[0].0;
        output.push(token);
        if output.len() < count {
            logits = feed(model, &mut cache, &[token], 0);
        }
    }
    output
}

fn top(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut sorted: Vec<_> = logits
        .iter()
        .enumerate()
        .map(|(id, logit)| (id as u32, *logit))
        .collect();
    sorted.sort_by(|one, two| two.1.total_cmp(&one.1));
    sorted.truncate(count);
    sorted
}

fn assert_top(logits: &[f32], expected: &[(u32, f32)], tolerance: f32) {
    let found = top(logits, expected.len());
    for ((id, logit), (expected_id, expected_logit)) in found.iter().zip(expected) {
        assert_eq!(id, expected_id, "{found:?} is not {expected:?}");
        assert!(
            (logit - expected_logit).abs() < tolerance,
            "{found:?} is not {expected:?}"
        );
    }
}

fn largest_difference(one: &[f32], two: &[f32]) -> f32 {
    assert_eq!(one.len(), two.len());
    one.iter()
        .zip(two)
        .map(|(one, two)| (one - two).abs())
        .fold(0.0, f32::max)
}
