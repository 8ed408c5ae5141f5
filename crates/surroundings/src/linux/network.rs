//! The network, as `NetworkManager` says.

use std::fs;
use std::time::Duration;

use zbus::Connection;

use super::bus::{Properties, Service, while_there};
use crate::Network;
use crate::board::Board;

const NETWORK_MANAGER: Service = Service {
    name: "org.freedesktop.NetworkManager",
    wake: false,
};

pub(super) async fn observe(bus: &Connection, board: &Board) {
    let clear = || board.set(|shown| shown.network = None);
    while_there(bus, NETWORK_MANAGER, clear, || follow(bus, board)).await;
}

async fn follow(bus: &Connection, board: &Board) -> zbus::Result<()> {
    /// A route that somebody else has made is not told of.
    const LOOK_AGAIN: Duration = Duration::from_secs(10);
    let path = "/org/freedesktop/NetworkManager".to_owned();
    let name = NETWORK_MANAGER.name;
    let mut properties = Properties::of(bus, name, path, name).await?;
    loop {
        let network = network_of(
            properties.get("State").await?,
            properties.get("Connectivity").await?,
            properties.get("Metered").await?,
            has_other_route,
        );
        board.set(|shown| shown.network = Some(network));
        tokio::select! {
            changed = properties.changed() => changed?,
            () = tokio::time::sleep(LOOK_AGAIN), if network == Network::Offline => {}
        }
    }
}

/// By the numbers of `NMState`, `NMConnectivityState` and `NMMetered`.
fn network_of(
    state: u32,
    connectivity: u32,
    metered: u32,
    has_other_route: impl FnOnce() -> bool,
) -> Network {
    const UNKNOWN: u32 = 0;
    /// This far, addresses of this machine's own network can be reached.
    const CONNECTED_LOCAL: u32 = 50;
    const NO_CONNECTIVITY: u32 = 1;
    const YES: u32 = 1;
    const GUESS_YES: u32 = 3;
    let is_offline =
        (UNKNOWN + 1..=CONNECTED_LOCAL).contains(&state) || connectivity == NO_CONNECTIVITY;
    // It knows nothing of an interface that it was told to leave to others.
    if is_offline && !has_other_route() {
        Network::Offline
    } else if matches!(metered, YES | GUESS_YES) {
        Network::Metered
    } else {
        Network::Unmetered
    }
}

/// Whether the kernel knows of a way to the whole world.
fn has_other_route() -> bool {
    let has = |file, is_default: fn(&str) -> bool| {
        fs::read_to_string(file).is_ok_and(|routes| routes.lines().any(is_default))
    };
    has("/proc/net/route", is_default) || has("/proc/net/ipv6_route", is_default_of_ipv6)
}

/// Interface, destination, gateway, flags, ..., mask (the eighth).
fn is_default(line: &str) -> bool {
    let fields: Vec<&str> = line.split_whitespace().collect();
    fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000")
}

/// Destination, its length, source, its length, next hop, ..., interface. The kernel's own that
/// refuses everything goes by `lo`.
fn is_default_of_ipv6(line: &str) -> bool {
    let fields: Vec<&str> = line.split_whitespace().collect();
    fields.get(1) == Some(&"00")
        && fields
            .first()
            .is_some_and(|to| to.bytes().all(|digit| digit == b'0'))
        && fields.last().is_some_and(|interface| *interface != "lo")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_network_manager_says() {
        for (state, connectivity, metered, other_route, network) in [
            (70, 4, 4, false, Network::Unmetered),
            (70, 4, 1, false, Network::Metered),
            (70, 4, 3, false, Network::Metered),
            (70, 2, 0, false, Network::Unmetered),
            (60, 3, 2, false, Network::Unmetered),
            (20, 1, 0, false, Network::Offline),
            (40, 0, 0, false, Network::Offline),
            (50, 3, 0, false, Network::Offline),
            (20, 1, 0, true, Network::Unmetered),
            (10, 1, 4, false, Network::Offline),
            (0, 0, 0, false, Network::Unmetered),
        ] {
            let found = network_of(state, connectivity, metered, || other_route);
            assert_eq!(found, network, "{state} {connectivity} {metered}");
        }
    }

    #[test]
    fn routes_to_the_whole_world() {
        assert!(is_default(
            "eth0 00000000 0102A8C0 0003 0 0 100 00000000 0 0 0"
        ));
        assert!(!is_default(
            "eth0 0002A8C0 00000000 0001 0 0 100 00FFFFFF 0 0 0"
        ));
        assert!(!is_default(
            "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU"
        ));
        let zero = "0".repeat(32);
        let gateway = "fe800000000000000000000000000001";
        let route = |to: &str, length: &str, by: &str| {
            format!("{to} {length} {zero} 00 {gateway} 00000400 00000001 00000000 00000003 {by}")
        };
        assert!(is_default_of_ipv6(&route(&zero, "00", "eth0")));
        assert!(!is_default_of_ipv6(&route(&zero, "00", "lo")));
        assert!(!is_default_of_ipv6(&route(gateway, "40", "eth0")));
    }
}
