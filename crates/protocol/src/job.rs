//! A job: what a node is asked to compute.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::{JobId, JobSeed, ModelId};
use crate::{MAX_TOP_K, finite};

/// How the next token is chosen from the logits. The order is fixed: temperature, top-k, then
/// min-p and top-p on what is left, then the seeded noise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 takes the most likely token.
    #[serde(deserialize_with = "finite::number")]
    pub temperature: f32,
    /// 1 to 64.
    pub top_k: u32,
    /// In (0, 1]; 1 keeps everything.
    #[serde(deserialize_with = "finite::number")]
    pub top_p: f32,
    /// In [0, 1]; 0 keeps everything.
    #[serde(deserialize_with = "finite::number")]
    pub min_p: f32,
}

/// A sampling parameter outside its range.
#[derive(Debug, thiserror::Error, Clone, PartialEq)]
#[error("`{name}` is {value}, but must be {allowed}")]
pub struct InvalidSampling {
    pub name: &'static str,
    pub value: f32,
    pub allowed: &'static str,
}

impl Sampling {
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_k: MAX_TOP_K,
        top_p: 1.0,
        min_p: 0.0,
    };

    /// Refuses what no sampler can honour; NaN fails every range.
    pub fn validate(&self) -> Result<(), InvalidSampling> {
        let check = |name, value: f32, fits: bool, allowed| {
            if fits {
                Ok(())
            } else {
                Err(InvalidSampling {
                    name,
                    value,
                    allowed,
                })
            }
        };
        check(
            "temperature",
            self.temperature,
            (0.0..=2.0).contains(&self.temperature),
            "from 0 to 2",
        )?;
        check(
            "top_k",
            self.top_k as f32,
            (1..=MAX_TOP_K).contains(&self.top_k),
            "from 1 to 64",
        )?;
        check(
            "top_p",
            self.top_p,
            self.top_p > 0.0 && self.top_p <= 1.0,
            "above 0 and at most 1",
        )?;
        check(
            "min_p",
            self.min_p,
            (0.0..=1.0).contains(&self.min_p),
            "from 0 to 1",
        )
    }

    /// Appends the parameters to a digest, floats as bits.
    #[must_use]
    pub fn encode(&self, digest: Digest) -> Digest {
        digest
            .f32(self.temperature)
            .u32(self.top_k)
            .f32(self.top_p)
            .f32(self.min_p)
    }
}

/// What the node that claimed a job gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    pub version: u16,
    pub job: JobId,
    /// Counts from 1; each node that takes the job over gets the next number.
    pub attempt: u32,
    pub model: ModelId,
    /// The texts of an embedding, one after the other.
    pub prompt: Vec<u32>,
    /// For an embedding, how many tokens each text in `prompt` has ([`split_texts`]). Empty for a
    /// job that writes text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<u32>,
    /// What earlier attempts already produced. Generation goes on after it.
    pub output: Vec<u32>,
    pub sampling: Sampling,
    /// Of the whole output, earlier attempts included. 0 for an embedding.
    pub max_tokens: u32,
    /// Generation ends with the token that completes one of these in the decoded output.
    pub stop: Vec<String>,
    /// How many alternatives to report with each token's log probability; none for no log probabilities.
    pub logprobs: Option<u8>,
    pub seed: JobSeed,
    /// How long the node may go without sending output before the job goes to another.
    pub lease_ms: u64,
}

impl JobSpec {
    /// The output position of the first token this attempt produces.
    pub fn start(&self) -> u32 {
        self.output.len() as u32
    }
}

/// Why an output ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model produced an end-of-generation token, which is the last of the output.
    EndOfText,
    /// A stop string was completed by the last token.
    Stop,
    /// `max_tokens` or the context is full.
    Length,
    /// The balancer asked the node to stop.
    Cancelled,
    /// Every text has its vector.
    Embedded,
}

impl FinishReason {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::EndOfText => 0,
            Self::Stop => 1,
            Self::Length => 2,
            Self::Cancelled => 3,
            Self::Embedded => 4,
        }
    }
}

