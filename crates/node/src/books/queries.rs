//! The books in SQL. A list finds its rows in one index and reads only the page from the table.

use infera_protocol::node_api::Points;
use jiff::Zoned;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Connection, QueryBuilder, Row, Sqlite};

use super::csv;
use super::sums::{self, Worked};
use super::{
    Consumption, DeviceToday, Earnings, EarningsBucket, EarningsQuery, Estimate, JobRow, JobsPage,
    JobsQuery, JobsSort, PointSums, Today,
};
use crate::store::{Store, StoreError, job_row, to_word};

/// No list is longer than this.
const MAX_ROWS: u32 = 1000;

/// When a piece of work counts: at its end, or at its beginning while that is unknown.
const ENDED: &str = "coalesce(finished_ms, started_ms)";

impl Store {
    /// Part of the jobs that a query finds, and the sums over all of them.
    pub async fn jobs(&self, query: JobsQuery) -> Result<JobsPage, StoreError> {
        self.run(async move |connection| {
            let mut transaction = connection.begin().await?;
            let mut sums = QueryBuilder::new(
                "SELECT count(*), coalesce(sum(points), 0), coalesce(sum(input_tokens), 0),
                    coalesce(sum(output_tokens), 0) FROM work",
            );
            push_filter(&mut sums, &query);
            let sums = sums.build().fetch_one(&mut *transaction).await?;
            let mut page = JobsPage {
                jobs: Vec::new(),
                count: sums.try_get::<i64, _>(0)? as u64,
                total_micro_points: sums.try_get(1)?,
                total_input_tokens: sums.try_get::<i64, _>(2)? as u64,
                total_output_tokens: sums.try_get::<i64, _>(3)? as u64,
            };
            if query.limit > 0 {
                let limit = query.limit.min(MAX_ROWS);
                let rows = rows(&query, Some((limit, query.offset)))
                    .build()
                    .fetch_all(&mut *transaction)
                    .await?;
                page.jobs = rows.iter().map(job_row).collect::<Result<_, _>>()?;
            }
            Ok(page)
        })
        .await
    }

    /// All that a query finds, as the text of a CSV file.
    pub async fn jobs_csv(&self, query: JobsQuery) -> Result<String, StoreError> {
        self.run(async move |connection| {
            let rows = rows(&query, None).build().fetch_all(connection).await?;
            let rows: Vec<JobRow> = rows.iter().map(job_row).collect::<Result<_, _>>()?;
            Ok(csv::jobs(&rows))
        })
        .await
    }

    /// Points over time in the time zone of `now`. `points` is what that network's balancer counts, if
    /// it has told; the estimate looks back no further than `since_ms`.
    pub async fn earnings(
        &self,
        query: EarningsQuery,
        points: Option<Points>,
        now: &Zoned,
        since_ms: Option<i64>,
    ) -> Result<Earnings, StoreError> {
        let estimate = self
            .estimate(now.timestamp().as_millisecond(), since_ms)
            .await?;
        let now = now.clone();
        self.run(async move |connection| {
            let mut transaction = connection.begin().await?;
            let first: Option<i64> =
                sqlx::query_scalar(AssertSqlSafe(format!(
                    "SELECT min({ENDED}) FROM work WHERE ?1 IS NULL OR network = ?1"
                )))
                    .bind(query.network.clone())
                    .fetch_one(&mut *transaction)
                    .await?;
            let starts = sums::bucket_starts(query.period, first, &now);
            let mut buckets: Vec<_> = starts
                .iter()
                .map(|start_ms| EarningsBucket {
                    start_ms: *start_ms,
                    ..EarningsBucket::default()
                })
                .collect();
            let rows = sqlx::query(AssertSqlSafe(format!(
                "SELECT bucket.key, coalesce(sum(CASE verdict WHEN 'pending' THEN 0 ELSE points END), 0),
                    coalesce(sum(CASE verdict WHEN 'pending' THEN points END), 0),
                    coalesce(sum(forfeited), 0), sum(kind = 'job'),
                    coalesce(sum(CASE kind WHEN 'job' THEN output_tokens END), 0)
                 FROM json_each(?1) bucket CROSS JOIN work
                    ON {ENDED} BETWEEN bucket.value ->> 0 AND bucket.value ->> 1
                 WHERE ?2 IS NULL OR network = ?2
                 GROUP BY bucket.key"
            )))
            .bind(sums::spans(&starts))
            .bind(query.network)
            .fetch_all(&mut *transaction)
            .await?;
            for row in &rows {
                if let Some(bucket) = buckets.get_mut(row.try_get::<i64, _>(0)? as usize) {
                    bucket.points = point_sums(row, 1)?;
                    bucket.jobs = row.try_get(4)?;
                    bucket.output_tokens = row.try_get::<i64, _>(5)? as u64;
                }
            }
            let listed = sums::add(buckets.iter().map(|bucket| bucket.points));
            let unlisted = sums::unlisted(points, listed);
            Ok(Earnings {
                total: sums::add([listed, unlisted].into_iter()),
                buckets,
                unlisted,
                estimate,
                // What the program measured is added to it.
                consumption: Consumption::default(),
            })
        })
        .await
    }

