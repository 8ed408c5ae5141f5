//! Rotary positions and sliding windows, from the metadata to frequencies.

use std::sync::Arc;

use infera_protocol::digest::Digest;

use super::{Config, RopePairing};
use crate::architecture::Architecture;
use crate::error::ModelError;
use crate::gguf::Gguf;
use crate::layout::{PairOrder, Role};
use crate::quant::dequantize;

/// Radians per position that pair `i` of a head turns:
/// `base^(-2i / rope_dim) / position_scale / factors[i]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// The wavelengths grow from 2 pi to nearly 2 pi times this, in positions.
    pub base: f32,
    /// Positions are divided by it.
    pub position_scale: f32,
    /// The tensor of divisors, `[rope_dim / 2]`; all of them 1 when there is none.
    pub factors: Option<Role>,
    /// Cosines and sines are multiplied by it.
    pub magnitude: f32,
}

/// Layers that see only the newest positions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// A query sees its own position and the `length - 1` before it.
    pub length: u32,
    /// Every how many layers one sees everything: with 6, those with the indices 5, 11 and so on.
    /// When none, all layers have the window.
    pub global_every: Option<u32>,
    /// In layers with the window.
    pub rope: Rope,
}

/// How one layer's attention sees positions.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerAttention {
    /// A query sees its own position and the `window - 1` before it; all of them when there is
    /// none.
    pub window: Option<u32>,
    /// Radians per position for each rotated pair of a head: `[rope_dim / 2]`.
    pub frequencies: Arc<[f64]>,
    /// Cosines and sines are multiplied by it.
    pub magnitude: f32,
}

/// What one position's rotary pairs are turned by: `[2, pairs]`, cosines before sines, computed in
/// f64. `frequencies` are radians per position of each pair; the values are multiplied by
/// `magnitude`.
pub fn rotary_table(
    frequencies: &[f64],
    magnitude: f32,
    position: usize,
) -> impl Iterator<Item = f32> {
    let angles = frequencies
        .iter()
        .map(move |frequency| position as f64 * frequency);
    let cosines = angles.clone().map(libm::cos);
    cosines
        .chain(angles.map(libm::sin))
        .map(move |value| (value * f64::from(magnitude)) as f32)
}

/// The base of Gemma 3's layers with a window, where the file does not give it. Source: Gemma 3
/// Technical Report, section 2.
const GEMMA3_WINDOW_BASE: f32 = 10_000.0;
/// Five layers with a window, then one without. Source: as above.
const GEMMA3_GLOBAL_EVERY: u32 = 6;

impl Config {
    /// The order of query's and key's rows; none where the file's is the engines'.
    pub(super) fn pair_order(&self) -> Option<PairOrder> {
        (self.rope_pairing == RopePairing::Interleaved).then_some(PairOrder {
            head_dim: self.head_dim as usize,
            rotated: self.rope_dim as usize,
        })
    }

    /// How each layer's attention sees positions, from the file that the configuration was read
    /// from. The divisors are weights, so a head does not have them.
    pub fn attention(&self, gguf: &Gguf) -> Result<Vec<LayerAttention>, ModelError> {
        let of = |rope: Rope, window| {
            Ok(LayerAttention {
                window,
                frequencies: rope.frequencies(self.rope_dim, gguf)?,
                magnitude: rope.magnitude,
            })
        };
        let global = of(self.rope, None)?;
        let Some(window) = self.window else {
            return Ok(vec![global; self.layers as usize]);
        };
        let windowed = of(window.rope, Some(window.length))?;
        let layers = 1..=self.layers;
        Ok(layers
            .map(|count| match window.global_every {
                Some(every) if count.is_multiple_of(every) => global.clone(),
                _ => windowed.clone(),
            })
            .collect())
    }
}

impl Rope {
    fn frequencies(&self, rope_dim: u32, gguf: &Gguf) -> Result<Arc<[f64]>, ModelError> {
        let pairs = rope_dim / 2;
        let mut factors = vec![1.0_f32; pairs as usize];
        if let Some(role) = self.factors {
            let name = role.tensor().to_string();
            let fault = |what: String| ModelError::unsupported(gguf.file(), what);
            let tensor = gguf
                .tensor(&name)
                .ok_or_else(|| fault(format!("the tensor `{name}` has no data")))?;
            dequantize(tensor.info.kind, tensor.bytes, &mut factors)
                .map_err(|error| fault(format!("the tensor `{name}`: {error}")))?;
            if !factors.iter().all(|factor| positive(*factor)) {
                return Err(fault(format!(
                    "the tensor `{name}` divides by what is not a positive number"
                )));
            }
        }
        let scale = f64::from(self.position_scale);
        Ok((0..pairs)
            .zip(factors)
            .map(|(pair, factor)| {
                let exponent = -2.0 * f64::from(pair) / f64::from(rope_dim);
                libm::pow(f64::from(self.base), exponent) / scale / f64::from(factor)
            })
            .collect())
    }

    pub(super) fn is_valid(&self) -> bool {
        [self.base, self.position_scale, self.magnitude]
            .into_iter()
            .all(positive)
    }

    pub(super) fn encode(&self, digest: Digest) -> Digest {
        let factors = self.factors.map(|role| role.tensor().to_string());
        digest
            .f32(self.base)
            .f32(self.position_scale)
            .bytes(factors.unwrap_or_default().as_bytes())
            .f32(self.magnitude)
    }
}

impl Window {
    pub(super) fn is_valid(&self) -> bool {
        self.length > 0 && self.global_every != Some(0) && self.rope.is_valid()
    }

