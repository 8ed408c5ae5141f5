use infera_protocol::{FinishReason, JobSeed, ModelId, Sampling};

use super::*;

const OUTPUT: [u32; 10] = [5; 10];

fn structure() -> Structure<'static> {
    Structure {
        output: &OUTPUT,
        writing: &WRITING,
        vocabulary: 100,
        room: 100,
        reason: Some(FinishReason::Length),
        is_end: &|_| false,
        stop_at: None,
    }
}

static WRITING: Writing = Writing {
    sampling: Sampling {
        temperature: 1.0,
        ..Sampling::GREEDY
    },
    max_tokens: 10,
    stop: Vec::new(),
    logprobs: None,
    seed: JobSeed::from_bytes([7; 32]),
};

/// What all who compute find.
fn computed() -> LogProbabilities {
    (0..10).map(|position| -0.3 * f64::from(position)).collect()
}

/// `margins` are in units of P32's scale.
fn report(margins: &[(u32, f32)]) -> AuditReport {
    report_in(&Thresholds::P32, margins)
}

fn report_in(thresholds: &Thresholds, margins: &[(u32, f32)]) -> AuditReport {
    AuditReport {
        audit: AuditId::from_bytes([1; 16]),
        model: ModelId::from_bytes([2; 32]),
        backend: "cpu/avx2".to_owned(),
        positions: 10,
        mismatches: margins
            .iter()
            .map(|(position, margin)| Mismatch {
                position: *position,
                token: 6,
                margin: margin * thresholds.scale,
            })
            .collect(),
        log_probabilities: computed(),
        vectors: Vec::new(),
        elapsed_ms: 1,
    }
}

fn judge(reports: &[&AuditReport]) -> Verdict {
    verdict(0..10, &structure(), reports, &Thresholds::P32, false)
}

#[test]
fn findings_follow_the_thresholds() {
    for (profile, hard_max) in [(Profile::P32, 60.0), (Profile::P16, 200.0)] {
        let thresholds = Thresholds::of(profile);
        let cases: [(&[(u32, f32)], _); 6] = [
            (&[], Finding::Clean),
            (&[(0, 19.0), (1, 19.0), (2, 0.0)], Finding::Clean),
            (&[(0, 21.0)], Finding::Alarm),
            (&[(0, hard_max - 1.0)], Finding::Alarm),
            (&[(0, hard_max + 1.0)], Finding::Fail),
            (&[(0, 21.0), (5, 21.0)], Finding::Fail),
        ];
        for (margins, expected) in cases {
            let report = report_in(&thresholds, margins);
            let statistics = token_statistics(10, report.mismatches.into_iter(), &thresholds);
            let found = statistics.finding(&thresholds);
            assert_eq!(found, expected, "{profile}: {margins:?}");
        }
    }
}

/// Two references of the same report, by the profile that judges it.
#[test]
fn a_margin_weighs_by_the_profile_that_it_is_judged_in() {
    let cases = [
        (1e-3, Status::Verified, Status::Verified),
        (5e-3, Status::Undecided, Status::Verified),
        (0.1, Status::Failed, Status::Verified),
        (1.0, Status::Failed, Status::Undecided),
        (1.5, Status::Failed, Status::Failed),
    ];
    for (margin, in_p32, in_p16) in cases {
        let report = report_in(&Thresholds::P32, &[(4, margin / Thresholds::P32.scale)]);
        for (profile, expected) in [(Profile::P32, in_p32), (Profile::P16, in_p16)] {
            let thresholds = Thresholds::of(profile);
            let judged = verdict(0..10, &structure(), &[&report, &report], &thresholds, false);
            assert_eq!(judged.status, expected, "{profile}: {margin}");
        }
    }
}

#[test]
fn statistics_count_and_stay_finite() {
    let mut report = report(&[(0, 1.0), (3, 25.0), (4, 0.0)]);
    report.mismatches[2].margin = f32::MAX;
    let statistics = token_statistics(10, report.mismatches.into_iter(), &Thresholds::P32);
    assert_eq!((statistics.mismatches, statistics.big_margins), (3, 2));
    assert!(statistics.largest.is_finite() && statistics.largest > 60.0);
    assert!((statistics.match_rate() - 0.7).abs() < 1e-6);
    let none = token_statistics(0, std::iter::empty(), &Thresholds::P32);
    assert!((none.match_rate() - 1.0).abs() < 1e-6);
}

