//! Canaries: audits of outputs whose faults are known, which show whether references compute.
//!
//! The network answers the operator's own prompts as it answers anybody's, and what references have
//! verified becomes stock. For some of the audits of clients' jobs another one is made up of it: the
//! same output, or with tokens changed where every honest reference must see it. To a reference it
//! looks like any other. What clients write is never used.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use infera_model::ChatMessage;
use infera_protocol::node_api::VerdictStatus;
use infera_protocol::{
    AuditId, AuditReport, FinishReason, JobId, LogProbabilities, ModelId, NodeId, Route, Sampling,
    Task, Writing, job_seed,
};
use infera_verify::{Canary, CanaryFault, Thresholds, Verdict, certain_places, largest_agreeing};
use sqlx::Row;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::audits::{figures, findings};
use crate::catalog::ServedModel;
use crate::db::{Database, DbError, Write};
use crate::dispatch::Core;
use crate::job::{Audits, Job, LiveJob, Stage, Submission, VerdictView};
use crate::keys::Client;
use crate::ledger::{self, Account, Entry};
use crate::metrics;
use crate::openai::{Input, Prompt};
use crate::prompts::Reading;
use crate::references;
use crate::states::Word;
use crate::store::{self, JobEnd};
use crate::submit_error::{PromptError, SubmitError};

/// Whose jobs the operator's prompts are. No key can have this name; the network pays.
pub(crate) const CLIENT: &str = "#canaries";

/// The part of canaries among the audits of references that have met none yet.
const NEWCOMERS: f64 = 0.5;
/// The part of all canaries in which nothing is wrong.
const UNCHANGED: f64 = 0.25;
const MOST_CHANGES: usize = 3;
/// So many tokens of an output are left as they are at least: what a reference computed of them
/// shows whether it and the stock are of one mind.
const LEFT_ALONE: u32 = 8;
/// How long a canary may wait for references.
const LIFE: Duration = Duration::from_mins(10);
/// How long the network may take for an answer to one of the operator's prompts.
const WRITING: Duration = Duration::from_mins(30);
/// Output tokens of the operator's prompts: at least this, and up to three times as many more.
const LEAST_TOKENS: u32 = 64;
/// With fewer outputs left that some reference has not seen, one more is written.
const SPARE: usize = 4;
/// So many outputs are kept of a model; the oldest make room.
const KEPT: i64 = 256;
/// How often pay is looked for that has been held for too long.
const CONFIRM_EVERY: Duration = Duration::from_mins(1);

/// Which models a canary is due for, and for which one is being written.
#[derive(Default)]
pub(crate) struct Canaries {
    inner: Mutex<Inner>,
    added: Notify,
}

#[derive(Default)]
struct Inner {
    due: Vec<ModelId>,
    writing: HashSet<ModelId>,
}

/// A canary that references are asked about.
pub(crate) struct OpenCanary {
    stock: i64,
    canary: Canary,
}

/// An output of the stock.
struct Stock {
    id: i64,
    task: Task,
    output: Vec<u32>,
    computed: LogProbabilities,
    reason: FinishReason,
}

/// What a canary has shown of one reference.
struct Shown<'a> {
    audit: AuditId,
    node: NodeId,
    report: &'a AuditReport,
    found: Result<(), CanaryFault>,
    standing: Standing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Met,
    Missed,
    /// It agrees with other references against the stock, which may therefore be wrong.
    Disputed,
    /// It is alone against the references that verified the stock, as against those of any job.
    Alone,
}

impl Standing {
    fn name(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::Disputed => "disputed",
            Self::Alone => "alone",
        }
    }
}

impl Canaries {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is complete before anything that could panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Core {
    /// References were drawn for a job: draws whether a canary goes out beside it. Where one of them
    /// has met few so far, as few as `least_met`, it does so more often.
    pub(crate) fn draw_canary(&self, job: &Job, least_met: u32) {
        let rate = self.config.canary_rate;
        if rate <= 0.0 || job.submission.task.writing().is_none() || job.submission.client == CLIENT
        {
            return;
        }
        let rate = rate.max(NEWCOMERS / (1.0 + f64::from(least_met)));
        // A part of `rate` of all audits is to be canaries.
        if self.edges.chance() * (1.0 - rate) >= rate {
            return;
        }
        self.canaries.lock().due.push(job.submission.model.id);
        self.canaries.added.notify_one();
    }

