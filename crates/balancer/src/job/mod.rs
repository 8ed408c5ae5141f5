//! A live job: what was asked, what has arrived, and the rules for what may arrive next. No I/O.

mod attempt;
mod output;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use infera_protocol::node_api::{Price, Refusal, RefusalCode, VerdictStatus};
use infera_protocol::{
    AuditId, FinishReason, Hash, JobId, JobSpec, ModelId, NodeId, Route, Task, TokenOutput,
    VERSION, Vector, Writing,
};
use serde::Serialize;
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::time::Instant;

use crate::canaries::OpenCanary;
use crate::catalog::ServedModel;
use crate::keys::Client;
use crate::ledger::{self, RunBooks};
use crate::reach::{Host, Reach};
use crate::submit_error::SubmitError;

pub(crate) use attempt::{Attempt, PastAttempt, Speeds};
use output::Text;
pub(crate) use output::{StoredOutput, answer_text, vectors};

/// A task as a client submitted it and the balancer accepted it.
#[derive(Clone)]
pub(crate) struct Submission {
    /// The name of the client's key.
    pub client: String,
    pub model: Arc<ServedModel>,
    pub task: Task,
    /// What it costs: nothing on the client's own nodes.
    pub price: Price,
    pub route: Route,
    pub wait: bool,
    pub keep: bool,
    /// The client gets nothing before the verdict, so that failed output can be written anew.
    pub rerun: bool,
}

impl Submission {
    /// Which nodes may have it.
    pub(crate) fn reach(&self) -> Reach {
        Reach {
            route: self.route,
            account: Client::account_of(&self.client),
        }
    }

    /// The most it can cost the client.
    pub(crate) fn most_cost(&self) -> i64 {
        let task = &self.task;
        ledger::cost(self.price, task.input_tokens(), task.most_output_tokens())
    }
}

/// What the client's connection is told.
#[derive(Debug, Clone)]
pub(crate) enum Progress {
    /// A node has the job.
    Started,
    Tokens {
        text: String,
        tokens: Vec<TokenOutput>,
    },
    /// All of an embedding's.
    Vectors(Vec<Vector>),
    /// What was sent failed verification and is void: another node writes it anew.
    Restarted,
    Finished(FinishReason),
    Failed(SubmitError),
}

/// What is known of a job's verification.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct VerdictView {
    pub verdict: VerdictStatus,
    pub reason: String,
    /// No later verdict comes.
    #[serde(skip)]
    pub last: bool,
    /// Too few references are here, so nobody knows when one comes.
    #[serde(skip)]
    pub stalled: bool,
}

/// The references that a verdict waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct WaitingFor {
    pub references_needed: usize,
    /// Online, with the job's model.
    pub references_here: usize,
}

/// A job that the balancer works on, shared by its driver, its nodes' calls and its client.
pub(crate) struct LiveJob {
    pub id: JobId,
    pub model: ModelId,
    /// The name of its client's key.
    pub client: String,
    /// Its turn when nodes or references are scarce.
    pub turn: u64,
    /// Fewer nodes may have it than any.
    pub narrow: bool,
    pub state: Mutex<Job>,
    /// Wakes the driver.
    pub wake: Notify,
    pub verdict: watch::Sender<VerdictView>,
    /// Too many jobs wait for references, so it is settled unchecked.
    pub crowded_out: AtomicBool,
}

pub(crate) struct Job {
    pub id: JobId,
    pub submission: Arc<Submission>,
    pub run: u32,
    pub stage: Stage,
    pub output: Vec<TokenOutput>,
    /// All vectors of an embedding, or none yet.
    pub vectors: Vec<Vector>,
    text: Text,
    /// How the output has ended by its own content.
    pub end: Option<FinishReason>,
    /// Attempts of this run that are over.
    pub past: Vec<PastAttempt>,
    /// The number of the latest attempt; 0 before the first.
    pub attempts: u32,
    /// Nodes that may not take it: they failed verification.
    pub excluded: HashSet<NodeId>,
    /// Nodes that lost it before, asked last.
    pub lost: HashSet<NodeId>,
    /// Nonces of all claims that were accepted.
    pub nonces: HashSet<Hash>,
    /// The client left before the output ended.
    pub cancelled: bool,
    pub client: Option<mpsc::UnboundedSender<Progress>>,
    /// The client has got its answer, or has gone.
    pub delivered: bool,
    /// And the database knows.
    pub delivery_noted: bool,
    /// The network could not finish it: the client pays nothing.
    pub failed: bool,
    /// Its place among its key's jobs at once, until its output has ended.
    pub place: Option<Place>,
    /// When it was accepted, or taken up from an earlier run of the program.
    pub began: Instant,
    /// When it fails, whatever its nodes do.
    pub deadline: Instant,
    /// How many nodes have lost it, newcomers beside known ones not counted.
    pub losses: u32,
    /// It is no job at all: its output was made to see what references say.
    pub canary: Option<OpenCanary>,
}

