//! `imgsync mirror` and `imgsync pull`: one mirror after the other, several tags at a time. A tag
//! that fails stops no other, and a mirror that fails no other either.

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

/// How mirrors end that do not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MirrorOutcome {
    /// Something was brought or pruned, or would be.
    Changed,
    /// All was as it should be.
    Unchanged,
}

/// What every job needs.
struct MirrorRunner<'a> {
    settings: &'a settings::MirrorSettings,
    copier: Copier,
    report: &'a Arc<dyn Report>,
    /// What counts as now, for ages.
    now: SystemTime,
}

/// What became of one job.
#[derive(Default)]
struct MirrorProgress {
    summary: MirrorSummary,
    /// The first tag's failure.
    failure: Option<Failure>,
    /// The tags of the job at hand of which pruning has told.
    pruned: HashSet<Tag>,
}

/// Carries out all jobs.
///
/// # Errors
/// Something failed. What did not is done all the same.
pub(super) async fn mirror(
    settings: &settings::MirrorSettings,
    report: &Arc<dyn Report>,
) -> Result<MirrorOutcome, Failure> {
    let began = Instant::now();
    let mirrors = MirrorRunner {
        settings,
        copier: Copier::new(Arc::clone(report)),
        report,
        now: SystemTime::now(),
    };
    let mut told = MirrorProgress::default();
    told.summary.is_dry_run = settings.is_dry_run;
    for job in &settings.jobs {
        match mirrors.run_job(job, &mut told).await {
            Ok(()) => {}
            // Of one there is nothing to sum up.
            Err(failure) if settings.jobs.len() == 1 => return Err(failure),
            Err(failure) => {
                let names = (job.source(), job.to.to_string());
                mirrors.report_tag(&mut told, names, TagOutcome::Failed(failure));
            }
        }
    }
    mirrors.report_rate_limits();
    told.summary.elapsed = began.elapsed();
    report.show_mirror_summary(&told.summary);
    outcome(told)
}

/// How it ends: well, or with the failure that the exit code tells.
fn outcome(told: MirrorProgress) -> Result<MirrorOutcome, Failure> {
    let sum = &told.summary;
    let Some(first) = told.failure else {
        return Ok(match sum.is_idle() {
            true => MirrorOutcome::Unchanged,
            false => MirrorOutcome::Changed,
        });
    };
    let failed = sum.failed;
    let all = failed + sum.succeeded();
    let (kind, count) = match sum.succeeded() {
        // Of one there is nothing to sum up.
        0 if failed == 1 => return Err(first),
        0 => (first.kind, format!("all {failed} failed")),
        _ => (FailureKind::Partial, format!("{failed} of {all} failed")),
    };
    let what = format!("{count}; the first: {}", first.what);
    let hint = first.hint.as_deref();
    let hint =
        hint.unwrap_or("once that is mended, run it again: what arrived is not copied twice");
    Err(Failure::new(kind, what).with_hint(hint))
}

impl MirrorRunner<'_> {
    /// Carries out one job.
    ///
    /// # Errors
    /// It failed as a whole: nothing could be listed, or the target takes nothing.
    async fn run_job(&self, job: &MirrorJob, told: &mut MirrorProgress) -> Result<(), Failure> {
        let opened = self.open_source(job).await?;
        let source = &*opened.source;
        let names = (job.source(), job.to.to_string());
        let chosen = match &opened.single_reference {
            Some(_) => None,
            None => Some(self.select_tags(source, job).await?),
        };
        let is_alone = opened.single_reference.is_some() && self.settings.jobs.len() == 1;
        let wanted: Vec<Reference> = match (&chosen, opened.single_reference, opened.only_image) {
            // A layout need not name its only image.
            (Some(chosen), _, Some(only)) if chosen.listed.is_empty() => {
                vec![Reference::Digest(only)]
            }
            (Some(chosen), _, _) => chosen
                .selected
                .iter()
                .cloned()
                .map(Reference::Tag)
                .collect(),
            (None, single, _) => Vec::from_iter(single),
        };
        let tags = chosen.as_ref().map(|_| wanted.len());
        self.report.start_mirror(&names.0, &names.1, tags);
        let undated = chosen.as_ref().map_or(0, |chosen| chosen.undated.len());
        if let Some(chosen) = &chosen {
            for (tag, failure) in &chosen.undated {
                let reference = Reference::Tag(tag.clone());
                let names = (
                    image_name(&names.0, &reference),
                    image_name(&names.1, &reference),
                );
                self.report_tag(told, names, TagOutcome::Failed(failure.clone()));
            }
        }
        let (listed, left) = match chosen {
            Some(chosen) => (Some(chosen.listed), chosen.skipped),
            None => (None, Vec::new()),
        };
        let failed = match &job.to {
            MirrorTarget::Daemon(_) => self.load(job, (source, &wanted), is_alone, told).await?,
            MirrorTarget::Registry(..) | MirrorTarget::Layout(_) => {
                let bringing = tags::CopyBatch {
                    source,
                    wanted: &wanted,
                    listed,
                    skipped: &left,
                    undated,
                    is_alone,
                };
                self.copy_tags(job, bringing, told).await?
            }
        };
        for (tag, why) in &left {
            self.report_skipped(told, job, tag, why);
        }
        told.pruned.clear();
        match failed {
            // Told once, with what to do about it.
            Some(failure) if is_alone => Err(failure),
            Some(_) | None => Ok(()),
        }
    }

    /// Tells what became of a tag, and counts it.
    fn report_tag(
        &self,
        told: &mut MirrorProgress,
        (source, target): (String, String),
        fate: TagOutcome,
    ) {
        told.summary.add(&fate);
        if let TagOutcome::Failed(failure) = &fate {
            told.failure.get_or_insert_with(|| failure.clone());
        }
        self.report.finish_tag(&MirroredTag {
            source,
            target,
            outcome: fate,
            is_dry_run: self.settings.is_dry_run,
        });
    }

    /// What the registries said of how much may be asked of them.
    fn report_rate_limits(&self) {
        for (registry, limit) in self.copier.rate_limits() {
            let Some(remaining) = limit.remaining else {
                continue;
            };
            let text = match limit.limit {
                Some(limit) => format!("{registry}: {remaining} of {limit} pulls are left"),
                None => format!("{registry}: {remaining} pulls are left"),
            };
            self.report.note(&text);
        }
    }
}

/// An image's name.
fn image_name(place: &str, reference: &Reference) -> String {
    match reference {
        Reference::Tag(tag) => format!("{place}:{tag}"),
        Reference::Digest(digest) => format!("{place}@{digest}"),
    }
}
