//! The files that the configuration of an upstream names: its password, and whose certificates
//! count.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::config::{Secret, UpstreamConfig, UpstreamLogin, UpstreamPassword};

/// More than any password or list of authorities.
const MAX_UPSTREAM_FILE_BYTES: u64 = 1024 * 1024;

/// What keeps an upstream from being spoken to: its files.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamConfigError {
    /// A file that the configuration names.
    #[error("cannot read {what} of {upstream}, {}: {source}", path.display())]
    Read {
        /// The upstream.
        upstream: String,
        /// What is in the file.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Certificates that are none, or an address.
    #[error("{upstream} cannot be spoken to: {reason}")]
    Setup {
        /// The upstream.
        upstream: String,
        /// Why.
        reason: String,
    },
}

impl UpstreamConfigError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { .. } => Some("look at the file's path, owner and permissions"),
            Self::Setup { .. } => Some("look at its remoteurl and cafile"),
        }
    }
}

/// What stands in the files of an upstream.
#[derive(PartialEq, Eq)]
pub(super) struct UpstreamFiles {
    pub(super) password: Option<Secret>,
    /// PEM.
    pub(super) ca_certificates: Option<Vec<u8>>,
}

impl UpstreamFiles {
    /// Reads them.
    ///
    /// # Errors
    /// One cannot be read.
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
