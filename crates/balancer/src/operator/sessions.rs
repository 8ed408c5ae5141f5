//! Who is signed in, and how often a wrong key was tried. In memory: a restart signs everybody out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use infera_protocol::Hash;
use infera_protocol::digest::Digest;
use tokio::time::Instant;

use super::keys::OperatorKey;

pub(crate) const LIFE: Duration = Duration::from_hours(12);
/// How many may be signed in at once; the oldest has to go for one more.
const MOST: usize = 64;
/// How many wrong keys may be tried within a while from one address.
const MOST_WRONG: u32 = 10;
/// From this machine, where a reverse proxy brings everybody's.
const MOST_WRONG_HERE: u32 = 100;
const WRONG_LIFE: Duration = Duration::from_mins(10);
/// How many addresses are told apart. More share one count.
const MOST_ADDRESSES: usize = 4096;
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// By the token's hash: the memory holds nothing that opens a session.
    open: HashMap<Hash, Session>,
    /// Since when, and how many.
    wrong: HashMap<Option<IpAddr>, (Instant, u32)>,
}

#[derive(Debug, Clone)]
struct Session {
    key: OperatorKey,
    ends: Instant,
}

impl Sessions {
    pub(crate) fn open(&self, token: &str, key: OperatorKey, now: Instant) {
        let mut inner = self.lock();
        inner.open.retain(|_, session| session.ends > now);
        if inner.open.len() >= MOST {
            let oldest = inner.open.iter().min_by_key(|(_, session)| session.ends);
            if let Some(oldest) = oldest.map(|(token, _)| *token) {
                inner.open.remove(&oldest);
            }
        }
        let ends = now + LIFE;
        inner.open.insert(hash(token), Session { key, ends });
    }

    /// With which key a session was opened, if there is one.
    pub(crate) fn find(&self, token: &str, now: Instant) -> Option<OperatorKey> {
        let inner = self.lock();
        let session = inner.open.get(&hash(token))?;
        (session.ends > now).then(|| session.key.clone())
    }

    pub(crate) fn close(&self, token: &str) {
        self.lock().open.remove(&hash(token));
    }

    /// Ends all that a key has opened.
    pub(crate) fn close_all(&self, key: i64) {
        self.lock().open.retain(|_, session| session.key.id != key);
    }

    /// How long no key is looked at from an address, because too many there were wrong.
    pub(crate) fn wait(&self, address: Option<IpAddr>, now: Instant) -> Option<Duration> {
        let mut inner = self.lock();
        let (since, count) = *inner.wrong(address, now);
        let most = address.map_or(MOST_WRONG_HERE, |_| MOST_WRONG);
        (count >= most).then(|| (since + WRONG_LIFE).duration_since(now))
    }

    pub(crate) fn count_wrong(&self, address: Option<IpAddr>, now: Instant) {
        self.lock().wrong(address, now).1 += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is complete before anything that could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn wrong(&mut self, address: Option<IpAddr>, now: Instant) -> &mut (Instant, u32) {
        self.wrong
            .retain(|_, (since, _)| now.duration_since(*since) < WRONG_LIFE);
        let full = self.wrong.len() >= MOST_ADDRESSES && !self.wrong.contains_key(&address);
        let counted = if full { Some(OTHERS) } else { address };
        self.wrong.entry(counted).or_insert((now, 0))
    }
}

fn hash(token: &str) -> Hash {
    Digest::new("infera/operator-session/v1")
        .bytes(token.as_bytes())
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: i64) -> OperatorKey {
        OperatorKey {
            id,
            name: format!("key-{id}"),
        }
    }

    #[test]
    fn a_session_lasts_twelve_hours_and_is_known_by_its_token_alone() {
        let sessions = Sessions::default();
        let now = Instant::now();
        sessions.open("a", key(1), now);
        let later = |hours| now + Duration::from_hours(hours);
        assert_eq!(sessions.find("a", later(11)), Some(key(1)));
        assert_eq!(sessions.find("a", later(12)), None);
        assert_eq!(sessions.find("b", now), None);
        sessions.close("a");
        assert_eq!(sessions.find("a", now), None);
    }

    #[test]
    fn a_keys_sessions_end_together_and_others_stay() {
        let sessions = Sessions::default();
        let now = Instant::now();
        for (token, of) in [("a", 1), ("b", 1), ("c", 2)] {
            sessions.open(token, key(of), now);
        }
        sessions.close_all(1);
        assert_eq!(sessions.find("a", now), None);
        assert_eq!(sessions.find("b", now), None);
        assert_eq!(sessions.find("c", now), Some(key(2)));
    }

    #[test]
    fn the_oldest_session_goes_for_one_too_many() {
        let sessions = Sessions::default();
        let now = Instant::now();
        for number in 0..=MOST {
            let at = now + Duration::from_secs(number as u64);
            sessions.open(&number.to_string(), key(1), at);
        }
        let end = now + Duration::from_secs(MOST as u64);
        assert_eq!(sessions.find("0", end), None);
        assert_eq!(sessions.find("1", end), Some(key(1)));
        assert_eq!(sessions.lock().open.len(), MOST);
    }

    #[test]
    fn wrong_keys_are_counted_by_address_for_ten_minutes() {
        let sessions = Sessions::default();
        let now = Instant::now();
        let address = |number: u8| Some(IpAddr::from([192, 0, 2, number]));
        for _ in 0..MOST_WRONG {
            assert_eq!(sessions.wait(address(1), now), None);
            sessions.count_wrong(address(1), now);
            sessions.count_wrong(None, now);
        }
        assert_eq!(sessions.wait(address(1), now), Some(WRONG_LIFE));
        assert_eq!(sessions.wait(address(2), now), None);
        assert_eq!(sessions.wait(None, now), None);
        assert_eq!(sessions.wait(address(1), now + WRONG_LIFE), None);
    }

    #[test]
    fn a_flood_of_addresses_takes_no_more_memory() {
        let sessions = Sessions::default();
        let now = Instant::now();
        for number in 0..MOST_ADDRESSES as u32 * 2 {
            sessions.count_wrong(Some(IpAddr::V4(Ipv4Addr::from(number + 1))), now);
        }
        assert!(sessions.lock().wrong.len() <= MOST_ADDRESSES + 1);
        let another = Some(IpAddr::from([203, 0, 113, 9]));
        assert!(sessions.wait(another, now).is_some());
    }
}
