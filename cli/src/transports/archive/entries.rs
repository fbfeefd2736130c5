//! Lists the entries of a tar file from its headers.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::tar_reader::{SeekableInput, TarEntryKind, TarReader};
use crate::image::{Error, Slice};
use crate::transports::files::{FileContent, SourceFiles};

/// Lists the entries of the archive `file` of `size` bytes at `path`, without reading their bodies.
///
/// # Errors
/// Returns an error if the archive is unreadable, unsafe or truncated.
pub(crate) fn read_entries(file: File, size: u64, path: &Path) -> Result<SourceFiles, Error> {
    let from = format!("the archive {}", path.display());
    let file = Arc::new(file);
    let mut contents = SourceFiles::empty(&from);
    let mut tarball = TarReader::new(SeekableInput::new(&*file, size), &from);
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
