//! Which tokens go through the model in the next step, and what becomes of the logits.
//!
//! Requests join and leave between steps. Every running sequence that decodes gets its one token
//! into each step; prompts are fed in chunks beside them, so that a long prompt does not hold up
//! the streams. Pure logic over [`Forward`]: tested without a device.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Instant;

use infera_protocol::{FinishReason, JobSeed, Mismatch, Sampling, TokenOutput};
use infera_verify::{choose, log_probabilities, score};

use crate::message::{Event, Failure, FailureCode, Finished, Generate, Score, Scored, Stats};

/// A model as the scheduler sees it.
pub trait Forward {
    type Cache;

    fn vocabulary(&self) -> usize;
    /// Prompt and output together.
    fn context(&self) -> usize;
    fn new_cache(&self) -> Self::Cache;
    fn cache_bytes(&self, cache: &Self::Cache) -> u64;
    /// Appends each segment to its sequence and gives the logits after all wanted tokens, in
    /// order, in rows of `vocabulary`.
    fn forward(&self, segments: &mut [Segment<'_, Self::Cache>]) -> Result<Vec<f32>, Failure>;
}

/// Tokens to append to one sequence.
pub struct Segment<'a, Cache> {
    pub cache: &'a mut Cache,
    pub tokens: &'a [u32],
    /// The tokens after which the logits are wanted.
    pub wanted: Range<usize>,
}

/// Takes an output's tokens one by one and tells when a stop string is complete.
pub type StopWatch = Box<dyn FnMut(u32) -> bool>;

/// Makes a [`StopWatch`] from a job's prompt and its stop strings.
pub type NewStopWatch = Box<dyn Fn(&[u32], &[String]) -> StopWatch>;

/// What the scheduler needs to know of the text behind the ids.
pub struct Endings {
    /// The end-of-generation tokens.
    pub tokens: Vec<u32>,
    pub watch: NewStopWatch,
}

/// Prompt tokens in one step, all sequences together.
const PREFILL_TOKENS: usize = 64;

/// How many of the newest steps the reported speed looks at.
const SPEED_STEPS: usize = 32;

pub struct Scheduler<M: Forward> {
    model: M,
    endings: Endings,
    /// How many sequences may run at once.
    slots: usize,
    now: fn() -> Instant,
    waiting: VecDeque<Sequence<M::Cache>>,
    running: Vec<Sequence<M::Cache>>,
    stats: Stats,
    /// When each of the newest steps began and ended, and how many output tokens it gave.
    recent: VecDeque<(Instant, Instant, usize)>,
}

struct Sequence<Cache> {
    id: u64,
    task: Task,
    sampling: Sampling,
    seed: JobSeed,
    /// What goes through the model, produced tokens included.
    tokens: Vec<u32>,
    /// How many of them have.
    fed: usize,
    prompt: usize,
    cache: Option<Cache>,
    cancelled: bool,
    started: Option<Instant>,
    prefilled: Option<Instant>,
}

enum Task {
    Generate {
        max_tokens: usize,
        logprobs: Option<u8>,
        stop: Option<StopWatch>,
    },
    Score {
        claimed: Vec<u32>,
        mismatches: Vec<Mismatch>,
        scored: usize,
    },
}

impl<M: Forward> Scheduler<M> {
    pub fn new(model: M, endings: Endings, slots: usize, now: fn() -> Instant) -> Self {
        Self {
            model,
            endings,
            slots: slots.max(1),
            now,
            waiting: VecDeque::new(),
            running: Vec::new(),
            stats: Stats::default(),
            recent: VecDeque::new(),
        }
    }

    pub fn model(&self) -> &M {
        &self.model
    }

    /// Nothing runs and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    pub fn stats(&self) -> Stats {
        let caches = self
            .running
            .iter()
            .filter_map(|sequence| sequence.cache.as_ref());
        Stats {
            running: self.running.len() as u32,
            waiting: self.waiting.len() as u32,
            kv_bytes: caches.map(|cache| self.model.cache_bytes(cache)).sum(),
            tokens_per_second: self.speed(),
            ..self.stats
        }
    }

