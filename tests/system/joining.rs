//! A network that begins with one command, and machines that join it by the printed link alone.

use std::path::Path;
use std::process::Command;

use infera_system_tests::up::Up;
use infera_system_tests::{INPUT_PRICE, MODEL, OUTPUT_PRICE, cost, story, tiny_model};
use serde_json::Value;
use xtask::network::{Binaries, START_LIMIT};
use xtask::process::{self, Process};
use xtask::{Result, wait};

/// A machine that has the program, and nothing else yet.
struct Machine<'a> {
    binaries: &'a Binaries,
    data: &'a Path,
}

impl Machine<'_> {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.binaries.node);
        command.args(words).arg("--data").arg(self.data);
        command
    }

    fn with_key(&self, words: &[&str]) -> Command {
        let mut command = self.command(words);
        command.arg("--key-file").arg(self.data.join("node.key"));
        command
    }

    fn run(&self, words: &[&str]) -> Result<String> {
        process::output(self.command(words))
    }

    fn json(&self, words: &[&str]) -> Result<Value> {
        Ok(serde_json::from_str(
            &self.run(&[words, &["--json"]].concat())?,
        )?)
    }

    fn join(&self, link: &str) -> Result<String> {
        process::output(self.with_key(&["join", link, "--yes"]))
    }

    fn start(&self) -> Result<Process> {
        let mut command = self.with_key(&["run", "--control", "127.0.0.1:0", "--device", "cpu"]);
        command.arg("--model").arg(tiny_model());
        let node = Process::start("the node", command, &self.data.join("log.txt"))?;
        node.line_after("Control on ", START_LIMIT)?;
        Ok(node)
    }
}

fn serve_tiny_model(network: &Up) -> Result<()> {
    let file = tiny_model();
    let words = ["model", "add", &file.to_string_lossy(), "--name", MODEL];
    let [input, output] = [INPUT_PRICE, OUTPUT_PRICE].map(|price| price.to_string());
    let prices = ["--input-price", &input, "--output-price", &output];
    network.run(&[&words[..], &prices].concat()).map(drop)
}

#[test]
fn one_machine_joins_by_the_link_and_its_unchecked_answer_is_paid() -> Result<()> {
    let binaries = Binaries::find_or_build()?;
    let folder = tempfile::tempdir()?;
    let words = ["--name", "Ours", "--operator", "Ann", "--checking", "none"];
    let network = Up::start(&binaries, &folder.path().join("network"), &words)?;
    serve_tiny_model(&network)?;
    let data = folder.path().join("machine");
    let machine = Machine {
        binaries: &binaries,
        data: &data,
    };

    // What a mail program does to a link is told from a network that says no.
    let cut = machine.join(&network.link[..network.link.len() - 4]);
    let cut = cut.unwrap_err().to_string();
    assert!(cut.contains("cut off"), "{cut}");
    let seen = machine.join(&network.link)?;
    for words in ["Ours", "Ann", MODEL, "not checked"] {
        assert!(
            seen.to_lowercase().contains(&words.to_lowercase()),
            "{words}: {seen}"
        );
    }
    let _node = machine.start()?;
    let answer = network.answer("/v1/chat/completions", &story(1, 20))?;
    assert_eq!(answer["infera"]["verdict"], "not_checked", "{answer}");
    let cost = cost(&answer["usage"])?;
    wait::until("it is paid", START_LIMIT, || {
        let points: Value = serde_json::from_str(&machine.run(&["points", "--json"])?)?;
        let confirmed = points["confirmed"].as_i64().unwrap_or(0);
        Ok((confirmed > 0 && confirmed <= cost).then_some(()))
    })?;
    let invitations: Value = serde_json::from_str(&network.run(&["invite", "list", "--json"])?)?;
    assert_eq!(invitations[0]["uses"], 1, "{invitations}");
    let nodes: Value = serde_json::from_str(&network.run(&["node", "list", "--json"])?)?;
    assert_eq!(nodes[0]["trusted"], true, "{nodes}");

    // It leaves, and its books stay.
    let networks = machine.run(&["network", "list"])?;
    assert!(networks.contains("Ours"), "{networks}");
    machine.run(&["network", "leave", &network.url])?;
    wait::until("it has left", START_LIMIT, || {
        let status: Value = serde_json::from_str(&machine.run(&["status", "--json"])?)?;
        Ok((status["state"]["summary"]["summary"] == "no_balancer").then_some(()))
    })?;
    let history: Value = serde_json::from_str(&machine.run(&["history", "--json"])?)?;
    assert_eq!(history[0]["verdict"], "not_checked", "{history}");
    Ok(())
}

#[test]
fn an_answer_without_references_says_what_it_waits_for() -> Result<()> {
    let binaries = Binaries::find_or_build()?;
    let folder = tempfile::tempdir()?;
    let network = Up::start(
        &binaries,
        &folder.path().join("network"),
        &["--name", "Two"],
    )?;
    serve_tiny_model(&network)?;
    let data = folder.path().join("machine");
    let machine = Machine {
        binaries: &binaries,
        data: &data,
    };
    let seen = machine.join(&network.link)?;
    assert!(seen.contains("0 of 2"), "{seen}");
    let _node = machine.start()?;
    let answer = network.answer("/v1/chat/completions", &story(1, 20))?;
    let waits = &answer["infera"]["waiting_for"];
    assert_eq!(waits["references_needed"], 2, "{answer}");
    assert_eq!(waits["references_here"], 0, "{answer}");
    Ok(())
}

