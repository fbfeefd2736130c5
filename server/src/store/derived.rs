//! Derived files: facts about blobs and manifests that were computed once, such as diffIDs.
//!
//! They can all be computed again from the tree, so a damaged file counts as absent, and content is
//! served without them. In a read-only store none is written or removed.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use imgsync_oci::{Digest, Repository};

use super::error::{IoContext, Result};
use super::objects::MAX_FOLDER_RETRIES;
use super::paths::{digest_from_file_name, digest_to_file_name};
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

    /// Whether there is a derived file under a key.
    pub(crate) fn has_derived(&self, key: DerivedKey<'_>) -> Result<bool> {
        let path = self.paths.derived(key);
        Ok(self.disk.len(&path).context("stat", &path)?.is_some())
    }

    /// Removes a derived file, if there is one. Not durably: a file that is back after a crash is
    /// recognized as stale.
    pub(crate) fn delete_derived(&self, key: DerivedKey<'_>) -> Result<()> {
        if !self.is_writable() {
            return Ok(());
        }
        let path = self.paths.derived(key);
        self.disk.unlink(&path).context("remove", &path)?;
        // Fails while there are other files in the folder.
        let _ = path.parent().map(|folder| self.disk.remove_folder(folder));
        Ok(())
    }

    /// Calls `visit` with each blob that is recorded for a diffID, until it breaks.
    pub(crate) fn for_each_diff_id_blob(
        &self,
        diff_id: &Digest,
        visit: &mut dyn FnMut(Digest) -> ControlFlow<()>,
    ) -> Result<()> {
        self.for_each_digest_file(&self.paths.diff_id_blobs(diff_id), visit)
    }

    /// Calls `visit` with each manifest of a repository that is recorded for a config, until it
    /// breaks.
    pub(crate) fn for_each_config_manifest(
        &self,
        repository: &Repository,
        config: &Digest,
        visit: &mut dyn FnMut(Digest) -> ControlFlow<()>,
    ) -> Result<()> {
        self.for_each_digest_file(&self.paths.config_manifests(repository, config), visit)
    }

    /// Calls `visit` with each digest to which a repository links, until it breaks.
    pub(crate) fn for_each_link(
        &self,
        repository: &Repository,
        links: LinkKind,
        visit: &mut dyn FnMut(Digest) -> ControlFlow<()>,
    ) -> Result<()> {
        let folder = self.paths.links(repository, links);
        self.for_each_folder(&folder, &mut |algorithm| {
            self.for_each_entry(
                &folder.join(algorithm),
                &mut |name, is_folder| match format!("{algorithm}:{name}").parse() {
                    Ok(digest) if is_folder => visit(digest),
                    _ => ControlFlow::Continue(()),
                },
            )
        })
        .map(|_| ())
    }

    /// Calls `visit` with each blob that has a layer record, until it breaks.
    pub(crate) fn for_each_layer_record(
        &self,
        visit: &mut dyn FnMut(Digest) -> ControlFlow<()>,
    ) -> Result<()> {
        let top = self.paths.layer_records();
        self.for_each_folder(&top, &mut |algorithm| {
            let below = top.join(algorithm);
            self.for_each_folder(&below, &mut |start| {
                self.for_each_entry(&below.join(start), &mut |name, _| match format!(
                    "{algorithm}:{name}"
                )
                .parse()
                {
                    Ok(digest) => visit(digest),
                    Err(_) => ControlFlow::Continue(()),
                })
            })
        })
        .map(|_| ())
    }

    /// Calls `visit` with each recorded manifest of any config, and with the first `limit` bytes of
    /// the file that records it, until it breaks.
    pub(crate) fn for_each_config_manifest_file(
        &self,
        limit: usize,
        visit: &mut dyn FnMut(Digest, Vec<u8>) -> ControlFlow<()>,
    ) -> Result<()> {
        let top = self.paths.all_config_manifests();
        self.for_each_folder(&top, &mut |start| {
            let below = top.join(start);
            let mut flow = ControlFlow::Continue(());
            self.for_each_folder(&below, &mut |name| {
                let folder = below.join(name);
                self.for_each_digest_file(&folder, &mut |manifest| {
                    let path = folder.join(digest_to_file_name(&manifest));
                    // An unreadable file counts as empty.
                    let content = self.read_file(&path, limit).ok().flatten();
                    flow = visit(manifest, content.unwrap_or_default());
                    flow
                })?;
                Ok(flow)
            })
        })
        .map(|_| ())
    }

    fn for_each_digest_file(
        &self,
        folder: &Path,
        visit: &mut dyn FnMut(Digest) -> ControlFlow<()>,
    ) -> Result<()> {
        self.for_each_entry(folder, &mut |name, _| match digest_from_file_name(name) {
            Some(digest) => visit(digest),
            None => ControlFlow::Continue(()),
        })
        .map(|_| ())
    }

    /// Calls `enter` with the name of each folder in a folder, until it breaks or fails.
    fn for_each_folder(
        &self,
        folder: &Path,
        enter: &mut dyn FnMut(&str) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let mut result = Ok(ControlFlow::Continue(()));
        let _ = self.for_each_entry(folder, &mut |name, is_folder| {
            if !is_folder {
                return ControlFlow::Continue(());
            }
            result = enter(name);
            match &result {
                Ok(flow) => *flow,
                Err(_) => ControlFlow::Break(()),
            }
        })?;
        result
    }

    /// Calls `visit` with each name in a folder and whether it is a folder, until it breaks;
    /// returns whether it did.
    fn for_each_entry(
        &self,
        folder: &Path,
        visit: &mut dyn FnMut(&str, bool) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let mut flow = ControlFlow::Continue(());
        self.disk
            .for_each_entry(folder, &mut |name, is_folder| {
                flow = visit(name, is_folder);
                flow
            })
            .context("list", folder)?;
        Ok(flow)
    }
}
