//! What clients send wrong, and what they get.

use axum::http::StatusCode;
use infera_balancer::Config;
use infera_protocol::requirements::{Gpu, GpuKind, Hardware, Policy};
use infera_testing::{
    MODEL, Network, SimNode, Work, chat_body, hardware, model_id, patient, sim_answer, until,
    writing,
};
use serde_json::{Value, json};

async fn error(network: &Network, path: &str, body: &Value) -> (u16, Value) {
    let response = network.post(path, body).await;
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    let error = body["error"].clone();
    for field in ["message", "type", "param", "code"] {
        assert!(error.get(field).is_some(), "no `{field}` in {body}");
    }
    (status, error)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_asked_for() {
    let network = Network::start(patient()).await;
    for path in ["/v1/models", "/v1/jobs/00", "/v1/jobs/00/receipt"] {
        let response = network
            .http
            .get(format!("{}{path}", network.base))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    for key in ["", "sk-infera-wrong", &network.key[..20], "something else"] {
        let response = network
            .post_as(key, "/v1/chat/completions", &chat_body(&json!({})))
            .await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["code"], "invalid_api_key");
        let words = [
            "You didn't provide an API key",
            "Incorrect API key provided",
        ];
        let message = body["error"]["message"].as_str().unwrap();
        // Client libraries look for these words.
        assert!(
            message.starts_with(words[usize::from(!key.is_empty())]),
            "{message}"
        );
    }
    for scheme in ["bearer", "BEARER", "Bearer "] {
        let response = network
            .http
            .get(format!("{}/v1/models", network.base))
            .header("authorization", format!("{scheme} {}", network.key))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200, "{scheme}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_may_call_and_every_answer_has_a_request_id() {
    let allowed = async |config: Config, origin: &str| {
        let network = Network::start(config).await;
        let url = format!("{}/v1/chat/completions", network.base);
        let preflight = network
            .http
            .request(reqwest::Method::OPTIONS, &url)
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header(
                "access-control-request-headers",
                "authorization,x-stainless-os",
            );
        let preflight = preflight.send().await.unwrap();
        assert_eq!(preflight.status(), 200);
        let headers = preflight.headers();
        let asked = headers["access-control-allow-headers"].to_str().unwrap();
        assert_eq!(asked, "authorization,x-stainless-os");
        let origin = headers.get("access-control-allow-origin");
        origin.map(|origin| origin.to_str().unwrap().to_owned())
    };
    let site = "https://chat.example.org";
    assert_eq!(allowed(patient(), site).await.as_deref(), Some("*"));
    let one = || Config {
        allowed_origins: vec![site.to_owned()],
        ..patient()
    };
    assert_eq!(allowed(one(), site).await.as_deref(), Some(site));
    assert_eq!(allowed(one(), "https://other.org").await, None);

    let network = Network::start(patient()).await;
    let get = |path: &str| network.http.get(format!("{}{path}", network.base));
    let id = |response: reqwest::Response| {
        response.headers()["x-request-id"]
            .to_str()
            .unwrap()
            .to_owned()
    };
    let mut ids = Vec::new();
    for path in [
        "/healthz",
        "/v1/models",
        "/nothing",
        "/v1/chat/completions",
        "/node/v1/policy",
    ] {
        ids.push(id(get(path).send().await.unwrap()));
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 5, "{ids:?}");
    let own = get("/healthz").header("x-request-id", "mine-1");
    assert_eq!(id(own.send().await.unwrap()), "mine-1");
    let long = get("/healthz").header("x-request-id", "x".repeat(200));
    assert_eq!(id(long.send().await.unwrap()).len(), 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_models_name_may_have_a_slash() {
    let network = Network::start(patient()).await;
    let name = "org/tiny-llama";
    infera_balancer::remove_model(&network.database, MODEL, 1)
        .await
        .unwrap();
    network
        .add(infera_testing::head(), infera_protocol::Profile::P32, name)
        .await;
    for path in ["/v1/models/org/tiny-llama", "/v1/models/org%2Ftiny-llama"] {
        assert_eq!(network.get(path).await["id"], name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_refused_in_openais_format() {
    let network = Network::start(patient()).await;
    SimNode::worker(&network, 1)
        .await
        .spawn_worker(Work::honest);
    let long = "word ".repeat(600);
    let cases = [
        (json!({"model": "nothing"}), 404, json!("model_not_found")),
        (json!({"messages": []}), 400, Value::Null),
        (json!({"temperature": -1}), 400, Value::Null),
        (json!({"max_tokens": -1}), 400, Value::Null),
        (json!({"tools": [{}]}), 400, json!("unsupported_parameter")),
        (
            json!({"max_tokens": 600}),
            400,
            json!("context_length_exceeded"),
        ),
        (
            json!({"messages": [{"role": "user", "content": long}]}),
            400,
            json!("context_length_exceeded"),
        ),
    ];
    for (extra, status, code) in cases {
        let (got, error) = error(&network, "/v1/chat/completions", &chat_body(&extra)).await;
        assert_eq!((got, &error["code"]), (status, &code), "{error}");
        assert_eq!(error["type"], "invalid_request_error");
        if code == "context_length_exceeded" {
            // Client libraries look for these words.
            let words = "This model's maximum context length is 512 tokens";
            assert!(
                error["message"].as_str().unwrap().starts_with(words),
                "{error}"
            );
        }
    }
    let beyond = json!({"model": MODEL, "prompt": [5, 640]});
    assert_eq!(error(&network, "/v1/completions", &beyond).await.0, 400);
    assert_eq!(network.balances().await.len(), 0, "nothing was charged");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_too_large_or_broken() {
    let network = Network::start(patient()).await;
    let large = chat_body(&json!({"user": "x".repeat(10 << 20)}));
    let (status, error) = error(&network, "/v1/chat/completions", &large).await;
    assert_eq!((status, &error["code"]), (413, &json!("request_too_large")));
    for body in ["{", "", "{\"temperature\": NaN}", "[]", "\u{0}"] {
        let response = network
            .http
            .post(format!("{}/v1/chat/completions", network.base))
            .bearer_auth(&network.key)
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["type"], "invalid_request_error");
    }
    let response = network.post("/v1/images/generations", &json!({})).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    let body: Value = response.json().await.unwrap();
    assert!(body["error"]["message"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_node_the_reason_is_told() {
    let network = Network::start_with(patient(), Policy::public()).await;
    let ask = async || {
        let response = network
            .post("/v1/chat/completions", &chat_body(&json!({})))
            .await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers().contains_key("retry-after"));
        let body: Value = response.json().await.unwrap();
        body["error"]["message"].as_str().unwrap().to_owned()
    };
    assert!(ask().await.contains("No node"));
    let worker = SimNode::join(&network, 1, 1, hardware()).await;
    assert!(ask().await.contains("requirements"), "it has no GPU");
    worker.tell(1, Some("by the user")).await;
    assert!(ask().await.contains("requirements"), "resuming is no help");
    let strong = Hardware {
        ram_bytes: Some(32 << 30),
        free_disk_bytes: Some(1 << 40),
        gpus: vec![Gpu {
            name: "Card".to_owned(),
            kind: GpuKind::Discrete,
            api: "Vulkan".to_owned(),
            driver: "1".to_owned(),
            pci_id: None,
            vram_bytes: Some(12 << 30),
        }],
        ..hardware()
    };
    let fit = SimNode::join(&network, 3, 1, strong).await;
    fit.tell(1, Some("by the user")).await;
    assert!(ask().await.contains("paused (1)"));
    let weak = Hardware {
        ram_bytes: Some(1 << 30),
        ..hardware()
    };
    assert!(
        !SimNode::join(&network, 2, 1, weak)
            .await
            .session
            .requirements
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_does_not_wait_for_a_busy_node_for_ever() {
    let queue = std::time::Duration::from_millis(50);
    let network = Network::start(Config { queue, ..patient() }).await;
    let mut worker = SimNode::worker(&network, 1).await;
    let first = network.chat(&json!({}));
    let mut work = worker.take().await;
    let (status, body) = network.chat(&json!({})).await.unwrap();
    assert_eq!(
        (status, &body["error"]["code"]),
        (503, &json!("all_nodes_busy"))
    );
    worker.write_all(&mut work).await.unwrap();
    assert_eq!(first.await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_taken_when_a_busy_node_becomes_free() {
    let network = Network::start(patient()).await;
    let mut worker = SimNode::worker(&network, 1).await;
    let first = network.chat(&json!({}));
    let mut work = worker.take().await;
    let second = network.chat(&json!({}));
    worker.write_all(&mut work).await.unwrap();
    assert_eq!(first.await.unwrap().0, 200);
    let mut work = worker.take().await;
    worker.write_all(&mut work).await.unwrap();
    assert_eq!(second.await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keys_limits_hold() {
    let network = Network::start(Config {
        jobs_per_key: 2,
        ..patient()
    })
    .await;
    let mut worker = SimNode::join(&network, 1, 4, hardware()).await;
    let body = chat_body(&json!({"max_tokens": 10}));
    let poor = network.key("poor", Some(250)).await;
    // 3 micro-points for each prompt token and 10 for each of 10 output tokens.
    let running = {
        let request = network
            .http
            .post(format!("{}/v1/chat/completions", network.base));
        let request = request.bearer_auth(&poor).json(&body);
        tokio::spawn(async move { request.send().await.unwrap().status() })
    };
    let mut work = worker.take().await;
    let response = network.post_as(&poor, "/v1/chat/completions", &body).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    let refused: Value = response.json().await.unwrap();
    assert_eq!(
        refused["error"]["code"], "insufficient_quota",
        "what runs is set aside"
    );
    worker.write_all(&mut work).await.unwrap();
    assert_eq!(running.await.unwrap(), 200);
    // What waiting does not help is no 429: clients would try again and again.
    let (status, never) = error(
        &network,
        "/v1/chat/completions",
        &chat_body(&json!({"n": 3})),
    )
    .await;
    assert_eq!(status, 400, "{never}");
    let dear = chat_body(&json!({"max_tokens": 100}));
    let response = network.post_as(&poor, "/v1/chat/completions", &dear).await;
    assert_eq!(response.status(), 400);
    let never: Value = response.json().await.unwrap();
    assert_eq!(never["error"]["code"], "insufficient_quota");
    let two = network.chat(&json!({"n": 2}));
    let first = worker.take().await;
    let (status, busy) = error(&network, "/v1/chat/completions", &chat_body(&json!({}))).await;
    assert_eq!(
        (status, &busy["code"]),
        (429, &json!("rate_limit_exceeded"))
    );
    let mut work = first;
    worker.write_all(&mut work).await.unwrap();
    // A newcomer has one slot.
    let mut work = worker.take().await;
    worker.write_all(&mut work).await.unwrap();
    assert_eq!(two.await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn choices_seeds_and_stops() {
    let network = Network::start(patient()).await;
    SimNode::worker(&network, 1)
        .await
        .spawn_worker(Work::honest);
    let text = |answer: &Value, index: usize| {
        answer["choices"][index]["message"]["content"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let (_, two) = network.chat(&json!({"n": 2, "seed": 5})).await.unwrap();
    assert_ne!(text(&two, 0), text(&two, 1));
    assert_eq!(two["usage"]["completion_tokens"], 142);
    assert_eq!(two["infera"]["jobs"].as_array().unwrap().len(), 2);
    let (_, again) = network.chat(&json!({"seed": 5})).await.unwrap();
    assert_eq!(
        text(&again, 0),
        text(&two, 0),
        "a seed makes the answer repeatable"
    );
    let whole = text(&again, 0);
    let stop = &whole[30..33];
    let (_, stopped) = network
        .chat(&json!({"seed": 5, "stop": [stop, "~"], "infera": {"keep": true}}))
        .await
        .unwrap();
    assert_eq!(text(&stopped, 0), whole[..whole.find(stop).unwrap()]);
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    let job = stopped["infera"]["job_id"].as_str().unwrap();
    let kept = network.get(&format!("/v1/jobs/{job}")).await;
    assert_eq!(
        kept["text"],
        text(&stopped, 0),
        "what is kept is the answer"
    );
    let (_, short) = network
        .chat(&json!({"seed": 5, "max_tokens": 4}))
        .await
        .unwrap();
    assert_eq!(text(&short, 0), whole[..4]);
    assert_eq!(short["choices"][0]["finish_reason"], "length");
}

#[tokio::test(flavor = "multi_thread")]
async fn log_probabilities_in_both_shapes() {
    let network = Network::start(patient()).await;
    SimNode::worker(&network, 1)
        .await
        .spawn_worker(Work::honest);
    let (_, answer) = network
        .chat(&json!({"logprobs": true, "top_logprobs": 2, "max_tokens": 3}))
        .await
        .unwrap();
    let content = answer["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap();
    assert_eq!(content.len(), 3);
    assert_eq!(content[0]["logprob"], -0.5);
    assert_eq!(content[0]["top_logprobs"][0]["token"], content[0]["token"]);
    let body = json!({"model": MODEL, "prompt": "Once", "max_tokens": 3, "logprobs": 1});
    let answer: Value = network
        .post("/v1/completions", &body)
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(answer["object"], "text_completion");
    let logprobs = &answer["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"].as_array().unwrap().len(), 3);
    assert_eq!(logprobs["text_offset"], json!([0, 1, 2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_take_lists_and_stream() {
    let network = Network::start(patient()).await;
    SimNode::join(&network, 1, 2, hardware())
        .await
        .spawn_worker(Work::honest);
    let body = json!({"model": MODEL, "prompt": ["one", "two"], "max_tokens": 5});
    let answer: Value = network
        .post("/v1/completions", &body)
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(answer["choices"][1]["text"].as_str().unwrap().len(), 5);
    let body = json!({"model": MODEL, "prompt": "one"});
    let answer: Value = network
        .post("/v1/completions", &body)
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(answer["usage"]["completion_tokens"], 16, "as with OpenAI");
    let body = json!({"model": MODEL, "prompt": [1, 2, 3], "max_tokens": 5, "stream": true});
    let response = network.post("/v1/completions", &body).await;
    let streamed = infera_testing::read_stream(response).await;
    assert_eq!((streamed.text.len(), streamed.done), (5, true));
    let last = streamed.chunks.last().unwrap();
    assert_eq!(last["infera"]["verdict"], "pending");
    assert_eq!(
        last["choices"][0]["finish_reason"], "length",
        "no chunk without choices"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_up_cancels_at_the_node_and_pays_what_was_written() {
    let network = Network::start(patient()).await;
    network.references().await;
    let mut worker = SimNode::worker(&network, 1).await;
    let answer = network.stream(&json!({}));
    let mut work = worker.take().await;
    worker.write(&mut work, 40).await.unwrap();
    answer.abort();
    let cancel = worker
        .event_where(|event| matches!(event, infera_protocol::node_api::NodeEvent::Cancel { .. }))
        .await;
    assert_eq!(
        cancel,
        infera_protocol::node_api::NodeEvent::Cancel {
            job: work.spec.job,
            attempt: 1
        }
    );
    assert!(worker.write(&mut work, 1).await.unwrap().cancel);
    let batch = work.cancelled_batch(&worker.key);
    let ack = worker.output(work.spec.job, &batch).await.unwrap();
    assert!(ack.finished);
    let receipt = network.settled(&work.spec.job.to_string()).await;
    assert_eq!(receipt["finish_reason"], "cancelled");
    assert_eq!(receipt["verdict"], "verified");
    assert_eq!(receipt["attempts"][0]["paid_tokens"], 41);
    let cost = work.spec.task.input.len() as i64 * 3 + 41 * 10;
    assert_eq!(network.balances().await["client:ann"], -cost);
    assert_eq!(worker.points().await.confirmed, cost * 80 / 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_up_before_a_node_has_begun_costs_nothing() {
    let network = Network::start(patient()).await;
    let mut worker = SimNode::worker(&network, 1).await;
    let answer = network.chat(&json!({}));
    let offer = worker.offer().await;
    answer.abort();
    worker
        .event_where(|event| {
            matches!(
                event,
                infera_protocol::node_api::NodeEvent::Withdrawn { .. }
            )
        })
        .await;
    assert!(worker.claim(&offer).await.is_err());
    let receipt = network.settled(&offer.job.to_string()).await;
    assert_eq!(receipt["cost"], 0);
    assert_eq!(network.balances().await["client:ann"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_private_and_texts_are_kept_only_on_request() {
    let network = Network::start(patient()).await;
    network.references().await;
    SimNode::worker(&network, 1)
        .await
        .spawn_worker(Work::honest);
    let (_, answer) = network
        .chat(&json!({"infera": {"wait": true, "keep": true}}))
        .await
        .unwrap();
    assert_eq!(answer["infera"]["verdict"], "verified");
    let id = answer["infera"]["job_id"].as_str().unwrap();
    let job = network.get(&format!("/v1/jobs/{id}")).await;
    assert_eq!(job["text"], answer["choices"][0]["message"]["content"]);
    let other = network.key("other", None).await;
    for path in [format!("/v1/jobs/{id}"), format!("/v1/jobs/{id}/receipt")] {
        let request = network
            .http
            .get(format!("{}{path}", network.base))
            .bearer_auth(&other);
        assert_eq!(
            request.send().await.unwrap().status(),
            StatusCode::NOT_FOUND
        );
    }
    let (_, answer) = network
        .chat(&json!({"infera": {"wait": true}}))
        .await
        .unwrap();
    let id = answer["infera"]["job_id"].as_str().unwrap();
    let job = until("the text to be deleted", async || {
        let job = network.get(&format!("/v1/jobs/{id}")).await;
        (job["text_deleted"] == true).then_some(job)
    });
    assert!(job.await.get("text").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn models_health_and_metrics() {
    let network = Network::start(patient()).await;
    let models = network.get("/v1/models").await;
    assert_eq!(models["data"][0]["id"], MODEL);
    assert_eq!(
        models["data"][0]["infera"]["model_id"],
        model_id().to_string()
    );
    assert_eq!(
        network.get(&format!("/v1/models/{MODEL}")).await["object"],
        "model"
    );
    assert_eq!(network.get("/healthz").await["status"], "ok");
    SimNode::worker(&network, 1)
        .await
        .spawn_worker(Work::honest);
    network.chat(&json!({})).await.unwrap();
    let text = network
        .http
        .get(format!("{}/metrics", network.base))
        .send()
        .await
        .unwrap();
    let text = text.text().await.unwrap();
    for name in [
        "infera_jobs_started_total",
        "infera_nodes{role=\"worker\"} 1",
    ] {
        assert!(text.contains(name), "{text}");
    }
    assert!(!text.contains("ann"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_commands_change_is_seen_while_the_server_runs() {
    let network = Network::start(patient()).await;
    infera_balancer::remove_model(&network.database, MODEL, 1)
        .await
        .unwrap();
    until("the model to be gone", async || {
        let models = network.get("/v1/models").await;
        models["data"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
    let answer = network.chat(&json!({})).await.unwrap();
    assert_eq!(answer.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_cannot_go_on_ends_with_an_error_event() {
    let network = Network::start(Config {
        max_attempts: 1,
        ..patient()
    })
    .await;
    network.references().await;
    let mut worker = SimNode::worker(&network, 1).await;
    let answer = network.stream(&json!({}));
    let mut work = worker.take().await;
    worker.write(&mut work, 40).await.unwrap();
    worker.release(&work.spec).await.unwrap();
    let answer = answer.await.unwrap();
    assert!(!answer.done);
    assert_eq!(answer.text.len(), 40);
    assert!(answer.chunks.last().unwrap()["error"]["message"].is_string());
    let receipt = network.settled(&work.spec.job.to_string()).await;
    assert_eq!(receipt["verdict"], "verified");
    let balances = network.balances().await;
    let received = work.spec.task.input.len() as i64 * 3 + 400;
    assert_eq!(
        balances["client:ann"], -received,
        "the client pays for what it got and what passed"
    );
    assert_eq!(receipt["attempts"][0]["paid_tokens"], 32);
    let share = (work.spec.task.input.len() as i64 * 3 + 32 * 10) * 80 / 100;
    assert_eq!(
        worker.points().await.confirmed,
        share,
        "the node did its part"
    );
    assert_eq!(sim_answer(&writing(&work.spec).seed).len(), 71);
}
