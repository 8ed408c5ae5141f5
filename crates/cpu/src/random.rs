//! Seeded random weights and activations for tests.

use half::{bf16, f16};
use infera_model::TensorType;

/// xorshift64* (Vigna 2016).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// From `-scale` to `scale`.
    fn float(&mut self, scale: f32) -> f32 {
        ((self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0) * scale
    }

    pub(crate) fn floats(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| self.float(scale)).collect()
    }

    /// `count` values as a file holds them, each about 1 or less: any bits, with scales that are
    /// numbers.
    pub(crate) fn tensor(&mut self, kind: TensorType, count: usize) -> Vec<u8> {
        let (scales, largest): (&[usize], f32) = match kind {
            TensorType::F32 => {
                let values = self.floats(count, 1.0);
                return values.into_iter().flat_map(f32::to_le_bytes).collect();
            }
            TensorType::F16 => {
                let values = self.floats(count, 1.0).into_iter();
                return values
                    .flat_map(|value| f16::from_f32(value).to_le_bytes())
                    .collect();
            }
            TensorType::BF16 => {
                let values = self.floats(count, 1.0).into_iter();
                return values
                    .flat_map(|value| bf16::from_f32(value).to_le_bytes())
                    .collect();
            }
            TensorType::Q4_0 | TensorType::Q5_0 => (&[0], 0.06),
            TensorType::Q4_1 | TensorType::Q5_1 => (&[0, 2], 0.06),
            TensorType::Q8_0 => (&[0], 0.008),
            TensorType::Q4K | TensorType::Q5K => (&[0, 2], 0.001),
            TensorType::Q6K => (&[208], 0.0003),
        };
        let blocks = count / kind.block_values();
        let mut bytes: Vec<u8> = (0..blocks * kind.block_bytes())
            .map(|_| (self.next() >> 32) as u8)
            .collect();
        for block in bytes.chunks_mut(kind.block_bytes()) {
            for at in scales {
                let scale = f16::from_f32(self.float(largest));
                block[*at..at + 2].copy_from_slice(&scale.to_le_bytes());
            }
        }
        bytes
    }
}
