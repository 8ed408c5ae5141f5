//! The HTTP calls and events between a node and the balancer. The node always dials out.
//!
//! | call | body | answer |
//! |---|---|---|
//! | `POST /node/v1/challenge` | [`ChallengeRequest`] | [`Challenge`] |
//! | `POST /node/v1/invitation` | [`InvitationRequest`] | [`Invited`] |
//! | `POST /node/v1/join` | [`JoinRequest`] | [`Joined`] |
//! | `POST /node/v1/session` | [`SessionRequest`] | [`Session`] |
//! | `POST /node/v1/state` | [`NodeState`] | 204 |
//! | `GET /node/v1/events` | – | server-sent events of [`NodeEvent`], resumed by `Last-Event-ID` |
//! | `GET /node/v1/models` | – | list of [`ModelOffer`] |
//! | `GET /node/v1/network` | – | [`Network`] (no session needed) |
//! | `GET /node/v1/speed-test?bytes=N` | – | N bytes that do not compress |
//! | `POST /node/v1/jobs/{job}/claim` | [`Claim`] | [`crate::JobSpec`] |
//! | `POST /node/v1/jobs/{job}/output` | [`crate::OutputBatch`] | [`crate::output::OutputAck`] |
//! | `POST /node/v1/jobs/{job}/release` | [`Release`] | 204 |
//! | `POST /node/v1/audits/{audit}/accept` | `{}` | [`crate::AuditSpec`] |
//! | `POST /node/v1/audits/{audit}/decline` | [`Decline`] | 204 |
//! | `POST /node/v1/audits/{audit}/commit` | [`AuditCommit`] | 204 |
//! | `POST /node/v1/audits/{audit}/report` | [`AuditReveal`] | 204 |
//! | `GET /node/v1/points` | – | [`Points`] |
//! | `GET /node/v1/history?limit=N` | – | list of [`WorkRecord`], newest first |
//!
//! Accounts have calls of their own, and nodes three about theirs: [`crate::account`].
//!
//! All but the first four and the network carry `Authorization: Bearer <session token>`.
//! A refused call answers with [`Refusal`].

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::account::{FleetCommand, MachineReport};
use crate::audit::AuditReport;
use crate::digest::Digest;
use crate::ids::{AuditId, Hash, JobId, ModelId, NodeId};
use crate::invitation::InvitationToken;
use crate::requirements::{Hardware, Policy, Requirement};
use crate::signature::Signature;

/// The first call of a node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChallengeRequest {
    /// [`crate::VERSION`] of the node.
    pub version: u16,
    /// Who wants a session.
    pub node: NodeId,
}

/// What a node has to sign, and to work for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Challenge {
    /// To be signed; good for a minute and one session.
    pub challenge: Hash,
    /// What a new identity costs: the answer's `work` must make [`work_digest`] begin with so many
    /// zero bits. 0 for a node that the balancer knows.
    #[serde(default)]
    pub work_bits: u8,
}

/// Proves that the node holds its key, and tells what it runs on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionRequest {
    /// [`crate::VERSION`] of the node.
    pub version: u16,
    /// Whose session it is.
    pub node: NodeId,
    /// The one that the balancer gave.
    pub challenge: Hash,
    /// Over [`session_digest`].
    pub signature: Signature,
    /// Name and version of the program, for example `infera 0.1.0`.
    pub software: String,
    /// What the network's requirements are judged by.
    pub hardware: Hardware,
    /// The answer to [`Challenge::work_bits`].
    #[serde(default)]
    pub work: u64,
    /// Random, one for each run of a program: tells two programs with one identity apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Hash>,
}

/// What a new identity has to search: see [`Challenge::work_bits`].
pub fn work_digest(node: &NodeId, challenge: &Hash, work: u64) -> Hash {
    Digest::new("infera/identity-work/v1")
        .fixed(node.as_bytes())
        .fixed(challenge.as_bytes())
        .u64(work)
        .finish()
}

/// Whether `work` answers a challenge that asks for `bits` zero bits.
pub fn work_is_done(node: &NodeId, challenge: &Hash, work: u64, bits: u8) -> bool {
    let digest = work_digest(node, challenge, work);
    let mut zeros = 0;
    for byte in digest.as_bytes() {
        zeros += byte.leading_zeros();
        if *byte != 0 {
            break;
        }
    }
    zeros >= u32::from(bits)
}

