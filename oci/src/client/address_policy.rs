//! Restricts the addresses to which a registry can send the client: with redirects, and as token
//! server.
//!
//! A program that fetches for others must not be led to services that only it can reach. The
//! addresses are checked after the name is resolved and before the connection is opened, so a name
//! cannot resolve to another address after the check. Which addresses are allowed is up to the
//! [`AddressPolicy`]. The registry itself may be anywhere, but must not move to an internal address
//! if nothing else shows that it is the registry. Start reading at [`AddressGuard`].

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Decides which addresses a registry may send the client to.
pub trait AddressPolicy: Send + Sync {
    /// Reports whether an address is that of this machine or of an internal network.
    fn is_internal(&self, address: IpAddr) -> bool;

    /// Checks an address that the registry names. `is_registry_internal` is true if the registry
    /// itself was only seen at internal addresses.
    ///
    /// # Errors
    /// Returns the reason if the address must not be contacted.
    fn check(&self, address: IpAddr, is_registry_internal: bool) -> Result<(), String>;
}

/// The refusal to contact an address.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub(super) struct ForbiddenAddress {
    pub(super) reason: String,
}

/// Where the registry is, from what was seen so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RegistryLocation {
    Unknown,
    /// All addresses were internal.
    Internal,
    /// At least one address was not internal. It stays so: whoever controls the DNS entry of a
    /// registry must not be able to make it look internal for a moment.
    External,
}

/// Checks addresses with a policy, and has the HTTP client that connects to checked addresses only.
#[derive(Clone)]
pub(super) struct AddressGuard {
    checker: Arc<AddressChecker>,
    /// Uses no proxy, and resolves names with the checker.
    direct: reqwest::Client,
}

struct AddressChecker {
    policy: Arc<dyn AddressPolicy>,
    location: Mutex<RegistryLocation>,
    /// The proxies of the environment; `None` if no proxy is used for this registry.
    proxies: Option<Matcher>,
    registry_url: Url,
}

impl AddressGuard {
    /// Returns a guard for the registry at `registry_url`. `direct` builds on a client without
    /// proxies.
    pub(super) fn new(
        policy: Arc<dyn AddressPolicy>,
        registry_url: &Url,
        uses_proxies: bool,
        direct: reqwest::ClientBuilder,
    ) -> reqwest::Result<Self> {
        let location = match literal_address(registry_url) {
            Some(address) if policy.is_internal(address) => RegistryLocation::Internal,
            Some(_) => RegistryLocation::External,
            None => RegistryLocation::Unknown,
        };
        let checker = Arc::new(AddressChecker {
            policy,
            location: Mutex::new(location),
            proxies: uses_proxies.then(Matcher::from_system),
            registry_url: registry_url.clone(),
        });
        let resolver = CheckedResolver {
            checker: Arc::clone(&checker),
            check: AddressChecker::check,
        };
        let direct = direct.no_proxy().dns_resolver(resolver).build()?;
        Ok(Self { checker, direct })
    }

    /// Returns the client for the registry itself, if its certificate is not verified.
    ///
    /// The registry could redirect to itself, and then let its own name resolve to an internal
    /// address. So a registry that was seen at a public address is not contacted at an internal one.
    pub(super) fn unverified_registry(
        &self,
        builder: reqwest::ClientBuilder,
    ) -> reqwest::Result<reqwest::Client> {
        let resolver = CheckedResolver {
            checker: Arc::clone(&self.checker),
            check: AddressChecker::check_registry,
        };
        builder.dns_resolver(resolver).build()
    }

    /// Records the address from which the registry answered.
    pub(super) fn record_registry(&self, response: &reqwest::Response) {
        // Behind a proxy this is the address of the proxy.
        if let Some(address) = response.remote_addr()
            && !self.checker.is_proxied(&self.checker.registry_url)
        {
            self.checker.record_registry(address.ip());
        }
    }

