//! The rules that select the tags of a mirror, and the reasons why a tag is skipped.

use std::time::Duration;

use clap::ValueEnum;
use imgsync_oci::Tag;
use serde::Deserialize;

use super::pattern::TagPattern;
use super::range::VersionRange;
use super::version::TagVersion;
use crate::image::subject_of;

/// Rules that a tag must match. Without any rule every tag is selected.
#[derive(Debug, Clone, Default)]
pub struct TagRules {
    /// One of these must match the tag, if there are any.
    pub patterns: Vec<TagPattern>,
    /// None of these may match the tag.
    pub exclude: Vec<TagPattern>,
    /// The tag must be a version in this range.
    pub range: Option<VersionRange>,
    /// The tag must be among this number of newest tags. By version, each kind of variant is
    /// counted separately.
    pub newest: Option<usize>,
    /// The order of the newest tags.
    pub order: TagOrder,
    /// The image must be at least this old.
    pub min_age: Option<Duration>,
}

/// The order of tags, from old to new.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TagOrder {
    /// The version
    #[default]
    Version,
    /// The creation date in the image
    Date,
}

/// Why a tag is not selected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// The tag is a referrer of an image, and is copied with that image.
    #[error("is copied with the image that it belongs to")]
    ReferrerTag,
    /// This pattern excludes the tag.
    #[error("excluded by {0}")]
    Excluded(String),
    /// No pattern matches the tag.
    #[error("matches no pattern")]
    Unmatched,
    /// Only versions are selected, and the tag is not a version.
    #[error("is not a version")]
    NotAVersion,
    /// The tag is a pre-release or a variant, and no pattern selects those.
    #[error("is a variant or pre-release; only a glob with a - or a regular expression selects it")]
    NotAPlainRelease,
    /// The version is not in this range.
    #[error("is not in {0}")]
    OutOfRange(String),
    /// There are this many newer tags.
    #[error("is not {}", format_newest(*.0))]
    NotAmongNewest(usize),
    /// The image is younger than this.
    #[error("is younger than {}", format_age(*.0))]
    TooYoung(Duration),
    /// A date is needed, and the image has none.
    #[error("has no creation date")]
    Undated,
    /// A date is needed, and it could not be fetched.
    #[error("its creation date could not be fetched")]
    DateUnavailable,
    /// The tag was deleted after the tags were listed.
    #[error("was deleted at the source during this run")]
    Deleted,
}

fn format_newest(count: usize) -> String {
    match count {
        1 => "the newest".to_owned(),
        count => format!("among the {count} newest"),
    }
}

/// Formats an age in the largest unit of which it is a whole number.
fn format_age(age: Duration) -> String {
    let seconds = age.as_secs();
    let units = [(86_400, "d"), (3600, "h"), (60, "min")];
    let is_whole = |(unit, _): &&(u64, _)| seconds >= *unit && seconds.is_multiple_of(*unit);
    let (unit, name) = units.iter().find(is_whole).unwrap_or(&(1, "s"));
    format!("{} {name}", seconds / unit)
}

impl TagRules {
    /// Returns whether every tag is selected.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
            && self.exclude.is_empty()
            && self.range.is_none()
            && self.newest.is_none()
            && self.min_age.is_none()
    }

    /// Checks the rules that need only the name of a tag. Returns the version if a rule needs it, or
    /// the reason to skip the tag.
    pub(super) fn match_name(&self, tag: &Tag) -> Result<Option<TagVersion>, SkipReason> {
        if subject_of(tag).is_some() {
            return Err(SkipReason::ReferrerTag);
        }
        let matches = |pattern: &&TagPattern| pattern.matches(tag.as_str());
        if let Some(pattern) = self.exclude.iter().find(matches) {
            return Err(SkipReason::Excluded(pattern.to_string()));
        }
        let matching: Vec<_> = self.patterns.iter().filter(matches).collect();
        if matching.is_empty() && !self.patterns.is_empty() {
            return Err(SkipReason::Unmatched);
        }
        let counts_versions = self.newest.is_some() && self.order == TagOrder::Version;
        if self.range.is_none() && !counts_versions {
            return Ok(None);
        }
        let version = TagVersion::parse(tag.as_str()).ok_or(SkipReason::NotAVersion)?;
        let selects_suffixes = matching.iter().any(|pattern| pattern.selects_suffixes());
        let is_in_range = |range: &VersionRange| range.matches(&version, false);
        // A range may name a pre-release itself: `>=2.0.0-rc1`.
        let is_named = !version.has_flavor() && self.range.as_ref().is_some_and(is_in_range);
        if !version.is_plain_release() && !selects_suffixes && !is_named {
            return Err(SkipReason::NotAPlainRelease);
        }
        match &self.range {
            Some(range) if !range.matches(&version, selects_suffixes) => {
                Err(SkipReason::OutOfRange(range.to_string()))
            }
            _ => Ok(Some(version)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_largest_whole_unit() {
        let shown = |seconds| format_age(Duration::from_secs(seconds));
        assert_eq!(
            [shown(7 * 86_400), shown(36 * 3600), shown(90), shown(0)],
            ["7 d", "36 h", "90 s", "0 s"]
        );
    }
}