/// Searches the work that a challenge asks for: about 2^`bits` digests.
pub fn do_work(node: &NodeId, challenge: &Hash, bits: u8) -> u64 {
    let mut work = 0;
    while !work_is_done(node, challenge, work, bits) {
        work += 1;
    }
    work
}

/// What a node signs to open a session.
pub fn session_digest(node: &NodeId, challenge: &Hash) -> Hash {
    Digest::new("infera/session/v1")
        .fixed(node.as_bytes())
        .fixed(challenge.as_bytes())
        .finish()
}

/// Asks what an invitation is worth, before anybody joins by it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InvitationRequest {
    /// [`crate::VERSION`] of the node.
    pub version: u16,
    /// The invitation's.
    pub token: InvitationToken,
}

/// What an invitation lets its bearer become, and what the network is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Invited {
    /// What anybody may know of the network.
    pub network: Network,
    /// What those who join by it become.
    pub standing: Standing,
    /// How many more may join by it; none for any number.
    #[serde(default)]
    pub uses_left: Option<u32>,
    /// Unix time in milliseconds; none for no end.
    #[serde(default)]
    pub expires_ms: Option<i64>,
}

/// What the operator lets a node be, beside an ordinary one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Standing {
    /// The operator vouches for it: its answers count without a check where there is none.
    #[serde(default)]
    pub trusted: bool,
    /// It checks other nodes' outputs in place of taking jobs.
    #[serde(default)]
    pub reference: bool,
}

/// A node joins by an invitation. The same node may send it again, which counts no further use.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JoinRequest {
    /// [`crate::VERSION`] of the node.
    pub version: u16,
    /// Who joins.
    pub node: NodeId,
    /// The one that the balancer gave; no work is asked for it.
    pub challenge: Hash,
    /// Over [`join_digest`].
    pub signature: Signature,
    /// The invitation's.
    pub token: InvitationToken,
    /// Name and version of the program, for example `infera 0.1.0`.
    pub software: String,
}

/// What a node signs to join by an invitation.
pub fn join_digest(node: &NodeId, challenge: &Hash, token: &InvitationToken) -> Hash {
    Digest::new("infera/join/v1")
        .fixed(node.as_bytes())
        .fixed(challenge.as_bytes())
        .fixed(token.hash().as_bytes())
        .finish()
}

/// The node is in, and opens sessions from now on as any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// What it is now.
    pub standing: Standing,
}

/// What a node gets for a good answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Session {
    /// Secret: for the `Authorization` header only.
    pub token: String,
    /// The node re-scores other nodes' outputs instead of taking jobs.
    pub reference: bool,
    /// What the network asks of a machine.
    pub policy: Policy,
    /// The balancer's own judgement of the node's hardware.
    pub requirements: Vec<Requirement>,
    /// The node counts as gone when nothing was heard of it for so long.
    pub timeout_ms: u64,
}

/// What a node can take now. Sent when it changes, and as a sign of life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeState {
    /// Models that are loaded.
    pub models: Vec<ModelId>,
    /// How many tokens of prompt and output together it can take of each of `models`, in their
    /// order. A model without an entry is taken with its whole context.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub context_tokens: Vec<u32>,
    /// How many more jobs or audits it can take at once.
    pub free_slots: u32,
    /// Why it takes none, in words for a person.
    pub paused: Option<String>,
    /// As it is now: disks fill up, and GPUs come and go.
    pub hardware: Hardware,
    /// For the owner of the account that the node belongs to, and for nobody else. A node of no
    /// account sends none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<MachineReport>,
}

/// What a network tells of itself before a node joins.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
#[ts(rename = "PublicNetwork")]
pub struct Network {
    /// By the operator, for people.
    pub name: String,
    /// Who runs it, in the operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// What the operator asks of those who join, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<String>,
    /// What a node's machine must have.
    pub policy: Policy,
    /// What clients can ask for now.
    pub models: Vec<ModelOffer>,
    /// Whether answers are checked.
    #[serde(default)]
    pub checking: Checking,
    /// Who may join.
    #[serde(default)]
    pub admission: AdmissionRule,
    /// Nodes that are here now.
    #[serde(default)]
    pub nodes: u32,
    /// How many of them check the others.
    #[serde(default)]
    pub references: u32,
    /// How many must, for an answer to be checked.
    #[serde(default)]
    pub references_needed: u32,
}