    /// What a day like the last quarter of an hour would earn. None until the node has worked for
    /// five minutes of it. What was before `since_ms` does not count: another GPU or model.
    pub async fn estimate(
        &self,
        now_ms: i64,
        since_ms: Option<i64>,
    ) -> Result<Option<Estimate>, StoreError> {
        let since_ms = sums::estimate_since(now_ms, since_ms);
        self.run(async move |connection| {
            let rows = sqlx::query(AssertSqlSafe(format!(
                "SELECT started_ms, {ENDED}, points FROM work WHERE {ENDED} > ?"
            )))
            .bind(since_ms)
            .fetch_all(connection)
            .await?;
            let worked = rows
                .iter()
                .map(|row| {
                    Ok(Worked {
                        from_ms: row.try_get(0)?,
                        to_ms: row.try_get(1)?,
                        micro_points: row.try_get(2)?,
                    })
                })
                .collect::<Result<Vec<_>, sqlx::Error>>()?;
            Ok(sums::estimate(worked, since_ms, now_ms))
        })
        .await
    }

    /// The figures of the day that `now` is in.
    pub async fn today(&self, now: &Zoned) -> Result<Today, StoreError> {
        let start_ms = sums::day_start(now);
        self.run(async move |connection| {
            let mut transaction = connection.begin().await?;
            let devices = sqlx::query(AssertSqlSafe(format!(
                "SELECT device, coalesce(sum(points), 0), coalesce(sum(kind = 'job'), 0)
                 FROM work WHERE {ENDED} >= ? AND device IS NOT NULL GROUP BY device"
            )))
            .bind(start_ms)
            .fetch_all(&mut *transaction)
            .await?;
            let devices = devices.iter().map(|row| {
                Ok(DeviceToday {
                    device: row.try_get(0)?,
                    micro_points: row.try_get(1)?,
                    jobs: row.try_get(2)?,
                })
            });
            let row = sqlx::query(AssertSqlSafe(format!(
                "SELECT coalesce(sum(points), 0), coalesce(sum(kind = 'job'), 0),
                    coalesce(sum(kind = 'job' AND verdict = 'verified'), 0),
                    coalesce(sum(kind = 'job' AND verdict = 'pending'), 0),
                    coalesce(sum(kind = 'job' AND verdict = 'failed'), 0)
                 FROM work WHERE {ENDED} >= ?"
            )))
            .bind(start_ms)
            .fetch_one(&mut *transaction)
            .await?;
            Ok(Today {
                micro_points: row.try_get(0)?,
                jobs: row.try_get(1)?,
                verified: row.try_get(2)?,
                pending: row.try_get(3)?,
                failed: row.try_get(4)?,
                devices: devices.collect::<Result<_, sqlx::Error>>()?,
            })
        })
        .await
    }
}

