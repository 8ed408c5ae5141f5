//! `infera bench`: how fast a model runs on this machine, through the same engine that jobs use.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use infera_engine::message::{Command, DeviceChoice, Event, Finished, Generate};
use infera_model::PROFILE;
use infera_node::state::rate;
use infera_protocol::{JobSeed, Sampling};
use serde::Serialize;
use tokio::time::Instant;

use super::local_engine::LocalEngine;
use super::parse_device;
use super::terminal::{Fault, print};

#[derive(Args)]
pub(super) struct Bench {
    /// The model file (GGUF)
    model: PathBuf,
    /// Where to compute: auto, cpu, or a part of a GPU's name
    #[arg(long, default_value = "auto", value_parser = parse_device)]
    device: DeviceChoice,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const PREFILL_TOKENS: [u32; 2] = [128, 512];
const DECODE_TOKENS: u32 = 32;
const DECODE_BATCHES: [u32; 2] = [1, 4];
/// The prompt's length when decoding is measured.
const DECODE_CONTEXT: u32 = 128;

#[derive(Serialize)]
struct Figures {
    device: String,
    model: String,
    profile: &'static str,
    load_ms: u64,
    /// For a prompt of 128 tokens, through the engine's pipe.
    ttft_ms: f64,
    /// Weights and KV cache on the device.
    memory_bytes: u64,
    /// Not measured by this program.
    read_gb_s: Option<f64>,
    prefill: Vec<Prefill>,
    decode: Vec<Decode>,
}

#[derive(Serialize)]
struct Prefill {
    tokens: u32,
    tok_s: f64,
}

#[derive(Serialize)]
struct Decode {
    batch: u32,
    context: u32,
    tok_s: f64,
}

pub(super) async fn bench(arguments: Bench) -> Result<ExitCode, Fault> {
    let context = PREFILL_TOKENS[1] + 2 * DECODE_TOKENS;
    let engine = LocalEngine::load(
        &arguments.model,
        arguments.device.clone(),
        DECODE_BATCHES[1],
        Some(context),
    )
    .await?;
    let mut measuring = Measuring {
        engine,
        requests: 0,
    };
    let figures = measuring.all().await;
    measuring.engine.end().await;
    let figures = figures?;
    if arguments.json {
        let json = serde_json::to_string(&figures).map_err(|error| {
            Fault::with_advice(
                &format!("the figures cannot be written as JSON: {error}"),
                "they are not shown",
                "leave out `--json`",
            )
        })?;
        print(&json)
    } else {
        print(&describe(&figures))
    }
}

struct Measuring {
    engine: LocalEngine,
    requests: u64,
}

/// What one or more requests that ran together took.
struct Run {
    first_token_ms: f64,
    finished: Vec<Finished>,
    tokens: u32,
    /// From the moment every request had its first token to the last token.
    together_seconds: f64,
    /// Tokens in that time.
    together_tokens: u32,
}

impl Measuring {
    async fn all(&mut self) -> Result<Figures, Fault> {
        let loaded = self.engine.loaded.clone();
        // The first pass compiles kernels and is not measured.
        self.run(1, 16.min(loaded.context_tokens / 2), 2).await?;
        let mut prefill = Vec::new();
        let mut ttft_ms = f64::NAN;
        for tokens in PREFILL_TOKENS {
            if tokens + 1 > loaded.context_tokens {
                continue;
            }
            let run = self.run(1, tokens, 1).await?;
            if tokens == PREFILL_TOKENS[0] {
                ttft_ms = run.first_token_ms;
            }
            let seconds = f64::from(run.finished[0].prefill_ms.max(1)) / 1000.0;
            prefill.push(Prefill {
                tokens,
                tok_s: f64::from(tokens) / seconds,
            });
        }
        let context = DECODE_CONTEXT.min(loaded.context_tokens.saturating_sub(DECODE_TOKENS));
        let mut decode = Vec::new();
        for batch in DECODE_BATCHES {
            let run = self.run(batch, context.max(1), DECODE_TOKENS).await?;
            tracing::debug!(batch, tokens = run.tokens, "decoded");
            if run.together_tokens > 0 {
                decode.push(Decode {
                    batch,
                    context,
                    tok_s: f64::from(run.together_tokens) / run.together_seconds.max(1e-6),
                });
            }
        }
        let memory_bytes = loaded.weight_bytes + self.kv_bytes().await?;
        Ok(Figures {
            device: format!("{} ({})", loaded.device.name, loaded.device.backend),
            model: loaded.name,
            profile: PROFILE,
            load_ms: loaded.load_ms,
            ttft_ms,
            memory_bytes,
            read_gb_s: None,
            prefill,
            decode,
        })
    }

