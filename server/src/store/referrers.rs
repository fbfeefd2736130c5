//! Reads the referrer hints: files that name the referrers of a manifest.
//!
//! Whether a hint is still true is checked by `registry::referrers`.

use imgsync_oci::{Digest, Repository};

use super::Store;
use super::error::Result;

impl Store {
    /// Lists the referrers of a manifest that have a hint, in the order of their digests.
    pub(crate) fn referrer_hints(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Digest>> {
        let hints = self.digest_files(&self.paths.referrers(repository, subject));
        let mut referrers: Vec<_> = hints.collect::<Result<_>>()?;
        referrers.sort_unstable();
        Ok(referrers)
    }

    /// Lists the manifests whose referrers have hints, in no order.
    pub(crate) fn hinted_subjects(&self, repository: &Repository) -> Result<Vec<Digest>> {
        self.digest_files(&self.paths.subjects(repository))
            .collect()
    }
}
