//! Which manifests speak about which, as far as it was found out.

use imgsync_oci::{Digest, Repository};

use super::Store;
use super::error::{Doing, Result};
use super::keys::unflat;

impl Store {
    /// The manifests that are known to speak about one, in the order of their digests.
    pub(crate) fn known_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Digest>> {
        let mut found = self.digests_in(&self.keys.referrers(repository, subject))?;
        found.sort_unstable();
        Ok(found)
    }

    /// The manifests that are known to be spoken about.
    pub(crate) fn known_subjects(&self, repository: &Repository) -> Result<Vec<Digest>> {
        self.digests_in(&self.keys.subjects(repository))
    }

    fn digests_in(&self, folder: &std::path::Path) -> Result<Vec<Digest>> {
        let names = self.disk.list(folder).doing("list", folder)?;
        let names = names.unwrap_or_default().into_iter();
        let digests = names.filter_map(|(name, _)| unflat(&name));
        Ok(digests.collect())
    }
}
