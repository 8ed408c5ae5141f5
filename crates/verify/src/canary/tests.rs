use infera_protocol::{AuditId, Mismatch, ModelId};
use proptest::prelude::*;

use super::*;
use crate::sampling::{choose, log_probability, score};

const P32: Thresholds = Thresholds::P32;

fn report(output: &[u32], model: impl Fn(usize) -> Vec<f32>, sampling: &Sampling) -> AuditReport {
    let seed = JobSeed::from_bytes([1; 32]);
    let mut report = AuditReport {
        audit: AuditId::from_bytes([1; 16]),
        model: ModelId::from_bytes([2; 32]),
        backend: "cpu/avx2".to_owned(),
        positions: output.len() as u32,
        mismatches: Vec::new(),
        log_probabilities: LogProbabilities::default(),
        vectors: Vec::new(),
        elapsed_ms: 1,
    };
    for (at, claimed) in output.iter().enumerate() {
        let (logits, position) = (model(at), at as u32);
        let scored = score(&logits, sampling, &seed, position, *claimed);
        if scored.token != *claimed {
            report.mismatches.push(Mismatch {
                position,
                token: scored.token,
                margin: scored.margin,
            });
        }
        report
            .log_probabilities
            .push(log_probability(&logits, *claimed));
    }
    report
}

/// A model of 60 tokens that is surer of some positions than of others.
fn logits(at: usize) -> Vec<f32> {
    let seed = JobSeed::from_bytes([9; 32]);
    let spread = 0.5 + (at % 7) as f32;
    (0..60)
        .map(|token| noise(&seed, at as u32, token) * spread)
        .collect()
}

fn written(length: usize, sampling: &Sampling) -> Vec<u32> {
    let seed = JobSeed::from_bytes([1; 32]);
    (0..length)
        .map(|at| choose(&logits(at), sampling, &seed, at as u32))
        .collect()
}

#[test]
fn only_who_computes_meets_a_canary() {
    let sampling = Sampling {
        temperature: 0.8,
        ..Sampling::GREEDY
    };
    let output = written(60, &sampling);
    let honest = report(&output, logits, &sampling);
    let seed = JobSeed::from_bytes([1; 32]);
    let computed = honest.log_probabilities.clone();
    let places = certain_places(&output, &computed, &output, &sampling, &seed, &P32);
    let (position, tokens) = places
        .iter()
        .find(|(position, _)| *position > 20)
        .expect("a place");
    let mut changed = output.clone();
    changed[*position as usize] = tokens[0];
    let canary = Canary {
        computed: computed.clone(),
        changed: Some(*position),
    };
    let unchanged = Canary {
        computed,
        changed: None,
    };
    // After the changed token the model goes on as it pleases.
    let other = |at: usize| logits(if at > *position as usize { at + 99 } else { at });
    let found = report(&changed, other, &sampling);
    assert_eq!(canary.judge(&found, &P32), Ok(()));
    assert_eq!(unchanged.judge(&honest, &P32), Ok(()));

    let mut overlooked = found.clone();
    overlooked
        .mismatches
        .retain(|one| one.position != *position);
    assert_eq!(
        canary.judge(&overlooked, &P32),
        Err(CanaryFault::Overlooked)
    );
    let mut invented = honest.clone();
    invented.mismatches.push(Mismatch {
        position: 5,
        token: 0,
        margin: 1.0,
    });
    assert_eq!(unchanged.judge(&invented, &P32), Err(CanaryFault::Invented));
    let mut guessed = found.clone();
    guessed.log_probabilities = output.iter().map(|_| -0.3).collect();
    assert_eq!(canary.judge(&guessed, &P32), Err(CanaryFault::NotComputed));
    let mut half = honest.clone();
    for at in (1..60).step_by(2) {
        half.log_probabilities.0[at] = half.log_probabilities.0[at - 1];
    }
    assert_eq!(unchanged.judge(&half, &P32), Err(CanaryFault::NotComputed));
    let mut short = honest;
    short.log_probabilities.0.pop();
    assert_eq!(unchanged.judge(&short, &P32), Err(CanaryFault::NotComputed));
}

#[test]
fn what_the_model_was_unsure_of_is_left_as_it_is() {
    let (seed, sampling) = (JobSeed::from_bytes([1; 32]), Sampling::GREEDY);
    let computed: LogProbabilities = [-0.7, -0.01, -3.0, 0.0].into_iter().collect();
    let places = certain_places(&[1, 2, 3, 4], &computed, &[1, 2], &sampling, &seed, &P32);
    assert_eq!(places, [(1, vec![1]), (3, vec![1, 2])]);
    let in_p16 = certain_places(
        &[1, 2, 3, 4],
        &computed,
        &[1, 2],
        &sampling,
        &seed,
        &Thresholds::P16,
    );
    assert_eq!(in_p16.len(), 2);
    let never = Sampling {
        temperature: 1.0,
        min_p: 1.0,
        ..sampling
    };
    assert!(certain_places(&[1, 2, 3, 4], &computed, &[1, 2], &never, &seed, &P32).is_empty());
}

proptest! {
    /// Whatever a model computes and however a token is drawn: a token at a certain place has a
    /// margin that fails the output, also for a reference whose logits are off.
    #[test]
    fn a_fault_at_a_certain_place_is_never_explained(
        logits in proptest::collection::vec(-12f32..12.0, 3..40),
        errors in proptest::collection::vec(-1f32..1.0, 40),
        temperature in prop_oneof![Just(0.0f32), 0.2f32..1.6],
        top_k in 1u32..64,
        top_p in prop_oneof![Just(1.0f32), 0.3f32..1.0],
        min_p in prop_oneof![Just(0.0f32), 0.01f32..0.5],
        salt in 0u8..255,
    ) {
        let sampling = Sampling { temperature, top_k, top_p, min_p };
        let seed = JobSeed::from_bytes([salt; 32]);
        let all: Vec<u32> = (0..logits.len() as u32).collect();
        for own in 0..logits.len() as u32 {
            let computed: LogProbabilities = [log_probability(&logits, own)].into_iter().collect();
            for thresholds in [P32, Thresholds::P16] {
                let off: Vec<f32> = logits
                    .iter()
                    .zip(&errors)
                    .map(|(logit, error)| logit + error * thresholds.scale * temperature.max(0.5) * 20.0)
                    .collect();
                let places = certain_places(&[own], &computed, &all, &sampling, &seed, &thresholds);
                for token in places.into_iter().flat_map(|(_, tokens)| tokens) {
                    let scored = score(&off, &sampling, &seed, 0, token);
                    prop_assert!(scored.token != token);
                    prop_assert!(
                        scored.margin > thresholds.hard_max * thresholds.scale,
                        "{} for {own} by {token}", scored.margin
                    );
                }
            }
        }
    }
}