/// The rows of a query in its order, all of them or `(limit, offset)`.
fn rows(query: &JobsQuery, part: Option<(u32, u32)>) -> QueryBuilder<Sqlite> {
    let order = order(query);
    let mut rows = QueryBuilder::new("WITH page AS (SELECT kind, id, attempt FROM work");
    push_filter(&mut rows, query);
    if let Some((limit, offset)) = part {
        rows.push(" ORDER BY ").push(&order);
        rows.push(" LIMIT ").push_bind(limit);
        rows.push(" OFFSET ").push_bind(offset);
    }
    rows.push(") SELECT work.* FROM page JOIN work USING (kind, id, attempt) ORDER BY ")
        .push(&order);
    rows
}

fn push_filter(sql: &mut QueryBuilder<Sqlite>, query: &JobsQuery) {
    sql.push(" WHERE TRUE");
    let search = query.search.trim();
    if !search.is_empty() {
        let pattern = like_pattern(search);
        sql.push(" AND (model_name LIKE ")
            .push_bind(pattern.clone())
            .push(" ESCAPE '\\' OR id LIKE ")
            .push_bind(pattern)
            .push(" ESCAPE '\\')");
    }
    if let Some(verdict) = &query.verdict {
        sql.push(" AND verdict = ").push_bind(to_word(verdict));
    }
    if let Some(kind) = &query.kind {
        // The plus keeps SQLite from walking the whole table by its primary key.
        sql.push(" AND +kind = ").push_bind(to_word(kind));
    }
    if let Some(network) = &query.network {
        sql.push(" AND network = ").push_bind(network.clone());
    }
    if let Some(since_ms) = query.since_ms {
        sql.push(" AND started_ms >= ").push_bind(since_ms);
    }
    if let Some(until_ms) = query.until_ms {
        sql.push(" AND started_ms < ").push_bind(until_ms);
    }
}

/// Equal rows stand newest first, and what is unknown comes last.
fn order(query: &JobsQuery) -> String {
    let column = match query.sort {
        JobsSort::Started => "started_ms",
        JobsSort::Model => "model_name COLLATE NOCASE",
        JobsSort::InputTokens => "input_tokens",
        JobsSort::OutputTokens => "output_tokens",
        JobsSort::TokensPerSecond => "tokens_per_second",
        JobsSort::Duration => "max(finished_ms - started_ms, 0)",
        JobsSort::Verdict => "verdict",
        JobsSort::Points => "points",
    };
    let direction = if query.ascending { "ASC" } else { "DESC" };
    format!("{column} {direction} NULLS LAST, started_ms DESC, kind DESC, id DESC, attempt DESC")
}

fn like_pattern(text: &str) -> String {
    let mut pattern = "%".to_owned();
    for letter in text.chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern + "%"
}

fn point_sums(row: &SqliteRow, first: usize) -> Result<PointSums, sqlx::Error> {
    Ok(PointSums {
        confirmed: row.try_get(first)?,
        pending: row.try_get(first + 1)?,
        forfeited: row.try_get(first + 2)?,
    })
}

#[cfg(test)]
mod tests {
    use infera_protocol::ModelId;
    use infera_protocol::node_api::{
        ReferenceFigures, ReferenceFinding, VerdictStatus, WorkKind, WorkRecord,
    };
    use jiff::Timestamp;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;
    use crate::books::Period;

