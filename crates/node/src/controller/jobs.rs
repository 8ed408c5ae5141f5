//! Jobs: offers, claims, production, output, release.

use std::sync::Arc;
use std::time::Duration;

use infera_engine::message::{Embedded, Finished};
use infera_protocol::node_api::{
    Claim, Offer, Refusal, RefusalCode, Release, VerdictStatus, WorkKind, WorkRecord, claim_digest,
};
use infera_protocol::output::OutputAck;
use infera_protocol::{FinishReason, Hash, JobSpec, ModelId, NodeKey, TokenOutput, VERSION};
use tokio::time::Instant;

use super::work::Duty;
use super::{Claimed, Controller, Input, ShipError};
use crate::books::JobRow;
use crate::caller::Caller;
use crate::clock::{Backoff, random_32};
use crate::production::{Production, Shipment, owed_batches};
use crate::store::{AttemptKey, OpenAttempt, Store, StoreError};

/// A claimed job.
pub(super) struct Job {
    pub(super) production: Production,
    pub(super) slot: usize,
    pub(super) started_ms: i64,
    pub(super) retry_at: Option<Instant>,
    /// The request in the engine.
    request: Option<u64>,
    failures: u32,
    in_flight: bool,
    backoff: Backoff,
    /// The balancer wants its end.
    cancelled: bool,
    /// It is to be handed back, and why.
    release: Option<String>,
    releasing: bool,
    rewound: bool,
}

/// After so many failures of the engine a job is somebody else's.
pub(super) const MOST_FAILURES: u32 = 3;
/// A claim that nobody answered for so long is given up.
const CLAIM_LIMIT: Duration = Duration::from_secs(15);
/// A longer reason than a balancer takes would not hand the job back: it takes 1024 bytes.
const MAX_REASON_CHARS: usize = 250;

impl Controller {
    pub(super) fn on_offer(&mut self, offer: Offer) {
        let key = key_of(&offer);
        let known = self.work.jobs.contains_key(&key)
            || self.work.claiming.contains_key(&key)
            || self.work.is_over(Duty::Job(key))
            || self.work.offers.iter().any(|(open, _)| key_of(open) == key);
        if !known {
            self.model_was_asked_for(offer.model);
            let ends = Instant::now() + Duration::from_millis(offer.deadline_ms);
            self.work.offers.push((offer, ends));
        }
    }

    pub(super) fn on_withdrawn(&mut self, key: AttemptKey) {
        self.work.offers.retain(|(offer, _)| key_of(offer) != key);
    }

    pub(super) fn on_cancel(&mut self, key: AttemptKey) {
        self.work.offers.retain(|(offer, _)| key_of(offer) != key);
        let Some(job) = self.work.jobs.get_mut(&key) else {
            return;
        };
        if job.cancelled || job.production.is_finished() || job.release.is_some() {
            return;
        }
        job.cancelled = true;
        match (job.request, job.slot) {
            (Some(id), slot) => self.end_in_engine(slot, id),
            // No engine works on it: what exists is all there is.
            (None, _) => job
                .production
                .finish(&self.key, FinishReason::Cancelled, (0, 0)),
        }
    }

    /// Claims what is offered and fits.
    pub(super) fn claim_offers(&mut self, now: Instant) {
        self.work.offers.retain(|(_, ends)| *ends > now);
        if self.decision.mode != crate::governor::Mode::Run {
            self.work.offers.clear();
            return;
        }
        let mut index = 0;
        while index < self.work.offers.len() {
            let offer = &self.work.offers[index].0;
            let tokens = offer.prompt_tokens.saturating_add(offer.max_tokens);
            match self.free_slot(offer.model, tokens) {
                Some(slot) => {
                    let (offer, ends) = self.work.offers.remove(index);
                    self.claim(offer, ends, slot);
                }
                None => index += 1,
            }
        }
    }

    /// The least busy of those that can compute so many tokens of a model now.
    fn free_slot(&self, model: ModelId, tokens: u32) -> Option<usize> {
        (0..self.slots.len())
            .filter(|slot| self.takes_work(*slot, model, tokens) && self.free_in(*slot) > 0)
            .min_by_key(|slot| self.work.load_of(*slot))
    }

