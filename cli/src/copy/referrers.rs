//! What speaks about an image: signatures, attestations, lists of parts; by tags of cosign's scheme,
//! and by the `subject` of other manifests.

use std::collections::HashSet;

use futures::future::{BoxFuture, FutureExt};
use imgsync_oci::{Descriptor, Digest, Manifest, Reference, Tag};

use super::plan::{CopyPair, CopyPlan, ReferrerPlan};
use crate::exit::{Failure, FailureKind};
use crate::image::referrer_tags;
use crate::report::CopyChange;
use crate::transports::{CopyRequest, ManifestRole, ReferrersPolicy};

/// A signature of a list of parts of an image: further nobody goes.
const MAX_REFERRER_DEPTH: usize = 3;

/// The most that speaks about one image and its parts.
const MAX_REFERRERS: usize = 2000;
/// The most bytes of manifests that it may hold in memory.
const MAX_REFERRER_MANIFEST_BYTES: usize = 16 * 1024 * 1024;

/// What speaks about an image, as it is found.
#[derive(Default)]
struct FoundReferrers {
    plans: Vec<ReferrerPlan>,
    bytes: usize,
    /// What people should hear of.
    notes: Vec<String>,
}

impl FoundReferrers {
    fn add(&mut self, companion: ReferrerPlan) -> Result<(), Failure> {
        let CopyPlan {
            child_manifests: parts,
            root_manifest: last,
            ..
        } = &companion.plan;
        let held = parts.iter().chain(last.iter().map(|(held, _)| held));
        self.bytes += held.map(|held| held.bytes.len()).sum::<usize>();
        if self.plans.len() == MAX_REFERRERS || self.bytes > MAX_REFERRER_MANIFEST_BYTES {
            let what = "source: more speaks about the image than about any that is meant well";
            let failure = Failure::new(FailureKind::Source, what);
            return Err(failure.with_hint("to leave all of it, pass --referrers none"));
        }
        self.plans.push(companion);
        Ok(())
    }
}

/// Whether the source is asked for all that speaks about an image: when its tag is right already
/// only where that is asked for.
pub(super) fn needs_referrer_query(companions: ReferrersPolicy, change: CopyChange) -> bool {
    match companions {
        ReferrersPolicy::Skip => false,
        ReferrersPolicy::New => matches!(change, CopyChange::Tag | CopyChange::Image),
        ReferrersPolicy::All => true,
    }
}

