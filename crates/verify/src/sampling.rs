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
    choose_among(&best(logits, needed(sampling)), sampling, seed, position)
}

/// As [`choose`], given no more of the logits than [`best`] with the count that is [`needed`], or
/// a larger one.
pub fn choose_among(
    best: &[(u32, f32)],
    sampling: &Sampling,
    seed: &JobSeed,
    position: u32,
) -> u32 {
    if is_greedy(sampling) {
        return best.first().map_or(0, |(id, _)| *id);
    }
    winner(&Kept::new(best, sampling).race(seed, position))
}

/// How many of the largest logits decide.
pub fn needed(sampling: &Sampling) -> usize {
    if is_greedy(sampling) {
        1
    } else {
        (sampling.top_k as usize).max(1)
    }
}

/// The tokens with the `count` largest logits and all that tie with the last of them, by falling
/// logit, then by rising id.
pub fn best(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    at_least(logits, nth_largest(logits, count))
}

/// Whether there is anything to choose, given what [`best`] gives. Where every logit is undefined,
/// all are the lowest there is, and a choice among them would mean nothing.
pub fn is_defined(best: &[(u32, f32)]) -> bool {
    best.first().is_some_and(|(_, logit)| *logit > f32::MIN)
}

/// Compares a claimed token with the own choice. Implements the minimal-perturbation margin: for
/// the claimed token `c` and the kept set `A`,
///
/// `margin = max(edge(c), max over v in A that beat c of min(edge(v), lead of v over c))`,
///
/// where the edge of a kept token is its distance from being cut and that of a cut token its
/// distance from being kept (0 for a kept `c`). Each distance is twice the smallest uniform error
/// of the logits, over the temperature, that could move the token over that edge: for top-k the
/// gap to the next logit on the other side, for min-p the gap to the cut-off, and for top-p the
/// change in log odds of the probability ranked above the token, taking into account that within
/// the same error tokens may change their rank or be cut themselves.
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
        let (token, highest) = best(logits, 1).first().copied().unwrap_or((0, f32::MIN));
        return Scored {
            token,
            margin: finite(f64::from(highest) - f64::from(defined(*claimed_logit))),
        };
    }
    let kept = Kept::new(&best(logits, needed(sampling) + 1), sampling);
    let race = kept.race(seed, position);
    let token = winner(&race);
    if token == claimed {
        return Scored { token, margin: 0.0 };
    }
    let edges = Edges::new(logits, sampling, &kept.filters);
    let claim = Candidate {
        id: claimed,
        level: kept.filters.level(defined(*claimed_logit)),
    };
    let noisy_claim = claim.level + f64::from(noise(seed, position, claimed));
    let mut margin = edges.to_being_kept(&claim);
    for ((_, noisy), rival) in race.iter().zip(&kept.tokens) {
        let lead = noisy - noisy_claim;
        if lead > margin {
            margin = margin.max(lead.min(edges.to_being_cut(rival)));
        }
    }
    Scored {
        token,
        margin: finite(margin),
    }
}

/// The natural logarithm of the probability of `chosen` at temperature 1, and the `top` most
/// likely tokens with theirs, best first, ties by id.
pub fn log_probabilities(logits: &[f32], chosen: u32, top: usize) -> (f32, Vec<(u32, f32)>) {
    let softmax = Softmax::new(logits);
    let log_probability = |logit| {
        softmax
            .log_probability(logit)
            .clamp(f64::from(f32::MIN), 0.0) as f32
    };
    let mut most_likely = if top == 0 {
        Vec::new()
    } else {
        best(logits, top)
    };
    most_likely.truncate(top);
    (
        logits
            .get(chosen as usize)
            .map_or(f32::MIN, |logit| log_probability(*logit)),
        most_likely
            .into_iter()
            .map(|(id, logit)| (id, log_probability(logit)))
            .collect(),
    )
}

