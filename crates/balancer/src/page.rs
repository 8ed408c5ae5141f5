//! The page for people (`ui/dist-balancer`): what this network is at `/`, and what an invitation
//! leads to at `/join`. It asks the balancer for what it shows, as any node does.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use infera_web_files::POLICY;

use crate::dispatch::Core;

const PAGE: &str = "balancer.html";
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
        .route("/assets/{name}", get(async |uri: Uri| file(uri.path())))
}

fn file(path: &str) -> Response {
    let Some(file) = infera_web_files::find(FILES, path) else {
        return (StatusCode::NOT_FOUND, MISSING).into_response();
    };
    // A name below `assets` has its content's hash.
    let caching = if path == PAGE {
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
