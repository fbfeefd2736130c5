//! `imgsync mirror` and `imgsync pull`: one mirror after the other, several tags at a time. A tag
//! that fails stops no other, and a mirror that fails no other either.

mod choice;
mod daemon;
mod ends;
mod prune;
mod tags;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use imgsync_oci::{Reference, Tag};

use crate::exit::{Failure, Kind};
use crate::mirror::Run;
use crate::mirror::job::{Goal, Job};
use crate::report::{Fate, Mirrored, Report, Sum};
use crate::settings;

/// How mirrors end that do not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Something was brought or pruned, or would be.
    Changed,
    /// All was as it should be.
    Idle,
}

/// What every job needs.
struct Mirrors<'a> {
    settings: &'a settings::Mirror,
    run: Run,
    report: &'a Arc<dyn Report>,
    /// What counts as now, for ages.
    now: SystemTime,
}

/// What became of one job.
#[derive(Default)]
struct Told {
    sum: Sum,
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
    settings: &settings::Mirror,
    report: &Arc<dyn Report>,
) -> Result<Ending, Failure> {
    let began = Instant::now();
    let mirrors = Mirrors {
        settings,
        run: Run::new(Arc::clone(report)),
        report,
        now: SystemTime::now(),
    };
    let mut told = Told::default();
    told.sum.is_dry = settings.is_dry;
    for job in &settings.jobs {
        match mirrors.job(job, &mut told).await {
            Ok(()) => {}
            // Of one there is nothing to sum up.
            Err(failure) if settings.jobs.len() == 1 => return Err(failure),
            Err(failure) => {
                let names = (job.source(), job.to.to_string());
                mirrors.tell(&mut told, names, Fate::Failed(failure));
            }
        }
    }
    mirrors.limits();
    told.sum.took = began.elapsed();
    report.sum(&told.sum);
    ending(told)
}

/// How it ends: well, or with the failure that the exit code tells.
fn ending(told: Told) -> Result<Ending, Failure> {
    let sum = &told.sum;
    let Some(first) = told.failure else {
        return Ok(match sum.is_idle() {
            true => Ending::Idle,
            false => Ending::Changed,
        });
    };
    let failed = sum.failed;
    let all = failed + sum.good();
    let (kind, count) = match sum.good() {
        // Of one there is nothing to sum up.
        0 if failed == 1 => return Err(first),
        0 => (first.kind, format!("all {failed} failed")),
        _ => (Kind::Partly, format!("{failed} of {all} failed")),
    };
    let what = format!("{count}; the first: {}", first.what);
    let hint = first.hint.as_deref();
    let hint =
        hint.unwrap_or("once that is mended, run it again: what arrived is not copied twice");
    Err(Failure::new(kind, what).hint(hint))
}

impl Mirrors<'_> {
    /// Carries out one job.
    ///
    /// # Errors
    /// It failed as a whole: nothing could be listed, or the target takes nothing.
    async fn job(&self, job: &Job, told: &mut Told) -> Result<(), Failure> {
        let opened = self.source(job).await?;
        let source = &*opened.source;
        let names = (job.source(), job.to.to_string());
        let chosen = match &opened.single {
            Some(_) => None,
            None => Some(self.choose(source, job).await?),
        };
        let is_alone = opened.single.is_some() && self.settings.jobs.len() == 1;
        let wanted: Vec<Reference> = match (&chosen, opened.single, opened.only) {
            // A layout need not name its only image.
            (Some(chosen), _, Some(only)) if chosen.listed.is_empty() => {
                vec![Reference::Digest(only)]
            }
            (Some(chosen), _, _) => chosen.tags.iter().cloned().map(Reference::Tag).collect(),
            (None, single, _) => Vec::from_iter(single),
        };
        let tags = chosen.as_ref().map(|_| wanted.len());
        self.report.mirror(&names.0, &names.1, tags);
        let undated = chosen.as_ref().map_or(0, |chosen| chosen.undated.len());
        if let Some(chosen) = &chosen {
            for (tag, failure) in &chosen.undated {
                let reference = Reference::Tag(tag.clone());
                let names = (named(&names.0, &reference), named(&names.1, &reference));
                self.tell(told, names, Fate::Failed(failure.clone()));
            }
        }
        let (listed, left) = match chosen {
            Some(chosen) => (Some(chosen.listed), chosen.left),
            None => (None, Vec::new()),
        };
        let failed = match &job.to {
            Goal::Daemon(_) => self.load(job, (source, &wanted), is_alone, told).await?,
            Goal::Registry(..) | Goal::Disk(_) => {
                let bringing = tags::Bringing {
                    source,
                    wanted: &wanted,
                    listed,
                    left: &left,
                    undated,
                    is_alone,
                };
                self.bring(job, bringing, told).await?
            }
        };
        for (tag, why) in &left {
            self.leave(told, job, tag, why);
        }
        told.pruned.clear();
        match failed {
            // Told once, with what to do about it.
            Some(failure) if is_alone => Err(failure),
            Some(_) | None => Ok(()),
        }
    }

    /// Tells what became of a tag, and counts it.
    fn tell(&self, told: &mut Told, (source, target): (String, String), fate: Fate) {
        told.sum.add(&fate);
        if let Fate::Failed(failure) = &fate {
            told.failure.get_or_insert_with(|| failure.clone());
        }
        self.report.mirrored(&Mirrored {
            source,
            target,
            fate,
            is_dry: self.settings.is_dry,
        });
    }

    /// What the registries said of how much may be asked of them.
    fn limits(&self) {
        for (registry, limit) in self.run.limits() {
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
fn named(place: &str, reference: &Reference) -> String {
    match reference {
        Reference::Tag(tag) => format!("{place}:{tag}"),
        Reference::Digest(digest) => format!("{place}@{digest}"),
    }
}
