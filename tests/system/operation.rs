//! What people who run nodes, balancers and clients see when things are not as they should be.

use std::process::Command;
use std::time::Duration;

use infera_system_tests::{MODEL, Streamed, World, cost, slow_model_of, story, tiny_model};
use serde_json::{Value, json};
use xtask::network::{BalancerOptions, Binaries, NodeOptions, START_LIMIT};
use xtask::process::Process;
use xtask::{Result, wait};

/// The refusal of a chat, which must be a 503 that says when to come back.
fn unavailable(world: &World) -> Result<String> {
    let answer = world.client().post("/v1/chat/completions", &story(1, 20))?;
    assert_eq!(answer.status, 503, "{}", answer.text);
    let seconds: u64 = answer
        .header("Retry-After")
        .ok_or("no Retry-After")?
        .parse()?;
    assert!(seconds > 0);
    Ok(answer.json()?["error"]["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

#[test]
fn without_a_fitting_node_the_client_learns_why() -> Result<()> {
    let mut world = World::start(0, 0)?;
    let message = unavailable(&world)?;
    assert!(message.to_lowercase().contains("no node"), "{message}");

    let node = world.new_node("worker-1", NodeOptions::on_cpu(&tiny_model()))?;
    world.workers.push(node);
    world.workers[0].start()?;
    world.wait_until_ready()?;
    world.workers[0].run(&["pause"])?;
    wait::until("the balancer knows of the pause", START_LIMIT, || {
        let answer = world.client().post("/v1/chat/completions", &story(1, 5))?;
        Ok((answer.status == 503).then_some(()))
    })?;
    let message = unavailable(&world)?;
    assert!(message.contains("paused"), "{message}");

    world.workers[0].run(&["resume"])?;
    wait::until("the node answers again", START_LIMIT, || {
        let answer = world.client().post("/v1/chat/completions", &story(1, 5))?;
        Ok((answer.status == 200).then_some(()))
    })
}

#[test]
fn a_node_below_the_requirements_gets_no_jobs_and_says_which_one_fails() -> Result<()> {
    let policy = json!({ "name": "impossible", "ram_bytes": 1_u64 << 50 });
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("policy.json");
    std::fs::write(&file, policy.to_string())?;
    let options = BalancerOptions {
        policy: file.display().to_string(),
        ..BalancerOptions::default()
    };
    let mut world = World::start_with(options, 0, 0)?;
    let node = world.new_node("worker-1", NodeOptions::on_cpu(&tiny_model()))?;
    world.workers.push(node);
    world.workers[0].start()?;
    let mut message = String::new();
    wait::until(
        "the client is told of the requirements",
        Duration::from_secs(20),
        || {
            message = unavailable(&world)?;
            Ok(message.contains("requirement").then_some(()))
        },
    )
    .map_err(|error| {
        world.workers[0].fault(&format!("leaves the client with `{message}`: {error}"))
    })?;
    let check = world.workers[0].run(&["check"]);
    // Failing rows may set the exit code; the words count.
    let words = check.unwrap_or_else(|error| error.to_string());
    assert!(words.contains("RAM"), "{words}");
    Ok(())
}

#[test]
fn a_node_shows_its_state_work_and_points() -> Result<()> {
    let world = World::start(1, 2)?;
    let answer = world.chat(&story(1, 40))?;
    world.receipt(answer["infera"]["job_id"].as_str().unwrap())?;
    world.settled_ledger()?;
    let node = &world.workers[0];

    let history = wait::until(
        "the job is in the node's history",
        Duration::from_secs(30),
        || {
            let history: Value = serde_json::from_str(&node.run(&["history", "--json"])?)?;
            Ok((history[0]["verdict"] == "verified").then_some(history))
        },
    )?;
    assert_eq!(history.as_array().map(Vec::len), Some(1), "{history}");
    assert_eq!(history[0]["model_name"], MODEL, "{history}");
    assert_eq!(
        history[0]["output_tokens"], answer["usage"]["completion_tokens"],
        "{history}"
    );

    let cost = cost(&answer["usage"])?;
    // The node asks for its points once it has the verdict.
    let points: Value = wait::until("the points are confirmed", START_LIMIT, || {
        let points: Value = serde_json::from_str(&node.run(&["points", "--json"])?)?;
        Ok((points["confirmed"].as_i64() == Some(cost * 80 / 100)).then_some(points))
    })?;
    assert_eq!(points["pending"], 0, "{points}");

    assert!(!node.run(&["status"])?.is_empty());
    node.run(&["pause", "1h"])?;
    let paused = node.run(&["status"])?;
    assert!(paused.to_lowercase().contains("paused"), "{paused}");
    node.run(&["resume"])?;
    let resumed = node.run(&["status"])?;
    assert!(!resumed.to_lowercase().contains("paused"), "{resumed}");
    Ok(())
}

#[test]
fn models_settings_and_the_log_are_at_hand_on_the_command_line() -> Result<()> {
    let world = World::start(1, 0)?;
    let node = &world.workers[0];
    let file = world.data.path().join("another.gguf");
    std::fs::copy(tiny_model(), &file)?;
    let list = || -> Result<Vec<Value>> {
        Ok(serde_json::from_str(
            &node.run(&["model", "list", "--json"])?,
        )?)
    };
    let before = list()?.len();
    let said = node.run(&["model", "import", &file.display().to_string()])?;
    assert_eq!(said.trim(), "another.gguf is here");
    let models = list()?;
    assert_eq!(models.len(), before + 1);
    let imported = models
        .iter()
        .find(|model| {
            model["path"]
                .as_str()
                .is_some_and(|path| path.ends_with("another.gguf"))
        })
        .ok_or("the file was not copied")?;
    assert_eq!(imported["in_use"], false);
    node.run(&["model", "use", "another.gguf"])?;
    assert!(list()?.iter().all(|model| model["in_use"] == true));
    node.run(&["model", "rest", "another.gguf"])?;
    node.run(&["model", "remove", "another.gguf"])?;
    assert_eq!(list()?.len(), before);
    assert!(node.run(&["model", "remove", "another.gguf"]).is_err());
    let offered = node.run(&["model", "list", "--available"])?;
    assert!(offered.contains("smollm2"), "{offered}");
    assert!(node.run(&["model", "get", "no-such-model"]).is_err());

    assert_eq!(node.run(&["config", "jobs_at_once", "3"])?.trim(), "3");
    assert!(node.run(&["config"])?.contains("jobs_at_once = 3"));
    assert!(node.run(&["config", "jobs_at_once", "many"]).is_err());
    assert!(node.run(&["config", "no_setting"]).is_err());
    assert!(node.run(&["log"])?.contains("connected"));
    Ok(())
}

#[test]
fn finish_then_pause_ends_the_job_in_progress_and_takes_no_other() -> Result<()> {
    // An answer of seconds: a program takes one to start where a launcher runs it under Wine.
    let nodes = NodeOptions::on_cpu(&slow_model_of(50_000)?);
    let world = World::with_nodes(BalancerOptions::default(), &nodes, 1, 2)?;
    let node = &world.workers[0];
    let mut streamed = Streamed::default();
    let mut events = world.stream(&story(1, 300))?;
    while streamed.pieces < 3 {
        streamed.take(&events.next().ok_or("the answer ended too early")??)?;
    }
    let paused: Value = serde_json::from_str(&node.run(&["pause", "--finish", "--json"])?)?;
    let reason = &paused["decision"]["reason"];
    assert_eq!(reason["reason"], "paused", "{reason}");
    assert_eq!(reason["finishing"], true, "{reason}");
    for event in events {
        streamed.take(&event?)?;
    }
    assert!(streamed.finish.is_some(), "{streamed:?}");
    wait::until("the node is paused", START_LIMIT, || {
        let reason = node.status()?["decision"]["reason"].clone();
        Ok((reason["finishing"] == false).then_some(()))
    })?;
    assert_eq!(node.jobs()?, 0);

    let receipt = world.receipt(streamed.job()?)?;
    assert_eq!(receipt["verdict"], "verified", "{receipt}");
    // The one that wrote the beginning wrote the end.
    let attempts = receipt["attempts"].as_array().map(Vec::len);
    assert_eq!(attempts, Some(1), "{receipt}");
    Ok(())
}

#[test]
fn a_node_waits_for_a_balancer_that_is_away() -> Result<()> {
    let mut world = World::start(1, 2)?;
    world.balancer.kill();
    world.workers[0].stop()?;
    world.workers[0].start()?;
    wait::until(
        "the node says that the balancer is away",
        START_LIMIT,
        || {
            let status = world.workers[0].run(&["status"])?.to_lowercase();
            Ok((status.contains("balancer") && !status.contains("connected")).then_some(()))
        },
    )?;
    world.balancer.start_again()?;
    world.wait_until_ready()?;
    let answer = world.chat(&story(1, 20))?;
    let receipt = world.receipt(answer["infera"]["job_id"].as_str().unwrap())?;
    assert_eq!(receipt["verdict"], "verified", "{receipt}");
    Ok(())
}

#[test]
fn a_networks_own_certificate_is_taken_by_its_file() -> Result<()> {
    let binaries = Binaries::find_or_build()?;
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    // As `openssl req -x509` makes it: an authority of its own that names no host.
    let mut asked = rcgen::CertificateParams::default();
    asked.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate()?;
    std::fs::write(at("cert.pem"), asked.self_signed(&key)?.pem())?;
    std::fs::write(at("key.pem"), key.serialize_pem())?;
    let mut serve = Command::new(&binaries.balancer);
    serve.args(["serve", "--listen", "127.0.0.1:0", "--policy", "practice"]);
    serve.arg("--data").arg(at("balancer"));
    serve.arg("--tls-cert").arg(at("cert.pem"));
    serve.arg("--tls-key").arg(at("key.pem"));
    let server = Process::start("the balancer", serve, &at("log.txt"))?;
    let url = server.line_after("Listening on ", START_LIMIT)?;
    let check = |address: &str| {
        let mut check = Command::new(&binaries.node);
        check.args(["check", "--json", "--balancer", address]);
        check.arg("--data").arg(at("node"));
        check
    };
    let refused = check(&url).output()?;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("certificate is not trusted"), "{words}");
    // Without its scheme, too.
    for address in [&url, url.trim_start_matches("https://")] {
        let trusted = check(address)
            .arg("--ca-file")
            .arg(at("cert.pem"))
            .output()?;
        let answer: Value = serde_json::from_slice(&trusted.stdout)
            .map_err(|error| format!("{error}: {trusted:?}"))?;
        assert_eq!(answer["policy"], "practice");
        assert!(
            trusted.status.success(),
            "any laptop may practise: {answer}"
        );
    }
    Ok(())
}

#[test]
fn bad_requests_get_openai_errors() -> Result<()> {
    let world = World::start(0, 0)?;
    let client = world.client();
    let chat = "/v1/chat/completions";
    let with = |name: &str, value: Value| {
        let mut request = story(1, 20);
        request[name] = value;
        request.to_string().into_bytes()
    };
    let long = "a long story ".repeat(2000);
    let cases: [(&str, Vec<u8>, u16); 7] = [
        ("an unknown model", with("model", "none".into()), 404),
        ("no messages", with("messages", json!([])), 400),
        (
            "a negative temperature",
            with("temperature", json!(-1)),
            400,
        ),
        ("a negative limit", with("max_tokens", json!(-5)), 400),
        ("broken JSON", b"{\"model\": ".to_vec(), 400),
        (
            "a prompt over the context",
            with("messages", json!([{ "role": "user", "content": long }])),
            400,
        ),
        ("ten megabytes", vec![b' '; 10 << 20], 413),
    ];
    for (what, body, status) in cases {
        let answer = client.post_bytes(chat, &body)?;
        assert_eq!(answer.status, status, "{what}: {}", answer.text);
        let error = &answer.json()?["error"];
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{what}: {error}"
        );
        assert!(error["type"].is_string(), "{what}: {error}");
    }
    for key in [None, Some("sk-infera-wrong")] {
        let stranger = xtask::http::Client::new(world.balancer.url(), key);
        let answer = stranger.post(chat, &story(1, 20))?;
        assert_eq!(answer.status, 401, "{}", answer.text);
        assert!(
            answer.json()?["error"]["message"].is_string(),
            "{}",
            answer.text
        );
    }
    world.settled_ledger()?;
    Ok(())
}