    /// Queues a request to continue an output; a bad one is answered at once.
    pub fn generate(&mut self, request: &Generate, emit: &mut dyn FnMut(Event)) {
        let tokens = [request.prompt.as_slice(), &request.output].concat();
        if let Err(failure) = self.check(request.id, &request.prompt, &tokens, &request.sampling) {
            return emit(failed(request.id, failure));
        }
        let mut stop = (!request.stop.is_empty())
            .then(|| (self.endings.watch)(&request.prompt, &request.stop));
        let mut ended = None;
        for token in &request.output {
            let stopped = stop.as_mut().is_some_and(|watch| watch(*token));
            ended = self.endings.ending(*token, stopped);
        }
        let max_tokens = request.max_tokens as usize;
        if let Some(reason) =
            ended.or((request.output.len() >= max_tokens).then_some(FinishReason::Length))
        {
            emit(Event::Finished(Finished {
                id: request.id,
                reason,
                prefill_ms: 0,
                decode_ms: 0,
            }));
            return;
        }
        let task = Task::Generate {
            max_tokens,
            logprobs: request.logprobs,
            stop,
        };
        let prompt = request.prompt.len();
        self.waiting.push_back(Sequence::new(
            request.id,
            task,
            request.sampling,
            request.seed,
            tokens,
            prompt,
        ));
    }

    /// Queues a teacher-forced pass; a bad request is answered at once.
    pub fn score(&mut self, request: Score, emit: &mut dyn FnMut(Event)) {
        let mut tokens = [request.prompt.as_slice(), &request.output].concat();
        let checked = if request.output.is_empty() {
            Err(bad_request("There is no output to score".to_owned()))
        } else {
            self.check(request.id, &request.prompt, &tokens, &request.sampling)
        };
        if let Err(failure) = checked {
            return emit(failed(request.id, failure));
        }
        tokens.pop();
        let task = Task::Score {
            claimed: request.output,
            mismatches: Vec::new(),
            scored: 0,
        };
        let prompt = request.prompt.len();
        self.waiting.push_back(Sequence::new(
            request.id,
            task,
            request.sampling,
            request.seed,
            tokens,
            prompt,
        ));
    }

    /// The request ends at the start of the next step. One that is not there is ignored: it may
    /// just have ended.
    pub fn cancel(&mut self, id: u64) {
        let all = self.waiting.iter_mut().chain(&mut self.running);
        for sequence in all.filter(|sequence| sequence.id == id) {
            sequence.cancelled = true;
        }
    }

    /// One pass through the model for as many sequences as can take part.
    pub fn step(&mut self, emit: &mut dyn FnMut(Event)) {
        self.drop_cancelled(emit);
        self.admit();
        let begun = (self.now)();
        let plan = self.plan();
        let vocabulary = self.model.vocabulary();
        let mut segments: Vec<_> = self
            .running
            .iter_mut()
            .zip(&plan)
            .filter(|(_, feed)| feed.count > 0)
            .filter_map(|(sequence, feed)| {
                Some(Segment {
                    cache: sequence.cache.as_mut()?,
                    tokens: &sequence.tokens[sequence.fed..sequence.fed + feed.count],
                    wanted: feed.wanted.clone(),
                })
            })
            .collect();
        if segments.is_empty() {
            return;
        }
        let logits = match self.model.forward(&mut segments) {
            Ok(logits) => logits,
            Err(failure) => return self.fail_all(&failure, emit),
        };
        let ended = (self.now)();
        let mut rows = logits.chunks_exact(vocabulary);
        let produced_before = self.stats.output_tokens;
        for (index, feed) in plan.iter().enumerate() {
            self.running[index].fed += feed.count;
            if self.running[index].prefilled.is_none() {
                self.stats.prompt_tokens += feed.count as u64;
            }
            for _ in feed.wanted.clone() {
                if let Some(row) = rows.next() {
                    self.take_logits(index, row, ended, emit);
                }
            }
        }
        let produced = self.stats.output_tokens - produced_before;
        self.recent.push_back((begun, ended, produced as usize));
        if self.recent.len() > SPEED_STEPS {
            self.recent.pop_front();
        }
        self.running.retain(|sequence| sequence.cache.is_some());
    }

