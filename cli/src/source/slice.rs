//! A stretch of bytes that lies somewhere and can be read again and again.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

/// Bytes in memory, in a part of an open file, or in a file that is opened when they are wanted.
#[derive(Debug, Clone)]
pub struct Slice {
    place: Place,
    offset: u64,
    len: u64,
}

#[derive(Debug, Clone)]
enum Place {
    Memory(Bytes),
    Open(Arc<File>),
    Closed(Arc<PathBuf>),
}

impl Slice {
    /// Bytes in memory.
    pub(crate) fn memory(bytes: Bytes) -> Self {
        let len = bytes.len() as u64;
        let place = Place::Memory(bytes);
        Self {
            place,
            offset: 0,
            len,
        }
    }

    /// `len` bytes of `file` from `offset` on.
    pub(crate) fn part(file: &Arc<File>, offset: u64, len: u64) -> Self {
        let place = Place::Open(Arc::clone(file));
        Self { place, offset, len }
    }

    /// A whole file of `len` bytes, kept closed, for there may be more of them than descriptors.
    pub(super) fn whole(path: PathBuf, len: u64) -> Self {
        let place = Place::Closed(Arc::new(path));
        Self {
            place,
            offset: 0,
            len,
        }
    }

    /// The number of bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A reader from `start` to the end; it owns what it reads from and can go to any thread.
    ///
    /// # Errors
    /// The file cannot be opened any more.
    pub fn read_from(&self, start: u64) -> io::Result<Reader> {
        let place = match &self.place {
            Place::Memory(bytes) => Opened::Memory(bytes.clone()),
            Place::Open(file) => Opened::File(Arc::clone(file)),
            Place::Closed(path) => Opened::File(Arc::new(File::open(path.as_path())?)),
        };
        let start = start.min(self.len);
        Ok(Reader {
            place,
            at: self.offset + start,
            left: self.len - start,
        })
    }

    /// A reader of all of it.
    ///
    /// # Errors
    /// The file cannot be opened any more.
    pub fn reader(&self) -> io::Result<Reader> {
        self.read_from(0)
    }

    /// All of it in memory; for what is known to be small.
    ///
    /// # Errors
    /// Reading fails, or the file is shorter than it was.
    pub(crate) fn bytes(&self) -> io::Result<Bytes> {
        if let Place::Memory(bytes) = &self.place {
            return Ok(bytes.clone());
        }
        let mut bytes = Vec::new();
        self.reader()?.read_to_end(&mut bytes)?;
        Ok(bytes.into())
    }

    /// The bytes, if they are in memory.
    pub(super) fn memory_bytes(&self) -> Option<&Bytes> {
        match &self.place {
            Place::Memory(bytes) => Some(bytes),
            Place::Open(_) | Place::Closed(_) => None,
        }
    }

    /// The first bytes, up to four: they tell how a layer is compressed.
    pub(super) fn start(&self) -> io::Result<Vec<u8>> {
        let mut start = Vec::new();
        self.reader()?.take(4).read_to_end(&mut start)?;
        Ok(start)
    }
}

/// Reads a [`Slice`] once, from some point to its end.
#[derive(Debug)]
pub struct Reader {
    place: Opened,
    at: u64,
    left: u64,
}

#[derive(Debug)]
enum Opened {
    Memory(Bytes),
    File(Arc<File>),
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let got = match &self.place {
            Opened::Memory(bytes) => {
                // Lossless: the bytes are in memory.
                let at = self.at as usize;
                buffer[..want].copy_from_slice(&bytes[at..at + want]);
                want
            }
            Opened::File(file) => file.read_at(&mut buffer[..want], self.at)?,
        };
        if got == 0 {
            let message = "the file has become shorter while it was read";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        self.at += got as u64;
        self.left -= got as u64;
        Ok(got)
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
    fn every_place_reads_alike_and_again() {
        let (slices, _path) = slices();
        for slice in slices {
            assert_eq!(slice.len(), 10);
            for _ in 0..2 {
                assert_eq!(&slice.bytes().unwrap()[..], b"0123456789");
            }
            let mut tail = String::new();
            slice
                .read_from(7)
                .unwrap()
                .read_to_string(&mut tail)
                .unwrap();
            assert_eq!(tail, "789");
            assert_eq!(slice.start().unwrap(), b"0123");
            assert_eq!(slice.read_from(11).unwrap().read(&mut [0; 4]).unwrap(), 0);
        }
    }

    #[test]
    fn a_part_ends_where_it_ends_and_a_file_that_shrank_is_noticed() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let file = Arc::new(file);
        assert_eq!(&Slice::part(&file, 3, 4).bytes().unwrap()[..], b"3456");
        let beyond = Slice::part(&file, 8, 4).bytes().unwrap_err();
        assert_eq!(beyond.kind(), io::ErrorKind::UnexpectedEof);
    }
}
