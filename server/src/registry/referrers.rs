//! Lists the referrers of a manifest: the manifests that name it as their subject.
//!
//! The stock registry's tree does not record subjects, so manifests are read for them, and each
//! result is stored as a referrer hint. A hint follows from the bytes of a manifest, which never
//! change, but counts only while the repository has that manifest. A stock registry may have pushed
//! and deleted manifests since the last run, so the hints of a repository are reconciled before
//! their first use. Start reading at [`Registry::list_referrers`].

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

use imgsync_oci::referrers::{self, ReferrerDescriptor};
use imgsync_oci::{Digest, Reference, Repository};

use super::Registry;
use super::error::{Error, Result};
use super::locks::LockKey;
use crate::store::{DerivedKey, LinkKind, ObjectKey};

/// Bounds the JSON of one page of referrers; a page with a single referrer may be larger.
const MAX_REFERRERS_PAGE_BYTES: usize = 4 * 1024 * 1024;
/// The first line of the file that lists the manifests that were read and their subjects. A file
/// with another first line is ignored.
const EXAMINED_FORMAT: &str = "imgsync-examined-2";
/// Bounds how much of that file is read. A line has at most 272 bytes, so this is enough for nearly
/// a million manifests.
const MAX_EXAMINED_BYTES: usize = 256 * 1024 * 1024;

/// The digest of a manifest's subject, if it has one.
type OptionalSubject = Option<Digest>;

/// The repositories whose hints were reconciled since the server started.
#[derive(Default)]
pub(super) struct ReconciledRepositories(Mutex<HashSet<Repository>>);

/// One page of a manifest's referrers, in the order of their digests.
#[derive(Debug)]
pub(crate) struct ReferrersPage {
    pub(crate) referrers: Vec<ReferrerDescriptor>,
    /// The last digest of this page, if there may be more.
    pub(crate) more_after: Option<Digest>,
}

