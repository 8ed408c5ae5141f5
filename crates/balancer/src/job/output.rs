//! What may arrive next of a job's output, and what is made of it.

use std::sync::Arc;
use std::time::Duration;

use infera_model::{StopMatcher, StreamDecoder};
use infera_protocol::node_api::{Refusal, RefusalCode};
use infera_protocol::output::OutputAck;
use infera_protocol::vector::vectors_hash;
use infera_protocol::{
    ChunkChain, ChunkCommit, Embedding, Finish, FinishReason, Hash, NodeId, OutputBatch, Task,
    TokenOutput, Vector, Work, Writing, tokens_hash,
};
use infera_verify::{Structure, VectorShape, judge_structure, judge_vectors};
use tokio::time::Instant;

use super::{Attempt, Job, Progress, Stage, refusal};
use crate::catalog::ServedModel;
use crate::config::Config;

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

/// Token ids become text here; stop strings end it.
#[derive(Clone)]
pub(super) struct Text {
    decoder: StreamDecoder,
    matcher: StopMatcher,
}

impl StoredOutput {
    pub(super) fn of(ids: Vec<u32>, vectors: &[Vector]) -> Self {
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

impl Text {
    pub(super) fn new(model: &ServedModel, task: &Task) -> Self {
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

    pub(super) fn finish(&mut self) -> String {
        let step = self.matcher.push(&self.decoder.finish());
        if step.matched {
            step.emit
        } else {
            step.emit + &self.matcher.finish()
        }
    }
}

impl Job {
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

/// The vectors of so many texts, from [`StoredOutput::values`].
pub(crate) fn vectors(values: &[u32], texts: usize) -> Vec<Vector> {
    let width = (values.len() / texts.max(1)).max(1);
    let vector = |values: &[u32]| Vector(values.iter().copied().map(f32::from_bits).collect());
    values.chunks_exact(width).map(vector).collect()
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
