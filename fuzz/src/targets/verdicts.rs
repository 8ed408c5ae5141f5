//! Sampling and verdicts, from any logits and any reports.

use infera_protocol::{
    AuditReport, FinishReason, JobSeed, LogProbabilities, MAX_TOP_K, Profile, Sampling, Vector,
    Writing,
};
use infera_verify::{
    Finding, Status, Structure, Thresholds, VectorShape, Verdict, best, choose, choose_among,
    judge_structure, judge_vectors, log_probabilities, log_probability, needed, noise, score,
    vectors_verdict, verdict,
};
use serde_json::json;

use crate::bytes::Bytes;

pub(crate) fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    match bytes.up_to(3) {
        0 | 1 => sampling(bytes),
        2 => tokens(&mut bytes),
        _ => vectors(&mut bytes),
    }
}

fn sampling(mut bytes: Bytes<'_>) {
    let sampling = Sampling {
        temperature: bytes.of(&[0.7, 0.0, 1.0, 2.0, 0.01, f32::MIN_POSITIVE, 1e-40, 0.3]),
        top_k: 1 + u32::from(bytes.u8()) % MAX_TOP_K,
        top_p: bytes.of(&[1.0, 0.9, 0.5, 0.05, f32::MIN_POSITIVE, 0.999_999_94]),
        min_p: bytes.of(&[0.0, 0.05, 1.0, 0.5, f32::MIN_POSITIVE, 1e-40]),
    };
    assert!(sampling.validate().is_ok());
    let seed = JobSeed::from_bytes([bytes.u8(); 32]);
    let position = bytes.u32();
    let claimed = u32::from(bytes.u8());
    let exact = bytes.bool();
    let mut logits = Vec::new();
    while !bytes.is_empty() && logits.len() < 512 {
        logits.push(if exact {
            bytes.f32()
        } else {
            // Many ties.
            f32::from(bytes.u8()) / 8.0 - 16.0
        });
    }
    let chosen = choose(&logits, &sampling, &seed, position);
    assert!((chosen as usize) < logits.len().max(1));
    for more in [0, 1, 200] {
        let best = best(&logits, needed(&sampling) + more);
        assert_eq!(choose_among(&best, &sampling, &seed, position), chosen);
    }
    assert_eq!(chosen, defined_choice(&logits, &sampling, &seed, position));
    let own = score(&logits, &sampling, &seed, position, chosen);
    assert_eq!(own.token, chosen);
    assert!(own.margin.abs() < f32::MIN_POSITIVE || logits.is_empty());
    let other = score(&logits, &sampling, &seed, position, claimed);
    assert_eq!(other.token, chosen);
    assert!(other.margin >= 0.0 && other.margin.is_finite());
    let exact = log_probability(&logits, claimed);
    assert!(exact <= 0.0 && exact.is_finite());
    let (rounded, top) = log_probabilities(&logits, claimed, 20);
    assert!(rounded <= 0.0 && rounded.is_finite());
    assert_eq!(top.len(), logits.len().min(20));
    assert!(top.iter().all(|(_, log)| *log <= 0.0 && log.is_finite()));
    assert!(top.windows(2).all(|pair| pair[0].1 >= pair[1].1));
}

