//! Outputs with known faults: where one can be put, and whether a reference has found it.

use infera_protocol::{AuditReport, JobSeed, LogProbabilities, Sampling};

use crate::agreement::Agreement;
use crate::noise::noise;
use crate::verdict::{Finding, Thresholds, token_statistics};

/// What is known of a canary: an output that references have verified, of which one token or more
/// may have been changed since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// The log-probabilities of the tokens as they were before any was changed.
    pub computed: LogProbabilities,
    /// The first position that was changed, at one of [`certain_places`].
    pub changed: Option<u32>,
}

/// How a reference fails a canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CanaryFault {
    /// Its log-probabilities up to the first changed token do not agree with the known ones, or are
    /// not one for each token.
    #[error("its log-probabilities were not those of the model")]
    NotComputed,
    /// It has no failing margin at the first changed token.
    #[error("it did not find the wrong token that was put into an output")]
    Overlooked,
    /// It has failing margins before the first changed token, or anywhere where none was changed.
    #[error("it found faults in an output that has none")]
    Invented,
}

impl Canary {
    /// Whether a report is that of a reference that computes. Nothing after the first changed
    /// position is looked at: what the model makes of an output that it did not write, nobody has
    /// computed.
    pub fn judge(&self, report: &AuditReport, thresholds: &Thresholds) -> Result<(), CanaryFault> {
        let whole = self.computed.len();
        let sound = self.changed.map_or(whole, |position| position as usize);
        let reported = &report.log_probabilities.0;
        if reported.len() != whole
            || sound > whole
            || !Agreement::of(&self.computed.0[..sound], &reported[..sound], thresholds).holds()
        {
            return Err(CanaryFault::NotComputed);
        }
        let before = report
            .mismatches
            .iter()
            .copied()
            .filter(|mismatch| (mismatch.position as usize) < sound);
        let statistics = token_statistics(sound as u32, before, thresholds);
        if statistics.finding(thresholds) == Finding::Fail {
            return Err(CanaryFault::Invented);
        }
        let at_change = |position| {
            let mut mismatches = report.mismatches.iter().copied();
            let found = mismatches.find(|mismatch| mismatch.position == position);
            let alone = token_statistics(1, found.into_iter(), thresholds);
            alone.finding(thresholds) == Finding::Fail
        };
        match self.changed {
            Some(position) if !at_change(position) => Err(CanaryFault::Overlooked),
            _ => Ok(()),
        }
    }
}

/// Positions where each of the `candidates` with it, put in the place of the output's own token, is
/// sure to have a margin that fails the output, whoever computes it.
///
/// Where the own token has a probability above a half, its logit leads every other by at least the
/// log odds. In the race it keeps that lead over a token whose noise is no larger, and it is as far
/// from being cut by top-k and top-p, so that no margin is below the log odds over the temperature;
/// only min-p may cut it at less. Twice what fails an output is asked for, which leaves the rounding
/// of any honest reference.
pub fn certain_places(
    output: &[u32],
    computed: &LogProbabilities,
    candidates: &[u32],
    sampling: &Sampling,
    seed: &JobSeed,
    thresholds: &Thresholds,
) -> Vec<(u32, Vec<u32>)> {
    let least = 2.0 * f64::from(thresholds.hard_max) * f64::from(thresholds.scale);
    let temperature = f64::from(sampling.temperature);
    let greedy = temperature <= 0.0;
    let edge = if sampling.min_p > 0.0 && !greedy {
        -libm::log(f64::from(sampling.min_p))
    } else {
        f64::INFINITY
    };
    (0..)
        .zip(output)
        .zip(computed.surprises().zip(&computed.0))
        .filter_map(|((position, own), (surprise, bits))| {
            let surprise = surprise + LogProbabilities::rounding(*bits);
            let odds = -surprise - libm::log(-libm::expm1(-surprise));
            let lead = if greedy { odds } else { odds / temperature };
            if lead.min(edge) < least {
                return None;
            }
            let gift = |token: &u32| {
                if greedy {
                    0.0
                } else {
                    noise(seed, position, *token)
                }
            };
            let most = gift(own);
            let fitting: Vec<u32> = candidates
                .iter()
                .copied()
                .filter(|token| token != own && gift(token) <= most)
                .collect();
            (!fitting.is_empty()).then_some((position, fitting))
        })
        .collect()
}

#[cfg(test)]
mod tests;
