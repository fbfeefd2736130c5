//! What can go wrong with bytes under keys.

use std::io;
use std::path::{Path, PathBuf};

/// A failure of the store. Its text names paths: it is for the log and the operator, never for an
/// answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No space, or no quota, left. Trying again helps once there is some.
    #[error("no space left, cannot {operation} {path:?}")]
    Full {
        /// What was being done.
        operation: &'static str,
        /// To which file or folder.
        path: PathBuf,
    },
    /// Another server uses the folder.
    #[error("another imgsync-server uses the folder {root:?}")]
    Locked {
        /// The folder.
        root: PathBuf,
    },
    /// The disk refused. Trying again seldom helps.
    #[error("cannot {operation} {path:?}: {source}")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

pub(super) type Result<T> = std::result::Result<T, Error>;

/// Says of a failed call what was being done.
pub(super) trait IoContext<T> {
    fn context(self, doing: &'static str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, doing: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| {
            let path = path.to_owned();
            match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::Full {
                    operation: doing,
                    path,
                },
                _ => Error::Io {
                    operation: doing,
                    path,
                    source,
                },
            }
        })
    }
}