/// [`choose`] as its definition reads.
fn defined_choice(logits: &[f32], sampling: &Sampling, seed: &JobSeed, position: u32) -> u32 {
    let finite = |logit: f32| if logit.is_finite() { logit } else { f32::MIN };
    let mut ranked: Vec<(u32, f32)> = (0..).zip(logits.iter().copied().map(finite)).collect();
    // Stable: ties stay in order of their ids. Of two zeros none is larger.
    ranked.sort_by(|one, other| {
        let order = other.1.partial_cmp(&one.1);
        order.unwrap_or(std::cmp::Ordering::Equal)
    });
    let Some((first, largest)) = ranked.first().copied() else {
        return 0;
    };
    let temperature = f64::from(sampling.temperature);
    if temperature <= 0.0 {
        return first;
    }
    let level = |logit: f32| f64::from(logit) / temperature;
    let last = ranked[ranked.len().min(sampling.top_k as usize) - 1].1;
    ranked.retain(|(_, logit)| *logit >= last);
    if sampling.min_p > 0.0 {
        let cut = level(largest) + f64::from(sampling.min_p).ln();
        ranked.retain(|(_, logit)| level(*logit) >= cut);
    }
    let weight = |logit: f32| (level(logit) - level(largest)).exp();
    let total: f64 = ranked.iter().map(|(_, logit)| weight(*logit)).sum();
    let mut above = 0.0;
    let mut kept = Vec::new();
    for (id, logit) in ranked {
        if !kept.is_empty() && sampling.top_p < 1.0 && above >= f64::from(sampling.top_p) * total {
            break;
        }
        above += weight(logit);
        kept.push((id, level(logit) + f64::from(noise(seed, position, id))));
    }
    let mut winner = (u32::MAX, f64::NEG_INFINITY);
    for (id, noisy) in kept {
        if noisy > winner.1 || (noisy >= winner.1 && id < winner.0) {
            winner = (id, noisy);
        }
    }
    winner.0
}

const VOCABULARY: u32 = 100;
const END: u32 = 7;

fn thresholds(bytes: &mut Bytes<'_>) -> Thresholds {
    match bytes.up_to(2) {
        0 => Thresholds::of(Profile::P32),
        1 => Thresholds::of(Profile::P16),
        _ => Thresholds::P32_VECTORS,
    }
}

fn tokens(bytes: &mut Bytes<'_>) {
    let thresholds = thresholds(bytes);
    let output: Vec<u32> = (0..bytes.up_to(40))
        .map(|_| match bytes.u8() {
            250 => bytes.u32(),
            id => u32::from(id) % VOCABULARY,
        })
        .collect();
    let reason = bytes.of(&[
        None,
        Some(FinishReason::EndOfText),
        Some(FinishReason::Stop),
        Some(FinishReason::Length),
        Some(FinishReason::Cancelled),
        Some(FinishReason::Embedded),
    ]);
    let sampling = Sampling {
        temperature: bytes.of(&[0.0, 0.7, 2.0]),
        ..Sampling::GREEDY
    };
    let seed = JobSeed::from_bytes([bytes.u8(); 32]);
    let writing = Writing::new(sampling, bytes.up_to(60) as u32, seed);
    let structure = Structure {
        output: &output,
        writing: &writing,
        vocabulary: VOCABULARY,
        room: bytes.up_to(60) as u32,
        reason,
        is_end: &|token| token == END,
        stop_at: bytes.bool().then(|| bytes.u8().into()),
    };
    let length = output.len() as u32;
    let start = bytes.up_to(40) as u32 % (length + 1);
    let shared = computed(bytes, length);
    let reports: Vec<AuditReport> = (0..bytes.up_to(5))
        .filter_map(|_| {
            let tokens = length + u32::from(bytes.u8() > 220);
            let computed = match bytes.up_to(2) {
                0 => computed(bytes, tokens),
                _ => shared.clone(),
            };
            let mismatches: Vec<_> = (0..bytes.up_to(6))
                .map(|_| {
                    let margin = match bytes.up_to(3) {
                        0 => bytes.f32(),
                        _ => f32::from(bytes.u8()) * thresholds.scale,
                    };
                    json!({
                        "position": bytes.up_to(45), "token": bytes.up_to(110), "margin": margin,
                    })
                })
                .collect();
            let positions = length + u32::from(bytes.u8() > 220);
            report(positions, &json!(mismatches), &computed, &[])
        })
        .collect();
    let references: Vec<_> = reports.iter().collect();
    let can_be_asked = bytes.bool();
    let segment = start..length;
    let judged = verdict(segment, &structure, &references, &thresholds, can_be_asked);
    assert!(judged.outvoted().count() <= reports.len());
    let broken = judge_structure(&structure).is_err();
    check(&judged, reports.len(), broken);
}

