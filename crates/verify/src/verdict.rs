//! From the references' margins, or distances of vectors, to a verdict (gate G1).

use std::cmp::Ordering;
use std::ops::Range;

use infera_protocol::{AuditId, AuditReport, LogProbabilities, Mismatch, Profile, Vector, Writing};
use serde::{Deserialize, Serialize};

use crate::agreement::largest_agreeing;
use crate::noise::noise;
use crate::structure::{Structure, VectorShape, judge_structure, judge_vectors};

/// The limits of a numerics profile. For vectors a margin is the distance of two.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// The unit of all margins: the standard deviation of the honest difference between two
    /// competing logits, over the temperature.
    pub scale: f32,
    /// Margins above this many units are big. One of them is an alarm.
    pub big: f32,
    /// One margin above this many units fails the output.
    pub hard_max: f32,
    /// So many big margins fail the output.
    pub hard_count: u32,
}

impl Thresholds {
    /// For profile P32 (`f32` throughout). Chosen so that honest nodes whose logits differ with a
    /// Student-t4 distribution fail less than once in a million jobs of 1024 tokens.
    pub const P32: Self = Self {
        scale: 1.4e-4,
        big: 20.0,
        hard_max: 60.0,
        hard_count: 2,
    };

    /// For profile P16 (the KV cache in `f16`). From a simulation of honest nodes with activations in
    /// `f16`, whose logits differ with a Student-t4 distribution: chosen as for P32. Not calibrated:
    /// of nodes of this profile only the CPU and software Vulkan were measured against them.
    pub const P16: Self = Self {
        scale: 7e-3,
        big: 20.0,
        hard_max: 200.0,
        hard_count: 2,
    };

    /// For the vectors of profile P32, whose distance is that of two points on the unit sphere: the
    /// square root of their mean square error, normalised. The unit is what `f32` rounding in
    /// another order does to one. Two backends differ on all texts alike, so that many big
    /// distances say no more than one; only the largest decides.
    pub const P32_VECTORS: Self = Self {
        scale: 1e-6,
        big: 20.0,
        hard_max: 100.0,
        hard_count: u32::MAX,
    };

    /// For the tokens of a model in a profile.
    pub const fn of(profile: Profile) -> Self {
        match profile {
            Profile::P32 => Self::P32,
            Profile::P16 => Self::P16,
        }
    }
}

/// What one reference found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Rounding explains every difference.
    Clean,
    /// Rounding hardly explains it: worth another look, no reason to punish.
    Alarm,
    /// Rounding does not explain it.
    Fail,
}

/// How one reference's tokens or vectors compare with the claimed ones.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Tokens or vectors compared.
    pub positions: u32,
    /// Tokens the reference would have chosen otherwise, or vectors that are not the same.
    pub mismatches: u32,
    /// Mismatches with a big margin ([`Thresholds::big`]).
    pub big_margins: u32,
    /// The largest margin, in units of [`Thresholds::scale`]. Finite.
    pub largest: f32,
}

impl Statistics {
    /// The share of tokens or vectors on which both agree, from 0 to 1.
    pub fn match_rate(&self) -> f32 {
        if self.positions == 0 {
            1.0
        } else {
            1.0 - self.mismatches as f32 / self.positions as f32
        }
    }

    /// A single largest margin or the number of big ones decides.
    pub fn finding(&self, thresholds: &Thresholds) -> Finding {
        if self.largest > thresholds.hard_max || self.big_margins >= thresholds.hard_count {
            Finding::Fail
        } else if self.big_margins > 0 {
            Finding::Alarm
        } else {
            Finding::Clean
        }
    }
}

/// Sums up the mismatches among `positions` compared tokens.
pub fn token_statistics(
    positions: u32,
    mismatches: impl Iterator<Item = Mismatch>,
    thresholds: &Thresholds,
) -> Statistics {
    let margins = mismatches.map(|mismatch| f64::from(mismatch.margin));
    statistics(positions, margins, thresholds)
}

/// Compares vectors of the same shape, each pair by itself.
pub fn vector_statistics(
    claimed: &[Vector],
    own: &[Vector],
    thresholds: &Thresholds,
) -> Statistics {
    let distances = claimed
        .iter()
        .zip(own)
        .map(|(claimed, own)| distance(claimed, own))
        .filter(|distance| *distance > 0.0);
    statistics(claimed.len() as u32, distances, thresholds)
}

/// Euclidean, in f64.
fn distance(one: &Vector, other: &Vector) -> f64 {
    let square: f64 = one
        .0
        .iter()
        .zip(&other.0)
        .map(|(one, other)| (f64::from(*one) - f64::from(*other)).powi(2))
        .sum();
    square.sqrt()
}

