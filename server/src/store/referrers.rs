//! Which manifests speak about which, as far as it was found out.

use imgsync_oci::{Digest, Repository};

use super::Store;
use super::error::{IoContext, Result};
use super::paths::digest_from_file_name;

impl Store {
    /// The manifests that are known to speak about one, in the order of their digests.
    pub(crate) fn referrer_hints(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Digest>> {
        let mut found = self.list_digests(&self.paths.referrers(repository, subject))?;
        found.sort_unstable();
        Ok(found)
    }

    /// The manifests that are known to be spoken about.
    pub(crate) fn hinted_subjects(&self, repository: &Repository) -> Result<Vec<Digest>> {
        self.list_digests(&self.paths.subjects(repository))
    }

    fn list_digests(&self, folder: &std::path::Path) -> Result<Vec<Digest>> {
        let names = self.disk.list(folder).context("list", folder)?;
        let names = names.unwrap_or_default().into_iter();
        let digests = names.filter_map(|(name, _)| digest_from_file_name(&name));
        Ok(digests.collect())
    }
}