/// A place that is given back when this is dropped, whatever else happens.
pub(crate) struct Place(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Place {
    pub(crate) fn new(give_back: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(give_back)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(give_back) = self.0.take() {
            give_back();
        }
    }
}

pub(crate) enum Stage {
    /// No node has it.
    Seeking(Seeking),
    Running(Box<Attempt>),
    /// The output has ended; reference nodes check it.
    Auditing(Audits),
    Done,
}

/// A search for a node.
pub(crate) struct Seeking {
    pub since: Instant,
    pub until: Instant,
    /// When the offers that stand are made anew.
    pub again_at: Option<Instant>,
    /// When more nodes are offered it.
    pub widen_at: Option<Instant>,
    /// How many nodes are offered it at once.
    pub ring: usize,
    pub offered: HashMap<NodeId, u64>,
}

/// The reference checks of a run.
#[derive(Default)]
pub(crate) struct Audits {
    pub needed: usize,
    pub drawn: Vec<Audit>,
    /// When the job is settled unchecked, if no references decide before.
    pub give_up: Option<Instant>,
    /// Too few references are here, and everyone concerned was told.
    pub scarce: bool,
}

pub(crate) struct Audit {
    pub id: AuditId,
    pub node: NodeId,
    pub step: AuditStep,
    /// When the step is given up, or for a closed one when the node may be asked again.
    pub until: Option<Instant>,
    /// The node's event stream when it was last told.
    pub link: u64,
    pub commitment: Option<Hash>,
    pub report: Option<infera_protocol::AuditReport>,
    /// The node's, until it has computed what it commits to: an audit that waits for another one's
    /// must not take the place that this needs.
    pub place: Option<Place>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuditStep {
    Offered,
    Accepted,
    Committed,
    /// Committed, and asked to open the report.
    Revealing,
    Reported,
    /// Declined, or too late.
    Closed,
}

impl Job {
    pub(crate) fn new(
        id: JobId,
        submission: Arc<Submission>,
        run: u32,
        seeking: Seeking,
        deadline: Instant,
    ) -> Self {
        let text = Text::new(&submission.model, &submission.task);
        Self {
            id,
            submission,
            run,
            began: seeking.since,
            stage: Stage::Seeking(seeking),
            output: Vec::new(),
            vectors: Vec::new(),
            text,
            end: None,
            past: Vec::new(),
            attempts: 0,
            excluded: HashSet::new(),
            lost: HashSet::new(),
            nonces: HashSet::new(),
            cancelled: false,
            client: None,
            delivered: false,
            delivery_noted: false,
            failed: false,
            place: None,
            deadline,
            losses: 0,
            canary: None,
        }
    }

    /// How it is to write; none when texts are to become vectors.
    fn writing(&self) -> Option<&Writing> {
        self.submission.task.writing()
    }

    /// Voids the output, so that another node writes it anew.
    pub(crate) fn restart(&mut self, seeking: Seeking) {
        self.run += 1;
        self.output.clear();
        self.vectors.clear();
        self.text = Text::new(&self.submission.model, &self.submission.task);
        self.end = None;
        self.past.clear();
        self.stage = Stage::Seeking(seeking);
    }

    pub(crate) fn books(&self) -> RunBooks {
        RunBooks {
            job: self.id,
            run: self.run,
            client: self.submission.client.clone(),
        }
    }

    /// What the run has cost so far, if all of it passes.
    pub(crate) fn cost(&self) -> i64 {
        self.charge(self.past.iter())
    }

    /// What the client owes for these attempts of the run: what each has written, and the prompt
    /// once. Nothing was written: the part of the prompt that was gone through for a client that
    /// then left.
    pub(crate) fn charge<'a>(&self, attempts: impl Iterator<Item = &'a PastAttempt>) -> i64 {
        let (mut tokens, mut prefilled) = (0, 0);
        for past in attempts {
            tokens += past.end - past.start;
            prefilled = prefilled.max(past.prefilled);
        }
        let prompt = self.submission.task.input_tokens();
        let input = if tokens > 0 { prompt } else { prefilled };
        ledger::cost(self.submission.price, input, tokens)
    }

    /// Whether all of the run was computed on the client's own nodes.
    pub(crate) fn stayed_home(&self) -> bool {
        !self.past.is_empty() && self.past.iter().all(|past| past.host == Host::Own)
    }

    /// The output position after the last token or vector.
    pub(crate) fn received(&self) -> u32 {
        (self.output.len() + self.vectors.len()) as u32
    }

    pub(crate) fn tell(&self, progress: Progress) {
        if let Some(client) = &self.client {
            // A client that has gone is noticed by its connection's end.
            let _ = client.send(progress);
        }
    }

    pub(crate) fn spec(&self, attempt: u32, lease: Duration) -> JobSpec {
        JobSpec {
            version: VERSION,
            job: self.id,
            attempt,
            task: self.submission.task.clone(),
            output: self.output_ids(),
            lease_ms: lease.as_millis() as u64,
        }
    }

    /// Whether a claim of this attempt can succeed: nobody has it, or this very node.
    pub(crate) fn is_open_to(&self, node: NodeId, number: u32, now: Instant) -> bool {
        match &self.stage {
            Stage::Seeking(_) => number == self.attempts + 1 && !self.cancelled,
            Stage::Running(attempt) => {
                attempt.node == node && attempt.number == number && attempt.lease_until > now
            }
            Stage::Auditing(_) | Stage::Done => false,
        }
    }

    /// The attempt that `node` holds, if it is this one and its lease runs.
    pub(crate) fn held_by(
        &self,
        node: NodeId,
        number: u32,
        now: Instant,
    ) -> Result<&Attempt, Refusal> {
        let held_before = |number| {
            self.past
                .iter()
                .any(|past| past.node == node && past.number == number)
        };
        match &self.stage {
            Stage::Running(attempt) if attempt.node == node && attempt.number == number => {
                if attempt.lease_until <= now {
                    return Err(lease_ended());
                }
                Ok(attempt)
            }
            _ if held_before(number) => Err(lease_ended()),
            _ => Err(refusal(
                RefusalCode::NotYours,
                "This node does not hold this attempt of the job. Drop it",
            )),
        }
    }
}

impl Seeking {
    pub(crate) fn new(now: Instant, patience: Duration, ring: usize) -> Self {
        Self {
            since: now,
            until: now + patience,
            again_at: None,
            widen_at: None,
            ring,
            offered: HashMap::new(),
        }
    }
}

impl Audits {
    /// Those that have neither been declined nor come too late.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Audit> {
        self.drawn
            .iter()
            .filter(|audit| audit.step != AuditStep::Closed)
    }

    pub(crate) fn find(&mut self, id: AuditId) -> Option<&mut Audit> {
        self.drawn.iter_mut().find(|audit| audit.id == id)
    }
}

impl WaitingFor {
    pub(crate) fn reason(&self) -> String {
        format!(
            "It waits for reference nodes: {} have to check it, and of those with this model {} are online.",
            self.references_needed, self.references_here
        )
    }
}

impl VerdictView {
    pub(crate) fn pending() -> Self {
        Self {
            verdict: VerdictStatus::Pending,
            reason: "Reference nodes have not checked it yet.".to_owned(),
            last: false,
            stalled: false,
        }
    }
}

pub(crate) fn refusal(code: RefusalCode, message: impl Into<String>) -> Refusal {
    Refusal {
        code,
        message: message.into(),
    }
}

pub(crate) fn lease_ended() -> Refusal {
    refusal(
        RefusalCode::LeaseEnded,
        "The lease has run out or the attempt has ended. Drop the job",
    )
}
