//! The pages for people (`ui/dist-balancer`): what this network is at `/`, what an invitation leads
//! to at `/join`, and for those who run it `/operator`. They ask the balancer for what they show.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
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
        .route("/certificate.pem", get(certificate))
        .merge(assets())
}

pub(crate) fn of_operators() -> Router<Arc<Core>> {
    Router::new().route("/operator", get(async || file(OF_OPERATORS)))
}

/// What the pages are made of.
pub(crate) fn assets() -> Router<Arc<Core>> {
    Router::new().route("/assets/{name}", get(async |uri: Uri| file(uri.path())))
}

/// What clients verify this balancer by where no authority known to them has signed it. It says
/// nothing that a connection does not say.
async fn certificate(State(core): State<Arc<Core>>) -> Response {
    let Some(file) = &core.config.tls_cert else {
        const NONE: &str = "This balancer does not encrypt by itself, so it has no certificate";
        return (StatusCode::NOT_FOUND, NONE).into_response();
    };
    match tokio::fs::read_to_string(file).await {
        Ok(text) => {
            let headers = [
                (header::CONTENT_TYPE, "application/x-pem-file"),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            (headers, certificates(&text)).into_response()
        }
        Err(error) => {
            tracing::error!(%error, file = %file.display(), "the certificate cannot be read");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The certificates of a PEM file alone: some people keep the key in the same file.
fn certificates(pem: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in pem.lines() {
        inside |= line.trim() == "-----BEGIN CERTIFICATE-----";
        if inside {
            kept.push_str(line);
            kept.push('\n');
        }
        inside &= line.trim() != "-----END CERTIFICATE-----";
    }
    kept
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_given_out_with_the_certificates() {
        let block = |what: &str| format!("-----BEGIN {what}-----\nabc\n-----END {what}-----\n");
        let (one, key) = (block("CERTIFICATE"), block("PRIVATE KEY"));
        let file = format!("note\n{one}{key}{one}{}", block("EC PRIVATE KEY"));
        assert_eq!(certificates(&file), format!("{one}{one}"));
        assert_eq!(certificates(&key), "");
    }
}
