//! A live job: what was asked, what has arrived, and the rules for what may arrive next. No I/O.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use infera_model::{StopMatcher, StreamDecoder};
use infera_protocol::node_api::{Price, Refusal, RefusalCode, VerdictStatus};
use infera_protocol::output::OutputAck;
use infera_protocol::vector::vectors_hash;
use infera_protocol::{
    AuditId, ChunkChain, ChunkCommit, Embedding, Finish, FinishReason, Hash, JobId, JobSpec,
    ModelId, NodeId, OutputBatch, Task, TokenOutput, VERSION, Vector, Work, Writing, tokens_hash,
};
use infera_verify::{Structure, VectorShape, judge_structure, judge_vectors};
use serde::Serialize;
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::time::Instant;

use crate::canaries::OpenCanary;
use crate::catalog::ServedModel;
use crate::config::Config;
use crate::ledger::{self, RunBooks};
use crate::submit_error::SubmitError;

/// A task as a client submitted it and the balancer accepted it.
#[derive(Clone)]
pub(crate) struct Submission {
    /// The name of the client's key.
    pub client: String,
    pub model: Arc<ServedModel>,
    pub task: Task,
    pub price: Price,
    pub wait: bool,
    pub keep: bool,
    /// The client gets nothing before the verdict, so that failed output can be written anew.
    pub rerun: bool,
}

impl Submission {
    /// The most it can cost the client.
    pub(crate) fn most_cost(&self) -> i64 {
        let task = &self.task;
        ledger::cost(self.price, task.input_tokens(), task.most_output_tokens())
    }
}

/// What the client's connection is told.
#[derive(Debug, Clone)]
pub(crate) enum Progress {
    /// A node has the job.
    Started,
    Tokens {
        text: String,
        tokens: Vec<TokenOutput>,
    },
    /// All of an embedding's.
    Vectors(Vec<Vector>),
    /// What was sent failed verification and is void: another node writes it anew.
    Restarted,
    Finished(FinishReason),
    Failed(SubmitError),
}

/// What is known of a job's verification.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct VerdictView {
    pub verdict: VerdictStatus,
    pub reason: String,
    /// No later verdict comes.
    #[serde(skip)]
    pub last: bool,
    /// Too few references are here, so nobody knows when one comes.
    #[serde(skip)]
    pub stalled: bool,
}

/// A job that the balancer works on, shared by its driver, its nodes' calls and its client.
pub(crate) struct LiveJob {
    pub id: JobId,
    pub model: ModelId,
    /// The name of its client's key.
    pub client: String,
    /// Its turn when nodes or references are scarce.
    pub turn: u64,
    pub state: Mutex<Job>,
    /// Wakes the driver.
    pub wake: Notify,
    pub verdict: watch::Sender<VerdictView>,
    /// Too many jobs wait for references, so it is settled unchecked.
    pub crowded_out: AtomicBool,
}

pub(crate) struct Job {
    pub id: JobId,
    pub submission: Arc<Submission>,
    pub run: u32,
    pub stage: Stage,
    pub output: Vec<TokenOutput>,
    /// Of an embedding, all or none.
    pub vectors: Vec<Vector>,
    text: Text,
    /// How the output has ended by its own content.
    pub end: Option<FinishReason>,
    /// Attempts of this run that are over.
    pub past: Vec<PastAttempt>,
    /// The number of the latest attempt; 0 before the first.
    pub attempts: u32,
    /// Nodes that may not take it: they failed verification.
    pub excluded: HashSet<NodeId>,
    /// Nodes that lost it before, asked last.
    pub lost: HashSet<NodeId>,
    /// Nonces of all claims that were accepted.
    pub nonces: HashSet<Hash>,
    /// The client left before the output ended.
    pub cancelled: bool,
    pub client: Option<mpsc::UnboundedSender<Progress>>,
    /// The client has got its answer, or has gone.
    pub delivered: bool,
    /// And the database knows.
    pub delivery_noted: bool,
    /// The network could not finish it: the client pays nothing.
    pub failed: bool,
    /// Its place among its key's jobs at once, until its output has ended.
    pub place: Option<Place>,
    /// When it fails, whatever its nodes do.
    pub deadline: Instant,
    /// How many nodes have lost it, newcomers beside known ones not counted.
    pub losses: u32,
    /// It is no job at all: its output was made to see what references say.
    pub canary: Option<OpenCanary>,
}

