//! The error of every parser in this crate.

/// A text that cannot be parsed. A retry does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what}: {text:?}")]
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