    /// Checks a URL that the registry names. Returns the client that must send the request; `None`
    /// for any client.
    ///
    /// # Errors
    /// Fails if the URL contains an address that must not be contacted. Names are checked when the
    /// returned client resolves them; behind a proxy they are not checked.
    pub(super) fn client_for(
        &self,
        url: &Url,
    ) -> Result<Option<&reqwest::Client>, ForbiddenAddress> {
        if is_same_local_service(&self.checker.registry_url, url) {
            return Ok(None);
        }
        if let Some(address) = literal_address(url) {
            self.checker.check(address)?;
        }
        Ok((!self.checker.is_proxied(url)).then_some(&self.direct))
    }
}

impl std::fmt::Debug for AddressGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AddressGuard")
    }
}

impl AddressChecker {
    fn check(&self, address: IpAddr) -> Result<(), ForbiddenAddress> {
        let location = *self.location.lock().unwrap_or_else(PoisonError::into_inner);
        let checked = self
            .policy
            .check(address, location == RegistryLocation::Internal);
        checked.map_err(|reason| ForbiddenAddress { reason })
    }

    /// Checks an address of the registry itself.
    fn check_registry(&self, address: IpAddr) -> Result<(), ForbiddenAddress> {
        let location = *self.location.lock().unwrap_or_else(PoisonError::into_inner);
        match location {
            // Behind a proxy the location stays unknown, and the name is that of the proxy.
            RegistryLocation::Unknown | RegistryLocation::Internal => Ok(()),
            RegistryLocation::External => self.check(address),
        }
    }

    fn record_registry(&self, address: IpAddr) {
        let mut location = self.location.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.policy.is_internal(address) {
            *location = RegistryLocation::External;
        } else if *location == RegistryLocation::Unknown {
            *location = RegistryLocation::Internal;
        }
    }

    /// Reports whether requests to this URL are sent through a proxy, which then resolves the name.
    fn is_proxied(&self, url: &Url) -> bool {
        let uri = url.as_str().parse::<http::Uri>();
        let proxies = self.proxies.as_ref().zip(uri.ok());
        proxies.is_some_and(|(proxies, uri)| proxies.intercept(&uri).is_some())
    }
}

