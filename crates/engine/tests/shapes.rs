//! Random small models through the whole GPU pass on software Vulkan, with the kernels' indices
//! checked, beside the CPU's pass; and hostile sizes, which must be refused before a launch.
//!
//! `INFERA_SHAPES_SECONDS` and `INFERA_SHAPES_SEED` make it longer and another one.
#![expect(
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed, and one that is skipped says so"
)]

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cubecl::device::Device;
use cubecl::prelude::*;
use half::{bf16, f16};
use infera_cpu::CpuModel;
use infera_engine::device::{self, Opened};
use infera_engine::forward::{BLOCK_TOKENS, Forward, Segment};
use infera_engine::gpu::{Gpu, Options, Tuning};
use infera_engine::kernels::check_indices;
use infera_engine::kernels::clear::{UNITS, clear};
use infera_engine::message::{DeviceChoice, Failure, FailureCode};
use infera_model::Config;
use infera_model::gguf::Gguf;
use infera_model::gguf::write::GgufBuilder;
use infera_model::quant::TensorType;
use infera_protocol::Profile;
use infera_verify::best;

/// In the suite.
const SECONDS: u64 = 20;
const BLOCKS: usize = 24;
/// The largest normalised mean square error of a pass's logits between GPU and CPU.
const LIMIT_NMSE: f64 = 1e-6;
const LIMIT_NMSE_P16: f64 = 1e-4;

/// What a model's file is made by.
#[derive(Debug, Clone)]
struct Model {
    architecture: &'static str,
    profile: Profile,
    /// For GPUs, else for software drivers.
    tiled: bool,
    layers: u32,
    embedding: u32,
    feed_forward: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    rope_dim: u32,
    vocabulary: u32,
    context: u32,
    window: u32,
    tied: bool,
    /// Seeds the kinds of the tensors and their values.
    seed: u64,
}

/// Deterministic, so that a failure comes again.
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 32
    }

    fn of(&mut self, range: Range<usize>) -> usize {
        range.start + self.next() as usize % (range.end - range.start)
    }

    fn among<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.of(0..items.len())]
    }

    /// From -1 to 1.
    fn value(&mut self) -> f32 {
        self.next() as f32 / (1_u64 << 31) as f32 - 1.0
    }
}

impl Model {
    fn random(random: &mut Random) -> Self {
        let head_dim = 8 * random.of(1..9) as u32;
        let kv_heads = random.of(1..4) as u32;
        // Mostly no whole blocks; 256 lets K-quants in.
        let width = |random: &mut Random| match random.of(0..4) {
            0 => random.of(1..200) as u32,
            1 => 256,
            2 => 32 * random.of(1..6) as u32,
            _ => 4 * random.of(1..40) as u32,
        };
        Self {
            architecture: random.among(&["llama", "qwen2", "qwen3", "gemma3", "phi3"]),
            profile: random.among(&Profile::ALL),
            // They are slow to compile here.
            tiled: random.of(0..4) == 0,
            layers: random.of(1..3) as u32,
            embedding: width(random),
            feed_forward: width(random),
            heads: kv_heads * random.among(&[1, 1, 2, 3, 5]),
            kv_heads,
            head_dim,
            rope_dim: 2 * random.of(1..head_dim as usize / 2 + 1) as u32,
            vocabulary: random.of(1..700) as u32,
            context: random.of(1..700) as u32,
            window: random.of(1..400) as u32,
            tied: random.of(0..2) == 0,
            seed: random.next(),
        }
    }

    fn file(&self) -> Vec<u8> {
        let file = self.metadata();
        let metadata = Gguf::from_bytes(file.build(), "metadata.gguf").unwrap();
        let mut config = Config::from_metadata(&metadata).unwrap();
        config.tied = self.tied;
        config.qkv_bias = self.architecture == "qwen2";
        let mut random = Random(self.seed);
        // Each kind more is more to compile.
        let pool = [
            random.among(&TensorType::ALL),
            random.among(&TensorType::ALL),
        ];
        let tensors = config.layout().tensors().into_iter();
        let file = tensors.fold(file, |file, tensor| {
            let dims = &tensor.dims;
            let kind = match dims.len() {
                1 => TensorType::F32,
                _ => kind(dims[0], &pool, &mut random),
            };
            let bytes = bytes(kind, dims.iter().product(), dims.len() == 1, &mut random);
            file.tensor(&tensor.name.to_string(), kind, dims, bytes)
        });
        file.build()
    }