impl CopyPair<'_> {
    /// Adds what speaks about the image and its parts.
    pub(super) async fn plan_referrers(
        &self,
        plan: &mut CopyPlan,
        wish: &CopyRequest,
    ) -> Result<(), Failure> {
        let is_left = wish.referrers == ReferrersPolicy::Skip;
        if is_left
            || self
                .cache
                .has_copied_referrers(self.target.name(), &plan.digest)
        {
            return Ok(());
        }
        let listed = wish.listed.as_deref();
        let asks = needs_referrer_query(wish.referrers, plan.change);
        let mut subjects = Vec::new();
        if plan.source_digest == plan.digest {
            subjects.push(plan.source_digest.clone());
        } else if asks && self.has_referrers(&plan.source_digest, listed).await? {
            plan.notes.push(format!(
                "what speaks about the whole index {} stays at the source: without some of its \
                 platforms it is another one",
                plan.source_digest
            ));
        }
        if asks {
            subjects.extend(self.child_digests(plan).await?);
        }
        let mut found = FoundReferrers::default();
        for subject in &subjects {
            // Of an image that is there already those that are listed cost one request each, as
            // any tag; others would have to be guessed.
            if asks || listed.is_some() {
                for tag in referrer_tags::cosign_tags(subject, listed) {
                    if let Some(companion) = self.plan_cosign_tag(tag).await? {
                        found.add(companion)?;
                    }
                }
            }
            if asks {
                self.plan_referrer_manifests(subject, 0, &mut found).await?;
            }
        }
        let is_new = |companion: &ReferrerPlan| companion.plan.change != CopyChange::Nothing;
        if plan.change == CopyChange::Nothing && found.plans.iter().any(is_new) {
            plan.change = CopyChange::Referrers;
        }
        plan.referrers = found.plans;
        plan.notes.extend(found.notes);
        Ok(())
    }

    /// Whether the source has anything that speaks about a manifest.
    async fn has_referrers(
        &self,
        subject: &Digest,
        listed: Option<&HashSet<Tag>>,
    ) -> Result<bool, Failure> {
        let is_listed =
            listed.is_some_and(|_| !referrer_tags::cosign_tags(subject, listed).is_empty());
        Ok(is_listed || !self.source.list_referrers(subject).await?.is_empty())
    }

    /// The manifests right below the image. Those that the target has already count too: an earlier
    /// copy may have ended before it came to what speaks about them.
    async fn child_digests(&self, plan: &CopyPlan) -> Result<Vec<Digest>, Failure> {
        let held = match &plan.root_manifest {
            Some((held, _)) => Some(held.clone()),
            None => self.read_from_target(&plan.digest).await?,
        };
        let Some(held) = held else {
            return Ok(Vec::new());
        };
        let parsed = Manifest::parse(&held.bytes, Some(&held.media_type));
        let children = parsed.map(|(_, manifest)| manifest.children().manifests);
        let children = children.unwrap_or_default().into_iter();
        Ok(children.map(|child| child.digest).collect())
    }

    /// What a tag of cosign's scheme names, where it is there.
    async fn plan_cosign_tag(&self, tag: Tag) -> Result<Option<ReferrerPlan>, Failure> {
        let reference = Reference::Tag(tag.clone());
        let Some(head) = self.source.head_manifest(&reference).await? else {
            return Ok(None);
        };
        let before = self.target.head_manifest(&reference).await?;
        let mut plan = match &before {
            Some(before) if before.digest == head.digest => {
                CopyPlan::unchanged(head.digest.clone(), head.digest)
            }
            Some(_) | None => {
                let role = ManifestRole::Tagged(tag.clone());
                self.plan_image(head.digest.clone(), Err(head.digest), role)
                    .await?
            }
        };
        plan.previous_digest = before.map(|before| before.digest);
        Ok(Some(ReferrerPlan {
            tag: Some(tag),
            plan,
        }))
    }

    /// What speaks about a manifest by its `subject` at the target, by whoever keeps the list.
    async fn target_referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, Failure> {
        if let Some(listed) = self.target.list_referrers(subject).await? {
            return Ok(listed);
        }
        let Some(tag) = referrer_tags::fallback_tag(subject) else {
            return Ok(Vec::new());
        };
        let held = self.target.fetch_manifest(&Reference::Tag(tag)).await?;
        let parsed = held.map(|held| Manifest::parse(&held.bytes, Some(&held.media_type)));
        Ok(match parsed {
            Some(Ok((_, manifest))) => manifest.children().manifests,
            Some(Err(_)) | None => Vec::new(),
        })
    }

    /// What speaks about a manifest by its `subject`, and what speaks about that.
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
                if !listed.iter().any(|it| it.digest == digest) {
                    // Lists under tags are kept by hand, and outlive what they name.
                    let Some(held) = self.find_at_source(&digest).await? else {
                        let note = format!("{digest}, which is to speak about it, is not there");
                        found.notes.push(note);
                        continue;
                    };
                    let role = ManifestRole::Referrer {
                        subject: subject.clone(),
                    };
                    let plan = self.plan_image(digest.clone(), Ok(held), role).await?;
                    found.add(ReferrerPlan { tag: None, plan })?;
                }
                // What is there already may have got company since, or lack it from a run that was
                // cut off.
                if depth + 1 < MAX_REFERRER_DEPTH {
                    self.plan_referrer_manifests(&digest, depth + 1, found)
                        .await?;
                }
            }
            Ok(())
        }
        .boxed()
    }
}
