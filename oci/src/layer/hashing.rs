//! The bytes of a blob, hashed and counted as they are read.

use std::io::{self, Read};

use crate::{Algorithm, Digest, Hasher};

/// Reads the bytes of a blob, and computes their digest and number on the way.
pub struct HashingReader<R> {
    source: R,
    hasher: Hasher,
    len: u64,
    /// The error of the source. Decoders may wrap errors, so the original is kept here.
    error: Option<io::Error>,
}

impl<R> HashingReader<R> {
    pub(super) fn new(source: R, algorithm: Algorithm) -> Self {
        Self {
            source,
            hasher: Hasher::new(algorithm),
            len: 0,
            error: None,
        }
    }

    /// Returns the number of bytes that were read so far.
    #[allow(clippy::len_without_is_empty, reason = "a count, not a collection")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Returns the digest of the bytes that were read.
    pub fn finish(self) -> Digest {
        self.hasher.finish()
    }

    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.source.read(buffer) {
            Ok(len) => {
                self.hasher.update(&buffer[..len]);
                self.len += len as u64;
                Ok(len)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.error = Some(error);
                Err(kind.into())
            }
        }
    }
}

impl<R> std::fmt::Debug for HashingReader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HashingReader")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
