//! What ends a child with its program on Windows, and keeps the console's events from it.

use std::io;
use std::os::windows::io::BorrowedHandle;
use std::sync::LazyLock;

use infera_engine::job_object::{JobObject, Limits};
use tokio::process::Child;
pub use windows_sys::Win32::System::Threading::CREATE_NO_WINDOW;

/// The children of this program. It is closed when the program ends, however that ends, and then
/// Windows ends what is in it.
static CHILDREN: LazyLock<io::Result<JobObject>> =
    LazyLock::new(|| JobObject::new(Limits::default()));

/// Ends the child when this process has ended, whatever the child does then.
pub fn end_with_this_process(child: &Child) -> io::Result<()> {
    let children = CHILDREN.as_ref().map_err(|error| {
        error
            .raw_os_error()
            .map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
    })?;
    match child.raw_handle() {
        // SAFETY: the child holds its handle open.
        Some(handle) => children.assign(unsafe { BorrowedHandle::borrow_raw(handle) }),
        // It has ended already.
        None => Ok(()),
    }
}
