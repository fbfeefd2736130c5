//! The plan of one copy, found out by asking source and target: data that can be shown and
//! executed. Planning changes nothing anywhere, reads no blob, and no manifest that the target has.
//! Start reading at [`CopyPlan`] and [`ImageCopy::plan`].

use std::sync::Arc;

use imgsync_oci::{Descriptor, Digest, Manifest, ParseError, Reference, Tag, media};

use super::platform_filter::{self, FilteredIndex};
use super::run_cache::RunCache;
use crate::exit::{Failure, FailureKind};
use crate::plan::BlobStep;
use crate::report::{CopyOutcome, Report};
use crate::transports::{
    CopyRequest, CopySource, CopyTarget, ManifestDescriptor, ManifestRole, VerifiedManifest,
};

/// Everything to be done for one image.
#[derive(Debug, Clone)]
pub(super) struct CopyPlan {
    /// The outcome so far: digests and notes. Nothing is sent yet.
    pub(super) outcome: CopyOutcome,
    /// The blobs that the new manifests need, each once.
    pub(super) blobs: Vec<(Descriptor, BlobStep)>,
    /// The manifests that are put before the root, in order.
    pub(super) child_manifests: Vec<VerifiedManifest>,
    /// The manifest that is put last, with its role; `None` where the target has it in that role.
    pub(super) root_manifest: Option<(VerifiedManifest, ManifestRole)>,
    /// The referrers of the image. They are put before the root, so that a client that finds the
    /// image finds its signature.
    pub(super) referrers: Vec<ReferrerPlan>,
}

/// The plan for a referrer of an image.
#[derive(Debug, Clone)]
pub(super) struct ReferrerPlan {
    /// The tag by which clients find the referrer, if it has one.
    pub(super) tag: Option<Tag>,
    pub(super) plan: CopyPlan,
}

/// One copy: its request, its source and its target, and what the run knows about them.
#[derive(Clone, Copy)]
pub(super) struct ImageCopy<'a> {
    pub(super) cache: &'a RunCache,
    pub(super) report: &'a Arc<dyn Report>,
    pub(super) source: &'a dyn CopySource,
    pub(super) target: &'a dyn CopyTarget,
    pub(super) request: &'a CopyRequest,
    /// Whether a manifest at the target implies everything below it; some registries lose blobs.
    pub(super) is_target_trusted: bool,
}

/// The manifests that the two names of a request point at now.
#[derive(Debug, Clone)]
pub(super) struct ResolvedNames {
    pub(super) head: ManifestDescriptor,
    previous: Option<KnownManifest>,
}

/// A manifest that is known by its digest, and perhaps by its bytes.
#[derive(Debug, Clone)]
pub(super) struct KnownManifest {
    pub(super) digest: Digest,
    pub(super) manifest: Option<VerifiedManifest>,
}

impl From<Digest> for KnownManifest {
    fn from(digest: Digest) -> Self {
        Self {
            digest,
            manifest: None,
        }
    }
}

impl From<VerifiedManifest> for KnownManifest {
    fn from(manifest: VerifiedManifest) -> Self {
        Self {
            digest: manifest.digest.clone(),
            manifest: Some(manifest),
        }
    }
}

