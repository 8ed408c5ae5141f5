//! How the network does, now and over time, and what it asks of nodes.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use infera_protocol::node_api::Checking;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Shared;
use super::call::{Asking, Fault, Operator};
use super::figures::{self, History, MINUTE_MS};
use super::nodes::{NodeCondition, condition};
use crate::dispatch::Core;
use crate::queues::Waits;

pub(super) fn name(core: &Core) -> &str {
    core.config.name.as_ref().unwrap_or(&core.policy.name)
}

pub(super) async fn now(State(core): Shared, _: Operator) -> Result<Json<Value>, Fault> {
    let now = Instant::now();
    let steady_ms = core.edges.steady_ms();
    let live = core.nodes.views(now, steady_ms);
    let mut states: BTreeMap<NodeCondition, usize> = BTreeMap::new();
    for view in live.iter().filter(|view| view.here) {
        *states.entry(condition(view)).or_default() += 1;
    }
    let models: Vec<_> = core
        .catalog
        .list()
        .iter()
        .map(|model| {
            let count = |reference| {
                let has = |view: &&_| super::models::serves(view, model.id, reference);
                live.iter().filter(has).count()
            };
            json!({
                "name": model.name, "model": model.id,
                "workers": count(false), "references": count(true),
            })
        })
        .collect();
    let waiting: Vec<_> = core
        .queues
        .lengths()
        .into_iter()
        .filter_map(|(model, waits, count)| {
            let model = core
                .catalog
                .list()
                .into_iter()
                .find(|one| one.id == model)?;
            Some(json!({"model": model.name, "for": word(waits), "count": count}))
        })
        .collect();
    let rates = core.figures.rates(now);
    Ok(Json(json!({
        "at_ms": core.edges.now_ms(),
        "started_ms": core.started_ms(),
        "jobs_per_second": rates.jobs_per_second,
        "tokens_per_second": rates.tokens_per_second,
        "first_token": core.figures.first_tokens(now),
        "jobs_live": core.live_jobs(),
        "waiting": waiting,
        "nodes": {
            "here": live.iter().filter(|view| view.here).count(),
            "references": live.iter().filter(|view| view.here && view.standing.reference).count(),
            "states": states,
        },
        "models": models,
    })))
}

fn word(waits: Waits) -> &'static str {
    match waits {
        Waits::Worker => "worker",
        Waits::Reference => "reference",
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Span {
    Hour,
    Day,
}

#[derive(Deserialize)]
pub(super) struct HistoryQuery {
    span: Span,
}

pub(super) async fn history(
    State(core): Shared,
    _: Operator,
    Asking(query): Asking<HistoryQuery>,
) -> Result<Json<History>, Fault> {
    let minutes = match query.span {
        Span::Hour => 60,
        Span::Day => 24 * 60,
    };
    let since_ms = core.edges.now_ms() - minutes * MINUTE_MS;
    Ok(Json(figures::history(&core.database, since_ms).await?))
}

/// What this network asks of nodes and does with their answers.
pub(super) async fn requirements(State(core): Shared, _: Operator) -> Json<Value> {
    let config = &core.config;
    Json(json!({
        "name": name(&core),
        "operator": config.operator,
        "rules": config.rules,
        "address": config.address,
        "policy": core.policy,
        "checking": config.checking,
        "admission": config.admission,
        "references_needed": match config.checking {
            Checking::None => 0,
            Checking::Always => config.references,
        },
    }))
}
