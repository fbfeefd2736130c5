//! Finds the image to push: in a Docker daemon, an archive, an OCI layout, or on standard input.
//!
//! [`locate_image`] returns what is known without reading layers. An image in a daemon is exported
//! only when its bytes are needed ([`daemon::DaemonImage::export`]). Names in archives are keys of
//! a map, never paths on the disk, and everything that is read into memory is bounded.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod open_files;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;

use imgsync_oci::Digest;

use super::archive::{DOCKER_MANIFEST_FILE, docker_archive};
use super::blocking::run_blocking;
use super::daemon;
use super::files::SourceFiles;
use super::layout::{OCI_INDEX_FILE, image_reader};
use crate::image::{EngineKind, Error, Image, ImageBlobs, ImageLocation, ImageSelector, Platforms};
use crate::report::{ProgressTask, Report, TaskReader};
use crate::spool::{GrowingLayer, Spool};
pub(super) use open_files::{open_archive, open_files};
use open_files::{open_files_skipping, read_stream};

/// The image to find.
#[derive(Debug, Clone)]
pub struct ImageRequest {
    /// The location of the image.
    pub location: ImageLocation,
    /// The requested platforms.
    pub platforms: Platforms,
}

/// An image that was found.
#[derive(Debug)]
pub enum LocatedImage {
    /// An image whose bytes are available.
    Local {
        /// The image.
        image: Image,
        /// The bytes.
        blobs: ImageBlobs,
    },
    /// An image in a daemon.
    Daemon(daemon::DaemonImage),
}

/// Decides whether the bytes of a layer can be skipped, because the target or the spool has them.
/// Called with the digest of the bytes at the source (the diffID of an uncompressed layer, the
/// digest of a compressed blob) and with their number, if known, on a thread that may block.
pub type SkipLayer = Box<dyn FnMut(&Digest, Option<u64>) -> bool + Send>;

/// Takes a layer that is compressed while it is read. Called with its diffID, before any of its bytes
/// were read, or when it is complete if only its bytes tell the diffID. Does not block.
pub type TakeLayer = Arc<dyn Fn(&Digest, GrowingLayer) + Send + Sync>;

/// How layers are compressed while they are read.
#[derive(Clone)]
pub struct LayerPacking {
    /// The number of threads.
    pub threads: usize,
    /// Takes each layer.
    pub take_layer: TakeLayer,
}

/// Finds an image. A daemon is sent one or two small requests; of a file or folder the metadata is read,
/// and compressed layers whose digests are not stated; a stream is read to its end, because the
/// writer of a pipe would fail otherwise. Layers of a stream that `unneeded` does not skip are put
/// into the spool.
///
/// # Errors
/// Returns an error if the image is missing, truncated, incomplete or inconsistent; see [`Error`].
pub async fn locate_image(
    request: &ImageRequest,
    spool: &Spool,
    unneeded: SkipLayer,
    report: &Arc<dyn Report>,
) -> Result<LocatedImage, Error> {
    if let ImageLocation::Daemon(name) = &request.location {
        let address = daemon::DaemonAddress::from_environment()?;
        let found = daemon::find_at(address, name, &request.platforms).await?;
        return Ok(LocatedImage::Daemon(found));
    }
    let (request, spool, report) = (request.clone(), spool.clone(), Arc::clone(report));
    let read = move || read(&request, &spool, unneeded, &report);
    let (image, blobs) = run_blocking(read).await?;
    Ok(LocatedImage::Local { image, blobs })
}

/// Reads an image from a file, a folder or a stream.
fn read(
    request: &ImageRequest,
    spool: &Spool,
    mut unneeded: SkipLayer,
    report: &Arc<dyn Report>,
) -> Result<(Image, ImageBlobs), Error> {
    let mut open_as = |path: &Path, from: &str| {
        open_files_skipping((path, from), spool, &mut unneeded, Some(report))
    };
    let mut open = |path: &Path| open_as(path, &format!("the archive {}", path.display()));
    let platforms = &request.platforms;
    match &request.location {
        ImageLocation::DockerArchive(path, selector) => {
            docker_archive::read_image(&open(path)?, selector, platforms)
        }
        ImageLocation::OciLayout(path, selector) => {
            let files = open_as(path, &format!("the OCI layout {}", path.display()))?;
            image_reader::read_image(&files, selector, platforms)
        }
        ImageLocation::OciArchive(path, selector) => {
            image_reader::read_image(&open(path)?, selector, platforms)
        }
        ImageLocation::Path(path) => detect_image(&open(path)?, platforms),
        ImageLocation::StandardInput => {
            let input = io::stdin().lock();
            if input.is_terminal() {
                let reason = "standard input is a terminal, not an archive";
                return Err(Error::invalid_location("-", reason));
            }
            let task = ProgressTask::start(report, "reading standard input", None);
            let input = TaskReader::new(input, task);
            let contents = read_stream(input, "standard input", spool, &mut unneeded)?;
            detect_image(&contents, platforms)
        }
        ImageLocation::Daemon(name) => Err(Error::NoSuchImage {
            engine: EngineKind::default(),
            name: name.as_str().to_owned(),
            tags: Vec::new(),
        }),
    }
}

/// Reads an image of a source whose content determines its kind: an OCI layout, an archive of
/// `docker save`, or both in one (Docker since version 25).
fn detect_image(
    contents: &SourceFiles,
    platforms: &Platforms,
) -> Result<(Image, ImageBlobs), Error> {
    let only = &ImageSelector::Only;
    let has_layout = contents.has(OCI_INDEX_FILE);
    if contents.has(DOCKER_MANIFEST_FILE) {
        if has_layout && image_reader::is_authoritative(contents, platforms)? {
            return image_reader::read_image(contents, only, platforms);
        }
        return docker_archive::read_image(contents, only, platforms);
    }
    if has_layout {
        return image_reader::read_image(contents, only, platforms);
    }
    let reason = format!("it has neither {DOCKER_MANIFEST_FILE} nor {OCI_INDEX_FILE}");
    Err(contents.malformed(reason))
}
