//! Has outputs checked by reference nodes, and turns their reports into verdicts and postings.
//!
//! A reference accepts an audit, scores the output, commits to its report, and opens the report
//! once every reference of the job has committed.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use infera_protocol::audit::audit_commit_digest;
use infera_protocol::node_api::{
    AuditCommit, AuditReveal, Checking, NodeEvent, ReferenceFigures, ReferenceFinding, Refusal,
    RefusalCode, VerdictStatus,
};
use infera_protocol::{AuditId, AuditReport, AuditSpec, LogProbabilities, NodeId, VERSION, Work};
use infera_verify::{
    Finding, ReferenceResult, Status, Thresholds, Verdict, judge_vectors, vectors_verdict, verdict,
};
use serde_json::json;
use tokio::time::Instant;

use crate::canaries;
use crate::db::DbError;
use crate::dispatch::{Core, Pause, unavailable};
use crate::job::{
    Audit, AuditStep, Audits, Job, LiveJob, PastAttempt, Progress, Stage, VerdictView, WaitingFor,
    refusal,
};
use crate::ledger::{self, Account, Earning, Settlement};
use crate::metrics;
use crate::queues::Waits;
use crate::references;
use crate::states::{AuditState, Word};
use crate::store::{self, StoredJob};

/// What is to be settled.
struct Judgment {
    verdict: VerdictStatus,
    reason: String,
    /// No reference could check it, though one should have.
    unchecked: bool,
    /// Nobody pays and nobody is paid.
    free: bool,
    attempts: Vec<JudgedAttempt>,
    /// How each report that counted compares over the whole output.
    references: Vec<ReferenceResult>,
    /// Reports that the others contradict: they are not paid.
    outvoted: Vec<AuditId>,
}

/// Why a job is not audited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoAudit {
    /// The network has nothing checked.
    NotChecked,
    /// Only the client's own nodes had it, which costs nothing.
    StayedHome,
    /// No machine but those of trusted nodes was to see it.
    OnlyTrusted,
    Empty,
    NotDrawn,
    /// It should have been.
    NobodyCame,
}

struct JudgedAttempt {
    past: PastAttempt,
    verdict: VerdictStatus,
    reason: String,
    /// How each report that counted compares over this attempt's part of the output.
    references: Vec<ReferenceResult>,
}

impl Core {
    /// A reference takes an audit. Doing so again gives the same task.
    pub(crate) async fn accept_audit(
        &self,
        node: NodeId,
        id: AuditId,
    ) -> Result<AuditSpec, Refusal> {
        let Some(live) = self.audited_job(id) else {
            return Err(self.refuse_old_audit(node, id).await?);
        };
        let mut job = live.state.lock().await;
        let task = job.submission.task.to_check(job.output.len() as u32);
        let output = job.output_ids();
        let score = self.config.audit_score;
        let audit = find(&mut job, node, id)?;
        match audit.step {
            AuditStep::Offered => {
                audit.step = AuditStep::Accepted;
                audit.until = Some(Instant::now() + score);
            }
            AuditStep::Accepted => {}
            _ => return Err(wrong_step()),
        }
        live.wake.notify_one();
        Ok(AuditSpec {
            version: VERSION,
            audit: id,
            task,
            output,
            deadline_ms: score.as_millis() as u64,
        })
    }

    pub(crate) async fn decline_audit(
        &self,
        node: NodeId,
        id: AuditId,
        reason: &str,
    ) -> Result<(), Refusal> {
        let Some(live) = self.audited_job(id) else {
            return Err(self.refuse_old_audit(node, id).await?);
        };
        let mut job = live.state.lock().await;
        let step = find(&mut job, node, id)?.step;
        if matches!(step, AuditStep::Reported | AuditStep::Closed) {
            return Err(wrong_step());
        }
        let reason: String = reason.chars().take(200).collect();
        tracing::info!(job = %live.id, node = %node.short(), reason, "audit declined");
        self.close_audit(&mut job, id, AuditState::Declined)
            .await
            .map_err(unavailable)?;
        live.wake.notify_one();
        Ok(())
    }

