//! Patterns of repository names.

use std::fmt;
use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};
use imgsync_oci::{ParseError, Repository};

/// The longest pattern, in bytes: the length limit of a repository's name.
const MAX_PATTERN_BYTES: usize = 255;
/// `**` as a glob: text within one component, or text with at least one slash. The `**` of globset
/// itself stands for whole components, also for none: its `**/app` matches `app`.
const ANY_ACROSS_COMPONENTS: &str = "{*,*/**/*}";

/// A repository name with wildcards: `*` matches any text within a component, `**` any text across
/// components. Examples: `public/*`, `mirror/**`, `**`.
#[derive(Debug, Clone)]
pub struct RepositoryPattern {
    text: Box<str>,
    matcher: GlobMatcher,
}

impl RepositoryPattern {
    /// Returns whether the pattern matches the whole name.
    pub fn matches(&self, repository: &Repository) -> bool {
        self.matcher.is_match(repository.as_str())
    }
}

impl FromStr for RepositoryPattern {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let is_allowed =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-/*".contains(&b);
        let is_valid = text.bytes().all(is_allowed)
            && text.len() <= MAX_PATTERN_BYTES
            && text.split('/').all(|component| !component.is_empty())
            && !text.contains("***");
        let invalid = || ParseError::new("repository pattern", text);
        if !is_valid {
            return Err(invalid());
        }
        let glob = GlobBuilder::new(&text.replace("**", ANY_ACROSS_COMPONENTS))
            .literal_separator(true)
            .build()
            .map_err(|_| invalid())?;
        Ok(Self {
            text: text.into(),
            matcher: glob.compile_matcher(),
        })
    }
}

impl PartialEq for RepositoryPattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for RepositoryPattern {}

impl fmt::Display for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        let pattern: RepositoryPattern = pattern.parse().unwrap();
        pattern.matches(&name.parse().unwrap())
    }

    #[test]
    fn stars_within_and_across_components() {
        for (pattern, name, expected) in [
            ("public/app", "public/app", true),
            ("public/app", "public/app2", false),
            ("public/*", "public/app", true),
            ("public/*", "public", false),
            ("public/*", "public/team/app", false),
            ("public/*", "publicity/app", false),
            ("public/**", "public/team/app", true),
            ("public/**", "public", false),
            ("public/**", "other/public/app", false),
            ("**", "any/thing", true),
            ("*", "app", true),
            ("*", "team/app", false),
            ("**/app", "team/x/app", true),
            ("**/app", "app", false),
            ("team-*/app", "team-a/app", true),
            ("team-*/app", "team-a/b/app", false),
            ("a*b*c", "axxbyybzzc", true),
            ("a*b*c", "axxbyybzz", false),
            ("a**b", "ab", true),
            ("a**b", "a-x/y/z-b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**/b", "a/b", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_is_not_slow() {
        let name = "a".repeat(255);
        assert!(!matches(&format!("{}b", "*a".repeat(120)), &name));
        assert!(matches(&"*a".repeat(120), &name));
        assert!(matches(&"**a".repeat(85), &name));
    }

    #[test]
    fn invalid_patterns_are_rejected() {
        for bad in [
            "", "/", "a/", "/a", "a//b", "A/*", "a b", "***", "a?", "[a]", "ü*",
        ] {
            assert!(bad.parse::<RepositoryPattern>().is_err(), "{bad}");
        }
        let text = "a-b_c.d/*/**";
        assert_eq!(text.parse::<RepositoryPattern>().unwrap().to_string(), text);
    }
}
