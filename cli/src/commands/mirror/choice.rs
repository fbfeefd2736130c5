//! Which tags of a source are wanted: lists them, and asks for the dates that decide.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use imgsync_oci::{Reference, Tag};

use super::{Mirrors, Told, named};
use crate::exit::{Failure, Kind};
use crate::mirror::choose::{Choice, Date, Step, Why, choose};
use crate::mirror::ends::Source;
use crate::mirror::job::Job;
use crate::mirror::{Created, created};
use crate::report::{Fate, Mirrored};

/// Dates that are asked for at a time.
const AT_A_TIME: usize = 8;
/// No repository has more tags.
const MOST_TAGS: usize = 1_000_000;

/// The tags of a source.
pub(super) struct Chosen {
    /// All that it has.
    pub(super) listed: Arc<HashSet<Tag>>,
    /// Those that are wanted, in the order in which they are brought.
    pub(super) tags: Vec<Tag>,
    /// Those that are not.
    pub(super) left: Vec<(Tag, Why)>,
    /// Those of which nobody knows whether they are, since their dates could not be asked.
    pub(super) undated: Vec<(Tag, Failure)>,
}

impl Mirrors<'_> {
    /// Lists and chooses.
    ///
    /// # Errors
    /// The tags could not be listed.
    pub(super) async fn choose(&self, source: &dyn Source, job: &Job) -> Result<Chosen, Failure> {
        let listed = listed(source).await?;
        let tags: Vec<Tag> = listed.iter().cloned().collect();
        let mut dates = HashMap::new();
        let mut failures = HashMap::new();
        let Choice { tags, left } = loop {
            match choose(&tags, &job.rules, &dates, self.now) {
                Step::Chosen(choice) => break choice,
                Step::Ask(asked) => {
                    let count = asked.len();
                    self.report
                        .detail(&format!("asking when {count} images were made"));
                    let asked = asked.into_iter().map(|tag| async move {
                        let date = created(source, &tag).await;
                        (tag, date)
                    });
                    let mut answers = futures::stream::iter(asked).buffer_unordered(AT_A_TIME);
                    while let Some((tag, answer)) = answers.next().await {
                        let date = match answer {
                            Ok(Created::At(time)) => Date::At(time),
                            Ok(Created::Unknown) => Date::Unknown,
                            Ok(Created::Gone) => Date::Gone,
                            Err(failure) => {
                                failures.insert(tag.clone(), failure);
                                Date::Failed
                            }
                        };
                        dates.insert(tag, date);
                    }
                }
            }
        };
        let left = left.into_iter();
        let (undated, left): (Vec<_>, Vec<_>) = left.partition(|(_, why)| *why == Why::DateFailed);
        let undated = undated.into_iter();
        Ok(Chosen {
            listed: Arc::new(listed),
            tags,
            left,
            undated: undated
                .filter_map(|(tag, _)| Some((tag.clone(), failures.remove(&tag)?)))
                .collect(),
        })
    }

    /// Counts a tag that is not wanted, and says so to those who want to know.
    pub(super) fn leave(&self, told: &mut Told, job: &Job, tag: &Tag, why: &Why) {
        // What goes along with another is not left out, and what was pruned is told.
        if *why == Why::Companion || told.pruned.contains(tag) {
            return;
        }
        let fate = Fate::Left(why.to_string());
        told.sum.add(&fate);
        let reference = Reference::Tag(tag.clone());
        let line = Mirrored {
            source: named(&job.source(), &reference),
            target: named(&job.to.to_string(), &reference),
            fate,
            is_dry: self.settings.is_dry,
        };
        self.report.left(&line);
    }
}

async fn listed(source: &dyn Source) -> Result<HashSet<Tag>, Failure> {
    let mut listed = HashSet::new();
    let mut pages = source.tags();
    while let Some(page) = pages.try_next().await? {
        listed.extend(page);
        if listed.len() > MOST_TAGS {
            let what = format!("source: {} lists more than {MOST_TAGS} tags", source.name());
            return Err(Failure::new(Kind::Source, what));
        }
    }
    Ok(listed)
}
