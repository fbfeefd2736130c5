//! Runs `imgsync mirror` and `imgsync pull`: one job after the other, several tags at a time. A
//! failed tag does not stop other tags, and a failed job does not stop other jobs.
//!
//! Start reading at [`mirror`].

mod batch;
mod daemon;
mod prune;
mod selection;
mod transports;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use imgsync_oci::{Reference, Tag};

use crate::copy::Copier;
use crate::exit::{Failure, FailureKind};
use crate::mirror::job::{MirrorJob, MirrorTarget};
use crate::mirror::selection::SkipReason;
use crate::report::{MirrorSummary, MirroredTag, Report, TagOutcome, TagState};
use crate::settings::MirrorSettings;
use crate::transports::CopySource;
use selection::SourceTags;

/// The state that all jobs share.
struct MirrorRunner<'a> {
    settings: &'a MirrorSettings,
    copier: Copier,
    report: &'a Arc<dyn Report>,
    /// The time from which ages are counted.
    now: SystemTime,
}

/// The results so far.
#[derive(Default)]
struct MirrorProgress {
    summary: MirrorSummary,
    /// The first failure.
    failure: Option<Failure>,
    /// The tags of the current job that pruning has reported.
    pruned: HashSet<Tag>,
}

/// The images that a job copies.
struct CopyBatch<'a> {
    source: &'a dyn CopySource,
    selected: &'a [Reference],
    /// The tags of the source; `None` if the source is a single image.
    tags: Option<&'a SourceTags>,
    /// Whether the batch is one image and the whole command: then its failure is the command's.
    is_alone: bool,
}

/// Runs all jobs. Returns whether something was copied or deleted, or would be in a dry run.
///
/// # Errors
/// Returns a summary of the failures after all jobs have run.
pub(super) async fn mirror(
    settings: &MirrorSettings,
    report: &Arc<dyn Report>,
) -> Result<bool, Failure> {
    let start = Instant::now();
    if let Some(warning) = &settings.folders.warning {
        report.note(warning);
    }
    let runner = MirrorRunner {
        settings,
        copier: Copier::new(Arc::clone(report)),
        report,
        now: SystemTime::now(),
    };
    let mut progress = MirrorProgress::default();
    progress.summary.is_dry_run = settings.is_dry_run;
    for job in &settings.jobs {
        match runner.run_job(job, &mut progress).await {
            Ok(()) => {}
            // A single job needs no summary.
            Err(failure) if settings.jobs.len() == 1 => return Err(failure),
            Err(failure) => {
                let names = (job.source(), job.to.to_string());
                runner.report_tag(&mut progress, names, TagOutcome::Failed(failure));
            }
        }
    }
    runner.report_rate_limits();
    progress.summary.elapsed = start.elapsed();
    report.show_mirror_summary(&progress.summary);
    match progress.failure {
        None => Ok(!progress.summary.is_idle()),
        Some(first) => Err(summarize(first, &progress.summary)),
    }
}

/// Returns the failure of a command in which tags failed. It decides the exit code.
fn summarize(first: Failure, summary: &MirrorSummary) -> Failure {
    let (failed, succeeded) = (summary.count(TagState::Failed), summary.succeeded());
    let (kind, count) = match (failed, succeeded) {
        (1, 0) => return first,
        (_, 0) => (first.kind, format!("all {failed} tags failed")),
        _ => {
            let all = failed + succeeded;
            (
                FailureKind::Partial,
                format!("{failed} of {all} tags failed"),
            )
        }
    };
    let hint = "fix the error and run the same command again; complete images are not copied again";
    let hint = first.hint.as_deref().unwrap_or(hint);
    Failure::new(kind, format!("{count}; the first error: {}", first.what)).with_hint(hint)
}

