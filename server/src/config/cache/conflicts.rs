//! Which of the registries a name means: never two.

use super::super::diagnostics::Diagnostics;
use super::ParsedUpstream;

/// The name under which people know Docker Hub.
const DOCKER_HUB: &str = "docker.io";

/// No name may mean two registries.
pub(super) fn check_conflicts(
    findings: &mut Diagnostics,
    upstreams: &[ParsedUpstream],
) -> Option<()> {
    let before = findings.errors.len();
    let has_proxy = upstreams
        .iter()
        .any(|(_, upstream)| upstream.prefix.is_none());
    for (at, (place, upstream)) in upstreams.iter().enumerate() {
        let earlier = &upstreams[..at];
        if upstream.prefix.is_some()
            && earlier
                .iter()
                .any(|(_, other)| other.prefix == upstream.prefix)
        {
            let text = "stands twice: names that begin with it would mean two registries";
            findings.error(&place.origin, &format!("{}.prefix", place.key), text);
        }
        if !upstream.is_mirror {
            continue;
        }
        let key = format!("{}.mirror", place.key);
        if has_proxy {
            let text = "cannot stand beside proxy.remoteurl: names without a prefix belong to that";
            findings.error(&place.origin, &key, text);
        } else if earlier.iter().any(|(_, other)| other.is_mirror) {
            let text = "stands twice: names without a prefix would mean two registries";
            findings.error(&place.origin, &key, text);
        }
    }
    (findings.errors.len() == before).then_some(())
}

/// Docker's daemon asks its mirrors for the Hub's repositories and nothing else.
pub(super) fn choose_default_mirror(upstreams: &mut [ParsedUpstream]) {
    let is_taken = |(_, upstream): &ParsedUpstream| upstream.is_mirror || upstream.prefix.is_none();
    if upstreams.iter().any(is_taken) {
        return;
    }
    for (place, upstream) in upstreams {
        let is_hub = upstream
            .prefix
            .as_ref()
            .is_some_and(|prefix| prefix.as_str() == DOCKER_HUB);
        upstream.is_mirror = is_hub && !place.has_mirror_key;
    }
}
