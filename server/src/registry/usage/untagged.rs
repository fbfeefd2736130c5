//! Finds the content of a repository that only untagged manifests need.

use std::collections::HashSet;

use imgsync_oci::{Digest, Repository};

use super::super::Registry;
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
        let is_needed = |digest: &Digest| needed.contains(&digest_prefix(digest));
        let (tagged, untagged): (Vec<&Digest>, Vec<&Digest>) =
            graph.digests().partition(|digest| is_needed(digest));
        let mut content: HashSet<u128> = untagged.iter().copied().map(digest_prefix).collect();
        for digest in &untagged {
            walk.step()?;
            let named = self.named_digests(repository, digest)?;
            content.extend(named.iter().map(digest_prefix));
        }
        // Most repositories have no untagged manifests, so that the others need not be read again.
        if !content.is_empty() {
            for digest in tagged {
                walk.step()?;
                content.remove(&digest_prefix(digest));
                for named in self.named_digests(repository, digest)? {
                    content.remove(&digest_prefix(&named));
                }
            }
        }
        Ok(UntaggedContent {
            manifests: untagged.len() as u64,
            content,
        })
    }
}
