//! An older layer, decoded to a file.

use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::delta::pieces::layout::{LayerLayout, LayoutBuilder};
use crate::delta::{DeltaError, LayerIndex};

const BUFFER_BYTES: usize = 128 * 1024;

/// The bytes of an uncompressed layer in a file, with the index that was built on the way.
#[derive(Debug)]
pub struct DecodedBase<F> {
    pub(in crate::delta) file: F,
    pub(in crate::delta) layout: LayerLayout,
}

impl<F: Read + Write + Seek> DecodedBase<F> {
    /// Writes an uncompressed layer from `reader` into `file`, which is empty, and indexes it.
    /// `reader` bounds the number of bytes. Blocks the thread.
    ///
    /// # Errors
    /// [`DeltaError`].
    pub fn decode(mut reader: impl Read, mut file: F) -> Result<Self, DeltaError> {
        let mut layout = LayoutBuilder::default();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let len = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            layout.update(&buffer[..len])?;
            file.write_all(&buffer[..len])?;
        }
        file.flush()?;
        let layout = layout.finish()?;
        Ok(Self { file, layout })
    }
}

impl<F> DecodedBase<F> {
    /// Returns the index.
    pub fn index(&self) -> &LayerIndex {
        &self.layout.index
    }
}

impl<F: Read + Seek> DecodedBase<F> {
    /// Fills `buffer` with the bytes of the uncompressed layer from `offset`.
    pub(in crate::delta) fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(offset))?;
        self.file.read_exact(buffer)
    }
}
