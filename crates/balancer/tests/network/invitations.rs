//! Invitations over real HTTP, and networks of one and two nodes.

use futures_util::{StreamExt, stream};
use infera_balancer::{
    AdmissionRule, Checking, Config, Edges, Standing, Terms, list_nodes, revoke_invitation, untrust,
};
use infera_protocol::node_api::{
    InvitationRequest, Invited, Joined, Network as Told, NodeEvent, RefusalCode, VerdictStatus,
};
use infera_protocol::{Hash, InvitationToken, NodeKey, VERSION};
use infera_testing::{
    Network, SimNode, Work, answer, challenge, code, hardware, http, join_by, join_request, key,
    open_session, patient, until,
};
use serde_json::json;

const TRUSTED: Standing = Standing {
    trusted: true,
    reference: false,
};
const REFERENCE: Standing = Standing {
    trusted: false,
    reference: true,
};

fn invited() -> Config {
    Config {
        admission: AdmissionRule::Invitation,
        ..patient()
    }
}

fn terms(standing: Standing, max_uses: Option<u32>) -> Terms {
    Terms {
        standing,
        max_uses,
        ..Terms::default()
    }
}

async fn look(
    network: &Network,
    token: InvitationToken,
) -> Result<Invited, infera_protocol::node_api::Refusal> {
    let request = InvitationRequest {
        version: VERSION,
        token,
    };
    let call = format!("{}/node/v1/invitation", network.base);
    answer(network.http.post(call).json(&request)).await
}

async fn join(
    network: &Network,
    number: u8,
    token: InvitationToken,
) -> Result<Standing, RefusalCode> {
    join_by(&network.http, &network.base, &key(number), token)
        .await
        .map_err(|refusal| refusal.code)
}

