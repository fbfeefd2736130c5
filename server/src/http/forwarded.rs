//! Where a request really comes from, and how its client reaches this server, when proxies stand
//! between: `Forwarded` (RFC 7239) and `X-Forwarded-For`, `-Proto` and `-Host`, believed only when
//! they come from proxies that are trusted.

use std::net::{IpAddr, SocketAddr};

use hyper::Response;
use hyper::header::{FORWARDED, HOST, HeaderMap, HeaderName, LINK, LOCATION};
use hyper::http::request::Parts;
use imgsync_oci::Registry;

use super::responses::header_value;
use crate::config::{Config, Network};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What is known about the connection that a request came over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionInfo {
    /// The other end; `None` on a Unix socket, where only this machine can be.
    pub(crate) peer: Option<SocketAddr>,
    /// Whether it is encrypted.
    pub(crate) is_tls: bool,
}

/// How this server is reached from outside, as far as it is told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PublicUrlConfig<'a> {
    /// The proxies whose word counts.
    trusted_proxies: &'a [Network],
    /// The address that clients know: `https://registry.example.com`, without a slash at its end.
    base_url: Option<&'a str>,
    /// What stands before every path: empty, or `/some/where`.
    prefix: &'a str,
    /// Whether addresses in answers are absolute. Relative ones are right behind any proxy.
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

/// Where one request comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForwardedInfo {
    /// The client; `None` where it is this machine, over a Unix socket.
    pub(crate) client: Option<IpAddr>,
    /// Whether the other end of the connection is a proxy whose word counts.
    pub(crate) is_trusted: bool,
    /// Whether it says something as a proxy does, and is not believed.
    pub(super) is_untrusted_proxy: bool,
    /// How the client reaches this server: `https://registry.example.com:5000/prefix`.
    base_url: String,
    /// What is put before paths in answers.
    location_prefix: String,
}

/// What one proxy says about what it was asked.
#[derive(Debug, Default, PartialEq, Eq)]
struct ForwardedElement<'a> {
    client: Option<&'a str>,
    proto: Option<&'a str>,
    host: Option<&'a str>,
}

impl ForwardedInfo {
    /// Reads a request's head.
    pub(crate) fn of(
        request: &Parts,
        connection: ConnectionInfo,
        reach: PublicUrlConfig<'_>,
    ) -> Self {
        let is_trusted_address = |address: IpAddr| {
            reach
                .trusted_proxies
                .iter()
                .any(|network| network.contains(address))
        };
        let peer = connection.peer.map(|peer| peer.ip().to_canonical());
        let is_trusted = peer.is_none_or(is_trusted_address);
        let (mut client, mut said) = (peer, ForwardedElement::default());
        if is_trusted {
            (client, said) = resolve_client(&request.headers, peer, is_trusted_address);
        }
        let scheme = match said.proto {
            Some(proto) if proto.eq_ignore_ascii_case("https") => "https",
            Some(proto) if proto.eq_ignore_ascii_case("http") => "http",
            Some(_) | None if connection.is_tls => "https",
            Some(_) | None => "http",
        };
        let own = request.uri.authority().map(|authority| authority.as_str());
        let own = own.or_else(|| request.headers.get(HOST)?.to_str().ok());
        // What is no address would end up in ours.
        let host = [said.host, own]
            .into_iter()
            .flatten()
            .find(|host| host.parse::<Registry>().is_ok());
        let base = match (reach.base_url, host) {
            (Some(base), _) => base.to_owned(),
            (None, Some(host)) => format!("{scheme}://{host}"),
            (None, None) => String::new(),
        };
        let base_url = base + reach.prefix;
        let location_prefix = match reach.uses_absolute_urls {
            true => base_url.clone(),
            false => reach.prefix.to_owned(),
        };
        let says_something = |name| request.headers.contains_key(name);
        let is_untrusted_proxy =
            !is_trusted && [FORWARDED, FORWARDED_PROTO].iter().any(says_something);
        Self {
            client,
            is_trusted,
            is_untrusted_proxy,
            base_url,
            location_prefix,
        }
    }

    /// Whether the client reaches this server at this host, or host and port.
    pub(super) fn is_reached_at(&self, name: &str) -> bool {
        let (_, rest) = self.base_url.split_once("://").unwrap_or_default();
        let host = rest.split('/').next().unwrap_or_default();
        !host.is_empty() && host == name
    }

    /// The absolute address of a path, as the client must ask for it.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url)
    }

    /// Makes the paths in an answer's headers addresses that the client can use.
    pub(super) fn rewrite_locations<B>(&self, response: &mut Response<B>) {
        if self.location_prefix.is_empty() {
            return;
        }
        for (name, before) in [(LOCATION, "/"), (LINK, "</")] {
            if let Some(entry) = response.headers_mut().get_mut(&name)
                && let Ok(text) = entry.to_str()
                && text.starts_with(before)
            {
                let (start, path) = text.split_at(before.len() - 1);
                *entry = header_value(format!("{start}{}{path}", self.location_prefix));
            }
        }
    }
}