/// A place that is given back when this is dropped, whatever else happens.
pub(crate) struct Place(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Place {
    pub(crate) fn new(give_back: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(give_back)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(give_back) = self.0.take() {
            give_back();
        }
    }
}

pub(crate) enum Stage {
    /// No node has it.
    Seeking(Seeking),
    Running(Box<Attempt>),
    /// The output has ended; reference nodes check it.
    Auditing(Audits),
    Done,
}

/// A search for a node.
pub(crate) struct Seeking {
    pub since: Instant,
    pub until: Instant,
    /// When the offers that stand are made anew.
    pub again_at: Option<Instant>,
    /// When more nodes are offered it.
    pub widen_at: Option<Instant>,
    /// How many nodes are offered it at once.
    pub ring: usize,
    pub offered: HashMap<NodeId, u64>,
}

/// A node's hold on a job.
pub(crate) struct Attempt {
    pub number: u32,
    pub node: NodeId,
    pub start: u32,
    /// The chain's head before the first token.
    pub origin: Hash,
    pub chain: ChunkChain,
    /// Chunks that the tokens close, of which the node has committed the first `committed`.
    pub closed: Vec<ChunkCommit>,
    pub committed: usize,
    pub lease_until: Instant,
    pub claimed_at: Instant,
    /// The node's speeds bound what it may take for the prompt.
    pub prefill_until: Instant,
    /// Tokens of prompt and earlier output that the node says it has gone through.
    pub prefilled: u32,
    pub first_token: Option<Instant>,
    pub last_token: Option<Instant>,
    /// Without its vectors, which are the job's.
    pub finish: Option<Finish>,
    /// The node's; not for what an earlier run of the balancer began.
    pub place: Option<Place>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PastAttempt {
    pub number: u32,
    pub node: NodeId,
    pub start: u32,
    pub end: u32,
    pub share: i64,
    pub gross: i64,
    /// Tokens of the prompt that are paid though nothing was written after them.
    pub prefilled: u32,
}

/// The reference checks of a run.
#[derive(Default)]
pub(crate) struct Audits {
    pub needed: usize,
    pub drawn: Vec<Audit>,
    /// When the job is settled unchecked, if no references decide before.
    pub give_up: Option<Instant>,
    /// Too few references are here, and everyone concerned was told.
    pub scarce: bool,
}

pub(crate) struct Audit {
    pub id: AuditId,
    pub node: NodeId,
    pub step: AuditStep,
    /// When the step is given up, or for a closed one when the node may be asked again.
    pub until: Option<Instant>,
    /// The node's event stream when it was last told.
    pub link: u64,
    pub commitment: Option<Hash>,
    pub report: Option<infera_protocol::AuditReport>,
    /// The node's, until it has computed what it commits to: an audit that waits for another one's
    /// must not take the place that this needs.
    pub place: Option<Place>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuditStep {
    Offered,
    Accepted,
    Committed,
    /// Committed, and asked to open the report.
    Revealing,
    Reported,
    /// Declined, or too late.
    Closed,
}

/// The output as the database keeps it.
pub(crate) struct StoredOutput {
    /// Token ids, or the bits of the vectors' values, one vector after the other.
    pub values: Vec<u32>,
    pub tokens: u32,
    /// The output position after the last token or vector.
    pub received: u32,
}

/// Output that was checked and may be applied.
pub(crate) struct AcceptedOutput {
    tokens: Vec<TokenOutput>,
    vectors: Vec<Vector>,
    text: Text,
    emitted: String,
    end: Option<FinishReason>,
    chain: ChunkChain,
    closed: Vec<ChunkCommit>,
    committed: usize,
    finish: Option<Finish>,
    prefilled: u32,
    /// Whether it must be in the database before it is acknowledged.
    pub durable: bool,
}

/// A node whose speed was measured may be so much slower for once.
const SLOWER_THAN_MEASURED: f64 = 3.0;

/// How long a node may take for `prompt` tokens while it tells of progress; `prefill_per_second` is
/// what was measured of it.
fn prefill_time(config: &Config, prompt: u32, prefill_per_second: Option<f64>) -> Duration {
    let least = config.least_prefill_per_second;
    let speed = prefill_per_second.map_or(least, |speed| speed / SLOWER_THAN_MEASURED);
    let slow = Duration::from_secs_f64(f64::from(prompt) / speed.clamp(least / 10.0, least));
    config.lease + slow.max(config.lease_per_prompt_token * prompt)
}

/// Token ids become text here; stop strings end it.
#[derive(Clone)]
struct Text {
    decoder: StreamDecoder,
    matcher: StopMatcher,
}

impl Job {
    pub(crate) fn new(
        id: JobId,
        submission: Arc<Submission>,
        run: u32,
        seeking: Seeking,
        deadline: Instant,
    ) -> Self {
        let text = Text::new(&submission.model, &submission.task);
        Self {
            id,
            submission,
            run,
            stage: Stage::Seeking(seeking),
            output: Vec::new(),
            vectors: Vec::new(),
            text,
            end: None,
            past: Vec::new(),
            attempts: 0,
            excluded: HashSet::new(),
            lost: HashSet::new(),
            nonces: HashSet::new(),
            cancelled: false,
            client: None,
            delivered: false,
            delivery_noted: false,
            failed: false,
            place: None,
            deadline,
            losses: 0,
            canary: None,
        }
    }

    /// How it is to write; none when texts are to become vectors.
    fn writing(&self) -> Option<&Writing> {
        self.submission.task.writing()
    }

    /// Puts output back that was read from the database ([`StoredOutput::values`]).
    pub(crate) fn restore_output(&mut self, values: &[u32]) {
        if let Some(texts) = self.submission.task.embedded_texts() {
            self.vectors = vectors(values, texts);
            self.end = (!values.is_empty()).then_some(FinishReason::Embedded);
            return;
        }
        for id in values {
            self.output.push(TokenOutput {
                id: *id,
                logprob: None,
                alternatives: Vec::new(),
            });
            let (_, end) = self.text.push(&self.submission.model, *id);
            self.end = self.end.or(end).or(self.full(self.received()));
        }
    }

    /// Voids the output, so that another node writes it anew.
    pub(crate) fn restart(&mut self, seeking: Seeking) {
        self.run += 1;
        self.output.clear();
        self.vectors.clear();
        self.text = Text::new(&self.submission.model, &self.submission.task);
        self.end = None;
        self.past.clear();
        self.stage = Stage::Seeking(seeking);
    }

    pub(crate) fn books(&self) -> RunBooks {
        RunBooks {
            job: self.id,
            run: self.run,
            client: self.submission.client.clone(),
        }
    }

    /// What the run has cost so far, if all of it passes.
    pub(crate) fn cost(&self) -> i64 {
        self.charge(self.past.iter())
    }

    /// What the client owes for these attempts of the run: what each has written, and the prompt
    /// once. Nothing was written: the part of the prompt that was gone through for a client that
    /// then left.
    pub(crate) fn charge<'a>(&self, attempts: impl Iterator<Item = &'a PastAttempt>) -> i64 {
        let (mut tokens, mut prefilled) = (0, 0);
        for past in attempts {
            tokens += past.end - past.start;
            prefilled = prefilled.max(past.prefilled);
        }
        let prompt = self.submission.task.input_tokens();
        let input = if tokens > 0 { prompt } else { prefilled };
        ledger::cost(self.submission.price, input, tokens)
    }

    /// The output position after the last token or vector.
    pub(crate) fn received(&self) -> u32 {
        (self.output.len() + self.vectors.len()) as u32
    }

    /// Whether an output of this length ends because it may not be longer.
    fn full(&self, length: u32) -> Option<FinishReason> {
        (length >= self.submission.task.most_output_tokens()).then_some(FinishReason::Length)
    }

    pub(crate) fn stored_output(&self) -> StoredOutput {
        StoredOutput::of(self.output_ids(), &self.vectors)
    }

    /// The hash that stands for the output once it is deleted.
    pub(crate) fn output_hash(&self) -> Hash {
        match self.submission.task.work {
            Work::Write(_) => tokens_hash(&self.output_ids()),
            Work::Embed(_) => vectors_hash(&self.vectors),
        }
    }

    pub(crate) fn output_ids(&self) -> Vec<u32> {
        self.output.iter().map(|token| token.id).collect()
    }

    pub(crate) fn tell(&self, progress: Progress) {
        if let Some(client) = &self.client {
            // A client that has gone is noticed by its connection's end.
            let _ = client.send(progress);
        }
    }

    pub(crate) fn spec(&self, attempt: u32, lease: Duration) -> JobSpec {
        JobSpec {
            version: VERSION,
            job: self.id,
            attempt,
            task: self.submission.task.clone(),
            output: self.output_ids(),
            lease_ms: lease.as_millis() as u64,
        }
    }

    /// Whether a claim of this attempt can succeed: nobody has it, or this very node.
    pub(crate) fn is_open_to(&self, node: NodeId, number: u32, now: Instant) -> bool {
        match &self.stage {
            Stage::Seeking(_) => number == self.attempts + 1 && !self.cancelled,
            Stage::Running(attempt) => {
                attempt.node == node && attempt.number == number && attempt.lease_until > now
            }
            Stage::Auditing(_) | Stage::Done => false,
        }
    }

    /// The attempt that `node` holds, if it is this one and its lease runs.
    pub(crate) fn held_by(
        &self,
        node: NodeId,
        number: u32,
        now: Instant,
    ) -> Result<&Attempt, Refusal> {
        let held_before = |number| {
            self.past
                .iter()
                .any(|past| past.node == node && past.number == number)
        };
        match &self.stage {
            Stage::Running(attempt) if attempt.node == node && attempt.number == number => {
                if attempt.lease_until <= now {
                    return Err(lease_ended());
                }
                Ok(attempt)
            }
            _ if held_before(number) => Err(lease_ended()),
            _ => Err(refusal(
                RefusalCode::NotYours,
                "This node does not hold this attempt of the job. Drop it",
            )),
        }
    }

    /// Checks what a node sent against everything that is known. Changes nothing.
    pub(crate) fn check_output(
        &self,
        node: NodeId,
        batch: &OutputBatch,
        now: Instant,
    ) -> Result<AcceptedOutput, Refusal> {
        let attempt = self.held_by(node, batch.attempt, now)?;
        let received = self.output.len() as u32;
        if batch.position < attempt.start || batch.position > received {
            return Err(out_of_order(received));
        }
        let known = &self.output[batch.position as usize..];
        if known
            .iter()
            .zip(&batch.tokens)
            .any(|(known, sent)| known.id != sent.id)
        {
            return Err(refusal(
                RefusalCode::OutOfOrder,
                "The output differs from what was sent before for the same positions. Release the job",
            ));
        }
        let mut step = AcceptedOutput {
            tokens: batch.tokens.iter().skip(known.len()).cloned().collect(),
            vectors: self.vectors.clone(),
            text: self.text.clone(),
            emitted: String::new(),
            end: self.end,
            chain: attempt.chain.clone(),
            closed: Vec::new(),
            committed: attempt.committed,
            finish: None,
            prefilled: batch
                .prefilled
                .min(self.submission.task.input_tokens() + attempt.start),
            durable: false,
        };
        self.add_tokens(&mut step)?;
        Self::add_commits(attempt, batch, &mut step)?;
        if let Some(finish) = &batch.finish {
            if finish.reason == FinishReason::Embedded {
                self.add_vectors(attempt, finish, &mut step)?;
            } else {
                self.add_finish(attempt, finish, &mut step)?;
            }
        }
        step.durable = step.committed > attempt.committed || step.finish.is_some();
        Ok(step)
    }

    /// Takes in what [`Self::check_output`] accepted, and passes the text on.
    ///
    /// Only new tokens renew the lease, and only as long as they come at the least speed; before the
    /// first one, progress in the prompt does, within the time that the prompt may take.
    pub(crate) fn apply(&mut self, step: AcceptedOutput, config: &Config, now: Instant) {
        let received = self.received() + step.tokens.len() as u32;
        let Stage::Running(attempt) = &mut self.stage else {
            return;
        };
        attempt.chain = step.chain;
        attempt.closed.extend(step.closed);
        attempt.committed = step.committed;
        attempt.finish = step.finish;
        if !step.tokens.is_empty() {
            let first = *attempt.first_token.get_or_insert(now);
            attempt.last_token = Some(now);
            let written = f64::from(received - attempt.start);
            let enough = Duration::from_secs_f64(written / config.least_tokens_per_second);
            attempt.lease_until = (now + config.lease).min(first + config.lease + enough);
        } else if step.prefilled > attempt.prefilled && attempt.first_token.is_none() {
            let left = self.submission.task.input_tokens() + attempt.start;
            let left = left.saturating_sub(step.prefilled);
            let until = now + config.lease + config.lease_per_prompt_token * left;
            attempt.lease_until = attempt.lease_until.max(until.min(attempt.prefill_until));
        }
        attempt.prefilled = attempt.prefilled.max(step.prefilled);
        self.text = step.text;
        self.end = step.end;
        if !step.tokens.is_empty() || !step.emitted.is_empty() {
            let logged = self.writing().is_some_and(|write| write.logprobs.is_some());
            self.output
                .extend(step.tokens.iter().cloned().map(|mut token| {
                    if !logged {
                        token.logprob = None;
                        token.alternatives.clear();
                    }
                    token
                }));
            self.tell(Progress::Tokens {
                text: step.emitted,
                tokens: step.tokens,
            });
        }
        if self.vectors.is_empty() && !step.vectors.is_empty() {
            self.vectors = step.vectors;
            self.tell(Progress::Vectors(self.vectors.clone()));
        }
    }

    /// The text that was held back because it might have begun a stop string.
    pub(crate) fn flush_text(&mut self) -> String {
        if self.end == Some(FinishReason::Stop) {
            String::new()
        } else {
            self.text.finish()
        }
    }

    pub(crate) fn ack(&self) -> OutputAck {
        let (chunks, finished) = match &self.stage {
            Stage::Running(attempt) => (attempt.committed as u32, attempt.finish.is_some()),
            _ => (0, true),
        };
        OutputAck {
            received: self.received(),
            chunks,
            finished,
            cancel: self.cancelled,
        }
    }

    /// The output after a step.
    pub(crate) fn stored_with(&self, step: &AcceptedOutput) -> StoredOutput {
        StoredOutput::of(self.ids_with(step), &step.vectors)
    }

    /// What the vectors of an embedding have to be.
    pub(crate) fn vector_shape(&self, embedding: &Embedding) -> VectorShape {
        VectorShape {
            texts: embedding.lengths.len() as u32,
            width: self.submission.model.vector_width.unwrap_or(0),
        }
    }

    fn ids_with(&self, step: &AcceptedOutput) -> Vec<u32> {
        let new = step.tokens.iter().map(|token| token.id);
        self.output
            .iter()
            .map(|token| token.id)
            .chain(new)
            .collect()
    }

    /// The rules that an output with these ids has to keep.
    pub(crate) fn structure<'a>(
        &self,
        writing: &'a Writing,
        ids: &'a [u32],
        reason: Option<FinishReason>,
        stopped: bool,
        is_end: &'a dyn Fn(u32) -> bool,
    ) -> Structure<'a> {
        let model = &self.submission.model;
        Structure {
            output: ids,
            writing,
            vocabulary: model.vocabulary,
            room: model
                .context
                .saturating_sub(self.submission.task.input_tokens()),
            reason,
            is_end,
            stop_at: stopped.then_some(ids.len() as u32),
        }
    }

    fn add_tokens(&self, step: &mut AcceptedOutput) -> Result<(), Refusal> {
        let model = &self.submission.model;
        let logprobs = self.writing().and_then(|write| write.logprobs);
        let mut length = self.received();
        for token in &step.tokens {
            if step.end.is_some() || self.full(length).is_some() {
                return Err(bad_output("it goes on after its end"));
            }
            let most = usize::from(logprobs.unwrap_or(u8::MAX));
            let known = |id: u32| id < model.vocabulary;
            let alternatives_fit = token.alternatives.len() <= most
                && token.alternatives.iter().all(|(id, _)| known(*id));
            if !known(token.id) || !alternatives_fit {
                return Err(bad_output("a token id is beyond the vocabulary"));
            }
            if logprobs.is_some() && token.logprob.is_none() {
                return Err(bad_output(
                    "the log probabilities that were asked for are missing",
                ));
            }
            length += 1;
            let (text, end) = step.text.push(model, token.id);
            step.emitted.push_str(&text);
            step.end = end.or(self.full(length));
            step.closed.extend(step.chain.push(token.id));
        }
        Ok(())
    }

    fn add_commits(
        attempt: &Attempt,
        batch: &OutputBatch,
        step: &mut AcceptedOutput,
    ) -> Result<(), Refusal> {
        let last = batch
            .finish
            .as_ref()
            .and_then(|_| step.chain.clone().close_last());
        let all: Vec<_> = attempt
            .closed
            .iter()
            .chain(&step.closed)
            .chain(&last)
            .copied()
            .collect();
        for commit in &batch.commits {
            let index = commit.index as usize;
            if index > step.committed {
                return Err(refusal(
                    RefusalCode::OutOfOrder,
                    format!(
                        "Chunk {index} came before chunk {}. Send that one first",
                        step.committed
                    ),
                ));
            }
            if all.get(index) != Some(commit) {
                return Err(refusal(
                    RefusalCode::BadCommitment,
                    format!(
                        "The commitment of chunk {index} does not match its tokens. Release the job"
                    ),
                ));
            }
            step.committed = step.committed.max(index + 1);
        }
        Ok(())
    }

    fn add_finish(
        &self,
        attempt: &Attempt,
        finish: &Finish,
        step: &mut AcceptedOutput,
    ) -> Result<(), Refusal> {
        let writing = self.writing();
        let fits = writing.is_some() || finish.reason == FinishReason::Cancelled;
        if !(fits && finish.vectors.is_empty()) {
            return Err(bad_output("its end is not one of this kind of job"));
        }
        let ids = self.ids_with(step);
        if finish.end != ids.len() as u32 {
            return Err(bad_output("its signed length is not the number of tokens"));
        }
        step.closed.extend(step.chain.close_last());
        if finish.head != step.chain.head() {
            return Err(refusal(
                RefusalCode::BadCommitment,
                "The signed head of the hash chain does not match the tokens. Release the job",
            ));
        }
        self.check_signature(attempt, finish)?;
        if finish.reason == FinishReason::Cancelled && !self.cancelled {
            return Err(bad_output(
                "it is said to be cancelled, which nobody asked for",
            ));
        }
        let stopped = step.end == Some(FinishReason::Stop);
        let is_end = |id| self.submission.model.tokenizer().is_end(id);
        if let Some(writing) = writing {
            let reason = Some(finish.reason);
            judge_structure(&self.structure(writing, &ids, reason, stopped, &is_end))
                .map_err(|fault| bad_output(&fault.to_string()))?;
        }
        // The signed head covers every chunk, also those whose own message never came.
        step.committed = attempt.closed.len() + step.closed.len();
        step.end = step.end.or(Some(finish.reason));
        step.finish = Some(finish.clone());
        Ok(())
    }

    /// The end of an embedding, with all its vectors.
    fn add_vectors(
        &self,
        attempt: &Attempt,
        finish: &Finish,
        step: &mut AcceptedOutput,
    ) -> Result<(), Refusal> {
        let Work::Embed(embedding) = &self.submission.task.work else {
            return Err(bad_output("its end is not one of this kind of job"));
        };
        if !self.vectors.is_empty() && self.vectors != finish.vectors {
            return Err(refusal(
                RefusalCode::OutOfOrder,
                "The vectors differ from those that were sent before. Release the job",
            ));
        }
        judge_vectors(&finish.vectors, self.vector_shape(embedding))
            .map_err(|fault| bad_output(&fault.to_string()))?;
        if finish.end as usize != finish.vectors.len() {
            return Err(bad_output("its signed length is not the number of vectors"));
        }
        if finish.head != vectors_hash(&finish.vectors) {
            return Err(refusal(
                RefusalCode::BadCommitment,
                "The signed hash does not match the vectors. Release the job",
            ));
        }
        self.check_signature(attempt, finish)?;
        step.vectors.clone_from(&finish.vectors);
        step.end = Some(finish.reason);
        step.finish = Some(Finish {
            vectors: Vec::new(),
            ..finish.clone()
        });
        Ok(())
    }

    fn check_signature(&self, attempt: &Attempt, finish: &Finish) -> Result<(), Refusal> {
        finish
            .verify(&attempt.node, self.id, attempt.number)
            .map_err(|fault| refusal(RefusalCode::BadSignature, fault.to_string()))
    }
}