impl ImageCopy<'_> {
    /// Resolves both names with one request each. No more are needed where nothing has changed.
    pub(super) async fn resolve_names(&self) -> Result<ResolvedNames, Failure> {
        let (head, previous) = futures::try_join!(self.resolve_source(), self.resolve_target())?;
        Ok(ResolvedNames { head, previous })
    }

    /// Finds out what is to be done, referrers of referrers included up to a small depth.
    pub(super) async fn plan(&self, names: ResolvedNames) -> Result<CopyPlan, Failure> {
        let ResolvedNames { head, previous } = names;
        let (root, left_out) = self.plan_root(&head, previous.as_ref()).await?;
        let role = match &self.request.to {
            Reference::Tag(tag) => ManifestRole::Tagged(tag.clone()),
            Reference::Digest(digest) if *digest == root.digest => ManifestRole::Untagged,
            Reference::Digest(digest) => {
                let copy = &root.digest;
                let what = format!("target: the copy has the digest {copy}, not {digest}");
                return Err(Failure::new(FailureKind::Usage, what));
            }
        };
        let previous_digest = previous.map(|previous| previous.digest);
        let mut plan = if previous_digest.as_ref() == Some(&root.digest) {
            CopyPlan::unchanged(head.digest, root.digest)
        } else {
            self.plan_image(head.digest, root, role).await?
        };
        plan.outcome.previous_digest = previous_digest;
        plan.outcome.left_out = left_out;
        self.plan_referrers(&mut plan).await?;
        Ok(plan)
    }

    async fn resolve_source(&self) -> Result<ManifestDescriptor, Failure> {
        let mut head = self.source.head_manifest(&self.request.from).await?;
        // Some registries answer 404 to the HEAD request of a tag that they have.
        if head.is_none() && matches!(self.request.from, Reference::Tag(_)) {
            let fetched = self.source.fetch_manifest(&self.request.from).await?;
            head = fetched.map(Into::into);
        }
        head.ok_or_else(|| {
            let what = format!("source: there is no {}", self.source_image());
            Failure {
                is_missing_image: true,
                ..Failure::new(FailureKind::Source, what)
            }
        })
    }

    /// Resolves the name at the target. Where platforms are left out, the manifest is fetched,
    /// since only its bytes tell what it was made from.
    async fn resolve_target(&self) -> Result<Option<KnownManifest>, Failure> {
        let CopyRequest { to, platforms, .. } = self.request;
        Ok(if platforms.is_empty() {
            let head = self.target.head_manifest(to).await?;
            head.map(|head| head.digest.into())
        } else {
            self.target.fetch_manifest(to).await?.map(Into::into)
        })
    }

    /// Returns the manifest that is to be at the target, and the platforms that were left out of
    /// it.
    async fn plan_root(
        &self,
        head: &ManifestDescriptor,
        previous: Option<&KnownManifest>,
    ) -> Result<(KnownManifest, Vec<String>), Failure> {
        let platforms = &self.request.platforms;
        let media_type = head.media_type.as_deref();
        if platforms.is_empty() || media_type.is_some_and(media::is_image_manifest) {
            return Ok((head.digest.clone().into(), Vec::new()));
        }
        let current = previous.and_then(|previous| previous.manifest.as_ref());
        if let Some(current) = current
            && let Some(original) = platform_filter::unfiltered_digest(current, platforms)
            && original == head.digest
        {
            return Ok((current.digest.clone().into(), Vec::new()));
        }
        // The target may have the whole index from an earlier copy of all platforms.
        let whole = match current.filter(|current| current.digest == head.digest) {
            Some(current) => current.clone(),
            None => self.read_from_source(&head.digest).await?,
        };
        let filtered = platform_filter::filter_index(&whole, platforms);
        let FilteredIndex { index, left_out } = filtered.map_err(|what| {
            let what = format!("source: {}: {what}", self.source_image());
            Failure::new(FailureKind::Source, what)
        })?;
        Ok((index.into(), left_out))
    }

    /// Returns the name of the image at the source: `host/repository:tag`, or with a digest.
    fn source_image(&self) -> String {
        let name = self.source.name();
        match &self.request.from {
            Reference::Tag(tag) => format!("{name}:{tag}"),
            Reference::Digest(digest) => format!("{name}@{digest}"),
        }
    }
}

impl CopyPlan {
    /// Returns the plan for an image that needs nothing.
    pub(super) fn unchanged(source_digest: Digest, digest: Digest) -> Self {
        Self {
            outcome: CopyOutcome::unchanged(source_digest, digest),
            blobs: Vec::new(),
            child_manifests: Vec::new(),
            root_manifest: None,
            referrers: Vec::new(),
        }
    }
}

/// Parses the bytes of a manifest.
pub(super) fn parse_manifest(manifest: &VerifiedManifest) -> Result<Manifest, ParseError> {
    let parsed = Manifest::parse(&manifest.bytes, Some(&manifest.media_type));
    parsed.map(|(_, manifest)| manifest)
}
