//! Main memory that programs can still have.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::board::Board;
use crate::memory_steps::step_of;

pub(super) async fn observe(file: PathBuf, board: Board) {
    let Ok(file) = File::open(&file) else {
        tracing::debug!(file = %file.display(), "free memory is unknown");
        return;
    };
    let mut tick = tokio::time::interval(Duration::from_secs(2));
    // What is looked for stands in its third line.
    let mut start = [0; 256];
    loop {
        tick.tick().await;
        let length = file.read_at(&mut start, 0).unwrap_or_default();
        let free = available(&start[..length]);
        board.set(|shown| {
            let before = shown.available_memory_bytes;
            shown.available_memory_bytes = free.map(|free| step_of(free, before));
        });
    }
}

fn available(start: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(start);
    let mut lines = text.lines();
    let amount = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = amount.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes() {
        let text = "MemTotal:  16303520 kB\nMemFree:  1 kB\nMemAvailable:   12345 kB\nBuf";
        assert_eq!(available(text.as_bytes()), Some(12345 * 1024));
        assert_eq!(available(&text.as_bytes()[..50]), None);
        assert_eq!(available(b""), None);
    }
}
