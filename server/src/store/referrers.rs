//! Reads the referrer hints: files that name the referrers of a manifest.
//!
//! Whether a hint is still true is checked by `registry::referrers`.

use std::path::Path;

use imgsync_oci::{Digest, Repository};

use super::Store;
use super::error::{IoContext, Result};
use super::paths::digest_from_file_name;

impl Store {
    /// Lists the referrers of a manifest that have a hint, in the order of their digests.
    pub(crate) fn referrer_hints(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Digest>> {
        let mut referrers = self.list_digests(&self.paths.referrers(repository, subject))?;
        referrers.sort_unstable();
        Ok(referrers)
    }

    /// Lists the manifests whose referrers have hints, in no order.
    pub(crate) fn hinted_subjects(&self, repository: &Repository) -> Result<Vec<Digest>> {
        self.list_digests(&self.paths.subjects(repository))
    }

    fn list_digests(&self, folder: &Path) -> Result<Vec<Digest>> {
        let names = self.disk.list(folder).context("list", folder)?;
        let names = names.unwrap_or_default().into_iter();
        let digests = names.filter_map(|(name, _)| digest_from_file_name(&name));
        Ok(digests.collect())
    }
}
