//! How many connections there are, in all and from one address, and how long one may be of no use.
//!
//! A connection costs a file descriptor, of which a process has few: silent ones would keep
//! everybody else out. So each is closed when it went without a request for too long, whatever it
//! speaks and however slowly it sends, and when its far side takes nothing.

use std::collections::HashMap;
use std::future::{Ready, ready};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::Response;
use axum_server::accept::Accept;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tower_service::Service;

use crate::address::counted;
use crate::metrics;

/// How long the far side of a connection may take none of what is sent to it.
const STALL: Duration = Duration::from_mins(1);
/// A limit that is met is told so often.
const WARNING_PAUSE: Duration = Duration::from_mins(1);
/// File descriptors for everything else: the database, logs, the listener.
const OTHER_FILES: u64 = 64;

/// What a server lets in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub connections: usize,
    /// Not for this machine: a reverse proxy brings everybody's connections from there.
    pub per_address: usize,
    /// How long a connection may go without a request.
    pub wait: Duration,
}

/// Counts the connections of a server, and takes those within the limits.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    limits: Limits,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
    warned: Option<Instant>,
}

/// A connection's place within the limits, given back when it is dropped.
#[derive(Debug)]
struct Place {
    counts: Arc<Counts>,
    address: Option<IpAddr>,
}

/// What a connection does: shared by its stream, which ends when it does nothing, and its service.
#[derive(Debug)]
struct Activity(Mutex<Doing>);

#[derive(Debug, Clone, Copy)]
struct Doing {
    requests: usize,
    /// Since when it has none.
    idle_since: Instant,
}

/// The stream of a connection that has a place.
pub(crate) struct Watched {
    stream: TcpStream,
    activity: Arc<Activity>,
    wait: Duration,
    timer: Pin<Box<Sleep>>,
    /// Runs while nothing can be sent.
    stalled: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

/// A connection's service, which counts the requests under way.
#[derive(Debug, Clone)]
pub(crate) struct Counted<S> {
    service: S,
    activity: Arc<Activity>,
}

/// A request that is under way until this is dropped.
struct UnderWay(Arc<Activity>);

/// The body of an answer: its request is under way until it ends.
pub(crate) struct Answering<B> {
    body: B,
    _under_way: UnderWay,
}

impl Gate {
    pub(crate) fn new(limits: Limits) -> Self {
        let allowed = raise_file_limit().map_or(limits.connections, |files| {
            usize::try_from(files.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX)
        });
        if allowed < limits.connections {
            tracing::warn!(
                allowed,
                wanted = limits.connections,
                "the system allows fewer open files than `connections` asks for: raise its limit (`ulimit -n`)"
            );
        }
        let limits = Limits {
            connections: limits.connections.min(allowed.max(1)),
            ..limits
        };
        Self(Arc::new(Counts {
            limits,
            open: Mutex::default(),
        }))
    }

    fn enter(&self, address: IpAddr) -> io::Result<Place> {
        let Limits {
            connections,
            per_address,
            ..
        } = self.0.limits;
        let counted = counted(address);
        let mut open = self.0.open();
        let from_there = counted.map_or(0, |counted| {
            open.by_address.get(&counted).copied().unwrap_or(0)
        });
        let refused = if open.all >= connections {
            Some("in all")
        } else if from_there >= per_address {
            Some("from one address")
        } else {
            None
        };
        if let Some(limit) = refused {
            let now = Instant::now();
            let quiet = open
                .warned
                .is_some_and(|warned| now.duration_since(warned) < WARNING_PAUSE);
            if !quiet {
                open.warned = Some(now);
                tracing::warn!(
                    limit,
                    all = open.all,
                    from_there,
                    "there are as many connections as the settings allow; more are closed at once"
                );
            }
            drop(open);
            metrics::connection_refused();
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        open.all += 1;
        if let Some(counted) = counted {
            *open.by_address.entry(counted).or_default() += 1;
        }
        metrics::connections(open.all);
        drop(open);
        Ok(Place {
            counts: Arc::clone(&self.0),
            address: counted,
        })
    }
}

impl<S> Accept<TcpStream, S> for Gate {
    type Stream = Watched;
    type Service = Counted<S>;
    type Future = Ready<io::Result<(Watched, Counted<S>)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let entered = stream
            .peer_addr()
            .and_then(|address| self.enter(address.ip()));
        ready(entered.map(|place| {
            let (now, wait) = (Instant::now(), self.0.limits.wait);
            let activity = Arc::new(Activity(Mutex::new(Doing {
                requests: 0,
                idle_since: now,
            })));
            let counted = Counted {
                service,
                activity: Arc::clone(&activity),
            };
            let watched = Watched {
                stream,
                activity,
                wait,
                timer: Box::pin(tokio::time::sleep_until(now + wait)),
                stalled: None,
                _place: place,
            };
            (watched, counted)
        }))
    }
}

impl Counts {
    fn open(&self) -> MutexGuard<'_, Open> {
        // Every change is complete before anything that could panic.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.counts.open();
        open.all -= 1;
        if let Some(address) = self.address
            && let Some(count) = open.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&address);
            }
        }
        metrics::connections(open.all);
    }
}

