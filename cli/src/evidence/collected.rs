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
    /// Returns the blobs that the image names, and for raw layers those of `same_layers`: the
    /// layers in the manifest of the same image that the tag points at.
    pub(super) fn of_image(single: &SingleImage, same_layers: Option<&[Descriptor]>) -> Self {
        let mut collected = Self::default();
        for (position, layer) in single.layers.iter().enumerate() {
            let (blob, evidence) = match (layer, same_layers) {
                (Layer::Blob { descriptor, .. }, _) => (descriptor, EvidenceSource::Image),
                (Layer::Raw { .. }, Some(same)) => (&same[position], EvidenceSource::SameImage),
                (Layer::Raw { .. }, None) => continue,
            };
            collected.add(layer.source_digest(), blob.clone(), evidence);
        }
        collected
    }

    fn add(&mut self, layer: &Digest, blob: Descriptor, evidence: EvidenceSource) {
        let candidate = BlobCandidate { blob, evidence };
        self.candidates.insert(layer.clone(), candidate);
    }

    /// Returns the raw layers without a candidate, except those that the registry does not have.
    pub(super) fn unresolved_layers(&self, single: &SingleImage) -> HashSet<Digest> {
        let mut diff_ids = raw_layers(single);
        let is_resolved =
            |id: &Digest| self.candidates.contains_key(id) || self.absent.contains(id);
        diff_ids.retain(|diff_id| !is_resolved(diff_id));
        diff_ids
    }

    /// Asks the registry by the extension, if that is cheaper than a request for each blob.
    pub(super) async fn query_registry(
        &mut self,
        request: &LookupRequest,
        single: &SingleImage,
    ) -> Result<(), Failure> {
        let diff_ids = raw_layers(single);
        let is_resolved = self.unresolved_layers(single).is_empty();
        if is_resolved && diff_ids.len() <= MAX_SINGLE_LOOKUPS
            || diff_ids.len() > MAX_RESOLVE_DIFF_IDS
        {
            return Ok(());
        }
        let diff_ids = diff_ids.into_iter().collect();
        let answers = request.probe.resolve(diff_ids, request.can_mount).await?;
        for (diff_id, answer) in answers.into_iter().flatten() {
            let Some(candidate) = answer else {
                // A candidate from the tag's manifest still gets a request of its own.
                self.absent.insert(diff_id);
                continue;
            };
            // Several blobs can be the same layer; a candidate that is there already stays.
            let entry = self.candidates.entry(diff_id.clone());
            let current = entry.or_insert_with(|| candidate.clone());
            if current.blob.digest == candidate.blob.digest {
                self.confirmed.insert(diff_id);
            }
        }
        Ok(())
    }

    /// Reads the manifests of the same image in other repositories. A manifest that cannot be read
    /// is skipped, since it is only a hint.
    pub(super) async fn query_copies(&mut self, request: &LookupRequest, single: &SingleImage) {
        for (repository, digest) in &request.copies {
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
                    self.add(layer.source_digest(), blob, evidence);
                }
            }
        }
    }

    /// Adds what earlier runs found out.
    pub(super) fn query_cache(&mut self, probe: &TargetProbe, single: &SingleImage) {
        for diff_id in self.unresolved_layers(single) {
            if let Some(candidate) = probe.cached(&diff_id) {
                self.candidates.insert(diff_id, candidate);
            }
        }
    }

    /// Returns the blobs that the target must still confirm.
    pub(super) fn unconfirmed_blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let candidates = self.candidates.iter();
        candidates
            .filter(|(layer, candidate)| {
                !self.confirmed.contains(*layer) && !candidate.is_foreign()
            })
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
        present: &HashSet<Digest>,
    ) -> Vec<(Descriptor, Option<Repository>)> {
        let missing = self.candidates.values();
        missing
            .filter(|candidate| {
                !present.contains(&candidate.blob.digest) && !candidate.is_foreign()
            })
            .map(|candidate| {
                let repository = candidate.evidence.repository().cloned();
                (candidate.blob.clone(), repository)
            })
            .collect()
    }
}

/// Returns the diffIDs of the layers that are not compressed yet.
fn raw_layers(single: &SingleImage) -> HashSet<Digest> {
    let raw = single.layers.iter().filter_map(|layer| match layer {
        Layer::Raw { diff_id, .. } => Some(diff_id.clone()),
        Layer::Blob { .. } => None,
    });
    raw.collect()
}
