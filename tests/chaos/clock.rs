//! A library to load before a program (`LD_PRELOAD`): its wall clock is off by as many seconds as
//! the file named in `CHAOS_CLOCK` says, eight bytes, little-endian. Other clocks are left alone.
#![cfg(target_os = "linux")]

use std::ffi::{c_int, c_long};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use rustix::time::{ClockId, clock_gettime as true_time};

/// `struct timespec` of 64-bit Linux.
#[repr(C)]
pub struct Timespec {
    seconds: i64,
    nanoseconds: c_long,
}

/// The C library's function, which the program's calls reach first here.
///
/// # Safety
///
/// `time` is as the C library wants it: null, or free to be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int {
    let (id, offset) = match clock {
        0 => (ClockId::Realtime, offset()),
        1 => (ClockId::Monotonic, 0),
        2 => (ClockId::ProcessCPUTime, 0),
        3 => (ClockId::ThreadCPUTime, 0),
        4 => (ClockId::MonotonicRaw, 0),
        5 => (ClockId::RealtimeCoarse, offset()),
        6 => (ClockId::MonotonicCoarse, 0),
        7 => (ClockId::Boottime, 0),
        _ => return -1,
    };
    let now = true_time(id);
    if !time.is_null() {
        let value = Timespec {
            seconds: now.tv_sec + offset,
            nanoseconds: now.tv_nsec as c_long,
        };
        // SAFETY: the caller's promise, and it is not null.
        unsafe { time.write(value) };
    }
    0
}

/// Seconds.
fn offset() -> i64 {
    static FILE: OnceLock<Option<File>> = OnceLock::new();
    let file = FILE.get_or_init(|| File::open(std::env::var_os("CHAOS_CLOCK")?).ok());
    let mut bytes = [0; 8];
    match file {
        Some(file) if file.read_exact_at(&mut bytes, 0).is_ok() => i64::from_le_bytes(bytes),
        _ => 0,
    }
}
