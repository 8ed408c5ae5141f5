//! Measures prefill and decode: `speed MODEL.gguf [THREADS [AVX-512|AVX2|scalar]]`.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement by hand"
)]

use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use infera_cpu::{BLOCK_TOKENS, CpuModel, InstructionSet, Segment};
use infera_model::Config;
use infera_model::gguf::Gguf;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().unwrap());
    let started = Instant::now();
    let gguf = Arc::new(Gguf::open(&path).unwrap());
    let config = Config::from_gguf(&gguf).unwrap();
    let mut model = CpuModel::load(gguf, config, usize::MAX, 2048, &mut |_| {}).unwrap();
    if let Some(threads) = arguments.next() {
        model.set_threads(NonZero::new(threads.parse().unwrap()).unwrap());
    }
    if let Some(name) = arguments.next() {
        let mut sets = InstructionSet::available().into_iter();
        model.set_instruction_set(sets.find(|set| set.name() == name).unwrap());
    }
    println!(
        "{} on {}: loaded in {:?}, {} bytes of weights",
        path.display(),
        model.instruction_set(),
        started.elapsed(),
        model.weight_bytes()
    );
    let tokens: Vec<u32> = (0..2048).map(|index| 1000 + (index * 37) % 5000).collect();
    let table =
        |sequence: u32| -> Vec<u32> { (0..64).map(|block| sequence * 64 + block).collect() };
    if std::env::var_os("ONLY").is_some() {
        let blocks = table(0);
        let best = best_of(100, || {
            model.forward(&[Segment {
                tokens: &tokens[32..33],
                start: 32,
                blocks: &blocks,
                wanted: 0..1,
            }]);
        });
        println!("decode: {:.1} tok/s", 1.0 / best);
        return;
    }
    for length in [128, 512] {
        let blocks = table(0);
        let best = best_of(3, || {
            model.forward(&[Segment {
                tokens: &tokens[..length],
                start: 0,
                blocks: &blocks,
                wanted: length - 1..length,
            }]);
        });
        println!("prefill {length}: {:.1} tok/s", length as f64 / best);
    }
    for (batch, context) in [
        (1, 32),
        (1, 1024),
        (2, 32),
        (4, 32),
        (8, 32),
        (16, 32),
        (32, 32),
    ] {
        let tables: Vec<_> = (0..batch).map(table).collect();
        let mut position = context;
        let best = best_of(16, || {
            let segments: Vec<_> = tables
                .iter()
                .map(|blocks| Segment {
                    tokens: &tokens[position..=position],
                    start: position,
                    blocks: &blocks[..=position / BLOCK_TOKENS],
                    wanted: 0..1,
                })
                .collect();
            model.forward(&segments);
            position += 1;
        });
        println!(
            "decode batch {batch}, context {context}: {:.1} tok/s",
            f64::from(batch) / best
        );
    }
}

/// Seconds of the fastest of `runs`.
fn best_of(runs: u32, mut run: impl FnMut()) -> f64 {
    if std::env::var_os("WALL").is_none() {
        run();
        let started = cpu();
        (0..runs).for_each(|_| run());
        return (cpu() - started) / f64::from(runs);
    }
    let times = (0..runs).map(|_| {
        let started = cpu();
        run();
        cpu() - started
    });
    times.fold(f64::INFINITY, f64::min)
}

fn cpu() -> f64 {
    if std::env::var_os("WALL").is_some() {
        return std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs_f64();
    }
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() * 1e-9
}
