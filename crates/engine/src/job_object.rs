//! Windows' job objects: processes that share limits, and end together.

use std::ffi::c_void;
use std::io;
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::{mem, ptr};

use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_ACTIVE_PROCESS,
    JOB_OBJECT_LIMIT_DIE_ON_UNHANDLED_EXCEPTION, JOB_OBJECT_LIMIT_JOB_MEMORY,
    JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE, JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
    JobObjectExtendedLimitInformation, SetInformationJobObject,
};
use windows_sys::Win32::System::Threading::GetCurrentProcess;

/// What the processes of a job may do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// How many they may be; any number if none.
    pub processes: Option<u32>,
    /// Bytes they may commit together; without a limit if none.
    pub memory_bytes: Option<u64>,
    /// A fault ends a process at once, without a window that asks what to do.
    pub die_on_faults: bool,
}

/// A job of this process. Dropping it ends whatever is in it, and so does the end of this process,
/// however it comes: the only handle is closed with it.
#[derive(Debug)]
pub struct JobObject(OwnedHandle);

impl JobObject {
    /// A job without a process.
    ///
    /// # Errors
    /// When Windows refuses.
    pub fn new(limits: Limits) -> io::Result<Self> {
        let mut information = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        let basic = &mut information.BasicLimitInformation;
        basic.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
        if let Some(processes) = limits.processes {
            basic.LimitFlags |= JOB_OBJECT_LIMIT_ACTIVE_PROCESS;
            basic.ActiveProcessLimit = processes;
        }
        if limits.die_on_faults {
            basic.LimitFlags |= JOB_OBJECT_LIMIT_DIE_ON_UNHANDLED_EXCEPTION;
        }
        if let Some(bytes) = limits.memory_bytes {
            basic.LimitFlags |= JOB_OBJECT_LIMIT_JOB_MEMORY;
            information.JobMemoryLimit = usize::try_from(bytes).unwrap_or(usize::MAX);
        }
        let size = size_of::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>() as u32;
        let information: *const c_void = (&raw const information).cast();
        // SAFETY: a handle that is not null is open, and owned from here on.
        let job = unsafe {
            let job = CreateJobObjectW(ptr::null(), ptr::null());
            if job.is_null() {
                return Err(io::Error::last_os_error());
            }
            OwnedHandle::from_raw_handle(job)
        };
        // SAFETY: `information` is what this class of information takes.
        let set = unsafe {
            SetInformationJobObject(
                job.as_raw_handle(),
                JobObjectExtendedLimitInformation,
                information,
                size,
            )
        };
        done(set)?;
        Ok(Self(job))
    }

    /// Puts a process into it, with whatever it starts from now on.
    ///
    /// # Errors
    /// When Windows refuses, or the handle is none of a process.
    pub fn assign(&self, process: BorrowedHandle<'_>) -> io::Result<()> {
        // SAFETY: both handles are open.
        done(unsafe { AssignProcessToJobObject(self.0.as_raw_handle(), process.as_raw_handle()) })
    }

    /// Puts this process itself into it, for as long as it runs.
    ///
    /// # Errors
    /// When Windows refuses.
    pub fn enter(self) -> io::Result<()> {
        // SAFETY: the handle that stands for this process is always open.
        self.assign(unsafe { BorrowedHandle::borrow_raw(GetCurrentProcess()) })?;
        // Dropping it would end this process.
        mem::forget(self);
        Ok(())
    }
}

fn done(answer: i32) -> io::Result<()> {
    match answer {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
