//! Finds a node for each job, follows its work, and hands the job on when the node is lost.
//!
//! Each live job has one driver task, which does what is due when time passes. Calls of nodes and
//! clients change the job under its lock, write to the database first, and wake the driver.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use infera_protocol::node_api::{
    Claim, NodeEvent, Offer, Refusal, RefusalCode, Release, claim_digest,
};
use infera_protocol::output::OutputAck;
use infera_protocol::requirements::Policy;
use infera_protocol::{
    AuditId, FinishReason, JobId, JobSpec, ModelId, NodeId, OutputBatch, VERSION,
};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use crate::body::Bodies;
use crate::canaries::{self, Canaries};
use crate::catalog::{Catalog, CatalogError, ServedModel};
use crate::config::Config;
use crate::db::{Database, DbError};
use crate::edges::Edges;
use crate::job::{
    Attempt, Audits, Job, LiveJob, PastAttempt, Place, Progress, Seeking, Stage, Submission,
    VerdictView, lease_ended, refusal,
};
use crate::joining::Challenges;
use crate::keys::Client;
use crate::ledger::{Earning, RunBooks, Settlement};
use crate::metrics::Metrics;
use crate::nodes::{Availability, Newcomers, Nodes, Search, Trust};
use crate::prompts::Prompts;
use crate::queues::{Queues, Waits};
use crate::standstill::{self, Standstill};
use crate::states::{self, AttemptEnd, Word};
use crate::store::{self, JobEnd, StoredJob};
use crate::submit_error::SubmitError;
use crate::{ledger, metrics};

/// How long a driver waits before it tries again what the database refused.
const DATABASE_PAUSE: Duration = Duration::from_secs(1);
/// Changes among nodes within this time are looked at together.
const CHANGES_PAUSE: Duration = Duration::from_millis(2);
/// A written job that no driver has after so long is taken up: it was enlisted long before.
const STRAY_AFTER: Duration = Duration::from_secs(30);
/// What newcomers lose beside known nodes does not count against a job, up to so many times the
/// tries that it has.
const NEWCOMER_TRIES: u32 = 4;

/// A running balancer; copies share it.
#[derive(Clone)]
pub struct Balancer(pub(crate) Arc<Core>);

pub(crate) struct Core {
    pub(crate) database: Database,
    pub(crate) config: Config,
    pub(crate) policy: Policy,
    pub(crate) edges: Edges,
    started_ms: i64,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) challenges: Challenges,
    pub(crate) bodies: Bodies,
    pub(crate) catalog: Catalog,
    pub(crate) metrics: Metrics,
    pub(crate) queues: Queues,
    pub(crate) prompts: Prompts,
    pub(crate) canaries: Canaries,
    pub(crate) standstill: Standstill,
    /// Set when open answers must come to their end, because the program does.
    ending: watch::Sender<bool>,
    turns: AtomicU64,
    /// Models whose jobs wait for references that are not here.
    scarce: Mutex<HashSet<ModelId>>,
    live: Mutex<Live>,
}

#[derive(Default)]
struct Live {
    jobs: HashMap<JobId, Arc<LiveJob>>,
    audits: HashMap<AuditId, (NodeId, Arc<LiveJob>)>,
    /// How many jobs each client has.
    per_client: HashMap<String, usize>,
}

/// A client's end of a job. Dropping it tells the balancer that the client has gone.
pub(crate) struct JobClient {
    pub(crate) job: Arc<LiveJob>,
    pub(crate) progress: mpsc::UnboundedReceiver<Progress>,
    pub(crate) verdict: watch::Receiver<VerdictView>,
    core: Arc<Core>,
}

/// When a driver has to look at its job again, besides when it is woken.
pub(crate) struct Pause {
    pub(crate) until: Option<Instant>,
    /// Also when there is room for it.
    pub(crate) waits: Option<Waits>,
}

impl JobClient {
    /// The client takes the output that there is as its answer, whatever the verdict will be. False
    /// when the verdict has come: that output may be void, and another one under way.
    pub(crate) async fn stop_waiting(&self) -> bool {
        let mut job = self.job.state.lock().await;
        let is_open = matches!(job.stage, Stage::Auditing(_));
        if is_open {
            // Who waits no longer has nothing written anew.
            job.client = None;
        }
        is_open
    }
}

impl Drop for JobClient {
    fn drop(&mut self) {
        let (core, job) = (Arc::clone(&self.core), Arc::clone(&self.job));
        // Without a runtime the program ends, and the next run takes the job up.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { core.client_left(&job).await });
        }
    }
}

impl Balancer {
    /// Takes up what an earlier run left unfinished.
    pub async fn start(
        database: Database,
        config: Config,
        policy: Policy,
        edges: Edges,
    ) -> Result<Self, CatalogError> {
        let started_ms = edges.now_ms();
        let first_event = u64::try_from(started_ms).unwrap_or(0) * 1000 + 1;
        let trust = Trust {
            newcomer_jobs: config.newcomer_jobs,
            least_tokens_per_second: config.least_tokens_per_second,
        };
        let nodes = Arc::new(Nodes::new(
            config.node_timeout,
            config.event_buffer,
            first_event,
            trust,
        ));
        let challenges = Challenges::new(edges.random(), Instant::now());
        let bodies = Bodies::new(config.body_bytes, config.body_wait);
        let core = Arc::new(Core {
            database,
            config,
            policy,
            edges,
            started_ms,
            nodes,
            challenges,
            bodies,
            catalog: Catalog::default(),
            metrics: metrics::install(),
            queues: Queues::default(),
            prompts: Prompts::default(),
            canaries: Canaries::default(),
            standstill: Standstill::new(Instant::now()),
            ending: watch::Sender::new(false),
            turns: AtomicU64::new(1),
            scarce: Mutex::default(),
            live: Mutex::default(),
        });
        tokio::spawn(match_up(Arc::downgrade(&core), core.nodes.changes()));
        tokio::spawn(beat(Arc::downgrade(&core)));
        core.catalog.refresh(&core.database).await?;
        core.recover().await?;
        let mut write = core.database.write().await?;
        store::delete_left_reports(&mut write).await?;
        write.commit().await?;
        Ok(Self(core))
    }

