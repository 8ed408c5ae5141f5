//! Choosing a token, and measuring how far another choice was from being the right one.

use std::cmp::Ordering;

use infera_protocol::{JobSeed, Sampling};

use crate::noise::noise;

/// What a reference makes of one claimed token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// The reference's own choice.
    pub token: u32,
    /// 0 when the claimed token is the own choice, or lost to it by a tie only. Otherwise about
    /// twice the smallest uniform error of the logits that would make it the right choice, in
    /// units of the temperature (of 1 at temperature 0). Finite; `f32::MAX` where no error of the
    /// logits could explain the claim.
    pub margin: f32,
}

/// The token that a model with these `logits` (one per vocabulary id) produces at an output
/// position. Pure, and the same on every platform.
///
/// At temperature 0 it is the largest logit. Otherwise, with `l` the logits over the temperature:
/// keep the `top_k` largest and all that tie with the last of them; of these keep what is at least
/// the largest plus `ln(min_p)`; of these, ranked by logit and then by id, keep what has less than
/// `top_p` of the probability ranked above it; then take the largest `l` plus [`noise`]. Ties go
/// to the lowest id. A logit that is NaN or infinite counts as the lowest there is.
///
/// Returns 0 for empty `logits`.
pub fn choose(logits: &[f32], sampling: &Sampling, seed: &JobSeed, position: u32) -> u32 {
    if is_greedy(sampling) {
        return greedy(logits);
    }
    let kept = Kept::new(logits, sampling, None);
    winner(&kept.race(seed, position))
}

/// Compares a claimed token with the own choice. Implements the minimal-perturbation margin: for
/// the claimed token `c` and the kept set `A`,
///
/// `margin = max(edge(c), max over v in A that beat c of min(edge(v), lead of v over c))`,
///
/// where the edge of a kept token is its distance from being cut, that of a cut token its distance
/// from being kept (0 for a kept `c`). For top-k the distance is to the next logit on the other
/// side, for min-p to the cut-off, both over the temperature; for top-p it is the difference of
/// the log odds of the probability ranked above the token and of `top_p`. A token that only one of
/// several filters has to change for takes the smaller distance, one that all have to change for
/// the larger.
///
/// Generalises the margin of Karvonen et al., "`DiFR`: inference verification despite
/// nondeterminism", arXiv 2511.20621, to truncated sampling.
pub fn score(
    logits: &[f32],
    sampling: &Sampling,
    seed: &JobSeed,
    position: u32,
    claimed: u32,
) -> Scored {
    let Some(claimed_logit) = logits.get(claimed as usize) else {
        return Scored {
            token: choose(logits, sampling, seed, position),
            margin: f32::MAX,
        };
    };
    if is_greedy(sampling) {
        let token = greedy(logits);
        let best = f64::from(defined(logits[token as usize]));
        return Scored {
            token,
            margin: finite(best - f64::from(defined(*claimed_logit))),
        };
    }
    let kept = Kept::new(logits, sampling, Some(claimed));
    let race = kept.race(seed, position);
    let token = winner(&race);
    let (claim_edge, claim_level) = kept.claim(seed, position);
    let margin = race
        .iter()
        .zip(&kept.tokens)
        .filter(|((_, level), _)| *level > claim_level)
        .map(|((_, level), candidate)| candidate.edge.min(level - claim_level))
        .fold(claim_edge, f64::max);
    Scored {
        token,
        margin: if token == claimed {
            0.0
        } else {
            finite(margin)
        },
    }
}

