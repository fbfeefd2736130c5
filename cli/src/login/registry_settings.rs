//! The settings of a registry in a configuration file.

use std::path::PathBuf;

use imgsync_oci::Registry;
use serde::Deserialize;

/// How to connect and log in to one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RegistrySettings {
    /// The username, if a login is configured.
    pub username: Option<String>,
    /// The file with the password.
    pub password_file: Option<PathBuf>,
    /// The environment variable with the password.
    pub password_env: Option<String>,
    /// Whether to use plain HTTP.
    pub plain_http: bool,
    /// Whether to skip certificate verification.
    pub insecure: bool,
    /// The file with additional CA certificates to trust.
    pub ca_file: Option<PathBuf>,
}

impl RegistrySettings {
    /// Checks that a login is complete and that no settings contradict each other.
    ///
    /// # Errors
    /// Returns the first problem, with the key that it is about.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let has_file = self.password_file.is_some();
        let has_password = has_file || self.password_env.is_some();
        if has_file && self.password_env.is_some() {
            Err("passwordFile and passwordEnv: set only one of them")
        } else if self.username.is_some() && !has_password {
            Err("username: also set passwordFile or passwordEnv")
        } else if self.username.is_none() && has_password {
            Err("the username is missing")
        } else if self.plain_http && (self.insecure || self.ca_file.is_some()) {
            Err("plainHttp: cannot be used with insecure or caFile")
        } else {
            Ok(())
        }
    }
}

/// Returns whether two names are of the same registry. Host names are case-insensitive (RFC 4343).
pub fn is_same_registry(one: &Registry, other: &Registry) -> bool {
    one.as_str().eq_ignore_ascii_case(other.as_str())
}