    /// Sends out canaries that are due, and confirms pay that was held for too long. Never returns.
    pub(crate) async fn keep_canaries(self: &Arc<Self>) {
        let mut confirm = tokio::time::interval(CONFIRM_EVERY);
        loop {
            tokio::select! {
                () = self.canaries.added.notified() => {}
                _ = confirm.tick() => {
                    if let Err(error) = self.confirm_unasked().await {
                        tracing::warn!(%error, "held pay could not be confirmed");
                    }
                }
            }
            let due = std::mem::take(&mut self.canaries.lock().due);
            for model in due {
                if let Err(error) = self.release_canary(model).await {
                    tracing::warn!(%error, "a canary could not be sent out");
                }
            }
        }
    }

    async fn confirm_unasked(&self) -> Result<(), DbError> {
        let now_ms = self.edges.now_ms();
        let before_ms = now_ms - self.config.hold_without_canary.as_millis() as i64;
        let mut write = self.database.write().await?;
        let confirmed = references::confirm_unasked(&mut write, before_ms, now_ms).await?;
        write.commit().await?;
        if confirmed > 0 {
            tracing::info!(
                confirmed,
                "confirmed the pay of references that no canary could be sent to"
            );
        }
        Ok(())
    }

    async fn release_canary(self: &Arc<Self>, id: ModelId) -> Result<(), DbError> {
        let served = self.catalog.list().into_iter();
        let Some(model) = served
            .filter(|model| model.vector_width.is_none())
            .find(|model| model.id == id)
        else {
            return Ok(());
        };
        let here = self.nodes.references_here(id, Instant::now());
        let stock = seen(&self.database, id).await?;
        let fresh: Vec<_> = stock
            .iter()
            .filter(|(_, seen)| here.iter().any(|node| !seen.contains(node)))
            .collect();
        if fresh.len() < SPARE {
            self.write_stock(&model).await;
        }
        let chosen = if fresh.is_empty() {
            // Where every job goes to every reference, no prompt is new to any of them.
            let few = (1..=self.config.references).contains(&here.len()) && !stock.is_empty();
            few.then(|| (stock[self.pick(stock.len())].0, HashSet::new()))
        } else {
            let (id, seen) = fresh[self.pick(fresh.len())];
            Some((*id, seen.clone()))
        };
        let Some((stock, seen)) = chosen else {
            return Ok(());
        };
        let unseen = here.iter().filter(|node| !seen.contains(node)).count();
        let Some(stock) = read_stock(&self.database, stock).await? else {
            return Ok(());
        };
        let needed = self.config.references.min(unseen.max(1));
        self.send_canary(model, stock, seen, needed).await
    }

    /// Makes a canary of a verified output, and has it audited.
    async fn send_canary(
        self: &Arc<Self>,
        model: Arc<ServedModel>,
        stock: Stock,
        seen: HashSet<NodeId>,
        needed: usize,
    ) -> Result<(), DbError> {
        let submission = Submission {
            client: CLIENT.to_owned(),
            price: model.price,
            model,
            task: stock.task,
            route: Route::Any,
            wait: false,
            keep: false,
            rerun: false,
        };
        let mut output = stock.output;
        let changed = self.change(&submission, &mut output, &stock.computed);
        let now = Instant::now();
        let id = JobId::from_bytes(self.edges.random());
        let seeking = self.seeking(now, LIFE);
        let mut job = Job::new(id, Arc::new(submission), 1, seeking, now + LIFE);
        job.restore_output(&output);
        job.end = Some(stock.reason);
        job.delivered = true;
        job.delivery_noted = true;
        job.excluded = seen;
        job.stage = Stage::Auditing(Audits {
            needed,
            drawn: Vec::new(),
            give_up: Some(now + LIFE),
            scarce: false,
        });
        job.canary = Some(OpenCanary {
            stock: stock.id,
            canary: Canary {
                computed: stock.computed,
                changed,
            },
        });
        let now_ms = self.edges.now_ms();
        let mut write = self.database.write().await?;
        store::insert_job(&mut write, &job, now_ms).await?;
        let end = JobEnd {
            reason: job.end,
            error: None,
            cost: 0,
            output_hash: job.output_hash(),
        };
        store::end_output(&mut write, id, &end, now_ms).await?;
        store::deliver_job(&mut write, id).await?;
        sqlx::query("UPDATE jobs SET output = ?, output_tokens = ? WHERE id = ?")
            .bind(store::blob(&output))
            .bind(output.len() as i64)
            .bind(id.to_string())
            .execute(&mut *write)
            .await?;
        sqlx::query("INSERT INTO canaries (job, stock, changed) VALUES (?, ?, ?)")
            .bind(id.to_string())
            .bind(stock.id)
            .bind(changed)
            .execute(&mut *write)
            .await?;
        write.commit().await?;
        self.start_driver(job);
        Ok(())
    }

