//! Reads the index of a repository.
//!
//! The index tells the truth about a manifest, but the repository may no longer have that manifest.
//! Start reading at [`Registry::for_each_indexed_referrer`].

use imgsync_oci::{Digest, Repository};

use super::facts::{ManifestFacts, ReferrerFacts, config_of, subject_of};
use crate::registry::Registry;
use crate::registry::error::Result;
use crate::store::{DerivedLogKey, Walk};

/// The lines of an index that are read in a step of a walk.
const LINES_PER_STEP: usize = 8;

impl Registry {
    /// Calls `visit` with each manifest that names `subject`, in no order and possibly more than
    /// once.
    ///
    /// # Errors
    /// [`Error::Store`](crate::registry::Error::Store).
    pub(in crate::registry) fn for_each_indexed_referrer(
        &self,
        repository: &Repository,
        subject: &Digest,
        walk: &Walk<'_>,
        visit: &mut dyn FnMut(Digest, ReferrerFacts),
    ) -> Result<()> {
        let mut visit_facts = |facts: ManifestFacts| {
            if let Some(referrer) = facts.referrer.filter(|facts| facts.subject == *subject) {
                visit(facts.digest, referrer);
            }
        };
        let is_complete = self.update_index(repository, walk)?;
        let text = subject.to_string();
        self.for_each_index_line(repository, walk, &mut |line| {
            if subject_of(line) == Some(&text) {
                ManifestFacts::parse(line)
                    .into_iter()
                    .for_each(&mut visit_facts);
            }
        })?;
        if !is_complete {
            self.compare_index(repository, walk, &mut |facts| {
                visit_facts(facts);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Calls `visit` with each manifest that names `config`, those that were indexed last at the
    /// end.
    ///
    /// # Errors
    /// [`Error::Store`](crate::registry::Error::Store).
    pub(in crate::registry) fn for_each_indexed_image(
        &self,
        repository: &Repository,
        config: &Digest,
        visit: &mut dyn FnMut(Digest),
    ) -> Result<()> {
        let text = config.to_string();
        self.for_each_index_line(repository, &Walk::unbounded(), &mut |line| {
            if config_of(line) == Some(&text)
                && let Some(facts) = ManifestFacts::parse(line)
            {
                visit(facts.digest);
            }
        })?;
        Ok(())
    }

    /// Calls `visit` with each line of the index, and returns their number.
    pub(super) fn for_each_index_line(
        &self,
        repository: &Repository,
        walk: &Walk<'_>,
        visit: &mut dyn FnMut(&str),
    ) -> Result<usize> {
        let (log, mut lines) = (DerivedLogKey::Manifests(repository), 0);
        self.store.for_each_log_line(log, &mut |line| {
            lines += 1;
            if lines % LINES_PER_STEP == 0 {
                walk.step()?;
            }
            visit(line);
            Ok(())
        })?;
        Ok(lines)
    }
}
