//! Plans the copy of an image's referrers: signatures, attestations and SBOMs. They are found by
//! tags of cosign's scheme, and by the `subject` of other manifests.

use std::sync::atomic::Ordering;

use futures::future::{BoxFuture, FutureExt};
use imgsync_oci::{Descriptor, Digest, Reference, Tag};

use super::plan::{CopyPlan, ImageCopy, ReferrerPlan, parse_manifest};
use crate::exit::{Failure, FailureKind};
use crate::image::referrer_tags;
use crate::report::CopyChange;
use crate::transports::{ManifestRole, ReferrersPolicy, VerifiedManifest};

/// The greatest depth of referrers of referrers, for example the signature of an SBOM.
const MAX_REFERRER_DEPTH: usize = 3;

/// The most referrers of one image and the manifests in it.
const MAX_REFERRERS: usize = 2000;
/// The most bytes of their manifests that are held in memory.
const MAX_REFERRER_MANIFEST_BYTES: usize = 16 * 1024 * 1024;

/// The referrers that were found so far.
#[derive(Default)]
struct FoundReferrers {
    plans: Vec<ReferrerPlan>,
    bytes: usize,
    /// Notes for the user.
    notes: Vec<String>,
}

impl FoundReferrers {
    fn add(&mut self, referrer: ReferrerPlan) -> Result<(), Failure> {
        let plan = &referrer.plan;
        let root = plan.root_manifest.iter().map(|(manifest, _)| manifest);
        let manifests = plan.child_manifests.iter().chain(root);
        let sizes = manifests.map(|manifest| manifest.bytes.len());
        self.bytes += sizes.sum::<usize>();
        if self.plans.len() == MAX_REFERRERS || self.bytes > MAX_REFERRER_MANIFEST_BYTES {
            let what = format!(
                "source: the image has more than {MAX_REFERRERS} referrers, or their manifests are \
                 too large"
            );
            let failure = Failure::new(FailureKind::Source, what);
            return Err(
                failure.with_mirror_hint("pass --referrers none to copy the image without them")
            );
        }
        self.plans.push(referrer);
        Ok(())
    }
}