    pub(crate) async fn commit_audit(
        &self,
        node: NodeId,
        id: AuditId,
        commit: &AuditCommit,
    ) -> Result<(), Refusal> {
        commit
            .signature
            .verify(&node, audit_commit_digest(id, commit.commitment))
            .map_err(|fault| refusal(RefusalCode::BadSignature, fault.to_string()))?;
        let Some(live) = self.audited_job(id) else {
            return Err(self.refuse_old_audit(node, id).await?);
        };
        let mut job = live.state.lock().await;
        let audit = find(&mut job, node, id)?;
        match audit.step {
            AuditStep::Accepted => {}
            AuditStep::Committed | AuditStep::Revealing | AuditStep::Reported
                if audit.commitment == Some(commit.commitment) =>
            {
                return Ok(());
            }
            _ => return Err(wrong_step()),
        }
        let signature = hex::encode(commit.signature.to_bytes());
        let mut write = self.database.write().await.map_err(unavailable)?;
        store::commit_audit(&mut write, id, &commit.commitment, &signature)
            .await
            .map_err(unavailable)?;
        write.commit().await.map_err(unavailable)?;
        audit.step = AuditStep::Committed;
        audit.commitment = Some(commit.commitment);
        audit.until = None;
        audit.place = None;
        live.wake.notify_one();
        Ok(())
    }

    pub(crate) async fn report_audit(
        &self,
        node: NodeId,
        id: AuditId,
        reveal: &AuditReveal,
    ) -> Result<(), Refusal> {
        let Some(live) = self.audited_job(id) else {
            return self.repeated_report(node, id).await;
        };
        let mut job = live.state.lock().await;
        if !matches!(job.stage, Stage::Auditing(_)) {
            // It was settled while this call waited for it.
            drop(job);
            return self.repeated_report(node, id).await;
        }
        let fits = report_fits(&job, id, &reveal.report);
        let audit = find(&mut job, node, id)?;
        match audit.step {
            AuditStep::Revealing => {}
            AuditStep::Reported if audit.report.as_ref() == Some(&reveal.report) => return Ok(()),
            _ => return Err(wrong_step()),
        }
        if audit.commitment != Some(reveal.report.commitment(&reveal.salt)) {
            return Err(refusal(
                RefusalCode::BadCommitment,
                "The report is not the one that was committed to. Send that one",
            ));
        }
        if !fits {
            return Err(refusal(
                RefusalCode::Malformed,
                "The report does not fit the audit's output: check its audit, model, positions, margins, log-probabilities and vectors",
            ));
        }
        let mut write = self.database.write().await.map_err(unavailable)?;
        store::report_audit(&mut write, &reveal.report, self.edges.now_ms())
            .await
            .map_err(unavailable)?;
        write.commit().await.map_err(unavailable)?;
        audit.step = AuditStep::Reported;
        audit.report = Some(reveal.report.clone());
        audit.until = None;
        live.wake.notify_one();
        Ok(())
    }

