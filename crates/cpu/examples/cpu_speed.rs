//! Times the CPU path without the rest of the engine: `cpu_speed MODEL [PROFILE [CONTEXT]]`.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program for developers"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use infera_cpu::{BLOCK_TOKENS, CpuModel, Segment};
use infera_model::Config;
use infera_model::gguf::Gguf;
use infera_protocol::Profile;

const RUNS: usize = 7;
const PROMPTS: [usize; 3] = [32, 128, 512];
const BATCHES: [usize; 6] = [1, 2, 4, 8, 16, 32];
/// Tokens before those that are decoded, where nothing else is said.
const CONTEXT: usize = 128;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().unwrap();
    let profile = arguments
        .next()
        .map_or(Profile::P32, |name| name.parse().unwrap());
    let context = arguments
        .next()
        .map_or(CONTEXT, |tokens| tokens.parse().unwrap());
    let gguf = Arc::new(Gguf::open(Path::new(&file)).unwrap());
    let config = Config::from_gguf(&gguf).unwrap();
    let each = context / BLOCK_TOKENS + 1;
    let blocks: Vec<u32> = (0..(BATCHES[BATCHES.len() - 1] * each) as u32).collect();
    let mut model =
        CpuModel::load(gguf, config, profile, usize::MAX, blocks.len(), &mut |_| {}).unwrap();
    println!("{}", model.instruction_set());
    let tokens: Vec<u32> = (0..512).map(|token| token * 37 % 1000 + 5).collect();
    for count in PROMPTS {
        let prompt = Segment {
            tokens: &tokens[..count],
            start: 0,
            blocks: &blocks,
            wanted: count - 1..count,
        };
        time(&mut model, &format!("prompt of {count}"), count, &[prompt]);
    }
    for batch in BATCHES {
        let segments: Vec<_> = blocks
            .chunks(each)
            .take(batch)
            .map(|blocks| Segment {
                tokens: &tokens[..1],
                start: context,
                blocks,
                wanted: 0..1,
            })
            .collect();
        time(
            &mut model,
            &format!("decode, batch {batch}"),
            batch,
            &segments,
        );
    }
}

fn time(model: &mut CpuModel, what: &str, tokens: usize, segments: &[Segment<'_>]) {
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let begun = Instant::now();
            model.forward(segments);
            begun.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let speed = |seconds: f64| tokens as f64 / seconds;
    println!(
        "{what}: {:.0} tokens/s at best, {:.0} in the middle",
        speed(times[0]),
        speed(times[RUNS / 2])
    );
}
