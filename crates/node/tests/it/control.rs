//! The control API over HTTP: who gets in, and what they can do.

use std::time::Duration;

use futures_util::StreamExt;
use infera_node::clock::SystemEntropy;
use infera_node::control::{ControlError, ControlServer};
use infera_node::data_dir::ControlFile;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::app::Running;
use crate::engine::tiny_model;

struct Served {
    running: Running,
    server: ControlServer,
    client: Client,
    control: ControlFile,
}

async fn serve() -> Served {
    let running = Running::start().await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let address = "127.0.0.1:0".parse().unwrap();
    let server = ControlServer::start(running.app.clone(), address, &SystemEntropy)
        .await
        .unwrap();
    Served {
        running,
        client: Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build()
            .unwrap(),
        control: server.control().clone(),
        server,
    }
}

impl Served {
    async fn call(&self, command: &str, body: impl Into<reqwest::Body>) -> (StatusCode, Value) {
        let response = self
            .client
            .post(format!("{}/control/v1/{command}", self.control.url))
            .bearer_auth(&self.control.token)
            .body(body)
            .send()
            .await
            .unwrap();
        let status = response.status();
        (status, response.json().await.unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_carried_out() {
    let served = serve().await;
    let (status, state) = served.call("state", "").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(state["setup"]["agreed"], false);
    let (_, state) = served.call("agree", "null").await;
    assert_eq!(state["setup"]["agreed"], true);
    let (_, page) = served.call("jobs", "{}").await;
    assert_eq!(page["count"], 0);
    served.running.app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_file_is_taken_as_it_comes() {
    let served = serve().await;
    let put = |name: &str, content: Vec<u8>| {
        let url = format!("{}/control/v1/models/{name}", served.control.url);
        let request = served.client.put(url).bearer_auth(&served.control.token);
        async move { request.body(content).send().await.unwrap() }
    };
    let refused = put("page.gguf", b"<html>".to_vec()).await;
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    let taken = put("tiny%20one.gguf", std::fs::read(tiny_model()).unwrap()).await;
    assert_eq!(taken.status(), StatusCode::OK);
    let state: Value = taken.json().await.unwrap();
    let path = state["installed"][0]["path"].as_str().unwrap();
    assert!(path.ends_with("tiny one.gguf"), "{path}");
    served.running.app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_without_the_token_or_from_elsewhere() {
    let served = serve().await;
    let url = format!("{}/control/v1/events", served.control.url);
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

#[tokio::test(flavor = "multi_thread")]
async fn wrong_calls_get_a_sentence() {
    let served = serve().await;
    for (command, body, status) in [
        ("nothing", "", StatusCode::NOT_FOUND),
        ("pause", "{", StatusCode::BAD_REQUEST),
        ("pause", r#"{"minutes":1}"#, StatusCode::BAD_REQUEST),
        (
            "use_model",
            r#"{"path":"x","in_use":true}"#,
            StatusCode::NOT_FOUND,
        ),
        (
            "download",
            r#"{"from":"url","url":"ftp://x"}"#,
            StatusCode::CONFLICT,
        ),
    ] {
        let (got, answer) = served.call(command, body).await;
        assert_eq!(got, status, "{command}");
        assert!(answer["message"].is_string(), "{command}: {answer}");
    }
    served.running.app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_windows_files_need_no_token_but_this_machines_name() {
    let served = serve().await;
    let get = |host: Option<&'static str>| {
        let mut request = served.client.get(format!("{}/", served.control.url));
        if let Some(host) = host {
            request = request.header("host", host);
        }
        async move { request.send().await.unwrap() }
    };
    assert_eq!(
        get(Some("evil.example")).await.status(),
        StatusCode::FORBIDDEN
    );
    let page = get(None).await;
    // A build without `ui/dist` has none, and says so.
    if page.status() == StatusCode::NOT_FOUND {
        let error: Value = page.json().await.unwrap();
        assert!(error["message"].as_str().unwrap().contains("no window"));
    } else {
        let policy = page.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'self'"), "{policy}");
        assert!(page.text().await.unwrap().contains("<script"));
    }
    served.running.app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
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
    let mut agreed = false;
    while let Some(piece) = stream.next().await {
        text += std::str::from_utf8(&piece.unwrap()).unwrap();
        if text.contains("\"agreed\":false") && !agreed {
            agreed = true;
            served.running.call("agree", Value::Null).await;
        }
        if text.contains("\"agreed\":true") {
            break;
        }
    }
    assert!(agreed && text.contains("data: {\"event\":\"state\""));
    // An open stream does not keep the server.
    tokio::time::timeout(Duration::from_secs(5), served.server.stop())
        .await
        .unwrap();
    served.running.app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_loopback_is_served() {
    let running = Running::start().await;
    let address = "0.0.0.0:0".parse().unwrap();
    let error = ControlServer::start(running.app.clone(), address, &SystemEntropy)
        .await
        .unwrap_err();
    assert!(matches!(error, ControlError::NotLoopback(_)), "{error}");
    running.app.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn web_control_follows_its_setting() {
    let running = Running::start().await;
    let app = running.app.clone();
    let serving = tokio::spawn(async move {
        infera_node::control::serve_while_wanted(app, &SystemEntropy).await;
    });
    let switch = |on: bool| running.call("change_settings", json!({ "web_control": on }));
    let has_address = |state: &infera_node::app::api::AppState| state.host.web_address.is_some();
    switch(true).await;
    let state = running.until("it is served", has_address).await;
    let address = state.host.web_address.unwrap();
    assert!(address.starts_with("http://127.0.0.1:"), "{address}");
    assert!(running.app.data().folder().control().is_ok());
    switch(false).await;
    running
        .until("it is served no more", |state| !has_address(state))
        .await;
    running.app.shut_down().await;
    serving.await.unwrap();
    assert!(running.app.data().folder().control().is_err());
}
