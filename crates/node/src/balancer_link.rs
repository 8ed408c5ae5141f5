//! The border to the balancer: what a node can ask of it. [`crate::http_link`] is the real one.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use infera_protocol::account::{LinkGrant, Linked, Ownership};
use infera_protocol::node_api::{
    AuditCommit, AuditReveal, Challenge, ChallengeRequest, Claim, Decline, InvitationRequest,
    Invited, JoinRequest, Joined, ModelOffer, Network, NodeEvent, NodeState, Points, Refusal,
    RefusalCode, Release, Session, SessionRequest, WorkRecord,
};
use infera_protocol::output::OutputAck;
use infera_protocol::{AuditId, AuditSpec, JobId, JobSpec, LinkId, OutputBatch};

use crate::unreachable::Unreachable;

/// A call under way.
pub type Call<T> = BoxFuture<'static, Result<T, LinkError>>;

/// The balancer as a node sees it. Each method is one call of `infera_protocol::node_api`.
pub trait BalancerLink: Send + Sync + 'static {
    /// The address, for messages.
    fn url(&self) -> &str;
    fn challenge(&self, request: ChallengeRequest) -> Call<Challenge>;
    /// What an invitation is worth, without a session.
    fn invitation(&self, request: InvitationRequest) -> Call<Invited>;
    fn join(&self, request: JoinRequest) -> Call<Joined>;
    fn open_session(&self, request: SessionRequest) -> Call<Session>;
    /// Who it is, without a session.
    fn network(&self) -> Call<Network>;
    fn events(&self, token: Token, last_event_id: Option<String>) -> Call<EventStream>;
    fn models(&self, token: Token) -> Call<Vec<ModelOffer>>;
    /// Downloads so many bytes and gives the rate in bytes per second.
    fn speed_test(&self, token: Token, bytes: u64) -> Call<u64>;
    fn state(&self, token: Token, state: NodeState) -> Call<()>;
    fn claim(&self, token: Token, job: JobId, claim: Claim) -> Call<JobSpec>;
    fn output(&self, token: Token, job: JobId, batch: OutputBatch) -> Call<OutputAck>;
    fn release(&self, token: Token, job: JobId, release: Release) -> Call<()>;
    fn accept_audit(&self, token: Token, audit: AuditId) -> Call<AuditSpec>;
    fn decline_audit(&self, token: Token, audit: AuditId, decline: Decline) -> Call<()>;
    fn commit_audit(&self, token: Token, audit: AuditId, commit: AuditCommit) -> Call<()>;
    fn report_audit(&self, token: Token, audit: AuditId, reveal: AuditReveal) -> Call<()>;
    /// What an account granted with a linking code.
    fn link_grant(&self, token: Token, link: LinkId) -> Call<LinkGrant>;
    fn own(&self, token: Token, ownership: Ownership) -> Call<Linked>;
    /// The node is nobody's any more.
    fn disown(&self, token: Token) -> Call<()>;
    fn points(&self, token: Token) -> Call<Points>;
    fn history(&self, token: Token, limit: u32) -> Call<Vec<WorkRecord>>;
}

/// Events as they come. It ends with the connection; an error ends it too.
pub type EventStream = BoxStream<'static, Result<ReceivedEvent, LinkError>>;

#[derive(Debug, Clone, PartialEq)]
pub struct ReceivedEvent {
    /// What to resume after.
    pub id: Option<String>,
    pub event: NodeEvent,
}

/// A session's secret. Its debug form never shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
    pub fn new(secret: &str) -> Self {
        Self(secret.into())
    }

    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(..)")
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// No answer came, or none that a balancer would give.
    #[error("{0}")]
    Unreachable(Unreachable),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl LinkError {
    /// Why there is no answer now. What the balancer says itself is in its own words.
    pub(crate) fn reason(&self) -> Unreachable {
        match self {
            Self::Unreachable(reason) => reason.clone(),
            Self::Refused(refusal) => Unreachable::other(refusal),
        }
    }

    /// The balancer's definite no; none when the same call may succeed later.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(Refusal {
                code: RefusalCode::Unavailable | RefusalCode::TooMuch,
                ..
            })
            | Self::Unreachable(_) => None,
            Self::Refused(refusal) => Some(refusal),
        }
    }

    /// The session is over: another one is to be opened.
    pub(crate) fn ends_session(&self) -> bool {
        self.is(RefusalCode::NoSession) || self.is(RefusalCode::IdentityInUse)
    }

    pub(crate) fn is(&self, code: RefusalCode) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code == code)
    }
}
