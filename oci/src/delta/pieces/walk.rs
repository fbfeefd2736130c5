//! Walks over the bytes of a tar: headers, contents, padding, and the tail after the last entry.

use super::header::{BLOCK_BYTES, Block, content_len};

/// A part of a tar. The parts come in the order of the bytes; zero padding is left out.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::delta) enum TarPart<'a> {
    /// A header, which [`TarWalk::block`] returns, and the number of content bytes after it.
    Header(u64),
    /// The next bytes of the content.
    Content(&'a [u8]),
    /// Padding that is not zero. [`TarWalk::block`] begins with this number of bytes.
    Padding(usize),
    /// Bytes of the tail. [`TarWalk::block`] begins with this number of bytes.
    TailBlock(usize),
    /// Bytes of the tail: everything from the first block that is no header.
    Tail(&'a [u8]),
}

/// Finds the parts of a tar. Bytes in any form are accepted, in slices of any size.
#[derive(Debug)]
pub(in crate::delta) struct TarWalk {
    place: Place,
    block: Block,
    /// The number of bytes in `block`.
    filled: usize,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Header,
    Content { left: u64, padding: usize },
    Padding { len: usize },
    Tail,
}

impl TarWalk {
    pub(in crate::delta) fn new() -> Self {
        Self {
            place: Place::Header,
            block: [0; BLOCK_BYTES],
            filled: 0,
        }
    }

    pub(in crate::delta) fn block(&self) -> &Block {
        &self.block
    }

    /// Removes the next part from the front of `bytes`; `None` if more bytes are needed.
    pub(in crate::delta) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<TarPart<'a>> {
        loop {
            match self.place {
                Place::Header => {
                    self.fill(BLOCK_BYTES, bytes).then_some(())?;
                    let Some(len) = content_len(&self.block) else {
                        self.place = Place::Tail;
                        return Some(TarPart::TailBlock(BLOCK_BYTES));
                    };
                    self.place = Place::Content {
                        left: len,
                        padding: padding(len),
                    };
                    return Some(TarPart::Header(len));
                }
                Place::Content { left: 0, padding } => {
                    self.place = Place::Padding { len: padding };
                }
                Place::Content { left, padding } => {
                    let len =
                        usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    let part = take(bytes, len)?;
                    self.place = Place::Content {
                        left: left - len as u64,
                        padding,
                    };
                    return Some(TarPart::Content(part));
                }
                Place::Padding { len } => {
                    self.fill(len, bytes).then_some(())?;
                    self.place = Place::Header;
                    if self.block[..len].iter().any(|byte| *byte != 0) {
                        return Some(TarPart::Padding(len));
                    }
                }
                Place::Tail => return take(bytes, bytes.len()).map(TarPart::Tail),
            }
        }
    }

    /// Returns the last part, after the last bytes.
    pub(in crate::delta) fn finish(&mut self) -> Option<TarPart<'static>> {
        let filled = std::mem::take(&mut self.filled);
        let is_zero = self.block[..filled].iter().all(|byte| *byte == 0);
        match self.place {
            Place::Header if filled > 0 => Some(TarPart::TailBlock(filled)),
            Place::Padding { .. } if !is_zero => Some(TarPart::Padding(filled)),
            Place::Header | Place::Padding { .. } | Place::Content { .. } | Place::Tail => None,
        }
    }

    /// Fills the block up to `len` bytes. Returns whether it is full, and begins a new one then.
    fn fill(&mut self, len: usize, bytes: &mut &[u8]) -> bool {
        let count = (len - self.filled).min(bytes.len());
        let (now, rest) = bytes.split_at(count);
        self.block[self.filled..self.filled + count].copy_from_slice(now);
        *bytes = rest;
        self.filled += count;
        let is_full = self.filled == len;
        if is_full {
            self.filled = 0;
        }
        is_full
    }
}

/// Returns the number of bytes from the end of a content to the next block.
pub(in crate::delta) fn padding(len: u64) -> usize {
    let beyond = (len % BLOCK_BYTES as u64) as usize;
    (BLOCK_BYTES - beyond) % BLOCK_BYTES
}

/// Removes `len` bytes from the front; `None` if these are no bytes.
fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (part, rest) = bytes.split_at(len);
    *bytes = rest;
    (!part.is_empty()).then_some(part)
}