    /// Puts faults into an output, or none. Gives the first changed position.
    fn change(
        &self,
        submission: &Submission,
        output: &mut [u32],
        computed: &LogProbabilities,
    ) -> Option<u32> {
        let writing = submission.task.writing()?;
        if self.edges.chance() < UNCHANGED {
            return None;
        }
        // Words of the answer itself, so that nothing looks out of place.
        let tokenizer = submission.model.tokenizer();
        let own: BTreeSet<u32> = output.iter().copied().collect();
        let own: Vec<u32> = own
            .into_iter()
            .filter(|id| !tokenizer.is_end(*id))
            .collect();
        let mut places = certain_places(
            output,
            computed,
            &own,
            &writing.sampling,
            &writing.seed,
            &Thresholds::of(submission.model.profile),
        );
        // The last token may be what ends it.
        places.retain(|(position, _)| {
            *position >= LEFT_ALONE && *position as usize + 1 < output.len()
        });
        let mut changed = BTreeSet::new();
        for _ in 0..=self.pick(MOST_CHANGES) {
            if places.is_empty() {
                break;
            }
            let (position, tokens) = places.swap_remove(self.pick(places.len()));
            output[position as usize] = tokens[self.pick(tokens.len())];
            changed.insert(position);
        }
        changed.first().copied()
    }