/// Goes back from proxy to proxy as long as each is trusted: the client is the first that is not,
/// or the last there is.
fn resolve_client(
    headers: &HeaderMap,
    peer: Option<IpAddr>,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> (Option<IpAddr>, ForwardedElement<'_>) {
    let elements: Vec<ForwardedElement<'_>> = values(headers, FORWARDED).map(element).collect();
    // Most proxies set X-Forwarded-For only, and pass on whatever their client says in the other.
    if !elements.is_empty() && values(headers, FORWARDED_FOR).next().is_none() {
        let mut found = (peer, ForwardedElement::default());
        for said in elements.into_iter().rev() {
            let client = said.client.and_then(address);
            let go_on = client.is_some_and(&is_trusted);
            found = (client.or(found.0), said);
            if !go_on {
                break;
            }
        }
        return found;
    }
    let mut client = peer;
    let hops: Vec<_> = values(headers, FORWARDED_FOR).collect();
    for hop in hops.into_iter().rev().map_while(address) {
        client = Some(hop);
        if !is_trusted(hop) {
            break;
        }
    }
    let said = ForwardedElement {
        client: None,
        proto: values(headers, FORWARDED_PROTO).next(),
        host: values(headers, FORWARDED_HOST).next(),
    };
    (client, said)
}

/// The values of a list header, over all its lines.
fn values(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|value| !value.is_empty())
}

/// One element of `Forwarded`: `for=1.2.3.4;proto=https;host="a:1"`.
fn element(text: &str) -> ForwardedElement<'_> {
    let mut said = ForwardedElement::default();
    for (name, value) in text.split(';').filter_map(|pair| pair.split_once('=')) {
        let value = Some(value.trim().trim_matches('"'));
        match name.trim().to_ascii_lowercase().as_str() {
            "for" => said.client = value,
            "proto" => said.proto = value,
            "host" => said.host = value,
            _ => {}
        }
    }
    said
}

/// An address as proxies write it: with or without a port, IPv6 with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.split(']').next());
    let address: Option<IpAddr> = bare.unwrap_or(text).parse().ok();
    let with_port = || text.parse().ok().map(|socket: SocketAddr| socket.ip());
    Some(address.or_else(with_port)?.to_canonical())
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

    fn origin(peer: &str, is_tls: bool, headers: &[(&str, &str)]) -> (String, String, bool) {
        let mut request = Request::get("/v2/").header("host", "inner:5000");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let peer = (peer != "unix").then(|| SocketAddr::new(peer.parse().unwrap(), 1234));
        let trusted = ["127.0.0.0/8", "10.0.0.0/8"].map(|network| network.parse().unwrap());
        let reach = PublicUrlConfig {
            trusted_proxies: &trusted,
            ..NO_CONFIG
        };
        let origin = ForwardedInfo::of(&parts, ConnectionInfo { peer, is_tls }, reach);
        let client = origin
            .client
            .map_or("-".to_owned(), |client| client.to_string());
        (client, origin.url(""), origin.is_trusted)
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let spoofed = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example.com"),
            ("forwarded", "for=6.6.6.6;proto=https;host=evil.example.com"),
        ];
        let expected = ("8.8.8.8".to_owned(), "http://inner:5000".to_owned(), false);
        assert_eq!(origin("8.8.8.8", false, &spoofed), expected);
        let (client, base, _) = origin("::ffff:10.0.0.1", false, &spoofed[..3]);
        assert_eq!((&*client, &*base), ("6.6.6.6", "https://evil.example.com"));
    }

    #[test]
    fn the_client_is_the_last_that_no_trusted_proxy_vouches_for() {
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
            let (found, reached, is_trusted) = origin(peer, false, headers);
            assert_eq!((&*found, &*reached), (client, base), "{peer} {headers:?}");
            assert!(is_trusted);
        }
        assert_eq!(origin("8.8.8.8", true, &[]).1, "https://inner:5000");
    }

    #[test]
    fn what_the_operator_says_counts_more() {
        let (parts, ()) = Request::get("http://x/").body(()).unwrap().into_parts();
        let connection = ConnectionInfo {
            peer: None,
            is_tls: false,
        };
        let found = |reach| {
            let origin = ForwardedInfo::of(&parts, connection, reach);
            let mut response = Response::new(());
            let headers = response.headers_mut();
            headers.insert(LOCATION, header_value("/v2/a"));
            headers.insert(LINK, header_value("</v2/b>; rel=\"next\""));
            origin.rewrite_locations(&mut response);
            let header = |name| response.headers()[name].to_str().unwrap().to_owned();
            [origin.url("/v2/"), header(LOCATION), header(LINK)]
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
        for (reach, expected) in [
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
            assert_eq!(found(reach), expected);
        }
    }
}