impl ImageCopy<'_> {
    /// Returns whether the source is asked for all referrers of an image. For an image that is
    /// already at the target, only [`ReferrersPolicy::All`] asks.
    pub(super) fn needs_referrer_query(&self, change: CopyChange) -> bool {
        match self.request.referrers {
            ReferrersPolicy::Skip => false,
            ReferrersPolicy::New => matches!(change, CopyChange::Tag | CopyChange::Image),
            ReferrersPolicy::All => true,
        }
    }

    /// Adds the referrers of the image and of the manifests in it to the plan.
    pub(super) async fn plan_referrers(&self, plan: &mut CopyPlan) -> Result<(), Failure> {
        let state = self.cache.image(self.target.name(), &plan.outcome.digest);
        if self.request.referrers == ReferrersPolicy::Skip
            || state.has_copied_referrers.load(Ordering::Relaxed)
        {
            return Ok(());
        }
        let needs_query = self.needs_referrer_query(plan.outcome.change);
        let mut subjects = Vec::new();
        let original = plan.outcome.source_digest.clone();
        if original == plan.outcome.digest {
            subjects.push(original);
        } else if needs_query && self.has_referrers(&original).await? {
            plan.outcome.notes.push(format!(
                "the referrers of the index {original} are not copied: the copy has fewer platforms, \
                 so it has another digest"
            ));
        }
        if needs_query {
            subjects.extend(self.child_digests(plan).await?);
        }
        let mut found = FoundReferrers::default();
        for subject in &subjects {
            // For an image that is already there, a listed tag costs one request, like any tag;
            // without a list the tags would have to be guessed.
            if needs_query || self.request.listed.is_some() {
                for tag in self.cosign_tags(subject) {
                    if let Some(referrer) = self.plan_cosign_tag(tag).await? {
                        found.add(referrer)?;
                    }
                }
            }
            if needs_query {
                self.plan_referrer_manifests(subject, 0, &mut found).await?;
            }
        }
        let is_new = |referrer: &ReferrerPlan| referrer.plan.outcome.change != CopyChange::Nothing;
        if plan.outcome.change == CopyChange::Nothing && found.plans.iter().any(is_new) {
            plan.outcome.change = CopyChange::Referrers;
        }
        plan.referrers = found.plans;
        plan.outcome.notes.extend(found.notes);
        Ok(())
    }

    /// Returns the tags of cosign's scheme for a manifest; those that the source has, if its tags
    /// are known.
    fn cosign_tags(&self, subject: &Digest) -> Vec<Tag> {
        referrer_tags::cosign_tags(subject, self.request.listed.as_deref())
    }

    /// Returns whether the source has any referrer of a manifest.
    async fn has_referrers(&self, subject: &Digest) -> Result<bool, Failure> {
        let has_tag = self.request.listed.is_some() && !self.cosign_tags(subject).is_empty();
        Ok(has_tag || !self.source.list_referrers(subject).await?.is_empty())
    }

    /// Returns the manifests right below the image. Those that the target has are included, since
    /// an earlier copy may have ended before it came to their referrers.
    async fn child_digests(&self, plan: &CopyPlan) -> Result<Vec<Digest>, Failure> {
        let root = match &plan.root_manifest {
            Some((root, _)) => Some(root.clone()),
            None => self.read_from_target(&plan.outcome.digest).await?,
        };
        let children = root.as_ref().map(child_manifests).unwrap_or_default();
        Ok(children.into_iter().map(|child| child.digest).collect())
    }

    /// Plans the copy of a tag of cosign's scheme, if the source has it.
    async fn plan_cosign_tag(&self, tag: Tag) -> Result<Option<ReferrerPlan>, Failure> {
        let reference = Reference::Tag(tag.clone());
        let Some(head) = self.source.head_manifest(&reference).await? else {
            return Ok(None);
        };
        let previous = self.target.head_manifest(&reference).await?;
        let previous = previous.map(|previous| previous.digest);
        let mut plan = if previous.as_ref() == Some(&head.digest) {
            CopyPlan::unchanged(head.digest.clone(), head.digest)
        } else {
            let role = ManifestRole::Tagged(tag.clone());
            let root = head.digest.clone().into();
            self.plan_image(head.digest, root, role).await?
        };
        plan.outcome.previous_digest = previous;
        Ok(Some(ReferrerPlan {
            tag: Some(tag),
            plan,
        }))
    }

    /// Returns the referrers of a manifest at the target, from its own list or the one under a tag.
    async fn target_referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, Failure> {
        if let Some(listed) = self.target.list_referrers(subject).await? {
            return Ok(listed);
        }
        let Some(tag) = referrer_tags::fallback_tag(subject) else {
            return Ok(Vec::new());
        };
        let list = self.target.fetch_manifest(&Reference::Tag(tag)).await?;
        Ok(list.as_ref().map(child_manifests).unwrap_or_default())
    }

    /// Plans the copy of the manifests with this `subject`, and of their own referrers.
    fn plan_referrer_manifests<'a>(
        &'a self,
        subject: &'a Digest,
        depth: usize,
        found: &'a mut FoundReferrers,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let all = self.source.list_referrers(subject).await?;
            if all.is_empty() {
                return Ok(());
            }
            let listed = self.target_referrers(subject).await?;
            for referrer in all {
                let digest = referrer.digest;
                let is_copied = listed.iter().any(|other| other.digest == digest);
                if !is_copied && !self.plan_referrer(subject, &digest, found).await? {
                    continue;
                }
                // A referrer that is already there may have new referrers, or lack some that an
                // interrupted run did not come to.
                if depth + 1 < MAX_REFERRER_DEPTH {
                    self.plan_referrer_manifests(&digest, depth + 1, found)
                        .await?;
                }
            }
            Ok(())
        }
        .boxed()
    }

    /// Plans the copy of one manifest. Returns `false`, and adds a note, where the source lacks it:
    /// lists under tags are kept by hand, and outlive the manifests in them.
    async fn plan_referrer(
        &self,
        subject: &Digest,
        digest: &Digest,
        found: &mut FoundReferrers,
    ) -> Result<bool, Failure> {
        let Some(manifest) = self.find_at_source(digest).await? else {
            let note = format!("the referrer {digest} is listed, but the source does not have it");
            found.notes.push(note);
            return Ok(false);
        };
        let role = ManifestRole::Referrer {
            subject: subject.clone(),
        };
        let plan = self
            .plan_image(digest.clone(), manifest.into(), role)
            .await?;
        found.add(ReferrerPlan { tag: None, plan })?;
        Ok(true)
    }
}

/// Returns the manifests that an index lists; none where it cannot be parsed.
fn child_manifests(index: &VerifiedManifest) -> Vec<Descriptor> {
    let parsed = parse_manifest(index);
    let manifests = parsed.map(|manifest| manifest.children().manifests);
    manifests.unwrap_or_default()
}
