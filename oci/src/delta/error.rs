//! Why a delta or an index cannot be used.

use std::io;

/// Why a delta or an index cannot be read, or a layer has none.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// The bytes are not in the format. Reading the bytes again does not help.
    #[error("{0}")]
    Invalid(String),
    /// A bound was exceeded, for example because a layer has too many files.
    #[error("{0}")]
    TooLarge(String),
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}