/// The natural logarithm of the probability of `chosen` at temperature 1, and the `top` most
/// likely tokens with theirs, best first, ties by id. Computed in f64.
pub fn log_probabilities(logits: &[f32], chosen: u32, top: usize) -> (f32, Vec<(u32, f32)>) {
    let largest = f64::from(logits.iter().copied().map(defined).fold(f32::MIN, f32::max));
    let sum: f64 = logits
        .iter()
        .map(|logit| libm::exp(f64::from(defined(*logit)) - largest))
        .sum();
    let normaliser = largest + libm::log(sum);
    let log_probability = |logit: f32| {
        let value = f64::from(defined(logit)) - normaliser;
        value.clamp(f64::from(f32::MIN), 0.0) as f32
    };
    let mut best = if top == 0 {
        Vec::new()
    } else {
        let (threshold, _) = thresholds(logits, top);
        at_least(logits, threshold)
    };
    best.truncate(top);
    (
        logits
            .get(chosen as usize)
            .map_or(f32::MIN, |logit| log_probability(*logit)),
        best.into_iter()
            .map(|(id, logit)| (id, log_probability(logit)))
            .collect(),
    )
}

/// A token that takes part in the race.
struct Candidate {
    id: u32,
    /// The logit over the temperature.
    level: f64,
    /// How far it is from being cut.
    edge: f64,
}

/// What the filters leave.
struct Kept {
    /// By falling logit, then by rising id.
    tokens: Vec<Candidate>,
    /// The claimed token, its logit over the temperature and its distance from being kept.
    claim: Option<(u32, f64, f64)>,
}

impl Kept {
    /// `claimed`, when given, must be in the vocabulary.
    fn new(logits: &[f32], sampling: &Sampling, claimed: Option<u32>) -> Self {
        let temperature = f64::from(sampling.temperature);
        let level = |logit: f32| f64::from(logit) / temperature;

        let (last_kept, first_cut) = thresholds(logits, sampling.top_k as usize);
        let mut tokens: Vec<Candidate> = at_least(logits, last_kept)
            .into_iter()
            .map(|(id, logit)| Candidate {
                id,
                level: level(logit),
                edge: first_cut.map_or(f64::INFINITY, |cut| level(logit) - level(cut)),
            })
            .collect();
        let claimed_at = |tokens: &[Candidate]| {
            claimed.and_then(|id| tokens.iter().position(|token| token.id == id))
        };
        let mut claim = claimed.map(|id| {
            let own = level(defined(logits[id as usize]));
            (id, own, (level(last_kept) - own).max(0.0))
        });

        if sampling.min_p > 0.0
            && let Some(best) = tokens.first()
        {
            let cut = best.level + libm::log(f64::from(sampling.min_p));
            tokens.retain(|token| token.level >= cut);
            for token in &mut tokens {
                token.edge = token.edge.min(token.level - cut);
            }
            if let Some((_, own, edge)) = &mut claim {
                *edge = edge.max(cut - *own);
            }
        }

        if sampling.top_p < 1.0
            && let Some(best) = tokens.first()
        {
            let (best, outside) = (best.level, claimed_at(&tokens).is_none());
            let weights: Vec<f64> = tokens
                .iter()
                .map(|token| libm::exp(token.level - best))
                .collect();
            let total: f64 = weights.iter().sum();
            let limit = f64::from(sampling.top_p);
            if outside && let Some((_, own, edge)) = &mut claim {
                // Where it would stand if the earlier filters had let it in, last of all.
                let above = total - weights.last().copied().unwrap_or(0.0);
                let odds = log_odds(above / (above + libm::exp(*own - best)));
                *edge = edge.max(odds - log_odds(limit));
            }
            let mut above = 0.0;
            let mut kept = 0;
            for (rank, (token, weight)) in tokens.iter_mut().zip(&weights).enumerate() {
                let share = above / total;
                let distance = log_odds(share) - log_odds(limit);
                if rank == 0 {
                    kept = 1;
                } else if share < limit {
                    kept = rank + 1;
                    token.edge = token.edge.min(-distance);
                } else if let Some((id, _, edge)) = &mut claim
                    && *id == token.id
                {
                    *edge = edge.max(distance);
                }
                above += weight;
            }
            tokens.truncate(kept);
        }

        if claimed_at(&tokens).is_some()
            && let Some((_, _, edge)) = &mut claim
        {
            *edge = 0.0;
        }
        Self { tokens, claim }
    }

