//! The noise that makes sampling repeatable on any machine.

use infera_protocol::JobSeed;

/// Gumbel noise for one token at one output position (counted from 0 over the whole output, never
/// drawn from a stream). Lies in [-3.2, 22.9].
///
/// With `x` the word `token mod 4` of `Philox4x32-10(counter = [token / 4, position, 0, "GUMB"],
/// key = the seed's first 8 bytes as two little-endian words)` and `u = (x + 1/2) / 2^32`, it is
/// `-ln(-ln u)`, computed in f64 by the `libm` crate, whose result is the same on every platform,
/// and rounded to f32.
///
/// Sources: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11 (Philox); Gumbel,
/// "Statistical theory of extreme values", 1954 (argmax of logits plus this noise samples from
/// their softmax).
pub fn noise(seed: &JobSeed, position: u32, token: u32) -> f32 {
    const GUMB: u32 = 0x4755_4D42;
    let [a, b, c, d, e, f, g, h, ..] = *seed.as_bytes();
    let key = [
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    ];
    let words = philox([token >> 2, position, 0, GUMB], key);
    let uniform = (f64::from(words[(token & 3) as usize]) + 0.5) / 4_294_967_296.0;
    -libm::log(-libm::log(uniform)) as f32
}

/// Philox4x32 with 10 rounds: a counter-based generator, a bijection of the counter per key.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let first = u64::from(counter[0]) * 0xD251_1F53;
        let second = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (second >> 32) as u32 ^ counter[1] ^ key[0],
            second as u32,
            (first >> 32) as u32 ^ counter[3] ^ key[1],
            first as u32,
        ];
        key = [
            key[0].wrapping_add(0x9E37_79B9),
            key[1].wrapping_add(0xBB67_AE85),
        ];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that the authors publish with Random123.
    #[test]
    fn philox_known_answers() {
        let cases = [
            (
                [0; 4],
                [0; 2],
                [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
            ),
            (
                [u32::MAX; 4],
                [u32::MAX; 2],
                [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
            ),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(philox(counter, key), expected);
        }
    }

    #[test]
    fn the_noise_is_indexed_not_streamed() {
        let seed = JobSeed::from_bytes([7; 32]);
        let later = noise(&seed, 1000, 151_935);
        assert_eq!(noise(&seed, 1000, 151_935).to_bits(), later.to_bits());
        assert_ne!(noise(&seed, 999, 151_935).to_bits(), later.to_bits());
        assert_ne!(noise(&seed, 1000, 151_934).to_bits(), later.to_bits());
        let other = JobSeed::from_bytes([8; 32]);
        assert_ne!(noise(&other, 1000, 151_935).to_bits(), later.to_bits());
    }

    /// Mean and variance of the standard Gumbel distribution are Euler's constant and pi^2/6.
    #[test]
    fn the_noise_has_a_gumbel_distribution() {
        let seed = JobSeed::from_bytes([3; 32]);
        let draws: Vec<f64> = (0..50_000)
            .map(|token| f64::from(noise(&seed, 5, token)))
            .collect();
        let count = draws.len() as f64;
        let mean = draws.iter().sum::<f64>() / count;
        let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / count;
        assert!((mean - 0.577_216).abs() < 0.02, "{mean}");
        assert!((variance - 1.644_934).abs() < 0.05, "{variance}");
        assert!(draws.iter().all(|draw| (-3.2..=22.9).contains(draw)));
    }
}
