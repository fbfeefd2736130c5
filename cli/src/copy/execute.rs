//! Executes a plan: blobs first, then child manifests, referrers, and the tag last. So a tag at the
//! target implies everything below it, and an interrupted copy leaves no tag that does not. Start
//! reading at [`CopyExecutor::execute`].

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt, TryStreamExt};
use imgsync_oci::{Descriptor, Digest, Repository, Tag};

use super::plan::{CopyPair, CopyPlan, ReferrerPlan};
use super::referrers::needs_referrer_query;
use crate::exit::Failure;
use crate::plan::{BlobStep, PlanTotals};
use crate::report::{CopyOutcome, Report};
use crate::transports::{BeforeTagHook, CopyRequest, ManifestRole, VerifiedManifest};
use crate::upload::{PendingBlob, UploadOutcome};

/// Blobs of one image that are copied at the same time; how many of them send bytes is limited by
/// the writer of the target.
const MAX_CONCURRENT_BLOBS: usize = 16;

/// Returns what a plan would come to.
pub(super) fn preview(plan: &CopyPlan) -> CopyOutcome {
    let mut outcome = plan.outcome.clone();
    add_expected(plan, &mut outcome);
    outcome
}

fn add_expected(plan: &CopyPlan, outcome: &mut CopyOutcome) {
    let totals = PlanTotals::of(plan.blobs.iter().map(|(_, step)| step));
    outcome.sent = outcome.sent.saturating_add(totals.send);
    outcome.saved = outcome.saved.saturating_add(totals.saved);
    outcome.mounted = outcome.mounted.saturating_add(totals.mounted);
    for referrer in &plan.referrers {
        add_expected(&referrer.plan, outcome);
        add_referrer(referrer, outcome);
    }
}

fn add_referrer(referrer: &ReferrerPlan, outcome: &mut CopyOutcome) {
    match &referrer.tag {
        Some(tag) => {
            let tagged = (tag.clone(), referrer.plan.outcome.digest.clone());
            outcome.referrer_tags.push(tagged);
        }
        None => outcome.referrer_count += 1,
    }
}

/// Executes plans between a source and a target.
pub(super) struct CopyExecutor<'a> {
    pub(super) pair: CopyPair<'a>,
    pub(super) report: &'a Arc<dyn Report>,
    pub(super) before_tag: &'a BeforeTagHook,
}

impl CopyExecutor<'_> {
    /// Executes a plan. On success the image is at the target.
    ///
    /// # Errors
    /// Returns the first failure of the source, the target, or the hook that runs before each tag.
    pub(super) async fn execute(
        &self,
        plan: &CopyPlan,
        request: &CopyRequest,
    ) -> Result<CopyOutcome, Failure> {
        let CopyPair { cache, target, .. } = self.pair;
        let mut outcome = plan.outcome.clone();
        let image = &plan.outcome.digest;
        self.execute_plan(plan, image, &mut outcome).await?;
        if needs_referrer_query(request.referrers, outcome.change) {
            cache.mark_referrers_copied(target.name(), image);
        }
        Ok(outcome)
    }

    /// Executes the plan of `image` itself, or of one of its referrers.
    fn execute_plan<'a>(
        &'a self,
        plan: &'a CopyPlan,
        image: &'a Digest,
        outcome: &'a mut CopyOutcome,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let CopyPair { cache, target, .. } = self.pair;
            let copies = plan.blobs.iter().map(|(blob, step)| async move {
                let uploaded = self.copy_blob(blob, step).await?;
                Ok::<_, Failure>((blob.size, uploaded))
            });
            let copies: Vec<_> = copies.collect();
            let mut copies = stream::iter(copies).buffer_unordered(MAX_CONCURRENT_BLOBS);
            while let Some((size, uploaded)) = copies.try_next().await? {
                match uploaded {
                    UploadOutcome::AlreadyPresent => outcome.saved += size,
                    UploadOutcome::Mounted => {
                        outcome.saved += size;
                        outcome.mounted += size;
                    }
                    UploadOutcome::Sent { bytes } => outcome.sent += bytes,
                }
            }
            for child in &plan.child_manifests {
                target.put_manifest(child, &ManifestRole::Child).await?;
                cache.mark_complete(target.name(), &child.digest);
            }
            for referrer in &plan.referrers {
                self.execute_plan(&referrer.plan, image, outcome).await?;
                add_referrer(referrer, outcome);
            }
            if let Some((root, role)) = &plan.root_manifest {
                if let Some((tag, list)) = self.put_root(root, role, image).await? {
                    // Each referrer that is added to a list moves the tag of the list.
                    outcome.referrer_tags.retain(|(other, _)| *other != tag);
                    outcome.referrer_tags.push((tag, list));
                }
                cache.mark_complete(target.name(), &root.digest);
            }
            Ok(())
        }
        .boxed()
    }

    /// Puts a manifest. Where that changed a list of referrers under a tag, returns the tag and the
    /// digest of the new list.
    async fn put_root(
        &self,
        manifest: &VerifiedManifest,
        role: &ManifestRole,
        image: &Digest,
    ) -> Result<Option<(Tag, Digest)>, Failure> {
        if let ManifestRole::Tagged(tag) = role {
            (self.before_tag)(tag, &manifest.digest, image)?;
        }
        self.pair.target.put_manifest(manifest, role).await?;
        match role {
            ManifestRole::Referrer { subject } => {
                self.add_to_referrers_list(subject, manifest, image).await
            }
            ManifestRole::Child | ManifestRole::Tagged(_) | ManifestRole::Untagged => Ok(None),
        }
    }

    /// Copies a blob, or waits until another image of the run has copied it.
    async fn copy_blob(
        &self,
        blob: &Descriptor,
        step: &BlobStep,
    ) -> Result<UploadOutcome, Failure> {
        let mount = match step {
            BlobStep::AlreadyPresent(_) | BlobStep::Duplicate => {
                return Ok(UploadOutcome::AlreadyPresent);
            }
            BlobStep::Mount { from, .. } => Some(from.clone()),
            BlobStep::SentByAnother { .. } | BlobStep::Send { .. } => None,
        };
        let CopyPair { cache, target, .. } = self.pair;
        let transfer = cache.blob_transfer(target.name(), &blob.digest);
        let mut uploaded = UploadOutcome::AlreadyPresent;
        let upload = transfer.transferred.get_or_try_init(|| async {
            uploaded = self.put_blob(blob, mount).await?;
            Ok::<(), Failure>(())
        });
        upload.await?;
        cache.record_blob_location(target.repository(), &blob.digest);
        Ok(uploaded)
    }

    async fn put_blob(
        &self,
        blob: &Descriptor,
        mount: Option<Repository>,
    ) -> Result<UploadOutcome, Failure> {
        let CopyPair { source, target, .. } = self.pair;
        let pending = PendingBlob {
            digest: blob.digest.clone(),
            size: blob.size,
            label: format!("blob {}", blob.digest.short()),
            source: source.locate_blob(blob).await?,
            mount,
        };
        target.put_blob(&pending, self.report).await
    }
}
