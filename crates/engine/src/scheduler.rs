//! Which tokens go through the model in the next step, and what becomes of the logits.
//!
//! Continuous batching: requests join and leave between steps. Every sequence that decodes gets
//! its one token into each step; prompts are fed in chunks beside them, in equal shares and as many
//! tokens as keep a step short, so that a long prompt does not hold up the streams. A sequence
//! reads the KV blocks that another with the same beginning has left behind. When blocks run
//! out, the newest sequence gives its own up and is computed again later. Pure logic over
//! [`Forward`]: tested without a device.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use infera_protocol::{
    FinishReason, JobSeed, LogProbabilities, Mismatch, Sampling, Task, TokenOutput, Writing,
};
use infera_verify::{
    choose, choose_among, is_defined, log_probabilities, log_probability, needed, score,
};
use rayon::prelude::*;

use crate::forward::{BLOCK_TOKENS, Forward, Segment};
use crate::kv_blocks::{BlockHash, KvBlocks, block_hash};
use crate::message::{Event, Failure, Finished, Generate, PREFILLED_EVERY, Score, Scored, Stats};

/// Takes an output's tokens one by one and tells when a stop string is complete.
pub type StopWatch = Box<dyn FnMut(u32) -> bool + Send + Sync>;

/// Makes a [`StopWatch`] from a job's prompt and its stop strings.
pub type NewStopWatch = Box<dyn Fn(&[u32], &[String]) -> StopWatch>;

/// What the scheduler needs to know of the text behind the ids.
pub struct Endings {
    /// The end-of-generation tokens.
    pub tokens: Vec<u32>,
    pub watch: NewStopWatch,
}

/// How long a step that prefills may take: beside sequences that decode, and without. Both are cut
/// where the device is to rest between steps.
const STEP_BESIDE_STREAMS: Duration = Duration::from_millis(50);
const STEP_ALONE: Duration = Duration::from_millis(250);
/// Prompt tokens in one step, all sequences together.
const PREFILL_TOKENS: Range<usize> = 32..513;
/// Logits of one step are held in memory at once: at most so many rows of a [`Score`].
const SCORED_ROWS: usize = 64;

/// How many of the newest steps the reported speed looks at.
const SPEED_STEPS: usize = 32;

pub struct Scheduler<M> {
    model: M,
    endings: Endings,
    /// How many sequences may run at once.
    slots: usize,
    now: fn() -> Instant,
    /// However long a step could take otherwise.
    longest_step: Duration,
    blocks: KvBlocks,
    waiting: VecDeque<Sequence>,
    /// Oldest first: when blocks run out, the last one gives way.
    running: Vec<Sequence>,
    stats: Stats,
    failure: Option<Failure>,
    /// The newest steps that prefilled.
    seconds_per_row: Option<f32>,
    /// When each of the newest steps began and ended, and how many output tokens it gave.
    recent: VecDeque<(Instant, Instant, usize)>,
}

struct Sequence {
    id: u64,
    goal: Goal,
    sampling: Sampling,
    seed: JobSeed,
    /// What goes through the model, produced tokens included.
    tokens: Vec<u32>,
    /// How many of them have.
    fed: usize,
    prompt: usize,
    /// Its KV blocks, and the hashes of those that are full.
    blocks: Vec<u32>,
    hashes: Vec<BlockHash>,
    cancelled: bool,
    ended: bool,
    started: Option<Instant>,
    prefilled: Option<Instant>,
    /// When it was last told how many tokens have gone through, and how many those were.
    told: Option<(Instant, usize)>,
}

enum Goal {
    Generate {
        max_tokens: usize,
        logprobs: Option<u8>,
        stop: Option<StopWatch>,
    },
    Score {
        claimed: Vec<u32>,
        mismatches: Vec<Mismatch>,
        /// For what was scored.
        log_probabilities: LogProbabilities,
    },
}

