//! Executes a plan: blobs first, then child manifests, referrers, and the tag last. So a tag at the
//! target implies everything below it, and an interrupted copy leaves no tag that does not. Start
//! reading at [`ImageCopy::execute`].

use std::sync::atomic::Ordering;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt, TryStreamExt};
use imgsync_oci::{Descriptor, Digest, Tag};

use super::plan::{CopyPlan, ImageCopy, ReferrerPlan};
use crate::exit::Failure;
use crate::plan::{BlobStep, PlanTotals};
use crate::report::CopyOutcome;
use crate::transports::{ManifestRole, VerifiedManifest};
use crate::upload::{PendingBlob, UploadOutcome};

/// Blobs of one image that are copied at the same time; how many of them send bytes is limited by
/// the writer of the target.
const MAX_CONCURRENT_BLOBS: usize = 16;

impl CopyPlan {
    /// Returns the expected outcome of the plan.
    pub(super) fn preview(&self) -> CopyOutcome {
        let mut outcome = self.outcome.clone();
        self.add_expected(&mut outcome);
        outcome
    }

    fn add_expected(&self, outcome: &mut CopyOutcome) {
        let totals = PlanTotals::of(self.blobs.iter().map(|(_, step)| step));
        outcome.sent = outcome.sent.saturating_add(totals.send);
        outcome.saved = outcome.saved.saturating_add(totals.saved);
        outcome.mounted = outcome.mounted.saturating_add(totals.mounted);
        for referrer in &self.referrers {
            referrer.plan.add_expected(outcome);
            add_referrer(referrer, outcome);
        }
    }
}

fn add_referrer(referrer: &ReferrerPlan, outcome: &mut CopyOutcome) {
    match &referrer.tag {
        Some(tag) => {
            let digest = referrer.plan.outcome.digest.clone();
            outcome.referrer_tags.push((tag.clone(), digest));
        }
        None => outcome.referrer_count += 1,
    }
}

impl ImageCopy<'_> {
    /// Executes a plan. On success the image is at the target.
    ///
    /// # Errors
    /// Returns the first failure of the source, the target, or the hook that runs before each tag.
    pub(super) async fn execute(&self, plan: &CopyPlan) -> Result<CopyOutcome, Failure> {
        let mut outcome = plan.outcome.clone();
        let image = &plan.outcome.digest;
        self.execute_plan(plan, image, &mut outcome).await?;
        if self.needs_referrer_query(outcome.change) {
            let state = self.cache.image(self.target.name(), image);
            state.has_copied_referrers.store(true, Ordering::Relaxed);
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
                    UploadOutcome::Sent { bytes, resent } => {
                        outcome.sent += bytes;
                        outcome.resent += resent;
                    }
                }
            }
            for child in &plan.child_manifests {
                self.put_manifest(child, &ManifestRole::Child).await?;
            }
            for referrer in &plan.referrers {
                self.execute_plan(&referrer.plan, image, outcome).await?;
                add_referrer(referrer, outcome);
            }
            if let Some((root, role)) = &plan.root_manifest
                && let Some((tag, list)) = self.put_root(root, role, image).await?
            {
                // Each referrer that is added to a list moves the tag of the list.
                outcome.referrer_tags.retain(|(other, _)| *other != tag);
                outcome.referrer_tags.push((tag, list));
            }
            Ok(())
        }
        .boxed()
    }

    async fn put_manifest(
        &self,
        manifest: &VerifiedManifest,
        role: &ManifestRole,
    ) -> Result<(), Failure> {
        self.target.put_manifest(manifest, role).await?;
        let state = self.cache.image(self.target.name(), &manifest.digest);
        state.is_complete.store(true, Ordering::Relaxed);
        Ok(())
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
            (self.request.before_tag)(tag, &manifest.digest, image)?;
        }
        self.put_manifest(manifest, role).await?;
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
            BlobStep::SentByAnother { .. } | BlobStep::Send { .. } | BlobStep::Verify { .. } => {
                None
            }
        };
        let is_known_missing = !matches!(step, BlobStep::SentByAnother { .. });
        let transfer = self.cache.blob_transfer(self.target.name(), &blob.digest);
        let mut uploaded = UploadOutcome::AlreadyPresent;
        let upload = transfer.transferred.get_or_try_init(|| async {
            let pending = PendingBlob {
                digest: blob.digest.clone(),
                size: blob.size,
                label: format!("blob {}", blob.digest.short()),
                source: self.source.locate_blob(blob).await?,
                mount,
                is_known_missing,
            };
            uploaded = self.target.put_blob(&pending, self.report).await?;
            Ok::<(), Failure>(())
        });
        upload.await?;
        let location = self.target.repository();
        self.cache.record_blob_location(location, &blob.digest);
        Ok(uploaded)
    }
}
