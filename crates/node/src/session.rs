//! Keeps one session with the balancer: opens it, listens to its events, opens it again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use infera_protocol::node_api::{
    Challenge, ChallengeRequest, NodeEvent, NodeState, RefusalCode, Session, SessionRequest,
    do_work, session_digest,
};
use infera_protocol::requirements::Hardware;
use infera_protocol::{Hash, NodeKey, VERSION};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::balancer_link::{BalancerLink, EventStream, LinkError, Token};
use crate::caller::Caller;
use crate::clock::{Backoff, Entropy};
use crate::state::TurnedAway;
use crate::unreachable::Unreachable;

/// What the controller hears of the session.
#[derive(Debug)]
pub(crate) enum SessionEvent {
    Opened(Session),
    /// Events flow again after a break, in the same session.
    Resumed,
    Received(NodeEvent),
    Lost {
        reason: Unreachable,
        /// Where the balancer answers.
        turned_away: Option<TurnedAway>,
        retry_in: Duration,
    },
    /// The balancer refused this program for good.
    Refused(String),
}

pub(crate) struct SessionTask {
    pub(crate) link: Arc<dyn BalancerLink>,
    pub(crate) key: Arc<NodeKey>,
    pub(crate) entropy: Arc<dyn Entropy>,
    /// Names this run of the program.
    pub(crate) instance: Hash,
    pub(crate) hardware: watch::Receiver<Hardware>,
    pub(crate) token: watch::Sender<Option<Token>>,
    pub(crate) expired: mpsc::UnboundedReceiver<Token>,
    pub(crate) events: mpsc::UnboundedSender<SessionEvent>,
}

/// A stream that lasted so long was a good one: the next try comes at once.
const GOOD_STREAM: Duration = Duration::from_secs(5);

/// How long to wait where the balancer has just said that it does not take this node: soon enough
/// for a restart after a crash.
const TURNED_AWAY: Duration = Duration::from_secs(15);

/// The most work that a new identity is taken to cost: some seconds of one processor.
const MOST_WORK_BITS: u8 = 26;

/// Why a session is left.
enum End {
    /// Open another one now.
    Expired,
    /// Nobody listens any more, or no try can succeed.
    Final,
}

impl SessionTask {
    pub(crate) async fn run(mut self) {
        let mut backoff = Backoff::new(Arc::clone(&self.entropy));
        let mut short_sessions = Backoff::new(Arc::clone(&self.entropy));
        let mut last_event_id = None;
        loop {
            match self.open().await {
                Ok(session) => {
                    backoff.reset();
                    let start = Instant::now();
                    let token = Token::new(&session.token);
                    self.token.send_replace(Some(token.clone()));
                    if self.events.send(SessionEvent::Opened(session)).is_err() {
                        return;
                    }
                    match self.listen(&token, &mut last_event_id, &mut backoff).await {
                        End::Expired => {}
                        End::Final => return,
                    }
                    self.token.send_replace(None);
                    if start.elapsed() >= GOOD_STREAM {
                        short_sessions.reset();
                    } else {
                        // Not in a circle at full speed, should the balancer forget every session.
                        tokio::time::sleep(short_sessions.next_delay()).await;
                    }
                }
                Err(error) => match self.lost(&error, &mut backoff) {
                    Some(delay) => tokio::time::sleep(delay).await,
                    None => return,
                },
            }
        }
    }

    async fn open(&self) -> Result<Session, LinkError> {
        match self.try_to_open().await {
            // The work took longer than its challenge was good for, or the balancer has restarted.
            Err(error)
                if error.is(RefusalCode::WorkMissing) || error.is(RefusalCode::BadChallenge) =>
            {
                self.try_to_open().await
            }
            answer => answer,
        }
    }

    async fn try_to_open(&self) -> Result<Session, LinkError> {
        let node = self.key.id();
        let Challenge {
            challenge,
            work_bits,
        } = self
            .link
            .challenge(ChallengeRequest {
                version: VERSION,
                node,
            })
            .await?;
        if work_bits > MOST_WORK_BITS {
            return Err(LinkError::Unreachable(Unreachable::other(&format!(
                "the balancer asks for more work ({work_bits} bits) than this program does"
            ))));
        }
        let search = move || do_work(&node, &challenge, work_bits);
        let work = tokio::task::spawn_blocking(search).await.unwrap_or(0);
        let hardware = self.hardware.borrow().clone();
        self.link
            .open_session(SessionRequest {
                version: VERSION,
                node,
                challenge,
                signature: self.key.sign(session_digest(&node, &challenge)),
                software: crate::SOFTWARE.to_owned(),
                hardware,
                work,
                instance: Some(self.instance),
            })
            .await
    }

