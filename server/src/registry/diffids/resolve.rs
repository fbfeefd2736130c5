//! Answers requests that ask which of some layers are stored ([`imgsync_oci::ext::resolve`]).
//!
//! Nothing is computed here: layers without a record are reported as pending or absent. Start
//! reading at [`Registry::resolve_layers`].

use std::cell::Cell;
use std::collections::{HashSet, VecDeque};

use imgsync_oci::ext::resolve::{ResolveRequest, ResolveResponse, ResolvedLayer};
use imgsync_oci::media::Compression;
use imgsync_oci::{Descriptor, Digest, Manifest, Reference, Repository};

use super::record;
use crate::registry::Registry;
use crate::registry::error::{Error, Result};

/// Maximum number of blobs checked for one diffID. There can be several, because the output of
/// compressors differs.
const MAX_BLOBS_PER_DIFF_ID: usize = 64;
/// Maximum number of disk lookups per request, beyond one per layer.
const MAX_EXTRA_LOOKUPS: usize = 20_000;
/// Maximum number of manifests returned for one config.
const MAX_MANIFESTS_PER_CONFIG: usize = 10;
/// Maximum number of manifests checked for one config.
const MAX_MANIFESTS_CHECKED_PER_CONFIG: usize = 100;

/// One request, while it is answered.
struct ResolveQuery<'a> {
    registry: &'a Registry,
    repository: &'a Repository,
    may_pull: &'a dyn Fn(&Repository) -> bool,
    is_mounting: bool,
    /// The blobs that the client would rather use than others with the same diffIDs.
    preferred: HashSet<&'a Digest>,
    remaining_lookups: Cell<usize>,
}

/// A blob with the requested diffID, and the repositories that may hold it.
struct LayerCandidate {
    blob: Descriptor,
    repositories: Vec<Repository>,
}

impl Registry {
    /// Reports for each requested layer whether `repository` or another repository holds it.
    ///
    /// The caller may pull from `repository` and from each repository for which `may_pull` is true.
    /// With `is_mounting`, the caller may also push to `repository`, and layers that only other
    /// repositories hold are mounted into it.
    ///
    /// # Errors
    /// Returns [`Error::Store`] if the store fails.
    pub(crate) fn resolve_layers(
        &self,
        repository: &Repository,
        request: &ResolveRequest,
        may_pull: &dyn Fn(&Repository) -> bool,
        is_mounting: bool,
    ) -> Result<ResolveResponse> {
        // Read first: a layer that is recorded from now on may be missed, but must then be reported
        // as pending, not as absent.
        let is_busy = self.diff_id_queue.is_busy();
        let query = ResolveQuery {
            registry: self,
            repository,
            may_pull,
            is_mounting,
            preferred: request.preferred.iter().collect(),
            remaining_lookups: Cell::new(MAX_EXTRA_LOOKUPS),
        };
        let unknown = if is_busy {
            ResolvedLayer::Pending
        } else {
            ResolvedLayer::Absent
        };
        let mut layers = Vec::with_capacity(request.diff_ids.len());
        for diff_id in &request.diff_ids {
            let layer = query.resolve_layer(diff_id)?;
            layers.push(layer.unwrap_or_else(|| unknown.clone()));
        }
        let manifests = match &request.config {
            Some(config) => self.find_manifests_by_config(repository, config)?,
            None => Vec::new(),
        };
        Ok(ResolveResponse { layers, manifests })
    }

