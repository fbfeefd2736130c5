//! Where images come from: a Docker daemon, an archive, an OCI layout.
//!
//! First the facts, then the bytes. [`locate_image`] yields what is known without reading a layer; a
//! daemon's image is exported only when the plan asks for bytes ([`daemon::Found::export`]).
//!
//! Names inside archives are keys of a map and never paths on disk, and everything that is read
//! into memory is bounded.

mod open_files;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal};
use std::path::Path;

use imgsync_oci::Digest;

use super::archive::{DOCKER_MANIFEST_FILE, docker_archive};
use super::blocking::run_blocking;
use super::daemon;
use super::files::SourceFiles;
use super::layout::{OCI_INDEX_FILE, image_reader};
use crate::image::{Error, Image, ImageBlobs, ImageLocation, ImageSelector, Platforms};
use crate::spool::Spool;
pub(super) use open_files::{open_archive, open_files};
use open_files::{open_files_skipping, read_stream};

/// What was asked for.
#[derive(Debug, Clone)]
pub struct ImageRequest {
    /// Where the image is.
    pub location: ImageLocation,
    /// Which of its platforms.
    pub platforms: Platforms,
}

/// An image, and how its bytes can be had.
#[derive(Debug)]
pub enum LocatedImage {
    /// Everything is at hand.
    Local {
        /// The image.
        image: Image,
        /// Its bytes.
        blobs: ImageBlobs,
    },
    /// A daemon has it.
    Daemon(daemon::DaemonImage),
}

/// Says of a layer, by the digest of its bytes as the source has them (the diffID of a raw layer,
/// the digest of a compressed blob) and their number, that nobody needs them: the target has it
/// already, or it is at hand. `None` stands for a number that is not known. It is asked on a thread
/// that may block.
pub type SkipLayer = Box<dyn FnMut(&Digest, Option<u64>) -> bool + Send>;

/// Finds an image and what is known of it. Costs a daemon two small requests; of a file or folder
/// it reads the metadata (and a compressed layer whose digest nothing states); a stream is read to
/// its end (whoever writes to a pipe that is closed early would call that an error), and what
/// `unneeded` does not refuse is put into the spool.
///
/// # Errors
/// See [`Error`]; what is cut short, contradicts itself or lacks a part is never an image.
pub async fn locate_image(
    wanted: &ImageRequest,
    spool: &Spool,
    unneeded: SkipLayer,
) -> Result<LocatedImage, Error> {
    if let ImageLocation::Daemon(name) = &wanted.location {
        return daemon::find(name, &wanted.platforms)
            .await
            .map(LocatedImage::Daemon);
    }
    let (wanted, spool) = (wanted.clone(), spool.clone());
    let (image, blobs) = run_blocking(move || read(&wanted, &spool, unneeded)).await?;
    Ok(LocatedImage::Local { image, blobs })
}

/// Reads what is no daemon.
fn read(
    wanted: &ImageRequest,
    spool: &Spool,
    mut unneeded: SkipLayer,
) -> Result<(Image, ImageBlobs), Error> {
    let mut open = |path: &Path| open_files_skipping(path, spool, &mut unneeded);
    let platforms = &wanted.platforms;
    match &wanted.location {
        ImageLocation::DockerArchive(path, selector) => {
            docker_archive::read_image(&open(path)?, selector, platforms)
        }
        ImageLocation::OciLayout(path, selector) | ImageLocation::OciArchive(path, selector) => {
            image_reader::read_image(&open(path)?, selector, platforms)
        }
        ImageLocation::Path(path) => detect_image(&open(path)?, platforms),
        ImageLocation::StandardInput => {
            let input = io::stdin().lock();
            if input.is_terminal() {
                return Err(Error::InvalidLocation {
                    input: "-".to_owned(),
                    reason: "standard input is a terminal, and no archive".to_owned(),
                });
            }
            let contents = read_stream(input, "standard input", spool, &mut unneeded)?;
            detect_image(&contents, platforms)
        }
        ImageLocation::Daemon(name) => Err(Error::NoSuchImage {
            name: name.as_str().to_owned(),
        }),
    }
}

/// Reads an image by what is there: an OCI layout, or an archive of Docker's kind, or both in one
/// (Docker from 25 on).
fn detect_image(
    contents: &SourceFiles,
    platforms: &Platforms,
) -> Result<(Image, ImageBlobs), Error> {
    let only = &ImageSelector::Only;
    let is_docker = contents.has(DOCKER_MANIFEST_FILE);
    let is_oci = contents.has(OCI_INDEX_FILE);
    match (is_docker, is_oci) {
        (true, true) if image_reader::is_authoritative(contents)? => {
            image_reader::read_image(contents, only, platforms)
        }
        (true, true | false) => docker_archive::read_image(contents, only, platforms),
        (false, true) => image_reader::read_image(contents, only, platforms),
        (false, false) => {
            let reason = format!("it has neither {DOCKER_MANIFEST_FILE} nor {OCI_INDEX_FILE}");
            Err(contents.malformed(reason))
        }
    }
}