impl Activity {
    fn doing(&self) -> MutexGuard<'_, Doing> {
        // Every change is complete before anything that could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>) -> UnderWay {
        self.doing().requests += 1;
        UnderWay(Arc::clone(self))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut doing = self.0.doing();
        doing.requests -= 1;
        if doing.requests == 0 {
            doing.idle_since = Instant::now();
        }
    }
}

impl Watched {
    /// Ready once the connection has gone without a request for too long.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            std::task::ready!(self.timer.as_mut().poll(context));
            let (now, doing) = (Instant::now(), *self.activity.doing());
            let end = if doing.requests > 0 {
                now + self.wait
            } else {
                doing.idle_since + self.wait
            };
            if end <= now {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            self.timer.as_mut().reset(end);
        }
    }

    /// Watches over how long sending takes.
    fn poll_stalled<T>(
        &mut self,
        context: &mut Context<'_>,
        sent: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if sent.is_ready() {
            self.stalled = None;
            return sent;
        }
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL)));
        std::task::ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            return read;
        }
        self.poll_idle(context).map(Err)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.poll_stalled(context, sent)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.poll_stalled(context, sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S, R, B> Service<R> for Counted<S>
where
    S: Service<R, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = Response<Answering<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let under_way = self.activity.begin();
        let answer = self.service.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            Ok(answer.map(|body| Answering {
                body,
                _under_way: under_way,
            }))
        })
    }
}

impl<B: Body + Unpin> Body for Answering<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Raises how many files this process may have open as far as the system lets it, and tells it;
/// `None` where there is no such limit.
#[cfg(unix)]
fn raise_file_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let found = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: found.maximum,
        ..found
    };
    // macOS refuses more than a number of its own, also where it tells no limit.
    let less = Rlimit {
        current: Some(10_240),
        ..found
    };
    for limit in [raised, less] {
        if setrlimit(Resource::Nofile, limit).is_ok() {
            break;
        }
    }
    getrlimit(Resource::Nofile).current
}

#[cfg(not(unix))]
fn raise_file_limit() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(connections: usize, per_address: usize) -> Gate {
        Gate::new(Limits {
            connections,
            per_address,
            wait: Duration::from_secs(1),
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_cannot_take_every_place() {
        let gate = gate(5, 2);
        let mut held: Vec<_> = (0..2)
            .map(|_| gate.enter(ip("192.0.2.1")).unwrap())
            .collect();
        assert!(gate.enter(ip("192.0.2.1")).is_err());
        assert!(gate.enter(ip("::ffff:192.0.2.1")).is_err());
        held.push(gate.enter(ip("192.0.2.2")).unwrap());
        held.push(gate.enter(ip("2001:db8::1")).unwrap());
        held.push(gate.enter(ip("2001:db8::ffff:2")).unwrap());
        assert!(gate.enter(ip("192.0.2.3")).is_err(), "all places are taken");
        held.clear();
        let held: Vec<_> = (0..2)
            .map(|number| {
                gate.enter(ip(&format!("2001:db8::{number}:1:1:1")))
                    .unwrap()
            })
            .collect();
        assert!(
            gate.enter(ip("2001:db8::2")).is_err(),
            "a household has a whole /64"
        );
        assert!(gate.enter(ip("2001:db8:0:1::2")).is_ok());
        drop(held);
        assert!(gate.0.open().by_address.is_empty());
    }

    #[test]
    fn a_proxy_on_this_machine_is_not_one_address() {
        let gate = gate(4, 1);
        let held: Vec<_> = ["127.0.0.1", "127.0.0.1", "::1", "::ffff:127.0.0.1"]
            .into_iter()
            .map(|address| gate.enter(ip(address)).unwrap())
            .collect();
        assert!(gate.enter(ip("127.0.0.1")).is_err(), "but it counts in all");
        drop(held);
    }

    #[cfg(unix)]
    #[test]
    fn the_limit_of_open_files_is_raised_and_kept_within() {
        use rustix::process::{Resource, getrlimit};

        let gate = gate(usize::MAX, 1);
        let limit = getrlimit(Resource::Nofile);
        if let (Some(now), Some(hard)) = (limit.current, limit.maximum) {
            assert!(now == hard || now >= 10_240, "{limit:?}");
            assert!(gate.0.limits.connections as u64 <= now);
        }
    }
}