    pub(super) fn encode(&self, digest: Digest) -> Digest {
        let digest = digest
            .u32(self.length)
            .u32(self.global_every.unwrap_or_default());
        self.rope.encode(digest)
    }
}

/// The tensors of divisors that files of the architecture have, all of them or none.
pub(super) const fn factor_roles(architecture: Architecture) -> &'static [Role] {
    match architecture {
        Architecture::Llama => &[Role::RopeFactors],
        Architecture::Phi3 => &[Role::LongRopeFactors, Role::ShortRopeFactors],
        Architecture::Qwen2 | Architecture::Qwen3 | Architecture::Gemma3 => &[],
    }
}

/// The rotation of layers that see everything. `context` is the longest that the model was
/// trained for.
pub(super) fn read_rope(
    architecture: Architecture,
    context: u32,
    gguf: &Gguf,
) -> Result<Rope, ModelError> {
    let key = |suffix: &str| format!("{architecture}.rope.{suffix}");
    let number = |suffix: &str| gguf.get_f32(&key(suffix));
    let is_in = |role: &Role| gguf.tensor_info(&role.tensor().to_string()).is_some();
    let factors = factor_roles(architecture).first().copied().filter(is_in);
    let mut rope = Rope {
        base: number("freq_base")?.unwrap_or(10_000.0),
        position_scale: position_scale(&key, factors, gguf)?,
        factors,
        magnitude: number("scaling.attn_factor")?.unwrap_or(1.0),
    };
    if rope.factors == Some(Role::LongRopeFactors) {
        let original_key = key("scaling.original_context_length");
        let original = gguf.require(&original_key, gguf.get_u32(&original_key)?)?;
        // By the file and not by how long a text or a node's context is: a sequence's cached keys
        // stay right as it grows, and all nodes give the same answer.
        if context <= original {
            rope.factors = Some(Role::ShortRopeFactors);
        } else if !gguf.contains(&key("scaling.attn_factor")) {
            rope.magnitude = long_rope_magnitude(context, original);
        }
    }
    Ok(rope)
}

/// Source: Ding et al. 2024, `LongRoPE`, as the Phi-3 model card applies it.
fn long_rope_magnitude(context: u32, original: u32) -> f32 {
    let (context, original) = (f64::from(context), f64::from(original));
    libm::sqrt(1.0 + libm::log(context / original) / libm::log(original)) as f32
}

fn position_scale(
    key: &impl Fn(&str) -> String,
    factors: Option<Role>,
    gguf: &Gguf,
) -> Result<f32, ModelError> {
    let kind = gguf.get_str(&key("scaling.type"))?;
    let known = match kind {
        None | Some("none" | "linear") => true,
        Some("longrope") => factors == Some(Role::LongRopeFactors),
        Some(_) => false,
    };
    if !known {
        return Err(ModelError::unsupported(
            gguf.file(),
            format!(
                "it scales its rotary positions (`{}` is `{}`), which is not built yet",
                key("scaling.type"),
                kind.unwrap_or_default()
                    .chars()
                    .take(64)
                    .collect::<String>()
            ),
        ));
    }
    if matches!(kind, Some("none" | "longrope")) {
        return Ok(1.0);
    }
    let factor = match gguf.get_f32(&key("scaling.factor"))? {
        None => gguf.get_f32(&key("scale_linear"))?,
        factor => factor,
    };
    // Files without scaling may hold a 0.
    Ok(factor.filter(|factor| *factor != 0.0).unwrap_or(1.0))
}

/// The window, given the rotation of layers without one.
pub(super) fn read_window(
    architecture: Architecture,
    rope: Rope,
    gguf: &Gguf,
) -> Result<Option<Window>, ModelError> {
    let key = |suffix: &str| format!("{architecture}.{suffix}");
    let length_key = key("attention.sliding_window");
    // Phi-4 is a `phi3` file with a window of 0.
    let length = gguf.get_u32(&length_key)?.filter(|length| *length > 0);
    match architecture {
        Architecture::Llama | Architecture::Phi3 => Ok(length.map(|length| Window {
            length,
            global_every: None,
            rope,
        })),
        Architecture::Gemma3 => {
            let every = gguf.get_u32(&key("attention.sliding_window_pattern"))?;
            let base = gguf.get_f32(&key("rope.freq_base_swa"))?;
            // Without a length, all layers see everything.
            Ok(length.map(|length| Window {
                length,
                global_every: Some(every.unwrap_or(GEMMA3_GLOBAL_EVERY)),
                rope: Rope {
                    base: base.unwrap_or(GEMMA3_WINDOW_BASE),
                    position_scale: 1.0,
                    ..rope
                },
            }))
        }
        Architecture::Qwen2 | Architecture::Qwen3 if length.is_some() => {
            // Which layers have it depends on settings that the file does not hold.
            Err(ModelError::unsupported(
                gguf.file(),
                format!("it has a sliding window (`{length_key}`), which is not built yet"),
            ))
        }
        Architecture::Qwen2 | Architecture::Qwen3 => Ok(None),
    }
}

fn positive(number: f32) -> bool {
    number.is_finite() && number > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_of_position_times_frequency() {
        let found: Vec<f32> = rotary_table(&[1.0, 0.01], 2.0, 73).collect();
        let (one, two) = (73_f64, 0.73_f64);
        let expected = [one.cos(), two.cos(), one.sin(), two.sin()];
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - 2.0 * expected).abs() < 1e-6);
        }
    }
}
