//! The nodes that are here now: sessions, what each can take, and its stream of events.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use infera_protocol::account::MachineReport;
use infera_protocol::digest::Digest;
use infera_protocol::node_api::{NodeEvent, NodeState, Offer, Refusal, RefusalCode, Standing};
use infera_protocol::{AccountId, Hash, JobId, ModelId, NodeId};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::job::{Place, Speeds, refusal};
use crate::joining::Opening;
use crate::reach::{Host, Reach};

/// How many more offers a node gets at once than it has free slots: others may be faster.
const SPARE_OFFERS: usize = 2;
/// A session that was silent for so long is forgotten.
const SESSION_LIFE: Duration = Duration::from_hours(1);
/// How long new identities count against their address.
const NEWCOMERS_LIFE: Duration = Duration::from_hours(1);
/// Bytes of events that are kept for one node, however few they are.
const MAX_EVENT_BYTES: usize = 256 << 10;

/// All nodes with a session. It lives in memory: after a restart nodes open new sessions.
#[derive(Debug)]
pub(crate) struct Nodes {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
    timeout: Duration,
    buffer: usize,
    first_event: u64,
    trust: Trust,
}

/// From when on a node is taken for what it says of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trust {
    /// So many verified jobs make a newcomer a known node.
    pub newcomer_jobs: u32,
    /// A node that was measured below this counts as a newcomer.
    pub least_tokens_per_second: f64,
}

#[derive(Debug, Default)]
struct Inner {
    sessions: HashMap<Hash, NodeId>,
    nodes: HashMap<NodeId, LiveNode>,
    /// Nodes whose event stream has begun anew since [`Nodes::take_relinked`].
    relinked: Vec<NodeId>,
    /// How many identities that were new have joined from an address, and since when.
    newcomers: HashMap<Option<IpAddr>, (Instant, usize)>,
    /// Above every event id of nodes that were forgotten.
    next_event: u64,
    /// Nodes whose reports count no more.
    lost_role: HashSet<NodeId>,
}

#[derive(Debug)]
struct LiveNode {
    session: Option<Hash>,
    /// When the challenge of its last session was made: older ones are used up.
    challenged: u64,
    /// Which run of its program holds the session.
    instance: Option<Hash>,
    address: Option<IpAddr>,
    reference: bool,
    /// By the operator, whatever it has shown so far.
    trusted: bool,
    account: Option<AccountId>,
    meets_requirements: bool,
    state: Option<NodeState>,
    /// Jobs and audits given since the node last told its free slots.
    taken: u32,
    running: u32,
    /// Jobs on offer to it.
    offers: HashSet<JobId>,
    last_heard: Instant,
    /// By [`Edges::steady_ms`](crate::edges::Edges::steady_ms).
    banned_until_ms: i64,
    /// Jobs of it that passed.
    verified: u32,
    speeds: Speeds,
    events: EventLog,
    /// Number of the event stream that is open now.
    stream: Option<u64>,
    streams: u64,
    round: u64,
    links: u64,
}

/// The last events of a node, with ids that only grow.
#[derive(Debug)]
struct EventLog {
    next: u64,
    kept: VecDeque<(u64, Arc<str>)>,
    bytes: usize,
    added: Arc<Notify>,
}

/// What opens a session, besides the proof of the key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admission {
    pub standing: Standing,
    pub account: Option<AccountId>,
    pub meets_requirements: bool,
    pub banned_until_ms: i64,
    pub verified: u32,
    pub speeds: Speeds,
}

/// Whether a job for a model can be taken now, and if not, why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Availability {
    Free,
    /// So many nodes could, but have no free slot.
    Busy(usize),
    Nobody,
    /// So many nodes have the model, and all are paused.
    Paused(usize),
    /// So many nodes have the model, and none of the unpaused meets the requirements.
    Unfit(usize),
    /// No node takes more tokens of prompt and output together than this.
    TooLong(u32),
}

/// What a node is sought for.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    pub job: JobId,
    pub model: ModelId,
    /// Tokens of prompt and output together.
    pub context: u32,
    /// How much there is to do, for choosing the fastest.
    pub prompt: u32,
    pub output: u32,
    pub reach: Reach,
    /// Nodes that may not have it.
    pub excluded: &'a HashSet<NodeId>,
    /// Nodes that had it and lost it: asked last.
    pub lost: &'a HashSet<NodeId>,
    pub newcomers: Newcomers,
}

/// What part newcomers have in a search while known nodes are here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Newcomers {
    No,
    /// When all known nodes are busy.
    Spare,
    /// One, beside a known node.
    One,
}

/// A node to offer a job to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    pub node: NodeId,
    /// Grows whenever the node may have become able to take what it let go before.
    pub round: u64,
}

/// A node that has, or had a while ago, a session.
#[derive(Debug, Clone)]
pub(crate) struct NodeView {
    pub node: NodeId,
    pub here: bool,
    pub standing: Standing,
    pub meets_requirements: bool,
    /// What it has told, if anything yet.
    pub state: Option<NodeState>,
    /// Jobs and audits that it has.
    pub running: u32,
    /// Until when it gets no jobs, by the clock of bans.
    pub held_back_until_ms: Option<i64>,
}

/// How much of a model can be begun now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Room {
    pub workers: usize,
    pub references: usize,
}

/// What is known now of a node, for the owner of its account.
#[derive(Debug, Clone, Default)]
pub(crate) struct LiveReport {
    pub here: bool,
    pub paused: Option<String>,
    /// Jobs and audits that it has.
    pub running: u32,
    pub report: Option<MachineReport>,
}

/// Where a node's event stream stands.
#[derive(Debug, Clone)]
pub(crate) struct Subscription {
    pub node: NodeId,
    stream: u64,
    after: u64,
    added: Arc<Notify>,
}

/// What comes next on an event stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Delivery {
    Event(u64, Arc<str>),
    /// The balancer no longer keeps what should come next; it goes on after this id.
    Lost(u64),
    /// Another stream or session has taken this one's place.
    Closed,
}

impl Nodes {
    /// `first_event` must be above every event id of earlier runs.
    pub(crate) fn new(timeout: Duration, buffer: usize, first_event: u64, trust: Trust) -> Self {
        Self {
            inner: Mutex::default(),
            changed: watch::Sender::new(0),
            timeout,
            buffer,
            first_event,
            trust,
        }
    }

    /// Fires when a node came, went, or became able to take more or less.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Why a node that has proved its key cannot have a session now, if so.
    pub(crate) fn may_open(
        &self,
        node: NodeId,
        opening: &Opening,
        now: Instant,
    ) -> Result<(), Refusal> {
        self.lock().may_open(node, opening, now, self.timeout)
    }

    /// Counts an identity that is new and joins, or says why it may not.
    pub(crate) fn count_newcomer(
        &self,
        address: Option<IpAddr>,
        most: usize,
        now: Instant,
    ) -> Result<(), Refusal> {
        let mut inner = self.lock();
        inner.may_come(address, most, now)?;
        inner.newcomers(address, now).1 += 1;
        Ok(())
    }

