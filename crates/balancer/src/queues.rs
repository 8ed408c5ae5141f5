//! Jobs that wait for a worker or a reference, each model's in their order. Who waits sleeps: it is
//! woken when there is room for it, not at every change of a node.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use infera_protocol::ModelId;

use crate::job::LiveJob;

/// Besides those in front, so many are woken in turn: a job in front may wait for a node that never
/// comes, and those behind it must not.
const ALSO: usize = 8;

/// What a job waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Waits {
    Worker,
    Reference,
}

#[derive(Default)]
pub(crate) struct Queues(Mutex<HashMap<(ModelId, Waits), Queue>>);

#[derive(Default)]
struct Queue {
    /// By turn.
    waiting: BTreeMap<u64, Arc<LiveJob>>,
    /// The last one that was woken out of turn.
    cursor: u64,
}

impl Queues {
    /// Puts a job where its turn is.
    pub(crate) fn join(&self, waits: Waits, job: &Arc<LiveJob>) {
        let mut queues = self.lock();
        let queue = queues.entry((job.model, waits)).or_default();
        queue.waiting.insert(job.turn, Arc::clone(job));
    }

    pub(crate) fn leave(&self, waits: Waits, job: &LiveJob) {
        if let Entry::Occupied(mut queue) = self.lock().entry((job.model, waits)) {
            queue.get_mut().waiting.remove(&job.turn);
            if queue.get().waiting.is_empty() {
                queue.remove();
            }
        }
    }

    /// What is waited for.
    pub(crate) fn waiting(&self) -> Vec<(ModelId, Waits)> {
        self.lock().keys().copied().collect()
    }

    /// How many jobs wait for what.
    pub(crate) fn lengths(&self) -> Vec<(ModelId, Waits, usize)> {
        let queues = self.lock();
        let length = |((model, waits), queue): (&(ModelId, Waits), &Queue)| {
            (*model, *waits, queue.waiting.len())
        };
        queues.iter().map(length).collect()
    }

    pub(crate) fn len(&self, waits: Waits) -> usize {
        let queues = self.lock();
        let of_kind = queues.iter().filter(|((_, kind), _)| *kind == waits);
        of_kind.map(|(_, queue)| queue.waiting.len()).sum()
    }

    /// Wakes the first `count` jobs, and a few of the others in turn. Who still has to wait joins
    /// again, where it was. Jobs that only some nodes may have are all woken and take nobody's turn:
    /// what there is room for may not be theirs.
    pub(crate) fn wake(&self, model: ModelId, waits: Waits, count: usize) {
        let mut queues = self.lock();
        let Some(queue) = queues.get_mut(&(model, waits)) else {
            return;
        };
        let narrow = queue.waiting.extract_if(.., |_, job| job.narrow);
        for (_, job) in narrow {
            job.wake.notify_one();
        }
        if count == 0 {
            return;
        }
        for _ in 0..count {
            let Some((_, job)) = queue.waiting.pop_first() else {
                break;
            };
            job.wake.notify_one();
        }
        for _ in 0..ALSO {
            let next = queue.waiting.range(queue.cursor + 1..).next();
            let Some(turn) = next
                .or_else(|| queue.waiting.iter().next())
                .map(|(turn, _)| *turn)
            else {
                break;
            };
            queue.cursor = turn;
            if let Some(job) = queue.waiting.remove(&turn) {
                job.wake.notify_one();
            }
        }
        if queue.waiting.is_empty() {
            queues.remove(&(model, waits));
        }
    }

    /// The job that has to go when more than `most` of a model wait for references: the first of the
    /// key that has the most of them.
    pub(crate) fn crowded_out(&self, model: ModelId, most: usize) -> Option<Arc<LiveJob>> {
        let queues = self.lock();
        let queue = queues.get(&(model, Waits::Reference))?;
        if queue.waiting.len() <= most {
            return None;
        }
        let mut of_key: HashMap<&str, usize> = HashMap::new();
        for job in queue.waiting.values() {
            *of_key.entry(&job.client).or_default() += 1;
        }
        let (most_waiting, _) = of_key
            .into_iter()
            .max_by_key(|(key, count)| (*count, *key))?;
        let mut jobs = queue.waiting.values();
        jobs.find(|job| *job.client == *most_waiting).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(ModelId, Waits), Queue>> {
        // Every change is complete before anything that could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