    /// Does what is due for a job whose output has ended: draws references, follows their steps,
    /// judges. `None` when the job's stage has changed.
    pub(crate) async fn audit_step(
        &self,
        live: &Arc<LiveJob>,
        job: &mut Job,
        now: Instant,
    ) -> Result<Option<Pause>, DbError> {
        if let Some(no_audit) = self.not_audited(live, job, now) {
            if job.canary.is_some() {
                self.settle_canary(live, job, true).await?;
                return Ok(None);
            }
            let judgment = Judgment::unaudited(job, no_audit);
            self.settle(live, job, judgment).await?;
            return Ok(None);
        }
        self.close_late_audits(job, now).await?;
        self.draw_references(live, job, now).await?;
        self.tell_scarcity(live, job, now).await?;
        let Stage::Auditing(audits) = &mut job.stage else {
            return Ok(None);
        };
        let enough = audits.live().count() >= audits.needed;
        let unopened =
            |audit: &&Audit| matches!(audit.step, AuditStep::Offered | AuditStep::Accepted);
        let all_committed = enough && !audits.live().any(|audit| unopened(&audit));
        for audit in &mut audits.drawn {
            if all_committed && audit.step == AuditStep::Committed {
                audit.step = AuditStep::Revealing;
                audit.until = Some(now + self.config.audit_reveal);
                // Whatever the node was told before, it is now told this.
                audit.link = u64::MAX;
            }
            let link = self.nodes.links(audit.node);
            if link == audit.link {
                continue;
            }
            audit.link = link;
            match audit.step {
                AuditStep::Offered | AuditStep::Accepted => {
                    self.nodes.send(
                        audit.node,
                        &NodeEvent::Audit {
                            audit: audit.id,
                            model: job.submission.model.id,
                            tokens: job.submission.task.input_tokens() + job.output.len() as u32,
                            deadline_ms: self.config.audit_accept.as_millis() as u64,
                        },
                    );
                }
                AuditStep::Revealing => {
                    self.nodes
                        .send(audit.node, &NodeEvent::Reveal { audit: audit.id });
                }
                AuditStep::Committed | AuditStep::Reported | AuditStep::Closed => {}
            }
        }
        let reported = audits.live().count();
        let give_up = audits.give_up;
        let others = self.others(job);
        let Stage::Auditing(audits) = &mut job.stage else {
            return Ok(None);
        };
        let done = audits.live().all(|audit| audit.step == AuditStep::Reported);
        if done && (enough || !others) {
            if job.canary.is_some() {
                if enough {
                    self.settle_canary(live, job, !others).await?;
                    return Ok(None);
                }
            } else if let Some(judgment) = judge(job, others) {
                self.settle(live, job, judgment).await?;
                return Ok(None);
            }
            if enough && reported < self.config.max_references {
                tracing::warn!(job = %job.id, "the references do not decide, so another is asked");
                if let Stage::Auditing(audits) = &mut job.stage {
                    audits.needed = reported + 1;
                }
                return Ok(None);
            }
            if enough {
                return Ok(Some(Pause {
                    until: give_up,
                    waits: None,
                }));
            }
        }
        let Stage::Auditing(audits) = &job.stage else {
            return Ok(None);
        };
        let until = audits
            .drawn
            .iter()
            .filter(|audit| !enough || audit.step != AuditStep::Closed)
            .filter_map(|audit| audit.until)
            .chain(audits.give_up)
            .filter(|until| *until > now)
            .min();
        Ok(Some(Pause {
            until,
            waits: (!enough).then_some(Waits::Reference),
        }))
    }

    /// The audits of a job that an earlier run of the balancer began.
    pub(crate) fn recover_audits(&self, stored: &StoredJob, now: Instant) -> Audits {
        let drawn: Vec<_> = stored
            .audits
            .iter()
            .filter(|audit| audit.run == stored.run)
            .map(|audit| {
                let (step, until) = match audit.state {
                    AuditState::Offered | AuditState::Accepted => {
                        (AuditStep::Accepted, Some(now + self.config.audit_score))
                    }
                    AuditState::Committed => (AuditStep::Committed, None),
                    AuditState::Reported => (AuditStep::Reported, None),
                    AuditState::Expired | AuditState::Declined => (AuditStep::Closed, Some(now)),
                };
                Audit {
                    id: audit.id,
                    node: audit.node,
                    step,
                    until,
                    link: u64::MAX,
                    commitment: audit.commitment,
                    report: audit.report.clone(),
                    place: None,
                }
            })
            .collect();
        let live = drawn
            .iter()
            .filter(|audit| audit.step != AuditStep::Closed)
            .count();
        Audits {
            needed: match live {
                0 => 0,
                live => live.max(self.config.references),
            },
            drawn,
            give_up: Some(now + self.config.keep_text),
            scarce: false,
        }
    }

    /// The lottery, once for each run. Gives why there is no audit, or no longer one.
    fn not_audited(&self, live: &LiveJob, job: &mut Job, now: Instant) -> Option<NoAudit> {
        let empty = job.received() == 0;
        if !empty && job.stayed_home() {
            return Some(NoAudit::StayedHome);
        }
        if !empty && !job.submission.reach().is_checked() {
            return Some(NoAudit::OnlyTrusted);
        }
        if !empty && self.config.checking == Checking::None {
            return Some(NoAudit::NotChecked);
        }
        let Stage::Auditing(audits) = &mut job.stage else {
            return None;
        };
        if audits.needed > 0 {
            let given_up = audits.give_up.is_some_and(|at| at <= now);
            let crowded_out = live.crowded_out.load(Ordering::Relaxed);
            return (given_up || crowded_out).then_some(NoAudit::NobodyCame);
        }
        if empty {
            return Some(NoAudit::Empty);
        }
        if self.edges.chance() >= self.config.audit_rate {
            return Some(NoAudit::NotDrawn);
        }
        audits.give_up = Some(now + self.config.keep_text);
        audits.needed = self.config.references;
        if job.submission.client == canaries::CLIENT {
            // What canaries are made of has to be right.
            let here = self
                .nodes
                .references_here(job.submission.model.id, now)
                .len();
            audits.needed += usize::from(here > audits.needed);
        }
        None
    }