/// Cuts the prompt of an embedding into its texts. `None` when the lengths do not add up to it, or
/// one is 0.
pub fn split_texts(mut prompt: &[u32], lengths: &[u32]) -> Option<Vec<Vec<u32>>> {
    let mut texts = Vec::with_capacity(lengths.len());
    for length in lengths {
        let (text, rest) = prompt.split_at_checked(*length as usize)?;
        texts.push(text.to_vec());
        prompt = rest;
    }
    (prompt.is_empty() && !lengths.contains(&0)).then_some(texts)
}

/// Derives the seed of a job's sampling noise (`verification.md` 3.1).
///
/// It does not depend on the node: whoever continues a job writes what the first node would have
/// written. `entropy` is 32 fresh random bytes, or a hash of the client's own `seed`, which makes
/// the answer repeatable.
pub fn job_seed(
    entropy: &[u8; 32],
    model: &ModelId,
    prompt: &[u32],
    sampling: &Sampling,
    choice: u32,
) -> JobSeed {
    let digest = Digest::new("infera/job-seed/v1")
        .fixed(entropy)
        .fixed(model.as_bytes())
        .tokens(prompt);
    let seed = sampling.encode(digest).u32(choice).finish();
    JobSeed::from_bytes(*seed.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_ranges() {
        let good = Sampling {
            temperature: 1.0,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
        };
        assert_eq!(good.validate(), Ok(()));
        let bad = [
            (
                "temperature",
                Sampling {
                    temperature: -0.1,
                    ..good
                },
            ),
            (
                "temperature",
                Sampling {
                    temperature: f32::NAN,
                    ..good
                },
            ),
            (
                "temperature",
                Sampling {
                    temperature: f32::INFINITY,
                    ..good
                },
            ),
            ("top_k", Sampling { top_k: 0, ..good }),
            ("top_k", Sampling { top_k: 65, ..good }),
            ("top_p", Sampling { top_p: 0.0, ..good }),
            (
                "top_p",
                Sampling {
                    top_p: f32::NAN,
                    ..good
                },
            ),
            ("min_p", Sampling { min_p: 1.5, ..good }),
        ];
        for (name, sampling) in bad {
            assert_eq!(sampling.validate().unwrap_err().name, name, "{sampling:?}");
        }
    }

    #[test]
    fn texts_are_cut_where_their_lengths_say() {
        let prompt = [1, 2, 3, 4];
        let texts = Some(vec![vec![1], vec![2, 3, 4]]);
        assert_eq!(split_texts(&prompt, &[1, 3]), texts);
        assert_eq!(split_texts(&[], &[]), Some(Vec::new()));
        for lengths in [&[1, 2][..], &[5], &[], &[4, 0], &[u32::MAX, 5]] {
            assert_eq!(split_texts(&prompt, lengths), None, "{lengths:?}");
        }
    }

    #[test]
    fn every_input_changes_the_seed() {
        let model = ModelId::from_bytes([1; 32]);
        let sampling = Sampling::GREEDY;
        let seed = job_seed(&[0; 32], &model, &[1, 2], &sampling, 0);
        assert_eq!(seed, job_seed(&[0; 32], &model, &[1, 2], &sampling, 0));
        let others = [
            job_seed(&[1; 32], &model, &[1, 2], &sampling, 0),
            job_seed(
                &[0; 32],
                &ModelId::from_bytes([2; 32]),
                &[1, 2],
                &sampling,
                0,
            ),
            job_seed(&[0; 32], &model, &[1, 3], &sampling, 0),
            job_seed(
                &[0; 32],
                &model,
                &[1, 2],
                &Sampling {
                    temperature: 1.0,
                    ..sampling
                },
                0,
            ),
            job_seed(&[0; 32], &model, &[1, 2], &sampling, 1),
        ];
        assert!(others.iter().all(|other| *other != seed));
    }
}
