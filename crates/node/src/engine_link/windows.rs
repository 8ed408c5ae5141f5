//! What ends an engine with its node on Windows, and keeps the console's events from it.

use std::ffi::c_void;
use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle, RawHandle};
use std::ptr;
use std::sync::LazyLock;

use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation,
    SetInformationJobObject,
};
pub(super) use windows_sys::Win32::System::Threading::CREATE_NO_WINDOW;

/// Its only handle is this process's, so it is closed when the node ends, however that ends; and
/// then Windows ends what is in it.
static JOB: LazyLock<io::Result<OwnedHandle>> = LazyLock::new(create_job);

/// Ends the child when this process has ended, whatever the child does then.
pub(super) fn end_with_this_process(child: RawHandle) -> io::Result<()> {
    let job = JOB.as_ref().map_err(|error| {
        error
            .raw_os_error()
            .map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
    })?;
    // SAFETY: both handles are open.
    match unsafe { AssignProcessToJobObject(job.as_raw_handle(), child) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn create_job() -> io::Result<OwnedHandle> {
    let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
    let size = size_of::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>() as u32;
    let limits: *const c_void = (&raw const limits).cast();
    // SAFETY: without a name the job is this process's own; its handle is owned from here on.
    let job = unsafe {
        let job = CreateJobObjectW(ptr::null(), ptr::null());
        if job.is_null() {
            return Err(io::Error::last_os_error());
        }
        OwnedHandle::from_raw_handle(job)
    };
    // SAFETY: `limits` is what this class of information takes.
    match unsafe {
        SetInformationJobObject(
            job.as_raw_handle(),
            JobObjectExtendedLimitInformation,
            limits,
            size,
        )
    } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(job),
    }
}
