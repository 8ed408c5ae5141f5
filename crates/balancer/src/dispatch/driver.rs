//! What a job waits for, and what follows: its search for a node, the end of each attempt, the end
//! of its output.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use infera_protocol::node_api::{NodeEvent, Offer};
use infera_protocol::{FinishReason, JobId, NodeId};
use tokio::time::Instant;

use super::{Core, Pause, no_node};
use crate::db::DbError;
use crate::job::{Attempt, Audits, Job, LiveJob, PastAttempt, Progress, Stage};
use crate::nodes::{Newcomers, Search};
use crate::queues::Waits;
use crate::states::{self, AttemptEnd, Word};
use crate::store::{self, JobEnd};
use crate::submit_error::SubmitError;
use crate::{ledger, metrics};

/// How long a driver waits before it tries again what the database refused.
const DATABASE_PAUSE: Duration = Duration::from_secs(1);

/// What newcomers lose beside known nodes does not count against a job, up to so many times the
/// tries that it has.
const NEWCOMER_TRIES: u32 = 4;

impl Core {
    /// The client has its answer, or has hung up.
    pub(super) async fn client_left(&self, live: &LiveJob) {
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
    pub(super) async fn drive(self: Arc<Self>, live: Arc<LiveJob>) {
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
            let reach = job.submission.reach();
            let availability = self
                .nodes
                .availability(model.id, context, reach, now, steady_ms);
            let error = no_node(availability, &model.name, reach.route).unwrap_or_else(|| {
                SubmitError::Busy {
                    model: model.name.clone(),
                }
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
    pub(super) fn forgive(&self, job: &mut Job, now: Instant) {
        if let Stage::Running(attempt) = &mut job.stage
            && let Some(trouble) = self.standstill.latest(now)
            && trouble >= attempt.claimed_at
        {
            attempt.lease_until = attempt.lease_until.max(trouble + self.config.lease);
        }
    }

    pub(super) fn withdraw(&self, node: NodeId, job: JobId, attempt: u32) {
        self.nodes.end_offer(node, job);
        self.nodes
            .send(node, &NodeEvent::Withdrawn { job, attempt });
    }

    /// Ends the running attempt, books what it earned, and looks for another node.
    pub(super) async fn end_attempt(&self, job: &mut Job, how: AttemptEnd) -> Result<(), DbError> {
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
            host: attempt.host,
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
        self.figures.job_ended(Instant::now());
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
}

fn search(job: &Job, newcomers: Newcomers) -> Search<'_> {
    let task = &job.submission.task;
    Search {
        job: job.id,
        model: task.model,
        context: task.context_tokens(),
        prompt: task.input_tokens() + job.received(),
        output: task.most_output_tokens().saturating_sub(job.received()),
        reach: job.submission.reach(),
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
