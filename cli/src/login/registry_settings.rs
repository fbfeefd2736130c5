//! The settings of a registry in a configuration file.

use std::path::PathBuf;

use imgsync_oci::Registry;

/// How to connect and log in to one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistrySettings {
    /// The username and the source of the password.
    pub login: Option<(String, PasswordSource)>,
    /// Whether to use plain HTTP.
    pub plain_http: bool,
    /// Whether to skip certificate verification.
    pub insecure: bool,
    /// The file with an additional CA certificate to trust.
    pub ca_file: Option<PathBuf>,
}

/// The source of a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
}

/// Returns whether two names are of the same registry. Host names are case-insensitive (RFC 4343).
pub fn is_same_registry(one: &Registry, other: &Registry) -> bool {
    one.as_str().eq_ignore_ascii_case(other.as_str())
}
