//! The node's identity in a real Secret Service: gnome-keyring on a D-Bus session of its own.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::tempdir;
use xtask::Result;
use xtask::network::Binaries;

/// Runs a shell line with its own home, and with `$INFERA` as the node's program.
fn session(home: &Path, line: &str) -> Result<Output> {
    let binaries = Binaries::find_or_build()?;
    let mut command = Command::new("dbus-run-session");
    command
        .args(["--", "sh", "-c", line])
        .env("HOME", home)
        .env("XDG_RUNTIME_DIR", home)
        .env_remove("XDG_DATA_HOME")
        .env("INFERA", binaries.node);
    Ok(command.output()?)
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

#[test]
fn an_identity_stays_in_the_keychain_and_nowhere_else() -> Result<()> {
    if !is_there("dbus-run-session") || !is_there("gnome-keyring-daemon") {
        eprintln!("skipped: dbus-run-session or gnome-keyring-daemon is missing");
        return Ok(());
    }
    let home = tempdir()?;
    let unlocked = "printf secret | gnome-keyring-daemon --unlock --components=secrets >/dev/null";
    let id = "\"$INFERA\" id --data \"$HOME/data\"";
    let first = session(home.path(), &format!("{unlocked} && {id} && {id}"))?;
    let printed = String::from_utf8(first.stdout)?;
    let ids: Vec<_> = printed.lines().collect();
    let [made, kept] = ids[..] else {
        let errors = String::from_utf8_lossy(&first.stderr);
        return Err(format!("not two ids: {printed}{errors}").into());
    };
    assert_eq!(made.len(), 64, "{made}");
    assert_eq!(made, kept);
    let files: Vec<_> = fs::read_dir(home.path().join("data"))?.collect();
    assert!(files.is_empty(), "the key is in no file: {files:?}");

    let later = session(home.path(), &format!("{unlocked} && {id}"))?;
    assert_eq!(String::from_utf8(later.stdout)?.trim(), made);

    let without = session(home.path(), id)?;
    assert!(!without.status.success());
    let advice = String::from_utf8(without.stderr)?;
    assert!(advice.contains("--key-file"), "{advice}");
    Ok(())
}