    /// Opens a session in place of the node's earlier one.
    pub(crate) fn open_session(
        &self,
        node: NodeId,
        token: Hash,
        admission: Admission,
        opening: &Opening,
        now: Instant,
    ) -> Result<(), Refusal> {
        let mut inner = self.lock();
        inner.may_open(node, opening, now, self.timeout)?;
        if opening.is_new {
            inner.newcomers(opening.address, now).1 += 1;
        }
        let next = self.first_event.max(inner.next_event);
        let live = inner.nodes.entry(node).or_insert_with(|| LiveNode {
            session: None,
            challenged: 0,
            instance: None,
            address: None,
            reference: false,
            trusted: false,
            account: None,
            meets_requirements: false,
            state: None,
            taken: 0,
            running: 0,
            offers: HashSet::new(),
            last_heard: now,
            banned_until_ms: 0,
            verified: 0,
            speeds: Speeds::default(),
            events: EventLog {
                next,
                kept: VecDeque::new(),
                bytes: 0,
                added: Arc::new(Notify::new()),
            },
            stream: None,
            streams: 0,
            round: 0,
            links: 0,
        });
        live.challenged = opening.made;
        live.instance = opening.instance;
        live.address = opening.address;
        let earlier = live.session.replace(token);
        live.reference = admission.standing.reference;
        live.trusted = admission.standing.trusted;
        live.account = admission.account;
        live.meets_requirements = admission.meets_requirements;
        live.banned_until_ms = admission.banned_until_ms;
        live.verified = admission.verified;
        live.speeds = admission.speeds;
        live.state = None;
        live.taken = 0;
        live.offers.clear();
        live.stream = None;
        live.last_heard = now;
        live.events.added.notify_waiters();
        if let Some(earlier) = earlier {
            inner.sessions.remove(&earlier);
        }
        inner.sessions.insert(token, node);
        if admission.standing.reference {
            inner.lost_role.remove(&node);
        }
        drop(inner);
        self.announce();
        Ok(())
    }

    /// Ends a node's session, so that it has to open a new one.
    pub(crate) fn end_session(&self, node: NodeId) {
        let mut inner = self.lock();
        if let Some(live) = inner.nodes.get_mut(&node) {
            let session = live.session.take();
            live.state = None;
            live.stream = None;
            live.events.added.notify_waiters();
            if let Some(session) = session {
                inner.sessions.remove(&session);
            }
        }
        drop(inner);
        self.announce();
    }

    /// Finds the node of a session token, by the token's hash.
    pub(crate) fn authenticate(
        &self,
        token: Option<Hash>,
        now: Instant,
    ) -> Result<NodeId, Refusal> {
        let mut inner = self.lock();
        let node = token.and_then(|token| inner.sessions.get(&token).copied());
        let live = node.and_then(|node| inner.nodes.get_mut(&node));
        match (node, live) {
            (Some(node), Some(live)) => {
                // Whoever waits for a node may have passed it over.
                let is_back = now.duration_since(live.last_heard) >= self.timeout;
                live.last_heard = now;
                drop(inner);
                if is_back {
                    self.announce();
                }
                Ok(node)
            }
            _ => Err(Refusal {
                code: RefusalCode::NoSession,
                message: "The session is missing, unknown or expired. Open a new session"
                    .to_owned(),
            }),
        }
    }

    pub(crate) fn set_state(&self, node: NodeId, state: NodeState, meets_requirements: bool) {
        let mut inner = self.lock();
        if let Some(live) = inner.nodes.get_mut(&node) {
            live.meets_requirements = meets_requirements;
            live.taken = 0;
            if state.free_slots > 0 {
                live.round += 1;
            }
            live.state = Some(state);
        }
        drop(inner);
        self.announce();
    }

    /// A node became an account's, or nobody's.
    pub(crate) fn set_account(&self, node: NodeId, account: Option<AccountId>) {
        if let Some(live) = self.lock().nodes.get_mut(&node) {
            live.account = account;
        }
        self.announce();
    }

    /// What a node is to a client.
    pub(crate) fn host(&self, node: NodeId, reach: Reach) -> Host {
        let inner = self.lock();
        let live = inner.nodes.get(&node);
        live.map_or(Host::Other, |live| live.host(reach))
    }

    /// What a node says now to the owner of its account.
    pub(crate) fn report(&self, node: NodeId, now: Instant) -> LiveReport {
        let inner = self.lock();
        let Some(live) = inner.nodes.get(&node) else {
            return LiveReport::default();
        };
        let state = live.state.as_ref();
        LiveReport {
            here: live.is_here(now, self.timeout),
            paused: state.and_then(|state| state.paused.clone()),
            running: live.running,
            report: state.and_then(|state| state.report.clone()),
        }
    }

    /// Opens the node's event stream, in place of an earlier one. With the id of the last event
    /// that the node saw, it goes on after it; without, it begins with what comes now.
    pub(crate) fn subscribe(&self, node: NodeId, last_seen: Option<u64>) -> Option<Subscription> {
        let mut inner = self.lock();
        let live = inner.nodes.get_mut(&node)?;
        live.streams += 1;
        live.stream = Some(live.streams);
        if last_seen.is_none() {
            live.round += 1;
            live.links += 1;
        }
        live.events.added.notify_waiters();
        let subscription = Subscription {
            node,
            stream: live.streams,
            after: last_seen.unwrap_or(live.events.next - 1),
            added: Arc::clone(&live.events.added),
        };
        if last_seen.is_none() {
            inner.relinked.push(node);
        }
        drop(inner);
        self.announce();
        Some(subscription)
    }

    /// The connection under an event stream has ended.
    pub(crate) fn unsubscribe(&self, subscription: &Subscription) {
        let mut inner = self.lock();
        if let Some(live) = inner.nodes.get_mut(&subscription.node)
            && live.stream == Some(subscription.stream)
        {
            live.stream = None;
        }
        drop(inner);
        self.announce();
    }

    /// Waits for the next event of a stream.
    pub(crate) async fn next_event(&self, subscription: &mut Subscription) -> Delivery {
        loop {
            let added = Arc::clone(&subscription.added);
            let mut waiting = std::pin::pin!(added.notified());
            waiting.as_mut().enable();
            if let Some(delivery) = self.poll_event(subscription) {
                return delivery;
            }
            waiting.await;
        }
    }