fn vectors(bytes: &mut Bytes<'_>) {
    let thresholds = thresholds(bytes);
    let shape = VectorShape {
        texts: bytes.up_to(3) as u32,
        width: bytes.up_to(3) as u32,
    };
    let vectors = |bytes: &mut Bytes<'_>| -> Vec<Vector> {
        let texts = shape.texts + u32::from(bytes.u8() > 220);
        (0..texts)
            .map(|_| {
                let width = shape.width + u32::from(bytes.u8() > 220);
                let mut values: Vec<f32> = (0..width)
                    .map(|_| match bytes.u8() {
                        250.. => bytes.f32(),
                        small => f32::from(small) - 100.0,
                    })
                    .collect();
                let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
                if bytes.u8() < 240 {
                    for value in &mut values {
                        *value /= length;
                    }
                }
                Vector(values)
            })
            .collect()
    };
    let claimed = vectors(bytes);
    let reports: Vec<AuditReport> = (0..bytes.up_to(5))
        .filter_map(|_| {
            let own = if bytes.bool() {
                claimed.clone()
            } else {
                vectors(bytes)
            };
            report(shape.texts, &json!([]), &LogProbabilities::default(), &own)
        })
        .collect();
    let references: Vec<_> = reports.iter().collect();
    let judged = vectors_verdict(&claimed, shape, &references, &thresholds);
    let broken = judge_vectors(&claimed, shape).is_err();
    check(&judged, reports.len(), broken);
}

/// Log-probabilities: of tokens, or any bits.
fn computed(bytes: &mut Bytes<'_>, length: u32) -> LogProbabilities {
    if bytes.u8() > 220 {
        return LogProbabilities((0..length).map(|_| bytes.u16()).collect());
    }
    let surprises = (0..length).map(|_| -f64::from(bytes.u8()) / 16.0);
    surprises.collect()
}

/// A report as it comes from a node; none where JSON does not hold what was asked for.
fn report(
    positions: u32,
    mismatches: &serde_json::Value,
    computed: &LogProbabilities,
    own: &[Vector],
) -> Option<AuditReport> {
    let report = json!({
        "audit": "01".repeat(16),
        "model": "02".repeat(32),
        "backend": "cpu/avx2",
        "positions": positions,
        "mismatches": mismatches,
        "log_probabilities": computed,
        "vectors": own,
        "elapsed_ms": 1,
    });
    serde_json::from_value(report).ok()
}

/// The rule, from the references' findings.
fn check(verdict: &Verdict, reports: usize, broken: bool) {
    assert_eq!(verdict.references.len(), reports);
    let findings: Vec<Finding> = verdict
        .references
        .iter()
        .filter_map(|reference| {
            assert_eq!(reference.statistics.is_some(), reference.finding.is_some());
            assert_ne!(reference.finding.is_some(), reference.fault.is_some());
            if let Some(statistics) = reference.statistics {
                assert!(statistics.largest.is_finite() && statistics.largest >= 0.0);
                assert!(statistics.mismatches <= statistics.positions);
                assert!((0.0..=1.0).contains(&statistics.match_rate()));
            }
            reference.finding
        })
        .collect();
    let failing = findings
        .iter()
        .filter(|finding| **finding == Finding::Fail)
        .count();
    match verdict.status {
        Status::Verified => {
            assert!(!broken && findings.len() >= 2);
            assert!(2 * failing < findings.len());
        }
        Status::Failed => assert!(broken || (findings.len() >= 2 && 2 * failing > findings.len())),
        Status::Undecided => assert!(!broken),
    }
    assert!(verdict.reason.ends_with('.') && verdict.reason.len() < 400);
}
