//! The rules by which a mirror takes tags, and why it leaves one out.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use imgsync_oci::Tag;
use serde::Deserialize;

use super::pattern::{TagGlob, TagRegex};
use super::range::VersionRange;
use super::version::TagVersion;
use crate::image::subject_of;

/// What a tag must be like. Without any rule every tag is taken.
#[derive(Debug, Clone, Default)]
pub struct TagRules {
    /// One of these, or of the expressions, must match.
    pub globs: Vec<TagGlob>,
    /// As the globs.
    pub regexes: Vec<TagRegex>,
    /// None of these may match.
    pub exclude_globs: Vec<TagGlob>,
    /// Nor of these.
    pub exclude_regexes: Vec<TagRegex>,
    /// It must be a version in this range.
    pub range: Option<VersionRange>,
    /// It must be among so many newest ones.
    pub newest: Option<NewestLimit>,
    /// Its image must be this old.
    pub min_age: Option<Duration>,
}

/// So many, counted from the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewestLimit {
    /// How many; of every kind of variant.
    pub count: usize,
    /// What makes one newer.
    pub order: TagOrder,
}

/// What makes a tag newer than another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TagOrder {
    /// The version
    #[default]
    Version,
    /// The creation date in the image
    Date,
}

/// SkipReason a tag is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkipReason {
    /// It speaks about another image, and goes where that one goes.
    ReferrerTag,
    /// This pattern excludes it.
    Excluded(String),
    /// No pattern takes it.
    Unmatched,
    /// It is no version, and only versions are wanted.
    NotAVersion,
    /// It is a variant or pre-release, which no pattern asks for.
    NotAPlainRelease,
    /// It is a version out of this range.
    OutOfRange(String),
    /// So many newer ones are there.
    NotAmongNewest(usize),
    /// It is younger than this.
    TooYoung(Duration),
    /// A date is needed, and its image has none.
    Undated,
    /// A date is needed, and could not be asked.
    DateUnavailable,
    /// It went since the tags were listed.
    Deleted,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReferrerTag => f.write_str("goes along with the image that it speaks about"),
            Self::Excluded(pattern) => write!(f, "excluded by {pattern}"),
            Self::Unmatched => f.write_str("no pattern takes it"),
            Self::NotAVersion => f.write_str("is no version"),
            Self::NotAPlainRelease => f.write_str(
                "is a variant or pre-release; a glob with a - in it, or an expression, would take it",
            ),
            Self::OutOfRange(range) => write!(f, "is not in {range}"),
            Self::NotAmongNewest(1) => f.write_str("is not the newest"),
            Self::NotAmongNewest(count) => write!(f, "is not among the {count} newest"),
            Self::TooYoung(age) => write!(f, "is younger than {}", format_duration(*age)),
            Self::Undated => f.write_str("does not say when it was made"),
            Self::DateUnavailable => f.write_str("could not be asked when it was made"),
            Self::Deleted => f.write_str("went in the meantime"),
        }
    }
}

/// A time span in the largest unit that it is whole in.
fn format_duration(span: Duration) -> String {
    let seconds = span.as_secs();
    let units = [(86_400, "d"), (3600, "h"), (60, "min")];
    match units
        .iter()
        .find(|(unit, _)| seconds >= *unit && seconds.is_multiple_of(*unit))
    {
        Some((unit, name)) => format!("{} {name}", seconds / unit),
        None => format!("{seconds} s"),
    }
}

impl TagRules {
    /// Whether any tag of a repository would do.
    pub fn is_empty(&self) -> bool {
        let Self {
            globs,
            regexes: expressions,
            exclude_globs,
            exclude_regexes: exclude_expressions,
            range,
            newest,
            min_age,
        } = self;
        globs.is_empty()
            && expressions.is_empty()
            && exclude_globs.is_empty()
            && exclude_expressions.is_empty()
            && range.is_none()
            && newest.is_none()
            && min_age.is_none()
    }

    /// What the name alone says: the version where versions count, or why it is left out.
    pub(super) fn match_name(&self, tag: &Tag) -> Result<Option<TagVersion>, SkipReason> {
        let name = tag.as_str();
        if subject_of(tag).is_some() {
            return Err(SkipReason::ReferrerTag);
        }
        let glob = self.exclude_globs.iter().find(|glob| glob.matches(name));
        let mut excluded = self.exclude_regexes.iter();
        let expression = excluded.find(|expression| expression.matches(name));
        let excluded = match (glob, expression) {
            (Some(glob), _) => Some(glob.to_string()),
            (None, expression) => expression.map(TagRegex::to_string),
        };
        if let Some(pattern) = excluded {
            return Err(SkipReason::Excluded(pattern));
        }
        let globs: Vec<_> = self
            .globs
            .iter()
            .filter(|glob| glob.matches(name))
            .collect();
        let is_expressed = self.regexes.iter().any(|it| it.matches(name));
        let is_open = self.globs.is_empty() && self.regexes.is_empty();
        if globs.is_empty() && !is_expressed && !is_open {
            return Err(SkipReason::Unmatched);
        }
        let by_version = matches!(
            self.newest,
            Some(NewestLimit {
                order: TagOrder::Version,
                ..
            })
        );
        if self.range.is_none() && !by_version {
            return Ok(None);
        }
        let version = TagVersion::parse(name).ok_or(SkipReason::NotAVersion)?;
        let is_asked_for = is_expressed || globs.iter().any(|glob| glob.has_suffix_separator());
        let is_taken = |early| {
            self.range
                .as_ref()
                .is_none_or(|it| it.matches(&version, early))
        };
        // A range may name a pre-release itself: `>=2.0.0-rc1`.
        let is_named = !version.has_flavor() && self.range.is_some() && is_taken(false);
        if !version.is_plain_release() && !is_asked_for && !is_named {
            return Err(SkipReason::NotAPlainRelease);
        }
        match &self.range {
            Some(range) if !is_taken(is_asked_for) => {
                Err(SkipReason::OutOfRange(range.to_string()))
            }
            Some(_) | None => Ok(Some(version)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_as_people_read_them() {
        let shown = |seconds| format_duration(Duration::from_secs(seconds));
        assert_eq!(
            [shown(7 * 86_400), shown(36 * 3600), shown(90), shown(0)],
            ["7 d", "36 h", "90 s", "0 s"]
        );
    }
}
