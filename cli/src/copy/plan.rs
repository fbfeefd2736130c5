//! What a copy has to do, found out by asking both ends: data that can be shown, and carried out.
//! Nothing is changed anywhere, no blob is read, and no manifest that the target has.

use imgsync_oci::{Descriptor, Digest, Reference, Repository, Tag, media};

use super::platform_filter::{self, FilteredIndex};
use super::run_cache::RunCache;
use crate::exit::{Failure, FailureKind};
use crate::report::CopyChange;
use crate::transports::{
    CopyRequest, CopySource, CopyTarget, ManifestDescriptor, ManifestRole, VerifiedManifest,
};

/// Everything that is to be done for one image.
#[derive(Debug, Clone)]
pub(super) struct CopyPlan {
    /// The digest at the source.
    pub(super) source_digest: Digest,
    /// The manifest's digest at the target.
    pub(super) digest: Digest,
    /// What the tag names at the target now.
    pub(super) previous_digest: Option<Digest>,
    pub(super) change: CopyChange,
    /// The blobs that the new manifests need, each once.
    pub(super) blobs: Vec<BlobStep>,
    /// The manifests that are put before the last, in order.
    pub(super) child_manifests: Vec<VerifiedManifest>,
    /// The manifest that is put at last, and as what; `None` where that is so already.
    pub(super) root_manifest: Option<(VerifiedManifest, ManifestRole)>,
    /// What speaks about the image; put before the last manifest, so that who finds the image finds
    /// its signature.
    pub(super) referrers: Vec<ReferrerPlan>,
    pub(super) left_out: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// Something that speaks about an image.
#[derive(Debug, Clone)]
pub(super) struct ReferrerPlan {
    /// Its tag, where it is found by that.
    pub(super) tag: Option<Tag>,
    pub(super) plan: CopyPlan,
}

/// What happens to a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlobStep {
    pub(super) blob: Descriptor,
    pub(super) action: BlobAction,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BlobAction {
    /// The target holds it.
    AlreadyPresent,
    /// Another image of this run brings it.
    SentByAnother,
    /// It is sent, or linked from that repository of the same registry.
    Send(Option<Repository>),
}

/// Two ends, and what is known of them.
#[derive(Clone, Copy)]
pub(super) struct CopyPair<'a> {
    pub(super) cache: &'a RunCache,
    pub(super) source: &'a dyn CopySource,
    pub(super) target: &'a dyn CopyTarget,
    /// Whether a manifest at the target stands for all that it needs; registries that lose blobs
    /// exist.
    pub(super) is_target_trusted: bool,
}

/// What is under the two names now.
#[derive(Debug, Clone)]
pub(super) struct ResolvedNames {
    pub(super) head: ManifestDescriptor,
    previous: Option<CurrentTarget>,
}

/// What is to be there under `to`.
struct RootPlan {
    head: Digest,
    manifest: RootState,
    left_out: Vec<String>,
}

enum RootState {
    /// The target has it under that name.
    UpToDate(Digest),
    /// It is to be put; perhaps the target has it under another name.
    Fetched(Box<VerifiedManifest>),
    /// The same, and its bytes were not needed yet.
    Unfetched(Digest),
}

