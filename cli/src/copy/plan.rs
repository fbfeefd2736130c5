//! The plan of one copy, found out by asking source and target: data that can be shown and executed.
//! Planning changes nothing anywhere, reads no blob, and no manifest that the target has. Start
//! reading at [`CopyPlan`] and [`CopyPair::plan`].

use imgsync_oci::{Descriptor, Digest, Reference, Tag, media};

use super::platform_filter::{self, FilteredIndex};
use super::run_cache::RunCache;
use crate::exit::{Failure, FailureKind};
use crate::plan::BlobStep;
use crate::report::CopyOutcome;
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

/// A source and a target, and what the run knows about them.
#[derive(Clone, Copy)]
pub(super) struct CopyPair<'a> {
    pub(super) cache: &'a RunCache,
    pub(super) source: &'a dyn CopySource,
    pub(super) target: &'a dyn CopyTarget,
    /// Whether a manifest at the target implies everything below it; some registries lose blobs.
    pub(super) is_target_trusted: bool,
}

/// What the two names of a request point at now.
#[derive(Debug, Clone)]
pub(super) struct ResolvedNames {
    pub(super) head: ManifestDescriptor,
    previous: Option<CurrentTarget>,
}

/// What a name points at in the target.
#[derive(Debug, Clone)]
struct CurrentTarget {
    digest: Digest,
    /// The manifest, where it was fetched.
    manifest: Option<VerifiedManifest>,
}

/// The manifest that the target's name will point at.
struct RootPlan {
    digest: Digest,
    /// The manifest, where its bytes are known already.
    manifest: Option<VerifiedManifest>,
    left_out: Vec<String>,
}

impl RootPlan {
    fn unread(digest: Digest) -> Self {
        Self {
            digest,
            manifest: None,
            left_out: Vec::new(),
        }
    }
}

impl CopyPair<'_> {
    /// Resolves both names with one request each. No more are needed where nothing has changed.
    pub(super) async fn resolve_names(
        &self,
        request: &CopyRequest,
    ) -> Result<ResolvedNames, Failure> {
        let (source, target) = (
            self.resolve_source(&request.from),
            self.resolve_target(request),
        );
        let (head, previous) = futures::try_join!(source, target)?;
        Ok(ResolvedNames { head, previous })
    }

    /// Finds out what is to be done, referrers of referrers included up to a small depth.
    pub(super) async fn plan(
        &self,
        request: &CopyRequest,
        names: ResolvedNames,
    ) -> Result<CopyPlan, Failure> {
        let ResolvedNames { head, previous } = names;
        let source_digest = head.digest.clone();
        let root = self.plan_root(request, &head, previous.as_ref()).await?;
        let role = match &request.to {
            Reference::Tag(tag) => ManifestRole::Tagged(tag.clone()),
            Reference::Digest(wanted) if *wanted == root.digest => ManifestRole::Untagged,
            Reference::Digest(wanted) => {
                let digest = &root.digest;
                let what =
                    format!("target: the copy has the digest {digest}, and cannot be {wanted}");
                return Err(Failure::new(FailureKind::Usage, what));
            }
        };
        let previous_digest = previous.map(|previous| previous.digest);
        let mut plan = if previous_digest.as_ref() == Some(&root.digest) {
            CopyPlan::unchanged(source_digest, root.digest)
        } else {
            let manifest = root.manifest.ok_or(root.digest);
            self.plan_image(source_digest, manifest, role).await?
        };
        plan.outcome.previous_digest = previous_digest;
        plan.outcome.left_out = root.left_out;
        self.plan_referrers(&mut plan, request).await?;
        Ok(plan)
    }

    async fn resolve_source(&self, from: &Reference) -> Result<ManifestDescriptor, Failure> {
        self.source.head_manifest(from).await?.ok_or_else(|| {
            let name = image_name(self.source.name(), from);
            Failure::new(FailureKind::Source, format!("source: there is no {name}"))
        })
    }

    /// Resolves the name at the target. Where platforms are left out, the manifest is fetched, since
    /// only its bytes tell what it was made from.
    async fn resolve_target(
        &self,
        request: &CopyRequest,
    ) -> Result<Option<CurrentTarget>, Failure> {
        if request.platforms.is_empty() {
            let head = self.target.head_manifest(&request.to).await?;
            return Ok(head.map(|head| CurrentTarget {
                digest: head.digest,
                manifest: None,
            }));
        }
        let manifest = self.target.fetch_manifest(&request.to).await?;
        Ok(manifest.map(|manifest| CurrentTarget {
            digest: manifest.digest.clone(),
            manifest: Some(manifest),
        }))
    }

    /// Returns the manifest that is to be at the target, without the platforms that are left out.
    async fn plan_root(
        &self,
        request: &CopyRequest,
        head: &ManifestDescriptor,
        previous: Option<&CurrentTarget>,
    ) -> Result<RootPlan, Failure> {
        let media_type = head.media_type.as_deref();
        if request.platforms.is_empty() || media_type.is_some_and(media::is_image_manifest) {
            return Ok(RootPlan::unread(head.digest.clone()));
        }
        let current = previous.and_then(|previous| previous.manifest.as_ref());
        if let Some(current) = current
            && platform_filter::unfiltered_digest(current, &request.platforms).as_ref()
                == Some(&head.digest)
        {
            return Ok(RootPlan::unread(current.digest.clone()));
        }
        // The target may have the whole index from an earlier copy of all platforms.
        let whole = match current.filter(|current| current.digest == head.digest) {
            Some(current) => current.clone(),
            None => self.read_from_source(&head.digest).await?,
        };
        let filtered = platform_filter::filter_index(&whole, &request.platforms);
        let FilteredIndex { index, left_out } = filtered.map_err(|what| {
            let name = image_name(self.source.name(), &request.from);
            Failure::new(FailureKind::Source, format!("source: {name}: {what}"))
        })?;
        Ok(RootPlan {
            digest: index.digest.clone(),
            manifest: Some(index),
            left_out,
        })
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

/// Returns `host/repository:tag`, or `host/repository@digest`.
pub(super) fn image_name(place: &str, reference: &Reference) -> String {
    match reference {
        Reference::Tag(tag) => format!("{place}:{tag}"),
        Reference::Digest(digest) => format!("{place}@{digest}"),
    }
}