impl MirrorRunner<'_> {
    /// Runs one job.
    ///
    /// # Errors
    /// Fails if the source, the target or the record cannot be used. Failures of single tags are
    /// reported.
    async fn run_job(&self, job: &MirrorJob, progress: &mut MirrorProgress) -> Result<(), Failure> {
        let opened = self.open_source(job).await?;
        let source = &*opened.source;
        let tags = match opened.single_reference {
            Some(_) => None,
            None => Some(self.select_tags(source, job).await?),
        };
        let selected = match (opened.single_reference, opened.only_image, &tags) {
            (Some(single), _, _) => vec![single],
            // The only image of a layout need not have a tag.
            (None, Some(only), Some(tags)) if tags.listed.is_empty() => {
                vec![Reference::Digest(only)]
            }
            (None, _, tags) => {
                let tags = tags.iter().flat_map(|tags| &tags.selected);
                tags.cloned().map(Reference::Tag).collect()
            }
        };
        let count = tags.as_ref().map(|_| selected.len());
        let target = job.to.to_string();
        self.report.start_mirror(&job.source(), &target, count);
        for (tag, failure) in tags.iter().flat_map(|tags| &tags.undated) {
            let outcome = TagOutcome::Failed(failure.clone());
            self.report_tag(progress, tag_names(job, tag), outcome);
        }
        let batch = CopyBatch {
            source,
            selected: &selected,
            tags: tags.as_ref(),
            is_alone: tags.is_none() && self.settings.jobs.len() == 1,
        };
        let failure = match &job.to {
            MirrorTarget::Daemon(name) => self.load_batch(job, name, &batch, progress).await?,
            MirrorTarget::Registry(registry, repository) => {
                let target = self.open_registry(registry, repository).await?;
                self.copy_batch(job, &batch, &*target, progress).await?
            }
            MirrorTarget::Layout(layout) => {
                let target = self.open_layout(job, layout).await?;
                self.copy_batch(job, &batch, &*target, progress).await?
            }
        };
        for (tag, reason) in tags.iter().flat_map(|tags| &tags.skipped) {
            // Referrers are copied with their image, and pruned tags are reported already.
            if *reason != SkipReason::ReferrerTag && !progress.pruned.contains(tag) {
                let outcome = TagOutcome::Skipped(reason.to_string());
                self.report_tag(progress, tag_names(job, tag), outcome);
            }
        }
        progress.pruned.clear();
        // The failure of a command's only image is reported once, with its hint.
        failure.filter(|_| batch.is_alone).map_or(Ok(()), Err)
    }

    /// Reports what happened to a tag, and counts it. The names are those of source and target.
    fn report_tag(
        &self,
        progress: &mut MirrorProgress,
        (source, target): (String, String),
        outcome: TagOutcome,
    ) {
        progress.summary.add(&outcome);
        if let TagOutcome::Failed(failure) = &outcome {
            progress.failure.get_or_insert_with(|| failure.clone());
        }
        let tag = MirroredTag {
            source,
            target,
            is_dry_run: self.settings.is_dry_run,
            outcome,
        };
        match &tag.outcome {
            TagOutcome::Skipped(_) => self.report.skip_tag(&tag),
            _ => self.report.finish_tag(&tag),
        }
    }

    /// Reports the remaining pulls, as far as registries state them.
    fn report_rate_limits(&self) {
        for (registry, rate) in self.copier.rate_limits() {
            let Some(remaining) = rate.remaining else {
                continue;
            };
            let limit = rate
                .limit
                .map_or(String::new(), |limit| format!(" of {limit}"));
            let text = format!("{registry}: {remaining}{limit} pulls remaining");
            self.report.note(&text);
        }
    }
}

/// Returns the names of an image at the source and at the target.
fn image_names(job: &MirrorJob, from: &Reference, to: &Reference) -> (String, String) {
    let name = |repository: String, reference: &Reference| match reference {
        Reference::Tag(tag) => format!("{repository}:{tag}"),
        Reference::Digest(digest) => format!("{repository}@{digest}"),
    };
    (name(job.source(), from), name(job.to.to_string(), to))
}

/// Returns the names of a tag that is the same at the source and at the target.
fn tag_names(job: &MirrorJob, tag: &Tag) -> (String, String) {
    let reference = Reference::Tag(tag.clone());
    image_names(job, &reference, &reference)
}

/// Returns whether other requests to the registry will probably fail in the same way.
fn is_systemic(failure: &Failure) -> bool {
    matches!(
        failure.kind,
        FailureKind::Network | FailureKind::Authentication
    )
}