impl CopyPair<'_> {
    /// Looks at both ends: a request each, and no more are needed where nothing has changed.
    pub(super) async fn resolve_names(&self, wish: &CopyRequest) -> Result<ResolvedNames, Failure> {
        let (head, before) =
            futures::try_join!(self.resolve_source(&wish.from), self.resolve_target(wish))?;
        Ok(ResolvedNames {
            head,
            previous: before,
        })
    }

    /// Finds out what is to be done. Chains of companions are followed to a small depth.
    pub(super) async fn plan(
        &self,
        wish: &CopyRequest,
        look: ResolvedNames,
    ) -> Result<CopyPlan, Failure> {
        let ResolvedNames {
            head,
            previous: before,
        } = look;
        let root = self.plan_root(wish, head, before.as_ref()).await?;
        let digest = match &root.manifest {
            RootState::UpToDate(digest) | RootState::Unfetched(digest) => digest.clone(),
            RootState::Fetched(held) => held.digest.clone(),
        };
        if let Reference::Digest(wanted) = &wish.to
            && *wanted != digest
        {
            let what =
                format!("target: what is copied is {digest} there, and cannot be named {wanted}");
            return Err(Failure::new(FailureKind::Usage, what));
        }
        let role = match &wish.to {
            Reference::Tag(tag) => ManifestRole::Tagged(tag.clone()),
            Reference::Digest(_) => ManifestRole::Untagged,
        };
        let mut plan = match root.manifest {
            RootState::UpToDate(digest) => CopyPlan::unchanged(root.head, digest),
            RootState::Unfetched(digest) => self.plan_image(root.head, Err(digest), role).await?,
            RootState::Fetched(held) => self.plan_image(root.head, Ok(*held), role).await?,
        };
        plan.previous_digest = before.map(|held| held.digest);
        plan.left_out = root.left_out;
        self.plan_referrers(&mut plan, wish).await?;
        Ok(plan)
    }

    async fn resolve_source(&self, from: &Reference) -> Result<ManifestDescriptor, Failure> {
        self.source.head_manifest(from).await?.ok_or_else(|| {
            let name = image_name(self.source.name(), from);
            Failure::new(FailureKind::Source, format!("source: there is no {name}"))
        })
    }

    /// What is under the name at the target now; with its bytes where platforms are left out, for
    /// only those tell what it was made from.
    async fn resolve_target(&self, wish: &CopyRequest) -> Result<Option<CurrentTarget>, Failure> {
        if wish.platforms.is_empty() {
            let head = self.target.head_manifest(&wish.to).await?;
            return Ok(head.map(|head| CurrentTarget {
                digest: head.digest,
                manifest: None,
            }));
        }
        let held = self.target.fetch_manifest(&wish.to).await?;
        Ok(held.map(|held| CurrentTarget {
            digest: held.digest.clone(),
            manifest: Some(held),
        }))
    }

    /// What is to be there, with parts left out as they are asked for.
    async fn plan_root(
        &self,
        wish: &CopyRequest,
        head: ManifestDescriptor,
        before: Option<&CurrentTarget>,
    ) -> Result<RootPlan, Failure> {
        let right = |digest: &Digest| before.is_some_and(|tagged| tagged.digest == *digest);
        let as_it_is = |digest: Digest| match right(&digest) {
            true => RootState::UpToDate(digest),
            false => RootState::Unfetched(digest),
        };
        let is_image = head
            .media_type
            .as_deref()
            .is_some_and(media::is_image_manifest);
        if wish.platforms.is_empty() || is_image {
            return Ok(RootPlan {
                manifest: as_it_is(head.digest.clone()),
                head: head.digest,
                left_out: Vec::new(),
            });
        }
        let held = before.and_then(|tagged| tagged.manifest.as_ref());
        if let Some(held) = held
            && platform_filter::unfiltered_digest(held, &wish.platforms).as_ref()
                == Some(&head.digest)
        {
            return Ok(RootPlan {
                manifest: RootState::UpToDate(held.digest.clone()),
                head: head.digest,
                left_out: Vec::new(),
            });
        }
        // The whole index may be at the target, by an earlier copy of all of it.
        let whole = match held.filter(|held| held.digest == head.digest) {
            Some(held) => held.clone(),
            None => self.read_from_source(&head.digest).await?,
        };
        let sifted = platform_filter::filter_index(&whole, &wish.platforms).map_err(|what| {
            let name = image_name(self.source.name(), &wish.from);
            Failure::new(FailureKind::Source, format!("source: {name}: {what}"))
        })?;
        let FilteredIndex { index, left_out } = sifted;
        let manifest = match right(&index.digest) {
            true => RootState::UpToDate(index.digest),
            false => RootState::Fetched(Box::new(index)),
        };
        Ok(RootPlan {
            head: head.digest,
            manifest,
            left_out,
        })
    }
}

/// What is under a name at the target.
#[derive(Debug, Clone)]
struct CurrentTarget {
    digest: Digest,
    manifest: Option<VerifiedManifest>,
}

impl CopyPlan {
    pub(super) fn unchanged(source_digest: Digest, digest: Digest) -> Self {
        Self {
            source_digest,
            digest,
            previous_digest: None,
            change: CopyChange::Nothing,
            blobs: Vec::new(),
            child_manifests: Vec::new(),
            root_manifest: None,
            referrers: Vec::new(),
            left_out: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// `host/repository:tag`, or with `@` before a digest.
pub(super) fn image_name(end: &str, reference: &Reference) -> String {
    match reference {
        Reference::Tag(tag) => format!("{end}:{tag}"),
        Reference::Digest(digest) => format!("{end}@{digest}"),
    }
}
