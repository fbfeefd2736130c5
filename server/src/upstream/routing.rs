//! Maps repository names to upstreams and to the names that the upstreams use.
//!
//! These functions are pure: they read only the configuration. Start reading at [`find_upstream`].

use imgsync_oci::{Registry, Repository};

use crate::config::UpstreamConfig;

/// The namespace of official images on Docker Hub: `nginx` is `library/nginx`.
const HUB_LIBRARY: &str = "library";
const DOCKER_HUB: &str = "docker.io";

/// Returns the upstream of a repository, as an index into the configuration, and the name of the
/// repository there. The longest matching prefix wins.
pub(super) fn find_upstream(
    upstreams: &[UpstreamConfig],
    repository: &Repository,
) -> Option<(usize, Repository)> {
    let matches = upstreams
        .iter()
        .enumerate()
        .filter_map(|(index, upstream)| {
            let prefix = upstream.prefix.as_ref()?;
            let rest = strip_prefix(prefix, repository)?;
            Some((prefix.as_str().len(), index, rest))
        });
    if let Some((_, index, rest)) = matches.max_by_key(|(len, _, _)| *len) {
        return Some((index, rest.parse().ok()?));
    }
    // A name that equals the prefix of an upstream has no upstream, not even the stock registry's
    // proxy.
    let mut prefixes = upstreams.iter().map(|upstream| upstream.prefix.as_ref());
    if prefixes.any(|prefix| prefix == Some(repository)) {
        return None;
    }
    let mut upstreams = upstreams.iter();
    let index = upstreams.position(|upstream| upstream.prefix.is_none())?;
    Some((index, repository.clone()))
}

/// Expands a short Docker Hub name: `docker.io/nginx` becomes `docker.io/library/nginx`. Returns
/// every other name unchanged.
pub(super) fn expand_hub_name(upstreams: &[UpstreamConfig], repository: Repository) -> Repository {
    let full = upstreams.iter().find_map(|upstream| {
        let prefix = upstream.prefix.as_ref().filter(|_| is_hub(upstream))?;
        let rest = strip_prefix(prefix, &repository)?;
        let is_short = !rest.contains('/');
        is_short.then(|| format!("{prefix}/{HUB_LIBRARY}/{rest}"))
    });
    full.and_then(|full| full.parse().ok())
        .unwrap_or(repository)
}

/// Returns the local repository for a name in the namespace of another registry (`?ns=`), or `None`
/// if no local repository can have that name.
///
/// The namespace of this server means the plain name. So does an unknown namespace if the stock
/// registry's `proxy` is configured, because the stock registry ignores namespaces.
pub(super) fn resolve_namespace(
    upstreams: &[UpstreamConfig],
    namespace: &str,
    repository: &Repository,
    is_own: impl Fn(&str) -> bool,
) -> Option<Repository> {
    let joined = |prefix: &str| format!("{prefix}/{repository}").parse().ok();
    let is_named = |upstream: &&UpstreamConfig| {
        let mut namespaces = upstream.namespaces.iter();
        has_prefix(upstream, namespace) || namespaces.any(|name| name.as_str() == namespace)
    };
    let has_address = |upstream: &&UpstreamConfig| has_address(upstream, namespace);
    let upstream = upstreams.iter().find(is_named);
    let upstream = upstream.or_else(|| upstreams.iter().find(has_address));
    let has_proxy = || upstreams.iter().any(|upstream| upstream.prefix.is_none());
    match upstream.map(|upstream| &upstream.prefix) {
        Some(Some(prefix)) => joined(prefix.as_str()),
        Some(None) => Some(repository.clone()),
        None if is_own(namespace) || has_proxy() => Some(repository.clone()),
        None => joined(namespace),
    }
}

/// Returns the name below the prefix of the mirror, or `None` if no upstream is configured as the
/// mirror.
pub(super) fn mirror_repository(
    upstreams: &[UpstreamConfig],
    repository: &Repository,
) -> Option<Repository> {
    let mirror = upstreams.iter().find(|upstream| upstream.is_mirror)?;
    let prefix = mirror.prefix.as_ref()?;
    format!("{prefix}/{repository}").parse().ok()
}

/// Returns the names by which the operator may name a repository of the stock registry's proxy,
/// which has no prefix here: below `docker.io`, because Docker's daemon asks a mirror only for images
/// of Docker Hub, and below the host of the proxy. Nothing for other repositories.
pub(super) fn proxied_names(
    upstreams: &[UpstreamConfig],
    repository: &Repository,
) -> Vec<Repository> {
    let proxy = find_upstream(upstreams, repository)
        .and_then(|(index, _)| upstreams.get(index))
        .filter(|upstream| upstream.prefix.is_none());
    let Some(proxy) = proxy else {
        return Vec::new();
    };
    let hosts = [DOCKER_HUB, proxy.remote.as_str()];
    let names = hosts.iter().map(|host| format!("{host}/{repository}"));
    names.filter_map(|name| name.parse().ok()).collect()
}

/// Reports whether an upstream has this address.
fn has_address(upstream: &UpstreamConfig, namespace: &str) -> bool {
    namespace.parse().is_ok_and(|registry: Registry| {
        registry == upstream.remote || (registry.is_docker_hub() && is_hub(upstream))
    })
}

