//! What a run has shown, as a table: each figure, and what it must be.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::{Duration, Instant};

use super::books::{Attempt, Books};
use super::clients::{End, LIMIT, Observation};
use super::field::SUBSIDY_CAP;
use super::schedule::{Disturbance, Step};

/// Everything that was seen.
pub(crate) struct Seen {
    pub(crate) seed: u64,
    pub(crate) steps: Vec<Step>,
    pub(crate) left_out: Vec<String>,
    /// Before the storm.
    pub(crate) undisturbed: Vec<Observation>,
    pub(crate) storm: Vec<Observation>,
    pub(crate) storm_began: Instant,
    pub(crate) storm_ended: Instant,
    /// One of each client after the storm, before anything was started anew.
    pub(crate) afterwards: Vec<Observation>,
    /// Jobs that were open long after the storm, and after a restart of the balancer too.
    pub(crate) open: i64,
    pub(crate) open_after_restart: i64,
    /// Keys that are refused after the storm though they have no job.
    pub(crate) blocked_keys: usize,
    pub(crate) ended_by_themselves: Vec<String>,
    pub(crate) internal_errors: u64,
    pub(crate) hostile_nodes: u64,
    /// The id of the lazy reference.
    pub(crate) lazy: String,
    /// Names of the honest nodes by id.
    pub(crate) honest: HashMap<String, String>,
    pub(crate) books: Books,
}

/// One line of the table.
#[derive(Debug)]
pub struct Row {
    pub what: &'static str,
    pub figure: String,
    /// Empty where any figure is well.
    pub wanted: &'static str,
    pub bad: bool,
}

/// The outcome of a run.
#[derive(Debug)]
pub struct Table {
    pub seed: u64,
    pub rows: Vec<Row>,
    pub left_out: Vec<String>,
}

/// All eight clients together must not be without an answer for longer than this.
const LONGEST_DROUGHT: Duration = Duration::from_secs(45);

impl Table {
    pub fn is_good(&self) -> bool {
        !self.rows.iter().any(|row| row.bad)
    }

    pub(crate) fn of(seen: &Seen) -> Self {
        let mut rows = Rows(Vec::new());
        disturbances(&mut rows, seen);
        streams(&mut rows, seen);
        jobs(&mut rows, seen);
        points(&mut rows, seen);
        nodes(&mut rows, seen);
        Self {
            seed: seen.seed,
            rows: rows.0,
            left_out: seen.left_out.clone(),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "| seed {} | figure | must be |", self.seed)?;
        writeln!(out, "|---|---|---|")?;
        for row in &self.rows {
            let mark = if row.bad { " **BAD**" } else { "" };
            writeln!(
                out,
                "| {} | {}{mark} | {} |",
                row.what, row.figure, row.wanted
            )?;
        }
        for what in &self.left_out {
            writeln!(out, "left out: {what}")?;
        }
        Ok(())
    }
}

struct Rows(Vec<Row>);

impl Rows {
    fn tell(&mut self, what: &'static str, figure: impl ToString) {
        self.demand(what, figure, "", true);
    }

    /// A count that must be 0, with examples of what was counted.
    fn zero(&mut self, what: &'static str, found: &[String]) {
        let figure = match found {
            [] => "0".to_owned(),
            _ => format!("{} ({})", found.len(), some(found)),
        };
        self.demand(what, figure, "0", found.is_empty());
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "figures are made where they are given"
    )]
    fn demand(
        &mut self,
        what: &'static str,
        figure: impl ToString,
        wanted: &'static str,
        good: bool,
    ) {
        self.0.push(Row {
            what,
            figure: figure.to_string(),
            wanted,
            bad: !good,
        });
    }
}

fn disturbances(rows: &mut Rows, seen: &Seen) {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for step in &seen.steps {
        let kind = match step.what {
            Disturbance::Kill(_) => "SIGKILL",
            Disturbance::Freeze(_) => "SIGSTOP",
            Disturbance::FillDisk(_) => "full disk",
            Disturbance::Link(..) => "link",
            Disturbance::Clock(..) => "clock",
            Disturbance::Nodes(_) => "hostile nodes",
            Disturbance::Clients(_) => "hostile clients",
        };
        *kinds.entry(kind).or_default() += 1;
    }
    let list: Vec<_> = kinds
        .iter()
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    let length = seen.storm_ended - seen.storm_began;
    rows.tell(
        "disturbances",
        format!(
            "{} in {:.0} s: {}",
            seen.steps.len(),
            length.as_secs_f64(),
            list.join(", ")
        ),
    );
    rows.tell("hostile nodes", seen.hostile_nodes);
}

