//! Finds content that has two digests: a stock registry stores content that is linked by its sha512
//! digest under its sha256 digest.
//!
//! Start reading at [`Registry::add_aliases`].

use std::collections::BTreeSet;

use imgsync_oci::{Digest, Repository};

use super::super::super::Registry;
use super::super::super::error::Result;
use super::PurgePlan;
use crate::store::{LinkKind, ListScope, TrashEntry, Walk};

impl Registry {
    /// Returns the digests under which content with this digest may be stored.
    pub(super) fn stored_digests(&self, digest: &Digest) -> Result<BTreeSet<Digest>> {
        let mut stored = BTreeSet::from([digest.clone()]);
        self.for_each_alias(&mut |alias, target| {
            if alias == digest {
                stored.insert(target.clone());
            }
        })?;
        Ok(stored)
    }

    /// Adds the other digest of all contents of a plan that have two.
    pub(super) fn add_aliases(&self, plan: &mut PurgePlan) -> Result<()> {
        self.for_each_alias(&mut |alias, target| {
            for digests in [&mut plan.contents, &mut plan.named] {
                if digests.contains(alias) || digests.contains(target) {
                    digests.extend([alias.clone(), target.clone()]);
                }
            }
        })
    }

    /// Calls `visit` with both digests of each link whose content is stored under another digest, also
    /// if the link is in the trash.
    fn for_each_alias(&self, visit: &mut dyn FnMut(&Digest, &Digest)) -> Result<()> {
        for (scope, links) in [
            (ListScope::RepositoriesWithBlobs, LinkKind::Layers),
            (ListScope::Repositories, LinkKind::Revisions),
        ] {
            for repository in self.repositories(scope, &Walk::unbounded()) {
                let repository: Repository = repository?;
                for digest in self.store.sha512_links(&repository, links) {
                    let digest = digest?;
                    if let Some(target) = self.alias_target(&repository, links, &digest)? {
                        visit(&digest, &target);
                    }
                }
            }
        }
        self.for_each_trashed(&mut |entry| match entry {
            TrashEntry::Layer { digest, target, .. }
            | TrashEntry::Revision { digest, target, .. }
                if digest != target =>
            {
                visit(&digest, &target);
            }
            _ => {}
        })
    }
}
