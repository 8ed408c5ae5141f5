//! `infera bench`: how fast a model runs on this machine, through the same engine that jobs use.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use infera_engine::confinement::{self, Bound};
use infera_engine::gpu::selftest::{self, Check};
use infera_engine::message::{Command, DeviceChoice, Event, Generate};
use infera_node::state::rate;
use infera_protocol::{JobSeed, Profile, Sampling, Task, Writing};
use serde::Serialize;
use tokio::time::Instant;

use super::local_engine::LocalEngine;
use super::parse_device;
use super::terminal::{Fault, print, print_json};

#[derive(Args)]
pub(super) struct Bench {
    /// The model file (GGUF)
    #[arg(required_unless_present = "selftest")]
    model: Option<PathBuf>,
    /// Compute every GPU kernel on the device and compare it with f64, instead of measuring
    #[arg(long, conflicts_with = "model")]
    selftest: bool,
    /// How to compute: P32, or P16 with the KV cache in half the memory
    #[arg(long, default_value_t)]
    profile: Profile,
    /// Where to compute: auto, cpu, or a part of a GPU's name
    #[arg(long, default_value = "auto", value_parser = parse_device)]
    device: DeviceChoice,
    /// Leave out what would take longer than so many seconds, going by what was measured before
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    longest: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const PREFILL_TOKENS: [u32; 3] = [128, 512, 2048];
const DECODE_BATCHES: [u32; 6] = [1, 2, 4, 8, 16, 32];
/// The prompts' lengths when decoding is measured.
const DECODE_CONTEXTS: [u32; 2] = [128, 2048];
const DECODE_TOKENS: u32 = 32;
const FIRST_PROMPT_TOKENS: u32 = 32;

/// A figure is the median of so many runs.
const RUNS: usize = 3;
/// No further run once a figure has taken so long.
const FIGURE_SECONDS: f64 = 3.0;
/// Tokens of the prompts that a batch is warmed up with, and of the outputs, which are long enough
/// for all to decode at once: kernels for so many rows may have to be compiled.
const WARM_UP: [u32; 2] = [8, 16];

#[derive(Serialize)]
struct Figures {
    device: String,
    model: String,
    profile: Profile,
    load_ms: u64,
    /// The first request after the load waits so long, kernels' compilation included: 32 tokens of
    /// prompt.
    ttft_ms: f64,
    #[serde(skip)]
    weight_bytes: u64,
    /// Weights and KV cache on the device.
    memory_bytes: u64,
    /// What the device reads of its own memory in a second.
    read_gb_s: f64,
    prefill: Vec<Prefill>,
    decode: Vec<Decode>,
    /// What the engine has given up.
    bounds: Vec<Bound>,
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
    let Some(model) = &arguments.model else {
        return selftest(arguments.device, arguments.json).await;
    };
    let context = DECODE_CONTEXTS[1] + 2 * DECODE_TOKENS;
    let engine = LocalEngine::load(
        model,
        arguments.profile,
        arguments.device.clone(),
        DECODE_BATCHES[DECODE_BATCHES.len() - 1],
        Some(context),
    )
    .await?;
    let mut measuring = Measuring {
        engine,
        requests: 0,
        most_kv_bytes: 0,
        longest_seconds: f64::from(arguments.longest),
    };
    let figures = measuring.all(arguments.device).await;
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
        print_json(&json)
    } else {
        print(&describe(&figures))
    }
}

/// Whether this machine's driver computes what it should.
async fn selftest(device: DeviceChoice, json: bool) -> Result<ExitCode, Fault> {
    let means = "the kernels were not tested";
    let checking = tokio::task::spawn_blocking(move || {
        let opened = infera_engine::device::open(&device)?;
        selftest::on_device(&opened, &mut |check| {
            if !json {
                _ = print(&describe_check(check));
            }
        })
    });
    let checks = match checking.await {
        Ok(Ok(checks)) => checks,
        Ok(Err(failure)) => {
            let advice = "name a GPU with `--device`; `infera check` lists them";
            return Err(Fault::with_advice(&failure.message, means, advice));
        }
        Err(_) => {
            let advice = "bring the GPU's driver up to date";
            return Err(Fault::with_advice("the GPU's driver failed", means, advice));
        }
    };
    let failed = checks.iter().filter(|check| !check.pass).count();
    if json {
        let text = serde_json::to_string(&checks).unwrap_or_default();
        print_json(&text)?;
    } else {
        print(&format!(
            "{} kernels checked, {failed} failed",
            checks.len()
        ))?;
    }
    Ok(ExitCode::from(u8::from(failed > 0)))
}

fn describe_check(check: &Check) -> String {
    let mark = if check.pass { "pass" } else { "FAIL" };
    format!(
        "{mark}  {} {}: normalised mean square error {:.1e}, at most {:.0e}",
        check.kernel, check.shape, check.nmse, check.limit
    )
}

struct Measuring {
    engine: LocalEngine,
    requests: u64,
    most_kv_bytes: u64,
    longest_seconds: f64,
}

/// What one or more requests that ran together took.
struct Run {
    first_token_ms: f64,
    /// From the moment every request had its first token to the last token.
    together_seconds: f64,
    /// Tokens in that time.
    together_tokens: u32,
}

