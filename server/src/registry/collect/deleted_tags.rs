//! Lists the deleted tags of a repository, for people who want one back.

use std::collections::BTreeMap;
use std::time::Duration;

use imgsync_oci::{Digest, Repository, Tag};

use super::super::Registry;
use super::super::error::Result;
use crate::store::{ObjectKey, TrashEntry, TrashPart, Walk};

/// How many deleted tags are listed, and the most that are looked at.
const MAX_DELETED_TAGS: usize = 20;
const MAX_CHECKED_TAGS: usize = 10 * MAX_DELETED_TAGS;

/// A tag in the trash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeletedTag {
    pub(crate) tag: Tag,
    /// The manifest at which the tag pointed.
    pub(crate) digest: Digest,
    /// When the trash loses the tag, in Unix seconds.
    pub(crate) expires_at: u64,
}

impl Registry {
    /// Returns the tags of a repository that are in the trash and were not pushed again since, the last
    /// deletion first, and at most [`MAX_DELETED_TAGS`]. `undo` is how long a deletion can be undone.
    ///
    /// # Errors
    /// Returns an error of the store or of the walk.
    pub(crate) fn deleted_tags(
        &self,
        repository: &Repository,
        undo: Duration,
        walk: &Walk<'_>,
    ) -> Result<Vec<DeletedTag>> {
        let mut deleted = Vec::new();
        let mut remaining = MAX_CHECKED_TAGS;
        for part in self.store.trash_parts()?.into_iter().rev() {
            let mut latest = self.latest_deletions(part, repository, walk)?;
            latest.sort_by_key(|(_, (position, _))| std::cmp::Reverse(*position));
            for (tag, (_, digest)) in latest {
                if remaining == 0 || deleted.len() == MAX_DELETED_TAGS {
                    return Ok(deleted);
                }
                remaining -= 1;
                walk.step()?;
                let is_listed = deleted.iter().any(|listed: &DeletedTag| listed.tag == tag);
                let key = ObjectKey::TagCurrent(repository, &tag);
                if !is_listed && self.read_link(key)?.is_none() {
                    deleted.push(DeletedTag {
                        tag,
                        digest,
                        expires_at: part.expires_at(undo.as_secs()),
                    });
                }
            }
        }
        Ok(deleted)
    }

    /// Returns the tags of a repository that a part of the trash names, each with the position of its
    /// last deletion, and the manifest at which it pointed.
    fn latest_deletions(
        &self,
        part: TrashPart,
        repository: &Repository,
        walk: &Walk<'_>,
    ) -> Result<Vec<(Tag, (usize, Digest))>> {
        let (mut latest, mut position) = (BTreeMap::new(), 0);
        self.store.for_each_trash_entry(part, &mut |entry| {
            walk.step()?;
            position += 1;
            if let TrashEntry::Tag {
                repository: of,
                tag,
                digest,
            } = entry
                && of == *repository
            {
                latest.insert(tag, (position, digest));
                // A part may have any number of tags; the first ones are the oldest.
                if latest.len() > MAX_CHECKED_TAGS {
                    let oldest = latest.iter().min_by_key(|(_, (position, _))| *position);
                    let oldest = oldest.map(|(tag, _)| tag.clone());
                    oldest.and_then(|tag| latest.remove(&tag));
                }
            }
            Ok(())
        })?;
        Ok(latest.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::cache::tests::{folder, image, push, push_blob};
    use crate::store::TrashPart;
    use crate::wall_clock::unix_now;

    const UNDO: Duration = Duration::from_secs(3600);

    #[test]
    fn the_last_deletion_is_first_and_tags_that_exist_are_left_out() {
        let root = folder();
        let registry = Registry::open(root.path()).unwrap();
        let name: Repository = "team/app".parse().unwrap();
        let other: Repository = "team/other".parse().unwrap();
        let (manifest, config) = image("image", &[]);
        push_blob(&registry, &name, &config);
        push(&registry, &name, "present", &manifest).unwrap();
        let entry = |repository: &Repository, tag: &str, content: &str| TrashEntry::Tag {
            repository: repository.clone(),
            tag: tag.parse().unwrap(),
            digest: Digest::of(content.as_bytes()),
        };
        let older = TrashPart::at(unix_now() - 1800);
        let old = [entry(&name, "v1", "first"), entry(&name, "v0", "zero")];
        registry.log_to_trash(older, &old).unwrap();
        let new = [
            entry(&name, "present", "old"),
            entry(&name, "v2", "two"),
            entry(&other, "v3", "three"),
            entry(&name, "v1", "second"),
        ];
        registry.log_removal(&new).unwrap();
        let walk = Walk::unbounded();
        let deleted = registry.deleted_tags(&name, UNDO, &walk).unwrap();
        let names: Vec<_> = deleted.iter().map(|deleted| deleted.tag.as_str()).collect();
        assert_eq!(names, ["v1", "v2", "v0"]);
        assert_eq!(deleted[0].digest, Digest::of(b"second"));
        assert_eq!(deleted[2].expires_at, older.expires_at(UNDO.as_secs()));
    }

    #[test]
    fn the_list_is_bounded() {
        let root = folder();
        let registry = Registry::open(root.path()).unwrap();
        let name: Repository = "team/app".parse().unwrap();
        let tags = 0..MAX_CHECKED_TAGS + 5;
        let entries = tags.map(|number| TrashEntry::Tag {
            repository: name.clone(),
            tag: format!("v{number}").parse().unwrap(),
            digest: Digest::of(b"image"),
        });
        registry.log_removal(&entries.collect::<Vec<_>>()).unwrap();
        let deleted = registry.deleted_tags(&name, UNDO, &Walk::unbounded());
        let deleted = deleted.unwrap();
        assert_eq!(deleted.len(), MAX_DELETED_TAGS);
        let last = format!("v{}", MAX_CHECKED_TAGS + 4);
        assert_eq!(deleted[0].tag.as_str(), last);
    }
}
