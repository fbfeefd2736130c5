//! Where images come from: a Docker daemon, an archive, an OCI layout.
//!
//! First the facts, then the bytes. [`find`] yields what is known without reading a layer; a
//! daemon's image is exported only when the plan asks for bytes ([`daemon::Found::export`]).
//!
//! Names inside archives are keys of a map and never paths on disk, and everything that is read
//! into memory is bounded.

mod archive;
pub(crate) mod config;
pub(crate) mod contents;
pub mod daemon;
mod docker_archive;
mod error;
mod goal;
mod image;
mod listing;
mod location;
pub mod manifest;
pub(crate) mod name;
mod oci;
mod packed;
pub(crate) mod platform;
mod sift;
mod slice;
mod tarball;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::Path;

use imgsync_oci::Digest;

use crate::spool::Spool;
use contents::Contents;

pub use error::Error;
pub use image::{Blobs, Config, Content, Graph, Image, Layer, ManifestBytes, Origin, Single};
pub use location::{EngineName, Location, Selector};
pub use platform::Platforms;
pub use slice::{Reader, Slice};

/// The largest manifest, config or list of images that is read, in bytes. What is larger in an
/// archive can only be a layer.
const MAX_METADATA_BYTES: u64 = 4 * 1024 * 1024;
/// The most layers of one image; Docker itself takes 127.
const MAX_LAYERS: usize = 1000;

/// What was asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where the image is.
    pub location: Location,
    /// Which of its platforms.
    pub platforms: Platforms,
}

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
/// the digest of a compressed blob) and their number, that nobody needs them: the target has it
/// already, or it is at hand. `None` stands for a number that is not known. It is asked on a thread
/// that may block.
pub type Unneeded = Box<dyn FnMut(&Digest, Option<u64>) -> bool + Send>;

/// Finds an image and what is known of it. Costs a daemon two small requests; of a file or folder
/// it reads the metadata (and a compressed layer whose digest nothing states); a stream is read to
/// its end (whoever writes to a pipe that is closed early would call that an error), and what
/// `unneeded` does not refuse is put into the spool.
///
/// # Errors
/// See [`Error`]; what is cut short, contradicts itself or lacks a part is never an image.
pub async fn find(wanted: &Wanted, spool: &Spool, unneeded: Unneeded) -> Result<Found, Error> {
    if let Location::Daemon(name) = &wanted.location {
        return daemon::find(name, &wanted.platforms)
            .await
            .map(Found::Daemon);
    }
    let (wanted, spool) = (wanted.clone(), spool.clone());
    let (image, blobs) = blocking(move || read(&wanted, &spool, unneeded)).await?;
    Ok(Found::Here { image, blobs })
}

/// Reads what is no daemon.
fn read(wanted: &Wanted, spool: &Spool, mut unneeded: Unneeded) -> Result<(Image, Blobs), Error> {
    let mut open = |path: &Path| contents(path, spool, &mut unneeded);
    let platforms = &wanted.platforms;
    match &wanted.location {
        Location::DockerArchive(path, selector) => {
            docker_archive::image(&open(path)?, selector, platforms)
        }
        Location::OciLayout(path, selector) | Location::OciArchive(path, selector) => {
            oci::image(&open(path)?, selector, platforms)
        }
        Location::Path(path) => recognise(&open(path)?, platforms),
        Location::StandardInput => {
            let input = io::stdin().lock();
            if input.is_terminal() {
                return Err(Error::Word {
                    word: "-".to_owned(),
                    reason: "standard input is a terminal, and no archive".to_owned(),
                });
            }
            let contents = stream(input, "standard input", spool, &mut unneeded)?;
            recognise(&contents, platforms)
        }
        Location::Daemon(name) => Err(Error::NoSuchImage {
            name: name.as_str().to_owned(),
        }),
    }
}

/// The archive in a file, as it lies there, and what told it from others when it was opened.
///
/// # Errors
/// It is not there, or no archive, or compressed.
pub(crate) fn open_archive(path: &Path) -> Result<(Contents, std::fs::Metadata), Error> {
    let failed = |source| Error::Io {
        action: "open",
        from: format!("the archive {}", path.display()),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    Ok((archive::index(file, metadata.len(), path)?, metadata))
}

/// What lies under a path: a folder, or an archive, of which everything is wanted.
///
/// # Errors
/// It is not there, or no archive.
pub(crate) fn open(path: &Path, spool: &Spool) -> Result<Contents, Error> {
    contents(
        path,
        spool,
        &mut (Box::new(|_: &Digest, _| false) as Unneeded),
    )
}

/// What lies under a path: a folder, an archive, or a pipe that an archive comes from.
fn contents(path: &Path, spool: &Spool, unneeded: &mut Unneeded) -> Result<Contents, Error> {
    let from = format!("the archive {}", path.display());
    let failed = |source| Error::Io {
        action: "open",
        from: from.clone(),
        source,
    };
    let metadata = path.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Ok(Contents::folder(path.to_owned()));
    }
    let file = File::open(path).map_err(failed)?;
    // Once more, of what was opened.
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_file() && !packed::is_packed(&file).map_err(failed)? {
        archive::index(file, metadata.len(), path)
    } else {
        stream(file, &from, spool, unneeded)
    }
}

/// What comes once and cannot be searched: a pipe, or an archive that is compressed as a whole.
fn stream(
    input: impl io::Read,
    from: &str,
    spool: &Spool,
    unneeded: &mut Unneeded,
) -> Result<Contents, Error> {
    let input = packed::Archive::open(input).map_err(|source| Error::Io {
        action: "read",
        from: from.to_owned(),
        source,
    })?;
    sift::sift(io::BufReader::new(input), from, spool, unneeded, None)
}

/// Reads an image by what is there: an OCI layout, or an archive of Docker's kind, or both in one
/// (Docker from 25 on).
fn recognise(contents: &Contents, platforms: &Platforms) -> Result<(Image, Blobs), Error> {
    let only = &Selector::Only;
    let is_docker = contents.has(docker_archive::MANIFEST);
    let is_oci = contents.has(oci::INDEX);
    match (is_docker, is_oci) {
        (true, true) if oci::is_authoritative(contents)? => oci::image(contents, only, platforms),
        (true, true | false) => docker_archive::image(contents, only, platforms),
        (false, true) => oci::image(contents, only, platforms),
        (false, false) => {
            let (docker, oci) = (docker_archive::MANIFEST, oci::INDEX);
            Err(contents.malformed(format!("it has neither {docker} nor {oci}")))
        }
    }
}

/// Runs what blocks on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => Err(Error::Io {
                action: "read",
                from: "the image".to_owned(),
                source: io::Error::other(cancelled),
            }),
        },
    }
}
