//! Patterns of repository names and of tags.

use std::fmt;
use std::str::FromStr;

use imgsync_oci::{ParseError, Repository, Tag};

/// The longest pattern, in bytes: the length limit of a repository's name.
const MAX_PATTERN_BYTES: usize = 255;

/// A tag with wildcards: `*` matches any text. Examples: `v*`, `latest`, `*-rc*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagPattern(Wildcards);

/// A repository name with wildcards: `*` matches any text within a component, `**` any text across
/// components. Examples: `public/*`, `mirror/**`, `**`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryPattern(Wildcards);

/// A text with wildcards.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wildcards {
    text: Box<str>,
    tokens: Vec<PatternToken>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PatternToken {
    /// Matches this byte.
    Byte(u8),
    /// `*`: matches any bytes except a slash, or none.
    Star,
    /// `**`: matches any bytes, or none.
    DoubleStar,
}

impl RepositoryPattern {
    /// Returns whether the pattern matches the whole name. The time is at most proportional to the
    /// length of the pattern times the length of the name.
    pub fn matches(&self, repository: &Repository) -> bool {
        self.0.matches(repository.as_str().as_bytes())
    }
}

impl TagPattern {
    /// Returns whether the pattern matches the whole tag, in the time of
    /// [`RepositoryPattern::matches`].
    pub fn matches(&self, tag: &Tag) -> bool {
        self.0.matches(tag.as_str().as_bytes())
    }
}

impl Wildcards {
    fn new(text: &str) -> Self {
        Self {
            text: text.into(),
            tokens: tokenize(text.as_bytes()),
        }
    }

    fn matches(&self, name: &[u8]) -> bool {
        // `matched[n]`: the tokens so far match the first `n` bytes of the name.
        let mut matched = vec![false; name.len() + 1];
        matched[0] = true;
        for token in &self.tokens {
            let mut next = vec![false; matched.len()];
            next[0] = matched[0] && !matches!(token, PatternToken::Byte(_));
            for (index, byte) in name.iter().enumerate() {
                next[index + 1] = match token {
                    PatternToken::Byte(expected) => matched[index] && byte == expected,
                    PatternToken::Star => matched[index + 1] || (next[index] && *byte != b'/'),
                    PatternToken::DoubleStar => matched[index + 1] || next[index],
                };
            }
            matched = next;
        }
        matched[name.len()]
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
        if !is_valid {
            return Err(ParseError::new("repository pattern", text));
        }
        Ok(Self(Wildcards::new(text)))
    }
}

impl FromStr for TagPattern {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        // A pattern without its wildcards is a part of a tag.
        let plain = text.replace('*', "");
        let is_valid = text.len() <= MAX_PATTERN_BYTES
            && !text.is_empty()
            && !text.contains("**")
            && format!("x{plain}").parse::<Tag>().is_ok();
        if !is_valid {
            return Err(ParseError::new("tag pattern", text));
        }
        Ok(Self(Wildcards::new(text)))
    }
}

fn tokenize(mut text: &[u8]) -> Vec<PatternToken> {
    let mut tokens = Vec::new();
    while let [first, rest @ ..] = text {
        let (token, rest) = match (first, rest) {
            (b'*', [b'*', rest @ ..]) => (PatternToken::DoubleStar, rest),
            (b'*', rest) => (PatternToken::Star, rest),
            (byte, rest) => (PatternToken::Byte(*byte), rest),
        };
        tokens.push(token);
        text = rest;
    }
    tokens
}

impl fmt::Display for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Display for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
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
    fn patterns_of_tags() {
        for (pattern, tag, expected) in [
            ("latest", "latest", true),
            ("latest", "Latest", false),
            ("v*", "v1.2.3", true),
            ("v*", "dev", false),
            ("*-rc*", "v1-rc1", true),
            ("*", "x", true),
        ] {
            let parsed: TagPattern = pattern.parse().unwrap();
            assert_eq!(
                parsed.matches(&tag.parse().unwrap()),
                expected,
                "{pattern} {tag}"
            );
            assert_eq!(parsed.to_string(), pattern);
        }
        for bad in ["", "a/b", "a b", "**", "ü", "a:b"] {
            assert!(bad.parse::<TagPattern>().is_err(), "{bad}");
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
