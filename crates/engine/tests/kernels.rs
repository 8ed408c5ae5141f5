//! The fast path on software Vulkan: its kernels against f64, and its models against the plain
//! path.
#![expect(
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed, and one that is skipped says so"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cubecl::device::{WgpuBackend, WgpuDevice, WgpuDeviceKind};
use infera_engine::device::{self, Opened};
use infera_engine::forward::{Forward, Segment};
use infera_engine::gpu::selftest::{Check, selftest};
use infera_engine::gpu::{Gpu, Options, Tuning};
use infera_engine::message::{DeviceChoice, FailureCode};
use infera_engine::plain::Plain;
use infera_model::Config;
use infera_model::gguf::Gguf;
use infera_model::quant::TensorType;
use infera_protocol::Profile;
use infera_verify::best;

use self::divergence::mean_divergence;
use self::files::{cached_model, golden_folder, repository};

#[path = "golden/divergence.rs"]
mod divergence;
#[path = "golden/files.rs"]
mod files;

const BLOCKS: usize = 64;

#[test]
fn every_kernel_is_near_f64() {
    let Some(opened) = software_vulkan().or_else(software_spirv) else {
        return;
    };
    let device = opened.gpu.unwrap();
    let mut tell = |check: &Check| eprintln!("{check:?}");
    // The widest columns take long to compile, and are the narrower ones side by side.
    let all = Tuning::software();
    let narrow = Tuning {
        shapes: all.shapes[..2].to_vec(),
        ..all.clone()
    };
    let mut serial = selftest(&device, &narrow, &TensorType::ALL, &mut tell);
    serial.extend(selftest(&device, &all, &[TensorType::Q6K], &mut tell));
    let tiled = small_tiles();
    let kinds = [TensorType::Q4K, TensorType::Q8_0, TensorType::F16];
    let of_tiled = selftest(&device, &tiled, &kinds, &mut tell);
    // Several planes, and lanes of values, here of eight units each.
    let planes = Tuning {
        shared_from: None,
        attention_units: 24,
        planes: true,
        ..tiled
    };
    let of_planes = selftest(&device, &planes, &[], &mut tell);
    let all = serial.iter().chain(&of_tiled).chain(&of_planes);
    let failed: Vec<_> = all.filter(|check| !check.pass).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(serial.len() > 40 && of_tiled.len() > 15 && of_planes.len() > 15);
}

/// The form for GPUs, with little to compile: it is slow to compile here.
fn small_tiles() -> Tuning {
    Tuning {
        splits: Some(3),
        cubes: 1,
        shapes: vec![(2, 2)],
        prefill_columns: 2,
        shared_from: Some(9),
        norm_inside: true,
        rope_inside: true,
        attention_units: 16,
        attention_queries: 6,
        ahead: 2,
        recorded: true,
        cooperative: false,
        planes: false,
    }
}

#[test]
fn prompts_through_shared_memory_have_the_bits_of_steps() {
    let Some(opened) = software_vulkan() else {
        return;
    };
    let path = repository().join("tests/model/tiny-llama.gguf");
    let mut model = load_with(small_tiles(), Profile::P32, &path, &opened);
    let tokens: Vec<u32> = (0..75).map(|token| (token * 7 + 3) % 600).collect();
    let mut of_last = |from: usize| {
        let segment = Segment {
            tokens: &tokens[from..],
            start: from,
            blocks: &[2, 0, 1],
            wanted: tokens.len() - 1 - from..tokens.len() - from,
        };
        let logits = model.forward(&[segment]).unwrap();
        logits
            .iter()
            .map(|logit| logit.to_bits())
            .collect::<Vec<_>>()
    };
    let (prompt, step) = (of_last(0), of_last(74));
    assert!(prompt == step);
}

#[test]
fn the_tiny_model_gives_the_plain_paths_logits() {
    let Some(opened) = software_vulkan() else {
        return;
    };
    let path = repository().join("tests/model/tiny-llama.gguf");
    let tokens: Vec<u32> = (0..90).map(|token| (token * 7 + 3) % 600).collect();
    // The smallest binding that its passes fit in.
    let opened = Opened {
        max_binding_bytes: 600_000,
        ..opened
    };
    compare(&path, &opened, &tokens);
}

