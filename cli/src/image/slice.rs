//! A range of bytes that can be read repeatedly: in memory, in a file, or in another program's
//! store.

use std::fmt::{self, Debug};
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk;

/// Bytes in memory, in a range of an open file, in a file that is opened for reading, or in another
/// program's store.
#[derive(Debug, Clone)]
pub struct Slice {
    storage: SliceStorage,
    offset: u64,
    len: u64,
}

#[derive(Debug, Clone)]
enum SliceStorage {
    Memory(Bytes),
    OpenFile(Arc<File>),
    ClosedFile(Arc<PathBuf>),
    Streamed(Arc<dyn RangeSource>),
}

/// Content in another program's store, such as a daemon's, that can be read from any offset.
pub(crate) trait RangeSource: Debug + Send + Sync {
    /// Returns a reader from `offset` to the end, for a thread that may block.
    ///
    /// # Errors
    /// Returns an error if the content cannot be read.
    fn read_from(&self, offset: u64) -> io::Result<Box<dyn Read + Send>>;
}

impl Slice {
    /// Returns a slice of bytes in memory.
    pub(crate) fn memory(bytes: Bytes) -> Self {
        let len = bytes.len() as u64;
        Self::new(SliceStorage::Memory(bytes), 0, len)
    }

    /// Returns a slice of `len` bytes of `file` from `offset` on.
    pub(crate) fn part(file: &Arc<File>, offset: u64, len: u64) -> Self {
        Self::new(SliceStorage::OpenFile(Arc::clone(file)), offset, len)
    }

    /// Returns a slice of a whole file of `len` bytes. The file is opened only for reading, because
    /// there may be more files than file descriptors.
    pub(crate) fn whole(path: PathBuf, len: u64) -> Self {
        Self::new(SliceStorage::ClosedFile(Arc::new(path)), 0, len)
    }

    /// Returns a slice of all `len` bytes of a source.
    pub(crate) fn streamed(source: Arc<dyn RangeSource>, len: u64) -> Self {
        Self::new(SliceStorage::Streamed(source), 0, len)
    }

    fn new(storage: SliceStorage, offset: u64, len: u64) -> Self {
        Self {
            storage,
            offset,
            len,
        }
    }

    /// Returns the number of bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns whether the slice is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns a reader from `start` to the end, which can move to any thread.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened any more.
    pub fn read_from(&self, start: u64) -> io::Result<SliceReader> {
        let mut rest = self.clone();
        if let SliceStorage::ClosedFile(path) = &self.storage {
            rest.storage = SliceStorage::OpenFile(File::open(&**path)?.into());
        }
        rest.offset += start.min(self.len);
        rest.len -= start.min(self.len);
        let stream = match &self.storage {
            SliceStorage::Streamed(source) if rest.len > 0 => Some(source.read_from(rest.offset)?),
            _ => None,
        };
        Ok(SliceReader { rest, stream })
    }

    /// Returns a reader of the whole slice.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened any more.
    pub fn reader(&self) -> io::Result<SliceReader> {
        self.read_from(0)
    }

    /// Reads everything into memory; for slices that are known to be small.
    ///
    /// # Errors
    /// Returns an error if reading fails, or if the file has become shorter.
    pub(crate) fn read_all(&self) -> io::Result<Bytes> {
        if let SliceStorage::Memory(bytes) = &self.storage {
            return Ok(bytes.clone());
        }
        let mut bytes = Vec::new();
        self.reader()?.read_to_end(&mut bytes)?;
        Ok(bytes.into())
    }

    /// Returns the bytes, if they are in memory.
    pub(crate) fn memory_bytes(&self) -> Option<&Bytes> {
        match &self.storage {
            SliceStorage::Memory(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Returns up to four bytes from the start, which identify the compression of a layer.
    pub(crate) fn first_bytes(&self) -> io::Result<Vec<u8>> {
        let mut start = Vec::new();
        self.reader()?.take(4).read_to_end(&mut start)?;
        Ok(start)
    }
}

/// Reads a [`Slice`] once, from a position to its end.
pub struct SliceReader {
    rest: Slice,
    /// The open stream of a slice that is neither in memory nor in a file.
    stream: Option<Box<dyn Read + Send>>,
}

impl Debug for SliceReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SliceReader").field(&self.rest).finish()
    }
}

impl Read for SliceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &mut self.rest;
        let len = buffer
            .len()
            .min(usize::try_from(rest.len).unwrap_or(usize::MAX));
        if len == 0 {
            return Ok(0);
        }
        let read = match &rest.storage {
            SliceStorage::Memory(bytes) => {
                // The offset fits into usize, because the bytes are in memory.
                let offset = rest.offset as usize;
                buffer[..len].copy_from_slice(&bytes[offset..offset + len]);
                len
            }
            SliceStorage::OpenFile(file) => disk::read_at(file, &mut buffer[..len], rest.offset)?,
            SliceStorage::ClosedFile(path) => {
                disk::read_at(&File::open(&**path)?, &mut buffer[..len], rest.offset)?
            }
            SliceStorage::Streamed(_) => match &mut self.stream {
                Some(stream) => stream.read(&mut buffer[..len])?,
                None => 0,
            },
        };
        if read == 0 {
            let message = "the source became shorter while it was read";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        rest.offset += read as u64;
        rest.len -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn slices() -> (Vec<Slice>, tempfile::TempPath) {
        let mut named = tempfile::NamedTempFile::new().unwrap();
        named.write_all(b"0123456789").unwrap();
        let open = Arc::new(named.reopen().unwrap());
        let path = named.into_temp_path();
        let slices = vec![
            Slice::memory(Bytes::from_static(b"0123456789")),
            Slice::part(&open, 0, 10),
            Slice::whole(path.to_path_buf(), 10),
        ];
        (slices, path)
    }

    #[test]
    fn every_storage_reads_the_same_bytes_again() {
        let (slices, _path) = slices();
        for slice in slices {
            assert_eq!(slice.len(), 10);
            for _ in 0..2 {
                assert_eq!(&slice.read_all().unwrap()[..], b"0123456789");
            }
            let mut tail = String::new();
            slice
                .read_from(7)
                .unwrap()
                .read_to_string(&mut tail)
                .unwrap();
            assert_eq!(tail, "789");
            assert_eq!(slice.first_bytes().unwrap(), b"0123");
            assert_eq!(slice.read_from(11).unwrap().read(&mut [0; 4]).unwrap(), 0);
        }
    }

    #[test]
    fn a_part_ends_where_it_ends_and_a_file_that_shrank_is_noticed() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let file = Arc::new(file);
        assert_eq!(&Slice::part(&file, 3, 4).read_all().unwrap()[..], b"3456");
        let beyond = Slice::part(&file, 8, 4).read_all().unwrap_err();
        assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
    }
}
