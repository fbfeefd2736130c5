//! Which tags of a source are wanted: lists them, and asks for the dates that decide.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use imgsync_oci::{Reference, Tag};

use super::{MirrorProgress, MirrorRunner, image_name};
use crate::copy::{CreationDate, fetch_creation_date};
use crate::exit::{Failure, FailureKind};
use crate::mirror::job::MirrorJob;
use crate::mirror::selection::{SelectionStep, SkipReason, TagDate, TagSelection, select_tags};
use crate::report::{MirroredTag, TagOutcome};
use crate::transports::CopySource;

/// Dates that are asked for at a time.
const MAX_CONCURRENT_DATE_REQUESTS: usize = 8;
/// No repository has more tags.
const MAX_TAGS: usize = 1_000_000;

/// The tags of a source.
pub(super) struct SourceTags {
    /// All that it has.
    pub(super) listed: Arc<HashSet<Tag>>,
    /// Those that are wanted, in the order in which they are brought.
    pub(super) selected: Vec<Tag>,
    /// Those that are not.
    pub(super) skipped: Vec<(Tag, SkipReason)>,
    /// Those of which nobody knows whether they are, since their dates could not be asked.
    pub(super) undated: Vec<(Tag, Failure)>,
}

impl MirrorRunner<'_> {
    /// Lists and chooses.
    ///
    /// # Errors
    /// The tags could not be listed.
    pub(super) async fn select_tags(
        &self,
        source: &dyn CopySource,
        job: &MirrorJob,
    ) -> Result<SourceTags, Failure> {
        let listed = list_tags(source).await?;
        let tags: Vec<Tag> = listed.iter().cloned().collect();
        let mut dates = HashMap::new();
        let mut failures = HashMap::new();
        let TagSelection {
            selected: tags,
            skipped: left,
        } = loop {
            match select_tags(&tags, &job.rules, &dates, self.now) {
                SelectionStep::Done(choice) => break choice,
                SelectionStep::NeedDates(asked) => {
                    let count = asked.len();
                    self.report
                        .detail(&format!("asking when {count} images were made"));
                    let asked = asked.into_iter().map(|tag| async move {
                        let date = fetch_creation_date(source, &tag).await;
                        (tag, date)
                    });
                    let mut answers =
                        futures::stream::iter(asked).buffer_unordered(MAX_CONCURRENT_DATE_REQUESTS);
                    while let Some((tag, answer)) = answers.next().await {
                        let date = match answer {
                            Ok(CreationDate::At(time)) => TagDate::At(time),
                            Ok(CreationDate::Unknown) => TagDate::Unknown,
                            Ok(CreationDate::Gone) => TagDate::Deleted,
                            Err(failure) => {
                                failures.insert(tag.clone(), failure);
                                TagDate::Failed
                            }
                        };
                        dates.insert(tag, date);
                    }
                }
            }
        };
        let left = left.into_iter();
        let (undated, left): (Vec<_>, Vec<_>) =
            left.partition(|(_, why)| *why == SkipReason::DateUnavailable);
        let undated = undated.into_iter();
        Ok(SourceTags {
            listed: Arc::new(listed),
            selected: tags,
            skipped: left,
            undated: undated
                .filter_map(|(tag, _)| Some((tag.clone(), failures.remove(&tag)?)))
                .collect(),
        })
    }

    /// Counts a tag that is not wanted, and says so to those who want to know.
    pub(super) fn report_skipped(
        &self,
        told: &mut MirrorProgress,
        job: &MirrorJob,
        tag: &Tag,
        why: &SkipReason,
    ) {
        // What goes along with another is not left out, and what was pruned is told.
        if *why == SkipReason::ReferrerTag || told.pruned.contains(tag) {
            return;
        }
        let fate = TagOutcome::Skipped(why.to_string());
        told.summary.add(&fate);
        let reference = Reference::Tag(tag.clone());
        let line = MirroredTag {
            source: image_name(&job.source(), &reference),
            target: image_name(&job.to.to_string(), &reference),
            outcome: fate,
            is_dry_run: self.settings.is_dry_run,
        };
        self.report.skip_tag(&line);
    }
}

async fn list_tags(source: &dyn CopySource) -> Result<HashSet<Tag>, Failure> {
    let mut listed = HashSet::new();
    let mut pages = source.list_tags();
    while let Some(page) = pages.try_next().await? {
        listed.extend(page);
        if listed.len() > MAX_TAGS {
            let what = format!("source: {} lists more than {MAX_TAGS} tags", source.name());
            return Err(Failure::new(FailureKind::Source, what));
        }
    }
    Ok(listed)
}
