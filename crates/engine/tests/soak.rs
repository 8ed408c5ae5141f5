//! A real model for very many steps with jobs coming, going and being cancelled: the same request
//! gives the same text however often and beside whatever it runs, and nothing grows.
#![expect(
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed, and one that measures says what"
)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use infera_engine::decoder::Decoder;
use infera_engine::device;
use infera_engine::forward::{Forward, block_bytes};
use infera_engine::message::{DeviceChoice, Event, Generate, Load};
use infera_engine::scheduler::{Endings, Scheduler};
use infera_model::Config;
use infera_model::gguf::Gguf;
use infera_protocol::{FinishReason, JobSeed, ModelId, Profile, Sampling, Task, Writing};

/// Sequences at once, and requests that are there at once: more, so that some wait.
const SEQUENCES: u32 = 6;
const REQUESTS: usize = 9;
/// Different requests, which come again and again.
const KINDS: u64 = 24;

#[test]
fn ten_thousand_steps_on_the_cpu() {
    for profile in Profile::ALL {
        soak(&DeviceChoice::Cpu, profile, 5_000);
    }
}

#[test]
fn some_hundred_steps_on_software_vulkan() {
    let choice = DeviceChoice::Named("llvmpipe".to_owned());
    if let Err(failure) = device::open(&choice) {
        eprintln!("skipped: {failure}");
        return;
    }
    soak(&choice, Profile::P16, 300);
}

#[test]
#[ignore = "takes minutes"]
fn a_hundred_thousand_steps_on_the_cpu() {
    soak(&DeviceChoice::Cpu, Profile::P32, 100_000);
}

/// Deterministic, so that a failure comes again.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % most
    }
}

/// Request `id` is of kind `id % KINDS`: prompts share beginnings, some are greedy.
fn request(id: u64) -> Generate {
    let kind = id % KINDS;
    let length = 3 + kind * 17 % 90;
    let sampling = Sampling {
        temperature: if kind.is_multiple_of(3) { 0.0 } else { 0.9 },
        top_k: 40,
        top_p: 1.0,
        min_p: 0.0,
    };
    let max_tokens = 2 + (kind * 13 % 60) as u32;
    let writing = Writing::new(sampling, max_tokens, JobSeed::from_bytes([kind as u8; 32]));
    let prompt = (0..length).map(|at| ((at * 7 + at / 40 * kind * 31) % 600 + 3) as u32);
    Generate {
        id,
        task: Task::write(ModelId::from_bytes([0; 32]), prompt.collect(), writing),
        output: Vec::new(),
    }
}

fn soak(choice: &DeviceChoice, profile: Profile, steps: usize) {
    let mut scheduler = scheduler(choice, profile);
    let mut random = Random(7);
    let mut next = 0;
    let mut open: HashMap<u64, Vec<u32>> = HashMap::new();
    let mut texts: HashMap<u64, (Vec<u32>, FinishReason)> = HashMap::new();
    let (mut finished, mut cancelled) = (0_u64, 0_u64);
    let mut resident = None;
    let mut events = Vec::new();
    for step in 0..steps {
        while open.len() < REQUESTS {
            let skipped = random.below(KINDS);
            next += 1 + skipped;
            open.insert(next, Vec::new());
            scheduler.generate(&request(next), &mut |event| events.push(event));
        }
        if random.below(20) == 0
            && let Some(id) = open.keys().min()
        {
            scheduler.cancel(*id);
        }
        scheduler.step(&mut |event| events.push(event));
        for event in events.drain(..) {
            match event {
                Event::Tokens { id, tokens } => {
                    let text = open.get_mut(&id).unwrap();
                    text.extend(tokens.iter().map(|token| token.id));
                }
                Event::Finished(end) => {
                    let text = open.remove(&end.id).unwrap();
                    if end.reason == FinishReason::Cancelled {
                        cancelled += 1;
                        continue;
                    }
                    finished += 1;
                    let known = texts
                        .entry(end.id % KINDS)
                        .or_insert_with(|| (text.clone(), end.reason));
                    assert_eq!(
                        *known,
                        (text, end.reason),
                        "request {} in step {step}",
                        end.id
                    );
                }
                other => panic!("{other:?}"),
            }
        }
        // By then every buffer has its size.
        if step == steps / 4 {
            resident = resident_bytes();
        }
    }
    let grown = resident_bytes()
        .zip(resident)
        .map(|(now, then)| now.saturating_sub(then));
    for id in open.keys() {
        scheduler.cancel(*id);
    }
    scheduler.step(&mut |_| {});
    assert!(scheduler.is_idle());
    assert_eq!(scheduler.stats().kv_bytes, 0, "blocks are lost");
    eprintln!(
        "{steps} steps in {profile}: {finished} finished, {cancelled} cancelled, {} texts, {} tokens, grown by {grown:?} bytes",
        texts.len(),
        scheduler.stats().output_tokens,
    );
    assert!(finished > steps as u64 / 50 && cancelled > steps as u64 / 100);
    assert!(texts.len() as u64 > KINDS * 3 / 4, "{}", texts.len());
    assert!(grown.unwrap_or(0) < 8 << 20, "{grown:?}");
}

/// On the CPU with less room than all sequences could fill, so that some give way.
fn scheduler(choice: &DeviceChoice, profile: Profile) -> Scheduler<Box<dyn Forward>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/model/tiny-llama.gguf");
    let gguf = Arc::new(Gguf::open(&path).unwrap());
    let opened = device::open(choice).unwrap();
    let config = Config::from_gguf(&gguf).unwrap();
    let weights: u64 = gguf.tensors().iter().map(|tensor| tensor.bytes).sum();
    let block = block_bytes(&config, profile);
    let load = Load {
        profile,
        memory_bytes: opened
            .gpu
            .is_none()
            .then_some(weights + weights / 32 + 14 * block),
        context_tokens: Some(160),
        sequences: SEQUENCES,
        ..Load::new(PathBuf::new(), choice.clone())
    };
    let decoder = Decoder::load(&gguf, &config, &opened, &load, &mut |_| {}).unwrap();
    let endings = Endings {
        tokens: vec![2],
        watch: Box::new(|_, _| Box::new(|_| false)),
    };
    Scheduler::new(decoder.forward, endings, SEQUENCES as usize, Instant::now)
}

/// This process's, where the system says it.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = status.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}
