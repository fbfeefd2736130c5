//! Finds the client of a request behind proxies, and the URL under which it reaches this server:
//! from `Forwarded` (RFC 7239) and `X-Forwarded-For`, `-Proto` and `-Host`.
//!
//! This module must not use these headers unless a trusted proxy sends them. Start reading at
//! [`ForwardedInfo`].

use std::net::{IpAddr, SocketAddr};

use hyper::Response;
use hyper::header::{FORWARDED, HOST, LINK, LOCATION};
use hyper::http::request::Parts;
use imgsync_oci::Registry;

use super::forwarded_headers::{FORWARDED_PROTO, ForwardedElement, resolve_client};
use super::responses::header_value;
use crate::config::{Config, Network};

/// The connection of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionInfo {
    /// The address of the peer; `None` for a Unix socket, whose peer is on this machine.
    pub(crate) peer: Option<SocketAddr>,
    /// Whether the connection uses TLS.
    pub(crate) is_tls: bool,
}

/// The configuration of the public URL and of trusted proxies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PublicUrlConfig<'a> {
    /// The networks of trusted proxies.
    trusted_proxies: &'a [Network],
    /// The public URL without a trailing slash: `https://registry.example.com`.
    base_url: Option<&'a str>,
    /// The prefix of every path: empty, or `/some/where`.
    prefix: &'a str,
    /// Whether responses contain absolute URLs. Relative ones work behind any proxy.
    uses_absolute_urls: bool,
}

impl<'a> From<&'a Config> for PublicUrlConfig<'a> {
    fn from(config: &'a Config) -> Self {
        let relative = config.http.relative_urls;
        let host = config.http.host.as_deref();
        Self {
            trusted_proxies: &config.imgsync.trusted_proxies,
            base_url: host,
            prefix: &config.http.prefix,
            uses_absolute_urls: !relative.unwrap_or(host.is_none()),
        }
    }
}

/// The client of a request, and the URL by which it reaches this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForwardedInfo {
    /// The address of the client; `None` for a client on this machine, over a Unix socket.
    pub(crate) client: Option<IpAddr>,
    /// The address and port of the peer; `None` for a Unix socket.
    peer: Option<SocketAddr>,
    /// The address of the client behind a trusted proxy, unless only proxies are known.
    pub(super) proxied_client: Option<IpAddr>,
    /// Whether the peer is a trusted proxy.
    pub(crate) is_trusted: bool,
    /// Whether the peer sends forwarding headers and is not trusted.
    pub(super) is_untrusted_proxy: bool,
    /// The host that the client requested, with its port, in lower case; empty if it is not valid.
    requested_host: String,
    /// The public URL of this server: `https://registry.example.com:5000/prefix`.
    base_url: String,
    /// The prefix of the paths in response headers: the public URL, or only its path.
    location_prefix: String,
}

impl ForwardedInfo {
    /// Reads the head of a request.
    pub(crate) fn of(
        request: &Parts,
        connection: ConnectionInfo,
        config: PublicUrlConfig<'_>,
    ) -> Self {
        let is_trusted_address = |address: IpAddr| {
            config
                .trusted_proxies
                .iter()
                .any(|network| network.contains(address))
        };
        let peer = connection.peer.map(|peer| peer.ip().to_canonical());
        let is_trusted = peer.is_none_or(is_trusted_address);
        let (mut client, mut element) = (peer, ForwardedElement::default());
        if is_trusted {
            (client, element) = resolve_client(&request.headers, peer, is_trusted_address);
        }
        let proxied_client = client.filter(|client| is_trusted && !is_trusted_address(*client));
        let scheme = match element.proto {
            Some(proto) if proto.eq_ignore_ascii_case("https") => "https",
            Some(proto) if proto.eq_ignore_ascii_case("http") => "http",
            _ if connection.is_tls => "https",
            _ => "http",
        };
        let requested = request.uri.authority().map(|authority| authority.as_str());
        let requested = requested.or_else(|| request.headers.get(HOST)?.to_str().ok());
        // Only a valid host may become a part of the public URL.
        let host = [element.host, requested]
            .into_iter()
            .flatten()
            .find(|host| host.parse::<Registry>().is_ok());
        let base = match (config.base_url, host) {
            (Some(base), _) => base.to_owned(),
            (None, Some(host)) => format!("{scheme}://{host}"),
            (None, None) => String::new(),
        };
        let base_url = base + config.prefix;
        let location_prefix = if config.uses_absolute_urls {
            base_url.clone()
        } else {
            config.prefix.to_owned()
        };
        let is_present = |name| request.headers.contains_key(name);
        let is_untrusted_proxy = !is_trusted && [FORWARDED, FORWARDED_PROTO].iter().any(is_present);
        Self {
            client,
            peer: connection.peer,
            proxied_client,
            is_trusted,
            is_untrusted_proxy,
            requested_host: host.unwrap_or_default().to_ascii_lowercase(),
            base_url,
            location_prefix,
        }
    }

