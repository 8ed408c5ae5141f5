//! A task: what is to be computed, whoever asks for it and whoever checks it.
//!
//! One value goes from the client's request through the balancer's database, the job, the audit
//! and the engine. What is added to it is there for all of them: a field that a peer does not know
//! makes it refuse the task, since an output computed without it would be another one.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::{Hash, JobSeed, ModelId};
use crate::{MAX_TOP_K, finite};

/// What is to be computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The model that computes it.
    pub model: ModelId,
    /// Token ids: a prompt, or all texts of an embedding, one after the other.
    pub input: Vec<u32>,
    /// What becomes of the input.
    pub work: Work,
}

/// What becomes of a task's input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// The model goes on writing after it.
    Write(Writing),
    /// Each of its texts becomes a vector.
    Embed(Embedding),
}

/// How a model goes on writing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Writing {
    /// How each token is chosen.
    pub sampling: Sampling,
    /// The most tokens of the whole output; at least 1.
    pub max_tokens: u32,
    /// Generation ends with the token that completes one of these in the decoded output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// How many alternatives to report with each token's log probability; none for no log
    /// probabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<u8>,
    /// What the sampling noise follows from ([`job_seed`]).
    pub seed: JobSeed,
}

/// How the input of an embedding is cut into texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Embedding {
    /// How many tokens each text has, special tokens included.
    pub lengths: Vec<u32>,
}

/// How the next token is chosen from the logits. The order is fixed: temperature, top-k, then
/// min-p and top-p on what is left, then the seeded noise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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

/// Why a task, or the output it is to go on after, cannot be worked on.
#[derive(Debug, thiserror::Error, Clone, PartialEq)]
pub enum InvalidTask {
    /// There is nothing to read.
    #[error("its input is empty")]
    NoInput,
    /// A sampling parameter is outside its range.
    #[error(transparent)]
    Sampling(#[from] InvalidSampling),
    /// The lengths of an embedding's texts are not those of its input, or one is 0.
    #[error("the lengths of its texts do not add up to its input")]
    Lengths,
    /// The output that is there leaves nothing to write, or an embedding has one.
    #[error("the output that is there leaves nothing to do")]
    Output,
}

/// A sampling parameter outside its range.
#[derive(Debug, thiserror::Error, Clone, PartialEq)]
#[error("`{name}` is {value}, but must be {allowed}")]
pub struct InvalidSampling {
    /// The parameter.
    pub name: &'static str,
    /// What it is.
    pub value: f32,
    /// Its range, in words.
    pub allowed: &'static str,
}

impl Task {
    /// The model goes on writing after the input.
    pub fn write(model: ModelId, input: Vec<u32>, writing: Writing) -> Self {
        Self {
            model,
            input,
            work: Work::Write(writing),
        }
    }

    /// Each text, with its special tokens, becomes a vector.
    pub fn embed(model: ModelId, texts: &[Vec<u32>]) -> Self {
        let lengths = texts.iter().map(|text| text.len() as u32).collect();
        Self {
            model,
            input: texts.concat(),
            work: Work::Embed(Embedding { lengths }),
        }
    }

    /// How it writes; none when it embeds.
    pub fn writing(&self) -> Option<&Writing> {
        match &self.work {
            Work::Write(writing) => Some(writing),
            Work::Embed(_) => None,
        }
    }

    /// As [`Self::writing`], to change it.
    pub fn writing_mut(&mut self) -> Option<&mut Writing> {
        match &mut self.work {
            Work::Write(writing) => Some(writing),
            Work::Embed(_) => None,
        }
    }

    /// How many texts it embeds; none when it writes.
    pub fn embedded_texts(&self) -> Option<usize> {
        match &self.work {
            Work::Write(_) => None,
            Work::Embed(embed) => Some(embed.lengths.len()),
        }
    }

    /// The number of input tokens.
    pub fn input_tokens(&self) -> u32 {
        self.input.len() as u32
    }

    /// The most tokens it may write; 0 when it embeds.
    pub fn most_output_tokens(&self) -> u32 {
        self.writing().map_or(0, |write| write.max_tokens)
    }

    /// How many tokens of context a model needs for all of it.
    pub fn context_tokens(&self) -> u32 {
        match &self.work {
            Work::Write(write) => self.input_tokens().saturating_add(write.max_tokens),
            Work::Embed(embed) => embed.lengths.iter().copied().max().unwrap_or(0),
        }
    }

