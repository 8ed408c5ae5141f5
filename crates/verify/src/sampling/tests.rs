use proptest::prelude::*;

use super::*;

const GREEDY: Sampling = Sampling::GREEDY;

fn seed(byte: u8) -> JobSeed {
    JobSeed::from_bytes([byte; 32])
}

fn sampling(temperature: f32, top_k: u32, top_p: f32, min_p: f32) -> Sampling {
    Sampling {
        temperature,
        top_k,
        top_p,
        min_p,
    }
}

fn kept_ids(logits: &[f32], sampling: &Sampling) -> Vec<u32> {
    let kept = Kept::new(&best(logits, needed(sampling)), sampling);
    kept.tokens.iter().map(|token| token.id).collect()
}

/// Logits as a trained model's: many far down, a few close together on top. Deterministic.
fn peaked(vocabulary: u32, salt: u8) -> Vec<f32> {
    let seed = seed(salt);
    (0..vocabulary)
        .map(|token| noise(&seed, 77, token) * 2.5 - 10.0)
        .collect()
}

#[test]
fn greedy_takes_the_largest_and_the_lowest_id_of_a_tie() {
    assert_eq!(choose(&[1.0, 3.0, 3.0, 2.0], &GREEDY, &seed(1), 0), 1);
    assert_eq!(choose(&[-1.0, -3.0], &GREEDY, &seed(1), 9), 0);
    assert_eq!(choose(&[], &GREEDY, &seed(1), 0), 0);
}

#[test]
fn undefined_logits_count_as_the_lowest() {
    let logits = [f32::NAN, 1.0, f32::INFINITY, 0.5, f32::NEG_INFINITY];
    let all_undefined = [f32::NAN; 4];
    for sampling in [GREEDY, sampling(0.7, 2, 0.9, 0.01)] {
        assert!([1, 3].contains(&choose(&logits, &sampling, &seed(1), 0)));
        for claimed in [0, 2, 4, 99] {
            assert_eq!(
                score(&logits, &sampling, &seed(1), 0, claimed)
                    .margin
                    .to_bits(),
                f32::MAX.to_bits()
            );
        }
        assert!(choose(&all_undefined, &sampling, &seed(1), 0) < 4);
        let scored = score(&all_undefined, &sampling, &seed(1), 0, 2);
        assert!(scored.margin.is_finite());
        let (logprob, top) = log_probabilities(&logits, 0, 9);
        assert!(logprob.is_finite() && top.len() == 5 && top[0].0 == 1);
    }
}

#[test]
fn where_every_logit_is_undefined_there_is_no_choice() {
    assert!(!is_defined(&best(&[f32::NAN; 4], 2)));
    assert!(!is_defined(&best(&[f32::INFINITY, f32::NEG_INFINITY], 2)));
    assert!(!is_defined(&best(&[], 2)));
    assert!(is_defined(&best(&[f32::NAN, -3.0, f32::INFINITY], 1)));
}

#[test]
fn the_filters_apply_in_order() {
    let logits = [0.0, 4.0, 2.0, 3.0, 2.0, -1.0];
    assert_eq!(
        kept_ids(&logits, &sampling(1.0, 64, 1.0, 0.0)),
        [1, 3, 2, 4, 0, 5]
    );
    assert_eq!(kept_ids(&logits, &sampling(1.0, 2, 1.0, 0.0)), [1, 3]);
    assert_eq!(
        kept_ids(&logits, &sampling(1.0, 3, 1.0, 0.0)),
        [1, 3, 2, 4],
        "all that tie with the last are kept"
    );
    // exp(-1) = 0.37 and exp(-2) = 0.14 of the largest; at temperature 2 0.61 and 0.37.
    assert_eq!(kept_ids(&logits, &sampling(1.0, 64, 1.0, 0.3)), [1, 3]);
    assert_eq!(
        kept_ids(&logits, &sampling(2.0, 64, 1.0, 0.3)),
        [1, 3, 2, 4]
    );
    assert_eq!(kept_ids(&logits, &sampling(1.0, 64, 1.0, 1.0)), [1]);
    // Shares 0.60, 0.22, 0.08, 0.08, ...: above them 0, 0.60, 0.82, 0.90.
    assert_eq!(kept_ids(&logits, &sampling(1.0, 64, 0.5, 0.0)), [1]);
    assert_eq!(kept_ids(&logits, &sampling(1.0, 64, 0.7, 0.0)), [1, 3]);
    assert_eq!(kept_ids(&logits, &sampling(1.0, 64, 0.85, 0.0)), [1, 3, 2]);
    // The two that top-k leaves share 0.73 and 0.27.
    assert_eq!(kept_ids(&logits, &sampling(1.0, 2, 0.7, 0.0)), [1]);
    assert_eq!(kept_ids(&logits, &sampling(1.0, 1, 0.01, 1.0)), [1]);
}