fn streams(rows: &mut Rows, seen: &Seen) {
    let all = &seen.storm;
    rows.tell("honest requests", all.len());
    rows.tell("answers whole", count(all, |end| *end == End::Whole));
    rows.tell(
        "hung up on by their client",
        count(all, |end| *end == End::HungUp),
    );
    rows.tell(
        "refused with a proper error",
        by_code(all, |end| match end {
            End::Refused(code) => Some(code),
            _ => None,
        }),
    );
    rows.tell(
        "cut with a proper error",
        by_code(all, |end| match end {
            End::Error(code) => Some(code),
            _ => None,
        }),
    );
    rows.tell(
        "broken as the balancer or the link was down",
        count(all, |end| *end == End::BrokenByUs),
    );
    let every = || seen.undisturbed.iter().chain(all).chain(&seen.afterwards);
    let silently = every().filter_map(|one| match &one.end {
        End::BrokenSilently(how) => Some(format!("{}: {how}", told(one, seen))),
        _ => None,
    });
    rows.zero("broken without a word", &silently.collect::<Vec<_>>());
    let stuck = every().filter(|one| one.end == End::Stuck);
    let stuck: Vec<_> = stuck.map(|one| told(one, seen)).collect();
    rows.zero("no end within 90 s", &stuck);
    debug_assert_eq!(LIMIT.as_secs(), 90, "the row above names it");

    let differ = || every().filter(|one| one.differs);
    let attempts = |one: &Observation| {
        let job = one.job.clone();
        let of_job = move |attempt: &&Attempt| Some(&attempt.job) == job.as_ref();
        seen.books.attempts.iter().filter(of_job)
    };
    // Whatever became of the job after it.
    let caught = |one: &&Observation| attempts(one).any(|attempt| attempt.failed);
    // A stream that breaks off has no verdict to wait for, and what its node had made up may be
    // nowhere any more.
    let broken_off = |one: &&Observation| {
        matches!(one.end, End::BrokenByUs | End::HungUp)
            && attempts(one).any(|attempt| !seen.honest.contains_key(&attempt.node))
    };
    rows.tell(
        "made up, and found out by the verdict",
        differ().filter(caught).count(),
    );
    rows.tell(
        "made up, and broken off before a verdict",
        differ()
            .filter(|one| !caught(one) && broken_off(one))
            .count(),
    );
    let altered = differ().filter(|one| !caught(one) && !broken_off(one));
    let altered: Vec<_> = altered.map(|one| told(one, seen)).collect();
    rows.zero("altered", &altered);

    let (from, drought) = longest_drought(seen);
    rows.demand(
        "longest time without a whole answer",
        format!(
            "{:.1} s (from {:.1} s on)",
            drought.as_secs_f64(),
            from.as_secs_f64()
        ),
        "at most 45 s",
        drought <= LONGEST_DROUGHT,
    );
    let whole = count(&seen.afterwards, |end| *end == End::Whole);
    let others: Vec<_> = seen
        .afterwards
        .iter()
        .filter(|one| one.end != End::Whole)
        .collect();
    let mut figure = format!("{whole} of {}", seen.afterwards.len());
    if let Some(one) = others.first() {
        figure = format!("{figure} ({:?})", one.end);
    }
    rows.demand(
        "answers whole after the storm",
        figure,
        "all",
        others.is_empty(),
    );
    for (what, of) in [
        ("first token, undisturbed", &seen.undisturbed),
        ("first token, in the storm", all),
    ] {
        let mut times: Vec<_> = of.iter().filter_map(|one| one.first_token).collect();
        rows.tell(what, median_and_95th(&mut times));
    }
}

fn jobs(rows: &mut Rows, seen: &Seen) {
    let books = &seen.books;
    rows.tell("jobs", books.jobs.len());
    let observed = seen
        .undisturbed
        .iter()
        .chain(&seen.storm)
        .chain(&seen.afterwards);
    let lost = observed.filter_map(|one| {
        let id = one.job.as_ref()?;
        let Some(job) = books.jobs.get(id) else {
            return Some(format!("{id} is unknown"));
        };
        let told = one.tokens.filter(|_| one.end == End::Whole)?;
        let kept = job.state == "done"
            && job.ended.as_deref() != Some("failed")
            && job.output_tokens >= told;
        (!kept).then(|| format!("{id} has {} of {told} tokens", job.output_tokens))
    });
    rows.zero("lost", &lost.collect::<Vec<_>>());
    rows.demand(
        "open a minute after the storm",
        seen.open,
        "0",
        seen.open == 0,
    );
    let open = seen.open_after_restart;
    rows.demand("open after a restart", open, "0", open == 0);
    rows.zero("paid twice", &books.paid_twice());
    let blocked = seen.blocked_keys;
    rows.demand(
        "keys blocked though they have no job",
        blocked,
        "0",
        blocked == 0,
    );
}

