//! Audits: re-scoring another node's output or embedding its texts anew, committing to the report,
//! opening it.

use std::time::Duration;

use infera_engine::message::{Command, Embedded, Score, Scored};
use infera_protocol::audit::audit_commit_digest;
use infera_protocol::node_api::{
    AuditCommit, AuditReveal, Decline, Refusal, RefusalCode, VerdictStatus, WorkKind, WorkRecord,
};
use infera_protocol::{AuditId, AuditReport, AuditSpec, Hash, LogProbabilities, ModelId, VERSION};
use tokio::time::Instant;

use super::jobs::MOST_FAILURES;
use super::work::Duty;
use super::{Controller, Input};
use crate::books::JobRow;
use crate::clock::random_32;
use crate::store::{StoreError, StoredReport};

/// An audit that is being computed.
pub(super) struct Audit {
    pub(super) slot: usize,
    /// Prompt and output together.
    pub(super) tokens: u32,
    pub(super) started_ms: i64,
    pub(super) expires: Instant,
    model: ModelId,
    /// None until the balancer has handed it out.
    spec: Option<AuditSpec>,
    request: Option<u64>,
    failures: u32,
}

/// A finished report, until it is opened.
pub(super) struct Report {
    stored: StoredReport,
    committed: bool,
    /// The balancer has asked for it.
    wanted: bool,
    sending: bool,
    tokens: u32,
    started_ms: i64,
    /// What it was computed on; none for one of an earlier run.
    device: Option<String>,
}

impl Controller {
    pub(super) fn on_audit(
        &mut self,
        audit: AuditId,
        model: ModelId,
        tokens: u32,
        deadline: Duration,
    ) {
        if self.work.audits.contains_key(&audit)
            || self.work.reports.contains_key(&audit)
            || self.work.is_over(Duty::Audit(audit))
        {
            return;
        }
        let slot = (0..self.slots.len())
            .filter(|slot| self.takes_work(*slot, model, tokens))
            .min_by_key(|slot| self.work.load_of(*slot));
        let Some(slot) = slot else {
            self.send_decline(
                audit,
                "the node is paused, or has the model not loaded or with a shorter context",
            );
            return;
        };
        self.work.audits.insert(
            audit,
            Audit {
                slot,
                tokens,
                started_ms: self.now_ms(),
                expires: Instant::now() + deadline,
                model,
                spec: None,
                request: None,
                failures: 0,
            },
        );
        let caller = self.caller.clone();
        self.report(async move {
            let accept = caller.until_answered(|link, token| link.accept_audit(token, audit));
            Input::AuditAccepted {
                audit,
                result: tokio::time::timeout(deadline, accept).await.ok(),
            }
        });
    }

    pub(super) fn on_audit_accepted(
        &mut self,
        id: AuditId,
        result: Option<Result<AuditSpec, Refusal>>,
    ) {
        let Some(audit) = self.work.audits.get_mut(&id) else {
            return;
        };
        match result {
            Some(Ok(spec)) => {
                let sound = spec.version == VERSION
                    && (spec.audit, spec.task.model) == (id, audit.model)
                    && spec.is_sound();
                if sound {
                    audit.expires = Instant::now() + Duration::from_millis(spec.deadline_ms);
                    audit.spec = Some(spec);
                } else {
                    self.decline(
                        id,
                        "the audit is not what was announced, or breaks its own rules",
                    );
                }
            }
            Some(Err(refusal)) => {
                tracing::debug!(audit = %id, code = ?refusal.code, "an audit was not handed out");
                self.drop_audit(id);
            }
            None => self.drop_audit(id),
        }
    }

    pub(super) fn give_audits_to_engines(&mut self) {
        let idle: Vec<_> = self
            .work
            .audits
            .iter()
            .filter(|(_, audit)| audit.request.is_none() && audit.spec.is_some())
            .map(|(id, audit)| (*id, audit.slot))
            .collect();
        for (audit, slot) in idle {
            let Some(spec) = self
                .work
                .audits
                .get(&audit)
                .and_then(|audit| audit.spec.clone())
            else {
                continue;
            };
            let request = self.ask_engine(slot, Duty::Audit(audit), |id| {
                Command::Score(Score {
                    id,
                    task: spec.task,
                    output: spec.output,
                })
            });
            if let Some(audit) = self.work.audits.get_mut(&audit) {
                audit.request = request;
            }
        }
    }

