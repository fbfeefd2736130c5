//! Tags that are versions, such as `v1.2.3`, `1.2`, `2.0.0-rc1` and `1.27.3-alpine3.20`.
//!
//! Unlike in Semantic Versioning, a suffix of a tag usually names a variant of the image. It is a
//! pre-release only if it begins with a word for one, and a revision (`1.2.3-1`) if it is a number.

use std::cmp::Ordering;

use semver::{Prerelease, Version};

use crate::text::compare_versions;

/// The most numbers of a version, including those of its revision.
const MAX_VERSION_NUMBERS: usize = 8;
/// The most numbers with dots between them.
const MAX_DOTTED_NUMBERS: usize = 4;
/// Words that begin a pre-release, with or without a number behind them.
const PRERELEASE_WORDS: &str = "alpha beta canary cr dev ea edge experimental insiders milestone \
                                nightly pre preview prerelease rc snapshot test testing unstable";
/// Words that begin a pre-release only with a number behind them: `3.13.0a1`.
const NUMBERED_PRERELEASE_WORDS: &str = "a b m";

/// A tag that is a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TagVersion {
    /// The version without revision and variant. Numbers that the tag does not have are 0.
    version: Version,
    /// Further numbers: `1.2.3.4`, `1.2.3-1`.
    revision: Vec<u64>,
    /// The name of the variant, such as `alpine3.20` or `slim-bookworm`; empty if there is none.
    flavor: String,
}

impl TagVersion {
    /// Parses a tag; `None` if it is not a version.
    pub(super) fn parse(tag: &str) -> Option<Self> {
        let text = tag.strip_prefix(['v', 'V']).unwrap_or(tag);
        let (mut numbers, suffix) = split_numbers(text)?;
        let words: Vec<&str> = match suffix.strip_prefix(['-', '_', '.']) {
            Some(suffix) => suffix.split(['-', '_']).collect(),
            None if suffix.is_empty() => Vec::new(),
            // A commit hash also has letters directly after a number.
            None if numbers.len() > 1 && parse_prerelease(suffix).is_some() => vec![suffix],
            None => return None,
        };
        let mut words = words.into_iter().peekable();
        // The number of a revision, or the parts of a date.
        while let Some(number) = words.peek().and_then(|word| parse_number(word))
            && numbers.len() < MAX_VERSION_NUMBERS
        {
            // The number is a revision even if there is no minor version or patch.
            numbers.resize(numbers.len().max(3), 0);
            numbers.push(number);
            words.next();
        }
        let mut prerelease = words.peek().and_then(|word| parse_prerelease(word));
        if let Some(prerelease) = &mut prerelease {
            words.next();
            // `rc-1` is the same as `rc1`.
            if !prerelease.ends_with(|c: char| c.is_ascii_digit())
                && let Some(number) = words.peek().and_then(|word| parse_dotted(word))
            {
                *prerelease = format!("{prerelease}.{number}");
                words.next();
            }
        }
        numbers.resize(numbers.len().max(3), 0);
        let revision = numbers.split_off(3);
        let mut version = Version::new(numbers[0], numbers[1], numbers[2]);
        version.pre = Prerelease::new(&prerelease.unwrap_or_default()).ok()?;
        let flavor = words.collect::<Vec<_>>().join("-");
        Some(Self {
            version,
            revision,
            flavor,
        })
    }

    /// Returns whether the tag is neither a pre-release nor a variant.
    pub(super) fn is_plain_release(&self) -> bool {
        self.version.pre.is_empty() && self.flavor.is_empty()
    }

    /// Returns whether the tag is a variant of a release or pre-release.
    pub(super) fn has_flavor(&self) -> bool {
        !self.flavor.is_empty()
    }

    /// Returns the name of the variant without the version of the variant: `alpine` for
    /// `alpine3.20`.
    pub(super) fn flavor_name(&self) -> String {
        let is_kept = |c: &char| !c.is_ascii_digit() && *c != '.';
        self.flavor.chars().filter(is_kept).collect()
    }

    /// Returns the version as in Semantic Versioning, without revision and variant.
    pub(super) fn semantic(&self) -> &Version {
        &self.version
    }

    /// Returns the release, or the release that a pre-release precedes.
    pub(super) fn release(&self) -> Version {
        Version::new(self.version.major, self.version.minor, self.version.patch)
    }

    /// Compares versions, and variants of the same version by the version of the variant.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        self.release()
            .cmp(&other.release())
            .then_with(|| self.revision.cmp(&other.revision))
            .then_with(|| self.version.pre.cmp(&other.version.pre))
            .then_with(|| compare_versions(&self.flavor, &other.flavor))
    }
}

