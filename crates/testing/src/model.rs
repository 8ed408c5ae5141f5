//! The model that simulated nodes run: a letter for each position, drawn by the job's seed.

use std::path::Path;
use std::sync::OnceLock;

use infera_model::{Gguf, Head};
use infera_protocol::digest::Digest;
use infera_protocol::{
    AuditReport, AuditSpec, JobSeed, JobSpec, LogProbabilities, Mismatch, ModelId, Profile, Task,
    Vector, Work as TaskWork, Writing,
};

/// The simulated model's answers have so many tokens, the end token included.
pub const ANSWER_TOKENS: u32 = 71;

/// The repository's own tiny model.
pub fn head() -> &'static Head {
    static HEAD: OnceLock<Head> = OnceLock::new();
    HEAD.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/model/tiny-llama.gguf");
        Head::from_gguf(&Gguf::open(&path).unwrap()).unwrap()
    })
}

pub fn model_id() -> ModelId {
    head().id(Profile::P32)
}

/// A tiny BERT. Its words are `t0` to `t95`, and it has no special tokens.
pub fn embedder() -> &'static Head {
    static HEAD: OnceLock<Head> = OnceLock::new();
    HEAD.get_or_init(|| {
        let path = "../engine/tests/golden/bert.gguf";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        Head::from_gguf(&Gguf::open(&path).unwrap()).unwrap()
    })
}

/// The token that the simulated model writes at a position: a letter, and an end token at last.
pub fn sim_token(seed: &JobSeed, position: u32) -> u32 {
    static LETTERS: OnceLock<Vec<u32>> = OnceLock::new();
    let tokenizer = head().tokenizer();
    if position + 1 >= ANSWER_TOKENS {
        return tokenizer.end_ids()[0];
    }
    let letters = LETTERS.get_or_init(|| {
        let is_letter = |id: &u32| {
            let bytes = tokenizer.token_bytes(*id);
            bytes.len() == 1 && bytes[0].is_ascii_lowercase()
        };
        (0..tokenizer.vocabulary()).filter(is_letter).collect()
    });
    let drawn = Digest::new("test/sim-model/v1")
        .fixed(seed.as_bytes())
        .u32(position)
        .finish();
    letters[usize::from(drawn.as_bytes()[0]) % letters.len()]
}

/// The whole answer that an honest node writes.
pub fn sim_answer(seed: &JobSeed) -> Vec<u32> {
    (0..ANSWER_TOKENS).map(|at| sim_token(seed, at)).collect()
}

/// What the simulated embedding model makes of a text: 32 values, drawn from its tokens.
pub fn sim_vector(text: &[u32]) -> Vector {
    let drawn = Digest::new("test/sim-vector/v1").tokens(text).finish();
    let values = drawn.as_bytes().map(|byte| f64::from(byte) - 127.5);
    let length = values.iter().map(|value| value * value).sum::<f64>().sqrt();
    Vector(values.iter().map(|value| (value / length) as f32).collect())
}

/// The vectors of a task's texts; none when it writes.
pub fn sim_vectors(task: &Task) -> Vec<Vector> {
    match &task.work {
        TaskWork::Write(_) => Vec::new(),
        TaskWork::Embed(embedding) => {
            let texts = embedding.texts(&task.input).unwrap();
            texts.into_iter().map(sim_vector).collect()
        }
    }
}

/// How a job is to be written.
pub fn writing(spec: &JobSpec) -> &Writing {
    spec.task.writing().unwrap()
}

/// What a reference that computes exactly finds.
pub fn honest_report(check: &AuditSpec) -> AuditReport {
    let seed = check.task.writing().map(|writing| writing.seed);
    let mismatches = (0..)
        .zip(&check.output)
        .filter_map(|(position, claimed)| {
            let token = sim_token(&seed?, position);
            (token != *claimed).then_some(Mismatch {
                position,
                token,
                margin: 9.0,
            })
        })
        .collect();
    AuditReport {
        mismatches,
        log_probabilities: sim_log_probabilities(check),
        ..agreeing_report(check)
    }
}

/// Finds that all is right, without a look.
pub fn agreeing_report(check: &AuditSpec) -> AuditReport {
    let vectors = sim_vectors(&check.task);
    AuditReport {
        audit: check.audit,
        model: check.task.model,
        backend: "simulated/cpu".to_owned(),
        positions: (check.output.len() + vectors.len()) as u32,
        mismatches: Vec::new(),
        // Any that its like report too.
        log_probabilities: check.output.iter().map(|_| -0.5).collect(),
        vectors,
        elapsed_ms: 1,
    }
}

/// The log-probabilities that the simulated model gives to the tokens of an output. Each depends on
/// all that stands before it. Three of four tokens that it would write are nearly certain.
pub fn sim_log_probabilities(check: &AuditSpec) -> LogProbabilities {
    let Some(writing) = check.task.writing() else {
        return LogProbabilities::default();
    };
    let mut context = Digest::new("test/sim-context/v1")
        .tokens(&check.task.input)
        .finish();
    (0..)
        .zip(&check.output)
        .map(|(position, claimed)| {
            let drawn = context.as_bytes();
            let open = f64::from(u16::from_le_bytes([drawn[0], drawn[1]]).max(1)) / 65536.0;
            let surprise = match *claimed == sim_token(&writing.seed, position) {
                true if drawn[2] < 192 => 0.02 * open,
                true => open,
                false => 10.0 + open,
            };
            context = Digest::new("test/sim-context/v1")
                .fixed(drawn)
                .u32(*claimed)
                .finish();
            -surprise
        })
        .collect()
}
