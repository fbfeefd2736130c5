//! Writes a tar file beside the archive, which it replaces when it is complete.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::tar_header::{self, TAR_END};
use crate::disk::{self, LockedFile};
use crate::image::Slice;
use crate::report::Report;
use crate::transports::Result;
use crate::transports::blocking::write_failure;
use crate::transports::fetch::{BlobFetch, BlobFile};
use crate::transports::files::blob_path;
use crate::upload::PendingBlob;

/// A tar file that is being written.
#[derive(Debug)]
pub(super) struct ArchiveWriter {
    locked_file: LockedFile,
    file: Arc<File>,
    end_offset: u64,
}

impl ArchiveWriter {
    /// Creates the file at `path`, in place of one that an earlier run left; `None` while another
    /// process writes it.
    ///
    /// # Errors
    /// Returns the error of the file system.
    pub(super) fn begin(path: &Path) -> io::Result<Option<Self>> {
        let Some(locked_file) = LockedFile::try_open(path)? else {
            return Ok(None);
        };
        locked_file.file.set_len(0)?;
        let file = Arc::new(locked_file.file.try_clone()?);
        Ok(Some(Self {
            locked_file,
            file,
            end_offset: 0,
        }))
    }

    /// Appends a blob that is verified on the way, and returns where its bytes are. A blob that
    /// fails does not become part of the tar: the next entry overwrites it.
    ///
    /// # Errors
    /// Returns the failure of the source or of the file system.
    pub(super) async fn append_blob(
        &mut self,
        blob: &PendingBlob,
        report: Option<&dyn Report>,
    ) -> Result<Slice> {
        let header = tar_header::header(&blob_path(&blob.digest), blob.size);
        let target = BlobFile {
            file: Arc::clone(&self.file),
            path: &self.locked_file.path,
            offset: self.end_offset + header.len() as u64,
            report,
        };
        BlobFetch::new(blob).write_to(&target).await?;
        let body_offset = target.offset;
        let padding_offset = body_offset + blob.size;
        let padding = tar_header::padding(blob.size);
        let written = disk::write_all_at(&self.file, &header, self.end_offset)
            .and_then(|()| disk::write_all_at(&self.file, &padding, padding_offset));
        written.map_err(write_failure)?;
        self.end_offset = padding_offset + padding.len() as u64;
        Ok(Slice::part(&self.file, body_offset, blob.size))
    }

    /// Appends a small file that is no blob.
    ///
    /// # Errors
    /// Returns the error of the file system.
    pub(super) fn append_file(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let bytes = tar_header::file(name, content);
        disk::write_all_at(&self.file, &bytes, self.end_offset)?;
        self.end_offset += bytes.len() as u64;
        Ok(())
    }

    /// Ends the tar and renames it to `path`. It is on the disk when this returns.
    ///
    /// # Errors
    /// Returns the error of the file system; `path` is unchanged then.
    pub(super) fn commit(self, path: &Path) -> io::Result<()> {
        let written = disk::write_all_at(&self.file, &TAR_END, self.end_offset);
        written
            .and_then(|()| self.file.set_len(self.end_offset + TAR_END.len() as u64))
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
