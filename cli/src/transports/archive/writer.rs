//! Writes a tar file beside the archive, which it replaces when it is complete.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use imgsync_oci::Digest;

use super::tar_header::{self, TAR_END};
use crate::disk::{self, LockedFile};
use crate::image::Slice;
use crate::transports::files::blob_path;

/// The blobs that were written, by digest.
#[derive(Debug, Clone, Default)]
pub(super) struct WrittenBlobs {
    slices: HashMap<Digest, Slice>,
}

impl WrittenBlobs {
    /// Returns where a blob was written.
    pub(super) fn get(&self, digest: &Digest) -> Option<&Slice> {
        self.slices.get(digest)
    }

    /// Returns the size of a blob in bytes.
    pub(super) fn size(&self, digest: &Digest) -> Option<u64> {
        self.get(digest).map(Slice::len)
    }

    /// Adds the blob of a [`TarEntryWriter`].
    pub(super) fn insert(&mut self, digest: Digest, slice: Slice) {
        self.slices.insert(digest, slice);
    }
}

/// A tar file that is being written.
#[derive(Debug)]
pub(super) struct ArchiveWriter {
    locked_file: LockedFile,
    file: Arc<std::fs::File>,
    end_offset: u64,
}

impl ArchiveWriter {
    /// Creates the file at `path`, in place of one that an earlier run left; `None` while another
    /// process writes it.
    ///
    /// # Errors
    /// Returns the error of the file system.
    pub(super) fn begin(path: &Path) -> io::Result<Option<Self>> {
        let Some(locked) = LockedFile::try_open(path)? else {
            return Ok(None);
        };
        locked.file.set_len(0)?;
        let file = Arc::new(locked.file.try_clone()?);
        Ok(Some(Self {
            locked_file: locked,
            file,
            end_offset: 0,
        }))
    }

    /// Begins an entry of `size` bytes. It becomes part of the tar with [`ArchiveWriter::close`];
    /// otherwise the next entry overwrites it.
    pub(super) fn open(&self, digest: &Digest, size: u64) -> TarEntryWriter {
        TarEntryWriter {
            file: Arc::clone(&self.file),
            header_offset: self.end_offset,
            header: tar_header::header(&blob_path(digest), size),
            size,
            written: 0,
        }
    }

    /// Completes an entry and returns where its bytes are.
    ///
    /// # Errors
    /// Returns the error of the file system, or [`io::ErrorKind::UnexpectedEof`] if bytes are
    /// missing.
    pub(super) fn close(&mut self, entry: &TarEntryWriter) -> io::Result<Slice> {
        if entry.written != entry.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let body = entry.header_offset + entry.header.len() as u64;
        self.file.write_all_at(&entry.header, entry.header_offset)?;
        let padding = tar_header::padding(entry.size);
        self.file.write_all_at(&padding, body + entry.size)?;
        self.end_offset = body + entry.size + padding.len() as u64;
        Ok(Slice::part(&self.file, body, entry.size))
    }

    /// Appends a small file that is no blob.
    ///
    /// # Errors
    /// Returns the error of the file system.
    pub(super) fn append_file(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let bytes = tar_header::file(name, content);
        self.file.write_all_at(&bytes, self.end_offset)?;
        self.end_offset += bytes.len() as u64;
        Ok(())
    }

    /// Ends the tar and renames it to `path`. It is on the disk when this returns.
    ///
    /// # Errors
    /// Returns the error of the file system; `path` is unchanged then.
    pub(super) fn commit(self, path: &Path) -> io::Result<()> {
        let end = self.file.write_all_at(&TAR_END, self.end_offset);
        end.and_then(|()| self.file.set_len(self.end_offset + TAR_END.len() as u64))
            .map_err(|error| disk::with_path(path, &error))?;
        self.locked_file.rename(path)
    }

    /// Deletes the file.
    ///
    /// # Errors
    /// Returns the error of the file system.
    pub(super) fn discard(self) -> io::Result<()> {
        self.locked_file.remove()
    }
}

/// An entry that is being written.
#[derive(Debug)]
pub(super) struct TarEntryWriter {
    file: Arc<std::fs::File>,
    header_offset: u64,
    header: Vec<u8>,
    size: u64,
    /// The bytes that were written.
    written: u64,
}

impl TarEntryWriter {
    /// Appends bytes.
    ///
    /// # Errors
    /// Returns the error of the file system, or [`io::ErrorKind::InvalidData`] for more bytes than
    /// announced.
    pub(super) fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        if chunk.len() as u64 > self.size - self.written {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let body = self.header_offset + self.header.len() as u64;
        self.file.write_all_at(chunk, body + self.written)?;
        self.written += chunk.len() as u64;
        Ok(())
    }
}
