//! Requests for vectors, one text at a time, so that a request can be cancelled between two.

use std::collections::VecDeque;
use std::time::Instant;

use infera_protocol::{FinishReason, Vector};

use crate::embedder::Embedder;
use crate::message::{Embed, Embedded, Event, Failure, Finished, PREFILLED_EVERY};

/// An embedding model and what is asked of it, oldest first.
pub(crate) struct Embedding {
    embedder: Embedder,
    waiting: VecDeque<Unfinished>,
}

struct Unfinished {
    request: Embed,
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

    pub(crate) fn add(&mut self, request: Embed, emit: &mut dyn FnMut(Event)) {
        let checked = request
            .texts
            .iter()
            .try_for_each(|text| self.embedder.check(text));
        match checked {
            Ok(()) => self.waiting.push_back(Unfinished {
                request,
                vectors: Vec::new(),
                begun: None,
                told: None,
            }),
            Err(error) => emit(failed(request.id, error)),
        }
    }

    pub(crate) fn cancel(&mut self, id: u64, emit: &mut dyn FnMut(Event)) {
        let index = self.waiting.iter().position(|one| one.request.id == id);
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
        let id = oldest.request.id;
        let outcome = match oldest.request.texts.get(oldest.vectors.len()) {
            Some(text) => self.embedder.embed(text).map(|vector| {
                oldest.vectors.push(Vector(vector));
            }),
            None => Ok(()),
        };
        let is_complete = oldest.vectors.len() >= oldest.request.texts.len();
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
            let done = &self.request.texts[..self.vectors.len()];
            emit(Event::Prefilled {
                id: self.request.id,
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