#[test]
fn the_nth_largest_is_that_of_a_full_sort() {
    let logits = peaked(5000, 4);
    let mut sorted = logits.clone();
    sorted.sort_unstable_by(|left, right| right.total_cmp(left));
    for count in [1, 2, 40, 64, 4999, 5000, 9999] {
        let expected = sorted[count.min(5000) - 1];
        assert_eq!(nth_largest(&logits, count).to_bits(), expected.to_bits());
    }
    assert_eq!(nth_largest(&[1.0; 500], 3).to_bits(), 1.0_f32.to_bits());
}

/// The frequencies of 20,000 choices against the softmax they are drawn from.
#[test]
fn choices_follow_the_distribution() {
    let logits = [1.0, 0.0, 2.0, -1.0];
    let temperature = 0.8;
    let weights = logits.map(|logit: f32| (f64::from(logit) / temperature).exp());
    let total: f64 = weights.iter().sum();
    let sampling = sampling(temperature as f32, 64, 1.0, 0.0);
    let mut counts = [0_u32; 4];
    let draws = 20_000;
    for position in 0..draws {
        counts[choose(&logits, &sampling, &seed(9), position) as usize] += 1;
    }
    for (count, weight) in counts.into_iter().zip(weights) {
        let (found, expected) = (f64::from(count) / f64::from(draws), weight / total);
        assert!((found - expected).abs() < 0.012, "{found} for {expected}");
    }
}

#[test]
fn a_large_vocabulary_is_quick() {
    let logits = peaked(152_000, 1);
    let sampling = sampling(1.0, 64, 0.95, 0.05);
    let start = std::time::Instant::now();
    for position in 0..10 {
        choose(&logits, &sampling, &seed(2), position);
    }
    // About 2 ms each without optimisation; a full sort takes a hundred.
    assert!(start.elapsed().as_millis() < 1000, "{:?}", start.elapsed());
}

#[test]
fn log_probabilities_are_those_of_the_softmax() {
    let (chosen, top) = log_probabilities(&[1.0, 2.0, 3.0, 2.0], 0, 3);
    let normaliser = (1_f64.exp() + 2.0 * 2_f64.exp() + 3_f64.exp()).ln();
    let close = |found: f32, logit: f64| (f64::from(found) - (logit - normaliser)).abs() < 1e-6;
    assert!(close(chosen, 1.0));
    assert_eq!(
        top.iter().map(|entry| entry.0).collect::<Vec<_>>(),
        [2, 1, 3]
    );
    assert!(close(top[0].1, 3.0) && close(top[1].1, 2.0));
    assert_eq!(log_probabilities(&[1.0, 2.0], 1, 0).1, []);
    assert_eq!(log_probabilities(&[7.0], 0, 20), (0.0, vec![(0, 0.0)]));
}

fn exact_log_probability(logits: &[f32], token: usize) -> f64 {
    let of = |logit: f32| f64::from(logit) - f64::from(logits[token]);
    let others = (0..logits.len()).filter(|other| *other != token);
    let rest: f64 = others.map(|other| of(logits[other]).exp()).sum();
    -rest.ln_1p()
}

#[test]
fn a_log_probability_is_that_of_the_softmax_in_f64() {
    let mut cases: Vec<Vec<f32>> = (0..40)
        .map(|salt| peaked(1000 + u32::from(salt), salt))
        .collect();
    cases.extend([
        vec![0.0, -3.0],
        vec![0.0, -20.0],
        vec![100.0, 99.9],
        vec![3.0],
    ]);
    for logits in cases {
        for token in 0..logits.len().min(50) {
            let expected = exact_log_probability(&logits, token);
            let found = log_probability(&logits, token as u32);
            let most = 2e-6 * -expected.exp_m1() + 1e-15;
            assert!((found - expected).abs() <= most, "{found} for {expected}");
        }
    }
    let undefined = [f32::NAN, 1.0, f32::INFINITY];
    assert!(log_probability(&undefined, 0) < -1e30);
    assert!(log_probability(&undefined, 1).abs() < 1e-15);
    assert!(log_probability(&undefined, 9) < -1e30);
}

proptest! {
    #[test]
    fn the_weight_of_a_logit_is_its_exponential(x in -90f32..=0.0) {
        let expected = f64::from(x).exp();
        prop_assert!((f64::from(weight(x)) - expected).abs() <= 3e-7 * expected + 1e-37);
    }
}

