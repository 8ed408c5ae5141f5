//! The program itself: its commands, its logs, its end, and TLS.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use infera_balancer::{Balancer, Config, Database, Edges, Server, Tls};
use infera_protocol::Invitation;
use infera_protocol::requirements::Policy;
use infera_testing::{SimNode, Work, chat_body, hardware, http, key, read_stream, until};
use serde_json::{Value, json};

const MODEL_FILE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/model/tiny-llama.gguf"
);

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infera-balancer"));
    command.args(arguments).arg("--data").arg(folder);
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The one sentence on stderr, and that the exit code was 1.
fn fault(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(text.starts_with("error: "), "{text}");
    text
}

fn serve(folder: &Path, log_format: &str) -> (Child, String) {
    let arguments = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--policy",
        "practice",
        "--log-format",
        log_format,
    ];
    let mut child = command(folder, &arguments)
        .env("INFERA_LOG", "info,infera_balancer=trace")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let base = line
        .trim()
        .strip_prefix("Listening on ")
        .unwrap()
        .to_owned();
    (child, base)
}

fn end(child: &mut Child) -> String {
    end_by(child, "-TERM")
}

fn end_by(child: &mut Child, signal: &str) -> String {
    let signal = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(signal.success());
    let mut logs = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut logs)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{logs}");
    logs
}

#[cfg(unix)]
#[test]
fn closing_the_terminal_ends_the_balancer_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, _) = serve(folder.path(), "text");
    assert!(end_by(&mut child, "-HUP").contains("ended"));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn from_an_empty_folder_to_an_answer_without_a_secret_in_the_logs() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (mut child, base) = serve(folder, "json");
    let api_key = stdout(&run(folder, &["key", "create", "ann", "--limit", "5"]))
        .trim()
        .to_owned();
    let id = stdout(&run(folder, &adding(MODEL_FILE, "tiny", "p32")))
        .trim()
        .to_owned();
    assert_eq!(id, infera_testing::model_id().to_string());
    for number in [201, 202] {
        let node = key(number).id().to_string();
        stdout(&run(folder, &["node", "trust", &node, "--reference"]));
        let reference = SimNode::join_as(&base, key(number), 4, hardware()).await;
        assert!(reference.session.reference);
        reference.spawn_reference();
    }
    let worker = SimNode::join_as(&base, key(1), 1, hardware()).await;
    let token = worker.session.token.clone();
    worker.spawn_worker(Work::honest);
    let marker = "marker-of-a-private-prompt";
    let body = chat_body(&json!({
        "messages": [{"role": "user", "content": marker}],
        "stream": true, "stop": ["private-stop"], "infera": {"wait": true},
    }));
    let answer = until("the model to be served", async || {
        let request = http().post(format!("{base}/v1/chat/completions"));
        let response = request
            .bearer_auth(&api_key)
            .json(&body)
            .send()
            .await
            .unwrap();
        (response.status() == 200).then_some(response)
    })
    .await;
    let answer = read_stream(answer).await;
    assert_eq!(
        answer.chunks.last().unwrap()["infera"]["verdict"],
        "verified"
    );
    let ledger: Value = serde_json::from_str(&stdout(&run(folder, &["ledger", "--json"]))).unwrap();
    assert_eq!(ledger["sum"], 0);
    assert!(ledger["accounts"].as_array().unwrap().len() >= 5);
    assert!(stdout(&run(folder, &["ledger"])).contains("client:ann"));
    let nodes: Value =
        serde_json::from_str(&stdout(&run(folder, &["node", "list", "--json"]))).unwrap();
    assert_eq!(nodes.as_array().unwrap().len(), 3);
    for list in [["key", "list"], ["model", "list"], ["node", "list"]] {
        assert!(!stdout(&run(folder, &list)).is_empty());
        let json = stdout(&run(folder, &[list[0], list[1], "--json"]));
        assert!(!json.contains(&api_key));
        serde_json::from_str::<Value>(&json).unwrap();
    }
    let second = fault(&run(folder, &["serve", "--listen", "127.0.0.1:0"]));
    assert!(second.contains("Another balancer"), "{second}");
    stdout(&run(folder, &["key", "revoke", "ann"]));
    let request = http()
        .get(format!("{base}/v1/models"))
        .bearer_auth(&api_key);
    assert_eq!(request.send().await.unwrap().status(), 401);
    let logs = end(&mut child);
    assert!(logs.contains("settled"), "{logs}");
    for secret in [marker, "private-stop", &api_key, &token, &answer.text] {
        assert!(!logs.contains(secret), "the logs hold `{secret}`");
    }
    for line in logs.lines() {
        serde_json::from_str::<Value>(line).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn logs_in_a_file_have_no_colours() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, _) = serve(folder.path(), "text");
    let logs = end(&mut child);
    assert!(logs.contains("INFO") && logs.contains("ended"), "{logs}");
    assert!(!logs.contains('\x1b'), "{logs}");
}

