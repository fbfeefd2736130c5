//! Repairs tags whose link is damaged, from their history.
//!
//! The history of a tag has a link to each manifest at which the tag was ever pointed, written when
//! that was done last. Start reading at [`Check::check_damaged_tag`].

use std::cmp::Reverse;
use std::time::SystemTime;

use imgsync_oci::{Digest, Repository, Tag};

use super::super::Registry;
use super::super::error::Result;
use super::super::locks::LockKey;
use super::finding::{AffectedImage, Finding, Repair};
use super::images::MAX_LISTED_DIGESTS;
use super::{Check, CheckResult};
use crate::store::ObjectKey;

/// A manifest at which a tag was pointed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HistoryEntry {
    digest: Digest,
    /// When the tag was last pointed at it.
    tagged_at: Option<SystemTime>,
    /// Whether the repository still has it.
    is_linked: bool,
}

/// How a damaged tag can be repaired.
#[derive(Debug, PartialEq, Eq)]
enum TagRepair<'a> {
    /// The tag is pointed at this manifest.
    Rewrite(&'a Digest),
    /// The tag leads nowhere, and is removed.
    Remove,
    /// Nobody can tell at which manifest the tag pointed.
    Unclear,
}

impl Check<'_> {
    /// Reports a tag whose link is damaged. If its history shows at which manifest it pointed, the link
    /// is written again. If its history shows nothing, the tag is removed.
    pub(super) fn check_damaged_tag(
        &mut self,
        repository: &Repository,
        tag: &Tag,
    ) -> CheckResult<()> {
        let registry = self.registry;
        let mut history = registry.tag_history(repository, tag)?;
        let tag_key = LockKey::Tag(repository.clone(), tag.clone());
        let lock = registry.lock_keys([tag_key]);
        let current = ObjectKey::TagCurrent(repository, tag);
        if registry.store.len(current)?.is_none() || registry.read_link(current)?.is_some() {
            return Ok(());
        }
        let repair = match choose_repair(&history) {
            _ if !self.options.repairs => Ok(Repair::None),
            TagRepair::Unclear => Ok(Repair::None),
            TagRepair::Remove => registry
                .remove_tag(repository, tag)
                .map(|()| Repair::Removed),
            TagRepair::Rewrite(digest) => {
                let put = registry.store.put(current, digest.to_string().as_bytes());
                put.map(|()| Repair::Rewritten).map_err(Into::into)
            }
        };
        drop(lock);
        let repair = repair.unwrap_or_else(|error| Repair::Failed(error.to_string()));
        let is_affected = repair != Repair::Rewritten;
        history.sort_by_key(|entry| Reverse(entry.tagged_at));
        let linked = history.into_iter().filter(|entry| entry.is_linked);
        let mut candidates: Vec<Digest> = linked.map(|entry| entry.digest).collect();
        let unlisted = candidates.len().saturating_sub(MAX_LISTED_DIGESTS);
        candidates.truncate(MAX_LISTED_DIGESTS);
        self.add_finding(Finding::DamagedTag {
            repository: repository.clone(),
            tag: tag.clone(),
            candidates,
            unlisted,
            repair,
        })?;
        if is_affected {
            self.add_image(&AffectedImage {
                repository: repository.clone(),
                tag: Some(tag.clone()),
                manifest: None,
                lacking: Vec::new(),
            })?;
        }
        Ok(())
    }
}

impl Registry {
    fn tag_history(&self, repository: &Repository, tag: &Tag) -> Result<Vec<HistoryEntry>> {
        let entry = |digest: std::result::Result<Digest, _>| {
            let digest = digest?;
            let link = ObjectKey::RevisionLink(repository, &digest);
            let is_linked = self.resolve_link(link, &digest)?.is_some();
            let tagged = ObjectKey::TagIndex(repository, tag, &digest);
            let tagged_at = self.store.object_time(tagged)?;
            Ok(HistoryEntry {
                digest,
                tagged_at,
                is_linked,
            })
        };
        self.store.tag_history(repository, tag).map(entry).collect()
    }
}

/// Chooses the repair of a damaged tag. A manifest that the repository has lost and at which the tag
/// was not pointed before the one that is left may be the current one: an older image must not take
/// its place.
fn choose_repair(history: &[HistoryEntry]) -> TagRepair<'_> {
    let mut linked = history.iter().filter(|entry| entry.is_linked);
    match (linked.next(), linked.next()) {
        (None, _) => TagRepair::Remove,
        (Some(only), None) => {
            let mut lost = history.iter().filter(|entry| !entry.is_linked);
            let is_latest = lost.all(|lost| lost.tagged_at < only.tagged_at);
            if is_latest {
                TagRepair::Rewrite(&only.digest)
            } else {
                TagRepair::Unclear
            }
        }
        (Some(_), Some(_)) => TagRepair::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn entry(second: u64, is_linked: bool) -> HistoryEntry {
        HistoryEntry {
            digest: Digest::of(&second.to_ne_bytes()),
            tagged_at: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(second)),
            is_linked,
        }
    }

    #[test]
    fn a_tag_never_gets_an_older_image() {
        let (lost, linked) = (|second| entry(second, false), |second| entry(second, true));
        assert_eq!(choose_repair(&[]), TagRepair::Remove);
        assert_eq!(choose_repair(&[lost(1)]), TagRepair::Remove);
        let history = [lost(1), linked(2)];
        let expected = TagRepair::Rewrite(&history[1].digest);
        assert_eq!(choose_repair(&history), expected);
        for history in [[linked(1), lost(2)], [linked(1), lost(1)]] {
            assert_eq!(choose_repair(&history), TagRepair::Unclear);
        }
        let both = [linked(1), linked(2)];
        assert_eq!(choose_repair(&both), TagRepair::Unclear);
    }
}
