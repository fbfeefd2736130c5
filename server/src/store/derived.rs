//! Derived files: facts about blobs and manifests that were computed once, such as diffIDs.
//!
//! They can all be computed again from the tree, so a damaged file counts as absent, and content is
//! served without them. In a read-only store none is written or removed.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use imgsync_oci::{Algorithm, Digest, Repository, Tag};

use super::disk::FileIdentity;
use super::entries::entry_digest;
use super::error::{IoContext, Result};
use super::objects::MAX_FOLDER_RETRIES;
use super::{DerivedKey, LinkKind, ObjectReader, Store};

/// The algorithms of the digests that a repository can link.
const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

/// The identity of the folders that contain the folders of links; `None` for a missing one.
pub(crate) struct LinkFoldersIdentity(Vec<Option<FileIdentity>>);

impl LinkFoldersIdentity {
    /// Returns whether the last change is so long ago at `now`, a time of the system clock, that
    /// every later change changes the identity.
    pub(crate) fn is_settled_at(&self, now: SystemTime) -> bool {
        let mut folders = self.0.iter().flatten();
        folders.all(|folder| folder.is_settled_at(now))
    }
}

impl fmt::Display for LinkFoldersIdentity {
    /// Writes the identity as it is stored.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for folder in &self.0 {
            match folder {
                Some(folder) => write!(f, "{folder};")?,
                None => f.write_str("-;")?,
            }
        }
        Ok(())
    }
}

impl Store {
    /// Writes a derived file, replacing the one that was there. Not durably: after a power cut, the
    /// file may be missing or damaged.
    pub(crate) fn put_derived(&self, key: DerivedKey<'_>, bytes: &[u8]) -> Result<()> {
        if !self.is_writable() {
            return Ok(());
        }
        self.put_derived_file(&self.paths.derived(key), bytes, false)
    }

    /// Writes a derived file as [`Store::put_derived`] does, but a power cut cannot damage it: the file
    /// is either missing or complete.
    pub(crate) fn put_intact_derived(&self, key: DerivedKey<'_>, bytes: &[u8]) -> Result<()> {
        if !self.is_writable() {
            return Ok(());
        }
        self.put_derived_file(&self.paths.derived(key), bytes, true)
    }

    /// Writes a derived file at a path. If `is_synced`, a power cut cannot damage it.
    pub(super) fn put_derived_file(
        &self,
        path: &Path,
        bytes: &[u8],
        is_synced: bool,
    ) -> Result<()> {
        let temporary = self.temporary_path();
        let file = self.disk.create(&temporary);
        let written = file.and_then(|file| {
            file.write(0, bytes)?;
            if is_synced { file.sync() } else { Ok(()) }
        });
        let written = written.context("write", path);
        let moved = written.and_then(|()| self.rename_derived(&temporary, path));
        moved.inspect_err(|_| self.discard_file(&temporary))
    }

    /// Moves a file to the path of a derived file, and creates the folders that it needs.
    fn rename_derived(&self, from: &Path, to: &Path) -> Result<()> {
        let folder = to.parent().unwrap_or(to);
        let mut retries = 1..=MAX_FOLDER_RETRIES;
        loop {
            self.folders.ensure_unsynced(folder)?;
            match self.disk.rename(from, to) {
                // Another thread found the folder empty and removed it.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && retries.next().is_some() => {}
                moved => return moved.context("write", to),
            }
        }
    }

    /// Reads a derived file, at most its first `limit` bytes; `None` if there is no such file.
    pub(crate) fn get_derived(&self, key: DerivedKey<'_>, limit: usize) -> Result<Option<Vec<u8>>> {
        self.read_file(&self.paths.derived(key), limit)
    }

    /// Opens a derived file to read parts of it; returns it with its length in bytes, or `None` if
    /// there is no such file.
    pub(crate) fn open_derived(&self, key: DerivedKey<'_>) -> Result<Option<(ObjectReader, u64)>> {
        self.open_file(&self.paths.derived(key))
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

    /// Iterates over the digests to which a repository links.
    pub(crate) fn links(
        &self,
        repository: &Repository,
        links: LinkKind,
    ) -> impl Iterator<Item = Result<Digest>> {
        self.links_in(self.paths.links(repository, links))
    }

    /// Iterates over the sha512 digests to which a repository links.
    pub(crate) fn sha512_links(
        &self,
        repository: &Repository,
        links: LinkKind,
    ) -> impl Iterator<Item = Result<Digest>> {
        self.links_of(&self.paths.links(repository, links), Algorithm::Sha512)
    }

    /// Iterates over the manifests that a tag points or pointed at.
    pub(crate) fn tag_history(
        &self,
        repository: &Repository,
        tag: &Tag,
    ) -> impl Iterator<Item = Result<Digest>> {
        self.links_in(self.paths.tag_history(repository, tag))
    }

    fn links_in(&self, folder: PathBuf) -> impl Iterator<Item = Result<Digest>> {
        let algorithms = ALGORITHMS.into_iter();
        algorithms.flat_map(move |algorithm| self.links_of(&folder, algorithm))
    }

    fn links_of(
        &self,
        folder: &Path,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = Result<Digest>> + use<> {
        let hashes = self.disk.subfolders(&folder.join(algorithm.as_str()));
        hashes.filter_map(move |hash| {
            hash.map(|hash| Digest::from_hex(algorithm, &hash).ok())
                .transpose()
        })
    }

    /// Returns the identity of the folders of a repository's links, which changes when a folder of
    /// a link is created or removed.
    pub(crate) fn link_folders_identity(
        &self,
        repository: &Repository,
        links: LinkKind,
    ) -> Result<LinkFoldersIdentity> {
        let folder = self.paths.links(repository, links);
        let algorithms = ALGORITHMS.map(|algorithm| folder.join(algorithm.as_str()));
        let folders = algorithms.iter().chain([&folder]);
        let identities = folders.map(|folder| self.disk.identity(folder));
        Ok(LinkFoldersIdentity(identities.collect::<Result<_>>()?))
    }

    /// Iterates over the blobs that have a layer record.
    pub(crate) fn layer_records(&self) -> impl Iterator<Item = Result<Digest>> {
        let folder = self.paths.layer_records();
        let entries = self.entries_below(&folder, 2);
        entries
            .filter_map(move |entry| entry.map(|entry| entry_digest(&folder, &entry)).transpose())
    }

    /// Returns since when manifests of a repository have been seen without a tag, in Unix seconds.
    pub(crate) fn untagged_since(&self, repository: &Repository) -> Result<Vec<(Digest, u64)>> {
        let (path, mut since) = (self.paths.untagged_since(repository), Vec::new());
        self.visit_lines(&path, &mut |line| {
            let fields = line.split_once(' ');
            let parsed = fields.and_then(|(time, digest)| {
                let digest = digest.parse().ok()?;
                Some((digest, time.parse().ok()?))
            });
            since.extend(parsed);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(since)
    }

    /// Replaces what [`Store::untagged_since`] returns. Not durably.
    pub(crate) fn put_untagged_since<'a>(
        &self,
        repository: &Repository,
        since: impl Iterator<Item = (&'a Digest, u64)>,
    ) -> Result<()> {
        let lines: String = since
            .map(|(digest, time)| format!("{time} {digest}\n"))
            .collect();
        let path = self.paths.untagged_since(repository);
        self.put_derived_file(&path, lines.as_bytes(), false)
    }
}
