//! Accounts over real HTTP: whose a node is, what its points buy, and where a request may go.

use infera_balancer::{Edges, Standing};
use infera_protocol::account::{
    DeviceReport, FleetAction, FleetCommand, LinkGrant, Linked, Machine, MachineReport, Statement,
};
use infera_protocol::node_api::{NodeEvent, NodeState, RefusalCode, VerdictStatus};
use infera_protocol::{LinkCode, LinkId, Route};
use infera_testing::{
    Network, SimAccount, SimNode, Work, chat_body, code, hardware, model_id, patient, read_stream,
    until,
};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

fn now_ms() -> i64 {
    Edges::system().now_ms()
}

/// A chat by a key, in the background.
fn chat(network: &Network, key: &str, extra: &Value) -> JoinHandle<(u16, Value)> {
    let request = asked(&network.http, network, key, extra);
    tokio::spawn(async move {
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap())
    })
}

fn asked(http: &Client, network: &Network, key: &str, extra: &Value) -> RequestBuilder {
    http.post(format!("{}/v1/chat/completions", network.base))
        .bearer_auth(key)
        .json(&chat_body(extra))
}

/// Asks, and gives the code and the sentence of the error that must come.
async fn refused(network: &Network, key: &str, extra: &Value) -> (u16, String, String) {
    let (status, body) = chat(network, key, extra).await.unwrap();
    let error = &body["error"];
    let text = |field: &str| error[field].as_str().unwrap_or_default().to_owned();
    (status, text("code"), text("message"))
}

async fn receipt(network: &Network, key: &str, answer: &Value) -> Value {
    let job = answer["infera"]["job_id"].as_str().unwrap();
    until("the job to be settled", async || {
        let asked = network
            .http
            .get(format!("{}/v1/jobs/{job}/receipt", network.base))
            .bearer_auth(key);
        let receipt: Value = asked.send().await.unwrap().json().await.unwrap();
        (receipt["state"] == "done").then_some(receipt)
    })
    .await
}

