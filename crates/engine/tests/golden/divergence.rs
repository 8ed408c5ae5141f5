//! Kullback and Leibler's divergence of distributions.

/// Mean over rows of the divergence of `found`'s distribution from `expected`'s.
pub(crate) fn mean_divergence(found: &[f32], expected: &[f32], vocabulary: usize) -> f64 {
    let log_softmax = |logits: &[f32]| -> Vec<f64> {
        let largest = logits.iter().copied().fold(f32::MIN, f32::max);
        let shifted: Vec<f64> = logits
            .iter()
            .map(|logit| f64::from(*logit) - f64::from(largest))
            .collect();
        let total = shifted.iter().map(|value| value.exp()).sum::<f64>().ln();
        shifted.iter().map(|value| value - total).collect()
    };
    let rows = found.chunks(vocabulary).zip(expected.chunks(vocabulary));
    let count = rows.len() as f64;
    let divergences = rows.map(|(found, expected)| {
        let (found, expected) = (log_softmax(found), log_softmax(expected));
        let terms = expected.iter().zip(&found);
        terms
            .map(|(expected, found)| expected.exp() * (expected - found))
            .sum::<f64>()
    });
    divergences.sum::<f64>() / count
}
