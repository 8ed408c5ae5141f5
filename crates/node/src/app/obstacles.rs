//! Why no jobs come: every reason that applies, the heaviest first.

use infera_protocol::requirements::Mark;

use super::api::Obstacle;
use crate::governor::Reason;
use crate::state::{Connection, EngineStatus, NodeSnapshot};

/// What keeps jobs from a running node. Empty while it works, or only reads its hardware's figures.
pub(super) fn obstacles(snapshot: &NodeSnapshot) -> Vec<Obstacle> {
    let mut found = Vec::new();
    if let Connection::Refused { message } = &snapshot.connection {
        found.push(Obstacle::Outdated {
            message: message.clone(),
        });
    }
    found.extend(snapshot.decision.reason.as_ref().and_then(of_decision));
    found.extend(
        snapshot
            .requirements
            .iter()
            .filter(|row| row.mark == Mark::Fail)
            .map(|row| Obstacle::Requirement {
                requirement: row.clone(),
            }),
    );
    if let Connection::Disconnected { reason, .. } = &snapshot.connection {
        found.push(Obstacle::Offline {
            reason: reason.clone(),
        });
    }
    if let Connection::TurnedAway { why, .. } = snapshot.connection {
        found.push(Obstacle::TurnedAway { why });
    }
    if snapshot.models.is_empty() {
        found.push(Obstacle::NoModel);
    }
    let running = snapshot.decision.reason.is_none();
    for status in &snapshot.models {
        let model = status.name.clone();
        match &status.engine {
            EngineStatus::Broken { fault } | EngineStatus::Restarting { fault, .. } => {
                found.push(Obstacle::ModelBroken {
                    model,
                    fault: fault.clone(),
                });
            }
            EngineStatus::Loading { .. } | EngineStatus::Tuning { .. } => {
                found.push(Obstacle::ModelLoading { model });
            }
            EngineStatus::Ready if status.served == Some(false) => {
                found.push(Obstacle::ModelNotServed { model });
            }
            EngineStatus::Off if running => found.push(Obstacle::ModelLoading { model }),
            EngineStatus::Ready | EngineStatus::Off => {}
        }
    }
    let connected = matches!(snapshot.connection, Connection::Connected { .. });
    if found.is_empty() && connected && snapshot.work.is_empty() {
        found.push(Obstacle::NoDemand);
    }
    found
}

fn of_decision(reason: &Reason) -> Option<Obstacle> {
    Some(match reason.clone() {
        Reason::NotAgreed => Obstacle::NotAgreed,
        Reason::NoBalancer => Obstacle::NoBalancer,
        Reason::OwnUse => Obstacle::OwnUse,
        Reason::Paused { until_ms, .. } => Obstacle::Paused { until_ms },
        Reason::Rule { why, goes_on_ms } => Obstacle::Rule { why, goes_on_ms },
        Reason::StorageFault { message } => Obstacle::StorageFault { message },
        Reason::LowDisk {
            free_bytes,
            resume_above_bytes,
        } => Obstacle::LowDisk {
            free_bytes,
            resume_above_bytes,
        },
        // Said by the rows and by the connection.
        Reason::RequirementFailed { .. } | Reason::Refused | Reason::Closing => return None,
    })
}
