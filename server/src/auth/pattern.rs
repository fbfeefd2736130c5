//! Patterns of repository names.

use std::fmt;
use std::str::FromStr;

use imgsync_oci::{ParseError, Repository};

/// A repository's name in which `*` stands for anything within a component, and `**` for anything
/// across components: `public/*`, `mirror/**`, `**`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryPattern {
    text: Box<str>,
    pieces: Vec<PatternToken>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PatternToken {
    /// This very byte.
    Byte(u8),
    /// Any bytes without a slash, or none.
    AnyInComponent,
    /// Any bytes, or none.
    AnyAcrossComponents,
}

impl RepositoryPattern {
    /// Whether it stands for this name.
    pub fn matches(&self, repository: &Repository) -> bool {
        // How much of the pattern may have been used up by the name's beginning: all ways at once,
        // so that no pattern takes long.
        let mut at = vec![false; self.pieces.len() + 1];
        at[0] = true;
        self.skip(&mut at);
        for byte in repository.as_str().bytes() {
            let mut next = vec![false; at.len()];
            for (index, piece) in self
                .pieces
                .iter()
                .enumerate()
                .filter(|(index, _)| at[*index])
            {
                match piece {
                    PatternToken::Byte(wanted) => next[index + 1] |= *wanted == byte,
                    PatternToken::AnyInComponent => next[index] |= byte != b'/',
                    PatternToken::AnyAcrossComponents => next[index] = true,
                }
            }
            self.skip(&mut next);
            at = next;
        }
        at.last() == Some(&true)
    }

    /// A star may stand for nothing.
    fn skip(&self, at: &mut [bool]) {
        for (index, piece) in self.pieces.iter().enumerate() {
            if at[index] && !matches!(piece, PatternToken::Byte(_)) {
                at[index + 1] = true;
            }
        }
    }
}

impl FromStr for RepositoryPattern {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let is_allowed =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-/*".contains(&b);
        let is_good = text.bytes().all(is_allowed)
            && text.len() <= 255
            && text.split('/').all(|component| !component.is_empty())
            && !text.contains("***");
        if !is_good {
            return Err(ParseError::new("repository pattern", text));
        }
        let (mut pieces, mut rest) = (Vec::new(), text.as_bytes());
        while let [first, tail @ ..] = rest {
            (pieces, rest) = match (first, tail) {
                (b'*', [b'*', tail @ ..]) => {
                    (with(pieces, PatternToken::AnyAcrossComponents), tail)
                }
                (b'*', tail) => (with(pieces, PatternToken::AnyInComponent), tail),
                (byte, tail) => (with(pieces, PatternToken::Byte(*byte)), tail),
            };
        }
        Ok(Self {
            text: text.into(),
            pieces,
        })
    }
}

fn with(mut pieces: Vec<PatternToken>, piece: PatternToken) -> Vec<PatternToken> {
    pieces.push(piece);
    pieces
}

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
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_longer() {
        let name = "a".repeat(255);
        assert!(!matches(&format!("{}b", "*a".repeat(120)), &name));
        assert!(matches(&"*a".repeat(120), &name));
    }

    #[test]
    fn what_is_no_pattern() {
        for bad in [
            "", "/", "a/", "/a", "a//b", "A/*", "a b", "***", "a?", "[a]", "ü*",
        ] {
            assert!(bad.parse::<RepositoryPattern>().is_err(), "{bad}");
        }
        let text = "a-b_c.d/*/**";
        assert_eq!(text.parse::<RepositoryPattern>().unwrap().to_string(), text);
    }
}
