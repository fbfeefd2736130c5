//! Why the content store cannot be read.

use imgsync_oci::Digest;

use crate::transports::daemon::grpc::{GrpcError, MalformedMessage};

/// The reason why the content store cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
pub(in crate::transports::daemon) enum ContentError {
    /// A request to the content service failed.
    #[error("the content service cannot be used: {0}")]
    Request(#[from] GrpcError),
    /// The store does not have a manifest.
    #[error("the content store does not have {0}")]
    Missing(Digest),
    /// The content is invalid.
    #[error("{0}")]
    Malformed(String),
}

impl ContentError {
    /// Returns whether the same request may succeed on another connection.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Request(error) => error.is_transient(),
            Self::Missing(_) | Self::Malformed(_) => false,
        }
    }
}

impl From<MalformedMessage> for ContentError {
    fn from(error: MalformedMessage) -> Self {
        Self::Request(error.into())
    }
}
