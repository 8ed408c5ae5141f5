//! Request bodies, read with a limit, a deadline, and a bound on the memory of all together.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use futures_util::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Memory is counted in these.
const UNIT: usize = 1 << 10;
/// Memory for the bodies of calls that need no session: no caller who has none can take what the
/// others need.
const STRANGERS_BYTES: usize = 64 << 20;
/// How many such bodies may come from one address at once.
const STRANGERS_PER_ADDRESS: usize = 16;
/// And from this machine, where a reverse proxy brings everybody's.
const STRANGERS_FROM_HERE: usize = 512;
/// What is refused is read so far, for so long, and kept nowhere: a caller that is still sending
/// would see a broken connection instead of the answer.
const MAX_DISCARDED: usize = 16 << 20;
const DISCARD_WAIT: Duration = Duration::from_secs(5);

/// Reads bodies.
#[derive(Debug)]
pub(crate) struct Bodies {
    known: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
    wait: Duration,
}

/// Whose body it is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Caller {
    /// With a session, or an API key.
    Known,
    /// From this network, if not from this machine.
    Stranger(Option<IpAddr>),
}

/// A body, and its memory until it is dropped.
#[derive(Debug)]
pub(crate) struct Received {
    pub bytes: Bytes,
    _memory: OwnedSemaphorePermit,
    _turn: Option<Turn>,
}

/// One of the bodies from an address.
#[derive(Debug)]
struct Turn {
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
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
    /// Bodies of known callers share `bytes` of memory, and each may take `wait` to arrive.
    pub(crate) fn new(bytes: usize, wait: Duration) -> Self {
        let semaphore = |bytes: usize| {
            let units = (bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS);
            Arc::new(Semaphore::new(units))
        };
        Self {
            known: semaphore(bytes),
            strangers: semaphore(STRANGERS_BYTES),
            addresses: Arc::default(),
            wait,
        }
    }

    pub(crate) async fn read(
        &self,
        body: Body,
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
        let Ok(turn) = self.turn(caller) else {
            discard(body).await;
            return Err(BodyFault::TooMuch);
        };
        let memory = match caller {
            Caller::Known => &self.known,
            Caller::Stranger(_) => &self.strangers,
        };
        let units = u32::try_from(most.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let taken = Arc::clone(memory).acquire_many_owned(units);
        let Ok(Ok(memory)) = tokio::time::timeout_at(end, taken).await else {
            return Err(BodyFault::TooMuch);
        };
        let mut body = body;
        let read = tokio::time::timeout_at(end, read(&mut body, most)).await;
        match read.unwrap_or(Err(BodyFault::TooSlow)) {
            Ok(Some(bytes)) => Ok(Received {
                bytes,
                _memory: memory,
                _turn: turn,
            }),
            Ok(None) => {
                drop(memory);
                discard(body).await;
                Err(BodyFault::TooLarge(limit))
            }
            Err(fault) => Err(fault),
        }
    }

    fn turn(&self, caller: Caller) -> Result<Option<Turn>, BodyFault> {
        let Caller::Stranger(address) = caller else {
            return Ok(None);
        };
        let (address, most) = match address {
            Some(address) => (address, STRANGERS_PER_ADDRESS),
            None => (IpAddr::from([127, 0, 0, 1]), STRANGERS_FROM_HERE),
        };
        let mut addresses = lock(&self.addresses);
        let count = addresses.entry(address).or_default();
        if *count >= most {
            return Err(BodyFault::TooMuch);
        }
        *count += 1;
        drop(addresses);
        Ok(Some(Turn {
            addresses: Arc::clone(&self.addresses),
            address,
        }))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut addresses = lock(&self.addresses);
        if let Some(count) = addresses.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&self.address);
            }
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

fn lock(addresses: &Mutex<HashMap<IpAddr, usize>>) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
    // Every change is complete before anything that could panic.
    addresses.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies() -> Bodies {
        Bodies::new(4 * UNIT, Duration::from_millis(50))
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
        assert_eq!(read("12345", Caller::Known).await.unwrap(), "12345");
        assert_eq!(
            read("123456", Caller::Known).await,
            Err(BodyFault::TooLarge(5))
        );
        let unannounced = Body::from_stream(futures_util::stream::iter([
            Ok::<_, std::io::Error>("123"),
            Ok("456"),
        ]));
        let outcome = bodies.read(unannounced, 5, Caller::Known).await;
        assert_eq!(outcome.unwrap_err(), BodyFault::TooLarge(5));
    }

    #[tokio::test]
    async fn a_slow_body_is_cut() {
        let outcome = bodies().read(endless("1"), 5, Caller::Known).await;
        assert_eq!(outcome.unwrap_err(), BodyFault::TooSlow);
    }

    #[tokio::test]
    async fn memory_is_bounded_and_given_back() {
        let bodies = bodies();
        let text = "x".repeat(3 * UNIT);
        let held = bodies
            .read(Body::from(text.clone()), 1 << 20, Caller::Known)
            .await
            .unwrap();
        let outcome = bodies
            .read(Body::from(text.clone()), 1 << 20, Caller::Known)
            .await;
        assert_eq!(outcome.unwrap_err(), BodyFault::TooMuch);
        bodies
            .read(Body::from("small"), 1 << 20, Caller::Known)
            .await
            .unwrap();
        drop(held);
        bodies
            .read(Body::from(text), 1 << 20, Caller::Known)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn strangers_of_one_address_keep_no_others_out() {
        let bodies = Arc::new(Bodies::new(UNIT, Duration::from_secs(2)));
        let stranger = |number: u8| Caller::Stranger(Some(IpAddr::from([192, 0, 2, number])));
        let slow: Vec<_> = (0..STRANGERS_PER_ADDRESS)
            .map(|_| {
                let bodies = Arc::clone(&bodies);
                tokio::spawn(async move { bodies.read(endless("x"), 64 << 10, stranger(1)).await })
            })
            .collect();
        while lock(&bodies.addresses).values().sum::<usize>() < STRANGERS_PER_ADDRESS {
            tokio::task::yield_now().await;
        }
        let more = bodies.read(Body::from("{}"), 64 << 10, stranger(1)).await;
        assert_eq!(more.unwrap_err(), BodyFault::TooMuch);
        let other = bodies.read(Body::from("{}"), 64 << 10, stranger(2)).await;
        assert_eq!(other.unwrap().bytes, "{}");
        for slow in slow {
            assert_eq!(slow.await.unwrap().unwrap_err(), BodyFault::TooSlow);
        }
        assert!(lock(&bodies.addresses).is_empty());
    }
}