    /// Says at once when nobody knows when references come, instead of leaving it pending.
    async fn tell_scarcity(
        &self,
        live: &LiveJob,
        job: &mut Job,
        now: Instant,
    ) -> Result<(), DbError> {
        let model = Arc::clone(&job.submission.model);
        let Stage::Auditing(audits) = &job.stage else {
            return Ok(());
        };
        let missing = audits.needed.saturating_sub(audits.live().count());
        let here = self.nodes.references_here(model.id, now).len();
        let scarce = missing > 0 && here < audits.needed;
        if scarce == audits.scarce {
            return Ok(());
        }
        let reason = if scarce {
            let waiting = WaitingFor {
                references_needed: audits.needed,
                references_here: here,
            };
            waiting.reason()
        } else {
            VerdictView::pending().reason
        };
        self.note_scarcity(&model, scarce, here, audits.needed);
        let mut write = self.database.write().await?;
        store::note_waiting(&mut write, job.id, &reason).await?;
        write.commit().await?;
        live.verdict.send_modify(|view| {
            view.reason.clone_from(&reason);
            view.stalled = scarce;
        });
        for past in &job.past {
            let record = store::attempt_record(&self.database, job.id, past.number).await;
            self.tell_record(past.node, record);
        }
        if let Stage::Auditing(audits) = &mut job.stage {
            audits.scarce = scarce;
        }
        Ok(())
    }

    /// Whether a reference is here that could be asked besides those that were.
    fn others(&self, job: &Job) -> bool {
        let Stage::Auditing(audits) = &job.stage else {
            return false;
        };
        if audits.live().count() >= self.config.max_references {
            return false;
        }
        let here = self
            .nodes
            .references_here(job.submission.model.id, Instant::now());
        here.iter().any(|node| {
            !job.excluded.contains(node)
                && job.past.iter().all(|past| past.node != *node)
                && audits.live().all(|audit| audit.node != *node)
        })
    }

    async fn close_late_audits(&self, job: &mut Job, now: Instant) -> Result<(), DbError> {
        let Stage::Auditing(audits) = &job.stage else {
            return Ok(());
        };
        let late: Vec<_> = audits
            .live()
            .filter(|audit| {
                audit.until.is_some_and(|until| until <= now)
                    || self.nodes.has_lost_role(audit.node)
            })
            .map(|audit| (audit.id, audit.node))
            .collect();
        for (id, node) in late {
            tracing::warn!(job = %job.id, node = %node.short(), "a reference node is too late");
            self.close_audit(job, id, AuditState::Expired).await?;
        }
        Ok(())
    }

    async fn close_audit(
        &self,
        job: &mut Job,
        id: AuditId,
        state: AuditState,
    ) -> Result<(), DbError> {
        let Stage::Auditing(audits) = &mut job.stage else {
            return Ok(());
        };
        let Some(audit) = audits.find(id) else {
            return Ok(());
        };
        let mut write = self.database.write().await?;
        store::set_audit_state(&mut write, id, state).await?;
        write.commit().await?;
        audit.step = AuditStep::Closed;
        audit.until = Some(Instant::now() + self.config.audit_accept);
        audit.place = None;
        Ok(())
    }

