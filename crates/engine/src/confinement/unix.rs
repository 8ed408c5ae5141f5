//! Resource limits.

use std::io;
use std::thread::available_parallelism;

use super::Bound;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
type Resource = libc::c_int;

/// Limits private memory that can be written, and processor time. A core dump would put all memory
/// on the disk.
pub(super) fn limit_resources(memory_bytes: Option<u64>) -> Vec<Bound> {
    let memory = match memory_bytes {
        Some(bytes) => limit(libc::RLIMIT_DATA, bytes, bytes),
        None => Err(io::Error::other("the machine's is unknown")),
    };
    vec![
        Bound::of("memory", memory),
        Bound::of("processor time", limit_processor()),
        Bound::of("core dumps", limit(libc::RLIMIT_CORE, 0, 0)),
    ]
}

/// An hour of each core from now on.
pub(super) fn limit_processor() -> io::Result<()> {
    const SECONDS: u64 = 3600;
    let cores = available_parallelism().map_or(1, |cores| cores.get() as u64);
    // SAFETY: all zeros are a valid value of this struct of numbers.
    let mut used: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `used` may be written to.
    succeeded(unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut used) })?;
    let used = (used.ru_utime.tv_sec + used.ru_stime.tv_sec) as u64;
    let most = used + SECONDS * cores;
    limit(libc::RLIMIT_CPU, most, libc::RLIM_INFINITY)
}

/// Within a stricter limit that is in force already.
fn limit(resource: Resource, now: u64, ever: u64) -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` may be written to.
    succeeded(unsafe { libc::getrlimit(resource, &raw mut limit) })?;
    limit.rlim_max = limit.rlim_max.min(ever);
    limit.rlim_cur = limit.rlim_max.min(now);
    // SAFETY: `limit` may be read.
    succeeded(unsafe { libc::setrlimit(resource, &raw const limit) })
}

pub(super) fn succeeded(code: libc::c_int) -> io::Result<()> {
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
