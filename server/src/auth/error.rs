//! Why users cannot be known.

use std::io;
use std::path::PathBuf;

/// What keeps a server with users from starting.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file of users.
    #[error("cannot read the htpasswd file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => Some("make it with: imgsync-server htpasswd FILE USER"),
                io::ErrorKind::IsADirectory => Some(
                    "it is a folder: Docker makes one where a file to be mounted is missing; \
                     remove it and make the file with: imgsync-server htpasswd FILE USER",
                ),
                io::ErrorKind::PermissionDenied => {
                    Some("let the server's user read it, and nobody else but you")
                }
                _ => None,
            },
            Self::Random => None,
        }
    }
}
