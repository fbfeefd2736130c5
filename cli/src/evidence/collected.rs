//! Collects the candidates for the layers of one image, source by source: which sources are asked,
//! in which order, and how far. Start reading at [`collect`].

use std::collections::{HashMap, HashSet};

use imgsync_oci::ext::resolve::MAX_RESOLVE_DIFF_IDS;
use imgsync_oci::{Descriptor, Digest, Repository};

use super::probe::{LayerAnswer, ParsedManifest, TargetProbe};
use super::recorded::{self, RecordedManifest};
use super::{LookupRequest, RecordedImage, claims, copies, match_image, pending};
use crate::exit::Failure;
use crate::image::{Layer, SingleImage};
use crate::plan::{BlobCandidate, ClaimPolicy, ClaimVerdict, EvidenceSource};

/// The evidence so far, by the digest of a layer's bytes at the source.
#[derive(Default)]
pub(super) struct CollectedEvidence {
    pub(super) candidates: HashMap<Digest, BlobCandidate>,
    /// The image's config, and another repository that has it.
    pub(super) copied_config: Option<(Descriptor, Repository)>,
    /// The manifests of the image that were recorded earlier.
    pub(super) recorded: Vec<RecordedManifest>,
    /// Whether a raw layer may be a blob in zstd.
    accepts_zstd: bool,
    /// Whether the registry computes diffIDs itself.
    pub(super) has_extension: bool,
    /// The layers whose blob the registry confirmed.
    confirmed: HashSet<Digest>,
    /// The layers that the registry looked for among everything it holds, and did not find.
    absent: HashSet<Digest>,
    /// The layers that the registry cannot tell about yet.
    pending: HashSet<Digest>,
}

/// Collects the evidence for an image. `tagged` is the manifest that the target's tag points at.
///
/// The registry is asked first: if it computes diffIDs, its answer counts more than any other
/// evidence. At other registries, proof comes before claims.
///
/// # Errors
/// The target could not be asked.
pub(super) async fn collect(
    request: &LookupRequest,
    single: &SingleImage,
    tagged: Option<&ParsedManifest>,
) -> Result<CollectedEvidence, Failure> {
    let reusable = tagged.filter(|_| request.reuse);
    let mut same_image = same_image_claims(single, reusable);
    same_image.retain(|_, claim| request.accepts_zstd || !claim.is_zstd());
    let mut evidence = CollectedEvidence::of_image(single, request.accepts_zstd);
    evidence.recorded = recorded::find(request, single, reusable).await;
    evidence
        .query_registry(request, single, &same_image)
        .await?;
    if !request.reuse {
        return Ok(evidence);
    }
    if evidence.has_extension {
        evidence
            .settle_pending(request, reusable, &same_image)
            .await?;
        // The registry decodes layers within limits. It has no answer for a layer that exceeds
        // them, and then the same image under the tag is worth a download.
        let absent = evidence.absent.clone();
        let claims = same_image.into_iter();
        let claims = claims.filter(|(diff_id, _)| absent.contains(diff_id));
        evidence.add_claims(&request.probe, claims);
        return Ok(evidence);
    }
    // With the blobs of a recorded manifest, the image gets that manifest again.
    evidence.add_recorded(request, single);
    let cached = evidence.query_cache(request, single).await?;
    evidence.add_claims(&request.probe, same_image);
    evidence
        .query_records(request, single, &request.copies, tagged)
        .await;
    if let Some(find_related) = &request.find_related
        && !evidence.layers_without_candidate(single).is_empty()
    {
        let related = find_related().await;
        evidence
            .query_records(request, single, &related, tagged)
            .await;
    }
    let missing = evidence.layers_without_candidate(single);
    if !missing.is_empty() {
        let claims = claims::find(request, reusable, missing).await?;
        evidence.add_claims(&request.probe, claims);
    }
    // The blob may be in another repository, and its size is that of the layer once compressed.
    for (diff_id, candidate) in cached {
        evidence.candidates.entry(diff_id).or_insert(candidate);
    }
    Ok(evidence)
}

/// Returns the blobs that the manifest under the tag names for the raw layers, if it is a manifest
/// of the same image.
fn same_image_claims(
    single: &SingleImage,
    tagged: Option<&ParsedManifest>,
) -> HashMap<Digest, BlobCandidate> {
    let layers = tagged.and_then(|tagged| match_image(single, tagged));
    let layers = layers.map_or(&[][..], |(_, layers)| layers);
    let pairs = single.layers.iter().zip(layers);
    let pairs = pairs.filter_map(|(layer, blob)| match layer {
        Layer::Raw { diff_id, .. } => Some((
            diff_id.clone(),
            BlobCandidate {
                blob: blob.clone(),
                evidence: EvidenceSource::SameImage,
            },
        )),
        Layer::Blob { .. } => None,
    });
    pairs.collect()
}

