//! Pull-through caching: the stock registry's section `proxy`, and our `imgsync.cache`.
//!
//! Start reading at [`build_cache`].

mod conflicts;
mod proxy;
mod remote;
#[cfg(test)]
mod tests;
mod upstream_entry;

use std::time::Duration;

use super::network::Network;
use super::reader::ConfigReader;
use super::scalars::{parse_bytes, parse_duration, parse_with_from_str};
use super::tree::{NodeValue, ValueOrigin};
use super::types::{CacheConfig, UpstreamConfig};

/// The networks to which an upstream may redirect although they are internal.
pub const ALLOWED_NETWORKS_KEY: &str = "imgsync.cache.allowednetworks";
const UPSTREAMS_KEY: &str = "imgsync.cache.upstreams";
const FRESHNESS_KEY: &str = "imgsync.cache.freshness";
const MAX_BYTES_KEY: &str = "imgsync.cache.maxbytes";
const MAX_AGE_KEY: &str = "imgsync.cache.maxage";
/// The default of the stock registry 3.x, and the fixed value of 2.x.
const DEFAULT_PROXY_TTL: &str = "168h";
const DEFAULT_MAX_AGE: &str = "720h";
/// Short, because Docker Hub does not count HEAD requests against its rate limit.
const DEFAULT_FRESHNESS: &str = "1m";

/// An upstream and the place where it is configured.
type ParsedUpstream = (UpstreamPosition, UpstreamConfig);

/// The place where an upstream is configured.
#[derive(Clone)]
struct UpstreamPosition {
    key: String,
    origin: ValueOrigin,
    has_mirror_key: bool,
}

/// Builds the cache settings; they are empty when no upstream is configured.
pub(super) fn build_cache(reader: &mut ConfigReader<'_>) -> Option<CacheConfig> {
    let expected = "must be a list of upstreams, each with prefix and remoteurl";
    let listed_count = reader.count_entries(UPSTREAMS_KEY, expected)?;
    if listed_count == 0 && !reader.is_set("proxy.remoteurl") {
        check_unused_settings(reader)?;
        return Some(CacheConfig::default());
    }
    let freshness = freshness_text(reader);
    let proxy = proxy::build_proxy(reader, &freshness);
    let ttl = build_proxy_ttl(reader);
    let listed: Vec<_> = (0..listed_count)
        .map(|index| upstream_entry::build_upstream(reader, index, &freshness))
        .collect();
    let default_freshness = reader.value(FRESHNESS_KEY, DEFAULT_FRESHNESS, parse_duration);
    let allowed_networks = reader.list(ALLOWED_NETWORKS_KEY, &[], parse_with_from_str);
    let max_bytes = reader.optional(MAX_BYTES_KEY, parse_bytes);
    // The stock registry's `proxy.ttl` applies unless `maxage` is set.
    let max_age = match ttl? {
        Some(ttl) if !reader.is_set(MAX_AGE_KEY) => Some(ttl),
        _ => reader.value(MAX_AGE_KEY, DEFAULT_MAX_AGE, parse_duration),
    };
    let listed: Option<Vec<_>> = listed.into_iter().collect();
    default_freshness?;
    let mut upstreams: Vec<_> = proxy?.into_iter().collect();
    upstreams.extend(listed?);
    conflicts::check_conflicts(reader.diagnostics, &upstreams)?;
    conflicts::choose_default_mirror(&mut upstreams);
    Some(CacheConfig {
        upstreams: upstreams
            .into_iter()
            .map(|(_, upstream)| upstream)
            .collect(),
        allowed_networks: allowed_networks?,
        max_bytes: max_bytes?.filter(|bytes| *bytes > 0),
        max_age: Some(max_age?).filter(|age| !age.is_zero()),
    })
}

/// Checks the values of settings that have no effect without an upstream.
fn check_unused_settings(reader: &mut ConfigReader<'_>) -> Option<()> {
    if let Some(origin) = reader.origin("imgsync.cache")
        && reader.is_set("imgsync.cache")
    {
        let text = "has no effect: no upstream is configured";
        reader.diagnostics.warning(&origin, "imgsync.cache", text);
    }
    reader.list(ALLOWED_NETWORKS_KEY, &[], parse_with_from_str::<Network>)?;
    reader.optional(FRESHNESS_KEY, parse_duration)?;
    reader.optional(MAX_BYTES_KEY, parse_bytes)?;
    reader.optional(MAX_AGE_KEY, parse_duration)?;
    reader.optional("proxy.ttl", parse_duration)?;
    Some(())
}

/// Returns the text of the freshness that upstreams without their own use. Its errors are reported
/// once, for its own key.
fn freshness_text(reader: &ConfigReader<'_>) -> String {
    match reader.tree.at(FRESHNESS_KEY).map(|node| &node.value) {
        Some(NodeValue::Scalar(text)) => text.clone(),
        _ => DEFAULT_FRESHNESS.to_owned(),
    }
}

fn build_proxy_ttl(reader: &mut ConfigReader<'_>) -> Option<Option<Duration>> {
    if !reader.is_set("proxy.remoteurl") {
        return Some(None);
    }
    reader
        .value("proxy.ttl", DEFAULT_PROXY_TTL, parse_duration)
        .map(Some)
}
