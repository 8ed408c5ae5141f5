//! The network's nodes: what each is and does, and what an operator does with it.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use infera_protocol::NodeId;
use infera_protocol::node_api::Checking;
use infera_protocol::requirements::check;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::bans::{self, Ban};
use super::call::{Asked, Asking, Fault, Nothing, Operator};
use super::{NodeAct, Shared, act, rows, whole};
use crate::dispatch::Core;
use crate::nodes::NodeView;
use crate::store::{self, NodeRow};

/// Characters of a ban's reason.
const LONGEST_REASON: usize = 300;

/// What a node that is here does, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum NodeCondition {
    Working,
    Waiting,
    /// By its owner, or while its machine has other things to do.
    Paused,
    NoModel,
    /// It does not meet the requirements.
    Unfit,
    /// It gets no jobs for a while, because one failed or was lost.
    HeldBack,
}

pub(super) fn condition(view: &NodeView) -> NodeCondition {
    if view.running > 0 {
        NodeCondition::Working
    } else if !view.meets_requirements {
        NodeCondition::Unfit
    } else if view.held_back_until_ms.is_some() && !view.standing.reference {
        NodeCondition::HeldBack
    } else if view
        .state
        .as_ref()
        .is_none_or(|state| state.paused.is_some())
    {
        NodeCondition::Paused
    } else if view
        .state
        .as_ref()
        .is_some_and(|state| state.models.is_empty())
    {
        NodeCondition::NoModel
    } else {
        NodeCondition::Waiting
    }
}

#[derive(Deserialize)]
pub(super) struct Which {
    /// Only those that are here.
    #[serde(default)]
    here: bool,
    /// The beginning of an id.
    #[serde(default)]
    id: String,
    #[serde(default)]
    offset: u32,
    limit: Option<u32>,
}

pub(super) async fn list(
    State(core): Shared,
    _: Operator,
    Asking(which): Asking<Which>,
) -> Result<Json<Value>, Fault> {
    if !which.id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Fault::malformed(
            "A node's id has the digits 0 to 9 and a to f",
        ));
    }
    let live = lives(&core);
    let here: Vec<_> = live
        .values()
        .filter(|view| view.here)
        .map(|view| view.node)
        .collect();
    let limit = rows(which.limit);
    let only = which.here.then_some(&here[..]);
    let (found, total) = store::some_nodes(
        &core.database,
        &which.id.to_lowercase(),
        only,
        which.offset,
        limit,
    )
    .await?;
    let bans = bans::all(&core.database, core.edges.now_ms()).await?;
    let nodes: Vec<_> = found
        .iter()
        .map(|row| describe(&core, row, live.get(&row.node), bans.get(&row.node)))
        .collect();
    Ok(Json(json!({"nodes": nodes, "total": total})))
}

pub(super) async fn one(
    State(core): Shared,
    _: Operator,
    Path(node): Path<String>,
) -> Result<Json<Value>, Fault> {
    Ok(Json(view(&core, id(&node)?).await?))
}

async fn view(core: &Core, node: NodeId) -> Result<Value, Fault> {
    let row = store::node(&core.database, node).await?;
    let row = row.ok_or_else(|| Fault::unknown("No node with this id has been here"))?;
    let ban = bans::of(&core.database, node, core.edges.now_ms()).await?;
    Ok(describe(core, &row, lives(core).get(&node), ban.as_ref()))
}

fn lives(core: &Core) -> HashMap<NodeId, NodeView> {
    let views = core.nodes.views(Instant::now(), core.edges.steady_ms());
    views.into_iter().map(|view| (view.node, view)).collect()
}

