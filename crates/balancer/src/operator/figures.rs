//! How the network does now, noted where it happens, and kept minute by minute.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::db::{Database, DbError};
use crate::dispatch::Core;
use crate::queues::Waits;

pub(crate) const MINUTE_MS: i64 = 60_000;
/// How long minutes are kept.
const KEPT_MS: i64 = 48 * 60 * MINUTE_MS;
/// Over what time a rate is taken.
const RATE: Duration = Duration::from_mins(1);
/// Of which time the waits for a first token are told.
const FIRSTS: Duration = Duration::from_mins(5);
/// How many of them are kept. Those of a busier network are of a shorter time.
const MOST_FIRSTS: usize = 8192;

/// What is noted as it happens: a short lock each, and nothing that grows with the network.
#[derive(Debug, Default)]
pub(crate) struct Figures(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The seconds of the last minute in which something happened.
    seconds: VecDeque<Second>,
    firsts: VecDeque<(Instant, u32)>,
    /// Since the last minute was written.
    jobs: u64,
    tokens: u64,
    /// When keys were used since then.
    used: HashMap<String, i64>,
}

#[derive(Debug, Clone, Copy)]
struct Second {
    at: Instant,
    jobs: u64,
    tokens: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Rates {
    pub jobs_per_second: f64,
    pub tokens_per_second: f64,
}

/// How long clients waited for the first token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct FirstToken {
    pub p50_ms: u32,
    pub p95_ms: u32,
    pub count: usize,
}

/// Minutes as series of the same length, oldest first. Where nothing was written there is none.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct History {
    pub at_ms: Vec<i64>,
    pub jobs: Vec<i64>,
    pub tokens: Vec<i64>,
    pub first_token_p50_ms: Vec<Option<i64>>,
    pub first_token_p95_ms: Vec<Option<i64>>,
    pub nodes: Vec<i64>,
    pub waiting: Vec<i64>,
}

type MinuteRow = (i64, i64, i64, Option<i64>, Option<i64>, i64, i64);

impl Figures {
    /// A job's output has ended.
    pub(crate) fn job_ended(&self, now: Instant) {
        let mut inner = self.lock();
        inner.second(now).jobs += 1;
        inner.jobs += 1;
    }

    /// Tokens have come from a node.
    pub(crate) fn tokens(&self, count: usize, now: Instant) {
        let mut inner = self.lock();
        inner.second(now).tokens += count as u64;
        inner.tokens += count as u64;
    }

    /// A client's first token has come.
    pub(crate) fn first_token(&self, wait: Duration, now: Instant) {
        let mut inner = self.lock();
        if inner.firsts.len() == MOST_FIRSTS {
            inner.firsts.pop_front();
        }
        let ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        inner.firsts.push_back((now, ms));
    }

    pub(crate) fn key_used(&self, name: &str, now_ms: i64) {
        let mut inner = self.lock();
        match inner.used.get_mut(name) {
            Some(used_ms) => *used_ms = now_ms,
            None => {
                inner.used.insert(name.to_owned(), now_ms);
            }
        }
    }

    /// When keys were used that the database does not know of yet.
    pub(crate) fn used(&self) -> HashMap<String, i64> {
        self.lock().used.clone()
    }

    pub(crate) fn rates(&self, now: Instant) -> Rates {
        let inner = self.lock();
        let last = inner
            .seconds
            .iter()
            .filter(|second| now.duration_since(second.at) < RATE);
        let (jobs, tokens) = last.fold((0, 0), |(jobs, tokens), second| {
            (jobs + second.jobs, tokens + second.tokens)
        });
        let per_second = |count: u64| count as f64 / RATE.as_secs_f64();
        Rates {
            jobs_per_second: per_second(jobs),
            tokens_per_second: per_second(tokens),
        }
    }

    /// Of the last five minutes.
    pub(crate) fn first_tokens(&self, now: Instant) -> Option<FirstToken> {
        self.firsts_within(FIRSTS, now)
    }

