//! The registries behind this one: the stock registry's `proxy`, and `imgsync.cache`.

mod apart;
mod listed;
mod proxy;
mod remote;
#[cfg(test)]
mod tests;

use super::read::Reader;
use super::tree::{Origin, Value};
use super::types::{Cache, Upstream};
use super::words::{bytes, duration};

const UPSTREAMS: &str = "imgsync.cache.upstreams";
/// The stock registry's, of version 3; version 2 cannot do otherwise.
const PROXY_TTL: &str = "168h";
const MAX_AGE: &str = "720h";
/// A HEAD is not counted by Docker Hub, so asking again soon costs little.
const FRESHNESS: &str = "1m";

/// What is kept of which registries; nothing, where none is named.
pub(super) fn cache(r: &mut Reader<'_>) -> Option<Cache> {
    let freshness_key = "imgsync.cache.freshness";
    let has_any = is_said(r, "proxy.remoteurl") || count(r)? > 0;
    if !has_any {
        // Read all the same: what is wrong is told, and what is right has no effect.
        if let Some(origin) = r.origin("imgsync.cache")
            && is_said(r, "imgsync.cache")
        {
            let text = "has no effect: it names no registry to fetch from";
            r.findings.warning(&origin, "imgsync.cache", text);
        }
        r.optional(freshness_key, duration)?;
        r.optional("imgsync.cache.maxbytes", bytes)?;
        r.optional("imgsync.cache.maxage", duration)?;
        r.optional("proxy.ttl", duration)?;
        return Some(Cache::default());
    }
    let text = r.tree.at(freshness_key).and_then(|node| match &node.value {
        Value::Scalar(text) => Some(text.clone()),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    });
    let freshness = text.unwrap_or_else(|| FRESHNESS.to_owned());
    let proxy = proxy::proxy(r, &freshness);
    let ttl = match is_said(r, "proxy.remoteurl") {
        true => r.value("proxy.ttl", PROXY_TTL, duration).map(Some),
        false => Some(None),
    };
    let listed: Vec<_> = (0..count(r)?)
        .map(|at| listed::listed(r, at, &freshness))
        .collect();
    let said_freshness = r.value(freshness_key, FRESHNESS, duration);
    let max_bytes = r.optional("imgsync.cache.maxbytes", bytes);
    // The stock registry's time counts where ours says nothing.
    let max_age = match ttl? {
        Some(ttl) if !is_said(r, "imgsync.cache.maxage") => Some(ttl),
        Some(_) | None => r.value("imgsync.cache.maxage", MAX_AGE, duration),
    };
    let listed: Option<Vec<_>> = listed.into_iter().collect();
    said_freshness?;
    let mut upstreams: Vec<_> = proxy?.into_iter().collect();
    upstreams.extend(listed?);
    apart::tell_apart(r.findings, &upstreams)?;
    apart::choose_mirror(&mut upstreams);
    Some(Cache {
        upstreams: upstreams
            .into_iter()
            .map(|(_, upstream)| upstream)
            .collect(),
        max_bytes: max_bytes?.filter(|bytes| *bytes > 0),
        max_age: Some(max_age?).filter(|age| !age.is_zero()),
    })
}

/// An upstream, and where it was said.
type Said = (Place, Upstream);

/// Where something was said, and under which key.
#[derive(Clone)]
struct Place {
    key: String,
    origin: Origin,
    says_mirror: bool,
}

fn is_said(r: &Reader<'_>, key: &str) -> bool {
    r.tree.at(key).is_some_and(|node| !node.is_silent())
}

fn count(r: &mut Reader<'_>) -> Option<usize> {
    let Some(node) = r.tree.at(UPSTREAMS) else {
        return Some(0);
    };
    match &node.value {
        Value::Null => Some(0),
        Value::List(items) => Some(items.len()),
        Value::Scalar(_) | Value::Map(_) => {
            let text = "must be a list of registries, each with a prefix and a remoteurl";
            r.findings.problem(&node.origin, UPSTREAMS, text);
            None
        }
    }
}
