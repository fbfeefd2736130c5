//! Lists the tags of a repository by the time of their push, for people.

use std::cmp::Reverse;

use imgsync_oci::endpoint::Pagination;
use imgsync_oci::{Repository, Tag};

use super::Registry;
use super::error::Result;
use crate::store::{ObjectKey, Walk};

/// How many tags are sorted. Each takes about 100 bytes.
const MAX_SORTED_TAGS: usize = if cfg!(test) { 5 } else { 20_000 };

/// The tags of a repository that match a search.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RecentTags {
    /// Those that were pushed last are first.
    pub(crate) tags: Vec<Tag>,
    /// Whether there are more, whose names come later.
    pub(crate) is_truncated: bool,
}

impl Registry {
    /// Returns the tags of a repository whose names contain `search`, the latest push first.
    ///
    /// # Errors
    /// [`super::Error::NameUnknown`] if there is no such repository; [`super::Error::Store`].
    pub(crate) fn recent_tags(
        &self,
        repository: &Repository,
        search: &str,
        walk: &Walk<'_>,
    ) -> Result<RecentTags> {
        let (mut found, mut is_truncated) = (Vec::new(), false);
        let mut add = |name: &str| {
            let matching = name.parse::<Tag>().ok().filter(|_| name.contains(search));
            match matching {
                Some(_) if found.len() == MAX_SORTED_TAGS => is_truncated = true,
                matching => found.extend(matching),
            }
        };
        self.visit_tags(repository, &Pagination::default(), walk, &mut add)?;
        let mut timed = Vec::with_capacity(found.len());
        for tag in found {
            walk.step()?;
            let pushed_at = self
                .store
                .object_time(ObjectKey::TagCurrent(repository, &tag))?;
            timed.push((Reverse(pushed_at), tag));
        }
        timed.sort();
        Ok(RecentTags {
            tags: timed.into_iter().map(|(_, tag)| tag).collect(),
            is_truncated,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::registry::cache::tests::{folder, image, push, push_blob};

    #[test]
    fn the_latest_push_is_first_and_the_number_is_bounded() {
        let root = folder();
        let registry = Registry::open(root.path()).unwrap();
        let name: Repository = "team/app".parse().unwrap();
        let (manifest, config) = image("image", &[]);
        push_blob(&registry, &name, &config);
        for number in 0..=MAX_SORTED_TAGS {
            push(&registry, &name, &format!("v{number}"), &manifest).unwrap();
            let link = format!("v{number}/current/link");
            let tags = "docker/registry/v2/repositories/team/app/_manifests/tags";
            let link = std::fs::File::options()
                .write(true)
                .open(root.path().join(tags).join(link));
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(number as u64 % 3);
            link.unwrap().set_modified(time).unwrap();
        }
        let walk = Walk::unbounded();
        let found = registry.recent_tags(&name, "", &walk).unwrap();
        let tags: Vec<&str> = found.tags.iter().map(Tag::as_str).collect();
        assert_eq!(tags, ["v2", "v1", "v4", "v0", "v3"]);
        assert!(found.is_truncated);
        let found = registry.recent_tags(&name, "5", &walk).unwrap();
        assert_eq!(found.tags.len(), 1);
        assert!(!found.is_truncated);
        let other = "team/other".parse().unwrap();
        assert!(registry.recent_tags(&other, "", &walk).is_err());
    }
}
