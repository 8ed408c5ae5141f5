//! The control API over HTTP: who gets in, and what they can do.

use std::time::Duration;

use futures_util::StreamExt;
use infera_node::clock::SystemEntropy;
use infera_node::control::{ControlError, ControlServer};
use infera_node::data_dir::ControlFile;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::fakes::Rig;

struct Served {
    rig: Rig,
    server: ControlServer,
    client: Client,
    control: ControlFile,
}

async fn serve() -> Served {
    let rig = Rig::ready().await;
    // Sockets run in real time.
    tokio::time::resume();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let address = "127.0.0.1:0".parse().unwrap();
    let server = ControlServer::start(rig.node.clone(), address, &SystemEntropy)
        .await
        .unwrap();
    Served {
        rig,
        client: Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(10))
            .build()
            .unwrap(),
        control: server.control().clone(),
        server,
    }
}

impl Served {
    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = self
            .client
            .request(
                method.parse().unwrap(),
                format!("{}/control/v1/{path}", self.control.url),
            )
            .bearer_auth(&self.control.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        (status, response.json().await.unwrap())
    }
}

#[tokio::test]
async fn status_pause_resume_history_points_and_check() {
    let served = serve().await;
    let (status, snapshot) = served.call("GET", "status", None).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(snapshot["state"]["sentence"], "Waiting for jobs");
    assert_eq!(snapshot["connection"]["state"], "connected");
    assert_eq!(snapshot["models"][0]["engine"]["state"], "ready");
    let (_, paused) = served
        .call("POST", "pause", Some(json!({ "seconds": 900 })))
        .await;
    assert_eq!(paused["state"]["kind"], "paused");
    let (_, resumed) = served.call("POST", "resume", None).await;
    assert_eq!(resumed["decision"]["mode"], "run");
    let (_, points) = served.call("GET", "points", None).await;
    assert_eq!(points["confirmed"], 0);
    let (_, history) = served.call("GET", "history?limit=5", None).await;
    assert_eq!(history, json!([]));
    let (_, check) = served.call("POST", "check", None).await;
    assert_eq!(check["requirements"][0]["mark"], "pass");
    assert_eq!(served.rig.engine.script().started, 1);
}

#[tokio::test]
async fn nobody_gets_in_without_the_token_or_from_elsewhere() {
    let served = serve().await;
    let url = format!("{}/control/v1/status", served.control.url);
    let get = |name: &'static str, value: &'static str| {
        let request = served.client.get(&url).header(name, value);
        async move { request.send().await.unwrap() }
    };
    let token = format!("Bearer {}", served.control.token);
    let refused = served.client.get(&url).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let text = refused.text().await.unwrap();
    assert!(!text.contains(&served.control.token));
    assert_eq!(
        get("authorization", "Bearer wrong").await.status(),
        StatusCode::UNAUTHORIZED
    );
    for (name, value) in [
        ("host", "evil.example"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ] {
        let response = served
            .client
            .get(&url)
            .header("authorization", &token)
            .header(name, value)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{name}: {value}");
    }
}

#[tokio::test]
async fn wrong_calls_get_a_sentence() {
    let served = serve().await;
    for (method, path, body, status) in [
        ("GET", "nothing", None, StatusCode::NOT_FOUND),
        (
            "POST",
            "pause",
            Some(json!({ "seconds": -1 })),
            StatusCode::BAD_REQUEST,
        ),
        (
            "POST",
            "pause",
            Some(json!({ "minutes": 1 })),
            StatusCode::BAD_REQUEST,
        ),
        ("GET", "history?limit=many", None, StatusCode::BAD_REQUEST),
    ] {
        let (got, answer) = served.call(method, path, body).await;
        assert_eq!(got, status, "{path}");
        assert!(answer["error"].is_string(), "{path}: {answer}");
    }
}

#[tokio::test]
async fn events_begin_with_the_state_and_follow_it() {
    let served = serve().await;
    let response = served
        .client
        .get(format!("{}/control/v1/events", served.control.url))
        .bearer_auth(&served.control.token)
        .send()
        .await
        .unwrap();
    let mut stream = response.bytes_stream();
    let mut text = String::new();
    let mut paused = false;
    while let Some(piece) = stream.next().await {
        text += std::str::from_utf8(&piece.unwrap()).unwrap();
        if text.contains("Waiting for jobs") && !paused {
            paused = true;
            served.rig.node.pause(None, false).await.unwrap();
        }
        if text.contains("Paused by you") {
            break;
        }
    }
    assert!(paused && text.contains("Paused by you"));
    // An open stream does not keep the server.
    tokio::time::timeout(Duration::from_secs(5), served.server.stop())
        .await
        .unwrap();
}

#[tokio::test]
async fn only_loopback_is_served() {
    let rig = Rig::ready().await;
    let address = "0.0.0.0:0".parse().unwrap();
    let error = ControlServer::start(rig.node.clone(), address, &SystemEntropy)
        .await
        .unwrap_err();
    assert!(matches!(error, ControlError::NotLoopback(_)), "{error}");
}
