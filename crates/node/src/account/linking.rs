//! How a machine becomes an account's. The balancer carries the messages, and has no part in it: what
//! it says was granted is checked with the code, which it does not know.

use infera_protocol::account::{AccountKey, BadLinkCode, BadOwnership};
use infera_protocol::node_api::RefusalCode;
use infera_protocol::{AccountId, LinkCode};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::balancer_link::LinkError;
use crate::clock::Entropy;
use crate::node::Node;
use crate::unreachable::Unreachable;

/// Why a machine did not become an account's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS, thiserror::Error)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum LinkFault {
    /// The text is something else.
    #[error("{}", BadLinkCode)]
    NotACode,
    /// Nobody has made this code, here.
    #[error(
        "This network does not know that linking code. Check each character, and that both machines are in the same network"
    )]
    Unknown,
    /// As many machines were linked by it as may.
    #[error(
        "As many machines were linked by this code as may. Have another one shown on the machine with the account"
    )]
    UsedUp,
    /// Its time is over.
    #[error("{}", BadOwnership::Expired)]
    Expired,
    /// What the balancer gave out is not what was made with this code.
    #[error(
        "This network gave another account's word in place of the one that belongs to this code, and nothing was linked. Ask whoever runs the network what happened"
    )]
    Forged,
    /// The account has as many machines as it may.
    #[error("The account has as many machines in this network as it may: unlink one first")]
    Full,
    /// The network does not answer, or not with what it was asked for.
    #[error("The network cannot be asked: {reason}")]
    NoAnswer {
        /// What the try met with.
        reason: Unreachable,
    },
}

impl LinkFault {
    /// Another try with the same code may go well.
    pub(crate) fn passes(&self) -> bool {
        matches!(self, Self::NoAnswer { .. })
    }
}

/// A fresh code.
pub(crate) fn new_code(entropy: &dyn Entropy) -> LinkCode {
    let mut bytes = [0; LinkCode::BYTES];
    entropy.fill(&mut bytes);
    LinkCode::from_bytes(bytes)
}

/// Makes a node that was given a code the account's that made it.
pub async fn by_code(node: &Node, code: &LinkCode, now_ms: i64) -> Result<AccountId, LinkFault> {
    let grant = node.link_grant(code.id()).await?;
    // Else the balancer's own account would take the machine.
    if grant.link != code.id() {
        return Err(LinkFault::Forged);
    }
    grant.check(now_ms)?;
    node.own(&code.ownership(grant, node.id())).await?;
    Ok(grant.account)
}

/// Makes the node of the machine that has the account's key its own. No code is shown, so none is
/// given to the balancer: an account that has no node yet may not leave one there.
pub async fn by_key(
    node: &Node,
    key: &AccountKey,
    entropy: &dyn Entropy,
    now_ms: i64,
) -> Result<AccountId, LinkFault> {
    const AT_ONCE_MS: i64 = 5 * 60_000;
    let code = new_code(entropy);
    let grant = code.grant(key, 1, now_ms + AT_ONCE_MS);
    node.own(&code.ownership(grant, node.id())).await?;
    Ok(key.id())
}

impl From<BadOwnership> for LinkFault {
    fn from(fault: BadOwnership) -> Self {
        match fault {
            BadOwnership::Forged => Self::Forged,
            BadOwnership::Expired => Self::Expired,
        }
    }
}

impl From<BadLinkCode> for LinkFault {
    fn from(_: BadLinkCode) -> Self {
        Self::NotACode
    }
}

impl From<LinkError> for LinkFault {
    fn from(error: LinkError) -> Self {
        match error.refusal().map(|refusal| refusal.code) {
            Some(RefusalCode::LinkUnknown) => Self::Unknown,
            Some(RefusalCode::LinkUsedUp) => Self::UsedUp,
            // It was good when it was checked here a moment ago.
            Some(RefusalCode::BadOwnership) => Self::Expired,
            Some(RefusalCode::AccountFull) => Self::Full,
            _ => Self::NoAnswer {
                reason: error.reason(),
            },
        }
    }
}
