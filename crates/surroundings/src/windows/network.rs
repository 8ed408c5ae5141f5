//! The network and what it costs, as Windows tells.

use windows::Networking::Connectivity::{
    NetworkCostType, NetworkInformation, NetworkStatusChangedEventHandler,
};

use crate::Network;
use crate::board::Board;

/// Shows it now and whenever it changes, for as long as it is kept.
pub(super) struct Following(i64);

impl Following {
    /// None where the system tells of no changes: what was true once is not shown for ever.
    pub(super) fn begin(board: &Board) -> Option<Self> {
        let changed = {
            let board = board.clone();
            NetworkStatusChangedEventHandler::new(move |_| {
                show(&board);
                Ok(())
            })
        };
        let begun = NetworkInformation::NetworkStatusChanged(&changed);
        let token = begun
            .inspect_err(|error| tracing::debug!(%error, "the system does not tell of the network"))
            .ok()?;
        show(board);
        Some(Self(token))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // There is nothing left to do about it.
        let _ = NetworkInformation::RemoveNetworkStatusChanged(self.0);
    }
}

fn show(board: &Board) {
    let network = network();
    board.set(|shown| shown.network = network);
}

fn network() -> Option<Network> {
    let profile = match NetworkInformation::GetInternetConnectionProfile() {
        Ok(profile) => profile,
        // It gives none, which is no fault.
        Err(none) if none.code().is_ok() => return Some(Network::Offline),
        Err(_) => return None,
    };
    let cost = profile.GetConnectionCost().ok()?.NetworkCostType().ok()?;
    Some(match cost {
        NetworkCostType::Fixed | NetworkCostType::Variable => Network::Metered,
        _ => Network::Unmetered,
    })
}
