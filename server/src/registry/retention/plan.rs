//! Decides which tags of a repository a rule removes. No I/O.
//!
//! A tag is removed only if the rule has conditions for tags, none of them keeps the tag, and all
//! times of the tag are known. Start reading at [`plan_tags`].

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use imgsync_oci::units::format_duration;
use imgsync_oci::{Digest, Tag};

use crate::config::RetentionRule;

pub(super) const SECONDS_PER_DAY: u64 = 24 * 3600;

/// Facts about a tag. Times are in Unix seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TagFacts {
    /// The tag.
    pub(crate) tag: Tag,
    /// The manifest that it points at; `None` if that cannot be read.
    pub(crate) digest: Option<Digest>,
    /// When it was last pushed; `None` if that cannot be read.
    pub(crate) pushed_at: Option<u64>,
}

/// The last days on which manifests of a repository were pulled, in days since 1970; `None` if they
/// cannot be read.
pub(super) type PullDays = Option<HashMap<Digest, u64>>;

/// The decision about a tag, and its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TagVerdict {
    /// The tag stays.
    Keep(KeepReason),
    /// The tag is removed.
    Remove(RemoveReason),
}

/// Why a tag stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeepReason {
    /// The tag is one of this many newest tags.
    Newest(usize),
    /// Its name matches this pattern.
    Name(String),
    /// The tag was pushed within this time.
    Pushed(Duration),
    /// The tag was pulled within this time.
    Pulled(Duration),
    /// A time of the tag is not known.
    UnknownTimes,
}

/// Why a tag is removed: nothing keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoveReason {
    /// How long ago it was pushed.
    pub(crate) pushed_ago: Duration,
    /// How long ago it was pulled, at least, in whole days; `None` if no pull is known.
    pub(crate) pulled_ago: Option<Duration>,
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newest(count) => write!(f, "one of the {count} newest tags (keepnewest)"),
            Self::Name(pattern) => write!(f, "the name matches {pattern} (keeptags)"),
            Self::Pushed(age) => {
                let age = format_duration(*age);
                write!(f, "pushed within the last {age} (keeppushed)")
            }
            Self::Pulled(age) => {
                let age = format_duration(*age);
                write!(f, "pulled within the last {age} (keeppulled)")
            }
            Self::UnknownTimes => write!(f, "its times cannot be read"),
        }
    }
}

impl fmt::Display for RemoveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pushed {} ago, ", approximate(self.pushed_ago))?;
        match self.pulled_ago {
            Some(age) if age.is_zero() => write!(f, "pulled today"),
            Some(age) => write!(f, "pulled {} ago", approximate(age)),
            None => write!(f, "no pull known"),
        }
    }
}

/// Formats a duration in its largest units: days from two days on, otherwise hours or less.
fn approximate(age: Duration) -> String {
    let unit = match age.as_secs() {
        seconds if seconds >= 2 * SECONDS_PER_DAY => SECONDS_PER_DAY,
        seconds if seconds >= 2 * 3600 => 3600,
        seconds if seconds >= 120 => 60,
        _ => 1,
    };
    format_duration(Duration::from_secs(age.as_secs() / unit * unit))
}

/// Returns what a rule does to the tags of a repository at `now` (Unix seconds). The newest tag comes
/// first.
pub(super) fn plan_tags(
    rule: &RetentionRule,
    mut tags: Vec<TagFacts>,
    pulls: &PullDays,
    now: u64,
) -> Vec<(TagFacts, TagVerdict)> {
    // Tags of unknown times come last, so that they do not take the place of others. Names decide
    // between tags that were pushed at the same time.
    tags.sort_by(|a, b| (b.pushed_at, &b.tag).cmp(&(a.pushed_at, &a.tag)));
    let tags = tags.into_iter().enumerate();
    tags.map(|(rank, facts)| {
        let verdict = judge(rule, rank, &facts, pulls, now);
        (facts, verdict)
    })
    .collect()
}

fn judge(
    rule: &RetentionRule,
    rank: usize,
    facts: &TagFacts,
    pulls: &PullDays,
    now: u64,
) -> TagVerdict {
    let (Some(digest), Some(pushed_at), Some(pulls)) = (&facts.digest, facts.pushed_at, pulls)
    else {
        return TagVerdict::Keep(KeepReason::UnknownTimes);
    };
    let mut patterns = rule.keep_tags.iter();
    if let Some(pattern) = patterns.find(|pattern| pattern.matches(&facts.tag)) {
        return TagVerdict::Keep(KeepReason::Name(pattern.to_string()));
    }
    if let Some(count) = rule.keep_newest
        && rank < count
    {
        return TagVerdict::Keep(KeepReason::Newest(count));
    }
    let pushed_ago = Duration::from_secs(now.saturating_sub(pushed_at));
    if let Some(age) = rule.keep_pushed
        && pushed_ago < age
    {
        return TagVerdict::Keep(KeepReason::Pushed(age));
    }
    // The day counts up to its end.
    let pulled_ago = pulls.get(digest).map(|day| {
        let end = day.saturating_add(1).saturating_mul(SECONDS_PER_DAY);
        Duration::from_secs(now.saturating_sub(end))
    });
    if let (Some(age), Some(pulled_ago)) = (rule.keep_pulled, pulled_ago)
        && pulled_ago < age
    {
        return TagVerdict::Keep(KeepReason::Pulled(age));
    }
    TagVerdict::Remove(RemoveReason {
        pushed_ago,
        pulled_ago,
    })
}
