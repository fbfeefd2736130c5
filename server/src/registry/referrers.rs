//! Lists the referrers of a manifest: the manifests that name it as their subject.
//!
//! They are found in the index of the repository. Each is listed only if the repository has it now.
//! Start reading at [`Registry::list_referrers`].

use std::collections::BTreeMap;

use imgsync_oci::referrers::{self, ReferrerDescriptor};
use imgsync_oci::{Digest, Reference, Repository};

use super::Registry;
use super::error::{Error, Result};
use super::manifest_index::ReferrerFacts;
use crate::store::{ObjectKey, Walk};

/// Bounds the JSON of one page of referrers; a page with a single referrer may be larger.
const MAX_REFERRERS_PAGE_BYTES: usize = 4 * 1024 * 1024;
/// Bounds the memory of the referrers that are considered for one page.
const MAX_CANDIDATE_BYTES: usize = 2 * MAX_REFERRERS_PAGE_BYTES;

/// How many times the memory of the candidates a list takes: the list itself is made from them.
const MEMORY_PER_CANDIDATE: usize = 2;

/// One page of a manifest's referrers, in the order of their digests.
#[derive(Debug)]
pub(crate) struct ReferrersPage {
    pub(crate) referrers: Vec<ReferrerDescriptor>,
    /// The last digest of this page, if there may be more.
    pub(crate) more_after: Option<Digest>,
}

/// The referrers that may be on a page: as many of the first ones as fit into memory.
struct ReferrerCandidates {
    /// The facts with the memory that they take.
    facts: BTreeMap<Digest, (ReferrerFacts, usize)>,
    /// The memory of the facts; of all that were added, if that was too much.
    bytes: usize,
    max_bytes: usize,
    is_truncated: bool,
}

impl ReferrerCandidates {
    fn new(max_bytes: usize) -> Self {
        Self {
            facts: BTreeMap::new(),
            bytes: 0,
            max_bytes,
            is_truncated: false,
        }
    }

    /// Adds a referrer. Nothing is kept if all of them take more memory than the walk may use.
    fn add(&mut self, digest: Digest, facts: ReferrerFacts) {
        if self.bytes > self.max_bytes {
            self.facts.clear();
            self.bytes = self.bytes.saturating_add(facts.memory_bytes());
            return;
        }
        let is_after_end = |(last, _): (&Digest, _)| digest > *last;
        if self.is_truncated && self.facts.last_key_value().is_some_and(is_after_end) {
            return;
        }
        let bytes = facts.memory_bytes();
        self.bytes += bytes;
        if let Some((_, replaced)) = self.facts.insert(digest, (facts, bytes)) {
            self.bytes -= replaced;
        }
        while self.bytes > MAX_CANDIDATE_BYTES && self.facts.len() > 1 {
            self.is_truncated = true;
            if let Some((_, (_, bytes))) = self.facts.pop_last() {
                self.bytes -= bytes;
            }
        }
    }
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
        walk: &Walk<'_>,
    ) -> Result<ReferrersPage> {
        let candidates = self.find_candidates(repository, subject, artifact_type, last, walk)?;
        let end = candidates.facts.last_key_value();
        let end = end.map(|(digest, _)| digest.clone());
        let mut page = ReferrersPage {
            referrers: Vec::new(),
            more_after: end.filter(|_| candidates.is_truncated),
        };
        walk.check_steps(candidates.facts.len())?;
        let mut bytes = 0;
        for (digest, (facts, _)) in candidates.facts {
            walk.step()?;
            let Some(referrer) = self.find_referrer(repository, subject, digest, facts, walk)?
            else {
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

    /// Returns the manifests that may be on a page.
    fn find_candidates(
        &self,
        repository: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        last: Option<&Digest>,
        walk: &Walk<'_>,
    ) -> Result<ReferrerCandidates> {
        let mut candidates = ReferrerCandidates::new(walk.max_memory() / MEMORY_PER_CANDIDATE);
        let mut add = |digest: Digest, facts: ReferrerFacts| {
            let known = facts.descriptor.as_ref();
            let is_of_type = known.is_none_or(|descriptor| {
                artifact_type.is_none() || descriptor.artifact_type.as_deref() == artifact_type
            });
            if is_of_type && last.is_none_or(|last| digest > *last) {
                candidates.add(digest, facts);
            }
        };
        self.for_each_indexed_referrer(repository, subject, walk, &mut add)?;
        let bytes = candidates.bytes.min(MAX_CANDIDATE_BYTES);
        walk.check_memory(bytes * MEMORY_PER_CANDIDATE)?;
        Ok(candidates)
    }

    /// Returns the descriptor of a referrer; `None` if the repository does not have it now.
    fn find_referrer(
        &self,
        repository: &Repository,
        subject: &Digest,
        digest: Digest,
        facts: ReferrerFacts,
        walk: &Walk<'_>,
    ) -> Result<Option<ReferrerDescriptor>> {
        match facts.descriptor {
            Some(descriptor) if !facts.lacks_annotations => {
                let revision = ObjectKey::RevisionLink(repository, &digest);
                let Some(target) = self.resolve_link(revision, &digest)? else {
                    return Ok(None);
                };
                let size = self.store.len(ObjectKey::Blob(&target))?;
                Ok((size == Some(descriptor.size)).then_some(descriptor))
            }
            _ => self.read_referrer(repository, subject, digest, walk),
        }
    }

    /// Reads the descriptor of a referrer from its manifest.
    fn read_referrer(
        &self,
        repository: &Repository,
        subject: &Digest,
        digest: Digest,
        walk: &Walk<'_>,
    ) -> Result<Option<ReferrerDescriptor>> {
        match self.get_manifest(repository, &Reference::Digest(digest.clone())) {
            Ok(manifest) => {
                walk.step_for_file(manifest.bytes.len())?;
                Ok(match referrers::parse_referrer(&manifest.bytes, &digest) {
                    Ok(Some((own_subject, referrer))) if own_subject == *subject => Some(referrer),
                    _ => None,
                })
            }
            Err(Error::ManifestUnknown(_) | Error::ManifestDamaged(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