#[test]
fn two_references_decide_when_they_agree() {
    let (clean, alarm, fail) = (report(&[]), report(&[(0, 30.0)]), report(&[(0, 99.0)]));
    let status = |reports: &[&AuditReport]| judge(reports).status;
    assert_eq!(status(&[]), Status::Undecided);
    assert_eq!(status(&[&clean]), Status::Undecided);
    assert_eq!(status(&[&fail]), Status::Undecided);
    assert_eq!(status(&[&clean, &clean]), Status::Verified);
    assert_eq!(status(&[&fail, &fail]), Status::Failed);
    assert_eq!(status(&[&clean, &fail]), Status::Undecided);
    assert_eq!(status(&[&clean, &alarm]), Status::Undecided);
    assert_eq!(status(&[&alarm, &alarm]), Status::Undecided);
    assert_eq!(status(&[&alarm, &fail]), Status::Undecided);
}

#[test]
fn three_references_decide_by_majority() {
    let (clean, alarm, fail) = (report(&[]), report(&[(0, 30.0)]), report(&[(0, 99.0)]));
    let status = |reports: &[&AuditReport]| judge(reports).status;
    assert_eq!(status(&[&clean, &fail, &clean]), Status::Verified);
    assert_eq!(status(&[&clean, &fail, &fail]), Status::Failed);
    assert_eq!(status(&[&alarm, &alarm, &alarm]), Status::Verified);
    assert_eq!(status(&[&alarm, &clean, &fail]), Status::Verified);
    assert_eq!(status(&[&clean, &clean, &fail, &fail]), Status::Undecided);
}

#[test]
fn reasons_are_sentences_for_the_nodes_owner() {
    let (clean, near, fail) = (report(&[]), report(&[(2, 3.0)]), report(&[(0, 99.0)]));
    let reason = |reports: &[&AuditReport]| judge(reports).reason;
    assert_eq!(
        reason(&[&clean, &clean]),
        "2 reference nodes agree on all 10 tokens."
    );
    assert_eq!(
        reason(&[&clean, &near]),
        "2 reference nodes agree but for 1 of 10 tokens, where they differ by rounding only."
    );
    assert_eq!(
        reason(&[&clean, &clean, &fail]),
        "2 of 3 reference nodes agree on all 10 tokens."
    );
    assert_eq!(
        reason(&[&fail, &fail]),
        "2 of 2 reference nodes find that this model did not write this: 1 of 10 tokens differ by \
         more than rounding can explain."
    );
    assert_eq!(
        reason(&[&clean, &fail]),
        "The reference nodes disagree, so another one is asked."
    );
}

#[test]
fn a_broken_structure_fails_whatever_the_references_say() {
    let clean = report(&[]);
    let shorter = Writing {
        max_tokens: 9,
        ..WRITING.clone()
    };
    let broken = Structure {
        writing: &shorter,
        ..structure()
    };
    let verdict = verdict(0..10, &broken, &[&clean, &clean], &Thresholds::P32, false);
    assert_eq!(verdict.status, Status::Failed);
    assert_eq!(
        verdict.reason,
        "The output breaks a rule of the network: it has 10 tokens where at most 9 were asked for."
    );
    assert_eq!(verdict.references.len(), 2);
}

#[test]
fn only_the_segment_is_judged() {
    let fail = report(&[(2, 99.0)]);
    let of = |segment| {
        verdict(
            segment,
            &structure(),
            &[&fail, &fail],
            &Thresholds::P32,
            false,
        )
    };
    assert_eq!(of(0..3).status, Status::Failed);
    let later = of(3..10);
    assert_eq!(later.status, Status::Verified);
    assert_eq!(later.references[0].statistics.unwrap().positions, 7);
}

#[test]
fn malformed_reports_are_discarded_and_named() {
    let clean = report(&[]);
    let cases: [(fn(&mut AuditReport), _); 13] = [
        (
            |report| report.positions = 9,
            ReportFault::Positions {
                found: 9,
                expected: 10,
            },
        ),
        (|report| report.mismatches.swap(0, 1), ReportFault::Order),
        (
            |report| report.mismatches[1].position = 2,
            ReportFault::Order,
        ),
        (
            |report| report.mismatches[1].position = 10,
            ReportFault::Order,
        ),
        (
            |report| report.mismatches[0].token = 100,
            ReportFault::Token,
        ),
        (|report| report.mismatches[0].token = 5, ReportFault::Token),
        (
            |report| report.mismatches[0].margin = f32::NAN,
            ReportFault::Margin,
        ),
        (
            |report| report.mismatches[0].margin = f32::INFINITY,
            ReportFault::Margin,
        ),
        (
            |report| report.mismatches[0].margin = -1.0,
            ReportFault::Margin,
        ),
        (
            |report| report.log_probabilities.push(0.0),
            ReportFault::LogProbabilities,
        ),
        (
            |report| report.log_probabilities.0.clear(),
            ReportFault::LogProbabilities,
        ),
        (
            |report| report.log_probabilities.0[9] = 0xffff,
            ReportFault::LogProbabilities,
        ),
        (
            |report| report.log_probabilities = [-50.0; 10].into_iter().collect(),
            ReportFault::Contradiction { position: 0 },
        ),
    ];
    for (change, fault) in cases {
        let mut bad = report(&[(2, 1.0), (4, 1.0)]);
        change(&mut bad);
        let verdict = judge(&[&clean, &bad]);
        assert_eq!(verdict.status, Status::Undecided);
        assert_eq!(verdict.references[1].fault, Some(fault));
        assert_eq!(verdict.references[1].finding, None);
        assert_eq!(
            verdict.reason,
            "A reference node reported in an unusable way, so another reference node is asked."
        );
        assert_eq!(judge(&[&clean, &bad, &clean]).status, Status::Verified);
    }
}

