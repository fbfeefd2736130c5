//! Which manifests of a repository speak about another one.
//!
//! What the tree does not say is found out by reading manifests, and kept in files of our own. Such
//! a file only hints: it follows from a manifest's bytes, which never change, and counts for as
//! long as the repository has that manifest. A stock registry may have pushed and deleted while we
//! were not there, so the hints are reconciled before their first use.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use imgsync_oci::referrers::{self, Referrer};
use imgsync_oci::{Digest, Reference, Repository};

use super::Registry;
use super::error::{Error, Result};
use super::hold::Thing;
use crate::store::{Derived, Key, Links};

/// The most that one answer lists, in bytes of JSON; a single referrer may have more.
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// The first line of the file that names the manifests that were read, each with the one that it
/// speaks about, if it does; another one is not read.
const FORMAT: &str = "imgsync-examined-2";
/// A line has at most 272 bytes: this is nearly a million manifests.
const MAX_EXAMINED_BYTES: usize = 256 * 1024 * 1024;

/// The manifest that another speaks about, if it does.
type Subject = Option<Digest>;

/// The repositories whose hints are right since this server runs.
#[derive(Default)]
pub(super) struct Reconciled(Mutex<HashSet<Repository>>);

/// Some of a manifest's referrers, in the order of their digests.
#[derive(Debug)]
pub(crate) struct Listed {
    /// What they are.
    pub(crate) referrers: Vec<Referrer>,
    /// Where there may be more: the last of these.
    pub(crate) more_after: Option<Digest>,
}

