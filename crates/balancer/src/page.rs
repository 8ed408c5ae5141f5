//! The pages for people (`ui/dist-balancer`): what this network is at `/`, what an invitation leads
//! to at `/join`, and for those who run it `/operator`. They ask the balancer for what they show.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use infera_web_files::POLICY;

use crate::dispatch::Core;

const PAGE: &str = "balancer.html";
const OF_OPERATORS: &str = "operator.html";
/// Said where a file is asked for that is not there.
const MISSING: &str = if FILES.is_empty() {
    "This build has no pages: build `ui` first (`npm ci && npm run build`), then this program"
} else {
    "There is no such page"
};

include!(concat!(env!("OUT_DIR"), "/web_files.rs"));

pub(crate) fn router() -> Router<Arc<Core>> {
    Router::new()
        .route("/", get(async || file(PAGE)))
        .route("/join", get(async || file(PAGE)))
        .merge(assets())
}

pub(crate) fn of_operators() -> Router<Arc<Core>> {
    Router::new().route("/operator", get(async || file(OF_OPERATORS)))
}

/// What the pages are made of.
pub(crate) fn assets() -> Router<Arc<Core>> {
    Router::new().route("/assets/{name}", get(async |uri: Uri| file(uri.path())))
}

fn file(path: &str) -> Response {
    let Some(file) = infera_web_files::find(FILES, path) else {
        return (StatusCode::NOT_FOUND, MISSING).into_response();
    };
    // A name below `assets` has its content's hash.
    let caching = if [PAGE, OF_OPERATORS].contains(&path) {
        "no-cache"
    } else {
        "public, max-age=31536000, immutable"
    };
    let headers = [
        (header::CONTENT_TYPE, file.content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // The address of an invitation's page is nobody else's.
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, caching),
    ];
    (headers, file.content).into_response()
}
