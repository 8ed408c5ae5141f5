//! Times the fast path: `gpu_decode MODEL [DEVICE [COLUMNS,..]]`.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program for developers"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use infera_engine::device;
use infera_engine::forward::{Forward, Segment};
use infera_engine::gpu::{Gpu, Options};
use infera_engine::message::DeviceChoice;
use infera_model::Config;
use infera_model::gguf::Gguf;
use infera_protocol::Profile;

const PROMPT: usize = 32;
const STEPS: usize = 8;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let name = arguments.get(2).map_or("llvmpipe", String::as_str);
    let begun = Instant::now();
    let gguf = Arc::new(Gguf::open(Path::new(&arguments[1])).unwrap());
    let opened = device::open(&DeviceChoice::Named(name.to_owned())).unwrap();
    let mut options = Options::of(&opened, 128, Profile::P32);
    if let Some(columns) = arguments.get(3) {
        options.tuning.shapes = columns
            .split(',')
            .map(|columns| (columns.parse().unwrap(), 64))
            .collect();
    }
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
    for batch in [1, 2, 4, 8, 16, 32] {
        let tables: Vec<Vec<u32>> = (0..batch)
            .map(|sequence| (0..4).map(|block| (sequence * 4 + block) as u32).collect())
            .collect();
        let mut time = Vec::new();
        for step in 0..STEPS {
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
            model.forward(&segments).unwrap();
            time.push(begun.elapsed());
        }
        let cold = time[0];
        time.sort();
        println!(
            "batch {batch}: {:.2} tok/s (a step {:?} at best, {:?} in the middle, {cold:?} first)",
            batch as f64 / time[0].as_secs_f64(),
            time[0],
            time[STEPS / 2],
        );
    }
}
