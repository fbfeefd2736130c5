//! The inputs that archives are read from.

use std::io::{self, Read, Seek};

/// An input of a tar reader: a file skips bodies by seeking, a stream by reading.
pub(in crate::transports) trait TarInput: Read {
    /// Skips `len` bytes.
    ///
    /// # Errors
    /// Returns [`io::ErrorKind::UnexpectedEof`] if there are fewer.
    fn skip(&mut self, len: u64) -> io::Result<()>;
}

/// A file of known size.
pub(in crate::transports) struct SeekableInput<F> {
    file: io::BufReader<F>,
    left: u64,
}

impl<F: Read + Seek> SeekableInput<F> {
    /// Reads `file`, which has `size` bytes, from its start.
    pub(in crate::transports) fn new(file: F, size: u64) -> Self {
        let file = io::BufReader::with_capacity(4096, file);
        Self { file, left: size }
    }
}

impl<F: Read> Read for SeekableInput<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read(buffer)?;
        self.left = self.left.saturating_sub(len as u64);
        Ok(len)
    }
}

impl<F: Read + Seek> TarInput for SeekableInput<F> {
    fn skip(&mut self, len: u64) -> io::Result<()> {
        let beyond = io::ErrorKind::UnexpectedEof;
        self.left = self.left.checked_sub(len).ok_or(beyond)?;
        self.file
            .seek_relative(i64::try_from(len).map_err(|_| beyond)?)
    }
}

/// A stream that can be read only once.
pub(in crate::transports) struct StreamInput<R>(pub(in crate::transports) R);

impl<R: Read> Read for StreamInput<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read> TarInput for StreamInput<R> {
    fn skip(&mut self, len: u64) -> io::Result<()> {
        match io::copy(&mut self.0.by_ref().take(len), &mut io::sink())? {
            skipped if skipped == len => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
