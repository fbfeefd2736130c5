//! The error of every parser in this crate.

/// A text that cannot be parsed. A retry does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what}: {}{}", quoted(.text), reason(.what, .text))]
pub struct ParseError {
    what: &'static str,
    text: String,
}

impl ParseError {
    /// Returns the error of a `text` that should have been a `what`. Long texts are shortened.
    pub fn new(what: &'static str, text: &str) -> Self {
        const MAX_SHOWN_CHARS: usize = 300;
        Self {
            what,
            text: text.chars().take(MAX_SHOWN_CHARS).collect(),
        }
    }

    /// Returns what the text should have been, for example "repository name".
    pub fn what(&self) -> &'static str {
        self.what
    }
}

/// Returns a text in quotes, with escapes for control characters. Backslashes are not doubled, because
/// the text may be a path of Windows.
pub fn quoted(text: &str) -> String {
    format!("{text:?}").replace(r"\\", r"\")
}

/// Returns the reason for an error that is seen often, or nothing.
fn reason(what: &str, text: &str) -> &'static str {
    let has_upper_case = text.chars().any(char::is_uppercase);
    match what {
        "repository name" if has_upper_case => " (upper case is not allowed)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_case_is_named() {
        let text = |name| ParseError::new("repository name", name).to_string();
        let expected = "invalid repository name: \"Ncapp\" (upper case is not allowed)";
        assert_eq!(text("Ncapp"), expected);
        assert_eq!(text("a//b"), "invalid repository name: \"a//b\"");
    }

    #[test]
    fn backslashes_are_shown_as_they_are_and_control_characters_are_not() {
        let text = |name| ParseError::new("registry address", name).to_string();
        let expected = r#"invalid registry address: "oci:C:\x""#;
        assert_eq!(text(r"oci:C:\x"), expected);
        assert_eq!(text("a\nb"), r#"invalid registry address: "a\nb""#);
    }
}