/// Whether a network checks its nodes' answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Checking {
    /// Not at all: the operator trusts every node, and answers say "not checked".
    None,
    /// By reference nodes.
    #[default]
    Always,
}

/// Who may join a network with an identity that has no verified job yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum AdmissionRule {
    /// Everybody.
    Open,
    /// Everybody who has done some work for it.
    #[default]
    Work,
    /// Whoever has an invitation.
    Invitation,
}

/// A model the network serves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct ModelOffer {
    /// In its profile.
    pub model: ModelId,
    /// The name that clients use.
    pub name: String,
    /// What clients pay for it.
    pub price: Price,
    /// Prompt and output together.
    pub context_tokens: u32,
}

/// In micro-points per token, as the client pays. The work's share goes to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Price {
    /// For each token that is read.
    pub input: i64,
    /// For each token that is written.
    pub output: i64,
}

/// A job that is open to whoever claims it first. It never holds the prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// The job.
    pub job: JobId,
    /// The one that a claim would begin, counted from 1.
    pub attempt: u32,
    /// A node claims only what it has loaded.
    pub model: ModelId,
    /// Tokens of the prompt, or of all texts of an embedding.
    pub prompt_tokens: u32,
    /// What earlier attempts already produced.
    pub output_tokens: u32,
    /// 0 for an embedding.
    pub max_tokens: u32,
    /// The whole job's; the node's share is a part of it.
    pub price: Price,
    /// The offer ends after so long.
    pub deadline_ms: u64,
}

/// What the balancer tells a node, one by one, over the stream of events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum NodeEvent {
    /// A job that the node may claim.
    Offer(Offer),
    /// The offer is gone: another node has it, or the client left.
    Withdrawn {
        /// The job that was offered.
        job: JobId,
        /// The attempt that was offered.
        attempt: u32,
    },
    /// The client left: stop, and send the signed end.
    Cancel {
        /// The job that the node holds.
        job: JobId,
        /// The attempt that it holds.
        attempt: u32,
    },
    /// Only to the reference nodes drawn for it.
    Audit {
        /// By which the task is asked for.
        audit: AuditId,
        /// A reference without it loaded declines.
        model: ModelId,
        /// Input and output together.
        tokens: u32,
        /// How long the reference may take to accept.
        deadline_ms: u64,
    },
    /// Every reference of this audit has committed: open the report.
    Reveal {
        /// The audit whose report is to be opened.
        audit: AuditId,
    },
    /// What a piece of work has come to, and what it moved: when it has ended, and again when its
    /// verdict is final.
    Settled(WorkRecord),
    /// The node's account tells it something.
    Command(FleetCommand),
    /// The balancer no longer knows where the node's events stopped: ask for everything anew.
    Reset,
}

/// A node takes an offered job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claim {
    /// [`crate::VERSION`] of the node.
    pub version: u16,
    /// The one that was offered.
    pub attempt: u32,
    /// Random: a claim is accepted once.
    pub nonce: Hash,
    /// Over [`claim_digest`].
    pub signature: Signature,
}

/// What a node signs to claim an attempt.
pub fn claim_digest(job: JobId, attempt: u32, node: &NodeId, nonce: &Hash) -> Hash {
    Digest::new("infera/claim/v1")
        .fixed(job.as_bytes())
        .u32(attempt)
        .fixed(node.as_bytes())
        .fixed(nonce.as_bytes())
        .finish()
}

/// A node hands a job back, which another goes on with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Release {
    /// [`crate::VERSION`] of the node.
    pub version: u16,
    /// The one that the node holds.
    pub attempt: u32,
    /// In words for a person, for example `paused by the user`.
    pub reason: String,
}

/// A reference does not do an audit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Decline {
    /// In words for the operator.
    pub reason: String,
}

