//! The registries behind this one: the stock registry's `proxy`, and `imgsync.cache`.

mod conflicts;
mod proxy;
mod remote;
#[cfg(test)]
mod tests;
mod upstream_entry;

use super::reader::ConfigReader;
use super::scalars::{parse_bytes, parse_duration};
use super::tree::{NodeValue, ValueOrigin};
use super::types::{CacheConfig, UpstreamConfig};

const UPSTREAMS_KEY: &str = "imgsync.cache.upstreams";
/// The stock registry's, of version 3; version 2 cannot do otherwise.
const DEFAULT_PROXY_TTL: &str = "168h";
const DEFAULT_MAX_AGE: &str = "720h";
/// A HEAD is not counted by Docker Hub, so asking again soon costs little.
const DEFAULT_FRESHNESS: &str = "1m";

/// What is kept of which registries; nothing, where none is named.
pub(super) fn build_cache(r: &mut ConfigReader<'_>) -> Option<CacheConfig> {
    let freshness_key = "imgsync.cache.freshness";
    let has_any = is_set(r, "proxy.remoteurl") || count_listed(r)? > 0;
    if !has_any {
        // Read all the same: what is wrong is told, and what is right has no effect.
        if let Some(origin) = r.origin("imgsync.cache")
            && is_set(r, "imgsync.cache")
        {
            let text = "has no effect: it names no registry to fetch from";
            r.diagnostics.warning(&origin, "imgsync.cache", text);
        }
        r.optional(freshness_key, parse_duration)?;
        r.optional("imgsync.cache.maxbytes", parse_bytes)?;
        r.optional("imgsync.cache.maxage", parse_duration)?;
        r.optional("proxy.ttl", parse_duration)?;
        return Some(CacheConfig::default());
    }
    let text = r.tree.at(freshness_key).and_then(|node| match &node.value {
        NodeValue::Scalar(text) => Some(text.clone()),
        NodeValue::Null | NodeValue::List(_) | NodeValue::Map(_) => None,
    });
    let freshness = text.unwrap_or_else(|| DEFAULT_FRESHNESS.to_owned());
    let proxy = proxy::build_proxy(r, &freshness);
    let ttl = match is_set(r, "proxy.remoteurl") {
        true => r
            .value("proxy.ttl", DEFAULT_PROXY_TTL, parse_duration)
            .map(Some),
        false => Some(None),
    };
    let listed: Vec<_> = (0..count_listed(r)?)
        .map(|at| upstream_entry::build_upstream(r, at, &freshness))
        .collect();
    let said_freshness = r.value(freshness_key, DEFAULT_FRESHNESS, parse_duration);
    let max_bytes = r.optional("imgsync.cache.maxbytes", parse_bytes);
    // The stock registry's time counts where ours says nothing.
    let max_age = match ttl? {
        Some(ttl) if !is_set(r, "imgsync.cache.maxage") => Some(ttl),
        Some(_) | None => r.value("imgsync.cache.maxage", DEFAULT_MAX_AGE, parse_duration),
    };
    let listed: Option<Vec<_>> = listed.into_iter().collect();
    said_freshness?;
    let mut upstreams: Vec<_> = proxy?.into_iter().collect();
    upstreams.extend(listed?);
    conflicts::check_conflicts(r.diagnostics, &upstreams)?;
    conflicts::choose_default_mirror(&mut upstreams);
    Some(CacheConfig {
        upstreams: upstreams
            .into_iter()
            .map(|(_, upstream)| upstream)
            .collect(),
        max_bytes: max_bytes?.filter(|bytes| *bytes > 0),
        max_age: Some(max_age?).filter(|age| !age.is_zero()),
    })
}

/// An upstream, and where it was said.
type ParsedUpstream = (UpstreamPosition, UpstreamConfig);

/// Where something was said, and under which key.
#[derive(Clone)]
struct UpstreamPosition {
    key: String,
    origin: ValueOrigin,
    has_mirror_key: bool,
}

fn is_set(r: &ConfigReader<'_>, key: &str) -> bool {
    r.tree
        .at(key)
        .is_some_and(|node| !node.is_empty_or_disabled())
}

fn count_listed(r: &mut ConfigReader<'_>) -> Option<usize> {
    let Some(node) = r.tree.at(UPSTREAMS_KEY) else {
        return Some(0);
    };
    match &node.value {
        NodeValue::Null => Some(0),
        NodeValue::List(items) => Some(items.len()),
        NodeValue::Scalar(_) | NodeValue::Map(_) => {
            let text = "must be a list of registries, each with a prefix and a remoteurl";
            r.diagnostics.error(&node.origin, UPSTREAMS_KEY, text);
            None
        }
    }
}