#[test]
fn smollm2_gives_the_plain_paths_logits() {
    let path = cached_model("SmolLM2-135M-Instruct.Q4_1.gguf");
    let (Some(path), Some(opened)) = (path, software_vulkan()) else {
        eprintln!("skipped: SmolLM2 is not in the model cache; `cargo xtask demo` puts it there");
        return;
    };
    let tokens: Vec<u32> = (0..40).map(|token| (token * 7919 + 3) % 49_000).collect();
    // So small a binding that the largest matrix is cut into parts.
    let opened = Opened {
        max_binding_bytes: 12 << 20,
        ..opened
    };
    compare(&path, &opened, &tokens);
}

/// Grouped heads, norms of queries and keys, norms after the layers, `GELU`, windows, scaled
/// rotations, biases, fused tensors.
#[test]
fn every_architecture_gives_the_plain_paths_logits() {
    let Some(opened) = software_vulkan() else {
        return;
    };
    let mut count = 0;
    for entry in std::fs::read_dir(golden_folder()).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "gguf")
        {
            eprintln!("{}", path.display());
            let gguf = Gguf::open(&path).unwrap();
            if Config::from_gguf(&gguf).is_ok() {
                let tokens: Vec<u32> = (0..40).map(|token| (token * 7 + 3) % 32).collect();
                compare(&path, &opened, &tokens);
                count += 1;
            }
        }
    }
    assert!(count >= 5, "{count}");
}

#[test]
fn a_sequence_has_the_same_bits_alone_and_in_a_batch() {
    let Some(opened) = software_vulkan() else {
        return;
    };
    let mut model = load(&repository().join("tests/model/tiny-llama.gguf"), &opened);
    let prompts: Vec<Vec<u32>> = (0..32)
        .map(|index| {
            (0..40)
                .map(|token| (token * 7 + index * 31) % 600)
                .collect()
        })
        .collect();
    let tables: Vec<[u32; 2]> = (0..32).map(|index| [2 * index, 63 - 2 * index]).collect();
    let segment = |index: usize, from: usize, to: usize| Segment {
        tokens: &prompts[index][from..to],
        start: from,
        blocks: &tables[index],
        wanted: to - from - 1..to - from,
    };
    let mut alone = Vec::new();
    for (from, to) in [(0, 39), (39, 40)] {
        alone = model.forward(&[segment(5, from, to)]).unwrap();
    }
    // In other pieces, beside others at other places.
    for (from, to) in [(0, 7), (7, 39)] {
        let segments: Vec<_> = (0..32).map(|index| segment(index, from, to)).collect();
        model.forward(&segments).unwrap();
    }
    let segments: Vec<_> = (0..32).map(|index| segment(index, 39, 40)).collect();
    let together = model.forward(&segments).unwrap();
    let vocabulary = model.vocabulary();
    let bits = |logits: &[f32]| {
        logits
            .iter()
            .map(|logit| logit.to_bits())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        bits(&together[5 * vocabulary..][..vocabulary]),
        bits(&alone)
    );
    assert_ne!(
        bits(&together[6 * vocabulary..][..vocabulary]),
        bits(&alone)
    );
}

/// A step is launched when its shape is seen first, recorded when it is seen again, and replayed
/// from then on; one sequence gets a second chunk on the way.
#[test]
fn recorded_steps_have_the_bits_of_launches() {
    let Some(opened) = software_vulkan() else {
        return;
    };
    const STARTS: [usize; 3] = [3, 250, 40];
    let tokens: Vec<u32> = (0..270)
        .map(|token| (token * 7 + token / 11) % 600)
        .collect();
    let tables: Vec<Vec<u32>> = (0..3)
        .map(|index| (9 * index..9 * index + 9).collect())
        .collect();
    let path = repository().join("tests/model/tiny-llama.gguf");
    let [launched, recorded] = [false, true].map(|recorded| {
        let tuning = Tuning {
            recorded,
            ..Tuning::software()
        };
        let mut model = load_with(tuning, Profile::P32, &path, &opened);
        let vocabulary = model.vocabulary();
        let mut found = Vec::new();
        for (start, blocks) in STARTS.iter().zip(&tables) {
            let prompt = Segment {
                tokens: &tokens[..*start],
                start: 0,
                blocks,
                wanted: 0..0,
            };
            model.forward(&[prompt]).unwrap();
        }
        for step in 0..12 {
            let of = |index: usize| Segment {
                tokens: &tokens[STARTS[index] + step..=STARTS[index] + step],
                start: STARTS[index] + step,
                blocks: &tables[index],
                wanted: 0..1,
            };
            // Two shapes in turn.
            let logits = model.forward(&[of(0), of(1), of(2)]).unwrap();
            let alone = model.forward(&[of(1)]).unwrap();
            assert!(alone == logits[vocabulary..2 * vocabulary], "{step}");
            let found_best = model.forward_best(&[of(0), of(1), of(2)], 3).unwrap();
            let expected: Vec<_> = logits.chunks(vocabulary).map(|row| best(row, 3)).collect();
            assert!(found_best == expected, "{step}");
            found.extend(logits);
        }
        // Three and one sequence, without and with a second chunk.
        assert_eq!(model.recorded_steps(), if recorded { 4 } else { 0 });
        found.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    });
    assert!(launched == recorded);
}

