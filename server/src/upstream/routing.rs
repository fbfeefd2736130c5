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
    let claims = upstreams.iter().enumerate().filter_map(|(at, upstream)| {
        let prefix = upstream.prefix.as_ref()?;
        let rest = below(prefix, repository)?;
        Some((prefix.as_str().len(), at, rest))
    });
    match claims.max_by_key(|(len, _, _)| *len) {
        Some((_, at, rest)) => Some((at, rest.parse().ok()?)),
        None => {
            let at = upstreams.iter().position(|it| it.prefix.is_none())?;
            // A name that equals the prefix of an upstream has no upstream, not even the stock
            // registry's proxy.
            let is_prefix = upstreams
                .iter()
                .any(|it| it.prefix.as_ref() == Some(repository));
            (!is_prefix).then(|| (at, repository.clone()))
        }
    }
}

/// Expands a short Docker Hub name: `docker.io/nginx` becomes `docker.io/library/nginx`. Returns
/// every other name unchanged.
pub(super) fn expand_hub_name(upstreams: &[UpstreamConfig], repository: Repository) -> Repository {
    let full = upstreams.iter().find_map(|upstream| {
        let prefix = upstream.prefix.as_ref().filter(|_| is_hub(upstream))?;
        let rest = below(prefix, &repository)?;
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
    let meant = upstreams.iter().find(|upstream| {
        let is_prefix = |prefix: &Repository| prefix.as_str() == namespace;
        upstream.prefix.as_ref().is_some_and(is_prefix)
            || upstream
                .namespaces
                .iter()
                .any(|name| name.as_str() == namespace)
    });
    let meant = meant.or_else(|| {
        upstreams
            .iter()
            .find(|upstream| answers_to(upstream, namespace))
    });
    match meant {
        Some(UpstreamConfig {
            prefix: Some(prefix),
            ..
        }) => joined(prefix.as_str()),
        Some(UpstreamConfig { prefix: None, .. }) => Some(repository.clone()),
        None if is_own(namespace) || upstreams.iter().any(|it| it.prefix.is_none()) => {
            Some(repository.clone())
        }
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

/// Reports whether an upstream has this address.
fn answers_to(upstream: &UpstreamConfig, namespace: &str) -> bool {
    let Ok(registry) = namespace.parse::<Registry>() else {
        return false;
    };
    registry == upstream.remote || (registry.is_docker_hub() && is_hub(upstream))
}

/// Reports whether an upstream is Docker Hub, or is configured under its name.
fn is_hub(upstream: &UpstreamConfig) -> bool {
    let is_named = |prefix: &Repository| prefix.as_str() == DOCKER_HUB;
    upstream.remote.is_docker_hub() || upstream.prefix.as_ref().is_some_and(is_named)
}

/// Returns the rest of a name after a prefix and a slash.
fn below<'a>(prefix: &Repository, repository: &'a Repository) -> Option<&'a str> {
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

    fn said(found: Option<(usize, Repository)>) -> Option<(usize, String)> {
        found.map(|(at, name)| (at, name.to_string()))
    }

    #[test]
    fn the_longest_prefix_counts_and_only_whole_components() {
        let several = several();
        let of = |name: &str| said(find_upstream(&several, &name.parse().unwrap()));
        let found = |at, name: &str| Some((at, name.to_owned()));
        assert_eq!(of("docker.io/library/nginx"), found(0, "library/nginx"));
        assert_eq!(of("ghcr.io/owner/app"), found(1, "owner/app"));
        assert_eq!(of("ghcr.io/team/app"), found(2, "app"));
        assert_eq!(of("ghcr.io/teams/app"), found(1, "teams/app"));
        for plain in ["team/app", "docker.iox/app", "ghcr.io", "docker.io"] {
            assert_eq!(of(plain), None, "{plain}");
        }
        let mut with_proxy = several.clone();
        with_proxy.push(upstream("", "hub.example"));
        let of = |name: &str| said(find_upstream(&with_proxy, &name.parse().unwrap()));
        assert_eq!(of("team/app"), found(4, "team/app"));
        assert_eq!(of("ghcr.io/owner/app"), found(1, "owner/app"));
        assert_eq!(of("ghcr.io"), None);
    }

    #[test]
    fn a_namespace_means_its_upstream_and_never_a_plain_name_of_ours() {
        let mut all = several();
        let of = |all: &[UpstreamConfig], namespace: &str| {
            let is_own = |name: &str| name == "own.example:5000";
            let found = resolve_namespace(all, namespace, &"library/app".parse().unwrap(), is_own);
            found.map(|name| name.to_string())
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
            assert_eq!(of(&all, namespace).as_deref(), expected, "{namespace}");
        }
        all.push(upstream("", "hub.example"));
        assert_eq!(of(&all, "evil.example").as_deref(), Some("library/app"));
        assert_eq!(of(&all, "hub.example").as_deref(), Some("library/app"));
    }

    #[test]
    fn names_of_the_hub_are_completed() {
        let several = several();
        let full = |name: &str| expand_hub_name(&several, name.parse().unwrap()).to_string();
        assert_eq!(full("docker.io/nginx"), "docker.io/library/nginx");
        assert_eq!(full("docker.io/owner/app"), "docker.io/owner/app");
        assert_eq!(full("ghcr.io/app"), "ghcr.io/app");
        let app = "library/app".parse().unwrap();
        let found = mirror_repository(&several, &app).map(|name| name.to_string());
        assert_eq!(found.as_deref(), Some("docker.io/library/app"));
        assert_eq!(mirror_repository(&several[1..], &app), None);
    }
}