    async fn draw_references(
        &self,
        live: &Arc<LiveJob>,
        job: &mut Job,
        now: Instant,
    ) -> Result<(), DbError> {
        let Stage::Auditing(audits) = &job.stage else {
            return Ok(());
        };
        let missing = audits.needed.saturating_sub(audits.live().count());
        if missing == 0 {
            return Ok(());
        }
        let model = job.submission.model.id;
        let mut chosen = self.nodes.references(model, &self.edges.random(), now);
        chosen.retain(|node| {
            let worked = job.past.iter().any(|past| past.node == *node);
            let asked = audits.drawn.iter().any(|audit| {
                audit.node == *node
                    && (audit.step != AuditStep::Closed || audit.until.is_some_and(|at| at > now))
            });
            !worked && !asked && !job.excluded.contains(node)
        });
        // Those that have not failed to answer before come first.
        chosen.sort_by_key(|node| audits.drawn.iter().any(|audit| audit.node == *node));
        chosen.truncate(missing);
        if chosen.is_empty() {
            return Ok(());
        }
        let nodes = chosen.clone();
        let mut drawn: Vec<_> = chosen
            .into_iter()
            .map(|node| Audit {
                id: AuditId::from_bytes(self.edges.random()),
                node,
                step: AuditStep::Offered,
                until: Some(now + self.config.audit_accept),
                link: u64::MAX,
                commitment: None,
                report: None,
                place: None,
            })
            .collect();
        let mut write = self.database.write().await?;
        for audit in &drawn {
            let now_ms = self.edges.now_ms();
            store::insert_audit(&mut write, job, audit.id, audit.node, now_ms).await?;
            if let Some(canary) = &job.canary {
                canaries::note_drawn(&mut write, canary, audit.node, now_ms).await?;
            }
        }
        let least_met = references::least_met(&mut write, &nodes).await?;
        write.commit().await?;
        self.draw_canary(job, least_met);
        for audit in &mut drawn {
            self.register_audit(audit.id, audit.node, live);
            audit.place = Some(self.nodes.take_place(audit.node));
        }
        if let Stage::Auditing(audits) = &mut job.stage {
            audits.drawn.extend(drawn);
        }
        Ok(())
    }

    /// Writes a verdict and everything that follows from it, at once.
    async fn settle(
        &self,
        live: &LiveJob,
        job: &mut Job,
        judgment: Judgment,
    ) -> Result<(), DbError> {
        let now_ms = self.edges.now_ms();
        let failed = judgment.verdict == VerdictStatus::Failed;
        let pay = ledger::reference_share(job.cost());
        let audits: Vec<(AuditId, NodeId, AuditReport)> = match &job.stage {
            Stage::Auditing(audits) => audits
                .live()
                .filter_map(|audit| Some((audit.id, audit.node, audit.report.clone()?)))
                .collect(),
            _ => Vec::new(),
        };
        let waits = job.submission.rerun && job.client.is_some() && !job.failed;
        let rerun = failed && waits && !job.cancelled && job.run <= self.config.max_reruns;
        // A client that waits for the verdict gets nothing of what failed.
        let got = !(failed && waits);
        let mut settlement = self.settlement(job, &judgment, got);
        let outvoted = |audit: &AuditId| judgment.outvoted.contains(audit);
        // Reports that decided nothing may be anybody's inventions.
        let decided = judgment.verdict != VerdictStatus::SampledOut;
        let worth = |audit| if decided && !outvoted(audit) { pay } else { 0 };
        settlement.references = audits
            .iter()
            .map(|(audit, node, _)| (*node, worth(audit)))
            .collect();
        let mut lost_role = Vec::new();
        let mut bans = Vec::new();
        let mut write = self.database.write().await?;
        let network = ledger::balance_within(&mut write, &Account::Network).await?;
        let wanted = settlement.subsidy();
        settlement.limit_subsidy(self.config.subsidy_cap.saturating_add(network));
        if settlement.subsidy() < wanted {
            metrics::subsidy_refused(wanted - settlement.subsidy());
            tracing::error!(
                balance = network,
                cap = self.config.subsidy_cap,
                "ALARM: the network's account has reached its subsidy cap, so reference nodes are paid less for checking output that failed. Find out who fails (`node list`), or raise `subsidy_cap`"
            );
        }
        job.books()
            .settled(&settlement)
            .post(&mut write, now_ms)
            .await?;
        store::set_cost(&mut write, job.id, settlement.charge).await?;
        for (judged, earning) in judgment.attempts.iter().zip(&settlement.earnings) {
            let node = judged.past.node;
            // What failed keeps its share, as what was forfeited.
            if earning.paid < earning.share && judged.verdict != VerdictStatus::Failed {
                store::set_share(&mut write, job.id, judged.past.number, earning.paid).await?;
            }
            store::judge_attempt(
                &mut write,
                job.id,
                judged.past.number,
                judged.verdict,
                &judged.reason,
                &findings(&judged.references, &audits),
            )
            .await?;
            match judged.verdict {
                VerdictStatus::Verified => store::add_success(&mut write, node).await?,
                VerdictStatus::Failed => {
                    let ban = self.config.ban.as_millis() as i64;
                    let until =
                        store::add_failure(&mut write, node, ban, self.edges.steady_ms()).await?;
                    bans.push((node, until));
                }
                VerdictStatus::SampledOut | VerdictStatus::NotChecked | VerdictStatus::Pending => {}
            }
        }
        for ((id, node, report), (_, pay)) in audits.iter().zip(&settlement.references) {
            let lately = references::note_report(&mut write, *node, outvoted(id)).await?;
            if *pay > 0 {
                references::hold(&mut write, *node, now_ms).await?;
            }
            if outvoted(id) && lately >= self.config.most_outvoted {
                let why = references::contradicted(lately);
                references::lose_role(&mut write, *node, *id, &why, now_ms).await?;
                lost_role.push((*node, why));
            }
            let result = judgment
                .references
                .iter()
                .find(|result| result.audit == *id);
            let found = findings(result.map_or(&[], std::slice::from_ref), &audits);
            store::settle_audit(&mut write, *id, &figures(report, result), &found, *pay).await?;
        }
        if let Some(computed) = judgment.stock(job, &audits) {
            canaries::keep_stock(&mut write, job, computed, now_ms).await?;
        }
        if rerun {
            store::restart_job(&mut write, job.id, job.run + 1).await?;
            let mut books = job.books();
            books.run += 1;
            books
                .hold(job.submission.most_cost())
                .post(&mut write, now_ms)
                .await?;
        } else {
            store::settle_job(
                &mut write,
                job.id,
                judgment.verdict,
                &judgment.reason,
                now_ms,
            )
            .await?;
        }
        write.commit().await?;
        tracing::info!(
            job = %job.id, run = job.run, verdict = judgment.verdict.word(),
            reason = judgment.reason, "settled"
        );
        metrics::settled(judgment.verdict.word());
        for (node, until) in bans {
            self.nodes.ban(node, until);
            job.excluded.insert(node);
        }
        for judged in &judgment.attempts {
            if judged.verdict == VerdictStatus::Verified {
                self.nodes.add_success(judged.past.node);
            }
        }
        self.tell_nodes(job, &judgment, &audits).await;
        for (node, why) in lost_role {
            self.take_role(node, &why);
        }
        if rerun {
            job.tell(Progress::Restarted);
            job.restart(self.seeking(Instant::now(), self.config.reassign));
        } else {
            live.verdict.send_replace(VerdictView {
                verdict: judgment.verdict,
                reason: judgment.reason,
                last: true,
                stalled: false,
            });
            job.stage = Stage::Done;
        }
        Ok(())
    }

