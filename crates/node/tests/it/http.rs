//! The link over HTTP, against a small server of the tests' own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{StreamExt, stream};
use infera_node::balancer_link::{BalancerLink, LinkError, Token};
use infera_node::http_link::{HttpLink, Trust};
use infera_node::look_up::{NotFound, look_up};
use infera_node::unreachable::Unreachable;
use infera_protocol::ModelId;
use infera_protocol::node_api::{
    ModelOffer, Network, NodeEvent, NodeState, Price, Refusal, RefusalCode,
};
use infera_protocol::requirements::{Hardware, Policy};

pub(crate) async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

async fn link(router: Router) -> HttpLink {
    HttpLink::new(&serve(router).await, Trust::default()).unwrap()
}

fn token() -> Token {
    Token::new("secret")
}

fn state() -> NodeState {
    NodeState {
        models: Vec::new(),
        context_tokens: Vec::new(),
        free_slots: 1,
        paused: None,
        hardware: Hardware::default(),
        report: None,
    }
}

fn network() -> Network {
    Network {
        name: "here".to_owned(),
        policy: Policy::public(),
        ..Network::default()
    }
}

#[tokio::test]
async fn answers_and_refusals_come_through() {
    let refusal = Refusal {
        code: RefusalCode::NoSession,
        message: "Open a new session".to_owned(),
    };
    let refused = refusal.clone();
    let router = Router::new()
        .route("/node/v1/network", get(|| async { Json(network()) }))
        .route(
            "/node/v1/state",
            post(|headers: HeaderMap| async move {
                assert_eq!(headers[header::AUTHORIZATION], "Bearer secret");
                StatusCode::NO_CONTENT
            }),
        )
        .route(
            "/node/v1/points",
            get(|| async { (StatusCode::UNAUTHORIZED, Json(refused)) }),
        );
    let link = link(router).await;
    assert_eq!(link.network().await.unwrap(), network());
    link.state(token(), state()).await.unwrap();
    assert_eq!(
        link.points(token()).await.unwrap_err(),
        LinkError::Refused(refusal)
    );
}

/// Nothing of it may move a terminal's cursor, or a word in the window.
#[tokio::test]
async fn what_a_balancer_says_to_people_is_shown_as_it_is() {
    let refusal = Refusal {
        code: RefusalCode::Unavailable,
        message: "Later\n\u{1b}[2J".to_owned(),
    };
    let named = Network {
        name: "\u{202e}ylimaf".to_owned(),
        ..network()
    };
    let offer = ModelOffer {
        model: ModelId::from_bytes([1; 32]),
        name: "llama\u{200b}\u{9b}1m".to_owned(),
        price: Price {
            input: 1,
            output: 1,
        },
        context_tokens: 1,
    };
    let router = Router::new()
        .route("/node/v1/network", get(|| async { Json(named) }))
        .route("/node/v1/models", get(|| async { Json([offer]) }))
        .route(
            "/node/v1/points",
            get(|| async { (StatusCode::SERVICE_UNAVAILABLE, Json(refusal)) }),
        );
    let link = link(router).await;
    assert_eq!(link.network().await.unwrap().name, "\\u{202e}ylimaf");
    let offers = link.models(token()).await.unwrap();
    assert_eq!(offers[0].name, "llama\\u{200b}\\u{9b}1m");
    let error = link.points(token()).await.unwrap_err();
    assert_eq!(error.to_string(), "Later\\u{a}\\u{1b}[2J");
}

#[tokio::test]
async fn what_is_no_balancer_counts_as_unreachable() {
    let router = Router::new()
        .route(
            "/node/v1/points",
            get(|| async { (StatusCode::BAD_GATEWAY, "<html>Bad gateway</html>") }),
        )
        .route("/node/v1/models", get(|| async { "not JSON" }))
        .route(
            "/node/v1/network",
            get(|| async { Json(serde_json::json!({ "name": 1, "\u{1b}": "x".repeat(999) })) }),
        );
    let link = link(router).await;
    let error = link.points(token()).await.unwrap_err();
    assert!(
        matches!(
            &error,
            LinkError::Unreachable(Unreachable::Failing { status: 502 })
        ),
        "{error}"
    );
    assert!(error.refusal().is_none(), "it is worth another try");
    let error = link.models(token()).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().code, RefusalCode::Malformed);
    let text = link.network().await.unwrap_err().to_string();
    assert!(
        text.contains("understands: name: invalid type: integer `1`, expected a string at line 1"),
        "{text}"
    );
}

