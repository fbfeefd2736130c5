//! Errors, warnings and notes about a configuration, each with the key and the place where the key
//! is set.

use std::fmt;

use super::tree::ValueOrigin;

/// An error in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where the key is set.
    pub origin: ValueOrigin,
    /// The key, for example `http.tls.key`; empty when the error concerns no single key.
    pub key: String,
    /// The problem with the key.
    pub text: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_diagnostic(f, &self.origin, &self.key, &self.text)
    }
}

/// All errors of a configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid configuration")?;
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for ConfigErrors {}

/// A warning or note about a configuration that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigNotice {
    /// Where the key is set.
    pub origin: ValueOrigin,
    /// The key; empty when the notice concerns no single key.
    pub key: String,
    /// The message.
    pub text: String,
    /// True for a warning: a setting does not do what it asks for. False for a note.
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

/// Collects errors and notices while a configuration is read.
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