/// Norms within products, rotations within attention: grouped heads with norms, windows, partly
/// rotated heads, several chunks, both profiles.
#[test]
fn what_a_kernel_does_first_has_the_bits_of_a_kernel_before_it() {
    let Some(opened) = software_vulkan() else {
        return;
    };
    const START: usize = 250;
    let tokens: Vec<u32> = (0..260).map(|token| (token * 7 + 3) % 600).collect();
    let blocks: Vec<u32> = (0..9).rev().collect();
    let tiny = repository().join("tests/model/tiny-llama.gguf");
    let golden = |name: &str| golden_folder().join(name);
    let software = Tuning::software;
    for (path, tuning, profile) in [
        (tiny.clone(), software(), Profile::P32),
        (tiny.clone(), software(), Profile::P16),
        (tiny, small_tiles(), Profile::P32),
        (golden("qwen3.gguf"), software(), Profile::P16),
        (golden("qwen3.gguf"), small_tiles(), Profile::P32),
        (golden("gemma3.gguf"), software(), Profile::P32),
        (golden("phi3.gguf"), software(), Profile::P32),
    ] {
        let [inside, before] = [true, false].map(|inside| {
            let tuning = Tuning {
                norm_inside: inside,
                rope_inside: inside,
                ..tuning.clone()
            };
            let mut model = load_with(tuning, profile, &path, &opened);
            let vocabulary = model.vocabulary() as u32;
            let tokens: Vec<u32> = tokens.iter().map(|token| token % vocabulary).collect();
            let mut logits = Vec::new();
            let cuts = [0].into_iter().chain(START..=tokens.len());
            for (from, to) in cuts.clone().zip(cuts.skip(1)) {
                let segment = Segment {
                    tokens: &tokens[from..to],
                    start: from,
                    blocks: &blocks,
                    wanted: to - from - 1..to - from,
                };
                logits.extend(model.forward(&[segment]).unwrap());
            }
            logits.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        });
        assert!(inside == before, "{}, {profile}", path.display());
    }
}

/// Whether they come as blocks that were chosen on the device or, for more, out of whole rows.
#[test]
fn the_best_logits_are_those_of_whole_rows() {
    let Some(opened) = software_vulkan() else {
        return;
    };
    let mut model = load(&repository().join("tests/model/tiny-llama.gguf"), &opened);
    let tokens: Vec<u32> = (0..90).map(|token| (token * 7 + 3) % 600).collect();
    let blocks = [2, 0, 1];
    let segment = Segment {
        tokens: &tokens,
        start: 0,
        blocks: &blocks,
        wanted: 5..tokens.len(),
    };
    let logits = model.forward(std::slice::from_ref(&segment)).unwrap();
    for count in [1, 3, 64] {
        let found = model
            .forward_best(std::slice::from_ref(&segment), count)
            .unwrap();
        let rows = logits.chunks_exact(model.vocabulary());
        let expected: Vec<_> = rows.map(|row| best(row, count)).collect();
        assert!(found == expected, "{count}");
    }
}

/// As a prompt's last row, as a step of its own over three chunks that are merged, and beside a
/// short sequence.
#[test]
fn a_long_sequence_has_the_same_bits_however_it_is_cut() {
    let Some(opened) = software_vulkan() else {
        return;
    };
    const LENGTH: usize = 700;
    let tokens: Vec<u32> = (0..LENGTH as u32)
        .map(|token| (token * 7 + token / 11) % 600)
        .collect();
    let blocks: Vec<u32> = (0..LENGTH.div_ceil(32) as u32).rev().collect();
    let segment = |from: usize, to: usize| Segment {
        tokens: &tokens[from..to],
        start: from,
        blocks: &blocks,
        wanted: to - from - 1..to - from,
    };
    let short = Segment {
        tokens: &[5],
        start: 0,
        blocks: &[40],
        wanted: 0..1,
    };
    let path = repository().join("tests/model/tiny-llama.gguf");
    for profile in Profile::ALL {
        let mut model = load_in(profile, &path, &opened);
        let prompt = model.forward(&[segment(0, LENGTH)]).unwrap();
        let step = model.forward(&[segment(LENGTH - 1, LENGTH)]).unwrap();
        let beside = model
            .forward(&[short.clone(), segment(LENGTH - 1, LENGTH)])
            .unwrap();
        let vocabulary = model.vocabulary();
        let bits =
            |logits: &[f32]| -> Vec<u32> { logits.iter().map(|logit| logit.to_bits()).collect() };
        assert!(bits(&prompt) == bits(&step), "{profile}");
        assert!(bits(&step) == bits(&beside[vocabulary..]), "{profile}");
    }
}