    /// After a failed pass nothing is known of the caches.
    fn fail_all(&mut self, failure: &Failure, emit: &mut dyn FnMut(Event)) {
        for sequence in self.running.drain(..) {
            emit(failed(sequence.id, failure.clone()));
        }
    }

    fn check(
        &self,
        id: u64,
        prompt: &[u32],
        tokens: &[u32],
        sampling: &Sampling,
    ) -> Result<(), Failure> {
        let vocabulary = self.model.vocabulary();
        let context = self.model.context();
        if prompt.is_empty() {
            return Err(bad_request("The prompt is empty".to_owned()));
        }
        if tokens.len() > context {
            let message = format!("{} tokens are over the context of {context}", tokens.len());
            return Err(bad_request(message));
        }
        if let Some(token) = tokens.iter().find(|token| **token as usize >= vocabulary) {
            let message = format!("The token id {token} is beyond the vocabulary of {vocabulary}");
            return Err(bad_request(message));
        }
        if self
            .waiting
            .iter()
            .chain(&self.running)
            .any(|sequence| sequence.id == id)
        {
            return Err(bad_request(format!("The request id {id} is in use")));
        }
        sampling
            .validate()
            .map_err(|error| bad_request(error.to_string()))
    }

    fn drop_cancelled(&mut self, emit: &mut dyn FnMut(Event)) {
        let now = (self.now)();
        let mut finish = |sequence: &Sequence<M::Cache>| {
            if sequence.cancelled {
                emit(Event::Finished(
                    sequence.finished(FinishReason::Cancelled, now),
                ));
            }
            !sequence.cancelled
        };
        self.waiting.retain(&mut finish);
        self.running.retain(&mut finish);
    }

    fn admit(&mut self) {
        while self.running.len() < self.slots {
            let Some(mut sequence) = self.waiting.pop_front() else {
                return;
            };
            sequence.cache = Some(self.model.new_cache());
            sequence.started = Some((self.now)());
            self.running.push(sequence);
        }
    }

    /// How many tokens each running sequence feeds, and after which of them logits are wanted.
    fn plan(&self) -> Vec<Feed> {
        let mut budget = PREFILL_TOKENS;
        self.running
            .iter()
            .map(|sequence| {
                let open = sequence.tokens.len() - sequence.fed;
                let decodes =
                    sequence.prefilled.is_some() && matches!(sequence.task, Task::Generate { .. });
                let count = if decodes { open } else { open.min(budget) };
                if !decodes {
                    budget -= count;
                }
                Feed {
                    count,
                    wanted: sequence.wanted(count),
                }
            })
            .collect()
    }

