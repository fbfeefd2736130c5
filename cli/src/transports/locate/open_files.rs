//! Opens the files of an image: a folder, an archive, or a stream of one.

use std::fs::{File, Metadata};
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::SkipLayer;
use crate::disk::FileIdentity;
use crate::image::{Error, Slice};
use crate::report::{ProgressTask, Report, TaskReader};
use crate::spool::Spool;
use crate::transports::archive::tar_reader::{SeekableInput, TarEntryKind, TarReader};
use crate::transports::archive::{compressed, staging};
use crate::transports::files::{FileContent, SourceFiles};

/// Opens an archive for reading in place, and returns its identity, by which a replaced file can be
/// recognized.
///
/// # Errors
/// Returns an error if the file is missing, compressed, or no archive.
pub(in crate::transports) fn open_archive(
    path: &Path,
) -> Result<(SourceFiles, FileIdentity), Error> {
    let from = format!("the archive {}", path.display());
    let (file, metadata) = open(path, &from)?;
    let identity = FileIdentity::of_file(&file).map_err(|error| open_error(&from, error))?;
    Ok((read_entries(file, metadata.len(), &from)?, identity))
}

/// Opens a folder or an archive without skipping anything. `from` is what errors call it, for example
/// `the archive app.tar`.
///
/// # Errors
/// Returns an error if it is missing or no archive.
pub(in crate::transports) fn open_files(
    path: &Path,
    from: &str,
    spool: &Spool,
) -> Result<SourceFiles, Error> {
    let mut keep_all: SkipLayer = Box::new(|_, _| false);
    open_files_skipping((path, from), spool, &mut keep_all, None)
}

/// Opens a folder, an archive, or a pipe of an archive, which errors call `from`. `report` shows what is
/// read of an archive
/// that must be read completely.
pub(super) fn open_files_skipping(
    (path, from): (&Path, &str),
    spool: &Spool,
    unneeded: &mut SkipLayer,
    report: Option<&Arc<dyn Report>>,
) -> Result<SourceFiles, Error> {
    if path.is_dir() {
        return Ok(SourceFiles::folder(path.to_owned()));
    }
    let (file, metadata) = open(path, from)?;
    let is_compressed =
        || compressed::is_compressed(&file).map_err(|error| open_error(from, error));
    if metadata.is_file() && !is_compressed()? {
        return read_entries(file, metadata.len(), from);
    }
    let Some(report) = report else {
        return read_stream(file, from, spool, unneeded);
    };
    let size = metadata.is_file().then_some(metadata.len());
    let task = ProgressTask::start(report, &format!("reading {from}"), size);
    read_stream(TaskReader::new(file, task), from, spool, unneeded)
}

/// Reads an archive from an input that cannot seek: a pipe, or an archive that is compressed as a
/// whole.
pub(super) fn read_stream(
    input: impl io::Read,
    from: &str,
    spool: &Spool,
    unneeded: &mut SkipLayer,
) -> Result<SourceFiles, Error> {
    let input = compressed::DecompressedStream::open(input);
    let input = input.map_err(|error| Error::read(from, error))?;
    staging::stage_stream(io::BufReader::new(input), from, spool, unneeded, None)
}

fn open(path: &Path, from: &str) -> Result<(File, Metadata), Error> {
    let opened = File::open(path).and_then(|file| file.metadata().map(|metadata| (file, metadata)));
    opened.map_err(|error| open_error(from, error))
}

fn open_error(from: &str, source: io::Error) -> Error {
    Error::Open {
        from: from.to_owned(),
        source,
    }
}

/// Lists the entries of an archive of `size` bytes, without reading their bodies.
///
/// # Errors
/// Returns an error if the archive is unreadable, unsafe or truncated.
pub(super) fn read_entries(file: File, size: u64, from: &str) -> Result<SourceFiles, Error> {
    let file = Arc::new(file);
    let mut contents = SourceFiles::empty(from);
    let mut tarball = TarReader::new(SeekableInput::new(&*file, size), from);
    while let Some(entry) = tarball.next()? {
        match entry.kind {
            TarEntryKind::File { offset, len } => {
                let slice = Slice::part(&file, offset, len);
                contents.add_file(entry.name, FileContent::Available(slice))?;
            }
            TarEntryKind::Link(target) => contents.add_link(entry.name, target)?,
            TarEntryKind::NoBody => {}
        }
    }
    Ok(contents)
}