#[test]
fn faults_are_one_sentence_and_exit_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(fault(&run(&file, &["ledger"])).contains("--data"));
    // Who looks in the wrong folder makes no network there.
    let empty = folder.path().join("empty");
    for words in [
        &["key", "list"][..],
        &["model", "list"],
        &["node", "list"],
        &["ledger"],
    ] {
        assert!(
            fault(&run(&empty, words)).contains("no network"),
            "{words:?}"
        );
    }
    assert!(!empty.exists());
    let script = stdout(&run(&empty, &["completions", "bash"]));
    assert!(script.contains("complete -F"), "{script}");
    let data = folder.path().join("data");
    let wrong = fault(&run(&data, &["serve", "--policy", "nowhere.json"]));
    assert!(wrong.contains("nowhere.json"), "{wrong}");
    let missing = adding("nowhere.gguf", "x", "p32");
    assert!(fault(&run(&data, &missing)).contains("nowhere.gguf"));
    let negative = [
        "model",
        "add",
        MODEL_FILE,
        "--name",
        "x",
        "--input-price=-1",
        "--output-price",
        "1",
    ];
    assert!(fault(&run(&data, &negative)).contains("negative"));
    for arguments in [["key", "revoke", "nobody"], ["model", "remove", "nothing"]] {
        assert!(fault(&run(&data, &arguments)).contains(arguments[2]));
    }
    stdout(&run(&data, &["key", "create", "ann"]));
    assert!(fault(&run(&data, &["key", "create", "ann"])).contains("ann"));
    std::fs::write(data.join("balancer.toml"), "lese = 5").unwrap();
    assert!(fault(&run(&data, &["serve", "--listen", "127.0.0.1:0"])).contains("lese"));
}

/// The words of `model add`.
fn adding<'a>(file: &'a str, name: &'a str, profile: &'a str) -> [&'a str; 11] {
    [
        "model",
        "add",
        file,
        "--name",
        name,
        "--input-price",
        "3",
        "--output-price",
        "10",
        "--profile",
        profile,
    ]
}