    /// What the client is charged and the workers are paid, in the order of the judged attempts;
    /// `got` if the client has the output.
    fn settlement(&self, job: &Job, judgment: &Judgment, got: bool) -> Settlement {
        let passed = |judged: &&JudgedAttempt| got && judged.verdict != VerdictStatus::Failed;
        let charge = job.charge(
            judgment
                .attempts
                .iter()
                .filter(passed)
                .map(|judged| &judged.past),
        );
        let part = if judgment.free {
            0.0
        } else if judgment.unchecked {
            self.config.unchecked_pay
        } else {
            1.0
        };
        let earnings = judgment.attempts.iter().map(|judged| {
            let record = if judgment.unchecked {
                self.nodes.record(judged.past.node)
            } else {
                1.0
            };
            Earning {
                node: judged.past.node,
                share: judged.past.share,
                paid: if passed(&judged) {
                    ledger::part(judged.past.share, part * record)
                } else {
                    0
                },
            }
        });
        Settlement {
            held: job.cost(),
            charge: ledger::part(charge, part),
            earnings: earnings.collect(),
            references: Vec::new(),
        }
    }

    /// Tells everyone who worked on the job how it came out.
    async fn tell_nodes(
        &self,
        job: &Job,
        judgment: &Judgment,
        audits: &[(AuditId, NodeId, AuditReport)],
    ) {
        for judged in &judgment.attempts {
            let record = store::attempt_record(&self.database, job.id, judged.past.number).await;
            self.tell_record(judged.past.node, record);
        }
        for (id, node, _) in audits {
            let record = store::audit_record(&self.database, *id).await;
            self.tell_record(*node, record);
        }
    }

    pub(crate) fn tell_record(
        &self,
        node: NodeId,
        record: Result<infera_protocol::node_api::WorkRecord, DbError>,
    ) {
        match record {
            Ok(record) => self.nodes.send(node, &NodeEvent::Settled(record)),
            Err(error) => tracing::warn!(%error, "a record could not be read"),
        }
    }

