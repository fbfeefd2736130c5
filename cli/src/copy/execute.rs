//! Carries a plan out: blobs, parts, what speaks about the image, and the tag at last. So a tag at
//! the target stands for everything, and a copy that ends early leaves none that does not.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{self, StreamExt, TryStreamExt};
use imgsync_oci::referrers::{self, ReferrersIndex};
use imgsync_oci::{Digest, Reference, Tag, media};

use super::plan::{BlobAction, BlobStep, CopyPair, CopyPlan, ReferrerPlan};
use super::referrers::needs_referrer_query;
use crate::exit::{Failure, FailureKind};
use crate::image::referrer_tags;
use crate::report::{CopyOutcome, Report};
use crate::transports::{BeforeTagHook, CopyRequest, ManifestRole, VerifiedManifest};
use crate::upload::{PendingBlob, UploadOutcome};

/// Blobs of one image that are under way at a time; how many of them move is the line's business.
const MAX_CONCURRENT_BLOBS: usize = 16;
/// The most referrers that a list under a tag names.
const MAX_LISTED_REFERRERS: usize = 1000;

/// What carrying out a plan came to, companions included.
#[derive(Debug, Default)]
struct CopyTotals {
    sent: u64,
    saved: u64,
    mounted: u64,
    referrer_tags: Vec<(Tag, Digest)>,
    referrer_count: usize,
}

/// What a plan would come to.
pub(super) fn preview(plan: CopyPlan) -> CopyOutcome {
    let mut sums = CopyTotals::default();
    add_expected(&plan, &mut sums);
    copy_outcome(plan, sums)
}

fn add_expected(plan: &CopyPlan, sums: &mut CopyTotals) {
    for step in &plan.blobs {
        let size = step.blob.size;
        match step.action {
            BlobAction::AlreadyPresent | BlobAction::SentByAnother => sums.saved += size,
            BlobAction::Send(Some(_)) => {
                sums.saved += size;
                sums.mounted += size;
            }
            BlobAction::Send(None) => sums.sent += size,
        }
    }
    for companion in &plan.referrers {
        add_expected(&companion.plan, sums);
        add_referrer(companion, sums);
    }
}

fn add_referrer(companion: &ReferrerPlan, sums: &mut CopyTotals) {
    match &companion.tag {
        Some(tag) => {
            let named = (tag.clone(), companion.plan.digest.clone());
            sums.referrer_tags.push(named);
        }
        None => sums.referrer_count += 1,
    }
}

fn copy_outcome(plan: CopyPlan, sums: CopyTotals) -> CopyOutcome {
    CopyOutcome {
        source_digest: plan.source_digest,
        digest: plan.digest,
        previous_digest: plan.previous_digest,
        change: plan.change,
        sent: sums.sent,
        saved: sums.saved,
        mounted: sums.mounted,
        referrer_tags: sums.referrer_tags,
        referrer_count: sums.referrer_count,
        left_out: plan.left_out,
        notes: plan.notes,
    }
}

/// Carries plans out between two ends.
pub(super) struct CopyExecutor<'a> {
    pub(super) pair: CopyPair<'a>,
    pub(super) report: &'a Arc<dyn Report>,
    pub(super) before_tag: &'a BeforeTagHook,
}

