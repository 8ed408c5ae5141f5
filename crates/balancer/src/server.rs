//! Listens, with or without TLS, and ends in good order.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;

use crate::connections::{Gate, Limits};
use crate::dispatch::Balancer;
use crate::operator::Cookies;
use crate::router::{operators, router};

/// What a request's headers may take in memory.
const MAX_HEADER_BYTES: u32 = 16 << 10;
/// What HTTP/1 reads ahead of a connection.
const MAX_READ_BYTES: usize = 64 << 10;
/// How many requests one HTTP/2 connection may have under way.
const MAX_STREAMS: u32 = 128;
/// How often a silent HTTP/2 connection is asked whether it lives, and how long it may take.
const PING: Duration = Duration::from_secs(20);
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
    /// For operators alone, if they have an address of their own.
    for_operators: Option<TcpListener>,
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
        Self::on(balancer, listen(address)?, tls).await
    }

    /// Takes a port that was got by [`listen`].
    pub(crate) async fn on(
        balancer: Balancer,
        listener: TcpListener,
        tls: Option<Tls>,
    ) -> Result<Self, ServeError> {
        let for_operators = balancer.0.config.operator_listen.map(listen).transpose()?;
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
            for_operators,
            tls,
        })
    }

    pub fn address(&self) -> Result<Address, ServeError> {
        self.address_of(&self.listener)
    }

    /// Where operators have an address of their own.
    pub(crate) fn operators_address(&self) -> Result<Option<Address>, ServeError> {
        let own = self.for_operators.as_ref();
        own.map(|listener| self.address_of(listener)).transpose()
    }

    fn address_of(&self, listener: &TcpListener) -> Result<Address, ServeError> {
        let socket = listener.local_addr().map_err(ServeError::Ended)?;
        Ok(Address {
            socket,
            tls: self.tls.is_some(),
        })
    }

    /// A browser keeps the session of whoever signs in there from connections that anybody on the
    /// way can read. On this machine there is no way, and no encryption either, unless a proxy does
    /// it.
    fn cookies(&self, address: Address) -> Cookies {
        let outside = self.balancer.0.config.address.as_deref();
        let proxied = outside.is_some_and(|outside| outside.starts_with("https://"));
        Cookies {
            secure: address.tls || proxied || !address.socket.ip().is_loopback(),
        }
    }

    /// Answers until `end` is there, then lets open answers end for a moment.
    pub async fn run(
        self,
        end: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServeError> {
        let operators_address = self.operators_address()?;
        let with_operators = match operators_address {
            Some(_) => None,
            None => Some(self.cookies(self.address()?)),
        };
        let app = router(Arc::clone(&self.balancer.0), with_operators);
        let page = operators_address
            .map(|address| operators(Arc::clone(&self.balancer.0), self.cookies(address)));
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
        let config = &self.balancer.0.config;
        let wait = config.request_wait;
        let gate = Gate::new(Limits {
            connections: config.connections,
            per_address: config.connections_per_address,
            wait,
        });
        let door = Door {
            tls: self.tls,
            gate,
            wait,
            handle,
        };
        let outcome = match self.for_operators.zip(page) {
            None => door.serve(self.listener, app).await,
            Some((own, page)) => {
                let both = tokio::try_join!(
                    door.clone().serve(self.listener, app),
                    door.serve(own, page)
                );
                both.map(|((), ())| ())
            }
        };
        upkeep.abort();
        ending.abort();
        outcome.map_err(ServeError::Ended)
    }
}

/// How connections come in, at every address alike.
#[derive(Clone)]
struct Door {
    tls: Option<RustlsConfig>,
    gate: Gate,
    wait: Duration,
    handle: Handle<SocketAddr>,
}

impl Door {
    async fn serve(self, listener: TcpListener, app: Router) -> std::io::Result<()> {
        let Self {
            tls,
            gate,
            wait,
            handle,
        } = self;
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        let server = axum_server::from_tcp(listener)?;
        match tls {
            None => {
                let server = with_limits(server.acceptor(gate), wait).handle(handle);
                server.serve(app).await
            }
            Some(tls) => {
                let acceptor = RustlsAcceptor::new(tls)
                    .handshake_timeout(wait)
                    .acceptor(gate);
                let server = with_limits(server.acceptor(acceptor), wait).handle(handle);
                server.serve(app).await
            }
        }
    }
}

/// Takes a port. Nobody is answered before there is a server on it.
pub(crate) fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    let fault = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(fault)?;
    listener.set_nonblocking(true).map_err(fault)?;
    Ok(listener)
}

fn with_limits<A>(
    mut server: axum_server::Server<SocketAddr, A>,
    wait: Duration,
) -> axum_server::Server<SocketAddr, A> {
    let builder = server.http_builder();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(wait)
        .max_buf_size(MAX_READ_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES);
    server
}

impl std::fmt::Display for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(formatter, "{scheme}://{}", self.socket)
    }
}
