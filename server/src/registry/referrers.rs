//! Which manifests of a repository speak about another one.
//!
//! What the tree does not say is found out by reading manifests, and kept in files of our own. Such
//! a file only hints: it follows from a manifest's bytes, which never change, and counts for as
//! long as the repository has that manifest. A stock registry may have pushed and deleted while we
//! were not there, so the hints are reconciled before their first use.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use imgsync_oci::referrers::{self, ReferrerDescriptor};
use imgsync_oci::{Digest, Reference, Repository};

use super::Registry;
use super::error::{Error, Result};
use super::locks::LockKey;
use crate::store::{DerivedKey, LinkKind, ObjectKey};

/// The most that one answer lists, in bytes of JSON; a single referrer may have more.
const MAX_REFERRERS_PAGE_BYTES: usize = 4 * 1024 * 1024;
/// The first line of the file that names the manifests that were read, each with the one that it
/// speaks about, if it does; another one is not read.
const EXAMINED_FORMAT: &str = "imgsync-examined-2";
/// A line has at most 272 bytes: this is nearly a million manifests.
const MAX_EXAMINED_BYTES: usize = 256 * 1024 * 1024;

/// The manifest that another speaks about, if it does.
type OptionalSubject = Option<Digest>;

/// The repositories whose hints are right since this server runs.
#[derive(Default)]
pub(super) struct ReconciledRepositories(Mutex<HashSet<Repository>>);

/// Some of a manifest's referrers, in the order of their digests.
#[derive(Debug)]
pub(crate) struct ReferrersPage {
    /// What they are.
    pub(crate) referrers: Vec<ReferrerDescriptor>,
    /// Where there may be more: the last of these.
    pub(crate) more_after: Option<Digest>,
}

impl Registry {
    /// The manifests that speak about one, whether that one is there or not, those of one
    /// `artifact_type` if it is given, from the one after `last` on. None where there is no such
    /// repository.
    pub(crate) fn list_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        last: Option<&Digest>,
    ) -> Result<ReferrersPage> {
        let mut listed = ReferrersPage {
            referrers: Vec::new(),
            more_after: None,
        };
        let known = match self.store.is_writable() {
            true => {
                self.reconcile_referrers(repository)?;
                self.store.referrer_hints(repository, subject)?
            }
            false => self.find_referrers(repository, subject)?,
        };
        let mut bytes = 0;
        for digest in known {
            if last.is_some_and(|last| digest <= *last) {
                continue;
            }
            let Some(referrer) = self.read_referrer(repository, subject, digest)? else {
                continue;
            };
            if artifact_type.is_some_and(|wanted| referrer.artifact_type.as_deref() != Some(wanted))
            {
                continue;
            }
            bytes += serde_json::to_vec(&referrer)
                .map_or(MAX_REFERRERS_PAGE_BYTES, |json| json.len() + 1);
            if bytes > MAX_REFERRERS_PAGE_BYTES && !listed.referrers.is_empty() {
                listed.more_after = listed.referrers.last().map(|last| last.digest.clone());
                break;
            }
            listed.referrers.push(referrer);
        }
        Ok(listed)
    }

    /// Reads a manifest that is believed to speak about another one.
    fn read_referrer(
        &self,
        repository: &Repository,
        subject: &Digest,
        digest: Digest,
    ) -> Result<Option<ReferrerDescriptor>> {
        match self.get_manifest(repository, &Reference::Digest(digest.clone())) {
            Ok(manifest) => Ok(match referrers::parse_referrer(&manifest.bytes, &digest) {
                Ok(Some((about, referrer))) if about == *subject => Some(referrer),
                Ok(_) | Err(_) => None,
            }),
            Err(Error::ManifestUnknown(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a repository's hints are right already: then asking for referrers waits for nobody.
    pub(crate) fn has_reconciled_referrers(&self, repository: &Repository) -> bool {
        self.reconciled_repositories.contains(repository)
    }

    /// Makes a repository's hints right, once while this server runs: reads the manifests that are
    /// new, and forgets those that have vanished.
    pub(crate) fn reconcile_referrers(&self, repository: &Repository) -> Result<()> {
        if self.reconciled_repositories.contains(repository) || !self.store.is_writable() {
            return Ok(());
        }
        let _hold = self.lock_keys([LockKey::ReferrerHints(repository.clone())]);
        if self.reconciled_repositories.contains(repository)
            || !self.store.has_repository(repository)?
        {
            return Ok(());
        }
        // Hints are not made durable one by one. What was examined is, with all that they say, so
        // that a power cut loses none.
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

    /// The manifests that speak about one, in the order of their digests, where no hints can be
    /// made.
    fn find_referrers(&self, repository: &Repository, subject: &Digest) -> Result<Vec<Digest>> {
        let examined = self.read_examined(repository)?;
        let all = self.examine_manifests(repository, &examined)?;
        let found = all
            .into_iter()
            .filter(|(_, about)| about.as_ref() == Some(subject));
        Ok(found.map(|(digest, _)| digest).collect())
    }

    /// The manifests that a repository has, each with the one that it speaks about, if it does.
    /// Those that were examined before are not read again.
    fn examine_manifests(
        &self,
        repository: &Repository,
        before: &BTreeMap<Digest, OptionalSubject>,
    ) -> Result<BTreeMap<Digest, OptionalSubject>> {
        let mut there = Vec::new();
        self.store
            .for_each_link(repository, LinkKind::Revisions, &mut |digest| {
                there.push(digest);
                ControlFlow::Continue(())
            })?;
        let mut after = BTreeMap::new();
        for digest in there {
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

    /// Reads a manifest for the one that it speaks about, if it does; nothing where it cannot be
    /// read now.
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
                Ok(None) | Err(_) => None,
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
            Some(_) | None => Ok(BTreeMap::new()),
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

    /// Forgets the hints at manifests that are gone. Who comes here must have noted that they were
    /// not examined: should one come back, it is read again.
    fn delete_stale_hints(&self, repository: &Repository) -> Result<()> {
        for subject in self.store.hinted_subjects(repository)? {
            for digest in self.store.referrer_hints(repository, &subject)? {
                // A push makes the hint first, and the manifest then.
                let _hold = self.lock_digests([digest.clone()]);
                if self
                    .store
                    .len(ObjectKey::RevisionLink(repository, &digest))?
                    .is_none()
                {
                    self.store
                        .delete_derived(DerivedKey::Referrer(repository, &subject, &digest))?;
                }
            }
        }
        Ok(())
    }
}

/// A line about a manifest that was read.
fn parse_examined_line(line: &str) -> Option<(Digest, OptionalSubject)> {
    match line.split_once(' ') {
        Some((digest, subject)) => Some((digest.parse().ok()?, Some(subject.parse().ok()?))),
        None => Some((line.parse().ok()?, None)),
    }
}

impl ReconciledRepositories {
    fn contains(&self, repository: &Repository) -> bool {
        let done = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        done.contains(repository)
    }

    fn insert(&self, repository: &Repository) {
        let mut done = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        done.insert(repository.clone());
    }
}
