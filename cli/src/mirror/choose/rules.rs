//! The rules by which a mirror takes tags, and why it leaves one out.

use std::fmt;
use std::time::Duration;

use imgsync_oci::Tag;

use super::pattern::{Expression, Glob};
use super::range::Range;
use super::version::Version;
use crate::mirror::companion;

/// What a tag must be like. Without any rule every tag is taken.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// One of these, or of the expressions, must match.
    pub globs: Vec<Glob>,
    /// As the globs.
    pub expressions: Vec<Expression>,
    /// None of these may match.
    pub exclude_globs: Vec<Glob>,
    /// Nor of these.
    pub exclude_expressions: Vec<Expression>,
    /// It must be a version in this range.
    pub range: Option<Range>,
    /// It must be among so many newest ones.
    pub newest: Option<Newest>,
    /// Its image must be this old.
    pub min_age: Option<Duration>,
}

/// So many, counted from the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newest {
    /// How many; of every kind of variant.
    pub count: usize,
    /// What makes one newer.
    pub by: By,
}

/// What makes a tag newer than another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum By {
    /// The version that it is.
    #[default]
    Version,
    /// The date that its image was made.
    Date,
}

/// Why a tag is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It speaks about another image, and goes where that one goes.
    Companion,
    /// This pattern excludes it.
    Excluded(String),
    /// No pattern takes it.
    Unmatched,
    /// It is no version, and only versions are wanted.
    NoVersion,
    /// It is a variant or pre-release, which no pattern asks for.
    Suffix,
    /// It is a version out of this range.
    OutOfRange(String),
    /// So many newer ones are there.
    TooOld(usize),
    /// It is younger than this.
    TooYoung(Duration),
    /// A date is needed, and its image has none.
    Undated,
    /// A date is needed, and could not be asked.
    DateFailed,
    /// It went since the tags were listed.
    Gone,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Companion => f.write_str("goes along with the image that it speaks about"),
            Self::Excluded(pattern) => write!(f, "excluded by {pattern}"),
            Self::Unmatched => f.write_str("no pattern takes it"),
            Self::NoVersion => f.write_str("is no version"),
            Self::Suffix => f.write_str(
                "is a variant or pre-release; a glob with a - in it, or an expression, would take it",
            ),
            Self::OutOfRange(range) => write!(f, "is not in {range}"),
            Self::TooOld(1) => f.write_str("is not the newest"),
            Self::TooOld(count) => write!(f, "is not among the {count} newest"),
            Self::TooYoung(age) => write!(f, "is younger than {}", days(*age)),
            Self::Undated => f.write_str("does not say when it was made"),
            Self::DateFailed => f.write_str("could not be asked when it was made"),
            Self::Gone => f.write_str("went in the meantime"),
        }
    }
}

/// A time span in the largest unit that it is whole in.
fn days(span: Duration) -> String {
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

impl Rules {
    /// Whether any tag of a repository would do.
    pub fn is_empty(&self) -> bool {
        let Self {
            globs,
            expressions,
            exclude_globs,
            exclude_expressions,
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
    pub(super) fn by_name(&self, tag: &Tag) -> Result<Option<Version>, Why> {
        let name = tag.as_str();
        if companion(tag).is_some() {
            return Err(Why::Companion);
        }
        let glob = self.exclude_globs.iter().find(|glob| glob.takes(name));
        let mut excluded = self.exclude_expressions.iter();
        let expression = excluded.find(|expression| expression.takes(name));
        let excluded = match (glob, expression) {
            (Some(glob), _) => Some(glob.to_string()),
            (None, expression) => expression.map(Expression::to_string),
        };
        if let Some(pattern) = excluded {
            return Err(Why::Excluded(pattern));
        }
        let globs: Vec<_> = self.globs.iter().filter(|glob| glob.takes(name)).collect();
        let is_expressed = self.expressions.iter().any(|it| it.takes(name));
        let is_open = self.globs.is_empty() && self.expressions.is_empty();
        if globs.is_empty() && !is_expressed && !is_open {
            return Err(Why::Unmatched);
        }
        let by_version = matches!(
            self.newest,
            Some(Newest {
                by: By::Version,
                ..
            })
        );
        if self.range.is_none() && !by_version {
            return Ok(None);
        }
        let version = Version::parse(name).ok_or(Why::NoVersion)?;
        let is_asked_for = is_expressed || globs.iter().any(|glob| glob.names_suffix());
        let is_taken = |early| {
            self.range
                .as_ref()
                .is_none_or(|it| it.takes(&version, early))
        };
        // A range may name a pre-release itself: `>=2.0.0-rc1`.
        let is_named = !version.is_variant() && self.range.is_some() && is_taken(false);
        if !version.is_plain() && !is_asked_for && !is_named {
            return Err(Why::Suffix);
        }
        match &self.range {
            Some(range) if !is_taken(is_asked_for) => Err(Why::OutOfRange(range.to_string())),
            Some(_) | None => Ok(Some(version)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_as_people_read_them() {
        let shown = |seconds| days(Duration::from_secs(seconds));
        assert_eq!(
            [shown(7 * 86_400), shown(36 * 3600), shown(90), shown(0)],
            ["7 d", "36 h", "90 s", "0 s"]
        );
    }
}
