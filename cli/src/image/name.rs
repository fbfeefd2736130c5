//! Compares the names that archives and daemons give to images.

use imgsync_oci::{LocalName, Tag};

/// Returns the name as Docker shows it: without the address of Docker Hub and `library/`, with a
/// tag. `None` for an invalid name such as `<none>:<none>`.
pub(crate) fn familiar(text: &str) -> Option<LocalName> {
    let mut name: LocalName = text.parse().ok()?;
    if matches!(
        name.registry.as_ref().map(|it| it.as_str()),
        Some("docker.io" | "index.docker.io")
    ) {
        name.registry = None;
        if let Some(short) = name.repository.as_str().strip_prefix("library/") {
            name.repository = short.parse().ok()?;
        }
    }
    name.tag.get_or_insert_with(Tag::latest);
    Some(name)
}

/// Returns the position of the name that `wanted` means: the equal one, otherwise, for a name
/// without a registry, the first that differs only in the registry (podman adds `localhost/`).
pub(crate) fn choose<'a>(
    wanted: &str,
    names: impl Iterator<Item = &'a str> + Clone,
) -> Option<usize> {
    let wanted = familiar(wanted)?;
    let place = |same: &dyn Fn(&LocalName) -> bool| {
        names
            .clone()
            .position(|name| familiar(name).is_some_and(|name| same(&name)))
    };
    place(&|name| *name == wanted).or_else(|| {
        place(&|name| {
            wanted.registry.is_none()
                && (&name.repository, &name.tag) == (&wanted.repository, &wanted.tag)
        })
    })
}

/// Formats a name.
pub(crate) fn text(name: &LocalName) -> String {
    let LocalName {
        registry,
        repository,
        tag,
    } = name;
    let registry = registry
        .as_ref()
        .map(|it| format!("{it}/"))
        .unwrap_or_default();
    let tag = tag.as_ref().map(|it| format!(":{it}")).unwrap_or_default();
    format!("{registry}{repository}{tag}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_as_docker_does() {
        for (given, shown) in [
            ("docker.io/library/app:v1", "app:v1"),
            ("docker.io/sample/app:v1", "sample/app:v1"),
            ("app", "app:latest"),
            ("localhost/app:v1", "localhost/app:v1"),
            ("ghcr.io/library/app:v1", "ghcr.io/library/app:v1"),
        ] {
            assert_eq!(text(&familiar(given).unwrap()), shown);
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
