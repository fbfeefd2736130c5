//! Finds out which registries the local engine uses without certificate verification: the
//! `insecure-registries` of its `daemon.json`, or those that the engine reports.
//!
//! This module does not connect to the registries. Start reading at [`InsecureRegistries`].

use std::net::IpAddr;

use imgsync_oci::{Registry, decode_text_file};
use ipnet::IpNet;
use serde::Deserialize;

use crate::disk;

/// Insecure registries by name, and networks that contain them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct InsecureRegistries {
    names: Vec<String>,
    networks: Vec<IpNet>,
}

#[derive(Deserialize)]
struct DaemonConfigFile {
    #[serde(rename = "insecure-registries", default)]
    insecure_registries: Vec<String>,
}

impl InsecureRegistries {
    /// Parses the entries of `insecure-registries`: `host[:port]`, or a network such as
    /// `10.0.0.0/8`.
    pub(super) fn parse(entries: &[String]) -> Self {
        let mut parsed = Self::default();
        for entry in entries {
            match entry.parse() {
                Ok(network) => parsed.networks.push(network),
                Err(_) => {
                    let (_, name) = entry.split_once("://").unwrap_or(("", entry));
                    parsed.names.push(name.trim_end_matches('/').to_owned());
                }
            }
        }
        parsed
    }

    /// Reads the configuration files of Docker's daemons: that of the system and those of the user.
    pub(super) fn from_daemon_config() -> Self {
        let mut entries = Vec::new();
        for path in disk::docker_daemon_files() {
            // A file that cannot be read or parsed is skipped; the daemon reports the error itself.
            let content = decode_text_file(std::fs::read(path).unwrap_or_default());
            if let Ok(config) = serde_json::from_slice::<DaemonConfigFile>(&content) {
                entries.extend(config.insecure_registries);
            }
        }
        Self::parse(&entries)
    }

    /// Returns whether a registry is insecure, by its name as given or by an IP address of its
    /// host.
    pub(super) async fn covers(&self, registry: &Registry) -> bool {
        if self.names.iter().any(|name| name == registry.as_str()) {
            return true;
        }
        let is_remote = |network: &&IpNet| !network.addr().is_loopback();
        let networks: Vec<&IpNet> = self.networks.iter().filter(is_remote).collect();
        if networks.is_empty() {
            return false;
        }
        let contains = |address: IpAddr| networks.iter().any(|network| network.contains(&address));
        let host = registry.host();
        match host.parse() {
            Ok(address) => contains(address),
            Err(_) => tokio::net::lookup_host((host, 0))
                .await
                .is_ok_and(|mut found| found.any(|address| contains(address.ip()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_are_compared_as_typed_and_addresses_by_network() {
        let entries = ["10.0.0.0/8", "box:5000", "http://lab/", "127.0.0.0/8"].map(str::to_owned);
        let insecure = InsecureRegistries::parse(&entries);
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
