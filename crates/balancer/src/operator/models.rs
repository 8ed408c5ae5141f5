//! The models that are served: prices, and by how many nodes.

use axum::Json;
use axum::extract::{Path, State};
use infera_protocol::ModelId;
use infera_protocol::node_api::Price;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::call::{Asked, Fault, Nothing, Operator};
use super::log::{self, Act};
use super::{Shared, whole};
use crate::catalog;
use crate::nodes::NodeView;

/// Whether a node that is here has the model, as a worker or as a reference.
pub(super) fn serves(view: &NodeView, model: ModelId, reference: bool) -> bool {
    let has = |state: &infera_protocol::node_api::NodeState| state.models.contains(&model);
    view.here && view.standing.reference == reference && view.state.as_ref().is_some_and(has)
}

pub(super) async fn list(State(core): Shared, _: Operator) -> Json<Value> {
    let live = core.nodes.views(Instant::now(), core.edges.steady_ms());
    let models: Vec<_> = core
        .catalog
        .list()
        .iter()
        .map(|model| {
            let count = |reference| {
                let has = |view: &&NodeView| serves(view, model.id, reference);
                live.iter().filter(has).count()
            };
            json!({
                "name": model.name,
                "model": model.id,
                "profile": model.profile,
                "context_tokens": model.context,
                "embedding_values": model.vector_width,
                "added_ms": model.added_ms,
                "price": model.price,
                "workers": count(false),
                "references": count(true),
            })
        })
        .collect();
    Json(json!({"models": models, "unusable": core.catalog.unusable()}))
}

pub(super) async fn set_price(
    State(core): Shared,
    Path(name): Path<String>,
    call: Asked<Price>,
) -> Result<Json<Value>, Fault> {
    let price = call.message;
    whole(async move {
        catalog::set_price(&core.database, &name, price).await?;
        let detail = format!("{} / {}", price.input, price.output);
        let (who, now_ms) = (Some(call.operator.name.as_str()), core.edges.now_ms());
        log::add(&core.database, who, Act::SetPrice, &name, &detail, now_ms).await?;
        core.read_models().await;
        Ok(Json(json!({"name": name, "price": price})))
    })
    .await
}

pub(super) async fn remove(
    State(core): Shared,
    Path(name): Path<String>,
    call: Asked<Nothing>,
) -> Result<Json<Value>, Fault> {
    whole(async move {
        let now_ms = core.edges.now_ms();
        catalog::remove(&core.database, &name, now_ms).await?;
        let who = Some(call.operator.name.as_str());
        log::add(&core.database, who, Act::RemoveModel, &name, "", now_ms).await?;
        core.read_models().await;
        Ok(Json(json!({"name": name})))
    })
    .await
}
