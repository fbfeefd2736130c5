//! What is said about a configuration: why it cannot be used, and what its reader should know.

use std::fmt;

use super::tree::Origin;

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub origin: Origin,
    /// The key, as `http.tls.key`; empty where it is not about one.
    pub key: String,
    /// What is wrong.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        say(f, &self.origin, &self.key, &self.text)
    }
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot be used")?;
        self.0
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}

/// What somebody who runs the server should know about its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Where it stands.
    pub origin: Origin,
    /// The key; empty where it is not about one.
    pub key: String,
    /// What to know.
    pub text: String,
    /// Whether something that was asked for does not happen.
    pub is_warning: bool,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        say(f, &self.origin, &self.key, &self.text)
    }
}

fn say(f: &mut fmt::Formatter<'_>, origin: &Origin, key: &str, text: &str) -> fmt::Result {
    match origin {
        Origin::Default => {}
        Origin::File { .. } | Origin::Variable(_) | Origin::Argument(_) => write!(f, "{origin}: ")?,
    }
    if !key.is_empty() {
        write!(f, "{key}: ")?;
    }
    f.write_str(text)
}

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) problems: Vec<Problem>,
    pub(super) remarks: Vec<Remark>,
}

impl Findings {
    pub(super) fn problem(&mut self, origin: &Origin, key: &str, text: impl Into<String>) {
        self.problems.push(Problem {
            origin: origin.clone(),
            key: key.to_owned(),
            text: text.into(),
        });
    }

    pub(super) fn warning(&mut self, origin: &Origin, key: &str, text: impl Into<String>) {
        self.remark(origin, key, text.into(), true);
    }

    pub(super) fn note(&mut self, origin: &Origin, key: &str, text: impl Into<String>) {
        self.remark(origin, key, text.into(), false);
    }

    fn remark(&mut self, origin: &Origin, key: &str, text: String, is_warning: bool) {
        self.remarks.push(Remark {
            origin: origin.clone(),
            key: key.to_owned(),
            text,
            is_warning,
        });
    }
}
