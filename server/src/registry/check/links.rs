//! Checks the links of a repository to blobs and manifests.

use imgsync_oci::{Digest, Repository};

use super::super::cache::{link_key, mark_key};
use super::super::error::Result;
use super::finding::{Finding, Repair};
use super::{Check, CheckResult};
use crate::store::{LinkKind, ObjectKey};

/// The fault of a link.
enum LinkFault {
    /// The link is empty, or names other content.
    Damaged,
    /// Its content is missing.
    Dangling,
}

impl Check<'_> {
    pub(super) fn check_links(&mut self, repository: &Repository) -> CheckResult<()> {
        for links in [LinkKind::Revisions, LinkKind::Layers] {
            for digest in self.registry.store.links(repository, links) {
                self.check_link(repository, links, &digest?)?;
            }
        }
        Ok(())
    }

    fn check_link(
        &mut self,
        repository: &Repository,
        links: LinkKind,
        digest: &Digest,
    ) -> CheckResult<()> {
        if self.find_fault(repository, links, digest)?.is_none() {
            return Ok(());
        }
        let is_manifest = links == LinkKind::Revisions;
        let lock = self.registry.lock_digests([digest.clone()]);
        let fault = self.find_fault(repository, links, digest)?;
        let repair = match fault {
            Some(LinkFault::Damaged) => self.repair_link(repository, links, digest),
            Some(LinkFault::Dangling) | None => Repair::None,
        };
        drop(lock);
        let (repository, digest) = (repository.clone(), digest.clone());
        match fault {
            None => Ok(()),
            Some(LinkFault::Dangling) => self.add_finding(Finding::MissingContent {
                repository,
                digest,
                is_manifest,
            }),
            Some(LinkFault::Damaged) => self.add_finding(Finding::DamagedLink {
                repository,
                digest,
                is_manifest,
                repair,
            }),
        }
    }

    fn find_fault(
        &self,
        repository: &Repository,
        links: LinkKind,
        digest: &Digest,
    ) -> Result<Option<LinkFault>> {
        let (registry, link) = (self.registry, link_key(repository, links, digest));
        if registry.store.len(link)?.is_none() {
            return Ok(None);
        }
        let mark = mark_key(repository, links, digest);
        if registry.store.mark_time(mark)?.is_some() {
            return Ok(None);
        }
        let Some(stored) = registry.resolve_link(link, digest)? else {
            return Ok(Some(LinkFault::Damaged));
        };
        // Damaged bytes were reported already.
        let has_bytes = registry.store.len(ObjectKey::Blob(&stored))?;
        Ok(has_bytes.is_none().then_some(LinkFault::Dangling))
    }

    /// Writes a damaged link again, or removes it if its content is missing. Its name has the digest,
    /// so nothing is lost. The caller holds the lock of the digest.
    fn repair_link(&self, repository: &Repository, links: LinkKind, digest: &Digest) -> Repair {
        if !self.options.repairs {
            return Repair::None;
        }
        let (registry, link) = (self.registry, link_key(repository, links, digest));
        let repair = || -> Result<Repair> {
            if self.has_sound_bytes(digest)? {
                registry.store.put(link, digest.to_string().as_bytes())?;
                return Ok(Repair::Rewritten);
            }
            registry.store.delete(link)?;
            Ok(Repair::Removed)
        };
        let repaired = repair().unwrap_or_else(|error| Repair::Failed(error.to_string()));
        if links == LinkKind::Revisions {
            registry.note_manifest_change(repository);
        }
        repaired
    }
}
