//! What a file says of a registry.

use std::path::PathBuf;

use imgsync_oci::Registry;

/// How one registry is reached, and as whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistrySettings {
    /// The user, and where the password is.
    pub login: Option<(String, PasswordSource)>,
    /// Without TLS.
    pub plain_http: bool,
    /// Without a look at certificates.
    pub insecure: bool,
    /// A CA's certificate that counts too.
    pub ca_file: Option<PathBuf>,
}

/// Where a password is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// In a file.
    File(PathBuf),
    /// In an environment variable.
    Variable(String),
}

/// Whether two names are of one registry: in names of hosts capitals do not count (RFC 4343).
pub fn is_same_registry(one: &Registry, other: &Registry) -> bool {
    one.as_str().eq_ignore_ascii_case(other.as_str())
}
