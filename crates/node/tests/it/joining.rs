//! Joining networks by invitations and addresses, against a small balancer of the tests' own, with
//! and without TLS.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use axum_server::tls_rustls::RustlsConfig;
use infera_node::app::api::{LookedUp, Refusal};
use infera_node::app::settings::Settings;
use infera_node::balancer_link::{BalancerLink, LinkError};
use infera_node::http_link::{HttpLink, Trust};
use infera_node::look_up::{InvitationFault, InvitationTerms};
use infera_node::networks::NetworkSetting;
use infera_node::state::Summary;
use infera_node::unreachable::Unreachable;
use infera_protocol::node_api::{
    AdmissionRule, Challenge, ChallengeRequest, InvitationRequest, Invited, JoinRequest, Joined,
    Network, Refusal as Refused, RefusalCode, Standing, join_digest,
};
use infera_protocol::requirements::Policy;
use infera_protocol::{Fingerprint, Hash, Invitation, InvitationToken, NodeId};
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData, date_time_ymd,
};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::app::Running;
use crate::http::serve;

const GOOD: InvitationToken = InvitationToken::from_bytes([1; 16]);
const USED_UP: InvitationToken = InvitationToken::from_bytes([2; 16]);
const EXPIRED: InvitationToken = InvitationToken::from_bytes([3; 16]);
const REVOKED: InvitationToken = InvitationToken::from_bytes([4; 16]);
const UNKNOWN: InvitationToken = InvitationToken::from_bytes([5; 16]);
const TRUSTED: Standing = Standing {
    trusted: true,
    reference: false,
};

/// Who joined a network that lets in by one invitation.
#[derive(Clone, Default)]
struct Host {
    joined: Arc<Mutex<Vec<NodeId>>>,
    name: Arc<Mutex<String>>,
}

impl Host {
    fn named(name: &str) -> Self {
        let host = Self::default();
        name.clone_into(&mut host.name.lock().unwrap());
        host
    }

    fn network(&self) -> Network {
        Network {
            name: self.name.lock().unwrap().clone(),
            operator: Some("Ada".to_owned()),
            rules: Some("Be kind.\nAt night only.".to_owned()),
            policy: Policy::practice(),
            admission: AdmissionRule::Invitation,
            references: 1,
            references_needed: 2,
            ..Network::default()
        }
    }

    fn router(&self) -> Router {
        Router::new()
            .route(
                "/node/v1/network",
                get(|Shared(host): Shared<Self>| async move { Json(host.network()) }),
            )
            .route("/node/v1/invitation", post(invitation))
            .route("/node/v1/challenge", post(challenge))
            .route("/node/v1/join", post(join))
            .with_state(self.clone())
    }
}

type Answer<T> = Result<Json<T>, (StatusCode, Json<Refused>)>;

fn let_in(token: InvitationToken) -> Result<(), (StatusCode, Json<Refused>)> {
    let code = match token {
        GOOD => return Ok(()),
        USED_UP => RefusalCode::InvitationUsedUp,
        EXPIRED => RefusalCode::InvitationExpired,
        REVOKED => RefusalCode::InvitationRevoked,
        _ => RefusalCode::InvitationUnknown,
    };
    let message = "no".to_owned();
    let status = StatusCode::from_u16(code.status()).unwrap();
    Err((status, Json(Refused { code, message })))
}

async fn invitation(
    Shared(host): Shared<Host>,
    Json(request): Json<InvitationRequest>,
) -> Answer<Invited> {
    let_in(request.token)?;
    Ok(Json(Invited {
        network: host.network(),
        standing: TRUSTED,
        uses_left: Some(9),
        expires_ms: None,
    }))
}

async fn challenge(Json(request): Json<ChallengeRequest>) -> Json<Challenge> {
    Json(Challenge {
        challenge: Hash::from_bytes(*request.node.as_bytes()),
        work_bits: 0,
    })
}

async fn join(Shared(host): Shared<Host>, Json(request): Json<JoinRequest>) -> Answer<Joined> {
    let_in(request.token)?;
    assert_eq!(request.challenge.as_bytes(), request.node.as_bytes());
    let digest = join_digest(&request.node, &request.challenge, &request.token);
    request.signature.verify(&request.node, digest).unwrap();
    host.joined.lock().unwrap().push(request.node);
    Ok(Json(Joined { standing: TRUSTED }))
}

fn link(address: &str, fingerprint: Option<Fingerprint>, token: InvitationToken) -> String {
    let invitation = Invitation {
        address: address.to_owned(),
        fingerprint,
        token,
    };
    invitation.link()
}

