//! What kernels compute, in f64 and one value after the other.

use half::f16;
use infera_protocol::Profile;

use crate::kernels::matmul::Gate;

/// Where a key's value is among the values of the cache; `block` counts the blocks of one head.
pub(super) fn key_at(
    block: usize,
    slot: usize,
    dim: usize,
    head_dim: usize,
    profile: Profile,
) -> usize {
    let piece = match profile {
        Profile::P32 => 4,
        Profile::P16 => 8,
    };
    ((block * head_dim / piece + dim / piece) * 32 + slot) * piece + dim % piece
}

/// Both values in f16 of a word.
pub(super) fn halves(word: u32) -> [f32; 2] {
    [word as u16, (word >> 16) as u16].map(|bits| f16::from_bits(bits).to_f32())
}

pub(super) fn rounded(value: f64) -> f64 {
    f16::from_f64(value).to_f64()
}

pub(super) fn rms_factor(x: &[f32], epsilon: f64) -> f64 {
    let squares: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
    (squares / x.len() as f64 + epsilon).sqrt().recip()
}

pub(super) fn activated(x: f64, gate: Gate) -> f64 {
    match gate {
        Gate::Silu => x / (1.0 + (-x).exp()),
        Gate::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
    }
}

/// A head's query or key after the norm with these weights, if any, and the rotation: `angles` are
/// cosines, then sines.
pub(super) fn turned(
    raw: &[f32],
    weights: Option<&[f32]>,
    epsilon: f64,
    angles: &[f32],
) -> Vec<f64> {
    let mut x: Vec<f64> = raw.iter().map(|x| f64::from(*x)).collect();
    if let Some(weights) = weights {
        let factor = rms_factor(raw, epsilon);
        for (x, weight) in x.iter_mut().zip(weights) {
            *x *= factor * f64::from(*weight);
        }
    }
    let half = angles.len() / 2;
    for pair in 0..half {
        let (cosine, sine) = (f64::from(angles[pair]), f64::from(angles[half + pair]));
        let (one, two) = (x[pair], x[half + pair]);
        x[pair] = one * cosine - two * sine;
        x[half + pair] = two * cosine + one * sine;
    }
    x
}

/// Attention of one query over positions of which `key` and `value` give the value of a dimension.
pub(super) fn attended(
    query: &[f64],
    positions: std::ops::RangeInclusive<usize>,
    softcap: Option<f32>,
    key: impl Fn(usize, usize) -> f64,
    value: impl Fn(usize, usize) -> f64,
) -> Vec<f64> {
    let score = |position: usize| {
        let products = query.iter().enumerate();
        let score: f64 = products.map(|(dim, x)| x * key(position, dim)).sum();
        softcap.map_or(score, |cap| {
            f64::from(cap) * (score / f64::from(cap)).tanh()
        })
    };
    let scores: Vec<f64> = positions.clone().map(score).collect();
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    let of_dim = |dim| {
        let weighted = weights.iter().zip(positions.clone());
        let sum: f64 = weighted.map(|(weight, at)| weight * value(at, dim)).sum();
        sum / total
    };
    (0..query.len()).map(of_dim).collect()
}