    /// A report on what is settled: harmless if it is there, since its answer may have been lost on
    /// the way.
    async fn repeated_report(&self, node: NodeId, id: AuditId) -> Result<(), Refusal> {
        let state = store::audit_state(&self.database, id)
            .await
            .map_err(unavailable)?;
        match state {
            Some((owner, AuditState::Reported)) if owner == node => Ok(()),
            _ => Err(self.refuse_old_audit(node, id).await?),
        }
    }

    async fn refuse_old_audit(&self, node: NodeId, id: AuditId) -> Result<Refusal, Refusal> {
        let state = store::audit_state(&self.database, id)
            .await
            .map_err(unavailable)?;
        Ok(match state {
            Some((owner, _)) if owner == node => wrong_step(),
            _ => unknown_audit(),
        })
    }
}

impl NoAudit {
    fn verdict(self) -> VerdictStatus {
        match self {
            Self::NotChecked | Self::StayedHome | Self::OnlyTrusted => VerdictStatus::NotChecked,
            Self::Empty | Self::NotDrawn | Self::NobodyCame => VerdictStatus::SampledOut,
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::NotChecked => {
                "This network checks no answers: its operator trusts the nodes that write them."
            }
            Self::StayedHome => {
                "It was written on machines of the account that asked: it costs nothing, and nobody else has seen it."
            }
            Self::OnlyTrusted => {
                "It was to go to trusted nodes only, so no other machine has seen it to check it."
            }
            Self::Empty => "There was no output to check.",
            Self::NotDrawn => "The lottery chose no audit for this job.",
            Self::NobodyCame => {
                "No reference nodes could check it in time, so it is not paid as checked work."
            }
        }
    }
}

impl Judgment {
    fn unaudited(job: &Job, no_audit: NoAudit) -> Self {
        let (verdict, reason) = (no_audit.verdict(), no_audit.reason());
        let judged = |past: &PastAttempt| JudgedAttempt {
            past: *past,
            verdict,
            reason: reason.to_owned(),
            references: Vec::new(),
        };
        Self {
            verdict,
            reason: reason.to_owned(),
            unchecked: no_audit == NoAudit::NobodyCame,
            free: no_audit == NoAudit::StayedHome,
            attempts: job.past.iter().map(judged).collect(),
            references: Vec::new(),
            outvoted: Vec::new(),
        }
    }

    /// What references computed of an answer to one of the operator's prompts, if all agree that
    /// nothing is wrong with it.
    fn stock<'a>(
        &self,
        job: &Job,
        audits: &'a [(AuditId, NodeId, AuditReport)],
    ) -> Option<&'a LogProbabilities> {
        let clean = self
            .references
            .iter()
            .all(|result| result.finding == Some(Finding::Clean));
        let wanted = job.submission.client == canaries::CLIENT
            && self.verdict == VerdictStatus::Verified
            && clean
            && !job.failed
            && !job.cancelled;
        let (_, _, report) = audits.first().filter(|_| wanted)?;
        Some(&report.log_probabilities)
    }
}

/// Judges each attempt's part of the output. `None` while the references do not decide.
fn judge(job: &Job, can_be_asked: bool) -> Option<Judgment> {
    let Stage::Auditing(audits) = &job.stage else {
        return None;
    };
    let reports: Vec<_> = audits
        .live()
        .filter_map(|audit| audit.report.as_ref())
        .collect();
    let ids = job.output_ids();
    let is_end = |id| job.submission.model.tokenizer().is_end(id);
    let stopped = job.end == Some(infera_protocol::FinishReason::Stop);
    let thresholds = Thresholds::of(job.submission.model.profile);
    let verdict_on = |segment: Range<u32>| -> Verdict {
        match &job.submission.task.work {
            Work::Write(writing) => {
                let structure = job.structure(writing, &ids, job.end, stopped, &is_end);
                verdict(segment, &structure, &reports, &thresholds, can_be_asked)
            }
            Work::Embed(embedding) => {
                let shape = job.vector_shape(embedding);
                vectors_verdict(&job.vectors, shape, &reports, &Thresholds::P32_VECTORS)
            }
        }
    };
    let whole = verdict_on(0..job.received());
    let outvoted = whole.outvoted().collect();
    let mut attempts = Vec::new();
    for past in &job.past {
        let (verdict, reason, references) = if past.start == past.end {
            (
                VerdictStatus::SampledOut,
                "There was no output to check.".to_owned(),
                Vec::new(),
            )
        } else {
            let judged = verdict_on(past.start..past.end);
            let verdict = match judged.status {
                Status::Verified => VerdictStatus::Verified,
                Status::Failed => VerdictStatus::Failed,
                Status::Undecided => return None,
            };
            (verdict, judged.reason, judged.references)
        };
        attempts.push(JudgedAttempt {
            past: *past,
            verdict,
            reason,
            references,
        });
    }
    let failure = attempts
        .iter()
        .find(|judged| judged.verdict == VerdictStatus::Failed);
    let (verdict, reason) = match failure {
        Some(failure) => (VerdictStatus::Failed, failure.reason.clone()),
        None => (VerdictStatus::Verified, whole.reason),
    };
    Some(Judgment {
        free: false,
        verdict,
        reason,
        unchecked: false,
        attempts,
        outvoted,
        references: whole.references,
    })
}

