//! Packages from npm for the tests, in the user's cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use xtask::{Result, cache, process};

/// A folder with what the lock file in `from` names; it stays until the lock file changes.
pub fn installed(name: &str, from: &Path) -> Result<PathBuf> {
    let folder = cache::folder()?.join("node").join(name);
    fs::create_dir_all(&folder)?;
    // Tests run at the same time, each in a process of its own.
    let guard = File::create(folder.join("guard"))?;
    guard.lock()?;
    let lock = fs::read(from.join("package-lock.json"))?;
    let stamp = folder.join("installed-lock.json");
    if fs::read(&stamp).ok().as_ref() != Some(&lock) {
        for file in ["package.json", "package-lock.json"] {
            fs::copy(from.join(file), folder.join(file))?;
        }
        let mut command = Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" });
        command
            .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
            .current_dir(&folder);
        process::output(command)?;
        fs::write(&stamp, lock)?;
    }
    Ok(folder)
}
