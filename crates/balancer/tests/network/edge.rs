//! What comes over connections that are of no use, or from those who have shown nothing.

use std::time::{Duration, Instant};

use infera_balancer::{AdmissionRule, Config};
use infera_protocol::Hash;
use infera_protocol::node_api::{
    ChallengeRequest, NodeState, RefusalCode, Session, SessionRequest, do_work,
};
use infera_protocol::output::OutputAck;
use infera_protocol::requirements::{Gpu, GpuKind, Hardware};
use infera_testing::{
    Network, SimNode, answer, challenge, code, embedded, hardware, key, open_session, patient,
    session_request, sim_vectors, until,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// A HEADERS frame of stream 1 that says that more headers follow.
const OPEN_HEADERS: &[u8] = &[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82];

fn strict() -> Config {
    Config {
        request_wait: Duration::from_millis(300),
        body_wait: Duration::from_millis(300),
        ..patient()
    }
}

async fn connect(network: &Network) -> TcpStream {
    let address = network.base.strip_prefix("http://").unwrap();
    TcpStream::connect(address).await.unwrap()
}

/// All that still comes, until the balancer ends the connection.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    let reading = stream.read_to_end(&mut read);
    // A reset ends it as well.
    let _ = tokio::time::timeout(Duration::from_secs(10), reading)
        .await
        .expect("the connection should have been ended");
    read
}

