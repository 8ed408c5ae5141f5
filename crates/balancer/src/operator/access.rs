//! What an operator gives out: keys for clients, and invitations for nodes.

use std::collections::HashMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use infera_protocol::MICRO_POINTS;
use infera_protocol::node_api::{Checking, Standing};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::call::{Asked, Fault, Nothing, Operator};
use super::log::{self, Act};
use super::{Shared, whole};
use crate::db::{Database, DbError};
use crate::dispatch::Core;
use crate::invitations::{self, LONGEST_LIFE_MS, MOST_USES, Place, Terms};
use crate::keys::{self, Client};

#[derive(Debug, PartialEq, Serialize, sqlx::FromRow)]
pub(super) struct KeyRow {
    pub name: String,
    pub limit_micro: Option<i64>,
    created_ms: i64,
    pub revoked_ms: Option<i64>,
    /// By all keys of this name together, as the books count.
    pub spent_micro: i64,
    last_used_ms: Option<i64>,
}

/// All keys of the operator's there ever were, those in use first. Those of accounts are theirs to see.
pub(super) async fn key_rows(
    database: &Database,
    used: &HashMap<String, i64>,
) -> Result<Vec<KeyRow>, DbError> {
    let mut rows: Vec<KeyRow> = sqlx::query_as(
        "SELECT k.name, k.limit_micro, k.created_ms, k.revoked_ms,
             -coalesce(b.balance, 0) AS spent_micro, u.used_ms AS last_used_ms
         FROM api_keys k
         LEFT JOIN balances b ON b.account = 'client:' || k.name
         LEFT JOIN key_uses u ON u.name = k.name
         WHERE k.account IS NULL
         ORDER BY k.revoked_ms IS NOT NULL, k.id DESC LIMIT 2000",
    )
    .fetch_all(database.read())
    .await?;
    for row in &mut rows {
        row.last_used_ms = used.get(&row.name).copied().or(row.last_used_ms);
        // A key of this name may have been used since, but not this one.
        row.last_used_ms = match (row.last_used_ms, row.revoked_ms) {
            (Some(used), Some(revoked)) => Some(used.min(revoked)),
            (used, _) => used,
        }
        .filter(|used| *used >= row.created_ms);
    }
    Ok(rows)
}

