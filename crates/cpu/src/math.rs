//! Norms, gates and soft caps on rows of activations.

use infera_model::Activation;

use crate::simd::{Kernel, LANES, Simd};

/// e to the power of each lane, to about two units in the last place. Below -87, where the result
/// would lose digits, it is that of -87; above 88 that of 88.
///
/// With `n = round(x / ln 2)` it is `2^n * exp(x - n ln 2)`, the second factor by its Taylor
/// polynomial: the argument is at most 0.35, so the first term left out is below 6e-9.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, value: S::Floats) -> S::Floats {
    // ln 2 in two parts, of which the first has so few digits that n times it is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = (std::f64::consts::LN_2 - 0.693_359_375) as f32;
    const COEFFICIENTS: [f32; 6] = [
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        1.0 / 2.0,
        1.0,
    ];
    let value = simd.max(simd.min(value, simd.splat(88.0)), simd.splat(-87.0));
    let power = simd.round(simd.mul(value, simd.splat(std::f32::consts::LOG2_E)));
    let rest = simd.mul_add(power, simd.splat(-LN_2_HIGH), value);
    let rest = simd.mul_add(power, simd.splat(-LN_2_LOW), rest);
    let mut sum = simd.splat(1.0 / 5040.0);
    for coefficient in COEFFICIENTS {
        sum = simd.mul_add(sum, rest, simd.splat(coefficient));
    }
    let sum = simd.mul_add(sum, rest, simd.splat(1.0));
    simd.mul(sum, simd.exp2_whole(power))
}

/// `1 / (1 + exp(-x))`.
#[inline(always)]
fn sigmoid<S: Simd>(simd: S, value: S::Floats) -> S::Floats {
    let one = simd.splat(1.0);
    let power = exp(simd, simd.sub(simd.splat(0.0), value));
    simd.div(one, simd.add(one, power))
}

/// `cap * tanh(x / cap)`, with `tanh(y) = 2 sigmoid(2 y) - 1`.
#[inline(always)]
pub(crate) fn soft_cap<S: Simd>(simd: S, value: S::Floats, cap: f32) -> S::Floats {
    let doubled = simd.mul(value, simd.splat(2.0 / cap));
    let cap = simd.splat(cap);
    let twice = simd.mul(simd.splat(2.0), sigmoid(simd, doubled));
    simd.mul(cap, simd.sub(twice, simd.splat(1.0)))
}

/// `values[i] / sqrt(mean(values^2) + epsilon) * weights[i]`.
pub(crate) struct RmsNorm<'a> {
    pub values: &'a [f32],
    pub weights: &'a [f32],
    pub epsilon: f32,
    pub output: &'a mut [f32],
}

impl Kernel for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (chunks, rest) = self.values.as_chunks::<LANES>();
        let mut last = [0.0; LANES];
        last[..rest.len()].copy_from_slice(rest);
        let mut squares = simd.splat(0.0);
        for chunk in chunks.iter().chain(std::iter::once(&last)) {
            // SAFETY: A chunk has 16 floats.
            let values = unsafe { simd.load(chunk.as_ptr()) };
            squares = simd.mul_add(values, values, squares);
        }
        let mean = simd.sum(squares) / self.values.len() as f32;
        let scale = 1.0 / (mean + self.epsilon).sqrt();
        for ((output, value), weight) in self.output.iter_mut().zip(self.values).zip(self.weights) {
            *output = value * scale * weight;
        }
    }
}

/// `gates[i] = activation(gates[i]) * values[i]`, of as many values each, in whole vectors.
pub(crate) struct Gate<'a> {
    pub activation: Activation,
    pub gates: &'a mut [f32],
    pub values: &'a [f32],
}

