//! The window's files (`ui/`): built when their sources have changed, and checked.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use xtask::{Result, network, process};

use crate::cargo::cargo;
use crate::report;

/// What a build makes: the window, and the balancer's own page.
const PAGES: [&str; 2] = ["dist/index.html", "dist-balancer/balancer.html"];

/// Makes `ui/dist` and `ui/dist-balancer`, which the programs are built with.
pub(crate) fn build() -> Result<()> {
    let folder = folder();
    if is_up_to_date(&folder)? {
        return Ok(());
    }
    report::fact("window", "building ui/ with npm");
    install(&folder)?;
    process::run(npm(&["run", "build"]))
}

/// Format, lints, types and the window's own tests.
pub(crate) fn check() -> Result<()> {
    install(&folder())?;
    for (script, what) in [
        ("lint", "format and lints of ui/"),
        ("check", "types of ui/"),
        ("test", "the window's own tests"),
    ] {
        report::fact("window", what);
        process::run(npm(&["run", "--silent", script]))?;
    }
    Ok(())
}

/// Writes what Rust and TypeScript share: the types of the program's API, and the window's words
/// for the tray.
pub(crate) fn write_bindings() -> Result<()> {
    install(&folder())?;
    let mut words = npm(&["run", "--silent", "test", "--", "src/i18n/tray.test.ts"]);
    words.env("INFERA_WRITE_BINDINGS", "1");
    process::run(words)?;
    let mut command = cargo(&["test", "--quiet", "--package", "infera-node", "--lib"]);
    command
        .arg("the_typescript_types")
        .env("INFERA_WRITE_BINDINGS", "1");
    process::run(command)
}

fn folder() -> PathBuf {
    network::repository().join("ui")
}

pub(crate) fn npm(words: &[&str]) -> Command {
    let mut command = Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" });
    command.current_dir(folder()).args(words);
    command
}

/// Packages as a folder's lock file wants them; nothing is done where it is so already.
pub(crate) fn install(folder: &Path) -> Result<()> {
    let lock = fs::read(folder.join("package-lock.json"))?;
    let stamp = folder.join("node_modules/.installed-lock");
    if fs::read(&stamp).ok().as_ref() == Some(&lock) {
        return Ok(());
    }
    let mut install = npm(&["ci", "--no-audit", "--no-fund"]);
    install.current_dir(folder);
    process::run(install).map_err(|error| {
        format!("{error}\nThis needs Node.js 20 or newer with npm (https://nodejs.org)")
    })?;
    fs::write(stamp, lock)?;
    Ok(())
}

/// Whether nothing has changed since the last build.
fn is_up_to_date(folder: &Path) -> Result<bool> {
    let mut oldest = SystemTime::now();
    for page in PAGES {
        let Ok(built) = fs::metadata(folder.join(page)) else {
            return Ok(false);
        };
        oldest = built.modified()?.min(oldest);
    }
    let mut newest = SystemTime::UNIX_EPOCH;
    collect_newest(folder, &mut newest)?;
    Ok(newest <= oldest)
}

fn collect_newest(folder: &Path, newest: &mut SystemTime) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "node_modules" || name.to_string_lossy().starts_with("dist") {
            continue;
        }
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            collect_newest(&entry.path(), newest)?;
        } else {
            *newest = metadata.modified()?.max(*newest);
        }
    }
    Ok(())
}