fn statistics(
    positions: u32,
    margins: impl Iterator<Item = f64>,
    thresholds: &Thresholds,
) -> Statistics {
    let mut statistics = Statistics {
        positions,
        mismatches: 0,
        big_margins: 0,
        largest: 0.0,
    };
    for margin in margins {
        let margin = margin / f64::from(thresholds.scale);
        let margin = margin.min(f64::from(f32::MAX)) as f32;
        statistics.mismatches += 1;
        statistics.big_margins += u32::from(margin > thresholds.big);
        statistics.largest = statistics.largest.max(margin);
    }
    statistics
}

/// What is wrong with a reference's report. It is the reference's fault, not the worker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportFault {
    /// It scored another number of tokens than the output has.
    #[error("it covers {found} tokens where {expected} are due")]
    Positions {
        /// How many positions the report says it has.
        found: u32,
        /// The length of the output.
        expected: u32,
    },
    /// Its mismatches are not by rising position, or one is beyond the output.
    #[error("its positions are not in order or beyond the output")]
    Order,
    /// A mismatch names a token beyond the vocabulary, or the claimed token itself.
    #[error("it names a token beyond the vocabulary, or the claimed token, as its own choice")]
    Token,
    /// A margin is negative, infinite or not a number.
    #[error("a margin is negative or not a number")]
    Margin,
    /// Its vectors break a rule ([`crate::VectorFault`]), or the claimed ones do, so that none can
    /// be compared.
    #[error("its vectors are not of this model's shape, or not one for each text")]
    Vectors,
    /// Its log-probabilities are not one for each token, or not from minus 65504 to 0.
    #[error("its log-probabilities are no numbers, or not one for each token")]
    LogProbabilities,
    /// A log-probability that cannot be that of the choice made there: a chosen token too unlikely
    /// to win the race, or at temperature 0 a mismatch too likely for its margin.
    #[error("the log-probability at position {position} contradicts its choice there")]
    Contradiction {
        /// The first such output position, from 0.
        position: u32,
    },
    /// It is outside the largest set of reports whose log-probabilities agree (`verification.md`,
    /// References).
    #[error("its log-probabilities are not those of the other reference nodes")]
    Apart,
}

/// One reference's part in a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReferenceResult {
    /// The check that the report answers.
    pub audit: AuditId,
    /// Over the judged segment; none when the report was discarded.
    pub statistics: Option<Statistics>,
    /// What the statistics come to; none when the report was discarded.
    pub finding: Option<Finding>,
    /// Why the report was discarded.
    pub fault: Option<ReportFault>,
}

/// What becomes of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// No rule is broken, and the references find what the node claimed, but for rounding.
    Verified,
    /// A rule of structure is broken, or a strict majority of the references finds differences that
    /// rounding does not explain.
    Failed,
    /// Another reference must be asked.
    Undecided,
}

/// What the rule makes of an output and the reports on it so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it is decided, and how.
    pub status: Status,
    /// One sentence for the person whose node produced the output.
    pub reason: String,
    /// In the order of the reports.
    pub references: Vec<ReferenceResult>,
}

/// Judges the output positions in `segment`, the part that one node produced.
///
/// A broken rule of structure fails the output whatever the references say. Otherwise at least two
/// usable reports are needed. Two decide when both are clean or both fail; three or more decide by
/// a strict majority of failing or not failing. Anything else is undecided. A malformed report is
/// left out and named, and so are all but the largest set of reports whose log-probabilities agree
/// ([`crate::Agreement`]): who computed nothing agrees with nobody, or with its like. So while
/// others `can_be_asked`, that set must lead by two reports, so that two who are lazy in the same way
/// do not outvote the one who computed; else by one.
///
/// An alarm does not punish: three references see the same rounding of the worker, so their
/// agreement on an alarm makes it no less likely to be honest.
pub fn verdict(
    segment: Range<u32>,
    structure: &Structure,
    reports: &[&AuditReport],
    thresholds: &Thresholds,
    can_be_asked: bool,
) -> Verdict {
    let mut faults: Vec<_> = reports
        .iter()
        .map(|report| check_report(structure, report).err())
        .collect();
    let sound: Vec<_> = (0..reports.len())
        .filter(|at| faults[*at].is_none())
        .collect();
    let computed: Vec<_> = sound
        .iter()
        .map(|at| reports[*at].log_probabilities.0.as_slice())
        .collect();
    let lead = if can_be_asked { 2 } else { 1 };
    let agreeing = largest_agreeing(&computed, thresholds, lead);
    for (at, agrees) in sound.into_iter().zip(agreeing) {
        if !agrees {
            faults[at] = Some(ReportFault::Apart);
        }
    }
    let references: Vec<_> = reports
        .iter()
        .zip(faults)
        .map(|(report, fault)| judge_report(&segment, report, fault, thresholds))
        .collect();
    let (status, reason) = match judge_structure(structure) {
        Err(fault) => (
            Status::Failed,
            format!("The output breaks a rule of the network: {fault}."),
        ),
        Ok(()) => decide(&references, &TOKENS),
    };
    Verdict {
        status,
        reason,
        references,
    }
}

