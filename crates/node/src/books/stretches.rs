//! What the node did when: one stretch of the same state after the other.

use serde::{Deserialize, Serialize};
use sqlx::Row;
use ts_rs::TS;

use crate::state::{StateKind, Summary};
use crate::store::{Store, StoreError, json, to_json};

/// A while in which the node's state stayed the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Stretch {
    /// Unix time in milliseconds.
    pub from_ms: i64,
    /// Unix time in milliseconds.
    pub to_ms: i64,
    /// The state as colour and shape.
    pub kind: StateKind,
    /// The reason, without figures that change all the time. None where it was written by a version
    /// that had other reasons.
    pub summary: Option<Summary>,
}

/// A span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct StretchesQuery {
    /// Unix time in milliseconds.
    pub from_ms: i64,
    /// Unix time in milliseconds; the span ends before it.
    pub to_ms: i64,
}

/// Stretches that are given at once, at most.
const MOST: i64 = 10_000;

impl Store {
    /// Those that touch a span, in their order.
    pub async fn stretches(&self, query: StretchesQuery) -> Result<Vec<Stretch>, StoreError> {
        self.run(async move |connection| {
            let rows = sqlx::query(
                "SELECT from_ms, to_ms, kind, summary FROM stretch
                 WHERE to_ms >= ? AND from_ms < ? ORDER BY from_ms LIMIT ?",
            )
            .bind(query.from_ms)
            .bind(query.to_ms)
            .bind(MOST)
            .fetch_all(connection)
            .await?;
            rows.iter()
                .map(|row| {
                    Ok(Stretch {
                        from_ms: row.try_get("from_ms")?,
                        to_ms: row.try_get("to_ms")?,
                        kind: json(&row.try_get::<String, _>("kind")?)?,
                        summary: serde_json::from_str(row.try_get("summary")?).ok(),
                    })
                })
                .collect()
        })
        .await
    }

    /// Keeps a stretch, or how far one has come that is kept already, and forgets what ended before
    /// `forget_ms`.
    pub async fn keep_stretch(&self, stretch: &Stretch, forget_ms: i64) -> Result<(), StoreError> {
        self.execute(
            sqlx::query(
                "INSERT INTO stretch VALUES (?, ?, ?, ?)
                 ON CONFLICT DO UPDATE SET to_ms = excluded.to_ms",
            )
            .bind(stretch.from_ms)
            .bind(stretch.to_ms)
            .bind(to_json(&stretch.kind))
            .bind(to_json(&stretch.summary)),
        )
        .await?;
        self.execute(sqlx::query("DELETE FROM stretch WHERE to_ms < ?").bind(forget_ms))
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_old_is_forgotten_and_reasons_of_other_versions_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("node.sqlite"))
            .await
            .unwrap();
        let stretch = |from_ms, to_ms| Stretch {
            from_ms,
            to_ms,
            kind: StateKind::Waiting,
            summary: Some(Summary::WaitingForJobs),
        };
        store.keep_stretch(&stretch(0, 10), 0).await.unwrap();
        store.keep_stretch(&stretch(10, 20), 0).await.unwrap();
        // It goes on.
        store.keep_stretch(&stretch(10, 30), 11).await.unwrap();
        let change = "UPDATE stretch SET summary = '{\"summary\":\"of another version\"}'";
        store.execute(sqlx::query(change)).await.unwrap();
        store.keep_stretch(&stretch(30, 40), 11).await.unwrap();
        let of = |from_ms, to_ms| StretchesQuery { from_ms, to_ms };
        let kept = store.stretches(of(0, 100)).await.unwrap();
        let other = Stretch {
            summary: None,
            ..stretch(10, 30)
        };
        assert_eq!(kept, [other.clone(), stretch(30, 40)]);
        assert_eq!(store.stretches(of(0, 30)).await.unwrap(), [other]);
        assert_eq!(store.stretches(of(41, 100)).await.unwrap(), []);
    }
}
