//! Which tags of a source a mirror takes. Pure: dates, which cost requests, are asked for by the
//! caller, and only those that decide something.

pub mod date;
mod pattern;
mod range;
mod rules;
mod version;

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use imgsync_oci::Tag;

pub use date::TagDate;
pub use pattern::{TagGlob, TagRegex};
pub use range::VersionRange;
pub use rules::{NewestLimit, SkipReason, TagOrder, TagRules};

use crate::text::compare_versions;
use version::TagVersion;

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SelectionStep {
    /// The dates of these tags decide: find them out, and choose again.
    NeedDates(Vec<Tag>),
    /// That is all.
    Done(TagSelection),
}

/// The tags that a mirror takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagSelection {
    /// Those that it takes: the newest first where rules say what is newer, else by name.
    pub selected: Vec<Tag>,
    /// Those that it does not, by name, and why.
    pub skipped: Vec<(Tag, SkipReason)>,
}

/// A tag whose name will do.
struct TagCandidate {
    tag: Tag,
    version: Option<TagVersion>,
}

/// Chooses the tags that any of these rules takes, given the dates that are known so far.
pub fn select_tags(
    tags: &[Tag],
    any: &[TagRules],
    dates: &HashMap<Tag, TagDate>,
    now: SystemTime,
) -> SelectionStep {
    let mut asked = Vec::new();
    let mut choices = Vec::new();
    for rules in any {
        match rules.select(tags, dates, now) {
            Ok(choice) => choices.push(choice),
            Err(tags) => asked.extend(tags),
        }
    }
    if !asked.is_empty() {
        asked.sort();
        asked.dedup();
        return SelectionStep::NeedDates(asked);
    }
    let mut all = TagSelection::default();
    let mut taken = HashSet::new();
    for choice in &choices {
        let new = choice.selected.iter().filter(|tag| taken.insert(*tag));
        all.selected.extend(new.cloned());
    }
    for (tag, why) in choices.iter().flat_map(|choice| &choice.skipped) {
        if taken.insert(tag) {
            all.skipped.push((tag.clone(), why.clone()));
        }
    }
    all.skipped.sort_by(|(a, _), (b, _)| compare_names(a, b));
    SelectionStep::Done(all)
}

impl TagRules {
    /// The choice, or the tags whose dates it hangs on.
    fn select(
        &self,
        tags: &[Tag],
        dates: &HashMap<Tag, TagDate>,
        now: SystemTime,
    ) -> Result<TagSelection, Vec<Tag>> {
        let mut left = Vec::new();
        let mut candidates = Vec::new();
        for tag in tags {
            let tag = tag.clone();
            match self.match_name(&tag) {
                Ok(version) => candidates.push(TagCandidate { tag, version }),
                Err(why) => left.push((tag, why)),
            }
        }
        candidates.sort_by(|a, b| match (&a.version, &b.version) {
            // Of two names for one version first the longer: `1.2.0` moves less than `1.2`.
            (Some(one), Some(other)) => other
                .compare(one)
                .then_with(|| compare_names(&b.tag, &a.tag)),
            _ => compare_names(&a.tag, &b.tag),
        });
        let tags = match (self.newest, self.min_age) {
            (None, None) => candidates.into_iter().map(|it| it.tag).collect(),
            (
                Some(NewestLimit {
                    count,
                    order: TagOrder::Version,
                }),
                min_age,
            ) => {
                let is_good = |tag: &Tag| match min_age {
                    Some(age) => Some(check_age(dates.get(tag)?, age, now)),
                    None => Some(Ok(())),
                };
                newest_versions(candidates, count, is_good, &mut left)?
            }
            (newest, min_age) => {
                let dated = dated(candidates, dates)?;
                by_date(dated, newest.map(|it| it.count), min_age, now, &mut left)
            }
        };
        Ok(TagSelection {
            selected: tags,
            skipped: left,
        })
    }
}

