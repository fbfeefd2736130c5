//! The errors of the registry.
//!
//! They name no HTTP status: `http` maps each error to one.

use imgsync_oci::endpoint::UploadId;
use imgsync_oci::units::format_bytes;
use imgsync_oci::{Digest, ParseError, Reference, Repository};

use super::space::SpaceShortage;
use crate::store;

/// A rejected request, or a failure of the registry. The variant tells which of the two it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("repository {0} not found")]
    NameUnknown(Repository),
    #[error("blob {0} not found in the repository")]
    BlobUnknown(Digest),
    #[error("manifest {0} not found in the repository")]
    ManifestUnknown(Reference),
    /// The stored bytes are no manifest, or not the ones of its digest. The next push of the manifest
    /// repairs them.
    #[error("the stored manifest {0} is damaged")]
    ManifestDamaged(Reference),
    #[error("upload session {0} not found")]
    UploadUnknown(UploadId),
    #[error("too many upload sessions are open")]
    TooManyUploads,
    #[error("too many upload sessions of the same user or address are open")]
    TooManyOwnUploads,
    /// Another request is writing to the session, which has `offset` durable bytes.
    #[error("another request is writing to the upload session, which has {offset} bytes")]
    UploadBusy { offset: u64 },
    /// The chunk does not start at the session's offset.
    #[error("the chunk does not start at the end of the upload session, which has {offset} bytes")]
    WrongOffset { offset: u64 },
    #[error("digest mismatch: the content has digest {actual}, not {expected}")]
    DigestMismatch { expected: Digest, actual: Digest },
    #[error("{0}")]
    ManifestInvalid(ParseError),
    /// A manifest references content that its repository does not hold.
    #[error("the manifest references content that is not in the repository: {0:?}")]
    ChildrenUnknown(Vec<Digest>),
    /// A manifest states another size for a blob than the blob has. Both are in bytes.
    #[error(
        "size mismatch: the manifest says that {digest} has {stated} bytes, but it has {actual}"
    )]
    SizeMismatch {
        digest: Digest,
        stated: u64,
        actual: u64,
    },
    /// There is no room for an upload.
    #[error("{shortage}; {}", remedy(*untagged_bytes))]
    NoSpace {
        shortage: SpaceShortage,
        /// How many bytes only images without a tag hold, if that is known and they are kept.
        untagged_bytes: Option<u64>,
    },
    /// A request to assemble a layer cannot be met.
    #[error("{0}")]
    AssemblyInvalid(String),
    /// The request is valid, but too many layers are to be assembled.
    #[error("too many layers are being assembled; upload the whole layer, or try again later")]
    TooManyAssemblies,
    /// The request is valid, but too many others wait for a blob to be verified.
    #[error("too many blobs are being verified; try again later")]
    TooManyReverifications,
    #[error(transparent)]
    Store(#[from] store::Error),
}

pub(super) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Reports whether the disk is full.
    pub(crate) fn is_disk_full(&self) -> bool {
        matches!(
            self,
            Self::Store(store::Error::Full { .. })
                | Self::NoSpace {
                    shortage: SpaceShortage::Disk { .. },
                    ..
                }
        )
    }

    /// Returns the number of durable bytes in the upload session, if the error is about that.
    pub(crate) fn upload_offset(&self) -> Option<u64> {
        match self {
            Self::UploadBusy { offset } | Self::WrongOffset { offset } => Some(*offset),
            _ => None,
        }
    }
}

/// Returns what to do about a lack of space.
fn remedy(untagged_bytes: Option<u64>) -> String {
    // A collection alone would keep what was used lately.
    let delete =
        "remove images that nobody needs: imgsync-server garbage-collect --purge REPOSITORY:TAG";
    match untagged_bytes {
        None | Some(0) => delete.to_owned(),
        Some(bytes) => format!(
            "{delete}; images without a tag hold {}, which \"untagged: 168h\" in imgsync.retention \
             removes",
            format_bytes(bytes)
        ),
    }
}
