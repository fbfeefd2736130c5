//! Tags that are versions, read generously: `v1.2.3`, `1.2`, `2.0.0-rc1`, `1.27.3-alpine3.20`.
//!
//! What follows a version in a tag is, other than in Semantic Versioning, a variant of the image as
//! a rule; a pre-release only if it begins with a word that says so, and a revision (`1.2.3-1`) if it
//! is a number.

use std::cmp::Ordering;

use semver::{BuildMetadata, Prerelease};

use crate::text::compare_versions;

/// No version has more numbers, those of its revision included.
const MAX_VERSION_NUMBERS: usize = 8;
/// Words that begin a pre-release, with or without a number behind them.
const PRERELEASE_WORDS: &[&str] = &[
    "alpha",
    "beta",
    "canary",
    "cr",
    "dev",
    "ea",
    "edge",
    "experimental",
    "insiders",
    "milestone",
    "nightly",
    "pre",
    "preview",
    "prerelease",
    "rc",
    "snapshot",
    "test",
    "testing",
    "unstable",
];
/// The same, only with a number behind them: `3.13.0a1`.
const NUMBERED_PRERELEASE_WORDS: &[&str] = &["a", "b", "m"];

/// A tag, as a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TagVersion {
    /// Major, minor, patch; 0 where the tag does not say.
    release: [u64; 3],
    /// Numbers beyond: `1.2.3.4`, `1.2.3-1`.
    revision: Vec<u64>,
    /// Empty for a release.
    prerelease: Prerelease,
    /// `alpine3.20`, `slim-bookworm`; empty for none.
    flavor: String,
}

impl TagVersion {
    /// The version that a tag is; `None` if it is none.
    pub(super) fn parse(tag: &str) -> Option<Self> {
        let text = tag.strip_prefix(['v', 'V']).unwrap_or(tag);
        let (mut numbers, rest) = numbers(text)?;
        let mut early = None;
        let mut words: Vec<&str> = Vec::new();
        match rest.strip_prefix(['-', '_', '.']) {
            Some(suffix) => words.extend(suffix.split(['-', '_'])),
            None if rest.is_empty() => {}
            // Letters that follow at once: the hash of a commit looks like that too.
            None if numbers.len() > 1 && parse_prerelease(rest).is_some() => words.push(rest),
            None => return None,
        }
        // A revision's number, or a date's.
        while let Some(number) = words.first().and_then(|word| number(word))
            && numbers.len() < MAX_VERSION_NUMBERS
        {
            while numbers.len() < 3 {
                // Not a minor version, although it stands where one could.
                numbers.push(0);
            }
            numbers.push(number);
            words.remove(0);
        }
        if let Some(first) = words.first()
            && let Some(mut found) = parse_prerelease(first)
        {
            words.remove(0);
            // `rc-1` is `rc1`.
            if let (false, Some(number)) = (
                ends_in_number(&found),
                words.first().and_then(|word| number_of(word)),
            ) {
                found = format!("{found}.{number}");
                words.remove(0);
            }
            early = Some(found);
        }
        let mut numbers = numbers.into_iter();
        let mut next = || numbers.next().unwrap_or(0);
        Some(Self {
            release: [next(), next(), next()],
            prerelease: match early {
                Some(early) => Prerelease::new(&early).ok()?,
                None => Prerelease::EMPTY,
            },
            flavor: words.join("-"),
            revision: numbers.collect(),
        })
    }

    /// Whether it is a release, and no variant of one.
    pub(super) fn is_plain_release(&self) -> bool {
        self.prerelease.is_empty() && self.flavor.is_empty()
    }

    /// Whether it is a variant of a release or pre-release.
    pub(super) fn has_flavor(&self) -> bool {
        !self.flavor.is_empty()
    }

    /// What its variant is called, whatever its own version: `alpine3.20` is `alpine`.
    pub(super) fn flavor_name(&self) -> String {
        let is_kept = |c: &char| !c.is_ascii_digit() && *c != '.';
        self.flavor.chars().filter(is_kept).collect()
    }

    /// The version as Semantic Versioning has it, without variant and revision.
    pub(super) fn semantic(&self) -> semver::Version {
        semver::Version {
            pre: self.prerelease.clone(),
            ..self.release()
        }
    }

    /// The release that it is, or is on the way to.
    pub(super) fn release(&self) -> semver::Version {
        let [major, minor, patch] = self.release;
        semver::Version {
            major,
            minor,
            patch,
            pre: Prerelease::EMPTY,
            build: BuildMetadata::EMPTY,
        }
    }

    /// Older versions are less; of one version, the older variant.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        let numbers = |it: &Self| (it.release, it.revision.clone());
        numbers(self)
            .cmp(&numbers(other))
            .then_with(|| self.prerelease.cmp(&other.prerelease))
            .then_with(|| compare_versions(&self.flavor, &other.flavor))
    }
}

/// The numbers with dots between them that a text begins with, at most four, and the rest.
fn numbers(text: &str) -> Option<(Vec<u64>, &str)> {
    let mut numbers = Vec::new();
    let mut rest = text;
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit());
        let (digits, after) = rest.split_at(end.unwrap_or(rest.len()));
        numbers.push(number(digits)?);
        let is_more = |text: &&str| text.starts_with(|c: char| c.is_ascii_digit());
        match after.strip_prefix('.').filter(is_more) {
            Some(_) if numbers.len() == 4 => return None,
            Some(more) => rest = more,
            None => return Some((numbers, after)),
        }
    }
}

/// A word that is a number.
fn number(word: &str) -> Option<u64> {
    let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| word.parse().ok()).flatten()
}

/// The same, for a pre-release: `1`, `1.2`.
fn number_of(word: &str) -> Option<String> {
    let numbers: Option<Vec<_>> = word.split('.').map(number).collect();
    let numbers: Vec<_> = numbers?.iter().map(u64::to_string).collect();
    Some(numbers.join("."))
}

fn ends_in_number(text: &str) -> bool {
    text.ends_with(|c: char| c.is_ascii_digit())
}

/// The pre-release that a word is, with a dot between its name and its number, so that `rc10` comes
/// after `rc9`; `None` if it is none.
pub(super) fn parse_prerelease(word: &str) -> Option<String> {
    let word = word.to_ascii_lowercase();
    let end = word.find(|c: char| !c.is_ascii_lowercase());
    let (name, rest) = word.split_at(end.unwrap_or(word.len()));
    let rest = rest.strip_prefix('.').unwrap_or(rest);
    let rest = match rest {
        "" if PRERELEASE_WORDS.contains(&name) => return Some(name.to_owned()),
        rest if PRERELEASE_WORDS.contains(&name) || NUMBERED_PRERELEASE_WORDS.contains(&name) => {
            number_of(rest)?
        }
        _ => return None,
    };
    Some(format!("{name}.{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(tag: &str) -> String {
        match TagVersion::parse(tag) {
            Some(it) => {
                let revision: Vec<_> = it.revision.iter().map(u64::to_string).collect();
                format!("{} [{}] {}", it.semantic(), revision.join("."), it.flavor)
            }
            None => "none".to_owned(),
        }
    }

    #[test]
    fn what_tags_say() {
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
            assert_eq!(told(tag), expected, "{tag}");
        }
    }

    #[test]
    fn older_before_newer() {
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
        let kind = |tag| TagVersion::parse(tag).unwrap().flavor_name();
        assert_eq!(kind("1-alpine3.9"), kind("2-alpine3.20"));
        assert_ne!(kind("1-alpine"), kind("1-slim-alpine"));
    }
}
