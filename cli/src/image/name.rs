//! Compares the names that archives and daemons give to images.

use imgsync_oci::{LocalName, Tag};

/// Returns the name as Docker shows it: without the address of Docker Hub and `library/`, with a
/// tag. `None` for an invalid name such as `<none>:<none>`.
pub(crate) fn familiar(text: &str) -> Option<LocalName> {
    let mut name: LocalName = text.parse().ok()?;
    let registry = name.registry.as_ref().map(|registry| registry.as_str());
    if let Some("docker.io" | "index.docker.io") = registry {
        name.registry = None;
        if let Some(short) = name.repository.as_str().strip_prefix("library/") {
            name.repository = short.parse().ok()?;
        }
    }
    name.tag.get_or_insert_with(Tag::latest);
    Some(name)
}

/// Returns the position of the name that matches `requested`: the equal one, otherwise, for a name
/// without a registry, the first that differs only in the registry (podman adds `localhost/`).
pub(crate) fn choose<'a>(
    requested: &str,
    names: impl Iterator<Item = &'a str> + Clone,
) -> Option<usize> {
    let requested = familiar(requested)?;
    let mut names = names.map(familiar);
    let equal = names
        .clone()
        .position(|name| name.as_ref() == Some(&requested));
    if equal.is_some() || requested.registry.is_some() {
        return equal;
    }
    let is_alike =
        |name: LocalName| name.repository == requested.repository && name.tag == requested.tag;
    names.position(|name| name.is_some_and(is_alike))
}

/// Formats a name.
pub(crate) fn text(name: &LocalName) -> String {
    let LocalName {
        registry,
        repository,
        tag,
    } = name;
    let registry = registry.as_ref().map(|registry| format!("{registry}/"));
    let tag = tag.as_ref().map(|tag| format!(":{tag}"));
    let (registry, tag) = (registry.unwrap_or_default(), tag.unwrap_or_default());
    format!("{registry}{repository}{tag}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_as_docker_does() {
        for (name, shown) in [
            ("docker.io/library/app:v1", "app:v1"),
            ("docker.io/sample/app:v1", "sample/app:v1"),
            ("app", "app:latest"),
            ("localhost/app:v1", "localhost/app:v1"),
            ("ghcr.io/library/app:v1", "ghcr.io/library/app:v1"),
        ] {
            assert_eq!(text(&familiar(name).unwrap()), shown);
        }
        assert_eq!(familiar("<none>:<none>"), None);
    }

    #[test]
    fn the_same_name_wins_over_the_like_one() {
        let names = ["ghcr.io/app:v1", "app:v1", "other:v1"];
        assert_eq!(choose("app:v1", names.into_iter()), Some(1));
        assert_eq!(choose("ghcr.io/app:v1", names.into_iter()), Some(0));
        assert_eq!(choose("app:v1", names[..1].iter().copied()), Some(0));
        assert_eq!(choose("quay.io/app:v1", names.into_iter()), None);
        assert_eq!(choose("app", names.into_iter()), None);
    }
}
