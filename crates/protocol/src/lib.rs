//! What crosses the wire between balancer, node and engine: ids, messages, signatures, framing. No I/O.
//!
//! Messages travel as JSON over HTTPS. What is signed or committed to is never JSON: it is a
//! domain-separated BLAKE3 digest of a fixed little-endian encoding (see [`digest`]).

#![deny(missing_docs)]

pub mod account;
pub mod audit;
pub mod digest;
pub mod finite;
pub mod frame;
pub mod ids;
pub mod invitation;
pub mod job;
pub mod log_probabilities;
pub mod node_api;
pub mod output;
pub mod profile;
pub mod requirements;
pub mod shown;
pub mod signature;
pub mod task;
pub mod vector;

pub use account::{AccountKey, FleetCommand, LinkCode, Ownership, Route};
pub use audit::{AuditReport, AuditSpec, Mismatch};
pub use ids::{AccountId, AuditId, Hash, JobId, JobSeed, LinkId, ModelId, NodeId};
pub use invitation::{Fingerprint, Invitation, InvitationToken};
pub use job::{FinishReason, JobSpec};
pub use log_probabilities::LogProbabilities;
pub use output::{ChunkChain, ChunkCommit, Finish, OutputBatch, TokenOutput};
pub use profile::Profile;
pub use signature::{NodeKey, Signature};
pub use task::{Embedding, Sampling, Task, Work, Writing, job_seed, tokens_hash};
pub use vector::Vector;

/// The protocol version this build speaks. A peer with another version is refused by name.
pub const VERSION: u16 = 3;

/// Tokens in a closed chunk. Only the last chunk of an attempt may be shorter.
pub const CHUNK_TOKENS: usize = 32;

/// The largest `top_k` a job may ask for, and the one used when it asks for none.
pub const MAX_TOP_K: u32 = 64;

/// Points are kept in integers of a millionth of a point.
pub const MICRO_POINTS: i64 = 1_000_000;
