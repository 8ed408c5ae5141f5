//! All calls together, with what every answer has in common: a request id, and leave for pages of
//! other sites.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Redirect, Response};
use axum::routing::get;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};
use tracing::Instrument;

use crate::dispatch::Core;
use crate::operator::Cookies;
use crate::{account_http, client_http, node_http, operator, page};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Bytes of an id that a client or a proxy has chosen.
const LONGEST_REQUEST_ID: usize = 128;

/// With `cookies`, also what operators see and do.
pub(crate) fn router(core: Arc<Core>, cookies: Option<Cookies>) -> Router {
    let clients = client_http::router().layer(cors(&core.config.allowed_origins));
    let mut all = Router::new()
        .merge(clients)
        .merge(node_http::router())
        .merge(account_http::router())
        .merge(page::router());
    if let Some(cookies) = cookies {
        all = all
            .merge(operator::router(cookies))
            .merge(page::of_operators());
    }
    finished(core, all)
}

/// What operators see and do, and nothing else.
pub(crate) fn operators(core: Arc<Core>, cookies: Cookies) -> Router {
    let all = operator::router(cookies)
        .merge(page::of_operators())
        .merge(page::assets())
        .route("/", get(async || Redirect::to("operator")));
    finished(core, all)
}

fn finished(core: Arc<Core>, all: Router<Arc<Core>>) -> Router {
    all.layer(from_fn_with_state(Arc::clone(&core), with_request_id))
        .with_state(core)
}

/// Which pages a browser lets call this. They need a key all the same: nothing here is allowed by
/// cookies.
fn cors(origins: &[String]) -> CorsLayer {
    let origin = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| origin.parse().ok()))
    };
    CorsLayer::new()
        .allow_origin(origin)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([REQUEST_ID, header::RETRY_AFTER])
}

/// Names the request in its answer and in what is logged meanwhile.
async fn with_request_id(State(core): State<Arc<Core>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(REQUEST_ID).filter(|id| fits(id));
    let id = given.cloned().unwrap_or_else(|| {
        let id = hex::encode(core.edges.random::<16>());
        HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static("none"))
    });
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default());
    let mut response = next.run(request).instrument(span).await;
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

fn fits(id: &HeaderValue) -> bool {
    (1..=LONGEST_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
}