    fn poll_event(&self, subscription: &mut Subscription) -> Option<Delivery> {
        let mut inner = self.lock();
        let Some(live) = inner
            .nodes
            .get_mut(&subscription.node)
            .filter(|live| live.stream == Some(subscription.stream))
        else {
            return Some(Delivery::Closed);
        };
        let wanted = subscription.after + 1;
        let oldest = live
            .events
            .kept
            .front()
            .map_or(live.events.next, |(id, _)| *id);
        if wanted < oldest || wanted > live.events.next {
            let after = live.events.next - 1;
            subscription.after = after;
            live.round += 1;
            live.links += 1;
            inner.relinked.push(subscription.node);
            drop(inner);
            self.announce();
            return Some(Delivery::Lost(after));
        }
        let (id, data) = live.events.kept.get((wanted - oldest) as usize)?;
        subscription.after = *id;
        Some(Delivery::Event(*id, Arc::clone(data)))
    }

    /// Adds an event to a node's stream; a node without a session misses it.
    pub(crate) fn send(&self, node: NodeId, event: &NodeEvent) {
        let Ok(data) = serde_json::to_string(event) else {
            return;
        };
        let mut inner = self.lock();
        let Some(live) = inner.nodes.get_mut(&node) else {
            return;
        };
        live.events.push(data.into(), self.buffer);
        live.events.added.notify_waiters();
    }

    /// Offers a job to a node.
    pub(crate) fn offer(&self, node: NodeId, offer: Offer) {
        if let Some(live) = self.lock().nodes.get_mut(&node) {
            live.offers.insert(offer.job);
        }
        self.send(node, &NodeEvent::Offer(offer));
    }

    /// An offer is over: another node took it, the client left, or its time is up.
    pub(crate) fn end_offer(&self, node: NodeId, job: JobId) {
        if let Some(live) = self.lock().nodes.get_mut(&node) {
            live.offers.remove(&job);
        }
    }

    /// The node has taken a job or was asked for an audit, which takes one of its places.
    pub(crate) fn take_place(self: &Arc<Self>, node: NodeId) -> Place {
        if let Some(live) = self.lock().nodes.get_mut(&node) {
            live.taken += 1;
            live.running += 1;
        }
        let nodes = Arc::clone(self);
        Place::new(move || nodes.give_back(node))
    }

    fn give_back(&self, node: NodeId) {
        if let Some(live) = self.lock().nodes.get_mut(&node) {
            live.taken = live.taken.saturating_sub(1);
            live.running = live.running.saturating_sub(1);
            live.round += 1;
        }
        self.announce();
    }

    /// How many places of all nodes are taken.
    #[cfg(test)]
    pub(crate) fn places_taken(&self) -> u32 {
        self.lock().nodes.values().map(|live| live.running).sum()
    }

    /// A node's work was measured.
    pub(crate) fn measure(&self, node: NodeId, measured: Speeds) {
        if let Some(live) = self.lock().nodes.get_mut(&node) {
            live.speeds = live.speeds.after(measured);
        }
    }

    /// A job of the node has passed.
    pub(crate) fn add_success(&self, node: NodeId) {
        if let Some(live) = self.lock().nodes.get_mut(&node) {
            live.verified = live.verified.saturating_add(1);
        }
    }

    pub(crate) fn ban(&self, node: NodeId, until_ms: i64) {
        if let Some(live) = self.lock().nodes.get_mut(&node) {
            live.banned_until_ms = live.banned_until_ms.max(until_ms);
        }
    }

    /// How far a node's work is trusted unchecked, from 0 to 1: half of the way with as many
    /// verified jobs as make it known, and wholly where the operator says so.
    pub(crate) fn record(&self, node: NodeId) -> f64 {
        let (verified, trusted) = match self.lock().nodes.get(&node) {
            Some(live) => (live.verified, live.trusted),
            None => (0, false),
        };
        if trusted {
            return 1.0;
        }
        let known = f64::from(self.trust.newcomer_jobs.max(1));
        f64::from(verified) / (f64::from(verified) + known)
    }

    /// Whether a node is a newcomer while known nodes with this model are here.
    pub(crate) fn is_newcomer_among_known(
        &self,
        node: NodeId,
        model: ModelId,
        now: Instant,
    ) -> bool {
        let inner = self.lock();
        let is_newcomer = |live: &LiveNode| live.is_newcomer(self.trust);
        let known = |live: &LiveNode| {
            !live.reference && live.fits(model, now, self.timeout, i64::MAX) && !is_newcomer(live)
        };
        inner.nodes.get(&node).is_none_or(is_newcomer) && inner.nodes.values().any(known)
    }

    /// The tokens of prompt a second that were measured of a node.
    pub(crate) fn prefill_speed(&self, node: NodeId) -> Option<f64> {
        self.lock().nodes.get(&node)?.speeds.prefill
    }

    /// Nodes that could take a job now, the best first: the client's own, then idle before busy, then who would be done
    /// sooner. While a known node is here, newcomers come in only as far as the search lets them.
    pub(crate) fn candidates(
        &self,
        search: &Search<'_>,
        now: Instant,
        steady_ms: i64,
    ) -> Vec<Candidate> {
        let inner = self.lock();
        let (mut known, mut newcomers) = (Vec::new(), Vec::new());
        let mut known_are_here = false;
        for (node, live) in &inner.nodes {
            let host = live.host(search.reach);
            if search.excluded.contains(node)
                || live.reference
                || !search.reach.covers(host)
                || !live.fits(search.model, now, self.timeout, steady_ms)
                || live.context(search.model) < search.context
            {
                continue;
            }
            let own = host == Host::Own;
            // Whom the client relies on need not have proved itself to others.
            let newcomer = !own && live.is_newcomer(self.trust);
            let lost = search.lost.contains(node);
            known_are_here |= !newcomer && !lost;
            let free = live.free(self.trust, own);
            // A known node may look at some more than it can take: others may be faster.
            let spare = if newcomer { 0 } else { SPARE_OFFERS };
            let room =
                live.offers.contains(&search.job) || live.offers.len() < free as usize + spare;
            if free == 0 || !room {
                continue;
            }
            let candidate = Candidate {
                node: *node,
                round: live.round,
            };
            let seconds = live.speeds.seconds(search.prompt, search.output);
            let list = if newcomer { &mut newcomers } else { &mut known };
            list.push(((lost, !own, live.running), seconds, candidate));
        }
        for list in [&mut known, &mut newcomers] {
            list.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        }
        if known_are_here {
            newcomers.truncate(match search.newcomers {
                Newcomers::Spare | Newcomers::One if known.is_empty() => usize::MAX,
                Newcomers::One => 1,
                Newcomers::No | Newcomers::Spare => 0,
            });
            // Beside the best one.
            let place = known.len().min(1);
            known.splice(place..place, newcomers);
        } else {
            known.append(&mut newcomers);
        }
        known
            .into_iter()
            .map(|(_, _, candidate)| candidate)
            .collect()
    }