impl StoredOutput {
    fn of(ids: Vec<u32>, vectors: &[Vector]) -> Self {
        let tokens = ids.len() as u32;
        let mut values = ids;
        values.extend(
            vectors
                .iter()
                .flat_map(|vector| &vector.0)
                .map(|value| value.to_bits()),
        );
        Self {
            values,
            tokens,
            received: tokens + vectors.len() as u32,
        }
    }
}

/// The vectors of so many texts, from [`StoredOutput::values`].
pub(crate) fn vectors(values: &[u32], texts: usize) -> Vec<Vector> {
    let width = (values.len() / texts.max(1)).max(1);
    let vector = |values: &[u32]| Vector(values.iter().copied().map(f32::from_bits).collect());
    values.chunks_exact(width).map(vector).collect()
}

impl AcceptedOutput {
    /// How many chunks the node has committed, where the last of them ends, and the chain's head there.
    pub(crate) fn commitment(&self, attempt: &Attempt) -> (u32, u32, Hash) {
        let last = self
            .committed
            .checked_sub(1)
            .and_then(|index| attempt.closed.iter().chain(&self.closed).nth(index));
        last.map_or((0, attempt.start, attempt.origin), |commit| {
            (self.committed as u32, commit.end, commit.head)
        })
    }

    pub(crate) fn finish(&self) -> Option<&Finish> {
        self.finish.as_ref()
    }
}