    async fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("node.sqlite"))
            .await
            .unwrap();
        (folder, store)
    }

    fn row(id: &str, started_ms: i64) -> JobRow {
        JobRow {
            record: WorkRecord {
                kind: WorkKind::Job,
                id: id.to_owned(),
                attempt: 1,
                model: ModelId::from_bytes([1; 32]),
                model_name: "tiny".to_owned(),
                input_tokens: 3,
                output_tokens: 40,
                started_ms,
                finished_ms: Some(started_ms + 1000),
                verdict: VerdictStatus::Verified,
                reason: "Two references agree".to_owned(),
                points: 1_000_000,
                forfeited: None,
                references: Vec::new(),
            },
            tokens_per_second: Some(10.0),
            device: None,
            network: None,
        }
    }

    async fn fill(store: &Store, rows: impl IntoIterator<Item = JobRow>) {
        for row in rows {
            store.record(row).await.unwrap();
        }
    }

    fn all() -> JobsQuery {
        JobsQuery {
            limit: 1000,
            ..JobsQuery::default()
        }
    }

    async fn ids(store: &Store, query: JobsQuery) -> Vec<String> {
        let page = store.jobs(query).await.unwrap();
        page.jobs.into_iter().map(|row| row.record.id).collect()
    }

    #[tokio::test]
    async fn filters_as_a_table() {
        let (_folder, store) = store().await;
        let mut rows = [
            row("aa11", 10),
            row("bb22", 20),
            row("cc33", 30),
            row("dd44", 40),
        ];
        rows[0].record.model_name = "Llama_3 100%".to_owned();
        rows[1].record.model_name = "llamaX3".to_owned();
        rows[2].record.verdict = VerdictStatus::Failed;
        rows[3].record.kind = WorkKind::Audit;
        rows[3].record.verdict = VerdictStatus::Pending;
        fill(&store, rows).await;
        let search = |text: &str| JobsQuery {
            search: text.to_owned(),
            ..all()
        };
        let cases = [
            (all(), vec!["dd44", "cc33", "bb22", "aa11"]),
            (search("LLAMA"), vec!["bb22", "aa11"]),
            (search("llama_3"), vec!["aa11"]),
            (search(" 100% "), vec!["aa11"]),
            (search("c3"), vec!["cc33"]),
            (search("' OR 1=1 --"), vec![]),
            (search("\\"), vec![]),
            (
                JobsQuery {
                    verdict: Some(VerdictStatus::Failed),
                    ..all()
                },
                vec!["cc33"],
            ),
            (
                JobsQuery {
                    kind: Some(WorkKind::Audit),
                    ..all()
                },
                vec!["dd44"],
            ),
            (
                JobsQuery {
                    since_ms: Some(20),
                    until_ms: Some(40),
                    ..all()
                },
                vec!["cc33", "bb22"],
            ),
            (
                JobsQuery {
                    since_ms: Some(20),
                    kind: Some(WorkKind::Job),
                    verdict: Some(VerdictStatus::Verified),
                    ..search("tiny")
                },
                vec![],
            ),
        ];
        for (query, expected) in cases {
            assert_eq!(ids(&store, query.clone()).await, expected, "{query:?}");
            let csv = store.jobs_csv(query).await.unwrap();
            let mut listed: Vec<_> = csv
                .lines()
                .skip(1)
                .map(|line| line.split(',').nth(1).unwrap())
                .collect();
            listed.sort_unstable();
            let mut expected = expected;
            expected.sort_unstable();
            assert_eq!(listed, expected);
        }
    }

    #[tokio::test]
    async fn the_books_of_each_network_stand_by_themselves() {
        let (_folder, store) = store().await;
        let of = |id: &str, network: Option<&str>| JobRow {
            network: network.map(str::to_owned),
            ..row(id, 10)
        };
        fill(&store, [of("old", None), of("a1", Some("https://a"))]).await;
        store.adopt_work("https://a").await.unwrap();
        fill(&store, [of("b1", Some("https://b"))]).await;
        store.adopt_work("https://b").await.unwrap();
        let query = |network: Option<&str>| JobsQuery {
            network: network.map(str::to_owned),
            ..all()
        };
        for (network, expected) in [
            (Some("https://a"), vec!["old", "a1"]),
            (Some("https://b"), vec!["b1"]),
            (Some("https://c"), vec![]),
            (None, vec!["old", "b1", "a1"]),
        ] {
            assert_eq!(ids(&store, query(network)).await, expected, "{network:?}");
            let asked = EarningsQuery {
                period: Period::Day,
                network: network.map(str::to_owned),
            };
            let now = Timestamp::from_millisecond(20_000).unwrap();
            let now = now.to_zoned(TimeZone::UTC);
            let earnings = store.earnings(asked, None, &now, None).await.unwrap();
            assert_eq!(
                earnings.total.confirmed,
                1_000_000 * expected.len() as i64,
                "{network:?}"
            );
        }
        // Another network cannot rewrite what was done for this one.
        let mut forged = of("a1", Some("https://b"));
        forged.record.verdict = VerdictStatus::Failed;
        forged.record.points = -5_000_000;
        fill(&store, [forged]).await;
        let page = store.jobs(query(Some("https://a"))).await.unwrap();
        assert_eq!(page.total_micro_points, 2_000_000);
    }

    #[tokio::test]
    async fn every_column_sorts_both_ways_and_what_is_unknown_comes_last() {
        use JobsSort::{
            Duration, InputTokens, Model, OutputTokens, Points, Started, TokensPerSecond, Verdict,
        };
        let (_folder, store) = store().await;
        let mut rows = [row("a", 10), row("b", 20), row("c", 30)];
        rows[0].record.model_name = "beta".to_owned();
        rows[1].record.model_name = "Alpha".to_owned();
        rows[2].record.model_name = "gamma".to_owned();
        for (row, (input, output, points, verdict)) in rows.iter_mut().zip([
            (5, 9, 7, VerdictStatus::Verified),
            (6, 8, -7, VerdictStatus::Failed),
            (4, 7, 0, VerdictStatus::Pending),
        ]) {
            row.record.input_tokens = input;
            row.record.output_tokens = output;
            row.record.points = points;
            row.record.verdict = verdict;
        }
        rows[0].record.finished_ms = None;
        rows[1].record.finished_ms = Some(21);
        rows[1].tokens_per_second = None;
        rows[2].tokens_per_second = Some(99.0);
        fill(&store, rows).await;
        let cases = [
            (Started, "abc", "cba"),
            (Model, "bac", "cab"),
            (InputTokens, "cab", "bac"),
            (OutputTokens, "cba", "abc"),
            (TokensPerSecond, "acb", "cab"),
            (Duration, "bca", "cba"),
            (Verdict, "bca", "acb"),
            (Points, "bca", "acb"),
        ];
        for (sort, upwards, downwards) in cases {
            for (ascending, expected) in [(true, upwards), (false, downwards)] {
                let query = JobsQuery {
                    sort,
                    ascending,
                    ..all()
                };
                assert_eq!(ids(&store, query).await.concat(), expected, "{sort:?}");
            }
        }
    }

    #[tokio::test]
    async fn pages_have_no_gap_and_the_sums_are_of_the_whole_query() {
        let (_folder, store) = store().await;
        // All at the same time: their order is fixed all the same.
        fill(
            &store,
            (0..25).map(|number| row(&format!("{number:02}"), 5)),
        )
        .await;
        let mut seen = Vec::new();
        for offset in [0, 10, 20, 30] {
            let page = store
                .jobs(JobsQuery {
                    offset,
                    limit: 10,
                    sort: JobsSort::Points,
                    ..JobsQuery::default()
                })
                .await
                .unwrap();
            assert_eq!((page.count, page.total_micro_points), (25, 25_000_000));
            assert_eq!(
                (page.total_input_tokens, page.total_output_tokens),
                (75, 1000)
            );
            seen.extend(page.jobs.into_iter().map(|row| row.record.id));
        }
        let mut expected: Vec<_> = (0..25).map(|number| format!("{number:02}")).collect();
        expected.reverse();
        assert_eq!(seen, expected);
        let counted = store.jobs(JobsQuery::default()).await.unwrap();
        assert_eq!((counted.count, counted.jobs.len()), (25, 0));
    }

    #[tokio::test]
    async fn what_the_balancer_tells_later_is_added_and_nothing_final_is_undone() {
        let (_folder, store) = store().await;
        let own = row("a", 1000);
        let figures = ReferenceFigures {
            reference: "0011aabb".to_owned(),
            finding: ReferenceFinding::Fail,
            positions: 40,
            mismatches: 20,
            largest_margin: 77.5,
        };
        let mut pending = own.clone();
        pending.record.verdict = VerdictStatus::Pending;
        pending.record.reason = String::new();
        // The balancer's clock is an hour ahead.
        pending.record.started_ms += 3_600_000;
        pending.record.finished_ms = pending.record.finished_ms.map(|ms| ms + 3_600_000);
        pending.tokens_per_second = None;
        let mut failed = pending.clone();
        failed.record.verdict = VerdictStatus::Failed;
        failed.record.points = 0;
        failed.record.forfeited = Some(1_000_000);
        failed.record.references = vec![figures.clone()];
        let mut first = own;
        first.record.verdict = VerdictStatus::Pending;
        first.record.points = 0;
        first.record.reason = String::new();
        fill(&store, [first, pending.clone()]).await;
        let page = store.jobs(all()).await.unwrap();
        assert_eq!(page.jobs[0].record.points, 1_000_000);
        // Late and out of order.
        fill(&store, [failed, pending]).await;
        let page = store.jobs(all()).await.unwrap();
        assert_eq!(page.count, 1);
        let row = &page.jobs[0];
        assert_eq!(row.record.verdict, VerdictStatus::Failed);
        assert_eq!(
            (row.record.points, row.record.forfeited),
            (0, Some(1_000_000))
        );
        assert_eq!(row.record.references, [figures]);
        assert_eq!(row.tokens_per_second, Some(10.0));
        assert_eq!(
            (row.record.started_ms, row.record.finished_ms),
            (1000, Some(2000))
        );
    }

    #[tokio::test]
    async fn work_that_was_seen_open_takes_both_times_from_who_tells_the_end() {
        let (_folder, store) = store().await;
        let mut open = row("a", 5000);
        open.record.finished_ms = None;
        fill(&store, [open, row("a", 1000)]).await;
        let page = store.jobs(all()).await.unwrap();
        let record = &page.jobs[0].record;
        assert_eq!((record.started_ms, record.finished_ms), (1000, Some(2000)));
    }

    #[tokio::test]
    async fn forfeited_pending_and_paid_checks_of_failed_work_are_told_apart() {
        let (_folder, store) = store().await;
        let now: Zoned = "2026-05-02T12:00[Europe/Berlin]".parse().unwrap();
        let now_ms = now.timestamp().as_millisecond();
        let day = 24 * 3_600_000;
        let mut rows = [
            row("verified", now_ms - 5000),
            row("sampled", now_ms - 5000),
            row("pending", now_ms - 5000),
            row("failed", now_ms - 5000),
            row("audit", now_ms - 5000),
            row("yesterday", now_ms - day),
        ];
        rows[1].record.verdict = VerdictStatus::SampledOut;
        rows[2].record.verdict = VerdictStatus::Pending;
        rows[3].record.verdict = VerdictStatus::Failed;
        rows[3].record.points = 0;
        rows[3].record.forfeited = Some(700);
        // A reference is paid, whatever became of the job that it checked.
        rows[4].record.kind = WorkKind::Audit;
        rows[4].record.verdict = VerdictStatus::Failed;
        rows[4].record.points = 90;
        // What this program did not see computed is no device's.
        rows[1].device = Some("cpu".to_owned());
        fill(&store, rows).await;
        let points = Points {
            confirmed: 3_500_090,
            pending: 1_000_000,
            forfeited: 700,
        };
        let query = EarningsQuery {
            period: Period::Day,
            network: None,
        };
        let earnings = store
            .earnings(query, Some(points), &now, None)
            .await
            .unwrap();
        assert_eq!(earnings.buckets.len(), 2);
        let today = &earnings.buckets[1];
        assert_eq!(today.start_ms, now_ms - 12 * 3_600_000);
        assert_eq!(
            today.points,
            PointSums {
                confirmed: 2_000_090,
                pending: 1_000_000,
                forfeited: 700
            }
        );
        assert_eq!((today.jobs, today.output_tokens), (4, 160));
        assert_eq!(
            earnings.unlisted,
            PointSums {
                confirmed: 500_000,
                ..PointSums::default()
            }
        );
        assert_eq!(earnings.total.confirmed, points.confirmed);
        assert_eq!(earnings.estimate, None);
        assert_eq!(
            store.today(&now).await.unwrap(),
            Today {
                micro_points: 3_000_090,
                jobs: 4,
                verified: 1,
                pending: 1,
                failed: 1,
                devices: vec![DeviceToday {
                    device: "cpu".to_owned(),
                    micro_points: 1_000_000,
                    jobs: 1
                }]
            }
        );
    }

    #[tokio::test]
    async fn the_estimate_appears_after_five_minutes_of_work() {
        let (_folder, store) = store().await;
        let now_ms = 1_000_000_000;
        let mut work = row("a", now_ms - 300_000);
        work.record.finished_ms = Some(now_ms - 1);
        fill(&store, [work.clone()]).await;
        assert_eq!(store.estimate(now_ms, None).await.unwrap(), None);
        work.record.id = "b".to_owned();
        work.record.started_ms -= 60_000;
        fill(&store, [work]).await;
        let estimate = store.estimate(now_ms, None).await.unwrap().unwrap();
        assert_eq!(
            (estimate.micro_points_per_day, estimate.basis_seconds),
            (192_000_000, 359)
        );
        let changed = Some(now_ms - 200_000);
        assert_eq!(store.estimate(now_ms, changed).await.unwrap(), None);
    }

    /// Writes rows in one statement.
    async fn generate(store: &Store, rows: u32) {
        store
            .run(async move |connection| {
                sqlx::query(
                    "WITH RECURSIVE number (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < ?)
                     INSERT INTO work (kind, id, attempt, model, model_name, input_tokens,
                        output_tokens, started_ms, finished_ms, tokens_per_second, verdict, reason,
                        points)
                     SELECT 'job', printf('%032x', n * 7919), 1, printf('%064x', 1),
                        'model-' || (n % 10), n % 4096, n % 512, 1700000000000 + n * 60000,
                        1700000000000 + n * 60000 + n % 30000, n % 60, 'verified', 'Agreed', n
                     FROM number",
                )
                .bind(rows)
                .execute(connection)
                .await?;
                Ok(())
            })
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_hundred_thousand_jobs_are_listed_from_an_index() {
        let (_folder, store) = store().await;
        generate(&store, 100_000).await;
        let query = JobsQuery {
            search: "MODEL-3".to_owned(),
            sort: JobsSort::Points,
            ascending: true,
            offset: 9_990,
            limit: 100,
            ..JobsQuery::default()
        };
        let page = store.jobs(query).await.unwrap();
        assert_eq!((page.count, page.jobs.len()), (10_000, 10));
        assert_eq!(page.jobs[9].record.points, 99_993);
        assert_eq!(page.total_micro_points, 499_980_000);
        let now = Timestamp::from_millisecond(1_700_000_000_000 + 99_999 * 60_000)
            .unwrap()
            .to_zoned(TimeZone::get("America/Los_Angeles").unwrap());
        let query = EarningsQuery {
            period: Period::Day,
            network: None,
        };
        let earnings = store.earnings(query, None, &now, None).await.unwrap();
        assert_eq!(earnings.total.confirmed, 4_999_950_000);
        assert!(earnings.buckets.iter().all(|bucket| bucket.jobs > 0));
        for sort in [
            JobsSort::Started,
            JobsSort::Model,
            JobsSort::InputTokens,
            JobsSort::OutputTokens,
            JobsSort::TokensPerSecond,
            JobsSort::Duration,
            JobsSort::Verdict,
            JobsSort::Points,
        ] {
            let query = JobsQuery {
                search: "x".to_owned(),
                verdict: Some(VerdictStatus::Verified),
                kind: Some(WorkKind::Job),
                sort,
                ..all()
            };
            let sql = rows(&query, Some((100, 0))).into_string();
            let plan = plan(&store, sql).await;
            assert!(
                plan.contains("work USING COVERING INDEX work_by_"),
                "{sort:?}: {plan}"
            );
            assert!(!plan.contains("SCAN work\n"), "{sort:?}: {plan}");
        }
    }

    async fn plan(store: &Store, sql: String) -> String {
        let rows = store
            .run(async move |connection| {
                sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")))
                    .fetch_all(connection)
                    .await
            })
            .await
            .unwrap();
        rows.iter()
            .map(|row| row.get::<String, _>("detail") + "\n")
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        #[test]
        fn totals_are_the_sum_of_the_buckets_and_what_is_not_listed(
            work in proptest::collection::vec(
                (-200_000_000i64..1_000_000_000, 0i64..100_000, 0i64..1_000_000, 0u8..5),
                0..20,
            ),
            counted in proptest::option::of((0i64..20_000_000, 0i64..2_000_000, 0i64..2_000_000)),
            zone in prop::sample::select(vec![
                "UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia",
            ]),
            period in prop::sample::select(vec![Period::Day, Period::Week, Period::Month]),
        ) {
            let now = Timestamp::from_second(1_775_000_000)
                .unwrap()
                .to_zoned(TimeZone::get(zone).unwrap());
            let now_ms = now.timestamp().as_millisecond();
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let counted = counted.map(|(confirmed, pending, forfeited)| Points {
                confirmed,
                pending,
                forfeited,
            });
            let query = EarningsQuery {
                period,
                network: None,
            };
            let (earnings, page) = runtime.block_on(async {
                let (_folder, store) = store().await;
                let rows = work.iter().enumerate().map(|(number, (ago, took, points, verdict))| {
                    let mut row = row(&number.to_string(), now_ms - ago * 60);
                    row.record.finished_ms = Some(row.record.started_ms + took);
                    row.record.verdict = match verdict {
                        0 => VerdictStatus::Failed,
                        1 => VerdictStatus::SampledOut,
                        2 => VerdictStatus::Pending,
                        _ => VerdictStatus::Verified,
                    };
                    if *verdict == 0 {
                        row.record.forfeited = Some(*points);
                        row.record.points = 0;
                    } else {
                        row.record.points = *points;
                    }
                    row
                });
                fill(&store, rows).await;
                let earnings = store.earnings(query, counted, &now, None).await.unwrap();
                (earnings, store.jobs(JobsQuery::default()).await.unwrap())
            });
            let listed = sums::add(earnings.buckets.iter().map(|bucket| bucket.points));
            prop_assert_eq!(sums::add([listed, earnings.unlisted].into_iter()), earnings.total);
            prop_assert_eq!(listed.confirmed + listed.pending, page.total_micro_points);
            let jobs: u32 = earnings.buckets.iter().map(|bucket| bucket.jobs).sum();
            prop_assert_eq!(u64::from(jobs), page.count);
            let unlisted = earnings.unlisted;
            prop_assert!(unlisted.confirmed >= 0 && unlisted.pending >= 0 && unlisted.forfeited >= 0);
            if let Some(counted) = counted {
                let all = |sums: PointSums| sums.confirmed + sums.pending + sums.forfeited;
                let counted = counted.confirmed + counted.pending + counted.forfeited;
                prop_assert_eq!(all(earnings.total), counted.max(all(listed)));
            }
            prop_assert!(earnings.buckets.windows(2).all(|pair| pair[0].start_ms < pair[1].start_ms));
            let current = earnings.buckets.last().unwrap().start_ms;
            prop_assert!(current <= now_ms && now_ms - current <= 32 * 86_400_000);
        }
    }
}