/// What the network tells of itself.
async fn told(network: &Network) -> Told {
    let asked = network
        .http
        .get(format!("{}/node/v1/network", network.base));
    asked.send().await.unwrap().json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_lets_as_many_in_as_it_says_and_the_same_node_again() {
    let network = Network::start(invited()).await;
    let (_, token) = network.invite(&terms(Standing::default(), Some(2))).await;
    let seen = look(&network, token).await.unwrap();
    assert_eq!(
        (seen.uses_left, seen.standing),
        (Some(2), Standing::default())
    );
    assert_eq!(seen.network.admission, AdmissionRule::Invitation);
    let opened = open_session(&network.http, &network.base, &key(1), hardware()).await;
    assert_eq!(code(opened), RefusalCode::InvitationNeeded);
    for _ in 0..2 {
        assert_eq!(join(&network, 1, token).await, Ok(Standing::default()));
    }
    assert_eq!(look(&network, token).await.unwrap().uses_left, Some(1));
    join(&network, 2, token).await.unwrap();
    let used_up = Err(RefusalCode::InvitationUsedUp);
    assert_eq!(join(&network, 3, token).await, used_up);
    assert_eq!(
        code(look(&network, token).await),
        RefusalCode::InvitationUsedUp
    );
    assert_eq!(join(&network, 1, token).await, Ok(Standing::default()));
    // Members come in, and nobody else.
    SimNode::worker(&network, 2).await;
    let opened = open_session(&network.http, &network.base, &key(3), hardware()).await;
    assert_eq!(code(opened), RefusalCode::InvitationNeeded);
    assert_eq!(list_nodes(&network.database).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_expired_or_another_networks_lets_nobody_in() {
    let network = Network::start(invited()).await;
    let other = Network::start(invited()).await;
    let (id, revoked) = network.invite(&terms(TRUSTED, None)).await;
    join(&network, 1, revoked).await.unwrap();
    let now_ms = Edges::system().now_ms();
    revoke_invitation(&network.database, id, now_ms)
        .await
        .unwrap();
    let (_, expired) = network
        .invite(&Terms {
            expires_ms: Some(now_ms),
            ..Terms::default()
        })
        .await;
    let (_, others) = other.invite(&terms(TRUSTED, None)).await;
    let made_up = InvitationToken::from_bytes([3; 16]);
    for (token, expected) in [
        (revoked, RefusalCode::InvitationRevoked),
        (expired, RefusalCode::InvitationExpired),
        (others, RefusalCode::InvitationUnknown),
        (made_up, RefusalCode::InvitationUnknown),
    ] {
        assert_eq!(join(&network, 2, token).await, Err(expected));
        let refusal = look(&network, token).await.unwrap_err();
        assert_eq!(refusal.code, expected);
        assert!(
            refusal.message.contains("sk its operator") || refusal.message.contains("Ask the"),
            "{refusal}"
        );
    }
    // Who has joined stays, and may send it again.
    assert_eq!(join(&network, 1, revoked).await, Ok(TRUSTED));
    SimNode::worker(&network, 1).await;
    let known = list_nodes(&network.database).await.unwrap();
    assert_eq!(known.len(), 1, "nobody else is in the books");
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_needs_a_fresh_challenge_and_the_nodes_own_key() {
    let network = Network::start(invited()).await;
    let (_, token) = network.invite(&terms(Standing::default(), None)).await;
    let call = format!("{}/node/v1/join", network.base);
    let send = async |request: &infera_protocol::node_api::JoinRequest| {
        let joined = answer::<Joined>(network.http.post(&call).json(request)).await;
        joined.map_err(|refusal| refusal.code)
    };
    let given = async |number| {
        let given = challenge(&network.http, &network.base, key(number).id()).await;
        given.unwrap().challenge
    };
    let made_up = join_request(&key(1), Hash::from_bytes([5; 32]), token);
    assert_eq!(send(&made_up).await, Err(RefusalCode::BadChallenge));
    let others = join_request(&key(1), given(2).await, token);
    assert_eq!(send(&others).await, Err(RefusalCode::BadChallenge));
    let mut forged = join_request(&key(1), given(1).await, token);
    forged.signature = join_request(&key(2), forged.challenge, token).signature;
    assert_eq!(send(&forged).await, Err(RefusalCode::BadSignature));
    // A signature for another invitation is none for this one.
    let (_, another) = network.invite(&terms(TRUSTED, None)).await;
    let mut swapped = join_request(&key(1), given(1).await, token);
    swapped.token = another;
    assert_eq!(send(&swapped).await, Err(RefusalCode::BadSignature));
    let mut long = join_request(&key(1), given(1).await, token);
    long.software = "x".repeat(1000);
    assert_eq!(send(&long).await, Err(RefusalCode::TooMuch));
    let newer = infera_protocol::node_api::JoinRequest {
        version: VERSION + 1,
        ..join_request(&key(1), given(1).await, token)
    };
    assert_eq!(send(&newer).await, Err(RefusalCode::UnknownVersion));
    assert!(list_nodes(&network.database).await.unwrap().is_empty());
    let good = join_request(&key(1), given(1).await, token);
    assert_eq!(send(&good).await.unwrap().standing, Standing::default());
}

/// Whether the token is known or made up, books and memory grow by what one address may bring.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_joins_from_one_address_leave_as_many_nodes_as_it_may_bring() {
    const JOINS: u32 = 10_000;
    let network = Network::start(Config {
        proxy_header: Some("x-forwarded-for".to_owned()),
        new_nodes_per_address: 8,
        ..invited()
    })
    .await;
    let (_, token) = network.invite(&terms(Standing::default(), None)).await;
    let made_up = InvitationToken::from_bytes([3; 16]);
    let (client, base) = (http(), network.base.as_str());
    let codes: Vec<_> = stream::iter(0..JOINS)
        .map(|number| {
            let client = &client;
            async move {
                let mut secret = [0; 32];
                secret[..4].copy_from_slice(&(number + 1).to_le_bytes());
                let key = NodeKey::from_secret(&secret);
                let given = challenge(client, base, key.id()).await.unwrap().challenge;
                let token = if number % 2 == 0 { token } else { made_up };
                let call = client.post(format!("{base}/node/v1/join"));
                let call = call.header("x-forwarded-for", "192.0.2.1");
                let joined = answer::<Joined>(call.json(&join_request(&key, given, token))).await;
                joined.map_or_else(|refusal| Some(refusal.code), |_| None)
            }
        })
        .buffer_unordered(64)
        .collect()
        .await;
    let count = |wanted| codes.iter().filter(|code| **code == wanted).count();
    assert_eq!(count(None), 8);
    assert_eq!(
        count(Some(RefusalCode::InvitationUnknown)),
        JOINS as usize / 2
    );
    assert_eq!(count(Some(RefusalCode::TooMuch)), JOINS as usize / 2 - 8);
    assert_eq!(list_nodes(&network.database).await.unwrap().len(), 8);
    // Somebody elsewhere joins all the same.
    join(&network, 1, token).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_is_appointed_by_its_invitation_and_answers_say_what_they_wait_for() {
    let network = Network::start(invited()).await;
    let (_, workers) = network.invite(&terms(Standing::default(), None)).await;
    let (_, references) = network.invite(&terms(REFERENCE, Some(2))).await;
    join(&network, 1, workers).await.unwrap();
    SimNode::worker(&network, 1)
        .await
        .spawn_worker(Work::honest);
    let appoint = async |number: u8| {
        assert_eq!(join(&network, number, references).await, Ok(REFERENCE));
        let node = SimNode::join(&network, number, 4, hardware()).await;
        assert!(node.session.reference);
        node.spawn_reference();
    };
    appoint(201).await;
    let told = told(&network).await;
    assert_eq!(
        (told.nodes, told.references, told.references_needed),
        (2, 1, 2)
    );
    assert_eq!(told.checking, Checking::Always);
    let waiting = json!({"references_needed": 2, "references_here": 1});
    let (status, body) = network.chat(&json!({})).await.unwrap();
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["infera"]["verdict"], "pending");
    assert_eq!(body["infera"]["waiting_for"], waiting, "{body}");
    let job = body["infera"]["job_id"].as_str().unwrap();
    let receipt = network.get(&format!("/v1/jobs/{job}/receipt")).await;
    assert_eq!(receipt["waiting_for"], waiting, "{receipt}");
    let streamed = network.stream(&json!({})).await.unwrap();
    let last = streamed.chunks.last().unwrap();
    assert_eq!(last["infera"]["waiting_for"], waiting, "{last}");
    appoint(202).await;
    let receipt = network.settled(job).await;
    assert_eq!(receipt["verdict"], "verified");
    assert!(receipt.get("waiting_for").is_none(), "{receipt}");
    let (_, body) = network
        .chat(&json!({"infera": {"wait": true}}))
        .await
        .unwrap();
    assert_eq!(body["infera"]["verdict"], "verified");
    assert!(body["infera"].get("waiting_for").is_none(), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_checked_one_trusted_node_is_a_network() {
    let network = Network::start(Config {
        checking: Checking::None,
        ..invited()
    })
    .await;
    let (_, strangers) = network.invite(&terms(REFERENCE, None)).await;
    let (_, trusted) = network.invite(&terms(TRUSTED, None)).await;
    // Nobody checks here, whatever an invitation says.
    let seen = look(&network, strangers).await.unwrap();
    assert_eq!(seen.standing, Standing::default());
    assert_eq!(join(&network, 2, strangers).await, Ok(Standing::default()));
    let refused = open_session(&network.http, &network.base, &key(2), hardware()).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code, RefusalCode::NotEligible);
    let node = key(2).id().to_string();
    assert!(refused.message.contains(&node), "{refused}");
    assert_eq!(join(&network, 1, trusted).await, Ok(TRUSTED));
    // More than one at once: it is no newcomer.
    let mut worker = SimNode::join(&network, 1, 2, hardware()).await;
    let answers = [true, false].map(|wait| network.chat(&json!({"infera": {"wait": wait}})));
    let mut taken = Vec::new();
    for _ in 0..2 {
        taken.push(worker.take().await);
    }
    for work in &mut taken {
        worker.write_all(work).await.unwrap();
    }
    for answer in answers {
        let (status, body) = answer.await.unwrap();
        assert_eq!(status, 200, "{body}");
        assert_eq!(body["infera"]["verdict"], "not_checked");
        let reason = body["infera"]["reason"].as_str().unwrap();
        assert!(reason.contains("checks no answers"), "{reason}");
        assert!(body["infera"].get("waiting_for").is_none(), "{body}");
    }
    let streamed = network.stream(&json!({}));
    let mut work = worker.take().await;
    worker.write_all(&mut work).await.unwrap();
    taken.push(work);
    let streamed = streamed.await.unwrap();
    let last = &streamed.chunks.last().unwrap()["infera"];
    assert_eq!(last["verdict"], "not_checked", "{last}");
    let NodeEvent::Settled(record) = worker
        .event_where(|event| {
            matches!(event, NodeEvent::Settled(record) if record.verdict != VerdictStatus::Pending)
        })
        .await
    else {
        panic!("it was asked for");
    };
    assert_eq!(record.verdict, VerdictStatus::NotChecked);
    let (mut shares, mut costs) = (0, 0);
    for work in &taken {
        let receipt = network.settled(&work.spec.job.to_string()).await;
        let share = receipt["attempts"][0]["share"].as_i64().unwrap();
        let cost = receipt["cost"].as_i64().unwrap();
        assert_eq!(share, cost * 80 / 100, "paid in full: {receipt}");
        shares += share;
        costs += cost;
    }
    let points = worker.points().await;
    assert_eq!(
        (points.confirmed, points.pending, points.forfeited),
        (shares, 0, 0)
    );
    assert_eq!(network.balances().await["client:ann"], -costs);
    let told = told(&network).await;
    assert_eq!(
        (told.nodes, told.references, told.references_needed),
        (1, 0, 0)
    );
    // What was given is taken back: its session ends, and it gets no other.
    untrust(&network.database, key(1).id()).await.unwrap();
    until("the session to end", async || {
        worker.tell_free().await.is_err().then_some(())
    })
    .await;
    assert_eq!(join(&network, 1, trusted).await, Ok(Standing::default()));
    let opened = open_session(&network.http, &network.base, &key(1), hardware()).await;
    assert_eq!(code(opened), RefusalCode::NotEligible);
    let (status, _) = network.chat(&json!({})).await.unwrap();
    assert_eq!(status, 503);
}