    /// How many jobs and audits of a model could be begun now.
    pub(crate) fn room(&self, model: ModelId, now: Instant, steady_ms: i64) -> Room {
        let inner = self.lock();
        let mut room = Room::default();
        for live in inner.nodes.values() {
            // No ban keeps a reference from checking.
            let bans_of_ms = if live.reference { i64::MAX } else { steady_ms };
            if live.fits(model, now, self.timeout, bans_of_ms) {
                let free = live.free(self.trust, false) as usize;
                if live.reference {
                    room.references += free;
                } else {
                    room.workers += free;
                }
            }
        }
        room
    }

    /// Nodes whose event stream has begun anew since the last call: what was sent before may have
    /// been missed.
    pub(crate) fn take_relinked(&self) -> Vec<NodeId> {
        std::mem::take(&mut self.lock().relinked)
    }

    /// The most tokens of prompt and output together that a node that is here takes.
    pub(crate) fn longest_context(&self, model: ModelId, now: Instant) -> Option<u32> {
        let inner = self.lock();
        inner
            .nodes
            .values()
            .filter(|live| !live.reference && live.is_here(now, self.timeout) && live.has(model))
            .map(|live| live.context(model))
            .max()
    }

    /// Why a claim by this node is to be refused, if it is. That the job may go to it is not asked
    /// again: it was offered. The free slots are the balancer's own
    /// count: a node that has just claimed tells of one less before its claim arrives.
    pub(crate) fn claim_fault(
        &self,
        node: NodeId,
        model: ModelId,
        context: u32,
        reach: Reach,
        now: Instant,
        steady_ms: i64,
    ) -> Option<&'static str> {
        let inner = self.lock();
        let Some(live) = inner.nodes.get(&node) else {
            return Some("The node has no session");
        };
        if live.reference {
            Some("A reference node checks jobs and takes none")
        } else if !live.meets_requirements {
            Some("The node does not meet the network's requirements")
        } else if live.is_banned(steady_ms) {
            Some(
                "The node gets no jobs for a while, because its last output failed verification or it lost jobs that it had claimed",
            )
        } else if !live.fits(model, now, Duration::MAX, steady_ms) {
            Some("The node has said that it is paused, or that the model is not loaded")
        } else if live.context(model) < context {
            Some("The job is longer than the context that the node has told")
        } else if live.running >= live.most_slots(self.trust, live.host(reach) == Host::Own) {
            Some(
                "The node has as many jobs as it may have at once. That number grows with each job that is verified",
            )
        } else {
            None
        }
    }

    /// A node is no reference any more, since its reports cannot be relied on: what it has reported
    /// on open jobs does not count.
    pub(crate) fn lose_role(&self, node: NodeId) {
        {
            let mut inner = self.lock();
            inner.lost_role.insert(node);
            if let Some(live) = inner.nodes.get_mut(&node) {
                live.reference = false;
                live.trusted = false;
            }
        }
        self.end_session(node);
    }

    pub(crate) fn has_lost_role(&self, node: NodeId) -> bool {
        self.lock().lost_role.contains(&node)
    }

    /// Reference nodes that are here and have the model, busy ones included.
    pub(crate) fn references_here(&self, model: ModelId, now: Instant) -> Vec<NodeId> {
        let inner = self.lock();
        inner
            .nodes
            .iter()
            .filter(|(_, live)| live.reference && live.fits(model, now, self.timeout, i64::MAX))
            .map(|(node, _)| *node)
            .collect()
    }

    /// Reference nodes that could check an output of this model now, in an order that is drawn by
    /// `lot` alone: if the least busy came first, those who compute nothing would get most.
    pub(crate) fn references(&self, model: ModelId, lot: &[u8; 32], now: Instant) -> Vec<NodeId> {
        let inner = self.lock();
        let mut found: Vec<_> = inner
            .nodes
            .iter()
            .filter(|(_, live)| {
                live.reference
                    && live.fits(model, now, self.timeout, i64::MAX)
                    && live.free(self.trust, false) > 0
            })
            .map(|(node, _)| {
                let drawn = Digest::new("infera/audit-draw/v1")
                    .fixed(lot)
                    .fixed(node.as_bytes())
                    .finish();
                (drawn, *node)
            })
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, node)| node).collect()
    }

    /// How often the node's event stream has begun anew: what was sent before may have been missed.
    pub(crate) fn links(&self, node: NodeId) -> u64 {
        self.lock().nodes.get(&node).map_or(0, |live| live.links)
    }

    /// Whether `context` tokens of a model can be taken now, within `reach`.
    pub(crate) fn availability(
        &self,
        model: ModelId,
        context: u32,
        reach: Reach,
        now: Instant,
        steady_ms: i64,
    ) -> Availability {
        let inner = self.lock();
        let here: Vec<_> = inner
            .nodes
            .values()
            .filter(|live| !live.reference && live.is_here(now, self.timeout))
            .filter(|live| reach.covers(live.host(reach)))
            .filter(|live| live.has(model) || live.is_kept_from_loading())
            .collect();
        let allowed: Vec<_> = here
            .iter()
            .filter(|live| live.meets_requirements && !live.is_banned(steady_ms))
            .collect();
        let mut fit: Vec<_> = allowed.iter().filter(|live| !live.is_paused()).collect();
        let longest = fit.iter().map(|live| live.context(model)).max();
        if here.is_empty() {
            Availability::Nobody
        } else if allowed.is_empty() {
            Availability::Unfit(here.len())
        } else if fit.is_empty() {
            Availability::Paused(allowed.len())
        } else if let Some(longest) = longest.filter(|longest| *longest < context) {
            Availability::TooLong(longest)
        } else {
            fit.retain(|live| live.context(model) >= context);
            let free = |live: &LiveNode| live.free(self.trust, live.host(reach) == Host::Own);
            if fit.iter().all(|live| free(live) == 0) {
                Availability::Busy(fit.len())
            } else {
                Availability::Free
            }
        }
    }

    /// The nodes that are here, as (workers, references).
    pub(crate) fn count(&self, now: Instant) -> (usize, usize) {
        let inner = self.lock();
        let here = || {
            inner
                .nodes
                .values()
                .filter(|live| live.is_here(now, self.timeout))
        };
        let references = here().filter(|live| live.reference).count();
        (here().count() - references, references)
    }

    /// Every node of which something is known in memory.
    pub(crate) fn views(&self, now: Instant, steady_ms: i64) -> Vec<NodeView> {
        let inner = self.lock();
        let view = |(node, live): (&NodeId, &LiveNode)| NodeView {
            node: *node,
            here: live.is_here(now, self.timeout),
            standing: live.standing(),
            meets_requirements: live.meets_requirements,
            state: live.state.clone(),
            running: live.running,
            held_back_until_ms: live.is_banned(steady_ms).then_some(live.banned_until_ms),
        };
        inner.nodes.iter().map(view).collect()
    }

    /// Ends the sessions of nodes that are kept out.
    pub(crate) fn keep_out<'a>(&self, nodes: impl Iterator<Item = &'a NodeId>) {
        let with_session: Vec<_> = {
            let inner = self.lock();
            let has_session = |node: &&NodeId| {
                let live = inner.nodes.get(node);
                live.is_some_and(|live| live.session.is_some())
            };
            nodes.filter(has_session).copied().collect()
        };
        for node in with_session {
            self.end_session(node);
        }
    }

    /// Ends long silent sessions, and those whose node is trusted with more or less than when it
    /// began, and forgets nodes that have had no session for long.
    pub(crate) fn sweep(&self, standings: &HashMap<NodeId, Standing>, now: Instant) {
        let ended: Vec<_> = {
            let mut inner = self.lock();
            inner.forget(now);
            inner
                .nodes
                .iter()
                .filter(|(node, live)| {
                    live.session.is_some()
                        && (now.duration_since(live.last_heard) > SESSION_LIFE
                            || live.standing() != standings.get(node).copied().unwrap_or_default())
                })
                .map(|(node, _)| *node)
                .collect()
        };
        for node in ended {
            self.end_session(node);
        }
    }

    /// Has those who wait for nodes look again.
    pub(crate) fn announce(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change below is complete before anything that could panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn may_open(
        &mut self,
        node: NodeId,
        opening: &Opening,
        now: Instant,
        timeout: Duration,
    ) -> Result<(), Refusal> {
        if let Some(live) = self.nodes.get(&node) {
            if opening.made <= live.challenged {
                return Err(bad_challenge());
            }
            let in_use = live.session.is_some() && live.is_here(now, timeout);
            if in_use && live.instance != opening.instance {
                return Err(refusal(
                    RefusalCode::IdentityInUse,
                    "Another program works with this node's identity now. End that one, or start this one with another data folder, which gets it an identity of its own",
                ));
            }
        }
        let here = self
            .nodes
            .iter()
            .filter(|(other, live)| {
                **other != node
                    && live.session.is_some()
                    && live.address == opening.address
                    && now.duration_since(live.last_heard) < timeout
            })
            .count();
        if here >= opening.most {
            return Err(refusal(
                RefusalCode::TooMuch,
                format!(
                    "{here} nodes are here from this address, which is as many as this network takes. End one of them, or ask its operator"
                ),
            ));
        }
        if opening.is_new {
            self.may_come(opening.address, opening.most_new, now)?;
        }
        Ok(())
    }

    /// Whether one more identity that is new may come from an address.
    fn may_come(
        &mut self,
        address: Option<IpAddr>,
        most: usize,
        now: Instant,
    ) -> Result<(), Refusal> {
        if self.newcomers(address, now).1 < most {
            return Ok(());
        }
        Err(refusal(
            RefusalCode::TooMuch,
            format!(
                "{most} new nodes have joined from this address within an hour, which is as many as this network takes. Try again later"
            ),
        ))
    }

    fn newcomers(&mut self, address: Option<IpAddr>, now: Instant) -> &mut (Instant, usize) {
        let newcomers = self.newcomers.entry(address).or_insert((now, 0));
        if now.duration_since(newcomers.0) >= NEWCOMERS_LIFE {
            *newcomers = (now, 0);
        }
        newcomers
    }

    /// Drops what is of no use any more. What comes back begins anew.
    fn forget(&mut self, now: Instant) {
        let mut next_event = self.next_event;
        self.nodes.retain(|_, live| {
            let gone = live.session.is_none()
                && live.running == 0
                && now.duration_since(live.last_heard) > SESSION_LIFE;
            if gone {
                next_event = next_event.max(live.events.next);
            }
            !gone
        });
        self.next_event = next_event;
        self.newcomers
            .retain(|_, (since, _)| now.duration_since(*since) < NEWCOMERS_LIFE);
    }
}

