//! Listens, with or without TLS, and ends in good order.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use hyper_util::rt::TokioTimer;

use crate::dispatch::Balancer;
use crate::{client_http, node_http};

/// How long a connection may take to send its headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long open answers may go on once the end was asked for.
const GRACE: Duration = Duration::from_secs(2);
/// How long they then have to tell their clients.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Certificate chain and private key, as PEM files.
#[derive(Debug, Clone)]
pub struct Tls {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Where a server listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    pub socket: SocketAddr,
    pub tls: bool,
}

/// A server that has its port, but does not answer yet.
pub struct Server {
    balancer: Balancer,
    listener: TcpListener,
    tls: Option<RustlsConfig>,
}

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("The address {address} cannot be listened on: {source}. Choose another with --listen")]
    Listen {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("The certificate {} with the key {} cannot be used: {source}. Both are PEM files", certificate.display(), key.display())]
    Tls {
        certificate: PathBuf,
        key: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("The server ended: {0}")]
    Ended(#[source] std::io::Error),
}

impl Server {
    pub async fn bind(
        balancer: Balancer,
        address: SocketAddr,
        tls: Option<Tls>,
    ) -> Result<Self, ServeError> {
        let fault = |source| ServeError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(fault)?;
        listener.set_nonblocking(true).map_err(fault)?;
        let tls = match tls {
            None => None,
            Some(Tls { certificate, key }) => {
                // Installing fails only when a provider is there already, which then serves.
                let _ = rustls::crypto::ring::default_provider().install_default();
                let config = RustlsConfig::from_pem_file(&certificate, &key)
                    .await
                    .map_err(|source| ServeError::Tls {
                        certificate,
                        key,
                        source,
                    })?;
                Some(config)
            }
        };
        Ok(Self {
            balancer,
            listener,
            tls,
        })
    }

    pub fn address(&self) -> Result<Address, ServeError> {
        let socket = self.listener.local_addr().map_err(ServeError::Ended)?;
        Ok(Address {
            socket,
            tls: self.tls.is_some(),
        })
    }

    /// Answers until `end` is there, then lets open answers end for a moment.
    pub async fn run(
        self,
        end: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServeError> {
        let core = Arc::clone(&self.balancer.0);
        let app = Router::new()
            .merge(client_http::router())
            .merge(node_http::router())
            .with_state(core);
        let handle = Handle::new();
        let stop = handle.clone();
        let answering = Arc::clone(&self.balancer.0);
        let ending = tokio::spawn(async move {
            end.await;
            stop.graceful_shutdown(Some(GRACE + LAST_WORDS));
            tokio::time::sleep(GRACE).await;
            answering.end_answers();
        });
        let background = self.balancer.clone();
        let upkeep = tokio::spawn(async move { background.keep_up().await });
        let outcome = match self.tls {
            None => {
                let server = axum_server::from_tcp(self.listener).map_err(ServeError::Ended)?;
                let server = with_header_timeout(server).handle(handle);
                server.serve(app.into_make_service()).await
            }
            Some(tls) => {
                let server =
                    axum_server::from_tcp_rustls(self.listener, tls).map_err(ServeError::Ended)?;
                let server = with_header_timeout(server).handle(handle);
                server.serve(app.into_make_service()).await
            }
        };
        upkeep.abort();
        ending.abort();
        outcome.map_err(ServeError::Ended)
    }
}

fn with_header_timeout<A>(
    mut server: axum_server::Server<SocketAddr, A>,
) -> axum_server::Server<SocketAddr, A> {
    server
        .http_builder()
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    server
}

impl std::fmt::Display for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(formatter, "{scheme}://{}", self.socket)
    }
}