/// The first so many of every kind of variant that are good; where it is not known of one whether
/// it is, those that have to be asked next.
fn newest_versions(
    candidates: Vec<TagCandidate>,
    count: usize,
    is_good: impl Fn(&Tag) -> Option<Result<(), SkipReason>>,
    left: &mut Vec<(Tag, SkipReason)>,
) -> Result<Vec<Tag>, Vec<Tag>> {
    let mut chosen = Vec::new();
    let mut asked = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for TagCandidate { tag, version } in candidates {
        let kind = version.map(|it| it.flavor_name()).unwrap_or_default();
        let taken = places.entry(kind).or_default();
        if *taken >= count {
            left.push((tag, SkipReason::NotAmongNewest(count)));
            continue;
        }
        match is_good(&tag) {
            Some(Ok(())) => {
                *taken += 1;
                chosen.push(tag);
            }
            Some(Err(why)) => left.push((tag, why)),
            None => {
                // It may turn out good: then this place is its own.
                *taken += 1;
                asked.push(tag);
            }
        }
    }
    match asked.is_empty() {
        true => Ok(chosen),
        false => Err(asked),
    }
}

/// The candidates with their dates, or those whose dates are not known.
fn dated(
    candidates: Vec<TagCandidate>,
    dates: &HashMap<Tag, TagDate>,
) -> Result<Vec<(Tag, TagDate)>, Vec<Tag>> {
    let unknown = |it: &&TagCandidate| !dates.contains_key(&it.tag);
    let asked: Vec<_> = candidates
        .iter()
        .filter(unknown)
        .map(|it| it.tag.clone())
        .collect();
    if !asked.is_empty() {
        return Err(asked);
    }
    let dated = candidates.into_iter().filter_map(|it| {
        let date = *dates.get(&it.tag)?;
        Some((it.tag, date))
    });
    Ok(dated.collect())
}

/// Those old enough, and of these so many newest, newest first; without a number all, in their
/// order.
fn by_date(
    dated: Vec<(Tag, TagDate)>,
    count: Option<usize>,
    min_age: Option<Duration>,
    now: SystemTime,
    left: &mut Vec<(Tag, SkipReason)>,
) -> Vec<Tag> {
    let mut good = Vec::new();
    for (tag, date) in dated {
        match check_age(&date, min_age.unwrap_or_default(), now) {
            Ok(()) => good.push((tag, date)),
            // The future is no obstacle where no age is asked for.
            Err(SkipReason::TooYoung(_)) if min_age.is_none() => good.push((tag, date)),
            Err(why) => left.push((tag, why)),
        }
    }
    let Some(count) = count else {
        return good.into_iter().map(|(tag, _)| tag).collect();
    };
    good.sort_by_key(|(_, date)| match date {
        TagDate::At(time) => Reverse(Some(*time)),
        TagDate::Unknown | TagDate::Deleted | TagDate::Failed => Reverse(None),
    });
    let rest = good.split_off(count.min(good.len()));
    left.extend(
        rest.into_iter()
            .map(|(tag, _)| (tag, SkipReason::NotAmongNewest(count))),
    );
    good.into_iter().map(|(tag, _)| tag).collect()
}

fn check_age(date: &TagDate, age: Duration, now: SystemTime) -> Result<(), SkipReason> {
    match date {
        TagDate::At(time) => match now.duration_since(*time) {
            Ok(since) if since >= age => Ok(()),
            Ok(_) | Err(_) => Err(SkipReason::TooYoung(age)),
        },
        TagDate::Unknown => Err(SkipReason::Undated),
        TagDate::Deleted => Err(SkipReason::Deleted),
        TagDate::Failed => Err(SkipReason::DateUnavailable),
    }
}

/// Numbers in names count as numbers.
fn compare_names(a: &Tag, b: &Tag) -> Ordering {
    compare_versions(a.as_str(), b.as_str()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests;
