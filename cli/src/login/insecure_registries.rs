//! Finds out which registries the local engine uses without certificate verification: the
//! `insecure-registries` of its `daemon.json`, or those that the engine reports.
//!
//! This module does not connect to the registries. Start reading at [`InsecureRegistries`].

use std::net::IpAddr;
use std::path::PathBuf;

use imgsync_oci::Registry;
use ipnet::IpNet;
use serde::Deserialize;

use super::credentials::files::home;

/// Insecure registries by name, and networks that contain them.
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
    /// Parses the entries of `insecure-registries`: `host[:port]`, or a network such as
    /// `10.0.0.0/8`.
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

    /// Reads the configuration files of Docker's daemons: that of the system and that of the user.
    pub(super) fn from_daemon_config() -> Self {
        let own = home().map(|home| home.join(".config/docker/daemon.json"));
        let system = Some(PathBuf::from("/etc/docker/daemon.json"));
        let mut words = Vec::new();
        for path in [system, own].into_iter().flatten() {
            // A file that cannot be read or parsed is skipped; the daemon reports the error itself.
            let content = std::fs::read(path).unwrap_or_default();
            let daemon: Option<DaemonConfigFile> = serde_json::from_slice(&content).ok();
            words.extend(daemon.into_iter().flat_map(|daemon| daemon.insecure));
        }
        Self::from_words(&words)
    }

    /// Returns whether a registry is insecure, by its name as given or by an IP address of its
    /// host.
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
