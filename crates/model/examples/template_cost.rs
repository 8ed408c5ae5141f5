//! Measures what a prompt costs a request: `template_cost [FILE]`, a GGUF file with a chat template.
//!
//! Prints medians of 500 for a short and a long conversation, in this process and in a warm child.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use infera_model::rendering::{self, Limits, Renderer};
use infera_model::{ChatMessage, ChatTemplate, Gguf};

#[global_allocator]
static MEMORY: rendering::LimitedMemory = rendering::LimitedMemory;

const ROUNDS: usize = 500;

fn main() -> ExitCode {
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some(rendering::SUBCOMMAND) {
        return rendering::child::run(std::io::stdin(), std::io::stdout());
    }
    match measure(argument.map(PathBuf::from)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(file: Option<PathBuf>) -> Result<(), Box<dyn std::error::Error>> {
    let file = file.unwrap_or_else(|| {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/model/tiny-llama.gguf")
    });
    let template = ChatTemplate::from_gguf(&Gguf::open(&file)?)?;
    let conversation = |turns: usize, bytes: usize| -> Vec<ChatMessage> {
        (0..turns)
            .map(|turn| {
                ChatMessage::new(["user", "assistant"][turn % 2], "word ".repeat(bytes / 5))
            })
            .collect()
    };
    let conversations = [
        ("1 turn of 100 bytes", conversation(1, 100)),
        ("21 turns of 1 KB", conversation(21, 1000)),
        ("21 turns of 50 KB", conversation(21, 50_000)),
    ];
    let cold = Instant::now();
    let child = Renderer::of_this_program(Limits::default())?;
    let now = SystemTime::now();
    child.render(&template, &conversations[0].1, true, now)?;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "the first in a child, with its start: {:?}",
        cold.elapsed()
    )?;
    for (place, renderer) in [("here", Renderer::here()), ("child", child)] {
        for (name, messages) in &conversations {
            let mut took = (0..ROUNDS)
                .map(|_| {
                    let begun = Instant::now();
                    renderer.render(&template, messages, true, now)?;
                    Ok(begun.elapsed())
                })
                .collect::<Result<Vec<Duration>, rendering::RenderError>>()?;
            took.sort();
            writeln!(
                out,
                "{place}\t{name}\tmedian {:?}\t99th percentile {:?}",
                took[ROUNDS / 2],
                took[ROUNDS * 99 / 100]
            )?;
        }
    }
    Ok(())
}