fn describe(core: &Core, row: &NodeRow, live: Option<&NodeView>, ban: Option<&Ban>) -> Value {
    let live = live.filter(|live| live.here);
    let told = live.and_then(|live| live.state.as_ref());
    let state = match (ban, live) {
        (Some(_), _) => json!("banned"),
        (None, None) => json!("offline"),
        (None, Some(live)) => json!(condition(live)),
    };
    let models: Vec<_> = told
        .map(|told| {
            let served = core.catalog.list();
            let loaded = served
                .iter()
                .filter(|model| told.models.contains(&model.id));
            loaded.map(|model| model.name.clone()).collect()
        })
        .unwrap_or_default();
    // The clock of bans is one that nobody sets.
    let ahead_ms = core.edges.now_ms() - core.edges.steady_ms();
    let held_back_until_ms = live.and_then(|live| live.held_back_until_ms);
    let mut node = json!(row);
    let more = json!({
        "short": row.node.short(),
        "state": state,
        "paused": told.and_then(|told| told.paused.as_deref()),
        "held_back_until_ms": held_back_until_ms.map(|until| until + ahead_ms),
        "ban": ban,
        "gets_no_jobs": core.config.checking == Checking::None && !row.trusted,
        "models": models,
        "running": live.map_or(0, |live| live.running),
        "free_slots": told.map(|told| told.free_slots),
        "hardware": told.map(|told| &told.hardware),
        "requirements": told.map(|told| check(&core.policy, &told.hardware)),
    });
    if let (Value::Object(node), Value::Object(more)) = (&mut node, more) {
        node.remove("banned_until_ms");
        node.extend(more);
    }
    node
}

pub(super) async fn appoint(
    core: Shared,
    node: Path<String>,
    call: Asked<Nothing>,
) -> Result<Json<Value>, Fault> {
    if core.config.checking == Checking::None {
        return Err(Fault::new(
            StatusCode::CONFLICT,
            "nothing_to_check",
            "This network checks no answers, so no node is needed that does. `checking = \"always\"` in balancer.toml changes that",
        ));
    }
    change(core, node, call.operator, NodeAct::Appoint).await
}

pub(super) async fn dismiss(
    core: Shared,
    node: Path<String>,
    call: Asked<Nothing>,
) -> Result<Json<Value>, Fault> {
    change(core, node, call.operator, NodeAct::Dismiss).await
}

pub(super) async fn trust(
    core: Shared,
    node: Path<String>,
    call: Asked<Nothing>,
) -> Result<Json<Value>, Fault> {
    change(core, node, call.operator, NodeAct::Trust).await
}

pub(super) async fn untrust(
    core: Shared,
    node: Path<String>,
    call: Asked<Nothing>,
) -> Result<Json<Value>, Fault> {
    change(core, node, call.operator, NodeAct::Untrust).await
}

pub(super) async fn unban(
    core: Shared,
    node: Path<String>,
    call: Asked<Nothing>,
) -> Result<Json<Value>, Fault> {
    change(core, node, call.operator, NodeAct::Unban).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BanOrder {
    /// None: until it is let in again.
    until_ms: Option<i64>,
    #[serde(default)]
    reason: String,
}

pub(super) async fn ban(
    core: Shared,
    node: Path<String>,
    call: Asked<BanOrder>,
) -> Result<Json<Value>, Fault> {
    let BanOrder { until_ms, reason } = call.message;
    let reason = read_reason(&reason)
        .map_err(|message| Fault::new(StatusCode::BAD_REQUEST, "bad_reason", message))?;
    if until_ms.is_some_and(|until_ms| until_ms <= core.edges.now_ms()) {
        return Err(Fault::new(
            StatusCode::BAD_REQUEST,
            "in_the_past",
            "A node cannot be kept out until a time that is over",
        ));
    }
    change(core, node, call.operator, NodeAct::Ban { until_ms, reason }).await
}

/// The node's owner is told the reason, and other operators read it in the log.
pub(crate) fn read_reason(text: &str) -> Result<String, String> {
    let reason = text.trim();
    let length = reason.chars().count();
    if (1..=LONGEST_REASON).contains(&length) && !reason.contains(char::is_control) {
        return Ok(reason.to_owned());
    }
    Err(format!(
        "Whoever is kept out is told why: give a reason of 1 to {LONGEST_REASON} characters in one line"
    ))
}

/// Does it, and has the running network follow at once.
async fn change(
    State(core): Shared,
    Path(node): Path<String>,
    operator: Operator,
    order: NodeAct,
) -> Result<Json<Value>, Fault> {
    let node = id(&node)?;
    whole(async move {
        let now_ms = core.edges.now_ms();
        act(&core.database, node, &order, Some(&operator.name), now_ms).await?;
        follow(&core).await?;
        Ok(Json(match store::node(&core.database, node).await? {
            Some(_) => view(&core, node).await?,
            None => json!({"node": node}),
        }))
    })
    .await
}

async fn follow(core: &Arc<Core>) -> Result<(), Fault> {
    Ok(core.follow_standings().await?)
}

fn id(text: &str) -> Result<NodeId, Fault> {
    text.parse()
        .map_err(|_| Fault::unknown("That is no node's whole id"))
}
