//! Patterns of names: globs and regular expressions. Both must match the whole name.

use std::fmt;
use std::str::FromStr;

/// No pattern is longer, in bytes.
const MAX_PATTERN_BYTES: usize = 1024;
/// What a compiled expression may take, in bytes.
const MAX_COMPILED_REGEX_BYTES: usize = 1 << 20;

/// A glob: `*` any letters, `?` one, `[a-z]` one of these, `{a,b}` either.
#[derive(Debug, Clone)]
pub struct TagGlob(globset::GlobMatcher);

impl TagGlob {
    /// Whether it matches the whole of a name.
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }

    /// Whether it speaks of what follows a version: whether there is a `-` or `_` in it that is no
    /// part of a class.
    pub(super) fn has_suffix_separator(&self) -> bool {
        let mut in_class = false;
        for c in self.0.glob().glob().chars() {
            match c {
                '[' => in_class = true,
                ']' => in_class = false,
                '-' | '_' if !in_class => return true,
                _ => {}
            }
        }
        false
    }
}

impl FromStr for TagGlob {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        check_length("glob", text)?;
        let glob = globset::GlobBuilder::new(text)
            .empty_alternates(true)
            .build();
        let glob = glob.map_err(|error| format!("invalid glob: {error}"))?;
        Ok(Self(glob.compile_matcher()))
    }
}

impl fmt::Display for TagGlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.glob().fmt(f)
    }
}

/// A regular expression.
#[derive(Debug, Clone)]
pub struct TagRegex {
    text: String,
    whole: regex::Regex,
}

impl TagRegex {
    /// Whether it matches the whole of a name.
    pub fn matches(&self, name: &str) -> bool {
        self.whole.is_match(name)
    }
}

impl FromStr for TagRegex {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        check_length("regular expression", text)?;
        let compile = |text: &str| {
            regex::RegexBuilder::new(text)
                .size_limit(MAX_COMPILED_REGEX_BYTES)
                .dfa_size_limit(MAX_COMPILED_REGEX_BYTES)
                .build()
                .map_err(|error| format!("invalid regular expression: {error}"))
        };
        // By itself first: what it opens it must close by itself.
        compile(text)?;
        Ok(Self {
            whole: compile(&format!("^(?:{text})$"))?,
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for TagRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn check_length(what: &str, text: &str) -> Result<(), String> {
    match text.len() {
        0 => Err(format!("invalid {what}: it is empty")),
        1..=MAX_PATTERN_BYTES => Ok(()),
        _ => Err(format!(
            "invalid {what}: longer than {MAX_PATTERN_BYTES} bytes"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_names() {
        let takes = |glob: &str, name: &str| glob.parse::<TagGlob>().unwrap().matches(name);
        assert!(takes("v*", "v1.2-rc1") && !takes("v*", "av1"));
        assert!(takes("1.?", "1.2") && !takes("1.?", "1.20"));
        assert!(takes("[0-9]*-{alpine,slim}", "1-slim") && !takes("[0-9]*", "latest"));
        assert!(takes("1.2", "1.2") && !takes("1.2", "1x2"));
        assert!(takes("1{,-alpine}", "1") && takes("1{,-alpine}", "1-alpine"));
        let names = |glob: &str| glob.parse::<TagGlob>().unwrap().has_suffix_separator();
        assert!(names("*-alpine*") && !names("[0-9]*") && !names("v*"));
        for bad in ["", "[", "{a", &"x".repeat(2000)] {
            assert!(bad.parse::<TagGlob>().is_err(), "{bad}");
        }
    }

    #[test]
    fn expressions_match_whole_names() {
        let takes = |text: &str, name: &str| text.parse::<TagRegex>().unwrap().matches(name);
        assert!(takes(r"v\d+", "v12") && !takes(r"v\d+", "v12-rc") && !takes(r"v\d+", "av12"));
        assert!(takes("a|ab", "ab"));
        for bad in ["", "(", "a)|(b", "(?:a{1000}){1000}"] {
            assert!(bad.parse::<TagRegex>().is_err(), "{bad}");
        }
    }
}