pub(super) async fn keys(State(core): Shared, _: Operator) -> Result<Json<Value>, Fault> {
    let keys = key_rows(&core.database, &core.figures.used()).await?;
    Ok(Json(json!({"keys": keys})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    name: String,
    /// In points; none for no limit, which has to be said.
    limit_points: Option<u32>,
}

pub(super) async fn create_key(
    State(core): Shared,
    call: Asked<NewKey>,
) -> Result<Json<Value>, Fault> {
    let NewKey { name, limit_points } = call.message;
    whole(async move {
        let limit = limit_points.map(|points| i64::from(points) * MICRO_POINTS);
        let client = Client::of_operator(&name, limit);
        let key = keys::create(&core.database, &core.edges, &client).await?;
        let detail =
            limit_points.map_or_else(|| "unlimited".to_owned(), |points| points.to_string());
        note(&core, &call.operator, Act::CreateKey, &name, &detail).await?;
        Ok(Json(json!({"name": name, "key": key})))
    })
    .await
}

pub(super) async fn revoke_key(
    State(core): Shared,
    Path(name): Path<String>,
    call: Asked<Nothing>,
) -> Result<Json<Value>, Fault> {
    whole(async move {
        keys::revoke(&core.database, &name, core.edges.now_ms()).await?;
        note(&core, &call.operator, Act::RevokeKey, &name, "").await?;
        Ok(Json(json!({"name": name})))
    })
    .await
}

/// The newest ones first, with whether anybody new joins by them.
pub(super) async fn invitations(State(core): Shared, _: Operator) -> Result<Json<Value>, Fault> {
    let now_ms = core.edges.now_ms();
    let rows = invitations::newest(&core.database).await?;
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let mut shown = json!(row);
            shown["usable"] = json!(row.fault(now_ms).is_none());
            shown
        })
        .collect();
    Ok(Json(json!({"invitations": rows})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewInvitation {
    #[serde(default)]
    label: String,
    #[serde(default)]
    trusted: bool,
    #[serde(default)]
    reference: bool,
    /// How many may join; none for any number.
    uses: Option<u32>,
    /// How long it can be used; none for no end.
    life_ms: Option<i64>,
}

pub(super) async fn invite(
    State(core): Shared,
    call: Asked<NewInvitation>,
) -> Result<Json<Value>, Fault> {
    let order = call.message;
    if order.reference && core.config.checking == Checking::None {
        return Err(Fault::new(
            StatusCode::CONFLICT,
            "nothing_to_check",
            "This network checks no answers, so nobody joins it to check them",
        ));
    }
    if order
        .uses
        .is_some_and(|uses| !(1..=MOST_USES).contains(&uses))
    {
        return Err(Fault::malformed(format!(
            "`uses` is a number from 1 to {MOST_USES}"
        )));
    }
    if order
        .life_ms
        .is_some_and(|life| !(1..=LONGEST_LIFE_MS).contains(&life))
    {
        return Err(Fault::malformed(
            "`life_ms` is above 0 and of ten years at most",
        ));
    }
    let place = Place::of(&core.config)
        .map_err(|error| Fault::new(StatusCode::CONFLICT, "no_address", error.to_string()))?
        .ok_or_else(|| {
            Fault::new(
                StatusCode::CONFLICT,
                "no_address",
                "No invitation can be made before it is known how others reach the balancer. Add a line like address = \"https://HOST:PORT\" to balancer.toml and start it again",
            )
        })?;
    whole(async move {
        let terms = Terms {
            label: order.label,
            standing: Standing {
                trusted: order.trusted,
                reference: order.reference,
            },
            max_uses: order.uses,
            expires_ms: order.life_ms.map(|life| core.edges.now_ms() + life),
        };
        let (id, token) = invitations::create(&core.database, &core.edges, &terms).await?;
        note(
            &core,
            &call.operator,
            Act::Invite,
            &id.to_string(),
            &terms.label,
        )
        .await?;
        let invitation = place.invitation(token);
        Ok(Json(json!({
            "id": id, "link": invitation.link(), "page": invitation.page(),
            "code": code(&invitation.page()),
        })))
    })
    .await
}

pub(super) async fn revoke_invitation(
    State(core): Shared,
    Path(id): Path<i64>,
    call: Asked<Nothing>,
) -> Result<Json<Value>, Fault> {
    whole(async move {
        invitations::revoke(&core.database, id, core.edges.now_ms()).await?;
        note(
            &core,
            &call.operator,
            Act::RevokeInvitation,
            &id.to_string(),
            "",
        )
        .await?;
        Ok(Json(json!({"id": id})))
    })
    .await
}

/// The rows of a QR code, a digit for each module: 1 is dark.
fn code(text: &str) -> Option<Vec<String>> {
    let code = qrcode::QrCode::with_error_correction_level(text, qrcode::EcLevel::L).ok()?;
    let modules = code.to_colors();
    let digit = |color: &qrcode::Color| color.select('1', '0');
    let rows = modules.chunks(code.width());
    Some(rows.map(|row| row.iter().map(digit).collect()).collect())
}

async fn note(
    core: &Core,
    operator: &Operator,
    act: Act,
    whom: &str,
    detail: &str,
) -> Result<(), DbError> {
    let now_ms = core.edges.now_ms();
    log::add(
        &core.database,
        Some(&operator.name),
        act,
        whom,
        detail,
        now_ms,
    )
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_a_square_of_digits() {
        let rows = code("https://net.example/join#token=1").unwrap();
        assert!(rows.iter().all(|row| row.len() == rows.len()));
        // The mark in its first corner.
        assert!(rows[0].starts_with("1111111"), "{rows:?}");
    }
}
