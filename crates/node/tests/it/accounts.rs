//! Accounts: how a machine becomes one's, what it does of what it is told from afar, and what an
//! account asks, against balancers that are honest and others that are not.

use std::sync::{Arc, Mutex};

use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use infera_node::account::linking::{self, LinkFault};
use infera_node::account::{Belonging, CommandOutcome};
use infera_node::app::api::AppState;
use infera_node::clock::Clock;
use infera_node::state::NodeSnapshot;
use infera_protocol::account::{
    AccountChallengeRequest, AccountSession, AccountSessionRequest, FleetAction, KeyRequest,
    LinkGrant, Machine, NewKey, Overview, account_session_digest,
};
use infera_protocol::node_api::{
    Challenge, Network, NodeEvent, Points, Refusal as Refused, RefusalCode,
};
use infera_protocol::requirements::Policy;
use infera_protocol::{AccountKey, FleetCommand, Hash, LinkCode, NodeId};
use serde_json::json;

use crate::app::Running;
use crate::fakes::{CountingEntropy, Rig, node_id};
use crate::http::serve;

fn account(number: u8) -> AccountKey {
    AccountKey::from_secret(&[number; 32])
}

fn code(number: u8) -> LinkCode {
    LinkCode::from_bytes([number; LinkCode::BYTES])
}

impl Rig {
    /// The node is account 1's.
    async fn owned(takes_commands: bool) -> Self {
        let rig = Self::ready().await;
        rig.belongs(takes_commands);
        rig
    }

    fn belongs(&self, takes_commands: bool) {
        self.belonging.send_replace(Belonging {
            account: Some(account(1).id()),
            takes_commands,
            name: "attic".to_owned(),
        });
    }

    fn command(&self, by: &AccountKey, action: FleetAction) -> FleetCommand {
        FleetCommand::new(by, node_id(), self.clock.now_ms(), action)
    }

    /// Sends a command, and gives what the node made of it.
    async fn told(&self, command: FleetCommand) -> (CommandOutcome, NodeSnapshot) {
        let snapshots = self.node.snapshots();
        let before = snapshots.borrow().command.clone();
        // Each is seen at another time.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        self.balancer.send(NodeEvent::Command(command));
        self.until("the command is seen", || {
            snapshots.borrow().command != before
        })
        .await;
        let snapshot = self.node.snapshot().await.unwrap();
        (snapshot.command.clone().unwrap().outcome, snapshot)
    }
}

#[tokio::test]
async fn a_node_does_what_its_account_signed() {
    let rig = Rig::owned(true).await;
    let (outcome, snapshot) = rig.told(rig.command(&account(1), FleetAction::Pause)).await;
    assert_eq!(outcome, CommandOutcome::Done);
    assert_eq!(snapshot.state.sentence, "Paused by you");
    let until_ms = rig.clock.now_ms() + 3_600_000;
    let snooze = rig.command(&account(1), FleetAction::Snooze { until_ms });
    let (outcome, snapshot) = rig.told(snooze).await;
    assert_eq!(outcome, CommandOutcome::Done);
    assert!(
        snapshot.state.sentence.starts_with("Paused by you until"),
        "{}",
        snapshot.state.sentence
    );
    let (outcome, _) = rig
        .told(rig.command(&account(1), FleetAction::Resume))
        .await;
    assert_eq!(outcome, CommandOutcome::Done);
    rig.until_ready().await;
}

#[tokio::test]
async fn nobody_else_commands_a_node_the_balancer_included() {
    let rig = Rig::owned(true).await;
    let good = rig.command(&account(1), FleetAction::Pause);
    let elsewhere = FleetCommand::new(
        &account(1),
        NodeId::from_bytes([9; 32]),
        rig.clock.now_ms(),
        FleetAction::Pause,
    );
    let renamed = FleetCommand {
        account: account(1).id(),
        ..rig.command(&account(2), FleetAction::Pause)
    };
    let other_action = FleetCommand {
        action: FleetAction::Resume,
        ..good
    };
    for forged in [
        rig.command(&account(2), FleetAction::Pause),
        elsewhere,
        renamed,
        other_action,
    ] {
        let (outcome, snapshot) = rig.told(forged).await;
        assert_eq!(outcome, CommandOutcome::Forged);
        assert!(!snapshot.state.sentence.contains("Paused"));
    }
    let old = FleetCommand::new(
        &account(1),
        node_id(),
        rig.clock.now_ms() - 121_000,
        FleetAction::Pause,
    );
    let (outcome, snapshot) = rig.told(old).await;
    assert_eq!(outcome, CommandOutcome::Stale);
    assert!(!snapshot.state.sentence.contains("Paused"));
}

