//! Warnings about a server that other machines can reach without TLS or without authentication.

use crate::auth::{AccessController, AuthScheme};
use crate::config::{Config, Network};
use crate::listen::Listener;

/// The networks from which clients can connect to the server.
pub(super) struct Exposure {
    /// The URL of the listening socket.
    pub(super) url: String,
    is_local: bool,
    is_tls: bool,
}

impl Exposure {
    /// Returns who can connect to a listener.
    pub(super) fn of(listener: &Listener, is_tls: bool) -> Self {
        Self {
            url: listener.url(is_tls),
            is_local: listener.is_local(),
            is_tls,
        }
    }

    /// Logs what an operator should change when other machines can connect.
    pub(super) fn warn(&self, auth: &AccessController, config: &Config) {
        if self.is_local {
            return;
        }
        let url = &self.url;
        let Some((scheme, _)) = auth.scheme() else {
            tracing::warn!(
                "anyone who can connect to {url} can pull and push: no authentication is configured"
            );
            return;
        };
        if self.is_tls {
            return;
        }
        tracing::warn!(
            "passwords are sent to {url} without TLS: set http.tls, or set http.addr to an address \
             that only a TLS proxy can connect to"
        );
        let trusts_only_loopback = config
            .imgsync
            .trusted_proxies
            .iter()
            .all(Network::is_loopback);
        if scheme == AuthScheme::Token && config.http.host.is_none() && trusts_only_loopback {
            tracing::warn!(
                "clients of {url} are sent to http://… to log in: behind a TLS proxy, add the \
                 proxy's address to imgsync.trustedproxies, or set http.host to the https:// URL \
                 that clients use"
            );
        }
    }
}
