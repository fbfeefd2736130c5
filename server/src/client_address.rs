//! Tells clients apart by their addresses, for limits that apply to each client.
//!
//! This module must not find out the address of a client: `http` does, because trusted proxies
//! forward it in headers. Start reading at [`ClientAddress`].

use std::net::{IpAddr, Ipv4Addr};

/// A client as limits count it: an IPv4 address, or a /64 network of IPv6, because one machine
/// usually has all addresses of such a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ClientAddress {
    /// A client on this machine, over a Unix socket.
    Local,
    /// An IPv4 address.
    Ipv4(Ipv4Addr),
    /// The first 64 bits of an IPv6 address.
    Ipv6Network([u16; 4]),
}

impl From<Option<IpAddr>> for ClientAddress {
    /// Converts the address of a client; `None` is a client over a Unix socket.
    fn from(address: Option<IpAddr>) -> Self {
        match address.map(|address| address.to_canonical()) {
            None => Self::Local,
            Some(IpAddr::V4(address)) => Self::Ipv4(address),
            Some(IpAddr::V6(address)) => {
                let [a, b, c, d, ..] = address.segments();
                Self::Ipv6Network([a, b, c, d])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_is_one_client() {
        let client = |text: &str| ClientAddress::from(Some(text.parse::<IpAddr>().unwrap()));
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:2"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
        assert_ne!(client("127.0.0.1"), ClientAddress::from(None));
    }
}