/// Reports whether an upstream is Docker Hub, or is configured under its name.
fn is_hub(upstream: &UpstreamConfig) -> bool {
    upstream.remote.is_docker_hub() || has_prefix(upstream, DOCKER_HUB)
}

fn has_prefix(upstream: &UpstreamConfig, prefix: &str) -> bool {
    let configured = upstream.prefix.as_ref();
    configured.is_some_and(|configured| configured.as_str() == prefix)
}

/// Returns the rest of a name after a prefix and a slash.
fn strip_prefix<'a>(prefix: &Repository, repository: &'a Repository) -> Option<&'a str> {
    repository
        .as_str()
        .strip_prefix(prefix.as_str())?
        .strip_prefix('/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn upstream(prefix: &str, remote: &str) -> UpstreamConfig {
        UpstreamConfig {
            prefix: prefix.parse().ok(),
            remote: remote.parse().unwrap(),
            is_tls: true,
            login: None,
            freshness: Duration::ZERO,
            repositories: Vec::new(),
            namespaces: Vec::new(),
            is_mirror: prefix == "docker.io",
            ca_file: None,
            is_insecure: false,
        }
    }

    fn several() -> Vec<UpstreamConfig> {
        let mut quay = upstream("quay", "quay.example:5000");
        quay.namespaces.push("quay.io".parse().unwrap());
        vec![
            upstream("docker.io", "registry-1.docker.io"),
            upstream("ghcr.io", "ghcr.io"),
            upstream("ghcr.io/team", "other.example"),
            quay,
        ]
    }

    fn find(upstreams: &[UpstreamConfig], name: &str) -> Option<(usize, String)> {
        let found = find_upstream(upstreams, &name.parse().unwrap());
        found.map(|(index, name)| (index, name.to_string()))
    }

    #[test]
    fn the_longest_prefix_of_whole_components_wins() {
        let several = several();
        let expected = |index, name: &str| Some((index, name.to_owned()));
        for (name, index, rest) in [
            ("docker.io/library/nginx", 0, "library/nginx"),
            ("ghcr.io/owner/app", 1, "owner/app"),
            ("ghcr.io/team/app", 2, "app"),
            ("ghcr.io/teams/app", 1, "teams/app"),
        ] {
            assert_eq!(find(&several, name), expected(index, rest));
        }
        for plain in ["team/app", "docker.iox/app", "ghcr.io", "docker.io"] {
            assert_eq!(find(&several, plain), None, "{plain}");
        }
        let mut with_proxy = several;
        with_proxy.push(upstream("", "hub.example"));
        assert_eq!(find(&with_proxy, "team/app"), expected(4, "team/app"));
        assert_eq!(
            find(&with_proxy, "ghcr.io/owner/app"),
            expected(1, "owner/app")
        );
        assert_eq!(find(&with_proxy, "ghcr.io"), None);
    }

    #[test]
    fn a_namespace_selects_its_upstream_and_never_a_pushed_repository() {
        let mut all = several();
        let resolve = |all: &[UpstreamConfig], namespace: &str| {
            let is_own = |name: &str| name == "own.example:5000";
            let name = resolve_namespace(all, namespace, &"library/app".parse().unwrap(), is_own);
            name.map(|name| name.to_string())
        };
        for (namespace, expected) in [
            ("docker.io", Some("docker.io/library/app")),
            ("registry-1.docker.io", Some("docker.io/library/app")),
            ("quay.io", Some("quay/library/app")),
            ("quay.example:5000", Some("quay/library/app")),
            ("own.example:5000", Some("library/app")),
            ("evil.example", Some("evil.example/library/app")),
            ("evil.example:5000", None),
            ("../../x", None),
        ] {
            assert_eq!(resolve(&all, namespace).as_deref(), expected, "{namespace}");
        }
        all.push(upstream("", "hub.example"));
        assert_eq!(
            resolve(&all, "evil.example").as_deref(),
            Some("library/app")
        );
        assert_eq!(resolve(&all, "hub.example").as_deref(), Some("library/app"));
    }

    #[test]
    fn a_repository_of_the_proxy_has_names_with_its_host() {
        let names = |upstreams: &[UpstreamConfig], name: &str| -> Vec<String> {
            let names = proxied_names(upstreams, &name.parse().unwrap());
            names.iter().map(ToString::to_string).collect()
        };
        let mut all = several();
        assert_eq!(names(&all, "library/app"), [""; 0]);
        all.push(upstream("", "hub.example"));
        let expected = ["docker.io/library/app", "hub.example/library/app"];
        assert_eq!(names(&all, "library/app"), expected);
        assert_eq!(names(&all, "ghcr.io/owner/app"), [""; 0]);
    }

    #[test]
    fn short_docker_hub_names_are_expanded() {
        let several = several();
        let full = |name: &str| expand_hub_name(&several, name.parse().unwrap()).to_string();
        assert_eq!(full("docker.io/nginx"), "docker.io/library/nginx");
        assert_eq!(full("docker.io/owner/app"), "docker.io/owner/app");
        assert_eq!(full("ghcr.io/app"), "ghcr.io/app");
        let app = "library/app".parse().unwrap();
        let mirrored = mirror_repository(&several, &app).map(|name| name.to_string());
        assert_eq!(mirrored.as_deref(), Some("docker.io/library/app"));
        assert_eq!(mirror_repository(&several[1..], &app), None);
    }
}
