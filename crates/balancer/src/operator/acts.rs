//! What an operator does to a node, from the page or the command line.

use infera_protocol::NodeId;
use infera_protocol::node_api::Standing;

use super::bans;
use super::log::{self, Act};
use crate::db::{Database, DbError};
use crate::store;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NodeAct {
    /// It checks other nodes' outputs in place of taking jobs.
    Appoint,
    Dismiss,
    /// Its answers may go out unchecked.
    Trust,
    Untrust,
    /// Neither trusted nor a reference any more.
    Demote,
    /// Keeps it out.
    Ban {
        until_ms: Option<i64>,
        reason: String,
    },
    Unban,
}

impl NodeAct {
    fn act(&self) -> Act {
        match self {
            Self::Appoint => Act::Appoint,
            Self::Dismiss => Act::Dismiss,
            Self::Trust => Act::Trust,
            Self::Untrust => Act::Untrust,
            Self::Demote => Act::Demote,
            Self::Ban { .. } => Act::Ban,
            Self::Unban => Act::Unban,
        }
    }
}

/// Does it and writes who did. A balancer that runs follows within a moment.
pub(crate) async fn act(
    database: &Database,
    node: NodeId,
    act: &NodeAct,
    who: Option<&str>,
    now_ms: i64,
) -> Result<(), DbError> {
    let mut write = database.write().await?;
    let standing = |trusted, reference| Standing { trusted, reference };
    match act {
        NodeAct::Appoint => store::trust(&mut write, node, standing(false, true)).await?,
        NodeAct::Trust => store::trust(&mut write, node, standing(true, false)).await?,
        NodeAct::Dismiss => store::dismiss(&mut write, node).await?,
        NodeAct::Untrust => store::distrust(&mut write, node).await?,
        NodeAct::Demote => store::untrust(&mut write, node).await?,
        NodeAct::Ban { until_ms, reason } => {
            bans::set(&mut write, node, *until_ms, reason, now_ms).await?;
        }
        NodeAct::Unban => bans::lift(&mut write, node).await?,
    }
    let detail = match act {
        NodeAct::Ban { reason, .. } => reason,
        _ => "",
    };
    log::write(
        &mut write,
        who,
        act.act(),
        &node.to_string(),
        detail,
        now_ms,
    )
    .await?;
    write.commit().await
}
