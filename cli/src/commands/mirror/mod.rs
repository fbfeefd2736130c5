//! Runs `imgsync mirror` and `imgsync pull`: one job after the other, several tags at a time. A
//! failed tag does not stop other tags, and a failed job does not stop other jobs.

mod daemon;
mod prune;
mod selection;
mod tags;
mod transports;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use imgsync_oci::{Reference, Tag};

use crate::copy::Copier;
use crate::exit::{Failure, FailureKind};
use crate::mirror::job::{MirrorJob, MirrorTarget};
use crate::report::{MirrorSummary, MirroredTag, Report, TagOutcome};
use crate::settings;
use selection::SourceTags;

/// How a command without failures ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MirrorOutcome {
    /// Something was copied or pruned, or would be.
    Changed,
    /// Everything was up to date.
    Unchanged,
}

/// The state that all jobs share.
struct MirrorRunner<'a> {
    settings: &'a settings::MirrorSettings,
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

/// Runs all jobs.
///
/// # Errors
/// A tag or a job failed. All others are done all the same.
pub(super) async fn mirror(
    settings: &settings::MirrorSettings,
    report: &Arc<dyn Report>,
) -> Result<MirrorOutcome, Failure> {
    let began = Instant::now();
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
    progress.summary.elapsed = began.elapsed();
    report.show_mirror_summary(&progress.summary);
    outcome(progress)
}

/// Returns how the command ends: well, or with the failure that decides the exit code.
fn outcome(progress: MirrorProgress) -> Result<MirrorOutcome, Failure> {
    let summary = &progress.summary;
    let Some(first) = progress.failure else {
        return Ok(if summary.is_idle() {
            MirrorOutcome::Unchanged
        } else {
            MirrorOutcome::Changed
        });
    };
    let failed = summary.failed;
    let all = failed + summary.succeeded();
    let (kind, count) = match summary.succeeded() {
        // A single failure needs no summary.
        0 if failed == 1 => return Err(first),
        0 => (first.kind, format!("all {failed} failed")),
        _ => (FailureKind::Partial, format!("{failed} of {all} failed")),
    };
    let what = format!("{count}; the first: {}", first.what);
    let hint = first.hint.as_deref();
    let hint =
        hint.unwrap_or("fix the error and run it again: images that arrived are not copied twice");
    Err(Failure::new(kind, what).with_hint(hint))
}

impl MirrorRunner<'_> {
    /// Runs one job.
    ///
    /// # Errors
    /// The job failed as a whole: nothing could be listed, or the target cannot be used.
    async fn run_job(&self, job: &MirrorJob, progress: &mut MirrorProgress) -> Result<(), Failure> {
        let opened = self.open_source(job).await?;
        let source = &*opened.source;
        let names = (job.source(), job.to.to_string());
        let is_single = opened.single_reference.is_some();
        let tags = if is_single {
            SourceTags::default()
        } else {
            self.select_tags(source, job).await?
        };
        let wanted = match (opened.single_reference, opened.only_image) {
            (Some(single), _) => vec![single],
            // The only image of a layout need not have a tag.
            (None, Some(only)) if tags.listed.is_empty() => vec![Reference::Digest(only)],
            (None, _) => tags.selected.into_iter().map(Reference::Tag).collect(),
        };
        let count = (!is_single).then_some(wanted.len());
        self.report.start_mirror(&names.0, &names.1, count);
        let undated = tags.undated.len();
        for (tag, failure) in tags.undated {
            let reference = Reference::Tag(tag);
            let names = (
                image_name(&names.0, &reference),
                image_name(&names.1, &reference),
            );
            self.report_tag(progress, names, TagOutcome::Failed(failure));
        }
        let is_alone = is_single && self.settings.jobs.len() == 1;
        let failure = match &job.to {
            MirrorTarget::Daemon(_) => {
                let images = (source, &wanted[..]);
                self.load(job, images, is_alone, progress).await?
            }
            MirrorTarget::Registry(..) | MirrorTarget::Layout(_) => {
                let batch = tags::CopyBatch {
                    source,
                    wanted: &wanted,
                    listed: (!is_single).then_some(tags.listed),
                    skipped: &tags.skipped,
                    undated,
                    is_alone,
                };
                self.copy_tags(job, batch, progress).await?
            }
        };
        for (tag, reason) in &tags.skipped {
            self.report_skipped(progress, job, tag, reason);
        }
        progress.pruned.clear();
        // The failure of a command's only image is reported once, with its hint.
        failure.filter(|_| is_alone).map_or(Ok(()), Err)
    }

    /// Reports what happened to a tag, and counts it.
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
        self.report.finish_tag(&MirroredTag {
            source,
            target,
            outcome,
            is_dry_run: self.settings.is_dry_run,
        });
    }

    /// Reports the rate limits that registries stated.
    fn report_rate_limits(&self) {
        for (registry, limit) in self.copier.rate_limits() {
            let Some(remaining) = limit.remaining else {
                continue;
            };
            let of = limit
                .limit
                .map_or(String::new(), |limit| format!(" of {limit}"));
            let text = format!("{registry}: {remaining}{of} pulls are left");
            self.report.note(&text);
        }
    }
}

/// Returns the name of an image.
fn image_name(place: &str, reference: &Reference) -> String {
    match reference {
        Reference::Tag(tag) => format!("{place}:{tag}"),
        Reference::Digest(digest) => format!("{place}@{digest}"),
    }
}