impl Registry {
    /// Lists the referrers of a manifest after `last`, only those of one `artifact_type` if that is
    /// given. The manifest itself need not exist. The list of an unknown repository is empty.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(crate) fn list_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        last: Option<&Digest>,
    ) -> Result<ReferrersPage> {
        let mut page = ReferrersPage {
            referrers: Vec::new(),
            more_after: None,
        };
        let hinted = match self.reconcile_referrers(repository) {
            Ok(()) if self.store.is_writable() => self.store.referrer_hints(repository, subject)?,
            Ok(()) => self.find_referrers(repository, subject)?,
            // Without space hints cannot be written, but manifests can be read.
            Err(error) if error.is_storage_full() => self.find_referrers(repository, subject)?,
            Err(error) => return Err(error),
        };
        let mut bytes = 0;
        for digest in hinted {
            if last.is_some_and(|last| digest <= *last) {
                continue;
            }
            let Some(referrer) = self.read_referrer(repository, subject, digest)? else {
                continue;
            };
            if artifact_type.is_some() && referrer.artifact_type.as_deref() != artifact_type {
                continue;
            }
            bytes += serde_json::to_vec(&referrer)
                .map_or(MAX_REFERRERS_PAGE_BYTES, |json| json.len() + 1);
            if bytes > MAX_REFERRERS_PAGE_BYTES && !page.referrers.is_empty() {
                page.more_after = page.referrers.last().map(|last| last.digest.clone());
                break;
            }
            page.referrers.push(referrer);
        }
        Ok(page)
    }

    /// Reads the referrer for which there is a hint; `None` if the hint is stale.
    fn read_referrer(
        &self,
        repository: &Repository,
        subject: &Digest,
        digest: Digest,
    ) -> Result<Option<ReferrerDescriptor>> {
        match self.get_manifest(repository, &Reference::Digest(digest.clone())) {
            Ok(manifest) => Ok(match referrers::parse_referrer(&manifest.bytes, &digest) {
                Ok(Some((own_subject, referrer))) if own_subject == *subject => Some(referrer),
                _ => None,
            }),
            Err(Error::ManifestUnknown(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns whether the hints of a repository are reconciled, so that listing referrers is quick.
    pub(crate) fn has_reconciled_referrers(&self, repository: &Repository) -> bool {
        self.reconciled_repositories.contains(repository)
    }

    /// Reconciles the hints of a repository, once per run of the server: reads the manifests that
    /// are new, and removes the hints of those that are gone.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(crate) fn reconcile_referrers(&self, repository: &Repository) -> Result<()> {
        if self.reconciled_repositories.contains(repository) || !self.store.is_writable() {
            return Ok(());
        }
        let _lock = self.lock_keys([LockKey::ReferrerHints(repository.clone())]);
        if self.reconciled_repositories.contains(repository)
            || !self.store.has_repository(repository)?
        {
            return Ok(());
        }
        // The hints are not synced one by one. The list of examined manifests contains the same
        // facts and is durable, so a power cut loses none.
        let before = self.read_examined(repository)?;
        let after = self.examine_manifests(repository, &before)?;
        for (digest, subject) in &after {
            if let Some(subject) = subject {
                let hint = DerivedKey::Referrer(repository, subject, digest);
                if !self.store.has_derived(hint)? {
                    self.store.put_derived_unsynced(hint)?;
                }
            }
        }
        if after != before {
            self.write_examined(repository, &after)?;
        }
        self.delete_stale_hints(repository)?;
        self.reconciled_repositories.insert(repository);
        Ok(())
    }

    /// Returns the referrers of a manifest, in the order of their digests, without writing hints.
    fn find_referrers(&self, repository: &Repository, subject: &Digest) -> Result<Vec<Digest>> {
        let examined = self.read_examined(repository)?;
        let examined = self.examine_manifests(repository, &examined)?;
        let referrers = examined
            .into_iter()
            .filter(|(_, manifest_subject)| manifest_subject.as_ref() == Some(subject));
        Ok(referrers.map(|(digest, _)| digest).collect())
    }

    /// Returns the manifests of a repository with their subjects. Those in `before` are not read
    /// again.
    fn examine_manifests(
        &self,
        repository: &Repository,
        before: &BTreeMap<Digest, OptionalSubject>,
    ) -> Result<BTreeMap<Digest, OptionalSubject>> {
        let mut after = BTreeMap::new();
        for digest in self.store.links(repository, LinkKind::Revisions) {
            let digest = digest?;
            let revision = ObjectKey::RevisionLink(repository, &digest);
            let subject = match before.get(&digest) {
                Some(subject) if self.store.len(revision)?.is_some() => Some(subject.clone()),
                Some(_) => None,
                None => self.examine_manifest(repository, &digest)?,
            };
            if let Some(subject) = subject {
                after.insert(digest, subject);
            }
        }
        Ok(after)
    }

    /// Reads the subject of a manifest; `None` if the manifest cannot be read now.
    fn examine_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<OptionalSubject>> {
        let manifest = match self.get_manifest(repository, &Reference::Digest(digest.clone())) {
            Ok(manifest) => manifest,
            Err(Error::ManifestUnknown(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(
            match referrers::parse_referrer(&manifest.bytes, digest) {
                Ok(Some((subject, _))) => Some(subject),
                _ => None,
            },
        ))
    }

    fn read_examined(&self, repository: &Repository) -> Result<BTreeMap<Digest, OptionalSubject>> {
        let key = DerivedKey::ExaminedManifests(repository);
        let text = self.store.get_derived(key, MAX_EXAMINED_BYTES)?;
        let text = String::from_utf8(text.unwrap_or_default()).unwrap_or_default();
        let mut lines = text.lines();
        match lines.next() {
            Some(EXAMINED_FORMAT) => Ok(lines.filter_map(parse_examined_line).collect()),
            _ => Ok(BTreeMap::new()),
        }
    }

    fn write_examined(
        &self,
        repository: &Repository,
        manifests: &BTreeMap<Digest, OptionalSubject>,
    ) -> Result<()> {
        let lines = manifests.iter().map(|(digest, subject)| match subject {
            Some(subject) => format!("{digest} {subject}\n"),
            None => format!("{digest}\n"),
        });
        let text: String = std::iter::once(format!("{EXAMINED_FORMAT}\n"))
            .chain(lines)
            .collect();
        let key = DerivedKey::ExaminedManifests(repository);
        Ok(self.store.put_derived(key, text.as_bytes())?)
    }

    /// Removes the hints of manifests that are gone. The caller must have removed these manifests
    /// from the list of examined ones, so that they are read again if they are pushed again.
    fn delete_stale_hints(&self, repository: &Repository) -> Result<()> {
        for subject in self.store.hinted_subjects(repository)? {
            for digest in self.store.referrer_hints(repository, &subject)? {
                // A push writes the hint before the manifest, both under this lock.
                let _lock = self.lock_digests([digest.clone()]);
                let revision = ObjectKey::RevisionLink(repository, &digest);
                if self.store.len(revision)?.is_none() {
                    let hint = DerivedKey::Referrer(repository, &subject, &digest);
                    self.store.delete_derived(hint)?;
                }
            }
        }
        Ok(())
    }
}

/// Parses a line of the list of examined manifests.
fn parse_examined_line(line: &str) -> Option<(Digest, OptionalSubject)> {
    match line.split_once(' ') {
        Some((digest, subject)) => Some((digest.parse().ok()?, Some(subject.parse().ok()?))),
        None => Some((line.parse().ok()?, None)),
    }
}

impl ReconciledRepositories {
    fn contains(&self, repository: &Repository) -> bool {
        let reconciled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reconciled.contains(repository)
    }

    fn insert(&self, repository: &Repository) {
        let mut reconciled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reconciled.insert(repository.clone());
    }
}
