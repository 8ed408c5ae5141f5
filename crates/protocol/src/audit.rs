//! A reference check: what a reference node is asked, and what it answers.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::ids::{AuditId, Hash, ModelId};
use crate::log_probabilities::LogProbabilities;
use crate::task::{Task, Work};
use crate::vector::{Vector, vectors_hash};

/// What a reference node gets. It does not say whose output it is; of an embedding it does not
/// even say what the output is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditSpec {
    /// The protocol's ([`crate::VERSION`]).
    pub version: u16,
    /// What accept, commit and report are addressed by.
    pub audit: AuditId,
    /// What the output is said to follow from ([`Task::to_check`]).
    pub task: Task,
    /// The output to check; none of an embedding.
    pub output: Vec<u32>,
    /// How long the reference may take before another is asked.
    pub deadline_ms: u64,
}

impl AuditSpec {
    /// Whether a reference can work on it: there is something to check, and the task keeps its own
    /// rules.
    pub fn is_sound(&self) -> bool {
        match self.task.work {
            Work::Write(_) => !self.output.is_empty() && self.task.check(&[]).is_ok(),
            Work::Embed(_) => self.task.check(&self.output).is_ok(),
        }
    }
}

/// A position where the reference would have chosen another token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mismatch {
    /// Output position, from 0.
    pub position: u32,
    /// The reference's own token there.
    pub token: u32,
    /// The margin by which the claimed token lost (`verification.md` 4.3), in units of the
    /// temperature, or in raw logits at temperature 0. Finite: a token that no perturbation could
    /// explain gets `f32::MAX`.
    #[serde(deserialize_with = "crate::finite::number")]
    pub margin: f32,
}

/// A reference's answer: its own token at each position, written as the differences from the
/// claimed ones, or its own vectors. What shows that it computed at all are the vectors, or the
/// log-probabilities: nobody can guess them, and no two references may be far apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditReport {
    /// The check that this answers.
    pub audit: AuditId,
    /// The model it was computed with.
    pub model: ModelId,
    /// Engine backend and device kind, for example `cpu/avx2` or `wgpu/vulkan`.
    pub backend: String,
    /// How many output positions were scored, or texts embedded.
    pub positions: u32,
    /// In order of position.
    pub mismatches: Vec<Mismatch>,
    /// One for each claimed token; empty for an embedding.
    #[serde(default, skip_serializing_if = "LogProbabilities::is_empty")]
    pub log_probabilities: LogProbabilities,
    /// One for each text of an embedding; else empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vectors: Vec<Vector>,
    /// Milliseconds the engine took.
    pub elapsed_ms: u32,
}

impl AuditReport {
    /// What a reference commits to before any report is opened; `salt` is 32 random bytes.
    pub fn commitment(&self, salt: &Hash) -> Hash {
        let mut digest = Digest::new("infera/audit-report/v2")
            .fixed(self.audit.as_bytes())
            .fixed(self.model.as_bytes())
            .bytes(self.backend.as_bytes())
            .u32(self.positions)
            .u32(self.elapsed_ms)
            .length(self.mismatches.len());
        for mismatch in &self.mismatches {
            digest = digest
                .u32(mismatch.position)
                .u32(mismatch.token)
                .f32(mismatch.margin);
        }
        digest = digest.length(self.log_probabilities.len());
        for bits in &self.log_probabilities.0 {
            digest = digest.u16(*bits);
        }
        digest
            .fixed(vectors_hash(&self.vectors).as_bytes())
            .fixed(salt.as_bytes())
            .finish()
    }
}

/// What a reference signs: its commitment, bound to the audit.
pub fn audit_commit_digest(audit: AuditId, commitment: Hash) -> Hash {
    Digest::new("infera/audit-commit/v1")
        .fixed(audit.as_bytes())
        .fixed(commitment.as_bytes())
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commitment_opens_only_to_the_same_report_and_salt() {
        let report = AuditReport {
            audit: AuditId::from_bytes([1; 16]),
            model: ModelId::from_bytes([2; 32]),
            backend: "cpu/avx2".to_owned(),
            positions: 10,
            mismatches: vec![Mismatch {
                position: 3,
                token: 4,
                margin: 0.5,
            }],
            log_probabilities: LogProbabilities(vec![7]),
            vectors: Vec::new(),
            elapsed_ms: 7,
        };
        let salt = Hash::from_bytes([5; 32]);
        let commitment = report.commitment(&salt);
        assert_eq!(commitment, report.clone().commitment(&salt));
        assert_ne!(commitment, report.commitment(&Hash::from_bytes([6; 32])));
        let mut other = report.clone();
        other.mismatches[0].margin = 0.25;
        assert_ne!(commitment, other.commitment(&salt));
        other.mismatches[0].margin = 0.5;
        other.vectors = vec![Vector(vec![0.0])];
        assert_ne!(commitment, other.commitment(&salt));
        other = report.clone();
        other.log_probabilities = LogProbabilities(vec![8]);
        assert_ne!(commitment, other.commitment(&salt));
        other = report;
        other.positions = 11;
        assert_ne!(commitment, other.commitment(&salt));
    }
}
