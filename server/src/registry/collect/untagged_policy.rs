//! Which manifests without a tag are removed, and how much space the others take.

use std::collections::HashSet;
use std::time::Duration;

use imgsync_oci::Repository;

use super::super::error::Result;
use super::Collection;
use super::manifest_graph::ManifestGraph;
use crate::config::RetentionRule;
use crate::store::{ObjectKey, Walk};

/// The treatment of manifests that no tag needs, in a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UntaggedPolicy {
    /// All are kept.
    Keep,
    /// All are removed.
    RemoveAll,
    /// Manifests are removed that no tag has needed for the time in the rule of their repository.
    Rules {
        /// The rules, of which the first one that matches applies.
        rules: Vec<RetentionRule>,
        /// Whether they are only counted.
        is_report_only: bool,
    },
}

impl UntaggedPolicy {
    /// Removes all manifests that no tag has needed for some time.
    #[cfg(test)]
    pub(crate) fn after(age: Duration) -> Self {
        let rule = RetentionRule {
            repositories: vec!["**".parse().unwrap()],
            keep_newest: None,
            keep_tags: Vec::new(),
            keep_pushed: None,
            keep_pulled: None,
            untagged: Some(age),
        };
        Self::Rules {
            rules: vec![rule],
            is_report_only: false,
        }
    }

    /// Returns for how long no tag must have needed a manifest that is removed; `None` if it is kept.
    pub(super) fn min_age(&self, repository: &Repository) -> Option<Duration> {
        match self {
            Self::Keep => None,
            Self::RemoveAll => Some(Duration::ZERO),
            Self::Rules { rules, .. } => RetentionRule::find(rules, repository)?.untagged,
        }
    }

    /// Returns whether nothing is removed, only counted.
    pub(super) fn is_report_only(&self) -> bool {
        matches!(
            self,
            Self::Rules {
                is_report_only: true,
                ..
            }
        )
    }
}

impl Collection<'_> {
    /// Counts the bytes of the manifests that are not in `needed`, and of what only they name in this
    /// repository. Other repositories may share some of them.
    pub(super) fn count_untagged_bytes(
        &mut self,
        repository: &Repository,
        graph: &ManifestGraph,
        needed: &HashSet<u128>,
    ) -> Result<()> {
        let (registry, walk) = (self.registry, Walk::unbounded());
        let content = registry.content_not_needed(repository, graph, needed, &walk)?;
        for digest in content.values() {
            let size = registry.store.len(ObjectKey::Blob(digest))?;
            self.stats.untagged_bytes += size.unwrap_or_default();
        }
        Ok(())
    }
}
