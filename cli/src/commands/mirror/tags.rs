//! Copies the selected tags to a target, records them, and prunes.

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;
use imgsync_oci::{Digest, Reference, Tag};

use super::prune::PruneRequest;
use super::{MirrorProgress, MirrorRunner, image_name};
use crate::exit::{Failure, FailureKind};
use crate::image::subject_of;
use crate::mirror::job::MirrorJob;
use crate::mirror::location::SourceLocation;
use crate::mirror::record::MirrorRecord;
use crate::mirror::selection::SkipReason;
use crate::report::{CopyOutcome, TagOutcome};
use crate::transports::{BeforeTagHook, CopyRequest, CopySource, CopyTarget};

/// After so many network failures, failed logins or rate limits in a row, the remaining tags are not
/// tried: each may take minutes, and would fail in the same way.
const MAX_CONSECUTIVE_FAILURES: usize = 8;

/// The images to copy.
pub(super) struct CopyBatch<'a> {
    pub(super) source: &'a dyn CopySource,
    pub(super) wanted: &'a [Reference],
    /// All tags of the source, where they were listed.
    pub(super) listed: Option<Arc<HashSet<Tag>>>,
    /// The tags that are not wanted, and the reasons.
    pub(super) skipped: &'a [(Tag, SkipReason)],
    /// The number of tags of which it is unknown whether they are wanted.
    pub(super) undated: usize,
    /// Whether the batch is one image and the whole command: then its failure is the command's.
    pub(super) is_alone: bool,
}

/// The copies of a batch so far.
#[derive(Default)]
struct BatchProgress {
    /// The first failure.
    failure: Option<Failure>,
    consecutive_failures: usize,
    finished: HashSet<Reference>,
    /// The digests of the images that are at the target now.
    images: HashSet<Digest>,
}

impl BatchProgress {
    fn add_failure(&mut self, failure: &Failure) {
        self.failure.get_or_insert_with(|| failure.clone());
        let is_systemic = matches!(
            failure.kind,
            FailureKind::Network | FailureKind::Authentication
        );
        if is_systemic || failure.is_rate_limited {
            self.consecutive_failures += 1;
        } else {
            self.consecutive_failures = 0;
        }
    }

    /// Returns whether the remaining tags are not worth trying.
    fn is_aborted(&self) -> bool {
        self.consecutive_failures >= MAX_CONSECUTIVE_FAILURES
    }
}

