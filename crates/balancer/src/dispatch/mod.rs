//! Finds a node for each job, follows its work, and hands the job on when the node is lost.
//!
//! Each live job has one driver task, which does what is due when time passes. Calls of nodes and
//! clients change the job under its lock, write to the database first, and wake the driver.

mod driver;
mod node_calls;
mod recovery;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use infera_protocol::node_api::{Checking, Refusal, RefusalCode, VerdictStatus};
use infera_protocol::requirements::Policy;
use infera_protocol::{AuditId, JobId, ModelId, NodeId, Route};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use crate::accounts::Tokens;
use crate::body::Bodies;
use crate::canaries::Canaries;
use crate::catalog::{Catalog, CatalogError, ServedModel};
use crate::config::Config;
use crate::db::{Database, DbError};
use crate::edges::Edges;
use crate::job::{
    Job, LiveJob, Place, Progress, Seeking, Stage, Submission, VerdictView, WaitingFor, refusal,
};
use crate::joining::{self, Challenges};
use crate::keys::Client;
use crate::metrics;
use crate::metrics::Metrics;
use crate::nodes::{Availability, Nodes, Trust};
use crate::operator::bans;
use crate::operator::figures::Figures;
use crate::operator::sessions::Sessions;
use crate::prompts::Prompts;
use crate::queues::{Queues, Waits};
use crate::spending;
use crate::standstill::{self, Standstill};
use crate::store;
use crate::submit_error::SubmitError;

pub(crate) use node_calls::check_version;

/// Changes among nodes within this time are looked at together.
const CHANGES_PAUSE: Duration = Duration::from_millis(2);
/// A written job that no driver has after so long is taken up: it was enlisted long before.
const STRAY_AFTER: Duration = Duration::from_secs(30);

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
    pub(crate) account_tokens: Tokens,
    pub(crate) bodies: Bodies,
    pub(crate) catalog: Catalog,
    pub(crate) metrics: Metrics,
    pub(crate) queues: Queues,
    pub(crate) prompts: Prompts,
    pub(crate) canaries: Canaries,
    pub(crate) standstill: Standstill,
    /// Operators who are signed in.
    pub(crate) operators: Sessions,
    pub(crate) figures: Figures,
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
        let account_tokens = Tokens::new(edges.random());
        let bodies = Bodies::new(config.body_bytes, config.body_wait);
        let core = Arc::new(Core {
            database,
            config,
            policy,
            edges,
            started_ms,
            nodes,
            challenges,
            account_tokens,
            bodies,
            catalog: Catalog::default(),
            metrics: metrics::install(),
            queues: Queues::default(),
            prompts: Prompts::default(),
            canaries: Canaries::default(),
            standstill: Standstill::new(Instant::now()),
            operators: Sessions::default(),
            figures: Figures::default(),
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
        tokio::join!(
            self.follow_commands(),
            self.0.keep_canaries(),
            self.0.keep_minutes()
        );
    }

    /// Follows what commands change in the database, and deletes old texts. Never returns.
    async fn follow_commands(&self) {
        let mut round = 0u64;
        loop {
            self.0.read_models().await;
            if let Err(error) = self.0.follow_standings().await {
                tracing::warn!(%error, "who is trusted could not be read again");
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

    /// Takes over what operators have changed about nodes.
    pub(crate) async fn follow_standings(&self) -> Result<(), DbError> {
        let mut standings = store::standings(&self.database).await?;
        for standing in standings.values_mut() {
            *standing = joining::standing(&self.config, *standing);
        }
        self.nodes.sweep(&standings, Instant::now());
        let bans = bans::all(&self.database, self.edges.now_ms()).await?;
        self.nodes.keep_out(bans.keys());
        Ok(())
    }

    pub(crate) fn started_ms(&self) -> i64 {
        self.started_ms
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
            let reach = job.submission.reach();
            let availability = self
                .nodes
                .availability(model.id, context, reach, now, steady_ms);
            if let Some(error) = no_node(availability, &model.name, reach.route) {
                return Err(error);
            }
        }
        self.write_jobs(client, &jobs).await?;
        self.figures.key_used(&client.name, self.edges.now_ms());
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

    /// Whether an answer comes with its verdict: when that is asked for, and where nothing is checked,
    /// because it is known at once and the answer has to say so.
    pub(crate) fn waits_for_verdict(&self, asked: bool, route: Route) -> bool {
        asked || self.config.checking == Checking::None || route != Route::Any
    }

    /// What a job of a model waits for, if its verdict is pending and too few references are here.
    pub(crate) fn waiting_for(&self, model: ModelId, view: &VerdictView) -> Option<WaitingFor> {
        let needed = self.config.references;
        let here = self.nodes.references_here(model, Instant::now()).len();
        // Until the lottery has drawn it, nobody knows whether it will be checked at all.
        let drawn = view.stalled || self.config.audit_rate >= 1.0;
        let checks = self.config.checking == Checking::Always;
        let waits = checks && view.verdict == VerdictStatus::Pending && drawn && here < needed;
        waits.then_some(WaitingFor {
            references_needed: needed,
            references_here: here,
        })
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

    /// Checks limits and writes the jobs with what they may cost at most.
    async fn write_jobs(&self, client: &Client, jobs: &[Job]) -> Result<(), SubmitError> {
        let now_ms = self.edges.now_ms();
        let holds: Vec<_> = jobs.iter().map(|job| job.submission.most_cost()).collect();
        let asked = holds
            .iter()
            .fold(0i64, |sum, hold| sum.saturating_add(*hold));
        let written = async {
            let mut write = self.database.write().await?;
            if let Some(refused) = spending::refused(&mut write, client, asked, now_ms).await? {
                return Ok(Err(refused));
            }
            for (job, hold) in jobs.iter().zip(&holds) {
                store::insert_job(&mut write, job, now_ms).await?;
                job.books().hold(*hold).post(&mut write, now_ms).await?;
            }
            write.commit().await?;
            Ok::<_, DbError>(Ok(()))
        };
        written
            .await
            .unwrap_or_else(|error| Err(SubmitError::storage(&error)))
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
            narrow: job.submission.reach().is_narrow(),
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

pub(crate) fn unavailable(error: impl Into<DbError>) -> Refusal {
    let error = error.into();
    tracing::error!(%error, "the database refused");
    refusal(
        RefusalCode::Unavailable,
        "The balancer cannot write to its database now. Try again",
    )
}

fn no_node(availability: Availability, model: &str, route: Route) -> Option<SubmitError> {
    let model = model.to_owned();
    match availability {
        Availability::Free | Availability::Busy(_) => None,
        Availability::Nobody if route == Route::Own => Some(SubmitError::NoneOfOwn { model }),
        Availability::Nobody if route == Route::Trusted => {
            Some(SubmitError::NoneOfTrusted { model })
        }
        Availability::Nobody => Some(SubmitError::NobodyHas { model }),
        Availability::Paused(count) => Some(SubmitError::Paused { model, count }),
        Availability::TooLong(longest) => Some(SubmitError::NobodyTakesSoLong { model, longest }),
        Availability::Unfit(count) => Some(SubmitError::Unfit { model, count }),
    }
}