    fn claim(&mut self, offer: Offer, ends: Instant, slot: usize) {
        let key = key_of(&offer);
        self.work.claiming.insert(key, slot);
        let (caller, store, claimed_ms) = (self.caller.clone(), self.store.clone(), self.now_ms());
        let node_key = Arc::clone(&self.key);
        let limit = CLAIM_LIMIT.min(ends.duration_since(Instant::now()) + Duration::from_secs(5));
        let input = self.input.clone();
        self.report(async move {
            // Beside the claim, so that the client does not wait for the disk.
            let opening = tokio::spawn(async move {
                if let Err(error) = store.open_attempt(key, claimed_ms).await {
                    let _ = input.send(Input::StorageFault(error));
                }
            });
            let claim = claim_until_answered(&caller, &node_key, key);
            let result = match tokio::time::timeout(limit, claim).await {
                Ok(Ok(spec)) => Claimed::Got(Box::new(spec)),
                Ok(Err(refusal))
                    if matches!(refusal.code, RefusalCode::Malformed | RefusalCode::Replayed) =>
                {
                    Claimed::Unknown(refusal.message.chars().take(MAX_REASON_CHARS).collect())
                }
                Ok(Err(refusal)) => Claimed::Refused(refusal),
                Err(_) => Claimed::Unknown("the claim's answer was lost".to_owned()),
            };
            if !matches!(result, Claimed::Got(_)) {
                // What is deleted next must have been written first.
                let _ = opening.await;
            }
            Input::Claimed { offer, result }
        });
    }

    pub(super) fn on_claimed(&mut self, offer: &Offer, result: Claimed) {
        let key = key_of(offer);
        let Some(slot) = self.work.claiming.remove(&key) else {
            return;
        };
        match result {
            Claimed::Got(spec) => self.begin(offer, *spec, slot),
            Claimed::Refused(refusal) => {
                tracing::debug!(job = %key.job, code = ?refusal.code, "a claim was refused");
                self.work.mark_over(Duty::Job(key));
                let store = self.store.clone();
                self.remember(async move { store.close_attempt(key).await });
            }
            Claimed::Unknown(reason) => {
                tracing::warn!(job = %key.job, reason, "a claim got no usable answer; the job is handed back in case it was given");
                self.hand_back(key, &reason);
            }
        }
    }

    fn begin(&mut self, offer: &Offer, spec: JobSpec, slot: usize) {
        let key = key_of(offer);
        let sound = spec.version == VERSION
            && (spec.job, spec.attempt, spec.task.model) == (offer.job, offer.attempt, offer.model)
            && spec.task.check(&spec.output).is_ok();
        if !sound {
            tracing::warn!(job = %key.job, "a job's spec is not what was offered; it is handed back");
            self.hand_back(
                key,
                "the spec is not what was offered, or breaks its own rules",
            );
            return;
        }
        if let Some(fault) = self.slots[slot].load_fault() {
            // It broke while the claim was under way.
            let reason = format!("the engine cannot load the model: {fault}");
            self.hand_back(key, &reason);
            return;
        }
        tracing::info!(job = %key.job, attempt = key.attempt, "a job begins");
        let job = Job {
            production: Production::new(spec),
            slot,
            started_ms: self.now_ms(),
            retry_at: None,
            request: None,
            failures: 0,
            in_flight: false,
            backoff: Backoff::new(Arc::clone(&self.edges.entropy)),
            cancelled: false,
            release: None,
            releasing: false,
            rewound: false,
        };
        self.work.jobs.insert(key, job);
    }

    /// Gives every job that no engine works on to its engine, if that is ready.
    pub(super) fn give_work_to_engines(&mut self) {
        let idle: Vec<_> = self
            .work
            .jobs
            .iter()
            .filter(|(_, job)| {
                job.request.is_none()
                    && job.release.is_none()
                    && !job.cancelled
                    && !job.production.is_finished()
            })
            .map(|(key, job)| (*key, job.slot))
            .collect();
        for (key, slot) in idle {
            let Some(job) = self.work.jobs.get(&key) else {
                continue;
            };
            // Ids are given out in order, so the request's own is known before it is made.
            let command = job.production.command(self.work.next_request());
            let request = self.ask_engine(slot, Duty::Job(key), |_| command);
            if let Some(job) = self.work.jobs.get_mut(&key) {
                job.request = request;
            }
        }
        self.give_audits_to_engines();
    }

