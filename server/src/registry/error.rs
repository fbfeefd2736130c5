//! Why the registry does not do what it was asked to.

use imgsync_oci::endpoint::UploadId;
use imgsync_oci::{Digest, ParseError, Reference, Repository};

use crate::store;

/// A refusal, or a failure. Each says by its kind whether the caller or the registry is at fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no repository {0}")]
    NameUnknown(Repository),
    #[error("the repository does not hold {0}")]
    BlobUnknown(Digest),
    #[error("the repository has no manifest {0}")]
    ManifestUnknown(Reference),
    #[error("there is no upload session {0}")]
    UploadUnknown(UploadId),
    #[error("too many upload sessions are open")]
    TooManyUploads,
    /// Another request is writing to the session; it safely held so much when this was said.
    #[error("another request writes to the upload session; it holds {offset} bytes")]
    UploadBusy { offset: u64 },
    /// The chunk does not begin where the session ends.
    #[error("the upload session holds {offset} bytes")]
    WrongOffset { offset: u64 },
    #[error("the content is {actual}, not {expected}")]
    DigestMismatch { expected: Digest, actual: Digest },
    #[error("{0}")]
    ManifestInvalid(ParseError),
    /// A manifest names content that its repository does not hold.
    #[error("the repository does not hold {0:?}")]
    ChildrenUnknown(Vec<Digest>),
    /// A manifest names content with another size than it has; both in bytes.
    #[error("{digest} has {actual} bytes, and the manifest says {stated}")]
    SizeMismatch {
        digest: Digest,
        stated: u64,
        actual: u64,
    },
    /// Nothing is wrong with the request, but too many like it are being looked at.
    #[error("too many blobs are being checked against their digests; try again later")]
    TooManyReverifications,
    #[error(transparent)]
    Store(#[from] store::Error),
}

pub(super) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// How many bytes the upload session holds, where the error is about that.
    pub(crate) fn upload_offset(&self) -> Option<u64> {
        match self {
            Self::UploadBusy { offset: held } | Self::WrongOffset { offset: held } => Some(*held),
            Self::NameUnknown(_)
            | Self::BlobUnknown(_)
            | Self::ManifestUnknown(_)
            | Self::UploadUnknown(_)
            | Self::TooManyUploads
            | Self::DigestMismatch { .. }
            | Self::ManifestInvalid(_)
            | Self::ChildrenUnknown(_)
            | Self::SizeMismatch { .. }
            | Self::TooManyReverifications
            | Self::Store(_) => None,
        }
    }
}
