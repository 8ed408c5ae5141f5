//! The networks that this node has joined, by their addresses. One at most is active.

#![deny(missing_docs)]

use infera_protocol::Fingerprint;
use infera_protocol::node_api::Standing;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::app::settings::Settings;
use crate::http_link::{BadUrl, normal};

/// A network that this node has joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct NetworkSetting {
    /// The whole address, with its scheme. It tells two networks of one name apart.
    pub address: String,
    /// The name that its operator gave it; the host until it has been asked.
    pub name: String,
    /// What its certificate is known by; none where the usual authorities vouch for it.
    pub fingerprint: Option<Fingerprint>,
    /// What the invitation made of this node.
    pub standing: Standing,
    /// Unix time in milliseconds; 0 for one that was in use before this was kept.
    pub joined_ms: i64,
}

/// More than anybody joins; a settings file stays small.
pub const MOST_NETWORKS: usize = 64;
/// What is kept and shown of a name.
pub(crate) const LONGEST_NAME: usize = 100;

/// Why the list stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NetworksError {
    /// The address is none of the list.
    #[error("You have not joined this network: join it by its invitation or address first")]
    NotJoined,
    /// The list is full.
    #[error("You have joined {MOST_NETWORKS} networks, which is the most: leave one first")]
    TooMany,
}

impl NetworkSetting {
    /// One that is known by its address alone.
    pub fn at(address: &str, joined_ms: i64) -> Self {
        Self {
            address: address.to_owned(),
            name: host(address).chars().take(LONGEST_NAME).collect(),
            fingerprint: None,
            standing: Standing::default(),
            joined_ms,
        }
    }
}

impl Settings {
    /// The network that is worked for.
    pub fn active_network(&self) -> Option<&NetworkSetting> {
        let address = self.balancer.as_deref()?;
        self.networks.iter().find(|one| one.address == address)
    }

    /// One of the list, by its address with or without a scheme.
    pub fn network_at(&self, address: &str) -> Option<&NetworkSetting> {
        find(&self.networks, address)
    }

    /// Makes a network the active one, and puts it into the list where it is new.
    pub fn activate(&mut self, address: &str, now_ms: i64) -> Result<(), NetworksError> {
        // What is no address at all is told by whoever tries to reach it.
        let whole = |address: &str| normal(address).unwrap_or_else(|_| address.to_owned());
        self.join(if let Some(known) = self.network_at(address) {
            NetworkSetting {
                address: whole(&known.address),
                ..known.clone()
            }
        } else {
            NetworkSetting::at(&whole(address), now_ms)
        })
    }

    /// Joins a network, or renews what is known of it, and makes it the active one.
    pub fn join(&mut self, network: NetworkSetting) -> Result<(), NetworksError> {
        let known = self.network_at(&network.address);
        let known = known.map(|known| known.address.clone());
        if known.is_none() && self.networks.len() >= MOST_NETWORKS {
            return Err(NetworksError::TooMany);
        }
        self.balancer = Some(network.address.clone());
        match known.and_then(|known| self.networks.iter_mut().find(|one| one.address == known)) {
            Some(known) => *known = network,
            None => self.networks.push(network),
        }
        Ok(())
    }

    /// Works for another network of the list.
    pub fn choose(&mut self, address: &str) -> Result<(), NetworksError> {
        let chosen = self.network_at(address).ok_or(NetworksError::NotJoined)?;
        self.balancer = Some(chosen.address.clone());
        Ok(())
    }

    /// Takes a network from the list. Where it was the active one there is none then: whom the
    /// machine works for next is for the person to say.
    pub fn leave(&mut self, address: &str) -> Result<(), NetworksError> {
        let left = self.network_at(address).ok_or(NetworksError::NotJoined)?;
        let left = left.address.clone();
        self.networks.retain(|one| one.address != left);
        if self.balancer.as_ref() == Some(&left) {
            self.balancer = None;
        }
        Ok(())
    }
}

/// The network that an address means.
pub(crate) fn find<'a>(
    networks: &'a [NetworkSetting],
    address: &str,
) -> Option<&'a NetworkSetting> {
    let address = address.trim();
    let by = |url: &str| {
        let whole = |url: &str| normal(url).unwrap_or_else(|_| url.to_owned());
        let wanted = whole(url);
        networks.iter().find(|one| whole(&one.address) == wanted)
    };
    if address.contains("://") {
        return by(address);
    }
    by(&format!("https://{address}")).or_else(|| by(&format!("http://{address}")))
}

/// A list as it may be kept: whole addresses, each once.
pub(crate) fn checked(networks: Vec<NetworkSetting>) -> Result<Vec<NetworkSetting>, BadNetworks> {
    if networks.len() > MOST_NETWORKS {
        return Err(NetworksError::TooMany.into());
    }
    let mut kept: Vec<NetworkSetting> = Vec::new();
    for mut network in networks {
        network.address = normal(&network.address)?;
        network.name = network.name.chars().take(LONGEST_NAME).collect();
        kept.retain(|one| one.address != network.address);
        kept.push(network);
    }
    Ok(kept)
}

