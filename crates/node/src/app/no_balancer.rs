//! The balancer of a node that has none.

use infera_protocol::node_api::{
    AuditCommit, AuditReveal, Challenge, ChallengeRequest, Claim, Decline, ModelOffer, Network,
    NodeState, Points, Release, Session, SessionRequest, WorkRecord,
};
use infera_protocol::output::OutputAck;
use infera_protocol::{AuditId, AuditTask, JobId, JobSpec, OutputBatch};

use crate::balancer_link::{BalancerLink, Call, EventStream, LinkError, Token};
use crate::unreachable::Unreachable;

/// Answers nothing. A node with it is held ([`crate::governor::Hold`]), so it asks nothing either.
pub(super) struct NoBalancer;

fn nobody<T: 'static>() -> Call<T> {
    Box::pin(async {
        Err(LinkError::Unreachable(Unreachable::other(
            "no network is chosen",
        )))
    })
}

impl BalancerLink for NoBalancer {
    fn url(&self) -> &'static str {
        ""
    }

    fn challenge(&self, _: ChallengeRequest) -> Call<Challenge> {
        nobody()
    }

    fn open_session(&self, _: SessionRequest) -> Call<Session> {
        nobody()
    }

    fn network(&self) -> Call<Network> {
        nobody()
    }

    fn events(&self, _: Token, _: Option<String>) -> Call<EventStream> {
        nobody()
    }

    fn models(&self, _: Token) -> Call<Vec<ModelOffer>> {
        nobody()
    }

    fn speed_test(&self, _: Token, _: u64) -> Call<u64> {
        nobody()
    }

    fn state(&self, _: Token, _: NodeState) -> Call<()> {
        nobody()
    }

    fn claim(&self, _: Token, _: JobId, _: Claim) -> Call<JobSpec> {
        nobody()
    }

    fn output(&self, _: Token, _: JobId, _: OutputBatch) -> Call<OutputAck> {
        nobody()
    }

    fn release(&self, _: Token, _: JobId, _: Release) -> Call<()> {
        nobody()
    }

    fn accept_audit(&self, _: Token, _: AuditId) -> Call<AuditTask> {
        nobody()
    }

    fn decline_audit(&self, _: Token, _: AuditId, _: Decline) -> Call<()> {
        nobody()
    }

    fn commit_audit(&self, _: Token, _: AuditId, _: AuditCommit) -> Call<()> {
        nobody()
    }

    fn report_audit(&self, _: Token, _: AuditId, _: AuditReveal) -> Call<()> {
        nobody()
    }

    fn points(&self, _: Token) -> Call<Points> {
        nobody()
    }

    fn history(&self, _: Token, _: u32) -> Call<Vec<WorkRecord>> {
        nobody()
    }
}
