//! A tar on its way: a file beside the archive until it is whole.

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

/// What was written: blobs, by digest.
#[derive(Debug, Clone, Default)]
pub(super) struct WrittenBlobs {
    slices: HashMap<Digest, Slice>,
}

impl WrittenBlobs {
    /// Where a blob lies.
    pub(super) fn get(&self, digest: &Digest) -> Option<&Slice> {
        self.slices.get(digest)
    }

    /// The number of its bytes.
    pub(super) fn size(&self, digest: &Digest) -> Option<u64> {
        self.get(digest).map(Slice::len)
    }

    /// Notes what an [`Entry`] came to.
    pub(super) fn insert(&mut self, digest: Digest, slice: Slice) {
        self.slices.insert(digest, slice);
    }
}

/// The file.
#[derive(Debug)]
pub(super) struct ArchiveWriter {
    locked_file: LockedFile,
    file: Arc<std::fs::File>,
    end_offset: u64,
}

impl ArchiveWriter {
    /// Begins a file under `path`, in place of what an earlier run left there; `None` while
    /// somebody else writes it.
    ///
    /// # Errors
    /// The system's.
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

    /// Begins an entry of `size` bytes. It counts only when it is [`Writer::close`]d; the next one
    /// takes its place else.
    pub(super) fn open(&self, digest: &Digest, size: u64) -> TarEntryWriter {
        TarEntryWriter {
            file: Arc::clone(&self.file),
            header_offset: self.end_offset,
            header: tar_header::header(&blob_path(digest), size),
            size,
            written: 0,
        }
    }

    /// Takes an entry in. Yields where its bytes are.
    ///
    /// # Errors
    /// The system's; bytes are missing.
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

    /// Puts a small file that is no blob.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn append_file(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let bytes = tar_header::file(name, content);
        self.file.write_all_at(&bytes, self.end_offset)?;
        self.end_offset += bytes.len() as u64;
        Ok(())
    }

    /// Ends the file and gives it its name. It is on the disk then.
    ///
    /// # Errors
    /// The system's; then nothing has the name that had it not before.
    pub(super) fn commit(self, path: &Path) -> io::Result<()> {
        let end = self.file.write_all_at(&TAR_END, self.end_offset);
        end.and_then(|()| self.file.set_len(self.end_offset + TAR_END.len() as u64))
            .map_err(|error| disk::with_path(path, &error))?;
        self.locked_file.rename(path)
    }

    /// Throws the file away.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn discard(self) -> io::Result<()> {
        self.locked_file.remove()
    }
}

/// One blob on its way into the tar.
#[derive(Debug)]
pub(super) struct TarEntryWriter {
    file: Arc<std::fs::File>,
    header_offset: u64,
    header: Vec<u8>,
    size: u64,
    /// How many of its bytes are written.
    written: u64,
}

impl TarEntryWriter {
    /// Puts the next bytes.
    ///
    /// # Errors
    /// The system's; they are too many.
    pub(super) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        if piece.len() as u64 > self.size - self.written {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let body = self.header_offset + self.header.len() as u64;
        self.file.write_all_at(piece, body + self.written)?;
        self.written += piece.len() as u64;
        Ok(())
    }
}
