//! From the references' margins to a verdict (gate G1).

use std::ops::Range;

use infera_protocol::{AuditId, AuditReport, Mismatch};
use serde::{Deserialize, Serialize};

use crate::structure::{Structure, judge_structure};

/// The limits of a numerics profile.
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

/// How one reference's tokens compare with the claimed ones.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TokenStatistics {
    /// Tokens compared.
    pub positions: u32,
    /// Tokens the reference would have chosen otherwise.
    pub mismatches: u32,
    /// Mismatches with a big margin ([`Thresholds::big`]).
    pub big_margins: u32,
    /// The largest margin, in units of [`Thresholds::scale`]. Finite.
    pub largest: f32,
}

impl TokenStatistics {
    /// The share of tokens on which both agree, from 0 to 1.
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
) -> TokenStatistics {
    let mut statistics = TokenStatistics {
        positions,
        mismatches: 0,
        big_margins: 0,
        largest: 0.0,
    };
    for mismatch in mismatches {
        let margin = f64::from(mismatch.margin) / f64::from(thresholds.scale);
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
}

/// One reference's part in a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReferenceResult {
    pub audit: AuditId,
    /// Over the judged segment; none when the report was discarded.
    pub statistics: Option<TokenStatistics>,
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
        Ok(()) => decide(&references),
    };
    Verdict {
        status,
        reason,
        references,
    }
}

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

fn decide(references: &[ReferenceResult]) -> (Status, String) {
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
        return (Status::Verified, verified_reason(&usable, passing));
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
                "{failing} of {total} reference nodes find that this model did not write this: \
                 {big} of {positions} tokens differ by more than rounding can explain."
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

fn verified_reason(usable: &[(TokenStatistics, Finding)], passing: usize) -> String {
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
        format!("on all {positions} tokens")
    } else {
        format!("but for {mismatches} of {positions} tokens, where they differ by rounding only")
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