    fn metadata(&self) -> GgufBuilder {
        let name = self.architecture;
        let key = |suffix: &str| format!("{name}.{suffix}");
        let tokens: Vec<String> = (0..self.vocabulary).map(|id| format!("t{id}")).collect();
        let mut file = GgufBuilder::new()
            .str("general.architecture", name)
            .u32(&key("block_count"), self.layers)
            .u32(&key("context_length"), self.context)
            .u32(&key("embedding_length"), self.embedding)
            .u32(&key("feed_forward_length"), self.feed_forward)
            .u32(&key("attention.head_count"), self.heads)
            .u32(&key("attention.head_count_kv"), self.kv_heads)
            .u32(&key("attention.key_length"), self.head_dim)
            .u32(&key("attention.value_length"), self.head_dim)
            .u32(&key("rope.dimension_count"), self.rope_dim)
            .f32(&key("attention.layer_norm_rms_epsilon"), 1e-5)
            .strings("tokenizer.ggml.tokens", &tokens);
        if matches!(name, "gemma3" | "phi3") {
            file = file.u32(&key("attention.sliding_window"), self.window);
        }
        if name == "gemma3" {
            file = file.u32(&key("attention.sliding_window_pattern"), 2);
        }
        file
    }

    fn tuning(&self) -> Tuning {
        if self.tiled {
            Tuning {
                splits: Some(3),
                shapes: vec![(2, 2)],
                prefill_columns: 2,
                shared_from: Some(9),
                attention_units: 16,
                attention_queries: 6,
                ahead: 2,
                ..Tuning::hardware()
            }
        } else {
            let mut tuning = Tuning::software();
            tuning.shapes.truncate(2);
            tuning
        }
    }
}

/// One of these whose blocks are parts of a row, else one of single values.
fn kind(row: u64, pool: &[TensorType], random: &mut Random) -> TensorType {
    let fitting = |kind: &&TensorType| row.is_multiple_of(kind.block_values() as u64);
    let fitting: Vec<_> = pool.iter().filter(fitting).copied().collect();
    if fitting.is_empty() {
        TensorType::F16
    } else {
        random.among(&fitting)
    }
}

/// Random bits, with scales that keep what is computed near 1.
fn bytes(kind: TensorType, values: u64, norm: bool, random: &mut Random) -> Vec<u8> {
    let blocks = values as usize / kind.block_values();
    let middle = if norm { 1.0 } else { 0.0 };
    let value = |random: &mut Random| middle + 0.2 * random.value();
    let half =
        |random: &mut Random, scale: f32| f16::from_f32(scale * random.value()).to_le_bytes();
    (0..blocks)
        .flat_map(|_| match kind {
            TensorType::F32 => value(random).to_le_bytes().to_vec(),
            TensorType::F16 => f16::from_f32(value(random)).to_le_bytes().to_vec(),
            TensorType::BF16 => bf16::from_f32(value(random)).to_le_bytes().to_vec(),
            _ => {
                let mut block: Vec<u8> = (0..kind.block_bytes())
                    .map(|_| random.next() as u8)
                    .collect();
                let (places, scale): (&[usize], f32) = match kind {
                    TensorType::Q6K => (&[208], 1e-4),
                    TensorType::Q4K | TensorType::Q5K => (&[0, 2], 5e-4),
                    TensorType::Q4_1 | TensorType::Q5_1 => (&[0, 2], 0.02),
                    TensorType::Q8_0 => (&[0], 2e-3),
                    _ => (&[0], 0.02),
                };
                for place in places {
                    block[*place..place + 2].copy_from_slice(&half(random, scale));
                }
                block
            }
        })
        .collect()
}

#[test]
fn random_models_give_on_checked_kernels_what_the_cpu_gives() {
    let Some(opened) = checked_software_vulkan() else {
        return;
    };
    let number = |name: &str, otherwise: u64| {
        let set = std::env::var(name).ok();
        set.map_or(otherwise, |text| text.parse().unwrap())
    };
    let limit = Duration::from_secs(number("INFERA_SHAPES_SECONDS", SECONDS));
    let mut random = Random(number("INFERA_SHAPES_SEED", 11));
    let begun = Instant::now();
    let (mut models, mut passes) = (0, 0);
    let mut seen: HashMap<&str, u32> = HashMap::new();
    while begun.elapsed() < limit {
        let model = Model::random(&mut random);
        passes += run(&model, &opened, &mut random);
        models += 1;
        *seen.entry(model.architecture).or_default() += 1;
    }
    eprintln!("{models} models ({seen:?}), {passes} passes");
    assert!(models > 0 && passes > 0);
}