    pub(super) fn on_prefilled(&mut self, id: u64, tokens: u32) {
        if let Some(Duty::Job(key)) = self.work.duty(id)
            && let Some(job) = self.work.jobs.get_mut(&key)
        {
            job.production.prefilled(tokens);
        }
    }

    pub(super) fn on_tokens(&mut self, id: u64, tokens: Vec<TokenOutput>) {
        if let Some(Duty::Job(key)) = self.work.duty(id)
            && let Some(job) = self.work.jobs.get_mut(&key)
        {
            job.production.push(tokens, Instant::now());
        }
    }

    pub(super) fn on_embedded(&mut self, embedded: Embedded) {
        match self.work.take(embedded.id) {
            Some(Duty::Job(key)) => {
                if let Some(job) = self.work.jobs.get_mut(&key) {
                    job.request = None;
                    let Embedded {
                        vectors,
                        elapsed_ms,
                        ..
                    } = embedded;
                    job.production.embedded(&self.key, vectors, elapsed_ms);
                }
            }
            Some(Duty::Audit(audit)) => self.on_audit_embedded(audit, embedded),
            None => {}
        }
    }

    pub(super) fn on_engine_finished(&mut self, finished: Finished) {
        let Some(Duty::Job(key)) = self.work.take(finished.id) else {
            return;
        };
        let Some(job) = self.work.jobs.get_mut(&key) else {
            return;
        };
        job.request = None;
        if finished.reason == FinishReason::Cancelled && !job.cancelled {
            self.job_failed(key, "the engine stopped without being asked");
            return;
        }
        job.production.finish(
            &self.key,
            finished.reason,
            (finished.prefill_ms, finished.decode_ms),
        );
    }

    pub(super) fn job_failed(&mut self, key: AttemptKey, why: &str) {
        let Some(job) = self.work.jobs.get_mut(&key) else {
            return;
        };
        job.request = None;
        job.failures += 1;
        if job.cancelled {
            job.production
                .finish(&self.key, FinishReason::Cancelled, (0, 0));
        } else if job.failures >= MOST_FAILURES {
            let reason = format!("the engine failed {MOST_FAILURES} times: {why}");
            self.release(key, &reason);
        }
    }

    /// Jobs that still need an engine; others only wait to be delivered or handed back.
    pub(super) fn unfinished_jobs(&self) -> impl Iterator<Item = &Job> {
        self.work
            .jobs
            .values()
            .filter(|job| job.release.is_none() && !job.production.is_finished())
    }

    /// When the last job in progress will be done at its pace, at the latest; none while there is none,
    /// or its pace is unknown.
    pub(super) fn time_left(&self) -> Option<Duration> {
        let lefts = self.unfinished_jobs().map(|job| {
            let tokens = job
                .production
                .spec()
                .task
                .most_output_tokens()
                .saturating_sub(job.production.position());
            let rate = job.production.tokens_per_second()?;
            Duration::try_from_secs_f32(tokens as f32 / rate).ok()
        });
        lefts.reduce(|one, other| Some(one?.max(other?))).flatten()
    }

