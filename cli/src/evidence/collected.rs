//! Collects the candidates for the layers of one image, source by source. Which sources are asked,
//! and in which order, is decided in [`gather`](super::gather).

use std::collections::{HashMap, HashSet};

use imgsync_oci::ext::resolve::MAX_RESOLVE_DIFF_IDS;
use imgsync_oci::{Descriptor, Digest, Repository};

use super::probe::TargetProbe;
use super::{LookupRequest, copies};
use crate::exit::Failure;
use crate::image::{Layer, SingleImage};
use crate::plan::{BlobCandidate, EvidenceSource};

/// Up to this many blobs, a `HEAD` request for each is as cheap as one request to the extension,
/// which most registries do not have.
const MAX_SINGLE_LOOKUPS: usize = 6;

/// The evidence so far, by the digest of a layer's bytes at the source.
#[derive(Default)]
pub(super) struct CollectedEvidence {
    pub(super) candidates: HashMap<Digest, BlobCandidate>,
    /// The image's config, and another repository that has it.
    pub(super) copied_config: Option<(Descriptor, Repository)>,
    /// The layers whose blob the registry itself named just now.
    confirmed: HashSet<Digest>,
    /// The layers that the registry looked for among everything it holds, and did not find.
    absent: HashSet<Digest>,
}

impl CollectedEvidence {
    /// Returns what the image says itself, and the manifest of the same image that the tag points
    /// at.
    pub(super) fn of_image(single: &SingleImage, same: Option<&[Descriptor]>) -> Self {
        let mut collected = Self::default();
        for (position, layer) in single.layers.iter().enumerate() {
            let (blob, evidence) = match (layer, same) {
                (Layer::Blob { descriptor, .. }, _) => (descriptor, EvidenceSource::Image),
                (Layer::Raw { .. }, Some(same)) => (&same[position], EvidenceSource::SameImage),
                (Layer::Raw { .. }, None) => continue,
            };
            let blob = blob.clone();
            collected.add(layer.source_digest(), BlobCandidate { blob, evidence });
        }
        collected
    }

    fn add(&mut self, layer: &Digest, candidate: BlobCandidate) {
        self.candidates.insert(layer.clone(), candidate);
    }

    /// Returns the raw layers without a candidate, except those that the registry does not have.
    pub(super) fn unresolved_layers(&self, single: &SingleImage) -> HashSet<Digest> {
        let is_unresolved = |diff_id: &&Digest| {
            !self.candidates.contains_key(*diff_id) && !self.absent.contains(*diff_id)
        };
        let raw = raw_layers(single).filter(is_unresolved);
        raw.cloned().collect()
    }

    /// Asks the registry by the extension, if that is cheaper than a request for each blob.
    pub(super) async fn query_registry(
        &mut self,
        request: &LookupRequest<'_>,
        single: &SingleImage,
    ) -> Result<(), Failure> {
        let diff_ids: HashSet<&Digest> = raw_layers(single).collect();
        let is_worth_it =
            !self.unresolved_layers(single).is_empty() || diff_ids.len() > MAX_SINGLE_LOOKUPS;
        if !is_worth_it || diff_ids.len() > MAX_RESOLVE_DIFF_IDS {
            return Ok(());
        }
        let diff_ids = diff_ids.into_iter().cloned().collect();
        let answers = request.probe.resolve(diff_ids, request.can_mount).await?;
        for (diff_id, answer) in answers.into_iter().flatten() {
            let Some(candidate) = answer else {
                // A candidate from the tag's manifest still gets a request of its own.
                self.absent.insert(diff_id);
                continue;
            };
            // Several blobs can be the same layer; a candidate that is there already stays.
            let known = self.candidates.entry(diff_id.clone());
            let known = known.or_insert_with(|| candidate.clone());
            if known.blob.digest == candidate.blob.digest {
                self.confirmed.insert(diff_id);
            }
        }
        Ok(())
    }

    /// Reads the manifests of the same image in other repositories. A manifest that cannot be read
    /// is skipped, since it is only a hint.
    pub(super) async fn query_copies(&mut self, request: &LookupRequest<'_>, single: &SingleImage) {
        for (repository, digest) in request.copies {
            let missing = self.unresolved_layers(single);
            if missing.is_empty() {
                return;
            }
            let found = copies::find(&request.probe, single, repository, digest).await;
            let Some((config, blobs)) = found else {
                continue;
            };
            self.copied_config = Some((config, repository.clone()));
            for (layer, blob) in single.layers.iter().zip(blobs) {
                if missing.contains(layer.source_digest()) {
                    let evidence = EvidenceSource::Copy(repository.clone());
                    self.add(layer.source_digest(), BlobCandidate { blob, evidence });
                }
            }
        }
    }

    /// Adds what earlier runs found out.
    pub(super) fn query_cache(&mut self, probe: &TargetProbe<'_>, single: &SingleImage) {
        for diff_id in self.unresolved_layers(single) {
            if let Some(candidate) = probe.cached(&diff_id) {
                self.add(&diff_id, candidate);
            }
        }
    }

    /// Returns the blobs that the target must still confirm.
    pub(super) fn unconfirmed_blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let candidates = self.candidates.iter();
        candidates
            .filter(|(layer, known)| !self.confirmed.contains(*layer) && !known.is_foreign())
            .map(|(_, candidate)| &candidate.blob)
    }

    /// Returns the blobs that the registry itself named.
    pub(super) fn confirmed_blobs(&self) -> impl Iterator<Item = &Digest> {
        let candidates = self.confirmed.iter();
        candidates.filter_map(|layer| Some(&self.candidates.get(layer)?.blob.digest))
    }

    /// Returns the blobs that the target lacks, with another repository that is said to have them.
    pub(super) fn missing_blobs(
        &self,
        held: &HashSet<Digest>,
    ) -> Vec<(Descriptor, Option<Repository>)> {
        let missing = self.candidates.values();
        missing
            .filter(|candidate| !held.contains(&candidate.blob.digest) && !candidate.is_foreign())
            .map(|candidate| {
                let repository = candidate.evidence.repository().cloned();
                (candidate.blob.clone(), repository)
            })
            .collect()
    }
}

/// Returns the diffIDs of the layers that are not compressed yet.
fn raw_layers(single: &SingleImage) -> impl Iterator<Item = &Digest> {
    single.layers.iter().filter_map(|layer| match layer {
        Layer::Raw { diff_id, .. } => Some(diff_id),
        Layer::Blob { .. } => None,
    })
}