impl EventLog {
    /// Adds an event, and drops the oldest ones that there is no room for.
    fn push(&mut self, data: Arc<str>, most: usize) {
        self.bytes += data.len();
        self.kept.push_back((self.next, data));
        self.next += 1;
        while self.kept.len() > most || (self.bytes > MAX_EVENT_BYTES && self.kept.len() > 1) {
            let Some((_, dropped)) = self.kept.pop_front() else {
                return;
            };
            self.bytes -= dropped.len();
        }
    }
}

impl LiveNode {
    fn host(&self, reach: Reach) -> Host {
        reach.host(self.account, self.trusted)
    }

    fn is_here(&self, now: Instant, timeout: Duration) -> bool {
        self.stream.is_some() && now.duration_since(self.last_heard) < timeout
    }

    fn has(&self, model: ModelId) -> bool {
        self.state
            .as_ref()
            .is_some_and(|state| state.models.contains(&model))
    }

    /// It has nothing loaded because it may not work: it may well have the model.
    fn is_kept_from_loading(&self) -> bool {
        let empty = self
            .state
            .as_ref()
            .is_some_and(|state| state.models.is_empty());
        empty && (self.is_paused() || !self.meets_requirements)
    }

    fn is_paused(&self) -> bool {
        self.state
            .as_ref()
            .is_none_or(|state| state.paused.is_some())
    }

    fn is_banned(&self, steady_ms: i64) -> bool {
        self.banned_until_ms > steady_ms
    }

    fn standing(&self) -> Standing {
        Standing {
            trusted: self.trusted,
            reference: self.reference,
        }
    }

    /// What it has proved to be is not yet enough to rely on, and the operator has not said so.
    fn is_newcomer(&self, trust: Trust) -> bool {
        let slow = |speed: f64| speed < trust.least_tokens_per_second;
        let known = self.trusted || self.verified >= trust.newcomer_jobs;
        !known || self.speeds.decode.is_some_and(slow)
    }

    /// How many jobs it may have at once, whatever it says. Its owner relies on what it says.
    fn most_slots(&self, trust: Trust, own: bool) -> u32 {
        if self.reference || own {
            u32::MAX
        } else if self.is_newcomer(trust) {
            1
        } else if self.trusted {
            u32::MAX
        } else {
            self.verified.max(1)
        }
    }

    /// What it says is free, as far as it is trusted with more.
    fn free(&self, trust: Trust, own: bool) -> u32 {
        let told = self
            .state
            .as_ref()
            .map_or(0, |state| state.free_slots.saturating_sub(self.taken));
        told.min(self.most_slots(trust, own).saturating_sub(self.running))
    }

    /// The tokens of prompt and output together that it takes of a model.
    fn context(&self, model: ModelId) -> u32 {
        let told = self.state.as_ref().and_then(|state| {
            let index = state.models.iter().position(|loaded| *loaded == model)?;
            state.context_tokens.get(index).copied()
        });
        told.unwrap_or(u32::MAX)
    }

    fn fits(&self, model: ModelId, now: Instant, timeout: Duration, steady_ms: i64) -> bool {
        (timeout == Duration::MAX || self.is_here(now, timeout))
            && self.has(model)
            && !self.is_paused()
            && self.meets_requirements
            && !self.is_banned(steady_ms)
    }
}

