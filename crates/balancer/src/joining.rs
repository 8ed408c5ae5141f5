//! How a node comes to a session: its challenge, what a new identity costs, and how many may come
//! from one address. Identities are free to make, so whatever is given to one must not be worth
//! making many.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use infera_protocol::digest::Digest;
use infera_protocol::node_api::{
    AdmissionRule, Checking, Refusal, RefusalCode, SessionRequest, Standing, work_is_done,
};
use infera_protocol::{Hash, NodeId};
use tokio::time::Instant;

use crate::config::Config;
use crate::job::refusal;
use crate::store::NodeRow;

/// How long a node may take to answer a challenge.
const CHALLENGE_LIFE: Duration = Duration::from_mins(1);
/// How many nodes may be here from this machine, and how many new ones may join in an hour: a
/// reverse proxy that names no addresses brings everybody's from here.
const NODES_FROM_HERE: usize = 4096;
const STAMP_BYTES: usize = 7;

/// Challenges that are known again without being kept: each carries when it was made and what it
/// asks, under a key that only this run of the balancer has. So no flood of them takes memory, or
/// another node's challenge away.
#[derive(Debug)]
pub(crate) struct Challenges {
    secret: [u8; 32],
    start: Instant,
    last: AtomicU64,
}

/// What a challenge of ours says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Microseconds since the start, and no two alike: a node uses them in this order.
    pub made: u64,
    pub work_bits: u8,
}

/// What a session is opened with, besides the proof of the key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opening {
    /// [`Stamp::made`].
    pub made: u64,
    pub instance: Option<Hash>,
    /// As [`crate::address::counted`] gives it.
    pub address: Option<IpAddr>,
    /// The balancer has never seen the identity.
    pub is_new: bool,
    /// How many nodes may be here from one address.
    pub most: usize,
    /// How many new ones may join from one address in an hour.
    pub most_new: usize,
}

impl Challenges {
    pub(crate) fn new(secret: [u8; 32], now: Instant) -> Self {
        Self {
            secret,
            start: now,
            last: AtomicU64::new(0),
        }
    }

    pub(crate) fn make(&self, node: &NodeId, work_bits: u8, now: Instant) -> Hash {
        let now = self.moment(now);
        // The function never refuses.
        let earlier = self
            .last
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(now.max(last + 1))
            });
        let made = earlier.map_or(now, |last| now.max(last + 1));
        self.sealed(node, Stamp { made, work_bits })
    }

    /// What a challenge says, if it is one of ours for this node and not too old.
    pub(crate) fn read(&self, node: &NodeId, challenge: &Hash, now: Instant) -> Option<Stamp> {
        let bytes = challenge.as_bytes();
        let mut made = [0; 8];
        made[..STAMP_BYTES].copy_from_slice(&bytes[..STAMP_BYTES]);
        let stamp = Stamp {
            made: u64::from_le_bytes(made),
            work_bits: bytes[STAMP_BYTES],
        };
        let ours = self.sealed(node, stamp).is_same_secret(challenge);
        let age = self.moment(now).saturating_sub(stamp.made);
        (ours && u128::from(age) <= CHALLENGE_LIFE.as_micros()).then_some(stamp)
    }

    fn sealed(&self, node: &NodeId, stamp: Stamp) -> Hash {
        let mut bytes = *Digest::new("infera/challenge/v1")
            .fixed(&self.secret)
            .fixed(node.as_bytes())
            .u64(stamp.made)
            .u8(stamp.work_bits)
            .finish()
            .as_bytes();
        bytes[..STAMP_BYTES].copy_from_slice(&stamp.made.to_le_bytes()[..STAMP_BYTES]);
        bytes[STAMP_BYTES] = stamp.work_bits;
        Hash::from_bytes(bytes)
    }

    fn moment(&self, now: Instant) -> u64 {
        now.duration_since(self.start).as_micros() as u64
    }
}

/// How much work a node has to do for a session.
pub(crate) fn work_bits(config: &Config, known: Option<&NodeRow>) -> u8 {
    match config.admission {
        AdmissionRule::Work if !is_known_well(known) => config.work_bits,
        AdmissionRule::Work | AdmissionRule::Open | AdmissionRule::Invitation => 0,
    }
}

/// Lets a node that has proved its key open a session, or says why not.
pub(crate) fn admit(
    config: &Config,
    request: &SessionRequest,
    stamp: Stamp,
    known: Option<&NodeRow>,
    address: Option<IpAddr>,
) -> Result<Opening, Refusal> {
    if !work_is_done(
        &request.node,
        &request.challenge,
        request.work,
        stamp.work_bits,
    ) {
        return Err(refusal(
            RefusalCode::WorkMissing,
            "The work that a new identity costs is missing or wrong. Ask for a new challenge, or update the node",
        ));
    }
    if config.admission == AdmissionRule::Invitation && !is_known_well(known) {
        return Err(refusal(
            RefusalCode::InvitationNeeded,
            "This network takes new nodes by invitation only. Ask its operator for an invitation, and join by its link",
        ));
    }
    if config.checking == Checking::None && !known.is_some_and(|node| node.trusted) {
        return Err(refusal(
            RefusalCode::NotEligible,
            format!(
                "This network checks no answers and gives jobs only to nodes that its operator trusts. Ask its operator to trust this one: `infera-balancer node trust {}`",
                request.node
            ),
        ));
    }
    Ok(Opening {
        made: stamp.made,
        instance: request.instance,
        address,
        is_new: known.is_none(),
        most: match address {
            Some(_) => config.nodes_per_address,
            None => NODES_FROM_HERE,
        },
        most_new: most_new(config, address),
    })
}