    /// Refuses what no node can work on, when this output exists already.
    pub fn check(&self, output: &[u32]) -> Result<(), InvalidTask> {
        if self.input.is_empty() {
            return Err(InvalidTask::NoInput);
        }
        match &self.work {
            Work::Write(write) => {
                write.sampling.validate()?;
                if output.len() as u64 >= u64::from(write.max_tokens) {
                    return Err(InvalidTask::Output);
                }
            }
            Work::Embed(embed) => {
                embed.texts(&self.input).ok_or(InvalidTask::Lengths)?;
                if !output.is_empty() {
                    return Err(InvalidTask::Output);
                }
            }
        }
        Ok(())
    }

    /// The same task for whoever checks an output of so many tokens: nothing in it tells what else
    /// the client asked for.
    #[must_use]
    pub fn to_check(&self, output_tokens: u32) -> Self {
        let work = match &self.work {
            Work::Write(write) => {
                Work::Write(Writing::new(write.sampling, output_tokens, write.seed))
            }
            Work::Embed(embed) => Work::Embed(embed.clone()),
        };
        Self {
            model: self.model,
            input: self.input.clone(),
            work,
        }
    }

    /// Stands for the input once it is deleted.
    pub fn input_hash(&self) -> Hash {
        match &self.work {
            Work::Write(_) => tokens_hash(&self.input),
            Work::Embed(embed) => Digest::new("infera/texts/v1")
                .tokens(&embed.lengths)
                .tokens(&self.input)
                .finish(),
        }
    }
}

impl Writing {
    /// Without stop strings and log probabilities.
    pub fn new(sampling: Sampling, max_tokens: u32, seed: JobSeed) -> Self {
        Self {
            sampling,
            max_tokens,
            stop: Vec::new(),
            logprobs: None,
            seed,
        }
    }
}

impl Embedding {
    /// The texts of an input. `None` when the lengths do not add up to it, or one is 0.
    pub fn texts<'a>(&self, mut input: &'a [u32]) -> Option<Vec<&'a [u32]>> {
        let mut texts = Vec::with_capacity(self.lengths.len().min(input.len()));
        for length in &self.lengths {
            let (text, rest) = input.split_at_checked(*length as usize)?;
            texts.push(text);
            input = rest;
        }
        (input.is_empty() && !self.lengths.contains(&0)).then_some(texts)
    }
}

impl Sampling {
    /// The most likely token, always.
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

    /// Appends to a digest all that decides which token comes next, floats as bits: the parameters,
    /// then how many rules there are beside them. There are none yet; constraints and penalties
    /// will be among them, and a task without any keeps its seed.
    fn encode(self, digest: Digest) -> Digest {
        digest
            .f32(self.temperature)
            .u32(self.top_k)
            .f32(self.top_p)
            .f32(self.min_p)
            .length(0)
    }
}

/// Stands for token ids once they are deleted.
pub fn tokens_hash(tokens: &[u32]) -> Hash {
    Digest::new("infera/tokens/v1").tokens(tokens).finish()
}