impl CopyExecutor<'_> {
    /// Does what the plan says. When this yields, the image is at the target.
    ///
    /// # Errors
    /// The first failure of either end, or of who is asked before a tag is put.
    pub(super) async fn execute(
        &self,
        plan: CopyPlan,
        wish: &CopyRequest,
    ) -> Result<CopyOutcome, Failure> {
        let mut sums = CopyTotals::default();
        self.execute_plan(&plan, &plan.digest, &mut sums).await?;
        let CopyPair {
            cache: memory,
            target,
            ..
        } = self.pair;
        if needs_referrer_query(wish.referrers, plan.change) {
            memory.mark_referrers_copied(target.name(), &plan.digest);
        }
        Ok(copy_outcome(plan, sums))
    }

    /// Carries out what belongs to `image`: its own plan, or that of what speaks about it.
    fn execute_plan<'a>(
        &'a self,
        plan: &'a CopyPlan,
        image: &'a Digest,
        sums: &'a mut CopyTotals,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let CopyPair {
                cache: memory,
                target,
                ..
            } = self.pair;
            let moving: Vec<_> = plan.blobs.iter().map(|step| self.copy_blob(step)).collect();
            let mut moving = stream::iter(moving).buffer_unordered(MAX_CONCURRENT_BLOBS);
            while let Some((step, moved)) = moving.try_next().await? {
                match moved {
                    UploadOutcome::AlreadyPresent => sums.saved += step.blob.size,
                    UploadOutcome::Mounted => {
                        sums.saved += step.blob.size;
                        sums.mounted += step.blob.size;
                    }
                    UploadOutcome::Sent { bytes } => sums.sent += bytes,
                }
            }
            for part in &plan.child_manifests {
                target.put_manifest(part, &ManifestRole::Child).await?;
                memory.mark_complete(target.name(), &part.digest);
            }
            for companion in &plan.referrers {
                self.execute_plan(&companion.plan, image, sums).await?;
                add_referrer(companion, sums);
            }
            if let Some((last, role)) = &plan.root_manifest {
                if let Some((tag, list)) = self.put(last, role, image).await? {
                    // Each that is added to a list moves its tag.
                    sums.referrer_tags.retain(|(other, _)| *other != tag);
                    sums.referrer_tags.push((tag, list));
                }
                memory.mark_complete(target.name(), &last.digest);
            }
            Ok(())
        }
        .boxed()
    }

    /// Puts a manifest; yields the tag of the list that it was added to, and what that names now.
    async fn put(
        &self,
        manifest: &VerifiedManifest,
        role: &ManifestRole,
        image: &Digest,
    ) -> Result<Option<(Tag, Digest)>, Failure> {
        let target = self.pair.target;
        if let ManifestRole::Tagged(tag) = role {
            (self.before_tag)(tag, &manifest.digest, image)?;
        }
        target.put_manifest(manifest, role).await?;
        match role {
            ManifestRole::Referrer { subject } => {
                self.add_to_referrers_list(subject, manifest, image).await
            }
            ManifestRole::Child | ManifestRole::Tagged(_) | ManifestRole::Untagged => Ok(None),
        }
    }

    /// Brings a blob, or waits until another image has brought it.
    async fn copy_blob<'a>(
        &self,
        step: &'a BlobStep,
    ) -> Result<(&'a BlobStep, UploadOutcome), Failure> {
        let CopyPair {
            cache: memory,
            source,
            target,
            ..
        } = self.pair;
        let blob = &step.blob;
        let mount = match &step.action {
            BlobAction::AlreadyPresent => return Ok((step, UploadOutcome::AlreadyPresent)),
            BlobAction::SentByAnother => None,
            BlobAction::Send(mount) => mount.clone(),
        };
        let known = memory.blob_transfer(target.name(), &blob.digest);
        let mut moved = UploadOutcome::AlreadyPresent;
        let moving = known.transferred.get_or_try_init(|| async {
            let outgoing = PendingBlob {
                digest: blob.digest.clone(),
                size: blob.size,
                label: format!("blob {}", blob.digest.short()),
                source: source.locate_blob(blob).await?,
                mount,
            };
            moved = target.put_blob(&outgoing, self.report).await?;
            Ok::<(), Failure>(())
        });
        moving.await?;
        memory.record_blob_location(target.repository(), &blob.digest);
        Ok((step, moved))
    }

    /// Adds a manifest to the list of those that speak about `subject`, where the target keeps none
    /// itself (OCI distribution-spec, "Pushing Manifests with Subject").
    async fn add_to_referrers_list(
        &self,
        subject: &Digest,
        manifest: &VerifiedManifest,
        image: &Digest,
    ) -> Result<Option<(Tag, Digest)>, Failure> {
        let CopyPair {
            cache: memory,
            target,
            ..
        } = self.pair;
        if target.list_referrers(subject).await?.is_some() {
            return Ok(None);
        }
        let Some(tag) = referrer_tags::fallback_tag(subject) else {
            return Ok(None);
        };
        let read = referrers::parse_referrer(&manifest.bytes, &manifest.digest);
        let referrer = match read {
            Ok(Some((about, referrer))) if about == *subject => referrer,
            // The source's list was wrong about it.
            Ok(Some(_) | None) | Err(_) => return Ok(None),
        };
        // One list at a time: each is read, added to and written.
        let _turn = memory.referrer_list_lock.lock().await;
        let reference = Reference::Tag(tag.clone());
        let before = target.fetch_manifest(&reference).await?;
        let mut all = match before {
            Some(held) => {
                let list: Result<ReferrersIndex, _> = serde_json::from_slice(&held.bytes);
                let list = list.map_err(|error| {
                    let what = format!("target: what {tag} names is no list of referrers: {error}");
                    Failure::new(FailureKind::Target, what)
                        .with_hint("--referrers none leaves it alone")
                });
                list?.manifests
            }
            None => Vec::new(),
        };
        if all.iter().any(|it| it.digest == referrer.digest) {
            return Ok(None);
        }
        if all.len() >= MAX_LISTED_REFERRERS {
            let what = format!("target: {tag} lists {MAX_LISTED_REFERRERS} manifests already");
            return Err(Failure::new(FailureKind::Target, what));
        }
        all.push(referrer);
        let bytes = serde_json::to_vec(&ReferrersIndex::of(all)).map_err(|error| {
            let what = format!("target: the list {tag} cannot be written: {error}");
            Failure::new(FailureKind::Target, what)
        })?;
        let list = VerifiedManifest {
            digest: Digest::of(&bytes),
            media_type: media::OCI_INDEX.to_owned(),
            bytes: bytes.into(),
        };
        (self.before_tag)(&tag, &list.digest, image)?;
        let role = ManifestRole::Tagged(tag.clone());
        target.put_manifest(&list, &role).await?;
        Ok(Some((tag, list.digest)))
    }
}
