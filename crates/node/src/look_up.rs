//! Asks a network who it is before anything depends on it, by its address or an invitation, and
//! joins it.

use infera_protocol::invitation::{BadInvitation, Invitation, InvitationToken};
use infera_protocol::node_api::{
    ChallengeRequest, InvitationRequest, JoinRequest, Network, RefusalCode, Standing, join_digest,
};
use infera_protocol::{Fingerprint, NodeKey, VERSION};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::balancer_link::{BalancerLink, LinkError};
use crate::http_link::{BadUrl, HttpLink, Trust};
use crate::networks::{self, LONGEST_NAME, NetworkSetting};

/// A network that has answered.
#[derive(Debug, Clone)]
pub struct Found {
    /// The whole address, with its scheme.
    pub url: String,
    pub network: Network,
    /// What its certificate was known by.
    pub fingerprint: Option<Fingerprint>,
    /// None where it was found by its address.
    pub invitation: Option<InvitationTerms>,
    /// What this node is there already.
    standing: Standing,
    /// What joining by the invitation takes.
    entrance: Option<(HttpLink, InvitationToken)>,
}

/// What an invitation is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct InvitationTerms {
    /// What those who join by it become.
    pub standing: Standing,
    /// How many more may join by it; none for any number.
    pub uses_left: Option<u32>,
    /// Unix time in milliseconds; none for no end.
    pub expires_ms: Option<i64>,
}

/// Why nobody joins by an invitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum InvitationFault {
    /// The text is something else.
    #[error("{}", BadInvitation::NotOne)]
    NotOne,
    /// The text's end is missing.
    #[error("{}", BadInvitation::CutOff)]
    CutOff,
    /// The text has another checksum.
    #[error("{}", BadInvitation::Changed)]
    Changed,
    /// It names an address that anyone on the way could read and change.
    #[error("{}", BadInvitation::PlainHttp)]
    PlainHttp,
    /// Another network gave it out, or nobody.
    #[error(
        "The network does not know this invitation. It may be for another one: ask whoever gave it to you for a new one"
    )]
    Unknown,
    /// As many have joined by it as may.
    #[error(
        "As many have joined by this invitation as may. Ask the network's operator for another one"
    )]
    UsedUp,
    /// Its time is over.
    #[error("The invitation has expired. Ask the network's operator for a new one")]
    Expired,
    /// Its operator took it back.
    #[error("The network's operator has taken this invitation back. Ask them for a new one")]
    Revoked,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    #[error(transparent)]
    Address(#[from] BadUrl),
    #[error(transparent)]
    Invitation(#[from] InvitationFault),
    #[error("the network at {url} cannot be asked: {error}")]
    NoAnswer { url: String, error: LinkError },
}

/// Finds the network that a person means by an invitation or an address. An address without a scheme
/// is HTTPS; on this machine plain HTTP is tried after it. What is known of the network already
/// counts.
pub async fn look_up(
    text: &str,
    roots: Option<&[u8]>,
    known: &[NetworkSetting],
) -> Result<Found, NotFound> {
    if Invitation::is_meant(text) {
        let invitation = text.parse().map_err(InvitationFault::from)?;
        return ask_invited(invitation, roots).await;
    }
    let address = text.trim().trim_end_matches('/');
    let ask = |url: String| {
        let known = networks::find(known, &url);
        ask(url, roots, known)
    };
    if address.contains("://") {
        return ask(address.to_owned()).await;
    }
    let secure = ask(format!("https://{address}")).await;
    if secure.is_ok() {
        return secure;
    }
    match ask(format!("http://{address}")).await {
        // Another machine's is never asked without TLS: what counts is why TLS failed.
        Err(NotFound::Address(BadUrl::PlainHttp(_))) => secure,
        plain => plain,
    }
}

impl Found {
    /// Joins by the invitation, where there is one. The same node may do it again.
    pub async fn join(&self, key: &NodeKey) -> Result<Standing, NotFound> {
        let Some((link, token)) = &self.entrance else {
            return Ok(self.standing);
        };
        let node = key.id();
        let joined = async {
            let version = VERSION;
            let given = link.challenge(ChallengeRequest { version, node }).await?;
            let challenge = given.challenge;
            let request = JoinRequest {
                version,
                node,
                challenge,
                signature: key.sign(join_digest(&node, &challenge, token)),
                token: *token,
                software: crate::SOFTWARE.to_owned(),
            };
            link.join(request).await
        };
        match joined.await {
            Ok(joined) => Ok(joined.standing),
            Err(error) => Err(not_let_in(&self.url, error)),
        }
    }

    /// What the settings keep of it once it is joined.
    pub fn setting(&self, standing: Standing, joined_ms: i64) -> NetworkSetting {
        let by_address = NetworkSetting::at(&self.url, joined_ms);
        let name: String = self.network.name.chars().take(LONGEST_NAME).collect();
        NetworkSetting {
            name: if name.is_empty() {
                by_address.name
            } else {
                name
            },
            fingerprint: self.fingerprint,
            standing,
            ..by_address
        }
    }
}

async fn ask(
    url: String,
    roots: Option<&[u8]>,
    known: Option<&NetworkSetting>,
) -> Result<Found, NotFound> {
    let fingerprint = known.and_then(|known| known.fingerprint);
    let link = HttpLink::new(&url, Trust { roots, fingerprint })?;
    let url = link.url().to_owned();
    match link.network().await {
        Ok(network) => Ok(Found {
            url,
            network,
            fingerprint,
            invitation: None,
            standing: known.map(|known| known.standing).unwrap_or_default(),
            entrance: None,
        }),
        Err(error) => Err(NotFound::NoAnswer { url, error }),
    }
}

async fn ask_invited(invitation: Invitation, roots: Option<&[u8]>) -> Result<Found, NotFound> {
    let Invitation {
        address,
        fingerprint,
        token,
    } = invitation;
    let link = HttpLink::new(&address, Trust { roots, fingerprint })?;
    let url = link.url().to_owned();
    let version = VERSION;
    match link.invitation(InvitationRequest { version, token }).await {
        Ok(invited) => Ok(Found {
            url,
            network: invited.network,
            fingerprint,
            invitation: Some(InvitationTerms {
                standing: invited.standing,
                uses_left: invited.uses_left,
                expires_ms: invited.expires_ms,
            }),
            standing: Standing::default(),
            entrance: Some((link, token)),
        }),
        Err(error) => Err(not_let_in(&url, error)),
    }
}

fn not_let_in(url: &str, error: LinkError) -> NotFound {
    let fault = error.refusal().and_then(|refusal| match refusal.code {
        RefusalCode::InvitationUnknown => Some(InvitationFault::Unknown),
        RefusalCode::InvitationUsedUp => Some(InvitationFault::UsedUp),
        RefusalCode::InvitationExpired => Some(InvitationFault::Expired),
        RefusalCode::InvitationRevoked => Some(InvitationFault::Revoked),
        _ => None,
    });
    match fault {
        Some(fault) => fault.into(),
        None => NotFound::NoAnswer {
            url: url.to_owned(),
            error,
        },
    }
}

impl From<BadInvitation> for InvitationFault {
    fn from(fault: BadInvitation) -> Self {
        match fault {
            BadInvitation::NotOne => Self::NotOne,
            BadInvitation::CutOff => Self::CutOff,
            BadInvitation::Changed => Self::Changed,
            BadInvitation::PlainHttp => Self::PlainHttp,
        }
    }
}
