//! Derived files of earlier versions of the server: they are read until their content is elsewhere,
//! and then removed.

use imgsync_oci::{Digest, Repository};

use super::Store;
use super::error::Result;

impl Store {
    /// Iterates over the manifests of a repository that an earlier version recorded for a config.
    pub(crate) fn old_config_manifests(
        &self,
        repository: &Repository,
        config: &Digest,
    ) -> impl Iterator<Item = Result<Digest>> + use<> {
        self.digest_files(&self.paths.config_manifests(repository, config))
    }

    /// Removes what earlier versions recorded about the configs of manifests. Must be called once
    /// the indexes of all repositories are complete.
    pub(crate) fn delete_old_config_files(&self) -> Result<()> {
        let folder = self.paths.all_config_manifests();
        if self.is_writable() && self.disk.is_folder(&folder)? {
            self.remove_all(&folder)?;
        }
        Ok(())
    }

    /// Removes what earlier versions recorded about the subjects of a repository's manifests.
    pub(crate) fn delete_old_referrer_files(&self, repository: &Repository) -> Result<()> {
        // An earlier version trusts this list, so it goes before the files that it describes.
        self.disk.unlink(&self.paths.examined(repository))?;
        let subjects = self.paths.subjects(repository);
        if self.disk.is_folder(&subjects)? {
            self.remove_all(&subjects)?;
        }
        Ok(())
    }
}
