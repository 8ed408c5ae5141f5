//! What nodes ask of a job: to claim it, to deliver its output, to hand it back.

use infera_protocol::node_api::{Claim, Refusal, RefusalCode, Release, claim_digest};
use infera_protocol::output::OutputAck;
use infera_protocol::{JobId, JobSpec, NodeId, OutputBatch, VERSION};
use tokio::time::Instant;

use super::{Core, unavailable};
use crate::job::{Attempt, Progress, Stage, lease_ended, refusal};
use crate::states::AttemptEnd;
use crate::store;

impl Core {
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
        let reach = job.submission.reach();
        let fault = self
            .nodes
            .claim_fault(node, model, context, reach, now, steady_ms);
        if let Some(fault) = fault {
            return Err(refusal(RefusalCode::NotEligible, fault));
        }
        let others: Vec<_> = seeking
            .offered
            .keys()
            .filter(|other| **other != node)
            .copied()
            .collect();
        let prompt = job.submission.task.input_tokens() + job.received();
        let host = self.nodes.host(node, reach);
        let mut attempt = Attempt::new(id, claim.attempt, (node, host), job.received(), now, now)
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
        let before = job.output.len();
        job.apply(accepted, &self.config, now);
        if job.output.len() > before {
            self.figures.tokens(job.output.len() - before, now);
            if before == 0 && job.run == 1 {
                self.figures.first_token(now.duration_since(job.began), now);
            }
        }
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

pub(super) fn taken() -> Refusal {
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
