//! Where the pieces of a layer are in its bytes.

use std::ops::Range;

use super::entries::EntryWriter;
use super::list::{PieceHasher, PieceList};
use super::paths::PathReader;
use super::split::ContentSplitter;
use super::walk::{TarPart, TarWalk};
use super::zip::ZipBudget;
use crate::delta::{DeltaError, LayerIndex};

/// An index, and the places of its pieces.
#[derive(Debug)]
pub(in crate::delta) struct LayerLayout {
    pub(in crate::delta) index: LayerIndex,
    /// The offset of each piece in the uncompressed layer.
    pub(in crate::delta) starts: Vec<u64>,
    /// The path of each file, as a hash, and its first piece. The tail has no path.
    files: Vec<(Option<u64>, u32)>,
}

impl LayerLayout {
    /// Returns the path of each file, as a hash, and its pieces.
    pub(in crate::delta) fn files(&self) -> impl Iterator<Item = (u64, Range<u32>)> + '_ {
        let ends = self.files.iter().skip(1).map(|(_, first)| *first);
        let ends = ends.chain([self.starts.len() as u32]);
        let files = self.files.iter().zip(ends);
        files.filter_map(|((path, first), end)| Some(((*path)?, *first..end)))
    }

    /// Returns whether the bytes of a piece follow those of the piece before.
    pub(in crate::delta) fn adjoins(&self, piece: usize) -> bool {
        let Some(before) = piece.checked_sub(1) else {
            return false;
        };
        self.starts[before] + u64::from(self.index.pieces.lens[before]) == self.starts[piece]
    }

    /// Divides pieces into runs of adjoining ones.
    pub(in crate::delta) fn runs(
        &self,
        pieces: Range<usize>,
    ) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut left = pieces;
        std::iter::from_fn(move || {
            let start = left.next()?;
            while !left.is_empty() && self.adjoins(left.start) {
                left.start += 1;
            }
            Some(start..left.start)
        })
    }

    /// Returns the bytes of the layer that adjoining pieces have.
    pub(in crate::delta) fn bytes_of(&self, run: &Range<usize>) -> Range<u64> {
        let last = run.end - 1;
        self.starts[run.start]..self.starts[last] + u64::from(self.index.pieces.lens[last])
    }
}

/// Builds the layout of a layer from its bytes.
#[derive(Debug)]
pub(in crate::delta) struct LayoutBuilder {
    walk: TarWalk,
    /// The splitter of the content that is being read.
    splitter: ContentSplitter,
    budget: ZipBudget,
    hasher: PieceHasher,
    entries: EntryWriter,
    pieces: PieceList,
    starts: Vec<u64>,
    paths: PathReader,
    files: Vec<(Option<u64>, u32)>,
    /// The number of bytes so far, without those that `walk` holds back.
    position: u64,
    len: u64,
}

impl Default for LayoutBuilder {
    fn default() -> Self {
        Self {
            walk: TarWalk::new(),
            splitter: ContentSplitter::new(0),
            budget: ZipBudget::new(),
            hasher: PieceHasher::default(),
            entries: EntryWriter::default(),
            pieces: PieceList::default(),
            starts: Vec::new(),
            paths: PathReader::default(),
            files: Vec::new(),
            position: 0,
            len: 0,
        }
    }
}

impl LayoutBuilder {
    pub(in crate::delta) fn update(&mut self, bytes: &[u8]) -> Result<(), DeltaError> {
        let mut rest = bytes;
        while let Some(part) = self.walk.next(&mut rest) {
            self.add(part, (bytes.len() - rest.len()) as u64)?;
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    pub(in crate::delta) fn finish(mut self) -> Result<LayerLayout, DeltaError> {
        if let Some(part) = self.walk.finish() {
            self.add(part, 0)?;
        }
        self.cut()?;
        let index = LayerIndex {
            raw_size: self.len,
            entries: self.entries.entries,
            pieces: self.pieces,
        };
        Ok(LayerLayout {
            index,
            starts: self.starts,
            files: self.files,
        })
    }

    /// Adds a part that ends `consumed` bytes after those that were added before this update.
    fn add(&mut self, part: TarPart<'_>, consumed: u64) -> Result<(), DeltaError> {
        let end = self.len + consumed;
        match part {
            TarPart::Header(len) => {
                self.splitter.finish(&mut self.budget);
                self.splitter = ContentSplitter::new(len);
                let path = self.paths.read_header(self.walk.block());
                self.files.push((Some(path), self.starts.len() as u32));
                self.entries.push(self.walk.block())
            }
            TarPart::Content(bytes) | TarPart::Tail(bytes) => {
                self.paths.read_content(bytes);
                self.position = end - bytes.len() as u64;
                self.split(bytes)
            }
            TarPart::Padding(len) => {
                self.entries.keep_padding();
                self.splitter = ContentSplitter::new(len as u64);
                self.add_block(len, end)
            }
            TarPart::TailBlock(len) => {
                self.splitter.finish(&mut self.budget);
                self.splitter = ContentSplitter::of_tail();
                self.files.push((None, self.starts.len() as u32));
                self.add_block(len, end)
            }
        }
    }

    fn add_block(&mut self, len: usize, end: u64) -> Result<(), DeltaError> {
        let block = *self.walk.block();
        self.position = end - len as u64;
        self.split(&block[..len])
    }

    fn split(&mut self, mut bytes: &[u8]) -> Result<(), DeltaError> {
        while !bytes.is_empty() {
            let (len, is_end) = self.splitter.advance(bytes, &mut self.budget);
            let (now, rest) = bytes.split_at(len);
            self.hasher.update(now);
            self.position += len as u64;
            bytes = rest;
            if is_end {
                self.cut()?;
            }
        }
        Ok(())
    }

    fn cut(&mut self) -> Result<(), DeltaError> {
        if let Some((len, hash)) = self.hasher.cut() {
            self.pieces.push(len, hash)?;
            self.starts.push(self.position - u64::from(len));
        }
        Ok(())
    }
}
