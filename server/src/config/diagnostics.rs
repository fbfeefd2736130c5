//! What is said about a configuration: why it cannot be used, and what its reader should know.

use std::fmt;

use super::tree::ValueOrigin;

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where it stands.
    pub origin: ValueOrigin,
    /// The key, as `http.tls.key`; empty where it is not about one.
    pub key: String,
    /// What is wrong.
    pub text: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_diagnostic(f, &self.origin, &self.key, &self.text)
    }
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot be used")?;
        self.0
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for ConfigErrors {}

/// What somebody who runs the server should know about its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigNotice {
    /// Where it stands.
    pub origin: ValueOrigin,
    /// The key; empty where it is not about one.
    pub key: String,
    /// What to know.
    pub text: String,
    /// Whether something that was asked for does not happen.
    pub is_warning: bool,
}

impl fmt::Display for ConfigNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_diagnostic(f, &self.origin, &self.key, &self.text)
    }
}

fn write_diagnostic(
    f: &mut fmt::Formatter<'_>,
    origin: &ValueOrigin,
    key: &str,
    text: &str,
) -> fmt::Result {
    match origin {
        ValueOrigin::Default => {}
        ValueOrigin::File { .. } | ValueOrigin::Variable(_) | ValueOrigin::Argument(_) => {
            write!(f, "{origin}: ")?
        }
    }
    if !key.is_empty() {
        write!(f, "{key}: ")?;
    }
    f.write_str(text)
}

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Diagnostics {
    pub(super) errors: Vec<ConfigError>,
    pub(super) notices: Vec<ConfigNotice>,
}

impl Diagnostics {
    pub(super) fn error(&mut self, origin: &ValueOrigin, key: &str, text: impl Into<String>) {
        self.errors.push(ConfigError {
            origin: origin.clone(),
            key: key.to_owned(),
            text: text.into(),
        });
    }

    pub(super) fn warning(&mut self, origin: &ValueOrigin, key: &str, text: impl Into<String>) {
        self.notice(origin, key, text.into(), true);
    }

    pub(super) fn note(&mut self, origin: &ValueOrigin, key: &str, text: impl Into<String>) {
        self.notice(origin, key, text.into(), false);
    }

    fn notice(&mut self, origin: &ValueOrigin, key: &str, text: String, is_warning: bool) {
        self.notices.push(ConfigNotice {
            origin: origin.clone(),
            key: key.to_owned(),
            text,
            is_warning,
        });
    }
}
