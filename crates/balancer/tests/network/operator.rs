//! What those who run the network see and do, over real HTTP.

use infera_balancer::{Checking, Config, Edges, create_operator_key, revoke_operator_key};
use infera_protocol::node_api::RefusalCode;
use infera_testing::{Network, SimNode, Work, code, hardware, key, open_session, patient, until};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

const HEADER: &str = "x-infera-operator";
/// Words of a client that no answer to an operator may hold.
const MARKED: [&str; 2] = ["zebra crossing", "giraffe neck"];

/// An operator's calls.
struct Desk<'a> {
    network: &'a Network,
    key: String,
}

impl<'a> Desk<'a> {
    async fn open(network: &'a Network) -> Self {
        let key = create_operator_key(&network.database, &Edges::system(), "eve").await;
        let key = key.unwrap();
        Self { network, key }
    }

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        call(self.network, method, path).bearer_auth(&self.key)
    }

    async fn get(&self, path: &str) -> Value {
        told(self.call(Method::GET, path), 200).await
    }

    async fn post(&self, path: &str, message: &Value) -> Value {
        told(self.call(Method::POST, path).json(message), 200).await
    }

    async fn refused(&self, path: &str, message: &Value, status: u16) -> String {
        let call = self.call(Method::POST, path).json(message);
        told(call, status).await["code"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    async fn delete(&self, path: &str) -> Value {
        told(self.call(Method::DELETE, path), 200).await
    }
}

fn call(network: &Network, method: Method, path: &str) -> RequestBuilder {
    let url = format!("{}/operator/v1/{path}", network.base);
    network.http.request(method, url)
}

async fn told(request: RequestBuilder, status: u16) -> Value {
    let answer = request.send().await.unwrap();
    let (found, text) = (answer.status().as_u16(), answer.text().await.unwrap());
    assert_eq!(found, status, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn knock(network: &Network, key: &str) -> RequestBuilder {
    let knock = call(network, Method::POST, "session").header(HEADER, "1");
    knock.json(&json!({"key": key}))
}

/// Signs in, and gives what the browser sends from then on.
async fn cookie(network: &Network, key: &str) -> String {
    let answer = knock(network, key).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    for word in ["HttpOnly", "SameSite=Strict", "Max-Age=43200"] {
        assert!(cookie.contains(word), "{cookie}");
    }
    // Not encrypted, on this machine.
    assert!(
        !cookie.contains("Secure") && !cookie.contains("Path"),
        "{cookie}"
    );
    cookie.split(';').next().unwrap().to_owned()
}

fn calls() -> Vec<(Method, String)> {
    let node = "00".repeat(32);
    let get = |path: &str| (Method::GET, path.to_owned());
    let post = |path: &str| (Method::POST, path.to_owned());
    let delete = |path: &str| (Method::DELETE, path.to_owned());
    let mut all = [
        "session",
        "now",
        "history?span=hour",
        "attention",
        "requirements",
        "nodes",
        "jobs",
        "ledger",
        "ledger/postings?account=network",
        "ledger.csv",
        "models",
        "keys",
        "invitations",
        "log",
    ]
    .map(get)
    .to_vec();
    all.push(get(&format!("nodes/{node}")));
    all.push(get(&format!("jobs/{}", "00".repeat(16))));
    for act in ["appoint", "dismiss", "trust", "untrust", "ban", "unban"] {
        all.push(post(&format!("nodes/{node}/{act}")));
    }
    all.extend(["models/tiny/price", "keys", "invitations"].map(post));
    all.extend(["session", "models/tiny", "keys/ann", "invitations/1"].map(delete));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_told_or_done_without_an_operators_key() {
    let network = Network::start(patient()).await;
    let desk = Desk::open(&network).await;
    for (method, path) in calls() {
        let case = format!("{method} {path}");
        let bare = || call(&network, method.clone(), &path).header(HEADER, "1");
        assert_eq!(told(bare(), 401).await["code"], "signed_out", "{case}");
        let stale = bare().header("cookie", "infera_operator=00");
        assert_eq!(told(stale, 401).await["code"], "signed_out", "{case}");
        // A client's key opens nothing here, and an operator's nothing there.
        let client = bare().bearer_auth(&network.key);
        assert_eq!(told(client, 401).await["code"], "wrong_key", "{case}");
    }
    let models = network.http.get(format!("{}/v1/models", network.base));
    let models = models.bearer_auth(&desk.key).send().await.unwrap();
    assert_eq!(models.status(), 401);
    assert_eq!(desk.get("keys").await["keys"][0]["revoked_ms"], Value::Null);
    assert_eq!(
        desk.get("models").await["models"].as_array().unwrap().len(),
        1
    );
    assert!(
        desk.get("invitations").await["invitations"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_changes_things_from_this_page_only_and_ends_with_its_key() {
    let network = Network::start(patient()).await;
    let desk = Desk::open(&network).await;
    // Another site's form has no header of its own.
    let foreign = call(&network, Method::POST, "session").json(&json!({"key": desk.key}));
    assert_eq!(told(foreign, 403).await["code"], "not_from_here");
    let cookie = cookie(&network, &desk.key).await;
    let with = |method, path| call(&network, method, path).header("cookie", &cookie);
    assert_eq!(told(with(Method::GET, "session"), 200).await["name"], "eve");
    let new = json!({"name": "bob", "limit_points": 5});
    let foreign = with(Method::POST, "keys").json(&new);
    assert_eq!(told(foreign, 403).await["code"], "not_from_here");
    let own = with(Method::POST, "keys").header(HEADER, "1").json(&new);
    told(own, 200).await;
    let answer = with(Method::GET, "now").send().await.unwrap();
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert!(!answer.headers().contains_key("access-control-allow-origin"));

    let out = with(Method::DELETE, "session").header(HEADER, "1");
    assert_eq!(out.send().await.unwrap().status(), 204);
    assert_eq!(
        told(with(Method::GET, "now"), 401).await["code"],
        "signed_out"
    );

    let again = self::cookie(&network, &desk.key).await;
    let with = |path| call(&network, Method::GET, path).header("cookie", &again);
    told(with("now"), 200).await;
    revoke_operator_key(&network.database, "eve", 1)
        .await
        .unwrap();
    assert_eq!(told(with("now"), 401).await["code"], "signed_out");
    assert_eq!(
        told(knock(&network, &desk.key), 401).await["code"],
        "wrong_key"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_are_looked_at_ten_times_from_an_address() {
    let config = Config {
        proxy_header: Some("x-forwarded-for".to_owned()),
        ..patient()
    };
    let network = Network::start(config).await;
    let desk = Desk::open(&network).await;
    let from = |address: &str, key: &str| knock(&network, key).header("x-forwarded-for", address);
    for _ in 0..5 {
        told(from("192.0.2.1", "op-infera-wrong"), 401).await;
        let by_script = call(&network, Method::GET, "now").bearer_auth("nonsense");
        told(by_script.header("x-forwarded-for", "192.0.2.1"), 401).await;
    }
    let answer = from("192.0.2.1", &desk.key).send().await.unwrap();
    assert_eq!(answer.status(), 429);
    assert!(answer.headers().contains_key("retry-after"));
    let said: Value = answer.json().await.unwrap();
    assert_eq!(said["code"], "too_many_tries");
    assert!(said["message"].as_str().unwrap().contains("min"), "{said}");
    told(from("192.0.2.2", &desk.key), 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_to_a_node_holds_at_once_and_is_in_the_log() {
    let network = Network::start(patient()).await;
    let desk = Desk::open(&network).await;
    let node = SimNode::worker(&network, 1).await;
    node.tell(1, None).await;
    let id = key(1).id();
    let path = |act: &str| format!("nodes/{id}/{act}");
    let list = desk.get("nodes?here=true").await;
    assert_eq!(list["total"], 1, "{list}");
    assert_eq!(list["nodes"][0]["state"], "waiting", "{list}");
    assert_eq!(list["nodes"][0]["node"], id.to_string());
    assert!(list["nodes"][0]["hardware"]["cpu"].is_string(), "{list}");
    assert_eq!(desk.get("now").await["nodes"]["states"]["waiting"], 1);
    assert_eq!(
        desk.get(&format!("nodes?id={}", id.short())).await["total"],
        1
    );
    assert_eq!(desk.get("nodes?id=ffff").await["total"], 0);

    // Its session was another one's.
    assert_eq!(
        desk.post(&path("appoint"), &json!({})).await["reference"],
        true
    );
    assert_eq!(code(node.tell_free().await), RefusalCode::NoSession);
    assert_eq!(desk.post(&path("trust"), &json!({})).await["trusted"], true);
    let dismissed = desk.post(&path("dismiss"), &json!({})).await;
    assert_eq!(
        (&dismissed["reference"], &dismissed["trusted"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(
        desk.post(&path("untrust"), &json!({})).await["trusted"],
        false
    );

    for (order, fault) in [
        (json!({}), "bad_reason"),
        (json!({"reason": "  "}), "bad_reason"),
        (json!({"reason": "x".repeat(301)}), "bad_reason"),
        (json!({"reason": "two\nlines"}), "bad_reason"),
        (json!({"reason": "late", "until_ms": 1}), "in_the_past"),
        (json!({"reason": "odd", "until": 1}), "malformed"),
    ] {
        assert_eq!(
            desk.refused(&path("ban"), &order, 400).await,
            fault,
            "{order}"
        );
    }
    let node = SimNode::worker(&network, 1).await;
    let banned = desk
        .post(&path("ban"), &json!({"reason": "sends nonsense"}))
        .await;
    assert_eq!(
        (&banned["state"], &banned["ban"]["reason"]),
        (&json!("banned"), &json!("sends nonsense"))
    );
    assert_eq!(code(node.tell_free().await), RefusalCode::NoSession);
    let kept_out = open_session(&network.http, &network.base, &key(1), hardware()).await;
    let kept_out = kept_out.unwrap_err();
    assert_eq!(kept_out.code, RefusalCode::NotEligible);
    assert!(kept_out.message.contains("sends nonsense"), "{kept_out:?}");
    desk.post(&path("unban"), &json!({})).await;
    SimNode::worker(&network, 1).await;

    let log = desk.get("log").await;
    let acts: Vec<_> = log["acts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|act| {
            assert_eq!(
                act["who"],
                if act["act"] == "create_operator_key" {
                    Value::Null
                } else {
                    json!("eve")
                }
            );
            act["act"].as_str().unwrap()
        })
        .collect();
    assert_eq!(
        acts,
        [
            "unban",
            "ban",
            "untrust",
            "dismiss",
            "trust",
            "appoint",
            "create_operator_key",
        ]
    );
    assert_eq!(log["acts"][1]["detail"], "sends nonsense");
    let page = desk.get("log?limit=2").await;
    assert_eq!(page["acts"].as_array().unwrap().len(), 2);
    let next = desk
        .get(&format!("log?limit=2&before={}", page["next"]))
        .await;
    assert_eq!(next["acts"][0]["act"], "untrust");
    told(desk.call(Method::GET, "nodes/00"), 404).await;
    told(desk.call(Method::GET, "nodes?id=xyz"), 400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_holds_what_clients_wrote_or_were_answered() {
    let network = Network::start(patient()).await;
    let desk = Desk::open(&network).await;
    let worker = SimNode::worker(&network, 1).await;
    worker.spawn_worker(Work::honest);
    for number in [2, 3] {
        SimNode::reference(&network, number).await.spawn_reference();
    }
    let question = json!({
        "messages": [{"role": "user", "content": MARKED[0]}],
        "stop": [MARKED[1]],
        "infera": {"wait": true, "keep": true},
    });
    let (status, answer) = network.chat(&question).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.len() > 20, "{answer}");
    let job = answer["infera"]["job_id"].as_str().unwrap();
    network.settled(job).await;
    let jobs = desk.get("jobs").await;
    assert_eq!(jobs["jobs"][0]["id"], job, "{jobs}");
    let mut paths: Vec<_> = calls()
        .into_iter()
        .filter(|(method, path)| *method == Method::GET && !path.contains("/00"))
        .map(|(_, path)| path)
        .collect();
    paths.push(format!("jobs/{job}"));
    paths.push(format!("nodes/{}", key(1).id()));
    for path in paths {
        let told = desk.call(Method::GET, &path).send().await.unwrap();
        assert_eq!(told.status(), 200, "{path}");
        let told = told.text().await.unwrap();
        for word in [MARKED[0], MARKED[1], text] {
            assert!(!told.contains(word), "{path}: {told}");
        }
    }

    let receipt = desk.get(&format!("jobs/{job}")).await;
    assert_eq!(
        (&receipt["verdict"], &receipt["client"]),
        (&json!("verified"), &json!("ann"))
    );
    assert!(receipt.get("task").is_none(), "{receipt}");
    assert_eq!(receipt["references"].as_array().unwrap().len(), 2);
    for (filter, found) in [
        ("state=done", 1),
        ("state=running", 0),
        ("client=ann", 1),
        ("client=bob", 0),
        ("model=none", 0),
        (&format!("node={}", key(1).id()), 1),
        (&format!("node={}", key(3).id()), 1),
        (&format!("node={}", key(4).id()), 0),
    ] {
        let jobs = desk.get(&format!("jobs?{filter}")).await;
        assert_eq!(jobs["jobs"].as_array().unwrap().len(), found, "{filter}");
    }
    let page = desk.get("jobs?limit=1").await;
    let rest = desk
        .get(&format!("jobs?limit=1&before={}", page["next"]))
        .await;
    assert_eq!(rest["jobs"], json!([]));

    let now = desk.get("now").await;
    assert!(now["tokens_per_second"].as_f64().unwrap() > 0.0, "{now}");
    assert_eq!(now["first_token"]["count"], 1, "{now}");
    assert_eq!(now["models"][0]["references"], 2, "{now}");
    let ledger = desk.get("ledger").await;
    assert_eq!(ledger["sum"], 0);
    let known = network.balances().await;
    assert_eq!(ledger["accounts"].as_array().unwrap().len(), known.len());
    assert_eq!(
        desk.get("ledger?begins=client:").await["accounts"][0]["account"],
        "client:ann"
    );
    let postings = desk.get("ledger/postings?account=client:ann&limit=1").await;
    assert_eq!(postings["postings"].as_array().unwrap().len(), 1);
    let csv = desk
        .call(Method::GET, "ledger.csv")
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!(lines[0], "id,time_ms,entry,account,micro_points");
    let amount = |line: &&str| line.rsplit(',').next().unwrap().parse::<i64>().unwrap();
    assert_eq!(lines[1..].iter().map(amount).sum::<i64>(), 0);
    let keys = desk.get("keys").await;
    assert_eq!(
        keys["keys"][0]["spent_micro"], -known["client:ann"],
        "{keys}"
    );
    assert!(keys["keys"][0]["last_used_ms"].is_i64(), "{keys}");
}

#[tokio::test(flavor = "multi_thread")]
async fn prices_keys_and_invitations_are_made_and_taken_back() {
    let config = Config {
        address: Some("http://127.0.0.1:1".to_owned()),
        ..patient()
    };
    let network = Network::start(config).await;
    let desk = Desk::open(&network).await;
    let model = desk.get("models").await["models"][0]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("models/{model}/price");
    desk.post(&path, &json!({"input": 7, "output": 9})).await;
    let price = &desk.get("models").await["models"][0]["price"];
    assert_eq!(*price, json!({"input": 7, "output": 9}));
    for wrong in [
        json!({"input": -1, "output": 1}),
        json!({"input": 1_000_001, "output": 1}),
    ] {
        assert_eq!(desk.refused(&path, &wrong, 400).await, "bad_price");
    }
    let none = json!({"input": 1, "output": 1});
    assert_eq!(
        desk.refused("models/none/price", &none, 404).await,
        "unknown"
    );

    let bob = json!({"name": "bob", "limit_points": 5});
    let made = desk.post("keys", &bob).await;
    let models = network.http.get(format!("{}/v1/models", network.base));
    let bobs = made["key"].as_str().unwrap().to_owned();
    let ask = || models.try_clone().unwrap().bearer_auth(&bobs).send();
    assert_eq!(ask().await.unwrap().status(), 200);
    assert_eq!(desk.refused("keys", &bob, 409).await, "name_taken");
    let odd = json!({"name": "b b", "limit_points": 5});
    assert_eq!(desk.refused("keys", &odd, 400).await, "bad_name");
    assert_eq!(desk.get("keys").await["keys"][0]["limit_micro"], 5_000_000);
    desk.delete("keys/bob").await;
    assert_eq!(ask().await.unwrap().status(), 401);
    told(desk.call(Method::DELETE, "keys/bob"), 404).await;

    let order = json!({"label": "lab", "reference": true, "uses": 2, "life_ms": 60_000});
    let made = desk.post("invitations", &order).await;
    assert!(
        made["link"].as_str().unwrap().starts_with("infera://join"),
        "{made}"
    );
    assert!(made["code"].as_array().unwrap().len() > 20);
    let rows = desk.get("invitations").await;
    let row = &rows["invitations"][0];
    assert_eq!(
        (&row["label"], &row["usable"], &row["reference"]),
        (&json!("lab"), &json!(true), &json!(true))
    );
    for wrong in [
        json!({"uses": 0}),
        json!({"life_ms": 0}),
        json!({"label": "x".repeat(65)}),
    ] {
        desk.refused("invitations", &wrong, 400).await;
    }
    desk.delete(&format!("invitations/{}", made["id"])).await;
    assert_eq!(
        desk.get("invitations").await["invitations"][0]["usable"],
        false
    );

    desk.delete(&format!("models/{model}")).await;
    assert_eq!(desk.get("models").await["models"], json!([]));
    let attention = desk.get("attention").await;
    assert_eq!(attention["concerns"][0]["kind"], "no_models", "{attention}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_somebody_is_told_with_what_is_known_of_it() {
    let network = Network::start(patient()).await;
    let desk = Desk::open(&network).await;
    network.key("poor", Some(0)).await;
    let kinds = async || {
        let told = desk.get("attention").await;
        let concerns = told["concerns"].as_array().unwrap().clone();
        let kind = |concern: &Value| concern["kind"].as_str().unwrap().to_owned();
        concerns.iter().map(kind).collect::<Vec<_>>()
    };
    assert_eq!(
        kinds().await,
        ["unserved_model", "few_references", "key_limit"]
    );
    let worker = SimNode::worker(&network, 1).await;
    worker.tell(1, None).await;
    let references = [
        SimNode::reference(&network, 2).await,
        SimNode::reference(&network, 3).await,
    ];
    for reference in &references {
        reference.tell(1, None).await;
    }
    until("only the key to be left", async || {
        (kinds().await == ["key_limit"]).then_some(())
    })
    .await;
    let asks = desk.get("requirements").await;
    assert_eq!(asks["references_needed"], 2, "{asks}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_checked_nobody_is_appointed() {
    let config = Config {
        checking: Checking::None,
        ..patient()
    };
    let network = Network::start(config).await;
    let desk = Desk::open(&network).await;
    let path = format!("nodes/{}/appoint", key(1).id());
    assert_eq!(
        desk.refused(&path, &json!({}), 409).await,
        "nothing_to_check"
    );
    let order = json!({"reference": true});
    assert_eq!(
        desk.refused("invitations", &order, 409).await,
        "nothing_to_check"
    );
    assert_eq!(
        desk.refused("invitations", &json!({}), 409).await,
        "no_address"
    );
}
