//! Derived files: facts about blobs and manifests that were computed once, such as diffIDs.
//!
//! They can all be computed again from the tree, so a damaged file counts as absent, and content is
//! served without them. In a read-only store none is written or removed.

use std::io;

use imgsync_oci::{Digest, Repository};

use super::disk::FolderEntry;
use super::entries::entry_digest;
use super::error::{IoContext, Result};
use super::objects::MAX_FOLDER_RETRIES;
use super::paths::digest_from_file_name;
use super::{DerivedKey, LinkKind, Store};

impl Store {
    /// Writes a derived file, replacing the one that was there. It is durable when this returns.
    pub(crate) fn put_derived(&self, key: DerivedKey<'_>, bytes: &[u8]) -> Result<()> {
        if !self.is_writable() {
            return Ok(());
        }
        self.put_file(self.paths.derived(key), bytes)
    }

    /// Creates an empty derived file, if there is none yet. Not durably: meant for facts that
    /// another durable file contains, too.
    pub(crate) fn put_derived_unsynced(&self, key: DerivedKey<'_>) -> Result<()> {
        if !self.is_writable() {
            return Ok(());
        }
        let path = self.paths.derived(key);
        let folder = path.parent().unwrap_or(&path);
        let mut retries = 1..=MAX_FOLDER_RETRIES;
        loop {
            if let Some(parent) = folder.parent() {
                self.folders.ensure(parent)?;
            }
            let created = self.disk.make_folder(folder);
            match created.and_then(|_| self.disk.create(&path)) {
                // Another thread found the folder empty and removed it.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && retries.next().is_some() => {}
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(error).context("write", &path);
                }
                _ => return Ok(()),
            }
        }
    }

    /// Reads a derived file, at most its first `limit` bytes; `None` if there is no such file.
    pub(crate) fn get_derived(&self, key: DerivedKey<'_>, limit: usize) -> Result<Option<Vec<u8>>> {
        self.read_file(&self.paths.derived(key), limit)
    }

    /// Returns whether there is a derived file under a key.
    pub(crate) fn has_derived(&self, key: DerivedKey<'_>) -> Result<bool> {
        self.disk.is_file(&self.paths.derived(key))
    }

    /// Removes a derived file, if there is one. Not durably: a file that is back after a crash is
    /// recognized as stale.
    pub(crate) fn delete_derived(&self, key: DerivedKey<'_>) -> Result<()> {
        if !self.is_writable() {
            return Ok(());
        }
        let path = self.paths.derived(key);
        self.disk.unlink(&path)?;
        // Fails while there are other files in the folder.
        let _ = path.parent().map(|folder| self.disk.remove_folder(folder));
        Ok(())
    }

    /// Iterates over the blobs that are recorded for a diffID.
    pub(crate) fn diff_id_blobs(
        &self,
        diff_id: &Digest,
    ) -> impl Iterator<Item = Result<Digest>> + use<> {
        self.digest_files(&self.paths.diff_id_blobs(diff_id))
    }

    /// Iterates over the manifests of a repository that are recorded for a config.
    pub(crate) fn config_manifests(
        &self,
        repository: &Repository,
        config: &Digest,
    ) -> impl Iterator<Item = Result<Digest>> + use<> {
        self.digest_files(&self.paths.config_manifests(repository, config))
    }

    /// Iterates over the digests to which a repository links.
    pub(crate) fn links(
        &self,
        repository: &Repository,
        links: LinkKind,
    ) -> impl Iterator<Item = Result<Digest>> {
        let folder = self.paths.links(repository, links);
        let entries = self.entries_below(&folder, 1);
        entries.filter_map(move |entry| {
            let digest =
                |entry: FolderEntry| entry_digest(&folder, &entry).filter(|_| entry.is_folder);
            entry.map(digest).transpose()
        })
    }

    /// Iterates over the blobs that have a layer record.
    pub(crate) fn layer_records(&self) -> impl Iterator<Item = Result<Digest>> {
        let folder = self.paths.layer_records();
        let entries = self.entries_below(&folder, 2);
        entries
            .filter_map(move |entry| entry.map(|entry| entry_digest(&folder, &entry)).transpose())
    }

    /// Iterates over the recorded manifests of all configs, each with the first `limit` bytes of
    /// the file that records it. An unreadable file counts as empty.
    pub(crate) fn config_manifest_files(
        &self,
        limit: usize,
    ) -> impl Iterator<Item = Result<(Digest, Vec<u8>)>> {
        let entries = self.entries_below(&self.paths.all_config_manifests(), 2);
        entries.filter_map(move |entry| {
            let read = |entry: FolderEntry| {
                let digest = digest_from_file_name(&entry.name)?;
                let content = self.read_file(&entry.path, limit).ok().flatten();
                Some((digest, content.unwrap_or_default()))
            };
            entry.map(read).transpose()
        })
    }
}
