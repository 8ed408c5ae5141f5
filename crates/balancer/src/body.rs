//! Request bodies, read with a limit, a deadline, and a bound on the memory of all together.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use futures_util::StreamExt;
use infera_protocol::NodeId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Memory is counted in these.
const UNIT: usize = 1 << 10;
/// Memory for the bodies of calls that need no session: no caller who has none can take what the
/// others need. Nor can nodes take what clients need.
const STRANGERS_BYTES: usize = 64 << 20;
/// How many bodies of one caller are read at once. More wait: each is read within moments, unless
/// it is slow on purpose.
const PER_STRANGERS_ADDRESS: usize = 16;
const PER_NODE: usize = 4;
const PER_CLIENT: usize = 16;
/// For strangers on this machine, where a reverse proxy brings everybody's.
const STRANGERS_FROM_HERE: usize = 512;
/// What is refused is read so far, for so long, and kept nowhere: a caller that is still sending
/// would see a broken connection instead of the answer.
const MAX_DISCARDED: usize = 16 << 20;
const DISCARD_WAIT: Duration = Duration::from_secs(5);

/// Reads bodies.
#[derive(Debug)]
pub(crate) struct Bodies {
    clients: Arc<Semaphore>,
    nodes: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    turns: Arc<Mutex<Turns>>,
    wait: Duration,
}

/// Whose body it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    /// By the name of its key.
    Client(String),
    Node(NodeId),
    /// From this network, if not from this machine.
    Stranger(Option<IpAddr>),
}

type Turns = HashMap<Caller, Arc<Semaphore>>;

/// A body, and its memory until it is dropped.
#[derive(Debug)]
pub(crate) struct Received {
    pub bytes: Bytes,
    _memory: OwnedSemaphorePermit,
}

/// One of the bodies of a caller that are being read.
struct Turn {
    turns: Arc<Mutex<Turns>>,
    caller: Caller,
    /// There until it is dropped.
    permit: Option<OwnedSemaphorePermit>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyFault {
    #[error("the body is over the limit of {0} bytes")]
    TooLarge(usize),
    #[error("the body did not arrive in time")]
    TooSlow,
    #[error("the connection ended before the body")]
    Broken,
    #[error("too much is being sent at once")]
    TooMuch,
}

impl Bodies {
    /// Bodies of clients share `bytes` of memory, and so do those of nodes. Each may take `wait` to
    /// arrive.
    pub(crate) fn new(bytes: usize, wait: Duration) -> Self {
        let semaphore = |bytes: usize| {
            let units = (bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS);
            Arc::new(Semaphore::new(units))
        };
        Self {
            clients: semaphore(bytes),
            nodes: semaphore(bytes),
            strangers: semaphore(STRANGERS_BYTES),
            turns: Arc::default(),
            wait,
        }
    }

    pub(crate) async fn read(
        &self,
        mut body: Body,
        limit: usize,
        caller: Caller,
    ) -> Result<Received, BodyFault> {
        let end = Instant::now() + self.wait;
        let announced = body.size_hint();
        if announced.lower() > limit as u64 {
            discard(body).await;
            return Err(BodyFault::TooLarge(limit));
        }
        let most = announced
            .upper()
            .map_or(limit, |upper| (upper as usize).min(limit));
        let memory = Arc::clone(match caller {
            Caller::Client(_) => &self.clients,
            Caller::Node(_) => &self.nodes,
            Caller::Stranger(_) => &self.strangers,
        });
        let units = u32::try_from(most.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let begin = async {
            let turn = self.turn(caller).await;
            (turn, memory.acquire_many_owned(units).await)
        };
        let Ok((turn, Ok(memory))) = tokio::time::timeout_at(end, begin).await else {
            return Err(BodyFault::TooMuch);
        };
        let read = tokio::time::timeout_at(end, read(&mut body, most)).await;
        drop(turn);
        match read.unwrap_or(Err(BodyFault::TooSlow)) {
            Ok(Some(bytes)) => Ok(Received {
                bytes,
                _memory: memory,
            }),
            Ok(None) => {
                drop(memory);
                discard(body).await;
                Err(BodyFault::TooLarge(limit))
            }
            Err(fault) => Err(fault),
        }
    }

    async fn turn(&self, caller: Caller) -> Turn {
        let most = match caller {
            Caller::Client(_) => PER_CLIENT,
            Caller::Node(_) => PER_NODE,
            Caller::Stranger(Some(_)) => PER_STRANGERS_ADDRESS,
            Caller::Stranger(None) => STRANGERS_FROM_HERE,
        };
        let semaphore = Arc::clone(
            lock(&self.turns)
                .entry(caller.clone())
                .or_insert_with(|| Arc::new(Semaphore::new(most))),
        );
        // Made before the wait, so that a wait that is given up is tidied up after, too.
        let mut turn = Turn {
            turns: Arc::clone(&self.turns),
            caller,
            permit: None,
        };
        // It is never closed.
        turn.permit = semaphore.acquire_owned().await.ok();
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.permit = None;
        let mut turns = lock(&self.turns);
        if turns
            .get(&self.caller)
            .is_some_and(|semaphore| Arc::strong_count(semaphore) == 1)
        {
            turns.remove(&self.caller);
        }
    }
}

/// Reads what a refused caller still sends, within bounds, and keeps nothing.
pub(crate) async fn discard(body: Body) {
    let mut parts = body.into_data_stream();
    let reading = async {
        let mut length = 0usize;
        while let Some(Ok(part)) = parts.next().await
            && length <= MAX_DISCARDED
        {
            length += part.len();
        }
    };
    // What comes later meets a closed connection.
    let _ = tokio::time::timeout(DISCARD_WAIT, reading).await;
}

/// A body of at most `limit` bytes; `None` for a longer one, of which more may come.
async fn read(body: &mut Body, limit: usize) -> Result<Option<Bytes>, BodyFault> {
    let mut kept = Vec::new();
    let mut parts = std::mem::take(body).into_data_stream();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| BodyFault::Broken)?;
        if kept.len() + part.len() > limit {
            *body = Body::from_stream(parts);
            return Ok(None);
        }
        kept.extend_from_slice(&part);
    }
    Ok(Some(kept.into()))
}