/// Splits off the leading numbers with dots between them. Returns `None` if there are none or too
/// many.
fn split_numbers(text: &str) -> Option<(Vec<u64>, &str)> {
    let mut numbers = Vec::new();
    let mut rest = text;
    loop {
        let is_other = |c: char| !c.is_ascii_digit();
        let (digits, after) = rest.split_at(rest.find(is_other).unwrap_or(rest.len()));
        numbers.push(parse_number(digits)?);
        let begins_with_digit = |text: &&str| text.starts_with(|c: char| c.is_ascii_digit());
        match after.strip_prefix('.').filter(begins_with_digit) {
            Some(_) if numbers.len() == MAX_DOTTED_NUMBERS => return None,
            Some(next) => rest = next,
            None => return Some((numbers, after)),
        }
    }
}

fn parse_number(word: &str) -> Option<u64> {
    // `parse` alone would accept a plus sign.
    let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| word.parse().ok()).flatten()
}

/// Removes leading zeros of numbers with dots between them: `1.02` is `1.2`.
fn parse_dotted(word: &str) -> Option<String> {
    let numbers: Option<Vec<_>> = word.split('.').map(parse_number).collect();
    let numbers: Vec<_> = numbers?.iter().map(u64::to_string).collect();
    Some(numbers.join("."))
}

/// Parses a pre-release, and puts a dot between its word and its number, so that `rc10` comes after
/// `rc9`.
pub(super) fn parse_prerelease(word: &str) -> Option<String> {
    let word = word.to_ascii_lowercase();
    let is_other = |c: char| !c.is_ascii_lowercase();
    let (name, rest) = word.split_at(word.find(is_other).unwrap_or(word.len()));
    let is_in = |words: &str| words.split(' ').any(|word| word == name);
    let is_word = is_in(PRERELEASE_WORDS);
    if is_word && matches!(rest, "" | ".") {
        return Some(name.to_owned());
    }
    let number = parse_dotted(rest.strip_prefix('.').unwrap_or(rest))?;
    (is_word || is_in(NUMBERED_PRERELEASE_WORDS)).then(|| format!("{name}.{number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(tag: &str) -> String {
        match TagVersion::parse(tag) {
            Some(parsed) => {
                let revision: Vec<_> = parsed.revision.iter().map(u64::to_string).collect();
                format!(
                    "{} [{}] {}",
                    parsed.version,
                    revision.join("."),
                    parsed.flavor
                )
            }
            None => "none".to_owned(),
        }
    }

    #[test]
    fn tags_are_parsed() {
        for (tag, expected) in [
            ("1.2.3", "1.2.3 [] "),
            ("v1.2.3", "1.2.3 [] "),
            ("1.2", "1.2.0 [] "),
            ("1", "1.0.0 [] "),
            ("24.04", "24.4.0 [] "),
            ("1.2.3.4", "1.2.3 [4] "),
            ("1.2.3-1", "1.2.3 [1] "),
            ("2024-01-05", "2024.0.0 [1.5] "),
            ("1.2.3-alpine", "1.2.3 [] alpine"),
            ("1.27.3-alpine3.20-slim", "1.27.3 [] alpine3.20-slim"),
            ("1.2.3-debian-12-r1", "1.2.3 [] debian-12-r1"),
            ("1.2.3_amd64", "1.2.3 [] amd64"),
            ("2.0.0-rc1", "2.0.0-rc.1 [] "),
            ("2.0.0-rc.01", "2.0.0-rc.1 [] "),
            ("2.0.0-RC-1-alpine", "2.0.0-rc.1 [] alpine"),
            ("3.13.0b2", "3.13.0-b.2 [] "),
            ("3.13-rc", "3.13.0-rc [] "),
            ("1.0.0-beta.2.1", "1.0.0-beta.2.1 [] "),
            ("1.0-a", "1.0.0 [] a"),
            ("1.0.0-betamax", "1.0.0 [] betamax"),
            ("latest", "none"),
            ("", "none"),
            ("v", "none"),
            ("1e5f3a2", "none"),
            ("1.2.3.4.5", "none"),
            ("99999999999999999999", "none"),
            (
                "1.2.3-99999999999999999999",
                "1.2.3 [] 99999999999999999999",
            ),
        ] {
            assert_eq!(shown(tag), expected, "{tag}");
        }
    }

    #[test]
    fn older_versions_are_less() {
        let ordered = [
            "1",
            "1.2.0-alpha",
            "1.2.0-rc9",
            "1.2.0-rc10",
            "1.2",
            "1.2-1",
            "1.2-2",
            "v1.9.9",
            "1.10",
            "1.10-alpine3.9",
            "1.10-alpine3.20",
            "2024-01-05",
            "2024-01-10",
        ];
        let versions: Vec<_> = ordered
            .iter()
            .map(|tag| TagVersion::parse(tag).unwrap())
            .collect();
        for (two, names) in versions.windows(2).zip(ordered.windows(2)) {
            assert_eq!(two[0].compare(&two[1]), Ordering::Less, "{names:?}");
        }
        let flavor = |tag| TagVersion::parse(tag).unwrap().flavor_name();
        assert_eq!(flavor("1-alpine3.9"), flavor("2-alpine3.20"));
        assert_ne!(flavor("1-alpine"), flavor("1-slim-alpine"));
    }
}