impl Attempt {
    pub(crate) fn new(
        job: JobId,
        number: u32,
        node: NodeId,
        start: u32,
        now: Instant,
        lease_until: Instant,
    ) -> Self {
        let chain = ChunkChain::new(job, number, start);
        Self {
            number,
            node,
            start,
            origin: chain.head(),
            chain,
            closed: Vec::new(),
            committed: 0,
            lease_until,
            claimed_at: now,
            prefill_until: lease_until,
            prefilled: 0,
            first_token: None,
            last_token: None,
            finish: None,
            place: None,
        }
    }

    /// A claim's first lease, for `prompt` tokens of prompt and earlier output.
    pub(crate) fn with_lease(
        mut self,
        config: &Config,
        prompt: u32,
        prefill_per_second: Option<f64>,
    ) -> Self {
        self.lease_until = self.claimed_at + config.lease + config.lease_per_prompt_token * prompt;
        self.prefill_until = self.claimed_at + prefill_time(config, prompt, prefill_per_second);
        self
    }

    /// Tokens a second of the prompt and of the output, as this attempt shows them. What a node
    /// holds back and sends at once does not make it faster: a quarter of the whole time counts as
    /// writing at least.
    pub(crate) fn speeds(&self, prompt: u32, written: u32) -> Speeds {
        let (Some(first), Some(last)) = (self.first_token, self.last_token) else {
            return Speeds::default();
        };
        let before = first.duration_since(self.claimed_at).as_secs_f64();
        let whole = last.duration_since(self.claimed_at).as_secs_f64().max(1e-3);
        let writing = (whole - before).max(whole / 4.0);
        Speeds {
            prefill: (prompt >= 8).then(|| f64::from(prompt) / before.max(1e-3)),
            decode: (written >= 8).then(|| f64::from(written) / writing),
        }
    }

