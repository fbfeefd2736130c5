//! Answers to "which of these layers do you hold?" ([`imgsync_oci::ext::resolve`]).

use std::cell::Cell;
use std::ops::ControlFlow;

use imgsync_oci::ext::resolve::{ResolveRequest, ResolveResponse, ResolvedLayer};
use imgsync_oci::media::Compression;
use imgsync_oci::{Descriptor, Digest, Reference, Repository};

use super::record;
use crate::registry::Registry;
use crate::registry::error::{Error, Result};

/// How many blobs of one diffID are looked at: two compressors never agree on the bytes.
const MAX_BLOBS_PER_DIFF_ID: usize = 64;
/// How many looks at the disk one request may cause beyond one a layer.
const MAX_EXTRA_LOOKUPS: usize = 20_000;
/// How many manifests of one config are named, and how many are looked at for that.
const MAX_MANIFESTS_PER_CONFIG: usize = 10;
const MAX_MANIFESTS_CHECKED_PER_CONFIG: usize = 100;

/// One request while it is answered.
struct ResolveQuery<'a> {
    registry: &'a Registry,
    repository: &'a Repository,
    may_pull: &'a dyn Fn(&Repository) -> bool,
    is_mounting: bool,
    /// Looks that are left.
    lookups_left: Cell<usize>,
}

/// A blob of the right diffID, and where it may be linked.
struct LayerCandidate {
    blob: Descriptor,
    repositories: Vec<Repository>,
}

impl Registry {
    /// Which of the layers are held, for a caller who may pull from `repository`, and from others
    /// where `may_pull` says so; who may push to `repository` if `is_mounting`, which links what
    /// only others hold into it.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn resolve_layers(
        &self,
        repository: &Repository,
        request: &ResolveRequest,
        may_pull: &dyn Fn(&Repository) -> bool,
        is_mounting: bool,
    ) -> Result<ResolveResponse> {
        // Asked first: what is found out from now on may be missed, but is then not called absent.
        let is_busy = self.diff_id_queue.is_busy();
        let question = ResolveQuery {
            registry: self,
            repository,
            may_pull,
            is_mounting,
            lookups_left: Cell::new(MAX_EXTRA_LOOKUPS),
        };
        let unknown = match is_busy {
            true => ResolvedLayer::Pending,
            false => ResolvedLayer::Absent,
        };
        let mut layers = Vec::with_capacity(request.diff_ids.len());
        for diff_id in &request.diff_ids {
            let layer = question.resolve_layer(diff_id)?;
            layers.push(layer.unwrap_or_else(|| unknown.clone()));
        }
        let manifests = match &request.config {
            Some(config) => self.find_manifests_by_config(repository, config)?,
            None => Vec::new(),
        };
        Ok(ResolveResponse { layers, manifests })
    }

    /// The repository's manifests over a config, at most ten.
    fn find_manifests_by_config(
        &self,
        repository: &Repository,
        config: &Digest,
    ) -> Result<Vec<Descriptor>> {
        let mut known = Vec::new();
        self.store
            .for_each_config_manifest(repository, config, &mut |manifest| {
                known.push(manifest);
                match known.len() < MAX_MANIFESTS_CHECKED_PER_CONFIG {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            })?;
        let mut found = Vec::new();
        for digest in known {
            if found.len() >= MAX_MANIFESTS_PER_CONFIG {
                break;
            }
            if self.read_config_digest(repository, &digest)?.as_ref() != Some(config) {
                continue;
            }
            match self.get_manifest(repository, &Reference::Digest(digest)) {
                Ok(stored) => {
                    let size = stored.bytes.len() as u64;
                    found.push(Descriptor::new(&stored.media_type, stored.digest, size));
                }
                Err(Error::ManifestUnknown(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

impl ResolveQuery<'_> {
    /// Where a layer is held; `None` where it is not, as far as the caller may know.
    fn resolve_layer(&self, diff_id: &Digest) -> Result<Option<ResolvedLayer>> {
        let candidates = self.find_candidates(diff_id)?;
        for candidate in &candidates {
            if self.has_blob(self.repository, &candidate.blob)? {
                let blob = candidate.blob.clone();
                return Ok(Some(ResolvedLayer::Held { blob }));
            }
        }
        for candidate in candidates {
            // The latest first: it is the likeliest to be there still.
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

    /// The blobs that are known to be of a diffID.
    fn find_candidates(&self, diff_id: &Digest) -> Result<Vec<LayerCandidate>> {
        let mut blobs = Vec::new();
        self.registry
            .store
            .for_each_diff_id_blob(diff_id, &mut |blob| {
                blobs.push(blob);
                match blobs.len() < MAX_BLOBS_PER_DIFF_ID {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            })?;
        let mut candidates = Vec::new();
        for digest in blobs {
            if !self.try_spend_lookup() {
                break;
            }
            let Some(known) = self.registry.read_layer_record(&digest)? else {
                continue;
            };
            let Some(layer) = known.layer.filter(|layer| layer.diff_id == *diff_id) else {
                continue;
            };
            candidates.push(LayerCandidate {
                blob: descriptor(digest, &layer),
                repositories: known.repositories,
            });
        }
        Ok(candidates)
    }

    /// Whether a repository links a blob, and its data is there now.
    fn has_blob(&self, repository: &Repository, blob: &Descriptor) -> Result<bool> {
        if !self.try_spend_lookup() {
            return Ok(false);
        }
        let _hold = self.registry.lock_digests([blob.digest.clone()]);
        let held = self.registry.find_linked_blob(repository, &blob.digest)?;
        self.registry.cache.lease_blob(&blob.digest);
        Ok(held.is_some_and(|held| held.size == blob.size))
    }

    fn try_spend_lookup(&self) -> bool {
        let left = self.lookups_left.get();
        self.lookups_left.set(left.saturating_sub(1));
        left > 0
    }
}

/// A layer's descriptor, its media type as its bytes show it.
fn descriptor(digest: Digest, layer: &record::ComputedLayer) -> Descriptor {
    let media_type = match layer.compression {
        Compression::None => "application/vnd.oci.image.layer.v1.tar",
        Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    };
    Descriptor::new(media_type, digest, layer.size)
}
