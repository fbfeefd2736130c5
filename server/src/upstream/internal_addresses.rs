//! Protects internal services from upstreams: an upstream may not send this server to them.
//!
//! An upstream chooses where its redirects and its token server are, and a client gets what this
//! server fetches there. Services that trust their network, such as the metadata service of a cloud,
//! must not be reached in this way. Start reading at [`InternalAddressPolicy`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use imgsync_oci::client::AddressPolicy;

use crate::config::{ALLOWED_NETWORKS_KEY, Network};

/// From where an address can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AddressScope {
    /// This machine, or the link that it is on: loopback and link-local addresses.
    Local,
    /// A private network; also a public address of this machine, because firewalls do not apply to
    /// connections to it from here.
    Private,
    /// The internet.
    Public,
}

/// Allows public addresses, and internal ones that the configuration names.
///
/// If the upstream itself is at an internal address, it may also use private networks. It may not use
/// loopback and link-local addresses: what answers there is this machine's own, for example the
/// Docker API or the metadata service.
pub(super) struct InternalAddressPolicy {
    /// The networks in `imgsync.cache.allowednetworks`.
    pub(super) allowed: Vec<Network>,
}

impl AddressPolicy for InternalAddressPolicy {
    fn is_internal(&self, address: IpAddr) -> bool {
        actual_scope(address) != AddressScope::Public
    }

    fn check(&self, address: IpAddr, is_registry_internal: bool) -> Result<(), String> {
        let scope = actual_scope(address);
        let is_configured = || {
            let addresses = [Some(address), embedded_ipv4(address).map(IpAddr::V4)];
            let mut addresses = addresses.into_iter().flatten();
            addresses.any(|address| self.allowed.iter().any(|network| network.contains(address)))
        };
        match scope {
            AddressScope::Public => return Ok(()),
            AddressScope::Private if is_registry_internal => return Ok(()),
            AddressScope::Private | AddressScope::Local if is_configured() => return Ok(()),
            AddressScope::Private | AddressScope::Local => {}
        }
        Err(format!(
            "{address} is an internal address; if the upstream may use it, add its network to \
             {ALLOWED_NETWORKS_KEY}"
        ))
    }
}

/// Returns the scope of an address on this machine.
fn actual_scope(address: IpAddr) -> AddressScope {
    match scope(address) {
        AddressScope::Public if is_own(address) => AddressScope::Private,
        scope => scope,
    }
}

/// Returns whether a public address is one of this machine's. An address that stands for a public
/// host is not, although the program that resolved the name may have it.
fn is_own(address: IpAddr) -> bool {
    let address = embedded_ipv4(address).map_or(address, IpAddr::V4);
    let any: IpAddr = match address {
        IpAddr::V4(address) if is_stand_in(address) => return false,
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Nothing is sent. The kernel chooses the address from which it would send, and for its own
    // address it is the same one. To bind to the address would be no test: some machines allow that
    // for every address.
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.ip() == address)
}

/// Returns whether an address is in 198.18.0.0/15. Resolvers of VPN clients and proxies answer with
/// such addresses, which stand for public hosts.
fn is_stand_in(address: Ipv4Addr) -> bool {
    matches!(address.octets(), [198, 18..=19, ..])
}

/// Returns the scope of an address, wherever it is. An IPv6 address that contains an IPv4 address has the scope of
/// that one.
fn scope(address: IpAddr) -> AddressScope {
    match address {
        IpAddr::V4(address) => scope_of_ipv4(address),
        IpAddr::V6(v6) => match embedded_ipv4(address) {
            Some(address) => scope_of_ipv4(address),
            None => scope_of_ipv6(v6),
        },
    }
}

fn scope_of_ipv4(address: Ipv4Addr) -> AddressScope {
    match address.octets() {
        // A connection to 0.0.0.0 reaches this machine.
        [0 | 127, ..] | [169, 254, ..] => AddressScope::Local,
        // The platform of Azure answers here on every virtual machine.
        [168, 63, 129, 16] => AddressScope::Local,
        // RFC 1918, RFC 6598 and RFC 6890. Metadata services of clouds are also in the last two.
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => AddressScope::Private,
        [100, 64..=127, ..] | [192, 0, 0, _] => AddressScope::Private,
        // Reserved (RFC 1112). Some clouds use it for internal networks.
        [240..=255, ..] => AddressScope::Private,
        _ => AddressScope::Public,
    }
}