/// Writes a byte now and then for as long as the balancer takes it, and tells how long that was.
async fn drip(stream: &mut TcpStream, bytes: &[u8]) -> Duration {
    let begun = Instant::now();
    let (mut reader, mut writer) = stream.split();
    let dripping = async {
        for byte in bytes.iter().cycle() {
            if writer.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut read = Vec::new();
    let ended = reader.read_to_end(&mut read);
    tokio::select! {
        () = dripping => {}
        _ = ended => {}
        () = tokio::time::sleep(Duration::from_secs(10)) => panic!("it was never ended"),
    }
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_are_closed_whatever_they_speak() {
    let network = Network::start(strict()).await;
    for sent in [
        &b""[..],
        b"G",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost:",
        PREFACE,
        &[PREFACE, SETTINGS].concat(),
        &[PREFACE, SETTINGS, OPEN_HEADERS].concat(),
    ] {
        let mut stream = connect(&network).await;
        stream.write_all(sent).await.unwrap();
        rest(&mut stream).await;
    }
    let mut used = connect(&network).await;
    let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    used.write_all(request).await.unwrap();
    let answer = rest(&mut used).await;
    assert!(answer.starts_with(b"HTTP/1.1 200"), "and between two");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_trickle_are_cut() {
    let network = Network::start(strict()).await;
    let mut stream = connect(&network).await;
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nx: ")
        .await
        .unwrap();
    assert!(drip(&mut stream, b"y").await < Duration::from_secs(5));
    // CONTINUATION frames, each with one header and never the last.
    let mut stream = connect(&network).await;
    let begun = [PREFACE, SETTINGS, OPEN_HEADERS].concat();
    stream.write_all(&begun).await.unwrap();
    let more = [0, 0, 1, 9, 0, 0, 0, 0, 1, 0x82];
    assert!(drip(&mut stream, &more).await < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_told_so() {
    let network = Network::start(strict()).await;
    let mut stream = connect(&network).await;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 100\r\n\r\n{{",
        network.key
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = String::from_utf8(rest(&mut stream).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("did not arrive in time"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_an_answer_is_not_silent() {
    let queue = Duration::from_secs(1);
    let network = Network::start(Config { queue, ..strict() }).await;
    let mut worker = SimNode::worker(&network, 1).await;
    let first = network.chat(&json!({}));
    let work = worker.take().await;
    let begun = Instant::now();
    let (status, _) = network.chat(&json!({})).await.unwrap();
    assert_eq!(status, 503);
    assert!(begun.elapsed() >= queue);
    drop((first, work));
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_limit_connections_are_closed_at_once_and_the_others_go_on() {
    let network = Network::start(Config {
        connections: 4,
        // Longer than it takes to connect so often on a busy machine.
        request_wait: Duration::from_secs(6),
        ..patient()
    })
    .await;
    let mut used = connect(&network).await;
    let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let ask = async |stream: &mut TcpStream| {
        stream.write_all(request).await.ok()?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.ok()?;
        Some(answer)
    };
    assert_eq!(ask(&mut used).await.as_ref(), Some(b"HTTP/1.1 200"));
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(connect(&network).await);
    }
    let mut late = connect(&network).await;
    let begun = Instant::now();
    assert_eq!(ask(&mut late).await, None);
    assert!(begun.elapsed() < Duration::from_secs(5), "not at once");
    // The one that is in use has its place, and the silent ones lose theirs.
    until("a place", async || ask(&mut connect(&network).await).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_with_an_answer_however_much_they_send() {
    let network = Network::start(patient()).await;
    let large = vec![b' '; 15 << 20];
    for path in [
        "/node/v1/state",
        "/node/v1/jobs/x/output",
        "/node/v1/audits/x/report",
    ] {
        let request = network
            .http
            .post(format!("{}{path}", network.base))
            .body(large.clone());
        assert_eq!(code(answer::<Value>(request).await), RefusalCode::NoSession);
    }
    for path in ["/node/v1/challenge", "/node/v1/session"] {
        let request = network
            .http
            .post(format!("{}{path}", network.base))
            .body(large.clone());
        assert_eq!(code(answer::<Value>(request).await), RefusalCode::Malformed);
    }
    let request = network
        .http
        .post(format!("{}/v1/chat/completions", network.base))
        .body(large);
    assert_eq!(request.send().await.unwrap().status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_was_given_much_may_send_much() {
    let network = Network::start(patient()).await;
    network.add_embedder().await;
    let mut node = SimNode::worker(&network, 1).await;
    let large = json!({"padding": "x".repeat(2 << 20)});
    let token = node.session.token.clone();
    let send = async |path: String, body: &Value| {
        let request = network.http.post(format!("{}{path}", network.base));
        let request = request.bearer_auth(&token).json(body);
        answer::<OutputAck>(request).await
    };
    let audit = "00".repeat(16);
    let told = send(format!("/node/v1/audits/{audit}/report"), &large).await;
    let told = told.unwrap_err().message;
    assert!(told.contains("over the limit of 65536"), "{told}");
    let answered = network.embed(&json!({}));
    let offer = node.offer().await;
    let path = format!("/node/v1/jobs/{}/output", offer.job);
    let told = send(path.clone(), &large).await.unwrap_err().message;
    assert!(told.contains("over the limit of 1048576"), "{told}");
    let spec = node.claim(&offer).await.unwrap();
    let vectors = sim_vectors(&spec.task);
    let mut batch = json!(embedded(&node.key, &spec, vectors));
    batch["padding"] = large["padding"].clone();
    assert!(send(path, &batch).await.unwrap().finished);
    assert_eq!(answered.await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_says_of_itself_has_bounds() {
    let network = Network::start(patient()).await;
    let node = SimNode::worker(&network, 1).await;
    let state = NodeState {
        models: Vec::new(),
        context_tokens: Vec::new(),
        free_slots: 1,
        paused: Some("x".repeat(2000)),
        hardware: hardware(),
        report: None,
    };
    let send = async |state: &NodeState| {
        let sent = node.post::<()>("/node/v1/state", &json!(state)).await;
        sent.unwrap_err()
    };
    let refusal = send(&state).await;
    assert_eq!(refusal.code, RefusalCode::TooMuch);
    assert!(refusal.message.contains("paused"), "{refusal}");
    let large = NodeState {
        paused: Some("x".repeat(100_000)),
        ..state
    };
    assert_eq!(send(&large).await.code, RefusalCode::Malformed);
    let gpu = Gpu {
        name: "x".repeat(600),
        kind: GpuKind::Other,
        api: String::new(),
        driver: String::new(),
        pci_id: None,
        vram_bytes: None,
    };
    let hardware = Hardware {
        gpus: vec![gpu],
        ..hardware()
    };
    let opened = open_session(&network.http, &network.base, &key(2), hardware).await;
    assert_eq!(code(opened), RefusalCode::TooMuch);
    let long =
        json!({"version": infera_protocol::VERSION, "attempt": 1, "reason": "x".repeat(2000)});
    let path = format!("/node/v1/jobs/{}/release", "00".repeat(16));
    let released = node.post::<()>(&path, &long).await;
    assert_eq!(released.unwrap_err().code, RefusalCode::TooMuch);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_identity_costs_work_and_a_trusted_one_does_not() {
    let network = Network::start(Config {
        admission: AdmissionRule::Work,
        work_bits: 12,
        ..patient()
    })
    .await;
    let (http, base) = (&network.http, network.base.as_str());
    let open = async |request: &SessionRequest| {
        answer::<Session>(http.post(format!("{base}/node/v1/session")).json(request)).await
    };
    let given = challenge(http, base, key(1).id()).await.unwrap();
    assert_eq!(given.work_bits, 12);
    let done = do_work(&key(1).id(), &given.challenge, 12);
    let idle = SessionRequest {
        work: done + 1,
        ..session_request(&key(1), given.challenge, hardware())
    };
    assert_eq!(code(open(&idle).await), RefusalCode::WorkMissing);
    open(&SessionRequest { work: done, ..idle }).await.unwrap();
    network.trust(key(2).id()).await;
    let given = challenge(http, base, key(2).id()).await.unwrap();
    assert_eq!(given.work_bits, 0);
    let request = session_request(&key(2), given.challenge, hardware());
    open(&request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn by_invitation_nobody_new_comes_in() {
    let network = Network::start(Config {
        admission: AdmissionRule::Invitation,
        ..patient()
    })
    .await;
    let opened = open_session(&network.http, &network.base, &key(1), hardware()).await;
    let refusal = opened.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::InvitationNeeded);
    assert!(refusal.message.contains("invitation"), "{refusal}");
    SimNode::reference(&network, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_brings_so_many_nodes_through_a_proxy() {
    let network = Network::start(Config {
        proxy_header: Some("x-forwarded-for".to_owned()),
        nodes_per_address: 2,
        ..patient()
    })
    .await;
    let open = async |number: u8, address: &str| {
        let post = |path: &str, body: Value| {
            let request = network.http.post(format!("{}{path}", network.base));
            request.header("x-forwarded-for", address).json(&body)
        };
        let node = key(number).id();
        let version = infera_protocol::VERSION;
        let body = json!(ChallengeRequest { version, node });
        let given: infera_protocol::node_api::Challenge =
            answer(post("/node/v1/challenge", body)).await.unwrap();
        let request = session_request(&key(number), given.challenge, hardware());
        answer::<Session>(post("/node/v1/session", json!(request))).await
    };
    for number in [1, 2] {
        open(number, "192.0.2.1").await.unwrap();
    }
    assert_eq!(code(open(3, "192.0.2.1").await), RefusalCode::TooMuch);
    open(1, "192.0.2.1").await.unwrap();
    open(3, "192.0.2.2").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_programs_with_one_identity_do_not_take_turns() {
    let network = Network::start(patient()).await;
    let (http, base) = (&network.http, network.base.as_str());
    let open = async |run: u8| {
        let given = challenge(http, base, key(1).id()).await.unwrap().challenge;
        let request = SessionRequest {
            instance: Some(Hash::from_bytes([run; 32])),
            ..session_request(&key(1), given, hardware())
        };
        answer::<Session>(http.post(format!("{base}/node/v1/session")).json(&request)).await
    };
    let first = open(1).await.unwrap();
    let stream = http
        .get(format!("{base}/node/v1/events"))
        .bearer_auth(&first.token)
        .send()
        .await
        .unwrap();
    let refusal = open(2).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::IdentityInUse);
    assert!(refusal.message.contains("data folder"), "{refusal}");
    let request = http
        .get(format!("{base}/node/v1/points"))
        .bearer_auth(&first.token);
    answer::<Value>(request).await.unwrap();
    // Its program has ended: the next one is in at once.
    drop(stream);
    until("the identity to be free", async || open(2).await.ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_prompt_is_in_no_file_of_the_balancer() {
    let network = Network::start(patient()).await;
    network.references().await;
    let mut worker = SimNode::worker(&network, 1).await;
    let answer = network.chat(&json!({
        "messages": [{"role": "user", "content": "nobody else may ever read this sentence"}],
        "infera": {"wait": true},
    }));
    let mut work = worker.take().await;
    let prompt: Vec<u8> = work
        .spec
        .task
        .input
        .iter()
        .flat_map(|id| id.to_le_bytes())
        .collect();
    assert!(network.keeps(&prompt));
    worker.write_all(&mut work).await.unwrap();
    assert_eq!(answer.await.unwrap().0, 200);
    network.text_deleted(&work.spec.job.to_string()).await;
    until("the prompt to be gone", async || {
        (!network.keeps(&prompt)).then_some(())
    })
    .await;
}