impl CollectedEvidence {
    /// Returns whether a raw layer may be this blob.
    fn is_usable(&self, candidate: &BlobCandidate) -> bool {
        self.accepts_zstd || !candidate.is_zstd()
    }

    /// Returns the blobs that the image itself names.
    fn of_image(single: &SingleImage, accepts_zstd: bool) -> Self {
        let mut collected = Self {
            accepts_zstd,
            ..Self::default()
        };
        for layer in &single.layers {
            if let Layer::Blob { descriptor, .. } = layer {
                let candidate = BlobCandidate {
                    blob: descriptor.clone(),
                    evidence: EvidenceSource::Image,
                };
                let layer = layer.source_digest().clone();
                collected.candidates.insert(layer, candidate);
            }
        }
        collected
    }

    /// Returns the raw layers without a candidate, except those that the registry does not have.
    fn layers_without_candidate(&self, single: &SingleImage) -> HashSet<Digest> {
        let mut diff_ids = raw_layers(single);
        let is_settled = |id: &Digest| self.candidates.contains_key(id) || self.absent.contains(id);
        diff_ids.retain(|diff_id| !is_settled(diff_id));
        diff_ids
    }

    /// Asks the registry by the extension. Of several blobs that are the same layer, it should
    /// choose those of `preferred`, so that an unchanged image keeps its manifest.
    async fn query_registry(
        &mut self,
        request: &LookupRequest,
        single: &SingleImage,
        preferred: &HashMap<Digest, BlobCandidate>,
    ) -> Result<(), Failure> {
        let diff_ids = raw_layers(single);
        if diff_ids.is_empty() || diff_ids.len() > MAX_RESOLVE_DIFF_IDS {
            return Ok(());
        }
        let recorded = self.recorded.iter().flat_map(|recorded| &recorded.layers);
        let preferred = preferred.values().map(|candidate| &candidate.blob);
        let preferred = preferred.chain(recorded).map(|blob| blob.digest.clone());
        let (probe, diff_ids) = (&request.probe, diff_ids.into_iter().collect());
        let answers = probe.resolve(diff_ids, preferred.collect(), request.can_mount);
        if let Some(answers) = answers.await? {
            self.has_extension = true;
            self.add_answers(answers);
        }
        Ok(())
    }

    /// Adds the blobs of the first recorded manifest, unless they would have to be verified and that
    /// is expected to take longer than to send the layers.
    fn add_recorded(&mut self, request: &LookupRequest, single: &SingleImage) {
        let Some(recorded) = self.recorded.first().cloned() else {
            return;
        };
        let policy = ClaimPolicy {
            trust_registry: request.trust_registry,
            verify: Some(request.writer.transfer_rates()),
        };
        let (probe, repository) = (&request.probe, recorded.repository);
        if repository != probe.repository {
            self.copied_config = Some((recorded.config, repository.clone()));
        }
        let layers = single
            .layers
            .iter()
            .map(|layer| layer.source_digest().clone());
        let claims = layers.zip(recorded.layers).map(|(diff_id, blob)| {
            let evidence = EvidenceSource::Copy(repository.clone());
            (diff_id, BlobCandidate { blob, evidence })
        });
        // A download for a manifest of another repository would be only for the sake of the digest.
        let is_here = repository == probe.repository;
        let claims = claims.filter(|(diff_id, claim)| match policy.judge(claim) {
            _ if probe.was_verified(&claim.blob, diff_id) => true,
            ClaimVerdict::Use => true,
            ClaimVerdict::Verify => is_here,
            ClaimVerdict::Send => false,
        });
        self.add_claims(probe, claims.collect::<Vec<_>>());
    }

    /// Adds what the registry computed. It replaces all other evidence.
    fn add_answers(&mut self, answers: HashMap<Digest, LayerAnswer>) {
        for (diff_id, answer) in answers {
            self.pending.remove(&diff_id);
            match answer {
                LayerAnswer::Found(candidate) if self.is_usable(&candidate) => {
                    if candidate.evidence == EvidenceSource::Registry {
                        self.confirmed.insert(diff_id.clone());
                    }
                    self.candidates.insert(diff_id, *candidate);
                }
                LayerAnswer::Found(_) | LayerAnswer::Absent => {
                    self.candidates.remove(&diff_id);
                    self.absent.insert(diff_id);
                }
                LayerAnswer::Pending => {
                    self.pending.insert(diff_id);
                }
            }
        }
    }

