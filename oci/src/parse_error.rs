//! The one error of parsing.

/// A piece of text that is not what it should be. Trying again does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what}: {text:?}")]
pub struct ParseError {
    what: &'static str,
    text: String,
}

impl ParseError {
    /// `what` it should have been, and the text that it was (shortened for messages).
    pub fn new(what: &'static str, text: &str) -> Self {
        const MAX_SHOWN_CHARS: usize = 300;
        Self {
            what,
            text: text.chars().take(MAX_SHOWN_CHARS).collect(),
        }
    }

    /// What the text should have been, for instance "repository name".
    pub fn what(&self) -> &'static str {
        self.what
    }
}