/// How many identities that are new may join from an address in an hour.
pub(crate) fn most_new(config: &Config, address: Option<IpAddr>) -> usize {
    address.map_or(NODES_FROM_HERE, |_| config.new_nodes_per_address)
}

/// What the operator lets a node be while nothing is checked: then nobody is a reference.
pub(crate) fn standing(config: &Config, node: Standing) -> Standing {
    Standing {
        reference: node.reference && config.checking == Checking::Always,
        ..node
    }
}

/// The operator has named or invited it, or it has shown that it works.
fn is_known_well(known: Option<&NodeRow>) -> bool {
    known.is_some_and(|node| {
        node.reference || node.trusted || node.joined_ms.is_some() || node.verified > 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    #[test]
    fn a_challenge_is_known_again_for_a_minute_and_for_its_node_alone() {
        let now = Instant::now();
        let challenges = Challenges::new([1; 32], now);
        let challenge = challenges.make(&id(1), 20, now);
        let later = |seconds| now + Duration::from_secs(seconds);
        let stamp = challenges.read(&id(1), &challenge, later(59)).unwrap();
        assert_eq!(stamp.work_bits, 20);
        assert_eq!(challenges.read(&id(1), &challenge, later(61)), None);
        assert_eq!(challenges.read(&id(2), &challenge, now), None);
        let restarted = Challenges::new([2; 32], now);
        assert_eq!(restarted.read(&id(1), &challenge, now), None);
        for at in 0..32 {
            let mut bytes = *challenge.as_bytes();
            bytes[at] ^= 1;
            let changed = Hash::from_bytes(bytes);
            assert_eq!(challenges.read(&id(1), &changed, now), None, "byte {at}");
        }
    }

    /// Who opens a session, by the rule and by what is known of the node.
    #[test]
    fn who_comes_in_as_a_table() {
        type Known = fn(&mut NodeRow);
        let plain: Known = |_| {};
        let member: Known = |node| node.joined_ms = Some(1);
        let trusted: Known = |node| node.trusted = true;
        let reference: Known = |node| node.reference = true;
        let verified: Known = |node| node.verified = 1;
        let (open, work) = (AdmissionRule::Open, AdmissionRule::Work);
        let invitation = AdmissionRule::Invitation;
        let (always, none) = (Checking::Always, Checking::None);
        let needed = Some(RefusalCode::InvitationNeeded);
        let not_eligible = Some(RefusalCode::NotEligible);
        for (admission, checking, known, bits, refused) in [
            (open, always, None, 0, None),
            (work, always, None, 9, None),
            (work, always, Some(plain), 9, None),
            (work, always, Some(member), 0, None),
            (work, always, Some(trusted), 0, None),
            (work, always, Some(verified), 0, None),
            (invitation, always, None, 0, needed),
            (invitation, always, Some(plain), 0, needed),
            (invitation, always, Some(member), 0, None),
            (invitation, always, Some(reference), 0, None),
            (invitation, always, Some(verified), 0, None),
            (open, none, None, 0, not_eligible),
            (open, none, Some(verified), 0, not_eligible),
            (open, none, Some(reference), 0, not_eligible),
            (invitation, none, Some(member), 0, not_eligible),
            (invitation, none, Some(trusted), 0, None),
        ] {
            let config = Config {
                admission,
                checking,
                work_bits: 9,
                ..Config::default()
            };
            let known = known.map(|change| {
                let mut node = NodeRow::unknown(id(1));
                change(&mut node);
                node
            });
            let case = format!("{admission:?} {checking:?} {known:?}");
            assert_eq!(work_bits(&config, known.as_ref()), bits, "{case}");
            let request = SessionRequest {
                version: infera_protocol::VERSION,
                node: id(1),
                challenge: Hash::from_bytes([1; 32]),
                signature: infera_protocol::NodeKey::from_secret(&[1; 32])
                    .sign(Hash::from_bytes([1; 32])),
                software: String::new(),
                hardware: infera_protocol::requirements::Hardware::default(),
                work: 0,
                instance: None,
            };
            let stamp = Stamp {
                made: 1,
                work_bits: 0,
            };
            let admitted = admit(&config, &request, stamp, known.as_ref(), None);
            assert_eq!(
                admitted.err().map(|refusal| refusal.code),
                refused,
                "{case}"
            );
        }
    }

    #[test]
    fn no_flood_takes_a_challenge_away_and_no_two_are_alike() {
        let now = Instant::now();
        let challenges = Challenges::new([1; 32], now);
        let honest = challenges.make(&id(1), 0, now);
        let mut seen = std::collections::HashSet::from([honest]);
        for _ in 0..20_000 {
            assert!(seen.insert(challenges.make(&id(1), 0, now)));
        }
        assert!(challenges.read(&id(1), &honest, now).is_some());
    }
}