#[tokio::test]
async fn a_command_that_was_not_allowed_is_not_done_later_either() {
    let rig = Rig::owned(false).await;
    let command = rig.command(&account(1), FleetAction::Pause);
    let (outcome, snapshot) = rig.told(command).await;
    assert_eq!(outcome, CommandOutcome::NotAllowed);
    assert!(!snapshot.state.sentence.contains("Paused"));
    rig.belongs(true);
    let (outcome, snapshot) = rig.told(command).await;
    assert_eq!(outcome, CommandOutcome::Replayed);
    assert!(!snapshot.state.sentence.contains("Paused"));
}

#[tokio::test]
async fn a_command_is_not_done_again_after_a_restart() {
    let rig = Rig::owned(true).await;
    let pause = rig.command(&account(1), FleetAction::Pause);
    assert_eq!(rig.told(pause).await.0, CommandOutcome::Done);
    rig.node.resume().await.unwrap();
    rig.until_ready().await;
    let rig = rig.crash_and_restart().await;
    rig.belongs(true);
    rig.until_ready().await;
    let (outcome, snapshot) = rig.told(pause).await;
    assert_eq!(outcome, CommandOutcome::Replayed);
    assert!(!snapshot.state.sentence.contains("Paused"));
}

#[tokio::test]
async fn a_node_of_no_account_tells_nothing_of_itself_and_hears_no_command() {
    let rig = Rig::ready().await;
    let last = || rig.balancer.books().states.last().unwrap().report.clone();
    assert_eq!(last(), None);
    rig.balancer.send(NodeEvent::Command(
        rig.command(&account(1), FleetAction::Pause),
    ));
    rig.after(std::time::Duration::from_secs(1)).await;
    assert_eq!(rig.node.snapshot().await.unwrap().command, None);
    rig.belongs(false);
    rig.until("the report is there", || last().is_some()).await;
    let report = last().unwrap();
    assert_eq!((&*report.name, report.takes_commands), ("attic", false));
    assert_eq!(report.devices.len(), 1);
}

#[tokio::test]
async fn a_machine_becomes_the_accounts_whose_code_was_typed() {
    let rig = Rig::ready().await;
    let now_ms = rig.clock.now_ms();
    let grant = code(1).grant(&account(1), 1, now_ms + 60_000);
    rig.balancer.books().grants.insert(code(1).id(), grant);
    let linked = linking::by_code(&rig.node, &code(1), now_ms).await;
    assert_eq!(linked, Ok(account(1).id()));
    let ownership = rig.balancer.books().ownerships[0];
    assert_eq!(ownership.check(now_ms), Ok(()));
    assert_eq!(rig.balancer.books().owner, Some(account(1).id()));
}

#[tokio::test]
async fn a_balancer_cannot_put_its_own_account_in() {
    let rig = Rig::ready().await;
    let now_ms = rig.clock.now_ms();
    let later = now_ms + 60_000;
    let own = code(2).grant(&account(2), 1, later);
    // With the name of the person's code on it, or as it is, or with a signature of theirs.
    let relabelled = LinkGrant {
        link: code(1).id(),
        ..own
    };
    let mixed = LinkGrant {
        account: account(2).id(),
        ..code(1).grant(&account(1), 1, later)
    };
    for forged in [own, relabelled, mixed] {
        rig.balancer.books().grants.insert(code(1).id(), forged);
        let linked = linking::by_code(&rig.node, &code(1), now_ms).await;
        assert_eq!(linked, Err(LinkFault::Forged));
    }
    assert_eq!(rig.balancer.books().ownerships, []);
}

#[tokio::test]
async fn codes_that_are_of_no_use_each_have_a_sentence() {
    let rig = Rig::ready().await;
    let now_ms = rig.clock.now_ms();
    let of = async |code: &LinkCode| linking::by_code(&rig.node, code, now_ms).await.unwrap_err();
    assert_eq!(of(&code(1)).await, LinkFault::Unknown);
    let over = code(1).grant(&account(1), 1, now_ms);
    rig.balancer.books().grants.insert(code(1).id(), over);
    assert_eq!(of(&code(1)).await, LinkFault::Expired);
    let good = code(1).grant(&account(1), 1, now_ms + 60_000);
    rig.balancer.books().grants.insert(code(1).id(), good);
    rig.balancer.books().used_up = true;
    let fault = of(&code(1)).await;
    assert_eq!(fault, LinkFault::UsedUp);
    assert!(fault.to_string().contains("Have another one shown"));
}

#[tokio::test]
async fn the_machine_with_the_key_links_itself_without_leaving_a_code() {
    let rig = Rig::ready().await;
    let now_ms = rig.clock.now_ms();
    let entropy = CountingEntropy::default();
    let linked = linking::by_key(&rig.node, &account(1), &entropy, now_ms).await;
    assert_eq!(linked, Ok(account(1).id()));
    let books = rig.balancer.books();
    assert_eq!(books.ownerships[0].check(now_ms), Ok(()));
    assert_eq!(books.grant_calls, 0);
}

