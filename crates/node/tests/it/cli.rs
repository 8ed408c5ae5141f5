//! The program `infera` as a person calls it: what it prints, and how it ends.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use infera_node::data_dir::DataDir;
use infera_protocol::node_api::{Refusal, RefusalCode};
use serde_json::Value;

use crate::engine::tiny_model;

fn infera(folder: &Path, words: &[&str]) -> Output {
    output(program(words).arg("--data").arg(folder))
}

fn program(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infera"));
    command.args(words).env_remove("INFERA_LOG");
    command
}

fn output(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Runs a program that must not wait for anything.
fn output_soon(mut command: Command) -> Output {
    let (sender, ended) = std::sync::mpsc::channel();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    std::thread::spawn(move || {
        let read = |mut from: Box<dyn std::io::Read>| {
            let mut all = Vec::new();
            from.read_to_end(&mut all).map(|_| all)
        };
        let stdout = read(Box::new(stdout.unwrap()));
        let stderr = read(Box::new(stderr.unwrap()));
        let _ = sender.send((stdout, stderr));
    });
    match ended.recv_timeout(Duration::from_secs(30)) {
        Ok((stdout, stderr)) => Output {
            status: child.wait().unwrap(),
            stdout: stdout.unwrap(),
            stderr: stderr.unwrap(),
        },
        Err(error) => {
            child.kill().unwrap();
            panic!("{command:?} still runs: {error}");
        }
    }
}

/// It failed with this code and said so in three parts, the first holding `part`.
fn assert_fault(output: &Output, code: i32, part: &str) {
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines.len(), 3, "{error}");
    assert!(
        lines[0].starts_with("error:  ") && lines[0].contains(part),
        "{error}"
    );
    assert!(lines[1].starts_with("means:  "), "{error}");
    assert!(lines[2].starts_with("to do:  "), "{error}");
    assert!(output.stdout.is_empty());
}

#[test]
fn the_id_is_made_once_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let id = |key: &Path| {
        let output = infera(folder.path(), &["id", "--key-file", key.to_str().unwrap()]);
        assert!(output.status.success(), "{output:?}");
        text(&output.stdout).to_owned()
    };
    let first = id(&key);
    assert_eq!(first.trim().len(), 64);
    assert_eq!(id(&key), first);
    assert_ne!(id(&folder.path().join("other")), first);
}

#[cfg(unix)]
#[test]
fn an_open_key_file_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let words = ["id", "--key-file", key.to_str().unwrap()];
    assert!(infera(folder.path(), &words).status.success());
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_fault(&infera(folder.path(), &words), 1, "can be read by others");
}

#[test]
fn without_a_node_there_is_nothing_to_ask() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["status", "pause", "resume", "history", "points", "earnings"] {
        let output = infera(folder.path(), &[command]);
        assert_fault(&output, 3, "no node is running");
    }
    // What a killed node leaves behind.
    let control = r#"{"url":"http://127.0.0.1:1","token":"x"}"#;
    std::fs::write(folder.path().join("control.json"), control).unwrap();
    assert_fault(&infera(folder.path(), &["status"]), 3, "no node is running");
}

