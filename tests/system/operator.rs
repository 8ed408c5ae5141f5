//! Somebody runs a network from a browser's seat: over HTTPS, with the key that `up` printed.

use std::path::Path;
use std::process::Command;

use infera_system_tests::browser;
use infera_system_tests::up::Up;
use infera_system_tests::{INPUT_PRICE, MODEL, OUTPUT_PRICE, story, tiny_model};
use serde_json::{Value, json};
use xtask::network::{Binaries, START_LIMIT};
use xtask::process::{self, Process};
use xtask::{Result, wait};

/// A network with one machine that has joined it by its link.
struct Lab {
    network: Up,
    node: Process,
    id: String,
    folder: tempfile::TempDir,
}

impl Lab {
    fn start() -> Result<Self> {
        let binaries = Binaries::find_or_build()?;
        let folder = tempfile::tempdir()?;
        let network = Up::start(
            &binaries,
            &folder.path().join("network"),
            &["--name", "Lab", "--operator", "Ann"],
        )?;
        let file = tiny_model();
        let [input, output] = [INPUT_PRICE, OUTPUT_PRICE].map(|price| price.to_string());
        let words = ["model", "add", &file.to_string_lossy(), "--name", MODEL];
        let prices = ["--input-price", &input, "--output-price", &output];
        network.run(&[&words[..], &prices].concat())?;
        let data = folder.path().join("machine");
        let command = |words: &[&str]| {
            let mut command = Command::new(&binaries.node);
            command.args(words).arg("--data").arg(&data);
            command.arg("--key-file").arg(data.join("node.key"));
            command
        };
        process::output(command(&["join", &network.link, "--yes"]))?;
        let id = process::output(command(&["id"]))?.trim().to_owned();
        let mut run = command(&["run", "--control", "127.0.0.1:0", "--device", "cpu"]);
        run.arg("--model").arg(&file);
        let node = Process::start("the node", run, &data.join("log.txt"))?;
        node.line_after("Control on ", START_LIMIT)?;
        Ok(Self {
            network,
            node,
            id,
            folder,
        })
    }

    /// Waits until the page tells this of the node.
    fn node_is(&self, cookies: &Path, what: &str, is: impl Fn(&Value) -> bool) -> Result<()> {
        let jar = cookies.to_string_lossy();
        let path = format!("nodes/{}", self.id);
        wait::until(what, START_LIMIT, || {
            let (_, node) = self.network.operate(&path, &["--cookie", &jar])?;
            Ok(is(&node).then_some(()))
        })
        .map_err(|error| self.node.fault(&error.to_string()))
    }
}

#[test]
fn a_node_is_appointed_and_kept_out_and_a_revoked_key_signs_out() -> Result<()> {
    let lab = Lab::start()?;
    let network = &lab.network;
    assert!(network.operator_page.starts_with("https://"));
    let page = network.page()?;
    assert!(page.contains("<script"), "{page}");

    // In a browser: the key opens a session, and the cookie is all that is sent from then on.
    let cookies = lab.folder.path().join("cookies.txt");
    let jar = cookies.to_string_lossy();
    let (status, _) = network.operate("now", &["--cookie", &jar])?;
    assert_eq!(status, 401);
    let wrong = json!({"key": network.key}).to_string();
    let (status, _) = network.operate("session", &["--data", &wrong])?;
    assert_eq!(status, 401);
    let key = json!({"key": network.operator_key}).to_string();
    let (status, _) = network.operate("session", &["--cookie-jar", &jar, "--data", &key])?;
    assert_eq!(status, 200);
    let kept = std::fs::read_to_string(&cookies)?;
    assert!(kept.contains("#HttpOnly_"), "{kept}");
    assert!(!kept.contains("op-infera-"), "{kept}");

    lab.node_is(&cookies, "the node is here", |node| {
        node["state"] == "waiting"
    })?;
    let act = |act: &str, message: &str| {
        let path = format!("nodes/{}/{act}", lab.id);
        network.operate(&path, &["--cookie", &jar, "--data", message])
    };
    let (status, node) = act("appoint", "{}")?;
    assert_eq!((status, &node["reference"]), (200, &Value::Bool(true)));
    lab.node_is(&cookies, "it is back as a reference", |node| {
        node["reference"] == true && node["state"] == "waiting"
    })?;
    let (status, fault) = act("ban", "{}")?;
    assert_eq!((status, &fault["code"]), (400, &json!("bad_reason")));
    let (status, _) = act("ban", r#"{"reason": "moves house"}"#)?;
    assert_eq!(status, 200);
    lab.node_is(&cookies, "it is kept out", |node| {
        node["state"] == "banned" && node["models"] == json!([])
    })?;
    // The command line lets it in again, and the log has both.
    network.run(&["node", "unban", &lab.id])?;
    lab.node_is(&cookies, "it is back", |node| node["state"] == "waiting")?;
    let (_, log) = network.operate("log", &["--cookie", &jar])?;
    let acts: Vec<_> = log["acts"]
        .as_array()
        .ok_or("no log")?
        .iter()
        .map(|act| (act["who"].as_str(), act["act"].as_str().unwrap_or_default()))
        .take(4)
        .collect();
    let operator = Some("operator");
    let expected = [
        (None, "unban"),
        (operator, "ban"),
        (operator, "appoint"),
        (operator, "sign_in"),
    ];
    assert_eq!(acts, expected, "{log}");

    network.run(&["operator", "revoke", "operator"])?;
    let (status, _) = network.operate("now", &["--cookie", &jar])?;
    assert_eq!(status, 401);
    // Who has the data folder gets in again.
    let key = network.run(&["operator", "create", "ann"])?;
    let bearer = format!("Authorization: Bearer {}", key.trim());
    let (status, now) = network.operate("now", &["--header", &bearer])?;
    assert_eq!((status, &now["nodes"]["here"]), (200, &json!(1)));
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn every_control_of_the_operators_page_does_what_it_says() -> Result<()> {
    let lab = Lab::start()?;
    let key = &lab.network.key;
    lab.network.answer("/v1/chat/completions", &story(1, 20))?;
    let given = json!({
        "address": lab.network.operator_page,
        "key": lab.network.operator_key,
        "node": lab.id,
        "model": MODEL,
        "client_key": key,
    });
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser");
    browser::run("operator", &pictures, &given, |question| {
        Err(format!("the script asks for `{question}`, which is not there").into())
    })
}