    pub(super) fn release_from(&mut self, device: usize, reason: &str) {
        let jobs = self.work.jobs.iter();
        let keys: Vec<_> = jobs
            .filter(|(_, job)| self.slots[job.slot].device == device)
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            self.release(key, reason);
        }
    }

    /// Hands a job back once what exists of it is sent. A job that is finished is delivered instead.
    pub(super) fn release(&mut self, key: AttemptKey, reason: &str) {
        let Some(job) = self.work.jobs.get_mut(&key) else {
            return;
        };
        if job.release.is_some() || job.production.is_finished() {
            return;
        }
        tracing::info!(job = %key.job, reason, "a job is handed back");
        job.release = Some(reason.to_owned());
        if let (Some(id), slot) = (job.request.take(), job.slot) {
            self.cancel_in_engine(slot, id);
        }
    }

    pub(super) fn ship_everything(&mut self, now: Instant) {
        let keys: Vec<_> = self.work.jobs.keys().copied().collect();
        for key in keys {
            self.ship(key, now);
        }
    }

    /// Sends what the balancer lacks of a job. At most one call is under way for each job; the
    /// next one carries everything since.
    fn ship(&mut self, key: AttemptKey, now: Instant) {
        let writable = self.storage_fault.is_none();
        let Some(job) = self.work.jobs.get_mut(&key) else {
            return;
        };
        if job.in_flight || job.releasing || job.retry_at.is_some_and(|at| at > now) {
            return;
        }
        job.retry_at = None;
        if job.production.is_delivered() {
            self.complete(key);
            return;
        }
        // What cannot be put on disk is not sent; the job can still be handed back.
        let shipment = writable
            .then(|| job.production.next_shipment(now))
            .flatten();
        if let Some(shipment) = shipment {
            job.in_flight = true;
            let (caller, store) = (self.caller.clone(), self.store.clone());
            let now_ms = self.now_ms();
            self.report(async move {
                let result = ship(&caller, &store, key, &shipment, now_ms).await;
                Input::Shipped {
                    key,
                    shipment: Box::new(shipment),
                    result,
                }
            });
        } else if let Some(reason) = job.release.clone() {
            job.releasing = true;
            let caller = self.caller.clone();
            self.report(async move {
                send_release(&caller, key, &reason).await;
                Input::Released(key)
            });
        }
    }

    pub(super) fn on_shipped(
        &mut self,
        key: AttemptKey,
        shipment: &Shipment,
        result: Result<OutputAck, ShipError>,
    ) {
        let Some(job) = self.work.jobs.get_mut(&key) else {
            return;
        };
        job.in_flight = false;
        match result {
            Ok(ack) => {
                if job.production.acknowledged(shipment, ack) {
                    job.backoff.reset();
                } else {
                    job.retry_at = Some(Instant::now() + job.backoff.next_delay());
                }
                if ack.cancel {
                    self.on_cancel(key);
                }
            }
            Err(ShipError::Store(error)) => {
                job.production.not_stored(shipment);
                job.retry_at = Some(Instant::now() + job.backoff.next_delay());
                self.on_storage_fault(&error);
            }
            Err(ShipError::Link(error)) if error.ends_session() => {
                job.retry_at = Some(Instant::now() + job.backoff.next_delay());
            }
            Err(ShipError::Link(error)) => match error.refusal().map(|refusal| refusal.code) {
                None => job.retry_at = Some(Instant::now() + job.backoff.next_delay()),
                Some(RefusalCode::OutOfOrder) if !job.rewound => {
                    job.rewound = true;
                    job.production.rewind();
                }
                Some(code) => {
                    tracing::warn!(job = %key.job, ?code, %error, "a job's output was refused; the job is dropped");
                    if let (Some(id), slot) = (job.request.take(), job.slot) {
                        self.cancel_in_engine(slot, id);
                    }
                    self.forget_job(key);
                }
            },
        }
    }

    /// The balancer has the signed end.
    fn complete(&mut self, key: AttemptKey) {
        let Some(job) = self.work.jobs.get(&key) else {
            return;
        };
        let spec = job.production.spec();
        tracing::info!(
            job = %key.job,
            tokens = job.production.produced(),
            tokens_per_second = job.production.tokens_per_second(),
            "a job is done"
        );
        let entry = JobRow {
            record: WorkRecord {
                kind: WorkKind::Job,
                id: key.job.to_string(),
                attempt: key.attempt,
                model: spec.task.model,
                model_name: self.slots[job.slot].name(self.network.served.as_deref()),
                input_tokens: spec.task.input_tokens(),
                output_tokens: job.production.produced(),
                started_ms: job.started_ms,
                finished_ms: Some(self.now_ms()),
                verdict: VerdictStatus::Pending,
                reason: String::new(),
                points: 0,
                forfeited: None,
                references: Vec::new(),
            },
            tokens_per_second: job.production.tokens_per_second(),
            device: Some(self.device_of(job.slot)),
            network: Some(self.edges.balancer_url().to_owned()),
        };
        let store = self.store.clone();
        self.remember(async move { store.record(entry).await });
        self.forget_job(key);
    }

    /// Nothing more is owed for a job.
    pub(super) fn forget_job(&mut self, key: AttemptKey) {
        if self.work.jobs.remove(&key).is_some() {
            self.work.mark_over(Duty::Job(key));
            let store = self.store.clone();
            self.remember(async move { store.close_attempt(key).await });
        }
    }

    /// Hands back a job that was never begun.
    fn hand_back(&mut self, key: AttemptKey, reason: &str) {
        self.work.mark_over(Duty::Job(key));
        let (caller, store, reason) = (self.caller.clone(), self.store.clone(), reason.to_owned());
        self.remember(async move {
            send_release(&caller, key, &reason).await;
            store.close_attempt(key).await
        });
    }

    /// Delivers what an earlier run of the program owes, and hands back what it left open.
    pub(super) async fn settle_debts(&mut self) -> Result<(), StoreError> {
        for open in self.store.open_attempts().await? {
            self.work.mark_over(Duty::Job(open.key));
            let (caller, store) = (self.caller.clone(), self.store.clone());
            self.remember(async move {
                deliver_debt(&caller, &open).await;
                store.close_attempt(open.key).await
            });
        }
        self.settle_reports().await
    }
}