/// A report of no mismatches by someone who has computed nothing.
fn lazy(guess: f64) -> AuditReport {
    AuditReport {
        log_probabilities: [guess; 10].into_iter().collect(),
        ..report(&[])
    }
}

#[test]
fn a_report_without_computing_verifies_nothing() {
    let (clean, fail) = (report(&[]), report(&[(0, 99.0)]));
    let (lazy, other) = (lazy(0.0), lazy(-0.4));
    let judged = judge(&[&clean, &lazy]);
    assert_eq!(judged.status, Status::Undecided);
    assert_eq!(
        judged.reason,
        "The reference nodes computed different probabilities, so another one is asked."
    );
    assert_eq!(judge(&[&lazy, &other]).status, Status::Undecided);
    assert_eq!(judge(&[&lazy, &other, &fail]).status, Status::Undecided);
    let judged = judge(&[&lazy, &other, &fail, &fail]);
    assert_eq!(judged.status, Status::Failed, "{}", judged.reason);
    for at in [0, 1] {
        assert_eq!(judged.references[at].fault, Some(ReportFault::Apart));
        assert_eq!(judged.references[at].finding, None);
    }
    assert_eq!(judge(&[&clean, &lazy, &clean]).status, Status::Verified);
}

#[test]
fn two_who_are_lazy_alike_do_not_outvote_one_who_computes_while_others_can_be_asked() {
    let (fail, lazy) = (report(&[(0, 99.0)]), lazy(-0.4));
    let judge = |reports: &[&AuditReport], can_be_asked| {
        let thresholds = Thresholds::P32;
        verdict(0..10, &structure(), reports, &thresholds, can_be_asked)
    };
    let status = |reports: &[&AuditReport], asked| judge(reports, asked).status;
    assert_eq!(status(&[&fail, &lazy, &lazy], true), Status::Undecided);
    assert_eq!(status(&[&fail, &lazy, &fail], true), Status::Undecided);
    let decided = [&fail, &lazy, &fail, &fail];
    assert_eq!(status(&decided, true), Status::Failed);
    assert_eq!(judge(&decided, true).outvoted().count(), 1);
    assert_eq!(status(&[&fail, &lazy, &fail], false), Status::Failed);
    assert_eq!(
        status(&[&lazy, &fail, &lazy, &fail, &fail], false),
        Status::Failed
    );
}

#[test]
fn who_was_outvoted_is_named() {
    let named = |reports: &[&AuditReport]| {
        let reports: Vec<_> = (0..)
            .zip(reports)
            .map(|(number, report)| AuditReport {
                audit: AuditId::from_bytes([number; 16]),
                ..(*report).clone()
            })
            .collect();
        let reports: Vec<_> = reports.iter().collect();
        let judged = judge(&reports);
        let outvoted: Vec<_> = judged.outvoted().map(|id| id.as_bytes()[0]).collect();
        outvoted
    };
    let (clean, alarm, fail) = (report(&[]), report(&[(0, 30.0)]), report(&[(0, 99.0)]));
    let lazy = lazy(-0.4);
    assert!(named(&[&clean, &clean]).is_empty());
    assert_eq!(named(&[&clean, &lazy, &clean]), [1]);
    assert_eq!(named(&[&clean, &fail, &alarm]), [1]);
    assert_eq!(named(&[&clean, &fail, &fail]), [0]);
    assert!(
        named(&[&alarm, &fail, &fail]).is_empty(),
        "an alarm is no vote"
    );
    assert_eq!(named(&[&clean, &lazy]), [0, 1], "nobody knows yet");
}

