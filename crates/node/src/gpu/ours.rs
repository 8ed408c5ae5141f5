//! Which processes are this program's own: its engines, itself, and whatever it has started.

use std::fs;
use std::path::{Path, PathBuf};

use crate::engine_link::EngineProcesses;

/// Knows them by their parents, where the system tells.
#[derive(Debug, Clone)]
pub(super) struct Ours {
    root: PathBuf,
    engines: EngineProcesses,
    this: u32,
}

/// A line of parents that is longer is none.
const MOST_PARENTS: usize = 32;

impl Ours {
    /// `root` is `/`, and `this` the running process, but for tests.
    pub(super) fn new(root: &Path, engines: EngineProcesses, this: u32) -> Self {
        Self {
            root: root.to_owned(),
            engines,
            this,
        }
    }

    pub(super) fn of_this_process(engines: EngineProcesses) -> Self {
        Self::new(Path::new("/"), engines, std::process::id())
    }

    /// The engines that run now.
    pub(super) fn engines(&self) -> Vec<u32> {
        self.engines.ids()
    }

    pub(super) fn has(&self, process: u32) -> bool {
        let engines = self.engines.ids();
        let mut next = Some(process);
        for _ in 0..MOST_PARENTS {
            match next {
                Some(process) if process == self.this || engines.contains(&process) => return true,
                Some(process) if process > 1 => next = self.parent(process),
                _ => return false,
            }
        }
        false
    }

    fn parent(&self, process: u32) -> Option<u32> {
        let stat = fs::read_to_string(self.root.join(format!("proc/{process}/stat"))).ok()?;
        parent_in(&stat)
    }
}

/// From a process's `stat`. Its name may hold whatever it likes, brackets and spaces too.
fn parent_in(stat: &str) -> Option<u32> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_as_the_kernel_writes_them() {
        for (stat, expected) in [
            ("70 (infera) S 12 70 70 0 -1 4194560", Some(12)),
            ("70 (a) b (c) R 12 70", Some(12)),
            ("70 (infera) S", None),
            ("70 (infera) S x 70", None),
            ("", None),
        ] {
            assert_eq!(parent_in(stat), expected, "{stat}");
        }
    }

    #[test]
    fn ours_are_engines_and_descendants() {
        let root = tempfile::tempdir().unwrap();
        for (process, parent) in [(10, 1), (11, 10), (12, 11), (20, 1), (21, 20), (30, 30)] {
            let folder = root.path().join(format!("proc/{process}"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("stat"), format!("{process} (x) S {parent} 0")).unwrap();
        }
        let engines = EngineProcesses::default();
        let _running = engines.add(20);
        let ours = Ours::new(root.path(), engines, 10);
        for (process, expected) in [
            (10, true),
            (12, true),
            (21, true),
            (1, false),
            // Its own parent, as no process is.
            (30, false),
            // Gone already.
            (99, false),
        ] {
            assert_eq!(ours.has(process), expected, "{process}");
        }
    }
}