/// Why a list cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadNetworks {
    #[error(transparent)]
    Address(#[from] BadUrl),
    #[error(transparent)]
    List(#[from] NetworksError),
}

fn host(address: &str) -> &str {
    address.split_once("://").map_or(address, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(addresses: &[&str]) -> Settings {
        let mut settings = Settings::default();
        for address in addresses {
            settings.join(NetworkSetting::at(address, 1)).unwrap();
        }
        settings
    }

    #[test]
    fn the_last_joined_is_active_and_one_joined_again_is_renewed() {
        let mut settings = joined(&["https://a.example", "https://b.example"]);
        assert_eq!(settings.active_network().unwrap().name, "b.example");
        let renewed = NetworkSetting {
            name: "Lab".to_owned(),
            fingerprint: Some(Fingerprint::from_bytes([1; 32])),
            joined_ms: 2,
            ..NetworkSetting::at("https://a.example", 0)
        };
        settings.join(renewed.clone()).unwrap();
        assert_eq!(settings.networks.len(), 2);
        assert_eq!(settings.active_network(), Some(&renewed));
    }

    #[test]
    fn an_address_means_its_network_in_every_way_it_is_written() {
        let settings = joined(&["https://net.example", "http://127.0.0.1:8431"]);
        for (written, meant) in [
            ("https://net.example/", Some("https://net.example")),
            ("https://NET.example:443", Some("https://net.example")),
            (" net.example ", Some("https://net.example")),
            ("127.0.0.1:8431", Some("http://127.0.0.1:8431")),
            ("net.example:8431", None),
            ("http://net.example", None),
            ("", None),
        ] {
            let found = settings.network_at(written);
            assert_eq!(found.map(|one| &*one.address), meant, "{written}");
        }
    }

    #[test]
    fn leaving_the_active_one_leaves_none_and_another_leaves_it_active() {
        let mut settings = joined(&[
            "https://a.example",
            "https://b.example",
            "https://c.example",
        ]);
        settings.leave("a.example").unwrap();
        assert_eq!(settings.balancer.as_deref(), Some("https://c.example"));
        settings.leave("https://c.example").unwrap();
        assert_eq!(
            (settings.balancer.as_ref(), settings.networks.len()),
            (None, 1)
        );
        assert_eq!(settings.leave("a.example"), Err(NetworksError::NotJoined));
        assert_eq!(settings.choose("a.example"), Err(NetworksError::NotJoined));
        settings.choose("b.example").unwrap();
        assert_eq!(settings.balancer.as_deref(), Some("https://b.example"));
    }

    #[test]
    fn an_address_that_is_used_without_joining_is_listed_and_keeps_what_is_known_of_it() {
        let mut settings = joined(&["https://a.example"]);
        settings.networks[0].name = "Lab".to_owned();
        settings.activate("https://b.example/", 7).unwrap();
        assert_eq!(settings.networks[1].joined_ms, 7);
        settings.activate("https://a.example/", 8).unwrap();
        assert_eq!(settings.active_network().unwrap().name, "Lab");
        // As an earlier version kept it.
        settings.networks[0].address = "https://A.example".to_owned();
        settings.activate("https://A.example", 9).unwrap();
        assert_eq!(settings.networks.len(), 2);
        let active = settings.active_network().unwrap();
        assert_eq!(
            (&*active.address, active.joined_ms),
            ("https://a.example", 1)
        );
    }

    #[test]
    fn a_full_list_takes_no_more_but_renews() {
        let mut settings = Settings::default();
        for number in 0..MOST_NETWORKS {
            let address = format!("https://n{number}.example");
            settings.join(NetworkSetting::at(&address, 0)).unwrap();
        }
        let one_more = NetworkSetting::at("https://more.example", 0);
        assert_eq!(settings.join(one_more), Err(NetworksError::TooMany));
        settings
            .join(NetworkSetting::at("https://n0.example", 9))
            .unwrap();
        assert_eq!(settings.networks[0].joined_ms, 9);
    }

    #[test]
    fn a_list_is_kept_with_whole_addresses_each_once() {
        let one = |address: &str| NetworkSetting::at(address, 0);
        let kept = checked(vec![one("https://a.example/"), one("https://A.example")]).unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].address, "https://a.example");
        for bad in ["a", "http://a.example", "https://user:secret@a.example"] {
            let error = checked(vec![one(bad)]).unwrap_err();
            assert!(matches!(error, BadNetworks::Address(_)), "{bad}: {error}");
        }
        let many = vec![one("https://a.example"); MOST_NETWORKS + 1];
        assert!(matches!(
            checked(many),
            Err(BadNetworks::List(NetworksError::TooMany))
        ));
    }
}
