//! Threads that share out the items of a task, with little delay between one task and the next.
//!
//! A pass has a few hundred tasks of some ten microseconds. An idle thread therefore watches for
//! the next task a while before it sleeps. Nobody waits for a thread that has not begun an item:
//! on a busy machine the others do its share.

use std::any::Any;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// How often an idle thread looks for work before it lets others run, and then before it sleeps.
const SPINS: u32 = 4000;
const YIELDS: u32 = 20;

/// Work on one item by one thread, both counted from 0.
type Work<'a> = dyn Fn(usize, usize) + Sync + 'a;

pub(crate) struct Pool {
    state: Arc<State>,
    workers: Vec<JoinHandle<()>>,
}

struct State {
    /// The task's number in the upper half, in the lower how many of its items nobody has taken.
    ticket: AtomicU64,
    /// The task: a `*const &Work`, and how many items it has. Both stay while an item of it is
    /// taken and not done.
    work: AtomicPtr<()>,
    items: AtomicUsize,
    done: AtomicUsize,
    stop: AtomicBool,
    asleep: Vec<AtomicBool>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Pool {
    /// The caller of [`Self::run`] is one of the `threads`.
    pub(crate) fn new(threads: NonZero<usize>) -> Self {
        let workers = threads.get() - 1;
        let state = Arc::new(State {
            ticket: AtomicU64::new(0),
            work: AtomicPtr::default(),
            items: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            asleep: (0..workers).map(|_| AtomicBool::new(false)).collect(),
            panic: Mutex::new(None),
        });
        let workers = (0..workers)
            .filter_map(|index| {
                let state = Arc::clone(&state);
                thread::Builder::new()
                    .name(format!("cpu-{}", index + 1))
                    .spawn(move || state.serve(index))
                    .ok()
            })
            .collect();
        Self { state, workers }
    }

    /// How many threads work on a task, the caller included.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work` with a thread's index and each of `0..items` once, and waits until all is done.
    pub(crate) fn run(&mut self, items: usize, work: &Work<'_>) {
        if items <= 1 || self.workers.is_empty() {
            (0..items).for_each(|item| work(0, item));
            return;
        }
        let state = &*self.state;
        let pointer: *const &Work<'_> = &raw const work;
        state
            .work
            .store(pointer.cast_mut().cast(), Ordering::Relaxed);
        state.items.store(items, Ordering::Relaxed);
        state.done.store(0, Ordering::Relaxed);
        let number = state.ticket.load(Ordering::Relaxed) >> 32;
        let ticket = (number.wrapping_add(1) << 32) | items as u64;
        state.ticket.store(ticket, Ordering::SeqCst);
        for (asleep, worker) in state.asleep.iter().zip(&self.workers) {
            if asleep.load(Ordering::SeqCst) && asleep.swap(false, Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
        while state.take(0) {}
        let mut looks = 0;
        while state.done.load(Ordering::Acquire) < items {
            looks += 1;
            if looks < SPINS {
                std::hint::spin_loop();
            } else {
                thread::yield_now();
            }
        }
        let panic = state
            .panic
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A panic in work has been given to the caller of `run`.
            let _ = worker.join();
        }
    }
}

impl State {
    fn serve(&self, index: usize) {
        let mut idle = 0;
        while !self.stop.load(Ordering::SeqCst) {
            if self.take(index + 1) {
                idle = 0;
                continue;
            }
            idle += 1;
            if idle < SPINS {
                std::hint::spin_loop();
            } else if idle < SPINS + YIELDS {
                thread::yield_now();
            } else {
                self.sleep(index);
                idle = 0;
            }
        }
    }

    fn sleep(&self, index: usize) {
        self.asleep[index].store(true, Ordering::SeqCst);
        // Work that came before the flag could be seen has sent no wake-up.
        while self.asleep[index].load(Ordering::SeqCst)
            && self.ticket.load(Ordering::SeqCst) as u32 == 0
            && !self.stop.load(Ordering::SeqCst)
        {
            thread::park();
        }
        self.asleep[index].store(false, Ordering::SeqCst);
    }

    /// Takes one item and works on it; says whether there was one.
    fn take(&self, thread: usize) -> bool {
        let mut ticket = self.ticket.load(Ordering::Acquire);
        let left = loop {
            let left = ticket as u32;
            if left == 0 {
                return false;
            }
            match self.ticket.compare_exchange_weak(
                ticket,
                ticket - 1,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => break left as usize,
                Err(now) => ticket = now,
            }
        };
        let items = self.items.load(Ordering::Relaxed);
        // SAFETY: `run` does not return, so its `work` lives, until the item taken above is done.
        let work = unsafe { *self.work.load(Ordering::Relaxed).cast::<&Work<'_>>() };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(thread, items - left))) {
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
        self.done.fetch_add(1, Ordering::Release);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_item_is_done_once_in_every_task() {
        for threads in [1, 2, 5] {
            let mut pool = Pool::new(NonZero::new(threads).unwrap());
            assert_eq!(pool.threads(), threads);
            for task in 0..2000 {
                let counts: Vec<_> = (0..task % 7).map(|_| AtomicUsize::new(0)).collect();
                pool.run(counts.len(), &|thread, item| {
                    assert!(thread < threads);
                    counts[item].fetch_add(1, Ordering::Relaxed);
                });
                assert!(
                    counts
                        .iter()
                        .all(|count| count.load(Ordering::Relaxed) == 1)
                );
            }
        }
    }

    #[test]
    fn a_thread_that_slept_is_woken() {
        let mut pool = Pool::new(NonZero::new(2).unwrap());
        for _ in 0..20 {
            while !pool.state.asleep[0].load(Ordering::SeqCst) {
                thread::yield_now();
            }
            let threads = Mutex::new(Vec::new());
            // Neither thread can do both items: each waits for the other.
            let barrier = std::sync::Barrier::new(2);
            pool.run(2, &|thread, _| {
                barrier.wait();
                threads.lock().unwrap().push(thread);
            });
            let mut threads = threads.into_inner().unwrap();
            threads.sort_unstable();
            assert_eq!(threads, [0, 1]);
        }
    }

    #[test]
    fn a_panic_in_an_item_reaches_the_caller_and_the_pool_goes_on() {
        let mut pool = Pool::new(NonZero::new(3).unwrap());
        let result = catch_unwind(AssertUnwindSafe(|| {
            pool.run(8, &|_, item| assert_ne!(item, 5, "found"));
        }));
        assert!(result.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(8, &|_, item| {
            sum.fetch_add(item, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 28);
    }
}