    /// Returns the manifests of a repository that have a given config, at most ten.
    fn find_manifests_by_config(
        &self,
        repository: &Repository,
        config: &Digest,
    ) -> Result<Vec<Descriptor>> {
        // The latest ones are the most likely to be there still.
        let mut recorded = VecDeque::new();
        self.for_each_indexed_image(repository, config, &mut |digest| {
            if recorded.len() == MAX_MANIFESTS_CHECKED_PER_CONFIG {
                recorded.pop_front();
            }
            recorded.push_back(digest);
        })?;
        let old = self.store.old_config_manifests(repository, config);
        for digest in old.take(MAX_MANIFESTS_CHECKED_PER_CONFIG) {
            recorded.push_front(digest?);
        }
        let (mut manifests, mut seen) = (Vec::new(), HashSet::new());
        for digest in recorded.into_iter().rev() {
            if manifests.len() >= MAX_MANIFESTS_PER_CONFIG {
                break;
            }
            if !seen.insert(digest.clone())
                || self.read_config_digest(repository, &digest)?.as_ref() != Some(config)
            {
                continue;
            }
            match self.get_manifest(repository, &Reference::Digest(digest)) {
                Ok(stored) => {
                    let size = stored.bytes.len() as u64;
                    manifests.push(Descriptor::new(&stored.media_type, stored.digest, size));
                }
                Err(Error::ManifestUnknown(_) | Error::ManifestDamaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(manifests)
    }
}

impl Registry {
    /// Returns the digest of a manifest's config, if the manifest is in the repository and has one.
    fn read_config_digest(
        &self,
        repository: &Repository,
        manifest: &Digest,
    ) -> Result<Option<Digest>> {
        let reference = Reference::Digest(manifest.clone());
        let stored = match self.get_manifest(repository, &reference) {
            Ok(stored) => stored,
            Err(Error::ManifestUnknown(_) | Error::ManifestDamaged(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(match Manifest::parse_bare(&stored.bytes) {
            Ok((_, Manifest::Image { config, .. })) => Some(config.digest),
            _ => None,
        })
    }
}

impl ResolveQuery<'_> {
    /// Returns where a layer is stored. Returns `None` if it is not stored, or only where the
    /// caller may not pull.
    fn resolve_layer(&self, diff_id: &Digest) -> Result<Option<ResolvedLayer>> {
        let candidates = self.find_candidates(diff_id)?;
        for candidate in &candidates {
            if self.has_blob(self.repository, &candidate.blob)? {
                let blob = candidate.blob.clone();
                return Ok(Some(ResolvedLayer::Held { blob }));
            }
        }
        for candidate in candidates {
            // The repository that was recorded last is the most likely to hold the blob still.
            for repository in candidate.repositories.iter().rev() {
                if repository == self.repository
                    || !(self.may_pull)(repository)
                    || !self.has_blob(repository, &candidate.blob)?
                {
                    continue;
                }
                return self.mount_or_report(repository, candidate.blob);
            }
        }
        Ok(None)
    }

    fn mount_or_report(
        &self,
        repository: &Repository,
        blob: Descriptor,
    ) -> Result<Option<ResolvedLayer>> {
        if !self.is_mounting {
            let repository = repository.to_string();
            return Ok(Some(ResolvedLayer::Elsewhere { blob, repository }));
        }
        let digest = &blob.digest;
        let is_mounted = self.registry.mount(self.repository, repository, digest)?;
        Ok(is_mounted.then_some(ResolvedLayer::Held { blob }))
    }

    /// Returns the blobs that are recorded for a diffID, preferred ones first.
    fn find_candidates(&self, diff_id: &Digest) -> Result<Vec<LayerCandidate>> {
        let blobs = self.registry.store.diff_id_blobs(diff_id);
        let mut candidates = Vec::new();
        for digest in blobs.take(MAX_BLOBS_PER_DIFF_ID) {
            let digest = digest?;
            if !self.try_spend_lookup() {
                break;
            }
            let Some(record) = self.registry.read_layer_record(&digest)? else {
                continue;
            };
            let Some(layer) = record.layer.filter(|layer| layer.diff_id == *diff_id) else {
                continue;
            };
            candidates.push(LayerCandidate {
                blob: descriptor(digest, &layer),
                repositories: record.repositories,
            });
        }
        // Every engine can unpack gzip, but not zstd.
        candidates.sort_by_key(|candidate| {
            let blob = &candidate.blob;
            let is_zstd = Compression::of_media_type(&blob.media_type) == Some(Compression::Zstd);
            (!self.preferred.contains(&blob.digest), is_zstd)
        });
        Ok(candidates)
    }

    /// Reports whether a repository holds a blob now, with link and bytes.
    fn has_blob(&self, repository: &Repository, blob: &Descriptor) -> Result<bool> {
        if !self.try_spend_lookup() {
            return Ok(false);
        }
        let _lock = self.registry.lock_digests([blob.digest.clone()]);
        let linked = self.registry.find_linked_blob(repository, &blob.digest)?;
        self.registry.cache.lease_blob(&blob.digest);
        self.registry.promise(repository, &blob.digest);
        Ok(linked.is_some_and(|linked| linked.size == blob.size))
    }

    /// Counts a lookup; returns false if none is left.
    fn try_spend_lookup(&self) -> bool {
        let remaining = self.remaining_lookups.get();
        self.remaining_lookups.set(remaining.saturating_sub(1));
        remaining > 0
    }
}

/// Returns the descriptor of a layer, with the media type that its bytes show.
fn descriptor(digest: Digest, layer: &record::ComputedLayer) -> Descriptor {
    let media_type = match layer.compression {
        Compression::None => "application/vnd.oci.image.layer.v1.tar",
        Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    };
    Descriptor::new(media_type, digest, layer.size)
}