impl Verdict {
    /// Reports that were discarded, or whose finding the others outvoted: of two that contradict
    /// each other one must be wrong.
    pub fn outvoted(&self) -> impl Iterator<Item = AuditId> {
        let found = |wanted| {
            let findings = self.references.iter().filter_map(|one| one.finding);
            findings.filter(|finding| *finding == wanted).count()
        };
        let (clean, failing) = (found(Finding::Clean), found(Finding::Fail));
        let passing = clean + found(Finding::Alarm);
        let outvoted = match failing.cmp(&passing) {
            Ordering::Greater => Some(Finding::Clean),
            Ordering::Less => Some(Finding::Fail),
            Ordering::Equal => None,
        };
        self.references
            .iter()
            .filter(move |one| {
                one.fault.is_some() || (outvoted.is_some() && one.finding == outvoted)
            })
            .map(|one| one.audit)
    }
}

/// Judges the vectors of an embedding, all of one node, by the rules of [`verdict`].
pub fn vectors_verdict(
    claimed: &[Vector],
    shape: VectorShape,
    reports: &[&AuditReport],
    thresholds: &Thresholds,
) -> Verdict {
    let structure = judge_vectors(claimed, shape);
    let references: Vec<_> = reports
        .iter()
        .map(|report| {
            let usable = structure.is_ok() && judge_vectors(&report.vectors, shape).is_ok();
            let statistics =
                usable.then(|| vector_statistics(claimed, &report.vectors, thresholds));
            ReferenceResult {
                audit: report.audit,
                statistics,
                finding: statistics.map(|statistics| statistics.finding(thresholds)),
                fault: (!usable).then_some(ReportFault::Vectors),
            }
        })
        .collect();
    let (status, reason) = match structure {
        Err(fault) => (
            Status::Failed,
            format!("The output breaks a rule of the network: {fault}."),
        ),
        Ok(()) => decide(&references, &VECTORS),
    };
    Verdict {
        status,
        reason,
        references,
    }
}

/// What a verdict's reason calls what was compared.
struct Terms {
    plural: &'static str,
    /// What failing references find, in one clause.
    failure: &'static str,
}

const TOKENS: Terms = Terms {
    plural: "tokens",
    failure: "this model did not write this",
};
const VECTORS: Terms = Terms {
    plural: "vectors",
    failure: "this model does not give these vectors",
};

fn judge_report(
    segment: &Range<u32>,
    report: &AuditReport,
    fault: Option<ReportFault>,
    thresholds: &Thresholds,
) -> ReferenceResult {
    let statistics = fault.is_none().then(|| {
        let mismatches = report
            .mismatches
            .iter()
            .copied()
            .filter(|mismatch| segment.contains(&mismatch.position));
        token_statistics(segment.len() as u32, mismatches, thresholds)
    });
    ReferenceResult {
        audit: report.audit,
        statistics,
        finding: statistics.map(|statistics| statistics.finding(thresholds)),
        fault,
    }
}

/// Checks a report by itself; the first fault is returned.
fn check_report(structure: &Structure, report: &AuditReport) -> Result<(), ReportFault> {
    let expected = structure.output.len() as u32;
    if report.positions != expected {
        return Err(ReportFault::Positions {
            found: report.positions,
            expected,
        });
    }
    let mut next = 0;
    for mismatch in &report.mismatches {
        if mismatch.position < next || mismatch.position >= expected {
            return Err(ReportFault::Order);
        }
        next = mismatch.position + 1;
        let claimed = structure.output[mismatch.position as usize];
        if mismatch.token >= structure.vocabulary || mismatch.token == claimed {
            return Err(ReportFault::Token);
        }
        if !(mismatch.margin >= 0.0 && mismatch.margin.is_finite()) {
            return Err(ReportFault::Margin);
        }
    }
    let computed = &report.log_probabilities;
    if computed.len() != structure.output.len() || !computed.are_sound() {
        return Err(ReportFault::LogProbabilities);
    }
    contradiction(structure, report).map_or(Ok(()), |position| {
        Err(ReportFault::Contradiction { position })
    })
}

