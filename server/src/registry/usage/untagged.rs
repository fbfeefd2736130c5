//! Finds the content of a repository that only untagged manifests need.

use std::collections::{HashMap, HashSet};

use imgsync_oci::{Digest, Repository};

use super::super::Registry;
use super::super::collect::ManifestGraph;
use super::super::digest_prefix::digest_prefix;
use super::super::error::Result;
use super::UntaggedContent;
use crate::store::{MarkKey, Walk};

impl Registry {
    /// Returns the content of a repository that only untagged manifests need. Cached manifests
    /// count as needed, because they are evicted.
    pub(super) fn untagged_content(
        &self,
        repository: &Repository,
        walk: &Walk<'_>,
    ) -> Result<UntaggedContent> {
        let graph = self.manifest_graph(repository, walk, &mut |digest| {
            let mark = MarkKey::Revision(repository, digest);
            Ok(self.store.mark_time(mark)?.is_some())
        })?;
        let needed = graph.needed();
        let content = self.content_not_needed(repository, &graph, &needed, walk)?;
        let untagged = graph.ids().filter(|id| !needed.contains(id));
        Ok(UntaggedContent {
            manifests: untagged.count() as u64,
            content: content.into_keys().collect(),
        })
    }

    /// Returns the manifests of a repository that are not in `needed`, and what only they name.
    pub(in crate::registry) fn content_not_needed(
        &self,
        repository: &Repository,
        graph: &ManifestGraph,
        needed: &HashSet<u128>,
        walk: &Walk<'_>,
    ) -> Result<HashMap<u128, Digest>> {
        let mut content = HashMap::new();
        let is_needed = |digest: &&Digest| needed.contains(&digest_prefix(digest));
        for digest in graph.digests().filter(|digest| !is_needed(digest)) {
            walk.step()?;
            content.insert(digest_prefix(digest), digest.clone());
            for named in self.named_digests(repository, digest)? {
                content.insert(digest_prefix(&named), named);
            }
        }
        // Most repositories have no untagged manifests, so that the others need not be read again.
        if content.is_empty() {
            return Ok(content);
        }
        for digest in graph.digests().filter(is_needed) {
            walk.step()?;
            content.remove(&digest_prefix(digest));
            for named in self.named_digests(repository, digest)? {
                content.remove(&digest_prefix(&named));
            }
        }
        Ok(content)
    }
}