/// Loads a model on both and feeds sequences as a scheduler may; gives how many passes.
fn run(model: &Model, opened: &Opened, random: &mut Random) -> usize {
    let gguf = Arc::new(Gguf::from_bytes(model.file(), "random.gguf").unwrap());
    let config = Config::from_gguf(&gguf).unwrap_or_else(|error| panic!("{model:?}: {error}"));
    let context = model.context as usize;
    let mut on_cpu = CpuModel::load(
        Arc::clone(&gguf),
        config.clone(),
        model.profile,
        context,
        BLOCKS,
        &mut |_| {},
    )
    .unwrap();
    let mut on_gpu =
        load(&gguf, config, model, opened).unwrap_or_else(|failure| panic!("{model:?}: {failure}"));
    let mut free: Vec<u32> = (0..BLOCKS as u32).collect();
    let mut sequences: Vec<(Vec<u32>, usize)> = Vec::new();
    for _ in 0..random.of(1..5) {
        let blocks = random.of(1..7).min(free.len());
        let own = (0..blocks).map(|_| free.swap_remove(random.of(0..free.len())));
        sequences.push((own.collect(), 0));
    }
    let passes = random.of(2..6);
    for pass in 0..passes {
        let mut fed: Vec<(usize, Vec<u32>, Range<usize>)> = Vec::new();
        for (index, (blocks, position)) in sequences.iter().enumerate() {
            let room = context.min(blocks.len() * BLOCK_TOKENS) - position;
            if room == 0 {
                continue;
            }
            let count = match random.of(0..3) {
                0 => 1,
                1 => random.of(1..40).min(room),
                _ => random.of(1..150).min(room),
            };
            let vocabulary = model.vocabulary as usize;
            let tokens = (0..count).map(|_| random.of(0..vocabulary) as u32);
            let tokens: Vec<u32> = tokens.collect();
            let first = random.of(0..count + 1);
            let wanted = first..random.of(first..count + 1);
            fed.push((index, tokens, wanted));
        }
        let segments: Vec<Segment<'_>> = fed
            .iter()
            .map(|(index, tokens, wanted)| Segment {
                tokens,
                start: sequences[*index].1,
                blocks: &sequences[*index].0,
                wanted: wanted.clone(),
            })
            .collect();
        if segments.is_empty() {
            break;
        }
        let expected = on_cpu.forward(&segments);
        let told = |what: &str| format!("{what} in pass {pass} of {model:?}");
        let found = Forward::forward(&mut on_gpu, &segments)
            .unwrap_or_else(|failure| panic!("{}", told(&failure.message)));
        assert_eq!(found.len(), expected.len(), "{}", told("other rows"));
        let error = mean_error(&found, &expected);
        let limit = match model.profile {
            Profile::P32 => LIMIT_NMSE,
            Profile::P16 => LIMIT_NMSE_P16,
        };
        assert!(
            error <= limit,
            "{}",
            told(&format!("an error of {error:e}"))
        );
        // The same once more, by the blocks with the largest.
        let count = random.among(&[1, 3]);
        let of_blocks = on_gpu.forward_best(&segments, count).unwrap();
        let rows = found.chunks_exact(model.vocabulary as usize);
        let of_rows: Vec<_> = rows.map(|row| best(row, count)).collect();
        assert_eq!(of_blocks, of_rows, "{}", told("another choice"));
        let counts: Vec<_> = fed
            .iter()
            .map(|(index, tokens, _)| (*index, tokens.len()))
            .collect();
        for (index, count) in counts {
            sequences[index].1 += count;
        }
    }
    passes
}

