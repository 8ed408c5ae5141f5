//! The launchd agent of the node without a window on macOS: its keys, and what its script does in
//! this system's shell.

use std::path::Path;

use plist::{Dictionary, Value};
use xtask::{Result, network};

const AGENT: &str = "crates/node/package/network.infera.headless.plist";

fn agent() -> Result<Dictionary> {
    let value = Value::from_file(network::repository().join(AGENT))?;
    Ok(value.into_dictionary().ok_or("it is no dictionary")?)
}

#[test]
fn the_agent_starts_again_after_a_failure_and_never_as_root() {
    let agent = agent().unwrap();
    // launchd wants the file to be called as the agent is.
    let name = Path::new(AGENT).file_stem().unwrap().to_str();
    assert_eq!(agent["Label"].as_string(), name);
    assert_eq!(agent["RunAtLoad"].as_boolean(), Some(true));
    let keep_alive = agent["KeepAlive"].as_dictionary().unwrap();
    assert_eq!(keep_alive["SuccessfulExit"].as_boolean(), Some(false));
    // launchd slows down what has no type, and moves what is in the background to slow cores.
    assert_eq!(agent["ProcessType"].as_string(), Some("Interactive"));
    for key in ["UserName", "GroupName", "SessionCreate"] {
        assert!(!agent.contains_key(key), "{key} is for what root starts");
    }
    // launchd knows no `~` in paths: these would point nowhere.
    for key in ["StandardOutPath", "StandardErrorPath", "WorkingDirectory"] {
        assert!(!agent.contains_key(key), "{key}");
    }
}

#[cfg(unix)]
mod script {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, ExitStatus};
    use std::time::Duration;

    use tempfile::TempDir;
    use xtask::Result;
    use xtask::process::{self, Process};

    /// A home folder, and a program `infera` that runs `script`.
    fn home(script: &str) -> Result<TempDir> {
        let home = tempfile::tempdir()?;
        fs::create_dir_all(home.path().join("Library/Logs"))?;
        fs::create_dir_all(home.path().join(".config/infera"))?;
        let program = home.path().join("infera");
        fs::write(&program, format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(program, fs::Permissions::from_mode(0o755))?;
        Ok(home)
    }

    /// What launchd would run.
    fn start(home: &TempDir) -> Result<Process> {
        let agent = super::agent()?;
        let words = agent["ProgramArguments"].as_array().into_iter().flatten();
        let words: Vec<_> = words.filter_map(|word| word.as_string()).collect();
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .env("HOME", home.path())
            .env("PATH", format!("{}:/usr/bin:/bin", home.path().display()));
        Process::start("the agent", command, &home.path().join("agent.log"))
    }

    fn run(home: &TempDir) -> Result<ExitStatus> {
        start(home)?.wait_for_end(Duration::from_secs(30))
    }

    fn log(home: &TempDir) -> String {
        process::last_lines(&home.path().join("Library/Logs/infera.log"), 10)
    }

    #[test]
    fn it_runs_the_node_with_the_persons_settings_and_keeps_two_logs() {
        let home = home("echo \"$@ with $INFERA_BALANCER\"; echo trouble >&2").unwrap();
        let settings = home.path().join(".config/infera/environment");
        fs::write(settings, "INFERA_BALANCER=https://balancer.example\n").unwrap();
        assert!(run(&home).unwrap().success());
        assert_eq!(log(&home), "run with https://balancer.example\ntrouble");
        fs::write(home.path().join("infera"), "#!/bin/sh\necho again\n").unwrap();
        assert!(run(&home).unwrap().success());
        assert_eq!(log(&home), "again");
        assert!(home.path().join("Library/Logs/infera.log.before").exists());
    }

    #[test]
    fn launchd_hears_of_a_failure_only_where_another_start_may_help() {
        for (code, heard) in [
            (0, 0),
            (1, 1),
            (2, 0),
            (5, 0),
            (6, 0),
            (101, 101),
            (137, 137),
        ] {
            let home = home(&format!("exit {code}")).unwrap();
            assert_eq!(
                run(&home).unwrap().code(),
                Some(heard),
                "infera ended with {code}"
            );
        }
    }

    #[test]
    fn it_ends_when_the_node_has_ended_and_not_before() {
        let home =
            home("trap 'echo ended; exit 0' TERM; echo up; while [ -e $0 ]; do sleep 0.01; done")
                .unwrap();
        let mut running = start(&home).unwrap();
        xtask::wait::until("the node is up", Duration::from_secs(30), || {
            Ok((log(&home) == "up").then_some(()))
        })
        .unwrap();
        running.stop(Duration::from_secs(30)).unwrap();
        assert_eq!(log(&home), "up\nended");
        assert!(running.ended().unwrap().unwrap().success());
    }
}
