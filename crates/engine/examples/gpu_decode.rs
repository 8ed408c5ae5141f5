//! Times the fast path on a GPU, with whole rows of logits read back and with their best only:
//! `gpu_decode MODEL [DEVICE [BATCH,.. [launched] [apart]]]`, where `launched` replays no recorded
//! steps, and `apart` rotates before attention, not within it.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program for developers"
)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use infera_engine::device;
use infera_engine::forward::{Forward, Segment};
use infera_engine::gpu::{Gpu, Options};
use infera_engine::message::DeviceChoice;
use infera_model::Config;
use infera_model::gguf::Gguf;
use infera_protocol::{JobSeed, Profile, Sampling};
use infera_verify::{choose, choose_among, needed};
use rayon::prelude::*;

const PROMPT: usize = 32;
const STEPS: usize = 20;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let name = arguments.get(2).map_or("llvmpipe", String::as_str);
    let begun = Instant::now();
    let gguf = Arc::new(Gguf::open(Path::new(&arguments[1])).unwrap());
    let opened = device::open(&DeviceChoice::Named(name.to_owned())).unwrap();
    let mut options = Options::of(&opened, 128, Profile::P32);
    let is_asked = |word: &str| arguments.iter().skip(4).any(|argument| argument == word);
    options.tuning.recorded = !is_asked("launched");
    options.tuning.rope_inside = !is_asked("apart");
    let batches: Vec<usize> = arguments
        .get(3)
        .map_or("1,2,4,8,16,32", String::as_str)
        .split(',')
        .map(|batch| batch.parse().unwrap())
        .collect();
    println!("device open after {:?}", begun.elapsed());
    let config = Config::from_gguf(&gguf).unwrap();
    let mut model = Gpu::load(gguf, config, usize::MAX, &opened, &options, &mut |_| {}).unwrap();
    println!(
        "loaded after {:?}, {} MB of weights",
        begun.elapsed(),
        model.weight_bytes() >> 20
    );
    let tokens: Vec<u32> = (0..PROMPT as u32)
        .map(|token| token * 37 % 1000 + 5)
        .collect();
    let mut first = |rows: usize| {
        let blocks = [0, 1, 2, 3];
        let begun = Instant::now();
        let segment = Segment {
            tokens: &tokens[..rows],
            start: 0,
            blocks: &blocks,
            wanted: rows - 1..rows,
        };
        model.forward(&[segment]).unwrap();
        begun.elapsed()
    };
    println!("cold prefill of {PROMPT}: {:?}", first(PROMPT));
    println!("first token after {:?}", begun.elapsed());
    println!("warm prefill of {PROMPT}: {:?}", first(PROMPT));
    let sampling = Sampling {
        temperature: 0.7,
        ..Sampling::GREEDY
    };
    let seed = JobSeed::from_bytes([1; 32]);
    for batch in batches {
        let tables: Vec<Vec<u32>> = (0..batch)
            .map(|sequence| (0..4).map(|block| (sequence * 4 + block) as u32).collect())
            .collect();
        for whole in [true, false] {
            let mut time = Vec::new();
            for step in 0..=STEPS {
                let begun = Instant::now();
                let token = [7 + step as u32];
                let segments: Vec<_> = tables
                    .iter()
                    .map(|blocks| Segment {
                        tokens: &token,
                        start: PROMPT + step,
                        blocks,
                        wanted: 0..1,
                    })
                    .collect();
                if whole {
                    let logits = model.forward(&segments).unwrap();
                    let rows = logits.par_chunks_exact(model.vocabulary());
                    rows.for_each(|row| _ = black_box(choose(row, &sampling, &seed, 0)));
                } else {
                    let rows = model.forward_best(&segments, needed(&sampling)).unwrap();
                    for row in rows {
                        black_box(choose_among(&row, &sampling, &seed, 0));
                    }
                }
                time.push(begun.elapsed());
            }
            let first = time.remove(0);
            time.sort();
            let median = time[STEPS / 2];
            println!(
                "batch {batch}, {}: {:.2} tok/s (a step {median:?} in the middle, {:?} at best, {first:?} first)",
                if whole { "whole rows" } else { "best only" },
                batch as f64 / median.as_secs_f64(),
                time[0],
            );
        }
    }
}