impl<M: Forward> Scheduler<M> {
    pub fn new(model: M, endings: Endings, slots: usize, now: fn() -> Instant) -> Self {
        Self {
            blocks: KvBlocks::new(model.blocks()),
            model,
            endings,
            slots: slots.max(1),
            now,
            longest_step: STEP_ALONE,
            waiting: VecDeque::new(),
            running: Vec::new(),
            stats: Stats::default(),
            failure: None,
            seconds_per_row: None,
            recent: VecDeque::new(),
        }
    }

    pub fn model(&self) -> &M {
        &self.model
    }

    /// Keeps steps shorter than they could be, so that the device can rest between them.
    pub fn keep_steps_below(&mut self, longest: Duration) {
        self.longest_step = longest;
    }

    /// What the last pass that failed died of.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Nothing runs and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// The longest sequence that can run: the model's context, or less where the KV cache is small.
    pub fn context(&self) -> usize {
        self.model.context().min(self.blocks.total() * BLOCK_TOKENS)
    }

    pub fn stats(&self) -> Stats {
        Stats {
            running: self.running.len() as u32,
            waiting: self.waiting.len() as u32,
            kv_bytes: self.blocks.used() as u64 * self.model.block_bytes(),
            tokens_per_second: self.speed(),
            ..self.stats
        }
    }

    /// Queues a request to continue an output; a bad one is answered at once.
    pub fn generate(&mut self, request: &Generate, emit: &mut dyn FnMut(Event)) {
        let Generate { id, task, output } = request;
        let tokens = [task.input.as_slice(), output].concat();
        let writing = match self.check(*id, task, &tokens) {
            Ok(writing) => writing,
            Err(failure) => return emit(failed(*id, failure)),
        };
        let mut stop =
            (!writing.stop.is_empty()).then(|| (self.endings.watch)(&task.input, &writing.stop));
        let mut ended = None;
        for token in output {
            let stopped = stop.as_mut().is_some_and(|watch| watch(*token));
            ended = self.endings.ending(*token, stopped);
        }
        let max_tokens = writing.max_tokens as usize;
        if let Some(reason) = ended.or((output.len() >= max_tokens).then_some(FinishReason::Length))
        {
            emit(Event::Finished(Finished {
                id: *id,
                reason,
                prefill_ms: 0,
                decode_ms: 0,
            }));
            return;
        }
        let goal = Goal::Generate {
            max_tokens,
            logprobs: writing.logprobs,
            stop,
        };
        let sequence = Sequence::new(*id, goal, writing, tokens, task.input.len());
        self.waiting.push_back(sequence);
    }

    /// Queues a teacher-forced pass; a bad request is answered at once.
    pub fn score(&mut self, request: Score, emit: &mut dyn FnMut(Event)) {
        let Score { id, task, output } = request;
        let mut tokens = [task.input.as_slice(), &output].concat();
        let checked = if output.is_empty() {
            Err(Failure::bad_request(
                "There is no output to score".to_owned(),
            ))
        } else {
            self.check(id, &task, &tokens)
        };
        let writing = match checked {
            Ok(writing) => writing,
            Err(failure) => return emit(failed(id, failure)),
        };
        tokens.pop();
        let goal = Goal::Score {
            claimed: output,
            mismatches: Vec::new(),
            log_probabilities: LogProbabilities::default(),
        };
        let sequence = Sequence::new(id, goal, writing, tokens, task.input.len());
        self.waiting.push_back(sequence);
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
        let plan = self.plan();
        let plan = self.secure_blocks(plan);
        let segments: Vec<_> = self
            .running
            .iter()
            .zip(&plan)
            .filter(|(_, feed)| feed.count > 0)
            .map(|(sequence, feed)| Segment {
                tokens: &sequence.tokens[sequence.fed..sequence.fed + feed.count],
                start: sequence.fed,
                blocks: &sequence.blocks,
                wanted: feed.wanted.clone(),
            })
            .collect();
        if segments.is_empty() {
            return;
        }
        let begun = (self.now)();
        let judged = match self.best_that_suffice() {
            Some(count) => self
                .model
                .forward_best(&segments, count)
                .map(|best| self.choose(&plan, &best)),
            None => self
                .model
                .forward(&segments)
                .map(|logits| self.judge(&plan, &logits)),
        };
        let judged = match judged {
            Ok(judged) => judged,
            Err(failure) => return self.fail_all(&failure, emit),
        };
        let ended = (self.now)();
        let produced_before = self.stats.output_tokens;
        for (index, feed) in plan.iter().enumerate() {
            self.advance(index, feed.count);
        }
        for (index, judgement) in judged {
            self.apply(index, judgement, ended, emit);
        }
        for sequence in &mut self.running {
            sequence.tell_prefilled(ended, emit);
        }
        self.retire(|sequence| sequence.ended);
        let produced = self.stats.output_tokens - produced_before;
        self.measure(begun, ended, produced as usize, &plan);
    }

