//! The entries of a tar file, found by one walk over its headers.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::Error;
use super::contents::{Contents, Stored};
use super::slice::Slice;
use super::tarball::{Kind, Seekable, Tarball};

/// Lists the entries of the archive `file` of `size` bytes at `path`. No body is read.
///
/// # Errors
/// Whatever makes an archive unreadable or unsafe, above all one that ends early.
pub(super) fn index(file: File, size: u64, path: &Path) -> Result<Contents, Error> {
    let from = format!("the archive {}", path.display());
    let file = Arc::new(file);
    let mut contents = Contents::empty(&from);
    let mut tarball = Tarball::new(Seekable::new(&*file, size), &from);
    while let Some(entry) = tarball.next()? {
        match entry.kind {
            Kind::File { offset, len } => {
                let slice = Slice::part(&file, offset, len);
                contents.store(entry.name, Stored::Here(slice))?;
            }
            Kind::Link(target) => contents.link(entry.name, target)?,
            Kind::Bodiless => {}
        }
    }
    Ok(contents)
}
