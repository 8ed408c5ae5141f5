//! Blocks of a paged model, handed to the scheduler's sequences as they grow.

use std::cell::RefCell;
use std::rc::Rc;

use crate::forward::{self, BLOCK_TOKENS};
use crate::message::{Failure, FailureCode};
use crate::scheduler;

/// A paged model as the scheduler drives it.
pub struct Slots<M> {
    model: RefCell<M>,
    free: Rc<RefCell<Vec<u32>>>,
}

/// One sequence's blocks; they are free again when it is dropped.
pub struct Pages {
    blocks: Vec<u32>,
    length: usize,
    free: Rc<RefCell<Vec<u32>>>,
}

impl<M: forward::Forward> Slots<M> {
    pub fn new(model: M) -> Self {
        let free = (0..model.blocks() as u32).rev().collect();
        Self {
            model: RefCell::new(model),
            free: Rc::new(RefCell::new(free)),
        }
    }
}

impl<M: forward::Forward> scheduler::Forward for Slots<M> {
    type Cache = Pages;

    fn vocabulary(&self) -> usize {
        self.model.borrow().vocabulary()
    }

    fn context(&self) -> usize {
        self.model.borrow().context()
    }

    fn new_cache(&self) -> Pages {
        Pages {
            blocks: Vec::new(),
            length: 0,
            free: Rc::clone(&self.free),
        }
    }

    fn cache_bytes(&self, cache: &Pages) -> u64 {
        cache.blocks.len() as u64 * self.model.borrow().block_bytes()
    }

    fn forward(&self, segments: &mut [scheduler::Segment<'_, Pages>]) -> Result<Vec<f32>, Failure> {
        for segment in &mut *segments {
            segment.cache.grow(segment.tokens.len())?;
        }
        let paged: Vec<_> = segments
            .iter()
            .map(|segment| forward::Segment {
                tokens: segment.tokens,
                start: segment.cache.length - segment.tokens.len(),
                blocks: &segment.cache.blocks,
                wanted: segment.wanted.clone(),
            })
            .collect();
        self.model.borrow_mut().forward(&paged)
    }
}

impl Pages {
    fn grow(&mut self, tokens: usize) -> Result<(), Failure> {
        self.length += tokens;
        while self.blocks.len() * BLOCK_TOKENS < self.length {
            let block = self.free.borrow_mut().pop().ok_or_else(|| Failure {
                code: FailureCode::OutOfMemory,
                message: "The KV cache is full".to_owned(),
            })?;
            self.blocks.push(block);
        }
        Ok(())
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.free.borrow_mut().append(&mut self.blocks);
    }
}