#[test]
fn keys_and_values_in_f16_change_the_distributions_little() {
    let Some(opened) = software_vulkan() else {
        return;
    };
    let path = repository().join("tests/model/tiny-llama.gguf");
    let tokens: Vec<u32> = (0..90).map(|token| (token * 7 + 3) % 600).collect();
    let blocks = [2, 0, 1];
    let [wide, narrow] = Profile::ALL.map(|profile| {
        let mut model = load_in(profile, &path, &opened);
        let segment = Segment {
            tokens: &tokens,
            start: 0,
            blocks: &blocks,
            wanted: 0..tokens.len(),
        };
        (
            model.forward(&[segment]).unwrap(),
            model.vocabulary(),
            model.block_bytes(),
        )
    });
    assert_eq!(wide.2, 2 * narrow.2);
    let mean = mean_divergence(&narrow.0, &wide.0, wide.1);
    assert!(mean > 0.0 && mean < 1e-3, "{mean}");
}

/// On a driver that has them, which no Mesa before 26 has for software, in a build with SPIR-V.
#[test]
fn cooperative_matrices_change_the_distributions_little() {
    let Some(opened) = software_spirv() else {
        eprintln!("skipped: the kernels are not compiled to SPIR-V");
        return;
    };
    let path = repository().join("tests/model/tiny-llama.gguf");
    let tokens: Vec<u32> = (0..90).map(|token| (token * 7 + 3) % 600).collect();
    let segment = Segment {
        tokens: &tokens,
        start: 0,
        blocks: &[2, 0, 1],
        wanted: 0..tokens.len(),
    };
    let [with, without] = [true, false].map(|cooperative| {
        let tuning = Tuning {
            cooperative,
            ..small_tiles()
        };
        let mut model = load_with(tuning, Profile::P16, &path, &opened);
        let logits = model.forward(std::slice::from_ref(&segment)).unwrap();
        (model.has_cooperative_matrices(), logits, model.vocabulary())
    });
    if !with.0 {
        eprintln!("skipped: the driver has no cooperative matrices");
        return;
    }
    let mean = mean_divergence(&with.1, &without.1, with.2);
    assert!(mean > 0.0 && mean < 1e-3, "{mean}");
    eprintln!("mean KL divergence: {mean:e}");
}

/// The kernels read 16 bytes at a time and are launched unchecked.
#[test]
fn heads_that_are_no_whole_pieces_are_refused() {
    let Some(opened) = software_vulkan() else {
        return;
    };
    let path = repository().join("tests/model/tiny-llama.gguf");
    for (profile, head_dim) in [(Profile::P32, 6), (Profile::P16, 12)] {
        let gguf = Arc::new(Gguf::open(&path).unwrap());
        let mut config = Config::from_gguf(&gguf).unwrap();
        config.head_dim = head_dim;
        let options = Options::of(&opened, BLOCKS, profile);
        let loaded = Gpu::load(gguf, config, usize::MAX, &opened, &options, &mut |_| {});
        let failure = loaded.err().unwrap();
        assert_eq!(failure.code, FailureCode::BadModel);
        assert!(failure.message.contains(&head_dim.to_string()), "{failure}");
    }
}

#[test]
fn tuning_without_time_keeps_the_defaults_and_they_can_be_stored() {
    let Some(opened) = software_vulkan() else {
        return;
    };
    let mut model = load(&repository().join("tests/model/tiny-llama.gguf"), &opened);
    let mut told = Vec::new();
    let tuned = model
        .tune(Duration::ZERO, &mut |done, all| told.push((done, all)))
        .unwrap();
    assert_eq!(tuned, Tuning::software());
    assert_eq!(told, [(0, 1), (1, 1)]);
}

