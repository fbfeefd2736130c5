//! What we derived from blobs and manifests: files of our own that are never needed to serve what
//! is in the tree. All of them can be derived again, so a damaged one counts as none. Where nothing
//! can be written, none is made or removed.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use imgsync_oci::{Digest, Repository};

use super::error::{IoContext, Result};
use super::objects::MAX_FOLDER_RETRIES;
use super::paths::{digest_from_file_name, digest_to_file_name};
use super::{DerivedKey, LinkKind, Store};

impl Store {
    /// Puts something derived under a key, over whatever stood there, durably.
    pub(crate) fn put_derived(&self, key: DerivedKey<'_>, bytes: &[u8]) -> Result<()> {
        if !self.is_writable() {
            return Ok(());
        }
        self.put_file(self.paths.derived(key), bytes)
    }

    /// Puts an empty file under a key, where there is none yet, and not durably: for what another
    /// durable file tells as well.
    pub(crate) fn put_derived_unsynced(&self, key: DerivedKey<'_>) -> Result<()> {
        if !self.is_writable() {
            return Ok(());
        }
        let path = self.paths.derived(key);
        let folder = path.parent().unwrap_or(&path);
        let mut tries = 1..=MAX_FOLDER_RETRIES;
        loop {
            if let Some(above) = folder.parent() {
                self.folders.ensure(above)?;
            }
            let made = self.disk.make_folder(folder);
            match made.and_then(|_| self.disk.create(&path)) {
                // Somebody else had the folder empty, and removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries.next().is_some() => {
                }
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(error).context("write", &path);
                }
                Ok(_) | Err(_) => return Ok(()),
            }
        }
    }

    /// What stands under a key, at most `limit` bytes of it; `None` where nothing does.
    pub(crate) fn get_derived(&self, key: DerivedKey<'_>, limit: usize) -> Result<Option<Vec<u8>>> {
        self.read_file(&self.paths.derived(key), limit)
    }

    /// Whether anything stands under a key.
    pub(crate) fn has_derived(&self, key: DerivedKey<'_>) -> Result<bool> {
        let path = self.paths.derived(key);
        Ok(self.disk.len(&path).context("look at", &path)?.is_some())
    }

    /// Removes what stands under a key, if anything does. Not durably: what comes back after a
    /// crash is found out again.
    pub(crate) fn delete_derived(&self, key: DerivedKey<'_>) -> Result<()> {
        if !self.is_writable() {
            return Ok(());
        }
        let path = self.paths.derived(key);
        self.disk.unlink(&path).context("remove", &path)?;
        // Fails while others are in it.
        let _ = path.parent().map(|folder| self.disk.remove_folder(folder));
        Ok(())
    }

    /// The blobs that are known to be of a diffID, until `look` breaks off.
    pub(crate) fn for_each_diff_id_blob(
        &self,
        diff_id: &Digest,
        look: &mut dyn FnMut(Digest) -> ControlFlow<()>,
    ) -> Result<()> {
        self.for_each_digest_file(&self.paths.diff_id_blobs(diff_id), look)
    }

    /// The manifests that a repository is known to have over a config, until `look` breaks off.
    pub(crate) fn for_each_config_manifest(
        &self,
        repository: &Repository,
        config: &Digest,
        look: &mut dyn FnMut(Digest) -> ControlFlow<()>,
    ) -> Result<()> {
        self.for_each_digest_file(&self.paths.config_manifests(repository, config), look)
    }

    /// The digests that a repository links to, until `look` breaks off.
    pub(crate) fn for_each_link(
        &self,
        repository: &Repository,
        links: LinkKind,
        look: &mut dyn FnMut(Digest) -> ControlFlow<()>,
    ) -> Result<()> {
        let folder = self.paths.links(repository, links);
        self.for_each_folder(&folder, &mut |algorithm| {
            self.for_each_entry(
                &folder.join(algorithm),
                &mut |name, is_folder| match format!("{algorithm}:{name}").parse() {
                    Ok(digest) if is_folder => look(digest),
                    Ok(_) | Err(_) => ControlFlow::Continue(()),
                },
            )
        })
        .map(|_| ())
    }

    /// The blobs about which something is known as layers, until `look` breaks off.
    pub(crate) fn for_each_layer_record(
        &self,
        look: &mut dyn FnMut(Digest) -> ControlFlow<()>,
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
                    Ok(digest) => look(digest),
                    Err(_) => ControlFlow::Continue(()),
                })
            })
        })
        .map(|_| ())
    }

    /// The manifests over configs that are known, each with its file's content, at most `limit`
    /// bytes of it, until `look` breaks off.
    pub(crate) fn for_each_config_manifest_file(
        &self,
        limit: usize,
        look: &mut dyn FnMut(Digest, Vec<u8>) -> ControlFlow<()>,
    ) -> Result<()> {
        let top = self.paths.all_config_manifests();
        self.for_each_folder(&top, &mut |start| {
            let below = top.join(start);
            let mut flow = ControlFlow::Continue(());
            self.for_each_folder(&below, &mut |name| {
                let folder = below.join(name);
                self.for_each_digest_file(&folder, &mut |manifest| {
                    let path = folder.join(digest_to_file_name(&manifest));
                    // What cannot be read says nothing.
                    let content = self.read_file(&path, limit).ok().flatten();
                    flow = look(manifest, content.unwrap_or_default());
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
        look: &mut dyn FnMut(Digest) -> ControlFlow<()>,
    ) -> Result<()> {
        self.for_each_entry(folder, &mut |name, _| match digest_from_file_name(name) {
            Some(digest) => look(digest),
            None => ControlFlow::Continue(()),
        })
        .map(|_| ())
    }

    /// Goes into every folder in a folder until one breaks off.
    fn for_each_folder(
        &self,
        folder: &Path,
        enter: &mut dyn FnMut(&str) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let mut result = Ok(ControlFlow::Continue(()));
        let _is_broken_off = self.for_each_entry(folder, &mut |name, is_folder| {
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

    /// Shows the names in a folder; says whether `look` broke off.
    fn for_each_entry(
        &self,
        folder: &Path,
        look: &mut dyn FnMut(&str, bool) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let mut flow = ControlFlow::Continue(());
        self.disk
            .for_each_entry(folder, &mut |name, is_folder| {
                flow = look(name, is_folder);
                flow
            })
            .context("list", folder)?;
        Ok(flow)
    }
}
