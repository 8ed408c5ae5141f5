//! Where a request comes from, and what counts as one address.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::http::HeaderMap;
use axum::http::request::Parts;

use crate::config::Config;

/// The address of whoever sent a request. A reverse proxy's word is taken if the settings name its
/// header, and it speaks from this machine or from an address that they list.
pub(crate) fn of_client(parts: &Parts, config: &Config) -> IpAddr {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    // A request that came over no connection was made in this process.
    let peer = peer.map_or(IpAddr::from([127, 0, 0, 1]), |peer| peer.0.ip());
    let peer = peer.to_canonical();
    match &config.proxy_header {
        Some(header) if is_proxy(peer, config) => {
            forwarded(&parts.headers, header, config).unwrap_or(peer)
        }
        _ => peer,
    }
}

/// What an address is counted as: one of IPv4, or the /64 of IPv6 that one household has. `None`
/// for this machine, from where a reverse proxy may bring everybody's requests.
pub(crate) fn counted(address: IpAddr) -> Option<IpAddr> {
    let address = address.to_canonical();
    let counted = match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
    };
    (!address.is_loopback()).then_some(counted)
}

fn is_proxy(address: IpAddr, config: &Config) -> bool {
    address.is_loopback() || config.proxies.contains(&address)
}

/// Each proxy adds the address that it heard from at the end, so the last one that is no proxy of
/// ours is the client's. What stands before it, the client may have written itself.
fn forwarded(headers: &HeaderMap, name: &str, config: &Config) -> Option<IpAddr> {
    let mut told: Vec<_> = headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    while let Some(address) = told.pop() {
        let address: IpAddr = address.parse().ok()?;
        let address = address.to_canonical();
        if !is_proxy(address, config) {
            return Some(address);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn client(peer: &str, header: Option<&str>, told: &[&str]) -> String {
        let mut request = Request::builder();
        for told in told {
            request = request.header("x-forwarded-for", *told);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let peer = SocketAddr::new(peer.parse().unwrap(), 1);
        parts.extensions.insert(ConnectInfo(peer));
        let config = Config {
            proxy_header: header.map(str::to_owned),
            proxies: vec!["10.0.0.9".parse().unwrap()],
            ..Config::default()
        };
        of_client(&parts, &config).to_string()
    }

    #[test]
    fn a_proxys_header_is_believed_only_from_a_proxy_and_only_its_own_part() {
        let header = Some("x-forwarded-for");
        assert_eq!(client("192.0.2.1", header, &["1.1.1.1"]), "192.0.2.1");
        assert_eq!(client("127.0.0.1", None, &["1.1.1.1"]), "127.0.0.1");
        assert_eq!(client("127.0.0.1", header, &["1.1.1.1"]), "1.1.1.1");
        assert_eq!(
            client("127.0.0.1", header, &["6.6.6.6, 1.1.1.1"]),
            "1.1.1.1"
        );
        assert_eq!(
            client("127.0.0.1", header, &["6.6.6.6", "1.1.1.1"]),
            "1.1.1.1"
        );
        assert_eq!(
            client("10.0.0.9", header, &["1.1.1.1, 10.0.0.9"]),
            "1.1.1.1"
        );
        assert_eq!(
            client("127.0.0.1", header, &["6.6.6.6, nonsense"]),
            "127.0.0.1"
        );
        assert_eq!(client("127.0.0.1", header, &[]), "127.0.0.1");
        assert_eq!(client("::ffff:192.0.2.1", header, &[]), "192.0.2.1");
    }
}