    fn firsts_within(&self, span: Duration, now: Instant) -> Option<FirstToken> {
        let mut inner = self.lock();
        while inner
            .firsts
            .front()
            .is_some_and(|(at, _)| now.duration_since(*at) >= FIRSTS)
        {
            inner.firsts.pop_front();
        }
        let within = inner
            .firsts
            .iter()
            .filter(|(at, _)| now.duration_since(*at) < span);
        let mut waits: Vec<_> = within.map(|(_, ms)| *ms).collect();
        drop(inner);
        waits.sort_unstable();
        Some(FirstToken {
            p50_ms: percentile(&waits, 50)?,
            p95_ms: percentile(&waits, 95)?,
            count: waits.len(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing is half changed between two lines that could panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn second(&mut self, now: Instant) -> &mut Second {
        let is_open = |second: &Second| now.duration_since(second.at) < Duration::from_secs(1);
        if !self.seconds.back().is_some_and(is_open) {
            while self
                .seconds
                .front()
                .is_some_and(|second| now.duration_since(second.at) >= RATE)
            {
                self.seconds.pop_front();
            }
            self.seconds.push_back(Second {
                at: now,
                jobs: 0,
                tokens: 0,
            });
        }
        let last = self.seconds.len() - 1;
        &mut self.seconds[last]
    }
}

/// The smallest value that so many percent do not exceed.
fn percentile(sorted: &[u32], percent: usize) -> Option<u32> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

impl Core {
    /// Writes a minute after the other. Never returns.
    pub(crate) async fn keep_minutes(&self) {
        loop {
            let into_minute = self.edges.now_ms().rem_euclid(MINUTE_MS);
            let left = u64::try_from(MINUTE_MS - into_minute).unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(left)).await;
            if let Err(error) = self.write_minute().await {
                tracing::warn!(%error, "the minute's figures could not be written");
            }
        }
    }

    /// Writes what happened since the last call, as the minute that has just ended.
    pub(crate) async fn write_minute(&self) -> Result<(), DbError> {
        let (now, now_ms) = (Instant::now(), self.edges.now_ms());
        let first = self
            .figures
            .firsts_within(Duration::from_millis(MINUTE_MS as u64), now);
        let (jobs, tokens, used) = {
            let mut inner = self.figures.lock();
            let used = std::mem::take(&mut inner.used);
            let counts = (inner.jobs, inner.tokens, used);
            (inner.jobs, inner.tokens) = (0, 0);
            counts
        };
        let (workers, references) = self.nodes.count(now);
        let waiting = self.queues.len(Waits::Worker) + self.queues.len(Waits::Reference);
        let at_ms = (now_ms - 1).div_euclid(MINUTE_MS) * MINUTE_MS;
        let mut write = self.database.write().await?;
        // A balancer that was started again has two parts of one minute.
        sqlx::query(
            "INSERT INTO minutes (at_ms, jobs, tokens, first_token_p50_ms, first_token_p95_ms,
                 nodes, waiting)
             VALUES (?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (at_ms) DO UPDATE SET jobs = jobs + excluded.jobs,
                 tokens = tokens + excluded.tokens, nodes = excluded.nodes,
                 waiting = excluded.waiting,
                 first_token_p50_ms = coalesce(excluded.first_token_p50_ms, first_token_p50_ms),
                 first_token_p95_ms = coalesce(excluded.first_token_p95_ms, first_token_p95_ms)",
        )
        .bind(at_ms)
        .bind(jobs as i64)
        .bind(tokens as i64)
        .bind(first.map(|first| first.p50_ms))
        .bind(first.map(|first| first.p95_ms))
        .bind((workers + references) as i64)
        .bind(waiting as i64)
        .execute(&mut *write)
        .await?;
        for (name, used_ms) in used {
            sqlx::query("INSERT OR REPLACE INTO key_uses (name, used_ms) VALUES (?, ?)")
                .bind(name)
                .bind(used_ms)
                .execute(&mut *write)
                .await?;
        }
        sqlx::query("DELETE FROM minutes WHERE at_ms < ?")
            .bind(at_ms - KEPT_MS)
            .execute(&mut *write)
            .await?;
        write.commit().await
    }
}

/// The minutes since a moment.
pub(crate) async fn history(database: &Database, since_ms: i64) -> Result<History, DbError> {
    let rows: Vec<MinuteRow> = sqlx::query_as(
        "SELECT at_ms, jobs, tokens, first_token_p50_ms, first_token_p95_ms, nodes, waiting
         FROM minutes WHERE at_ms >= ? ORDER BY at_ms",
    )
    .bind(since_ms)
    .fetch_all(database.read())
    .await?;
    let mut history = History::default();
    for (at_ms, jobs, tokens, p50, p95, nodes, waiting) in rows {
        history.at_ms.push(at_ms);
        history.jobs.push(jobs);
        history.tokens.push(tokens);
        history.first_token_p50_ms.push(p50);
        history.first_token_p95_ms.push(p95);
        history.nodes.push(nodes);
        history.waiting.push(waiting);
    }
    Ok(history)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(begin: Instant, ms: u64) -> Instant {
        begin + Duration::from_millis(ms)
    }

    #[test]
    fn rates_are_of_the_last_minute() {
        let figures = Figures::default();
        let begin = Instant::now();
        for second in 0..30 {
            figures.tokens(60, later(begin, second * 1000));
            figures.tokens(60, later(begin, second * 1000 + 500));
            figures.job_ended(later(begin, second * 1000));
        }
        let rates = figures.rates(later(begin, 30_000));
        assert_eq!(rates.tokens_per_second.to_bits(), 60f64.to_bits());
        assert_eq!(rates.jobs_per_second.to_bits(), 0.5f64.to_bits());
        assert_eq!(figures.lock().seconds.len(), 30);
        let quiet = figures.rates(later(begin, 90_000));
        assert_eq!(quiet.tokens_per_second.to_bits(), 0f64.to_bits());
    }

    #[test]
    fn first_tokens_are_of_five_minutes_and_bounded() {
        let figures = Figures::default();
        let begin = Instant::now();
        assert_eq!(figures.first_tokens(begin), None);
        for ms in 1..=100 {
            figures.first_token(Duration::from_millis(ms), begin);
        }
        let told = figures.first_tokens(later(begin, 1000)).unwrap();
        assert_eq!((told.p50_ms, told.p95_ms, told.count), (50, 95, 100));
        assert_eq!(figures.first_tokens(begin + FIRSTS), None);
        for _ in 0..MOST_FIRSTS * 2 {
            figures.first_token(Duration::from_millis(1), begin + FIRSTS);
        }
        assert_eq!(figures.lock().firsts.len(), MOST_FIRSTS);
    }

    #[test]
    fn percentiles_as_a_table() {
        for (sorted, percent, expected) in [
            (&[][..], 50, None),
            (&[7], 50, Some(7)),
            (&[7], 95, Some(7)),
            (&[1, 2], 50, Some(1)),
            (&[1, 2, 3], 50, Some(2)),
            (&[1, 2, 3], 95, Some(3)),
        ] {
            assert_eq!(percentile(sorted, percent), expected);
        }
    }
}
