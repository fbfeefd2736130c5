//! Where images come from: a Docker daemon, an archive, an OCI layout.
//!
//! First the facts, then the bytes. [`find`] yields what is known without reading a layer; a
//! daemon's image is exported only when the plan asks for bytes ([`daemon::Found::export`]).
//!
//! Names inside archives are keys of a map and never paths on disk, and everything that is read
//! into memory is bounded.

pub mod daemon;
mod error;
mod image;
mod location;
pub mod manifest;
mod slice;

use imgsync_oci::Digest;

use crate::spool::Spool;

pub use error::Error;
pub use image::{Blobs, Config, Content, Graph, Image, Layer, ManifestBytes, Origin, Single};
pub use location::{Location, Selector};
pub use slice::{Reader, Slice};

/// An image, and how its bytes can be had.
#[derive(Debug)]
pub enum Found {
    /// Everything is at hand.
    Here {
        /// The image.
        image: Image,
        /// Its bytes.
        blobs: Blobs,
    },
    /// A daemon has it.
    Daemon(daemon::Found),
}

/// Says of a layer, by the digest of its bytes as the source has them (the diffID of a raw layer,
/// the digest of a compressed blob), that nobody needs them: the target has it already. It is
/// asked on a thread that may block, for entries above 4 MiB.
pub type Unneeded = Box<dyn FnMut(&Digest) -> bool + Send>;

/// Finds an image and what is known of it. Costs a daemon two small requests; of a file or folder
/// it reads the metadata; standard input is read to its end, and what `unneeded` does not refuse
/// is put into the spool.
///
/// # Errors
/// See [`Error`]; what is cut short, contradicts itself or lacks a part is never an image.
pub async fn find(location: &Location, spool: &Spool, unneeded: Unneeded) -> Result<Found, Error> {
    todo!()
}