/// Derives the seed of a task's sampling noise (`verification.md` 3.1).
///
/// It does not depend on the node: whoever continues a job writes what the first node would have
/// written. `entropy` is 32 fresh random bytes, or a hash of the client's own `seed`, which makes
/// the answer repeatable; `choice` tells the answers to one request apart.
pub fn job_seed(
    entropy: &[u8; 32],
    model: &ModelId,
    input: &[u32],
    sampling: Sampling,
    choice: u32,
) -> JobSeed {
    let digest = Digest::new("infera/job-seed/v2")
        .fixed(entropy)
        .fixed(model.as_bytes())
        .tokens(input);
    let seed = sampling.encode(digest).u32(choice).finish();
    JobSeed::from_bytes(*seed.as_bytes())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn writing() -> Task {
        Task {
            model: ModelId::from_bytes([1; 32]),
            input: vec![1, 2, 3, 4],
            work: Work::Write(Writing {
                sampling: Sampling::GREEDY,
                max_tokens: 3,
                stop: vec!["\n".to_owned()],
                logprobs: Some(2),
                seed: JobSeed::from_bytes([7; 32]),
            }),
        }
    }

    fn embedding(lengths: &[u32]) -> Task {
        let lengths = lengths.to_vec();
        Task {
            work: Work::Embed(Embedding { lengths }),
            ..writing()
        }
    }

    #[test]
    fn sampling_ranges() {
        let good = Sampling {
            temperature: 1.0,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
        };
        assert_eq!(good.validate(), Ok(()));
        type Spoil = fn(&mut Sampling);
        let bad: [(&str, Spoil); 8] = [
            ("temperature", |it| it.temperature = -0.1),
            ("temperature", |it| it.temperature = f32::NAN),
            ("temperature", |it| it.temperature = f32::INFINITY),
            ("top_k", |it| it.top_k = 0),
            ("top_k", |it| it.top_k = 65),
            ("top_p", |it| it.top_p = 0.0),
            ("top_p", |it| it.top_p = f32::NAN),
            ("min_p", |it| it.min_p = 1.5),
        ];
        for (name, spoil) in bad {
            let mut sampling = good;
            spoil(&mut sampling);
            assert_eq!(sampling.validate().unwrap_err().name, name, "{sampling:?}");
        }
    }

    #[test]
    fn texts_are_cut_where_their_lengths_say() {
        let texts = |input, lengths: &[u32]| {
            let lengths = lengths.to_vec();
            Embedding { lengths }.texts(input)
        };
        let input = &[1, 2, 3, 4][..];
        assert_eq!(texts(input, &[1, 3]), Some(vec![&[1][..], &[2, 3, 4]]));
        assert_eq!(texts(&[], &[]), Some(Vec::new()));
        for lengths in [&[1, 2][..], &[5], &[], &[4, 0], &[u32::MAX, 5]] {
            assert_eq!(texts(input, lengths), None, "{lengths:?}");
        }
    }

    #[test]
    fn a_task_is_worked_on_where_something_is_left_to_do() {
        assert_eq!(writing().check(&[]), Ok(()));
        assert_eq!(writing().check(&[5, 6]), Ok(()));
        assert_eq!(writing().check(&[5, 6, 7]), Err(InvalidTask::Output));
        assert_eq!(embedding(&[1, 3]).check(&[]), Ok(()));
        assert_eq!(embedding(&[1, 3]).check(&[5]), Err(InvalidTask::Output));
        assert_eq!(embedding(&[1, 2]).check(&[]), Err(InvalidTask::Lengths));
        for mut task in [writing(), embedding(&[])] {
            task.input.clear();
            assert_eq!(task.check(&[]), Err(InvalidTask::NoInput));
        }
        let mut task = writing();
        task.writing_mut().unwrap().sampling.top_k = 0;
        assert!(matches!(task.check(&[]), Err(InvalidTask::Sampling(_))));
        let need = [
            writing().context_tokens(),
            embedding(&[1, 3]).context_tokens(),
        ];
        assert_eq!(need, [7, 3]);
    }

    #[test]
    fn who_checks_an_output_learns_only_what_it_follows_from() {
        let task = writing().to_check(2);
        let shown = serde_json::to_value(&task).unwrap();
        let write = &shown["work"]["write"];
        let mut fields: Vec<_> = write.as_object().unwrap().keys().collect();
        fields.sort();
        assert_eq!(fields, ["max_tokens", "sampling", "seed"]);
        assert_eq!(write["max_tokens"], 2);
        let embed = embedding(&[1, 3]);
        assert_eq!(embed.to_check(0), embed);
    }

    #[test]
    fn a_field_that_is_not_known_is_never_passed_over() {
        for task in [writing(), embedding(&[1, 3])] {
            let known = serde_json::to_value(&task).unwrap();
            assert_eq!(serde_json::from_value::<Task>(known.clone()).unwrap(), task);
            let places = match task.work {
                Work::Write(_) => &["", "/work/write", "/work/write/sampling"][..],
                Work::Embed(_) => &["", "/work/embed"],
            };
            for place in places {
                let mut later = known.clone();
                later.pointer_mut(place).unwrap()["grammar"] = json!("root ::= [0-9]");
                let read = serde_json::from_value::<Task>(later);
                let error = read.unwrap_err().to_string();
                assert!(error.contains("grammar"), "{place}: {error}");
            }
        }
    }

    #[test]
    fn an_inputs_hash_is_that_of_its_tokens_and_of_how_they_are_cut() {
        let hashes = [
            writing().input_hash(),
            embedding(&[1, 3]).input_hash(),
            embedding(&[2, 2]).input_hash(),
        ];
        assert_eq!(hashes[0], tokens_hash(&writing().input));
        assert_ne!(hashes[0], hashes[1]);
        assert_ne!(hashes[1], hashes[2]);
    }

    #[test]
    fn every_input_changes_the_seed() {
        let model = ModelId::from_bytes([1; 32]);
        let greedy = Sampling::GREEDY;
        let seed = job_seed(&[0; 32], &model, &[1, 2], greedy, 0);
        assert_eq!(seed, job_seed(&[0; 32], &model, &[1, 2], greedy, 0));
        let warm = Sampling {
            temperature: 1.0,
            ..greedy
        };
        let other = ModelId::from_bytes([2; 32]);
        let others = [
            job_seed(&[1; 32], &model, &[1, 2], greedy, 0),
            job_seed(&[0; 32], &other, &[1, 2], greedy, 0),
            job_seed(&[0; 32], &model, &[1, 3], greedy, 0),
            job_seed(&[0; 32], &model, &[1, 2], warm, 0),
            job_seed(&[0; 32], &model, &[1, 2], greedy, 1),
        ];
        assert!(others.iter().all(|other| *other != seed));
    }
}