    /// The output position up to which the node is paid: everything once it has signed the end,
    /// else the closed chunks.
    pub(crate) fn paid_until(&self) -> u32 {
        match &self.finish {
            Some(finish) => finish.end,
            None => self
                .committed
                .checked_sub(1)
                .and_then(|index| self.closed.get(index))
                .map_or(self.start, |commit| commit.end),
        }
    }
}

/// Tokens a second, as far as they are known.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Speeds {
    pub prefill: Option<f64>,
    pub decode: Option<f64>,
}

impl Speeds {
    /// What is known after one more measurement.
    pub(crate) fn after(self, measured: Self) -> Self {
        let mixed = |known: Option<f64>, new: Option<f64>| match (known, new) {
            (Some(known), Some(new)) => Some(0.7 * known + 0.3 * new),
            (known, new) => new.or(known),
        };
        Self {
            prefill: mixed(self.prefill, measured.prefill),
            decode: mixed(self.decode, measured.decode),
        }
    }

    /// How long so many tokens would take, in seconds. Unmeasured is infinitely long.
    pub(crate) fn seconds(self, prompt: u32, output: u32) -> f64 {
        let time = |tokens: u32, speed: Option<f64>| {
            f64::from(tokens) / speed.unwrap_or(0.0).max(f64::MIN_POSITIVE)
        };
        time(prompt, self.prefill.or(self.decode)) + time(output, self.decode)
    }
}