    /// Ids and noisy levels of the kept tokens, in their order.
    fn race(&self, seed: &JobSeed, position: u32) -> Vec<(u32, f64)> {
        self.tokens
            .iter()
            .map(|token| {
                let gumbel = f64::from(noise(seed, position, token.id));
                (token.id, token.level + gumbel)
            })
            .collect()
    }

    /// Distance from being kept and noisy level of the claimed token.
    fn claim(&self, seed: &JobSeed, position: u32) -> (f64, f64) {
        self.claim
            .map_or((0.0, f64::INFINITY), |(id, level, edge)| {
                (edge, level + f64::from(noise(seed, position, id)))
            })
    }
}

fn is_greedy(sampling: &Sampling) -> bool {
    // A NaN is refused long before; here it must only not divide.
    sampling.temperature <= 0.0 || sampling.temperature.is_nan()
}

fn greedy(logits: &[f32]) -> u32 {
    let mut best = (0, f32::MIN);
    for (id, logit) in logits.iter().enumerate() {
        if defined(*logit) > best.1 {
            best = (id, *logit);
        }
    }
    best.0 as u32
}

fn winner(race: &[(u32, f64)]) -> u32 {
    race.iter()
        .copied()
        .reduce(|best, next| {
            let wins = match next.1.partial_cmp(&best.1) {
                Some(Ordering::Greater) => true,
                Some(Ordering::Equal) => next.0 < best.0,
                _ => false,
            };
            if wins { next } else { best }
        })
        .map_or(0, |(id, _)| id)
}

fn defined(logit: f32) -> f32 {
    if logit.is_finite() { logit } else { f32::MIN }
}

fn finite(margin: f64) -> f32 {
    margin.clamp(0.0, f64::from(f32::MAX)) as f32
}

/// `ln(x / (1 - x))`, with `x` kept away from 0 and 1 by a millionth of a millionth.
fn log_odds(share: f64) -> f64 {
    let share = share.clamp(1e-12, 1.0 - 1e-12);
    libm::log(share / (1.0 - share))
}

/// The `count`-th largest logit and the one after it; the smallest of all when there are fewer.
/// One pass with a buffer, since a vocabulary has up to 300,000 tokens and `count` is small.
fn thresholds(logits: &[f32], count: usize) -> (f32, Option<f32>) {
    let wanted = count.max(1) + 1;
    let falling = |left: &f32, right: &f32| right.total_cmp(left);
    let mut buffer: Vec<f32> = Vec::with_capacity(4 * wanted);
    let mut floor = None;
    for logit in logits.iter().copied().map(defined) {
        if floor.is_some_and(|floor| logit <= floor) {
            continue;
        }
        buffer.push(logit);
        if buffer.len() == 4 * wanted {
            let (_, last, _) = buffer.select_nth_unstable_by(wanted - 1, falling);
            floor = Some(*last);
            buffer.truncate(wanted);
        }
    }
    buffer.sort_unstable_by(falling);
    let last = buffer.get(wanted - 2).or(buffer.last());
    (
        last.copied().unwrap_or(f32::MIN),
        buffer.get(wanted - 1).copied(),
    )
}

/// All tokens with at least this logit, by falling logit, then by rising id.
fn at_least(logits: &[f32], threshold: f32) -> Vec<(u32, f32)> {
    let mut found: Vec<(u32, f32)> = (0..)
        .zip(logits.iter().copied().map(defined))
        .filter(|(_, logit)| *logit >= threshold)
        .collect();
    // Stable, so ids stay in order; -0 and 0 are the same logit.
    found.sort_by(|left, right| right.1.partial_cmp(&left.1).unwrap_or(Ordering::Equal));
    found
}

#[cfg(test)]
mod tests;
