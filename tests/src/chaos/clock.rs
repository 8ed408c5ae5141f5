//! A wall clock that can be set for one process: `tests/chaos/clock.rs`, loaded before it.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::{env, fs};

use xtask::{Result, network};

/// One process's clock.
pub(crate) struct Clock {
    file: fs::File,
    path: PathBuf,
    library: PathBuf,
}

impl Clock {
    /// The library that shifts clocks, if it is built.
    pub(crate) fn library() -> Result<Option<PathBuf>> {
        let name = format!(
            "{}chaos_clock{}",
            env::consts::DLL_PREFIX,
            env::consts::DLL_SUFFIX
        );
        let library = network::profile_folder()?.join("examples").join(name);
        Ok(library.exists().then_some(library))
    }

    /// Keeps the clock's fault in the file at `path`.
    pub(crate) fn new(library: &Path, path: PathBuf) -> Result<Self> {
        fs::write(&path, 0i64.to_le_bytes())?;
        let file = fs::OpenOptions::new().write(true).open(&path)?;
        Ok(Self {
            file,
            path,
            library: library.to_owned(),
        })
    }

    /// What a process needs to see this clock.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        vec![
            ("LD_PRELOAD".to_owned(), text(&self.library)),
            ("CHAOS_CLOCK".to_owned(), text(&self.path)),
        ]
    }

    /// From now on the clock is off by so many seconds.
    pub(crate) fn set(&self, seconds: i64) -> Result<()> {
        Ok(self.file.write_all_at(&seconds.to_le_bytes(), 0)?)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_process_sees_its_own_clock() {
        let Some(library) = Clock::library().unwrap() else {
            // It is built with all tests, and not with this one alone.
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::new(&library, folder.path().join("clock")).unwrap();
        for offset in [0i64, -3600, 86_400] {
            clock.set(offset).unwrap();
            let mut date = Command::new("date");
            date.arg("+%s").envs(clock.environment());
            let told: i64 = xtask::process::output(date)
                .unwrap()
                .trim()
                .parse()
                .unwrap();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            let expected = now.as_secs() as i64 + offset;
            assert!(told.abs_diff(expected) < 60, "{told} instead of {expected}");
        }
    }
}
