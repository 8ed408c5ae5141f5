//! Asks a network who it is before anything depends on it.

use infera_protocol::node_api::Network;

use crate::balancer_link::{BalancerLink, LinkError};
use crate::http_link::{BadUrl, HttpLink};

/// A network that has answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The whole address, with its scheme.
    pub url: String,
    pub network: Network,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    #[error(transparent)]
    Address(#[from] BadUrl),
    #[error("the network at {url} cannot be asked: {error}")]
    NoAnswer { url: String, error: LinkError },
}

/// Finds the network that a person means by an address. Without a scheme that is HTTPS; on this
/// machine plain HTTP is tried after it.
pub async fn look_up(address: &str, extra_roots: Option<&[u8]>) -> Result<Found, NotFound> {
    let address = address.trim().trim_end_matches('/');
    if address.contains("://") {
        return ask(address, extra_roots).await;
    }
    let secure = ask(&format!("https://{address}"), extra_roots).await;
    if secure.is_ok() {
        return secure;
    }
    match ask(&format!("http://{address}"), extra_roots).await {
        // Another machine's is never asked without TLS: what counts is why TLS failed.
        Err(NotFound::Address(BadUrl::PlainHttp(_))) => secure,
        plain => plain,
    }
}

async fn ask(url: &str, extra_roots: Option<&[u8]>) -> Result<Found, NotFound> {
    let link = HttpLink::new(url, extra_roots)?;
    let url = link.url().to_owned();
    match link.network().await {
        Ok(network) => Ok(Found { url, network }),
        Err(error) => Err(NotFound::NoAnswer { url, error }),
    }
}