#[test]
fn at_temperature_0_choices_and_log_probabilities_must_fit() {
    let writing = Writing {
        sampling: Sampling::GREEDY,
        ..WRITING.clone()
    };
    let greedy = Structure {
        writing: &writing,
        ..structure()
    };
    let check = |margins: &[(u32, f32)], values: [f64; 10]| {
        let mut report = report(&[]);
        for (position, margin) in margins {
            report.mismatches.push(Mismatch {
                position: *position,
                token: 6,
                margin: *margin,
            });
        }
        report.log_probabilities = values.into_iter().collect();
        check_report(&greedy, &report)
    };
    let with = |at: usize, value: f64| {
        let mut values = [-0.1; 10];
        values[at] = value;
        values
    };
    let contradicts = |position| Err(ReportFault::Contradiction { position });
    assert_eq!(check(&[], with(0, -0.1)), Ok(()));
    // The most likely of 100 tokens has at least a hundredth.
    assert_eq!(check(&[], with(4, -4.6)), Ok(()));
    assert_eq!(check(&[], with(4, -4.7)), contradicts(4));
    assert_eq!(check(&[(3, 2.0)], with(3, -2.13)), Ok(()));
    assert_eq!(check(&[(3, 2.0)], with(3, -1.9)), contradicts(3));
    assert_eq!(check(&[(3, 2.0)], with(3, 0.0)), contradicts(3));
    assert_eq!(check(&[(3, f32::MAX)], with(3, -1e9)), Ok(()));
}

const SHAPE: VectorShape = VectorShape { texts: 2, width: 2 };

/// Two vectors of length 1, the second at so many units of the scale from where it should be.
fn vectors(units: f64) -> Vec<Vector> {
    let angle = units * f64::from(Thresholds::P32_VECTORS.scale);
    vec![
        Vector(vec![1.0, 0.0]),
        // Near the axis an f32 holds such small angles.
        Vector(vec![angle.cos() as f32, angle.sin() as f32]),
    ]
}

fn embedding_report(vectors: Vec<Vector>) -> AuditReport {
    AuditReport {
        positions: 2,
        mismatches: Vec::new(),
        log_probabilities: LogProbabilities::default(),
        vectors,
        ..report(&[])
    }
}

fn judge_embedding(reports: &[Vec<Vector>]) -> Verdict {
    let reports: Vec<_> = reports.iter().cloned().map(embedding_report).collect();
    let reports: Vec<_> = reports.iter().collect();
    vectors_verdict(&vectors(0.0), SHAPE, &reports, &Thresholds::P32_VECTORS)
}

#[test]
fn vectors_verify_fail_or_ask_for_another_reference() {
    use Status::{Failed, Undecided, Verified};
    let cases: [(&[f64], Status); 11] = [
        (&[0.0], Undecided),
        (&[0.0, 0.0], Verified),
        (&[5.0, 19.0], Verified),
        (&[0.0, 50.0], Undecided),
        (&[0.0, 50.0, 0.0], Verified),
        (&[50.0, 50.0], Undecided),
        (&[0.0, 300.0], Undecided),
        (&[0.0, 300.0, 0.0], Verified),
        (&[0.0, 300.0, 300.0], Failed),
        (&[110.0, 110.0], Failed),
        (&[1e6, 1e6], Failed),
    ];
    for (units, status) in cases {
        let reports: Vec<_> = units.iter().map(|units| vectors(*units)).collect();
        let verdict = judge_embedding(&reports);
        assert_eq!(verdict.status, status, "{units:?}: {}", verdict.reason);
    }
}

#[test]
fn an_embeddings_reasons_speak_of_vectors() {
    let reason = |units: f64| judge_embedding(&[vectors(units), vectors(units)]).reason;
    assert_eq!(reason(0.0), "2 reference nodes agree on all 2 vectors.");
    assert_eq!(
        reason(3.0),
        "2 reference nodes agree but for 1 of 2 vectors, where they differ by rounding only."
    );
    assert_eq!(
        reason(500.0),
        "2 of 2 reference nodes find that this model does not give these vectors: 1 of 2 vectors \
         differ by more than rounding can explain."
    );
}

#[test]
fn a_distance_is_counted_in_units() {
    let far = vec![Vector(vec![1.0, 0.0]), Vector(vec![-1.0, 0.0])];
    let statistics = vector_statistics(&vectors(0.0), &far, &Thresholds::P32_VECTORS);
    assert_eq!((statistics.positions, statistics.mismatches), (2, 1));
    assert!((statistics.largest - 2e6).abs() < 1.0, "{statistics:?}");
    assert!((statistics.match_rate() - 0.5).abs() < 1e-6);
}

#[test]
fn vectors_of_another_shape_are_whoever_sent_thems_fault() {
    let short = vec![Vector(vec![1.0, 0.0])];
    let judged = judge_embedding(&[short.clone(), vectors(0.0), vectors(0.0)]);
    assert_eq!(judged.status, Status::Verified);
    assert_eq!(judged.references[0].fault, Some(ReportFault::Vectors));
    let report = embedding_report(vectors(0.0));
    let failed = vectors_verdict(&short, SHAPE, &[&report, &report], &Thresholds::P32_VECTORS);
    assert_eq!(failed.status, Status::Failed);
    assert!(
        failed.reason.contains("1 vectors for 2 texts"),
        "{}",
        failed.reason
    );
}
