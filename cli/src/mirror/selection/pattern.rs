//! Patterns of tags: globs and regular expressions. A pattern must match the whole tag.

use std::fmt;

/// The longest pattern in bytes.
const MAX_PATTERN_BYTES: usize = 1024;
/// The most memory that a compiled expression may take, in bytes.
const MAX_COMPILED_REGEX_BYTES: usize = 1 << 20;

/// A pattern of tags.
#[derive(Debug, Clone)]
pub struct TagPattern {
    text: String,
    matcher: TagMatcher,
}

#[derive(Debug, Clone)]
enum TagMatcher {
    Glob(globset::GlobMatcher),
    Regex(regex::Regex),
}

impl TagPattern {
    /// Parses a glob: `*` matches any text, `?` one character, `[a-z]` one of a class, and `{a,b}`
    /// one of several alternatives.
    ///
    /// # Errors
    /// Fails if the glob is empty, too long or invalid.
    pub fn glob(text: &str) -> Result<Self, String> {
        check_length("glob", text)?;
        let mut builder = globset::GlobBuilder::new(text);
        let glob = builder.empty_alternates(true).build();
        let glob = glob.map_err(|error| format!("invalid glob: {error}"))?;
        Ok(Self {
            text: text.to_owned(),
            matcher: TagMatcher::Glob(glob.compile_matcher()),
        })
    }

    /// Parses a regular expression.
    ///
    /// # Errors
    /// Fails if the expression is empty, too long, invalid, or too large when compiled.
    pub fn regex(text: &str) -> Result<Self, String> {
        check_length("regular expression", text)?;
        let compile = |text: &str| {
            regex::RegexBuilder::new(text)
                .size_limit(MAX_COMPILED_REGEX_BYTES)
                .dfa_size_limit(MAX_COMPILED_REGEX_BYTES)
                .build()
                .map_err(|error| format!("invalid regular expression: {error}"))
        };
        // `a)|(b` is invalid, although it would be valid inside of the parentheses below.
        compile(text)?;
        Ok(Self {
            matcher: TagMatcher::Regex(compile(&format!("^(?:{text})$"))?),
            text: text.to_owned(),
        })
    }

    /// Parses globs and regular expressions, each list with the name of its option or key for
    /// errors.
    ///
    /// # Errors
    /// Fails for the first invalid pattern.
    pub fn parse_all(
        (globs_name, globs): (&str, &[String]),
        (regexes_name, regexes): (&str, &[String]),
    ) -> Result<Vec<Self>, String> {
        let named = |name: &str, error: String| format!("{name}: {error}");
        let globs = globs
            .iter()
            .map(|text| Self::glob(text).map_err(|error| named(globs_name, error)));
        let regexes = regexes
            .iter()
            .map(|text| Self::regex(text).map_err(|error| named(regexes_name, error)));
        globs.chain(regexes).collect()
    }

    /// Returns whether the pattern matches a whole tag.
    pub fn matches(&self, tag: &str) -> bool {
        match &self.matcher {
            TagMatcher::Glob(glob) => glob.is_match(tag),
            TagMatcher::Regex(regex) => regex.is_match(tag),
        }
    }

    /// Returns whether the pattern selects versions with a suffix: a regular expression does, and a
    /// glob that has a `-` or `_` outside of a class.
    pub(super) fn selects_suffixes(&self) -> bool {
        let mut in_class = false;
        matches!(self.matcher, TagMatcher::Regex(_))
            || self.text.chars().any(|c| {
                in_class = c == '[' || in_class && c != ']';
                !in_class && matches!(c, '-' | '_')
            })
    }
}

impl fmt::Display for TagPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn check_length(kind: &str, text: &str) -> Result<(), String> {
    match text.len() {
        0 => Err(format!("invalid {kind}: it is empty")),
        1..=MAX_PATTERN_BYTES => Ok(()),
        _ => Err(format!(
            "invalid {kind}: longer than {MAX_PATTERN_BYTES} bytes"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_tags() {
        let matches = |glob: &str, tag: &str| TagPattern::glob(glob).unwrap().matches(tag);
        assert!(matches("v*", "v1.2-rc1") && !matches("v*", "av1"));
        assert!(matches("1.?", "1.2") && !matches("1.?", "1.20"));
        assert!(matches("[0-9]*-{alpine,slim}", "1-slim") && !matches("[0-9]*", "latest"));
        assert!(matches("1.2", "1.2") && !matches("1.2", "1x2"));
        assert!(matches("1{,-alpine}", "1") && matches("1{,-alpine}", "1-alpine"));
        let suffixes = |glob: &str| TagPattern::glob(glob).unwrap().selects_suffixes();
        assert!(suffixes("*-alpine*") && !suffixes("[0-9]*") && !suffixes("v*"));
        for bad in ["", "[", "{a", &"x".repeat(2000)] {
            assert!(TagPattern::glob(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn regular_expressions_match_whole_tags() {
        let matches = |text: &str, tag: &str| TagPattern::regex(text).unwrap().matches(tag);
        assert!(
            matches(r"v\d+", "v12") && !matches(r"v\d+", "v12-rc") && !matches(r"v\d+", "av12")
        );
        assert!(matches("a|ab", "ab"));
        for bad in ["", "(", "a)|(b", "(?:a{1000}){1000}"] {
            assert!(TagPattern::regex(bad).is_err(), "{bad}");
        }
    }
}
