//! The check of the host name.

use std::net::IpAddr;
use std::time::Duration;

use super::finding::{DoctorCheck, Finding};

const RESOLVE_TIMEOUT: Duration = Duration::from_secs(20);
/// The most addresses that are shown.
const MAX_SHOWN_ADDRESSES: usize = 4;

/// Facts about the host name of a registry.
pub(super) struct NameObservation<'a> {
    pub(super) host: &'a str,
    /// The proxy for requests to the host.
    pub(super) proxy: Option<&'a str>,
    /// The addresses, or the error of the resolver.
    pub(super) addresses: &'a Result<Vec<IpAddr>, String>,
}

/// Asks the resolver of this machine for the addresses of a host.
pub(super) async fn resolve(host: &str) -> Result<Vec<IpAddr>, String> {
    let lookup = tokio::net::lookup_host((host, 0));
    match tokio::time::timeout(RESOLVE_TIMEOUT, lookup).await {
        Err(_) => Err("the name server does not answer".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(found)) => {
            let mut addresses = Vec::new();
            for address in found.map(|address| address.ip()) {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            if addresses.is_empty() {
                return Err("the name has no address".to_owned());
            }
            Ok(addresses)
        }
    }
}

pub(super) fn judge(observed: &NameObservation<'_>) -> Finding {
    let host = observed.host;
    if host.parse::<IpAddr>().is_ok() {
        return Finding::ok(DoctorCheck::Name, format!("{host} is an address"));
    }
    match (observed.addresses, observed.proxy) {
        (Ok(addresses), _) => {
            let shown = addresses.iter().take(MAX_SHOWN_ADDRESSES);
            let shown: Vec<_> = shown.map(ToString::to_string).collect();
            let more = addresses.len() - shown.len();
            let more = match more {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let what = format!("{host} is {}{more}", shown.join(", "));
            Finding::ok(DoctorCheck::Name, what)
        }
        (Err(error), Some(proxy)) => Finding::not_checked(
            DoctorCheck::Name,
            format!("the proxy {proxy} resolves {host}; this machine does not know it ({error})"),
        ),
        (Err(error), None) => {
            let what = format!("{host} has no address: {error}");
            Finding::fault(DoctorCheck::Name, what).with_remedy([
                format!("check the spelling of {host}, and the DNS entry: getent hosts {host}"),
                "for a server without a DNS entry, add to /etc/hosts of this machine:".to_owned(),
                format!("  ADDRESS-OF-THE-SERVER {host}"),
            ])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn verdicts() {
        let address = |last| IpAddr::from([192, 0, 2, last]);
        let found = Ok((1..=6).map(address).collect());
        let missing = Err("no such host".to_owned());
        for (host, proxy, addresses, verdict, text) in [
            ("192.0.2.7", None, &missing, Verdict::Ok, "is an address"),
            ("a", None, &found, Verdict::Ok, "192.0.2.4 and 2 more"),
            ("a", Some("http://p"), &found, Verdict::Ok, "a is 192.0.2.1"),
            ("a", None, &missing, Verdict::Fault, "no such host"),
            (
                "a",
                Some("http://p"),
                &missing,
                Verdict::NotChecked,
                "http://p resolves a",
            ),
        ] {
            let finding = judge(&NameObservation {
                host,
                proxy,
                addresses,
            });
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert!(finding.what.contains(text), "{finding:?}");
            let has_hosts_line = finding
                .remedy
                .contains(&"  ADDRESS-OF-THE-SERVER a".to_owned());
            assert_eq!(has_hosts_line, verdict == Verdict::Fault);
        }
    }
}
