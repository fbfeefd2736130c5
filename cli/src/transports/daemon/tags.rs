//! Lists the tags that an image has in a daemon.

use imgsync_oci::{LocalName, Tag};

use super::{DaemonAddress, DaemonClient};
use crate::image::{Error, name};

/// Returns the tags of the image with this name in the daemon of the environment, in the order of the
/// daemon. The tag of the name does not count.
///
/// # Errors
/// Returns an error if the daemon is unreachable or refuses.
pub async fn find_tags(requested: &LocalName) -> Result<Vec<Tag>, Error> {
    let engine = DaemonClient::new(DaemonAddress::from_environment()?)?;
    list_tags(&engine, requested).await
}

/// Returns the tags of the image with this name, as [`find_tags`] does.
pub(super) async fn list_tags(
    engine: &DaemonClient,
    requested: &LocalName,
) -> Result<Vec<Tag>, Error> {
    let images = engine.list_images().await?;
    let names = images.into_iter().filter_map(|image| image.repo_tags);
    let names: Vec<String> = names.flatten().collect();
    Ok(select_tags(requested, &names))
}

fn select_tags(requested: &LocalName, names: &[String]) -> Vec<Tag> {
    let Some(requested) = name::familiar(&name::text(requested)) else {
        return Vec::new();
    };
    let names = names.iter().filter_map(|text| name::familiar(text));
    let mut tags = Vec::new();
    for name in names.filter(|name| is_same_repository(&requested, name)) {
        tags.extend(name.tag.filter(|tag| !tags.contains(tag)));
    }
    tags
}

/// Returns whether two names differ at most in the tag. podman adds `localhost/` to a name without a
/// registry.
fn is_same_repository(requested: &LocalName, name: &LocalName) -> bool {
    let registry = |name: &LocalName| name.registry.as_ref().map(ToString::to_string);
    let is_local = || registry(name).is_some_and(|registry| registry == "localhost");
    requested.repository == name.repository
        && (registry(requested) == registry(name) || (requested.registry.is_none() && is_local()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_the_same_repository() {
        let names = [
            "app:v1",
            "docker.io/library/app:v2",
            "localhost/app:v3",
            "localhost/app:v1",
            "quay.io/app:v4",
            "team/app:v5",
            "<none>:<none>",
        ];
        let names = names.map(str::to_owned);
        let select = |requested: &str| {
            let tags = select_tags(&requested.parse().unwrap(), &names);
            tags.iter()
                .map(Tag::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(select("app"), "v1 v2 v3");
        assert_eq!(select("docker.io/library/app:v9"), "v1 v2 v3");
        assert_eq!(select("quay.io/app"), "v4");
        assert_eq!(select("team/app"), "v5");
        assert_eq!(select("other"), "");
    }
}
