//! Jobs that outlived the process which began them, and text that has outlived its use.

use std::ops::Range;
use std::sync::Arc;

use tokio::time::Instant;

use super::Core;
use crate::canaries;
use crate::catalog::CatalogError;
use crate::db::DbError;
use crate::job::{Attempt, Job, PastAttempt, Stage, Submission};
use crate::ledger;
use crate::ledger::{Earning, RunBooks, Settlement};
use crate::store::{self, StoredJob};

impl Core {
    /// Takes up the jobs of an earlier run. Their clients' connections ended with it.
    pub(super) async fn recover(self: &Arc<Self>) -> Result<(), CatalogError> {
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
    pub(super) async fn take_up_open_jobs(
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
            route: stored.route,
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
                let node = (attempt.node, attempt.host);
                let mut open = Attempt::new(id, attempt.number, node, attempt.start, now, until);
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
                    host: attempt.host,
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

    pub(super) async fn delete_old_text(&self) -> Result<(), DbError> {
        let before = self.edges.now_ms() - self.config.keep_text.as_millis() as i64;
        let mut write = self.database.write().await?;
        let deleted = store::delete_old_text(&mut write, before).await?;
        write.commit().await?;
        if deleted > 0 {
            tracing::info!(deleted, "deleted texts that were kept long enough");
        }
        Ok(())
    }
}