    /// What was fed is in the cache: full blocks can be shared.
    fn advance(&mut self, index: usize, count: usize) {
        let sequence = &mut self.running[index];
        sequence.fed += count;
        if sequence.prefilled.is_none() {
            self.stats.prompt_tokens += count as u64;
        }
        for block in sequence.hashes.len()..sequence.fed / BLOCK_TOKENS {
            let hash = sequence.hash(block);
            self.blocks.publish(sequence.blocks[block], hash);
            sequence.hashes.push(hash);
        }
    }

    fn measure(&mut self, begun: Instant, ended: Instant, produced: usize, plan: &[Feed]) {
        let rows: usize = plan.iter().map(|feed| feed.count).sum();
        if plan.iter().any(|feed| feed.count > 1) {
            let now = (ended - begun).as_secs_f32() / rows as f32;
            let before = self.seconds_per_row.unwrap_or(now);
            self.seconds_per_row = Some(f32::midpoint(before, now));
        }
        self.recent.push_back((begun, ended, produced));
        if self.recent.len() > SPEED_STEPS {
            self.recent.pop_front();
        }
    }

    /// After a failed pass nothing is known of the caches.
    fn fail_all(&mut self, failure: &Failure, emit: &mut dyn FnMut(Event)) {
        for sequence in &mut self.running {
            sequence.ended = true;
            emit(failed(sequence.id, failure.clone()));
        }
        self.retire(|_| true);
        self.blocks.forget();
        self.failure = Some(failure.clone());
    }

    /// Takes sequences out of the batch; their blocks are free at once.
    fn retire(&mut self, ends: impl Fn(&Sequence) -> bool) {
        let blocks = &mut self.blocks;
        self.running.retain_mut(|sequence| {
            let ends = ends(sequence);
            if ends {
                sequence.release(blocks);
            }
            !ends
        });
    }

