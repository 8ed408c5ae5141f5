//! Real processes, out of folders like those of game libraries.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use infera_surroundings::{MOST_RUNNING, Observers, Seen, Wanted, running_programs};

use crate::around::{nowhere, programs, until};

/// A process that ends with the test.
struct Running(Child);

impl Running {
    fn start(program: &Path) -> Self {
        Self(Command::new(program).arg("1000").spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program that does nothing for long.
fn install(program: &Path) {
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::copy("/bin/sleep", program).unwrap();
}

fn has(seen: Option<&Seen>, name: &str) -> bool {
    seen.is_some_and(|seen| seen.names.iter().any(|other| other == name))
}

#[tokio::test]
async fn a_game_begins_and_ends() {
    let home = tempfile::tempdir().unwrap();
    let library = home.path().join("Steam/steamapps/common");
    let before = library.join("Early Bird 1/bin/game");
    let after = library.join("Late Bird 2/game");
    let tool = library.join("Proton 9.0/files/bin/wineserver");
    for program in [&before, &after, &tool] {
        install(program);
    }
    let early = Running::start(&before);
    let mut observers = Observers::start_at(nowhere(), Wanted::default());
    until(&mut observers, |seen| {
        has(seen.games.as_ref(), "Early Bird 1")
    })
    .await;
    let _tool = Running::start(&tool);
    let late = Running::start(&after);
    until(&mut observers, |seen| {
        has(seen.games.as_ref(), "Late Bird 2")
    })
    .await;
    let games = observers.seen.borrow().games.clone().unwrap_or_default();
    assert!(!games.names.iter().any(|name| name.starts_with("Proton")));
    drop(early);
    until(&mut observers, |seen| {
        !has(seen.games.as_ref(), "Early Bird 1")
    })
    .await;
    drop(late);
    until(&mut observers, |seen| {
        !has(seen.games.as_ref(), "Late Bird 2")
    })
    .await;
}

/// As the scripts do that games are started by.
#[tokio::test]
async fn a_process_becomes_a_game() {
    let home = tempfile::tempdir().unwrap();
    let game = home.path().join("GOG Games/Becoming/game");
    install(&game);
    let mut observers = Observers::start_at(nowhere(), Wanted::default());
    until(&mut observers, |seen| seen.games.is_some()).await;
    let script = "sleep 0.5; exec \"$0\" 1000";
    let shell = Command::new("/bin/sh")
        .args(["-c", script])
        .arg(&game)
        .spawn();
    let _shell = Running(shell.unwrap());
    until(&mut observers, |seen| has(seen.games.as_ref(), "Becoming")).await;
}

/// The kernel cuts a process' own name after fifteen letters.
#[tokio::test]
async fn a_wanted_program_with_a_long_name() {
    let home = tempfile::tempdir().unwrap();
    let program = home.path().join("A-Name-Of-Many-Letters");
    install(&program);
    let mut observers = Observers::start_at(
        nowhere(),
        programs(&["a-name-of-MANY-letters.exe", "another"]),
    );
    until(&mut observers, |seen| {
        seen.programs == Some(Seen::default())
    })
    .await;
    let running = Running::start(&program);
    until(&mut observers, |seen| {
        has(seen.programs.as_ref(), "a-name-of-MANY-letters.exe")
    })
    .await;
    observers.wanted.send_replace(Wanted::default());
    until(&mut observers, |seen| {
        seen.programs == Some(Seen::default())
    })
    .await;
    observers
        .wanted
        .send_replace(programs(&["A-Name-Of-Many-Letters"]));
    until(&mut observers, |seen| {
        has(seen.programs.as_ref(), "A-Name-Of-Many-Letters")
    })
    .await;
    drop(running);
    until(&mut observers, |seen| {
        seen.programs == Some(Seen::default())
    })
    .await;
}

/// What this process starts is this program's own; a program that is started by init is not.
#[tokio::test]
async fn programs_to_choose_from() {
    let home = tempfile::tempdir().unwrap();
    let zebra = home.path().join("zeBRA-of-tests");
    fs::copy("/usr/bin/python3", &zebra).unwrap();
    let takes_memory = "import sys\nkept = bytearray(b'x' * (200 << 20))\nprint('up', flush=True)\nsys.stdin.read()";
    let mut command = Command::new("setsid");
    command
        .args(["--fork"])
        .arg(&zebra)
        .args(["-c", takes_memory]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let input = child.stdin.take();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    child.wait().unwrap();
    assert_eq!(line, "up\n");
    let own_child = Running::start(Path::new("/bin/sleep"));
    let programs = running_programs().unwrap();
    // It ends with what it reads.
    drop(input);
    drop(own_child);
    let found = programs.iter().find(|one| one.name == "zeBRA-of-tests");
    let memory = found.and_then(|one| one.memory_bytes);
    assert!(memory >= Some(200 << 20), "{programs:?}");
    assert!(programs.len() <= MOST_RUNNING);
    for name in ["sleep", "bash"] {
        assert!(programs.iter().all(|one| one.name != name), "{programs:?}");
    }
}

#[tokio::test]
async fn nothing_is_known_without_processes() {
    let mut places = nowhere();
    places.processes = "/nowhere".into();
    let mut observers = Observers::start_at(places, programs(&["a"]));
    until(&mut observers, |seen| seen.power.is_some()).await;
    let seen = observers.seen.borrow();
    assert_eq!((&seen.games, &seen.programs), (&None, &None));
    assert_eq!(seen.available_memory_bytes, None);
}
