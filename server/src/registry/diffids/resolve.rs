//! Answers to "which of these layers do you hold?" ([`imgsync_oci::ext::resolve`]).

use std::cell::Cell;
use std::ops::ControlFlow;

use imgsync_oci::ext::resolve::{Layer, Request, Response};
use imgsync_oci::media::Compression;
use imgsync_oci::{Descriptor, Digest, Reference, Repository};

use super::record;
use crate::registry::Registry;
use crate::registry::error::{Error, Result};

/// How many blobs of one diffID are looked at: two compressors never agree on the bytes.
const MOST_BLOBS: usize = 64;
/// How many looks at the disk one request may cause beyond one a layer.
const MOST_LOOKS: usize = 20_000;
/// How many manifests of one config are named, and how many are looked at for that.
const MOST_MANIFESTS: usize = 10;
const MOST_REVISIONS: usize = 100;

/// One request while it is answered.
struct Question<'a> {
    registry: &'a Registry,
    repository: &'a Repository,
    may_pull: &'a dyn Fn(&Repository) -> bool,
    is_mounting: bool,
    /// Looks that are left.
    looks: Cell<usize>,
}

/// A blob of the right diffID, and where it may be linked.
struct Candidate {
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
    pub(crate) fn resolve(
        &self,
        repository: &Repository,
        request: &Request,
        may_pull: &dyn Fn(&Repository) -> bool,
        is_mounting: bool,
    ) -> Result<Response> {
        // Asked first: what is found out from now on may be missed, but is then not called absent.
        let is_busy = self.diff_ids.is_busy();
        let question = Question {
            registry: self,
            repository,
            may_pull,
            is_mounting,
            looks: Cell::new(MOST_LOOKS),
        };
        let unknown = match is_busy {
            true => Layer::Pending,
            false => Layer::Absent,
        };
        let mut layers = Vec::with_capacity(request.diff_ids.len());
        for diff_id in &request.diff_ids {
            let layer = question.layer(diff_id)?;
            layers.push(layer.unwrap_or_else(|| unknown.clone()));
        }
        let manifests = match &request.config {
            Some(config) => self.manifests_over(repository, config)?,
            None => Vec::new(),
        };
        Ok(Response { layers, manifests })
    }

    /// The repository's manifests over a config, at most ten.
    fn manifests_over(&self, repository: &Repository, config: &Digest) -> Result<Vec<Descriptor>> {
        let mut known = Vec::new();
        self.store
            .each_configured(repository, config, &mut |manifest| {
                known.push(manifest);
                match known.len() < MOST_REVISIONS {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            })?;
        let mut found = Vec::new();
        for digest in known {
            if found.len() >= MOST_MANIFESTS {
                break;
            }
            if self.config_of(repository, &digest)?.as_ref() != Some(config) {
                continue;
            }
            match self.manifest(repository, &Reference::Digest(digest)) {
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

impl Question<'_> {
    /// Where a layer is held; `None` where it is not, as far as the caller may know.
    fn layer(&self, diff_id: &Digest) -> Result<Option<Layer>> {
        let candidates = self.candidates(diff_id)?;
        for candidate in &candidates {
            if self.holds(self.repository, &candidate.blob)? {
                let blob = candidate.blob.clone();
                return Ok(Some(Layer::Held { blob }));
            }
        }
        for candidate in candidates {
            // The latest first: it is the likeliest to be there still.
            for repository in candidate.repositories.iter().rev() {
                if repository == self.repository
                    || !(self.may_pull)(repository)
                    || !self.holds(repository, &candidate.blob)?
                {
                    continue;
                }
                return self.elsewhere(repository, candidate.blob);
            }
        }
        Ok(None)
    }

    fn elsewhere(&self, repository: &Repository, blob: Descriptor) -> Result<Option<Layer>> {
        if !self.is_mounting {
            let repository = repository.to_string();
            return Ok(Some(Layer::Elsewhere { blob, repository }));
        }
        let digest = &blob.digest;
        let is_mounted = self.registry.mount(self.repository, repository, digest)?;
        Ok(is_mounted.then_some(Layer::Held { blob }))
    }

    /// The blobs that are known to be of a diffID.
    fn candidates(&self, diff_id: &Digest) -> Result<Vec<Candidate>> {
        let mut blobs = Vec::new();
        self.registry.store.each_unpacked(diff_id, &mut |blob| {
            blobs.push(blob);
            match blobs.len() < MOST_BLOBS {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        let mut candidates = Vec::new();
        for digest in blobs {
            if !self.may_look() {
                break;
            }
            let Some(known) = self.registry.record(&digest)? else {
                continue;
            };
            let Some(layer) = known.layer.filter(|layer| layer.diff_id == *diff_id) else {
                continue;
            };
            candidates.push(Candidate {
                blob: descriptor(digest, &layer),
                repositories: known.repositories,
            });
        }
        Ok(candidates)
    }

    /// Whether a repository links a blob, and its data is there now.
    fn holds(&self, repository: &Repository, blob: &Descriptor) -> Result<bool> {
        if !self.may_look() {
            return Ok(false);
        }
        let _hold = self.registry.hold([blob.digest.clone()]);
        let held = self.registry.held(repository, &blob.digest)?;
        self.registry.cache.promise(&blob.digest);
        Ok(held.is_some_and(|held| held.size == blob.size))
    }

    fn may_look(&self) -> bool {
        let left = self.looks.get();
        self.looks.set(left.saturating_sub(1));
        left > 0
    }
}

/// A layer's descriptor, its media type as its bytes show it.
fn descriptor(digest: Digest, layer: &record::Layer) -> Descriptor {
    let media_type = match layer.compression {
        Compression::None => "application/vnd.oci.image.layer.v1.tar",
        Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    };
    Descriptor::new(media_type, digest, layer.size)
}
