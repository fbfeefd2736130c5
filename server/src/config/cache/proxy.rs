//! The stock registry's section `proxy`.

use super::super::reader::ConfigReader;
use super::super::scalars::parse_duration;
use super::super::types::UpstreamConfig;
use super::remote::{build_login, parse_remote_url};
use super::{ParsedUpstream, UpstreamPosition};

/// Builds the upstream of `proxy`, which serves every name without another upstream's prefix;
/// `Some(None)` when `proxy.remoteurl` is not set.
pub(super) fn build_proxy(
    reader: &mut ConfigReader<'_>,
    freshness: &str,
) -> Option<Option<ParsedUpstream>> {
    let Some(origin) = reader
        .origin("proxy.remoteurl")
        .filter(|_| reader.is_set("proxy.remoteurl"))
    else {
        return Some(None);
    };
    let remote = reader.optional("proxy.remoteurl", parse_remote_url)?;
    let login = build_login(reader, "proxy", false)?;
    let (remote, is_tls) = remote?;
    let position = UpstreamPosition {
        key: "proxy".to_owned(),
        origin,
        has_mirror_key: false,
    };
    let upstream = UpstreamConfig {
        prefix: None,
        remote,
        is_tls,
        login,
        // An invalid value is reported for its own key.
        freshness: parse_duration(freshness).unwrap_or_default(),
        repositories: Vec::new(),
        namespaces: Vec::new(),
        is_mirror: false,
        ca_file: None,
        is_insecure: false,
    };
    Some(Some((position, upstream)))
}