/// An account whose node has earned points by a verified job.
async fn earned(network: &Network) -> (SimAccount, SimNode, i64) {
    network.references().await;
    let account = SimAccount::open(network, 1).await;
    let mut node = SimNode::worker(network, 1).await;
    account.link(&node).await.unwrap();
    let answer = network.chat(&json!({}));
    let mut work = node.take().await;
    node.write_all(&mut work).await.unwrap();
    let (_, answer) = answer.await.unwrap();
    network
        .settled(answer["infera"]["job_id"].as_str().unwrap())
        .await;
    node.tell_free().await.unwrap();
    let overview = account.overview().await;
    assert!(overview.earned > 0);
    assert_eq!((overview.balance, overview.spent), (overview.earned, 0));
    (account, node, overview.earned)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_becomes_an_accounts_by_a_linkingand_nobody_elses() {
    let network = Network::start(patient()).await;
    let account = SimAccount::open(&network, 1).await;
    let first = SimNode::worker(&network, 1).await;
    let second = SimNode::worker(&network, 2).await;
    let third = SimNode::worker(&network, 3).await;
    let linking = SimAccount::code();
    let grant = linking.grant(&account.key, 1, now_ms() + 60_000);
    // An account without a node here keeps nothing here.
    let put = account
        .call::<()>(Method::POST, "links", Some(&grant))
        .await;
    assert_eq!(code(put), RefusalCode::NoAccount);
    assert_eq!(
        code(account.create_key("x", None, Route::Any).await),
        RefusalCode::NoAccount
    );
    account.link(&first).await.unwrap();
    account
        .call::<()>(Method::POST, "links", Some(&grant))
        .await
        .unwrap();
    // The second machine types the code.
    let typed: LinkCode = linking.to_string().to_lowercase().parse().unwrap();
    let found = async |node: &SimNode, link: LinkId| {
        node.get::<LinkGrant>(&format!("/node/v1/links/{link}"))
            .await
    };
    let granted = found(&second, typed.id()).await.unwrap();
    assert_eq!(granted, grant);
    assert_eq!(
        code(found(&second, SimAccount::code().id()).await),
        RefusalCode::LinkUnknown
    );
    let ownership = typed.ownership(granted, second.id);
    for _ in 0..2 {
        let linked: Linked = second.post("/node/v1/account", &ownership).await.unwrap();
        assert_eq!(linked.account, account.key.id());
    }
    let used_up: Result<Linked, _> = third
        .post("/node/v1/account", &typed.ownership(granted, third.id))
        .await;
    assert_eq!(code(used_up), RefusalCode::LinkUsedUp);
    let others: Result<Linked, _> = third.post("/node/v1/account", &ownership).await;
    assert_eq!(code(others), RefusalCode::NotYours);
    let expired = linking.ownership(linking.grant(&account.key, 5, now_ms()), third.id);
    let forged = SimAccount::code().ownership(granted, third.id);
    for bad in [expired, forged] {
        let refused: Result<Linked, _> = third.post("/node/v1/account", &bad).await;
        assert_eq!(code(refused), RefusalCode::BadOwnership);
    }
    let machines: Vec<Machine> = account.get("fleet").await.unwrap();
    let ids: Vec<_> = machines.iter().map(|machine| machine.node).collect();
    assert_eq!(ids, [first.id, second.id]);
    // Either side ends it.
    let path = format!("fleet/{}", second.id);
    for expected in [None, Some(RefusalCode::NoSuch)] {
        let dropped = account.call::<()>(Method::DELETE, &path, None::<&()>).await;
        assert_eq!(dropped.err().map(|refusal| refusal.code), expected);
    }
    assert_eq!(account.overview().await.nodes, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_are_bounded_and_an_account_makes_them_for_itself_only() {
    let network = Network::start(patient()).await;
    let account = SimAccount::open(&network, 1).await;
    let node = SimNode::worker(&network, 1).await;
    account.link(&node).await.unwrap();
    let put = async |grant: LinkGrant| {
        account
            .call::<()>(Method::POST, "links", Some(&grant))
            .await
            .err()
            .map(|refusal| refusal.code)
    };
    let other = SimAccount::open(&network, 2).await;
    let stolen = SimAccount::code().grant(&other.key, 1, now_ms() + 60_000);
    assert_eq!(put(stolen).await, Some(RefusalCode::NotYours));
    let too_long = SimAccount::code().grant(&account.key, 1, now_ms() + 8 * 24 * 3_600_000);
    assert_eq!(put(too_long).await, Some(RefusalCode::Malformed));
    let over = SimAccount::code().grant(&account.key, 1, now_ms() - 1);
    assert_eq!(put(over).await, Some(RefusalCode::BadOwnership));
    let grant = || SimAccount::code().grant(&account.key, 1, now_ms() + 60_000);
    for _ in 0..16 {
        assert_eq!(put(grant()).await, None);
    }
    assert_eq!(put(grant()).await, Some(RefusalCode::AccountFull));
    for number in 0..32 {
        let name = format!("key-{number}");
        account.create_key(&name, None, Route::Any).await.unwrap();
    }
    let one_more = account.create_key("more", None, Route::Any).await;
    assert_eq!(code(one_more), RefusalCode::AccountFull);
}

/// The same account from a backup on a second machine: both work, and see the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_on_two_machines_at_once_is_one_account() {
    let network = Network::start(patient()).await;
    let node = SimNode::worker(&network, 1).await;
    let one = SimAccount::open(&network, 1).await;
    one.link(&node).await.unwrap();
    let two = SimAccount::open(&network, 1).await;
    two.create_key("laptop", None, Route::Any).await.unwrap();
    let taken = one.create_key("laptop", None, Route::Own).await;
    assert_eq!(code(taken), RefusalCode::NameTaken);
    assert_eq!(one.keys().await, two.keys().await);
    let stranger = SimAccount::open(&network, 2).await;
    assert_eq!(stranger.keys().await, []);
    // A token of another run or of nobody is none.
    for token in ["", "x", &format!("{}.9.{}", one.key.id(), "0".repeat(64))] {
        let asked = network
            .http
            .get(format!("{}/account/v1/keys", network.base))
            .bearer_auth(token);
        assert_eq!(asked.send().await.unwrap().status(), 401, "{token}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_earned_is_spent_by_its_accounts_keys_to_the_micro_point() {
    let network = Network::start(patient()).await;
    let (account, mine, earned) = earned(&network).await;
    let key = account
        .create_key("laptop", None, Route::Any)
        .await
        .unwrap();
    // Another's node takes it, while one's own is busy.
    mine.tell(0, None).await;
    let mut other = SimNode::worker(&network, 2).await;
    let answer = chat(&network, &key, &json!({"max_tokens": 8}));
    let mut work = other.take().await;
    assert!(
        account.overview().await.spent > 0,
        "what may be spent is set aside"
    );
    other.write_all(&mut work).await.unwrap();
    let (status, answer) = answer.await.unwrap();
    assert_eq!(status, 200);
    let receipt = receipt(&network, &key, &answer).await;
    assert_eq!(receipt["attempts"][0]["host"], "other");
    let cost = receipt["cost"].as_i64().unwrap();
    assert!(cost > 0);
    let overview = account.overview().await;
    assert_eq!((overview.earned, overview.spent), (earned, cost));
    assert_eq!(overview.balance, earned - cost);
    let balances = network.balances().await;
    let of_key = format!("client:{}/laptop", account.key.id());
    assert_eq!(balances[&of_key], -cost, "the statement is the books'");
    let statement: Statement = account.get("statement?days=1").await.unwrap();
    let line = &statement.spent[0];
    assert_eq!(statement.spent.len(), 1);
    assert_eq!((&*line.key, &*line.model), ("laptop", "tiny"));
    assert_eq!((line.micro, line.requests), (cost, 1));
    let keys = account.keys().await;
    assert_eq!((keys[0].spent, keys[0].spent_today), (cost, cost));
    // More than is left is refused at once, with what is there.
    let (status, what, message) = refused(&network, &key, &json!({"max_tokens": 450})).await;
    assert_eq!((status, &*what), (429, "insufficient_quota"), "{message}");
    assert!(message.contains("Your account has"), "{message}");
    // A revoked key spends nothing more.
    account
        .call::<()>(Method::DELETE, "keys/laptop", None::<&()>)
        .await
        .unwrap();
    assert_eq!(refused(&network, &key, &json!({})).await.0, 401);
    let again = account
        .call::<()>(Method::DELETE, "keys/laptop", None::<&()>)
        .await;
    assert_eq!(code(again), RefusalCode::NoSuch);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_reaches_its_limit_finishes_what_it_began() {
    let network = Network::start(patient()).await;
    let (account, mine, _) = earned(&network).await;
    mine.tell(0, None).await;
    // Enough for one answer of 8 tokens, and not for two.
    let limit = 8 * 10 + 3 * 30;
    let key = account
        .create_key("small", Some(limit), Route::Any)
        .await
        .unwrap();
    let body = json!({"max_tokens": 8, "stream": true});
    let mut other = SimNode::worker(&network, 2).await;
    let request = asked(&network.http, &network, &key, &body);
    let stream = tokio::spawn(async move { read_stream(request.send().await.unwrap()).await });
    let mut work = other.take().await;
    other.write(&mut work, 2).await.unwrap();
    let (status, what, message) = refused(&network, &key, &json!({"max_tokens": 8})).await;
    assert_eq!((status, &*what), (429, "insufficient_quota"), "{message}");
    assert!(message.contains("a day"), "{message}");
    other.write_all(&mut work).await.unwrap();
    let streamed = stream.await.unwrap();
    assert!(streamed.done, "it came to its end");
    // What alone is beyond the limit says so.
    let (status, ..) = refused(&network, &key, &json!({"max_tokens": 1000})).await;
    assert_eq!(status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn ones_own_requests_on_ones_own_nodes_are_free_and_seen_by_nobody_else() {
    let network = Network::start(patient()).await;
    let account = SimAccount::open(&network, 1).await;
    let mut mine = SimNode::join(&network, 1, 4, hardware()).await;
    account.link(&mine).await.unwrap();
    network.references().await;
    let mut other = SimNode::worker(&network, 2).await;
    // It has earned nothing, and asks all the same.
    let key = account.create_key("lab", None, Route::Own).await.unwrap();
    let first = chat(&network, &key, &json!({}));
    // A new node of its owner's takes more than one at once.
    let mut work = mine.take().await;
    mine.tell(3, None).await;
    let second = chat(&network, &key, &json!({}));
    let mut more = mine.take().await;
    mine.write_all(&mut work).await.unwrap();
    mine.write_all(&mut more).await.unwrap();
    for answer in [first, second] {
        let (status, answer) = answer.await.unwrap();
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["infera"]["verdict"], "not_checked");
        let receipt = receipt(&network, &key, &answer).await;
        assert_eq!(receipt["route"], "own");
        assert_eq!(receipt["cost"], 0);
        assert_eq!(receipt["attempts"][0]["host"], "own");
        assert_eq!(receipt["references"], json!([]));
        assert_eq!(receipt["postings"], json!([]));
    }
    assert!(
        network
            .balances()
            .await
            .values()
            .all(|balance| *balance == 0)
    );
    // Nobody else was offered it: what the other gets first is somebody else's.
    mine.tell(0, Some("by the user")).await;
    let (status, _, message) = refused(&network, &key, &json!({})).await;
    assert_eq!(status, 503, "{message}");
    let next = network.chat(&json!({"max_tokens": 5}));
    assert_eq!(other.offer().await.max_tokens, 5);
    next.abort();
    // A key for one's own machines is safe whatever is asked with it.
    for route in ["trusted", "any"] {
        let (status, _, message) =
            refused(&network, &key, &json!({"infera": {"route": route}})).await;
        assert_eq!(status, 400);
        assert!(message.contains("own nodes at most"), "{message}");
    }
    let (status, _, message) =
        refused(&network, &network.key, &json!({"infera": {"route": "own"}})).await;
    assert_eq!(status, 400);
    assert!(message.contains("no account"), "{message}");
    let statement: Statement = account.get("statement").await.unwrap();
    assert_eq!(
        (statement.spent[0].requests, statement.spent[0].micro),
        (2, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ones_own_nodes_are_asked_first_and_cost_nothing_when_they_do_it_all() {
    let network = Network::start(patient()).await;
    let (account, mut mine, earned) = earned(&network).await;
    let key = account.create_key("desk", None, Route::Any).await.unwrap();
    let other = SimNode::worker(&network, 2).await;
    other.spawn_worker(Work::honest);
    let answer = chat(&network, &key, &json!({"max_tokens": 8}));
    let mut work = mine.take().await;
    mine.write_all(&mut work).await.unwrap();
    let (status, answer) = answer.await.unwrap();
    assert_eq!(status, 200);
    let receipt = receipt(&network, &key, &answer).await;
    assert_eq!(receipt["verdict"], "not_checked");
    assert_eq!(
        (&receipt["route"], &receipt["cost"]),
        (&json!("any"), &json!(0))
    );
    let overview = account.overview().await;
    assert_eq!((overview.earned, overview.spent), (earned, 0));
    let record = mine.history().await.remove(0);
    assert_eq!(
        (record.verdict, record.points),
        (VerdictStatus::NotChecked, 0)
    );
    assert_eq!(network.balances().await["escrow"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_trusted_nodes_goes_to_no_other_and_is_paid() {
    let network = Network::start(patient()).await;
    network.references().await;
    let trusted = infera_testing::key(1).id();
    let standing = Standing {
        trusted: true,
        reference: false,
    };
    infera_balancer::trust(&network.database, trusted, standing)
        .await
        .unwrap();
    let body = json!({"infera": {"route": "trusted"}});
    let mut other = SimNode::worker(&network, 2).await;
    let (status, _, message) = refused(&network, &network.key, &body).await;
    assert_eq!(status, 503);
    assert!(message.contains("operator trusts"), "{message}");
    let mut node = SimNode::worker(&network, 1).await;
    let answer = network.chat(&body);
    let mut work = node.take().await;
    node.write_all(&mut work).await.unwrap();
    let (status, answer) = answer.await.unwrap();
    assert_eq!(status, 200);
    let receipt = receipt(&network, &network.key, &answer).await;
    assert_eq!(receipt["verdict"], "not_checked");
    assert_eq!(receipt["attempts"][0]["host"], "trusted");
    assert_eq!(receipt["references"], json!([]), "no reference has seen it");
    assert!(node.points().await.confirmed > 0);
    // The other was offered none of it: what comes first is the next one.
    node.tell(0, Some("by the user")).await;
    let next = network.chat(&json!({"max_tokens": 5}));
    assert_eq!(other.offer().await.max_tokens, 5);
    next.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sold_machines_points_stay_with_whom_they_were_earned_for() {
    let network = Network::start(patient()).await;
    let (seller, node, earned) = earned(&network).await;
    let buyer = SimAccount::open(&network, 2).await;
    buyer.link(&node).await.unwrap();
    let overview = seller.overview().await;
    assert_eq!((overview.balance, overview.nodes), (earned, 0));
    let overview = buyer.overview().await;
    assert_eq!((overview.balance, overview.nodes), (0, 1));
    // Back and forth moves nothing twice.
    seller.link(&node).await.unwrap();
    let left: Result<(), _> = node.call::<()>(Method::DELETE, "/node/v1/account").await;
    left.unwrap();
    assert_eq!(seller.overview().await.balance, earned);
    assert_eq!(buyer.overview().await.balance, 0);
    network.balances().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accounts_machines_tell_it_how_they_are_and_are_told_what_it_signed() {
    let network = Network::start(patient()).await;
    let account = SimAccount::open(&network, 1).await;
    let stranger = SimAccount::open(&network, 2).await;
    let mut node = SimNode::worker(&network, 1).await;
    let others = SimNode::worker(&network, 2).await;
    account.link(&node).await.unwrap();
    stranger.link(&others).await.unwrap();
    let report = MachineReport {
        name: "rack 3".to_owned(),
        software: "infera 1".to_owned(),
        takes_commands: true,
        devices: vec![DeviceReport {
            name: "GPU".to_owned(),
            paused: None,
            tokens_per_second: 12.5,
        }],
    };
    let state = NodeState {
        models: vec![model_id()],
        context_tokens: Vec::new(),
        free_slots: 1,
        paused: None,
        hardware: hardware(),
        report: Some(report.clone()),
    };
    node.tell_state(&state).await.unwrap();
    let machines: Vec<Machine> = account.get("fleet").await.unwrap();
    assert_eq!(machines.len(), 1);
    assert!(machines[0].here && machines[0].paused.is_none());
    assert_eq!(machines[0].report, Some(report));
    let seen: Vec<Machine> = stranger.get("fleet").await.unwrap();
    assert_eq!(seen[0].node, others.id, "nobody else is shown it");
    let command = FleetCommand::new(&account.key, node.id, now_ms(), FleetAction::Pause);
    let path = format!("fleet/{}/command", node.id);
    let send = async |from: &SimAccount, command: &FleetCommand| {
        from.call::<()>(Method::POST, &path, Some(command))
            .await
            .err()
            .map(|refusal| refusal.code)
    };
    assert_eq!(send(&account, &command).await, None);
    let told = node
        .event_where(|event| matches!(event, NodeEvent::Command(_)))
        .await;
    assert_eq!(told, NodeEvent::Command(command));
    // A stranger, and a command of his own for it, go nowhere.
    let forged = FleetCommand::new(&stranger.key, node.id, now_ms(), FleetAction::Resume);
    for (from, command) in [
        (&stranger, &command),
        (&stranger, &forged),
        (&account, &forged),
    ] {
        assert_eq!(send(from, command).await, Some(RefusalCode::NoSuch));
    }
    node.stream.abort();
    until("the node to be gone", async || {
        let refused = send(&account, &command).await;
        (refused == Some(RefusalCode::Unavailable)).then_some(())
    })
    .await;
}
