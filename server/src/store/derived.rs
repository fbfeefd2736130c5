//! What we derived from blobs and manifests: files of our own that are never needed to serve what
//! is in the tree. All of them can be derived again, so a damaged one counts as none. Where nothing
//! can be written, none is made or removed.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use imgsync_oci::{Digest, Repository};

use super::error::{Doing, Result};
use super::keys::{flat, unflat};
use super::small::TRIES;
use super::{Derived, Links, Store};

impl Store {
    /// Puts something derived under a key, over whatever stood there, durably.
    pub(crate) fn put_derived(&self, key: Derived<'_>, bytes: &[u8]) -> Result<()> {
        if !self.is_writable() {
            return Ok(());
        }
        self.put_at(self.keys.derived(key), bytes)
    }

    /// Puts an empty file under a key, where there is none yet, and not durably: for what another
    /// durable file tells as well.
    pub(crate) fn hint(&self, key: Derived<'_>) -> Result<()> {
        if !self.is_writable() {
            return Ok(());
        }
        let path = self.keys.derived(key);
        let folder = path.parent().unwrap_or(&path);
        let mut tries = 1..=TRIES;
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
                    return Err(error).doing("write", &path);
                }
                Ok(_) | Err(_) => return Ok(()),
            }
        }
    }

    /// What stands under a key, at most `limit` bytes of it; `None` where nothing does.
    pub(crate) fn derived(&self, key: Derived<'_>, limit: usize) -> Result<Option<Vec<u8>>> {
        self.read_at(&self.keys.derived(key), limit)
    }

    /// Whether anything stands under a key.
    pub(crate) fn has_derived(&self, key: Derived<'_>) -> Result<bool> {
        let path = self.keys.derived(key);
        Ok(self.disk.len(&path).doing("look at", &path)?.is_some())
    }

    /// Removes what stands under a key, if anything does. Not durably: what comes back after a
    /// crash is found out again.
    pub(crate) fn forget_derived(&self, key: Derived<'_>) -> Result<()> {
        if !self.is_writable() {
            return Ok(());
        }
        let path = self.keys.derived(key);
        self.disk.unlink(&path).doing("remove", &path)?;
        // Fails while others are in it.
        let _ = path.parent().map(|folder| self.disk.remove_folder(folder));
        Ok(())
    }

    /// The blobs that are known to be of a diffID, until `look` breaks off.
    pub(crate) fn each_unpacked(
        &self,
        diff_id: &Digest,
        look: &mut dyn FnMut(Digest) -> ControlFlow<()>,
    ) -> Result<()> {
        self.each_flat(&self.keys.unpacked(diff_id), look)
    }

    /// The manifests that a repository is known to have over a config, until `look` breaks off.
    pub(crate) fn each_configured(
        &self,
        repository: &Repository,
        config: &Digest,
        look: &mut dyn FnMut(Digest) -> ControlFlow<()>,
    ) -> Result<()> {
        self.each_flat(&self.keys.configured(repository, config), look)
    }

    /// The digests that a repository links to, until `look` breaks off.
    pub(crate) fn each_link(
        &self,
        repository: &Repository,
        links: Links,
        look: &mut dyn FnMut(Digest) -> ControlFlow<()>,
    ) -> Result<()> {
        let folder = self.keys.links(repository, links);
        self.each_folder(&folder, &mut |algorithm| {
            self.each(
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
    pub(crate) fn each_known_layer(
        &self,
        look: &mut dyn FnMut(Digest) -> ControlFlow<()>,
    ) -> Result<()> {
        let top = self.keys.derived_layers();
        self.each_folder(&top, &mut |algorithm| {
            let below = top.join(algorithm);
            self.each_folder(&below, &mut |start| {
                self.each(
                    &below.join(start),
                    &mut |name, _| match format!("{algorithm}:{name}").parse() {
                        Ok(digest) => look(digest),
                        Err(_) => ControlFlow::Continue(()),
                    },
                )
            })
        })
        .map(|_| ())
    }

    /// The manifests over configs that are known, each with its file's content, at most `limit`
    /// bytes of it, until `look` breaks off.
    pub(crate) fn each_known_config(
        &self,
        limit: usize,
        look: &mut dyn FnMut(Digest, Vec<u8>) -> ControlFlow<()>,
    ) -> Result<()> {
        let top = self.keys.derived_configs();
        self.each_folder(&top, &mut |start| {
            let below = top.join(start);
            let mut flow = ControlFlow::Continue(());
            self.each_folder(&below, &mut |name| {
                let folder = below.join(name);
                self.each_flat(&folder, &mut |manifest| {
                    let path = folder.join(flat(&manifest));
                    // What cannot be read says nothing.
                    let content = self.read_at(&path, limit).ok().flatten();
                    flow = look(manifest, content.unwrap_or_default());
                    flow
                })?;
                Ok(flow)
            })
        })
        .map(|_| ())
    }

    fn each_flat(
        &self,
        folder: &Path,
        look: &mut dyn FnMut(Digest) -> ControlFlow<()>,
    ) -> Result<()> {
        self.each(folder, &mut |name, _| match unflat(name) {
            Some(digest) => look(digest),
            None => ControlFlow::Continue(()),
        })
        .map(|_| ())
    }

    /// Goes into every folder in a folder until one breaks off.
    fn each_folder(
        &self,
        folder: &Path,
        enter: &mut dyn FnMut(&str) -> Result<ControlFlow<()>>,
    ) -> Result<ControlFlow<()>> {
        let mut result = Ok(ControlFlow::Continue(()));
        let _is_broken_off = self.each(folder, &mut |name, is_folder| {
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
    fn each(
        &self,
        folder: &Path,
        look: &mut dyn FnMut(&str, bool) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let mut flow = ControlFlow::Continue(());
        self.disk
            .each(folder, &mut |name, is_folder| {
                flow = look(name, is_folder);
                flow
            })
            .doing("list", folder)?;
        Ok(flow)
    }
}
