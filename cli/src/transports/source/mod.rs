//! Where images come from: a Docker daemon, an archive, an OCI layout.
//!
//! First the facts, then the bytes. [`find`] yields what is known without reading a layer; a
//! daemon's image is exported only when the plan asks for bytes ([`daemon::Found::export`]).
//!
//! Names inside archives are keys of a map and never paths on disk, and everything that is read
//! into memory is bounded.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::Path;

use imgsync_oci::Digest;

use super::archive::{compressed, docker_archive, entries, staging};
use super::daemon;
use super::files::SourceFiles;
use super::layout::image_reader;
use crate::image::{Error, Image, ImageBlobs, ImageLocation, ImageSelector, Platforms};
use crate::spool::Spool;

/// The largest manifest, config or list of images that is read, in bytes. What is larger in an
/// archive can only be a layer.
pub(super) const MAX_METADATA_BYTES: u64 = 4 * 1024 * 1024;
/// The most layers of one image; Docker itself takes 127.
pub(super) const MAX_LAYERS: usize = 1000;

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
pub async fn find(
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

/// The archive in a file, as it lies there, and what told it from others when it was opened.
///
/// # Errors
/// It is not there, or no archive, or compressed.
pub(crate) fn open_archive(path: &Path) -> Result<(SourceFiles, std::fs::Metadata), Error> {
    let failed = |source| Error::Io {
        action: "open",
        from: format!("the archive {}", path.display()),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    Ok((entries::read_entries(file, metadata.len(), path)?, metadata))
}

/// What lies under a path: a folder, or an archive, of which everything is wanted.
///
/// # Errors
/// It is not there, or no archive.
pub(crate) fn open_files(path: &Path, spool: &Spool) -> Result<SourceFiles, Error> {
    open_files_skipping(
        path,
        spool,
        &mut (Box::new(|_: &Digest, _| false) as SkipLayer),
    )
}

/// What lies under a path: a folder, an archive, or a pipe that an archive comes from.
fn open_files_skipping(
    path: &Path,
    spool: &Spool,
    unneeded: &mut SkipLayer,
) -> Result<SourceFiles, Error> {
    let from = format!("the archive {}", path.display());
    let failed = |source| Error::Io {
        action: "open",
        from: from.clone(),
        source,
    };
    let metadata = path.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Ok(SourceFiles::folder(path.to_owned()));
    }
    let file = File::open(path).map_err(failed)?;
    // Once more, of what was opened.
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_file() && !compressed::is_compressed(&file).map_err(failed)? {
        entries::read_entries(file, metadata.len(), path)
    } else {
        read_stream(file, &from, spool, unneeded)
    }
}

/// What comes once and cannot be searched: a pipe, or an archive that is compressed as a whole.
fn read_stream(
    input: impl io::Read,
    from: &str,
    spool: &Spool,
    unneeded: &mut SkipLayer,
) -> Result<SourceFiles, Error> {
    let input = compressed::DecompressedStream::open(input).map_err(|source| Error::Io {
        action: "read",
        from: from.to_owned(),
        source,
    })?;
    staging::stage_stream(io::BufReader::new(input), from, spool, unneeded, None)
}

/// Reads an image by what is there: an OCI layout, or an archive of Docker's kind, or both in one
/// (Docker from 25 on).
fn detect_image(
    contents: &SourceFiles,
    platforms: &Platforms,
) -> Result<(Image, ImageBlobs), Error> {
    let only = &ImageSelector::Only;
    let is_docker = contents.has(docker_archive::DOCKER_MANIFEST_FILE);
    let is_oci = contents.has(image_reader::OCI_INDEX_FILE);
    match (is_docker, is_oci) {
        (true, true) if image_reader::is_authoritative(contents)? => {
            image_reader::read_image(contents, only, platforms)
        }
        (true, true | false) => docker_archive::read_image(contents, only, platforms),
        (false, true) => image_reader::read_image(contents, only, platforms),
        (false, false) => {
            let (docker, oci) = (
                docker_archive::DOCKER_MANIFEST_FILE,
                image_reader::OCI_INDEX_FILE,
            );
            Err(contents.malformed(format!("it has neither {docker} nor {oci}")))
        }
    }
}

/// Runs what blocks on a thread of its own.
pub(super) async fn run_blocking<T: Send + 'static>(
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