/// The natural logarithm of a token's probability at temperature 1, before any filter: what a
/// reference reports of a claimed token ([`infera_protocol::LogProbabilities`]). Its error is
/// below a millionth of one minus the probability, so that even that of a token that is nearly
/// certain has as many digits as 16 bits hold.
pub fn log_probability(logits: &[f32], token: u32) -> f64 {
    logits
        .get(token as usize)
        .map_or(f64::from(f32::MIN), |logit| {
            Softmax::new(logits).log_probability(*logit)
        })
}

/// What turns logits into log-probabilities.
struct Softmax {
    largest: f64,
    /// The logarithm of the sum of all weights, where that of the largest is 1.
    log_sum: f64,
}

impl Softmax {
    fn new(logits: &[f32]) -> Self {
        const LANES: usize = 8;
        let largest = logits.iter().copied().map(defined).fold(f32::MIN, f32::max);
        let mut sums = [0.0_f64; LANES];
        for block in logits.chunks(LANES) {
            for (sum, logit) in sums.iter_mut().zip(block) {
                *sum += f64::from(weight(defined(*logit) - largest));
            }
        }
        Self {
            largest: f64::from(largest),
            log_sum: libm::log(sums.iter().sum()),
        }
    }

    fn log_probability(&self, logit: f32) -> f64 {
        f64::from(defined(logit)) - self.largest - self.log_sum
    }
}

/// `exp(x)` for `x` up to 0, to about `1e-7` of it. Additions and multiplications alone, so that
/// the compiler can do several at once, and all platforms agree. A vocabulary has up to 300,000
/// tokens, and a reference does this for each of them at each position.
fn weight(x: f32) -> f32 {
    /// Adding it rounds to a whole number, which stands in the last bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.max(-87.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let power = rounded - ROUND;
    // The logarithm of 2 in two parts, the first with so few bits that the product is exact.
    let rest = x - power * 0.693_359_4 + power * 2.121_944_4e-4;
    let series = ((((1.987_569_1e-4 * rest + 1.398_199_9e-3) * rest + 8.333_452e-3) * rest
        + 4.166_579_6e-2)
        * rest
        + 1.666_666_5e-1)
        * rest
        + 0.5;
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits());
    let scale = f32::from_bits(exponent.wrapping_add(127) << 23);
    (series * rest * rest + rest + 1.0) * scale
}

/// A token and its logit over the temperature.
#[derive(Clone, Copy)]
struct Candidate {
    id: u32,
    level: f64,
}

/// What the filters leave.
struct Kept {
    filters: Filters,
    /// By falling logit, then by rising id.
    tokens: Vec<Candidate>,
}

impl Kept {
    /// Filters the [`best`] logits. Where edges matter, they are one more than is [`needed`].
    fn new(best: &[(u32, f32)], sampling: &Sampling) -> Self {
        let count = needed(sampling);
        let last_kept = best.get(count - 1).or(best.last());
        let last_kept = last_kept.map_or(f32::MIN, |(_, logit)| *logit);
        let mut filters = Filters {
            temperature: f64::from(sampling.temperature),
            last_kept,
            first_cut: best.get(count).map(|(_, logit)| *logit),
            min_p_cut: f64::NEG_INFINITY,
        };
        let mut tokens: Vec<Candidate> = best
            .iter()
            .take_while(|(_, logit)| *logit >= last_kept)
            .map(|(id, logit)| Candidate {
                id: *id,
                level: filters.level(*logit),
            })
            .collect();
        let highest = tokens.first().map_or(0.0, |token| token.level);
        if sampling.min_p > 0.0 {
            filters.min_p_cut = highest + libm::log(f64::from(sampling.min_p));
            tokens.retain(|token| token.level >= filters.min_p_cut);
        }
        if sampling.top_p < 1.0 {
            let weight = |token: &Candidate| libm::exp(token.level - highest);
            let limit = f64::from(sampling.top_p) * tokens.iter().map(weight).sum::<f64>();
            let mut above = 0.0;
            let mut kept = 0;
            for token in &tokens {
                if kept > 0 && above >= limit {
                    break;
                }
                above += weight(token);
                kept += 1;
            }
            tokens.truncate(kept);
        }
        Self { filters, tokens }
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
}

/// Temperature, top-k and min-p, as far as they depend on the logits.
struct Filters {
    temperature: f64,
    /// The logit of the last token that top-k keeps, and of the first that it cuts.
    last_kept: f32,
    first_cut: Option<f32>,
    /// The lowest level that min-p keeps.
    min_p_cut: f64,
}

impl Filters {
    fn level(&self, logit: f32) -> f64 {
        f64::from(logit) / self.temperature
    }