impl Seeking {
    pub(crate) fn new(now: Instant, patience: Duration, ring: usize) -> Self {
        Self {
            since: now,
            until: now + patience,
            again_at: None,
            widen_at: None,
            ring,
            offered: HashMap::new(),
        }
    }
}

impl Audits {
    /// Those that have neither been declined nor come too late.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Audit> {
        self.drawn
            .iter()
            .filter(|audit| audit.step != AuditStep::Closed)
    }

    pub(crate) fn find(&mut self, id: AuditId) -> Option<&mut Audit> {
        self.drawn.iter_mut().find(|audit| audit.id == id)
    }
}

impl VerdictView {
    pub(crate) fn pending() -> Self {
        Self {
            verdict: VerdictStatus::Pending,
            reason: "Reference nodes have not checked it yet.".to_owned(),
            last: false,
            stalled: false,
        }
    }
}

/// The text of a stored answer, as its client got it.
pub(crate) fn answer_text(model: &ServedModel, task: &Task, output: &[u32]) -> String {
    let mut text = Text::new(model, task);
    let mut answer = String::new();
    for id in output {
        let (emitted, end) = text.push(model, *id);
        answer.push_str(&emitted);
        match end {
            Some(FinishReason::Stop) => return answer,
            Some(_) => break,
            None => {}
        }
    }
    answer + &text.finish()
}

