//! Finds what the target lacks of an image: the manifests below it, and its blobs.

use std::sync::atomic::Ordering;

use futures::stream::{self, StreamExt, TryStreamExt};
use imgsync_oci::graph::{self, GraphLimits, GraphWalk, Visit, WalkError};
use imgsync_oci::{Descriptor, Digest, Reference, Repository};

use super::plan::{CopyPlan, ImageCopy, KnownManifest, parse_manifest};
use crate::exit::{Failure, FailureKind};
use crate::image::platform::text;
use crate::plan::{BlobCandidate, BlobStep, EvidenceSource};
use crate::report::CopyChange;
use crate::transports::{ManifestRole, VerifiedManifest};

/// Requests that one copy sends at the same time.
const MAX_CONCURRENT_REQUESTS: usize = 8;
/// The most bytes of manifests that one image may hold in memory.
const MAX_MANIFEST_BYTES_PER_IMAGE: u64 = 16 * 1024 * 1024;

impl ImageCopy<'_> {
    /// Plans what it takes to put a manifest in a role.
    pub(super) async fn plan_image(
        &self,
        source_digest: Digest,
        root: KnownManifest,
        role: ManifestRole,
    ) -> Result<CopyPlan, Failure> {
        let KnownManifest { digest, manifest } = root;
        let mut plan = CopyPlan::unchanged(source_digest, digest.clone());
        if self.is_known_complete(&digest) {
            plan.outcome.change = CopyChange::Tag;
            let root = match &manifest {
                Some(manifest) => Some(manifest.clone()),
                None => self.read_from_target(&digest).await?,
            };
            if let Some(root) = root {
                plan.root_manifest = Some((root, role));
                return Ok(plan);
            }
        }
        let root = match manifest {
            Some(manifest) => manifest,
            None => self.read_from_source(&digest).await?,
        };
        let (child_manifests, blobs) = self.find_missing(&root).await?;
        plan.outcome.change = CopyChange::Image;
        plan.child_manifests = child_manifests;
        plan.blobs = self.plan_blobs(blobs).await?;
        plan.root_manifest = Some((root, role));
        Ok(plan)
    }

    /// Returns a manifest from the target, or from the cache of the run.
    pub(super) async fn read_from_target(
        &self,
        digest: &Digest,
    ) -> Result<Option<VerifiedManifest>, Failure> {
        if let Some(manifest) = self.cache.manifest(digest) {
            return Ok(Some(manifest));
        }
        let reference = Reference::Digest(digest.clone());
        self.target.fetch_manifest(&reference).await
    }

    /// Returns a manifest from the source, or from the cache of the run.
    pub(super) async fn read_from_source(
        &self,
        digest: &Digest,
    ) -> Result<VerifiedManifest, Failure> {
        self.find_at_source(digest).await?.ok_or_else(|| {
            let what = format!("source: {} has no manifest {digest}", self.source.name());
            Failure::new(FailureKind::Source, what)
        })
    }

    /// Returns a manifest from the source, or from the cache of the run; `None` where the source
    /// does not have it.
    pub(super) async fn find_at_source(
        &self,
        digest: &Digest,
    ) -> Result<Option<VerifiedManifest>, Failure> {
        if let Some(manifest) = self.cache.manifest(digest) {
            return Ok(Some(manifest));
        }
        let reference = Reference::Digest(digest.clone());
        let manifest = self.source.fetch_manifest(&reference).await?;
        if let Some(manifest) = &manifest {
            self.cache.insert_manifest(manifest);
        }
        Ok(manifest)
    }

    /// Returns whether the target has a manifest, as this run has seen. For the manifest of a name
    /// that is new at the target, to ask would be a request for nothing in nearly all cases; where
    /// the target has it under another name, its blobs are found instead.
    fn is_known_complete(&self, digest: &Digest) -> bool {
        let state = self.cache.image(self.target.name(), digest);
        self.is_target_trusted && state.is_complete.load(Ordering::Relaxed)
    }

    /// Returns whether the target has a manifest, and so everything below it.
    async fn is_complete(&self, digest: &Digest) -> Result<bool, Failure> {
        if !self.is_target_trusted || self.is_known_complete(digest) {
            return Ok(self.is_target_trusted);
        }
        let reference = Reference::Digest(digest.clone());
        if self.target.head_manifest(&reference).await?.is_none() {
            return Ok(false);
        }
        let state = self.cache.image(self.target.name(), digest);
        state.is_complete.store(true, Ordering::Relaxed);
        Ok(true)
    }

    /// Returns the manifests below a root that the target lacks, children first, and the blobs that
    /// these and the root name, each once.
    async fn find_missing(
        &self,
        root: &VerifiedManifest,
    ) -> Result<(Vec<VerifiedManifest>, Vec<Descriptor>), Failure> {
        let mut walk = GraphWalk::new(GraphLimits {
            max_bytes: MAX_MANIFEST_BYTES_PER_IMAGE,
            ..GraphLimits::default()
        });
        let (media_type, size) = (&root.media_type, root.bytes.len() as u64);
        walk.add_root(Descriptor::new(media_type, root.digest.clone(), size));
        let fetch = async |pending: graph::PendingManifest| {
            let descriptor = pending.descriptor();
            if descriptor.digest == root.digest {
                return visit(root.clone()).map(Some);
            }
            let child = self.find_missing_child(descriptor).await?;
            child.map(visit).transpose()
        };
        let walked = graph::walk_concurrently(&mut walk, MAX_CONCURRENT_REQUESTS, fetch).await;
        walked.map_err(|error| match error {
            WalkError::Limit(error) => {
                let what = format!("source: {}: {error}", root.digest);
                Failure::new(FailureKind::Source, what)
            }
            WalkError::Fetch(failure) => failure,
        })?;
        let (mut manifests, mut blobs) = (Vec::new(), Vec::new());
        for node in walk.finish() {
            manifests.push(node.value);
            blobs.extend(node.blobs);
        }
        // The last one is the root.
        manifests.pop();
        Ok((manifests, blobs))
    }

    /// Returns a manifest of an index, if the target lacks it.
    async fn find_missing_child(
        &self,
        child: &Descriptor,
    ) -> Result<Option<VerifiedManifest>, Failure> {
        if self.is_complete(&child.digest).await? {
            return Ok(None);
        }
        let manifest = self.find_at_source(&child.digest).await?;
        let manifest = manifest.ok_or_else(|| self.missing_child_failure(child))?;
        let size = manifest.bytes.len() as u64;
        if size == child.size {
            return Ok(Some(manifest));
        }
        let (digest, stated) = (&child.digest, child.size);
        let what = format!("source: {digest} has {size} bytes, but its index states {stated}");
        Err(Failure::new(FailureKind::Source, what))
    }

    /// Returns the failure for a manifest that the source itself lacks.
    fn missing_child_failure(&self, child: &Descriptor) -> Failure {
        let (name, digest) = (self.source.name(), &child.digest);
        let platform = child.platform.as_ref().map(text);
        let platform = platform.map_or(String::new(), |text| format!(" for {text}"));
        let what =
            format!("source: {name} lacks the manifest {digest}{platform} that its index lists");
        Failure::new(FailureKind::Source, what).with_mirror_hint(
            "copy only the platforms that exist with --platform, or skip the tag with --exclude",
        )
    }

    /// Asks the target for blobs, and decides about each.
    async fn plan_blobs(
        &self,
        blobs: Vec<Descriptor>,
    ) -> Result<Vec<(Descriptor, BlobStep)>, Failure> {
        let steps = stream::iter(blobs).map(|blob| async move {
            let step = self.plan_blob(&blob).await?;
            Ok((blob, step))
        });
        steps.buffered(MAX_CONCURRENT_REQUESTS).try_collect().await
    }

    async fn plan_blob(&self, blob: &Descriptor) -> Result<BlobStep, Failure> {
        let size = blob.size;
        let transfer = self.cache.blob_transfer(self.target.name(), &blob.digest);
        let is_present = transfer
            .is_present
            .get_or_try_init(|| self.target.has_blob(blob));
        if *is_present.await? || transfer.transferred.initialized() {
            self.cache
                .record_blob_location(self.target.repository(), &blob.digest);
            return Ok(BlobStep::AlreadyPresent(BlobCandidate {
                blob: blob.clone(),
                evidence: EvidenceSource::Registry,
            }));
        }
        if transfer.is_claimed.swap(true, Ordering::Relaxed) {
            return Ok(BlobStep::SentByAnother { size });
        }
        Ok(match self.find_mount_source(blob) {
            Some(from) => BlobStep::Mount { from, size },
            None => BlobStep::Send {
                read: Some(size),
                send: Some(size),
                mount: None,
                is_packed: false,
                delta: None,
            },
        })
    }

    /// Returns another repository of the target's registry that holds a blob.
    fn find_mount_source(&self, blob: &Descriptor) -> Option<Repository> {
        let (registry, target) = self.target.repository()?;
        let from = match self.source.repository() {
            Some((source, repository)) if source == registry => Some(repository.clone()),
            _ => self.cache.find_blob_location(registry, &blob.digest),
        };
        from.filter(|from| from != target)
    }
}

/// Parses a manifest for the walk.
fn visit(manifest: VerifiedManifest) -> Result<Visit<VerifiedManifest>, Failure> {
    let parsed = parse_manifest(&manifest).map_err(|error| {
        let what = format!("source: {} is not a manifest: {error}", manifest.digest);
        Failure::new(FailureKind::Source, what)
    })?;
    Ok(Visit::new(&parsed, manifest.bytes.len(), manifest))
}