    /// Waits until the registry has computed the layers that it may hold according to the cache or
    /// to claims. After that only the cache counts for those that it has not computed.
    async fn settle_pending(
        &mut self,
        request: &LookupRequest,
        tagged: Option<&ParsedManifest>,
        same_image: &HashMap<Digest, BlobCandidate>,
    ) -> Result<(), Failure> {
        let probe = &request.probe;
        for diff_id in &self.pending {
            if let Some(candidate) = probe.cached(diff_id)
                && (self.accepts_zstd || !candidate.is_zstd())
            {
                self.candidates.insert(diff_id.clone(), candidate);
            }
        }
        let is_likely = |diff_id: &&Digest| {
            self.candidates.contains_key(*diff_id) || same_image.contains_key(*diff_id)
        };
        let (likely, unlikely): (HashSet<_>, HashSet<_>) = self.pending.iter().partition(is_likely);
        let mut awaited: HashSet<Digest> = likely.into_iter().cloned().collect();
        if !unlikely.is_empty() {
            let unlikely = unlikely.into_iter().cloned().collect();
            awaited.extend(claims::find(request, tagged, unlikely).await?.into_keys());
        }
        if !awaited.is_empty() {
            self.add_answers(pending::wait_for_answers(request, awaited).await?);
        }
        Ok(())
    }

    /// Adds the blobs that earlier pushes of this user made of the layers, if the target holds them.
    /// Returns what else the cache says.
    async fn query_cache(
        &mut self,
        request: &LookupRequest,
        single: &SingleImage,
    ) -> Result<Vec<(Digest, BlobCandidate)>, Failure> {
        let probe = &request.probe;
        let layers = self.layers_without_candidate(single).into_iter();
        let cached = layers.filter_map(|diff_id| {
            let candidate = probe.cached(&diff_id);
            let candidate = candidate.filter(|candidate| self.is_usable(candidate))?;
            Some((diff_id, candidate))
        });
        let cached: Vec<_> = cached.collect();
        let is_own = |candidate: &BlobCandidate| candidate.evidence == EvidenceSource::Cache;
        let own = cached.iter().filter(|(_, candidate)| is_own(candidate));
        let present = probe.holds_all(own.map(|(_, candidate)| &candidate.blob));
        let present = present.await?;
        let (found, missing): (Vec<_>, Vec<_>) = cached.into_iter().partition(|(_, candidate)| {
            is_own(candidate) && present.contains(&candidate.blob.digest)
        });
        let asked = missing.iter().filter(|(_, candidate)| is_own(candidate));
        let asked = asked.map(|(_, candidate)| candidate.blob.digest.clone());
        request.writer.record_missing(asked);
        self.confirmed
            .extend(found.iter().map(|(diff_id, _)| diff_id.clone()));
        self.candidates.extend(found);
        Ok(missing)
    }

    /// Reads manifests that the local engine recorded. A manifest that cannot be read is skipped.
    async fn query_records(
        &mut self,
        request: &LookupRequest,
        single: &SingleImage,
        records: &[RecordedImage],
        tagged: Option<&ParsedManifest>,
    ) {
        for record in records {
            let missing = self.layers_without_candidate(single);
            if !record
                .diff_ids
                .iter()
                .any(|diff_id| missing.contains(diff_id))
            {
                continue;
            }
            let found = copies::find(&request.probe, record, tagged).await;
            let Some(copies::FoundCopy { config, layers, .. }) = found else {
                continue;
            };
            let repository = &record.repository;
            if config.digest == single.config.digest && *repository != request.probe.repository {
                self.copied_config = Some((config, repository.clone()));
            }
            let claims = record.diff_ids.iter().cloned().zip(layers);
            let claims = claims.filter(|(diff_id, _)| missing.contains(diff_id));
            let claims = claims.map(|(diff_id, blob)| {
                let evidence = EvidenceSource::Copy(repository.clone());
                (diff_id, BlobCandidate { blob, evidence })
            });
            self.add_claims(&request.probe, claims);
        }
    }

    /// Adds claims for layers without a candidate. A claim that this user verified earlier is
    /// proof.
    fn add_claims(
        &mut self,
        probe: &TargetProbe,
        claims: impl IntoIterator<Item = (Digest, BlobCandidate)>,
    ) {
        for (diff_id, mut claim) in claims {
            if self.candidates.contains_key(&diff_id) || !self.is_usable(&claim) {
                continue;
            }
            if probe.was_verified(&claim.blob, &diff_id) {
                claim.evidence = EvidenceSource::Verified;
            }
            self.candidates.insert(diff_id, claim);
        }
    }

    /// Returns the layers, by diffID, that the registry does not have under any digest.
    pub(super) fn absent_layers(&self) -> impl Iterator<Item = &Digest> {
        self.absent.iter()
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

    /// Returns the blobs that the registry confirmed.
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
