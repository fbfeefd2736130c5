//! The errors of the store.

use std::io;
use std::path::{Path, PathBuf};

/// A failed operation of the store. The text contains paths: it is meant for the log and the
/// operator, and must not be sent to clients.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk is full or the quota is used up. A retry succeeds once there is space.
    #[error("cannot {operation} {path:?}: no space left")]
    Full {
        /// The operation that failed, as a verb.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
    },
    /// Another server uses the storage folder.
    #[error("another imgsync-server uses the folder {root:?}")]
    Locked {
        /// The storage folder.
        root: PathBuf,
    },
    /// A walk over folders took too many steps, or its client is gone.
    #[error("a walk over the storage folder ended early")]
    WalkEnded,
    /// The result of a walk takes more memory than the walk may use.
    #[error("the result of a walk over the storage folder takes about {bytes} bytes of memory")]
    NeedsMemory {
        /// How much memory the result takes.
        bytes: usize,
    },
    /// The operating system reported another error. A retry seldom helps.
    #[error("cannot {operation} {path:?}: {source}")]
    Io {
        /// The operation that failed, as a verb.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl Error {
    /// Returns whether the operating system denies this user the access to a file or folder.
    pub(crate) fn is_forbidden(&self) -> bool {
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem)
            }
            Self::Full { .. }
            | Self::Locked { .. }
            | Self::WalkEnded
            | Self::NeedsMemory { .. } => false,
        }
    }
}

pub(super) type Result<T> = std::result::Result<T, Error>;

/// Adds the operation and the path to the error of a system call.
pub(super) trait IoContext<T> {
    fn context(self, operation: &'static str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, operation: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| {
            let path = path.to_owned();
            match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Error::Full { operation, path }
                }
                _ => Error::Io {
                    operation,
                    path,
                    source,
                },
            }
        })
    }
}
