//! Reads the files that an upstream's configuration names: its password and its CA certificates.
//!
//! This module makes no connection. Start reading at [`UpstreamFiles`].

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::config::{Secret, UpstreamConfig, UpstreamLogin, UpstreamPassword};

/// Size limit of such a file, larger than any real password file or CA bundle.
const MAX_UPSTREAM_FILE_BYTES: u64 = 1024 * 1024;

/// Error in the configuration of an upstream.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamConfigError {
    /// A file that the configuration names cannot be read.
    #[error("cannot read {what} of {upstream}, {}: {source}", path.display())]
    Read {
        /// The name of the upstream.
        upstream: String,
        /// What the file contains.
        what: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A certificate or the address of the upstream is invalid.
    #[error("{upstream} cannot be spoken to: {reason}")]
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
            Self::Read { .. } => Some("look at the file's path, owner and permissions"),
            Self::Setup { .. } => Some("look at its remoteurl and cafile"),
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
            bounded(path).map_err(|source| UpstreamConfigError::Read {
                upstream: settings.name().to_owned(),
                what,
                path: path.to_owned(),
                source,
            })
        };
        let password = match &settings.login {
            Some(UpstreamLogin {
                password: UpstreamPassword::Inline(secret),
                ..
            }) => Some(secret.clone()),
            Some(UpstreamLogin {
                password: UpstreamPassword::File(path),
                ..
            }) => {
                let bytes = read("the password", path)?;
                let text = String::from_utf8(bytes).map_err(|_| UpstreamConfigError::Setup {
                    upstream: settings.name().to_owned(),
                    reason: format!("{} holds no text", path.display()),
                })?;
                Some(Secret(text.trim_end_matches(['\r', '\n']).to_owned()))
            }
            None => None,
        };
        let authorities = settings.ca_file.as_ref();
        let authorities = authorities.map(|path| read("the certificates", path));
        Ok(Self {
            password,
            ca_certificates: authorities.transpose()?,
        })
    }
}

/// Reads a file of at most [`MAX_UPSTREAM_FILE_BYTES`] bytes.
fn bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(MAX_UPSTREAM_FILE_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_UPSTREAM_FILE_BYTES {
        return Err(io::Error::other(format!(
            "more than {MAX_UPSTREAM_FILE_BYTES} bytes"
        )));
    }
    Ok(bytes)
}
