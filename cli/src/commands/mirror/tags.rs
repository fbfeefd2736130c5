//! Brings the wanted tags to a target, writes down what was brought, and prunes.

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;
use imgsync_oci::{Reference, Tag};

use super::{MirrorProgress, MirrorRunner, image_name};
use crate::exit::{Failure, FailureKind};
use crate::image::subject_of;
use crate::mirror::job::MirrorJob;
use crate::mirror::location::SourceLocation;
use crate::mirror::record::MirrorRecord;
use crate::mirror::selection::SkipReason;
use crate::report::{CopyOutcome, TagOutcome};
use crate::transports::{BeforeTagHook, CopyRequest, CopySource, CopyTarget};

/// So many failures of the line or of logins, or of a registry that has had enough, in a row, and the
/// rest is not tried: each may take minutes, and ends alike.
const MAX_CONSECUTIVE_FAILURES: usize = 8;

/// What is to be brought.
pub(super) struct CopyBatch<'a> {
    pub(super) source: &'a dyn CopySource,
    pub(super) wanted: &'a [Reference],
    /// All tags that the source has, where they were asked for.
    pub(super) listed: Option<Arc<HashSet<Tag>>>,
    /// The tags that are not wanted, and why.
    pub(super) skipped: &'a [(Tag, SkipReason)],
    /// How many tags may be wanted, and nobody knows.
    pub(super) undated: usize,
    /// Whether this is one image, and all there is to do: then its failure is the command's.
    pub(super) is_alone: bool,
}

impl MirrorRunner<'_> {
    /// Brings the wanted tags, and prunes; yields the first tag's failure.
    ///
    /// # Errors
    /// The target takes nothing, or what it took does not stay; the record cannot be used.
    pub(super) async fn copy_tags(
        &self,
        job: &MirrorJob,
        bringing: CopyBatch<'_>,
        told: &mut MirrorProgress,
    ) -> Result<Option<Failure>, Failure> {
        let Some(target) = self.open_target(job).await? else {
            return Ok(None);
        };
        // What is brought one by one is none of a mirror's to prune.
        let record = match &bringing.listed {
            Some(_) => self.open_record(job)?.map(Arc::new),
            None => None,
        };
        // What it holds now: what this run brings is wanted.
        let brought = record
            .as_ref()
            .map(|record| record.mirrored_tags())
            .unwrap_or_default();
        let wishes = bringing.wanted.iter().map(|from| {
            let wish = self.copy_request(job, from, bringing.listed.clone(), record.as_ref());
            let target = &*target;
            async move {
                let copied = self.copy(bringing.source, target, &wish).await;
                (wish, copied)
            }
        });
        let mut failure = None;
        let mut in_a_row = 0;
        let mut done = HashSet::new();
        let mut images = HashSet::new();
        let (wishes, at_a_time) = (
            futures::stream::iter(wishes),
            self.settings.max_concurrent_tags,
        );
        // What is only told is told in order.
        let mut copies = match self.settings.is_dry_run {
            true => wishes.buffered(at_a_time).boxed(),
            false => wishes.buffer_unordered(at_a_time).boxed(),
        };
        while let Some((wish, copied)) = copies.next().await {
            let names = (
                image_name(&job.source(), &wish.from),
                image_name(&job.to.to_string(), &wish.to),
            );
            done.insert(wish.from.clone());
            match copied {
                Ok(copied) => {
                    in_a_row = 0;
                    images.insert(copied.digest.clone());
                    if let Some(record) = &record {
                        settle(record, &wish.to, &copied);
                    }
                    for note in &copied.notes {
                        self.report.note(&format!("{}: {note}", names.1));
                    }
                    self.report_tag(told, names, TagOutcome::Present(Box::new(copied)));
                }
                Err(error) => {
                    failure.get_or_insert_with(|| error.clone());
                    in_a_row = match error.kind {
                        FailureKind::Network | FailureKind::Authentication => in_a_row + 1,
                        _ if error.is_rate_limited => in_a_row + 1,
                        FailureKind::Usage
                        | FailureKind::Source
                        | FailureKind::Target
                        | FailureKind::Partial
                        | FailureKind::Interrupted
                        | FailureKind::Terminated => 0,
                    };
                    if !bringing.is_alone {
                        self.report_tag(told, names, TagOutcome::Failed(error));
                    }
                }
            }
            if in_a_row >= MAX_CONSECUTIVE_FAILURES {
                break;
            }
        }
        drop(copies);
        let is_lost = in_a_row >= MAX_CONSECUTIVE_FAILURES;
        if let (Some(failure), true) = (&failure, is_lost) {
            let rest = bringing.wanted.iter().filter(|from| !done.contains(from));
            for from in rest {
                let wish = self.copy_request(job, from, None, None);
                let names = (
                    image_name(&job.source(), from),
                    image_name(&job.to.to_string(), &wish.to),
                );
                let what = format!("not tried: {in_a_row} before it failed alike");
                self.report_tag(
                    told,
                    names,
                    TagOutcome::Failed(Failure::new(failure.kind, what)),
                );
            }
        }
        if let (true, Some(record)) = (job.prune && !is_lost, &record) {
            let pruning = super::prune::PruneRequest {
                target: &*target,
                record,
                mirrored: brought,
                wanted: bringing.wanted,
                wanted_images: failure.is_none().then_some(&images),
                skipped: bringing.skipped,
                undated: bringing.undated,
            };
            self.prune(job, pruning, told).await?;
        }
        if !self.settings.is_dry_run {
            target.finish(self.report).await?;
            if let Some(record) = &record {
                record.write()?;
            }
        }
        Ok(failure)
    }

    /// Copies one, or tells what that would come to.
    async fn copy(
        &self,
        source: &dyn CopySource,
        target: &dyn CopyTarget,
        wish: &CopyRequest,
    ) -> Result<CopyOutcome, Failure> {
        match self.settings.is_dry_run {
            true => self.copier.preview(source, target, wish).await,
            false => self.copier.copy(source, target, wish).await,
        }
    }

    /// What is wished for one image.
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
                    let about = subject_of(tag).is_some().then_some(image);
                    record.record_tag(tag, digest, about)
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

fn settle(record: &MirrorRecord, to: &Reference, copied: &CopyOutcome) {
    if let Reference::Tag(tag) = to {
        record.settle_tag(tag, &copied.digest, None);
    }
    for (tag, digest) in &copied.referrer_tags {
        record.settle_tag(tag, digest, Some(&copied.digest));
    }
}
