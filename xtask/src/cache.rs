//! Where downloads and tools are kept between runs: the user's cache folder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::{Result, process};

/// The Python interpreter as this system calls it.
pub const PYTHON: &str = if cfg!(windows) { "python" } else { "python3" };

/// `~/.cache/infera-node` on Linux, and what goes for it elsewhere.
pub fn folder() -> Result<PathBuf> {
    let base = if cfg!(windows) {
        from_environment("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        from_environment("HOME").map(|home| home.join("Library/Caches"))
    } else {
        from_environment("XDG_CACHE_HOME")
            .or_else(|| from_environment("HOME").map(|home| home.join(".cache")))
    };
    base.map(|base| base.join("infera-node"))
        .ok_or_else(|| "there is no cache folder: set HOME".into())
}

/// A Python environment of our own, made when it is missing; gives its interpreter.
pub fn python_environment(name: &str) -> Result<PathBuf> {
    let environment = folder()?.join("python").join(name);
    let python = if cfg!(windows) {
        environment.join("Scripts/python.exe")
    } else {
        environment.join("bin/python")
    };
    let ready = environment.join("ready");
    if !ready.exists() {
        fs::create_dir_all(&environment)?;
        let mut command = Command::new(PYTHON);
        command.args(["-m", "venv", "--clear"]).arg(&environment);
        process::output(command)?;
        fs::write(&ready, "")?;
    }
    Ok(python)
}

/// One with the packages that a pip requirements file pins.
pub fn python_environment_with(name: &str, requirements: &Path) -> Result<PathBuf> {
    let python = python_environment(name)?;
    let wanted = fs::read(requirements)?;
    let installed = folder()?.join("python").join(name).join("requirements.txt");
    if fs::read(&installed).ok().as_ref() != Some(&wanted) {
        let mut command = Command::new(&python);
        command
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ])
            .args(["--only-binary", ":all:", "--requirement"])
            .arg(requirements);
        process::output(command)?;
        fs::write(&installed, wanted)?;
    }
    Ok(python)
}

fn from_environment(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}
