//! Which registries the local engine reaches without checks: `insecure-registries` of its
//! `daemon.json`, or what the engine itself says.

use std::net::IpAddr;
use std::path::PathBuf;

use imgsync_oci::Registry;
use ipnet::IpNet;
use serde::Deserialize;

use super::credentials::files::home;

/// Registries by name, and networks that registries lie in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct InsecureRegistries {
    names: Vec<String>,
    networks: Vec<IpNet>,
}

#[derive(Deserialize)]
struct DaemonConfigFile {
    #[serde(rename = "insecure-registries", default)]
    insecure: Vec<String>,
}

impl InsecureRegistries {
    /// From the words of `insecure-registries`: `host[:port]` or a network as `10.0.0.0/8`.
    pub(super) fn from_words(words: &[String]) -> Self {
        let mut all = Self::default();
        for word in words {
            match word.parse() {
                Ok(network) => all.networks.push(network),
                Err(_) => {
                    let (_, bare) = word.split_once("://").unwrap_or(("", word));
                    all.names.push(bare.trim_end_matches('/').to_owned());
                }
            }
        }
        all
    }

    /// From the configuration files of Docker's daemons, the system's and the user's own.
    pub(super) fn from_daemon_config() -> Self {
        let own = home().map(|home| home.join(".config/docker/daemon.json"));
        let system = Some(PathBuf::from("/etc/docker/daemon.json"));
        let mut words = Vec::new();
        for path in [system, own].into_iter().flatten() {
            // A file for somebody else, or a damaged one: its daemon complains, not we.
            let content = std::fs::read(path).unwrap_or_default();
            let daemon: Option<DaemonConfigFile> = serde_json::from_slice(&content).ok();
            words.extend(daemon.into_iter().flat_map(|daemon| daemon.insecure));
        }
        Self::from_words(&words)
    }

    /// Whether a registry is among them: by its name as typed, or by an address of its host.
    pub(super) async fn covers(&self, registry: &Registry) -> bool {
        if self.names.iter().any(|name| name == registry.as_str()) {
            return true;
        }
        let beyond = |network: &&IpNet| !network.addr().is_loopback();
        let networks: Vec<&IpNet> = self.networks.iter().filter(beyond).collect();
        if networks.is_empty() {
            return false;
        }
        let host = registry.host();
        let addresses: Vec<IpAddr> = match host.parse() {
            Ok(address) => vec![address],
            Err(_) => match tokio::net::lookup_host((host, 0)).await {
                Ok(found) => found.map(|address| address.ip()).collect(),
                Err(_) => Vec::new(),
            },
        };
        addresses
            .iter()
            .any(|address| networks.iter().any(|network| network.contains(address)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_count_as_typed_and_addresses_by_network() {
        let words = ["10.0.0.0/8", "box:5000", "http://lab/", "127.0.0.0/8"].map(str::to_owned);
        let insecure = InsecureRegistries::from_words(&words);
        for (registry, covered) in [
            ("box:5000", true),
            ("box", false),
            ("lab", true),
            ("10.1.2.3:5000", true),
            ("11.1.2.3", false),
            ("127.0.0.1:5000", false),
        ] {
            let registry: Registry = registry.parse().unwrap();
            assert_eq!(insecure.covers(&registry).await, covered, "{registry}");
        }
    }
}