#[tokio::test]
async fn nobody_at_home_is_said_without_the_token() {
    let link = HttpLink::new("http://127.0.0.1:1", Trust::default()).unwrap();
    let error = link.state(token(), state()).await.unwrap_err();
    assert!(matches!(error, LinkError::Unreachable(_)));
    assert!(!format!("{error:?} {:?}", token()).contains("secret"));
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_the_token() {
    let visits = Arc::new(AtomicU32::new(0));
    let counted = visits.clone();
    let elsewhere = serve(Router::new().fallback(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async { StatusCode::OK }
    }))
    .await;
    let target = format!("{elsewhere}/node/v1/points");
    let router = Router::new().route(
        "/node/v1/points",
        get(move || async move { Redirect::temporary(&target) }),
    );
    link(router).await.points(token()).await.unwrap_err();
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn events_are_read_with_their_ids_and_resumed_after_them() {
    let router = Router::new().route(
        "/node/v1/events",
        get(|request: Request| async move {
            assert_eq!(request.headers()["last-event-id"], "41");
            let pieces = [
                ": hello\n\nid: 42\nda",
                "ta: {\"type\":\"reset\"}\n\n",
                "id: 43\ndata: {\"type\":\"of a later version\"}\n\n: keep-alive\n\n",
                "id: 44\ndata: {\"type\":\"reset\"}\n\n",
            ];
            let body = stream::iter(pieces).then(|piece| async move {
                tokio::task::yield_now().await;
                Ok::<_, std::io::Error>(piece)
            });
            Response::new(Body::from_stream(body))
        }),
    );
    let link = link(router).await;
    let stream = link.events(token(), Some("41".to_owned())).await.unwrap();
    let events: Vec<_> = stream.map(Result::unwrap).collect().await;
    let ids: Vec<_> = events.iter().map(|event| event.id.as_deref()).collect();
    assert_eq!(ids, [Some("42"), Some("44")]);
    assert!(events.iter().all(|event| event.event == NodeEvent::Reset));
}

#[tokio::test]
async fn the_speed_is_that_of_the_bytes_that_came() {
    let router = Router::new().route(
        "/node/v1/speed-test",
        get(|request: Request| async move {
            assert_eq!(request.uri().query(), Some("bytes=1000000"));
            let body = stream::iter(0..10).then(|_| async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                Ok::<_, std::io::Error>(vec![7; 100_000])
            });
            Body::from_stream(body).into_response()
        }),
    );
    let rate = link(router)
        .await
        .speed_test(token(), 1_000_000)
        .await
        .unwrap();
    assert!((100_000..20_000_000).contains(&rate), "{rate}");
}

#[tokio::test]
async fn a_network_is_found_by_what_a_person_writes_and_what_is_wrong_is_named() {
    let router = Router::new().route("/node/v1/network", get(|| async { Json(network()) }));
    let url = serve(router).await;
    let host = url.trim_start_matches("http://").to_owned();
    for address in [url.clone(), host.clone(), format!(" {host}/ ")] {
        let found = look_up(&address, None, &[]).await.unwrap();
        assert_eq!((found.url, found.network), (url.clone(), network()));
    }
    let reason = async |address: &str| match look_up(address, None, &[]).await {
        Err(NotFound::NoAnswer {
            error: LinkError::Unreachable(reason),
            ..
        }) => reason,
        other => panic!("{address}: {other:?}"),
    };
    assert_eq!(
        reason(&format!("https://{host}")).await,
        Unreachable::PlainHttp
    );
    assert_eq!(
        reason("https://127.0.0.1:1").await,
        Unreachable::NobodyListens
    );
    let nowhere = reason("https://nothing.invalid").await;
    assert_eq!(nowhere, Unreachable::HostNotFound);
    let other = serve(Router::new()).await;
    let reason = reason(&other).await;
    assert_eq!(reason, Unreachable::NotANetwork { status: 404 });
    for wrong in ["", "http://balancer.example", "ftp://here"] {
        let error = look_up(wrong, None, &[]).await.unwrap_err();
        assert!(matches!(error, NotFound::Address(_)), "{wrong}: {error}");
    }
}