    /// The distance of a kept level from being cut, from 0, or of a cut one from being kept,
    /// negative.
    fn standing(&self, level: f64) -> f64 {
        let last_kept = self.level(self.last_kept);
        let top_k = if level >= last_kept {
            self.first_cut
                .map_or(f64::INFINITY, |cut| level - self.level(cut))
        } else {
            level - last_kept
        };
        top_k.min(level - self.min_p_cut)
    }
}

/// How far tokens are from the filters' edges.
struct Edges<'a> {
    filters: &'a Filters,
    nucleus: Option<Nucleus>,
}

impl<'a> Edges<'a> {
    fn new(logits: &[f32], sampling: &Sampling, filters: &'a Filters) -> Self {
        let nucleus = (sampling.top_p < 1.0)
            .then(|| Nucleus::new(logits, f64::from(sampling.top_p), filters));
        Self { filters, nucleus }
    }

    fn to_being_kept(&self, token: &Candidate) -> f64 {
        let other = (-self.filters.standing(token.level)).max(0.0);
        self.nucleus.as_ref().map_or(other, |nucleus| {
            least_error(|error| nucleus.may_keep(token, error)).max(other)
        })
    }

    fn to_being_cut(&self, token: &Candidate) -> f64 {
        let other = self.filters.standing(token.level).max(0.0);
        self.nucleus.as_ref().map_or(other, |nucleus| {
            least_error(|error| nucleus.may_cut(token, error)).min(other)
        })
    }
}

/// The tokens near and above the edge of top-k and min-p, for the edge of top-p.
struct Nucleus {
    log_odds: f64,
    tokens: Vec<Standing>,
}

struct Standing {
    token: Candidate,
    /// In proportion to its probability.
    weight: f64,
    /// See [`Filters::standing`].
    distance: f64,
}

impl Nucleus {
    /// Tokens further than this below the edge of top-k are left out. It is ten times what any
    /// honest margin may be, and above that a margin's size no longer matters.
    const REACH: f64 = 0.1;
    const MOST: usize = 256;

    fn new(logits: &[f32], top_p: f64, filters: &Filters) -> Self {
        let floor = f64::from(filters.last_kept) - Self::REACH * filters.temperature;
        let mut near = at_least(logits, floor as f32);
        near.truncate(Self::MOST);
        let best = near.first().map_or(0.0, |(_, logit)| filters.level(*logit));
        let tokens = near
            .into_iter()
            .map(|(id, logit)| {
                let level = filters.level(logit);
                Standing {
                    token: Candidate { id, level },
                    weight: libm::exp(level - best),
                    distance: filters.standing(level),
                }
            })
            .collect();
        Self {
            log_odds: libm::log(top_p) - libm::log(1.0 - top_p),
            tokens,
        }
    }

    /// Whether `token`, let in by the other filters, may be inside the nucleus when levels are off
    /// by `error` in all, half of it up and half of it down: only what surely ranks above it
    /// counts against it.
    fn may_keep(&self, token: &Candidate, error: f64) -> bool {
        let (mut above, mut rest) = (0.0, 0.0);
        for other in self
            .tokens
            .iter()
            .filter(|other| other.token.id != token.id)
        {
            if other.distance > error && other.token.level > token.level + error {
                above += other.weight;
            } else if other.distance >= -error {
                rest += other.weight;
            }
        }
        rest += self.weight(token);
        libm::log(above) - libm::log(rest) - error <= self.log_odds
    }

