use infera_protocol::{JobSeed, LogProbabilities, Profile};
use proptest::prelude::*;

use super::*;
use crate::noise::noise;
use crate::sampling::log_probability;

const P32: Thresholds = Thresholds::P32;

/// Uniform in (0, 1).
fn uniform(salt: u8, position: u32, token: u32) -> f64 {
    let gumbel = f64::from(noise(&JobSeed::from_bytes([salt; 32]), position, token));
    (-(-gumbel).exp()).exp()
}

/// Student's t with 4 degrees of freedom and a standard deviation of 1: its quantile function is
/// elementary.
fn student(uniform: f64) -> f64 {
    let alpha = (4.0 * uniform * (1.0 - uniform)).max(1e-300);
    let root = alpha.sqrt();
    let q = ((1.0 / 3.0) * root.acos()).cos() / root;
    let t = 2.0 * (q - 1.0).max(0.0).sqrt();
    (uniform - 0.5).signum() * t / std::f64::consts::SQRT_2
}

/// Logits as a trained model's: some positions nearly certain, some open.
fn logits(position: u32) -> Vec<f32> {
    let spread = 1.5 + 3.0 * uniform(7, position, 0) as f32;
    let seed = JobSeed::from_bytes([3; 32]);
    (0..400)
        .map(|token| noise(&seed, position, token) * spread - 10.0)
        .collect()
}

/// The most likely token or, at every third position, another.
fn claimed(position: u32, logits: &[f32]) -> u32 {
    if position.is_multiple_of(3) {
        return position % logits.len() as u32;
    }
    let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
    best.unwrap() as u32
}

/// What a reference reports whose logits are off by `scale`, with Student's tails.
fn computed(positions: u32, scale: f64, salt: u8) -> LogProbabilities {
    (0..positions)
        .map(|position| {
            let logits = logits(position);
            let token = claimed(position, &logits);
            let off: Vec<f32> = (0..)
                .zip(&logits)
                // Two references' differences of logits differ by 2 of these.
                .map(|(id, logit)| {
                    let off = student(uniform(salt, position, id)) * scale / 2.0;
                    (f64::from(*logit) + off) as f32
                })
                .collect();
            log_probability(&off, token)
        })
        .collect()
}

fn agree(one: &LogProbabilities, other: &LogProbabilities, thresholds: &Thresholds) -> Agreement {
    Agreement::of(&one.0, &other.0, thresholds)
}

#[test]
fn honest_references_agree_in_both_profiles() {
    for profile in [Profile::P32, Profile::P16] {
        let thresholds = Thresholds::of(profile);
        let one = computed(600, f64::from(thresholds.scale), 1);
        let other = computed(600, f64::from(thresholds.scale), 2);
        let agreement = agree(&one, &other, &thresholds);
        assert!(agreement.holds(), "{profile}: {agreement:?}");
        assert_eq!(agreement.far, 0, "{profile}: {agreement:?}");
    }
    // In P32 the noise is below what 16 bits hold.
    let one = computed(600, f64::from(Thresholds::P16.scale), 1);
    let other = computed(600, f64::from(Thresholds::P16.scale), 2);
    let agreement = agree(&one, &other, &Thresholds::P16);
    assert!(agreement.largest > 0.5, "the noise shows: {agreement:?}");
}

/// As much as an honest one may be off, ten times over.
#[test]
fn ten_times_the_noise_is_still_honest() {
    let one = computed(600, 10.0 * f64::from(P32.scale), 1);
    let other = computed(600, 10.0 * f64::from(P32.scale), 2);
    let agreement = agree(&one, &other, &P32);
    assert!(agreement.holds(), "{agreement:?}");
}

/// By the assumption under the limits of margins, honest references fall out less than once in a
/// million outputs of 16 to 4096 tokens.
#[test]
fn a_false_alarm_is_rarer_than_one_in_a_million() {
    // The tail of |t| with 4 degrees of freedom and a standard deviation of 1.
    let tail = |units: f64| {
        let x = units * std::f64::consts::SQRT_2;
        let root = (x * x + 4.0).sqrt();
        1.0 - (x / root) * (1.0 + 2.0 / (x * x + 4.0))
    };
    for positions in [1, 16, 71, 256, 1024, 4096_u32] {
        let expected = f64::from(positions) * tail(f64::from(P32.big));
        let most = FAR + positions / FAR_PER;
        // Poisson: more than `most`.
        let mut term = (-expected).exp();
        let mut within = term;
        for number in 1..=most {
            term *= expected / f64::from(number);
            within += term;
        }
        let many = (1.0 - within).max(0.0);
        let one = f64::from(positions) * tail(f64::from(MOST));
        assert!(many + one < 1e-6, "{positions}: {many:e} and {one:e}");
    }
}

