//! Reads the files that an upstream's configuration names: its password and its CA certificates.
//!
//! This module makes no connection. Start reading at [`UpstreamFiles`].

use std::io;
use std::path::{Path, PathBuf};

use crate::bounded_file;
use crate::config::{Secret, SecretSource, UpstreamConfig};

/// Size limit of such a file, larger than any real password file or CA bundle.
const MAX_UPSTREAM_FILE_BYTES: u64 = 1024 * 1024;

/// Error in the configuration of an upstream.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamConfigError {
    /// A file that the configuration names cannot be read.
    #[error("cannot read {what} of upstream {upstream} from {}: {source}", path.display())]
    Read {
        /// The name of the upstream.
        upstream: String,
        /// The content of the file, such as a password.
        what: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A certificate or the address of the upstream is invalid.
    #[error("cannot set up upstream {upstream}: {reason}")]
    Setup {
        /// The name of the upstream.
        upstream: String,
        /// The reason.
        reason: String,
    },
}

impl UpstreamConfigError {
    /// Returns a hint for the operator.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { .. } => Some("check the path, the owner and the permissions of the file"),
            Self::Setup { .. } => Some("check remoteurl, cafile and passwordfile of the upstream"),
        }
    }
}

/// The contents of an upstream's files.
#[derive(PartialEq, Eq)]
pub(super) struct UpstreamFiles {
    pub(super) password: Option<Secret>,
    /// CA certificates in PEM.
    pub(super) ca_certificates: Option<Vec<u8>>,
}

impl UpstreamFiles {
    /// Reads the files of an upstream.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read, or if the password is not UTF-8.
    pub(super) fn read(settings: &UpstreamConfig) -> Result<Self, UpstreamConfigError> {
        let read = |what, path: &Path| {
            bounded_file::read(path, MAX_UPSTREAM_FILE_BYTES).map_err(|source| {
                UpstreamConfigError::Read {
                    upstream: settings.name().to_owned(),
                    what,
                    path: path.to_owned(),
                    source,
                }
            })
        };
        let password = match settings.login.as_ref().map(|login| &login.password) {
            Some(SecretSource::Inline(secret)) => Some(secret.clone()),
            Some(SecretSource::File(path)) => {
                let bytes = read("the password", path)?;
                let text = String::from_utf8(bytes).map_err(|_| UpstreamConfigError::Setup {
                    upstream: settings.name().to_owned(),
                    reason: format!("{} is not UTF-8 text", path.display()),
                })?;
                Some(Secret(text.trim_end_matches(['\r', '\n']).to_owned()))
            }
            None => None,
        };
        let ca_file = settings.ca_file.as_ref();
        let ca_certificates = ca_file.map(|path| read("the certificates", path));
        Ok(Self {
            password,
            ca_certificates: ca_certificates.transpose()?,
        })
    }
}