    /// Whether `token` may be outside the nucleus: all that may rank above it counts against it.
    fn may_cut(&self, token: &Candidate, error: f64) -> bool {
        let (mut above, mut rest) = (0.0, 0.0);
        for other in self
            .tokens
            .iter()
            .filter(|other| other.token.id != token.id)
        {
            if other.distance >= -error && other.token.level >= token.level - error {
                above += other.weight;
            } else if other.distance > error {
                rest += other.weight;
            }
        }
        rest += self.weight(token);
        above > 0.0 && libm::log(above) - libm::log(rest) + error >= self.log_odds
    }

    fn weight(&self, token: &Candidate) -> f64 {
        self.tokens
            .first()
            .map_or(1.0, |best| libm::exp(token.level - best.token.level))
    }
}

/// The smallest error at which a condition holds that holds for every larger one; infinite
/// when it holds for none.
fn least_error(holds: impl Fn(f64) -> bool) -> f64 {
    if holds(0.0) {
        return 0.0;
    }
    let mut high = Nucleus::REACH / 1024.0;
    while !holds(high) {
        high *= 2.0;
        if high > 1e6 {
            return f64::INFINITY;
        }
    }
    let mut low = 0.0;
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if holds(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

fn is_greedy(sampling: &Sampling) -> bool {
    // A NaN is refused long before; here it must only not divide.
    sampling.temperature <= 0.0 || sampling.temperature.is_nan()
}

/// Logits of a vocabulary that are looked at together: nearly all such blocks hold nothing of
/// interest, and to see that takes a few comparisons of vectors.
const BLOCK: usize = 64;

/// Whether a test holds for any of a block's logits. It is made for all of them, so that the
/// compiler can make it for several at once. That a NaN fails every comparison suits those who
/// ask: it counts as the lowest there is.
fn block_has(block: &[f32], test: impl Fn(f32) -> bool) -> bool {
    block
        .iter()
        .fold(false, |found, logit| found | test(*logit))
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

/// The `count`-th largest logit; the smallest of all when there are fewer. One pass with a buffer,
/// since a vocabulary has up to 300,000 tokens and `count` is small.
fn nth_largest(logits: &[f32], count: usize) -> f32 {
    let wanted = count.max(1);
    let falling = |left: &f32, right: &f32| right.total_cmp(left);
    let mut buffer: Vec<f32> = Vec::with_capacity(4 * wanted);
    let mut floor = None;
    for block in logits.chunks(BLOCK) {
        if floor.is_some_and(|floor| !block_has(block, |logit| logit > floor)) {
            continue;
        }
        for logit in block.iter().copied().map(defined) {
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
    }
    buffer.sort_unstable_by(falling);
    let last = buffer.get(wanted - 1).or(buffer.last());
    last.copied().unwrap_or(f32::MIN)
}

/// All tokens with at least this logit, by falling logit, then by rising id.
fn at_least(logits: &[f32], threshold: f32) -> Vec<(u32, f32)> {
    let mut found: Vec<(u32, f32)> = Vec::new();
    for (block, logits) in logits.chunks(BLOCK).enumerate() {
        // What is not finite counts as the lowest, which may be asked for.
        if threshold > f32::MIN && !block_has(logits, |logit| logit >= threshold) {
            continue;
        }
        let ids = (block * BLOCK) as u32..;
        let block = ids.zip(logits.iter().copied().map(defined));
        found.extend(block.filter(|(_, logit)| *logit >= threshold));
    }
    // Stable, so ids stay in order; -0 and 0 are the same logit.
    found.sort_by(|left, right| right.1.partial_cmp(&left.1).unwrap_or(Ordering::Equal));
    found
}

#[cfg(test)]
mod tests;