/// Earns on one machine, has another one under its command, and spends at a stranger's from a
/// program that knows the key alone.
#[test]
fn one_account_earns_commands_and_spends_across_machines() -> Result<()> {
    let binaries = Binaries::find_or_build()?;
    let folder = tempfile::tempdir()?;
    let words = ["--name", "Ours", "--checking", "none"];
    let network = Up::start(&binaries, &folder.path().join("network"), &words)?;
    serve_tiny_model(&network)?;
    let [desk, attic, stranger] =
        ["desk", "attic", "stranger"].map(|name| folder.path().join(name));
    let machine = |data| Machine {
        binaries: &binaries,
        data,
    };
    let (desk, attic, stranger) = (machine(&desk), machine(&attic), machine(&stranger));
    desk.join(&network.link)?;
    let _desk = desk.start()?;
    desk.run(&["account", "create"])?;
    let account = wait::until("the desk is the account's", START_LIMIT, || {
        let account = desk.json(&["account"])?;
        Ok((account["linked"] == true).then_some(account))
    })?;
    let code = desk.json(&["account", "link-code"])?;
    let code = code["code"].as_str().ok_or("no code was shown")?;
    process::output(attic.with_key(&["join", &network.link, "--yes", "--account", code]))?;
    let _attic = attic.start()?;
    attic.run(&["config", "machine_name", "attic"])?;
    wait::until(
        "the attic is among the account's machines",
        START_LIMIT,
        || {
            let fleet = desk.json(&["fleet"])?;
            let named = |machine: &Value| machine["report"]["name"] == "attic";
            let machines = fleet.as_array().ok_or("the fleet is no list")?;
            Ok(machines.iter().any(named).then_some(()))
        },
    )?;

    // Nobody commands it before its owner allows it there.
    let paused = |machine: &Machine<'_>| {
        let status = machine.json(&["status"])?;
        Ok::<_, xtask::Error>(status["state"]["sentence"].to_string().contains("Paused"))
    };
    let refused = desk.run(&["fleet", "pause", "attic"]);
    let refused = refused.unwrap_or_else(|error| error.to_string());
    assert!(!paused(&attic)?, "{refused}");
    attic.run(&["config", "takes_commands", "true"])?;
    wait::until("the attic is paused from afar", START_LIMIT, || {
        // It tells that it takes commands a moment later.
        let _ = desk.run(&["fleet", "pause", "attic"]);
        Ok(paused(&attic)?.then_some(()))
    })?;

    network.answer("/v1/chat/completions", &story(1, 20))?;
    let earned = wait::until("the desk has earned", START_LIMIT, || {
        let overview = desk.json(&["account"])?["overview"].clone();
        Ok(overview["earned"].as_i64().filter(|earned| *earned > 0))
    })?;
    let key = desk.json(&["key", "create", "laptop", "--daily-limit", "50"])?;
    let key = key["key"].as_str().ok_or("no key was shown")?;
    desk.run(&["pause"])?;
    stranger.join(&network.link)?;
    let _stranger = stranger.start()?;
    let body = story(2, 10);
    let answer = wait::until("a stranger's machine answers", START_LIMIT, || {
        network.ask_as(key, "/v1/chat/completions", &body)
    })?;
    let cost = cost(&answer["usage"])?;
    let account_id = account["id"].as_str().ok_or("the account has no id")?;
    wait::until("both books say what was spent", START_LIMIT, || {
        let statement = desk.json(&["spending"])?;
        let overview = &statement["overview"];
        let spent = overview["spent"].as_i64() == Some(cost)
            && overview["balance"].as_i64() == Some(earned - cost)
            && statement["spent"][0]["micro"].as_i64() == Some(cost);
        let ledger: Value = serde_json::from_str(&network.run(&["ledger", "--json"])?)?;
        let of_key = format!("client:{account_id}/laptop");
        let accounts = ledger["accounts"].as_array().ok_or("no accounts")?;
        let row = accounts
            .iter()
            .find(|row| row["account"] == of_key.as_str());
        let booked = row.and_then(|row| row["balance"].as_i64()) == Some(-cost);
        Ok((spent && booked && ledger["sum"] == 0).then_some(()))
    })?;
    desk.run(&["key", "revoke", "laptop"])?;
    assert_eq!(network.ask_as(key, "/v1/chat/completions", &body)?, None);
    Ok(())
}

#[test]
fn a_service_writes_no_secret_into_its_log_and_gives_its_certificate_to_anybody() -> Result<()> {
    let binaries = Binaries::find_or_build()?;
    let folder = tempfile::tempdir()?;
    let mut up = Command::new(&binaries.balancer);
    up.args(["up", "--without-key", "--listen", "127.0.0.1:0", "--data"]);
    up.arg(folder.path());
    let log = folder.path().join("log.txt");
    let process = Process::start("the network", up, &log)?;
    let url = process.line_after("Listening on ", START_LIMIT)?;
    let mut fetch = Command::new("curl");
    fetch.args(["--silent", "--fail", "--insecure"]);
    fetch.arg(format!("{url}/certificate.pem"));
    let given = process::output(fetch)?;
    let kept = std::fs::read_to_string(folder.path().join("certificate.pem"))?;
    assert_eq!(given.trim(), kept.trim());
    let balancer = |words: &[&str]| {
        let mut command = Command::new(&binaries.balancer);
        command.args(words).arg("--data").arg(folder.path());
        process::output(command)
    };
    for words in [&["key", "list"][..], &["invite", "list"]] {
        assert_eq!(balancer(words)?.trim(), "", "{words:?}");
    }
    let said = std::fs::read_to_string(&log)?;
    for secret in ["sk-infera-", "op-infera-", "token="] {
        assert!(!said.contains(secret), "{said}");
    }
    // What it left out is made by hand.
    let key = balancer(&["key", "create", "me", "--limit", "1000"])?;
    assert!(key.starts_with("sk-infera-"), "{key}");
    Ok(())
}
