//! How fast this machine reads its memory.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

/// Far more than any cache holds.
const WORDS: usize = (256 << 20) / size_of::<u64>();
/// The fastest counts.
const RUNS: usize = 5;
/// Sums that do not wait for each other.
const LANES: usize = 32;

/// Bytes a second that all threads which the process may use read together.
pub fn read_bandwidth() -> f64 {
    let memory: Vec<u64> = (0..WORDS as u64).collect();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = WORDS.div_ceil(threads).next_multiple_of(LANES);
    let seconds = (0..RUNS).map(|_| {
        let begun = Instant::now();
        thread::scope(|scope| {
            for part in memory.chunks(share) {
                scope.spawn(|| black_box(sum(part)));
            }
        });
        begun.elapsed().as_secs_f64()
    });
    let fastest = seconds.fold(f64::INFINITY, f64::min);
    size_of_val(&*memory) as f64 / fastest
}

fn sum(words: &[u64]) -> u64 {
    let mut sums = [0_u64; LANES];
    for words in words.chunks_exact(LANES) {
        for (sum, word) in sums.iter_mut().zip(words) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.into_iter().fold(0, u64::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read() {
        let words: Vec<u64> = (0..96).collect();
        assert_eq!(sum(&words), 95 * 96 / 2);
        assert!(read_bandwidth() > 1e6);
    }
}
