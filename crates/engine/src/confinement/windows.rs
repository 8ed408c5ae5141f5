//! Windows: a job object with a limit of memory, in which no other program can be started.
//!
//! Run under Wine only.

use std::io;

use super::{Bound, Needs};
use crate::job_object::{JobObject, Limits};

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
    let limits = Limits {
        processes: Some(1),
        memory_bytes,
        die_on_faults: true,
    };
    JobObject::new(limits)?.enter()
}
