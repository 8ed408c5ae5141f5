//! Windows: a job object with a limit of memory, in which no other program can be started.
//!
//! Run under Wine only.

use std::ffi::c_void;
use std::io;
use std::ptr;

use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_ACTIVE_PROCESS,
    JOB_OBJECT_LIMIT_DIE_ON_UNHANDLED_EXCEPTION, JOB_OBJECT_LIMIT_JOB_MEMORY,
    JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE, JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
    JobObjectExtendedLimitInformation, SetInformationJobObject,
};
use windows_sys::Win32::System::Threading::GetCurrentProcess;

use super::{Bound, Needs};

pub(super) fn confine(_: &Needs, memory_bytes: Option<u64>) -> Vec<Bound> {
    let entered = enter_job(memory_bytes).map_err(|error| error.to_string());
    let memory = match memory_bytes {
        Some(_) => entered.clone(),
        None => Err("the machine's is unknown".to_owned()),
    };
    let lacking = |of| Bound::new(of, Some("not known on this system".to_owned()));
    vec![
        Bound::of("memory", memory),
        Bound::of("other programs", entered),
        lacking("files"),
        lacking("network"),
    ]
}

/// A job's limit of processor time counts from its beginning, and cannot be renewed for each act.
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
pub(super) fn limit_processor() -> io::Result<()> {
    Ok(())
}

fn enter_job(memory_bytes: Option<u64>) -> io::Result<()> {
    let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_ACTIVE_PROCESS
        | JOB_OBJECT_LIMIT_DIE_ON_UNHANDLED_EXCEPTION
        | JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
    limits.BasicLimitInformation.ActiveProcessLimit = 1;
    if let Some(bytes) = memory_bytes {
        limits.BasicLimitInformation.LimitFlags |= JOB_OBJECT_LIMIT_JOB_MEMORY;
        limits.JobMemoryLimit = usize::try_from(bytes).unwrap_or(usize::MAX);
    }
    let size = size_of::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>() as u32;
    let limits: *const c_void = (&raw const limits).cast();
    // SAFETY: `limits` is what this class of information takes, and the job is this process's own.
    // Its handle stays open: the job ends with the last, and the process with it.
    unsafe {
        let job = CreateJobObjectW(ptr::null(), ptr::null());
        if job.is_null()
            || SetInformationJobObject(job, JobObjectExtendedLimitInformation, limits, size) == 0
            || AssignProcessToJobObject(job, GetCurrentProcess()) == 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