#[test]
fn one_file_is_served_in_both_profiles_under_two_names() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut ids = Vec::new();
    for (name, profile) in [("wide", "P32"), ("narrow", "p16")] {
        let id = stdout(&run(folder, &adding(MODEL_FILE, name, profile)));
        ids.push(id.trim().to_owned());
    }
    assert_eq!(ids[0], infera_testing::model_id().to_string());
    assert_ne!(ids[0], ids[1]);
    let json = stdout(&run(folder, &["model", "list", "--json"]));
    let rows: Value = serde_json::from_str(&json).unwrap();
    let facts = |row: usize| ["name", "profile", "model"].map(|key| rows[row][key].clone());
    assert_eq!(facts(0), [json!("narrow"), json!("P16"), json!(ids[1])]);
    assert_eq!(facts(1), [json!("wide"), json!("P32"), json!(ids[0])]);
    let table = stdout(&run(folder, &["model", "list"]));
    assert!(table.lines().next().unwrap().contains(" P16 "), "{table}");

    let taken = fault(&run(folder, &adding(MODEL_FILE, "wide", "p16")));
    assert!(taken.contains("belongs to another model"), "{taken}");
    let bert = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../engine/tests/golden/bert.gguf"
    );
    let refused = fault(&run(folder, &adding(bert, "vectors", "p16")));
    assert!(refused.contains("has no KV cache"), "{refused}");
    let unknown = run(folder, &adding(MODEL_FILE, "x", "p8"));
    assert_eq!(unknown.status.code(), Some(2));
    let words = String::from_utf8_lossy(&unknown.stderr);
    assert!(words.contains("choose P32 or P16"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_certificate_files() {
    let folder = tempfile::tempdir().unwrap();
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let tls = Tls {
        certificate: folder.path().join("cert.pem"),
        key: folder.path().join("key.pem"),
    };
    std::fs::write(&tls.certificate, issued.cert.pem()).unwrap();
    std::fs::write(&tls.key, "not a key").unwrap();
    let database = Database::open(folder.path()).await.unwrap();
    let balancer = Balancer::start(
        database,
        Config::default(),
        Policy::practice(),
        Edges::system(),
    )
    .await
    .unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    let refused = Server::bind(balancer.clone(), address, Some(tls.clone())).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("key.pem")));
    std::fs::write(&tls.key, issued.signing_key.serialize_pem()).unwrap();
    let server = Server::bind(balancer, address, Some(tls)).await.unwrap();
    let address = server.address().unwrap();
    assert!(address.to_string().starts_with("https://127.0.0.1:"));
    let running = tokio::spawn(server.run(std::future::pending()));
    let certificate = reqwest::Certificate::from_pem(issued.cert.pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([certificate])
        .resolve("localhost", address.socket)
        .build()
        .unwrap();
    let url = format!("https://localhost:{}/healthz", address.socket.port());
    let health: Value = client.get(url).send().await.unwrap().json().await.unwrap();
    assert_eq!(health["status"], "ok");
    running.abort();
}

/// `up` on a free port; what it said until its last step, and its address.
fn up(folder: &Path, more: &[&str]) -> (Child, String, String) {
    let mut child = command(folder, &["up"])
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = String::new();
    loop {
        let Some(line) = lines.next() else {
            let mut fault = String::new();
            let stderr = child.stderr.as_mut().unwrap();
            stderr.read_to_string(&mut fault).unwrap();
            panic!("it ended: {fault}");
        };
        let line = line.unwrap();
        said.push_str(&line);
        said.push('\n');
        if line.trim_start().starts_with("curl ") {
            break;
        }
    }
    let first = said.lines().next().unwrap();
    let base = first.strip_prefix("Listening on ").unwrap().to_owned();
    (child, said, base)
}

fn links(said: &str) -> Vec<Invitation> {
    let links = said.lines().filter(|line| Invitation::is_meant(line));
    links.map(|link| link.parse().unwrap()).collect()
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn up_begins_a_network_in_an_empty_folder_and_runs_the_same_one_again() {
    use infera_protocol::node_api::{Checking, Network};

    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("data");
    let words = [
        "--listen",
        "127.0.0.1:0",
        "--name",
        "Lab",
        "--operator",
        "Ann",
        "--checking",
        "none",
        "--qr",
    ];
    let (mut child, said, base) = up(&folder, &words);
    assert!(base.starts_with("https://127.0.0.1:"), "{said}");
    assert!(said.contains('█'), "{said}");
    let invited = links(&said);
    assert_eq!(invited.len(), 2, "one invitation in two forms: {said}");
    assert_eq!(invited[0], invited[1]);
    assert_eq!(invited[0].address, base);
    let pem = std::fs::read(folder.join("certificate.pem")).unwrap();
    let trusting = |pem: &[u8]| {
        let _ = http();
        let certificate = reqwest::Certificate::from_pem(pem).unwrap();
        let client = reqwest::Client::builder().no_proxy();
        client.tls_certs_only([certificate]).build().unwrap()
    };
    let client = trusting(&pem);
    let url = format!("{base}/node/v1/network");
    let network: Network = client.get(&url).send().await.unwrap().json().await.unwrap();
    assert_eq!(
        (network.name.as_str(), network.operator.as_deref()),
        ("Lab", Some("Ann"))
    );
    assert_eq!(network.checking, Checking::None);
    // The curl line works as it stands.
    stdout(&run(&folder, &adding(MODEL_FILE, "tiny", "p32")));
    let curl = said.lines().last().unwrap().trim();
    let key = curl.split("Bearer ").nth(1).unwrap();
    let key = key.split('\'').next().unwrap();
    assert!(
        key.starts_with("sk-infera-") && curl.contains("--cacert"),
        "{curl}"
    );
    // The running balancer sees it the next time it reads its models.
    until("the model to be served", async || {
        let models = client.get(format!("{base}/v1/models")).bearer_auth(key);
        let models = models.send().await.unwrap().text().await.unwrap();
        models.contains("tiny").then_some(())
    })
    .await;
    let mut asked = Command::new("sh");
    asked.arg("-c").arg(curl.replace("NAME", "tiny"));
    asked.env("no_proxy", "127.0.0.1");
    if let Ok(output) = asked.output()
        && output.status.code() != Some(127)
    {
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(answer.contains("no_eligible_node"), "{answer} {output:?}");
    }
    // While it runs, another invitation leads to the same place.
    let words = ["invite", "create", "--for", "Bob", "--expires", "1h"];
    let other = links(&stdout(&run(&folder, &words)));
    assert_eq!(other[0].address, base);
    assert_eq!(other[0].fingerprint, invited[0].fingerprint);
    let checks = ["invite", "create", "--reference"];
    assert!(fault(&run(&folder, &checks)).contains("checks no answers"));
    let json = stdout(&run(&folder, &["invite", "list", "--json"]));
    let rows: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&rows[0]["max_uses"], &rows[0]["trusted"]),
        (&json!(10), &json!(true))
    );
    assert_eq!(
        (&rows[1]["max_uses"], &rows[1]["label"]),
        (&json!(1), &json!("Bob"))
    );
    assert!(fault(&run(&folder, &["up"])).contains("Another balancer runs"));
    end(&mut child);

    // As the folder says, without an option and with the same ones.
    let (mut child, said, again) = up(&folder, &["--listen", "127.0.0.1:0", "--name", "Lab"]);
    assert_eq!(again, base, "the port is kept");
    assert!(
        links(&said).is_empty() && !said.contains("sk-infera-"),
        "{said}"
    );
    let network: Network = client.get(&url).send().await.unwrap().json().await.unwrap();
    assert_eq!(network.name, "Lab");
    assert_eq!(std::fs::read(folder.join("certificate.pem")).unwrap(), pem);
    end(&mut child);
    let refused = fault(&run(&folder, &["up", "--name", "Club"]));
    assert!(refused.contains("balancer.toml"), "{refused}");
    stdout(&run(&folder, &["invite", "revoke", "2"]));
    assert!(stdout(&run(&folder, &["invite", "list"])).contains("revoked"));
    assert!(fault(&run(&folder, &["invite", "revoke", "2"])).contains("invite list"));

    // A certificate from elsewhere takes its place, and the next links name it.
    let issued = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(folder.join("other.pem"), issued.cert.pem()).unwrap();
    std::fs::write(
        folder.join("other-key.pem"),
        issued.signing_key.serialize_pem(),
    )
    .unwrap();
    let file = folder.join("balancer.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text
        .replace("certificate.pem", "other.pem")
        .replace("certificate-key.pem", "other-key.pem");
    std::fs::write(&file, text).unwrap();
    let (mut child, _, _) = up(&folder, &[]);
    let client = trusting(issued.cert.pem().as_bytes());
    assert!(client.get(&url).send().await.unwrap().status().is_success());
    let newer = links(&stdout(&run(&folder, &["invite", "create"])));
    assert_ne!(newer[0].fingerprint, invited[0].fingerprint);
    end(&mut child);
}

#[test]
fn an_invitation_needs_an_address_and_its_words_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let refused = fault(&run(&data, &["invite", "create"]));
    assert!(
        refused.contains("address = ") && refused.contains("balancer.toml"),
        "{refused}"
    );
    assert!(!data.exists(), "nothing was made");
    assert!(fault(&run(&data, &["invite", "list"])).contains("no network"));
    for (option, wrong) in [("--uses", "0"), ("--expires", "7"), ("--expires", "9999d")] {
        let output = run(&data, &["invite", "create", option, wrong]);
        assert_eq!(output.status.code(), Some(2), "{option} {wrong}");
    }
    std::fs::create_dir(&data).unwrap();
    let file = data.join("balancer.toml");
    std::fs::write(&file, "address = 'https://net.example'").unwrap();
    let public = links(&stdout(&run(&data, &["invite", "create", "--reference"])));
    assert_eq!(public[0].fingerprint, None, "a proxy has the certificate");
    let long = "x".repeat(65);
    let refused = fault(&run(&data, &["invite", "create", "--for", &long]));
    assert!(refused.contains("64"), "{refused}");
    let plain = [
        "up",
        "--address",
        "http://10.0.0.1:1",
        "--listen",
        "127.0.0.1:0",
    ];
    let other = folder.path().join("other");
    assert!(fault(&run(&other, &plain)).contains("https://"));
    assert!(!other.exists(), "nothing was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_have_keys_of_their_own_and_an_address_if_they_like() {
    let folder = tempfile::tempdir().unwrap();
    let listen = "operator_listen = \"127.0.0.1:0\"\n";
    std::fs::write(folder.path().join("balancer.toml"), listen).unwrap();
    let run = |words: &[&str]| run(folder.path(), words);
    assert!(fault(&run(&["operator", "list"])).contains("no network"));
    let key = stdout(&run(&["operator", "create", "ann"]));
    let key = key.trim();
    assert!(key.starts_with("op-infera-"), "{key}");
    let taken = fault(&run(&["operator", "create", "ann"]));
    assert!(taken.contains("already"), "{taken}");
    assert!(stdout(&run(&["operator", "list"])).contains("never used"));

    let words = ["serve", "--listen", "127.0.0.1:0", "--policy", "practice"];
    let mut child = command(folder.path(), &words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut after = |words: &str| {
        let line = said.next().unwrap().unwrap();
        line.strip_prefix(words).unwrap().to_owned()
    };
    let (public, own) = (after("Listening on "), after("Operators' page on "));
    let client = http();
    let status = async |address: &str| {
        let call = client.get(address).bearer_auth(key).send().await;
        call.unwrap().status().as_u16()
    };
    assert_eq!(status(&format!("{own}/operator/v1/now")).await, 200);
    assert_eq!(status(&format!("{public}/operator/v1/now")).await, 404);
    assert_eq!(status(&format!("{public}/operator")).await, 404);
    assert_eq!(status(&format!("{own}/v1/models")).await, 404);
    let nodes = stdout(&run(&["operator", "list", "--json"]));
    let nodes: Value = serde_json::from_str(&nodes).unwrap();
    assert!(nodes[0]["last_used_ms"].is_i64(), "{nodes}");

    // What is done here is in the log, under nobody's name.
    let node = key_id(1);
    let banned = run(&["node", "ban", &node, "--reason", "too loud", "--for", "7d"]);
    stdout(&banned);
    let unsaid = fault(&run(&["node", "ban", &node, "--reason", " "]));
    assert!(unsaid.contains("reason"), "{unsaid}");
    stdout(&run(&["node", "unban", &node]));
    let log = client.get(format!("{own}/operator/v1/log"));
    let log: Value = log
        .bearer_auth(key)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(log["acts"][0]["act"], "unban", "{log}");
    assert_eq!(log["acts"][1]["detail"], "too loud", "{log}");
    assert_eq!(log["acts"][1]["who"], Value::Null, "{log}");

    stdout(&run(&["operator", "revoke", "ann"]));
    assert_eq!(status(&format!("{own}/operator/v1/now")).await, 401);
    assert!(fault(&run(&["operator", "revoke", "ann"])).contains("operator list"));
    end(&mut child);
}

fn key_id(number: u8) -> String {
    key(number).id().to_string()
}
