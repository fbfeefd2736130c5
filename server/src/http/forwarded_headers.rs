//! Parses the headers that proxies add to a request: `Forwarded` (RFC 7239) and `X-Forwarded-For`,
//! `-Proto` and `-Host`.
//!
//! This module must not decide which proxies are trusted. Start reading at [`resolve_client`].

use std::net::{IpAddr, SocketAddr};

use hyper::header::{FORWARDED, HeaderMap, HeaderName};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The parameters that one proxy adds to a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ForwardedElement<'a> {
    pub(super) client: Option<&'a str>,
    pub(super) proto: Option<&'a str>,
    pub(super) host: Option<&'a str>,
}

/// Walks back from proxy to proxy as long as each one is trusted. The client is the first address
/// that is not, or the last one of the walk.
pub(super) fn resolve_client(
    headers: &HeaderMap,
    peer: Option<IpAddr>,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> (Option<IpAddr>, ForwardedElement<'_>) {
    let elements: Vec<ForwardedElement<'_>> =
        values(headers, FORWARDED).map(parse_element).collect();
    // Most proxies set only X-Forwarded-For, and pass on the Forwarded header of their client.
    if !elements.is_empty() && values(headers, FORWARDED_FOR).next().is_none() {
        let mut resolved = (peer, ForwardedElement::default());
        for element in elements.into_iter().rev() {
            let client = element.client.and_then(parse_address);
            let is_trusted_client = client.is_some_and(&is_trusted);
            resolved = (client.or(resolved.0), element);
            if !is_trusted_client {
                break;
            }
        }
        return resolved;
    }
    let mut client = peer;
    let hops: Vec<_> = values(headers, FORWARDED_FOR).collect();
    for hop in hops.into_iter().rev().map_while(parse_address) {
        client = Some(hop);
        if !is_trusted(hop) {
            break;
        }
    }
    let element = ForwardedElement {
        client: None,
        proto: values(headers, FORWARDED_PROTO).next(),
        host: values(headers, FORWARDED_HOST).next(),
    };
    (client, element)
}

/// Returns the values of a list header, over all its lines.
fn values(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|value| !value.is_empty())
}

/// Parses one element of `Forwarded`: `for=1.2.3.4;proto=https;host="a:1"`.
fn parse_element(text: &str) -> ForwardedElement<'_> {
    let mut element = ForwardedElement::default();
    for (name, value) in text.split(';').filter_map(|pair| pair.split_once('=')) {
        let value = Some(value.trim().trim_matches('"'));
        match name.trim().to_ascii_lowercase().as_str() {
            "for" => element.client = value,
            "proto" => element.proto = value,
            "host" => element.host = value,
            _ => {}
        }
    }
    element
}

/// Parses an address as proxies write it: with or without a port, IPv6 with or without brackets.
fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.split(']').next());
    let address: Option<IpAddr> = bare.unwrap_or(text).parse().ok();
    let with_port = || text.parse().ok().map(|socket: SocketAddr| socket.ip());
    Some(address.or_else(with_port)?.to_canonical())
}