#[test]
fn who_does_not_compute_does_not_agree() {
    let honest = computed(71, f64::from(P32.scale), 1);
    let values: Vec<f64> = honest.surprises().map(|surprise| -surprise).collect();
    let of = |value: &dyn Fn(usize) -> f64| -> LogProbabilities {
        (0..values.len()).map(value).collect()
    };
    let certain = of(&|_| 0.0);
    let average = values.iter().sum::<f64>() / values.len() as f64;
    let constant = of(&|_| average);
    let shifted = of(&|at| values[(at + 1) % values.len()]);
    let half = of(&|at| {
        if at % 2 == 0 {
            values[at]
        } else {
            f64::midpoint(values[at - 1], values[(at + 1) % values.len()])
        }
    });
    for profile in [Profile::P32, Profile::P16] {
        let thresholds = Thresholds::of(profile);
        for (name, lazy) in [
            ("certain of all", &certain),
            ("the average", &constant),
            ("another's of the position after", &shifted),
            ("every other one", &half),
        ] {
            let agreement = agree(&honest, lazy, &thresholds);
            assert!(!agreement.holds(), "{profile}, {name}: {agreement:?}");
        }
    }
}

#[test]
fn certain_tokens_are_evidence_too() {
    let logits: Vec<f32> = std::iter::once(9.0).chain([0.0; 50]).collect();
    let honest: LogProbabilities = (0..40).map(|_| log_probability(&logits, 0)).collect();
    let guess: LogProbabilities = (0..40).map(|_| 0.0).collect();
    assert!(honest.surprises().all(|surprise| surprise < 0.01));
    assert!(!agree(&honest, &guess, &P32).holds());
    assert!(!agree(&honest, &guess, &Thresholds::P16).holds());
}

#[test]
fn those_who_agree_outvote_those_who_do_not() {
    let honest = computed(60, f64::from(P32.scale), 1);
    let other = computed(60, f64::from(P32.scale), 2);
    let lazy: LogProbabilities = (0..60).map(|_| -0.5).collect();
    let lazier: LogProbabilities = (0..60).map(|_| -0.7).collect();
    let of = |reports: &[&LogProbabilities]| {
        let bits: Vec<_> = reports.iter().map(|report| report.0.as_slice()).collect();
        largest_agreeing(&bits, &P32, 1)
    };
    assert_eq!(of(&[]), [] as [bool; 0]);
    assert_eq!(of(&[&lazy]), [true]);
    assert_eq!(of(&[&honest, &other]), [true, true]);
    assert_eq!(of(&[&honest, &lazy]), [false, false]);
    assert_eq!(of(&[&honest, &lazy, &other]), [true, false, true]);
    assert_eq!(of(&[&honest, &lazy, &lazier]), [false; 3]);
    assert_eq!(
        of(&[&lazier, &honest, &lazy, &other]),
        [false, true, false, true]
    );
    assert_eq!(of(&[&honest, &lazy, &lazy, &other]), [false; 4], "a tie");
    assert_eq!(
        of(&[&honest, &lazy, &lazy, &other, &honest]),
        [true, false, false, true, true]
    );
    let clearly = |reports: &[&LogProbabilities]| {
        let bits: Vec<_> = reports.iter().map(|report| report.0.as_slice()).collect();
        largest_agreeing(&bits, &P32, 2)
    };
    assert_eq!(clearly(&[&honest, &other]), [true, true]);
    assert_eq!(clearly(&[&honest, &lazy, &other]), [false; 3]);
    assert_eq!(
        clearly(&[&honest, &lazy, &other, &honest]),
        [true, false, true, true]
    );
}

proptest! {
    /// The inequality that the distance rests on.
    #[test]
    fn no_error_of_the_logits_looks_larger_than_it_is(
        logits in proptest::collection::vec(-20f32..20.0, 2..60),
        errors in proptest::collection::vec(-1f32..1.0, 60),
        size in prop_oneof![Just(1e-5f32), Just(1e-3), Just(0.1), Just(2.0)],
    ) {
        let off: Vec<f32> = logits.iter().zip(&errors).map(|(l, e)| l + e * size).collect();
        let moved = |id: usize| f64::from(off[id]) - f64::from(logits[id]);
        for token in 0..logits.len() {
            let most = (0..logits.len())
                .map(|id| (moved(token) - moved(id)).abs())
                .fold(0.0, f64::max);
            let kept: LogProbabilities = [&logits, &off]
                .iter()
                .map(|logits| log_probability(logits, token as u32))
                .collect();
            let found = distance(kept.0[0], kept.0[1]);
            // What f32 does to the exponentials.
            prop_assert!(found <= most * 1.0001 + 5e-6, "{found} of {most}");
        }
    }

    #[test]
    fn distance_is_symmetric_finite_and_zero_for_the_same(one in 0u16..=0x7bff, other in 0u16..=0x7bff) {
        let found = distance(one, other);
        prop_assert!(found.is_finite() && found >= 0.0);
        prop_assert_eq!(found.to_bits(), distance(other, one).to_bits());
        prop_assert_eq!(distance(one, one).to_bits(), 0f64.to_bits());
    }
}