    /// Has the network answer one of the operator's prompts, unless it does already.
    async fn write_stock(self: &Arc<Self>, model: &Arc<ServedModel>) {
        let prompts = &self.config.canary_prompts;
        if prompts.is_empty() || !self.canaries.lock().writing.insert(model.id) {
            return;
        }
        let text = prompts[self.pick(prompts.len())].clone();
        let sampling = self.usual_sampling();
        let chat = Input::Chat(vec![ChatMessage::new("user", text.clone())]);
        let prompt = if let Ok(prompts) = self.read_prompt(model, chat).await {
            Ok(prompts)
        } else {
            // Not every model has a chat template.
            let plain = Input::Prompts(vec![Prompt::Text(text)]);
            self.read_prompt(model, plain).await
        };
        let prompt = prompt.map(|prompts| prompts.into_iter().next().unwrap_or_default());
        let written = match prompt {
            Ok(prompt) => {
                let written = self.answer(model, prompt, sampling).await;
                written.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = written {
            tracing::debug!(model = %model.name, error, "no canary could be written");
            self.canaries.lock().writing.remove(&model.id);
        }
    }

    async fn read_prompt(
        &self,
        model: &Arc<ServedModel>,
        input: Input,
    ) -> Result<Vec<Vec<u32>>, PromptError> {
        let reading = Reading {
            model: Arc::clone(model),
            input,
            param: "prompt",
            most_in_all: usize::MAX,
        };
        let renderer = self.edges.renderer();
        let now_ms = self.edges.now_ms();
        self.prompts.read(renderer, CLIENT, reading, now_ms).await
    }

    /// Submits a prompt of the operator's, and holds on to it until it is verified.
    async fn answer(
        self: &Arc<Self>,
        model: &Arc<ServedModel>,
        prompt: Vec<u32>,
        sampling: Sampling,
    ) -> Result<(), SubmitError> {
        let room = model.context.saturating_sub(prompt.len() as u32);
        let asked = LEAST_TOKENS + self.pick(3 * LEAST_TOKENS as usize) as u32;
        let entropy = self.edges.random();
        let seed = job_seed(&entropy, &model.id, &prompt, sampling, 0);
        let writing = Writing::new(sampling, asked.min(room), seed);
        let submission = Submission {
            client: CLIENT.to_owned(),
            price: model.price,
            model: Arc::clone(model),
            task: Task::write(model.id, prompt, writing),
            route: Route::Any,
            wait: false,
            keep: false,
            rerun: false,
        };
        // What the network's own prompts cost is part of its subsidy.
        let network = ledger::balance(&self.database, &Account::Network)
            .await
            .map_err(|error| SubmitError::storage(&error))?;
        if submission.most_cost() > self.config.subsidy_cap.saturating_add(network) {
            tracing::warn!(
                model = model.name,
                "the network's account has reached its subsidy cap, so nothing is written to make canaries of"
            );
            self.canaries.lock().writing.remove(&model.id);
            return Ok(());
        }
        let client = Client::of_operator(CLIENT, None);
        let jobs = self.submit(&client, vec![submission]).await?;
        let (core, model) = (Arc::clone(self), model.id);
        tokio::spawn(async move {
            for mut job in jobs {
                let settled = job.verdict.wait_for(|verdict| verdict.last);
                // Its client leaves in any case.
                let _ = tokio::time::timeout(WRITING, settled).await;
            }
            core.canaries.lock().writing.remove(&model);
        });
        Ok(())
    }

    /// As clients ask: most leave it as it is.
    fn usual_sampling(&self) -> Sampling {
        let plain = Sampling {
            temperature: 1.0,
            ..Sampling::GREEDY
        };
        let usual = [
            plain,
            plain,
            Sampling {
                temperature: 0.7,
                ..plain
            },
            Sampling {
                temperature: 0.8,
                top_p: 0.95,
                ..plain
            },
            Sampling {
                min_p: 0.05,
                ..plain
            },
            Sampling::GREEDY,
        ];
        usual[self.pick(usual.len())]
    }

    fn pick(&self, count: usize) -> usize {
        (self.edges.chance() * count as f64) as usize
    }

    /// Makes a job the canary again that an earlier run of the balancer sent out, if it was one.
    pub(crate) async fn restore_canary(&self, job: &mut Job) -> Result<(), DbError> {
        let row = sqlx::query("SELECT stock, changed FROM canaries WHERE job = ?")
            .bind(job.id.to_string())
            .fetch_optional(self.database.read())
            .await?;
        let Some(row) = row else {
            return Ok(());
        };
        let Some(stock) = read_stock(&self.database, row.try_get("stock")?).await? else {
            return Ok(());
        };
        let all = seen(&self.database, job.submission.model.id).await?;
        let seen = all.into_iter().find(|(id, _)| *id == stock.id);
        job.excluded = seen.map(|(_, seen)| seen).unwrap_or_default();
        job.end = Some(stock.reason);
        job.canary = Some(OpenCanary {
            stock: stock.id,
            canary: Canary {
                computed: stock.computed,
                changed: row.try_get("changed")?,
            },
        });
        Ok(())
    }

    /// All who were asked have reported, or it `is_last`: nobody else can be asked. Says what each
    /// has shown, or has somebody else asked first.
    pub(crate) async fn settle_canary(
        &self,
        live: &LiveJob,
        job: &mut Job,
        is_last: bool,
    ) -> Result<(), DbError> {
        let (Some(open), Stage::Auditing(audits)) = (&job.canary, &mut job.stage) else {
            return Ok(());
        };
        let thresholds = Thresholds::of(job.submission.model.profile);
        let reports: Vec<(AuditId, NodeId, AuditReport)> = audits
            .live()
            .filter_map(|audit| Some((audit.id, audit.node, audit.report.clone()?)))
            .collect();
        let found: Vec<_> = reports
            .iter()
            .map(|(_, _, report)| open.canary.judge(report, &thresholds))
            .collect();
        let met = found.iter().any(Result::is_ok);
        let clear = met
            || found
                .iter()
                .all(|found| *found == Err(CanaryFault::Overlooked));
        if !clear && !is_last {
            // Nobody yet is of one mind with the stock.
            audits.needed = reports.len() + 1;
            return Ok(());
        }
        let computed: Vec<_> = reports
            .iter()
            .map(|(_, _, report)| report.log_probabilities.0.as_slice())
            .collect();
        let agreeing = largest_agreeing(&computed, &thresholds, 1);
        let shown: Vec<_> = reports
            .iter()
            .zip(found)
            .zip(agreeing)
            .map(|(((audit, node, report), found), agrees)| Shown {
                audit: *audit,
                node: *node,
                report,
                found,
                standing: match found {
                    Ok(()) => Standing::Met,
                    // It computed what the stock has, and still did not see what follows from it.
                    Err(CanaryFault::Overlooked) => Standing::Missed,
                    Err(_) if met => Standing::Missed,
                    Err(_) if reports.len() > 1 && agrees => Standing::Disputed,
                    Err(_) => Standing::Alone,
                },
            })
            .collect();
        let stock = open.stock;
        let failed = open.canary.changed.is_some();
        let lost = self
            .write_shown(job, stock, failed, &shown, &reports)
            .await?;
        for one in &shown {
            let record = store::audit_record(&self.database, one.audit).await;
            self.tell_record(one.node, record);
        }
        for (node, why) in lost {
            self.take_role(node, &why);
        }
        live.verdict.send_replace(VerdictView {
            last: true,
            ..VerdictView::pending()
        });
        job.stage = Stage::Done;
        Ok(())
    }

    /// A node has lost its role in the database: ends its session, so that it hears of it.
    pub(crate) fn take_role(&self, node: NodeId, why: &str) {
        tracing::warn!(
            node = %node.short(), why,
            "a reference node has lost its role, and the pay that was held"
        );
        self.nodes.lose_role(node);
        self.wake_audited(&HashSet::from([node]));
    }

    /// Writes what a canary has shown, and gives who lost its role.
    async fn write_shown(
        &self,
        job: &Job,
        stock: i64,
        failed: bool,
        shown: &[Shown<'_>],
        reports: &[(AuditId, NodeId, AuditReport)],
    ) -> Result<Vec<(NodeId, String)>, DbError> {
        let now_ms = self.edges.now_ms();
        let price = job.submission.price;
        let cost = ledger::cost(price, job.submission.task.input_tokens(), job.received());
        let share = ledger::reference_share(cost);
        let judged =
            told(job, shown).ok_or_else(|| DbError::Content("a canary that embeds".to_owned()))?;
        let mut lost = Vec::new();
        let mut write = self.database.write().await?;
        let network = ledger::balance_within(&mut write, &Account::Network).await?;
        let mut allowed = self.config.subsidy_cap.saturating_add(network).max(0);
        let disputed = |one: &Shown<'_>| one.standing == Standing::Disputed;
        if shown.iter().any(disputed) {
            tracing::error!(
                job = %job.id,
                "references that agree with each other contradict a canary, so it is used no more: \
                 either they work together, or those who verified it did"
            );
            retire(&mut write, stock, now_ms).await?;
        }
        for one in shown {
            // The network asked, so the network pays, as far as its subsidy goes.
            let pay = match one.standing {
                Standing::Met => share.min(allowed),
                _ => 0,
            };
            allowed -= pay;
            Entry::new(format!("audit:{}:pay", one.audit))
                .transfer(&Account::Network, &Account::Held(one.node), pay)
                .post(&mut write, now_ms)
                .await?;
            let alone = one.standing == Standing::Alone;
            let lately = references::note_report(&mut write, one.node, alone).await?;
            let why = match (one.standing, one.found) {
                (Standing::Missed, Err(fault)) => {
                    references::miss_canary(&mut write, one.node).await?;
                    Some(format!("It missed a canary: {fault}."))
                }
                (Standing::Alone, _) if lately >= self.config.most_outvoted => {
                    Some(references::contradicted(lately))
                }
                _ => None,
            };
            if let Some(why) = why {
                references::lose_role(&mut write, one.node, one.audit, &why, now_ms).await?;
                lost.push((one.node, why));
            }
            if one.standing == Standing::Met {
                references::meet_canary(&mut write, one.node, one.audit, now_ms).await?;
            }
            metrics::canary(one.standing.name());
            let result = judged
                .references
                .iter()
                .find(|result| result.audit == one.audit);
            let found = findings(result.map_or(&[], std::slice::from_ref), reports);
            let figures = figures(one.report, result);
            store::settle_audit(&mut write, one.audit, &figures, &found, pay).await?;
        }
        let verdict = match (shown.is_empty(), failed) {
            (true, _) => VerdictStatus::SampledOut,
            (false, true) => VerdictStatus::Failed,
            (false, false) => VerdictStatus::Verified,
        };
        store::settle_job(&mut write, job.id, verdict, &judged.reason, now_ms).await?;
        write.commit().await?;
        Ok(lost)
    }
}

/// What a reference is told of it: the same as of any other job.
fn told(job: &Job, shown: &[Shown<'_>]) -> Option<Verdict> {
    let ids = job.output_ids();
    let is_end = |id| job.submission.model.tokenizer().is_end(id);
    let writing = job.submission.task.writing()?;
    let structure = job.structure(writing, &ids, job.end, false, &is_end);
    let mut reports: Vec<_> = shown
        .iter()
        .filter(|one| one.standing == Standing::Met)
        .map(|one| one.report)
        .collect();
    // One alone decides nothing elsewhere.
    reports.extend((reports.len() == 1).then(|| reports[0]));
    let thresholds = Thresholds::of(job.submission.model.profile);
    let all = 0..job.received();
    let judged = infera_verify::verdict(all, &structure, &reports, &thresholds, false);
    Some(judged)
}

/// A job of the operator's prompts was verified by references that found nothing: keeps it to make
/// canaries of.
pub(crate) async fn keep_stock(
    write: &mut Write<'_>,
    job: &Job,
    computed: &LogProbabilities,
    now_ms: i64,
) -> Result<(), DbError> {
    let Some(reason @ (FinishReason::EndOfText | FinishReason::Length)) = job.end else {
        return Ok(());
    };
    let task = &job.submission.task;
    let codes: Vec<u8> = computed
        .0
        .iter()
        .flat_map(|bits| bits.to_le_bytes())
        .collect();
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO canary_stock (model, task, prompt, output, log_probabilities, ended, made_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",
    )
    .bind(task.model.to_string())
    .bind(store::without_input(task))
    .bind(store::blob(&task.input))
    .bind(store::blob(&job.output_ids()))
    .bind(codes)
    .bind(reason.word())
    .bind(now_ms)
    .fetch_one(&mut **write)
    .await?;
    let mut seen: HashSet<NodeId> = job.past.iter().map(|past| past.node).collect();
    if let Stage::Auditing(audits) = &job.stage {
        seen.extend(audits.drawn.iter().map(|audit| audit.node));
    }
    for node in seen {
        note_seen(write, id, node).await?;
    }
    sqlx::query(
        "UPDATE canary_stock SET retired_ms = ?1 WHERE model = ?2 AND retired_ms IS NULL
             AND id NOT IN (SELECT id FROM canary_stock WHERE model = ?2 AND retired_ms IS NULL
                            ORDER BY id DESC LIMIT ?3)",
    )
    .bind(now_ms)
    .bind(task.model.to_string())
    .bind(KEPT)
    .execute(&mut **write)
    .await?;
    Ok(())
}

/// A reference was drawn for a canary.
pub(crate) async fn note_drawn(
    write: &mut Write<'_>,
    canary: &OpenCanary,
    node: NodeId,
    now_ms: i64,
) -> Result<(), DbError> {
    note_seen(write, canary.stock, node).await?;
    references::ask_canary(write, node, now_ms).await
}

async fn note_seen(write: &mut Write<'_>, stock: i64, node: NodeId) -> Result<(), DbError> {
    sqlx::query("INSERT OR IGNORE INTO canary_seen (stock, node) VALUES (?, ?)")
        .bind(stock)
        .bind(node.to_string())
        .execute(&mut **write)
        .await?;
    Ok(())
}

async fn retire(write: &mut Write<'_>, stock: i64, now_ms: i64) -> Result<(), DbError> {
    sqlx::query("UPDATE canary_stock SET retired_ms = ? WHERE id = ?")
        .bind(now_ms)
        .bind(stock)
        .execute(&mut **write)
        .await?;
    Ok(())
}

/// A model's stock, and who has seen each.
async fn seen(database: &Database, model: ModelId) -> Result<Vec<(i64, HashSet<NodeId>)>, DbError> {
    let rows = sqlx::query(
        "SELECT id, node FROM canary_stock LEFT JOIN canary_seen ON stock = id
         WHERE model = ? AND retired_ms IS NULL ORDER BY id",
    )
    .bind(model.to_string())
    .fetch_all(database.read())
    .await?;
    let mut all: Vec<(i64, HashSet<NodeId>)> = Vec::new();
    for row in rows {
        let id = row.try_get("id")?;
        if all.last().is_none_or(|(last, _)| *last != id) {
            all.push((id, HashSet::new()));
        }
        let known = row.try_get::<Option<String>, _>("node")?.is_some();
        if let Some((_, seen)) = all.last_mut().filter(|_| known) {
            seen.insert(store::parse(&row, "node")?);
        }
    }
    Ok(all)
}

async fn read_stock(database: &Database, id: i64) -> Result<Option<Stock>, DbError> {
    let row = sqlx::query("SELECT * FROM canary_stock WHERE id = ?")
        .bind(id)
        .fetch_optional(database.read())
        .await?;
    row.map(|row| {
        let codes: Vec<u8> = row.try_get("log_probabilities")?;
        Ok(Stock {
            id,
            task: store::task(&row)?,
            output: store::tokens(Some(row.try_get("output")?)),
            computed: LogProbabilities(
                codes
                    .chunks_exact(2)
                    .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
                    .collect(),
            ),
            reason: Word::read(&row, "ended")?,
        })
    })
    .transpose()
}
