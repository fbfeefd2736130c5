//! Reads the layer that a delta describes.

use std::io::{self, Read, Seek, SeekFrom};

use super::content::ContentReader;
use crate::delta::format::literals::LiteralReader;
use crate::delta::format::ops::OpReader;
use crate::delta::format::start;
use crate::delta::patch::budget::PatchBudget;
use crate::delta::patch::reader::PatchReader;
use crate::delta::pieces::entries::{EntryCursor, TarEntries};
use crate::delta::pieces::header::{BLOCK_BYTES, Block};
use crate::delta::{DecodedBase, DeltaError, check_bases};

/// Reads an uncompressed layer from a delta and its bases. Errors of the delta are those of
/// [`DeltaError`], inside of an [`io::Error`]. Holds at most 100 MB in memory.
#[derive(Debug)]
pub struct DeltaReader<D, F> {
    entries: TarEntries,
    cursor: EntryCursor,
    content: ContentReader<D, F>,
    /// The parts of the entry that is being read: what is left of each.
    header: Block,
    header_left: usize,
    content_left: u64,
    padding_left: u64,
    /// The number of bytes to the end of the layer.
    left: u64,
    has_failed: bool,
}

impl<D: Read + Seek, F: Read + Seek> DeltaReader<D, F> {
    /// Opens a delta of `size` bytes in a file. The layer has `raw_size` bytes; the reader ends with an
    /// error if the delta describes more or fewer. `bases` are in the order in which they were given
    /// to [`crate::delta::encode()`].
    ///
    /// # Errors
    /// [`DeltaError`].
    pub fn open(
        mut delta: D,
        size: u64,
        mut bases: Vec<DecodedBase<F>>,
        raw_size: u64,
    ) -> Result<Self, DeltaError> {
        let base_sizes: Vec<_> = bases.iter().map(|base| base.index().raw_size()).collect();
        check_bases(bases.iter().map(DecodedBase::index))?;
        let joined = start::join(bases.iter_mut().map(|base| {
            let index = &mut base.layout.index;
            index.pieces.hashes = Vec::new();
            std::mem::take(&mut index.entries)
        }));
        delta.seek(SeekFrom::Start(0))?;
        let source = (&mut delta).take(size);
        let start = start::read(source, raw_size, &base_sizes, &joined)?;
        drop(joined);
        start.entries.content_size(raw_size)?;
        let patch_end = start.len.checked_add(start.patch_size);
        let patch_end = patch_end.filter(|end| *end <= size);
        let patch_end = patch_end.ok_or_else(|| invalid("its patch frames are cut short"))?;
        let piece_count = bases.iter().map(|base| base.layout.starts.len() as u64);
        let ops = OpReader::new(start.ops, piece_count.sum());
        let budget = PatchBudget::new(raw_size, &base_sizes);
        let patches = PatchReader::new(start.len, patch_end, budget);
        let literals = LiteralReader::new(patch_end, size)?;
        let content = ContentReader::new(delta, bases, ops, patches, literals);
        Ok(Self {
            entries: start.entries,
            cursor: EntryCursor::default(),
            content,
            header: [0; BLOCK_BYTES],
            header_left: 0,
            content_left: 0,
            padding_left: 0,
            left: raw_size,
            has_failed: false,
        })
    }

    fn next_bytes(&mut self, buffer: &mut [u8]) -> Result<usize, DeltaError> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let buffer = &mut buffer[..most];
        if self.left == 0 {
            self.check_end()?;
        }
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.header_left == 0 && self.content_left == 0 && self.padding_left == 0 {
            self.next_entry()?;
        }
        let len = if self.header_left > 0 {
            let header = &self.header[BLOCK_BYTES - self.header_left..];
            let len = header.len().min(buffer.len());
            buffer[..len].copy_from_slice(&header[..len]);
            self.header_left -= len;
            len
        } else if self.content_left > 0 {
            let len = shorter(self.content_left, buffer.len());
            let len = self.content.read(&mut buffer[..len])?;
            self.content_left -= len as u64;
            len
        } else {
            let len = shorter(self.padding_left, buffer.len());
            buffer[..len].fill(0);
            self.padding_left -= len as u64;
            len
        };
        self.left -= len as u64;
        Ok(len)
    }

    /// Begins the next entry, or the tail.
    fn next_entry(&mut self) -> Result<(), DeltaError> {
        match self.cursor.next(&self.entries)? {
            Some(entry) => {
                self.header = entry.header;
                self.header_left = BLOCK_BYTES;
                self.content_left = entry.content_len;
                self.padding_left = entry.padding as u64;
            }
            None => self.content_left = self.left,
        }
        Ok(())
    }

    /// Checks that everything in the delta was used.
    fn check_end(&mut self) -> Result<(), DeltaError> {
        if self.header_left > 0 || self.cursor.next(&self.entries)?.is_some() {
            return Err(invalid("it has more headers than the layer"));
        }
        self.content.check_end()
    }
}

impl<D: Read + Seek, F: Read + Seek> Read for DeltaReader<D, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.has_failed {
            return Err(io::Error::other(invalid("it could not be read")));
        }
        self.next_bytes(buffer).map_err(|error| {
            self.has_failed = true;
            match error {
                DeltaError::Io(error) => error,
                DeltaError::Invalid(_) | DeltaError::TooLarge(_) => io::Error::other(error),
            }
        })
    }
}

pub(in crate::delta) fn shorter(left: u64, len: usize) -> usize {
    usize::try_from(left).map_or(len, |left| left.min(len))
}

fn invalid(text: &str) -> DeltaError {
    DeltaError::Invalid(format!("the delta does not fit: {text}"))
}