impl MirrorRunner<'_> {
    /// Copies the wanted tags, and prunes. Returns the first failure of a tag.
    ///
    /// # Errors
    /// The target cannot be used, or cannot keep what was written; the record cannot be used.
    pub(super) async fn copy_tags(
        &self,
        job: &MirrorJob,
        batch: CopyBatch<'_>,
        progress: &mut MirrorProgress,
    ) -> Result<Option<Failure>, Failure> {
        let Some(target) = self.open_target(job).await? else {
            return Ok(None);
        };
        // Images that are copied one by one are not pruned.
        let record = match &batch.listed {
            Some(_) => self.open_record(job)?.map(Arc::new),
            None => None,
        };
        // Read before the copies: the tags that this run copies are wanted.
        let mirrored = record.as_ref().map(|record| record.mirrored_tags());
        let copied = self
            .copy_batch(job, &batch, &*target, record.as_ref(), progress)
            .await;
        self.report_untried(job, &batch, &copied, progress);
        if job.prune
            && !copied.is_aborted()
            && let Some(record) = &record
        {
            let request = PruneRequest {
                target: &*target,
                record,
                mirrored: mirrored.unwrap_or_default(),
                batch: &batch,
                wanted_images: copied.failure.is_none().then_some(&copied.images),
            };
            self.prune(job, request, progress).await?;
        }
        if !self.settings.is_dry_run {
            target.finish().await?;
            if let Some(record) = &record {
                record.write()?;
            }
        }
        Ok(copied.failure)
    }

    /// Copies tags, several at a time, until all are done or too many failed in a row.
    async fn copy_batch(
        &self,
        job: &MirrorJob,
        batch: &CopyBatch<'_>,
        target: &dyn CopyTarget,
        record: Option<&Arc<MirrorRecord>>,
        progress: &mut MirrorProgress,
    ) -> BatchProgress {
        let copies = batch.wanted.iter().map(|from| {
            let request = self.copy_request(job, from, batch.listed.clone(), record);
            async move {
                let copied = self.copy(batch.source, target, &request).await;
                (request, copied)
            }
        });
        let (copies, concurrency) = (
            futures::stream::iter(copies),
            self.settings.max_concurrent_tags,
        );
        // A preview is shown in order.
        let mut copies = if self.settings.is_dry_run {
            copies.buffered(concurrency).boxed()
        } else {
            copies.buffer_unordered(concurrency).boxed()
        };
        let mut batch_progress = BatchProgress::default();
        while !batch_progress.is_aborted()
            && let Some((request, copied)) = copies.next().await
        {
            batch_progress.finished.insert(request.from.clone());
            let names = self.image_names(job, &request);
            match copied {
                Ok(copied) => {
                    batch_progress.consecutive_failures = 0;
                    batch_progress.images.insert(copied.digest.clone());
                    if let Some(record) = record {
                        settle(record, &request.to, &copied);
                    }
                    self.report_copied(progress, names, copied);
                }
                Err(failure) => {
                    batch_progress.add_failure(&failure);
                    if !batch.is_alone {
                        self.report_tag(progress, names, TagOutcome::Failed(failure));
                    }
                }
            }
        }
        batch_progress
    }

    /// Reports the tags that were not tried, after too many failures in a row.
    fn report_untried(
        &self,
        job: &MirrorJob,
        batch: &CopyBatch<'_>,
        copied: &BatchProgress,
        progress: &mut MirrorProgress,
    ) {
        let Some(first) = copied.failure.as_ref().filter(|_| copied.is_aborted()) else {
            return;
        };
        let count = copied.consecutive_failures;
        let what = format!("not tried: {count} images before it failed in the same way");
        let is_untried = |from: &&Reference| !copied.finished.contains(*from);
        for from in batch.wanted.iter().filter(is_untried) {
            let names = self.image_names(job, &self.copy_request(job, from, None, None));
            let failure = Failure::new(first.kind, what.clone());
            self.report_tag(progress, names, TagOutcome::Failed(failure));
        }
    }

    /// Copies one image, or finds out what that would come to.
    async fn copy(
        &self,
        source: &dyn CopySource,
        target: &dyn CopyTarget,
        request: &CopyRequest,
    ) -> Result<CopyOutcome, Failure> {
        if self.settings.is_dry_run {
            self.copier.preview(source, target, request).await
        } else {
            self.copier.copy(source, target, request).await
        }
    }

    /// Returns the names of an image at the source and the target.
    pub(super) fn image_names(&self, job: &MirrorJob, request: &CopyRequest) -> (String, String) {
        let source = image_name(&job.source(), &request.from);
        (source, image_name(&job.to.to_string(), &request.to))
    }

    /// Reports an image that is at the target, with the notes about it.
    pub(super) fn report_copied(
        &self,
        progress: &mut MirrorProgress,
        names: (String, String),
        copied: CopyOutcome,
    ) {
        for note in &copied.notes {
            self.report.note(&format!("{}: {note}", names.1));
        }
        self.report_tag(progress, names, TagOutcome::Present(Box::new(copied)));
    }

    /// Returns the request to copy one image.
    pub(super) fn copy_request(
        &self,
        job: &MirrorJob,
        from: &Reference,
        listed: Option<Arc<HashSet<Tag>>>,
        record: Option<&Arc<MirrorRecord>>,
    ) -> CopyRequest {
        let before_tag: Arc<BeforeTagHook> = match record {
            Some(record) => {
                let record = Arc::clone(record);
                Arc::new(move |tag, digest, image| {
                    let subject = subject_of(tag).is_some().then_some(image);
                    record.record_tag(tag, digest, subject)
                })
            }
            None => Arc::new(|_, _, _| Ok(())),
        };
        CopyRequest {
            from: from.clone(),
            to: match (&job.tag, &job.from) {
                (Some(tag), _) | (None, SourceLocation::Layout(_, Some(tag))) => {
                    Reference::Tag(tag.clone())
                }
                (None, _) => from.clone(),
            },
            platforms: job.platforms.clone(),
            referrers: job.referrers,
            listed,
            before_tag,
        }
    }
}

/// Records the tags that a copy wrote, now that it is done.
fn settle(record: &MirrorRecord, to: &Reference, copied: &CopyOutcome) {
    if let Reference::Tag(tag) = to {
        record.settle_tag(tag, &copied.digest, None);
    }
    for (tag, digest) in &copied.referrer_tags {
        record.settle_tag(tag, digest, Some(&copied.digest));
    }
}
