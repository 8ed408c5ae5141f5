//! What the engine child gives up before it reads anything that may come from a stranger: files
//! but the model's, the network, other programs, and more memory than the machine can spare.
//!
//! It needs no privilege, and does it to itself, because the model is known only then. It has to be
//! the only thread: the system's bounds hold for those that it starts, not for those there are.
//! What the system lacks is left out and said. `INFERA_ENGINE_CONFINED=0` leaves out all, to find
//! out whether a driver's fault comes from it.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(any(target_os = "linux", target_os = "macos"))]
mod unix;
#[cfg(windows)]
mod windows;

use std::path::PathBuf;

#[cfg(target_os = "linux")]
use self::linux as system;
#[cfg(target_os = "macos")]
use self::macos as system;
#[cfg(windows)]
use self::windows as system;
use crate::memory_budget::ram_bytes;
pub use crate::message::Bound;

const SWITCH: &str = "INFERA_ENGINE_CONFINED";

/// Files that the child uses beside the system's and the driver's.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    /// To read.
    pub model: Option<PathBuf>,
    /// A folder to write to.
    pub tunings: Option<PathBuf>,
}

/// The bounds of this process.
#[derive(Debug, Default)]
pub struct Confinement {
    pub bounds: Vec<Bound>,
    limits_processor: bool,
}

impl Confinement {
    /// Confines the process for good. To be called once, by its only thread.
    pub fn enter(needs: &Needs) -> Self {
        if std::env::var_os(SWITCH).is_some_and(|switch| switch == "0") {
            tracing::warn!("the engine is not confined: {SWITCH} is 0");
            return Self::default();
        }
        let bounds = system::confine(needs, memory_bytes());
        tracing::info!(bounds = describe(&bounds), "the engine is confined");
        Self {
            bounds,
            limits_processor: true,
        }
    }

    /// What follows, a load or a step, has an hour of each core. A file that keeps the child busy
    /// for longer ends it.
    pub fn begin_act(&self) {
        if self.limits_processor
            && let Err(error) = system::limit_processor()
        {
            tracing::warn!(%error, "the limit of processor time cannot be renewed");
        }
    }
}

/// For a person: what is in force, and what is not and why.
pub fn describe(bounds: &[Bound]) -> String {
    let listed = |names: &[String]| names.join(", ");
    let (held, missing): (Vec<_>, Vec<_>) = bounds.iter().partition(|bound| bound.fault.is_none());
    let held: Vec<_> = held.iter().map(|bound| bound.of.clone()).collect();
    let missing: Vec<_> = missing
        .iter()
        .filter_map(|bound| Some(format!("{} ({})", bound.of, bound.fault.as_ref()?)))
        .collect();
    match (held.is_empty(), missing.is_empty()) {
        (true, true) => "nothing".to_owned(),
        (false, true) => listed(&held),
        (true, false) => format!("nothing; without {}", listed(&missing)),
        (false, false) => format!("{}; without {}", listed(&held), listed(&missing)),
    }
}

impl Bound {
    fn new(of: &str, fault: Option<String>) -> Self {
        Self {
            of: of.to_owned(),
            fault,
        }
    }

    fn of<E: std::fmt::Display>(of: &str, result: Result<(), E>) -> Self {
        Self::new(of, result.err().map(|error| error.to_string()))
    }
}

/// The child's own memory may be three quarters of the RAM: a model on the CPU takes half, and
/// what is mapped from a file or belongs to a GPU does not count.
fn memory_bytes() -> Option<u64> {
    const LEAST: u64 = 2 << 30;
    ram_bytes().map(|all| (all / 4 * 3).max(LEAST))
}

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
mod system {
    use super::{Bound, Needs};

    pub(super) fn confine(_: &Needs, _: Option<u64>) -> Vec<Bound> {
        let fault = "not known on this system".to_owned();
        vec![Bound::new("everything", Some(fault))]
    }

    #[expect(clippy::unnecessary_wraps, reason = "elsewhere it can fail")]
    pub(super) fn limit_processor() -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_told_in_a_line() {
        let held = |of| Bound::new(of, None);
        let missing = Bound::new("files", Some("the kernel has no Landlock".to_owned()));
        assert_eq!(describe(&[]), "nothing");
        assert_eq!(
            describe(&[held("memory"), held("network")]),
            "memory, network"
        );
        assert_eq!(
            describe(&[held("memory"), missing]),
            "memory; without files (the kernel has no Landlock)"
        );
    }
}
