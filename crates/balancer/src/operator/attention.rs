//! What somebody who runs the network should look after. Computed when asked for, kept nowhere.

use axum::Json;
use axum::extract::State;
use infera_protocol::NodeId;
use infera_protocol::node_api::Checking;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::access::{KeyRow, key_rows};
use super::call::{Fault, Operator};
use super::models::serves;
use super::{Shared, figures};
use crate::db::{Database, DbError};
use crate::dispatch::Core;

/// From which part of its limit on a key is told of, in percent.
const NEAR_LIMIT: i64 = 90;
/// How many of a kind are told at most.
const MOST_OF_A_KIND: usize = 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Concern {
    /// Nothing can be written.
    Database {
        fault: String,
    },
    NoModels,
    /// A stored model that cannot be served.
    UnusableModel {
        model: String,
        fault: String,
    },
    /// No worker that is here has it.
    UnservedModel {
        model: String,
    },
    /// Answers of it wait unchecked.
    FewReferences {
        model: String,
        here: usize,
        needed: usize,
    },
    /// Jobs that have waited for more than a minute.
    Waiting {
        model: String,
        /// For a reference; else for a worker.
        for_reference: bool,
        count: i64,
        since_ms: i64,
    },
    /// A node that the balancer took a reference's role from.
    RoleLost {
        node: String,
        short: String,
        fault: String,
        at_ms: i64,
    },
    KeyLimit {
        key: String,
        spent_micro: i64,
        limit_micro: i64,
    },
}

pub(super) async fn attention(State(core): Shared, _: Operator) -> Result<Json<Value>, Fault> {
    let mut concerns = Vec::new();
    if let Err(fault) = core.database.health().await {
        concerns.push(Concern::Database { fault });
    }
    concerns.extend(of_models(&core));
    // What is wrong with the database is said, and what it still tells is too.
    let told = async {
        concerns.extend(waiting(&core.database, core.edges.now_ms()).await?);
        concerns.extend(lost_roles(&core.database).await?);
        let keys = key_rows(&core.database, &core.figures.used()).await?;
        concerns.extend(near_limits(&keys).take(MOST_OF_A_KIND));
        Ok::<_, DbError>(())
    };
    if let Err(error) = told.await
        && !matches!(concerns.first(), Some(Concern::Database { .. }))
    {
        let fault = error.to_string();
        concerns.insert(0, Concern::Database { fault });
    }
    Ok(Json(json!({"concerns": concerns})))
}

fn of_models(core: &Core) -> Vec<Concern> {
    let mut concerns = Vec::new();
    let unusable = core.catalog.unusable();
    for model in unusable.iter().take(MOST_OF_A_KIND) {
        concerns.push(Concern::UnusableModel {
            model: model.name.clone(),
            fault: model.fault.clone(),
        });
    }
    let models = core.catalog.list();
    if models.is_empty() && unusable.is_empty() {
        concerns.push(Concern::NoModels);
    }
    let live = core.nodes.views(Instant::now(), core.edges.steady_ms());
    let needed = core.config.references;
    for model in models.iter().take(MOST_OF_A_KIND) {
        let count = |reference| {
            let has = |view: &&_| serves(view, model.id, reference);
            live.iter().filter(has).count()
        };
        if count(false) == 0 {
            concerns.push(Concern::UnservedModel {
                model: model.name.clone(),
            });
        }
        let here = count(true);
        if core.config.checking == Checking::Always && here < needed {
            concerns.push(Concern::FewReferences {
                model: model.name.clone(),
                here,
                needed,
            });
        }
    }
    concerns
}

async fn waiting(database: &Database, now_ms: i64) -> Result<Vec<Concern>, DbError> {
    let rows: Vec<(String, bool, i64, i64)> = sqlx::query_as(
        "SELECT model_name, state = 'auditing', count(*), min(coalesce(finished_ms, created_ms))
         FROM jobs
         WHERE state <> 'done' AND coalesce(finished_ms, created_ms) < ?
             AND (state = 'auditing' OR NOT EXISTS (SELECT 1 FROM attempts a
                 WHERE a.job = jobs.id AND a.ended_ms IS NULL))
         GROUP BY 1, 2 ORDER BY 4 LIMIT 20",
    )
    .bind(now_ms - figures::MINUTE_MS)
    .fetch_all(database.read())
    .await?;
    let concern = |(model, for_reference, count, since_ms)| Concern::Waiting {
        model,
        for_reference,
        count,
        since_ms,
    };
    Ok(rows.into_iter().map(concern).collect())
}

async fn lost_roles(database: &Database) -> Result<Vec<Concern>, DbError> {
    let rows: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT id, coalesce(role_lost, ''), role_lost_ms FROM nodes
         WHERE role_lost_ms IS NOT NULL ORDER BY role_lost_ms DESC LIMIT 20",
    )
    .fetch_all(database.read())
    .await?;
    let concern = |(node, fault, at_ms): (String, String, i64)| Concern::RoleLost {
        short: node
            .parse::<NodeId>()
            .map_or_else(|_| node.clone(), |id| id.short()),
        node,
        fault,
        at_ms,
    };
    Ok(rows.into_iter().map(concern).collect())
}

fn near_limits(keys: &[KeyRow]) -> impl Iterator<Item = Concern> {
    keys.iter().filter_map(|key| {
        let limit = key.limit_micro.filter(|_| key.revoked_ms.is_none())?;
        let is_near =
            i128::from(key.spent_micro) * 100 >= i128::from(limit) * i128::from(NEAR_LIMIT);
        is_near.then(|| Concern::KeyLimit {
            key: key.name.clone(),
            spent_micro: key.spent_micro,
            limit_micro: limit,
        })
    })
}