/// Sizes that are in the file, and that no kernel was written for.
#[test]
fn hostile_sizes_are_refused_by_the_name_of_a_kernel_or_of_the_size() {
    let Some(opened) = checked_software_vulkan() else {
        return;
    };
    let usual = Model {
        architecture: "llama",
        profile: Profile::P32,
        tiled: false,
        layers: 1,
        embedding: 32,
        feed_forward: 64,
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        rope_dim: 8,
        vocabulary: 40,
        context: 64,
        window: 8,
        tied: true,
        seed: 7,
    };
    let all_f32 = |model: &Model| Arc::new(Gguf::from_bytes(model.file(), "hostile.gguf").unwrap());
    let cases = [
        (
            "rope_and_store",
            Model {
                head_dim: 6,
                rope_dim: 6,
                ..usual.clone()
            },
        ),
        (
            "rope_and_store",
            Model {
                head_dim: 1,
                rope_dim: 2,
                ..usual.clone()
            },
        ),
        (
            "rope_and_store",
            Model {
                head_dim: 12,
                rope_dim: 6,
                profile: Profile::P16,
                ..usual.clone()
            },
        ),
        (
            "grouped_attention",
            Model {
                heads: 65,
                kv_heads: 1,
                ..usual.clone()
            },
        ),
        (
            "grouped_attention",
            Model {
                heads: 1,
                kv_heads: 1,
                head_dim: 1028,
                ..usual.clone()
            },
        ),
        (
            "grouped_attention",
            Model {
                heads: 3,
                kv_heads: 2,
                ..usual.clone()
            },
        ),
    ];
    for (kernel, model) in cases {
        let gguf = all_f32(&model);
        let message = match Config::from_gguf(&gguf) {
            // What makes no sense on any device is refused for all of them.
            Err(error) => error.to_string(),
            Ok(config) => {
                let failure = load(&gguf, config, &model, &opened).err();
                let failure = failure.unwrap_or_else(|| panic!("{model:?} was loaded"));
                assert_eq!(failure.code, FailureCode::BadModel);
                assert!(failure.message.contains(kernel), "{failure}");
                failure.message
            }
        };
        assert!(message.contains("`hostile.gguf`"), "{message}");
    }
    // Where the whole context cannot be, as much of it is loaded as can.
    let far = Model {
        context: u32::MAX,
        ..usual
    };
    let gguf = all_f32(&far);
    let config = Config::from_gguf(&gguf).unwrap();
    let model = load(&gguf, config, &far, &opened).unwrap();
    assert_eq!(model.context(), BLOCKS * BLOCK_TOKENS);
}

/// Else the other tests show nothing: one of the kernels, told of a buffer that is longer than its
/// own.
#[test]
fn a_checked_kernel_does_not_write_behind_its_buffer() {
    let Some(opened) = checked_software_vulkan() else {
        return;
    };
    let client = Device::Wgpu(opened.gpu.unwrap()).client();
    let handle = client.create(cubecl::bytes::Bytes::from_elems(vec![7_u32; 256]));
    // The first 64 bytes, of which the kernel is told that they are 1024.
    let first = handle.clone().offset_end(1024 - 64);
    // SAFETY: there are as many.
    let buffer = unsafe { BufferArg::from_raw_parts(first, 4) };
    clear::launch(
        &client,
        CubeCount::Static(1, 1, 1),
        CubeDim::new_1d(UNITS),
        buffer,
        64,
        UNITS,
    );
    let found = client.read_one(handle).unwrap();
    let found = u32::from_bytes(&found);
    assert_eq!(found[..16], [0; 16]);
    assert_eq!(found[16..], [7; 240], "written behind the end");
}

fn load(gguf: &Arc<Gguf>, config: Config, model: &Model, opened: &Opened) -> Result<Gpu, Failure> {
    let options = Options {
        blocks: BLOCKS,
        profile: model.profile,
        tuning: model.tuning(),
    };
    let context = model.context as usize;
    Gpu::load(
        Arc::clone(gguf),
        config,
        context,
        opened,
        &options,
        &mut |_| {},
    )
}

fn mean_error(found: &[f32], expected: &[f32]) -> f64 {
    let pairs = found.iter().zip(expected);
    let error: f64 = pairs
        .map(|(one, two)| (f64::from(*one) - f64::from(*two)).powi(2))
        .sum();
    let all: f64 = expected.iter().map(|value| f64::from(*value).powi(2)).sum();
    if all == 0.0 { error } else { error / all }
}

/// Kernels are checked in the whole process.
fn checked_software_vulkan() -> Option<Opened> {
    check_indices();
    match device::open(&DeviceChoice::Named("llvmpipe".to_owned())) {
        Ok(opened) => Some(opened),
        Err(failure) => {
            eprintln!("skipped: {failure}");
            None
        }
    }
}
