//! The stock registry's section: `proxy`.

use super::super::reader::ConfigReader;
use super::super::scalars::parse_duration;
use super::super::types::UpstreamConfig;
use super::remote::{build_login, parse_remote_url};
use super::{ParsedUpstream, UpstreamPosition, is_set};

/// The stock registry's only upstream: it stands behind every name.
pub(super) fn build_proxy(
    r: &mut ConfigReader<'_>,
    freshness: &str,
) -> Option<Option<ParsedUpstream>> {
    let Some(origin) = r
        .origin("proxy.remoteurl")
        .filter(|_| is_set(r, "proxy.remoteurl"))
    else {
        return Some(None);
    };
    let remote = r.optional("proxy.remoteurl", parse_remote_url)?;
    let login = build_login(r, "proxy", false)?;
    let (remote, is_tls) = remote?;
    let place = UpstreamPosition {
        key: "proxy".to_owned(),
        origin,
        has_mirror_key: false,
    };
    let upstream = UpstreamConfig {
        prefix: None,
        remote,
        is_tls,
        login,
        // What is wrong with it is told where it stands.
        freshness: parse_duration(freshness).unwrap_or_default(),
        repositories: Vec::new(),
        namespaces: Vec::new(),
        is_mirror: false,
        ca_file: None,
        is_insecure: false,
    };
    Some(Some((place, upstream)))
}
