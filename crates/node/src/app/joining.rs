//! Which networks there are for this node: looking at one, joining, choosing and leaving it.

use infera_protocol::requirements::{self, Hardware};

use super::App;
use super::api::{AddressFault, ApiError, AppState, ByAddress, LookedUp};
use super::supervisor;
use crate::look_up::{Found, NotFound, look_up};

/// What is kept of a text that was opened: more than any invitation has.
const LONGEST_SHOWN: usize = 4096;

impl App {
    pub(super) async fn look_up_network(&self, asked: ByAddress) -> Result<LookedUp, ApiError> {
        let found = self.find(&asked.address).await;
        let states = self.states();
        let state = states.borrow();
        let hardware = state.node.as_ref().and_then(|node| node.hardware.as_ref());
        Ok(LookedUp::new(found, hardware))
    }

    pub(super) async fn join_network(&self, asked: ByAddress) -> Result<AppState, ApiError> {
        let found = self.find(&asked.address).await?;
        let folder = self.0.data.folder();
        let key = supervisor::key(&self.0.key, folder, &self.0.entropy).await;
        let key = key.map_err(|fault| super::not_started(&fault))?;
        let standing = found.join(&key).await?;
        let network = found.setting(standing, self.0.clock.now_ms());
        tracing::info!(name = network.name, "a network was joined");
        self.0.invitation.send_replace(None);
        self.try_change(|preferences| Ok(preferences.settings.join(network)?))
    }

    pub(super) fn offer_invitation(&self, opened: ByAddress) -> AppState {
        let mut text = opened.address;
        // A person is shown no more, whatever was clicked.
        text.truncate(text.floor_char_boundary(LONGEST_SHOWN));
        self.0.invitation.send_replace(Some(text));
        self.publish(None)
    }

    pub(super) fn put_invitation_away(&self, (): ()) -> AppState {
        self.0.invitation.send_replace(None);
        self.publish(None)
    }

    pub(super) fn choose_network(&self, asked: ByAddress) -> Result<AppState, ApiError> {
        let ByAddress { address } = asked;
        self.try_change(|preferences| Ok(preferences.settings.choose(&address)?))
    }

    pub(super) fn leave_network(&self, asked: ByAddress) -> Result<AppState, ApiError> {
        let ByAddress { address } = asked;
        self.try_change(|preferences| Ok(preferences.settings.leave(&address)?))
    }

    async fn find(&self, text: &str) -> Result<Found, NotFound> {
        let known = self.0.preferences.borrow().settings.networks.clone();
        look_up(text, self.0.roots.as_deref(), &known).await
    }
}

impl LookedUp {
    /// What is told of a network, with this machine against its rules as far as it is known.
    pub fn new(found: Result<Found, NotFound>, hardware: Option<&Hardware>) -> Self {
        let Found {
            url,
            network,
            fingerprint,
            invitation,
            ..
        } = match found {
            Ok(found) => found,
            Err(NotFound::Address(error)) => {
                return Self::BadAddress {
                    fault: AddressFault::from(&error),
                    message: error.to_string(),
                };
            }
            Err(NotFound::Invitation(fault)) => {
                let message = fault.to_string();
                return Self::BadInvitation { fault, message };
            }
            Err(NotFound::NoAnswer { url, error }) => {
                let reason = error.reason();
                return Self::Unreachable { url, reason };
            }
        };
        Self::Network {
            url,
            name: network.name,
            operator: network.operator,
            rules: network.rules,
            checking: network.checking,
            admission: network.admission,
            nodes: network.nodes,
            references: network.references,
            references_needed: network.references_needed,
            fingerprint,
            invitation,
            requirements: hardware.map_or_else(Vec::new, |hardware| {
                requirements::check(&network.policy, hardware)
            }),
            models: network.models,
        }
    }
}