impl Kernel for Gate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let gates = self.gates.as_chunks_mut::<LANES>().0;
        let values = self.values.as_chunks::<LANES>().0;
        for (gates, values) in gates.iter_mut().zip(values) {
            // SAFETY: Chunks have 16 floats.
            unsafe {
                let gate = simd.load(gates.as_ptr());
                let argument = match self.activation {
                    Activation::Silu => gate,
                    // 1/2 (1 + tanh(y)) is the sigmoid of 2 y.
                    Activation::GeluTanh => {
                        let double = 2.0 * (2.0 / std::f32::consts::PI).sqrt();
                        let square = simd.mul(gate, gate);
                        let factor = simd.splat(0.044_715 * double);
                        let factor = simd.mul_add(square, factor, simd.splat(double));
                        simd.mul(gate, factor)
                    }
                };
                let active = simd.mul(gate, sigmoid(simd, argument));
                simd.store(
                    gates.as_mut_ptr(),
                    simd.mul(active, simd.load(values.as_ptr())),
                );
            }
        }
    }
}

/// [`soft_cap`] of a row.
pub(crate) struct SoftCap<'a> {
    pub values: &'a mut [f32],
    pub cap: f32,
}

impl Kernel for SoftCap<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (chunks, rest) = self.values.as_chunks_mut::<LANES>();
        let mut last = [0.0; LANES];
        last[..rest.len()].copy_from_slice(rest);
        for chunk in chunks.iter_mut().chain(std::iter::once(&mut last)) {
            // SAFETY: A chunk has 16 floats.
            unsafe {
                let capped = soft_cap(simd, simd.load(chunk.as_ptr()), self.cap);
                simd.store(chunk.as_mut_ptr(), capped);
            }
        }
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::InstructionSet;

    struct Exp<'a>(&'a mut [f32; LANES]);

    impl Kernel for Exp<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            // SAFETY: The array has 16 floats.
            unsafe { simd.store(self.0.as_mut_ptr(), exp(simd, simd.load(self.0.as_ptr()))) }
        }
    }

    #[test]
    fn exp_is_right_to_a_few_units_in_the_last_place() {
        for set in InstructionSet::available() {
            for step in -8600..8790 {
                let value = step as f32 * 0.01;
                let mut lanes = [value; LANES];
                set.run(Exp(&mut lanes));
                let expected = f64::from(value).exp();
                let error = (f64::from(lanes[0]) / expected - 1.0).abs();
                assert!(error < 3e-7, "{}: {value}: {error:e}", set.name());
            }
            let mut lanes = [-1e30; LANES];
            set.run(Exp(&mut lanes));
            assert!(lanes[0] >= 0.0 && lanes[0] < 1e-37);
        }
    }

    #[test]
    fn gates_norms_and_caps_are_those_of_f64() {
        let values: Vec<f32> = (0..48).map(|index| (index as f32 - 20.0) * 0.37).collect();
        let near = |found: f32, expected: f64| {
            assert!(
                (f64::from(found) - expected).abs() < 1e-5 * (1.0 + expected.abs()),
                "{found} {expected}"
            );
        };
        for set in InstructionSet::available() {
            for activation in [Activation::Silu, Activation::GeluTanh] {
                let mut gates = values.clone();
                set.run(Gate {
                    activation,
                    gates: &mut gates,
                    values: &[0.5; 48],
                });
                for (found, value) in gates.iter().zip(&values) {
                    let x = f64::from(*value);
                    let active = match activation {
                        Activation::Silu => x / (1.0 + (-x).exp()),
                        Activation::GeluTanh => {
                            let inner = x + 0.044_715 * x.powi(3);
                            let root = (2.0 / std::f64::consts::PI).sqrt();
                            0.5 * x * (1.0 + (root * inner).tanh())
                        }
                    };
                    near(*found, active * 0.5);
                }
            }
            let mut capped = values[..35].to_vec();
            set.run(SoftCap {
                values: &mut capped,
                cap: 5.0,
            });
            for (found, value) in capped.iter().zip(&values) {
                near(*found, 5.0 * (f64::from(*value) / 5.0).tanh());
            }
            let mut normed = [0.0; 35];
            set.run(RmsNorm {
                values: &values[..35],
                weights: &values[1..36],
                epsilon: 1e-5,
                output: &mut normed,
            });
            let squares: f64 = values[..35].iter().map(|x| f64::from(*x).powi(2)).sum();
            let root = (squares / 35.0 + 1e-5).sqrt();
            for (index, found) in normed.iter().enumerate() {
                near(
                    *found,
                    f64::from(values[index]) / root * f64::from(values[index + 1]),
                );
            }
        }
    }
}
