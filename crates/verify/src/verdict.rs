//! From the references' margins, or distances of vectors, to a verdict (gate G1).

use std::ops::Range;

use infera_protocol::{AuditId, AuditReport, Mismatch, Profile, Vector};
use serde::{Deserialize, Serialize};

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
    #[error("it covers {found} tokens where {expected} are due")]
    Positions { found: u32, expected: u32 },
    #[error("its positions are not in order or beyond the output")]
    Order,
    #[error("it names a token beyond the vocabulary, or the claimed token, as its own choice")]
    Token,
    #[error("a margin is negative or not a number")]
    Margin,
    #[error("its vectors are not of this model's shape, or not one for each text")]
    Vectors,
}

/// One reference's part in a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReferenceResult {
    pub audit: AuditId,
    /// Over the judged segment; none when the report was discarded.
    pub statistics: Option<Statistics>,
    pub finding: Option<Finding>,
    /// Why the report was discarded.
    pub fault: Option<ReportFault>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Verified,
    Failed,
    /// Another reference must be asked.
    Undecided,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
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
/// left out and named.
///
/// An alarm does not punish: three references see the same rounding of the worker, so their
/// agreement on an alarm makes it no less likely to be honest.
pub fn verdict(
    segment: Range<u32>,
    structure: &Structure,
    reports: &[&AuditReport],
    thresholds: &Thresholds,
) -> Verdict {
    let references: Vec<_> = reports
        .iter()
        .map(|report| judge_report(&segment, structure, report, thresholds))
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
    structure: &Structure,
    report: &AuditReport,
    thresholds: &Thresholds,
) -> ReferenceResult {
    let mut result = ReferenceResult {
        audit: report.audit,
        statistics: None,
        finding: None,
        fault: None,
    };
    if let Err(fault) = check_report(structure, report) {
        result.fault = Some(fault);
        return result;
    }
    let mismatches = report
        .mismatches
        .iter()
        .copied()
        .filter(|mismatch| segment.contains(&mismatch.position));
    let statistics = token_statistics(segment.len() as u32, mismatches, thresholds);
    result.finding = Some(statistics.finding(thresholds));
    result.statistics = Some(statistics);
    result
}

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
    Ok(())
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
        let malformed = references.len() - total;
        let reason = match malformed {
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

fn nodes(count: usize, verb: &str) -> String {
    if count == 1 {
        format!("A reference node {verb}")
    } else {
        format!("{count} reference nodes {verb}")
    }
}

#[cfg(test)]
mod tests;