#[test]
fn a_node_that_cannot_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.gguf");
    std::fs::write(&model, "GGUF").unwrap();
    let key = folder.path().join("key");
    let run = |balancer: &str, model: &Path| {
        let words = [
            "run",
            "--balancer",
            balancer,
            "--model",
            model.to_str().unwrap(),
            "--key-file",
            key.to_str().unwrap(),
        ];
        infera(folder.path(), &words)
    };
    let safe = "https://127.0.0.1:1";
    assert_fault(&run(safe, &folder.path().join("none.gguf")), 1, "none.gguf");
    assert_fault(&run("http://net.example", &model), 1, "plain HTTP");
    assert_fault(&run("net.example", &model), 1, "not a web address");
    let locked = DataDir::new(folder.path()).lock().unwrap();
    assert_fault(&run(safe, &model), 1, "another node is running");
    drop(locked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balancer_of_another_version_ends_the_node_with_its_own_code() {
    let refusal = Refusal {
        code: RefusalCode::UnknownVersion,
        message: "This network speaks version 2. Install a newer node".to_owned(),
    };
    let router = axum::Router::new().fallback(|| async {
        (
            axum::http::StatusCode::UPGRADE_REQUIRED,
            axum::Json(refusal),
        )
    });
    let url = crate::http::serve(router).await;
    let output = run_until_it_ends(url, tiny_model()).await;
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{error}");
    assert!(error.contains("speaks version 2"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_whole_model_ends_with_its_own_code() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("broken.gguf");
    std::fs::write(&model, "GGUF").unwrap();
    let output = run_until_it_ends("http://127.0.0.1:1".to_owned(), model).await;
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{error}");
    assert!(error.contains("broken.gguf"), "{error}");
}

/// Runs a node that ends by itself; gives up after a minute.
async fn run_until_it_ends(balancer: String, model: PathBuf) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let child = tokio::process::Command::new(env!("CARGO_BIN_EXE_infera"))
        .args(["run", "--device", "cpu", "--balancer", &balancer, "--model"])
        .arg(model)
        .arg("--key-file")
        .arg(key)
        .arg("--data")
        .arg(folder.path())
        .kill_on_drop(true)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = tokio::time::timeout(Duration::from_mins(1), child.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    let lines: Vec<_> = text(&output.stdout).lines().collect();
    assert!(lines[0].starts_with("Node "), "{lines:?}");
    assert!(
        lines[1].starts_with("Control on http://127.0.0.1:"),
        "{lines:?}"
    );
    assert!(!folder.path().join("control.json").exists());
    output
}

/// A node that runs, with nobody who reads its log. `prefix` is put before its command.
#[cfg(unix)]
fn running_node(folder: &Path, prefix: &str) -> Child {
    let command = format!(
        "{prefix} exec '{}' run --device cpu --balancer http://127.0.0.1:1 --model '{}' --key-file '{}'",
        env!("CARGO_BIN_EXE_infera"),
        tiny_model().display(),
        folder.join("key").display(),
    );
    let mut child = Command::new("sh")
        .args(["-c", &command])
        .env("INFERA_DATA", folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    let lines = std::io::BufReader::new(child.stdout.take().unwrap());
    let control = std::io::BufRead::lines(lines)
        .map(Result::unwrap)
        .find(|line| line.starts_with("Control on "));
    assert!(control.is_some());
    child
}

#[cfg(unix)]
fn signal(process: &Child, name: &str) {
    let sent = Command::new("kill")
        .args([name, &process.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

/// A terminal that is closed takes no log any more.
#[cfg(unix)]
#[test]
fn closing_the_terminal_ends_the_node_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = running_node(folder.path(), "");
    assert!(folder.path().join("control.json").exists());
    signal(&node, "-HUP");
    assert_eq!(node.wait().unwrap().code(), Some(0));
    assert!(!folder.path().join("control.json").exists());
}

#[cfg(unix)]
#[test]
fn a_node_that_is_to_outlive_its_terminal_does() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = running_node(folder.path(), "trap '' HUP;");
    signal(&node, "-HUP");
    let status = infera(folder.path(), &["status"]);
    assert!(status.status.success(), "{status:?}");
    signal(&node, "-TERM");
    assert_eq!(node.wait().unwrap().code(), Some(0));
}

#[cfg(unix)]
#[test]
fn programs_are_named_on_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = running_node(folder.path(), "");
    let programs = |words: &[&str]| {
        let words = [&["rules", "programs", "--json"], words].concat();
        let output = infera(folder.path(), &words);
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let added = programs(&["--add", "blender", "--add", " OBS.exe "]);
    assert_eq!(added["named"], serde_json::json!(["OBS.exe", "blender"]));
    assert!(added["running"].is_array() || added["running"].is_null());
    let removed = programs(&["--remove", "OBS.exe"]);
    assert_eq!(removed["named"], serde_json::json!(["blender"]));
    assert_eq!(programs(&[])["named"], removed["named"]);
    // It says so once there is a node.
    let rules = std::iter::repeat_with(|| infera(folder.path(), &["rules"]))
        .take(200)
        .find(|output| output.status.success())
        .unwrap();
    let line = text(&rules.stdout)
        .lines()
        .find(|line| line.starts_with("metered_downloads"))
        .map(|line| line.split_whitespace().nth(1) == Some("on"));
    assert_eq!(line, Some(true), "{}", text(&rules.stdout));
    signal(&node, "-TERM");
    node.wait().unwrap();
}

#[test]
fn a_wrong_command_line_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    for words in [
        &["pause", "soon"][..],
        &["run"],
        &["nonsense"],
        &["history", "--limit", "-1"],
    ] {
        let output = infera(folder.path(), words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
    }
    let help = infera(folder.path(), &["--help"]);
    assert!(text(&help.stdout).contains("Exit codes:"));
    assert!(
        !text(&help.stdout).contains("engine"),
        "the engine is not for people"
    );
}

/// In half the KV memory, and otherwise the same figures.
#[test]
fn a_model_is_measured_in_either_profile() {
    let [wide, narrow] = ["P32", "P16"].map(|profile| {
        let model = tiny_model();
        let words = [
            "bench",
            model.to_str().unwrap(),
            "--device",
            "cpu",
            "--json",
            "--profile",
            profile,
            "--longest",
            "1",
        ];
        let output = output(&mut program(&words));
        assert!(output.status.success(), "{output:?}");
        let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(figures["profile"], profile);
        for figure in ["load_ms", "ttft_ms", "memory_bytes", "read_gb_s"] {
            assert!(figures[figure].is_number(), "{figures}");
        }
        for (part, of) in [("prefill", "tokens"), ("decode", "batch")] {
            for row in figures[part].as_array().unwrap() {
                assert!(row[of].is_number() && row["tok_s"].as_f64() > Some(0.0));
            }
        }
        assert!(figures["prefill"][0].is_object() && figures["decode"][0].is_object());
        figures["memory_bytes"].as_u64().unwrap()
    });
    assert!(narrow < wide, "{narrow} {wide}");
}

#[test]
fn a_question_is_answered_in_either_profile() {
    let answers = ["p32", "p16"].map(|profile| {
        let model = tiny_model();
        let words = [
            "chat",
            model.to_str().unwrap(),
            "--device",
            "cpu",
            "--profile",
            profile,
            "--prompt",
            "Once upon a time",
            "--max-tokens",
            "8",
        ];
        let output = output(&mut program(&words));
        assert!(output.status.success(), "{output:?}");
        text(&output.stdout).to_owned()
    });
    assert!(!answers[0].trim().is_empty());
    // The seed of a chat is random, so the answers may differ.
    assert!(!answers[1].trim().is_empty());
    let model = tiny_model();
    let words = ["chat", model.to_str().unwrap(), "--profile", "p8"];
    assert_eq!(output(&mut program(&words)).status.code(), Some(2));
}

#[test]
fn a_conversation_goes_on_after_a_bad_line_and_beyond_the_context() {
    let model = tiny_model();
    let chat = |context: &str, input: &[u8]| {
        let words = [
            "chat",
            "--device",
            "cpu",
            "--max-tokens",
            "4",
            "--context",
            context,
        ];
        let mut command = program(&words);
        command.arg(&model).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let error = text(&output.stderr).to_owned();
        // One summary for each answer.
        (error.matches("first token after").count(), error)
    };
    let (answers, error) = chat("256", b"hello\ncaf\xe9\nhow are you\n");
    assert_eq!(answers, 2, "{error}");
    assert!(error.contains("it is not UTF-8 text"), "{error}");
    let long = format!("{}\nshort\n", "many words ".repeat(80));
    let turns = "tell me about the red bear\n".repeat(12);
    let (answers, error) = chat("96", [long, turns].concat().as_bytes());
    assert_eq!(answers, 13, "{error}");
    assert!(error.contains("ask something shorter"), "{error}");
    assert!(error.contains("no longer sees the oldest"), "{error}");
}

#[test]
fn shells_complete_the_commands_and_each_has_a_page() {
    let folder = tempfile::tempdir().unwrap();
    for (shell, sign) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef"),
        ("fish", "complete -c"),
    ] {
        let script = output(&mut program(&["completions", shell]));
        assert!(text(&script.stdout).contains(sign), "{shell}");
    }
    let written = output(program(&["man"]).arg(folder.path()));
    assert!(written.status.success(), "{written:?}");
    let page = std::fs::read_to_string(folder.path().join("infera-run.1")).unwrap();
    assert!(page.contains("balancer"), "{page}");
    assert!(folder.path().join("infera.1").exists());
}

/// A name that no frame can hold, and what would wait for a writer if it were opened.
#[cfg(unix)]
#[test]
fn a_model_file_that_cannot_be_used_is_named_and_nobody_waits() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let folder = tempfile::tempdir().unwrap();
    let strange = folder.path().join(OsStr::from_bytes(b"bad\xff.gguf"));
    std::fs::copy(tiny_model(), &strange).unwrap();
    let pipe = folder.path().join("pipe.gguf");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    for (path, name, fault) in [
        (&strange, "bad\\xFF.gguf", "is not Unicode"),
        (&pipe, "pipe.gguf", "not a regular file"),
    ] {
        for words in [
            &["chat", "--device", "cpu", "--prompt", "hi"][..],
            &["bench", "--device", "cpu"],
            &["run", "--balancer", "http://127.0.0.1:9", "--model"],
        ] {
            let mut command = program(words);
            command.arg(path).env("INFERA_DATA", folder.path());
            let output = output_soon(command);
            assert_fault(&output, 1, name);
            assert!(text(&output.stderr).contains(fault), "{output:?}");
        }
    }
}

/// The key-value cache of this context alone would need 6 TB.
#[test]
fn a_huge_context_is_cut_to_the_memory_that_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("huge.gguf");
    let mut bytes = std::fs::read(tiny_model()).unwrap();
    let key = b"llama.context_length";
    let at = bytes
        .windows(key.len())
        .position(|bytes| bytes == key)
        .unwrap()
        + key.len();
    // The type, u32, then the value.
    assert_eq!(bytes[at..at + 4], 4_u32.to_le_bytes());
    bytes[at + 4..at + 8].copy_from_slice(&4_000_000_000_u32.to_le_bytes());
    std::fs::write(&model, bytes).unwrap();
    let chat = |more: &[&str]| {
        let mut command = program(&["chat", "--device", "cpu", "--prompt", "hi"]);
        command.args(["--max-tokens", "2"]).args(more).arg(&model);
        output_soon(command)
    };
    for more in [&[][..], &["--context", "500"]] {
        let output = chat(more);
        assert!(output.status.success(), "{output:?}");
    }
    let output = chat(&["--context", "1"]);
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("the model's context 1"), "{error}");
}