pub(crate) fn bad_challenge() -> Refusal {
    refusal(
        RefusalCode::BadChallenge,
        "The challenge is unknown, used or too old. Ask for a new one",
    )
}

#[cfg(test)]
mod tests {
    use infera_protocol::requirements::Hardware;

    use super::*;

    const MODEL: ModelId = ModelId::from_bytes([9; 32]);
    const REFERENCE: Standing = Standing {
        trusted: false,
        reference: true,
    };

    fn id(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    fn hash(number: u8) -> Hash {
        Hash::from_bytes([number; 32])
    }

    fn nodes() -> Arc<Nodes> {
        let trust = Trust {
            newcomer_jobs: 10,
            least_tokens_per_second: 0.5,
        };
        Arc::new(Nodes::new(Duration::from_secs(30), 4, 1000, trust))
    }

    fn admission() -> Admission {
        Admission {
            account: None,
            standing: Standing::default(),
            meets_requirements: true,
            banned_until_ms: 0,
            verified: 10,
            speeds: Speeds::default(),
        }
    }

    fn fast(tokens_per_second: f64) -> Speeds {
        Speeds {
            prefill: Some(100.0),
            decode: Some(tokens_per_second),
        }
    }

    /// The nodes that a job is offered to, in order.
    fn found(nodes: &Nodes, number: u8, excluded: &[u8], newcomers: Newcomers) -> Vec<NodeId> {
        let excluded = excluded.iter().map(|number| id(*number)).collect();
        let search = Search {
            reach: Reach::default(),
            job: JobId::from_bytes([number; 16]),
            model: MODEL,
            context: 100,
            prompt: 10,
            output: 90,
            excluded: &excluded,
            lost: &HashSet::new(),
            newcomers,
        };
        let found = nodes.candidates(&search, Instant::now(), 0);
        found.iter().map(|candidate| candidate.node).collect()
    }

    fn state(free_slots: u32) -> NodeState {
        NodeState {
            models: vec![MODEL],
            context_tokens: Vec::new(),
            free_slots,
            paused: None,
            hardware: Hardware::default(),
            report: None,
        }
    }

    /// With the challenge that was made at this moment, from this machine, without bounds.
    fn opening(made: u64) -> Opening {
        Opening {
            made,
            instance: None,
            address: None,
            is_new: false,
            most: usize::MAX,
            most_new: usize::MAX,
        }
    }

    fn open(nodes: &Nodes, number: u8, opening: &Opening, now: Instant) -> Result<(), RefusalCode> {
        let token = Hash::from_bytes([number.wrapping_add(opening.made as u8); 32]);
        let opened = nodes.open_session(id(number), token, admission(), opening, now);
        opened.map_err(|refusal| refusal.code)
    }

    fn join(nodes: &Nodes, number: u8, admission: Admission, state: NodeState) -> Subscription {
        nodes
            .open_session(
                id(number),
                hash(number),
                admission,
                &opening(1),
                Instant::now(),
            )
            .unwrap();
        nodes.set_state(id(number), state, admission.meets_requirements);
        nodes.subscribe(id(number), None).unwrap()
    }

    /// Whatever it says of its hardware, and however many jobs it has done.
    #[tokio::test]
    async fn a_node_that_was_measured_slow_is_a_newcomer_again() {
        let nodes = nodes();
        let verified = |speeds| Admission {
            verified: 1000,
            speeds,
            ..admission()
        };
        let _known = join(&nodes, 1, verified(fast(20.0)), state(4));
        let _slow = join(&nodes, 2, verified(fast(20.0)), state(4));
        assert_eq!(found(&nodes, 1, &[], Newcomers::No).len(), 2);
        for _ in 0..20 {
            nodes.measure(id(2), fast(0.1));
        }
        assert_eq!(found(&nodes, 1, &[], Newcomers::No), [id(1)]);
    }

    #[tokio::test]
    async fn a_node_that_the_operator_trusts_is_no_newcomer_until_it_is_slow() {
        let nodes = nodes();
        let new = |trusted| Admission {
            verified: 0,
            standing: Standing {
                trusted,
                reference: false,
            },
            ..admission()
        };
        let _trusted = join(&nodes, 1, new(true), state(4));
        let _new = join(&nodes, 2, new(false), state(4));
        assert_eq!(found(&nodes, 1, &[], Newcomers::No), [id(1)]);
        let first = nodes.take_place(id(1));
        assert_eq!(
            found(&nodes, 1, &[], Newcomers::No),
            [id(1)],
            "more at once"
        );
        drop(first);
        assert!(nodes.record(id(1)) > 0.99 && nodes.record(id(2)) < 0.01);
        for _ in 0..20 {
            nodes.measure(id(1), fast(0.1));
        }
        assert_eq!(found(&nodes, 1, &[], Newcomers::No).len(), 2);
        nodes.sweep(&HashMap::new(), Instant::now());
        assert!(nodes.subscribe(id(1), None).is_some());
        let token = Some(hash(1));
        assert!(
            nodes.authenticate(token, Instant::now()).is_err(),
            "its trust has ended"
        );
    }

    #[tokio::test]
    async fn a_challenge_opens_one_session() {
        let nodes = nodes();
        let now = Instant::now();
        open(&nodes, 1, &opening(5), now).unwrap();
        for used in [5, 4] {
            let again = open(&nodes, 1, &opening(used), now);
            assert_eq!(again, Err(RefusalCode::BadChallenge));
        }
        open(&nodes, 2, &opening(5), now).unwrap();
        open(&nodes, 1, &opening(6), now).unwrap();
    }

    #[tokio::test]
    async fn another_program_with_the_same_identity_is_told_so_while_the_first_is_here() {
        let nodes = nodes();
        let now = Instant::now();
        let run = |made, number| Opening {
            instance: Some(hash(number)),
            ..opening(made)
        };
        open(&nodes, 1, &run(1, 1), now).unwrap();
        let stream = nodes.subscribe(id(1), None).unwrap();
        let taken = Err(RefusalCode::IdentityInUse);
        assert_eq!(open(&nodes, 1, &run(2, 2), now), taken);
        assert_eq!(
            open(&nodes, 1, &opening(2), now),
            taken,
            "an older program too"
        );
        open(&nodes, 1, &run(3, 1), now).unwrap();
        nodes.subscribe(id(1), None).unwrap();
        nodes.unsubscribe(&stream);
        assert_eq!(open(&nodes, 1, &run(4, 2), now), taken);
        let silent = now + Duration::from_secs(31);
        open(&nodes, 1, &run(5, 2), silent).unwrap();
        let stream = nodes.subscribe(id(1), None).unwrap();
        nodes.unsubscribe(&stream);
        open(&nodes, 1, &run(6, 3), silent).unwrap();
    }

    #[tokio::test]
    async fn one_address_has_so_many_nodes_and_so_many_new_ones() {
        let nodes = nodes();
        let now = Instant::now();
        let from = |address: u8, is_new| Opening {
            address: Some(IpAddr::from([192, 0, 2, address])),
            is_new,
            most: 3,
            most_new: 2,
            ..opening(1)
        };
        open(&nodes, 1, &from(1, true), now).unwrap();
        open(&nodes, 2, &from(1, true), now).unwrap();
        let full = Err(RefusalCode::TooMuch);
        assert_eq!(
            open(&nodes, 3, &from(1, true), now),
            full,
            "a third new one"
        );
        open(&nodes, 4, &from(1, false), now).unwrap();
        assert_eq!(open(&nodes, 5, &from(1, false), now), full, "a fourth");
        open(&nodes, 3, &from(2, true), now).unwrap();
        let again = Opening {
            made: 2,
            ..from(1, false)
        };
        open(&nodes, 4, &again, now).unwrap();
        let silent = now + Duration::from_secs(31);
        open(&nodes, 5, &from(1, false), silent).unwrap();
        assert_eq!(open(&nodes, 6, &from(1, true), silent), full);
        let later = now + NEWCOMERS_LIFE;
        open(&nodes, 6, &from(1, true), later).unwrap();
    }

    #[tokio::test]
    async fn what_is_gone_for_long_is_forgotten_and_its_event_ids_are_not_used_again() {
        let nodes = nodes();
        join(&nodes, 1, admission(), state(1));
        for _ in 0..3 {
            nodes.send(id(1), &NodeEvent::Reset);
        }
        let later = Instant::now() + SESSION_LIFE + Duration::from_secs(1);
        nodes.sweep(&HashMap::new(), later);
        assert_eq!(nodes.lock().nodes.len(), 1, "its session has only ended");
        nodes.sweep(&HashMap::new(), later);
        let (here, sessions) = {
            let inner = nodes.lock();
            (inner.nodes.len(), inner.sessions.len())
        };
        assert_eq!((here, sessions), (0, 0));
        let mut stream = join(&nodes, 1, admission(), state(1));
        nodes.send(id(1), &NodeEvent::Reset);
        assert!(matches!(
            nodes.next_event(&mut stream).await,
            Delivery::Event(1003, _)
        ));
        let mut resumed = nodes.subscribe(id(1), Some(1002)).unwrap();
        assert!(matches!(
            nodes.next_event(&mut resumed).await,
            Delivery::Event(1003, _)
        ));
        let mut older = nodes.subscribe(id(1), Some(1001)).unwrap();
        assert_eq!(nodes.next_event(&mut older).await, Delivery::Lost(1003));
    }

    #[test]
    fn an_event_log_is_bounded_in_bytes_too() {
        let mut log = EventLog {
            next: 1,
            kept: VecDeque::new(),
            bytes: 0,
            added: Arc::new(Notify::new()),
        };
        let large: Arc<str> = "x".repeat(MAX_EVENT_BYTES / 3).into();
        for _ in 0..10 {
            log.push(Arc::clone(&large), 512);
        }
        assert_eq!(log.kept.len(), 3);
        log.push("x".repeat(2 * MAX_EVENT_BYTES).into(), 512);
        assert_eq!((log.kept.len(), log.next), (1, 12));
        for _ in 0..10 {
            log.push("x".into(), 4);
        }
        assert_eq!((log.kept.len(), log.bytes), (4, 4));
    }

    #[tokio::test]
    async fn availability_tells_why_nobody_takes_a_job() {
        let nodes = nodes();
        let now = Instant::now();
        let availability = || nodes.availability(MODEL, 100, Reach::default(), Instant::now(), 0);
        assert_eq!(availability(), Availability::Nobody);
        let reference = Admission {
            standing: REFERENCE,
            ..admission()
        };
        join(&nodes, 1, reference, state(1));
        assert_eq!(
            availability(),
            Availability::Nobody,
            "references take no jobs"
        );
        let unloaded = NodeState {
            models: Vec::new(),
            ..state(1)
        };
        let unfit = Admission {
            meets_requirements: false,
            ..admission()
        };
        join(&nodes, 3, unfit, unloaded);
        assert_eq!(
            availability(),
            Availability::Unfit(1),
            "it loads nothing because it may not work"
        );
        let banned = Admission {
            banned_until_ms: 10,
            ..admission()
        };
        join(&nodes, 4, banned, state(1));
        assert_eq!(availability(), Availability::Unfit(2));
        let paused = NodeState {
            paused: Some("by the user".to_owned()),
            ..state(1)
        };
        join(&nodes, 2, admission(), paused);
        assert_eq!(availability(), Availability::Paused(1));
        assert_eq!(
            nodes.availability(MODEL, 100, Reach::default(), now, 10),
            Availability::Free,
            "the ban is over"
        );
        join(&nodes, 5, admission(), state(1));
        assert_eq!(availability(), Availability::Free);
        let _place = nodes.take_place(id(5));
        assert_eq!(availability(), Availability::Busy(1));
        assert_eq!(
            nodes.availability(
                MODEL,
                100,
                Reach::default(),
                now + Duration::from_secs(31),
                0
            ),
            Availability::Nobody,
            "all have been silent for too long"
        );
    }

    #[tokio::test]
    async fn idle_and_fast_nodes_come_first() {
        let nodes = nodes();
        for (number, rate) in [(1, 10.0), (2, 50.0), (3, 30.0)] {
            let admission = Admission {
                speeds: fast(rate),
                ..admission()
            };
            join(&nodes, number, admission, state(2));
        }
        let _place = nodes.take_place(id(2));
        let all = found(&nodes, 1, &[9], Newcomers::No);
        assert_eq!(all, [id(3), id(1), id(2)]);
        assert_eq!(found(&nodes, 1, &[3, 1], Newcomers::No), [id(2)]);
    }

    #[tokio::test]
    async fn newcomers_get_one_slot_and_jobs_only_beside_or_after_known_nodes() {
        let nodes = nodes();
        let newcomer = Admission {
            verified: 9,
            ..admission()
        };
        join(&nodes, 1, newcomer, state(1000));
        join(&nodes, 2, newcomer, state(1000));
        assert_eq!(
            found(&nodes, 1, &[], Newcomers::No).len(),
            2,
            "nobody else is here"
        );
        join(&nodes, 3, admission(), state(1));
        assert_eq!(found(&nodes, 1, &[], Newcomers::No), [id(3)]);
        assert_eq!(found(&nodes, 1, &[], Newcomers::Spare), [id(3)]);
        let beside = found(&nodes, 1, &[], Newcomers::One);
        assert_eq!((beside.len(), beside[0]), (2, id(3)));
        let _known = nodes.take_place(id(3));
        assert_eq!(found(&nodes, 1, &[], Newcomers::No), []);
        assert_eq!(found(&nodes, 1, &[], Newcomers::Spare).len(), 2);
        let _newcomer = nodes.take_place(id(1));
        assert_eq!(found(&nodes, 1, &[], Newcomers::Spare), [id(2)]);
        // What it says of its slots changes nothing.
        nodes.set_state(id(1), state(1000), true);
        assert_eq!(found(&nodes, 1, &[], Newcomers::Spare), [id(2)]);
        let slow = Admission {
            speeds: fast(0.1),
            ..admission()
        };
        join(&nodes, 4, slow, state(1));
        assert_eq!(found(&nodes, 1, &[], Newcomers::No), [], "too slow");
    }

    #[tokio::test]
    async fn a_job_goes_to_nodes_whose_context_holds_it() {
        let nodes = nodes();
        let short = NodeState {
            context_tokens: vec![99],
            ..state(1)
        };
        join(&nodes, 1, admission(), short);
        assert_eq!(found(&nodes, 1, &[], Newcomers::No), []);
        let availability =
            |context| nodes.availability(MODEL, context, Reach::default(), Instant::now(), 0);
        assert_eq!(availability(99), Availability::Free);
        assert_eq!(availability(100), Availability::TooLong(99));
        assert_eq!(nodes.longest_context(MODEL, Instant::now()), Some(99));
        join(&nodes, 2, admission(), state(1));
        assert_eq!(found(&nodes, 1, &[], Newcomers::No), [id(2)]);
        let _place = nodes.take_place(id(2));
        assert_eq!(availability(100), Availability::Busy(1));
        assert_eq!(availability(99), Availability::Free);
    }

    #[tokio::test]
    async fn a_node_is_not_offered_much_more_than_it_can_take() {
        let nodes = nodes();
        join(&nodes, 1, admission(), state(1));
        let job = |number| JobId::from_bytes([number; 16]);
        let fits = |number| !found(&nodes, number, &[], Newcomers::No).is_empty();
        for number in 1..=3 {
            assert!(fits(number));
            nodes.offer(
                id(1),
                Offer {
                    job: job(number),
                    attempt: 1,
                    model: MODEL,
                    prompt_tokens: 1,
                    output_tokens: 0,
                    max_tokens: 1,
                    price: infera_protocol::node_api::Price {
                        input: 1,
                        output: 1,
                    },
                    deadline_ms: 1,
                },
            );
        }
        assert!(!fits(4));
        assert!(fits(2), "an offer may be repeated");
        nodes.end_offer(id(1), job(2));
        assert!(fits(4));
    }

    #[tokio::test]
    async fn events_resume_after_the_last_seen_and_reset_when_it_is_too_old() {
        let nodes = nodes();
        let mut stream = join(&nodes, 1, admission(), state(1));
        let next = async |stream: &mut Subscription| nodes.next_event(stream).await;
        for _ in 0..3 {
            nodes.send(id(1), &NodeEvent::Reset);
        }
        let Delivery::Event(first, _) = next(&mut stream).await else {
            panic!("an event")
        };
        assert_eq!(first, 1000);
        let mut resumed = nodes.subscribe(id(1), Some(first)).unwrap();
        assert_eq!(
            next(&mut stream).await,
            Delivery::Closed,
            "the later stream took over"
        );
        for id in [1001, 1002] {
            assert!(matches!(next(&mut resumed).await, Delivery::Event(got, _) if got == id));
        }
        for _ in 0..9 {
            nodes.send(id(1), &NodeEvent::Reset);
        }
        assert_eq!(next(&mut resumed).await, Delivery::Lost(1011));
        nodes.send(id(1), &NodeEvent::Reset);
        assert!(matches!(next(&mut resumed).await, Delivery::Event(1012, _)));
        let mut earlier_run = nodes.subscribe(id(1), Some(3)).unwrap();
        assert_eq!(next(&mut earlier_run).await, Delivery::Lost(1012));
        let mut beyond = nodes.subscribe(id(1), Some(99_999)).unwrap();
        assert_eq!(next(&mut beyond).await, Delivery::Lost(1012));
    }

    #[tokio::test]
    async fn references_are_drawn_by_lot_alone() {
        let nodes = nodes();
        let reference = Admission {
            standing: REFERENCE,
            ..admission()
        };
        for number in 1..=4 {
            join(&nodes, number, reference, state(8));
        }
        // One has much to do, and is drawn as often as the idle ones.
        let mut places: Vec<_> = (0..5).map(|_| nodes.take_place(id(1))).collect();
        let mut first = [0; 5];
        for lot in 0..200 {
            let drawn = nodes.references(MODEL, &[lot; 32], Instant::now());
            assert_eq!(drawn.len(), 4);
            first[usize::from(drawn[0].as_bytes()[0])] += 1;
        }
        assert!(first[1..].iter().all(|count| *count > 25), "{first:?}");
        places.extend((0..3).map(|_| nodes.take_place(id(1))));
        let free = nodes.references(MODEL, &[1; 32], Instant::now());
        assert!(!free.contains(&id(1)), "it has no free slot");
        places.pop();
        let free = nodes.references(MODEL, &[1; 32], Instant::now());
        assert!(free.contains(&id(1)), "a place is free again");
        assert_eq!(nodes.references_here(MODEL, Instant::now()).len(), 4);
    }

    #[tokio::test]
    async fn a_node_that_lost_its_role_is_drawn_no_more_until_it_has_it_again() {
        let nodes = nodes();
        let reference = Admission {
            standing: REFERENCE,
            ..admission()
        };
        let rejoin = |made, admission| {
            let now = Instant::now();
            let opened =
                nodes.open_session(id(1), hash(made as u8), admission, &opening(made), now);
            opened.unwrap();
            nodes.set_state(id(1), state(1), true);
            nodes.subscribe(id(1), None).unwrap()
        };
        rejoin(1, reference);
        nodes.lose_role(id(1));
        assert!(nodes.has_lost_role(id(1)));
        assert!(nodes.authenticate(Some(hash(1)), Instant::now()).is_err());
        rejoin(2, admission());
        assert!(nodes.has_lost_role(id(1)), "what it reported is void");
        assert!(nodes.references(MODEL, &[1; 32], Instant::now()).is_empty());
        rejoin(3, reference);
        assert!(!nodes.has_lost_role(id(1)));
        assert_eq!(nodes.references(MODEL, &[1; 32], Instant::now()).len(), 1);
    }

    #[tokio::test]
    async fn becoming_a_reference_ends_the_session() {
        let nodes = nodes();
        let mut stream = join(&nodes, 1, admission(), state(1));
        nodes.sweep(&HashMap::new(), Instant::now());
        assert!(nodes.authenticate(Some(hash(1)), Instant::now()).is_ok());
        nodes.sweep(&HashMap::from([(id(1), REFERENCE)]), Instant::now());
        let refusal = nodes
            .authenticate(Some(hash(1)), Instant::now())
            .unwrap_err();
        assert_eq!(refusal.code, RefusalCode::NoSession);
        assert_eq!(nodes.next_event(&mut stream).await, Delivery::Closed);
    }
}
