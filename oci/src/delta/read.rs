//! Reads the layer that a delta describes.

use std::io::{self, Read, Seek};
use std::marker::PhantomData;

use super::{DecodedBase, DeltaError};

/// Reads an uncompressed layer from a delta and its bases. Errors of the delta are those of
/// [`DeltaError`], inside of an [`io::Error`]. Holds at most 150 MB in memory.
#[derive(Debug)]
pub struct DeltaReader<D, F> {
    left: u64,
    files: PhantomData<(D, F)>,
}

impl<D: Read + Seek, F: Read + Seek> DeltaReader<D, F> {
    /// Opens a delta of `size` bytes in a file. The layer has `raw_size` bytes; the reader ends with an
    /// error if the delta describes more or fewer. `bases` are in the order in which they were given
    /// to [`super::encode()`].
    ///
    /// # Errors
    /// [`DeltaError`].
    pub fn open(
        delta: D,
        size: u64,
        bases: Vec<DecodedBase<F>>,
        raw_size: u64,
    ) -> Result<Self, DeltaError> {
        let _ = (delta, size, bases, raw_size);
        Err(DeltaError::Invalid("not implemented".to_owned()))
    }
}

impl<D: Read + Seek, F: Read + Seek> Read for DeltaReader<D, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let _ = (buffer, self.left, self.files);
        Ok(0)
    }
}
