//! Checks that each repository name belongs to at most one upstream.

use super::super::diagnostics::Diagnostics;
use super::ParsedUpstream;

/// The prefix that users choose for Docker Hub.
const DOCKER_HUB: &str = "docker.io";

/// Reports upstreams with the same prefix, and more than one mirror for names without a prefix.
/// Returns `None` when there is a conflict.
pub(super) fn check_conflicts(
    diagnostics: &mut Diagnostics,
    upstreams: &[ParsedUpstream],
) -> Option<()> {
    let errors_before = diagnostics.errors.len();
    let has_proxy = upstreams
        .iter()
        .any(|(_, upstream)| upstream.prefix.is_none());
    for (index, (position, upstream)) in upstreams.iter().enumerate() {
        let earlier = &upstreams[..index];
        if upstream.prefix.is_some()
            && earlier
                .iter()
                .any(|(_, other)| other.prefix == upstream.prefix)
        {
            let text = "duplicate prefix: only one upstream can have it";
            diagnostics.error(&position.origin, &format!("{}.prefix", position.key), text);
        }
        if !upstream.is_mirror {
            continue;
        }
        let key = format!("{}.mirror", position.key);
        if has_proxy {
            let text = "cannot be set together with proxy.remoteurl, which serves all names without a prefix";
            diagnostics.error(&position.origin, &key, text);
        } else if earlier.iter().any(|(_, other)| other.is_mirror) {
            let text = "only one upstream can be the mirror";
            diagnostics.error(&position.origin, &key, text);
        }
    }
    (diagnostics.errors.len() == errors_before).then_some(())
}

/// Makes the upstream `docker.io` the mirror for names without a prefix, unless another upstream
/// serves them or `mirror` is set: the Docker daemon asks its mirrors only for images of Docker Hub.
pub(super) fn choose_default_mirror(upstreams: &mut [ParsedUpstream]) {
    let is_taken = |(_, upstream): &ParsedUpstream| upstream.is_mirror || upstream.prefix.is_none();
    if upstreams.iter().any(is_taken) {
        return;
    }
    for (position, upstream) in upstreams {
        let is_hub = upstream
            .prefix
            .as_ref()
            .is_some_and(|prefix| prefix.as_str() == DOCKER_HUB);
        upstream.is_mirror = is_hub && !position.has_mirror_key;
    }
}
