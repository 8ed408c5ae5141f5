//! Requests for vectors, one text at a time, so that a request can be cancelled between two.

use std::collections::VecDeque;
use std::time::Instant;

use infera_protocol::task::InvalidTask;
use infera_protocol::{FinishReason, Task, Vector, Work};

use crate::embedder::Embedder;
use crate::message::{Embedded, Event, Failure, Finished, PREFILLED_EVERY};

/// An embedding model and what is asked of it, oldest first.
pub(crate) struct Embedding {
    embedder: Embedder,
    waiting: VecDeque<Unfinished>,
}

struct Unfinished {
    id: u64,
    texts: Vec<Vec<u32>>,
    vectors: Vec<Vector>,
    begun: Option<Instant>,
    /// When it was last told how much of it is done.
    told: Option<Instant>,
}

impl Embedding {
    pub(crate) fn new(embedder: Embedder) -> Self {
        Self {
            embedder,
            waiting: VecDeque::new(),
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn add(&mut self, id: u64, task: &Task, emit: &mut dyn FnMut(Event)) {
        match self.texts(task) {
            Ok(texts) => self.waiting.push_back(Unfinished {
                id,
                texts,
                vectors: Vec::new(),
                begun: None,
                told: None,
            }),
            Err(error) => emit(failed(id, error)),
        }
    }

    /// The task's texts, if this model can embed them all.
    fn texts(&self, task: &Task) -> Result<Vec<Vec<u32>>, Failure> {
        let Work::Embed(embedding) = &task.work else {
            return Err(Failure::wrong_kind());
        };
        let texts = embedding
            .texts(&task.input)
            .ok_or_else(|| Failure::bad_request(InvalidTask::Lengths.to_string()))?;
        texts
            .iter()
            .try_for_each(|text| self.embedder.check(text))?;
        Ok(texts.into_iter().map(<[u32]>::to_vec).collect())
    }

    pub(crate) fn cancel(&mut self, id: u64, emit: &mut dyn FnMut(Event)) {
        let index = self.waiting.iter().position(|one| one.id == id);
        if let Some(cancelled) = index.and_then(|index| self.waiting.remove(index)) {
            emit(Event::Finished(Finished {
                id,
                reason: FinishReason::Cancelled,
                prefill_ms: cancelled.elapsed_ms(),
                decode_ms: 0,
            }));
        }
    }

    /// Embeds the oldest request's next text.
    pub(crate) fn step(&mut self, emit: &mut dyn FnMut(Event)) {
        let Some(oldest) = self.waiting.front_mut() else {
            return;
        };
        oldest.begun.get_or_insert_with(Instant::now);
        let id = oldest.id;
        let outcome = match oldest.texts.get(oldest.vectors.len()) {
            Some(text) => self.embedder.embed(text).map(|vector| {
                oldest.vectors.push(Vector(vector));
            }),
            None => Ok(()),
        };
        let is_complete = oldest.vectors.len() >= oldest.texts.len();
        if let Err(error) = outcome {
            self.waiting.pop_front();
            emit(failed(id, error));
        } else if !is_complete {
            oldest.tell_done(emit);
        } else if let Some(complete) = self.waiting.pop_front() {
            emit(Event::Embedded(Embedded {
                id,
                elapsed_ms: complete.elapsed_ms(),
                vectors: complete.vectors,
            }));
        }
    }
}

impl Unfinished {
    fn tell_done(&mut self, emit: &mut dyn FnMut(Event)) {
        let now = Instant::now();
        let since = self.told.or(self.begun);
        if since.is_some_and(|since| now >= since + PREFILLED_EVERY) {
            self.told = Some(now);
            let done = &self.texts[..self.vectors.len()];
            emit(Event::Prefilled {
                id: self.id,
                tokens: done.iter().map(Vec::len).sum::<usize>() as u32,
            });
        }
    }

    fn elapsed_ms(&self) -> u32 {
        self.begun
            .map_or(0, |begun| begun.elapsed().as_millis() as u32)
    }
}

fn failed(id: u64, error: Failure) -> Event {
    Event::Failed {
        id: Some(id),
        error,
    }
}
