//! Removes objects, tags and folders, durably.

use std::io;
use std::path::Path;

use imgsync_oci::{Repository, Tag};

use super::disk::FolderEntry;
use super::error::{IoContext, Result};
use super::{ObjectKey, ObjectReader, Store};

impl Store {
    /// Removes an object, if it is there. The removal is durable when this returns.
    pub(crate) fn delete(&self, key: ObjectKey<'_>) -> Result<()> {
        let path = self.paths.object(key);
        let folder = path.parent().unwrap_or(&path);
        if !self.disk.is_folder(folder)? {
            return Ok(());
        }
        self.disk.unlink(&path)?;
        self.note_removed(key);
        self.disk.sync_folder(folder)?;
        // Best effort: a stock registry leaves the empty folder behind, too.
        if let Err(error) = self.disk.remove_folder(folder) {
            tracing::debug!(?folder, %error, "did not remove an empty folder");
        }
        Ok(())
    }

    /// Removes an object as [`Store::delete`] does, unless it was replaced since `reader` was
    /// opened.
    pub(crate) fn delete_if_unchanged(
        &self,
        key: ObjectKey<'_>,
        reader: &ObjectReader,
    ) -> Result<()> {
        let path = self.paths.object(key);
        if !reader.is_at(&path)? {
            return Ok(());
        }
        self.delete(key)
    }

    /// Removes a tag and its history, durably and atomically; returns whether there was such a tag.
    pub(crate) fn delete_tag(&self, repository: &Repository, tag: &Tag) -> Result<bool> {
        let folder = self.paths.tag(repository, tag);
        if !self.disk.is_folder(&folder)? {
            return Ok(false);
        }
        self.remove_durably(&folder)?;
        Ok(true)
    }

    /// Removes all tags, links and uploads of a repository, durably: first its manifests with the
    /// tags, then its blobs.
    pub(crate) fn delete_repository_links(&self, repository: &Repository) -> Result<()> {
        for folder in self.paths.repository_parts(repository) {
            if self.disk.is_folder(&folder)? {
                self.remove_durably(&folder)?;
            }
        }
        Ok(())
    }

    /// Removes a tag and its history. Not durably: after a power cut, the tag can be there again. Call
    /// [`Store::sync_manifests`] afterwards.
    pub(crate) fn discard_tag(&self, repository: &Repository, tag: &Tag) -> Result<()> {
        let (folder, temporary) = (self.paths.tag(repository, tag), self.temporary_path());
        match self.disk.rename(&folder, &temporary) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            moved => {
                moved.context("remove", &folder)?;
                self.free(&folder, &temporary);
                Ok(())
            }
        }
    }

    /// Makes the removal of tags and manifests durable.
    pub(crate) fn sync_manifests(&self, repository: &Repository) -> Result<()> {
        for folder in self.paths.manifest_folders(repository) {
            if self.disk.is_folder(&folder)? {
                self.disk.sync_folder(&folder)?;
            }
        }
        Ok(())
    }

    /// Returns whether there is any folder of a repository: with manifests, blobs or uploads.
    pub(crate) fn has_repository_folders(&self, repository: &Repository) -> Result<bool> {
        for folder in self.paths.repository_parts(repository) {
            if self.disk.is_folder(&folder)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes the folders of a repository that are empty, so that it is not listed any more, and
    /// what was derived from its manifests if it has none. Not durably: after a power cut, the
    /// folders can be there again.
    pub(crate) fn delete_empty_repository(&self, repository: &Repository) -> Result<()> {
        self.folders
            .remove_empty(&self.paths.repository_folders(repository));
        if self.has_repository(repository)? {
            return Ok(());
        }
        let _lock = self.log_write_lock.lock();
        for path in self.paths.derived_files(repository) {
            self.disk.unlink(&path)?;
        }
        self.delete_old_referrer_files(repository)
    }

    /// Removes a folder and its content, durably and atomically.
    pub(super) fn remove_durably(&self, folder: &Path) -> Result<()> {
        let (parent, temporary) = (folder.parent().unwrap_or(folder), self.temporary_path());
        self.disk
            .rename(folder, &temporary)
            .context("remove", folder)?;
        self.disk.sync_folder(parent)?;
        self.free(folder, &temporary);
        Ok(())
    }

    /// Removes what was in a folder and was moved to a temporary path.
    fn free(&self, folder: &Path, temporary: &Path) {
        if let Err(error) = self.remove_all(temporary) {
            tracing::warn!(
                ?folder,
                %error,
                "cannot free the space of a removed folder; the next start frees it"
            );
        }
    }

    /// Removes a folder and its content. A crash can leave a part of the content.
    pub(super) fn remove_all(&self, folder: &Path) -> Result<()> {
        self.remove_content(folder)?;
        self.disk.remove_folder(folder)
    }

    /// Removes the content of a folder.
    pub(super) fn remove_content(&self, folder: &Path) -> Result<()> {
        let entries: Vec<FolderEntry> = self.disk.entries(folder).collect::<Result<_>>()?;
        for entry in entries {
            let path = entry.path();
            if entry.is_folder {
                self.remove_all(&path)?;
            } else {
                self.disk.unlink(&path)?;
            }
        }
        Ok(())
    }
}