fn points(rows: &mut Rows, seen: &Seen) {
    let books = &seen.books;
    let sum = books.sum();
    rows.demand("ledger sum", sum, "0", sum == 0);
    let held = books.held_by("escrow");
    rows.demand(
        "held for no open job",
        held,
        "0",
        held == 0 || seen.open_after_restart > 0,
    );
    let charged = -books.held_by("client:");
    let earned = books.held_by("node:");
    rows.tell("clients charged (micro-points)", charged);
    rows.tell("nodes earned", earned);
    rows.tell("of it for the operator's own jobs", books.own_jobs);
    let subsidy = (earned - charged - books.own_jobs).max(0);
    rows.tell("and beyond what clients were charged", subsidy);
    let minted = (subsidy - SUBSIDY_CAP).max(0);
    rows.demand("minted beyond its cap of 100,000", minted, "0", minted == 0);
    debug_assert_eq!(SUBSIDY_CAP, 100_000, "the row above names it");
}

fn nodes(rows: &mut Rows, seen: &Seen) {
    let (mut honest, mut lost, mut hostile) = (Vec::new(), Vec::new(), 0);
    for node in &seen.books.nodes {
        let Some(name) = seen.honest.get(&node.id) else {
            hostile += usize::from(node.failures > 0 || node.lapses > 0);
            continue;
        };
        if node.failures > 0 {
            honest.push(format!("{name}: {}", node.failures));
        }
        if let Some(why) = &node.role_lost {
            honest.push(format!("{name}: {why}"));
        }
        if node.lapses > 0 {
            lost.push(format!("{name} {}", node.lapses));
        }
    }
    rows.zero("honest nodes found wrong", &honest);
    rows.tell("jobs that honest nodes have lost of late", lost.join(", "));
    rows.tell("hostile nodes found wrong, or paused", hostile);
    let lazy = seen.books.nodes.iter().find(|node| node.id == seen.lazy);
    let found_out = lazy.and_then(|node| node.role_lost.as_deref());
    let figure = found_out.unwrap_or("still trusted");
    rows.tell("the lazy reference", figure);
    rows.zero(
        "processes that ended by themselves",
        &seen.ended_by_themselves,
    );
    let errors = seen.internal_errors;
    rows.demand("status 500 for hostile calls", errors, "0", errors == 0);
}

/// Who saw it, how and when: to be found among the disturbances and in the logs.
fn told(one: &Observation, seen: &Seen) -> String {
    let from = one.began_at.saturating_duration_since(seen.storm_began);
    let to = one.ended_at.saturating_duration_since(seen.storm_began);
    let job = one.job.as_deref().unwrap_or("no job told");
    format!(
        "client {} {:?} {:.1} to {:.1} s, {job}",
        one.client + 1,
        one.manner,
        from.as_secs_f64(),
        to.as_secs_f64()
    )
}

fn count(all: &[Observation], which: impl Fn(&End) -> bool) -> usize {
    all.iter().filter(|one| which(&one.end)).count()
}

/// How many there are, and of each code how many.
fn by_code<'a>(all: &'a [Observation], code: impl Fn(&'a End) -> Option<&'a String>) -> String {
    let mut codes: BTreeMap<&str, usize> = BTreeMap::new();
    for code in all.iter().filter_map(|one| code(&one.end)) {
        *codes.entry(code).or_default() += 1;
    }
    let total: usize = codes.values().sum();
    let list: Vec<_> = codes
        .iter()
        .map(|(code, count)| format!("{count} {code}"))
        .collect();
    match list.as_slice() {
        [] => "0".to_owned(),
        _ => format!("{total} ({})", list.join(", ")),
    }
}

fn some(found: &[String]) -> String {
    const SHOWN: usize = 3;
    let mut list = found[..found.len().min(SHOWN)].join("; ");
    if found.len() > SHOWN {
        list += "; …";
    }
    list
}

/// The longest time in which no client got a whole answer: from when, after the storm's begin, and
/// how long.
fn longest_drought(seen: &Seen) -> (Duration, Duration) {
    let mut times: Vec<_> = seen
        .storm
        .iter()
        .filter(|one| one.end == End::Whole)
        .map(|one| one.ended_at.max(seen.storm_began))
        .chain([seen.storm_began, seen.storm_ended])
        .collect();
    times.sort_unstable();
    let gaps = times
        .windows(2)
        .map(|pair| (pair[0] - seen.storm_began, pair[1] - pair[0]));
    gaps.max_by_key(|(_, length)| *length).unwrap_or_default()
}

fn median_and_95th(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |part: f64| {
        let index = ((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1));
        times.get(index).map(Duration::as_secs_f64)
    };
    match (at(0.5), at(0.95)) {
        (Some(median), Some(most)) => {
            format!(
                "median {:.0} ms, 95th percentile {:.0} ms",
                median * 1e3,
                most * 1e3
            )
        }
        _ => "none came".to_owned(),
    }
}
