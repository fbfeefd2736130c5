//! What an image consists of, as far as the target lacks it: the manifests below it, and its blobs.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt, TryStreamExt};
use imgsync_oci::{Descriptor, Digest, Manifest, Reference, Repository};

use super::plan::{BlobAction, BlobStep, CopyPair, CopyPlan};
use crate::exit::{Failure, FailureKind};
use crate::image::platform::text;
use crate::report::CopyChange;
use crate::transports::{ManifestRole, VerifiedManifest};

/// Questions that one copy has under way at a time.
const MAX_CONCURRENT_REQUESTS: usize = 8;
/// An index in an index is rare, and a deeper nest a trick.
const MAX_INDEX_DEPTH: usize = 4;
/// The most manifests of one image, all parts together.
const MAX_MANIFESTS: usize = 2000;
/// The most bytes of manifests that one image may hold in memory.
const MAX_MANIFEST_BYTES_PER_IMAGE: usize = 16 * 1024 * 1024;

/// What is found below a manifest, as it is gathered.
#[derive(Default)]
struct MissingContent {
    /// Children first.
    manifests: Vec<VerifiedManifest>,
    blobs: Vec<Descriptor>,
    seen: HashSet<Digest>,
    bytes: usize,
}

impl CopyPair<'_> {
    /// What it takes to put a manifest, given or named, as `role`.
    pub(super) async fn plan_image(
        &self,
        head: Digest,
        manifest: Result<VerifiedManifest, Digest>,
        role: ManifestRole,
    ) -> Result<CopyPlan, Failure> {
        let digest = match &manifest {
            Ok(held) => held.digest.clone(),
            Err(digest) => digest.clone(),
        };
        let mut plan = CopyPlan::unchanged(head, digest.clone());
        if self.is_complete(&digest).await? {
            plan.change = CopyChange::Tag;
            let held = match &manifest {
                Ok(held) => Some(held.clone()),
                Err(digest) => self.read_from_target(digest).await?,
            };
            if let Some(held) = held {
                plan.root_manifest = Some((held, role));
                return Ok(plan);
            }
        }
        let held = match manifest {
            Ok(held) => held,
            Err(digest) => self.read_from_source(&digest).await?,
        };
        let mut below = MissingContent::default();
        self.gather(&held, 0, &mut below).await?;
        // The last is this very manifest.
        below.manifests.pop();
        plan.change = CopyChange::Image;
        plan.child_manifests = below.manifests;
        plan.blobs = self.plan_blobs(below.blobs).await?;
        plan.root_manifest = Some((held, role));
        Ok(plan)
    }

    /// A manifest from the target, or from what was read before.
    pub(super) async fn read_from_target(
        &self,
        digest: &Digest,
    ) -> Result<Option<VerifiedManifest>, Failure> {
        match self.cache.manifest(digest) {
            Some(held) => Ok(Some(held)),
            None => {
                let reference = Reference::Digest(digest.clone());
                self.target.fetch_manifest(&reference).await
            }
        }
    }

    /// A manifest from the source, or from what was read before.
    pub(super) async fn read_from_source(
        &self,
        digest: &Digest,
    ) -> Result<VerifiedManifest, Failure> {
        self.find_at_source(digest).await?.ok_or_else(|| {
            let what = format!("source: {} has no manifest {digest}", self.source.name());
            Failure::new(FailureKind::Source, what)
        })
    }

    /// The same; `None` where the source does not have it.
    pub(super) async fn find_at_source(
        &self,
        digest: &Digest,
    ) -> Result<Option<VerifiedManifest>, Failure> {
        if let Some(held) = self.cache.manifest(digest) {
            return Ok(Some(held));
        }
        let reference = Reference::Digest(digest.clone());
        let held = self.source.fetch_manifest(&reference).await?;
        if let Some(held) = &held {
            self.cache.insert_manifest(held);
        }
        Ok(held)
    }

    /// Whether the target has a manifest, and so all its parts.
    async fn is_complete(&self, digest: &Digest) -> Result<bool, Failure> {
        let name = self.target.name();
        if !self.is_target_trusted {
            return Ok(false);
        }
        if self.cache.is_complete(name, digest) {
            return Ok(true);
        }
        let reference = Reference::Digest(digest.clone());
        let there = self.target.head_manifest(&reference).await?.is_some();
        if there {
            self.cache.mark_complete(name, digest);
        }
        Ok(there)
    }

    /// Gathers a manifest and what is below it, as far as the target lacks it; children first.
    fn gather<'a>(
        &'a self,
        held: &'a VerifiedManifest,
        depth: usize,
        below: &'a mut MissingContent,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let too_much = |what: &str| {
                let what = format!("source: {} {what}", held.digest);
                Failure::new(FailureKind::Source, what)
            };
            below.bytes += held.bytes.len();
            if below.seen.len() >= MAX_MANIFESTS || below.bytes > MAX_MANIFEST_BYTES_PER_IMAGE {
                return Err(too_much("has more manifests below it than any image"));
            }
            let parsed = Manifest::parse(&held.bytes, Some(&held.media_type));
            let (_, manifest) =
                parsed.map_err(|error| too_much(&format!("is no manifest: {error}")))?;
            let children = manifest.children();
            below.blobs.extend(children.blobs);
            let new = children.manifests.into_iter();
            let new: Vec<Descriptor> = new
                .filter(|child| below.seen.insert(child.digest.clone()))
                .collect();
            if !new.is_empty() && depth == MAX_INDEX_DEPTH {
                return Err(too_much("nests indexes too deep"));
            }
            let mut lacking = stream::iter(new)
                .map(|child| async move { self.find_missing_child(&child).await })
                .buffered(MAX_CONCURRENT_REQUESTS);
            while let Some(child) = lacking.try_next().await? {
                if let Some(child) = child {
                    self.gather(&child, depth + 1, below).await?;
                }
            }
            below.manifests.push(held.clone());
            Ok(())
        }
        .boxed()
    }

    /// A part of an index, where the target lacks it.
    async fn find_missing_child(
        &self,
        part: &Descriptor,
    ) -> Result<Option<VerifiedManifest>, Failure> {
        if self.is_complete(&part.digest).await? {
            return Ok(None);
        }
        let held = self.find_at_source(&part.digest).await?;
        let held = held.ok_or_else(|| self.missing_child_failure(part))?;
        let size = held.bytes.len() as u64;
        match size == part.size {
            true => Ok(Some(held)),
            false => {
                let (digest, said) = (&part.digest, part.size);
                let what = format!("source: {digest} has {size} bytes where its index says {said}");
                Err(Failure::new(FailureKind::Source, what))
            }
        }
    }

    /// A part that the source itself lacks.
    fn missing_child_failure(&self, part: &Descriptor) -> Failure {
        let (name, digest) = (self.source.name(), &part.digest);
        let platform = part.platform.as_ref().map(text);
        let platform = platform.map_or(String::new(), |text| format!(", for {text},"));
        let what = format!("source: {name} lacks a part of the index{platform} {digest}");
        Failure::new(FailureKind::Source, what)
            .with_hint("--platform takes the parts that are there; --exclude leaves the tag out")
    }

    /// What happens to each of these blobs.
    async fn plan_blobs(&self, blobs: Vec<Descriptor>) -> Result<Vec<BlobStep>, Failure> {
        let mut once = HashSet::new();
        let blobs = blobs.into_iter();
        let blobs: Vec<Descriptor> = blobs
            .filter(|blob| once.insert(blob.digest.clone()))
            .collect();
        stream::iter(blobs)
            .map(|blob| async move {
                let way = self.blob_action(&blob).await?;
                Ok(BlobStep { blob, action: way })
            })
            .buffered(MAX_CONCURRENT_REQUESTS)
            .try_collect()
            .await
    }

    async fn blob_action(&self, blob: &Descriptor) -> Result<BlobAction, Failure> {
        let known = self.cache.blob_transfer(self.target.name(), &blob.digest);
        let held = known
            .is_present
            .get_or_try_init(|| self.target.has_blob(blob));
        if *held.await? || known.transferred.initialized() {
            self.cache
                .record_blob_location(self.target.repository(), &blob.digest);
            return Ok(BlobAction::AlreadyPresent);
        }
        if known.is_claimed.swap(true, Ordering::Relaxed) {
            return Ok(BlobAction::SentByAnother);
        }
        Ok(BlobAction::Send(self.find_mount_source(blob)))
    }

    /// Another repository of the target's registry that holds a blob.
    fn find_mount_source(&self, blob: &Descriptor) -> Option<Repository> {
        let (registry, own) = self.target.repository()?;
        let from = match self.source.repository() {
            Some((source, repository)) if source == registry => Some(repository.clone()),
            Some(_) | None => self.cache.find_blob_location(registry, &blob.digest),
        };
        from.filter(|from| from != own)
    }
}
