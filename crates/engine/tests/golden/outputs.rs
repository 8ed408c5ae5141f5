//! Outputs of models as others computed them.

use std::path::Path;

use serde::Deserialize;

#[derive(Deserialize)]
pub(crate) struct Golden {
    #[serde(alias = "prompt_ids")]
    pub(crate) prompt_tokens: Vec<u32>,
    #[serde(alias = "greedy_ids")]
    pub(crate) gen_tokens: Vec<u32>,
    #[serde(default)]
    pub(crate) first_top5_logits: Vec<(u32, f32)>,
    /// For each of the first steps.
    #[serde(default)]
    pub(crate) top5: Vec<Vec<(u32, f32)>>,
    #[serde(default)]
    pub(crate) margins: Vec<f32>,
}

/// All logits after the last tokens of a text.
#[derive(Deserialize)]
pub(crate) struct Reference {
    pub(crate) file: String,
    pub(crate) tokens: Vec<u32>,
    /// The position of the first row.
    pub(crate) first: usize,
    pub(crate) logits: Vec<Vec<f32>>,
}

pub(crate) fn goldens(path: &Path) -> Vec<Golden> {
    lines(path)
}

pub(crate) fn references(path: &Path) -> Vec<Reference> {
    lines(path)
}

fn lines<T: for<'a> Deserialize<'a>>(path: &Path) -> Vec<T> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The largest logits, with their ids, in order.
pub(crate) fn top(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut sorted: Vec<_> = logits
        .iter()
        .enumerate()
        .map(|(id, logit)| (id as u32, *logit))
        .collect();
    // A vocabulary is large to sort in a development build.
    if count < sorted.len() {
        sorted.select_nth_unstable_by(count, |one, two| two.1.total_cmp(&one.1));
        sorted.truncate(count);
    }
    sorted.sort_by(|one, two| two.1.total_cmp(&one.1));
    sorted
}

pub(crate) fn assert_top(logits: &[f32], expected: &[(u32, f32)], tolerance: f32) {
    let found = top(logits, expected.len());
    for ((id, logit), (expected_id, expected_logit)) in found.iter().zip(expected) {
        assert_eq!(id, expected_id, "{found:?} is not {expected:?}");
        assert!(
            (logit - expected_logit).abs() < tolerance,
            "{found:?} is not {expected:?}"
        );
    }
}