    /// Listens until the session ends.
    async fn listen(
        &mut self,
        token: &Token,
        last_event_id: &mut Option<String>,
        backoff: &mut Backoff,
    ) -> End {
        let mut broken = false;
        loop {
            let opened = self.link.events(token.clone(), last_event_id.clone()).await;
            let failure = match opened {
                Ok(stream) => {
                    if std::mem::take(&mut broken) {
                        self.token.send_replace(Some(token.clone()));
                        if self.events.send(SessionEvent::Resumed).is_err() {
                            return End::Final;
                        }
                    }
                    let start = Instant::now();
                    let end = self.pump(stream, token, last_event_id).await;
                    if start.elapsed() >= GOOD_STREAM {
                        backoff.reset();
                    }
                    match end {
                        Ok(end) => return end,
                        Err(error) => error,
                    }
                }
                Err(error) => {
                    broken = true;
                    error
                }
            };
            if failure.ends_session() {
                return End::Expired;
            }
            if broken {
                match self.lost(&failure, backoff) {
                    Some(delay) => tokio::time::sleep(delay).await,
                    None => return End::Final,
                }
            } else {
                // A stream that ended is opened again before anyone is told.
                tracing::debug!(reason = %failure, "the event stream ended");
                tokio::time::sleep(backoff.next_delay()).await;
            }
        }
    }

    /// Hands events on until the stream breaks.
    async fn pump(
        &mut self,
        mut stream: EventStream,
        token: &Token,
        last_event_id: &mut Option<String>,
    ) -> Result<End, LinkError> {
        loop {
            tokio::select! {
                next = stream.next() => match next {
                    Some(Ok(received)) => {
                        if self.events.send(SessionEvent::Received(received.event)).is_err() {
                            return Ok(End::Final);
                        }
                        if received.id.is_some() {
                            *last_event_id = received.id;
                        }
                    }
                    Some(Err(error)) => return Err(error),
                    None => return Err(LinkError::Unreachable(Unreachable::Broken)),
                },
                expired = self.expired.recv() => match expired {
                    Some(expired) if expired == *token => return Ok(End::Expired),
                    Some(_) => {}
                    None => return Ok(End::Final),
                },
            }
        }
    }

    /// Tells of a failed try and gives the delay before the next, or none if there is no use.
    fn lost(&self, error: &LinkError, backoff: &mut Backoff) -> Option<Duration> {
        self.token.send_replace(None);
        if let Some(refusal) = error.refusal()
            && refusal.code == RefusalCode::UnknownVersion
        {
            let _ = self
                .events
                .send(SessionEvent::Refused(refusal.message.clone()));
            return None;
        }
        let turned_away = if error.is(RefusalCode::IdentityInUse) {
            Some(TurnedAway::IdentityInUse)
        } else if error.is(RefusalCode::TooMuch) {
            Some(TurnedAway::TooMuch)
        } else if error.is(RefusalCode::InvitationNeeded) {
            Some(TurnedAway::InvitationNeeded)
        } else {
            None
        };
        let retry_in = match turned_away {
            Some(TurnedAway::IdentityInUse) => TURNED_AWAY,
            Some(TurnedAway::TooMuch | TurnedAway::InvitationNeeded) => {
                TURNED_AWAY + backoff.next_delay()
            }
            None => backoff.next_delay(),
        };
        self.events
            .send(SessionEvent::Lost {
                reason: error.reason(),
                turned_away,
                retry_in,
            })
            .ok()
            .map(|()| retry_in)
    }
}

/// Sends the node's state when it changes, and as a sign of life.
pub(crate) async fn report_state(
    caller: Caller,
    mut state: watch::Receiver<NodeState>,
    mut timeout: watch::Receiver<Duration>,
) {
    let mut backoff = Backoff::new(Arc::clone(&caller.entropy));
    let mut session = caller.session.clone();
    loop {
        let interval = *timeout.borrow_and_update() / 3;
        session.mark_unchanged();
        let sent = caller.once(|link, token| link.state(token, state.borrow_and_update().clone()));
        let wait = match sent.await {
            Ok(()) => {
                backoff.reset();
                interval
            }
            Err(error) => {
                tracing::debug!(%error, "the state could not be sent");
                backoff.next_delay().min(interval)
            }
        };
        let changed = tokio::select! {
            changed = state.changed() => changed,
            // A new session starts without a state.
            changed = session.changed() => changed,
            changed = timeout.changed() => changed,
            () = tokio::time::sleep(wait) => Ok(()),
        };
        if changed.is_err() {
            return;
        }
    }
}