/// A reference has its report, and shows its hash.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditCommit {
    /// [`AuditReport::commitment`].
    pub commitment: Hash,
    /// Over [`crate::audit::audit_commit_digest`].
    pub signature: Signature,
}

/// A reference opens its report, once all have committed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditReveal {
    /// What was committed to.
    pub report: AuditReport,
    /// 32 random bytes that were hashed with it, so that nobody could guess it.
    pub salt: Hash,
}

/// A node's points, in micro-points.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Points {
    /// Earned by what was verified.
    pub confirmed: i64,
    /// Earned, but not yet verified; of a reference node, not yet confirmed by what its own work
    /// was found to be worth.
    pub pending: i64,
    /// Lost because verification failed, or with a reference node's role.
    pub forfeited: i64,
}

/// One piece of work of a node, as the balancer's books have it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct WorkRecord {
    /// What `id` is the id of.
    pub kind: WorkKind,
    /// The job's id, or the audit's.
    pub id: String,
    /// The job's, counted from 1; 0 for an audit.
    pub attempt: u32,
    /// What it was computed with.
    pub model: ModelId,
    /// The name that clients used.
    pub model_name: String,
    /// Tokens of the prompt, or of all texts of an embedding.
    pub input_tokens: u32,
    /// Tokens of this attempt; for an audit, of the whole output.
    pub output_tokens: u32,
    /// Unix time in milliseconds.
    pub started_ms: i64,
    /// Unix time in milliseconds; none while it runs.
    pub finished_ms: Option<i64>,
    /// On this attempt; for an audit, on the job.
    pub verdict: VerdictStatus,
    /// The rule that decided, in one sentence.
    pub reason: String,
    /// Micro-points for it, pending ones included; 0 once they are lost.
    pub points: i64,
    /// Micro-points that were lost because verification failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub forfeited: Option<i64>,
    /// What each reference found about this part of the output, once the verdict is final. For an
    /// audit, what it found itself.
    #[serde(default)]
    pub references: Vec<ReferenceFigures>,
}

/// One reference's comparison of its own tokens, or vectors of an embedding, with the node's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct ReferenceFigures {
    /// The first digits of its node id.
    pub reference: String,
    /// What its figures mean by the profile's thresholds.
    pub finding: ReferenceFinding,
    /// Tokens or vectors compared.
    pub positions: u32,
    /// Tokens that the reference would have chosen otherwise, or vectors that are not the same.
    pub mismatches: u32,
    /// The largest margin of a mismatch, or distance of two vectors, in units of the profile's
    /// noise scale.
    #[serde(deserialize_with = "crate::finite::number")]
    pub largest_margin: f32,
}

/// What one reference found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum ReferenceFinding {
    /// Rounding explains every difference.
    Clean,
    /// Rounding hardly explains it; another reference was asked.
    Alarm,
    /// Rounding does not explain it.
    Fail,
}

/// What a node did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum WorkKind {
    /// An attempt at a job.
    Job,
    /// A check of another node's output.
    Audit,
}

/// What the rule made of all checks so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum VerdictStatus {
    /// The references agree with the output.
    Verified,
    /// The lottery chose no audit.
    SampledOut,
    /// The network has nothing checked: its operator trusts the nodes.
    NotChecked,
    /// No verdict yet.
    Pending,
    /// The references agree that the output is another one than the model writes.
    Failed,
}

/// Why a call was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What a program acts on.
    pub code: RefusalCode,
    /// An English sentence, and what to do.
    pub message: String,
}

