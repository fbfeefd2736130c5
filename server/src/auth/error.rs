//! The errors of reading users and creating keys.

use std::io;
use std::path::PathBuf;

/// Why the users cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The htpasswd file cannot be read.
    #[error("cannot read the htpasswd file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The system provides no random numbers.
    #[error("cannot get random numbers from the system")]
    Random,
}

impl Error {
    /// Returns what the user can do about the error.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => {
                    Some("create it with: imgsync-server htpasswd FILE USER")
                }
                io::ErrorKind::IsADirectory => Some(
                    "it is a directory: Docker creates one if the file of a bind mount is missing; \
                     remove it and create the file with: imgsync-server htpasswd FILE USER",
                ),
                io::ErrorKind::PermissionDenied => Some(
                    "make it readable for the user that the server runs as, and for nobody else",
                ),
                _ => None,
            },
            Self::Random => None,
        }
    }
}