/// A network's side of accounts, as small as can be.
#[derive(Clone, Default)]
struct Bank(Arc<Mutex<Ledger>>);

#[derive(Default)]
struct Ledger {
    sessions: u32,
    grants: Vec<LinkGrant>,
    keys: Vec<KeyRequest>,
    revoked: Vec<String>,
}

type Answer<T> = Result<Json<T>, (StatusCode, Json<Refused>)>;

fn no(code: RefusalCode) -> (StatusCode, Json<Refused>) {
    let status = StatusCode::from_u16(code.status()).unwrap();
    let message = format!("{code:?}");
    (status, Json(Refused { code, message }))
}

impl Bank {
    async fn start() -> (Self, String) {
        let bank = Self::default();
        let network = Network {
            name: "Lab".to_owned(),
            policy: Policy::practice(),
            ..Network::default()
        };
        let router = Router::new()
            .route("/node/v1/network", get(|| async { Json(network) }))
            .route("/account/v1/challenge", post(challenge))
            .route("/account/v1/session", post(session))
            .route("/account/v1/overview", get(overview))
            .route("/account/v1/keys", post(create_key))
            .route("/account/v1/keys/{name}", delete(revoke_key))
            .route("/account/v1/links", post(put_link))
            .route("/account/v1/fleet", get(fleet))
            .route("/certificate.pem", get(|| async { "<html>" }))
            .with_state(bank.clone());
        (bank, serve(router).await)
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.0.lock().unwrap()
    }

    /// Only the newest session counts, so that each earlier one is over.
    fn let_in(&self, headers: &HeaderMap) -> Result<(), (StatusCode, Json<Refused>)> {
        let newest = format!("Bearer {}", self.ledger().sessions);
        match headers.get(header::AUTHORIZATION) {
            Some(token) if *token == *newest => Ok(()),
            _ => Err(no(RefusalCode::NoSession)),
        }
    }
}

async fn challenge(Json(request): Json<AccountChallengeRequest>) -> Json<Challenge> {
    Json(Challenge {
        challenge: Hash::from_bytes(*request.account.as_bytes()),
        work_bits: 0,
    })
}

async fn session(
    Shared(bank): Shared<Bank>,
    Json(request): Json<AccountSessionRequest>,
) -> Answer<AccountSession> {
    let digest = account_session_digest(&request.account, &request.challenge);
    assert!(request.signature.is_by(request.account.as_bytes(), digest));
    let mut ledger = bank.ledger();
    ledger.sessions += 1;
    Ok(Json(AccountSession {
        token: ledger.sessions.to_string(),
        seconds: 3600,
    }))
}

async fn overview(Shared(bank): Shared<Bank>, headers: HeaderMap) -> Answer<Overview> {
    bank.let_in(&headers)?;
    Ok(Json(Overview {
        balance: 7,
        ..Overview::default()
    }))
}

async fn create_key(
    Shared(bank): Shared<Bank>,
    headers: HeaderMap,
    Json(request): Json<KeyRequest>,
) -> Answer<NewKey> {
    bank.let_in(&headers)?;
    if bank
        .ledger()
        .keys
        .iter()
        .any(|key| key.name == request.name)
    {
        return Err(no(RefusalCode::NameTaken));
    }
    bank.ledger().keys.push(request);
    let key = "sk-\u{1b}[2J".to_owned();
    Ok(Json(NewKey { key }))
}

