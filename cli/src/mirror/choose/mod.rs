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

pub use date::Date;
pub use pattern::{Expression, Glob};
pub use range::Range;
pub use rules::{By, Newest, Rules, Why};

use crate::facts::nearest::versions;
use version::Version;

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The dates of these tags decide: find them out, and choose again.
    Ask(Vec<Tag>),
    /// That is all.
    Chosen(Choice),
}

/// The tags that a mirror takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choice {
    /// Those that it takes: the newest first where rules say what is newer, else by name.
    pub tags: Vec<Tag>,
    /// Those that it does not, by name, and why.
    pub left: Vec<(Tag, Why)>,
}

/// A tag whose name will do.
struct Candidate {
    tag: Tag,
    version: Option<Version>,
}

/// Chooses the tags that any of these rules takes, given the dates that are known so far.
pub fn choose(tags: &[Tag], any: &[Rules], dates: &HashMap<Tag, Date>, now: SystemTime) -> Step {
    let mut asked = Vec::new();
    let mut choices = Vec::new();
    for rules in any {
        match rules.choose(tags, dates, now) {
            Ok(choice) => choices.push(choice),
            Err(tags) => asked.extend(tags),
        }
    }
    if !asked.is_empty() {
        asked.sort();
        asked.dedup();
        return Step::Ask(asked);
    }
    let mut all = Choice::default();
    let mut taken = HashSet::new();
    for choice in &choices {
        let new = choice.tags.iter().filter(|tag| taken.insert(*tag));
        all.tags.extend(new.cloned());
    }
    for (tag, why) in choices.iter().flat_map(|choice| &choice.left) {
        if taken.insert(tag) {
            all.left.push((tag.clone(), why.clone()));
        }
    }
    all.left.sort_by(|(a, _), (b, _)| by_name(a, b));
    Step::Chosen(all)
}

impl Rules {
    /// The choice, or the tags whose dates it hangs on.
    fn choose(
        &self,
        tags: &[Tag],
        dates: &HashMap<Tag, Date>,
        now: SystemTime,
    ) -> Result<Choice, Vec<Tag>> {
        let mut left = Vec::new();
        let mut candidates = Vec::new();
        for tag in tags {
            let tag = tag.clone();
            match self.by_name(&tag) {
                Ok(version) => candidates.push(Candidate { tag, version }),
                Err(why) => left.push((tag, why)),
            }
        }
        candidates.sort_by(|a, b| match (&a.version, &b.version) {
            // Of two names for one version first the longer: `1.2.0` moves less than `1.2`.
            (Some(one), Some(other)) => other.order(one).then_with(|| by_name(&b.tag, &a.tag)),
            _ => by_name(&a.tag, &b.tag),
        });
        let tags = match (self.newest, self.min_age) {
            (None, None) => candidates.into_iter().map(|it| it.tag).collect(),
            (
                Some(Newest {
                    count,
                    by: By::Version,
                }),
                min_age,
            ) => {
                let is_good = |tag: &Tag| match min_age {
                    Some(age) => Some(is_old(dates.get(tag)?, age, now)),
                    None => Some(Ok(())),
                };
                newest_versions(candidates, count, is_good, &mut left)?
            }
            (newest, min_age) => {
                let dated = dated(candidates, dates)?;
                by_date(dated, newest.map(|it| it.count), min_age, now, &mut left)
            }
        };
        Ok(Choice { tags, left })
    }
}

/// The first so many of every kind of variant that are good; where it is not known of one whether
/// it is, those that have to be asked next.
fn newest_versions(
    candidates: Vec<Candidate>,
    count: usize,
    is_good: impl Fn(&Tag) -> Option<Result<(), Why>>,
    left: &mut Vec<(Tag, Why)>,
) -> Result<Vec<Tag>, Vec<Tag>> {
    let mut chosen = Vec::new();
    let mut asked = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for Candidate { tag, version } in candidates {
        let kind = version.map(|it| it.kind()).unwrap_or_default();
        let taken = places.entry(kind).or_default();
        if *taken >= count {
            left.push((tag, Why::TooOld(count)));
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
    candidates: Vec<Candidate>,
    dates: &HashMap<Tag, Date>,
) -> Result<Vec<(Tag, Date)>, Vec<Tag>> {
    let unknown = |it: &&Candidate| !dates.contains_key(&it.tag);
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
    dated: Vec<(Tag, Date)>,
    count: Option<usize>,
    min_age: Option<Duration>,
    now: SystemTime,
    left: &mut Vec<(Tag, Why)>,
) -> Vec<Tag> {
    let mut good = Vec::new();
    for (tag, date) in dated {
        match is_old(&date, min_age.unwrap_or_default(), now) {
            Ok(()) => good.push((tag, date)),
            // The future is no obstacle where no age is asked for.
            Err(Why::TooYoung(_)) if min_age.is_none() => good.push((tag, date)),
            Err(why) => left.push((tag, why)),
        }
    }
    let Some(count) = count else {
        return good.into_iter().map(|(tag, _)| tag).collect();
    };
    good.sort_by_key(|(_, date)| match date {
        Date::At(time) => Reverse(Some(*time)),
        Date::Unknown | Date::Gone | Date::Failed => Reverse(None),
    });
    let rest = good.split_off(count.min(good.len()));
    left.extend(rest.into_iter().map(|(tag, _)| (tag, Why::TooOld(count))));
    good.into_iter().map(|(tag, _)| tag).collect()
}

fn is_old(date: &Date, age: Duration, now: SystemTime) -> Result<(), Why> {
    match date {
        Date::At(time) => match now.duration_since(*time) {
            Ok(since) if since >= age => Ok(()),
            Ok(_) | Err(_) => Err(Why::TooYoung(age)),
        },
        Date::Unknown => Err(Why::Undated),
        Date::Gone => Err(Why::Gone),
        Date::Failed => Err(Why::DateFailed),
    }
}

/// Numbers in names count as numbers.
fn by_name(a: &Tag, b: &Tag) -> Ordering {
    versions(a.as_str(), b.as_str()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests;
