//! A pass over the bytes of a layer that stops at the pieces of interest.

use std::io::{self, Read};

const BUFFER_BYTES: usize = 128 * 1024;

/// Reads ranges of a layer in ascending order.
pub(in crate::delta) struct LayerPass {
    layer: Box<dyn Read>,
    buffer: Vec<u8>,
    /// The bytes in `buffer` that were not passed yet, and the offset of the first of them.
    unread: std::ops::Range<usize>,
    offset: u64,
}

impl LayerPass {
    pub(in crate::delta) fn new(layer: Box<dyn Read>) -> Self {
        Self {
            layer,
            buffer: vec![0; BUFFER_BYTES],
            unread: 0..0,
            offset: 0,
        }
    }

    /// Passes `len` bytes from `start` to `target`. `start` is not before the last range.
    pub(in crate::delta) fn read(
        &mut self,
        start: u64,
        len: u64,
        mut target: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.advance(start.saturating_sub(self.offset), |_| Ok(()))?;
        self.advance(len, &mut target)
    }

    fn advance(
        &mut self,
        mut len: u64,
        mut target: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        while len > 0 {
            if self.unread.is_empty() {
                self.unread = 0..self.fill()?;
            }
            let available = self.unread.len();
            let count = usize::try_from(len).map_or(available, |len| len.min(available));
            target(&self.buffer[self.unread.start..self.unread.start + count])?;
            self.unread.start += count;
            self.offset += count as u64;
            len -= count as u64;
        }
        Ok(())
    }

    fn fill(&mut self) -> io::Result<usize> {
        loop {
            match self.layer.read(&mut self.buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => return Ok(len),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