async fn revoke_key(
    Shared(bank): Shared<Bank>,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Answer<()> {
    bank.let_in(&headers)?;
    bank.ledger().revoked.push(name);
    Err(no(RefusalCode::NoSuch))
}

async fn put_link(
    Shared(bank): Shared<Bank>,
    headers: HeaderMap,
    Json(grant): Json<LinkGrant>,
) -> Answer<()> {
    bank.let_in(&headers)?;
    bank.ledger().grants.push(grant);
    Ok(Json(()))
}

async fn fleet(Shared(bank): Shared<Bank>, headers: HeaderMap) -> Answer<Vec<Machine>> {
    bank.let_in(&headers)?;
    Ok(Json(vec![Machine {
        node: NodeId::from_bytes([3; 32]),
        report: None,
        here: false,
        paused: Some("\u{202e}desuaP".to_owned()),
        running: 0,
        verified: 0,
        points: Points::default(),
        last_seen_ms: None,
    }]))
}

#[tokio::test]
async fn an_account_is_made_backed_up_removed_and_restored() {
    let running = Running::start().await;
    assert_eq!(
        running.refused("account_backup", json!(null)).await,
        "no_account"
    );
    assert_eq!(running.refused("fleet", json!(null)).await, "no_account");
    let made = running.call("create_account", json!(null)).await;
    let id = made["account"]["id"].clone();
    assert_eq!(made["account"]["holds_key"], true);
    assert_eq!(made["account"]["linked"], false);
    assert_eq!(
        running.refused("create_account", json!(null)).await,
        "has_account"
    );
    assert_eq!(
        running.refused("unlink_machine", json!(null)).await,
        "key_is_here"
    );
    assert_eq!(running.refused("fleet", json!(null)).await, "no_network");
    let backup = running.call("account_backup", json!(null)).await;
    assert_eq!(backup["words"].as_array().unwrap().len(), 24);
    // What is kept survives the program.
    let running = running.restart().await;
    let again = running.call("account_backup", json!(null)).await;
    assert_eq!(again["words"], backup["words"]);
    let removed = running.call("remove_account", json!(null)).await;
    assert_eq!(removed["account"], json!(null));
    let wrong = json!({ "words": "abandon" });
    assert_eq!(
        running.refused("restore_account", wrong).await,
        "account_words"
    );
    let restored = running
        .call("restore_account", json!({ "words": backup["text"] }))
        .await;
    assert_eq!(restored["account"]["id"], id);
    assert_eq!(restored["account"]["holds_key"], true);
    // A second account would give the first one's key away unseen.
    let other = json!({ "words": format!("{}art", "abandon ".repeat(23)) });
    assert_eq!(
        running.refused("restore_account", other).await,
        "has_account"
    );
    let code = json!({ "code": code(1).to_string() });
    assert_eq!(running.refused("link_machine", code).await, "has_account");
}

#[tokio::test]
async fn a_code_waits_until_the_network_can_be_asked_and_a_wrong_one_is_told_at_once() {
    let running = Running::start().await;
    let wrong = json!({ "code": "hello" });
    assert_eq!(running.refused("link_machine", wrong).await, "link");
    let state = running
        .call("link_machine", json!({ "code": code(1).to_string() }))
        .await;
    assert_eq!(state["link"]["link"], "waiting");
    let state: AppState = serde_json::from_value(state).unwrap();
    assert_eq!(state.account, None);
}

#[tokio::test]
async fn an_accounts_session_is_opened_anew_when_it_is_over() {
    let running = Running::start().await;
    let (bank, address) = Bank::start().await;
    running
        .call("join_network", json!({ "address": address }))
        .await;
    running.call("create_account", json!(null)).await;
    let overview = async || running.call("account_overview", json!(null)).await;
    assert_eq!(overview().await["balance"], 7);
    assert_eq!(overview().await["balance"], 7);
    assert_eq!(bank.ledger().sessions, 1, "one is enough");
    bank.ledger().sessions = 5;
    assert_eq!(overview().await["balance"], 7);
    assert_eq!(bank.ledger().sessions, 6);
}

#[tokio::test]
async fn what_an_account_asks_for_and_what_it_is_refused() {
    let running = Running::start().await;
    let (bank, address) = Bank::start().await;
    running
        .call("join_network", json!({ "address": address }))
        .await;
    running.call("create_account", json!(null)).await;
    let request = json!({ "name": "laptop", "daily_limit": 50, "route": "own" });
    let made = running.call("create_key", request.clone()).await;
    assert_eq!(
        made["key"], "sk-\\u{1b}[2J",
        "nothing of it moves a terminal"
    );
    assert_eq!(running.refused("create_key", request).await, "account");
    let asked = json!({ "name": "a/b" });
    assert_eq!(running.refused("revoke_key", asked).await, "account");
    assert_eq!(bank.ledger().revoked, ["a/b"]);
    let code = running
        .call("make_link_code", json!({ "uses": 3, "seconds": 900 }))
        .await;
    let code: LinkCode = code["code"].as_str().unwrap().parse().unwrap();
    let grant = bank.ledger().grants[0];
    assert_eq!((grant.link, grant.max_uses), (code.id(), 3));
    assert_eq!(grant.check(grant.expires_ms - 1), Ok(()));
    let many = json!({ "uses": 100_000, "seconds": 900 });
    assert_eq!(
        running.refused("make_link_code", many).await,
        "out_of_range"
    );
    let machines = running.call("fleet", json!(null)).await;
    assert_eq!(machines[0]["paused"], "\\u{202e}desuaP");
    let order = json!({ "nodes": [], "action": { "type": "pause" } });
    let answers = running.call("command_fleet", order).await;
    assert_eq!(answers[0]["fault"]["fault"], "not_here");
    let certificate = running.refused("network_certificate", json!(null)).await;
    assert_eq!(certificate, "no_certificate");
}
