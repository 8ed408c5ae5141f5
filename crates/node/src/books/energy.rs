//! What GPUs drew on each day, and what was done on those days.

use sqlx::{Connection, Row};

use super::sums;
use crate::gpu::Drawn;
use crate::store::{Store, StoreError, from_word, to_word};

/// What a day's work brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DayWork {
    /// Confirmed and pending.
    pub(crate) micro_points: i64,
    /// Written for jobs.
    pub(crate) output_tokens: u64,
}

impl Store {
    /// Adds to what is kept: all of it, or nothing.
    pub(crate) async fn add_energy(&self, drawn: Vec<Drawn>) -> Result<(), StoreError> {
        self.run(async move |connection| {
            let mut transaction = connection.begin().await?;
            for row in drawn {
                sqlx::query(
                    "INSERT INTO energy VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
                        measured_ms = measured_ms + excluded.measured_ms,
                        millijoules = millijoules + excluded.millijoules",
                )
                .bind(row.day_ms)
                .bind(row.adapter)
                .bind(to_word(&row.activity))
                .bind(row.measured_ms)
                .bind(row.millijoules)
                .execute(&mut *transaction)
                .await?;
            }
            transaction.commit().await
        })
        .await
    }

    /// All that is kept, the oldest day first.
    pub(crate) async fn energy(&self) -> Result<Vec<Drawn>, StoreError> {
        self.run(async move |connection| {
            let rows = sqlx::query(
                "SELECT day_ms, adapter, activity, measured_ms, millijoules FROM energy
                 ORDER BY day_ms",
            )
            .fetch_all(connection)
            .await?;
            rows.iter()
                .map(|row| {
                    Ok(Drawn {
                        day_ms: row.try_get(0)?,
                        adapter: row.try_get(1)?,
                        activity: from_word(&row.try_get::<String, _>(2)?)?,
                        measured_ms: row.try_get(3)?,
                        millijoules: row.try_get(4)?,
                    })
                })
                .collect()
        })
        .await
    }

    /// What was done on days that begin at these moments, oldest first; the last one is not over.
    pub(crate) async fn work_by_day(&self, starts: &[i64]) -> Result<Vec<DayWork>, StoreError> {
        let (spans, count) = (sums::spans_from(starts), starts.len());
        self.run(async move |connection| {
            let rows = sqlx::query(
                "SELECT day.key, sum(points),
                    coalesce(sum(CASE kind WHEN 'job' THEN output_tokens END), 0)
                 FROM json_each(?) day CROSS JOIN work
                    ON coalesce(finished_ms, started_ms)
                        BETWEEN day.value ->> 0 AND day.value ->> 1
                 GROUP BY day.key",
            )
            .bind(spans)
            .fetch_all(connection)
            .await?;
            let mut days = vec![DayWork::default(); count];
            for row in &rows {
                if let Some(day) = days.get_mut(row.try_get::<i64, _>(0)? as usize) {
                    day.micro_points = row.try_get(1)?;
                    day.output_tokens = row.try_get::<i64, _>(2)? as u64;
                }
            }
            Ok(days)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Activity;

    fn drawn(day_ms: i64, activity: Activity, measured_ms: i64, millijoules: i64) -> Drawn {
        Drawn {
            day_ms,
            adapter: "0000:01:00.0".to_owned(),
            activity,
            measured_ms,
            millijoules,
        }
    }

    #[tokio::test]
    async fn what_is_drawn_adds_up_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.sqlite");
        let store = Store::open(&path).await.unwrap();
        assert_eq!(store.energy().await.unwrap(), []);
        let first = vec![
            drawn(86_400_000, Activity::Working, 1000, 142_000),
            drawn(0, Activity::Working, 500, 70_000),
        ];
        store.add_energy(first).await.unwrap();
        let more = vec![
            drawn(86_400_000, Activity::Working, 2000, 280_000),
            drawn(86_400_000, Activity::Waiting, 3000, 54_000),
        ];
        store.add_energy(more).await.unwrap();
        store.add_energy(Vec::new()).await.unwrap();
        store.close().await;
        let store = Store::open(&path).await.unwrap();
        let mut kept = store.energy().await.unwrap();
        kept.sort_by_key(|row| (row.day_ms, row.activity));
        assert_eq!(
            kept,
            [
                drawn(0, Activity::Working, 500, 70_000),
                drawn(86_400_000, Activity::Working, 3000, 422_000),
                drawn(86_400_000, Activity::Waiting, 3000, 54_000),
            ]
        );
    }
}
