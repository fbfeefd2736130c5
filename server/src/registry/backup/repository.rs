//! Copies repositories to a backup.
//!
//! Start reading at [`Backup::copy_content`].

use std::collections::{BTreeMap, HashSet};

use imgsync_oci::manifest::Children;
use imgsync_oci::{Digest, MAX_MANIFEST_BYTES, Manifest, Repository, Tag};

use super::super::Registry;
use super::super::cache::link_key;
use super::super::collect::candidates::Candidates;
use super::super::collect::manifest_children::digests_named_in;
use super::super::digest_prefix::digest_prefix;
use super::super::error::Result;
use super::{Backup, BackupGap};
use crate::store::{LinkKind, MarkKey, ObjectKey, Walk};

/// A repository whose content was copied, but is not linked yet.
pub(super) struct RepositoryCopy {
    name: Repository,
    /// The tags of the registry with their manifests; after the copy only those that the backup has.
    tags: BTreeMap<Tag, Digest>,
    /// The manifests that the backup has, with everything that they name and that the registry has.
    manifests: HashSet<u128>,
    /// The blobs that were copied, or cannot be copied.
    blobs: HashSet<u128>,
    /// The links of the backup to manifests and blobs that the registry does not have.
    stale_manifests: Candidates,
    stale_layers: Candidates,
}

impl RepositoryCopy {
    /// Returns about how many digests are in memory.
    pub(super) fn len(&self) -> usize {
        self.tags.len() + self.manifests.len() + self.blobs.len()
    }

    fn has_manifest(&self, digest: &Digest) -> bool {
        self.manifests.contains(&digest_prefix(digest))
    }
}

