//! Opens the files of an image: a folder, an archive, or a stream of one.

use std::fs::File;
use std::io;
use std::path::Path;

use imgsync_oci::Digest;

use super::SkipLayer;
use crate::image::Error;
use crate::spool::Spool;
use crate::transports::archive::{compressed, entries, staging};
use crate::transports::files::SourceFiles;

/// Opens an archive for reading in place, and returns its metadata, by which a replaced file can be
/// recognized.
///
/// # Errors
/// Returns an error if the file is missing, compressed, or no archive.
pub(in crate::transports) fn open_archive(
    path: &Path,
) -> Result<(SourceFiles, std::fs::Metadata), Error> {
    let failed = |source| Error::Io {
        action: "open",
        from: format!("the archive {}", path.display()),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    Ok((entries::read_entries(file, metadata.len(), path)?, metadata))
}

/// Opens a folder or an archive without skipping anything.
///
/// # Errors
/// Returns an error if it is missing or no archive.
pub(in crate::transports) fn open_files(path: &Path, spool: &Spool) -> Result<SourceFiles, Error> {
    open_files_skipping(
        path,
        spool,
        &mut (Box::new(|_: &Digest, _| false) as SkipLayer),
    )
}

/// Opens a folder, an archive, or a pipe of an archive.
pub(super) fn open_files_skipping(
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
    // The path may name another file by now.
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_file() && !compressed::is_compressed(&file).map_err(failed)? {
        entries::read_entries(file, metadata.len(), path)
    } else {
        read_stream(file, &from, spool, unneeded)
    }
}

/// Reads an archive from an input that cannot seek: a pipe, or an archive that is compressed as a
/// whole.
pub(super) fn read_stream(
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
