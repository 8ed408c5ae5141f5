//! Seeded sampling, margins and verdicts as pure functions: no I/O, no GPU, no clock.
//!
//! A worker chooses each token with [`choose`]: noise that is a pure function of the job's seed,
//! the output position and the token is added to the logits, and the largest sum wins (Gumbel-max
//! sampling). A reference node that computes nearly the same logits therefore nearly always
//! chooses the same token, and where it does not, [`score`] says how far its logits would have to
//! be off. [`verdict`] makes a decision of those margins.
//!
//! A report is worth no more than the computing behind it, so that it carries what only computing
//! gives, the log-probabilities of the claimed tokens, and [`Agreement`] tells whether two
//! references computed the same.
//!
//! An embedding is no choice but numbers: references compute the vectors for themselves, and
//! [`vectors_verdict`] decides by how far they are apart.

#![deny(missing_docs)]

mod agreement;
mod canary;
mod noise;
mod sampling;
mod structure;
mod verdict;

pub use agreement::{Agreement, largest_agreeing};
pub use canary::{Canary, CanaryFault, certain_places};
pub use noise::noise;
pub use sampling::{
    Scored, best, choose, choose_among, is_defined, log_probabilities, log_probability, needed,
    score,
};
pub use structure::{
    Structure, StructureFault, VectorFault, VectorShape, judge_structure, judge_vectors,
};
pub use verdict::{
    Finding, ReferenceResult, ReportFault, Statistics, Status, Thresholds, Verdict,
    token_statistics, vector_statistics, vectors_verdict, verdict,
};