    /// What goes on beside jobs and calls. Never returns.
    pub async fn keep_up(&self) {
        tokio::join!(self.follow_commands(), self.0.keep_canaries());
    }

    /// Follows what commands change in the database, and deletes old texts. Never returns.
    async fn follow_commands(&self) {
        let mut round = 0u64;
        loop {
            self.0.read_models().await;
            match store::references(&self.0.database).await {
                Ok(references) => {
                    let references: HashSet<_> = references.into_iter().collect();
                    self.0.nodes.sweep(&references, Instant::now());
                }
                Err(error) => tracing::warn!(%error, "the reference nodes could not be read again"),
            }
            if round.is_multiple_of(120)
                && let Err(error) = self.0.delete_old_text().await
            {
                tracing::warn!(%error, "old texts could not be deleted");
            }
            // What cannot be taken up of earlier runs was said at the start.
            let long_ago_ms = self.0.edges.now_ms() - STRAY_AFTER.as_millis() as i64;
            let strays = self.0.started_ms..long_ago_ms;
            if round.is_multiple_of(20)
                && let Err(error) = self.0.take_up_open_jobs(strays).await
            {
                tracing::warn!(%error, "jobs without a driver could not be looked for");
            }
            if let Err(error) = self.0.database.forget_deleted_text().await {
                tracing::warn!(%error, "the database's log still holds deleted texts");
            }
            round += 1;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

impl Core {
    /// Lets [`Self::ending`] return, for every answer that is still open.
    pub(crate) fn end_answers(&self) {
        self.ending.send_replace(true);
    }

    /// Returns when the program is about to end.
    pub(crate) async fn ending(&self) {
        // The sender lives as long as `self`.
        let _ = self.ending.subscribe().wait_for(|ending| *ending).await;
    }

    /// Takes over what commands have changed about the models served.
    pub(crate) async fn read_models(&self) {
        if let Err(error) = self.catalog.refresh(&self.database).await {
            tracing::warn!(%error, "the models could not be read again");
        }
    }

    /// Accepts one request's jobs: all or none.
    pub(crate) async fn submit(
        self: &Arc<Self>,
        client: &Client,
        submissions: Vec<Submission>,
    ) -> Result<Vec<JobClient>, SubmitError> {
        let now = Instant::now();
        let places = self.reserve(&client.name, submissions.len())?;
        let jobs: Vec<_> = submissions
            .into_iter()
            .zip(places)
            .map(|(submission, place)| {
                let id = JobId::from_bytes(self.edges.random());
                let deadline = now + self.config.job_deadline;
                let seeking = self.seeking(now, self.config.queue);
                let mut job = Job::new(id, Arc::new(submission), 1, seeking, deadline);
                job.place = Some(place);
                job
            })
            .collect();
        let longest = jobs
            .iter()
            .max_by_key(|job| job.submission.task.context_tokens());
        if let Some(job) = longest {
            let model = &job.submission.model;
            let (context, steady_ms) =
                (job.submission.task.context_tokens(), self.edges.steady_ms());
            let availability = self.nodes.availability(model.id, context, now, steady_ms);
            if let Some(error) = no_node(availability, &model.name) {
                return Err(error);
            }
        }
        self.write_jobs(client, &jobs).await?;
        Ok(jobs.into_iter().map(|job| self.enlist(job)).collect())
    }

    /// Says once in the log when a model has too few references, and when it has enough again.
    pub(crate) fn note_scarcity(
        &self,
        model: &ServedModel,
        scarce: bool,
        here: usize,
        needed: usize,
    ) {
        let mut models = self.scarce.lock().unwrap_or_else(PoisonError::into_inner);
        if scarce && models.insert(model.id) {
            tracing::warn!(
                model = model.name,
                here,
                needed,
                "too few reference nodes: answers wait unchecked. Start reference nodes with this model (`node trust NODE --reference`)"
            );
        } else if !scarce && models.remove(&model.id) {
            tracing::info!(model = model.name, "there are enough reference nodes again");
        }
    }

    pub(crate) fn seeking(&self, now: Instant, patience: Duration) -> Seeking {
        Seeking::new(now, patience, self.config.first_ring)
    }

    pub(crate) fn job(&self, id: JobId) -> Option<Arc<LiveJob>> {
        self.lock().jobs.get(&id).cloned()
    }

    pub(crate) fn audited_job(&self, id: AuditId) -> Option<Arc<LiveJob>> {
        let live = self.lock();
        live.audits.get(&id).map(|(_, job)| Arc::clone(job))
    }

    pub(crate) fn register_audit(&self, id: AuditId, node: NodeId, job: &Arc<LiveJob>) {
        self.lock().audits.insert(id, (node, Arc::clone(job)));
    }

    /// Wakes the jobs that any of these references checks.
    pub(crate) fn wake_audited(&self, references: &HashSet<NodeId>) {
        let live = self.lock();
        let concerned = live
            .audits
            .values()
            .filter(|(node, _)| references.contains(node));
        concerned.for_each(|(_, job)| job.wake.notify_one());
    }

    /// Wakes the jobs for which there is room now, and those whose references may have missed
    /// something.
    fn wake_waiting(&self) {
        let relinked = self.nodes.take_relinked();
        if !relinked.is_empty() {
            self.wake_audited(&relinked.into_iter().collect());
        }
        let (now, steady_ms) = (Instant::now(), self.edges.steady_ms());
        for (model, waits) in self.queues.waiting() {
            let room = self.nodes.room(model, now, steady_ms);
            let count = match waits {
                Waits::Worker => room.workers,
                Waits::Reference => room.references,
            };
            self.queues.wake(model, waits, count);
        }
    }

    #[cfg(test)]
    pub(crate) fn places_held(&self) -> usize {
        self.lock().per_client.values().sum()
    }

    pub(crate) fn live_jobs(&self) -> usize {
        self.lock().jobs.len()
    }

    /// A node wants a job.
    pub(crate) async fn claim(
        &self,
        node: NodeId,
        id: JobId,
        claim: &Claim,
    ) -> Result<JobSpec, Refusal> {
        check_version(claim.version)?;
        let Some(live) = self.job(id) else {
            return Err(self.refuse_claim_of_old_job(id, claim).await?);
        };
        let mut job = live.state.lock().await;
        if job.nonces.contains(&claim.nonce) {
            return Err(refusal(
                RefusalCode::Replayed,
                "This claim was already used. Make a new one with a fresh nonce",
            ));
        }
        let now = Instant::now();
        self.forgive(&mut job, now);
        if !job.is_open_to(node, claim.attempt, now) {
            return Err(taken());
        }
        // Only now: most claims are too late, and a signature takes long to check.
        let signed = claim_digest(id, claim.attempt, &node, &claim.nonce);
        claim
            .signature
            .verify(&node, signed)
            .map_err(|fault| refusal(RefusalCode::BadSignature, fault.to_string()))?;
        if let Stage::Running(attempt) = &job.stage {
            // The answer to the first claim was lost on its way.
            let spec = job.spec(attempt.number, self.config.lease);
            job.nonces.insert(claim.nonce);
            return Ok(spec);
        }
        let Stage::Seeking(seeking) = &job.stage else {
            return Err(taken());
        };
        if !seeking.offered.contains_key(&node) || job.excluded.contains(&node) {
            return Err(refusal(
                RefusalCode::NotEligible,
                "This job was not offered to this node. Wait for an offer",
            ));
        }
        let (model, context) = (
            job.submission.model.id,
            job.submission.task.context_tokens(),
        );
        let now_ms = self.edges.now_ms();
        let steady_ms = self.edges.steady_ms();
        if let Some(fault) = self.nodes.claim_fault(node, model, context, now, steady_ms) {
            return Err(refusal(RefusalCode::NotEligible, fault));
        }
        let others: Vec<_> = seeking
            .offered
            .keys()
            .filter(|other| **other != node)
            .copied()
            .collect();
        let prompt = job.submission.task.input_tokens() + job.received();
        let mut attempt = Attempt::new(id, claim.attempt, node, job.received(), now, now)
            .with_lease(&self.config, prompt, self.nodes.prefill_speed(node));
        let mut write = self.database.write().await.map_err(unavailable)?;
        store::insert_attempt(&mut write, &job, &attempt, &claim.nonce, now_ms)
            .await
            .map_err(unavailable)?;
        write.commit().await.map_err(unavailable)?;
        job.nonces.insert(claim.nonce);
        job.attempts = claim.attempt;
        attempt.place = Some(self.nodes.take_place(node));
        job.stage = Stage::Running(Box::new(attempt));
        self.nodes.end_offer(node, id);
        for other in others {
            self.withdraw(other, id, claim.attempt);
        }
        job.tell(Progress::Started);
        live.wake.notify_one();
        tracing::info!(job = %id, attempt = claim.attempt, node = %node.short(), "claimed");
        Ok(job.spec(claim.attempt, self.config.lease))
    }

    /// A node sends output.
    pub(crate) async fn output(
        &self,
        node: NodeId,
        id: JobId,
        batch: &OutputBatch,
    ) -> Result<OutputAck, Refusal> {
        check_version(batch.version)?;
        let Some(live) = self.job(id) else {
            return self.repeated_output(node, id, batch).await;
        };
        let mut job = live.state.lock().await;
        let now = Instant::now();
        self.forgive(&mut job, now);
        let accepted = match job.check_output(node, batch, now) {
            Ok(accepted) => accepted,
            Err(refused) => {
                drop(job);
                let code = refused.code;
                if matches!(code, RefusalCode::LeaseEnded | RefusalCode::NotYours) {
                    return self.repeated_output(node, id, batch).await;
                }
                tracing::warn!(job = %id, node = %node.short(), ?code, "output refused");
                return Err(refused);
            }
        };
        if accepted.durable
            && let Stage::Running(attempt) = &job.stage
        {
            let output = job.stored_with(&accepted);
            let commitment = accepted.commitment(attempt);
            let written = async {
                let mut write = self.database.write().await?;
                let finish = accepted.finish();
                store::save_output(&mut write, id, &output, attempt.number, commitment, finish)
                    .await?;
                write.commit().await
            };
            if let Err(error) = written.await {
                // Its node may send it again: that it came late is not the node's fault.
                self.standstill.note(Instant::now());
                return Err(unavailable(error));
            }
        }
        job.apply(accepted, &self.config, now);
        let ack = job.ack();
        if ack.finished {
            live.wake.notify_one();
        }
        Ok(ack)
    }

    /// A node hands a job back.
    pub(crate) async fn release(
        &self,
        node: NodeId,
        id: JobId,
        release: &Release,
    ) -> Result<(), Refusal> {
        check_version(release.version)?;
        let Some(live) = self.job(id) else {
            return Err(lease_ended());
        };
        let mut job = live.state.lock().await;
        let now = Instant::now();
        self.forgive(&mut job, now);
        let attempt = job.held_by(node, release.attempt, now)?;
        if attempt.finish.is_some() {
            return Err(lease_ended());
        }
        let reason: String = release.reason.chars().take(200).collect();
        tracing::info!(job = %id, node = %node.short(), reason, "released");
        self.end_attempt(&mut job, AttemptEnd::Released)
            .await
            .map_err(unavailable)?;
        live.wake.notify_one();
        Ok(())
    }

    /// The client has its answer, or has hung up.
    async fn client_left(&self, live: &LiveJob) {
        let mut job = live.state.lock().await;
        job.client = None;
        let ended = matches!(job.stage, Stage::Auditing(_) | Stage::Done);
        if !ended {
            job.cancelled = true;
            if let Stage::Running(attempt) = &job.stage {
                self.nodes.send(
                    attempt.node,
                    &NodeEvent::Cancel {
                        job: live.id,
                        attempt: attempt.number,
                    },
                );
            }
            tracing::info!(job = %live.id, "the client left");
        }
        // Its driver notes it.
        job.delivered = true;
        live.wake.notify_one();
    }

    /// Runs one job to its end.
    async fn drive(self: Arc<Self>, live: Arc<LiveJob>) {
        let mut changes = self.nodes.changes();
        loop {
            changes.mark_unchanged();
            let pause = {
                let mut job = live.state.lock().await;
                match self.step(&live, &mut job).await {
                    Ok(Some(pause)) => pause,
                    Ok(None) => break,
                    Err(error) => {
                        tracing::error!(job = %live.id, %error, "the job has to wait for the database");
                        self.standstill.note(Instant::now());
                        Pause {
                            until: Some(Instant::now() + DATABASE_PAUSE),
                            waits: None,
                        }
                    }
                }
            };
            if let Some(waits) = pause.waits {
                self.queues.join(waits, &live);
                let most = self.config.audit_queue;
                if waits == Waits::Reference
                    && let Some(job) = self.queues.crowded_out(live.model, most)
                {
                    job.crowded_out.store(true, Ordering::Relaxed);
                    job.wake.notify_one();
                }
                // What changed before it joined woke others.
                if changes.has_changed().unwrap_or(false) {
                    self.nodes.announce();
                }
            }
            let sleep = async {
                match pause.until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = live.wake.notified() => {}
                () = sleep => {}
            }
            if let Some(waits) = pause.waits {
                self.queues.leave(waits, &live);
            }
        }
        {
            let mut inner = self.lock();
            inner.jobs.remove(&live.id);
            inner.audits.retain(|_, (_, job)| job.id != live.id);
        }
        self.note_late_delivery(&live).await;
    }

    /// Waits until the client of a job that is done has its answer or has gone, and notes it.
    async fn note_late_delivery(&self, live: &LiveJob) {
        loop {
            let noted = {
                let mut job = live.state.lock().await;
                let noted = self.note_delivery(&mut job).await;
                noted.map(|()| job.delivery_noted)
            };
            match noted {
                Ok(true) => return,
                Ok(false) => live.wake.notified().await,
                Err(error) => {
                    tracing::warn!(job = %live.id, %error, "the delivery could not be noted yet");
                    tokio::time::sleep(DATABASE_PAUSE).await;
                }
            }
        }
    }

    /// Notes that the client has its answer or has gone: from then on its text may be deleted.
    async fn note_delivery(&self, job: &mut Job) -> Result<(), DbError> {
        if job.delivered && !job.delivery_noted {
            let mut write = self.database.write().await?;
            store::deliver_job(&mut write, job.id).await?;
            write.commit().await?;
            job.delivery_noted = true;
        }
        Ok(())
    }

    /// Does what is due. `None` when the job is done.
    async fn step(&self, live: &Arc<LiveJob>, job: &mut Job) -> Result<Option<Pause>, DbError> {
        self.note_delivery(job).await?;
        loop {
            let now = Instant::now();
            self.forgive(job, now);
            match &job.stage {
                Stage::Running(attempt) => {
                    if attempt.finish.is_some() {
                        self.end_attempt(job, AttemptEnd::Finished).await?;
                    } else if job.deadline <= now {
                        tracing::warn!(job = %job.id, "the job takes too long");
                        self.end_attempt(job, AttemptEnd::Stopped).await?;
                    } else if attempt.lease_until <= now {
                        tracing::warn!(
                            job = %job.id, attempt = attempt.number, node = %attempt.node.short(),
                            "the lease has run out"
                        );
                        self.end_attempt(job, AttemptEnd::LeaseEnded).await?;
                    } else {
                        return Ok(Some(Pause {
                            until: Some(attempt.lease_until.min(job.deadline)),
                            waits: None,
                        }));
                    }
                }
                Stage::Seeking(_) => {
                    if let Some(pause) = self.seek(job, now).await? {
                        return Ok(Some(pause));
                    }
                }
                Stage::Auditing(_) => {
                    if let Some(pause) = self.audit_step(live, job, now).await? {
                        return Ok(Some(pause));
                    }
                }
                Stage::Done => return Ok(None),
            }
        }
    }

    /// Offers the job, or ends it when it needs no node or finds none.
    async fn seek(&self, job: &mut Job, now: Instant) -> Result<Option<Pause>, DbError> {
        if let Some(end) = job.end {
            self.end_output(job, Ok(end)).await?;
            return Ok(None);
        }
        if job.cancelled {
            self.end_output(job, Ok(FinishReason::Cancelled)).await?;
            return Ok(None);
        }
        let model = Arc::clone(&job.submission.model);
        let steady_ms = self.edges.steady_ms();
        let tries = job.past.len() as u32;
        if job.losses >= self.config.max_attempts
            || tries >= self.config.max_attempts.saturating_mul(NEWCOMER_TRIES)
        {
            let error = SubmitError::NobodyFinished { tries };
            self.end_output(job, Err(error)).await?;
            return Ok(None);
        }
        if job.deadline <= now {
            let seconds = self.config.job_deadline.as_secs();
            let error = SubmitError::TookTooLong { seconds };
            self.end_output(job, Err(error)).await?;
            return Ok(None);
        }
        let Stage::Seeking(seeking) = &mut job.stage else {
            return Ok(None);
        };
        if seeking.until <= now {
            let context = job.submission.task.context_tokens();
            let availability = self.nodes.availability(model.id, context, now, steady_ms);
            let error = no_node(availability, &model.name).unwrap_or_else(|| SubmitError::Busy {
                model: model.name.clone(),
            });
            self.end_output(job, Err(error)).await?;
            return Ok(None);
        }
        if seeking.again_at.is_some_and(|at| at <= now) {
            seeking.again_at = None;
            seeking.widen_at = None;
            for (node, _) in seeking.offered.drain() {
                self.nodes.end_offer(node, job.id);
            }
        }
        if seeking.widen_at.is_some_and(|at| at <= now) {
            seeking.ring = seeking.ring.saturating_mul(2);
            seeking.widen_at = Some(now + self.config.widen_after);
        }
        let spare_at = seeking.since + self.config.newcomer_wait;
        let newcomers = if job.attempts == 0 && is_drawn(job.id, self.config.newcomer_share) {
            Newcomers::One
        } else if spare_at <= now {
            Newcomers::Spare
        } else {
            Newcomers::No
        };
        let candidates = self
            .nodes
            .candidates(&search(job, newcomers), now, steady_ms);
        let offer = Offer {
            job: job.id,
            attempt: job.attempts + 1,
            model: model.id,
            prompt_tokens: job.submission.task.input_tokens(),
            output_tokens: job.output.len() as u32,
            max_tokens: job.submission.task.most_output_tokens(),
            price: job.submission.price,
            deadline_ms: self.config.offer_deadline.as_millis() as u64,
        };
        let Stage::Seeking(seeking) = &mut job.stage else {
            return Ok(None);
        };
        for candidate in candidates {
            let known = seeking.offered.get(&candidate.node);
            if known == Some(&candidate.round)
                || (known.is_none() && seeking.offered.len() >= seeking.ring)
            {
                continue;
            }
            seeking.offered.insert(candidate.node, candidate.round);
            seeking
                .again_at
                .get_or_insert(now + self.config.offer_deadline);
            seeking
                .widen_at
                .get_or_insert(now + self.config.widen_after);
            self.nodes.offer(candidate.node, offer.clone());
        }
        let lacks = seeking.offered.len() < seeking.ring;
        let spare_at = (newcomers == Newcomers::No && lacks).then_some(spare_at);
        // There is nobody to widen the ring to.
        let widen_at = seeking.widen_at.filter(|_| !lacks);
        let due = [widen_at, spare_at, seeking.again_at];
        let last = seeking.until.min(job.deadline);
        Ok(Some(Pause {
            until: due.into_iter().flatten().chain([last]).min(),
            waits: lacks.then_some(Waits::Worker),
        }))
    }

    /// What a node could not deliver because the balancer did not take it costs no lease.
    fn forgive(&self, job: &mut Job, now: Instant) {
        if let Stage::Running(attempt) = &mut job.stage
            && let Some(trouble) = self.standstill.latest(now)
            && trouble >= attempt.claimed_at
        {
            attempt.lease_until = attempt.lease_until.max(trouble + self.config.lease);
        }
    }

    fn withdraw(&self, node: NodeId, job: JobId, attempt: u32) {
        self.nodes.end_offer(node, job);
        self.nodes
            .send(node, &NodeEvent::Withdrawn { job, attempt });
    }

    /// Ends the running attempt, books what it earned, and looks for another node.
    async fn end_attempt(&self, job: &mut Job, how: AttemptEnd) -> Result<(), DbError> {
        let now = Instant::now();
        let Stage::Running(attempt) = &job.stage else {
            return Ok(());
        };
        let price = job.submission.price;
        let paid = attempt.paid_until() - attempt.start;
        let produced = job.received() - attempt.start;
        let prompt_is_paid = job.past.iter().any(|past| past.gross > 0);
        // A client that left before the first token owes what was done of its prompt.
        let prefilled = if job.cancelled && job.received() == 0 && !prompt_is_paid {
            self.credible_prefill(attempt, job.submission.task.input_tokens(), now)
        } else {
            0
        };
        let gross = match paid {
            0 => ledger::cost(price, prefilled, 0),
            _ if prompt_is_paid => ledger::cost(price, 0, paid),
            _ => ledger::cost(price, job.submission.task.input_tokens(), paid),
        };
        let past = PastAttempt {
            number: attempt.number,
            node: attempt.node,
            start: attempt.start,
            end: job.received(),
            share: ledger::worker_share(gross),
            gross,
            prefilled,
        };
        let prompt = job.submission.task.input_tokens() + attempt.start;
        let speeds = attempt.speeds(prompt, produced);
        let forgiven = self
            .nodes
            .is_newcomer_among_known(past.node, job.submission.model.id, now);
        // Who takes a job and gives nothing back keeps others from it.
        let lapsed = match how {
            AttemptEnd::Finished | AttemptEnd::Stopped => false,
            AttemptEnd::Released => produced == 0 && !job.cancelled,
            AttemptEnd::LeaseEnded => true,
        };
        let now_ms = self.edges.now_ms();
        let mut write = self.database.write().await?;
        store::end_attempt(
            &mut write,
            job.id,
            &job.stored_output(),
            &past,
            paid,
            how,
            now_ms,
        )
        .await?;
        job.books()
            .earned(past.number, past.node, past.share)
            .post(&mut write, now_ms)
            .await?;
        store::set_speeds(&mut write, past.node, speeds).await?;
        let pause = if lapsed {
            let pause = self.config.lapse_pause.as_millis() as i64;
            let steady_ms = self.edges.steady_ms();
            Some(store::add_lapse(&mut write, past.node, pause, steady_ms).await?)
        } else {
            None
        };
        write.commit().await?;
        if how != AttemptEnd::Finished {
            job.lost.insert(past.node);
            job.losses += u32::from(!forgiven);
        }
        if let Some(until) = pause {
            self.nodes.ban(past.node, until);
        }
        if past.share > 0 {
            // Its node sees at once what is pending.
            let record = store::attempt_record(&self.database, job.id, past.number).await;
            self.tell_record(past.node, record);
        }
        self.nodes.measure(past.node, speeds);
        job.past.push(past);
        job.stage = Stage::Seeking(self.seeking(now, self.config.reassign));
        metrics::attempt_ended(how.word());
        Ok(())
    }

    /// How much of a prompt a node can have gone through: what it says, as far as its speed allows.
    fn credible_prefill(&self, attempt: &Attempt, prompt: u32, now: Instant) -> u32 {
        let least = self.config.least_prefill_per_second;
        let speed = self.nodes.prefill_speed(attempt.node);
        let seconds = now.duration_since(attempt.claimed_at).as_secs_f64();
        let most = seconds * speed.map_or(least, |speed| 2.0 * speed);
        attempt.prefilled.min(most as u32).min(prompt)
    }

    /// The output is complete, or will never be: settles what the client pays, and has what there
    /// is checked.
    async fn end_output(
        &self,
        job: &mut Job,
        outcome: Result<FinishReason, SubmitError>,
    ) -> Result<(), DbError> {
        let now_ms = self.edges.now_ms();
        let cost = job.cost();
        let reason = outcome.as_ref().ok().copied();
        let message = outcome.as_ref().err().map(ToString::to_string);
        let mut write = self.database.write().await?;
        let end = JobEnd {
            reason,
            error: message.as_deref(),
            cost,
            output_hash: job.output_hash(),
        };
        store::end_output(&mut write, job.id, &end, now_ms).await?;
        job.books()
            .unspent(job.submission.most_cost() - cost)
            .post(&mut write, now_ms)
            .await?;
        write.commit().await?;
        if let Stage::Seeking(seeking) = &job.stage {
            for node in seeking.offered.keys() {
                self.withdraw(*node, job.id, job.attempts + 1);
            }
        }
        job.failed = outcome.is_err();
        job.end = reason;
        job.stage = Stage::Auditing(Audits::default());
        let ended = states::ended(reason);
        tracing::info!(job = %job.id, ended, tokens = job.output.len(), "output ended");
        metrics::job_ended(ended, job.output.len());
        match outcome {
            Ok(reason) => {
                let text = job.flush_text();
                if !text.is_empty() {
                    job.tell(Progress::Tokens {
                        text,
                        tokens: Vec::new(),
                    });
                }
                job.tell(Progress::Finished(reason));
            }
            Err(error) => job.tell(Progress::Failed(error)),
        }
        job.place = None;
        Ok(())
    }

    /// Checks limits and writes the jobs with what they may cost at most.
    async fn write_jobs(&self, client: &Client, jobs: &[Job]) -> Result<(), SubmitError> {
        let now_ms = self.edges.now_ms();
        let holds: Vec<_> = jobs.iter().map(|job| job.submission.most_cost()).collect();
        let asked = holds
            .iter()
            .fold(0i64, |sum, hold| sum.saturating_add(*hold));
        if client.limit_micro.is_some_and(|limit| asked > limit) {
            return Err(SubmitError::BeyondLimit);
        }
        let written = async {
            let mut write = self.database.write().await?;
            if let Some(limit) = client.limit_micro {
                let account = ledger::Account::Client(client.name.clone());
                let spent = -ledger::balance_within(&mut write, &account).await?;
                if spent.saturating_add(asked) > limit {
                    return Ok(false);
                }
            }
            for (job, hold) in jobs.iter().zip(&holds) {
                store::insert_job(&mut write, job, now_ms).await?;
                job.books().hold(*hold).post(&mut write, now_ms).await?;
            }
            write.commit().await?;
            Ok::<_, DbError>(true)
        };
        match written.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(SubmitError::LimitReached),
            Err(error) => Err(SubmitError::storage(&error)),
        }
    }

    /// Takes a written job among the live ones and starts its driver.
    fn enlist(self: &Arc<Self>, mut job: Job) -> JobClient {
        let (sender, progress) = mpsc::unbounded_channel();
        job.client = Some(sender);
        metrics::job_started();
        let live = self.start_driver(job);
        JobClient {
            verdict: live.verdict.subscribe(),
            job: live,
            progress,
            core: Arc::clone(self),
        }
    }

    pub(crate) fn start_driver(self: &Arc<Self>, job: Job) -> Arc<LiveJob> {
        let live = Arc::new(LiveJob {
            id: job.id,
            model: job.submission.model.id,
            client: job.submission.client.clone(),
            turn: self.turns.fetch_add(1, Ordering::Relaxed),
            wake: Notify::new(),
            verdict: watch::Sender::new(VerdictView::pending()),
            crowded_out: AtomicBool::new(false),
            state: tokio::sync::Mutex::new(job),
        });
        self.lock().jobs.insert(live.id, Arc::clone(&live));
        tokio::spawn(Arc::clone(self).drive(Arc::clone(&live)));
        live
    }

    /// Takes up the jobs of an earlier run. Their clients' connections ended with it.
    async fn recover(self: &Arc<Self>) -> Result<(), CatalogError> {
        let mut write = self.database.write().await?;
        store::deliver_done_jobs(&mut write).await?;
        write.commit().await?;
        for node in store::lost_references(&self.database).await? {
            self.nodes.lose_role(node);
        }
        self.take_up_open_jobs(0..i64::MAX).await
    }

    /// Takes up jobs that were written within this time and that nobody drives: an earlier run's, or
    /// those of a commit that failed and could not be looked up.
    async fn take_up_open_jobs(
        self: &Arc<Self>,
        written_ms: Range<i64>,
    ) -> Result<(), CatalogError> {
        for id in store::open_jobs(&self.database, written_ms).await? {
            if self.job(id).is_none()
                && let Some(stored) = store::open_job(&self.database, id).await?
            {
                self.take_up(&stored).await?;
            }
        }
        Ok(())
    }

    async fn take_up(self: &Arc<Self>, stored: &StoredJob) -> Result<(), CatalogError> {
        let now = Instant::now();
        let id = stored.id;
        let model = match self.catalog.find(&self.database, stored.task.model).await {
            Err(error) if error.is_of_the_model() => {
                tracing::error!(job = %id, %error, "the job's model cannot be used");
                None
            }
            found => found?,
        };
        let Some(model) = model else {
            return Ok(self.give_up(stored).await?);
        };
        let submission = Submission {
            client: stored.client.clone(),
            model,
            task: stored.task.clone(),
            price: stored.price,
            wait: false,
            keep: stored.keep,
            rerun: false,
        };
        let seeking = self.seeking(now, self.config.reassign);
        let deadline = now + self.config.job_deadline;
        let mut job = Job::new(id, Arc::new(submission), stored.run, seeking, deadline);
        job.restore_output(&stored.output);
        job.cancelled = true;
        job.delivered = true;
        for attempt in &stored.attempts {
            job.nonces.insert(attempt.nonce);
            job.attempts = attempt.number;
            if attempt.run != stored.run {
                continue;
            }
            if attempt.open {
                // The balancer was away, not the node: it may take as long to come back as a
                // silent node is given.
                let until = now + self.config.node_timeout + self.config.lease;
                let mut open =
                    Attempt::new(id, attempt.number, attempt.node, attempt.start, now, until);
                for token in job.output.get(attempt.start as usize..).unwrap_or_default() {
                    open.closed.extend(open.chain.push(token.id));
                }
                open.committed = attempt.chunks as usize;
                open.finish.clone_from(&attempt.finish);
                if open.finish.is_some() {
                    open.closed.extend(open.chain.close_last());
                }
                job.stage = Stage::Running(Box::new(open));
            } else {
                job.past.push(PastAttempt {
                    number: attempt.number,
                    node: attempt.node,
                    start: attempt.start,
                    end: attempt.received,
                    share: attempt.share,
                    gross: attempt.gross,
                    prefilled: attempt.prefilled,
                });
            }
        }
        if stored.client == canaries::CLIENT {
            self.restore_canary(&mut job).await?;
        }
        if stored.auditing {
            job.failed = stored.failed;
            job.stage = Stage::Auditing(self.recover_audits(stored, now));
        }
        tracing::info!(job = %id, "taken up again");
        let live = self.start_driver(job);
        for audit in &stored.audits {
            self.register_audit(audit.id, audit.node, &live);
        }
        Ok(())
    }

    /// Ends a job whose model cannot be used any more, and gives the client everything back.
    async fn give_up(&self, stored: &StoredJob) -> Result<(), DbError> {
        const REASON: &str =
            "The network cannot use the model any more. Nothing was charged and nothing is paid.";
        let now_ms = self.edges.now_ms();
        let books = RunBooks {
            job: stored.id,
            run: stored.run,
            client: stored.client.clone(),
        };
        let of_run = stored.attempts.iter().filter(|of| of.run == stored.run);
        let earnings: Vec<_> = of_run
            .map(|attempt| Earning {
                node: attempt.node,
                share: attempt.share,
                paid: 0,
            })
            .collect();
        let pending: i64 = earnings.iter().map(|earning| earning.share).sum();
        let mut write = self.database.write().await?;
        let settlement = Settlement {
            held: ledger::held_within(&mut write, stored.id).await? + pending,
            charge: 0,
            earnings,
            references: Vec::new(),
        };
        books.settled(&settlement).post(&mut write, now_ms).await?;
        store::give_up_job(&mut write, stored, REASON, now_ms).await?;
        write.commit().await?;
        tracing::error!(job = %stored.id, "the job's model cannot be used, so it was given up");
        Ok(())
    }

    async fn delete_old_text(&self) -> Result<(), DbError> {
        let before = self.edges.now_ms() - self.config.keep_text.as_millis() as i64;
        let mut write = self.database.write().await?;
        let deleted = store::delete_old_text(&mut write, before).await?;
        write.commit().await?;
        if deleted > 0 {
            tracing::info!(deleted, "deleted texts that were kept long enough");
        }
        Ok(())
    }

    /// An output that is not for a running attempt: harmless if it repeats what is stored.
    async fn repeated_output(
        &self,
        node: NodeId,
        id: JobId,
        batch: &OutputBatch,
    ) -> Result<OutputAck, Refusal> {
        let state = store::attempt_state(&self.database, id, batch.attempt)
            .await
            .map_err(unavailable)?;
        match state {
            Some(state) if state.node == node => {
                let end = batch.position as usize + batch.tokens.len();
                if state.finished && end <= state.received as usize {
                    Ok(OutputAck {
                        received: state.received,
                        chunks: state.chunks,
                        finished: true,
                        cancel: false,
                    })
                } else {
                    Err(lease_ended())
                }
            }
            Some(_) => Err(not_yours()),
            None if store::job_exists(&self.database, id)
                .await
                .map_err(unavailable)? =>
            {
                Err(not_yours())
            }
            None => Err(unknown_job()),
        }
    }

    async fn refuse_claim_of_old_job(&self, id: JobId, claim: &Claim) -> Result<Refusal, Refusal> {
        if store::nonce_used(&self.database, &claim.nonce)
            .await
            .map_err(unavailable)?
        {
            return Ok(refusal(
                RefusalCode::Replayed,
                "This claim was already used, and its job has ended",
            ));
        }
        let exists = store::job_exists(&self.database, id)
            .await
            .map_err(unavailable)?;
        Ok(if exists { taken() } else { unknown_job() })
    }

    /// Takes places among the key's jobs at once. Each is given back when it is dropped.
    fn reserve(self: &Arc<Self>, client: &str, count: usize) -> Result<Vec<Place>, SubmitError> {
        let most = self.config.jobs_per_key;
        if count > most {
            return Err(SubmitError::TooManyAnswers { count, most });
        }
        let mut live = self.lock();
        let held = live.per_client.entry(client.to_owned()).or_default();
        if *held + count > most {
            return Err(SubmitError::TooManyJobs { most });
        }
        *held += count;
        drop(live);
        let place = || {
            let (core, client) = (Arc::downgrade(self), client.to_owned());
            Place::new(move || {
                if let Some(core) = core.upgrade() {
                    core.give_back_place(&client);
                }
            })
        };
        Ok(std::iter::repeat_with(place).take(count).collect())
    }

    fn give_back_place(&self, client: &str) {
        let mut live = self.lock();
        if let Some(held) = live.per_client.get_mut(client) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                live.per_client.remove(client);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        // Every change of the maps is complete before anything that could panic.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs what changes state to its end, whatever becomes of the caller who waits for it: a call that
/// is dropped halfway would leave memory and database apart.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    match tokio::spawn(work).await {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and the caller with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Shows that the process runs.
async fn beat(core: Weak<Core>) {
    while let Some(core) = core.upgrade() {
        core.standstill.beat(Instant::now());
        drop(core);
        tokio::time::sleep(standstill::BEAT).await;
    }
}

/// Wakes jobs that wait when nodes change.
async fn match_up(core: Weak<Core>, mut changes: watch::Receiver<u64>) {
    while changes.changed().await.is_ok() {
        tokio::time::sleep(CHANGES_PAUSE).await;
        changes.mark_unchanged();
        let Some(core) = core.upgrade() else {
            return;
        };
        core.wake_waiting();
    }
}

fn search(job: &Job, newcomers: Newcomers) -> Search<'_> {
    let task = &job.submission.task;
    Search {
        job: job.id,
        model: task.model,
        context: task.context_tokens(),
        prompt: task.input_tokens() + job.received(),
        output: task.most_output_tokens().saturating_sub(job.received()),
        excluded: &job.excluded,
        lost: &job.lost,
        newcomers,
    }
}

/// Draws this share of jobs, by their ids, which are random.
fn is_drawn(job: JobId, share: f64) -> bool {
    let [a, b, c, d, ..] = *job.as_bytes();
    f64::from(u32::from_le_bytes([a, b, c, d])) < share * f64::from(u32::MAX)
}

pub(crate) fn check_version(version: u16) -> Result<(), Refusal> {
    if version == VERSION {
        return Ok(());
    }
    Err(refusal(
        RefusalCode::UnknownVersion,
        format!(
            "This node speaks protocol version {version}, and this balancer version {VERSION}. Update the older of the two"
        ),
    ))
}

pub(crate) fn unavailable(error: impl Into<DbError>) -> Refusal {
    let error = error.into();
    tracing::error!(%error, "the database refused");
    refusal(
        RefusalCode::Unavailable,
        "The balancer cannot write to its database now. Try again",
    )
}

fn no_node(availability: Availability, model: &str) -> Option<SubmitError> {
    let model = model.to_owned();
    match availability {
        Availability::Free | Availability::Busy(_) => None,
        Availability::Nobody => Some(SubmitError::NobodyHas { model }),
        Availability::Paused(count) => Some(SubmitError::Paused { model, count }),
        Availability::TooLong(longest) => Some(SubmitError::NobodyTakesSoLong { model, longest }),
        Availability::Unfit(count) => Some(SubmitError::Unfit { model, count }),
    }
}

fn taken() -> Refusal {
    refusal(
        RefusalCode::Taken,
        "Another node was first, or the job has ended. Wait for the next offer",
    )
}

fn not_yours() -> Refusal {
    refusal(
        RefusalCode::NotYours,
        "This node does not hold this attempt of the job. Drop it",
    )
}

fn unknown_job() -> Refusal {
    refusal(
        RefusalCode::UnknownJob,
        "There is no such job here. Drop it",
    )
}
