//! What a reference computes of the claimed tokens, in 16 bits each.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use half::f16;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The natural logarithm of each claimed token's probability, at temperature 1 and before any
/// filter, given what was claimed before it.
///
/// Each is kept as the bits of its negation in IEEE binary16, so from 0 (certain) to 65504 nats,
/// and rounded to eleven significant bits: the more certain a token, the finer. In JSON it is the
/// base64 of the bits as little-endian `u16`, so that a context of 128k tokens takes 350 kB.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogProbabilities(pub Vec<u16>);

impl LogProbabilities {
    /// Adds a token's. What is not a number or above 0 counts as the nearest there is.
    pub fn push(&mut self, log_probability: f64) {
        // In this order a NaN becomes the lowest. There is one zero.
        let surprise = (-log_probability).min(f16::MAX.to_f64()).max(0.0);
        self.0.push(f16::from_f64(surprise.abs()).to_bits());
    }

    /// How many tokens have one.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none, as for an embedding.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all are numbers from minus 65504 to 0.
    pub fn are_sound(&self) -> bool {
        self.0.iter().all(|bits| *bits <= f16::MAX.to_bits())
    }

    /// What was rounded, negated: how surprising each token is, in nats.
    pub fn surprises(&self) -> impl ExactSizeIterator<Item = f64> {
        self.0.iter().map(|bits| f16::from_bits(*bits).to_f64())
    }

    /// How far rounding can have moved a value with these bits.
    pub fn rounding(bits: u16) -> f64 {
        let value = |bits: u16| f16::from_bits(bits.min(f16::MAX.to_bits())).to_f64();
        let above = value(bits.saturating_add(1)) - value(bits);
        let below = value(bits) - value(bits.saturating_sub(1));
        above.max(below) / 2.0
    }
}

impl FromIterator<f64> for LogProbabilities {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        let mut all = Self::default();
        values.into_iter().for_each(|value| all.push(value));
        all
    }
}

impl Serialize for LogProbabilities {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        serializer.serialize_str(&STANDARD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for LogProbabilities {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text.as_bytes()).ok();
        let pairs = bytes.as_deref().map(<[u8]>::as_chunks);
        match pairs {
            Some((pairs, [])) => Ok(Self(
                pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect(),
            )),
            _ => Err(serde::de::Error::custom(
                "log-probabilities are base64 of 16-bit floats",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> LogProbabilities {
        values.iter().copied().collect()
    }

    #[test]
    fn what_is_kept_is_within_its_rounding() {
        for value in [
            0.0, 1e-9, 3e-8, 1e-6, 1e-3, 0.1, 0.7, 1.0, 2.5, 11.3, 40.0, 999.0,
        ] {
            let kept = of(&[-value]);
            let surprise = kept.surprises().next().unwrap();
            let off = (surprise - value).abs();
            let most = LogProbabilities::rounding(kept.0[0]);
            assert!(off <= most, "{value}: off by {off}, at most {most}");
            assert!(most <= value / 1000.0 + 6e-8, "{value}: {most}");
        }
    }

    #[test]
    fn whatever_is_computed_is_sound() {
        let odd = [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            1.0,
            -1e9,
            -0.0,
            0.0,
        ];
        let kept = of(&odd);
        assert!(kept.are_sound());
        let highest = f16::MAX.to_f64();
        let surprises: Vec<_> = kept.surprises().collect();
        assert_eq!(surprises, [highest, 0.0, highest, 0.0, highest, 0.0, 0.0]);
        for bits in [0x7c00, 0x7c01, 0x8000, 0xbc00, 0xffff] {
            assert!(!LogProbabilities(vec![0, bits]).are_sound(), "{bits:x}");
        }
    }

    #[test]
    fn json_is_short_and_exact() {
        let kept = of(&[-0.5, -20.0, 0.0]);
        let json = serde_json::to_string(&kept).unwrap();
        assert_eq!(json.len(), 10);
        assert_eq!(
            serde_json::from_str::<LogProbabilities>(&json).unwrap(),
            kept
        );
        for text in ["\"AAA\"", "\"?\"", "[1]", "null", "\"AA==\""] {
            let read = serde_json::from_str::<LogProbabilities>(text);
            assert!(read.is_err(), "{text}");
        }
    }
}