/// Why a call was refused, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// The protocol version is not one the balancer speaks.
    UnknownVersion,
    /// The body cannot be read, or breaks a rule of its own.
    Malformed,
    /// The signature is not that of the node over what it sent.
    BadSignature,
    /// The challenge is unknown, used or too old.
    BadChallenge,
    /// The session token is missing, unknown or expired: open a new session.
    NoSession,
    /// The balancer has no such job, or no more.
    UnknownJob,
    /// Another node was first.
    Taken,
    /// This claim was already used.
    Replayed,
    /// The node may not take this job: not eligible, or not offered to it.
    NotEligible,
    /// The job is held by another node.
    NotYours,
    /// The lease has run out, or the attempt has ended.
    LeaseEnded,
    /// Output that does not follow on what has arrived.
    OutOfOrder,
    /// Output that breaks the job's rules: ids beyond the vocabulary, too many tokens, a wrong end,
    /// vectors of another shape.
    BadOutput,
    /// A commitment that does not match the tokens.
    BadCommitment,
    /// The balancer has no such audit for this node.
    UnknownAudit,
    /// The audit is not open for this step.
    WrongStep,
    /// The balancer cannot answer now: try again.
    Unavailable,
    /// Another program uses this node's identity now.
    IdentityInUse,
    /// The work that a new identity costs is missing or wrong: ask for a new challenge.
    WorkMissing,
    /// More calls or nodes from this address, or more text, than the balancer takes.
    TooMuch,
    /// The network takes new nodes by invitation only.
    InvitationNeeded,
    /// The network never gave this invitation out.
    InvitationUnknown,
    /// As many have joined by it as may.
    InvitationUsedUp,
    /// Its time is over.
    InvitationExpired,
    /// Its operator took it back.
    InvitationRevoked,
    /// Nothing was granted with this linking code, here.
    LinkUnknown,
    /// As many machines were linked by it as may.
    LinkUsedUp,
    /// A grant or an ownership is forged or too old.
    BadOwnership,
    /// The account has no node in this network, and so nothing else here.
    NoAccount,
    /// The account has as many of them as it may.
    AccountFull,
    /// The account has a key of this name.
    NameTaken,
    /// The account has no such key or node.
    NoSuch,
}

impl RefusalCode {
    /// The HTTP status it goes with.
    pub fn status(self) -> u16 {
        match self {
            Self::UnknownVersion => 426,
            Self::Malformed => 400,
            Self::BadSignature | Self::NoSession | Self::BadChallenge | Self::WorkMissing => 401,
            Self::NotEligible
            | Self::NotYours
            | Self::InvitationNeeded
            | Self::BadOwnership
            | Self::NoAccount => 403,
            Self::UnknownJob
            | Self::UnknownAudit
            | Self::InvitationUnknown
            | Self::LinkUnknown
            | Self::NoSuch => 404,
            Self::Taken
            | Self::Replayed
            | Self::OutOfOrder
            | Self::WrongStep
            | Self::IdentityInUse
            | Self::NameTaken
            | Self::AccountFull => 409,
            Self::LeaseEnded
            | Self::LinkUsedUp
            | Self::InvitationUsedUp
            | Self::InvitationExpired
            | Self::InvitationRevoked => 410,
            Self::BadOutput | Self::BadCommitment => 422,
            Self::TooMuch => 429,
            Self::Unavailable => 503,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_carry_their_type() {
        let event = NodeEvent::Cancel {
            job: JobId::from_bytes([1; 16]),
            attempt: 2,
        };
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["type"], "cancel");
        assert_eq!(serde_json::from_value::<NodeEvent>(json).unwrap(), event);
    }

    #[test]
    fn work_is_checked_bit_by_bit_and_bound_to_its_node() {
        let (one, two) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        let challenge = Hash::from_bytes([3; 32]);
        let work = do_work(&one, &challenge, 9);
        assert!(work_is_done(&one, &challenge, work, 0));
        let bytes = *work_digest(&one, &challenge, work).as_bytes();
        assert!(bytes[0] == 0 && bytes[1] < 0x80);
        assert!(!work_is_done(&one, &challenge, work, u8::MAX));
        assert_ne!(
            work_digest(&one, &challenge, work),
            work_digest(&two, &challenge, work)
        );
    }

    #[test]
    fn what_is_signed_is_bound_to_its_node() {
        let (one, two) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        let hash = Hash::from_bytes([3; 32]);
        assert_ne!(session_digest(&one, &hash), session_digest(&two, &hash));
        let job = JobId::from_bytes([4; 16]);
        assert_ne!(
            claim_digest(job, 1, &one, &hash),
            claim_digest(job, 1, &two, &hash)
        );
        assert_ne!(
            claim_digest(job, 1, &one, &hash),
            claim_digest(job, 2, &one, &hash)
        );
    }
}