    /// Returns whether the client reaches this server under this host, with its port if it has one.
    pub(super) fn is_reached_at(&self, name: &str) -> bool {
        let host = self.host();
        !host.is_empty() && host == name
    }

    /// Returns the address of the client, with its port unless it is behind a proxy; `None` for a
    /// client on this machine, over a Unix socket.
    pub(super) fn client_address(&self) -> Option<String> {
        let proxied = self.proxied_client.map(|client| client.to_string());
        proxied.or_else(|| self.peer.map(|peer| peer.to_string()))
    }

    /// Returns whether the client requested this host, in lower case and with its port if it has one,
    /// whatever the public URL is.
    pub(super) fn is_requested_at(&self, name: &str) -> bool {
        !self.requested_host.is_empty() && self.requested_host == name
    }

    /// Returns the host of the public URL, with its port if it has one; empty if it is not known.
    pub(super) fn host(&self) -> &str {
        let (_, rest) = self.base_url.split_once("://").unwrap_or_default();
        rest.split('/').next().unwrap_or_default()
    }

    /// Returns the absolute URL of a path, as the client must request it.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url)
    }

    /// Adds the prefix to the paths in `Location` and `Link`, so that the client can use them.
    pub(super) fn rewrite_locations<B>(&self, response: &mut Response<B>) {
        if self.location_prefix.is_empty() {
            return;
        }
        for (name, path_start) in [(LOCATION, "/"), (LINK, "</")] {
            if let Some(entry) = response.headers_mut().get_mut(&name)
                && let Ok(text) = entry.to_str()
                && text.starts_with(path_start)
            {
                let (start, path) = text.split_at(path_start.len() - 1);
                *entry = header_value(format!("{start}{}{path}", self.location_prefix));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    const NO_CONFIG: PublicUrlConfig<'_> = PublicUrlConfig {
        trusted_proxies: &[],
        base_url: None,
        prefix: "",
        uses_absolute_urls: false,
    };

    fn resolve(peer: &str, is_tls: bool, headers: &[(&str, &str)]) -> (String, String, bool) {
        let mut request = Request::get("/v2/").header("host", "inner:5000");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let peer = (peer != "unix").then(|| SocketAddr::new(peer.parse().unwrap(), 1234));
        let trusted = ["127.0.0.0/8", "10.0.0.0/8"].map(|network| network.parse().unwrap());
        let config = PublicUrlConfig {
            trusted_proxies: &trusted,
            ..NO_CONFIG
        };
        let forwarded = ForwardedInfo::of(&parts, ConnectionInfo { peer, is_tls }, config);
        let client = forwarded
            .client
            .map_or("-".to_owned(), |client| client.to_string());
        (client, forwarded.url(""), forwarded.is_trusted)
    }

    #[test]
    fn headers_of_untrusted_proxies_are_ignored() {
        let spoofed = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example.com"),
            ("forwarded", "for=6.6.6.6;proto=https;host=evil.example.com"),
        ];
        let expected = ("8.8.8.8".to_owned(), "http://inner:5000".to_owned(), false);
        assert_eq!(resolve("8.8.8.8", false, &spoofed), expected);
        let (client, base, _) = resolve("::ffff:10.0.0.1", false, &spoofed[..3]);
        assert_eq!((&*client, &*base), ("6.6.6.6", "https://evil.example.com"));
    }

    #[test]
    fn the_client_is_the_first_untrusted_address_of_the_walk() {
        for (peer, headers, client, base) in [
            ("127.0.0.1", &[][..], "127.0.0.1", "http://inner:5000"),
            ("unix", &[][..], "-", "http://inner:5000"),
            (
                "unix",
                &[("x-forwarded-for", "6.6.6.6, 7.7.7.7, 10.1.1.1")][..],
                "7.7.7.7",
                "http://inner:5000",
            ),
            (
                "127.0.0.1",
                &[
                    ("x-forwarded-for", "6.6.6.6"),
                    ("x-forwarded-for", "[fd00::1]:80"),
                ][..],
                "fd00::1",
                "http://inner:5000",
            ),
            (
                "127.0.0.1",
                &[("x-forwarded-for", "6.6.6.6, nonsense")][..],
                "127.0.0.1",
                "http://inner:5000",
            ),
            (
                "127.0.0.1",
                &[("x-forwarded-proto", "HTTPS"), ("x-forwarded-host", "a/b")][..],
                "127.0.0.1",
                "https://inner:5000",
            ),
            (
                "127.0.0.1",
                &[
                    ("x-forwarded-proto", "javascript"),
                    ("x-forwarded-host", "a, b"),
                ][..],
                "127.0.0.1",
                "http://a",
            ),
            (
                "127.0.0.1",
                &[(
                    "Forwarded",
                    "for=6.6.6.6;host=evil, For=\"7.7.7.7:99\";Proto=https; Host=\"a:1\", for=10.0.0.9",
                )][..],
                "7.7.7.7",
                "https://a:1",
            ),
            (
                "127.0.0.1",
                &[("forwarded", "for=unknown;proto=https")][..],
                "127.0.0.1",
                "https://inner:5000",
            ),
            (
                "127.0.0.1",
                &[
                    ("forwarded", "for=6.6.6.6;proto=http;host=evil.example.com"),
                    ("x-forwarded-for", "7.7.7.7"),
                    ("x-forwarded-proto", "https"),
                ][..],
                "7.7.7.7",
                "https://inner:5000",
            ),
        ] {
            let (found_client, found_base, is_trusted) = resolve(peer, false, headers);
            assert_eq!(
                (&*found_client, &*found_base),
                (client, base),
                "{peer} {headers:?}"
            );
            assert!(is_trusted);
        }
        assert_eq!(resolve("8.8.8.8", true, &[]).1, "https://inner:5000");
    }

    #[test]
    fn the_configuration_takes_precedence() {
        let (parts, ()) = Request::get("http://x/").body(()).unwrap().into_parts();
        let connection = ConnectionInfo {
            peer: None,
            is_tls: false,
        };
        let rewritten = |config| {
            let forwarded = ForwardedInfo::of(&parts, connection, config);
            let mut response = Response::new(());
            let headers = response.headers_mut();
            headers.insert(LOCATION, header_value("/v2/a"));
            headers.insert(LINK, header_value("</v2/b>; rel=\"next\""));
            forwarded.rewrite_locations(&mut response);
            let header = |name| response.headers()[name].to_str().unwrap().to_owned();
            [forwarded.url("/v2/"), header(LOCATION), header(LINK)]
        };
        let prefixed = PublicUrlConfig {
            prefix: "/pre",
            ..NO_CONFIG
        };
        let named = PublicUrlConfig {
            base_url: Some("https://registry.example.com"),
            ..prefixed
        };
        let absolute = PublicUrlConfig {
            uses_absolute_urls: true,
            ..named
        };
        for (config, expected) in [
            (
                NO_CONFIG,
                ["http://x/v2/", "/v2/a", "</v2/b>; rel=\"next\""],
            ),
            (
                prefixed,
                ["http://x/pre/v2/", "/pre/v2/a", "</pre/v2/b>; rel=\"next\""],
            ),
            (
                named,
                [
                    "https://registry.example.com/pre/v2/",
                    "/pre/v2/a",
                    "</pre/v2/b>; rel=\"next\"",
                ],
            ),
            (
                absolute,
                [
                    "https://registry.example.com/pre/v2/",
                    "https://registry.example.com/pre/v2/a",
                    "<https://registry.example.com/pre/v2/b>; rel=\"next\"",
                ],
            ),
        ] {
            assert_eq!(rewritten(config), expected);
        }
    }
}