fn lock(turns: &Mutex<Turns>) -> MutexGuard<'_, Turns> {
    // Every change is complete before anything that could panic.
    turns.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies() -> Bodies {
        Bodies::new(4 * UNIT, Duration::from_millis(50))
    }

    fn client() -> Caller {
        Caller::Client("ann".to_owned())
    }

    /// A body that sends `text` and then no end.
    fn endless(text: &'static str) -> Body {
        let parts = futures_util::stream::iter([Ok::<_, std::io::Error>(text)]);
        Body::from_stream(parts.chain(futures_util::stream::pending()))
    }

    #[tokio::test]
    async fn the_limit_is_exact() {
        let bodies = bodies();
        let read = async |text, caller| {
            let received = bodies.read(Body::from(text), 5, caller).await;
            received.map(|received| received.bytes)
        };
        assert_eq!(read("12345", client()).await.unwrap(), "12345");
        assert_eq!(read("123456", client()).await, Err(BodyFault::TooLarge(5)));
        let unannounced = Body::from_stream(futures_util::stream::iter([
            Ok::<_, std::io::Error>("123"),
            Ok("456"),
        ]));
        let outcome = bodies.read(unannounced, 5, client()).await;
        assert_eq!(outcome.unwrap_err(), BodyFault::TooLarge(5));
    }

    #[tokio::test]
    async fn a_slow_body_is_cut() {
        let outcome = bodies().read(endless("1"), 5, client()).await;
        assert_eq!(outcome.unwrap_err(), BodyFault::TooSlow);
    }

    #[tokio::test]
    async fn memory_is_bounded_and_given_back() {
        let bodies = bodies();
        let text = "x".repeat(3 * UNIT);
        let held = bodies
            .read(Body::from(text.clone()), 1 << 20, client())
            .await
            .unwrap();
        let outcome = bodies
            .read(Body::from(text.clone()), 1 << 20, client())
            .await;
        assert_eq!(outcome.unwrap_err(), BodyFault::TooMuch);
        bodies
            .read(Body::from("small"), 1 << 20, client())
            .await
            .unwrap();
        drop(held);
        bodies
            .read(Body::from(text), 1 << 20, client())
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn slow_bodies_of_one_caller_keep_no_others_out() {
        let wait = Duration::from_secs(2);
        let bodies = Arc::new(Bodies::new(2 << 20, wait));
        let stranger = |number: u8| Caller::Stranger(Some(IpAddr::from([192, 0, 2, number])));
        let node = |number: u8| Caller::Node(NodeId::from_bytes([number; 32]));
        let read = |body: Body, caller: Caller| {
            let bodies = Arc::clone(&bodies);
            tokio::spawn(async move {
                let received = bodies.read(body, 64 << 10, caller).await;
                received.map(|received| received.bytes)
            })
        };
        let mut slow = Vec::new();
        for caller in [stranger(1), node(1), client()] {
            // More than are read at once, and than there would be memory for.
            slow.extend((0..40).map(|_| read(endless("x"), caller.clone())));
        }
        while lock(&bodies.turns)
            .values()
            .any(|turns| turns.available_permits() > 0)
            || lock(&bodies.turns).len() < 3
        {
            tokio::task::yield_now().await;
        }
        let begun = Instant::now();
        for caller in [stranger(2), node(2), Caller::Client("bob".to_owned())] {
            let read = read(Body::from("{}"), caller).await.unwrap();
            assert_eq!(read.unwrap(), "{}");
        }
        assert!(begun.elapsed() < wait);
        for slow in slow {
            let fault = slow.await.unwrap().unwrap_err();
            assert!(matches!(fault, BodyFault::TooSlow | BodyFault::TooMuch));
        }
        assert!(lock(&bodies.turns).is_empty());
    }
}