impl Text {
    fn new(model: &ServedModel, task: &Task) -> Self {
        let stop = task.writing().map_or(&[][..], |write| &write.stop);
        Self {
            decoder: StreamDecoder::after(Arc::clone(model.tokenizer()), &task.input),
            matcher: StopMatcher::new(stop),
        }
    }

    /// Adds a token: the text that may be sent, and whether the output ends with it by its content.
    fn push(&mut self, model: &ServedModel, id: u32) -> (String, Option<FinishReason>) {
        if model.tokenizer().is_end(id) {
            return (String::new(), Some(FinishReason::EndOfText));
        }
        let step = self.matcher.push(&self.decoder.push(id));
        (step.emit, step.matched.then_some(FinishReason::Stop))
    }

    fn finish(&mut self) -> String {
        let step = self.matcher.push(&self.decoder.finish());
        if step.matched {
            step.emit
        } else {
            step.emit + &self.matcher.finish()
        }
    }
}

pub(crate) fn refusal(code: RefusalCode, message: impl Into<String>) -> Refusal {
    Refusal {
        code,
        message: message.into(),
    }
}

pub(crate) fn lease_ended() -> Refusal {
    refusal(
        RefusalCode::LeaseEnded,
        "The lease has run out or the attempt has ended. Drop the job",
    )
}

fn out_of_order(next: u32) -> Refusal {
    refusal(
        RefusalCode::OutOfOrder,
        format!("The next output position is {next}. Send again from there"),
    )
}

fn bad_output(fault: &str) -> Refusal {
    refusal(
        RefusalCode::BadOutput,
        format!("The output breaks the job's rules: {fault}. Release the job"),
    )
}
