//! How honest backends and cheats fare under the verdict's rule: on one machine, without a network.
//!
//! Workers decode, references score what they wrote in one prefill, and the rule judges, all with
//! the product's own code and without a network.
//!
//! Usage: `verification_matrix MODEL.gguf JOBS [PROFILE]`
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it prints what it measured"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use infera_engine::decoder::Decoder;
use infera_engine::device;
use infera_engine::forward::Forward;
use infera_engine::message::{DeviceChoice, Event, Generate, Load, Score, Scored};
use infera_engine::scheduler::{Endings, Scheduler};
use infera_model::gguf::Gguf;
use infera_model::gguf::write::GgufBuilder;
use infera_model::{Config, Tokenizer};
use infera_protocol::{
    AuditId, AuditReport, FinishReason, ModelId, Profile, Sampling, Task, Writing, job_seed,
};
use infera_verify::{Status, Structure, Thresholds, token_statistics, verdict};

const MAX_TOKENS: u32 = 64;
const SEQUENCES: u32 = 8;
const MODEL: ModelId = ModelId::from_bytes([0; 32]);
const SAMPLING: Sampling = Sampling {
    temperature: 0.8,
    top_k: 64,
    top_p: 1.0,
    min_p: 0.0,
};

/// A job's output as a worker claims it.
#[derive(Clone)]
struct Claim {
    output: Vec<u32>,
    reason: FinishReason,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let (path, jobs, profile) = match &arguments[..] {
        [_, path, jobs] => (path, jobs, "P32"),
        [_, path, jobs, profile] => (path, jobs, profile.as_str()),
        _ => {
            eprintln!("Usage: verification_matrix MODEL.gguf JOBS [PROFILE]");
            return ExitCode::from(2);
        }
    };
    match run(Path::new(path), jobs, profile) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(path: &Path, jobs: &str, profile: &str) -> Result<(), Box<dyn std::error::Error>> {
    let profile: Profile = profile.parse()?;
    let limits = &Thresholds::of(profile);
    let gguf = Arc::new(Gguf::open(path)?);
    let tokenizer = Arc::new(Tokenizer::from_gguf(&gguf)?);
    let jobs: Vec<Task> = (0..jobs.parse()?)
        .map(|index| job(index, &tokenizer))
        .collect();
    let mut backends = vec![(
        "CPU",
        scheduler(&gguf, &DeviceChoice::Cpu, profile, &tokenizer)?,
    )];
    let software_vulkan = DeviceChoice::Named("llvmpipe".to_owned());
    match scheduler(&gguf, &software_vulkan, profile, &tokenizer) {
        Ok(vulkan) => backends.push(("software Vulkan (wgpu)", vulkan)),
        Err(error) => eprintln!("without software Vulkan: {error}"),
    }
    let mut quantised = scheduler(
        &Arc::new(in_q4_0(&gguf)?),
        &DeviceChoice::Cpu,
        profile,
        &tokenizer,
    )?;

    println!(
        "| worker | reference | jobs | tokens | other token chosen | largest margin (units) | verified | failed | undecided |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut honest = Vec::new();
    for worker in 0..backends.len() {
        let claims = write(&mut backends[worker].1, &jobs, SAMPLING);
        for reference in 0..backends.len() {
            let label = format!("honest, {}", backends[worker].0);
            let name = backends[reference].0;
            let row = judge(
                &mut backends[reference].1,
                limits,
                &tokenizer,
                &jobs,
                &claims,
            );
            println!("| {label} | {name} | {row} |");
        }
        if worker == 0 {
            honest = claims;
        }
    }
    let (reference_name, reference) = &mut backends[0];
    let other_seed: Vec<Task> = (0..jobs.len())
        .map(|index| Task {
            input: jobs[index].input.clone(),
            ..job(index + 1_000_000, &tokenizer)
        })
        .collect();
    let other = Profile::ALL.into_iter().find(|other| *other != profile);
    let mut in_other = scheduler(
        &gguf,
        &DeviceChoice::Cpu,
        other.unwrap_or(profile),
        &tokenizer,
    )?;
    let mut cheats = vec![
        ("the other profile", write(&mut in_other, &jobs, SAMPLING)),
        (
            "weights in 4 bits (Q4_0)",
            write(&mut quantised, &jobs, SAMPLING),
        ),
        ("another seed", write(reference, &other_seed, SAMPLING)),
        (
            "temperature 1.0 for 0.8",
            write(
                reference,
                &jobs,
                Sampling {
                    temperature: 1.0,
                    ..SAMPLING
                },
            ),
        ),
        (
            "always the most likely token",
            write(reference, &jobs, Sampling::GREEDY),
        ),
        (
            "cut in half, with an end token",
            honest.iter().map(|claim| cut(claim, &tokenizer)).collect(),
        ),
    ];
    let mut swapped = honest;
    swapped.rotate_left(1);
    cheats.push(("another job's answer", swapped));
    for (label, claims) in cheats {
        let row = judge(reference, limits, &tokenizer, &jobs, &claims);
        println!("| {label} | {reference_name} | {row} |");
    }
    Ok(())
}

fn job(index: usize, tokenizer: &Tokenizer) -> Task {
    let animals = [
        "whale", "fox", "bear", "cat", "bird", "mouse", "dog", "frog", "owl", "horse",
    ];
    let kinds = [
        "a story",
        "a long story",
        "a short story",
        "something",
        "a tale",
    ];
    let kind = kinds[index / animals.len() % kinds.len()];
    let animal = animals[index % animals.len()];
    let text = format!(
        "<|im_start|>user\nTell me {kind} about a {animal}.<|im_end|>\n<|im_start|>assistant\n"
    );
    let prompt = tokenizer.encode(&text, true);
    let mut entropy = [0; 32];
    entropy[..8].copy_from_slice(&(index as u64).to_le_bytes());
    let seed = job_seed(&entropy, &MODEL, &prompt, SAMPLING, 0);
    Task::write(MODEL, prompt, Writing::new(SAMPLING, MAX_TOKENS, seed))
}

fn scheduler(
    gguf: &Arc<Gguf>,
    choice: &DeviceChoice,
    profile: Profile,
    tokenizer: &Arc<Tokenizer>,
) -> Result<Scheduler<Box<dyn Forward>>, Box<dyn std::error::Error>> {
    let opened = device::open(choice)?;
    let load = Load {
        sequences: SEQUENCES,
        profile,
        ..Load::new(PathBuf::new(), choice.clone())
    };
    let config = Config::from_gguf(gguf)?;
    let decoder = Decoder::load(gguf, &config, &opened, &load, &mut |_| {})?;
    let endings = Endings {
        tokens: tokenizer.end_ids(),
        watch: Box::new(|_, _| Box::new(|_| false)),
    };
    Ok(Scheduler::new(
        decoder.forward,
        endings,
        SEQUENCES as usize,
        Instant::now,
    ))
}

/// The same model with its matrices rounded to `Q4_0` and back: what a node would run that saves
/// memory at the network's expense.
fn in_q4_0(gguf: &Gguf) -> Result<Gguf, Box<dyn std::error::Error>> {
    let config = Config::from_gguf(gguf)?;
    let name = config.architecture.name();
    let key = |suffix: &str| format!("{name}.{suffix}");
    let mut file = GgufBuilder::new()
        .str("general.architecture", name)
        .u32(&key("block_count"), config.layers)
        .u32(&key("embedding_length"), config.embedding)
        .u32(&key("feed_forward_length"), config.feed_forward)
        .u32(&key("attention.head_count"), config.heads)
        .u32(&key("attention.head_count_kv"), config.kv_heads)
        .u32(&key("attention.key_length"), config.head_dim)
        .u32(&key("rope.dimension_count"), config.rope_dim)
        .f32(&key("rope.freq_base"), config.rope.base)
        .f32(&key("attention.layer_norm_rms_epsilon"), config.rms_epsilon)
        .u32(&key("context_length"), config.context)
        .strings(
            "tokenizer.ggml.tokens",
            &gguf
                .get_strings("tokenizer.ggml.tokens")?
                .unwrap_or_default(),
        );
    for tensor in gguf.views() {
        let mut values = vec![0.0; tensor.info.values() as usize];
        infera_model::quant::dequantize(tensor.info.kind, tensor.bytes, &mut values)?;
        if tensor.info.dims.len() == 2 {
            values.chunks_mut(32).for_each(round_to_q4_0);
        }
        file = file.f32_tensor(&tensor.info.name, &tensor.info.dims, &values);
    }
    Ok(Gguf::from_bytes(file.build(), "tiny model in Q4_0")?)
}

/// Sixteen steps from `-max` on, as in ggml's `Q4_0`.
fn round_to_q4_0(block: &mut [f32]) {
    let extreme = block.iter().copied().fold(0.0_f32, |best, value| {
        if value.abs() > best.abs() {
            value
        } else {
            best
        }
    });
    let step = extreme / -8.0;
    if step != 0.0 {
        for value in block {
            *value = ((*value / step).round().clamp(-8.0, 7.0)) * step;
        }
    }
}

fn write(
    worker: &mut Scheduler<Box<dyn Forward>>,
    jobs: &[Task],
    sampling: Sampling,
) -> Vec<Claim> {
    let mut claims = vec![
        Claim {
            output: Vec::new(),
            reason: FinishReason::Cancelled
        };
        jobs.len()
    ];
    let mut events = Vec::new();
    for (id, job) in jobs.iter().enumerate() {
        let request = Generate {
            id: id as u64,
            task: sampled(job, sampling),
            output: Vec::new(),
        };
        worker.generate(&request, &mut |event| events.push(event));
    }
    while !worker.is_idle() {
        worker.step(&mut |event| events.push(event));
    }
    for event in events {
        match event {
            Event::Tokens { id, tokens } => claims[id as usize]
                .output
                .extend(tokens.iter().map(|token| token.id)),
            Event::Finished(finished) => claims[finished.id as usize].reason = finished.reason,
            _ => {}
        }
    }
    claims
}

fn sampled(job: &Task, sampling: Sampling) -> Task {
    let mut task = job.clone();
    if let Some(writing) = task.writing_mut() {
        writing.sampling = sampling;
    }
    task
}

fn cut(claim: &Claim, tokenizer: &Tokenizer) -> Claim {
    let mut output = claim.output[..claim.output.len() / 2].to_vec();
    output.extend(tokenizer.end_ids().first());
    Claim {
        output,
        reason: FinishReason::EndOfText,
    }
}

/// Two references of the same backend give the same report, so that one scores for both.
fn judge(
    reference: &mut Scheduler<Box<dyn Forward>>,
    limits: &Thresholds,
    tokenizer: &Tokenizer,
    jobs: &[Task],
    claims: &[Claim],
) -> String {
    let scores = score(reference, jobs, claims);
    let vocabulary = reference.model().vocabulary() as u32;
    let (mut tokens, mut mismatches, mut largest) = (0, 0, 0.0_f32);
    let mut statuses = Vec::new();
    for ((claim, job), scored) in claims.iter().zip(jobs).zip(scores) {
        let statistics =
            token_statistics(scored.positions, scored.mismatches.iter().copied(), limits);
        tokens += statistics.positions;
        mismatches += statistics.mismatches;
        largest = largest.max(statistics.largest);
        let report = AuditReport {
            audit: AuditId::from_bytes([0; 16]),
            model: MODEL,
            backend: String::new(),
            positions: scored.positions,
            mismatches: scored.mismatches,
            log_probabilities: scored.log_probabilities,
            vectors: Vec::new(),
            elapsed_ms: scored.elapsed_ms,
        };
        let structure = Structure {
            output: &claim.output,
            writing: job.writing().expect("every job writes"),
            vocabulary,
            room: (reference.model().context() - job.input.len()) as u32,
            reason: Some(claim.reason),
            is_end: &|token| tokenizer.is_end(token),
            stop_at: None,
        };
        let judged = verdict(
            0..claim.output.len() as u32,
            &structure,
            &[&report, &report],
            limits,
            false,
        );
        statuses.push(judged.status);
    }
    let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    let share = 100.0 * f64::from(mismatches) / f64::from(tokens.max(1));
    format!(
        "{} | {tokens} | {share:.2} % | {largest:.3} | {} | {} | {}",
        jobs.len(),
        count(Status::Verified),
        count(Status::Failed),
        count(Status::Undecided)
    )
}

fn score(
    reference: &mut Scheduler<Box<dyn Forward>>,
    jobs: &[Task],
    claims: &[Claim],
) -> Vec<Scored> {
    let mut events = Vec::new();
    for (id, (job, claim)) in jobs.iter().zip(claims).enumerate() {
        let request = Score {
            id: id as u64,
            task: job.clone(),
            output: claim.output.clone(),
        };
        reference.score(request, &mut |event| events.push(event));
    }
    while !reference.is_idle() {
        reference.step(&mut |event| events.push(event));
    }
    let mut scores: Vec<Scored> = events
        .into_iter()
        .filter_map(|event| match event {
            Event::Scored(scored) => Some(scored),
            _ => None,
        })
        .collect();
    scores.sort_by_key(|scored| scored.id);
    scores
}