/// Resolves names to those of their addresses that may be contacted.
struct CheckedResolver {
    checker: Arc<AddressChecker>,
    check: fn(&AddressChecker, IpAddr) -> Result<(), ForbiddenAddress>,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (checker, check) = (Arc::clone(&self.checker), self.check);
        Box::pin(async move {
            let mut refusal = None;
            let mut allowed = Vec::new();
            for address in tokio::net::lookup_host((name.as_str(), 0)).await? {
                match check(&checker, address.ip()) {
                    Ok(()) => allowed.push(address),
                    Err(error) => refusal = Some(error),
                }
            }
            match refusal {
                Some(refusal) if allowed.is_empty() => Err(refusal.into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

/// Returns the refusal that caused an error, if one did.
pub(super) fn refusal_in(error: &reqwest::Error) -> Option<&ForbiddenAddress> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(refusal) = cause.downcast_ref::<ForbiddenAddress>() {
            return Some(refusal);
        }
        next = cause.source();
    }
    None
}

/// Returns the address in a URL whose host is no name.
fn literal_address(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(address.into()),
        Host::Ipv6(address) => Some(address.into()),
        Host::Domain(_) => None,
    }
}

/// Reports whether two URLs are at the same port of this machine: a registry at `localhost` may name
/// itself `127.0.0.1`.
fn is_same_local_service(one: &Url, other: &Url) -> bool {
    let is_local = |url: &Url| match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    let is_same_port = one.port_or_known_default() == other.port_or_known_default();
    is_same_port && is_local(one) && is_local(other)
}

#[cfg(test)]
mod tests {
    use super::super::{Client, Error, TlsOptions, UrlScheme};
    use super::*;

    /// Treats 10.0.0.0/8 as internal.
    struct TenIsInternal;

    impl AddressPolicy for TenIsInternal {
        fn is_internal(&self, address: IpAddr) -> bool {
            matches!(address, IpAddr::V4(address) if address.octets()[0] == 10)
        }

        fn check(&self, address: IpAddr, is_registry_internal: bool) -> Result<(), String> {
            if self.is_internal(address) && !is_registry_internal {
                Err(format!("{address} is internal"))
            } else {
                Ok(())
            }
        }
    }

    fn guard(registry: &str) -> AddressGuard {
        let url = Url::parse(registry).unwrap();
        let builder = reqwest::Client::builder();
        AddressGuard::new(Arc::new(TenIsInternal), &url, false, builder).unwrap()
    }

    #[test]
    fn addresses_in_urls_are_checked_in_every_notation() {
        let guard = guard("https://registry.example");
        for forbidden in [
            "http://10.0.0.1/x",
            "http://10.1:2375/",
            "http://0xa000001/",
            "http://167772161/",
            "http://012.0.0.1/",
            "http://10.0.0.1./",
        ] {
            let url = Url::parse(forbidden).unwrap();
            assert!(guard.client_for(&url).is_err(), "{forbidden}");
        }
        let other = Url::parse("http://11.0.0.1/").unwrap();
        assert!(guard.client_for(&other).unwrap().is_some());
    }

    #[test]
    fn a_registry_is_internal_while_all_its_addresses_are() {
        let internal = Url::parse("http://10.0.0.2/").unwrap();
        assert!(guard("https://10.0.0.1").client_for(&internal).is_ok());
        let guard = guard("https://registry.example");
        let record = |address: [u8; 4]| guard.checker.record_registry(address.into());
        record([10, 0, 0, 1]);
        assert!(guard.client_for(&internal).is_ok());
        record([11, 0, 0, 1]);
        record([10, 0, 0, 1]);
        assert!(guard.client_for(&internal).is_err());
    }

    #[test]
    fn a_registry_on_this_machine_may_name_its_own_port() {
        let is_same = |one: &str, other: &str| {
            is_same_local_service(&Url::parse(one).unwrap(), &Url::parse(other).unwrap())
        };
        assert!(is_same(
            "http://localhost:5000",
            "http://127.0.0.1:5000/v2/"
        ));
        assert!(is_same("http://[::1]:5000", "http://localhost:5000/token"));
        assert!(!is_same("http://localhost:5000", "http://127.0.0.1:2375/"));
        assert!(!is_same("http://10.0.0.1:5000", "http://127.0.0.1:5000/"));
    }

    struct LoopbackIsInternal;

    impl AddressPolicy for LoopbackIsInternal {
        fn is_internal(&self, address: IpAddr) -> bool {
            address.is_loopback()
        }

        fn check(&self, address: IpAddr, _: bool) -> Result<(), String> {
            Err(format!("{address} is internal"))
        }
    }

    fn assert_no_connection(listener: &std::net::TcpListener) {
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "no connection was opened");
    }

    #[tokio::test]
    async fn a_public_registry_cannot_move_to_an_internal_address_without_tls() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let registry = format!("localhost:{port}").parse().unwrap();
        let tls = TlsOptions::default();
        let client = Client::new(&registry, UrlScheme::Http).unwrap();
        let client = client.with_address_policy(Arc::new(LoopbackIsInternal), &tls);
        let client = client.unwrap().with_max_attempts(1);
        let guard = client.address_guard.as_ref().unwrap();
        guard.checker.record_registry([11, 0, 0, 1].into());
        let tags = client.list_tags(&"app".parse().unwrap(), None).await;
        let error = tags.unwrap_err();
        assert!(matches!(error, Error::ForbiddenAddress { .. }), "{error:?}");
        assert_no_connection(&listener);
    }

    #[tokio::test]
    async fn names_are_checked_after_they_are_resolved() {
        let url = Url::parse("https://registry.example").unwrap();
        let policy = Arc::new(LoopbackIsInternal);
        let guard = AddressGuard::new(policy, &url, false, reqwest::Client::builder()).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!(
            "http://localhost:{}/",
            listener.local_addr().unwrap().port()
        );
        let client = guard
            .client_for(&Url::parse(&url).unwrap())
            .unwrap()
            .unwrap();
        let error = client.get(url).send().await.unwrap_err();
        assert!(refusal_in(&error).is_some(), "{error:?}");
        assert_no_connection(&listener);
    }
}
