//! Ranges of versions, such as `^1.2`, `>=1.20 <2` and `1.* || 3.*`.

use std::fmt;
use std::str::FromStr;

use semver::{Prerelease, Version, VersionReq};

use super::version::{TagVersion, parse_prerelease};

/// The longest range in bytes.
const MAX_RANGE_BYTES: usize = 1024;
/// The most characters of an invalid range that are shown.
const MAX_SHOWN_CHARS: usize = 80;

/// A range of versions: alternatives with `||` between them. Each alternative is a list of
/// comparators with commas or blanks between them, with the syntax of Cargo: `1.2` means `^1.2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRange {
    text: String,
    alternatives: Vec<VersionReq>,
}

impl VersionRange {
    /// Returns whether a version is in the range. A pre-release is in the range only if the range
    /// names a pre-release of the same release, or if `with_prereleases` is set and its release is
    /// in the range.
    pub(super) fn matches(&self, version: &TagVersion, with_prereleases: bool) -> bool {
        let contains = |version: &Version| self.alternatives.iter().any(|any| any.matches(version));
        contains(version.semantic()) || (with_prereleases && contains(&version.release()))
    }
}

impl FromStr for VersionRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = |reason: &str| {
            let shown: String = text.chars().take(MAX_SHOWN_CHARS).collect();
            format!("invalid version range {shown:?}: {reason}")
        };
        if text.len() > MAX_RANGE_BYTES {
            return Err(invalid("it is too long"));
        }
        let mut alternatives = Vec::new();
        for part in text.split("||") {
            let part = comma_separated(part);
            if part.is_empty() {
                return Err(invalid("an alternative is empty"));
            }
            let mut part = VersionReq::parse(&part).map_err(|error| invalid(&error.to_string()))?;
            for comparator in &mut part.comparators {
                // As in tags, with a dot between word and number.
                let prerelease = parse_prerelease(comparator.pre.as_str());
                if let Some(Ok(prerelease)) = prerelease.map(|text| Prerelease::new(&text)) {
                    comparator.pre = prerelease;
                }
            }
            alternatives.push(part);
        }
        Ok(Self {
            text: text.trim().to_owned(),
            alternatives,
        })
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Writes the comparators of an alternative as `semver` parses them: with commas between them, and
/// without blanks after an operator, a leading `v` and leading zeros.
fn comma_separated(part: &str) -> String {
    let mut written = String::new();
    let mut needs_comma = false;
    for word in part.split([',', ' ', '\t']).filter(|word| !word.is_empty()) {
        let version = word.trim_start_matches(['<', '>', '=', '^', '~']);
        let operator = &word[..word.len() - version.len()];
        let version = version.strip_prefix(['v', 'V']).unwrap_or(version);
        let separator = if needs_comma { ", " } else { "" };
        written += &format!("{separator}{operator}{}", without_leading_zeros(version));
        needs_comma = !version.is_empty();
    }
    written
}

/// Removes leading zeros as for tags: `24.04` is `24.4`.
fn without_leading_zeros(version: &str) -> String {
    let (numbers, rest) = version.split_at(version.find(['-', '+']).unwrap_or(version.len()));
    let numbers = numbers.split('.').map(|word| match word.parse::<u64>() {
        Ok(number) => number.to_string(),
        Err(_) => word.to_owned(),
    });
    format!("{}{rest}", numbers.collect::<Vec<_>>().join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(range: &str, tag: &str) -> bool {
        let range: VersionRange = range.parse().unwrap();
        range.matches(&TagVersion::parse(tag).unwrap(), false)
    }

    #[test]
    fn ranges_have_the_syntax_of_cargo() {
        for (range, yes, no) in [
            ("^1.2", "1.9", "2.0"),
            ("1.2", "v1.2.3", "1.1.9"),
            ("~1.2", "1.2.9", "1.3"),
            (">=1.20 <2", "1.100.0", "2"),
            (">= v1.20, < 2", "1.20", "1.19"),
            ("1.* || 3.*", "3.1", "2.1"),
            ("1.x", "1.9", "2.0"),
            ("=1.2.3", "1.2.3-1", "1.2.4"),
            ("*", "0.0.1", "1.0.0-rc1"),
            (">=2.0.0-rc2", "2.0.0-rc10", "2.0.0-rc1"),
            (">=24.04", "24.10", "22.04"),
        ] {
            assert!(contains(range, yes), "{range} {yes}");
            assert!(!contains(range, no), "{range} {no}");
        }
    }

    #[test]
    fn prereleases_are_included_on_request() {
        let range: VersionRange = "<2".parse().unwrap();
        let prerelease = TagVersion::parse("1.5.0-rc1").unwrap();
        assert!(range.matches(&prerelease, true) && !range.matches(&prerelease, false));
        assert!(!range.matches(&TagVersion::parse("2.0.0-rc1").unwrap(), true));
    }

    #[test]
    fn invalid_ranges() {
        for bad in ["", " ", "1 ||", "new", ">", "1.2 - 1.4", &"1,".repeat(600)] {
            assert!(bad.parse::<VersionRange>().is_err(), "{bad}");
        }
    }
}