/// What the receipt keeps of a report.
pub(crate) fn figures(report: &AuditReport, result: Option<&ReferenceResult>) -> serde_json::Value {
    let statistics = result.and_then(|result| result.statistics);
    json!({
        "backend": report.backend,
        "elapsed_ms": report.elapsed_ms,
        "positions": report.positions,
        "mismatches": statistics.map(|statistics| statistics.mismatches),
        "big_margins": statistics.map(|statistics| statistics.big_margins),
        "largest_margin": statistics.map(|statistics| statistics.largest),
        "match_rate": statistics.map(|statistics| statistics.match_rate()),
        "finding": result.and_then(|result| result.finding),
        "fault": result.and_then(|result| result.fault).map(|fault| fault.to_string()),
    })
}

/// What the node may know of each reference. Discarded reports are left out.
pub(crate) fn findings(
    results: &[ReferenceResult],
    audits: &[(AuditId, NodeId, AuditReport)],
) -> Vec<ReferenceFigures> {
    let figures = |result: &ReferenceResult| {
        let (_, node, _) = audits.iter().find(|(id, _, _)| *id == result.audit)?;
        let statistics = result.statistics?;
        Some(ReferenceFigures {
            reference: node.short(),
            finding: match result.finding? {
                Finding::Clean => ReferenceFinding::Clean,
                Finding::Alarm => ReferenceFinding::Alarm,
                Finding::Fail => ReferenceFinding::Fail,
            },
            positions: statistics.positions,
            mismatches: statistics.mismatches,
            largest_margin: statistics.largest,
        })
    };
    results.iter().filter_map(figures).collect()
}

fn find(job: &mut Job, node: NodeId, id: AuditId) -> Result<&mut Audit, Refusal> {
    let Stage::Auditing(audits) = &mut job.stage else {
        return Err(wrong_step());
    };
    audits
        .find(id)
        .filter(|audit| audit.node == node)
        .ok_or_else(unknown_audit)
}

/// A report that breaks its own rules is the reference's fault: it may send a proper one in time.
fn report_fits(job: &Job, id: AuditId, report: &AuditReport) -> bool {
    let model = &job.submission.model;
    let mut next = 0;
    let in_order = report.mismatches.iter().all(|mismatch| {
        let fits = mismatch.position >= next
            && job
                .output
                .get(mismatch.position as usize)
                .is_some_and(|claimed| claimed.id != mismatch.token)
            && mismatch.token < model.vocabulary
            && mismatch.margin >= 0.0
            && mismatch.margin.is_finite();
        next = mismatch.position.saturating_add(1);
        fits
    });
    let computed = &report.log_probabilities;
    let vectors_fit = match &job.submission.task.work {
        Work::Write(_) => report.vectors.is_empty(),
        Work::Embed(embedding) => {
            judge_vectors(&report.vectors, job.vector_shape(embedding)).is_ok()
        }
    };
    report.audit == id
        && report.model == model.id
        && report.positions == job.received()
        && report.backend.len() <= 100
        && in_order
        && computed.len() == job.output.len()
        && computed.are_sound()
        && vectors_fit
}

fn wrong_step() -> Refusal {
    refusal(
        RefusalCode::WrongStep,
        "The audit is not open for this step. Wait for its next event, or drop it",
    )
}

fn unknown_audit() -> Refusal {
    refusal(
        RefusalCode::UnknownAudit,
        "There is no such audit for this node. Drop it",
    )
}
