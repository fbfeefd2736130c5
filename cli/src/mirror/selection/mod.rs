//! Selects the tags of a source that a mirror copies. Pure: creation dates cost requests, so the
//! caller fetches them, and only those that decide.
//!
//! Start reading at [`select_tags`].

mod pattern;
mod range;
mod rules;
mod version;

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use imgsync_oci::Tag;

pub use pattern::TagPattern;
pub use range::VersionRange;
pub use rules::{SkipReason, TagOrder, TagRules};

use crate::copy::CreationDate;
use crate::exit::Failure;
use crate::text::compare_versions;
use version::TagVersion;

/// The creation dates of tags, or the failures to fetch them.
pub type TagDates = HashMap<Tag, Result<CreationDate, Failure>>;

/// The selection depends on the creation dates of these tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingDates(pub Vec<Tag>);

/// The result of a selection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagSelection {
    /// The selected tags: the newest first if rules have an order, else by name.
    pub selected: Vec<Tag>,
    /// The other tags by name, with the reasons.
    pub skipped: Vec<(Tag, SkipReason)>,
}

/// A tag that matches by its name, with its version if a rule needs it.
type TagCandidate = (Tag, Option<TagVersion>);

/// Selects the tags that any of several rules selects.
///
/// # Errors
/// Returns the tags whose dates the caller must add to `dates` before the next call.
pub fn select_tags(
    tags: &[Tag],
    alternatives: &[TagRules],
    dates: &TagDates,
    now: SystemTime,
) -> Result<TagSelection, MissingDates> {
    let mut missing = BTreeSet::new();
    let mut selections = Vec::new();
    for rules in alternatives {
        match rules.select(tags, dates, now) {
            Ok(selection) => selections.push(selection),
            Err(MissingDates(tags)) => missing.extend(tags),
        }
    }
    if !missing.is_empty() {
        return Err(MissingDates(Vec::from_iter(missing)));
    }
    let mut all = TagSelection::default();
    let mut seen = HashSet::new();
    for tag in selections.iter().flat_map(|each| &each.selected) {
        if seen.insert(tag) {
            all.selected.push(tag.clone());
        }
    }
    for (tag, reason) in selections.iter().flat_map(|each| &each.skipped) {
        if seen.insert(tag) {
            all.skipped.push((tag.clone(), reason.clone()));
        }
    }
    all.skipped.sort_by(|(a, _), (b, _)| compare_names(a, b));
    Ok(all)
}

impl TagRules {
    /// Selects the tags that match all of these rules.
    fn select(
        &self,
        tags: &[Tag],
        dates: &TagDates,
        now: SystemTime,
    ) -> Result<TagSelection, MissingDates> {
        let mut skipped = Vec::new();
        let mut candidates: Vec<TagCandidate> = Vec::new();
        for tag in tags {
            match self.match_name(tag) {
                Ok(version) => candidates.push((tag.clone(), version)),
                Err(reason) => skipped.push((tag.clone(), reason)),
            }
        }
        candidates.sort_by(|a, b| match (&a.1, &b.1) {
            // Of two names for one version the longer comes first: `1.2.0` moves less often than
            // `1.2`.
            (Some(one), Some(other)) => other.compare(one).then_with(|| compare_names(&b.0, &a.0)),
            _ => compare_names(&a.0, &b.0),
        });
        let selected = match (self.newest, self.order, self.min_age) {
            (None, _, None) => candidates.into_iter().map(|(tag, _)| tag).collect(),
            (Some(count), TagOrder::Version, min_age) => {
                let check = |tag: &Tag| match min_age {
                    Some(_) => Some(check_date(dates.get(tag)?, min_age, now).map(drop)),
                    None => Some(Ok(())),
                };
                select_newest_versions(candidates, count, check, &mut skipped)?
            }
            (newest, _, min_age) => {
                let check = |tag: &Tag| Some(check_date(dates.get(tag)?, min_age, now));
                select_by_date(candidates, newest, check, &mut skipped)?
            }
        };
        Ok(TagSelection { selected, skipped })
    }
}

/// Selects the first `count` candidates of each kind of variant that pass a check. The check returns
/// `None` if it needs the date of a tag.
fn select_newest_versions(
    candidates: Vec<TagCandidate>,
    count: usize,
    check: impl Fn(&Tag) -> Option<Result<(), SkipReason>>,
    skipped: &mut Vec<(Tag, SkipReason)>,
) -> Result<Vec<Tag>, MissingDates> {
    let (mut selected, mut missing) = (Vec::new(), Vec::new());
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (tag, version) in candidates {
        let flavor = version.map(|version| version.flavor_name());
        let selected_count = counts.entry(flavor.unwrap_or_default()).or_default();
        if *selected_count >= count {
            skipped.push((tag, SkipReason::NotAmongNewest(count)));
            continue;
        }
        let result = check(&tag);
        if let Some(Err(reason)) = result {
            skipped.push((tag, reason));
            continue;
        }
        // A tag without a date is counted too, because its date may pass the check.
        *selected_count += 1;
        match result {
            Some(_) => selected.push(tag),
            None => missing.push(tag),
        }
    }
    require_none(missing).map(|()| selected)
}

/// Selects the candidates that pass a check. With a count, selects only that many of the newest,
/// newest first. The check returns the date of a tag, or `None` if it needs the date.
fn select_by_date(
    candidates: Vec<TagCandidate>,
    newest: Option<usize>,
    check: impl Fn(&Tag) -> Option<Result<SystemTime, SkipReason>>,
    skipped: &mut Vec<(Tag, SkipReason)>,
) -> Result<Vec<Tag>, MissingDates> {
    let (mut dated, mut missing) = (Vec::new(), Vec::new());
    for (tag, _) in candidates {
        match check(&tag) {
            Some(Ok(date)) => dated.push((Reverse(date), tag)),
            Some(Err(reason)) => skipped.push((tag, reason)),
            None => missing.push(tag),
        }
    }
    require_none(missing)?;
    if let Some(count) = newest {
        dated.sort_by_key(|(date, _)| *date);
        let rest = dated.split_off(count.min(dated.len()));
        let reason = SkipReason::NotAmongNewest(count);
        skipped.extend(rest.into_iter().map(|(_, tag)| (tag, reason.clone())));
    }
    Ok(dated.into_iter().map(|(_, tag)| tag).collect())
}

fn require_none(missing: Vec<Tag>) -> Result<(), MissingDates> {
    if missing.is_empty() {
        Ok(())
    } else {
        Err(MissingDates(missing))
    }
}

/// Returns the date of an image that is old enough, or the reason to skip its tag. A date in the
/// future is accepted if there is no minimum age.
fn check_date(
    date: &Result<CreationDate, Failure>,
    min_age: Option<Duration>,
    now: SystemTime,
) -> Result<SystemTime, SkipReason> {
    let date = match date {
        Ok(CreationDate::At(date)) => *date,
        Ok(CreationDate::Unknown) => return Err(SkipReason::Undated),
        Ok(CreationDate::Gone) => return Err(SkipReason::Deleted),
        Err(_) => return Err(SkipReason::DateUnavailable),
    };
    match min_age {
        Some(age) if now.duration_since(date).is_ok_and(|since| since >= age) => Ok(date),
        Some(age) => Err(SkipReason::TooYoung(age)),
        None => Ok(date),
    }
}

/// Compares names, with numbers in them as numbers.
fn compare_names(a: &Tag, b: &Tag) -> Ordering {
    compare_versions(a.as_str(), b.as_str()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests;
