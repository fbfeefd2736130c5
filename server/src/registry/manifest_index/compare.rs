//! Compares the index of a repository with its manifests, and reads the index.
//!
//! Start reading at [`Registry::compare_index`].

use imgsync_oci::{Digest, Reference, Repository};

use super::facts::{ManifestFacts, known_prefix};
use crate::registry::Registry;
use crate::registry::digest_prefix::digest_prefix;
use crate::registry::error::{Error, Result};
use crate::store::{LinkKind, Walk};

/// The result of comparing an index with the manifests of its repository.
pub(super) struct IndexComparison {
    /// How many manifests cannot be read now.
    pub(super) unreadable: usize,
    /// How many manifests there are.
    pub(super) manifests: usize,
    /// How many lines the index has.
    pub(super) lines: usize,
}

impl Registry {
    /// Calls `visit_missing` with the facts about each manifest that the index lacks.
    ///
    /// # Errors
    /// [`Error::Store`], and the errors of `visit_missing`.
    pub(super) fn compare_index(
        &self,
        repository: &Repository,
        walk: &Walk<'_>,
        visit_missing: &mut dyn FnMut(ManifestFacts) -> Result<()>,
    ) -> Result<IndexComparison> {
        let mut known: Vec<u128> = Vec::new();
        let lines = self.for_each_index_line(repository, walk, &mut |line| {
            known.extend(known_prefix(line));
        })?;
        known.sort_unstable();
        let mut comparison = IndexComparison {
            unreadable: 0,
            manifests: 0,
            lines,
        };
        for digest in self.store.links(repository, LinkKind::Revisions) {
            walk.step()?;
            let digest = digest?;
            comparison.manifests += 1;
            if known.binary_search(&digest_prefix(&digest)).is_ok() {
                continue;
            }
            match self.read_facts(repository, &digest, walk)? {
                Some(facts) => visit_missing(facts)?,
                None => comparison.unreadable += 1,
            }
        }
        Ok(comparison)
    }

    /// Reads a manifest; `None` if it cannot be read now.
    fn read_facts(
        &self,
        repository: &Repository,
        digest: &Digest,
        walk: &Walk<'_>,
    ) -> Result<Option<ManifestFacts>> {
        match self.get_manifest(repository, &Reference::Digest(digest.clone())) {
            Ok(manifest) => {
                walk.step_for_file(manifest.bytes.len())?;
                Ok(Some(ManifestFacts::of(digest, &manifest.bytes)))
            }
            Err(Error::ManifestUnknown(_) | Error::ManifestDamaged(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
