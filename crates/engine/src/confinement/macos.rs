//! macOS: a sandbox profile, and resource limits.
//!
//! `sandbox_init` is marked as deprecated and is what browsers use. The profile allows what it does
//! not name: Metal compiles kernels in services of the system, whose list is not public.
//!
//! Compiled for, and never run.

use std::ffi::{CStr, CString, c_char, c_int};
use std::io;
use std::path::Path;
use std::ptr;

pub(super) use super::unix::limit_processor;
use super::unix::limit_resources;
use super::{Bound, Needs};

unsafe extern "C" {
    fn sandbox_init(profile: *const c_char, flags: u64, error: *mut *mut c_char) -> c_int;
    fn sandbox_free_error(error: *mut c_char);
}

pub(super) fn confine(needs: &Needs, memory_bytes: Option<u64>) -> Vec<Bound> {
    if let Some(tunings) = &needs.tunings {
        // A folder that cannot be made is a tuning that is not kept.
        let _ = std::fs::create_dir_all(tunings);
    }
    let mut bounds = limit_resources(memory_bytes);
    let sandbox = enter(&profile(needs));
    let of_sandbox = ["files", "network", "other programs"];
    bounds.extend(of_sandbox.map(|of| Bound::of(of, sandbox.clone())));
    bounds
}

fn enter(profile: &str) -> Result<(), String> {
    let profile = CString::new(profile).map_err(|error| error.to_string())?;
    let mut fault = ptr::null_mut();
    // SAFETY: the text ends with a zero, and `fault` may be written to.
    if unsafe { sandbox_init(profile.as_ptr(), 0, &raw mut fault) } == 0 {
        return Ok(());
    }
    if fault.is_null() {
        return Err(io::Error::last_os_error().to_string());
    }
    // SAFETY: on failure it is a text of the sandbox's own, freed once.
    unsafe {
        let text = CStr::from_ptr(fault).to_string_lossy().into_owned();
        sandbox_free_error(fault);
        Err(text)
    }
}

fn profile(needs: &Needs) -> String {
    let mut lines = vec![
        "(version 1)".to_owned(),
        "(allow default)".to_owned(),
        "(deny network*)".to_owned(),
        "(deny process-exec*)".to_owned(),
        "(deny process-fork)".to_owned(),
        "(deny signal (target others))".to_owned(),
        "(deny file-write*)".to_owned(),
        "(allow file-write-data (regex #\"^/dev/\"))".to_owned(),
        // Where Metal keeps compiled kernels.
        "(allow file-write* (subpath \"/private/var/folders\"))".to_owned(),
        "(deny file-read-data (subpath \"/Users\") (subpath \"/Volumes\"))".to_owned(),
    ];
    let program = std::env::current_exe().ok();
    let bundle = program.as_deref().and_then(Path::parent);
    let folders = bundle.into_iter().chain(needs.tunings.as_deref());
    lines.extend(folders.map(|path| format!("(allow file-read* (subpath {}))", quoted(path))));
    let writable = needs.tunings.iter();
    lines.extend(writable.map(|path| format!("(allow file-write* (subpath {}))", quoted(path))));
    let model = needs.model.iter();
    lines.extend(model.map(|path| format!("(allow file-read* (literal {}))", quoted(path))));
    lines.join("\n")
}

/// The profile's rules see a path without links.
fn quoted(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let text = path.to_string_lossy();
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
