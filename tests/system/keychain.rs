//! The node's identity in a real Secret Service: gnome-keyring on a D-Bus session of its own.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use infera_system_tests::browser::{self, WebNode};
use infera_system_tests::tiny_model;
use serde_json::json;
use tempfile::tempdir;
use xtask::Result;
use xtask::network::{Binaries, START_LIMIT};
use xtask::process::Process;

/// Runs a shell line with its own home, and with `$INFERA` as the node's program.
fn session(home: &Path, line: &str) -> Result<Output> {
    let binaries = Binaries::find_or_build()?;
    let mut command = Command::new("dbus-run-session");
    command
        .args(["--", "sh", "-c", line])
        .env("HOME", home)
        .env("XDG_RUNTIME_DIR", home)
        .env_remove("XDG_DATA_HOME")
        .env("MODEL", tiny_model())
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

    // Nobody unlocks it.
    let run = "\"$INFERA\" run --data \"$HOME/data\" --balancer http://127.0.0.1:9 \
               --model \"$MODEL\"";
    for command in [id, run] {
        let locked = session(home.path(), command)?;
        assert_eq!(locked.status.code(), Some(1));
        let advice = String::from_utf8(locked.stderr)?;
        assert!(advice.contains("locked"), "{advice}");
        assert!(advice.contains("to do:  Unlock it"), "{advice}");
        assert!(advice.contains("--key-file FILE"), "{advice}");
    }
    in_the_browser(home.path())
}

/// The same locked keychain, as the person with the browser sees it.
fn in_the_browser(home: &Path) -> Result<()> {
    let binaries = Binaries::find_or_build()?;
    let furnish = |command: &mut Command| {
        command
            .env("HOME", home)
            .env("XDG_RUNTIME_DIR", home)
            .env_remove("XDG_DATA_HOME");
    };
    let mut command = Command::new("dbus-daemon");
    command.args(["--session", "--nofork", "--print-address=1"]);
    furnish(&mut command);
    let bus = Process::start("the session bus", command, &home.join("bus.txt"))?;
    let address = bus.line_after("", START_LIMIT)?;
    let mut command = Command::new(&binaries.node);
    furnish(&mut command);
    command.env("DBUS_SESSION_BUS_ADDRESS", &address);
    let node = WebNode::start_by(command, &binaries, &home.join("data"), &["--agree"])?;
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser");
    let given = json!({ "address": node.address });
    browser::run("keychain", &pictures, &given, |question| {
        Err(format!("the script asks for `{question}`").into())
    })?;
    node.stop()
}