    /// How the task writes, if this model can go on with it; `tokens` are its input and output.
    fn check<'a>(&self, id: u64, task: &'a Task, tokens: &[u32]) -> Result<&'a Writing, Failure> {
        let vocabulary = self.model.vocabulary();
        let context = self.context();
        let writing = task.writing().ok_or_else(Failure::wrong_kind)?;
        if task.input.is_empty() {
            return Err(Failure::bad_request("The prompt is empty".to_owned()));
        }
        if tokens.len() > context {
            let message = format!("{} tokens are over the context of {context}", tokens.len());
            return Err(Failure::bad_request(message));
        }
        if let Some(token) = tokens.iter().find(|token| **token as usize >= vocabulary) {
            let message = format!("The token id {token} is beyond the vocabulary of {vocabulary}");
            return Err(Failure::bad_request(message));
        }
        if self
            .waiting
            .iter()
            .chain(&self.running)
            .any(|sequence| sequence.id == id)
        {
            return Err(Failure::bad_request(format!(
                "The request id {id} is in use"
            )));
        }
        writing
            .sampling
            .validate()
            .map_err(|error| Failure::bad_request(error.to_string()))?;
        Ok(writing)
    }

    fn drop_cancelled(&mut self, emit: &mut dyn FnMut(Event)) {
        let now = (self.now)();
        for sequence in self.waiting.iter().chain(&self.running) {
            if sequence.cancelled {
                emit(Event::Finished(
                    sequence.finished(FinishReason::Cancelled, now),
                ));
            }
        }
        self.waiting.retain(|sequence| !sequence.cancelled);
        self.retire(|sequence| sequence.cancelled);
    }

    /// First come, first served, as soon as there are blocks for all that has to be fed.
    fn admit(&mut self) {
        while self.running.len() < self.slots {
            let Some(mut sequence) = self.waiting.pop_front() else {
                return;
            };
            sequence.share_prefix(&mut self.blocks);
            let needed = blocks_for(sequence.tokens.len()) - sequence.blocks.len();
            if needed > self.blocks.available() {
                sequence.release(&mut self.blocks);
                self.waiting.push_front(sequence);
                return;
            }
            sequence.started.get_or_insert_with(self.now);
            self.running.push(sequence);
        }
    }

    /// How many tokens each running sequence feeds, and after which of them logits are wanted.
    fn plan(&self) -> Vec<Feed> {
        let open: Vec<usize> = self
            .running
            .iter()
            .map(|sequence| sequence.tokens.len() - sequence.fed)
            .collect();
        let mut counts = vec![1; open.len()];
        let mut prefilling: Vec<usize> = (0..open.len()).filter(|at| open[*at] > 1).collect();
        // What a short one does not need goes to the longer ones.
        prefilling.sort_by_key(|at| open[*at]);
        let mut budget = self.prefill_budget(prefilling.len() < open.len());
        for (done, at) in prefilling.iter().enumerate() {
            let share = budget / (prefilling.len() - done);
            counts[*at] = open[*at].min(share.max(1));
            budget = budget.saturating_sub(counts[*at]);
        }
        let mut scored = SCORED_ROWS;
        self.running
            .iter()
            .zip(counts)
            .map(|(sequence, count)| {
                let feed = sequence.feed(count, scored);
                if matches!(sequence.goal, Goal::Score { .. }) {
                    scored -= feed.wanted.len();
                }
                feed
            })
            .collect()
    }

    fn prefill_budget(&self, beside_streams: bool) -> usize {
        let limit = if beside_streams {
            STEP_BESIDE_STREAMS
        } else {
            STEP_ALONE
        }
        .min(self.longest_step);
        let (least, most) = (PREFILL_TOKENS.start, PREFILL_TOKENS.end - 1);
        match self.seconds_per_row {
            None => least,
            Some(seconds) => ((limit.as_secs_f32() / seconds) as usize).clamp(least, most),
        }
    }

    /// Sees to it that every sequence that takes part has blocks for what it feeds. Who is left
    /// without them gives up what it has and waits.
    fn secure_blocks(&mut self, mut plan: Vec<Feed>) -> Vec<Feed> {
        let mut index = 0;
        while index < self.running.len() {
            let sequence = &mut self.running[index];
            let needed = blocks_for(sequence.fed + plan[index].count);
            while sequence.blocks.len() < needed
                && let Some(block) = self.blocks.take()
            {
                sequence.blocks.push(block);
            }
            if sequence.blocks.len() >= needed {
                index += 1;
            } else if let Some(mut last) = self.running.pop() {
                plan.pop();
                last.release(&mut self.blocks);
                self.waiting.push_front(last);
            }
        }
        plan
    }

    /// How many of the largest logits decide in every row of the next pass; none where a score or
    /// a probability needs them all.
    fn best_that_suffice(&self) -> Option<usize> {
        self.running
            .iter()
            .map(|sequence| match sequence.goal {
                Goal::Generate { logprobs: None, .. } => Some(needed(&sequence.sampling)),
                Goal::Generate { .. } | Goal::Score { .. } => None,
            })
            .try_fold(1, |most, count| Some(most.max(count?)))
    }

    /// What the best of each row mean for its sequence.
    fn choose(&self, plan: &[Feed], best: &[Vec<(u32, f32)>]) -> Vec<(usize, Judgement)> {
        wanted(plan)
            .zip(best)
            .map(|((index, row), best)| (index, self.running[index].choose(row, best)))
            .collect()
    }

    /// What each row of logits means for its sequence. The rows are independent.
    fn judge(&self, plan: &[Feed], logits: &[f32]) -> Vec<(usize, Judgement)> {
        let running = &self.running;
        let rows: Vec<(usize, usize)> = wanted(plan).collect();
        rows.into_par_iter()
            .zip(logits.par_chunks_exact(self.model.vocabulary()))
            .map(|((index, row), logits)| (index, running[index].judge(row, logits)))
            .collect()
    }

    fn apply(
        &mut self,
        index: usize,
        judgement: Judgement,
        now: Instant,
        emit: &mut dyn FnMut(Event),
    ) {
        let context = self.context();
        let sequence = &mut self.running[index];
        if sequence.ended {
            // An earlier row of this step was undefined.
            return;
        }
        sequence.prefilled.get_or_insert(now);
        match (&mut sequence.goal, judgement) {
            (
                Goal::Generate {
                    max_tokens, stop, ..
                },
                Judgement::Next(output),
            ) => {
                let token = output.id;
                sequence.tokens.push(token);
                self.stats.output_tokens += 1;
                emit(Event::Tokens {
                    id: sequence.id,
                    tokens: vec![output],
                });
                let stopped = stop.as_mut().is_some_and(|watch| watch(token));
                let full = sequence.tokens.len() - sequence.prompt >= *max_tokens
                    || sequence.tokens.len() >= context;
                let reason = self
                    .endings
                    .ending(token, stopped)
                    .or(full.then_some(FinishReason::Length));
                if let Some(reason) = reason {
                    sequence.ended = true;
                    emit(Event::Finished(sequence.finished(reason, now)));
                }
            }
            (
                Goal::Score {
                    claimed,
                    mismatches,
                    log_probabilities,
                },
                Judgement::Scored {
                    log_probability,
                    mismatch,
                },
            ) => {
                mismatches.extend(mismatch);
                log_probabilities.push(log_probability);
                if log_probabilities.len() == claimed.len() {
                    let elapsed = sequence
                        .started
                        .map_or(0, |started| milliseconds(started, now));
                    emit(Event::Scored(Scored {
                        id: sequence.id,
                        positions: claimed.len() as u32,
                        mismatches: std::mem::take(mismatches),
                        log_probabilities: std::mem::take(log_probabilities),
                        elapsed_ms: elapsed,
                    }));
                    sequence.ended = true;
                }
            }
            (_, Judgement::Undefined) => {
                sequence.ended = true;
                emit(failed(sequence.id, Failure::undefined(self.model.name())));
            }
            (Goal::Generate { .. }, Judgement::Scored { .. })
            | (Goal::Score { .. }, Judgement::Next(_)) => {}
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

/// What one sequence feeds in a step.
struct Feed {
    count: usize,
    wanted: Range<usize>,
}

/// For each row whose logits are wanted, its sequence and its place among what that one feeds.
fn wanted(plan: &[Feed]) -> impl Iterator<Item = (usize, usize)> {
    let feeds = plan.iter().enumerate();
    feeds.flat_map(|(index, feed)| feed.wanted.clone().map(move |row| (index, row)))
}

/// What a row of logits means.
enum Judgement {
    Next(TokenOutput),
    Scored {
        /// The claimed token's.
        log_probability: f64,
        mismatch: Option<Mismatch>,
    },
    /// All of them are undefined.
    Undefined,
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

impl Sequence {
    fn new(id: u64, goal: Goal, writing: &Writing, tokens: Vec<u32>, prompt: usize) -> Self {
        Self {
            id,
            goal,
            sampling: writing.sampling,
            seed: writing.seed,
            tokens,
            fed: 0,
            prompt,
            blocks: Vec::new(),
            hashes: Vec::new(),
            cancelled: false,
            ended: false,
            started: None,
            prefilled: None,
            told: None,
        }
    }

    /// The next `count` tokens, or fewer so that at most `scored` rows are scored.
    fn feed(&self, count: usize, scored: usize) -> Feed {
        let first = self.first_wanted().saturating_sub(self.fed).min(count);
        let count = match self.goal {
            Goal::Generate { .. } => count,
            Goal::Score { .. } => count.min(first + scored),
        };
        Feed {
            count,
            wanted: first..count,
        }
    }

    /// The first token after which logits are used.
    fn first_wanted(&self) -> usize {
        match &self.goal {
            Goal::Generate { .. } => self.tokens.len() - 1,
            Goal::Score {
                log_probabilities, ..
            } => self.prompt - 1 + log_probabilities.len(),
        }
    }

    /// Reads what is known of its beginning, as far as no logits are wanted there.
    fn share_prefix(&mut self, blocks: &mut KvBlocks) {
        for block in 0..self.first_wanted() / BLOCK_TOKENS {
            let hash = self.hash(block);
            let Some(id) = blocks.share(&hash) else { break };
            self.blocks.push(id);
            self.hashes.push(hash);
        }
        self.fed = self.blocks.len() * BLOCK_TOKENS;
    }

    /// The hash of a block, given that those before it are known.
    fn hash(&self, block: usize) -> BlockHash {
        let before = block.checked_sub(1).map(|before| &self.hashes[before]);
        block_hash(
            before,
            &self.tokens[block * BLOCK_TOKENS..(block + 1) * BLOCK_TOKENS],
        )
    }

    /// Gives its blocks back: all has to be fed again. The last one goes first, so that the
    /// beginning, which others may share, is known the longest.
    fn release(&mut self, blocks: &mut KvBlocks) {
        for block in self.blocks.drain(..).rev() {
            blocks.give_back(block);
        }
        self.hashes.clear();
        self.fed = 0;
    }

    /// What follows on `row` in the output, counted from the first token that was just fed.
    fn position(&self, row: usize) -> usize {
        self.fed + row + 1 - self.prompt
    }

    fn choose(&self, row: usize, best: &[(u32, f32)]) -> Judgement {
        if !is_defined(best) {
            return Judgement::Undefined;
        }
        let position = self.position(row) as u32;
        let token = choose_among(best, &self.sampling, &self.seed, position);
        Judgement::Next(TokenOutput {
            id: token,
            logprob: None,
            alternatives: Vec::new(),
        })
    }

    fn judge(&self, row: usize, logits: &[f32]) -> Judgement {
        if !logits.iter().any(|logit| logit.is_finite()) {
            return Judgement::Undefined;
        }
        let position = self.position(row);
        match &self.goal {
            Goal::Generate { logprobs, .. } => {
                let token = choose(logits, &self.sampling, &self.seed, position as u32);
                Judgement::Next(describe(logits, token, *logprobs))
            }
            Goal::Score { claimed, .. } => {
                let token = claimed[position];
                let own = score(logits, &self.sampling, &self.seed, position as u32, token);
                Judgement::Scored {
                    log_probability: log_probability(logits, token),
                    mismatch: (own.token != token).then_some(Mismatch {
                        position: position as u32,
                        token: own.token,
                        margin: own.margin,
                    }),
                }
            }
        }
    }

    /// Says how far its prompt is, if there is news. One that gave way begins anew: what it goes
    /// through again is none.
    fn tell_prefilled(&mut self, now: Instant, emit: &mut dyn FnMut(Event)) {
        if self.prefilled.is_some() || matches!(self.goal, Goal::Score { .. }) {
            return;
        }
        let Some((since, told)) = self.told.or(self.started.map(|started| (started, 0))) else {
            return;
        };
        if self.fed > told && now >= since + PREFILLED_EVERY {
            self.told = Some((now, self.fed));
            emit(Event::Prefilled {
                id: self.id,
                tokens: self.fed as u32,
            });
        }
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

fn blocks_for(tokens: usize) -> usize {
    tokens.div_ceil(BLOCK_TOKENS)
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