/// The first position where a log-probability cannot be that of the choice that was made there.
///
/// A claimed token that is the own choice had the largest logit plus noise, and no noise is below
/// [`LEAST_NOISE`], so that its logit was not far below the largest; the largest of `n` has a
/// probability of at least `1/n`. At temperature 0 there is no noise, and a mismatch's margin is the
/// lead of another token's logit.
fn contradiction(structure: &Structure, report: &AuditReport) -> Option<u32> {
    /// Far more than any rounding, and far less than any guess.
    const SLACK: f64 = 0.01;
    const LEAST_NOISE: f64 = -3.2;
    let Writing { sampling, seed, .. } = structure.writing;
    let temperature = f64::from(sampling.temperature);
    let greedy = temperature <= 0.0;
    let open = libm::log(f64::from(structure.vocabulary));
    let mut mismatches = report.mismatches.iter().peekable();
    let computed = &report.log_probabilities;
    (0..)
        .zip(structure.output)
        .zip(computed.surprises().zip(&computed.0))
        .find_map(|((position, claimed), (surprise, bits))| {
            let rounding = LogProbabilities::rounding(*bits) + SLACK;
            let own = mismatches.next_if(|mismatch| mismatch.position == position);
            let fits = match own {
                Some(mismatch) if greedy => {
                    // Probabilities below what 16 bits hold are written as the lowest.
                    let lead = f64::from(mismatch.margin).min(60_000.0);
                    surprise + rounding >= lead * 0.999
                }
                Some(_) => true,
                None => {
                    let gift = if greedy {
                        0.0
                    } else {
                        temperature * (f64::from(noise(seed, position, *claimed)) - LEAST_NOISE)
                    };
                    surprise - rounding <= open + gift
                }
            };
            (!fits).then_some(position)
        })
}

fn decide(references: &[ReferenceResult], terms: &Terms) -> (Status, String) {
    let usable: Vec<_> = references
        .iter()
        .filter_map(|reference| reference.statistics.zip(reference.finding))
        .collect();
    let count = |wanted| {
        usable
            .iter()
            .filter(|(_, finding)| *finding == wanted)
            .count()
    };
    let (clean, failing) = (count(Finding::Clean), count(Finding::Fail));
    let total = usable.len();
    let passing = total - failing;
    if total < 2 {
        let apart = references
            .iter()
            .filter(|reference| reference.fault == Some(ReportFault::Apart))
            .count();
        let malformed = references.len() - total;
        let reason = match malformed {
            _ if apart > 0 => "The reference nodes computed different probabilities, so another \
                               one is asked."
                .to_owned(),
            0 => "Not enough reference nodes have reported yet.".to_owned(),
            _ => format!(
                "{} in an unusable way, so another reference node is asked.",
                nodes(malformed, "reported")
            ),
        };
        return (Status::Undecided, reason);
    }
    if clean == total || (total > 2 && 2 * passing > total) {
        return (Status::Verified, verified_reason(&usable, passing, terms));
    }
    if 2 * failing > total {
        let worst = usable
            .iter()
            .filter(|(_, finding)| *finding == Finding::Fail)
            .map(|(statistics, _)| statistics)
            .max_by_key(|statistics| statistics.big_margins);
        let (big, positions) = worst.map_or((0, 0), |worst| (worst.big_margins, worst.positions));
        return (
            Status::Failed,
            format!(
                "{failing} of {total} reference nodes find that {}: {big} of {positions} {} differ \
                 by more than rounding can explain.",
                terms.failure, terms.plural
            ),
        );
    }
    let reason = if failing == 0 {
        "A reference node sees a difference that rounding hardly explains, so another one is asked."
    } else {
        "The reference nodes disagree, so another one is asked."
    };
    (Status::Undecided, reason.to_owned())
}

fn verified_reason(usable: &[(Statistics, Finding)], passing: usize, terms: &Terms) -> String {
    let plural = terms.plural;
    let mismatches = usable
        .iter()
        .filter(|(_, finding)| *finding != Finding::Fail)
        .map(|(statistics, _)| statistics.mismatches)
        .max()
        .unwrap_or(0);
    let positions = usable
        .first()
        .map_or(0, |(statistics, _)| statistics.positions);
    let agreement = if mismatches == 0 {
        format!("on all {positions} {plural}")
    } else {
        format!("but for {mismatches} of {positions} {plural}, where they differ by rounding only")
    };
    if passing == usable.len() {
        format!("{} {agreement}.", nodes(passing, "agree"))
    } else {
        format!(
            "{passing} of {} reference nodes agree {agreement}.",
            usable.len()
        )
    }
}

/// `verb` is that of several nodes, with its `s` for one where it has any.
fn nodes(count: usize, verb: &str) -> String {
    if count == 1 {
        let verb = if verb == "agree" { "agrees" } else { verb };
        format!("A reference node {verb}")
    } else {
        format!("{count} reference nodes {verb}")
    }
}

#[cfg(test)]
mod tests;
