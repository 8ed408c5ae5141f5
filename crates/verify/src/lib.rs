//! Seeded sampling, margins and verdicts as pure functions: no I/O, no GPU, no clock.
//!
//! A worker chooses each token with [`choose`]: noise that is a pure function of the job's seed,
//! the output position and the token is added to the logits, and the largest sum wins (Gumbel-max
//! sampling). A reference node that computes nearly the same logits therefore nearly always
//! chooses the same token, and where it does not, [`score`] says how far its logits would have to
//! be off. [`verdict`] makes a decision of those margins.

mod noise;
mod sampling;
mod structure;
mod verdict;

pub use noise::noise;
pub use sampling::{Scored, choose, log_probabilities, score};
pub use structure::{Structure, StructureFault, judge_structure};
pub use verdict::{
    Finding, ReferenceResult, ReportFault, Status, Thresholds, TokenStatistics, Verdict,
    token_statistics, verdict,
};