    pub(super) fn on_scored(&mut self, scored: Scored) {
        if let Some(Duty::Audit(id)) = self.work.take(scored.id) {
            self.make_report(id, |report| AuditReport {
                positions: scored.positions,
                mismatches: scored.mismatches,
                log_probabilities: scored.log_probabilities,
                elapsed_ms: scored.elapsed_ms,
                ..report
            });
        }
    }

    pub(super) fn on_audit_embedded(&mut self, id: AuditId, embedded: Embedded) {
        self.make_report(id, |report| AuditReport {
            positions: embedded.vectors.len() as u32,
            vectors: embedded.vectors,
            elapsed_ms: embedded.elapsed_ms,
            ..report
        });
    }

    /// The engine is done: `fill` adds what it found.
    fn make_report(&mut self, id: AuditId, fill: impl FnOnce(AuditReport) -> AuditReport) {
        let Some(audit) = self.work.audits.remove(&id) else {
            return;
        };
        let report = fill(AuditReport {
            audit: id,
            model: audit.model,
            backend: self.slots[audit.slot].backend(),
            positions: 0,
            mismatches: Vec::new(),
            log_probabilities: LogProbabilities::default(),
            vectors: Vec::new(),
            elapsed_ms: 0,
        });
        let stored = StoredReport {
            report,
            salt: Hash::from_bytes(random_32(&*self.edges.entropy)),
        };
        self.work.reports.insert(
            id,
            Report {
                stored,
                committed: false,
                wanted: false,
                sending: false,
                tokens: audit.tokens,
                started_ms: audit.started_ms,
                device: Some(self.device_of(audit.slot)),
            },
        );
        self.commit(id);
    }

    /// Puts a report on disk, then commits to it.
    fn commit(&mut self, id: AuditId) {
        let Some(report) = self.work.reports.get(&id) else {
            return;
        };
        let commitment = report.stored.report.commitment(&report.stored.salt);
        let commit = AuditCommit {
            commitment,
            signature: self.key.sign(audit_commit_digest(id, commitment)),
        };
        let stored = report.stored.clone();
        let (caller, store, made_ms) = (self.caller.clone(), self.store.clone(), self.now_ms());
        let input = self.input.clone();
        self.report(async move {
            // A report that cannot be written is sent all the same: only a crash would lose it.
            if let Err(error) = store.put_report(&stored, made_ms).await {
                let _ = input.send(Input::StorageFault(error));
            }
            let result = caller
                .until_answered(|link, token| link.commit_audit(token, id, commit.clone()))
                .await;
            Input::AuditCommitted { audit: id, result }
        });
    }

    pub(super) fn on_audit_committed(&mut self, id: AuditId, result: Result<(), Refusal>) {
        let Some(report) = self.work.reports.get_mut(&id) else {
            return;
        };
        match result {
            Ok(()) => report.committed = true,
            // An earlier try arrived, only its answer did not.
            Err(refusal) if refusal.code == RefusalCode::WrongStep => {
                report.committed = true;
                report.wanted = true;
            }
            Err(refusal) => {
                tracing::warn!(audit = %id, code = ?refusal.code, "an audit's commitment was refused; the audit is dropped");
                self.forget_report(id);
                return;
            }
        }
        self.open_report(id);
    }

    pub(super) fn on_reveal(&mut self, id: AuditId) {
        if let Some(report) = self.work.reports.get_mut(&id) {
            report.wanted = true;
            self.open_report(id);
        }
    }

    /// The balancer may have asked while nobody listened.
    pub(super) fn offer_reports(&mut self) {
        let waiting: Vec<_> = self
            .work
            .reports
            .iter_mut()
            .filter(|(_, report)| report.committed)
            .map(|(id, report)| {
                report.wanted = true;
                *id
            })
            .collect();
        for id in waiting {
            self.open_report(id);
        }
    }

    fn open_report(&mut self, id: AuditId) {
        let Some(report) = self.work.reports.get_mut(&id) else {
            return;
        };
        if !report.committed || !report.wanted || report.sending {
            return;
        }
        report.sending = true;
        let reveal = AuditReveal {
            report: report.stored.report.clone(),
            salt: report.stored.salt,
        };
        let caller = self.caller.clone();
        self.report(async move {
            let result = caller
                .until_answered(|link, token| link.report_audit(token, id, reveal.clone()))
                .await;
            Input::AuditReported { audit: id, result }
        });
    }