fn scope_of_ipv6(address: Ipv6Addr) -> AddressScope {
    match address.segments() {
        // The unspecified address reaches this machine, like the loopback address.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] | [0xfe80..=0xfebf, ..] => AddressScope::Local,
        // Unique local addresses, and the site-local ones that they replaced.
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => AddressScope::Private,
        // NAT64 for private networks (RFC 8215). Where the IPv4 address is in it differs by network.
        [0x64, 0xff9b, 1, ..] => AddressScope::Private,
        _ => AddressScope::Public,
    }
}

/// Returns the IPv4 address in an IPv6 address of the forms for NAT64 (`64:ff9b::/96`), 6to4, and
/// mapped, translated and compatible addresses.
fn embedded_ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else {
        return None;
    };
    let (high, low) = match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => return None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => (high, low),
        _ => return None,
    };
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allowed: &[&str]) -> InternalAddressPolicy {
        InternalAddressPolicy {
            allowed: allowed.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    fn is_allowed(
        policy: &InternalAddressPolicy,
        address: &str,
        is_registry_internal: bool,
    ) -> bool {
        let address = address.parse().unwrap();
        policy.check(address, is_registry_internal).is_ok()
    }

    const LOCAL: &[&str] = &[
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "127.255.0.9",
        "168.63.129.16",
        "169.254.169.254",
        "::",
        "::1",
        "fe80::1",
        "febf::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0:127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::1",
    ];
    const PRIVATE: &[&str] = &[
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "100.100.100.200",
        "100.127.255.255",
        "192.0.0.192",
        "240.0.0.1",
        "fc00::1",
        "fd00:ec2::254",
        "fec0::1",
        "::10.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::192.168.0.1",
        "64:ff9b:1::808:808",
        "2002:a00:1::1",
    ];
    const PUBLIC: &[&str] = &[
        "1.1.1.1",
        "100.63.255.255",
        "100.128.0.1",
        "172.15.0.1",
        "172.32.0.1",
        "198.18.0.1",
        "198.19.255.255",
        "168.63.129.17",
        "192.0.1.1",
        "2606:4700::1111",
        "::ffff:1.1.1.1",
        "64:ff9b::1.1.1.1",
        "64:ff9b::198.18.0.1",
        "2002:101:101::1",
    ];

    #[test]
    fn internal_addresses_are_refused_in_every_form() {
        let policy = policy(&[]);
        for address in LOCAL.iter().chain(PRIVATE) {
            assert!(!is_allowed(&policy, address, false), "{address}");
            assert!(policy.is_internal(address.parse().unwrap()), "{address}");
        }
        for address in PUBLIC {
            assert!(is_allowed(&policy, address, false), "{address}");
            assert!(!policy.is_internal(address.parse().unwrap()), "{address}");
        }
        let reason = policy.check("10.0.0.1".parse().unwrap(), false);
        assert!(
            reason
                .unwrap_err()
                .contains("imgsync.cache.allowednetworks")
        );
    }

    #[test]
    fn an_address_of_this_machine_is_internal() {
        assert!(is_own("127.0.0.1".parse().unwrap()));
        assert!(is_own("::ffff:127.0.0.1".parse().unwrap()));
        for address in PUBLIC {
            assert!(!is_own(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn an_internal_upstream_may_use_private_networks_but_not_this_machine() {
        let policy = policy(&[]);
        for address in PRIVATE.iter().chain(PUBLIC) {
            assert!(is_allowed(&policy, address, true), "{address}");
        }
        for address in LOCAL {
            assert!(!is_allowed(&policy, address, true), "{address}");
        }
    }

    #[test]
    fn configured_networks_are_allowed() {
        let policy = policy(&["127.0.0.0/8", "10.1.0.0/16", "fd00::/8"]);
        for address in [
            "127.0.0.1",
            "::ffff:127.0.0.1",
            "10.1.2.3",
            "::10.1.2.3",
            "64:ff9b::10.1.2.3",
            "fd00:ec2::254",
        ] {
            assert!(is_allowed(&policy, address, false), "{address}");
        }
        for address in ["10.2.0.1", "::1", "169.254.169.254", "fc00::1"] {
            assert!(!is_allowed(&policy, address, false), "{address}");
        }
    }
}