impl Registry {
    /// The manifests that speak about one, whether that one is there or not, those of one
    /// `artifact_type` if it is given, from the one after `last` on. None where there is no such
    /// repository.
    pub(crate) fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        last: Option<&Digest>,
    ) -> Result<Listed> {
        let mut listed = Listed {
            referrers: Vec::new(),
            more_after: None,
        };
        let known = match self.store.is_writable() {
            true => {
                self.reconcile(repository)?;
                self.store.known_referrers(repository, subject)?
            }
            false => self.find_referrers(repository, subject)?,
        };
        let mut bytes = 0;
        for digest in known {
            if last.is_some_and(|last| digest <= *last) {
                continue;
            }
            let Some(referrer) = self.referrer(repository, subject, digest)? else {
                continue;
            };
            if artifact_type.is_some_and(|wanted| referrer.artifact_type.as_deref() != Some(wanted))
            {
                continue;
            }
            bytes += serde_json::to_vec(&referrer).map_or(PAGE_BYTES, |json| json.len() + 1);
            if bytes > PAGE_BYTES && !listed.referrers.is_empty() {
                listed.more_after = listed.referrers.last().map(|last| last.digest.clone());
                break;
            }
            listed.referrers.push(referrer);
        }
        Ok(listed)
    }

    /// Reads a manifest that is believed to speak about another one.
    fn referrer(
        &self,
        repository: &Repository,
        subject: &Digest,
        digest: Digest,
    ) -> Result<Option<Referrer>> {
        match self.manifest(repository, &Reference::Digest(digest.clone())) {
            Ok(manifest) => Ok(match referrers::read(&manifest.bytes, &digest) {
                Ok(Some((about, referrer))) if about == *subject => Some(referrer),
                Ok(_) | Err(_) => None,
            }),
            Err(Error::ManifestUnknown(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a repository's hints are right already: then asking for referrers waits for nobody.
    pub(crate) fn is_reconciled(&self, repository: &Repository) -> bool {
        self.reconciled.has(repository)
    }

    /// Makes a repository's hints right, once while this server runs: reads the manifests that are
    /// new, and forgets those that have vanished.
    pub(crate) fn reconcile(&self, repository: &Repository) -> Result<()> {
        if self.reconciled.has(repository) || !self.store.is_writable() {
            return Ok(());
        }
        let _hold = self.hold_things([Thing::Known(repository.clone())]);
        if self.reconciled.has(repository) || !self.store.has_repository(repository)? {
            return Ok(());
        }
        // Hints are not made durable one by one. What was examined is, with all that they say, so
        // that a power cut loses none.
        let before = self.examined(repository)?;
        let after = self.examine_all(repository, &before)?;
        for (digest, subject) in &after {
            if let Some(subject) = subject {
                let hint = Derived::Referrer(repository, subject, digest);
                if !self.store.has_derived(hint)? {
                    self.store.hint(hint)?;
                }
            }
        }
        if after != before {
            self.keep_examined(repository, &after)?;
        }
        self.forget_vanished(repository)?;
        self.reconciled.add(repository);
        Ok(())
    }

    /// The manifests that speak about one, in the order of their digests, where no hints can be
    /// made.
    fn find_referrers(&self, repository: &Repository, subject: &Digest) -> Result<Vec<Digest>> {
        let examined = self.examined(repository)?;
        let all = self.examine_all(repository, &examined)?;
        let found = all
            .into_iter()
            .filter(|(_, about)| about.as_ref() == Some(subject));
        Ok(found.map(|(digest, _)| digest).collect())
    }

    /// The manifests that a repository has, each with the one that it speaks about, if it does.
    /// Those that were examined before are not read again.
    fn examine_all(
        &self,
        repository: &Repository,
        before: &BTreeMap<Digest, Subject>,
    ) -> Result<BTreeMap<Digest, Subject>> {
        let mut there = Vec::new();
        self.store
            .each_link(repository, Links::Revisions, &mut |digest| {
                there.push(digest);
                ControlFlow::Continue(())
            })?;
        let mut after = BTreeMap::new();
        for digest in there {
            let revision = Key::Revision(repository, &digest);
            let subject = match before.get(&digest) {
                Some(subject) if self.store.len(revision)?.is_some() => Some(subject.clone()),
                Some(_) => None,
                None => self.examine(repository, &digest)?,
            };
            if let Some(subject) = subject {
                after.insert(digest, subject);
            }
        }
        Ok(after)
    }

    /// Reads a manifest for the one that it speaks about, if it does; nothing where it cannot be
    /// read now.
    fn examine(&self, repository: &Repository, digest: &Digest) -> Result<Option<Subject>> {
        let manifest = match self.manifest(repository, &Reference::Digest(digest.clone())) {
            Ok(manifest) => manifest,
            Err(Error::ManifestUnknown(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(match referrers::read(&manifest.bytes, digest) {
            Ok(Some((subject, _))) => Some(subject),
            Ok(None) | Err(_) => None,
        }))
    }

    fn examined(&self, repository: &Repository) -> Result<BTreeMap<Digest, Subject>> {
        let key = Derived::Examined(repository);
        let text = self.store.derived(key, MAX_EXAMINED_BYTES)?;
        let text = String::from_utf8(text.unwrap_or_default()).unwrap_or_default();
        let mut lines = text.lines();
        match lines.next() {
            Some(FORMAT) => Ok(lines.filter_map(examined).collect()),
            Some(_) | None => Ok(BTreeMap::new()),
        }
    }

    fn keep_examined(
        &self,
        repository: &Repository,
        manifests: &BTreeMap<Digest, Subject>,
    ) -> Result<()> {
        let lines = manifests.iter().map(|(digest, subject)| match subject {
            Some(subject) => format!("{digest} {subject}\n"),
            None => format!("{digest}\n"),
        });
        let text: String = std::iter::once(format!("{FORMAT}\n"))
            .chain(lines)
            .collect();
        let key = Derived::Examined(repository);
        Ok(self.store.put_derived(key, text.as_bytes())?)
    }

    /// Forgets the hints at manifests that are gone. Who comes here must have noted that they were
    /// not examined: should one come back, it is read again.
    fn forget_vanished(&self, repository: &Repository) -> Result<()> {
        for subject in self.store.known_subjects(repository)? {
            for digest in self.store.known_referrers(repository, &subject)? {
                // A push makes the hint first, and the manifest then.
                let _hold = self.hold([digest.clone()]);
                if self
                    .store
                    .len(Key::Revision(repository, &digest))?
                    .is_none()
                {
                    self.store
                        .forget_derived(Derived::Referrer(repository, &subject, &digest))?;
                }
            }
        }
        Ok(())
    }
}

/// A line about a manifest that was read.
fn examined(line: &str) -> Option<(Digest, Subject)> {
    match line.split_once(' ') {
        Some((digest, subject)) => Some((digest.parse().ok()?, Some(subject.parse().ok()?))),
        None => Some((line.parse().ok()?, None)),
    }
}

impl Reconciled {
    fn has(&self, repository: &Repository) -> bool {
        let done = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        done.contains(repository)
    }

    fn add(&self, repository: &Repository) {
        let mut done = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        done.insert(repository.clone());
    }
}