    fn take_logits(
        &mut self,
        index: usize,
        logits: &[f32],
        now: Instant,
        emit: &mut dyn FnMut(Event),
    ) {
        let context = self.model.context();
        let sequence = &mut self.running[index];
        sequence.prefilled.get_or_insert(now);
        let (sampling, seed) = (sequence.sampling, sequence.seed);
        match &mut sequence.task {
            Task::Generate {
                max_tokens,
                logprobs,
                stop,
            } => {
                let position = sequence.tokens.len() - sequence.prompt;
                let token = choose(logits, &sampling, &seed, position as u32);
                sequence.tokens.push(token);
                self.stats.output_tokens += 1;
                emit(Event::Tokens {
                    id: sequence.id,
                    tokens: vec![describe(logits, token, *logprobs)],
                });
                let stopped = stop.as_mut().is_some_and(|watch| watch(token));
                let full = position + 1 >= *max_tokens || sequence.tokens.len() >= context;
                let reason = self
                    .endings
                    .ending(token, stopped)
                    .or(full.then_some(FinishReason::Length));
                if let Some(reason) = reason {
                    let sequence = &mut self.running[index];
                    sequence.cache = None;
                    emit(Event::Finished(sequence.finished(reason, now)));
                }
            }
            Task::Score {
                claimed,
                mismatches,
                scored,
            } => {
                let position = *scored as u32;
                let token = claimed[*scored];
                let own = score(logits, &sampling, &seed, position, token);
                if own.token != token {
                    mismatches.push(Mismatch {
                        position,
                        token: own.token,
                        margin: own.margin,
                    });
                }
                *scored += 1;
                if *scored == claimed.len() {
                    let elapsed = sequence
                        .started
                        .map_or(0, |started| milliseconds(started, now));
                    emit(Event::Scored(Scored {
                        id: sequence.id,
                        positions: *scored as u32,
                        mismatches: std::mem::take(mismatches),
                        elapsed_ms: elapsed,
                    }));
                    sequence.cache = None;
                }
            }
        }
    }

    fn speed(&self) -> Option<f32> {
        let tokens: usize = self.recent.iter().map(|(_, _, tokens)| tokens).sum();
        let seconds: f32 = self
            .recent
            .iter()
            .map(|(begun, ended, _)| (*ended - *begun).as_secs_f32())
            .sum();
        (tokens > 0 && seconds > 0.0).then(|| tokens as f32 / seconds)
    }
}

struct Feed {
    count: usize,
    wanted: Range<usize>,
}

impl Endings {
    fn ending(&self, token: u32, stopped: bool) -> Option<FinishReason> {
        if self.tokens.contains(&token) {
            Some(FinishReason::EndOfText)
        } else {
            stopped.then_some(FinishReason::Stop)
        }
    }
}

impl<Cache> Sequence<Cache> {
    fn new(
        id: u64,
        task: Task,
        sampling: Sampling,
        seed: JobSeed,
        tokens: Vec<u32>,
        prompt: usize,
    ) -> Self {
        Self {
            id,
            task,
            sampling,
            seed,
            tokens,
            fed: 0,
            prompt,
            cache: None,
            cancelled: false,
            started: None,
            prefilled: None,
        }
    }

    /// Of the next `count` tokens, those whose logits are used.
    fn wanted(&self, count: usize) -> Range<usize> {
        let first = match self.task {
            Task::Generate { .. } => self.tokens.len() - 1,
            Task::Score { .. } => self.prompt - 1,
        };
        first.saturating_sub(self.fed).min(count)..count
    }

    fn finished(&self, reason: FinishReason, now: Instant) -> Finished {
        let since =
            |from: Option<Instant>, to: Instant| from.map_or(0, |from| milliseconds(from, to));
        Finished {
            id: self.id,
            reason,
            prefill_ms: since(self.started, self.prefilled.unwrap_or(now)),
            decode_ms: since(self.prefilled, now),
        }
    }
}

fn describe(logits: &[f32], token: u32, logprobs: Option<u8>) -> TokenOutput {
    match logprobs {
        None => TokenOutput {
            id: token,
            logprob: None,
            alternatives: Vec::new(),
        },
        Some(top) => {
            let (logprob, alternatives) = log_probabilities(logits, token, usize::from(top));
            TokenOutput {
                id: token,
                logprob: Some(logprob),
                alternatives,
            }
        }
    }
}

fn milliseconds(from: Instant, to: Instant) -> u32 {
    u32::try_from(to.saturating_duration_since(from).as_millis()).unwrap_or(u32::MAX)
}

fn failed(id: u64, error: Failure) -> Event {
    Event::Failed {
        id: Some(id),
        error,
    }
}

fn bad_request(message: String) -> Failure {
    Failure {
        code: FailureCode::BadRequest,
        message,
    }
}
