//! Ranges of versions: `^1.2`, `>=1.20 <2`, `1.* || 3.*`.

use std::fmt;
use std::str::FromStr;

use semver::{Prerelease, VersionReq};

use super::version::{TagVersion, parse_prerelease};

/// A range is no essay, in bytes.
const MAX_RANGE_BYTES: usize = 1024;

/// Versions that are meant: those that one of the parts between `||` takes. In a part all
/// comparators must hold, with commas or blanks between them, each as Cargo has them: `1.2` means
/// `^1.2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRange {
    text: String,
    any: Vec<VersionReq>,
}

impl VersionRange {
    /// Whether a version is among them. A pre-release is only where the range names one of the same
    /// release, or where `early` says that pre-releases are wanted.
    pub(super) fn matches(&self, version: &TagVersion, early: bool) -> bool {
        let of = |version: &semver::Version| self.any.iter().any(|part| part.matches(version));
        of(&version.semantic()) || (early && of(&version.release()))
    }
}

impl FromStr for VersionRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            let shown: String = text.chars().take(80).collect();
            format!("invalid range of versions {shown:?}: {why}")
        };
        if text.len() > MAX_RANGE_BYTES {
            return Err(wrong("too long"));
        }
        let mut any = Vec::new();
        for part in text.split("||") {
            let part = comparators(part).ok_or_else(|| wrong("a part of it is empty"))?;
            let mut part = VersionReq::parse(&part).map_err(|error| wrong(&error.to_string()))?;
            for comparator in &mut part.comparators {
                // As tags' are: with a dot between name and number.
                let early = parse_prerelease(comparator.pre.as_str());
                if let Some(early) = early.and_then(|early| Prerelease::new(&early).ok()) {
                    comparator.pre = early;
                }
            }
            any.push(part);
        }
        let text = text.trim().to_owned();
        Ok(Self { text, any })
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The comparators of a part with commas between them, as `semver` reads them.
fn comparators(part: &str) -> Option<String> {
    let mut comparators: Vec<String> = Vec::new();
    let mut is_open = false;
    for word in part.split([',', ' ', '\t']).filter(|word| !word.is_empty()) {
        let version = word.trim_start_matches(['<', '>', '=', '^', '~']);
        let operator = &word[..word.len() - version.len()];
        let bare = version.strip_prefix(['v', 'V']).unwrap_or(version);
        let word = format!("{operator}{}", without_leading_zeros(bare));
        match comparators.last_mut().filter(|_| is_open) {
            Some(last) => last.push_str(&word),
            None => comparators.push(word),
        }
        is_open = bare.is_empty();
    }
    (!comparators.is_empty()).then(|| comparators.join(", "))
}

/// `24.04` is `24.4`, as for tags.
fn without_leading_zeros(version: &str) -> String {
    let (numbers, rest) = version.split_at(version.find(['-', '+']).unwrap_or(version.len()));
    let trimmed = numbers
        .split('.')
        .map(|word| match word.trim_start_matches('0') {
            "" if !word.is_empty() => "0",
            shorter if word.bytes().all(|byte| byte.is_ascii_digit()) => shorter,
            _ => word,
        });
    format!("{}{rest}", trimmed.collect::<Vec<_>>().join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(range: &str, tag: &str) -> bool {
        let range: VersionRange = range.parse().unwrap();
        range.matches(&TagVersion::parse(tag).unwrap(), false)
    }

    #[test]
    fn as_cargo_has_them() {
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
            assert!(takes(range, yes), "{range} {yes}");
            assert!(!takes(range, no), "{range} {no}");
        }
    }

    #[test]
    fn pre_releases_where_they_are_wanted() {
        let range: VersionRange = "<2".parse().unwrap();
        let early = TagVersion::parse("1.5.0-rc1").unwrap();
        assert!(range.matches(&early, true) && !range.matches(&early, false));
        assert!(!range.matches(&TagVersion::parse("2.0.0-rc1").unwrap(), true));
    }

    #[test]
    fn what_is_no_range() {
        for bad in ["", " ", "1 ||", "new", ">", "1.2 - 1.4", &"1,".repeat(600)] {
            assert!(bad.parse::<VersionRange>().is_err(), "{bad}");
        }
    }
}