impl Backup<'_> {
    /// Copies the blobs and manifests of a repository, with the links to the blobs.
    pub(super) fn copy_content(&mut self, name: Repository) -> Result<RepositoryCopy> {
        let source = self.source;
        let mut copy = RepositoryCopy {
            // Read before the manifests, so that all of those are there.
            tags: self.pushed_tags(&name)?,
            manifests: HashSet::new(),
            blobs: HashSet::new(),
            stale_manifests: self.linked_in_target(&name, LinkKind::Revisions)?,
            stale_layers: self.linked_in_target(&name, LinkKind::Layers)?,
            name,
        };
        let name = copy.name.clone();
        for digest in source.store.links(&name, LinkKind::Revisions) {
            let digest = digest?;
            let mark = MarkKey::Revision(&name, &digest);
            let link = ObjectKey::RevisionLink(&name, &digest);
            if source.store.len(link)?.is_some() && source.store.mark_time(mark)?.is_none() {
                self.copy_manifest(&mut copy, &digest)?;
            }
        }
        self.copy_tagged(&mut copy)?;
        Ok(copy)
    }

    /// Links the manifests and tags of repositories whose content was copied, and removes what the
    /// registry does not have. Returns false if the lease was lost: then nothing is removed.
    pub(super) fn link_content(
        &mut self,
        mut copies: Vec<RepositoryCopy>,
        is_leased: &dyn Fn() -> bool,
    ) -> Result<bool> {
        self.writer.publish()?;
        if !is_leased() {
            return Ok(false);
        }
        for copy in &mut copies {
            self.link_manifests(copy)?;
            self.drop_deleted_tags(copy)?;
        }
        self.writer.publish()?;
        for copy in &copies {
            for (tag, digest) in &copy.tags {
                self.put_link(ObjectKey::TagIndex(&copy.name, tag, digest), digest)?;
                self.put_link(ObjectKey::TagCurrent(&copy.name, tag), digest)?;
            }
        }
        self.writer.settle()?;
        for copy in &copies {
            self.remove_stale(copy)?;
            self.stats.repositories += usize::from(!copy.manifests.is_empty());
            self.stats.tags += copy.tags.len();
            self.stats.manifests += copy.manifests.len();
        }
        Ok(true)
    }

    /// Leaves out the tags that were deleted meanwhile. Who deletes an image deletes the tag first, so
    /// the manifests of a tag that is still there were there when they were linked.
    fn drop_deleted_tags(&self, copy: &mut RepositoryCopy) -> Result<()> {
        let mut tags = BTreeMap::new();
        for (tag, digest) in std::mem::take(&mut copy.tags) {
            let current = ObjectKey::TagCurrent(&copy.name, &tag);
            if self.source.store.len(current)?.is_some() {
                tags.insert(tag, digest);
            }
        }
        copy.tags = tags;
        Ok(())
    }

    /// Returns the tags of a repository that were pushed, with their manifests. A tag whose link is
    /// damaged keeps the manifest that it has in the backup.
    fn pushed_tags(&mut self, name: &Repository) -> Result<BTreeMap<Tag, Digest>> {
        let (source, mut tags) = (self.source, BTreeMap::new());
        for tag in source.all_tags(name, &Walk::unbounded())? {
            let current = ObjectKey::TagCurrent(name, &tag);
            if source.store.len(current)?.is_none()
                || source.store.mark_time(MarkKey::Tag(name, &tag))?.is_some()
            {
                continue;
            }
            let mut digest = source.read_link(current)?;
            if digest.is_none() {
                digest = self.target.read_link(current)?;
                self.report_gap(BackupGap::Tag(name.clone(), tag.clone()));
            }
            tags.extend(digest.map(|digest| (tag, digest)));
        }
        Ok(tags)
    }

    /// Copies the manifests of tags that were deleted after the tags were read. A tag whose manifest
    /// is lost keeps the one that it has in the backup.
    fn copy_tagged(&mut self, copy: &mut RepositoryCopy) -> Result<()> {
        for (tag, digest) in std::mem::take(&mut copy.tags) {
            if !copy.has_manifest(&digest) {
                self.copy_manifest(copy, &digest)?;
            }
            if copy.has_manifest(&digest) {
                copy.tags.insert(tag, digest);
                continue;
            }
            self.report_gap(BackupGap::Tag(copy.name.clone(), tag.clone()));
            let current = ObjectKey::TagCurrent(&copy.name, &tag);
            if let Some(earlier) = self.target.read_link(current)?
                && earlier != digest
            {
                self.copy_manifest(copy, &earlier)?;
                if copy.has_manifest(&earlier) {
                    copy.tags.insert(tag, earlier);
                }
            }
        }
        Ok(())
    }

    /// Copies a manifest and the blobs that it names, with the links to them.
    fn copy_manifest(&mut self, copy: &mut RepositoryCopy, digest: &Digest) -> Result<()> {
        copy.stale_manifests.keep(digest);
        let (name, source) = (&copy.name.clone(), self.source);
        let stored = self.stored_digest(ObjectKey::RevisionLink(name, digest), digest)?;
        let stored = stored.unwrap_or_else(|| digest.clone());
        let (bytes, is_in_source) = match source.read_intact(&stored)? {
            Some(bytes) => (bytes, true),
            None => match self.target.read_intact(&stored)? {
                Some(bytes) => (bytes, false),
                None => {
                    self.report_gap(BackupGap::Manifest(name.clone(), digest.clone()));
                    return Ok(());
                }
            },
        };
        match Manifest::parse_bare(&bytes) {
            Ok((_, manifest)) => self.copy_children(copy, digest, &manifest.children())?,
            // A format that this server does not support, but the stock registry may.
            Err(_) => {
                for named in digests_named_in(&bytes) {
                    self.copy_blob(copy, &named, None)?;
                }
            }
        }
        self.stale_blobs.keep(&stored);
        if is_in_source {
            self.copy_bytes(&stored)?;
        }
        copy.manifests.insert(digest_prefix(digest));
        Ok(())
    }

    fn copy_children(
        &mut self,
        copy: &mut RepositoryCopy,
        manifest: &Digest,
        children: &Children,
    ) -> Result<()> {
        for blob in &children.blobs {
            if !self.copy_blob(copy, &blob.digest, Some(blob.size))? {
                self.report_gap(BackupGap::Blob {
                    repository: copy.name.clone(),
                    manifest: manifest.clone(),
                    blob: blob.digest.clone(),
                });
            }
        }
        // A child manifest is copied in its own right, or absent, as an index may be pushed without
        // it. Some are stored as blobs.
        for child in &children.manifests {
            self.copy_blob(copy, &child.digest, None)?;
        }
        Ok(())
    }

    /// Copies a blob of the repository. Returns whether the backup has it with this size now; true
    /// if the blob was examined before.
    fn copy_blob(
        &mut self,
        copy: &mut RepositoryCopy,
        digest: &Digest,
        size: Option<u64>,
    ) -> Result<bool> {
        if !copy.blobs.insert(digest_prefix(digest)) {
            return Ok(true);
        }
        copy.stale_layers.keep(digest);
        let name = copy.name.clone();
        let link = ObjectKey::LayerLink(&name, digest);
        let in_source = self.stored_digest(link, digest)?;
        let in_target = self.target.resolve_link(link, digest)?;
        let is_sound = |registry: &Registry, stored: &Digest| -> Result<bool> {
            let len = registry.store.len(ObjectKey::Blob(stored))?;
            Ok(len.is_some() && (size.is_none() || size == len))
        };
        if let Some(stored) = in_target.or_else(|| in_source.clone()) {
            self.stale_blobs.keep(&stored);
            let is_lost = match &in_source {
                Some(stored) => !is_sound(self.source, stored)?,
                None => true,
            };
            // An earlier backup may have what the registry has lost.
            if is_lost && is_sound(self.target, &stored)? {
                self.put_link(link, &stored)?;
                return Ok(true);
            }
        }
        let Some(stored) = in_source else {
            return Ok(false);
        };
        self.stale_blobs.keep(&stored);
        let is_copied = self.copy_bytes(&stored)?;
        if is_copied {
            self.put_link(link, &stored)?;
        }
        Ok(is_copied && is_sound(self.source, &stored)?)
    }

    /// Returns the digest under which the registry stores what a link names; `None` if there is no
    /// such link. A damaged link still has the digest in its name.
    fn stored_digest(&self, link: ObjectKey<'_>, digest: &Digest) -> Result<Option<Digest>> {
        let source = self.source;
        Ok(match source.resolve_link(link, digest)? {
            Some(stored) => Some(stored),
            None => source.store.len(link)?.map(|_| digest.clone()),
        })
    }

    /// Links the manifests that were copied.
    fn link_manifests(&mut self, copy: &RepositoryCopy) -> Result<()> {
        let linked = self.source.store.links(&copy.name, LinkKind::Revisions);
        let tagged = copy.tags.values().map(|digest| Ok(digest.clone()));
        for digest in linked.chain(tagged) {
            let digest = digest?;
            if copy.has_manifest(&digest) {
                let link = ObjectKey::RevisionLink(&copy.name, &digest);
                let stored = self.stored_digest(link, &digest)?;
                self.put_link(link, stored.as_ref().unwrap_or(&digest))?;
            }
        }
        Ok(())
    }

    /// Removes the tags and links that the registry does not have, in this order, so that no link
    /// ever leads nowhere.
    fn remove_stale(&mut self, copy: &RepositoryCopy) -> Result<()> {
        let (name, target) = (&copy.name, self.target);
        for tag in target.all_tags(name, &Walk::unbounded())? {
            if !copy.tags.contains_key(&tag) {
                target.store.delete_tag(name, &tag)?;
                self.stats.removed_tags += 1;
            }
        }
        for (links, stale) in [
            (LinkKind::Revisions, &copy.stale_manifests),
            (LinkKind::Layers, &copy.stale_layers),
        ] {
            for digest in target.store.links(name, links) {
                let digest = digest?;
                if stale.contains(&digest) {
                    target.store.delete(link_key(name, links, &digest))?;
                }
            }
        }
        Ok(())
    }
}

impl Registry {
    /// Returns the bytes of a manifest; `None` if they are missing or do not match the digest.
    fn read_intact(&self, stored: &Digest) -> Result<Option<Vec<u8>>> {
        let limit = MAX_MANIFEST_BYTES + 1;
        let bytes = self.store.get(ObjectKey::Blob(stored), limit)?;
        Ok(bytes.filter(|bytes| Digest::of_with(stored.algorithm(), bytes) == *stored))
    }
}