#[test]
fn honest_rounding_gives_tiny_margins_and_another_seed_large_ones() {
    let sampling = sampling(1.0, 64, 0.95, 0.02);
    let (mut honest, mut other, mut flips) = (0.0_f32, 0, 0);
    for position in 0..400 {
        let worker = peaked(600, (position % 50) as u8);
        let error = |token: u32| noise(&seed(200), position, token) * 1e-4;
        let reference: Vec<f32> = (0..)
            .zip(&worker)
            .map(|(token, logit)| logit + error(token))
            .collect();
        let claimed = choose(&worker, &sampling, &seed(1), position);
        let scored = score(&reference, &sampling, &seed(1), position, claimed);
        flips += u32::from(scored.token != claimed);
        honest = honest.max(scored.margin);
        let stolen = choose(&worker, &sampling, &seed(2), position);
        other += u32::from(score(&worker, &sampling, &seed(1), position, stolen).margin > 0.0028);
    }
    assert!(honest < 0.0028, "{honest}");
    assert!(flips < 10, "{flips}");
    assert!(other > 100, "{other}");
}

/// Rounding may swap two tokens at the edge of the nucleus, or move one over the edge of min-p and
/// so change all shares. Neither may look like fraud.
#[test]
fn a_swap_of_ranks_at_an_edge_has_a_tiny_margin() {
    let cases = [
        (
            [2.0, 2.0, 0.0, -1.0],
            [2.0, 2.000_01, 0.0, -1.0],
            sampling(1.0, 64, 0.4, 0.0),
        ),
        (
            [2.0, 1.0, -1.0, -1.0],
            [2.0, 1.0, -0.999_99, -1.000_01],
            sampling(1.0, 3, 0.9, 0.0),
        ),
        (
            [2.0, 1.0, 0.0, -0.302_58],
            [2.0, 1.0, 0.0, -0.302_60],
            sampling(1.0, 64, 0.9, 0.1),
        ),
    ];
    for (worker, reference, sampling) in cases {
        let mut flips = 0;
        for position in 0..300 {
            let claimed = choose(&worker, &sampling, &seed(6), position);
            let scored = score(&reference, &sampling, &seed(6), position, claimed);
            flips += u32::from(scored.token != claimed);
            assert!(scored.margin < 2e-4, "{} {sampling:?}", scored.margin);
        }
        assert!(flips > 0 || sampling.top_k == 3, "{sampling:?}");
    }
}

fn any_sampling() -> impl Strategy<Value = Sampling> {
    (
        prop_oneof![Just(0.0_f32), 0.1_f32..2.0],
        1_u32..=64,
        prop_oneof![Just(1.0_f32), 0.05_f32..1.0],
        prop_oneof![Just(0.0_f32), 0.0_f32..1.0],
    )
        .prop_map(|(temperature, top_k, top_p, min_p)| sampling(temperature, top_k, top_p, min_p))
}

/// Whole and half numbers make ties common.
fn any_logits() -> impl Strategy<Value = Vec<f32>> {
    prop_oneof![
        prop::collection::vec(-8.0_f32..8.0, 1..200),
        prop::collection::vec((-6_i8..6).prop_map(|logit| f32::from(logit) / 2.0), 1..200),
    ]
}