/// Each try is a new claim: the balancer gives a job again to the node that holds it.
async fn claim_until_answered(
    caller: &Caller,
    node_key: &NodeKey,
    key: AttemptKey,
) -> Result<JobSpec, Refusal> {
    let node = node_key.id();
    caller
        .until_answered(|link, token| {
            let nonce = Hash::from_bytes(random_32(&*caller.entropy));
            let claim = Claim {
                version: VERSION,
                attempt: key.attempt,
                nonce,
                signature: node_key.sign(claim_digest(key.job, key.attempt, &node, &nonce)),
            };
            link.claim(token, key.job, claim)
        })
        .await
}

async fn ship(
    caller: &Caller,
    store: &Store,
    key: AttemptKey,
    shipment: &Shipment,
    now_ms: i64,
) -> Result<OutputAck, ShipError> {
    if !shipment.chunks.is_empty() || shipment.finish.is_some() {
        store
            .put(
                key,
                shipment.chunks.clone(),
                shipment.finish.clone(),
                now_ms,
            )
            .await
            .map_err(ShipError::Store)?;
    }
    let batch = shipment.batch.clone();
    let ack = caller
        .once(|link, token| link.output(token, key.job, batch))
        .await
        .map_err(ShipError::Link)?;
    if !shipment.batch.commits.is_empty()
        && let Err(error) = store.acknowledge(key, ack.chunks).await
    {
        // Sent once more than needed after a crash, which is harmless.
        tracing::warn!(%error, "an acknowledged chunk stays in the outbox");
    }
    Ok(ack)
}

async fn send_release(caller: &Caller, key: AttemptKey, reason: &str) {
    let release = Release {
        version: VERSION,
        attempt: key.attempt,
        reason: reason.to_owned(),
    };
    let answer = caller
        .until_answered(|link, token| link.release(token, key.job, release.clone()))
        .await;
    if let Err(refusal) = answer {
        tracing::debug!(job = %key.job, code = ?refusal.code, "a release was refused: the job was not ours any more");
    }
}

async fn deliver_debt(caller: &Caller, open: &OpenAttempt) {
    for batch in owed_batches(open) {
        let answer: Result<_, Refusal> = caller
            .until_answered(|link, token| link.output(token, open.key.job, batch.clone()))
            .await;
        if let Err(refusal) = answer {
            tracing::warn!(job = %open.key.job, code = ?refusal.code, "output of an earlier run was refused");
            return;
        }
    }
    if open.finish.is_none() {
        send_release(caller, open.key, "the node was restarted").await;
    }
}

fn key_of(offer: &Offer) -> AttemptKey {
    AttemptKey {
        job: offer.job,
        attempt: offer.attempt,
    }
}