fn fingerprint(key: &KeyPair) -> Fingerprint {
    let hash = digest(&SHA256, &key.subject_public_key_info());
    Fingerprint::from_bytes(hash.as_ref().try_into().unwrap())
}

/// As a network makes one for itself; for a name that is not where it is found.
fn self_signed(key: &KeyPair, year: i32) -> Vec<u8> {
    let mut params = CertificateParams::new(["lab.example".to_owned()]).unwrap();
    params.not_before = date_time_ymd(year, 1, 1);
    params.not_after = date_time_ymd(year + 1, 1, 1);
    params.self_signed(key).unwrap().der().to_vec()
}

async fn serve_tls(router: Router, certificate: Vec<u8>, key: &KeyPair) -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = RustlsConfig::from_der(vec![certificate], key.serialize_der()).await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let server = axum_server::from_tcp_rustls(listener, config.unwrap()).unwrap();
    tokio::spawn(server.serve(router.into_make_service()));
    format!("https://{address}")
}

#[tokio::test]
async fn a_certificate_is_known_by_its_key_or_by_who_vouches_for_it() {
    let (own, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let pin = Some(fingerprint(&own));
    let mut of_authority = CertificateParams::default();
    of_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let root = of_authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(of_authority, authority_key);
    let proxy = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let proxy = proxy.signed_by(&other, &issuer).unwrap().der().to_vec();

    let router = Host::named("Lab").router();
    let first = serve_tls(router.clone(), self_signed(&own, 2020), &own).await;
    let renewed = serve_tls(router.clone(), self_signed(&own, 2050), &own).await;
    let changed = serve_tls(router.clone(), self_signed(&other, 2020), &other).await;
    let vouched = serve_tls(router, proxy, &other).await;

    let ask = async |url: &str, roots: Option<&[u8]>, fingerprint| {
        let link = HttpLink::new(url, Trust { roots, fingerprint }).unwrap();
        match link.network().await {
            Ok(network) => Ok(network.name),
            Err(LinkError::Unreachable(reason)) => Err(reason),
            Err(error) => panic!("{url}: {error}"),
        }
    };
    let root = Some(root.as_bytes());
    assert_eq!(ask(&first, None, pin).await, Ok("Lab".to_owned()));
    assert_eq!(ask(&renewed, None, pin).await, Ok("Lab".to_owned()));
    assert_eq!(ask(&vouched, root, pin).await, Ok("Lab".to_owned()));
    let refused = Err(Unreachable::CertificateChanged);
    assert_eq!(ask(&changed, None, pin).await, refused);
    assert_eq!(ask(&changed, root, pin).await, refused);
    assert_eq!(ask(&vouched, None, pin).await, refused);
    // Nothing of it counts where no key was named.
    let unpinned = ask(&first, None, None).await.unwrap_err();
    assert!(matches!(unpinned, Unreachable::Certificate { .. }));
}

async fn look_up(running: &Running, address: &str) -> LookedUp {
    let answer = running.call("look_up_network", json!({ "address": address }));
    serde_json::from_value(answer.await).unwrap()
}

async fn refusal(running: &Running, command: &str, address: &str) -> Refusal {
    let answer = running.app.call(command, json!({ "address": address }));
    answer.await.unwrap_err().refusal
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_is_looked_at_and_joined_by_and_again() {
    let host = Host::named("Lab");
    let key = KeyPair::generate().unwrap();
    let url = serve_tls(host.router(), self_signed(&key, 2020), &key).await;
    let pin = Some(fingerprint(&key));
    let running = Running::start().await;
    let invitation = link(&url, pin, GOOD);
    let LookedUp::Network {
        url: found,
        name,
        operator,
        rules,
        references_needed,
        fingerprint,
        invitation: terms,
        ..
    } = look_up(&running, &invitation).await
    else {
        panic!("it is there");
    };
    assert_eq!((found, name), (url.clone(), "Lab".to_owned()));
    assert_eq!(operator.as_deref(), Some("Ada"));
    assert_eq!(rules.as_deref(), Some("Be kind.\nAt night only."));
    assert_eq!((fingerprint, references_needed), (pin, 2));
    let expected = InvitationTerms {
        standing: TRUSTED,
        uses_left: Some(9),
        expires_ms: None,
    };
    assert_eq!(terms, Some(expected));
    assert!(host.joined.lock().unwrap().is_empty(), "only looked at");

    let join = json!({ "address": invitation });
    running.call("join_network", join.clone()).await;
    let settings = running.app.states().borrow().settings.clone();
    let joined = settings.active_network().unwrap();
    assert_eq!((&*joined.name, joined.fingerprint), ("Lab", pin));
    assert_eq!(joined.standing, TRUSTED);
    // By its address it is found with the same certificate, and stays what it is.
    let LookedUp::Network { fingerprint, .. } = look_up(&running, &url).await else {
        panic!("it is still known");
    };
    assert_eq!(fingerprint, pin);
    "Lab of Ada".clone_into(&mut host.name.lock().unwrap());
    running
        .call("join_network", json!({ "address": url }))
        .await;
    let renewed = running.app.states().borrow().settings.clone();
    assert_eq!(renewed.networks.len(), 1);
    assert_eq!(renewed.networks[0].name, "Lab of Ada");
    assert_eq!(renewed.networks[0].standing, TRUSTED);
    assert_eq!(renewed.networks[0].fingerprint, pin);
    let nodes = host.joined.lock().unwrap().clone();
    assert_eq!(nodes.len(), 1);
    // The rules come from over the pinned connection.
    running
        .until("the network is asked", |state| {
            let node = state.node.as_ref();
            node.is_some_and(|node| {
                node.balancer == url && node.policy.as_deref() == Some("practice")
            })
        })
        .await;
    let id = running.app.states().borrow().node.as_ref().unwrap().node;
    assert_eq!(nodes, [id]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_invitations_each_have_a_reason_and_change_nothing() {
    let host = Host::named("Lab");
    let url = serve(host.router()).await;
    let running = Running::start().await;
    let good = link(&url, None, GOOD);
    let changed = good.replace("token=A", "token=B");
    assert_ne!(changed, good);
    for (text, expected) in [
        (&good[..good.len() - 2], InvitationFault::CutOff),
        ("infera://join?to=net.example", InvitationFault::CutOff),
        (&changed, InvitationFault::Changed),
        ("infera://pay?to=net.example", InvitationFault::NotOne),
        (
            &link("http://192.0.2.1:8431", None, GOOD),
            InvitationFault::PlainHttp,
        ),
        (&link(&url, None, UNKNOWN), InvitationFault::Unknown),
        (&link(&url, None, USED_UP), InvitationFault::UsedUp),
        (&link(&url, None, EXPIRED), InvitationFault::Expired),
        (&link(&url, None, REVOKED), InvitationFault::Revoked),
    ] {
        let LookedUp::BadInvitation { fault, message } = look_up(&running, text).await else {
            panic!("{text}");
        };
        assert_eq!(fault, expected, "{text}");
        assert!(
            message.contains(". ") || message.contains(": "),
            "{message}"
        );
        let Refusal::Invitation { fault, .. } = refusal(&running, "join_network", text).await
        else {
            panic!("{text}");
        };
        assert_eq!(fault, expected, "{text}");
    }
    // Another network's certificate.
    let (own, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let imposter = serve_tls(host.router(), self_signed(&other, 2020), &other).await;
    let invitation = link(&imposter, Some(fingerprint(&own)), GOOD);
    let expected = LookedUp::Unreachable {
        url: imposter.clone(),
        reason: Unreachable::CertificateChanged,
    };
    assert_eq!(look_up(&running, &invitation).await, expected);
    let expected = Refusal::NetworkSilent {
        url: imposter,
        reason: Unreachable::CertificateChanged,
    };
    let refused = refusal(&running, "join_network", &invitation).await;
    assert_eq!(refused, expected);
    for command in ["choose_network", "leave_network"] {
        assert_eq!(refusal(&running, command, &url).await, Refusal::NotJoined);
    }
    let plain = refusal(&running, "join_network", "http://net.example").await;
    assert!(matches!(plain, Refusal::NetworkAddress { .. }), "{plain}");
    assert_eq!(running.app.states().borrow().settings.networks, []);
    assert!(host.joined.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_networks_one_is_active_and_leaving_it_leaves_none() {
    // Of one name, and told apart by their addresses.
    let (first, second) = (Host::named("Lab"), Host::named("Lab"));
    let (first, second) = (serve(first.router()).await, serve(second.router()).await);
    let running = Running::start().await;
    running.call("agree", Value::Null).await;
    let call = async |command: &str, address: &str| {
        running.call(command, json!({ "address": address })).await;
    };
    call("join_network", &link(&first, None, GOOD)).await;
    call("join_network", &second).await;
    let works_for = async |url: &str| {
        running
            .until(url, |state| {
                let node = state.node.as_ref();
                state.settings.balancer.as_deref() == Some(url)
                    && node.is_some_and(|node| node.balancer == url)
            })
            .await
    };
    works_for(&second).await;
    call("choose_network", &first).await;
    let state = works_for(&first).await;
    let names: Vec<_> = state
        .settings
        .networks
        .iter()
        .map(|one| &one.name)
        .collect();
    assert_eq!(names, ["Lab", "Lab"]);
    call("leave_network", &first).await;
    let state = running
        .until("no network is left at work", |state| {
            state.state.summary == Summary::NoBalancer
        })
        .await;
    assert_eq!(state.settings.balancer, None);
    let left: Vec<_> = state.settings.networks.iter().collect();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].address, second);
}

fn infera(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infera"));
    command.args(words).env_remove("INFERA_LOG");
    command.env_remove("INFERA_BALANCER");
    command.arg("--data").arg(folder).output().unwrap()
}

/// The answer as JSON.
fn answer(output: &Output) -> Value {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_joins_lists_chooses_and_leaves_without_a_node() {
    let host = Host::named("Lab");
    let key = KeyPair::generate().unwrap();
    let url = serve_tls(host.router(), self_signed(&key, 2020), &key).await;
    let second = serve(Host::named("Other").router()).await;
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("key");
    let key_file = ["--key-file", key_file.to_str().unwrap()];
    let join = |words: &[&str]| {
        let words = [&["join"], words, &key_file].concat();
        infera(folder.path(), &words)
    };
    let invitation = link(&url, Some(fingerprint(&key)), GOOD);
    let fault = |output: &Output, code: i32, part: &str| {
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(error.contains(part), "{error}");
        assert_eq!(error.lines().count(), 3, "{error}");
    };
    fault(&join(&[&invitation]), 2, "--yes");
    let cut = &invitation[..invitation.len() - 1];
    fault(&join(&[cut, "--yes"]), 1, "cut off");
    let used_up = link(&url, Some(fingerprint(&key)), USED_UP);
    fault(&join(&[&used_up, "--yes"]), 1, "As many have joined");
    fault(&join(&["127.0.0.1:1", "--yes"]), 1, "nothing answers");
    assert!(host.joined.lock().unwrap().is_empty());

    let output = join(&[&invitation, "--yes"]);
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "Network   Lab",
        "Run by    Ada",
        "Be kind.",
        "a trusted node; the invitation is good for 9 more",
        "1 of 2",
        "Joined Lab: `infera run --model FILE` begins",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(host.joined.lock().unwrap().len(), 1);
    let joined = answer(&join(&[&second, "--yes", "--json"]));
    assert_eq!(joined["network"]["name"], "Other");
    assert_eq!(joined["joined"]["address"], second);

    let network = |words: &[&str]| {
        let words = [&["network"], words, &["--json"]].concat();
        infera(folder.path(), &words)
    };
    let list = answer(&network(&["list"]));
    assert_eq!(list["active"], second);
    let networks: Vec<NetworkSetting> = serde_json::from_value(list["networks"].clone()).unwrap();
    assert_eq!(networks.len(), 2);
    assert_eq!(networks[0].standing, TRUSTED);
    let list = answer(&network(&["use", &url]));
    assert_eq!(list["active"], url);
    // By its pinned key, without being told anything more.
    let check = infera(folder.path(), &["check", "--json"]);
    let check: Value = serde_json::from_slice(&check.stdout).unwrap();
    assert_eq!(check["policy"], "Lab");
    let list = answer(&network(&["leave", &url]));
    assert_eq!(list["active"], Value::Null);
    assert_eq!(list["networks"].as_array().unwrap().len(), 1);
    let gone = infera(folder.path(), &["network", "use", &url]);
    fault(&gone, 1, "have not joined");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_node_joins_at_once() {
    let host = Host::named("Lab");
    let url = serve(host.router()).await;
    let running = Running::start().await;
    let control = infera_node::control::ControlServer::start(
        running.app.clone(),
        "127.0.0.1:0".parse().unwrap(),
        &infera_node::clock::SystemEntropy,
    )
    .await
    .unwrap();
    running
        .app
        .data()
        .publish_control(control.control())
        .unwrap();
    let folder = running.app.data().folder().path().to_owned();
    let settings = || -> Settings { running.app.states().borrow().settings.clone() };
    let words = ["join", &link(&url, None, GOOD), "--yes"].map(str::to_owned);
    let output = {
        let folder = folder.clone();
        tokio::task::spawn_blocking(move || infera(&folder, &words.each_ref().map(String::as_str)))
            .await
            .unwrap()
    };
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("this node works for it now"), "{text}");
    assert_eq!(settings().balancer.as_ref(), Some(&url));
    assert_eq!(host.joined.lock().unwrap().len(), 1);
    let leave = url.clone();
    let output =
        tokio::task::spawn_blocking(move || infera(&folder, &["network", "leave", &leave]));
    let output = output.await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(settings().networks, []);
    control.stop().await;
}