    async fn run(&mut self, batch: u32, prompt_tokens: u32, max_tokens: u32) -> Result<Run, Fault> {
        let vocabulary = self.engine.loaded.vocabulary;
        let start = Instant::now();
        let first_id = self.requests + 1;
        for number in 0..batch {
            self.requests += 1;
            // Different prompts, so that nothing computed for one serves another.
            let prompt = (0..prompt_tokens)
                .map(|position| (position * 31 + number * 7 + self.requests as u32) % vocabulary)
                .collect();
            self.engine.send(Command::Generate(Generate {
                id: self.requests,
                prompt,
                output: Vec::new(),
                sampling: Sampling::GREEDY,
                max_tokens,
                stop: Vec::new(),
                logprobs: None,
                seed: JobSeed::from_bytes([0; 32]),
            }));
        }
        let mut counts: HashMap<u64, u32> = HashMap::new();
        let mut first_token = None;
        let mut together: Option<(Instant, u32)> = None;
        let mut last_token = start;
        let mut finished = Vec::new();
        while (finished.len() as u32) < batch {
            match self.engine.next().await? {
                Event::Tokens { id, tokens } if id >= first_id => {
                    last_token = Instant::now();
                    first_token.get_or_insert(last_token);
                    *counts.entry(id).or_default() += tokens.len() as u32;
                    if together.is_none() && counts.len() as u32 == batch {
                        together = Some((last_token, counts.values().sum()));
                    }
                }
                Event::Finished(done) if done.id >= first_id => finished.push(done),
                _ => {}
            }
        }
        let tokens: u32 = counts.values().sum();
        let (since, before) = together.unwrap_or((last_token, tokens));
        let first_token = first_token.unwrap_or(last_token);
        Ok(Run {
            first_token_ms: first_token.duration_since(start).as_secs_f64() * 1000.0,
            finished,
            tokens,
            together_seconds: last_token.duration_since(since).as_secs_f64(),
            together_tokens: tokens - before,
        })
    }

    async fn kv_bytes(&mut self) -> Result<u64, Fault> {
        self.engine.send(Command::Stats);
        loop {
            if let Event::Stats(stats) = self.engine.next().await? {
                return Ok(stats.kv_bytes);
            }
        }
    }
}

fn describe(figures: &Figures) -> String {
    let mut lines = vec![
        format!(
            "{} on {}, profile {}",
            figures.model, figures.device, figures.profile
        ),
        format!("load     {} ms", figures.load_ms),
        format!("memory   {} MB", figures.memory_bytes / 1_000_000),
        format!("first token after {:.0} ms", figures.ttft_ms),
    ];
    lines.extend(figures.prefill.iter().map(|row| {
        format!(
            "prefill  {} tokens: {} tokens/s",
            row.tokens,
            rate(row.tok_s as f32)
        )
    }));
    lines.extend(figures.decode.iter().map(|row| {
        format!(
            "decode   batch {}, context {}: {} tokens/s",
            row.batch,
            row.context,
            rate(row.tok_s as f32)
        )
    }));
    lines.join("\n")
}