impl Measuring {
    async fn all(&mut self, device: DeviceChoice) -> Result<Figures, Fault> {
        let loaded = self.engine.loaded.clone();
        let first_prompt = FIRST_PROMPT_TOKENS.min(loaded.context_tokens / 2);
        let first = self.run(1, first_prompt, 2).await?;
        let mut seconds_per_row = first.first_token_ms / 1000.0 / f64::from(first_prompt);
        let mut prefill = Vec::new();
        for tokens in PREFILL_TOKENS {
            let expected = f64::from(tokens) * seconds_per_row;
            if tokens + 1 > loaded.context_tokens || expected > self.longest_seconds {
                continue;
            }
            let tok_s = self
                .median(1, tokens, 1, |run| {
                    Some(f64::from(tokens) / (run.first_token_ms / 1000.0))
                })
                .await?;
            if let Some(tok_s) = tok_s {
                seconds_per_row = 1.0 / tok_s;
                prefill.push(Prefill { tokens, tok_s });
            }
        }
        let mut decode: Vec<Decode> = Vec::new();
        for context in DECODE_CONTEXTS {
            for batch in DECODE_BATCHES {
                // A decode step costs about what a few rows of a prompt do.
                let guess = 1.0 / (8.0 * seconds_per_row);
                let before = decode.last().map_or(guess, |decode| decode.tok_s);
                let expected = f64::from(batch * context) * seconds_per_row
                    + f64::from(batch * DECODE_TOKENS) / before;
                if context + DECODE_TOKENS > loaded.context_tokens
                    || expected > self.longest_seconds
                {
                    continue;
                }
                self.run(batch, WARM_UP[0], WARM_UP[1]).await?;
                let tok_s = self
                    .median(batch, context, DECODE_TOKENS, |run| {
                        (run.together_tokens > 0)
                            .then(|| f64::from(run.together_tokens) / run.together_seconds)
                    })
                    .await?;
                if let Some(tok_s) = tok_s {
                    decode.push(Decode {
                        batch,
                        context,
                        tok_s,
                    });
                }
            }
        }
        let memory_bytes = loaded.weight_bytes + self.most_kv_bytes;
        self.engine.send(Command::ReadBandwidth { device });
        let read_gb_s = loop {
            if let Event::ReadBandwidth { bytes_per_second } = self.engine.next().await? {
                break bytes_per_second / 1e9;
            }
        };
        Ok(Figures {
            device: format!("{} ({})", loaded.device.name, loaded.device.backend),
            model: loaded.name,
            profile: loaded.profile,
            load_ms: loaded.load_ms,
            ttft_ms: first.first_token_ms,
            weight_bytes: loaded.weight_bytes,
            memory_bytes,
            read_gb_s,
            prefill,
            decode,
            bounds: loaded.bounds,
        })
    }

    /// The median of a figure over some runs; none where the runs ended too early to tell.
    async fn median(
        &mut self,
        batch: u32,
        prompt_tokens: u32,
        max_tokens: u32,
        figure: impl Fn(&Run) -> Option<f64>,
    ) -> Result<Option<f64>, Fault> {
        let begun = Instant::now();
        let mut figures = Vec::new();
        while figures.len() < RUNS
            && (figures.is_empty() || begun.elapsed().as_secs_f64() < FIGURE_SECONDS)
        {
            match figure(&self.run(batch, prompt_tokens, max_tokens).await?) {
                Some(figure) => figures.push(figure),
                None => return Ok(None),
            }
        }
        figures.sort_by(f64::total_cmp);
        Ok(Some(figures[figures.len() / 2]))
    }

    async fn run(&mut self, batch: u32, prompt_tokens: u32, max_tokens: u32) -> Result<Run, Fault> {
        let vocabulary = self.engine.loaded.vocabulary;
        let writing = Writing::new(Sampling::GREEDY, max_tokens, JobSeed::from_bytes([0; 32]));
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
                task: Task::write(self.engine.loaded.model, prompt, writing.clone()),
                output: Vec::new(),
            }));
        }
        let mut counts: HashMap<u64, u32> = HashMap::new();
        let mut first_token = None;
        let mut together: Option<(Instant, u32)> = None;
        let mut last_token = start;
        let mut finished = 0;
        while finished < batch {
            match self.engine.next().await? {
                Event::Tokens { id, tokens } if id >= first_id => {
                    last_token = Instant::now();
                    first_token.get_or_insert(last_token);
                    *counts.entry(id).or_default() += tokens.len() as u32;
                    if together.is_none() && counts.len() as u32 == batch {
                        together = Some((last_token, counts.values().sum()));
                        self.engine.send(Command::Stats);
                    }
                }
                Event::Finished(done) if done.id >= first_id => finished += 1,
                Event::Stats(stats) => {
                    self.most_kv_bytes = self.most_kv_bytes.max(stats.kv_bytes);
                }
                _ => {}
            }
        }
        let tokens: u32 = counts.values().sum();
        let (since, before) = together.unwrap_or((last_token, tokens));
        let first_token = first_token.unwrap_or(last_token);
        Ok(Run {
            first_token_ms: first_token.duration_since(start).as_secs_f64() * 1000.0,
            together_seconds: last_token.duration_since(since).as_secs_f64(),
            together_tokens: tokens - before,
        })
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
        format!("bounds   {}", confinement::describe(&figures.bounds)),
        format!("reads    {:.1} GB of it in a second", figures.read_gb_s),
        format!(
            "first token of the first request after {:.0} ms",
            figures.ttft_ms
        ),
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
            "decode   batch {}, context {}: {} tokens/s{}",
            row.batch,
            row.context,
            rate(row.tok_s as f32),
            bandwidth_share(figures, row)
        )
    }));
    lines.join("\n")
}

/// A step of one sequence reads every weight once; with more, other things bound it.
fn bandwidth_share(figures: &Figures, row: &Decode) -> String {
    if row.batch > 1 {
        return String::new();
    }
    let share = figures.weight_bytes as f64 * row.tok_s / (figures.read_gb_s * 1e9);
    format!(", {:.0} % of what the memory's speed allows", share * 100.0)
}
