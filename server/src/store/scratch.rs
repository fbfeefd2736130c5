//! Temporary files: those without a name, and those that become blobs.
//!
//! Neither survives a restart: a file without a name is gone with the process, and the start removes
//! the others. Start reading at [`ScratchFile`] and [`BlobDraft`].

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

use imgsync_oci::Digest;

use super::disk::DiskFile;
use super::error::{IoContext, Result};
use super::ingest::SealedIngest;
use super::{ObjectReader, Store};

/// A file without a name, which is gone when the value is dropped.
pub(crate) struct ScratchFile(Positioned<DiskFile>);

/// Reads an object from any position.
pub(crate) struct ObjectCursor(Positioned<ObjectReader>);

/// A file with the position of the next byte.
struct Positioned<F> {
    file: F,
    position: u64,
    len: u64,
}

/// The bytes of a new blob in a temporary file, which is removed when the value is dropped, unless it
/// became a blob.
pub(crate) struct BlobDraft {
    store: Arc<Store>,
    file: DiskFile,
    path: PathBuf,
    len: u64,
}

impl Store {
    /// Creates an empty file without a name.
    pub(crate) fn create_scratch(&self) -> Result<ScratchFile> {
        let path = self.temporary_path();
        let file = self.disk.create(&path).context("create", &path)?;
        self.disk.unlink(&path)?;
        Ok(ScratchFile(Positioned::new(file, 0)))
    }

    /// Creates the file of a new blob.
    pub(crate) fn create_blob_draft(self: &Arc<Self>) -> Result<BlobDraft> {
        let path = self.temporary_path();
        let file = self.disk.create(&path).context("create", &path)?;
        Ok(BlobDraft {
            store: Arc::clone(self),
            file,
            path,
            len: 0,
        })
    }
}

impl BlobDraft {
    /// Returns the number of bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Appends bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write(self.len, bytes);
        written.context("write", &self.path)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Makes the bytes durable. Their digest is `digest`. The draft must live until the blob is
    /// committed.
    pub(crate) fn seal(&self, digest: Digest) -> Result<SealedIngest> {
        self.file.sync().context("sync", &self.path)?;
        Ok(SealedIngest::of_file(self.path.clone(), digest, self.len))
    }
}

impl Drop for BlobDraft {
    fn drop(&mut self) {
        self.store.discard_file(&self.path);
    }
}

impl<F> Positioned<F> {
    fn new(file: F, len: u64) -> Self {
        Self {
            file,
            position: 0,
            len,
        }
    }

    /// Reads at the position, and moves it.
    fn read(
        &mut self,
        buffer: &mut [u8],
        read_into: impl FnOnce(&F, u64, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let rest = self.len.saturating_sub(self.position);
        let len = usize::try_from(rest).map_or(buffer.len(), |rest| rest.min(buffer.len()));
        let count = read_into(&self.file, self.position, &mut buffer[..len])?;
        self.position += count as u64;
        Ok(count)
    }

    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        let (base, offset) = match target {
            SeekFrom::Start(position) => (position, 0),
            SeekFrom::End(offset) => (self.len, offset),
            SeekFrom::Current(offset) => (self.position, offset),
        };
        let position = base.checked_add_signed(offset);
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl ObjectCursor {
    /// Returns a cursor at the start of an object of `len` bytes.
    pub(crate) fn new(reader: ObjectReader, len: u64) -> Self {
        Self(Positioned::new(reader, len))
    }
}

impl Read for ObjectCursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer, ObjectReader::read_into)
    }
}

impl Seek for ObjectCursor {
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        self.0.seek(target)
    }
}

impl Read for ScratchFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer, DiskFile::read_into)
    }
}

impl Write for ScratchFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.file.write(self.0.position, bytes)?;
        self.0.position += bytes.len() as u64;
        self.0.len = self.0.len.max(self.0.position);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for ScratchFile {
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        self.0.seek(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ObjectKey;

    #[test]
    fn a_scratch_file_has_no_name_and_a_draft_loses_it() {
        let root = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(root.path()).unwrap());
        let files = || {
            std::fs::read_dir(root.path().join("imgsync/tmp"))
                .unwrap()
                .count()
        };
        let mut scratch = store.create_scratch().unwrap();
        assert_eq!(files(), 0);
        scratch.write_all(b"0123456789").unwrap();
        scratch.seek(SeekFrom::End(-3)).unwrap();
        let mut rest = Vec::new();
        scratch.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"789");
        assert!(scratch.seek(SeekFrom::Current(-11)).is_err());
        let mut dropped = store.create_blob_draft().unwrap();
        dropped.write(b"bytes").unwrap();
        assert_eq!(files(), 1);
        drop(dropped);
        assert_eq!(files(), 0);
        let (digest, mut draft) = (Digest::of(b"bytes"), store.create_blob_draft().unwrap());
        draft.write(b"by").unwrap();
        draft.write(b"tes").unwrap();
        let sealed = draft.seal(digest.clone()).unwrap();
        assert_eq!((draft.len(), sealed.size()), (5, 5));
        store.commit_ingest(&sealed, &[]).unwrap();
        drop(draft);
        assert_eq!(files(), 0);
        let blob = store.get(ObjectKey::Blob(&digest), 100).unwrap();
        assert_eq!(blob.as_deref(), Some(&b"bytes"[..]));
    }
}
