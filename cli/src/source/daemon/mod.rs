//! Images in a Docker daemon, by its HTTP API.

use imgsync_oci::{Descriptor, Digest, LocalName};

use super::{Blobs, Error, Image, Unneeded};
use crate::spool::Spool;

/// What a daemon says of an image before any export.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its name there, with the tag.
    pub name: Option<LocalName>,
    /// The digests of its layers' tars, lowest first; of a multi-platform image, those of the
    /// daemon's own platform.
    pub diff_ids: Vec<Digest>,
    /// How the daemon keeps it.
    pub store: Store,
}

/// How a daemon keeps its images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// Unpacked: the image's ID is its config's digest, layers come as raw tars.
    Classic {
        /// The config's digest.
        config: Digest,
    },
    /// As a registry would (containerd's image store): the image's ID is its manifest's or
    /// index's digest; its blobs are known after export only.
    Containerd {
        /// The manifest's or index's digest.
        root: Digest,
        /// Its media type; daemons before version 28 do not say.
        media_type: Option<String>,
    },
}

impl Found {
    /// The image without its bytes; `None` where only the export tells (containerd's store).
    pub fn image(&self) -> Option<Image> {
        todo!()
    }

    /// Exports the image: what `unneeded` does not refuse is put into the spool. The image now has
    /// its config's bytes.
    ///
    /// # Errors
    /// The daemon's own, and all those of a damaged archive.
    pub async fn export(&self, spool: &Spool, unneeded: Unneeded) -> Result<(Image, Blobs), Error> {
        todo!()
    }
}
