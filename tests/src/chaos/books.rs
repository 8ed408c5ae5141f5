//! What the balancer's database says when all is over. Read only.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Row, SqliteConnection};
use tokio::runtime::Runtime;
use xtask::Result;

pub(crate) struct Books {
    pub(crate) jobs: HashMap<String, Job>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) nodes: Vec<NodeRecord>,
    /// Balances in micro-points, added up from all postings.
    pub(crate) accounts: BTreeMap<String, i64>,
    /// What nodes got for the operator's own jobs, which the network pays.
    pub(crate) own_jobs: i64,
}

pub(crate) struct Job {
    pub(crate) state: String,
    /// How the output ended.
    pub(crate) ended: Option<String>,
    pub(crate) output_tokens: u64,
}

/// A node's part of a job's output.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) job: String,
    pub(crate) node: String,
    pub(crate) run: i64,
    pub(crate) start: i64,
    pub(crate) paid_tokens: i64,
    pub(crate) failed: bool,
}

pub(crate) struct NodeRecord {
    pub(crate) id: String,
    /// Outputs that were found wrong.
    pub(crate) failures: i64,
    /// Jobs lost, less those verified since.
    pub(crate) lapses: i64,
    /// Why it is no reference any more.
    pub(crate) role_lost: Option<String>,
}

/// How many jobs of clients are not at their end. The operator's own go on for ever.
pub(crate) fn open_jobs(database: &Path) -> Result<i64> {
    Runtime::new()?.block_on(async {
        let mut connection = connect(database).await?;
        let count = sqlx::query_scalar(
            "SELECT count(*) FROM jobs WHERE state <> 'done' AND client <> '#canaries'",
        );
        Ok(count.fetch_one(&mut connection).await?)
    })
}

impl Books {
    pub(crate) fn read(database: &Path) -> Result<Self> {
        Runtime::new()?.block_on(async {
            let mut connection = connect(database).await?;
            let connection = &mut connection;
            Ok(Self {
                jobs: jobs(connection).await?,
                attempts: attempts(connection).await?,
                nodes: nodes(connection).await?,
                accounts: accounts(connection).await?,
                own_jobs: own_jobs(connection).await?,
            })
        })
    }

    pub(crate) fn sum(&self) -> i64 {
        self.accounts.values().sum()
    }

    /// What all accounts together hold whose name begins so.
    pub(crate) fn held_by(&self, prefix: &str) -> i64 {
        let accounts = self.accounts.iter();
        accounts
            .filter(|(name, _)| name.starts_with(prefix))
            .map(|(_, balance)| balance)
            .sum()
    }

    /// Jobs of which a position was paid to two nodes whose work stood.
    pub(crate) fn paid_twice(&self) -> Vec<String> {
        paid_twice(&self.attempts)
    }
}

fn paid_twice(attempts: &[Attempt]) -> Vec<String> {
    let mut runs: BTreeMap<(&str, i64), Vec<(i64, i64)>> = BTreeMap::new();
    for attempt in attempts {
        if attempt.paid_tokens > 0 && !attempt.failed {
            let part = (attempt.start, attempt.start + attempt.paid_tokens);
            let run = (attempt.job.as_str(), attempt.run);
            runs.entry(run).or_default().push(part);
        }
    }
    let overlaps = |parts: &mut Vec<(i64, i64)>| {
        parts.sort_unstable();
        parts.windows(2).any(|pair| pair[0].1 > pair[1].0)
    };
    runs.into_iter()
        .filter_map(|((job, _), mut parts)| overlaps(&mut parts).then(|| job.to_owned()))
        .collect()
}

async fn connect(database: &Path) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename(database)
        .read_only(true);
    Ok(options.connect().await?)
}

async fn jobs(connection: &mut SqliteConnection) -> Result<HashMap<String, Job>> {
    let rows = sqlx::query("SELECT id, state, ended, output_tokens FROM jobs")
        .fetch_all(connection)
        .await?;
    let job = |row: &sqlx::sqlite::SqliteRow| {
        let job = Job {
            state: row.try_get("state")?,
            ended: row.try_get("ended")?,
            output_tokens: row.try_get::<i64, _>("output_tokens")? as u64,
        };
        Ok((row.try_get("id")?, job))
    };
    rows.iter().map(job).collect()
}

async fn attempts(connection: &mut SqliteConnection) -> Result<Vec<Attempt>> {
    let rows = sqlx::query("SELECT job, node, run, start, paid_tokens, verdict FROM attempts")
        .fetch_all(connection)
        .await?;
    let attempt = |row: &sqlx::sqlite::SqliteRow| {
        Ok(Attempt {
            job: row.try_get("job")?,
            node: row.try_get("node")?,
            run: row.try_get("run")?,
            start: row.try_get("start")?,
            paid_tokens: row.try_get("paid_tokens")?,
            failed: row.try_get::<String, _>("verdict")? == "failed",
        })
    };
    rows.iter().map(attempt).collect()
}

async fn nodes(connection: &mut SqliteConnection) -> Result<Vec<NodeRecord>> {
    let rows = sqlx::query("SELECT id, failures, lapses, role_lost FROM nodes")
        .fetch_all(connection)
        .await?;
    let node = |row: &sqlx::sqlite::SqliteRow| {
        Ok(NodeRecord {
            id: row.try_get("id")?,
            failures: row.try_get("failures")?,
            lapses: row.try_get("lapses")?,
            role_lost: row.try_get("role_lost")?,
        })
    };
    rows.iter().map(node).collect()
}

async fn accounts(connection: &mut SqliteConnection) -> Result<BTreeMap<String, i64>> {
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT account, sum(amount) FROM postings GROUP BY account")
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().collect())
}

async fn own_jobs(connection: &mut SqliteConnection) -> Result<i64> {
    // A job's keys begin with its id, so this range is read from the index.
    let sum = sqlx::query_scalar(
        "SELECT coalesce(sum(postings.amount), 0) FROM jobs JOIN postings
             ON postings.key >= 'job:' || jobs.id || ':' AND postings.key < 'job:' || jobs.id || ';'
         WHERE jobs.client = '#canaries' AND postings.account LIKE 'node:%'",
    );
    Ok(sum.fetch_one(connection).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(run: i64, start: i64, paid_tokens: i64, failed: bool) -> Attempt {
        Attempt {
            job: "job".to_owned(),
            node: "node".to_owned(),
            run,
            start,
            paid_tokens,
            failed,
        }
    }

    #[test]
    fn parts_that_follow_each_other_are_paid_once() {
        let attempts = [
            attempt(1, 32, 10, false),
            attempt(1, 0, 32, false),
            attempt(1, 42, 0, false),
        ];
        assert!(paid_twice(&attempts).is_empty());
    }

    #[test]
    fn a_position_that_two_attempts_were_paid_for_is_found() {
        let attempts = [attempt(1, 0, 33, false), attempt(1, 32, 10, false)];
        assert_eq!(paid_twice(&attempts), ["job"]);
    }

    #[test]
    fn what_failed_and_what_another_run_was_paid_do_not_count() {
        let attempts = [
            attempt(1, 0, 33, true),
            attempt(1, 32, 10, false),
            attempt(2, 0, 50, false),
        ];
        assert!(paid_twice(&attempts).is_empty());
    }
}
