//! An allocator that can be given a limit: the one way to bound a process's memory that is the same
//! on every operating system.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::ptr;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

/// The system's allocator until a limit is set, which only a process that applies templates does:
/// every program with the hidden subcommand needs it as its `#[global_allocator]`. A process that
/// wants more than its limit is aborted.
pub struct LimitedMemory;

/// Nothing is counted before there is a limit.
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);
/// Below zero when more was freed of what came before the count than was taken since.
static USED: AtomicIsize = AtomicIsize::new(0);

/// Sets the limit; false when the program has another allocator.
#[must_use]
pub(super) fn limit(bytes: usize) -> bool {
    LIMIT.store(bytes.min(isize::MAX as usize), Ordering::Relaxed);
    let before = USED.load(Ordering::Relaxed);
    let probe = black_box(vec![1u8; 4096]);
    let counted = USED.load(Ordering::Relaxed) > before;
    drop(probe);
    counted
}

/// Bytes taken since there is a limit.
pub(super) fn used() -> usize {
    usize::try_from(USED.load(Ordering::Relaxed)).unwrap_or(0)
}

fn limit_set() -> Option<usize> {
    Some(LIMIT.load(Ordering::Relaxed)).filter(|limit| *limit != usize::MAX)
}

/// Counts bytes; false when they go beyond the limit.
fn take(bytes: usize) -> bool {
    let Some(limit) = limit_set() else {
        return true;
    };
    let taken = bytes as isize;
    let used = USED.fetch_add(taken, Ordering::Relaxed) + taken;
    let fits = usize::try_from(used).is_ok_and(|used| used <= limit) || used < 0;
    if !fits {
        USED.fetch_sub(taken, Ordering::Relaxed);
    }
    fits
}

fn give_back(bytes: usize) {
    if limit_set().is_some() {
        USED.fetch_sub(bytes as isize, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed on to the system's allocator as it is, or fails as an allocator may.
unsafe impl GlobalAlloc for LimitedMemory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !take(layout.size()) {
            return ptr::null_mut();
        }
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !take(layout.size()) {
            return ptr::null_mut();
        }
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !take(size) {
            return ptr::null_mut();
        }
        // SAFETY: the caller's promises are the same.
        let moved = unsafe { System.realloc(block, layout, size) };
        give_back(if moved.is_null() { size } else { layout.size() });
        moved
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the same.
        unsafe { System.dealloc(block, layout) };
        give_back(layout.size());
    }
}