#[test]
fn a_tuning_is_found_once_and_kept() {
    let Some(opened) = software_vulkan() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = |extension: &str| {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        let mut paths = entries.map(|entry| entry.unwrap().path());
        paths.find(|path| path.extension().is_some_and(|found| found == extension))
    };
    let tuned = |driver: &str| {
        let opened = Opened {
            driver: driver.to_owned(),
            ..opened.clone()
        };
        let mut model = load(&repository().join("tests/model/tiny-llama.gguf"), &opened);
        let mut told = 0;
        model
            .tune_once(folder.path(), &opened, Duration::ZERO, &mut |_, _| {
                told += 1;
            })
            .unwrap();
        (model.tuning().clone(), told)
    };
    assert_eq!(tuned("1.0"), (Tuning::software(), 2));
    let kept = file("json").unwrap();
    assert!(file("begun").is_none());
    // Known now.
    assert_eq!(tuned("1.0"), (Tuning::software(), 0));
    // A candidate is taken as it stands in the file, anything else is not.
    let mut wider = Tuning::software();
    wider.prefill_columns = 16;
    std::fs::write(&kept, serde_json::to_vec(&wider).unwrap()).unwrap();
    assert_eq!(tuned("1.0"), (wider.clone(), 0));
    for broken in [
        "{",
        "{}",
        &serde_json::to_string(&wider).unwrap().replace("64", "63"),
    ] {
        std::fs::write(&kept, broken).unwrap();
        assert_eq!(tuned("1.0"), (Tuning::software(), 2), "{broken}");
    }
    // Another driver is another device.
    assert_eq!(tuned("2.0").1, 2);
    // What was broken off too often is not begun again.
    std::fs::remove_file(&kept).unwrap();
    std::fs::write(kept.with_extension("begun"), "...").unwrap();
    assert_eq!(tuned("1.0"), (Tuning::software(), 0));
}

/// Teacher-forced, in pieces that are not whole blocks.
fn compare(path: &Path, opened: &Opened, tokens: &[u32]) {
    let mut model = load(path, opened);
    let blocks = [2, 0, 1];
    let mut found = Vec::new();
    let cuts = [0, 1, 30, tokens.len() - 1, tokens.len()];
    for cut in cuts.windows(2) {
        let segment = Segment {
            tokens: &tokens[cut[0]..cut[1]],
            start: cut[0],
            blocks: &blocks,
            wanted: 0..cut[1] - cut[0],
        };
        found.extend(model.forward(&[segment]).unwrap());
    }
    let gguf = Arc::new(Gguf::open(path).unwrap());
    let cpu = device::open(&DeviceChoice::Cpu).unwrap();
    let mut plain = Plain::load(gguf, &cpu, None, BLOCKS, &mut |_| {}).unwrap();
    let segment = Segment {
        tokens,
        start: 0,
        blocks: &blocks,
        wanted: 0..tokens.len(),
    };
    let expected = plain.forward(&[segment]).unwrap();
    let divergence = mean_divergence(&found, &expected, model.vocabulary());
    eprintln!("mean KL divergence from the plain path: {divergence:e}");
    assert_eq!(found.len(), expected.len());
    assert!(divergence < 1e-6);
}

fn load(path: &Path, opened: &Opened) -> Gpu {
    load_in(Profile::P32, path, opened)
}

fn load_in(profile: Profile, path: &Path, opened: &Opened) -> Gpu {
    load_with(
        Options::of(opened, BLOCKS, profile).tuning,
        profile,
        path,
        opened,
    )
}

fn load_with(tuning: Tuning, profile: Profile, path: &Path, opened: &Opened) -> Gpu {
    let gguf = Arc::new(Gguf::open(path).unwrap());
    let config = Config::from_gguf(&gguf).unwrap();
    let options = Options {
        blocks: BLOCKS,
        profile,
        tuning,
    };
    Gpu::load(gguf, config, usize::MAX, opened, &options, &mut |_| {}).unwrap()
}

fn software_vulkan() -> Option<Opened> {
    match device::open(&DeviceChoice::Named("llvmpipe".to_owned())) {
        Ok(opened) => Some(opened),
        Err(failure) => {
            eprintln!("skipped: {failure}");
            None
        }
    }
}

/// The same driver in a build with SPIR-V, which [`device::open`] refuses.
fn software_spirv() -> Option<Opened> {
    let cpu = device::open(&DeviceChoice::Cpu).ok()?;
    cfg!(feature = "vulkan").then_some(Opened {
        gpu: Some(WgpuDevice::new(WgpuDeviceKind::Cpu).on(WgpuBackend::Vulkan)),
        max_binding_bytes: 128 << 20,
        ..cpu
    })
}
