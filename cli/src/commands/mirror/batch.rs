//! Copies the selected tags to a target, records them, and prunes.

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;
use imgsync_oci::{Digest, Reference, Tag};

use super::prune::PruneRequest;
use super::{CopyBatch, MirrorProgress, MirrorRunner, image_names, is_systemic};
use crate::exit::Failure;
use crate::image::subject_of;
use crate::mirror::job::MirrorJob;
use crate::mirror::location::SourceLocation;
use crate::mirror::record::MirrorRecord;
use crate::report::{CopyOutcome, TagOutcome};
use crate::transports::{BeforeTagHook, CopyRequest, CopyTarget};

/// After so many network failures, failed logins or rate limits in a row, the remaining tags are not
/// tried: each may take minutes, and would fail in the same way.
const MAX_CONSECUTIVE_FAILURES: usize = 8;

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
        if is_systemic(failure) || failure.is_rate_limited {
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
    /// Copies the selected images, and prunes. Returns the first failure of an image.
    ///
    /// # Errors
    /// Fails if the target cannot store what was written, or if the record cannot be used.
    pub(super) async fn copy_batch(
        &self,
        job: &MirrorJob,
        batch: &CopyBatch<'_>,
        target: &dyn CopyTarget,
        progress: &mut MirrorProgress,
    ) -> Result<Option<Failure>, Failure> {
        // The tag of a single image is not pruned later.
        let record = match batch.tags {
            Some(_) => self.open_record(job)?.map(Arc::new),
            None => None,
        };
        // Read before the copies, because the tags that this run copies are selected.
        let mirrored = record.as_ref().map(|record| record.mirrored_tags());
        let copies = self.copy_all(job, batch, target, record.as_ref(), progress);
        let copied = copies.await;
        self.report_untried(job, batch, &copied, progress);
        if let (Some(record), Some(tags)) = (&record, batch.tags)
            && job.prune
            && !copied.is_aborted()
        {
            let request = PruneRequest {
                target,
                record,
                mirrored: mirrored.unwrap_or_default(),
                selected: batch.selected,
                tags,
                selected_images: copied.failure.is_none().then_some(&copied.images),
            };
            self.prune(job, request, progress).await;
        }
        if !self.settings.is_dry_run {
            target.finish().await?;
            if let Some(record) = &record {
                record.write()?;
            }
        }
        Ok(copied.failure)
    }

    /// Copies images, several at a time, until all are done or too many failed in a row.
    async fn copy_all(
        &self,
        job: &MirrorJob,
        batch: &CopyBatch<'_>,
        target: &dyn CopyTarget,
        record: Option<&Arc<MirrorRecord>>,
        progress: &mut MirrorProgress,
    ) -> BatchProgress {
        let listed = batch.tags.map(|tags| &tags.listed);
        let copies = batch.selected.iter().map(|from| {
            let request = self.copy_request(job, from, listed, record);
            async move {
                let copied = self.copy(batch, target, &request).await;
                (request, copied)
            }
        });
        let copies = futures::stream::iter(copies);
        let concurrency = self.settings.max_concurrent_tags;
        // A dry run prints the tags in order.
        let mut copies = if self.settings.is_dry_run {
            copies.buffered(concurrency).boxed()
        } else {
            copies.buffer_unordered(concurrency).boxed()
        };
        let mut batch_progress = BatchProgress::default();
        while !batch_progress.is_aborted()
            && let Some((request, copied)) = copies.next().await
        {
            let names = image_names(job, &request.from, &request.to);
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
            batch_progress.finished.insert(request.from);
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
        let what = format!("not tried: the {count} images before it failed in the same way");
        let selected = batch.selected.iter();
        for from in selected.filter(|from| !copied.finished.contains(from)) {
            let names = image_names(job, from, &target_reference(job, from));
            let failure = Failure::new(first.kind, what.clone());
            self.report_tag(progress, names, TagOutcome::Failed(failure));
        }
    }

    /// Copies one image, or in a dry run finds out what would be copied.
    async fn copy(
        &self,
        batch: &CopyBatch<'_>,
        target: &dyn CopyTarget,
        request: &CopyRequest,
    ) -> Result<CopyOutcome, Failure> {
        if self.settings.is_dry_run {
            self.copier.preview(batch.source, target, request).await
        } else {
            self.copier.copy(batch.source, target, request).await
        }
    }

    /// Reports an image that is at the target, with its notes.
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
        listed: Option<&Arc<HashSet<Tag>>>,
        record: Option<&Arc<MirrorRecord>>,
    ) -> CopyRequest {
        let record = record.cloned();
        let before_tag: Arc<BeforeTagHook> = Arc::new(move |tag, digest, image| match &record {
            Some(record) => {
                let subject = subject_of(tag).is_some().then_some(image);
                record.record_tag(tag, digest, subject)
            }
            None => Ok(()),
        });
        CopyRequest {
            from: from.clone(),
            to: target_reference(job, from),
            platforms: job.platforms.clone(),
            referrers: job.referrers,
            listed: listed.cloned(),
            before_tag,
        }
    }
}

/// Returns the tag or digest that an image gets at the target.
fn target_reference(job: &MirrorJob, from: &Reference) -> Reference {
    match (&job.tag, &job.from) {
        (Some(tag), _) | (None, SourceLocation::Layout(_, Some(tag))) => {
            Reference::Tag(tag.clone())
        }
        (None, _) => from.clone(),
    }
}

/// Records that the tags of a copy are written.
fn settle(record: &MirrorRecord, to: &Reference, copied: &CopyOutcome) {
    if let Reference::Tag(tag) = to {
        record.settle_tag(tag, &copied.digest, None);
    }
    for (tag, digest) in &copied.referrer_tags {
        record.settle_tag(tag, digest, Some(&copied.digest));
    }
}