/// Many near ties, on both sides of every edge.
fn near_logits() -> impl Strategy<Value = Vec<f32>> {
    let near =
        (-6_i8..6, -1.0_f32..1.0).prop_map(|(logit, error)| f32::from(logit) / 4.0 + error * 0.02);
    prop_oneof![
        prop::collection::vec(-8.0_f32..8.0, 2..60),
        prop::collection::vec(near, 2..60),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_own_choice_has_margin_zero(
        logits in any_logits(),
        sampling in any_sampling(),
        byte in any::<u8>(),
        position in any::<u32>(),
    ) {
        let own = choose(&logits, &sampling, &seed(byte), position);
        prop_assert!((own as usize) < logits.len());
        let scored = score(&logits, &sampling, &seed(byte), position, own);
        prop_assert_eq!(scored, Scored { token: own, margin: 0.0 });
    }

    /// Another token has margin 0 only where a tie stands between the two: of their levels, or of
    /// the winner with what the filters cut.
    #[test]
    fn another_choice_has_a_margin(
        logits in prop::collection::vec(-8.0_f32..8.0, 2..200),
        sampling in any_sampling(),
        claimed in any::<prop::sample::Index>(),
        position in any::<u32>(),
    ) {
        let claimed = claimed.index(logits.len()) as u32;
        let scored = score(&logits, &sampling, &seed(3), position, claimed);
        prop_assert!(scored.margin.is_finite() && scored.margin >= 0.0);
        prop_assert_eq!(scored.token, choose(&logits, &sampling, &seed(3), position));
        let mut levels = logits.clone();
        levels.sort_unstable_by(f32::total_cmp);
        let distinct = levels.windows(2).all(|pair| pair[0] < pair[1]);
        if scored.token != claimed && distinct {
            prop_assert!(scored.margin > 0.0);
        }
    }

    /// Moving every logit by a little over half the margin, the claimed one up and the others
    /// down, makes the claimed token the choice, where no rival is to be cut instead of outrun.
    #[test]
    fn half_the_margin_is_enough_to_explain_the_claim(
        logits in prop::collection::vec(-8.0_f32..8.0, 2..120),
        temperature in prop_oneof![Just(0.0_f32), 0.3_f32..2.0],
        top_k in prop_oneof![Just(64_u32), 1_u32..=64],
        claimed in any::<prop::sample::Index>(),
        position in any::<u32>(),
    ) {
        let sampling = sampling(temperature, top_k, 1.0, 0.0);
        let claimed = claimed.index(logits.len());
        let scored = score(&logits, &sampling, &seed(4), position, claimed as u32);
        let unit = if temperature > 0.0 { temperature } else { 1.0 };
        if temperature > 0.0 {
            let kept = Kept::new(&best(&logits, needed(&sampling) + 1), &sampling);
            let level = kept.filters.level(logits[claimed])
                + f64::from(noise(&seed(4), position, claimed as u32));
            let race = kept.race(&seed(4), position);
            let mut rivals = race.iter().zip(&kept.tokens);
            prop_assume!(rivals.all(|((_, rival), token)| {
                rival - level <= kept.filters.standing(token.level).max(0.0)
            }));
        }
        let step = (scored.margin * 0.5001 + 1e-5) * unit;
        let moved: Vec<f32> = logits
            .iter()
            .enumerate()
            .map(|(token, logit)| if token == claimed { logit + step } else { logit - step })
            .collect();
        prop_assert_eq!(choose(&moved, &sampling, &seed(4), position), claimed as u32);
    }

    /// And a uniform error of well under half the margin never does, whatever the filters.
    #[test]
    fn less_than_half_the_margin_never_explains_the_claim(
        logits in near_logits(),
        errors in prop_oneof![
            prop::collection::vec(-1.0_f32..1.0, 60),
            prop::collection::vec(prop_oneof![Just(-1.0_f32), Just(1.0)], 60),
        ],
        sampling in any_sampling(),
        claimed in any::<prop::sample::Index>(),
        position in any::<u32>(),
    ) {
        let claimed = claimed.index(logits.len()) as u32;
        let scored = score(&logits, &sampling, &seed(5), position, claimed);
        let unit = if sampling.temperature > 0.0 { sampling.temperature } else { 1.0 };
        let reach = (scored.margin.min(0.1) * 0.499 - 1e-5).max(0.0) * unit;
        let moved: Vec<f32> = logits
            .iter()
            .zip(&errors)
            .map(|(logit, error)| logit + error * reach)
            .collect();
        if scored.token != claimed {
            prop_assert_ne!(choose(&moved, &sampling, &seed(5), position), claimed);
        }
    }
}

/// Few values, so that there are ties, and some that are no numbers; several blocks of them.
fn rough_logits() -> impl Strategy<Value = Vec<f32>> {
    let logit = prop_oneof![
        12 => (-20_i8..20).prop_map(|step| f32::from(step) * 0.25),
        1 => Just(f32::NAN),
        1 => Just(f32::INFINITY),
        1 => Just(f32::NEG_INFINITY),
        1 => Just(-0.0),
    ];
    prop::collection::vec(logit, 1..4 * BLOCK)
}

proptest! {
    #[test]
    fn what_is_found_block_by_block_is_what_sorting_finds(
        logits in rough_logits(),
        count in 1_usize..70,
    ) {
        let mut sorted: Vec<(usize, f32)> = logits.iter().copied().map(defined).enumerate().collect();
        sorted.sort_by(|left, right| {
            right.1.partial_cmp(&left.1).unwrap().then(left.0.cmp(&right.0))
        });
        let last = sorted[count.min(sorted.len()) - 1].1;
        let expected: Vec<_> = sorted
            .into_iter()
            .filter(|(_, logit)| *logit >= last)
            .map(|(id, logit)| (id as u32, logit))
            .collect();
        prop_assert_eq!(best(&logits, count), expected);
    }
    #[test]
    fn the_best_logits_are_enough_to_choose(
        logits in rough_logits(),
        sampling in any_sampling(),
        more in 0_usize..10,
        position in 0_u32..100,
    ) {
        let best = best(&logits, needed(&sampling) + more);
        prop_assert_eq!(
            choose_among(&best, &sampling, &seed(5), position),
            choose(&logits, &sampling, &seed(5), position)
        );
    }
}