    pub(super) fn on_audit_reported(&mut self, id: AuditId, result: Result<(), Refusal>) {
        let Some(report) = self.work.reports.get_mut(&id) else {
            return;
        };
        report.sending = false;
        match result {
            Ok(()) => {
                tracing::info!(audit = %id, "an audit is done");
                let now = self.now_ms();
                let scored = |report: &AuditReport| match report.vectors.len() {
                    0 => report.positions,
                    _ => 0,
                };
                let entry = self.work.reports.get(&id).map(|report| JobRow {
                    record: WorkRecord {
                        kind: WorkKind::Audit,
                        id: id.to_string(),
                        attempt: 1,
                        model: report.stored.report.model,
                        model_name: String::new(),
                        input_tokens: report.tokens.saturating_sub(scored(&report.stored.report)),
                        output_tokens: scored(&report.stored.report),
                        started_ms: report.started_ms,
                        finished_ms: Some(now),
                        verdict: VerdictStatus::Pending,
                        reason: String::new(),
                        points: 0,
                        forfeited: None,
                        references: Vec::new(),
                    },
                    tokens_per_second: None,
                    device: report.device.clone(),
                    network: Some(self.edges.balancer_url().to_owned()),
                });
                if let Some(mut entry) = entry {
                    if let Some(slot) = self
                        .slots
                        .iter()
                        .find(|slot| slot.model() == Some(entry.record.model))
                    {
                        entry.record.model_name = slot.name(self.network.served.as_deref());
                    }
                    let store = self.store.clone();
                    self.remember(async move { store.record(entry).await });
                }
                self.forget_report(id);
            }
            // The other references have not committed yet: the balancer will ask.
            Err(refusal) if refusal.code == RefusalCode::WrongStep => report.wanted = false,
            Err(refusal) => {
                tracing::warn!(audit = %id, code = ?refusal.code, "an audit's report was refused");
                self.forget_report(id);
            }
        }
    }

    pub(super) fn audit_failed(&mut self, id: AuditId, why: &str) {
        let Some(audit) = self.work.audits.get_mut(&id) else {
            return;
        };
        audit.request = None;
        audit.failures += 1;
        if audit.failures >= MOST_FAILURES {
            self.decline(id, why);
        }
    }

    pub(super) fn decline_from(&mut self, device: usize, reason: &str) {
        let audits = self.work.audits.iter();
        let audits: Vec<_> = audits
            .filter(|(_, audit)| self.slots[audit.slot].device == device)
            .map(|(id, _)| *id)
            .collect();
        for audit in audits {
            self.decline(audit, reason);
        }
    }

    /// Stops an audit and says so.
    pub(super) fn decline(&mut self, id: AuditId, reason: &str) {
        self.drop_audit(id);
        self.send_decline(id, reason);
    }

    pub(super) fn drop_late_audits(&mut self, now: Instant) {
        let late: Vec<_> = self
            .work
            .audits
            .iter()
            .filter(|(_, audit)| audit.expires <= now)
            .map(|(id, _)| *id)
            .collect();
        for audit in late {
            tracing::warn!(%audit, "an audit took too long and is dropped");
            self.drop_audit(audit);
        }
    }

    /// Commits again to what an earlier run of the program had scored.
    pub(super) async fn settle_reports(&mut self) -> Result<(), StoreError> {
        for stored in self.store.reports().await? {
            let id = stored.report.audit;
            let report = Report {
                tokens: stored.report.positions,
                started_ms: self.now_ms(),
                stored,
                committed: false,
                wanted: false,
                sending: false,
                device: None,
            };
            self.work.reports.insert(id, report);
            self.commit(id);
        }
        Ok(())
    }

    fn drop_audit(&mut self, id: AuditId) {
        if let Some(audit) = self.work.audits.remove(&id) {
            if let Some(request) = audit.request {
                self.cancel_in_engine(audit.slot, request);
            }
            self.work.mark_over(Duty::Audit(id));
        }
    }

    fn send_decline(&mut self, id: AuditId, reason: &str) {
        self.work.mark_over(Duty::Audit(id));
        let (caller, decline) = (
            self.caller.clone(),
            Decline {
                reason: reason.to_owned(),
            },
        );
        // Without it the balancer waits for the deadline, which does no harm.
        self.remember(async move {
            let _ = caller
                .once(|link, token| link.decline_audit(token, id, decline))
                .await;
            Ok(())
        });
    }

    fn forget_report(&mut self, id: AuditId) {
        if self.work.reports.remove(&id).is_some() {
            self.work.mark_over(Duty::Audit(id));
            let store = self.store.clone();
            self.remember(async move { store.remove_report(id).await });
        }
    }
}
